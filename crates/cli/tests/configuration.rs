//! `elenchus.toml`: endpoint and prices of a working folder.

mod support;

use support::{Server, code, command, json_of, run, scratch, stderr, write};

fn configuration(server: &Server, rest: &str) -> String {
    format!(
        "[endpoint]\nbase_url = \"{}\"\nmodel = \"little\"\napi_key_variable = \"MY_KEY\"\n{rest}",
        server.url
    )
}

const PRICE: &str = "\n[prices.\"little\"]\ninput = 1e6\noutput = 2e6\n";
const ASK: [&str; 7] = ["ask", "What is 2+2?", "--strategy", "single", "--json", "-q", "--seed=3"];

fn ask<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&ASK[..], more].concat()
}

#[test]
fn the_configured_endpoint_is_asked_with_its_model_and_its_key() {
    let folder = scratch();
    let server = Server::start();
    write(folder.path(), "elenchus.toml", &configuration(&server, PRICE));
    let output = command(folder.path(), &ask(&[])).env("MY_KEY", "secret-1").output();
    let answer = json_of(&output.unwrap());
    let asked = server.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].body["model"], "little");
    assert_eq!(asked[0].authorization.as_deref(), Some("Bearer secret-1"));
    // 10 prompt tokens at 1, 5 completion tokens at 2.
    assert_eq!(answer["usage"]["money"], 20.0);

    let other = command(folder.path(), &ask(&["--model", "large"])).env("MY_KEY", "secret-1").output();
    assert_eq!(json_of(&other.unwrap())["usage"]["money"], 0.0, "no price is known for it");
    assert_eq!(server.asked()[1].body["model"], "large", "the command line wins");

    let elsewhere = Server::start();
    let arguments = ask(&["--endpoint", &elsewhere.url, "--model", "little"]);
    let output = command(folder.path(), &arguments).env("MY_KEY", "secret-1").output().unwrap();
    json_of(&output);
    assert_eq!(elsewhere.asked()[0].authorization, None, "the key of one server is not sent to another");
    assert_eq!(server.count(), 2);
}

#[test]
fn money_is_bounded_by_the_price_table() {
    let folder = scratch();
    let server = Server::start();
    let price = "\n[prices.\"little\"]\ninput = 1e4\noutput = 2e6\n";
    write(folder.path(), "money.toml", &configuration(&server, price));
    let eval = ["eval", "--problems", "5", "--at-once", "1", "--json", "-q", "--config", "money.toml"];
    let output = run(folder.path(), &[&eval[..], &["--max-money", "55"][..]].concat());
    assert_eq!(code(&output), 5, "{}", stderr(&output));
    assert_eq!(
        server.count(),
        3,
        "10.1 each: the third call begins with 34.8 left, 24.7 are too few for a prompt and an answer"
    );

    let unknown = run(folder.path(), &[&eval[..], &["--max-money", "50", "--model", "litle"][..]].concat());
    assert_eq!(code(&unknown), 2, "{}", stderr(&unknown));
    assert!(stderr(&unknown).contains("needs a price for the model `litle`"), "{}", stderr(&unknown));
    assert!(stderr(&unknown).contains("did you mean `little`"), "{}", stderr(&unknown));
    assert_eq!(server.count(), 3, "said before the first call");

    let estimate =
        ["estimate", "--strategy", "single", "--prompt-tokens", "1", "--completion-tokens", "1", "--json"];
    let with = json_of(&run(folder.path(), &[&estimate[..], &["--config", "money.toml"][..]].concat()));
    assert_eq!(with["money"], 2.01);
    assert!(json_of(&run(folder.path(), &estimate))["money"].is_null(), "no file, no price");
}

#[test]
fn the_embedded_model_is_still_there_when_it_is_named() {
    let folder = scratch();
    let server = Server::start();
    write(folder.path(), "elenchus.toml", &configuration(&server, ""));
    let arguments = ["ask", "g=50;e=g-1;e?", "--model", "embedded", "--strategy", "single", "--json", "-q"];
    assert!(json_of(&run(folder.path(), &arguments))["usage"]["completion_tokens"].as_u64() > Some(0));
    assert_eq!(server.count(), 0);
}

#[test]
fn what_is_wrong_is_named_with_file_line_and_nearest_word() {
    let folder = scratch();
    for (text, line, word) in [
        ("[endpoint]\nbase_ulr = \"http://x\"\n", 2, "did you mean `base_url`"),
        ("[endpoint]\nbase_url = \"localhost\"\n", 2, "begins with http:// or https://"),
        ("[prices.m]\ninput = 1\noutputs = 2\n", 3, "did you mean `output`"),
        ("\n[prices.m]\ninput = \"much\"\noutput = 1\n", 3, "hint: docs/guide.md"),
        ("[prices.m]\ninput = -1\noutput = 1\n", 2, "-1 is no price"),
        ("[endpoint\n", 1, "hint: "),
    ] {
        write(folder.path(), "elenchus.toml", text);
        let output = run(folder.path(), &ask(&[]));
        let message = stderr(&output);
        assert_eq!(code(&output), 2, "{message}");
        assert!(message.contains(&format!("elenchus.toml:{line}: ")), "{message}");
        assert!(message.contains(word), "{message}");
    }
    let missing = run(folder.path(), &ask(&["--config", "none.toml"]));
    assert_ne!(code(&missing), 0);
    assert!(
        stderr(&missing).contains("none.toml") && stderr(&missing).contains("hint: "),
        "{}",
        stderr(&missing)
    );
}

/// The example of the guide is a configuration that the program reads.
#[test]
fn the_example_in_the_guide_is_read() {
    let guide = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide.md")).unwrap();
    let example = guide.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let folder = scratch();
    write(folder.path(), "elenchus.toml", example);
    let estimate =
        ["estimate", "--strategy", "single", "--prompt-tokens", "1000000", "--completion-tokens", "0"];
    let with = json_of(&run(folder.path(), &[&estimate[..], &["--json"][..]].concat()));
    assert_eq!(with["money"], 0.15, "the price of the endpoint's model");
}
