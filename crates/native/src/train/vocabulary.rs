//! The output matrix, only for rows that predict a token: log-probabilities, entropies and their gradients.
//!
//! Logits exist for a few rows at a time; backward computes them again, so memory does not grow with the vocabulary.

use super::pack::{Activations, Pack, Scratch, ensure};
use crate::kernels::{RowSummary, logits_backward, summarise_logits};
use crate::matrix::{Into, Matrix, product};

/// Numbers of logits held at once, 1 MiB.
const LOGITS_AT_ONCE: usize = 1 << 18;

fn rows_at_once(vocabulary: usize) -> usize {
    (LOGITS_AT_ONCE / vocabulary).clamp(16, 128)
}

/// Fills log-normalisers, log-probabilities and, if asked, entropies.
pub(crate) fn forward(
    output: &[f32],
    d: usize,
    pack: &Pack,
    kept: &mut Activations,
    scratch: &mut Scratch,
    entropies: bool,
) {
    let vocabulary = output.len() / d;
    let step = rows_at_once(vocabulary);
    ensure(&mut scratch.logits, step.min(pack.target_rows.len()) * vocabulary);
    ensure(&mut scratch.logits_row, vocabulary);
    for (to, from) in pack.target_rows.iter().enumerate() {
        let row = &kept.last[from * d..(from + 1) * d];
        kept.predicting[to * d..(to + 1) * d].copy_from_slice(row);
    }
    let targets = pack.target_rows.len();
    for from in (0..targets).step_by(step) {
        let rows = step.min(targets - from);
        let logits = &mut scratch.logits[..rows * vocabulary];
        let hidden = Matrix::rows(&kept.predicting[from * d..], d);
        let matrix = Matrix::rows(output, d).transposed();
        product((rows, vocabulary, d), hidden, matrix, logits, vocabulary, 1.0, Into::Replace);
        for (i, row) in logits.chunks_exact(vocabulary).enumerate() {
            let summary = summarise_logits(row, &mut scratch.logits_row, entropies);
            let target = pack.target_tokens[from + i] as usize;
            kept.log_normalisers[from + i] = summary.log_normaliser;
            kept.logprobs[from + i] = row[target] - summary.log_normaliser;
            kept.entropies[from + i] = summary.entropy;
        }
    }
}

/// Adds the gradient of the predicting rows to `scratch.d_normed` and, unless empty, that of the matrix to `d_output`.
///
/// `d_logprobs` and `d_entropies` have one number per target; an empty `d_entropies` means zero.
#[allow(clippy::too_many_arguments, reason = "each is a different vector of the same formula")]
pub(crate) fn backward(
    output: &[f32],
    d: usize,
    pack: &Pack,
    kept: &Activations,
    scratch: &mut Scratch,
    d_logprobs: &[f32],
    d_entropies: &[f32],
    d_output: &mut [f32],
) {
    let vocabulary = output.len() / d;
    let step = rows_at_once(vocabulary);
    let targets = pack.target_rows.len();
    ensure(&mut scratch.logits, step.min(targets) * vocabulary);
    ensure(&mut scratch.logits_row, vocabulary);
    ensure(&mut scratch.branch, targets.max(pack.rows()) * d);
    for from in (0..targets).step_by(step) {
        let rows = step.min(targets - from);
        let at = from..from + rows;
        let entropies = d_entropies.get(at.clone()).unwrap_or(&[]);
        let silent = |d: &[f32]| d.iter().all(|g| *g == 0.0);
        if silent(&d_logprobs[at.clone()]) && silent(entropies) {
            continue;
        }
        let logits = &mut scratch.logits[..rows * vocabulary];
        let hidden = Matrix::rows(&kept.predicting[from * d..], d);
        let matrix = Matrix::rows(output, d);
        product((rows, vocabulary, d), hidden, matrix.transposed(), logits, vocabulary, 1.0, Into::Replace);
        for (i, row) in logits.chunks_exact_mut(vocabulary).enumerate() {
            let target = from + i;
            let (g, e) = (d_logprobs[target], entropies.get(i).copied().unwrap_or(0.0));
            let mut summary = RowSummary { log_normaliser: kept.log_normalisers[target], entropy: 0.0 };
            if e != 0.0 {
                // Asked for only here when the forward pass was not asked for entropies.
                summary.entropy = summarise_logits(row, &mut scratch.logits_row, true).entropy;
            }
            logits_backward(row, summary, g, e);
            row[pack.target_tokens[target] as usize] += g;
        }
        let logits = Matrix::rows(logits, vocabulary);
        let d_hidden = &mut scratch.branch[..rows * d];
        product((rows, d, vocabulary), logits, matrix, d_hidden, d, 1.0, Into::Replace);
        for (row, source) in pack.target_rows[at].iter().zip(d_hidden.chunks_exact(d)) {
            crate::kernels::add(&mut scratch.d_normed[row * d..(row + 1) * d], source);
        }
        if !d_output.is_empty() {
            product((vocabulary, d, rows), logits.transposed(), hidden, d_output, d, 1.0, Into::Add);
        }
    }
}
