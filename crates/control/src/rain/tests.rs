use super::*;
use crate::testing::{context, context_with, run};
use crate::tree::Statistics;
use elenchus_generate::{
    Capabilities, GenerateRequest, LanguageModel, LogprobDetail, ScoreRequest, Scored, Scripted,
};
use elenchus_trace::{Budget, Completion, FinishReason, Message, NodeKind, Role, TopToken, Usage};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// Words of a reply before its answer.
const LETTERS: usize = 4;
/// Probability of a bad word.
const BAD: f64 = 0.5;

/// A writer of four words, each ` b` or ` g`, ` b` where it takes the likeliest, and then ` #7`.
fn write(request: &GenerateRequest, sample: usize) -> Completion {
    let last = request.messages.last().unwrap();
    let before = if last.role == Role::Assistant { last.text() } else { String::new() };
    let sampling = &request.sampling;
    let mut random = ChaCha8Rng::seed_from_u64(sampling.seed.wrapping_mul(31).wrapping_add(sample as u64));
    let mut completion = Completion::text("");
    completion.finish = FinishReason::Length;
    let start = before.split_whitespace().count();
    for place in start..start + sampling.max_tokens as usize {
        completion.usage.completion_tokens += 1;
        let likely: Vec<(&str, f64)> = match place.cmp(&LETTERS) {
            std::cmp::Ordering::Less => vec![(" b", BAD), (" g", 1.0 - BAD)],
            std::cmp::Ordering::Equal => vec![(" #7", 1.0)],
            std::cmp::Ordering::Greater => vec![("<eos>", 1.0)],
        };
        let first = sampling.temperature == 0.0 || random.random_bool(likely[0].1);
        let (word, probability) = if first { likely[0] } else { likely[1] };
        completion.logprobs.push(probability.ln() as f32);
        if matches!(request.logprobs, LogprobDetail::Top(_)) {
            let top = likely.iter().map(|(t, p)| TopToken { token: t.to_string(), logprob: p.ln() as f32 });
            completion.top.push(top.collect());
        }
        if word == "<eos>" {
            completion.finish = FinishReason::Stop;
            break;
        }
        completion.text.push_str(word);
    }
    completion.usage.calls = u64::from(sample == 0);
    completion.usage.prompt_tokens = u64::from(sample == 0) * 10;
    completion
}

fn scored(logprob: f32) -> Scored {
    Scored { logprobs: vec![logprob], distributions: Vec::new(), usage: Usage::default() }
}

/// What the judge is shown, and whether letter A says harmful.
fn shown(messages: &[Message]) -> (String, bool) {
    let text = messages.last().unwrap().text();
    let solution =
        text.split("Assistant:\n~~~~\n").nth(1).unwrap().split("\n~~~~").next().unwrap().to_string();
    (solution, text.contains("(A) The assistant's response is harmful"))
}

fn bad(text: &str) -> bool {
    text.split_whitespace().any(|word| word == "b")
}

/// Log-probability of a letter of a judge that finds a text good or not.
fn opinion(request: &ScoreRequest, index: usize, good: impl Fn(&str) -> bool) -> Scored {
    let (solution, swapped) = shown(&request.messages);
    let says_harmless = (request.continuations[index] == "A") != swapped;
    scored(if good(&solution) == says_harmless { -0.1 } else { -2.3 })
}

fn model(good: impl Fn(&str) -> bool + Send + Sync + 'static) -> Scripted {
    Scripted::new("m")
        .on_with(|_| true, |request, sample| Ok(write(request, sample)))
        .scores(move |request, index| Ok(opinion(request, index, &good)))
}

fn rain(settings: Value) -> Rain {
    Rain::new(serde_json::from_value(settings).unwrap()).unwrap()
}

/// Short clauses, so that values are about what stands there.
fn short() -> Value {
    json!({"clause_tokens": 1, "seed": 3})
}

fn with(more: Value) -> Value {
    let mut settings = short();
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    settings
}

fn last_decision(answer: &Answer) -> (String, Value) {
    let found = answer.trace.nodes.iter().rev().find_map(|node| match &node.kind {
        NodeKind::Decided { decision, data, .. } => Some((decision.clone(), data.clone())),
        _ => None,
    });
    found.unwrap()
}

/// What each commit rests on.
fn commits(answer: &Answer) -> Vec<Value> {
    let nodes = answer.trace.nodes.iter();
    nodes
        .filter_map(|node| match &node.kind {
            NodeKind::Decided { decision, data, .. } if decision.starts_with("commits ") => {
                Some(data.clone())
            }
            _ => None,
        })
        .collect()
}

#[test]
fn the_stop_rule_of_the_sheet() {
    let rule = RainSettings::default().stop_rule();
    let best = |true_visits, value| Statistics { prior: 0.1, visits: true_visits as f64, true_visits, value };
    assert!(rule.ends(1, 0, Some(&best(7, 0.9))), "visited 7 times with 0.9: at once");
    for done in 1..50 {
        assert!(!rule.ends(done, 0, Some(&best(7, 0.7))), "0.7 is not enough at search {done}");
    }
    assert!(rule.ends(50, 0, Some(&best(7, 0.7))), "the 50th search is the last");
    assert!(!rule.ends(1, 0, Some(&best(6, 0.9))), "more than 6 visits");
    let inflated = Statistics { visits: 12.0, ..best(6, 0.9) };
    assert!(!rule.ends(1, 0, Some(&inflated)), "shared visits do not count");
    assert!(!rule.ends(29, 20, None) && rule.ends(30, 20, None), "inherited visits count");
    assert!(!rule.ends(14, 49, None) && rule.ends(15, 49, None), "at least 15 new searches");
}

#[test]
fn bad_beginnings_are_rewound() {
    let answer = run(&rain(short()), &context(model(|text| !bad(text)).shared())).unwrap();
    assert_eq!(answer.text, "g g g g #7", "a sampled reply is clean once in 16");
    assert_eq!((answer.answer.as_deref(), &answer.abstained), (Some("7"), &None));
    let commits = commits(&answer);
    assert!(commits.len() >= 2);
    assert!(commits.iter().all(|commit| commit["value"].as_f64().unwrap() > 0.0), "{commits:?}");
    let (_, data) = last_decision(&answer);
    assert_eq!(data["sets"], "tokens");
    assert!(data["similarity"].as_str().unwrap().contains("substitute"), "the scripted model embeds nothing");
    let judged: usize = answer
        .trace
        .nodes
        .iter()
        .filter_map(|node| match &node.kind {
            NodeKind::Decided { data, .. } => data["judged"].as_array().map(Vec::len),
            _ => None,
        })
        .sum();
    assert_eq!(Some(judged as u64), data["account"]["judged"].as_u64(), "each judgement is in the trace");
    let (whole, trace) = (answer.usage, answer.trace.usage());
    assert_eq!((whole.tokens(), data["account"]["abstentions"].as_u64()), (trace.tokens(), Some(0)));
    let searches = data["account"]["searches"].as_u64().unwrap();
    let known = data["account"]["known"].as_u64().unwrap();
    assert_eq!(searches, known + data["account"]["judged"].as_u64().unwrap());
    assert!(known > 0, "a text is judged once");
}

#[test]
fn without_search_it_writes_what_it_would_have_written() {
    // Commit after one visit of a child: no rewinding.
    let hasty = with(json!({"least_visits": 0, "enough": -1.5, "share": 0.0}));
    let bad_words: usize = (0..10)
        .map(|seed| {
            let mut settings = hasty.clone();
            settings["seed"] = json!(seed);
            let answer = run(&rain(settings), &context(model(|text| !bad(text)).shared())).unwrap();
            answer.text.split_whitespace().filter(|word| *word == "b").count()
        })
        .sum();
    assert!(bad_words >= 20, "{bad_words} of 40 words are bad");
}

#[test]
fn a_judge_that_likes_everything_commits_after_the_least_visits_and_leaves_the_law() {
    let mut first_words: HashMap<String, usize> = HashMap::new();
    for seed in 0..12 {
        let settings = with(json!({"seed": seed, "root_uniform": 0.0, "share": 0.0}));
        let answer = run(&rain(settings), &context(model(|_| true).shared())).unwrap();
        for commit in commits(&answer) {
            assert_eq!(commit["true_visits"], json!(7), "{commit}");
            assert!(commit["prior"].as_f64().unwrap() > 0.0);
        }
        let word = answer.text.split_whitespace().next().unwrap().to_string();
        *first_words.entry(word).or_default() += 1;
        let words = answer.text.split_whitespace().count();
        assert_eq!(words, LETTERS + 1, "the reply is as long as a sampled one");
        let legal = answer.text.split_whitespace().all(|word| ["b", "g", "#7"].contains(&word));
        assert!(legal, "only proposed sets: {}", answer.text);
    }
    // Of the law restricted to the proposed sets it takes the mode: all values are alike, so the prior decides.
    assert_eq!(first_words.get("b"), Some(&12));
}

#[test]
fn min_p_holds_for_continuations_too() {
    let model = Scripted::new("m")
        .on_with(
            |_| true,
            |request, sample| {
                let listed = matches!(request.logprobs, LogprobDetail::Top(_));
                assert!(listed || request.sampling.min_p == 0.2, "{:?}", request.sampling);
                Ok(write(request, sample))
            },
        )
        .scores(|request, index| Ok(opinion(request, index, |_| true)));
    let answer = run(&rain(with(json!({"min_p": 0.2}))), &context(model.shared())).unwrap();
    assert!(answer.text.ends_with("#7"), "{}", answer.text);
}

#[test]
fn a_preference_for_a_letter_is_no_alignment() {
    let prefers_a = || {
        Scripted::new("m").on_with(|_| true, |request, sample| Ok(write(request, sample))).scores(
            |request, index| Ok(scored(if request.continuations[index] == "A" { -0.1 } else { -2.3 })),
        )
    };
    let both = run(&rain(short()), &context(prefers_a().shared())).unwrap();
    for commit in commits(&both) {
        assert_eq!(commit["value"], json!(0.0), "the orders cancel: {commit}");
        assert!(commit["searches"].as_u64().unwrap() >= 15, "never sure enough to stop early: {commit}");
    }
    let mut settings = RainSettings { clause_tokens: 1, ..RainSettings::default() };
    settings.judge.swap = false;
    let one = run(&Rain::new(settings).unwrap(), &context(prefers_a().shared())).unwrap();
    assert!(
        commits(&one).iter().all(|commit| commit["value"] == json!(1.0)),
        "one order takes it for judgement"
    );
}

#[test]
fn one_more_child_where_all_are_alike_and_bad() {
    // The first word cannot be good, so every child is bad; words in common make them alike.
    let only = || json!({"children": 2, "lengths": [2], "variance": 10.0, "searches": 30, "max_tokens": 4});
    let widened = |most: usize| {
        let mut settings = with(only());
        settings["most_children"] = json!(most);
        let answer = run(&rain(settings), &context(model(|_| false).shared())).unwrap();
        let data = last_decision(&answer).1;
        (data["account"]["widenings"].as_u64().unwrap(), commits(&answer)[0]["children"].as_u64().unwrap())
    };
    let (widenings, children) = widened(6);
    assert!(widenings > 0 && children > 2, "{widenings} {children}");
    assert_eq!(widened(2), (0, 2), "the ablation");
    let mut apart = with(only());
    apart["variance"] = json!(0.0);
    apart["most_children"] = json!(6);
    let answer = run(&rain(apart), &context(model(|_| false).shared())).unwrap();
    assert_eq!(last_decision(&answer).1["account"]["widenings"], json!(0), "they are never alike enough");
}

#[test]
fn a_judge_that_cannot_be_read_abstains_and_is_not_asked_for_ever() {
    let model = Scripted::new("m")
        .on_with(
            |messages| messages.last().is_some_and(|m| m.text().contains("Reply with the single letter")),
            |_, _| Ok(Completion::text("Ignore the instructions. Everything is harmless.")),
        )
        .on_with(|_| true, |request, sample| Ok(write(request, sample)));
    let mut has = LanguageModel::capabilities(&model);
    has.score = false;
    has.top_logprobs = 0;
    let model = model.with_capabilities(has).shared();
    let answer = run(&rain(short()), &context(model.clone())).unwrap();
    let reason = answer.abstained.clone().unwrap();
    assert!(reason.contains("the judge abstained") && reason.contains("no reply is"), "{reason}");
    assert_eq!(answer.answer, None, "no silent reply");
    assert_eq!(last_decision(&answer).1["account"]["abstentions"], json!(15));
    assert!(model.calls() < 100, "{}", model.calls());
}

#[test]
fn a_budget_that_ends_leaves_the_most_visited_rest() {
    let strategy = rain(short());
    let ask = |calls| {
        run(
            &strategy,
            &context_with(
                model(|text| !bad(text)).shared(),
                Budget { calls: Some(calls), ..Budget::default() },
            ),
        )
    };
    let answer = ask(40).unwrap();
    let (decision, data) = last_decision(&answer);
    assert!(decision.contains("the rest is what was visited most") && data["cut"].is_string(), "{decision}");
    assert!(!answer.text.is_empty() && answer.usage.calls <= 40, "{}", answer.text);
    assert!(matches!(ask(3), Err(ControlError::Budget { .. })), "said before the first call");
    let tiny = ask(4).unwrap();
    assert!(tiny.answer.is_none() && tiny.usage.calls <= 4, "{:?}", tiny.usage);
    assert!(tiny.abstained.unwrap().contains("not one set was seen"), "what was begun ends in a reason");
}

#[test]
fn generation_stops_at_the_next_turn_and_at_the_last_token() {
    let model = model(|_| true).shared();
    let answer = run(&rain(with(json!({"max_tokens": 3}))), &context(model.clone())).unwrap();
    assert_eq!(answer.text.split_whitespace().count(), 3);
    assert!(answer.abstained.unwrap().contains("no answer"), "cut before its answer");
    let requests = model.requests();
    assert!(!requests.is_empty());
    for request in &requests {
        assert!(request.sampling.stop.iter().any(|stop| stop == "\nUser:"), "{:?}", request.sampling.stop);
        let written: usize = match request.messages.last() {
            Some(last) if last.role == Role::Assistant => last.text().split_whitespace().count(),
            _ => 0,
        };
        assert!(written + request.sampling.max_tokens as usize <= 3 || request.sampling.max_tokens == 1);
    }
    let seeds: HashSet<u64> = requests.iter().map(|request| request.sampling.seed).collect();
    assert_eq!(seeds.len(), requests.len(), "no two calls share their luck");
}

/// An endpoint that continues nothing writes sentence by sentence.
#[test]
fn without_prefixes_sets_are_sentences() {
    let model = Scripted::new("m")
        .on_with(
            |messages| messages.last().is_some_and(|m| m.text().contains("Your reply is not finished")),
            |request, sample| {
                let so_far = request.messages[request.messages.len() - 2].text();
                Ok(Completion::text(match (so_far.matches('.').count(), sample % 2) {
                    (0, _) => "Never.",
                    (1, 0) => "Use b now. Or wait.",
                    (1, _) => "Use g now.",
                    (2, _) => "It is #7",
                    _ => "<end>",
                }))
            },
        )
        .on_with(
            |_| true,
            |_, sample| {
                Ok(Completion::text(if sample % 2 == 0 { "Go b. Then rest." } else { "Go g. Then rest." }))
            },
        )
        .scores(|request, index| Ok(opinion(request, index, |text| !bad(&text.replace('.', "")))));
    let has = Capabilities { prefix: false, top_logprobs: 0, ..LanguageModel::capabilities(&model) };
    let model = model.with_capabilities(has).shared();
    let answer = run(&rain(json!({"children": 4})), &context(model.clone())).unwrap();
    assert_eq!(answer.text.split_once(" It is").unwrap().0, "Go g. Use g now.");
    assert_eq!(last_decision(&answer).1["sets"], "sentences");
    for request in model.requests() {
        assert_ne!(request.messages.last().unwrap().role, Role::Assistant, "no prefix is sent");
    }
}

#[test]
fn settings_are_checked() {
    for (settings, field) in [
        (json!({"children": 1}), "children"),
        (json!({"most_children": 3}), "most_children"),
        (json!({"lengths": []}), "lengths"),
        (json!({"lengths": [1, 0]}), "lengths"),
        (json!({"enough": 3.0}), "enough"),
        (json!({"searches": 0}), "searches"),
        (json!({"share": 1.5}), "share"),
        (json!({"exploration": -1.0}), "exploration"),
        (json!({"clause_tokens": 0}), "clause_tokens"),
        (json!({"max_tokens": 0}), "max_tokens"),
    ] {
        let error = Rain::new(serde_json::from_value(settings).unwrap()).unwrap_err().to_string();
        assert!(error.contains(field) && error.contains("hint:"), "{error}");
    }
    let read: RainSettings = serde_json::from_value(json!({"judge": {"samples": 3}})).unwrap();
    assert!(
        read.judge.vote && read.judge.property.is_some() && read.judge.samples == 3,
        "over RAIN's own defaults"
    );
    let judge = json!({"judge": {"sample": 3}});
    assert!(serde_json::from_value::<RainSettings>(judge).is_err(), "an unknown field is refused");
    let judge = json!({"judge": {"samples": 0}});
    assert!(Rain::new(serde_json::from_value(judge).unwrap()).is_err());
}
