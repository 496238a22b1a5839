//! Problems with exact verifiers, and environments to act in.
//!
//! Knows: how to make, read and verify problems. Does not know: models.

pub mod arithmetic;
pub mod choice;
pub mod countdown;
pub mod disputed;
mod environment;
pub mod evidence;
pub mod facts;
pub mod file;
pub mod math;
pub mod program;
pub mod recompute;
mod registry;
pub mod rules;
mod settings;
mod skill;
pub mod sql;
mod structured;
pub mod world;

pub use environment::{Ended, Environment, Observation};
pub use recompute::Recheck;
pub use registry::{TASKS, TaskEntry, task};
pub use skill::{Critique, ReplyError, Skill, parse_critique, parse_judge};
pub use structured::Structured;

use elenchus_trace::{Problem, Step, Verdict};

/// Why a task could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The problem is not of this task or lacks what the task needs.
    #[error("problem `{id}`: {problem}\nhint: {hint}")]
    Problem {
        /// The problem.
        id: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// A setting is out of range.
    #[error("task setting `{field}` {problem}\nhint: {hint}")]
    Setting {
        /// The setting.
        field: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// A file of rows cannot be used.
    #[error("`{path}` {problem}\nhint: {hint}")]
    File {
        /// The file, or the name of a text.
        path: String,
        /// What is wrong, with the line where there is one.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// The machinery that runs programs failed. Never the fault of a reply, so never a verdict on one.
    #[error("sandbox: {problem}\nhint: {hint}")]
    Sandbox {
        /// What is wrong.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// No task has this name.
    #[error("unknown task `{name}`\nhint: {hint}")]
    Unknown {
        /// The name.
        name: String,
        /// The nearest names.
        hint: String,
    },
}

/// The part of a task's problems: a generated task divides by a hash of the problem's content, so no problem is in two.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// 80 % of the problems: for training and probing.
    Train,
    /// 10 %: for tuning settings.
    Validation,
    /// 10 %: for measuring, never for tuning.
    Test,
}

/// The split of a problem with this canonical content: 80 / 10 / 10 % by a BLAKE3 hash.
pub(crate) fn split_of(content: &[u8]) -> Split {
    let hash = blake3::hash(content);
    // Two bytes give 65,536 classes; 80 and 10 % of them up to 0.001 %.
    match u32::from(u16::from_le_bytes([hash.as_bytes()[0], hash.as_bytes()[1]])) * 10 / 65_536 {
        0..=7 => Split::Train,
        8 => Split::Validation,
        _ => Split::Test,
    }
}

/// A kind of problem with an exact verifier.
pub trait Task: Send + Sync {
    /// Name in the registry.
    fn name(&self) -> &'static str;

    /// One line for lists and help.
    fn summary(&self) -> &'static str;

    /// `count` distinct problems of a split, determined by the seed. A generated task never runs dry in practice; a
    /// task over a file returns an error that says how many there are.
    fn problems(&self, split: Split, count: usize, seed: u64) -> Result<Vec<Problem>, TaskError>;

    /// The answer in a response, in the task's normal form; `None` when there is none.
    fn extract(&self, problem: &Problem, response: &str) -> Option<String>;

    /// Whether two extracted answers mean the same.
    fn equivalent(&self, problem: &Problem, left: &str, right: &str) -> bool;

    /// Judges a response exactly: answer and, where the task can, every step.
    fn verify(&self, problem: &Problem, response: &str) -> Result<Verdict, TaskError>;

    /// How near a response that is not right comes to being so, 0 to below 1, where the task knows degrees: the share of
    /// tests that pass, the distance to a target. `verdict` is the task's own on this response.
    fn grade(&self, problem: &Problem, response: &str, verdict: &Verdict) -> Result<f64, TaskError> {
        let _ = (problem, response, verdict);
        Ok(0.0)
    }

    /// Whether a response reached its answer by right steps only: none wrong, none missing. Tasks that cannot check
    /// steps say yes.
    fn steps_right(&self, problem: &Problem, verdict: &Verdict) -> bool {
        let _ = problem;
        verdict.first_wrong_step().is_none()
    }

    /// What a tool finds in a response, finished or not, from its text and the problem alone: never from the reference
    /// answer. By default a calculator computes every equation again and asks whether the answer is one of the results;
    /// tasks whose problem says how to check an answer do that.
    fn recheck(&self, problem: &Problem, response: &str) -> Result<Recheck, TaskError> {
        Ok(recompute::recompute(response, self.extract(problem, response).as_deref()))
    }

    /// A reference response in the notation of the embedded model, where the task can write one.
    fn reference(&self, problem: &Problem) -> Option<String> {
        let _ = problem;
        None
    }

    /// The world of a problem at its beginning, for tasks that can be acted in.
    fn environment(&self, problem: &Problem) -> Result<Option<Box<dyn Environment>>, TaskError> {
        let _ = problem;
        Ok(None)
    }

    /// The steps of a response in order; one step when the task has no finer division.
    fn steps(&self, problem: &Problem, response: &str) -> Vec<Step> {
        let _ = problem;
        vec![Step { text: response.to_string(), start: 0, end: response.len() }]
    }

    /// The problem asked backwards in the task's own notation, one problem per number that can be hidden, with `candidate`
    /// as the given answer (arXiv 2308.07758); empty where the candidate cannot be given. `None`: the task has no such
    /// notation, and a caller may hide numbers in the text.
    fn backward(&self, problem: &Problem, candidate: &str) -> Option<Vec<Problem>> {
        let _ = (problem, candidate);
        None
    }
}
