use super::{BatchScale, Objective, RowGradient, RowOutput, log_sigmoid, sigmoid, spread, weighted_sum};
use serde::{Deserialize, Serialize};

/// Odds-ratio preference optimisation (arXiv 2403.07691, eq. 6): no reference model.
///
/// With `m(y)` the mean log-probability per token and `log odds(y) = m − log(1 − e^m)`,
/// `L = − m(y_w) + lambda · ( − log σ( log odds(y_w) − log odds(y_l) ) )`, mean over pairs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Orpo {
    /// Weight of the odds-ratio term.
    pub lambda: f64,
}

impl Default for Orpo {
    fn default() -> Self {
        Orpo { lambda: 0.1 }
    }
}

/// `(m, log odds, d log odds / d m)` with `d log odds / d m = 1 / (1 − e^m)`.
fn odds(output: &RowOutput<'_>, length: f64) -> (f64, f64, f64) {
    // A certain response (m = 0) has infinite odds; keep a distance that f32 log-probabilities can still resolve.
    let m = (weighted_sum(output.row, output.logprobs) / length).min(-1e-7);
    let rest = -m.exp_m1();
    (m, m - rest.ln(), 1.0 / rest)
}

impl Objective for Orpo {
    fn name(&self) -> &'static str {
        "orpo"
    }

    fn group_size(&self) -> usize {
        2
    }

    fn evaluate(&self, scale: &BatchScale, group: &[RowOutput<'_>]) -> (f64, Vec<RowGradient>) {
        let [chosen, rejected] = group else { return (0.0, vec![RowGradient::default(); group.len()]) };
        let length = |output: &RowOutput<'_>| output.row.total_weight().max(f64::MIN_POSITIVE);
        let (nw, nl) = (length(chosen), length(rejected));
        let (mw, odds_w, slope_w) = odds(chosen, nw);
        let (_, odds_l, slope_l) = odds(rejected, nl);
        let margin = odds_w - odds_l;
        let loss = (-mw - self.lambda * log_sigmoid(margin)) / scale.groups;
        let pull = self.lambda * sigmoid(-margin);
        let gradient = |output: &RowOutput<'_>, factor: f64| RowGradient {
            logprobs: spread(output.row, factor / scale.groups),
            ..Default::default()
        };
        (loss, vec![gradient(chosen, (-1.0 - pull * slope_w) / nw), gradient(rejected, pull * slope_l / nl)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::check;

    #[test]
    fn gradient() {
        check::gradient_is_right(&Orpo::default(), |_| {});
        check::gradient_is_right(&Orpo { lambda: 2.0 }, |_| {});
    }
}
