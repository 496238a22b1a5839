//! Values, verifiers, curves and claims on invented records.

use super::play::curve;
use super::report::sweep_claims;
use super::*;
use crate::lab::tests::can_run_programs;
use crate::reproduce::pool::mean;
use crate::reproduce::resampling::Resampling;
use elenchus_control::Standing;
use elenchus_measure::Bootstrap;
use serde_json::json;

#[test]
fn sparse_and_noisy_scores() {
    let sparse = Verifier { noise: 0.0, threshold: Some(0.5) };
    assert_eq!((sparse.score(0.4, 1, 0, 0), sparse.score(0.5, 1, 0, 0)), (0.0, 1.0));
    assert_eq!(EXACT.score(0.37, 1, 0, 0), 0.37);
    let noisy = Verifier { noise: 0.2, threshold: None };
    let all: Vec<f64> = (0..4000).map(|i| noisy.score(0.0, 1, i, 0)).collect();
    let variance = mean(&all.iter().map(|x| x * x).collect::<Vec<_>>());
    assert!(mean(&all).abs() < 0.01 && (variance.sqrt() - 0.2).abs() < 0.01, "{}", variance.sqrt());
    assert_eq!(noisy.score(0.0, 1, 2, 3), noisy.score(0.0, 1, 2, 3), "the same luck for all arms");
}

fn settings() -> Settings {
    let settings = json!({
        "questions": 3, "split": "test", "shapes": [[2, 3]], "swept": [2, 3], "noise": [], "thresholds": [], "temperature": 1.0,
        "low_temperature": 0.3, "revision": {"questions": 1, "samples": 1, "solutions": true, "feedback": true, "train": {}},
        "programs": {"questions": 0, "task": {}, "revisers": []},
    });
    serde_json::from_value(settings).unwrap()
}

#[test]
fn every_arm_has_as_many_candidates() {
    for (arm, (name, ..)) in ARMS.iter().enumerate() {
        let plan = plan(&settings(), arm, [2, 3], EXACT);
        assert_eq!(plan.per_round * plan.rounds, 6, "{name}");
        assert_eq!((plan.temperature, plan.later_temperature < 1.0), (1.0, arm == LOW), "{name}");
    }
}

/// K = 2, T = 3 and the rewards of the sheet; best-of-n has the same curve form with one round of six.
#[test]
fn the_curve_has_a_point_after_each_candidate() {
    let played = |rounds: &[&[f64]], takeover| {
        let mut standing = Standing::default();
        for scores in rounds {
            let scores: Vec<Option<f64>> = scores.iter().copied().map(Some).collect();
            standing.round(&scores, &vec![true; scores.len()], takeover);
        }
        curve(&standing)
    };
    let rounds: [&[f64]; 3] = [&[0.40, 0.25], &[0.35, 0.55], &[0.50, 0.10]];
    assert_eq!(played(&rounds, Takeover::Better), [0.40, 0.40, 0.40, 0.55, 0.55, 0.55]);
    let alone: &[f64] = &[0.40, 0.25, 0.35, 0.30, 0.45, 0.20];
    assert_eq!(played(&[alone], Takeover::Better), [0.40, 0.40, 0.40, 0.40, 0.45, 0.45]);
    assert_eq!(played(&rounds, Takeover::Always), [0.40, 0.40, 0.35, 0.55, 0.50, 0.50]);
}

#[test]
fn a_gain_shrinks_only_when_it_does_at_every_step() {
    let swept = |noise, threshold, gain: f64| Swept {
        verifier: Verifier { noise, threshold },
        iad: vec![0.5 + gain; 4],
        best_of_n: vec![0.5; 4],
        gap: vec![0.0; 4],
    };
    // 0.10, 0.20, 0.05, 0.00 by noise: smaller at the end, larger at the first step.
    let all = [
        swept(0.0, None, 0.10),
        swept(0.1, None, 0.20),
        swept(0.2, None, 0.05),
        swept(0.4, None, 0.0),
        swept(0.0, Some(0.5), 0.06),
        swept(0.0, Some(1.0), 0.01),
    ];
    let mut findings = Findings::default();
    sweep_claims(&Resampling::new(Bootstrap::default(), 1), &all, &mut findings).unwrap();
    let value = |id: &str| findings.estimates[id].value;
    assert!((value("noise") + 0.10).abs() < 1e-12 && (value("sparsity") - 0.04).abs() < 1e-12);
    assert!(value("noise-reverses").abs() < 1e-12);
}

/// A model that never wrote a program plays all arms: what holds no code is worth nothing, and candidates are counted.
#[test]
fn arms_on_programs_have_all_their_candidates() {
    if !can_run_programs() {
        return;
    }
    let substrate = Substrate::programs(&json!({"runner": "embedded"})).unwrap();
    let problems = substrate.task().problems(Split::Test, 2, 1).unwrap();
    let recipe = crate::built_in("iad").unwrap();
    let session =
        elenchus_learn::Session { run: None, observer: &elenchus_learn::Quiet, stop: Default::default() };
    let input = Reproduce {
        recipe: &recipe,
        size: crate::Size::Quick,
        seed: 1,
        models: &[],
        lab: crate::lab::Lab::new(None),
        session: &session,
    };
    let label = "programs".into();
    let bench = Bench { input: &input, substrate: &substrate, problems: &problems, lesson: LESSON, label };
    let mut arms = Arms::none(&settings());
    let mut model = models::load(models::EMBEDDED).unwrap().policy();
    arms.play(&settings(), &bench, &mut model).unwrap();
    for (played, (name, ..)) in arms.played[0].iter().zip(ARMS) {
        assert_eq!(
            played.arm.spent.iter().map(|spent| spent.responses).collect::<Vec<_>>(),
            [6.0, 6.0],
            "{name}"
        );
        assert!(played.arm.right.iter().all(|value| (0.0..=1.0).contains(value)), "{name}");
        assert_eq!((played.curves[0].len(), played.solved.len()), (6, 2), "{name}");
    }
}
