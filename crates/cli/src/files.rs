//! Reading what others feed in.

use crate::failure::{Code, Failure};
use elenchus_remember::data::{JsonlOptions, read_rows};
use elenchus_trace::Trace;
use serde::de::DeserializeOwned;
use std::io::BufRead as _;
use std::path::Path;

/// All rows of a JSON Lines (also gzip) or Parquet file. With `skip`, broken lines are left out and counted on standard
/// error.
pub fn read<T: DeserializeOwned>(path: &Path, skip: bool) -> Result<Vec<T>, Failure> {
    let options = JsonlOptions { skip_bad_lines: skip, ..Default::default() };
    let rows = read_rows(path, &options)?;
    if rows.skipped_count > 0 {
        let lines: Vec<u64> = rows.skipped.iter().map(|bad| bad.line).collect();
        anstream::eprintln!(
            "warning: {} broken lines left out ({})",
            rows.skipped_count,
            first_lines(&lines)
        );
    }
    Ok(rows.rows)
}

/// Says how many broken lines of a task's file were left out, and which, if any.
pub fn tell_skipped(lines: &[usize], path: &Path) {
    if !lines.is_empty() {
        anstream::eprintln!(
            "warning: {} broken lines left out of `{}` ({})",
            lines.len(),
            path.display(),
            first_lines(lines)
        );
    }
}

/// The first few of some lines, in words.
fn first_lines(lines: &[impl ToString]) -> String {
    let shown: Vec<String> = lines.iter().take(5).map(ToString::to_string).collect();
    let more = if lines.len() > 5 { ", …" } else { "" };
    format!("line {}{more}", shown.join(", "))
}

/// All traces of a file that `eval --traces` wrote. With `skip`, rows that are no traces are left out and counted on
/// standard error.
pub fn read_traces(path: &Path, skip: bool) -> Result<Vec<Trace>, Failure> {
    let (mut traces, mut broken) = (Vec::new(), 0);
    for (index, row) in read::<serde_json::Value>(path, skip)?.into_iter().enumerate() {
        match Trace::from_json(&row.to_string()) {
            Ok(trace) => traces.push(trace),
            Err(_) if skip => broken += 1,
            Err(error) => {
                let message = format!("`{}`, row {}: {error}", path.display(), index + 1);
                return Err(Failure { code: Code::Input, message });
            }
        }
    }
    if broken > 0 {
        anstream::eprintln!("warning: {broken} rows left out of `{}` that are no traces", path.display());
    }
    Ok(traces)
}

/// Whether a file holds traces: its first whole row has nodes. What is wrong with a file, the reader says.
pub fn holds_traces(path: &Path) -> bool {
    let options = JsonlOptions { skip_bad_lines: true, ..Default::default() };
    let rows = read_rows::<serde_json::Value>(path, &options);
    rows.is_ok_and(|rows| rows.rows.first().is_some_and(|row| row.get("nodes").is_some()))
}

/// Whether the first row of a file of JSON lines has this field.
pub fn first_row_has(file: &Path, field: &str) -> bool {
    let row = std::fs::File::open(file).ok().and_then(|file| {
        let mut lines = std::io::BufReader::new(file).lines().map_while(Result::ok);
        lines.find(|line| !line.trim().is_empty())
    });
    let row = row.and_then(|row| serde_json::from_str::<serde_json::Value>(&row).ok());
    row.is_some_and(|row| row.get(field).is_some())
}
