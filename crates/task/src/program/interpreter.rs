//! Running a program against its tests: one trait, the two interpreters, and how they go together.

use super::behaviour::returned_by;
use super::helper::{Bounds, broken};
use super::outcome::{Engine, ProgramOutcome, RunReport};
use super::settings::{ProgramSettings, Runner};
use super::suite::Suite;
use super::{cpython, embedded};
use crate::TaskError;

/// Runs programs against tests.
pub trait Interpreter: Send + Sync {
    /// Runs `program` against a suite; `problem` names it in errors.
    ///
    /// # Errors
    /// The machinery failed: no interpreter, no jail, broken tests. Whatever the *program* does is in the report.
    fn run(&self, problem: &str, program: &str, suite: &Suite) -> Result<RunReport, TaskError>;

    /// Runs a suite whose test never passes, because it reports what the program returns.
    ///
    /// # Errors
    /// As [`Interpreter::run`].
    fn probe(&self, problem: &str, program: &str, suite: &Suite) -> Result<RunReport, TaskError> {
        self.run(problem, program, suite)
    }
}

/// The embedded interpreter: thousands of small programs per second, a subset of Python.
#[derive(Debug, Clone)]
pub struct EmbeddedInterpreter {
    bounds: Bounds,
}

/// CPython in a jail: tens of programs per second, the whole language and its standard library.
#[derive(Debug, Clone)]
pub struct CpythonInterpreter {
    python: String,
    bounds: Bounds,
}

/// The embedded interpreter first; CPython decides what it does not pass.
#[derive(Debug, Clone)]
pub struct BothInterpreters {
    embedded: EmbeddedInterpreter,
    cpython: CpythonInterpreter,
}

impl Bounds {
    fn of(settings: &ProgramSettings) -> Self {
        Bounds {
            seconds: settings.seconds,
            memory_bytes: settings.memory_mib << 20,
            output_bytes: settings.output_kib << 10,
            layers: settings.layers,
        }
    }
}

/// The interpreter that the settings ask for. Nothing is started yet.
pub fn interpreter(settings: &ProgramSettings) -> Box<dyn Interpreter> {
    let embedded = EmbeddedInterpreter { bounds: Bounds::of(settings) };
    let cpython = CpythonInterpreter { python: settings.python.clone(), bounds: Bounds::of(settings) };
    match settings.runner {
        Runner::Embedded => Box::new(embedded),
        Runner::Cpython => Box::new(cpython),
        Runner::Auto => Box::new(BothInterpreters { embedded, cpython }),
    }
}

/// Which optional layers protect a jail on this machine, in words: `namespaces, Landlock`.
///
/// # Errors
/// There is no Python, or no jail that satisfies the least that is accepted.
pub fn jail_layers(settings: &ProgramSettings) -> Result<String, TaskError> {
    let report = cpython::probe(&settings.python, &Bounds::of(settings))?;
    let names = [(report.namespaces, "namespaces"), (report.landlock, "Landlock")];
    let names: Vec<&str> = names.iter().filter(|(there, _)| *there).map(|(_, name)| *name).collect();
    Ok(names.join(", "))
}

impl Interpreter for EmbeddedInterpreter {
    fn run(&self, problem: &str, program: &str, suite: &Suite) -> Result<RunReport, TaskError> {
        match embedded::run(program, suite, &self.bounds)? {
            embedded::Attempt::Ran(report) => Ok(report),
            embedded::Attempt::Unsupported(what) => Err(broken(
                format!("the embedded interpreter cannot run the tests of `{problem}`: {what}"),
                "install CPython and set `runner` to `auto` or `cpython`",
            )),
        }
    }
}

impl Interpreter for CpythonInterpreter {
    fn run(&self, problem: &str, program: &str, suite: &Suite) -> Result<RunReport, TaskError> {
        cpython::run(&self.python, problem, program, suite, &self.bounds)
    }
}

impl Interpreter for BothInterpreters {
    /// What the embedded interpreter returns without an exception is what the program returns; where a call raised, that
    /// may be a gap, and CPython is asked.
    fn probe(&self, problem: &str, program: &str, suite: &Suite) -> Result<RunReport, TaskError> {
        let attempt = embedded::run(program, suite, &self.embedded.bounds)?;
        if let embedded::Attempt::Ran(report) = attempt {
            let no_call_raised = returned_by(&report).is_some_and(|(_, raised)| raised == 0);
            if no_call_raised || cpython::find(&self.cpython.python).is_err() {
                return Ok(report);
            }
        }
        self.cpython.run(problem, program, suite)
    }

    /// A program that passes in the embedded interpreter has passed. All else may come from what that one lacks, so
    /// CPython decides. Without CPython, a failure counts when it cannot be a gap of the embedded interpreter, and is an
    /// error otherwise.
    fn run(&self, problem: &str, program: &str, suite: &Suite) -> Result<RunReport, TaskError> {
        let attempt = embedded::run(program, suite, &self.embedded.bounds)?;
        let what = match attempt {
            embedded::Attempt::Ran(report) if report.outcome == ProgramOutcome::Passed => return Ok(report),
            embedded::Attempt::Ran(report) => match cpython::find(&self.cpython.python) {
                Ok(_) => return self.cpython.run(problem, program, suite),
                Err(_) if !may_be_a_gap(&report) => return Ok(report),
                Err(_) => report.outcome.detail().unwrap_or(report.outcome.kind()).to_string(),
            },
            embedded::Attempt::Unsupported(what) => match cpython::find(&self.cpython.python) {
                Ok(_) => return self.cpython.run(problem, program, suite),
                Err(_) => what,
            },
        };
        Err(broken(
            format!(
                "the embedded interpreter cannot decide about a program for `{problem}` ({what}), and `{}` is no CPython",
                self.cpython.python
            ),
            "install CPython 3.8 or newer, name it with the setting `python`, or set `runner` to `embedded` to hold \
             programs to the subset",
        ))
    }
}

/// Whether a failure in the embedded interpreter may come from what it lacks.
fn may_be_a_gap(report: &RunReport) -> bool {
    debug_assert_eq!(report.engine, Engine::Embedded);
    match &report.outcome {
        ProgramOutcome::CompileError(words) => !words.starts_with("SyntaxError"),
        ProgramOutcome::RuntimeError(words) => [
            "ImportError",
            "ModuleNotFoundError",
            "NotImplementedError",
            "AttributeError",
            "NameError",
            "TypeError",
        ]
        .iter()
        .any(|kind| words.starts_with(kind)),
        ProgramOutcome::Crash(_) => true,
        _ => false,
    }
}
