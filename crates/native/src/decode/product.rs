//! Products of rows with packed weights.
#![expect(
    clippy::needless_range_loop,
    reason = "indices over rows and vectors of a tile read alike in all arrays"
)]

use super::kernel::{Epilogue, Product};
use super::simd::{LANES, Simd};
use super::tile::{block_of_rows, for_panels, for_rows, tile};

/// Which weights to ask for early: they come from far, and the next ones are known.
#[derive(Clone, Copy)]
enum Early {
    /// Those from here on.
    Next(*const f32),
    /// Those further on in the same panels.
    Ahead,
}

/// Steps between asking for weights and using them.
const AHEAD: usize = 16;

#[inline(always)]
unsafe fn product_tile<S: Simd, const R: usize, const N: usize>(
    p: &Product,
    row: usize,
    early: Early,
    panel: usize,
) {
    // SAFETY: the panels and rows are within the buffers of `p`.
    unsafe {
        let mut acc = [[S::splat(0.0); N]; R];
        let mut b = [p.panels; N];
        for (n, b) in b.iter_mut().enumerate() {
            *b = p.panels.add((panel + n) * p.k * LANES);
        }
        let input = p.input.add(row * p.input_stride);
        match early {
            Early::Next(next) => {
                tile::<S, R, N>(p.k, input, p.input_stride, b, LANES, &mut acc, |k| {
                    S::prefetch(next.wrapping_add(k * LANES))
                });
            }
            Early::Ahead => tile::<S, R, N>(p.k, input, p.input_stride, b, LANES, &mut acc, |k| {
                for b in b {
                    S::prefetch(b.wrapping_add((k + AHEAD) * LANES));
                }
            }),
        }
        match p.epilogue {
            Epilogue::Store => {
                for r in 0..R {
                    let to = p.output.add((row + r) * p.output_stride + panel * LANES);
                    for n in 0..N {
                        S::store(acc[r][n], to.add(n * LANES));
                    }
                }
            }
            Epilogue::Bias(bias) => {
                for r in 0..R {
                    let to = p.output.add((row + r) * p.output_stride + panel * LANES);
                    for n in 0..N {
                        let bias = S::load(bias.add((panel + n) * LANES));
                        S::store(S::add(acc[r][n], bias), to.add(n * LANES));
                    }
                }
            }
            Epilogue::Add => {
                for r in 0..R {
                    let to = p.output.add((row + r) * p.output_stride + panel * LANES);
                    for n in 0..N {
                        S::store(S::add(S::load(to.add(n * LANES)), acc[r][n]), to.add(n * LANES));
                    }
                }
            }
            Epilogue::SwiGlu => {
                // Through memory, so that this is a loop and not R · N copies of the exponential.
                let mut sums = [[[0.0f32; LANES]; N]; R];
                for r in 0..R {
                    for n in 0..N {
                        S::store(acc[r][n], sums[r][n].as_mut_ptr());
                    }
                }
                for (r, sums) in sums.iter().enumerate() {
                    let to = p.output.add((row + r) * p.output_stride + panel / 2 * LANES);
                    for (n, pair) in sums.chunks_exact(2).enumerate() {
                        let (gate, up) = (S::load(pair[0].as_ptr()), S::load(pair[1].as_ptr()));
                        let denominator = S::add(S::splat(1.0), S::exp(S::sub(S::splat(0.0), gate)));
                        S::store(S::mul(S::div(gate, denominator), up), to.add(n * LANES));
                    }
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn product_rows<S: Simd, const R: usize>(
    p: &Product,
    row: usize,
    early: Early,
    first: usize,
    end: usize,
) {
    // SAFETY: as for the caller.
    unsafe { for_panels!(S, R, first, end, product_tile(p, row, early)) }
}

#[inline(always)]
pub(super) unsafe fn product_body<S: Simd>(p: &Product) {
    // Two panels stay in the first-level cache while all rows pass by. With one block of rows there is nothing to keep.
    let one_block = block_of_rows::<S>(p.rows) == p.rows;
    let step = if one_block { p.end_panel - p.first_panel } else { 2 };
    let mut first = p.first_panel;
    while first < p.end_panel {
        let end = (first + step).min(p.end_panel);
        let mut row = 0;
        while row < p.rows {
            let rows = block_of_rows::<S>(p.rows - row);
            let early = if one_block {
                Early::Ahead
            } else {
                // The first two blocks of rows bring the two panels that come next.
                Early::Next(p.panels.wrapping_add((end + row.min(1)) * p.k * LANES))
            };
            // SAFETY: the caller's buffers hold these rows and panels.
            unsafe { for_rows!(S, rows, product_rows(p, row, early, first, end)) };
            row += rows;
        }
        first = end;
    }
}
