//! Generative self-aggregation (arXiv 2503.04104): a new response in view of three drafts, against a vote, a choice and a
//! refinement with as many responses. Closed answers: arithmetic; open ones, where no vote is possible: Countdown.

use super::pool::{Arm, Asked, Drawing, Pool, Spent, arms_table, credit, draw, fit, mean, mean_tokens};
use super::resampling::Resampling;
use super::{Findings, Reproduce};
use crate::lab::counter::{choice_prompt, chosen};
use crate::{RecipeError, models};
use elenchus_control::majority;
use elenchus_learn::objective::TrainingRow;
use elenchus_learn::policy::{Policy, text_row};
use elenchus_learn::rollouts::mix;
use elenchus_learn::trainer::TrainSettings;
use elenchus_measure::{Bootstrap, Cell, Interval, Table};
use elenchus_task::{Skill, Split, Task, parse_critique};
use elenchus_trace::Problem;
use serde::Deserialize;

/// Settings of the experiment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Test questions of the closed task.
    questions: usize,
    /// Test questions of the open task; 0 leaves it out.
    open_questions: usize,
    /// Temperature of the drafts.
    temperature: f32,
    /// Further temperatures of the drafts, for the closed task.
    temperatures: Vec<f32>,
    /// Numbers of drafts beside 1 and 3, for the closed task.
    counts: Vec<usize>,
    /// Training questions of each task for the model that reads drafts.
    train_questions: usize,
    /// Training of that model and of the one on questions alone; `batch` counts rows of the former.
    train: TrainSettings,
}

/// Drafts of the comparison; with the new response there are four.
const DRAFTS: usize = 3;
/// Responses that every arm of the comparison gets.
const RESPONSES: usize = DRAFTS + 1;
/// Samples drawn per question: the drafts, and those of the larger votes and sets.
const SAMPLES: usize = 8;
/// Tokens of one response at most.
const LENGTH: usize = 160;

/// What is measured on one task.
struct Bench<'a> {
    input: &'a Reproduce<'a>,
    task: &'a dyn Task,
    problems: Vec<Problem>,
    label: String,
}

/// Whether the drafts of a question were right, and what was made of them.
#[derive(Debug, Clone, Copy)]
struct Made {
    /// Whether the drafts' most frequent answer is right.
    majority_right: bool,
    /// Whether all drafts have one answer.
    unanimous: bool,
    /// Whether any draft is right.
    any_right: bool,
    /// Whether the new response is right.
    right: bool,
    /// Whether its answer is the drafts' most frequent one.
    repeats: bool,
    /// Whether its answer is in no draft.
    novel: bool,
    /// Mean log-probability of its tokens.
    logprob: f64,
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
        let drawing = Drawing { samples, temperature, max_new_tokens: LENGTH, seed };
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
fn texts(pool: &Pool, count: usize) -> Vec<&str> {
    pool.samples.iter().take(count).map(|sample| sample.text.as_str()).collect()
}

/// A vote over the first samples of each question; ties go to the answer seen first.
fn vote(pools: &[Pool], count: usize) -> Arm {
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
fn made(drafts: &[Pool], written: &[Pool]) -> Vec<Made> {
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
fn spending(drafts: &Pool, count: usize, written: &Pool) -> Spent {
    drafts.spent(count) + written.spent(1)
}

fn aggregated(drafts: &[Pool], count: usize, written: &[Pool]) -> Arm {
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

/// Training rows: question to reference and, with equal weight each, question with own drafts to reference and question
/// with own drafts to the number of a right one. The questions alone are the rows of the model without drafts.
fn rows(
    input: &Reproduce<'_>,
    policy: &mut dyn Policy,
    tasks: &[&dyn Task],
    questions: usize,
    label: &str,
) -> Result<[Vec<Vec<TrainingRow>>; 2], RecipeError> {
    let (mut plain, mut with_drafts) = (Vec::new(), Vec::new());
    for (t, task) in tasks.iter().enumerate() {
        let problems = task.problems(Split::Train, questions, mix(input.seed, 60 + t as u64))?;
        let asked: Vec<Asked<'_>> =
            problems.iter().map(|problem| Asked::new(problem, Skill::Solve.prompt(problem, &[]))).collect();
        let seed = mix(input.seed, 70 + t as u64);
        let drawing = Drawing { samples: DRAFTS, temperature: 1.0, max_new_tokens: LENGTH, seed };
        let drafts =
            draw(input, policy, *task, &asked, drawing, &format!("{label}/train drafts {}", task.name()))?;
        let mut examples = 0;
        for (problem, pool) in problems.iter().zip(&drafts) {
            let Some(reference) = task.reference(problem) else { continue };
            let solve = text_row(policy, &Skill::Solve.prompt(problem, &[]), &reference)?;
            // Samples have no order, so theirs is random; the reference is a target only and never a draft.
            let prompt = Skill::Aggregate.prompt(problem, &texts(pool, DRAFTS));
            plain.push(vec![solve.clone()]);
            with_drafts.push(vec![solve]);
            with_drafts.push(vec![text_row(policy, &prompt, &reference)?]);
            examples += 1;
        }
        for (question, order, target) in choices(&drafts, examples) {
            let shown: Vec<&str> =
                order.iter().map(|&draft| drafts[question].samples[draft].text.as_str()).collect();
            let prompt = choice_prompt(&problems[question], &shown);
            with_drafts.push(vec![text_row(policy, &prompt, &target.to_string())?]);
        }
    }
    Ok([plain, with_drafts])
}

/// `count` examples of choosing: a question with a right draft, an order of its drafts, and the place, from 1, of the first
/// right one. Questions without a right draft teach no choice; the others come again, each time in the next order, so
/// that right drafts stand in all places.
fn choices(drafts: &[Pool], count: usize) -> Vec<(usize, Vec<usize>, usize)> {
    let able: Vec<usize> =
        (0..drafts.len()).filter(|&q| drafts[q].samples.iter().take(DRAFTS).any(|s| s.correct)).collect();
    if able.is_empty() {
        return Vec::new();
    }
    (0..count)
        .map(|example| {
            let question = able[example % able.len()];
            let samples = &drafts[question].samples;
            let shown = DRAFTS.min(samples.len());
            let turn = example % able.len() + example / able.len();
            let order: Vec<usize> = (0..shown).map(|place| (place + turn) % shown).collect();
            let right = order.iter().position(|&draft| samples[draft].correct).unwrap_or(0);
            (question, order, right + 1)
        })
        .collect()
}

/// Per-question outcomes of everything on one task, over all models one after another.
#[derive(Default)]
struct Outcomes {
    arms: Vec<(String, Arm)>,
    made: Vec<Made>,
    wrong_drafts: Vec<Made>,
    /// Mean log-probability of the reply that chooses.
    choice_logprobs: Vec<f64>,
    /// Share of such replies that name a draft, per model.
    choices_named: Vec<f64>,
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

    fn right(&self, name: &str) -> &[f64] {
        self.arms.iter().find(|(known, _)| known == name).map_or(&[], |(_, arm)| &arm.right)
    }
}

const GSA: &str = "GSA (3 + 1)";
const VOTE: &str = "vote of 4";
const GREEDY: &str = "greedy (1 response)";
const ONE_DRAFT: &str = "one draft (1 response)";
const REWRITE: &str = "GSA (1 + 1)";
const CHOICE: &str = "choice of one of 3 (3 + 1)";
const REFINE: &str = "critique, refine, again (4)";
const COPIES: &str = "GSA, three copies of one draft";
const WRONG: &str = "GSA, drafts of another question";
const PLAIN: &str = "vote of 4, trained on questions alone";
const UNTUNED: &str = "GSA, as embedded";

/// Runs the experiment.
pub(super) fn run(input: &Reproduce<'_>) -> Result<Findings, RecipeError> {
    let settings: Settings = input.settings()?;
    let closed = elenchus_task::task("arithmetic", &serde_json::Value::Null)?;
    let open = elenchus_task::task("countdown", &serde_json::Value::Null)?;
    let (mut on_closed, mut on_open) = (Outcomes::default(), Outcomes::default());
    for (m, name) in input.models.iter().enumerate() {
        let mut start = models::load(name)?.policy();
        let tasks = [closed.as_ref(), open.as_ref()];
        let made = rows(input, &mut start, &tasks, settings.train_questions, &format!("{m}"))?;
        let [plain, with_drafts] = made;
        let batch = settings.train.batch;
        // As many tokens per step for both.
        let plain_batch = (batch as f64 * mean_tokens(&with_drafts) / mean_tokens(&plain)).round() as usize;
        let mut reader =
            fit(input, &start, &settings.train, &format!("{m} drafts"), || Ok((with_drafts, batch)))?;
        let mut solver =
            fit(input, &start, &settings.train, &format!("{m} plain"), || Ok((plain, plain_batch)))?;
        let bench = |task, count, salt, what: &str| -> Result<Bench<'_>, RecipeError> {
            let task: &dyn Task = task;
            let problems = task.problems(Split::Test, count, mix(input.seed, salt))?;
            Ok(Bench { input, task, problems, label: format!("{m}/{what}") })
        };
        let arithmetic = bench(closed.as_ref(), settings.questions, 12, "closed")?;
        common(&arithmetic, reader.as_mut(), solver.as_mut(), settings.temperature, &mut on_closed)?;
        extras(&arithmetic, reader.as_mut(), &mut start, &settings, &mut on_closed)?;
        if settings.open_questions > 0 {
            let countdown = bench(open.as_ref(), settings.open_questions, 13, "open")?;
            common(&countdown, reader.as_mut(), solver.as_mut(), settings.temperature, &mut on_open)?;
        }
    }
    findings(input, &settings, &on_closed, &on_open)
}

/// The arms of both tasks.
fn common(
    bench: &Bench<'_>,
    reader: &mut dyn Policy,
    solver: &mut dyn Policy,
    temperature: f32,
    outcomes: &mut Outcomes,
) -> Result<(), RecipeError> {
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
fn extras(
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

/// Rates over the questions for which the drafts were so.
fn rate(
    resampling: &Resampling,
    made: &[Made],
    of: impl Fn(&Made) -> bool,
    keep: impl Fn(&Made) -> bool,
) -> Result<Option<Interval>, RecipeError> {
    let values: Vec<f64> = made.iter().map(|m| credit(of(m))).collect();
    resampling.mean_where(&values, |q| keep(&made[q]))
}

fn findings(
    input: &Reproduce<'_>,
    settings: &Settings,
    closed: &Outcomes,
    open: &Outcomes,
) -> Result<Findings, RecipeError> {
    let resampling = Resampling::new(Bootstrap::default().seed(mix(input.seed, 99)), input.models.len());
    let mut findings = Findings::default();
    let pair = |outcomes: &Outcomes, left: &str, right: &str| {
        resampling.paired(outcomes.right(left), outcomes.right(right))
    };
    let found = &mut findings.estimates;
    found.insert("closed-over-vote".into(), pair(closed, GSA, VOTE)?);
    found.insert("closed-over-choice".into(), pair(closed, GSA, CHOICE)?);
    found.insert("over-refinement".into(), pair(closed, GSA, REFINE)?);
    found.insert("over-copies".into(), pair(closed, GSA, COPIES)?);
    found.insert("over-plain-training".into(), pair(closed, GSA, PLAIN)?);
    let rescue = |made: &[Made]| rate(&resampling, made, |m| m.right, |m| !m.majority_right);
    if let Some(rescue) = rescue(&closed.made)? {
        found.insert("rescue".into(), rescue);
    }
    let by_drafts: Vec<f64> = closed
        .made
        .iter()
        .zip(&closed.wrong_drafts)
        .map(|(own, other)| credit(own.right) - credit(other.right))
        .collect();
    if let Some(difference) = resampling.mean_where(&by_drafts, |q| !closed.made[q].majority_right)? {
        found.insert("rescue-by-the-drafts".into(), difference);
    }
    if !open.made.is_empty() {
        found.insert("open-over-greedy".into(), pair(open, GSA, GREEDY)?);
        found.insert("open-over-choice".into(), pair(open, GSA, CHOICE)?);
    }
    found.insert("more-drafts".into(), pair(closed, GSA, REWRITE)?);
    // The worst of the temperatures, so that one good one does not hide the others.
    let mut worst = pair(closed, GSA, VOTE)?;
    for t in &settings.temperatures {
        let at = pair(closed, &format!("GSA at temperature {t}"), &format!("vote of 4 at temperature {t}"))?;
        if at.value < worst.value {
            worst = at;
        }
    }
    found.insert("temperatures".into(), worst);
    let repeats = mean(&closed.made.iter().map(|m| credit(m.repeats)).collect::<Vec<_>>());
    found.insert("no-vote".into(), Interval::exact(0.95 - repeats));
    let unanimous = |m: &Made| m.unanimous && m.majority_right;
    if let Some(damage) = rate(&resampling, &closed.made, |m| !m.right, unanimous)? {
        let spare = Interval { value: 0.02 - damage.value, low: 0.02 - damage.high, high: 0.02 - damage.low };
        found.insert("unanimous-damage".into(), spare);
    }
    let written: Vec<f64> = closed.made.iter().map(|m| m.logprob).collect();
    if written.len() == closed.choice_logprobs.len() {
        found.insert("likelihood".into(), resampling.paired(&written, &closed.choice_logprobs)?);
    }
    for (title, outcomes) in [("Closed answers: arithmetic", closed), ("Open answers: Countdown", open)] {
        let arms: Vec<(String, &Arm)> = outcomes.arms.iter().map(|(name, arm)| (name.clone(), arm)).collect();
        if !arms.is_empty() {
            let note = "Per question. Answers of Countdown are expressions: equal ones are counted as a vote, few are.";
            findings.tables.push(arms_table(title, note, "accuracy", &resampling, &arms)?);
        }
    }
    let mut drafts = Table::new(
        "What became of the drafts",
        ["", "rescue", "damage", "damage, unanimous", "repeats majority", "novel answer", "no draft right"],
    )
    .note(
        "Rescue: right although the drafts' majority is wrong. Damage: wrong although it is right. The last column: \
         right although no draft is.",
    );
    let cell = |interval: Option<Interval>| interval.map_or(Cell::Missing, Cell::PercentInterval);
    for (name, made) in [
        ("arithmetic", &closed.made),
        ("arithmetic, drafts of another question", &closed.wrong_drafts),
        ("Countdown", &open.made),
    ] {
        let rate = |of: fn(&Made) -> bool, keep: fn(&Made) -> bool| rate(&resampling, made, of, keep);
        drafts = drafts.row([
            Cell::Text(name.into()),
            cell(rate(|m| m.right, |m| !m.majority_right)?),
            cell(rate(|m| !m.right, |m| m.majority_right)?),
            cell(rate(|m| !m.right, |m| m.majority_right && m.unanimous)?),
            cell(rate(|m| m.repeats, |_| true)?),
            cell(rate(|m| m.novel, |_| true)?),
            cell(rate(|m| m.right, |m| !m.any_right)?),
        ]);
    }
    findings.tables.push(drafts);
    findings.notes.push(
        "The model that reads drafts is the given one, trained further with equal weight on questions, on questions with three \
         own drafts and on choices among them; all arms but those that say otherwise run on it. The vote of the model trained on \
         questions alone had as many steps of as many tokens."
            .into(),
    );
    let named: Vec<f64> = closed.choices_named.iter().chain(&open.choices_named).copied().collect();
    findings.notes.push(format!(
        "The choice is one greedy reply with the number of a draft, a skill that the same model was taught on as many rows as \
         reading drafts; the target is a right draft. It names a draft in {:.1} % of the cases.",
        100.0 * mean(&named)
    ));
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reproduce::pool::Sample;

    fn pool(answers: &[&str], gold: &str) -> Pool {
        let sample = |answer: &&str| Sample {
            text: format!("#{answer}"),
            answer: Some((*answer).to_string()),
            correct: *answer == gold,
            tokens: 2,
            sum_logprob: -0.2,
        };
        Pool { prompt_tokens: 5, samples: answers.iter().map(sample).collect() }
    }

    #[test]
    fn rescue_and_damage_of_the_sheet() {
        // (majority right, new response right) = (1,1), (1,0), (0,1), (0,0), (0,1)
        let majority = [true, true, false, false, false];
        let right = [true, false, true, false, true];
        let drafts: Vec<Pool> = majority
            .iter()
            .map(|&m| pool(if m { &["1", "1", "2"] } else { &["2", "2", "1"] }, "1"))
            .collect();
        let written: Vec<Pool> = right.iter().map(|&r| pool(&[if r { "1" } else { "9" }], "1")).collect();
        let made = made(&drafts, &written);
        let resampling = Resampling::new(Bootstrap::default(), 1);
        let rescue = rate(&resampling, &made, |m| m.right, |m| !m.majority_right).unwrap().unwrap();
        let damage = rate(&resampling, &made, |m| !m.right, |m| m.majority_right).unwrap().unwrap();
        assert!((rescue.value - 2.0 / 3.0).abs() < 1e-12 && (damage.value - 0.5).abs() < 1e-12);
        assert_eq!(mean(&aggregated(&drafts, 3, &written).right), 0.6);
        assert_eq!(mean(&vote(&drafts, 3).right), 0.4);
        assert!(made[1].novel && !made[0].novel && made[0].repeats);
    }

    #[test]
    fn choices_name_a_right_draft_in_every_place_and_are_as_many_as_asked() {
        let drafts = [pool(&["1", "2", "3"], "1"), pool(&["4", "5", "6"], "1"), pool(&["2", "1", "1"], "1")];
        let found = choices(&drafts, 9);
        assert_eq!(found.len(), 9, "as many as rows with drafts");
        for (question, order, target) in &found {
            assert_ne!(*question, 1, "it has no right draft");
            assert!(drafts[*question].samples[order[target - 1]].correct);
        }
        let places = |q| {
            found.iter().filter(move |c| c.0 == q).map(|c| c.2).collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(places(0).len(), 3, "{found:?}");
        assert!(choices(&drafts[1..2], 4).is_empty(), "nothing to teach");
    }

    #[test]
    fn three_drafts_and_the_new_response_are_four_responses() {
        let drafts = pool(&["1", "2", "3", "4"], "1");
        let written = pool(&["1"], "1");
        assert_eq!(
            spending(&drafts, 3, &written),
            Spent { responses: 4.0, written: 8.0, read: 10.0, prefill: 20.0 }
        );
    }
}
