//! Training on own samples: a better response in view of a worst and a best one. Every arm uses the model that comes of it.

use super::Training;
use super::substrate::{Substrate, Worth, with_feedback};
use crate::RecipeError;
use crate::reproduce::Reproduce;
use crate::reproduce::pool::{Asked, Drawing, Pool, draw};
use elenchus_learn::objective::TrainingRow;
use elenchus_learn::policy::{Policy, text_row};
use elenchus_learn::rollouts::mix;
use elenchus_task::{Skill, Split, TaskError};
use elenchus_trace::Problem;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The compact prompt in view of earlier responses: the worse one first, as in the template `contrast`.
pub(super) fn contrast_prompt(problem: &Problem, best: &str, worst: Option<&str>) -> String {
    match worst {
        Some(worst) => Skill::Aggregate.prompt(problem, &[worst, best]),
        None => Skill::Again.prompt(problem, &[best]),
    }
}

/// Training rows from own samples on training problems: the problem alone, in view of a best and a worst sample, and in
/// view of a best one; the target of the latter two is worth more than the best shown: the best sample, or the task's own solution
/// where no sample solves the problem and the settings say so.
pub(super) fn rows(
    input: &Reproduce<'_>,
    training: &Training,
    policy: &mut dyn Policy,
    substrate: &Substrate,
    label: &str,
) -> Result<Vec<Vec<TrainingRow>>, RecipeError> {
    let task = substrate.task();
    let problems = task.problems(Split::Train, training.questions, mix(input.seed, 61))?;
    let asked: Vec<Asked<'_>> =
        problems.iter().map(|problem| Asked::new(problem, Skill::Solve.prompt(problem, &[]))).collect();
    let seed = mix(input.seed, 71);
    let drawing =
        Drawing { samples: training.samples, temperature: 1.0, max_new_tokens: substrate.longest(), seed };
    let pools = draw(input, policy, task, &asked, drawing, &format!("{label}/train samples"))?;
    let mut rows = Vec::new();
    for (q, (problem, pool)) in problems.iter().zip(&pools).enumerate() {
        let reference = task.reference(problem);
        if let Some(reference) = &reference {
            rows.push(vec![text_row(policy, &Skill::Solve.prompt(problem, &[]), reference)?]);
        }
        let (solution, seed) =
            (reference.as_deref().filter(|_| training.solutions), mix(input.seed, q as u64));
        if let Some([worst, best, better]) = revision(substrate, problem, pool, solution, seed)? {
            let [worst, best] = [worst, best].map(|seen| match training.feedback {
                true => with_feedback(seen.text, seen.worth.seen, &seen.worth.fault),
                false => seen.text.to_string(),
            });
            let both = contrast_prompt(problem, &best, Some(&worst));
            rows.push(vec![text_row(policy, &both, better.text)?]);
            rows.push(vec![text_row(policy, &contrast_prompt(problem, &best, None), better.text)?]);
        }
    }
    Ok(rows)
}

/// A response and its worth.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Valued<'p> {
    pub text: &'p str,
    pub worth: Worth,
}

/// A worst, a best and a still better response to one problem, where they have three different values: the better
/// one is the best of all, the solution, if any, where no sample solves the problem; the other two are drawn among the rest.
pub(super) fn revision<'p>(
    substrate: &Substrate,
    problem: &Problem,
    pool: &'p Pool,
    solution: Option<&'p str>,
    seed: u64,
) -> Result<Option<[Valued<'p>; 3]>, TaskError> {
    let value = |text: &'p str| Ok(Valued { text, worth: substrate.worth(problem, text)? });
    let valued = pool.samples.iter().map(|sample| value(&sample.text));
    let mut valued = valued.collect::<Result<Vec<_>, TaskError>>()?;
    if valued.iter().all(|one| one.worth.truth < 1.0)
        && let Some(solution) = solution
    {
        valued.push(value(solution)?);
    }
    Ok(contrast(valued, seed))
}

fn contrast(mut valued: Vec<Valued<'_>>, seed: u64) -> Option<[Valued<'_>; 3]> {
    let truth = |one: &Valued<'_>| one.worth.truth;
    valued.sort_by(|a, b| truth(a).total_cmp(&truth(b)));
    let better = valued.pop()?;
    valued.retain(|one| truth(one) < truth(&better));
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let one = valued.get(random.random_range(0..valued.len().max(1)))?;
    let others: Vec<&Valued<'_>> = valued.iter().filter(|other| truth(other) != truth(one)).collect();
    let other = *others.get(random.random_range(0..others.len().max(1)))?;
    let (worst, best) = if truth(one) < truth(other) { (one, other) } else { (other, one) };
    Some([worst.clone(), best.clone(), better])
}
