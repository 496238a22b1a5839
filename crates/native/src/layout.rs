//! Where each named parameter lives in the one flat vector that holds them all.
//!
//! Matrices are row-major `[out, in]` as in Hugging Face checkpoints, under the same names. q, k and v of a block
//! are neighbours, as are gate and up, so that each group is one fused matrix for a product.

use crate::{Linear, ModelConfig};
use std::ops::Range;

/// One named tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Hugging Face name, for example `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// `[out, in]` or `[width]`.
    pub shape: Vec<usize>,
    /// Place in the flat vector, in numbers (not bytes).
    pub range: Range<usize>,
}

impl Parameter {
    /// Whether weight decay applies: matrices yes, norms and biases no.
    pub fn is_matrix(&self) -> bool {
        self.shape.len() == 2
    }
}

/// Places of the parameters of one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlockLayout {
    pub attention_norm: Range<usize>,
    /// Fused `[query_width + 2 kv_width, d]`.
    pub qkv: Range<usize>,
    /// Fused biases, empty without.
    pub qkv_bias: Range<usize>,
    /// `[head_dim]`, empty without.
    pub q_norm: Range<usize>,
    /// `[head_dim]`, empty without.
    pub k_norm: Range<usize>,
    /// `[d, query_width]`.
    pub output: Range<usize>,
    pub mlp_norm: Range<usize>,
    /// Fused `[2 ffn, d]`: gate, then up.
    pub gate_up: Range<usize>,
    /// `[d, ffn]`.
    pub down: Range<usize>,
}

/// The map from names to places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    parameters: Vec<Parameter>,
    pub(crate) embedding: Range<usize>,
    pub(crate) blocks: Vec<BlockLayout>,
    pub(crate) final_norm: Range<usize>,
    /// The embedding when tied.
    pub(crate) output: Range<usize>,
    total: usize,
}

struct Builder {
    parameters: Vec<Parameter>,
    next: usize,
}

impl Builder {
    fn add(&mut self, name: String, shape: &[usize]) -> Range<usize> {
        let range = self.next..self.next + shape.iter().product::<usize>();
        self.next = range.end;
        self.parameters.push(Parameter { name, shape: shape.to_vec(), range: range.clone() });
        range
    }
}

impl Layout {
    /// The layout of a checked configuration.
    pub fn new(config: &ModelConfig) -> Self {
        let (d, f) = (config.hidden_size, config.intermediate_size);
        let (q, kv, dh) = (config.query_width(), config.kv_width(), config.head_dim);
        let mut b = Builder { parameters: Vec::new(), next: 0 };
        let embedding = b.add("model.embed_tokens.weight".into(), &[config.vocab_size, d]);
        let mut blocks = Vec::with_capacity(config.layers);
        for layer in 0..config.layers {
            let name = |part: &str| format!("model.layers.{layer}.{part}");
            let attention_norm = b.add(name("input_layernorm.weight"), &[d]);
            let start = b.next;
            b.add(name("self_attn.q_proj.weight"), &[q, d]);
            b.add(name("self_attn.k_proj.weight"), &[kv, d]);
            b.add(name("self_attn.v_proj.weight"), &[kv, d]);
            let qkv = start..b.next;
            let start = b.next;
            if config.qkv_bias {
                b.add(name("self_attn.q_proj.bias"), &[q]);
                b.add(name("self_attn.k_proj.bias"), &[kv]);
                b.add(name("self_attn.v_proj.bias"), &[kv]);
            }
            let qkv_bias = start..b.next;
            let (q_norm, k_norm) = if config.qk_norm {
                (b.add(name("self_attn.q_norm.weight"), &[dh]), b.add(name("self_attn.k_norm.weight"), &[dh]))
            } else {
                (b.next..b.next, b.next..b.next)
            };
            let output = b.add(name("self_attn.o_proj.weight"), &[d, q]);
            let mlp_norm = b.add(name("post_attention_layernorm.weight"), &[d]);
            let start = b.next;
            b.add(name("mlp.gate_proj.weight"), &[f, d]);
            b.add(name("mlp.up_proj.weight"), &[f, d]);
            let gate_up = start..b.next;
            let down = b.add(name("mlp.down_proj.weight"), &[d, f]);
            blocks.push(BlockLayout {
                attention_norm,
                qkv,
                qkv_bias,
                q_norm,
                k_norm,
                output,
                mlp_norm,
                gate_up,
                down,
            });
        }
        let final_norm = b.add("model.norm.weight".into(), &[d]);
        let output = if config.tie_embeddings {
            embedding.clone()
        } else {
            b.add("lm_head.weight".into(), &[config.vocab_size, d])
        };
        Layout { total: b.next, parameters: b.parameters, embedding, blocks, final_norm, output }
    }

    /// All parameters in order of place.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Where a matrix of a block starts.
    pub(crate) fn linear(&self, layer: usize, linear: Linear, config: &ModelConfig) -> usize {
        let block = &self.blocks[layer];
        let (d, f) = (config.hidden_size, config.intermediate_size);
        match linear {
            Linear::Query => block.qkv.start,
            Linear::Key => block.qkv.start + config.query_width() * d,
            Linear::Value => block.qkv.start + (config.query_width() + config.kv_width()) * d,
            Linear::Output => block.output.start,
            Linear::Gate => block.gate_up.start,
            Linear::Up => block.gate_up.start + f * d,
            Linear::Down => block.down.start,
        }
    }

    /// How many numbers the model has.
    pub fn total(&self) -> usize {
        self.total
    }
}
