//! What candidates are made for, and what they are worth: expressions of Countdown, and programs with tests.

use crate::RecipeError;
use crate::lab::program_writer;
use elenchus_task::program::{ProgramData, ProgramSettings, ProgramTask};
use elenchus_task::{Task, TaskError};
use elenchus_trace::Problem;
use serde_json::Value;

/// What a response is worth, in degrees from 0 to 1.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Worth {
    /// To the verifier at run time, which sees what the problem shows.
    pub seen: f64,
    /// In truth, by what no arm has seen where the problem hides something.
    pub truth: f64,
    /// What the verifier at run time can say beside its score, in the compact notation: the number of the first shown test
    /// that fails, from 1, and what came back in it, `2=(3,4)`; `E` where nothing came back; else nothing.
    pub fault: String,
}

/// A response as a later prompt shows it: with the verifier's score in tenths (at most 9), and the fault. `a=e(x)#a~3:2=(4)`.
pub(crate) fn with_feedback(text: &str, score: f64, fault: &str) -> String {
    let tenths = (score.clamp(0.0, 0.9) * 10.0).round();
    let colon = if fault.is_empty() { "" } else { ":" };
    format!("{text}~{tenths}{colon}{fault}")
}

/// A task with a verifier that knows degrees.
pub(crate) enum Substrate {
    /// The check needs nothing hidden: numbers and target are in the problem. 1 - |value - target| / |target|.
    Countdown(Box<dyn Task>),
    /// The share of the tests that pass: those that the problem shows at run time, the hidden ones in truth.
    Programs(Box<ProgramTask>),
}

impl Substrate {
    pub fn countdown() -> Result<Self, RecipeError> {
        Ok(Substrate::Countdown(elenchus_task::task("countdown", &Value::Null)?))
    }

    pub fn programs(settings: &Value) -> Result<Self, RecipeError> {
        Ok(Substrate::Programs(Box::new(ProgramTask::open(ProgramSettings::from_value(settings)?)?)))
    }

    pub fn task(&self) -> &dyn Task {
        match self {
            Substrate::Countdown(task) => task.as_ref(),
            Substrate::Programs(task) => task.as_ref(),
        }
    }

    /// Tokens of one response at most.
    pub fn longest(&self) -> usize {
        match self {
            Substrate::Countdown(_) => 160,
            Substrate::Programs(_) => program_writer::LONGEST,
        }
    }

    /// What a response is worth.
    pub fn worth(&self, problem: &Problem, response: &str) -> Result<Worth, TaskError> {
        match self {
            Substrate::Countdown(task) => {
                let verdict = task.verify(problem, response)?;
                let value = if verdict.is_correct() { 1.0 } else { task.grade(problem, response, &verdict)? };
                Ok(Worth { seen: value, truth: value, fault: String::new() })
            }
            Substrate::Programs(task) => {
                let Some(report) = task.run(problem, response, false)? else {
                    return Ok(Worth { fault: NOTHING.to_string(), ..Worth::default() });
                };
                let shown = ProgramData::of(problem)?.visible_tests(&problem.id).min(report.tests.len());
                let (shown, hidden) = report.tests.split_at(shown);
                Ok(Worth { seen: share(shown), truth: share(hidden), fault: fault(shown, report.returned()) })
            }
        }
    }
}

/// The fault of a program that brought nothing back.
const NOTHING: &str = "E";

/// The first shown test that fails, and what came back in it; nothing of hidden tests.
fn fault(shown: &[bool], returned: Option<&str>) -> String {
    let Some(failing) = shown.iter().position(|passed| !passed) else { return String::new() };
    let compact = returned.map(|value| value.replace('[', "(").replace(']', ")").replace(' ', ""));
    // What the notation has no signs for, or no room, says as much as nothing.
    let is_plain = |value: &String| {
        value.len() <= MOST_RETURNED && value.chars().all(|c| c.is_ascii_digit() || "(),-".contains(c))
    };
    match compact.filter(is_plain) {
        Some(value) => format!("{}={value}", failing + 1),
        None => NOTHING.to_string(),
    }
}

/// Most characters of a value in a prompt: seven numbers of four digits.
const MOST_RETURNED: usize = 40;

/// The share of tests that pass.
fn share(tests: &[bool]) -> f64 {
    tests.iter().filter(|passed| **passed).count() as f64 / tests.len().max(1) as f64
}
