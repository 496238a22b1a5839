//! How many problems of the validation split a model solves: the figure on many cards.

use elenchus_learn::rollouts::{RolloutSettings, judged_rollouts, mix};
use elenchus_learn::{LearnError, NativePolicy, Session};
use elenchus_task::{Split, Task};

/// Share of `count` validation problems whose one sample is right, and how many problems there were. Temperature 0 is greedy
/// decoding.
///
/// # Errors
/// Problems that cannot be made, sampled or verified; [`LearnError::Interrupted`].
pub(super) fn solved(
    policy: &mut NativePolicy,
    task: &dyn Task,
    count: usize,
    temperature: f32,
    max_new_tokens: usize,
    seed: u64,
    session: &Session<'_>,
) -> Result<(f64, usize), LearnError> {
    let problems = task.problems(Split::Validation, count, mix(seed, 1))?;
    let settings =
        RolloutSettings { samples: 1, temperature, max_new_tokens, seed: mix(seed, 2), distributions: false };
    let judged = judged_rollouts(policy, task, &problems, &settings, "validation", session)?;
    let right = judged.iter().flatten().filter(|judged| judged.verdict.is_correct()).count();
    Ok((right as f64 / problems.len().max(1) as f64, problems.len()))
}
