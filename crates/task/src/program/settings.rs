//! Settings of the task.

use super::jail::Layers;
use crate::TaskError;
use crate::choice::FileSplit;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Form of the rows of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// By the fields of each row: MBPP when there is a `test_list`, else HumanEval.
    #[default]
    Auto,
    /// `{"task_id", "prompt", "entry_point", "canonical_solution", "test"}`.
    HumanEval,
    /// `{"task_id", "text", "code", "test_list"}`.
    Mbpp,
}

/// Who runs programs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Runner {
    /// The embedded interpreter; what it does not pass, CPython decides.
    #[default]
    Auto,
    /// The embedded interpreter alone: programs have to be written in its subset of Python.
    Embedded,
    /// CPython alone.
    Cpython,
}

/// Which programs are one answer, in a vote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SameProgram {
    /// Those that return the same for the inputs that the question shows and for variations of them.
    #[default]
    Behaviour,
    /// Those of one text, comments and blank space aside.
    Text,
}

/// Settings of the program task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProgramSettings {
    /// JSONL file of problems with tests; gzip is understood. Empty: problems are generated.
    pub path: String,
    /// Form of its rows.
    pub format: Format,
    /// To which split its rows belong.
    pub split: FileSplit,
    /// Pass over lines that are no rows.
    pub skip_bad_lines: bool,
    /// Difficulty of generated problems: fewest and most operations before the result, from 1 to 8.
    pub operations: [usize; 2],
    /// Whether generated problems say the operations; otherwise they show examples only.
    pub described: bool,
    /// How many operations a description leaves out, at any place; the examples show what they do. At most the fewest of
    /// `operations`.
    pub left_out: usize,
    /// How many tests of a generated problem are shown, from 1 to 8.
    pub visible_tests: usize,
    /// How many more are hidden, from 1 to 32.
    pub hidden_tests: usize,
    /// Which programs are one answer, in a vote.
    pub same: SameProgram,
    /// Who runs programs.
    pub runner: Runner,
    /// The CPython command: a name on the PATH, or a path.
    pub python: String,
    /// Seconds per run, all tests together: of the clock in the embedded interpreter; of CPU time (rounded up) in CPython,
    /// where a run may take four times as long and 5 seconds more by the clock.
    pub seconds: f64,
    /// MiB of memory that a run may use.
    pub memory_mib: u64,
    /// KiB that a run may print, or write to one file of its scratch folder.
    pub output_kib: u64,
    /// Optional layers of the jail.
    pub layers: Layers,
}

impl Default for ProgramSettings {
    fn default() -> Self {
        ProgramSettings {
            path: String::new(),
            format: Format::Auto,
            split: FileSplit::Test,
            skip_bad_lines: false,
            operations: [1, 3],
            described: true,
            left_out: 0,
            visible_tests: 3,
            hidden_tests: 9,
            same: SameProgram::default(),
            runner: Runner::Auto,
            python: "python3".to_string(),
            seconds: 5.0,
            memory_mib: 512,
            output_kib: 1_024,
            layers: Layers::default(),
        }
    }
}

impl ProgramSettings {
    /// Reads settings; absent fields have their defaults.
    ///
    /// # Errors
    /// The field that is unknown, has the wrong type, or is out of range.
    pub fn from_value(value: &Value) -> Result<Self, TaskError> {
        let settings: Self = crate::settings::overlay(&ProgramSettings::default(), value)?;
        settings.check()?;
        Ok(settings)
    }

    /// Whether all settings are in range.
    ///
    /// # Errors
    /// The first one that is not.
    pub fn check(&self) -> Result<(), TaskError> {
        let wrong = |field: &str, problem: String, hint: &str| {
            Err(TaskError::Setting { field: field.to_string(), problem, hint: hint.to_string() })
        };
        let [fewest, most] = self.operations;
        if fewest < 1 || most > 8 || fewest > most {
            return wrong("operations", format!("is {fewest} to {most}"), "use [fewest, most] within 1 to 8");
        }
        if self.left_out > fewest {
            return wrong(
                "left_out",
                format!("is {}, of at least {fewest} operations", self.left_out),
                "raise the fewest of `operations`, or set `described` to false to leave all of them out",
            );
        }
        if !(1..=8).contains(&self.visible_tests) {
            return wrong("visible_tests", format!("is {}", self.visible_tests), "use 1 to 8");
        }
        if !(1..=32).contains(&self.hidden_tests) {
            return wrong("hidden_tests", format!("is {}", self.hidden_tests), "use 1 to 32");
        }
        if !(self.seconds.is_finite() && (0.01..=600.0).contains(&self.seconds)) {
            return wrong("seconds", format!("is {}", self.seconds), "use 0.01 to 600");
        }
        if !(64..=65_536).contains(&self.memory_mib) {
            return wrong(
                "memory_mib",
                format!("is {}", self.memory_mib),
                "use 64 to 65536; Python itself needs 64",
            );
        }
        if !(1..=1_048_576).contains(&self.output_kib) {
            return wrong("output_kib", format!("is {}", self.output_kib), "use 1 to 1048576");
        }
        if self.python.trim().is_empty() {
            return wrong("python", "is empty".to_string(), "name a command, for example python3");
        }
        if !self.layers.namespaces && !self.layers.landlock {
            return wrong(
                "layers",
                "switches both layers off".to_string(),
                "at least one of `namespaces` and `landlock` has to bound the file system",
            );
        }
        Ok(())
    }
}
