//! What attempts kept of the answer before them, where two options had changed places in between.

use elenchus_control::{Kept, RetryRound};
use elenchus_trace::Trace;
use serde::Serialize;

/// Counts over the attempts of several problems.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Exchanges {
    /// Attempts before which two options had changed places.
    pub attempts: usize,
    /// Those that named the same label again: right by the exchange alone.
    pub kept_label: usize,
    /// Those that named the same option again, under its other label.
    pub kept_option: usize,
}

impl Exchanges {
    /// Of the traces of a strategy; `None` where no options changed places.
    pub fn of<'a>(traces: impl IntoIterator<Item = &'a Trace>) -> Option<Self> {
        let mut found = Exchanges::default();
        for exchange in traces.into_iter().flat_map(RetryRound::all).filter_map(|round| round.exchange) {
            found.attempts += 1;
            found.kept_label += usize::from(exchange.kept == Some(Kept::Label));
            found.kept_option += usize::from(exchange.kept == Some(Kept::Option));
        }
        (found.attempts > 0).then_some(found)
    }

    /// In one line.
    pub fn line(&self) -> String {
        let Exchanges { attempts, kept_label, kept_option } = *self;
        format!(
            "after two options had changed places, {kept_label} of {attempts} attempts kept the letter (right by the \
             exchange alone), {kept_option} kept the option, {} neither",
            attempts - kept_label - kept_option
        )
    }
}
