//! A step reward model: a copy of the policy with a scalar head that says, at the end of each step, whether the steps
//! so far are right.

use crate::objective::{BinaryCrossEntropy, HeadTarget, TrainingRow};
use crate::policy::{Policy, text_row};
use crate::reward::step_positions;
use crate::rollouts::{RolloutSettings, judged_rollouts, mix};
use crate::trainer::{Decay, Epochs, TrainSettings, train};
use crate::{LearnError, NativePolicy, Session};
use elenchus_measure::auroc;
use elenchus_native::{ScalarHead, Trainable};
use elenchus_task::{Skill, Split, Task};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Name of the head.
pub const HEAD: &str = "step_reward";

/// How a step reward model is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StepRewardSettings {
    /// Training problems whose samples are labelled.
    pub problems: usize,
    /// Samples per problem.
    pub samples: usize,
    /// Training.
    pub train: TrainSettings,
    /// Validation problems on which the model is judged.
    pub validation: usize,
}

impl Default for StepRewardSettings {
    fn default() -> Self {
        StepRewardSettings {
            problems: 2500,
            samples: 4,
            train: TrainSettings {
                steps: 400,
                batch: 32,
                learning_rate: 5e-4,
                warmup_steps: 20,
                decay: Decay::Linear,
                ..Default::default()
            },
            validation: 300,
        }
    }
}

/// Rows of a split with one head target per step: 1 while every step so far is right, 0 from the first wrong one on.
///
/// The labels are exact where Math-Shepherd estimates them from completions: the task's verifier checks each step.
pub fn step_rows(
    policy: &mut dyn Policy,
    task: &dyn Task,
    split: Split,
    settings: &StepRewardSettings,
    seed: u64,
    name: &str,
    session: &Session<'_>,
) -> Result<Vec<Vec<TrainingRow>>, LearnError> {
    let problems = if split == Split::Train { settings.problems } else { settings.validation };
    let problems = task.problems(split, problems, mix(seed, 1))?;
    let rollouts = RolloutSettings {
        samples: settings.samples,
        temperature: 1.0,
        max_new_tokens: 160,
        seed: mix(seed, 2),
        distributions: false,
    };
    session.observer.phase(0, "steps to label", problems.len());
    let judged = judged_rollouts(policy, task, &problems, &rollouts, &format!("{name}/{split:?}"), session)?;
    let mut rows = Vec::new();
    for (problem, samples) in problems.iter().zip(&judged) {
        let mut seen = std::collections::HashSet::new();
        for j in samples.iter().filter(|j| j.rollout.finished && seen.insert(j.rollout.text.as_str())) {
            let mut row = text_row(policy, &Skill::Solve.prompt(problem, &[]), &j.rollout.text)?;
            let positions = step_positions(policy, task, problem, row.first_target, &j.rollout.text)?;
            let wrong = j.verdict.first_wrong_step().unwrap_or(usize::MAX);
            row.head_targets = positions
                .iter()
                .enumerate()
                .map(|(step, &position)| HeadTarget {
                    head: 0,
                    position,
                    target: f32::from(u8::from(step < wrong)),
                })
                .collect();
            if !row.head_targets.is_empty() {
                // No log-probability is wanted, only head outputs.
                row.first_target = row.tokens.len();
                rows.push(vec![row]);
            }
        }
    }
    Ok(rows)
}

/// Trains a step reward model from the policy's own samples; returns it with its AUROC over validation steps. `name` is
/// the prefix of its units in the journal.
pub fn train_step_reward(
    policy: &mut NativePolicy,
    task: &dyn Task,
    settings: &StepRewardSettings,
    seed: u64,
    name: &str,
    session: &Session<'_>,
) -> Result<(NativePolicy, f64), LearnError> {
    let rows = step_rows(policy, task, Split::Train, settings, mix(seed, 1), name, session)?;
    let held_out = step_rows(policy, task, Split::Validation, settings, mix(seed, 2), name, session)?;
    let mut model = policy.model().clone();
    model.heads = vec![ScalarHead::zeros(HEAD, None, model.config().hidden_size)];
    let mut reward = NativePolicy::new(model, Arc::clone(policy.tokenizer()), Trainable::All, 0);
    session.observer.phase(0, "step reward", settings.train.steps);
    let mut source = Epochs::new(&rows, settings.train.batch, mix(seed, 3))?;
    let steps = 0..settings.train.steps;
    train(&mut reward, &BinaryCrossEntropy {}, &settings.train, &mut source, steps, &mut |_, step| {
        session.observer.advance(1, step.tokens, false);
        if session.stop.stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    let rows: Vec<TrainingRow> = held_out.into_iter().flatten().collect();
    let (mut scores, mut labels) = (Vec::new(), Vec::new());
    for (row, heads) in rows.iter().zip(reward.heads(&rows)?) {
        for target in &row.head_targets {
            scores.push(f64::from(heads[target.head][target.position]));
            labels.push(target.target > 0.5);
        }
    }
    let quality = auroc(&scores, &labels)?.unwrap_or(0.5);
    Ok((reward, quality))
}
