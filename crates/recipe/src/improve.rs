//! The main job: a model improves itself in rounds, a gold control stands beside it, and a report shows both.

use elenchus_learn::evaluation::Evaluation;
use elenchus_learn::policy::Policy;
use elenchus_learn::rounds::{RoundReport, RoundSettings, RoundsResult, gold_control, improve};
use elenchus_learn::{LearnError, Session};
use elenchus_measure::{
    Attempt, Axis, Bootstrap, Cell, Chart, Comparison, Interval, Judgement, Judgements, Plot, Report,
    RoundRecord, Scale, Section, Series, Table, Tone, TraceSample, calibration_sections, compare,
    rounds_plots, rounds_table,
};
use elenchus_task::Task;
use elenchus_trace::Problem;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Everything that determines an `improve` run; stored as the run's configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImproveConfig {
    /// Name of the recipe the settings come from.
    pub recipe: String,
    /// The rounds.
    pub rounds: RoundSettings,
    /// Task.
    pub task: String,
    /// Its settings.
    pub task_settings: Value,
    /// Whether the gold control runs.
    pub control: bool,
    /// Seed.
    pub seed: u64,
    /// `embedded`, or the folder of a checkpoint.
    pub model: String,
}

/// What came out.
pub struct Improvement {
    /// Round by round, the start first.
    pub rounds: Vec<RoundReport>,
    /// The gold control after as many rounds.
    pub control: Option<RoundReport>,
    /// Last round against the start, then against the control: greedy and sampled accuracy, paired over problems.
    pub comparisons: Vec<Comparison>,
    /// The page.
    pub report: Report,
}

/// Runs the experiment and its control, compares them, and writes the report. `policy` ends with the improved weights.
pub fn run_improve(
    policy: &mut dyn Policy,
    task: &dyn Task,
    config: &ImproveConfig,
    step_model: Option<&mut (dyn Policy + 'static)>,
    session: &Session<'_>,
) -> Result<Improvement, LearnError> {
    let mut control_policy = config.control.then(|| policy.copy());
    let result = improve(policy, task, &config.rounds, step_model, config.seed, "improve", session)?;
    let control = match &mut control_policy {
        Some(control) => {
            let rows: Vec<usize> = result.reports.iter().skip(1).map(|r| r.rows).collect();
            Some(gold_control(
                control.as_mut(),
                task,
                &config.rounds,
                &rows,
                config.seed,
                "control",
                session,
            )?)
        }
        None => None,
    };
    let comparisons = comparisons(&result, control.as_ref().map(|(_, e)| e), config.seed)?;
    let held_out = task.problems(
        config.rounds.evaluate.split,
        config.rounds.evaluate.problems,
        elenchus_learn::rollouts::mix(config.seed, 1),
    )?;
    let report = report(task, config, &held_out, &result, control.as_ref(), &comparisons)?;
    Ok(Improvement { rounds: result.reports, control: control.map(|(r, _)| r), comparisons, report })
}

fn greedy(evaluation: &Evaluation) -> Vec<f64> {
    evaluation.results.iter().map(|r| f64::from(u8::from(r.greedy))).collect()
}

fn sampled(evaluation: &Evaluation) -> Vec<f64> {
    evaluation.results.iter().map(|r| r.right as f64 / evaluation.samples as f64).collect()
}

fn comparisons(
    result: &RoundsResult,
    control: Option<&Evaluation>,
    seed: u64,
) -> Result<Vec<Comparison>, LearnError> {
    let bootstrap = Bootstrap::default().seed(seed);
    let (Some(first), Some(last)) = (result.evaluations.first(), result.evaluations.last()) else {
        return Ok(Vec::new());
    };
    let mut others = vec![("the start", first)];
    others.extend(control.map(|c| ("the gold control", c)));
    let mut found = Vec::new();
    for (name, other) in others {
        for (what, values) in [("greedy", greedy as fn(&Evaluation) -> Vec<f64>), ("one sample", sampled)] {
            found.push(compare(
                &format!("{what} of the last round"),
                &values(last),
                &format!("{what} of {name}"),
                &values(other),
                &bootstrap,
            )?);
        }
    }
    Ok(found)
}

fn record(r: &RoundReport) -> RoundRecord {
    RoundRecord {
        round: r.round,
        greedy: r.greedy,
        sampled: r.sampled,
        vote: r.vote,
        pass: r.pass,
        wrong_steps: r.wrong_steps,
        // The shortest decimal of the f32, so that 0.8 stays 0.8.
        temperature: r.temperature.and_then(|t| t.to_string().parse().ok()),
        threshold: r.threshold,
        balance: r.balance,
        rows: r.rows,
        tokens: r.tokens as u64,
        seconds: r.seconds,
    }
}

fn report(
    task: &dyn Task,
    config: &ImproveConfig,
    held_out: &[Problem],
    result: &RoundsResult,
    control: Option<&(RoundReport, Evaluation)>,
    comparisons: &[Comparison],
) -> Result<Report, LearnError> {
    let k = config.rounds.evaluate.samples;
    let records: Vec<RoundRecord> = result.reports.iter().map(record).collect();
    let gained = |index: usize| comparisons.get(index).map(|c| c.difference).unwrap_or(Interval::exact(0.0));
    let tone = match (gained(0), gained(1)) {
        (greedy, sampled) if greedy.low > 0.0 && sampled.low > 0.0 => Tone::Good,
        (greedy, sampled) if greedy.high < 0.0 || sampled.high < 0.0 => Tone::Bad,
        _ => Tone::Unclear,
    };
    let points = |i: &Interval| {
        format!("{:+.1} points (95 % {:+.1} to {:+.1})", 100.0 * i.value, 100.0 * i.low, 100.0 * i.high)
    };
    let rounds = records.len().saturating_sub(1);
    let sentence = format!(
        "After {rounds} rounds on its own verified answers, on {} held-out problems: greedy accuracy {}, accuracy of one sample {}.",
        held_out.len(),
        points(&gained(0)),
        points(&gained(1)),
    );
    let mut report = Report::new("elenchus improve")
        .headline(tone, sentence)
        .fact("recipe", &config.recipe)
        .fact("task", task_fact(config))
        .fact("model", &config.model)
        .fact("seed", config.seed.to_string())
        .fact("held-out problems", held_out.len().to_string())
        .configuration(serde_json::to_string_pretty(config).unwrap_or_default())
        .section(Section::Table(rounds_table(&records, k)));
    let last_round = rounds as f64;
    let control_points: Vec<(f64, Interval)> = control
        .iter()
        .flat_map(|(report, _)| [(0.0, result.reports[0].greedy), (last_round, report.greedy)])
        .collect();
    let control_series = control.map(|_| ("gold control, greedy", control_points.as_slice()));
    report = report.section(Section::plots("Curves", rounds_plots(&records, k, control_series)));
    report = report.section(Section::Table(compared(comparisons)));
    if let Some((control, _)) = control {
        report = report.section(Section::Table(control_table(result, control, k)));
    }
    report = report.section(Section::plots("Exploration and exploitation", monitors(&result.reports, k)));
    if let Some(evaluation) = result.evaluations.last() {
        let judgements = Judgements::new(evaluation.results.iter().flat_map(|r| {
            r.confidences.iter().map(|&(confidence, correct)| Judgement {
                confidence: f64::from(confidence.clamp(0.0, 1.0)),
                correct,
            })
        }))?;
        report = report
            .sections(calibration_sections("exp(mean log-probability) after the last round", &judgements)?);
    }
    report = report.section(traces(task, held_out, result, control.map(|(_, e)| e))?);
    Ok(report)
}

/// The task, with what differs from its defaults.
fn task_fact(config: &ImproveConfig) -> String {
    match config.task_settings.as_object() {
        Some(settings) if !settings.is_empty() => format!("{} {}", config.task, config.task_settings),
        _ => config.task.clone(),
    }
}

fn compared(comparisons: &[Comparison]) -> Table {
    let mut table = Table::new("What changed", ["comparison", "difference", "p (McNemar)", "verdict"])
        .note("Paired over the held-out problems; 95 % bootstrap intervals. p is exact and given for right-or-wrong outcomes.");
    for c in comparisons {
        table = table.row([
            Cell::Text(format!("{} − {}", c.first, c.second)),
            Cell::Points(c.difference),
            c.mcnemar.as_ref().map_or(Cell::Missing, |m| Cell::Number(m.p_value, 4)),
            Cell::Text(c.sentence.clone()),
        ]);
    }
    table
}

fn control_table(result: &RoundsResult, control: &RoundReport, k: usize) -> Table {
    let mut table = Table::new(
        "Beside as many gold rows for as many steps",
        [
            "arm",
            "rows",
            "greedy",
            "one sample",
            &format!("vote of {k}"),
            &format!("pass@{k}"),
            "right by wrong steps",
        ],
    )
    .note("The control is trained from the same start on reference solutions of other training problems.");
    let ends = [
        ("start", result.reports.first()),
        ("self-improved", result.reports.last()),
        ("gold control", Some(control)),
    ];
    for (name, report) in ends {
        let Some(r) = report else { continue };
        let rows = if name == "self-improved" { result.reports.iter().map(|r| r.rows).sum() } else { r.rows };
        table = table.row([
            Cell::Text(name.into()),
            Cell::Count(rows as u64),
            Cell::PercentInterval(r.greedy),
            Cell::PercentInterval(r.sampled),
            Cell::PercentInterval(r.vote),
            Cell::PercentInterval(r.pass),
            Cell::Percent(r.wrong_steps),
        ]);
    }
    table
}

fn monitors(reports: &[RoundReport], k: usize) -> Vec<Plot> {
    let line = |name: &str, value: &dyn Fn(&RoundReport) -> f64| {
        Series::exact(name, reports.iter().skip(1).map(|r| (r.round as f64, value(r))))
    };
    let all = |name: &str, value: &dyn Fn(&RoundReport) -> Interval| {
        Series::new(name, reports.iter().map(|r| (r.round as f64, value(r))))
    };
    let x = || Axis::new("round", Scale::Whole);
    vec![
        Plot::new(
            "Exploration",
            "Held-out problems with a right sample, and with four distinct right samples; distinct steps among all sampled steps of a training problem.",
            Chart::Line {
                x: x(),
                y: Axis::new("share", Scale::Percent),
                series: vec![
                    all(&format!("pass@{k}"), &|r| r.pass),
                    all(&format!("pass@{k}-4"), &|r| r.pass_distinct),
                    line("distinct steps", &|r| r.collection.diversity),
                ],
            },
        ),
        Plot::new(
            "Exploitation",
            "Accuracy of the training sample with the highest reward; share of kept rows that are right; balance score.",
            Chart::Line {
                x: x(),
                y: Axis::new("share", Scale::Percent),
                series: vec![
                    line("best by reward", &|r| r.collection.best_by_reward),
                    line("purity of kept rows", &|r| r.collection.purity),
                    line("balance score", &|r| r.balance.unwrap_or(0.0)),
                ],
            },
        ),
    ]
}

/// Greedy responses before and after: repaired, broken and still wrong problems, the first of each kind.
fn traces(
    task: &dyn Task,
    held_out: &[Problem],
    result: &RoundsResult,
    control: Option<&Evaluation>,
) -> Result<Section, LearnError> {
    const PER_KIND: usize = 4;
    let (Some(before), Some(after)) = (result.evaluations.first(), result.evaluations.last()) else {
        return Ok(Section::traces("Samples", "", Vec::new()));
    };
    let mut samples = Vec::new();
    for (kind, wanted) in
        [("repaired", (false, true)), ("broken", (true, false)), ("still wrong", (false, false))]
    {
        let places = (0..held_out.len())
            .filter(|&i| (before.results[i].greedy, after.results[i].greedy) == wanted)
            .take(PER_KIND);
        for i in places {
            let problem = &held_out[i];
            let mut attempts = Vec::new();
            let arms = [("before", Some(before)), ("after", Some(after)), ("gold control", control)];
            for (label, evaluation) in arms {
                let Some(evaluation) = evaluation else { continue };
                let text = &evaluation.results[i].greedy_text;
                attempts.push(Attempt::from_verdict(label, text, &task.verify(problem, text)?));
            }
            samples.push(TraceSample {
                label: format!("{kind} · {}", problem.id),
                problem: problem.compact.clone().unwrap_or_else(|| problem.question.clone()),
                gold: problem.gold.clone(),
                attempts,
                open: samples.is_empty(),
            });
        }
    }
    Ok(Section::traces(
        "Greedy answers before and after",
        format!(
            "The first {PER_KIND} held-out problems of each kind, in the order of the set: not chosen by hand."
        ),
        samples,
    ))
}
