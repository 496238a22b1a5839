//! `metrics.jsonl`: one line per measured unit, for people and other programs to follow.
//!
//! The journal is the truth: a row is put there under its key first and then appended to the file. So a row is never
//! written twice, and a torn or missing last line is written again when the run is opened.

use crate::error::{RememberError, Result};
use crate::fs;
use crate::journal::{Journal, PutOutcome};
use serde::Serialize;
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Under which keys the journal holds the rows.
const PREFIX: &str = "metrics";

/// The metrics of a run.
#[derive(Debug)]
pub struct Metrics {
    journal: Arc<Journal>,
    path: PathBuf,
    /// Held while a row goes to the journal and to the file, so that both have the same order.
    writing: Mutex<()>,
}

impl Metrics {
    /// Opens the file and makes it say what the journal says: a torn line is cut off, missing lines are written.
    pub(crate) fn open(journal: Arc<Journal>, path: PathBuf) -> Result<Self> {
        let metrics = Metrics { journal, path, writing: Mutex::new(()) };
        let expected = metrics.expected()?;
        let found = if metrics.path.exists() { fs::read(&metrics.path)? } else { Vec::new() };
        if found != expected {
            fs::write_atomic(&metrics.path, &expected)?;
        }
        Ok(metrics)
    }

    pub(crate) fn open_read_only(journal: Arc<Journal>, path: PathBuf) -> Self {
        Metrics { journal, path, writing: Mutex::new(()) }
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the row of a unit (`round/2`) once; a row that is there already stays as it is.
    ///
    /// # Errors
    /// As [`Journal::put`], and when the file cannot be written; the row is then in the journal, and the next opening
    /// of the run adds the line.
    pub fn record<T: Serialize + ?Sized>(&self, key: &str, row: &T) -> Result<PutOutcome> {
        let line = serde_json::to_vec(row).map_err(|source| RememberError::Json {
            what: format!("metrics row `{key}`"),
            path: self.path.clone(),
            source,
            hint: "a metrics row is a JSON object",
        })?;
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = self.journal.put_bytes(&format!("{PREFIX}/{key}"), &line)?;
        if outcome == PutOutcome::Written {
            let mut bytes = line;
            bytes.push(b'\n');
            fs::open_append(&self.path)?
                .write_all(&bytes)
                .map_err(|source| RememberError::io("write", &self.path, source))?;
        }
        Ok(outcome)
    }

    /// All rows with their keys, in the order in which they were recorded.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn rows(&self) -> Result<Vec<(String, Value)>> {
        let mut rows = Vec::new();
        for entry in self.journal.scan(PREFIX)? {
            let row = serde_json::from_slice(&entry.payload).map_err(|source| RememberError::Json {
                what: format!("entry `{}`", entry.key),
                path: self.journal.path().to_path_buf(),
                source,
                hint: "the journal was edited: restore the run folder from a copy",
            })?;
            let key = entry.key.strip_prefix("metrics/").unwrap_or(&entry.key).to_string();
            rows.push((key, row));
        }
        Ok(rows)
    }

    fn expected(&self) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        for entry in self.journal.scan(PREFIX)? {
            text.extend_from_slice(&entry.payload);
            text.push(b'\n');
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn torn_missing_and_doubled_lines_are_repaired() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Arc::new(Journal::open(folder.path().join("journal.sqlite")).unwrap());
        let path = folder.path().join("metrics.jsonl");
        let open = || Metrics::open(journal.clone(), path.clone()).unwrap();
        let metrics = open();
        for round in 0..3 {
            metrics.record(&format!("round/{round}"), &json!({"round": round, "accuracy": 0.5})).unwrap();
        }
        assert_eq!(metrics.record("round/1", &json!({"round": 1})).unwrap(), PutOutcome::KeptEarlier);
        let whole = fs::read(&path).unwrap();
        assert_eq!(whole.iter().filter(|&&b| b == b'\n').count(), 3, "a row is written once");
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            open();
            assert_eq!(fs::read(&path).unwrap(), whole, "cut at byte {cut}");
        }
        std::fs::write(&path, [whole.as_slice(), b"{\"round\":3,\"accu"].concat()).unwrap();
        let metrics = open();
        assert_eq!(fs::read(&path).unwrap(), whole, "a line that the journal does not know is no result");
        assert_eq!(metrics.rows().unwrap()[2], ("round/2".into(), json!({"round": 2, "accuracy": 0.5})));
    }
}
