//! The benchmark and the check on the numbers of the sheet.

use super::*;

fn drawn(answer: &str, right: bool, steps: usize) -> Drawn {
    Drawn {
        text: format!("{answer}/{steps}"),
        answer: Some(answer.into()),
        right,
        steps,
        usage: Usage::default(),
    }
}

fn question(answers: &[(&str, bool, usize)], wrong: &[usize]) -> Question {
    let said = |index| Said { right: Some(!wrong.contains(&index)), usage: Usage::default() };
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
    let item = |certainty| Item { question: 0, generator: 0, right: true, text: String::new(), certainty };
    let items = [0.0, 0.0, 1.0, 1.0, f64::INFINITY, f64::INFINITY].map(item);
    let rows: Vec<(bool, &Item)> = items.iter().map(|item| (true, item)).collect();
    let found: Vec<usize> = terciles(&rows).into_iter().map(|row| row.0).collect();
    assert_eq!(found, [0, 0, 1, 1, 2, 2]);
    let same = [1.0, 1.0, 1.0].map(item);
    let rows: Vec<(bool, &Item)> = same.iter().map(|item| (true, item)).collect();
    assert!(terciles(&rows).windows(2).all(|pair| pair[0].0 == pair[1].0));
}

#[test]
fn a_critic_that_never_speaks_the_pattern_has_no_right_judgment() {
    let item = |right| Item { question: 0, generator: 0, right, text: String::new(), certainty: 0.0 };
    let silent = Said { right: None, usage: Usage::default() };
    let yes = Said { right: Some(true), usage: Usage::default() };
    let bench = Bench { items: vec![item(true), item(false)], said: vec![vec![silent; 2], vec![yes; 2]] };
    assert_eq!(mean(&bench.accuracy(0, None)), 0.0, "silence is counted, not turned into `correct`");
    assert_eq!(mean(&bench.accuracy(1, None)), 0.5, "always `correct` is at chance on a balanced set");
}
