//! Scalar heads: one number per token position read from a hidden state (value, reward, P(IK) …).

use crate::{ConfigError, Model};
use serde::{Deserialize, Serialize};

/// `value(t) = weight · hidden(t) + bias`, no sigmoid.
#[derive(Debug, Clone, PartialEq)]
pub struct ScalarHead {
    /// Unique name in its model, for example `value`.
    pub name: String,
    /// Which hidden state is read: 0 the embedding, `l` the residual stream after block `l` (counted from 1),
    /// `None` the state after the final norm, from which the vocabulary is predicted too.
    pub layer: Option<usize>,
    /// `[d]`.
    pub weight: Vec<f32>,
    /// Added to every value.
    pub bias: f32,
    /// When true the head learns but its loss does not reach the trunk.
    pub detach_trunk: bool,
}

/// What `elenchus.json` keeps of a head; its numbers are in `heads.safetensors`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScalarHeadRecord {
    pub name: String,
    pub layer: Option<usize>,
    pub detach_trunk: bool,
}

impl ScalarHead {
    /// A head that says 0 everywhere until trained.
    pub fn zeros(name: impl Into<String>, layer: Option<usize>, hidden_size: usize) -> Self {
        ScalarHead {
            name: name.into(),
            layer,
            weight: vec![0.0; hidden_size],
            bias: 0.0,
            detach_trunk: false,
        }
    }

    /// Places in a flat gradient: the weight, then the bias.
    pub(crate) fn numbers(&self) -> usize {
        self.weight.len() + 1
    }

    pub(crate) fn record(&self) -> ScalarHeadRecord {
        ScalarHeadRecord { name: self.name.clone(), layer: self.layer, detach_trunk: self.detach_trunk }
    }
}

/// Refuses heads that do not fit their model.
pub(crate) fn check_heads(model: &Model) -> Result<(), ConfigError> {
    let config = model.config();
    for (i, head) in model.heads.iter().enumerate() {
        let refuse = |problem: String, hint| Err(ConfigError { field: "heads", problem, hint });
        if head.weight.len() != config.hidden_size {
            let problem = format!(
                "head `{}` has {} weights, the hidden state {} numbers",
                head.name,
                head.weight.len(),
                config.hidden_size
            );
            return refuse(problem, "a head has one weight per number of the hidden state");
        }
        if head.layer.is_some_and(|layer| layer > config.layers) {
            let problem = format!(
                "head `{}` reads hidden state {:?} of {} blocks",
                head.name, head.layer, config.layers
            );
            return refuse(problem, "hidden states are 0 (embedding) to the number of blocks, or none");
        }
        if head.name.is_empty() || model.heads[..i].iter().any(|other| other.name == head.name) {
            return refuse(
                format!("name `{}` is empty or used twice", head.name),
                "give each head its own name",
            );
        }
    }
    Ok(())
}
