//! Iterative deepening sampling (arXiv 2502.05449) on chains of arithmetic, with a model that has learned to begin anew
//! behind a sign: triggers at growing distances against plain samples, one trigger at the end, a fixed interval and a
//! filler that says nothing, all at as many generated tokens; and what a trigger does to right and to wrong answers.

use super::asked::Asked;
use super::pool::{credit, mean};
use super::{Findings, Reproduce, wider};
use crate::RecipeError;
use crate::lab::own_judge::p_true;
use crate::lab::reflection::chains;
use elenchus_control::{
    Continuation, ControlError, DeepenedResponse, Draw, Injection, IterativeDeepeningSampling,
    IterativeDeepeningSamplingSettings, OnEnd, Purpose, Span, Trail, Trigger, majority,
};
use elenchus_generate::{ACTOR, Context, LogprobDetail, Sampling};
use elenchus_learn::NativePolicy;
use elenchus_learn::rollouts::mix;
use elenchus_measure::{
    Bootstrap, Cell, CorrectionQuestion, Dialogue, Interval, SelfCorrectionIntervals, Table, over_seeds,
    self_correction_intervals,
};
use elenchus_task::{Skill, Split, Task};
use elenchus_trace::Problem;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

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

/// What is kept of a response.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    text: String,
    answer: Option<String>,
    right: bool,
    /// Generated and injected tokens.
    tokens: u64,
    read: u64,
    triggers: usize,
    forced: bool,
    logprob: Option<f64>,
}

impl Kept {
    fn of(task: &dyn Task, problem: &Problem, response: DeepenedResponse) -> Result<Self, RecipeError> {
        let verdict = task.verify(problem, &response.text).map_err(ControlError::from)?;
        Ok(Kept {
            right: verdict.is_correct(),
            answer: verdict.answer,
            tokens: response.spending.length(),
            read: response.spending.usage.prompt_tokens,
            triggers: response.triggers,
            forced: response.forced,
            logprob: response.mean_logprob,
            text: response.text,
        })
    }
}

/// An arm: how its responses are drawn.
struct Plan {
    name: String,
    kind: Kind,
    settings: IterativeDeepeningSamplingSettings,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Plain,
    AtEnd,
    /// By its growth; 1 is the fixed interval.
    Growing(f64),
    Filler,
}

fn plans(settings: &Settings, first: u32) -> Vec<Plan> {
    let most = settings.sizes.iter().copied().max().unwrap_or(1).max(settings.claims_at);
    let base = IterativeDeepeningSamplingSettings {
        samples: most,
        first_budget: first,
        growth: settings.growth,
        answer_tokens: settings.answer_tokens,
        draw: Draw {
            temperature: Some(settings.temperature),
            top_p: Some(1.0),
            max_tokens: settings.cap,
            ..Draw::default()
        },
        ..Default::default()
    };
    let plan = |name: String, kind, change: &dyn Fn(&mut IterativeDeepeningSamplingSettings)| {
        let mut settings = base.clone();
        change(&mut settings);
        Plan { name, kind, settings }
    };
    let mut plans = vec![
        plan("plain samples".into(), Kind::Plain, &|s| {
            (s.samples, s.most_triggers, s.first_budget) = (settings.plain, Some(0), settings.cap);
        }),
        plan("one trigger at the end".into(), Kind::AtEnd, &|s| {
            (s.on_end, s.most_triggers, s.first_budget) = (OnEnd::Reflect, Some(1), settings.cap);
        }),
        plan("fixed interval".into(), Kind::Growing(1.0), &|s| s.growth = 1.0),
    ];
    plans.extend(
        settings
            .growths
            .iter()
            .map(|&g| plan(format!("growth {g}"), Kind::Growing(g), &move |s| s.growth = g)),
    );
    plans.push(plan(format!("filler, growth {}", settings.growth), Kind::Filler, &|s| {
        s.trigger = Trigger::Filler;
    }));
    plans
}

/// What a trigger did to one response.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Crossed {
    /// Cut behind the first budget: right when it simply goes on, behind a trigger, behind a filler.
    within: Option<[bool; 3]>,
    /// Ended by itself: right before and behind a trigger.
    end: Option<[bool; 2]>,
}

/// One response cut, taken on in three ways from the same point, and reflected on at its end.
async fn cross(
    context: &Context,
    task: &dyn Task,
    problem: &Problem,
    settings: &Settings,
    first: u32,
) -> Result<Vec<Crossed>, RecipeError> {
    let injection = |name, purpose| Injection::of(context, ACTOR, problem, name, purpose);
    let trigger = injection("reflect", Purpose::Restart)?;
    let filler = injection("filler", Purpose::Filler)?;
    let span = |what: u64, max_tokens: u32| Span {
        sampling: Sampling {
            temperature: settings.temperature,
            max_tokens,
            seed: context.seed_for(&format!("crossing\0{}", problem.id), what),
            ..Sampling::default()
        },
        logprobs: LogprobDetail::None,
    };
    let right = |text: &Continuation| -> Result<bool, RecipeError> {
        Ok(task.verify(problem, &text.final_text()).map_err(ControlError::from)?.is_correct())
    };
    let mut trail = Trail::new(context, "crossing", problem);
    let dialogue = context.prompt(ACTOR, Skill::Solve, &elenchus_generate::PromptSlots::new(problem))?;
    let start = Continuation::begin(context, ACTOR, problem, dialogue, None)?;
    let begun = start.branch(&mut trail, context, settings.crossings, &span(0, first)).await?;
    let mut crossed = Vec::with_capacity(begun.len());
    for (index, mut text) in begun.into_iter().enumerate() {
        let place = 10 * (index as u64 + 1);
        let (mut found, mut at_cut) = (Crossed { within: None, end: None }, None);
        if !text.has_ended() {
            if !text.cut_to_boundary() {
                continue;
            }
            at_cut = Some(text.mark());
            text.generate(&mut trail, context, &span(place, settings.cap)).await?;
        }
        let plain = right(&text)?;
        if text.has_ended() {
            let at_end = text.mark();
            text.inject(&mut trail, context, &trigger);
            text.generate(&mut trail, context, &span(place + 1, settings.cap)).await?;
            found.end = Some([plain, right(&text)?]);
            text.rewind(&mut trail, &at_end);
        }
        if let Some(mark) = at_cut {
            let mut behind = [plain; 3];
            for (way, words) in [(1, &trigger), (2, &filler)] {
                text.rewind(&mut trail, &mark);
                text.inject(&mut trail, context, words);
                text.generate(&mut trail, context, &span(place + 1 + way as u64, settings.cap)).await?;
                behind[way] = right(&text)?;
            }
            found.within = Some(behind);
        }
        crossed.push(found);
    }
    Ok(crossed)
}

/// The responses of one arm under one model seed, with the probability that the judge gives each.
struct Drawn {
    responses: Vec<Vec<Kept>>,
    judged: Vec<Vec<f64>>,
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

/// A quarter of the median length of plain responses to validation problems that are wrong.
fn first_budget(
    asked: &Asked<'_>,
    settings: &Settings,
    task: &dyn Task,
    input: &Reproduce<'_>,
    label: &str,
) -> Result<u32, RecipeError> {
    let problems = task.problems(Split::Validation, settings.validation, mix(input.seed, 15))?;
    let plans = plans(settings, 1);
    let plain = plans.iter().find(|plan| plan.kind == Kind::Plain).map(|plan| plan.settings.clone());
    let one = IterativeDeepeningSamplingSettings { samples: 1, ..plain.unwrap_or_default() };
    let drawn = draw(asked, task, &problems, &one, label)?;
    let mut lengths: Vec<u64> =
        drawn.iter().flatten().filter(|kept| !kept.right).map(|kept| kept.tokens).collect();
    lengths.sort_unstable();
    let median = lengths.get(lengths.len() / 2).copied().unwrap_or(u64::from(settings.cap));
    Ok(u32::try_from(median / 4).unwrap_or(settings.cap).max(1))
}

fn draw(
    asked: &Asked<'_>,
    task: &dyn Task,
    problems: &[Problem],
    settings: &IterativeDeepeningSamplingSettings,
    label: &str,
) -> Result<Vec<Vec<Kept>>, RecipeError> {
    let strategy = &IterativeDeepeningSampling::new(settings.clone())?;
    asked.each(label, problems, |context, problem| async move {
        let responses = strategy.responses(context, task, problem).await?;
        responses.into_iter().map(|response| Kept::of(task, problem, response)).collect()
    })
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

/// How one of several responses is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Choice {
    Vote,
    Judge,
    Likelihood,
    /// Any: the upper line.
    Pass,
}

/// Credit of a choice among the first `count` responses to a question.
fn chosen(drawn: &Drawn, q: usize, count: usize, choice: Choice) -> f64 {
    let list = &drawn.responses[q][..count.min(drawn.responses[q].len())];
    let best = |score: &dyn Fn(usize) -> Option<f64>| -> f64 {
        let mut best: Option<(f64, bool)> = None;
        for (i, kept) in list.iter().enumerate().filter(|(_, kept)| kept.answer.is_some()) {
            if let Some(score) = score(i)
                && best.is_none_or(|(highest, _)| score > highest)
            {
                best = Some((score, kept.right));
            }
        }
        best.map_or(0.0, |(_, right)| credit(right))
    };
    match choice {
        Choice::Vote => {
            let answers: Vec<Option<&str>> = list.iter().map(|kept| kept.answer.as_deref()).collect();
            let tied = majority(&answers, |left, right| left == right).tied();
            mean(&tied.iter().map(|&i| credit(list[i].right)).collect::<Vec<_>>())
        }
        Choice::Judge => best(&|i| drawn.judged[q].get(i).copied()),
        Choice::Likelihood => best(&|i| list[i].logprob),
        Choice::Pass => credit(list.iter().any(|kept| kept.right)),
    }
}

/// The smallest number of responses to a question that cost at least so many tokens; all where they do not suffice.
fn enough(list: &[Kept], tokens: u64) -> usize {
    let mut sum = 0;
    for (i, kept) in list.iter().enumerate() {
        sum += kept.tokens;
        if sum >= tokens {
            return i + 1;
        }
    }
    list.len()
}

/// Everything that the findings look at, per seed and question.
struct View<'a> {
    plans: Vec<Plan>,
    seeds: &'a [Seed],
    reference: usize,
    hard: Vec<bool>,
    bootstrap: Bootstrap,
}

impl View<'_> {
    fn arm(&self, kind: Kind) -> Option<usize> {
        self.plans.iter().position(|plan| plan.kind == kind)
    }

    /// Responses of an arm that cost at least as much as the reference arm's first `size`.
    fn count(&self, seed: &Seed, arm: usize, q: usize, size: usize) -> usize {
        if arm == self.reference {
            return size;
        }
        let spent = seed.arms[self.reference].responses[q].iter().take(size).map(|kept| kept.tokens).sum();
        enough(&seed.arms[arm].responses[q], spent)
    }

    /// Credit by seed and question.
    fn rows(&self, arm: usize, size: usize, choice: Choice) -> Vec<Vec<f64>> {
        self.seeds
            .iter()
            .map(|seed| {
                (0..self.hard.len())
                    .map(|q| chosen(&seed.arms[arm], q, self.count(seed, arm, q, size), choice))
                    .collect()
            })
            .collect()
    }

    /// The mean over the questions of one half, or all, with the wider interval.
    fn mean(&self, rows: &[Vec<f64>], half: Option<bool>) -> Result<Option<Interval>, RecipeError> {
        let kept: Vec<Vec<f64>> = rows
            .iter()
            .map(|row| {
                row.iter()
                    .zip(&self.hard)
                    .filter(|(_, hard)| half.is_none_or(|h| h == **hard))
                    .map(|(v, _)| *v)
            })
            .map(Iterator::collect)
            .collect();
        if kept.iter().any(Vec::is_empty) {
            return Ok(None);
        }
        Ok(Some(wider(&over_seeds(&kept, &self.bootstrap)?)))
    }

    /// One arm's credit minus another's.
    fn difference(
        &self,
        [left, right]: [usize; 2],
        size: usize,
        choice: Choice,
        half: Option<bool>,
    ) -> Result<Option<Interval>, RecipeError> {
        let (left, right) = (self.rows(left, size, choice), self.rows(right, size, choice));
        let rows: Vec<Vec<f64>> =
            left.iter().zip(&right).map(|(l, r)| l.iter().zip(r).map(|(l, r)| l - r).collect()).collect();
        self.mean(&rows, half)
    }

    /// Credit over all questions and seeds.
    fn value(&self, arm: usize, size: usize, choice: Choice) -> f64 {
        mean(&self.rows(arm, size, choice).concat())
    }
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

/// All arms at the tokens of the reference arm's first `size` responses.
fn arms_at(view: &View<'_>, size: usize) -> Result<Table, RecipeError> {
    let mut table = Table::new(
        format!("At the tokens of {size} response(s)"),
        ["arm", "vote", "best by judge", "best by likelihood", "any right", "responses", "tokens written", "tokens read"],
    )
    .note("Tokens written: generated and injected, per question. Tokens read: prompts and responses so far, without a prefix cache.");
    for (arm, plan) in view.plans.iter().enumerate() {
        let cell = |choice| -> Result<Cell, RecipeError> {
            let found = view.mean(&view.rows(arm, size, choice), None)?;
            Ok(found.map_or(Cell::Text("–".into()), Cell::PercentInterval))
        };
        let spent = |of: &dyn Fn(&Kept) -> f64| -> f64 {
            let per: Vec<f64> = view
                .seeds
                .iter()
                .flat_map(|seed| {
                    (0..view.hard.len()).map(move |q| {
                        let count = view.count(seed, arm, q, size);
                        seed.arms[arm].responses[q].iter().take(count).map(of).sum()
                    })
                })
                .collect();
            mean(&per)
        };
        table = table.row([
            Cell::Text(plan.name.clone()),
            cell(Choice::Vote)?,
            cell(Choice::Judge)?,
            cell(Choice::Likelihood)?,
            cell(Choice::Pass)?,
            Cell::Number(spent(&|_| 1.0), 1),
            Cell::Number(spent(&|kept| kept.tokens as f64), 1),
            Cell::Number(spent(&|kept| kept.read as f64), 1),
        ]);
    }
    Ok(table)
}

/// The largest size, by difficulty.
fn halves(view: &View<'_>, size: usize) -> Result<Table, RecipeError> {
    let mut table = Table::new(
        format!("By difficulty, at the tokens of {size} responses"),
        ["arm", "vote, easy", "vote, hard", "judge, easy", "judge, hard"],
    )
    .note("Hard: more operations than the median problem.");
    for (arm, plan) in view.plans.iter().enumerate() {
        let mut row = vec![Cell::Text(plan.name.clone())];
        for choice in [Choice::Vote, Choice::Judge] {
            let rows = view.rows(arm, size, choice);
            for half in [false, true] {
                let found = view.mean(&rows, Some(half))?;
                row.push(found.map_or(Cell::Text("–".into()), Cell::PercentInterval));
            }
        }
        table = table.row(row);
    }
    Ok(table)
}

/// What single responses are like.
fn responses(view: &View<'_>) -> Result<Table, RecipeError> {
    let mut table = Table::new(
        "Single responses",
        ["arm", "right", "tokens written", "tokens read", "triggers", "forced answers"],
    )
    .note("Mean over all responses drawn. Without answer or cut counts as wrong.");
    for (arm, plan) in view.plans.iter().enumerate() {
        let rows: Vec<Vec<f64>> = view
            .seeds
            .iter()
            .map(|seed| {
                let right =
                    |list: &Vec<Kept>| mean(&list.iter().map(|k| credit(k.right)).collect::<Vec<_>>());
                seed.arms[arm].responses.iter().map(right).collect()
            })
            .collect();
        let all: Vec<&Kept> =
            view.seeds.iter().flat_map(|seed| seed.arms[arm].responses.iter().flatten()).collect();
        let average = |of: &dyn Fn(&Kept) -> f64| mean(&all.iter().map(|kept| of(kept)).collect::<Vec<_>>());
        let right = view.mean(&rows, None)?;
        table = table.row([
            Cell::Text(plan.name.clone()),
            right.map_or(Cell::Text("–".into()), Cell::PercentInterval),
            Cell::Number(average(&|kept| kept.tokens as f64), 1),
            Cell::Number(average(&|kept| kept.read as f64), 1),
            Cell::Number(average(&|kept| kept.triggers as f64), 2),
            Cell::Number(average(&|kept| credit(kept.forced)), 3),
        ]);
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(answer: &str, right: bool, tokens: u64, logprob: f64) -> Kept {
        Kept {
            text: format!("#{answer}"),
            answer: (!answer.is_empty()).then(|| answer.to_string()),
            right,
            tokens,
            read: 1,
            triggers: 0,
            forced: false,
            logprob: Some(logprob),
        }
    }

    #[test]
    fn every_arm_gets_at_least_the_tokens() {
        let list: Vec<Kept> = [10, 20, 30].map(|tokens| kept("1", true, tokens, -1.0)).to_vec();
        assert_eq!([1, 10, 11, 30, 31, 60, 61].map(|tokens| enough(&list, tokens)), [1, 1, 2, 2, 3, 3, 3]);
    }

    #[test]
    fn choices_among_responses() {
        let drawn = Drawn {
            responses: vec![vec![
                kept("7", true, 1, -0.9),
                kept("8", false, 1, -0.1),
                kept("", false, 1, -0.0),
                kept("8", false, 1, -0.5),
                kept("7", true, 1, -0.2),
            ]],
            judged: vec![vec![0.4, 0.3, 0.99, 0.1, 0.2]],
        };
        let credit = |count, choice| chosen(&drawn, 0, count, choice);
        assert_eq!(credit(5, Choice::Vote), 0.5, "a tie is worth a half");
        assert_eq!(credit(4, Choice::Vote), 0.0);
        assert_eq!(credit(5, Choice::Judge), 1.0, "what has no answer cannot win");
        assert_eq!(credit(5, Choice::Likelihood), 0.0);
        assert_eq!(credit(9, Choice::Pass), 1.0, "no more than there are");
    }

    #[test]
    fn the_arms_differ_in_what_their_names_say() {
        let settings = Settings {
            questions: 1,
            validation: 1,
            steps: [4, 8],
            sizes: vec![1, 8],
            claims_at: 8,
            plain: 20,
            growths: vec![1.5, 2.0, 4.0],
            growth: 2.0,
            cap: 320,
            answer_tokens: 8,
            temperature: 1.0,
            crossings: 1,
            seeds: vec![1],
        };
        let plans = plans(&settings, 20);
        assert_eq!(plans.len(), 7);
        for plan in &plans {
            let made = &plan.settings;
            assert_eq!((made.draw.max_tokens, made.answer_tokens), (320, 8), "{}: the same cap", plan.name);
            assert!(IterativeDeepeningSampling::new(made.clone()).is_ok());
            match plan.kind {
                Kind::Plain => assert_eq!((made.most_triggers, made.samples), (Some(0), 20)),
                Kind::AtEnd => assert_eq!((made.on_end, made.most_triggers), (OnEnd::Reflect, Some(1))),
                Kind::Growing(growth) => assert_eq!((made.growth, made.first_budget), (growth, 20)),
                Kind::Filler => assert_eq!((made.growth, made.trigger), (2.0, Trigger::Filler)),
            }
        }
    }

    #[test]
    fn findings_answer_every_claim() {
        let recipe = crate::built_in("iterative-deepening-sampling").unwrap();
        let session = elenchus_learn::Session {
            run: None,
            observer: &elenchus_learn::Quiet,
            stop: elenchus_learn::StopFlag::default(),
        };
        let models = [crate::models::EMBEDDED.to_string()];
        let input = Reproduce {
            recipe: &recipe,
            size: crate::Size::Full,
            seed: 1,
            models: &models,
            lab: crate::lab::Lab::new(None),
            session: &session,
        };
        let settings: Settings = input.settings().unwrap();
        let task = chains(settings.steps).unwrap();
        let problems = task.problems(Split::Validation, 40, 3).unwrap();
        // Growing distances are right on every question, the others on the first half.
        let arms = |settings: &Settings| -> Vec<Drawn> {
            plans(settings, 20)
                .iter()
                .map(|plan| {
                    let good = plan.kind == Kind::Growing(settings.growth);
                    let one = |q: usize| {
                        let right = good || q < 20;
                        let copies = vec![kept(if right { "1" } else { "2" }, right, 10, -1.0); 8];
                        if good { copies } else { [copies.clone(), copies].concat() }
                    };
                    let responses: Vec<Vec<Kept>> = (0..40).map(one).collect();
                    let judged = responses.iter().map(|list| vec![0.5; list.len()]).collect();
                    Drawn { responses, judged }
                })
                .collect()
        };
        let crossed = Crossed { within: Some([true, true, false]), end: Some([false, true]) };
        let kept_right = Crossed { within: None, end: Some([true, true]) };
        let seeds: Vec<Seed> = (0..2)
            .map(|_| Seed { first: 20, arms: arms(&settings), crossed: vec![vec![crossed, kept_right]; 40] })
            .collect();
        let found = findings(&input, &settings, &task, &problems, &seeds).unwrap();
        for claim in &recipe.acceptance.as_ref().unwrap().claims {
            let interval = found.estimates.get(&claim.id).unwrap_or_else(|| panic!("{}", claim.id));
            assert!(interval.value.is_finite(), "{}", claim.id);
        }
        assert_eq!(found.estimates.len(), recipe.acceptance.as_ref().unwrap().claims.len());
        let value = |id: &str| found.estimates[id].value;
        assert_eq!((value("repairs"), value("keeps")), (1.0, 1.0));
        assert_eq!((value("vote-over-plain"), value("over-end")), (0.5, 0.5), "right on the other half, too");
        assert_eq!((value("filler"), value("fixed-worst")), (0.0, 0.0));
        assert_eq!(value("interior"), 0.5, "the growth of the claims lies between the others");
    }

    #[test]
    fn the_hard_half_is_told_by_the_problem() {
        let task = chains([4, 8]).unwrap();
        let problems = task.problems(Split::Validation, 60, 3).unwrap();
        let hard = hard(&task, &problems);
        let share = hard.iter().filter(|h| **h).count();
        assert!((20..=40).contains(&share), "{share} of 60");
        let steps = |q: usize| task.reference(&problems[q]).unwrap().matches(';').count();
        let least = (0..60).filter(|&q| hard[q]).map(steps).min().unwrap();
        assert!((0..60).filter(|&q| !hard[q]).all(|q| steps(q) < least));
    }
}
