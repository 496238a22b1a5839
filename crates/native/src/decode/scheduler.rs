//! Which sequences run: continuous batching over one cache.
//!
//! A job is a request; its prompt is computed once when its first sample enters, and its whole pages are shared by all
//! samples. Every step computes one row for each running sample; ended ones leave at once and waiting ones enter.

use super::cache::{PagePool, PageTable};
use super::forward::{Batch, Disjoint, Workspace, forward};
use super::kernel::PAGE;
use super::packed::PackedModel;
use super::request::{
    DecodeCounters, DecodeError, DecodeFinish, DecodeRequest, Decoded, TokenEvent, TokenTexts,
};
use super::sampler::{Described, Sampling, pick};
use super::stop::{StopStrings, StopText};
use super::workers::Workers;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Rows of prompts computed in one pass at most.
pub(super) const PROMPT_ROWS: usize = 512;

/// Rows whose logits are computed in one pass at most, by numbers: 16 MiB.
const LOGIT_NUMBERS: usize = 1 << 22;

/// What happens to a job.
pub(super) enum Report {
    /// A sample has one token more.
    Token(TokenEvent),
    /// A sample has ended.
    Finished { request: usize, sample: usize, decoded: Decoded },
    /// All samples have ended; nothing more comes.
    Done { request: usize },
}

/// Who is told; `Break` on a token ends that sample.
pub(super) type Reporter<'a> = dyn FnMut(Report) -> ControlFlow<()> + 'a;

/// The shared settings of a job's samples.
struct Job {
    request: usize,
    asked: DecodeRequest,
    stops: Option<StopStrings>,
    /// The next sample to enter.
    next: usize,
    /// Samples that have not ended.
    unfinished: usize,
    /// The prompt's pages and the logits behind it, from the first sample's entry to the last one's.
    prefix: Option<(PageTable, Vec<f32>)>,
}

/// A sample that is being written.
struct Running {
    job: Arc<JobSettings>,
    sample: usize,
    table: PageTable,
    decoded: Decoded,
    stop: Option<StopText>,
    sampling: Sampling,
    next: Described,
}

/// What a running sample needs of its job.
struct JobSettings {
    request: usize,
    detail: super::Detail,
    /// Tokens to write at most.
    limit: usize,
    stop_tokens: Vec<u32>,
    /// Pages shared by all samples.
    common: usize,
}

/// The engine of decoding.
pub(super) struct Scheduler {
    pub(super) model: Arc<PackedModel>,
    pub(super) pool: PagePool,
    pub(super) workers: Workers,
    pub(super) workspace: Workspace,
    pub(super) counters: DecodeCounters,
    texts: Option<TokenTexts>,
    max_rows: usize,
    waiting: VecDeque<(Job, Arc<JobSettings>)>,
    /// Jobs whose samples all run or have ended: request and samples left.
    entered: Vec<(usize, usize)>,
    running: Vec<Running>,
}

impl Scheduler {
    pub(super) fn new(
        model: Arc<PackedModel>,
        threads: usize,
        max_rows: usize,
        texts: Option<TokenTexts>,
    ) -> Result<Self, DecodeError> {
        Ok(Scheduler {
            pool: PagePool::new(model.page_numbers()),
            workers: Workers::new(threads)?,
            workspace: Workspace::default(),
            counters: DecodeCounters::default(),
            texts,
            max_rows: max_rows.max(1),
            waiting: VecDeque::new(),
            entered: Vec::new(),
            running: Vec::new(),
            model,
        })
    }

    /// Replaces the weights; nothing may run.
    pub(super) fn swap(&mut self, model: Arc<PackedModel>) {
        // Fresh pages: numbers that are not finite must not outlive the weights that made them.
        self.pool = PagePool::new(model.page_numbers());
        self.model = model;
    }

    pub(super) fn texts(&self) -> Option<&TokenTexts> {
        self.texts.as_ref()
    }

    /// Forgets everything that runs or waits: a callback that panicked in an earlier call left it behind.
    pub(super) fn reset(&mut self) {
        if self.pool.used() > 0 || !self.idle() {
            self.waiting.clear();
            self.entered.clear();
            self.running.clear();
            self.pool = PagePool::new(self.model.page_numbers());
        }
    }

    /// Whether nothing runs or waits.
    pub(super) fn idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Adds a checked request, named `request` in reports.
    pub(super) fn submit(&mut self, request: usize, asked: DecodeRequest) {
        let config = &self.model.config;
        let settings = JobSettings {
            request,
            detail: asked.detail,
            limit: asked.max_new_tokens.min(config.max_positions - asked.prompt.len()),
            stop_tokens: config.eos_token_ids.iter().chain(&asked.stop_tokens).copied().collect(),
            common: asked.prompt.len() / PAGE,
        };
        let stops = (!asked.stop_strings.is_empty())
            .then(|| asked.stop_strings.iter().map(|string| string.as_bytes().to_vec()).collect());
        let job = Job { request, stops, next: 0, unfinished: asked.samples, prefix: None, asked };
        self.waiting.push_back((job, Arc::new(settings)));
    }

    /// Ends what `cancelled` names: running samples report what they have, waiting ones report empty.
    pub(super) fn cancel(&mut self, cancelled: &dyn Fn(usize) -> bool, report: &mut Reporter<'_>) {
        let mut kept = Vec::with_capacity(self.running.len());
        for row in std::mem::take(&mut self.running) {
            if cancelled(row.job.request) {
                self.end(row, DecodeFinish::Cancelled, report);
            } else {
                kept.push(row);
            }
        }
        self.running = kept;
        let mut waiting = VecDeque::with_capacity(self.waiting.len());
        for (mut job, settings) in std::mem::take(&mut self.waiting) {
            if !cancelled(job.request) {
                waiting.push_back((job, settings));
                continue;
            }
            if let Some((mut table, _)) = job.prefix.take() {
                table.clear(&mut self.pool);
            }
            for sample in job.next..job.asked.samples {
                let decoded = empty(DecodeFinish::Cancelled);
                let _ = report(Report::Finished { request: job.request, sample, decoded });
                job.unfinished -= 1;
            }
            self.finished(job.request, job.unfinished, report);
        }
        self.waiting = waiting;
    }

    /// One round: waiting samples enter, every running sample gets a token.
    pub(super) fn step(&mut self, report: &mut Reporter<'_>) {
        self.enter(report);
        if self.running.is_empty() {
            return;
        }
        let (model, pool) = (Arc::clone(&self.model), &mut self.pool);
        for row in &mut self.running {
            row.table.reserve(pool, row.table.length + 1);
        }
        // The tables are read while the other fields of the rows are written.
        let tables: Vec<PageTable> =
            self.running.iter_mut().map(|row| std::mem::take(&mut row.table)).collect();
        let mut batch = Batch::default();
        for (i, row) in self.running.iter().enumerate() {
            let family = i > 0 && Arc::ptr_eq(&row.job, &self.running[i - 1].job);
            let token = row.decoded.tokens.last().copied().unwrap_or_default();
            batch.push_step(token, tables[i].length, &tables[i].pages, row.job.common, family);
        }
        let rows = Disjoint::new(&mut self.running);
        forward(&model, &self.pool, &mut self.workers, &mut self.workspace, &batch, &|index, logits| {
            // SAFETY: each index once.
            let row = unsafe { rows.get(index) };
            let position = tables[index].length + 1;
            row.next =
                pick(model.kernels, logits, model.config.vocab_size, &row.sampling, position, row.job.detail);
        });
        drop(batch);
        self.counters.steps += 1;
        self.counters.step_rows += tables.len() as u64;
        self.counters.row_capacity += self.max_rows as u64;
        let mut kept = Vec::with_capacity(self.running.len());
        for (mut row, table) in std::mem::take(&mut self.running).into_iter().zip(tables) {
            row.table = table;
            row.table.length += 1;
            self.counters.useful_rows += 1;
            match self.advance(&mut row, report) {
                Some(finish) => self.end(row, finish, report),
                None => kept.push(row),
            }
        }
        self.running = kept;
    }

    /// Records the drawn token; says whether it was the last.
    fn advance(&mut self, row: &mut Running, report: &mut Reporter<'_>) -> Option<DecodeFinish> {
        let next = std::mem::take(&mut row.next);
        let decoded = &mut row.decoded;
        let detail = row.job.detail;
        decoded.tokens.push(next.token);
        if detail.chosen() {
            decoded.logprobs.push(next.logprob);
        }
        if detail.top() > 0 {
            decoded.top.push(next.top);
        }
        decoded.distributions.extend(next.distribution);
        let mut finish = None;
        decoded.text_tokens = decoded.tokens.len();
        let mut settled_tokens = decoded.tokens.len();
        if row.job.stop_tokens.contains(&next.token) {
            decoded.text_tokens -= 1;
            settled_tokens = decoded.text_tokens;
            finish = Some(DecodeFinish::EndOfText);
        } else if let Some(stop) = &mut row.stop {
            if let Some(found) = stop.push(next.token) {
                decoded.text_tokens = found.text_tokens;
                decoded.text_tail = found.text_tail;
                settled_tokens = decoded.text_tokens;
                finish = Some(DecodeFinish::StopString);
            } else {
                settled_tokens = stop.settled_tokens();
            }
        }
        if finish.is_none() && decoded.tokens.len() >= row.job.limit {
            finish = Some(DecodeFinish::Length);
            settled_tokens = decoded.text_tokens;
        }
        let event = TokenEvent {
            request: row.job.request,
            sample: row.sample,
            token: next.token,
            logprob: next.logprob,
            settled_tokens,
        };
        let flow = report(Report::Token(event));
        finish.or(flow.is_break().then_some(DecodeFinish::Cancelled))
    }

    fn end(&mut self, mut row: Running, finish: DecodeFinish, report: &mut Reporter<'_>) {
        row.table.clear(&mut self.pool);
        row.decoded.finish = finish;
        let request = row.job.request;
        let _ = report(Report::Finished { request, sample: row.sample, decoded: row.decoded });
        if let Some((job, _)) = self.waiting.iter_mut().find(|(job, _)| job.request == request) {
            // More samples of it wait.
            job.unfinished -= 1;
        } else if let Some(place) = self.entered.iter().position(|&(entered, _)| entered == request) {
            self.entered[place].1 -= 1;
            if self.entered[place].1 == 0 {
                self.entered.swap_remove(place);
                let _ = report(Report::Done { request });
            }
        }
    }

    /// Notes a job of which nothing waits any more.
    fn finished(&mut self, request: usize, unfinished: usize, report: &mut Reporter<'_>) {
        if unfinished == 0 {
            let _ = report(Report::Done { request });
        } else {
            self.entered.push((request, unfinished));
        }
    }

    /// Lets waiting samples enter while there is room.
    fn enter(&mut self, report: &mut Reporter<'_>) {
        let mut room = self.max_rows - self.running.len().min(self.max_rows);
        // One prompt for one free row at a time would waste the pass; a few free rows cost less.
        if self.waiting.is_empty() || (room < self.max_rows.div_ceil(16) && !self.running.is_empty()) {
            return;
        }
        while room > 0 && !self.waiting.is_empty() {
            self.compute_prompts(room);
            let Some((mut job, settings)) = self.waiting.pop_front() else { return };
            let Some((mut table, logits)) = job.prefix.take() else {
                // No sample is wanted, or none may have a token.
                for sample in 0..job.asked.samples {
                    let decoded = empty(DecodeFinish::Length);
                    let _ = report(Report::Finished { request: job.request, sample, decoded });
                }
                let _ = report(Report::Done { request: job.request });
                continue;
            };
            let count = room.min(job.asked.samples - job.next);
            let last = job.next + count == job.asked.samples;
            let mut entering = Vec::with_capacity(count);
            for sample in job.next..job.next + count {
                let own = if last && sample + 1 == job.asked.samples {
                    std::mem::take(&mut table)
                } else {
                    table.fork(&mut self.pool)
                };
                entering.push(self.start(&job, &settings, sample, own, &logits));
            }
            job.next += count;
            if last {
                self.entered.push((job.request, job.unfinished));
            } else {
                job.prefix = Some((table, logits));
                self.waiting.push_front((job, settings));
            }
            for mut row in entering {
                match self.advance(&mut row, report) {
                    Some(finish) => self.end(row, finish, report),
                    None => {
                        room -= 1;
                        self.running.push(row);
                    }
                }
            }
        }
    }

    /// A sample with its first token drawn.
    fn start(
        &mut self,
        job: &Job,
        settings: &Arc<JobSettings>,
        sample: usize,
        table: PageTable,
        logits: &[f32],
    ) -> Running {
        let asked = &job.asked;
        let sampling = Sampling {
            temperature: asked.temperature,
            top_k: asked.top_k,
            top_p: asked.top_p,
            min_p: asked.min_p,
            seed: asked.seed,
            sample: asked.first_sample.wrapping_add(sample as u64),
        };
        let (kernels, vocabulary) = (self.model.kernels, self.model.config.vocab_size);
        let stop =
            job.stops.clone().zip(self.texts.clone()).map(|(strings, texts)| StopText::new(strings, texts));
        Running {
            job: Arc::clone(settings),
            sample,
            next: pick(kernels, logits, vocabulary, &sampling, table.length, asked.detail),
            table,
            decoded: empty(DecodeFinish::Length),
            stop,
            sampling,
        }
    }

    /// Computes the prompts of the first waiting jobs: as many as have samples that may enter now, and not too many rows.
    fn compute_prompts(&mut self, room: usize) {
        let (mut rows, mut samples) = (0, 0);
        let mut chosen = Vec::new();
        for (place, (job, settings)) in self.waiting.iter().enumerate() {
            if samples >= room || (rows > 0 && rows + job.asked.prompt.len() > PROMPT_ROWS) {
                break;
            }
            samples += job.asked.samples - job.next;
            if job.prefix.is_some() {
                continue;
            }
            if job.asked.samples == 0 || settings.limit == 0 {
                continue;
            }
            rows += job.asked.prompt.len();
            chosen.push(place);
        }
        // Jobs in front with prompts computed are served first.
        if chosen.is_empty() || self.waiting.front().is_some_and(|(job, _)| job.prefix.is_some()) {
            return;
        }
        let prompts: Vec<&[u32]> =
            chosen.iter().map(|&place| self.waiting[place].0.asked.prompt.as_slice()).collect();
        let width = self.model.widths.logits;
        let mut logits: Vec<Vec<f32>> = vec![Vec::new(); prompts.len()];
        let rows = Disjoint::new(&mut logits);
        let tables = read_prompts(
            &self.model,
            &mut self.pool,
            &mut self.workers,
            &mut self.workspace,
            &mut self.counters,
            &prompts,
            &|index, row| {
                debug_assert_eq!(row.len(), width);
                // SAFETY: each index once.
                *unsafe { rows.get(index) } = row.to_vec();
            },
        );
        for ((place, table), logits) in chosen.into_iter().zip(tables).zip(logits) {
            self.waiting[place].0.prefix = Some((table, logits));
        }
    }
}

/// Computes prompts; `consume(index, logits)` gets the logits behind the last token of each. The caller owns the pages.
pub(super) fn read_prompts(
    model: &PackedModel,
    pool: &mut PagePool,
    workers: &mut Workers,
    workspace: &mut Workspace,
    counters: &mut DecodeCounters,
    prompts: &[&[u32]],
    consume: &(dyn Fn(usize, &mut [f32]) + Sync),
) -> Vec<PageTable> {
    let mut tables: Vec<PageTable> = prompts.iter().map(|_| PageTable::default()).collect();
    for (table, prompt) in tables.iter_mut().zip(prompts) {
        table.reserve(pool, prompt.len());
    }
    let (mut index, mut done) = (0, 0);
    while index < prompts.len() {
        // A pass takes prompts, or parts of them, until it is full.
        let mut batch = Batch::default();
        let mut ends = Vec::new();
        while index < prompts.len() && batch.tokens.len() < PROMPT_ROWS && ends.len() < most_outputs(model) {
            let prompt = prompts[index];
            let count = (prompt.len() - done).min(PROMPT_ROWS - batch.tokens.len());
            batch.push_sequence(&prompt[done..done + count], done, &tables[index].pages);
            done += count;
            if done == prompt.len() {
                batch.outputs.push(batch.tokens.len() - 1);
                ends.push(index);
                (index, done) = (index + 1, 0);
            }
        }
        counters.prompt_rows += batch.tokens.len() as u64;
        forward(model, pool, workers, workspace, &batch, &|output, logits| consume(ends[output], logits));
    }
    for (table, prompt) in tables.iter_mut().zip(prompts) {
        table.length = prompt.len();
    }
    tables
}

/// Rows whose logits one pass may compute.
pub(super) fn most_outputs(model: &PackedModel) -> usize {
    (LOGIT_NUMBERS / model.widths.logits).max(1)
}

fn empty(finish: DecodeFinish) -> Decoded {
    Decoded {
        tokens: Vec::new(),
        text_tokens: 0,
        text_tail: Vec::new(),
        logprobs: Vec::new(),
        top: Vec::new(),
        distributions: Vec::new(),
        finish,
    }
}
