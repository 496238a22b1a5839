//! One piece of long work: its journal, its observer, its stop flag.

use crate::{LearnError, Observer, StopFlag};
use elenchus_remember::Run;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// What long work carries with it.
pub struct Session<'a> {
    /// The run folder; without one nothing is kept and an interruption loses the work.
    pub run: Option<&'a Run>,
    /// Who watches.
    pub observer: &'a dyn Observer,
    /// Asks to stop.
    pub stop: StopFlag,
}

impl Session<'_> {
    /// Fails with [`LearnError::Interrupted`] when somebody asked to stop.
    pub fn check(&self) -> Result<(), LearnError> {
        if self.stop.stopped() { Err(LearnError::Interrupted) } else { Ok(()) }
    }

    /// The journalled result of a unit of work, computed now if it is not there. The flag tells whether it was there.
    pub fn once<T: Serialize + DeserializeOwned>(
        &self,
        key: &str,
        compute: impl FnOnce() -> Result<T, LearnError>,
    ) -> Result<(T, bool), LearnError> {
        self.check()?;
        let Some(run) = self.run else { return Ok((compute()?, false)) };
        if let Some(known) = run.journal().get(key)? {
            return Ok((known, true));
        }
        let value = compute()?;
        run.journal().put(key, &value)?;
        Ok((value, false))
    }

    /// The folder of a finished checkpoint with this name.
    pub fn checkpoint(&self, name: &str) -> Result<Option<PathBuf>, LearnError> {
        let name = file_name(name);
        match self.run {
            Some(run) if run.checkpoints().contains(&name) => Ok(Some(run.checkpoints().verified(&name)?)),
            _ => Ok(None),
        }
    }

    /// Writes a checkpoint so that it is there whole or not at all. Without a run folder nothing is written.
    pub fn save_checkpoint(
        &self,
        name: &str,
        write: impl FnOnce(&Path) -> Result<(), LearnError>,
    ) -> Result<(), LearnError> {
        if let Some(run) = self.run {
            run.checkpoints().commit(&file_name(name), write)?;
        }
        Ok(())
    }
}

/// Work is named by paths (`b-star/0/1`), checkpoints by file names.
fn file_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Quiet;

    #[test]
    fn checkpoints_of_work_named_by_a_path() {
        let folder = tempfile::tempdir().unwrap();
        let run = Run::create(folder.path().join("run"), &serde_json::json!({})).unwrap();
        let session = Session { run: Some(&run), observer: &Quiet, stop: StopFlag::default() };
        assert!(session.checkpoint("b-star/0/1-round-1").unwrap().is_none(), "not written yet");
        session
            .save_checkpoint("b-star/0/1-round-1", |folder| {
                std::fs::write(folder.join("weights"), "1").unwrap();
                Ok(())
            })
            .unwrap();
        assert!(session.checkpoint("b-star/0/1-round-1").unwrap().is_some(), "found under the same name");
    }

    #[test]
    fn a_stop_is_seen_before_the_next_unit() {
        let session = Session { run: None, observer: &Quiet, stop: StopFlag::default() };
        assert_eq!(session.once("a", || Ok(1)).unwrap(), (1, false));
        session.stop.stop();
        assert!(matches!(session.once("b", || Ok(2)), Err(LearnError::Interrupted)));
    }
}
