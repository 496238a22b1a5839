//! Models by name: the embedded one, or a folder in the Hugging Face format.

use crate::RecipeError;
use elenchus_learn::pretrain::ModelShape;
use elenchus_learn::reward::StepReward;
use elenchus_learn::rounds::RoundSettings;
use elenchus_learn::{LearnError, NativePolicy};
use elenchus_native::{Checkpoint, Model, ModelConfig, NativeError, Tokenizer, Trainable};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The name of the model that comes with the program.
pub const EMBEDDED: &str = "embedded";

/// The files of the embedded model and of its step reward model, as they stand in the repository.
const FILES: &[(&str, &[u8])] = &[
    ("config.json", include_bytes!("../../../models/seedling/config.json")),
    ("tokenizer.json", include_bytes!("../../../models/seedling/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../../../models/seedling/tokenizer_config.json")),
    ("model.safetensors", include_bytes!("../../../models/seedling/model.safetensors")),
    ("step_reward/config.json", include_bytes!("../../../models/seedling/step_reward/config.json")),
    ("step_reward/tokenizer.json", include_bytes!("../../../models/seedling/tokenizer.json")),
    (
        "step_reward/model.safetensors",
        include_bytes!("../../../models/seedling/step_reward/model.safetensors"),
    ),
    ("step_reward/elenchus.json", include_bytes!("../../../models/seedling/step_reward/elenchus.json")),
    (
        "step_reward/heads.safetensors",
        include_bytes!("../../../models/seedling/step_reward/heads.safetensors"),
    ),
];

/// A model with its tokenizer.
pub struct Loaded {
    /// The weights.
    pub model: Model,
    /// The tokenizer.
    pub tokenizer: Arc<Tokenizer>,
}

impl Loaded {
    /// As a policy on every core, all parameters trainable.
    pub fn policy(self) -> NativePolicy {
        NativePolicy::new(self.model, self.tokenizer, Trainable::All, 0)
    }
}

/// The folder of a model: for `embedded` one in the user's cache, named by the content and written when it is not
/// there, so that the program needs no installation beside its own file.
pub fn folder(name: &str) -> Result<PathBuf, RecipeError> {
    if name != EMBEDDED {
        let folder = PathBuf::from(name);
        if !folder.join("config.json").is_file() {
            return Err(RecipeError::Unknown {
                what: "model",
                name: name.into(),
                hint: format!(
                    "`{EMBEDDED}`, or a folder that holds config.json, tokenizer.json and model.safetensors"
                ),
            });
        }
        return Ok(folder);
    }
    let mut hash = blake3::Hasher::new();
    for (name, bytes) in FILES {
        hash.update(name.as_bytes()).update(bytes);
    }
    let cache = cache_folder().join("models");
    let folder = cache.join(format!("seedling-{}", &hash.finalize().to_hex()[..16]));
    for (name, bytes) in FILES {
        let path = folder.join(name);
        // The last file is written last, but a process may have died before it: look at each.
        if std::fs::metadata(&path).is_ok_and(|found| found.len() == bytes.len() as u64) {
            continue;
        }
        if let Some(parent) = path.parent() {
            elenchus_remember::fs::create_dir_all(parent)?;
        }
        elenchus_remember::fs::write_atomic(&path, bytes)?;
    }
    Ok(folder)
}

/// Hash of what determines a model's answers: its configuration, tokenizer and weights.
pub fn weights_hash(name: &str) -> Result<String, RecipeError> {
    let folder = folder(name)?;
    let mut names = vec!["config.json".to_string(), "tokenizer.json".into()];
    let index = folder.join("model.safetensors.index.json");
    if index.is_file() {
        // The shards that lie beside the index, in the order of their names.
        names.extend(elenchus_remember::fs::list(&folder)?.iter().filter_map(|path| {
            let name = path.file_name()?.to_str()?;
            name.ends_with(".safetensors").then(|| name.to_string())
        }));
    } else {
        names.push("model.safetensors".into());
    }
    let mut hash = blake3::Hasher::new();
    for name in names {
        let mut file = elenchus_remember::fs::open(folder.join(&name))?;
        hash.update(name.as_bytes());
        let mut part = blake3::Hasher::new();
        std::io::copy(&mut file, &mut part).map_err(|source| elenchus_remember::RememberError::Io {
            operation: "read",
            path: folder.join(&name),
            source,
        })?;
        hash.update(part.finalize().as_bytes());
    }
    Ok(hash.finalize().to_hex().to_string())
}

/// `$ELENCHUS_CACHE`, else `$XDG_CACHE_HOME/elenchus`, else `~/.cache/elenchus`, else a folder for temporary files.
pub fn cache_folder() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(folder) = variable("ELENCHUS_CACHE") {
        return folder;
    }
    variable("XDG_CACHE_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("elenchus")
}

/// `embedded`, or a folder.
pub fn load(name: &str) -> Result<Loaded, RecipeError> {
    load_folder(&folder(name)?)
}

pub(crate) fn load_folder(folder: &Path) -> Result<Loaded, RecipeError> {
    let checkpoint = Checkpoint::load(folder)?;
    let tokenizer = match checkpoint.tokenizer {
        Some(tokenizer) => tokenizer,
        None => Tokenizer::load(folder)?,
    };
    Ok(Loaded { model: checkpoint.model, tokenizer: Arc::new(tokenizer) })
}

/// A fresh model of this shape that speaks the vocabulary of the embedded model's tasks.
pub fn fresh(shape: &ModelShape, seed: u64) -> Result<Loaded, LearnError> {
    let tokenizer = Tokenizer::word_level(&elenchus_task::arithmetic::vocabulary())?;
    let config = ModelConfig {
        vocab_size: tokenizer.vocabulary_size(),
        hidden_size: shape.hidden_size,
        intermediate_size: shape.intermediate_size,
        layers: shape.layers,
        heads: shape.heads,
        kv_heads: shape.kv_heads,
        head_dim: shape.hidden_size / shape.heads.max(1),
        rope_theta: 10_000.0,
        rms_norm_eps: 1e-5,
        max_positions: shape.max_positions,
        tie_embeddings: true,
        qkv_bias: false,
        qk_norm: false,
        eos_token_ids: tokenizer.eos().into_iter().collect(),
    };
    let model = Model::initialise(config, seed).map_err(NativeError::from)?;
    Ok(Loaded { model, tokenizer: Arc::new(tokenizer) })
}

/// The step reward model that learned step scores need: the folder `step_reward` inside the model's folder. `None`
/// when the rounds need none.
pub fn step_reward(rounds: &RoundSettings, name: &str) -> Result<Option<NativePolicy>, RecipeError> {
    if rounds.reward.step != StepReward::Learned {
        return Ok(None);
    }
    Ok(Some(load_folder(&folder(name)?.join("step_reward"))?.policy()))
}
