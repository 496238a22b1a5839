use super::{BatchScale, Objective, ObjectiveNeeds, RowGradient, RowOutput, log_sigmoid, sigmoid};
use serde::{Deserialize, Serialize};

/// Pairwise reward model (Bradley and Terry 1952): `L = − p log σ(r_w − r_l − margin) − (1 − p) log σ(−(…))`.
///
/// `r` is the output of scalar head `head` at the last token of the row; `p` is the pair's soft label (1 without one).
/// Mean over pairs, nats.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BradleyTerry {
    /// Which head, in the model's order.
    pub head: usize,
    /// Wanted distance.
    pub margin: f64,
}

impl Objective for BradleyTerry {
    fn name(&self) -> &'static str {
        "bradley-terry"
    }

    fn group_size(&self) -> usize {
        2
    }

    fn needs(&self) -> ObjectiveNeeds {
        ObjectiveNeeds { heads: true, ..Default::default() }
    }

    fn evaluate(&self, scale: &BatchScale, group: &[RowOutput<'_>]) -> (f64, Vec<RowGradient>) {
        let empty = || (0.0, vec![RowGradient::default(); group.len()]);
        let [chosen, rejected] = group else { return empty() };
        let reward = |output: &RowOutput<'_>| output.heads.get(self.head)?.last().map(|&r| f64::from(r));
        let (Some(rw), Some(rl)) = (reward(chosen), reward(rejected)) else { return empty() };
        let p = chosen.row.preference.map_or(1.0, f64::from);
        let h = rw - rl - self.margin;
        let loss = (-p * log_sigmoid(h) - (1.0 - p) * log_sigmoid(-h)) / scale.groups;
        let slope = (sigmoid(h) - p) / scale.groups;
        let gradient = |output: &RowOutput<'_>, value: f64| {
            let mut heads: Vec<Vec<f32>> = output.heads.iter().map(|h| vec![0.0; h.len()]).collect();
            if let Some(last) = heads[self.head].last_mut() {
                *last = value as f32;
            }
            RowGradient { heads, ..Default::default() }
        };
        (loss, vec![gradient(chosen, slope), gradient(rejected, -slope)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::check;

    #[test]
    fn gradient() {
        check::gradient_is_right(&BradleyTerry::default(), |_| {});
        check::gradient_is_right(&BradleyTerry { head: 0, margin: 0.3 }, |rows| {
            rows[0].preference = Some(0.8)
        });
    }
}
