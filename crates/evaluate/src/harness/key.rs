//! What a judge of the harness knows and no judge in service does.

use crate::EvaluateError;
use elenchus_trace::Problem;
use serde::{Deserialize, Serialize};

/// A recorded piece of evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The snippet.
    pub text: String,
    /// Where it is from.
    #[serde(default)]
    pub source: String,
}

/// The reference answer, the alternative that a deceptive judge argues for, and the evidence. It can neither be copied nor
/// written out, its fields are seen by the harness alone, and no judge in service takes one.
pub struct AnswerKey {
    pub(super) problem: Problem,
    pub(super) gold: String,
    pub(super) alternative: Option<String>,
    /// For the alternative.
    pub(super) evidence: Vec<Evidence>,
    /// For the reference answer.
    pub(super) support: Vec<Evidence>,
}

impl AnswerKey {
    /// The key of a problem: its reference answer, and from its data `alternative`, `evidence` and `support`.
    ///
    /// # Errors
    /// There is no reference answer, or evidence that cannot be read.
    pub fn of(problem: &Problem) -> Result<Self, EvaluateError> {
        let wrong = |field: &str, what: String, hint: &str| EvaluateError::Setting {
            evaluator: "audit judge".into(),
            field: field.into(),
            problem: format!("problem `{}`: {what}", problem.id),
            hint: hint.into(),
        };
        let Some(gold) = problem.gold.clone() else {
            let hint = "give each item the field `gold`";
            return Err(wrong("gold", "has no reference answer".into(), hint));
        };
        let read = |field: &str| -> Result<Vec<Evidence>, EvaluateError> {
            match problem.data.get(field) {
                None => Ok(Vec::new()),
                Some(value) => serde_json::from_value(value.clone()).map_err(|error| {
                    wrong(field, error.to_string(), "write [{\"text\": \"…\", \"source\": \"…\"}]")
                }),
            }
        };
        Ok(AnswerKey {
            gold,
            alternative: problem.data.get("alternative").and_then(|a| a.as_str()).map(str::to_string),
            evidence: read("evidence")?,
            support: read("support")?,
            problem: problem.clone(),
        })
    }
}
