//! The embedded interpreter: a Python subset in Rust (the `monty` crate), in helper processes that stay.
//!
//! A helper can only compute: no file, no socket, no process, bounded memory. The interpreter stops itself at its limits
//! of time and recursion; whatever it does not notice (one long native operation, exhausted memory, an overflow of the
//! stack) ends the helper, which is then replaced. Program and tests run in two interpreters with separate heaps.

use super::helper::{Bounds, Helper, Role, Silence, broken};
use super::outcome::{Engine, ProgramOutcome, RunReport, Tally, TestResult, clip};
use super::suite::{CALL, REPORT, Suite};
use super::wire;
use crate::TaskError;
use monty::{MontyRepl, MontyRun, RunProgress};
use monty_types::{
    CompileOptions, ExcType, ExtFunctionResult, MontyException, MontyObject, NameLookupResult, PrintWriter,
    ResourceLimits, ResourceTracker,
};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Stack of the interpreter's thread: enough for its recursion limit in native frames.
const STACK_BYTES: usize = 64 << 20;
/// Deepest recursion of Python functions, CPython's default.
const RECURSION: usize = 1_000;

/// What a helper is asked.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    program: String,
    script: String,
    tests: usize,
    seconds: f64,
    memory_bytes: u64,
    output_bytes: u64,
}

/// What a run in the embedded interpreter came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Attempt {
    /// It ran.
    Ran(RunReport),
    /// The tests need something that the subset lacks, so nothing can be said.
    Unsupported(String),
}

/// Idle helpers, by the memory that they allow. They end when this process does: nobody holds their socket any more.
static IDLE: Mutex<Vec<(u64, Helper)>> = Mutex::new(Vec::new());

/// Runs a program against its tests.
///
/// # Errors
/// The helper cannot be started.
pub(super) fn run(program: &str, suite: &Suite, bounds: &Bounds) -> Result<Attempt, TaskError> {
    let job = Job {
        program: program.to_string(),
        script: suite.script.clone(),
        tests: suite.tests.len(),
        seconds: bounds.seconds,
        memory_bytes: bounds.memory_bytes,
        output_bytes: bounds.output_bytes,
    };
    let job = serde_json::to_vec(&job).map_err(|error| broken(error.to_string(), "report this"))?;
    let mut helper = take(bounds.memory_bytes)?;
    // The interpreter keeps its limit itself; this deadline is for operations in which it does not look at the clock.
    let deadline = Instant::now() + Duration::from_secs_f64(bounds.seconds * 2.0 + 5.0);
    helper.send(b'Q', &job);
    let ended =
        |outcome| Ok(Attempt::Ran(Tally::new(suite.tests.len()).report(Some(outcome), Engine::Embedded)));
    match helper.receive(deadline) {
        Ok(frame) if frame.kind == b'A' => {
            let attempt = serde_json::from_slice(&frame.payload)
                .map_err(|error| broken(format!("the helper answered nonsense: {error}"), "report this"))?;
            give(bounds.memory_bytes, helper);
            Ok(attempt)
        }
        Ok(frame) => Err(broken(
            format!("the helper could not start: {}", String::from_utf8_lossy(&frame.payload)),
            "programs are run on Linux with seccomp (kernel 3.17 or newer)",
        )),
        Err(Silence::Deadline) => ended(ProgramOutcome::Time),
        Err(Silence::Ended(status)) => {
            let said = helper.said();
            // Rust's own last words when an allocation is refused.
            if said.contains("memory allocation of") {
                return ended(ProgramOutcome::Memory);
            }
            use std::os::unix::process::ExitStatusExt;
            match status.signal() {
                Some(signal) => ended(ProgramOutcome::Crash(format!(
                    "the embedded interpreter ended by signal {signal}: {}",
                    clip(&said, 200)
                ))),
                None => Err(broken(
                    format!("the helper ended ({status}): {}", clip(&said, 500)),
                    "does the named helper begin with `serve_when_asked`?",
                )),
            }
        }
        Err(Silence::Nonsense(problem)) => {
            Err(broken(format!("the helper answered nonsense: {problem}"), "report this"))
        }
    }
}

fn take(memory_bytes: u64) -> Result<Helper, TaskError> {
    // A poisoned list is still a list of idle helpers.
    let mut idle = IDLE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match idle.iter().position(|(memory, _)| *memory == memory_bytes) {
        Some(place) => Ok(idle.swap_remove(place).1),
        None => {
            drop(idle);
            Helper::start(&Role::Embedded { memory_bytes }, None)
        }
    }
}

fn give(memory_bytes: u64, helper: Helper) {
    let mut idle = IDLE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // More than this are of no use to anyone; dropping ends them.
    if idle.len() < 32 {
        idle.push((memory_bytes, helper));
    }
}

/// In the helper: confines the process, then answers jobs until the socket closes.
pub(super) fn serve(mut channel: File, memory_bytes: u64) -> Result<i32, String> {
    let work = move || -> Result<(), String> {
        super::jail::confine_worker(memory_bytes)?;
        // The socket closes when nobody asks any more.
        while let Ok(frame) = wire::read(&mut channel) {
            let job: Job = serde_json::from_slice(&frame.payload).map_err(|error| error.to_string())?;
            let attempt = std::panic::catch_unwind(|| attempt(&job)).unwrap_or_else(|_| {
                let crash = ProgramOutcome::Crash("the embedded interpreter panicked".to_string());
                Attempt::Ran(Tally::new(job.tests).report(Some(crash), Engine::Embedded))
            });
            let answer = serde_json::to_vec(&attempt).map_err(|error| error.to_string())?;
            wire::write(&mut channel, b'A', &answer).map_err(|error| error.to_string())?;
        }
        Ok(())
    };
    let thread = std::thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(work)
        .map_err(|error| format!("no thread: {error}"))?;
    match thread.join() {
        Ok(result) => result.map(|()| 0),
        Err(_) => Err("the thread of the interpreter panicked".to_string()),
    }
}

fn tracker(job: &Job) -> ResourceTracker {
    ResourceTracker::new(
        ResourceLimits::default()
            .max_duration(Duration::from_secs_f64(job.seconds))
            // Refuses single results that are too large; the sum is bounded by the limits of the process.
            .max_memory(usize::try_from(job.memory_bytes).unwrap_or(usize::MAX))
            .max_recursion_depth(RECURSION),
    )
}

/// What an exception of the program means for the run: `None` when the tests may go on.
fn ends(error: &MontyException, elapsed: Duration, job: &Job) -> Option<ProgramOutcome> {
    let spent = elapsed.as_secs_f64() >= job.seconds;
    match error.exc_type() {
        ExcType::TimeoutError if spent => Some(ProgramOutcome::Time),
        ExcType::MemoryError => Some(ProgramOutcome::Memory),
        _ => None,
    }
}

fn words(error: &MontyException) -> String {
    clip(&error.summary(), 300)
}

fn attempt(job: &Job) -> Attempt {
    let mut tally = Tally::new(job.tests);
    let mut output = String::new();
    let most = usize::try_from(job.output_bytes).unwrap_or(usize::MAX);
    let mut program = MontyRepl::new("program", tracker(job), CompileOptions::default());
    if let Err(error) =
        program.feed_run(&job.program, Vec::new(), PrintWriter::CollectString(&mut output, Some(most)))
    {
        let end = ends(&error, program.tracker().elapsed(), job).unwrap_or_else(|| match error.exc_type() {
            // What the subset lacks is found while compiling and says so by this type.
            ExcType::SyntaxError | ExcType::NotImplementedError if error.traceback().len() <= 1 => {
                ProgramOutcome::CompileError(words(&error))
            }
            _ => ProgramOutcome::RuntimeError(words(&error)),
        });
        return Attempt::Ran(tally.report(Some(end), Engine::Embedded));
    }
    let names = [CALL, REPORT];
    let functions = names.map(|name| MontyObject::Function { name: name.to_string(), docstring: None });
    let script = MontyRun::new(
        job.script.clone(),
        "tests",
        names.map(str::to_string).to_vec(),
        CompileOptions::default(),
    );
    let script = match script {
        Ok(script) => script,
        Err(error) => return Attempt::Unsupported(words(&error)),
    };
    let mut progress = script.start(functions.to_vec(), tracker(job), PrintWriter::Disabled);
    // The exception of the program's last call, to tell it from one of the tests themselves.
    let mut raised: Option<String> = None;
    loop {
        progress = match progress {
            Ok(RunProgress::Complete(_)) => {
                return Attempt::Ran(tally.report(None, Engine::Embedded));
            }
            Ok(RunProgress::FunctionCall(call)) if call.function_name == CALL => {
                let (name, arguments) = match call.args.as_slice() {
                    [MontyObject::String(name), MontyObject::Tuple(arguments), MontyObject::Dict(named)]
                        if named.is_empty() =>
                    {
                        (name.clone(), arguments.clone())
                    }
                    _ => {
                        return Attempt::Unsupported(
                            "a test calls the program with named arguments".to_string(),
                        );
                    }
                };
                if !arguments.iter().all(is_plain) {
                    return Attempt::Unsupported("a test passes what is no plain value".to_string());
                }
                let print = PrintWriter::CollectString(&mut output, Some(most));
                let result = match program.call_function(&name, arguments, print) {
                    Ok(value) if is_plain(&value) => {
                        raised = None;
                        ExtFunctionResult::Return(value)
                    }
                    // A fault of the program and none of the tests: a function that was not called, most often. CPython,
                    // where it may be asked, decides anew.
                    Ok(_) => {
                        let words = "TypeError: the program returns what is no plain value".to_string();
                        return Attempt::Ran(
                            tally.report(Some(ProgramOutcome::RuntimeError(words)), Engine::Embedded),
                        );
                    }
                    Err(error) => {
                        if let Some(end) = ends(&error, program.tracker().elapsed(), job) {
                            return Attempt::Ran(tally.report(Some(end), Engine::Embedded));
                        }
                        raised = Some(words(&error));
                        // Without its traceback, whose frames are of the other interpreter.
                        let message = error.message().map(str::to_string);
                        ExtFunctionResult::Error(MontyException::new(error.exc_type(), message))
                    }
                };
                call.resume(result, PrintWriter::Disabled)
            }
            Ok(RunProgress::FunctionCall(call)) if call.function_name == REPORT => {
                if let [MontyObject::Int(index), MontyObject::String(kind), MontyObject::String(detail)] =
                    call.args.as_slice()
                {
                    let result = match (kind.as_str(), raised.take()) {
                        ("passed", _) => TestResult::Passed,
                        ("raised", Some(words)) => TestResult::Raised(words),
                        _ => TestResult::Failed(clip(detail, 300)),
                    };
                    tally.note(usize::try_from(*index).unwrap_or(usize::MAX), result);
                }
                call.resume(MontyObject::None, PrintWriter::Disabled)
            }
            Ok(RunProgress::NameLookup(lookup)) => {
                lookup.resume(NameLookupResult::Undefined, PrintWriter::Disabled)
            }
            Ok(_) => return Attempt::Unsupported("a test asks for the operating system".to_string()),
            Err(error) => {
                return match (error.exc_type(), raised) {
                    (_, Some(words)) => {
                        let end = ProgramOutcome::RuntimeError(words);
                        Attempt::Ran(tally.report(Some(end), Engine::Embedded))
                    }
                    (ExcType::MemoryError, None) => {
                        Attempt::Ran(tally.report(Some(ProgramOutcome::Memory), Engine::Embedded))
                    }
                    (ExcType::TimeoutError, None) => {
                        Attempt::Ran(tally.report(Some(ProgramOutcome::Time), Engine::Embedded))
                    }
                    (_, None) => Attempt::Unsupported(words(&error)),
                };
            }
        };
    }
}

/// Values that mean the same in both interpreters and carry no behaviour.
fn is_plain(value: &MontyObject) -> bool {
    match value {
        MontyObject::None
        | MontyObject::Bool(_)
        | MontyObject::Int(_)
        | MontyObject::BigInt(_)
        | MontyObject::Float(_)
        | MontyObject::String(_)
        | MontyObject::Bytes(_) => true,
        MontyObject::List(items)
        | MontyObject::Tuple(items)
        | MontyObject::Set(items)
        | MontyObject::FrozenSet(items) => items.iter().all(is_plain),
        MontyObject::Dict(pairs) => pairs.into_iter().all(|(key, value)| is_plain(key) && is_plain(value)),
        _ => false,
    }
}
