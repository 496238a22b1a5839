//! `own-judge`: the base model after training to judge its own answers, with and without other samples shown.

use super::{Figure, LabModel, Plan, Start};
use elenchus_learn::objective::TrainingRow;
use elenchus_learn::policy::{Encode, Policy, text_row};
use elenchus_learn::rollouts::{Judged, RolloutSettings, judged_rollouts, mix};
use elenchus_learn::trainer::{BatchSource, Blend, Decay, Epochs, Generated, TrainSettings};
use elenchus_learn::{LearnError, NativePolicy, Session};
use elenchus_measure::auroc;
use elenchus_task::arithmetic::{ArithmeticSettings, Steps, skills};
use elenchus_task::{Skill, Split, Task, arithmetic::Arithmetic};
use elenchus_trace::Problem;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Judge-format lines in training (arXiv 2207.05221, sheet 06): a model this small cannot judge from examples in its
/// prompt, so rows `J{problem}{answer}!` → `Y` or `N` on its own samples of training problems take their place, labelled
/// by the exact verifier. Half of the judge rows show the answers of the other samples in front, `#130!#127!…`, as the
/// comparison form of P(True) does. Rows `S{problem}` → reference keep it able to solve, so that the finished model
/// judges what it writes itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OwnJudge {
    /// Training problems that are sampled.
    pub problems: usize,
    /// Samples of each; also how many answers are shown.
    pub samples: usize,
    /// Fewest and most operations of a problem.
    pub steps: [usize; 2],
    /// Solve rows in a batch; the rest are judge rows.
    pub solve_rows: usize,
    /// Validation problems for the card.
    pub validation: usize,
    /// The training.
    pub train: TrainSettings,
}

impl Default for OwnJudge {
    fn default() -> Self {
        OwnJudge {
            problems: 2000,
            samples: 5,
            steps: [2, 8],
            solve_rows: 8,
            validation: 200,
            train: TrainSettings {
                steps: 500,
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

/// What a token behind the label counts: that the reply ends there is known before.
const END_WEIGHT: f32 = 0.1;

impl OwnJudge {
    fn task(&self) -> Result<Arithmetic, LearnError> {
        Ok(Arithmetic::new(ArithmeticSettings { steps: Steps::Between(self.steps), ..Default::default() })?)
    }

    fn sampled(
        &self,
        policy: &mut NativePolicy,
        split: Split,
        count: usize,
        seed: u64,
        session: &Session<'_>,
    ) -> Result<(Vec<Problem>, Vec<Vec<Judged>>), LearnError> {
        let task = self.task()?;
        let problems = task.problems(split, count, mix(seed, 1))?;
        let settings = RolloutSettings {
            samples: self.samples,
            temperature: 1.0,
            max_new_tokens: 160,
            seed: mix(seed, 2),
            distributions: false,
        };
        session.observer.phase(0, "own answers", problems.len());
        let label = format!("own/{split:?}").to_lowercase();
        let judged = judged_rollouts(policy, &task, &problems, &settings, &label, session)?;
        Ok((problems, judged))
    }
}

/// The prompt in which the model judges its answer, with the answers of other samples (its own among them) in front.
pub(crate) fn judge_prompt(problem: &Problem, shown: &[Judged], answer: &Judged) -> String {
    let ideas: Vec<String> =
        shown.iter().map(|j| format!("#{}", j.verdict.answer.as_deref().unwrap_or_default())).collect();
    let mut parts: Vec<&str> = ideas.iter().map(String::as_str).collect();
    parts.push(&answer.rollout.text);
    Skill::Judge.prompt(problem, &parts)
}

fn judge_row(encoder: &dyn Encode, prompt: &str, right: bool) -> Result<TrainingRow, LearnError> {
    let row = text_row(encoder, prompt, if right { "Y" } else { "N" })?;
    let mut weights = vec![END_WEIGHT; row.targets()];
    if let Some(label) = weights.first_mut() {
        *label = 1.0;
    }
    Ok(TrainingRow { weights, ..row })
}

impl LabModel for OwnJudge {
    fn name(&self) -> &'static str {
        "own-judge"
    }

    fn summary(&self) -> &'static str {
        "the base model, trained to say whether its own answers are right, alone or beside its other samples"
    }

    fn plan(&self) -> Plan {
        Plan {
            version: 1,
            start: Start::Base { words: Vec::new() },
            heads: Vec::new(),
            objective: "sft".into(),
            objective_settings: serde_json::Value::Null,
            train: self.train.clone(),
            rows: json!({
                "problems": self.problems, "samples": self.samples, "steps": self.steps,
                "solve_rows": self.solve_rows, "validation": self.validation,
            }),
        }
    }

    fn source(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        session: &Session<'_>,
    ) -> Result<Box<dyn BatchSource>, LearnError> {
        let (problems, judged) = self.sampled(policy, Split::Train, self.problems, mix(seed, 1), session)?;
        let mut rows = Vec::new();
        for (problem, samples) in problems.iter().zip(&judged) {
            for answer in samples.iter().filter(|j| j.rollout.finished) {
                for shown in [&[][..], &samples[..]] {
                    let prompt = judge_prompt(problem, shown, answer);
                    rows.push(vec![judge_row(policy, &prompt, answer.verdict.is_correct())?]);
                }
            }
        }
        let (task, encoder) = (self.task()?, policy.encoder());
        let solve = Generated::new(self.solve_rows, mix(seed, 2), move |seed| {
            let problem = task.problems(Split::Train, 1, seed)?.into_iter().next();
            let row =
                problem.as_ref().map(skills::solve_row).transpose()?.ok_or_else(|| LearnError::Data {
                    what: "the arithmetic task gave no problem".into(),
                    hint: "set `steps` to a range that has problems".into(),
                })?;
            text_row(encoder.as_ref(), &row.prompt, &row.target)
        });
        let batch = self.train.batch.saturating_sub(self.solve_rows).max(1);
        Ok(Box::new(Blend(Epochs::new(rows, batch, mix(seed, 3))?, solve)))
    }

    fn validate(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        session: &Session<'_>,
    ) -> Result<Figure, LearnError> {
        let (problems, judged) =
            self.sampled(policy, Split::Validation, self.validation, mix(seed, 1), session)?;
        let (mut rows, mut labels) = (Vec::new(), Vec::new());
        for (problem, samples) in problems.iter().zip(&judged) {
            for answer in samples {
                let prompt = judge_prompt(problem, &[], answer);
                rows.extend([judge_row(policy, &prompt, true)?, judge_row(policy, &prompt, false)?]);
                labels.push(answer.verdict.is_correct());
            }
        }
        let scores: Vec<f64> = policy
            .logprobs(&rows)?
            .chunks(2)
            .map(|pair| {
                f64::from(pair[0].first().copied().unwrap_or(0.0) - pair[1].first().copied().unwrap_or(0.0))
            })
            .collect();
        let value = auroc(&scores, &labels)?.unwrap_or(0.5);
        Ok(Figure { name: "AUROC of P(True) over own answers".into(), value, problems: problems.len() })
    }
}
