//! Tests of `ask-again`: the second turn, both voices, the vote, the accounts, and what stands when a turn does not come.

use super::*;
use crate::AttemptLog;
use crate::testing::{Toy, compact, context, context_with, problem, run};
use elenchus_generate::{LanguageModel, Scripted};
use elenchus_measure::Dialogue;
use elenchus_trace::{Budget, Trace};
use std::sync::Arc;
use std::time::Duration;

fn strategy(settings: AskAgainSettings) -> AskAgain {
    AskAgain::new(settings).unwrap()
}

fn with(dialogues: usize) -> AskAgainSettings {
    AskAgainSettings { dialogues, ..Default::default() }
}

fn dialogues(trace: &Trace) -> Vec<Option<Dialogue>> {
    AttemptLog::dialogues(trace).iter().map(|log| log.dialogue(&Toy, trace).unwrap()).collect()
}

fn run_on(settings: AskAgainSettings, context: &Context, problem: &Problem) -> Answer {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(strategy(settings).run(context, &Toy, problem)).unwrap()
}

#[test]
fn the_second_turn_goes_on_in_the_dialogue_and_asks_the_same() {
    let model = Scripted::always(["x#8", "y#7"]).shared();
    let answer = run(&strategy(with(1)), &context(model.clone())).unwrap();
    assert_eq!((answer.answer.as_deref(), answer.text.as_str(), model.calls()), (Some("7"), "y#7", 2));
    assert_eq!(answer.confidence, None, "one dialogue is no share");
    let requests = model.requests();
    let [question, said, again] = requests[1].messages.as_slice() else {
        panic!("{:?}", requests[1].messages)
    };
    assert_eq!((question, said.text().as_str()), (&requests[0].messages[0], "x#8"));
    assert_eq!(again.text(), question.text(), "the question again, and nothing else");
    assert_eq!(requests[1].sampling.temperature, 0.0, "one dialogue is greedy");
    assert_eq!(dialogues(&answer.trace), [Some(Dialogue { first: false, second: true })]);
    assert_eq!(answer.usage, answer.trace.usage());
}

#[test]
fn dialogues_are_independent_and_their_second_answers_vote() {
    let model = Scripted::new("m")
        .delay(Duration::from_millis(20))
        .on("", ["a#7", "b#8", "c#9", "d", "e#7", "f#8", "g#8", "h"])
        .shared();
    let answer = run(&strategy(with(4)), &context(model.clone())).unwrap();
    assert_eq!((model.calls(), model.most_concurrent()), (5, 4), "one call, then all second turns at once");
    assert_eq!((answer.answer.as_deref(), answer.text.as_str()), (Some("8"), "f#8"));
    assert_eq!(answer.confidence, Some(0.5), "a response without an answer is one of the four");
    let requests = model.requests();
    assert_eq!((requests[0].samples, requests[0].sampling.temperature), (4, 0.6));
    let said: Vec<String> = requests[1..].iter().map(|request| request.messages[1].text()).collect();
    assert_eq!(said, ["a#7", "b#8", "c#9", "d"], "each goes on from its own first answer");
    let seeds: std::collections::HashSet<u64> = requests.iter().map(|r| r.sampling.seed).collect();
    assert_eq!(seeds.len(), 5, "no two draw the same numbers");
    let pair = |first, second| Some(Dialogue { first, second });
    assert_eq!(
        dialogues(&answer.trace),
        [pair(true, true), pair(false, false), pair(false, false), pair(false, false)]
    );
    let logs = AttemptLog::dialogues(&answer.trace);
    assert_eq!(logs[0].transitions.same_answer, 1);
    let spent: Usage = logs.iter().map(|log| log.spent_until(1)).sum();
    assert_eq!(spent, answer.usage, "the accounts hold what was spent, once");
}

#[test]
fn steering_stands_in_front_of_the_question_and_tells_nothing_of_the_answer() {
    for (steering, word) in [(Steering::Confidence, "Be confident"), (Steering::Critique, "Be critical")] {
        let model = Scripted::always(["x#8"]).shared();
        let settings = AskAgainSettings { steering, ..with(1) };
        run(&strategy(settings.clone()), &context(model.clone())).unwrap();
        let requests = model.requests();
        let (asked, again) = (requests[0].messages[0].text(), requests[1].messages[2].text());
        assert!(again.starts_with(word) && again.ends_with(&asked), "{again}");
        let front = again.strip_suffix(&asked).unwrap().to_lowercase();
        for hint in ["wrong", "right", "incorrect", "correct"] {
            assert!(!front.contains(hint), "an oracle's hint: {front}");
        }
        let model = Scripted::always(["x#8"]).shared();
        let error = run(&strategy(settings), &compact(model.clone())).unwrap_err().to_string();
        assert!(error.contains("steering") && error.contains("hint:"), "{error}");
        assert_eq!(model.calls(), 0);
    }
}

#[test]
fn the_embedded_model_has_a_skill_for_it() {
    let model = Scripted::new("m")
        .on_exact("Sa=2+5;a?", ["a=2+5=8#8"])
        .on_exact("Aa=2+5;a?a=2+5=8#8!", ["a=2+5=7#7"])
        .shared();
    let answer = run(&strategy(with(3)), &compact(model.clone())).unwrap();
    assert_eq!((answer.answer.as_deref(), answer.confidence), (Some("7"), Some(1.0)));
    assert!(model.requests()[1..].iter().all(|request| request.messages.len() == 1));
}

#[test]
fn a_question_with_a_form_of_its_own_is_asked_again_as_it_stands() {
    let mut asked = problem();
    asked.wants.insert("response_format".into(), json!({"type": "json_object"}));
    asked.history = vec![Message::system("Be brief."), Message::user("What is 2 + 5?")];
    let model = Scripted::always(["{}#7"]).shared();
    run_on(with(1), &context(model.clone()), &asked);
    let messages = &model.requests()[1].messages;
    assert_eq!(messages[..2], asked.history[..]);
    assert_eq!((messages.len(), messages[3].text().as_str()), (4, "What is 2 + 5?"));
    assert_eq!(model.requests()[1].extra, asked.wants, "the second answer is held to the form too");
}

#[test]
fn what_has_no_second_turn_counts_with_its_first_answer() {
    let model: Arc<dyn LanguageModel> = Scripted::always(["a#7", "b#8", "c#8", "d#7", "e#8"]).shared();
    // Of three dialogues, the budget lets one go on.
    let budget = Budget { calls: Some(2), ..Budget::default() };
    let answer = run(&strategy(with(3)), &context_with(Arc::clone(&model), budget)).unwrap();
    assert_eq!(answer.answer.as_deref(), Some("8"), "7 again, and 8 twice as it was");
    let logs = AttemptLog::dialogues(&answer.trace);
    let ends: Vec<(usize, bool)> =
        logs.iter().map(|log| (log.attempts.len(), log.stopped.contains("budget is over"))).collect();
    assert_eq!(ends, [(2, false), (1, true), (1, true)]);
    let none = Budget { calls: Some(1), ..Budget::default() };
    let error = run(&strategy(with(3)), &context_with(model, none)).unwrap_err();
    assert!(matches!(error, ControlError::Budget { .. }), "not one dialogue");
    // Servers refuse an empty turn.
    let silent = Scripted::always(["", "b#7", "c#7"]).shared();
    let answer = run(&strategy(with(2)), &context(silent.clone())).unwrap();
    assert_eq!((answer.answer.as_deref(), answer.confidence, silent.calls()), (Some("7"), Some(0.5), 2));
    assert!(AttemptLog::dialogues(&answer.trace)[0].stopped.contains("is empty"));
}

#[test]
fn without_any_answer_it_abstains() {
    for dialogues in [1, 3] {
        let answer = run(&strategy(with(dialogues)), &context(Scripted::always(["hm"]).shared())).unwrap();
        assert_eq!((answer.answer, answer.confidence, answer.text.as_str()), (None, None, "hm"));
        assert!(answer.abstained.is_some());
    }
}

#[test]
fn settings_without_sense_are_refused() {
    let greedy = Draw { temperature: Some(0.0), ..Draw::default() };
    for (settings, field) in [
        (with(0), "dialogues"),
        (with(1001), "dialogues"),
        (AskAgainSettings { draw: greedy.clone(), ..with(2) }, "temperature"),
    ] {
        let error = AskAgain::new(settings).unwrap_err().to_string();
        assert!(error.contains(field) && error.contains("hint:"), "{error}");
    }
    assert!(AskAgain::new(AskAgainSettings { draw: greedy, ..with(1) }).is_ok());
    assert!(strategy(with(1)).takes_draft() && !strategy(with(2)).takes_draft());
}

#[test]
fn a_draft_is_the_first_turn_and_the_loop_behind_another_is_its_own() {
    let made = crate::strategy("critique-and-refine then ask-again", json!({"ask-again": {"dialogues": 1}}))
        .unwrap();
    let model = Scripted::new("m")
        .on("Check the proposed", ["Step 1: right\nFirst wrong step: none\nAdvice: none"])
        .on("Solve", ["x#8", "y#7"])
        .shared();
    let answer = run(made.as_ref(), &context(model.clone())).unwrap();
    assert_eq!((answer.answer.as_deref(), model.calls()), (Some("7"), 3), "the draft is not drawn again");
    let logs = AttemptLog::dialogues(&answer.trace);
    assert_eq!(
        (logs.len(), logs[0].attempts.len()),
        (1, 2),
        "the account of the loop in front is not among them"
    );
}
