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
use crate::commands::probe::ProbeConfig;
use crate::failure::{Code, Failure};
use clap::Args;
use elenchus_recipe::models;
use elenchus_remember::{RememberError, Run};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
    /// A run of `probe`.
    Probe(Box<ProbeConfig>),
}

impl KeptConfig {
    /// The names that `command` has in a configuration.
    pub const COMMANDS: [&str; 7] = ["ask", "eval", "compare", "grid", "audit", "calibrate", "probe"];

    fn asking(&self) -> &Asking {
        match self {
            KeptConfig::Ask(config) => &config.asking,
            KeptConfig::Eval(config) => &config.asking,
            KeptConfig::Compare(config) => &config.asking,
            KeptConfig::Grid(config) => &config.asking,
            KeptConfig::Audit(config) => &config.asking,
            KeptConfig::Calibrate(config) => &config.asking,
            KeptConfig::Probe(config) => &config.asking,
        }
    }

    /// Runs the command, in the run when there is one.
    pub fn execute(&self, run: Option<&Run>, global: &Global) -> Result<Done, Failure> {
        match self {
            KeptConfig::Ask(config) => config.execute(run, global)?,
            KeptConfig::Eval(config) => config.execute(run, global)?,
            KeptConfig::Compare(config) => return config.execute(run, global),
            KeptConfig::Grid(config) => config.execute(run, global)?,
            KeptConfig::Audit(config) => config.execute(run, global)?,
            KeptConfig::Calibrate(config) => config.execute(run, global)?,
            KeptConfig::Probe(config) => config.execute(run, global)?,
        }
        Ok(Done::All)
    }
}

/// Fields that do not decide what is asked: a run may go on with more money, write its traces elsewhere, or believe another
/// authority that the server is who it says (a command that failed for want of `ca_file` goes on with it).
const FREE: [&str; 10] = [
    "/asking/budget",
    "/asking/price",
    "/asking/role_prices",
    "/asking/model/layers",
    "/problems/at_once",
    "/at_once",
    "/traces",
    "/judgements",
    "/rows",
    "/pairs",
];

/// How long a command that was not done is kept in the cache.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// What is left of a command that ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// Nothing.
    All,
    /// What a larger bound would have let it do.
    ToTheBound,
}

/// Begins the run, or goes on with it when it was begun with the same configuration; and runs the command.
pub fn run(keep: &KeepOptions, config: &KeptConfig, global: &Global) -> Result<(), Failure> {
    let Some(folder) = &keep.out else {
        return if config.asking().is_remote() {
            run_in_cache(config, global)
        } else {
            config.execute(None, global).map(|_| ())
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
    config.execute(Some(&run), global).map(|_| ()).map_err(|failure| failure.in_run(&run))
}

/// The paths at which the configuration of a run differs from another.
fn differing(run: &Run, config: &KeptConfig) -> Result<Vec<String>, Failure> {
    let wanted = serde_json::to_value(config).map_err(std::io::Error::other)?;
    let mut found = Vec::new();
    differences(&comparable(run.config_value()), &comparable(&wanted), "", &mut found);
    Ok(found)
}

/// Runs the command in a folder of the cache that bears the hash of its configuration. A command that is done leaves
/// nothing; one that failed, was stopped or reached its bound leaves its answered calls for [`KEPT`], and the same command
/// goes on with them.
fn run_in_cache(config: &KeptConfig, global: &Global) -> Result<(), Failure> {
    let folder = cached_runs();
    prune(&folder);
    let run = match cached_run(&folder, config) {
        Ok(run) => run,
        Err(failure) => {
            anstream::eprintln!("warning: calls are not kept: {failure}");
            return config.execute(None, global).map(|_| ());
        }
    };
    let before = answered(&run);
    if before > 0 && !global.quiet {
        anstream::eprintln!(
            "note: going on with {before} answered calls of the same command, which did not do all"
        );
    }
    let result = config.execute(Some(&run), global).map_err(|failure| failure.in_run(&run));
    tidy(run, &result);
    result.map(|_| ())
}

/// Goes on with a run.
pub fn resume(run: Run, global: &Global) -> Result<(), Failure> {
    let result =
        run.config::<KeptConfig>()?.execute(Some(&run), global).map_err(|failure| failure.in_run(&run));
    if is_within(run.path(), &cached_runs()) {
        tidy(run, &result);
    }
    result.map(|_| ())
}

/// Whether a folder lies in another, however both are spelled.
fn is_within(folder: &Path, outer: &Path) -> bool {
    let whole = |path: &Path| path.canonicalize().ok();
    whole(folder).zip(whole(outer)).is_some_and(|(folder, outer)| folder.starts_with(outer))
}

/// Removes what has been kept for longer than [`KEPT`]: nobody goes on with it.
fn prune(folder: &Path) {
    let old = |path: &Path| {
        let changed = std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        changed.and_then(|changed| changed.elapsed().ok()).is_some_and(|age| age > KEPT)
    };
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for folder in entries.flatten().map(|entry| entry.path()).filter(|path| old(path)) {
        // The lock says that no process works on it.
        if let Ok(run) = Run::open(&folder) {
            remove(run);
        }
    }
}

/// Removes a run. It leaves its place while it is locked, so that no other process begins to work on what goes away.
fn remove(run: Run) {
    let folder = run.path().to_path_buf();
    let gone = folder.with_extension(format!("{}.gone", std::process::id()));
    let moved = std::fs::rename(&folder, &gone).is_ok();
    drop(run);
    // What cannot be removed is in nobody's way.
    let _ = elenchus_remember::fs::remove_dir_all(if moved { &gone } else { &folder });
}

fn cached_runs() -> PathBuf {
    models::cache_folder().join("runs")
}

/// Removes the folder of a command that is done, or failed with nothing to go on with: later ones ask anew. A folder that
/// a message names stays.
fn tidy(run: Run, result: &Result<Done, Failure>) {
    let needed = match result {
        Ok(done) => *done == Done::ToTheBound,
        Err(failure) => matches!(failure.code, Code::Interrupted | Code::Storage) || answered(&run) > 0,
    };
    if !needed {
        remove(run);
    }
}

/// The run of a configuration below a folder, which nobody else may read. While another process works on it, the next
/// one. The names of files mean something in the folder of the command only.
fn cached_run(folder: &Path, config: &KeptConfig) -> Result<Run, Failure> {
    const MOST_AT_ONCE: usize = 64;
    private_folder(folder)?;
    let wanted = comparable(&serde_json::to_value(config).map_err(std::io::Error::other)?);
    let here = std::env::current_dir()?;
    let hash = blake3::hash(format!("{}\0{wanted}", here.display()).as_bytes()).to_hex();
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

/// Makes a folder for the user alone: prompts and answers are nobody else's business.
fn private_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn comparable(config: &Value) -> Value {
    let mut config = config.clone();
    if let Some(roles) = config.pointer_mut("/asking/roles").and_then(Value::as_object_mut) {
        roles.values_mut().for_each(|role| role["layers"] = Value::Null);
        roles.values_mut().for_each(without_authorities);
    }
    config.pointer_mut("/asking/model").into_iter().for_each(without_authorities);
    for path in FREE {
        if let Some(field) = config.pointer_mut(path) {
            *field = Value::Null;
        }
    }
    config
}

/// Where there are none, the field is not written; so it has to be gone, and not null, for both to be the same.
fn without_authorities(model: &mut Value) {
    if let Some(fields) = model.as_object_mut() {
        fields.shift_remove("ca_file");
    }
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
    use crate::asking::ModelChoice;
    use elenchus_recipe::EndpointDefaults;
    use serde_json::json;

    #[test]
    fn a_folder_is_known_by_any_spelling_and_goes_away_whole() {
        let cache = tempfile::tempdir().unwrap();
        let runs = cache.path().join("runs");
        private_folder(&runs).unwrap();
        let folder = runs.join("ask-1");
        let run = Run::create(&folder, &json!({})).unwrap();
        assert!(is_within(&runs.join("../runs/ask-1"), &runs) && !is_within(cache.path(), &runs));
        prune(&runs);
        assert!(folder.exists(), "it is in use, and not old");
        remove(run);
        assert_eq!(std::fs::read_dir(&runs).unwrap().count(), 0);
        let old = Run::create(&folder, &json!({})).unwrap();
        drop(old);
        let long_ago = std::time::SystemTime::now() - KEPT - Duration::from_secs(60);
        std::fs::File::open(&folder).unwrap().set_modified(long_ago).unwrap();
        prune(&runs);
        assert!(!folder.exists(), "nobody goes on with it");
    }

    #[cfg(unix)]
    #[test]
    fn what_is_kept_is_the_user_s_alone() {
        use std::os::unix::fs::PermissionsExt;
        let cache = tempfile::tempdir().unwrap();
        let runs = cache.path().join("runs");
        private_folder(&runs).unwrap();
        assert_eq!(std::fs::metadata(&runs).unwrap().permissions().mode() & 0o777, 0o700);
    }

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

    #[test]
    fn whom_we_believe_decides_nothing_that_is_asked() {
        let at = |ca_file: Option<&str>| {
            let server = EndpointDefaults {
                base_url: Some("https://host/v1".into()),
                ca_file: ca_file.map(Into::into),
                ..Default::default()
            };
            let model = ModelChoice::at("m".into(), server);
            json!({"command": "ask", "asking": {"model": model, "roles": {"judge": model}}})
        };
        let written = at(Some("ours.pem")).to_string();
        assert_eq!(written.matches("ours.pem").count(), 2, "{written}");
        // Equal as text, which names the folder in the cache.
        for other in [None, Some("theirs.pem")] {
            assert_eq!(comparable(&at(Some("ours.pem"))).to_string(), comparable(&at(other)).to_string());
        }
    }
}
