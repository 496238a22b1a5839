//! `--out` of the commands that ask: every answered call is kept, and never made again.

#![expect(clippy::expect_used, reason = "a test helper that fails should stop the test")]

mod support;

use serde_json::Value;
use std::collections::HashSet;
use std::path::Path;
use std::process::{Output, Stdio};
use support::{Server, code, command, completion, json_of, run, scratch, stderr, write};

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

/// A bound ends `eval` with what was answered; what was paid for under it serves a larger one, at any number of problems at
/// once. Cut responses have no answer and are told.
#[test]
fn a_bound_leaves_a_result_and_nothing_is_paid_for_twice() {
    let folder = scratch();
    let server = Server::start();
    let asked =
        ["--endpoint", &server.url, "--model", "m", "--problems", "30", "--at-once", "16", "--json", "-q"];
    let eval = |tokens: &str| {
        let bound = ["eval", "--strategy", "single", "--out", "run", "--max-total-tokens", tokens];
        run(folder.path(), &[&bound[..], &asked[..]].concat())
    };
    // Each call costs 11 tokens and may write 1,024: every one goes with less.
    let stopped = eval("200");
    assert_eq!(code(&stopped), 5, "{}", stderr(&stopped));
    assert!(stderr(&stopped).contains("hint: "), "{}", stderr(&stopped));
    let part: Value = serde_json::from_slice(&stopped.stdout).expect("a result");
    let answered = part["problems"].as_u64().expect("a number");
    assert!((1..30).contains(&answered) && part["reached_bound"] == true, "{part}");
    let done = json_of(&eval("1000000"));
    assert_eq!(
        (done["problems"].as_u64(), &done["reached_bound"]),
        (Some(30), &Value::Bool(false)),
        "{done}"
    );
    assert_eq!(server.count(), 30, "one call for each problem");
}

#[test]
fn what_was_cut_is_told_and_has_no_answer() {
    let folder = scratch();
    let server = Server::answering(|body| {
        let mut reply = completion(body, &["Line 31: we look at 31".to_string()], false);
        reply["choices"][0]["finish_reason"] = "length".into();
        reply
    });
    let eval = ["eval", "--endpoint", &server.url, "--model", "m", "--problems", "3", "--json", "-q"];
    let found = json_of(&run(folder.path(), &eval));
    assert_eq!(found["abstained"], 3, "{found}");
    let remark = found["remark"].as_str().unwrap_or_default();
    assert!(remark.contains("3 of 3 responses were cut") && remark.contains("max_tokens"), "{remark}");
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

/// Names and contents of all files in a folder.
fn everything_in(folder: &Path) -> String {
    let mut all = String::new();
    for entry in std::fs::read_dir(folder).expect("the folder can be read").map_while(Result::ok) {
        all.push_str(&entry.path().display().to_string());
        match entry.path().is_dir() {
            true => all.push_str(&everything_in(&entry.path())),
            false => all.push_str(&String::from_utf8_lossy(&std::fs::read(entry.path()).expect("a file"))),
        }
    }
    all
}

fn everything_said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), stderr(output))
}

#[test]
fn user_and_password_of_an_endpoint_reach_the_server_and_nothing_else() {
    let folder = scratch();
    let server = Server::start();
    let named = |user: &str| server.url.replace("http://", &format!("http://{user}@"));
    let role = format!("judge=m@{}", named("bob:hush-role"));
    let eval = |url: &str, more: &[&str]| {
        let fixed = ["eval", "--strategy", "best-of-n", "--set", "samples=2", "--set", "evaluator=judge"];
        let asked = [
            "--model",
            "m",
            "--problems",
            "3",
            "--at-once",
            "1",
            "--traces",
            "traces.jsonl",
            "--role",
            &role,
        ];
        let output = run(folder.path(), &[&fixed[..], &asked[..], &["--endpoint", url], more].concat());
        let said = everything_said(&output);
        assert!(!said.contains("hush"), "{said}");
        output
    };
    let url = named("ann:hush-hush");
    // With a folder and without, stopped in the middle, so that all that is kept is there.
    for more in [&["--out", "run", "--max-calls", "4"][..], &["--max-calls", "4"]] {
        let stopped = eval(&url, more);
        assert_eq!(code(&stopped), 5, "{}", stderr(&stopped));
    }
    let sent: HashSet<Option<String>> = server.asked().into_iter().map(|asked| asked.authorization).collect();
    let basic = |encoded: &str| Some(format!("Basic {encoded}"));
    assert_eq!(sent, HashSet::from([basic("YW5uOmh1c2gtaHVzaA=="), basic("Ym9iOmh1c2gtcm9sZQ==")]));
    let kept = everything_in(folder.path());
    assert!(kept.contains("***@127.0.0.1") && !kept.contains("hush"), "{kept}");

    // What was not written is missed, and the same command goes on, also with another password.
    let resumed = run(folder.path(), &["resume", "run"]);
    let said = everything_said(&resumed);
    assert_eq!(code(&resumed), 2, "{said}");
    assert!(said.contains("http://***@127.0.0.1") && said.contains("the same command again"), "{said}");
    let before = server.count();
    let done = eval(&named("ann:hush-anew"), &["--out", "run"]);
    assert_eq!(code(&done), 0, "{}", stderr(&done));
    let mut later = server.asked().split_off(before).into_iter().map(|asked| asked.authorization);
    assert!(later.all(|sent| [basic("YW5uOmh1c2gtYW5ldw=="), basic("Ym9iOmh1c2gtcm9sZQ==")].contains(&sent)));
    let kept = everything_in(folder.path());
    assert!(!kept.contains("hush"), "{kept}");
    assert!(folder.path().join("traces.jsonl").exists());
}

#[test]
fn no_message_repeats_a_password() {
    let folder = scratch();
    write(folder.path(), "elenchus.toml", "[endpoint.layers]\nretry.attempts = 1\n");
    let ask = ["ask", "What is 2+2?", "--model", "m"];
    let eval = ["eval", "--strategy", "critique-and-refine", "--model", "m", "--problems", "1"];
    let table = "endpoint = \"http://ann:hush-hush@127.0.0.1:1/v1\"\n";
    write(folder.path(), "table.toml", table);
    write(folder.path(), "scheme.toml", "[endpoint]\nbase_url = \"ann:hush-hush@127.0.0.1:1/v1\"\n");
    for (arguments, wanted) in [
        ([&ask[..], &["--endpoint", "http://ann:hush-hush@127.0.0.1:1/v1"]].concat(), 4),
        ([&ask[..], &["--endpoint", "ann:hush-hush@127.0.0.1:1/v1"]].concat(), 4),
        ([&ask[..], &["--endpoint", "http://ann:hush/hush@127.0.0.1:1/v1"]].concat(), 4),
        ([&ask[..], &["http://ann:hush-hush@127.0.0.1:1/v1"]].concat(), 2),
        ([&ask[..], &["--config", "table.toml"]].concat(), 2),
        ([&ask[..], &["--config", "scheme.toml"]].concat(), 2),
        ([&eval[..], &["--role", "critic=@http://ann:hush-hush@127.0.0.1:1/v1"]].concat(), 2),
        (vec!["serve", "--port", "0", "--upstream", "ann:hush-hush@127.0.0.1:1/v1"], 2),
    ] {
        let output = run(folder.path(), &arguments);
        let said = everything_said(&output);
        assert!(!said.contains("hush") && said.contains("hint:"), "{arguments:?}: {said}");
        assert_eq!(code(&output), wanted, "{arguments:?}: {said}");
    }
}
