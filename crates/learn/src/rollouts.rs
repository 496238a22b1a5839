//! Sampling many problems and judging every response exactly.

use crate::policy::{Policy, Rollout, RolloutRequest};
use crate::{LearnError, Quiet, Session};
use elenchus_task::{Skill, Task};
use elenchus_trace::{Problem, Verdict};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Problems whose samples are drawn and journalled together: large enough to fill the batch, small enough to lose
/// little when the process dies.
const PROBLEMS_PER_UNIT: usize = 512;

/// How to draw samples.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutSettings {
    /// Samples per problem.
    pub samples: usize,
    /// Softmax temperature.
    pub temperature: f32,
    /// Most new tokens.
    pub max_new_tokens: usize,
    /// Seed of the draw.
    pub seed: u64,
    /// Whether statistics of full distributions are kept.
    pub distributions: bool,
}

/// A response with its verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// The response.
    pub rollout: Rollout,
    /// What the task's verifier says of it.
    pub verdict: Verdict,
    /// Whether every needed step is there and right.
    pub steps_right: bool,
}

/// Samples every problem and verifies every sample, unit by unit through the journal. `label` names the work, for
/// example `round/2/main`.
pub fn judged_rollouts(
    policy: &mut dyn Policy,
    task: &dyn Task,
    problems: &[Problem],
    settings: &RolloutSettings,
    label: &str,
    session: &Session<'_>,
) -> Result<Vec<Vec<Judged>>, LearnError> {
    let mut all = Vec::with_capacity(problems.len());
    for (unit, chunk) in problems.chunks(PROBLEMS_PER_UNIT).enumerate() {
        let (judged, replayed) = session.once(&format!("{label}/{unit}"), || {
            let requests: Vec<RolloutRequest> = chunk
                .iter()
                .enumerate()
                .map(|(i, problem)| RolloutRequest {
                    prompt: Skill::Solve.prompt(problem, &[]),
                    samples: settings.samples,
                    seed: mix(settings.seed, (unit * PROBLEMS_PER_UNIT + i) as u64),
                    temperature: settings.temperature,
                    max_new_tokens: settings.max_new_tokens,
                    distributions: settings.distributions,
                })
                .collect();
            let rollouts = policy.sample(&requests)?;
            chunk
                .iter()
                .zip(rollouts)
                .map(|(problem, rollouts)| judge(task, problem, rollouts))
                .collect::<Result<Vec<Vec<Judged>>, LearnError>>()
        })?;
        let tokens = judged.iter().flatten().map(|j| j.rollout.tokens.len()).sum();
        session.observer.advance(chunk.len(), tokens, replayed);
        all.extend(judged);
    }
    Ok(all)
}

/// How many samples of each problem are right. Only the counts are journalled: for many samples of which nothing else is
/// wanted.
pub fn right_counts(
    policy: &mut dyn Policy,
    task: &dyn Task,
    problems: &[Problem],
    settings: &RolloutSettings,
    label: &str,
    session: &Session<'_>,
) -> Result<Vec<usize>, LearnError> {
    let mut all = Vec::with_capacity(problems.len());
    for (unit, chunk) in problems.chunks(PROBLEMS_PER_UNIT).enumerate() {
        let ((counts, tokens), replayed) = session.once(&format!("{label}/{unit}"), || {
            let quiet = Session { run: None, observer: &Quiet, stop: session.stop.clone() };
            let settings = RolloutSettings { seed: mix(settings.seed, unit as u64), ..settings.clone() };
            let judged = judged_rollouts(policy, task, chunk, &settings, label, &quiet)?;
            let right = |samples: &Vec<Judged>| samples.iter().filter(|j| j.verdict.is_correct()).count();
            let tokens: usize = judged.iter().flatten().map(|j| j.rollout.tokens.len()).sum();
            Ok((judged.iter().map(right).collect::<Vec<usize>>(), tokens))
        })?;
        session.observer.advance(chunk.len(), tokens, replayed);
        all.extend(counts);
    }
    Ok(all)
}

/// Verifies the responses to one problem; a cut response has no answer, whatever its text ends with. Responses with the
/// same text are verified once: a sharp model repeats itself, and some tasks run programs.
pub fn judge(task: &dyn Task, problem: &Problem, rollouts: Vec<Rollout>) -> Result<Vec<Judged>, LearnError> {
    let mut known: HashMap<String, Verdict> = HashMap::new();
    rollouts
        .into_iter()
        .map(|rollout| {
            let verdict = match known.get(&rollout.text) {
                Some(verdict) => verdict.clone(),
                None => {
                    let verdict = task.verify(problem, &rollout.text)?;
                    known.insert(rollout.text.clone(), verdict.clone());
                    verdict
                }
            };
            let steps_right = task.steps_right(problem, &verdict);
            Ok(Judged { rollout, verdict, steps_right })
        })
        .collect()
}

/// A seed from a seed and an index (splitmix64 finaliser).
pub fn mix(seed: u64, index: u64) -> u64 {
    let mut z = seed ^ index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use elenchus_task::{Split, TaskError};
    use elenchus_trace::Outcome;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Finds `1` right and counts how often it is asked.
    #[derive(Default)]
    struct Counting {
        asked: AtomicUsize,
    }

    impl Task for Counting {
        fn name(&self) -> &'static str {
            "counting"
        }

        fn summary(&self) -> &'static str {
            "counts"
        }

        fn problems(&self, _: Split, _: usize, _: u64) -> Result<Vec<Problem>, TaskError> {
            Ok(Vec::new())
        }

        fn extract(&self, _: &Problem, response: &str) -> Option<String> {
            Some(response.to_string())
        }

        fn equivalent(&self, _: &Problem, left: &str, right: &str) -> bool {
            left == right
        }

        fn verify(&self, _: &Problem, response: &str) -> Result<Verdict, TaskError> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let outcome = if response == "1" { Outcome::Correct } else { Outcome::Wrong };
            Ok(Verdict { outcome, answer: Some(response.to_string()), steps: Vec::new(), reason: None })
        }
    }

    #[test]
    fn the_same_text_is_verified_once_and_every_response_has_its_verdict() {
        let rollout = |text: &str, tokens: &[u32]| Rollout {
            text: text.into(),
            tokens: tokens.to_vec(),
            logprobs: Vec::new(),
            distributions: Vec::new(),
            finished: true,
        };
        let task = Counting::default();
        let rollouts = vec![rollout("1", &[1]), rollout("2", &[2]), rollout("1", &[3]), rollout("2", &[4])];
        let judged = judge(&task, &Problem::new("p", "counting", "?"), rollouts).unwrap();
        let right: Vec<bool> = judged.iter().map(|judged| judged.verdict.is_correct()).collect();
        assert_eq!(right, [true, false, true, false]);
        let tokens: Vec<u32> = judged.iter().flat_map(|judged| judged.rollout.tokens.clone()).collect();
        assert_eq!(tokens, [1, 2, 3, 4], "each keeps its own tokens");
        assert_eq!(task.asked.load(Ordering::SeqCst), 2);
    }
}
