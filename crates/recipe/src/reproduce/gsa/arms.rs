//! The arms on one task: who answers in view of what, and what became of the drafts.

use super::{
    CHOICE, COPIES, DRAFTS, GREEDY, GSA, ONE_DRAFT, PLAIN, REFINE, RESPONSES, REWRITE, SAMPLES, Settings,
    Trained, UNTUNED, VOTE, WRONG,
};
use crate::RecipeError;
use crate::lab::counter::{choice_prompt, chosen};
use crate::reproduce::Reproduce;
use crate::reproduce::pool::{Arm, Asked, Drawing, Pool, Spent, credit, draw, mean};
use elenchus_control::majority;
use elenchus_learn::policy::Policy;
use elenchus_learn::rollouts::mix;
use elenchus_task::{Skill, Task, parse_critique};
use elenchus_trace::Problem;

/// What is measured on one task.
pub(super) struct Bench<'a> {
    pub input: &'a Reproduce<'a>,
    pub task: &'a dyn Task,
    pub problems: Vec<Problem>,
    /// Tokens of one response at most.
    pub longest: usize,
    pub label: String,
}

/// Whether the drafts of a question were right, and what was made of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Made {
    /// Whether the drafts' most frequent answer is right.
    pub majority_right: bool,
    /// Whether all drafts have one answer.
    pub unanimous: bool,
    /// Whether any draft is right.
    pub any_right: bool,
    /// Whether the new response is right.
    pub right: bool,
    /// Whether its answer is the drafts' most frequent one.
    pub repeats: bool,
    /// Whether its answer is in no draft.
    pub novel: bool,
    /// Mean log-probability of its tokens.
    pub logprob: f64,
}

impl Bench<'_> {
    fn ask(
        &self,
        policy: &mut dyn Policy,
        what: &str,
        samples: usize,
        temperature: f32,
        prompt: impl Fn(usize, &Problem) -> String,
    ) -> Result<Vec<Pool>, RecipeError> {
        let asked: Vec<Asked<'_>> = self
            .problems
            .iter()
            .enumerate()
            .map(|(q, problem)| Asked::new(problem, prompt(q, problem)))
            .collect();
        let seed = mix(self.input.seed, what.bytes().map(u64::from).sum::<u64>() + 40);
        let drawing = Drawing { samples, temperature, max_new_tokens: self.longest, seed };
        draw(self.input, policy, self.task, &asked, drawing, &format!("{}/{what}", self.label))
    }

    fn solve(
        &self,
        policy: &mut dyn Policy,
        what: &str,
        samples: usize,
        t: f32,
    ) -> Result<Vec<Pool>, RecipeError> {
        self.ask(policy, what, samples, t, |_, problem| Skill::Solve.prompt(problem, &[]))
    }

    /// The new response in view of the drafts that `drafts` gives for a question, greedy.
    fn aggregate<'d>(
        &self,
        policy: &mut dyn Policy,
        what: &str,
        drafts: impl Fn(usize) -> Vec<&'d str>,
    ) -> Result<Vec<Pool>, RecipeError> {
        self.ask(policy, what, 1, 0.0, |q, problem| Skill::Aggregate.prompt(problem, &drafts(q)))
    }
}

/// The texts of the first drafts of a question.
pub(super) fn texts(pool: &Pool, count: usize) -> Vec<&str> {
    pool.samples.iter().take(count).map(|sample| sample.text.as_str()).collect()
}

/// A vote over the first samples of each question; ties go to the answer seen first.
pub(super) fn vote(pools: &[Pool], count: usize) -> Arm {
    let mut arm = Arm::default();
    for pool in pools {
        let answers: Vec<Option<&str>> =
            pool.samples.iter().take(count).map(|s| s.answer.as_deref()).collect();
        let chosen = majority(&answers, |a, b| a == b).sample();
        arm.push(credit(chosen.is_some_and(|s| pool.samples[s].correct)), pool.spent(count));
    }
    arm
}

/// The first sample of each question.
fn first(pools: &[Pool]) -> Arm {
    vote(pools, 1)
}

/// What the drafts and the new responses have to do with each other.
pub(super) fn made(drafts: &[Pool], written: &[Pool]) -> Vec<Made> {
    drafts
        .iter()
        .zip(written)
        .filter_map(|(pool, written)| {
            let drafts = &pool.samples[..DRAFTS.min(pool.samples.len())];
            let answers: Vec<Option<&str>> = drafts.iter().map(|s| s.answer.as_deref()).collect();
            let vote = majority(&answers, |a, b| a == b);
            let response = written.samples.first()?;
            let answer = response.answer.as_deref();
            let most = vote.sample();
            Some(Made {
                majority_right: most.is_some_and(|s| drafts[s].correct),
                unanimous: vote.groups.len() == 1 && answers.iter().all(Option::is_some),
                any_right: drafts.iter().any(|s| s.correct),
                right: response.correct,
                repeats: most.is_some_and(|s| answers[s] == answer),
                novel: answer.is_some() && !answers.contains(&answer),
                logprob: response.mean_logprob(),
            })
        })
        .collect()
}

/// Spending of drafts and the new response.
pub(super) fn spending(drafts: &Pool, count: usize, written: &Pool) -> Spent {
    drafts.spent(count) + written.spent(1)
}

pub(super) fn aggregated(drafts: &[Pool], count: usize, written: &[Pool]) -> Arm {
    let mut arm = Arm::default();
    for (drafts, written) in drafts.iter().zip(written) {
        let right = written.samples.first().is_some_and(|response| response.correct);
        arm.push(credit(right), spending(drafts, count, written));
    }
    arm
}

/// Three drafts, and one greedy reply that names the number of the chosen one; the first where it names none. Also the mean
/// log-probability of the tokens of each reply, and the share of replies that name a draft.
fn choice(
    bench: &Bench<'_>,
    policy: &mut dyn Policy,
    drafts: &[Pool],
) -> Result<(Arm, Vec<f64>, f64), RecipeError> {
    let replies = bench.ask(policy, "choice", 1, 0.0, |q, p| choice_prompt(p, &texts(&drafts[q], DRAFTS)))?;
    let (mut arm, mut said, mut named) = (Arm::default(), Vec::new(), Vec::new());
    for (pool, reply) in drafts.iter().zip(&replies) {
        let (pick, logprob) = reply
            .samples
            .first()
            .map_or((None, 0.0), |reply| (chosen(&reply.text, DRAFTS), reply.mean_logprob()));
        arm.push(credit(pool.samples[pick.unwrap_or(0)].correct), spending(pool, DRAFTS, reply));
        said.push(logprob);
        named.push(credit(pick.is_some()));
    }
    Ok((arm, said, mean(&named)))
}

/// Solve, critique, refine, and answer once more with the refined solution in view: four responses, all greedy but the
/// first. A critique that finds nothing, or cannot be read, leaves the solution as it is.
fn refined(bench: &Bench<'_>, policy: &mut dyn Policy, drafts: &[Pool]) -> Result<Arm, RecipeError> {
    let task = bench.task;
    let draft = |q: usize| drafts[q].samples[0].text.as_str();
    let critiques = bench.ask(policy, "critique", 1, 0.0, |q, p| Skill::Critique.prompt(p, &[draft(q)]))?;
    let said = |q: usize| critiques[q].samples[0].text.as_str();
    let refine = bench.ask(policy, "refine", 1, 0.0, |q, p| Skill::Refine.prompt(p, &[draft(q), said(q)]))?;
    let kept: Vec<bool> = (0..drafts.len())
        .map(|q| {
            let steps = task.steps(&bench.problems[q], draft(q)).len();
            parse_critique(said(q), steps).map_or(true, |critique| critique.first_wrong.is_none())
        })
        .collect();
    let current = |q: usize| if kept[q] { draft(q) } else { refine[q].samples[0].text.as_str() };
    let again = bench.ask(policy, "again", 1, 0.0, |q, p| Skill::Again.prompt(p, &[current(q)]))?;
    let mut arm = Arm::default();
    for q in 0..drafts.len() {
        let spent = drafts[q].spent(1) + critiques[q].spent(1) + refine[q].spent(1) + again[q].spent(1);
        arm.push(credit(again[q].samples[0].correct), spent);
    }
    Ok(arm)
}

/// Per-question outcomes of everything on one task, over all models one after another.
#[derive(Default)]
pub(super) struct Outcomes {
    pub arms: Vec<(String, Arm)>,
    pub made: Vec<Made>,
    pub wrong_drafts: Vec<Made>,
    /// Mean log-probability of the reply that chooses.
    pub choice_logprobs: Vec<f64>,
    /// Share of such replies that name a draft, per model.
    pub choices_named: Vec<f64>,
}

impl Outcomes {
    fn add(&mut self, name: &str, arm: Arm) {
        match self.arms.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => {
                known.right.extend(arm.right);
                known.spent.extend(arm.spent);
            }
            None => self.arms.push((name.into(), arm)),
        }
    }

    pub fn right(&self, name: &str) -> &[f64] {
        self.arms.iter().find(|(known, _)| known == name).map_or(&[], |(_, arm)| &arm.right)
    }
}

/// The arms of all tasks.
pub(super) fn common(
    bench: &Bench<'_>,
    trained: &mut Trained,
    temperature: f32,
    outcomes: &mut Outcomes,
) -> Result<(), RecipeError> {
    let Trained { reader, solver } = trained;
    let (reader, solver) = (reader.as_mut(), solver.as_mut());
    outcomes.add(GREEDY, first(&bench.solve(reader, "greedy", 1, 0.0)?));
    let drafts = bench.solve(reader, "drafts", SAMPLES, temperature)?;
    outcomes.add(VOTE, vote(&drafts, RESPONSES));
    outcomes.add(ONE_DRAFT, first(&drafts));
    let (choice, said, named) = choice(bench, reader, &drafts)?;
    outcomes.add(CHOICE, choice);
    outcomes.choice_logprobs.extend(said);
    outcomes.choices_named.push(named);
    let rewritten = bench.aggregate(reader, "gsa of 1", |q| texts(&drafts[q], 1))?;
    outcomes.add(REWRITE, aggregated(&drafts, 1, &rewritten));
    let written = bench.aggregate(reader, "gsa", |q| texts(&drafts[q], DRAFTS))?;
    outcomes.add(GSA, aggregated(&drafts, DRAFTS, &written));
    outcomes.made.extend(made(&drafts, &written));
    let other = |q: usize| (q + 1) % drafts.len();
    let strange = bench.aggregate(reader, "gsa, other drafts", |q| texts(&drafts[other(q)], DRAFTS))?;
    outcomes.add(WRONG, aggregated(&drafts, DRAFTS, &strange));
    outcomes.wrong_drafts.extend(made(&drafts, &strange));
    outcomes.add(PLAIN, vote(&bench.solve(solver, "plain", RESPONSES, temperature)?, RESPONSES));
    Ok(())
}

/// The further arms of the closed task.
pub(super) fn extras(
    bench: &Bench<'_>,
    reader: &mut dyn Policy,
    start: &mut dyn Policy,
    settings: &Settings,
    outcomes: &mut Outcomes,
) -> Result<(), RecipeError> {
    let temperature = settings.temperature;
    let drafts = bench.solve(reader, "drafts", SAMPLES, temperature)?;
    outcomes.add(REFINE, refined(bench, reader, &drafts)?);
    let copies = bench.aggregate(reader, "gsa, copies", |q| vec![texts(&drafts[q], 1)[0]; DRAFTS])?;
    outcomes.add(COPIES, aggregated(&drafts, 1, &copies));
    outcomes.add(&format!("vote of {SAMPLES}"), vote(&drafts, SAMPLES));
    for &count in &settings.counts {
        let count = count.min(SAMPLES);
        let written = bench.aggregate(reader, &format!("gsa of {count}"), |q| texts(&drafts[q], count))?;
        outcomes.add(&format!("GSA ({count} + 1)"), aggregated(&drafts, count, &written));
    }
    for &t in &settings.temperatures {
        let drafts = bench.solve(reader, &format!("drafts at {t}"), RESPONSES, t)?;
        let written = bench.aggregate(reader, &format!("gsa at {t}"), |q| texts(&drafts[q], DRAFTS))?;
        outcomes.add(&format!("GSA at temperature {t}"), aggregated(&drafts, DRAFTS, &written));
        outcomes.add(&format!("vote of 4 at temperature {t}"), vote(&drafts, RESPONSES));
    }
    let untuned = bench.solve(start, "embedded drafts", RESPONSES, temperature)?;
    let written = bench.aggregate(start, "embedded gsa", |q| texts(&untuned[q], DRAFTS))?;
    outcomes.add(UNTUNED, aggregated(&untuned, DRAFTS, &written));
    outcomes.add("vote of 4, as embedded", vote(&untuned, RESPONSES));
    Ok(())
}
