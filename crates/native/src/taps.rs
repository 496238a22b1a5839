//! Looking inside: hidden states and attention of one sequence.

use crate::sequence::check_sequence;
use crate::train::tap;
use crate::{ForwardOptions, Model, NativeError, Sequence};

/// Everything a pass over one sequence of T tokens computed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Taps {
    /// T.
    pub tokens: usize,
    /// d.
    pub hidden_size: usize,
    /// L + 1 residual streams, each row-major `[T, d]`: the embedding, then the stream after each block, not normed.
    pub hidden: Vec<Vec<f32>>,
    /// `[T, d]`, the last of them after the final norm.
    pub last: Vec<f32>,
    /// For each block the probabilities `[heads, T, T]`: row = attending position, zeros for later columns.
    pub attention: Vec<Vec<f32>>,
}

impl Taps {
    /// Hidden state `layer` (0 the embedding) at a position.
    pub fn state(&self, layer: usize, position: usize) -> Option<&[f32]> {
        let at = position.checked_mul(self.hidden_size)?;
        self.hidden.get(layer)?.get(at..at.checked_add(self.hidden_size)?)
    }
}

impl Model {
    /// Runs one sequence and returns its hidden states and attention. `first_target` is not used.
    pub fn tap(&self, sequence: &Sequence) -> Result<Taps, NativeError> {
        self.check_parts()?;
        let whole = Sequence { tokens: sequence.tokens.clone(), first_target: sequence.tokens.len().max(1) };
        check_sequence("tap", self, &|| "the sequence".into(), &whole)?;
        Ok(tap(self, &whole, &ForwardOptions { threads: 1, ..Default::default() }))
    }

    /// What a hidden state would predict if the model ended there: final norm, then the output matrix (the "logit
    /// lens"). `states` are rows `[n, d]` of [`Taps::hidden`]; returns logits `[n, V]`.
    pub fn read_out(&self, states: &[f32]) -> Result<Vec<f32>, NativeError> {
        self.check_parts()?;
        let (c, d) = (self.config(), self.config().hidden_size);
        if !states.len().is_multiple_of(d) {
            let problem = format!("{} numbers are not rows of {d}", states.len());
            return Err(NativeError::argument("read_out", problem, "give rows of the hidden size"));
        }
        let n = states.len() / d;
        let (mut normed, mut inverse) = (vec![0.0; n * d], vec![0.0; n]);
        let weight = &self.parameters[self.layout().final_norm.clone()];
        crate::kernels::rms_norm(states, weight, c.rms_norm_eps, &mut normed, &mut inverse);
        let mut logits = vec![0.0; n * c.vocab_size];
        crate::matrix::product(
            (n, c.vocab_size, d),
            crate::matrix::Matrix::rows(&normed, d),
            crate::matrix::Matrix::rows(&self.parameters[self.layout().output.clone()], d).transposed(),
            &mut logits,
            c.vocab_size,
            1.0,
            crate::matrix::Into::Replace,
        );
        Ok(logits)
    }
}
