//! What the experiments share: samples that are drawn once and judged exactly, subsets that are the same for every arm,
//! the table of arms with what each spent, and a copy of a model trained on rows.

use super::Reproduce;
use super::resampling::Resampling;
use crate::RecipeError;
use elenchus_learn::LearnError;
use elenchus_learn::objective::{Sft, TrainingRow};
use elenchus_learn::policy::{Policy, Rollout, RolloutRequest};
use elenchus_learn::rollouts::mix;
use elenchus_learn::trainer::{Epochs, TrainSettings, train};
use elenchus_measure::{Cell, Table};
use elenchus_task::Task;
use elenchus_trace::Problem;
use rand::SeedableRng;
use rand::seq::index::sample as draw_indices;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;

/// Prompts whose samples are drawn and journalled together.
const PROMPTS_PER_UNIT: usize = 128;

/// One sample, as far as the methods look.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Sample {
    /// The response.
    pub text: String,
    /// Its answer in the task's normal form, so that equal means the same text.
    pub answer: Option<String>,
    /// Whether the verifier finds it right.
    pub correct: bool,
    /// Tokens written.
    pub tokens: usize,
    /// Sum of the raw log-probabilities of its tokens, nats.
    pub sum_logprob: f64,
}

impl Sample {
    /// Mean raw log-probability per token, nats; 0 for an empty response.
    pub fn mean_logprob(&self) -> f64 {
        self.sum_logprob / self.tokens.max(1) as f64
    }

    fn judged(task: &dyn Task, problem: &Problem, rollout: Rollout) -> Result<Self, LearnError> {
        let verdict = task.verify(problem, &rollout.text)?;
        Ok(Sample {
            correct: verdict.is_correct(),
            answer: verdict.answer,
            tokens: rollout.tokens.len(),
            sum_logprob: rollout.logprobs.iter().map(|&l| f64::from(l)).sum(),
            text: rollout.text,
        })
    }
}

/// The samples of one prompt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Pool {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// The samples.
    pub samples: Vec<Sample>,
}

impl Pool {
    /// What the first `samples` of them cost, the prompt read once and once for each.
    pub fn spent(&self, samples: usize) -> Spent {
        let tokens: usize = self.samples.iter().take(samples).map(|sample| sample.tokens).sum();
        let read = self.prompt_tokens as f64;
        Spent { responses: samples as f64, written: tokens as f64, read, prefill: samples as f64 * read }
    }
}

/// One prompt and the problem that its responses are judged by.
pub(super) struct Asked<'a> {
    pub problem: &'a Problem,
    pub prompt: String,
    /// How many samples of this one, where not as many as of the others.
    pub samples: Option<usize>,
}

impl<'a> Asked<'a> {
    /// A prompt that is sampled as often as the others.
    pub fn new(problem: &'a Problem, prompt: String) -> Self {
        Asked { problem, prompt, samples: None }
    }
}

/// How samples are drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drawing {
    pub samples: usize,
    pub temperature: f32,
    pub max_new_tokens: usize,
    pub seed: u64,
}

/// Draws and judges samples, unit by unit through the journal; `label` names the work.
pub(super) fn draw(
    input: &Reproduce<'_>,
    policy: &mut dyn Policy,
    task: &dyn Task,
    asked: &[Asked<'_>],
    drawing: Drawing,
    label: &str,
) -> Result<Vec<Pool>, RecipeError> {
    input.session.observer.phase(0, label, asked.len());
    let mut pools = Vec::with_capacity(asked.len());
    for (unit, chunk) in asked.chunks(PROMPTS_PER_UNIT).enumerate() {
        let (found, replayed) = input.session.once::<Vec<Pool>>(&format!("{label}/{unit}"), || {
            let requests: Vec<RolloutRequest> = chunk
                .iter()
                .enumerate()
                .map(|(i, asked)| RolloutRequest {
                    prompt: asked.prompt.clone(),
                    samples: asked.samples.unwrap_or(drawing.samples),
                    seed: mix(drawing.seed, (unit * PROMPTS_PER_UNIT + i) as u64),
                    temperature: drawing.temperature,
                    max_new_tokens: drawing.max_new_tokens,
                    distributions: false,
                })
                .collect();
            let rollouts = policy.sample(&requests)?;
            chunk
                .iter()
                .zip(rollouts)
                .map(|(asked, rollouts)| {
                    let samples = rollouts.into_iter().map(|r| Sample::judged(task, asked.problem, r));
                    Ok(Pool {
                        prompt_tokens: policy.encode(&asked.prompt)?.len(),
                        samples: samples.collect::<Result<_, LearnError>>()?,
                    })
                })
                .collect()
        })?;
        let tokens = found.iter().flat_map(|p| &p.samples).map(|s| s.tokens).sum();
        input.session.observer.advance(chunk.len(), tokens, replayed);
        pools.extend(found);
    }
    Ok(pools)
}

/// Mean tokens of a row.
pub(super) fn mean_tokens(rows: &[Vec<TrainingRow>]) -> f64 {
    rows.iter().flatten().map(|row| row.tokens.len() as f64).sum::<f64>() / rows.len().max(1) as f64
}

/// A copy of `start` trained on the rows and with the batch that `make` gives, or the checkpoint of an earlier run under
/// this label.
pub(super) fn fit(
    input: &Reproduce<'_>,
    start: &dyn Policy,
    settings: &TrainSettings,
    label: &str,
    make: impl FnOnce() -> Result<(Vec<Vec<TrainingRow>>, usize), RecipeError>,
) -> Result<Box<dyn Policy>, RecipeError> {
    let mut policy = start.copy();
    if let Some(folder) = input.session.checkpoint(label)? {
        policy.load(&folder)?;
        return Ok(policy);
    }
    let (rows, batch) = make()?;
    let settings = TrainSettings { batch, ..settings.clone() };
    input.session.observer.phase(0, &format!("train {label}"), settings.steps);
    let mut source = Epochs::new(&rows, batch, mix(input.seed, 7))?;
    let steps = 0..settings.steps;
    train(policy.as_mut(), &Sft::default(), &settings, &mut source, steps, &mut |_, step| {
        input.session.observer.advance(1, step.tokens, false);
        if input.session.stop.stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    input.session.save_checkpoint(label, |folder| policy.save(folder, false))?;
    Ok(policy)
}

/// The samples that draw number `draw` of `size` takes out of `count` for a question: they depend on these and the seed
/// alone, so that all methods see the same ones. All samples, in order, where `size` reaches them.
pub(super) fn subset(seed: u64, question: usize, size: usize, draw: usize, count: usize) -> Vec<usize> {
    if size >= count {
        return (0..count).collect();
    }
    let key = mix(mix(seed, question as u64), (size * 1000 + draw) as u64);
    draw_indices(&mut ChaCha8Rng::seed_from_u64(key), count, size).into_vec()
}

/// 1 or 0.
pub(super) fn credit(right: bool) -> f64 {
    f64::from(u8::from(right))
}

/// The mean; 0 of nothing.
pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// What was spent on one question.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Spent {
    /// Responses generated: what the sheets call calls.
    pub responses: f64,
    /// Tokens written.
    pub written: f64,
    /// Tokens read, a prompt shared by several samples once.
    pub read: f64,
    /// Tokens read where every response is a call of its own: what the sheets count as prefill.
    pub prefill: f64,
}

impl std::ops::Add for Spent {
    type Output = Spent;

    fn add(self, other: Spent) -> Spent {
        Spent {
            responses: self.responses + other.responses,
            written: self.written + other.written,
            read: self.read + other.read,
            prefill: self.prefill + other.prefill,
        }
    }
}

/// One arm, seed behind seed: per question whether it is right (or the share of credit) and what was spent.
#[derive(Debug, Clone, Default)]
pub(super) struct Arm {
    pub right: Vec<f64>,
    pub spent: Vec<Spent>,
}

impl Arm {
    /// One more question.
    pub fn push(&mut self, right: f64, spent: Spent) {
        self.right.push(right);
        self.spent.push(spent);
    }

    /// Mean spending per question.
    pub fn mean_spent(&self) -> Spent {
        let total = self.spent.iter().fold(Spent::default(), |sum, &spent| sum + spent);
        let n = self.spent.len().max(1) as f64;
        Spent {
            responses: total.responses / n,
            written: total.written / n,
            read: total.read / n,
            prefill: total.prefill / n,
        }
    }
}

/// The table of arms: accuracy with its interval over questions and seeds, and mean spending per question.
pub(super) fn arms_table(
    title: &str,
    note: &str,
    measure: &str,
    resampling: &Resampling,
    arms: &[(String, &Arm)],
) -> Result<Table, RecipeError> {
    let mut table =
        Table::new(title, ["arm", measure, "responses", "tokens written", "tokens read", "one call each"])
            .note(format!(
                "{note} Tokens read: a prompt of several samples once; one call each: once per response."
            ));
    for (name, arm) in arms {
        if arm.right.is_empty() {
            continue;
        }
        let spent = arm.mean_spent();
        table = table.row([
            Cell::Text(name.clone()),
            Cell::PercentInterval(resampling.mean(&arm.right)?),
            Cell::Number(spent.responses, 1),
            Cell::Number(spent.written, 1),
            Cell::Number(spent.read, 1),
            Cell::Number(spent.prefill, 1),
        ]);
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subsets_are_the_same_for_all_methods_and_differ_between_draws() {
        let one = subset(5, 3, 8, 0, 64);
        assert_eq!(one, subset(5, 3, 8, 0, 64));
        assert_ne!(one, subset(5, 3, 8, 1, 64));
        assert_eq!(subset(5, 3, 64, 7, 64), (0..64).collect::<Vec<_>>(), "all of them is no draw");
        let mut sorted = one;
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), 8, "without replacement");
    }

    fn written(tokens: usize) -> Sample {
        Sample { text: String::new(), answer: None, correct: false, tokens, sum_logprob: -(tokens as f64) }
    }

    /// The token counts of the sheet of generative self-aggregation: a question of 120 tokens, drafts of 200, 180 and 220, an
    /// instruction of 60 and an output of 210; and a vote over four samples of 200.
    #[test]
    fn spending_counts_a_shared_prompt_once_and_once_for_each_response() {
        let drafts = Pool { prompt_tokens: 120, samples: [200, 180, 220].map(written).to_vec() };
        let last = Pool { prompt_tokens: 120 + 600 + 60, samples: vec![written(210)] };
        let gsa = drafts.spent(3) + last.spent(1);
        assert_eq!(gsa, Spent { responses: 4.0, written: 810.0, read: 900.0, prefill: 1140.0 });
        let vote = Pool { prompt_tokens: 120, samples: [200; 4].map(written).to_vec() }.spent(4);
        assert_eq!((vote.written, vote.read, vote.prefill), (800.0, 120.0, 480.0));
        assert_eq!(drafts.samples[0].mean_logprob(), -1.0);
        let mut arm = Arm::default();
        arm.push(1.0, gsa);
        arm.push(0.0, Spent::default());
        assert_eq!(arm.mean_spent(), Spent { responses: 2.0, written: 405.0, read: 450.0, prefill: 570.0 });
    }
}
