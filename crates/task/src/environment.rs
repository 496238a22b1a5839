//! Worlds to act in, one action at a time.

use serde::{Deserialize, Serialize};

/// Why an episode is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Every goal is reached.
    Success,
    /// The number of actions is used up.
    OutOfActions,
}

/// What can be seen after an action, or at the beginning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// In words.
    pub text: String,
    /// In the compact notation: a problem of its own, whose solution goes on from here.
    pub compact: String,
    /// What can be done now, in words, in a fixed order. Empty when the episode is over.
    pub actions: Vec<String>,
    /// Why the last action did nothing; `None` when it did something, and at the beginning. It counts as an action.
    pub refused: Option<String>,
    /// Share of the sub-goals that were reached, in [0, 1].
    pub progress: f64,
    /// Why the episode is over, when it is.
    pub ended: Option<Ended>,
}

/// An episode of a world. Nothing in it is random: the same actions lead to the same state. It may be stopped between any
/// two actions: a copy goes on from where it was, and [`Environment::reset`] goes back to the beginning.
pub trait Environment: Send + Sync {
    /// Back to the beginning.
    fn reset(&mut self) -> Observation;

    /// What can be seen now.
    fn observe(&self) -> Observation;

    /// Does one action, written in words or in the compact notation. What cannot be done, or is no action, changes nothing
    /// and counts. After the end, nothing changes any more.
    fn step(&mut self, action: &str) -> Observation;

    /// The actions that were done, in the compact notation, those without effect included.
    fn done(&self) -> &[String];

    /// An episode of its own that stands where this one does.
    fn copy(&self) -> Box<dyn Environment>;
}
