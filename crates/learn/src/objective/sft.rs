use super::{BatchScale, Objective, RowGradient, RowOutput, spread, weighted_sum};
use serde::{Deserialize, Serialize};

/// Weighted maximum likelihood (supervised fine-tuning).
///
/// `L = − Σ_rows Σ_t w_t log π(y_t | y_<t) / Z`, with `Z` the summed weights of the batch (`per_token`, the default)
/// or, with `per_token = false`, the mean over each row first and then over rows. Weights of 0 mask a span (context,
/// an earlier wrong answer); other weights grade rows or tokens. Unit: nats per token.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sft {
    /// Normalise by the batch's tokens (true) or row by row (false).
    pub per_token: bool,
}

impl Default for Sft {
    fn default() -> Self {
        Sft { per_token: true }
    }
}

impl Objective for Sft {
    fn name(&self) -> &'static str {
        "sft"
    }

    fn evaluate(&self, scale: &BatchScale, group: &[RowOutput<'_>]) -> (f64, Vec<RowGradient>) {
        let mut loss = 0.0;
        let gradients = group
            .iter()
            .map(|output| {
                let z = if self.per_token { scale.tokens } else { scale.rows * output.row.total_weight() };
                // A fully masked row (or batch) has nothing to learn from.
                let factor = if z > 0.0 { -1.0 / z } else { 0.0 };
                loss += factor * weighted_sum(output.row, output.logprobs);
                RowGradient { logprobs: spread(output.row, factor), ..Default::default() }
            })
            .collect();
        (loss, gradients)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::{TrainingRow, check};

    #[test]
    fn gradient() {
        check::gradient_is_right(&Sft::default(), |_| {});
        check::gradient_is_right(&Sft { per_token: false }, |_| {});
    }

    #[test]
    fn a_masked_span_does_not_count() {
        let row = TrainingRow {
            tokens: vec![5, 6, 7, 8],
            first_target: 1,
            weights: vec![0.0, 1.0, 1.0],
            ..Default::default()
        };
        let batch = vec![vec![row.clone()]];
        let output = RowOutput { row: &row, logprobs: &[-9.0, -1.0, -3.0], entropies: &[], heads: &[] };
        let (loss, gradient) = Sft::default().evaluate(&BatchScale::of(&batch), &[output]);
        assert_eq!(loss, 2.0, "mean of the two unmasked targets");
        assert_eq!(gradient[0].logprobs, [0.0, -0.5, -0.5], "masked target gets no gradient");
    }
}
