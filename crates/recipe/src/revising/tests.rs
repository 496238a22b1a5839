//! Worth of responses, what prompts say of them, and rows.

use super::*;
use crate::lab::tests::can_run_programs;
use crate::models;
use elenchus_task::Split;
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
fn revisions_are_better_than_what_they_see() {
    let texts = ["#3+5+7", "#3*5", "#3*5+7", "#5*7-3"];
    let countdown = Substrate::countdown().unwrap();
    for seed in 0..20 {
        let found = revision(&countdown, &problem(), &texts, Some("#5*3+7"), seed).unwrap().unwrap();
        let [worst, best, better] = found.each_ref().map(|valued| valued.text);
        assert!(value(worst) < value(best) && value(best) < value(better), "{worst} {best} {better}");
        assert_eq!(better, "#3*5+7");
    }
    let alike = ["#3*5", "#3*5+7"];
    assert!(
        revision(&countdown, &problem(), &alike, None, 1).unwrap().is_none(),
        "no contrast to learn from"
    );
    let unsolved = ["#3*5", "#3+5+7"];
    let found = revision(&countdown, &problem(), &unsolved, Some("#5*3+7"), 1).unwrap().unwrap();
    let texts = found.each_ref().map(|valued| valued.text);
    assert_eq!(texts, ["#3*5", "#3+5+7", "#5*3+7"], "the task's own solution, where no sample is one");
}

/// Rows of programs: the problem alone, and the solution in view of what failed, with and without the verifier's words.
#[test]
fn rows_show_what_failed() {
    if !can_run_programs() {
        return;
    }
    let settings = json!({"runner": "embedded", "operations": [2, 3], "left_out": 1});
    let substrate = Substrate::programs(&settings).unwrap();
    let problems = substrate.task().problems(Split::Train, 40, 5).unwrap();
    let programs: Vec<String> = problems.iter().map(|p| substrate.task().reference(p).unwrap()).collect();
    // A program of another problem that is right on some hidden tests, the empty list as a rule.
    let truth = |q: usize, text: &str| substrate.worth(&problems[q], text).unwrap().truth;
    let (q, partly) = (0..problems.len())
        .find_map(|q| {
            let partly = programs.iter().find(|other| (0.01..0.99).contains(&truth(q, other)))?;
            Some((q, partly.as_str()))
        })
        .unwrap();
    let loaded = models::load(models::EMBEDDED).unwrap();
    let (tokenizer, policy) = (loaded.tokenizer.clone(), loaded.policy());
    let made = |feedback| -> Vec<(String, String)> {
        let lesson = Lesson { solutions: true, feedback };
        let rows = lesson.rows(&policy, &substrate, &problems[q], &["#z(x)", partly], 1).unwrap();
        rows.iter()
            .map(|row| {
                let (prompt, target) = row.tokens.split_at(row.first_target);
                let text = |tokens: &[u32]| tokenizer.decode(tokens).unwrap();
                (text(prompt), text(&target[..target.len() - 1]))
            })
            .collect()
    };
    let compact = problems[q].compact.as_deref().unwrap();
    let told = substrate.worth(&problems[q], partly).unwrap();
    let (worst, best) = (with_feedback("#z(x)", 0.0, "E"), with_feedback(partly, told.seen, &told.fault));
    let target = programs[q].clone();
    assert_eq!(
        made(true),
        [
            (format!("S{compact}"), target.clone()),
            (format!("G{compact}{worst}!{best}!"), target.clone()),
            (format!("A{compact}{best}!"), target.clone()),
        ]
    );
    assert_eq!(made(false)[1].0, format!("G{compact}#z(x)!{partly}!"), "nothing is said");
    assert_eq!(
        policy.encode(&made(true)[1].0).unwrap().len(),
        made(true)[1].0.chars().count(),
        "a token per sign"
    );
}
