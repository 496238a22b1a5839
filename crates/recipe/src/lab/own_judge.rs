//! `own-judge`: the base model after training to judge its own answers, with and without other samples shown.

use super::own_samples::{OwnSamples, arithmetic, solve_rows};
use super::{Figure, LabModel, Plan, Start};
use elenchus_learn::objective::TrainingRow;
use elenchus_learn::policy::{Encode, Policy, text_row};
use elenchus_learn::rollouts::{Judged, mix};
use elenchus_learn::trainer::{BatchSource, Blend, Decay, Epochs, TrainSettings};
use elenchus_learn::{LearnError, NativePolicy, Session};
use elenchus_measure::auroc;
use elenchus_task::{Skill, Split};
use elenchus_trace::Problem;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Name of the checkpoint.
pub const OWN_JUDGE: &str = "own-judge";

/// Judge-format lines in training (arXiv 2207.05221, sheet 06): a model this small cannot judge from examples in its
/// prompt, so rows `J{problem}{answer}!` → `Y` or `N` on its own samples of training problems take their place, labelled
/// by the exact verifier. Half of the judge rows show the answers of the samples in front, `#130!#127!…`, as the
/// comparison form of P(True) does; half of each end in `~`, which exchanges the labels. Rows `S{problem}` → reference keep it able to solve, so that the finished model
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
    /// The rows about the samples of one question.
    fn rows(
        &self,
        encoder: &dyn Encode,
        problem: &Problem,
        samples: &[Judged],
    ) -> Result<Vec<TrainingRow>, LearnError> {
        let row = |shown: &[Judged], answer: &Judged, swapped: bool| {
            let prompt = judge_prompt(problem, shown, answer, swapped);
            judge_row(encoder, &prompt, answer.verdict.is_correct(), swapped)
        };
        let mut rows = Vec::new();
        for (place, answer) in samples.iter().enumerate().filter(|(_, j)| j.rollout.finished) {
            // Both forms in both orders of the labels, in turn.
            for (form, shown) in [&[][..], samples].into_iter().enumerate() {
                rows.push(row(shown, answer, (place + form) % 2 == 1)?);
            }
        }
        Ok(rows)
    }
}

/// The prompt in which the model judges its answer, with the answers of other samples (its own among them) in front.
/// `swapped` puts `~` at the end: then `Y` says wrong and `N` right, so that a preference for a label can be seen, and
/// cancelled by the mean of both.
pub(crate) fn judge_prompt(problem: &Problem, shown: &[Judged], answer: &Judged, swapped: bool) -> String {
    let ideas: Vec<String> =
        shown.iter().map(|j| format!("#{}", j.verdict.answer.as_deref().unwrap_or_default())).collect();
    let mut parts: Vec<&str> = ideas.iter().map(String::as_str).collect();
    parts.push(&answer.rollout.text);
    let mut prompt = Skill::Judge.prompt(problem, &parts);
    if swapped {
        prompt.push('~');
    }
    prompt
}

/// The reply that says right or wrong.
pub(crate) fn judge_label(right: bool, swapped: bool) -> &'static str {
    if right == swapped { "N" } else { "Y" }
}

/// P(True) of each prompt: both replies are scored and normalised over the two.
pub(crate) fn p_true(policy: &mut NativePolicy, prompts: &[(String, bool)]) -> Result<Vec<f64>, LearnError> {
    let mut rows = Vec::with_capacity(2 * prompts.len());
    for (prompt, swapped) in prompts {
        for right in [true, false] {
            rows.push(judge_row(policy, prompt, right, *swapped)?);
        }
    }
    let label = |logprobs: &Vec<f32>| f64::from(logprobs.first().copied().unwrap_or(f32::NEG_INFINITY));
    let scored = policy.logprobs(&rows)?;
    Ok(scored.chunks(2).map(|pair| 1.0 / (1.0 + (label(&pair[1]) - label(&pair[0])).exp())).collect())
}

/// A row that teaches the reply to a judge's prompt.
pub(crate) fn judge_row(
    encoder: &dyn Encode,
    prompt: &str,
    right: bool,
    swapped: bool,
) -> Result<TrainingRow, LearnError> {
    let row = text_row(encoder, prompt, judge_label(right, swapped))?;
    let mut weights = vec![END_WEIGHT; row.targets()];
    if let Some(label) = weights.first_mut() {
        *label = 1.0;
    }
    Ok(TrainingRow { weights, ..row })
}

impl LabModel for OwnJudge {
    fn name(&self) -> &'static str {
        OWN_JUDGE
    }

    fn summary(&self) -> &'static str {
        "the base model, trained to say whether its own answers are right, alone or beside its other samples"
    }

    fn plan(&self) -> Plan {
        let rows = json!({
            "problems": self.problems, "samples": self.samples, "steps": self.steps,
            "solve_rows": self.solve_rows, "validation": self.validation,
        });
        Plan {
            version: 1,
            start: Start::Base { words: Vec::new() },
            heads: Vec::new(),
            objective: "sft".into(),
            objective_settings: serde_json::Value::Null,
            train: self.train.clone(),
            rows,
        }
    }

    fn source(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        session: &Session<'_>,
    ) -> Result<Box<dyn BatchSource>, LearnError> {
        let task = arithmetic(self.steps)?;
        let own = OwnSamples { samples: self.samples, temperature: 1.0 };
        let drawn = own.draw(policy, &task, Split::Train, self.problems, mix(seed, 1), session)?;
        let mut rows = Vec::new();
        for (problem, samples) in &drawn {
            rows.extend(self.rows(policy, problem, samples)?.into_iter().map(|row| vec![row]));
        }
        let solve = solve_rows(task, policy.encoder(), self.solve_rows, mix(seed, 2));
        let batch = self.train.batch.saturating_sub(self.solve_rows).max(1);
        Ok(Box::new(Blend(Epochs::new(rows, batch, mix(seed, 3))?, solve)))
    }

    fn validate(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        session: &Session<'_>,
    ) -> Result<Figure, LearnError> {
        let task = arithmetic(self.steps)?;
        let own = OwnSamples { samples: self.samples, temperature: 1.0 };
        let drawn = own.draw(policy, &task, Split::Validation, self.validation, mix(seed, 1), session)?;
        let (mut prompts, mut labels) = (Vec::new(), Vec::new());
        for (problem, samples) in &drawn {
            for answer in samples {
                prompts.push((judge_prompt(problem, &[], answer, false), false));
                labels.push(answer.verdict.is_correct());
            }
        }
        let scores = p_true(policy, &prompts)?;
        let value = auroc(&scores, &labels)?.unwrap_or(0.5);
        Ok(Figure { name: "AUROC of P(True) over own answers".into(), value, problems: drawn.len() })
    }
}
