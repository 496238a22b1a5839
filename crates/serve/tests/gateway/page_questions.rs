//! The page where no recipe answered, and where another question is asked.

use crate::browser::{Browser, SENDS, ask, write};
use crate::support::{Act, Running, Stub, completion, events, question};
use serde_json::{Value, json};
use std::time::Duration;

/// Answers with the question that it was asked; one about breaking is an error.
async fn echo() -> Stub {
    Stub::start(|asked| {
        if asked.path.ends_with("/models") {
            return Act::Json(200, json!({"data": [{"id": "little", "created": 1, "owned_by": "stub"}]}));
        }
        if let Some(prompt) = asked.body["prompt"].as_str() {
            let piece = |text: &str, finish: Value| {
                let body = json!({"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "little",
                    "choices": [{"index": 0, "text": text, "finish_reason": finish}]});
                format!("data: {body}\n\n")
            };
            let events = vec![
                piece(&format!("{prompt} and on"), Value::Null),
                piece("", json!("stop")),
                "data: [DONE]\n\n".to_string(),
            ];
            return match asked.body["stream"] == true {
                true => Act::Stream { events, pause: Duration::ZERO, broken: false },
                false => Act::Json(200, json!({"choices": [{"index": 0, "text": "x", "finish_reason": "stop"}]})),
            };
        }
        let said = asked.body["messages"].as_array().and_then(|all| all.last()).cloned().unwrap_or_default();
        let text = format!("You ask: {}", said["content"].as_str().unwrap_or_default());
        match asked.body["stream"] == true {
            _ if text.contains("break") => Act::Json(500, json!({"error": {"message": "out of memory"}})),
            true => Act::Stream { events: events(&text), pause: Duration::ZERO, broken: false },
            false => Act::Json(200, completion(&[text])),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_without_a_recipe_can_be_asked_otherwise() {
    let Some(browser) = Browser::open(1280).await else { return };
    let stub = echo().await;
    let gateway = Running::before(&[&stub]).await;
    browser.go(&format!("{}/", gateway.url)).await;
    browser.wait("document.querySelectorAll('#recipe option').length > 5").await;
    browser.click("#debug").await;
    ask(&browser, "plain").await;
    let field = "#panels [data-stage='0'] [data-field=question]";
    let is_there = |selector: &str| format!("document.querySelector(\"{selector}\") !== null");
    // By keyboard alone: the stage is opened, the question changed, and sent.
    browser.keys("#panels [data-stage='0'] summary", "\u{e007}").await;
    browser.wait(&is_there(field)).await;
    let now = browser.value(&format!("document.querySelector(\"{field}\").value")).await;
    assert_eq!(now, "What is 2+2?", "it begins with what was asked");
    let name = browser.value(&format!("document.querySelector(\"{field}\").labels[0].textContent")).await;
    assert_eq!(name, "As it should have been asked");
    let before = stub.asked().len();
    for same in ["What is 2+2?", "   "] {
        write(&browser, field, &format!("{same}{SENDS}")).await;
        browser.wait("document.getElementById('status').textContent.startsWith('Write the question')").await;
        assert_eq!(browser.value(&format!("document.activeElement.matches(\"{field}\")")).await, true);
    }
    assert_eq!(stub.asked().len(), before, "nothing is asked that was asked already");
    write(&browser, field, &format!("What is 3+3?{SENDS}")).await;
    browser.wait("document.querySelector('#panels .panel:nth-child(2) [data-reaction=love]') !== null").await;
    browser.picture("question").await;
    let panel = "document.querySelector('#panels .panel:nth-child(2)')";
    let shown = browser.value(&format!("{panel}.querySelector('.asked').textContent")).await;
    assert_eq!(shown, "What is 3+3?");
    let shown = browser.value(&format!("{panel}.querySelector('.answer').textContent")).await;
    assert_eq!(shown, "You ask: What is 3+3?");
    assert_eq!(browser.value(&format!("document.activeElement === {panel}.querySelector('h3')")).await, true);
    let said = browser.value("document.getElementById('status').textContent").await;
    assert_eq!(said, "Answered again; the other question is kept as a comment.");
    let traces = gateway.traces(2).await;
    let first = traces[1]["id"].as_str().unwrap();
    let (_, child) = gateway.get(&format!("/v1/traces/{}", traces[0]["id"].as_str().unwrap())).await;
    assert_eq!((&child["question"], &child["parent"]["trace_id"]), (&json!("What is 3+3?"), &json!(first)));
    let (_, parent) = gateway.get(&format!("/v1/traces/{first}")).await;
    assert_eq!(parent["feedback"][0]["comment"], "asked again as: What is 3+3?");

    // A stored one, on a phone, in both colours.
    let size = json!({"cmd": "Emulation.setDeviceMetricsOverride",
        "params": {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": true}});
    browser.command("goog/cdp/execute", size).await;
    browser.go(&format!("{}/#trace={first}", gateway.url)).await;
    let field = "#trace [data-stage='0'] [data-field=question]";
    browser.wait(&is_there("#trace [data-stage='0'] summary")).await;
    browser.click("#trace [data-stage='0'] summary").await;
    browser.wait(&is_there(field)).await;
    browser.value(&format!("document.querySelector(\"{field}\").scrollIntoView({{block: 'center'}})")).await;
    browser.picture("question-phone").await;
    for scheme in ["dark", "light"] {
        let colours = json!({"cmd": "Emulation.setEmulatedMedia",
            "params": {"features": [{"name": "prefers-color-scheme", "value": scheme}]}});
        browser.command("goog/cdp/execute", colours).await;
        let colour = format!("getComputedStyle(document.querySelector(\"{field}\")).backgroundColor");
        let sheet = if scheme == "dark" { "rgb(29, 32, 38)" } else { "rgb(255, 255, 255)" };
        assert_eq!(browser.value(&colour).await, sheet);
        browser.picture(&format!("question-phone-{scheme}")).await;
    }
    assert_eq!(browser.value("document.documentElement.scrollWidth").await, 390, "no sideways scroll");
    write(&browser, field, "What is 4+4?").await;
    browser.click("#trace [data-rerun=question]").await;
    let second = "#trace .panel:nth-child(2)";
    browser.wait(&is_there(&format!("{second} [data-reaction=love]"))).await;
    let inside = format!("document.querySelector(\"{second} h3\").getBoundingClientRect()");
    let seen = browser.value(&format!("{inside}.top >= 0 && {inside}.top < innerHeight / 2")).await;
    assert_eq!(seen, true, "the new answer is scrolled to");
    browser.picture("question-phone-answered").await;
    assert_eq!(browser.value("document.documentElement.scrollWidth").await, 390, "no sideways scroll");
    assert_eq!(browser.errors().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_question_is_offered_where_the_api_takes_one() {
    let Some(browser) = Browser::open(1280).await else { return };
    let stub = echo().await;
    let gateway = Running::before(&[&stub]).await;
    let long = format!("Tell me {} of it.", "all ".repeat(3000));
    assert_eq!(gateway.ask(question("elenchus/single/little", "What is 2+2?")).await.0, 200);
    assert_eq!(gateway.ask(question("little", "break it")).await.0, 500);
    assert_eq!(gateway.ask(question("little", &long)).await.0, 200);
    let body = json!({"model": "little", "prompt": "Once"});
    assert_eq!(gateway.send("/v1/completions", body).await.0, 200);
    browser.go(&format!("{}/", gateway.url)).await;
    browser.click("#debug").await;
    let traces = gateway.traces(4).await;
    let open = async |named: &dyn Fn(&Value) -> bool| {
        let id = traces.iter().find(|trace| named(trace)).unwrap()["id"].as_str().unwrap().to_string();
        browser.go("about:blank").await;
        browser.go(&format!("{}/#trace={id}", gateway.url)).await;
        browser.wait("document.querySelector('#trace [data-stage=\"0\"] summary') !== null").await;
        browser.click("#trace [data-stage='0'] summary").await;
        browser.wait("document.querySelector('#trace [data-stage=\"0\"] pre') !== null").await;
        browser.value("document.querySelector('#trace [data-field=question]')?.value ?? null").await
    };
    assert_eq!(open(&|trace| trace["recipe"] == "single").await, Value::Null, "nothing of it could stay");
    let kept = open(&|trace| trace["question"].as_str().unwrap().starts_with("Tell")).await;
    assert_eq!(kept, long.as_str(), "whole, where lists show its beginning");
    // What failed is asked once more, or otherwise.
    assert_eq!(open(&|trace| trace["status"] == "failed").await, "break it");
    browser.picture("question-failed").await;
    browser.click("#trace [data-rerun=failed]").await;
    browser.wait("document.querySelector('#trace .panel:nth-child(2) .answer.bad') !== null").await;
    write(&browser, "#trace [data-field=question]", &format!("mend it{SENDS}")).await;
    browser.wait("document.querySelector('#trace .panel:nth-child(3) [data-reaction=love]') !== null").await;
    // What was asked as a prompt is answered with texts.
    assert_eq!(open(&|trace| trace["recipe"] == "completions").await, "Once");
    write(&browser, "#trace [data-field=question]", &format!("Twice{SENDS}")).await;
    browser.wait("document.querySelector('#trace .panel:nth-child(2) [data-reaction=love]') !== null").await;
    let shown =
        browser.value("document.querySelector('#trace .panel:nth-child(2) .answer').textContent").await;
    assert_eq!(shown, "Twice and on");
}
