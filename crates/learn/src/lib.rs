//! Learning: objectives, the trainer, rollouts, and rounds of self-improvement.
//!
//! Knows: how weights change. Does not know: HTTP, files of recipes, terminals.

pub mod objective;
mod error;

pub use error::LearnError;
