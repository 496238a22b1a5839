use crate::Message;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One lettered option of a problem with a closed set of answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChoiceOption {
    /// `A`, `B`, …
    pub label: String,
    /// What the option says.
    pub text: String,
}

/// A problem to solve. The task that made it can verify an answer to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// Unique within its task; generated tasks derive it from the content.
    pub id: String,
    /// Name of the task in the task registry, for example `arithmetic`.
    pub task: String,
    /// The question in natural language, for people and instruction-tuned models.
    pub question: String,
    /// The question in the compact notation that the embedded model reads, where the task has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compact: Option<String>,
    /// The reference answer, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gold: Option<String>,
    /// Lettered options of a closed question.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<ChoiceOption>,
    /// Dialogue that came before (history, tools, images); the question is then its last user message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Message>,
    /// What the asker wants of a response itself, in the words of OpenAI's API: `response_format`, `tools`, `logprobs`, `user`.
    /// Every request whose reply may become the answer carries it, and no other.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub wants: Map<String, Value>,
    /// What only the task understands.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub data: Value,
}

impl Problem {
    /// A problem with a question and nothing else.
    pub fn new(id: impl Into<String>, task: impl Into<String>, question: impl Into<String>) -> Self {
        Problem {
            id: id.into(),
            task: task.into(),
            question: question.into(),
            compact: None,
            gold: None,
            options: Vec::new(),
            history: Vec::new(),
            wants: Map::new(),
            data: Value::Null,
        }
    }

    /// Whether the asker wants a response of another form than text with an answer in it: JSON, or calls of tools. The
    /// question is then asked as it stands.
    pub fn wants_form(&self) -> bool {
        self.wants_json() || self.wants.contains_key("tools")
    }

    /// Whether the asker wants JSON.
    pub fn wants_json(&self) -> bool {
        self.wants
            .get("response_format")
            .and_then(|format| format.get("type"))
            .is_some_and(|kind| kind != "text")
    }

    /// The same problem with a reference answer.
    pub fn with_gold(mut self, gold: impl Into<String>) -> Self {
        self.gold = Some(gold.into());
        self
    }
}
