//! A run is a folder.
//!
//! | file | what |
//! |---|---|
//! | `config.json` | the resolved configuration: everything that determines the result |
//! | `journal.sqlite` | what was done, see [`crate::journal`] |
//! | `metrics.jsonl` | measured rows for people, see [`crate::metrics`] |
//! | `checkpoints/` | model folders, see [`crate::checkpoints`] |
//! | `report.html` | the report |
//! | `lock` | held by the process that works on the run |

use crate::checkpoints::Checkpoints;
use crate::error::{RememberError, Result};
use crate::fs;
use crate::journal::Journal;
use crate::metrics::Metrics;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Version of the layout of a run folder. A reader refuses versions above its own.
pub const RUN_VERSION: u32 = 1;

const CONFIG: &str = "config.json";
const JOURNAL: &str = "journal.sqlite";
const METRICS: &str = "metrics.jsonl";
const CHECKPOINTS: &str = "checkpoints";
const REPORT: &str = "report.html";
const LOCK: &str = "lock";
/// How often a lock that is held is tried again, and the pause before each time.
const LOCK_TRIES: usize = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// What `config.json` holds.
#[derive(Debug, Serialize, Deserialize)]
struct ConfigFile {
    version: u32,
    /// Version of the program that began the run.
    elenchus: String,
    config: Value,
}

/// An open run folder.
///
/// Opened for writing it holds the folder's lock until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct Run {
    path: PathBuf,
    config: Value,
    journal: Arc<Journal>,
    metrics: Metrics,
    checkpoints: Checkpoints,
    /// The lock lives as long as the file is open; `None` when opened for reading only.
    lock: Option<File>,
}

impl Run {
    /// Begins a run in a new or empty folder. The configuration is written last, so a folder with `config.json` is a
    /// complete run folder.
    ///
    /// # Errors
    /// When there is a run already, the folder holds foreign files, another process works on it, or it cannot be
    /// written.
    pub fn create<C: Serialize + ?Sized>(path: impl AsRef<Path>, config: &C) -> Result<Self> {
        let path = path.as_ref();
        fs::create_dir_all(path)?;
        if path.join(CONFIG).exists() {
            return Err(RememberError::RunExists { path: path.to_path_buf() });
        }
        if let Some(found) = foreign_file(path)? {
            return Err(RememberError::NotEmpty { path: path.to_path_buf(), found });
        }
        let lock = take_lock(path)?;
        // Another process may have begun the run between the look above and the lock.
        if path.join(CONFIG).exists() {
            return Err(RememberError::RunExists { path: path.to_path_buf() });
        }
        let not_json = |source| RememberError::Json {
            what: "configuration".into(),
            path: path.join(CONFIG),
            source,
            hint: "a configuration must be representable as JSON",
        };
        let config = serde_json::to_value(config).map_err(not_json)?;
        // What an earlier process left that was killed before its configuration was written belongs to no run.
        for name in [JOURNAL, "journal.sqlite-wal", "journal.sqlite-shm", METRICS, REPORT] {
            fs::remove_file(path.join(name))?;
        }
        fs::remove_dir_all(path.join(CHECKPOINTS))?;
        let run = Self::assemble(path, config, Some(lock))?;
        let file = ConfigFile {
            version: RUN_VERSION,
            elenchus: env!("CARGO_PKG_VERSION").into(),
            config: run.config.clone(),
        };
        let mut text = serde_json::to_vec_pretty(&file).map_err(not_json)?;
        text.push(b'\n');
        fs::write_atomic(path.join(CONFIG), &text)?;
        Ok(run)
    }

    /// Opens a run to go on with it.
    ///
    /// # Errors
    /// When the folder is no run, another process works on it, or a newer program made it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let config = read_config(path)?;
        let lock = take_lock(path)?;
        Self::assemble(path, config, Some(lock))
    }

    /// Opens the run of a folder when there is one, else begins it with this configuration.
    ///
    /// # Errors
    /// As [`Run::open`] and [`Run::create`].
    pub fn open_or_create<C: Serialize + ?Sized>(path: impl AsRef<Path>, config: &C) -> Result<Self> {
        let path = path.as_ref();
        if path.join(CONFIG).exists() { Self::open(path) } else { Self::create(path, config) }
    }

    /// Opens a run for reading, also while another process works on it: nothing is repaired, created or locked.
    ///
    /// # Errors
    /// When the folder is no run, cannot be read, or a newer program made it.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let config = read_config(path)?;
        let journal = Arc::new(Journal::open_read_only(path.join(JOURNAL))?);
        Ok(Run {
            path: path.to_path_buf(),
            config,
            metrics: Metrics::open_read_only(journal.clone(), path.join(METRICS)),
            checkpoints: Checkpoints::open_read_only(path.join(CHECKPOINTS)),
            journal,
            lock: None,
        })
    }

    fn assemble(path: &Path, config: Value, lock: Option<File>) -> Result<Self> {
        for entry in fs::list(path)? {
            // Left by a process that was killed within an atomic write.
            if name_of(&entry).starts_with(fs::PARTIAL_PREFIX) {
                fs::remove_file(&entry)?;
            }
        }
        let journal = Arc::new(Journal::open(path.join(JOURNAL))?);
        Ok(Run {
            path: path.to_path_buf(),
            config,
            metrics: Metrics::open(journal.clone(), path.join(METRICS))?,
            checkpoints: Checkpoints::open(path.join(CHECKPOINTS))?,
            journal,
            lock,
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this process may write.
    pub fn is_writable(&self) -> bool {
        self.lock.is_some()
    }

    /// The resolved configuration as it was given to [`Run::create`].
    ///
    /// # Errors
    /// When it is not the configuration of a `C`, for example of another command or version.
    pub fn config<C: DeserializeOwned>(&self) -> Result<C> {
        C::deserialize(&self.config).map_err(|source| RememberError::Json {
            what: "configuration".into(),
            path: self.path.join(CONFIG),
            source,
            hint: "resume the run with the command and version that began it",
        })
    }

    /// The resolved configuration as JSON.
    pub fn config_value(&self) -> &Value {
        &self.config
    }

    /// What was done.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// What was measured.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The model folders.
    pub fn checkpoints(&self) -> &Checkpoints {
        &self.checkpoints
    }

    /// Where the report lies or will lie.
    pub fn report_path(&self) -> PathBuf {
        self.path.join(REPORT)
    }

    /// Writes the report, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_report(&self, html: &str) -> Result<PathBuf> {
        let path = self.report_path();
        fs::write_atomic(&path, html.as_bytes())?;
        Ok(path)
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The first name in the folder that no run folder holds.
fn foreign_file(path: &Path) -> Result<Option<String>> {
    let ours = [LOCK, METRICS, CHECKPOINTS, REPORT];
    Ok(fs::list(path)?.iter().map(|entry| name_of(entry)).find(|name| {
        !ours.contains(&name.as_str()) && !name.starts_with(JOURNAL) && !name.starts_with(fs::PARTIAL_PREFIX)
    }))
}

fn read_config(path: &Path) -> Result<Value> {
    let file = path.join(CONFIG);
    if !path.is_dir() {
        return Err(RememberError::NotARun {
            path: path.to_path_buf(),
            reason: "there is no such folder".into(),
        });
    }
    if !file.exists() || !path.join(JOURNAL).exists() {
        let missing = if file.exists() { JOURNAL } else { CONFIG };
        return Err(RememberError::NotARun {
            path: path.to_path_buf(),
            reason: format!("it has no `{missing}`"),
        });
    }
    let not_ours = |source| RememberError::Json {
        what: "configuration".into(),
        path: file.clone(),
        source,
        hint: "the file was edited or cut: restore it from a copy, or start anew in another folder",
    };
    // The version is looked at first: what a newer program wrote need not have our shape.
    let value: Value = serde_json::from_slice(&fs::read(&file)?).map_err(not_ours)?;
    let found = value.get("version").and_then(Value::as_u64).unwrap_or(0);
    if found > u64::from(RUN_VERSION) {
        let found = u32::try_from(found).unwrap_or(u32::MAX);
        return Err(RememberError::Version { path: file, found, known: RUN_VERSION });
    }
    let parsed: ConfigFile = serde_json::from_value(value).map_err(not_ours)?;
    Ok(parsed.config)
}

/// Whether a process works on the run of this folder.
pub(crate) fn is_locked(path: &Path) -> bool {
    let Ok(file) = fs::open(path.join(LOCK)) else { return false };
    // Taken and given back at once; `take_lock` knows of it.
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// Takes the exclusive lock of the folder. The system releases it when the process ends, also by `kill -9`.
fn take_lock(path: &Path) -> Result<File> {
    let file_path = path.join(LOCK);
    let fail = |operation| {
        let file_path = file_path.clone();
        move |source| RememberError::io(operation, file_path, source)
    };
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&file_path)
        .map_err(fail("open"))?;
    let mut outcome = file.try_lock();
    // Somebody who only looks holds it for a moment.
    for _ in 0..LOCK_TRIES {
        if !matches!(outcome, Err(TryLockError::WouldBlock)) {
            break;
        }
        std::thread::sleep(LOCK_PAUSE);
        outcome = file.try_lock();
    }
    match outcome {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Only for the message: who holds it wrote its number here.
            let known = file.read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
            let holder = if known { format!("process {}", holder.trim()) } else { "another process".into() };
            return Err(RememberError::Locked { path: path.to_path_buf(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(fail("lock")(source)),
    }
    file.set_len(0).and_then(|()| file.rewind()).map_err(fail("write"))?;
    write!(file, "{}", std::process::id()).map_err(fail("write"))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn create_open_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs/first");
        let run = Run::create(&path, &json!({"seed": 7, "rounds": 3})).unwrap();
        run.journal().put("round/0", &"done").unwrap();
        run.metrics().record("round/0", &json!({"accuracy": 0.5})).unwrap();
        run.write_report("<html></html>").unwrap();
        drop(run);
        let run = Run::open(&path).unwrap();
        assert_eq!(run.config_value()["seed"], 7);
        assert_eq!(run.journal().get::<String>("round/0").unwrap().unwrap(), "done");
        assert!(matches!(Run::create(&path, &1), Err(RememberError::RunExists { .. })));
        #[derive(serde::Deserialize, Debug)]
        struct Other {
            #[expect(dead_code, reason = "only its absence matters")]
            missing: u32,
        }
        let error = run.config::<Other>().unwrap_err().to_string();
        assert!(error.contains("missing field `missing`") && error.contains("config.json"), "{error}");
    }

    #[test]
    fn two_at_once_get_one_clear_error_and_readers_are_let_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let run = Run::create(&path, &json!({})).unwrap();
        run.journal().put("a", &1).unwrap();
        let error = Run::open(&path).unwrap_err().to_string();
        let holder = format!("in use by process {}", std::process::id());
        assert!(error.contains(&holder) && error.contains("\nhint:"), "{error}");
        let reader = Run::open_read_only(&path).unwrap();
        assert_eq!(reader.journal().get::<i32>("a").unwrap(), Some(1));
        assert!(!reader.is_writable());
        assert!(reader.journal().put("b", &1).is_err(), "a reader must not write");
        drop(reader);
        drop(run);
        assert!(Run::open(&path).unwrap().is_writable());
    }

    #[test]
    fn folders_that_are_no_runs_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = Run::open(folder.path().join("nowhere")).unwrap_err().to_string();
        assert!(error.contains("there is no such folder"), "{error}");
        let error = Run::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("it has no `config.json`"), "{error}");
        std::fs::write(folder.path().join("thesis.tex"), "x").unwrap();
        let error = Run::create(folder.path(), &json!({})).unwrap_err().to_string();
        assert!(error.contains("it holds `thesis.tex`"), "{error}");
        assert!(folder.path().join("thesis.tex").exists());
    }

    #[test]
    fn newer_layout_is_refused_and_cut_configuration_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        drop(Run::create(&path, &json!({})).unwrap());
        std::fs::write(path.join(CONFIG), r#"{"version": 2, "shape": "other"}"#).unwrap();
        assert!(matches!(Run::open(&path), Err(RememberError::Version { found: 2, known: 1, .. })));
        std::fs::write(path.join(CONFIG), r#"{"version": 1, "#).unwrap();
        let error = Run::open(&path).unwrap_err().to_string();
        assert!(error.contains("config.json") && error.contains("edited or cut"), "{error}");
    }

    #[test]
    fn a_beginning_that_was_killed_can_be_begun_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let run = Run::create(&path, &json!({"seed": 1})).unwrap();
        run.journal().put("stale", &1).unwrap();
        drop(run);
        std::fs::remove_file(path.join(CONFIG)).unwrap();
        std::fs::write(path.join(".partial-9-0-config.json"), "{").unwrap();
        let run = Run::create(&path, &json!({"seed": 2})).unwrap();
        assert_eq!(run.journal().count("").unwrap(), 0, "nothing of a run without configuration may count");
        assert!(!path.join(".partial-9-0-config.json").exists());
    }
}
