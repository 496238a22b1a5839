//! Rounds of self-improvement: probe, choose, collect, select, train, measure (B-STaR, arXiv 2412.17256, and the
//! baselines it is compared with, by switches).

mod gold;
mod select;
mod work;

pub use gold::gold_control;
pub use select::{Pools, ScoredSample, Selection};
pub use work::{Pace, Work};

use crate::evaluation::{Evaluation, EvaluationSettings, evaluate};
use crate::objective::{Sft, TrainingRow};
use crate::policy::{Policy, text_row};
use crate::reward::{RewardSettings, score_rollouts};
use crate::rollouts::{Judged, RolloutSettings, judged_rollouts, mix};
use crate::trainer::{BatchSource, Epochs, TrainSettings, train};
use crate::{LearnError, Session};
use elenchus_measure::{Interval, equation_diversity};
use elenchus_task::{Skill, Split, Task};
use elenchus_trace::Problem;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;

/// The probe that finds temperature and threshold for a round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProbeSettings {
    /// Training problems that are probed.
    pub problems: usize,
    /// Samples per problem and temperature.
    pub samples: usize,
    /// The temperatures to choose among; one value fixes the temperature and saves the probe.
    pub temperatures: Vec<f32>,
    /// The thresholds to choose among; one value fixes the threshold.
    pub thresholds: Vec<f64>,
}

impl Default for ProbeSettings {
    fn default() -> Self {
        ProbeSettings {
            problems: 256,
            samples: 8,
            temperatures: vec![0.6, 0.8, 1.0, 1.2],
            thresholds: (-4..=11).map(|i| f64::from(i) / 10.0).collect(),
        }
    }
}

/// Which rows are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SelectSettings {
    /// M: wanted rows per training problem; the cap per problem rises until `M = rows_per_problem · problems` is met.
    pub rows_per_problem: f64,
    /// Most rows of one problem.
    pub most_per_problem: usize,
    /// n*: wanted unique correct rows per problem in the balance score.
    pub wanted: f64,
    /// Whether the reference solution joins the pool with reward 1 (label leakage for a self-taught claim).
    pub add_reference: bool,
}

impl Default for SelectSettings {
    fn default() -> Self {
        SelectSettings { rows_per_problem: 2.0, most_per_problem: 8, wanted: 2.0, add_reference: false }
    }
}

/// Where a round's training begins and what it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Continuation {
    /// From the last checkpoint, with the optimiser's state and one schedule over all rounds (online).
    Online,
    /// From the last checkpoint, optimiser and schedule afresh (iterative).
    Iterative,
    /// From the starting weights (ReST-EM).
    Restart,
}

/// When to stop before the last round.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StopSettings {
    /// Stop after this many rounds in a row without a gain in greedy accuracy; 0 never stops early.
    pub patience: usize,
    /// The gain that counts.
    pub minimum_gain: f64,
}

impl Default for StopSettings {
    fn default() -> Self {
        StopSettings { patience: 0, minimum_gain: 0.0 }
    }
}

/// A whole self-improvement experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RoundSettings {
    /// Rounds.
    pub rounds: usize,
    /// Training problems per round; each round has fresh ones.
    pub problems: usize,
    /// Samples per training problem.
    pub samples: usize,
    /// Most new tokens.
    pub max_new_tokens: usize,
    /// Finding temperature and threshold.
    pub probe: ProbeSettings,
    /// What a response is worth.
    pub reward: RewardSettings,
    /// Which rows are kept.
    pub select: SelectSettings,
    /// How weights continue.
    pub continuation: Continuation,
    /// Training of one round.
    pub train: TrainSettings,
    /// Measuring.
    pub evaluate: EvaluationSettings,
    /// Early stop.
    pub stop: StopSettings,
}

impl Default for RoundSettings {
    fn default() -> Self {
        RoundSettings {
            rounds: 2,
            problems: 2048,
            samples: 8,
            max_new_tokens: 160,
            probe: ProbeSettings::default(),
            reward: RewardSettings::default(),
            select: SelectSettings::default(),
            continuation: Continuation::Online,
            train: TrainSettings::default(),
            evaluate: EvaluationSettings::default(),
            stop: StopSettings::default(),
        }
    }
}

impl RoundSettings {
    /// Refuses settings that cannot be meant.
    pub fn check(&self) -> Result<(), LearnError> {
        let refuse = |field: &str, problem: &str, hint: &str| {
            Err(LearnError::Setting { field: field.into(), problem: problem.into(), hint: hint.into() })
        };
        if self.rounds == 0 || self.problems == 0 || self.samples == 0 {
            return refuse("rounds / problems / samples", "must be at least 1", "use `eval` to only measure");
        }
        if self.probe.temperatures.is_empty()
            || self.probe.temperatures.iter().any(|t| !(*t > 0.0 && t.is_finite()))
        {
            return refuse(
                "probe.temperatures",
                "needs at least one value above 0",
                "for example [0.8, 1.0]",
            );
        }
        if self.probe.thresholds.is_empty() {
            return refuse("probe.thresholds", "is empty", "for example [0.0]");
        }
        if self.evaluate.problems == 0 || self.evaluate.samples == 0 {
            return refuse(
                "evaluate",
                "needs problems and samples",
                "for example problems = 1000, samples = 8",
            );
        }
        self.train.check()
    }

    /// A tenth of the work: the same experiment with fewer problems, samples and steps.
    pub fn small(mut self) -> Self {
        self.problems = (self.problems / 10).max(32);
        self.probe.problems = (self.probe.problems / 10).max(16);
        self.train.steps = (self.train.steps / 10).max(5);
        self.evaluate.problems = (self.evaluate.problems / 10).max(50);
        self
    }

    /// Whether the probe has anything to choose.
    fn searches(&self) -> bool {
        self.probe.temperatures.len() > 1 || self.probe.thresholds.len() > 1
    }
}

/// The probe's finding for one temperature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// The temperature.
    pub temperature: f32,
    /// Its best threshold.
    pub threshold: f64,
    /// Mean balance score at that threshold.
    pub balance: f64,
}

/// Monitors of one round's collected samples.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Collection {
    /// Share of training problems with at least one right sample.
    pub pass: f64,
    /// Distinct equations among all, averaged over problems (exploration).
    pub diversity: f64,
    /// Accuracy of the sample with the highest reward (exploitation).
    pub best_by_reward: f64,
    /// Share of kept rows that are right.
    pub purity: f64,
}

/// One round, as reported and as written with `--json`. Round 0 is the start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundReport {
    /// 0 is the start.
    pub round: usize,
    /// Greedy accuracy.
    pub greedy: Interval,
    /// Accuracy of a sample.
    pub sampled: Interval,
    /// Accuracy of the majority.
    pub vote: Interval,
    /// Share of problems with a right sample.
    pub pass: Interval,
    /// Share of problems with at least 4 distinct right responses.
    pub pass_distinct: Interval,
    /// Share of right samples with a wrong or missing step.
    pub wrong_steps: f64,
    /// Distinct responses per problem.
    pub distinct: f64,
    /// Chosen temperature; `null` at the start, where nothing is chosen.
    pub temperature: Option<f32>,
    /// Chosen threshold; `null` at the start.
    pub threshold: Option<f64>,
    /// Mean balance score of the collected set; `null` at the start.
    pub balance: Option<f64>,
    /// What the probe found, per temperature.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probe: Vec<ProbeReport>,
    /// Monitors of the collected samples.
    #[serde(default)]
    pub collection: Collection,
    /// Rows kept for training.
    pub rows: usize,
    /// Tokens written and read in this round.
    pub tokens: usize,
    /// Responses drawn for learning in this round, the probe's included.
    pub drawn: usize,
    /// Seconds of work; replayed units count nothing.
    pub seconds: f64,
}

/// The result of an experiment.
pub struct RoundsResult {
    /// One per round, the start first.
    pub reports: Vec<RoundReport>,
    /// The measurements behind them, in the same order.
    pub evaluations: Vec<Evaluation>,
}

impl RoundReport {
    fn measured(round: usize, evaluation: &Evaluation) -> Result<Self, LearnError> {
        Ok(RoundReport {
            round,
            greedy: evaluation.greedy()?,
            sampled: evaluation.sampled()?,
            vote: evaluation.vote()?,
            pass: evaluation.pass()?,
            pass_distinct: evaluation.pass_distinct(4)?,
            wrong_steps: evaluation.wrong_steps(),
            distinct: evaluation.distinct(),
            temperature: None,
            threshold: None,
            balance: None,
            probe: Vec::new(),
            collection: Collection::default(),
            rows: 0,
            tokens: evaluation.tokens,
            drawn: 0,
            seconds: evaluation.seconds,
        })
    }
}

/// Runs the experiment on a policy, which holds the last round's weights afterwards.
///
/// `name` separates the journals of several experiments in one run; those with the same seed must begin with the same
/// weights and measure alike. Training and probing problems come from the train
/// split, measuring problems from the test split; no problem is in both. `step_model` gives learned step scores.
pub fn improve(
    policy: &mut dyn Policy,
    task: &dyn Task,
    settings: &RoundSettings,
    mut step_model: Option<&mut (dyn Policy + 'static)>,
    seed: u64,
    name: &str,
    session: &Session<'_>,
) -> Result<RoundsResult, LearnError> {
    settings.check()?;
    let held_out = task.problems(settings.evaluate.split, settings.evaluate.problems, mix(seed, 1))?;
    let start = policy.copy();
    let mut result = RoundsResult { reports: Vec::new(), evaluations: Vec::new() };
    let measure = |policy: &mut dyn Policy, round: usize, label: &str| {
        session.observer.phase(round, "measure", 2 * held_out.len());
        evaluate(policy, task, &held_out, &settings.evaluate, mix(seed, 2), label, session)
    };
    // Arms of one run begin with the same weights: what they share is measured once.
    let evaluation = measure(policy, 0, &format!("start/{seed}/measure"))?;
    let report = RoundReport::measured(0, &evaluation)?;
    session.observer.round(&report);
    result.reports.push(report);
    result.evaluations.push(evaluation);

    for round in 1..=settings.rounds {
        let round_seed = mix(seed, 100 + round as u64);
        let begun = std::time::Instant::now();
        let checkpoint = format!("{name}-round-{round}");
        let place = Place { round, seed: round_seed, name };
        let prepared = prepare(policy, task, settings, step_model.as_deref_mut(), &place, session)?;
        if let Some(folder) = session.checkpoint(&checkpoint)? {
            policy.load(&folder)?;
        } else {
            if settings.continuation == Continuation::Restart {
                policy.set_weights_from(start.as_ref())?;
            }
            let tokens = train_round(policy, settings, round, &prepared.rows, round_seed, session)?;
            session.once(&format!("{name}/{round}/train-tokens"), || Ok(tokens))?;
            session.save_checkpoint(&checkpoint, |folder| policy.save(folder, true))?;
        }
        let (train_tokens, _) = session.once::<usize>(&format!("{name}/{round}/train-tokens"), || Ok(0))?;
        let evaluation = measure(policy, round, &format!("{name}/{round}/measure"))?;
        let mut report = RoundReport::measured(round, &evaluation)?;
        report.temperature = Some(prepared.temperature);
        report.threshold = Some(prepared.threshold);
        report.balance = Some(prepared.balance);
        report.probe = prepared.probe;
        report.collection = prepared.collection;
        report.rows = prepared.rows.len();
        report.tokens += prepared.tokens + train_tokens;
        report.drawn = prepared.drawn;
        report.seconds = begun.elapsed().as_secs_f64();
        session.observer.round(&report);
        result.reports.push(report);
        result.evaluations.push(evaluation);
        if settings.stop.patience > 0 && stalled(&result.reports, settings.stop) {
            session
                .observer
                .note(&format!("stopped after round {round}: no gain in {} rounds", settings.stop.patience));
            break;
        }
    }
    Ok(result)
}

/// Whether the last `patience` rounds stayed within `minimum_gain` of the best before them.
fn stalled(reports: &[RoundReport], stop: StopSettings) -> bool {
    let Some(split) = reports.len().checked_sub(stop.patience).filter(|&s| s > 0) else { return false };
    let best = |part: &[RoundReport]| part.iter().map(|r| r.greedy.value).fold(f64::NEG_INFINITY, f64::max);
    best(&reports[split..]) <= best(&reports[..split]) + stop.minimum_gain
}

struct Prepared {
    temperature: f32,
    threshold: f64,
    balance: f64,
    probe: Vec<ProbeReport>,
    collection: Collection,
    rows: Vec<Vec<TrainingRow>>,
    tokens: usize,
    drawn: usize,
}

/// Which round of which experiment, and its seed.
struct Place<'a> {
    round: usize,
    seed: u64,
    name: &'a str,
}

/// Probe, collect, score and select: everything of a round before training.
fn prepare(
    policy: &mut dyn Policy,
    task: &dyn Task,
    settings: &RoundSettings,
    mut step_model: Option<&mut (dyn Policy + 'static)>,
    place: &Place<'_>,
    session: &Session<'_>,
) -> Result<Prepared, LearnError> {
    let &Place { round, seed, name } = place;
    let (mut tokens, mut drawn) = (0, 0);
    let thresholds = &settings.probe.thresholds;
    let mut temperature = settings.probe.temperatures[0];
    let mut probe = Vec::new();
    if settings.searches() {
        let problems = task.problems(Split::Train, settings.probe.problems, mix(seed, 1))?;
        let units = problems.len() * settings.probe.temperatures.len();
        session.observer.phase(round, "probe", units);
        let target = (settings.select.rows_per_problem * problems.len() as f64) as usize;
        for (index, &candidate) in settings.probe.temperatures.iter().enumerate() {
            let label = format!("{name}/{round}/probe/{index}");
            let rollouts = RolloutSettings {
                samples: settings.probe.samples,
                temperature: candidate,
                max_new_tokens: settings.max_new_tokens,
                seed: mix(seed, 2),
                distributions: false,
            };
            let judged = judged_rollouts(policy, task, &problems, &rollouts, &label, session)?;
            tokens += count_tokens(&judged);
            drawn += problems.len() * settings.probe.samples;
            let scored = score_rollouts(
                task,
                &problems,
                &judged,
                &settings.reward,
                step_model.as_deref_mut(),
                &label,
                session,
            )?;
            let pools = Pools::new(&scored);
            let (threshold, balance) = pools.best_threshold(
                thresholds,
                target,
                settings.select.most_per_problem,
                settings.select.wanted,
            );
            probe.push(ProbeReport { temperature: candidate, threshold, balance });
        }
        if let Some(best) = probe.iter().max_by(|a, b| a.balance.total_cmp(&b.balance)) {
            temperature = best.temperature;
        }
    }

    let problems = task.problems(Split::Train, settings.problems, mix(seed, 3))?;
    session.observer.phase(round, "sample", problems.len());
    let rollouts = RolloutSettings {
        samples: settings.samples,
        temperature,
        max_new_tokens: settings.max_new_tokens,
        seed: mix(seed, 4),
        distributions: false,
    };
    let label = format!("{name}/{round}/sample");
    let judged = judged_rollouts(policy, task, &problems, &rollouts, &label, session)?;
    tokens += count_tokens(&judged);
    drawn += problems.len() * settings.samples;
    let mut scored = score_rollouts(task, &problems, &judged, &settings.reward, step_model, &label, session)?;
    if settings.select.add_reference {
        for (problem, pool) in problems.iter().zip(&mut scored) {
            if let Some(text) = task.reference(problem) {
                pool.push(ScoredSample { text, reward: 1.0, correct: true });
            }
        }
    }
    let pools = Pools::new(&scored);
    let target = (settings.select.rows_per_problem * problems.len() as f64) as usize;
    let most = settings.select.most_per_problem;
    let (threshold, balance) = pools.best_threshold(thresholds, target, most, settings.select.wanted);
    let selection = pools.select(threshold, target, most);
    let rows = selection
        .kept
        .iter()
        .map(|&(query, sample)| {
            let prompt = Skill::Solve.prompt(&problems[query], &[]);
            Ok(vec![text_row(policy, &prompt, &scored[query][sample].text)?])
        })
        .collect::<Result<Vec<_>, LearnError>>()?;
    let collection = collection(task, &problems, &judged, &scored, &selection)?;
    Ok(Prepared { temperature, threshold, balance, probe, collection, rows, tokens, drawn })
}

fn count_tokens(judged: &[Vec<Judged>]) -> usize {
    judged.iter().flatten().map(|j| j.rollout.tokens.len()).sum()
}

fn collection(
    task: &dyn Task,
    problems: &[Problem],
    judged: &[Vec<Judged>],
    scored: &[Vec<ScoredSample>],
    selection: &Selection,
) -> Result<Collection, LearnError> {
    let n = judged.len().max(1) as f64;
    let share = |test: &dyn Fn(usize) -> bool| (0..judged.len()).filter(|&q| test(q)).count() as f64 / n;
    let equations: Vec<Vec<String>> = problems
        .iter()
        .zip(judged)
        .map(|(problem, samples)| {
            samples.iter().flat_map(|j| task.steps(problem, &j.rollout.text)).map(|step| step.text).collect()
        })
        .collect();
    let kept_right = selection.kept.iter().filter(|&&(q, s)| scored[q][s].correct).count();
    Ok(Collection {
        pass: share(&|q| judged[q].iter().any(|j| j.verdict.is_correct())),
        diversity: equation_diversity(&equations)?,
        best_by_reward: share(&|q| {
            scored[q].iter().max_by(|a, b| a.reward.total_cmp(&b.reward)).is_some_and(|best| best.correct)
        }),
        purity: kept_right as f64 / selection.kept.len().max(1) as f64,
    })
}

/// One schedule over all rounds when online, else one per round.
fn train_round(
    policy: &mut dyn Policy,
    settings: &RoundSettings,
    round: usize,
    rows: &[Vec<TrainingRow>],
    seed: u64,
    session: &Session<'_>,
) -> Result<usize, LearnError> {
    let per_round = settings.train.steps;
    session.observer.phase(round, "train", per_round);
    let online = settings.continuation == Continuation::Online;
    if !online {
        policy.reset_optimiser();
    }
    let (first, total) =
        if online { ((round - 1) * per_round, settings.rounds * per_round) } else { (0, per_round) };
    let mut epochs = Epochs::new(rows, settings.train.batch, mix(seed, 6))?;
    let mut tokens = 0;
    let whole = TrainSettings { steps: total, ..settings.train.clone() };
    let mut stretch = Stretch { inner: &mut epochs, first };
    train(policy, &Sft::default(), &whole, &mut stretch, first..first + per_round, &mut |_, step| {
        tokens += step.tokens;
        session.observer.advance(1, step.tokens, false);
        if session.stop.stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(tokens)
}

/// Batches of a round, whose own steps begin at 0 while the schedule goes on.
struct Stretch<'a, 'b> {
    inner: &'a mut Epochs<'b>,
    first: usize,
}

impl BatchSource for Stretch<'_, '_> {
    fn batch(&mut self, step: usize) -> Result<Vec<Vec<TrainingRow>>, LearnError> {
        self.inner.batch(step - self.first)
    }
}
