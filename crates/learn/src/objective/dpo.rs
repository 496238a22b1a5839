use super::{
    BatchScale, Objective, ObjectiveNeeds, RowGradient, RowOutput, log_sigmoid, sigmoid, spread, weighted_sum,
};
use serde::{Deserialize, Serialize};

/// Direct preference optimisation (arXiv 2305.18290, eq. 7) with label smoothing and soft labels.
///
/// `h = β [ (log π(y_w) − log π_ref(y_w)) − (log π(y_l) − log π_ref(y_l)) ]`,
/// `L = − p log σ(h) − (1 − p) log σ(−h)`, mean over pairs; `p = 1 − label_smoothing`, or the pair's own soft label.
/// Log-probabilities are weighted sums over the targets of a row. The first row of a group is the chosen one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dpo {
    /// Strength of the tie to the reference, 0.1 by default.
    pub beta: f64,
    /// Assumed share of flipped labels, in [0, 0.5).
    pub label_smoothing: f64,
}

impl Default for Dpo {
    fn default() -> Self {
        Dpo { beta: 0.1, label_smoothing: 0.0 }
    }
}

/// log π − log π_ref of a row, weighted.
pub(super) fn log_ratio(output: &RowOutput<'_>) -> f64 {
    weighted_sum(output.row, output.logprobs) - weighted_sum(output.row, &output.row.reference)
}

impl Objective for Dpo {
    fn name(&self) -> &'static str {
        "dpo"
    }

    fn group_size(&self) -> usize {
        2
    }

    fn needs(&self) -> ObjectiveNeeds {
        ObjectiveNeeds { reference: true, ..Default::default() }
    }

    fn evaluate(&self, scale: &BatchScale, group: &[RowOutput<'_>]) -> (f64, Vec<RowGradient>) {
        let [chosen, rejected] = group else { return (0.0, vec![RowGradient::default(); group.len()]) };
        let p = chosen.row.preference.map_or(1.0 - self.label_smoothing, f64::from);
        let h = self.beta * (log_ratio(chosen) - log_ratio(rejected));
        let loss = (-p * log_sigmoid(h) - (1.0 - p) * log_sigmoid(-h)) / scale.groups;
        // dL/dh = σ(h) − p
        let factor = self.beta * (sigmoid(h) - p) / scale.groups;
        let gradient = |output: &RowOutput<'_>, factor| RowGradient {
            logprobs: spread(output.row, factor),
            ..Default::default()
        };
        (loss, vec![gradient(chosen, factor), gradient(rejected, -factor)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::{TrainingRow, check};

    #[test]
    fn gradient() {
        check::gradient_is_right(&Dpo::default(), |_| {});
        check::gradient_is_right(&Dpo { beta: 0.5, label_smoothing: 0.1 }, |_| {});
        check::gradient_is_right(&Dpo::default(), |rows| rows[0].preference = Some(0.7));
    }

    #[test]
    fn at_the_reference_the_loss_is_log_two() {
        let row = |r: &[f32]| TrainingRow {
            tokens: vec![0; 1 + r.len()],
            first_target: 1,
            reference: r.to_vec(),
            ..Default::default()
        };
        let (w, l) = (row(&[-1.0, -2.0]), row(&[-0.5]));
        let scale = BatchScale::of(&[vec![w.clone(), l.clone()]]);
        let out = |row| RowOutput { row, logprobs: &row.reference, entropies: &[], heads: &[] };
        let (loss, gradient) = Dpo::default().evaluate(&scale, &[out(&w), out(&l)]);
        assert!((loss - std::f64::consts::LN_2).abs() < 1e-12, "h = 0");
        assert!((gradient[0].logprobs[0] + 0.05).abs() < 1e-7, "−β/2 on the chosen");
        assert!((gradient[1].logprobs[0] - 0.05).abs() < 1e-7, "+β/2 on the rejected");
    }
}
