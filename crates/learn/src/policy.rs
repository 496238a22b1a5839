//! The border between learning and computing: what a model that can be trained must offer.

use crate::LearnError;
use crate::objective::{Objective, TrainingRow};
use elenchus_trace::TokenDistribution;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One prompt to answer several times.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutRequest {
    /// The whole prompt as text.
    pub prompt: String,
    /// How many samples; 0 temperature makes more than one pointless.
    pub samples: usize,
    /// Seed; sample i depends on (seed, i) alone.
    pub seed: u64,
    /// Softmax temperature, 0 greedy.
    pub temperature: f32,
    /// Most tokens to write.
    pub max_new_tokens: usize,
    /// Whether statistics of the full distributions are wanted.
    pub distributions: bool,
}

/// One sampled response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// The response without the end-of-text token.
    pub text: String,
    /// Its tokens, the end-of-text token included when it was written.
    pub tokens: Vec<u32>,
    /// Raw log-probability of each token, nats.
    pub logprobs: Vec<f32>,
    /// Statistics of the full distributions, when wanted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub distributions: Vec<TokenDistribution>,
    /// Whether the model ended by itself.
    pub finished: bool,
}

impl Rollout {
    /// Mean log-probability per token, nats; 0 for an empty response.
    pub fn mean_logprob(&self) -> f64 {
        self.logprobs.iter().map(|&l| f64::from(l)).sum::<f64>() / self.logprobs.len().max(1) as f64
    }
}

/// How the matrices inside the blocks are updated; everything else follows AdamW.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MatrixUpdate {
    /// AdamW (arXiv 1711.05101).
    #[default]
    AdamW,
    /// Muon: momentum made orthogonal; learns faster from scratch.
    Muon,
}

/// How weights change in one optimiser step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OptimiserSettings {
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Decoupled weight decay on matrices.
    pub weight_decay: f64,
    /// First moment decay.
    pub beta1: f64,
    /// Second moment decay.
    pub beta2: f64,
    /// Largest gradient norm; longer gradients are scaled down. 0 switches clipping off.
    pub clip_norm: f64,
    /// How the matrices inside the blocks are updated.
    pub matrices: MatrixUpdate,
}

/// From texts to tokens: all of a policy that is needed to make training rows.
pub trait Encode: Send {
    /// Tokens of a text; an error when the text cannot be written in the model's vocabulary.
    fn encode(&self, text: &str) -> Result<Vec<u32>, LearnError>;

    /// The end-of-text token.
    fn end_of_text(&self) -> u32;
}

/// A model whose weights can be changed. Nothing outside the implementing crate knows how it computes.
pub trait Policy: Encode {
    /// The vocabulary by itself: rows can be made from it while the policy trains, and it costs no weights.
    fn encoder(&self) -> Box<dyn Encode>;

    /// Longest sequence.
    fn max_positions(&self) -> usize;

    /// Accumulates the gradient of the batch loss and returns the loss. `step` seeds dropout.
    fn forward_backward(
        &mut self,
        batch: &[Vec<TrainingRow>],
        objective: &dyn Objective,
        dropout: f32,
        step: usize,
    ) -> Result<f64, LearnError>;

    /// Applies and clears the gradient; returns its norm before clipping.
    fn optimiser_step(&mut self, settings: &OptimiserSettings) -> Result<f64, LearnError>;

    /// Forgets the optimiser's moments.
    fn reset_optimiser(&mut self);

    /// Log-probabilities of each row's targets.
    fn logprobs(&mut self, rows: &[TrainingRow]) -> Result<Vec<Vec<f32>>, LearnError>;

    /// Raw outputs of every scalar head at every position: `[row][head][position]`.
    fn heads(&mut self, rows: &[TrainingRow]) -> Result<Vec<Vec<Vec<f32>>>, LearnError>;

    /// Samples responses, in order of requests and samples.
    fn sample(&mut self, requests: &[RolloutRequest]) -> Result<Vec<Vec<Rollout>>, LearnError>;

    /// An independent copy of the weights (not of the optimiser): a reference policy, or the start of another arm.
    fn copy(&self) -> Box<dyn Policy>;

    /// Takes over the weights of another policy of the same kind and shape.
    fn set_weights_from(&mut self, other: &dyn Policy) -> Result<(), LearnError>;

    /// The implementing type, so that `set_weights_from` can look into its own kind.
    fn as_any(&self) -> &dyn std::any::Any;

    /// Writes weights, and optionally the optimiser's state, to a folder.
    fn save(&self, folder: &Path, with_optimiser: bool) -> Result<(), LearnError>;

    /// Reads what `save` wrote.
    fn load(&mut self, folder: &Path) -> Result<(), LearnError>;
}

/// A row from texts: the prompt is context, the response and the end-of-text token are targets.
pub fn text_row(encoder: &dyn Encode, prompt: &str, response: &str) -> Result<TrainingRow, LearnError> {
    let prompt = encoder.encode(prompt)?;
    let mut response = encoder.encode(response)?;
    response.push(encoder.end_of_text());
    Ok(TrainingRow::new(&prompt, &response))
}
