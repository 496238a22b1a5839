//! `elenchus reproduce`

use super::improve::{RunConfig, free_folder};
use crate::arguments::Global;
use crate::failure::Failure;
use crate::output;
use crate::progress::{Display, stop_on_interrupt};
use clap::Args;
use elenchus_learn::Session;
use elenchus_recipe::lab::Lab;
use elenchus_recipe::reproduce::{Reproduce as Input, reproduce};
use elenchus_recipe::{Recipe, Size, built_in, models};
use elenchus_remember::Run;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Run a paper's acceptance: arms at equal budget, seeds, intervals, the verdict
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  elenchus reproduce self-certainty
  elenchus reproduce b-star --full --model embedded --model runs/second/model
  elenchus reproduce fobar --set questions=20          a smaller one: the intervals are wide")]
pub struct Reproduce {
    /// Recipe
    name: String,
    /// At most 5 minutes on 2 cores (the default)
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// As long as the statistics need
    #[arg(long)]
    full: bool,
    /// `embedded` or a checkpoint folder; several are several model seeds
    #[arg(long, default_value = models::EMBEDDED)]
    model: Vec<String>,
    /// Change a setting of the experiment, `PATH=VALUE` with the value as JSON (`[reproduce]` of the recipe); the claims were
    /// made for the settings as they are
    #[arg(long = "set", value_name = "PATH=VALUE")]
    settings: Vec<String>,
    /// Folder of the run [default: runs/reproduce-NAME, numbered when taken]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Everything that determines a `reproduce` run.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReproduceConfig {
    recipe: String,
    size: Size,
    models: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    settings: Vec<String>,
    seed: u64,
}

impl ReproduceConfig {
    /// The recipe with its settings changed.
    fn recipe(&self) -> Result<Recipe, Failure> {
        let mut recipe = built_in(&self.recipe)?;
        let Some(experiment) = recipe.reproduce.as_mut() else { return Ok(recipe) };
        let table = match self.size {
            Size::Quick => &mut experiment.quick,
            Size::Full => &mut experiment.full,
        };
        for setting in &self.settings {
            crate::settings::set(table, setting)?;
        }
        Ok(recipe)
    }
}

/// Runs the command.
pub fn run(command: &Reproduce, global: &Global) -> Result<(), Failure> {
    let recipe = built_in(&command.name)?;
    let size = if command.full { Size::Full } else { Size::Quick };
    let config = ReproduceConfig {
        recipe: recipe.name,
        size,
        models: command.model.clone(),
        settings: command.settings.clone(),
        seed: global.seed,
    };
    config.recipe()?;
    let folder =
        command.out.clone().unwrap_or_else(|| free_folder(&format!("runs/reproduce-{}", command.name)));
    let run = Run::create(folder, &RunConfig::Reproduce(config.clone()))?;
    execute(&config, &run, global)
}

/// Runs, or goes on with, a `reproduce` run.
pub fn execute(config: &ReproduceConfig, run: &Run, global: &Global) -> Result<(), Failure> {
    let recipe = config.recipe()?;
    let display = Display::new(0, 0, global.quiet);
    let session = Session { run: Some(run), observer: &display, stop: stop_on_interrupt() };
    let input = Input {
        recipe: &recipe,
        size: config.size,
        seed: config.seed,
        models: &config.models,
        lab: Lab::new(None),
        session: &session,
    };
    let outcome = reproduce(&input);
    display.finish();
    let reproduced = outcome.map_err(|error| Failure::from(error).in_run(run))?;
    let report = run.write_report(&reproduced.report.to_html())?;
    run.metrics().record("reproduction", &reproduced.reproduction)?;
    if global.json {
        return output::json(&reproduced.reproduction);
    }
    for table in &reproduced.findings.tables {
        output::line(&output::report_table(table))?;
    }
    for claim in &reproduced.reproduction.claims {
        let verdict = match claim.holds {
            Some(true) => "holds        ",
            Some(false) => "does not hold",
            None => "not told     ",
        };
        let role = if claim.required { "" } else { "  (observation)" };
        let number = |v: Option<f64>| v.map_or("–".into(), |v| format!("{v:+.3}"));
        output::line(&format!(
            "{verdict}  {} [{}, {}]  {}{role}",
            number(claim.estimate),
            number(claim.low),
            number(claim.high),
            claim.text
        ))?;
    }
    if !config.settings.is_empty() {
        output::line(&format!("note: settings were changed: {}", config.settings.join(", ")))?;
    }
    for note in &reproduced.findings.notes {
        output::line(&format!("note: {note}"))?;
    }
    let verdict = if reproduced.reproduction.holds { "holds" } else { "does not hold" };
    output::line(&format!(
        "\n{}: {verdict}  ({:.0} seconds)\nreport  {}",
        recipe.name,
        reproduced.reproduction.seconds,
        report.display()
    ))
}
