//! Internal consistency (arXiv 2407.14507): how well a model agrees with itself inside, at the token and in its answers;
//! what that says about being right; sampling gated by it; weights updated on it; and answers of different length.

mod layers;
mod loops;

use super::pool::{Asked as Prompted, Drawing, Pool, draw, mean};
use super::{Findings, Reproduce, wider};
use crate::RecipeError;
use crate::lab::chains::Length;
use elenchus_control::{consistency_labels, majority};
use elenchus_learn::policy::Policy;
use elenchus_learn::rollouts::mix;
use elenchus_learn::trainer::TrainSettings;
use elenchus_measure::{Bootstrap, Cell, ConsistencyReport, Interval, Table, consistency, over_seeds};
use elenchus_task::{Skill, Split, Task};
use elenchus_trace::Problem;
use serde::Deserialize;
use serde_json::{Value, json};

/// Settings of the experiment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Model seeds of the lab's checkpoints.
    seeds: Vec<u64>,
    /// Problems of one-digit values on which the layers are measured, of 2 to 4 steps.
    layer_questions: usize,
    /// Test problems of 4 to 6 steps, and of longer ones.
    questions: usize,
    /// Validation problems, on which the gate's threshold is chosen.
    validation: usize,
    /// Responses to each of them.
    samples: usize,
    /// Thresholds to choose from.
    thresholds: Vec<f64>,
    /// Training problems whose majority answers the weights are updated on.
    train_questions: usize,
    /// Responses to each of them, and to the test problems before and after.
    train_samples: usize,
    /// That training.
    train: TrainSettings,
    /// Problems per number of steps at each length of the answer.
    length_questions: usize,
}

/// From which share of agreeing pairs on answers are called consistent.
const ENOUGH: f64 = 0.6;
/// Tokens of one response at most.
const MOST_TOKENS: usize = 180;

/// What every part of the experiment looks at.
struct Bench<'a> {
    input: &'a Reproduce<'a>,
    settings: &'a Settings,
    bootstrap: Bootstrap,
}

impl Bench<'_> {
    fn task(&self, settings: &Value) -> Result<Box<dyn Task>, RecipeError> {
        Ok(elenchus_task::task("arithmetic", settings)?)
    }

    /// The same problems for every model seed.
    fn problems(
        &self,
        task: &dyn Task,
        split: Split,
        count: usize,
        salt: u64,
    ) -> Result<Vec<Problem>, RecipeError> {
        Ok(task.problems(split, count, mix(self.input.seed, salt))?)
    }

    /// Samples at temperature 1.
    fn pools(
        &self,
        policy: &mut dyn Policy,
        task: &dyn Task,
        problems: &[Problem],
        samples: usize,
        label: &str,
    ) -> Result<Vec<Pool>, RecipeError> {
        let asked: Vec<Prompted<'_>> = problems
            .iter()
            .map(|problem| Prompted::new(problem, Skill::Solve.prompt(problem, &[])))
            .collect();
        let drawing = Drawing {
            samples,
            temperature: 1.0,
            max_new_tokens: MOST_TOKENS,
            seed: mix(self.input.seed, 31),
        };
        draw(self.input, policy, task, &asked, drawing, label)
    }

    /// The mean over questions and seeds, `[seed][question]`; the wider of both intervals.
    fn over(&self, rows: &[Vec<f64>]) -> Result<Interval, RecipeError> {
        Ok(wider(&over_seeds(rows, &self.bootstrap)?))
    }
}

/// The labels of the answers of a pool: equal exactly where the answers mean the same.
fn labels(pool: &Pool) -> Vec<usize> {
    let answers: Vec<Option<&str>> = pool.samples.iter().map(|sample| sample.answer.as_deref()).collect();
    consistency_labels(&majority(&answers, |left, right| left == right).groups)
}

/// Share of pairs that agree.
fn agreement(labels: &[usize]) -> f64 {
    consistency(labels).ok().and_then(|found| found.agreement).unwrap_or(0.0)
}

/// Whether the most frequent answer of the first `count` samples is right.
fn majority_right(pool: &Pool, count: usize) -> bool {
    let answers: Vec<Option<&str>> =
        pool.samples.iter().take(count).map(|sample| sample.answer.as_deref()).collect();
    majority(&answers, |left, right| left == right)
        .sample()
        .is_some_and(|sample| pool.samples[sample].correct)
}

/// Runs the experiment.
pub(super) fn run(input: &Reproduce<'_>) -> Result<Findings, RecipeError> {
    let settings: Settings = input.settings()?;
    let bench =
        Bench { input, settings: &settings, bootstrap: Bootstrap::default().seed(mix(input.seed, 99)) };
    let mut findings = Findings::default();
    layers::run(&bench, &mut findings)?;
    correctness(&bench, &mut findings)?;
    loops::gate(&bench, &mut findings)?;
    loops::weights(&bench, &mut findings)?;
    lengths(&bench, &mut findings)?;
    findings.notes.push(
        "Model seeds are seeds of the lab's fine-tuning from the same base weights (checkpoint `chains`; `chains-biased` takes \
         every difference to be one larger). Intervals are the wider of those over seeds and over seeds and questions."
            .into(),
    );
    findings.notes.push(
        "Heads are silenced before the output projection of one layer, at all positions; the module released with the survey \
         scales slices behind it, which belong to no head. Layers are compared at n = 4 expressions throughout. A beam of one \
         token is the likeliest token, so the decoding layer's beam answers like its greedy one."
            .into(),
    );
    Ok(findings)
}

/// The models of the experiment: name of the checkpoint's folder and a label, per model and seed.
fn models(bench: &Bench<'_>, name: &str) -> Result<Vec<(String, crate::lab::Built)>, RecipeError> {
    let mut all = Vec::new();
    for (m, model) in bench.input.models.iter().enumerate() {
        for &seed in &bench.settings.seeds {
            all.push((format!("{m} {name} {seed}"), bench.input.lab_model(name, model, seed)?));
        }
    }
    Ok(all)
}

/// I2: what the consistency of the answers says about the majority being right, in distribution and beyond it.
fn correctness(bench: &Bench<'_>, findings: &mut Findings) -> Result<(), RecipeError> {
    let Settings { questions, samples, .. } = bench.settings;
    let sets = [
        ("4 to 6 steps", json!({})),
        (
            "9 to 10 steps, 4 to 6 distractors",
            json!({"steps": [9, 10], "distractors": [4, 6], "letters": 20}),
        ),
    ];
    let mut table = Table::new(
        "Does consistency tell right from wrong?",
        ["problems", "AUROC", "ECE", "agreement of pairs", "majority right", "consistent and wrong"],
    )
    .note(
        "Consistent: at least 0.6 of the pairs of answers agree. Share of all problems. ECE: calibration error of the \
         agreement, taken for a probability of being right, 10 bins of equal numbers.",
    );
    let mut found = Vec::new();
    for (place, (name, task_settings)) in sets.iter().enumerate() {
        let task = bench.task(task_settings)?;
        let problems = bench.problems(task.as_ref(), Split::Test, *questions, 40 + place as u64)?;
        let mut scored = Vec::new();
        for (label, built) in models(bench, "chains")? {
            let mut policy = built.load()?.policy();
            let label = format!("{label} set {place}");
            let pools = bench.pools(&mut policy, task.as_ref(), &problems, *samples, &label)?;
            scored
                .extend(pools.iter().map(|pool| (agreement(&labels(pool)), majority_right(pool, *samples))));
        }
        let report = ConsistencyReport::of(&scored, ENOUGH, &bench.bootstrap)?;
        table = table.row([
            Cell::Text((*name).into()),
            report.auroc.map_or(Cell::Missing, Cell::PercentInterval),
            Cell::Number(report.ece.equal_mass, 3),
            Cell::PercentInterval(report.consistency),
            Cell::PercentInterval(report.right),
            Cell::PercentInterval(report.consistent_and_wrong),
        ]);
        found.push(report.auroc);
    }
    if let Some(within) = found[0] {
        findings.estimates.insert("auroc".into(), within);
        if let Some(beyond) = found[1] {
            // Two sets of different problems: independent.
            let apart = |a: f64, b: f64| a.hypot(b);
            let value = within.value - beyond.value;
            let low = value - apart(within.value - within.low, beyond.high - beyond.value);
            let high = value + apart(within.high - within.value, beyond.value - beyond.low);
            findings.estimates.insert("auroc-beyond".into(), Interval { value, low, high });
        }
    }
    findings.tables.push(table);
    Ok(())
}

/// I5: accuracy against the length of the answer, greedy, by number of steps.
fn lengths(bench: &Bench<'_>, findings: &mut Findings) -> Result<(), RecipeError> {
    let depths = [("1 step", [1, 1]), ("2 to 3 steps", [2, 3]), ("4 to 6 steps", [4, 6])];
    let mut table = Table::new(
        "Accuracy by the length of the answer",
        ["problems", "no step", "values only", "full steps", "tokens written"],
    )
    .note("One-digit values, temperature 0. Tokens of the three lengths.");
    for (place, (name, steps)) in depths.iter().enumerate() {
        let task = bench.task(&json!({"steps": steps, "largest_value": 9, "form": "direct"}))?;
        let problems =
            bench.problems(task.as_ref(), Split::Test, bench.settings.length_questions, 50 + place as u64)?;
        // [length][seed][question]
        let mut right: Vec<Vec<Vec<f64>>> = vec![Vec::new(); 3];
        let mut tokens = [0.0; 3];
        for (label, built) in models(bench, "chains")? {
            let mut policy = built.load()?.policy();
            for (at, length) in Length::ALL.into_iter().enumerate() {
                let asked: Vec<Prompted<'_>> =
                    problems.iter().map(|problem| Prompted::new(problem, length.prompt(problem))).collect();
                let drawing = Drawing { samples: 1, temperature: 0.0, max_new_tokens: MOST_TOKENS, seed: 1 };
                let label = format!("{label} {} {name}", length.name());
                let pools = draw(bench.input, &mut policy, task.as_ref(), &asked, drawing, &label)?;
                let first = |pool: &Pool| pool.samples.first().is_some_and(|sample| sample.correct);
                right[at].push(pools.iter().map(|pool| f64::from(u8::from(first(pool)))).collect());
                tokens[at] += mean(&pools.iter().map(|pool| pool.spent(1).written).collect::<Vec<_>>());
            }
        }
        let seeds = right[0].len().max(1) as f64;
        let mut row = vec![Cell::Text((*name).into())];
        for length in &right {
            row.push(Cell::PercentInterval(bench.over(length)?));
        }
        row.push(Cell::Text(tokens.map(|tokens| format!("{:.0}", tokens / seeds)).join(" / ")));
        table = table.row(row);
        let apart = |left: usize, right_at: usize| -> Vec<Vec<f64>> {
            let pairs = right[left].iter().zip(&right[right_at]);
            pairs.map(|(a, b)| a.iter().zip(b).map(|(a, b)| a - b).collect()).collect()
        };
        let claim = match place {
            0 => Some(("one-token-enough", apart(0, 2))),
            2 => Some(("chain-needed", apart(2, 0))),
            _ => None,
        };
        if let Some((id, rows)) = claim {
            findings.estimates.insert(id.into(), bench.over(&rows)?);
        }
    }
    findings.tables.push(table);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::pool::Sample;
    use super::*;

    fn pool(answers: &[(Option<&str>, bool)]) -> Pool {
        let sample = |&(answer, correct): &(Option<&str>, bool)| Sample {
            text: format!("{answer:?}"),
            answer: answer.map(str::to_string),
            correct,
            tokens: 10,
            sum_logprob: -1.0,
        };
        Pool { prompt_tokens: 5, samples: answers.iter().map(sample).collect() }
    }

    #[test]
    fn agreement_and_majority_of_a_pool() {
        let pool =
            pool(&[(Some("4"), false), (Some("5"), true), (None, false), (None, false), (Some("5"), true)]);
        assert_eq!(labels(&pool), [0, 1, 4, 5, 1], "no answer agrees with no answer");
        assert!((agreement(&labels(&pool)) - 0.1).abs() < 1e-12);
        assert!(majority_right(&pool, 5) && !majority_right(&pool, 1), "one sample is its own majority");
    }
}
