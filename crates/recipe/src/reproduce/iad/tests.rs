//! Values, verifiers, curves and claims on invented records.

use super::play::curve;
use super::report::sweep_claims;
use super::revision::revision;
use super::substrate::{Worth, with_feedback};
use super::*;
use crate::lab::tests::can_run_programs;
use crate::reproduce::pool::{Pool, Sample, mean};
use crate::reproduce::resampling::Resampling;
use elenchus_control::Standing;
use elenchus_measure::Bootstrap;
use elenchus_trace::Problem;
use serde_json::json;

fn problem() -> Problem {
    elenchus_task::countdown::problem(&[3, 5, 7], 22, None)
}

fn value(text: &str) -> f64 {
    let worth = Substrate::countdown().unwrap().worth(&problem(), text).unwrap();
    assert_eq!(worth.seen, worth.truth, "nothing is hidden");
    worth.truth
}

#[test]
fn the_value_of_a_response() {
    assert_eq!(value("3*5=15;15+7=22#3*5+7"), 1.0);
    assert!((value("#3+5+7") - 15.0 / 22.0).abs() < 1e-12);
    assert_eq!(value("#3*5"), 0.0, "a number is missing");
    assert_eq!(value("#3*5*7"), 0.0, "too far away");
    assert_eq!(value("hm"), 0.0);
}

fn entry(problem: &Problem) -> String {
    elenchus_task::program::ProgramData::of(problem).unwrap().entry
}

/// A score in tenths; a fault behind a colon, of what the shown tests show.
#[test]
fn what_a_prompt_says_behind_a_response() {
    assert_eq!(with_feedback("a=e(x)#a", 1.0 / 3.0, "2=(4)"), "a=e(x)#a~3:2=(4)");
    assert_eq!(with_feedback("#3*5+7", 1.0, ""), "#3*5+7~9");
    assert_eq!(with_feedback("#3*5", -0.2, ""), "#3*5~0", "a noisy score below 0");
    let unknown = models::load(models::EMBEDDED).unwrap().tokenizer.clone();
    let tokens = unknown.encode("~3:2=(4,-12)!~0:E").unwrap();
    assert!(!tokens.contains(&unknown.unknown().unwrap()), "the embedded model has a token for every sign");
}

/// The verifier at run time sees the shown tests; the hidden ones say what a program is worth.
#[test]
fn a_program_that_knows_the_shown_tests_by_heart_is_worth_little() {
    if !can_run_programs() {
        return;
    }
    let settings = json!({"runner": "embedded", "operations": [2, 2], "visible_tests": 2, "hidden_tests": 6});
    let substrate = Substrate::programs(&settings).unwrap();
    let problems = substrate.task().problems(Split::Test, 20, 5).unwrap();
    let mut least = 1.0_f64;
    for problem in &problems {
        let worth = |text: &str| substrate.worth(problem, text).unwrap();
        let reference = worth(&substrate.task().reference(problem).unwrap());
        assert_eq!((reference.seen, reference.truth, reference.fault.as_str()), (1.0, 1.0, ""));
        assert_eq!(worth("hm"), Worth { fault: "E".into(), ..Worth::default() });
        let five = worth(&format!("```python\ndef {}(x):\n    return [5, -5]\n```", entry(problem)));
        assert!(five.fault == "1=(5,-5)" && five.seen == 0.0, "{five:?}");
        let broken = worth(&format!("```python\ndef {}(x):\n    return x[99]\n```", entry(problem)));
        assert_eq!(broken.fault, "E");
        let data = elenchus_task::program::ProgramData::of(problem).unwrap();
        // assert solve([1, 2]) == 3
        let knows = data.visible.lines().map(|test| {
            let (call, value) = test.trim_start_matches("assert ").split_once(" == ").unwrap();
            let given = call.split_once('(').unwrap().1.strip_suffix(')').unwrap();
            format!("    if x == {given}:\n        return {value}\n")
        });
        let program = format!("```python\ndef {}(x):\n{}```", data.entry, knows.collect::<String>());
        let by_heart = worth(&program);
        assert_eq!(
            (by_heart.seen, by_heart.fault.as_str()),
            (1.0, ""),
            "nothing of the hidden tests is said: {program}"
        );
        least = least.min(by_heart.truth);
    }
    assert!(least < 0.5, "what is hidden is not passed: {least}");
}

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

#[test]
fn revisions_are_better_than_what_they_see() {
    let sample =
        |text: &str| Sample { text: text.into(), answer: None, correct: false, tokens: 1, sum_logprob: -1.0 };
    let texts = ["#3+5+7", "#3*5", "#3*5+7", "#5*7-3"];
    let pool = Pool { prompt_tokens: 1, samples: texts.map(sample).to_vec() };
    let countdown = Substrate::countdown().unwrap();
    for seed in 0..20 {
        let found = revision(&countdown, &problem(), &pool, Some("#5*3+7"), seed).unwrap().unwrap();
        let [worst, best, better] = found.each_ref().map(|valued| valued.text);
        assert!(value(worst) < value(best) && value(best) < value(better), "{worst} {best} {better}");
        assert_eq!(better, "#3*5+7");
    }
    let alike = Pool { prompt_tokens: 1, samples: vec![sample("#3*5"), sample("#3*5+7")] };
    assert!(
        revision(&countdown, &problem(), &alike, None, 1).unwrap().is_none(),
        "no contrast to learn from"
    );
    let unsolved = Pool { prompt_tokens: 1, samples: vec![sample("#3*5"), sample("#3+5+7")] };
    let found = revision(&countdown, &problem(), &unsolved, Some("#5*3+7"), 1).unwrap().unwrap();
    let texts = found.each_ref().map(|valued| valued.text);
    assert_eq!(texts, ["#3*5", "#3+5+7", "#5*3+7"], "the task's own solution, where no sample is one");
}

fn settings() -> Settings {
    let settings = json!({
        "questions": 3, "split": "test", "shapes": [[2, 3]], "swept": [2, 3], "noise": [], "thresholds": [], "temperature": 1.0,
        "low_temperature": 0.3, "revision": {"questions": 1, "samples": 1, "solutions": true, "feedback": true, "train": {}},
        "programs": {"questions": 0, "task": {}, "writers": [],
            "revision": {"questions": 1, "samples": 1, "solutions": true, "feedback": true, "train": {}}},
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
    let bench = Bench { input: &input, substrate: &substrate, problems: &problems, feedback: true, label };
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
