//! Self-certainty (arXiv 2502.18581): selection and Borda votes by certainty, against vote, first answer and the model's own
//! choice, all on the same samples, so the budget is equal by construction; and selection among programs, against greedy
//! decoding.

mod choice;
mod programs;

use super::pool::{credit, mean, subset};
use super::resampling::Resampling;
use super::{Findings, Reproduce};
use crate::{RecipeError, models};
use elenchus_control::{Power, Rule, choose};
use elenchus_evaluate::{CertaintyMeasure, CertaintySettings, certainty};
use elenchus_learn::policy::Policy;
use elenchus_learn::rollouts::{RolloutSettings, judged_rollouts, mix};
use elenchus_measure::{
    Axis, Bootstrap, Cell, Chart, Interval, Plot, Scale, Section, Series, Table, auroc, pearson,
};
use elenchus_task::{Split, Task};
use elenchus_trace::{Completion, Problem};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Settings of the experiment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Test questions.
    questions: usize,
    /// Validation questions on which p is tuned.
    validation: usize,
    /// Samples per question.
    samples: usize,
    /// Numbers of samples at which methods are compared; subsets of the samples.
    sizes: Vec<usize>,
    /// Random subsets per question and size.
    draws: usize,
    /// Sampling temperature.
    temperature: f32,
    /// Exponents to tune over.
    powers: Vec<f64>,
    /// Questions of the open-ended task (Countdown), where no vote is possible; 0 leaves it out.
    open_questions: usize,
    /// Samples among which the model chooses itself (universal self-consistency); 0 leaves it out.
    choice_samples: usize,
    /// Programs with unit tests.
    programs: programs::Settings,
}

/// At this many samples the paper's claims about the most certain one are looked at.
const CLAIMED: usize = 16;

/// The scores that can be ranked by.
const MEASURES: &[(&str, CertaintyMeasure)] = &[
    ("self-certainty", CertaintyMeasure::KlUniform),
    ("mean log-probability", CertaintyMeasure::MeanLogprob),
    ("negative perplexity", CertaintyMeasure::NegativePerplexity),
    ("negative entropy", CertaintyMeasure::NegativeEntropy),
    ("Gini", CertaintyMeasure::Gini),
    ("distributional perplexity", CertaintyMeasure::DistributionalPerplexity),
];

/// One sample, as far as the methods look.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Scored {
    text: String,
    answer: Option<String>,
    correct: bool,
    length: usize,
    /// One per measure.
    scores: Vec<f64>,
}

type Questions = Vec<Vec<Scored>>;

/// How one sample is chosen.
#[derive(Debug, Clone, Copy)]
enum Method {
    First,
    Majority,
    Argmax(usize),
    Borda(f64),
    Sum,
    Mean,
}

impl Method {
    fn correct(self, samples: &[&Scored]) -> bool {
        let rule = match self {
            Method::First => Rule::First,
            Method::Majority => Rule::Majority,
            Method::Argmax(_) => Rule::Argmax { allow_unanswered: false },
            Method::Borda(p) => Rule::Borda { power: Power::Given(p), drop_unanswered: false },
            Method::Sum => Rule::Sum,
            Method::Mean => Rule::Mean,
        };
        let measure = if let Method::Argmax(measure) = self { measure } else { 0 };
        let answers: Vec<Option<&str>> = samples.iter().map(|s| s.answer.as_deref()).collect();
        let scores: Vec<Option<f64>> = samples.iter().map(|s| s.scores.get(measure).copied()).collect();
        // Answers are in the task's normal form, so equal means the same text. No choice is a wrong one.
        choose(rule, &answers, &scores, |a, b| a == b).is_ok_and(|choice| samples[choice.sample].correct)
    }
}

/// Accuracy per question, averaged over the draws of subsets. Subsets depend on question, size and draw alone, so all
/// methods see the same ones.
fn per_question(questions: &Questions, method: Method, size: usize, draws: usize, seed: u64) -> Vec<f64> {
    questions
        .iter()
        .enumerate()
        .map(|(q, samples)| {
            let draws = if size >= samples.len() { 1 } else { draws };
            let right = (0..draws).filter(|&d| {
                let chosen: Vec<&Scored> =
                    subset(seed, q, size, d, samples.len()).into_iter().map(|i| &samples[i]).collect();
                method.correct(&chosen)
            });
            right.count() as f64 / draws as f64
        })
        .collect()
}

/// How samples are drawn.
#[derive(Debug, Clone, Copy)]
struct Draw {
    samples: usize,
    temperature: f32,
}

/// 1 for every question whose first sample is right.
fn first_right(questions: &Questions) -> Vec<f64> {
    questions.iter().map(|samples| credit(samples.first().is_some_and(|sample| sample.correct))).collect()
}

/// Draws, verifies and scores the samples of a split.
fn collect(
    input: &Reproduce<'_>,
    policy: &mut dyn Policy,
    task: &dyn Task,
    split: Split,
    count: usize,
    draw: Draw,
    label: &str,
) -> Result<Questions, RecipeError> {
    let problems = questions(input, task, split, count)?;
    input.session.observer.phase(0, label, count);
    let rollouts = RolloutSettings {
        samples: draw.samples,
        temperature: draw.temperature,
        max_new_tokens: 160,
        seed: mix(input.seed, split as u64 + 20),
        distributions: true,
    };
    let mut questions = Vec::with_capacity(count);
    // Distributions of 64 samples per question are large; a unit is scored and dropped before the next is drawn.
    for (unit, chunk) in problems.chunks(32).enumerate() {
        let (scored, _) = input.session.once::<Questions>(&format!("{label}/scored/{unit}"), || {
            let quiet = elenchus_learn::Session {
                run: None,
                observer: input.session.observer,
                stop: input.session.stop.clone(),
            };
            let settings = RolloutSettings { seed: mix(rollouts.seed, unit as u64), ..rollouts.clone() };
            let judged = judged_rollouts(policy, task, chunk, &settings, label, &quiet)?;
            Ok(judged
                .into_iter()
                .map(|samples| {
                    samples
                        .into_iter()
                        .map(|j| {
                            let correct = j.verdict.is_correct();
                            let text = j.rollout.text;
                            let length = j.rollout.tokens.len();
                            let completion = Completion {
                                logprobs: j.rollout.logprobs,
                                distributions: j.rollout.distributions,
                                ..Completion::text("")
                            };
                            let score = |&(_, measure): &(&str, CertaintyMeasure)| {
                                let settings = CertaintySettings { measure, ..Default::default() };
                                certainty(&completion, &settings).unwrap_or(f64::NAN)
                            };
                            Scored {
                                text,
                                answer: j.verdict.answer,
                                correct,
                                length,
                                scores: MEASURES.iter().map(score).collect(),
                            }
                        })
                        .collect()
                })
                .collect())
        })?;
        questions.extend(scored);
    }
    Ok(questions)
}

/// Everything measured on one model.
struct PerModel {
    test: Questions,
    /// The tuned exponent per size.
    powers: BTreeMap<usize, f64>,
    open: Questions,
    open_greedy: Vec<f64>,
    choice: Option<choice::Choice>,
    programs: Vec<programs::Programs>,
    vocabulary: usize,
}

/// The seed of all subsets and intervals.
fn subset_seed(seed: u64) -> u64 {
    mix(seed, 99)
}

/// The questions of a split.
fn questions(
    input: &Reproduce<'_>,
    task: &dyn Task,
    split: Split,
    count: usize,
) -> Result<Vec<Problem>, RecipeError> {
    Ok(task.problems(split, count, mix(input.seed, split as u64 + 10))?)
}

/// Runs the experiment.
pub(super) fn run(input: &Reproduce<'_>) -> Result<Findings, RecipeError> {
    let settings: Settings = input.settings()?;
    let task = elenchus_task::task("arithmetic", &serde_json::Value::Null)?;
    let open_task = elenchus_task::task("countdown", &serde_json::Value::Null)?;
    let drawing = Draw { samples: settings.samples, temperature: settings.temperature };
    let mut models_found = Vec::new();
    for (m, name) in input.models.iter().enumerate() {
        let loaded = models::load(name)?;
        let vocabulary = loaded.model.config().vocab_size;
        let mut policy = loaded.policy();
        let label = |what: &str| format!("{what}/{m}");
        let validation = collect(
            input,
            &mut policy,
            task.as_ref(),
            Split::Validation,
            settings.validation,
            drawing,
            &label("validation"),
        )?;
        let test = collect(
            input,
            &mut policy,
            task.as_ref(),
            Split::Test,
            settings.questions,
            drawing,
            &label("test"),
        )?;
        let powers = settings
            .sizes
            .iter()
            .map(|&size| (size, tune(&validation, size, &settings, input.seed)))
            .collect();
        let (open, open_greedy) = if settings.open_questions > 0 {
            let questions = settings.open_questions;
            let name = label("open");
            let open =
                collect(input, &mut policy, open_task.as_ref(), Split::Test, questions, drawing, &name)?;
            let greedy = Draw { samples: 1, temperature: 0.0 };
            let name = label("open greedy");
            let greedy =
                collect(input, &mut policy, open_task.as_ref(), Split::Test, questions, greedy, &name)?;
            (open, first_right(&greedy))
        } else {
            (Vec::new(), Vec::new())
        };
        let choice = match settings.choice_samples {
            0 => None,
            count => Some(choice::choose(input, name, m, task.as_ref(), &test, count, settings.draws)?),
        };
        let programs = programs::measure(input, name, m, &settings.programs, drawing)?;
        models_found.push(PerModel { test, powers, open, open_greedy, choice, programs, vocabulary });
    }
    findings(input, &settings, &models_found)
}

/// The exponent with the highest validation accuracy; the smallest on a tie, which leans to the plain vote.
fn tune(validation: &Questions, size: usize, settings: &Settings, seed: u64) -> f64 {
    let mut best = (0.0, f64::NEG_INFINITY);
    for &p in &settings.powers {
        let accuracy = mean(&per_question(validation, Method::Borda(p), size, settings.draws, seed));
        if accuracy > best.1 + 1e-12 {
            best = (p, accuracy);
        }
    }
    best.0
}

/// Per-question values of a method over all models, one list after another: pooled over models and questions.
fn pooled(
    found: &[PerModel],
    settings: &Settings,
    seed: u64,
    size: usize,
    method: impl Fn(&PerModel) -> Method,
) -> Vec<f64> {
    found.iter().flat_map(|m| per_question(&m.test, method(m), size, settings.draws, seed)).collect()
}

fn findings(input: &Reproduce<'_>, settings: &Settings, found: &[PerModel]) -> Result<Findings, RecipeError> {
    let seed = subset_seed(input.seed);
    let resampling = Resampling::new(Bootstrap::default().seed(seed), found.len());
    let mut findings = Findings::default();
    let at = |size, method: &dyn Fn(&PerModel) -> Method| pooled(found, settings, seed, size, method);
    let paired = |a: &[f64], b: &[f64]| resampling.paired(a, b);
    let argmax = |measure| move |_: &PerModel| Method::Argmax(measure);
    let borda = |size| move |m: &PerModel| Method::Borda(m.powers.get(&size).copied().unwrap_or(0.0));
    let sizes = &settings.sizes;
    let (small, large) = (CLAIMED, sizes.iter().copied().max().unwrap_or(CLAIMED));

    findings
        .estimates
        .insert("argmax-over-first".into(), paired(&at(small, &argmax(0)), &at(small, &|_| Method::First))?);
    findings
        .estimates
        .insert("argmax-scales".into(), paired(&at(large, &argmax(0)), &at(small, &argmax(0)))?);
    let gains: Vec<Vec<f64>> = sizes
        .iter()
        .map(|&n| {
            let (a, b) = (at(n, &borda(n)), at(n, &|_| Method::Majority));
            a.iter().zip(&b).map(|(a, b)| a - b).collect()
        })
        .collect();
    let questions = gains.first().map_or(0, Vec::len);
    let mean_gain: Vec<f64> =
        (0..questions).map(|q| gains.iter().map(|g| g[q]).sum::<f64>() / gains.len() as f64).collect();
    findings.estimates.insert("borda-over-majority".into(), resampling.mean(&mean_gain)?);
    if let Some(worst) = gains.iter().min_by(|a, b| mean(a).total_cmp(&mean(b))) {
        findings.estimates.insert("borda-worst-size".into(), resampling.mean(worst)?);
    }
    findings.estimates.insert(
        "argmax-below-majority".into(),
        paired(&at(small, &|_| Method::Majority), &at(small, &argmax(0)))?,
    );
    let others = |n| [at(n, &|_| Method::Majority), at(n, &|_| Method::Sum), at(n, &borda(n))];
    let weakest = others(large).into_iter().min_by(|a, b| mean(a).total_cmp(&mean(b))).unwrap_or_default();
    findings.estimates.insert("mean-rule-worst".into(), paired(&weakest, &at(large, &|_| Method::Mean))?);
    let smallest = sizes.iter().copied().min().unwrap_or(small);
    findings.estimates.insert(
        "mean-rule-falls".into(),
        paired(&at(smallest, &|_| Method::Mean), &at(large, &|_| Method::Mean))?,
    );
    let power = |n: &usize| mean(&found.iter().filter_map(|m| m.powers.get(n).copied()).collect::<Vec<_>>());
    findings.estimates.insert("power-grows".into(), Interval::exact(power(&large) - power(&smallest)));
    let correlation = |measure: usize| -> Result<f64, RecipeError> {
        let all =
            || found.iter().flat_map(|m| m.test.iter().flatten()).filter(|s| s.scores[measure].is_finite());
        let scores: Vec<f64> = all().map(|s| s.scores[measure]).collect();
        let lengths: Vec<f64> = all().map(|s| s.length as f64).collect();
        Ok(pearson(&scores, &lengths)?.unwrap_or(0.0))
    };
    findings
        .estimates
        .insert("length".into(), Interval::exact(correlation(1)?.abs() - correlation(0)?.abs()));
    // The same comparison with the best of the other measures, which the sheet asks for when self-certainty fails.
    findings
        .estimates
        .insert("entropy-over-first".into(), paired(&at(small, &argmax(3)), &at(small, &|_| Method::First))?);
    if found.iter().any(|m| !m.open.is_empty()) {
        let greedy: Vec<f64> = found.iter().flat_map(|m| m.open_greedy.iter().copied()).collect();
        let chosen: Vec<f64> = found
            .iter()
            .flat_map(|m| per_question(&m.open, Method::Argmax(0), small, settings.draws, seed))
            .collect();
        findings.estimates.insert("open-ended".into(), paired(&chosen, &greedy)?);
    }
    let choices: Vec<&choice::Choice> = found.iter().filter_map(|m| m.choice.as_ref()).collect();
    let chosen: Vec<f64> = choices.iter().flat_map(|choice| choice.right.iter().copied()).collect();
    if !choices.is_empty() {
        let count = settings.choice_samples;
        findings
            .estimates
            .insert("majority-over-choice".into(), paired(&at(count, &|_| Method::Majority), &chosen)?);
        findings.notes.push(choice::note(&choices, count));
    }

    let mut curves: Vec<(String, Vec<(f64, Interval)>)> = Vec::new();
    let mut table = Table::new(
        "Accuracy by number of samples",
        std::iter::once("method".to_string()).chain(sizes.iter().map(|n| format!("N = {n}"))),
    )
    .note("All methods choose among the same samples; 95 % bootstrap intervals over questions.");
    let mut line = |name: String, method: &dyn Fn(usize, &PerModel) -> Method| -> Result<(), RecipeError> {
        let intervals = sizes
            .iter()
            .map(|&n| resampling.mean(&pooled(found, settings, seed, n, |m| method(n, m))))
            .collect::<Result<Vec<Interval>, RecipeError>>()?;
        let cells = std::iter::once(Cell::Text(name.clone()))
            .chain(intervals.iter().map(|i| Cell::PercentInterval(*i)));
        table = table.clone().row(cells);
        curves.push((name, sizes.iter().map(|&n| n as f64).zip(intervals).collect()));
        Ok(())
    };
    line("first answer".into(), &|_, _| Method::First)?;
    line("majority".into(), &|_, _| Method::Majority)?;
    line("Borda, tuned p".into(), &|n, m| borda(n)(m))?;
    line("sum of certainty".into(), &|_, _| Method::Sum)?;
    line("mean certainty per answer".into(), &|_, _| Method::Mean)?;
    for (index, (name, _)) in MEASURES.iter().enumerate() {
        line(format!("argmax {name}"), &|_, _| Method::Argmax(index))?;
    }
    if !choices.is_empty() {
        let interval = resampling.mean(&chosen)?;
        let cells = sizes.iter().map(|&n| match n == settings.choice_samples {
            true => Cell::PercentInterval(interval),
            false => Cell::Missing,
        });
        let name = Cell::Text("choice of the model itself (USC)".into());
        table = table.row(std::iter::once(name).chain(cells));
    }
    findings.tables.push(table);

    let mut quality = Table::new("Measures", ["measure", "AUROC", "correlation with length"])
        .note("AUROC of right against wrong over all samples.");
    for (index, (name, _)) in MEASURES.iter().enumerate() {
        let all =
            || found.iter().flat_map(|m| m.test.iter().flatten()).filter(|s| s.scores[index].is_finite());
        let scores: Vec<f64> = all().map(|s| s.scores[index]).collect();
        let correct: Vec<bool> = all().map(|s| s.correct).collect();
        quality = quality.row([
            Cell::Text((*name).into()),
            auroc(&scores, &correct)?.map_or(Cell::Missing, |a| Cell::Number(a, 3)),
            Cell::Number(correlation(index)?, 3),
        ]);
    }
    findings.tables.push(quality);
    let mut tuned =
        Table::new("Tuned exponent", ["N", "p"]).note("Tuned on validation questions; mean over models.");
    for n in sizes {
        tuned = tuned.row([Cell::Count(*n as u64), Cell::Number(power(n), 2)]);
    }
    findings.tables.push(tuned);
    programs::report(input, settings, found, &mut findings)?;
    let shown = curves.into_iter().take(6).map(|(name, points)| Series::new(name, points)).collect();
    findings.sections.push(Section::plots(
        "Accuracy against samples",
        vec![Plot::new(
            "Accuracy against samples",
            "Shaded: 95 % intervals over questions.",
            Chart::Line {
                x: Axis::new("samples N", Scale::Number),
                y: Axis::new("accuracy", Scale::Percent),
                series: shown,
            },
        )],
    ));
    let vocabulary: Vec<String> = found.iter().map(|m| m.vocabulary.to_string()).collect();
    findings.notes.push(format!(
        "Vocabulary V = {}. The paper's models have V = 128,000; with a small V the divergence from uniform is less \
         driven by the tail of the distribution.",
        vocabulary.join(", ")
    ));
    findings.notes.push(
        "The paper's claim about answers that no vote can compare is about programs with unit tests; Countdown, whose answers are \
         expressions, stands beside it."
            .into(),
    );
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(answer: &str, score: f64) -> Scored {
        Scored {
            text: format!("#{answer}"),
            answer: Some(answer.into()),
            correct: answer == "A",
            length: 1,
            scores: vec![score],
        }
    }

    #[test]
    fn both_sizes_can_be_read_and_compare_at_the_sizes_of_the_claims() {
        let experiment = crate::built_in("self-certainty").unwrap().reproduce.unwrap();
        for size in [experiment.quick, experiment.full] {
            let settings: Settings = serde_json::from_value(size).unwrap();
            assert!(settings.sizes.contains(&CLAIMED));
            assert!(settings.choice_samples == 0 || settings.sizes.contains(&settings.choice_samples));
        }
    }

    #[test]
    fn the_sheet_s_five_samples() {
        let samples =
            [sample("A", 9.0), sample("A", 8.0), sample("B", 3.0), sample("B", 2.0), sample("B", 1.0)];
        let all: Vec<&Scored> = samples.iter().collect();
        assert!(!Method::Majority.correct(&all), "B has three votes");
        assert!(!Method::Borda(0.0).correct(&all), "p = 0 is the majority");
        for p in [0.5, 1.0, 2.0] {
            assert!(Method::Borda(p).correct(&all), "A wins by rank at p = {p}");
        }
    }

    #[test]
    fn methods_see_the_same_subsets() {
        let question: Vec<Scored> =
            (0..40).map(|i| sample(if i % 3 == 0 { "A" } else { "B" }, 1.0)).collect();
        let questions = vec![question];
        let a = per_question(&questions, Method::First, 8, 20, 5);
        let b = per_question(&questions, Method::Argmax(0), 8, 20, 5);
        assert_eq!(a, b, "with equal scores the best is the first of the same subset");
    }
}
