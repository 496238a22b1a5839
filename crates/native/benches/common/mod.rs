//! What the benches share: model shapes, the GEMM peak, peak memory.

#![allow(dead_code, reason = "each bench is a program of its own and uses a part")]

use elenchus_native::ModelConfig;
use std::time::{Duration, Instant};

/// A Llama-style shape: head count divides the width, tied embeddings, nothing ends a sequence early.
pub fn shape(
    width: usize,
    layers: usize,
    heads: usize,
    intermediate: usize,
    vocabulary: usize,
    positions: usize,
) -> ModelConfig {
    ModelConfig {
        vocab_size: vocabulary,
        hidden_size: width,
        intermediate_size: intermediate,
        layers,
        heads,
        kv_heads: heads,
        head_dim: width / heads,
        rope_theta: 10_000.0,
        rms_norm_eps: 1e-5,
        max_positions: positions,
        tie_embeddings: true,
        qkv_bias: false,
        qk_norm: false,
        eos_token_ids: Vec::new(),
    }
}

/// Size S or M with this many positions.
pub fn size(name: &str, positions: usize) -> ModelConfig {
    match name {
        "S" => shape(128, 4, 4, 384, 128, positions),
        _ => shape(256, 6, 8, 768, 512, positions),
    }
}

/// GFLOP/s of single-threaded products, one per thread at once, over the shapes of a model.
pub fn gemm_peak(config: &ModelConfig, rows: usize, threads: usize, time: Duration) -> f64 {
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

/// Peak resident memory of this process in MB (10⁶ bytes), where the system tells.
pub fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    line.split_whitespace().nth(1)?.parse::<f64>().ok().map(|kib| kib * 1024.0 / 1e6)
}

/// The middle value, or the mean of the two in the middle.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
}
