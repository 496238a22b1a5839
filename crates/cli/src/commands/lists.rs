//! `elenchus recipes`, `tasks`, `models`, `report`, `completions`

use crate::arguments::{Arguments, Global, split_parser};
use crate::failure::{Code, Failure};
use crate::output;
use crate::progress::{Display, stop_on_interrupt};
use clap::{Args, CommandFactory};
use elenchus_learn::card::{CardSettings, measure_card};
use elenchus_learn::{NativePolicy, Session};
use elenchus_recipe::{State, built_in_or_file, built_in_recipes, models};
use elenchus_remember::Run;
use elenchus_task::Split;
use elenchus_trace::nearest;
use serde_json::json;
use std::path::PathBuf;

/// The recipes, or one of them whole; with `--parts` the parts they are made of
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  elenchus recipes
  elenchus recipes self-certainty
  elenchus recipes --parts
  elenchus recipes --parts best-of-n            the settings of one part")]
pub struct Recipes {
    /// Name, or a TOML file to check; with `--parts` a strategy or an evaluator
    name: Option<String>,
    /// List strategies, evaluators and objectives; with a name, print the settings of that part as a JSON schema
    #[arg(long)]
    parts: bool,
}

/// The tasks and their settings
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  elenchus tasks
  elenchus tasks arithmetic")]
pub struct Tasks {
    /// Print the settings of this task as a JSON schema
    name: Option<String>,
}

/// The models that can be named; with `--card` what one of them can do
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  elenchus models embedded
  elenchus models runs/improve-1/model --card --problems 200")]
pub struct Models {
    /// A folder or `embedded`
    name: Option<String>,
    /// Measure the figures of a model card: accuracy per task and number of steps, and every skill on own samples
    #[arg(long)]
    card: bool,
    /// The split of the card's problems; choose among models on `validation`
    #[arg(long, default_value = "test", requires = "card", value_parser = split_parser())]
    split: Split,
    /// Problems per line of the card
    #[arg(long, default_value_t = 400, requires = "card", value_parser = clap::value_parser!(u32).range(1..))]
    problems: u32,
    /// Samples per problem of the card
    #[arg(long, default_value_t = 8, requires = "card", value_parser = clap::value_parser!(u32).range(3..))]
    samples: u32,
}

/// Path and summary of the report of a run
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  elenchus report runs/improve-1
  elenchus report runs/improve-1 --json         with the metrics of the run")]
pub struct Report {
    /// Folder of the run
    run: PathBuf,
}

/// Completions for a shell, to be sourced
#[derive(Debug, Args)]
#[command(after_help = "Example:
  elenchus completions bash > ~/.local/share/bash-completion/completions/elenchus")]
pub struct Completions {
    /// The shell
    shell: clap_complete::Shell,
}

fn state(state: State) -> &'static str {
    match state {
        State::Preview => "preview",
        State::Complete => "complete",
    }
}

/// Runs `recipes`.
pub fn recipes(command: &Recipes, global: &Global) -> Result<(), Failure> {
    if command.parts {
        return match &command.name {
            Some(name) => part(name),
            None => parts(global),
        };
    }
    if let Some(name) = &command.name {
        let recipe = built_in_or_file(name)?;
        return output::json(&recipe);
    }
    let recipes = built_in_recipes()?;
    if global.json {
        let rows: Vec<_> = recipes
            .iter()
            .map(|r| json!({ "name": r.name, "paper": r.paper, "sheet": r.sheet, "state": state(r.state), "verdict": r.verdict, "summary": r.summary }))
            .collect();
        return output::json(&rows);
    }
    let mut rows = vec![["recipe", "state", "verdict", "what it does"].map(String::from).to_vec()];
    for r in &recipes {
        let verdict = r.verdict.clone().unwrap_or_else(|| "not run".into());
        rows.push(vec![r.name.clone(), state(r.state).into(), verdict, r.summary.clone()]);
    }
    output::line(output::table(&rows).trim_end())
}

/// The settings of a strategy or an evaluator.
fn part(name: &str) -> Result<(), Failure> {
    let strategies = elenchus_control::strategies().into_iter().map(|s| (s.name, s.settings));
    let evaluators = elenchus_evaluate::evaluators().into_iter().map(|e| (e.name, e.settings));
    let known: Vec<_> = strategies.chain(evaluators).collect();
    match known.iter().find(|(known, _)| *known == name.replace('_', "-")) {
        Some((_, settings)) => output::json(settings),
        None => Err(Failure::new(
            Code::Usage,
            format!("no strategy and no evaluator is named `{name}`"),
            nearest(name, known.iter().map(|(name, _)| *name)),
        )),
    }
}

fn parts(global: &Global) -> Result<(), Failure> {
    let strategies = elenchus_control::strategies();
    let evaluators = elenchus_evaluate::evaluators();
    let mut rows = vec![["kind", "name", "what it does"].map(String::from).to_vec()];
    let mut add = |kind: &str, name: &str, summary: &str| {
        rows.push(vec![kind.into(), name.into(), summary.into()]);
    };
    strategies.iter().for_each(|s| add("strategy", s.name, s.summary));
    evaluators.iter().for_each(|e| add("evaluator", e.name, e.summary));
    elenchus_learn::objective::OBJECTIVES.iter().for_each(|o| add("objective", o.name, o.summary));
    if global.json {
        let parts: Vec<_> =
            rows.iter().skip(1).map(|r| json!({ "kind": r[0], "name": r[1], "summary": r[2] })).collect();
        return output::json(&parts);
    }
    output::line(output::table(&rows).trim_end())
}

/// Runs `tasks`.
pub fn tasks(command: &Tasks, global: &Global) -> Result<(), Failure> {
    let found = elenchus_task::TASKS;
    if let Some(name) = &command.name {
        elenchus_task::task(name, &serde_json::Value::Null)?;
        let entry = found.iter().find(|t| t.name == name.as_str());
        return output::json(&entry.map(|t| (t.schema)()));
    }
    if global.json {
        let rows: Vec<_> = found.iter().map(|t| json!({ "name": t.name, "summary": t.summary })).collect();
        return output::json(&rows);
    }
    for task in found {
        output::line(&format!("{:<14} {}", task.name, task.summary))?;
    }
    Ok(())
}

fn card(mut policy: NativePolicy, command: &Models, global: &Global) -> Result<(), Failure> {
    let settings = CardSettings {
        split: command.split,
        problems: command.problems as usize,
        samples: command.samples as usize,
        seed: global.seed,
    };
    let display = Display::new(0, settings.samples, global.quiet);
    let session = Session { run: None, observer: &display, stop: stop_on_interrupt() };
    let card = measure_card(&mut policy, &settings, &session);
    display.finish();
    let card = card.map_err(|error| Failure::from(error).nothing_kept("the same command begins anew"))?;
    if global.json {
        return output::json(&card);
    }
    output::line(card.markdown(settings.split, settings.samples).trim_end())
}

/// Runs `models`.
pub fn list_models(command: &Models, global: &Global) -> Result<(), Failure> {
    let name = command.name.as_deref().unwrap_or(models::EMBEDDED);
    let folder = models::folder(name)?;
    let loaded = models::load(name)?;
    if command.card {
        return card(loaded.policy(), command, global);
    }
    let c = loaded.model.config();
    let parameters = loaded.model.layout().total();
    if global.json {
        return output::json(&json!({
            "name": name, "folder": folder, "parameters": parameters, "layers": c.layers, "hidden_size": c.hidden_size,
            "heads": c.heads, "kv_heads": c.kv_heads, "vocabulary": c.vocab_size, "positions": c.max_positions,
        }));
    }
    output::line(&format!("{name}  {}", folder.display()))?;
    output::line(&format!(
        "{:.2} M parameters, {} layers, width {}, {} heads, vocabulary {}, {} positions",
        parameters as f64 / 1e6,
        c.layers,
        c.hidden_size,
        c.heads,
        c.vocab_size,
        c.max_positions
    ))?;
    output::line(
        "any folder with config.json, tokenizer.json and model.safetensors (Llama, Qwen2, Qwen3) can be named too",
    )
}

/// Runs `report`.
pub fn report(command: &Report, global: &Global) -> Result<(), Failure> {
    let run = Run::open_read_only(&command.run)?;
    let path = run.report_path();
    if !path.exists() {
        return Err(Failure::new(
            Code::Input,
            format!("{} has no report yet", command.run.display()),
            format!(
                "`elenchus resume {}` finishes a run of improve or reproduce; those of ask, eval, compare and their kin have \
                 no page: `resume` prints their result again",
                command.run.display()
            ),
        ));
    }
    let rows = run.metrics().rows()?;
    if global.json {
        let metrics: Vec<_> = rows.into_iter().map(|(_, row)| row).collect();
        return output::json(&json!({ "report": path, "metrics": metrics }));
    }
    output::line(&path.display().to_string())
}

/// Runs `completions`.
pub fn completions(command: &Completions) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(command.shell, &mut Arguments::command(), "elenchus", &mut text);
    output::line(String::from_utf8_lossy(&text).trim_end())
}
