//! RealCritic (arXiv 2501.14492): a critique is judged by the correction it leads to. Cross-critique of recorded
//! solutions of which half are right, self-critique, iterative critique; against critics that know nothing, against
//! solving from scratch, and against a vote from scratch at the critic's own tokens.

use super::asked::{Asked, MeanCost, mean, unit};
use super::{Findings, Reproduce};
use crate::RecipeError;
use elenchus_control::{
    AttemptLog, ClosedLoopCritique, ClosedLoopCritiqueSettings, CritiqueOf, CritiqueTurn, Draw,
    SelfConsistency, SelfConsistencySettings, Single, SingleSettings,
};
use elenchus_evaluate::{Judge, JudgeSettings};
use elenchus_learn::rollouts::mix;
use elenchus_measure::{
    Axis, Bootstrap, Cell, Chart, CorrectionQuestion, Dialogue, Interval, Plot, Scale, Section, Series,
    Table, compare_over_seeds, self_correction_intervals,
};
use elenchus_task::arithmetic::{Exercise, corrupt};
use elenchus_task::{Split, Task};
use elenchus_trace::{Answer, Problem, Usage};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Settings of the experiment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Recorded solutions, half of them right, divided evenly among their authors.
    items: usize,
    /// Temperatures at which each model is an author of recorded solutions; slips in reference solutions are one more.
    temperatures: Vec<f32>,
    /// Samples of an author among which one that is right, or one that is wrong, is looked for.
    tries: usize,
    /// Turns of iterative critique.
    turns: usize,
}

/// One recorded solution.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Item {
    /// The problem, with the solution in its data.
    problem: Problem,
    author: String,
    solution: String,
    right: bool,
    first_wrong: Option<usize>,
}

/// What one critic made of one solution.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Outcome {
    /// Whether it called the solution right; `None` when it said nothing that can be read.
    verdict: Option<bool>,
    first_error: Option<usize>,
    kept_steps: Option<bool>,
    /// Whether the first solution is right, and what stands after each turn.
    before: bool,
    after: Vec<bool>,
    /// Spent until the end of each turn.
    spent: Vec<Usage>,
}

impl Outcome {
    fn after(&self, turn: usize) -> bool {
        // A loop that ended early leaves what it had.
        self.after.get(turn - 1).or(self.after.last()).copied().unwrap_or(self.before)
    }

    fn spent(&self, turn: usize) -> Usage {
        self.spent.get(turn - 1).or(self.spent.last()).copied().unwrap_or_default()
    }
}

/// The outcome that the account of a closed-loop answer tells.
fn outcome(task: &dyn Task, answer: &Answer) -> Result<Outcome, RecipeError> {
    let log = AttemptLog::of(&answer.trace).unwrap_or_default();
    let right = log.judged(task, &answer.trace)?;
    let first = CritiqueTurn::all(&answer.trace).into_iter().next();
    let turns = right.len().saturating_sub(1);
    Ok(Outcome {
        verdict: first.as_ref().and_then(|turn| turn.verdict),
        first_error: first.as_ref().and_then(|turn| turn.first_error),
        kept_steps: first.as_ref().and_then(|turn| turn.kept_steps),
        before: right.first().copied().unwrap_or(false),
        after: right.get(1..).unwrap_or_default().to_vec(),
        spent: (1..=turns).map(|turn| log.spent_until(turn)).collect(),
    })
}

/// A critic on the recorded solutions: verdict and result per model and item, one turn.
struct Arm {
    name: String,
    verdicts: Vec<Vec<Option<bool>>>,
    after: Vec<Vec<f64>>,
    cost: MeanCost,
}

/// Everything measured on one model.
struct PerModel {
    cross: Vec<Outcome>,
    own: Vec<Outcome>,
    /// Greedy solution from scratch: right, its answer agrees with the recorded one, cost.
    solved: Vec<(bool, bool, Usage)>,
    /// Vote from scratch at the tokens of the critic.
    voted: Vec<(bool, Usage)>,
    votes: usize,
    /// Probability of the judge that the recorded solution is right.
    judged: Vec<(Option<f64>, Usage)>,
}

impl PerModel {
    fn cross(&self) -> &[Outcome] {
        &self.cross
    }

    fn own(&self) -> &[Outcome] {
        &self.own
    }
}

/// Recorded solutions of all authors: the same number right and wrong of each, every problem once.
fn pool(input: &Reproduce<'_>, settings: &Settings, task: &dyn Task) -> Result<Vec<Item>, RecipeError> {
    let authors = input.models.len() * settings.temperatures.len() + 1;
    let each = (settings.items / authors / 2 * 2).max(2);
    // Not every problem gives a sample of the wanted kind; what is left over is not used.
    let problems = task.problems(Split::Test, each * authors * 3, mix(input.seed, 1))?;
    let mut share = problems.chunks(each * 3);
    let mut items = Vec::with_capacity(each * authors);
    for (m, model) in input.models.iter().enumerate() {
        let asked = Asked::new(input, model)?;
        for &temperature in &settings.temperatures {
            let draw = Draw {
                temperature: Some(temperature),
                top_p: Some(1.0),
                max_tokens: 160,
                seed: 7,
                ..Draw::default()
            };
            let sampled = SelfConsistency::new(SelfConsistencySettings {
                samples: settings.tries,
                early_stop: false,
                draw,
            })?;
            let author = format!("model {} at {temperature:.1}", m + 1);
            let problems = share.next().unwrap_or_default();
            let label = format!("{m}/recorded/{temperature}");
            let texts = asked.answers(&label, &sampled, task, problems, |_, answer| {
                Ok(answer.trace.completions().map(|(_, c)| c.text.clone()).collect::<Vec<String>>())
            })?;
            let solutions = problems.iter().zip(texts);
            fill(&mut items, task, each, &author, solutions, |problem, texts, wanted| {
                for text in texts {
                    if task.verify(problem, text)?.is_correct() == wanted
                        && task.steps(problem, text).len() > 1
                    {
                        return Ok(Some(text.clone()));
                    }
                }
                Ok(None)
            })?;
        }
    }
    let mut random = ChaCha8Rng::seed_from_u64(mix(input.seed, 2));
    let problems = share.next().unwrap_or_default();
    fill(
        &mut items,
        task,
        each,
        "one slip in the reference",
        problems.iter().zip(std::iter::repeat(())),
        |problem, (), wanted| {
            if wanted {
                return Ok(task.reference(problem));
            }
            let exercise = Exercise::from_problem(problem)?;
            Ok(corrupt::corrupt(&exercise, &mut random).map(|slip| slip.compact(&exercise)))
        },
    )?;
    Ok(items)
}

/// Takes one solution per problem, right and wrong in turn, until an author has its share.
fn fill<'p, S>(
    items: &mut Vec<Item>,
    task: &dyn Task,
    each: usize,
    author: &str,
    candidates: impl Iterator<Item = (&'p Problem, S)>,
    mut choose: impl FnMut(&Problem, &S, bool) -> Result<Option<String>, RecipeError>,
) -> Result<(), RecipeError> {
    let mut counts = [0usize; 2];
    for (problem, material) in candidates {
        if counts[0] + counts[1] == each {
            break;
        }
        let wanted = counts[1] <= counts[0];
        let wanted = if counts[usize::from(wanted)] == each / 2 { !wanted } else { wanted };
        let Some(solution) = choose(problem, &material, wanted)? else { continue };
        let verdict = task.verify(problem, &solution)?;
        counts[usize::from(wanted)] += 1;
        let mut problem = problem.clone();
        if let Some(data) = problem.data.as_object_mut() {
            data.insert("solution".into(), solution.clone().into());
        }
        items.push(Item {
            problem,
            author: author.into(),
            right: verdict.is_correct(),
            first_wrong: verdict.first_wrong_step(),
            solution,
        });
    }
    // Both kinds in equal number, also when the problems ran out.
    let least = counts[0].min(counts[1]);
    for right in [false, true] {
        let mut surplus = counts[usize::from(right)] - least;
        while surplus > 0 {
            let Some(last) = items.iter().rposition(|i| i.author == author && i.right == right) else {
                break;
            };
            items.remove(last);
            surplus -= 1;
        }
    }
    Ok(())
}

/// Runs the experiment.
pub(super) fn run(input: &Reproduce<'_>) -> Result<Findings, RecipeError> {
    let settings: Settings = input.settings()?;
    let task = elenchus_task::task("arithmetic", &serde_json::Value::Null)?;
    let task = task.as_ref();
    let items = pool(input, &settings, task)?;
    let problems: Vec<Problem> = items.iter().map(|item| item.problem.clone()).collect();
    let draw = Draw { max_tokens: 160, ..Draw::default() };
    let closed = |solution| {
        let settings = ClosedLoopCritiqueSettings {
            solution,
            turns: settings.turns,
            draw: draw.clone(),
            ..Default::default()
        };
        ClosedLoopCritique::new(settings)
    };
    let single = Single::new(SingleSettings { draw: draw.clone() })?;
    let judge = Judge::new(JudgeSettings::default()).map_err(|error| RecipeError::Control(error.into()))?;
    let mut found = Vec::new();
    for (m, model) in input.models.iter().enumerate() {
        let asked = Asked::new(input, model)?;
        let label = |what: &str| format!("{m}/{what}");
        let keep = |_: &Problem, answer: Answer| outcome(task, &answer);
        let cross =
            asked.answers(&label("cross-critique"), &closed(CritiqueOf::Given)?, task, &problems, keep)?;
        let own = asked.answers(&label("self-critique"), &closed(CritiqueOf::Own)?, task, &problems, keep)?;
        let solved =
            asked.answers(&label("solve from scratch"), &single, task, &problems, |problem, answer| {
                let recorded = problem.data.get("solution").and_then(|s| s.as_str()).unwrap_or_default();
                let agrees = match (&answer.answer, task.extract(problem, recorded)) {
                    (Some(mine), Some(theirs)) => task.equivalent(problem, mine, &theirs),
                    _ => false,
                };
                Ok((task.verify(problem, &answer.text)?.is_correct(), agrees, answer.usage))
            })?;
        let tokens = |cost: &MeanCost| cost.tokens;
        let critic = MeanCost::of(cross.iter().map(|o| o.spent(1)));
        let once = MeanCost::of(solved.iter().map(|s| s.2));
        // Samples share the prompt of their request, so more of them fit than calls would; at least as many tokens as
        // the critic spends.
        let prompt = mean(
            &problems
                .iter()
                .map(|p| p.compact.as_deref().unwrap_or(&p.question).len() as f64 + 1.0)
                .collect::<Vec<_>>(),
        );
        let written = (tokens(&once) - prompt).max(1.0);
        let votes = (((tokens(&critic) - prompt) / written).ceil() as usize).max(2);
        let vote = SelfConsistency::new(SelfConsistencySettings {
            samples: votes,
            early_stop: false,
            draw: draw.clone(),
        })?;
        let voted =
            asked.answers(&label("vote from scratch"), &vote, task, &problems, |problem, answer| {
                Ok((task.verify(problem, &answer.text)?.is_correct(), answer.usage))
            })?;
        let solutions: Vec<(&Problem, &str)> =
            items.iter().map(|item| (&item.problem, item.solution.as_str())).collect();
        let judged = asked.feedback(&label("judge"), &judge, task, &solutions)?;
        let judged = judged.into_iter().map(|feedback| (feedback.probability, feedback.usage)).collect();
        found.push(PerModel { cross, own, solved, voted, votes, judged });
    }
    findings(input, &settings, &items, &found)
}

/// The critics that are compared, as they did on every recorded solution.
fn arms(input: &Reproduce<'_>, items: &[Item], found: &[PerModel]) -> Vec<Arm> {
    let arm = |name: &str, of: &dyn Fn(&PerModel, usize) -> (Option<bool>, bool, Usage)| {
        let mut arm =
            Arm { name: name.into(), verdicts: Vec::new(), after: Vec::new(), cost: MeanCost::default() };
        let mut spent = Vec::new();
        for model in found {
            let rows: Vec<(Option<bool>, bool, Usage)> = (0..items.len()).map(|i| of(model, i)).collect();
            arm.verdicts.push(rows.iter().map(|row| row.0).collect());
            arm.after.push(rows.iter().map(|row| unit(row.1)).collect());
            spent.extend(rows.iter().map(|row| row.2));
        }
        arm.cost = MeanCost::of(spent);
        arm
    };
    let nothing = Usage::default();
    let coins: Vec<bool> = {
        let mut random = ChaCha8Rng::seed_from_u64(mix(input.seed, 3));
        items.iter().map(|_| random.random_bool(0.5)).collect()
    };
    vec![
        arm("critic (critique, refine)", &|m, i| {
            let outcome = &m.cross[i];
            (outcome.verdict, outcome.after(1), outcome.spent(1))
        }),
        arm("parrot: says right, restates", &|_, i| (Some(true), items[i].right, nothing)),
        arm("random verdict, solves anew when wrong", &|m, i| match coins[i] {
            true => (Some(true), items[i].right, nothing),
            false => (Some(false), m.solved[i].0, m.solved[i].2),
        }),
        arm("solves from scratch", &|m, i| (Some(m.solved[i].1), m.solved[i].0, m.solved[i].2)),
        arm("vote from scratch, the critic's tokens", &|m, i| (None, m.voted[i].0, m.voted[i].1)),
        arm("judge, solves anew when wrong", &|m, i| {
            let (probability, cost) = m.judged[i];
            match probability.map(|p| p >= 0.5) {
                Some(false) => (Some(false), m.solved[i].0, cost + m.solved[i].2),
                // What the judge does not call wrong stays.
                verdict => (verdict, items[i].right, cost),
            }
        }),
        arm("true verdict, restates all the same", &|_, i| (Some(items[i].right), items[i].right, nothing)),
    ]
}

fn findings(
    input: &Reproduce<'_>,
    settings: &Settings,
    items: &[Item],
    found: &[PerModel],
) -> Result<Findings, RecipeError> {
    let bootstrap = Bootstrap::default().seed(mix(input.seed, 99));
    let mut findings = Findings::default();
    let arms = arms(input, items, found);
    let [critic, parrot, random, solve, vote, judge, truth] = arms.as_slice() else { return Ok(findings) };
    let difference = |a: &[Vec<f64>], b: &[Vec<f64>]| -> Result<Interval, RecipeError> {
        Ok(super::wider(&compare_over_seeds("a", a, "b", b, &bootstrap)?.difference))
    };
    let verdicts = |arm: &Arm| -> Vec<Vec<f64>> {
        let right = |verdicts: &Vec<Option<bool>>| {
            verdicts.iter().zip(items).map(|(said, item)| unit(*said == Some(item.right))).collect()
        };
        arm.verdicts.iter().map(right).collect()
    };
    let mut claim = |id: &str, interval: Interval| findings.estimates.insert(id.to_string(), interval);
    claim("over-solve", difference(&critic.after, &solve.after)?);
    claim("over-parrot", difference(&critic.after, &parrot.after)?);
    claim("over-random", difference(&critic.after, &random.after)?);
    claim("over-vote", difference(&critic.after, &vote.after)?);
    claim("over-judge", difference(&critic.after, &judge.after)?);
    claim("verdict-of-truth", difference(&verdicts(truth), &verdicts(critic))?);
    claim("correction-over-truth", difference(&critic.after, &truth.after)?);
    // Per problem: what criticising a recorded solution gained, less what criticising the own one gained.
    let gain = |outcomes: &[Outcome]| -> Vec<f64> {
        outcomes.iter().map(|o| unit(o.after(1)) - unit(o.before)).collect()
    };
    let cross: Vec<Vec<f64>> = found.iter().map(|m| gain(&m.cross)).collect();
    let own: Vec<Vec<f64>> = found.iter().map(|m| gain(&m.own)).collect();
    claim("cross-over-self", difference(&cross, &own)?);
    let nothing: Vec<Vec<f64>> = own.iter().map(|rows| vec![0.0; rows.len()]).collect();
    claim("self-loses", difference(&nothing, &own)?);
    // Right solutions broken after the last turn, less those broken after the first, over those that were right.
    let broken: Vec<[f64; 2]> = found
        .iter()
        .flat_map(|m| &m.cross)
        .map(|o| {
            let broken = |turn| unit(o.before && !o.after(turn));
            [broken(settings.turns) - broken(1), unit(o.before)]
        })
        .collect();
    if let Some(interval) =
        bootstrap.of_sums("broken", &broken, |[more, right]| (right > 0.0).then(|| more / right))?
    {
        claim("turns-break", interval);
    }

    findings.tables.push(critics_table(items, &arms, &verdicts, &bootstrap)?);
    findings.tables.push(modes_table(found, settings, &bootstrap)?);
    findings.tables.push(authors_table(items, found, &bootstrap)?);
    findings.sections.push(Section::plots("Turns", vec![turns_plot(found, settings)]));
    let located: Vec<&Outcome> = found.iter().flat_map(|m| &m.cross).collect();
    let share = |of: &[bool]| 100.0 * mean(&of.iter().map(|&b| unit(b)).collect::<Vec<_>>());
    let places: Vec<bool> = found
        .iter()
        .flat_map(|m| m.cross.iter().zip(items))
        .filter(|(_, item)| !item.right)
        .map(|(outcome, item)| outcome.first_error.is_some() && outcome.first_error == item.first_wrong)
        .collect();
    let kept: Vec<bool> = located.iter().filter_map(|o| o.kept_steps).collect();
    let silent = located.iter().filter(|o| o.verdict.is_none()).count();
    findings.notes.push(format!(
        "{} recorded solutions, half of them right, of {} author(s); {} model(s). First wrong step named exactly in {:.1} % \
         of the wrong ones; the steps before it kept as they were in {:.1} % of the corrections; {} critiques could not be \
         read and count as wrong.",
        items.len(),
        items.iter().map(|i| i.author.as_str()).collect::<std::collections::BTreeSet<_>>().len(),
        found.len(),
        share(&places),
        share(&kept),
        silent,
    ));
    findings.notes.push(format!(
        "The vote from scratch takes {} samples, so that it spends at least the critic's tokens.",
        found.iter().map(|m| m.votes.to_string()).collect::<Vec<_>>().join(", ")
    ));
    Ok(findings)
}

/// 2×2 table over right and wrong solutions, with the shares that the paper gives.
fn correction(before: &[bool], after: &[f64]) -> Result<Vec<CorrectionQuestion>, RecipeError> {
    let question = |(&first, &second): (&bool, &f64)| {
        Ok(CorrectionQuestion::from_dialogues(&[Dialogue { first, second: second > 0.5 }])?)
    };
    before.iter().zip(after).map(question).collect()
}

fn share_cell(interval: Option<Interval>, complement: bool) -> Cell {
    interval.map_or(Cell::Missing, |i| Cell::Percent(if complement { 1.0 - i.value } else { i.value }))
}

fn critics_table(
    items: &[Item],
    arms: &[Arm],
    verdicts: &dyn Fn(&Arm) -> Vec<Vec<f64>>,
    bootstrap: &Bootstrap,
) -> Result<Table, RecipeError> {
    let mut table = Table::new(
        "Cross-critique of recorded solutions, half of them right",
        ["critic", "calls", "tokens", "right verdicts", "right after", "delta", "right kept", "right broken", "wrong repaired"],
    )
    .note("Greedy. Delta: points above the 50 % of the recorded solutions. 95 % bootstrap intervals over items.");
    let before: Vec<bool> = items.iter().map(|item| item.right).collect();
    for arm in arms {
        let pooled: Vec<f64> = arm.after.iter().flatten().copied().collect();
        let firsts: Vec<bool> = arm.after.iter().flat_map(|_| before.iter().copied()).collect();
        let m = self_correction_intervals(&correction(&firsts, &pooled)?, bootstrap)?;
        let said: Vec<f64> = verdicts(arm).concat();
        let silent = arm.verdicts.iter().flatten().all(Option::is_none);
        table = table.row([
            Cell::Text(arm.name.clone()),
            Cell::Number(arm.cost.calls, 1),
            Cell::Number(arm.cost.tokens, 0),
            if silent { Cell::Missing } else { Cell::PercentInterval(bootstrap.mean(&said)?) },
            Cell::PercentInterval(m.acc2),
            Cell::Points(m.gain),
            share_cell(m.cl, false),
            share_cell(m.cl, true),
            share_cell(m.cs, false),
        ]);
    }
    Ok(table)
}

fn modes_table(found: &[PerModel], settings: &Settings, bootstrap: &Bootstrap) -> Result<Table, RecipeError> {
    let mut table = Table::new(
        "Modes and turns",
        [
            "mode",
            "turn",
            "calls",
            "tokens",
            "right before",
            "right after",
            "delta",
            "right broken",
            "wrong repaired",
        ],
    )
    .note(
        "Calls and tokens until the end of the turn. Each turn looks at the correction of the turn before.",
    );
    let modes: [(&str, fn(&PerModel) -> &[Outcome]); 2] =
        [("cross", PerModel::cross), ("self", PerModel::own)];
    for (name, of) in modes {
        let outcomes: Vec<&Outcome> = found.iter().flat_map(of).collect();
        let before: Vec<bool> = outcomes.iter().map(|o| o.before).collect();
        for turn in 1..=settings.turns {
            let after: Vec<f64> = outcomes.iter().map(|o| unit(o.after(turn))).collect();
            let m = self_correction_intervals(&correction(&before, &after)?, bootstrap)?;
            let cost = MeanCost::of(outcomes.iter().map(|o| o.spent(turn)));
            table = table.row([
                Cell::Text(name.into()),
                Cell::Count(turn as u64),
                Cell::Number(cost.calls, 1),
                Cell::Number(cost.tokens, 0),
                Cell::PercentInterval(m.acc1),
                Cell::PercentInterval(m.acc2),
                Cell::Points(m.gain),
                share_cell(m.cl, true),
                share_cell(m.cs, false),
            ]);
        }
    }
    Ok(table)
}

fn authors_table(items: &[Item], found: &[PerModel], bootstrap: &Bootstrap) -> Result<Table, RecipeError> {
    let mut by_author: BTreeMap<&str, Vec<[f64; 2]>> = BTreeMap::new();
    for model in found {
        for ((item, outcome), solved) in items.iter().zip(&model.cross).zip(&model.solved) {
            by_author.entry(&item.author).or_default().push([unit(outcome.after(1)), unit(solved.0)]);
        }
    }
    let mut table = Table::new(
        "By author of the recorded solution",
        ["author", "solutions", "right after", "solved from scratch"],
    );
    let mut means = [0.0; 2];
    for (author, rows) in &by_author {
        let column = |i: usize| bootstrap.mean(&rows.iter().map(|r| r[i]).collect::<Vec<_>>());
        let (after, solved) = (column(0)?, column(1)?);
        means[0] += after.value / by_author.len() as f64;
        means[1] += solved.value / by_author.len() as f64;
        table = table.row([
            Cell::Text((*author).to_string()),
            Cell::Count(rows.len() as u64),
            Cell::PercentInterval(after),
            Cell::PercentInterval(solved),
        ]);
    }
    Ok(table.row([
        Cell::Text("mean over authors".into()),
        Cell::Missing,
        Cell::Percent(means[0]),
        Cell::Percent(means[1]),
    ]))
}

fn turns_plot(found: &[PerModel], settings: &Settings) -> Plot {
    let line = |name: &str, of: fn(&PerModel) -> &[Outcome]| {
        let outcomes: Vec<&Outcome> = found.iter().flat_map(of).collect();
        let right = |turn: usize| {
            let after = |o: &&Outcome| unit(if turn == 0 { o.before } else { o.after(turn) });
            mean(&outcomes.iter().map(after).collect::<Vec<_>>())
        };
        Series::exact(name, (0..=settings.turns).map(|turn| (turn as f64, right(turn))))
    };
    Plot::new(
        "Right answers by turn",
        "Turn 0: the solution that is criticised.",
        Chart::Line {
            x: Axis::new("turn", Scale::Whole),
            y: Axis::new("right", Scale::Percent),
            series: vec![line("cross-critique", PerModel::cross), line("self-critique", PerModel::own)],
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use elenchus_task::arithmetic::{Arithmetic, ArithmeticSettings};

    #[test]
    fn a_share_has_as_many_right_as_wrong_solutions_even_when_problems_run_out() {
        let task = Arithmetic::new(ArithmeticSettings::default()).unwrap();
        let problems = task.problems(Split::Test, 9, 1).unwrap();
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut items = Vec::new();
        let material = problems.iter().zip(std::iter::repeat(()));
        fill(&mut items, &task, 8, "a", material, |problem, (), wanted| {
            let exercise = Exercise::from_problem(problem)?;
            Ok(match wanted {
                true => task.reference(problem),
                false => corrupt::corrupt(&exercise, &mut random).map(|slip| slip.compact(&exercise)),
            })
        })
        .unwrap();
        let right = |items: &[Item]| items.iter().filter(|item| item.right).count();
        assert_eq!((items.len(), right(&items)), (8, 4));
        for item in &items {
            assert_eq!(item.problem.data["solution"], item.solution.as_str(), "the strategy finds it there");
            assert_eq!(item.right, item.first_wrong.is_none());
        }
        // Three problems for a share of eight: one right and one wrong.
        let mut few = Vec::new();
        let material = problems[..3].iter().zip(std::iter::repeat(()));
        fill(&mut few, &task, 8, "b", material, |problem, (), wanted| {
            Ok(wanted.then(|| task.reference(problem)).flatten().or(Some("#1".into())))
        })
        .unwrap();
        assert_eq!((few.len(), right(&few)), (2, 1));
    }

    #[test]
    fn an_outcome_that_ended_early_keeps_its_last_state() {
        let outcome = Outcome {
            verdict: None,
            first_error: None,
            kept_steps: None,
            before: true,
            after: vec![false],
            spent: vec![Usage { calls: 1, ..Usage::default() }],
        };
        assert_eq!((outcome.after(1), outcome.after(3), outcome.spent(3).calls), (false, false, 1));
    }
}
