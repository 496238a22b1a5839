//! Streamed answers of endpoints, whole: tools, reasoning, log-probabilities, several samples.

#![expect(clippy::unwrap_used, reason = "a test helper that fails should stop the test")]

mod support;

use elenchus_generate::{LanguageModel, LogprobDetail, OpenAi, OpenAiConfig, PrefixStyle, StreamEvent};
use elenchus_trace::{Completion, FinishReason, Message};
use futures::StreamExt;
use serde_json::{Value, json};
use support::{Part, Server, delta, done, event, request, stream_head};

async fn complete(model: &OpenAi, request: &elenchus_generate::GenerateRequest) -> (String, Vec<Completion>) {
    let events: Vec<_> = model.stream(request).await.unwrap().collect().await;
    let mut text = String::new();
    let mut completions = Vec::new();
    for event in events {
        match event.unwrap() {
            StreamEvent::Text { text: more, .. } => text.push_str(&more),
            StreamEvent::Done { completion, .. } => completions.push(*completion),
        }
    }
    (text, completions)
}

#[tokio::test]
async fn tool_calls_grow_piece_by_piece() {
    let choice = |delta: Value, finish: Option<&str>| {
        event(
            &json!({"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}),
        )
    };
    let server = Server::always(vec![
        stream_head(),
        choice(json!({"role": "assistant", "content": null, "reasoning_content": "I should "}), None),
        choice(json!({"reasoning_content": "look."}), None),
        choice(
            json!({"tool_calls": [{"index": 0, "id": "call_1", "type": "function",
            "function": {"name": "look", "arguments": ""}}]}),
            None,
        ),
        choice(json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"wh"}}]}), None),
        choice(
            json!({"tool_calls": [{"index": 1, "id": "call_2", "type": "function",
            "function": {"name": "add", "arguments": "{}"}}]}),
            None,
        ),
        choice(json!({"tool_calls": [{"index": 0, "function": {"arguments": "at\": 1}"}}]}), None),
        choice(json!({}), Some("tool_calls")),
        event(&json!({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 21}})),
        done(),
    ])
    .await;
    let mut wanted = request(1);
    wanted.tools = vec![json!({"type": "function", "function": {"name": "look", "strict": true}})];
    let (text, completions) = complete(&server.model(), &wanted).await;
    assert_eq!(text, "");
    let message = completions[0].message.as_ref().unwrap();
    assert_eq!(message.tool_calls.len(), 2);
    assert_eq!(message.tool_calls[0].id, "call_1");
    assert_eq!(message.tool_calls[0].function.arguments, "{\"what\": 1}");
    assert_eq!(message.tool_calls[1].function.name, "add");
    assert_eq!(message.extra["reasoning_content"], json!("I should look."));
    assert_eq!(completions[0].finish, FinishReason::ToolCalls);
    assert_eq!((completions[0].usage.prompt_tokens, completions[0].usage.completion_tokens), (9, 21));
    assert_eq!(server.requests()[0].body["tools"], json!(wanted.tools), "tools pass unchanged");
}

#[tokio::test]
async fn log_probabilities_and_several_samples_are_put_together() {
    let piece = |index: usize, token: &str, logprob: f64, finish: Option<&str>| {
        event(&json!({"choices": [{"index": index, "delta": {"content": token}, "finish_reason": finish,
            "logprobs": {"content": [{"token": token, "logprob": logprob, "top_logprobs": []}]}}]}))
    };
    let server = Server::always(vec![
        stream_head(),
        piece(1, "b", -1.0, None),
        piece(0, "a", -0.5, None),
        piece(1, "d", -2.0, Some("length")),
        piece(0, "c", -0.25, Some("stop")),
        done(),
    ])
    .await;
    let mut wanted = request(2);
    wanted.logprobs = LogprobDetail::Chosen;
    let (_, completions) = complete(&server.model(), &wanted).await;
    assert_eq!(completions[0].text, "ac");
    assert_eq!(completions[0].logprobs, [-0.5, -0.25]);
    assert_eq!(completions[1].text, "bd");
    assert_eq!(completions[1].logprobs, [-1.0, -2.0]);
    assert_eq!(completions[1].finish, FinishReason::Length);
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn a_stream_cut_at_every_byte_reads_the_same() {
    let mut text = Vec::new();
    for part in [event(&delta(0, "é😀 ", None)), event(&delta(0, "fin", Some("stop"))), done()] {
        let Part::Bytes(bytes) = part else { continue };
        text.extend_from_slice(b": keep alive\r\n");
        text.extend_from_slice(&bytes);
    }
    let server = Server::always(vec![stream_head(), Part::Drip(text, std::time::Duration::ZERO)]).await;
    let (text, completions) = complete(&server.model(), &request(1)).await;
    assert_eq!((text.as_str(), completions[0].text.as_str()), ("é😀 fin", "é😀 fin"));
    assert_eq!(completions[0].finish, FinishReason::Stop);
}

#[tokio::test]
async fn a_prefix_goes_only_to_servers_that_continue_it() {
    let server = Server::always(vec![stream_head(), event(&delta(0, "4", Some("stop"))), done()]).await;
    let mut wanted = request(1);
    wanted.messages.push(Message::assistant("It is "));
    let error = server.model().stream(&wanted).await.err().unwrap().to_string();
    assert!(error.contains("set `prefix`"), "{error}");
    assert_eq!(server.count(), 0);
    let config = OpenAiConfig { prefix: PrefixStyle::ContinueFinalMessage, ..server.config() };
    complete(&OpenAi::new(config).unwrap(), &wanted).await;
    assert_eq!(server.requests()[0].body["continue_final_message"], json!(true));
}
