//! Sequences laid end to end, and the activations kept for them.

use crate::random::mix_all;
use crate::{ModelConfig, Sequence};

/// One sequence within a pack.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    /// First row.
    pub start: usize,
    /// Rows, T.
    pub length: usize,
    /// As in [`Sequence`].
    pub first_target: usize,
    /// Identifies its dropout masks.
    pub key: u64,
}

impl Segment {
    pub(crate) fn targets(&self) -> usize {
        self.length - self.first_target
    }
}

/// Sequences laid end to end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pack {
    pub tokens: Vec<u32>,
    pub segments: Vec<Segment>,
    /// Rows from which a token is predicted, in order.
    pub target_rows: Vec<usize>,
    /// The token each of them predicts.
    pub target_tokens: Vec<u32>,
    /// Longest segment.
    pub longest: usize,
}

impl Pack {
    pub(crate) fn rows(&self) -> usize {
        self.tokens.len()
    }

    /// Appends a checked sequence.
    pub(crate) fn push(&mut self, sequence: &Sequence, key: u64) {
        let start = self.tokens.len();
        let length = sequence.tokens.len();
        self.tokens.extend_from_slice(&sequence.tokens);
        self.target_rows.extend((sequence.first_target..length).map(|t| start + t - 1));
        self.target_tokens.extend_from_slice(&sequence.tokens[sequence.first_target..]);
        self.segments.push(Segment { start, length, first_target: sequence.first_target, key });
        self.longest = self.longest.max(length);
    }
}

/// Places where dropout acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Site {
    Embedding,
    Attention(usize),
    Mlp(usize),
    Adapter(usize, crate::Linear),
}

impl Site {
    fn number(self) -> u64 {
        match self {
            Site::Embedding => 0,
            Site::Attention(layer) => 1 + 16 * layer as u64,
            Site::Mlp(layer) => 2 + 16 * layer as u64,
            Site::Adapter(layer, linear) => 3 + linear as u64 + 16 * layer as u64,
        }
    }

    /// Key of the mask of one row.
    pub(crate) fn key(self, segment: &Segment, position: usize) -> u64 {
        mix_all(&[segment.key, self.number(), position as u64])
    }
}

/// How many blocks keep their activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keep {
    /// Blocks from this one on keep theirs; those below share one place and are overwritten.
    pub from: usize,
}

impl Keep {
    /// Nothing is walked back.
    pub(crate) fn nothing(config: &ModelConfig) -> Self {
        Keep { from: config.layers }
    }

    pub(crate) fn slot(self, layer: usize) -> usize {
        layer.saturating_sub(self.from)
    }

    /// Slot of residual stage `stage`: 0 the embedding, `2 l + 1` after the attention of block `l`, `2 l + 2` after it.
    pub(crate) fn stage(self, stage: usize) -> usize {
        stage.saturating_sub(2 * self.from)
    }
}

/// Activations of one pack. Buffers only grow, so that steps of equal shape allocate nothing.
#[derive(Debug, Default)]
pub(crate) struct Activations {
    /// Residual stream, `[stages][n, d]`.
    pub residual: Vec<f32>,
    /// RMSNorm factors, `[stages][n]`; the factor of stage `s` normalises what is read from it.
    pub inverse: Vec<f32>,
    /// q, k (after norm and rotation) and v, `[slots][n, q + 2 kv]`.
    pub qkv: Vec<f32>,
    /// q and k before their norm (Qwen3), `[slots][n, q + kv]`.
    pub qk_raw: Vec<f32>,
    /// RMSNorm factors of each head of q and k, `[slots][n, heads + kv_heads]`.
    pub qk_inverse: Vec<f32>,
    /// Output of attention before its matrix, `[slots][n, q]`.
    pub attended: Vec<f32>,
    /// Log-normaliser of each row of attention, `[slots][heads, n]`.
    pub attention_normaliser: Vec<f32>,
    /// `[slots][n, 2 f]`
    pub gate_up: Vec<f32>,
    /// State after the final norm, `[n, d]`.
    pub last: Vec<f32>,
    /// Rows of `last` that predict a token, `[targets, d]`.
    pub predicting: Vec<f32>,
    /// Log-normaliser of each of these.
    pub log_normalisers: Vec<f32>,
    /// Log-probability of each target.
    pub logprobs: Vec<f32>,
    /// Entropy of each of these distributions.
    pub entropies: Vec<f32>,
    /// Values of each scalar head, `[heads][n]`.
    pub head_values: Vec<f32>,
}

/// Makes a buffer at least this long.
pub(crate) fn ensure(buffer: &mut Vec<f32>, length: usize) {
    if buffer.len() < length {
        // Exact: growth by doubling would waste memory in the largest buffers.
        buffer.reserve_exact(length - buffer.len());
        buffer.resize(length, 0.0);
    }
}

impl Activations {
    /// Makes room for `n` rows of which `targets` predict.
    pub(crate) fn prepare(&mut self, c: &ModelConfig, keep: Keep, n: usize, targets: usize, heads: usize) {
        let slots = (c.layers - keep.from).max(1);
        let stages = 2 * (c.layers - keep.from) + 1;
        ensure(&mut self.residual, stages * n * c.hidden_size);
        ensure(&mut self.inverse, stages * n);
        ensure(&mut self.qkv, slots * n * (c.query_width() + 2 * c.kv_width()));
        if c.qk_norm {
            ensure(&mut self.qk_raw, slots * n * (c.query_width() + c.kv_width()));
            ensure(&mut self.qk_inverse, slots * n * (c.heads + c.kv_heads));
        }
        ensure(&mut self.attended, slots * n * c.query_width());
        ensure(&mut self.attention_normaliser, slots * n * c.heads);
        ensure(&mut self.gate_up, slots * n * 2 * c.intermediate_size);
        ensure(&mut self.last, n * c.hidden_size);
        ensure(&mut self.predicting, targets * c.hidden_size);
        ensure(&mut self.log_normalisers, targets);
        ensure(&mut self.logprobs, targets);
        ensure(&mut self.entropies, targets);
        ensure(&mut self.head_values, heads * n);
    }

    /// Bytes kept for one row, to bound how many packs are kept at once.
    pub(crate) fn bytes_per_row(c: &ModelConfig, keep: Keep) -> usize {
        let layers = (c.layers - keep.from).max(1);
        let qk = if c.qk_norm { c.query_width() + c.kv_width() } else { 0 };
        let block = 2 * c.hidden_size + 2 * c.query_width() + 2 * c.kv_width() + qk + 2 * c.intermediate_size;
        4 * (layers * block + 3 * c.hidden_size)
    }
}

/// Buffers of the low-rank products.
#[derive(Debug, Default)]
pub(crate) struct AdapterScratch {
    /// `[n, in]`: dropped-out input.
    pub input: Vec<f32>,
    /// `[n, r]`: low-rank middle.
    pub middle: Vec<f32>,
    /// `[n, r]`: gradient of it.
    pub d_middle: Vec<f32>,
    /// `[n, in]`: gradient of the dropped-out input.
    pub d_input: Vec<f32>,
}

/// Buffers of one worker that live only within a pass.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// `[n, d]`: the normed input of a product.
    pub normed: Vec<f32>,
    /// `[n, f]`: the activation that the down matrix reads.
    pub act: Vec<f32>,
    /// `[n, d]`: what a branch adds to the residual stream, or the gradient of it.
    pub branch: Vec<f32>,
    /// `[n, d]`: gradient of the residual stream.
    pub d_residual: Vec<f32>,
    /// `[n, d]`: gradient of a normed input.
    pub d_normed: Vec<f32>,
    /// `[n, q + 2 kv]`
    pub d_qkv: Vec<f32>,
    /// `[n, q]`
    pub d_attended: Vec<f32>,
    /// `[n, 2 f]`
    pub d_gate_up: Vec<f32>,
    /// `[n, f]`
    pub d_act: Vec<f32>,
    /// One block of attention scores.
    pub scores: Vec<f32>,
    /// Gradient of that block.
    pub d_scores: Vec<f32>,
    /// `[n]`: one number per row.
    pub row: Vec<f32>,
    /// q and k of one row.
    pub qk_row: Vec<f32>,
    /// Some rows of logits.
    pub logits: Vec<f32>,
    /// One row of logits.
    pub logits_row: Vec<f32>,
    /// Buffers of the adapters.
    pub adapter: AdapterScratch,
    /// Rotary tables: per position `head_dim / 2` cosines, then sines.
    pub rotary: Vec<f32>,
    /// Positions they hold, and the shape they were made for.
    pub rotary_of: (usize, usize, f32),
    /// Tables of every row of the pack, `[n, head_dim]`.
    pub rotary_rows: Vec<f32>,
}

impl Scratch {
    /// Tables of cosines and sines for every row of a pack.
    pub(crate) fn prepare_rotary(&mut self, c: &ModelConfig, pack: &Pack) {
        let (positions, head_dim, theta) = self.rotary_of;
        if positions < pack.longest || head_dim != c.head_dim || theta != c.rope_theta {
            let positions = pack.longest.max(64).next_power_of_two().min(c.max_positions.max(pack.longest));
            self.rotary = rotary_tables(c, positions);
            self.rotary_of = (positions, c.head_dim, c.rope_theta);
        }
        self.rotary_rows.clear();
        for segment in &pack.segments {
            self.rotary_rows.extend_from_slice(&self.rotary[..segment.length * c.head_dim]);
        }
    }
}

/// cos and sin of `position · theta^(-2i / head_dim)`, computed in f64.
fn rotary_tables(c: &ModelConfig, positions: usize) -> Vec<f32> {
    let half = c.head_dim / 2;
    let frequency = |i: usize| f64::from(c.rope_theta).powf(-(2.0 * i as f64) / c.head_dim as f64);
    let frequencies: Vec<f64> = (0..half).map(frequency).collect();
    let mut tables = Vec::with_capacity(positions * c.head_dim);
    for position in 0..positions {
        let angles = frequencies.iter().map(|f| f * position as f64);
        tables.extend(angles.clone().map(|a| a.cos() as f32));
        tables.extend(angles.map(|a| a.sin() as f32));
    }
    tables
}
