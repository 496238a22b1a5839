//! What a person may want to see while something long runs.

use crate::rounds::RoundReport;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Told about progress; the terminal and the web page draw it.
pub trait Observer: Send + Sync {
    /// A phase begins: `round`, its name, and how many units it has.
    fn phase(&self, round: usize, name: &str, units: usize);

    /// `units` more are done; `tokens` more were read or written. `replayed` units come from the journal.
    fn advance(&self, units: usize, tokens: usize, replayed: bool);

    /// A round is complete.
    fn round(&self, report: &RoundReport) {
        let _ = report;
    }

    /// Something worth a line.
    fn note(&self, text: &str) {
        let _ = text;
    }
}

/// Sees nothing.
pub struct Quiet;

impl Observer for Quiet {
    fn phase(&self, _: usize, _: &str, _: usize) {}
    fn advance(&self, _: usize, _: usize, _: bool) {}
}

/// A flag that asks long work to stop at the next safe point.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Asks to stop.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked.
    pub fn stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
