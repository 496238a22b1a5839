//! Seeded numbers without a dependency: initial weights and dropout masks that any thread can recompute.

/// One step of the SplitMix64 generator: a well-mixed function of a counter.
pub(crate) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A key that depends on the order of its parts.
pub(crate) fn mix_all(parts: &[u64]) -> u64 {
    parts
        .iter()
        .fold(0x243F_6A88_85A3_08D3, |state, part| mix(state ^ part.wrapping_mul(0xD6E8_FEB8_6659_FD93)))
}

/// Standard normal numbers by the Box–Muller transform.
pub(crate) struct Normal {
    state: u64,
}

impl Normal {
    pub(crate) fn new(seed: u64) -> Self {
        Normal { state: mix(seed) }
    }

    /// Uniform in the open interval (0, 1).
    fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        ((mix(self.state) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Overwrites with normal numbers of mean 0 and the given standard deviation.
    pub(crate) fn fill(&mut self, numbers: &mut [f32], deviation: f32) {
        for pair in numbers.chunks_mut(2) {
            let radius = (-2.0 * self.uniform().ln()).sqrt() * f64::from(deviation);
            let angle = std::f64::consts::TAU * self.uniform();
            for (number, part) in pair.iter_mut().zip([angle.cos(), angle.sin()]) {
                *number = (radius * part) as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_a_normal() {
        let mut numbers = vec![0.0; 200_001];
        Normal::new(3).fill(&mut numbers, 0.5);
        let n = numbers.len() as f64;
        let mean = numbers.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
        let variance = numbers.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 0.005, "mean {mean}");
        assert!((variance.sqrt() - 0.5).abs() < 0.005, "deviation {}", variance.sqrt());
    }

    #[test]
    fn keys_depend_on_order_and_every_part() {
        assert_ne!(mix_all(&[1, 2]), mix_all(&[2, 1]));
        assert_ne!(mix_all(&[0]), mix_all(&[0, 0]));
    }
}
