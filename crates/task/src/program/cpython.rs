//! Real CPython, in two jails: one for the program, one for its tests. This process stands between them and passes the
//! values on, so that each failure is attributed to the side where it happened.

use super::helper::{Bounds, Helper, Role, Scratch, Silence, broken};
use super::jail::{JailReport, JailRequest};
use super::outcome::{Engine, ProgramOutcome, RunReport, Tally, TestResult, clip};
use super::suite::Suite;
use super::wire::Frame;
use crate::TaskError;
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Holds the program.
const PROGRAM: &str = include_str!("program.py");
/// Runs the tests.
const SCRIPT: &str = include_str!("script.py");
/// Longest time that a jail and the interpreter in it may take to start.
const START: Duration = Duration::from_secs(60);
const INSTALL: &str = "install CPython 3.8 or newer, or name it with the setting `python`";

/// What is known of an interpreter on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Python {
    /// The real executable, behind links and start scripts.
    executable: String,
    /// What it reads: itself, its library, the system's libraries.
    readable: Vec<String>,
}

/// Asks an interpreter where it and its library are. Asked once per name.
///
/// # Errors
/// There is none of this name, or it is older than 3.8.
pub(super) fn find(name: &str) -> Result<Arc<Python>, TaskError> {
    static KNOWN: Mutex<Option<HashMap<String, Arc<Python>>>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let known = known.get_or_insert_with(HashMap::new);
    if let Some(python) = known.get(name) {
        return Ok(Arc::clone(python));
    }
    let question = "import sys\nprint(sys.version_info >= (3, 8) and sys.implementation.name)\n\
                    print(sys.executable)\nprint(sys.base_prefix)\nprint(sys.base_exec_prefix)\n\
                    print('\\n'.join(sys.path))";
    let output = Command::new(name)
        .args(["-I", "-S", "-c", question])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(|error| broken(format!("`{name}` cannot be run: {error}"), INSTALL))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = text.lines().collect();
    let [answer, executable, prefix, exec_prefix, path @ ..] = lines.as_slice() else {
        return Err(broken(format!("`{name}` is no Python: it ended with {}", output.status), INSTALL));
    };
    if *answer != "cpython" {
        return Err(broken(format!("`{name}` is older than Python 3.8, or no CPython"), INSTALL));
    }
    let executable = std::fs::canonicalize(executable)
        .map_err(|error| broken(format!("`{executable}`: {error}"), INSTALL))?;
    let mut readable: Vec<PathBuf> = vec![executable.clone()];
    readable.extend(path.iter().filter(|path| path.starts_with('/')).map(PathBuf::from));
    for prefix in [prefix, exec_prefix] {
        // A shared libpython stands here. `/usr/lib` is listed below anyway.
        readable.push(Path::new(prefix).join("lib"));
    }
    let system = ["/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/etc/localtime"];
    readable.extend(system.map(PathBuf::from));
    let mut kept: Vec<String> = Vec::new();
    for path in readable.iter().filter(|path| path.exists()) {
        // Folders inside of folders that are there already need no place of their own.
        if !kept.iter().any(|kept| path.starts_with(kept)) {
            kept.push(path.display().to_string());
        }
    }
    let python = Arc::new(Python { executable: executable.display().to_string(), readable: kept });
    known.insert(name.to_string(), Arc::clone(&python));
    Ok(python)
}

/// Starts a jail with a script in it; the script says `R` when it is ready.
fn start(python: &Python, script: &str, bounds: &Bounds) -> Result<Helper, TaskError> {
    let scratch = Scratch::new()?;
    let request = JailRequest {
        executable: python.executable.clone(),
        arguments: ["-I", "-S", "-B", "-c", script].map(str::to_string).to_vec(),
        readable: python.readable.clone(),
        scratch: scratch.path().display().to_string(),
        memory_bytes: bounds.memory_bytes,
        cpu_seconds: bounds.seconds.ceil().max(1.0) as u64,
        file_bytes: bounds.output_bytes,
        layers: bounds.layers,
    };
    Helper::start(&Role::Jail(request), Some(scratch))
}

/// Waits until jail and script are ready. Nothing that is not trusted has run until then, so whatever goes wrong is
/// the machine's.
fn ready(helper: &mut Helper) -> Result<JailReport, TaskError> {
    let deadline = Instant::now() + START;
    let hint = "the jail needs Linux with seccomp, and user namespaces or Landlock (5.13); see the guide on programs";
    let mut report = None;
    loop {
        match helper.receive(deadline) {
            Ok(Frame { kind: b'J', payload }) => report = serde_json::from_slice(&payload).ok(),
            Ok(Frame { kind: b'R', .. }) => {
                return report.ok_or_else(|| broken("the jail did not say what protects it", "report this"));
            }
            Ok(Frame { payload, .. }) => {
                let said = String::from_utf8_lossy(&payload);
                return Err(broken(format!("no jail: {}", clip(&said, 500)), hint));
            }
            Err(silence) => {
                let said = clip(&helper.said(), 1_000);
                let what = match silence {
                    Silence::Deadline => "did not start in time".to_string(),
                    Silence::Ended(status) => format!("ended at its start ({status})"),
                    Silence::Nonsense(problem) => problem,
                };
                return Err(broken(format!("Python in the jail {what}: {said}"), hint));
            }
        }
    }
}

/// Which layers a jail on this machine has.
///
/// # Errors
/// There is no Python or no jail.
pub(super) fn probe(name: &str, bounds: &Bounds) -> Result<JailReport, TaskError> {
    ready(&mut start(&*find(name)?, PROGRAM, bounds)?)
}

/// The signal that ended what ran in a jail; the jail tells it as 128 + its number.
fn signal_of(status: &ExitStatus) -> Option<i32> {
    use std::os::unix::process::ExitStatusExt;
    status.signal().or_else(|| status.code().filter(|code| (129..=192).contains(code)).map(|code| code - 128))
}

/// What the end of the program's process means.
fn end_of(silence: &Silence, said: &str) -> ProgramOutcome {
    let of_status = |status: &ExitStatus| match signal_of(status) {
        // SIGKILL that is not ours and SIGXCPU: the limit of CPU time.
        Some(9 | 24) => ProgramOutcome::Time,
        Some(signal) => ProgramOutcome::Crash(format!("ended by signal {signal}: {}", clip(said, 200))),
        None => ProgramOutcome::RuntimeError(format!(
            "the program ended the interpreter before the tests were done ({status}): {}",
            clip(said, 200)
        )),
    };
    match silence {
        Silence::Deadline => ProgramOutcome::Time,
        Silence::Ended(status) => of_status(status),
        Silence::Nonsense(problem) => ProgramOutcome::RuntimeError(format!("the program returned {problem}")),
    }
}

/// The words of an exception that the program's side describes as `[type, nearest built-in type, text]`.
fn exception(payload: &[u8]) -> (String, String) {
    let parts: Vec<String> = serde_json::from_slice(payload).unwrap_or_default();
    let part = |index: usize| parts.get(index).cloned().unwrap_or_default();
    let words = match part(2) {
        text if text.is_empty() => part(0),
        text => format!("{}: {text}", part(0)),
    };
    (part(1), clip(&words, 300))
}

/// Runs a program against its tests.
///
/// # Errors
/// There is no Python, no jail, or the tests themselves are broken.
pub(super) fn run(
    name: &str,
    problem: &str,
    program: &str,
    suite: &Suite,
    bounds: &Bounds,
) -> Result<RunReport, TaskError> {
    let python = find(name)?;
    // Both start at the same time.
    let mut ours = start(&python, SCRIPT, bounds)?;
    let mut theirs = start(&python, PROGRAM, bounds)?;
    ready(&mut theirs)?;
    ready(&mut ours)?;
    let mut tally = Tally::new(suite.tests.len());
    // The limit of CPU time is kept by the kernel. The clock bounds sleeping and waiting, more loosely, because a program
    // on a busy machine must not be called slow.
    let deadline = Instant::now() + Duration::from_secs_f64(bounds.seconds * 4.0 + 5.0);
    let text = |text: &str| Value::String(text.to_string()).to_string().into_bytes();
    let done = |tally: Tally, end| Ok(tally.report(end, Engine::Cpython));
    theirs.send(b'P', &text(program));
    match theirs.receive(deadline) {
        Ok(Frame { kind: b'V', .. }) => {}
        Ok(Frame { kind: b'S', payload }) => {
            return done(tally, Some(ProgramOutcome::CompileError(exception(&payload).1)));
        }
        Ok(Frame { payload, .. }) => {
            return done(tally, Some(raised(&payload).unwrap_or_else(ProgramOutcome::RuntimeError)));
        }
        Err(silence) => return done(tally, Some(end_of(&silence, &theirs.said()))),
    }
    ours.send(b'T', &text(&suite.script));
    let broken_tests = |what: String| TaskError::Problem {
        id: problem.to_string(),
        problem: format!("its tests cannot be run: {what}"),
        hint: "tests call the program with plain values and compare what it returns".to_string(),
    };
    let mut last: Option<String> = None;
    loop {
        match ours.receive(deadline) {
            Ok(Frame { kind: b'C', payload }) => {
                theirs.send(b'C', &payload);
                match theirs.receive(deadline) {
                    Ok(frame) if frame.kind == b'V' => {
                        last = None;
                        ours.send(b'V', &frame.payload);
                    }
                    Ok(frame) => {
                        match raised(&frame.payload) {
                            Ok(end) => return done(tally, Some(end)),
                            Err(words) => last = Some(words),
                        }
                        ours.send(b'X', &frame.payload);
                    }
                    Err(silence) => return done(tally, Some(end_of(&silence, &theirs.said()))),
                }
            }
            Ok(Frame { kind: b'T', payload }) => {
                let (index, kind, detail): (usize, String, String) = serde_json::from_slice(&payload)
                    .map_err(|error| {
                        broken(format!("the tests reported nonsense: {error}"), "report this")
                    })?;
                let result = match (kind.as_str(), last.take()) {
                    ("passed", _) => TestResult::Passed,
                    ("raised", Some(words)) => TestResult::Raised(words),
                    _ => TestResult::Failed(clip(&detail, 300)),
                };
                tally.note(index, result);
            }
            Ok(Frame { kind: b'D', .. }) => return done(tally, None),
            Ok(Frame { payload, .. }) => {
                let (words, from_program): (String, bool) =
                    serde_json::from_slice(&payload).unwrap_or_default();
                return match from_program {
                    true => done(tally, Some(ProgramOutcome::RuntimeError(last.unwrap_or(words)))),
                    false => Err(broken_tests(words)),
                };
            }
            // Only values of the program can make the tests slow or large.
            Err(Silence::Deadline) => return done(tally, Some(ProgramOutcome::Time)),
            Err(Silence::Ended(status)) => {
                return match signal_of(&status) {
                    Some(9 | 24) => done(tally, Some(ProgramOutcome::Time)),
                    _ => Err(broken_tests(format!("{status}: {}", clip(&ours.said(), 500)))),
                };
            }
            Err(Silence::Nonsense(what)) => return Err(broken_tests(what)),
        }
    }
}

/// An exception of the program: what it ends the run with, or its words when the tests may go on.
fn raised(payload: &[u8]) -> Result<ProgramOutcome, String> {
    match exception(payload) {
        (kind, _) if kind == "MemoryError" => Ok(ProgramOutcome::Memory),
        (_, words) => Err(words),
    }
}
