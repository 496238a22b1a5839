//! TRL's unpaired preference format: completions that are each marked good or bad (KTO, binary cross-entropy heads).
//!
//! `{"prompt": "The sky is", "completion": " blue.", "label": true}`, or with messages for the first two.

use super::{TrainingRow, Turns};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UnpairedPreferenceRow {
    /// What is given.
    pub prompt: Turns,
    /// What was answered.
    pub completion: Turns,
    /// Whether that is good.
    pub label: bool,
    /// Other columns, kept.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl UnpairedPreferenceRow {
    /// A row without other columns.
    pub fn new(prompt: impl Into<Turns>, completion: impl Into<Turns>, label: bool) -> Self {
        UnpairedPreferenceRow {
            prompt: prompt.into(),
            completion: completion.into(),
            label,
            extra: Map::new(),
        }
    }
}

impl TrainingRow for UnpairedPreferenceRow {
    const FORMAT: &'static str = "unpaired preference";

    fn problem(&self) -> Option<&'static str> {
        self.prompt.problem_before(&self.completion)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_is_required_and_boolean() {
        let row: UnpairedPreferenceRow =
            serde_json::from_str(r#"{"prompt": "a", "completion": "b", "label": false}"#).unwrap();
        assert_eq!(row, UnpairedPreferenceRow::new("a", "b", false));
        let missing = serde_json::from_str::<UnpairedPreferenceRow>(r#"{"prompt": "a", "completion": "b"}"#);
        assert!(missing.unwrap_err().to_string().contains("label"));
    }
}
