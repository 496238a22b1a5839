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
    use crate::objective::check;

    #[test]
    fn gradient() {
        check::gradient_is_right(&BinaryCrossEntropy {}, |_| {});
    }
}
