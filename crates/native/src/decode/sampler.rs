//! Drawing tokens, and what the distribution says about them.

use super::kernel::{Exponentials, Kernels};
use super::request::Detail;
use elenchus_trace::TokenDistribution;
use std::cell::RefCell;

/// How one sample is drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sampling {
    pub temperature: f32,
    pub top_k: usize,
    pub top_p: f32,
    pub min_p: f32,
    pub seed: u64,
    pub sample: u64,
}

/// What is known about one token.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Described {
    pub token: u32,
    /// NaN when not asked for.
    pub logprob: f32,
    pub top: Vec<(u32, f32)>,
    pub distribution: Option<TokenDistribution>,
}

#[derive(Default)]
struct Scratch {
    weights: Vec<f32>,
    candidates: Vec<u32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// A number in [0, 1) for one token of one sample; nothing else decides it.
pub(super) fn uniform(seed: u64, sample: u64, position: u64) -> f64 {
    // The finaliser of SplitMix64 after each part: every bit of each part reaches every bit of the result.
    let mix = |mut x: u64| {
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    let mut state = mix(seed.wrapping_add(0x9e37_79b9_7f4a_7c15));
    state = mix(state ^ sample.wrapping_mul(0xd1b5_4a32_d192_ed03).wrapping_add(0x8cb9_2ba7_2f3d_8dd7));
    state = mix(state ^ position.wrapping_mul(0xaef1_7502_108e_f2d9).wrapping_add(0x2545_f491_4f6c_dd1d));
    (state >> 11) as f64 / (1u64 << 53) as f64
}

/// One row of logits, padded with −∞ to whole vectors, and its largest.
struct Row<'a> {
    kernels: &'static Kernels,
    logits: &'a [f32],
    vocabulary: usize,
    largest: f32,
}

impl<'a> Row<'a> {
    fn new(kernels: &'static Kernels, logits: &'a [f32], vocabulary: usize) -> Self {
        // SAFETY: `logits` is padded to whole vectors.
        let largest = unsafe { (kernels.largest)(logits.as_ptr(), logits.len()) };
        Row { kernels, logits, vocabulary, largest }
    }

    /// exp((x − max) · factor) into `weights`, and their sum.
    fn exponentials(&self, factor: f32, weights: &mut Vec<f32>) -> f64 {
        weights.resize(self.logits.len(), 0.0);
        let arguments = Exponentials {
            count: self.logits.len(),
            largest: self.largest,
            factor,
            input: self.logits.as_ptr(),
            output: weights.as_mut_ptr(),
        };
        // SAFETY: both hold `count` numbers, whole vectors.
        unsafe { (self.kernels.exponentials)(&arguments) }
    }

    /// Likelier first; lower id first on ties; not-a-number last.
    fn order(&self, a: u32, b: u32) -> std::cmp::Ordering {
        let key = |token: u32| {
            let logit = self.logits[token as usize];
            if logit.is_nan() { f32::NEG_INFINITY } else { logit }
        };
        key(b).partial_cmp(&key(a)).unwrap_or(std::cmp::Ordering::Equal).then(a.cmp(&b))
    }

    fn greedy(&self) -> u32 {
        self.logits[..self.vocabulary].iter().position(|&logit| logit == self.largest).unwrap_or(0) as u32
    }

    /// The k likeliest in order, left in `candidates`.
    fn best(&self, k: usize, candidates: &mut Vec<u32>) {
        candidates.clear();
        candidates.extend(0..self.vocabulary as u32);
        if k < candidates.len() {
            candidates.select_nth_unstable_by(k, |&a, &b| self.order(a, b));
            candidates.truncate(k);
        }
        candidates.sort_unstable_by(|&a, &b| self.order(a, b));
    }

    /// Draws from the weights at some temperature, with their sum.
    fn draw(&self, sampling: &Sampling, uniform: f64, scratch: &mut Scratch, total: f64) -> u32 {
        let Scratch { weights, candidates } = scratch;
        let truncated_to_k = sampling.top_k > 0 && sampling.top_k < self.vocabulary;
        if !truncated_to_k && sampling.top_p >= 1.0 && sampling.min_p <= 0.0 {
            return walk(weights, uniform * total).unwrap_or_else(|| self.greedy());
        }
        let mut total = total;
        if truncated_to_k {
            self.best(sampling.top_k, candidates);
            total = candidates.iter().map(|&token| f64::from(weights[token as usize])).sum();
        } else {
            // All tokens below this weight have less than 1 − top_p together, so none of them is kept by top-p; and the
            // likeliest token weighs 1. What remains is short to sort.
            let smallest = (total * (1.0 - f64::from(sampling.top_p)) / self.vocabulary as f64)
                .max(f64::from(sampling.min_p));
            candidates.clear();
            candidates.extend(
                (0..self.vocabulary as u32).filter(|&token| f64::from(weights[token as usize]) >= smallest),
            );
            candidates.sort_unstable_by(|&a, &b| self.order(a, b));
        }
        let (mut mass, mut kept) = (0.0, 0);
        for &token in candidates.iter() {
            let weight = weights[token as usize];
            if kept > 0 && (mass >= f64::from(sampling.top_p) * total || weight < sampling.min_p) {
                break;
            }
            mass += f64::from(weight);
            kept += 1;
        }
        let target = uniform * mass;
        let mut sum = 0.0;
        for &token in &candidates[..kept] {
            sum += f64::from(weights[token as usize]);
            if sum > target {
                return token;
            }
        }
        candidates[..kept].last().copied().unwrap_or_else(|| self.greedy())
    }

    fn describe(&self, token: u32, detail: Detail, log_sum: f32, candidates: &mut Vec<u32>) -> Described {
        let mut described = Described {
            token,
            logprob: if detail.chosen() { self.logits[token as usize] - log_sum } else { f32::NAN },
            ..Default::default()
        };
        if detail.top() > 0 {
            self.best(detail.top(), candidates);
            described.top =
                candidates.iter().map(|&token| (token, self.logits[token as usize] - log_sum)).collect();
        }
        if detail.distribution() {
            // SAFETY: the logits are padded to whole vectors.
            let sums = unsafe { (self.kernels.distribution)(self.logits.as_ptr(), self.vocabulary, log_sum) };
            let size = self.vocabulary as f64;
            described.distribution = Some(TokenDistribution {
                kl_from_uniform: -(size.ln() + sums.logprobs / size) as f32,
                entropy: -sums.weighted_logprobs as f32,
                gini: sums.squares as f32,
                max_logprob: self.largest - log_sum,
            });
        }
        described
    }
}

/// The token in whose share of the running sum `target` lies.
fn walk(weights: &[f32], target: f64) -> Option<u32> {
    let mut sum = 0.0;
    for (block, weights) in weights.chunks(16).enumerate() {
        let block_sum: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
        if sum + block_sum > target {
            for (i, &weight) in weights.iter().enumerate() {
                sum += f64::from(weight);
                if sum > target {
                    return Some((block * 16 + i) as u32);
                }
            }
        }
        sum += block_sum;
    }
    // Rounding left the target above the last sum.
    weights.iter().rposition(|&weight| weight > 0.0).map(|token| token as u32)
}

/// Draws the token of a position and describes it.
pub(super) fn pick(
    kernels: &'static Kernels,
    logits: &[f32],
    vocabulary: usize,
    sampling: &Sampling,
    position: usize,
    detail: Detail,
) -> Described {
    SCRATCH.with_borrow_mut(|scratch| {
        let row = Row::new(kernels, logits, vocabulary);
        let plain = (detail != Detail::None || sampling.temperature == 1.0)
            .then(|| row.exponentials(1.0, &mut scratch.weights));
        let token = if sampling.temperature == 0.0 {
            row.greedy()
        } else {
            let total = match plain {
                Some(total) if sampling.temperature == 1.0 => total,
                // The bound keeps 0 · factor a number.
                _ => row.exponentials((1.0 / sampling.temperature).min(1e30), &mut scratch.weights),
            };
            row.draw(sampling, uniform(sampling.seed, sampling.sample, position as u64), scratch, total)
        };
        let log_sum = plain.map_or(f32::NAN, |total| (f64::from(row.largest) + total.ln()) as f32);
        row.describe(token, detail, log_sum, &mut scratch.candidates)
    })
}

/// Describes a given token.
pub(super) fn describe(
    kernels: &'static Kernels,
    logits: &[f32],
    vocabulary: usize,
    token: u32,
    detail: Detail,
) -> Described {
    SCRATCH.with_borrow_mut(|scratch| {
        let row = Row::new(kernels, logits, vocabulary);
        let total = row.exponentials(1.0, &mut scratch.weights);
        let log_sum = (f64::from(row.largest) + total.ln()) as f32;
        row.describe(token, detail, log_sum, &mut scratch.candidates)
    })
}

/// log p of some tokens.
pub(super) fn logprobs(
    kernels: &'static Kernels,
    logits: &[f32],
    vocabulary: usize,
    tokens: &[u32],
) -> Vec<f32> {
    SCRATCH.with_borrow_mut(|scratch| {
        let row = Row::new(kernels, logits, vocabulary);
        let total = row.exponentials(1.0, &mut scratch.weights);
        let log_sum = (f64::from(row.largest) + total.ln()) as f32;
        tokens.iter().map(|&token| logits[token as usize] - log_sum).collect()
    })
}
