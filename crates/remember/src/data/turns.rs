//! What prompt and completion are made of in TRL's formats: plain text, or messages.

use elenchus_trace::{Message, Role};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The two forms that every TRL format has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Plain strings.
    Standard,
    /// Lists of messages with roles; the trainer applies the model's chat template.
    #[default]
    Conversational,
}

/// A prompt, a completion or a whole dialogue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Turns {
    /// Standard form.
    Text(String),
    /// Conversational form.
    Messages(Vec<Message>),
}

impl Turns {
    /// Which form it is.
    pub fn form(&self) -> Form {
        match self {
            Turns::Text(_) => Form::Standard,
            Turns::Messages(_) => Form::Conversational,
        }
    }

    /// The text: as it is, or of all messages, joined by newlines.
    pub fn text(&self) -> String {
        match self {
            Turns::Text(text) => text.clone(),
            Turns::Messages(messages) => messages.iter().map(Message::text).collect::<Vec<_>>().join("\n"),
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        match self {
            Turns::Text(text) => text.is_empty(),
            Turns::Messages(messages) => messages.is_empty(),
        }
    }

    /// Which rule a prompt with its completion breaks.
    pub(super) fn problem_before(&self, completion: &Turns) -> Option<&'static str> {
        if self.form() != completion.form() {
            return Some("`prompt` and `completion` must both be text or both be messages");
        }
        self.prompt_problem().or_else(|| completion.completion_problem())
    }

    /// Which rule a prompt breaks.
    pub(super) fn prompt_problem(&self) -> Option<&'static str> {
        match self {
            Turns::Messages(messages) if messages.is_empty() => Some("`prompt` has no messages"),
            Turns::Messages(messages) if messages.last().is_some_and(|m| m.role == Role::Assistant) => {
                Some("`prompt` ends with a message of the assistant, so there is nothing to answer")
            }
            _ => None,
        }
    }

    /// Which rule what follows a prompt breaks.
    pub(super) fn completion_problem(&self) -> Option<&'static str> {
        match self {
            Turns::Messages(messages) if messages.is_empty() => Some("a completion has no messages"),
            Turns::Messages(messages) if messages.first().is_some_and(|m| m.role != Role::Assistant) => {
                Some("a completion does not begin with a message of the assistant")
            }
            _ => None,
        }
    }
}

impl From<&str> for Turns {
    fn from(text: &str) -> Self {
        Turns::Text(text.to_string())
    }
}

impl From<Vec<Message>> for Turns {
    fn from(messages: Vec<Message>) -> Self {
        Turns::Messages(messages)
    }
}
