//! The account that a consistency gate writes into its trace, and reads back for whoever knows the right answers.

use crate::ConsistencyMeasure;
use elenchus_measure::Consistency;
use elenchus_trace::{NodeKind, Trace, Votes};
use serde::{Deserialize, Serialize};

/// How consistent the responses to one problem were: the data of the last decision of `consistency-gate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConsistencyRecord {
    /// Responses that came.
    pub drawn: usize,
    /// Most responses.
    pub of: usize,
    /// Looks at the answers.
    pub rounds: usize,
    /// What was looked at.
    pub measure: ConsistencyMeasure,
    /// What it had to reach.
    pub enough: f64,
    /// Its value at each look; `None` for a single response, which agrees with nobody.
    pub history: Vec<Option<f64>>,
    /// All measures at the last look; `None` without a response.
    pub consistency: Option<Consistency>,
    /// Why no more were drawn.
    pub stopped: String,
    /// Whether all responses are one text: their consistency says nothing then.
    pub identical: bool,
    /// How the votes fell.
    pub votes: Vec<Votes>,
}

impl ConsistencyRecord {
    /// The account in a trace; `None` for a strategy that writes none.
    pub fn of(trace: &Trace) -> Option<Self> {
        trace.nodes.iter().rev().find_map(|node| match &node.kind {
            NodeKind::Decided { data, .. } => serde_json::from_value(data.clone()).ok(),
            _ => None,
        })
    }

    /// The consistency c at the end, in [0, 1]; `None` with fewer than two responses.
    pub fn value(&self) -> Option<f64> {
        self.history.last().copied().flatten()
    }
}
