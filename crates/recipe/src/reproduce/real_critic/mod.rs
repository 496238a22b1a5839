//! RealCritic (arXiv 2501.14492): a critique is judged by the correction it leads to. Cross-critique of recorded
//! solutions of which half are right, self-critique, iterative critique; against critics that know nothing, against
//! solving from scratch, and against a vote from scratch at the critic's own tokens.

mod tables;

use super::asked::{Asked, MeanCost, mean, unit};
use super::resampling::{Resampling, smallest};
use super::{Findings, Reproduce};
use crate::RecipeError;
use elenchus_control::{
    AttemptLog, ClosedLoopCritique, ClosedLoopCritiqueSettings, CritiqueOf, CritiqueTurn, Draw,
    SelfConsistency, SelfConsistencySettings, Single, SingleSettings,
};
use elenchus_evaluate::{Judge, JudgeSettings};
use elenchus_learn::rollouts::mix;
use elenchus_measure::{Bootstrap, Interval, Section};
use elenchus_task::arithmetic::{Exercise, corrupt};
use elenchus_task::{Split, Task};
use elenchus_trace::{Answer, Problem, Usage};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

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
    /// Validation questions on which the temperature of the vote from scratch is chosen.
    validation: usize,
    /// Temperatures to choose among.
    vote_temperatures: Vec<f32>,
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
    /// Whether the first critique led to nothing that can be judged: it cannot be read, or its correction has no answer.
    unreadable: bool,
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
        unreadable: first.as_ref().is_none_or(|turn| turn.unreadable),
        before: right.first().copied().unwrap_or(false),
        after: right.get(1..).unwrap_or_default().to_vec(),
        spent: (1..=turns).map(|turn| log.spent_until(turn)).collect(),
    })
}

/// A critic on the recorded solutions: verdict and result per item, model behind model, one turn.
struct Arm {
    name: String,
    verdicts: Vec<Option<bool>>,
    after: Vec<f64>,
    cost: MeanCost,
}

/// Whether each verdict of an arm is right; none is not.
fn right_verdicts(arm: &Arm, items: &[Item]) -> Vec<f64> {
    arm.verdicts
        .iter()
        .zip(items.iter().cycle())
        .map(|(said, item)| unit(*said == Some(item.right)))
        .collect()
}

/// The smallest rise, from one turn to the next, of the share of right solutions that are broken: it does not fall when
/// even this is none. `None` with one turn, or without right solutions.
fn smallest_rise(
    resampling: &Resampling,
    outcomes: &[&Outcome],
    turns: usize,
) -> Result<Option<Interval>, RecipeError> {
    let rise = |turn: usize| {
        let rows: Vec<[f64; 2]> = outcomes
            .iter()
            .map(|o| {
                let broken = |turn| unit(o.before && !o.after(turn));
                [broken(turn + 1) - broken(turn), unit(o.before)]
            })
            .collect();
        resampling.sums("broken", &rows, |[more, right]| (right > 0.0).then(|| more / right))
    };
    let rises = (1..turns).map(rise).collect::<Result<Vec<_>, _>>()?;
    Ok(smallest(rises.into_iter().flatten()))
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
    /// Its temperature, chosen on validation questions.
    vote_temperature: f32,
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
    let validation = task.problems(Split::Validation, settings.validation, mix(input.seed, 4))?;
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
        let vote = |what: &str, temperature: f32, problems: &[Problem]| {
            let draw = Draw { temperature: Some(temperature), top_p: Some(1.0), ..draw.clone() };
            let vote =
                SelfConsistency::new(SelfConsistencySettings { samples: votes, early_stop: false, draw })?;
            asked.answers(&label(what), &vote, task, problems, |problem, answer| {
                Ok((task.verify(problem, &answer.text)?.is_correct(), answer.usage))
            })
        };
        // The temperature with most right votes on validation questions; the lowest on a tie.
        let mut best: Option<(f32, f64)> = None;
        for &temperature in &settings.vote_temperatures {
            let right = vote(&format!("vote on validation/{temperature}"), temperature, &validation)?;
            let right = mean(&right.iter().map(|row| unit(row.0)).collect::<Vec<_>>());
            if best.is_none_or(|(_, most)| right > most + 1e-12) {
                best = Some((temperature, right));
            }
        }
        let Some((vote_temperature, _)) = best else {
            return Err(input.refuse("[reproduce]: `vote_temperatures` is empty"));
        };
        let voted = vote("vote from scratch", vote_temperature, &problems)?;
        let solutions: Vec<(&Problem, &str)> =
            items.iter().map(|item| (&item.problem, item.solution.as_str())).collect();
        let judged = asked.feedback(&label("judge"), &judge, task, &solutions)?;
        let judged = judged.into_iter().map(|feedback| (feedback.probability, feedback.usage)).collect();
        found.push(PerModel { cross, own, solved, voted, votes, vote_temperature, judged });
    }
    findings(input.seed, &settings, &items, &found)
}

/// The critics that are compared, as they did on every recorded solution.
fn arms(seed: u64, items: &[Item], found: &[PerModel]) -> Vec<Arm> {
    let arm = |name: &str, of: &dyn Fn(&PerModel, usize) -> (Option<bool>, bool, Usage)| {
        let mut arm =
            Arm { name: name.into(), verdicts: Vec::new(), after: Vec::new(), cost: MeanCost::default() };
        let mut spent = Vec::new();
        for model in found {
            let rows: Vec<(Option<bool>, bool, Usage)> = (0..items.len()).map(|i| of(model, i)).collect();
            arm.verdicts.extend(rows.iter().map(|row| row.0));
            arm.after.extend(rows.iter().map(|row| unit(row.1)));
            spent.extend(rows.iter().map(|row| row.2));
        }
        arm.cost = MeanCost::of(spent);
        arm
    };
    let nothing = Usage::default();
    let coins: Vec<bool> = {
        let mut random = ChaCha8Rng::seed_from_u64(mix(seed, 3));
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
    seed: u64,
    settings: &Settings,
    items: &[Item],
    found: &[PerModel],
) -> Result<Findings, RecipeError> {
    let bootstrap = Bootstrap::default().seed(mix(seed, 99));
    let resampling = Resampling::new(bootstrap, found.len());
    let mut findings = Findings::default();
    let arms = arms(seed, items, found);
    let [critic, parrot, random, solve, vote, judge, truth] = arms.as_slice() else { return Ok(findings) };
    let difference = |a: &[f64], b: &[f64]| resampling.paired(a, b);
    let verdicts = |arm: &Arm| right_verdicts(arm, items);
    let mut claim = |id: &str, interval: Interval| findings.estimates.insert(id.to_string(), interval);
    claim("over-solve", difference(&critic.after, &solve.after)?);
    claim("over-parrot", difference(&critic.after, &parrot.after)?);
    claim("over-random", difference(&critic.after, &random.after)?);
    claim("over-vote", difference(&critic.after, &vote.after)?);
    // A critic with better verdicts and worse corrections: what is right about a verdict is not what it leads to.
    claim("verdict-of-judge", difference(&verdicts(judge), &verdicts(critic))?);
    claim("correction-over-judge", difference(&critic.after, &judge.after)?);
    claim("verdict-of-truth", difference(&verdicts(truth), &verdicts(critic))?);
    // Per problem: what criticising a recorded solution gained, less what criticising the own one gained.
    let gain = |outcomes: &[Outcome]| -> Vec<f64> {
        outcomes.iter().map(|o| unit(o.after(1)) - unit(o.before)).collect()
    };
    let cross: Vec<f64> = found.iter().flat_map(|m| gain(&m.cross)).collect();
    let own: Vec<f64> = found.iter().flat_map(|m| gain(&m.own)).collect();
    claim("cross-over-self", difference(&cross, &own)?);
    claim("self-loses", difference(&vec![0.0; own.len()], &own)?);
    let crossed: Vec<&Outcome> = found.iter().flat_map(|m| &m.cross).collect();
    if let Some(interval) = smallest_rise(&resampling, &crossed, settings.turns)? {
        claim("turns-break", interval);
    }

    findings.tables.push(tables::critics(items, &arms, &resampling)?);
    findings.tables.push(tables::modes(found, settings, &resampling)?);
    findings.tables.push(tables::authors(items, found, &resampling)?);
    findings.sections.push(Section::plots("Turns", vec![tables::turns(found, settings)]));
    let share = |of: &[bool]| 100.0 * mean(&of.iter().map(|&b| unit(b)).collect::<Vec<_>>());
    let places: Vec<bool> = found
        .iter()
        .flat_map(|m| m.cross.iter().zip(items))
        .filter(|(_, item)| !item.right)
        .map(|(outcome, item)| outcome.first_error.is_some() && outcome.first_error == item.first_wrong)
        .collect();
    let kept: Vec<bool> = crossed.iter().filter_map(|o| o.kept_steps).collect();
    let unreadable = crossed.iter().filter(|o| o.unreadable).count();
    let silent = crossed.iter().filter(|o| o.unreadable && o.verdict.is_none()).count();
    findings.notes.push(format!(
        "{} recorded solutions, half of them right, of {} author(s); {} model(s). First wrong step named exactly in {:.1} % \
         of the wrong ones; the steps before it kept as they were in {:.1} % of the corrections. {} first critiques led to \
         nothing that can be judged and count as wrong: {} could not be read, {} have a correction without an answer.",
        items.len(),
        items.iter().map(|i| i.author.as_str()).collect::<std::collections::BTreeSet<_>>().len(),
        found.len(),
        share(&places),
        share(&kept),
        unreadable,
        silent,
        unreadable - silent,
    ));
    findings.notes.push(format!(
        "The vote from scratch takes {} samples, so that it spends at least the critic's tokens, at temperature {}, chosen on \
         {} validation questions.",
        found.iter().map(|m| m.votes.to_string()).collect::<Vec<_>>().join(", "),
        found.iter().map(|m| format!("{:.1}", m.vote_temperature)).collect::<Vec<_>>().join(", "),
        settings.validation
    ));
    Ok(findings)
}

#[cfg(test)]
mod tests;
