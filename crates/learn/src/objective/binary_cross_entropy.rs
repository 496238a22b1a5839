use super::{BatchScale, Objective, ObjectiveNeeds, RowGradient, RowOutput, log_sigmoid, sigmoid};
use serde::{Deserialize, Serialize};

/// Binary cross-entropy on scalar heads: `L = − y log σ(z) − (1 − y) log σ(−z)`, mean over the head targets of the
/// batch, nats. Targets may be soft (a Monte-Carlo estimate of a step's value). Serves outcome and step reward models,
/// value heads in [0, 1] and P(IK).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BinaryCrossEntropy {}

impl Objective for BinaryCrossEntropy {
    fn name(&self) -> &'static str {
        "binary-cross-entropy"
    }

    fn needs(&self) -> ObjectiveNeeds {
        ObjectiveNeeds { heads: true, ..Default::default() }
    }

    fn evaluate(&self, scale: &BatchScale, group: &[RowOutput<'_>]) -> (f64, Vec<RowGradient>) {
        let mut loss = 0.0;
        let gradients = group
            .iter()
            .map(|output| {
                let mut heads: Vec<Vec<f32>> = output.heads.iter().map(|h| vec![0.0; h.len()]).collect();
                for target in &output.row.head_targets {
                    let z = f64::from(output.heads[target.head][target.position]);
                    let y = f64::from(target.target);
                    loss += (-y * log_sigmoid(z) - (1.0 - y) * log_sigmoid(-z)) / scale.head_targets;
                    heads[target.head][target.position] += ((sigmoid(z) - y) / scale.head_targets) as f32;
                }
                RowGradient { heads, ..Default::default() }
            })
            .collect();
        (loss, gradients)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::{HeadTarget, TrainingRow, check};

    #[test]
    fn gradient() {
        check::gradient_is_right(&BinaryCrossEntropy {}, |_| {});
    }

    #[test]
    fn a_soft_label_equals_copies_with_hard_labels() {
        // arXiv 2207.05221: 20 of 30 samples right, the head says 0.6.
        let logit = (0.6f32 / 0.4).ln();
        let row = |target| TrainingRow {
            tokens: vec![1, 2],
            first_target: 2,
            head_targets: vec![HeadTarget { head: 0, position: 1, target }],
            ..Default::default()
        };
        let loss = |targets: &[f32]| -> f64 {
            let batch: Vec<Vec<TrainingRow>> = targets.iter().map(|&t| vec![row(t)]).collect();
            let scale = BatchScale::of(&batch);
            let heads = [vec![0.0, logit]];
            let share = |group: &Vec<TrainingRow>| {
                let output = RowOutput { row: &group[0], logprobs: &[], entropies: &[], heads: &heads };
                BinaryCrossEntropy {}.evaluate(&scale, &[output]).0
            };
            batch.iter().map(share).sum()
        };
        let soft = loss(&[2.0 / 3.0]);
        assert!((soft - 0.645_980_659_8).abs() < 1e-6, "{soft}");
        let copies: Vec<f32> = (0..30).map(|i| f32::from(u8::from(i < 20))).collect();
        assert!((30.0 * loss(&copies) - 19.379_419_794_1).abs() < 1e-4, "the sum over the copies");
    }
}
