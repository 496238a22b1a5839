//! A model: its shape and its numbers.

use crate::random::Normal;
use crate::scalar_head::{ScalarHead, check_heads};
use crate::{
    ConfigError, Engine, ForwardOptions, Gradient, Layout, LoraAdapter, ModelConfig, NativeError, Objective,
    Sequence, SequenceOutput,
};

/// A decoder with its weights as one flat vector.
#[derive(Debug, Clone)]
pub struct Model {
    config: ModelConfig,
    layout: Layout,
    /// All numbers, in the order of the layout.
    pub parameters: Vec<f32>,
    /// Scalar heads, trained beside the parameters and saved with them.
    pub heads: Vec<ScalarHead>,
    /// A LoRA adapter in use; [`Model::merged`] folds it in.
    pub adapter: Option<LoraAdapter>,
}

impl Model {
    /// A model from given numbers; `parameters.len()` must be the layout's total.
    pub fn from_parameters(config: ModelConfig, parameters: Vec<f32>) -> Result<Self, ConfigError> {
        config.check()?;
        let layout = Layout::new(&config);
        if parameters.len() != layout.total() {
            return Err(ConfigError {
                field: "parameters",
                problem: format!("hold {} numbers, the shape needs {}", parameters.len(), layout.total()),
                hint: "the weights belong to another shape",
            });
        }
        Ok(Model { config, layout, parameters, heads: Vec::new(), adapter: None })
    }

    /// A fresh model: matrices normal with deviation 0.02, those that write into the residual stream (o_proj,
    /// down_proj) with `0.02 / sqrt(2 L)`, norms 1, biases 0 (Radford et al. 2019). Same seed, same numbers.
    pub fn initialise(config: ModelConfig, seed: u64) -> Result<Self, ConfigError> {
        config.check()?;
        let layout = Layout::new(&config);
        let mut parameters = vec![0.0; layout.total()];
        let mut normal = Normal::new(seed);
        let residual = 0.02 / (2.0 * config.layers as f32).sqrt();
        for parameter in layout.parameters() {
            let numbers = &mut parameters[parameter.range.clone()];
            if parameter.is_matrix() {
                let writes =
                    parameter.name.ends_with("o_proj.weight") || parameter.name.ends_with("down_proj.weight");
                normal.fill(numbers, if writes { residual } else { 0.02 });
            } else if parameter.name.ends_with("norm.weight") {
                numbers.fill(1.0);
            }
        }
        Self::from_parameters(config, parameters)
    }

    /// The shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The places of the named parameters.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The head with this name and its index.
    pub fn head(&self, name: &str) -> Option<(usize, &ScalarHead)> {
        self.heads.iter().enumerate().find(|(_, head)| head.name == name)
    }

    /// Refuses parts that were changed into something that does not fit.
    pub(crate) fn check_parts(&self) -> Result<(), ConfigError> {
        if self.parameters.len() != self.layout.total() {
            return Err(ConfigError {
                field: "parameters",
                problem: format!(
                    "hold {} numbers, the shape needs {}",
                    self.parameters.len(),
                    self.layout.total()
                ),
                hint: "the vector may be changed, but not its length",
            });
        }
        check_heads(self)?;
        self.adapter.as_ref().map_or(Ok(()), |adapter| adapter.check(&self.config))
    }

    /// Moves every number towards `other`: `self = decay * self + (1 - decay) * other`, heads and adapter too.
    ///
    /// With a clone kept for reference and updated after each step this is the exponential moving average of the
    /// weights. Errors when the two models differ in shape, heads or adapter.
    pub fn average_with(&mut self, other: &Model, decay: f32) -> Result<(), NativeError> {
        let same_heads = self.heads.len() == other.heads.len()
            && self
                .heads
                .iter()
                .zip(&other.heads)
                .all(|(a, b)| a.name == b.name && a.weight.len() == b.weight.len());
        let adapter = |model: &Model| model.adapter.as_ref().map(|a| (a.config().clone(), a.numbers.len()));
        if self.config != other.config || !same_heads || adapter(self) != adapter(other) {
            return Err(NativeError::argument(
                "average_with",
                "the two models differ in shape, heads or adapter",
                "make the averaged copy with `clone`",
            ));
        }
        let blend = |mine: &mut f32, theirs: &f32| *mine = decay * *mine + (1.0 - decay) * theirs;
        self.parameters.iter_mut().zip(&other.parameters).for_each(|(a, b)| blend(a, b));
        for (mine, theirs) in self.heads.iter_mut().zip(&other.heads) {
            mine.weight.iter_mut().zip(&theirs.weight).for_each(|(a, b)| blend(a, b));
            blend(&mut mine.bias, &theirs.bias);
        }
        if let (Some(mine), Some(theirs)) = (&mut self.adapter, &other.adapter) {
            mine.numbers.iter_mut().zip(&theirs.numbers).for_each(|(a, b)| blend(a, b));
        }
        Ok(())
    }

    /// [`Engine::logprobs`] with a fresh engine: convenient for one call; keep an [`Engine`] for many.
    pub fn logprobs(
        &self,
        sequences: &[Sequence],
        options: &ForwardOptions,
    ) -> Result<Vec<SequenceOutput>, NativeError> {
        Engine::new().logprobs(self, sequences, options)
    }

    /// [`Engine::forward_backward`] with a fresh engine: convenient for one call; keep an [`Engine`] for many.
    pub fn forward_backward(
        &self,
        groups: &[Vec<Sequence>],
        options: &ForwardOptions,
        objective: &Objective<'_>,
        gradient: &mut Gradient,
    ) -> Result<f64, NativeError> {
        Engine::new().forward_backward(self, groups, options, objective, gradient)
    }
}
