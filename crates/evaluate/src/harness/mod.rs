//! Judges of known intent and knowledge, for testing how far a generator can be talked out of a right answer
//! (arXiv 2506.03332). **A test harness**: some of these judges know the reference answer and write what is not true. They
//! are no [`crate::Evaluator`]s and have no name in its registry, so no recipe, no setting and no gateway can reach them;
//! what they know comes from an [`AnswerKey`], which only who holds the problem with its answer can make.

mod behaviour;
mod judge;
mod key;
mod scripted;

pub use behaviour::{Behaviour, Intent, Knowledge};
pub use judge::{HarnessJudge, Writer};
pub use key::{AnswerKey, Evidence};
