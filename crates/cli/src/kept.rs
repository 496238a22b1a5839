//! Runs of the commands that ask: `--out DIR` keeps every call, and `resume` goes on. Without it the calls of an endpoint
//! are kept in the user's cache until the command is done.

use crate::arguments::Global;
use crate::asking::{Asking, answered};
use crate::commands::ask::AskConfig;
use crate::commands::audit::AuditConfig;
use crate::commands::calibrate::CalibrateConfig;
use crate::commands::compare::CompareConfig;
use crate::commands::eval::EvalConfig;
use crate::commands::grid::GridConfig;
use crate::failure::{Code, Failure};
use clap::Args;
use elenchus_recipe::models;
use elenchus_remember::{RememberError, Run};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Where calls are kept.
#[derive(Debug, Clone, Args)]
pub struct KeepOptions {
    /// Folder of a run: every answered call is kept there and paid for once; go on with the same command or with
    /// `elenchus resume DIR` [default for endpoints: a folder in the cache, until the command is done]
    #[arg(long, value_name = "DIR", conflicts_with = "replay")]
    pub out: Option<PathBuf>,
}

/// What the configuration of a run folder says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum KeptConfig {
    /// A run of `ask`.
    Ask(AskConfig),
    /// A run of `eval`.
    Eval(EvalConfig),
    /// A run of `compare`.
    Compare(CompareConfig),
    /// A run of `grid`.
    Grid(GridConfig),
    /// A run of `audit`.
    Audit(Box<AuditConfig>),
    /// A run of `calibrate`.
    Calibrate(Box<CalibrateConfig>),
}

impl KeptConfig {
    /// The names that `command` has in a configuration.
    pub const COMMANDS: [&str; 6] = ["ask", "eval", "compare", "grid", "audit", "calibrate"];

    fn asking(&self) -> &Asking {
        match self {
            KeptConfig::Ask(config) => &config.asking,
            KeptConfig::Eval(config) => &config.asking,
            KeptConfig::Compare(config) => &config.asking,
            KeptConfig::Grid(config) => &config.asking,
            KeptConfig::Audit(config) => &config.asking,
            KeptConfig::Calibrate(config) => &config.asking,
        }
    }

    /// Runs the command, in the run when there is one.
    pub fn execute(&self, run: Option<&Run>, global: &Global) -> Result<(), Failure> {
        match self {
            KeptConfig::Ask(config) => config.execute(run, global),
            KeptConfig::Eval(config) => config.execute(run, global),
            KeptConfig::Compare(config) => config.execute(run, global),
            KeptConfig::Grid(config) => config.execute(run, global),
            KeptConfig::Audit(config) => config.execute(run, global),
            KeptConfig::Calibrate(config) => config.execute(run, global),
        }
    }
}

/// Fields that do not decide what is asked: a run may go on with more money, or write its traces elsewhere.
const FREE: [&str; 6] =
    ["/asking/budget", "/asking/price", "/asking/model/layers", "/problems/at_once", "/at_once", "/traces"];

/// Begins the run, or goes on with it when it was begun with the same configuration; and runs the command.
pub fn run(keep: &KeepOptions, config: &KeptConfig, global: &Global) -> Result<(), Failure> {
    let Some(folder) = &keep.out else {
        return if config.asking().is_remote() {
            run_in_cache(config, global)
        } else {
            config.execute(None, global)
        };
    };
    let run = Run::open_or_create(folder, config)?;
    let differing = differing(&run, config)?;
    if !differing.is_empty() {
        let folder = folder.display();
        return Err(Failure::new(
            Code::Usage,
            format!("the run in `{folder}` was begun with another `{}`", differing.join("`, `")),
            format!("`elenchus resume {folder}` goes on with it; give another `--out` for a new one"),
        ));
    }
    config.execute(Some(&run), global).map_err(|failure| failure.in_run(&run))
}

/// The paths at which the configuration of a run differs from another.
fn differing(run: &Run, config: &KeptConfig) -> Result<Vec<String>, Failure> {
    let wanted = serde_json::to_value(config).map_err(std::io::Error::other)?;
    let mut found = Vec::new();
    differences(&comparable(run.config_value()), &comparable(&wanted), "", &mut found);
    Ok(found)
}

/// Runs the command in a folder of the cache that bears the hash of its configuration. A command that is done leaves
/// nothing; one that failed or was stopped leaves its answered calls, and the same command goes on with them.
fn run_in_cache(config: &KeptConfig, global: &Global) -> Result<(), Failure> {
    let run = match cached_run(&cached_runs(), config) {
        Ok(run) => run,
        Err(failure) => {
            anstream::eprintln!("warning: calls are not kept: {failure}");
            return config.execute(None, global);
        }
    };
    let before = answered(&run);
    if before > 0 && !global.quiet {
        anstream::eprintln!(
            "note: going on with {before} answered calls of the same command, which did not end"
        );
    }
    let result = config.execute(Some(&run), global).map_err(|failure| failure.in_run(&run));
    tidy(run, &result);
    result
}

/// Goes on with a run.
pub fn resume(run: Run, global: &Global) -> Result<(), Failure> {
    let result =
        run.config::<KeptConfig>()?.execute(Some(&run), global).map_err(|failure| failure.in_run(&run));
    if run.path().starts_with(cached_runs()) {
        tidy(run, &result);
    }
    result
}

fn cached_runs() -> PathBuf {
    models::cache_folder().join("runs")
}

/// Removes the folder of a command that is done, or failed with nothing to go on with: later ones ask anew. A folder that
/// a message names stays.
fn tidy(run: Run, result: &Result<(), Failure>) {
    let named = |failure: &Failure| matches!(failure.code, Code::Interrupted | Code::Storage);
    let needed = result.as_ref().is_err_and(|failure| named(failure) || answered(&run) > 0);
    if !needed {
        let folder = run.path().to_path_buf();
        drop(run);
        // What cannot be removed is in nobody's way.
        let _ = elenchus_remember::fs::remove_dir_all(&folder);
    }
}

/// The run of a configuration below a folder. While another process works on it, the next one.
fn cached_run(folder: &Path, config: &KeptConfig) -> Result<Run, Failure> {
    const MOST_AT_ONCE: usize = 64;
    let wanted = comparable(&serde_json::to_value(config).map_err(std::io::Error::other)?);
    let hash = blake3::hash(wanted.to_string().as_bytes()).to_hex();
    let command = wanted["command"].as_str().unwrap_or_default();
    let name = format!("{command}-{}", &hash[..16]);
    let mut number = 1;
    loop {
        let folder = folder.join(if number == 1 { name.clone() } else { format!("{name}-{number}") });
        match Run::open_or_create(&folder, config) {
            Err(RememberError::Locked { .. }) if number < MOST_AT_ONCE => number += 1,
            run => return Ok(run?),
        }
    }
}

fn comparable(config: &Value) -> Value {
    let mut config = config.clone();
    for path in FREE {
        if let Some(field) = config.pointer_mut(path) {
            *field = Value::Null;
        }
    }
    config
}

/// The paths at which two configurations differ.
fn differences(left: &Value, right: &Value, path: &str, found: &mut Vec<String>) {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            let missing = right.keys().filter(|name| !left.contains_key(*name));
            for name in left.keys().chain(missing) {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let field =
                    |fields: &serde_json::Map<String, Value>| fields.get(name).cloned().unwrap_or_default();
                differences(&field(left), &field(right), &path, found);
            }
        }
        _ if left != right => found.push(path.into()),
        _ => {}
    }
}

/// Adds a result to the metrics of a run, unless the last one says the same: a command that was run again repeats it.
pub fn record_result<T: Serialize>(run: Option<&Run>, result: &T) -> Result<(), Failure> {
    let Some(run) = run else { return Ok(()) };
    let result = serde_json::to_value(result).map_err(std::io::Error::other)?;
    let rows = run.metrics().rows()?;
    if rows.last().is_none_or(|(_, last)| *last != result) {
        run.metrics().record(&format!("result/{}", rows.len() + 1), &result)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn differences_are_named_by_path_and_the_budget_is_free() {
        let left =
            json!({"command": "eval", "asking": {"seed": 1, "budget": {"calls": 3}}, "settings": ["a=1"]});
        let mut right = left.clone();
        right["asking"]["budget"] = json!({"calls": 9});
        let named = |left: &Value, right: &Value| {
            let mut found = Vec::new();
            differences(&comparable(left), &comparable(right), "", &mut found);
            found
        };
        assert!(named(&left, &right).is_empty());
        right["asking"]["seed"] = json!(2);
        right["settings"] = json!([]);
        right["strategy"] = json!("single");
        assert_eq!(named(&left, &right), ["asking.seed", "settings", "strategy"]);
    }
}
