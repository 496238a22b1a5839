//! Confidence and critique (arXiv 2412.19513): what a second try keeps (CL) and repairs (CS), and training that moves
//! each of them. Arms differ in their rows only: same start, same optimiser steps, same tokens per step.

use super::label_correction::{self, Estimates, LabelSettings};
use super::pool::mean_tokens;
use super::resampling::Resampling;
use super::{Findings, Reproduce};
use crate::{RecipeError, models};
use elenchus_learn::objective::TrainingRow;
use elenchus_learn::policy::{Policy, RolloutRequest, text_row};
use elenchus_learn::rollouts::mix;
use elenchus_learn::trainer::TrainSettings;
use elenchus_measure::{
    Axis, Bootstrap, Cell, Chart, CorrectionQuestion, Dialogue, Interval, Plot, Scale, Section,
    SelfCorrection, SelfCorrectionIntervals, Series, Table, self_correction, self_correction_intervals,
};
use elenchus_task::{Skill, Split, Task};
use elenchus_trace::Problem;
use serde::{Deserialize, Serialize};

/// Settings of the experiment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Training questions.
    train_questions: usize,
    /// Own samples per training question, from which wrong first answers are taken.
    train_samples: usize,
    /// Training of each arm. `batch` counts rows of the longest arm; the others get more rows for the same tokens.
    train: TrainSettings,
    /// Test questions.
    questions: usize,
    /// S: dialogues per question.
    dialogues: usize,
    /// Shares of confidence rows in the ratio sweep, beside 0, 0.5 and 1, which are arms of their own.
    ratios: Vec<f64>,
    /// Training seeds per model.
    seeds: usize,
    /// The two ways to estimate, compared.
    labels: LabelSettings,
}

/// What an arm learns from.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Rows {
    /// `q → y*`
    Plain,
    /// Share of confidence rows `q, y*, again → y*`; the rest critique rows `q, own wrong answer, again → y*`.
    Again(f64),
    /// Half plain, half `Again(0.5)`.
    Both,
    /// As `Again(0.5)` with a control token that tells which kind it is.
    Steered,
}

/// Control tokens: "sure" stands before answers to be kept, "check" before answers to be repaired.
const SURE: &str = "Y!";
const CHECK: &str = "N!";

/// The training material, made once from the starting model.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Material {
    problem: Problem,
    reference: String,
    /// Own wrong answers, distinct.
    wrong: Vec<String>,
}

/// Dialogues of every test question.
type Dialogues = Vec<Vec<Dialogue>>;

struct Arm {
    name: String,
    rows: Rows,
    /// Text behind the first answer at test time.
    token: &'static str,
    /// One entry per model and seed.
    dialogues: Vec<Dialogues>,
}

/// Runs the experiment.
pub(super) fn run(input: &Reproduce<'_>) -> Result<Findings, RecipeError> {
    let settings: Settings = input.settings()?;
    let task = elenchus_task::task("arithmetic", &serde_json::Value::Null)?;
    let task = task.as_ref();
    let arm = |name: &str, rows, token| Arm { name: name.into(), rows, token, dialogues: Vec::new() };
    let mut arms = vec![
        arm("SFT", Rows::Plain, ""),
        arm("CLT", Rows::Again(1.0), ""),
        arm("CST", Rows::Again(0.0), ""),
        arm("CCT", Rows::Again(0.5), ""),
        arm("SFT+CCT", Rows::Both, ""),
        arm("steered, sure", Rows::Steered, SURE),
        arm("steered, check", Rows::Steered, CHECK),
    ];
    let mut sweep: Vec<Arm> = settings
        .ratios
        .iter()
        .map(|&r| arm(&format!("{:.0} % CLT", 100.0 * r), Rows::Again(r), ""))
        .collect();
    let mut start = arm("start", Rows::Plain, "");
    let mut resample: Vec<Vec<[f64; 3]>> = Vec::new();
    let test = task.problems(Split::Test, settings.questions, mix(input.seed, 1))?;
    let mut estimates = Vec::new();
    for (m, name) in input.models.iter().enumerate() {
        let mut policy = models::load(name)?.policy();
        let material = material(input, &settings, &mut policy, task, &format!("{m}"))?;
        let key = |what: &str, seed: usize| format!("{m}/{seed}/{what}");
        start.dialogues.push(measure(input, &settings, &mut policy, task, &test, "", &key("start", 0))?);
        estimates.push(label_correction::run(input, settings.labels, &mut policy, name)?);
        for seed in 0..settings.seeds {
            let mut trained: Option<(Rows, Box<dyn Policy>)> = None;
            for arm in arms.iter_mut().chain(&mut sweep) {
                // The two readings of the steered arm share one training.
                if trained.as_ref().is_none_or(|(rows, _)| *rows != arm.rows) {
                    trained = Some((
                        arm.rows,
                        fit(input, &settings, &policy, &material, arm, &key(&arm.name, seed))?,
                    ));
                }
                let Some((_, model)) = &mut trained else { continue };
                let label = key(&arm.name, seed);
                arm.dialogues.push(measure(
                    input,
                    &settings,
                    model.as_mut(),
                    task,
                    &test,
                    arm.token,
                    &label,
                )?);
                if arm.name == "SFT" {
                    resample.push(independent(input, &settings, model.as_mut(), task, &test, &label)?);
                }
            }
        }
    }
    let mut findings = findings(input, &settings, &start, &arms, &sweep, &resample)?;
    compared(&mut findings, &estimates, settings.labels);
    Ok(findings)
}

/// How far the estimates from label probabilities and from sampled dialogues lie apart.
fn compared(findings: &mut Findings, estimates: &[Estimates], settings: LabelSettings) {
    let mut table =
        Table::new("Two estimates on four-option questions", ["estimate", "Acc1", "Acc2", "CL", "CS"])
            .note("The starting model, answering at once; the same questions, one pair of rows per model.");
    let optional = |value: Option<f64>| value.map_or(Cell::Missing, Cell::Percent);
    for found in estimates {
        for (name, m) in [("label probabilities", &found.labels), ("sampled dialogues", &found.samples)] {
            table = table.row([
                Cell::Text(name.into()),
                Cell::Percent(m.acc1),
                Cell::Percent(m.acc2),
                optional(m.cl),
                optional(m.cs),
            ]);
        }
    }
    findings.tables.push(table);
    if let Some(largest) = estimates.iter().map(Estimates::distance).reduce(f64::max) {
        findings.estimates.insert("labels-agree".into(), Interval::exact(-largest));
    }
    findings.notes.push(format!(
        "Label probabilities against {} sampled dialogues per question, {} questions.",
        settings.dialogues, settings.questions
    ));
}

/// Reference solutions and own wrong answers on training questions.
fn material(
    input: &Reproduce<'_>,
    settings: &Settings,
    policy: &mut dyn Policy,
    task: &dyn Task,
    label: &str,
) -> Result<Vec<Material>, RecipeError> {
    let problems = task.problems(Split::Train, settings.train_questions, mix(input.seed, 2))?;
    input.session.observer.phase(0, "own answers", problems.len());
    let (found, replayed) = input.session.once(&format!("{label}/material"), || {
        let answers = sample(
            policy,
            &problems,
            &|p| Skill::Solve.prompt(p, &[]),
            settings.train_samples,
            mix(input.seed, 3),
        )?;
        let mut found = Vec::new();
        for (problem, answers) in problems.iter().zip(answers) {
            let Some(reference) = task.reference(problem) else { continue };
            let mut wrong = Vec::new();
            for text in answers {
                if !task.verify(problem, &text)?.is_correct() && !wrong.contains(&text) {
                    wrong.push(text);
                }
            }
            found.push(Material { problem: problem.clone(), reference, wrong });
        }
        Ok(found)
    })?;
    input.session.observer.advance(problems.len(), 0, replayed);
    Ok(found)
}

/// Texts of samples at temperature 1.
fn sample(
    policy: &mut dyn Policy,
    problems: &[Problem],
    prompt: &dyn Fn(&Problem) -> String,
    samples: usize,
    seed: u64,
) -> Result<Vec<Vec<String>>, elenchus_learn::LearnError> {
    let requests: Vec<RolloutRequest> =
        problems.iter().enumerate().map(|(i, p)| request(prompt(p), samples, mix(seed, i as u64))).collect();
    Ok(policy.sample(&requests)?.into_iter().map(|s| s.into_iter().map(|r| r.text).collect()).collect())
}

fn request(prompt: String, samples: usize, seed: u64) -> RolloutRequest {
    RolloutRequest { prompt, samples, seed, temperature: 1.0, max_new_tokens: 160, distributions: false }
}

/// The rows of an arm: one per training question and kind it calls for, in the proportion it calls for.
fn rows_of(
    rows: Rows,
    material: &[Material],
    policy: &dyn Policy,
) -> Result<Vec<Vec<TrainingRow>>, RecipeError> {
    let plain = |m: &Material| text_row(policy, &Skill::Solve.prompt(&m.problem, &[]), &m.reference);
    let again = |m: &Material, first: &str, token: &str| {
        text_row(policy, &format!("{}{token}", Skill::Again.prompt(&m.problem, &[first])), &m.reference)
    };
    // Critique rows need a wrong answer; confidence rows are drawn from the same questions so that only the kind of
    // first answer differs.
    let usable: Vec<&Material> = material.iter().filter(|m| !m.wrong.is_empty()).collect();
    let mut out = Vec::new();
    for (i, m) in usable.iter().enumerate() {
        let wrong = &m.wrong[i % m.wrong.len()];
        // A fixed quasi-random order gives every share its exact proportion.
        let place = (i as f64 * 0.618_033_988_749_895).fract();
        let row = match rows {
            Rows::Plain => plain(m)?,
            Rows::Again(share) if place < share => again(m, &m.reference, "")?,
            Rows::Again(_) => again(m, wrong, "")?,
            Rows::Both if place < 0.5 => plain(m)?,
            Rows::Both if place < 0.75 => again(m, &m.reference, "")?,
            Rows::Both => again(m, wrong, "")?,
            Rows::Steered if place < 0.5 => again(m, &m.reference, SURE)?,
            Rows::Steered => again(m, wrong, CHECK)?,
        };
        out.push(vec![row]);
    }
    Ok(out)
}

/// A copy of the start, trained on the rows of an arm.
fn fit(
    input: &Reproduce<'_>,
    settings: &Settings,
    start: &dyn Policy,
    material: &[Material],
    arm: &Arm,
    label: &str,
) -> Result<Box<dyn Policy>, RecipeError> {
    super::pool::fit(input, start, &settings.train, label, || {
        let rows = rows_of(arm.rows, material, start)?;
        let longest = mean_tokens(&rows_of(Rows::Steered, material, start)?);
        let batch = (settings.train.batch as f64 * longest / mean_tokens(&rows)).round() as usize;
        Ok((rows, batch))
    })
}

/// S dialogues per question: an answer, then an answer to the same question with the first one shown. No hint.
fn measure(
    input: &Reproduce<'_>,
    settings: &Settings,
    policy: &mut dyn Policy,
    task: &dyn Task,
    test: &[Problem],
    token: &str,
    label: &str,
) -> Result<Dialogues, RecipeError> {
    input.session.observer.phase(0, &format!("measure {label}"), test.len());
    let (dialogues, replayed) = input.session.once(&format!("{label}{token}/dialogues"), || {
        let seed = mix(input.seed, 4);
        let firsts = sample(policy, test, &|p| Skill::Solve.prompt(p, &[]), settings.dialogues, seed)?;
        let mut requests = Vec::new();
        for (q, (problem, firsts)) in test.iter().zip(&firsts).enumerate() {
            for (s, first) in firsts.iter().enumerate() {
                let prompt = format!("{}{token}", Skill::Again.prompt(problem, &[first]));
                requests.push(request(prompt, 1, mix(mix(seed, 5 + q as u64), s as u64)));
            }
        }
        let mut seconds = policy.sample(&requests)?.into_iter();
        test.iter()
            .zip(&firsts)
            .map(|(problem, firsts)| {
                firsts
                    .iter()
                    .map(|first| {
                        let second = seconds.next().and_then(|s| s.into_iter().next()).map(|r| r.text);
                        Ok(Dialogue {
                            first: task.verify(problem, first)?.is_correct(),
                            second: task.verify(problem, second.as_deref().unwrap_or_default())?.is_correct(),
                        })
                    })
                    .collect()
            })
            .collect::<Result<Dialogues, elenchus_learn::LearnError>>()
    })?;
    input.session.observer.advance(test.len(), 0, replayed);
    Ok(dialogues)
}

/// Budget control: per question the accuracy of one sample, of an independent second sample, and of a majority of 3.
fn independent(
    input: &Reproduce<'_>,
    settings: &Settings,
    policy: &mut dyn Policy,
    task: &dyn Task,
    test: &[Problem],
    label: &str,
) -> Result<Vec<[f64; 3]>, RecipeError> {
    let (found, _) = input.session.once(&format!("{label}/independent"), || {
        let answers = sample(
            policy,
            test,
            &|p| Skill::Solve.prompt(p, &[]),
            settings.dialogues.max(3),
            mix(input.seed, 6),
        )?;
        test.iter()
            .zip(answers)
            .map(|(problem, texts)| {
                let verdicts = texts
                    .iter()
                    .map(|t| Ok(task.verify(problem, t)?))
                    .collect::<Result<Vec<_>, elenchus_learn::LearnError>>()?;
                let right = |i: usize| f64::from(u8::from(verdicts.get(i).is_some_and(|v| v.is_correct())));
                let ballot = elenchus_measure::Ballot::from_answers(
                    verdicts.iter().map(|v| (v.answer.as_deref(), v.is_correct())),
                )?;
                Ok([right(0), right(1), ballot.majority_at(3, 0)?])
            })
            .collect::<Result<Vec<_>, elenchus_learn::LearnError>>()
    })?;
    Ok(found)
}

/// All questions of all models and seeds, one list.
fn questions(arm: &Arm) -> Result<Vec<CorrectionQuestion>, RecipeError> {
    arm.dialogues.iter().flatten().map(|d| Ok(CorrectionQuestion::from_dialogues(d)?)).collect()
}

/// Difference of a statistic of two arms, paired by seed and question.
fn difference(
    resampling: &Resampling,
    first: &[CorrectionQuestion],
    second: &[CorrectionQuestion],
    statistic: fn(&SelfCorrection) -> Option<f64>,
) -> Result<Option<Interval>, RecipeError> {
    let rows: Vec<[f64; 8]> = first
        .iter()
        .zip(second)
        .map(|(a, b)| {
            let part =
                |q: &CorrectionQuestion| [q.first, q.first * q.kept, (1.0 - q.first) * q.repaired, 1.0];
            let (a, b) = (part(a), part(b));
            [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]]
        })
        .collect();
    let of = move |s: &[f64]| -> Option<f64> {
        // One question with these means has exactly these statistics.
        let (right, n) = (s[0], s[3]);
        let kept = if right > 0.0 { s[1] / right } else { 0.0 };
        let repaired = if n > right { s[2] / (n - right) } else { 0.0 };
        let mean = CorrectionQuestion { first: right / n, kept: kept.min(1.0), repaired: repaired.min(1.0) };
        self_correction(&[mean]).ok().and_then(|m| statistic(&m))
    };
    resampling.sums("self-correction", &rows, move |s: [f64; 8]| Some(of(&s[..4])? - of(&s[4..])?))
}

fn findings(
    input: &Reproduce<'_>,
    settings: &Settings,
    start: &Arm,
    arms: &[Arm],
    sweep: &[Arm],
    resample: &[Vec<[f64; 3]>],
) -> Result<Findings, RecipeError> {
    let bootstrap = Bootstrap::default().seed(input.seed);
    let mut findings = Findings::default();
    let [sft, clt, cst, cct, both, sure, check] = arms else { return Ok(findings) };
    let resampling = Resampling::new(bootstrap, sft.dialogues.len());
    let of = |arm: &Arm| questions(arm);
    let cl: fn(&SelfCorrection) -> Option<f64> = |m| m.cl;
    let cs: fn(&SelfCorrection) -> Option<f64> = |m| m.cs;
    let acc1: fn(&SelfCorrection) -> Option<f64> = |m| Some(m.acc1);
    let acc2: fn(&SelfCorrection) -> Option<f64> = |m| Some(m.acc2);
    let mut claim = |id: &str, a: &Arm, b: &Arm, statistic| -> Result<(), RecipeError> {
        if let Some(interval) = difference(&resampling, &of(a)?, &of(b)?, statistic)? {
            findings.estimates.insert(id.into(), interval);
        }
        Ok(())
    };
    claim("cl-clt-over-cst", clt, cst, cl)?;
    claim("cs-cst-over-clt", cst, clt, cs)?;
    claim("cl-cct-over-cst", cct, cst, cl)?;
    claim("cs-cct-over-clt", cct, clt, cs)?;
    claim("acc2-cct-over-sft", cct, sft, acc2)?;
    claim("acc1-sft-over-cct", sft, cct, acc1)?;
    claim("acc2-both-over-sft", both, sft, acc2)?;
    claim("cl-sure-over-check", sure, check, cl)?;
    claim("cs-check-over-sure", check, sure, cs)?;
    if let Some(rss) = self_correction_intervals(&of(cct)?, &bootstrap)?.rss {
        findings.estimates.insert("rss-cct".into(), rss);
    }
    let pooled: Vec<[f64; 3]> = resample.iter().flatten().copied().collect();
    let column = |i: usize| -> Result<Interval, RecipeError> {
        Ok(bootstrap.mean(&pooled.iter().map(|r| r[i]).collect::<Vec<f64>>())?)
    };

    let mut table = Table::new("Arms", ["arm", "Acc1", "Acc2", "CL", "CS", "RSS", "kept / broken / repaired / missed"])
        .note("Pooled over models, seeds and questions; 95 % bootstrap intervals over all of them as if independent, those of the claims keep the seeds of a question together. Same steps and tokens for all.");
    let mut points = Vec::new();
    for arm in std::iter::once(start).chain(arms).chain(sweep) {
        let m: SelfCorrectionIntervals = self_correction_intervals(&of(arm)?, &bootstrap)?;
        let optional = |i: Option<Interval>| i.map_or(Cell::Missing, Cell::PercentInterval);
        let t = m.transitions;
        table = table.row([
            Cell::Text(arm.name.clone()),
            Cell::PercentInterval(m.acc1),
            Cell::PercentInterval(m.acc2),
            optional(m.cl),
            optional(m.cs),
            m.rss.map_or(Cell::Missing, |r| Cell::Number(r.value, 3)),
            Cell::Text(format!("{:.3} / {:.3} / {:.3} / {:.3}", t.kept, t.broken, t.repaired, t.missed)),
        ]);
        if let Rows::Again(share) = arm.rows {
            points.push((share, m));
        }
    }
    table = table.row([
        Cell::Text("SFT, independent second sample".into()),
        Cell::PercentInterval(column(0)?),
        Cell::PercentInterval(column(1)?),
        Cell::Missing,
        Cell::Missing,
        Cell::Missing,
        Cell::Text("the same cost as a second answer".into()),
    ]);
    table = table.row([
        Cell::Text("SFT, majority of 3".into()),
        Cell::Missing,
        Cell::PercentInterval(column(2)?),
        Cell::Missing,
        Cell::Missing,
        Cell::Missing,
        Cell::Text("one sample more than a second answer".into()),
    ]);
    findings.tables.push(table);

    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let inside = points.iter().filter(|p| p.0 > 0.0 && p.0 < 1.0).map(|p| p.1.acc2.value).reduce(f64::max);
    let ends = points.iter().filter(|p| p.0 == 0.0 || p.0 == 1.0).map(|p| p.1.acc2.value).reduce(f64::max);
    if let (Some(inside), Some(ends)) = (inside, ends) {
        findings.estimates.insert("sweep-inside".into(), Interval::exact(inside - ends));
    }
    let line = |name: &str, value: &dyn Fn(&SelfCorrectionIntervals) -> Option<Interval>| {
        Series::new(name, points.iter().filter_map(|(share, m)| Some((*share, value(m)?))))
    };
    findings.sections.push(Section::plots(
        "Share of confidence rows",
        vec![Plot::new(
            "Share of confidence rows",
            "0: critique rows only, 1: confidence rows only.",
            Chart::Line {
                x: Axis::new("share of confidence rows", Scale::Percent),
                y: Axis::new("", Scale::Percent),
                series: vec![line("CL", &|m| m.cl), line("CS", &|m| m.cs), line("Acc2", &|m| Some(m.acc2))],
            },
        )],
    ));
    findings.notes.push(format!(
        "{} model(s), {} training seed(s), {} questions with {} dialogues each. CS of pure resampling would be about the \
         accuracy on the questions that the first answer missed: compare with the row of independent second samples.",
        input.models.len(),
        settings.seeds,
        settings.questions,
        settings.dialogues
    ));
    Ok(findings)
}
