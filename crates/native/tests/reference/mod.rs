//! An independent decoder in f64: straight loops, no shared code with the engine, one sequence at a time.
//!
//! Differentiating it by central differences in f64 is exact to about 1e-9, so it judges the engine's own gradients.

#![allow(dead_code, reason = "each test file uses its own part")]

use elenchus_native::{Linear, Model, ModelConfig};
use std::collections::HashMap;

/// All numbers of a model in f64, by Hugging Face name; heads as `head.NAME`, adapters as `lora.LAYER.LINEAR.A`.
#[derive(Clone)]
pub struct Reference {
    pub config: ModelConfig,
    pub numbers: HashMap<String, Vec<f64>>,
    pub heads: Vec<(String, Option<usize>)>,
    pub adapter_scale: f64,
    pub adapter_rank: usize,
}

/// What it says about a sequence.
pub struct Said {
    pub logprobs: Vec<f64>,
    pub entropies: Vec<f64>,
    pub heads: Vec<Vec<f64>>,
    /// `[layers + 1][t][d]`
    pub hidden: Vec<Vec<Vec<f64>>>,
    /// `[layers][heads][t][t]`
    pub attention: Vec<Vec<Vec<Vec<f64>>>>,
}

/// `y = W x`, W row-major with rows as long as x.
fn apply(w: &[f64], x: &[f64]) -> Vec<f64> {
    w.chunks(x.len()).map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum()).collect()
}

fn plus(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

fn norm(x: &[f64], w: &[f64], epsilon: f64) -> Vec<f64> {
    let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
    x.iter().zip(w).map(|(x, w)| x / (mean + epsilon).sqrt() * w).collect()
}

fn softmax(z: &[f64]) -> Vec<f64> {
    let max = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let e: Vec<f64> = z.iter().map(|z| (z - max).exp()).collect();
    let total: f64 = e.iter().sum();
    e.into_iter().map(|e| e / total).collect()
}

/// Rotates the pairs (i, i + half) by `position · theta^(-2i/width)`.
fn turn(x: &[f64], position: usize, theta: f64) -> Vec<f64> {
    let half = x.len() / 2;
    let mut y = x.to_vec();
    for i in 0..half {
        let angle = position as f64 * theta.powf(-2.0 * i as f64 / x.len() as f64);
        y[i] = x[i] * angle.cos() - x[i + half] * angle.sin();
        y[i + half] = x[i] * angle.sin() + x[i + half] * angle.cos();
    }
    y
}

impl Reference {
    /// A copy of a model's numbers. `adapter_order` lists the adapted matrices in layout order.
    pub fn of(model: &Model) -> Self {
        let mut numbers = HashMap::new();
        let wide = |x: &[f32]| x.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
        for p in model.layout().parameters() {
            numbers.insert(p.name.clone(), wide(&model.parameters[p.range.clone()]));
        }
        for head in &model.heads {
            let mut both = wide(&head.weight);
            both.push(f64::from(head.bias));
            numbers.insert(format!("head.{}", head.name), both);
        }
        let (mut adapter_scale, mut adapter_rank) = (0.0, 0);
        if let Some(adapter) = &model.adapter {
            adapter_scale = f64::from(adapter.config().alpha) / adapter.config().rank as f64;
            adapter_rank = adapter.config().rank;
            let mut rest = &adapter.numbers[..];
            for layer in 0..model.config().layers {
                for linear in Linear::ALL.into_iter().filter(|l| adapter.config().targets.contains(l)) {
                    let (out, input) = shape(model.config(), linear);
                    for (part, length) in [("A", adapter_rank * input), ("B", out * adapter_rank)] {
                        let (here, behind) = rest.split_at(length);
                        rest = behind;
                        numbers.insert(format!("lora.{layer}.{linear:?}.{part}"), wide(here));
                    }
                }
            }
            assert!(rest.is_empty(), "the adapter's order is block by block, A then B");
        }
        let heads = model.heads.iter().map(|h| (h.name.clone(), h.layer)).collect();
        Reference { config: model.config().clone(), numbers, heads, adapter_scale, adapter_rank }
    }

    fn linear(&self, layer: usize, linear: Linear, path: &str, x: &[f64]) -> Vec<f64> {
        let name = format!("model.layers.{layer}.{path}");
        let mut y = apply(&self.numbers[&format!("{name}.weight")], x);
        if let Some(bias) = self.numbers.get(&format!("{name}.bias")) {
            y = plus(&y, bias);
        }
        if let Some(a) = self.numbers.get(&format!("lora.{layer}.{linear:?}.A")) {
            let middle = apply(a, x);
            let b = &self.numbers[&format!("lora.{layer}.{linear:?}.B")];
            let difference = apply(b, &middle);
            y = y.iter().zip(difference).map(|(y, d)| y + self.adapter_scale * d).collect();
        }
        y
    }

    fn head_values(&self, layer: Option<usize>, states: &[Vec<f64>], into: &mut [Vec<f64>]) {
        for (index, (name, reads)) in self.heads.iter().enumerate().filter(|(_, (_, reads))| *reads == layer)
        {
            let _ = reads;
            let numbers = &self.numbers[&format!("head.{name}")];
            let (weight, bias) = numbers.split_at(numbers.len() - 1);
            into[index] = states.iter().map(|s| apply(weight, s)[0] + bias[0]).collect();
        }
    }

    /// Runs the network.
    pub fn say(&self, tokens: &[u32], first_target: usize) -> Said {
        let c = &self.config;
        let (d, dh, epsilon) = (c.hidden_size, c.head_dim, f64::from(c.rms_norm_eps));
        let theta = f64::from(c.rope_theta);
        let embedding = &self.numbers["model.embed_tokens.weight"];
        let mut states: Vec<Vec<f64>> =
            tokens.iter().map(|t| embedding[*t as usize * d..(*t as usize + 1) * d].to_vec()).collect();
        let mut heads = vec![Vec::new(); self.heads.len()];
        let (mut hidden, mut attention) = (vec![states.clone()], Vec::new());
        self.head_values(Some(0), &states, &mut heads);
        for layer in 0..c.layers {
            let name = |part: &str| format!("model.layers.{layer}.{part}");
            let (mut q, mut k, mut v) = (Vec::new(), Vec::new(), Vec::new());
            for (position, state) in states.iter().enumerate() {
                let x = norm(state, &self.numbers[&name("input_layernorm.weight")], epsilon);
                let headed = |flat: Vec<f64>, normed: Option<&str>| -> Vec<Vec<f64>> {
                    flat.chunks(dh)
                        .map(|head| match normed {
                            None => head.to_vec(),
                            Some(part) => {
                                let head = match self.numbers.get(&name(part)) {
                                    Some(w) => norm(head, w, epsilon),
                                    None => head.to_vec(),
                                };
                                turn(&head, position, theta)
                            }
                        })
                        .collect()
                };
                q.push(headed(
                    self.linear(layer, Linear::Query, "self_attn.q_proj", &x),
                    Some("self_attn.q_norm.weight"),
                ));
                k.push(headed(
                    self.linear(layer, Linear::Key, "self_attn.k_proj", &x),
                    Some("self_attn.k_norm.weight"),
                ));
                v.push(headed(self.linear(layer, Linear::Value, "self_attn.v_proj", &x), None));
            }
            let mut weights = vec![vec![vec![0.0; tokens.len()]; tokens.len()]; c.heads];
            for (t, state) in states.iter_mut().enumerate() {
                let mut attended = Vec::new();
                for h in 0..c.heads {
                    let kv = h / (c.heads / c.kv_heads);
                    let scores: Vec<f64> =
                        (0..=t).map(|s| apply(&k[s][kv], &q[t][h])[0] / (dh as f64).sqrt()).collect();
                    let p = softmax(&scores);
                    let mut out = vec![0.0; dh];
                    for s in 0..=t {
                        weights[h][t][s] = p[s];
                        out = plus(&out, &v[s][kv].iter().map(|v| v * p[s]).collect::<Vec<_>>());
                    }
                    attended.extend(out);
                }
                *state = plus(state, &self.linear(layer, Linear::Output, "self_attn.o_proj", &attended));
                let x = norm(state, &self.numbers[&name("post_attention_layernorm.weight")], epsilon);
                let gate = self.linear(layer, Linear::Gate, "mlp.gate_proj", &x);
                let up = self.linear(layer, Linear::Up, "mlp.up_proj", &x);
                let act: Vec<f64> = gate.iter().zip(&up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
                *state = plus(state, &self.linear(layer, Linear::Down, "mlp.down_proj", &act));
            }
            attention.push(weights);
            hidden.push(states.clone());
            self.head_values(Some(layer + 1), &states, &mut heads);
        }
        let last: Vec<Vec<f64>> =
            states.iter().map(|s| norm(s, &self.numbers["model.norm.weight"], epsilon)).collect();
        self.head_values(None, &last, &mut heads);
        let output = self.numbers.get("lm_head.weight").unwrap_or(embedding);
        let (mut logprobs, mut entropies) = (Vec::new(), Vec::new());
        for t in first_target..tokens.len() {
            let p = softmax(&apply(output, &last[t - 1]));
            logprobs.push(p[tokens[t] as usize].ln());
            entropies.push(-p.iter().map(|p| p * p.ln()).sum::<f64>());
        }
        Said { logprobs, entropies, heads, hidden, attention }
    }
}

/// `[out, in]` of a matrix.
pub fn shape(c: &ModelConfig, linear: Linear) -> (usize, usize) {
    let (d, f, q, kv) = (c.hidden_size, c.intermediate_size, c.heads * c.head_dim, c.kv_heads * c.head_dim);
    match linear {
        Linear::Query => (q, d),
        Linear::Key | Linear::Value => (kv, d),
        Linear::Output => (d, q),
        Linear::Gate | Linear::Up => (f, d),
        Linear::Down => (d, f),
    }
}

/// Reproducible numbers in -1..1.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    pub fn below(&mut self, n: usize) -> usize {
        ((self.next() + 1.0) / 2.0 * n as f64) as usize % n
    }
}
