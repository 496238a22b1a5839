//! Decoding speed: `cargo bench -p elenchus-native --bench decode -- [--threads N] [--seconds S] [--with-distributions]`.
//!
//! Two model sizes, 64 samples and 1 sample of 96 tokens from one 48-token prompt, with log-probabilities; then a batch
//! of very unequal lengths. Prints tokens per second: median of rounds and their range.

mod common;

use common::size;
use elenchus_native::{DecodeRequest, Decoder, DecoderOptions, Detail, Layout, Model, ModelConfig};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::ops::ControlFlow;
use std::time::Instant;

/// Random weights: what is written does not matter here.
fn model(config: ModelConfig) -> Result<Model, Box<dyn std::error::Error>> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut parameters = vec![0.0f32; Layout::new(&config).total()];
    for parameter in Layout::new(&config).parameters() {
        let matrix = parameter.shape.len() == 2;
        for place in &mut parameters[parameter.range.clone()] {
            *place = if matrix { 0.1 * (random.random::<f32>() - 0.5) } else { 1.0 };
        }
    }
    Ok(Model::from_parameters(config, parameters)?)
}

fn argument<T: std::str::FromStr>(name: &str, default: T) -> T {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1).and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Seconds that this thread has run, without those that other processes had the core; Linux only.
fn own_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(text.split_whitespace().next()?.parse::<f64>().ok()? / 1e9)
}

/// Median, lowest and highest tokens per second of rounds within a time; and for the time this thread ran.
fn measure(
    seconds: f64,
    mut round: impl FnMut() -> Result<usize, Box<dyn std::error::Error>>,
) -> Result<String, Box<dyn std::error::Error>> {
    round()?;
    let (start, mut speeds, mut written, own) = (Instant::now(), Vec::new(), 0, own_seconds());
    while speeds.len() < 3 || start.elapsed().as_secs_f64() < seconds {
        let begin = Instant::now();
        let tokens = round()?;
        speeds.push(tokens as f64 / begin.elapsed().as_secs_f64());
        written += tokens;
    }
    speeds.sort_by(f64::total_cmp);
    let (low, high) = (speeds[0], speeds[speeds.len() - 1]);
    let own = own_seconds().zip(own).map_or(f64::NAN, |(end, begin)| written as f64 / (end - begin));
    let median = speeds[speeds.len() / 2];
    Ok(format!(
        "{median:>8.0} tokens/s [{low:.0} to {high:.0}, {} rounds], {own:.0} per own second",
        speeds.len()
    ))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seconds = argument("--seconds", 2.0);
    let threads: usize = argument("--threads", 2);
    let only: String = argument("--size", String::new());
    let distributions = std::env::args().any(|argument| argument == "--with-distributions");
    let detail = if distributions { Detail::Distribution } else { Detail::Chosen };
    for name in ["S", "M"] {
        if !only.is_empty() && only != name {
            continue;
        }
        let config = size(name, 1024);
        let model = model(config.clone())?;
        let mut random = ChaCha8Rng::seed_from_u64(2);
        let mut prompt = |length| {
            (0..length).map(|_| random.random_range(0..config.vocab_size as u32)).collect::<Vec<u32>>()
        };
        let shared = prompt(48);
        for samples in [64, 1] {
            let options = DecoderOptions { threads, max_batch_rows: 64, ..Default::default() };
            let mut decoder = Decoder::new(&model, options)?;
            let request = DecodeRequest {
                prompt: shared.clone(),
                samples,
                max_new_tokens: 96,
                detail,
                ..Default::default()
            };
            // The shortest time seen for each step, over all rounds: what a machine with nothing else to do would need.
            let mut shortest = vec![f64::INFINITY; 96];
            let speed = measure(seconds, || {
                let (mut step, mut last) = (0, Instant::now());
                let decoded = decoder.decode_with(std::slice::from_ref(&request), &mut |event| {
                    if event.sample == 0 {
                        let now = Instant::now();
                        shortest[step] = shortest[step].min((now - last).as_secs_f64());
                        (step, last) = (step + 1, now);
                    }
                    ControlFlow::Continue(())
                })?;
                Ok(decoded[0].iter().map(|decoded| decoded.tokens.len()).sum())
            })?;
            let undisturbed = (96 * samples) as f64 / shortest.iter().sum::<f64>();
            let speed = format!("{speed}, {undisturbed:.0} undisturbed");
            println!("{name} x{samples:<3} {threads} threads: {speed}");
        }
        // Lengths from 4 to 192, three requests in four short: a fixed batch would wait for its longest.
        let requests: Vec<DecodeRequest> = (0..160)
            .map(|i: usize| DecodeRequest {
                prompt: prompt(16 + i * 7 % 48),
                samples: 2,
                seed: i as u64,
                max_new_tokens: if i.is_multiple_of(4) { 96 + i * 31 % 96 } else { 4 + i * 13 % 44 },
                detail,
                ..Default::default()
            })
            .collect();
        let options = DecoderOptions { threads, max_batch_rows: 64, ..Default::default() };
        let mut decoder = Decoder::new(&model, options)?;
        let speed = measure(seconds, || {
            Ok(decoder.decode(&requests)?.iter().flatten().map(|decoded| decoded.tokens.len()).sum())
        })?;
        let counters = decoder.counters();
        let fixed: usize = requests
            .chunks(32)
            .map(|chunk| 64 * chunk.iter().map(|request| request.max_new_tokens).max().unwrap_or(0))
            .sum();
        let useful: usize = requests.iter().map(|request| 2 * request.max_new_tokens).sum();
        println!(
            "{name} unequal lengths, 64 rows: {speed}\n  computed rows without use {:.1} %, idle places {:.1} % (a fixed batch: {:.1} %)",
            100.0 * (1.0 - counters.useful_rows as f64 / counters.step_rows as f64),
            100.0 * (1.0 - counters.useful_rows as f64 / counters.row_capacity as f64),
            100.0 * (1.0 - useful as f64 / fixed as f64),
        );
    }
    Ok(())
}
