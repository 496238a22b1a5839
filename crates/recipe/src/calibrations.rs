//! The calibrations that a gateway applies: one file, an entry for each recipe, model and task.

use crate::RecipeError;
use elenchus_measure::{CalibrationFit, Calibrator};
use elenchus_remember::RememberError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Version of the file; a newer one is refused.
const VERSION: u32 = 1;

/// A calibration and what it was fitted on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CalibrationEntry {
    /// The recipe, or the composition as text.
    pub recipe: String,
    /// The model, as the gateway names it.
    pub model: String,
    /// The task whose rules extract and compare answers.
    pub task: String,
    /// From confidences to probabilities.
    pub calibrator: Calibrator,
    /// Answers with a known verdict that it was fitted on.
    pub judgements: usize,
    /// Expected calibration error (bins of equal numbers) of the confidences as they were.
    pub raw_error: f64,
    /// The same for calibrated confidences of answers that the calibration was not fitted on.
    pub held_out_error: f64,
    /// When it was fitted, milliseconds after 1970-01-01 UTC.
    pub fitted_ms: u64,
}

impl CalibrationEntry {
    /// An entry of a fit, made now.
    pub fn new(recipe: &str, model: &str, task: &str, fit: &CalibrationFit) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        CalibrationEntry {
            recipe: recipe.into(),
            model: model.into(),
            task: task.into(),
            calibrator: fit.calibrator.clone(),
            judgements: fit.raw.n,
            raw_error: fit.raw.ece.equal_mass,
            held_out_error: fit.held_out.ece.equal_mass,
            fitted_ms: now.map_or(0, |since| since.as_millis() as u64),
        }
    }

    fn is_for(&self, recipe: &str, model: &str, task: &str) -> bool {
        self.recipe == recipe && self.model == model && self.task == task
    }
}

/// All calibrations.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Calibrations {
    version: u32,
    calibrations: Vec<CalibrationEntry>,
}

impl Calibrations {
    /// Reads the file; one that is not there holds none.
    ///
    /// # Errors
    /// It cannot be read, is none of ours, of a newer version, or an entry is no rising map.
    pub fn read(path: &Path) -> Result<Self, RecipeError> {
        if !path.exists() {
            return Ok(Calibrations::default());
        }
        let refuse = |reason: String| RememberError::Format {
            path: path.to_path_buf(),
            reason,
            hint: "it is written by `elenchus calibrate`; remove it and fit again",
        };
        let text = elenchus_remember::fs::read_to_string(path)?;
        let found: Calibrations = serde_json::from_str(&text)
            .map_err(|error| refuse(format!("it is no file of calibrations: {error}")))?;
        if found.version > VERSION {
            let (found, known) = (found.version, VERSION);
            return Err(RememberError::Version { path: path.to_path_buf(), found, known }.into());
        }
        if let Some(wrong) = found.calibrations.iter().find(|entry| !entry.calibrator.is_valid()) {
            return Err(refuse(format!("the calibration of `{}` is no rising map", wrong.recipe)).into());
        }
        Ok(found)
    }

    /// Writes the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), RecipeError> {
        let written = Calibrations { version: VERSION, calibrations: self.calibrations.clone() };
        // Numbers and texts always serialize.
        let text = serde_json::to_string_pretty(&written).unwrap_or_default() + "\n";
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            elenchus_remember::fs::create_dir_all(folder)?;
        }
        Ok(elenchus_remember::fs::write(path, text)?)
    }

    /// The calibration for answers of a recipe over a model in a task.
    pub fn find(&self, recipe: &str, model: &str, task: &str) -> Option<&CalibrationEntry> {
        self.calibrations.iter().find(|entry| entry.is_for(recipe, model, task))
    }

    /// All of them.
    pub fn entries(&self) -> &[CalibrationEntry] {
        &self.calibrations
    }

    /// Puts one in the place of an older one for the same.
    pub fn insert(&mut self, entry: CalibrationEntry) {
        self.calibrations.retain(|old| !old.is_for(&entry.recipe, &entry.model, &entry.task));
        self.calibrations.push(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use elenchus_measure::{Judgement, fit_calibration};

    #[test]
    fn written_read_found_and_replaced() {
        let rows = (0..100).map(|at| Judgement { confidence: f64::from(at % 10) / 10.0, correct: at % 10 > 6 });
        let fit = fit_calibration(&rows.collect::<Vec<_>>(), None).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deeper/calibrations.json");
        assert_eq!(Calibrations::read(&path).unwrap(), Calibrations::default());
        let mut all = Calibrations::default();
        all.insert(CalibrationEntry::new("a", "m", "math", &fit));
        all.insert(CalibrationEntry::new("b", "m", "math", &fit));
        all.insert(CalibrationEntry { judgements: 7, ..CalibrationEntry::new("a", "m", "math", &fit) });
        all.write(&path).unwrap();
        let read = Calibrations::read(&path).unwrap();
        assert_eq!(read.entries().len(), 2);
        assert_eq!(read.find("a", "m", "math").map(|entry| entry.judgements), Some(7));
        assert!(read.find("a", "m", "arithmetic").is_none() && read.find("a", "other", "math").is_none());
        let text = std::fs::read_to_string(&path).unwrap();
        for (wrong, said) in [
            (text.replace("\"version\": 1", "\"version\": 2"), "version"),
            (text.replace("\"slope\": ", "\"slope\": -"), "rising"),
            ("{".into(), "no file of calibrations"),
        ] {
            std::fs::write(&path, &wrong).unwrap();
            if wrong != text {
                let error = Calibrations::read(&path).unwrap_err().to_string();
                assert!(error.contains(said) && error.contains("hint"), "{error}");
            }
        }
    }
}
