//! Tree search: one core for all methods that search.
//!
//! Knows: nodes with their statistics, which child to go down to ([`Selection`]), how a value reaches the nodes above
//! ([`Backup`]) and siblings that are alike ([`Likeness`]), how a node becomes the root and keeps what is below it. Does not
//! know: where children and values come from ([`Explorer`]), when to stop, or how an answer is read off the tree.

mod arena;
mod backup;
mod likeness;
mod search;
mod selection;
#[cfg(test)]
mod tests;

pub use arena::{Child, Extremes, NodeIndex, Statistics, Tree, TreeNode};
pub use backup::{Alike, Backup, RunningMean, ShareAlike};
pub use likeness::{Likeness, spread};
pub use search::{Explorer, search};
pub use selection::{Puct, Selection, Uct, select};
