//! What later attempts made of first ones: counted, with intervals.

use crate::failure::Failure;
use crate::loops::{Followed, Judged};
use crate::output;
use elenchus_measure::{
    Bootstrap, CorrectionQuestion, Dialogue, IndependentSecond, Interval, SelfCorrectionIntervals,
    independent_second, self_correction_intervals,
};
use serde::Serialize;

/// What later attempts made of the first ones.
#[derive(Debug, Serialize)]
pub struct Correction {
    /// Dialogues whose first attempt was right and whose last is wrong; problems, where each has one.
    right_to_wrong: usize,
    /// Dialogues whose first attempt was wrong and whose last is right.
    wrong_to_right: usize,
    /// Dialogues of all problems together.
    dialogues: usize,
    /// Dialogues without a second turn, which are not among them.
    #[serde(skip_serializing_if = "is_zero")]
    unfinished: usize,
    /// What second answers would be that know nothing of the first, where problems have several dialogues.
    #[serde(skip_serializing_if = "Option::is_none")]
    independent: Option<IndependentSecond>,
    /// What the counts cannot tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    caution: Option<&'static str>,
    /// Accuracies before and after, and their decomposition.
    #[serde(flatten)]
    shares: SelfCorrectionIntervals,
}

/// One dialogue per problem hides sampling noise as critique.
const ONE_DIALOGUE: &str = "one dialogue per problem: what changed cannot be told apart from sampling noise (`ask-again` holds several)";

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Correction {
    /// Of one dialogue per problem; there must be one.
    pub fn of(dialogues: &[Dialogue], seed: u64) -> Result<Self, Failure> {
        let questions: Vec<Vec<Dialogue>> = dialogues.iter().map(|&dialogue| vec![dialogue]).collect();
        Correction::of_questions(&questions, 0, seed)
    }

    /// Of the dialogues of each problem, at least one; `unfinished` others have no second turn.
    fn of_questions(questions: &[Vec<Dialogue>], unfinished: usize, seed: u64) -> Result<Self, Failure> {
        let all = || questions.iter().flatten();
        let count = |wanted: Dialogue| all().filter(|found| **found == wanted).count();
        let shares = questions
            .iter()
            .map(|dialogues| Ok(CorrectionQuestion::from_dialogues(dialogues)?))
            .collect::<Result<Vec<_>, Failure>>()?;
        let bootstrap = Bootstrap::default().seed(seed);
        let independent = independent_second(questions, &bootstrap)?;
        Ok(Correction {
            right_to_wrong: count(Dialogue { first: true, second: false }),
            wrong_to_right: count(Dialogue { first: false, second: true }),
            dialogues: all().count(),
            unfinished,
            caution: independent.is_none().then_some(ONE_DIALOGUE),
            independent,
            shares: self_correction_intervals(&shares, &bootstrap)?,
        })
    }

    /// Of the loops or dialogues of a strategy; `correct` is 1 for each answer that is right. `None` where no dialogue has a
    /// second turn. The end of a loop is its answer.
    pub fn of_loops(followed: &[Followed], correct: &[f64], seed: u64) -> Result<Option<Self>, Failure> {
        let (mut questions, mut unfinished) = (Vec::with_capacity(followed.len()), 0);
        for (one, correct) in followed.iter().zip(correct) {
            match one {
                Followed::Loop(Judged { right, .. }) => {
                    let first = right.first().copied().unwrap_or(false);
                    questions.push(vec![Dialogue { first, second: *correct > 0.0 }]);
                }
                Followed::Dialogues(dialogues) => {
                    let finished: Vec<Dialogue> = dialogues
                        .iter()
                        .filter_map(|dialogue| match dialogue.right.as_slice() {
                            [first, .., second] => Some(Dialogue { first: *first, second: *second }),
                            _ => None,
                        })
                        .collect();
                    unfinished += dialogues.len() - finished.len();
                    if !finished.is_empty() {
                        questions.push(finished);
                    }
                }
            }
        }
        if questions.is_empty() {
            return Ok(None);
        }
        Ok(Some(Correction::of_questions(&questions, unfinished, seed)?))
    }

    /// In lines.
    pub fn lines(&self) -> Vec<String> {
        let SelfCorrectionIntervals { n, acc1, acc2, cl, cs, rss, .. } = &self.shares;
        let mut lines = vec![format!(
            "first attempts {}, last {}; right to wrong {}, wrong to right {}",
            output::percent(acc1),
            output::percent(acc2),
            self.right_to_wrong,
            self.wrong_to_right
        )];
        if let Some(alone) = &self.independent {
            let rss = rss.map_or("undefined".into(), |rss| {
                format!("{:.3} [{:.3}, {:.3}]", rss.value, rss.low, rss.high)
            });
            lines.push(format!(
                "{} dialogues of {n} problems: right kept (CL) {}, wrong repaired (CS) {}, RSS {rss}",
                self.dialogues,
                share(cl),
                share(cs)
            ));
            let above = |interval: &Option<Interval>| interval.as_ref().map_or("–".into(), output::points);
            lines.push(format!(
                "an independent second sample: CL {}, CS {}; above it: CL {}, CS {}",
                share(&alone.cl),
                share(&alone.cs),
                above(&alone.cl_above),
                above(&alone.cs_above)
            ));
        }
        if self.unfinished > 0 {
            lines.push(format!("{} dialogues without a second turn are left out", self.unfinished));
        }
        lines.extend(self.caution.map(String::from));
        lines
    }

    /// Name and value of everything, for a list.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let shares = &self.shares;
        vec![
            ("problems", shares.n.to_string()),
            ("first right", output::percent(&shares.acc1)),
            ("last right", output::percent(&shares.acc2)),
            ("gain", output::points(&shares.gain)),
            ("right to wrong", self.right_to_wrong.to_string()),
            ("wrong to right", self.wrong_to_right.to_string()),
            ("right kept", share(&shares.cl)),
            ("wrong repaired", share(&shares.cs)),
        ]
    }
}

/// A share that may be undefined.
fn share(interval: &Option<Interval>) -> String {
    interval.as_ref().map_or("undefined".into(), output::percent)
}
