//! Scalar heads over the rows of a pack.

use super::pack::{Activations, Keep};
use crate::Model;
use crate::kernels::{add_scaled, dot_inline, fused, multiversion};

multiversion! {
    fn values(hidden: &[f32], weight: &[f32], bias: f32, out: &mut [f32]) {
        for (row, out) in hidden.chunks_exact(weight.len()).zip(out) {
            *out = dot_inline::<FMA>(row, weight) + bias;
        }
    }
}

multiversion! {
    /// `d_hidden[row] += d_value[row] weight`
    fn spread(d_hidden: &mut [f32], weight: &[f32], d_values: &[f32]) {
        for (row, dv) in d_hidden.chunks_exact_mut(weight.len()).zip(d_values.iter().copied()) {
            for (d, w) in row.iter_mut().zip(weight) {
                *d = fused::<FMA>(dv, *w, *d);
            }
        }
    }
}

/// Values of the heads that read hidden state `layer`, into `out[head][n]`.
pub(crate) fn forward(model: &Model, layer: Option<usize>, hidden: &[f32], n: usize, out: &mut [f32]) {
    for (index, head) in model.heads.iter().enumerate().filter(|(_, head)| head.layer == layer) {
        values(hidden, &head.weight, head.bias, &mut out[index * n..(index + 1) * n]);
    }
}

/// Adds what the heads reading `layer` mean for that hidden state; `d_values[head][n]`.
pub(crate) fn backward_hidden(
    model: &Model,
    layer: Option<usize>,
    d_values: &[f32],
    n: usize,
    d_hidden: &mut [f32],
) {
    let reading = |head: &crate::ScalarHead| head.layer == layer && !head.detach_trunk;
    for (index, head) in model.heads.iter().enumerate().filter(|(_, head)| reading(head)) {
        spread(d_hidden, &head.weight, &d_values[index * n..(index + 1) * n]);
    }
}

/// Adds the gradient of head `index` (weight, then bias).
pub(crate) fn backward_numbers(
    model: &Model,
    index: usize,
    kept: &Activations,
    keep: Keep,
    d_values: &[f32],
    gradient: &mut [f32],
) {
    let (d, n) = (model.config().hidden_size, d_values.len());
    let hidden = match model.heads[index].layer {
        None => &kept.last[..n * d],
        Some(layer) => {
            let at = keep.stage(2 * layer) * n * d;
            &kept.residual[at..at + n * d]
        }
    };
    let (d_weight, d_bias) = gradient.split_at_mut(d);
    for (row, dv) in hidden.chunks_exact(d).zip(d_values) {
        if *dv != 0.0 {
            add_scaled(d_weight, *dv, row);
            d_bias[0] += dv;
        }
    }
}
