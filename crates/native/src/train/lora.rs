//! Low-rank adapters inside the passes: `y += s B A drop(x)`, with s = α / r.

use super::forward::Pass;
use super::pack::{AdapterScratch, Pack, Site, ensure};
use crate::Linear;
use crate::kernels::{Mask, add_masked, copy_masked};
use crate::matrix::{Into, Matrix, product};

/// Fills `scratch.input` with the dropped-out input when dropout acts; says whether it does.
fn drop_input(
    pass: &Pass<'_>,
    pack: &Pack,
    at: (usize, Linear),
    x: &[f32],
    wide: usize,
    scratch: &mut AdapterScratch,
) -> bool {
    let p = pass.adapter_dropout();
    if p == 0.0 {
        return false;
    }
    ensure(&mut scratch.input, pack.rows() * wide);
    for segment in &pack.segments {
        for position in 0..segment.length {
            let row = (segment.start + position) * wide..(segment.start + position + 1) * wide;
            let mask = Mask::new(Site::Adapter(at.0, at.1).key(segment, position), p);
            copy_masked(&mut scratch.input[row.clone()], &x[row], mask);
        }
    }
    true
}

/// Adds the adapter of one matrix to its output, if it has one. `y` has `stride` numbers per row.
pub(crate) fn forward(
    pass: &Pass<'_>,
    pack: &Pack,
    at: (usize, Linear),
    x: &[f32],
    y: &mut [f32],
    stride: usize,
    scratch: &mut AdapterScratch,
) {
    let Some(adapter) = &pass.model.adapter else { return };
    let Some(place) = adapter.place(at.0, at.1) else { return };
    let ((out, wide), rank, n) = (at.1.shape(pass.model.config()), adapter.config().rank, pack.rows());
    let dropped = drop_input(pass, pack, at, x, wide, scratch);
    ensure(&mut scratch.middle, n * rank);
    let x = if dropped { &scratch.input } else { x };
    let a = Matrix::rows(&adapter.numbers[place.a.clone()], wide);
    let b = Matrix::rows(&adapter.numbers[place.b.clone()], rank);
    let middle = &mut scratch.middle;
    product((n, rank, wide), Matrix::rows(x, wide), a.transposed(), middle, rank, 1.0, Into::Replace);
    product(
        (n, out, rank),
        Matrix::rows(middle, rank),
        b.transposed(),
        y,
        stride,
        adapter.scale(),
        Into::Add,
    );
}

/// Adds the gradient of `A` and `B` to `gradient` (the adapter's stretch; empty when it does not learn) and that of
/// the input to `d_x`.
#[allow(clippy::too_many_arguments, reason = "each is a different matrix of the same formula")]
pub(crate) fn backward(
    pass: &Pass<'_>,
    pack: &Pack,
    at: (usize, Linear),
    x: &[f32],
    d_y: &[f32],
    stride: usize,
    d_x: &mut [f32],
    gradient: &mut [f32],
    scratch: &mut AdapterScratch,
) {
    let Some(adapter) = &pass.model.adapter else { return };
    let Some(place) = adapter.place(at.0, at.1) else { return };
    let ((out, wide), rank, n) = (at.1.shape(pass.model.config()), adapter.config().rank, pack.rows());
    let (scale, p) = (adapter.scale(), pass.adapter_dropout());
    let dropped = drop_input(pass, pack, at, x, wide, scratch);
    ensure(&mut scratch.middle, n * rank);
    ensure(&mut scratch.d_middle, n * rank);
    let x = if dropped { &scratch.input } else { x };
    let a = Matrix::rows(&adapter.numbers[place.a.clone()], wide);
    let b = Matrix::rows(&adapter.numbers[place.b.clone()], rank);
    let (x, d_y) = (Matrix::rows(x, wide), Matrix::rows(d_y, stride));
    let d_middle = &mut scratch.d_middle;
    product((n, rank, out), d_y, b, d_middle, rank, scale, Into::Replace);
    if !gradient.is_empty() {
        product((n, rank, wide), x, a.transposed(), &mut scratch.middle, rank, 1.0, Into::Replace);
        let middle = Matrix::rows(&scratch.middle, rank);
        let d_b = &mut gradient[place.b.clone()];
        product((out, rank, n), d_y.transposed(), middle, d_b, rank, scale, Into::Add);
        let d_a = &mut gradient[place.a.clone()];
        product((rank, wide, n), Matrix::rows(d_middle, rank).transposed(), x, d_a, wide, 1.0, Into::Add);
    }
    let d_middle = Matrix::rows(d_middle, rank);
    if !dropped {
        product((n, wide, rank), d_middle, a, d_x, wide, 1.0, Into::Add);
        return;
    }
    ensure(&mut scratch.d_input, n * wide);
    product((n, wide, rank), d_middle, a, &mut scratch.d_input, wide, 1.0, Into::Replace);
    for segment in &pack.segments {
        for position in 0..segment.length {
            let row = (segment.start + position) * wide..(segment.start + position + 1) * wide;
            let mask = Mask::new(Site::Adapter(at.0, at.1).key(segment, position), p);
            add_masked(&mut d_x[row.clone()], &scratch.d_input[row], mask);
        }
    }
}
