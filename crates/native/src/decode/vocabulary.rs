//! Sums over the logits of one row.

use super::kernel::{DistributionSums, Exponentials};
use super::simd::{LANES, Simd};

/// log p of a token whose logit is −∞, in the statistics.
pub(super) const MASKED_LOGPROB: f32 = -60.0;

/// Writes the exponentials, returns their sum.
#[inline(always)]
pub(super) unsafe fn exponentials_body<S: Simd>(p: &Exponentials) -> f64 {
    // SAFETY: both arrays hold whole vectors.
    unsafe {
        let (shift, factor) = (S::splat(p.largest), S::splat(p.factor));
        let mut sums = [0.0f64; LANES];
        for i in (0..p.count).step_by(LANES) {
            let e = S::exp(S::mul(S::sub(S::load(p.input.add(i)), shift), factor));
            S::store(e, p.output.add(i));
            let lanes = S::lanes(e);
            for lane in 0..LANES {
                sums[lane] += f64::from(lanes[lane]);
            }
        }
        tree_sum(sums)
    }
}

#[inline(always)]
fn tree_sum(mut sums: [f64; LANES]) -> f64 {
    for width in [8, 4, 2, 1] {
        for i in 0..width {
            sums[i] += sums[i + width];
        }
    }
    sums[0]
}

#[inline(always)]
pub(super) unsafe fn largest_body<S: Simd>(input: *const f32, count: usize) -> f32 {
    // SAFETY: the input holds whole vectors.
    unsafe {
        let mut largest = S::splat(f32::NEG_INFINITY);
        for i in (0..count).step_by(LANES) {
            largest = S::max(largest, S::load(input.add(i)));
        }
        S::largest(largest)
    }
}

#[inline(always)]
pub(super) unsafe fn distribution_body<S: Simd>(
    logits: *const f32,
    count: usize,
    log_sum: f32,
) -> DistributionSums {
    // SAFETY: the logits hold `count` numbers padded to whole vectors.
    unsafe {
        let (mut logprobs, mut weighted, mut squares) = ([0.0f64; LANES], [0.0f64; LANES], [0.0f64; LANES]);
        let shift = S::splat(log_sum);
        for i in (0..count).step_by(LANES) {
            let logprob = S::sub(S::load(logits.add(i)), shift);
            let (p, mut logprob) = (S::lanes(S::exp(logprob)), S::lanes(logprob));
            for logprob in &mut logprob {
                // A token that cannot be: log p = −∞ would hide all others in the mean.
                *logprob = if *logprob == f32::NEG_INFINITY { MASKED_LOGPROB } else { *logprob };
            }
            if i + LANES > count {
                logprob[count - i..].fill(0.0);
            }
            for lane in 0..LANES {
                let (p, logprob) = (f64::from(p[lane]), f64::from(logprob[lane]));
                logprobs[lane] += logprob;
                weighted[lane] += p * logprob;
                squares[lane] += p * p;
            }
        }
        DistributionSums {
            logprobs: tree_sum(logprobs),
            weighted_logprobs: tree_sum(weighted),
            squares: tree_sum(squares),
        }
    }
}
