//! What later attempts made of first ones: counted, with intervals.

use crate::failure::Failure;
use crate::output;
use elenchus_measure::{
    Bootstrap, CorrectionQuestion, Dialogue, SelfCorrectionIntervals, self_correction_intervals,
};
use serde::Serialize;

/// What later attempts made of the first ones.
#[derive(Debug, Serialize)]
pub struct Correction {
    /// Problems whose first attempt was right and whose last is wrong.
    right_to_wrong: usize,
    /// Problems whose first attempt was wrong and whose last is right.
    wrong_to_right: usize,
    /// Accuracies before and after, and their decomposition.
    #[serde(flatten)]
    shares: SelfCorrectionIntervals,
}

impl Correction {
    /// Of one dialogue per problem; there must be one.
    pub fn of(dialogues: &[Dialogue], seed: u64) -> Result<Self, Failure> {
        let count = |wanted: Dialogue| dialogues.iter().filter(|found| **found == wanted).count();
        let questions = dialogues
            .iter()
            .map(|dialogue| Ok(CorrectionQuestion::from_dialogues(&[*dialogue])?))
            .collect::<Result<Vec<_>, Failure>>()?;
        Ok(Correction {
            right_to_wrong: count(Dialogue { first: true, second: false }),
            wrong_to_right: count(Dialogue { first: false, second: true }),
            shares: self_correction_intervals(&questions, &Bootstrap::default().seed(seed))?,
        })
    }

    /// In one line.
    pub fn line(&self) -> String {
        format!(
            "first attempts {}, last {}; right to wrong {}, wrong to right {}",
            output::percent(&self.shares.acc1),
            output::percent(&self.shares.acc2),
            self.right_to_wrong,
            self.wrong_to_right
        )
    }

    /// Name and value of everything, for a list.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let shares = &self.shares;
        let optional = |interval: Option<elenchus_measure::Interval>| {
            interval.map_or("undefined".into(), |interval| output::percent(&interval))
        };
        let points = |interval: elenchus_measure::Interval| {
            let [value, low, high] = [interval.value, interval.low, interval.high].map(|v| 100.0 * v);
            format!("{value:+.1} points [{low:+.1}, {high:+.1}]")
        };
        vec![
            ("problems", shares.n.to_string()),
            ("first right", output::percent(&shares.acc1)),
            ("last right", output::percent(&shares.acc2)),
            ("gain", points(shares.gain)),
            ("right to wrong", self.right_to_wrong.to_string()),
            ("wrong to right", self.wrong_to_right.to_string()),
            ("right kept", optional(shares.cl)),
            ("wrong repaired", optional(shares.cs)),
        ]
    }
}
