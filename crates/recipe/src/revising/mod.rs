//! Writing a better response in view of a best and a worst one (arXiv 2504.01931): the prompts, and what teaches a model to
//! read them. Known to the experiment and to the checkpoint of the lab that it uses.

mod substrate;

pub(crate) use substrate::{Substrate, Worth, with_feedback};

use elenchus_learn::LearnError;
use elenchus_learn::objective::TrainingRow;
use elenchus_learn::policy::{Encode, text_row};
use elenchus_task::{Skill, TaskError};
use elenchus_trace::Problem;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The compact prompt in view of earlier responses: the worse one first, as in the template `contrast`.
pub(crate) fn contrast_prompt(problem: &Problem, best: &str, worst: Option<&str>) -> String {
    match worst {
        Some(worst) => Skill::Aggregate.prompt(problem, &[worst, best]),
        None => Skill::Again.prompt(problem, &[best]),
    }
}

/// How rows are made of own samples.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lesson {
    /// Whether the task's own solution is what follows a worst and a best sample where no sample solves the problem. Else
    /// the best of the samples is, so that what is learned may be better and still wrong.
    pub solutions: bool,
    /// Whether prompts carry, behind each response they show, the verifier's score and the first shown test that fails with
    /// what came back in it.
    pub feedback: bool,
}

impl Lesson {
    /// The rows of one training problem and own samples of it: the problem alone, in view of a worst and a best sample, and in
    /// view of a best one alone. The target of the latter two is worth more than the best that is shown.
    pub fn rows(
        self,
        encoder: &dyn Encode,
        substrate: &Substrate,
        problem: &Problem,
        samples: &[&str],
        seed: u64,
    ) -> Result<Vec<TrainingRow>, LearnError> {
        let reference = substrate.task().reference(problem);
        let mut rows = Vec::with_capacity(3);
        if let Some(reference) = &reference {
            rows.push(text_row(encoder, &Skill::Solve.prompt(problem, &[]), reference)?);
        }
        let solution = reference.as_deref().filter(|_| self.solutions);
        if let Some([worst, best, better]) = revision(substrate, problem, samples, solution, seed)? {
            let [worst, best] =
                [worst, best].map(|one| self.shown(one.text, one.worth.seen, &one.worth.fault));
            for prompt in
                [contrast_prompt(problem, &best, Some(&worst)), contrast_prompt(problem, &best, None)]
            {
                rows.push(text_row(encoder, &prompt, better.text)?);
            }
        }
        Ok(rows)
    }

    /// A response as a later prompt shows it.
    pub fn shown(self, text: &str, score: f64, fault: &str) -> String {
        match self.feedback {
            true => with_feedback(text, score, fault),
            false => text.to_string(),
        }
    }
}

/// A response and its worth.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Valued<'p> {
    pub text: &'p str,
    pub worth: Worth,
}

/// A worst, a best and a still better response to one problem, where they have three different values: the better
/// one is the best of all, the solution, if any, where no sample solves the problem; the other two are drawn among the rest.
pub(crate) fn revision<'p>(
    substrate: &Substrate,
    problem: &Problem,
    samples: &[&'p str],
    solution: Option<&'p str>,
    seed: u64,
) -> Result<Option<[Valued<'p>; 3]>, TaskError> {
    let value = |text: &'p str| Ok(Valued { text, worth: substrate.worth(problem, text)? });
    let mut valued = samples.iter().map(|text| value(text)).collect::<Result<Vec<_>, TaskError>>()?;
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

#[cfg(test)]
mod tests;
