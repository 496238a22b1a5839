//! What `eval` says of strategies that try more than once: what later attempts made of the first, the rounds, what stayed
//! unsolved, and what critiques said.

use crate::correction::Correction;
use crate::critiques::Critiques;
use crate::failure::Failure;
use crate::friction::Unsolved;
use crate::loops::{self, Followed, Round};
use crate::output;
use elenchus_task::Task;
use elenchus_trace::Answer;
use serde::Serialize;

/// The whole; its fields are absent where a strategy has nothing of the kind.
#[derive(Debug, Default, Serialize)]
pub struct Course {
    /// What the later attempts made of the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    correction: Option<Correction>,
    /// Round by round.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rounds: Vec<Round>,
    /// Of retries with feedback.
    #[serde(skip_serializing_if = "Option::is_none")]
    unsolved: Option<Unsolved>,
    /// Of closed-loop critique, turn by turn.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    critiques: Vec<Critiques>,
}

impl Course {
    /// Of answers; `correct` is 1 for each that is right.
    pub fn of(answers: &[Answer], correct: &[f64], task: &dyn Task, seed: u64) -> Result<Self, Failure> {
        let Some(followed) = Followed::all(answers, task)? else { return Ok(Course::default()) };
        Ok(Course {
            correction: Correction::of_loops(&followed, correct, seed)?,
            rounds: loops::rounds(&followed, answers, task)?,
            unsolved: Unsolved::of(&followed, answers, task, seed)?,
            critiques: Critiques::of(&followed, answers, task)?,
        })
    }

    /// The lines on what later attempts made of the first, and on what stayed unsolved.
    pub fn lines(&self) -> Vec<String> {
        let correction = self.correction.iter().flat_map(Correction::lines);
        correction.chain(self.unsolved.iter().flat_map(Unsolved::lines)).collect()
    }

    /// Tables of rounds and critiques.
    pub fn tables(&self) -> Vec<String> {
        let rounds = (!self.rounds.is_empty()).then(|| loops::table(&self.rounds));
        let critiques = (!self.critiques.is_empty()).then(|| Critiques::table(&self.critiques));
        rounds.into_iter().chain(critiques).collect()
    }

    /// Prints all of it.
    pub fn print(&self) -> Result<(), Failure> {
        self.lines().iter().try_for_each(|line| output::line(line))?;
        self.tables().iter().try_for_each(|table| output::line(&format!("\n{}", table.trim_end())))
    }
}
