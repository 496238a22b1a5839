//! The grid of the taxonomy (arXiv 2407.11511): all compatible triples at one token budget, on arithmetic chains and
//! Countdown. Budgets are set on validation problems, where only tokens are counted.

use super::asked::{Asked, MeanCost, mean, unit};
use super::{Findings, Reproduce, wider};
use crate::grid::{
    Combination, Controller, Generator, GridRow, Judging, axes_table, calibrate, grid_table,
    tokens_per_solved,
};
use crate::{RecipeError, built_in_recipes};
use elenchus_control::majority;
use elenchus_generate::{ACTOR, Voice};
use elenchus_learn::rollouts::mix;
use elenchus_measure::{Bootstrap, Interval, Section, over_seeds};
use elenchus_task::{Split, Task};
use elenchus_trace::{Answer, NodeKind, Problem, Usage};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Settings of the experiment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Tasks.
    tasks: Vec<String>,
    /// Test problems of each.
    questions: usize,
    /// Validation problems on which budgets are set.
    pilot: usize,
    /// Sampling seeds.
    seeds: usize,
    /// The budget, in greedy chains.
    times: f64,
    /// Temperature of all controllers but greedy.
    temperature: f32,
}

/// How far from the budget a triple may lie and still count as equal.
const TOLERANCE: f64 = 0.15;
/// The experiment has one model, so no other one judges; controllers beyond these are for `elenchus grid`.
const JUDGING: [Judging; 4] = [Judging::None, Judging::Coin, Judging::SelfAssessment, Judging::Tool];
const CONTROLLERS: [Controller; 5] =
    [Controller::Greedy, Controller::Vote, Controller::Select, Controller::Loop, Controller::Beam];
/// What a control may gain by chance.
const CHANCE: f64 = 0.05;

/// What is kept of one answer.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Kept {
    /// Whether it is right.
    right: f64,
    /// Whether there is none.
    abstained: bool,
    /// Share of right ones among the whole responses with an answer that it was chosen from: what a random choice is
    /// worth. `None` where there are no whole responses.
    chance: Option<f64>,
    /// Whether the unweighted vote of the same responses is right.
    plain_vote: Option<f64>,
    usage: Usage,
}

/// Judges an answer, and the responses that it came from.
fn keep(task: &dyn Task, problem: &Problem, answer: &Answer, whole: bool) -> Result<Kept, RecipeError> {
    let judged = |text: &str| Ok::<f64, RecipeError>(unit(task.verify(problem, text)?.is_correct()));
    // An abstention shows a text that is no answer.
    let right = if answer.abstained.is_some() { 0.0 } else { judged(&answer.text)? };
    let mut responses: Vec<&str> = Vec::new();
    if whole {
        for node in &answer.trace.nodes {
            if let NodeKind::Generated { role, completion, .. } = &node.kind
                && role == ACTOR
                && task.extract(problem, &completion.text).is_some()
            {
                responses.push(&completion.text);
            }
        }
    }
    let scores = responses.iter().map(|text| judged(text)).collect::<Result<Vec<f64>, _>>()?;
    let answers: Vec<Option<String>> = responses.iter().map(|text| task.extract(problem, text)).collect();
    let vote = majority(&answers, |left, right| task.equivalent(problem, left, right));
    Ok(Kept {
        right,
        abstained: answer.abstained.is_some(),
        chance: (!scores.is_empty()).then(|| mean(&scores)),
        plain_vote: vote.sample().map(|sample| scores[sample]),
        usage: answer.usage,
    })
}

/// One triple on one task: per seed and question.
struct Played {
    combination: Combination,
    strategy: &'static str,
    axes: elenchus_control::Triple,
    units: usize,
    kept: Vec<Vec<Kept>>,
}

impl Played {
    fn right(&self) -> Vec<Vec<f64>> {
        self.kept.iter().map(|seed| seed.iter().map(|kept| kept.right).collect()).collect()
    }

    fn usages(&self) -> impl Iterator<Item = Usage> + '_ {
        self.kept.iter().flatten().map(|kept| kept.usage)
    }

    /// Per seed and question, for those questions that have the value in every seed.
    fn of(&self, value: impl Fn(&Kept) -> Option<f64>) -> Vec<Vec<Option<f64>>> {
        self.kept.iter().map(|seed| seed.iter().map(&value).collect()).collect()
    }
}

/// One task.
struct Done {
    task: String,
    budget: f64,
    played: Vec<Played>,
}

impl Done {
    fn find(&self, generator: Generator, evaluator: Judging, controller: Controller) -> Option<&Played> {
        let wanted = Combination { generator, evaluator, controller };
        self.played.iter().find(|played| played.combination == wanted)
    }
}

fn task_of(name: &str) -> Result<Box<dyn Task>, RecipeError> {
    // Long enough that one greedy chain is often wrong.
    let settings = if name == "arithmetic" { json!({"steps": [5, 8]}) } else { json!({}) };
    Ok(elenchus_task::task(name, &settings)?)
}

/// Runs the experiment.
pub(super) fn run(input: &Reproduce<'_>) -> Result<Findings, RecipeError> {
    let settings: Settings = input.settings()?;
    let all = Combination::all(Generator::ALL, &JUDGING, &CONTROLLERS);
    // Answers at once are there for the comparison with chains, not for every evaluator.
    let triples: Vec<Combination> = all
        .into_iter()
        .filter(|one| one.generator == Generator::Steps || one.evaluator == Judging::None)
        .collect();
    let mut done = Vec::new();
    for (m, model) in input.models.iter().enumerate() {
        let seeded: Vec<Asked<'_>> = (0..settings.seeds as u64)
            .map(|seed| Asked::with_seed(input, model, mix(input.seed, 500 + seed)))
            .collect::<Result<_, _>>()?;
        let Some(first) = seeded.first() else { return Err(input.refuse("[reproduce]: `seeds` is 0")) };
        for name in &settings.tasks {
            let task = task_of(name)?;
            let task = task.as_ref();
            let pilot = task.problems(Split::Validation, settings.pilot, mix(input.seed, 11))?;
            let problems = task.problems(Split::Test, settings.questions, mix(input.seed, 13))?;
            let cost = |one: Combination, units: usize| -> Result<f64, RecipeError> {
                let strategy = one.strategy(units, settings.temperature, Voice::Compact)?;
                let label = format!("{m}/{name}/pilot {} {units}", one.label());
                let usages =
                    first.answers(&label, strategy.as_ref(), task, &pilot, |_, answer| Ok(answer.usage))?;
                Ok(MeanCost::of(usages).tokens)
            };
            let greedy = Combination {
                generator: Generator::Steps,
                evaluator: Judging::None,
                controller: Controller::Greedy,
            };
            let budget = settings.times * cost(greedy, 1)?;
            let mut played = Vec::new();
            for &one in &triples {
                let units = if one.scales() { calibrate(budget, |units| cost(one, units))?.0 } else { 1 };
                let strategy = one.strategy(units, settings.temperature, Voice::Compact)?;
                let whole = one.controller != Controller::Beam;
                let mut kept = Vec::new();
                // A greedy chain is the same for every seed.
                let seeds = if one.scales() { seeded.as_slice() } else { &seeded[..1] };
                for (s, asked) in seeds.iter().enumerate() {
                    let label = format!("{m}/{name}/{} seed {s}", one.label());
                    let take = |problem: &Problem, answer: Answer| keep(task, problem, &answer, whole);
                    kept.push(asked.answers(&label, strategy.as_ref(), task, &problems, take)?);
                }
                while kept.len() < seeded.len() {
                    kept.push(kept[0].clone());
                }
                let (part, _) = one.part(units, settings.temperature, Voice::Compact);
                played.push(Played {
                    combination: one,
                    strategy: part,
                    axes: strategy.triple(),
                    units,
                    kept,
                });
            }
            done.push(Done { task: name.clone(), budget, played });
        }
    }
    findings(input, &settings, &done)
}

/// Rows side by side: the questions of all tasks, per seed.
fn joined(rows: &[Vec<Vec<f64>>]) -> Vec<Vec<f64>> {
    let seeds = rows.iter().map(Vec::len).min().unwrap_or(0);
    (0..seeds).map(|seed| rows.iter().flat_map(|task| task[seed].iter().copied()).collect()).collect()
}

fn minus(left: &[Vec<f64>], right: &[Vec<f64>]) -> Vec<Vec<f64>> {
    left.iter().zip(right).map(|(l, r)| l.iter().zip(r).map(|(l, r)| l - r).collect()).collect()
}

/// The mean over seeds, with the wider of the intervals over seeds and over both; `None` without questions.
fn summed(bootstrap: &Bootstrap, rows: &[Vec<f64>]) -> Result<Option<Interval>, RecipeError> {
    if rows.first().is_none_or(Vec::is_empty) {
        return Ok(None);
    }
    Ok(Some(wider(&over_seeds(rows, bootstrap)?)))
}

const SEARCHING: [Controller; 4] = [Controller::Vote, Controller::Select, Controller::Loop, Controller::Beam];

fn findings(input: &Reproduce<'_>, settings: &Settings, done: &[Done]) -> Result<Findings, RecipeError> {
    let bootstrap = Bootstrap::default().seed(mix(input.seed, 99));
    let mut findings = Findings::default();
    let right = |generator, evaluator, controller| -> Vec<Vec<f64>> {
        let rows: Vec<Vec<Vec<f64>>> = done
            .iter()
            .filter_map(|task| Some(task.find(generator, evaluator, controller)?.right()))
            .collect();
        joined(&rows)
    };
    let steps = |evaluator, controller| right(Generator::Steps, evaluator, controller);
    let greedy = steps(Judging::None, Controller::Greedy);
    let mut insert = |id: &str, rows: Vec<Vec<f64>>| -> Result<(), RecipeError> {
        if let Some(interval) = summed(&bootstrap, &rows)? {
            findings.estimates.insert(id.to_string(), interval);
        }
        Ok(())
    };
    let direct: Vec<Vec<Vec<f64>>> = done
        .iter()
        .filter(|task| task.task == "arithmetic")
        .filter_map(|task| {
            let of = |generator| Some(task.find(generator, Judging::None, Controller::Greedy)?.right());
            // One greedy chain has no seeds.
            Some(minus(&of(Generator::Steps)?[..1], &of(Generator::Direct)?[..1]))
        })
        .collect();
    insert("chain-over-direct", joined(&direct))?;
    insert("vote-over-greedy", vote_gain(done))?;
    let search = |evaluator| steps(evaluator, Controller::Beam);
    insert("tool-over-self", minus(&search(Judging::Tool), &search(Judging::SelfAssessment)))?;
    insert("self-over-greedy", minus(&search(Judging::SelfAssessment), &greedy))?;
    let select = |evaluator| steps(evaluator, Controller::Select);
    insert("tool-over-coin", minus(&select(Judging::Tool), &select(Judging::Coin)))?;
    insert("self-over-coin", minus(&select(Judging::SelfAssessment), &select(Judging::Coin)))?;
    insert("evaluator-over-controller", evaluator_against_controller(&steps))?;

    let mut largest: Option<(f64, Controller, Interval)> = None;
    let mut lines = Vec::new();
    for controller in SEARCHING {
        let Some(gain) = summed(&bootstrap, &coin_gain(done, controller))? else { continue };
        lines.push(format!(
            "{}: {:+.1} [{:+.1}, {:+.1}] points",
            controller.name(),
            100.0 * gain.value,
            100.0 * gain.low,
            100.0 * gain.high
        ));
        if largest.as_ref().is_none_or(|(value, ..)| gain.value > *value) {
            largest = Some((gain.value, controller, gain));
        }
    }
    if let Some((value, _, gain)) = largest {
        let left = Interval { value: CHANCE - value, low: CHANCE - gain.high, high: CHANCE - gain.low };
        findings.estimates.insert("coin-gains-nothing".into(), left);
    }
    findings.sections.push(Section::text("The coin against a random choice", lines.join("\n\n")));
    findings.notes.push(format!("The coin against a random choice: {}.", lines.join("; ")));

    let mut fewest = usize::MAX;
    for task in done {
        let rows = rows_of(task, &bootstrap)?;
        let equal = |row: &&GridRow| {
            let among =
                row.combination.generator == Generator::Steps && row.combination.evaluator != Judging::None;
            among && (row.tokens / task.budget - 1.0).abs() <= TOLERANCE
        };
        fewest = fewest.min(rows.iter().filter(equal).count());
        let title = format!(
            "{}: {} problems, {} seeds, {:.0} tokens a problem ({} greedy chains)",
            task.task, settings.questions, settings.seeds, task.budget, settings.times
        );
        findings.tables.push(grid_table(&title, task.budget, &rows));
    }
    if fewest < usize::MAX {
        findings.estimates.insert("nine-triples".into(), Interval::exact(fewest as f64 - 9.0));
    }
    findings.tables.push(axes_table(&built_in_recipes()?));
    findings.notes.push(
        "The tool of arithmetic recomputes equations and asks whether the answer follows; it does not read the problem, so \
         a chain of right equations about the wrong statement passes. The tool of Countdown reads numbers and target, \
         which stand in the problem, and is exact. The model's own judgement is its skill `judge`; of unfinished chains it \
         never saw any in training."
            .into(),
    );
    findings.notes.push(
        "A random choice is the mean over the responses with an answer that the controller had before it (select, loop), \
         the unweighted vote of the same responses (vote), and one sample of the select arm (beam)."
            .into(),
    );
    Ok(findings)
}

fn rows_of(task: &Done, bootstrap: &Bootstrap) -> Result<Vec<GridRow>, RecipeError> {
    let mut rows = Vec::new();
    for played in &task.played {
        let Some(accuracy) = summed(bootstrap, &played.right())? else { continue };
        let cost = MeanCost::of(played.usages());
        rows.push(GridRow {
            combination: played.combination,
            strategy: played.strategy,
            axes: played.axes,
            units: played.units,
            accuracy,
            abstained: played.kept.iter().flatten().filter(|kept| kept.abstained).count(),
            tokens: cost.tokens,
            calls: cost.calls,
            tokens_per_solved: tokens_per_solved(cost.tokens, accuracy.value),
        });
    }
    Ok(rows)
}

/// Vote minus greedy, per seed, on the questions whose right answer has more than half of the samples of the other seeds:
/// the questions are not chosen by the samples that are judged. Questions are the same in every seed, so one that does not
/// qualify in all seeds is left out.
fn vote_gain(done: &[Done]) -> Vec<Vec<f64>> {
    let per_task: Vec<Vec<Vec<f64>>> = done
        .iter()
        .filter_map(|task| {
            let vote = task.find(Generator::Steps, Judging::None, Controller::Vote)?;
            let greedy = task.find(Generator::Steps, Judging::None, Controller::Greedy)?;
            let (chances, questions) = (vote.of(|kept| kept.chance), vote.kept.first()?.len());
            let seeds = vote.kept.len();
            let likely = |question: usize, seed: usize| {
                let others: Vec<f64> = (0..seeds)
                    .filter(|&other| seeds == 1 || other != seed)
                    .map(|other| chances[other][question].unwrap_or(0.0))
                    .collect();
                mean(&others) > 0.5
            };
            let chosen: Vec<usize> =
                (0..questions).filter(|&question| (0..seeds).all(|seed| likely(question, seed))).collect();
            let gain = |seed: usize| -> Vec<f64> {
                chosen.iter().map(|&q| vote.kept[seed][q].right - greedy.kept[seed][q].right).collect()
            };
            Some((0..seeds).map(gain).collect())
        })
        .collect();
    joined(&per_task)
}

/// What the coin gains over a random choice in a controller, per seed and question.
fn coin_gain(done: &[Done], controller: Controller) -> Vec<Vec<f64>> {
    let per_task: Vec<Vec<Vec<f64>>> = done
        .iter()
        .filter_map(|task| {
            let coin = task.find(Generator::Steps, Judging::Coin, controller)?;
            let random = match controller {
                Controller::Vote => coin.of(|kept| kept.plain_vote),
                Controller::Beam => {
                    task.find(Generator::Steps, Judging::Coin, Controller::Select)?.of(|kept| kept.chance)
                }
                _ => coin.of(|kept| kept.chance),
            };
            // Without a response that has an answer both are 0.
            let gain = |(kept, random): (&Vec<Kept>, &Vec<Option<f64>>)| -> Vec<f64> {
                kept.iter().zip(random).map(|(kept, random)| kept.right - random.unwrap_or(0.0)).collect()
            };
            Some(coin.kept.iter().zip(&random).map(gain).collect())
        })
        .collect();
    joined(&per_task)
}

/// Per seed and question: tool minus coin, mean over controllers, less best minus worst controller (by their means over
/// everything), mean over evaluators.
fn evaluator_against_controller(steps: &dyn Fn(Judging, Controller) -> Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let total = |rows: &[Vec<f64>]| mean(&rows.iter().flatten().copied().collect::<Vec<f64>>());
    let mut evaluators: Vec<Vec<Vec<f64>>> = Vec::new();
    for controller in SEARCHING {
        evaluators.push(minus(&steps(Judging::Tool, controller), &steps(Judging::Coin, controller)));
    }
    let mut controllers: Vec<Vec<Vec<f64>>> = Vec::new();
    for evaluator in [Judging::Coin, Judging::SelfAssessment, Judging::Tool] {
        let mut ranked: Vec<Vec<Vec<f64>>> =
            SEARCHING.iter().map(|&controller| steps(evaluator, controller)).collect();
        ranked.sort_by(|a, b| total(a).total_cmp(&total(b)));
        if let (Some(worst), Some(best)) = (ranked.first(), ranked.last()) {
            controllers.push(minus(best, worst));
        }
    }
    minus(&averaged(&evaluators), &averaged(&controllers))
}

fn averaged(all: &[Vec<Vec<f64>>]) -> Vec<Vec<f64>> {
    let Some(first) = all.first() else { return Vec::new() };
    let at =
        |seed: usize, question: usize| mean(&all.iter().map(|rows| rows[seed][question]).collect::<Vec<_>>());
    (0..first.len()).map(|seed| (0..first[seed].len()).map(|question| at(seed, question)).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(right: f64, chance: f64) -> Kept {
        Kept {
            right,
            abstained: false,
            chance: Some(chance),
            plain_vote: Some(chance),
            usage: Usage::default(),
        }
    }

    fn played(evaluator: Judging, controller: Controller, kept: Vec<Vec<Kept>>) -> Played {
        let combination = Combination { generator: Generator::Steps, evaluator, controller };
        let axes = elenchus_control::Triple::SELF_VOTE;
        Played { combination, strategy: "x", axes, units: 1, kept }
    }

    #[test]
    fn questions_are_chosen_by_other_seeds_than_those_that_are_judged() {
        // Question 0 is likely in both seeds; question 1 in one of them only.
        let vote = vec![vec![kept(1.0, 0.9), kept(1.0, 0.9)], vec![kept(1.0, 0.8), kept(0.0, 0.2)]];
        let greedy = vec![vec![kept(0.0, 0.0), kept(0.0, 0.0)]; 2];
        let done = Done {
            task: "arithmetic".into(),
            budget: 1.0,
            played: vec![
                played(Judging::None, Controller::Vote, vote),
                played(Judging::None, Controller::Greedy, greedy),
            ],
        };
        assert_eq!(vote_gain(&[done]), [[1.0], [1.0]]);
    }

    #[test]
    fn a_coin_gains_what_it_has_over_the_mean_of_its_choices() {
        let coin = vec![vec![kept(1.0, 0.25), kept(0.0, 0.5)]];
        let done = Done {
            task: "countdown".into(),
            budget: 1.0,
            played: vec![played(Judging::Coin, Controller::Select, coin)],
        };
        assert_eq!(coin_gain(&[done], Controller::Select), [[0.75, -0.5]]);
    }

    #[test]
    fn the_evaluator_stands_against_the_controller() {
        // The tool is 0.5 better than the coin everywhere; controllers differ by 0.25.
        let steps = |evaluator, controller| {
            let base = match evaluator {
                Judging::Coin => 0.0,
                Judging::SelfAssessment => 0.25,
                _ => 0.5,
            };
            vec![vec![base + if controller == Controller::Beam { 0.25 } else { 0.0 }]]
        };
        assert_eq!(evaluator_against_controller(&steps), [[0.25]]);
    }
}
