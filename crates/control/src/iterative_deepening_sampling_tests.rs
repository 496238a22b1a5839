use super::*;
use crate::testing::{context, context_with, run, seeded};
use elenchus_generate::{Capabilities, LanguageModel, Scripted};
use elenchus_trace::{Budget, Completion, Message, NodeKind, Role, Trace};
use proptest::prelude::*;

fn settings() -> IterativeDeepeningSamplingSettings {
    IterativeDeepeningSamplingSettings { samples: 1, ..Default::default() }
}

fn made(settings: IterativeDeepeningSamplingSettings) -> IterativeDeepeningSampling {
    IterativeDeepeningSampling::new(settings).unwrap()
}

/// Writes words on and on; `end` is the number of words after which an attempt ends by itself, with an answer. The
/// number of restarts so far is the answer.
fn rambler(end: usize) -> Scripted {
    Scripted::new("rambler").on_with(
        |_| true,
        move |request, _| {
            let text: String =
                request.messages.iter().filter(|m| m.role == Role::Assistant).map(Message::text).collect();
            let attempts: Vec<&str> = text.split("from scratch.").collect();
            let attempt = attempts.last().copied().unwrap_or_default();
            let done = attempt.split_whitespace().count();
            let most = request.sampling.max_tokens as usize;
            let (mut completion, count) = if text.ends_with("Answer:") {
                (Completion::text(format!(" #{}", 100 + attempts.len())), 1)
            } else if end - done <= most {
                let words = "word ".repeat((end - done).saturating_sub(1));
                (Completion::text(format!("{words}#{}", attempts.len() - 1)), end - done)
            } else {
                let mut completion = Completion::text("word ".repeat(most));
                completion.finish = FinishReason::Length;
                (completion, most)
            };
            completion.usage.completion_tokens = count as u64;
            completion.usage.calls = 1;
            completion.usage.prompt_tokens = 5 + text.split_whitespace().count() as u64;
            Ok(completion)
        },
    )
}

fn decided(answer: &Answer) -> Value {
    let NodeKind::Decided { data, .. } = &answer.trace.nodes.last().unwrap().kind else { panic!() };
    data.clone()
}

fn written(trace: &Trace) -> Vec<u64> {
    trace.completions().map(|(_, completion)| completion.usage.completion_tokens).collect()
}

#[test]
fn budgets_of_the_sheet() {
    let doubled: Vec<u32> = deepening_budgets(256, 2.0).take(6).collect();
    assert_eq!(doubled, [256, 512, 1024, 2048, 4096, 8192]);
    let total: u32 = doubled.iter().sum();
    assert_eq!(total, 16128);
    let ratio = f64::from(total) / 8192.0;
    assert!((ratio - 1.969).abs() < 5e-4 && ratio <= 2.0, "at most γ/(γ - 1) times the last budget");
    let slow: Vec<u32> = deepening_budgets(100, 1.5).take(5).collect();
    assert_eq!((slow.as_slice(), slow.iter().sum::<u32>()), ([100, 150, 225, 337, 505].as_slice(), 1317));
    assert_eq!(deepening_budgets(7, 1.0).take(3).collect::<Vec<_>>(), [7, 7, 7]);
    assert_eq!(deepening_budgets(u32::MAX, 2.0).nth(1), Some(u32::MAX), "no overflow");
}

#[test]
fn a_response_of_300_tokens_meets_one_trigger() {
    // The whole response is counted: 256 words before the trigger, 44 behind it.
    let model = Scripted::new("ends at 300").on_with(
        |_| true,
        |request, _| {
            let last = request.messages.last().map(Message::text).unwrap_or_default();
            let (text, tokens, finish) = match last.contains("from scratch.") {
                true => (format!("{}#7", "word ".repeat(43)), 44, FinishReason::Stop),
                false => {
                    let most = request.sampling.max_tokens;
                    ("word ".repeat(most as usize), u64::from(most), FinishReason::Length)
                }
            };
            let mut completion = Completion { finish, ..Completion::text(text) };
            completion.usage = Usage { completion_tokens: tokens, calls: 1, ..Usage::default() };
            Ok(completion)
        },
    );
    let answer = run(&made(settings()), &context(model.shared())).unwrap();
    assert_eq!(written(&answer.trace), [256, 44]);
    let data = decided(&answer);
    assert_eq!(data["responses"][0]["triggers"], 1);
    assert_eq!(data["responses"][0]["stopped"], "ended by itself");
    assert_eq!(
        (answer.answer.as_deref(), data["responses"][0]["forced"].as_bool()),
        (Some("7"), Some(false))
    );
}

#[test]
fn the_cap_of_the_sheet() {
    // A trigger of 16 tokens, counted in words by the scripted model.
    let words = vec!["rethink"; 16].join(" ");
    let settings = IterativeDeepeningSamplingSettings {
        trigger_text: Some(words),
        draw: Draw { max_tokens: 1000, ..Draw::default() },
        ..settings()
    };
    let model = rambler(5000).shared();
    let answer = run(&made(settings), &context(model.clone())).unwrap();
    let asked: Vec<u32> = model.requests().iter().map(|request| request.sampling.max_tokens).collect();
    assert_eq!(
        asked,
        [256, 512, 200, 32],
        "after 256 + 16 + 512 = 784 the next is min(1024, 1000 - 784 - 16)"
    );
    let data = decided(&answer);
    assert_eq!(data["responses"][0]["triggers"], 2);
    assert_eq!(data["responses"][0]["stopped"], "the cap is reached");
    assert_eq!(data["responses"][0]["forced"], true);
    assert_eq!(data["injected_tokens"], 33, "two triggers and the opener");
    assert_eq!(data["generated_tokens"], 256 + 512 + 200 + 1);
}

#[test]
fn an_end_stands_or_is_removed() {
    let plain = run(&made(settings()), &context(rambler(40).shared())).unwrap();
    assert_eq!(
        (plain.answer.as_deref(), decided(&plain)["responses"][0]["triggers"].as_u64()),
        (Some("0"), Some(0))
    );
    let reflecting = IterativeDeepeningSamplingSettings {
        on_end: OnEnd::Reflect,
        draw: Draw { max_tokens: 200, ..Draw::default() },
        ..settings()
    };
    let model = rambler(40).shared();
    let answer = run(&made(reflecting), &context(model.clone())).unwrap();
    let data = decided(&answer);
    // 40 and 12 tokens a round: 52, 104, 156, 196 with the trigger cut off by the cap.
    assert_eq!(data["responses"][0]["triggers"], 3);
    assert_eq!(data["responses"][0]["answers"], json!(["0", "1", "2", "3"]));
    assert_eq!(answer.answer.as_deref(), Some("3"), "the last answer behind the last trigger");
    assert!(!answer.text.contains("rethink") && answer.text.ends_with("#3"), "{}", answer.text);
}

#[test]
fn one_trigger_at_the_end() {
    let at_end = IterativeDeepeningSamplingSettings {
        on_end: OnEnd::Reflect,
        most_triggers: Some(1),
        first_budget: 1000,
        draw: Draw { max_tokens: 1000, ..Draw::default() },
        ..settings()
    };
    let answer = run(&made(at_end), &context(rambler(40).shared())).unwrap();
    assert_eq!(written(&answer.trace), [40, 40]);
    assert_eq!(decided(&answer)["responses"][0]["answers"], json!(["0", "1"]));
}

#[test]
fn without_triggers_it_is_plain_sampling() {
    let plain = IterativeDeepeningSamplingSettings {
        most_triggers: Some(0),
        first_budget: 10,
        draw: Draw { max_tokens: 1000, ..Draw::default() },
        ..settings()
    };
    let answer = run(&made(plain), &context(rambler(40).shared())).unwrap();
    assert_eq!(written(&answer.trace), [10, 30], "one round of 10, and all the rest");
    assert_eq!(answer.text, format!("{}#0", "word ".repeat(39)), "the seam is invisible");
    assert_eq!(decided(&answer)["injected_tokens"], 0);
}

#[test]
fn what_stands_before_a_trigger_is_no_answer() {
    // Behind the trigger comes no answer, and none can be forced.
    let model = Scripted::new("m").on("from scratch.", ["hm"]).on_completions(
        "",
        [Ok(Completion { finish: FinishReason::Length, ..Completion::text("it is #7 now ") })],
    );
    let silent = IterativeDeepeningSamplingSettings { answer_tokens: 0, ..settings() };
    let answer = run(&made(silent), &context(model.shared())).unwrap();
    assert_eq!(answer.answer, None);
    assert!(answer.abstained.unwrap().contains("none of the 1 responses"));
}

#[test]
fn the_filler_belongs_to_the_response_and_is_no_part_of_it() {
    let cut = Completion { finish: FinishReason::Length, ..Completion::text("it is ") };
    let model = Scripted::new("m").on("goes on below", ["#7"]).on_completions("", [Ok(cut)]).shared();
    let filler = IterativeDeepeningSamplingSettings { trigger: Trigger::Filler, ..settings() };
    let answer = run(&made(filler), &context(model.clone())).unwrap();
    assert_eq!((answer.text.as_str(), answer.answer.as_deref()), ("it is #7", Some("7")));
    let count = |trigger| {
        let words = IterativeDeepeningSamplingSettings { trigger, ..settings() };
        let words = made(words).words(&context(model.clone()), &crate::testing::problem()).unwrap();
        words.trigger.text.len()
    };
    let (reflect, filler) = (count(Trigger::Reflect), count(Trigger::Filler));
    assert!(reflect.abs_diff(filler) <= 8, "as long as the trigger: {reflect} and {filler} bytes");
}

#[test]
fn samples_of_one_problem_vote_and_share_the_first_request() {
    let three = IterativeDeepeningSamplingSettings { samples: 3, ..settings() };
    let model = Scripted::always(["#7", "#8", "#7"]).shared();
    let answer = run(&made(three), &context(model.clone())).unwrap();
    assert_eq!((answer.answer.as_deref(), answer.confidence), (Some("7"), Some(2.0 / 3.0)));
    assert_eq!(model.calls(), 1);
    assert_eq!(model.requests()[0].samples, 3);
}

#[test]
fn the_first_words_are_those_of_other_strategies() {
    let (ours, theirs) = (rambler(40).shared(), rambler(40).shared());
    run(&made(settings()), &seeded(ours.clone(), 5)).unwrap();
    let single = crate::strategy("self-consistency", json!({"samples": 1, "early_stop": false})).unwrap();
    run(single.as_ref(), &seeded(theirs.clone(), 5)).unwrap();
    let (ours, theirs) = (&ours.requests()[0], &theirs.requests()[0]);
    assert_eq!((&ours.messages, ours.sampling.seed), (&theirs.messages, theirs.sampling.seed));
}

#[test]
fn an_evaluator_chooses_by_the_final_text() {
    let best =
        IterativeDeepeningSamplingSettings { samples: 2, evaluator: Some("certainty".into()), ..settings() };
    let model = Scripted::new("m").on_completions(
        "",
        [Ok(crate::testing::completion("#7", 1.0)), Ok(crate::testing::completion("#8", 3.0))],
    );
    let answer = run(&made(best), &context(model.shared())).unwrap();
    assert_eq!(answer.answer.as_deref(), Some("8"), "the higher certainty");
    assert_eq!(decided(&answer)["evaluator"], "certainty");
}

#[test]
fn a_failure_in_a_later_round_leaves_the_response_as_it_is() {
    let cut = Completion { finish: FinishReason::Length, ..Completion::text("it is #7 now ") };
    let model = Scripted::new("m")
        .on_completions("from scratch.", [Err(crate::testing::away())])
        .on_completions("", [Ok(cut.clone())]);
    let answer = run(&made(settings()), &context(model.shared())).unwrap();
    assert_eq!(answer.answer, None, "the trigger stands, and nothing behind it");
    let data = decided(&answer);
    assert!(data["responses"][0]["stopped"].as_str().unwrap().contains("it is away"), "{data}");
    assert!(answer.trace.nodes.iter().any(|node| matches!(node.kind, NodeKind::Failed { .. })));
    // The first round has nothing to fall back on.
    let model = Scripted::new("m").on_completions("", [Err(crate::testing::away())]);
    assert!(run(&made(settings()), &context(model.shared())).is_err());
    // A budget that ends between rounds.
    let model = Scripted::new("m").on_completions("", [Ok(cut)]).shared();
    let budget = Budget { calls: Some(1), ..Budget::default() };
    let answer = run(&made(settings()), &context_with(model, budget)).unwrap();
    assert!(decided(&answer)["responses"][0]["stopped"].as_str().unwrap().contains("budget"));
}

#[test]
fn turns_stand_in_for_a_prefix_and_are_marked() {
    let model = rambler(400);
    let capabilities = Capabilities { prefix: false, ..model.capabilities() };
    let model = model.with_capabilities(capabilities).shared();
    let capped = IterativeDeepeningSamplingSettings {
        draw: Draw { max_tokens: 600, ..Draw::default() },
        ..settings()
    };
    let answer = run(&made(capped), &context(model.clone())).unwrap();
    assert_eq!(decided(&answer)["resumption"], "turns");
    let asked = &model.requests()[1].messages;
    assert_eq!(asked.iter().map(|m| m.role).collect::<Vec<_>>(), [Role::User, Role::Assistant, Role::User]);
    assert!(asked[2].text().contains("rethink from scratch"));
}

#[test]
fn settings_out_of_range_are_refused() {
    let refused = |settings: IterativeDeepeningSamplingSettings, field: &str| {
        let message = IterativeDeepeningSampling::new(settings).unwrap_err().to_string();
        assert!(message.contains(field) && message.contains("hint:"), "{message}");
    };
    refused(IterativeDeepeningSamplingSettings { first_budget: 0, ..settings() }, "first_budget");
    refused(IterativeDeepeningSamplingSettings { growth: 0.5, ..settings() }, "growth");
    refused(IterativeDeepeningSamplingSettings { growth: f64::NAN, ..settings() }, "growth");
    refused(IterativeDeepeningSamplingSettings { samples: 0, ..settings() }, "samples");
    refused(
        IterativeDeepeningSamplingSettings { trigger_text: Some(" ".into()), ..settings() },
        "trigger_text",
    );
    refused(
        IterativeDeepeningSamplingSettings { evaluator_settings: json!({"samples": 2}), ..settings() },
        "evaluator_settings",
    );
    refused(IterativeDeepeningSamplingSettings { evaluator: Some("jugde".into()), ..settings() }, "judge");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_response_is_longer_than_the_cap(
        first in 1u32..60, growth in 1.0f64..4.0, cap in 1u32..300, end in 1usize..200, reflect in any::<bool>(),
    ) {
        let capped = IterativeDeepeningSamplingSettings {
            first_budget: first,
            growth,
            on_end: if reflect { OnEnd::Reflect } else { OnEnd::Stop },
            draw: Draw { max_tokens: cap, ..Draw::default() },
            answer_tokens: 0,
            ..settings()
        };
        let model = rambler(end).shared();
        let answer = run(&made(capped), &context(model.clone())).unwrap();
        let data = decided(&answer);
        let length = data["generated_tokens"].as_u64().unwrap() + data["injected_tokens"].as_u64().unwrap();
        prop_assert!(length <= u64::from(cap), "{length} of {cap}");
        // Everything is in the trace, and every round but the last is as long as its budget.
        let rounds = written(&answer.trace);
        prop_assert_eq!(rounds.iter().sum::<u64>(), data["generated_tokens"].as_u64().unwrap());
        let budgets: Vec<u32> = deepening_budgets(first, growth).take(rounds.len()).collect();
        for (written, budget) in rounds.iter().zip(&budgets) {
            prop_assert!(*written <= u64::from(*budget));
        }
    }
}
