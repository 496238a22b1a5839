//! LoRA adapters as PEFT stores them: `adapter_config.json` and `adapter_model.safetensors`.

use super::tensors::{Outgoing, TensorFile, write};
use crate::{Linear, LoraAdapter, LoraConfig, ModelConfig, NativeError, files};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::path::Path;

/// Name of one half of a pair.
fn name(layer: usize, linear: Linear, half: char) -> String {
    format!("base_model.model.model.layers.{layer}.{}.lora_{half}.weight", linear.path())
}

/// Name and shape of every tensor of an adapter, with its place.
fn tensors(adapter: &LoraAdapter, shape: &ModelConfig) -> Vec<(String, Vec<usize>, std::ops::Range<usize>)> {
    let (mut list, rank) = (Vec::new(), adapter.config().rank);
    for layer in 0..shape.layers {
        for linear in Linear::ALL {
            if let Some(place) = adapter.place(layer, linear) {
                let (out, input) = linear.shape(shape);
                list.push((name(layer, linear, 'A'), vec![rank, input], place.a.clone()));
                list.push((name(layer, linear, 'B'), vec![out, rank], place.b.clone()));
            }
        }
    }
    list
}

impl LoraAdapter {
    /// Writes `adapter_model.safetensors` and `adapter_config.json`, readable by PEFT.
    pub fn save(&self, folder: impl AsRef<Path>, shape: &ModelConfig) -> Result<(), NativeError> {
        self.check(shape)?;
        let folder = folder.as_ref();
        files::create_folder(folder)?;
        let tensors: Vec<Outgoing<'_>> = tensors(self, shape)
            .into_iter()
            .map(|(name, shape, range)| Outgoing { name, shape, numbers: &self.numbers[range] })
            .collect();
        write(&folder.join("adapter_model.safetensors"), &tensors, false, HashMap::new())?;
        let config = self.config();
        let modules: Vec<&str> = config.targets.iter().filter_map(|t| t.path().rsplit('.').next()).collect();
        let description = json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": null,
            "r": config.rank,
            "lora_alpha": config.alpha,
            "lora_dropout": config.dropout,
            "target_modules": modules,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
        });
        files::write_json(&folder.join("adapter_config.json"), &description)
    }

    /// Reads what [`LoraAdapter::save`] or PEFT wrote for a model of this shape.
    ///
    /// Errors on kinds of adapters that would be applied wrongly, on misshaped, missing and surplus tensors.
    pub fn load(folder: impl AsRef<Path>, shape: &ModelConfig) -> Result<Self, NativeError> {
        let path = folder.as_ref().join("adapter_config.json");
        let config = read_config(&path)?;
        let mut adapter = LoraAdapter::zeros(shape, config)
            .map_err(|e| NativeError::checkpoint(&path, format!("the adapter {}", e.problem), e.hint))?;
        let mut file = TensorFile::open(&folder.as_ref().join("adapter_model.safetensors"))?;
        let wanted = tensors(&adapter, shape);
        if let Some(surplus) = file.names().iter().find(|n| !wanted.iter().any(|(name, ..)| name == *n)) {
            let problem = format!("has a tensor `{surplus}` that `adapter_config.json` does not announce");
            return Err(NativeError::checkpoint(
                file.path(),
                problem,
                "the adapter was made for another model",
            ));
        }
        for (name, shape, range) in wanted {
            file.read(&name, &shape, &mut adapter.numbers[range])?;
        }
        Ok(adapter)
    }
}

fn read_config(path: &Path) -> Result<LoraConfig, NativeError> {
    let fields: Map<String, Value> = files::read_json(path)?;
    let get = |key: &str| fields.get(key).unwrap_or(&Value::Null);
    let refuse =
        |key: &str, hint: &str| Err(NativeError::checkpoint(path, format!("`{key}` is {}", get(key)), hint));
    if get("peft_type") != "LORA" {
        return refuse("peft_type", "only `LORA` adapters are supported");
    }
    for key in ["use_rslora", "use_dora", "fan_in_fan_out"] {
        if !matches!(get(key), Value::Null | Value::Bool(false)) {
            return refuse(key, "only plain LoRA is supported");
        }
    }
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    for key in ["rank_pattern", "alpha_pattern", "modules_to_save", "layers_to_transform"] {
        if !empty(get(key)) {
            return refuse(key, "every block must have the same adapters of one rank");
        }
    }
    if !(get("bias").is_null() || get("bias") == "none") {
        return refuse("bias", "only adapters without trained biases are supported");
    }
    let Some(rank) = get("r").as_u64().filter(|r| (1..=4096).contains(r)) else {
        return refuse("r", "it must be a rank of 1 to 4096");
    };
    let Some(alpha) = get("lora_alpha").as_f64() else { return refuse("lora_alpha", "it must be a number") };
    let dropout = match get("lora_dropout") {
        Value::Null => 0.0,
        value => match value.as_f64() {
            Some(p) => p as f32,
            None => return refuse("lora_dropout", "it must be a number"),
        },
    };
    let Ok(mut targets) = serde_json::from_value::<Vec<Linear>>(get("target_modules").clone()) else {
        return refuse("target_modules", "it must list names such as `q_proj` and `down_proj`");
    };
    // PEFT writes them in any order.
    targets.sort_by_key(|linear| *linear as usize);
    Ok(LoraConfig { rank: rank as usize, alpha: alpha as f32, dropout, targets })
}
