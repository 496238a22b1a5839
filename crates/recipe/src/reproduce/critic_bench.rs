//! Critique ability and self-check (arXiv 2310.04815): a balanced benchmark of right and convincingly wrong responses, the
//! critics on it by class, by generator and by certainty; then a vote that checks itself where it is uncertain, against a
//! vote that spends the critiques on samples.

use super::asked::{Asked, MeanCost, mean, unit};
use super::{Findings, Reproduce};
use crate::RecipeError;
use crate::lab::own_judge::OWN_JUDGE;
use crate::lab::small::SMALL;
use elenchus_control::{
    AttemptLog, ClosedLoopCritique, ClosedLoopCritiqueSettings, CritiqueOf, Draw, SelfConsistency,
    SelfConsistencySettings, Single, SingleSettings, checked_vote, majority,
};
use elenchus_evaluate::{CompactJudgment, Judgment, JudgmentSettings};
use elenchus_learn::rollouts::mix;
use elenchus_measure::{
    Bootstrap, Cell, CorrectionQuestion, Dialogue, Interval, Table, compare_over_seeds, error_reduction,
    self_correction_intervals, vote_certainty,
};
use elenchus_task::{Split, Task};
use elenchus_trace::{Outcome, Problem, Usage};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Settings of the experiment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Test questions.
    questions: usize,
    /// Validation questions on which the threshold is chosen.
    validation: usize,
    /// N: samples of a vote. Twice as many are drawn, so that a vote can spend the critiques on samples.
    samples: usize,
    /// Sampling temperature.
    temperature: f32,
    /// Judgments per item of the benchmark.
    votes: usize,
    /// Thresholds of certainty to choose among.
    thresholds: Vec<f64>,
    /// Model seed of the lab's checkpoints.
    seed: u64,
}

/// The models, smallest first, each after training to judge its own answers: those that are given, or the lab's small
/// one and the given one where there is one only.
fn critics<'a>(input: &Reproduce<'a>, seed: u64) -> Result<Vec<Asked<'a>>, RecipeError> {
    let mut bases: Vec<String> = input.models.to_vec();
    if bases.len() == 1 {
        let small = input.lab_model(SMALL, &bases[0], seed)?;
        bases.insert(0, small.folder.display().to_string());
    }
    let trained = |base: &String| {
        let folder = input.lab_model(OWN_JUDGE, base, seed)?.folder;
        Asked::new(input, &folder.display().to_string())
    };
    bases.iter().map(trained).collect()
}

/// One sample of a question.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Drawn {
    text: String,
    answer: Option<String>,
    right: bool,
    steps: usize,
    usage: Usage,
}

/// What a critic said of a sample or an item.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Said {
    /// Whether it is called right; `None` when nothing can be read.
    right: Option<bool>,
    usage: Usage,
}

/// The samples of one question, and what the critic says of the first N.
struct Question {
    drawn: Vec<Drawn>,
    said: Vec<Said>,
}

impl Question {
    fn answers(&self, samples: usize) -> Vec<Option<&str>> {
        self.drawn.iter().take(samples).map(|d| d.answer.as_deref()).collect()
    }

    fn certainty(&self, samples: usize) -> f64 {
        // Answers are in the task's normal form, so equal means the same text.
        let vote = majority(&self.answers(samples), |a, b| a == b);
        vote_certainty(&vote.counts).unwrap_or(0.0)
    }

    fn vote(&self, samples: usize) -> bool {
        let vote = majority(&self.answers(samples), |a, b| a == b);
        vote.sample().is_some_and(|sample| self.drawn[sample].right)
    }

    fn checked(&self, samples: usize, discarded: &[bool]) -> bool {
        let (vote, _) = checked_vote(&self.answers(samples), discarded, |a, b| a == b);
        vote.sample().is_some_and(|sample| self.drawn[sample].right)
    }

    /// The vote that checks itself below the threshold.
    fn self_check(&self, samples: usize, threshold: f64) -> bool {
        if self.certainty(samples) >= threshold {
            return self.vote(samples);
        }
        let discarded: Vec<bool> = self.said.iter().map(|said| said.right == Some(false)).collect();
        self.checked(samples, &discarded)
    }

    /// Critiques that the check of this question makes.
    fn critiques(&self, samples: usize, threshold: f64) -> usize {
        let checked = self.certainty(samples) < threshold;
        if checked { self.answers(samples).iter().flatten().count() } else { 0 }
    }

    fn spent(&self, samples: usize) -> Usage {
        self.drawn.iter().take(samples).map(|drawn| drawn.usage).sum()
    }
}

/// A response of the benchmark.
#[derive(Debug, Clone)]
struct Item {
    question: usize,
    generator: usize,
    right: bool,
    text: String,
    certainty: f64,
}

/// How the wrong response of a question is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wrong {
    /// Among those with the most frequent wrong answer, the one with the most steps.
    Convincing,
    /// Any.
    Uniform,
}

/// One right and one wrong response of a question, where there are both.
fn pair<'q>(question: &'q Question, wrong: Wrong, random: &mut ChaCha8Rng) -> Option<[&'q Drawn; 2]> {
    let most_steps = |of: &[&'q Drawn]| -> Option<&'q Drawn> {
        let most = of.iter().map(|drawn| drawn.steps).max()?;
        of.iter().find(|drawn| drawn.steps == most).copied()
    };
    let right: Vec<&Drawn> = question.drawn.iter().filter(|drawn| drawn.right).collect();
    let others: Vec<&Drawn> =
        question.drawn.iter().filter(|drawn| !drawn.right && drawn.answer.is_some()).collect();
    let chosen = match wrong {
        Wrong::Uniform if others.is_empty() => None,
        Wrong::Uniform => Some(others[random.random_range(0..others.len())]),
        Wrong::Convincing => {
            let answers: Vec<Option<&str>> = others.iter().map(|drawn| drawn.answer.as_deref()).collect();
            let vote = majority(&answers, |a, b| a == b);
            let same: Vec<&Drawn> = others
                .iter()
                .zip(&vote.groups.of)
                .filter(|(_, group)| **group == vote.winner)
                .map(|(drawn, _)| *drawn)
                .collect();
            most_steps(&same)
        }
    };
    Some([most_steps(&right)?, chosen?])
}

/// Everything measured on one model as critic and generator.
struct PerModel {
    validation: Vec<Question>,
    test: Vec<Question>,
    greedy: Vec<bool>,
}

fn collect(
    asked: &Asked<'_>,
    label: &str,
    settings: &Settings,
    task: &dyn Task,
    problems: &[Problem],
) -> Result<Vec<Question>, RecipeError> {
    let draw = Draw {
        temperature: Some(settings.temperature),
        top_p: Some(1.0),
        max_tokens: 160,
        seed: 5,
        ..Draw::default()
    };
    let samples = 2 * settings.samples;
    let vote = SelfConsistency::new(SelfConsistencySettings { samples, early_stop: false, draw })?;
    let drawn = asked.answers(&format!("{label}/samples"), &vote, task, problems, |problem, answer| {
        let mut drawn = Vec::with_capacity(samples);
        for (_, completion) in answer.trace.completions() {
            drawn.push(Drawn {
                answer: task.extract(problem, &completion.text),
                right: task.verify(problem, &completion.text)?.is_correct(),
                steps: task.steps(problem, &completion.text).len(),
                usage: completion.usage,
                text: completion.text.clone(),
            });
        }
        Ok(drawn)
    })?;
    let texts: Vec<(&Problem, &str)> = problems
        .iter()
        .zip(&drawn)
        .flat_map(|(problem, drawn)| {
            drawn.iter().take(settings.samples).map(move |d| (problem, d.text.as_str()))
        })
        .collect();
    let mut said =
        judge(asked, &format!("{label}/check"), task, &texts, 1, CompactJudgment::Judge)?.into_iter();
    Ok(drawn
        .into_iter()
        .map(|drawn| {
            let count = settings.samples.min(drawn.len());
            Question { said: said.by_ref().take(count).collect(), drawn }
        })
        .collect())
}

fn judge(
    asked: &Asked<'_>,
    label: &str,
    task: &dyn Task,
    texts: &[(&Problem, &str)],
    votes: usize,
    compact: CompactJudgment,
) -> Result<Vec<Said>, RecipeError> {
    let settings = JudgmentSettings { votes, compact, max_tokens: 160, ..Default::default() };
    let critic = Judgment::new(settings).map_err(|error| RecipeError::Control(error.into()))?;
    let found = asked.feedback(label, &critic, task, texts)?;
    Ok(found
        .into_iter()
        .map(|feedback| Said {
            right: feedback.verdict.map(|verdict| verdict.outcome != Outcome::Wrong),
            usage: feedback.usage,
        })
        .collect())
}

/// A benchmark with what each critic says of its items.
struct Bench {
    items: Vec<Item>,
    /// Per critic and item.
    said: Vec<Vec<Said>>,
}

impl Bench {
    fn build(found: &[PerModel], wrong: Wrong, seed: u64, samples: usize) -> Vec<Item> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut items = Vec::new();
        for (generator, model) in found.iter().enumerate() {
            for (index, question) in model.test.iter().enumerate() {
                let certainty = question.certainty(samples);
                for drawn in pair(question, wrong, &mut random).into_iter().flatten() {
                    let (right, text) = (drawn.right, drawn.text.clone());
                    items.push(Item { question: index, generator, right, text, certainty });
                }
            }
        }
        items
    }

    /// Whether a critic is right about each item; silence is not. With `generator`, about those of one model.
    fn correct(&self, critic: usize, generator: Option<usize>) -> Vec<(bool, &Item)> {
        let said = self.said[critic].iter().zip(&self.items);
        said.filter(|(_, item)| generator.is_none_or(|wanted| item.generator == wanted))
            .map(|(said, item)| (said.right == Some(item.right), item))
            .collect()
    }

    fn accuracy(&self, critic: usize, generator: Option<usize>) -> Vec<f64> {
        self.correct(critic, generator).into_iter().map(|(correct, _)| unit(correct)).collect()
    }
}

/// Runs the experiment.
pub(super) fn run(input: &Reproduce<'_>) -> Result<Findings, RecipeError> {
    let settings: Settings = input.settings()?;
    let task = elenchus_task::task("arithmetic", &serde_json::Value::Null)?;
    let task = task.as_ref();
    let test = task.problems(Split::Test, settings.questions, mix(input.seed, 1))?;
    let validation = task.problems(Split::Validation, settings.validation, mix(input.seed, 2))?;
    let critics = critics(input, settings.seed)?;
    let single = Single::new(SingleSettings { draw: Draw { max_tokens: 160, ..Draw::default() } })?;
    let mut found = Vec::new();
    for (m, asked) in critics.iter().enumerate() {
        found.push(PerModel {
            validation: collect(asked, &format!("{m}/validation"), &settings, task, &validation)?,
            test: collect(asked, &format!("{m}/test"), &settings, task, &test)?,
            greedy: asked.answers(&format!("{m}/greedy"), &single, task, &test, |problem, answer| {
                Ok(task.verify(problem, &answer.text)?.is_correct())
            })?,
        });
    }
    let bench = |name: &str, wrong: Wrong, compact: CompactJudgment| -> Result<Bench, RecipeError> {
        let items = Bench::build(&found, wrong, mix(input.seed, 3), settings.samples);
        let texts: Vec<(&Problem, &str)> =
            items.iter().map(|item| (&test[item.question], item.text.as_str())).collect();
        let said = critics
            .iter()
            .enumerate()
            .map(|(m, asked)| judge(asked, &format!("{m}/{name}"), task, &texts, settings.votes, compact))
            .collect::<Result<_, _>>()?;
        Ok(Bench { items, said })
    };
    let letter = bench("convincing, by letter", Wrong::Convincing, CompactJudgment::Judge)?;
    let steps = bench("convincing, by steps", Wrong::Convincing, CompactJudgment::Critique)?;
    let uniform = bench("any wrong, by letter", Wrong::Uniform, CompactJudgment::Judge)?;
    // What the critique of a response leads to, on each model's own items.
    let closed = ClosedLoopCritique::new(ClosedLoopCritiqueSettings {
        solution: CritiqueOf::Given,
        draw: Draw { max_tokens: 160, ..Draw::default() },
        ..Default::default()
    })?;
    let mut corrected = Vec::new();
    for (m, asked) in critics.iter().enumerate() {
        let problems: Vec<Problem> = letter
            .items
            .iter()
            .filter(|item| item.generator == m)
            .map(|item| {
                let mut problem = test[item.question].clone();
                if let Some(data) = problem.data.as_object_mut() {
                    data.insert("solution".into(), item.text.clone().into());
                }
                problem
            })
            .collect();
        corrected.push(asked.answers(
            &format!("{m}/correction"),
            &closed,
            task,
            &problems,
            |_, answer| {
                let log = AttemptLog::of(&answer.trace).unwrap_or_default();
                let dialogue = log.dialogue(task, &answer.trace)?;
                Ok(dialogue.unwrap_or(Dialogue { first: false, second: false }))
            },
        )?);
    }
    findings(input, &settings, &found, [&letter, &steps, &uniform], &corrected)
}

/// The threshold with the highest validation accuracy; the lowest, which checks least, on a tie.
fn choose(questions: &[Question], settings: &Settings) -> f64 {
    let mut best: Option<(f64, f64)> = None;
    for &threshold in &settings.thresholds {
        let right: Vec<f64> =
            questions.iter().map(|q| unit(q.self_check(settings.samples, threshold))).collect();
        if best.is_none_or(|(_, most)| mean(&right) > most + 1e-12) {
            best = Some((threshold, mean(&right)));
        }
    }
    best.map_or(1.0, |(threshold, _)| threshold)
}

fn findings(
    input: &Reproduce<'_>,
    settings: &Settings,
    found: &[PerModel],
    [letter, steps, uniform]: [&Bench; 3],
    corrected: &[Vec<Dialogue>],
) -> Result<Findings, RecipeError> {
    let bootstrap = Bootstrap::default().seed(mix(input.seed, 99));
    let mut findings = Findings::default();
    let n = settings.samples;
    let largest = found.len() - 1;
    // Difference of two shares over two sets of items, resampled together.
    let shares = |rows: &[[f64; 4]]| -> Result<Option<Interval>, RecipeError> {
        Ok(bootstrap.of_sums("critique accuracy", rows, |[a, na, b, nb]| {
            (na > 0.0 && nb > 0.0).then(|| a / na - b / nb)
        })?)
    };
    let mut claim = |id: &str, interval: Option<Interval>| {
        if let Some(interval) = interval {
            findings.estimates.insert(id.to_string(), interval);
        }
    };
    if found.len() > 1 {
        let rows: Vec<[f64; 4]> = letter
            .accuracy(largest, None)
            .into_iter()
            .zip(letter.accuracy(0, None))
            .map(|(large, small)| [large, 1.0, small, 1.0])
            .collect();
        claim("scale", shares(&rows)?);
        let own = letter.accuracy(largest, Some(largest)).into_iter().map(|a| [0.0, 0.0, a, 1.0]);
        let smaller = letter.accuracy(largest, Some(0)).into_iter().map(|a| [a, 1.0, 0.0, 0.0]);
        claim("own-is-hardest", shares(&own.chain(smaller).collect::<Vec<_>>())?);
    }
    let by_certainty = terciles(&letter.correct(largest, Some(largest)));
    let ends: Vec<[f64; 4]> = by_certainty
        .iter()
        .filter_map(|&(tercile, correct)| match tercile {
            2 => Some([correct, 1.0, 0.0, 0.0]),
            0 => Some([0.0, 0.0, correct, 1.0]),
            _ => None,
        })
        .collect();
    claim("certainty", shares(&ends)?);

    // The vote that checks itself.
    let thresholds: Vec<f64> = found.iter().map(|model| choose(&model.validation, settings)).collect();
    let each = |of: &dyn Fn(&Question, f64, usize) -> f64| -> Vec<Vec<f64>> {
        let rows = found.iter().zip(&thresholds);
        rows.map(|(model, &c)| {
            model.test.iter().enumerate().map(|(q, question)| of(question, c, q)).collect()
        })
        .collect()
    };
    let checked = each(&|q, c, _| unit(q.self_check(n, c)));
    let plain = each(&|q, _, _| unit(q.vote(n)));
    let equal = each(&|q, c, _| unit(q.vote(n + q.critiques(n, c))));
    let all = each(&|q, _, _| unit(q.self_check(n, f64::INFINITY)));
    let rate = {
        let said = found.iter().flat_map(|model| &model.test).flat_map(|question| &question.said);
        mean(&said.map(|said| unit(said.right == Some(false))).collect::<Vec<_>>())
    };
    let random = each(&|q, c, index| {
        if q.certainty(n) >= c {
            return unit(q.vote(n));
        }
        let mut random = ChaCha8Rng::seed_from_u64(mix(mix(input.seed, 4), index as u64));
        let discarded: Vec<bool> = (0..n).map(|_| random.random_bool(rate)).collect();
        unit(q.checked(n, &discarded))
    });
    let difference = |a: &[Vec<f64>], b: &[Vec<f64>]| -> Result<Option<Interval>, RecipeError> {
        Ok(Some(super::wider(&compare_over_seeds("a", a, "b", b, &bootstrap)?.difference)))
    };
    claim("not-below-equal-vote", difference(&checked, &equal)?);
    claim("over-random", difference(&checked, &random)?);
    claim("over-all", difference(&checked, &all)?);
    let gated: Vec<f64> = found
        .iter()
        .zip(&thresholds)
        .flat_map(|(model, &c)| model.test.iter().filter(move |q| q.certainty(n) < c).map(move |q| (q, c)))
        .map(|(q, c)| unit(q.self_check(n, c)) - unit(q.vote(n)))
        .collect();
    if !gated.is_empty() {
        claim("gated-over-vote", Some(bootstrap.mean(&gated)?));
    }
    let easier: Vec<[f64; 4]> = uniform
        .accuracy(largest, None)
        .into_iter()
        .map(|a| [a, 1.0, 0.0, 0.0])
        .chain(letter.accuracy(largest, None).into_iter().map(|a| [0.0, 0.0, a, 1.0]))
        .collect();
    claim("convincing-is-harder", shares(&easier)?);

    findings.tables.push(critics_table(found, letter, steps, uniform, &bootstrap)?);
    findings.tables.push(terciles_table(&by_certainty, &bootstrap)?);
    let methods = [
        ("vote", &plain, each_cost(found, &thresholds, |q, _| q.spent(n), 1)),
        (
            "vote that checks itself",
            &checked,
            each_cost(found, &thresholds, |q, c| q.spent(n) + checks(q, n, c), 1),
        ),
        (
            "vote with as many samples as samples and critiques",
            &equal,
            each_cost(found, &thresholds, |q, c| q.spent(n + q.critiques(n, c)), 1),
        ),
        ("random verdicts, same rate", &random, MeanCost::default()),
        (
            "checks every question",
            &all,
            each_cost(found, &thresholds, |q, _| q.spent(n) + checks(q, n, f64::INFINITY), 1),
        ),
    ];
    let mut table = Table::new("Self-check", ["method", "calls", "tokens", "accuracy", "error reduction"])
        .note("On test questions; the threshold is chosen on validation questions. Error reduction: against the vote.");
    let before = 1.0 - mean(&plain.concat());
    for (name, right, cost) in methods {
        let accuracy = bootstrap.mean(&right.concat())?;
        let reduction = error_reduction(before, 1.0 - accuracy.value);
        table = table.row([
            Cell::Text(name.into()),
            if cost.calls > 0.0 { Cell::Number(cost.calls, 1) } else { Cell::Missing },
            if cost.calls > 0.0 { Cell::Number(cost.tokens, 0) } else { Cell::Missing },
            Cell::PercentInterval(accuracy),
            reduction.map_or(Cell::Missing, Cell::Percent),
        ]);
    }
    findings.tables.push(table);
    findings.tables.push(abilities_table(found, steps, corrected, &bootstrap)?);
    let share = gated.len() as f64 / (found.len() * found[0].test.len()).max(1) as f64;
    findings.notes.push(format!(
        "{} model(s), {} items, half of them right by construction (chance 50 %); {} judgments per item at temperature 0.6. \
         Threshold C chosen on validation: {}; {:.1} % of the questions are checked.",
        found.len(),
        letter.items.len(),
        settings.votes,
        thresholds.iter().map(|c| format!("{c:.1}")).collect::<Vec<_>>().join(", "),
        100.0 * share
    ));
    findings.notes.push(
        "Models this small judge by one letter after training on own samples of training questions (checkpoint `own-judge`), \
         not by a prompt with examples; the steps are judged with what is left of the base model's skill. Model 1 is the \
         smallest. Queries are those with a right and a wrong sample among the draws. A judgment that cannot be read counts as \
         not right here; the paper counts it as `correct`. Not run: a third size, and programs."
            .into(),
    );
    Ok(findings)
}

/// What the critiques of a question cost, when it is checked.
fn checks(question: &Question, samples: usize, threshold: f64) -> Usage {
    if question.critiques(samples, threshold) == 0 {
        return Usage::default();
    }
    let answered = question.drawn.iter().zip(&question.said).filter(|(drawn, _)| drawn.answer.is_some());
    answered.map(|(_, said)| said.usage).sum()
}

/// Mean cost of a method; `requests` is the number of requests that draw its samples.
fn each_cost(
    found: &[PerModel],
    thresholds: &[f64],
    of: impl Fn(&Question, f64) -> Usage,
    requests: u64,
) -> MeanCost {
    let rows = found.iter().zip(thresholds);
    MeanCost::of(rows.flat_map(|(model, &c)| {
        model
            .test
            .iter()
            .map(|q| of(q, c))
            .map(|usage| Usage { calls: usage.calls.max(requests), ..usage })
            .collect::<Vec<_>>()
    }))
}

/// Tercile (0 least certain) and whether the critic was right, per item. Items of one certainty are in one tercile.
fn terciles(correct: &[(bool, &Item)]) -> Vec<(usize, f64)> {
    let mut sorted: Vec<f64> = correct.iter().map(|(_, item)| item.certainty).collect();
    sorted.sort_by(f64::total_cmp);
    let bound = |third: usize| sorted.get(sorted.len() * third / 3).copied().unwrap_or(f64::INFINITY);
    let (low, high) = (bound(1), bound(2));
    correct
        .iter()
        .map(|(correct, item)| {
            let tercile =
                usize::from(item.certainty >= low) + usize::from(item.certainty >= high && high > low);
            (tercile, unit(*correct))
        })
        .collect()
}

fn terciles_table(rows: &[(usize, f64)], bootstrap: &Bootstrap) -> Result<Table, RecipeError> {
    let mut table = Table::new(
        "By certainty of the vote on the question, own responses",
        ["certainty", "items", "right judgments"],
    );
    for (tercile, name) in ["lowest third", "middle third", "highest third"].into_iter().enumerate() {
        let correct: Vec<f64> = rows.iter().filter(|row| row.0 == tercile).map(|row| row.1).collect();
        let cell =
            if correct.is_empty() { Cell::Missing } else { Cell::PercentInterval(bootstrap.mean(&correct)?) };
        table = table.row([Cell::Text(name.into()), Cell::Count(correct.len() as u64), cell]);
    }
    Ok(table)
}

fn critics_table(
    found: &[PerModel],
    letter: &Bench,
    steps: &Bench,
    uniform: &Bench,
    bootstrap: &Bootstrap,
) -> Result<Table, RecipeError> {
    let mut table = Table::new(
        "Critics on the balanced benchmark",
        [
            "critic",
            "items",
            "responses of",
            "right judgments",
            "right recalled",
            "wrong recalled",
            "precision of wrong",
            "F1 of wrong",
            "unreadable",
        ],
    )
    .note("Chance is 50 %. 95 % bootstrap intervals over items.");
    for (name, bench) in
        [("by letter", letter), ("by steps", steps), ("by letter, any wrong response", uniform)]
    {
        for critic in 0..found.len() {
            for generator in 0..found.len() {
                let said: Vec<(Option<bool>, bool)> = bench.said[critic]
                    .iter()
                    .zip(&bench.items)
                    .filter(|(_, item)| item.generator == generator)
                    .map(|(said, item)| (said.right, item.right))
                    .collect();
                if said.is_empty() {
                    continue;
                }
                let count = |of: &dyn Fn(&(Option<bool>, bool)) -> bool| {
                    said.iter().filter(|row| of(row)).count() as f64
                };
                let ratio = |part: f64, whole: f64| {
                    if whole > 0.0 { Cell::Percent(part / whole) } else { Cell::Missing }
                };
                let hit = count(&|row| *row == (Some(false), false));
                let (called, wrong) = (count(&|row| row.0 == Some(false)), count(&|row| !row.1));
                let kept = count(&|row| *row == (Some(true), true));
                table = table.row([
                    Cell::Text(format!("model {}, {name}", critic + 1)),
                    Cell::Count(said.len() as u64),
                    Cell::Text(format!("model {}", generator + 1)),
                    Cell::PercentInterval(bootstrap.mean(&bench.accuracy(critic, Some(generator)))?),
                    ratio(kept, count(&|row| row.1)),
                    ratio(hit, wrong),
                    ratio(hit, called),
                    ratio(2.0 * hit, called + wrong),
                    Cell::Percent(count(&|row| row.0.is_none()) / said.len() as f64),
                ]);
            }
        }
    }
    Ok(table)
}

/// Generation, critique and correction of the same model, side by side.
fn abilities_table(
    found: &[PerModel],
    steps: &Bench,
    corrected: &[Vec<Dialogue>],
    bootstrap: &Bootstrap,
) -> Result<Table, RecipeError> {
    let mut table = Table::new(
        "Generation, critique and correction of the same model",
        [
            "model",
            "greedy answers right",
            "right judgments, by steps",
            "right after correction",
            "right kept",
            "wrong repaired",
        ],
    )
    .note("Critique and correction on the model's own responses of the benchmark, half of them right.");
    for (m, model) in found.iter().enumerate() {
        let greedy: Vec<f64> = model.greedy.iter().map(|&right| unit(right)).collect();
        let judged = steps.accuracy(m, Some(m));
        let questions = corrected[m]
            .iter()
            .map(|dialogue| Ok(CorrectionQuestion::from_dialogues(&[*dialogue])?))
            .collect::<Result<Vec<_>, RecipeError>>()?;
        if judged.is_empty() || questions.is_empty() {
            continue;
        }
        let correction = self_correction_intervals(&questions, bootstrap)?;
        let optional = |interval: Option<Interval>| interval.map_or(Cell::Missing, Cell::PercentInterval);
        table = table.row([
            Cell::Text(format!("model {}", m + 1)),
            Cell::PercentInterval(bootstrap.mean(&greedy)?),
            Cell::PercentInterval(bootstrap.mean(&judged)?),
            Cell::PercentInterval(correction.acc2),
            optional(correction.cl),
            optional(correction.cs),
        ]);
    }
    Ok(table)
}

#[cfg(test)]
#[path = "critic_bench_tests.rs"]
mod tests;
