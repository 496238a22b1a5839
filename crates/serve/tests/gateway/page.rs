//! The web page in headless Chromium, driven over WebDriver; skipped, with the reason, where ChromeDriver is missing.

use crate::browser::{Browser, ask, choose};
use crate::keys::key;
use crate::support::{Act, Running, Stub, completion, question};
use elenchus_recipe::ServiceSettings;
use elenchus_remember::service::{ServiceStore, SqliteStore};
use elenchus_serve::new_secret;
use serde_json::{Value, json};
use std::time::Duration;

const EVIL: &str = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>";

#[tokio::test(flavor = "multi_thread")]
async fn ask_watch_open_edit_react_and_find_it_again() {
    let Some(browser) = Browser::open(1280).await else { return };
    let stub = Stub::start(|asked| {
        if asked.path.ends_with("/models") {
            return Act::Json(200, json!({"data": [{"id": "little", "created": 1, "owned_by": "stub"}]}));
        }
        let count = asked.body["n"].as_u64().unwrap_or(1) as usize;
        let texts: Vec<String> = (0..count).map(|i| format!("{EVIL}\nAnswer: {}", 4 + i % 2)).collect();
        Act::Json(200, completion(&texts))
    })
    .await;
    let gateway = Running::before(&[&stub]).await;
    browser.go(&format!("{}/", gateway.url)).await;
    browser.wait("document.querySelectorAll('#recipe option').length > 5").await;
    assert_eq!(browser.value("document.getElementById('model').value").await, "little");
    assert_eq!(browser.value("document.getElementById('recipe').value").await, "self-consistency");
    browser.keys("#question", "What is 2+2?").await;
    browser.wait("document.getElementById('estimate').textContent.includes('tokens')").await;
    // By keyboard: Ctrl+Enter sends.
    browser.keys("#question", "\u{e009}\u{e007}").await;
    browser.wait("document.querySelectorAll('[data-stage]').length >= 4").await;
    browser.wait("document.querySelector('[data-reaction=love]') !== null").await;
    browser.picture("answer").await;
    assert_eq!(browser.value("document.title").await, "elenchus", "what a model writes is text");
    assert_eq!(browser.value("document.querySelectorAll('main img, main script').length").await, 0);
    let shown = browser.value("document.querySelector('.answer').textContent").await;
    assert!(shown.as_str().unwrap().contains("<script>"), "{shown}");

    browser.click("[data-stage='0'] summary").await;
    browser.wait("document.querySelector('[data-stage=\"0\"] pre') !== null").await;
    // Stages are read until the switch says that they are edited; and the switch is remembered.
    let shown = "document.querySelector('[data-stage=\"0\"] [data-field=edit]').checkVisibility()";
    assert_eq!(browser.value(shown).await, false, "without debug mode a stage is read");
    browser.click("#debug").await;
    assert_eq!(browser.value(shown).await, true);
    let twice = "document.querySelector('[data-stage=\"0\"] pre').checkVisibility()";
    assert_eq!(browser.value(twice).await, false, "the text stands there once");
    browser.keys("[data-stage='0'] [data-field=edit]", " Corrected.").await;
    let buttons = "[...document.querySelectorAll('[data-stage=\"0\"] button')]";
    browser.value(&format!("{buttons}.find((b) => b.textContent === 'Store edit').click()")).await;
    browser.wait("document.getElementById('status').textContent.startsWith('Edit stored')").await;
    browser.picture("stage").await;
    browser.click("[data-reaction=love]").await;
    browser
        .wait("document.querySelector('[data-reaction=love]').getAttribute('aria-pressed') === 'true'")
        .await;
    // One line, and Enter sends it.
    browser.keys("[data-field=comment]", &format!("{EVIL}\u{e007}")).await;
    browser.wait("document.getElementById('status').textContent.startsWith('Comment stored')").await;

    let traces = gateway.traces(1).await;
    let id = traces[0]["id"].as_str().unwrap().to_string();
    let (_, trace) = gateway.get(&format!("/v1/traces/{id}")).await;
    let said = trace["feedback"].as_array().unwrap();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[0]["edit"]["text"].as_str().unwrap().ends_with(" Corrected."));
    assert_eq!(said[1]["reaction"], "love");

    browser.click("[data-view=browse]").await;
    browser.wait("document.querySelectorAll('#traces a').length === 1").await;
    browser.picture("browse").await;
    browser.click("#traces a").await;
    browser.wait("document.querySelectorAll('#trace [data-stage]').length >= 4").await;
    browser.wait("document.querySelector('#trace').textContent.includes('love')").await;
    browser.go(&format!("{}/#trace={id}", gateway.url)).await;
    browser.command("refresh", json!({})).await;
    browser.wait("document.querySelectorAll('#trace [data-stage]').length >= 4").await;
    browser.picture("trace").await;
    assert_eq!(browser.value("document.title").await, "elenchus");
    let pressed =
        "[...document.querySelectorAll('#trace [aria-pressed=true]')].map((b) => b.dataset.reaction)";
    assert_eq!(browser.value(pressed).await, json!(["love"]), "what was said is there after a reload");
    assert_eq!(browser.value("document.getElementById('debug').checked").await, true, "remembered");
    // From an edited stage the recipe is run again, beside what it was.
    browser.click("#trace [data-stage='0'] summary").await;
    browser.wait("document.querySelector('#trace [data-stage=\"0\"] [data-field=edit]') !== null").await;
    browser
        .value("document.querySelector('#trace [data-stage=\"0\"] [data-field=edit]').value = 'Answer: 77'")
        .await;
    let before = stub.asked().len();
    browser.click("#trace [data-stage='0'] [data-rerun=edited]").await;
    browser.wait("document.querySelectorAll('#trace .panel').length === 2").await;
    browser.wait("document.querySelector('#trace .panel:nth-child(2) [data-reaction=love]') !== null").await;
    browser.wait("document.querySelector('#trace .panel:nth-child(2) .edited') !== null").await;
    browser.picture("rerun").await;
    let marked =
        "document.querySelector('#trace .panel:nth-child(2) .edited').closest('details').dataset.stage";
    assert_eq!(browser.value(marked).await, "0", "the stage that was changed is marked");
    let facts =
        browser.value("document.querySelector('#trace .panel:nth-child(2) .facts').textContent").await;
    assert!(facts.as_str().unwrap().contains("before"), "{facts}");
    let again = browser.value("document.querySelector('#trace .panel:nth-child(2)').textContent").await;
    assert!(again.as_str().unwrap().contains("Answer: 77"), "{again}");
    let child = gateway.traces(2).await[0]["id"].as_str().unwrap().to_string();
    let (_, trace) = gateway.get(&format!("/v1/traces/{child}")).await;
    assert_eq!((&trace["parent"]["trace_id"], &trace["parent"]["stage"]), (&json!(id), &json!(0)));
    assert_eq!(trace["trace"]["nodes"][0]["completion"]["text"], "Answer: 77");
    assert!(stub.asked().len() <= before + 3, "the first wave is not drawn again");
    browser.click("#trace .panel:nth-child(2) .facts a").await;
    browser.click("[data-view=totals]").await;
    browser.wait("document.querySelectorAll('#totals tbody tr').length === 1").await;
    browser.picture("totals").await;
    assert_eq!(browser.errors().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_anybody_wrote_becomes_part_of_the_page() {
    let Some(browser) = Browser::open(1280).await else { return };
    let evil_model = format!("model{EVIL}");
    let listed = evil_model.clone();
    let stub = Stub::start(move |asked| {
        if asked.path.ends_with("/models") {
            return Act::Json(200, json!({"data": [{"id": listed, "created": 1, "owned_by": EVIL}]}));
        }
        if asked.text.contains("break it") {
            return Act::Json(400, json!({"error": {"message": EVIL, "type": EVIL, "code": EVIL}}));
        }
        Act::Json(200, completion(&[format!("{EVIL}\nAnswer: {EVIL}")]))
    })
    .await;
    let gateway = Running::before(&[&stub]).await;
    let model = format!("elenchus/self-consistency@1/{evil_model}");
    let (status, answer) = gateway.ask(question(&model, &format!("{EVIL} 2+2?"))).await;
    assert_eq!(status, 200, "{answer}");
    let id = answer["elenchus"]["trace_id"].as_str().unwrap().to_string();
    for body in [
        json!({"id": EVIL, "trace_id": id, "comment": EVIL, "metric": EVIL, "score": 1}),
        json!({"trace_id": id, "correction": EVIL}),
        json!({"trace_id": id, "stage": 0, "edit": {"part": "answer", "text": EVIL}}),
    ] {
        assert_eq!(gateway.send("/v1/feedback", body).await.0, 200);
    }
    gateway.ask(question(&evil_model, "break it")).await;
    // A path that puts words into the page's address, and filters that are kept in fields.
    for place in [
        "/".to_string(),
        format!("/#trace={id}"),
        "/#trace=%3Cimg%20src%3Dx%20onerror%3D%22document.title%3D'owned'%22%3E".to_string(),
        "/#view=%3Cscript%3E".to_string(),
    ] {
        browser.go("about:blank").await;
        browser.go(&format!("{}{place}", gateway.url)).await;
        browser.wait("document.querySelectorAll('#recipe option').length > 5").await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(browser.value("document.title").await, "elenchus", "{place}");
        assert_eq!(
            browser.value("document.querySelectorAll('main img, main script').length").await,
            0,
            "{place}"
        );
    }
    browser.keys("#question", "break it").await;
    browser.keys("#question", "\u{e009}\u{e007}").await;
    browser.wait("document.querySelector('.answer.bad') !== null").await;
    browser.click("[data-view=browse]").await;
    browser.wait("document.querySelectorAll('#traces a').length >= 2").await;
    browser.value("[...document.querySelectorAll('#traces a')].at(-1).click()").await;
    browser.wait("document.querySelectorAll('#trace [data-stage]').length >= 1").await;
    browser.value("document.querySelectorAll('#trace details').forEach((one) => { one.open = true; })").await;
    browser.wait("document.querySelector('#trace').textContent.includes('onerror')").await;
    browser.click("[data-view=totals]").await;
    browser.wait("document.querySelectorAll('#totals tbody tr').length >= 1").await;
    assert_eq!(browser.value("document.title").await, "elenchus", "none of it ran");
    let made = browser.value("document.querySelectorAll('main img, main script, main iframe').length").await;
    assert_eq!(made, 0, "none of it is markup");
}

/// A finished run with a hostile report, and one that goes on for as long as it is held.
fn make_runs(folder: &std::path::Path) -> elenchus_remember::Run {
    let share = |value: f64| json!({"value": value, "low": value - 0.03, "high": value + 0.03});
    let config =
        |rounds: u32| json!({"command": "improve", "recipe": "b-star", "rounds": rounds, "note": EVIL});
    let done = elenchus_remember::Run::create(folder.join("first"), &config(2)).unwrap();
    for round in 0..3 {
        let row = json!({"round": round, "greedy": share(0.7 + 0.02 * f64::from(round)), "rows": 2014, "odd": EVIL});
        done.journal().put(&format!("improve/{round}/sample/0"), &1).unwrap();
        done.metrics().record(&format!("round/{round}"), &row).unwrap();
    }
    done.write_report(&format!(
        "<!doctype html><title>r</title><style>h1 {{ color: rgb(1, 2, 3) }}</style><h1>Report of first</h1>{EVIL}\
         <script>top.document.title = 'owned'; fetch('/v1/traces')</script>"
    ))
    .unwrap();
    let going = elenchus_remember::Run::create(folder.join("second"), &config(9)).unwrap();
    going.journal().put("improve/1/sample/0", &1).unwrap();
    going
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_browsed_with_their_reports_and_followed_while_they_go_on() {
    let Some(browser) = Browser::open(1280).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let going = make_runs(folder.path());
    let stub = Stub::answering(&["Answer: 4"]).await;
    let gateway = Running::with(&[&stub], |settings| settings.runs = Some(folder.path().into())).await;
    browser.go(&format!("{}/", gateway.url)).await;
    browser.wait("!document.getElementById('runs-link').hidden").await;
    browser.click("[data-view=runs]").await;
    browser.wait("document.querySelectorAll('#runs tbody tr').length === 2").await;
    browser.picture("runs").await;
    let states = browser
        .value("[...document.querySelectorAll('#runs td:nth-child(3)')].map((e) => e.textContent).sort()");
    assert_eq!(states.await, json!(["finished", "running"]));
    browser
        .value("[...document.querySelectorAll('#runs a')].find((a) => a.textContent === 'first').click()")
        .await;
    browser.wait("document.querySelectorAll('#run-metrics tbody tr').length === 3").await;
    browser.wait("!document.getElementById('run-report').hidden").await;
    browser.picture("run").await;
    let heads =
        browser.value("[...document.querySelectorAll('#run-metrics th')].map((e) => e.textContent)").await;
    assert_eq!(heads, json!(["round", "greedy", "rows"]), "what is no number is no column");
    let greedy =
        browser.value("document.querySelector('#run-metrics tbody td:nth-child(2)').textContent").await;
    assert_eq!(greedy, "70.0 %67.0 to 73.0 %", "a share is in percent, with its interval");
    browser.click("#run-report").await;
    browser.wait("document.querySelector('#report iframe') !== null").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    browser.picture("report").await;
    assert_eq!(browser.value("document.title").await, "elenchus", "a report runs nothing");
    let scrolls = "document.documentElement.scrollHeight > innerHeight";
    assert_eq!(browser.value(scrolls).await, false, "only the report scrolls");
    let source = browser.value("document.querySelector('#report iframe').src").await;
    let report = gateway.client.get(source.as_str().unwrap()).send().await.unwrap();
    let policy = report.headers()["content-security-policy"].to_str().unwrap().to_string();
    assert!(policy.starts_with("sandbox;") && policy.contains("default-src 'none'"), "{policy}");
    assert!(report.text().await.unwrap().contains("Report of first"));
    // In the frame itself: the style is there, and nothing else has happened.
    let frame = browser.command("element", json!({"using": "css selector", "value": "#report iframe"})).await;
    browser.command("frame", json!({"id": frame})).await;
    assert_eq!(browser.value("getComputedStyle(document.querySelector('h1')).color").await, "rgb(1, 2, 3)");
    browser.command("frame", json!({"id": null})).await;

    browser.go(&format!("{}/#run=second", gateway.url)).await;
    browser.wait("document.getElementById('run-facts').textContent.includes('running')").await;
    assert_eq!(
        browser.value("document.getElementById('run-report').hidden").await,
        true,
        "there is none yet"
    );
    going.journal().put("improve/1/sample/1", &1).unwrap();
    going.metrics().record("round/1", &json!({"round": 1, "greedy": 0.5})).unwrap();
    browser.wait("document.querySelectorAll('#run-metrics tbody tr').length === 1").await;
    going.write_report("<!doctype html><h1>Report of second</h1>").unwrap();
    drop(going);
    browser.wait("document.getElementById('run-facts').textContent.includes('finished')").await;
    browser.wait("!document.getElementById('run-report').hidden").await;
    let size = json!({"cmd": "Emulation.setDeviceMetricsOverride",
        "params": {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": true}});
    browser.command("goog/cdp/execute", size).await;
    let dark = json!({"cmd": "Emulation.setEmulatedMedia",
        "params": {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}});
    browser.command("goog/cdp/execute", dark).await;
    browser.go(&format!("{}/#run=first", gateway.url)).await;
    browser.wait("document.querySelectorAll('#run-metrics tbody tr').length === 3").await;
    browser.picture("run-phone-dark").await;
    assert_eq!(browser.value("document.documentElement.scrollWidth").await, 360, "no sideways scroll");
    browser.click("#run-report").await;
    browser.wait("document.querySelector('#report iframe')?.src.includes('/first/')").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    browser.picture("report-phone-dark").await;
    assert_eq!(browser.value("document.documentElement.scrollWidth").await, 360, "no sideways scroll");
    browser.click("[data-view=runs]").await;
    browser.wait("document.querySelectorAll('#runs tbody tr').length === 2").await;
    browser.picture("runs-phone-dark").await;
    assert_eq!(browser.value("document.documentElement.scrollWidth").await, 360, "no sideways scroll");
    assert_eq!(browser.errors().await.iter().filter(|error| !error.contains("sandboxed")).count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_recipes_stand_side_by_side_on_one_question() {
    let Some(browser) = Browser::open(1280).await else { return };
    let stub = Stub::answering(&["Answer: 4"]).await;
    let gateway = Running::before(&[&stub]).await;
    browser.go(&format!("{}/", gateway.url)).await;
    browser.wait("document.querySelectorAll('#recipe option').length > 5").await;
    // What this model cannot answer with is greyed, with the reason.
    browser.wait("document.querySelector('#recipe option[value=self-certainty]').disabled").await;
    browser
        .wait("document.querySelector('#beside option[value=self-certainty]').title.includes('hint:')")
        .await;
    browser.wait("!document.querySelector('#recipe option[value=gsa]').disabled").await;
    browser.keys("#question", "What is 2+2?").await;
    choose(&browser, "recipe", "single").await;
    browser.wait("document.getElementById('estimate').textContent.startsWith('At most 1 call,')").await;
    choose(&browser, "beside", "plain").await;
    browser
        .wait("document.getElementById('estimate').textContent.startsWith('Both together at most 2 calls')")
        .await;
    choose(&browser, "recipe", "self-consistency").await;
    browser.click("#send").await;
    browser.wait("document.querySelectorAll('#panels .panel [data-reaction=love]').length === 2").await;
    browser.picture("beside").await;
    let titles = browser
        .value("[...document.querySelectorAll('#panels .panel > h3')].map((e) => e.textContent)")
        .await;
    assert_eq!(titles, json!(["self-consistency · little", "plain · little"]));
    let places = browser
        .value("[...document.querySelectorAll('#panels .panel')].map((e) => e.getBoundingClientRect().top)")
        .await;
    assert_eq!(places[0], places[1], "beside each other");
    browser.wait("document.getElementById('verdict').textContent === 'Both answer the same: 4.'").await;
    assert_eq!(gateway.traces(2).await.len(), 2);
    assert_eq!(browser.errors().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_has_no_sideways_scroll_and_every_control_has_a_name() {
    let Some(browser) = Browser::open(500).await else { return };
    let stub = Stub::answering(&["Answer: 4"]).await;
    let gateway = Running::before(&[&stub]).await;
    let size = json!({"cmd": "Emulation.setDeviceMetricsOverride",
        "params": {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": true}});
    browser.command("goog/cdp/execute", size).await;
    browser.go(&format!("{}/", gateway.url)).await;
    browser.wait("document.querySelectorAll('#recipe option').length > 5").await;
    browser.keys("#question", &"a long question without end ".repeat(10)).await;
    browser.click("#send").await;
    browser.wait("document.querySelector('[data-reaction=love]') !== null").await;
    browser.picture("phone").await;
    assert_eq!(browser.value("document.documentElement.scrollWidth <= innerWidth").await, true);
    let nameless = "[...document.querySelectorAll('input, select, textarea, button, a')].filter((e) => \
        !e.labels?.length && !e.getAttribute('aria-label') && !e.textContent.trim()).map((e) => e.outerHTML)";
    assert_eq!(browser.value(nameless).await, json!([]), "a screen reader has a name for each");
    let dark = json!({"cmd": "Emulation.setEmulatedMedia",
        "params": {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}});
    browser.command("goog/cdp/execute", dark).await;
    let paper = browser.value("getComputedStyle(document.body).backgroundColor").await;
    assert_eq!(paper, "rgb(21, 23, 27)");
    browser.picture("dark").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_stands_where_its_trace_cannot_be_seen() {
    let Some(browser) = Browser::open(1280).await else { return };
    let (folder, secret) = (tempfile::tempdir().unwrap(), new_secret());
    let path = folder.path().join("store.sqlite");
    let scopes = ["ask", "feedback"];
    SqliteStore::open(&path).unwrap().write(&[key("app", &secret, &scopes, None)]).unwrap();
    let stub = Stub::answering(&["Answer: 4"]).await;
    // The test itself reads without a key.
    let open = |settings: &mut ServiceSettings| settings.require_keys = Some(false);
    let gateway = Running::over(folder, &[&stub], Default::default(), open).await;
    browser.go(&format!("{}/", gateway.url)).await;
    browser.value(&format!("sessionStorage.setItem('key', '{secret}')")).await;
    browser.command("refresh", json!({})).await;
    browser.wait("document.querySelectorAll('#recipe option').length > 5").await;
    ask(&browser, "plain").await;
    browser.picture("no-right-to-read").await;
    assert_eq!(browser.value("document.querySelector('.answer').textContent").await, "Answer: 4");
    assert_eq!(browser.value("document.querySelector('.answer.bad')").await, Value::Null);
    browser.click("[data-reaction=love]").await;
    browser
        .wait("document.querySelector('[data-reaction=love]').getAttribute('aria-pressed') === 'true'")
        .await;
    let id = gateway.traces(1).await[0]["id"].as_str().unwrap().to_string();
    assert_eq!(gateway.get(&format!("/v1/traces/{id}")).await.1["feedback"][0]["reaction"], "love");

    // The head of a stream names its trace; then the store fails.
    browser.value("sessionStorage.clear()").await;
    browser.command("refresh", json!({})).await;
    browser.wait("document.querySelectorAll('#recipe option').length > 5").await;
    let other = rusqlite::Connection::open(gateway.folder.path().join("store.sqlite")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    ask(&browser, "plain").await;
    browser.picture("not-stored").await;
    assert_eq!(browser.value("document.querySelector('.answer').textContent").await, "Answer: 4");
    assert_eq!(browser.value("document.querySelector('[data-reaction]')").await, Value::Null);
    let facts = browser.value("document.querySelector('.facts').textContent").await;
    assert!(facts.as_str().unwrap().contains("not stored"), "{facts}");
    assert_eq!(browser.value("document.getElementById('status').textContent").await, "Answered; not stored.");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_shows_its_calls_of_tools_and_why_it_is_fixed() {
    let Some(browser) = Browser::open(1280).await else { return };
    let stub = Stub::start(|asked| {
        if asked.path.ends_with("/models") {
            return Act::Json(200, json!({"data": [{"id": "little", "created": 1, "owned_by": "stub"}]}));
        }
        let mut answer = completion(&["4".into()]);
        if asked.body["tools"].is_array() {
            let call = json!({"id": "call_1", "type": "function",
                "function": {"name": "weather", "arguments": "{\"city\":\"Rome\"}"}});
            answer["choices"][0]["message"] =
                json!({"role": "assistant", "content": null, "tool_calls": [call]});
            answer["choices"][0]["finish_reason"] = "tool_calls".into();
        }
        Act::Json(200, answer)
    })
    .await;
    let gateway = Running::before(&[&stub]).await;
    let mut body = question("elenchus/single/little", "Which city?");
    body["tools"] = json!([{"type": "function", "function": {"name": "weather"}}]);
    let (status, answer) = gateway.ask(body).await;
    assert_eq!(status, 200, "{answer}");
    let stage = &answer["elenchus"]["stages"][0];
    assert_eq!(stage["tool_calls"][0]["function"]["name"], "weather", "{stage}");
    assert_eq!((&stage["text"], &stage["fixed"]), (&Value::Null, &Value::Null));
    let decided = answer["elenchus"]["stages"].as_array().unwrap().last().unwrap();
    assert!(decided["fixed"].as_str().unwrap().contains("nothing else"), "{decided}");
    let called = answer["elenchus"]["trace_id"].as_str().unwrap().to_string();
    assert_eq!(gateway.send("/v1/embeddings", json!({"model": "little", "input": "x"})).await.0, 200);
    let numbers =
        gateway.traces(2).await.iter().find(|trace| trace["recipe"] == "embeddings").unwrap()["id"].clone();

    let inside = "#trace [data-stage='0'] .inside";
    let disabled =
        format!("[...document.querySelectorAll(\"{inside} [data-rerun]\")].map((b) => b.disabled)");
    browser.go(&format!("{}/#trace={called}", gateway.url)).await;
    browser.wait("document.querySelector('#trace [data-stage=\"0\"]') !== null").await;
    browser.click("#trace [data-stage='0'] summary").await;
    browser.wait("document.querySelector('#trace [data-calls]') !== null").await;
    browser.picture("calls").await;
    for place in [".answer", ".inside"] {
        let shown = format!("document.querySelector('#trace {place} [data-calls]').textContent");
        assert_eq!(browser.value(&shown).await, "weather({\"city\":\"Rome\"})", "{place}");
    }
    let edited = browser.value("document.querySelector('#trace [data-field=edit]').value").await;
    assert_eq!(edited, "", "no text is no text");
    assert_eq!(browser.value(&disabled).await, json!([false, false]));

    browser.go(&format!("{}/#trace={}", gateway.url, numbers.as_str().unwrap())).await;
    browser.wait("document.querySelector('#trace .panel')?.textContent.includes('embeddings')").await;
    browser.click("#trace [data-stage='0'] summary").await;
    browser.wait("document.querySelector('#trace [data-fixed]')?.textContent !== ''").await;
    browser.click("#debug").await;
    browser.picture("fixed").await;
    let title = browser.value("document.querySelector('#trace [data-rerun=edited]').title").await;
    assert!(title.as_str().unwrap().contains("numbers"), "the control says why: {title}");
    assert_eq!(
        browser.value(&disabled).await,
        json!([true, true]),
        "what would be refused cannot be pressed"
    );
    let why = browser.value("document.querySelector('#trace [data-fixed]').textContent").await;
    assert!(why.as_str().unwrap().contains("numbers"), "{why}");
    assert_eq!(browser.errors().await, Vec::<String>::new());
}
