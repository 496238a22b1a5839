//! What is written is read back the same; what we do not know is kept; what is newer, torn or hostile is refused.

use elenchus_trace::{
    Answer, Budget, ChoiceOption, Completion, Content, ContentPart, Feedback, FinishReason, FunctionCall,
    ImageUrl, JudgementRow, Message, Node, NodeId, NodeKind, Outcome, PairRow, Price, Problem, Role, Sample,
    SampleRow, Step, StepVerdict, TRACE_VERSION, TokenDistribution, ToolCall, TopToken, Trace, TraceError,
    Usage, Verdict, Votes,
};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "[a-z =+]{0,12}",
        any::<String>(),
        Just("\u{0}\"\\\r\n\u{2028}😀".to_string())
    ]
}

/// JSON has neither NaN nor infinities.
fn float() -> impl Strategy<Value = f64> {
    any::<f64>().prop_filter("finite", |float| float.is_finite())
}

fn small_float() -> impl Strategy<Value = f32> {
    any::<f32>().prop_filter("finite", |float| float.is_finite())
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        float().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            vec((text(), inner), 0..3).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Fields that no type of ours has.
fn extra() -> impl Strategy<Value = Map<String, Value>> {
    vec(("x_[a-z]{0,4}", value()), 0..3).prop_map(|fields| fields.into_iter().collect())
}

fn usage() -> impl Strategy<Value = Usage> {
    (any::<u64>(), any::<u64>(), any::<u64>(), float(), float()).prop_map(
        |(prompt_tokens, completion_tokens, calls, seconds, money)| Usage {
            prompt_tokens,
            completion_tokens,
            calls,
            seconds,
            money,
        },
    )
}

fn budget() -> impl Strategy<Value = Budget> {
    (of(any::<u64>()), of(any::<u64>()), of(float()), of(float()))
        .prop_map(|(tokens, calls, seconds, money)| Budget { tokens, calls, seconds, money })
}

fn role() -> impl Strategy<Value = Role> {
    prop::sample::select(vec![Role::System, Role::Developer, Role::User, Role::Assistant, Role::Tool])
}

/// Parts are read from JSON, since the tags of the known ones have no public name.
fn part() -> impl Strategy<Value = ContentPart> {
    prop_oneof![
        text().prop_map(|text| json!({"type": "text", "text": text})),
        (text(), extra()).prop_map(|(url, extra)| {
            let image = serde_json::to_value(ImageUrl { url, extra }).unwrap_or_default();
            json!({"type": "image_url", "image_url": image})
        }),
        extra().prop_map(|mut extra| {
            extra.insert("type".into(), "input_audio".into());
            Value::Object(extra)
        }),
    ]
    .prop_filter_map("a part", |part| serde_json::from_value(part).ok())
}

fn message() -> impl Strategy<Value = Message> {
    let content = of(prop_oneof![text().prop_map(Content::Text), vec(part(), 0..3).prop_map(Content::Parts)]);
    let call = (text(), text(), text(), text(), extra()).prop_map(|(id, kind, name, arguments, extra)| {
        ToolCall { id, kind, function: FunctionCall { name, arguments }, extra }
    });
    (role(), content, of(text()), vec(call, 0..2), of(text()), extra()).prop_map(
        |(role, content, name, tool_calls, tool_call_id, extra)| Message {
            role,
            content,
            name,
            tool_calls,
            tool_call_id,
            extra,
        },
    )
}

fn finish() -> impl Strategy<Value = FinishReason> {
    prop_oneof![
        Just(FinishReason::Stop),
        Just(FinishReason::Length),
        Just(FinishReason::ToolCalls),
        Just(FinishReason::ContentFilter),
        Just(FinishReason::Cancelled),
        Just(FinishReason::Interrupted),
        // A server's own word, which is none of ours.
        "other_[a-z]{0,6}".prop_map(FinishReason::Other),
    ]
}

fn completion() -> impl Strategy<Value = Completion> {
    let distribution = (small_float(), small_float(), small_float(), small_float()).prop_map(
        |(kl_from_uniform, entropy, gini, max_logprob)| TokenDistribution {
            kl_from_uniform,
            entropy,
            gini,
            max_logprob,
        },
    );
    let top_token = (text(), small_float()).prop_map(|(token, logprob)| TopToken { token, logprob });
    let top = vec(vec(top_token, 0..3), 0..3);
    let tokens =
        (vec(any::<u32>(), 0..4), vec(text(), 0..4), vec(small_float(), 0..4), top, vec(distribution, 0..3));
    let rest = (of(any::<u32>()), of(message()), usage(), of(any::<u64>()), extra());
    (text(), finish(), tokens, rest).prop_map(|(text, finish, tokens, rest)| {
        let (token_ids, token_texts, logprobs, top, distributions) = tokens;
        let (vocabulary, message, usage, seed, extra) = rest;
        Completion {
            text,
            finish,
            token_ids,
            token_texts,
            logprobs,
            top,
            distributions,
            vocabulary,
            message,
            usage,
            seed,
            extra,
        }
    })
}

fn verdict() -> impl Strategy<Value = Verdict> {
    let outcome = prop::sample::select(vec![Outcome::Correct, Outcome::Wrong, Outcome::NoAnswer]);
    let step = (text(), any::<usize>(), any::<usize>(), any::<bool>(), of(text())).prop_map(
        |(text, start, end, correct, expected)| StepVerdict {
            step: Step { text, start, end },
            correct,
            expected,
        },
    );
    (outcome, of(text()), vec(step, 0..3), of(text())).prop_map(|(outcome, answer, steps, reason)| Verdict {
        outcome,
        answer,
        steps,
        reason,
    })
}

fn feedback() -> impl Strategy<Value = Feedback> {
    let scores = (of(float()), of(float()), vec(float(), 0..3), vec(float(), 0..3));
    (text(), scores, of(verdict()), of(text()), of(text()), usage()).prop_map(
        |(evaluator, scores, verdict, text, abstained, usage)| Feedback {
            evaluator,
            score: scores.0,
            probability: scores.1,
            verdict,
            step_scores: scores.2,
            orders: scores.3,
            text,
            abstained,
            usage,
        },
    )
}

fn problem() -> impl Strategy<Value = Problem> {
    let option = (text(), text()).prop_map(|(label, text)| ChoiceOption { label, text });
    let wants = value().prop_map(|value| serde_json::Map::from_iter([("tools".to_string(), value)]));
    (text(), text(), text(), of(text()), of(text()), vec(option, 0..3), vec(message(), 0..2), wants, value())
        .prop_map(|(id, task, question, compact, gold, options, history, wants, data)| Problem {
            id,
            task,
            question,
            compact,
            gold,
            options,
            history,
            wants,
            data,
        })
}

/// The kind of the node at this index; what it refers to stands before it.
fn kind(index: u32) -> BoxedStrategy<NodeKind> {
    let generated =
        (text(), text(), vec(message(), 0..2), completion()).prop_map(|(role, model, prompt, completion)| {
            NodeKind::Generated { role, model, prompt, completion: Box::new(completion) }
        });
    let stage = text().prop_map(|name| NodeKind::Stage { name });
    let failed = text().prop_map(|error| NodeKind::Failed { error });
    if index == 0 {
        return prop_oneof![generated, stage, failed].boxed();
    }
    let evaluated = (0..index, feedback())
        .prop_map(|(of, feedback)| NodeKind::Evaluated { of: NodeId(of), feedback: Box::new(feedback) });
    let decided = (text(), of(0..index), value()).prop_map(|(decision, chosen, data)| NodeKind::Decided {
        decision,
        chosen: chosen.map(NodeId),
        data,
    });
    prop_oneof![generated, stage, failed, evaluated, decided].boxed()
}

fn node(index: u32) -> BoxedStrategy<Node> {
    let parent = if index == 0 { Just(None).boxed() } else { of(0..index).boxed() };
    (parent, kind(index), float(), float(), usage())
        .prop_map(|(parent, kind, started_ms, elapsed_ms, usage)| Node {
            parent: parent.map(NodeId),
            kind,
            started_ms,
            elapsed_ms,
            usage,
        })
        .boxed()
}

fn trace() -> impl Strategy<Value = Trace> {
    let nodes = (0u32..5).prop_flat_map(|count| (0..count).map(node).collect::<Vec<_>>());
    (text(), text(), problem(), any::<u64>(), budget(), nodes).prop_map(
        |(id, strategy, problem, started_unix_ms, budget, nodes)| Trace {
            version: TRACE_VERSION,
            id,
            strategy,
            problem,
            started_unix_ms,
            budget,
            nodes,
        },
    )
}

fn sample() -> impl Strategy<Value = Sample> {
    let numbers = (of(float()), of(float()), of(vec(small_float(), 0..3)), of(float()), of(float()));
    (text(), of(text()), of(any::<bool>()), numbers, extra()).prop_map(
        |(text, answer, correct, numbers, extra)| {
            let (mean_logprob, sum_logprob, token_logprobs, certainty, score) = numbers;
            Sample {
                text,
                answer,
                correct,
                mean_logprob,
                sum_logprob,
                token_logprobs,
                certainty,
                score,
                extra,
            }
        },
    )
}

/// Writes and reads back, as text and as a value.
fn round_trip<T>(item: &T) -> Result<(), TestCaseError>
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let fail = |error: serde_json::Error| TestCaseError::fail(format!("{error}: {item:?}"));
    let text = serde_json::to_string(item).map_err(fail)?;
    let back: T = serde_json::from_str(&text).map_err(fail)?;
    prop_assert_eq!(&back, item);
    prop_assert_eq!(
        serde_json::to_string(&back).map_err(fail)?,
        text.clone(),
        "written again it is the same text"
    );
    let value: Value = serde_json::from_str(&text).map_err(fail)?;
    let back: T = serde_json::from_value(value).map_err(fail)?;
    prop_assert_eq!(&back, item);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn traces_come_back(trace in trace()) {
        round_trip(&trace)?;
        let text = serde_json::to_string(&trace).unwrap();
        prop_assert_eq!(Trace::from_json(&text).unwrap(), trace);
    }

    #[test]
    fn answers_come_back(
        trace in trace(),
        words in (text(), of(text()), of(float()), of(text())),
        usage in usage(),
        votes in vec((text(), any::<usize>(), float()), 0..3),
    ) {
        let (text, answer, confidence, abstained) = words;
        let votes = votes.into_iter().map(|(answer, count, weight)| Votes { answer, count, weight }).collect();
        round_trip(&Answer { text, answer, confidence, votes, abstained, usage, trace })?;
    }

    #[test]
    fn parts_of_a_trace_come_back(
        problem in problem(),
        message in message(),
        completion in completion(),
        feedback in feedback(),
        usage in usage(),
        budget in budget(),
        price in (float(), float()),
    ) {
        round_trip(&problem)?;
        round_trip(&message)?;
        round_trip(&completion)?;
        round_trip(&feedback)?;
        round_trip(&usage)?;
        round_trip(&budget)?;
        round_trip(&Price { prompt_per_million: price.0, completion_per_million: price.1 })?;
    }

    #[test]
    fn rows_come_back(
        (id, question, gold) in (text(), text(), of(text())),
        samples in vec(sample(), 0..3),
        extra in extra(),
        confidence in float(),
        correct: bool,
        options in (of(vec(text(), 0..3)), of(any::<i64>()), of(any::<u32>()), of(any::<bool>()), of(any::<bool>())),
    ) {
        let (extract, boxed_match_priority, precision, strict, allow_set_relation_comp) = options;
        round_trip(&PairRow {
            id: id.clone(),
            gold: question.clone(),
            pred: gold.clone().unwrap_or_default(),
            extract,
            boxed_match_priority,
            precision,
            strict,
            allow_set_relation_comp,
            extra: extra.clone(),
        })?;
        round_trip(&JudgementRow { id: id.clone(), confidence, correct })?;
        round_trip(&SampleRow { id, question, gold, samples, extra })?;
    }

    #[test]
    fn random_text_is_refused_without_panic(text in any::<String>()) {
        prop_assert!(Trace::from_json(&text).is_err());
    }

    #[test]
    fn a_cut_or_changed_trace_does_not_panic(
        trace in trace(),
        place in any::<prop::sample::Index>(),
        byte in 0u8..128,
        cut: bool,
    ) {
        let mut bytes = serde_json::to_vec(&trace).unwrap();
        let place = place.index(bytes.len());
        if cut {
            bytes.truncate(place);
        } else {
            bytes[place] = byte;
        }
        let result = Trace::from_json(&String::from_utf8_lossy(&bytes));
        if cut {
            prop_assert!(matches!(result, Err(TraceError::Json(_))), "a cut trace is no trace");
        } else if let Err(error) = result {
            prop_assert!(error.to_string().contains("\nhint: "), "{}", error);
        }
    }
}

fn small_trace() -> Value {
    json!({
        "version": 1, "id": "t", "strategy": "vote", "started_unix_ms": 0,
        "problem": {"id": "p", "task": "arithmetic", "question": "1+1?"},
        "nodes": [
            {"kind": "stage", "name": "s", "started_ms": 0.0, "elapsed_ms": 0.0},
            {"parent": 0, "kind": "decided", "decision": "d", "chosen": 0, "started_ms": 0.0, "elapsed_ms": 0.0},
        ],
    })
}

#[test]
fn fields_of_others_are_kept_where_servers_and_people_add_them() {
    let message = json!({
        "role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "no"}],
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{"}, "index": 0}],
        "reasoning_content": "hm", "audio": null,
    });
    let read: Message = serde_json::from_value(message.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), message, "nothing of a server's message may be lost");
    let row =
        json!({"id": "1", "question": "q", "samples": [{"text": "t", "model": "m"}], "source": {"file": 1}});
    let read: SampleRow = serde_json::from_value(row.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), row);
    let pair = json!({"id": "1", "gold": "2", "pred": "3", "label": 0});
    let read: PairRow = serde_json::from_value(pair.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), pair);
}

#[test]
fn unknown_fields_of_limits_are_refused() {
    let error = serde_json::from_value::<Budget>(json!({"token": 5})).unwrap_err().to_string();
    assert!(
        error.contains("unknown field `token`"),
        "a misspelt budget must not be an unlimited one: {error}"
    );
    assert!(serde_json::from_value::<Price>(json!({"prompt": 1.0})).is_err());
}

#[test]
fn numbers_are_accepted_as_identifiers() {
    let row: SampleRow = serde_json::from_str(r#"{"id": 7, "gold": 2.50, "samples": []}"#).unwrap();
    assert_eq!((row.id.as_str(), row.gold.as_deref()), ("7", Some("2.5")));
    assert!(serde_json::from_str::<SampleRow>(r#"{"id": null, "samples": []}"#).is_err());
    assert!(
        serde_json::from_str::<JudgementRow>(r#"{"id": [1], "confidence": 1, "correct": true}"#).is_err()
    );
}

#[test]
fn newer_versions_are_refused_with_what_to_do() {
    let mut trace = small_trace();
    assert!(Trace::from_json(&trace.to_string()).is_ok());
    trace["version"] = json!(TRACE_VERSION + 1);
    let error = Trace::from_json(&trace.to_string()).unwrap_err();
    assert!(matches!(error, TraceError::Version { found, .. } if found == TRACE_VERSION + 1));
    assert!(error.to_string().contains("hint: update elenchus"), "{error}");
    trace["version"] = json!(-1);
    assert!(matches!(Trace::from_json(&trace.to_string()), Err(TraceError::Json(_))));
    trace.as_object_mut().unwrap().remove("version");
    assert!(Trace::from_json(&trace.to_string()).is_err(), "a trace without version is none");
}

#[test]
fn references_must_point_backwards() {
    for (field, target) in [("parent", 1), ("parent", 9), ("chosen", 1), ("chosen", u32::MAX)] {
        let mut trace = small_trace();
        trace["nodes"][1][field] = json!(target);
        let error = Trace::from_json(&trace.to_string()).unwrap_err();
        assert!(
            matches!(error, TraceError::Order { node: 1, target: found, .. } if found == target),
            "{error}"
        );
    }
}

#[test]
fn hostile_json_is_refused() {
    let deep = "[".repeat(200_000);
    assert!(Trace::from_json(&deep).is_err(), "deep nesting must not overflow the stack");
    let mut trace = small_trace();
    trace["problem"]["data"] = json!("x");
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_data = trace.to_string().replace("\"x\"", &nested);
    assert!(
        matches!(Trace::from_json(&deep_data), Err(TraceError::Json(_))),
        "deep nesting inside a free field"
    );
    for hostile in
        ["", "null", "{}", "[]", "\u{feff}{}", "{\"version\":1e999}", "{\"version\":18446744073709551616}"]
    {
        assert!(matches!(Trace::from_json(hostile), Err(TraceError::Json(_))), "{hostile}");
    }
    let twice = small_trace().to_string().replacen("\"id\":\"t\"", "\"id\":\"t\",\"id\":\"u\"", 1);
    let error = Trace::from_json(&twice).unwrap_err().to_string();
    assert!(error.contains("duplicate field `id`"), "{error}");
    let mut unknown = small_trace();
    unknown["nodes"][0]["kind"] = json!("imagined");
    assert!(Trace::from_json(&unknown.to_string()).is_err());
}
