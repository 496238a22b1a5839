//! Log-probabilities of given tokens.

use super::cache::PageTable;
use super::forward::{Batch, Disjoint, forward};
use super::request::{ScoreRequest, Scored};
use super::sampler::{Described, describe};
use super::scheduler::{PROMPT_ROWS, Scheduler, most_outputs, read_prompts};
use std::sync::Arc;

/// Tokens to score after one prefix.
struct Line {
    request: usize,
    continuation: usize,
    /// The continuation, and the end when it is scored.
    targets: Vec<u32>,
    scored: Vec<Described>,
}

impl Scheduler {
    /// Scores checked requests.
    pub(super) fn score(&mut self, requests: &[ScoreRequest]) -> Vec<Vec<Scored>> {
        let mut results: Vec<Vec<Scored>> =
            requests.iter().map(|request| vec![Scored::default(); request.continuations.len()]).collect();
        let mut first = 0;
        while first < requests.len() {
            // Prefixes whose pages are held at once.
            let (mut end, mut rows) = (first, 0);
            while end < requests.len() && (end == first || rows + requests[end].prefix.len() <= PROMPT_ROWS) {
                rows += requests[end].prefix.len();
                end += 1;
            }
            for line in self.score_group(requests, first, end) {
                let scored = &mut results[line.request][line.continuation];
                for described in line.scored {
                    scored.logprobs.push(described.logprob);
                    if requests[line.request].detail.top() > 0 {
                        scored.top.push(described.top);
                    }
                    scored.distributions.extend(described.distribution);
                }
            }
            first = end;
        }
        results
    }

    fn score_group(&mut self, requests: &[ScoreRequest], first: usize, end: usize) -> Vec<Line> {
        let model = Arc::clone(&self.model);
        let (kernels, vocabulary) = (model.kernels, model.config.vocab_size);
        let mut lines: Vec<Vec<Line>> = (first..end)
            .map(|request| {
                let asked = &requests[request];
                let ending = asked.with_end.then(|| model.config.eos_token_ids.first().copied()).flatten();
                let line = |(continuation, tokens): (usize, &Vec<u32>)| Line {
                    request,
                    continuation,
                    targets: tokens.iter().copied().chain(ending).collect(),
                    scored: Vec::new(),
                };
                asked
                    .continuations
                    .iter()
                    .enumerate()
                    .map(line)
                    .filter(|line| !line.targets.is_empty())
                    .collect()
            })
            .collect();
        let detail = |request: usize| match requests[request].detail {
            // A score is a log-probability: there is always one.
            super::Detail::None => super::Detail::Chosen,
            detail => detail,
        };
        let prefixes: Vec<&[u32]> =
            requests[first..end].iter().map(|request| request.prefix.as_slice()).collect();
        let cells = Disjoint::new(&mut lines);
        let mut prefix_tables = read_prompts(
            &model,
            &mut self.pool,
            &mut self.workers,
            &mut self.workspace,
            &mut self.counters,
            &prefixes,
            &|index, logits| {
                // SAFETY: each index once.
                for line in unsafe { cells.get(index) } {
                    line.scored.push(describe(
                        kernels,
                        logits,
                        vocabulary,
                        line.targets[0],
                        detail(line.request),
                    ));
                }
            },
        );
        let mut lines: Vec<Line> = lines.into_iter().flatten().collect();
        // Every token but the last of a line is read; lines are cut where a pass is full.
        let most = PROMPT_ROWS.min(most_outputs(&model));
        let (mut next, mut table) = (0, None::<PageTable>);
        while next < lines.len() {
            let mut taken: Vec<(usize, PageTable, usize)> = Vec::new();
            let mut rows = 0;
            while next < lines.len() && rows < most {
                let (line, read) = (&lines[next], lines[next].targets.len() - 1);
                let prefix = &prefix_tables[line.request - first];
                let mut own = table.take().unwrap_or_else(|| prefix.fork(&mut self.pool));
                let done = own.length - prefix.length;
                let count = (read - done).min(most - rows);
                own.reserve(&mut self.pool, own.length + count);
                rows += count;
                taken.push((next, own, count));
                if done + count < read {
                    break;
                }
                next += 1;
            }
            let mut batch = Batch::default();
            let mut targets = Vec::new();
            for (line, own, count) in &taken {
                let done = own.length - prefix_tables[lines[*line].request - first].length;
                batch.push_sequence(&lines[*line].targets[done..done + count], own.length, &own.pages);
                for i in 0..*count {
                    batch.outputs.push(targets.len());
                    targets.push((lines[*line].targets[done + i + 1], detail(lines[*line].request)));
                }
            }
            let mut described = vec![Described::default(); targets.len()];
            let cells = Disjoint::new(&mut described);
            self.counters.prompt_rows += batch.tokens.len() as u64;
            forward(&model, &self.pool, &mut self.workers, &mut self.workspace, &batch, &|index, logits| {
                let (token, detail) = targets[index];
                // SAFETY: each index once.
                *unsafe { cells.get(index) } = describe(kernels, logits, vocabulary, token, detail);
            });
            drop(batch);
            let mut described = described.into_iter();
            for (line, mut own, count) in taken {
                own.length += count;
                lines[line].scored.extend(described.by_ref().take(count));
                if line == next {
                    table = Some(own);
                } else {
                    own.clear(&mut self.pool);
                }
            }
        }
        for table in &mut prefix_tables {
            table.clear(&mut self.pool);
        }
        lines
    }

    /// log p of each label behind each checked prompt.
    pub(super) fn label_logprobs(&mut self, prompts: &[Vec<u32>], labels: &[u32]) -> Vec<Vec<f32>> {
        let model = Arc::clone(&self.model);
        let (kernels, vocabulary) = (model.kernels, model.config.vocab_size);
        let mut results = vec![Vec::new(); prompts.len()];
        let mut first = 0;
        while first < prompts.len() {
            // Prompts whose pages are held at once.
            let (mut end, mut rows) = (first, 0);
            while end < prompts.len() && (end == first || rows + prompts[end].len() <= PROMPT_ROWS) {
                rows += prompts[end].len();
                end += 1;
            }
            let group: Vec<&[u32]> = prompts[first..end].iter().map(Vec::as_slice).collect();
            let cells = Disjoint::new(&mut results[first..end]);
            let tables = read_prompts(
                &model,
                &mut self.pool,
                &mut self.workers,
                &mut self.workspace,
                &mut self.counters,
                &group,
                &|index, logits| {
                    let logprobs = super::sampler::logprobs(kernels, logits, vocabulary, labels);
                    // SAFETY: each index once.
                    *unsafe { cells.get(index) } = logprobs;
                },
            );
            for mut table in tables {
                table.clear(&mut self.pool);
            }
            first = end;
        }
        results
    }
}
