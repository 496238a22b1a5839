//! Measuring a policy on held-out problems: greedy, sampled, vote, pass, and how right answers were reached.

use crate::policy::Policy;
use crate::rollouts::{Judged, RolloutSettings, judged_rollouts};
use crate::{LearnError, Session};
use elenchus_measure::{Ballot, Interval, accuracy, student_interval};
use elenchus_task::{Split, Task};
use elenchus_trace::{Outcome, Problem};
use serde::{Deserialize, Serialize};

/// How to measure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluationSettings {
    /// The split that the problems come from: `test`, or `validation` while settings are being chosen.
    pub split: Split,
    /// Held-out problems.
    pub problems: usize,
    /// Samples per problem for sampled accuracy, vote@k and pass@k.
    pub samples: usize,
    /// Their temperature.
    pub temperature: f32,
    /// Most new tokens.
    pub max_new_tokens: usize,
}

impl Default for EvaluationSettings {
    fn default() -> Self {
        EvaluationSettings {
            split: Split::Test,
            problems: 1000,
            samples: 8,
            temperature: 1.0,
            max_new_tokens: 160,
        }
    }
}

/// What was seen on one problem.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProblemResult {
    /// The greedy response is right.
    pub greedy: bool,
    /// Right samples.
    pub right: usize,
    /// Right samples with a wrong or missing step.
    pub right_by_wrong_steps: usize,
    /// Chance that the majority of the samples is right (ties shared).
    pub vote: f64,
    /// Distinct responses that are right.
    pub distinct_right: usize,
    /// Distinct responses.
    pub distinct: usize,
    /// Samples with an answer.
    pub answered: usize,
    /// `(exp(mean log-probability), right)` of every sample: raw confidence for the calibration plot.
    pub confidences: Vec<(f32, bool)>,
    /// Text of the greedy response.
    pub greedy_text: String,
}

/// A measurement over problems.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// One per problem, in the order of the problems.
    pub results: Vec<ProblemResult>,
    /// Samples per problem.
    pub samples: usize,
    /// Tokens written.
    pub tokens: usize,
    /// Seconds of the work that was not replayed.
    pub seconds: f64,
}

impl Evaluation {
    fn mean(&self, value: impl Fn(&ProblemResult) -> f64) -> Result<Interval, LearnError> {
        let values: Vec<f64> = self.results.iter().map(value).collect();
        let interval = student_interval(&values, 0.95)?;
        Ok(Interval { value: interval.value, low: interval.low.max(0.0), high: interval.high.min(1.0) })
    }

    /// Greedy accuracy with its Wilson interval.
    pub fn greedy(&self) -> Result<Interval, LearnError> {
        Ok(accuracy(self.results.iter().filter(|r| r.greedy).count(), self.results.len())?)
    }

    /// Mean accuracy of a sample; interval over problems.
    pub fn sampled(&self) -> Result<Interval, LearnError> {
        self.mean(|r| r.right as f64 / self.samples as f64)
    }

    /// Accuracy of the majority of all samples; interval over problems.
    pub fn vote(&self) -> Result<Interval, LearnError> {
        self.mean(|r| r.vote)
    }

    /// Share of problems with at least one right sample.
    pub fn pass(&self) -> Result<Interval, LearnError> {
        Ok(accuracy(self.results.iter().filter(|r| r.right > 0).count(), self.results.len())?)
    }

    /// Share of problems with at least `distinct` distinct right responses (pass@K-S).
    pub fn pass_distinct(&self, distinct: usize) -> Result<Interval, LearnError> {
        Ok(accuracy(
            self.results.iter().filter(|r| r.distinct_right >= distinct).count(),
            self.results.len(),
        )?)
    }

    /// Share of right samples with a wrong or missing step; 0 when nothing is right.
    pub fn wrong_steps(&self) -> f64 {
        let right: usize = self.results.iter().map(|r| r.right).sum();
        let bad: usize = self.results.iter().map(|r| r.right_by_wrong_steps).sum();
        if right == 0 { 0.0 } else { bad as f64 / right as f64 }
    }

    /// Mean number of distinct responses among the samples.
    pub fn distinct(&self) -> f64 {
        self.results.iter().map(|r| r.distinct as f64).sum::<f64>() / self.results.len().max(1) as f64
    }
}

/// Measures a policy: one greedy response and `samples` samples per problem. Both are seeded by `seed`, so two
/// policies measured with one seed differ by their weights alone.
pub fn evaluate(
    policy: &mut dyn Policy,
    task: &dyn Task,
    problems: &[Problem],
    settings: &EvaluationSettings,
    seed: u64,
    label: &str,
    session: &Session<'_>,
) -> Result<Evaluation, LearnError> {
    let start = std::time::Instant::now();
    let rollout = |samples, temperature| RolloutSettings {
        samples,
        temperature,
        max_new_tokens: settings.max_new_tokens,
        seed,
        distributions: false,
    };
    let greedy =
        judged_rollouts(policy, task, problems, &rollout(1, 0.0), &format!("{label}/greedy"), session)?;
    let sampled = judged_rollouts(
        policy,
        task,
        problems,
        &rollout(settings.samples, settings.temperature),
        &format!("{label}/sampled"),
        session,
    )?;
    let tokens = greedy.iter().chain(&sampled).flatten().map(|j| j.rollout.tokens.len()).sum();
    let results = greedy.iter().zip(&sampled).map(|(g, s)| result(g, s)).collect::<Result<_, _>>()?;
    Ok(Evaluation { results, samples: settings.samples, tokens, seconds: start.elapsed().as_secs_f64() })
}

fn result(greedy: &[Judged], samples: &[Judged]) -> Result<ProblemResult, LearnError> {
    let right = |j: &&Judged| j.verdict.is_correct();
    let ballot =
        Ballot::from_answers(samples.iter().map(|j| (j.verdict.answer.as_deref(), j.verdict.is_correct())))?;
    let texts = |keep: &dyn Fn(&&Judged) -> bool| {
        samples
            .iter()
            .filter(keep)
            .map(|j| j.rollout.text.as_str())
            .collect::<std::collections::HashSet<_>>()
            .len()
    };
    Ok(ProblemResult {
        greedy: greedy.first().is_some_and(|j| j.verdict.is_correct()),
        right: samples.iter().filter(right).count(),
        right_by_wrong_steps: samples.iter().filter(right).filter(|j| !j.steps_right).count(),
        vote: if samples.is_empty() { 0.0 } else { ballot.majority_at(samples.len(), 0)? },
        distinct_right: texts(&right),
        distinct: texts(&|_| true),
        answered: samples.iter().filter(|j| j.verdict.outcome != Outcome::NoAnswer).count(),
        confidences: samples
            .iter()
            .map(|j| (j.rollout.mean_logprob().exp() as f32, j.verdict.is_correct()))
            .collect(),
        greedy_text: greedy.first().map(|j| j.rollout.text.clone()).unwrap_or_default(),
    })
}
