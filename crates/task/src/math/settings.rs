//! Settings of the registered task.

use super::{Division, MathTask};
use crate::TaskError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::PathBuf;

/// Name in the registry.
pub const TASK: &str = "math";

/// One line for lists and help.
pub const SUMMARY: &str =
    "problems from a JSON Lines file (GSM8K, MATH and kin), answers compared by mathematical equality";

/// Settings of the `math` task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MathSettings {
    /// The problem file. Without one the task has no problems of its own and only reads and compares answers.
    pub path: Option<PathBuf>,
    /// How the file is divided into splits.
    pub division: Division,
    /// Leave out lines that are no problem instead of failing on the first.
    pub skip_bad_lines: bool,
}

impl MathSettings {
    /// Reads settings.
    ///
    /// # Errors
    /// The field that is unknown or has the wrong type.
    pub fn from_value(value: &Value) -> Result<Self, TaskError> {
        crate::settings::overlay(&MathSettings::default(), value)
    }
}

impl MathTask {
    /// The task with these settings.
    ///
    /// # Errors
    /// The file cannot be read, or a row is no problem.
    pub fn open(settings: &MathSettings) -> Result<Self, TaskError> {
        let read = match &settings.path {
            Some(path) => MathTask::read_path(path, settings.skip_bad_lines),
            None => MathTask::from_reader("(no file)", std::io::empty()),
        };
        let task = read.map_err(|error| {
            let message = error.to_string();
            let (problem, hint) = message.split_once("\nhint: ").unwrap_or((&message, "see docs/formats.md"));
            let path = settings.path.clone().unwrap_or_default();
            TaskError::File { path: path.display().to_string(), problem: problem.into(), hint: hint.into() }
        })?;
        Ok(task.with_division(settings.division))
    }
}
