//! `facts-a`, `facts-b`: models that know parts of the small world of the task `facts`, each its own.

use super::solved::solved;
use super::{Figure, LabModel, Plan, Start};
use elenchus_learn::policy::{Policy, text_row};
use elenchus_learn::trainer::{BatchSource, Decay, Generated, TrainSettings};
use elenchus_learn::{LearnError, NativePolicy, Session};
use elenchus_task::facts::{self, FactsSettings};
use serde_json::json;

/// Teaches facts by heart, each entity as often as its tier says, and that some questions have no answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    name: &'static str,
    summary: &'static str,
    /// The world, and who is taught how often.
    pub facts: FactsSettings,
    /// Validation questions for the card.
    pub validation: usize,
    /// The training.
    pub train: TrainSettings,
}

impl Facts {
    fn with_view(name: &'static str, summary: &'static str, view: u64) -> Self {
        Facts {
            name,
            summary,
            facts: FactsSettings { view, ..FactsSettings::default() },
            validation: 100,
            train: TrainSettings {
                steps: 1500,
                batch: 128,
                learning_rate: 2e-3,
                warmup_steps: 50,
                decay: Decay::Cosine,
                floor: 0.05,
                ..TrainSettings::default()
            },
        }
    }

    /// The first view of the world.
    pub fn first_view() -> Self {
        Facts::with_view("facts-a", "knows the entities that one view of the world teaches often", 0)
    }

    /// The second view of the same world.
    pub fn second_view() -> Self {
        Facts::with_view("facts-b", "knows those that another view of the same world teaches often", 1)
    }
}

impl LabModel for Facts {
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
            objective_settings: serde_json::Value::Null,
            train: self.train.clone(),
            rows: json!({ "facts": self.facts, "validation": self.validation }),
        }
    }

    fn source(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        _: &Session<'_>,
    ) -> Result<Box<dyn BatchSource>, LearnError> {
        let task = facts::Facts::new(self.facts.clone())?;
        let encoder = policy.encoder();
        Ok(Box::new(Generated::new(self.train.batch, seed, move |seed| {
            let row = task.teach(seed)?;
            text_row(encoder.as_ref(), &row.prompt, &row.target)
        })))
    }

    /// Right answers, one sample each. A fifth of the facts is never taught, so it cannot reach 1.
    fn validate(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        session: &Session<'_>,
    ) -> Result<Figure, LearnError> {
        let task = facts::Facts::new(self.facts.clone())?;
        let (value, problems) = solved(policy, &task, self.validation, 0.0, 8, seed, session)?;
        Ok(Figure { name: "right answers".into(), value, problems })
    }
}
