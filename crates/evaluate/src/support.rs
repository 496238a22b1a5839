//! How far the other samples support what a response says (SelfCheckGPT, arXiv 2303.08896, as arXiv 2407.14507 lists it).

use crate::{EvaluateError, EvaluateInput, Evaluator, Needs};
use async_trait::async_trait;
use elenchus_trace::{Feedback, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// How support is measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SupportMethod {
    /// The words of a step in common with the nearest step of each other sample: F1, the mean over samples.
    #[default]
    Overlap,
    /// The probability of a step's words under a unigram model of all samples: exp of the mean log-probability. Low for
    /// words that nobody else writes; not comparable between problems.
    Unigram,
}

/// Settings of the `support` evaluator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SupportSettings {
    /// How support is measured.
    pub method: SupportMethod,
}

/// Scores each candidate by how far the other candidates say the same, step by step: for responses whose answers cannot
/// be compared. The score is the mean over the steps that the task finds (the whole text where it finds none). Lack of
/// support is a sign of hallucination; support is none of truth: what all samples get wrong alike is supported.
///
/// overlap(step, sample) = max over the sample's steps of 2 |common words| / (|words of one| + |words of the other|)
///
/// A candidate without words, and one without others beside it, abstains. Costs no model call.
#[derive(Debug, Clone, Copy)]
pub struct Support {
    settings: SupportSettings,
}

impl Support {
    /// The evaluator with its settings.
    pub fn new(settings: SupportSettings) -> Self {
        Support { settings }
    }
}

/// How often each word occurs.
type Words = HashMap<String, usize>;

/// Words and numbers in lower case; signs divide them.
fn words(text: &str) -> Words {
    let mut words = Words::new();
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        *words.entry(word.to_lowercase()).or_default() += 1;
    }
    words
}

fn size(words: &Words) -> usize {
    words.values().sum()
}

fn overlap(left: &Words, right: &Words) -> f64 {
    let common: usize = left.iter().map(|(word, count)| *count.min(right.get(word).unwrap_or(&0))).sum();
    let both = size(left) + size(right);
    if both == 0 { 0.0 } else { 2.0 * common as f64 / both as f64 }
}

/// Steps of a response that have words; the whole text where the task finds none.
fn steps_of(input: &EvaluateInput<'_>, problem: &Problem, text: &str) -> Vec<Words> {
    let mut steps: Vec<Words> =
        input.task.steps(problem, text).iter().map(|step| words(&step.text)).collect();
    steps.retain(|step| !step.is_empty());
    if steps.is_empty() {
        steps.extend(Some(words(text)).filter(|words| !words.is_empty()));
    }
    steps
}

/// exp of the mean log-probability of a step's words.
fn likelihood(step: &Words, all: &Words, total: f64) -> f64 {
    let sum: f64 = step
        .iter()
        .map(|(word, count)| *count as f64 * (all.get(word).copied().unwrap_or(0) as f64 / total).ln())
        .sum();
    (sum / size(step) as f64).exp()
}

#[async_trait]
impl Evaluator for Support {
    fn name(&self) -> &'static str {
        "support"
    }

    fn summary(&self) -> &'static str {
        "how far the other samples say the same, step by step"
    }

    fn needs(&self) -> Needs {
        Needs::default()
    }

    async fn evaluate(&self, input: EvaluateInput<'_>) -> Result<Vec<Feedback>, EvaluateError> {
        let samples: Vec<Vec<Words>> = input
            .candidates
            .iter()
            .map(|candidate| steps_of(&input, input.problem, &candidate.shown()))
            .collect();
        let mut all = Words::new();
        for (word, count) in samples.iter().flatten().flatten() {
            *all.entry(word.clone()).or_default() += count;
        }
        let total = size(&all) as f64;
        let judged = samples.iter().enumerate().map(|(place, steps)| {
            if samples.len() < 2 {
                return Feedback::abstain(self.name(), "there is no other sample to support it");
            }
            if steps.is_empty() {
                return Feedback::abstain(self.name(), "the response holds no words");
            }
            let of_step = |step: &Words| match self.settings.method {
                SupportMethod::Unigram => likelihood(step, &all, total),
                SupportMethod::Overlap => {
                    let others = samples.iter().enumerate().filter(|(other, _)| *other != place);
                    let nearest = others.map(|(_, other)| {
                        other.iter().map(|theirs| overlap(step, theirs)).fold(0.0, f64::max)
                    });
                    nearest.sum::<f64>() / (samples.len() - 1) as f64
                }
            };
            let step_scores: Vec<f64> = steps.iter().map(of_step).collect();
            let score = step_scores.iter().sum::<f64>() / step_scores.len() as f64;
            Feedback { step_scores, ..Feedback::score(self.name(), score) }
        });
        Ok(judged.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, candidates};

    fn scores(method: SupportMethod, texts: &[&str]) -> Vec<Option<f64>> {
        let samples: Vec<(&str, Option<&str>)> = texts.iter().map(|text| (*text, None)).collect();
        let found =
            testing::evaluate(&Support::new(SupportSettings { method }), &candidates(&samples)).unwrap();
        found.into_iter().map(|feedback| feedback.score).collect()
    }

    fn close(found: Option<f64>, wanted: f64) {
        assert!((found.unwrap() - wanted).abs() < 1e-12, "{found:?} and not {wanted}");
    }

    #[test]
    fn what_others_say_too_is_supported() {
        let found =
            scores(SupportMethod::Overlap, &["she lives in Rome", "She lives in Rome.", "he works in Oslo"]);
        // 1 with the second; one word of four with the third.
        close(found[0], (1.0 + 0.25) / 2.0);
        close(found[1], (1.0 + 0.25) / 2.0);
        close(found[2], 0.25);
    }

    #[test]
    fn each_step_finds_its_nearest() {
        // The order of the steps does not matter: 1 and 1 / 2.
        let found = scores(SupportMethod::Overlap, &["a b;c d", "c d;a x"]);
        close(found[0], 0.75);
    }

    #[test]
    fn words_that_nobody_else_writes_are_unlikely() {
        let found = scores(SupportMethod::Unigram, &["a a", "a b"]);
        close(found[0], 0.75);
        close(found[1], (0.75f64 * 0.25).sqrt());
    }

    #[test]
    fn without_others_or_words_there_is_no_score() {
        assert_eq!(scores(SupportMethod::Overlap, &["a"]), [None]);
        let found = scores(SupportMethod::Overlap, &["a", "…!", "a"]);
        assert_eq!(found[1], None);
        close(found[0], 0.5);
    }
}
