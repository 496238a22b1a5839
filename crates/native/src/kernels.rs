//! Elementwise loops and reductions, compiled once per instruction set and chosen at run time.
//!
//! The build is portable, so without this the loops below would use 128-bit SSE2 only. They are plain Rust written
//! so that the compiler vectorises them: whole-slice maps, and reductions over [`LANES`] independent sums.

/// Independent sums of a reduction: one 512-bit register.
const LANES: usize = 16;

/// Compiles a function for AVX-512, AVX2 + FMA and the build's own target, and calls the best the processor has.
///
/// Inside the body `FMA` says whether [`fused`] should be one instruction.
macro_rules! multiversion {
    ($(#[$meta:meta])* $visibility:vis fn $name:ident $(<$($life:lifetime),*>)? ($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, reason = "kernels take flat slices")]
        $visibility fn $name $(<$($life),*>)? ($($argument: $type),*) $(-> $result)? {
            #[inline(always)]
            fn body<const FMA: bool $(, $($life),*)?>($($argument: $type),*) $(-> $result)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn wide($($argument: $type),*) $(-> $result)? { body::<true>($($argument),*) }
                #[target_feature(enable = "avx2,fma")]
                fn middle($($argument: $type),*) $(-> $result)? { body::<true>($($argument),*) }
                match crate::kernels::level() {
                    // SAFETY: `level` answers Wide or Middle only when the processor has those features.
                    crate::kernels::Level::Wide => return unsafe { wide($($argument),*) },
                    // SAFETY: as above.
                    crate::kernels::Level::Middle => return unsafe { middle($($argument),*) },
                    crate::kernels::Level::Base => {}
                }
            }
            body::<{ cfg!(target_arch = "aarch64") }>($($argument),*)
        }
    };
}
pub(crate) use multiversion;

/// Which of the compiled versions runs.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Level {
    Wide,
    Middle,
    Base,
}

/// What this processor can do. The standard library caches the answer, so asking costs a few loads.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn level() -> Level {
    let fma = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let wide = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    match (fma, wide) {
        (true, true) => Level::Wide,
        (true, false) => Level::Middle,
        _ => Level::Base,
    }
}

/// `a b + c`, fused where the hardware has it; `f32::mul_add` without it would call a slow library routine.
#[inline(always)]
pub(crate) fn fused<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// e^x to about 2 units in the last place for -87.3 <= x <= 88.3, cut to that range outside.
///
/// Range reduction by adding 1.5·2^23, whose low mantissa bits then hold the exponent; the polynomial is the
/// classical degree-6 one of the Cephes library's `expf`.
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0;
    // Comparisons instead of `clamp`, which vectorises worse because of its treatment of NaN.
    let x = if x > -87.3 { x } else { -87.3 };
    let x = if x < 88.3 { x } else { 88.3 };
    let t = fused::<FMA>(x, std::f32::consts::LOG2_E, MAGIC);
    let n = t - MAGIC;
    let r = fused::<FMA>(n, -0.693_359_4, x);
    let r = fused::<FMA>(n, 2.121_944_4e-4, r);
    let mut p = 1.987_569_1e-4;
    p = fused::<FMA>(p, r, 1.398_199_9e-3);
    p = fused::<FMA>(p, r, 8.333_452e-3);
    p = fused::<FMA>(p, r, 4.166_579_6e-2);
    p = fused::<FMA>(p, r, 1.666_666_5e-1);
    p = fused::<FMA>(p, r, 0.5);
    let y = fused::<FMA>(p, r * r, r) + 1.0;
    y * f32::from_bits((t.to_bits() << 23).wrapping_add(0x3F80_0000))
}

/// Adds the lanes pairwise.
#[inline(always)]
pub(crate) fn add_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for j in 0..width {
            lanes[j] += lanes[j + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Σ a b
#[inline(always)]
pub(crate) fn dot_inline<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    let b = &b[..a.len()];
    let ((a_chunks, a_tail), (b_chunks, b_tail)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut lanes = [0.0; LANES];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for j in 0..LANES {
            lanes[j] = fused::<FMA>(a[j], b[j], lanes[j]);
        }
    }
    a_tail.iter().zip(b_tail).fold(add_lanes(lanes), |sum, (a, b)| sum + a * b)
}

/// Σ a
#[inline(always)]
pub(crate) fn sum_inline(a: &[f32]) -> f32 {
    let (chunks, tail) = a.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for a in chunks {
        for j in 0..LANES {
            lanes[j] += a[j];
        }
    }
    tail.iter().fold(add_lanes(lanes), |sum, a| sum + a)
}

/// max a; -∞ of nothing.
#[inline(always)]
pub(crate) fn max_inline(a: &[f32]) -> f32 {
    let (chunks, tail) = a.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for a in chunks {
        for j in 0..LANES {
            lanes[j] = if a[j] > lanes[j] { a[j] } else { lanes[j] };
        }
    }
    lanes.iter().chain(tail).fold(f32::NEG_INFINITY, |m, a| if *a > m { *a } else { m })
}

multiversion! {
    /// `target += source`
    pub(crate) fn add(target: &mut [f32], source: &[f32]) {
        for (t, s) in target.iter_mut().zip(source) {
            *t += s;
        }
    }
}

multiversion! {
    /// `target += factor source`
    pub(crate) fn add_scaled(target: &mut [f32], factor: f32, source: &[f32]) {
        for (t, s) in target.iter_mut().zip(source) {
            *t = fused::<FMA>(factor, *s, *t);
        }
    }
}

multiversion! {
    /// `target += source; source = 0`: a reduction that leaves the source ready for the next step.
    pub(crate) fn drain_into(target: &mut [f32], source: &mut [f32]) {
        for (t, s) in target.iter_mut().zip(source) {
            *t += *s;
            *s = 0.0;
        }
    }
}

multiversion! {
    /// Adds a row to every row of a matrix.
    pub(crate) fn add_row(matrix: &mut [f32], row: &[f32]) {
        for target in matrix.chunks_exact_mut(row.len()) {
            for (t, s) in target.iter_mut().zip(row) {
                *t += s;
            }
        }
    }
}

multiversion! {
    /// Adds every row of a matrix to one row.
    pub(crate) fn add_column_sums(row: &mut [f32], matrix: &[f32]) {
        for source in matrix.chunks_exact(row.len()) {
            for (t, s) in row.iter_mut().zip(source) {
                *t += s;
            }
        }
    }
}

multiversion! {
    fn squares(values: &[f32]) -> f64 {
        let mut total = 0.0f64;
        for part in values.chunks(4096) {
            total += f64::from(dot_inline::<FMA>(part, part));
        }
        total
    }
}

/// Σ x², partial sums in f64, the same for any number of threads.
pub(crate) fn sum_of_squares(values: &[f32]) -> f64 {
    squares(values)
}

multiversion! {
    /// `y = w x / rms(x)` row by row; `inverse` keeps `1 / sqrt(mean x² + ε)`.
    pub(crate) fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, y: &mut [f32], inverse: &mut [f32]) {
        let d = weight.len();
        for ((x, y), inverse) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)).zip(inverse) {
            let r = 1.0 / (dot_inline::<FMA>(x, x) / d as f32 + epsilon).sqrt();
            *inverse = r;
            for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
                *y = x * r * w;
            }
        }
    }
}

multiversion! {
    /// `y = w x inverse`: the norm again from its kept factor.
    pub(crate) fn rms_norm_again(x: &[f32], weight: &[f32], inverse: &[f32], y: &mut [f32]) {
        let d = weight.len();
        for ((x, y), r) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)).zip(inverse.iter().copied()) {
            for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
                *y = x * r * w;
            }
        }
    }
}

multiversion! {
    /// Adds to `dx` what `dy` means for the input of [`rms_norm`], and to `dw` (may be empty) what it means for the weight.
    ///
    /// With x̂ = x r: `dx += r (dy w - x̂ mean(dy w x̂))`, `dw += Σ_rows dy x̂`.
    pub(crate) fn rms_norm_backward(
        x: &[f32], weight: &[f32], inverse: &[f32], dy: &[f32], dx: &mut [f32], dw: &mut [f32],
    ) {
        let d = weight.len();
        let rows = x.chunks_exact(d).zip(dy.chunks_exact(d)).zip(dx.chunks_exact_mut(d)).zip(inverse.iter().copied());
        for (((x, dy), dx), r) in rows {
            let mut lanes = [0.0; LANES];
            let ((xs, xt), (ys, yt), (ws, wt)) =
                (x.as_chunks::<LANES>(), dy.as_chunks::<LANES>(), weight.as_chunks::<LANES>());
            for ((x, y), w) in xs.iter().zip(ys).zip(ws) {
                for j in 0..LANES {
                    lanes[j] = fused::<FMA>(x[j] * w[j], y[j], lanes[j]);
                }
            }
            let tail: f32 = xt.iter().zip(yt).zip(wt).map(|((x, y), w)| x * y * w).sum();
            // mean(dy w x̂) r = r² Σ dy w x / d, applied to x̂ = x r.
            let pull = (add_lanes(lanes) + tail) * r * r * r / d as f32;
            for (((dx, x), dy), w) in dx.iter_mut().zip(x).zip(dy).zip(weight) {
                *dx += fused::<FMA>(dy * w, r, -(x * pull));
            }
            for ((dw, x), dy) in dw.iter_mut().zip(x).zip(dy) {
                *dw = fused::<FMA>(x * r, *dy, *dw);
            }
        }
    }
}

multiversion! {
    /// `act = silu(gate) up` with `gate_up` rows `[gate | up]`, `f` wide each.
    pub(crate) fn swiglu(gate_up: &[f32], act: &mut [f32], f: usize) {
        for (row, act) in gate_up.chunks_exact(2 * f).zip(act.chunks_exact_mut(f)) {
            let (gate, up) = row.split_at(f);
            for ((a, g), u) in act.iter_mut().zip(gate).zip(up) {
                *a = g / (1.0 + exp::<FMA>(-g)) * u;
            }
        }
    }
}

multiversion! {
    /// Gradient of [`swiglu`]; also computes `act` again, which the weight gradient of the next matrix needs.
    pub(crate) fn swiglu_backward(
        gate_up: &[f32], d_act: &[f32], d_gate_up: &mut [f32], act: &mut [f32], f: usize,
    ) {
        let rows = gate_up.chunks_exact(2 * f).zip(d_gate_up.chunks_exact_mut(2 * f));
        for ((row, d_row), (d_act, act)) in rows.zip(d_act.chunks_exact(f).zip(act.chunks_exact_mut(f))) {
            let (gate, up) = row.split_at(f);
            let (d_gate, d_up) = d_row.split_at_mut(f);
            for i in 0..f {
                let (g, u, d) = (gate[i], up[i], d_act[i]);
                let s = 1.0 / (1.0 + exp::<FMA>(-g));
                let silu = g * s;
                act[i] = silu * u;
                d_up[i] = d * silu;
                // silu' = s + silu (1 - s)
                d_gate[i] = d * u * fused::<FMA>(silu, 1.0 - s, s);
            }
        }
    }
}

multiversion! {
    /// Turns pairs `(i, i + half)` of every head by the angle of the row's position, or back.
    ///
    /// `rows`: `width` numbers each, of which the first `heads · 2 half` are turned. `tables`: per position `half`
    /// cosines, then `half` sines.
    pub(crate) fn rotate(rows: &mut [f32], width: usize, heads: usize, half: usize, tables: &[f32], back: bool) {
        let sign = if back { -1.0 } else { 1.0 };
        for (row, table) in rows.chunks_exact_mut(width).zip(tables.chunks_exact(2 * half)) {
            let (cos, sin) = table.split_at(half);
            for head in row[..heads * 2 * half].chunks_exact_mut(2 * half) {
                let (a, b) = head.split_at_mut(half);
                for i in 0..half {
                    let (x, y, c, s) = (a[i], b[i], cos[i], sin[i] * sign);
                    a[i] = x * c - y * s;
                    b[i] = x * s + y * c;
                }
            }
        }
    }
}

/// 32-bit mixer (two rounds of xor-shift and multiply): cheap enough for every element of a mask.
#[inline(always)]
fn mix32(value: u32) -> u32 {
    let mut x = value;
    x = (x ^ (x >> 16)).wrapping_mul(0x7FEB_352D);
    x = (x ^ (x >> 15)).wrapping_mul(0x846C_A68B);
    x ^ (x >> 16)
}

/// A dropout mask for one row: kept elements are multiplied by `1 / (1 - p)`.
#[derive(Clone, Copy)]
pub(crate) struct Mask {
    pub key: u64,
    /// Elements whose hash is below this are dropped: p · 2^32.
    pub threshold: u32,
    pub factor: f32,
}

impl Mask {
    /// The mask with probability `p` for a row with this key.
    pub(crate) fn new(key: u64, p: f32) -> Self {
        Mask { key, threshold: (f64::from(p) * 4_294_967_296.0) as u32, factor: 1.0 / (1.0 - p) }
    }

    #[inline(always)]
    fn at(self, column: u32) -> f32 {
        let hash = mix32((self.key as u32) ^ column.wrapping_mul(0x9E37_79B9)) ^ (self.key >> 32) as u32;
        if mix32(hash) < self.threshold { 0.0 } else { self.factor }
    }
}

multiversion! {
    /// `target += mask source`
    pub(crate) fn add_masked(target: &mut [f32], source: &[f32], mask: Mask) {
        for (column, (t, s)) in target.iter_mut().zip(source).enumerate() {
            *t += mask.at(column as u32) * s;
        }
    }
}

multiversion! {
    /// `target = mask source`
    pub(crate) fn copy_masked(target: &mut [f32], source: &[f32], mask: Mask) {
        for (column, (t, s)) in target.iter_mut().zip(source).enumerate() {
            *t = mask.at(column as u32) * s;
        }
    }
}

/// What a row of logits says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowSummary {
    /// ln Σ exp z
    pub log_normaliser: f32,
    /// -Σ p ln p
    pub entropy: f32,
}

multiversion! {
    /// Log-normaliser of a row of logits and, if wanted, its entropy. `scratch` is as long as the row.
    pub(crate) fn summarise_logits(logits: &[f32], scratch: &mut [f32], entropy: bool) -> RowSummary {
        let scratch = &mut scratch[..logits.len()];
        let max = max_inline(logits);
        for (s, z) in scratch.iter_mut().zip(logits) {
            *s = exp::<FMA>(z - max);
        }
        let total = sum_inline(scratch);
        let log_total = total.ln();
        let mut summary = RowSummary { log_normaliser: max + log_total, entropy: 0.0 };
        if entropy {
            // H = ln Σ e^u - Σ e^u u / Σ e^u with u = z - max. Where e^u underflows u is large, but the product tiny.
            for (s, z) in scratch.iter_mut().zip(logits) {
                *s *= z - max;
            }
            summary.entropy = log_total - sum_inline(scratch) / total;
        }
        summary
    }
}

multiversion! {
    /// Overwrites logits by `dL/dz = -g p - e p (ln p + H)`; the caller adds g at the target.
    pub(crate) fn logits_backward(logits: &mut [f32], summary: RowSummary, g: f32, e: f32) {
        for z in logits {
            let log_p = *z - summary.log_normaliser;
            *z = -exp::<FMA>(log_p) * fused::<FMA>(e, log_p + summary.entropy, g);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    multiversion! {
        fn exp_all(values: &mut [f32]) {
            for v in values { *v = exp::<FMA>(*v); }
        }
    }

    #[test]
    fn exp_is_accurate_over_its_range() {
        let inputs: Vec<f32> = (0..200_000).map(|i| -87.0 + i as f32 * (175.0 / 200_000.0)).collect();
        let mut outputs = inputs.clone();
        exp_all(&mut outputs);
        for (x, y) in inputs.iter().zip(&outputs) {
            let wanted = f64::from(*x).exp();
            for got in [*y, exp::<false>(*x)] {
                assert!((f64::from(got) / wanted - 1.0).abs() < 4e-7, "exp({x}) = {got}, not {wanted}");
            }
        }
        let mut extremes = [0.0, -1e30, f32::NEG_INFINITY, 1e30];
        exp_all(&mut extremes);
        assert_eq!(extremes[0], 1.0);
        assert!(extremes[1] < 1.3e-38 && extremes[2] < 1.3e-38 && extremes[3].is_finite());
    }

    #[test]
    fn reductions_agree_with_f64_for_every_length() {
        for n in 0..70 {
            let a: Vec<f32> = (0..n).map(|i| ((i * 37 % 11) as f32 - 5.0) * 0.3).collect();
            let wanted: f64 = a.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
            assert!((f64::from(dot_inline::<false>(&a, &a)) - wanted).abs() < 1e-4, "dot of {n}");
            assert!((sum_of_squares(&a) - wanted).abs() < 1e-4, "squares of {n}");
            let max = a.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(max_inline(&a), max, "max of {n}");
        }
    }

    #[test]
    fn a_mask_drops_about_p_and_keeps_the_mean() {
        let ones = vec![1.0; 100_000];
        let mut out = vec![0.0; ones.len()];
        copy_masked(&mut out, &ones, Mask::new(0x1234_5678_9ABC_DEF0, 0.25));
        let dropped = out.iter().filter(|v| **v == 0.0).count() as f32 / ones.len() as f32;
        let mean = out.iter().sum::<f32>() / ones.len() as f32;
        assert!((dropped - 0.25).abs() < 0.01, "dropped {dropped}");
        assert!((mean - 1.0).abs() < 0.01, "mean {mean}");
    }

    #[test]
    fn logits_summary_is_the_textbook_one() {
        let logits = [1.0f32, 2.0, 0.5, -1.0, 3.0];
        let z: f64 = logits.iter().map(|x| f64::from(*x).exp()).sum();
        let h: f64 = -logits.iter().map(|x| f64::from(*x).exp() / z * (f64::from(*x) - z.ln())).sum::<f64>();
        let summary = summarise_logits(&logits, &mut [0.0; 5], true);
        assert!((f64::from(summary.log_normaliser) - z.ln()).abs() < 1e-6);
        assert!((f64::from(summary.entropy) - h).abs() < 1e-6);
    }
}
