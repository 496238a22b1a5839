use super::*;
use crate::testing::{compact, context, problem};
use elenchus_generate::{ACTOR, Capabilities, LanguageModel, Scripted};
use elenchus_trace::{NodeKind, Trace};
use std::sync::Arc;

/// Writes this text on from wherever the assistant's words so far end in it, one word per token, and cuts at the limit.
fn writer(whole: &'static str) -> Scripted {
    Scripted::new("writer").on_with(
        |_| true,
        move |request, _| {
            let begun = request.messages.iter().filter(|m| m.role == elenchus_trace::Role::Assistant);
            let begun: String = begun.map(Message::text).collect();
            let rest = whole.strip_prefix(begun.as_str()).unwrap_or(" again");
            let tokens: Vec<&str> = rest.split_inclusive(' ').collect();
            let most = request.sampling.max_tokens as usize;
            let mut completion = Completion::text(tokens.iter().take(most).copied().collect::<String>());
            completion.usage.completion_tokens = tokens.len().min(most) as u64;
            completion.usage.calls = 1;
            completion.usage.prompt_tokens = 10 + begun.split_whitespace().count() as u64;
            if tokens.len() > most {
                completion.finish = FinishReason::Length;
            }
            Ok(completion)
        },
    )
}

fn without_prefix(model: Scripted) -> Scripted {
    let capabilities = Capabilities { prefix: false, ..model.capabilities() };
    model.with_capabilities(capabilities)
}

fn span(max_tokens: u32) -> Span {
    Span { sampling: Sampling { max_tokens, ..Sampling::default() }, logprobs: LogprobDetail::None }
}

fn begin(context: &Context) -> (Continuation, Trail) {
    let dialogue = vec![Message::user("tell")];
    let text = Continuation::begin(context, ACTOR, &problem(), dialogue, None).unwrap();
    (text, Trail::new(context, "test", &problem()))
}

fn trigger(context: &Context) -> Injection {
    Injection::of(context, ACTOR, &problem(), "reflect", Purpose::Restart).unwrap()
}

fn opener(context: &Context) -> Injection {
    Injection::of(context, ACTOR, &problem(), "final_answer", Purpose::Opener).unwrap()
}

fn trace(trail: Trail) -> Trace {
    trail.answer("", None, None, Vec::new(), None).trace
}

const SONG: &str = "one two three four five six seven";

#[tokio::test]
async fn pieces_of_any_length_make_the_whole() {
    for most in 1..9 {
        let context = context(writer(SONG).shared());
        let (mut text, mut trail) = begin(&context);
        let mut calls = 0;
        while !text.has_ended() {
            text.generate(&mut trail, &context, &span(most)).await.unwrap();
            calls += 1;
        }
        assert_eq!(text.text(), SONG, "nothing is lost or doubled at a seam");
        assert_eq!(text.spending().generated_tokens, 7);
        assert_eq!(text.spending().injected_tokens, 0);
        assert_eq!(text.spending().usage.calls, calls);
        let trace = trace(trail);
        assert_eq!(trace.completions().count() as u64, calls, "every call is in the trace");
        assert_eq!(trace.usage().prompt_tokens, text.spending().usage.prompt_tokens);
        assert_eq!(
            text.spending().reread_tokens,
            text.spending().usage.prompt_tokens - 10,
            "all but the first prompt is read again"
        );
    }
}

#[tokio::test]
async fn what_is_put_in_is_counted_apart_and_is_no_part_of_the_final_text() {
    let model = writer(SONG).shared();
    let context = context(model.clone());
    let (mut text, mut trail) = begin(&context);
    text.generate(&mut trail, &context, &span(3)).await.unwrap();
    assert!(text.cut_to_boundary());
    assert_eq!(text.text(), "one two three ", "the cut was between words");
    text.inject(&mut trail, &context, &trigger(&context));
    assert_eq!((text.finish(), text.has_ended()), (None, false));
    let before = text.spending();
    assert_eq!((before.generated_tokens, before.injected_tokens), (3, 12));
    text.generate(&mut trail, &context, &span(3)).await.unwrap();
    let sent = model.requests().pop().unwrap().messages;
    assert_eq!(sent.len(), 2);
    assert_eq!(
        sent[1].text(),
        "one two three \nWait! Maybe I made some mistakes! I need to rethink from scratch.\n",
        "the assistant's own message is continued"
    );
    assert_eq!(text.attempts(), ["one two three ", " again"]);
    assert_eq!(text.final_text(), " again");
    assert!(text.text().contains("rethink"));
    assert_eq!(text.spending().length(), 12 + 3 + 2);
}

#[tokio::test]
async fn an_end_is_respected_or_removed() {
    let context = context(writer("one two").shared());
    let (mut text, mut trail) = begin(&context);
    text.generate(&mut trail, &context, &span(9)).await.unwrap();
    assert!(text.has_ended() && text.can_go_on());
    assert!(text.cut_to_boundary(), "an answer that ended is whole");
    assert_eq!(text.text(), "one two");
    text.inject(&mut trail, &context, &trigger(&context));
    assert!(!text.has_ended(), "the end is gone");
    let trace = trace(trail);
    let NodeKind::Decided { data, .. } = &trace.nodes.last().unwrap().kind else { panic!() };
    assert_eq!(data["ended_before"], json!(true), "the trace says that an end was removed");
}

#[tokio::test]
async fn turns_stand_in_where_the_model_cannot_continue_itself() {
    let model = without_prefix(writer(SONG)).shared();
    let context = context(model.clone());
    let (mut text, mut trail) = begin(&context);
    assert_eq!(text.resumption(), Resumption::Turns);
    text.generate(&mut trail, &context, &span(2)).await.unwrap();
    text.generate(&mut trail, &context, &span(2)).await.unwrap();
    assert_eq!(text.text(), "one two three four ");
    text.inject(&mut trail, &context, &trigger(&context));
    text.generate(&mut trail, &context, &span(1)).await.unwrap();
    text.force_answer(&mut trail, &context, &opener(&context), 4, LogprobDetail::None).await.unwrap();
    let asked: Vec<Vec<(String, String)>> = model
        .requests()
        .iter()
        .map(|request| {
            let role = |m: &Message| format!("{:?}", m.role).to_lowercase();
            request.messages.iter().map(|m| (role(m), m.text())).collect()
        })
        .collect();
    let said = |role: &str, text: &str| (role.to_string(), text.to_string());
    assert_eq!(asked[0], [said("user", "tell")]);
    assert_eq!(asked[1][1], said("assistant", "one two "));
    assert!(asked[1][2].0 == "user" && asked[1][2].1.starts_with("Go on exactly"));
    assert_eq!(asked[2][1], said("assistant", "one two three four "));
    assert!(asked[2][2].0 == "user" && asked[2][2].1.contains("rethink from scratch"));
    let last = &asked[3];
    assert_eq!(last.len(), 5, "{last:?}");
    assert!(last[4].1.contains("Stop here") && last[4].1.contains("Answer: <"));
    let trace = trace(trail);
    let marks: Vec<bool> = trace
        .completions()
        .map(|(_, completion)| completion.extra.contains_key("prefix_emulated_with_turns"))
        .collect();
    assert_eq!(marks, [false, true, true, true], "every emulated call is marked");
}

#[tokio::test]
async fn a_forced_answer_is_greedy_short_and_part_of_the_final_text() {
    let model = writer(SONG).shared();
    let context = context(model.clone());
    let (mut text, mut trail) = begin(&context);
    text.generate(&mut trail, &context, &span(2)).await.unwrap();
    text.inject(&mut trail, &context, &trigger(&context));
    text.force_answer(&mut trail, &context, &opener(&context), 5, LogprobDetail::None).await.unwrap();
    let request = model.requests().pop().unwrap();
    assert_eq!((request.sampling.temperature, request.sampling.max_tokens), (0.0, 5));
    assert!(request.messages[1].text().ends_with("from scratch.\nAnswer:"), "one line break, not two");
    assert_eq!(text.final_text(), "Answer: again");
    assert_eq!(text.injections(Purpose::Opener), 1);
}

#[tokio::test]
async fn a_forced_answer_in_turns_may_hold_the_opener_or_not() {
    for (reply, wanted) in [("7", "so \nAnswer:7"), ("Answer: 7", "so \nAnswer: 7")] {
        let cut = Completion { finish: FinishReason::Length, ..Completion::text("so fa") };
        let model = Scripted::new("m").on("Stop here", [reply]).on_completions("", [Ok(cut)]);
        let context = context(without_prefix(model).shared());
        let (mut text, mut trail) = begin(&context);
        text.generate(&mut trail, &context, &span(2)).await.unwrap();
        text.force_answer(&mut trail, &context, &opener(&context), 5, LogprobDetail::None).await.unwrap();
        assert_eq!(text.final_text(), wanted);
    }
}

#[tokio::test]
async fn branches_read_the_text_once_and_rewinding_keeps_what_was_spent() {
    let model = Scripted::always(["a b", "c d", "e f", "g h"]).shared();
    let context = context(model.clone());
    let (start, mut trail) = begin(&context);
    let mut branches = start.branch(&mut trail, &context, 2, &span(8)).await.unwrap();
    assert_eq!(model.calls(), 1);
    assert_eq!(branches[0].text(), "a b");
    assert_eq!(branches[1].text(), "c d");
    let (first, second) = (branches[0].spending(), branches[1].spending());
    assert_eq!((first.usage.calls, second.usage.calls), (1, 0), "the request is paid for once");
    let mut text = branches.remove(1);
    let mark = text.mark();
    text.generate(&mut trail, &context, &span(8)).await.unwrap();
    let spent = text.spending();
    assert_eq!(text.text(), "c de f");
    text.rewind(&mut trail, &mark);
    assert_eq!((text.text().as_str(), text.spending()), ("c d", spent));
    text.generate(&mut trail, &context, &span(8)).await.unwrap();
    assert_eq!(text.text(), "c dg h");
    assert_eq!(model.requests().pop().unwrap().messages[1].text(), "c d", "the model sees the rewound text");
    let trace = trace(trail);
    assert!(trace.nodes.iter().any(|node| matches!(&node.kind,
        NodeKind::Decided { decision, chosen: Some(_), .. } if decision.starts_with("rewinds from 6 to 3"))));
    let parents: Vec<_> = trace.completions().map(|(id, _)| trace.node(id).unwrap().parent).collect();
    assert_eq!(parents[2], parents[3], "both ways on grow from the same point");
}

#[tokio::test]
async fn one_failure_concerns_one_text() {
    let model = Scripted::new("m")
        .on("bad", ["unused"])
        .on_completions("tell", [Ok(Completion::text("fine")), Err(crate::testing::away())])
        .shared();
    let context = context(model);
    let (start, mut trail) = begin(&context);
    let (mut one, mut other) = (start.clone(), start);
    let outcomes =
        Continuation::generate_all(&mut trail, &context, vec![(&mut one, span(3)), (&mut other, span(3))])
            .await;
    assert!(outcomes[0].is_ok() && outcomes[1].is_err());
    assert_eq!((one.text().as_str(), other.text().as_str()), ("fine", ""));
}

#[tokio::test]
async fn a_server_that_counts_nothing_does_not_make_text_free() {
    let model = Scripted::new("m").on_with(
        |_| true,
        |_, _| {
            let mut completion = Completion::text("three words here");
            completion.usage.calls = 1;
            Ok(completion)
        },
    );
    let context = context(model.shared());
    let (mut text, mut trail) = begin(&context);
    text.generate(&mut trail, &context, &span(9)).await.unwrap();
    assert_eq!(text.spending().generated_tokens, 3);
}

#[tokio::test]
async fn the_embedded_voice_puts_in_signs_without_lines() {
    let model = Scripted::always(["g=50;e=5"]).shared();
    let context = compact(model as Arc<dyn LanguageModel>);
    let (mut text, mut trail) = begin(&context);
    text.generate(&mut trail, &context, &span(8)).await.unwrap();
    text.inject(&mut trail, &context, &trigger(&context));
    assert_eq!(text.text(), "g=50;e=5~");
}

#[tokio::test]
async fn an_opener_that_the_model_has_just_written_is_not_written_twice() {
    let cut = |text: &str| {
        let mut completion = Completion::text(text);
        completion.finish = FinishReason::Length;
        completion.logprobs = vec![-0.5, -0.25];
        completion
    };
    let model = Scripted::new("m").on_completions("", [Ok(cut("g=50#5")), Ok(cut("50"))]).shared();
    let context = compact(model.clone());
    let (mut text, mut trail) = begin(&context);
    text.generate(&mut trail, &context, &span(2)).await.unwrap();
    text.force_answer(&mut trail, &context, &opener(&context), 2, LogprobDetail::Chosen).await.unwrap();
    assert_eq!(text.final_text(), "g=50#50", "the cut number is written anew behind its sign");
    assert_eq!(text.injections(Purpose::Opener), 0);
    let completion = text.completion();
    assert_eq!(completion.logprobs, [-0.5, -0.25, -0.5, -0.25], "of both calls");
    assert_eq!(completion.usage.calls, 2);
}

#[test]
fn cuts_fall_between_words_and_numbers() {
    for (text, kept) in [
        ("The total is 12", "The total is "),
        ("The total is 12 ", "The total is 12 "),
        ("The tot", "The "),
        ("It costs 3.", "It costs "),
        ("It costs 3,1", "It costs "),
        ("It costs $3,140.5", "It costs $"),
        ("It is done.", "It is done."),
        ("can't", ""),
        ("x = \\fr", "x = "),
        ("x = \\", "x = "),
        ("g=50;e=50-1=4", "g=50;e=50-1="),
        ("a line\n", "a line\n"),
        ("Größe", ""),
        ("die Größ", "die "),
        ("so_far", ""),
        ("", ""),
    ] {
        assert_eq!(&text[..boundary(text)], kept, "{text:?}");
    }
}

#[tokio::test]
async fn a_cut_that_would_leave_nothing_is_not_made() {
    let mut cut = Completion::text("incomprehens");
    cut.finish = FinishReason::Length;
    let context = context(Scripted::new("m").on_completions("", [Ok(cut)]).shared());
    let (mut text, mut trail) = begin(&context);
    text.generate(&mut trail, &context, &span(1)).await.unwrap();
    assert!(!text.cut_to_boundary());
    assert_eq!(text.text(), "incomprehens", "the next call goes on within the word");
    text.generate(&mut trail, &context, &span(1)).await.unwrap();
    assert!(!text.cut_to_boundary(), "both pieces are one word");
    assert_eq!(text.text(), "incomprehensincomprehens");
}

proptest::proptest! {
    #[test]
    fn a_boundary_is_never_inside_a_word(text in "[a-zA-Z0-9.,;= \\\\ü’_-]{0,40}") {
        let kept = &text[..boundary(&text)];
        if let (Some(before), Some(behind)) = (kept.chars().next_back(), text[kept.len()..].chars().next()) {
            let word = |c: char| c.is_alphanumeric() || c == '_';
            proptest::prop_assert!(!(word(before) && word(behind)), "{kept:?} of {text:?}");
        }
        // What is kept is a place to stop at: cutting once more changes nothing but at a word that ends the text.
        let last = kept.chars().next_back();
        proptest::prop_assert!(last.is_none_or(|c| !c.is_alphanumeric()), "{kept:?}");
    }
}
