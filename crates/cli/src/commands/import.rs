//! `elenchus import`

use crate::arguments::Global;
use crate::failure::{Code, Failure};
use crate::output;
use clap::Args;
use elenchus_remember::data::import::{IMPORTERS, ImportSettings, importer};
use serde_json::json;
use std::path::PathBuf;

/// Turn recorded outputs of others into our formats
#[derive(Debug, Args)]
#[command(
    after_help = "Without arguments it lists the importers. Without --out the rows go to standard output, one JSON
object per line.

Examples:
  elenchus import
  elenchus import cotuq gsm8k.jsonl.gz --out samples.jsonl
  elenchus import cotuq-judgements gsm8k.jsonl.gz --field p-true-bl --out judgements.jsonl
  elenchus import codet generated_tests_matrix.jsonl.gz --with humaneval_100samples.jsonl.gz \\
      --out samples.jsonl"
)]
pub struct Import {
    /// Importer
    #[arg(requires = "file")]
    name: Option<String>,
    /// Recorded outputs, JSON Lines, also gzip
    file: Option<PathBuf>,
    /// Write here: .jsonl, .jsonl.gz or .parquet
    #[arg(long, value_name = "FILE", requires = "name")]
    out: Option<PathBuf>,
    /// Which recorded number becomes score or confidence [default: the first that the importer lists]
    #[arg(long, requires = "name")]
    field: Option<String>,
    /// Second file, for importers that need one
    #[arg(long, value_name = "FILE", requires = "name")]
    with: Option<PathBuf>,
    /// Leave broken lines out and count them
    #[arg(long, requires = "name")]
    skip_bad_lines: bool,
}

/// Runs the command.
pub fn run(command: &Import, global: &Global) -> Result<(), Failure> {
    let (Some(name), Some(file)) = (&command.name, &command.file) else { return list(global) };
    let importer =
        importer(name).map_err(|error| Failure { code: Code::Usage, message: error.to_string() })?;
    let settings = ImportSettings {
        field: command.field.clone(),
        with: command.with.clone(),
        skip_bad_lines: command.skip_bad_lines,
    };
    let imported = importer.import(file, &settings)?;
    if imported.skipped_count > 0 {
        let lines: Vec<String> = imported.skipped.iter().take(5).map(|bad| bad.line.to_string()).collect();
        let more = if imported.skipped_count > 5 { ", …" } else { "" };
        anstream::eprintln!(
            "warning: {} broken lines left out (line {}{more})",
            imported.skipped_count,
            lines.join(", ")
        );
    }
    for note in &imported.notes {
        anstream::eprintln!("note: {note}");
    }
    let Some(out) = &command.out else {
        return imported.rows.each_line(output::line);
    };
    imported.rows.write(out)?;
    if global.json {
        return output::json(&json!({
            "importer": importer.name, "format": importer.writes, "rows": imported.rows.len(),
            "skipped": imported.skipped_count, "notes": imported.notes, "out": out,
        }));
    }
    output::line(&format!("{} rows of {} in {}", imported.rows.len(), importer.writes.name(), out.display()))
}

fn list(global: &Global) -> Result<(), Failure> {
    if global.json {
        return output::json(&IMPORTERS);
    }
    for importer in IMPORTERS {
        output::line(&format!("{}  →  {}", importer.name, importer.writes.name()))?;
        output::line(&format!("    {}", importer.summary))?;
        output::line(&format!("    reads {}", importer.reads))?;
        if !importer.fields.is_empty() {
            output::line(&format!("    --field {}", importer.fields.join(", ")))?;
        }
        if let Some(companion) = importer.companion {
            output::line(&format!("    --with {companion}"))?;
        }
    }
    Ok(())
}
