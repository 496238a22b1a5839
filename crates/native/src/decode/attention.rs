//! Attention over pages, for rows that may share their first pages.
#![expect(
    clippy::needless_range_loop,
    reason = "indices over rows and vectors of a tile read alike in all arrays"
)]

use super::kernel::{Attention, PAGE};
use super::simd::{LANES, Simd};
use super::tile::{block_of_rows, for_panels, for_rows, tile};

/// Some queries of one head and what they run over.
#[derive(Clone, Copy)]
struct Strip {
    /// Queries, or attention weights, one row each.
    input: *const f32,
    input_stride: usize,
    table: *const *mut f32,
    /// Where the head's keys, or values, begin in a page.
    offset: usize,
    /// Pages (keys) or positions (values) from and to.
    range: (usize, usize),
    output: *mut f32,
    output_stride: usize,
    head_dim: usize,
}

impl Strip {
    unsafe fn at_row(&self, row: usize) -> Self {
        // SAFETY: the caller has this many rows.
        unsafe {
            Strip {
                input: self.input.add(row * self.input_stride),
                output: self.output.add(row * self.output_stride),
                ..*self
            }
        }
    }
}

/// Scores of R queries against pages `page..page + N`.
#[inline(always)]
unsafe fn score_tile<S: Simd, const R: usize, const N: usize>(s: &Strip, page: usize) {
    // SAFETY: the table holds these pages, the scores have room for their positions.
    unsafe {
        let mut acc = [[S::splat(0.0); N]; R];
        let mut b = [core::ptr::null(); N];
        for (n, b) in b.iter_mut().enumerate() {
            *b = (*s.table.add(page + n)).add(s.offset).cast_const();
        }
        tile::<S, R, N>(s.head_dim, s.input, s.input_stride, b, PAGE, &mut acc, |_| {});
        for r in 0..R {
            for n in 0..N {
                S::store(acc[r][n], s.output.add(r * s.output_stride + (page + n) * PAGE));
            }
        }
    }
}

#[inline(always)]
unsafe fn score_rows<S: Simd, const R: usize>(s: &Strip) {
    // SAFETY: as for the caller.
    unsafe { for_panels!(S, R, s.range.0, s.range.1, score_tile(s)) }
}

/// Scores of any number of queries.
#[inline(always)]
unsafe fn scores<S: Simd>(strip: &Strip, rows: usize) {
    let mut row = 0;
    while row < rows {
        let block = block_of_rows::<S>(rows - row);
        // SAFETY: as for the caller.
        unsafe {
            let strip = strip.at_row(row);
            for_rows!(S, block, score_rows(&strip));
        }
        row += block;
    }
}

/// Adds to R sums, columns of panels `panel..panel + N`, the weighted values of the positions in order.
#[inline(always)]
unsafe fn value_tile<S: Simd, const R: usize, const N: usize>(s: &Strip, panel: usize) {
    // SAFETY: the table holds the pages of these positions.
    unsafe {
        let stride = s.output_stride;
        let mut acc = [[S::splat(0.0); N]; R];
        for r in 0..R {
            for n in 0..N {
                acc[r][n] = S::load(s.output.add(r * stride + (panel + n) * LANES));
            }
        }
        let mut position = s.range.0;
        while position < s.range.1 {
            let steps = PAGE.min(s.range.1 - position);
            let page = (*s.table.add(position / PAGE)).add(s.offset + panel * LANES).cast_const();
            let mut b = [page; N];
            for (n, b) in b.iter_mut().enumerate() {
                *b = page.add(n * LANES);
            }
            tile::<S, R, N>(steps, s.input.add(position), s.input_stride, b, stride, &mut acc, |_| {});
            position += steps;
        }
        for r in 0..R {
            for n in 0..N {
                S::store(acc[r][n], s.output.add(r * stride + (panel + n) * LANES));
            }
        }
    }
}

#[inline(always)]
unsafe fn value_rows<S: Simd, const R: usize>(s: &Strip) {
    // SAFETY: as for the caller.
    unsafe { for_panels!(S, R, 0, s.output_stride / LANES, value_tile(s)) }
}

/// Weighted values for any number of queries.
#[inline(always)]
unsafe fn values<S: Simd>(strip: &Strip, rows: usize) {
    let mut row = 0;
    while row < rows {
        let block = block_of_rows::<S>(rows - row);
        // SAFETY: as for the caller.
        unsafe {
            let strip = strip.at_row(row);
            for_rows!(S, block, value_rows(&strip));
        }
        row += block;
    }
}

/// Softmax of `length` scores in place; what lies behind, to the end of its page, becomes 0.
#[inline(always)]
unsafe fn softmax<S: Simd>(scores: *mut f32, length: usize) {
    // SAFETY: the scores have room to the end of the last page.
    unsafe {
        let padded = length.next_multiple_of(PAGE);
        for i in length..padded {
            *scores.add(i) = f32::NEG_INFINITY;
        }
        let mut largest = S::splat(f32::NEG_INFINITY);
        for i in (0..padded).step_by(LANES) {
            largest = S::max(largest, S::load(scores.add(i)));
        }
        let largest = S::splat(S::largest(largest));
        let mut sum = S::splat(0.0);
        for i in (0..padded).step_by(LANES) {
            let e = S::exp(S::sub(S::load(scores.add(i)), largest));
            sum = S::add(sum, e);
            S::store(e, scores.add(i));
        }
        let factor = S::splat(1.0 / S::sum(sum));
        for i in (0..padded).step_by(LANES) {
            S::store(S::mul(S::load(scores.add(i)), factor), scores.add(i));
        }
    }
}

/// Asks for a part of some pages early: those of one sequence come from far. Common pages are near.
#[inline(always)]
unsafe fn early<S: Simd>(table: *const *mut f32, pages: (usize, usize), offset: usize, numbers: usize) {
    for page in pages.0..pages.1 {
        // SAFETY: the table holds these pages.
        let part = unsafe { *table.add(page) }.wrapping_add(offset);
        for i in (0..numbers).step_by(LANES) {
            S::prefetch(part.wrapping_add(i));
        }
    }
}

#[inline(always)]
pub(super) unsafe fn attention_body<S: Simd>(p: &Attention) {
    let s = &p.shape;
    let (key_offset, value_offset) = (p.kv_head * s.page_head, p.kv_head * s.page_head + s.head_dim * PAGE);
    let common_positions = p.common * PAGE;
    let total = p.rows * s.group;
    let mut first = 0;
    // SAFETY: the caller's buffers and tables hold these rows and heads.
    unsafe {
        while first < total {
            let count = block_of_rows::<S>(total - first);
            let row_of = |query: usize| (first + query) / s.group;
            // Queries of one row are neighbours and have the same pages.
            let run_from = |query: usize| ((row_of(query) + 1) * s.group - first).min(count) - query;
            let query_at = |query: usize| {
                let (row, j) = (row_of(query), (first + query) % s.group);
                p.qkv.add(row * p.qkv_stride + (p.kv_head * s.group + j) * s.head_dim)
            };
            let common = Strip {
                input: p.queries,
                input_stride: s.head_dim,
                table: *p.tables.add(row_of(0)),
                offset: key_offset,
                range: (0, p.common),
                output: p.scores,
                output_stride: p.scores_stride,
                head_dim: s.head_dim,
            };
            let own_pages = |row: usize| (p.common, (*p.lengths.add(row)).div_ceil(PAGE));
            // For the row of a query, if it is in this block.
            let ask_ahead = |query: usize, offset: usize, numbers: usize| {
                if query < count {
                    let row = row_of(query);
                    early::<S>(*p.tables.add(row), own_pages(row), offset, numbers);
                }
            };
            ask_ahead(0, key_offset, s.head_dim * PAGE);
            if p.common > 0 {
                for query in 0..count {
                    let to = p.queries.add(query * s.head_dim);
                    core::ptr::copy_nonoverlapping(query_at(query), to, s.head_dim);
                }
                scores::<S>(&common, count);
            }
            let mut query = 0;
            while query < count {
                let (row, run) = (row_of(query), run_from(query));
                ask_ahead(query + run, key_offset, s.head_dim * PAGE);
                let own = Strip {
                    input: query_at(query),
                    table: *p.tables.add(row),
                    range: own_pages(row),
                    output: p.scores.add(query * p.scores_stride),
                    ..common
                };
                scores::<S>(&own, run);
                query += run;
            }
            ask_ahead(0, value_offset, PAGE * s.value_stride);
            for query in 0..count {
                softmax::<S>(p.scores.add(query * p.scores_stride), *p.lengths.add(row_of(query)));
            }
            for i in (0..count * s.value_stride).step_by(LANES) {
                S::store(S::splat(0.0), p.sums.add(i));
            }
            let common = Strip {
                input: p.scores,
                input_stride: p.scores_stride,
                offset: value_offset,
                range: (0, common_positions),
                output: p.sums,
                output_stride: s.value_stride,
                ..common
            };
            if p.common > 0 {
                values::<S>(&common, count);
            }
            let mut query = 0;
            while query < count {
                let (row, run) = (row_of(query), run_from(query));
                ask_ahead(query + run, value_offset, PAGE * s.value_stride);
                let own = Strip {
                    input: p.scores.add(query * p.scores_stride),
                    table: *p.tables.add(row),
                    range: (common_positions, *p.lengths.add(row)),
                    output: p.sums.add(query * s.value_stride),
                    ..common
                };
                values::<S>(&own, run);
                for query in query..query + run {
                    let head = p.kv_head * s.group + (first + query) % s.group;
                    let to = p.output.add(row * p.output_stride + head * s.head_dim);
                    core::ptr::copy_nonoverlapping(
                        p.sums.add(query * s.value_stride).cast_const(),
                        to,
                        s.head_dim,
                    );
                }
                query += run;
            }
            first += count;
        }
    }
}
