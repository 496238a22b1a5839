//! Run folders, journals, caches and data sets.
//!
//! Knows: how what was done is kept so that nothing is lost and nothing is done twice ([`Run`], [`Journal`],
//! [`Checkpoints`], [`Metrics`], [`Cache`]), and how rows come in and go out ([`data`]). Does not know: what a unit
//! of work means, which rows are worth keeping, or what to do next.

pub mod cache;
pub mod checkpoints;
pub mod data;
mod database;
mod error;
pub mod fs;
pub mod journal;
pub mod metrics;
pub mod run;
pub mod runs;
pub mod service;

pub use cache::Cache;
pub use checkpoints::{CheckpointInfo, Checkpoints};
pub use error::{RememberError, Result, ServerFailure};
pub use journal::{Entry, Journal, PutOutcome};
pub use metrics::Metrics;
pub use run::Run;
pub use runs::{RunDetails, RunState, RunSummary, Runs};
