//! `response-chooser`: the base model after training to choose one of its own responses to a chain.

use super::counter::{choice_prompt, chosen, drawn, row, true_majority};
use super::own_samples::OwnSamples;
use super::{Figure, LabModel, Plan, Start};
use elenchus_learn::policy::{Encode, Policy, RolloutRequest, text_row};
use elenchus_learn::rollouts::{Judged, mix};
use elenchus_learn::trainer::{BatchSource, Blend, Decay, Generated, TrainSettings};
use elenchus_learn::{LearnError, NativePolicy, Session};
use elenchus_task::{Skill, Split};
use elenchus_trace::Problem;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Name of the checkpoint.
pub const RESPONSE_CHOOSER: &str = "response-chooser";

/// Universal self-consistency (arXiv 2311.17311) asks a model for the response that agrees most with the others. A model this
/// small cannot follow that instruction, so it learns it on its own samples of training chains: `W{problem}{sample}!…` → the
/// number of the first response with the most frequent answer, whatever the reference answer is. A choice is one token in a
/// long row, a thin signal; so as many rows count the answers, as those of `vote-counter` do. Rows of chains keep it able to
/// solve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResponseChooser {
    /// Training problems that are sampled.
    pub problems: usize,
    /// Samples of each, of which rows take some.
    pub samples: usize,
    /// Fewest and most samples in a row.
    pub shown: [usize; 2],
    /// Temperature of the samples.
    pub temperature: f32,
    /// Rows of chains in a batch; half of the others are choices, half are counts.
    pub solve_rows: usize,
    /// Validation problems for the card.
    pub validation: usize,
    /// The training.
    pub train: TrainSettings,
}

impl Default for ResponseChooser {
    fn default() -> Self {
        ResponseChooser {
            problems: 1000,
            samples: 12,
            shown: [2, 9],
            temperature: 1.0,
            solve_rows: 2,
            validation: 150,
            train: TrainSettings {
                steps: 800,
                batch: 14,
                learning_rate: 1e-3,
                warmup_steps: 30,
                decay: Decay::Linear,
                floor: 0.05,
                ..TrainSettings::default()
            },
        }
    }
}

impl ResponseChooser {
    fn sampled(
        &self,
        policy: &mut NativePolicy,
        split: Split,
        count: usize,
        seed: u64,
        session: &Session<'_>,
    ) -> Result<Vec<(Problem, Vec<Judged>)>, LearnError> {
        let task = elenchus_task::task("arithmetic", &Value::Null)?;
        let own = OwnSamples { samples: self.samples, temperature: self.temperature };
        own.draw(policy, task.as_ref(), split, count, seed, session)
    }
}

impl LabModel for ResponseChooser {
    fn name(&self) -> &'static str {
        RESPONSE_CHOOSER
    }

    fn summary(&self) -> &'static str {
        "chooses the one of its own responses to a chain that agrees most with the others"
    }

    fn plan(&self) -> Plan {
        Plan {
            version: 1,
            start: Start::Base { words: Vec::new() },
            heads: Vec::new(),
            objective: "sft".into(),
            objective_settings: Value::Null,
            train: self.train.clone(),
            rows: json!({
                "problems": self.problems, "samples": self.samples, "shown": self.shown,
                "temperature": self.temperature, "solve_rows": self.solve_rows, "validation": self.validation,
            }),
        }
    }

    fn source(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        session: &Session<'_>,
    ) -> Result<Box<dyn BatchSource>, LearnError> {
        let sampled = self.sampled(policy, Split::Train, self.problems, mix(seed, 1), session)?;
        let (encoder, longest) = (policy.encoder(), policy.max_positions());
        let [fewest, most] = self.shown;
        let most = most.min(self.samples);
        let batch = self.train.batch.saturating_sub(self.solve_rows).max(1);
        let votes = Generated::new(batch, mix(seed, 2), move |seed| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            // Questions without any answer teach nothing, and nine long responses do not fit; both are rare.
            for _ in 0..100 {
                let (problem, samples) = &sampled[random.random_range(0..sampled.len())];
                let count = random.random_range(fewest.min(most)..=most);
                let shown = drawn(samples, count, &mut random);
                match row(encoder.as_ref(), problem, &shown, random.random_bool(0.5))? {
                    Some(row) if row.tokens.len() <= longest => return Ok(row),
                    _ => {}
                }
            }
            Err(LearnError::Data {
                what: "the samples of the base model have no answers to choose among".into(),
                hint: "build this checkpoint on a model that solves chains".into(),
            })
        });
        let task = elenchus_task::task("arithmetic", &Value::Null)?;
        let mut chains = Vec::new();
        for problem in task.problems(Split::Train, self.problems, mix(seed, 3))? {
            if let Some(reference) = task.reference(&problem) {
                chains.push(text_row(policy, &Skill::Solve.prompt(&problem, &[]), &reference)?);
            }
        }
        let chains = Generated::new(self.solve_rows, mix(seed, 4), move |seed| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            Ok(chains[random.random_range(0..chains.len())].clone())
        });
        Ok(Box::new(Blend(votes, chains)))
    }

    /// Share of choices among eight samples that name a response with the true majority answer, where there is a single one.
    fn validate(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        session: &Session<'_>,
    ) -> Result<Figure, LearnError> {
        let sampled = self.sampled(policy, Split::Validation, self.validation, mix(seed, 1), session)?;
        let (mut requests, mut wanted) = (Vec::new(), Vec::new());
        for (problem, samples) in &sampled {
            let shown = &samples[..EXAMINED.min(samples.len())];
            let answers: Vec<Option<&str>> = shown.iter().map(|j| j.verdict.answer.as_deref()).collect();
            let Some(majority) = true_majority(&answers).filter(|majority| majority.unique) else { continue };
            let texts: Vec<&str> = shown.iter().map(|j| j.rollout.text.as_str()).collect();
            let prompt = choice_prompt(problem, &texts);
            if policy.encode(&prompt)?.len() + CHOICE_TOKENS > policy.max_positions() {
                continue;
            }
            wanted.push(answers.iter().map(|a| *a == Some(majority.answer)).collect::<Vec<bool>>());
            requests.push(choice_request(prompt));
        }
        let (right, _) = session.once::<usize>("choices", || {
            let replies = policy.sample(&requests)?;
            let named = replies.iter().zip(&wanted).filter(|(replies, wanted)| {
                let pick = replies.first().and_then(|reply| chosen(&reply.text, wanted.len()));
                pick.is_some_and(|pick| wanted[pick])
            });
            Ok(named.count())
        })?;
        let value = right as f64 / wanted.len().max(1) as f64;
        Ok(Figure { name: "choices of the true majority among 8".into(), value, problems: wanted.len() })
    }
}

/// Responses among which the figure of the card is measured.
const EXAMINED: usize = 8;

/// Most tokens of a choice.
pub(crate) const CHOICE_TOKENS: usize = 4;

/// The greedy request of a choice.
pub(crate) fn choice_request(prompt: String) -> RolloutRequest {
    RolloutRequest {
        prompt,
        samples: 1,
        seed: 1,
        temperature: 0.0,
        max_new_tokens: CHOICE_TOKENS,
        distributions: false,
    }
}
