//! Messages in the shape of the OpenAI chat API; whatever we do not know is kept in `extra`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Instructions of the application.
    System,
    /// Instructions of the application, newer spelling.
    Developer,
    /// The person who asks.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
}

/// One part of a message with several kinds of content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ContentPart {
    /// `{"type":"text","text":…}`
    Text {
        /// Always `text`.
        #[serde(rename = "type")]
        kind: TextTag,
        /// The text.
        text: String,
    },
    /// `{"type":"image_url","image_url":{…}}`
    Image {
        /// Always `image_url`.
        #[serde(rename = "type")]
        kind: ImageTag,
        /// Where the image is.
        image_url: ImageUrl,
    },
    /// Any other part (audio, file, refusal …), kept as it is.
    Other(Map<String, Value>),
}

impl ContentPart {
    /// A part of text.
    pub fn text(text: impl Into<String>) -> Self {
        ContentPart::Text { kind: TextTag::Text, text: text.into() }
    }

    /// An image by address or `data:` URL; `detail` is the resolution at which the model should read it.
    pub fn image(url: impl Into<String>, detail: &str) -> Self {
        let extra = Map::from_iter([("detail".to_string(), Value::from(detail))]);
        ContentPart::Image { kind: ImageTag::ImageUrl, image_url: ImageUrl { url: url.into(), extra } }
    }
}

/// The literal `text`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TextTag {
    /// `text`
    #[serde(rename = "text")]
    Text,
}

/// The literal `image_url`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImageTag {
    /// `image_url`
    #[serde(rename = "image_url")]
    ImageUrl,
}

/// An image by address or as a `data:` URL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ImageUrl {
    /// The address.
    pub url: String,
    /// `detail` and whatever else the caller gave.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The content of a message: plain text or parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Content {
    /// Plain text.
    Text(String),
    /// Text, images and others, in order.
    Parts(Vec<ContentPart>),
}

impl Content {
    /// All text of the content, parts joined by a newline; images and other parts are left out.
    pub fn text(&self) -> String {
        match self {
            Content::Text(text) => text.clone(),
            Content::Parts(parts) => {
                let texts: Vec<&str> = parts
                    .iter()
                    .filter_map(|part| match part {
                        ContentPart::Text { text, .. } => Some(text.as_str()),
                        _ => None,
                    })
                    .collect();
                texts.join("\n")
            }
        }
    }

    /// Whether there is anything but text.
    pub fn has_other_than_text(&self) -> bool {
        matches!(self, Content::Parts(parts) if parts.iter().any(|p| !matches!(p, ContentPart::Text { .. })))
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Content::Text(text)
    }
}

/// The function that the model wants called; `arguments` is JSON text as the model wrote it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FunctionCall {
    /// Name of the function.
    pub name: String,
    /// JSON text, unchecked.
    pub arguments: String,
}

/// A tool call of an assistant message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToolCall {
    /// The identifier that the tool's answer repeats.
    pub id: String,
    /// `function` today.
    #[serde(rename = "type", default = "function_kind")]
    pub kind: String,
    /// What to call.
    pub function: FunctionCall,
    /// Fields we do not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

fn function_kind() -> String {
    "function".into()
}

/// One message of a dialogue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said; absent in pure tool calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    /// Name of the speaker, where given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Calls that the assistant wants made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Which call a tool message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// Fields we do not know, kept.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Message {
    /// A plain text message.
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Message {
            role,
            content: Some(Content::Text(text.into())),
            name: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
            extra: Map::new(),
        }
    }

    /// A system message.
    pub fn system(text: impl Into<String>) -> Self {
        Self::new(Role::System, text)
    }

    /// A user message.
    pub fn user(text: impl Into<String>) -> Self {
        Self::new(Role::User, text)
    }

    /// An assistant message.
    pub fn assistant(text: impl Into<String>) -> Self {
        Self::new(Role::Assistant, text)
    }

    /// All text of the message.
    pub fn text(&self) -> String {
        self.content.as_ref().map(Content::text).unwrap_or_default()
    }
}
