//! I3 and I4: the two updates of self-feedback. Of the expression: sampling that stops when the answers agree enough. Of
//! the weights: training on the majority's answers, on an honest model and on one with an implanted systematic error.

use super::{Bench, Findings, agreement, labels, majority_right, models};
use crate::RecipeError;
use crate::reproduce::pool::{Arm, Pool, Spent, arms_table, credit, fit, mean};
use crate::reproduce::resampling::Resampling;
use elenchus_control::{ConsistencyMeasure, gated_count, majority};
use elenchus_learn::policy::{Policy, text_row};
use elenchus_learn::rollouts::mix;
use elenchus_measure::{Cell, Interval, Table};
use elenchus_task::{Skill, Split};
use elenchus_trace::Problem;
use serde_json::json;

/// Responses before the gate's first look, and of each further one.
const FIRST: usize = 3;
const MORE: usize = 2;

fn tokens(spent: Spent) -> f64 {
    spent.written + spent.read
}

/// What the first `count` samples cost when they are drawn in `calls` calls, each of which reads the prompt.
fn cost(pool: &Pool, count: usize, calls: usize) -> Spent {
    let spent = pool.spent(count);
    Spent { read: spent.read * calls as f64, ..spent }
}

fn calls(count: usize) -> usize {
    1 + count.saturating_sub(FIRST).div_ceil(MORE)
}

fn gate_arm(pools: &[Pool], enough: f64) -> (Arm, Vec<usize>) {
    let mut arm = Arm::default();
    let mut counts = Vec::new();
    for pool in pools {
        let count = gated_count(&labels(pool), FIRST, MORE, ConsistencyMeasure::Agreement, enough);
        arm.push(credit(majority_right(pool, count)), cost(pool, count, calls(count)));
        counts.push(count);
    }
    (arm, counts)
}

/// The lowest threshold whose accuracy on validation problems is within half a point of drawing all samples; the
/// highest one where none is.
fn chosen_threshold(pools: &[Pool], thresholds: &[f64]) -> f64 {
    let all =
        mean(&pools.iter().map(|pool| credit(majority_right(pool, pool.samples.len()))).collect::<Vec<_>>());
    let mut sorted = thresholds.to_vec();
    sorted.sort_by(f64::total_cmp);
    let within = sorted.iter().copied().find(|&enough| mean(&gate_arm(pools, enough).0.right) >= all - 0.005);
    within.or(sorted.last().copied()).unwrap_or(1.0)
}

/// Which samples a question gets when the gate's counts are dealt to other questions: the same spending, blind.
fn dealt(counts: &[usize], seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..counts.len()).collect();
    order.sort_by_key(|&question| mix(seed, question as u64));
    order.into_iter().map(|question| counts[question]).collect()
}

/// I3.
pub(super) fn gate(bench: &Bench<'_>, findings: &mut Findings) -> Result<(), RecipeError> {
    let settings = bench.settings;
    let task = bench.task(&json!({}))?;
    let validation = bench.problems(task.as_ref(), Split::Validation, settings.validation, 60)?;
    let test = bench.problems(task.as_ref(), Split::Test, settings.questions, 40)?;
    // [seed]: gate, blind, all.
    let mut arms: [Vec<Arm>; 3] = Default::default();
    let mut thresholds = Vec::new();
    for (label, built) in models(bench, "chains")? {
        let mut policy = built.load()?.policy();
        let mut pools = |problems: &[Problem], what: &str| {
            bench.pools(&mut policy, task.as_ref(), problems, settings.samples, &format!("{label} {what}"))
        };
        let enough = chosen_threshold(&pools(&validation, "validation")?, &settings.thresholds);
        // The samples of `correctness` on the same problems.
        let drawn = pools(&test, "set 0")?;
        thresholds.push(format!("{enough}"));
        let (gated, counts) = gate_arm(&drawn, enough);
        let (mut blind, mut all) = (Arm::default(), Arm::default());
        for (pool, count) in drawn.iter().zip(dealt(&counts, bench.input.seed)) {
            blind.push(credit(majority_right(pool, count)), cost(pool, count, calls(count)));
            all.push(credit(majority_right(pool, pool.samples.len())), pool.spent(pool.samples.len()));
        }
        for (into, arm) in arms.iter_mut().zip([gated, blind, all]) {
            into.push(arm);
        }
    }
    let right = |arms: &[Arm], other: &[Arm]| -> Vec<Vec<f64>> {
        let pairs = arms.iter().zip(other);
        pairs.map(|(a, b)| a.right.iter().zip(&b.right).map(|(a, b)| a - b).collect()).collect()
    };
    let [gated, blind, all] = &arms;
    findings.estimates.insert("gate-kept".into(), bench.over(&right(gated, all))?);
    findings.estimates.insert("gate-gain".into(), bench.over(&right(gated, blind))?);
    let flat =
        |arms: &[Arm]| -> Vec<f64> { arms.iter().flat_map(|arm| &arm.spent).map(|&s| tokens(s)).collect() };
    let resampling = Resampling::new(bench.bootstrap, gated.len());
    let spent: Vec<[f64; 2]> =
        flat(gated).into_iter().zip(flat(all)).map(|(part, all)| [part, all]).collect();
    let share =
        resampling.sums("share of the tokens", &spent, |[part, all]| (all > 0.0).then(|| part / all))?;
    if let Some(share) = share {
        let saved = Interval { value: 1.0 - share.value, low: 1.0 - share.high, high: 1.0 - share.low };
        findings.estimates.insert("gate-saved".into(), saved);
    }
    let pooled = |arms: &[Arm]| {
        let mut one = Arm::default();
        for arm in arms {
            one.right.extend(&arm.right);
            one.spent.extend(&arm.spent);
        }
        one
    };
    let (gated, blind, all) = (pooled(gated), pooled(blind), pooled(all));
    let note = format!(
        "First {FIRST}, then {MORE} at a time; thresholds on the agreement of pairs, chosen on validation problems, per \
         seed: {}. Blind: the same numbers of samples, dealt to other problems. All: one call.",
        thresholds.join(", ")
    );
    let named = [
        ("until they agree".to_string(), &gated),
        ("as many, blind".into(), &blind),
        (format!("all {}", settings.samples), &all),
    ];
    findings.tables.push(arms_table(
        "Sampling until the answers agree",
        &note,
        "accuracy",
        &resampling,
        &named,
    )?);
    Ok(())
}

/// Consistency and accuracy of each question.
struct Measured {
    agreement: Vec<f64>,
    right: Vec<f64>,
}

impl Measured {
    fn of(pools: &[Pool]) -> Self {
        let share = |pool: &Pool| mean(&pool.samples.iter().map(|s| credit(s.correct)).collect::<Vec<_>>());
        Measured {
            agreement: pools.iter().map(|pool| agreement(&labels(pool))).collect(),
            right: pools.iter().map(share).collect(),
        }
    }

    fn agreement(&self) -> &Vec<f64> {
        &self.agreement
    }

    fn right(&self) -> &Vec<f64> {
        &self.right
    }
}

/// One of the two, for every question.
type Field = fn(&Measured) -> &Vec<f64>;

/// One sample of each question with the most frequent answer, where two samples have it: what the model believes.
fn believed<'p>(problems: &'p [Problem], pools: &'p [Pool]) -> Vec<(&'p Problem, &'p str)> {
    let mut rows = Vec::new();
    for (problem, pool) in problems.iter().zip(pools) {
        let answers: Vec<Option<&str>> = pool.samples.iter().map(|sample| sample.answer.as_deref()).collect();
        let votes = majority(&answers, |left, right| left == right);
        if let Some(winner) = votes.winner
            && votes.counts[winner] > 1
        {
            let with = votes.groups.of.iter().zip(&pool.samples).filter(|(group, _)| **group == Some(winner));
            let mut texts: Vec<&str> = with.map(|(_, sample)| sample.text.as_str()).collect();
            texts.sort_unstable();
            texts.dedup();
            rows.extend(texts.into_iter().map(|text| (problem, text)));
        }
    }
    rows
}

/// I4.
pub(super) fn weights(bench: &Bench<'_>, findings: &mut Findings) -> Result<(), RecipeError> {
    let settings = bench.settings;
    let task = bench.task(&json!({}))?;
    // Where there is a difference the biased model believes something wrong.
    let with_difference = |problems: Vec<Problem>| -> Vec<Problem> {
        let has = |problem: &Problem| problem.compact.as_deref().is_some_and(|text| text.contains('-'));
        problems.into_iter().filter(has).collect()
    };
    let training =
        with_difference(bench.problems(task.as_ref(), Split::Train, settings.train_questions, 70)?);
    let test = with_difference(bench.problems(task.as_ref(), Split::Test, settings.questions, 71)?);
    let mut table = Table::new(
        "Weights updated on the majority's answers",
        ["model", "pairs that agree, before", "after", "right samples, before", "after", "training rows"],
    )
    .note("Problems of 4 to 6 steps with a difference in them; no verifier is looked at in training.");
    for (name, id, shown) in
        [("chains", "honest", "honest"), ("chains-biased", "biased", "with the systematic error")]
    {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        let mut rows = 0;
        for (label, built) in models(bench, name)? {
            let mut policy = built.load()?.policy();
            let pools = |policy: &mut dyn Policy, problems: &[Problem], what: &str| {
                bench.pools(
                    policy,
                    task.as_ref(),
                    problems,
                    settings.train_samples,
                    &format!("{label} {what}"),
                )
            };
            before.push(Measured::of(&pools(&mut policy, &test, "before")?));
            let drawn = pools(&mut policy, &training, "own answers")?;
            let believed = believed(&training, &drawn);
            rows += believed.len();
            let mut trained =
                fit(bench.input, &policy, &settings.train, &format!("{label} updated"), || {
                    let rows: Result<Vec<_>, RecipeError> = believed
                        .iter()
                        .map(|(problem, text)| {
                            Ok(vec![text_row(&policy, &Skill::Solve.prompt(problem, &[]), text)?])
                        })
                        .collect();
                    Ok((rows?, settings.train.batch))
                })?;
            after.push(Measured::of(&pools(trained.as_mut(), &test, "after")?));
        }
        let of = |measured: &[Measured], field: Field| -> Vec<Vec<f64>> {
            measured.iter().map(|one| field(one).clone()).collect()
        };
        let (c, right) = (Measured::agreement as Field, Measured::right as Field);
        let rise = |field: Field| -> Result<Interval, RecipeError> {
            let pairs = after.iter().zip(&before);
            let rows: Vec<Vec<f64>> =
                pairs.map(|(a, b)| field(a).iter().zip(field(b)).map(|(a, b)| a - b).collect()).collect();
            bench.over(&rows)
        };
        findings.estimates.insert(format!("{id}-consistency"), rise(c)?);
        let accuracy = rise(right)?;
        let estimate = match id {
            "honest" => accuracy,
            // What is left of one point: a rise of less than that counts as none.
            _ => Interval {
                value: 0.01 - accuracy.value,
                low: 0.01 - accuracy.high,
                high: 0.01 - accuracy.low,
            },
        };
        findings.estimates.insert(format!("{id}-accuracy"), estimate);
        table = table.row([
            Cell::Text(shown.into()),
            Cell::PercentInterval(bench.over(&of(&before, c))?),
            Cell::PercentInterval(bench.over(&of(&after, c))?),
            Cell::PercentInterval(bench.over(&of(&before, right))?),
            Cell::PercentInterval(bench.over(&of(&after, right))?),
            Cell::Count(rows as u64),
        ]);
    }
    findings.tables.push(table);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reproduce::pool::Sample;

    fn pool(answers: &[Option<&str>], right: &str) -> Pool {
        let sample = |answer: &Option<&str>| Sample {
            text: format!("x#{}", answer.unwrap_or_default()),
            answer: answer.map(str::to_string),
            correct: *answer == Some(right),
            tokens: 10,
            sum_logprob: -1.0,
        };
        Pool { prompt_tokens: 5, samples: answers.iter().map(sample).collect() }
    }

    #[test]
    fn a_gate_pays_for_every_look() {
        let same = pool(&[Some("4"); 9], "4");
        let (arm, counts) = gate_arm(std::slice::from_ref(&same), 0.9);
        assert_eq!((counts[0], arm.spent[0].read, arm.spent[0].written), (3, 5.0, 30.0));
        let split = pool(&[Some("4"), Some("5"), Some("4"), Some("4"), Some("4"), Some("4"), Some("4")], "4");
        let (arm, counts) = gate_arm(&[split], 0.6);
        // 1 of 3 pairs, 6 of 10.
        assert_eq!((counts[0], arm.spent[0].read), (5, 10.0));
    }

    #[test]
    fn the_blind_arm_spends_the_same() {
        let counts: Vec<usize> = (0..50).map(|i| 3 + i % 7).collect();
        let mut blind = dealt(&counts, 3);
        assert_ne!(blind, counts);
        let (mut left, mut right) = (counts, Vec::new());
        right.append(&mut blind);
        left.sort_unstable();
        right.sort_unstable();
        assert_eq!(left, right);
    }

    #[test]
    fn the_lowest_threshold_that_loses_nothing_is_taken() {
        // After three samples the wrong answer leads with a third of the pairs.
        let late = pool(
            &[
                Some("5"),
                Some("5"),
                Some("4"),
                Some("4"),
                Some("4"),
                Some("4"),
                Some("4"),
                Some("4"),
                Some("4"),
            ],
            "4",
        );
        assert_eq!(chosen_threshold(&[late], &[0.5, 0.3]), 0.5);
        let easy = pool(&[Some("4"); 5], "4");
        assert_eq!(chosen_threshold(&[easy], &[0.5, 0.3]), 0.3);
    }

    #[test]
    fn what_nobody_repeats_is_not_believed() {
        let problems = [Problem::new("a", "t", "q"), Problem::new("b", "t", "q")];
        let pools = [
            pool(&[Some("1"), Some("2"), Some("2"), None], "1"),
            pool(&[Some("1"), Some("2"), None, None], "1"),
        ];
        let rows: Vec<(&str, &str)> = believed(&problems, &pools)
            .into_iter()
            .map(|(problem, text)| (problem.id.as_str(), text))
            .collect();
        assert_eq!(rows, [("a", "x#2")], "the majority's text once, right or not; no majority of one");
    }
}
