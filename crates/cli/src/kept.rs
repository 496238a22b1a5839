//! Runs of the commands that ask: `--out DIR` keeps every call, and `resume` goes on.

use crate::arguments::Global;
use crate::commands::ask::AskConfig;
use crate::commands::audit::AuditConfig;
use crate::commands::calibrate::CalibrateConfig;
use crate::commands::eval::{CompareConfig, EvalConfig};
use crate::commands::grid::GridConfig;
use crate::failure::{Code, Failure};
use clap::Args;
use elenchus_remember::Run;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::PathBuf;

/// Where calls are kept.
#[derive(Debug, Clone, Args)]
pub struct KeepOptions {
    /// Folder of a run: every answered call is kept there and paid for once; go on with the same command or with
    /// `elenchus resume DIR`
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
const FREE: [&str; 5] = ["/asking/budget", "/asking/price", "/problems/at_once", "/at_once", "/traces"];

/// Begins the run, or goes on with it when it was begun with the same configuration; and runs the command.
pub fn run(keep: &KeepOptions, config: &KeptConfig, global: &Global) -> Result<(), Failure> {
    let Some(folder) = &keep.out else { return config.execute(None, global) };
    let run = Run::open_or_create(folder, config)?;
    let wanted = serde_json::to_value(config).map_err(std::io::Error::other)?;
    let mut differing = Vec::new();
    differences(&comparable(run.config_value()), &comparable(&wanted), "", &mut differing);
    if !differing.is_empty() {
        let folder = folder.display();
        return Err(Failure::new(
            Code::Usage,
            format!("the run in `{folder}` was begun with another `{}`", differing.join("`, `")),
            format!("`elenchus resume {folder}` goes on with it; give another `--out` for a new one"),
        ));
    }
    config.execute(Some(&run), global)
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
