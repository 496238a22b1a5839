//! Training speed: tokens per second, GFLOP/s and the share of the GEMM peak measured in the same run.
//!
//! `cargo bench -p elenchus-native --bench train [-- seconds]`. Sizes S and M; a step is forward, backward and AdamW.

mod common;

use common::{gemm_peak, median, peak_memory, shape, size};
use elenchus_native::{
    AdamW, AdamWConfig, Engine, ForwardOptions, Gradient, Model, ModelConfig, Sequence, SequenceGradient,
    SequenceOutput, Trainable,
};
use std::time::{Duration, Instant};

struct Size {
    name: &'static str,
    config: ModelConfig,
    tokens: usize,
    batch: usize,
}

fn objective(_: usize, outputs: &[SequenceOutput]) -> (f64, Vec<SequenceGradient>) {
    let gradient = |o: &SequenceOutput| SequenceGradient {
        logprobs: vec![-1e-4; o.logprobs.len()],
        ..SequenceGradient::default()
    };
    let loss = outputs.iter().flat_map(|o| &o.logprobs).map(|l| -f64::from(*l)).sum();
    (loss, outputs.iter().map(gradient).collect())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seconds: f64 = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(2.0);
    let time = Duration::from_secs_f64(seconds);
    println!("size  threads  tokens/s   GFLOP/s  GEMM peak  share  peak RSS so far");
    for size in [
        Size { name: "S", config: size("S", 128), tokens: 128, batch: 64 },
        Size { name: "S40", config: shape(128, 4, 4, 384, 128, 40), tokens: 40, batch: 192 },
        Size { name: "M", config: size("M", 256), tokens: 256, batch: 32 },
    ] {
        for threads in [1, 2] {
            let (peak, tokens_per_second) = measure(&size, threads, time)?;
            let c = &size.config;
            // 6 N per token, attention not counted, as is usual.
            let parameters = Model::initialise(c.clone(), 0)?.layout().total() as f64;
            let flops = 6.0 * parameters * tokens_per_second / 1e9;
            let memory = peak_memory().map_or("?".into(), |mb| format!("{mb:.0} MB"));
            println!(
                "{:<5} {threads:>7} {tokens_per_second:>9.0} {flops:>9.1} {peak:>10.1} {:>5.0}%  {memory}",
                size.name,
                100.0 * flops / peak
            );
        }
    }
    Ok(())
}

/// The GEMM peak and the tokens per second, measured in turns because the machine may be shared.
fn measure(size: &Size, threads: usize, time: Duration) -> Result<(f64, f64), Box<dyn std::error::Error>> {
    let mut model = Model::initialise(size.config.clone(), 1)?;
    let vocabulary = size.config.vocab_size as u32;
    let groups: Vec<Vec<Sequence>> = (0..size.batch as u32)
        .map(|b| {
            let tokens = (0..size.tokens as u32).map(|t| (b * 7919 + t * t * 31 + t) % vocabulary).collect();
            vec![Sequence { tokens, first_target: 1 }]
        })
        .collect();
    let options = ForwardOptions { threads, ..ForwardOptions::default() };
    let mut engine = Engine::new();
    let mut gradient = Gradient::new(&model, Trainable::All)?;
    let mut optimiser = AdamW::new(AdamWConfig::default(), &gradient);
    let mut step = || -> Result<(), elenchus_native::NativeError> {
        gradient.zero();
        engine.forward_backward(&model, &groups, &options, &objective, &mut gradient)?;
        optimiser.step(&mut model, &gradient, 1.0, threads)?;
        Ok(())
    };
    step()?;
    let turns = 4;
    let (mut peaks, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..turns {
        peaks.push(gemm_peak(&size.config, 256, threads, time / (2 * turns)));
        let (start, mut steps) = (Instant::now(), 0);
        while start.elapsed() < time / turns {
            step()?;
            steps += 1;
        }
        rates.push((steps * size.batch * size.tokens) as f64 / start.elapsed().as_secs_f64());
    }
    Ok((median(peaks), median(rates)))
}
