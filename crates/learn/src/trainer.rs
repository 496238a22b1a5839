//! The training loop: batches by step, a schedule, an observer, the same loss curve after a resume.

use crate::LearnError;
use crate::objective::{Objective, TrainingRow};
use crate::policy::{MatrixUpdate, OptimiserSettings, Policy};
use crate::rollouts::mix;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::ops::{ControlFlow, Range};

/// How to train.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainSettings {
    /// Optimiser steps.
    pub steps: usize,
    /// Groups per step (rows, or pairs for preference objectives).
    pub batch: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Steps of linear warm-up.
    pub warmup_steps: usize,
    /// Shape of the decay behind the warm-up.
    pub decay: Decay,
    /// Share of the steps at the peak before the decay begins, in [0, 1).
    pub hold: f64,
    /// Learning rate at the end as a share of the peak.
    pub floor: f64,
    /// How the matrices inside the blocks are updated.
    pub matrices: MatrixUpdate,
    /// Decoupled weight decay on matrices.
    pub weight_decay: f64,
    /// AdamW's first moment decay.
    pub beta1: f64,
    /// AdamW's second moment decay.
    pub beta2: f64,
    /// Largest gradient norm, 0 for none.
    pub clip_norm: f64,
    /// Dropout probability.
    pub dropout: f32,
}

/// Shape of the learning-rate decay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// None.
    Constant,
    /// A straight line to the floor.
    Linear,
    /// Half a cosine to the floor (Loshchilov and Hutter 2016, arXiv 1608.03983).
    Cosine,
}

impl Default for TrainSettings {
    fn default() -> Self {
        TrainSettings {
            steps: 400,
            batch: 32,
            learning_rate: 5e-4,
            warmup_steps: 10,
            decay: Decay::Linear,
            hold: 0.0,
            floor: 0.1,
            matrices: MatrixUpdate::AdamW,
            weight_decay: 0.05,
            beta1: 0.9,
            beta2: 0.98,
            clip_norm: 1.0,
            dropout: 0.0,
        }
    }
}

impl TrainSettings {
    /// Refuses settings that cannot be meant.
    pub fn check(&self) -> Result<(), LearnError> {
        let refuse = |field: &str, problem: String, hint: &str| {
            Err(LearnError::Setting { field: format!("train.{field}"), problem, hint: hint.into() })
        };
        if self.batch == 0 {
            return refuse("batch", "is 0".into(), "give at least 1");
        }
        if !(self.learning_rate.is_finite() && self.learning_rate >= 0.0) {
            return refuse(
                "learning_rate",
                format!("is {}", self.learning_rate),
                "usual values: 1e-5 to 2e-3",
            );
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return refuse(
                "dropout",
                format!("is {}", self.dropout),
                "a share from 0 up to, not including, 1",
            );
        }
        if !(0.0..1.0).contains(&self.hold) || !(0.0..=1.0).contains(&self.floor) {
            return refuse(
                "hold / floor",
                format!("are {} / {}", self.hold, self.floor),
                "shares from 0 to 1",
            );
        }
        Ok(())
    }

    /// Learning rate at a step (0-based).
    pub fn learning_rate_at(&self, step: usize) -> f64 {
        let flat = self.warmup_steps + (self.hold * self.steps as f64) as usize;
        if step < self.warmup_steps {
            return self.learning_rate * (step + 1) as f64 / self.warmup_steps as f64;
        }
        if step < flat || self.decay == Decay::Constant {
            return self.learning_rate;
        }
        let progress = ((step - flat) as f64 / self.steps.saturating_sub(flat).max(1) as f64).min(1.0);
        let share = match self.decay {
            Decay::Constant => 1.0,
            Decay::Linear => 1.0 - progress,
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
        };
        self.learning_rate * (self.floor + (1.0 - self.floor) * share)
    }
}

/// Where batches come from: a pure function of the step, so that a resumed run sees what it would have seen.
pub trait BatchSource {
    /// The groups of a step.
    fn batch(&mut self, step: usize) -> Result<Vec<Vec<TrainingRow>>, LearnError>;
}

/// Epochs over given groups, shuffled anew in each epoch.
pub struct Epochs<'a> {
    groups: Cow<'a, [Vec<TrainingRow>]>,
    batch: usize,
    seed: u64,
    order: Option<(usize, Vec<u32>)>,
}

impl<'a> Epochs<'a> {
    /// An error when there is nothing to learn from.
    pub fn new(
        groups: impl Into<Cow<'a, [Vec<TrainingRow>]>>,
        batch: usize,
        seed: u64,
    ) -> Result<Self, LearnError> {
        let groups = groups.into();
        if groups.is_empty() {
            return Err(LearnError::Data {
                what: "no training rows".into(),
                hint: "lower the threshold, draw more samples, or check that the verifier accepts any answer"
                    .into(),
            });
        }
        Ok(Epochs { groups, batch, seed, order: None })
    }

    fn at(&mut self, position: usize) -> usize {
        let (epoch, place) = (position / self.groups.len(), position % self.groups.len());
        match &self.order {
            Some((known, order)) if *known == epoch => order[place] as usize,
            _ => {
                let mut order: Vec<u32> = (0..self.groups.len() as u32).collect();
                let mut random =
                    ChaCha8Rng::seed_from_u64(self.seed ^ (epoch as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
                order.shuffle(&mut random);
                let index = order[place] as usize;
                self.order = Some((epoch, order));
                index
            }
        }
    }
}

impl BatchSource for Epochs<'_> {
    fn batch(&mut self, step: usize) -> Result<Vec<Vec<TrainingRow>>, LearnError> {
        let places = step * self.batch..(step + 1) * self.batch;
        Ok(places
            .map(|place| {
                let index = self.at(place);
                self.groups[index].clone()
            })
            .collect())
    }
}

/// Rows made on demand: row `i` of a step is a function of a seed that depends on (`seed`, step, `i`) alone.
pub struct Generated<F> {
    make: F,
    batch: usize,
    seed: u64,
}

impl<F: FnMut(u64) -> Result<TrainingRow, LearnError>> Generated<F> {
    /// `make` gives the row of a seed; a batch is `batch` rows, each a group of its own.
    pub fn new(batch: usize, seed: u64, make: F) -> Self {
        Generated { make, batch, seed }
    }
}

impl<F: FnMut(u64) -> Result<TrainingRow, LearnError>> BatchSource for Generated<F> {
    fn batch(&mut self, step: usize) -> Result<Vec<Vec<TrainingRow>>, LearnError> {
        (step * self.batch..(step + 1) * self.batch)
            .map(|place| Ok(vec![(self.make)(mix(self.seed, place as u64))?]))
            .collect()
    }
}

/// Batches of two sources, one behind the other: a fixed proportion per batch.
pub struct Blend<A, B>(pub A, pub B);

impl<A: BatchSource, B: BatchSource> BatchSource for Blend<A, B> {
    fn batch(&mut self, step: usize) -> Result<Vec<Vec<TrainingRow>>, LearnError> {
        let mut batch = self.0.batch(step)?;
        batch.extend(self.1.batch(step)?);
        Ok(batch)
    }
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// 0-based.
    pub step: usize,
    /// Loss of the batch before the step.
    pub loss: f64,
    /// Gradient norm before clipping.
    pub gradient_norm: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Tokens of the batch, prompts included.
    pub tokens: usize,
}

/// Sums over a training run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainSummary {
    /// Steps done, those before a resume included.
    pub steps: usize,
    /// Mean loss of the last tenth of the steps seen.
    pub final_loss: f64,
    /// Tokens read, prompts included.
    pub tokens: usize,
}

/// Trains over a stretch of the schedule's steps: `0..settings.steps` is a whole run, `k..settings.steps` a resumed
/// one, a part of it one round of several that share a schedule. `observe` sees every step and may break off.
///
/// # Errors
/// A batch that cannot be made, a loss or gradient that is not a number, or [`LearnError::Interrupted`].
pub fn train(
    policy: &mut dyn Policy,
    objective: &dyn Objective,
    settings: &TrainSettings,
    source: &mut dyn BatchSource,
    steps: Range<usize>,
    observe: &mut dyn FnMut(&dyn Policy, &StepReport) -> ControlFlow<()>,
) -> Result<TrainSummary, LearnError> {
    settings.check()?;
    let mut summary = TrainSummary { steps: steps.start, ..Default::default() };
    let tail = steps.end - steps.len() / 10;
    let (mut tail_loss, mut tail_steps) = (0.0, 0usize);
    for step in steps {
        let batch = source.batch(step)?;
        let loss = policy.forward_backward(&batch, objective, settings.dropout, step)?;
        let learning_rate = settings.learning_rate_at(step);
        let gradient_norm = policy.optimiser_step(&OptimiserSettings {
            learning_rate,
            weight_decay: settings.weight_decay,
            beta1: settings.beta1,
            beta2: settings.beta2,
            clip_norm: settings.clip_norm,
            matrices: settings.matrices,
        })?;
        if !loss.is_finite() || !gradient_norm.is_finite() {
            return Err(LearnError::Diverged {
                step,
                what: format!("loss {loss}, gradient norm {gradient_norm}"),
            });
        }
        let tokens = batch.iter().flatten().map(|r| r.tokens.len()).sum();
        summary.steps = step + 1;
        summary.tokens += tokens;
        if step >= tail {
            tail_loss += loss;
            tail_steps += 1;
            summary.final_loss = tail_loss / tail_steps as f64;
        }
        let report = StepReport { step, loss, gradient_norm, learning_rate, tokens };
        if observe(policy, &report).is_break() {
            return Err(LearnError::Interrupted);
        }
    }
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NativePolicy;
    use crate::objective::Sft;
    use elenchus_native::{Model, ModelConfig, Tokenizer, Trainable};
    use std::sync::Arc;

    #[test]
    fn the_schedule_warms_up_holds_and_falls_to_the_floor() {
        let settings = TrainSettings {
            steps: 100,
            warmup_steps: 10,
            hold: 0.2,
            floor: 0.02,
            decay: Decay::Cosine,
            learning_rate: 1.0,
            ..Default::default()
        };
        let at = |s| settings.learning_rate_at(s);
        assert_eq!((at(0), at(9), at(29)), (0.1, 1.0, 1.0), "linear warm-up, then flat");
        assert!((at(65) - 0.51).abs() < 1e-9, "half-way down the cosine");
        assert!((at(100) - 0.02).abs() < 1e-12, "the floor");
        assert!((30..100).all(|s| at(s + 1) < at(s)), "it only falls");
    }

    #[test]
    fn epochs_show_every_row_once_and_depend_on_the_step_alone() {
        let groups: Vec<_> = (0..7u32).map(|i| vec![TrainingRow::new(&[i], &[1])]).collect();
        let ids = |source: &mut Epochs<'_>, step| -> Vec<u32> {
            source.batch(step).unwrap().iter().map(|g| g[0].tokens[0]).collect()
        };
        let mut source = Epochs::new(&groups, 7, 3).unwrap();
        let (first, second) = (ids(&mut source, 0), ids(&mut source, 1));
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..7).collect::<Vec<_>>(), "each row once per epoch");
        assert_ne!(first, second, "shuffled anew");
        assert_eq!(ids(&mut Epochs::new(&groups, 7, 3).unwrap(), 1), second, "a resume sees the same batch");
        assert!(Epochs::new(Vec::new(), 4, 0).is_err(), "nothing to learn from is an error");
    }

    fn tiny_policy() -> NativePolicy {
        let config = ModelConfig {
            vocab_size: 11,
            hidden_size: 8,
            intermediate_size: 12,
            layers: 2,
            heads: 2,
            kv_heads: 1,
            head_dim: 4,
            rope_theta: 10000.0,
            rms_norm_eps: 1e-6,
            max_positions: 32,
            tie_embeddings: true,
            qkv_bias: false,
            qk_norm: false,
            eos_token_ids: vec![1],
        };
        let words: Vec<String> = (0..8).map(|word| format!("w{word}")).collect();
        let tokenizer = Arc::new(Tokenizer::word_level(&words).unwrap());
        NativePolicy::new(Model::initialise(config, 1).unwrap(), tokenizer, Trainable::All, 1)
    }

    #[test]
    fn a_resumed_training_has_the_same_loss_curve_and_the_same_weights() {
        let groups: Vec<_> =
            (2..9u32).map(|i| vec![TrainingRow::new(&[i, 3, i], &[i, 2 + i % 5, 1])]).collect();
        for matrices in [MatrixUpdate::AdamW, MatrixUpdate::Muon] {
            let settings = TrainSettings {
                steps: 8,
                batch: 3,
                warmup_steps: 2,
                learning_rate: 0.02,
                dropout: 0.1,
                matrices,
                ..Default::default()
            };
            let run = |policy: &mut NativePolicy, steps: Range<usize>| -> Vec<f64> {
                let mut losses = Vec::new();
                let mut source = Epochs::new(&groups, settings.batch, 5).unwrap();
                train(policy, &Sft::default(), &settings, &mut source, steps, &mut |_, step| {
                    losses.push(step.loss);
                    ControlFlow::Continue(())
                })
                .unwrap();
                losses
            };
            let mut whole = tiny_policy();
            let curve = run(&mut whole, 0..8);
            assert!(curve[7] < curve[0], "it learns: {curve:?}");

            let folder = tempfile::tempdir().unwrap();
            let mut first = tiny_policy();
            let mut halves = run(&mut first, 0..4);
            first.save(folder.path(), true).unwrap();
            let mut second = tiny_policy();
            second.load(folder.path()).unwrap();
            halves.extend(run(&mut second, 4..8));
            assert_eq!(halves, curve, "{matrices:?}: the loss curve of an undisturbed training");
            assert_eq!(second.model().parameters, whole.model().parameters, "{matrices:?}: to the last bit");

            let mut forgetful = tiny_policy();
            forgetful.load(folder.path()).unwrap();
            forgetful.reset_optimiser();
            run(&mut forgetful, 4..8);
            assert_ne!(
                forgetful.model().parameters,
                whole.model().parameters,
                "{matrices:?}: the optimiser's memory matters"
            );
        }
    }
}
