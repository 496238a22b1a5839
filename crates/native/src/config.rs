//! The shape of a model, read from and written as Hugging Face `config.json`.

use serde::{Deserialize, Serialize};

/// Shape of a Llama-style decoder: RMSNorm, RoPE, SwiGLU, grouped-query attention.
///
/// One struct serves `llama`, `qwen2` (biases on q, k, v) and `qwen3` (RMSNorm on each head of q and k).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// V, rows of the embedding.
    pub vocab_size: usize,
    /// d, width of the residual stream.
    pub hidden_size: usize,
    /// Width of the SwiGLU layer.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head; even.
    pub head_dim: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// ε of every RMSNorm.
    pub rms_norm_eps: f32,
    /// Longest sequence.
    pub max_positions: usize,
    /// Whether the output matrix is the embedding.
    pub tie_embeddings: bool,
    /// Biases on q, k and v (Qwen2).
    pub qkv_bias: bool,
    /// RMSNorm on each head of q and k before RoPE (Qwen3).
    pub qk_norm: bool,
    /// Tokens that end a generation.
    pub eos_token_ids: Vec<u32>,
}

/// A configuration that cannot be.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("model configuration: field `{field}` {problem}\nhint: {hint}")]
pub struct ConfigError {
    /// The field.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
    /// What to do.
    pub hint: &'static str,
}

impl ModelConfig {
    /// Checks what the arithmetic needs.
    pub fn check(&self) -> Result<(), ConfigError> {
        let positive = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("layers", self.layers),
            ("heads", self.heads),
            ("kv_heads", self.kv_heads),
            ("head_dim", self.head_dim),
            ("max_positions", self.max_positions),
        ];
        for (field, value) in positive {
            // Far above any model; keeps products of sizes from overflowing before a file is even opened.
            if value > 1 << 24 || (field == "layers" && value > 1 << 12) {
                return Err(ConfigError {
                    field,
                    problem: format!("is {value}"),
                    hint: "the number is implausibly large",
                });
            }
            if value == 0 {
                return Err(ConfigError {
                    field,
                    problem: "is 0".into(),
                    hint: "give a positive whole number",
                });
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(ConfigError {
                field: "kv_heads",
                problem: format!("is {}, which does not divide heads = {}", self.kv_heads, self.heads),
                hint: "each key/value head serves the same number of query heads",
            });
        }
        for (field, value) in [("rope_theta", self.rope_theta), ("rms_norm_eps", self.rms_norm_eps)] {
            if !(value.is_finite() && value > 0.0) {
                return Err(ConfigError {
                    field,
                    problem: format!("is {value}"),
                    hint: "give a positive number",
                });
            }
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(ConfigError {
                field: "head_dim",
                problem: format!("is {}, an odd number", self.head_dim),
                hint: "rotary embedding turns pairs of numbers, so the head must have an even width",
            });
        }
        Ok(())
    }

    /// Width of all query heads together.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key heads (or value heads) together.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}
