use super::{BatchScale, Objective, ObjectiveNeeds, RowGradient, RowOutput};
use serde::{Deserialize, Serialize};

/// How a KL penalty to the reference is estimated from one sampled token, with `d = log π − log π_ref`
/// (Schulman, "Approximating KL divergence", 2020).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlEstimator {
    /// `d`: unbiased, high variance. Its gradient alone is a constant: use it in the reward, not here, when in doubt.
    K1,
    /// `d²/2`: biased, low variance.
    K2,
    /// `e^−d + d − 1`: unbiased, never negative (GRPO).
    K3,
}

/// What a row's token terms are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalisation {
    /// The summed weights of the batch: every token counts the same (DAPO).
    Token,
    /// The row's own summed weights, then the mean over rows: every response counts the same (GRPO).
    Sequence,
    /// A constant length, then the mean over rows: no length bias (Dr. GRPO).
    Constant(u32),
}

/// Clipped policy gradient with KL and entropy terms: REINFORCE, RLOO, GRPO by choice of [`advantages`] and switches.
///
/// Per target token, with `ρ = exp(log π − log π_old)` and advantage A of the response:
/// `L = − min(ρ A, clip(ρ, 1 − clip_low, 1 + clip_high) A) + kl · KL − entropy · H`.
/// Without `behaviour` log-probabilities the sample is on-policy: ρ = 1 and the gradient is the plain `−A ∇ log π`.
/// `clip_low`/`clip_high` of 0 switch clipping off.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyGradient {
    /// ε below 1.
    pub clip_low: f64,
    /// ε above 1.
    pub clip_high: f64,
    /// Coefficient of the KL penalty; 0 needs no reference.
    pub kl: f64,
    /// Its estimator.
    pub kl_estimator: KlEstimator,
    /// Coefficient of the entropy bonus; 0 computes no entropies.
    pub entropy: f64,
    /// What token terms are divided by.
    pub normalisation: Normalisation,
}

impl Default for PolicyGradient {
    fn default() -> Self {
        PolicyGradient {
            clip_low: 0.2,
            clip_high: 0.2,
            kl: 0.0,
            kl_estimator: KlEstimator::K3,
            entropy: 0.0,
            normalisation: Normalisation::Token,
        }
    }
}

impl Objective for PolicyGradient {
    fn name(&self) -> &'static str {
        "policy-gradient"
    }

    fn needs(&self) -> ObjectiveNeeds {
        ObjectiveNeeds { reference: self.kl != 0.0, entropies: self.entropy != 0.0, heads: false }
    }

    fn evaluate(&self, scale: &BatchScale, group: &[RowOutput<'_>]) -> (f64, Vec<RowGradient>) {
        let mut loss = 0.0;
        let gradients = group
            .iter()
            .map(|output| {
                let row = output.row;
                let z = match self.normalisation {
                    Normalisation::Token => scale.tokens,
                    Normalisation::Sequence => scale.rows * row.total_weight(),
                    Normalisation::Constant(length) => scale.rows * f64::from(length.max(1)),
                };
                if z <= 0.0 {
                    return RowGradient::default();
                }
                let advantage = f64::from(row.advantage);
                let mut gradient = vec![0.0f32; row.targets()];
                let mut entropies = vec![0.0f32; if self.entropy != 0.0 { row.targets() } else { 0 }];
                for (i, &logprob) in output.logprobs.iter().enumerate() {
                    let weight = f64::from(row.weight(i)) / z;
                    let logprob = f64::from(logprob);
                    let old = row.behaviour.get(i).map_or(logprob, |&l| f64::from(l));
                    let ratio = (logprob - old).exp();
                    let clipping = self.clip_low > 0.0 || self.clip_high > 0.0;
                    let clipped = ratio.clamp(1.0 - self.clip_low, 1.0 + self.clip_high);
                    let (mut value, mut slope) = if clipping && clipped * advantage < ratio * advantage {
                        (-clipped * advantage, 0.0)
                    } else {
                        (-ratio * advantage, -ratio * advantage)
                    };
                    if self.kl != 0.0 {
                        let d = logprob - row.reference.get(i).map_or(logprob, |&l| f64::from(l));
                        let (kl, kl_slope) = match self.kl_estimator {
                            KlEstimator::K1 => (d, 1.0),
                            KlEstimator::K2 => (d * d / 2.0, d),
                            KlEstimator::K3 => ((-d).exp() + d - 1.0, 1.0 - (-d).exp()),
                        };
                        value += self.kl * kl;
                        slope += self.kl * kl_slope;
                    }
                    if let (Some(&h), Some(slot)) = (output.entropies.get(i), entropies.get_mut(i)) {
                        value -= self.entropy * f64::from(h);
                        *slot = (-self.entropy * weight) as f32;
                    }
                    loss += weight * value;
                    gradient[i] = (weight * slope) as f32;
                }
                RowGradient { logprobs: gradient, entropies, heads: Vec::new() }
            })
            .collect();
        (loss, gradients)
    }
}

/// How rewards of the samples of one problem become advantages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Advantage {
    /// `A_i = r_i`: plain REINFORCE.
    Reward,
    /// `A_i = r_i − mean of the others` (RLOO, arXiv 2402.14740).
    LeaveOneOut,
    /// `A_i = r_i − mean` (Dr. GRPO).
    Centred,
    /// `A_i = (r_i − mean) / (standard deviation + 1e-6)` (GRPO, arXiv 2402.03300), population deviation.
    Standardised,
}

/// Advantages of the samples of one problem.
pub fn advantages(rewards: &[f64], kind: Advantage) -> Vec<f64> {
    let n = rewards.len() as f64;
    let mean = rewards.iter().sum::<f64>() / n.max(1.0);
    match kind {
        Advantage::Reward => rewards.to_vec(),
        Advantage::LeaveOneOut if rewards.len() > 1 => {
            rewards.iter().map(|r| r - (mean * n - r) / (n - 1.0)).collect()
        }
        Advantage::LeaveOneOut | Advantage::Centred => rewards.iter().map(|r| r - mean).collect(),
        Advantage::Standardised => {
            let deviation = (rewards.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / n.max(1.0)).sqrt();
            rewards.iter().map(|r| (r - mean) / (deviation + 1e-6)).collect()
        }
    }
}

/// Share of groups whose rewards differ: the others give no gradient under a centred advantage.
pub fn effective_group_share(groups: &[Vec<f64>]) -> f64 {
    let effective = groups.iter().filter(|g| g.windows(2).any(|w| w[0] != w[1])).count();
    effective as f64 / groups.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::check;

    #[test]
    fn gradient() {
        for kl_estimator in [KlEstimator::K1, KlEstimator::K2, KlEstimator::K3] {
            for normalisation in [Normalisation::Token, Normalisation::Sequence, Normalisation::Constant(7)] {
                let objective = PolicyGradient {
                    kl: 0.3,
                    kl_estimator,
                    entropy: 0.1,
                    normalisation,
                    ..Default::default()
                };
                check::gradient_is_right(&objective, |_| {});
            }
        }
        check::gradient_is_right(
            &PolicyGradient { clip_low: 0.0, clip_high: 0.0, ..Default::default() },
            |_| {},
        );
    }

    #[test]
    fn on_policy_is_reinforce() {
        let row = crate::objective::TrainingRow {
            tokens: vec![0; 3],
            first_target: 1,
            advantage: 2.0,
            ..Default::default()
        };
        let scale = BatchScale::of(&[vec![row.clone()]]);
        let output = RowOutput { row: &row, logprobs: &[-1.0, -0.2], entropies: &[], heads: &[] };
        let (_, gradient) = PolicyGradient::default().evaluate(&scale, &[output]);
        assert_eq!(gradient[0].logprobs, [-1.0, -1.0], "−A / tokens, whatever the log-probability");
    }

    #[test]
    fn advantages_of_one_group() {
        let r = [1.0, 0.0, 0.0, 1.0];
        assert_eq!(advantages(&r, Advantage::Reward), r);
        let rloo = advantages(&r, Advantage::LeaveOneOut);
        assert!((rloo[0] - 2.0 / 3.0).abs() < 1e-12 && (rloo[1] + 2.0 / 3.0).abs() < 1e-12, "leave one out");
        assert_eq!(advantages(&r, Advantage::Centred), [0.5, -0.5, -0.5, 0.5]);
        assert!((advantages(&r, Advantage::Standardised)[0] - 1.0).abs() < 1e-5, "deviation is 1/2");
        assert_eq!(
            advantages(&[1.0, 1.0], Advantage::Standardised),
            [0.0, 0.0],
            "no signal in equal rewards"
        );
        assert_eq!(effective_group_share(&[vec![1.0, 1.0], vec![0.0, 1.0]]), 0.5);
    }
}
