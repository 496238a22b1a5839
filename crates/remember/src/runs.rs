//! A folder of run folders, looked at from outside while others work in it.

use crate::error::Result;
use crate::fs;
use crate::run::{Run, is_locked};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Longest name of a run that is shown.
const MOST_NAME_BYTES: usize = 120;

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// A process works on it.
    Running,
    /// It has its report, and nobody works on it.
    Finished,
    /// It has no report, and nobody works on it: `elenchus resume` goes on with it.
    Interrupted,
}

/// What can be seen of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunSummary {
    /// Name of its folder.
    pub name: String,
    /// The command that began it, and its recipe, where the configuration says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The recipe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<String>,
    /// Whether it runs.
    pub state: RunState,
    /// When something was last written, milliseconds after 1970-01-01 UTC.
    pub updated_ms: u64,
    /// Units of work that are done.
    pub units: u64,
    /// The last of them, for example `improve/2/sample/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<String>,
    /// Whether it has a report.
    pub has_report: bool,
}

/// One run with its configuration and what was measured so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunDetails {
    /// What lists show.
    #[serde(flatten)]
    pub summary: RunSummary,
    /// Everything that determines its result.
    pub config: Value,
    /// Measured rows, in their order.
    pub metrics: Vec<Value>,
}

/// The runs of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runs {
    folder: PathBuf,
}

/// Whether this may be the name of a run: one part of a path that leads nowhere else.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !name.is_empty() && name.len() <= MOST_NAME_BYTES && !name.starts_with('.') && name.bytes().all(plain)
}

impl Runs {
    /// The runs of this folder; it need not be there yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Runs { folder: folder.into() }
    }

    /// The runs, last written first. Folders that are no runs, or whose names hold other signs than letters, digits,
    /// `-`, `_` and `.`, are left out.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn list(&self) -> Result<Vec<RunSummary>> {
        if !self.folder.exists() {
            return Ok(Vec::new());
        }
        let mut found: Vec<RunSummary> = Vec::new();
        for path in fs::list(&self.folder)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // What is being made or is damaged is no run yet, or no longer.
            if is_name(&name)
                && let Ok(run) = Run::open_read_only(&path)
                && let Ok(summary) = summary(name, &run)
            {
                found.push(summary);
            }
        }
        found.sort_by(|left, right| (right.updated_ms, &left.name).cmp(&(left.updated_ms, &right.name)));
        Ok(found)
    }

    fn open(&self, name: &str) -> Option<Run> {
        is_name(name).then(|| Run::open_read_only(self.folder.join(name)).ok()).flatten()
    }

    /// One run; `None` when there is none of this name.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn details(&self, name: &str) -> Result<Option<RunDetails>> {
        let Some(run) = self.open(name) else { return Ok(None) };
        Ok(Some(RunDetails {
            summary: summary(name.into(), &run)?,
            config: run.config_value().clone(),
            metrics: run.metrics().rows()?.into_iter().map(|(_, row)| row).collect(),
        }))
    }

    /// The report of a run; `None` when there is none yet.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn report(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match self.open(name).map(|run| run.report_path()).filter(|path| path.is_file()) {
            Some(path) => fs::read(path).map(Some),
            None => Ok(None),
        }
    }
}

fn summary(name: String, run: &Run) -> Result<RunSummary> {
    let text = |field: &str| run.config_value().get(field).and_then(Value::as_str).map(str::to_string);
    let has_report = run.report_path().is_file();
    let state = match (is_locked(run.path()), has_report) {
        (true, _) => RunState::Running,
        (false, true) => RunState::Finished,
        (false, false) => RunState::Interrupted,
    };
    let keys = run.journal().keys("")?;
    Ok(RunSummary {
        name,
        command: text("command"),
        recipe: text("recipe"),
        state,
        updated_ms: updated_ms(run.path())?,
        units: keys.len() as u64,
        latest: keys.into_iter().next_back(),
        has_report,
    })
}

/// The last change of one of the files of a folder.
fn updated_ms(folder: &Path) -> Result<u64> {
    let times = fs::list(folder)?.into_iter().filter_map(|path| {
        let changed = fs::metadata(path).ok()?.modified().ok()?;
        changed.duration_since(UNIX_EPOCH).ok().map(|since| since.as_millis() as u64)
    });
    Ok(times.max().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn runs_are_seen_while_they_run_and_after() {
        let folder = tempfile::tempdir().unwrap();
        let runs = Runs::new(folder.path().join("runs"));
        assert_eq!(runs.list().unwrap(), [], "no folder yet");
        let path = folder.path().join("runs/first");
        let run = Run::create(&path, &json!({"command": "improve", "recipe": "b-star"})).unwrap();
        run.journal().put("improve/1/sample/0", &1).unwrap();
        std::fs::create_dir(folder.path().join("runs/no-run")).unwrap();
        let state = || runs.list().unwrap()[0].state;
        assert_eq!(state(), RunState::Running);
        let found = runs.list().unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].recipe.as_deref(), found[0].units), (Some("b-star"), 1));
        assert_eq!(found[0].latest.as_deref(), Some("improve/1/sample/0"));
        run.metrics().record("round/0", &json!({"round": 0})).unwrap();
        assert_eq!(runs.report("first").unwrap(), None);
        drop(run);
        assert_eq!(state(), RunState::Interrupted);
        let run = Run::open(&path).expect("looking at it took nothing from it");
        run.write_report("<html>").unwrap();
        assert_eq!(state(), RunState::Running);
        drop(run);
        assert_eq!(state(), RunState::Finished);
        assert_eq!(runs.report("first").unwrap().unwrap(), b"<html>");
        let details = runs.details("first").unwrap().unwrap();
        assert_eq!(
            (details.metrics, &details.config["command"]),
            (vec![json!({"round": 0})], &json!("improve"))
        );
        for name in
            ["", ".", "..", "../runs/first", "first/", "first/..", "/etc", ".hidden", "a b", "no-run", "x\0"]
        {
            assert_eq!(runs.details(name).unwrap(), None, "{name:?}");
            assert_eq!(runs.report(name).unwrap(), None, "{name:?}");
        }
    }

    #[test]
    fn looking_never_keeps_a_run_from_being_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        drop(Run::create(&path, &json!({})).unwrap());
        let runs = Runs::new(folder.path());
        let ends = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ends.load(std::sync::atomic::Ordering::Relaxed) {
                    runs.list().unwrap();
                }
            });
            for _ in 0..200 {
                Run::open(&path).unwrap();
            }
            ends.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }
}
