//! Folders on disk: round trips, foreign layouts, and files that must be refused.

#![expect(clippy::unwrap_used, reason = "a test helper that fails should stop the test")]

use elenchus_native::{
    AdamW, AdamWConfig, Checkpoint, Engine, ForwardOptions, Gradient, Linear, LoraAdapter, LoraConfig,
    MatrixUpdate, Model, ModelConfig, Precision, ScalarHead, Sequence, SequenceGradient, SequenceOutput,
    Tokenizer, Trainable,
};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Tensors of a file by name: kind, shape, bytes.
type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn config() -> ModelConfig {
    ModelConfig {
        vocab_size: 19,
        hidden_size: 12,
        intermediate_size: 20,
        layers: 2,
        heads: 3,
        kv_heads: 1,
        head_dim: 4,
        rope_theta: 10_000.0,
        rms_norm_eps: 1e-5,
        max_positions: 64,
        tie_embeddings: true,
        qkv_bias: false,
        qk_norm: false,
        eos_token_ids: vec![1],
    }
}

fn full_model() -> Model {
    let mut model = Model::initialise(config(), 5).unwrap();
    let mut value = ScalarHead::zeros("value", None, 12);
    value.weight[3] = 0.25;
    value.bias = -1.5;
    model.heads = vec![value, ScalarHead { detach_trunk: true, ..ScalarHead::zeros("p_ik", Some(1), 12) }];
    let lora = LoraConfig { rank: 2, alpha: 3.0, dropout: 0.1, targets: vec![Linear::Value, Linear::Up] };
    let mut adapter = LoraAdapter::new(model.config(), lora, 1).unwrap();
    adapter.numbers.iter_mut().enumerate().for_each(|(i, x)| *x += i as f32 * 1e-3);
    model.adapter = Some(adapter);
    model
}

fn assert_same(a: &Model, b: &Model) {
    assert_eq!(a.config(), b.config());
    assert_eq!(a.parameters, b.parameters);
    assert_eq!(a.heads, b.heads);
    match (&a.adapter, &b.adapter) {
        (Some(x), Some(y)) => assert_eq!(x.numbers, y.numbers),
        (x, y) => assert_eq!(x.is_some(), y.is_some()),
    }
}

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

/// Writes tensors with the reference implementation of the format.
fn write_tensors(path: &Path, tensors: &BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>) {
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn read_tensors(path: &Path) -> BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.tensors().into_iter().map(|(n, t)| (n, (t.dtype(), t.shape().to_vec(), t.data().to_vec()))).collect()
}

#[test]
fn everything_survives_a_round_trip() {
    let folder = tempfile::tempdir().unwrap();
    let model = full_model();
    model.save(folder.path(), Precision::F32).unwrap();
    assert_same(&Model::load(folder.path()).unwrap(), &model);
    for (qkv_bias, qk_norm, tie_embeddings) in [(true, false, false), (false, true, true)] {
        let shape = ModelConfig {
            qkv_bias,
            qk_norm,
            tie_embeddings,
            head_dim: 6,
            rope_theta: 1e6,
            eos_token_ids: vec![1, 4],
            ..config()
        };
        let other = Model::initialise(shape, 9).unwrap();
        other.save(folder.path(), Precision::F32).unwrap();
        assert_same(&Model::load(folder.path()).unwrap(), &other);
    }
    assert!(!folder.path().join("elenchus.json").exists(), "heads of an overwritten model do not linger");
    assert!(!folder.path().join("heads.safetensors").exists());
}

#[test]
fn the_files_are_what_hugging_face_expects() {
    let folder = tempfile::tempdir().unwrap();
    let model = full_model();
    model.save(folder.path(), Precision::Bf16).unwrap();
    let tensors = read_tensors(&folder.path().join("model.safetensors"));
    let (dtype, shape, bytes) = &tensors["model.layers.1.self_attn.k_proj.weight"];
    assert_eq!((*dtype, &shape[..]), (Dtype::BF16, &[4, 12][..]));
    let place =
        &model.layout().parameters().iter().find(|p| p.name.contains("1.self_attn.k_proj")).unwrap().range;
    for (pair, wanted) in bytes.chunks(2).zip(&model.parameters[place.clone()]) {
        let stored = f32::from_bits(u32::from(u16::from_le_bytes([pair[0], pair[1]])) << 16);
        assert!((stored - wanted).abs() <= wanted.abs() / 256.0, "{stored} and {wanted}");
    }
    assert!(!tensors.contains_key("lm_head.weight"), "a tied output is stored once");
    let adapter = read_tensors(&folder.path().join("adapter/adapter_model.safetensors"));
    assert_eq!(adapter["base_model.model.model.layers.0.mlp.up_proj.lora_A.weight"].1, [2, 12]);
    assert_eq!(adapter["base_model.model.model.layers.0.mlp.up_proj.lora_B.weight"].1, [20, 2]);
    assert_eq!(adapter.len(), 8);
    let config: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("config.json")).unwrap()).unwrap();
    assert_eq!(config["architectures"], json!(["LlamaForCausalLM"]));
    assert_eq!(
        config["rms_norm_eps"].to_string(),
        "0.00001".parse::<f64>().map(|v| json!(v)).unwrap().to_string()
    );
    assert_eq!(config["num_key_value_heads"], json!(1));
    let loaded = Model::load(folder.path()).unwrap();
    assert_eq!(loaded.heads, model.heads, "heads stay exact");
    loaded.save(folder.path(), Precision::Bf16).unwrap();
    assert_same(&Model::load(folder.path()).unwrap(), &loaded);
}

#[test]
fn shards_half_precision_and_repeated_outputs_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::initialise(config(), 5).unwrap();
    model.save(folder.path(), Precision::F32).unwrap();
    let whole = folder.path().join("model.safetensors");
    let tensors = read_tensors(&whole);
    std::fs::remove_file(&whole).unwrap();
    let (mut first, mut second, mut map) = (BTreeMap::new(), BTreeMap::new(), serde_json::Map::new());
    for (i, (name, (_, shape, bytes))) in tensors.iter().enumerate() {
        let numbers = bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        let halves = numbers.flat_map(|v| half::f16::from_f32(v).to_le_bytes()).collect();
        let (part, file) =
            if i % 2 == 0 { (&mut first, "a.safetensors") } else { (&mut second, "b.safetensors") };
        part.insert(name.clone(), (Dtype::F16, shape.clone(), halves));
        map.insert(name.clone(), json!(file));
    }
    // Seen in published tied models: the output matrix a second time, and rotary frequencies.
    let embedding =
        first.get("model.embed_tokens.weight").or(second.get("model.embed_tokens.weight")).unwrap().clone();
    second.insert("lm_head.weight".into(), embedding);
    second.insert("model.layers.0.self_attn.rotary_emb.inv_freq".into(), (Dtype::F32, vec![2], vec![0; 8]));
    write_tensors(&folder.path().join("a.safetensors"), &first);
    write_tensors(&folder.path().join("b.safetensors"), &second);
    let index = folder.path().join("model.safetensors.index.json");
    std::fs::write(&index, json!({"metadata": {}, "weight_map": map}).to_string()).unwrap();
    let loaded = Model::load(folder.path()).unwrap();
    for (a, b) in loaded.parameters.iter().zip(&model.parameters) {
        assert!((a - b).abs() <= b.abs() / 1024.0 + 1e-7, "{a} and {b}");
    }
    second.get_mut("lm_head.weight").unwrap().2[0] ^= 1;
    write_tensors(&folder.path().join("b.safetensors"), &second);
    let message = Model::load(folder.path()).unwrap_err().to_string();
    assert!(message.contains("differs from the embedding") && message.contains("hint:"), "{message}");
    map.insert("x".into(), json!("../secret.safetensors"));
    std::fs::write(&index, json!({"weight_map": map}).to_string()).unwrap();
    assert!(
        Model::load(folder.path()).unwrap_err().to_string().contains("../secret"),
        "no path leaves the folder"
    );
}

#[test]
fn generation_settings_add_end_tokens() {
    let folder = tempfile::tempdir().unwrap();
    Model::initialise(config(), 5).unwrap().save(folder.path(), Precision::F32).unwrap();
    std::fs::write(folder.path().join("generation_config.json"), r#"{"eos_token_id": [1, 7]}"#).unwrap();
    assert_eq!(Model::load(folder.path()).unwrap().config().eos_token_ids, [1, 7]);
}

#[test]
fn configurations_that_would_be_computed_wrongly_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    for (field, value, part) in [
        ("architectures", json!(["MistralForCausalLM"]), "`MistralForCausalLM` is not supported"),
        ("rope_scaling", json!({"rope_type": "llama3", "factor": 8.0}), "rope_scaling"),
        ("rope_parameters", json!({"rope_type": "yarn"}), "rope_parameters"),
        ("hidden_act", json!("gelu"), "gelu"),
        ("attention_bias", json!(true), "attention_bias"),
        ("use_sliding_window", json!(true), "use_sliding_window"),
        ("num_key_value_heads", json!(2), "does not divide"),
        ("num_hidden_layers", json!(u64::MAX), "implausibly"),
        ("vocab_size", json!(-3), "whole number"),
        ("hidden_size", Value::Null, "`hidden_size` is missing"),
        ("rms_norm_eps", json!("small"), "must be a number"),
        ("rope_theta", json!(-1.0), "rope_theta"),
        ("head_dim", json!(5), "odd"),
        ("eos_token_id", json!("</s>"), "eos_token_id"),
        ("tie_word_embeddings", json!("yes"), "true or false"),
    ] {
        Model::initialise(config(), 5).unwrap().save(folder.path(), Precision::F32).unwrap();
        edit(&path, |c| c[field] = value);
        let message = Model::load(folder.path()).unwrap_err().to_string();
        let good = message.contains(part) && message.contains("hint:") && message.contains("config.json");
        assert!(good, "{field}: {message}");
    }
    std::fs::write(&path, "{").unwrap();
    assert!(Model::load(folder.path()).unwrap_err().to_string().contains("JSON"));
    for key in ["rope_scaling", "rope_parameters"] {
        Model::initialise(config(), 5).unwrap().save(folder.path(), Precision::F32).unwrap();
        edit(&path, |c| c[key] = json!({"rope_type": "default", "rope_theta": 500.0}));
        assert_eq!(Model::load(folder.path()).unwrap().config().rope_theta, 500.0, "{key}");
    }
}

#[test]
fn weights_that_do_not_fit_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let model = Model::initialise(config(), 5).unwrap();
    let refused = |what: &str, change: &dyn Fn(&mut Tensors)| {
        model.save(folder.path(), Precision::F32).unwrap();
        let mut tensors = read_tensors(&path);
        change(&mut tensors);
        write_tensors(&path, &tensors);
        let message = Model::load(folder.path()).unwrap_err().to_string();
        assert!(message.contains(what) && message.contains("hint:"), "{message}");
        assert!(message.contains("model.safetensors"), "the file is named: {message}");
    };
    refused("lacks 1 of 20 tensors: `model.norm.weight`", &|t| drop(t.remove("model.norm.weight")));
    refused("`model.layers.7.x`", &|t| {
        t.insert("model.layers.7.x".into(), (Dtype::F32, vec![1], vec![0; 4]));
    });
    refused("shape [12, 19], [19, 12] is needed", &|t| {
        t.get_mut("model.embed_tokens.weight").unwrap().1 = vec![12, 19];
    });
    refused("type I32", &|t| t.get_mut("model.norm.weight").unwrap().0 = Dtype::I32);
    refused("holds NaN at place 2", &|t| {
        t.get_mut("model.norm.weight").unwrap().2[8..12].copy_from_slice(&f32::NAN.to_le_bytes());
    });
}

#[test]
fn damaged_files_are_refused_at_every_length() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    full_model().save(folder.path(), Precision::F32).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for length in [0, 7, 8, 9, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let message = Model::load(folder.path()).unwrap_err().to_string();
        assert!(message.contains("hint: the file is damaged"), "{length} bytes: {message}");
    }
    let mut surplus = whole.clone();
    surplus.push(0);
    std::fs::write(&path, &surplus).unwrap();
    assert!(Model::load(folder.path()).unwrap_err().to_string().contains("surplus"));
    let mut lie = whole.clone();
    lie[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    std::fs::write(&path, &lie).unwrap();
    assert!(Model::load(folder.path()).unwrap_err().to_string().contains("announces a header"));
    // Every byte of the header matters: no single change may panic or be taken for a different model.
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for at in (8..header).step_by(7) {
        let mut changed = whole.clone();
        changed[at] = changed[at].wrapping_add(1);
        std::fs::write(&path, &changed).unwrap();
        if let Ok(model) = Model::load(folder.path()) {
            assert_eq!(model.config(), &config(), "a change at {at} that is harmless keeps the shape");
        }
    }
    std::fs::remove_file(&path).unwrap();
    assert!(Model::load(folder.path()).unwrap_err().to_string().contains("model.safetensors"));
}

#[test]
fn heads_and_adapters_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |file: &str, change: &dyn Fn(&mut Value), part: &str| {
        full_model().save(folder.path(), Precision::F32).unwrap();
        edit(&folder.path().join(file), change);
        let message = Model::load(folder.path()).unwrap_err().to_string();
        assert!(message.contains(part) && message.contains("hint:"), "{message}");
    };
    refused("elenchus.json", &|e| e["heads"][0]["name"] = json!("reward"), "`reward.weight` is missing");
    refused("elenchus.json", &|e| e["heads"][1]["layer"] = json!(9), "hidden state");
    refused("elenchus.json", &|e| e["surprise"] = json!(1), "surprise");
    let adapter = "adapter/adapter_config.json";
    refused(adapter, &|e| e["r"] = json!(3), "shape [2, 12], [3, 12] is needed");
    refused(adapter, &|e| e["use_dora"] = json!(true), "use_dora");
    refused(adapter, &|e| e["peft_type"] = json!("IA3"), "IA3");
    refused(adapter, &|e| e["target_modules"] = json!(["v_proj"]), "does not announce");
    refused(adapter, &|e| e["target_modules"] = json!(["v_proj", "up_proj", "q_proj"]), "missing");
    refused(adapter, &|e| e["target_modules"] = json!("all-linear"), "target_modules");
    refused(adapter, &|e| e["rank_pattern"] = json!({"v_proj": 1}), "rank_pattern");
    full_model().save(folder.path(), Precision::F32).unwrap();
    edit(&folder.path().join(adapter), |e| e["target_modules"] = json!(["up_proj", "v_proj"]));
    assert_same(&Model::load(folder.path()).unwrap(), &full_model());
    let other = ModelConfig { layers: 3, ..config() };
    assert!(LoraAdapter::load(folder.path().join("adapter"), &other).is_err(), "another shape");
}

#[test]
fn a_tokenizer_must_fit_the_vocabulary() {
    let folder = tempfile::tempdir().unwrap();
    let words = |n: usize| (0..n).map(|i| format!("w{i}")).collect::<Vec<_>>();
    let model = Model::initialise(config(), 5).unwrap();
    let fitting = Some(Tokenizer::word_level(&words(16)).unwrap());
    let checkpoint = Checkpoint { model: model.clone(), tokenizer: fitting };
    checkpoint.save(folder.path(), Precision::F32).unwrap();
    let loaded = Checkpoint::load(folder.path()).unwrap();
    assert_eq!(loaded.tokenizer.unwrap().encode("w3w15").unwrap(), [6, 18]);
    let large = Tokenizer::word_level(&words(17)).unwrap();
    large.save(folder.path()).unwrap();
    let message = Checkpoint::load(folder.path()).unwrap_err().to_string();
    assert!(message.contains("ids up to 19") && message.contains("ends at 18"), "{message}");
    let refused = Checkpoint { model, tokenizer: Some(large) }.save(folder.path(), Precision::F32);
    assert!(refused.unwrap_err().to_string().contains("vocabulary of 20"));
}

/// Training, stopped in the middle and continued from disk, gives the same bits as training in one go.
#[test]
fn optimiser_state_continues_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let groups = vec![vec![Sequence { tokens: vec![3, 4, 5, 6, 7, 3, 4, 5], first_target: 2 }]];
    let objective = |_: usize, outputs: &[SequenceOutput]| {
        let one = |o: &SequenceOutput| SequenceGradient {
            logprobs: vec![-1.0; o.logprobs.len()],
            heads: vec![vec![0.1; 8], vec![]],
            ..Default::default()
        };
        (
            outputs.iter().flat_map(|o| &o.logprobs).map(|l| -f64::from(*l)).sum(),
            outputs.iter().map(one).collect(),
        )
    };
    for (trainable, matrices) in [
        (Trainable::All, MatrixUpdate::AdamW),
        (Trainable::All, MatrixUpdate::Muon),
        (Trainable::Adapter, MatrixUpdate::AdamW),
        (Trainable::Adapter, MatrixUpdate::Muon),
    ] {
        let mut model = full_model();
        let mut gradient = Gradient::new(&model, trainable).unwrap();
        let config = AdamWConfig { learning_rate: 0.01, matrices, ..Default::default() };
        let mut optimiser = AdamW::new(config, &gradient);
        let options = ForwardOptions { threads: 1, ..Default::default() };
        let mut engine = Engine::new();
        let mut step = |model: &mut Model, optimiser: &mut AdamW| {
            gradient.zero();
            let loss = engine.forward_backward(model, &groups, &options, &objective, &mut gradient).unwrap();
            optimiser.step(model, &gradient, 1.0, 1).unwrap();
            loss
        };
        let mut losses = vec![step(&mut model, &mut optimiser), step(&mut model, &mut optimiser)];
        model.save(folder.path(), Precision::F32).unwrap();
        optimiser.save(folder.path()).unwrap();
        losses.push(step(&mut model, &mut optimiser));
        assert!(losses[2] < losses[0], "training lowers the loss: {losses:?}");
        let mut model_again = Model::load(folder.path()).unwrap();
        let fresh = Gradient::new(&model_again, trainable).unwrap();
        let mut optimiser_again = AdamW::load(folder.path(), config, &fresh).unwrap();
        assert_eq!(optimiser_again.steps(), 2);
        assert_eq!(losses[2], step(&mut model_again, &mut optimiser_again));
        assert_same(&model, &model_again);
        // What is remembered matters: without it the next step is another one.
        let mut model_forgetful = Model::load(folder.path()).unwrap();
        step(&mut model_forgetful, &mut AdamW::new(config, &fresh));
        let moved = |other: &Model| {
            model.parameters != other.parameters
                || model.adapter.as_ref().map(|a| &a.numbers) != other.adapter.as_ref().map(|a| &a.numbers)
        };
        assert!(moved(&model_forgetful) && !moved(&model_again), "{trainable:?}, {matrices:?}");
        let heads = Gradient::new(&model, Trainable::Heads).unwrap();
        assert!(AdamW::load(folder.path(), config, &heads).unwrap_err().to_string().contains("shape"));
    }
}

#[test]
fn copies_average_and_stay_apart() {
    let (mut average, mut model) = (full_model(), full_model());
    let reference = model.clone();
    model.parameters[0] += 1.0;
    model.heads[0].bias += 2.0;
    model.adapter.as_mut().unwrap().numbers[0] += 4.0;
    average.average_with(&model, 0.75).unwrap();
    assert!((average.parameters[0] - reference.parameters[0] - 0.25).abs() < 1e-6);
    assert!((average.heads[0].bias - reference.heads[0].bias - 0.5).abs() < 1e-6);
    let first = |m: &Model| m.adapter.as_ref().unwrap().numbers[0];
    assert!((first(&average) - first(&reference) - 1.0).abs() < 1e-6);
    assert_same(&reference, &full_model());
    model.adapter = None;
    assert!(average.average_with(&model, 0.5).unwrap_err().to_string().contains("hint:"));
}
