//! Our engine against values that `transformers` gave: the same checkpoints, texts, log-probabilities and continuations.
//!
//! `tests/peers/logits.py` recorded them; its README says how to record again. The embedded model shows that our folders
//! load there, the three small checkpoints (written by `save_pretrained`) that theirs load here.

#![expect(clippy::unwrap_used, reason = "a test helper that fails should stop the test")]

use elenchus_native::{
    Checkpoint, DecodeRequest, Decoder, DecoderOptions, Detail, Engine, ForwardOptions, ScoreRequest,
    Sequence,
};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Largest difference allowed between a recorded and a computed number, in nats. The recorded ones are rounded to 1e-6
/// and come from single precision, so most of what is seen is the rounding of two ways to add.
const TOLERANCE: f64 = 1e-4;

#[derive(Deserialize)]
struct Record {
    models: Vec<ModelRecord>,
}

#[derive(Deserialize)]
struct ModelRecord {
    /// From the root of the repository.
    folder: String,
    /// Of each weight file.
    fingerprint: BTreeMap<String, String>,
    end_tokens: Vec<u32>,
    tokenizer: Vec<TextRecord>,
    sequences: Vec<SequenceRecord>,
    greedy: Vec<GreedyRecord>,
}

#[derive(Deserialize)]
struct TextRecord {
    text: String,
    tokens: Vec<u32>,
    decoded: String,
    decoded_all: String,
}

#[derive(Deserialize)]
struct SequenceRecord {
    tokens: Vec<u32>,
    /// Of each token after the first.
    logprobs: Vec<f64>,
    /// Of the distributions those tokens came from.
    entropies: Vec<f64>,
    /// Log-distribution behind the last token.
    next: Vec<f64>,
}

#[derive(Deserialize)]
struct GreedyRecord {
    prompt: Vec<u32>,
    tokens: Vec<u32>,
    logprobs: Vec<f64>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn record() -> Record {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/transformers.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// FNV-1a over the 32-bit little-endian words of a file, as the script computes it.
fn fingerprint(path: &Path) -> String {
    let mut bytes = std::fs::read(path).unwrap();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    let mix = |state: u64, word: &[u8]| {
        let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        (state ^ u64::from(word)).wrapping_mul(0x0000_0100_0000_01b3)
    };
    format!("{:016x}", bytes.chunks_exact(4).fold(0xcbf2_9ce4_8422_2325, mix))
}

/// The checkpoints with what was recorded about them, after checking that they are the recorded ones.
fn recorded() -> Vec<(ModelRecord, Checkpoint)> {
    let models = record().models;
    assert_eq!(models.len(), 4, "seedling, llama, qwen2, qwen3");
    let load = |model: ModelRecord| {
        let folder = root().join(&model.folder);
        for (file, recorded) in &model.fingerprint {
            assert_eq!(
                &fingerprint(&folder.join(file)),
                recorded,
                "`{}/{file}` is not the file whose values were recorded\n\
                 hint: record again with `python tests/peers/logits.py --record`",
                model.folder
            );
        }
        let checkpoint = Checkpoint::load(&folder).unwrap();
        (model, checkpoint)
    };
    models.into_iter().map(load).collect()
}

/// The largest difference seen, and where.
#[derive(Default)]
struct Largest {
    difference: f64,
    place: String,
    numbers: usize,
}

impl Largest {
    fn compare(&mut self, place: &str, computed: &[f32], recorded: &[f64]) {
        assert_eq!(computed.len(), recorded.len(), "{place}: one number for each recorded one");
        for (index, (computed, recorded)) in computed.iter().zip(recorded).enumerate() {
            let difference = (f64::from(*computed) - recorded).abs();
            assert!(difference.is_finite(), "{place}, number {index}: {computed}");
            self.numbers += 1;
            if difference > self.difference {
                self.difference = difference;
                self.place = format!("{place}, number {index}: {computed}, recorded {recorded}");
            }
        }
    }

    fn check(&self, what: &str) {
        println!("{what}: {} numbers, largest difference {:.2e} nats", self.numbers, self.difference);
        assert!(self.numbers > 0, "{what}: nothing was compared");
        assert!(self.difference <= TOLERANCE, "{what}: {:.2e} at {}", self.difference, self.place);
    }
}

#[test]
fn texts_become_the_same_tokens_and_back() {
    let mut texts = 0;
    for (model, checkpoint) in recorded().iter().filter(|(model, _)| !model.tokenizer.is_empty()) {
        let tokenizer = checkpoint.tokenizer.as_ref().unwrap();
        for entry in &model.tokenizer {
            let at = format!("{}: {:?}", model.folder, entry.text);
            assert_eq!(tokenizer.encode(&entry.text).unwrap(), entry.tokens, "{at}");
            assert_eq!(tokenizer.decode(&entry.tokens).unwrap(), entry.decoded, "{at}");
            assert_eq!(tokenizer.decode_all(&entry.tokens).unwrap(), entry.decoded_all, "{at}");
            texts += 1;
        }
    }
    assert!(texts >= 24, "a dozen texts for each of two tokenizers, got {texts}");
}

#[test]
fn end_tokens_are_those_that_generate_stops_at() {
    for (model, checkpoint) in &recorded() {
        assert_eq!(checkpoint.model.config().eos_token_ids, model.end_tokens, "{}", model.folder);
    }
}

#[test]
fn the_training_engine_meets_the_recorded_log_probabilities() {
    for (model, checkpoint) in &recorded() {
        let sequences: Vec<Sequence> = model
            .sequences
            .iter()
            .map(|sequence| Sequence { tokens: sequence.tokens.clone(), first_target: 1 })
            .collect();
        let options = ForwardOptions { entropies: true, threads: 2, ..ForwardOptions::default() };
        let outputs = Engine::new().logprobs(&checkpoint.model, &sequences, &options).unwrap();
        assert_eq!(outputs.len(), model.sequences.len(), "one output per sequence");
        let (mut logprobs, mut entropies) = (Largest::default(), Largest::default());
        for (index, (output, recorded)) in outputs.iter().zip(&model.sequences).enumerate() {
            let place = format!("sequence {index}");
            logprobs.compare(&place, &output.logprobs, &recorded.logprobs);
            entropies.compare(&place, &output.entropies, &recorded.entropies);
        }
        logprobs.check(&format!("{}, training engine, log-probabilities", model.folder));
        entropies.check(&format!("{}, training engine, entropies", model.folder));
    }
}

#[test]
fn the_decoder_meets_the_recorded_distributions_and_scores() {
    for (model, checkpoint) in &recorded() {
        let mut decoder =
            Decoder::new(&checkpoint.model, DecoderOptions { threads: 2, ..DecoderOptions::default() })
                .unwrap();
        let prompts: Vec<Vec<u32>> = model.sequences.iter().map(|s| s.tokens.clone()).collect();
        let labels: Vec<u32> = (0..checkpoint.model.config().vocab_size as u32).collect();
        let mut next = Largest::default();
        for (index, (computed, recorded)) in
            decoder.label_logprobs(&prompts, &labels).unwrap().iter().zip(&model.sequences).enumerate()
        {
            next.compare(&format!("sequence {index}"), computed, &recorded.next);
        }
        next.check(&format!("{}, decoder, whole distributions", model.folder));

        // The first token is the prefix, read by another path than what follows it.
        let requests: Vec<ScoreRequest> = model
            .sequences
            .iter()
            .map(|sequence| ScoreRequest {
                prefix: sequence.tokens[..1].to_vec(),
                continuations: vec![sequence.tokens[1..].to_vec()],
                ..ScoreRequest::default()
            })
            .collect();
        let mut scores = Largest::default();
        for (index, (scored, recorded)) in
            decoder.score(&requests).unwrap().iter().zip(&model.sequences).enumerate()
        {
            scores.compare(&format!("sequence {index}"), &scored[0].logprobs, &recorded.logprobs);
        }
        scores.check(&format!("{}, decoder, scores", model.folder));
    }
}

#[test]
fn greedy_decoding_writes_what_generate_writes() {
    for (model, checkpoint) in &recorded() {
        let mut decoder =
            Decoder::new(&checkpoint.model, DecoderOptions { threads: 2, ..DecoderOptions::default() })
                .unwrap();
        let requests: Vec<DecodeRequest> = model
            .greedy
            .iter()
            .map(|greedy| DecodeRequest {
                prompt: greedy.prompt.clone(),
                max_new_tokens: greedy.tokens.len(),
                temperature: 0.0,
                detail: Detail::Chosen,
                ..DecodeRequest::default()
            })
            .collect();
        let mut logprobs = Largest::default();
        for (index, (decoded, greedy)) in
            decoder.decode(&requests).unwrap().iter().zip(&model.greedy).enumerate()
        {
            let place = format!("{}, continuation {index}", model.folder);
            assert_eq!(decoded[0].tokens, greedy.tokens, "{place}");
            logprobs.compare(&place, &decoded[0].logprobs, &greedy.logprobs);
        }
        logprobs.check(&format!("{}, greedy decoding", model.folder));
    }
}
