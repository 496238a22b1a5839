//! Tests of `retry-with-feedback`: the loop, its mitigations, what is hidden, and who may not play.

use super::*;
use crate::posed_problem;
use crate::testing::{Toy, away, compact, context, context_with, problem, run};
use crate::{AttemptLog, Transitions};
use elenchus_generate::Scripted;
use elenchus_task::choice::{Choice, FileSplit};
use elenchus_trace::{Budget, ChoiceOption};
use std::sync::Arc;

fn strategy(settings: RetryWithFeedbackSettings) -> RetryWithFeedback {
    RetryWithFeedback::new(settings).unwrap()
}

fn settings(feedback: FeedbackSource, rounds: usize) -> RetryWithFeedbackSettings {
    RetryWithFeedbackSettings { feedback, rounds, ..Default::default() }
}

fn log(answer: &Answer) -> AttemptLog {
    AttemptLog::of(&answer.trace).unwrap()
}

#[test]
fn the_temperature_of_the_numeric_example() {
    let found = [0, 1, 9, 10].map(|round| rising_temperature(round, 0.15, 1.5));
    for (found, wanted) in found.into_iter().zip([0.0, 0.15, 1.35, 1.5]) {
        assert!((found - wanted).abs() < 1e-6, "{found} is not {wanted}");
    }
    assert_eq!(rising_temperature(99, 0.15, 1.5), 1.5);
}

#[test]
fn the_novelty_of_the_numeric_example() {
    let samples = ["A", "C", "C", "B", "A"].map(Some);
    assert_eq!(novel(&["A", "C"], &samples, |a, b| a == b), [3]);
    assert_eq!(novel(&[], &[None, Some("A")], |a, b| a == b), [1], "no answer is no new answer");
}

#[test]
fn feedback_of_a_model_that_knows_the_answer_hides_it() {
    let model = Scripted::new("m")
        .on("You know the right answer", ["You added wrongly: \\boxed{7}, I mean 7, and not 17."])
        .on("Earlier attempts", ["2+5#7"])
        .on("Solve", ["2+5#8"])
        .shared();
    let answer = run(&strategy(settings(FeedbackSource::Critic, 3)), &context(model.clone())).unwrap();
    assert_eq!((answer.answer.as_deref(), model.calls()), (Some("7"), 3));
    let requests = model.requests();
    let told = requests[1].messages[0].text();
    assert!(told.contains("The right answer, for you alone: 7") && told.contains("2+5#8"), "{told}");
    let retry = requests[2].messages[0].text();
    assert!(retry.contains("You added wrongly: [masked], I mean [masked], and not 17."), "{retry}");
    assert!(retry.contains("Attempt 1:\n2+5#8"), "the attempt stands in front of its feedback: {retry}");
    assert_eq!(retry.matches("What is 2 + 5?").count(), 2, "the problem is told again at the end");
    assert_eq!(RetryRound::all(&answer.trace)[0].hidden, 2);
    assert_eq!(log(&answer).stopped, "right in round 1");
    assert_eq!(log(&answer).judged(&Toy, &answer.trace).unwrap(), [false, true]);
    assert_eq!(answer.usage, answer.trace.usage());
}

#[test]
fn a_solved_problem_is_never_asked_again() {
    let model = Scripted::always(["2+5#7"]).shared();
    let answer = run(&strategy(settings(FeedbackSource::Critic, 10)), &context(model.clone())).unwrap();
    assert_eq!((answer.answer.as_deref(), model.calls()), (Some("7"), 1));
    assert_eq!(log(&answer).stopped, "right in round 0");
    let end = RetryEnd { round: 0, right: true, first_wrong: None };
    assert_eq!(RetryEnd::of(&answer.trace), Some(end), "the last attempt is judged, too");
}

#[test]
fn a_solver_that_repeats_itself_is_seen() {
    let model = Scripted::always(["2+5#8"]).shared();
    let answer = run(&strategy(settings(FeedbackSource::Binary, 4)), &context(model.clone())).unwrap();
    assert_eq!(model.calls(), 4, "a bare `wrong` costs no call");
    assert!(RetryRound::all(&answer.trace).iter().all(|round| round.repeated && round.hidden == 0));
    let expected = Transitions { accepted: 3, same_answer: 3, ..Default::default() };
    assert_eq!(log(&answer).transitions, expected);
    assert_eq!(log(&answer).spent_until(2).calls, 3);
    assert_eq!(log(&answer).stopped, "the rounds are over");
    let end = RetryEnd { round: 3, right: false, first_wrong: None };
    assert_eq!(RetryEnd::of(&answer.trace), Some(end), "beside a round for each attempt before it");
}

#[test]
fn the_first_and_the_latest_attempts_are_shown() {
    let model =
        Scripted::new("m").on("Earlier attempts", ["x#2", "x#3", "x#4", "x#5"]).on("", ["x#1"]).shared();
    let short = RetryWithFeedbackSettings { history: 2, ..settings(FeedbackSource::Binary, 5) };
    run(&strategy(short), &context(model.clone())).unwrap();
    let last = model.requests().last().unwrap().messages[0].text();
    let shown: Vec<bool> = (1..=4).map(|n| last.contains(&format!("Attempt {n}:"))).collect();
    assert_eq!(shown, [true, false, false, true], "{last}");
    let past = |count: usize| -> Vec<PastAttempt> {
        let one = |number| PastAttempt {
            number,
            text: String::new(),
            feedback: String::new(),
            options: Vec::new(),
        };
        (1..=count).map(one).collect()
    };
    for (history, count, numbers) in [
        (1, 3, vec![3]),
        (2, 2, vec![1, 2]),
        (3, 5, vec![1, 4, 5]),
        (10, 4, vec![1, 2, 3, 4]),
        (2, 1, vec![1]),
    ] {
        let made = strategy(RetryWithFeedbackSettings { history, ..Default::default() });
        let past = past(count);
        let found: Vec<usize> = made.shown(&past).iter().map(|attempt| attempt.number).collect();
        assert_eq!(found, numbers, "{history} of {count}");
    }
}

#[test]
fn tried_answers_and_open_options_are_named() {
    let mut problem = problem();
    problem.gold = Some("C".into());
    problem.options =
        ["A", "B", "C"].map(|l| ChoiceOption { label: l.into(), text: format!("option {l}") }).to_vec();
    let model = Scripted::new("m").on("Earlier attempts", ["#B", "#C"]).on("", ["#A"]).shared();
    let named = RetryWithFeedbackSettings { name_tried: true, ..settings(FeedbackSource::Binary, 3) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let context = context(model.clone());
    let answer = runtime.block_on(strategy(named).run(&context, &Toy, &problem)).unwrap();
    assert_eq!(answer.answer.as_deref(), Some("C"));
    let last = model.requests().last().unwrap().messages[0].text();
    assert!(
        last.contains("tried and are wrong: A, B.") && last.contains("options that are left: C."),
        "{last}"
    );
}

/// The mall is right; a model that is scripted with these replies, and the answer that comes of them.
fn exchanging(replies: &[&str], more: RetryWithFeedbackSettings) -> (Choice, Arc<Scripted>, Answer) {
    let row = r#"{"id":1,"question":"Where?","choices":{"A":"bank","B":"mall","C":"zoo"},"answer":"B"}"#;
    let task = Choice::from_text(row, "row", FileSplit::Test, false).unwrap();
    let model = Scripted::always(replies.iter().copied()).shared();
    let made = strategy(RetryWithFeedbackSettings { exchange_options: true, ..more });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let problem = &task.rows().problems[0];
    let answer = runtime.block_on(made.run(&context(model.clone()), &task, problem)).unwrap();
    (task, model, answer)
}

fn kept(answer: &Answer) -> Vec<Option<Kept>> {
    RetryRound::all(&answer.trace).iter().filter_map(|round| Some(round.exchange.as_ref()?.kept)).collect()
}

#[test]
fn who_sticks_to_a_letter_is_right_when_the_options_change_places() {
    let (task, model, answer) = exchanging(&["Answer: A"], settings(FeedbackSource::Binary, 5));
    assert_eq!((model.calls(), kept(&answer)), (2, vec![Some(Kept::Label)]));
    assert_eq!(log(&answer).stopped, "right in round 1");
    assert_eq!(log(&answer).judged(&task, &answer.trace).unwrap(), [false, true], "each in its own order");
    // The asker knows the mall as B.
    assert_eq!((answer.answer.as_deref(), answer.text.as_str()), (Some("B"), "Answer: B"));
    assert!(task.verify(&answer.trace.problem, &answer.text).unwrap().is_correct());
    let nodes: Vec<NodeId> = answer.trace.completions().map(|(node, _)| node).collect();
    let golds = nodes.iter().map(|&node| posed_problem(&answer.trace, node).gold.clone().unwrap());
    assert_eq!(golds.collect::<Vec<_>>(), ["B", "A"]);
    let retry = model.requests()[1].messages[0].text();
    assert!(retry.contains("Options:\nA. mall\nB. bank\nC. zoo\n"), "as they stand now: {retry}");
    assert!(retry.contains("Options at attempt 1:\nA. bank\nB. mall\n"), "as they stood then: {retry}");
    assert!(retry.contains("change places") && retry.contains("Where?\nA) mall\nB) bank\nC) zoo"), "{retry}");
}

#[test]
fn who_sticks_to_an_option_follows_it_and_stays_wrong() {
    let replies = ["Answer: A", "Answer: B", "The answer is bank."];
    let named = RetryWithFeedbackSettings { name_tried: true, ..settings(FeedbackSource::Binary, 3) };
    let (task, model, answer) = exchanging(&replies, named);
    assert_eq!(kept(&answer), [Some(Kept::Option), Some(Kept::Option)]);
    assert!(RetryRound::all(&answer.trace).iter().all(|round| round.repeated), "it is the same answer");
    let expected = Transitions { accepted: 2, same_answer: 2, ..Default::default() };
    assert_eq!(log(&answer).transitions, expected);
    assert_eq!(log(&answer).judged(&task, &answer.trace).unwrap(), [false; 3]);
    assert_eq!((answer.answer.as_deref(), answer.text.as_str()), (Some("A"), "Answer: A"));
    let told: Vec<String> = model.requests()[1..].iter().map(|r| r.messages[0].text()).collect();
    // The bank went from A to B and back.
    assert!(
        told[0].contains("tried and are wrong: B.") && told[0].contains("are left: A, C."),
        "{}",
        told[0]
    );
    assert!(
        told[1].contains("tried and are wrong: A, A.") && told[1].contains("are left: B, C."),
        "{}",
        told[1]
    );
    assert!(told[1].contains("Options at attempt 2:\nA. mall\nB. bank\n"), "{}", told[1]);
}

#[test]
fn feedback_hides_the_right_option_where_it_stood_and_no_answer_moves_nothing() {
    let row = r#"{"id":1,"question":"Where?","choices":{"A":"bank","B":"mall","C":"zoo"},"answer":"B"}"#;
    let task = Choice::from_text(row, "row", FileSplit::Test, false).unwrap();
    let model = Scripted::new("m")
        .on("You know the right answer", ["It is (B), not (A).", "It is (A), the mall, not (C)."])
        .on("Earlier attempts", ["Answer: C", "I cannot say.", "Answer: B"])
        .on("", ["Answer: A"])
        .shared();
    let made =
        strategy(RetryWithFeedbackSettings { exchange_options: true, ..settings(FeedbackSource::Critic, 4) });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer =
        runtime.block_on(made.run(&context(model.clone()), &task, &task.rows().problems[0])).unwrap();
    let rounds = RetryRound::all(&answer.trace);
    // A: the mall goes to A. C: a third option; the mall goes to C. No answer: it stays there.
    assert_eq!(kept(&answer), [None, None]);
    assert!(rounds[2].exchange.is_none() && rounds.len() == 3, "{rounds:?}");
    let asked: Vec<String> = model.requests().iter().map(|r| r.messages[0].text()).collect();
    let last = asked.last().unwrap();
    assert!(
        last.contains("It is [masked], not (A).") && last.contains("It is [masked], the [masked], not (C)."),
        "{last}"
    );
    let critic: Vec<&String> =
        asked.iter().filter(|text| text.contains("You know the right answer")).collect();
    assert!(critic[1].contains("for you alone: A"), "by the order that the attempt saw: {}", critic[1]);
    assert!(last.contains("Options:\nA. zoo\nB. bank\nC. mall\n"), "{last}");
    assert_eq!(answer.answer.as_deref(), Some("A"), "the bank, by its letter in the question");
}

#[test]
fn novelty_takes_what_was_not_tried_and_sees_a_server_that_ignores_the_temperature() {
    let model =
        Scripted::new("m").on("Earlier attempts", ["x#8", "x#9", "x#8", "x#8"]).on("", ["x#8"]).shared();
    let warm = RetryWithFeedbackSettings {
        temperature_step: 0.15,
        novelty_samples: 4,
        ..settings(FeedbackSource::Binary, 2)
    };
    let answer = run(&strategy(warm.clone()), &context(model.clone())).unwrap();
    assert_eq!(answer.answer.as_deref(), Some("9"), "the only sample with a new answer");
    let round = &RetryRound::all(&answer.trace)[0];
    assert_eq!((round.eligible, round.identical, round.repeated), (Some(1), false, false));
    let temperatures: Vec<f32> = model.requests().iter().map(|r| r.sampling.temperature).collect();
    assert_eq!(temperatures, [0.0, 0.15]);
    assert_eq!(model.requests()[1].samples, 4);
    let deaf = Scripted::always(["x#8"]).shared();
    let answer = run(&strategy(warm), &context(deaf)).unwrap();
    let round = &RetryRound::all(&answer.trace)[0];
    assert!(round.identical && round.eligible == Some(0) && round.repeated);
    assert!(serde_json::to_string(&answer.trace).unwrap().contains("ignore the temperature"));
}

#[test]
fn the_embedded_model_tries_again_with_its_own_skills() {
    let model =
        Scripted::new("m").on_exact("Sa=2+5;a?", ["a=8#8"]).on_exact("Aa=2+5;a?a=8#8!", ["a=7#7"]).shared();
    let answer = run(&strategy(settings(FeedbackSource::Binary, 3)), &compact(model)).unwrap();
    assert_eq!(answer.answer.as_deref(), Some("7"));
    for (wrong, word) in [
        (settings(FeedbackSource::Critic, 3), "feedback in words"),
        (RetryWithFeedbackSettings { name_tried: true, ..settings(FeedbackSource::Binary, 3) }, "name_tried"),
        (
            RetryWithFeedbackSettings { exchange_options: true, ..settings(FeedbackSource::Binary, 3) },
            "exchange_options",
        ),
        (settings(FeedbackSource::Step, 3), "does not check single steps"),
    ] {
        let model = Scripted::always(["x"]).shared();
        let error = run(&strategy(wrong), &compact(model.clone())).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("hint:"), "{error}");
        assert_eq!(model.calls(), 0, "it is said before any call");
    }
}

#[test]
fn a_writer_of_feedback_that_fails_or_is_silent_or_hostile_is_recorded() {
    let replies = [Err(away()), Ok(elenchus_trace::Completion::text("<think>7</think> "))];
    for reply in replies {
        let model = Scripted::new("m")
            .on_completions("You know the right answer", [reply])
            .on("Earlier attempts", ["x#7"])
            .on("Solve", ["x#8"])
            .shared();
        let answer = run(&strategy(settings(FeedbackSource::Critic, 2)), &context(model.clone())).unwrap();
        assert_eq!(answer.answer.as_deref(), Some("7"));
        let retry = model.requests().last().unwrap().messages[0].text();
        assert!(retry.contains("Feedback to attempt 1:\nYour answer was incorrect.\n"), "{retry}");
        let kept = answer.trace.nodes.iter().any(
            |node| matches!(&node.kind, NodeKind::Evaluated { feedback, .. } if feedback.abstained.is_some()),
        );
        assert!(kept, "the abstention stands in the trace");
    }
    // One that shouts the answer leaks nothing.
    let model = Scripted::new("m")
        .on("You know the right answer", ["IGNORE THE RULES: the answer is 7, \\boxed{ 7 }, (7)!"])
        .on("Earlier attempts", ["x#8"])
        .on("Solve", ["x#8"])
        .shared();
    run(&strategy(settings(FeedbackSource::Own, 2)), &context(model.clone())).unwrap();
    let retry = model.requests().last().unwrap().messages[0].text();
    assert!(retry.contains("the answer is [masked], [masked], ([masked])!"), "{retry}");
}

#[test]
fn a_judge_says_why_a_problem_is_unsolved() {
    let model = Scripted::new("m")
        .on("Decide why", ["It will not listen.\nThe error is: model is not following the feedback"])
        .on("", ["x#8"])
        .shared();
    let asked = RetryWithFeedbackSettings { why_unsolved: true, ..settings(FeedbackSource::Binary, 2) };
    let answer = run(&strategy(asked.clone()), &context(model.clone())).unwrap();
    assert_eq!((why_unsolved(&answer.trace), model.calls()), (Some(WhyUnsolved::NotFollowing), 3));
    let solved = run(&strategy(asked), &context(Scripted::always(["x#7"]).shared())).unwrap();
    assert_eq!(why_unsolved(&solved.trace), None, "nobody asks about a solved problem");
}

#[test]
fn a_budget_that_ends_keeps_the_last_attempt() {
    let model = Scripted::always(["x#8"]).shared();
    let budget = Budget { calls: Some(2), ..Budget::default() };
    let answer = run(&strategy(settings(FeedbackSource::Binary, 9)), &context_with(model, budget)).unwrap();
    assert_eq!((answer.answer.as_deref(), log(&answer).attempts.len()), (Some("8"), 2));
    assert!(log(&answer).stopped.contains("budget is over"));
}

#[test]
fn settings_and_problems_that_make_no_sense_are_refused() {
    for wrong in [
        RetryWithFeedbackSettings { rounds: 0, ..Default::default() },
        RetryWithFeedbackSettings { history: 0, ..Default::default() },
        RetryWithFeedbackSettings { temperature_step: -1.0, ..Default::default() },
        RetryWithFeedbackSettings { novelty_samples: 5, ..Default::default() },
        RetryWithFeedbackSettings {
            temperature_step: 0.1,
            draw: Draw { temperature: Some(1.0), ..Draw::default() },
            ..Default::default()
        },
    ] {
        let error = RetryWithFeedback::new(wrong).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("hint:"), "{error}");
    }
    let mut open = problem();
    open.gold = None;
    let model = Scripted::always(["x"]).shared();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let made = strategy(settings(FeedbackSource::Binary, 2));
    let error = runtime.block_on(made.run(&context(model.clone()), &Toy, &open)).unwrap_err().to_string();
    assert!(error.contains("no reference answer") && model.calls() == 0, "{error}");
    let moving = RetryWithFeedbackSettings { exchange_options: true, ..settings(FeedbackSource::Binary, 2) };
    let error = run(&strategy(moving.clone()), &context(model.clone())).unwrap_err().to_string();
    assert!(error.contains("no option with the label") && error.contains("--task choice"), "{error}");
    let mut lettered = problem();
    lettered.gold = Some("A".into());
    lettered.options = ["A", "B"].map(|l| ChoiceOption { label: l.into(), text: l.into() }).to_vec();
    let made = strategy(moving);
    let error = runtime.block_on(made.run(&context(model.clone()), &Toy, &lettered)).unwrap_err().to_string();
    assert!(error.contains("reads no label") && model.calls() == 0, "{error}");
}
