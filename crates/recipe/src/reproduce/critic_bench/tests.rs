//! The benchmark and the check on the numbers of the sheet.

use super::bench::{Item, pair, terciles};
use super::*;
use crate::reproduce::resampling::Resampling;
use elenchus_measure::Bootstrap;
use elenchus_trace::{Feedback, Outcome, Usage, Verdict};

fn drawn(answer: &str, right: bool, steps: usize) -> Drawn {
    Drawn {
        text: format!("{answer}/{steps}"),
        answer: Some(answer.into()),
        right,
        steps,
        usage: Usage::default(),
    }
}

fn told(right: f64, unread: f64) -> Said {
    Said { right, wrong: 1.0 - right - unread, unread, usage: Usage { calls: 1, ..Usage::default() } }
}

fn question(answers: &[(&str, bool, usize)], wrong: &[usize]) -> Question {
    let said = |index| told(f64::from(u8::from(!wrong.contains(&index))), 0.0);
    Question {
        drawn: answers.iter().map(|&(answer, right, steps)| drawn(answer, right, steps)).collect(),
        said: (0..answers.len()).map(said).collect(),
    }
}

/// 100 samples = 50 right, 40 of one wrong answer, 10 of another: the wrong item is one of the 40.
#[test]
fn a_convincing_wrong_response_has_the_most_frequent_wrong_answer_and_most_steps() {
    let mut answers = vec![("18", true, 3); 50];
    answers.extend(vec![("20", false, 2); 39]);
    answers.push(("20", false, 4));
    answers.extend(vec![("16", false, 9); 10]);
    let question = question(&answers, &[]);
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let [right, wrong] = pair(&question, Wrong::Convincing, &mut random).unwrap();
    assert_eq!((right.text.as_str(), wrong.text.as_str()), ("18/3", "20/4"));
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..200 {
        seen.insert(pair(&question, Wrong::Uniform, &mut random).unwrap()[1].answer.clone());
    }
    assert_eq!(seen.len(), 2, "any wrong answer is drawn");
    let sure = self::question(&[("18", true, 1)], &[]);
    assert!(pair(&sure, Wrong::Convincing, &mut random).is_none(), "no wrong response, no item");
}

#[test]
fn the_check_of_the_numeric_example_and_its_gate() {
    let mut answers = vec![("18", false, 1); 4];
    answers.extend(vec![("20", true, 1); 3]);
    answers.extend(vec![("16", false, 1); 3]);
    let uncertain = question(&answers, &[0, 1, 2, 7, 8]);
    assert!((uncertain.certainty(10) - 0.287_682).abs() < 1e-6);
    assert!(!uncertain.vote(10), "the plain vote says 18");
    assert!(uncertain.self_check(10, 1.0));
    assert_eq!((uncertain.critiques(10, 1.0), uncertain.critiques(10, 0.2)), (10, 0));
    assert!(!uncertain.self_check(10, 0.2), "above the threshold nothing is checked");
    let all = question(&answers, &(0..10).collect::<Vec<_>>());
    assert!(!all.self_check(10, 1.0), "none survives: the first vote stands");
}

#[test]
fn terciles_keep_equal_certainties_together() {
    assert_eq!(terciles(&[0.0, 0.0, 1.0, 1.0, f64::INFINITY, f64::INFINITY]), [0, 0, 1, 1, 2, 2]);
    assert!(terciles(&[1.0; 3]).windows(2).all(|pair| pair[0] == pair[1]));
}

fn item(question: usize, right: bool) -> Item {
    Item { question, generator: 0, right, text: String::new(), certainty: 0.0 }
}

/// Share of right judgments, by our rule and by the paper's.
fn accuracy(bench: &Bench, critic: usize) -> [f64; 2] {
    let sum = |rows: Vec<[f64; 2]>| {
        let sum = rows.iter().fold([0.0; 2], |s, r| [s[0] + r[0], s[1] + r[1]]);
        sum[0] / sum[1]
    };
    let paper = |said: Said, item: &Item| [said.accuracy_of_the_paper(item.right), 1.0];
    [sum(bench.accuracy(critic, None)), sum(bench.per_question(critic, None, paper))]
}

#[test]
fn a_critic_that_never_speaks_the_pattern_has_one_half_by_the_paper_s_rule_and_nothing_by_ours() {
    let said = vec![vec![told(0.0, 1.0); 2], vec![told(1.0, 0.0); 2]];
    let bench = Bench { items: vec![item(0, true), item(0, false)], said, questions: 1 };
    assert_eq!(accuracy(&bench, 0), [0.0, 0.5], "silence is counted, and not turned into `correct`");
    assert_eq!(accuracy(&bench, 1), [0.5, 0.5], "always `correct` is at chance on a balanced set");
}

#[test]
fn four_of_eight_judgments_are_half_right_and_discard_nothing() {
    let feedback = |score: f64, reason: Option<&str>| Feedback {
        verdict: Some(Verdict {
            outcome: if score >= 0.5 { Outcome::Correct } else { Outcome::Wrong },
            answer: None,
            steps: Vec::new(),
            reason: reason.map(str::to_string),
        }),
        ..Feedback::score("judgment", score)
    };
    let tie = Said::of(&feedback(0.5, None), 8);
    assert_eq!((tie.accuracy(true), tie.accuracy(false)), (0.5, 0.5), "no majority decides for `correct`");
    assert!(!tie.discards() && Said::of(&feedback(0.375, None), 8).discards());
    // One of three that can be read says correct; the fourth cannot be read.
    let some = Said::of(&feedback(1.0 / 3.0, Some("1 of 4 judgments could not be read")), 4);
    assert!((some.right - 0.25).abs() < 1e-12 && (some.wrong - 0.5).abs() < 1e-12 && some.unread == 0.25);
    assert!((some.accuracy_of_the_paper(true) - 0.5).abs() < 1e-12);
    let silent = Said::of(&Feedback::abstain("judgment", "no judgment can be used"), 8);
    assert_eq!((silent.right, silent.wrong, silent.unread), (0.0, 0.0, 1.0));
    // Critic certainty: 6 of 8 against 2, and a unanimous one.
    assert!((told(0.75, 0.0).certainty(8) - 3f64.ln()).abs() < 1e-12);
    assert_eq!((told(1.0, 0.0).certainty(8), silent.certainty(8)), (f64::INFINITY, 0.0));
}

#[test]
fn the_two_items_of_a_question_are_no_independent_evidence() {
    // A critic that is right about both items of every other question, or about neither.
    let items: Vec<Item> = (0..100).flat_map(|q| [item(q, true), item(q, false)]).collect();
    let said = items
        .iter()
        .map(|item| told(f64::from(u8::from((item.question % 2 == 0) == item.right)), 0.0))
        .collect();
    let bench = Bench { items, said: vec![said], questions: 100 };
    let resampling = Resampling::new(Bootstrap::default(), 1);
    let found = resampling.sums("accuracy", &bench.accuracy(0, None), |[a, n]| Some(a / n)).unwrap().unwrap();
    assert!((found.value - 0.5).abs() < 1e-12);
    // Of 100 questions the half width is 0.098, of 200 independent items it would be 0.069.
    assert!(found.high - found.low > 0.18, "{found:?}");
}

fn settings(gates: &[f64]) -> Settings {
    Settings {
        questions: 2,
        validation: 1,
        samples: 10,
        temperature: 1.0,
        votes: 1,
        gates: gates.to_vec(),
        thresholds: vec![0.0, 1.0],
        seeds: vec![1],
    }
}

/// The sheet's question, which the check repairs, and one that is certain.
fn model(repaired: bool) -> PerModel {
    let mut answers = vec![("18", false, 1); 4];
    answers.extend(vec![("20", true, 1); 3]);
    answers.extend(vec![("16", false, 1); 3]);
    let wrong: &[usize] = if repaired { &[0, 1, 2, 7, 8] } else { &[] };
    // Ten more samples for the vote that spends critiques on samples: they say 18 as well.
    answers.extend(vec![("18", false, 1); 10]);
    let certain = question(&[("1", true, 1); 20], &[]);
    let validation = vec![question(&[("1", true, 1); 20], &[])];
    PerModel { validation, test: vec![question(&answers, wrong), certain], greedy: vec![false, true] }
}

#[test]
fn claims_are_about_the_largest_model_at_fixed_gates_even_where_validation_checks_nothing() {
    let bench = || Bench {
        items: vec![item(0, true), item(0, false)],
        said: vec![vec![told(1.0, 0.0); 2]; 2],
        questions: 2,
    };
    let corrected = vec![vec![elenchus_measure::Dialogue { first: true, second: true }; 2], Vec::new()];
    let seed = PerSeed {
        models: vec![model(false), model(true)],
        convincing: bench(),
        letter: bench(),
        steps: bench(),
        uniform: bench(),
        corrected,
    };
    let found = numbers::findings(1, &settings(&[1.0, 0.2]), &[seed]).unwrap();
    let value = |id: &str| found.estimates[id].value;
    assert_eq!(value("gated-over-vote"), 1.0, "the checked question of the larger model is repaired");
    assert_eq!(value("not-below-equal-vote"), 0.5);
    assert!(!found.estimates.contains_key("gated-over-vote-at-0.2"), "nothing is below that gate");
    assert_eq!(value("not-below-equal-vote-at-0.2"), 0.0);
    assert_eq!(value("chosen-not-below-equal-vote"), 0.0, "validation chose to check nothing");
    let titles: Vec<&str> = found.tables.iter().map(|table| table.title.as_str()).collect();
    assert!(titles.contains(&"Self-check, model 1") && titles.contains(&"Self-check, model 2"), "{titles:?}");
    let accuracy = |title: &str| {
        let table = found.tables.iter().find(|table| table.title == title).unwrap();
        format!("{:?}", table.rows[1][4])
    };
    assert_ne!(accuracy("Self-check, model 1"), accuracy("Self-check, model 2"), "models are not pooled");
}
