//! Our side of `benches/peers/run.py`: one job, given as JSON, one line of JSON back.
//!
//! The jobs and their numbers (shapes, batches, lengths) are defined in that script, once for all stacks:
//! `cargo bench -p elenchus-native --bench peers -- '{"kind":"train", …}'`. For figures without the script there are
//! the benches `train` and `decode`.

mod common;

use common::{gemm_peak, median, peak_memory};
use elenchus_native::{
    AdamW, AdamWConfig, DecodeRequest, Decoder, DecoderOptions, Engine, ForwardOptions, Gradient, Model,
    ModelConfig, Precision, Sequence, SequenceGradient, SequenceOutput, Trainable,
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What to do.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Job {
    /// Write a folder with random weights, which all stacks then load.
    Weights {
        folder: PathBuf,
        seed: u64,
        shape: ModelConfig,
    },
    Train(TrainJob),
    Decode(DecodeJob),
    Unequal(UnequalJob),
}

/// Training steps over one batch, as fast as possible.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TrainJob {
    weights: PathBuf,
    /// Sequences of a step.
    batch: usize,
    /// Tokens of a sequence; all but the first are targets.
    tokens: usize,
    threads: usize,
    seconds: f64,
    /// Losses of this many steps are returned before the clock starts.
    checked_steps: usize,
    optimiser: AdamWConfig,
}

/// Samples from one prompt, with their log-probabilities.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DecodeJob {
    weights: PathBuf,
    prompt: Vec<u32>,
    samples: usize,
    new_tokens: usize,
    threads: usize,
    seconds: f64,
}

/// Requests of very unequal lengths through one decoder.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UnequalJob {
    weights: PathBuf,
    /// Sequences decoded together at most.
    rows: usize,
    samples: usize,
    requests: Vec<Lengths>,
    threads: usize,
    seconds: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lengths {
    prompt_tokens: usize,
    new_tokens: usize,
}

type Answer = Result<Value, Box<dyn std::error::Error>>;

/// Repeats until the time is over: tokens per second, seconds and repeats.
fn measure(
    seconds: f64,
    mut repeat: impl FnMut() -> Result<usize, Box<dyn std::error::Error>>,
) -> Result<(f64, f64, usize), Box<dyn std::error::Error>> {
    let (start, mut tokens, mut repeats) = (Instant::now(), 0, 0);
    while repeats == 0 || start.elapsed().as_secs_f64() < seconds {
        tokens += repeat()?;
        repeats += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok((tokens as f64 / seconds, seconds, repeats))
}

/// Token t of sequence b; the other stacks use the same formula.
fn training_token(b: u64, t: u64, vocabulary: u64) -> u32 {
    ((b * 7919 + t * t * 31 + t) % vocabulary) as u32
}

fn train(job: &TrainJob) -> Answer {
    let mut model = Model::load(&job.weights)?;
    let vocabulary = model.config().vocab_size as u64;
    let groups: Vec<Vec<Sequence>> = (0..job.batch as u64)
        .map(|b| {
            let tokens = (0..job.tokens as u64).map(|t| training_token(b, t, vocabulary)).collect();
            vec![Sequence { tokens, first_target: 1 }]
        })
        .collect();
    let targets = (job.batch * (job.tokens - 1)) as f64;
    // Mean cross-entropy over all targets of the batch.
    let objective = |_: usize, outputs: &[SequenceOutput]| {
        let gradient = |output: &SequenceOutput| SequenceGradient {
            logprobs: vec![(-1.0 / targets) as f32; output.logprobs.len()],
            ..SequenceGradient::default()
        };
        let loss: f64 = outputs.iter().flat_map(|o| &o.logprobs).map(|l| -f64::from(*l)).sum();
        (loss / targets, outputs.iter().map(gradient).collect())
    };
    let options = ForwardOptions { threads: job.threads, ..ForwardOptions::default() };
    let mut engine = Engine::new();
    let mut gradient = Gradient::new(&model, Trainable::All)?;
    let mut optimiser = AdamW::new(job.optimiser, &gradient);
    let config = model.config().clone();
    let parameters = model.layout().total() as f64;
    let mut step = || -> Result<f64, Box<dyn std::error::Error>> {
        gradient.zero();
        let loss = engine.forward_backward(&model, &groups, &options, &objective, &mut gradient)?;
        optimiser.step(&mut model, &gradient, 1.0, job.threads)?;
        Ok(loss)
    };
    let losses = (0..job.checked_steps.max(1)).map(|_| step()).collect::<Result<Vec<f64>, _>>()?;
    // Turns of training and of products alone, because the machine's speed drifts.
    let turns = 4;
    let (mut peaks, mut rates, mut repeats, mut spent) = (Vec::new(), Vec::new(), 0, 0.0);
    let mut memory = None;
    for _ in 0..turns {
        let (rate, seconds, steps) = measure(job.seconds / f64::from(turns), || {
            step()?;
            Ok(job.batch * job.tokens)
        })?;
        rates.push(rate * seconds);
        (repeats, spent) = (repeats + steps, spent + seconds);
        // Before the products take memory of their own; a step needs the same memory every time.
        memory = memory.or_else(peak_memory);
        peaks.push(gemm_peak(&config, 256, job.threads, Duration::from_secs_f64(job.seconds / 16.0)));
    }
    let rate = rates.iter().sum::<f64>() / spent;
    // 6 N per token, attention not counted, as is usual.
    let gflops = 6.0 * parameters * rate / 1e9;
    let peak = median(peaks);
    Ok(json!({
        "tokens_per_second": rate, "seconds": spent, "repeats": repeats, "losses": losses,
        "gflops": gflops, "gemm_gflops": peak, "gemm_share": gflops / peak, "peak_memory_mb": memory,
    }))
}

fn decode(job: &DecodeJob) -> Answer {
    let model = Model::load(&job.weights)?;
    let vocabulary = model.config().vocab_size as u32;
    let options =
        DecoderOptions { threads: job.threads, max_batch_rows: job.samples, ..DecoderOptions::default() };
    let mut decoder = Decoder::new(&model, options)?;
    let labels: Vec<u32> = (0..vocabulary).collect();
    let next = decoder.label_logprobs(std::slice::from_ref(&job.prompt), &labels)?;
    let mut seed = 0;
    let (mut total_logprob, mut total_tokens) = (0.0, 0);
    let mut repeat = || -> Result<usize, Box<dyn std::error::Error>> {
        seed += 1;
        let request = DecodeRequest {
            prompt: job.prompt.clone(),
            samples: job.samples,
            max_new_tokens: job.new_tokens,
            seed,
            ..DecodeRequest::default()
        };
        let decoded = decoder.decode(&[request])?;
        let logprobs: Vec<f32> = decoded.iter().flatten().flat_map(|d| &d.logprobs).copied().collect();
        if logprobs.len() != job.samples * job.new_tokens {
            let (got, wanted) = (logprobs.len(), job.samples * job.new_tokens);
            return Err(format!("{got} log-probabilities instead of {wanted}").into());
        }
        total_logprob += logprobs.iter().map(|l| f64::from(*l)).sum::<f64>();
        total_tokens += logprobs.len();
        Ok(logprobs.len())
    };
    repeat()?;
    let (rate, seconds, repeats) = measure(job.seconds, repeat)?;
    Ok(json!({
        "tokens_per_second": rate, "seconds": seconds, "repeats": repeats, "next_logprobs": next[0],
        "mean_logprob": total_logprob / total_tokens as f64, "peak_memory_mb": peak_memory(),
        "instructions": decoder.instructions(),
    }))
}

fn unequal(job: &UnequalJob) -> Answer {
    let model = Model::load(&job.weights)?;
    let vocabulary = model.config().vocab_size as u64;
    let requests: Vec<DecodeRequest> = job
        .requests
        .iter()
        .enumerate()
        .map(|(index, lengths)| DecodeRequest {
            prompt: (0..lengths.prompt_tokens as u64)
                .map(|t| training_token(index as u64, t, vocabulary))
                .collect(),
            samples: job.samples,
            seed: index as u64,
            max_new_tokens: lengths.new_tokens,
            ..DecodeRequest::default()
        })
        .collect();
    let options =
        DecoderOptions { threads: job.threads, max_batch_rows: job.rows, ..DecoderOptions::default() };
    let mut decoder = Decoder::new(&model, options)?;
    let mut repeat = || -> Result<usize, Box<dyn std::error::Error>> {
        Ok(decoder.decode(&requests)?.iter().flatten().map(|decoded| decoded.tokens.len()).sum())
    };
    repeat()?;
    let (rate, seconds, repeats) = measure(job.seconds, repeat)?;
    let counters = decoder.counters();
    // What batches of `rows` sequences would waste that wait for their longest.
    let longest = |chunk: &[Lengths]| chunk.iter().map(|l| l.new_tokens).max().unwrap_or(0);
    let fixed: usize =
        job.requests.chunks((job.rows / job.samples).max(1)).map(|chunk| job.rows * longest(chunk)).sum();
    let useful: usize = job.requests.iter().map(|l| job.samples * l.new_tokens).sum();
    Ok(json!({
        "tokens_per_second": rate, "seconds": seconds, "repeats": repeats,
        "wasted_rows": 1.0 - counters.useful_rows as f64 / counters.step_rows as f64,
        "idle_places": 1.0 - counters.useful_rows as f64 / counters.row_capacity as f64,
        "fixed_batch_waste": 1.0 - useful as f64 / fixed as f64,
        "peak_memory_mb": peak_memory(),
    }))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // `cargo bench` adds a flag of its own.
    let Some(job) = std::env::args().skip(1).find(|argument| argument != "--bench") else {
        println!(
            "no job given: this bench is run by benches/peers/run.py; see `train` and `decode` for figures"
        );
        return Ok(());
    };
    let answer = match serde_json::from_str(&job)? {
        Job::Weights { folder, seed, shape } => {
            Model::initialise(shape, seed)?.save(&folder, Precision::F32)?;
            json!({"folder": folder})
        }
        Job::Train(job) => train(&job)?,
        Job::Decode(job) => decode(&job)?,
        Job::Unequal(job) => unequal(&job)?,
    };
    println!("{answer}");
    Ok(())
}
