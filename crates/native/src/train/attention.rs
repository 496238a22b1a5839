//! Causal attention of one head over one sequence, in blocks of rows; scores are computed again in backward.

use crate::kernels::{dot_inline, exp, fused, max_inline, multiversion, sum_inline};
use crate::matrix::{Into, Matrix, product};

/// Rows per block: scores of a block (64 × T) stay in the first-level cache for T up to about 200.
const BLOCK: usize = 64;

/// One head of one sequence within matrices of wider rows: `slice[row * stride + column]`.
#[derive(Clone, Copy)]
pub(crate) struct HeadShape {
    /// T
    pub rows: usize,
    /// head_dim
    pub width: usize,
    /// Numbers per row of q, k, v (they share a matrix).
    pub stride: usize,
    /// Numbers per row of the output.
    pub output_stride: usize,
}

impl HeadShape {
    fn score_stride(&self) -> usize {
        self.rows.next_multiple_of(16)
    }

    /// Numbers a score buffer needs.
    pub(crate) fn score_numbers(&self) -> usize {
        BLOCK.min(self.rows) * self.score_stride()
    }

    fn scale(&self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }

    fn blocks(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let rows = self.rows;
        (0..rows).step_by(BLOCK).map(move |from| (from, (from + BLOCK).min(rows)))
    }
}

/// `output = softmax(scale q kᵀ, causal) v`; `normaliser[row] = ln Σ exp(scale q·k)`.
pub(crate) fn forward(
    shape: HeadShape,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    output: &mut [f32],
    normaliser: &mut [f32],
    scores: &mut [f32],
) {
    let (width, stride, s) = (shape.width, shape.stride, shape.score_stride());
    for (from, to) in shape.blocks() {
        let q_block = Matrix::rows(&q[from * stride..], stride);
        let keys = Matrix::rows(k, stride).transposed();
        product((to - from, to, width), q_block, keys, scores, s, shape.scale(), Into::Replace);
        soften(&mut scores[..(to - from) * s], s, from, &mut normaliser[from..to]);
        let block = &mut output[from * shape.output_stride..];
        let values = Matrix::rows(v, stride);
        product(
            (to - from, width, to),
            Matrix::rows(scores, s),
            values,
            block,
            shape.output_stride,
            1.0,
            Into::Replace,
        );
    }
}

/// The probabilities of [`forward`] themselves, `[T, T]`.
pub(crate) fn probabilities(shape: HeadShape, q: &[f32], k: &[f32], scores: &mut [f32], out: &mut [f32]) {
    let (width, stride, s) = (shape.width, shape.stride, shape.score_stride());
    let mut normaliser = [0.0; BLOCK];
    for (from, to) in shape.blocks() {
        let q_block = Matrix::rows(&q[from * stride..], stride);
        let keys = Matrix::rows(k, stride).transposed();
        product((to - from, to, width), q_block, keys, scores, s, shape.scale(), Into::Replace);
        soften(&mut scores[..(to - from) * s], s, from, &mut normaliser[..to - from]);
        for (row, scores) in (from..to).zip(scores.chunks_exact(s)) {
            out[row * shape.rows..(row + 1) * shape.rows].copy_from_slice(&scores[..shape.rows]);
        }
    }
}

/// Gradients of [`forward`]; adds to `d_k` and `d_v`, replaces `d_q`.
#[allow(clippy::too_many_arguments, reason = "each is a different matrix of the same formula")]
pub(crate) fn backward(
    shape: HeadShape,
    (q, k, v): (&[f32], &[f32], &[f32]),
    output: &[f32],
    normaliser: &[f32],
    d_output: &[f32],
    d_qkv: &mut [f32],
    (q_at, k_at, v_at): (usize, usize, usize),
    scores: &mut [f32],
    d_scores: &mut [f32],
    pull: &mut [f32],
) {
    let (width, stride, s) = (shape.width, shape.stride, shape.score_stride());
    row_dots(output, d_output, shape.output_stride, width, &mut pull[..shape.rows]);
    for (from, to) in shape.blocks() {
        let rows = to - from;
        let q_block = Matrix::rows(&q[from * stride..], stride);
        let (keys, values) = (Matrix::rows(k, stride), Matrix::rows(v, stride));
        let d_block = Matrix::rows(&d_output[from * shape.output_stride..], shape.output_stride);
        product((rows, to, width), q_block, keys.transposed(), scores, s, shape.scale(), Into::Replace);
        product((rows, to, width), d_block, values.transposed(), d_scores, s, 1.0, Into::Replace);
        soften_backward(
            &mut scores[..rows * s],
            &mut d_scores[..rows * s],
            s,
            from,
            &normaliser[from..to],
            &pull[from..to],
            shape.scale(),
        );
        let (p, d_s) = (Matrix::rows(scores, s), Matrix::rows(d_scores, s));
        product((to, width, rows), p.transposed(), d_block, &mut d_qkv[v_at..], stride, 1.0, Into::Add);
        product((to, width, rows), d_s.transposed(), q_block, &mut d_qkv[k_at..], stride, 1.0, Into::Add);
        let d_q = &mut d_qkv[q_at + from * stride..];
        product((rows, width, to), d_s, keys, d_q, stride, 1.0, Into::Replace);
    }
}

multiversion! {
    /// Row `i` of a block that starts at row `from` becomes the softmax of its first `from + i + 1` scores, zeros behind.
    fn soften(scores: &mut [f32], stride: usize, from: usize, normaliser: &mut [f32]) {
        for (i, (row, normaliser)) in scores.chunks_exact_mut(stride).zip(normaliser).enumerate() {
            let seen = from + i + 1;
            // Up to a whole register: the loop then has no scalar rest. The surplus is overwritten below.
            let padded = seen.next_multiple_of(16);
            row[seen..padded].fill(-1e30);
            let max = max_inline(&row[..padded]);
            for score in &mut row[..padded] {
                *score = exp::<FMA>(*score - max);
            }
            row[seen..].fill(0.0);
            let total = sum_inline(&row[..padded]);
            *normaliser = max + total.ln();
            let factor = 1.0 / total;
            for score in &mut row[..padded] {
                *score *= factor;
            }
        }
    }
}

multiversion! {
    /// Scores become probabilities, and their gradients `dS = scale P (dP - pull)`.
    fn soften_backward(
        scores: &mut [f32], d_scores: &mut [f32], stride: usize, from: usize,
        normaliser: &[f32], pull: &[f32], scale: f32,
    ) {
        let rows = scores.chunks_exact_mut(stride).zip(d_scores.chunks_exact_mut(stride));
        for (i, ((row, d_row), (normaliser, pull))) in rows.zip(normaliser.iter().zip(pull)).enumerate() {
            let seen = from + i + 1;
            let padded = seen.next_multiple_of(16);
            // By value: through references the compiler fears that the stores change them, and does not vectorise.
            let (normaliser, scaled_pull) = (*normaliser, -scale * *pull);
            let (row_seen, d_row_seen) = (&mut row[..padded], &mut d_row[..padded]);
            for (p, d) in row_seen.iter_mut().zip(d_row_seen) {
                let probability = exp::<FMA>(*p - normaliser);
                *p = probability;
                *d = probability * fused::<FMA>(*d, scale, scaled_pull);
            }
            row[seen..].fill(0.0);
            d_row[seen..].fill(0.0);
        }
    }
}

multiversion! {
    /// Dot products of the rows of two strided matrices.
    fn row_dots(a: &[f32], b: &[f32], stride: usize, width: usize, out: &mut [f32]) {
        for (row, out) in out.iter_mut().enumerate() {
            let at = row * stride..row * stride + width;
            *out = dot_inline::<FMA>(&a[at.clone()], &b[at]);
        }
    }
}
