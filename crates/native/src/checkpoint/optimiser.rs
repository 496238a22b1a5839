//! The optimiser's memory: `optimizer.safetensors`.

use super::tensors::{Outgoing, TensorFile, write};
use crate::{AdamW, AdamWConfig, Gradient, NativeError, files};
use std::collections::HashMap;
use std::path::Path;

const FILE: &str = "optimizer.safetensors";

impl AdamW {
    /// Writes both moments and the step into `optimizer.safetensors` of a folder.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), NativeError> {
        files::create_folder(folder.as_ref())?;
        let tensor =
            |name: &str, numbers| Outgoing { name: name.into(), shape: vec![self.first.len()], numbers };
        let tensors = [tensor("first_moment", &self.first), tensor("second_moment", &self.second)];
        let notes = HashMap::from([("step".to_string(), self.step.to_string())]);
        write(&folder.as_ref().join(FILE), &tensors, false, notes)
    }

    /// Reads what [`AdamW::save`] wrote, for the same trainable parts. Training then continues as if never stopped.
    pub fn load(
        folder: impl AsRef<Path>,
        config: AdamWConfig,
        gradient: &Gradient,
    ) -> Result<Self, NativeError> {
        let path = folder.as_ref().join(FILE);
        let mut file = TensorFile::open(&path)?;
        let step = file.note("step").and_then(|step| step.parse().ok()).ok_or_else(|| {
            NativeError::checkpoint(&path, "has no step in its header", "it was not written by this program")
        })?;
        let mut optimiser = AdamW { step, ..AdamW::new(config, gradient) };
        let shape = [gradient.values.len()];
        file.read("first_moment", &shape, &mut optimiser.first)?;
        file.read("second_moment", &shape, &mut optimiser.second)?;
        Ok(optimiser)
    }
}
