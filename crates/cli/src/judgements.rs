//! `eval --judgements`: the confidence of each answer beside what was true, as `measure` reads it.

use crate::failure::{Code, Failure};
use elenchus_remember::data::write_jsonl;
use elenchus_trace::{Answer, JudgementRow, Problem};
use serde::Serialize;
use std::path::Path;

/// Identifiers that a message names before it only counts.
const NAMED: usize = 5;

/// What went into a file of judgements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Judged {
    /// Rows written: questions whose answer has a confidence.
    pub rows: usize,
    /// Questions whose answer has none, by `id`. They are no rows: no confidence is not a confidence of zero.
    pub without_confidence: Vec<String>,
}

impl Judged {
    /// One row for each answer that has a confidence, and the questions whose answer has none. An answer that was withheld
    /// for want of confidence is judged like any other: the row says whether it would have been right.
    pub fn rows(problems: &[Problem], answers: &[Answer], correct: &[f64]) -> (Self, Vec<JudgementRow>) {
        let (mut rows, mut without_confidence) = (Vec::new(), Vec::new());
        for ((problem, answer), correct) in problems.iter().zip(answers).zip(correct) {
            match answer.confidence {
                Some(confidence) => {
                    rows.push(JudgementRow { id: problem.id.clone(), confidence, correct: *correct > 0.0 });
                }
                None => without_confidence.push(problem.id.clone()),
            }
        }
        (Judged { rows: rows.len(), without_confidence }, rows)
    }

    /// Writes the rows; what stood in the file before is replaced.
    ///
    /// # Errors
    /// No answer has a confidence, and those of the file.
    pub fn write(&self, file: &Path, rows: &[JudgementRow]) -> Result<(), Failure> {
        if rows.is_empty() {
            return Err(Failure::new(
                Code::Usage,
                format!(
                    "none of {} answers has a confidence; `{}` is not written",
                    self.without_confidence.len(),
                    file.display()
                ),
                "strategies that vote or judge say one, for example `self-consistency` or the recipe `p-true-p-ik`",
            ));
        }
        Ok(write_jsonl(file, rows)?)
    }

    /// In one line, where some answers have no confidence.
    pub fn line(&self) -> Option<String> {
        let without = &self.without_confidence;
        let first = without.iter().take(NAMED).map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ");
        let more = if without.len() > NAMED { ", …" } else { "" };
        let of = self.rows + without.len();
        (!without.is_empty()).then(|| {
            format!(
                "{} judgements; {} of {of} answers have no confidence and no row: {first}{more}",
                self.rows,
                without.len()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use elenchus_trace::{Trace, Usage};

    fn answer(confidence: Option<f64>) -> Answer {
        let trace = Trace::new("t", "s", Problem::new("p", "math", "?"));
        let (text, usage) = ("4".to_string(), Usage::default());
        Answer { text, answer: None, confidence, votes: Vec::new(), abstained: None, usage, trace }
    }

    #[test]
    fn an_answer_without_confidence_is_named_and_no_row() {
        let problems: Vec<Problem> = (0..8).map(|i| Problem::new(format!("q{i}"), "math", "2+2?")).collect();
        let answers: Vec<Answer> = (0..8).map(|i| answer((i < 2).then_some(0.25))).collect();
        let correct = [1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
        let (judged, rows) = Judged::rows(&problems, &answers, &correct);
        let told: Vec<(&str, f64, bool)> =
            rows.iter().map(|row| (row.id.as_str(), row.confidence, row.correct)).collect();
        assert_eq!(told, [("q0", 0.25, true), ("q1", 0.25, false)]);
        assert_eq!(
            judged.line().as_deref(),
            Some(
                "2 judgements; 6 of 8 answers have no confidence and no row: `q2`, `q3`, `q4`, `q5`, `q6`, …"
            )
        );
        let (all, _) = Judged::rows(&problems[..2], &answers[..2], &correct[..2]);
        assert_eq!(all.line(), None);
    }

    #[test]
    fn a_file_without_rows_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("j.jsonl");
        let (judged, rows) = Judged::rows(&[Problem::new("q", "math", "?")], &[answer(None)], &[0.0]);
        let failure = judged.write(&file, &rows).unwrap_err();
        assert!(failure.message.contains("none of 1 answers has a confidence"), "{}", failure.message);
        assert!(!file.exists());
    }
}
