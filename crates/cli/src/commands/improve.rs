//! `elenchus improve`

use crate::arguments::Global;
use crate::failure::{Code, Failure};
use crate::output;
use crate::progress::{Display, stop_on_interrupt};
use clap::Args;
use elenchus_learn::Session;
use elenchus_learn::rounds::RoundReport;
use elenchus_measure::Comparison;
use elenchus_recipe::{ImproveConfig, Improvement, built_in_or_file, models, run_improve};
use elenchus_remember::Run;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Let a model improve itself in rounds: solve, verify, select, train, measure
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  elenchus improve
  elenchus improve --rounds 4 --seed 7 --out runs/four
  elenchus improve --set rounds.reward.step=none        the filter that checks answers only
  elenchus improve --task-set steps=[6,8]               longer problems
  elenchus improve --set rounds.evaluate.split=validation --set rounds.train.steps=300
                                        choose settings without looking at test problems")]
pub struct Improve {
    #[command(flatten)]
    options: ImproveOptions,
    /// Folder of the run; go on with `elenchus resume DIR` [default: runs/improve-SEED, numbered when taken]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What determines a run of `improve`.
#[derive(Debug, Args)]
pub struct ImproveOptions {
    /// Rounds of self-improvement [default: the recipe's]
    #[arg(long)]
    rounds: Option<usize>,
    /// Recipe with a `[rounds]` table: a name or a TOML file
    #[arg(long, default_value = "b-star")]
    recipe: String,
    /// `embedded`, or the folder of a checkpoint in the Hugging Face format
    #[arg(long, default_value = models::EMBEDDED)]
    model: String,
    /// Change a setting of the recipe, `PATH=VALUE` with the value as JSON
    #[arg(long = "set", value_name = "PATH=VALUE")]
    settings: Vec<String>,
    /// Task whose problems are solved; `elenchus tasks` lists them
    #[arg(long, default_value = "arithmetic")]
    task: String,
    /// Change a setting of the task
    #[arg(long = "task-set", value_name = "PATH=VALUE")]
    task_settings: Vec<String>,
    /// No control arm on gold rows
    #[arg(long)]
    no_control: bool,
    /// A tenth of the work, to see it run: the intervals are wide
    #[arg(long)]
    small: bool,
}

/// What the configuration of a run folder says; `resume` dispatches on it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum RunConfig {
    /// A run of `improve`.
    Improve(ImproveConfig),
    /// A run of `pretrain`.
    Pretrain(super::pretrain::PretrainConfig),
    /// A run of `reproduce`.
    Reproduce(super::reproduce::ReproduceConfig),
}

/// The JSON of `improve --json`.
#[derive(Serialize)]
struct Result_<'a> {
    rounds: &'a [RoundReport],
    control: Option<&'a RoundReport>,
    comparisons: &'a [Comparison],
    seconds: f64,
    report: &'a Path,
    model: PathBuf,
}

/// Runs the command.
pub fn run(command: &Improve, global: &Global) -> Result<(), Failure> {
    let config = command.options.configuration(global)?;
    let folder = match &command.out {
        Some(folder) => folder.clone(),
        None => free_folder(&format!("runs/improve-{}", config.seed)),
    };
    let run = Run::create(&folder, &RunConfig::Improve(config.clone()))?;
    execute(&config, &run, global)
}

impl ImproveOptions {
    /// Everything that determines the run, by these options and the recipe.
    pub fn configuration(&self, global: &Global) -> Result<ImproveConfig, Failure> {
        let recipe = built_in_or_file(&self.recipe)?;
        let Some(mut rounds) = recipe.rounds.clone() else {
            return Err(Failure::new(
                Code::Usage,
                format!("recipe `{}` has no rounds", recipe.name),
                "name a training recipe; `elenchus recipes` lists them",
            ));
        };
        if let Some(count) = self.rounds {
            rounds.rounds = count;
        }
        if self.small {
            rounds = rounds.small();
        }
        let mut whole = serde_json::json!({ "rounds": rounds, "task": {} });
        for setting in &self.settings {
            crate::settings::set(&mut whole, setting)?;
        }
        for setting in &self.task_settings {
            crate::settings::set(&mut whole, &format!("task.{setting}"))?;
        }
        let rounds = crate::settings::read("rounds", whole["rounds"].take())?;
        Ok(ImproveConfig {
            recipe: recipe.name,
            rounds,
            task: self.task.clone(),
            task_settings: whole["task"].take(),
            control: !self.no_control,
            seed: global.seed,
            model: self.model.clone(),
        })
    }
}

/// The name, or the name with the first free number.
pub fn free_folder(name: &str) -> PathBuf {
    let mut folder = PathBuf::from(name);
    let mut number = 2;
    while folder.exists() {
        folder = PathBuf::from(format!("{name}-{number}"));
        number += 1;
    }
    folder
}

/// Runs, or goes on with, an `improve` run.
pub fn execute(config: &ImproveConfig, run: &Run, global: &Global) -> Result<(), Failure> {
    let begun = Instant::now();
    config.rounds.check()?;
    let task = elenchus_task::task(&config.task, &config.task_settings)?;
    let mut policy = models::load(&config.model)?.policy();
    let mut step_model = models::step_reward(&config.rounds, &config.model)?;
    let display = Display::new(config.rounds.rounds, config.rounds.evaluate.samples, global.quiet);
    let stop = stop_on_interrupt();
    let session = Session { run: Some(run), observer: &display, stop };
    let outcome = run_improve(
        &mut policy,
        task.as_ref(),
        config,
        step_model.as_mut().map(|model| model as &mut dyn elenchus_learn::policy::Policy),
        &session,
    );
    display.finish();
    let improvement = outcome.map_err(|error| Failure::from(error).in_run(run))?;
    let seconds = begun.elapsed().as_secs_f64();
    for report in &improvement.rounds {
        run.metrics().record(&format!("round/{}", report.round), report)?;
    }
    let report =
        run.write_report(&improvement.report.to_html()).map_err(|error| Failure::from(error).in_run(run))?;
    let model = run.path().join("model");
    elenchus_learn::policy::Policy::save(&policy, &model, false)
        .map_err(|error| Failure::from(error).in_run(run))?;
    if global.json {
        return output::json(&Result_ {
            rounds: &improvement.rounds,
            control: improvement.control.as_ref(),
            comparisons: &improvement.comparisons,
            seconds,
            report: &report,
            model,
        });
    }
    print(&improvement, config.rounds.evaluate.samples, seconds, &report, &model)
}

fn print(
    improvement: &Improvement,
    k: usize,
    seconds: f64,
    report: &Path,
    model: &Path,
) -> Result<(), Failure> {
    let heading =
        ["", "greedy", "one sample", &format!("vote@{k}"), &format!("pass@{k}"), "by wrong steps", "rows"];
    let mut rows = vec![heading.iter().map(ToString::to_string).collect::<Vec<String>>()];
    let mut add = |name: String, r: &RoundReport| {
        rows.push(vec![
            name,
            output::percent(&r.greedy),
            output::percent(&r.sampled),
            format!("{:.1} %", 100.0 * r.vote.value),
            format!("{:.1} %", 100.0 * r.pass.value),
            format!("{:.1} %", 100.0 * r.wrong_steps),
            r.rows.to_string(),
        ]);
    };
    for r in &improvement.rounds {
        add(if r.round == 0 { "start".into() } else { format!("round {}", r.round) }, r);
    }
    if let Some(control) = &improvement.control {
        add("gold control".into(), control);
    }
    output::line(&output::table(&rows))?;
    for comparison in &improvement.comparisons {
        output::line(&comparison.sentence)?;
    }
    output::line(&format!("\n{seconds:.0} seconds"))?;
    output::line(&format!("report  {}", report.display()))?;
    output::line(&format!("model   {}", model.display()))
}
