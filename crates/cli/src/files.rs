//! Reading what others feed in.

use crate::failure::{Code, Failure};
use elenchus_remember::data::{JsonlOptions, read_rows};
use elenchus_trace::Trace;
use serde::de::DeserializeOwned;
use std::path::Path;

/// All rows of a JSON Lines (also gzip) or Parquet file. With `skip`, broken lines are left out and counted on standard
/// error.
pub fn read<T: DeserializeOwned>(path: &Path, skip: bool) -> Result<Vec<T>, Failure> {
    let options = JsonlOptions { skip_bad_lines: skip, ..Default::default() };
    let rows = read_rows(path, &options)?;
    if rows.skipped_count > 0 {
        let lines: Vec<String> = rows.skipped.iter().take(5).map(|b| b.line.to_string()).collect();
        let more = if rows.skipped_count > 5 { ", …" } else { "" };
        anstream::eprintln!(
            "warning: {} broken lines left out (line {}{more})",
            rows.skipped_count,
            lines.join(", ")
        );
    }
    Ok(rows.rows)
}

/// Says how many broken lines of a task's file were left out, if any.
pub fn tell_skipped(count: usize, path: &Path) {
    if count > 0 {
        anstream::eprintln!("warning: {count} broken lines left out of `{}`", path.display());
    }
}

/// All traces of a file that `eval --traces` wrote.
pub fn read_traces(path: &Path, skip: bool) -> Result<Vec<Trace>, Failure> {
    let traces =
        read::<serde_json::Value>(path, skip)?.into_iter().map(|row| Trace::from_json(&row.to_string()));
    traces
        .collect::<Result<_, _>>()
        .map_err(|error| Failure { code: Code::Input, message: format!("`{}`: {error}", path.display()) })
}

/// Whether a file holds traces: its first whole row has nodes. What is wrong with a file, the reader says.
pub fn holds_traces(path: &Path) -> bool {
    let options = JsonlOptions { skip_bad_lines: true, ..Default::default() };
    let rows = read_rows::<serde_json::Value>(path, &options);
    rows.is_ok_and(|rows| rows.rows.first().is_some_and(|row| row.get("nodes").is_some()))
}
