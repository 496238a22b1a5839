//! The backward pass over one pack.

use super::attention::{self, HeadShape};
use super::forward::{Pass, for_masks, slot};
use super::pack::{Activations, Pack, Scratch, Site, ensure};
use super::{heads, lora, vocabulary};
use crate::Linear;
use crate::gradient::Plan;
use crate::kernels::{
    add, add_column_sums, add_masked, copy_masked, rms_norm_again, rms_norm_backward, rotate, swiglu,
    swiglu_backward,
};
use crate::matrix::{Into, Matrix, product};
use std::ops::Range;

/// Where gradients are added.
pub(crate) struct Sink<'a> {
    pub plan: &'a Plan,
    pub values: &'a mut [f32],
}

impl Sink<'_> {
    /// The place for a stretch of the parameters; empty when it does not learn.
    fn base(&mut self, range: &Range<usize>) -> &mut [f32] {
        let base = &self.plan.base;
        if range.is_empty() || range.start < base.start || range.end > base.end {
            return &mut [];
        }
        &mut self.values[range.start - base.start..range.end - base.start]
    }

    fn adapter(&mut self) -> &mut [f32] {
        &mut self.values[self.plan.adapter.clone()]
    }
}

/// Derivatives of the loss by the outputs of a pack.
#[derive(Debug, Default)]
pub(crate) struct OutputGradient {
    /// One per target row.
    pub logprobs: Vec<f32>,
    /// One per target row, or empty.
    pub entropies: Vec<f32>,
    /// `[heads][n]`
    pub heads: Vec<f32>,
}

/// `gradient += d_yᵀ x` unless the matrix does not learn.
fn add_weight_gradient(gradient: &mut [f32], (out, wide, n): (usize, usize, usize), d_y: &[f32], x: &[f32]) {
    if !gradient.is_empty() {
        let d_y = Matrix::rows(d_y, out).transposed();
        product((out, wide, n), d_y, Matrix::rows(x, wide), gradient, wide, 1.0, Into::Add);
    }
}

/// Adds every gradient of the plan; `kept` is what [`super::forward::forward`] left for this pack.
pub(crate) fn backward(
    pass: &Pass<'_>,
    pack: &Pack,
    kept: &Activations,
    scratch: &mut Scratch,
    d_outputs: &OutputGradient,
    sink: &mut Sink<'_>,
) {
    let (model, keep) = (pass.model, pass.keep);
    let (c, layout, p) = (model.config(), model.layout(), &model.parameters);
    let (n, d) = (pack.rows(), c.hidden_size);
    for index in 0..model.heads.len() {
        let place = sink.plan.heads[index].clone();
        let d_values = &d_outputs.heads[index * n..(index + 1) * n];
        heads::backward_numbers(model, index, kept, keep, d_values, &mut sink.values[place]);
    }
    let Some(lowest) = sink.plan.lowest_block else { return };

    prepare(scratch, pass, n);
    scratch.prepare_rotary(c, pack);
    scratch.d_normed[..n * d].fill(0.0);
    vocabulary::backward(
        &p[layout.output.clone()],
        d,
        pack,
        kept,
        scratch,
        &d_outputs.logprobs,
        &d_outputs.entropies,
        sink.base(&layout.output),
    );
    heads::backward_hidden(model, None, &d_outputs.heads, n, &mut scratch.d_normed[..n * d]);
    scratch.d_residual[..n * d].fill(0.0);
    let last = keep.stage(2 * c.layers);
    rms_norm_backward(
        slot(&kept.residual, last, n * d),
        &p[layout.final_norm.clone()],
        slot(&kept.inverse, last, n),
        &scratch.d_normed[..n * d],
        &mut scratch.d_residual[..n * d],
        sink.base(&layout.final_norm),
    );
    for layer in (lowest..c.layers).rev() {
        heads::backward_hidden(model, Some(layer + 1), &d_outputs.heads, n, &mut scratch.d_residual[..n * d]);
        mlp_backward(pass, pack, layer, kept, scratch, sink);
        attention_backward(pass, pack, layer, kept, scratch, sink);
    }
    let d_embedding = sink.base(&layout.embedding);
    if d_embedding.is_empty() {
        return;
    }
    heads::backward_hidden(model, Some(0), &d_outputs.heads, n, &mut scratch.d_residual[..n * d]);
    if pass.options.dropout > 0.0 {
        for_masks(pass, pack, Site::Embedding, |row, mask| {
            let target = &mut d_embedding[pack.tokens[row] as usize * d..][..d];
            add_masked(target, slot(&scratch.d_residual, row, d), mask);
        });
    } else {
        for (token, row) in pack.tokens.iter().zip(scratch.d_residual.chunks_exact(d)) {
            add(&mut d_embedding[*token as usize * d..][..d], row);
        }
    }
}

fn prepare(scratch: &mut Scratch, pass: &Pass<'_>, n: usize) {
    let c = pass.model.config();
    let (d, f, q) = (c.hidden_size, c.intermediate_size, c.query_width());
    ensure(&mut scratch.normed, n * d);
    ensure(&mut scratch.act, n * f);
    ensure(&mut scratch.branch, n * d);
    ensure(&mut scratch.d_residual, n * d);
    ensure(&mut scratch.d_normed, n * d);
    ensure(&mut scratch.d_qkv, n * (q + 2 * c.kv_width()));
    ensure(&mut scratch.d_attended, n * q);
    ensure(&mut scratch.d_gate_up, n * 2 * f);
    ensure(&mut scratch.d_act, n * f);
    ensure(&mut scratch.row, n);
    ensure(&mut scratch.qk_row, q + c.kv_width());
}

/// What reaches a branch from the residual stream: the same, or masked as in forward.
fn branch_gradient<'a>(
    pass: &Pass<'_>,
    pack: &Pack,
    site: Site,
    d_residual: &'a [f32],
    branch: &'a mut [f32],
) -> &'a [f32] {
    if pass.options.dropout == 0.0 {
        return d_residual;
    }
    let d = pass.model.config().hidden_size;
    for_masks(pass, pack, site, |row, mask| {
        let at = row * d..(row + 1) * d;
        copy_masked(&mut branch[at.clone()], &d_residual[at], mask);
    });
    branch
}

fn mlp_backward(
    pass: &Pass<'_>,
    pack: &Pack,
    layer: usize,
    kept: &Activations,
    scratch: &mut Scratch,
    sink: &mut Sink<'_>,
) {
    let (model, keep) = (pass.model, pass.keep);
    let (c, p, block) = (model.config(), &model.parameters, &model.layout().blocks[layer]);
    let (n, d, f) = (pack.rows(), c.hidden_size, c.intermediate_size);
    let middle = keep.stage(2 * layer + 1);
    let gate_up = slot(&kept.gate_up, keep.slot(layer), n * 2 * f);

    let (d_residual, branch) = (&scratch.d_residual[..n * d], &mut scratch.branch[..n * d]);
    let d_branch = branch_gradient(pass, pack, Site::Mlp(layer), d_residual, branch);
    let down = Matrix::rows(&p[block.down.clone()], f);
    product((n, f, d), Matrix::rows(d_branch, d), down, &mut scratch.d_act, f, 1.0, Into::Replace);
    let at = (layer, Linear::Down);
    if model.adapter.as_ref().is_some_and(|a| a.place(layer, Linear::Down).is_some()) {
        swiglu(gate_up, &mut scratch.act[..n * f], f);
        let (act, d_act) = (&scratch.act[..n * f], &mut scratch.d_act[..n * f]);
        lora::backward(pass, pack, at, act, d_branch, d, d_act, sink.adapter(), &mut scratch.adapter);
    }
    let (act, d_gate_up) = (&mut scratch.act[..n * f], &mut scratch.d_gate_up[..n * 2 * f]);
    swiglu_backward(gate_up, &scratch.d_act[..n * f], d_gate_up, act, f);
    add_weight_gradient(sink.base(&block.down), (d, f, n), d_branch, act);

    let (x, weight) = (slot(&kept.residual, middle, n * d), &p[block.mlp_norm.clone()]);
    let inverse = slot(&kept.inverse, middle, n);
    let normed = &mut scratch.normed[..n * d];
    rms_norm_again(x, weight, inverse, normed);
    add_weight_gradient(sink.base(&block.gate_up), (2 * f, d, n), d_gate_up, normed);
    let d_normed = &mut scratch.d_normed[..n * d];
    let matrix = Matrix::rows(&p[block.gate_up.clone()], d);
    product((n, d, 2 * f), Matrix::rows(d_gate_up, 2 * f), matrix, d_normed, d, 1.0, Into::Replace);
    for (linear, column) in [(Linear::Gate, 0), (Linear::Up, f)] {
        let (at, d_y) = ((layer, linear), &d_gate_up[column..]);
        lora::backward(pass, pack, at, normed, d_y, 2 * f, d_normed, sink.adapter(), &mut scratch.adapter);
    }
    let d_residual = &mut scratch.d_residual[..n * d];
    rms_norm_backward(x, weight, inverse, d_normed, d_residual, sink.base(&block.mlp_norm));
}

fn attention_backward(
    pass: &Pass<'_>,
    pack: &Pack,
    layer: usize,
    kept: &Activations,
    scratch: &mut Scratch,
    sink: &mut Sink<'_>,
) {
    let (model, keep) = (pass.model, pass.keep);
    let (c, p, block) = (model.config(), &model.parameters, &model.layout().blocks[layer]);
    let (n, d, dh) = (pack.rows(), c.hidden_size, c.head_dim);
    let (q_width, kv_width) = (c.query_width(), c.kv_width());
    let wide = q_width + 2 * kv_width;
    let (before, slot_at) = (keep.stage(2 * layer), keep.slot(layer));
    let qkv = slot(&kept.qkv, slot_at, n * wide);
    let attended = slot(&kept.attended, slot_at, n * q_width);
    let normalisers = slot(&kept.attention_normaliser, slot_at, n * c.heads);

    let (d_residual, branch) = (&scratch.d_residual[..n * d], &mut scratch.branch[..n * d]);
    let d_branch = branch_gradient(pass, pack, Site::Attention(layer), d_residual, branch);
    let d_attended = &mut scratch.d_attended[..n * q_width];
    let output = Matrix::rows(&p[block.output.clone()], q_width);
    product((n, q_width, d), Matrix::rows(d_branch, d), output, d_attended, q_width, 1.0, Into::Replace);
    let at = (layer, Linear::Output);
    lora::backward(pass, pack, at, attended, d_branch, d, d_attended, sink.adapter(), &mut scratch.adapter);
    add_weight_gradient(sink.base(&block.output), (d, q_width, n), d_branch, attended);

    let d_qkv = &mut scratch.d_qkv[..n * wide];
    d_qkv.fill(0.0);
    for segment in &pack.segments {
        let shape = HeadShape { rows: segment.length, width: dh, stride: wide, output_stride: q_width };
        ensure(&mut scratch.scores, shape.score_numbers());
        ensure(&mut scratch.d_scores, shape.score_numbers());
        let at = segment.start * wide..(segment.start + segment.length) * wide;
        let (rows, d_rows) = (&qkv[at.clone()], &mut d_qkv[at]);
        for head in 0..c.heads {
            let kv = head / (c.heads / c.kv_heads) * dh;
            let (q_at, k_at, v_at) = (head * dh, q_width + kv, q_width + kv_width + kv);
            let o_at = segment.start * q_width + head * dh;
            attention::backward(
                shape,
                (&rows[q_at..], &rows[k_at..], &rows[v_at..]),
                &attended[o_at..],
                &normalisers[head * n + segment.start..][..segment.length],
                &d_attended[o_at..],
                d_rows,
                (q_at, k_at, v_at),
                &mut scratch.scores,
                &mut scratch.d_scores,
                &mut scratch.row,
            );
        }
    }
    rotate(d_qkv, wide, c.heads + c.kv_heads, dh / 2, &scratch.rotary_rows, true);
    if c.qk_norm {
        let raw = slot(&kept.qk_raw, slot_at, n * (q_width + kv_width));
        let inverse = slot(&kept.qk_inverse, slot_at, n * (c.heads + c.kv_heads));
        let rows = d_qkv.chunks_exact_mut(wide).zip(raw.chunks_exact(q_width + kv_width));
        for ((d_row, raw), inverse) in rows.zip(inverse.chunks_exact(c.heads + c.kv_heads)) {
            let d_raw = &mut scratch.qk_row[..q_width + kv_width];
            d_raw.fill(0.0);
            let (d_q, d_k) = d_raw.split_at_mut(q_width);
            let (dy_q, dy_k) = d_row[..q_width + kv_width].split_at(q_width);
            let (q_inverse, k_inverse) = inverse.split_at(c.heads);
            let (q_norm, k_norm) = (&block.q_norm, &block.k_norm);
            rms_norm_backward(&raw[..q_width], &p[q_norm.clone()], q_inverse, dy_q, d_q, sink.base(q_norm));
            rms_norm_backward(&raw[q_width..], &p[k_norm.clone()], k_inverse, dy_k, d_k, sink.base(k_norm));
            d_row[..q_width + kv_width].copy_from_slice(d_raw);
        }
    }
    let d_bias = sink.base(&block.qkv_bias);
    if !d_bias.is_empty() {
        add_column_sums(d_bias, d_qkv);
    }

    let (x, weight) = (slot(&kept.residual, before, n * d), &p[block.attention_norm.clone()]);
    let inverse = slot(&kept.inverse, before, n);
    let normed = &mut scratch.normed[..n * d];
    rms_norm_again(x, weight, inverse, normed);
    add_weight_gradient(sink.base(&block.qkv), (wide, d, n), d_qkv, normed);
    let d_normed = &mut scratch.d_normed[..n * d];
    let matrix = Matrix::rows(&p[block.qkv.clone()], d);
    product((n, d, wide), Matrix::rows(d_qkv, wide), matrix, d_normed, d, 1.0, Into::Replace);
    for (linear, column) in [(Linear::Query, 0), (Linear::Key, q_width), (Linear::Value, q_width + kv_width)]
    {
        let (at, d_y) = ((layer, linear), &d_qkv[column..]);
        lora::backward(pass, pack, at, normed, d_y, wide, d_normed, sink.adapter(), &mut scratch.adapter);
    }
    let d_residual = &mut scratch.d_residual[..n * d];
    rms_norm_backward(x, weight, inverse, d_normed, d_residual, sink.base(&block.attention_norm));
}
