//! P(IK): from the question alone, on its own distribution and on another, and with hints behind the question.

use super::{Grouped, Settings, auroc, difference, ece, over_questions};
use crate::RecipeError;
use crate::lab::knows::{TaskPart, arithmetic, countdown, knows, question_row};
use crate::models;
use crate::reproduce::resampling::Resampling;
use crate::reproduce::{Findings, Reproduce};
use elenchus_learn::NativePolicy;
use elenchus_learn::rollouts::{RolloutSettings, mix, right_counts};
use elenchus_measure::{
    Axis, Binning, Bootstrap, Cell, Chart, Interval, Judgement, Judgements, Plot, Scale, Section, Series,
    Table,
};
use elenchus_task::{Skill, Split};
use elenchus_trace::Problem;

/// A question with the share of its model's samples that are right.
#[derive(Debug, Clone)]
pub(super) struct Truth {
    pub(super) problem: Problem,
    pub(super) right: usize,
    pub(super) samples: usize,
}

impl Truth {
    pub(super) fn share(&self) -> f64 {
        self.right as f64 / self.samples.max(1) as f64
    }
}

/// What a model really answers on test questions.
pub(super) fn truth(
    input: &Reproduce<'_>,
    policy: &mut NativePolicy,
    part: &TaskPart,
    count: usize,
    samples: usize,
    label: &str,
) -> Result<Vec<Truth>, RecipeError> {
    let task = elenchus_task::task(&part.name, &part.settings)?;
    let problems = task.problems(Split::Test, count, mix(input.seed, 60))?;
    input.session.observer.phase(0, label, count);
    let settings = RolloutSettings {
        samples,
        temperature: 1.0,
        max_new_tokens: 160,
        seed: mix(input.seed, 61),
        distributions: false,
    };
    let right = right_counts(policy, task.as_ref(), &problems, &settings, label, input.session)?;
    Ok(problems.into_iter().zip(right).map(|(problem, right)| Truth { problem, right, samples }).collect())
}

/// P(IK) of every question.
pub(super) fn told(policy: &mut NativePolicy, truth: &[Truth]) -> Result<Vec<f64>, RecipeError> {
    let rows = truth.iter().map(|t| question_row(policy, &t.problem, "")).collect::<Result<Vec<_>, _>>()?;
    Ok(knows(policy, &rows)?)
}

/// One judgement per question: is more than `bound` of its samples right?
fn binary(truth: &[Truth], told: &[f64], bound: f64) -> Grouped {
    truth
        .iter()
        .zip(told)
        .map(|(t, &confidence)| vec![Judgement { confidence, correct: t.share() > bound }])
        .collect()
}

/// One judgement per sample, all of a question with the same confidence: calibration is about samples.
fn per_sample(truth: &[Truth], told: &[f64]) -> Grouped {
    truth
        .iter()
        .zip(told)
        .map(|(t, &confidence)| {
            (0..t.samples).map(|i| Judgement { confidence, correct: i < t.right }).collect()
        })
        .collect()
}

/// P(IK) of one head on one task, over all models and seeds.
#[derive(Default)]
struct Cellular {
    truth: Vec<Truth>,
    told: Vec<f64>,
}

impl Cellular {
    fn add(&mut self, truth: &[Truth], told: Vec<f64>) {
        self.truth.extend_from_slice(truth);
        self.told.extend(told);
    }

    /// Length as the only thing known: longer counts as harder. A monotone function of it has this AUROC whatever its
    /// coefficients are.
    fn by_length(&self) -> Vec<f64> {
        let length = |t: &Truth| Skill::Solve.prompt(&t.problem, &[]).len() as f64;
        self.truth.iter().map(|t| 1.0 / (1.0 + length(t))).collect()
    }
}

/// Shares of the reference solution that are shown.
const FRACTIONS: [f64; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];

/// P(IK) per question with each share of its own reference shown, and with the whole one of another question.
#[derive(Default)]
struct Hints {
    shown: [Vec<f64>; FRACTIONS.len()],
    irrelevant: Vec<f64>,
}

/// The first steps of a reference solution, without its answer: `fraction` of them, rounded.
fn first_steps(reference: &str, fraction: f64) -> String {
    let chain = reference.split('#').next().unwrap_or_default();
    let steps: Vec<&str> = chain.split(';').filter(|step| !step.is_empty()).collect();
    let shown = (fraction * steps.len() as f64).round() as usize;
    let mut text = String::new();
    for (place, step) in steps.iter().take(shown).enumerate() {
        text.push_str(step);
        // The sign behind the last step says that the answer comes.
        text.push(if place + 1 == steps.len() { '#' } else { ';' });
    }
    text
}

pub(super) fn run(
    input: &Reproduce<'_>,
    settings: &Settings,
    findings: &mut Findings,
) -> Result<(), RecipeError> {
    let [mut home, mut away, mut both_home, mut both_away]: [Cellular; 4] = Default::default();
    let mut hints = Hints::default();
    for (m, base) in input.models.iter().enumerate() {
        let mut policy = models::load(base)?.policy();
        let mut asked = |part: &TaskPart, count| {
            let label = format!("p-ik/{m}/{}", part.name);
            truth(input, &mut policy, part, count, settings.samples, &label)
        };
        let at_home = asked(&arithmetic(), settings.questions)?;
        let elsewhere = asked(&countdown(), settings.countdown)?;
        for &seed in &settings.seeds {
            let mut own = input.lab_model("arithmetic-knows", base, seed)?.load()?.policy();
            home.add(&at_home, told(&mut own, &at_home)?);
            away.add(&elsewhere, told(&mut own, &elsewhere)?);
            show_hints(&mut own, &at_home[..settings.hints.min(at_home.len())], &mut hints)?;
            let mut both = input.lab_model("both-knows", base, seed)?.load()?.policy();
            both_home.add(&at_home, told(&mut both, &at_home)?);
            both_away.add(&elsewhere, told(&mut both, &elsewhere)?);
        }
    }
    let bootstrap = Bootstrap::default().seed(mix(input.seed, 62));
    let resampling = Resampling::new(bootstrap, input.models.len() * settings.seeds.len());
    claims(&resampling, [&home, &away, &both_home, &both_away], findings)?;
    hint_claims(&resampling, &hints, findings)?;
    table([&home, &away, &both_home, &both_away], findings)
}

fn show_hints(policy: &mut NativePolicy, truth: &[Truth], hints: &mut Hints) -> Result<(), RecipeError> {
    let task = elenchus_task::task(&arithmetic().name, &arithmetic().settings)?;
    let references: Vec<String> =
        truth.iter().map(|t| task.reference(&t.problem).unwrap_or_default()).collect();
    let mut read = |hint: &dyn Fn(usize) -> String| -> Result<Vec<f64>, RecipeError> {
        let rows = truth
            .iter()
            .enumerate()
            .map(|(i, t)| question_row(policy, &t.problem, &hint(i)))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(knows(policy, &rows)?)
    };
    for (place, fraction) in FRACTIONS.iter().enumerate() {
        hints.shown[place].extend(read(&|i| first_steps(&references[i], *fraction))?);
    }
    // The next question's solution, whole.
    let other = |i: usize| first_steps(&references[(i + 1) % references.len()], 1.0);
    hints.irrelevant.extend(read(&other)?);
    Ok(())
}

fn claims(
    resampling: &Resampling,
    cells: [&Cellular; 4],
    findings: &mut Findings,
) -> Result<(), RecipeError> {
    let [home, away, _, both_away] = cells;
    let at = |cell: &Cellular, bound| binary(&cell.truth, &cell.told, bound);
    let mut tell = |id: &str, found: Option<Interval>| {
        if let Some(interval) = found {
            findings.estimates.insert(id.into(), interval);
        }
    };
    let half = at(home, 0.5);
    tell("p-ik-auroc", over_questions(resampling, "AUROC", &[&half], auroc)?);
    let length = binary(&home.truth, &home.by_length(), 0.5);
    tell("p-ik-over-length", over_questions(resampling, "AUROC", &[&half, &length], difference(auroc))?);
    let samples = per_sample(&home.truth, &home.told);
    let below = |lists: &[Judgements]| Some(0.10 - ece(lists)?);
    tell("p-ik-ece", over_questions(resampling, "calibration error", &[&samples], below)?);
    // Few Countdown questions are solved by more than half of the samples: the bound of the paper for such tasks.
    let (foreign, repaired) = (at(away, 0.25), at(both_away, 0.25));
    tell("ood-auroc", over_questions(resampling, "AUROC", &[&foreign], auroc)?);
    tell(
        "both-repairs-auroc",
        over_questions(resampling, "AUROC", &[&repaired, &foreign], difference(auroc))?,
    );
    let (foreign, repaired) =
        (per_sample(&away.truth, &away.told), per_sample(&both_away.truth, &both_away.told));
    tell(
        "both-repairs-ece",
        over_questions(resampling, "calibration error", &[&foreign, &repaired], difference(ece))?,
    );
    // Different questions: not paired, so each is resampled on its own and the spreads add up.
    let apart = |a: Option<Interval>, b: Option<Interval>| -> Option<Interval> {
        let (a, b) = (a?, b?);
        let (down, up) =
            ((a.value - a.low).hypot(b.high - b.value), (a.high - a.value).hypot(b.value - b.low));
        let value = a.value - b.value;
        Some(Interval { value, low: value - down, high: value + up })
    };
    let quality = |cell: &Cellular| over_questions(resampling, "AUROC", &[&at(cell, 0.25)], auroc);
    tell("ood-below-home", apart(quality(home)?, quality(away)?));
    let error = |cell: &Cellular| {
        over_questions(resampling, "calibration error", &[&per_sample(&cell.truth, &cell.told)], ece)
    };
    tell("ood-worse-ece", apart(error(away)?, error(home)?));
    Ok(())
}

fn hint_claims(resampling: &Resampling, hints: &Hints, findings: &mut Findings) -> Result<(), RecipeError> {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let step = |k: usize| -> Vec<f64> {
        hints.shown[k + 1].iter().zip(&hints.shown[k]).map(|(after, before)| after - before).collect()
    };
    // Monotone when even the smallest of the four rises is a rise.
    let smallest = (0..FRACTIONS.len() - 1).map(step).min_by(|a, b| mean(a).total_cmp(&mean(b)));
    if let Some(smallest) = smallest.filter(|values| !values.is_empty()) {
        findings.estimates.insert("hints-rise".into(), resampling.mean(&smallest)?);
    }
    let drop: Vec<f64> =
        hints.shown[0].iter().zip(&hints.irrelevant).map(|(none, other)| none - other).collect();
    if !drop.is_empty() {
        findings.estimates.insert("irrelevant-hints".into(), resampling.mean(&drop)?);
    }
    let mut points = Vec::new();
    let mut table = Table::new("P(IK) with a hint behind the question", ["hint", "mean P(IK)"])
        .note("First steps of the question's own reference solution, without the answer; 95 % intervals over questions.");
    for (fraction, values) in FRACTIONS.iter().zip(&hints.shown) {
        if !values.is_empty() {
            let found = resampling.mean(values)?;
            points.push((*fraction, found));
            table = table.row([
                Cell::Text(format!("{:.0} % of the solution", 100.0 * fraction)),
                Cell::PercentInterval(found),
            ]);
        }
    }
    if !hints.irrelevant.is_empty() {
        table = table.row([
            Cell::Text("the whole solution of another question".into()),
            Cell::PercentInterval(resampling.mean(&hints.irrelevant)?),
        ]);
    }
    findings.tables.push(table);
    findings.sections.push(Section::plots(
        "P(IK) by the share of the solution that is shown",
        vec![Plot::new(
            "P(IK) by the share of the solution that is shown",
            "Shaded: 95 % intervals over questions.",
            Chart::Line {
                x: Axis::new("share of the solution", Scale::Percent),
                y: Axis::new("mean P(IK)", Scale::Percent),
                series: vec![Series::new("own solution", points)],
            },
        )],
    ));
    Ok(())
}

fn table(cells: [&Cellular; 4], findings: &mut Findings) -> Result<(), RecipeError> {
    let mut table = Table::new(
        "P(IK)",
        ["head learned on", "asked about", "questions", "mean share right", "mean P(IK)", "AUROC > 0.5", "AUROC > 0.25", "Brier", "ECE", "AUROC of length"],
    )
    .note(
        "The share is over samples of the model before the head was trained. AUROC of P(IK) for questions with more than this \
         share right. Brier and ECE (10 bins of equal numbers) are over samples; a head that says a constant has a low ECE, \
         so look at all columns. The last column is the baseline that knows only how long the question is.",
    );
    let [home, away, both_home, both_away] = cells;
    let rows = [
        ("arithmetic", "arithmetic", home),
        ("arithmetic", "Countdown", away),
        ("both", "arithmetic", both_home),
        ("both", "Countdown", both_away),
    ];
    for (learned, asked, cell) in rows {
        let quality = |told: &[f64], bound| -> Result<Cell, RecipeError> {
            let all = Judgements::new(binary(&cell.truth, told, bound).into_iter().flatten())?;
            Ok(all.auroc().map_or(Cell::Missing, |a| Cell::Number(a, 3)))
        };
        let samples = Judgements::new(per_sample(&cell.truth, &cell.told).into_iter().flatten())?;
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len().max(1) as f64;
        table = table.row([
            Cell::Text(learned.into()),
            Cell::Text(asked.into()),
            Cell::Count(cell.truth.len() as u64),
            Cell::Percent(mean(cell.truth.iter().map(Truth::share).collect())),
            Cell::Percent(mean(cell.told.clone())),
            quality(&cell.told, 0.5)?,
            quality(&cell.told, 0.25)?,
            Cell::Number(samples.brier(), 3),
            Cell::Number(samples.ece(Binning::EqualMass, super::BINS)?, 3),
            quality(&cell.by_length(), if asked == "Countdown" { 0.25 } else { 0.5 })?,
        ]);
    }
    findings.tables.push(table);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_whole_steps_without_the_answer() {
        let reference = "g=50;e=50-1=49;d=49+81=130;f=130+1=131#131";
        assert_eq!(first_steps(reference, 0.0), "");
        assert_eq!(first_steps(reference, 0.25), "g=50;");
        assert_eq!(first_steps(reference, 0.5), "g=50;e=50-1=49;");
        assert_eq!(first_steps(reference, 1.0), "g=50;e=50-1=49;d=49+81=130;f=130+1=131#");
        assert_eq!(first_steps("#7", 1.0), "", "no steps to show");
    }

    #[test]
    fn the_share_is_a_judgement_per_sample_or_one_per_question() {
        let truth = [Truth { problem: Problem::new("1", "t", "q"), right: 20, samples: 30 }];
        let copies = per_sample(&truth, &[0.6]);
        assert_eq!(copies[0].len(), 30);
        assert_eq!(copies[0].iter().filter(|j| j.correct).count(), 20);
        assert!(binary(&truth, &[0.6], 0.5)[0][0].correct && !binary(&truth, &[0.6], 0.7)[0][0].correct);
    }
}
