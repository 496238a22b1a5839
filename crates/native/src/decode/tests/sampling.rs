//! Tokens are drawn from the distribution that the settings describe.

use super::super::sampler::{Sampling, describe, pick, uniform};
use super::*;

const PLAIN: Sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 1, sample: 0 };

/// Logits padded as the engine pads them.
fn padded(logits: &[f32]) -> Vec<f32> {
    let mut padded = logits.to_vec();
    padded.resize(logits.len().next_multiple_of(16), f32::NEG_INFINITY);
    padded
}

/// χ² of 20,000 draws against probabilities; tokens of probability 0 must not be drawn.
fn chi_square(logits: &[f32], sampling: Sampling, probabilities: &[f64]) -> f64 {
    let row = padded(logits);
    let draws = 20_000;
    let mut counts = vec![0usize; logits.len()];
    for position in 0..draws {
        let picked = pick(Kernels::best(), &row, logits.len(), &sampling, position, Detail::None);
        counts[picked.token as usize] += 1;
    }
    let mut sum = 0.0;
    for (token, (&count, &p)) in counts.iter().zip(probabilities).enumerate() {
        assert!(p > 0.0 || count == 0, "token {token} was drawn {count} times, it is excluded");
        if p > 0.0 {
            let expected = p * draws as f64;
            sum += (count as f64 - expected).powi(2) / expected;
        }
    }
    sum
}

fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let e: Vec<f64> = logits.iter().map(|&x| (f64::from(x) / temperature).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.iter().map(|e| e / sum).collect()
}

/// Those tokens that are kept, renormalised.
fn only(probabilities: &[f64], kept: &[usize]) -> Vec<f64> {
    let sum: f64 = kept.iter().map(|&token| probabilities[token]).sum();
    (0..probabilities.len()).map(|t| if kept.contains(&t) { probabilities[t] / sum } else { 0.0 }).collect()
}

/// Logits of given probabilities.
fn logits(probabilities: &[f64]) -> Vec<f32> {
    probabilities.iter().map(|p| (p.ln() + 3.0) as f32).collect()
}

#[test]
fn draws_follow_the_settings() {
    // 1 % critical values of χ² with 19, 4, 2 and 1 degrees of freedom: 36.2, 13.3, 9.2, 6.6.
    let twenty: Vec<f32> = (0..20).map(|i| ((i * 7 % 20) as f32) * 0.15).collect();
    assert!(chi_square(&twenty, PLAIN, &softmax(&twenty, 1.0)) < 36.2);
    let warm = Sampling { temperature: 0.5, ..PLAIN };
    assert!(chi_square(&twenty, warm, &softmax(&twenty, 0.5)) < 36.2);
    let p = [0.1, 0.4, 0.05, 0.25, 0.2];
    let five = logits(&p);
    assert!(chi_square(&five, PLAIN, &p) < 13.3);
    let top_k = Sampling { top_k: 3, ..PLAIN };
    assert!(chi_square(&five, top_k, &only(&p, &[1, 3, 4])) < 9.2);
    // 0.4 + 0.25 + 0.2 = 0.85 is the first sum that reaches 0.8.
    let top_p = Sampling { top_p: 0.8, ..PLAIN };
    assert!(chi_square(&five, top_p, &only(&p, &[1, 3, 4])) < 9.2);
    // Half as likely as the likeliest: 0.2 and up.
    let min_p = Sampling { min_p: 0.499, ..PLAIN };
    assert!(chi_square(&five, min_p, &only(&p, &[1, 3, 4])) < 9.2);
    // Of the three likeliest, 0.4/0.85 = 0.47 and 0.25/0.85 = 0.29 reach 0.7; of all, three are needed.
    let both = Sampling { top_k: 3, top_p: 0.7, ..PLAIN };
    assert!(chi_square(&five, both, &only(&p, &[1, 3])) < 6.6);
    let all = Sampling { top_k: 4, top_p: 0.95, min_p: 0.6, ..PLAIN };
    assert!(chi_square(&five, all, &only(&p, &[1, 3])) < 6.6);
    // Temperature comes first: at 0.5 the weights are squared, and 0.16 + 0.0625 of 0.265 reach 0.8.
    let cold = Sampling { temperature: 0.5, top_p: 0.8, ..PLAIN };
    assert!(chi_square(&five, cold, &only(&softmax(&five, 0.5), &[1, 3])) < 6.6);
    // The likeliest is always kept.
    let least = Sampling { top_p: 0.01, ..PLAIN };
    assert_eq!(chi_square(&five, least, &only(&p, &[1])), 0.0);
}

#[test]
fn greedy_takes_the_lowest_of_equals() {
    let row = padded(&[0.5, 2.0, -1.0, 2.0]);
    for (temperature, top_k) in [(0.0, 0), (1.0, 1)] {
        for position in 0..20 {
            let sampling = Sampling { temperature, top_k, ..PLAIN };
            let picked = pick(Kernels::best(), &row, 4, &sampling, position, Detail::Top(3));
            assert_eq!(picked.token, 1);
            assert_eq!(picked.top.iter().map(|top| top.0).collect::<Vec<_>>(), [1, 3, 0]);
        }
    }
}

#[test]
fn log_probabilities_are_raw_whatever_the_settings() {
    let row = padded(&logits(&[0.7, 0.1, 0.1, 0.1]));
    let sampling = Sampling { temperature: 0.3, top_k: 1, ..PLAIN };
    let picked = pick(Kernels::best(), &row, 4, &sampling, 0, Detail::Chosen);
    assert_eq!(picked.token, 0);
    assert!((picked.logprob - 0.7f32.ln()).abs() < 1e-6);
}

#[test]
fn statistics_of_known_distributions() {
    // Self-certainty's numeric example (arXiv 2502.18581).
    for (p, kl) in [
        (vec![0.7, 0.1, 0.1, 0.1], 0.429_813_194_6),
        (vec![0.4, 0.3, 0.2, 0.1], 0.121_777_274_3),
        (vec![0.25; 4], 0.0),
        (vec![0.97, 0.01, 0.01, 0.01], 2.075_198_080_2),
        (vec![1.0 / 37.0; 37], 0.0),
    ] {
        for kernels in Kernels::available() {
            let row = padded(&logits(&p));
            let statistics = describe(kernels, &row, p.len(), 0, Detail::Distribution).distribution.unwrap();
            let entropy: f64 = -p.iter().map(|p| p * p.ln()).sum::<f64>();
            for (value, expected) in [
                (statistics.kl_from_uniform, kl),
                (statistics.entropy, entropy),
                (statistics.gini, p.iter().map(|p| p * p).sum()),
                (statistics.max_logprob, p[0].ln()),
            ] {
                assert!(
                    (f64::from(value) - expected).abs() < 1e-6,
                    "{}: {value} for {expected}",
                    kernels.name
                );
            }
        }
    }
}

#[test]
fn a_masked_token_counts_as_minus_sixty() {
    let row = padded(&[0.0, f32::NEG_INFINITY]);
    let statistics = describe(Kernels::best(), &row, 2, 0, Detail::Distribution).distribution.unwrap();
    let expected = 30.0 - 2.0f32.ln();
    assert!((statistics.kl_from_uniform - expected).abs() < 1e-5);
    assert_eq!(statistics.entropy, 0.0);
}

#[test]
fn extreme_logits_stay_numbers() {
    for logits in [vec![3e38, -3e38, 0.0], vec![-200.0, 200.0, 0.0], vec![f32::NEG_INFINITY; 3]] {
        let row = padded(&logits);
        for temperature in [0.0, 1e-30, 1.0, 1e30] {
            let sampling = Sampling { temperature, top_p: 0.9, ..PLAIN };
            let picked = pick(Kernels::best(), &row, 3, &sampling, 0, Detail::All(2));
            assert!(picked.token < 3);
        }
    }
}

#[test]
fn streams_are_even_and_independent() {
    for part in 0..3 {
        let mut counts = [0usize; 64];
        let (mut sum, mut product) = (0.0, 0.0);
        let at = |i: u64| match part {
            0 => uniform(i, 0, 0),
            1 => uniform(7, i, 3),
            _ => uniform(7, 3, i),
        };
        for i in 0..64_000 {
            let x = at(i);
            assert!((0.0..1.0).contains(&x));
            counts[(x * 64.0) as usize] += 1;
            sum += x;
            product += (x - 0.5) * (at(i + 1) - 0.5);
        }
        let chi: f64 = counts.iter().map(|&count| (count as f64 - 1000.0).powi(2) / 1000.0).sum();
        assert!(chi < 92.0, "0.1 % critical value with 63 degrees is 103");
        assert!((sum / 64_000.0 - 0.5).abs() < 0.004);
        assert!((product / 64_000.0).abs() < 0.0013, "neighbours are uncorrelated (4 standard errors)");
    }
}
