//! Weights in the order in which the products read them.

use super::kernel::{HeadShape, Kernels, PAGE};
use super::simd::LANES;
use crate::{Model, ModelConfig};
use std::sync::OnceLock;

/// Positions of one block of the rotation table.
const ROTATION_BLOCK: usize = 256;

/// A matrix `[out, in]` as panels of 16 outputs, each `[in][16]`; outputs are padded with zeros.
pub(super) struct Panels {
    pub inputs: usize,
    pub panels: usize,
    pub numbers: Vec<f32>,
}

impl Panels {
    /// Packs rows of a row-major matrix in the order given; `None` is a row of zeros.
    fn pack(weights: &[f32], inputs: usize, rows: impl Iterator<Item = Option<usize>>) -> Self {
        let rows: Vec<Option<usize>> = rows.collect();
        let panels = rows.len().div_ceil(LANES);
        let mut numbers = vec![0.0; panels * inputs * LANES];
        for (place, row) in rows.iter().enumerate() {
            let Some(row) = row else { continue };
            let panel = &mut numbers[place / LANES * inputs * LANES..];
            for (k, &weight) in weights[row * inputs..(row + 1) * inputs].iter().enumerate() {
                panel[k * LANES + place % LANES] = weight;
            }
        }
        Panels { inputs, panels, numbers }
    }

    fn all(weights: &[f32], inputs: usize) -> Self {
        Self::pack(weights, inputs, (0..weights.len() / inputs).map(Some))
    }
}

/// One block.
pub(super) struct PackedBlock {
    pub attention_norm: Vec<f32>,
    pub qkv: Panels,
    /// Padded; zeros without biases.
    pub qkv_bias: Option<Vec<f32>>,
    pub query_norm: Option<Vec<f32>>,
    pub key_norm: Option<Vec<f32>>,
    pub output: Panels,
    pub mlp_norm: Vec<f32>,
    /// Panels in pairs: 16 of gate, 16 of up.
    pub gate_up: Panels,
    pub down: Panels,
}

/// Widths of the rows of the work buffers: padded to whole vectors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Widths {
    pub hidden: usize,
    pub qkv: usize,
    pub query: usize,
    pub intermediate: usize,
    pub logits: usize,
}

/// All weights.
pub(super) struct PackedModel {
    pub config: ModelConfig,
    /// `[V][d]`, as it was.
    pub embedding: Vec<f32>,
    pub blocks: Vec<PackedBlock>,
    pub final_norm: Vec<f32>,
    pub head: Panels,
    pub widths: Widths,
    pub kernels: &'static Kernels,
    rotations: Vec<OnceLock<Vec<f32>>>,
    frequencies: Vec<f32>,
}

fn padded(numbers: &[f32]) -> Vec<f32> {
    let mut padded = numbers.to_vec();
    padded.resize(numbers.len().next_multiple_of(LANES), 0.0);
    padded
}

impl PackedModel {
    /// Packs a model; an adapter is folded in.
    pub(super) fn new(model: &Model, kernels: &'static Kernels) -> Self {
        if model.adapter.is_some() {
            return Self::new(&model.merged(), kernels);
        }
        let (config, layout) = (model.config(), model.layout());
        let (d, f) = (config.hidden_size, config.intermediate_size);
        let part = |range: &std::ops::Range<usize>| &model.parameters[range.clone()];
        let optional = |range: &std::ops::Range<usize>| (!range.is_empty()).then(|| part(range).to_vec());
        let blocks = layout.blocks.iter().map(|block| {
            let pairs = (0..f.div_ceil(LANES)).flat_map(|panel| {
                let rows = move |offset: usize| {
                    (panel * LANES..(panel + 1) * LANES).map(move |row| (row < f).then_some(row + offset))
                };
                rows(0).chain(rows(f))
            });
            PackedBlock {
                attention_norm: padded(part(&block.attention_norm)),
                qkv: Panels::all(part(&block.qkv), d),
                qkv_bias: (!block.qkv_bias.is_empty()).then(|| padded(part(&block.qkv_bias))),
                query_norm: optional(&block.q_norm),
                key_norm: optional(&block.k_norm),
                output: Panels::all(part(&block.output), config.query_width()),
                mlp_norm: padded(part(&block.mlp_norm)),
                gate_up: Panels::pack(part(&block.gate_up), d, pairs),
                down: Panels::all(part(&block.down), f),
            }
        });
        let half = config.head_dim / 2;
        // As Hugging Face computes them: frequencies and angles in single precision.
        let frequencies = (0..half)
            .map(|i| 1.0 / f64::from(config.rope_theta).powf(2.0 * i as f64 / config.head_dim as f64))
            .map(|frequency| frequency as f32)
            .collect();
        PackedModel {
            blocks: blocks.collect(),
            embedding: part(&layout.embedding).to_vec(),
            final_norm: padded(part(&layout.final_norm)),
            head: Panels::all(part(&layout.output), d),
            widths: Widths {
                hidden: d.next_multiple_of(LANES),
                qkv: (config.query_width() + 2 * config.kv_width()).next_multiple_of(LANES),
                query: config.query_width().next_multiple_of(LANES),
                intermediate: f.next_multiple_of(LANES),
                logits: config.vocab_size.next_multiple_of(LANES),
            },
            kernels,
            rotations: (0..config.max_positions.div_ceil(ROTATION_BLOCK)).map(|_| OnceLock::new()).collect(),
            frequencies,
            config: config.clone(),
        }
    }

    /// cos `[head_dim/2]`, then sin, of a position.
    pub(super) fn rotation(&self, position: usize) -> *const f32 {
        let width = self.config.head_dim;
        let block = position / ROTATION_BLOCK;
        let numbers = self.rotations[block].get_or_init(|| {
            let mut numbers = vec![0.0; ROTATION_BLOCK * width];
            for (i, row) in numbers.chunks_exact_mut(width).enumerate() {
                let position = (block * ROTATION_BLOCK + i) as f32;
                for (j, frequency) in self.frequencies.iter().enumerate() {
                    let (sin, cos) = f64::from(position * frequency).sin_cos();
                    row[j] = cos as f32;
                    row[width / 2 + j] = sin as f32;
                }
            }
            numbers
        });
        numbers[position % ROTATION_BLOCK * width..].as_ptr()
    }

    /// Shape of attention in a block.
    pub(super) fn head_shape(&self, block: usize) -> HeadShape {
        let config = &self.config;
        let value_stride = config.head_dim.next_multiple_of(LANES);
        let pointer = |norm: &Option<Vec<f32>>| norm.as_ref().map_or(core::ptr::null(), |norm| norm.as_ptr());
        HeadShape {
            head_dim: config.head_dim,
            group: config.heads / config.kv_heads,
            query_width: config.query_width(),
            kv_width: config.kv_width(),
            value_stride,
            page_head: PAGE * (config.head_dim + value_stride),
            eps: config.rms_norm_eps,
            scale: 1.0 / (config.head_dim as f32).sqrt(),
            query_norm: pointer(&self.blocks[block].query_norm),
            key_norm: pointer(&self.blocks[block].key_norm),
        }
    }

    /// Numbers of one block in a page.
    pub(super) fn page_block(&self) -> usize {
        self.config.kv_heads * PAGE * (self.config.head_dim + self.config.head_dim.next_multiple_of(LANES))
    }

    /// Numbers of a page.
    pub(super) fn page_numbers(&self) -> usize {
        self.config.layers * self.page_block()
    }
}
