//! `--out` of the commands that ask: every answered call is kept, and never made again.

mod support;

use serde_json::Value;
use std::collections::HashSet;
use std::process::Stdio;
use support::{Server, code, command, json_of, run, scratch, stderr};

/// `eval` over six problems, one at a time.
fn eval<'a>(server: &'a Server, out: &'a str) -> Vec<&'a str> {
    let asked = ["--endpoint", &server.url, "--model", "m", "--problems", "6", "--at-once", "1"];
    let strategy = ["eval", "--strategy", "self-consistency", "--set", "samples=3", "--json", "--quiet"];
    [&strategy[..], &asked[..], &["--out", out][..]].concat()
}

/// Without what the clock decides.
fn timeless(mut result: Value) -> Value {
    result["usage"]["seconds"] = Value::Null;
    result
}

/// How many different requests were answered; none may have been answered twice.
fn answered_once(server: &Server) -> usize {
    let bodies: Vec<String> =
        server.asked().iter().filter(|asked| asked.answered).map(|asked| asked.body.to_string()).collect();
    let different: HashSet<&String> = bodies.iter().collect();
    assert_eq!(different.len(), bodies.len(), "a call that was answered was made again");
    bodies.len()
}

#[test]
fn a_run_that_was_killed_goes_on_without_paying_twice() {
    let folder = scratch();
    let undisturbed = Server::start();
    let whole = json_of(&run(folder.path(), &eval(&undisturbed, "whole")));
    let calls = answered_once(&undisturbed);
    assert!(calls >= 6, "at least one call per problem");

    let server = Server::start();
    server.silent_from(4);
    let mut child = command(folder.path(), &eval(&server, "killed"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    server.wait_for(5);
    // SIGKILL: nothing of the process runs any more.
    child.kill().expect("the child can be killed");
    child.wait().expect("the child ends");
    server.silent_from(usize::MAX);

    let resumed = json_of(&run(folder.path(), &["resume", "killed", "--json", "--quiet"]));
    assert_eq!(answered_once(&server), calls, "what was answered before the kill was not asked again");
    assert_eq!(server.count(), calls + 1, "only the call that had no answer was made again");
    assert_eq!(timeless(resumed), timeless(whole), "the result is that of an undisturbed run");
}

#[test]
fn the_same_command_again_asks_nobody_and_says_the_same() {
    let folder = scratch();
    let server = Server::start();
    let first = run(folder.path(), &eval(&server, "run"));
    let calls = server.count();
    let again = run(folder.path(), &eval(&server, "run"));
    assert_eq!(json_of(&first), json_of(&again), "seconds included: they are those of the calls");
    assert_eq!(server.count(), calls);
    let metrics = std::fs::read_to_string(folder.path().join("run/metrics.jsonl")).expect("metrics");
    assert_eq!(metrics.lines().count(), 1, "one result, told twice: {metrics}");

    let mut other = eval(&server, "run");
    other.extend(["--seed", "2"]);
    let refused = run(folder.path(), &other);
    assert_eq!(code(&refused), 2, "{}", stderr(&refused));
    assert!(stderr(&refused).contains("another `asking.seed`"), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("hint: "), "{}", stderr(&refused));
    assert_eq!(server.count(), calls);
}

#[test]
fn a_run_that_ran_out_of_budget_goes_on_with_a_larger_one() {
    let folder = scratch();
    let server = Server::start();
    let mut short = eval(&server, "run");
    short.extend(["--max-calls", "3"]);
    let stopped = run(folder.path(), &short);
    assert_eq!(code(&stopped), 5, "{}", stderr(&stopped));
    assert!(
        stderr(&stopped).contains("answered calls kept: 3; `elenchus resume run`"),
        "{}",
        stderr(&stopped)
    );
    assert_eq!(server.count(), 3);
    let done = json_of(&run(folder.path(), &eval(&server, "run")));
    assert_eq!(
        done["usage"]["calls"].as_u64(),
        Some(server.count() as u64),
        "the account is that of the whole run"
    );
    answered_once(&server);
}

#[test]
fn ask_and_compare_keep_their_calls_too() {
    let folder = scratch();
    let server = Server::start();
    let ask =
        ["ask", "What is 2+2?", "--endpoint", &server.url, "--model", "m", "--out", "asked", "--json", "-q"];
    let first = json_of(&run(folder.path(), &ask));
    let calls = server.count();
    let again = json_of(&run(folder.path(), &["resume", "asked", "--json", "-q"]));
    assert_eq!((&first["answer"], &first["usage"]), (&again["answer"], &again["usage"]));
    assert_eq!(server.count(), calls);

    let compare = [
        "compare",
        "--strategy",
        "single",
        "--strategy",
        "self-consistency:samples=2",
        "--problems",
        "3",
        "--endpoint",
        &server.url,
        "--model",
        "m",
        "--out",
        "compared",
        "--json",
        "-q",
    ];
    let first = run(folder.path(), &compare);
    let calls = server.count();
    assert_eq!(json_of(&first), json_of(&run(folder.path(), &compare)));
    assert_eq!(server.count(), calls);
}
