//! The official OpenAI clients of Python and JavaScript; skipped, with the reason, where they are not installed
//! (`pip install openai`; `npm install openai`, with `NODE_PATH` naming its `node_modules`).

use crate::support::{Running, Stub};
use std::path::Path;
use std::process::Command;

async fn runs(program: &str, check: &[&str], file: &str) {
    let installed = Command::new(program).args(check).output();
    if !installed.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: `{program} {}` fails: the client is not installed", check.join(" "));
        return;
    }
    let stub = Stub::answering(&["Answer: 4"]).await;
    let gateway = Running::before(&[&stub]).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(file);
    let mut command = Command::new(program);
    command.arg(&script).arg(&gateway.url).env("NO_PROXY", "127.0.0.1");
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_works() {
    runs("python3", &["-c", "import openai"], "client.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_javascript_client_works() {
    runs("node", &["-e", "require('openai')"], "client.cjs").await;
}
