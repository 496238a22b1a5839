//! A against B on the same questions: paired differences with interval, exact McNemar test, effect size, and the
//! verdict in a plain sentence.

use crate::error::finite;
use crate::format::{decimals, points, tokens};
use crate::sampling::sign_test;
use crate::{Bootstrap, Interval, MeasureError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a comparison comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preference {
    /// The interval of A − B lies above 0.
    First,
    /// The interval of A − B lies below 0.
    Second,
    /// The interval holds 0.
    Undecided,
}

impl Preference {
    /// Reads the preference off an interval of A − B.
    pub fn of(difference: &Interval) -> Self {
        if difference.low > 0.0 {
            Preference::First
        } else if difference.high < 0.0 {
            Preference::Second
        } else {
            Preference::Undecided
        }
    }
}

/// Exact McNemar test: among the questions where only one of the two is right, is it a fair coin which one?
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct McNemar {
    /// Questions that both have right.
    pub both: usize,
    /// Questions that only A has right.
    pub only_first: usize,
    /// Questions that only B has right.
    pub only_second: usize,
    /// Questions that neither has right.
    pub neither: usize,
    /// Two-sided exact p-value: min(1, 2 Σ_{i ≤ min} C(n, i) / 2ⁿ) with n = `only_first` + `only_second`.
    pub p_value: f64,
}

/// How large a difference is, free of the number of questions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EffectSize {
    /// Mean of the paired differences divided by their standard deviation; `None` when all differences are equal.
    pub standardised: Option<f64>,
    /// Cohen's h = 2 asin √a − 2 asin √b of the two means; `None` when they are no shares.
    pub cohen_h: Option<f64>,
    /// Odds ratio of the discordant questions, `only_first` / `only_second`; `None` for graded outcomes, or when
    /// there is no question that only B has right.
    pub odds_ratio: Option<f64>,
}

/// A against B on the same questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// Name of A.
    pub first: String,
    /// Name of B.
    pub second: String,
    /// Questions.
    pub questions: usize,
    /// Mean of A with its bootstrap interval.
    pub first_mean: Interval,
    /// Mean of B with its bootstrap interval.
    pub second_mean: Interval,
    /// Mean of A − B with its interval, from the paired bootstrap.
    pub difference: Interval,
    /// What follows from the interval of the difference.
    pub preference: Preference,
    /// Exact McNemar test, when every outcome is 0 or 1.
    pub mcnemar: Option<McNemar>,
    /// Effect size.
    pub effect: EffectSize,
    /// The verdict in words.
    pub sentence: String,
}

/// Compares per-question values (1 or 0 for right and wrong, or any mean over samples) of A and B, question by question.
///
/// Both lists have the questions in the same order. The interval is of the mean difference over questions, resampled
/// in pairs, so that what is hard for both does not blur the difference.
///
/// # Errors
/// Lengths differ, no questions, a value that is not finite, or bad bootstrap settings.
pub fn compare(
    first_name: &str,
    first: &[f64],
    second_name: &str,
    second: &[f64],
    bootstrap: &Bootstrap,
) -> Result<Comparison, MeasureError> {
    let what = format!("comparison of `{first_name}` with `{second_name}`");
    if first.len() != second.len() {
        return Err(MeasureError::length(
            &what,
            first.len(),
            second.len(),
            "a paired comparison needs one value of each for every question: run both on the same problems",
        ));
    }
    bootstrap.check(&what, first.len())?;
    finite(first_name, first)?;
    finite(second_name, second)?;
    let differences: Vec<f64> = first.iter().zip(second).map(|(a, b)| a - b).collect();
    let difference = bootstrap.mean(&differences)?;
    let (first_mean, second_mean) = (bootstrap.mean(first)?, bootstrap.mean(second)?);
    let binary = |values: &[f64]| values.iter().all(|v| *v == 0.0 || *v == 1.0);
    let mcnemar = if binary(first) && binary(second) {
        let right = |values: &[f64]| values.iter().map(|v| *v == 1.0).collect::<Vec<_>>();
        Some(mcnemar(&right(first), &right(second))?)
    } else {
        None
    };
    // On a handful of questions resampling knows no spread: there the exact test has the last word, and below the
    // fewest questions that a two-sided test of signs can tell anything from, nothing has.
    let possible = mcnemar.as_ref().map_or(0.5f64.powi(first.len() as i32 - 1), |found| found.p_value);
    let preference = match possible > 1.0 - bootstrap.level {
        true => Preference::Undecided,
        false => Preference::of(&difference),
    };
    let effect =
        effect_size(&differences, difference.value, first_mean.value, second_mean.value, mcnemar.as_ref());
    Ok(Comparison {
        first: first_name.to_string(),
        second: second_name.to_string(),
        questions: first.len(),
        first_mean,
        second_mean,
        difference,
        preference,
        mcnemar,
        effect,
        sentence: verdict_sentence(first_name, second_name, &difference, bootstrap.level, preference),
    })
}

fn effect_size(differences: &[f64], mean: f64, a: f64, b: f64, mcnemar: Option<&McNemar>) -> EffectSize {
    let n = differences.len() as f64;
    let variance = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    let share = |v: f64| (0.0..=1.0).contains(&v);
    EffectSize {
        standardised: (variance > 0.0).then(|| mean / variance.sqrt()),
        cohen_h: (share(a) && share(b)).then(|| 2.0 * (a.sqrt().asin() - b.sqrt().asin())),
        odds_ratio: mcnemar
            .and_then(|m| (m.only_second > 0).then(|| m.only_first as f64 / m.only_second as f64)),
    }
}

/// The verdict on a difference of shares A − B in words, in percentage points with the interval.
///
/// `A is better than B by 3.2 points (95 % 1.1 to 5.3).`, or that it cannot be told.
pub fn verdict_sentence(
    first: &str,
    second: &str,
    difference: &Interval,
    level: f64,
    preference: Preference,
) -> String {
    let end = |v: f64| decimals(v * 100.0, 1);
    let level = decimals(level * 100.0, if (level * 100.0).fract().abs() < 1e-9 { 0 } else { 1 });
    match preference {
        Preference::First => format!(
            "{first} is better than {second} by {} points ({level} % {} to {}).",
            end(difference.value),
            end(difference.low),
            end(difference.high)
        ),
        Preference::Second => format!(
            "{second} is better than {first} by {} points ({level} % {} to {}).",
            end(-difference.value),
            end(-difference.high),
            end(-difference.low)
        ),
        Preference::Undecided => format!(
            "It cannot be told whether {first} or {second} is better: the difference is {} points ({level} % {} to {}).",
            points(difference.value),
            end(difference.low),
            end(difference.high)
        ),
    }
}

/// Exact McNemar test of paired outcomes.
///
/// # Errors
/// Lengths differ or there are no questions.
pub fn mcnemar(first: &[bool], second: &[bool]) -> Result<McNemar, MeasureError> {
    if first.len() != second.len() {
        return Err(MeasureError::length(
            "McNemar test",
            first.len(),
            second.len(),
            "give both outcomes for every question",
        ));
    }
    if first.is_empty() {
        return Err(MeasureError::empty("McNemar test", "give at least one question"));
    }
    let count = |a: bool, b: bool| first.iter().zip(second).filter(|(x, y)| **x == a && **y == b).count();
    let (only_first, only_second) = (count(true, false), count(false, true));
    Ok(McNemar {
        both: count(true, true),
        only_first,
        only_second,
        neither: count(false, false),
        p_value: sign_test(only_first, only_second),
    })
}

/// Holm's step-down correction: adjusted p-values in the order given.
///
/// With p₍₁₎ ≤ … ≤ p₍ₘ₎: adjusted p₍ᵢ₎ = max_{j ≤ i} min(1, (m − j + 1) p₍ⱼ₎). Rejecting every adjusted value below α
/// keeps the chance of any false rejection below α.
///
/// # Errors
/// A p-value that is NaN or outside [0, 1].
pub fn holm(p_values: &[f64]) -> Result<Vec<f64>, MeasureError> {
    if let Some(at) = p_values.iter().position(|p| !(0.0..=1.0).contains(p)) {
        return Err(MeasureError::value(
            format!("Holm correction, p-value {at}"),
            format!("`{}` is not a probability", p_values[at]),
            "p-values are between 0 and 1",
        ));
    }
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut largest = 0.0f64;
    for (place, &index) in order.iter().enumerate() {
        largest = largest.max(((p_values.len() - place) as f64 * p_values[index]).min(1.0));
        adjusted[index] = largest;
    }
    Ok(adjusted)
}

/// Two-sided p-value of a paired difference by random sign flips, for graded outcomes where McNemar does not apply:
/// the share of flips with a mean at least as far from 0 as observed, (count + 1) / (flips + 1).
///
/// # Errors
/// No values, a value that is not finite, or no flips.
pub fn sign_flip_test(differences: &[f64], flips: usize, seed: u64) -> Result<f64, MeasureError> {
    if differences.is_empty() || flips == 0 {
        return Err(MeasureError::empty("sign-flip test", "give at least one difference and one flip"));
    }
    finite("sign-flip test", differences)?;
    let observed = differences.iter().sum::<f64>().abs();
    // Rounding must not make a flip that gives the same sum look smaller.
    let bound = observed - 1e-12 * differences.iter().map(|d| d.abs()).sum::<f64>();
    let mut draws = crate::bootstrap::Draws::new(seed);
    let mut extreme = 0usize;
    for _ in 0..flips {
        let mut sum = 0.0;
        for part in differences.chunks(64) {
            let mut bits = draws.bits();
            for d in part {
                sum += if bits & 1 == 1 { *d } else { -d };
                bits >>= 1;
            }
        }
        extreme += usize::from(sum.abs() >= bound);
    }
    Ok((extreme + 1) as f64 / (flips + 1) as f64)
}

/// What both sides of a comparison spent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TokenBudget {
    /// Tokens of A, all that was generated and read for it.
    pub first: u64,
    /// Tokens of B.
    pub second: u64,
    /// Whether they differ by at most [`TokenBudget::TOLERANCE`] of the larger.
    pub equal: bool,
    /// The statement in words.
    pub sentence: String,
}

impl TokenBudget {
    /// Share of the larger budget up to which two budgets count as equal.
    pub const TOLERANCE: f64 = 0.05;

    /// States whether a comparison was at equal token budget.
    pub fn new(first_name: &str, first: u64, second_name: &str, second: u64) -> Self {
        let (small, large) = (first.min(second), first.max(second));
        let apart = if large == 0 { 0.0 } else { (large - small) as f64 / large as f64 };
        let equal = apart <= Self::TOLERANCE;
        let spent = format!("{first_name} spent {} tokens, {second_name} {}", tokens(first), tokens(second));
        let sentence = if equal {
            format!("Equal token budget: {spent} ({} % apart).", decimals(apart * 100.0, 1))
        } else {
            let (rich, poor) =
                if first > second { (first_name, second_name) } else { (second_name, first_name) };
            let factor = if small == 0 {
                String::new()
            } else {
                format!(
                    ", {} times as many for {rich} as for {poor}",
                    decimals(large as f64 / small as f64, 2)
                )
            };
            format!("Not at equal token budget: {spent}{factor}.")
        };
        TokenBudget { first, second, equal, sentence }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values(bits: &[u8]) -> Vec<f64> {
        bits.iter().map(|&b| f64::from(b)).collect()
    }

    #[test]
    fn a_clear_difference_is_said_so() {
        let a: Vec<f64> = (0..1000).map(|i| f64::from(u8::from(i % 10 < 6))).collect();
        let b: Vec<f64> = (0..1000).map(|i| f64::from(u8::from(i % 10 < 5))).collect();
        let c = compare("A", &a, "B", &b, &Bootstrap::default()).unwrap();
        assert_eq!(c.preference, Preference::First);
        assert!((c.difference.value - 0.1).abs() < 1e-12);
        assert!(c.sentence.starts_with("A is better than B by 10.0 points (95 % 8."), "{}", c.sentence);
        let m = c.mcnemar.unwrap();
        assert_eq!((m.both, m.only_first, m.only_second, m.neither), (500, 100, 0, 400));
        assert!(m.p_value < 1e-20 && c.effect.odds_ratio.is_none());
        // d = 0.1 / sqrt(0.1 - 0.01), n - 1 in the denominator
        assert!((c.effect.standardised.unwrap() - 0.1 / (0.09f64 * 1000.0 / 999.0).sqrt()).abs() < 1e-9);
        let turned = compare("B", &b, "A", &a, &Bootstrap::default()).unwrap();
        assert_eq!(turned.preference, Preference::Second);
        assert!(turned.sentence.starts_with("A is better than B by 10.0 points"), "{}", turned.sentence);
    }

    #[test]
    fn a_tie_cannot_be_told() {
        let c =
            compare("A", &values(&[1, 0, 1, 0, 1]), "B", &values(&[0, 1, 1, 0, 1]), &Bootstrap::default())
                .unwrap();
        assert_eq!(c.preference, Preference::Undecided);
        assert!(c.sentence.starts_with("It cannot be told whether A or B"), "{}", c.sentence);
        let same = compare("A", &[0.5, 0.5], "B", &[0.5, 0.5], &Bootstrap::default()).unwrap();
        assert_eq!((same.preference, same.effect.standardised), (Preference::Undecided, None));
    }

    #[test]
    fn sentences() {
        let i = Interval { value: 0.032, low: 0.011, high: 0.053 };
        assert_eq!(
            verdict_sentence("A", "B", &i, 0.95, Preference::of(&i)),
            "A is better than B by 3.2 points (95 % 1.1 to 5.3)."
        );
        let i = Interval { value: 0.004, low: -0.011, high: 0.019 };
        assert_eq!(
            verdict_sentence("A", "B", &i, 0.975, Preference::of(&i)),
            "It cannot be told whether A or B is better: the difference is +0.4 points (97.5 % -1.1 to 1.9)."
        );
    }

    #[test]
    fn mcnemar_by_hand() {
        let a = [true, true, true, true, true, false, true, false];
        let b = [false, false, false, false, false, true, true, false];
        let m = mcnemar(&a, &b).unwrap();
        assert_eq!((m.both, m.only_first, m.only_second, m.neither), (1, 5, 1, 1));
        assert!((m.p_value - 14.0 / 64.0).abs() < 1e-12);
    }

    #[test]
    fn holm_by_hand() {
        let adjusted = holm(&[0.01, 0.04, 0.03, 0.005]).unwrap();
        for (a, e) in adjusted.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert!((a - e).abs() < 1e-12, "{adjusted:?}");
        }
        assert!(holm(&[1.5]).is_err() && holm(&[f64::NAN]).is_err());
        assert!(holm(&[]).unwrap().is_empty());
    }

    #[test]
    fn sign_flips_agree_with_the_exact_test() {
        // Seven for, one against: exact two-sided p = 2 · 9 / 256.
        let differences = [1.0, 1.0, 1.0, 1.0, -1.0, 1.0, 1.0, 1.0, 0.0];
        let p = sign_flip_test(&differences, 20_000, 5).unwrap();
        assert!((p - 18.0 / 256.0).abs() < 0.01, "{p}");
    }

    #[test]
    fn budgets() {
        let equal = TokenBudget::new("A", 1_020_000, "B", 1_000_000);
        assert!(equal.equal);
        assert_eq!(
            equal.sentence,
            "Equal token budget: A spent 1.0 million tokens, B 1.0 million (2.0 % apart)."
        );
        let unequal = TokenBudget::new("A", 1000, "B", 1800);
        assert!(
            !unequal.equal && unequal.sentence.contains("1.80 times as many for B as for A"),
            "{unequal:?}"
        );
        assert!(TokenBudget::new("A", 0, "B", 0).equal);
        assert!(!TokenBudget::new("A", 0, "B", 5).equal);
    }

    #[test]
    fn bad_input_is_named() {
        let b = Bootstrap::default();
        let message = compare("A", &[1.0], "B", &[], &b).unwrap_err().to_string();
        assert!(message.contains("same problems"), "{message}");
        assert!(compare("A", &[f64::NAN], "B", &[1.0], &b).is_err());
        assert!(compare("A", &[], "B", &[], &b).is_err());
        assert!(mcnemar(&[], &[]).is_err());
        assert!(sign_flip_test(&[], 10, 0).is_err());
    }

    proptest! {
        #[test]
        fn holm_keeps_order_and_bounds(p in prop::collection::vec(0.0f64..=1.0, 1..20)) {
            let adjusted = holm(&p).unwrap();
            for i in 0..p.len() {
                prop_assert!(adjusted[i] >= p[i] && adjusted[i] <= 1.0);
                prop_assert!(adjusted[i] <= (p.len() as f64 * p[i]).min(1.0) + 1e-12 || p.iter().any(|q| q < &p[i]));
                for j in 0..p.len() {
                    prop_assert!(p[i] > p[j] || adjusted[i] <= adjusted[j]);
                }
            }
        }
    }

    /// Resampling a handful of questions that all say the same gives an interval without width.
    #[test]
    fn a_handful_of_questions_tells_nothing() {
        let found =
            |n: usize| compare("A", &vec![1.0; n], "B", &vec![0.0; n], &Bootstrap::default()).unwrap();
        for n in [1, 2, 5] {
            assert_eq!(found(n).preference, Preference::Undecided, "{n}");
            assert!(found(n).sentence.starts_with("It cannot be told"), "{}", found(n).sentence);
        }
        assert_eq!(found(6).preference, Preference::First, "p = 1/32");
        let graded =
            |n: usize| compare("A", &vec![0.9; n], "B", &vec![0.1; n], &Bootstrap::default()).unwrap();
        assert_eq!((graded(5).preference, graded(6).preference), (Preference::Undecided, Preference::First));
    }
}
