//! Data sets in and out. One file per format.
//!
//! | form | read | write |
//! |---|---|---|
//! | JSON Lines, plain or gzip | [`read_jsonl`] | [`write_jsonl`] |
//! | Parquet | [`read_parquet`] | [`write_parquet`] |
//! | either, by the file's first bytes and by its name | [`read_rows`] | [`write_rows`] |
//!
//! Recorded outputs of others come in through [`mod@import`].
//!
//! Rows of TRL: [`PromptCompletionRow`], [`PreferenceRow`], [`UnpairedPreferenceRow`]; made from traces by
//! [`TraceRows`].

mod from_traces;
pub mod import;
pub mod jsonl;
pub mod parquet;
mod parquet_schema;
mod preference;
mod prompt_completion;
mod turns;
mod unpaired_preference;
mod verdict;

pub use from_traces::{Keep, TraceRows};
pub use jsonl::{BadLine, JsonlOptions, JsonlReader, JsonlRows, JsonlWriter, read_jsonl, write_jsonl};
pub use parquet::{ParquetOptions, read_parquet, write_parquet};
pub use preference::PreferenceRow;
pub use prompt_completion::PromptCompletionRow;
pub use turns::{Form, Turns};
pub use unpaired_preference::UnpairedPreferenceRow;
pub use verdict::VerdictRow;

use crate::error::{RememberError, Result};
use crate::fs;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::io::Read;
use std::path::Path;

/// A row of a format that has rules beyond the types of its fields.
pub trait TrainingRow: Serialize + DeserializeOwned {
    /// Name of the format, as in TRL's documents: `prompt-completion`, `preference`, `unpaired preference`.
    const FORMAT: &'static str;

    /// Which rule the row breaks, if any.
    fn problem(&self) -> Option<&'static str>;
}

/// Checks every row.
///
/// # Errors
/// The first row that breaks a rule of its format, with its index and the rule.
pub fn check_rows<T: TrainingRow>(rows: &[T]) -> Result<()> {
    for (row, item) in rows.iter().enumerate() {
        if let Some(problem) = item.problem() {
            return Err(RememberError::Row {
                row,
                reason: format!("not a {} row: {problem}", T::FORMAT),
                hint: "docs/formats.md shows the standard and the conversational form of each format",
            });
        }
    }
    Ok(())
}

/// Reads the rows of a JSON Lines or Parquet file; which of the two, its first bytes say. `options` concern JSON Lines;
/// of them, Parquet heeds `allow_empty` and `max_total_bytes`, and a row that is no `T` counts as a bad line.
///
/// # Errors
/// As [`read_jsonl`] and [`read_parquet`].
pub fn read_rows<T: DeserializeOwned>(
    path: impl AsRef<Path>,
    options: &JsonlOptions,
) -> Result<JsonlRows<T>> {
    let path = path.as_ref();
    if !is_parquet(path)? {
        return read_jsonl(path, options);
    }
    let limits = ParquetOptions { max_total_bytes: options.max_total_bytes };
    let mut read =
        JsonlRows { rows: Vec::new(), line_numbers: Vec::new(), skipped_count: 0, skipped: Vec::new() };
    for (index, row) in read_parquet(path, &limits)?.into_iter().enumerate() {
        let line = index as u64 + 1;
        match serde_path_to_error::deserialize(Value::Object(row)) {
            Ok(row) => {
                read.rows.push(row);
                read.line_numbers.push(line);
            }
            Err(error) => {
                let field = Some(error.path().to_string()).filter(|field| field != ".");
                let bad = BadLine { line, column: None, field, problem: error.inner().to_string() };
                if !options.skip_bad_lines {
                    let hint = "lines are rows here; see docs/formats.md for the fields of a row; `--skip-bad-lines` leaves such rows out";
                    return Err(RememberError::BadLine { path: path.to_path_buf(), line: bad, hint });
                }
                read.skipped_count += 1;
                if read.skipped.len() < jsonl::MOST_DETAILS {
                    read.skipped.push(bad);
                }
            }
        }
    }
    if read.rows.is_empty() && !options.allow_empty {
        return Err(RememberError::NoRows { path: path.to_path_buf(), skipped: read.skipped_count });
    }
    Ok(read)
}

/// Writes rows as Parquet when the name ends in `.parquet`, else as JSON Lines (gzip when it ends in `.gz`).
///
/// # Errors
/// As [`write_jsonl`] and [`write_parquet`].
pub fn write_rows<T: Serialize>(path: impl AsRef<Path>, rows: &[T]) -> Result<()> {
    let path = path.as_ref();
    if !path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet")) {
        return write_jsonl(path, rows);
    }
    let mut objects: Vec<Map<String, Value>> = Vec::with_capacity(rows.len());
    for (row, item) in rows.iter().enumerate() {
        let refused = |reason: String| RememberError::Row {
            row,
            reason,
            hint: "a row of a Parquet file is an object with one value per column",
        };
        match serde_json::to_value(item) {
            Ok(Value::Object(object)) => objects.push(object),
            Ok(_) => return Err(refused("not an object".into())),
            Err(error) => return Err(refused(error.to_string())),
        }
    }
    write_parquet(path, &objects)
}

fn is_parquet(path: &Path) -> Result<bool> {
    if path.is_dir() {
        let error = std::io::Error::from(std::io::ErrorKind::IsADirectory);
        return Err(RememberError::io("read", path, error));
    }
    let mut magic = Vec::new();
    fs::open(path)?
        .take(4)
        .read_to_end(&mut magic)
        .map_err(|source| RememberError::io("read", path, source))?;
    Ok(magic == b"PAR1")
}
