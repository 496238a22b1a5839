//! One pass over a batch of rows, each a token of some sequence, on all threads.

use super::cache::{PageId, PagePool};
use super::kernel::{Attention, Epilogue, HeadShape, Heads, MAX_ROWS, Norm, PAGE, Product};
use super::pace::{Division, Pace};
use super::packed::{PackedModel, Panels};
use super::simd::LANES;
use super::workers::{Barrier, Workers};
use std::ops::Range;
use std::time::Instant;

/// Rows with common leading pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub first: usize,
    pub rows: usize,
    /// Leading pages that all rows have in common and see whole.
    pub common: usize,
}

/// The rows of a pass.
#[derive(Default)]
pub(super) struct Batch<'a> {
    pub tokens: Vec<u32>,
    pub positions: Vec<usize>,
    /// Per row: the pages of its sequence.
    pub tables: Vec<&'a [PageId]>,
    pub spans: Vec<Span>,
    /// Rows whose logits are wanted.
    pub outputs: Vec<usize>,
    /// Whether rows depend on earlier rows of the same batch (several positions of one sequence).
    pub chained: bool,
}

impl<'a> Batch<'a> {
    /// Adds tokens of one sequence at positions from `start`.
    pub(super) fn push_sequence(&mut self, tokens: &[u32], start: usize, table: &'a [PageId]) {
        self.chained |= tokens.len() > 1;
        let mut done = 0;
        while done < tokens.len() {
            let position = start + done;
            // Rows of one page see the same whole pages before it.
            let rows = (PAGE - position % PAGE).min(tokens.len() - done);
            self.spans.push(Span { first: self.tokens.len(), rows, common: position / PAGE });
            for i in 0..rows {
                self.tokens.push(tokens[done + i]);
                self.positions.push(position + i);
                self.tables.push(table);
            }
            done += rows;
        }
    }

    /// Adds the next token of a sequence that has its first `common` pages in common with those of the same `family`
    /// before it.
    pub(super) fn push_step(
        &mut self,
        token: u32,
        position: usize,
        table: &'a [PageId],
        common: usize,
        same_family: bool,
    ) {
        match self.spans.last_mut() {
            Some(span) if same_family => span.rows += 1,
            _ => self.spans.push(Span { first: self.tokens.len(), rows: 1, common }),
        }
        self.outputs.push(self.tokens.len());
        self.tokens.push(token);
        self.positions.push(position);
        self.tables.push(table);
    }
}

/// Buffers that all threads use.
#[derive(Default)]
struct Common {
    hidden: Vec<f32>,
    attention: Vec<f32>,
    activation: Vec<f32>,
    logits: Vec<f32>,
}

/// Buffers of one thread.
#[derive(Default)]
struct Own {
    normed: Vec<f32>,
    qkv: Vec<f32>,
    scores: Vec<f32>,
    sums: Vec<f32>,
    queries: Vec<f32>,
    rotations: Vec<*const f32>,
    slots: Vec<usize>,
    lengths: Vec<usize>,
    /// Pages of all rows in sequence, at the current layer; and where those of each row begin.
    pages: Vec<*mut f32>,
    starts: Vec<usize>,
    tables: Vec<*const *mut f32>,
    current: Vec<*mut f32>,
}

// SAFETY: the pointers are written and read within one pass, by one thread.
unsafe impl Send for Own {}

/// Pointers of [`Common`] for the threads of one pass.
#[derive(Clone, Copy)]
struct Shared {
    hidden: *mut f32,
    attention: *mut f32,
    activation: *mut f32,
    logits: *mut f32,
}
// SAFETY: threads write disjoint rows, or disjoint columns between barriers.
unsafe impl Sync for Shared {}

/// Workspace of passes, kept between them.
#[derive(Default)]
pub(super) struct Workspace {
    pub(super) pace: Pace,
    common: Common,
    own: Vec<Own>,
}

/// Access of several threads to different elements.
pub(super) struct Disjoint<T> {
    first: *mut T,
    length: usize,
}
// SAFETY: `get` is unsafe; its callers use different elements on different threads.
unsafe impl<T: Send> Sync for Disjoint<T> {}

impl<T> Disjoint<T> {
    pub(super) fn new(slice: &mut [T]) -> Self {
        Disjoint { first: slice.as_mut_ptr(), length: slice.len() }
    }

    /// # Safety
    /// No two references to the same element live at once.
    #[expect(clippy::mut_from_ref, reason = "the caller promises disjoint elements")]
    pub(super) unsafe fn get(&self, index: usize) -> &mut T {
        assert!(index < self.length);
        // SAFETY: within the slice; the caller promises the rest.
        unsafe { &mut *self.first.add(index) }
    }
}

fn grow(buffer: &mut Vec<f32>, length: usize) {
    if buffer.len() < length {
        buffer.resize(length, 0.0);
    }
}

/// The part `index` of `count` nearly equal parts.
fn share(total: usize, index: usize, count: usize) -> Range<usize> {
    total * index / count..total * (index + 1) / count
}

/// Which part of a pass one thread does.
struct Part<'a> {
    index: usize,
    /// Threads that share each row, each with its own columns; 1 when each thread has its own rows.
    column_threads: usize,
    rows: Range<usize>,
    barrier: Option<&'a Barrier>,
}

impl Part<'_> {
    fn meet(&self) {
        if let Some(barrier) = self.barrier {
            barrier.wait();
        }
    }

    fn columns(&self, total: usize) -> Range<usize> {
        if self.column_threads == 1 { 0..total } else { share(total, self.index, self.column_threads) }
    }
}

/// Runs the batch; `consume(index, logits)` is called once for each of `batch.outputs`, on any thread, with the logits
/// padded by −∞ to whole vectors.
pub(super) fn forward(
    model: &PackedModel,
    pool: &PagePool,
    workers: &mut Workers,
    workspace: &mut Workspace,
    batch: &Batch<'_>,
    consume: &(dyn Fn(usize, &mut [f32]) + Sync),
) {
    let (rows, threads, widths) = (batch.tokens.len(), workers.count(), model.widths);
    if rows == 0 {
        return;
    }
    let division = workspace.pace.choose(rows, batch.chained, threads);
    let begin = Instant::now();
    grow(&mut workspace.common.hidden, rows * widths.hidden);
    grow(&mut workspace.common.attention, rows * widths.query);
    grow(&mut workspace.common.activation, rows * widths.intermediate);
    grow(&mut workspace.common.logits, batch.outputs.len() * widths.logits);
    workspace.own.resize_with(threads.max(workspace.own.len()), Own::default);
    let common = Shared {
        hidden: workspace.common.hidden.as_mut_ptr(),
        attention: workspace.common.attention.as_mut_ptr(),
        activation: workspace.common.activation.as_mut_ptr(),
        logits: workspace.common.logits.as_mut_ptr(),
    };
    let own = Disjoint::new(&mut workspace.own);
    let barrier = Barrier::new(threads);
    let common = &common;
    let own = &own;
    let run = |index: usize| {
        let part = match division {
            Division::Alone => Part { index, column_threads: 1, rows: 0..rows, barrier: None },
            Division::Columns => {
                Part { index, column_threads: threads, rows: 0..rows, barrier: Some(&barrier) }
            }
            Division::Rows => {
                Part { index, column_threads: 1, rows: share(rows, index, threads), barrier: None }
            }
        };
        // SAFETY: each thread takes its own index.
        let own = unsafe { own.get(index) };
        // SAFETY: the buffers hold the rows; parts are disjoint.
        unsafe { run_part(model, pool, batch, &part, common, own, consume) };
    };
    if division == Division::Alone {
        run(0);
    } else {
        workers.run(&run);
    }
    workspace.pace.record(rows, batch.chained, division, begin.elapsed().as_secs_f64());
}

/// # Safety
/// The shared buffers hold all rows of the batch, and the parts of all threads are disjoint.
unsafe fn run_part(
    model: &PackedModel,
    pool: &PagePool,
    batch: &Batch<'_>,
    part: &Part<'_>,
    shared: &Shared,
    own: &mut Own,
    consume: &(dyn Fn(usize, &mut [f32]) + Sync),
) {
    let (config, widths, kernels) = (&model.config, model.widths, model.kernels);
    let (first, rows) = (part.rows.start, part.rows.len());
    let (d, page_block) = (config.hidden_size, model.page_block());
    let kv_heads = part.columns(config.kv_heads);
    let outputs: Vec<usize> =
        (0..batch.outputs.len()).filter(|&output| part.rows.contains(&batch.outputs[output])).collect();
    prepare(model, batch, part, own);
    // SAFETY: all pointers below are rows of this part within the buffers, sized in `forward` and `prepare`.
    unsafe {
        let hidden = shared.hidden.add(first * widths.hidden);
        let attention = shared.attention.add(first * widths.query);
        let activation = shared.activation.add(first * widths.intermediate);
        for row in share(rows, part.index, part.column_threads).filter(|_| part.column_threads > 1).chain(
            // Own rows: all of them.
            (0..rows).filter(|_| part.column_threads == 1),
        ) {
            let token = batch.tokens[first + row] as usize;
            let to = hidden.add(row * widths.hidden);
            core::ptr::copy_nonoverlapping(model.embedding[token * d..].as_ptr(), to, d);
            for i in d..widths.hidden {
                *to.add(i) = 0.0;
            }
        }
        part.meet();
        let norm = |weight: &[f32], input: *const f32, output: *mut f32, rows: usize| {
            (kernels.norm)(&Norm {
                rows,
                width: d,
                eps: config.rms_norm_eps,
                input,
                input_stride: widths.hidden,
                weight: weight.as_ptr(),
                output,
                output_stride: widths.hidden,
            });
        };
        let product = |weights: &Panels,
                       panels: Range<usize>,
                       input: *const f32,
                       input_stride: usize,
                       rows: usize,
                       output: *mut f32,
                       output_stride: usize,
                       epilogue: Epilogue| {
            (kernels.product)(&Product {
                k: weights.inputs,
                rows,
                input,
                input_stride,
                panels: weights.numbers.as_ptr(),
                first_panel: panels.start,
                end_panel: panels.end,
                output,
                output_stride,
                epilogue,
            });
        };
        for (layer, block) in model.blocks.iter().enumerate() {
            let shape = model.head_shape(layer);
            norm(&block.attention_norm, hidden, own.normed.as_mut_ptr(), rows);
            let bias = block.qkv_bias.as_ref().map_or(Epilogue::Store, |bias| Epilogue::Bias(bias.as_ptr()));
            for panels in qkv_panels(&shape, &kv_heads, block.qkv.panels, part.column_threads) {
                let (input, output) = (own.normed.as_ptr(), own.qkv.as_mut_ptr());
                product(&block.qkv, panels, input, widths.hidden, rows, output, widths.qkv, bias);
            }
            own.pages.clear();
            for (row, table) in batch.tables[part.rows.clone()].iter().enumerate() {
                if own.starts[row] == own.pages.len() {
                    own.pages.extend(table.iter().map(|&page| pool.pointer(page).add(layer * page_block)));
                }
            }
            for row in 0..rows {
                let table = own.pages.as_ptr().add(own.starts[row]);
                own.tables[row] = table;
                own.current[row] = *table.add(batch.positions[first + row] / PAGE);
            }
            (kernels.heads)(&Heads {
                shape,
                first_kv: kv_heads.start,
                end_kv: kv_heads.end,
                rows,
                qkv: own.qkv.as_mut_ptr(),
                qkv_stride: widths.qkv,
                rotations: own.rotations.as_ptr(),
                pages: own.current.as_ptr(),
                slots: own.slots.as_ptr(),
            });
            for span in &batch.spans {
                let from = span.first.max(part.rows.start);
                let to = (span.first + span.rows).min(part.rows.end);
                if from >= to {
                    continue;
                }
                let row = from - first;
                for kv_head in kv_heads.clone() {
                    (kernels.attention)(&Attention {
                        shape,
                        kv_head,
                        rows: to - from,
                        qkv: own.qkv.as_ptr().add(row * widths.qkv),
                        qkv_stride: widths.qkv,
                        tables: own.tables.as_ptr().add(row),
                        lengths: own.lengths.as_ptr().add(row),
                        common: span.common,
                        output: attention.add(row * widths.query),
                        output_stride: widths.query,
                        scores: own.scores.as_mut_ptr(),
                        scores_stride: own.scores.len() / MAX_ROWS,
                        sums: own.sums.as_mut_ptr(),
                        queries: own.queries.as_mut_ptr(),
                    });
                }
            }
            part.meet();
            let columns = part.columns(block.output.panels);
            product(
                &block.output,
                columns,
                attention,
                widths.query,
                rows,
                hidden,
                widths.hidden,
                Epilogue::Add,
            );
            part.meet();
            norm(&block.mlp_norm, hidden, own.normed.as_mut_ptr(), rows);
            let pairs = part.columns(block.gate_up.panels / 2);
            product(
                &block.gate_up,
                pairs.start * 2..pairs.end * 2,
                own.normed.as_ptr(),
                widths.hidden,
                rows,
                activation,
                widths.intermediate,
                Epilogue::SwiGlu,
            );
            part.meet();
            let columns = part.columns(block.down.panels);
            product(
                &block.down,
                columns,
                activation,
                widths.intermediate,
                rows,
                hidden,
                widths.hidden,
                Epilogue::Add,
            );
            part.meet();
        }
        // The wanted rows, gathered: neighbours in the buffer of logits.
        let Some(&first_output) = outputs.first() else {
            part.meet();
            return;
        };
        for (place, &output) in outputs.iter().enumerate() {
            let from = shared.hidden.add(batch.outputs[output] * widths.hidden);
            norm(&model.final_norm, from, own.normed.as_mut_ptr().add(place * widths.hidden), 1);
        }
        let logits = shared.logits.add(first_output * widths.logits);
        let (columns, input) = (part.columns(model.head.panels), own.normed.as_ptr());
        product(
            &model.head,
            columns,
            input,
            widths.hidden,
            outputs.len(),
            logits,
            widths.logits,
            Epilogue::Store,
        );
        part.meet();
        for place in part.columns(outputs.len()) {
            let row = core::slice::from_raw_parts_mut(logits.add(place * widths.logits), widths.logits);
            row[config.vocab_size..].fill(f32::NEG_INFINITY);
            consume(outputs[place], row);
        }
    }
}

/// The panels of q, k and v that hold the columns of some key/value heads and of their queries.
fn qkv_panels(
    shape: &HeadShape,
    kv_heads: &Range<usize>,
    panels: usize,
    column_threads: usize,
) -> [Range<usize>; 3] {
    if column_threads == 1 {
        return [0..panels, 0..0, 0..0];
    }
    let (query, kv) = (shape.query_width, shape.kv_width);
    let width = shape.head_dim;
    let columns = [
        kv_heads.start * shape.group * width..kv_heads.end * shape.group * width,
        query + kv_heads.start * width..query + kv_heads.end * width,
        query + kv + kv_heads.start * width..query + kv + kv_heads.end * width,
    ];
    columns.map(|c| if c.is_empty() { 0..0 } else { c.start / LANES..c.end.div_ceil(LANES) })
}

/// Sizes the buffers of a thread and notes what does not change from layer to layer.
fn prepare(model: &PackedModel, batch: &Batch<'_>, part: &Part<'_>, own: &mut Own) {
    let (widths, shape) = (model.widths, model.head_shape(0));
    let rows = part.rows.len();
    grow(&mut own.normed, rows * widths.hidden);
    grow(&mut own.qkv, rows * widths.qkv);
    let longest = batch.tables[part.rows.clone()].iter().map(|table| table.len()).max().unwrap_or(0);
    grow(&mut own.scores, MAX_ROWS * longest * PAGE);
    grow(&mut own.sums, MAX_ROWS * shape.value_stride);
    grow(&mut own.queries, MAX_ROWS * shape.head_dim);
    let positions = &batch.positions[part.rows.clone()];
    own.rotations.clear();
    own.rotations.extend(positions.iter().map(|&position| model.rotation(position)));
    own.slots.clear();
    own.slots.extend(positions.iter().map(|position| position % PAGE));
    own.lengths.clear();
    own.lengths.extend(positions.iter().map(|position| position + 1));
    own.starts.clear();
    let (mut start, mut end, mut last) = (0, 0, None::<&[PageId]>);
    for &table in &batch.tables[part.rows.clone()] {
        // Rows of one sequence have one table.
        if !last.is_some_and(|last| core::ptr::eq(last, table)) {
            (start, end) = (end, end + table.len());
        }
        own.starts.push(start);
        last = Some(table);
    }
    own.tables.resize(rows, core::ptr::null());
    own.current.resize(rows, core::ptr::null_mut());
}
