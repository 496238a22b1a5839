//! LoRA: a trained low-rank difference beside frozen matrices (Hu et al. 2021, arXiv 2106.09685).

use crate::matrix::{Into, Matrix, product};
use crate::random::Normal;
use crate::{ConfigError, Model, ModelConfig};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// The matrices of a block, in the order of the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Linear {
    /// `self_attn.q_proj`
    #[serde(rename = "q_proj")]
    Query,
    /// `self_attn.k_proj`
    #[serde(rename = "k_proj")]
    Key,
    /// `self_attn.v_proj`
    #[serde(rename = "v_proj")]
    Value,
    /// `self_attn.o_proj`
    #[serde(rename = "o_proj")]
    Output,
    /// `mlp.gate_proj`
    #[serde(rename = "gate_proj")]
    Gate,
    /// `mlp.up_proj`
    #[serde(rename = "up_proj")]
    Up,
    /// `mlp.down_proj`
    #[serde(rename = "down_proj")]
    Down,
}

impl Linear {
    /// All of them.
    pub const ALL: [Linear; 7] =
        [Linear::Query, Linear::Key, Linear::Value, Linear::Output, Linear::Gate, Linear::Up, Linear::Down];

    /// `[out, in]`.
    pub(crate) fn shape(self, config: &ModelConfig) -> (usize, usize) {
        let (d, f) = (config.hidden_size, config.intermediate_size);
        match self {
            Linear::Query => (config.query_width(), d),
            Linear::Key | Linear::Value => (config.kv_width(), d),
            Linear::Output => (d, config.query_width()),
            Linear::Gate | Linear::Up => (f, d),
            Linear::Down => (d, f),
        }
    }

    /// Path of the matrix within its block, as Hugging Face names it.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Linear::Query => "self_attn.q_proj",
            Linear::Key => "self_attn.k_proj",
            Linear::Value => "self_attn.v_proj",
            Linear::Output => "self_attn.o_proj",
            Linear::Gate => "mlp.gate_proj",
            Linear::Up => "mlp.up_proj",
            Linear::Down => "mlp.down_proj",
        }
    }
}

/// Shape and strength of an adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraConfig {
    /// r, rank of the difference.
    pub rank: usize,
    /// α; the difference is scaled by α / r.
    pub alpha: f32,
    /// Probability with which an input of the adapter is zeroed in training.
    pub dropout: f32,
    /// Which matrices of every block get one.
    pub targets: Vec<Linear>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        LoraConfig { rank: 8, alpha: 16.0, dropout: 0.0, targets: vec![Linear::Query, Linear::Value] }
    }
}

/// One low-rank pair: `y += (α / r) B A dropout(x)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoraPlace {
    /// `[r, in]`
    pub a: Range<usize>,
    /// `[out, r]`
    pub b: Range<usize>,
}

/// An adapter for every block of one model shape.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraAdapter {
    config: LoraConfig,
    /// Every A and B, block by block in the order of the configured targets: A `[r, in]`, then B `[out, r]`.
    pub numbers: Vec<f32>,
    places: Vec<[Option<LoraPlace>; 7]>,
}

impl LoraAdapter {
    /// A fresh adapter: A uniform-variance normal with deviation `1 / sqrt(in)`, B zero, so it changes nothing yet.
    pub fn new(shape: &ModelConfig, config: LoraConfig, seed: u64) -> Result<Self, ConfigError> {
        let mut adapter = Self::zeros(shape, config)?;
        let mut normal = Normal::new(seed);
        for block in adapter.places.clone() {
            for (linear, place) in Linear::ALL.into_iter().zip(block) {
                let Some(place) = place else { continue };
                let deviation = 1.0 / (linear.shape(shape).1 as f32).sqrt();
                normal.fill(&mut adapter.numbers[place.a], deviation);
            }
        }
        Ok(adapter)
    }

    /// An adapter with every number 0.
    pub(crate) fn zeros(shape: &ModelConfig, config: LoraConfig) -> Result<Self, ConfigError> {
        shape.check()?;
        let refuse = |problem: String, hint| Err(ConfigError { field: "adapter", problem, hint });
        if config.rank == 0 || config.targets.is_empty() {
            return refuse(
                format!("has rank {} on {} matrices", config.rank, config.targets.len()),
                "give a rank of at least 1 and at least one target",
            );
        }
        let repeated = (1..config.targets.len()).any(|i| config.targets[..i].contains(&config.targets[i]));
        if repeated || !(0.0..1.0).contains(&config.dropout) || !config.alpha.is_finite() {
            return refuse(
                format!(
                    "has targets {:?}, dropout {}, alpha {}",
                    config.targets, config.dropout, config.alpha
                ),
                "name each matrix once, dropout in 0..1, alpha finite",
            );
        }
        let (mut places, mut next) = (Vec::with_capacity(shape.layers), 0);
        for _ in 0..shape.layers {
            let mut block = [const { None }; 7];
            for (slot, linear) in block.iter_mut().zip(Linear::ALL) {
                if config.targets.contains(&linear) {
                    let (out, input) = linear.shape(shape);
                    let a = next..next + config.rank * input;
                    let b = a.end..a.end + out * config.rank;
                    next = b.end;
                    *slot = Some(LoraPlace { a, b });
                }
            }
            places.push(block);
        }
        Ok(LoraAdapter { config, numbers: vec![0.0; next], places })
    }

    /// Its settings.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// α / r.
    pub fn scale(&self) -> f32 {
        self.config.alpha / self.config.rank as f32
    }

    pub(crate) fn place(&self, layer: usize, linear: Linear) -> Option<&LoraPlace> {
        self.places.get(layer).and_then(|block| block[linear as usize].as_ref())
    }

    /// Whether it was made for this shape.
    pub(crate) fn check(&self, shape: &ModelConfig) -> Result<(), ConfigError> {
        let wanted = LoraAdapter::zeros(shape, self.config.clone())?;
        if wanted.places == self.places && wanted.numbers.len() == self.numbers.len() {
            return Ok(());
        }
        Err(ConfigError {
            field: "adapter",
            problem: format!(
                "holds {} numbers for {} blocks, this model needs {} for {}",
                self.numbers.len(),
                self.places.len(),
                wanted.numbers.len(),
                wanted.places.len()
            ),
            hint: "an adapter only fits the model shape it was trained on",
        })
    }
}

impl Model {
    /// The same function without an adapter: every difference added into its matrix. Decoding needs this.
    pub fn merged(&self) -> Model {
        let mut model = self.clone();
        let Some(adapter) = model.adapter.take() else { return model };
        let (shape, scale, rank) = (model.config().clone(), adapter.scale(), adapter.config.rank);
        for layer in 0..shape.layers {
            for linear in Linear::ALL {
                let Some(place) = adapter.place(layer, linear) else { continue };
                let (out, input) = linear.shape(&shape);
                let start = model.layout().linear(layer, linear, &shape);
                let (a, b) = (&adapter.numbers[place.a.clone()], &adapter.numbers[place.b.clone()]);
                let matrix = &mut model.parameters[start..start + out * input];
                let (a, b) = (Matrix::rows(a, input), Matrix::rows(b, rank));
                product((out, input, rank), b, a, matrix, input, scale, Into::Add);
            }
        }
        model
    }
}
