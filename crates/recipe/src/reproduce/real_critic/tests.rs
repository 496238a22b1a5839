//! Material, outcomes and claims on invented records.

use super::*;
use elenchus_task::arithmetic::{Arithmetic, ArithmeticSettings};

#[test]
fn a_share_has_as_many_right_as_wrong_solutions_even_when_problems_run_out() {
    let task = Arithmetic::new(ArithmeticSettings::default()).unwrap();
    let problems = task.problems(Split::Test, 9, 1).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut items = Vec::new();
    let material = problems.iter().zip(std::iter::repeat(()));
    fill(&mut items, &task, 8, "a", material, |problem, (), wanted| {
        let exercise = Exercise::from_problem(problem)?;
        Ok(match wanted {
            true => task.reference(problem),
            false => corrupt::corrupt(&exercise, &mut random).map(|slip| slip.compact(&exercise)),
        })
    })
    .unwrap();
    let right = |items: &[Item]| items.iter().filter(|item| item.right).count();
    assert_eq!((items.len(), right(&items)), (8, 4));
    for item in &items {
        assert_eq!(item.problem.data["solution"], item.solution.as_str(), "the strategy finds it there");
        assert_eq!(item.right, item.first_wrong.is_none());
    }
    // Three problems for a share of eight: one right and one wrong.
    let mut few = Vec::new();
    let material = problems[..3].iter().zip(std::iter::repeat(()));
    fill(&mut few, &task, 8, "b", material, |problem, (), wanted| {
        Ok(wanted.then(|| task.reference(problem)).flatten().or(Some("#1".into())))
    })
    .unwrap();
    assert_eq!((few.len(), right(&few)), (2, 1));
}

#[test]
fn an_outcome_that_ended_early_keeps_its_last_state() {
    let outcome =
        Outcome { spent: vec![Usage { calls: 1, ..Usage::default() }], ..outcome(None, true, &[false]) };
    assert_eq!((outcome.after(1), outcome.after(3), outcome.spent(3).calls), (false, false, 1));
}

fn outcome(verdict: Option<bool>, before: bool, after: &[bool]) -> Outcome {
    Outcome {
        verdict,
        first_error: None,
        kept_steps: None,
        unreadable: verdict.is_none(),
        before,
        after: after.to_vec(),
        spent: Vec::new(),
    }
}

fn settings(turns: usize) -> Settings {
    Settings {
        items: 4,
        temperatures: Vec::new(),
        tries: 1,
        turns,
        validation: 1,
        vote_temperatures: vec![0.5],
    }
}

/// Four recorded solutions, two right and two wrong. The critic is wrong in every verdict and right in every correction but
/// one that has no answer; the judge is right in every verdict, and what it solves anew is wrong.
#[test]
fn the_counter_example_is_a_judge_with_right_verdicts_and_wrong_corrections() {
    let right = [true, true, false, false];
    let item = |&right: &bool| Item {
        problem: Problem::new("p", "t", "q"),
        author: "a".into(),
        solution: String::new(),
        right,
        first_wrong: (!right).then_some(0),
    };
    let items: Vec<Item> = right.iter().map(item).collect();
    let mut cross: Vec<Outcome> = right.iter().map(|&r| outcome(Some(!r), r, &[true])).collect();
    cross[1] = Outcome { unreadable: true, after: vec![false], ..cross[1].clone() };
    cross[3].verdict = None;
    cross[3].unreadable = true;
    let model = PerModel {
        own: cross.clone(),
        cross,
        solved: vec![(false, false, Usage::default()); 4],
        voted: vec![(true, Usage::default()); 4],
        votes: 2,
        vote_temperature: 0.5,
        judged: right.iter().map(|&r| (Some(unit(r)), Usage::default())).collect(),
    };
    let found = findings(1, &settings(1), &items, &[model]).unwrap();
    let value = |id: &str| found.estimates[id].value;
    assert_eq!((value("verdict-of-judge"), value("correction-over-judge")), (1.0, 0.25));
    assert_eq!(value("verdict-of-truth"), 1.0, "the oracle is an observation");
    assert!(!found.estimates.contains_key("correction-over-truth"), "by construction the parrot's result");
    assert!(!found.estimates.contains_key("turns-break"), "one turn has none after it");
    assert!(
        found.notes[0].contains("2 first critiques led to nothing")
            && found.notes[0].contains("1 could not be read, 1 have a correction without an answer"),
        "{}",
        found.notes[0]
    );
}

#[test]
fn turns_break_more_only_when_no_turn_breaks_less_than_the_one_before() {
    // Broken of four right solutions: 2, then 1, then 3. First to last it rises, from turn 1 to 2 it falls.
    let broken = [[true, true, true], [true, false, true], [false, false, true], [false, false, false]];
    let rows: Vec<Outcome> =
        broken.iter().map(|b| outcome(Some(true), true, &b.map(|broken| !broken))).collect();
    let rows: Vec<&Outcome> = rows.iter().collect();
    let resampling = Resampling::new(Bootstrap::default(), 1);
    let rise = |turns| smallest_rise(&resampling, &rows, turns).unwrap().map(|interval| interval.value);
    assert_eq!((rise(1), rise(2), rise(3)), (None, Some(-0.25), Some(-0.25)));
}
