//! Training speed: tokens per second, GFLOP/s and the share of the GEMM peak measured in the same run.
//!
//! `cargo bench -p elenchus-native --bench train [-- seconds]`. Sizes S and M; a step is forward, backward and AdamW.

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

#[expect(clippy::too_many_arguments, reason = "the shape, spelled out once per size")]
fn size(
    name: &'static str,
    d: usize,
    layers: usize,
    heads: usize,
    f: usize,
    v: usize,
    t: usize,
    b: usize,
) -> Size {
    let config = ModelConfig {
        vocab_size: v,
        hidden_size: d,
        intermediate_size: f,
        layers,
        heads,
        kv_heads: heads,
        head_dim: d / heads,
        rope_theta: 10_000.0,
        rms_norm_eps: 1e-5,
        max_positions: t,
        tie_embeddings: true,
        qkv_bias: false,
        qk_norm: false,
        eos_token_ids: vec![],
    };
    Size { name, config, tokens: t, batch: b }
}

/// GFLOP/s of single-threaded products, one per thread at once, over the shapes of a model.
fn gemm_peak(config: &ModelConfig, rows: usize, threads: usize, time: Duration) -> f64 {
    let (d, f) = (config.hidden_size, config.intermediate_size);
    let shapes = [(rows, 2 * f, d), (rows, d, f), (rows, 3 * d, d), (rows, d, d)];
    let run = || {
        let a = vec![0.5f32; rows * 2 * f.max(d)];
        let b = vec![0.25f32; 2 * f * d.max(f)];
        let mut c = vec![0.0f32; rows * 2 * f.max(3 * d)];
        let (start, mut flops) = (Instant::now(), 0.0);
        while start.elapsed() < time {
            for (m, n, k) in shapes {
                assert!(a.len() >= m * k && b.len() >= n * k && c.len() >= m * n);
                // SAFETY: the assertion holds the three matrices within their vectors; a and b are only read.
                unsafe {
                    gemm::gemm(
                        m,
                        n,
                        k,
                        c.as_mut_ptr(),
                        1,
                        n as isize,
                        false,
                        a.as_ptr(),
                        1,
                        k as isize,
                        b.as_ptr(),
                        k as isize,
                        1,
                        0.0,
                        1.0,
                        false,
                        false,
                        false,
                        gemm::Parallelism::None,
                    );
                }
                flops += 2.0 * (m * n * k) as f64;
            }
        }
        flops / start.elapsed().as_secs_f64() / 1e9
    };
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        handles.into_iter().map(|handle| handle.join().unwrap_or(0.0)).sum()
    })
}

/// Peak resident memory in MB, where the system tells.
fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kib| kib / 1024.0)
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
        size("S", 128, 4, 4, 384, 128, 128, 64),
        size("S40", 128, 4, 4, 384, 128, 40, 192),
        size("M", 256, 6, 8, 768, 512, 256, 32),
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
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
    };
    Ok((median(peaks), median(rates)))
}
