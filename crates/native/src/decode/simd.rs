//! Sixteen numbers at a time on whatever the processor has.
//!
//! Every implementation works on 16 lanes, so that blocking, order of sums and therefore results are the same on
//! AVX-512 and on AVX2 (and on the portable one where the target has a fused multiply-add).

/// Lanes of a vector.
pub(super) const LANES: usize = 16;

/// 1.5 · 2²³: adding it to a small number leaves the nearest whole number in the low bits.
const ROUND: f32 = 12_582_912.0;

/// A vector of 16 numbers.
///
/// # Safety
/// All methods: the processor has the features of the implementation, and pointers are valid for 16 numbers.
pub(super) trait Simd: Copy {
    /// The registers.
    type V: Copy;
    /// Rows of the largest product tile.
    const ROWS: usize;
    /// Vectors of sums that a product tile may hold in registers.
    const SUMS: usize;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    unsafe fn store(v: Self::V, to: *mut f32);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// a·b + c.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `v` where `x` ≥ `limit`, else 0.
    unsafe fn keep_from(x: Self::V, limit: Self::V, v: Self::V) -> Self::V;
    /// Asks for a cache line early; any address will do.
    fn prefetch(address: *const f32);
    /// 2ⁿ for `t` = n + [`ROUND`].
    unsafe fn power_of_two(t: Self::V) -> Self::V;

    /// eˣ, relative error below 2e-7; 0 below −87, x at most 88.
    #[inline(always)]
    unsafe fn exp(x: Self::V) -> Self::V {
        // SAFETY: the caller has the features.
        unsafe {
            // Cephes: x = n ln 2 + r with |r| ≤ ln 2 / 2, ln 2 in two parts, a polynomial of degree 6 for eʳ.
            let bounded = Self::min(Self::max(x, Self::splat(-87.0)), Self::splat(88.0));
            let t = Self::fma(bounded, Self::splat(std::f32::consts::LOG2_E), Self::splat(ROUND));
            let n = Self::sub(t, Self::splat(ROUND));
            let r = Self::fma(n, Self::splat(-0.693_359_4), bounded);
            let r = Self::fma(n, Self::splat(2.121_944_4e-4), r);
            let p = Self::fma(Self::splat(1.987_569_1e-4), r, Self::splat(1.398_199_9e-3));
            let p = Self::fma(p, r, Self::splat(8.333_452e-3));
            let p = Self::fma(p, r, Self::splat(4.166_579_6e-2));
            let p = Self::fma(p, r, Self::splat(0.166_666_65));
            let p = Self::fma(p, r, Self::splat(0.5));
            let p = Self::fma(p, Self::mul(r, r), Self::add(r, Self::splat(1.0)));
            Self::keep_from(x, Self::splat(-87.0), Self::mul(p, Self::power_of_two(t)))
        }
    }

    /// The lanes.
    #[inline(always)]
    unsafe fn lanes(v: Self::V) -> [f32; LANES] {
        let mut lanes = [0.0; LANES];
        // SAFETY: the array holds 16 numbers.
        unsafe { Self::store(v, lanes.as_mut_ptr()) };
        lanes
    }

    /// Sum of the lanes, as a fixed tree.
    #[inline(always)]
    unsafe fn sum(v: Self::V) -> f32 {
        // SAFETY: the caller has the features.
        let mut lanes = unsafe { Self::lanes(v) };
        for i in 0..8 {
            lanes[i] += lanes[i + 8];
        }
        for i in 0..4 {
            lanes[i] += lanes[i + 4];
        }
        (lanes[0] + lanes[2]) + (lanes[1] + lanes[3])
    }

    /// Largest lane.
    #[inline(always)]
    unsafe fn largest(v: Self::V) -> f32 {
        // SAFETY: the caller has the features.
        let mut lanes = unsafe { Self::lanes(v) };
        for i in 0..8 {
            lanes[i] = lanes[i].max(lanes[i + 8]);
        }
        for i in 0..4 {
            lanes[i] = lanes[i].max(lanes[i + 4]);
        }
        lanes[0].max(lanes[2]).max(lanes[1].max(lanes[3]))
    }
}

/// Any processor; the compiler vectorises the loops with what the target has.
#[derive(Clone, Copy)]
pub(super) struct Portable;

/// One operation on each lane.
macro_rules! each_lane {
    ($i:ident => $value:expr) => {{
        let mut out = [0.0f32; LANES];
        for $i in 0..LANES {
            out[$i] = $value;
        }
        out
    }};
}

impl Simd for Portable {
    type V = [f32; LANES];
    const ROWS: usize = 2;
    const SUMS: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        // SAFETY: valid for 16 numbers, of any alignment.
        unsafe { from.cast::<[f32; LANES]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(v: Self::V, to: *mut f32) {
        // SAFETY: valid for 16 numbers, of any alignment.
        unsafe { to.cast::<[f32; LANES]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        each_lane!(i => a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        each_lane!(i => a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        each_lane!(i => a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        each_lane!(i => a[i] / b[i])
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        each_lane!(i => if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        each_lane!(i => if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // Without the instruction `mul_add` is a slow library call.
        if cfg!(any(target_feature = "fma", target_arch = "aarch64")) {
            each_lane!(i => a[i].mul_add(b[i], c[i]))
        } else {
            each_lane!(i => a[i] * b[i] + c[i])
        }
    }
    #[inline(always)]
    unsafe fn keep_from(x: Self::V, limit: Self::V, v: Self::V) -> Self::V {
        each_lane!(i => if x[i] >= limit[i] { v[i] } else { 0.0 })
    }
    #[inline(always)]
    fn prefetch(_: *const f32) {}
    #[inline(always)]
    unsafe fn power_of_two(t: Self::V) -> Self::V {
        each_lane!(i => f32::from_bits((t[i].to_bits() << 23).wrapping_add(0x3f80_0000)))
    }
}

/// AVX2 with FMA: two registers of 8.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Avx2;

/// AVX-512F: one register of 16.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Avx512;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Avx2, Avx512, Simd};
    use core::arch::x86_64::*;

    impl Simd for Avx2 {
        type V = (__m256, __m256);
        const ROWS: usize = 3;
        const SUMS: usize = 6;

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self::V {
            // SAFETY (here and below): the caller has the features and valid pointers.
            unsafe { (_mm256_set1_ps(x), _mm256_set1_ps(x)) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self::V {
            unsafe { (_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
        }
        #[inline(always)]
        unsafe fn store(v: Self::V, to: *mut f32) {
            unsafe {
                _mm256_storeu_ps(to, v.0);
                _mm256_storeu_ps(to.add(8), v.1);
            }
        }
        #[inline(always)]
        unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
            unsafe { (_mm256_add_ps(a.0, b.0), _mm256_add_ps(a.1, b.1)) }
        }
        #[inline(always)]
        unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
            unsafe { (_mm256_sub_ps(a.0, b.0), _mm256_sub_ps(a.1, b.1)) }
        }
        #[inline(always)]
        unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
            unsafe { (_mm256_mul_ps(a.0, b.0), _mm256_mul_ps(a.1, b.1)) }
        }
        #[inline(always)]
        unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
            unsafe { (_mm256_div_ps(a.0, b.0), _mm256_div_ps(a.1, b.1)) }
        }
        #[inline(always)]
        unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
            unsafe { (_mm256_max_ps(a.0, b.0), _mm256_max_ps(a.1, b.1)) }
        }
        #[inline(always)]
        unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
            unsafe { (_mm256_min_ps(a.0, b.0), _mm256_min_ps(a.1, b.1)) }
        }
        #[inline(always)]
        unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
            unsafe { (_mm256_fmadd_ps(a.0, b.0, c.0), _mm256_fmadd_ps(a.1, b.1, c.1)) }
        }
        #[inline(always)]
        unsafe fn keep_from(x: Self::V, limit: Self::V, v: Self::V) -> Self::V {
            unsafe {
                let (low, high) =
                    (_mm256_cmp_ps::<_CMP_GE_OQ>(x.0, limit.0), _mm256_cmp_ps::<_CMP_GE_OQ>(x.1, limit.1));
                (_mm256_and_ps(low, v.0), _mm256_and_ps(high, v.1))
            }
        }
        #[inline(always)]
        fn prefetch(address: *const f32) {
            // SAFETY: a prefetch does not fault.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
        }
        #[inline(always)]
        unsafe fn power_of_two(t: Self::V) -> Self::V {
            unsafe {
                let one = _mm256_set1_epi32(0x3f80_0000);
                let low = _mm256_slli_epi32::<23>(_mm256_castps_si256(t.0));
                let high = _mm256_slli_epi32::<23>(_mm256_castps_si256(t.1));
                (
                    _mm256_castsi256_ps(_mm256_add_epi32(low, one)),
                    _mm256_castsi256_ps(_mm256_add_epi32(high, one)),
                )
            }
        }
    }

    impl Simd for Avx512 {
        type V = __m512;
        const ROWS: usize = 12;
        const SUMS: usize = 24;

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self::V {
            // SAFETY (here and below): the caller has the features and valid pointers.
            unsafe { _mm512_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self::V {
            unsafe { _mm512_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn store(v: Self::V, to: *mut f32) {
            unsafe { _mm512_storeu_ps(to, v) }
        }
        #[inline(always)]
        unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
            unsafe { _mm512_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
            unsafe { _mm512_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
            unsafe { _mm512_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
            unsafe { _mm512_div_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
            unsafe { _mm512_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
            unsafe { _mm512_min_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn keep_from(x: Self::V, limit: Self::V, v: Self::V) -> Self::V {
            unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(x, limit), v) }
        }
        #[inline(always)]
        fn prefetch(address: *const f32) {
            // SAFETY: a prefetch does not fault.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
        }
        #[inline(always)]
        unsafe fn power_of_two(t: Self::V) -> Self::V {
            unsafe {
                let shifted = _mm512_slli_epi32::<23>(_mm512_castps_si512(t));
                _mm512_castsi512_ps(_mm512_add_epi32(shifted, _mm512_set1_epi32(0x3f80_0000)))
            }
        }
    }
}
