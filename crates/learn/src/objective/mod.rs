//! Objectives: differentiable functions of token log-probabilities (and head outputs). No objective sees a network.
//!
//! A batch is a list of groups, a group a list of rows (one row for likelihoods and policy gradients; chosen and
//! rejected for preferences). An objective gets one group at a time and returns the group's share of the batch loss
//! and the gradient of that share. Shares add up to the batch loss.

mod binary_cross_entropy;
mod bradley_terry;
mod dpo;
mod ipo;
mod orpo;
mod policy_gradient;
mod sft;

pub use binary_cross_entropy::BinaryCrossEntropy;
pub use bradley_terry::BradleyTerry;
pub use dpo::Dpo;
pub use ipo::Ipo;
pub use orpo::Orpo;
pub use policy_gradient::{
    Advantage, KlEstimator, Normalisation, PolicyGradient, advantages, effective_group_share,
};
pub use sft::Sft;

use crate::LearnError;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A target for a scalar head at one position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeadTarget {
    /// Which head, in the model's order.
    pub head: usize,
    /// Token position whose hidden state is read, 0-based.
    pub position: usize,
    /// The label: 0..=1 for cross-entropy.
    pub target: f32,
}

/// One sequence to learn from. Per-target vectors have one entry per token from `first_target` on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrainingRow {
    /// Prompt and response.
    pub tokens: Vec<u32>,
    /// Index of the first token that is a target (≥ 1).
    pub first_target: usize,
    /// Weight of each target; empty means 1 everywhere. 0 masks a span.
    pub weights: Vec<f32>,
    /// Log-probabilities under the reference policy; empty when the objective needs none.
    pub reference: Vec<f32>,
    /// Log-probabilities under the policy that drew the sample; empty means on-policy (the current values).
    pub behaviour: Vec<f32>,
    /// Advantage of the whole response.
    pub advantage: f32,
    /// Soft preference label of a pair, stored on its first row: probability that the first is the better one.
    pub preference: Option<f32>,
    /// Targets for scalar heads.
    pub head_targets: Vec<HeadTarget>,
}

impl TrainingRow {
    /// A row whose targets are everything behind the prompt.
    pub fn new(prompt: &[u32], response: &[u32]) -> Self {
        let mut tokens = prompt.to_vec();
        tokens.extend_from_slice(response);
        TrainingRow { tokens, first_target: prompt.len(), ..Default::default() }
    }

    /// Number of targets.
    pub fn targets(&self) -> usize {
        self.tokens.len() - self.first_target
    }

    /// Weight of target `i`.
    pub fn weight(&self, i: usize) -> f32 {
        self.weights.get(i).copied().unwrap_or(1.0)
    }

    /// Sum of the target weights.
    pub fn total_weight(&self) -> f64 {
        if self.weights.is_empty() {
            self.targets() as f64
        } else {
            self.weights.iter().map(|&w| f64::from(w)).sum()
        }
    }
}

/// What the policy computed for one row.
#[derive(Debug, Clone, Copy)]
pub struct RowOutput<'a> {
    /// The row.
    pub row: &'a TrainingRow,
    /// Log-probability of each target, nats.
    pub logprobs: &'a [f32],
    /// Entropy of the distribution at each target, nats; empty unless the objective asks for it.
    pub entropies: &'a [f32],
    /// Raw head outputs, `heads[head][position]` over all token positions.
    pub heads: &'a [Vec<f32>],
}

/// Gradient of the loss with respect to one [`RowOutput`]; empty vectors mean zero.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RowGradient {
    /// ∂loss/∂logprob per target.
    pub logprobs: Vec<f32>,
    /// ∂loss/∂entropy per target.
    pub entropies: Vec<f32>,
    /// ∂loss/∂head output, `[head][position]`.
    pub heads: Vec<Vec<f32>>,
}

/// Sums over the batch that normalise the shares of its groups.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchScale {
    /// Groups in the batch.
    pub groups: f64,
    /// Rows in the batch.
    pub rows: f64,
    /// Summed target weights.
    pub tokens: f64,
    /// Head targets.
    pub head_targets: f64,
}

impl BatchScale {
    /// The sums of a batch.
    pub fn of(batch: &[Vec<TrainingRow>]) -> Self {
        let rows = || batch.iter().flatten();
        BatchScale {
            groups: batch.len() as f64,
            rows: rows().count() as f64,
            tokens: rows().map(TrainingRow::total_weight).sum(),
            head_targets: rows().map(|r| r.head_targets.len() as f64).sum(),
        }
    }
}

/// What an objective needs beside the policy's log-probabilities.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ObjectiveNeeds {
    /// Log-probabilities under a reference policy.
    pub reference: bool,
    /// Entropies.
    pub entropies: bool,
    /// At least one scalar head.
    pub heads: bool,
}

/// A loss and its gradient.
pub trait Objective: Send + Sync {
    /// Name in the registry.
    fn name(&self) -> &'static str;

    /// Rows in a group: 1, or 2 for chosen and rejected.
    fn group_size(&self) -> usize {
        1
    }

    /// What must be supplied.
    fn needs(&self) -> ObjectiveNeeds {
        ObjectiveNeeds::default()
    }

    /// The group's share of the batch loss, and its gradient (one per row).
    fn evaluate(&self, scale: &BatchScale, group: &[RowOutput<'_>]) -> (f64, Vec<RowGradient>);
}

/// One line of the registry.
pub struct ObjectiveEntry {
    /// Name.
    pub name: &'static str,
    /// One line for lists and help.
    pub summary: &'static str,
    /// Builds it from settings.
    pub build: fn(Value) -> Result<Box<dyn Objective>, LearnError>,
}

fn build<T: Objective + DeserializeOwned + 'static>(
    settings: Value,
) -> Result<Box<dyn Objective>, LearnError> {
    let settings = if settings.is_null() { Value::Object(Default::default()) } else { settings };
    let objective: T = serde_json::from_value(settings).map_err(|e| LearnError::Setting {
        field: "objective".into(),
        problem: e.to_string(),
        hint: "write NAME=VALUE with the name of a setting of this objective and a value of its type".into(),
    })?;
    Ok(Box::new(objective))
}

/// All objectives.
pub const OBJECTIVES: &[ObjectiveEntry] = &[
    ObjectiveEntry { name: "sft", summary: "weighted likelihood of the targets", build: build::<Sft> },
    ObjectiveEntry { name: "dpo", summary: "direct preference optimisation", build: build::<Dpo> },
    ObjectiveEntry { name: "ipo", summary: "identity preference optimisation", build: build::<Ipo> },
    ObjectiveEntry { name: "orpo", summary: "likelihood plus odds-ratio preference", build: build::<Orpo> },
    ObjectiveEntry {
        name: "policy-gradient",
        summary: "REINFORCE, RLOO and GRPO with clipping, KL and entropy terms",
        build: build::<PolicyGradient>,
    },
    ObjectiveEntry {
        name: "bradley-terry",
        summary: "pairwise reward model on a scalar head",
        build: build::<BradleyTerry>,
    },
    ObjectiveEntry {
        name: "binary-cross-entropy",
        summary: "labels on a scalar head (value, step reward, P(IK))",
        build: build::<BinaryCrossEntropy>,
    },
];

/// The objective with this name and settings (`null` for the defaults).
pub fn objective(name: &str, settings: Value) -> Result<Box<dyn Objective>, LearnError> {
    match OBJECTIVES.iter().find(|e| e.name == name) {
        Some(entry) => (entry.build)(settings),
        None => Err(LearnError::Setting {
            field: "objective".into(),
            problem: format!("names `{name}`, which does not exist"),
            hint: format!("one of: {}", OBJECTIVES.iter().map(|e| e.name).collect::<Vec<_>>().join(", ")),
        }),
    }
}

/// log σ(x), stable for large |x|.
pub(crate) fn log_sigmoid(x: f64) -> f64 {
    if x >= 0.0 { -(-x).exp().ln_1p() } else { x - x.exp().ln_1p() }
}

/// σ(x).
pub(crate) fn sigmoid(x: f64) -> f64 {
    log_sigmoid(x).exp()
}

/// Σ weight · logprob over a row's targets.
pub(crate) fn weighted_sum(row: &TrainingRow, values: &[f32]) -> f64 {
    values.iter().enumerate().map(|(i, &v)| f64::from(row.weight(i)) * f64::from(v)).sum()
}

/// A gradient that is `factor · weight` on every target: the derivative of `factor · Σ weight · logprob`.
pub(crate) fn spread(row: &TrainingRow, factor: f64) -> Vec<f32> {
    (0..row.targets()).map(|i| (factor * f64::from(row.weight(i))) as f32).collect()
}

#[cfg(test)]
pub(crate) mod check {
    //! Every objective's gradient against central finite differences.
    use super::*;

    /// Rows, log-probabilities, entropies and outputs of one head.
    type Random = (Vec<TrainingRow>, Vec<Vec<f32>>, Vec<Vec<f32>>, Vec<Vec<Vec<f32>>>);

    /// Random rows with log-probabilities, entropies and one head; deterministic.
    pub fn rows(count: usize, seed: u64) -> Random {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f32 / (1u64 << 53) as f32
        };
        let (mut rows, mut logprobs, mut entropies, mut heads) = (vec![], vec![], vec![], vec![]);
        for r in 0..count {
            let n = 3 + r;
            let tokens = (0..n as u32 + 2).collect();
            rows.push(TrainingRow {
                tokens,
                first_target: 2,
                weights: (0..n).map(|i| if i == 1 { 0.0 } else { 0.5 + next() }).collect(),
                reference: (0..n).map(|_| -2.0 * next() - 0.05).collect(),
                behaviour: (0..n).map(|_| -2.0 * next() - 0.05).collect(),
                advantage: 2.0 * next() - 1.0,
                preference: None,
                head_targets: vec![
                    HeadTarget { head: 0, position: 1, target: 1.0 },
                    HeadTarget { head: 0, position: n, target: 0.25 },
                ],
            });
            logprobs.push((0..n).map(|_| -2.0 * next() - 0.05).collect());
            entropies.push((0..n).map(|_| next()).collect());
            heads.push(vec![(0..n + 2).map(|_| 2.0 * next() - 1.0).collect()]);
        }
        (rows, logprobs, entropies, heads)
    }

    pub fn gradient_is_right(objective: &dyn Objective, edit: impl Fn(&mut Vec<TrainingRow>)) {
        for seed in 1..20u64 {
            let size = objective.group_size();
            let (mut rows, logprobs, entropies, heads) = rows(size, seed);
            edit(&mut rows);
            let batch = vec![rows.clone(), rows.clone()];
            let scale = BatchScale::of(&batch);
            let run = |lp: &[Vec<f32>], en: &[Vec<f32>], he: &[Vec<Vec<f32>>]| {
                let group: Vec<RowOutput<'_>> = (0..size)
                    .map(|i| RowOutput { row: &rows[i], logprobs: &lp[i], entropies: &en[i], heads: &he[i] })
                    .collect();
                objective.evaluate(&scale, &group)
            };
            let (_, gradient) = run(&logprobs, &entropies, &heads);
            assert_eq!(gradient.len(), size, "one gradient per row");
            let h = 1e-3f32;
            let close = |numeric: f64, analytic: f32, what: &str| {
                let analytic = f64::from(analytic);
                assert!(
                    (numeric - analytic).abs() <= 2e-3 * (1.0 + numeric.abs()),
                    "{}: {what}: numeric {numeric}, analytic {analytic}, seed {seed}",
                    objective.name()
                );
            };
            for r in 0..size {
                for i in 0..logprobs[r].len() {
                    let (mut up, mut down) = (logprobs.clone(), logprobs.clone());
                    up[r][i] += h;
                    down[r][i] -= h;
                    let step = f64::from(up[r][i]) - f64::from(down[r][i]);
                    let numeric = (run(&up, &entropies, &heads).0 - run(&down, &entropies, &heads).0) / step;
                    close(numeric, gradient[r].logprobs.get(i).copied().unwrap_or(0.0), "logprob");
                    let (mut up, mut down) = (entropies.clone(), entropies.clone());
                    up[r][i] += h;
                    down[r][i] -= h;
                    let step = f64::from(up[r][i]) - f64::from(down[r][i]);
                    let numeric = (run(&logprobs, &up, &heads).0 - run(&logprobs, &down, &heads).0) / step;
                    close(numeric, gradient[r].entropies.get(i).copied().unwrap_or(0.0), "entropy");
                }
                for i in 0..heads[r][0].len() {
                    let (mut up, mut down) = (heads.clone(), heads.clone());
                    up[r][0][i] += h;
                    down[r][0][i] -= h;
                    let step = f64::from(up[r][0][i]) - f64::from(down[r][0][i]);
                    let numeric =
                        (run(&logprobs, &entropies, &up).0 - run(&logprobs, &entropies, &down).0) / step;
                    let analytic = gradient[r].heads.first().and_then(|g| g.get(i)).copied().unwrap_or(0.0);
                    close(numeric, analytic, "head");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_sigmoid_is_stable() {
        assert!((log_sigmoid(0.0) + std::f64::consts::LN_2).abs() < 1e-15, "log 1/2");
        assert!(log_sigmoid(-800.0) == -800.0, "no underflow to -inf");
        assert!(log_sigmoid(800.0) == 0.0, "no overflow");
    }

    #[test]
    fn unknown_names_and_settings_are_refused_with_a_hint() {
        assert!(
            objective("dppo", Value::Null).is_err_and(|e| e.to_string().contains("hint: one of: sft, dpo"))
        );
        let wrong = objective("dpo", serde_json::json!({"betta": 0.1}));
        assert!(wrong.is_err_and(|e| e.to_string().contains("betta")), "an unknown field is named");
        for entry in OBJECTIVES {
            assert!(objective(entry.name, Value::Null).is_ok(), "{} has defaults", entry.name);
        }
    }
}
