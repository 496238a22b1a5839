//! Blocks of products in registers: the one loop that all products and attention share.
#![expect(
    clippy::needless_range_loop,
    reason = "indices over rows and vectors of a tile read alike in all arrays"
)]

use super::simd::Simd;

/// One block of products: `acc[r][n] += Σₖ a[r][k] · b[n][k]`, each sum one chain over k in order.
#[inline(always)]
pub(super) unsafe fn tile<S: Simd, const R: usize, const N: usize>(
    k: usize,
    a: *const f32,
    a_stride: usize,
    b: [*const f32; N],
    b_step: usize,
    acc: &mut [[S::V; N]; R],
    early: impl Fn(usize),
) {
    // SAFETY: the caller gives R rows of k numbers in `a` and k steps of 16 numbers at each of `b`.
    unsafe {
        for kk in 0..k {
            early(kk);
            let mut panel = [S::splat(0.0); N];
            for n in 0..N {
                panel[n] = S::load(b[n].add(kk * b_step));
            }
            for r in 0..R {
                let x = S::splat(*a.add(r * a_stride + kk));
                for n in 0..N {
                    acc[r][n] = S::fma(x, panel[n], acc[r][n]);
                }
            }
        }
    }
}

/// Calls `$body::<S, R>($args)` for a block of rows that [`block_of_rows`] gave.
macro_rules! for_rows {
    ($simd:ty, $rows:expr, $body:ident($($argument:expr),*)) => {
        match $rows {
            1 => $body::<$simd, 1>($($argument),*),
            2 => $body::<$simd, 2>($($argument),*),
            3 if <$simd>::ROWS == 3 => $body::<$simd, 3>($($argument),*),
            4 if <$simd>::ROWS > 4 => $body::<$simd, 4>($($argument),*),
            8 if <$simd>::ROWS > 8 => $body::<$simd, 8>($($argument),*),
            12 if <$simd>::ROWS == 12 => $body::<$simd, 12>($($argument),*),
            _ => {}
        }
    };
}

/// The largest block of at most so many rows. Few sizes, since each is compiled for each kernel and processor family.
#[inline(always)]
pub(super) fn block_of_rows<S: Simd>(rows: usize) -> usize {
    match rows {
        12.. if S::ROWS == 12 => 12,
        8.. if S::ROWS > 8 => 8,
        4.. if S::ROWS > 4 => 4,
        3.. if S::ROWS == 3 => 3,
        2.. => 2,
        rows => rows,
    }
}

/// Runs `$body::<S, R, N>(…, panel)` over a range of panels, as many at once as the registers hold.
macro_rules! for_panels {
    ($simd:ty, $rows:ident, $first:expr, $end:expr, $body:ident($($argument:expr),*)) => {{
        let (mut panel, end) = ($first, $end);
        if const { $rows <= 2 && $rows * 8 <= <$simd>::SUMS } {
            while panel + 8 <= end {
                $body::<$simd, $rows, 8>($($argument,)* panel);
                panel += 8;
            }
        } else if const { $rows * 4 <= <$simd>::SUMS } {
            while panel + 4 <= end {
                $body::<$simd, $rows, 4>($($argument,)* panel);
                panel += 4;
            }
        }
        while panel + 2 <= end {
            $body::<$simd, $rows, 2>($($argument,)* panel);
            panel += 2;
        }
        if panel < end {
            $body::<$simd, $rows, 1>($($argument,)* panel);
        }
    }};
}

pub(super) use {for_panels, for_rows};
