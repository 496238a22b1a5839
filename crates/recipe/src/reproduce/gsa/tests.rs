//! Rates of the sheet, examples of choosing, what a response in view of drafts costs.

use super::arms::{aggregated, made, spending, vote};
use super::reading::choices;
use super::report::rate;
use crate::reproduce::pool::Sample;
use crate::reproduce::pool::{Pool, Spent, mean};
use crate::reproduce::resampling::Resampling;
use elenchus_measure::Bootstrap;

fn pool(answers: &[&str], gold: &str) -> Pool {
    let sample = |answer: &&str| Sample {
        text: format!("#{answer}"),
        answer: Some((*answer).to_string()),
        correct: *answer == gold,
        tokens: 2,
        sum_logprob: -0.2,
    };
    Pool { prompt_tokens: 5, samples: answers.iter().map(sample).collect() }
}

#[test]
fn rescue_and_damage_of_the_sheet() {
    // (majority right, new response right) = (1,1), (1,0), (0,1), (0,0), (0,1)
    let majority = [true, true, false, false, false];
    let right = [true, false, true, false, true];
    let drafts: Vec<Pool> =
        majority.iter().map(|&m| pool(if m { &["1", "1", "2"] } else { &["2", "2", "1"] }, "1")).collect();
    let written: Vec<Pool> = right.iter().map(|&r| pool(&[if r { "1" } else { "9" }], "1")).collect();
    let made = made(&drafts, &written);
    let resampling = Resampling::new(Bootstrap::default(), 1);
    let rescue = rate(&resampling, &made, |m| m.right, |m| !m.majority_right).unwrap().unwrap();
    let damage = rate(&resampling, &made, |m| !m.right, |m| m.majority_right).unwrap().unwrap();
    assert!((rescue.value - 2.0 / 3.0).abs() < 1e-12 && (damage.value - 0.5).abs() < 1e-12);
    assert_eq!(mean(&aggregated(&drafts, 3, &written).right), 0.6);
    assert_eq!(mean(&vote(&drafts, 3).right), 0.4);
    assert!(made[1].novel && !made[0].novel && made[0].repeats);
}

#[test]
fn choices_name_a_right_draft_in_every_place_and_are_as_many_as_asked() {
    let drafts = [pool(&["1", "2", "3"], "1"), pool(&["4", "5", "6"], "1"), pool(&["2", "1", "1"], "1")];
    let found = choices(&drafts, 9);
    assert_eq!(found.len(), 9, "as many as rows with drafts");
    for (question, order, target) in &found {
        assert_ne!(*question, 1, "it has no right draft");
        assert!(drafts[*question].samples[order[target - 1]].correct);
    }
    let places =
        |q| found.iter().filter(move |c| c.0 == q).map(|c| c.2).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(places(0).len(), 3, "{found:?}");
    assert!(choices(&drafts[1..2], 4).is_empty(), "nothing to teach");
}

#[test]
fn three_drafts_and_the_new_response_are_four_responses() {
    let drafts = pool(&["1", "2", "3", "4"], "1");
    let written = pool(&["1"], "1");
    assert_eq!(
        spending(&drafts, 3, &written),
        Spent { responses: 4.0, written: 8.0, read: 10.0, prefill: 20.0 }
    );
}
