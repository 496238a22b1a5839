//! A model: its shape and its numbers.

use crate::{ConfigError, Layout, ModelConfig};

/// A decoder with its weights as one flat vector.
#[derive(Debug, Clone)]
pub struct Model {
    config: ModelConfig,
    layout: Layout,
    /// All numbers, in the order of the layout.
    pub parameters: Vec<f32>,
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
        Ok(Model { config, layout, parameters })
    }

    /// The shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The places of the named parameters.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }
}
