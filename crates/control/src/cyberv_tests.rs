use super::*;
use crate::score_forest::drift;
use crate::testing::{away, context};
use elenchus_generate::{LanguageModel, Scripted};
use elenchus_task::Split;
use elenchus_task::evidence::{Evidence, EvidenceSettings};
use elenchus_trace::TopToken;
use serde_json::Value;
use std::sync::Arc;

fn cyberv(settings: Value) -> CyberV {
    CyberV::new(serde_json::from_value(settings).unwrap()).unwrap()
}

fn task() -> Evidence {
    Evidence::open(EvidenceSettings { segments: 8, ..EvidenceSettings::default() }).unwrap()
}

fn problem() -> Problem {
    task().problems(Split::Test, 1, 1).unwrap().remove(0)
}

/// A letter with the probability of its token.
fn letter(text: &str, probability: f32) -> Result<Completion, GenerateError> {
    let mut completion = Completion::text(text);
    completion.logprobs = vec![probability.ln()];
    completion.top = vec![vec![TopToken { token: text.into(), logprob: probability.ln() }]];
    Ok(completion)
}

/// What the last message is about.
const DIRECT: &str = "Answer the problem below at once";
const THINK: &str = "Think the problem below through";
const RECHECK: &str = "recheck your thinking";
const RELEVANT: &str = "Which pieces of the evidence matter most";

/// A model that continues its own words: a forced answer ends in `Answer:`.
fn model(direct: (&str, f32), forced: &[(&str, f32)], again: &str) -> Scripted {
    let rechecking = |messages: &[Message]| messages.iter().any(|message| message.text().contains(RECHECK));
    let forcing =
        |messages: &[Message]| messages.last().is_some_and(|m| m.text().trim_end().ends_with("Answer:"));
    let again = again.to_string();
    // The direct prompt shows the form of an answer too, so its rule stands first.
    Scripted::new("m")
        .on_completions(DIRECT, [letter(direct.0, direct.1)])
        .on_with(move |messages| forcing(messages) && rechecking(messages), move |_, _| letter(&again, 0.9))
        .on_completions("\nAnswer:", forced.iter().map(|(text, probability)| letter(text, *probability)))
        .on(RECHECK, ["looked again. "])
        .on(RELEVANT, ["Segments: 3, 5"])
        .on(THINK, ["one thought. ", "another thought. ", "a third thought. "])
}

fn run(strategy: &CyberV, model: Scripted, problem: &Problem) -> (Arc<Scripted>, Answer) {
    let model = model.shared();
    let context = context(Arc::clone(&model) as Arc<dyn LanguageModel>);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(strategy.run(&context, &task(), problem)).unwrap();
    (model, answer)
}

fn log(answer: &Answer) -> CyberVLog {
    CyberVLog::of(&answer.trace).unwrap()
}

/// The example of the sheet without attention: A .9, B .6, B .4, A .8.
const EXAMPLE: [(&str, f32); 3] = [("B", 0.6), ("B", 0.4), ("A", 0.8)];

#[test]
fn a_high_sum_stands_and_a_low_one_is_checked_again() {
    let strategy = cyberv(json!({"samples": 4, "threshold": 0.3}));
    let (asked, answer) = run(&strategy, model(("A", 0.9), &EXAMPLE, "B"), &problem());
    assert_eq!(answer.answer.as_deref(), Some("A"));
    let account = log(&answer);
    let rounded: Vec<f64> = account.scores.iter().map(|s| (s * 1e4).round() / 1e4).collect();
    assert_eq!(rounded, [0.975, 0.775, 0.4125, 0.8875], "four signals: attention cannot be seen");
    assert!(!account.triggered && account.notes.iter().any(|note| note.contains("attention cannot be seen")));
    assert_eq!(asked.requests().len(), 5, "direct, chains, three forced answers");
    assert_eq!(answer.votes[0].answer, "A");

    let strategy = cyberv(json!({"samples": 4, "threshold": 0.5}));
    let (asked, answer) = run(&strategy, model(("A", 0.9), &EXAMPLE, "B"), &problem());
    let account = log(&answer);
    assert!(account.triggered && account.accepted, "{account:?}");
    assert_eq!((account.first.as_deref(), answer.answer.as_deref()), (Some("A"), Some("B")));
    let ranked = account.ranked.unwrap();
    assert_eq!((ranked.by.as_str(), ranked.chosen.as_slice()), ("relevance", &[2, 4][..]));
    let shown: Vec<String> = asked
        .requests()
        .iter()
        .flat_map(|request| request.messages.iter().map(Message::text))
        .filter(|text| text.contains(RECHECK))
        .collect();
    assert!(shown[0].starts_with("Segment 3: ") && shown[0].contains("\nSegment 5: "), "{}", shown[0]);
    assert!(!shown[0].contains('▢'), "at full resolution");
    assert!(answer.confidence.is_none());
    assert_eq!(answer.usage.calls, answer.trace.usage().calls, "every call is in the trace");
}

#[test]
fn an_answer_that_the_first_round_lacks_is_not_taken() {
    let strict = cyberv(json!({"samples": 4, "threshold": 1.0}));
    let (_, answer) = run(&strict, model(("A", 0.9), &EXAMPLE, "D"), &problem());
    assert_eq!(answer.answer.as_deref(), Some("A"));
    assert!(log(&answer).triggered && !log(&answer).accepted);
    assert_eq!(log(&answer).second.as_deref(), Some("D"));
    let any = cyberv(json!({"samples": 4, "threshold": 1.0, "accept": "any"}));
    assert_eq!(run(&any, model(("A", 0.9), &EXAMPLE, "D"), &problem()).1.answer.as_deref(), Some("D"));
    let two = cyberv(json!({"samples": 2, "threshold": 1.0}));
    let of_two = |again: &str| run(&two, model(("A", 0.9), &[("B", 0.6)], again), &problem()).1.answer;
    assert_eq!(of_two("D").as_deref(), Some("D"), "with two responses any answer is taken");
    assert_eq!(of_two("hm").as_deref(), Some("B"), "else the chain's");
}

#[test]
fn without_log_probabilities_shares_of_the_vote_stand_in() {
    let plain =
        Scripted::new("m").on(DIRECT, ["A"]).on("\nAnswer:", ["B", "B", "A"]).on(THINK, ["one thought. "]);
    let strategy = cyberv(json!({"samples": 4, "threshold": 0.3}));
    let (_, answer) = run(&strategy, plain, &problem());
    let account = log(&answer);
    assert!(account.shares && account.sensed.iter().all(|one| one.probability == 0.5));
    assert!(account.notes.iter().any(|note| note.contains("no log-probabilities")), "{:?}", account.notes);
    let decision = answer.trace.nodes.iter().rev().find_map(|node| match &node.kind {
        NodeKind::Decided { decision, .. } => Some(decision.clone()),
        _ => None,
    });
    assert!(decision.unwrap().contains("all chains are identical"));
}

#[test]
fn controls_show_nothing_or_random_or_the_needed_segments() {
    let problem = problem();
    let needed = Stream::of(&problem).unwrap().needed();
    let chosen = |by: &str| {
        let strategy = cyberv(json!({"samples": 4, "threshold": 1.0, "evidence": by, "key_segments": 2}));
        let model = model(("A", 0.9), &EXAMPLE, "B").on("Wait!", ["again "]);
        log(&run(&strategy, model, &problem).1).ranked.map(|ranked| ranked.chosen)
    };
    assert_eq!(chosen("needed"), Some(needed));
    assert_eq!(chosen("random").unwrap().len(), 2);
    assert_eq!(chosen("random"), chosen("random"), "the same again");
    assert_eq!(chosen("nothing"), None);
    assert!(cyberv(json!({"evidence": "needed"})).needs().oracle, "an upper line and no method");
}

#[test]
fn what_fails_in_the_second_round_leaves_the_first_one() {
    let strategy = cyberv(json!({"samples": 4, "threshold": 1.0}));
    for (reply, why) in [
        ("Segments: 99", "no evidence was lost"),
        ("{\"segments\": ", "no evidence was lost"),
        ("alle", "no evidence"),
    ] {
        let model = Scripted::new("m")
            .on_completions(DIRECT, [letter("A", 0.9)])
            .on_completions("\nAnswer:", EXAMPLE.iter().map(|(text, p)| letter(text, *p)))
            .on(RELEVANT, [reply])
            .on(THINK, ["one thought. "]);
        let (_, answer) = run(&strategy, model, &problem());
        assert_eq!(answer.answer.as_deref(), Some("A"), "{reply}");
        assert!(log(&answer).notes.iter().any(|note| note.contains(why)), "{:?}", log(&answer).notes);
    }
    let model = Scripted::new("m")
        .on_completions(DIRECT, [letter("A", 0.9)])
        .on_completions("\nAnswer:", EXAMPLE.iter().map(|(text, p)| letter(text, *p)))
        .on_completions(RELEVANT, [Err(away())])
        .on(THINK, ["one thought. "]);
    let (_, answer) = run(&strategy, model, &problem());
    assert_eq!(answer.answer.as_deref(), Some("A"));
    assert!(answer.trace.nodes.iter().any(|node| matches!(node.kind, NodeKind::Failed { .. })));
}

#[test]
fn no_answer_abstains_and_open_questions_get_one_plain_answer() {
    let silent = Scripted::new("m").on("", ["who could know that "]);
    let (_, answer) = run(&cyberv(json!({"samples": 3, "threshold": 0.0})), silent, &problem());
    assert!(answer.answer.is_none() && answer.abstained.unwrap().contains("none of the 3 responses"));
    let mut open = problem();
    open.options.clear();
    let (asked, answer) = run(&cyberv(json!({})), Scripted::always(["Answer: seven"]), &open);
    assert_eq!((asked.requests().len(), answer.answer.as_deref()), (1, Some("seven")));
}

#[test]
fn settings_and_missing_capabilities_are_named() {
    for (settings, field) in [
        (json!({"samples": 1}), "`samples`"),
        (json!({"threshold": 1.5}), "`threshold`"),
        (json!({"signals": []}), "`signals`"),
        (json!({"key_segments": 0}), "`key_segments`"),
    ] {
        let error = CyberV::new(serde_json::from_value(settings).unwrap()).unwrap_err().to_string();
        assert!(error.contains(field) && error.contains("hint: "), "{error}");
    }
    for settings in [json!({"evidence": "attention"}), json!({"signals": ["attention"]})] {
        let error =
            cyberv(settings).check(&context(Scripted::always(["A"]).shared())).unwrap_err().to_string();
        assert!(error.contains("attention") && error.contains("hint: "), "{error}");
    }
}

#[test]
fn the_sign_of_drift_is_that_of_the_chain() {
    let one = |attention: Vec<f64>| Sensed {
        answer: Some("A".into()),
        probability: 0.9,
        repeats: false,
        attention: Some(attention),
    };
    let all = [one(vec![0.4, 0.2]), one(vec![0.1, 0.2])];
    assert!((drift(&all, 1).unwrap() + 0.3).abs() < 1e-12, "evidence lost is negative");
    assert_eq!(drift(&all, 0), Some(0.0));
}
