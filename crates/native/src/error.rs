//! The errors of this crate.

use crate::ConfigError;
use std::path::{Path, PathBuf};

/// What can go wrong in the engine and its loaders. Every message ends with a hint.
#[derive(Debug, thiserror::Error)]
pub enum NativeError {
    /// A shape that cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file could not be read or written.
    #[error("cannot {action} `{}`: {source}\nhint: {hint}", path.display())]
    File {
        /// `read`, `write`, `create` …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
        /// What to try.
        hint: &'static str,
    },
    /// A file was read, but what it holds does not fit.
    #[error("`{}`: {problem}\nhint: {hint}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it: tensor, shapes, key.
        problem: String,
        /// What to try.
        hint: String,
    },
    /// Text and tokens do not fit together.
    #[error("tokenizer: {problem}\nhint: {hint}")]
    Tokenizer {
        /// What is wrong.
        problem: String,
        /// What to try.
        hint: &'static str,
    },
    /// A call with arguments that do not fit the model or each other.
    #[error("{operation}: {problem}\nhint: {hint}")]
    Argument {
        /// The call.
        operation: &'static str,
        /// What is wrong, with the numbers.
        problem: String,
        /// What to try.
        hint: &'static str,
    },
}

impl NativeError {
    /// A bad argument.
    pub(crate) fn argument(operation: &'static str, problem: impl Into<String>, hint: &'static str) -> Self {
        NativeError::Argument { operation, problem: problem.into(), hint }
    }

    /// A file whose content does not fit.
    pub(crate) fn checkpoint(
        path: impl AsRef<Path>,
        problem: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        NativeError::Checkpoint {
            path: path.as_ref().to_path_buf(),
            problem: problem.into(),
            hint: hint.into(),
        }
    }

    /// A file that could not be touched.
    pub(crate) fn file(
        action: &'static str,
        path: impl AsRef<Path>,
        source: std::io::Error,
        hint: &'static str,
    ) -> Self {
        NativeError::File { action, path: path.as_ref().to_path_buf(), source, hint }
    }
}
