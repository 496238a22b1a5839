use super::*;
use crate::strategy;
use crate::testing::{away, context, context_with, run};
use elenchus_generate::{GenerateRequest, LanguageModel, Scored, Scripted, StreamEvent};
use elenchus_trace::{Budget, FinishReason, NodeKind, Trace};
use futures::StreamExt;
use futures::stream::{self, BoxStream};

fn made(text: &str) -> Arc<dyn Strategy> {
    strategy(text, Value::Null).unwrap()
}

fn stages(trace: &Trace) -> Vec<&str> {
    let names = trace.nodes.iter().filter_map(|node| match &node.kind {
        NodeKind::Stage { name } if node.parent.is_none() => Some(name.as_str()),
        _ => None,
    });
    names.collect()
}

fn last_decision(answer: &Answer) -> &str {
    match &answer.trace.nodes.last().unwrap().kind {
        NodeKind::Decided { decision, .. } => decision,
        other => panic!("{other:?}"),
    }
}

/// Finds an error in the first solution and writes another one.
fn critic() -> Scripted {
    Scripted::new("m").on("Improve the proposed", ["a=2+5;a=7#7"]).on(
        "Check the proposed",
        [
            "Step 1: wrong — 2 + 5 is 7\nFirst wrong step: 1\nAdvice: add again",
            "Step 1: correct — it is\nStep 2: correct — it is\nFirst wrong step: none\nAdvice: none",
        ],
    )
}

#[test]
fn where_the_second_abstains_without_a_text_the_first_answer_stands() {
    let model = Scripted::new("m").on("Student solution", ["I cannot say."]).on("", ["a=1+7;a=8#8"]).shared();
    let answer = run(made("single then closed-loop-critique").as_ref(), &context(model)).unwrap();
    assert_eq!((answer.text.as_str(), answer.answer.as_deref()), ("a=1+7;a=8#8", Some("8")));
    assert!(answer.abstained.is_none());
    let said = last_decision(&answer);
    assert!(said.contains("`single` stands") && said.contains("`closed-loop-critique` abstains"), "{said}");
}

#[test]
fn the_second_begins_with_the_answer_of_the_first() {
    let model = critic().on("", ["x#8", "x#8", "y#9"]).shared();
    let strategy = made("self-consistency@3 then critique-and-refine");
    let answer = run(strategy.as_ref(), &context(model.clone())).unwrap();
    assert_eq!(stages(&answer.trace), ["self-consistency@3", "critique-and-refine"]);
    let critiqued = model.requests().iter().any(|request| {
        let text = request.messages.last().unwrap().text();
        text.contains("x#8") && !text.contains("y#9")
    });
    assert!(critiqued, "the vote's winner is what is criticised");
    let drawn =
        model.requests().iter().filter(|request| request.messages[0].text().starts_with("Solve")).count();
    assert!(drawn <= 2, "the vote's draws, and none for a first solution: {drawn}");
    assert_eq!(
        answer.usage,
        answer.trace.usage(),
        "the trace accounts for every call, and the draft costs nothing again"
    );
    assert!(Trace::from_json(&serde_json::to_string(&answer.trace).unwrap()).is_ok());
    let chosen = answer.trace.chosen().and_then(|node| answer.trace.completion(node)).unwrap();
    assert_eq!(chosen.text, answer.text);
    assert_eq!(answer.answer.as_deref(), Some("7"), "repaired");
    let log = crate::AttemptLog::of(&answer.trace).unwrap();
    let texts: Vec<_> =
        (0..log.attempts.len()).map(|attempt| log.text(&answer.trace, attempt).unwrap()).collect();
    assert_eq!(texts, ["x#8", "a=2+5;a=7#7"], "attempts are found in the trace of the whole");
}

#[test]
fn the_first_answer_stands_where_the_second_fails() {
    // The budget suffices for the vote only.
    let model = Scripted::always(["x#7"]).shared();
    let strategy = made("self-consistency@2 then critique-and-refine");
    let answer =
        run(strategy.as_ref(), &context_with(model, Budget { calls: Some(2), ..Budget::default() })).unwrap();
    assert_eq!(answer.answer.as_deref(), Some("7"));
}

#[test]
fn the_best_of_several_is_chosen_by_an_evaluator() {
    let model = Scripted::new("m")
        .on("Answer the problem below at once", ["fast#8"])
        .on("Solve", ["slow#7"])
        .scores(|request, index| {
            let right = request.messages[0].text().contains("slow#7") != (index == 1);
            let logprobs = vec![if right { -0.1 } else { -2.0 }];
            Ok(Scored { logprobs, distributions: Vec::new(), usage: Default::default() })
        })
        .shared();
    let direct = json!({"best_of": [{"recipe": "single", "settings": {"skill": "direct"}}, "single"]});
    let made = crate::Composition::read(&direct).unwrap();
    let strategy = made
        .build::<ControlError>(&|part| strategy(&part.name, Value::Object(part.settings.clone())))
        .unwrap();
    let answer = run(strategy.as_ref(), &context(model)).unwrap();
    assert_eq!(answer.answer.as_deref(), Some("7"));
    assert!(last_decision(&answer).contains("score"), "{}", last_decision(&answer));
    let judged =
        answer.trace.nodes.iter().filter(|node| matches!(node.kind, NodeKind::Evaluated { .. })).count();
    assert_eq!(judged, 2);
    assert_eq!(answer.usage, answer.trace.usage());
}

#[test]
fn another_takes_the_place_of_one_that_fails_or_abstains() {
    let failing = Scripted::new("m").on_completions("Solve", [Err(away())]).on("", ["plainly#7"]).shared();
    let answer = run(made("single else plain").as_ref(), &context(failing.clone())).unwrap();
    assert_eq!((answer.answer.as_deref(), stages(&answer.trace).len()), (Some("7"), 2));
    let asked = failing.requests().last().unwrap().messages[0].text();
    assert_eq!(asked, "What is 2 + 5?", "plain is the question as it stands");
    assert!(
        answer
            .trace
            .nodes
            .iter()
            .any(|node| matches!(&node.kind, NodeKind::Failed { error } if error.contains("away")))
    );
    let silent = Scripted::new("m").on("Solve", ["hm"]).on("", ["x#7"]).shared();
    let answer = run(made("single else plain").as_ref(), &context(silent)).unwrap();
    assert_eq!(answer.answer.as_deref(), Some("7"));
    // A need that is not met is a failure of its part, and not of the whole.
    let mut has = Scripted::always(["x#7"]).capabilities();
    has.distributions = false;
    let model = Scripted::always(["x#7"]).with_capabilities(has).shared();
    let answer = run(made("borda else self-consistency").as_ref(), &context(model)).unwrap();
    assert_eq!(answer.answer.as_deref(), Some("7"));
    let broken = Scripted::new("m").on_completions("", [Err(away())]).shared();
    assert!(run(made("single else plain").as_ref(), &context(broken)).is_err(), "where all fail, it fails");
}

#[test]
fn a_composition_keeps_what_all_of_its_parts_keep() {
    assert_eq!(made("self-consistency else single").keeps(), Keeps::SAMPLE);
    assert_eq!(made("self-consistency else universal-self-consistency").keeps(), Keeps::TEXT_SAMPLE);
    assert_eq!(made("best of self-consistency, gsa").keeps(), Keeps::FORM);
    assert_eq!(made("best of self-consistency, iad").keeps(), Keeps::NOTHING);
    assert_eq!(made("self-consistency then critique-and-refine").keeps(), Keeps::FORM);
    assert_eq!(made("iad then critique-and-refine").keeps(), Keeps::NOTHING);
}

#[test]
fn only_the_last_part_is_told_while_it_is_written() {
    let heard: Arc<std::sync::Mutex<String>> = Arc::default();
    let told = |text: &str, replies: &[&str]| {
        heard.lock().unwrap().clear();
        let ears = Arc::clone(&heard);
        let live = elenchus_generate::LiveAnswer::new(move |_, piece| ears.lock().unwrap().push_str(piece));
        let model = Scripted::always(replies.iter().copied()).shared();
        let context = Context::builder().role("actor", model).live(live).build().unwrap();
        let answer = run(made(text).as_ref(), &context).unwrap();
        (answer, heard.lock().unwrap().clone())
    };
    let (answer, said) = told("single else single", &["no idea", "x#7"]);
    assert_eq!((answer.text.as_str(), said.as_str()), ("x#7", "x#7"), "the first may abstain");
    let (answer, said) = told("single else single", &["x#8"]);
    assert_eq!((answer.text.as_str(), said.as_str()), ("x#8", ""), "it comes at once");
    let (_, said) = told("self-consistency", &["x#8"]);
    assert_eq!(said, "", "a vote has no last response");
    // The new response was heard before it was known that it has no answer.
    let (answer, said) = told("gsa", &["x#7", "y#7", "z#7", "hm"]);
    assert_eq!((said.as_str(), answer.text.as_str()), ("hm", "hm\n\nx#7"));
    assert_eq!(answer.answer.as_deref(), Some("7"));
    let kept = answer.trace.chosen().and_then(|node| answer.trace.completion(node)).unwrap();
    assert_eq!(kept.text, "x#7");
}

/// A model whose stream breaks off behind its first words.
struct BreaksOff(Scripted);

#[async_trait::async_trait]
impl LanguageModel for BreaksOff {
    fn name(&self) -> &str {
        "breaks-off"
    }

    fn capabilities(&self) -> elenchus_generate::Capabilities {
        self.0.capabilities()
    }

    async fn generate(&self, request: &GenerateRequest) -> Result<Vec<Completion>, GenerateError> {
        self.0.generate(request).await
    }

    async fn stream(
        &self,
        _: &GenerateRequest,
    ) -> Result<BoxStream<'static, Result<StreamEvent, GenerateError>>, GenerateError> {
        let words = StreamEvent::Text { index: 0, text: "to begin".into() };
        Ok(stream::iter([Ok(words), Err(away())]).boxed())
    }
}

#[test]
fn words_that_were_told_before_a_stream_broke_off_stand_in_the_trace() {
    let live = elenchus_generate::LiveAnswer::new(|_, _| {});
    let model = Arc::new(BreaksOff(Scripted::always(["x#7"])));
    let context = Context::builder().role("actor", model).live(live).build().unwrap();
    let answer = run(made("gsa").as_ref(), &context).unwrap();
    assert_eq!((answer.text.as_str(), answer.answer.as_deref()), ("to begin\n\nx#7", Some("7")));
    let begun = answer.trace.nodes.iter().filter_map(|node| match &node.kind {
        NodeKind::Generated { completion, .. } => Some(completion),
        _ => None,
    });
    let begun: Vec<_> = begun.filter(|completion| completion.finish == FinishReason::Interrupted).collect();
    assert!(matches!(begun.as_slice(), [one] if one.text == "to begin"), "{begun:?}");
}
