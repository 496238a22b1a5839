//! Learning-rate schedules.

use serde::{Deserialize, Serialize};

/// How the learning rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// Stays at 1.
    #[default]
    Constant,
    /// Straight from 1 to the floor.
    Linear,
    /// Half a cosine from 1 to the floor (Loshchilov and Hutter 2016, arXiv 1608.03983).
    Cosine,
}

/// A factor on the learning rate for every step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// Shape of the fall.
    pub decay: Decay,
    /// Steps of the linear rise from `1 / (warmup_steps + 1)` to 1.
    pub warmup_steps: u64,
    /// Steps of the whole run, warm-up included; from here on the factor is the floor. Unused by a constant.
    pub total_steps: u64,
    /// Smallest factor of the fall, 0..=1.
    pub floor: f32,
}

impl Default for Schedule {
    fn default() -> Self {
        Schedule { decay: Decay::Constant, warmup_steps: 0, total_steps: 0, floor: 0.0 }
    }
}

impl Schedule {
    /// The factor for step `step`, counted from 0.
    ///
    /// During warm-up `(step + 1) / (warmup_steps + 1)`. Then, with
    /// `p = (step - warmup_steps) / (total_steps - warmup_steps)` cut to 0..=1: `1`, `1 - (1 - floor) p`,
    /// or `floor + (1 - floor) (1 + cos πp) / 2`.
    pub fn at(&self, step: u64) -> f32 {
        if step < self.warmup_steps {
            return (step + 1) as f32 / (self.warmup_steps + 1) as f32;
        }
        let falling = self.total_steps.saturating_sub(self.warmup_steps).max(1);
        let progress = ((step - self.warmup_steps) as f64 / falling as f64).min(1.0) as f32;
        let range = 1.0 - self.floor;
        match self.decay {
            Decay::Constant => 1.0,
            Decay::Linear => 1.0 - range * progress,
            Decay::Cosine => self.floor + range * 0.5 * (1.0 + (std::f32::consts::PI * progress).cos()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_have_their_corner_values() {
        let at = |decay, step| Schedule { decay, warmup_steps: 4, total_steps: 14, floor: 0.1 }.at(step);
        for decay in [Decay::Constant, Decay::Linear, Decay::Cosine] {
            assert!((at(decay, 0) - 0.2).abs() < 1e-6, "warm-up starts above zero");
            assert!((at(decay, 3) - 0.8).abs() < 1e-6, "warm-up ends below one");
            assert!((at(decay, 4) - 1.0).abs() < 1e-6, "the fall starts at one");
        }
        for decay in [Decay::Linear, Decay::Cosine] {
            assert!((at(decay, 9) - 0.55).abs() < 1e-6, "half way between one and the floor");
            assert!((at(decay, 14) - 0.1).abs() < 1e-6, "the end is the floor");
            assert!((at(decay, 900) - 0.1).abs() < 1e-6, "after the end it stays there");
        }
        assert_eq!(at(Decay::Constant, 900), 1.0);
        assert_eq!(Schedule::default().at(7), 1.0, "the default changes nothing");
    }
}
