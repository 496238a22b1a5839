//! What an endpoint can do wrong, and what is made of it. Everything runs on the loopback interface.

mod support;

use elenchus_generate::{
    GenerateError, GenerateRequest, LanguageModel, LayerSettings, LogprobDetail, Lost, OpenAi, OpenAiConfig,
    SampleStyle, StreamEvent, Timeouts, stack,
};
use elenchus_trace::{Completion, FinishReason};
use futures::StreamExt;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{Part, Server, chat, delta, done, event, ok, raw, reply, request, stream_head};

/// The fields of an error that callers decide by.
fn unavailable(error: &GenerateError) -> Option<(bool, Option<f64>)> {
    match error {
        GenerateError::Unavailable { retryable, retry_after_seconds, .. } => {
            Some((*retryable, *retry_after_seconds))
        }
        _ => None,
    }
}

#[expect(clippy::unwrap_used, reason = "a call that does not fail should stop the test")]
async fn fails(server: &Server, wanted: GenerateRequest) -> GenerateError {
    let error = server.model().generate(&wanted).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("\nhint: ") && !text.ends_with("hint: "), "every message has a hint: {text}");
    error
}

#[derive(Default)]
struct Streamed {
    texts: Vec<String>,
    completions: Vec<Option<Completion>>,
    error: Option<GenerateError>,
}

async fn streamed(model: &dyn LanguageModel, wanted: &GenerateRequest) -> Streamed {
    let mut seen = Streamed {
        texts: vec![String::new(); wanted.samples],
        completions: vec![None; wanted.samples],
        error: None,
    };
    let mut stream = match model.stream(wanted).await {
        Ok(stream) => stream,
        Err(error) => return Streamed { error: Some(error), ..seen },
    };
    while let Some(event) = stream.next().await {
        match event {
            Ok(StreamEvent::Text { index, text }) => seen.texts[index].push_str(&text),
            Ok(StreamEvent::Done { index, completion }) => seen.completions[index] = Some(*completion),
            Err(error) => seen.error = Some(error),
        }
    }
    seen
}

#[tokio::test]
async fn a_user_in_the_address_is_sent_in_place_of_a_key_and_shown_nowhere() {
    let server = Server::always(reply("500 Broken", &json!({"error": {"message": "no"}}))).await;
    let named = OpenAiConfig {
        base_url: server.url.replace("http://", "http://ann:hush-hush@").into(),
        api_key: Some("key".into()),
        ..server.config()
    };
    let model = OpenAi::new(named.clone()).unwrap();
    let error = model.generate(&request(1)).await.unwrap_err();
    let headers = server.requests()[0].headers.to_ascii_lowercase();
    assert!(headers.contains("authorization: basic yw5uomh1c2gtahvzaa=="), "{headers}");
    let away = OpenAiConfig { base_url: "http://ann:hush-hush@127.0.0.1:1/v1".into(), ..named.clone() };
    let away = OpenAi::new(away).unwrap().generate(&request(1)).await.unwrap_err();
    let wrong = OpenAiConfig { base_url: "ann:hush-hush@host".into(), ..named.clone() };
    let wrong = OpenAi::new(wrong).err().unwrap();
    let nameless = OpenAi::new(OpenAiConfig { model: String::new(), ..named.clone() }).err().unwrap();
    let written = serde_json::to_string(&named).unwrap();
    let shown = format!("{error} {away} {wrong} {nameless} {named:?} {written} {}", model.fingerprint());
    assert!(shown.contains("***@127.0.0.1") && !shown.contains("hush"), "{shown}");
}

#[tokio::test]
async fn a_refused_connection_names_the_server_and_may_be_retried() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let config = OpenAiConfig {
        base_url: format!("http://{address}/v1").into(),
        model: "m".into(),
        ..OpenAiConfig::default()
    };
    let error = OpenAi::new(config).unwrap().generate(&request(1)).await.unwrap_err();
    assert_eq!(unavailable(&error), Some((true, None)));
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn a_silent_server_is_given_up_after_the_first_byte_timeout() {
    let server = Server::always(vec![Part::Hang]).await;
    let timeouts = Timeouts { first_byte_seconds: 0.05, ..Timeouts::default() };
    let model = OpenAi::new(OpenAiConfig { timeouts, ..server.config() }).unwrap();
    let started = Instant::now();
    let error = model.generate(&request(1)).await.unwrap_err();
    assert_eq!(unavailable(&error), Some((true, None)), "{error}");
    assert!(error.to_string().contains("first_byte_seconds"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(2));
    server.wait_for_closed(1).await;
}

#[tokio::test]
async fn an_answer_that_drips_is_cut_by_the_total_and_one_that_stalls_by_the_idle_time() {
    let body = chat(&["a long answer"]).to_string();
    let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    let dripping = Server::always(vec![
        Part::Bytes(head.clone().into_bytes()),
        Part::Drip(body.into_bytes(), Duration::from_millis(10)),
    ])
    .await;
    let timeouts = Timeouts { total_seconds: 0.1, ..Timeouts::default() };
    let settings = LayerSettings { timeouts, ..LayerSettings::default() };
    let settings = LayerSettings {
        retry: elenchus_generate::RetrySettings { attempts: 1, ..settings.retry },
        ..settings
    };
    let model = stack(Arc::new(dripping.model()), &settings).unwrap();
    let started = Instant::now();
    let error = model.generate(&request(1)).await.unwrap_err();
    assert!(error.to_string().contains("total_seconds"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(1));
    dripping.wait_for_closed(1).await;

    let stalling = Server::always(vec![Part::Bytes(format!("{head}{{").into_bytes()), Part::Hang]).await;
    let timeouts = Timeouts { idle_seconds: 0.05, ..Timeouts::default() };
    let model = OpenAi::new(OpenAiConfig { timeouts, ..stalling.config() }).unwrap();
    let error = model.generate(&request(1)).await.unwrap_err();
    assert!(error.to_string().contains("idle_seconds"), "{error}");
}

#[tokio::test]
async fn a_connection_that_breaks_in_a_plain_answer_is_an_error() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n{\"choices\":[{".to_vec();
    let server = Server::always(vec![Part::Bytes(head)]).await;
    let error = fails(&server, request(1)).await;
    assert_eq!(unavailable(&error), Some((true, None)));
    assert!(error.to_string().contains("broke"), "{error}");
}

#[tokio::test]
async fn a_stream_that_breaks_gives_what_was_received_as_interrupted() {
    // Once by a chunk that promises more than comes, once by an end without finish reason and `[DONE]`.
    let broken =
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: text/event-stream\r\n\r\n".to_vec();
    let first = format!("data: {}\n\n", delta(0, "two plus ", None));
    let chunk = format!("{:x}\r\n{first}\r\n", first.len());
    let by_chunk = vec![
        Part::Bytes(broken),
        Part::Bytes(chunk.into_bytes()),
        Part::Bytes(b"ff\r\ndata: {\"cho".to_vec()),
    ];
    let by_end = vec![stream_head(), event(&delta(0, "two plus ", None))];
    for reply in [by_chunk, by_end] {
        let server = Server::always(reply).await;
        let seen = streamed(&server.model(), &request(1)).await;
        assert_eq!(seen.error, None);
        let completion = seen.completions[0].as_ref().expect("what was received is not lost");
        assert_eq!((completion.text.as_str(), &completion.finish), ("two plus ", &FinishReason::Interrupted));
        assert_eq!(seen.texts[0], completion.text);
    }
}

#[tokio::test]
async fn a_stream_that_breaks_before_any_text_is_an_error() {
    for reply in [vec![stream_head()], vec![stream_head(), done()]] {
        let server = Server::always(reply).await;
        let seen = streamed(&server.model(), &request(1)).await;
        assert_eq!(unavailable(&seen.error.unwrap()), Some((true, None)));
        assert!(seen.completions[0].is_none());
    }
}

#[tokio::test]
async fn a_429_is_waited_out_as_the_server_asks() {
    let server = Server::start(|_, number| match number {
        0 => raw("429 Too Many Requests", &[("retry-after", "0.2")], br#"{"error":{"message":"slow down"}}"#),
        1 => raw("503 Service Unavailable", &[], b""),
        _ => ok(&chat(&["4"])),
    })
    .await;
    let error = server.model().generate(&request(1)).await.unwrap_err();
    assert_eq!(unavailable(&error), Some((true, Some(0.2))));
    assert!(error.to_string().contains("slow down"), "the server's words are kept: {error}");

    let server = Server::start(|_, number| match number {
        0 => raw("429 Too Many Requests", &[("retry-after", "0.2")], b""),
        1 => raw("500 Internal Server Error", &[], b"oops"),
        _ => ok(&chat(&["4"])),
    })
    .await;
    let mut settings = LayerSettings::default();
    settings.retry.base_seconds = 0.01;
    let model = stack(Arc::new(server.model()), &settings).unwrap();
    let started = Instant::now();
    assert_eq!(model.generate(&request(1)).await.unwrap()[0].text, "4");
    assert!(started.elapsed() >= Duration::from_millis(200), "the asked wait was kept");
    assert_eq!(server.count(), 3);
}

#[tokio::test]
async fn statuses_are_sorted_into_retryable_and_not() {
    let cases = [
        ("500 Internal Server Error", Some(true)),
        ("502 Bad Gateway", Some(true)),
        ("503 Service Unavailable", Some(true)),
        ("529 Overloaded", Some(true)),
        ("501 Not Implemented", Some(false)),
        ("400 Bad Request", None),
        ("401 Unauthorized", None),
        ("404 Not Found", None),
        ("307 Temporary Redirect", None),
    ];
    for (status, retryable) in cases {
        let server = Server::always(reply(status, &json!({"error": {"message": "these words"}}))).await;
        let error = fails(&server, request(1)).await;
        assert_eq!(unavailable(&error).map(|(retryable, _)| retryable), retryable, "{status}");
        assert!(error.to_string().contains("these words"), "{error}");
        assert_eq!(server.count(), 1);
    }
    let body = json!({"error": {"message": "no credit", "code": "insufficient_quota"}});
    let error = fails(&Server::always(reply("429 Too Many Requests", &body)).await, request(1)).await;
    assert_eq!(unavailable(&error), Some((false, None)), "waiting brings no credit back");
}

#[tokio::test]
async fn a_web_page_is_recognised() {
    let page = b"<!DOCTYPE html><html><body>Welcome</body></html>";
    for status in ["200 OK", "502 Bad Gateway"] {
        let server = Server::always(raw(status, &[("content-type", "text/html; charset=utf-8")], page)).await;
        let error = fails(&server, request(1)).await.to_string();
        assert!(error.contains("a web page"), "{error}");
    }
    let server = Server::always(raw("200 OK", &[], page)).await;
    let seen = streamed(&server.model(), &request(1)).await;
    assert!(seen.error.unwrap().to_string().contains("no event stream but `<!DOCTYPE html>"));
}

#[tokio::test]
async fn broken_bodies_are_named() {
    let cases: [(&[u8], &str); 6] = [
        (b"{\"choices\": [", "invalid JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"[1, 2]", "not a JSON object"),
        (b"{}", "no `choices`"),
        (b"{\"choices\": [{\"index\": 0}]}", "`choices[0].message` is missing"),
        (b"{\"choices\": []}", "without any choice"),
    ];
    for (body, words) in cases {
        let server = Server::always(raw("200 OK", &[("content-type", "application/json")], body)).await;
        let error = fails(&server, request(1)).await.to_string();
        assert!(error.contains(words) && error.contains("127.0.0.1"), "{error}");
    }
    let server = Server::always(ok(&json!({"error": {"message": "model is loading"}}))).await;
    let error = fails(&server, request(1)).await;
    assert!(error.to_string().contains("model is loading"), "an error object under 200: {error}");
}

#[tokio::test]
async fn a_huge_body_is_not_swallowed() {
    let server = Server::always(raw("200 OK", &[], &vec![b' '; 3 << 20])).await;
    let model = OpenAi::new(OpenAiConfig { most_body_bytes: 1 << 20, ..server.config() }).unwrap();
    let error = model.generate(&request(1)).await.unwrap_err();
    assert_eq!(unavailable(&error), Some((false, None)));
    assert!(error.to_string().contains("more than 1048576 bytes"), "{error}");

    let server = Server::always(vec![stream_head(), Part::Bytes(vec![b'x'; 3 << 20])]).await;
    let model = OpenAi::new(OpenAiConfig { most_body_bytes: 1 << 20, ..server.config() }).unwrap();
    let seen = streamed(&model, &request(1)).await;
    assert!(seen.error.unwrap().to_string().contains("one event is longer"));
}

#[tokio::test]
async fn errors_in_mid_stream_are_reported_behind_the_text() {
    let cases = [
        (event(&json!({"error": {"message": "out of memory", "type": "server_error"}})), "out of memory"),
        (Part::Bytes(b"event: error\ndata: {\"message\": \"died\"}\n\n".to_vec()), "died"),
        (Part::Bytes(b"data: {\"choices\": [\n\n".to_vec()), "invalid JSON"),
        (Part::Bytes(b"data: \xff\xff\n\n".to_vec()), "not UTF-8"),
    ];
    for (trouble, words) in cases {
        let server = Server::always(vec![stream_head(), event(&delta(0, "so far", None)), trouble]).await;
        let seen = streamed(&server.model(), &request(1)).await;
        assert_eq!(seen.texts[0], "so far");
        let error = seen.error.expect("the trouble is reported").to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[tokio::test]
async fn log_probabilities_that_do_not_come_are_a_clear_error() {
    let server = Server::start(|request, _| {
        if request.body["stream"] == json!(true) {
            vec![stream_head(), event(&delta(0, "4", Some("stop"))), done()]
        } else {
            ok(&chat(&["4"]))
        }
    })
    .await;
    let wanted = GenerateRequest { logprobs: LogprobDetail::Chosen, ..request(1) };
    let error = fails(&server, wanted.clone()).await;
    assert!(matches!(error, GenerateError::Capability { .. }), "{error}");
    assert!(error.to_string().contains("127.0.0.1"), "the server is named: {error}");
    let seen = streamed(&server.model(), &wanted).await;
    assert!(matches!(seen.error, Some(GenerateError::Capability { .. })));
    assert_eq!(server.requests()[0].body["logprobs"], json!(true), "they were asked for");

    let wanted = GenerateRequest { logprobs: LogprobDetail::Distribution, ..request(1) };
    let before = server.count();
    assert!(matches!(fails(&server, wanted).await, GenerateError::Capability { .. }));
    assert_eq!(server.count(), before, "what no endpoint can give is refused before any call");
}

/// A server with a latency that knows `n` or not.
async fn voter(latency: Duration, style: &'static str) -> Server {
    Server::start(move |request, number| {
        let samples = request.body["n"].as_u64().unwrap_or(1) as usize;
        let mut parts = vec![Part::Wait(latency)];
        match style {
            "knows n" => {
                let texts: Vec<String> = (0..samples).map(|sample| format!("sample {sample}")).collect();
                let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                parts.extend(ok(&chat(&texts)));
            }
            "refuses n" if request.body.get("n").is_some() => {
                parts.clear();
                parts.extend(reply("400 Bad Request", &json!({"error": {"message": "n must be 1"}})));
            }
            _ => parts.extend(ok(&chat(&[&format!("answer {number}")]))),
        }
        parts
    })
    .await
}

#[tokio::test]
async fn a_server_that_knows_n_is_asked_once() {
    let server = voter(Duration::ZERO, "knows n").await;
    let completions = server.model().generate(&request(5)).await.unwrap();
    let texts: Vec<&str> = completions.iter().map(|completion| completion.text.as_str()).collect();
    assert_eq!(texts, ["sample 0", "sample 1", "sample 2", "sample 3", "sample 4"]);
    assert_eq!(server.count(), 1);
    let usage: elenchus_trace::Usage = completions.iter().map(|completion| completion.usage).sum();
    assert_eq!(
        (usage.prompt_tokens, usage.completion_tokens, usage.calls),
        (10, 20, 1),
        "as the server bills it"
    );
}

#[tokio::test]
async fn more_samples_than_a_server_gives_at_once_are_several_requests() {
    let server = Server::start(|received, _| {
        let wanted = received.body["n"].as_u64().unwrap_or(1) as usize;
        match wanted {
            0..=128 => ok(&chat(&vec!["yes"; wanted])),
            _ => reply("400 Bad Request", &json!({"error": {"message": "n is at most 128"}})),
        }
    })
    .await;
    let wanted = request(300);
    assert_eq!(server.model().generate(&wanted).await.unwrap().len(), 300);
    let mut asked: Vec<u64> =
        server.requests().iter().filter_map(|request| request.body["n"].as_u64()).collect();
    asked.sort_unstable();
    assert_eq!(asked, [44, 128, 128]);
}

#[tokio::test]
async fn a_server_without_n_is_asked_concurrently_and_remembered() {
    for style in ["ignores n", "refuses n"] {
        let server = voter(Duration::from_millis(50), style).await;
        let model = server.model();
        let first = model.generate(&request(5)).await.unwrap();
        assert_eq!(first.len(), 5, "{style}");
        assert_eq!(first.iter().map(|completion| completion.usage.calls).sum::<u64>(), 5);
        let before = server.count();
        let started = Instant::now();
        let second = model.generate(&request(5)).await.unwrap();
        let elapsed = started.elapsed();
        assert!(
            elapsed < Duration::from_millis(200),
            "{style}: five at once take {elapsed:?}, one after another 250 ms"
        );
        assert_eq!(second.len(), 5);
        assert_eq!(server.count() - before, 5, "{style}: nothing is tried again that did not work");
        let requests = server.requests();
        let seeds: std::collections::HashSet<u64> =
            requests[before..].iter().map(|request| request.body["seed"].as_u64().unwrap()).collect();
        assert_eq!(seeds.len(), 5, "each sample has a seed of its own");
        assert!(requests[before..].iter().all(|request| request.body.get("n").is_none()));
    }
}

#[tokio::test]
async fn a_refusal_that_is_not_about_n_stays_a_refusal() {
    let server = Server::always(reply("400 Bad Request", &json!({"error": "context too long"}))).await;
    let model = server.model();
    let error = model.generate(&request(3)).await.unwrap_err();
    assert!(
        matches!(&error, GenerateError::Request { what, .. } if what.contains("context too long")),
        "{error}"
    );
}

#[tokio::test]
async fn one_failed_sample_among_several_is_tried_again_alone() {
    let server = Server::start(|_, number| match number {
        2 => reply("500 Internal Server Error", &json!({})),
        _ => ok(&chat(&[&format!("answer {number}")])),
    })
    .await;
    let mut settings = LayerSettings::default();
    settings.retry.base_seconds = 0.01;
    let model = OpenAi::new(OpenAiConfig { samples: SampleStyle::Concurrent, ..server.config() }).unwrap();
    let model = stack(Arc::new(model), &settings).unwrap();
    assert_eq!(model.generate(&request(4)).await.unwrap().len(), 4);
    assert_eq!(server.count(), 5, "four samples and one second attempt");
}

#[tokio::test]
async fn samples_that_never_come_cost_no_other_and_are_noted() {
    let server = Server::start(|request, number| match request.body["seed"].as_u64().unwrap_or(0) % 2 {
        0 => reply("500 Internal Server Error", &json!({"error": {"message": "out of memory"}})),
        _ => ok(&chat(&[&format!("answer {number}")])),
    })
    .await;
    let model = OpenAi::new(OpenAiConfig { samples: SampleStyle::Concurrent, ..server.config() }).unwrap();
    let completions = model.generate(&request(8)).await.unwrap();
    let lost = Lost::of(&completions).expect("some are missing");
    assert_eq!(completions.len() + lost.samples, 8);
    assert!(!completions.is_empty() && lost.why.contains("out of memory"), "{lost:?}");
    let usage: elenchus_trace::Usage = completions.iter().map(|completion| completion.usage).sum();
    assert_eq!(usage.calls, 8, "a call that fails is booked as one, alone or beside others");

    let server = Server::always(reply("500 Internal Server Error", &json!({}))).await;
    let model = OpenAi::new(OpenAiConfig { samples: SampleStyle::Concurrent, ..server.config() }).unwrap();
    assert!(
        unavailable(&model.generate(&request(3)).await.unwrap_err()).is_some(),
        "none at all is an error"
    );
}

#[tokio::test]
async fn too_few_samples_are_an_error_where_dividing_is_forbidden() {
    let server = voter(Duration::ZERO, "ignores n").await;
    let model = OpenAi::new(OpenAiConfig { samples: SampleStyle::Together, ..server.config() }).unwrap();
    let error = model.generate(&request(3)).await.unwrap_err().to_string();
    assert!(error.contains("1 of 3 samples"), "{error}");
}

#[tokio::test]
async fn several_streams_run_at_once_when_the_server_gives_one_sample() {
    let server = Server::start(|_, number| {
        vec![
            stream_head(),
            event(&delta(0, "answer ", None)),
            Part::Wait(Duration::from_millis(30)),
            event(&delta(0, &number.to_string(), Some("stop"))),
            event(&json!({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})),
            done(),
        ]
    })
    .await;
    let model = server.model();
    let seen = streamed(&model, &request(4)).await;
    assert_eq!(seen.error, None);
    for (text, completion) in seen.texts.iter().zip(&seen.completions) {
        let completion = completion.as_ref().unwrap();
        assert_eq!(*text, completion.text);
        assert_eq!(completion.usage.completion_tokens, 3);
        assert_eq!(completion.finish, FinishReason::Stop);
    }
    assert_eq!(server.requests()[0].body["stream_options"]["include_usage"], json!(true));
    let before = server.count();
    streamed(&model, &request(4)).await;
    assert_eq!(server.count() - before, 4, "the second time all are asked for at once");
    assert!(server.most_concurrent() >= 4);
}

#[tokio::test]
async fn dropping_the_future_or_the_stream_closes_the_connection() {
    let server = Server::always(vec![Part::Hang]).await;
    let model = server.model();
    let late = tokio::time::timeout(Duration::from_millis(50), model.generate(&request(1))).await;
    assert!(late.is_err());
    server.wait_for_closed(1).await;

    let server = Server::always(vec![stream_head(), event(&delta(0, "a", None)), Part::Hang]).await;
    let mut stream = server.model().stream(&request(1)).await.unwrap();
    assert!(matches!(stream.next().await, Some(Ok(StreamEvent::Text { .. }))));
    drop(stream);
    server.wait_for_closed(1).await;
}

#[tokio::test]
async fn fields_that_a_server_refuses_are_written_otherwise() {
    let server = Server::start(|request, _| {
        if request.body.get("max_tokens").is_some() {
            let message = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.";
            reply("400 Bad Request", &json!({"error": {"message": message}}))
        } else if request.body.get("stream_options").is_some() {
            reply(
                "422 Unprocessable Entity",
                &json!({"detail": "stream_options: extra fields not permitted"}),
            )
        } else if request.body.get("stream").is_some() {
            vec![stream_head(), event(&delta(0, "4", Some("stop"))), done()]
        } else {
            ok(&chat(&["4"]))
        }
    })
    .await;
    let model = server.model();
    assert_eq!(model.generate(&request(1)).await.unwrap()[0].text, "4");
    assert_eq!(streamed(&model, &request(1)).await.texts, ["4"]);
    let before = server.count();
    model.generate(&request(1)).await.unwrap();
    assert_eq!(server.count() - before, 1, "what was learned is kept");
    assert_eq!(server.requests()[before].body["max_completion_tokens"], json!(1024));
}

#[tokio::test]
async fn log_probabilities_that_are_only_welcome_never_fail_a_request() {
    let mut welcome = request(1);
    welcome.logprobs = LogprobDetail::Offered;
    let silent = Server::always(ok(&chat(&["4"]))).await;
    assert_eq!(silent.model().generate(&welcome).await.unwrap()[0].text, "4");
    assert_eq!(silent.requests()[0].body["logprobs"], json!(true), "they are asked for");

    let refusing = Server::start(|request, _| {
        if request.body.get("logprobs").is_some() {
            let message = "'logprobs' is not supported with this model.";
            reply("400 Bad Request", &json!({"error": {"message": message}}))
        } else {
            ok(&chat(&["4"]))
        }
    })
    .await;
    let model = refusing.model();
    assert_eq!(model.generate(&welcome).await.unwrap()[0].text, "4");
    let before = refusing.count();
    model.generate(&welcome).await.unwrap();
    assert_eq!(refusing.count() - before, 1, "what was learned is kept");
    let mut needed = request(1);
    needed.logprobs = LogprobDetail::Chosen;
    assert!(model.generate(&needed).await.is_err(), "a method that needs them is told");
}

#[tokio::test]
async fn a_server_that_repeats_itself_is_noted() {
    let text = "The sum of two and two is four, as everybody knows.";
    let server = Server::always(ok(&chat(&[text, text, text]))).await;
    let completions = server.model().generate(&request(3)).await.unwrap();
    assert!(completions[2].extra["note"].as_str().unwrap().contains("all 3 samples are the same"));
    let mut greedy = request(3);
    greedy.sampling.temperature = 0.0;
    let completions = server.model().generate(&greedy).await.unwrap();
    assert!(!completions[0].extra.contains_key("note"), "at temperature 0 that is as it should be");
}

#[tokio::test]
async fn keys_and_headers_are_sent_and_never_shown() {
    let server = Server::always(ok(&chat(&["4"]))).await;
    let mut config = server.config();
    config.api_key = Some("top-secret".into());
    config.headers.insert("x-team".into(), "blue".into());
    config.body.insert("top_k".into(), json!(7));
    assert!(!format!("{config:?}").contains("top-secret"));
    assert!(!serde_json::to_string(&config).unwrap().contains("top-secret"));
    let model = OpenAi::new(config).unwrap();
    let mut wanted = request(1);
    wanted.extra.insert("response_format".into(), json!({"type": "json_object"}));
    wanted.sampling.temperature = 0.7;
    model.generate(&wanted).await.unwrap();
    let received = &server.requests()[0];
    assert!(received.line.starts_with("POST /v1/chat/completions "), "{}", received.line);
    assert!(received.headers.contains("Bearer top-secret") && received.headers.contains("x-team: blue"));
    assert_eq!(received.body["top_k"], json!(7));
    assert_eq!(received.body["response_format"]["type"], json!("json_object"));
    assert_eq!(received.body["temperature"], json!(0.7), "not 0.699999988079071");
}

#[tokio::test]
async fn models_and_embeddings_are_read() {
    let server = Server::start(|request, _| {
        if request.line.starts_with("GET /v1/models") {
            ok(&json!({"object": "list", "data": [{"id": "a"}, {"id": "b"}]}))
        } else {
            ok(&json!({"data": [{"index": 1, "embedding": [0.5, 1.0]}, {"index": 0, "embedding": [0.25, 2.0]}]}))
        }
    })
    .await;
    let model = server.model();
    assert_eq!(model.models().await.unwrap(), ["a", "b"]);
    let vectors = model.embed(&["x".into(), "y".into()]).await.unwrap();
    assert_eq!(vectors, [[0.25, 2.0], [0.5, 1.0]]);
    let error = model.embed(&["x".into(), "y".into(), "z".into()]).await.unwrap_err().to_string();
    assert!(error.contains("fewer vectors than texts"), "{error}");
}

fn stopping(samples: usize) -> GenerateRequest {
    let mut wanted = request(samples);
    wanted.sampling.stop = vec!["\n\n".into(), "END".into()];
    wanted
}

#[tokio::test]
async fn a_server_that_ignores_stop_is_cut_short_with_its_tokens() {
    let mut body = chat(&["2+2=4\n\nAnd more", "2+2=4"]);
    body["choices"][0]["finish_reason"] = json!("length");
    for (index, tokens) in [vec!["2+2", "=4", "\n", "\nAnd", " more"], vec!["2+2", "=4"]].iter().enumerate() {
        let tokens: Vec<_> = tokens.iter().map(|token| json!({"token": token, "logprob": -0.5})).collect();
        body["choices"][index]["logprobs"] = json!({"content": tokens});
    }
    let server = Server::always(ok(&body)).await;
    let mut wanted = stopping(2);
    wanted.logprobs = LogprobDetail::Chosen;
    let completions = server.model().generate(&wanted).await.unwrap();
    for completion in &completions {
        assert_eq!((completion.text.as_str(), &completion.finish), ("2+2=4", &FinishReason::Stop));
        assert_eq!((completion.token_texts.concat().as_str(), completion.logprobs.len()), ("2+2=4", 2));
    }
    assert!(completions[0].extra["note"].as_str().unwrap().contains("ignores `stop`"), "{completions:?}");
    assert_eq!(completions[1].extra.get("note"), None, "it came to its end by itself");
    let spent: u64 = completions.iter().map(|completion| completion.usage.completion_tokens).sum();
    assert_eq!(spent, 8, "what the server wrote is paid for");
}

#[tokio::test]
async fn a_stream_holds_back_what_may_be_a_stop_string() {
    let parts = |texts: &[&str]| {
        let mut parts = vec![stream_head()];
        parts.extend(texts.iter().map(|text| event(&delta(0, text, None))));
        parts.extend([event(&delta(0, "", Some("stop"))), done()]);
        parts
    };
    let server = Server::always(parts(&["It is", " 4.\n", "E", "N", "No, 4\n", "\nmore", " and more"])).await;
    let seen = streamed(&server.model(), &stopping(1)).await;
    let completion = seen.completions[0].as_ref().expect("it is complete");
    assert_eq!(seen.texts[0], "It is 4.\nENNo, 4", "`EN` was no beginning of `END`, the empty line ends it");
    assert_eq!((completion.text.as_str(), &completion.finish), (seen.texts[0].as_str(), &FinishReason::Stop));
    assert!(completion.extra["note"].as_str().unwrap().contains("ignores `stop`"));

    let server = Server::always(parts(&["It is 4.", "\n"])).await;
    let seen = streamed(&server.model(), &stopping(1)).await;
    assert_eq!(seen.texts[0], "It is 4.\n", "what was held back and is none comes in the end");
}
