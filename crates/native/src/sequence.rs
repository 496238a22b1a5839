//! What goes into the engine and what comes out: sequences, log-probabilities, their gradients.

use crate::{Model, NativeError};

/// A whole sequence of tokens, and from where on its log-probabilities are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sequence {
    /// Prompt and continuation, T tokens.
    pub tokens: Vec<u32>,
    /// Index of the first token whose log-probability is wanted: 1..=T. T asks for none (only heads).
    pub first_target: usize,
}

impl Sequence {
    /// A prompt followed by a continuation whose tokens are all targets.
    pub fn continuation(prompt: &[u32], continuation: &[u32]) -> Self {
        Sequence { tokens: [prompt, continuation].concat(), first_target: prompt.len() }
    }

    /// How many log-probabilities are wanted.
    pub fn targets(&self) -> usize {
        self.tokens.len().saturating_sub(self.first_target)
    }
}

/// What the model says about a [`Sequence`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SequenceOutput {
    /// `logprobs[i] = ln p(tokens[first_target + i] | tokens before)`, natural logarithm, temperature 1.
    pub logprobs: Vec<f32>,
    /// Entropy (nats) of the distribution each target was drawn from; empty unless asked.
    pub entropies: Vec<f32>,
    /// One row per scalar head of the model, one value per token position `0..T`; no sigmoid applied.
    pub heads: Vec<Vec<f32>>,
}

/// The derivative of a loss by each number of a [`SequenceOutput`]; an empty vector means zero.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SequenceGradient {
    /// `dL / d logprobs[i]`.
    pub logprobs: Vec<f32>,
    /// `dL / d entropies[i]`; may be given whether or not entropies were asked for.
    pub entropies: Vec<f32>,
    /// `dL / d heads[h][position]`.
    pub heads: Vec<Vec<f32>>,
}

/// How to run the network.
#[derive(Debug, Clone, PartialEq)]
pub struct ForwardOptions {
    /// Whether to compute entropies.
    pub entropies: bool,
    /// Probability with which an element of the embedding and of each block's two residual additions is
    /// zeroed (the rest is scaled by `1 / (1 - dropout)`); 0 turns it off. In `0..1`.
    pub dropout: f32,
    /// Seed of the dropout masks. A mask depends on seed, group, sequence, position and layer only, so it is
    /// the same for every number of threads.
    pub dropout_seed: u64,
    /// Worker threads; 0 means one per available core.
    pub threads: usize,
}

impl Default for ForwardOptions {
    fn default() -> Self {
        ForwardOptions { entropies: false, dropout: 0.0, dropout_seed: 0, threads: 0 }
    }
}

impl ForwardOptions {
    /// The number of workers meant.
    pub(crate) fn workers(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
            threads => threads,
        }
    }

    pub(crate) fn check(&self, operation: &'static str) -> Result<(), NativeError> {
        if (0.0..1.0).contains(&self.dropout) {
            return Ok(());
        }
        let problem = format!("dropout is {}", self.dropout);
        Err(NativeError::argument(operation, problem, "give a probability of at least 0 and below 1"))
    }
}

/// Refuses what the arithmetic could not handle, before any work.
pub(crate) fn check_sequence(
    operation: &'static str,
    model: &Model,
    at: &dyn Fn() -> String,
    sequence: &Sequence,
) -> Result<(), NativeError> {
    let config = model.config();
    let length = sequence.tokens.len();
    if length == 0 {
        let problem = format!("{} has no tokens", at());
        return Err(NativeError::argument(operation, problem, "leave empty sequences out"));
    }
    if length > config.max_positions {
        let problem =
            format!("{} has {length} tokens, the model reads at most {}", at(), config.max_positions);
        return Err(NativeError::argument(operation, problem, "cut the sequence or use a longer model"));
    }
    if sequence.first_target == 0 || sequence.first_target > length {
        let problem = format!("{} has first_target {} with {length} tokens", at(), sequence.first_target);
        return Err(NativeError::argument(
            operation,
            problem,
            "first_target lies in 1..=T: nothing precedes token 0, so it has no log-probability",
        ));
    }
    if let Some(token) = sequence.tokens.iter().find(|t| **t as usize >= config.vocab_size) {
        let problem = format!("{} holds token {token}, the vocabulary has {}", at(), config.vocab_size);
        return Err(NativeError::argument(operation, problem, "encode with the tokenizer of this model"));
    }
    Ok(())
}

/// Refuses a gradient that does not match the output it belongs to.
pub(crate) fn check_gradient(
    at: &dyn Fn() -> String,
    output: &SequenceOutput,
    gradient: &SequenceGradient,
) -> Result<(), NativeError> {
    let refuse = |what: String| {
        Err(NativeError::argument(
            "forward_backward",
            format!("the objective's gradient for {} {what}", at()),
            "return one number per output, or an empty vector for zero",
        ))
    };
    let fits = |given: usize, wanted: usize| given == 0 || given == wanted;
    let targets = output.logprobs.len();
    if !fits(gradient.logprobs.len(), targets) {
        return refuse(format!("has {} log-probabilities instead of {targets}", gradient.logprobs.len()));
    }
    if !fits(gradient.entropies.len(), targets) {
        return refuse(format!("has {} entropies instead of {targets}", gradient.entropies.len()));
    }
    if !fits(gradient.heads.len(), output.heads.len()) {
        return refuse(format!("has {} heads instead of {}", gradient.heads.len(), output.heads.len()));
    }
    for (given, wanted) in gradient.heads.iter().zip(&output.heads) {
        if !fits(given.len(), wanted.len()) {
            return refuse(format!("has a head with {} values instead of {}", given.len(), wanted.len()));
        }
    }
    Ok(())
}
