//! The sheet's numbers, reference fits, and the simulation.

use super::*;
use crate::reproduce::pool::Sample;

fn sheet() -> Pool {
    let samples = [("1", 0.85), ("1", 0.80), ("2", 0.62), ("2", 0.55), ("2", 0.50), ("3", 0.30)]
        .iter()
        .enumerate()
        .map(|(i, (answer, p))| Sample {
            text: format!("{i}#{answer}"),
            answer: Some((*answer).into()),
            correct: *answer == "1",
            tokens: 5,
            sum_logprob: 5.0 * f64::ln(*p),
        });
    Pool { prompt_tokens: 9, samples: samples.collect() }
}

#[test]
fn the_methods_on_the_sheet_s_paths() {
    let pool = sheet();
    let all: Vec<usize> = (0..6).collect();
    let chosen = |method: Method| method.choose(&pool, &all);
    assert!(!chosen(Method::Vote).right && (chosen(Method::Vote).confidence - 0.5).abs() < 1e-12);
    let pc = chosen(Method::Path(PC));
    assert!(!pc.right && (pc.confidence - 0.461326).abs() < 1e-6, "{pc:?}");
    assert!(chosen(Method::Perplexity).right);
    assert!((chosen(Method::Perplexity).confidence - 0.85).abs() < 1e-9);
    assert!(chosen(Method::Summed).right, "0.85^5 + 0.8^5 is the largest");
}

#[test]
fn the_sheet_s_probabilities_and_errors() {
    // Log-probabilities -0.1, -0.3, -0.2.
    let sample = Sample { tokens: 3, sum_logprob: -0.6, ..sheet().samples[0].clone() };
    let near = |found: f64, wanted: f64| assert!((found - wanted).abs() < 1e-9, "{found} is not {wanted}");
    near(Method::Path(RPC).log_probability(&sample).exp(), 0.818_730_753_1);
    near(Method::Summed.log_probability(&sample).exp(), 0.548_811_636_1);
    // What is left after pruning by the sheet's mixture: .85, .80 and .62.
    let left = Method::Path(PC).choose(&sheet(), &[0, 1, 2]);
    assert!((left.confidence - 0.726_872).abs() < 1e-6 && (1.0 - left.confidence - 0.273_128).abs() < 1e-6);
    near(vote_error(0.3, 16), 0.013_125);
    // With one path the error is q² (1 - q)ⁿ.
    near(missing_mass(0.1, 1.0, 2), 0.01 * 0.81);
}

#[test]
fn ties_share_credit_and_no_answer_is_wrong() {
    let pool = sheet();
    let tie = Method::Vote.choose(&pool, &[0, 2]);
    assert_eq!((tie.credit, tie.right), (0.5, true));
    let mut silent = sheet();
    silent.samples.iter_mut().for_each(|s| s.answer = None);
    for (_, method) in METHODS {
        assert_eq!(method.choose(&silent, &[0, 1, 2]).credit, 0.0, "{method:?}");
    }
}

#[test]
fn the_calibration_gain_is_that_of_the_two_errors() {
    let one = |confidence, right| vec![Outcome { credit: 0.0, confidence, right }];
    let left: Outcomes = vec![one(0.9, true), one(0.9, false), one(0.4, false), one(0.05, true)];
    let right: Outcomes = vec![one(0.5, true), one(0.5, false), one(0.1, false), one(1.0, true)];
    let error = |outcomes: &Outcomes| {
        let all = outcomes.iter().flatten().map(|o| Judgement { confidence: o.confidence, correct: o.right });
        Judgements::new(all).unwrap().summary(BINS).unwrap().ece.equal_width
    };
    let gain = calibration_gain(&Resampling::new(Bootstrap::default(), 1), &left, &right).unwrap().unwrap();
    assert!((gain.value - (error(&left) - error(&right))).abs() < 1e-12, "{gain:?}");
}

/// One fit of `tests/fixtures/weibull.py`.
#[derive(Deserialize)]
struct Reference {
    name: String,
    values: Vec<f64>,
    negative_log_likelihood: f64,
    dropped: Vec<usize>,
}

#[test]
fn mixtures_are_fitted_as_well_as_by_the_optimiser_of_the_released_code() {
    let text = include_str!("../../tests/fixtures/weibull.json");
    let all: serde_json::Value = serde_json::from_str(text).unwrap();
    let cases: Vec<Reference> = serde_json::from_value(all["cases"].clone()).unwrap();
    assert!(cases.len() >= 9);
    for case in &cases {
        let found = elenchus_control::WeibullMixture::fit(&case.values).unwrap();
        let loss = found.negative_log_likelihood(&case.values);
        assert!(loss <= case.negative_log_likelihood + 1e-3, "{}: {loss} {found:?}", case.name);
        let mean = case.values.iter().sum::<f64>() / case.values.len() as f64;
        let dropped: Vec<usize> = (0..case.values.len())
            .filter(|&i| case.values[i] < mean && found.probability_high(case.values[i]) < 0.5)
            .collect();
        assert_eq!(dropped, case.dropped, "{}: {found:?}", case.name);
    }
}

#[test]
fn the_theory_holds_in_the_simulation() {
    let mut findings = Findings::default();
    theory(&mut findings, 4_000, 1);
    assert!(findings.estimates["theory-vote"].value > 0.0, "{:?}", findings.estimates);
    assert!(findings.estimates["theory-path"].value > 0.0, "{:?}", findings.estimates);
}
