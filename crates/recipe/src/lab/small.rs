//! `small`: a model of half of the embedded one's numbers, for experiments that compare sizes.

use super::solved::solved;
use super::{Figure, LabModel, Plan, Start};
use elenchus_learn::policy::Policy;
use elenchus_learn::pretrain::{BaseRows, Mixture, ModelShape, PretrainSettings, Stage};
use elenchus_learn::trainer::{BatchSource, TrainSettings};
use elenchus_learn::{LearnError, NativePolicy, Session};
use serde_json::json;

/// Name of the checkpoint.
pub const SMALL: &str = "small";

/// Half a million numbers. (Width 64 with three layers and two heads never learns to look names up: 3 % right greedy answers.)
/// Fresh weights, trained as the embedded model's first phase is: names first, then chains (with direct answers, judge
/// and critique rows at the end, so that it knows these notations).
#[derive(Debug, Clone, PartialEq)]
pub struct Small {
    /// The shape.
    pub shape: ModelShape,
    /// The stages before the mixture.
    pub curriculum: Vec<Stage>,
    /// What follows.
    pub mixture: Mixture,
    /// Validation problems for the card.
    pub validation: usize,
    /// The training.
    pub train: TrainSettings,
}

impl Default for Small {
    fn default() -> Self {
        let nothing = Mixture::nothing;
        Small {
            shape: ModelShape {
                hidden_size: 96,
                intermediate_size: 256,
                layers: 4,
                heads: 3,
                kv_heads: 3,
                max_positions: 1024,
            },
            curriculum: vec![
                Stage { steps: 1_200, mixture: Mixture { recall: 1.0, ..nothing() } },
                Stage { steps: 1_400, mixture: Mixture { solve: 0.9, recall: 0.1, ..nothing() } },
            ],
            mixture: Mixture { solve: 0.7, judge: 0.1, critique: 0.1, recall: 0.1, ..nothing() },
            validation: 150,
            train: TrainSettings { steps: 3_200, ..PretrainSettings::default().base },
        }
    }
}

impl LabModel for Small {
    fn name(&self) -> &'static str {
        SMALL
    }

    fn summary(&self) -> &'static str {
        "a smaller model made from nothing on chains, for experiments that compare sizes"
    }

    fn plan(&self) -> Plan {
        Plan {
            version: 1,
            start: Start::Fresh { shape: self.shape, words: Vec::new() },
            heads: Vec::new(),
            objective: "sft".into(),
            objective_settings: serde_json::Value::Null,
            train: self.train.clone(),
            rows: json!({
                "curriculum": self.curriculum, "mixture": self.mixture, "validation": self.validation,
            }),
        }
    }

    fn source(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        _: &Session<'_>,
    ) -> Result<Box<dyn BatchSource>, LearnError> {
        let settings = PretrainSettings {
            base: self.train.clone(),
            curriculum: self.curriculum.clone(),
            mixture: self.mixture.clone(),
            ..PretrainSettings::default()
        };
        Ok(Box::new(BaseRows::new(&settings, policy.encoder(), seed)))
    }

    /// Right greedy answers to chains of 4 to 6 steps.
    fn validate(
        &self,
        policy: &mut NativePolicy,
        seed: u64,
        session: &Session<'_>,
    ) -> Result<Figure, LearnError> {
        let task = elenchus_task::task("arithmetic", &serde_json::Value::Null)?;
        let (value, problems) = solved(policy, task.as_ref(), self.validation, 0.0, 160, seed, session)?;
        Ok(Figure { name: "right greedy answers".into(), value, problems })
    }
}
