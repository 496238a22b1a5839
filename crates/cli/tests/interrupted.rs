//! Commands that are stopped in the middle: Ctrl-C, a kill, a full disk, a run folder in use. Nothing that was done is lost.

#![cfg(unix)]
#![expect(clippy::expect_used, clippy::panic, reason = "a test helper that fails should stop the test")]

mod support;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use support::{Server, code, command, json_of, run, scratch, stderr};

fn start(folder: &Path, arguments: &[&str]) -> Child {
    let mut command = command(folder, arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the binary starts")
}

fn send(child: &Child, signal: Signal) {
    let id = i32::try_from(child.id()).expect("a process id");
    kill(Pid::from_raw(id), signal).expect("the process takes signals");
}

/// Waits until something is so, while the process lives.
fn wait_while_alive(child: &mut Child, what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..60_000 {
        if is_so() {
            return;
        }
        let ended = child.try_wait().expect("its state is known");
        assert!(ended.is_none(), "the process ended before {what}: {ended:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("{what} did not come");
}

/// Two rounds, small enough for a test. The second trains on with the weights and the optimiser of the first.
fn improve(out: &str) -> Vec<&str> {
    let mut arguments = vec!["improve", "--out", out, "--rounds", "2", "--no-control", "--json", "--quiet"];
    for setting in [
        "rounds.problems=24",
        "rounds.samples=2",
        "rounds.probe.problems=8",
        "rounds.probe.samples=2",
        "rounds.train.steps=3",
        "rounds.train.batch=4",
        "rounds.train.matrices=muon",
        "rounds.continuation=online",
        "rounds.evaluate.problems=40",
        "rounds.evaluate.samples=2",
    ] {
        arguments.extend(["--set", setting]);
    }
    arguments.extend(["--task-set", "steps=2"]);
    arguments
}

fn checkpoint(run: &Path, round: usize) -> bool {
    let found = std::fs::read_dir(run.join("checkpoints")).into_iter().flatten().flatten();
    let name = format!("-round-{round}");
    found.into_iter().any(|entry| entry.file_name().to_string_lossy().ends_with(&name))
}

/// Starts `improve` in `folder/NAME` and sends a signal to it between its first checkpoint and its second.
fn stopped_between_checkpoints(folder: &Path, name: &str, signal: Signal) -> Output {
    let run = folder.join(name);
    for _ in 0..10 {
        let mut child = start(folder, &improve(name));
        wait_while_alive(&mut child, "the first checkpoint", || checkpoint(&run, 1));
        send(&child, signal);
        let output = child.wait_with_output().expect("the process ends");
        if !checkpoint(&run, 2) {
            return output;
        }
        // This thread was away too long.
        std::fs::remove_dir_all(&run).expect("the run is removed");
    }
    panic!("the second checkpoint was always there before the signal");
}

/// Without what the clock decides.
fn timeless(mut result: Value) -> Value {
    for field in ["seconds", "report", "model"] {
        result[field] = Value::Null;
    }
    for round in result["rounds"].as_array_mut().into_iter().flatten() {
        round["seconds"] = Value::Null;
    }
    result
}

fn weights(run: &Path) -> Vec<u8> {
    std::fs::read(run.join("model/model.safetensors")).expect("the trained model")
}

#[test]
fn improve_that_was_stopped_after_a_checkpoint_ends_with_the_same_weights() {
    let folder = scratch();
    let whole = json_of(&run(folder.path(), &improve("whole")));
    assert_eq!(whole["rounds"].as_array().map(Vec::len), Some(3), "the start and two rounds");
    for (name, signal) in [("killed", Signal::SIGKILL), ("interrupted", Signal::SIGINT)] {
        let output = stopped_between_checkpoints(folder.path(), name, signal);
        if signal == Signal::SIGKILL {
            assert_eq!(output.status.signal(), Some(9), "the kill struck a living process");
        } else {
            assert_eq!(code(&output), 130, "{}", stderr(&output));
            let hint = format!("hint: `elenchus resume {name}` goes on");
            assert!(stderr(&output).contains(&hint), "{}", stderr(&output));
            assert!(output.stdout.is_empty(), "no result yet");
        }
        assert!(!folder.path().join(name).join("report.html").exists(), "{name}: not finished");
        let resumed = json_of(&run(folder.path(), &["resume", name, "--json", "--quiet"]));
        assert_eq!(timeless(resumed), timeless(whole.clone()), "{name}: the result of an undisturbed run");
        let same = weights(&folder.path().join(name)) == weights(&folder.path().join("whole"));
        assert!(same, "{name}: the optimiser went on where it was, to the last bit");
    }
}

/// Long commands beside `improve`, each with what it says to a Ctrl-C.
#[test]
fn every_long_command_says_how_to_go_on() {
    let folder = scratch();
    for (arguments, hint) in [
        (vec!["pretrain", "--out", "run-1", "-q"], "hint: `elenchus resume run-1` goes on"),
        (
            vec!["reproduce", "rpc", "--set", "questions=2000", "--out", "run-2", "-q"],
            "hint: `elenchus resume run-2` goes on",
        ),
        (vec!["models", "embedded", "--card", "-q"], "hint: the same command begins anew"),
        (
            vec!["lab", "build", "own-judge", "--seeds", "1", "-q"],
            "hint: the same `elenchus lab build` goes on",
        ),
    ] {
        let mut output = None;
        // A signal that comes before the command listens to it ends the process at once.
        for milliseconds in [300, 1000, 3000, 10_000] {
            let mut child = start(folder.path(), &arguments);
            std::thread::sleep(Duration::from_millis(milliseconds));
            assert_eq!(child.try_wait().expect("its state is known"), None, "{arguments:?} takes longer");
            send(&child, Signal::SIGINT);
            let ended = child.wait_with_output().expect("the process ends");
            if ended.status.signal().is_none() {
                output = Some(ended);
                break;
            }
            for run in ["run-1", "run-2"] {
                let _ = std::fs::remove_dir_all(folder.path().join(run));
            }
        }
        let output = output.unwrap_or_else(|| panic!("{arguments:?} never listened"));
        assert_eq!(code(&output), 130, "{}", stderr(&output));
        assert!(stderr(&output).contains(hint), "{arguments:?}: {}", stderr(&output));
        assert!(!stderr(&output).contains("RUN"), "{arguments:?}: {}", stderr(&output));
    }
}

/// `eval` over six problems, one at a time.
fn eval<'a>(server: &'a Server, more: &[&'a str]) -> Vec<&'a str> {
    let asked = ["--endpoint", &server.url, "--model", "m", "--problems", "6", "--at-once", "1"];
    let strategy = ["eval", "--strategy", "self-consistency", "--set", "samples=3", "--json", "--quiet"];
    [&strategy[..], &asked[..], more].concat()
}

fn without_seconds(mut result: Value) -> Value {
    result["usage"]["seconds"] = Value::Null;
    result
}

#[test]
fn eval_that_was_interrupted_goes_on_without_paying_twice() {
    let folder = scratch();
    let undisturbed = Server::start();
    let whole = json_of(&run(folder.path(), &eval(&undisturbed, &["--out", "whole"])));

    // In a folder of its own, and in the cache where no folder was named.
    for more in [&["--out", "run"][..], &[]] {
        let server = Server::start();
        server.silent_from(4);
        let mut child = start(folder.path(), &eval(&server, more));
        wait_while_alive(&mut child, "the fifth call", || server.count() >= 5);
        send(&child, Signal::SIGINT);
        let output = child.wait_with_output().expect("the process ends");
        let said = stderr(&output);
        assert_eq!(code(&output), 130, "{said}");
        assert!(said.contains("answered calls kept: 4"), "{said}");
        let named = said.split("hint: `elenchus resume ").nth(1).and_then(|rest| rest.split('`').next());
        let named = named.unwrap_or_else(|| panic!("a hint how to go on: {said}")).to_string();
        assert_eq!(named == "run", !more.is_empty(), "{said}");
        server.silent_from(usize::MAX);

        let again = if more.is_empty() { eval(&server, &[]) } else { vec!["resume", &named, "--json", "-q"] };
        let resumed = json_of(&run(folder.path(), &again));
        assert_eq!(server.count(), undisturbed.count() + 1, "only the call without an answer was made again");
        assert_eq!(without_seconds(resumed), without_seconds(whole.clone()));
        assert_eq!(folder.path().join(&named).exists(), !more.is_empty(), "the cache is tidied up");
    }
}

#[test]
fn what_an_endpoint_answered_before_it_failed_is_kept_without_being_asked_to() {
    let folder = scratch();
    let server = Server::start();
    server.silent_from(3);
    let layers = "[endpoint.layers]\ntimeouts.first_byte_seconds = 0.2\nretry.attempts = 1\n";
    support::write(folder.path(), "elenchus.toml", layers);
    let failed = run(folder.path(), &eval(&server, &[]));
    assert_eq!(code(&failed), 4, "{}", stderr(&failed));
    assert!(stderr(&failed).contains("answered calls kept: 3; `elenchus resume "), "{}", stderr(&failed));
    server.silent_from(usize::MAX);
    let done = json_of(&run(folder.path(), &eval(&server, &[])));
    let answered = server.asked().iter().filter(|asked| asked.answered).count();
    assert_eq!(done["usage"]["calls"].as_u64(), Some(answered as u64), "none of them was made twice");

    // What is done is done: the same command later asks anew.
    json_of(&run(folder.path(), &eval(&server, &[])));
    assert_eq!(server.asked().iter().filter(|asked| asked.answered).count(), 2 * answered);
}

#[test]
fn two_processes_do_not_work_on_one_run_folder() {
    let folder = scratch();
    let server = Server::start();
    server.silent_from(2);
    let mut first = start(folder.path(), &eval(&server, &["--out", "run"]));
    wait_while_alive(&mut first, "the third call", || server.count() >= 3);
    for arguments in [eval(&server, &["--out", "run"]), vec!["resume", "run", "--json"]] {
        let second = run(folder.path(), &arguments);
        assert_eq!(code(&second), 6, "{}", stderr(&second));
        let holder = format!("in use by process {}", first.id());
        assert!(stderr(&second).contains(&holder), "{}", stderr(&second));
        assert!(stderr(&second).contains("hint: "), "{}", stderr(&second));
    }
    assert_eq!(server.count(), 3, "the second asked nobody");
    first.kill().expect("it can be killed");
    first.wait().expect("it ends");
}

/// Runs `improve --out disk/run` by a script in which `improve` stands for it, where the disk is too small for a
/// checkpoint; the script makes room then and resumes. Its last line is the result, as an undisturbed run has it.
fn on_a_small_disk(script: &str) {
    let folder = scratch();
    let whole = json_of(&run(folder.path(), &improve("whole")));
    std::fs::create_dir(folder.path().join("disk")).expect("a folder");
    let output = Command::new("sh")
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_elenchus")])
        .args(improve("disk/run"))
        .current_dir(folder.path())
        .env("XDG_CACHE_HOME", folder.path().join("cache"))
        .output()
        .expect("a shell");
    let said = stderr(&output);
    assert!(said.contains("ended with 6\n"), "a full disk is no failure of the model: {said}");
    assert!(said.contains("error: cannot write `"), "{said}");
    let hint = said.lines().find(|line| line.starts_with("hint: ")).unwrap_or_default();
    assert!(hint.contains("`elenchus resume disk/run`"), "how to go on: {said}");
    let resumed: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no result: {said}"));
    assert_eq!(timeless(resumed), timeless(whole), "nothing was lost");
}

/// With the signal ignored, writes beyond the limit fail as on a full disk, and that needs no right that anybody lacks.
/// `ulimit -f` counts blocks of 512 or 1024 bytes.
const BY_A_LIMIT: &str = r#"(trap '' XFSZ; ulimit -f 2000 || exit
    "$@"; echo "ended with $?" >&2); "$1" resume disk/run --json --quiet"#;

#[test]
fn a_full_disk_is_told_and_loses_nothing() {
    // In a mount namespace of its own, so that nothing stays mounted however this ends: with the right to mount, or as the
    // user that is root in a user namespace. Where the system allows neither, by a limit.
    let script = r#"for inside in "unshare -m" "unshare -rm"; do
            $inside sh -c 'mount -t tmpfs -o size=2m tmpfs disk' 2>/dev/null || continue
            exec $inside sh -c '
                mount -t tmpfs -o size=2m tmpfs disk
                "$@"; echo "ended with $?" >&2
                mount -o remount,size=512m tmpfs disk; "$1" resume disk/run --json --quiet' sh "$@"
        done
        "#;
    on_a_small_disk(&format!("{script}{BY_A_LIMIT}"));
}

#[test]
fn a_file_size_limit_is_told_and_loses_nothing() {
    on_a_small_disk(BY_A_LIMIT);
}

#[cfg(target_os = "linux")]
#[test]
fn a_result_that_cannot_be_written_is_told() {
    let folder = scratch();
    // What is written there fails for want of space.
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("the device");
    let output = command(folder.path(), &["tasks"]).stdout(full).output().expect("the binary starts");
    assert_eq!(code(&output), 6, "{}", stderr(&output));
    assert!(stderr(&output).contains("No space left"), "{}", stderr(&output));
}
