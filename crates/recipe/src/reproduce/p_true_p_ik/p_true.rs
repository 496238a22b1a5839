//! P(True): own samples, judged by the model that drew them.

use super::{Grouped, Settings, auroc, difference, ece, over_questions};
use crate::RecipeError;
use crate::lab::own_judge::{judge_prompt, p_true};
use crate::reproduce::resampling::Resampling;
use crate::reproduce::{Findings, Reproduce};
use elenchus_learn::policy::Encode;
use elenchus_learn::rollouts::{Judged, RolloutSettings, judged_rollouts, mix};
use elenchus_learn::{NativePolicy, Session};
use elenchus_measure::{
    Ballot, Binning, Bootstrap, Cell, Interval, Judgement, Judgements, Table, at_temperature, fit_temperature,
};
use elenchus_task::{Split, Task};
use serde::{Deserialize, Serialize};

/// Samples that are judged and shown.
const SHOWN: usize = 5;
/// Samples of the baseline that spends more on samples instead of judging.
const DRAWN: usize = 10;
/// Seeds without which nothing is said of most seeds.
const LEAST_SEEDS: usize = 3;
/// Questions whose samples are kept together.
const UNIT: usize = 50;

/// What is known of one sample.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Told {
    right: bool,
    /// P(True) alone, in both orders of the labels.
    plain: [f64; 2],
    /// P(True) beside the other samples, in both orders.
    beside: [f64; 2],
    /// Share of the five samples that have its answer.
    share: f64,
    /// Share of all ten.
    share_of_all: f64,
}

impl Told {
    fn plain(&self) -> f64 {
        (self.plain[0] + self.plain[1]) / 2.0
    }

    fn beside(&self) -> f64 {
        (self.beside[0] + self.beside[1]) / 2.0
    }
}

/// Tokens per question, for the budgets.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Spent {
    sampled_of_shown: usize,
    sampled_of_all: usize,
    judged_plain: usize,
    judged_beside: usize,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Asked {
    questions: Vec<Vec<Told>>,
    /// Chance that the majority of all ten samples is right, ties shared.
    votes: Vec<f64>,
    spent: Spent,
}

/// The test questions of every model and seed, and the temperatures fitted on validation.
struct Seed {
    test: Asked,
    temperature_plain: f64,
    temperature_beside: f64,
}

pub(super) fn run(
    input: &Reproduce<'_>,
    settings: &Settings,
    findings: &mut Findings,
) -> Result<(), RecipeError> {
    let task = elenchus_task::task("arithmetic", &serde_json::json!({ "steps": [2, 8] }))?;
    let mut seeds = Vec::new();
    for (m, base) in input.models.iter().enumerate() {
        for &seed in &settings.seeds {
            let mut policy = input.lab_model("own-judge", base, seed)?.load()?.policy();
            let mut asked = |split, count| {
                let label = format!("p-true/{m}/{seed}/{split:?}").to_lowercase();
                ask(input, &mut policy, task.as_ref(), split, count, &label)
            };
            let validation = asked(Split::Validation, settings.validation)?;
            let test = asked(Split::Test, settings.questions)?;
            let fitted = |of: fn(&Told) -> f64| -> Result<f64, RecipeError> {
                let judged: Vec<Judgement> = judgements(&validation, of).into_iter().flatten().collect();
                Ok(fit_temperature(&judged)?)
            };
            let (temperature_plain, temperature_beside) = (fitted(Told::plain)?, fitted(Told::beside)?);
            seeds.push(Seed { test, temperature_plain, temperature_beside });
        }
    }
    report(input, &seeds, findings)
}

/// Draws, verifies and judges the samples of a split.
fn ask(
    input: &Reproduce<'_>,
    policy: &mut NativePolicy,
    task: &dyn Task,
    split: Split,
    count: usize,
    label: &str,
) -> Result<Asked, RecipeError> {
    let problems = task.problems(split, count, mix(input.seed, 30 + split as u64))?;
    input.session.observer.phase(0, label, count);
    let mut all = Asked::default();
    for (unit, chunk) in problems.chunks(UNIT).enumerate() {
        let (asked, replayed) = input.session.once(&format!("{label}/{unit}"), || {
            // The unit as a whole is kept; its samples need not be.
            let quiet =
                Session { run: None, observer: &elenchus_learn::Quiet, stop: input.session.stop.clone() };
            let settings = RolloutSettings {
                samples: DRAWN,
                temperature: 1.0,
                max_new_tokens: 160,
                seed: mix(mix(input.seed, 40 + split as u64), unit as u64),
                distributions: false,
            };
            let judged = judged_rollouts(policy, task, chunk, &settings, label, &quiet)?;
            let mut asked = Asked::default();
            for (problem, samples) in chunk.iter().zip(&judged) {
                let shown = &samples[..SHOWN];
                let tokens = |part: &[Judged]| part.iter().map(|j| j.rollout.tokens.len()).sum::<usize>();
                asked.spent.sampled_of_shown += tokens(shown);
                asked.spent.sampled_of_all += tokens(samples);
                let mut prompts = Vec::new();
                for answer in shown {
                    for beside in [&[][..], shown] {
                        for swapped in [false, true] {
                            prompts.push((judge_prompt(problem, beside, answer, swapped), swapped));
                        }
                    }
                }
                for (place, (prompt, _)) in prompts.iter().enumerate() {
                    let length = policy.encode(prompt)?.len() + 1;
                    let spent = &mut asked.spent;
                    *(if place % 4 < 2 { &mut spent.judged_plain } else { &mut spent.judged_beside }) +=
                        length;
                }
                let scores = p_true(policy, &prompts)?;
                let share = |answer: &Judged, among: &[Judged]| {
                    let same = |other: &&Judged| match (&answer.verdict.answer, &other.verdict.answer) {
                        (Some(a), Some(b)) => task.equivalent(problem, a, b),
                        _ => false,
                    };
                    among.iter().filter(same).count() as f64 / among.len().max(1) as f64
                };
                let verdicts = samples.iter().map(|j| (j.verdict.answer.as_deref(), j.verdict.is_correct()));
                asked.votes.push(Ballot::from_answers(verdicts)?.majority_at(DRAWN, 0)?);
                asked.questions.push(
                    shown
                        .iter()
                        .zip(scores.chunks(4))
                        .map(|(answer, p)| Told {
                            right: answer.verdict.is_correct(),
                            plain: [p[0], p[1]],
                            beside: [p[2], p[3]],
                            share: share(answer, shown),
                            share_of_all: share(answer, samples),
                        })
                        .collect(),
                );
            }
            Ok(asked)
        })?;
        input.session.observer.advance(chunk.len(), asked.spent.sampled_of_all, replayed);
        all.questions.extend(asked.questions);
        all.votes.extend(asked.votes);
        all.spent.sampled_of_shown += asked.spent.sampled_of_shown;
        all.spent.sampled_of_all += asked.spent.sampled_of_all;
        all.spent.judged_plain += asked.spent.judged_plain;
        all.spent.judged_beside += asked.spent.judged_beside;
    }
    Ok(all)
}

fn judgements(asked: &Asked, of: impl Fn(&Told) -> f64) -> Grouped {
    let one = |told: &Told| Judgement { confidence: of(told).clamp(0.0, 1.0), correct: told.right };
    asked.questions.iter().map(|question| question.iter().map(one).collect()).collect()
}

fn brier(lists: &[Judgements]) -> Option<f64> {
    Some(lists.first()?.brier())
}

/// Accuracy of what is kept, minus the accuracy of everything.
fn gain_of_kept(lists: &[Judgements]) -> Option<f64> {
    let all = lists.first()?;
    let kept = Judgements::new(all.sorted().iter().copied().filter(|j| j.confidence > 0.5)).ok()?;
    Some(kept.accuracy().value - all.accuracy().value)
}

/// Share of what is kept.
fn coverage(all: &Judgements) -> f64 {
    let kept = all.sorted().iter().filter(|j| j.confidence > 0.5).count();
    kept as f64 / all.count() as f64
}

/// Chance that the response with the highest score is right, ties shared.
fn best_is_right(question: &[Told], of: impl Fn(&Told) -> f64) -> f64 {
    let best = question.iter().map(&of).fold(f64::NEG_INFINITY, f64::max);
    let tied: Vec<&Told> = question.iter().filter(|told| of(told) == best).collect();
    tied.iter().filter(|told| told.right).count() as f64 / tied.len().max(1) as f64
}

/// The baseline that draws more.
const SHARE_OF_ALL: &str = "share of 10 samples";

/// One way to be confident, named.
type Way = (&'static str, fn(&Told) -> f64);

/// Share of seeds in which the comparison form has the better Brier score; the claim is about seeds, and fewer than three
/// tell nothing of two in three.
fn seeds_with_better_brier(seeds: &[Seed]) -> Option<Interval> {
    let better = |seed: &&Seed| {
        let of = |way: fn(&Told) -> f64| Judgements::new(judgements(&seed.test, way).into_iter().flatten());
        matches!((of(Told::plain), of(Told::beside)), (Ok(p), Ok(b)) if b.brier() < p.brier())
    };
    let count = seeds.iter().filter(better).count();
    (seeds.len() >= LEAST_SEEDS).then(|| Interval::exact(count as f64 / seeds.len() as f64))
}

fn report(input: &Reproduce<'_>, seeds: &[Seed], findings: &mut Findings) -> Result<(), RecipeError> {
    let resampling = Resampling::new(Bootstrap::default().seed(mix(input.seed, 50)), seeds.len());
    let pooled = |of: fn(&Told) -> f64| -> Grouped {
        seeds.iter().flat_map(|seed| judgements(&seed.test, of)).collect()
    };
    let (plain, beside) = (pooled(Told::plain), pooled(Told::beside));
    let (share, share_of_all) = (pooled(|t| t.share), pooled(|t| t.share_of_all));
    let scaled: Grouped = seeds
        .iter()
        .flat_map(|seed| judgements(&seed.test, |told| at_temperature(told.plain(), seed.temperature_plain)))
        .collect();
    let scaled_beside: Grouped = seeds
        .iter()
        .flat_map(|seed| {
            judgements(&seed.test, |told| at_temperature(told.beside(), seed.temperature_beside))
        })
        .collect();

    let mut tell = |id: &str, found: Option<Interval>| {
        if let Some(interval) = found {
            findings.estimates.insert(id.into(), interval);
        }
    };
    tell("p-true-auroc", over_questions(&resampling, "AUROC", &[&plain], auroc)?);
    tell("beside-brier", over_questions(&resampling, "Brier score", &[&plain, &beside], difference(brier))?);
    tell("kept-gain", over_questions(&resampling, "accuracy of what is kept", &[&plain], gain_of_kept)?);
    tell(
        "kept-gain-beside",
        over_questions(&resampling, "accuracy of what is kept", &[&beside], gain_of_kept)?,
    );
    tell(
        "beside-over-share",
        over_questions(&resampling, "AUROC", &[&beside, &share_of_all], difference(auroc))?,
    );
    tell(
        "temperature-ece",
        over_questions(&resampling, "calibration error", &[&plain, &scaled], difference(ece))?,
    );
    tell("beside-brier-seeds", seeds_with_better_brier(seeds));

    let questions: usize = seeds.iter().map(|seed| seed.test.questions.len()).sum();
    let per_question = |tokens: fn(&Spent) -> usize| {
        seeds.iter().map(|seed| tokens(&seed.test.spent)).sum::<usize>() as f64 / questions.max(1) as f64
    };
    let mut table = Table::new(
        "Confidence in own answers",
        [
            "confidence",
            "AUROC",
            "Brier",
            "ECE",
            "base accuracy",
            "accuracy above 0.5",
            "coverage",
            "the best is right",
            "samples and judge calls",
            "tokens per question",
        ],
    )
    .note(
        "Five samples of each question are judged; every row is about the same samples. ECE: 10 bins of equal numbers. P(True) \
         is the mean over both orders of the labels. The share of ten samples is the baseline that spends on samples what the \
         others spend on judging. 95 % intervals over questions and seeds.",
    );
    let judge = |t: fn(&Spent) -> usize| per_question(|s| s.sampled_of_shown) + per_question(t);
    let (alone, among): (fn(&Spent) -> usize, fn(&Spent) -> usize) =
        (|s| s.judged_plain, |s| s.judged_beside);
    let ways: [(Way, &Grouped, &str, f64); 6] = [
        (("P(True)", Told::plain), &plain, "5 + 10", judge(alone)),
        (("P(True), temperature fitted", Told::plain), &scaled, "5 + 10", judge(alone)),
        (("P(True) beside 5 samples", Told::beside), &beside, "5 + 10", judge(among)),
        (("the same, temperature fitted", Told::beside), &scaled_beside, "5 + 10", judge(among)),
        (("share of 5 samples", |t| t.share), &share, "5 + 0", per_question(|s| s.sampled_of_shown)),
        ((SHARE_OF_ALL, |t| t.share_of_all), &share_of_all, "10 + 0", per_question(|s| s.sampled_of_all)),
    ];
    for ((name, way), grouped, calls, tokens) in ways {
        let all = Judgements::new(grouped.iter().flatten().copied())?;
        // The share of ten chooses among all ten.
        let best: Vec<f64> = if name == SHARE_OF_ALL {
            seeds.iter().flat_map(|seed| seed.test.votes.iter().copied()).collect()
        } else {
            seeds.iter().flat_map(|seed| &seed.test.questions).map(|q| best_is_right(q, way)).collect()
        };
        let kept = gain_of_kept(std::slice::from_ref(&all)).map(|gain| gain + all.accuracy().value);
        table = table.row([
            Cell::Text(name.into()),
            all.auroc().map_or(Cell::Missing, |a| Cell::Number(a, 3)),
            Cell::Number(all.brier(), 3),
            Cell::Number(all.ece(Binning::EqualMass, super::BINS)?, 3),
            Cell::Percent(all.accuracy().value),
            kept.map_or(Cell::Missing, Cell::Percent),
            Cell::Percent(coverage(&all)),
            Cell::PercentInterval(resampling.mean(&best)?),
            Cell::Text(calls.into()),
            Cell::Number(tokens, 0),
        ]);
    }
    findings.tables.push(table);
    findings.tables.push(label_table(&resampling, seeds)?);
    Ok(())
}

/// What the labels themselves do: the same question in both orders.
fn label_table(resampling: &Resampling, seeds: &[Seed]) -> Result<Table, RecipeError> {
    let mut table = Table::new(
        "Both orders of the labels",
        ["form", "P(True), first order", "P(True), labels exchanged", "difference", "mean distance"],
    )
    .note("A judge without a preference for a label gives the same probability in both orders.");
    let forms: [(&str, fn(&Told) -> [f64; 2]); 2] =
        [("alone", |t| t.plain), ("beside 5 samples", |t| t.beside)];
    for (name, form) in forms {
        let mean = |of: fn([f64; 2]) -> f64| -> Result<Interval, RecipeError> {
            let values: Vec<f64> = seeds
                .iter()
                .flat_map(|seed| &seed.test.questions)
                .map(|q| q.iter().map(|told| of(form(told))).sum::<f64>() / q.len().max(1) as f64)
                .collect();
            resampling.mean(&values)
        };
        table = table.row([
            Cell::Text(name.into()),
            Cell::PercentInterval(mean(|p| p[0])?),
            Cell::PercentInterval(mean(|p| p[1])?),
            Cell::Points(mean(|p| p[0] - p[1])?),
            Cell::Points(mean(|p| (p[0] - p[1]).abs())?),
        ]);
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(right: bool, p: f64) -> Told {
        Told { right, plain: [p, p], beside: [p, p], share: p, share_of_all: p }
    }

    #[test]
    fn what_is_kept_is_told_with_its_coverage_and_ties_are_shared() {
        let judged = [(0.9, true), (0.8, true), (0.6, false), (0.3, false)]
            .map(|(confidence, correct)| Judgement { confidence, correct });
        let all = Judgements::new(judged).unwrap();
        assert!((gain_of_kept(std::slice::from_ref(&all)).unwrap() - (2.0 / 3.0 - 0.5)).abs() < 1e-12);
        assert_eq!(coverage(&all), 0.75);
        let none = Judgements::new([Judgement { confidence: 0.2, correct: true }]).unwrap();
        assert_eq!(gain_of_kept(&[none]), None, "nothing is kept: no accuracy, and not zero");
        let question = [told(true, 0.7), told(false, 0.7), told(false, 0.1)];
        assert_eq!(best_is_right(&question, Told::plain), 0.5);
    }

    #[test]
    fn fewer_than_three_seeds_do_not_tell_of_most_seeds() {
        let seed = |plain: f64, beside: f64| Seed {
            test: Asked {
                questions: vec![vec![Told { beside: [beside; 2], ..told(true, plain) }]],
                ..Asked::default()
            },
            temperature_plain: 1.0,
            temperature_beside: 1.0,
        };
        let better = || seed(0.5, 0.9);
        assert_eq!(seeds_with_better_brier(&[better()]), None);
        assert_eq!(seeds_with_better_brier(&[better(), better()]), None);
        let found = seeds_with_better_brier(&[better(), better(), seed(0.9, 0.5)]).unwrap();
        assert!((found.value - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn both_orders_count_the_same() {
        let told = Told { plain: [0.9, 0.5], ..told(true, 0.0) };
        assert!((told.plain() - 0.7).abs() < 1e-12);
    }
}
