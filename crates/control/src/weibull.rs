//! A mixture of two Weibull distributions, fitted by maximum likelihood: what tells probable paths from improbable
//! ones (arXiv 2502.00511, Reasoning Pruning).
//!
//! With f_W(x; k, λ) = (k/λ) (x/λ)^(k−1) exp(−(x/λ)^k), the density is w f_W(x; k₁, λ₁) + (1 − w) f_W(x; k₂, λ₂).

use elenchus_measure::ln_gamma;

/// Values of which fewer are distinct give no mixture.
pub const LEAST_DISTINCT: usize = 4;

/// Parameters in the order w, k₁, λ₁, k₂, λ₂.
type Parameters = [f64; 5];

/// Start and bounds of the fit, as in the code released with the paper.
const START: Parameters = [0.5, 1.0, 1.0, 1.5, 2.0];
const LOWEST: Parameters = [0.2, 0.01, 0.01, 0.01, 0.01];
const HIGHEST: Parameters = [0.8, f64::INFINITY, f64::INFINITY, f64::INFINITY, f64::INFINITY];

/// The fit ends when no projected slope is above this, …
const SLOPE: f64 = 1e-5;
/// … when a step lowers the likelihood by less than this share, …
const PROGRESS: f64 = 2.2e-9;
/// … or after so many steps.
const STEPS: usize = 300;

/// One Weibull distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weibull {
    /// Shape k > 0.
    pub shape: f64,
    /// Scale λ > 0.
    pub scale: f64,
}

impl Weibull {
    /// λ Γ(1 + 1/k)
    pub fn mean(&self) -> f64 {
        self.scale * ln_gamma(1.0 + 1.0 / self.shape).exp()
    }

    /// The density at x > 0.
    pub fn density(&self, x: f64) -> f64 {
        // Through the logarithm: far from a narrow component the power overflows while the density is 0.
        let power = self.shape * (x.ln() - self.scale.ln());
        (self.shape.ln() - x.ln() + power - power.exp()).exp()
    }
}

/// A mixture of two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WeibullMixture {
    /// Weight of the component with the larger mean.
    pub weight: f64,
    /// The component with the larger mean.
    pub high: Weibull,
    /// The other one.
    pub low: Weibull,
}

impl WeibullMixture {
    /// Fits a mixture to values in (0, 1]: bounded quasi-Newton descent (BFGS on the free variables, projected steps)
    /// from w = 0.5, (k₁, λ₁) = (1, 1), (k₂, λ₂) = (1.5, 2), with w in [0.2, 0.8] and the others at least 0.01. Finds a
    /// local optimum; deterministic.
    ///
    /// `None` with fewer than [`LEAST_DISTINCT`] distinct values, and where the likelihood is not finite (a value of 0,
    /// or a component that contracts on one value).
    pub fn fit(values: &[f64]) -> Option<WeibullMixture> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted.dedup();
        if sorted.len() < LEAST_DISTINCT {
            return None;
        }
        let logs: Vec<f64> = values.iter().map(|value| value.ln()).collect();
        let best = descend(&logs)?;
        let [weight, k1, l1, k2, l2] = best;
        let (one, two) = (Weibull { shape: k1, scale: l1 }, Weibull { shape: k2, scale: l2 });
        Some(match one.mean() >= two.mean() {
            true => WeibullMixture { weight, high: one, low: two },
            false => WeibullMixture { weight: 1.0 - weight, high: two, low: one },
        })
    }

    /// −Σ ln f(x)
    pub fn negative_log_likelihood(&self, values: &[f64]) -> f64 {
        let density = |x| self.weight * self.high.density(x) + (1.0 - self.weight) * self.low.density(x);
        -values.iter().map(|&x| density(x).ln()).sum::<f64>()
    }

    /// Probability that x belongs to the component with the larger mean: w f_high / (w f_high + (1 − w) f_low). Not a
    /// number where both densities vanish.
    pub fn probability_high(&self, x: f64) -> f64 {
        let high = self.weight * self.high.density(x);
        high / (high + (1.0 - self.weight) * self.low.density(x))
    }
}

/// Negative log-likelihood and its gradient at `p`, from the logarithms of the values.
///
/// With u = k (ln x − ln λ) and t = eᵘ: ln f_W = ln k − ln x + u − t, ∂ ln f_W/∂k = 1/k + (1 − t)(ln x − ln λ),
/// ∂ ln f_W/∂λ = (t − 1) k/λ. Two exponentials per value and component, which is what a fit costs.
fn likelihood(p: &Parameters, logs: &[f64]) -> (f64, Parameters) {
    let [w, k1, l1, k2, l2] = *p;
    let (ln_l1, ln_l2) = (l1.ln(), l2.ln());
    let (ln_k1, ln_k2) = (k1.ln(), k2.ln());
    let mut value = 0.0;
    let mut gradient = [0.0; 5];
    for &log in logs {
        let (d1, d2) = (log - ln_l1, log - ln_l2);
        let (u1, u2) = (k1 * d1, k2 * d2);
        let (t1, t2) = (u1.exp(), u2.exp());
        // x f(x): the factor 1/x is the same in both components.
        let (f1, f2) = ((ln_k1 + u1 - t1).exp(), (ln_k2 + u2 - t2).exp());
        let f = w * f1 + (1.0 - w) * f2;
        value -= f.ln() - log;
        let (r1, r2) = (w * f1 / f, (1.0 - w) * f2 / f);
        gradient[0] -= (f1 - f2) / f;
        // A component that does not reach the value has no slope there, though t may be infinite.
        if r1 > 0.0 {
            gradient[1] -= r1 * (1.0 / k1 + (1.0 - t1) * d1);
            gradient[2] -= r1 * (t1 - 1.0) * k1 / l1;
        }
        if r2 > 0.0 {
            gradient[3] -= r2 * (1.0 / k2 + (1.0 - t2) * d2);
            gradient[4] -= r2 * (t2 - 1.0) * k2 / l2;
        }
    }
    (value, gradient)
}

fn finite(value: f64, gradient: &Parameters) -> bool {
    value.is_finite() && gradient.iter().all(|slope| slope.is_finite())
}

fn dot(left: &Parameters, right: &Parameters) -> f64 {
    left.iter().zip(right).map(|(l, r)| l * r).sum()
}

fn identity() -> [Parameters; 5] {
    std::array::from_fn(|row| std::array::from_fn(|column| f64::from(u8::from(row == column))))
}

fn descend(logs: &[f64]) -> Option<Parameters> {
    let mut point = START;
    let (mut value, mut gradient) = likelihood(&point, logs);
    if !finite(value, &gradient) {
        return None;
    }
    let mut inverse = identity();
    let mut fresh = true;
    for _ in 0..STEPS {
        // A variable at a bound that the slope pushes outward is not free.
        let free: [bool; 5] = std::array::from_fn(|i| {
            !(point[i] <= LOWEST[i] && gradient[i] > 0.0 || point[i] >= HIGHEST[i] && gradient[i] < 0.0)
        });
        let slope: Parameters = std::array::from_fn(|i| if free[i] { gradient[i] } else { 0.0 });
        if slope.iter().all(|s| s.abs() <= SLOPE) {
            break;
        }
        let newton: Parameters =
            std::array::from_fn(|row| if free[row] { -dot(&inverse[row], &slope) } else { 0.0 });
        let direction = if dot(&newton, &gradient) < 0.0 {
            newton
        } else {
            (inverse, fresh) = (identity(), true);
            slope.map(|s| -s)
        };
        let mut length = if fresh { (1.0 / dot(&slope, &slope).sqrt()).min(1.0) } else { 1.0 };
        let mut next = None;
        for _ in 0..40 {
            let trial: Parameters =
                std::array::from_fn(|i| (point[i] + length * direction[i]).clamp(LOWEST[i], HIGHEST[i]));
            let step: Parameters = std::array::from_fn(|i| trial[i] - point[i]);
            let (there, slopes) = likelihood(&trial, logs);
            // Cut at a bound, a step may lead nowhere or up the slope: it has to gain all the same.
            let moves = step.iter().any(|s| *s != 0.0);
            if moves && finite(there, &slopes) && there <= value + 1e-4 * dot(&gradient, &step).min(0.0) {
                next = Some((trial, step, there, slopes));
                break;
            }
            // The lowest point of the parabola through what is known: halving took 700 evaluations per fit to 64 values
            // where this takes 270.
            let slope_along = dot(&gradient, &step);
            let bend = there - value - slope_along;
            length *= if there.is_finite() && bend > 0.0 {
                (-0.5 * slope_along / bend).clamp(0.1, 0.5)
            } else {
                0.1
            };
        }
        let Some((trial, step, there, slopes)) = next else {
            if fresh {
                break;
            }
            // The curvature that was learnt misleads: once more down the slope.
            (inverse, fresh) = (identity(), true);
            continue;
        };
        let change: Parameters = std::array::from_fn(|i| slopes[i] - gradient[i]);
        update(&mut inverse, &step, &change);
        fresh = false;
        let gained = (value - there) / value.abs().max(there.abs()).max(1.0);
        (point, value, gradient) = (trial, there, slopes);
        if gained <= PROGRESS {
            break;
        }
    }
    Some(point)
}

/// The BFGS update of the inverse Hessian, left out where the curvature along the step is not positive.
fn update(inverse: &mut [Parameters; 5], step: &Parameters, change: &Parameters) {
    let curvature = dot(step, change);
    if curvature <= 1e-12 * dot(change, change).max(f64::MIN_POSITIVE) {
        return;
    }
    let along: Parameters = std::array::from_fn(|row| dot(&inverse[row], change));
    let scale = (1.0 + dot(change, &along) / curvature) / curvature;
    for row in 0..5 {
        for column in 0..5 {
            inverse[row][column] += scale * step[row] * step[column]
                - (along[row] * step[column] + step[row] * along[column]) / curvature;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHEET: WeibullMixture = WeibullMixture {
        weight: 0.5,
        high: Weibull { shape: 8.0, scale: 0.9 },
        low: Weibull { shape: 2.0, scale: 0.4 },
    };
    const PATHS: [f64; 6] = [0.85, 0.80, 0.62, 0.55, 0.50, 0.30];

    #[test]
    fn the_numbers_of_the_sheet() {
        assert!((SHEET.high.mean() - 0.84757).abs() < 1e-5);
        assert!((SHEET.low.mean() - 0.35449).abs() < 1e-5);
        let wanted = [0.964569, 0.935111, 0.470076, 0.210943, 0.098958, 0.001898];
        for (x, wanted) in PATHS.into_iter().zip(wanted) {
            assert!((SHEET.probability_high(x) - wanted).abs() < 1e-6, "{x}: {}", SHEET.probability_high(x));
        }
        assert!((SHEET.negative_log_likelihood(&PATHS) - 0.2436230745).abs() < 1e-9);
    }

    #[test]
    fn the_gradient_is_that_of_the_likelihood() {
        let logs: Vec<f64> = PATHS.iter().map(|x| x.ln()).collect();
        let at = [0.4, 3.0, 0.8, 2.0, 0.4];
        let (_, gradient) = likelihood(&at, &logs);
        for index in 0..5 {
            let moved = |by: f64| {
                let mut there = at;
                there[index] += by;
                likelihood(&there, &logs).0
            };
            let slope = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            assert!((slope - gradient[index]).abs() < 1e-6, "{index}: {slope} {}", gradient[index]);
        }
    }

    #[test]
    fn a_known_mixture_is_found_again() {
        // Quantiles of the two components, 60 of each: x = λ (−ln(1 − q))^(1/k).
        let quantiles = |w: Weibull| {
            (0..60).map(move |i| w.scale * (-(1.0 - (i as f64 + 0.5) / 60.0).ln()).powf(1.0 / w.shape))
        };
        let values: Vec<f64> = quantiles(Weibull { shape: 20.0, scale: 0.9 })
            .chain(quantiles(Weibull { shape: 5.0, scale: 0.4 }))
            .collect();
        let found = WeibullMixture::fit(&values).unwrap();
        assert!((found.weight - 0.5).abs() < 0.05, "{found:?}");
        assert!((found.high.scale - 0.9).abs() < 0.02 && (found.low.scale - 0.4).abs() < 0.02, "{found:?}");
        assert!((found.high.shape - 20.0).abs() < 3.0 && (found.low.shape - 5.0).abs() < 1.0, "{found:?}");
    }

    #[test]
    fn too_few_distinct_values_and_zeros_give_no_mixture() {
        assert_eq!(WeibullMixture::fit(&[0.5, 0.5, 0.4, 0.3, 0.3]), None);
        assert_eq!(WeibullMixture::fit(&[]), None);
        assert_eq!(WeibullMixture::fit(&[0.0, 0.2, 0.3, 0.4]), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_fit_is_never_worse_than_its_start(values in prop::collection::vec(0.001f64..1.0, 4..80)) {
            if let Some(found) = WeibullMixture::fit(&values) {
                let logs: Vec<f64> = values.iter().map(|x| x.ln()).collect();
                let (after, before) = (found.negative_log_likelihood(&values), likelihood(&START, &logs).0);
                prop_assert!(after <= before + 1e-9, "{after} after {before}: {found:?}");
                prop_assert!(found.high.mean() >= found.low.mean());
                prop_assert!((0.2 - 1e-12..=0.8 + 1e-12).contains(&found.weight));
            }
        }

        #[test]
        fn near_equal_values_end(base in 0.1f64..0.9, noise in prop::collection::vec(0.0f64..1e-9, 4..20)) {
            let values: Vec<f64> = noise.iter().map(|n| base + n).collect();
            if let Some(found) = WeibullMixture::fit(&values) {
                prop_assert!(found.high.shape.is_finite() && found.low.scale.is_finite());
            }
        }
    }
}
