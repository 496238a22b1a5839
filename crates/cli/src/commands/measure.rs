//! `elenchus measure`

use crate::arguments::Global;
use crate::failure::Failure;
use crate::{files, output};
use clap::Args;
use elenchus_measure::{BINS, Judgement, Judgements, Report, Tone, calibration_sections};
use elenchus_trace::JudgementRow;
use serde_json::json;
use std::path::PathBuf;

/// Calibration and discrimination of recorded confidences
#[derive(Debug, Args)]
#[command(after_help = "FILE is judgements.jsonl: {id, confidence, correct} per line.

Examples:
  elenchus measure judgements.jsonl
  elenchus measure judgements.jsonl --html calibration.html")]
pub struct Measure {
    /// Recorded confidences
    file: PathBuf,
    /// Bins of the calibration error
    #[arg(long, default_value_t = BINS)]
    bins: usize,
    /// Write a page with plots
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Leave broken lines out and count them
    #[arg(long)]
    skip_bad_lines: bool,
}

/// Runs the command.
pub fn run(command: &Measure, global: &Global) -> Result<(), Failure> {
    let rows: Vec<JudgementRow> = files::read(&command.file, command.skip_bad_lines)?;
    let judgements =
        Judgements::new(rows.iter().map(|r| Judgement { confidence: r.confidence, correct: r.correct }))?;
    let s = judgements.summary(command.bins)?;
    if let Some(path) = &command.html {
        let name = command.file.display().to_string();
        let report = Report::new("elenchus measure")
            .headline(Tone::Plain, format!("{} judgements, {}", s.n, output::percent(&s.accuracy_interval)))
            .sections(calibration_sections(&name, &judgements)?);
        elenchus_remember::fs::write_atomic(path, report.to_html().as_bytes())?;
    }
    if global.json {
        return output::json(&json!({
            "n": s.n, "accuracy": s.accuracy, "brier": s.brier, "nll": s.nll, "auroc": s.auroc, "auprc": s.auprc,
            "ece": { "equal_width": s.ece.equal_width, "equal_mass": s.ece.equal_mass },
        }));
    }
    let optional =
        |v: Option<f64>| v.map_or("undefined (all right or all wrong)".into(), |v| format!("{v:.4}"));
    for (name, value) in [
        ("judgements", s.n.to_string()),
        ("accuracy", output::percent(&s.accuracy_interval)),
        ("AUROC", optional(s.auroc)),
        ("AUPRC", optional(s.auprc)),
        ("Brier", format!("{:.4}", s.brier)),
        ("NLL, nats", format!("{:.4}", s.nll)),
        ("ECE, equal width", format!("{:.4}", s.ece.equal_width)),
        ("ECE, equal mass", format!("{:.4}", s.ece.equal_mass)),
    ] {
        output::line(&format!("{name:<18} {value}"))?;
    }
    Ok(())
}
