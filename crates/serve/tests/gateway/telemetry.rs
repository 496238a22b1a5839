//! OpenTelemetry: what arrives at a collector, and that one that is slow or away costs nothing.

use crate::support::{Act, Running, Stub, events, pieces, question, until};
use elenchus_recipe::ServiceSettings;
use futures::StreamExt;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn to(collector: &Stub) -> impl FnOnce(&mut ServiceSettings) + use<> {
    let endpoint = format!("{}/traces", collector.url);
    move |settings| {
        settings.telemetry.endpoint = Some(endpoint);
        settings.telemetry.service_name = Some("answers".into());
    }
}

async fn collector() -> Stub {
    Stub::start(|_| Act::Json(200, json!({}))).await
}

/// The spans that arrived.
fn spans(collector: &Stub) -> Vec<Value> {
    let messages = collector.asked();
    let of = |asked: &crate::support::Asked| {
        let resource = &asked.body["resourceSpans"][0];
        assert_eq!(value(&resource["resource"], "service.name"), "answers");
        resource["scopeSpans"][0]["spans"].as_array().unwrap().clone()
    };
    messages.iter().flat_map(of).collect()
}

/// An attribute of a span, as plain JSON.
fn value(span: &Value, name: &str) -> Value {
    let found = span["attributes"].as_array().unwrap().iter().find(|attribute| attribute["key"] == name);
    let Some(found) = found else { return Value::Null };
    match found["value"].as_object().unwrap().iter().next().unwrap() {
        (kind, value) if kind == "intValue" => json!(value.as_str().unwrap().parse::<i64>().unwrap()),
        (kind, value) if kind == "arrayValue" => json!(value["values"].as_array().unwrap().len()),
        (_, value) => value.clone(),
    }
}

fn named<'a>(spans: &'a [Value], name: &str) -> Vec<&'a Value> {
    spans.iter().filter(|span| span["name"] == name).collect()
}

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_a_span_and_every_model_call_its_child() {
    let collector = collector().await;
    let stub = Stub::answering(&["Answer: 4"]).await;
    let mut gateway = Running::with(&[&stub], to(&collector)).await;
    let mut body = question("elenchus/self-consistency@3/little", "What is 2+2, secretly?");
    body["elenchus"] = json!({"settings": {"early_stop": false}});
    let request =
        gateway.post("/v1/chat/completions").header("traceparent", PARENT).header("tracestate", "a=1");
    let answer: Value = request.json(&body).send().await.unwrap().json().await.unwrap();
    let plain = gateway.post("/v1/chat/completions").header("traceparent", PARENT);
    plain.json(&question("little", "x")).send().await.unwrap();
    gateway.send("/v1/feedback", json!({"trace_id": answer["elenchus"]["trace_id"], "reaction": "up"})).await;
    gateway.get("/healthz").await;
    gateway.stop().await;
    let spans = spans(&collector);

    let requests = named(&spans, "POST /v1/chat/completions");
    assert_eq!(requests.len(), 2, "{spans:?}");
    for request in &requests {
        assert_eq!(request["traceId"], "0af7651916cd43dd8448eb211c80319c", "the caller's trace");
        assert_eq!(request["parentSpanId"], "b7ad6b7169203331");
        assert_eq!((&request["kind"], value(request, "http.response.status_code")), (&json!(2), json!(200)));
    }
    let recipe = named(&spans, "invoke_agent self-consistency");
    assert_eq!(recipe.len(), 1, "{spans:?}");
    assert!(requests.iter().any(|request| request["spanId"] == recipe[0]["parentSpanId"]));
    assert_eq!(value(recipe[0], "gen_ai.operation.name"), "invoke_agent");
    assert_eq!(value(recipe[0], "elenchus.trace_id"), answer["elenchus"]["trace_id"]);
    assert_eq!(value(recipe[0], "gen_ai.usage.input_tokens"), answer["usage"]["prompt_tokens"]);
    assert_eq!(value(recipe[0], "gen_ai.usage.output_tokens"), answer["usage"]["completion_tokens"]);
    let calls: Vec<&Value> = named(&spans, "chat little")
        .into_iter()
        .filter(|call| call["parentSpanId"] == recipe[0]["spanId"])
        .collect();
    let asked: Vec<_> = stub.asked();
    assert_eq!(calls.len() + 1, asked.len(), "one span for each call to the server, one call was passed on");
    let sum = |name: &str| calls.iter().map(|call| value(call, name).as_u64().unwrap()).sum::<u64>();
    assert_eq!(json!(sum("gen_ai.usage.input_tokens")), answer["usage"]["prompt_tokens"]);
    assert_eq!(json!(sum("gen_ai.usage.output_tokens")), answer["usage"]["completion_tokens"]);
    assert_eq!(sum("gen_ai.request.choice.count"), 3);
    assert_eq!(sum("gen_ai.response.finish_reasons"), 3);
    for call in &calls {
        assert_eq!((&call["kind"], value(call, "gen_ai.operation.name")), (&json!(3), json!("chat")));
        assert_eq!(value(call, "gen_ai.provider.name"), "openai");
        let nanoseconds = |name: &str| call[name].as_str().unwrap().parse::<u64>().unwrap();
        assert!(nanoseconds("startTimeUnixNano") <= nanoseconds("endTimeUnixNano"));
    }
    let passed: Vec<&Value> = named(&spans, "chat little")
        .into_iter()
        .filter(|call| requests.iter().any(|request| request["spanId"] == call["parentSpanId"]))
        .collect();
    assert_eq!(passed.len(), 1);
    assert_eq!(value(passed[0], "gen_ai.usage.input_tokens"), 10);
    assert_eq!(named(&spans, "POST /v1/feedback").len(), 1);
    assert_eq!(named(&spans, "GET /healthz").len(), 0, "probes are not recorded");
    // Every call carries the span of its request.
    for asked in &asked {
        let parent = asked.traceparent.as_deref().expect("handed on");
        assert!(
            parent.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && parent.ends_with("-01"),
            "{parent}"
        );
        assert!(
            requests.iter().any(|request| parent.contains(request["spanId"].as_str().unwrap())),
            "{parent}"
        );
    }
    let text = collector.asked().iter().map(|asked| asked.text.clone()).collect::<String>();
    assert!(!text.contains("secretly") && !text.contains("Answer"), "what was said is nobody's business");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_failures_and_callers_who_do_not_want_it() {
    let collector = collector().await;
    let stub = Stub::start(|asked| match asked.body["stream"] == true {
        true => Act::Stream { events: events("one two"), pause: Duration::ZERO, broken: false },
        false => Act::Json(500, json!({"error": {"message": "secret words"}})),
    })
    .await;
    let mut gateway = Running::with(&[&stub], to(&collector)).await;
    let mut body = question("little", "x");
    body["stream"] = true.into();
    gateway.post("/v1/chat/completions").json(&body).send().await.unwrap().text().await.unwrap();
    assert_eq!(gateway.ask(question("little", "x")).await.0, 500);
    assert_eq!(gateway.ask(question("elenchus/nothing/little", "x")).await.0, 404);
    let unsampled = PARENT.replace("-01", "-00");
    let request = gateway.post("/v1/chat/completions").header("traceparent", &unsampled);
    request.json(&question("little", "x")).send().await.unwrap();
    let mut streamed = question("elenchus/single/little", "x");
    streamed["stream"] = true.into();
    let request = gateway.post("/v1/chat/completions").header("traceparent", PARENT);
    let text = request.json(&streamed).send().await.unwrap().text().await.unwrap();
    assert!(!pieces(&text).1.is_empty());
    gateway.stop().await;
    let spans = spans(&collector);
    assert_eq!(named(&spans, "POST /v1/chat/completions").len(), 4, "one did not want it: {spans:?}");
    assert!(spans.iter().all(|span| span["status"]["message"] != "secret words"));
    let failed = spans.iter().filter(|span| span["status"]["code"] == 2 && span["kind"] == 3).count();
    assert!(failed >= 1, "{spans:?}");
    let refused = spans.iter().find(|span| value(span, "http.response.status_code") == 404).unwrap();
    assert_eq!(refused.get("status"), None, "a client's mistake is no error of the server");
    let asked = stub.asked();
    let handed: Vec<_> = asked.iter().filter_map(|asked| asked.traceparent.clone()).collect();
    assert!(handed.contains(&unsampled), "handed on as it came");
    assert!(
        handed.last().unwrap().starts_with("00-0af7651916cd43dd8448eb211c80319c-"),
        "from the task of a stream"
    );
}

/// Asks for so many estimates, which cost little and are requests like any other.
async fn many(gateway: &Running, count: usize) {
    let requests = (0..count).map(|_| gateway.post("/v1/estimate").json(&question("little", "x")).send());
    let statuses =
        futures::stream::iter(requests).buffer_unordered(32).map(|answer| answer.unwrap().status());
    assert!(statuses.all(|status| async move { status == 200 }).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_slow_refuses_or_is_away_costs_nothing() {
    let slow = Stub::start(|_| Act::Hang).await;
    let refusing = Stub::start(|_| Act::Json(503, json!({}))).await;
    let stub = Stub::answering(&["Answer: 4"]).await;
    for collector in [Some(&slow), Some(&refusing), None] {
        let mut gateway = Running::with(&[&stub], |settings| {
            let place =
                collector.map_or("http://127.0.0.1:1/v1".to_string(), |collector| collector.url.clone());
            settings.telemetry.endpoint = Some(format!("{place}/traces"));
        })
        .await;
        let begun = Instant::now();
        many(&gateway, 3000).await;
        for _ in 0..3 {
            assert_eq!(gateway.ask(question("elenchus/self-consistency@2/little", "x")).await.0, 200);
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        if let Some(collector) = collector {
            until("it was asked", || !collector.asked().is_empty()).await;
        }
        // More than fit into the queue.
        many(&gateway, 4000).await;
        let (_, metrics) = gateway.get("/metrics").await;
        let metrics = metrics.as_str().unwrap();
        assert!(metrics.contains("elenchus_spans_total{outcome=\"sent\"} 0"), "{metrics}");
        let dropped =
            metrics.lines().find_map(|line| line.strip_prefix("elenchus_spans_total{outcome=\"dropped\"} "));
        assert!(dropped.unwrap().parse::<u64>().unwrap() > 0, "those that do not fit are counted");
        let begun = Instant::now();
        gateway.stop().await;
        assert!(begun.elapsed() < Duration::from_secs(6), "the end waits three seconds at most");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_collector_nothing_is_recorded_and_the_context_still_goes_on() {
    let stub = Stub::answering(&["Answer: 4"]).await;
    let gateway = Running::before(&[&stub]).await;
    for model in ["little", "elenchus/single/little"] {
        let request = gateway.post("/v1/chat/completions").header("traceparent", PARENT);
        request.json(&question(model, "x")).send().await.unwrap();
    }
    assert!(stub.asked().iter().all(|asked| asked.traceparent.as_deref() == Some(PARENT)));
    assert!(!gateway.get("/metrics").await.1.as_str().unwrap().contains("elenchus_spans_total"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_names_another_collector_and_says_what_needs_a_restart() {
    let (first, second) = (collector().await, collector().await);
    let stub = Stub::answering(&["Answer: 4"]).await;
    let mut kept = None;
    let mut gateway = Running::with(&[&stub], |settings| kept = Some(settings.clone())).await;
    let settings = kept.unwrap();
    let reload = |change: &dyn Fn(&mut ServiceSettings)| {
        let mut settings = settings.clone();
        change(&mut settings);
        gateway.handle.reload((settings, Default::default())).map_err(|error| error.to_string())
    };
    let ask = || gateway.ask(question("little", "x"));
    assert_eq!(ask().await.0, 200);
    for collector in [&first, &second] {
        assert_eq!(reload(&|settings| to(collector)(settings)), Ok(Vec::new()));
        assert_eq!(ask().await.0, 200);
        until("the collector of the last reload is told", || !collector.asked().is_empty()).await;
    }
    let refused = reload(&|settings| settings.telemetry.endpoint = Some("nowhere".into())).unwrap_err();
    assert!(refused.contains("`nowhere`") && refused.contains("hint:"), "{refused}");
    let said = reload(&|settings| {
        to(&second)(settings);
        settings.port = 1;
        settings.store = Some("other.sqlite".into());
        settings.most_recipes = 3;
        settings.log = elenchus_recipe::LogLevel::Off;
    });
    assert_eq!(said, Ok(vec!["port", "store", "most_recipes"]), "what is said to need a restart");
    assert_eq!(ask().await.0, 200);
    assert!(gateway.get("/metrics").await.1.as_str().unwrap().contains("elenchus_spans_total"));
    gateway.stop().await;
    let count = |collector: &Stub| named(&spans(collector), "POST /v1/chat/completions").len();
    assert_eq!((count(&first), count(&second)), (1, 2), "each where it belongs, and none before the first");
}
