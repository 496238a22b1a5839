//! TRL's preference format: two completions of one prompt, the better one marked (DPO, reward models).
//!
//! With explicit prompt: `{"prompt": "The sky is", "chosen": " blue.", "rejected": " green."}`. With implicit prompt
//! the prompt stands at the beginning of both: `{"chosen": "The sky is blue.", "rejected": "The sky is green."}`.
//! Each also with messages.

use super::{Form, TrainingRow, Turns};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PreferenceRow {
    /// What is given; absent when it stands at the beginning of both others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<Turns>,
    /// The better one.
    pub chosen: Turns,
    /// The worse one.
    pub rejected: Turns,
    /// Other columns, kept.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl PreferenceRow {
    /// A row with explicit prompt and without other columns.
    pub fn new(prompt: impl Into<Turns>, chosen: impl Into<Turns>, rejected: impl Into<Turns>) -> Self {
        PreferenceRow {
            prompt: Some(prompt.into()),
            chosen: chosen.into(),
            rejected: rejected.into(),
            extra: Map::new(),
        }
    }

    /// The same row with its prompt explicit: what both begin with is split off. Of texts the split goes back to the
    /// last white space, so that no word is cut, and the white space begins the completions; of messages it is the
    /// longest common beginning that leaves each at least one message. A row that has a prompt stays as it is.
    pub fn with_explicit_prompt(mut self) -> Self {
        if self.prompt.is_some() {
            return self;
        }
        match (&mut self.chosen, &mut self.rejected) {
            (Turns::Text(chosen), Turns::Text(rejected)) => {
                let common: usize = chosen
                    .chars()
                    .zip(rejected.chars())
                    .take_while(|(a, b)| a == b)
                    .map(|(a, _)| a.len_utf8())
                    .sum();
                let split = chosen[..common].rfind(char::is_whitespace).unwrap_or(0);
                let prompt = chosen[..split].to_string();
                chosen.drain(..split);
                rejected.drain(..split);
                self.prompt = Some(Turns::Text(prompt));
            }
            (Turns::Messages(chosen), Turns::Messages(rejected)) => {
                let common = chosen.iter().zip(rejected.iter()).take_while(|(a, b)| a == b).count();
                let split = common.min(chosen.len().min(rejected.len()).saturating_sub(1));
                let prompt = chosen.drain(..split).collect();
                rejected.drain(..split);
                self.prompt = Some(Turns::Messages(prompt));
            }
            // Mixed forms are no preference row; `problem` says so.
            _ => {}
        }
        self
    }
}

impl TrainingRow for PreferenceRow {
    const FORMAT: &'static str = "preference";

    fn problem(&self) -> Option<&'static str> {
        let forms =
            [Some(self.chosen.form()), Some(self.rejected.form()), self.prompt.as_ref().map(Turns::form)];
        if forms.iter().flatten().any(|&form| form != self.chosen.form()) {
            return Some("`prompt`, `chosen` and `rejected` must all be text or all be messages");
        }
        if self.chosen == self.rejected {
            return Some("`chosen` and `rejected` are the same");
        }
        if let Some(problem) = self.prompt.as_ref().and_then(Turns::prompt_problem) {
            return Some(problem);
        }
        let explicit = self.prompt.is_some();
        if self.chosen.form() == Form::Conversational && !explicit {
            return (self.chosen.is_empty() || self.rejected.is_empty())
                .then_some("a dialogue has no messages");
        }
        if !explicit {
            return None;
        }
        self.chosen.completion_problem().or_else(|| self.rejected.completion_problem())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use elenchus_trace::Message;

    #[test]
    fn implicit_prompts_become_explicit() {
        let row: PreferenceRow =
            serde_json::from_str(r#"{"chosen": "The sky is blue.", "rejected": "The sky is bland."}"#)
                .unwrap();
        assert_eq!(row.problem(), None);
        let row = row.with_explicit_prompt();
        assert_eq!(row, PreferenceRow::new("The sky is", " blue.", " bland."));
        let dialogue = |answer: &str| vec![Message::user("Sky?"), Message::assistant(answer)];
        let row = PreferenceRow {
            prompt: None,
            chosen: dialogue("Blue.").into(),
            rejected: dialogue("Green.").into(),
            extra: Map::new(),
        };
        assert_eq!(row.problem(), None);
        let row = row.with_explicit_prompt();
        assert_eq!(row.prompt, Some(vec![Message::user("Sky?")].into()));
        assert_eq!(row.problem(), None);
    }

    #[test]
    fn rules_are_named() {
        assert!(PreferenceRow::new("p", "a", "a").problem().unwrap().contains("the same"));
        let mixed = PreferenceRow::new(vec![Message::user("p")], "a", "b");
        assert!(mixed.problem().unwrap().contains("all be text"));
        let turned = PreferenceRow::new(
            vec![Message::user("p")],
            vec![Message::user("a")],
            vec![Message::assistant("b")],
        );
        assert!(turned.problem().unwrap().contains("begin with a message of the assistant"));
    }
}
