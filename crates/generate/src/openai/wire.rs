//! Requests and responses of `/v1/chat/completions` as JSON, without any network.

use super::http::ANSWERS;
use super::refusal::error_status;
use super::stop;
use crate::model::estimated_tokens;
use crate::{GenerateError, GenerateRequest, LogprobDetail};
use elenchus_trace::{Completion, FinishReason, Message, Role, TopToken, Usage};
use serde_json::{Map, Value, json};

/// What of a body depends on the server and not on the request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyStyle<'a> {
    pub model: &'a str,
    /// Fields that every body carries unless the request gives them.
    pub base: &'a Map<String, Value>,
    /// `max_tokens` or `max_completion_tokens`.
    pub max_tokens_field: &'a str,
    pub send_seed: bool,
    /// Whether log-probabilities are asked for that are welcome and not needed.
    pub offer_logprobs: bool,
    pub continue_final_message: bool,
    pub stream: bool,
    pub stream_usage: bool,
}

/// Servers keep the seed in anything from 31 bits upwards.
pub(crate) fn wire_seed(seed: u64) -> u64 {
    seed & 0x7fff_ffff
}

/// The body of a request. Fields of `request.extra` win over ours.
pub(crate) fn chat_body(style: &BodyStyle<'_>, request: &GenerateRequest) -> Value {
    let sampling = &request.sampling;
    let mut body = style.base.clone();
    body.insert("model".into(), json!(style.model));
    body.insert("messages".into(), json!(request.messages));
    body.insert("temperature".into(), number(sampling.temperature));
    body.insert(style.max_tokens_field.into(), json!(sampling.max_tokens));
    if request.samples > 1 {
        body.insert("n".into(), json!(request.samples));
    }
    if sampling.top_p < 1.0 {
        body.insert("top_p".into(), number(sampling.top_p));
    }
    // Not in the OpenAI contract; sent only when wanted, for the servers that know them.
    if sampling.top_k > 0 {
        body.insert("top_k".into(), json!(sampling.top_k));
    }
    if sampling.min_p > 0.0 {
        body.insert("min_p".into(), number(sampling.min_p));
    }
    if !sampling.stop.is_empty() {
        body.insert("stop".into(), json!(sampling.stop));
    }
    if style.send_seed {
        body.insert("seed".into(), json!(wire_seed(sampling.seed)));
    }
    match request.logprobs {
        LogprobDetail::None => {}
        LogprobDetail::Offered if !style.offer_logprobs => {}
        LogprobDetail::Offered | LogprobDetail::Chosen | LogprobDetail::Distribution => {
            body.insert("logprobs".into(), json!(true));
        }
        LogprobDetail::Top(count) => {
            body.insert("logprobs".into(), json!(true));
            body.insert("top_logprobs".into(), json!(count));
        }
    }
    if !request.tools.is_empty() {
        body.insert("tools".into(), json!(request.tools));
    }
    if style.continue_final_message && request.messages.last().is_some_and(|m| m.role == Role::Assistant) {
        body.insert("continue_final_message".into(), json!(true));
        body.insert("add_generation_prompt".into(), json!(false));
    }
    if style.stream {
        body.insert("stream".into(), json!(true));
        if style.stream_usage {
            body.insert("stream_options".into(), json!({"include_usage": true}));
        }
    }
    for (name, value) in &request.extra {
        body.insert(name.clone(), value.clone());
    }
    Value::Object(body)
}

/// The shortest decimal of an `f32`: 0.7 is sent as 0.7 and not as 0.699999988079071.
fn number(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, |value| json!(value))
}

/// What is wrong with a response whose status was fine.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum WireFault {
    /// The error object of the server, with the status that it means.
    Server { message: String, code: Option<String>, status: Option<u16> },
    /// Not the shape of a chat completion.
    Shape(String),
    /// Nothing in `choices`.
    NoChoices,
    /// Log-probabilities were asked for and are not there.
    NoLogprobs,
}

/// The fault of a body that is an error.
pub(crate) fn server_fault(body: &Value) -> Option<WireFault> {
    let (message, code) = error_message(body)?;
    Some(WireFault::Server { message, code, status: error_status(body) })
}

/// The words and the code of an error body, in the shapes that servers use.
pub(crate) fn error_message(body: &Value) -> Option<(String, Option<String>)> {
    let error = body.get("error").filter(|error| !error.is_null());
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Null => None,
        other => Some(other.to_string()),
    };
    let code = |value: &Value| {
        ["code", "type"].iter().find_map(|name| match value.get(name) {
            Some(Value::String(code)) => Some(code.clone()),
            Some(Value::Number(code)) => Some(code.to_string()),
            _ => None,
        })
    };
    match error {
        Some(object @ Value::Object(_)) => {
            let message = object.get("message").and_then(text).unwrap_or_else(|| object.to_string());
            Some((message, code(object)))
        }
        Some(other) => text(other).map(|message| (message, code(body))),
        None if body.get("choices").is_some() => None,
        None => ["message", "detail"]
            .iter()
            .find_map(|name| body.get(name).and_then(text))
            .map(|m| (m, code(body))),
    }
}

/// The completions of a whole response, in the order of their `index`.
///
/// The usage of the request is divided: prompt tokens and the call belong to the first completion, completion tokens
/// to each by its tokens or, where those are unknown, by its length. So the sum over completions is the server's sum.
pub(crate) fn parse_response(body: Value, request: &GenerateRequest) -> Result<Vec<Completion>, WireFault> {
    if let Some(fault) = server_fault(&body) {
        return Err(fault);
    }
    let Value::Object(mut body) = body else {
        return Err(WireFault::Shape("the response is not a JSON object".into()));
    };
    let choices = match body.remove("choices") {
        Some(Value::Array(choices)) => choices,
        Some(Value::Null) => return Err(WireFault::NoChoices),
        None => return Err(WireFault::Shape("the response has no `choices`".into())),
        Some(_) => return Err(WireFault::Shape("`choices` is not a list".into())),
    };
    if choices.is_empty() {
        return Err(WireFault::NoChoices);
    }
    let mut completions = Vec::with_capacity(choices.len());
    for (position, choice) in choices.into_iter().enumerate() {
        let Value::Object(mut choice) = choice else {
            return Err(WireFault::Shape(format!("`choices[{position}]` is not an object")));
        };
        let index = choice.remove("index").and_then(|index| index.as_u64()).unwrap_or(position as u64);
        let mut completion = parse_message(choice.remove("message"), position)?;
        completion.finish = finish_reason(choice.remove("finish_reason"), &completion);
        read_logprobs(choice.remove("logprobs"), &mut completion);
        check_logprobs(&completion, request)?;
        completion.extra = without_nulls(choice);
        completions.push((index, completion));
    }
    completions.sort_by_key(|(index, _)| *index);
    let mut completions: Vec<Completion> =
        completions.into_iter().map(|(_, completion)| completion).collect();
    share_usage(body.get("usage"), request, &mut completions);
    attach_response(body, &mut completions);
    let stops = stop::stops_of(request);
    completions.iter_mut().for_each(|completion| stop::cut(completion, &stops));
    Ok(completions)
}

pub(crate) fn check_logprobs(completion: &Completion, request: &GenerateRequest) -> Result<(), WireFault> {
    let wanted = !matches!(request.logprobs, LogprobDetail::None | LogprobDetail::Offered);
    // A pure tool call or an empty text has no content tokens to report.
    if wanted && completion.logprobs.is_empty() && !completion.text.is_empty() {
        return Err(WireFault::NoLogprobs);
    }
    Ok(())
}

/// Keeps the fields of the response beside its choices under `response`.
pub(crate) fn attach_response(body: Map<String, Value>, completions: &mut [Completion]) {
    let rest = without_nulls(body);
    if !rest.is_empty() {
        for completion in completions {
            completion.extra.insert("response".into(), Value::Object(rest.clone()));
        }
    }
}

fn without_nulls(fields: Map<String, Value>) -> Map<String, Value> {
    fields.into_iter().filter(|(_, value)| !value.is_null()).collect()
}

fn parse_message(message: Option<Value>, position: usize) -> Result<Completion, WireFault> {
    let Some(Value::Object(fields)) = message else {
        return Err(WireFault::Shape(format!("`choices[{position}].message` is missing")));
    };
    let mut fields = without_nulls(fields);
    fields.entry("role").or_insert_with(|| json!("assistant"));
    completion_of(fields).map_err(|what| WireFault::Shape(format!("`choices[{position}].message`: {what}")))
}

/// A completion from the fields of an assistant message; the message itself is kept when it holds more than text.
pub(crate) fn completion_of(fields: Map<String, Value>) -> Result<Completion, String> {
    let message: Message =
        serde_json::from_value(Value::Object(fields)).map_err(|error| error.to_string())?;
    let mut completion = Completion::text(message.text());
    let says_more = !message.tool_calls.is_empty()
        || message.content.as_ref().is_some_and(|content| content.has_other_than_text())
        || message.extra.values().any(|value| *value != json!([]));
    if says_more {
        completion.message = Some(message);
    }
    Ok(completion)
}

/// Our reason from the server's word.
pub(crate) fn finish_reason(word: Option<Value>, completion: &Completion) -> FinishReason {
    let calls_tools = completion.message.as_ref().is_some_and(|message| !message.tool_calls.is_empty());
    match word.as_ref().and_then(Value::as_str) {
        // Some servers say `stop`, or nothing, after tool calls.
        None | Some("stop" | "") if calls_tools => FinishReason::ToolCalls,
        None | Some("stop" | "" | "eos" | "eos_token" | "end_turn" | "stop_sequence") => FinishReason::Stop,
        Some("length" | "max_tokens") => FinishReason::Length,
        Some("tool_calls" | "function_call") => FinishReason::ToolCalls,
        Some("content_filter") => FinishReason::ContentFilter,
        Some("cancelled") => FinishReason::Cancelled,
        Some("interrupted") => FinishReason::Interrupted,
        Some(other) => FinishReason::Other(other.into()),
    }
}

/// Adds the entries of a `logprobs` object.
pub(crate) fn read_logprobs(logprobs: Option<Value>, completion: &mut Completion) {
    let Some(entries) = logprobs.as_ref().and_then(|value| value.get("content")).and_then(Value::as_array)
    else {
        return;
    };
    for entry in entries {
        let Some(logprob) = entry.get("logprob").and_then(Value::as_f64) else { continue };
        completion.logprobs.push(logprob as f32);
        let token = entry.get("token").and_then(Value::as_str).unwrap_or_default();
        completion.token_texts.push(token.into());
        let top = entry.get("top_logprobs").and_then(Value::as_array);
        let top: Vec<TopToken> = top
            .into_iter()
            .flatten()
            .filter_map(|item| {
                Some(TopToken {
                    token: item.get("token")?.as_str()?.into(),
                    logprob: item.get("logprob")?.as_f64()? as f32,
                })
            })
            .collect();
        completion.top.push(top);
    }
    if completion.top.iter().all(Vec::is_empty) {
        completion.top.clear();
    }
}

/// Divides the usage of a request among its completions.
pub(crate) fn share_usage(usage: Option<&Value>, request: &GenerateRequest, completions: &mut [Completion]) {
    let field = |name| usage.and_then(|usage| usage.get(name)).and_then(Value::as_u64);
    let total = field("completion_tokens");
    let known: Vec<u64> = completions.iter().map(|c| c.logprobs.len() as u64).collect();
    let shares: Vec<u64> = match total {
        Some(total) if completions.len() == 1 => vec![total],
        Some(total) if known.iter().sum::<u64>() == total => known,
        Some(total) => {
            let lengths: Vec<u64> = completions.iter().map(|c| c.text.len() as u64 + 1).collect();
            let all: u64 = lengths.iter().sum();
            let mut shares: Vec<u64> = lengths.iter().map(|length| total * length / all).collect();
            let rest = total - shares.iter().sum::<u64>();
            if let Some(first) = shares.first_mut() {
                *first += rest;
            }
            shares
        }
        None => known
            .iter()
            .zip(completions.iter())
            .map(|(&known, c)| if known > 0 { known } else { estimated_tokens(c.text.len()) })
            .collect(),
    };
    for (index, (completion, tokens)) in completions.iter_mut().zip(shares).enumerate() {
        completion.usage = Usage { completion_tokens: tokens, ..Usage::default() };
        if index == 0 {
            completion.usage.calls = 1;
            completion.usage.prompt_tokens = field("prompt_tokens").unwrap_or_else(|| {
                request.messages.iter().map(|message| estimated_tokens(message.text().len())).sum()
            });
        }
        if total.is_none() {
            completion.extra.insert("usage_estimated".into(), json!(true));
        }
    }
}

/// How the note ends that long samples of one call are all the same text.
pub const REPEATS_ITSELF: &str = "the server repeats itself";

/// Marks long samples that are all the same although they were drawn at a temperature above 0: the server draws them
/// with one seed or answers from a cache, and a vote over them says nothing.
pub(crate) fn note_identical(request: &GenerateRequest, completions: &mut [Completion]) {
    const LEAST_BYTES: usize = 40;
    let [first, rest @ ..] = &*completions else { return };
    let identical = !rest.is_empty()
        && request.sampling.temperature > 0.0
        && first.text.len() >= LEAST_BYTES
        && rest.iter().all(|other| other.text == first.text);
    if identical {
        let note = format!(
            "all {} samples are the same text at temperature {}: {REPEATS_ITSELF}",
            completions.len(),
            request.sampling.temperature
        );
        completions.iter_mut().for_each(|completion| stop::note(completion, note.clone()));
    }
}

/// The error for a fault, in the words of the person who has to mend it.
pub(crate) fn fault_error(model: &str, place: &str, fault: WireFault) -> GenerateError {
    let unavailable = |what: String, hint: &str, retryable| GenerateError::Unavailable {
        model: model.into(),
        what,
        hint: hint.into(),
        retry_after_seconds: None,
        retryable,
    };
    match fault {
        WireFault::Server { message, code, status } => {
            let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
            let words = "these are the words of the server";
            match status {
                None => unavailable(format!("{place} answers: {message}{code}"), words, true),
                // As if it had come with that status.
                Some(status) => {
                    let named = reqwest::StatusCode::from_u16(status).map(|status| status.to_string());
                    let named = named.unwrap_or_else(|_| status.to_string());
                    let what = format!("{place}{ANSWERS}{named}: {message}{code}");
                    match status {
                        408 | 409 | 425 | 429 | 500.. => unavailable(what, words, !code.contains("quota")),
                        _ => GenerateError::from_request(model, what, words),
                    }
                }
            }
        }
        WireFault::Shape(what) => unavailable(
            format!("{place} answers with something else than a chat completion: {what}"),
            "check that the base URL names an OpenAI-compatible API; it usually ends in `/v1`",
            false,
        ),
        WireFault::NoChoices => unavailable(
            format!("{place} answers without any choice"),
            "the server produced nothing; its log may say why",
            true,
        ),
        WireFault::NoLogprobs => GenerateError::Capability {
            model: model.into(),
            what: format!("log-probabilities: {place} left them out though they were asked for"),
            hint: "use a server that reports `logprobs` (vLLM, llama.cpp, OpenAI), or a method that needs only text"
                .into(),
        },
    }
}

/// The vectors of an embeddings response, in the order of the texts.
pub(crate) fn parse_embeddings(body: Value, texts: usize) -> Result<Vec<Vec<f32>>, WireFault> {
    if let Some(fault) = server_fault(&body).filter(|_| body.get("data").is_none()) {
        return Err(fault);
    }
    let shape = |what: &str| WireFault::Shape(what.into());
    let items =
        body.get("data").and_then(Value::as_array).ok_or_else(|| shape("the response has no `data`"))?;
    let mut vectors: Vec<Option<Vec<f32>>> = vec![None; texts];
    for (position, item) in items.iter().enumerate() {
        let index = item.get("index").and_then(Value::as_u64).unwrap_or(position as u64) as usize;
        let numbers = item.get("embedding").and_then(Value::as_array);
        let numbers = numbers.ok_or_else(|| shape("an item has no `embedding` list"))?;
        let vector: Option<Vec<f32>> = numbers.iter().map(|n| n.as_f64().map(|n| n as f32)).collect();
        let vector = vector.ok_or_else(|| shape("an `embedding` holds something else than numbers"))?;
        if let Some(place) = vectors.get_mut(index) {
            *place = Some(vector);
        }
    }
    let vectors: Option<Vec<Vec<f32>>> = vectors.into_iter().collect();
    vectors.ok_or_else(|| shape("there are fewer vectors than texts"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sampling;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    fn style() -> BodyStyle<'static> {
        static PLAIN: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
        BodyStyle {
            model: "m",
            base: &PLAIN,
            max_tokens_field: "max_tokens",
            send_seed: true,
            offer_logprobs: true,
            continue_final_message: true,
            stream: false,
            stream_usage: true,
        }
    }

    fn plain_request() -> GenerateRequest {
        GenerateRequest::new(vec![Message::user("hello")])
    }

    fn any_request() -> impl Strategy<Value = GenerateRequest> {
        let message = (0usize..4, "\\PC{0,12}", proptest::option::of("[a-z]{1,5}"), any::<bool>()).prop_map(
            |(role, text, name, image)| {
                let role = [Role::System, Role::User, Role::Assistant, Role::Tool][role];
                let mut message = Message::new(role, text.clone());
                message.name = name;
                if image {
                    let parts = json!([{"type": "text", "text": text},
                        {"type": "image_url", "image_url": {"url": "data:,x", "detail": "high"}},
                        {"type": "input_audio", "input_audio": {"data": "AA"}}]);
                    message.content = serde_json::from_value(parts).ok();
                }
                if role == Role::Assistant {
                    let call = json!([{"id": "1", "type": "function", "index": 0,
                        "function": {"name": "f", "arguments": "{\"a\": 1}"}}]);
                    message.tool_calls = serde_json::from_value(call).unwrap_or_default();
                    message.extra.insert("reasoning_content".into(), json!("hm"));
                }
                message
            },
        );
        let sampling = (
            0u32..30,
            1u32..100,
            0u32..5,
            0u32..10,
            any::<u64>(),
            proptest::collection::vec("[a-z]{1,3}", 0..3),
        )
            .prop_map(|(temperature, top_p, top_k, min_p, seed, stop)| Sampling {
                temperature: temperature as f32 / 10.0,
                top_p: top_p as f32 / 99.0,
                top_k,
                min_p: min_p as f32 / 10.0,
                max_tokens: 7,
                stop,
                seed,
            });
        (proptest::collection::vec(message, 1..4), 1usize..5, sampling, 0u8..4).prop_map(
            |(messages, samples, sampling, detail)| {
                let logprobs = match detail {
                    0 => LogprobDetail::None,
                    1 => LogprobDetail::Chosen,
                    2 => LogprobDetail::Distribution,
                    count => LogprobDetail::Top(count),
                };
                let tools =
                    vec![json!({"type": "function", "function": {"name": "f"}}); usize::from(detail % 2)];
                let mut request =
                    GenerateRequest { samples, sampling, logprobs, tools, ..GenerateRequest::new(messages) };
                request.extra.insert("response_format".into(), json!({"type": "text"}));
                request
            },
        )
    }

    proptest! {
        /// Nothing of a request is lost, neither in our own JSON nor in what goes to the server.
        #[test]
        fn requests_survive_json_and_the_wire(request in any_request()) {
            let text = serde_json::to_string(&request).unwrap();
            prop_assert_eq!(&serde_json::from_str::<GenerateRequest>(&text).unwrap(), &request);
            let body = chat_body(&style(), &request);
            let body: Value = serde_json::from_str(&body.to_string()).unwrap();
            let messages: Vec<Message> = serde_json::from_value(body["messages"].clone()).unwrap();
            prop_assert_eq!(&messages, &request.messages);
            prop_assert_eq!(body.get("tools").map_or(0, |tools| tools.as_array().unwrap().len()), request.tools.len());
            prop_assert_eq!(body["temperature"].as_f64().unwrap() as f32, request.sampling.temperature);
            prop_assert_eq!(body.get("n").and_then(Value::as_u64).unwrap_or(1), request.samples as u64);
            prop_assert_eq!(&body["response_format"]["type"], &json!("text"));
            prop_assert!(body["seed"].as_u64().unwrap() <= 0x7fff_ffff);
        }

        /// However the server's tokens are divided, their sum is the server's.
        #[test]
        fn divided_usage_sums_to_the_servers(texts in proptest::collection::vec("[a-z]{0,30}", 1..6), total in 0u64..1000) {
            let mut completions: Vec<Completion> = texts.into_iter().map(Completion::text).collect();
            let usage = json!({"prompt_tokens": 11, "completion_tokens": total});
            share_usage(Some(&usage), &plain_request(), &mut completions);
            let sum: Usage = completions.iter().map(|completion| completion.usage).sum();
            prop_assert_eq!((sum.prompt_tokens, sum.completion_tokens, sum.calls), (11, total, 1));
        }

        /// Any JSON at all is an answer or a fault, never a panic.
        #[test]
        fn strange_answers_are_faults(text in "[\\[\\]{}:,\"a-z0-9 ]{0,60}", index in any::<i64>()) {
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                let _ = parse_response(value, &plain_request());
            }
            let odd = json!({"choices": [{"index": index, "message": {"content": text, "tool_calls": null},
                "logprobs": {"content": [{"logprob": null}]}}], "usage": {"completion_tokens": -1}});
            let completions = parse_response(odd, &plain_request()).unwrap();
            prop_assert_eq!(&completions[0].text, &text);
        }
    }

    #[test]
    fn choices_come_in_order_with_everything_that_is_known_of_them() {
        let logprobs = json!({"content": [
            {"token": "4", "logprob": -0.25, "bytes": [52], "top_logprobs": [
                {"token": "4", "logprob": -0.25}, {"token": "5", "logprob": -1.5}]},
            {"token": "!", "logprob": -2.0, "top_logprobs": [{"token": "!", "logprob": -2.0}]}]});
        let body = json!({"id": "x", "model": "m-2", "system_fingerprint": null, "vendor": {"a": 1}, "choices": [
            {"index": 1, "finish_reason": "length", "message": {"role": "assistant", "content": "late"}},
            {"index": 0, "finish_reason": "stop", "logprobs": logprobs, "provider": "p",
                "message": {"role": "assistant", "content": "4!", "refusal": null, "annotations": [],
                    "reasoning_content": "2 and 2"}}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 2}}});
        let mut wanted = plain_request();
        let completions = parse_response(body.clone(), &wanted).unwrap();
        let first = &completions[0];
        assert_eq!((first.text.as_str(), &first.finish), ("4!", &FinishReason::Stop));
        assert_eq!(first.logprobs, [-0.25, -2.0]);
        assert_eq!(first.token_texts, ["4", "!"]);
        assert_eq!((first.top[0][1].token.as_str(), first.top[0][1].logprob), ("5", -1.5));
        assert_eq!(first.message.as_ref().unwrap().extra["reasoning_content"], json!("2 and 2"));
        assert_eq!(first.extra["provider"], json!("p"));
        assert_eq!(first.extra["response"]["vendor"], json!({"a": 1}), "unknown fields are kept");
        assert_eq!(first.extra["response"]["usage"]["prompt_tokens_details"]["cached_tokens"], json!(2));
        assert_eq!((completions[1].text.as_str(), &completions[1].finish), ("late", &FinishReason::Length));
        assert_eq!(completions[1].message, None, "only text");
        wanted.logprobs = LogprobDetail::Chosen;
        assert_eq!(parse_response(body, &wanted), Err(WireFault::NoLogprobs), "the second has none");
    }

    #[test]
    fn an_assistant_prefix_is_marked_only_when_there_is_one() {
        let mut request = plain_request();
        assert!(chat_body(&style(), &request).get("continue_final_message").is_none());
        request.messages.push(Message::assistant("It is "));
        assert_eq!(chat_body(&style(), &request)["continue_final_message"], json!(true));
    }

    /// The examples of the published contract, where they are at hand.
    #[test]
    fn the_examples_of_the_contract_parse() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/openai_wire/examples.jsonl");
        let Ok(text) = std::fs::read_to_string(path) else {
            eprintln!("skipped: {path} is not there");
            return;
        };
        let mut parsed = 0;
        for line in text.lines() {
            let example: Value = serde_json::from_str(line).unwrap();
            if example["path"] != json!("/v1/chat/completions") {
                continue;
            }
            let mut wanted = plain_request();
            if let Some(messages) = example["request"].get("messages") {
                wanted.messages = serde_json::from_value(messages.clone()).unwrap();
                assert_eq!(json!(wanted.messages), *messages, "messages pass unchanged");
            }
            let response = &example["response"];
            let bodies = response["data"].as_array().cloned().unwrap_or_else(|| vec![response.clone()]);
            for body in bodies.into_iter().filter(|body| body.get("choices").is_some()) {
                let usage = body["usage"].clone();
                let content = body["choices"][0]["message"]["content"].clone();
                let calls = body["choices"][0]["message"]["tool_calls"].clone();
                let completions = parse_response(body, &wanted).unwrap();
                assert_eq!(completions[0].text, content.as_str().unwrap_or_default());
                assert_eq!(json!(completions[0].usage.completion_tokens), usage["completion_tokens"]);
                if calls.is_array() {
                    let message = completions[0].message.as_ref().unwrap();
                    assert_eq!(json!(message.tool_calls), calls);
                    assert_eq!(completions[0].finish, FinishReason::ToolCalls);
                }
                parsed += 1;
            }
        }
        assert!(parsed >= 3, "only {parsed} examples were read");
    }
}
