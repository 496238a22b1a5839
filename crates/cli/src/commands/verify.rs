//! `elenchus verify`

use crate::arguments::Global;
use crate::failure::{Code, Failure};
use crate::{files, output};
use clap::Args;
use elenchus_task::math::{Options, equivalent};
use elenchus_trace::PairRow;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Instant;

/// Whether predicted answers mean the same as reference answers
#[derive(Debug, Args)]
#[command(
    after_help = "FILE is pairs.jsonl: {id, gold, pred} per line; a row may carry options (docs/formats.md).

Examples:
  elenchus verify pairs.jsonl
  elenchus verify pairs.jsonl --json | jq .equivalent"
)]
pub struct Verify {
    /// Answer pairs
    file: PathBuf,
    /// Leave broken lines out and count them
    #[arg(long)]
    skip_bad_lines: bool,
}

#[derive(Serialize)]
struct Verified {
    id: String,
    equivalent: Option<bool>,
    reason: String,
}

#[derive(Serialize)]
struct Result_ {
    pairs: usize,
    equivalent: usize,
    seconds: f64,
    results: Vec<Verified>,
}

/// Runs the command.
pub fn run(command: &Verify, global: &Global) -> Result<(), Failure> {
    let rows: Vec<PairRow> = files::read(&command.file, command.skip_bad_lines)?;
    let begun = Instant::now();
    let mut results = Vec::with_capacity(rows.len());
    for row in rows {
        let options = Options::from_row(&row).map_err(|error| Failure {
            code: Code::Input,
            message: format!("{}: pair `{}`: {error}", command.file.display(), row.id),
        })?;
        let found = equivalent(&row.gold, &row.pred, &options);
        results.push(Verified { id: row.id, equivalent: found.verdict(), reason: found.reason.into_owned() });
    }
    let seconds = begun.elapsed().as_secs_f64();
    let same = results.iter().filter(|r| r.equivalent == Some(true)).count();
    let result = Result_ { pairs: results.len(), equivalent: same, seconds, results };
    if global.json {
        return output::json(&result);
    }
    for r in &result.results {
        let verdict = match r.equivalent {
            Some(true) => "same",
            Some(false) => "different",
            None => "undecided",
        };
        output::line(&format!("{}\t{verdict}\t{}", r.id, r.reason))?;
    }
    anstream::eprintln!(
        "{} of {} pairs are the same; {:.0} pairs per second",
        result.equivalent,
        result.pairs,
        result.pairs as f64 / seconds.max(1e-9)
    );
    Ok(())
}
