//! Own samples of arithmetic problems, and rows that keep a checkpoint able to solve: what several checkpoints begin with.

use elenchus_learn::objective::TrainingRow;
use elenchus_learn::policy::{Encode, text_row};
use elenchus_learn::rollouts::{Judged, RolloutSettings, judged_rollouts, mix};
use elenchus_learn::trainer::Generated;
use elenchus_learn::{LearnError, NativePolicy, Session};
use elenchus_task::arithmetic::{Arithmetic, ArithmeticSettings, Steps, skills};
use elenchus_task::{Split, Task};
use elenchus_trace::Problem;

/// Most tokens of a sampled chain.
pub(super) const LONGEST: usize = 160;

/// Arithmetic problems with the fewest and most operations.
pub(super) fn arithmetic(steps: [usize; 2]) -> Result<Arithmetic, LearnError> {
    Ok(Arithmetic::new(ArithmeticSettings { steps: Steps::Between(steps), ..Default::default() })?)
}

/// How many samples of each problem are drawn, and at which temperature.
pub(super) struct OwnSamples {
    pub samples: usize,
    pub temperature: f32,
}

impl OwnSamples {
    /// `count` problems of a split, each with its samples, judged by the exact verifier.
    pub fn draw(
        &self,
        policy: &mut NativePolicy,
        task: &dyn Task,
        split: Split,
        count: usize,
        seed: u64,
        session: &Session<'_>,
    ) -> Result<Vec<(Problem, Vec<Judged>)>, LearnError> {
        let problems = task.problems(split, count, mix(seed, 1))?;
        let settings = RolloutSettings {
            samples: self.samples,
            temperature: self.temperature,
            max_new_tokens: LONGEST,
            seed: mix(seed, 2),
            distributions: false,
        };
        session.observer.phase(0, "own answers", problems.len());
        let label = format!("own/{split:?}").to_lowercase();
        let judged = judged_rollouts(policy, task, &problems, &settings, &label, session)?;
        Ok(problems.into_iter().zip(judged).collect())
    }
}

/// Fresh training problems with their gold solutions, `rows` in a batch.
pub(super) fn solve_rows(
    task: Arithmetic,
    encoder: Box<dyn Encode>,
    rows: usize,
    seed: u64,
) -> Generated<impl FnMut(u64) -> Result<TrainingRow, LearnError>> {
    Generated::new(rows, seed, move |seed| {
        let problem = task.problems(Split::Train, 1, seed)?.into_iter().next();
        let row = problem.as_ref().map(skills::solve_row).transpose()?.ok_or_else(|| LearnError::Data {
            what: "the arithmetic task gave no problem".into(),
            hint: "set `steps` to a range that has problems".into(),
        })?;
        text_row(encoder.as_ref(), &row.prompt, &row.target)
    })
}
