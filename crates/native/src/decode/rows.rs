//! What is done to each row by itself: norms, heads made ready.

use super::kernel::{Heads, Norm, PAGE};
use super::simd::{LANES, Simd};

#[inline(always)]
pub(super) unsafe fn norm_body<S: Simd>(p: &Norm) {
    // SAFETY: rows are padded to whole vectors.
    unsafe {
        for row in 0..p.rows {
            let (from, to) = (p.input.add(row * p.input_stride), p.output.add(row * p.output_stride));
            let mut squares = S::splat(0.0);
            for i in (0..p.width).step_by(LANES) {
                let x = S::load(from.add(i));
                squares = S::fma(x, x, squares);
            }
            let factor = S::splat(1.0 / (S::sum(squares) / p.width as f32 + p.eps).sqrt());
            for i in (0..p.width).step_by(LANES) {
                let x = S::mul(S::load(from.add(i)), factor);
                S::store(S::mul(x, S::load(p.weight.add(i))), to.add(i));
            }
        }
    }
}

/// Norm (if any), rotation by halves and scale of one head, in place.
#[inline(always)]
unsafe fn ready_head(
    head: *mut f32,
    width: usize,
    norm: *const f32,
    eps: f32,
    rotation: *const f32,
    scale: f32,
) {
    // SAFETY: `head` and `norm` hold `width` numbers, `rotation` too.
    unsafe {
        let head = core::slice::from_raw_parts_mut(head, width);
        if !norm.is_null() {
            let norm = core::slice::from_raw_parts(norm, width);
            let mut squares = [0.0f32; LANES];
            for (i, x) in head.iter().enumerate() {
                squares[i % LANES] += x * x;
            }
            let factor = 1.0 / (squares.iter().sum::<f32>() / width as f32 + eps).sqrt();
            for (x, weight) in head.iter_mut().zip(norm) {
                *x = *x * factor * weight;
            }
        }
        let half = width / 2;
        let (cos, sin) = (
            core::slice::from_raw_parts(rotation, half),
            core::slice::from_raw_parts(rotation.add(half), half),
        );
        let (low, high) = head.split_at_mut(half);
        for i in 0..half {
            let (a, b) = (low[i], high[i]);
            low[i] = (a * cos[i] - b * sin[i]) * scale;
            high[i] = (b * cos[i] + a * sin[i]) * scale;
        }
    }
}

#[inline(always)]
pub(super) unsafe fn heads_body<S: Simd>(p: &Heads) {
    let s = &p.shape;
    // SAFETY: the caller's buffers hold these rows and heads.
    unsafe {
        for row in 0..p.rows {
            let qkv = p.qkv.add(row * p.qkv_stride);
            let (rotation, page, slot) = (*p.rotations.add(row), *p.pages.add(row), *p.slots.add(row));
            for head in p.first_kv * s.group..p.end_kv * s.group {
                ready_head(qkv.add(head * s.head_dim), s.head_dim, s.query_norm, s.eps, rotation, s.scale);
            }
            // A new key touches every line of its page's keys; ask for those of the next row while this one is computed.
            let next = *p.pages.add((row + 1).min(p.rows - 1));
            for head in p.first_kv..p.end_kv {
                for i in 0..s.head_dim {
                    S::prefetch(next.wrapping_add(head * s.page_head + i * PAGE));
                }
                let key = qkv.add(s.query_width + head * s.head_dim);
                ready_head(key, s.head_dim, s.key_norm, s.eps, rotation, 1.0);
                let value = qkv.add(s.query_width + s.kv_width + head * s.head_dim);
                let keys = page.add(head * s.page_head);
                let values = keys.add(s.head_dim * PAGE + slot * s.value_stride);
                for i in 0..s.head_dim {
                    *keys.add(i * PAGE + slot) = *key.add(i);
                }
                core::ptr::copy_nonoverlapping(value, values, s.head_dim);
            }
        }
    }
}
