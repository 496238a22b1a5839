//! Muon: momentum made orthogonal, for the matrices inside the blocks (Jordan 2024, "Muon: an optimizer for hidden
//! layers"; scale of the update as in arXiv 2502.16982, so that AdamW's learning rates carry over).

use crate::matrix::{Into, Matrix, product};

/// Coefficients of the quintic iteration; they push every singular value towards 1, to within about 0.7 to 1.2.
const QUINTIC: (f32, f32, f32) = (3.4445, -4.7750, 2.0315);
/// Iterations.
const ITERATIONS: usize = 5;

/// Room for one matrix; reused from matrix to matrix.
#[derive(Default)]
pub(crate) struct Scratch {
    x: Vec<f32>,
    gram: Vec<f32>,
    square: Vec<f32>,
    next: Vec<f32>,
}

/// What a step does to a matrix.
#[derive(Clone, Copy)]
pub(crate) struct MuonFactors {
    /// Memory of the momentum.
    pub(crate) momentum: f32,
    /// Learning rate.
    pub(crate) rate: f32,
    /// `1 - η λ`
    pub(crate) keep: f32,
}

/// One update of a matrix `[rows, columns]`: `m = μ m + g`, `u = g + μ m`, `θ = θ (1 - ηλ) - 0.2 η √max(r, c) O(u)`,
/// with O(u) the nearest orthogonal matrix of u by Newton and Schulz's iteration. The factor gives the update the
/// root mean square of an AdamW update.
pub(crate) fn update(
    numbers: &mut [f32],
    gradient: &[f32],
    momentum: &mut [f32],
    (rows, columns): (usize, usize),
    factors: MuonFactors,
    scratch: &mut Scratch,
) {
    scratch.x.clear();
    for (m, g) in momentum.iter_mut().zip(gradient) {
        *m = *m * factors.momentum + g;
        scratch.x.push(g + factors.momentum * *m);
    }
    orthogonalise(scratch, rows, columns);
    let rate = 0.2 * factors.rate * (rows.max(columns) as f32).sqrt();
    for (number, direction) in numbers.iter_mut().zip(&scratch.x) {
        *number = *number * factors.keep - rate * direction;
    }
}

/// Replaces `x[rows, columns]` by (nearly) the orthogonal factor of its polar decomposition; a zero matrix stays zero.
fn orthogonalise(scratch: &mut Scratch, rows: usize, columns: usize) {
    let Scratch { x, gram, square, next } = scratch;
    let norm = x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    if norm == 0.0 {
        return;
    }
    let scale = (1.0 / norm) as f32;
    x.iter_mut().for_each(|v| *v *= scale);
    // The product of the smaller side: x xᵀ for wide matrices, xᵀ x for tall ones.
    let wide = rows <= columns;
    let n = rows.min(columns);
    gram.resize(n * n, 0.0);
    square.resize(n * n, 0.0);
    next.resize(x.len(), 0.0);
    let (a, b, c) = QUINTIC;
    for _ in 0..ITERATIONS {
        let view = Matrix::rows(x, columns);
        let (left, right, inner) =
            if wide { (view, view.transposed(), columns) } else { (view.transposed(), view, rows) };
        product((n, n, inner), left, right, gram, n, 1.0, Into::Replace);
        // b G + c G²
        product((n, n, n), Matrix::rows(gram, n), Matrix::rows(gram, n), square, n, c, Into::Replace);
        square.iter_mut().zip(gram.iter()).for_each(|(s, g)| *s += b * g);
        // x ← a x + (b G + c G²) x, from the side of the smaller product
        let polynomial = Matrix::rows(square, n);
        let view = Matrix::rows(x, columns);
        if wide {
            product((rows, columns, n), polynomial, view, next, columns, 1.0, Into::Replace);
        } else {
            product((rows, columns, n), view, polynomial, next, columns, 1.0, Into::Replace);
        }
        x.iter_mut().zip(next.iter()).for_each(|(x, next)| *x = a * *x + next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers without structure.
    fn numbers(count: usize) -> Vec<f32> {
        let mut state = 1u64;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1 << 24) as f32 - 0.5
            })
            .collect()
    }

    #[test]
    fn the_direction_has_singular_values_near_one() {
        for (rows, columns) in [(6, 17), (17, 6), (8, 8)] {
            let mut scratch = Scratch { x: numbers(rows * columns), ..Default::default() };
            orthogonalise(&mut scratch, rows, columns);
            let n = rows.min(columns);
            // The squares of the singular values are the eigenvalues of the small product: their sum is its trace, and
            // none is above the largest row sum.
            let entry = |i: usize, j: usize| -> f32 {
                (0..rows.max(columns))
                    .map(|k| {
                        let at = |i: usize| if rows <= columns { i * columns + k } else { k * columns + i };
                        scratch.x[at(i)] * scratch.x[at(j)]
                    })
                    .sum()
            };
            let trace: f32 = (0..n).map(|i| entry(i, i)).sum();
            assert!(
                (0.5..1.5).contains(&(trace / n as f32)),
                "{rows}x{columns}: mean square {}",
                trace / n as f32
            );
        }
    }

    #[test]
    fn a_diagonal_keeps_its_signs_and_loses_its_sizes() {
        let mut scratch = Scratch { x: vec![5.0, 0.0, 0.0, -2.0], ..Default::default() };
        orthogonalise(&mut scratch, 2, 2);
        let x = &scratch.x;
        assert!((0.6..1.3).contains(&x[0]) && (-1.3..-0.6).contains(&x[3]), "{x:?}");
        assert!(x[1].abs() < 1e-6 && x[2].abs() < 1e-6, "{x:?}");
    }

    #[test]
    fn momentum_is_nesterovs_and_a_zero_gradient_only_decays() {
        let factors = MuonFactors { momentum: 0.5, rate: 0.1, keep: 0.9 };
        let (mut weights, mut momentum) = (vec![1.0; 4], vec![0.0; 4]);
        update(&mut weights, &[0.0; 4], &mut momentum, (2, 2), factors, &mut Scratch::default());
        assert_eq!(weights, [0.9; 4]);
        update(&mut weights, &[2.0, 0.0, 0.0, 2.0], &mut momentum, (2, 2), factors, &mut Scratch::default());
        assert_eq!(momentum, [2.0, 0.0, 0.0, 2.0]);
        assert!(weights[0] < 0.81 && (weights[1] - 0.81).abs() < 1e-6, "{weights:?}");
    }
}
