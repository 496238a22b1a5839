//! B-STaR (arXiv 2412.17256) against online training at a fixed configuration, at equal sampled responses.

use super::{Findings, Reproduce};
use crate::{RecipeError, models};
use elenchus_learn::policy::Policy;
use elenchus_learn::reward::StepReward;
use elenchus_learn::rollouts::mix;
use elenchus_learn::rounds::{Continuation, RoundSettings, RoundsResult, improve};
use elenchus_learn::step_reward::{StepRewardSettings, train_step_reward};
use elenchus_measure::{
    Axis, Bootstrap, Cell, Chart, Interval, Plot, Scale, Section, Series, Table, compare_over_seeds,
    student_interval,
};
use serde::Deserialize;

/// Settings of the experiment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The B-STaR arm; the others are derived from it.
    rounds: RoundSettings,
    /// Sampling seeds per model.
    seeds: usize,
    /// Which arms run beside `b-star` and `fixed`, of [`ABLATIONS`].
    ablations: Vec<String>,
    /// The problems: the model needs headroom on them, and right answers should have several forms.
    task: TaskChoice,
    /// How the model of step scores is made for this task; absent: the one that lies beside the model's weights.
    #[serde(default)]
    step_reward: Option<StepRewardSettings>,
    /// Threshold of the fixed arm. The paper's 0 for raw step scores around 0.
    fixed_threshold: f64,
}

/// Arms beside `b-star` and `fixed`. The last two are the paper's other baselines: the fixed configuration, from the starting
/// weights in every round (ReST-EM) and from the last ones with optimiser and schedule afresh (iterative rejection
/// sampling fine-tuning).
const ABLATIONS: [&str; 5] = ["temperature-only", "threshold-only", "frozen", "rest-em", "iterative-rft"];

/// A task by name, and its settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct TaskChoice {
    name: String,
    #[serde(default)]
    settings: serde_json::Value,
}

/// An arm: how it differs, and its results by (model, seed).
struct Arm {
    name: String,
    settings: RoundSettings,
    results: Vec<RoundsResult>,
}

/// The fixed arm gets as many samples per problem as B-STaR's probe and main samples together.
fn fixed(settings: &Settings) -> RoundSettings {
    let mut rounds = settings.rounds.clone();
    rounds.probe.temperatures = vec![1.0];
    rounds.probe.thresholds = vec![settings.fixed_threshold];
    rounds.samples = equal_samples(&settings.rounds);
    rounds
}

/// Samples per training problem that spend what probe and main samples spend, rounded up in favour of the baseline.
fn equal_samples(rounds: &RoundSettings) -> usize {
    let probe = rounds.probe.problems * rounds.probe.samples * rounds.probe.temperatures.len();
    rounds.samples + probe.div_ceil(rounds.problems)
}

fn arms(settings: &Settings) -> Vec<Arm> {
    let arm = |name: &str, settings: RoundSettings| Arm { name: name.into(), settings, results: Vec::new() };
    let mut arms = vec![arm("b-star", settings.rounds.clone()), arm("fixed", fixed(settings))];
    for name in &settings.ablations {
        let mut rounds = settings.rounds.clone();
        match name.as_str() {
            "temperature-only" => rounds.probe.thresholds = vec![settings.fixed_threshold],
            "threshold-only" => {
                rounds.probe.temperatures = vec![1.0];
                rounds.samples = equal_samples(&settings.rounds);
            }
            // The paper's late-round configuration from the first round on: the schedule matters, not the values.
            "frozen" => {
                rounds.probe.temperatures = vec![1.1];
                rounds.probe.thresholds = vec![-0.1];
                rounds.samples = equal_samples(&settings.rounds);
            }
            "rest-em" => rounds = RoundSettings { continuation: Continuation::Restart, ..fixed(settings) },
            "iterative-rft" => {
                rounds = RoundSettings { continuation: Continuation::Iterative, ..fixed(settings) };
            }
            _ => continue,
        }
        arms.push(arm(name, rounds));
    }
    arms
}

/// Runs the experiment.
pub(super) fn run(input: &Reproduce<'_>) -> Result<Findings, RecipeError> {
    let settings: Settings = input.settings()?;
    if let Some(wrong) = settings.ablations.iter().find(|a| !ABLATIONS.contains(&a.as_str())) {
        return Err(input.refuse(&format!("ablation `{wrong}` is none of {}", ABLATIONS.join(", "))));
    }
    let task = elenchus_task::task(&settings.task.name, &settings.task.settings)?;
    let mut arms = arms(&settings);
    let mut qualities = Vec::new();
    for (m, name) in input.models.iter().enumerate() {
        let mut steps = match (&settings.step_reward, settings.rounds.reward.step) {
            (Some(training), StepReward::Learned) => {
                let mut policy = models::load(name)?.policy();
                let seed = mix(input.seed, 500 + m as u64);
                let label = format!("steps/{m}");
                let (model, quality) =
                    train_step_reward(&mut policy, task.as_ref(), training, seed, &label, input.session)?;
                qualities.push(quality);
                Some(model)
            }
            _ => models::step_reward(&settings.rounds, name)?,
        };
        for s in 0..settings.seeds {
            let seed = mix(input.seed, (m * 1000 + s) as u64);
            for arm in &mut arms {
                let mut policy = models::load(name)?.policy();
                let label = format!("{}/{m}/{s}", arm.name);
                let step_model = steps.as_mut().map(|p| p as &mut dyn Policy);
                let task = task.as_ref();
                input.session.observer.note(&format!("arm {}, model {name}, seed {}", arm.name, s + 1));
                let result =
                    improve(&mut policy, task, &arm.settings, step_model, seed, &label, input.session)?;
                arm.results.push(result);
            }
        }
    }
    let mut findings = findings(input, &settings, &arms)?;
    if !qualities.is_empty() {
        let text: Vec<String> = qualities.iter().map(|q| format!("{q:.3}")).collect();
        findings
            .notes
            .push(format!("AUROC of the model of step scores on validation steps: {}.", text.join(", ")));
    }
    Ok(findings)
}

fn last_greedy(result: &RoundsResult) -> Vec<f64> {
    let last = result.evaluations.last();
    last.map(|e| e.results.iter().map(|r| f64::from(u8::from(r.greedy))).collect()).unwrap_or_default()
}

fn last_distinct(result: &RoundsResult) -> Vec<f64> {
    let last = result.evaluations.last();
    last.map(|e| e.results.iter().map(|r| f64::from(u8::from(r.distinct_right >= 4))).collect())
        .unwrap_or_default()
}

fn findings(input: &Reproduce<'_>, settings: &Settings, arms: &[Arm]) -> Result<Findings, RecipeError> {
    let mut findings = Findings::default();
    let bootstrap = Bootstrap::default().seed(input.seed);
    let rows = |arm: &Arm, of: fn(&RoundsResult) -> Vec<f64>| arm.results.iter().map(of).collect::<Vec<_>>();
    let difference = |a: &Arm, b: &Arm, of: fn(&RoundsResult) -> Vec<f64>| -> Result<Interval, RecipeError> {
        Ok(super::wider(
            &compare_over_seeds(&a.name, &rows(a, of), &b.name, &rows(b, of), &bootstrap)?.difference,
        ))
    };
    let [b_star, fixed, ablations @ ..] = arms else { return Ok(findings) };
    findings.estimates.insert("greedy".into(), difference(b_star, fixed, last_greedy)?);
    findings.estimates.insert("pass-distinct".into(), difference(b_star, fixed, last_distinct)?);

    // Smallest change of the mean balance score from one round to the next.
    let rounds = b_star.results.iter().map(|r| r.reports.len()).min().unwrap_or(0);
    let balance = |round: usize| -> Vec<f64> {
        b_star.results.iter().filter_map(|r| r.reports.get(round)?.balance).collect()
    };
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let changes: Vec<f64> = (2..rounds).map(|r| mean(&balance(r)) - mean(&balance(r - 1))).collect();
    if let Some(smallest) = changes.iter().copied().reduce(f64::min) {
        findings.estimates.insert("balance".into(), Interval::exact(smallest));
    }
    let rise: Vec<f64> = b_star
        .results
        .iter()
        .filter_map(|r| {
            let first = r.reports.get(1)?.temperature?;
            Some(f64::from(r.reports.last()?.temperature? - first))
        })
        .collect();
    if !rise.is_empty() {
        let interval = if rise.len() > 1 { student_interval(&rise, 0.95)? } else { Interval::exact(rise[0]) };
        findings.estimates.insert("temperature".into(), interval);
    }
    for arm in ablations {
        findings.estimates.insert(format!("ablation-{}", arm.name), difference(b_star, arm, last_greedy)?);
    }
    findings.tables.push(table(settings, arms)?);
    findings.tables.push(chosen(b_star));
    findings.sections.push(Section::plots("Arms", vec![plot(arms)?]));
    if settings.rounds.reward.step != StepReward::Learned {
        findings.notes.push(
            "Step scores come from the exact verifier, so the threshold chooses only between filters by answer and by \
             answer and steps."
                .into(),
        );
    }
    findings.notes.push(format!(
        "{} model(s), {} sampling seed(s) each; sampled responses per round: b-star {}, fixed {}.",
        input.models.len(),
        settings.seeds,
        drawn(b_star),
        drawn(fixed),
    ));
    Ok(findings)
}

fn drawn(arm: &Arm) -> usize {
    arm.results.first().and_then(|r| r.reports.get(1)).map_or(0, |r| r.drawn)
}

fn pooled(
    arm: &Arm,
    value: impl Fn(&elenchus_learn::rounds::RoundReport) -> f64,
) -> Result<Interval, RecipeError> {
    let values: Vec<f64> = arm.results.iter().filter_map(|r| r.reports.last()).map(value).collect();
    Ok(if values.len() > 1 {
        student_interval(&values, 0.95)?
    } else {
        Interval::exact(values.first().copied().unwrap_or(0.0))
    })
}

fn table(settings: &Settings, arms: &[Arm]) -> Result<Table, RecipeError> {
    let k = settings.rounds.evaluate.samples;
    let mut table = Table::new(
        "Arms after the last round",
        [
            "arm".to_string(),
            "responses drawn".into(),
            "greedy".into(),
            "one sample".into(),
            format!("pass@{k}"),
            format!("pass@{k}-4"),
            "right by wrong steps".into(),
        ],
    )
    .note("Means over models and seeds; brackets: 95 % t-interval over them where there are several.");
    for arm in arms {
        table = table.row([
            Cell::Text(arm.name.clone()),
            Cell::Count(arm.results.iter().flat_map(|r| &r.reports).map(|r| r.drawn as u64).sum()),
            Cell::PercentInterval(pooled(arm, |r| r.greedy.value)?),
            Cell::PercentInterval(pooled(arm, |r| r.sampled.value)?),
            Cell::PercentInterval(pooled(arm, |r| r.pass.value)?),
            Cell::PercentInterval(pooled(arm, |r| r.pass_distinct.value)?),
            Cell::Percent(pooled(arm, |r| r.wrong_steps)?.value),
        ]);
    }
    Ok(table)
}

fn chosen(b_star: &Arm) -> Table {
    let mut table = Table::new(
        "What B-STaR chose",
        ["seed", "round", "temperature", "threshold", "balance score", "rows"],
    );
    for (seed, result) in b_star.results.iter().enumerate() {
        for r in result.reports.iter().skip(1) {
            table = table.row([
                Cell::Count(seed as u64 + 1),
                Cell::Count(r.round as u64),
                Cell::Number(r.temperature.map_or(0.0, f64::from), 1),
                Cell::Number(r.threshold.unwrap_or(0.0), 2),
                Cell::Number(r.balance.unwrap_or(0.0), 3),
                Cell::Count(r.rows as u64),
            ]);
        }
    }
    table
}

fn plot(arms: &[Arm]) -> Result<Plot, RecipeError> {
    let mut series = Vec::new();
    for arm in arms {
        let rounds = arm.results.iter().map(|r| r.reports.len()).min().unwrap_or(0);
        let points = (0..rounds).map(|round| {
            let values: Vec<f64> = arm.results.iter().map(|r| r.reports[round].greedy.value).collect();
            (round as f64, values.iter().sum::<f64>() / values.len() as f64)
        });
        series.push(Series::exact(&arm.name, points));
    }
    Ok(Plot::new(
        "Greedy accuracy by round",
        "Means over models and seeds on held-out problems.",
        Chart::Line {
            x: Axis::new("round", Scale::Whole),
            y: Axis::new("greedy accuracy", Scale::Percent),
            series,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_size_has_every_arm_of_the_paper_at_equal_samples() {
        let recipe = crate::built_in("b-star").unwrap();
        let experiment = recipe.reproduce.unwrap();
        let settings: Settings = serde_json::from_value(experiment.full).unwrap();
        let arms = arms(&settings);
        let arm = |name: &str| &arms.iter().find(|arm| arm.name == name).unwrap().settings;
        assert_eq!(arms.len(), 2 + ABLATIONS.len());
        assert_eq!(arm("rest-em").continuation, Continuation::Restart);
        assert_eq!(arm("iterative-rft").continuation, Continuation::Iterative);
        for name in ["rest-em", "iterative-rft"] {
            let same = RoundSettings { continuation: Continuation::Online, ..arm(name).clone() };
            assert_eq!(&same, arm("fixed"), "{name} differs from the fixed arm in how weights go on alone");
        }
        let claims = recipe.acceptance.unwrap().claims;
        for name in ABLATIONS {
            assert!(claims.iter().any(|claim| claim.id == format!("ablation-{name}")), "{name}");
        }
    }

    #[test]
    fn the_baseline_never_gets_fewer_samples() {
        let rounds = RoundSettings::default();
        let probe = rounds.probe.problems * rounds.probe.samples * rounds.probe.temperatures.len();
        let spent = probe + rounds.problems * rounds.samples;
        assert!(
            equal_samples(&rounds) * rounds.problems >= spent,
            "the probe's cost is in the baseline's budget"
        );
        assert!(
            (equal_samples(&rounds) - 1) * rounds.problems < spent,
            "and not more than one sample above it"
        );
    }
}
