//! Two models that were taught different facts of one world: each head should know its own model.

use super::Settings;
use super::p_ik::{Truth, told, truth};
use crate::RecipeError;
use crate::lab::knows::{facts, knows};
use crate::reproduce::resampling::Resampling;
use crate::reproduce::{Findings, Reproduce};
use elenchus_learn::NativePolicy;
use elenchus_learn::objective::TrainingRow;
use elenchus_learn::policy::Encode;
use elenchus_learn::rollouts::mix;
use elenchus_measure::{Bootstrap, Cell, Interval, Table};
use elenchus_task::facts::{self as task, Facts, FactsSettings, Question};
use elenchus_task::{Skill, Split, Task};

/// What one model says and does on a question.
#[derive(Debug, Clone, Copy)]
struct Side {
    share: f64,
    p_ik: f64,
    frequency: f64,
}

/// A question asked of both models.
#[derive(Debug, Clone, Copy)]
struct Pair {
    a: Side,
    b: Side,
}

impl Pair {
    /// +1 when only A solves it, −1 when only B does, 0 otherwise.
    fn only(&self) -> i32 {
        match (self.a.share > 0.5, self.b.share > 0.5) {
            (true, false) => 1,
            (false, true) => -1,
            _ => 0,
        }
    }
}

/// P(IK) of `facts-a` on what it was never taught: as asked, with the statement in front, with another one in front.
#[derive(Default)]
struct Material {
    asked: Vec<f64>,
    stated: Vec<f64>,
    other: Vec<f64>,
}

pub(super) fn run(
    input: &Reproduce<'_>,
    settings: &Settings,
    findings: &mut Findings,
) -> Result<(), RecipeError> {
    let mut pairs = Vec::new();
    let mut material = Material::default();
    let mut unanswerable: Vec<f64> = Vec::new();
    for (m, base) in input.models.iter().enumerate() {
        for &seed in &settings.seeds {
            let side = |name: &str, view| -> Result<(Vec<Truth>, Vec<f64>, NativePolicy), RecipeError> {
                let mut model = input.lab_model(name, base, seed)?.load()?.policy();
                let label = format!("p-ik/{m}/{seed}/{name}");
                let part = facts(view, "both");
                let truth = truth(input, &mut model, &part, settings.facts, settings.samples, &label)?;
                let mut head = input.lab_model(&format!("{name}-knows"), base, seed)?.load()?.policy();
                let told = told(&mut head, &truth)?;
                Ok((truth, told, head))
            };
            let (truth_a, told_a, mut head) = side("facts-a", 0)?;
            let (truth_b, told_b, _) = side("facts-b", 1)?;
            let one = |t: &Truth, p_ik: f64| -> Result<Side, RecipeError> {
                Ok(Side { share: t.share(), p_ik, frequency: Question::of(&t.problem)?.frequency })
            };
            // The same questions in the same order: a view moves what is taught and not what is asked.
            for (((a, p), b), q) in truth_a.iter().zip(told_a).zip(&truth_b).zip(told_b) {
                pairs.push(Pair { a: one(a, p)?, b: one(b, q)? });
            }
            show_material(&mut head, &truth_a, &mut material)?;
            let strange = Facts::new(FactsSettings { unanswerable: 1.0, ..FactsSettings::default() })?;
            let strangers = strange.problems(Split::Test, settings.facts / 2, mix(input.seed, 70))?;
            let strangers: Vec<Truth> =
                strangers.into_iter().map(|problem| Truth { problem, right: 0, samples: 1 }).collect();
            unanswerable.extend(told(&mut head, &strangers)?);
        }
    }
    let seeds = input.models.len() * settings.seeds.len();
    let resampling = Resampling::new(Bootstrap::default().seed(mix(input.seed, 71)), seeds);
    report(&resampling, &pairs, &material, &unanswerable, findings)
}

/// Source material: the statement that holds the answer in front of the question, or one about somebody else.
fn show_material(
    head: &mut NativePolicy,
    truth: &[Truth],
    material: &mut Material,
) -> Result<(), RecipeError> {
    let never: Vec<Question> = truth
        .iter()
        .map(|t| Question::of(&t.problem))
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .filter(|question| question.frequency == 0.0)
        .collect();
    let statement = |q: &Question| match q.value {
        Some(value) => format!("{}:{}{value};", q.entity, q.relation),
        None => String::new(),
    };
    let mut read = |front: &dyn Fn(usize) -> String| -> Result<Vec<f64>, RecipeError> {
        let rows = never
            .iter()
            .enumerate()
            .map(|(i, q)| {
                let text = format!("{}{}{}:{}?", Skill::Solve.tag(), front(i), q.entity, q.relation);
                let tokens = head.encode(&text)?;
                Ok(TrainingRow { first_target: tokens.len(), tokens, ..TrainingRow::default() })
            })
            .collect::<Result<Vec<_>, elenchus_learn::LearnError>>()?;
        Ok(knows(head, &rows)?)
    };
    material.asked.extend(read(&|_| String::new())?);
    material.stated.extend(read(&|i| statement(&never[i]))?);
    material.other.extend(read(&|i| statement(&never[(i + 1) % never.len()]))?);
    Ok(())
}

fn report(
    resampling: &Resampling,
    pairs: &[Pair],
    material: &Material,
    unanswerable: &[f64],
    findings: &mut Findings,
) -> Result<(), RecipeError> {
    let mean = |values: &[f64]| -> Result<Option<Interval>, RecipeError> {
        if values.is_empty() { Ok(None) } else { resampling.mean(values).map(Some) }
    };
    // On questions that one model alone solves: how much higher is its own head than the other's?
    let own: Vec<f64> =
        pairs.iter().map(|pair| f64::from(pair.only()) * (pair.a.p_ik - pair.b.p_ik)).collect();
    let mut tell = |id: &str, found: Option<Interval>| {
        if let Some(interval) = found {
            findings.estimates.insert(id.into(), interval);
        }
    };
    tell("self-knowledge", resampling.mean_where(&own, |place| pairs[place].only() != 0)?);
    let raised: Vec<f64> =
        material.stated.iter().zip(&material.asked).map(|(with, without)| with - without).collect();
    tell("source-material", mean(&raised)?);

    let cell = |values: Vec<f64>| -> Result<Cell, RecipeError> {
        Ok(mean(&values)?.map_or(Cell::Missing, Cell::PercentInterval))
    };
    let among = |of: fn(&Pair) -> f64, keep: &dyn Fn(&Pair) -> bool| -> Result<Cell, RecipeError> {
        let values: Vec<f64> = pairs.iter().map(of).collect();
        let found = resampling.mean_where(&values, |place| keep(&pairs[place]))?;
        Ok(found.map_or(Cell::Missing, Cell::PercentInterval))
    };
    let mut cross = Table::new("Who knows what", ["questions that", "number", "mean P(IK) of A", "mean P(IK) of B"])
        .note("A and B were taught different entities of one world; solved: more than half of the samples are right.");
    let sets: [(&str, fn(&Pair) -> bool); 4] = [
        ("only A solves", |p| p.only() == 1),
        ("only B solves", |p| p.only() == -1),
        ("both solve", |p| p.a.share > 0.5 && p.b.share > 0.5),
        ("neither solves", |p| p.a.share <= 0.5 && p.b.share <= 0.5),
    ];
    for (name, belongs) in sets {
        cross = cross.row([
            Cell::Text(name.into()),
            Cell::Count(pairs.iter().filter(|p| belongs(p)).count() as u64),
            among(|p| p.a.p_ik, &belongs)?,
            among(|p| p.b.p_ik, &belongs)?,
        ]);
    }
    findings.tables.push(cross);

    let mut graded =
        Table::new("By how often it was taught", ["taught", "questions", "share right", "mean P(IK)"])
            .note("Model A; an entity of the last row was taught 27 times as often as one of frequency 1.");
    for frequency in FactsSettings::default().frequencies {
        let belongs = |p: &Pair| p.a.frequency == frequency;
        graded = graded.row([
            Cell::Text(if frequency == 0.0 { "never".into() } else { format!("{frequency:.0}") }),
            Cell::Count(pairs.iter().filter(|p| belongs(p)).count() as u64),
            among(|p| p.a.share, &belongs)?,
            among(|p| p.a.p_ik, &belongs)?,
        ]);
    }
    graded = graded.row([
        Cell::Text(format!("no answer (`{}`)", task::UNKNOWN)),
        Cell::Count(unanswerable.len() as u64),
        Cell::Missing,
        cell(unanswerable.to_vec())?,
    ]);
    findings.tables.push(graded);

    let mut sources =
        Table::new("Source material in front of what was never taught", ["in front", "mean P(IK) of A"])
            .note("Neither the model nor its head was trained on questions with statements in front.");
    for (name, values) in [
        ("nothing", &material.asked),
        ("the statement with the answer", &material.stated),
        ("a statement about another", &material.other),
    ] {
        sources = sources.row([Cell::Text(name.into()), cell(values.clone())?]);
    }
    findings.tables.push(sources);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_belongs_to_the_model_that_alone_solves_it() {
        let side = |share| Side { share, p_ik: 0.5, frequency: 1.0 };
        let only = |a, b| Pair { a: side(a), b: side(b) }.only();
        assert_eq!((only(0.9, 0.1), only(0.2, 0.8), only(0.9, 0.9), only(0.5, 0.5)), (1, -1, 0, 0));
    }
}
