//! `config.json` and `generation_config.json` of Hugging Face, in both directions.

use crate::{ConfigError, ModelConfig, NativeError, files};
use serde_json::{Map, Value, json};
use std::path::Path;

/// Reads `config.json` (and the end tokens of `generation_config.json` if present) of a model folder.
pub(crate) fn read_config(folder: &Path) -> Result<ModelConfig, NativeError> {
    let path = folder.join("config.json");
    let fields: Map<String, Value> = files::read_json(&path)?;
    let mut config = Reader { path: &path, fields: &fields }.config()?;
    let generation = folder.join("generation_config.json");
    if generation.is_file() {
        let fields: Map<String, Value> = files::read_json(&generation)?;
        for token in (Reader { path: &generation, fields: &fields }).end_tokens()? {
            if !config.eos_token_ids.contains(&token) {
                config.eos_token_ids.push(token);
            }
        }
    }
    Ok(config)
}

struct Reader<'a> {
    path: &'a Path,
    fields: &'a Map<String, Value>,
}

impl Reader<'_> {
    fn refuse(&self, problem: impl Into<String>, hint: impl Into<String>) -> NativeError {
        NativeError::checkpoint(self.path, problem, hint)
    }

    /// A present field; `null` counts as absent.
    fn get(&self, field: &str) -> Option<&Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    fn whole(&self, field: &str) -> Result<Option<usize>, NativeError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        match value.as_u64() {
            Some(number) => Ok(Some(number as usize)),
            None => Err(self.refuse(format!("`{field}` is {value}"), "it must be a whole number")),
        }
    }

    fn required(&self, field: &str) -> Result<usize, NativeError> {
        self.whole(field)?.ok_or_else(|| {
            self.refuse(format!("`{field}` is missing"), "use the `config.json` the model was published with")
        })
    }

    fn number(&self, field: &str, default: f32) -> Result<f32, NativeError> {
        let Some(value) = self.get(field) else { return Ok(default) };
        let refused = || self.refuse(format!("`{field}` is {value}"), "it must be a number");
        value.as_f64().map(|number| number as f32).ok_or_else(refused)
    }

    fn flag(&self, field: &str) -> Result<bool, NativeError> {
        let Some(value) = self.get(field) else { return Ok(false) };
        value
            .as_bool()
            .ok_or_else(|| self.refuse(format!("`{field}` is {value}"), "it must be true or false"))
    }

    fn end_tokens(&self) -> Result<Vec<u32>, NativeError> {
        let Some(value) = self.get("eos_token_id") else { return Ok(Vec::new()) };
        let one = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let tokens = match value {
            Value::Array(list) => list.iter().map(one).collect(),
            single => one(single).map(|id| vec![id]),
        };
        tokens.ok_or_else(|| {
            self.refuse(format!("`eos_token_id` is {value}"), "it must be a token id or a list of them")
        })
    }

    fn architecture(&self) -> Result<&str, NativeError> {
        let listed = self.get("architectures").and_then(|list| list.as_array()).and_then(|list| list.first());
        let kind = self.get("model_type").and_then(Value::as_str);
        let name = match (listed.and_then(Value::as_str), kind) {
            (Some(name), _) => name,
            (None, Some("llama")) => "LlamaForCausalLM",
            (None, Some("qwen2")) => "Qwen2ForCausalLM",
            (None, Some("qwen3")) => "Qwen3ForCausalLM",
            (None, Some(other)) => other,
            (None, None) => "nothing",
        };
        if ["LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"].contains(&name) {
            return Ok(name);
        }
        Err(self.refuse(
            format!("architecture `{name}` is not supported"),
            "LlamaForCausalLM, Qwen2ForCausalLM and Qwen3ForCausalLM are; use a served model for others",
        ))
    }

    /// The rotary base. Anything that stretches positions is refused: computing it plainly would be silently wrong.
    fn rope_theta(&self) -> Result<f32, NativeError> {
        let mut theta = self.number("rope_theta", 10_000.0)?;
        for field in ["rope_scaling", "rope_parameters"] {
            let Some(value) = self.get(field) else { continue };
            let kind = value.get("rope_type").or_else(|| value.get("type"));
            if !kind.is_none_or(|kind| kind == "default") {
                let hint = "only plain rotary positions are supported: use a model without scaling";
                return Err(self.refuse(format!("`{field}` is {value}"), hint));
            }
            if let Some(given) = value.get("rope_theta") {
                let refused =
                    || self.refuse(format!("`{field}.rope_theta` is {given}"), "it must be a number");
                theta = given.as_f64().ok_or_else(refused)? as f32;
            }
        }
        Ok(theta)
    }

    fn config(&self) -> Result<ModelConfig, NativeError> {
        let architecture = self.architecture()?;
        let activation = self.get("hidden_act").map_or(Some("silu"), Value::as_str);
        if activation != Some("silu") {
            let problem = format!("`hidden_act` is {activation:?}");
            return Err(self.refuse(problem, "only `silu` is supported"));
        }
        for field in ["attention_bias", "mlp_bias", "use_sliding_window"] {
            if self.flag(field)? {
                return Err(self.refuse(format!("`{field}` is true"), "this variant is not supported"));
            }
        }
        if let Some(factor) = self.get("partial_rotary_factor").filter(|factor| factor.as_f64() != Some(1.0))
        {
            return Err(
                self.refuse(format!("`partial_rotary_factor` is {factor}"), "this variant is not supported")
            );
        }
        let (hidden_size, heads) = (self.required("hidden_size")?, self.required("num_attention_heads")?);
        let head_dim = match self.whole("head_dim")? {
            Some(width) => width,
            None if architecture == "Qwen3ForCausalLM" => 128,
            None if heads > 0 && hidden_size.is_multiple_of(heads) => hidden_size / heads,
            None => {
                let problem = format!("{heads} heads do not divide `hidden_size` {hidden_size}");
                return Err(self.refuse(problem, "give `head_dim`"));
            }
        };
        let config = ModelConfig {
            vocab_size: self.required("vocab_size")?,
            hidden_size,
            intermediate_size: self.required("intermediate_size")?,
            layers: self.required("num_hidden_layers")?,
            heads,
            kv_heads: self.whole("num_key_value_heads")?.unwrap_or(heads),
            head_dim,
            rope_theta: self.rope_theta()?,
            rms_norm_eps: self.number("rms_norm_eps", 1e-6)?,
            max_positions: self.required("max_position_embeddings")?,
            tie_embeddings: self.flag("tie_word_embeddings")?,
            qkv_bias: architecture == "Qwen2ForCausalLM",
            qk_norm: architecture == "Qwen3ForCausalLM",
            eos_token_ids: self.end_tokens()?,
        };
        config.check().map_err(|ConfigError { field, problem, hint }| {
            self.refuse(format!("`{field}` {problem}"), hint)
        })?;
        Ok(config)
    }
}

/// The `config.json` of a shape.
pub(crate) fn describe(config: &ModelConfig, bf16: bool) -> Result<Value, ConfigError> {
    let (architecture, kind) = match (config.qkv_bias, config.qk_norm) {
        (false, false) => ("LlamaForCausalLM", "llama"),
        (true, false) => ("Qwen2ForCausalLM", "qwen2"),
        (false, true) => ("Qwen3ForCausalLM", "qwen3"),
        (true, true) => {
            return Err(ConfigError {
                field: "qk_norm",
                problem: "is set together with qkv_bias".into(),
                hint: "no Hugging Face architecture has both, so the model cannot be saved in that format",
            });
        }
    };
    let eos = match &config.eos_token_ids[..] {
        [] => Value::Null,
        [one] => json!(one),
        several => json!(several),
    };
    let mut fields = json!({
        "architectures": [architecture],
        "model_type": kind,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "rope_theta": shortest(config.rope_theta),
        "rms_norm_eps": shortest(config.rms_norm_eps),
        "max_position_embeddings": config.max_positions,
        "tie_word_embeddings": config.tie_embeddings,
        "eos_token_id": eos,
        "bos_token_id": null,
        "torch_dtype": if bf16 { "bfloat16" } else { "float32" },
    });
    if kind != "qwen2" {
        fields["attention_bias"] = json!(false);
    }
    if kind == "llama" {
        fields["mlp_bias"] = json!(false);
    }
    Ok(fields)
}

/// The f64 that prints as the f32 does: 1e-5, not 9.999999747378752e-6.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}
