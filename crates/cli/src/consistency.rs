//! What the consistency of the answers said about their being right, for strategies that record it.

use crate::failure::Failure;
use crate::output;
use elenchus_control::{ConsistencyMeasure, ConsistencyRecord};
use elenchus_measure::{Bootstrap, ConsistencyReport};
use elenchus_trace::Answer;
use serde::Serialize;

/// Consistency beside correctness, over the problems of an `eval`.
#[derive(Debug, Serialize)]
pub struct ConsistencyFound {
    /// What c is.
    measure: ConsistencyMeasure,
    /// The numbers.
    #[serde(flatten)]
    report: ConsistencyReport,
    /// Problems whose responses were all one text: their c says nothing.
    identical: usize,
    /// Problems with fewer than two responses, which have no c and count in none of the numbers.
    without: usize,
}

impl ConsistencyFound {
    /// Of answers, `correct` 1 for each that is right; `None` where no trace records a consistency.
    pub fn of(answers: &[Answer], correct: &[f64], seed: u64) -> Result<Option<Self>, Failure> {
        let records: Vec<(ConsistencyRecord, bool)> = answers
            .iter()
            .zip(correct)
            .filter_map(|(answer, correct)| Some((ConsistencyRecord::of(&answer.trace)?, *correct > 0.0)))
            .collect();
        let Some((first, _)) = records.first() else { return Ok(None) };
        let (measure, enough) = (first.measure, first.enough);
        let scored: Vec<(f64, bool)> =
            records.iter().filter_map(|(record, right)| Some((record.value()?, *right))).collect();
        if scored.is_empty() {
            return Ok(None);
        }
        let report = ConsistencyReport::of(&scored, enough, &Bootstrap::default().seed(seed))?;
        let identical =
            records.iter().filter(|(record, _)| record.identical && record.value().is_some()).count();
        let without = answers.len() - scored.len();
        Ok(Some(ConsistencyFound { measure, report, identical, without }))
    }

    /// In one line, and another where c says nothing on some problems.
    pub fn lines(&self) -> Vec<String> {
        let ConsistencyReport { questions, consistency, auroc, ece, enough, consistent_and_wrong, .. } =
            &self.report;
        let name = match self.measure {
            ConsistencyMeasure::Agreement => "pairs of answers that agree",
            ConsistencyMeasure::Normalised => "1 - H / log2 n",
            ConsistencyMeasure::Majority => "share of the most frequent answer",
            ConsistencyMeasure::Unique => "1 - (distinct - 1) / (n - 1)",
        };
        let auroc = auroc.as_ref().map_or("undefined (all right or all wrong)".into(), |auroc| {
            format!("{:.3} [{:.3}, {:.3}]", auroc.value, auroc.low, auroc.high)
        });
        let mut lines = vec![format!(
            "consistency ({name}) {}; AUROC for right {auroc}, ECE {:.3}; consistent ({enough} or more) and wrong {}",
            output::percent(consistency),
            ece.equal_mass,
            output::percent(consistent_and_wrong),
        )];
        if self.identical > 0 {
            lines.push(format!(
                "note: on {} of {questions} problems all responses are one text; if the endpoint ignores the temperature, \
                 their consistency says nothing",
                self.identical
            ));
        }
        if self.without > 0 {
            lines.push(format!(
                "note: {} problems have fewer than two responses, and no consistency",
                self.without
            ));
        }
        lines
    }
}
