//! The arithmetic of decoding: products with packed weights, norms, rotary embedding, attention over pages.
//!
//! Each kernel is written once over [`Simd`] and compiled once per processor family; [`Kernels::best`] picks at run
//! time. All of them take raw pointers, because threads work on disjoint parts of shared buffers.
#![expect(
    clippy::needless_range_loop,
    reason = "indices over rows and vectors of a tile read alike in all arrays"
)]

#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512};
use super::simd::{LANES, Portable, Simd};

/// Positions of one page of keys and values.
pub(super) const PAGE: usize = LANES;
/// Rows of the largest tile of any processor family.
pub(super) const MAX_ROWS: usize = 12;

/// What happens to the sums of a product.
#[derive(Clone, Copy)]
pub(super) enum Epilogue {
    /// Stored.
    Store,
    /// Added to a bias (padded to whole panels), stored.
    Bias(*const f32),
    /// Added to what is there.
    Add,
    /// Panels come in pairs (gate, up): silu(gate) · up is stored.
    SwiGlu,
}

/// `output[row][column] = Σₖ input[row][k] · weight[column][k]` for a range of panels of 16 columns.
#[derive(Clone, Copy)]
pub(super) struct Product {
    pub k: usize,
    pub rows: usize,
    pub input: *const f32,
    pub input_stride: usize,
    /// All panels of the matrix, each `[k][16]`.
    pub panels: *const f32,
    pub first_panel: usize,
    pub end_panel: usize,
    pub output: *mut f32,
    pub output_stride: usize,
    pub epilogue: Epilogue,
}

/// `output[row] = input[row] · weight / √(mean(input[row]²) + ε)`; rows are padded with zeros to whole vectors.
#[derive(Clone, Copy)]
pub(super) struct Norm {
    pub rows: usize,
    pub width: usize,
    pub eps: f32,
    pub input: *const f32,
    pub input_stride: usize,
    pub weight: *const f32,
    pub output: *mut f32,
    pub output_stride: usize,
}

/// Shape of attention.
#[derive(Clone, Copy)]
pub(super) struct HeadShape {
    pub head_dim: usize,
    /// Query heads per key/value head.
    pub group: usize,
    pub query_width: usize,
    pub kv_width: usize,
    /// Row stride of values in a page: `head_dim` padded to whole vectors.
    pub value_stride: usize,
    /// Numbers of one key/value head in a page: keys `[head_dim][16]`, then values `[16][value_stride]`.
    pub page_head: usize,
    pub eps: f32,
    /// 1/√head_dim.
    pub scale: f32,
    /// `[head_dim]` or null.
    pub query_norm: *const f32,
    /// `[head_dim]` or null.
    pub key_norm: *const f32,
}

/// Queries, keys and values of rows made ready: norm, rotation, scale; keys and values go into their pages.
#[derive(Clone, Copy)]
pub(super) struct Heads {
    pub shape: HeadShape,
    pub first_kv: usize,
    pub end_kv: usize,
    pub rows: usize,
    pub qkv: *mut f32,
    pub qkv_stride: usize,
    /// Per row: cos `[head_dim/2]`, then sin.
    pub rotations: *const *const f32,
    /// Per row: the page of its position, at this layer.
    pub pages: *const *mut f32,
    /// Per row: its place in that page.
    pub slots: *const usize,
}

/// Attention of rows that share their first pages, for one key/value head.
#[derive(Clone, Copy)]
pub(super) struct Attention {
    pub shape: HeadShape,
    pub kv_head: usize,
    pub rows: usize,
    pub qkv: *const f32,
    pub qkv_stride: usize,
    /// Per row: its pages at this layer, in order of position.
    pub tables: *const *const *mut f32,
    /// Per row: positions it sees.
    pub lengths: *const usize,
    /// Leading pages common to all rows, and seen whole by all rows.
    pub common: usize,
    pub output: *mut f32,
    pub output_stride: usize,
    /// `[MAX_ROWS][scores_stride]`
    pub scores: *mut f32,
    pub scores_stride: usize,
    /// `[MAX_ROWS][value_stride]`
    pub sums: *mut f32,
    /// `[MAX_ROWS][head_dim]`
    pub queries: *mut f32,
}

/// One block of products: `acc[r][n] += Σₖ a[r][k] · b[n][k]`, each sum one chain over k in order.
#[inline(always)]
unsafe fn tile<S: Simd, const R: usize, const N: usize>(
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
fn block_of_rows<S: Simd>(rows: usize) -> usize {
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
unsafe fn product_body<S: Simd>(p: &Product) {
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

#[inline(always)]
unsafe fn norm_body<S: Simd>(p: &Norm) {
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
unsafe fn heads_body<S: Simd>(p: &Heads) {
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
        tile::<S, R, N>(s.head_dim, s.input, s.input_stride, b, PAGE, &mut acc, |k| {
            // Pages of one sequence come from far: ask for the values behind the keys. Common pages are near.
            if const { R <= 2 } {
                for keys in b {
                    S::prefetch(keys.wrapping_add((s.head_dim + k) * PAGE));
                }
            }
        });
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

#[inline(always)]
unsafe fn attention_body<S: Simd>(p: &Attention) {
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
                let own = Strip {
                    input: query_at(query),
                    table: *p.tables.add(row),
                    range: (p.common, (*p.lengths.add(row)).div_ceil(PAGE)),
                    output: p.scores.add(query * p.scores_stride),
                    ..common
                };
                scores::<S>(&own, run);
                query += run;
            }
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

/// Writes the exponentials, returns their sum.
#[inline(always)]
unsafe fn exponentials_body<S: Simd>(p: &Exponentials) -> f64 {
    // SAFETY: both arrays hold whole vectors.
    unsafe {
        let (shift, factor) = (S::splat(p.largest), S::splat(p.factor));
        let mut sums = [0.0f64; LANES];
        for i in (0..p.count).step_by(LANES) {
            let e = S::exp(S::mul(S::sub(S::load(p.input.add(i)), shift), factor));
            S::store(e, p.output.add(i));
            let lanes = S::lanes(e);
            for lane in 0..LANES {
                sums[lane] += f64::from(lanes[lane]);
            }
        }
        tree_sum(sums)
    }
}

/// `output = exp((input − largest) · factor)`; `count` is a multiple of 16, padding holds −∞.
#[derive(Clone, Copy)]
pub(super) struct Exponentials {
    pub count: usize,
    pub largest: f32,
    pub factor: f32,
    pub input: *const f32,
    pub output: *mut f32,
}

#[inline(always)]
fn tree_sum(mut sums: [f64; LANES]) -> f64 {
    for width in [8, 4, 2, 1] {
        for i in 0..width {
            sums[i] += sums[i + width];
        }
    }
    sums[0]
}

#[inline(always)]
unsafe fn largest_body<S: Simd>(input: *const f32, count: usize) -> f32 {
    // SAFETY: the input holds whole vectors.
    unsafe {
        let mut largest = S::splat(f32::NEG_INFINITY);
        for i in (0..count).step_by(LANES) {
            largest = S::max(largest, S::load(input.add(i)));
        }
        S::largest(largest)
    }
}

/// Sums over the vocabulary that the statistics of a distribution need.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct DistributionSums {
    /// Σⱼ log pⱼ
    pub logprobs: f64,
    /// Σⱼ pⱼ log pⱼ
    pub weighted_logprobs: f64,
    /// Σⱼ pⱼ²
    pub squares: f64,
}

#[inline(always)]
unsafe fn distribution_body<S: Simd>(logits: *const f32, count: usize, log_sum: f32) -> DistributionSums {
    // SAFETY: the logits hold `count` numbers padded to whole vectors.
    unsafe {
        let (mut logprobs, mut weighted, mut squares) = ([0.0f64; LANES], [0.0f64; LANES], [0.0f64; LANES]);
        let shift = S::splat(log_sum);
        for i in (0..count).step_by(LANES) {
            let logprob = S::sub(S::load(logits.add(i)), shift);
            let (p, mut logprob) = (S::lanes(S::exp(logprob)), S::lanes(logprob));
            for lane in 0..LANES {
                // A token that cannot be: log p = −∞ would hide all others in the mean.
                logprob[lane] =
                    if logprob[lane] == f32::NEG_INFINITY { MASKED_LOGPROB } else { logprob[lane] };
            }
            if i + LANES > count {
                logprob[count - i..].fill(0.0);
            }
            for lane in 0..LANES {
                let (p, logprob) = (f64::from(p[lane]), f64::from(logprob[lane]));
                logprobs[lane] += logprob;
                weighted[lane] += p * logprob;
                squares[lane] += p * p;
            }
        }
        DistributionSums {
            logprobs: tree_sum(logprobs),
            weighted_logprobs: tree_sum(weighted),
            squares: tree_sum(squares),
        }
    }
}

/// log p of a token whose logit is −∞, in the statistics.
pub(super) const MASKED_LOGPROB: f32 = -60.0;

/// The kernels of one processor family.
pub(super) struct Kernels {
    pub name: &'static str,
    pub product: unsafe fn(&Product),
    pub norm: unsafe fn(&Norm),
    pub heads: unsafe fn(&Heads),
    pub attention: unsafe fn(&Attention),
    pub exponentials: unsafe fn(&Exponentials) -> f64,
    pub largest: unsafe fn(*const f32, usize) -> f32,
    pub distribution: unsafe fn(*const f32, usize, f32) -> DistributionSums,
}

macro_rules! family {
    ($table:ident, $name:literal, $simd:ty $(, $features:literal)?) => {
        static $table: Kernels = {
            $(#[target_feature(enable = $features)])?
            unsafe fn product(p: &Product) {
                // SAFETY (here and below): the caller's; the features are those of this function.
                unsafe { product_body::<$simd>(p) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn norm(p: &Norm) {
                unsafe { norm_body::<$simd>(p) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn heads(p: &Heads) {
                unsafe { heads_body::<$simd>(p) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn attention(p: &Attention) {
                unsafe { attention_body::<$simd>(p) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn exponentials(p: &Exponentials) -> f64 {
                unsafe { exponentials_body::<$simd>(p) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn largest(input: *const f32, count: usize) -> f32 {
                unsafe { largest_body::<$simd>(input, count) }
            }
            $(#[target_feature(enable = $features)])?
            unsafe fn distribution(logits: *const f32, count: usize, log_sum: f32) -> DistributionSums {
                unsafe { distribution_body::<$simd>(logits, count, log_sum) }
            }
            Kernels { name: $name, product, norm, heads, attention, exponentials, largest, distribution }
        };
    };
}

family!(PORTABLE, "portable", Portable);
#[cfg(target_arch = "x86_64")]
family!(AVX2, "avx2+fma", Avx2, "avx2,fma");
#[cfg(target_arch = "x86_64")]
family!(AVX512, "avx512", Avx512, "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma");

impl Kernels {
    /// All that this processor can run, fastest first.
    pub(super) fn available() -> Vec<&'static Kernels> {
        let mut kernels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512bw")
            {
                kernels.push(&AVX512);
            }
            if avx2 {
                kernels.push(&AVX2);
            }
        }
        kernels.push(&PORTABLE);
        kernels
    }

    /// The fastest.
    pub(super) fn best() -> &'static Kernels {
        Self::available().first().copied().unwrap_or(&PORTABLE)
    }
}
