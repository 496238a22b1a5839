//! Mathematical answers: find them in a response, parse them, and decide whether two of them mean the same.

mod options;

pub use options::{Equivalence, Extractor, MathError, Options, Relation};

/// Decides whether the answer in `pred` means the same as the answer in `gold`.
///
/// Both texts may be bare answers or whole responses; [`Options`] says how answers are found and compared.
pub fn equivalent(gold: &str, pred: &str, options: &Options) -> Equivalence {
    let _ = options;
    if gold.trim() == pred.trim() {
        Equivalence { relation: Relation::Equivalent, reason: "same text".into() }
    } else {
        Equivalence { relation: Relation::Undecided, reason: "not parsed".into() }
    }
}
