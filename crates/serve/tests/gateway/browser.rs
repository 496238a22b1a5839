//! A headless browser on the gateway's page.

use crate::support::Running;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A browser with one tab.
pub struct Browser {
    driver: Child,
    session: String,
    client: reqwest::Client,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // A driver that is killed leaves its browser behind: the session is ended first.
        let _ = self.end_session();
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
    pub async fn open(width: u32) -> Option<Browser> {
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

    /// Closes the browser, without a runtime: a test that panics is no place to wait for a future.
    fn end_session(&self) -> std::io::Result<()> {
        let Some((host, path)) = self.session.strip_prefix("http://").and_then(|url| url.split_once('/'))
        else {
            return Ok(());
        };
        let mut stream = TcpStream::connect(host)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "DELETE /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
        // The answer comes when the browser is gone.
        stream.read_to_end(&mut Vec::new()).map(|_| ())
    }

    pub async fn command(&self, path: &str, body: Value) -> Value {
        let answer = self.client.post(format!("{}/{path}", self.session)).json(&body).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        assert!(answer["value"].get("error").is_none(), "{path} {body}: {answer}");
        answer["value"].clone()
    }

    pub async fn go(&self, url: &str) {
        self.command("url", json!({"url": url})).await;
    }

    /// The value of an expression in the page.
    pub async fn value(&self, expression: &str) -> Value {
        self.command("execute/sync", json!({"script": format!("return {expression};"), "args": []})).await
    }

    /// Waits until an expression is true.
    pub async fn wait(&self, expression: &str) {
        for _ in 0..400 {
            if self.value(expression).await == true {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let page = self.value("document.body.innerText").await;
        panic!("never true: {expression}\n{}", page.as_str().unwrap_or_default());
    }

    pub async fn element(&self, selector: &str) -> String {
        let found = self.command("element", json!({"using": "css selector", "value": selector})).await;
        found.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_string()
    }

    pub async fn click(&self, selector: &str) {
        let element = self.element(selector).await;
        self.command(&format!("element/{element}/click"), json!({})).await;
    }

    pub async fn keys(&self, selector: &str, text: &str) {
        let element = self.element(selector).await;
        self.command(&format!("element/{element}/value"), json!({"text": text})).await;
    }

    /// Writes a picture where `ELENCHUS_SCREENSHOTS` names a folder.
    pub async fn picture(&self, name: &str) {
        let Some(folder) = std::env::var_os("ELENCHUS_SCREENSHOTS") else { return };
        let answer = self.client.get(format!("{}/screenshot", self.session)).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        let text = answer["value"].as_str().unwrap();
        std::fs::write(PathBuf::from(folder).join(format!("{name}.b64")), text).unwrap();
    }

    /// What the page wrote to the console as an error.
    pub async fn errors(&self) -> Vec<String> {
        let log = self.command("se/log", json!({"type": "browser"})).await;
        log.as_array()
            .into_iter()
            .flatten()
            .filter(|entry| entry["level"] == "SEVERE")
            .map(|entry| entry["message"].to_string())
            .collect()
    }
}

/// Asks on the page and waits for the end.
pub async fn ask(browser: &Browser, recipe: &str) {
    let choose = format!("document.getElementById('recipe').value = '{recipe}'");
    browser.value(&choose).await;
    browser.keys("#question", "What is 2+2?").await;
    browser.keys("#question", "\u{e009}\u{e007}").await;
    browser.wait("/^(Answered|There is no)/.test(document.getElementById('status').textContent)").await;
}

/// Takes the words of a field away and writes others, by keyboard.
pub async fn write(browser: &Browser, selector: &str, text: &str) {
    browser.keys(selector, &format!("\u{e009}a\u{e000}{text}")).await;
}

pub const SENDS: &str = "\u{e009}\u{e007}";

/// Chooses in a picker, or writes in a field, as a person does.
pub async fn choose(browser: &Browser, id: &str, value: &str) {
    let (element, value) = (format!("document.getElementById('{id}')"), json!(value));
    browser
        .value(&format!("({element}.value = {value}, {element}.dispatchEvent(new Event('change')))"))
        .await;
    browser.value(&format!("{element}.dispatchEvent(new Event('input'))")).await;
}

/// Opens a trace of its own page.
pub async fn open(browser: &Browser, gateway: &Running, id: &str) {
    browser.go("about:blank").await;
    browser.go(&format!("{}/#trace={id}", gateway.url)).await;
    browser.wait("document.querySelector('#trace .react:not([hidden])') !== null").await;
}
