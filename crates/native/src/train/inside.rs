//! One sequence run forward with everything kept, to be looked into.

use super::attention::{self, HeadShape};
use super::forward::{Pass, forward, slot};
use super::pack::{Activations, Keep, Pack, Scratch};
use crate::{ForwardOptions, HeadMask, Model, Sequence};

/// What a forward pass over one sequence of T tokens left behind.
pub(crate) struct Inside<'a> {
    model: &'a Model,
    kept: Activations,
    scratch: Scratch,
    /// T.
    pub tokens: usize,
}

impl<'a> Inside<'a> {
    /// Runs a sequence that was checked.
    pub(crate) fn run(model: &'a Model, sequence: &Sequence, mask: Option<HeadMask>) -> Self {
        let options = ForwardOptions { threads: 1, ..Default::default() };
        let pass = Pass { model, options: &options, training: false, keep: Keep { from: 0 }, mask };
        let (mut pack, mut kept, mut scratch) = (Pack::default(), Activations::default(), Scratch::default());
        pack.push(sequence, 0);
        forward(&pass, &pack, &mut kept, &mut scratch);
        Inside { model, kept, scratch, tokens: pack.rows() }
    }

    /// The residual stream before block `layer` (0: the embedding; L: behind the last block), `[T, d]`.
    pub(crate) fn hidden(&self, layer: usize) -> &[f32] {
        slot(&self.kept.residual, 2 * layer, self.tokens * self.model.config().hidden_size)
    }

    /// The last of them behind the final norm, `[T, d]`.
    pub(crate) fn last(&self) -> &[f32] {
        &self.kept.last[..self.tokens * self.model.config().hidden_size]
    }

    /// Attention probabilities of a block, `[heads, T, T]`.
    pub(crate) fn attention(&mut self, layer: usize) -> Vec<f32> {
        let c = self.model.config();
        let (n, q_width, dh) = (self.tokens, c.query_width(), c.head_dim);
        let wide = q_width + 2 * c.kv_width();
        let shape = HeadShape { rows: n, width: dh, stride: wide, output_stride: q_width };
        let qkv = slot(&self.kept.qkv, layer, n * wide);
        let mut all = vec![0.0; c.heads * n * n];
        for (head, probabilities) in all.chunks_exact_mut(n * n).enumerate() {
            let kv = head / (c.heads / c.kv_heads) * dh;
            let (queries, keys) = (&qkv[head * dh..], &qkv[q_width + kv..]);
            attention::probabilities(shape, queries, keys, &mut self.scratch.scores, probabilities);
        }
        all
    }
}
