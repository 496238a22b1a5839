//! `program-reviser`: the program writer after training to write a better program in view of a best and a worst own one.

use super::program_writer::{LONGEST, PROGRAM_WRITER};
use super::{Figure, LabModel, Plan, Start};
use crate::revising::{Lesson, Substrate, contrast_prompt};
use elenchus_learn::objective::TrainingRow;
use elenchus_learn::policy::{Policy, RolloutRequest};
use elenchus_learn::rollouts::mix;
use elenchus_learn::trainer::{BatchSource, Decay, Epochs, TrainSettings};
use elenchus_learn::{LearnError, NativePolicy, Session};
use elenchus_task::{Skill, Split};
use elenchus_trace::Problem;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Name of the checkpoint.
pub const PROGRAM_REVISER: &str = "program-reviser";

/// Rows for iterative decoding (arXiv 2504.01931, sheet 46) on small programs whose description leaves an operation out, so
/// that it has to be found by trying: `S{problem}` → program; `G{problem}{worst}~s:k=v!{best}~s:k=v!` → better program;
/// `A{problem}{best}~s:k=v!` → better program. Behind a response stand the share of the shown tests that it passes, in tenths, and
/// the first that it fails with what came back. Worst and best are own samples, the better program is the best of the
/// samples, or the task's solution where none solves the problem.
///
/// Tried on validation problems: 400 steps of 20 rows do not teach the model to use what it sees, with or without the failing
/// test; after 1,500 such steps a best program with its failing test stood above best-of-n.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProgramReviser {
    /// Settings of the task.
    pub task: Value,
    /// Training problems that are sampled.
    pub problems: usize,
    /// Samples of each, at temperature 1.
    pub samples: usize,
    /// Problems that are sampled and journalled together.
    pub unit: usize,
    /// Validation problems for the card.
    pub validation: usize,
    /// The training.
    pub train: TrainSettings,
}

impl Default for ProgramReviser {
    fn default() -> Self {
        ProgramReviser {
            task: json!({ "operations": [2, 3], "left_out": 1, "runner": "embedded" }),
            problems: 16_000,
            samples: 8,
            unit: 500,
            validation: 200,
            train: TrainSettings {
                steps: 1_500,
                batch: 32,
                learning_rate: 1e-3,
                warmup_steps: 20,
                decay: Decay::Cosine,
                floor: 0.05,
                ..TrainSettings::default()
            },
        }
    }
}

/// How its rows are made.
pub(crate) const LESSON: Lesson = Lesson { solutions: true, feedback: true };

/// The mistake of settings, or of a sandbox that does not run here, in the words of the part that found it.
fn data(error: impl std::fmt::Display) -> LearnError {
    LearnError::Data {
        what: format!("programs cannot be made or run: {error}"),
        hint: "see `elenchus tasks` for what the task `program` needs".into(),
    }
}

impl ProgramReviser {
    /// One prompt's texts at temperature 1.
    fn sample(
        policy: &mut NativePolicy,
        prompts: Vec<String>,
        samples: usize,
        seed: u64,
    ) -> Result<Vec<Vec<String>>, LearnError> {
        let request = |(i, prompt): (usize, String)| RolloutRequest {
            prompt,
            samples,
            seed: mix(seed, i as u64),
            temperature: 1.0,
            max_new_tokens: LONGEST,
            distributions: false,
        };
        let requests: Vec<RolloutRequest> = prompts.into_iter().enumerate().map(request).collect();
        let rollouts = policy.sample(&requests)?;
        Ok(rollouts.into_iter().map(|of| of.into_iter().map(|rollout| rollout.text).collect()).collect())
    }

    /// The texts of own samples, unit by unit through the journal.
    fn draw(
        &self,
        policy: &mut NativePolicy,
        problems: &[Problem],
        seed: u64,
        session: &Session<'_>,
    ) -> Result<Vec<Vec<String>>, LearnError> {
        session.observer.phase(0, "own programs", problems.len());
        let mut all = Vec::with_capacity(problems.len());
        for (unit, chunk) in problems.chunks(self.unit.max(1)).enumerate() {
            let (texts, replayed) = session.once(&format!("own programs/{unit}"), || {
                let prompts = chunk.iter().map(|problem| Skill::Solve.prompt(problem, &[])).collect();
                ProgramReviser::sample(policy, prompts, self.samples, mix(seed, unit as u64))
            })?;
            session.observer.advance(chunk.len(), 0, replayed);
            all.extend(texts);
        }
        Ok(all)
    }
}

impl LabModel for ProgramReviser {
    fn name(&self) -> &'static str {
        PROGRAM_REVISER
    }

    fn summary(&self) -> &'static str {
        "the program writer, trained to write a better program in view of own ones and the test they fail"
    }

    fn plan(&self) -> Plan {
        Plan {
            version: 1,
            start: Start::Lab { name: PROGRAM_WRITER.into() },
            heads: Vec::new(),
            objective: "sft".into(),
            objective_settings: Value::Null,
            train: self.train.clone(),
            rows: json!({
                "task": self.task, "problems": self.problems, "samples": self.samples, "unit": self.unit,
                "validation": self.validation,
            }),
        }
    }

    fn source(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        session: &Session<'_>,
    ) -> Result<Box<dyn BatchSource>, LearnError> {
        let substrate = Substrate::programs(&self.task).map_err(data)?;
        let problems = substrate.task().problems(Split::Train, self.problems, mix(seed, 1))?;
        let texts = self.draw(policy, &problems, mix(seed, 2), session)?;
        session.observer.phase(0, "own programs run against their tests", problems.len());
        let mut rows: Vec<Vec<TrainingRow>> = Vec::new();
        for (q, (problem, texts)) in problems.iter().zip(&texts).enumerate() {
            let samples: Vec<&str> = texts.iter().map(String::as_str).collect();
            let made = LESSON.rows(policy, &substrate, problem, &samples, mix(seed, 3 + q as u64))?;
            rows.extend(made.into_iter().map(|row| vec![row]));
            session.observer.advance(1, 0, false);
        }
        Ok(Box::new(Epochs::new(rows, self.train.batch, mix(seed, 3))?))
    }

    /// Programs that pass all tests, one sample each at temperature 1, in view of the best and the worst of four own ones, over
    /// problems that none of the four solves.
    fn validate(&self, policy: &mut NativePolicy, seed: u64, _: &Session<'_>) -> Result<Figure, LearnError> {
        let substrate = Substrate::programs(&self.task).map_err(data)?;
        let problems = substrate.task().problems(Split::Validation, self.validation, mix(seed, 4))?;
        let prompts = problems.iter().map(|problem| Skill::Solve.prompt(problem, &[])).collect();
        let drawn = ProgramReviser::sample(policy, prompts, 4, mix(seed, 5))?;
        let (mut prompts, mut unsolved) = (Vec::new(), Vec::new());
        for (problem, texts) in problems.iter().zip(&drawn) {
            let mut valued = Vec::with_capacity(texts.len());
            for text in texts {
                valued.push((substrate.worth(problem, text)?, text));
            }
            valued.sort_by(|a, b| a.0.seen.total_cmp(&b.0.seen));
            let (Some(worst), Some(best)) = (valued.first(), valued.last()) else { continue };
            if valued.iter().any(|(worth, _)| worth.truth >= 1.0) {
                continue;
            }
            let shown = |(worth, text): &(_, &String)| {
                let worth: &crate::revising::Worth = worth;
                LESSON.shown(text, worth.seen, &worth.fault)
            };
            prompts.push(contrast_prompt(problem, &shown(best), Some(&shown(worst))));
            unsolved.push(problem);
        }
        let replies = ProgramReviser::sample(policy, prompts, 1, mix(seed, 6))?;
        let mut right = 0;
        for (problem, reply) in unsolved.iter().zip(&replies) {
            for text in reply {
                right += usize::from(substrate.task().verify(problem, text)?.is_correct());
            }
        }
        let value = right as f64 / unsolved.len().max(1) as f64;
        let name = "programs that pass in view of own ones that do not, one sample at temperature 1".into();
        Ok(Figure { name, value, problems: unsolved.len() })
    }
}
