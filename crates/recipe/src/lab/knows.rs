//! `*-knows`: checkpoints with a head that says, from the question alone, how likely its model is to answer right.

use super::{Figure, LabModel, Plan, Start};
use elenchus_learn::objective::{HeadTarget, TrainingRow};
use elenchus_learn::policy::Encode;
use elenchus_learn::rollouts::{RolloutSettings, mix, right_counts};
use elenchus_learn::trainer::{BatchSource, Decay, Epochs, TrainSettings};
use elenchus_learn::{LearnError, NativePolicy, Session};
use elenchus_measure::auroc;
use elenchus_task::{Skill, Split};
use elenchus_trace::Problem;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Name of the head.
pub const HEAD: &str = "p_ik";

/// A task with its settings, by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskPart {
    /// Name in the registry.
    pub name: String,
    /// Its settings.
    pub settings: Value,
}

/// P(IK) (arXiv 2207.05221, section 5): for each training question the starting model draws `samples` answers at
/// temperature 1; the share of right ones is a soft label g. A linear head reads the last hidden state at the last token of
/// the question, p = σ(w·h + b), and the whole model is fine-tuned with −g log p − (1 − g) log(1 − p), which equals the
/// paper's copies with hard labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Knows {
    name: &'static str,
    summary: &'static str,
    /// Whose answers are predicted.
    pub start: Start,
    /// The tasks that are learned from, the same number of questions of each.
    pub tasks: Vec<TaskPart>,
    /// Training questions of each task.
    pub problems: usize,
    /// S: samples per question.
    pub samples: usize,
    /// Validation questions of each task, for the card.
    pub validation: usize,
    /// The training.
    pub train: TrainSettings,
}

/// Arithmetic of 2 to 8 operations: difficulty must vary for g to spread.
pub fn arithmetic() -> TaskPart {
    TaskPart { name: "arithmetic".into(), settings: json!({ "steps": [2, 8] }) }
}

/// Countdown as the embedded model learned it.
pub fn countdown() -> TaskPart {
    TaskPart { name: "countdown".into(), settings: json!({}) }
}

/// The facts in one view, all of one kind or of both, without unanswerable questions: g is about knowing.
pub fn facts(view: u64, asked: &str) -> TaskPart {
    TaskPart { name: "facts".into(), settings: json!({ "view": view, "asked": asked, "unanswerable": 0.0 }) }
}

impl Knows {
    fn new(name: &'static str, summary: &'static str, start: Start, tasks: Vec<TaskPart>) -> Self {
        Knows {
            name,
            summary,
            start,
            tasks,
            problems: 1500,
            samples: 30,
            validation: 150,
            train: TrainSettings {
                steps: 400,
                batch: 32,
                learning_rate: 5e-4,
                warmup_steps: 20,
                decay: Decay::Linear,
                floor: 0.05,
                ..TrainSettings::default()
            },
        }
    }

    /// All of these checkpoints.
    pub fn all() -> Vec<Self> {
        let base = || Start::Base { words: Vec::new() };
        let lab = |name: &str| Start::Lab { name: name.into() };
        // The world has about 400 entities of the train split, four facts each.
        let of_facts = |knows: Knows, problems| Knows { problems, validation: 120, ..knows };
        vec![
            Knows::new(
                "arithmetic-knows",
                "says how likely the base model is to solve an arithmetic problem, learned on arithmetic",
                base(),
                vec![arithmetic()],
            ),
            Knows::new(
                "both-knows",
                "the same, learned on arithmetic and Countdown",
                base(),
                vec![arithmetic(), countdown()],
            ),
            of_facts(
                Knows::new(
                    "facts-a-knows",
                    "says how likely `facts-a` is to know a fact",
                    lab("facts-a"),
                    vec![facts(0, "both")],
                ),
                1200,
            ),
            of_facts(
                Knows::new(
                    "facts-b-knows",
                    "says how likely `facts-b` is to know a fact",
                    lab("facts-b"),
                    vec![facts(1, "both")],
                ),
                1200,
            ),
        ]
    }

    fn truth(
        &self,
        policy: &mut NativePolicy,
        split: Split,
        count: usize,
        seed: u64,
        session: &Session<'_>,
    ) -> Result<Vec<(Problem, f64)>, LearnError> {
        let mut found = Vec::new();
        for (place, part) in self.tasks.iter().enumerate() {
            let task = elenchus_task::task(&part.name, &part.settings)?;
            let seed = mix(seed, place as u64);
            let problems = task.problems(split, count, mix(seed, 1))?;
            let settings = RolloutSettings {
                samples: self.samples,
                temperature: 1.0,
                max_new_tokens: 160,
                seed: mix(seed, 2),
                distributions: false,
            };
            session.observer.phase(0, &format!("{} answers", part.name), problems.len());
            let label = format!("truth/{place}/{split:?}").to_lowercase();
            let right = right_counts(policy, task.as_ref(), &problems, &settings, &label, session)?;
            let share = |right: usize| right as f64 / self.samples.max(1) as f64;
            found.extend(problems.into_iter().zip(right).map(|(problem, right)| (problem, share(right))));
        }
        Ok(found)
    }
}

/// What the head reads: the prompt up to its last token, with text behind it where there is some (a hint).
pub(crate) fn question_row(
    encoder: &dyn Encode,
    problem: &Problem,
    hint: &str,
) -> Result<TrainingRow, LearnError> {
    let tokens = encoder.encode(&format!("{}{hint}", Skill::Solve.prompt(problem, &[])))?;
    Ok(TrainingRow { first_target: tokens.len(), tokens, ..TrainingRow::default() })
}

/// P(IK) of every row, in [0, 1].
///
/// # Errors
/// The model has no such head.
pub(crate) fn knows(policy: &mut NativePolicy, rows: &[TrainingRow]) -> Result<Vec<f64>, LearnError> {
    let head = head(policy)?;
    let outputs = elenchus_learn::policy::Policy::heads(policy, rows)?;
    let last = |heads: &Vec<Vec<f32>>| heads.get(head).and_then(|values| values.last()).copied();
    Ok(outputs.iter().map(|heads| sigmoid(f64::from(last(heads).unwrap_or(0.0)))).collect())
}

fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

fn head(policy: &NativePolicy) -> Result<usize, LearnError> {
    policy.model().head(HEAD).map(|(index, _)| index).ok_or_else(|| LearnError::Data {
        what: format!("the model has no head `{HEAD}`"),
        hint: "build a checkpoint whose name ends in `-knows` with `elenchus lab build`".into(),
    })
}

impl LabModel for Knows {
    fn name(&self) -> &'static str {
        self.name
    }

    fn summary(&self) -> &'static str {
        self.summary
    }

    fn plan(&self) -> Plan {
        Plan {
            version: 1,
            start: self.start.clone(),
            heads: vec![HEAD.into()],
            objective: "binary-cross-entropy".into(),
            objective_settings: Value::Null,
            train: self.train.clone(),
            rows: json!({
                "tasks": self.tasks, "problems": self.problems, "samples": self.samples,
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
        let head = head(policy)?;
        let mut rows = Vec::new();
        for (problem, share) in self.truth(policy, Split::Train, self.problems, mix(seed, 1), session)? {
            let mut row = question_row(policy, &problem, "")?;
            let position = row.tokens.len() - 1;
            row.head_targets = vec![HeadTarget { head, position, target: share as f32 }];
            rows.push(vec![row]);
        }
        // Now, while the weights are those whose answers are predicted: training changes how the model answers.
        self.truth(policy, Split::Validation, self.validation, TRUTH_SEED, session)?;
        Ok(Box::new(Epochs::new(rows, self.train.batch, mix(seed, 2))?))
    }

    fn validate(
        &self,
        policy: &mut NativePolicy,
        _: u64,
        session: &Session<'_>,
    ) -> Result<Figure, LearnError> {
        // From the journal: what the starting model answered.
        let truth = self.truth(policy, Split::Validation, self.validation, TRUTH_SEED, session)?;
        let rows = truth
            .iter()
            .map(|(problem, _)| question_row(policy, problem, ""))
            .collect::<Result<Vec<_>, _>>()?;
        let scores = knows(policy, &rows)?;
        let labels: Vec<bool> = truth.iter().map(|(_, share)| *share > 0.5).collect();
        let value = auroc(&scores, &labels)?.unwrap_or(0.5);
        Ok(Figure { name: "AUROC of P(IK), more than half right".into(), value, problems: truth.len() })
    }
}

/// The validation questions of a card are the same for every model seed.
const TRUTH_SEED: u64 = 77;
