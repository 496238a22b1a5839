//! Looking inside: hidden states and attention of one sequence, and what it would say with heads turned down.

use crate::matrix::{Into, Matrix, product};
use crate::sequence::check_sequence;
use crate::train::Inside;
use crate::{Model, NativeError, Sequence};

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

/// One head of one block is kept, the others of that block are turned down; other blocks are left alone.
///
/// The scaling acts on what a head hands to the output projection: behind the projection the numbers of a row are sums
/// over all heads, and a slice of them belongs to no head.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeadMask {
    /// The block, from 0.
    pub layer: usize,
    /// The head that is kept, from 0.
    pub keep: usize,
    /// k: what the outputs of the other heads are multiplied by; 0 silences them, 1 changes nothing.
    pub factor: f32,
}

impl HeadMask {
    /// Scales rows `[n, q_width]` of attended values.
    pub(crate) fn apply(&self, attended: &mut [f32], head_dim: usize, q_width: usize) {
        for row in attended.chunks_exact_mut(q_width) {
            for (head, values) in row.chunks_exact_mut(head_dim).enumerate() {
                if head != self.keep {
                    values.iter_mut().for_each(|value| *value *= self.factor);
                }
            }
        }
    }
}

impl Model {
    fn inside(
        &self,
        operation: &'static str,
        sequence: &Sequence,
        mask: Option<HeadMask>,
    ) -> Result<Inside<'_>, NativeError> {
        self.check_parts()?;
        let whole = Sequence { tokens: sequence.tokens.clone(), first_target: sequence.tokens.len().max(1) };
        check_sequence(operation, self, &|| "the sequence".into(), &whole)?;
        if let Some(mask) = mask {
            self.check_layer(operation, mask.layer, self.config().layers)?;
            let heads = self.config().heads;
            if mask.keep >= heads || !mask.factor.is_finite() {
                let problem =
                    format!("head {} with factor {} of a model with {heads} heads", mask.keep, mask.factor);
                let hint = "heads count from 0; the factor is a finite number, 0 to silence the others";
                return Err(NativeError::argument(operation, problem, hint));
            }
        }
        Ok(Inside::run(self, &whole, mask))
    }

    fn check_layer(&self, operation: &'static str, layer: usize, end: usize) -> Result<(), NativeError> {
        if layer < end {
            return Ok(());
        }
        let problem = format!("layer {layer} of {end}");
        Err(NativeError::argument(operation, problem, "layers count from 0"))
    }

    /// Runs one sequence and returns its hidden states and attention. `first_target` is not used.
    pub fn tap(&self, sequence: &Sequence) -> Result<Taps, NativeError> {
        let mut inside = self.inside("tap", sequence, None)?;
        let layers = self.config().layers;
        Ok(Taps {
            tokens: inside.tokens,
            hidden_size: self.config().hidden_size,
            hidden: (0..=layers).map(|layer| inside.hidden(layer).to_vec()).collect(),
            last: inside.last().to_vec(),
            attention: (0..layers).map(|layer| inside.attention(layer)).collect(),
        })
    }

    /// Attention probabilities `[heads, T, T]` of one block alone: what [`Model::tap`] has of it, for less.
    pub fn tap_attention(&self, sequence: &Sequence, layer: usize) -> Result<Vec<f32>, NativeError> {
        self.check_layer("tap_attention", layer, self.config().layers)?;
        Ok(self.inside("tap_attention", sequence, None)?.attention(layer))
    }

    /// The residual stream at the last token, `[L + 1][d]`: embedding first, then behind each block, not normed.
    pub fn tap_states(&self, sequence: &Sequence) -> Result<Vec<Vec<f32>>, NativeError> {
        let inside = self.inside("tap_states", sequence, None)?;
        let at = (inside.tokens - 1) * self.config().hidden_size;
        Ok((0..=self.config().layers).map(|layer| inside.hidden(layer)[at..].to_vec()).collect())
    }

    /// Logits `[V]` of the token that would follow the sequence with heads turned down.
    pub fn tap_next(&self, sequence: &Sequence, mask: Option<HeadMask>) -> Result<Vec<f32>, NativeError> {
        let inside = self.inside("tap_next", sequence, mask)?;
        let at = (inside.tokens - 1) * self.config().hidden_size;
        Ok(self.vocabulary_of(&inside.last()[at..]))
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
        Ok(self.vocabulary_of(&normed))
    }

    /// Normed rows `[n, d]` times the output matrix: `[n, V]`.
    fn vocabulary_of(&self, normed: &[f32]) -> Vec<f32> {
        let (c, d) = (self.config(), self.config().hidden_size);
        let n = normed.len() / d;
        let mut logits = vec![0.0; n * c.vocab_size];
        let output = Matrix::rows(&self.parameters[self.layout().output.clone()], d).transposed();
        let size = (n, c.vocab_size, d);
        product(size, Matrix::rows(normed, d), output, &mut logits, c.vocab_size, 1.0, Into::Replace);
        logits
    }
}
