//! What critiques said, turn by turn, against what is true of the solutions that they are about.

use crate::failure::Failure;
use crate::loops::Followed;
use crate::output;
use elenchus_control::CritiqueTurn;
use elenchus_measure::{Interval, accuracy};
use elenchus_task::Task;
use elenchus_trace::Answer;
use serde::Serialize;

/// The critiques of one turn.
#[derive(Debug, Serialize)]
pub struct Critiques {
    /// From 1.
    turn: usize,
    /// How many there are.
    critiques: usize,
    /// Those that cannot be read, or whose correction has no answer.
    unreadable: usize,
    /// Those that say whether the solution is right.
    verdicts: usize,
    /// Share of these that say what is true.
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict_accuracy: Option<Interval>,
    /// Critiques that can be read of wrong solutions whose first wrong step the task's verifier knows.
    first_errors: usize,
    /// Share of these that name that step.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_error_accuracy: Option<Interval>,
    /// Corrections of which it is known whether they keep the steps before the first error.
    corrections: usize,
    /// Those that keep them; the others solve anew.
    kept_steps: usize,
}

/// Counts of one turn.
#[derive(Default)]
struct Counts {
    critiques: usize,
    unreadable: usize,
    verdicts: [usize; 2],
    first_errors: [usize; 2],
    kept_steps: [usize; 2],
}

/// Adds to a count of right ones among all.
fn add(count: &mut [usize; 2], right: bool) {
    count[0] += usize::from(right);
    count[1] += 1;
}

impl Critiques {
    /// Of the traces of a strategy, turn by turn; none where it does not criticise in turns.
    pub fn of(followed: &[Followed], answers: &[Answer], task: &dyn Task) -> Result<Vec<Self>, Failure> {
        let mut turns: Vec<Counts> = Vec::new();
        for (one, answer) in followed.iter().zip(answers) {
            let Some(judged) = one.as_loop() else { continue };
            for said in CritiqueTurn::all(&answer.trace) {
                let Some(index) = said.turn.checked_sub(1) else { continue };
                if turns.len() <= index {
                    turns.resize_with(index + 1, Counts::default);
                }
                let counts = &mut turns[index];
                counts.critiques += 1;
                counts.unreadable += usize::from(said.unreadable);
                if let Some(kept) = said.kept_steps {
                    add(&mut counts.kept_steps, kept);
                }
                // The first turn is about the first attempt; of later ones, traces of earlier versions do not say.
                let Some(about) = said.criticised.or((said.turn == 1).then_some(0)) else { continue };
                let Some(&right) = judged.right.get(about) else { continue };
                if let Some(verdict) = said.verdict {
                    add(&mut counts.verdicts, verdict == right);
                }
                let read = said.verdict.is_some() || said.first_error.is_some();
                if right || !read {
                    continue;
                }
                let Some(text) = judged.log.text(&answer.trace, about) else { continue };
                if let Some(first) = task.verify(&answer.trace.problem, text)?.first_wrong_step() {
                    add(&mut counts.first_errors, said.first_error == Some(first));
                }
            }
        }
        let share = |[right, all]: [usize; 2]| (all > 0).then(|| accuracy(right, all)).transpose();
        turns
            .into_iter()
            .enumerate()
            .map(|(index, counts)| {
                Ok(Critiques {
                    turn: index + 1,
                    critiques: counts.critiques,
                    unreadable: counts.unreadable,
                    verdicts: counts.verdicts[1],
                    verdict_accuracy: share(counts.verdicts)?,
                    first_errors: counts.first_errors[1],
                    first_error_accuracy: share(counts.first_errors)?,
                    corrections: counts.kept_steps[1],
                    kept_steps: counts.kept_steps[0],
                })
            })
            .collect()
    }

    /// A table of all turns.
    pub fn table(turns: &[Self]) -> String {
        let heading =
            ["turn", "critiques", "unreadable", "right verdicts", "right first errors", "steps kept"];
        let mut rows = vec![heading.map(String::from).to_vec()];
        let of = |share: &Option<Interval>, all: usize| match share {
            Some(share) => format!("{} of {all}", output::percent(share)),
            None => "none to judge".into(),
        };
        rows.extend(turns.iter().map(|turn| {
            vec![
                turn.turn.to_string(),
                turn.critiques.to_string(),
                turn.unreadable.to_string(),
                of(&turn.verdict_accuracy, turn.verdicts),
                of(&turn.first_error_accuracy, turn.first_errors),
                format!("{} of {}", turn.kept_steps, turn.corrections),
            ]
        }));
        output::table(&rows)
    }
}
