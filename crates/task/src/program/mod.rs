//! Programs: small Python functions judged by unit tests that run in a sandbox.
//!
//! Problems are generated (chains of operations over lists of integers) or read from files (HumanEval, MBPP). Two
//! interpreters run them: an embedded one in Rust for speed, and real CPython in a jailed process. See [`Interpreter`],
//! and the module `jail` for what is held off and how.

mod behaviour;
mod cpython;
mod embedded;
mod extract;
mod generate;
mod helper;
mod humaneval;
mod interpreter;
mod jail;
mod mbpp;
mod operations;
mod outcome;
mod rows;
mod settings;
mod suite;
mod wire;

pub use extract::{code_of, complete};
pub use helper::{HELPER_VARIABLE, serve_when_asked, use_helper};
pub use interpreter::{
    BothInterpreters, CpythonInterpreter, EmbeddedInterpreter, Interpreter, interpreter, jail_layers,
};
pub use jail::Layers;
pub use outcome::{Engine, ProgramOutcome, RunReport};
pub use rows::{ProgramData, read_rows};
pub use settings::{Format, ProgramSettings, Runner, SameProgram};
pub use suite::Suite;

use crate::{Split, Task, TaskError};
use elenchus_trace::{Outcome, Problem, Verdict};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

/// Name of the task, in every problem.
pub const TASK: &str = "program";

/// One line for lists and help.
pub const SUMMARY: &str = "Python functions with unit tests: generated, HumanEval or MBPP; run in a sandbox";

/// The program task.
pub struct ProgramTask {
    settings: ProgramSettings,
    interpreter: Box<dyn Interpreter>,
    /// The rows of the file, where there is one.
    rows: Option<Vec<Problem>>,
    /// Numbers of the broken lines of the file that were left out, from 1.
    skipped: Vec<usize>,
    /// Behaviours that were looked at, by a hash of problem and code: a vote compares each program with many others.
    behaviours: Mutex<HashMap<blake3::Hash, Option<String>>>,
}

/// Behaviours that are remembered; then all are forgotten.
const MOST_BEHAVIOURS: usize = 20_000;

impl std::fmt::Debug for ProgramTask {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ProgramTask").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl ProgramTask {
    /// The task with these settings; a file is read now.
    ///
    /// # Errors
    /// A setting out of range; a file that cannot be read or has a broken line.
    pub fn open(settings: ProgramSettings) -> Result<Self, TaskError> {
        let text = match settings.path.is_empty() {
            true => None,
            false => Some(crate::file::read_text(std::path::Path::new(&settings.path))?),
        };
        ProgramTask::with_text(settings, text.as_deref())
    }

    /// The task over JSON lines, or over generated problems; the path of the settings names the lines in errors.
    ///
    /// # Errors
    /// A setting out of range, a broken line.
    pub fn with_text(settings: ProgramSettings, text: Option<&str>) -> Result<Self, TaskError> {
        settings.check()?;
        let (rows, skipped) = match text {
            Some(text) => {
                let read = rows::read_rows(text, &settings.path, settings.format, settings.skip_bad_lines)?;
                (Some(read.0), read.1)
            }
            None => (None, Vec::new()),
        };
        let interpreter = interpreter(&settings);
        Ok(ProgramTask { settings, interpreter, rows, skipped, behaviours: Mutex::default() })
    }

    /// Numbers of the broken lines of the file that were left out, from 1.
    pub fn skipped(&self) -> &[usize] {
        &self.skipped
    }

    /// All rows of the file in its order; none when problems are generated.
    pub fn all(&self) -> &[Problem] {
        self.rows.as_deref().unwrap_or_default()
    }

    /// The whole program of a reply, as it is run: the extracted code with what belongs in front of it. `None` when the
    /// reply holds no code.
    ///
    /// # Errors
    /// The problem is not of this task.
    pub fn program(&self, problem: &Problem, response: &str) -> Result<Option<String>, TaskError> {
        let data = ProgramData::of(problem)?;
        let Some(code) = code_of(response, &data.entry) else { return Ok(None) };
        if !data.reference.is_empty()
            && !extract::defines(&code, &data.entry)
            && let Some(program) = generate::expand_compact(&code)
        {
            return Ok(Some(program));
        }
        Ok(Some(complete(&code, &data.entry, &data.prompt, &data.helpers())))
    }

    /// Runs a reply against the tests that the question shows (for feedback to a model), or against all.
    ///
    /// # Errors
    /// The problem is not of this task or shows no tests; the sandbox failed.
    pub fn run(
        &self,
        problem: &Problem,
        response: &str,
        only_visible: bool,
    ) -> Result<Option<RunReport>, TaskError> {
        let data = ProgramData::of(problem)?;
        let Some(program) = self.program(problem, response)? else { return Ok(None) };
        let suite = data.suite(&problem.id, only_visible)?;
        self.interpreter.run(&problem.id, &program, &suite).map(Some)
    }
}

impl ProgramTask {
    /// What the program of a reply does on the inputs that the question shows and on variations of them: equal texts for
    /// programs that return the same. `None` where the reply holds no code, the question shows no call, or the program
    /// returns nothing for any input.
    ///
    /// # Errors
    /// The problem is not of this task; the sandbox failed.
    pub fn behaviour(&self, problem: &Problem, response: &str) -> Result<Option<String>, TaskError> {
        let key = blake3::hash(format!("{}\0{response}", problem.id).as_bytes());
        let known = || self.behaviours.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known().get(&key) {
            return Ok(found.clone());
        }
        let data = ProgramData::of(problem)?;
        let found = match self.program(problem, response)? {
            Some(program) => behaviour::behaviour(self.interpreter.as_ref(), &problem.id, &data, &program)?,
            None => None,
        };
        let mut known = known();
        if known.len() >= MOST_BEHAVIOURS {
            known.clear();
        }
        known.insert(key, found.clone());
        Ok(found)
    }
}

/// Why a run failed, in words that give no hidden test away.
fn reason(report: &RunReport, suite: &Suite, visible: usize) -> Option<String> {
    if report.outcome == ProgramOutcome::Passed {
        return None;
    }
    let mut reason = report.sentence();
    let failed = report.tests.iter().position(|passed| !passed);
    match (&report.outcome, failed) {
        (ProgramOutcome::CompileError(detail), _) => reason.push_str(&format!(": {detail}")),
        (outcome, Some(index)) if index < visible => {
            reason.push_str(&format!(" in `{}`", suite.tests[index]));
            if let Some(detail) = outcome.detail().filter(|detail| !detail.is_empty()) {
                reason.push_str(&format!(": {detail}"));
            }
        }
        _ => reason.push_str(" in a hidden test"),
    }
    Some(reason)
}

/// Code without comment lines, blank lines and space at the ends of lines: what two replies are compared by.
fn normal(code: &str) -> String {
    let lines = code.lines().map(str::trim_end);
    let kept: Vec<&str> =
        lines.filter(|line| !line.is_empty() && !line.trim_start().starts_with('#')).collect();
    kept.join("\n")
}

impl Task for ProgramTask {
    fn name(&self) -> &'static str {
        TASK
    }

    fn summary(&self) -> &'static str {
        SUMMARY
    }

    fn problems(&self, split: Split, count: usize, seed: u64) -> Result<Vec<Problem>, TaskError> {
        let Some(rows) = &self.rows else {
            return generate::problems(&self.settings, split, count, seed);
        };
        let mut seen = HashSet::new();
        let mut problems: Vec<&Problem> = rows
            .iter()
            .filter(|problem| self.settings.split.holds(split, &problem.question))
            .filter(|problem| seen.insert(&problem.question))
            .collect();
        if problems.len() < count {
            return Err(TaskError::File {
                path: self.settings.path.clone(),
                problem: format!("has {} different rows in this split, {count} are wanted", problems.len()),
                hint: "ask for fewer problems, or set `split` (`test`, `train`, `hash`)".to_string(),
            });
        }
        problems.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        Ok(problems.into_iter().take(count).cloned().collect())
    }

    fn extract(&self, problem: &Problem, response: &str) -> Option<String> {
        let data = ProgramData::of(problem).ok()?;
        code_of(response, &data.entry).map(|code| code.trim_end().to_string())
    }

    /// The same text, but for comments on lines of their own and blank space; or, by the setting `same`, programs that
    /// return the same for every input that the question shows and for variations of them, hidden tests not among them. A
    /// program that returns nothing, or that the sandbox cannot run, is the same as its own text only.
    fn equivalent(&self, problem: &Problem, left: &str, right: &str) -> bool {
        if normal(left) == normal(right) {
            return true;
        }
        if self.settings.same == SameProgram::Text {
            return false;
        }
        let behaviour = |code: &str| self.behaviour(problem, code).ok().flatten();
        behaviour(left).is_some_and(|left| behaviour(right).is_some_and(|right| left == right))
    }

    fn verify(&self, problem: &Problem, response: &str) -> Result<Verdict, TaskError> {
        let data = ProgramData::of(problem)?;
        let Some(program) = self.program(problem, response)? else {
            return Ok(Verdict {
                outcome: Outcome::NoAnswer,
                answer: None,
                steps: Vec::new(),
                reason: Some("the reply holds no code".to_string()),
            });
        };
        let suite = data.suite(&problem.id, false)?;
        let report = self.interpreter.run(&problem.id, &program, &suite)?;
        let outcome = match report.outcome {
            ProgramOutcome::Passed => Outcome::Correct,
            _ => Outcome::Wrong,
        };
        let reason = reason(&report, &suite, data.visible_tests(&problem.id));
        Ok(Verdict { outcome, answer: self.extract(problem, response), steps: Vec::new(), reason })
    }

    /// The share of the tests that pass.
    fn grade(&self, problem: &Problem, response: &str, verdict: &Verdict) -> Result<f64, TaskError> {
        match verdict.outcome {
            Outcome::NoAnswer => return Ok(0.0),
            Outcome::Correct => return Ok(1.0),
            // Verifying ended at the first test that failed.
            Outcome::Wrong => {}
        }
        let report = self.run(problem, response, false)?;
        Ok(report.map_or(0.0, |report| report.passed() as f64 / report.tests.len().max(1) as f64))
    }

    /// Generated problems: the program in the compact notation. Others: their canonical solution.
    fn reference(&self, problem: &Problem) -> Option<String> {
        let data = ProgramData::of(problem).ok()?;
        match data.reference.is_empty() {
            false => Some(data.reference),
            true => problem.gold.as_ref().map(|gold| format!("```python\n{gold}\n```")),
        }
    }
}
