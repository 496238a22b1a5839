//! A problem with tests, before it is one of ours; and the lines of a file that hold such problems.

use super::settings::Format;
use super::suite::{self, Suite};
use super::{TASK, humaneval, mbpp};
use crate::TaskError;
use elenchus_trace::Problem;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the task keeps in a problem's `data`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramData {
    /// The function under test.
    pub entry: String,
    /// The beginning of the program that a reply may continue: imports, helpers, signature and docstring.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prompt: String,
    /// Tests that the question shows, as Python text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub visible: String,
    /// Tests that the question does not show.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hidden: String,
    /// Code that the tests need besides the prompt.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub setup: String,
    /// A program in the compact notation of generated problems, which are the only ones whose replies may be compact.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reference: String,
}

impl ProgramData {
    /// What a problem carries.
    ///
    /// # Errors
    /// The problem is not of this task.
    pub fn of(problem: &Problem) -> Result<Self, TaskError> {
        let wrong = |what: String| TaskError::Problem {
            id: problem.id.clone(),
            problem: format!("is not a problem with tests: {what}"),
            hint: "its `task` is `program` and its `data` is {entry, prompt, visible, hidden}".to_string(),
        };
        if problem.task != TASK {
            return Err(wrong(format!("its task is `{}`", problem.task)));
        }
        serde_json::from_value(problem.data.clone()).map_err(|error| wrong(error.to_string()))
    }

    /// The tests, ready to run: the visible ones, or all.
    ///
    /// # Errors
    /// They are no Python or hold no assertion.
    pub fn suite(&self, id: &str, only_visible: bool) -> Result<Suite, TaskError> {
        let mut tests = self.visible.clone();
        if !only_visible && !self.hidden.is_empty() {
            if !tests.is_empty() {
                tests.push('\n');
            }
            tests.push_str(&self.hidden);
        }
        Suite::new(id, &format!("{}\n{}", self.prompt, self.setup), &tests, &self.entry)
    }

    /// How many tests the question shows; they come first.
    pub fn visible_tests(&self, id: &str) -> usize {
        if self.visible.is_empty() { 0 } else { self.suite(id, true).map_or(0, |suite| suite.tests.len()) }
    }

    /// Imports and helpers of the prompt.
    pub(super) fn helpers(&self) -> String {
        suite::definitions(&self.prompt, &self.entry).unwrap_or_default()
    }
}

/// Reads JSON lines; `source` names the text in errors. Returns the problems and the numbers of the broken lines that were skipped.
///
/// # Errors
/// A broken line, by number, unless `skip_bad_lines`; a text without any row.
pub fn read_rows(
    text: &str,
    source: &str,
    format: Format,
    skip_bad_lines: bool,
) -> Result<(Vec<Problem>, Vec<usize>), TaskError> {
    let wrong = |problem: String, hint: &str| TaskError::File {
        path: source.to_string(),
        problem,
        hint: hint.to_string(),
    };
    let (mut problems, mut skipped) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        let line = if index == 0 { line.trim_start_matches('\u{feff}') } else { line };
        if line.trim().is_empty() {
            continue;
        }
        match read_row(line, index, format) {
            Ok(problem) => problems.push(problem),
            Err(_) if skip_bad_lines => skipped.push(index + 1),
            Err(problem) => {
                return Err(wrong(
                    format!("line {}: {problem}", index + 1),
                    "a row is HumanEval's {task_id, prompt, entry_point, canonical_solution, test} or MBPP's {task_id, \
                     text, code, test_list}; `skip_bad_lines` passes over broken ones",
                ));
            }
        }
    }
    if problems.is_empty() {
        let problem = match skipped.len() {
            0 => "has no rows".to_string(),
            skipped => format!("has no good rows, and {skipped} broken ones"),
        };
        return Err(wrong(problem, "is it the right file?"));
    }
    Ok((problems, skipped))
}

fn read_row(line: &str, index: usize, format: Format) -> Result<Problem, String> {
    let row: Value = serde_json::from_str(line).map_err(|error| format!("is not JSON: {error}"))?;
    let format = match format {
        Format::Auto if row.get("test_list").is_some() => Format::Mbpp,
        Format::Auto => Format::HumanEval,
        other => other,
    };
    let problem = match format {
        Format::Mbpp => mbpp::read(row, index),
        _ => humaneval::read(row, index),
    }?;
    // A row whose tests cannot be prepared is broken now, not when the first reply is judged.
    ProgramData::of(&problem)
        .and_then(|data| data.suite(&problem.id, false))
        .map_err(|error| error.to_string())?;
    Ok(problem)
}

/// A problem from its parts.
pub(super) fn problem(id: String, question: String, gold: Option<String>, data: &ProgramData) -> Problem {
    let mut problem = Problem::new(id, TASK, question);
    problem.gold = gold;
    problem.data = serde_json::to_value(data).unwrap_or_default();
    problem
}
