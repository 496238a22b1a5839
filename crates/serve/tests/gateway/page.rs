//! The web page in headless Chromium, driven over WebDriver; skipped, with the reason, where ChromeDriver is missing.

use crate::keys::key;
use crate::support::{Act, Running, Stub, completion, events, question};
use elenchus_recipe::ServiceSettings;
use elenchus_remember::service::{ServiceStore, SqliteStore};
use elenchus_serve::new_secret;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A browser with one tab.
struct Browser {
    driver: Child,
    session: String,
    client: reqwest::Client,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends its browser with itself.
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

fn found(names: &[&str]) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders)
        .find_map(|folder| names.iter().map(|name| folder.join(name)).find(|path| path.is_file()))
}

impl Browser {
    /// `None`, said on standard error, where there is no browser.
    async fn open(width: u32) -> Option<Browser> {
        let (Some(driver), Some(chromium)) =
            (found(&["chromedriver"]), found(&["chromium", "chromium-browser", "google-chrome"]))
        else {
            eprintln!(
                "skipped: no chromedriver and chromium on the path (Debian: chromium, chromium-driver)"
            );
            return None;
        };
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let driver = Command::new(driver)
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The library has no provider of its own, and no gateway may run yet that has set one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let mut browser = Browser { driver, session: String::new(), client };
        let arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"];
        let mut arguments: Vec<String> = arguments.map(String::from).to_vec();
        arguments.push(format!("--window-size={width},1000"));
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"binary": chromium, "args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let base = format!("http://127.0.0.1:{port}");
        for _ in 0..300 {
            let answer = browser.client.post(format!("{base}/session")).json(&wanted).send().await;
            if let Ok(answer) = answer {
                let answer: Value = answer.json().await.unwrap();
                let id =
                    answer["value"]["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {answer}"));
                browser.session = format!("{base}/session/{id}");
                return Some(browser);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("chromedriver does not answer");
    }

    async fn command(&self, path: &str, body: Value) -> Value {
        let answer = self.client.post(format!("{}/{path}", self.session)).json(&body).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        assert!(answer["value"].get("error").is_none(), "{path} {body}: {answer}");
        answer["value"].clone()
    }

    async fn go(&self, url: &str) {
        self.command("url", json!({"url": url})).await;
    }

    /// The value of an expression in the page.
    async fn value(&self, expression: &str) -> Value {
        self.command("execute/sync", json!({"script": format!("return {expression};"), "args": []})).await
    }

    /// Waits until an expression is true.
    async fn wait(&self, expression: &str) {
        for _ in 0..400 {
            if self.value(expression).await == true {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let page = self.value("document.body.innerText").await;
        panic!("never true: {expression}\n{}", page.as_str().unwrap_or_default());
    }

    async fn element(&self, selector: &str) -> String {
        let found = self.command("element", json!({"using": "css selector", "value": selector})).await;
        found.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_string()
    }

    async fn click(&self, selector: &str) {
        let element = self.element(selector).await;
        self.command(&format!("element/{element}/click"), json!({})).await;
    }

    async fn keys(&self, selector: &str, text: &str) {
        let element = self.element(selector).await;
        self.command(&format!("element/{element}/value"), json!({"text": text})).await;
    }

    /// Writes a picture where `ELENCHUS_SCREENSHOTS` names a folder.
    async fn picture(&self, name: &str) {
        let Some(folder) = std::env::var_os("ELENCHUS_SCREENSHOTS") else { return };
        let answer = self.client.get(format!("{}/screenshot", self.session)).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        let text = answer["value"].as_str().unwrap();
        std::fs::write(PathBuf::from(folder).join(format!("{name}.b64")), text).unwrap();
    }

    /// What the page wrote to the console as an error.
    async fn errors(&self) -> Vec<String> {
        let log = self.command("se/log", json!({"type": "browser"})).await;
        log.as_array()
            .into_iter()
            .flatten()
            .filter(|entry| entry["level"] == "SEVERE")
            .map(|entry| entry["message"].to_string())
            .collect()
    }
}

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

/// Asks on the page and waits for the end.
async fn ask(browser: &Browser, recipe: &str) {
    let choose = format!("document.getElementById('recipe').value = '{recipe}'");
    browser.value(&choose).await;
    browser.keys("#question", "What is 2+2?").await;
    browser.keys("#question", "\u{e009}\u{e007}").await;
    browser.wait("/^(Answered|There is no)/.test(document.getElementById('status').textContent)").await;
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

/// Takes the words of a field away and writes others, by keyboard.
async fn write(browser: &Browser, selector: &str, text: &str) {
    browser.keys(selector, &format!("\u{e009}a\u{e000}{text}")).await;
}

const SENDS: &str = "\u{e009}\u{e007}";

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

/// Chooses in a picker, or writes in a field, as a person does.
async fn choose(browser: &Browser, id: &str, value: &str) {
    let (element, value) = (format!("document.getElementById('{id}')"), json!(value));
    browser
        .value(&format!("({element}.value = {value}, {element}.dispatchEvent(new Event('change')))"))
        .await;
    browser.value(&format!("{element}.dispatchEvent(new Event('input'))")).await;
}

/// Opens a trace of its own page.
async fn open(browser: &Browser, gateway: &Running, id: &str) {
    browser.go("about:blank").await;
    browser.go(&format!("{}/#trace={id}", gateway.url)).await;
    browser.wait("document.querySelector('#trace .react:not([hidden])') !== null").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recipes_are_composed_by_text_and_found_again_by_it() {
    let Some(browser) = Browser::open(1280).await else { return };
    let stub = Stub::answering(&["Answer: 4"]).await;
    let gateway = Running::before(&[&stub]).await;
    browser.go(&format!("{}/", gateway.url)).await;
    browser.wait("document.querySelectorAll('#recipe option').length > 5").await;
    choose(&browser, "recipe", "*").await;
    choose(&browser, "recipe-text", "self-consistency thn single").await;
    browser.wait("document.querySelector('#estimate.wrong') !== null").await;
    let said = browser.value("document.getElementById('estimate').textContent").await;
    assert!(said.as_str().unwrap().contains("`thn`"), "what is wrong is said before it is asked: {said}");
    browser.keys("#question", "What is 2+2?").await;
    browser.click("#send").await;
    browser.wait("document.querySelector('.answer.bad') !== null").await;
    assert_eq!(browser.value("document.querySelector('.came').hidden").await, true, "nothing came about");
    let words = browser.value("document.querySelector('.answer.bad').textContent").await;
    assert!(!words.as_str().unwrap().contains("hint"), "what to try stands apart: {words}");
    let composed = "self-consistency@2 else plain";
    choose(&browser, "recipe-text", composed).await;
    browser.wait("document.getElementById('estimate').textContent.startsWith('At most')").await;
    browser.click("#send").await;
    browser.wait("document.querySelector('[data-reaction=love]') !== null").await;
    assert_eq!(gateway.ask(question("elenchus/single/little", "3+3?")).await.0, 200);
    gateway.traces(2).await;
    browser.click("[data-view=browse]").await;
    browser.wait("document.querySelectorAll('#traces a').length === 2").await;
    let proposed = format!(
        "[...document.querySelectorAll('#known-recipes option')].some((o) => o.value === '{composed}')"
    );
    browser.wait(&proposed).await;
    for (filter, value, count) in
        [("recipe", composed, 1), ("model", "other", 0), ("key", "nobody", 0), ("until", "2001-01-01", 0)]
    {
        choose(&browser, &format!("filter-{filter}"), value).await;
        browser.click("#filter-form button").await;
        browser.wait(&format!("document.querySelectorAll('#traces a').length === {count}")).await;
        choose(&browser, &format!("filter-{filter}"), "").await;
    }
    // A worst case that is huge reads as a warning.
    browser.click("[data-view=ask]").await;
    choose(&browser, "recipe", "rain").await;
    browser.wait("document.querySelector('#estimate.warning') !== null").await;
    let said = browser.value("document.getElementById('estimate').textContent").await;
    assert!(said.as_str().unwrap().contains(",000 calls"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn debug_mode_addresses_each_part_and_rejects_each_kind_of_stage() {
    let Some(browser) = Browser::open(1280).await else { return };
    let stub = Stub::answering(&["First 2.\nThen 2 more.\nAnswer: 4", "First 2.\nAnswer: 5"]).await;
    let gateway = Running::before(&[&stub]).await;
    let (status, answer) = gateway.ask(question("elenchus/critique-and-refine/little", "2+2?")).await;
    assert_eq!(status, 200, "{answer}");
    let id = answer["elenchus"]["trace_id"].as_str().unwrap().to_string();
    open(&browser, &gateway, &id).await;
    browser.click("#debug").await;
    browser.click("#trace [data-open-all]").await;
    let closed = "document.querySelectorAll('#trace details[data-stage]:not([open])').length";
    assert_eq!(browser.value(closed).await, 0, "all are opened at once");
    browser.picture("debug").await;
    let part = |stage: u64| format!("#trace [data-stage='{stage}'] [data-field=part]");
    let parts = format!("[...document.querySelector(\"{}\").options].map((o) => o.value)", part(0));
    assert_eq!(browser.value(&parts).await, json!(["answer", "step", "sub_question", "evidence"]));
    let pick = async |stage: u64, what: &str, value: &str| {
        let field = format!("document.querySelector(\"#trace [data-stage='{stage}'] [data-field={what}]\")");
        browser
            .value(&format!("({field}.value = {}, {field}.dispatchEvent(new Event('change')))", json!(value)))
            .await
    };
    let done = async |words: &str| {
        browser.wait(&format!("document.getElementById('status').textContent.startsWith('{words}')")).await;
        browser.value("document.getElementById('status').textContent = ''").await;
    };
    pick(0, "part", "step").await;
    pick(0, "step", "1").await;
    let text = "document.querySelector(\"#trace [data-stage='0'] [data-field=edit]\").value";
    assert_eq!(browser.value(text).await, "Then 2 more.", "the step that is addressed");
    pick(0, "edit", "Then 3 more.").await;
    browser.click("#trace [data-stage='0'] [data-store]").await;
    done("Edit stored").await;
    pick(0, "part", "evidence").await;
    pick(0, "edit", "2 and 2 are given.").await;
    browser.click("#trace [data-stage='0'] [data-store]").await;
    done("Edit stored").await;
    let (_, trace) = gateway.get(&format!("/v1/traces/{id}")).await;
    let stages = trace["stages"].as_array().unwrap().clone();
    for stage in &stages {
        browser.click(&format!("#trace [data-stage='{}'] [data-judge=reject]", stage["id"])).await;
        done("Stage rejected").await;
    }
    let primary = "[...document.querySelectorAll('#trace details[data-stage]')].map((stage) => \
        stage.querySelectorAll(':scope > .inside .primary').length).every((count) => count === 1)";
    assert_eq!(browser.value(primary).await, true, "one control of a stage stands out");
    let (_, trace) = gateway.get(&format!("/v1/traces/{id}")).await;
    let said = trace["feedback"].as_array().unwrap();
    assert_eq!(said[0]["edit"], json!({"part": "step", "step": 1, "text": "Then 3 more."}));
    assert_eq!(said[1]["edit"], json!({"part": "evidence", "text": "2 and 2 are given."}));
    assert_eq!(said.len(), 2 + stages.len(), "each kind of stage can be rejected");
    // Run again with a step: the text is whole, with that step in it.
    pick(0, "part", "step").await;
    pick(0, "step", "1").await;
    pick(0, "edit", "Then 3 more.").await;
    browser.click("#trace [data-stage='0'] [data-rerun=edited]").await;
    browser.wait("document.querySelector('#trace .panel:nth-child(2) .edited') !== null").await;
    let child = gateway.traces(2).await[0]["id"].as_str().unwrap().to_string();
    let (_, trace) = gateway.get(&format!("/v1/traces/{child}")).await;
    assert_eq!(trace["stages"][0]["text"], "First 2.\nThen 3 more.\nAnswer: 4");
    assert_eq!(browser.errors().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn how_an_answer_ended_and_how_sure_it_is_are_said_everywhere() {
    let Some(browser) = Browser::open(1280).await else { return };
    let stub = Stub::start(|asked| {
        if asked.path.ends_with("/models") {
            return Act::Json(200, json!({"data": [{"id": "little", "created": 1, "owned_by": "stub"}]}));
        }
        if asked.text.contains("break it") {
            return Act::Json(400, json!({"error": {"message": "out of memory"}}));
        }
        // A short text would be taken for an answer itself.
        let unsure = "I cannot say how many without knowing more of them. ".repeat(6);
        let text = if asked.text.contains("unsure") { unsure.as_str() } else { "Answer: 4" };
        let count = asked.body["n"].as_u64().unwrap_or(1) as usize;
        Act::Json(200, completion(&vec![text.to_string(); count]))
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    crate::calibration::fitted().write(&folder.path().join("calibrations.json")).unwrap();
    let gateway = Running::over(folder, &[&stub], Default::default(), |_| {}).await;
    browser.go(&format!("{}/", gateway.url)).await;
    browser.wait("document.querySelectorAll('#recipe option').length > 5").await;
    ask(&browser, "self-consistency").await;
    let facts = "document.querySelector('.facts').textContent";
    browser.wait(&format!("{facts}.includes('(calibrated')")).await;
    let id = gateway.traces(1).await[0]["id"].as_str().unwrap().to_string();
    browser.click("[data-better]").await;
    let begun = browser.value("document.querySelector('[data-field=correction]').value").await;
    assert_eq!(begun, "Answer: 4", "a better answer begins with the one that is there");
    browser.keys("[data-field=correction]", &format!("2{SENDS}")).await;
    browser.wait("document.getElementById('status').textContent.startsWith('Better answer stored')").await;
    open(&browser, &gateway, &id).await;
    let told = browser.value("document.querySelector('#trace .facts').textContent").await;
    assert!(told.as_str().unwrap().contains("(calibrated"), "as it was given: {told}");

    browser.go(&format!("{}/#ask", gateway.url)).await;
    browser.command("refresh", json!({})).await;
    browser.wait("document.querySelectorAll('#recipe option').length > 5").await;
    browser.keys("#question", "unsure?").await;
    browser.click("#send").await;
    browser
        .wait("document.getElementById('status').textContent.startsWith('The recipe gave no sure answer')")
        .await;
    browser.picture("abstained").await;
    assert_eq!(
        browser.value("document.querySelector('[data-reaction]')").await,
        Value::Null,
        "nothing to love"
    );
    assert_eq!(browser.value("document.querySelector('[data-field=comment]') !== null").await, true);
    assert_eq!(gateway.ask(question("elenchus/self-consistency/little", "break it")).await.0, 400);
    let reaction = json!({"trace_id": id, "reaction": "up"});
    assert_eq!(gateway.send("/v1/feedback", reaction).await.0, 200);
    gateway.traces(3).await;
    browser.click("[data-view=browse]").await;
    browser.wait("document.querySelectorAll('#traces a').length === 3").await;
    browser.picture("browse-ends").await;
    let badges =
        browser.value("[...document.querySelectorAll('#traces .badge')].map((b) => b.textContent)").await;
    assert_eq!(badges, json!(["failed", "abstained", "▲ up"]));
    let list = browser.value("document.getElementById('traces').textContent").await;
    assert!(list.as_str().unwrap().contains("% (raw)"), "a list says what its confidence is: {list}");

    // Failures are counted apart, and what nobody spoke of is folded away.
    assert_eq!(gateway.ask(question("elenchus/single/little", "3+3?")).await.0, 200);
    gateway.traces(4).await;
    browser.click("[data-view=totals]").await;
    browser.wait("document.querySelectorAll('#totals tbody tr').length === 1").await;
    let column = |name: &str| {
        format!(
            "[...document.querySelectorAll('#totals th button')].findIndex((b) => b.textContent.startsWith('{name}'))"
        )
    };
    for (name, wanted) in [("Answered", "1"), ("Abstained", "1"), ("Failed", "1"), ("Corrected", "1")] {
        let cell = format!("document.querySelector('#totals tbody tr').cells[{}].textContent", column(name));
        assert_eq!(browser.value(&cell).await, wanted, "{name}");
    }
    browser.click("#totals-all").await;
    browser.wait("document.querySelectorAll('#totals tbody tr').length === 2").await;
    let names = "[...document.querySelectorAll('#totals tbody th')].map((h) => h.textContent)";
    assert_eq!(browser.value(names).await, json!(["self-consistency", "single"]), "most spoken of first");
    browser.click("#totals thead th:first-child button").await;
    browser.click("#totals thead th:first-child button").await;
    assert_eq!(
        browser.value(names).await,
        json!(["single", "self-consistency"]),
        "sorted by name, downwards"
    );
    let sorted = "document.querySelector('#totals thead th').getAttribute('aria-sort')";
    assert_eq!(browser.value(sorted).await, "descending");
}
