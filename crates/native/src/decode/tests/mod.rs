//! Decoding against a plain computation of the definition.

mod correctness;
mod requests;
mod sampling;
mod serving;

use super::*;
use crate::ModelConfig;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub(super) fn config(vocab_size: usize, hidden_size: usize, heads: usize, kv_heads: usize) -> ModelConfig {
    ModelConfig {
        vocab_size,
        hidden_size,
        intermediate_size: hidden_size * 5 / 2,
        layers: 2,
        heads,
        kv_heads,
        head_dim: 12,
        rope_theta: 10_000.0,
        rms_norm_eps: 1e-6,
        max_positions: 160,
        tie_embeddings: true,
        qkv_bias: false,
        qk_norm: false,
        eos_token_ids: Vec::new(),
    }
}

/// The kinds of model that the engine serves, with widths that are no multiples of a vector.
pub(super) fn variants() -> Vec<(&'static str, ModelConfig)> {
    let llama = config(50, 40, 4, 4);
    vec![
        ("llama", llama.clone()),
        ("llama, grouped queries, own head", ModelConfig { tie_embeddings: false, ..config(50, 40, 6, 2) }),
        ("qwen2", ModelConfig { qkv_bias: true, head_dim: 16, ..config(70, 48, 4, 2) }),
        ("qwen3", ModelConfig { qk_norm: true, head_dim: 32, rope_theta: 1e6, ..config(33, 64, 4, 1) }),
        ("many queries for one key", ModelConfig { head_dim: 8, ..config(50, 40, 14, 1) }),
    ]
}

/// Weights large enough that distributions are far from uniform.
pub(super) fn model(config: &ModelConfig, seed: u64) -> Model {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let layout = crate::Layout::new(config);
    let mut parameters = vec![0.0f32; layout.total()];
    for parameter in layout.parameters() {
        let matrix = parameter.shape.len() == 2;
        let scale = if matrix { 2.0 / (parameter.shape[1] as f32).sqrt() } else { 0.4 };
        for place in &mut parameters[parameter.range.clone()] {
            *place = scale * (random.random::<f32>() * 2.0 - 1.0);
            if !matrix && !parameter.name.ends_with("bias") {
                *place += 1.0;
            }
        }
    }
    Model::from_parameters(config.clone(), parameters).unwrap()
}

pub(super) fn prompt(config: &ModelConfig, length: usize, seed: u64) -> Vec<u32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..length).map(|_| random.random_range(0..config.vocab_size as u32)).collect()
}

pub(super) fn decoder(model: &Model, threads: usize, max_batch_rows: usize) -> Decoder {
    Decoder::new(model, DecoderOptions { threads, max_batch_rows, ..Default::default() }).unwrap()
}

/// A decoder on kernels of a given processor family.
pub(super) fn decoder_on(model: &Model, kernels: &'static Kernels) -> Decoder {
    let packed = Arc::new(PackedModel::new(model, kernels));
    Decoder { scheduler: Scheduler::new(packed, 2, 8, None).unwrap() }
}

/// log p of every token at every position: RMSNorm, rotary embedding by halves, causal softmax attention with grouped
/// queries, SwiGLU, all in double precision and one position at a time, from the named tensors.
pub(super) fn reference(model: &Model, tokens: &[u32]) -> Vec<Vec<f64>> {
    let c = model.config();
    let get = |name: &str| -> Option<Vec<f64>> {
        let parameter = model.layout().parameters().iter().find(|parameter| parameter.name == name)?;
        Some(model.parameters[parameter.range.clone()].iter().map(|&x| f64::from(x)).collect())
    };
    let norm = |x: &[f64], weight: &[f64]| -> Vec<f64> {
        let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        x.iter().zip(weight).map(|(x, w)| x / (mean + f64::from(c.rms_norm_eps)).sqrt() * w).collect()
    };
    let linear = |x: &[f64], weight: &[f64], bias: Option<Vec<f64>>| -> Vec<f64> {
        let mut y: Vec<f64> =
            weight.chunks(x.len()).map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect();
        for (y, b) in y.iter_mut().zip(bias.unwrap_or_default()) {
            *y += b;
        }
        y
    };
    let (dh, group) = (c.head_dim, c.heads / c.kv_heads);
    let rotate = |head: &mut [f64], position: usize| {
        for i in 0..dh / 2 {
            let angle = position as f64 / f64::from(c.rope_theta).powf(2.0 * i as f64 / dh as f64);
            let (a, b) = (head[i], head[i + dh / 2]);
            head[i] = a * angle.cos() - b * angle.sin();
            head[i + dh / 2] = b * angle.cos() + a * angle.sin();
        }
    };
    let embedding = get("model.embed_tokens.weight").unwrap();
    let mut hidden: Vec<Vec<f64>> = tokens
        .iter()
        .map(|&token| embedding[token as usize * c.hidden_size..][..c.hidden_size].to_vec())
        .collect();
    for layer in 0..c.layers {
        let tensor = |part: &str| get(&format!("model.layers.{layer}.{part}"));
        let weight = |part: &str| tensor(&format!("{part}.weight")).unwrap();
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (position, x) in hidden.iter_mut().enumerate() {
            let h = norm(x, &weight("input_layernorm"));
            let project = |part: &str| {
                linear(
                    &h,
                    &weight(&format!("self_attn.{part}_proj")),
                    tensor(&format!("self_attn.{part}_proj.bias")),
                )
            };
            let (mut q, mut k, v) = (project("q"), project("k"), project("v"));
            for (heads, part) in [(&mut q, "self_attn.q_norm"), (&mut k, "self_attn.k_norm")] {
                for head in heads.chunks_mut(dh) {
                    if c.qk_norm {
                        head.copy_from_slice(&norm(head, &weight(part)));
                    }
                    rotate(head, position);
                }
            }
            keys.push(k);
            values.push(v);
            let mut attended = vec![0.0; c.query_width()];
            for head in 0..c.heads {
                let (q, at) = (&q[head * dh..][..dh], head / group * dh);
                let scores: Vec<f64> = keys
                    .iter()
                    .map(|k| {
                        k[at..at + dh].iter().zip(q).map(|(a, b)| a * b).sum::<f64>() / (dh as f64).sqrt()
                    })
                    .collect();
                let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
                for (score, v) in scores.iter().zip(&values) {
                    for i in 0..dh {
                        attended[head * dh + i] += (score - largest).exp() / sum * v[at + i];
                    }
                }
            }
            for (x, y) in x.iter_mut().zip(linear(&attended, &weight("self_attn.o_proj"), None)) {
                *x += y;
            }
            let h = norm(x, &weight("post_attention_layernorm"));
            let (gate, up) =
                (linear(&h, &weight("mlp.gate_proj"), None), linear(&h, &weight("mlp.up_proj"), None));
            let activation: Vec<f64> =
                gate.iter().zip(&up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
            for (x, y) in x.iter_mut().zip(linear(&activation, &weight("mlp.down_proj"), None)) {
                *x += y;
            }
        }
    }
    let head = get("lm_head.weight").unwrap_or(embedding);
    hidden
        .iter()
        .map(|x| {
            let logits = linear(&norm(x, &get("model.norm.weight").unwrap()), &head, None);
            let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum = logits.iter().map(|logit| (logit - largest).exp()).sum::<f64>().ln() + largest;
            logits.iter().map(|logit| logit - sum).collect()
        })
        .collect()
}
