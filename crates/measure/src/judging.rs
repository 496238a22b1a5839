//! What travels with a judge's report: agreement with a reference (Cohen's kappa), preference for a place, preference for
//! length, calibration, and in words what makes its verdicts useless.

use crate::{
    BINS, Bootstrap, CalibrationSummary, Interval, Judgement, Judgements, MeasureError, cohen_kappa,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Fewest verdicts from which "always the same" is said.
const LEAST_FOR_CONSTANT: usize = 8;
/// Share of one verdict from which a judge is said to give always the same.
const CONSTANT_SHARE: f64 = 0.95;
/// Share of contradictions from which they are said.
const CONTRADICTION_SHARE: f64 = 0.25;

/// One verdict on one response.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SingleVerdict {
    /// Probability that the response is right, by the judge; 0 or 1 for a bare verdict.
    pub probability: f64,
    /// Whether it is right.
    pub right: bool,
    /// Its length in characters, where known.
    #[serde(default)]
    pub length: Option<f64>,
}

/// One comparison of two responses, in the order in which the judge saw them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PairVerdict {
    /// The pair; the same pair in the other order has the same name.
    pub pair: String,
    /// Whether this is the other order of the pair.
    #[serde(default)]
    pub swapped: bool,
    /// Probability that the judge prefers the response it saw first; 0, 0.5 or 1 for a bare verdict.
    pub first: f64,
    /// Lengths in the order seen, in characters, where known.
    #[serde(default)]
    pub lengths: Option<[f64; 2]>,
    /// The same of people or a verifier: 1 for the response seen first, 0 for the second, 0.5 for a tie.
    #[serde(default)]
    pub reference: Option<f64>,
}

/// How a judge of single responses did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SingleReport {
    /// Verdicts.
    pub n: usize,
    /// Responses on which it gave none that can be read.
    pub abstained: usize,
    /// Share called right (probability 0.5 or more).
    pub says_right: Interval,
    /// Share of verdicts that agree with the truth.
    pub agreement: Interval,
    /// Cohen's kappa with the truth; `None` where chance alone agrees fully.
    pub kappa: Option<Interval>,
    /// Mean probability of the longer half less that of the shorter half, right and wrong responses apart and then averaged,
    /// so that length counts and not what goes with it. `None` without lengths that differ.
    pub length_bias: Option<f64>,
    /// Brier score, calibration errors and AUROC of the probabilities.
    pub calibration: CalibrationSummary,
    /// What makes the verdicts useless, in words.
    pub remarks: Vec<String>,
}

/// How a judge of pairs did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PairReport {
    /// Comparisons.
    pub n: usize,
    /// Comparisons without a verdict that can be read.
    pub abstained: usize,
    /// Mean preference for the response seen first; a judge without a preference for a place has one half where places are
    /// drawn at random or both orders are asked.
    pub first: Interval,
    /// The same of the reference, on the comparisons that have one.
    pub reference_first: Option<Interval>,
    /// Pairs that were asked in both orders.
    pub both_orders: usize,
    /// Share of them with the same winner in both orders.
    pub consistent: Option<Interval>,
    /// Of the inconsistent ones, the share that chose the first place twice.
    pub first_place_twice: Option<f64>,
    /// Mean preference for the longer response.
    pub longer: Option<Interval>,
    /// The same of the reference, where it has a preference.
    pub reference_longer: Option<Interval>,
    /// Preference for the longer response less that of the reference, on the same comparisons.
    pub length_bias: Option<Interval>,
    /// Share of comparisons, ties aside, that agree with the reference.
    pub agreement: Option<Interval>,
    /// Cohen's kappa with the reference, ties aside.
    pub kappa: Option<Interval>,
    /// Of the probability that the first is better, where the reference has a preference.
    pub calibration: Option<CalibrationSummary>,
    /// What makes the verdicts useless, in words.
    pub remarks: Vec<String>,
}

fn probability(what: &str, value: f64) -> Result<(), MeasureError> {
    if (0.0..=1.0).contains(&value) {
        return Ok(());
    }
    Err(MeasureError::value(what, format!("`{value}` is not a probability"), "give numbers between 0 and 1"))
}

fn kappa_of(pairs: &[(bool, bool)], bootstrap: &Bootstrap) -> Result<Option<Interval>, MeasureError> {
    // Sums of both yes, judge yes, reference yes, and 1: kappa needs no more.
    let unit = |flag: bool| f64::from(u8::from(flag));
    let rows: Vec<[f64; 4]> =
        pairs.iter().map(|&(judge, truth)| [unit(judge && truth), unit(judge), unit(truth), 1.0]).collect();
    let found = bootstrap.of_sums("kappa", &rows, |[both, judge, truth, n]| {
        let observed = (2.0 * both + n - judge - truth) / n;
        let expected = (judge * truth + (n - judge) * (n - truth)) / (n * n);
        (expected < 1.0 - 1e-12).then(|| (observed - expected) / (1.0 - expected))
    })?;
    let (left, right): (Vec<bool>, Vec<bool>) = pairs.iter().copied().unzip();
    // The same number by the plain formula.
    let exact = cohen_kappa(&left, &right)?;
    Ok(found.zip(exact).map(|(interval, value)| Interval { value, ..interval }))
}

fn constant(what: &[bool], yes: &str, no: &str, truth_varies: bool) -> Option<String> {
    let yeses = what.iter().filter(|&&v| v).count();
    let n = what.len();
    let most = yeses.max(n - yeses);
    if n < LEAST_FOR_CONSTANT || (most as f64) < CONSTANT_SHARE * n as f64 || !truth_varies {
        return None;
    }
    let said = if yeses >= n - yeses { yes } else { no };
    Some(format!("says {said} in {most} of {n} verdicts, whatever is judged: its verdicts carry nothing"))
}

/// Measures a judge of single responses; `abstained` counts those it could not judge.
///
/// # Errors
/// No verdicts, a probability outside [0, 1], or bad bootstrap settings.
pub fn single_report(
    verdicts: &[SingleVerdict],
    abstained: usize,
    bootstrap: &Bootstrap,
) -> Result<SingleReport, MeasureError> {
    let what = "judge report";
    if verdicts.is_empty() {
        return Err(MeasureError::empty(
            what,
            format!("give at least one verdict; {abstained} could not be read").as_str(),
        ));
    }
    for verdict in verdicts {
        probability(what, verdict.probability)?;
    }
    let unit = |flag: bool| f64::from(u8::from(flag));
    let pairs: Vec<(bool, bool)> = verdicts.iter().map(|v| (v.probability >= 0.5, v.right)).collect();
    let agree: Vec<f64> = pairs.iter().map(|(judge, truth)| unit(judge == truth)).collect();
    let says: Vec<bool> = pairs.iter().map(|pair| pair.0).collect();
    let varies = pairs.iter().any(|pair| pair.1) && pairs.iter().any(|pair| !pair.1);
    let judgements =
        Judgements::new(verdicts.iter().map(|v| Judgement { confidence: v.probability, correct: v.right }))?;
    let mut remarks: Vec<String> = constant(&says, "`right`", "`wrong`", varies).into_iter().collect();
    remarks.extend(silence(abstained, verdicts.len()));
    Ok(SingleReport {
        n: verdicts.len(),
        abstained,
        says_right: bootstrap.mean(&says.iter().map(|&s| unit(s)).collect::<Vec<_>>())?,
        agreement: bootstrap.mean(&agree)?,
        kappa: kappa_of(&pairs, bootstrap)?,
        length_bias: single_length_bias(verdicts),
        calibration: judgements.summary(BINS)?,
        remarks,
    })
}

fn silence(abstained: usize, given: usize) -> Option<String> {
    let all = abstained + given;
    (abstained * 4 > all).then(|| {
        format!(
            "gave no verdict that can be read on {abstained} of {all}: what it did judge was chosen by it"
        )
    })
}

fn single_length_bias(verdicts: &[SingleVerdict]) -> Option<f64> {
    let of = |right: bool| -> Option<f64> {
        let mut rows: Vec<(f64, f64)> = verdicts
            .iter()
            .filter(|v| v.right == right)
            .filter_map(|v| Some((v.length?, v.probability)))
            .collect();
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        let half = rows.len() / 2;
        let (short, long) = (rows.get(..half)?, rows.get(rows.len() - half..)?);
        let differ = short.last()?.0 < long.first()?.0;
        let mean = |rows: &[(f64, f64)]| rows.iter().map(|row| row.1).sum::<f64>() / rows.len() as f64;
        differ.then(|| mean(long) - mean(short))
    };
    let found: Vec<f64> = [of(true), of(false)].into_iter().flatten().collect();
    (!found.is_empty()).then(|| found.iter().sum::<f64>() / found.len() as f64)
}

/// Measures a judge of pairs; `abstained` counts the comparisons it could not judge.
///
/// # Errors
/// No verdicts, a number outside [0, 1], or bad bootstrap settings.
pub fn pair_report(
    verdicts: &[PairVerdict],
    abstained: usize,
    bootstrap: &Bootstrap,
) -> Result<PairReport, MeasureError> {
    let what = "judge report";
    if verdicts.is_empty() {
        return Err(MeasureError::empty(
            what,
            format!("give at least one comparison; {abstained} could not be read").as_str(),
        ));
    }
    for verdict in verdicts {
        probability(what, verdict.first)?;
        verdict.reference.map_or(Ok(()), |reference| probability(what, reference))?;
    }
    let mean_of = |values: Vec<f64>| match values.is_empty() {
        true => Ok(None),
        false => bootstrap.mean(&values).map(Some),
    };
    let decided: Vec<(bool, bool)> = verdicts
        .iter()
        .filter_map(|v| {
            let reference = v.reference.filter(|&reference| reference != 0.5)?;
            (v.first != 0.5).then_some((v.first > 0.5, reference > 0.5))
        })
        .collect();
    let judgements: Vec<Judgement> = verdicts
        .iter()
        .filter_map(|v| {
            let reference = v.reference.filter(|&reference| reference != 0.5)?;
            Some(Judgement { confidence: v.first, correct: reference > 0.5 })
        })
        .collect();
    let longer_first = |v: &PairVerdict| v.lengths.filter(|l| l[0] != l[1]).map(|l| l[0] > l[1]);
    let toward = |v: &PairVerdict, preference: f64| {
        longer_first(v).map(|first| if first { preference } else { 1.0 - preference })
    };
    let with_both: Vec<(f64, f64)> = verdicts
        .iter()
        .filter_map(|v| Some((toward(v, v.first)?, toward(v, v.reference?)?)))
        .filter(|pair| pair.1 != 0.5)
        .collect();
    let places = both_orders(verdicts);
    let inconsistent: Vec<&(f64, f64)> = places.iter().filter(|p| !consistent(p)).collect();
    let first_twice = inconsistent.iter().filter(|p| p.0 > 0.5 && p.1 > 0.5).count();
    let same: Vec<f64> = places.iter().map(|pair| f64::from(u8::from(consistent(pair)))).collect();
    let says_first: Vec<bool> = verdicts.iter().map(|v| v.first > 0.5).collect();
    let agree = decided.iter().map(|(judge, truth)| f64::from(u8::from(judge == truth))).collect();
    let mut remarks: Vec<String> =
        constant(&says_first, "`the first`", "`the second`", true).into_iter().collect();
    if same.len() >= LEAST_FOR_CONSTANT
        && inconsistent.len() as f64 >= CONTRADICTION_SHARE * same.len() as f64
    {
        remarks.push(format!(
            "contradicts itself: another winner in the other order in {} of {} pairs",
            inconsistent.len(),
            same.len()
        ));
    }
    remarks.extend(silence(abstained, verdicts.len()));
    Ok(PairReport {
        n: verdicts.len(),
        abstained,
        first: bootstrap.mean(&verdicts.iter().map(|v| v.first).collect::<Vec<_>>())?,
        reference_first: mean_of(verdicts.iter().filter_map(|v| v.reference).collect())?,
        both_orders: places.len(),
        first_place_twice: (!inconsistent.is_empty()).then(|| first_twice as f64 / inconsistent.len() as f64),
        consistent: mean_of(same)?,
        longer: mean_of(verdicts.iter().filter_map(|v| toward(v, v.first)).collect())?,
        reference_longer: mean_of(with_both.iter().map(|pair| pair.1).collect())?,
        length_bias: mean_of(with_both.iter().map(|pair| pair.0 - pair.1).collect())?,
        agreement: mean_of(agree)?,
        kappa: if decided.is_empty() { None } else { kappa_of(&decided, bootstrap)? },
        calibration: match judgements.is_empty() {
            true => None,
            false => Some(Judgements::new(judgements)?.summary(BINS)?),
        },
        remarks,
    })
}

/// The preference for the first place in each order, of the pairs that have both.
fn both_orders(verdicts: &[PairVerdict]) -> Vec<(f64, f64)> {
    let mut pairs: BTreeMap<&str, [Option<f64>; 2]> = BTreeMap::new();
    for verdict in verdicts {
        pairs.entry(&verdict.pair).or_default()[usize::from(verdict.swapped)].get_or_insert(verdict.first);
    }
    pairs.values().filter_map(|orders| orders[0].zip(orders[1])).collect()
}

/// The same winner in both orders: the first place in one is the second in the other. Two ties agree.
fn consistent(&(straight, swapped): &(f64, f64)) -> bool {
    let side = |p: f64| p.partial_cmp(&0.5);
    side(straight) == side(1.0 - swapped)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn single(probability: f64, right: bool) -> SingleVerdict {
        SingleVerdict { probability, right, length: None }
    }

    fn pair(name: &str, swapped: bool, first: f64, reference: Option<f64>) -> PairVerdict {
        PairVerdict { pair: name.into(), swapped, first, lengths: None, reference }
    }

    fn close(found: f64, wanted: f64) {
        assert!((found - wanted).abs() < 1e-12, "{found} is not {wanted}");
    }

    #[test]
    fn agreement_and_kappa_by_hand() {
        // Both yes 20, both no 15, judge alone 5, truth alone 10: observed 0.7, expected 0.5, kappa 0.4.
        let verdicts: Vec<SingleVerdict> =
            [(20, 0.9, true), (15, 0.1, false), (5, 0.8, false), (10, 0.2, true)]
                .iter()
                .flat_map(|&(n, p, right)| std::iter::repeat_n(single(p, right), n))
                .collect();
        let found = single_report(&verdicts, 3, &Bootstrap::default()).unwrap();
        close(found.agreement.value, 0.7);
        close(found.kappa.unwrap().value, 0.4);
        let kappa = found.kappa.unwrap();
        assert!(kappa.low < 0.4 && kappa.high > 0.4 && kappa.low > 0.0, "{kappa:?}");
        assert_eq!((found.n, found.abstained, found.remarks.len()), (50, 3, 0));
        close(found.says_right.value, 0.5);
    }

    #[test]
    fn a_judge_that_always_says_yes_is_told() {
        let verdicts: Vec<SingleVerdict> = (0..20).map(|i| single(1.0, i % 2 == 0)).collect();
        let found = single_report(&verdicts, 0, &Bootstrap::default()).unwrap();
        assert!(found.remarks[0].contains("says `right` in 20 of 20 verdicts"), "{:?}", found.remarks);
        close(found.kappa.unwrap().value, 0.0);
        close(found.agreement.value, 0.5);
        // Where everything is right, saying so is no fault.
        let all_right: Vec<SingleVerdict> = (0..20).map(|_| single(1.0, true)).collect();
        let found = single_report(&all_right, 0, &Bootstrap::default()).unwrap();
        assert!(found.remarks.is_empty() && found.kappa.is_none(), "{found:?}");
    }

    #[test]
    fn length_is_told_apart_from_being_right() {
        // Right responses are long and liked: no bias. Longer wrong ones are liked more than shorter wrong ones: bias.
        let row = |probability, right, length| SingleVerdict { probability, right, length: Some(length) };
        let fair =
            [row(0.9, true, 100.0), row(0.9, true, 120.0), row(0.1, false, 10.0), row(0.1, false, 12.0)];
        close(single_length_bias(&fair).unwrap(), 0.0);
        let biased =
            [row(0.9, true, 100.0), row(0.9, true, 120.0), row(0.1, false, 10.0), row(0.7, false, 12.0)];
        close(single_length_bias(&biased).unwrap(), 0.3);
        assert_eq!(single_length_bias(&[single(0.5, true)]), None);
    }

    #[test]
    fn places_are_compared_between_both_orders() {
        // a: the same winner; b: the first place twice; c: the second place twice; d: one order only.
        let verdicts = [
            pair("a", false, 0.9, None),
            pair("a", true, 0.2, None),
            pair("b", false, 0.9, None),
            pair("b", true, 0.6, None),
            pair("c", false, 0.1, None),
            pair("c", true, 0.4, None),
            pair("d", false, 1.0, None),
        ];
        let found = pair_report(&verdicts, 0, &Bootstrap::default()).unwrap();
        assert_eq!(found.both_orders, 3);
        close(found.consistent.unwrap().value, 1.0 / 3.0);
        close(found.first_place_twice.unwrap(), 0.5);
        assert_eq!((found.agreement, found.kappa, found.longer), (None, None, None));
    }

    #[test]
    fn a_judge_of_places_is_told() {
        let verdicts: Vec<PairVerdict> =
            (0..20).map(|i| pair(&(i / 2).to_string(), i % 2 == 1, 1.0, Some(f64::from(i % 2)))).collect();
        let found = pair_report(&verdicts, 0, &Bootstrap::default()).unwrap();
        assert!(found.remarks[0].contains("says `the first`"), "{:?}", found.remarks);
        assert!(
            found.remarks[1].contains("another winner in the other order in 10 of 10"),
            "{:?}",
            found.remarks
        );
        close(found.kappa.unwrap().value, 0.0);
        close(found.first_place_twice.unwrap(), 1.0);
    }

    #[test]
    fn preference_for_length_is_held_against_the_reference() {
        let row = |first, lengths, reference| PairVerdict {
            lengths: Some(lengths),
            ..pair("p", false, first, Some(reference))
        };
        // The judge takes the longer one 4 times of 4, people 2 times; a tie of theirs says nothing.
        let verdicts = [
            row(1.0, [9.0, 5.0], 1.0),
            row(1.0, [9.0, 5.0], 0.0),
            row(0.0, [5.0, 9.0], 0.0),
            row(0.0, [5.0, 9.0], 1.0),
            row(1.0, [9.0, 5.0], 0.5),
            row(1.0, [7.0, 7.0], 1.0),
        ];
        let found = pair_report(&verdicts, 0, &Bootstrap::default()).unwrap();
        close(found.longer.unwrap().value, 1.0);
        close(found.reference_longer.unwrap().value, 0.5);
        close(found.length_bias.unwrap().value, 0.5);
        close(found.agreement.unwrap().value, 3.0 / 5.0);
    }

    #[test]
    fn nothing_to_measure_is_an_error_that_counts_the_silence() {
        let error = single_report(&[], 7, &Bootstrap::default()).unwrap_err().to_string();
        assert!(error.contains("7 could not be read"), "{error}");
        assert!(pair_report(&[], 0, &Bootstrap::default()).is_err());
        assert!(single_report(&[single(1.5, true)], 0, &Bootstrap::default()).is_err());
        let found = single_report(&[single(0.9, true)], 9, &Bootstrap::default()).unwrap();
        assert!(found.remarks[0].contains("9 of 10"), "{:?}", found.remarks);
    }
}
