//! `sql-writer`, `world-planner`: models that solve a generated task, taught by its reference solutions.

use super::solved::solved;
use super::{Figure, LabModel, Plan, Start};
use elenchus_learn::policy::text_row;
use elenchus_learn::rollouts::mix;
use elenchus_learn::trainer::{BatchSource, Decay, Epochs, TrainSettings};
use elenchus_learn::{LearnError, NativePolicy, Session};
use elenchus_task::{Skill, Split};
use serde_json::{Value, json};

/// Teaches the base model a task that it was not pretrained on: rows `S{problem}` → reference, on training problems.
#[derive(Debug, Clone, PartialEq)]
pub struct Taught {
    name: &'static str,
    summary: &'static str,
    /// The task, with its default settings.
    pub task: &'static str,
    /// Training problems.
    pub problems: usize,
    /// Validation problems for the card.
    pub validation: usize,
    /// The training.
    pub train: TrainSettings,
}

impl Taught {
    fn of(
        name: &'static str,
        summary: &'static str,
        task: &'static str,
        problems: usize,
        steps: usize,
    ) -> Self {
        Taught {
            name,
            summary,
            task,
            problems,
            validation: 100,
            train: TrainSettings {
                steps,
                batch: 64,
                learning_rate: 2e-3,
                warmup_steps: 50,
                decay: Decay::Cosine,
                floor: 0.05,
                ..TrainSettings::default()
            },
        }
    }

    /// All of them.
    pub fn all() -> [Taught; 2] {
        [
            Taught::of(
                "sql-writer",
                "writes queries for the generated databases of the task `sql`",
                "sql",
                8000,
                700,
            ),
            Taught::of("world-planner", "plans in the text world of the task `world`", "world", 8000, 1000),
        ]
    }
}

impl LabModel for Taught {
    fn name(&self) -> &'static str {
        self.name
    }

    fn summary(&self) -> &'static str {
        self.summary
    }

    fn plan(&self) -> Plan {
        Plan {
            version: 1,
            start: Start::Base { words: Vec::new() },
            heads: Vec::new(),
            objective: "sft".into(),
            objective_settings: Value::Null,
            train: self.train.clone(),
            rows: json!({ "task": self.task, "problems": self.problems, "validation": self.validation }),
        }
    }

    fn source(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        _: &Session<'_>,
    ) -> Result<Box<dyn BatchSource>, LearnError> {
        let task = elenchus_task::task(self.task, &Value::Null)?;
        let mut rows = Vec::with_capacity(self.problems);
        for problem in task.problems(Split::Train, self.problems, mix(seed, 1))? {
            if let Some(reference) = task.reference(&problem) {
                rows.push(vec![text_row(policy, &Skill::Solve.prompt(&problem, &[]), &reference)?]);
            }
        }
        Ok(Box::new(Epochs::new(rows, self.train.batch, mix(seed, 2))?))
    }

    /// Right answers, one greedy sample each.
    fn validate(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        session: &Session<'_>,
    ) -> Result<Figure, LearnError> {
        let task = elenchus_task::task(self.task, &Value::Null)?;
        let (value, problems) = solved(policy, task.as_ref(), self.validation, 0.0, 80, seed, session)?;
        Ok(Figure { name: "right answers".into(), value, problems })
    }
}
