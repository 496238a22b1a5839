//! RPC (arXiv 2502.00511): a vote by the probabilities of distinct responses, improbable ones dropped, against
//! self-consistency and the likeliest response, all on the same samples, so the budget is equal by construction.

use super::pool::{Asked, Drawing, Pool, draw, mean, subset};
use super::resampling::Resampling;
use super::{Findings, Reproduce};
use crate::{RecipeError, models};
use elenchus_control::{Ballot, PathRule, PathWeight, Rule, path_weights};
use elenchus_learn::rollouts::mix;
use elenchus_measure::{
    Axis, Bootstrap, Cell, Chart, Interval, Judgement, Judgements, Plot, Scale, Section, Series, Table,
    auroc, student_interval,
};
use elenchus_task::{Skill, Split};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

/// Settings of the experiment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Test questions.
    questions: usize,
    /// Samples per question and temperature.
    samples: usize,
    /// Numbers of samples K at which methods are compared; subsets of the samples.
    sizes: Vec<usize>,
    /// Sub-sampling seeds per question and size.
    draws: usize,
    /// Sampling temperature of the comparison.
    temperature: f32,
    /// Temperatures of the sweep.
    temperatures: Vec<f32>,
    /// Trials of the simulation that checks the theory.
    trials: usize,
}

/// Numbers of samples of which the paper says that its gain is largest.
const SMALL: std::ops::RangeInclusive<usize> = 4..=16;
/// Numbers of samples of the pooled comparison.
const POOLED: std::ops::RangeInclusive<usize> = 8..=64;
/// Bins of the expected calibration error.
const BINS: usize = 10;

const PC: PathRule = PathRule { prune: false, weight: PathWeight::Probability, duplicates: false };
const RPC: PathRule = PathRule { prune: true, ..PC };

/// How one answer is chosen among samples.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Method {
    /// The first answer: one sample, for reference.
    First,
    /// Self-consistency.
    Vote,
    /// The single likeliest response.
    Perplexity,
    /// Path probabilities from the mean log-probability.
    Path(PathRule),
    /// The same from the summed one.
    Summed,
}

const METHODS: [(&str, Method); 8] = [
    ("first answer", Method::First),
    ("self-consistency", Method::Vote),
    ("likeliest response (PPL)", Method::Perplexity),
    ("RPC", Method::Path(RPC)),
    ("without pruning (PC)", Method::Path(PC)),
    (
        "pruning and self-consistency",
        Method::Path(PathRule { weight: PathWeight::One, duplicates: true, ..RPC }),
    ),
    ("RPC, duplicates counted", Method::Path(PathRule { duplicates: true, ..RPC })),
    ("RPC, summed log-probability", Method::Summed),
];

/// How a choice on one subset went.
#[derive(Debug, Clone, Copy, Default)]
struct Outcome {
    /// Share of the answers that tie for the largest weight that are right.
    credit: f64,
    /// Share of the winner in the weight of all answers. PPL weighs single responses and no answers: exp of the likeliest
    /// one's mean log-probability, which is not divided by anything.
    confidence: f64,
    /// Whether the winner itself is right.
    right: bool,
}

impl Method {
    /// The logarithm of the probability that a response counts with.
    fn log_probability(self, sample: &super::pool::Sample) -> f64 {
        if self == Method::Summed { sample.sum_logprob } else { sample.mean_logprob() }
    }

    fn choose(self, pool: &Pool, chosen: &[usize]) -> Outcome {
        let samples: Vec<_> = chosen.iter().map(|&i| &pool.samples[i]).collect();
        let answers: Vec<Option<&str>> = samples.iter().map(|s| s.answer.as_deref()).collect();
        let paths: Vec<&str> = samples.iter().map(|s| s.text.as_str()).collect();
        let scores: Vec<Option<f64>> = samples.iter().map(|s| Some(self.log_probability(s))).collect();
        let rule = match self {
            Method::First => Rule::First,
            Method::Vote => Rule::Majority,
            Method::Perplexity => Rule::Argmax { allow_unanswered: false },
            Method::Path(rule) => Rule::Path(rule),
            Method::Summed => Rule::Path(RPC),
        };
        // Every method has the same equivalence: answers are in the task's normal form. No choice is a wrong one.
        let ballot = Ballot { answers: &answers, scores: &scores, paths: &paths };
        let Ok(choice) = ballot.choose(rule, |a, b| a == b) else { return Outcome::default() };
        let right = samples[choice.sample].correct;
        let tied: Vec<f64> = choice.tied.iter().map(|&s| super::pool::credit(samples[s].correct)).collect();
        let votes: f64 = choice.votes.iter().map(|vote| vote.weight).sum();
        let confidence = match (choice.votes.first(), self) {
            // Weights are divided by their sum over the answers, for every method that weighs answers.
            (Some(winner), _) if votes > 0.0 => (winner.weight / votes).min(1.0),
            (_, Method::Perplexity) => samples[choice.sample].mean_logprob().exp().min(1.0),
            _ => 0.0,
        };
        let credit = if tied.is_empty() { super::pool::credit(right) } else { mean(&tied) };
        Outcome { credit, confidence, right }
    }
}

/// Outcomes of one method at one size: `[question][draw]`, over all models one after another.
type Outcomes = Vec<Vec<Outcome>>;

fn outcomes(models: &[Vec<Pool>], method: Method, size: usize, draws: usize, seed: u64) -> Outcomes {
    let mut all = Vec::new();
    for pools in models {
        for (question, pool) in pools.iter().enumerate() {
            let count = pool.samples.len();
            let draws = if size >= count { 1 } else { draws };
            let one = |d| method.choose(pool, &subset(seed, question, size, d, count));
            all.push((0..draws).map(one).collect());
        }
    }
    all
}

fn credits(outcomes: &Outcomes) -> Vec<f64> {
    outcomes.iter().map(|draws| mean(&draws.iter().map(|o| o.credit).collect::<Vec<_>>())).collect()
}

/// The difference of two expected calibration errors (equal-width bins, closed on the right), left minus right, with its
/// interval over questions. The error is a sum over bins of |Σ confidence − Σ right| / n, so sums per question suffice.
fn calibration_gain(
    resampling: &Resampling,
    left: &Outcomes,
    right: &Outcomes,
) -> Result<Option<Interval>, RecipeError> {
    let rows: Vec<[f64; 2 * BINS + 1]> = left
        .iter()
        .zip(right)
        .map(|(left, right)| {
            let mut row = [0.0; 2 * BINS + 1];
            row[2 * BINS] = 1.0;
            for (side, outcomes) in [left, right].into_iter().enumerate() {
                for outcome in outcomes {
                    let bin = ((outcome.confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
                    let gap = outcome.confidence - super::pool::credit(outcome.right);
                    row[side * BINS + bin] += gap / outcomes.len() as f64;
                }
            }
            row
        })
        .collect();
    let error = |sums: &[f64; 2 * BINS + 1], side: usize| {
        sums[side * BINS..(side + 1) * BINS].iter().map(|gap| gap.abs()).sum::<f64>() / sums[2 * BINS]
    };
    resampling.sums("calibration gain", &rows, |sums| Some(error(&sums, 0) - error(&sums, 1)))
}

/// Runs the experiment.
pub(super) fn run(input: &Reproduce<'_>) -> Result<Findings, RecipeError> {
    let settings: Settings = input.settings()?;
    let task = elenchus_task::task("arithmetic", &serde_json::Value::Null)?;
    let problems = task.problems(Split::Test, settings.questions, mix(input.seed, 12))?;
    let asked: Vec<Asked<'_>> =
        problems.iter().map(|problem| Asked::new(problem, Skill::Solve.prompt(problem, &[]))).collect();
    let mut temperatures = settings.temperatures.clone();
    if !temperatures.contains(&settings.temperature) {
        temperatures.push(settings.temperature);
    }
    temperatures.sort_by(f32::total_cmp);
    let mut found: Vec<(f32, Vec<Vec<Pool>>)> = temperatures.iter().map(|&t| (t, Vec::new())).collect();
    for (m, name) in input.models.iter().enumerate() {
        let mut policy = models::load(name)?.policy();
        for (temperature, pools) in &mut found {
            let drawing = Drawing {
                samples: settings.samples,
                temperature: *temperature,
                max_new_tokens: 160,
                seed: mix(input.seed, 22),
            };
            let label = format!("temperature {temperature}/{m}");
            pools.push(draw(input, &mut policy, task.as_ref(), &asked, drawing, &label)?);
        }
    }
    findings(input, &settings, &found)
}

fn findings(
    input: &Reproduce<'_>,
    settings: &Settings,
    found: &[(f32, Vec<Vec<Pool>>)],
) -> Result<Findings, RecipeError> {
    let seed = mix(input.seed, 99);
    let resampling = Resampling::new(Bootstrap::default().seed(seed), input.models.len());
    let mut findings = Findings::default();
    let Some((_, main)) = found.iter().find(|(t, _)| *t == settings.temperature) else { return Ok(findings) };
    input.session.observer.phase(0, "votes", METHODS.len() * settings.sizes.len());
    let mut table: Vec<Vec<Outcomes>> = Vec::new();
    for (_, method) in METHODS {
        let mut row = Vec::new();
        for &size in &settings.sizes {
            row.push(outcomes(main, method, size, settings.draws, seed));
            input.session.observer.advance(1, 0, false);
        }
        table.push(row);
    }
    let place = |wanted: Method| METHODS.iter().position(|(_, method)| *method == wanted).unwrap_or(0);
    // Credit per question, averaged over the sizes in a range.
    let over = |method: Method, range: &std::ops::RangeInclusive<usize>| -> Vec<f64> {
        let rows: Vec<Vec<f64>> = settings
            .sizes
            .iter()
            .zip(&table[place(method)])
            .filter(|(size, _)| range.contains(size))
            .map(|(_, outcomes)| credits(outcomes))
            .collect();
        let questions = rows.first().map_or(0, Vec::len);
        (0..questions).map(|q| mean(&rows.iter().map(|row| row[q]).collect::<Vec<_>>())).collect()
    };
    let rpc = Method::Path(RPC);
    let mut claim = |id: &str, left: Method, right: Method, range| -> Result<(), RecipeError> {
        let interval = resampling.paired(&over(left, range), &over(right, range))?;
        findings.estimates.insert(id.into(), interval);
        Ok(())
    };
    claim("rpc-over-vote", rpc, Method::Vote, &POOLED)?;
    claim("small-samples", rpc, Method::Vote, &SMALL)?;
    claim("rpc-over-perplexity", rpc, Method::Perplexity, &POOLED)?;
    claim("pc-over-vote", Method::Path(PC), Method::Vote, &POOLED)?;
    claim("pruning-helps-pc", rpc, Method::Path(PC), &POOLED)?;
    claim("pruning-helps-vote", METHODS[5].1, Method::Vote, &POOLED)?;
    claim("mean-over-sum", rpc, Method::Summed, &POOLED)?;
    claim("distinct-over-duplicates", rpc, METHODS[6].1, &POOLED)?;

    // Calibration over all sizes of the pooled range together.
    let joined = |method: Method| -> Outcomes {
        let rows = settings.sizes.iter().zip(&table[place(method)]).filter(|(size, _)| POOLED.contains(size));
        let mut all: Outcomes = Vec::new();
        for (_, outcomes) in rows {
            all.resize(outcomes.len(), Vec::new());
            for (into, from) in all.iter_mut().zip(outcomes) {
                // A size with one draw weighs as much as one with several.
                let times = if from.len() == 1 { settings.draws } else { 1 };
                (0..times).for_each(|_| into.extend_from_slice(from));
            }
        }
        all
    };
    if let Some(gain) = calibration_gain(&resampling, &joined(Method::Vote), &joined(rpc))? {
        findings.estimates.insert("calibration".into(), gain);
    }

    // Samples to match the vote over all samples, per sub-sampling seed.
    let goal = mean(&credits(&outcomes(main, Method::Vote, settings.samples, 1, seed)));
    let needed: Vec<f64> = (0..settings.draws)
        .map(|d| {
            let reaches = |outcomes: &Outcomes| {
                mean(&outcomes.iter().map(|draws| draws[d.min(draws.len() - 1)].credit).collect::<Vec<_>>())
                    >= goal
            };
            let mut sizes = settings.sizes.iter().zip(&table[place(rpc)]);
            // A size that was not reached counts as twice the most that was looked at.
            sizes.find(|(_, outcomes)| reaches(outcomes)).map_or(2 * settings.samples, |(&size, _)| size)
                as f64
        })
        .collect();
    if needed.len() > 1 {
        let needed = student_interval(&needed, 0.95)?;
        let spare = Interval { value: 48.0 - needed.value, low: 48.0 - needed.high, high: 48.0 - needed.low };
        findings.estimates.insert("samples-to-match".into(), spare);
        findings.notes.push(format!(
            "Samples that RPC needs to reach the vote over {}: {:.1} on average over {} sub-sampling seeds.",
            settings.samples, needed.value, settings.draws
        ));
    }
    theory(&mut findings, settings.trials, mix(input.seed, 5));

    let mut accuracy = Table::new(
        "Accuracy by number of samples",
        std::iter::once("method".to_string()).chain(settings.sizes.iter().map(|n| format!("K = {n}"))),
    )
    .note("All methods choose among the same samples; 95 % intervals over questions and seeds; ties share credit.");
    let mut series = Vec::new();
    for ((name, method), row) in METHODS.iter().zip(&table) {
        let intervals =
            row.iter().map(|o| resampling.mean(&credits(o))).collect::<Result<Vec<_>, RecipeError>>()?;
        accuracy = accuracy.row(
            std::iter::once(Cell::Text((*name).into()))
                .chain(intervals.iter().map(|i| Cell::PercentInterval(*i))),
        );
        if [Method::Vote, Method::Perplexity, rpc, Method::Path(PC)].contains(method) {
            let points: Vec<_> = settings.sizes.iter().map(|&n| n as f64).zip(intervals).collect();
            series.push(Series::new(*name, points));
        }
    }
    findings.tables.push(accuracy);
    let mut calibration =
        Table::new("Calibration of the winner's share", ["method", "K", "ECE", "Brier", "NLL"]).note(
            "Confidence is the winner's weight divided by that of all answers; of the likeliest response (PPL), which weighs no \
             answers, exp of its mean log-probability, not divided by anything. 10 bins of equal width.",
        );
    for (index, &size) in settings.sizes.iter().enumerate().filter(|(_, size)| POOLED.contains(size)) {
        for method in [Method::Vote, Method::Perplexity, Method::Path(PC), rpc] {
            let judged = table[place(method)][index]
                .iter()
                .flatten()
                .map(|o| Judgement { confidence: o.confidence, correct: o.right });
            let judgements = Judgements::new(judged)?;
            let summary = judgements.summary(BINS)?;
            calibration = calibration.row([
                Cell::Text(METHODS[place(method)].0.into()),
                Cell::Count(size as u64),
                Cell::Number(summary.ece.equal_width, 3),
                Cell::Number(summary.brier, 3),
                Cell::Number(summary.nll, 3),
            ]);
        }
    }
    findings.tables.push(calibration);
    sweep(input, settings, found, &resampling, seed, &mut findings)?;
    findings.sections.push(Section::plots(
        "Accuracy against samples",
        vec![Plot::new(
            "Accuracy against samples",
            "Shaded: 95 % intervals over questions.",
            Chart::Line {
                x: Axis::new("samples K", Scale::Number),
                y: Axis::new("accuracy", Scale::Percent),
                series,
            },
        )],
    ));
    findings.notes.push(
        "Budget: every method at K chooses among the same K samples of one request; the weights cost no call. \
         Settings of the method: none to tune."
            .into(),
    );
    Ok(findings)
}

/// Gain on the vote by temperature, with the AUROC of path probabilities: where they say nothing about being right, no
/// gain can be expected.
fn sweep(
    input: &Reproduce<'_>,
    settings: &Settings,
    found: &[(f32, Vec<Vec<Pool>>)],
    resampling: &Resampling,
    seed: u64,
    findings: &mut Findings,
) -> Result<(), RecipeError> {
    let sizes: Vec<usize> = settings.sizes.iter().copied().filter(|size| POOLED.contains(size)).collect();
    let mut table = Table::new(
        "By temperature, mean over K",
        [
            "temperature",
            "one sample",
            "self-consistency",
            "RPC",
            "gain, points",
            "AUROC of p",
            "distinct answers",
        ],
    )
    .note("AUROC of the path probability for being right, over all samples with an answer.");
    let mut gains: Vec<Vec<f64>> = Vec::new();
    input.session.observer.phase(0, "temperatures", found.len());
    for (temperature, models) in found {
        let over = |method| -> Vec<f64> {
            let rows: Vec<Vec<f64>> =
                sizes.iter().map(|&k| credits(&outcomes(models, method, k, settings.draws, seed))).collect();
            let questions = rows.first().map_or(0, Vec::len);
            (0..questions).map(|q| mean(&rows.iter().map(|row| row[q]).collect::<Vec<_>>())).collect()
        };
        let (vote, rpc) = (over(Method::Vote), over(Method::Path(RPC)));
        let answered = || {
            models.iter().flatten().flat_map(|pool| &pool.samples).filter(|sample| sample.answer.is_some())
        };
        let probability: Vec<f64> = answered().map(|sample| sample.mean_logprob()).collect();
        let right: Vec<bool> = answered().map(|sample| sample.correct).collect();
        let distinct: Vec<f64> = models
            .iter()
            .flatten()
            .map(|pool| {
                let texts: std::collections::HashSet<_> =
                    pool.samples.iter().filter_map(|s| s.answer.as_ref()).collect();
                texts.len() as f64
            })
            .collect();
        let one: Vec<f64> = models
            .iter()
            .flatten()
            .flat_map(|pool| pool.samples.iter().map(|sample| super::pool::credit(sample.correct)))
            .collect();
        table = table.row([
            Cell::Number(f64::from(*temperature), 1),
            Cell::Percent(mean(&one)),
            Cell::PercentInterval(resampling.mean(&vote)?),
            Cell::PercentInterval(resampling.mean(&rpc)?),
            Cell::Points(resampling.paired(&rpc, &vote)?),
            auroc(&probability, &right)?.map_or(Cell::Missing, |area| Cell::Number(area, 3)),
            Cell::Number(mean(&distinct), 1),
        ]);
        gains.push(rpc.iter().zip(&vote).map(|(r, v)| r - v).collect());
        input.session.observer.advance(1, 0, false);
    }
    findings.tables.push(table);
    if let (Some(cold), Some(hot)) = (gains.first(), gains.last())
        && gains.len() > 1
    {
        findings.estimates.insert("gain-grows-with-temperature".into(), resampling.paired(hot, cold)?);
    }
    Ok(())
}

/// p(1 − p)/n: the squared error of a vote share as an estimate of p.
fn vote_error(p: f64, n: usize) -> f64 {
    p * (1.0 - p) / n as f64
}

/// The mean square of the mass of k paths of probability q that n samples have not seen:
/// q² (k (1 − q)ⁿ + k (k − 1) (1 − 2q)ⁿ).
fn missing_mass(q: f64, k: f64, n: usize) -> f64 {
    let unseen = |left: f64| left.powi(n as i32);
    q * q * (k * unseen(1.0 - q) + k * (k - 1.0) * unseen(1.0 - 2.0 * q))
}

/// The theory on a known distribution: answer A has p = 0.4, in k = 4 paths of q = 0.1 each. Measured are the
/// squared errors of the vote share and of Perplexity Consistency, whose error is the mass that it has not seen.
fn theory(findings: &mut Findings, trials: usize, seed: u64) {
    const PATHS: [&str; 4] = ["1", "2", "3", "4"];
    let (q, p, k) = (0.1f64, 0.4f64, PATHS.len() as f64);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut table = Table::new(
        "Theory, simulated on a known distribution",
        ["n", "vote, measured", "vote, p(1 - p)/n", "PC, measured", "PC, missing mass"],
    )
    .note(format!(
        "Mean squared error of the estimated confidence of an answer with p = 0.4; {trials} trials."
    ));
    let (mut vote_off, mut path_off) = (0f64, 0f64);
    let other = (1.0 - p).ln();
    for n in [8usize, 16, 32] {
        let (mut vote, mut path) = (0.0, 0.0);
        for _ in 0..trials {
            let drawn: Vec<Option<usize>> = (0..n)
                .map(|_| {
                    let at: f64 = random.random();
                    (at < p).then(|| ((at / q) as usize).min(PATHS.len() - 1))
                })
                .collect();
            let scores: Vec<Option<f64>> =
                drawn.iter().map(|path| Some(if path.is_some() { q.ln() } else { other })).collect();
            let texts: Vec<&str> = drawn.iter().map(|path| path.map_or("other", |i| PATHS[i])).collect();
            let weights = path_weights(&scores, &texts, PC).weights;
            let mass: f64 =
                drawn.iter().zip(&weights).filter(|(path, _)| path.is_some()).map(|(_, w)| w).sum();
            let share = drawn.iter().flatten().count() as f64 / n as f64;
            vote += (share - p).powi(2);
            path += (mass - p).powi(2);
        }
        let (vote, path) = (vote / trials.max(1) as f64, path / trials.max(1) as f64);
        let (vote_theory, path_theory) = (vote_error(p, n), missing_mass(q, k, n));
        vote_off = vote_off.max((vote / vote_theory - 1.0).abs());
        path_off = path_off.max((path / path_theory - 1.0).abs());
        table = table.row([
            Cell::Count(n as u64),
            Cell::Number(vote, 5),
            Cell::Number(vote_theory, 5),
            Cell::Number(path, 5),
            Cell::Number(path_theory, 5),
        ]);
    }
    findings.tables.push(table);
    findings.estimates.insert("theory-vote".into(), Interval::exact(0.1 - vote_off));
    findings.estimates.insert("theory-path".into(), Interval::exact(0.1 - path_off));
}

#[cfg(test)]
#[path = "rpc_tests.rs"]
mod tests;
