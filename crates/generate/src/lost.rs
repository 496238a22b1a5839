//! Samples that a call asked for and did not get.

use elenchus_trace::Completion;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The field of a completion's `extra` that says so, at the first of those that came.
const FIELD: &str = "lost";

/// What is missing of the samples of one call, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// How many.
    pub samples: usize,
    /// The first failure, in words.
    pub why: String,
}

impl Lost {
    /// What is missing of these; `None` where nothing is.
    pub fn of(completions: &[Completion]) -> Option<Lost> {
        let said = completions.first()?.extra.get(FIELD)?;
        Lost::deserialize(said).ok()
    }

    /// Notes it with the samples that came.
    pub(crate) fn note(self, completions: &mut [Completion]) {
        if let Some(first) = completions.first_mut() {
            // A call that fails is booked as one, whether it fails alone or beside others.
            first.usage.calls += self.samples as u64;
            first.extra.insert(FIELD.into(), json!(self));
        }
    }
}
