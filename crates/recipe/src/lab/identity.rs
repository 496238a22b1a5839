//! What determines a checkpoint, and its key.

use super::{LabModel, Plan, Start, checkpoint};
use crate::{RecipeError, models};
use elenchus_remember::Cache;
use serde::{Deserialize, Serialize};

/// Raised when the way of training, not a checkpoint's own rows, changes what comes out.
const TRAINING_VERSION: u32 = 1;

/// What the weights begin as.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A model: hash of its configuration, tokenizer and weights.
    Weights(String),
    /// Another checkpoint of the lab: its key.
    Key(String),
    /// Fresh numbers: hash of the vocabulary they stand for.
    Vocabulary(String),
}

/// Everything that determines a checkpoint. Its JSON, hashed, is the key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// Version of the training code.
    pub training_version: u32,
    /// Name.
    pub name: String,
    /// Model seed: draws samples and rows, and fresh weights where there are some.
    pub seed: u64,
    /// Where the weights come from.
    pub origin: Origin,
    /// Settings.
    pub plan: Plan,
}

impl Identity {
    /// The identity of a checkpoint over a base model (`embedded` or a folder).
    ///
    /// # Errors
    /// The base model, or a checkpoint it starts from, does not exist.
    pub fn of(model: &dyn LabModel, base: &str, seed: u64) -> Result<Self, RecipeError> {
        let plan = model.plan();
        let origin = match &plan.start {
            Start::Base { .. } => Origin::Weights(models::weights_hash(base)?),
            Start::Fresh { .. } => Origin::Vocabulary(Cache::key(elenchus_task::arithmetic::vocabulary())),
            Start::Lab { name } => Origin::Key(Identity::of(checkpoint(name)?.as_ref(), base, seed)?.key()?),
        };
        Ok(Identity { training_version: TRAINING_VERSION, name: model.name().into(), seed, origin, plan })
    }

    /// 64 hexadecimal digits.
    ///
    /// # Errors
    /// A setting that JSON cannot hold (a number that is not finite).
    pub fn key(&self) -> Result<String, RecipeError> {
        let text = serde_json::to_string(self).map_err(|error| RecipeError::Check {
            recipe: self.name.clone(),
            problem: format!("the plan of this lab checkpoint cannot be written: {error}"),
            hint: "give finite numbers only".into(),
        })?;
        Ok(Cache::key([text]))
    }
}
