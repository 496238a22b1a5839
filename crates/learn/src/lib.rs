//! Learning: objectives, the trainer, rollouts, and rounds of self-improvement.
//!
//! Knows: how weights change. Does not know: HTTP, files of recipes, terminals.

pub mod card;
mod error;
pub mod evaluation;
mod native_policy;
pub mod objective;
mod observer;
pub mod policy;
pub mod pretrain;
pub mod reward;
pub mod rollouts;
pub mod rounds;
mod session;
pub mod step_reward;
pub mod stretches;
pub mod trainer;

pub use error::LearnError;
pub use native_policy::NativePolicy;
pub use observer::{Observer, Quiet, StopFlag};
pub use session::Session;
