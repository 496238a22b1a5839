//! Iterative agentic decoding (arXiv 2504.01931) on Countdown, whose verifier is graded and part of the problem: rounds in
//! view of the best and the worst candidate against best-of-n with as many candidates, the controls without and with
//! foreign feedback, and verifiers that are noisy or sparse.

use super::pool::{Arm, Asked, Drawing, Pool, Sample, Spent, arms_table, draw, fit, mean};
use super::resampling::{Resampling, smallest};
use super::{Findings, Reproduce};
use crate::{RecipeError, models};
use elenchus_control::{Standing, Takeover};
use elenchus_learn::objective::TrainingRow;
use elenchus_learn::policy::{Policy, text_row};
use elenchus_learn::rollouts::mix;
use elenchus_learn::trainer::TrainSettings;
use elenchus_measure::{Axis, Bootstrap, Cell, Chart, Interval, Plot, Scale, Section, Series, Table};
use elenchus_task::countdown::{Expression, given};
use elenchus_task::{Skill, Split, Task};
use elenchus_trace::Problem;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

/// Settings of the experiment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Test problems.
    questions: usize,
    /// Numbers of candidates a round K and of rounds T.
    shapes: Vec<[usize; 2]>,
    /// Which of them the verifier sweep uses.
    swept: [usize; 2],
    /// Standard deviations of Gaussian noise on the score.
    noise: Vec<f64>,
    /// Thresholds of sparse verifiers: 1 from here on, else 0.
    thresholds: Vec<f64>,
    /// Temperature of all candidates.
    temperature: f32,
    /// Temperature of the later rounds of the arm whose candidates differ by what they see and hardly by chance.
    low_temperature: f32,
    /// Training problems of the model that reads earlier responses.
    train_questions: usize,
    /// Own samples per training problem.
    train_samples: usize,
    /// Training of that model, which every arm uses.
    train: TrainSettings,
}

/// Tokens of one response at most.
const LENGTH: usize = 160;

/// What later rounds see.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Seen {
    BestAndWorst,
    Best,
    Nothing,
    /// Best and worst of another problem.
    Foreign,
}

/// How candidates are scored at run time.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Verifier {
    noise: f64,
    threshold: Option<f64>,
}

const EXACT: Verifier = Verifier { noise: 0.0, threshold: None };

/// The value of a response: 1 − |value − target| / target, at least 0, for an expression over exactly the given numbers;
/// 0 for anything else. 1 is a solution.
fn graded(task: &dyn Task, problem: &Problem, response: &str) -> f64 {
    let value = || {
        let (numbers, target) = given(problem).ok()?;
        let expression = Expression::parse(&task.extract(problem, response)?).ok()?;
        let (mut used, mut wanted) = (expression.numbers(), numbers);
        used.sort_unstable();
        wanted.sort_unstable();
        if used != wanted {
            return None;
        }
        let value = expression.value().ok()?;
        let off = (*value.numer() as f64 / *value.denom() as f64 - target as f64).abs();
        Some((1.0 - off / target.max(1) as f64).max(0.0))
    };
    value().unwrap_or(0.0)
}

impl Verifier {
    /// The score that the method sees. The noise of a candidate depends on its problem, place and seed alone, so that
    /// all arms have the same luck.
    fn score(self, value: f64, seed: u64, problem: usize, place: usize) -> f64 {
        let mut score = value;
        if self.noise > 0.0 {
            let mut random = ChaCha8Rng::seed_from_u64(mix(mix(seed, problem as u64), place as u64));
            let (a, b): (f64, f64) = (random.random(), random.random());
            // Box and Muller.
            score += self.noise * (-2.0 * (1.0 - a).ln()).sqrt() * (std::f64::consts::TAU * b).cos();
        }
        match self.threshold {
            Some(threshold) => f64::from(u8::from(score >= threshold)),
            None => score,
        }
    }
}

/// The compact prompt in view of earlier responses: the worse one first, as in the template `contrast`.
fn contrast_prompt(problem: &Problem, best: &str, worst: Option<&str>) -> String {
    match worst {
        Some(worst) => Skill::Aggregate.prompt(problem, &[worst, best]),
        None => Skill::Again.prompt(problem, &[best]),
    }
}

/// One way of spending K·T candidates.
#[derive(Debug, Clone, Copy)]
struct Plan {
    per_round: usize,
    rounds: usize,
    seen: Seen,
    takeover: Takeover,
    verifier: Verifier,
    /// Of the later rounds.
    temperature: f32,
}

/// What a plan came to, per problem.
#[derive(Default)]
struct Played {
    /// The graded value of what was selected, and what was spent.
    arm: Arm,
    /// Whether it is a solution.
    solved: Vec<f64>,
    /// The verifier's score of the incumbent after each candidate, 0 before there is one: its value where the verifier is
    /// exact.
    curves: Vec<Vec<f64>>,
    /// The verifier's score of what was selected.
    recorded: Vec<f64>,
}

struct Bench<'a> {
    input: &'a Reproduce<'a>,
    settings: &'a Settings,
    task: &'a dyn Task,
    problems: &'a [Problem],
    label: String,
}

impl Bench<'_> {
    /// Plays a plan on all problems. There is no early stop in any arm: each has K·T candidates of every problem.
    fn play(&self, policy: &mut dyn Policy, plan: Plan, what: &str) -> Result<Played, RecipeError> {
        let seed = self.input.seed;
        let count = self.problems.len();
        let mut standings = vec![Standing::default(); count];
        let mut drawn: Vec<Vec<Sample>> = vec![Vec::new(); count];
        let mut values: Vec<Vec<f64>> = vec![Vec::new(); count];
        let mut spent = vec![Spent::default(); count];
        for round in 0..plan.rounds {
            let prompt = |q: usize| -> String {
                let from = if plan.seen == Seen::Foreign { (q + 1) % count } else { q };
                let problem = &self.problems[q];
                let Some((best, _)) =
                    standings[from].best.filter(|_| round > 0 && plan.seen != Seen::Nothing)
                else {
                    return Skill::Solve.prompt(problem, &[]);
                };
                let text = |i: usize| drawn[from][i].text.as_str();
                let worst = standings[from].worst.filter(|(worst, _)| text(*worst) != text(best));
                let worst = worst.filter(|_| plan.seen != Seen::Best);
                contrast_prompt(problem, text(best), worst.map(|(worst, _)| text(worst)))
            };
            let asked: Vec<Asked<'_>> =
                (0..count).map(|q| Asked::new(&self.problems[q], prompt(q))).collect();
            let drawing = Drawing {
                samples: plan.per_round,
                temperature: if round == 0 { self.settings.temperature } else { plan.temperature },
                max_new_tokens: LENGTH,
                // The first round is the same in all arms of one shape.
                seed: mix(seed, 300 + round as u64),
            };
            // First rounds are drawn once; later ones belong to their plan.
            let label = match round {
                0 => format!("{}/first of {}", self.label, plan.per_round),
                _ => format!("{}/{what}/{round}", self.label),
            };
            let pools: Vec<Pool> = draw(self.input, policy, self.task, &asked, drawing, &label)?;
            for (q, pool) in pools.into_iter().enumerate() {
                spent[q] = spent[q] + pool.spent(plan.per_round);
                let fresh: Vec<f64> =
                    pool.samples.iter().map(|s| graded(self.task, &self.problems[q], &s.text)).collect();
                let score = |(i, &value): (usize, &f64)| {
                    Some(plan.verifier.score(value, mix(seed, 400), q, values[q].len() + i))
                };
                let scores: Vec<Option<f64>> = fresh.iter().enumerate().map(score).collect();
                let eligible: Vec<bool> = pool.samples.iter().map(|s| s.answer.is_some()).collect();
                standings[q].round(&scores, &eligible, plan.takeover);
                values[q].extend(fresh);
                drawn[q].extend(pool.samples);
            }
        }
        let mut played = Played::default();
        for q in 0..count {
            let best = standings[q].best;
            played.arm.push(best.map_or(0.0, |(best, _)| values[q][best]), spent[q]);
            played.solved.push(best.map_or(0.0, |(best, _)| super::pool::credit(drawn[q][best].correct)));
            played.recorded.push(best.map_or(0.0, |(_, score)| score));
            played.curves.push(curve(&standings[q]));
        }
        Ok(played)
    }
}

/// The incumbent's score after each candidate.
fn curve(standing: &Standing) -> Vec<f64> {
    standing.best_so_far.iter().map(|score| score.unwrap_or(0.0)).collect()
}

/// Training rows from own samples on training problems: the problem alone, in view of a best and a worst sample, and in
/// view of a best one; the target of the latter two is a sample that the verifier finds better than the best shown.
fn rows(
    input: &Reproduce<'_>,
    settings: &Settings,
    policy: &mut dyn Policy,
    task: &dyn Task,
    label: &str,
) -> Result<Vec<Vec<TrainingRow>>, RecipeError> {
    let problems = task.problems(Split::Train, settings.train_questions, mix(input.seed, 61))?;
    let asked: Vec<Asked<'_>> =
        problems.iter().map(|problem| Asked::new(problem, Skill::Solve.prompt(problem, &[]))).collect();
    let seed = mix(input.seed, 71);
    let drawing = Drawing { samples: settings.train_samples, temperature: 1.0, max_new_tokens: LENGTH, seed };
    let pools = draw(input, policy, task, &asked, drawing, &format!("{label}/train samples"))?;
    let mut rows = Vec::new();
    for (q, (problem, pool)) in problems.iter().zip(&pools).enumerate() {
        if let Some(reference) = task.reference(problem) {
            rows.push(vec![text_row(policy, &Skill::Solve.prompt(problem, &[]), &reference)?]);
        }
        if let Some([worst, best, better]) = revision(task, problem, pool, mix(input.seed, q as u64)) {
            let both = contrast_prompt(problem, best, Some(worst));
            rows.push(vec![text_row(policy, &both, better)?]);
            rows.push(vec![text_row(policy, &contrast_prompt(problem, best, None), better)?]);
        }
    }
    Ok(rows)
}

/// A worst, a best and a still better sample of one problem, where its samples have three different values: the better
/// one is the best of all, the other two are drawn among the rest.
fn revision<'p>(task: &dyn Task, problem: &Problem, pool: &'p Pool, seed: u64) -> Option<[&'p str; 3]> {
    let mut valued: Vec<(f64, &str)> =
        pool.samples.iter().map(|s| (graded(task, problem, &s.text), s.text.as_str())).collect();
    valued.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (top, better) = valued.pop()?;
    valued.retain(|(value, _)| *value < top);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let one = valued.get(random.random_range(0..valued.len().max(1)))?;
    let others: Vec<&(f64, &str)> = valued.iter().filter(|other| other.0 != one.0).collect();
    let other = others.get(random.random_range(0..others.len().max(1)))?;
    let (worst, best) = if one.0 < other.0 { (one, *other) } else { (*other, one) };
    Some([worst.1, best.1, better])
}

/// The arms at one shape.
const ARMS: [(&str, Seen, Takeover); 7] = [
    ("IAD", Seen::BestAndWorst, Takeover::Better),
    ("best only", Seen::Best, Takeover::Better),
    ("no feedback", Seen::Nothing, Takeover::Better),
    ("feedback of another problem", Seen::Foreign, Takeover::Better),
    ("no acceptance test", Seen::BestAndWorst, Takeover::Always),
    ("best-of-n", Seen::Nothing, Takeover::Better),
    ("low temperature after the first round", Seen::BestAndWorst, Takeover::Better),
];
const IAD: usize = 0;
const BEST_ONLY: usize = 1;
const NO_FEEDBACK: usize = 2;
const FOREIGN: usize = 3;
const NO_TEST: usize = 4;
const BEST_OF_N: usize = 5;
const LOW: usize = 6;

/// Best-of-n draws all candidates in one round.
fn plan(settings: &Settings, arm: usize, [per_round, rounds]: [usize; 2], verifier: Verifier) -> Plan {
    let (_, seen, takeover) = ARMS[arm];
    let (per_round, rounds) = if arm == BEST_OF_N { (per_round * rounds, 1) } else { (per_round, rounds) };
    let temperature = if arm == LOW { settings.low_temperature } else { settings.temperature };
    Plan { per_round, rounds, seen, takeover, verifier, temperature }
}

/// Gain of IAD on best-of-n per problem, by verifier.
struct Swept {
    verifier: Verifier,
    iad: Vec<f64>,
    best_of_n: Vec<f64>,
    /// What the verifier says of IAD's selection, minus its value.
    gap: Vec<f64>,
}

/// Runs the experiment.
pub(super) fn run(input: &Reproduce<'_>) -> Result<Findings, RecipeError> {
    let settings: Settings = input.settings()?;
    let task = elenchus_task::task("countdown", &serde_json::Value::Null)?;
    let problems = task.problems(Split::Test, settings.questions, mix(input.seed, 13))?;
    let verifiers: Vec<Verifier> = std::iter::once(EXACT)
        .chain(settings.noise.iter().map(|&noise| Verifier { noise, threshold: None }))
        .chain(settings.thresholds.iter().map(|&t| Verifier { noise: 0.0, threshold: Some(t) }))
        .collect();
    let mut found: Vec<Vec<Played>> =
        settings.shapes.iter().map(|_| ARMS.iter().map(|_| Played::default()).collect()).collect();
    let mut swept: Vec<Swept> = verifiers
        .iter()
        .map(|&verifier| Swept { verifier, iad: Vec::new(), best_of_n: Vec::new(), gap: Vec::new() })
        .collect();
    for (m, name) in input.models.iter().enumerate() {
        let mut start = models::load(name)?.policy();
        let rows = rows(input, &settings, &mut start, task.as_ref(), &format!("{m}"))?;
        let batch = settings.train.batch;
        let mut model = fit(input, &start, &settings.train, &format!("{m} revision"), || Ok((rows, batch)))?;
        let bench = Bench {
            input,
            settings: &settings,
            task: task.as_ref(),
            problems: &problems,
            label: format!("{m}"),
        };
        for (shape, into) in settings.shapes.iter().zip(&mut found) {
            for (arm, into) in into.iter_mut().enumerate() {
                let what = format!("{} {shape:?}", ARMS[arm].0);
                let played = bench.play(model.as_mut(), plan(&settings, arm, *shape, EXACT), &what)?;
                into.arm.right.extend(played.arm.right);
                into.arm.spent.extend(played.arm.spent);
                into.solved.extend(played.solved);
                into.recorded.extend(played.recorded);
                into.curves.extend(played.curves);
            }
        }
        for into in &mut swept {
            let what = format!("{:?}", into.verifier);
            let iad = bench.play(
                model.as_mut(),
                plan(&settings, IAD, settings.swept, into.verifier),
                &format!("iad {what}"),
            )?;
            let bon = plan(&settings, BEST_OF_N, settings.swept, into.verifier);
            let bon = bench.play(model.as_mut(), bon, &format!("bon {what}"))?;
            into.gap.extend(iad.recorded.iter().zip(&iad.arm.right).map(|(said, value)| said - value));
            into.iad.extend(iad.arm.right);
            into.best_of_n.extend(bon.arm.right);
        }
    }
    findings(input, &settings, &found, &swept)
}

/// What noise and sparsity do to the gain on best-of-n: from every verifier to the next worse one it must shrink, so the
/// smallest step is what counts.
fn sweep_claims(
    resampling: &Resampling,
    swept: &[Swept],
    findings: &mut Findings,
) -> Result<(), RecipeError> {
    let gain =
        |swept: &Swept| -> Vec<f64> { swept.iad.iter().zip(&swept.best_of_n).map(|(i, b)| i - b).collect() };
    let shrinks = |by: fn(&Verifier) -> Option<f64>| -> Result<Option<Interval>, RecipeError> {
        let mut line: Vec<(f64, &Swept)> =
            swept.iter().filter_map(|swept| Some((by(&swept.verifier)?, swept))).collect();
        line.sort_by(|a, b| a.0.total_cmp(&b.0));
        let steps = line.windows(2).map(|pair| resampling.paired(&gain(pair[0].1), &gain(pair[1].1)));
        Ok(smallest(steps.collect::<Result<Vec<_>, _>>()?))
    };
    let noise = shrinks(|verifier| verifier.threshold.is_none().then_some(verifier.noise))?;
    // The graded verifier is the least sparse.
    let sparse = shrinks(|verifier| (verifier.noise == 0.0).then_some(verifier.threshold.unwrap_or(0.0)))?;
    for (id, found) in [("noise", noise), ("sparsity", sparse)] {
        if let Some(interval) = found {
            findings.estimates.insert(id.into(), interval);
        }
    }
    let noisiest = swept.iter().max_by(|a, b| a.verifier.noise.total_cmp(&b.verifier.noise));
    if let Some(noisy) = noisiest.filter(|swept| swept.verifier.noise > 0.0) {
        let reversed = resampling.paired(&noisy.best_of_n, &noisy.iad)?;
        findings.estimates.insert("noise-reverses".into(), reversed);
    }
    Ok(())
}

fn findings(
    input: &Reproduce<'_>,
    settings: &Settings,
    found: &[Vec<Played>],
    swept: &[Swept],
) -> Result<Findings, RecipeError> {
    let resampling = Resampling::new(Bootstrap::default().seed(mix(input.seed, 99)), input.models.len());
    let mut findings = Findings::default();
    // Value per problem, averaged over the shapes of 6 to 12 candidates.
    let counted: Vec<usize> = (0..settings.shapes.len())
        .filter(|&s| (6..=12).contains(&(settings.shapes[s][0] * settings.shapes[s][1])))
        .collect();
    let over = |arm: usize, of: &dyn Fn(&Played) -> &[f64]| -> Vec<f64> {
        let rows: Vec<&[f64]> = counted.iter().map(|&s| of(&found[s][arm])).collect();
        let problems = rows.first().map_or(0, |row| row.len());
        (0..problems).map(|q| mean(&rows.iter().map(|row| row[q]).collect::<Vec<_>>())).collect()
    };
    let value = |arm| over(arm, &|played| &played.arm.right);
    let pair = |left: usize, right: usize| resampling.paired(&value(left), &value(right));
    if !counted.is_empty() {
        let estimates = &mut findings.estimates;
        estimates.insert("over-best-of-n".into(), pair(IAD, BEST_OF_N)?);
        let solved = |arm| over(arm, &|played| &played.solved);
        estimates
            .insert("solved-over-best-of-n".into(), resampling.paired(&solved(IAD), &solved(BEST_OF_N))?);
        let idle = pair(NO_FEEDBACK, BEST_OF_N)?;
        // Within 3 points on either side is what "as good as" means here.
        let apart = idle.low.abs().max(idle.high.abs());
        estimates.insert(
            "resampling-is-best-of-n".into(),
            Interval { value: 0.03 - idle.value.abs(), low: 0.03 - apart, high: 0.03 },
        );
        estimates.insert("foreign-feedback".into(), pair(BEST_OF_N, FOREIGN)?);
        estimates.insert("acceptance".into(), pair(IAD, NO_TEST)?);
        estimates.insert("contrast".into(), pair(IAD, BEST_ONLY)?);
        estimates.insert("over-no-feedback".into(), pair(IAD, NO_FEEDBACK)?);
        estimates.insert("low-temperature".into(), pair(LOW, BEST_OF_N)?);
    }
    sweep_claims(&resampling, swept, &mut findings)?;
    for (shape, played) in settings.shapes.iter().zip(found) {
        let [k, t] = shape;
        let arms: Vec<(String, &Arm)> =
            ARMS.iter().zip(played).map(|((name, ..), played)| ((*name).to_string(), &played.arm)).collect();
        let title = format!("K = {k}, T = {t}: {} candidates", k * t);
        let note = "Value of the selected candidate, 1 a solution; per problem. No arm stops early. Without the acceptance test the \
                    answer is the best of the last round's K candidates, in the other arms of all K·T.";
        let mut table = arms_table(&title, note, "value", &resampling, &arms)?;
        table.columns.push("solved".into());
        for (row, played) in table.rows.iter_mut().zip(played) {
            row.push(Cell::PercentInterval(resampling.mean(&played.solved)?));
        }
        findings.tables.push(table);
    }
    let mut verifiers = Table::new(
        "Verifiers",
        ["verifier", "IAD", "best-of-n", "gain, points", "score above the value"],
    )
    .note(format!(
        "K = {}, T = {}. The last column: what the verifier says of IAD's selection minus its true value.",
        settings.swept[0], settings.swept[1]
    ));
    for one in swept {
        let name = match one.verifier {
            Verifier { noise: 0.0, threshold: None } => "exact and graded".to_string(),
            Verifier { noise, threshold: None } => format!("noise of {noise}"),
            Verifier { threshold: Some(threshold), .. } => format!("1 from {threshold} on, else 0"),
        };
        verifiers = verifiers.row([
            Cell::Text(name),
            Cell::PercentInterval(resampling.mean(&one.iad)?),
            Cell::PercentInterval(resampling.mean(&one.best_of_n)?),
            Cell::Points(resampling.paired(&one.iad, &one.best_of_n)?),
            Cell::Number(mean(&one.gap), 3),
        ]);
    }
    findings.tables.push(verifiers);
    if let (Some(shape), Some(played)) = (settings.shapes.last(), found.last()) {
        let series = ARMS
            .iter()
            .zip(played)
            .map(|((name, ..), played)| {
                let after = |used: usize| {
                    mean(&played.curves.iter().map(|curve| curve[used - 1]).collect::<Vec<_>>())
                };
                Series::exact(*name, (1..=shape[0] * shape[1]).map(|used| (used as f64, after(used))))
            })
            .collect();
        findings.sections.push(Section::plots(
            "Value of the incumbent by candidates used",
            vec![Plot::new(
                "Value of the incumbent by candidates used",
                "Mean over problems and models, after each candidate; the verifier is exact. It can fall where nothing is tested.",
                Chart::Line {
                    x: Axis::new("candidates", Scale::Number),
                    y: Axis::new("value", Scale::Percent),
                    series,
                },
            )],
        ));
    }
    findings.notes.push(
        "All arms run on one model: the given one, trained further on problems and, from its own samples on training \
         problems, on better samples in view of a worst and a best one and of a best one alone."
            .into(),
    );
    findings.notes.push(
        "The verifier of Countdown needs no hidden answer: numbers and target are in the problem. So it may be used at \
         run time; with the exact verifier, best-of-n is the best of its candidates. Programs with public and hidden \
         tests, text-to-SQL and agents were not looked at."
            .into(),
    );
    Ok(findings)
}

#[cfg(test)]
#[path = "iad_tests.rs"]
mod tests;
