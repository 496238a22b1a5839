//! The forward pass over one pack.

use super::attention::{self, HeadShape};
use super::pack::{Activations, Keep, Pack, Scratch, Site, ensure};
use super::{heads, lora, vocabulary};
use crate::kernels::{Mask, add_masked, add_row, copy_masked, rms_norm, rotate, swiglu};
use crate::matrix::{Into, Matrix, product};
use crate::{ForwardOptions, HeadMask, Linear, Model};

/// What stays the same during a call.
pub(crate) struct Pass<'a> {
    pub model: &'a Model,
    pub options: &'a ForwardOptions,
    /// Whether a backward pass follows: then the adapter's own dropout acts.
    pub training: bool,
    pub keep: Keep,
    /// Heads that are turned down, when somebody looks inside.
    pub mask: Option<HeadMask>,
}

impl Pass<'_> {
    pub(crate) fn adapter_dropout(&self) -> f32 {
        match &self.model.adapter {
            Some(adapter) if self.training => adapter.config().dropout,
            _ => 0.0,
        }
    }
}

/// Calls `visit(row, mask)` for every row of the pack.
pub(crate) fn for_masks(pass: &Pass<'_>, pack: &Pack, site: Site, mut visit: impl FnMut(usize, Mask)) {
    for segment in &pack.segments {
        for position in 0..segment.length {
            visit(segment.start + position, Mask::new(site.key(segment, position), pass.options.dropout));
        }
    }
}

/// `residual += branch`, masked when dropout acts; the product itself adds when it does not.
struct Branch<'a> {
    /// `[out, in]`
    weight: &'a [f32],
    /// `[n, in]`
    input: &'a [f32],
    wide: usize,
    at: (usize, Linear),
    site: Site,
}

fn add_branch(
    pass: &Pass<'_>,
    pack: &Pack,
    branch: Branch<'_>,
    residual: &mut [f32],
    scratch: BranchScratch<'_>,
) {
    let (n, d) = (pack.rows(), pass.model.config().hidden_size);
    let input = Matrix::rows(branch.input, branch.wide);
    let weight = Matrix::rows(branch.weight, branch.wide).transposed();
    if pass.options.dropout == 0.0 {
        product((n, d, branch.wide), input, weight, residual, d, 1.0, Into::Add);
        lora::forward(pass, pack, branch.at, branch.input, residual, d, scratch.adapter);
        return;
    }
    ensure(scratch.branch, n * d);
    product((n, d, branch.wide), input, weight, scratch.branch, d, 1.0, Into::Replace);
    lora::forward(pass, pack, branch.at, branch.input, scratch.branch, d, scratch.adapter);
    for_masks(pass, pack, branch.site, |row, mask| {
        let at = row * d..(row + 1) * d;
        add_masked(&mut residual[at.clone()], &scratch.branch[at], mask);
    });
}

struct BranchScratch<'a> {
    branch: &'a mut Vec<f32>,
    adapter: &'a mut super::pack::AdapterScratch,
}

/// Slot `slot` of a buffer of slots of `size` numbers.
pub(crate) fn slot(buffer: &[f32], slot: usize, size: usize) -> &[f32] {
    &buffer[slot * size..(slot + 1) * size]
}

/// As [`slot`].
pub(crate) fn slot_mut(buffer: &mut [f32], slot: usize, size: usize) -> &mut [f32] {
    &mut buffer[slot * size..(slot + 1) * size]
}

/// Runs the network; results and what backward needs are in `kept`.
pub(crate) fn forward(pass: &Pass<'_>, pack: &Pack, kept: &mut Activations, scratch: &mut Scratch) {
    let (model, keep) = (pass.model, pass.keep);
    let (c, layout, p) = (model.config(), model.layout(), &model.parameters);
    let (n, d, f) = (pack.rows(), c.hidden_size, c.intermediate_size);
    kept.prepare(c, keep, n, pack.target_rows.len(), model.heads.len());
    scratch.prepare_rotary(c, pack);
    ensure(&mut scratch.normed, n * d);
    ensure(&mut scratch.act, n * f);

    let embedding = &p[layout.embedding.clone()];
    let residual = &mut kept.residual[..n * d];
    for (row, token) in residual.chunks_exact_mut(d).zip(&pack.tokens) {
        row.copy_from_slice(slot(embedding, *token as usize, d));
    }
    if pass.options.dropout > 0.0 {
        ensure(&mut scratch.branch, d);
        for_masks(pass, pack, Site::Embedding, |row, mask| {
            let row = slot_mut(residual, row, d);
            scratch.branch[..d].copy_from_slice(row);
            copy_masked(row, &scratch.branch[..d], mask);
        });
    }
    heads::forward(model, Some(0), &kept.residual[..n * d], n, &mut kept.head_values);

    for layer in 0..c.layers {
        let block = &layout.blocks[layer];
        attention_branch(pass, pack, layer, kept, scratch);

        let (middle, after) = (keep.stage(2 * layer + 1), keep.stage(2 * layer + 2));
        rms_norm(
            slot(&kept.residual, middle, n * d),
            &p[block.mlp_norm.clone()],
            c.rms_norm_eps,
            &mut scratch.normed[..n * d],
            slot_mut(&mut kept.inverse, middle, n),
        );
        let gate_up = slot_mut(&mut kept.gate_up, keep.slot(layer), n * 2 * f);
        let normed = Matrix::rows(&scratch.normed, d);
        let weight = Matrix::rows(&p[block.gate_up.clone()], d).transposed();
        product((n, 2 * f, d), normed, weight, gate_up, 2 * f, 1.0, Into::Replace);
        lora::forward(
            pass,
            pack,
            (layer, Linear::Gate),
            &scratch.normed,
            gate_up,
            2 * f,
            &mut scratch.adapter,
        );
        let up = &mut gate_up[f..];
        lora::forward(pass, pack, (layer, Linear::Up), &scratch.normed, up, 2 * f, &mut scratch.adapter);
        swiglu(gate_up, &mut scratch.act[..n * f], f);
        if after != middle {
            kept.residual.copy_within(middle * n * d..(middle + 1) * n * d, after * n * d);
        }
        let branch = Branch {
            weight: &p[block.down.clone()],
            input: &scratch.act,
            wide: f,
            at: (layer, Linear::Down),
            site: Site::Mlp(layer),
        };
        let buffers = BranchScratch { branch: &mut scratch.branch, adapter: &mut scratch.adapter };
        let residual = slot_mut(&mut kept.residual, after, n * d);
        add_branch(pass, pack, branch, residual, buffers);
        heads::forward(model, Some(layer + 1), residual, n, &mut kept.head_values);
    }

    let stage = keep.stage(2 * c.layers);
    rms_norm(
        slot(&kept.residual, stage, n * d),
        &p[layout.final_norm.clone()],
        c.rms_norm_eps,
        &mut kept.last[..n * d],
        slot_mut(&mut kept.inverse, stage, n),
    );
    heads::forward(model, None, &kept.last[..n * d], n, &mut kept.head_values);
    vocabulary::forward(&p[layout.output.clone()], d, pack, kept, scratch, pass.options.entropies);
}

fn attention_branch(
    pass: &Pass<'_>,
    pack: &Pack,
    layer: usize,
    kept: &mut Activations,
    scratch: &mut Scratch,
) {
    let (model, keep) = (pass.model, pass.keep);
    let (c, p, block) = (model.config(), &model.parameters, &model.layout().blocks[layer]);
    let (n, d, dh) = (pack.rows(), c.hidden_size, c.head_dim);
    let (q_width, kv_width) = (c.query_width(), c.kv_width());
    let wide = q_width + 2 * kv_width;
    let (before, middle, slot_at) = (keep.stage(2 * layer), keep.stage(2 * layer + 1), keep.slot(layer));

    rms_norm(
        slot(&kept.residual, before, n * d),
        &p[block.attention_norm.clone()],
        c.rms_norm_eps,
        &mut scratch.normed[..n * d],
        slot_mut(&mut kept.inverse, before, n),
    );
    let qkv = slot_mut(&mut kept.qkv, slot_at, n * wide);
    let normed = Matrix::rows(&scratch.normed, d);
    product(
        (n, wide, d),
        normed,
        Matrix::rows(&p[block.qkv.clone()], d).transposed(),
        qkv,
        wide,
        1.0,
        Into::Replace,
    );
    for (linear, at) in [(Linear::Query, 0), (Linear::Key, q_width), (Linear::Value, q_width + kv_width)] {
        lora::forward(
            pass,
            pack,
            (layer, linear),
            &scratch.normed,
            &mut qkv[at..],
            wide,
            &mut scratch.adapter,
        );
    }
    if c.qkv_bias {
        add_row(qkv, &p[block.qkv_bias.clone()]);
    }
    if c.qk_norm {
        let raw = slot_mut(&mut kept.qk_raw, slot_at, n * (q_width + kv_width));
        let inverse = slot_mut(&mut kept.qk_inverse, slot_at, n * (c.heads + c.kv_heads));
        let rows = qkv.chunks_exact_mut(wide).zip(raw.chunks_exact_mut(q_width + kv_width));
        for ((row, raw), inverse) in rows.zip(inverse.chunks_exact_mut(c.heads + c.kv_heads)) {
            raw.copy_from_slice(&row[..q_width + kv_width]);
            let (q, k) = row[..q_width + kv_width].split_at_mut(q_width);
            let (q_inverse, k_inverse) = inverse.split_at_mut(c.heads);
            rms_norm(&raw[..q_width], &p[block.q_norm.clone()], c.rms_norm_eps, q, q_inverse);
            rms_norm(&raw[q_width..], &p[block.k_norm.clone()], c.rms_norm_eps, k, k_inverse);
        }
    }
    // q and k lie side by side, so one call turns both.
    rotate(qkv, wide, c.heads + c.kv_heads, dh / 2, &scratch.rotary_rows, false);

    let qkv = &*qkv;
    let attended = slot_mut(&mut kept.attended, slot_at, n * q_width);
    let normalisers = slot_mut(&mut kept.attention_normaliser, slot_at, n * c.heads);
    for segment in &pack.segments {
        let shape = HeadShape { rows: segment.length, width: dh, stride: wide, output_stride: q_width };
        ensure(&mut scratch.scores, shape.score_numbers());
        let rows = &qkv[segment.start * wide..(segment.start + segment.length) * wide];
        for head in 0..c.heads {
            let kv = head / (c.heads / c.kv_heads) * dh;
            attention::forward(
                shape,
                &rows[head * dh..],
                &rows[q_width + kv..],
                &rows[q_width + kv_width + kv..],
                &mut attended[segment.start * q_width + head * dh..],
                &mut normalisers[head * n + segment.start..][..segment.length],
                &mut scratch.scores,
            );
        }
    }

    if let Some(mask) = pass.mask.filter(|mask| mask.layer == layer) {
        mask.apply(attended, dh, q_width);
    }
    if middle != before {
        kept.residual.copy_within(before * n * d..(before + 1) * n * d, middle * n * d);
    }
    let branch = Branch {
        weight: &p[block.output.clone()],
        input: attended,
        wide: q_width,
        at: (layer, Linear::Output),
        site: Site::Attention(layer),
    };
    let buffers = BranchScratch { branch: &mut scratch.branch, adapter: &mut scratch.adapter };
    add_branch(pass, pack, branch, slot_mut(&mut kept.residual, middle, n * d), buffers);
}
