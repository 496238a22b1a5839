//! What candidates are made for, and what they are worth: expressions of Countdown, and programs with tests.

use crate::RecipeError;
use crate::lab::program_writer;
use elenchus_task::program::{ProgramData, ProgramSettings, ProgramTask};
use elenchus_task::{Task, TaskError};
use elenchus_trace::Problem;
use serde_json::Value;

/// What a response is worth, in degrees from 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Worth {
    /// To the verifier at run time, which sees what the problem shows.
    pub seen: f64,
    /// In truth, by what no arm has seen where the problem hides something.
    pub truth: f64,
}

/// A task with a verifier that knows degrees.
pub(super) enum Substrate {
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
                Ok(Worth { seen: value, truth: value })
            }
            Substrate::Programs(task) => {
                let Some(report) = task.run(problem, response, false)? else { return Ok(Worth::default()) };
                let shown = ProgramData::of(problem)?.visible_tests(&problem.id).min(report.tests.len());
                let (shown, hidden) = report.tests.split_at(shown);
                Ok(Worth { seen: share(shown), truth: share(hidden) })
            }
        }
    }
}

/// The share of tests that pass.
fn share(tests: &[bool]) -> f64 {
    tests.iter().filter(|passed| **passed).count() as f64 / tests.len().max(1) as f64
}
