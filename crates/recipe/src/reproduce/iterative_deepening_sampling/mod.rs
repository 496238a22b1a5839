//! Iterative deepening sampling (arXiv 2502.05449) on chains of arithmetic, with a model that has learned to begin anew
//! behind a sign: triggers at growing distances against plain samples, one trigger at the end, a fixed interval and a
//! filler that says nothing, all at as many generated tokens; and what a trigger does to right and to wrong answers.

mod arms;
mod view;

use super::asked::Asked;
use super::{Findings, Reproduce};
use crate::RecipeError;
use crate::lab::own_judge::p_true;
use crate::lab::reflection::chains;
use arms::{Crossed, Kept, Kind, cross, draw, first_budget, plans};
use elenchus_learn::NativePolicy;
use elenchus_learn::rollouts::mix;
use elenchus_measure::{
    Bootstrap, Cell, CorrectionQuestion, Dialogue, Interval, SelfCorrectionIntervals, Table,
    self_correction_intervals,
};
use elenchus_task::{Skill, Split, Task};
use elenchus_trace::Problem;
use serde::Deserialize;
use std::collections::HashMap;
use view::{Choice, Drawn, View, arms_at, halves, responses};

/// Settings of the experiment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Test problems.
    questions: usize,
    /// Validation problems, on which the first budget is chosen.
    validation: usize,
    /// Fewest and most operations of a problem.
    steps: [usize; 2],
    /// Responses of the method at which arms are compared, as many tokens for all.
    sizes: Vec<usize>,
    /// The one of the claims.
    claims_at: usize,
    /// Plain responses that are drawn: enough for the tokens of the method at the largest size.
    plain: usize,
    /// Factors of growth; `growth` is among them.
    growths: Vec<f64>,
    /// The factor that the claims are about, and whose tokens all arms get.
    growth: f64,
    /// Most tokens of one response, the same in every arm.
    cap: u32,
    /// Most tokens of a forced answer.
    answer_tokens: u32,
    /// Temperature.
    temperature: f32,
    /// Responses per problem on which a trigger is compared with none.
    crossings: usize,
    /// Model seeds of the lab's checkpoints.
    seeds: Vec<u64>,
}

/// One model seed.
struct Seed {
    first: u32,
    arms: Vec<Drawn>,
    crossed: Vec<Vec<Crossed>>,
}

/// P(True) of every response; equal texts are scored once.
fn judged(
    judge: &mut NativePolicy,
    problems: &[Problem],
    responses: &[Vec<Kept>],
    known: &mut HashMap<(usize, String), f64>,
) -> Result<Vec<Vec<f64>>, RecipeError> {
    let mut wanted: Vec<(usize, String)> = responses
        .iter()
        .enumerate()
        .flat_map(|(q, list)| list.iter().map(move |kept| (q, kept.text.clone())))
        .filter(|key| !known.contains_key(key))
        .collect();
    wanted.sort_unstable();
    wanted.dedup();
    for chunk in wanted.chunks(2048) {
        let prompts: Vec<(String, bool)> =
            chunk.iter().map(|(q, text)| (Skill::Judge.prompt(&problems[*q], &[text]), false)).collect();
        known.extend(chunk.iter().cloned().zip(p_true(judge, &prompts)?));
    }
    let score = |q: usize, kept: &Kept| known.get(&(q, kept.text.clone())).copied().unwrap_or(0.0);
    Ok(responses
        .iter()
        .enumerate()
        .map(|(q, list)| list.iter().map(|kept| score(q, kept)).collect())
        .collect())
}

/// Runs the experiment.
pub(super) fn run(input: &Reproduce<'_>) -> Result<Findings, RecipeError> {
    let settings: Settings = input.settings()?;
    let task = &chains(settings.steps)?;
    let problems = task.problems(Split::Test, settings.questions, mix(input.seed, 13))?;
    let mut seeds = Vec::new();
    for (m, base) in input.models.iter().enumerate() {
        for &seed in &settings.seeds {
            let built = input.lab_model("reflection", base, seed)?;
            let asked = Asked::new(input, &built.folder.to_string_lossy())?;
            let label = |what: &str| format!("{m}/{seed}/{what}");
            let first = first_budget(&asked, &settings, task, input, &label("validation"))?;
            let mut responses = Vec::new();
            for plan in plans(&settings, first) {
                responses.push(draw(&asked, task, &problems, &plan.settings, &label(&plan.name))?);
            }
            let settings = &settings;
            let crossed = asked.each(&label("crossings"), &problems, |context, problem| {
                cross(context, task, problem, settings, first)
            })?;
            // Another model than the one that answers: a small one that learned to score.
            let mut judge = input.lab_model("own-judge", base, seed)?.load()?.policy();
            input.session.observer.phase(0, &label("scores"), responses.len());
            let mut known = HashMap::new();
            let mut arms = Vec::new();
            for responses in responses {
                let judged = judged(&mut judge, &problems, &responses, &mut known)?;
                input.session.observer.advance(1, 0, false);
                arms.push(Drawn { responses, judged });
            }
            seeds.push(Seed { first, arms, crossed });
        }
    }
    findings(input, &settings, task, &problems, &seeds)
}

/// CL and CS from pairs of right and wrong, question by question.
fn correction(
    seeds: &[Seed],
    bootstrap: &Bootstrap,
    pair: impl Fn(&Crossed) -> Option<[bool; 2]>,
) -> Result<Option<SelfCorrectionIntervals>, RecipeError> {
    let mut questions = Vec::new();
    for crossed in seeds.iter().flat_map(|seed| &seed.crossed) {
        let dialogues: Vec<Dialogue> =
            crossed.iter().filter_map(&pair).map(|[first, second]| Dialogue { first, second }).collect();
        if !dialogues.is_empty() {
            questions.push(CorrectionQuestion::from_dialogues(&dialogues)?);
        }
    }
    if questions.is_empty() { Ok(None) } else { Ok(Some(self_correction_intervals(&questions, bootstrap)?)) }
}

/// More operations than the median problem: a property of the problem, so that no arm's luck decides what is hard.
fn hard(task: &dyn Task, problems: &[Problem]) -> Vec<bool> {
    let steps: Vec<usize> = problems
        .iter()
        .map(|problem| task.reference(problem).map_or(0, |text| text.matches(';').count()))
        .collect();
    let mut sorted = steps.clone();
    sorted.sort_unstable();
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0);
    // The half is as near to one half as the counts allow.
    let (above, from) =
        (steps.iter().filter(|s| **s > median).count(), steps.iter().filter(|s| **s >= median).count());
    let half = steps.len() / 2;
    let strict = above.abs_diff(half) <= from.abs_diff(half) && above > 0;
    steps.iter().map(|&s| if strict { s > median } else { s >= median }).collect()
}

fn findings(
    input: &Reproduce<'_>,
    settings: &Settings,
    task: &dyn Task,
    problems: &[Problem],
    seeds: &[Seed],
) -> Result<Findings, RecipeError> {
    let bootstrap = Bootstrap::default().seed(mix(input.seed, 99));
    let plans = plans(settings, seeds.first().map_or(1, |seed| seed.first));
    let reference = plans.iter().position(|plan| plan.kind == Kind::Growing(settings.growth));
    let reference = reference.ok_or_else(|| input.refuse("[reproduce]: `growth` is not among `growths`"))?;
    let view = View { plans, seeds, reference, hard: hard(task, problems), bootstrap };
    let size = settings.claims_at;
    let mut findings = Findings::default();
    let arm = |kind| view.arm(kind).unwrap_or(reference);
    let (plain, end, fixed, filler) =
        (arm(Kind::Plain), arm(Kind::AtEnd), arm(Kind::Growing(1.0)), arm(Kind::Filler));
    let mut claim = |id: &str, interval: Option<Interval>| {
        if let Some(interval) = interval {
            findings.estimates.insert(id.to_string(), interval);
        }
    };
    let over = |right, choice, half| view.difference([reference, right], size, choice, half);
    let (vote, judge) = (over(plain, Choice::Vote, Some(true))?, over(plain, Choice::Judge, Some(true))?);
    // The paper's claim is about either; the better of the two is taken, so a failure is one of both.
    claim("hard-half", [vote, judge].into_iter().flatten().max_by(|a, b| a.value.total_cmp(&b.value)));
    claim("easy-half", over(plain, Choice::Vote, Some(false))?);
    claim("filler", view.difference([plain, filler], size, Choice::Vote, None)?);
    claim("over-filler", over(filler, Choice::Vote, None)?);
    claim("over-end", over(end, Choice::Vote, None)?);
    claim("vote-over-plain", over(plain, Choice::Vote, None)?);
    claim("judge-over-plain", over(plain, Choice::Judge, None)?);
    let growing: Vec<(usize, f64)> = view
        .plans
        .iter()
        .enumerate()
        .filter_map(|(i, plan)| match plan.kind {
            Kind::Growing(growth) => Some((i, growth)),
            _ => None,
        })
        .collect();
    let most = growing.iter().map(|(_, growth)| *growth).fold(1.0, f64::max);
    let best = |arms: &[usize]| -> Option<usize> {
        let value = |arm: usize| view.value(arm, size, Choice::Vote);
        arms.iter().copied().max_by(|&a, &b| value(a).total_cmp(&value(b)))
    };
    let side = |edge: bool| -> Vec<usize> {
        growing.iter().filter(|(_, g)| (*g == 1.0 || *g == most) == edge).map(|(i, _)| *i).collect()
    };
    if let (Some(inner), Some(edge)) = (best(&side(false)), best(&side(true))) {
        claim("interior", view.difference([inner, edge], size, Choice::Vote, None)?);
    }
    let others: Vec<usize> = (0..view.plans.len()).filter(|&arm| arm != fixed).collect();
    let value = |arm: usize| view.value(arm, size, Choice::Vote);
    if let Some(worst) = others.into_iter().min_by(|&a, &b| value(a).total_cmp(&value(b))) {
        claim("fixed-worst", view.difference([worst, fixed], size, Choice::Vote, None)?);
    }
    let at_end = correction(seeds, &bootstrap, |crossed| crossed.end)?;
    let within = correction(seeds, &bootstrap, |crossed| crossed.within.map(|[p, t, _]| [p, t]))?;
    let filled = correction(seeds, &bootstrap, |crossed| crossed.within.map(|[p, _, f]| [p, f]))?;
    claim("repairs", at_end.as_ref().and_then(|found| found.cs));
    claim("keeps", at_end.as_ref().and_then(|found| found.cl));

    for &size in &settings.sizes {
        findings.tables.push(arms_at(&view, size)?);
    }
    findings.tables.push(halves(&view, size)?);
    findings.tables.push(responses(&view)?);
    let mut crossings = Table::new(
        "Across a trigger",
        ["where", "questions", "right before", "right behind", "CL: right stays right", "CS: wrong becomes right"],
    )
    .note(
        "At the end: the answer before and behind the trigger. Within: the same cut response taken on without the words, \
         and with them; what chance alone does to it shows with the filler.",
    );
    for (name, found) in
        [("trigger at the end", at_end), ("trigger within", within), ("filler within", filled)]
    {
        if let Some(found) = found {
            let cell = |i: Option<Interval>| i.map_or(Cell::Text("–".into()), Cell::PercentInterval);
            crossings = crossings.row([
                Cell::Text(name.into()),
                Cell::Count(found.n as u64),
                Cell::PercentInterval(found.acc1),
                Cell::PercentInterval(found.acc2),
                cell(found.cl),
                cell(found.cs),
            ]);
        }
    }
    findings.tables.push(crossings);
    let short = seeds
        .iter()
        .flat_map(|seed| (0..problems.len()).map(move |q| (seed, q)))
        .filter(|(seed, q)| {
            let spent = |arm: usize, count: usize| -> u64 {
                seed.arms[arm].responses[*q].iter().take(count).map(|kept| kept.tokens).sum()
            };
            spent(plain, usize::MAX) < spent(reference, size)
        })
        .count();
    let budgets: Vec<String> = seeds.iter().map(|seed| seed.first.to_string()).collect();
    findings.notes.push(format!(
        "First budget: {} tokens (a quarter of the median length of a wrong plain response to {} validation problems), cap \
         {} tokens in every arm, {} model seed(s). All arms get at least the tokens that the first N responses with growth {} \
         took on the same question, injected ones counted; {short} question(s) had too few plain responses for that.",
        budgets.join(", "),
        settings.validation,
        settings.cap,
        seeds.len(),
        settings.growth,
    ));
    findings.notes.push(
        "The model has 0.87 million parameters, fewer than the 2 to 10 million that were planned. The scorer is the lab's \
         `own-judge`, which never saw responses with triggers; it reads what stands behind the last one. Model seeds are \
         seeds of the lab's training over one base."
            .into(),
    );
    Ok(findings)
}

#[cfg(test)]
mod tests;
