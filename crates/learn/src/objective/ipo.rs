use super::{BatchScale, Objective, ObjectiveNeeds, RowGradient, RowOutput, spread};
use crate::objective::dpo::log_ratio;
use serde::{Deserialize, Serialize};

/// Identity preference optimisation (arXiv 2310.12036, eq. 17).
///
/// `L = ( h − 1/(2 tau) )²`, `h = (log π(y_w) − log π_ref(y_w)) − (log π(y_l) − log π_ref(y_l))`, mean over pairs.
/// With `per_token` (the default, as the published experiments of later libraries do) each log-ratio is divided by the
/// row's summed weights, so that long responses do not dominate.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ipo {
    /// Regularisation; the margin aimed at is 1/(2 tau).
    pub tau: f64,
    /// Mean instead of summed log-ratios.
    pub per_token: bool,
}

impl Default for Ipo {
    fn default() -> Self {
        Ipo { tau: 0.1, per_token: true }
    }
}

impl Objective for Ipo {
    fn name(&self) -> &'static str {
        "ipo"
    }

    fn group_size(&self) -> usize {
        2
    }

    fn needs(&self) -> ObjectiveNeeds {
        ObjectiveNeeds { reference: true, ..Default::default() }
    }

    fn evaluate(&self, scale: &BatchScale, group: &[RowOutput<'_>]) -> (f64, Vec<RowGradient>) {
        let [chosen, rejected] = group else { return (0.0, vec![RowGradient::default(); group.len()]) };
        let length = |output: &RowOutput<'_>| {
            if self.per_token { output.row.total_weight().max(f64::MIN_POSITIVE) } else { 1.0 }
        };
        let (nw, nl) = (length(chosen), length(rejected));
        let residual = log_ratio(chosen) / nw - log_ratio(rejected) / nl - 1.0 / (2.0 * self.tau);
        let factor = 2.0 * residual / scale.groups;
        let gradient = |output: &RowOutput<'_>, factor| RowGradient {
            logprobs: spread(output.row, factor),
            ..Default::default()
        };
        (
            residual * residual / scale.groups,
            vec![gradient(chosen, factor / nw), gradient(rejected, -factor / nl)],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::check;

    #[test]
    fn gradient() {
        check::gradient_is_right(&Ipo::default(), |_| {});
        check::gradient_is_right(&Ipo { tau: 0.5, per_token: false }, |_| {});
    }
}
