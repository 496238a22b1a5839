//! `elenchus select`

use crate::arguments::Global;
use crate::failure::{Code, Failure};
use crate::{files, output};
use clap::Args;
use elenchus_control::{
    Power, RecordedChoice, RecordedMethod, RecordedSettings, ScoreField, recorded_methods, select_all,
};
use elenchus_measure::{Interval, accuracy};
use elenchus_trace::SampleRow;
use serde::Serialize;
use std::path::PathBuf;

/// Vote or select among recorded samples
#[derive(Debug, Args)]
#[command(after_help = "FILE is samples.jsonl (docs/formats.md), also .jsonl.gz or .parquet.

Examples:
  elenchus select samples.jsonl --method self-consistency
  elenchus select samples.jsonl --method borda --by mean_logprob --power 0.5
  elenchus select --list")]
pub struct Select {
    /// Recorded samples
    #[arg(required_unless_present = "list")]
    file: Option<PathBuf>,
    /// Method
    #[arg(long, default_value = "self-consistency")]
    method: String,
    /// The number that is compared: score, certainty, mean_logprob or sum_logprob [default: the method's own]
    #[arg(long)]
    by: Option<String>,
    /// Exponent of Borda weights [default: by the number of samples]
    #[arg(long)]
    power: Option<f64>,
    /// Use only the first N samples of each question
    #[arg(long, value_name = "N")]
    samples: Option<usize>,
    /// Task whose rules extract and compare answers
    #[arg(long, default_value = "math")]
    task: String,
    /// Leave broken lines out and count them
    #[arg(long)]
    skip_bad_lines: bool,
    /// List the methods
    #[arg(long)]
    list: bool,
}

#[derive(Serialize)]
struct Selected<'a> {
    method: &'static str,
    questions: usize,
    accuracy: Option<Interval>,
    results: &'a [RecordedChoice],
}

/// Runs the command.
pub fn run(command: &Select, global: &Global) -> Result<(), Failure> {
    if command.list {
        if global.json {
            let rows: Vec<_> = recorded_methods()
                .map(|(name, summary)| serde_json::json!({ "name": name, "summary": summary }))
                .collect();
            return output::json(&rows);
        }
        for (name, summary) in recorded_methods() {
            output::line(&format!("{name:<24} {summary}"))?;
        }
        return Ok(());
    }
    let Some(file) = &command.file else { return Ok(()) };
    let method = RecordedMethod::named(&command.method)?;
    let settings = RecordedSettings {
        by: command.by.as_deref().map(ScoreField::named).transpose()?,
        power: command.power.map_or(Power::ByCount, Power::Given),
        samples: command.samples,
        ..RecordedSettings::new(method)
    };
    settings.check()?;
    let rows: Vec<SampleRow> = files::read(file, command.skip_bad_lines)?;
    let task = elenchus_task::task(&command.task, &serde_json::Value::Null)?;
    let results = select_all(&rows, &settings, task.as_ref())
        .map_err(|error| Failure { code: Code::Input, message: format!("{}: {error}", file.display()) })?;
    let judged: Vec<bool> = results.iter().filter_map(|r| r.correct).collect();
    let right = judged.iter().filter(|c| **c).count();
    let accuracy = if judged.is_empty() { None } else { Some(accuracy(right, judged.len())?) };
    if global.json {
        let selected =
            Selected { method: method.name(), questions: results.len(), accuracy, results: &results };
        return output::json(&selected);
    }
    match &accuracy {
        Some(accuracy) => output::line(&format!(
            "{} on {} questions: {} ({} without a reference)",
            method.name(),
            results.len(),
            output::percent(accuracy),
            results.len() - judged.len()
        )),
        None => {
            for choice in &results {
                output::line(&format!("{}\t{}", choice.id, choice.answer.as_deref().unwrap_or("–")))?;
            }
            Ok(())
        }
    }
}
