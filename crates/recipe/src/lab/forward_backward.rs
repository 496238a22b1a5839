//! `forward-backward`: the base model after training in both directions, from numbers to the answer and from the answer
//! back to a hidden number.

use super::{Figure, LabModel, Plan, Start};
use elenchus_learn::policy::{Policy, RolloutRequest};
use elenchus_learn::pretrain::{BaseRows, Mixture, PretrainSettings};
use elenchus_learn::rollouts::{judge, mix};
use elenchus_learn::trainer::{BatchSource, TrainSettings};
use elenchus_learn::{LearnError, NativePolicy, Session};
use elenchus_task::{Skill, Split};
use serde_json::json;

/// Name of the checkpoint.
pub const FORWARD_BACKWARD: &str = "forward-backward";

/// Rows that find a hidden number and rows that find the answer, all with their chains (arXiv 2308.07758; sheet 15, section
/// 6). The sheet wants a model that saw as many of both: the base model has seen many chains and few hidden numbers, so
/// three rows of four are about these. Given in a row is always the true answer: what the model makes of a wrong one is
/// for the experiment to see.
#[derive(Debug, Clone, PartialEq)]
pub struct ForwardBackward {
    /// Both directions.
    pub mixture: Mixture,
    /// Validation problems for the card, and samples of each.
    pub validation: [usize; 2],
    /// Their temperature.
    pub temperature: f32,
    /// The training.
    pub train: TrainSettings,
}

impl Default for ForwardBackward {
    fn default() -> Self {
        ForwardBackward {
            mixture: Mixture { solve: 0.25, backward: 0.75, ..Mixture::nothing() },
            validation: [200, 4],
            temperature: 0.7,
            train: TrainSettings { steps: 2_800, ..PretrainSettings::default().base },
        }
    }
}

impl LabModel for ForwardBackward {
    fn name(&self) -> &'static str {
        FORWARD_BACKWARD
    }

    fn summary(&self) -> &'static str {
        "finds answers, and from a given answer the numbers that lead to it"
    }

    fn plan(&self) -> Plan {
        Plan {
            version: 1,
            start: Start::Base { words: Vec::new() },
            heads: Vec::new(),
            objective: "sft".into(),
            objective_settings: serde_json::Value::Null,
            train: self.train.clone(),
            rows: json!({
                "mixture": self.mixture, "validation": self.validation, "temperature": self.temperature,
            }),
        }
    }

    fn source(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        _: &Session<'_>,
    ) -> Result<Box<dyn BatchSource>, LearnError> {
        let settings = PretrainSettings {
            base: self.train.clone(),
            curriculum: Vec::new(),
            mixture: self.mixture.clone(),
            ..PretrainSettings::default()
        };
        Ok(Box::new(BaseRows::new(&settings, policy.encoder(), seed)))
    }

    /// Hidden numbers of chains of 4 to 6 steps that are found in one sample, given the true answer.
    fn validate(&self, policy: &mut NativePolicy, seed: u64, _: &Session<'_>) -> Result<Figure, LearnError> {
        let [problems, samples] = self.validation;
        let task = elenchus_task::task("arithmetic", &json!({ "form": "backward" }))?;
        let problems = task.problems(Split::Validation, problems, mix(seed, 1))?;
        let requests: Vec<RolloutRequest> = (0u64..)
            .zip(&problems)
            .map(|(place, problem)| RolloutRequest {
                prompt: Skill::Backward.prompt(problem, &[]),
                samples,
                seed: mix(mix(seed, 2), place),
                temperature: self.temperature,
                max_new_tokens: 160,
                distributions: false,
            })
            .collect();
        let mut right = 0;
        for (problem, rollouts) in problems.iter().zip(policy.sample(&requests)?) {
            right +=
                judge(task.as_ref(), problem, rollouts)?.iter().filter(|j| j.verdict.is_correct()).count();
        }
        let value = right as f64 / (problems.len() * samples).max(1) as f64;
        Ok(Figure { name: "hidden numbers found".into(), value, problems: problems.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models;

    #[test]
    fn most_rows_go_backward_and_the_card_counts_what_they_find() {
        let model = ForwardBackward { validation: [6, 2], ..ForwardBackward::default() };
        let loaded = models::load(models::EMBEDDED).unwrap();
        let tag = |skill: Skill| loaded.tokenizer.encode(&skill.tag().to_string()).unwrap()[0];
        let (solve, backward) = (tag(Skill::Solve), tag(Skill::Backward));
        let mut policy = loaded.policy();
        let session = Session {
            run: None,
            observer: &elenchus_learn::Quiet,
            stop: elenchus_learn::StopFlag::default(),
        };
        let mut source = model.source(&mut policy, 5, &session).unwrap();
        let tags: Vec<u32> =
            (0..20).flat_map(|step| source.batch(step).unwrap()).flatten().map(|row| row.tokens[0]).collect();
        assert!(tags.iter().all(|tag| [solve, backward].contains(tag)));
        let share = tags.iter().filter(|tag| **tag == backward).count() as f64 / tags.len() as f64;
        assert!((0.67..0.83).contains(&share), "{share} of the rows go backward");
        let figure = model.validate(&mut policy, 3, &session).unwrap();
        assert!((0.0..1.0).contains(&figure.value) && figure.problems == 6, "{figure:?}");
    }
}
