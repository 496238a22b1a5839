//! What running a program against its tests showed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a run of a program against its tests ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", content = "detail", rename_all = "snake_case")]
pub enum ProgramOutcome {
    /// Every test passed.
    Passed,
    /// A test failed on a returned value.
    WrongAnswer(String),
    /// The text is no program.
    CompileError(String),
    /// The program raised, or ended the interpreter, before the tests were done.
    RuntimeError(String),
    /// The time limit was reached.
    Time,
    /// The memory limit was reached.
    Memory,
    /// The interpreter itself broke down, for example by a stack overflow; with the signal.
    Crash(String),
}

impl ProgramOutcome {
    /// The kind in words.
    pub fn kind(&self) -> &'static str {
        match self {
            ProgramOutcome::Passed => "passed",
            ProgramOutcome::WrongAnswer(_) => "wrong answer",
            ProgramOutcome::CompileError(_) => "compile error",
            ProgramOutcome::RuntimeError(_) => "runtime error",
            ProgramOutcome::Time => "time limit",
            ProgramOutcome::Memory => "memory limit",
            ProgramOutcome::Crash(_) => "crash",
        }
    }

    /// What is known beyond the kind.
    pub fn detail(&self) -> Option<&str> {
        match self {
            ProgramOutcome::WrongAnswer(detail)
            | ProgramOutcome::CompileError(detail)
            | ProgramOutcome::RuntimeError(detail)
            | ProgramOutcome::Crash(detail) => Some(detail),
            ProgramOutcome::Passed | ProgramOutcome::Time | ProgramOutcome::Memory => None,
        }
    }
}

/// Which interpreter ran a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// The embedded one.
    Embedded,
    /// CPython in a jail.
    Cpython,
}

/// A run of a program against its tests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunReport {
    /// What ended the run before its last test, else the first failure in the order of the tests.
    pub outcome: ProgramOutcome,
    /// Whether each test passed, in the order of the tests; a test that was not reached has not passed.
    pub tests: Vec<bool>,
    /// Who ran it.
    pub engine: Engine,
}

/// What stands before the value that came back in a test that failed on it.
const RETURNED: &str = "the program returned ";

impl RunReport {
    /// What the program returned in the first test that failed, as Python writes it (200 characters at most); `None`
    /// where all passed, and where anything else than a returned value ended the run.
    pub fn returned(&self) -> Option<&str> {
        match &self.outcome {
            ProgramOutcome::WrongAnswer(detail) => detail.split_once(RETURNED).map(|(_, value)| value),
            _ => None,
        }
    }

    /// How many tests passed.
    pub fn passed(&self) -> usize {
        self.tests.iter().filter(|passed| **passed).count()
    }

    /// One line: `passed 3 of 7 tests, then time limit`.
    pub fn sentence(&self) -> String {
        let mut sentence = format!("passed {} of {} tests", self.passed(), self.tests.len());
        if self.outcome != ProgramOutcome::Passed {
            sentence.push_str("; ");
            sentence.push_str(self.outcome.kind());
        }
        sentence
    }
}

/// What one test showed, as the interpreters report it while a run goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TestResult {
    Passed,
    /// The values were wrong.
    Failed(String),
    /// The program raised in it.
    Raised(String),
}

/// Collects the results of tests into a report. A test that stands in a loop is reported several times and passes only
/// when all of them do.
#[derive(Debug)]
pub(super) struct Tally {
    results: Vec<Option<TestResult>>,
}

impl Tally {
    pub fn new(tests: usize) -> Self {
        Tally { results: vec![None; tests] }
    }

    /// Notes a result; results of tests that do not exist are ignored.
    pub fn note(&mut self, index: usize, result: TestResult) {
        if let Some(slot) = self.results.get_mut(index)
            && !matches!(slot, Some(TestResult::Failed(_) | TestResult::Raised(_)))
        {
            *slot = Some(result);
        }
    }

    /// The report of a run that was ended by `end`, or went to its last line.
    pub fn report(self, end: Option<ProgramOutcome>, engine: Engine) -> RunReport {
        let tests = self.results.iter().map(|result| *result == Some(TestResult::Passed)).collect();
        let first = self.results.iter().flatten().find_map(|result| match result {
            TestResult::Passed => None,
            TestResult::Failed(detail) => Some(ProgramOutcome::WrongAnswer(detail.clone())),
            TestResult::Raised(detail) => Some(ProgramOutcome::RuntimeError(detail.clone())),
        });
        let missing = self
            .results
            .iter()
            .position(Option::is_none)
            .map(|index| ProgramOutcome::WrongAnswer(format!("test {} was not reached", index + 1)));
        let outcome = end.or(first).or(missing).unwrap_or(ProgramOutcome::Passed);
        RunReport { outcome, tests, engine }
    }
}

/// At most `most` characters of a text that a program wrote.
pub(super) fn clip(text: &str, most: usize) -> String {
    let text = text.trim();
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_reports_the_first_failure_and_counts() {
        let mut tally = Tally::new(4);
        tally.note(0, TestResult::Passed);
        tally.note(1, TestResult::Passed);
        tally.note(1, TestResult::Failed("second time".into()));
        tally.note(1, TestResult::Passed);
        tally.note(2, TestResult::Raised("ValueError".into()));
        tally.note(9, TestResult::Passed);
        let report = tally.report(None, Engine::Embedded);
        assert_eq!(report.outcome, ProgramOutcome::WrongAnswer("second time".into()));
        assert_eq!(report.sentence(), "passed 1 of 4 tests; wrong answer");
        assert_eq!(report.returned(), None);
        let told = |outcome| RunReport { outcome, tests: vec![false], engine: Engine::Embedded };
        let wrong = told(ProgramOutcome::WrongAnswer("the program returned [3, 4]".into()));
        assert_eq!(wrong.returned(), Some("[3, 4]"));
        assert_eq!(told(ProgramOutcome::RuntimeError("the program returned 5".into())).returned(), None);
        let ended = Tally::new(2).report(Some(ProgramOutcome::Time), Engine::Cpython);
        assert_eq!((ended.outcome, ended.tests), (ProgramOutcome::Time, vec![false, false]));
        // No test may be missed in silence.
        assert_ne!(Tally::new(1).report(None, Engine::Cpython).outcome, ProgramOutcome::Passed);
        assert_eq!(clip(" äöü ", 2), "äö…");
    }
}
