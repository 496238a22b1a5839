//! Whole model folders.

use super::hugging_face::{describe, read_config};
use super::tensors::{Outgoing, TensorFile, write};
use crate::scalar_head::ScalarHeadRecord;
use crate::{Layout, LoraAdapter, Model, NativeError, ScalarHead, Tokenizer, files};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// How numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits: exact.
    #[default]
    F32,
    /// bfloat16: half the size, three significant digits.
    Bf16,
}

/// `elenchus.json`: what a Hugging Face folder has no words for.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Extras {
    /// Scalar heads, their numbers in `heads.safetensors`.
    heads: Vec<ScalarHeadRecord>,
    /// Whether the folder `adapter` holds a LoRA adapter in use.
    adapter: bool,
}

/// A model with its tokenizer.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// The weights.
    pub model: Model,
    /// The tokenizer, if the folder has one.
    pub tokenizer: Option<Tokenizer>,
}

impl Checkpoint {
    /// Reads a model folder as [`Model::load`] does, and `tokenizer.json` if present.
    ///
    /// Errors also when the tokenizer has ids outside the model's vocabulary.
    pub fn load(folder: impl AsRef<Path>) -> Result<Self, NativeError> {
        let folder = folder.as_ref();
        let path = folder.join("tokenizer.json");
        let tokenizer = if path.is_file() { Some(Tokenizer::load(folder)?) } else { None };
        let config = read_config(folder)?;
        if let Some(tokenizer) = tokenizer.as_ref().filter(|t| t.vocabulary_size() > config.vocab_size) {
            return Err(NativeError::checkpoint(
                path,
                format!(
                    "has token ids up to {}, the model's vocabulary ends at {}",
                    tokenizer.vocabulary_size() - 1,
                    config.vocab_size - 1
                ),
                "the tokenizer belongs to another model",
            ));
        }
        Ok(Checkpoint { model: Model::load(folder)?, tokenizer })
    }

    /// Writes a model folder as [`Model::save`] does, with the tokenizer.
    pub fn save(&self, folder: impl AsRef<Path>, precision: Precision) -> Result<(), NativeError> {
        if let Some(tokenizer) = &self.tokenizer {
            let (has, needs) = (self.model.config().vocab_size, tokenizer.vocabulary_size());
            if needs > has {
                let problem = format!("the tokenizer needs a vocabulary of {needs}, the model has {has}");
                let hint = "save a tokenizer with the model it was trained for";
                return Err(NativeError::argument("saving a checkpoint", problem, hint));
            }
            tokenizer.save(&folder)?;
        }
        self.model.save(folder, precision)
    }
}

impl Model {
    /// Reads a Hugging Face folder: `config.json`, `model.safetensors` or the shards of
    /// `model.safetensors.index.json` (f32, f16 or bf16), and our `elenchus.json` with heads and adapter if present.
    ///
    /// Errors name the file and the tensor: missing, surplus and misshaped tensors, files cut short, numbers that
    /// are not finite, architectures and options that would be computed wrongly. Shapes are checked before memory
    /// for the weights is taken.
    pub fn load(folder: impl AsRef<Path>) -> Result<Model, NativeError> {
        let folder = folder.as_ref();
        let config = read_config(folder)?;
        let layout = Layout::new(&config);
        let mut shards = Vec::new();
        for path in weight_files(folder)? {
            shards.push(TensorFile::open(&path)?);
        }
        let places = find_tensors(folder, &layout, &shards)?;
        let mut parameters = vec![0.0; layout.total()];
        for (parameter, shard) in layout.parameters().iter().zip(&places) {
            let target = &mut parameters[parameter.range.clone()];
            shards[*shard].read(&parameter.name, &parameter.shape, target)?;
        }
        check_tied_output(&layout, &parameters, &mut shards)?;
        let mut model = Model::from_parameters(config, parameters)?;
        load_extras(folder, &mut model)?;
        Ok(model)
    }

    /// Writes a Hugging Face folder that `transformers` reads, plus `elenchus.json`, `heads.safetensors` and the
    /// folder `adapter` when the model has heads or an adapter. Each file appears whole or not at all.
    pub fn save(&self, folder: impl AsRef<Path>, precision: Precision) -> Result<(), NativeError> {
        self.check_parts()?;
        let folder = folder.as_ref();
        let bf16 = precision == Precision::Bf16;
        let description = describe(self.config(), bf16)?;
        files::create_folder(folder)?;
        let tensors: Vec<Outgoing<'_>> = self
            .layout()
            .parameters()
            .iter()
            .map(|p| Outgoing {
                name: p.name.clone(),
                shape: p.shape.clone(),
                numbers: &self.parameters[p.range.clone()],
            })
            .collect();
        write(&folder.join("model.safetensors"), &tensors, bf16, HashMap::new())?;
        // An index left by an earlier, sharded checkpoint would win over the file just written.
        files::remove_if_present(&folder.join("model.safetensors.index.json"))?;
        self.save_extras(folder)?;
        files::write_json(&folder.join("config.json"), &description)
    }

    fn save_extras(&self, folder: &Path) -> Result<(), NativeError> {
        let (record, numbers) = (folder.join("elenchus.json"), folder.join("heads.safetensors"));
        if self.heads.is_empty() && self.adapter.is_none() {
            files::remove_if_present(&record)?;
            return files::remove_if_present(&numbers);
        }
        let tensors: Vec<Outgoing<'_>> = self
            .heads
            .iter()
            .flat_map(|head| {
                [
                    Outgoing {
                        name: format!("{}.weight", head.name),
                        shape: vec![head.weight.len()],
                        numbers: &head.weight,
                    },
                    Outgoing {
                        name: format!("{}.bias", head.name),
                        shape: vec![1],
                        numbers: std::slice::from_ref(&head.bias),
                    },
                ]
            })
            .collect();
        if tensors.is_empty() {
            files::remove_if_present(&numbers)?;
        } else {
            write(&numbers, &tensors, false, HashMap::new())?;
        }
        if let Some(adapter) = &self.adapter {
            adapter.save(folder.join("adapter"), self.config())?;
        }
        let extras = Extras {
            heads: self.heads.iter().map(ScalarHead::record).collect(),
            adapter: self.adapter.is_some(),
        };
        files::write_json(&record, &extras)
    }
}

/// The weight files of a folder, in the order of the index.
fn weight_files(folder: &Path) -> Result<Vec<PathBuf>, NativeError> {
    let index = folder.join("model.safetensors.index.json");
    if !index.is_file() {
        return Ok(vec![folder.join("model.safetensors")]);
    }
    let fields: Map<String, Value> = files::read_json(&index)?;
    let refuse = |problem: String| NativeError::checkpoint(&index, problem, "download the index again");
    let map = fields.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| refuse("has no `weight_map`".into()))?;
    let mut names = BTreeMap::new();
    for file in map.values() {
        // A name with folders in it could point outside the checkpoint.
        let name =
            file.as_str().filter(|name| !name.is_empty() && !name.contains(['/', '\\']) && *name != "..");
        let name = name.ok_or_else(|| refuse(format!("names the file {file}")))?;
        names.insert(name.to_string(), folder.join(name));
    }
    if names.is_empty() {
        return Err(refuse("names no files".into()));
    }
    Ok(names.into_values().collect())
}

const TIED_OUTPUT: &str = "lm_head.weight";

/// Which shard holds each parameter, after checking every name, shape and type of every shard.
fn find_tensors(folder: &Path, layout: &Layout, shards: &[TensorFile]) -> Result<Vec<usize>, NativeError> {
    let mut found: HashMap<String, usize> = HashMap::new();
    let (mut surplus, known) = (Vec::new(), layout.parameters());
    let known: HashMap<&str, &[usize]> = known.iter().map(|p| (&p.name[..], &p.shape[..])).collect();
    for (shard, file) in shards.iter().enumerate() {
        for name in file.names() {
            if let Some(shape) = known.get(&name[..]) {
                file.check(&name, shape)?;
                if found.insert(name.clone(), shard).is_some() {
                    let problem = format!("tensor `{name}` is in more than one file");
                    return Err(NativeError::checkpoint(file.path(), problem, "remove the surplus shard"));
                }
            } else if name != TIED_OUTPUT && !name.ends_with(".rotary_emb.inv_freq") {
                // Old checkpoints carry the rotary frequencies, which follow from the configuration.
                surplus.push(name);
            }
        }
    }
    let missing: Vec<&str> =
        layout.parameters().iter().map(|p| &p.name[..]).filter(|name| !found.contains_key(*name)).collect();
    let few = |names: &[&str]| {
        let shown = names.iter().take(3).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
        if names.len() > 3 { format!("{shown} and {} more", names.len() - 3) } else { shown }
    };
    let path = shards.first().map_or(folder, |file| file.path());
    if !missing.is_empty() {
        let surplus: Vec<&str> = surplus.iter().map(|n| &n[..]).collect();
        let beside =
            if surplus.is_empty() { String::new() } else { format!("; it has {} instead", few(&surplus)) };
        let problem =
            format!("lacks {} of {} tensors: {}{beside}", missing.len(), known.len(), few(&missing));
        let hint =
            "config.json and weights must belong together; tied embeddings need `tie_word_embeddings: true`";
        return Err(NativeError::checkpoint(path, problem, hint));
    }
    if !surplus.is_empty() {
        let surplus: Vec<&str> = surplus.iter().map(|n| &n[..]).collect();
        let problem =
            format!("has {} tensors this architecture does not use: {}", surplus.len(), few(&surplus));
        let hint =
            "the model is of another kind than `config.json` says; leaving them out would change its answers";
        return Err(NativeError::checkpoint(path, problem, hint));
    }
    Ok(layout.parameters().iter().map(|p| found[&p.name]).collect())
}

/// A tied model may carry its output matrix a second time, but only the same one.
fn check_tied_output(
    layout: &Layout,
    parameters: &[f32],
    shards: &mut [TensorFile],
) -> Result<(), NativeError> {
    if layout.parameters().iter().any(|p| p.name == TIED_OUTPUT) {
        return Ok(());
    }
    let embedding = layout.embedding.clone();
    let Some(shape) = layout.parameters().first().map(|p| p.shape.clone()) else { return Ok(()) };
    for shard in shards.iter_mut().filter(|shard| shard.shape(TIED_OUTPUT).is_some()) {
        let mut output = vec![0.0; embedding.len()];
        shard.read(TIED_OUTPUT, &shape, &mut output)?;
        if output != parameters[embedding.clone()] {
            return Err(NativeError::checkpoint(
                shard.path(),
                format!(
                    "tensor `{TIED_OUTPUT}` differs from the embedding, but `tie_word_embeddings` is true"
                ),
                "set `tie_word_embeddings` to false in `config.json`",
            ));
        }
    }
    Ok(())
}

fn load_extras(folder: &Path, model: &mut Model) -> Result<(), NativeError> {
    let record = folder.join("elenchus.json");
    if !record.is_file() {
        return Ok(());
    }
    let extras: Extras = files::read_json(&record)?;
    if !extras.heads.is_empty() {
        let mut file = TensorFile::open(&folder.join("heads.safetensors"))?;
        let d = model.config().hidden_size;
        for ScalarHeadRecord { name, layer, detach_trunk } in extras.heads {
            let mut head = ScalarHead { detach_trunk, ..ScalarHead::zeros(name, layer, d) };
            file.read(&format!("{}.weight", head.name), &[d], &mut head.weight)?;
            file.read(&format!("{}.bias", head.name), &[1], std::slice::from_mut(&mut head.bias))?;
            model.heads.push(head);
        }
    }
    if extras.adapter {
        model.adapter = Some(LoraAdapter::load(folder.join("adapter"), model.config())?);
    }
    model
        .check_parts()
        .map_err(|e| NativeError::checkpoint(&record, format!("`{}` {}", e.field, e.problem), e.hint))
}
