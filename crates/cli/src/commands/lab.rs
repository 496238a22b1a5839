//! `elenchus lab`

use crate::arguments::Global;
use crate::failure::{Code, Failure};
use crate::output;
use crate::progress::{Display, stop_on_interrupt};
use clap::{Args, Subcommand};
use elenchus_learn::Session;
use elenchus_recipe::lab::{Card, Lab, LabModel, Standing, checkpoint, checkpoints};
use elenchus_recipe::models;
use serde_json::json;
use std::path::PathBuf;

/// The small checkpoints that experiments need: train them once, find them again
#[derive(Debug, Args)]
#[command(
    after_help = "A checkpoint is named by a hash of everything that determines it (settings, model seed, the
weights it starts from, version of the code that makes its rows). `reproduce` makes what it needs
by itself; `lab build` makes it beforehand. A build that was stopped goes on when it is asked for
again; a damaged checkpoint is made again.

Examples:
  elenchus lab list
  elenchus lab build
  elenchus lab build own-judge --seeds 1
  elenchus models $(elenchus lab path own-judge --seed 1)"
)]
pub struct Command {
    /// What to do
    #[command(subcommand)]
    what: What,
    /// Folder of the cache [default: $ELENCHUS_CACHE, else $XDG_CACHE_HOME/elenchus, else ~/.cache/elenchus]
    #[arg(long, value_name = "DIR", global = true)]
    cache: Option<PathBuf>,
    /// Base model of the checkpoints that start from one: `embedded`, or a folder
    #[arg(long, default_value = models::EMBEDDED, global = true)]
    model: String,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The checkpoints, and which of them are there
    List {
        #[command(flatten)]
        seeds: Seeds,
    },
    /// Make the checkpoints that are not there
    Build {
        /// Which ones [default: all]
        names: Vec<String>,
        #[command(flatten)]
        seeds: Seeds,
    },
    /// The model folder of a finished checkpoint; `--seed` is its model seed
    Path {
        /// Name
        name: String,
    },
}

#[derive(Debug, Args)]
struct Seeds {
    /// Model seeds
    #[arg(long, value_name = "N,N…", value_delimiter = ',', default_values_t = [1, 2, 3])]
    seeds: Vec<u64>,
}

/// Runs the command.
pub fn run(command: &Command, global: &Global) -> Result<(), Failure> {
    let lab = Lab::new(command.cache.as_deref()).over(&command.model);
    match &command.what {
        What::List { seeds } => list(&lab, &seeds.seeds, global),
        What::Build { names, seeds } => build(&lab, names, &seeds.seeds, global),
        What::Path { name } => path(&lab, name, global),
    }
}

fn list(lab: &Lab, seeds: &[u64], global: &Global) -> Result<(), Failure> {
    let mut rows =
        vec![["checkpoint", "seed", "state", "seconds", "figure", "what it is"].map(String::from).to_vec()];
    let mut found = Vec::new();
    for model in checkpoints() {
        for &seed in seeds {
            let standing = lab.look(model.as_ref(), seed)?;
            let (state, card) = match &standing {
                Standing::Missing => ("not made", None),
                Standing::Begun => ("begun", None),
                Standing::Ready(built) => ("ready", Some(&built.card)),
                Standing::Damaged(_) => ("damaged", None),
            };
            let figure = |card: &Card| format!("{} {:.3}", card.figure.name, card.figure.value);
            rows.push(vec![
                model.name().into(),
                seed.to_string(),
                state.into(),
                card.map_or("–".into(), |card| format!("{:.0}", card.seconds)),
                card.map_or("–".into(), figure),
                model.summary().into(),
            ]);
            found.push(json!({
                "name": model.name(), "seed": seed, "state": state, "card": card, "summary": model.summary(),
                "folder": lab.folder(model.as_ref(), seed)?,
            }));
        }
    }
    if global.json { output::json(&found) } else { output::line(output::table(&rows).trim_end()) }
}

fn build(lab: &Lab, names: &[String], seeds: &[u64], global: &Global) -> Result<(), Failure> {
    let models: Vec<Box<dyn LabModel>> = if names.is_empty() {
        checkpoints()
    } else {
        names.iter().map(|name| checkpoint(name)).collect::<Result<_, _>>()?
    };
    let display = Display::new(0, 0, global.quiet);
    let session = Session { run: None, observer: &display, stop: stop_on_interrupt() };
    let mut cards = Vec::new();
    let outcome = models.iter().try_for_each(|model| {
        seeds.iter().try_for_each(|&seed| {
            let built = lab.obtain(model.as_ref(), seed, &session)?;
            cards.push(json!({ "card": built.card, "folder": built.folder, "made": built.made }));
            Ok::<(), elenchus_recipe::RecipeError>(())
        })
    });
    display.finish();
    outcome.map_err(|error| Failure::from(error).going_on("the same `elenchus lab build`"))?;
    if global.json {
        return output::json(&cards);
    }
    list_built(&cards)
}

fn list_built(built: &[serde_json::Value]) -> Result<(), Failure> {
    for row in built {
        let card = &row["card"];
        output::line(&format!(
            "{} seed {}  {}  {:.0} s, {} tokens, {} {:.3}\n  {}",
            card["name"].as_str().unwrap_or_default(),
            card["seed"],
            if row["made"] == true { "made" } else { "there already" },
            card["seconds"].as_f64().unwrap_or_default(),
            card["tokens"],
            card["figure"]["name"].as_str().unwrap_or_default(),
            card["figure"]["value"].as_f64().unwrap_or_default(),
            row["folder"].as_str().unwrap_or_default(),
        ))?;
    }
    Ok(())
}

fn path(lab: &Lab, name: &str, global: &Global) -> Result<(), Failure> {
    let (model, seed) = (checkpoint(name)?, global.seed);
    let problem = match lab.look(model.as_ref(), seed)? {
        Standing::Ready(built) if global.json => {
            return output::json(&json!({ "name": name, "seed": seed, "folder": built.folder }));
        }
        Standing::Ready(built) => return output::line(&built.folder.display().to_string()),
        Standing::Missing => "is not made".to_string(),
        Standing::Begun => "was begun and is not finished".to_string(),
        Standing::Damaged(reason) => format!("is damaged: {reason}"),
    };
    Err(Failure::new(
        Code::Usage,
        format!("checkpoint `{name}` seed {seed} {problem}"),
        format!("`elenchus lab build {name} --seeds {seed}` makes it"),
    ))
}
