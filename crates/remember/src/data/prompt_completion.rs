//! TRL's prompt-completion format: for supervised fine-tuning with the loss on the completion.
//!
//! Standard: `{"prompt": "The sky is", "completion": " blue."}`. Conversational:
//! `{"prompt": [{"role": "user", "content": "…"}], "completion": [{"role": "assistant", "content": "…"}]}`.

use super::{TrainingRow, Turns};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PromptCompletionRow {
    /// What is given.
    pub prompt: Turns,
    /// What is to be learned.
    pub completion: Turns,
    /// Other columns (`tools`, `id` …), kept.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl PromptCompletionRow {
    /// A row without other columns.
    pub fn new(prompt: impl Into<Turns>, completion: impl Into<Turns>) -> Self {
        PromptCompletionRow { prompt: prompt.into(), completion: completion.into(), extra: Map::new() }
    }
}

impl TrainingRow for PromptCompletionRow {
    const FORMAT: &'static str = "prompt-completion";

    fn problem(&self) -> Option<&'static str> {
        self.prompt.problem_before(&self.completion)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use elenchus_trace::Message;

    #[test]
    fn both_forms_are_read_and_mixed_ones_named() {
        let row: PromptCompletionRow =
            serde_json::from_str(r#"{"prompt": "The sky is", "completion": " blue.", "id": 3}"#).unwrap();
        assert_eq!(row.problem(), None);
        assert_eq!(row.extra["id"], 3);
        let row: PromptCompletionRow = serde_json::from_str(
            r#"{"prompt": [{"role": "user", "content": "Sky?"}], "completion": [{"role": "assistant", "content": "Blue."}]}"#,
        )
        .unwrap();
        assert_eq!(
            row,
            PromptCompletionRow::new(vec![Message::user("Sky?")], vec![Message::assistant("Blue.")])
        );
        assert_eq!(row.problem(), None);
        let mixed = PromptCompletionRow::new("Sky?", vec![Message::assistant("Blue.")]);
        assert!(mixed.problem().unwrap().contains("both be text"));
        let turned = PromptCompletionRow::new(vec![Message::assistant("?")], vec![Message::assistant("!")]);
        assert!(turned.problem().unwrap().contains("nothing to answer"));
    }
}
