//! Choosing, paying and what is changed by ablations.

use super::*;

#[test]
fn choosing_among_judged_samples() {
    let told = |scores: &[Option<f64>]| -> Vec<Feedback> {
        scores
            .iter()
            .map(|score| match score {
                Some(score) => Feedback::score("judge", *score),
                None => Feedback::abstain("judge", "unreadable"),
            })
            .collect()
    };
    let pick = |scores: &[Option<f64>]| pick(&told(scores).iter().collect::<Vec<_>>());
    assert_eq!(pick(&[Some(0.2), Some(0.6), Some(0.9)]), (2, 1));
    assert_eq!(pick(&[None, Some(0.4), Some(0.3)]), (1, 2), "nothing is judged good: the last");
    assert_eq!(pick(&[None, None]), (0, 1), "an abstention is no score");
}

#[test]
fn the_control_of_length_is_the_sample_nearest_in_length() {
    assert_eq!(nearest(&[9, 3, 5, 4], 4), 3);
    assert_eq!(nearest(&[9, 3, 5], 4), 1, "the first of two that are as near");
    assert_eq!(nearest(&[9], 0), 0);
}

#[test]
fn ablations_change_one_thing_each() {
    let whole = RainSettings::default();
    for (arm, name) in SEARCHES.iter().enumerate() {
        let strategy = searching(arm, &whole, 1).unwrap();
        assert_eq!(strategy.name(), "rain", "{name}");
        // The coin judges without a model, every other arm asks the judge.
        assert_eq!(strategy.needs().roles.iter().any(|role| role.role == "judge"), arm != COIN, "{name}");
    }
}

#[test]
fn spending_counts_the_samples_that_were_drawn() {
    let task = Rules::new(RulesSettings::default()).unwrap();
    let problem = task.problems(Split::Train, 1, 1).unwrap().remove(0);
    let sample = |text: &str, tokens| Sample {
        text: text.into(),
        answer: None,
        correct: false,
        tokens,
        sum_logprob: -1.0,
    };
    let pool = Pool { prompt_tokens: 7, samples: vec![sample("goshed", 3), sample("gobarn", 5)] };
    let mut feedback = Feedback::score("judge", 0.5);
    feedback.usage.prompt_tokens = 20;
    let told = [&feedback, &feedback];
    let all = paid(&task, &problem, &pool, &told, 1, 2).unwrap();
    assert_eq!((all.text.as_str(), all.generated, all.judged, all.spent()), ("gobarn", 8, 40, 48));
    let first = paid(&task, &problem, &pool, &told, 0, 1).unwrap();
    assert_eq!((first.generated, first.judged), (3, 20), "rejection stops there");
}
