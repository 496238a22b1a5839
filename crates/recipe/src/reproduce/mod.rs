//! Running a paper's acceptance: arms at equal budget, several seeds, paired intervals, a verdict per claim.

mod asked;
mod b_star;
mod confidence_vs_critique;
mod critic_bench;
mod cyberv;
mod deceptive_judge;
mod feedback_friction;
mod fobar;
mod gsa;
mod iad;
mod internal_consistency;
mod iterative_deepening_sampling;
mod label_correction;
mod p_true_p_ik;
mod pool;
mod rain;
mod real_critic;
mod resampling;
mod rpc;
mod self_agreement;
mod self_certainty;
mod taxonomy_grid;

use crate::lab::{Built, Lab, checkpoint};
use crate::{Acceptance, Recipe, RecipeError, Reproduction, Size};
use elenchus_learn::Session;
use elenchus_measure::{Cell, Interval, Report, Section, SeedSummary, Table, Tone};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Instant;

/// What a reproduction is given.
pub struct Reproduce<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// Its size.
    pub size: Size,
    /// Seed of all sampling and training.
    pub seed: u64,
    /// Model folders, one per model seed, or `embedded`.
    pub models: &'a [String],
    /// Where the small checkpoints come from that an experiment needs.
    pub lab: Lab,
    /// Journal, observer, stop flag.
    pub session: &'a Session<'a>,
}

/// What an experiment found: estimates by claim id, and what a person should see.
#[derive(Debug, Default)]
pub struct Findings {
    /// Estimate and interval per claim id. A claim without an entry could not be told at this size.
    pub estimates: BTreeMap<String, Interval>,
    /// Arms with budgets and results: printed on the terminal and in the report.
    pub tables: Vec<Table>,
    /// Further sections of the report.
    pub sections: Vec<Section>,
    /// Sentences worth reading beside the verdict (what differs from the paper, what was not run).
    pub notes: Vec<String>,
}

/// A reproduction with its page.
pub struct Reproduced {
    /// The verdict.
    pub reproduction: Reproduction,
    /// What was found.
    pub findings: Findings,
    /// The page.
    pub report: Report,
}

impl Reproduce<'_> {
    /// The settings of the experiment at this size.
    fn settings<T: DeserializeOwned>(&self) -> Result<T, RecipeError> {
        let experiment =
            self.recipe.reproduce.as_ref().ok_or_else(|| self.refuse("has no [reproduce] table"))?;
        let value = match self.size {
            Size::Quick => &experiment.quick,
            Size::Full => &experiment.full,
        };
        serde_json::from_value(value.clone()).map_err(|error| self.refuse(&format!("[reproduce]: {error}")))
    }

    /// Over how many seeds the experiment runs: models, times the trainings or samplings that its settings ask for.
    fn repetitions(&self) -> Result<usize, RecipeError> {
        #[derive(Deserialize)]
        struct Seeds {
            #[serde(default)]
            seeds: Value,
        }
        let own = match self.settings::<Seeds>()?.seeds {
            Value::Array(seeds) => seeds.len(),
            Value::Number(seeds) => seeds.as_u64().map_or(0, |seeds| seeds as usize),
            _ => 1,
        };
        // The same model twice is one.
        let models: std::collections::BTreeSet<&String> = self.models.iter().collect();
        Ok(models.len() * own)
    }

    fn acceptance(&self) -> Result<&Acceptance, RecipeError> {
        self.recipe.acceptance.as_ref().ok_or_else(|| self.refuse("has no [acceptance] table"))
    }

    /// A checkpoint of the lab over one of the models, made now if it is not there. Its key goes into the result.
    fn lab_model(&self, name: &str, model: &str, seed: u64) -> Result<Built, RecipeError> {
        self.lab.over(model).obtain(checkpoint(name)?.as_ref(), seed, self.session)
    }

    fn refuse(&self, problem: &str) -> RecipeError {
        RecipeError::Check {
            recipe: self.recipe.name.clone(),
            problem: problem.into(),
            hint: "docs/reference/recipes.md lists every field".into(),
        }
    }
}

/// Runs the acceptance of a recipe.
pub fn reproduce(input: &Reproduce<'_>) -> Result<Reproduced, RecipeError> {
    let begun = Instant::now();
    let acceptance = input.acceptance()?;
    let seeds = input.repetitions()?;
    let few_seeds = (!acceptance.enough_seeds(input.size, seeds)).then(|| {
        format!(
            "The full size needs {} seeds and has {seeds}, so no claim is told. Give `--model` once for each model, `embedded` or \
             the folder of a checkpoint.",
            acceptance.seeds
        )
    });
    // Said before the hours are spent, and again beside the result.
    few_seeds.iter().for_each(|note| input.session.observer.note(note));
    let mut findings = match input.recipe.name.as_str() {
        "b-star" => b_star::run(input)?,
        "confidence-vs-critique" => confidence_vs_critique::run(input)?,
        "critic-bench" => critic_bench::run(input)?,
        "deceptive-judge" => deceptive_judge::run(input)?,
        "cyberv" => cyberv::run(input)?,
        "feedback-friction" => feedback_friction::run(input)?,
        "real-critic" => real_critic::run(input)?,
        "fobar" => fobar::run(input)?,
        "gsa" => gsa::run(input)?,
        "iad" => iad::run(input)?,
        "internal-consistency" => internal_consistency::run(input)?,
        "iterative-deepening-sampling" => iterative_deepening_sampling::run(input)?,
        "p-true-p-ik" => p_true_p_ik::run(input)?,
        "rain" => rain::run(input)?,
        "rpc" => rpc::run(input)?,
        "self-agreement" => self_agreement::run(input)?,
        "self-certainty" => self_certainty::run(input)?,
        "taxonomy-grid" => taxonomy_grid::run(input)?,
        _ => return Err(input.refuse("has no experiment")),
    };
    if let Some(table) = checkpoints_used(&input.lab.used()) {
        findings.tables.push(table);
    }
    findings.notes.extend(few_seeds);
    let seconds = begun.elapsed().as_secs_f64();
    let find = |id: &str| findings.estimates.get(id).copied();
    let reproduction = Reproduction::judge(&input.recipe.name, input.size, acceptance, seeds, find, seconds);
    let report = report(input, &reproduction, &findings);
    Ok(Reproduced { reproduction, findings, report })
}

/// The lab checkpoints of a result, with what it took to make them.
fn checkpoints_used(used: &[Built]) -> Option<Table> {
    used.first()?;
    let table = Table::new("Checkpoints of the lab", ["checkpoint (key)", "made in", "steps", "tokens", "figure"])
        .note("Made once and kept in the cache; the seconds are those of the machine that made them and count into this run only where it made them. The figure is one of validation problems.");
    Some(used.iter().fold(table, |table, built| {
        let card = &built.card;
        table.row([
            Cell::Text(card.label()),
            Cell::Seconds(card.seconds),
            Cell::Count(card.steps as u64),
            Cell::Count(card.tokens as u64),
            Cell::Text(format!("{} {:.3}", card.figure.name, card.figure.value)),
        ])
    }))
}

fn report(input: &Reproduce<'_>, reproduction: &Reproduction, findings: &Findings) -> Report {
    let verdict = if reproduction.holds { "holds" } else { "does not hold" };
    let size = match input.size {
        Size::Quick => "quick",
        Size::Full => "full",
    };
    let tone = if reproduction.holds { Tone::Good } else { Tone::Bad };
    let mut claims = Table::new("Claims", ["claim", "estimate", "95 % interval", "verdict"])
        .note("A claim is required unless it says observation. Estimates are in the unit of the claim.");
    for claim in &reproduction.claims {
        let number = |v: Option<f64>| v.map_or("–".to_string(), |v| format!("{v:+.3}"));
        let role = if claim.required { "" } else { " (observation)" };
        claims = claims.row([
            Cell::Text(format!("{} {}{role}", claim.id, claim.text)),
            Cell::Text(number(claim.estimate)),
            Cell::Text(format!("{} to {}", number(claim.low), number(claim.high))),
            Cell::Text(match claim.holds {
                Some(true) => "holds".into(),
                Some(false) => "does not hold".into(),
                None => "not told".into(),
            }),
        ]);
    }
    let mut report = Report::new(format!("reproduce {}", input.recipe.name))
        .headline(tone, format!("{}: {verdict} ({size} size)", input.recipe.title))
        .fact("paper", &input.recipe.paper)
        .fact("models", input.models.join(", "))
        .fact("seed", input.seed.to_string())
        .fact("seconds", format!("{:.0}", reproduction.seconds))
        .configuration(serde_json::to_string_pretty(input.recipe).unwrap_or_default())
        .section(Section::Table(claims));
    for table in &findings.tables {
        report = report.section(Section::Table(table.clone()));
    }
    report = report.sections(findings.sections.iter().cloned());
    if !findings.notes.is_empty() {
        report = report.section(Section::text("Notes", findings.notes.join("\n\n")));
    }
    report
}

/// The wider of the two intervals over seeds: the one a verdict is read off.
fn wider(summary: &SeedSummary) -> Interval {
    match summary.over_seeds {
        Some(seeds) if seeds.high - seeds.low > summary.over_both.high - summary.over_both.low => seeds,
        _ => summary.over_both,
    }
}

#[cfg(test)]
mod tests;
