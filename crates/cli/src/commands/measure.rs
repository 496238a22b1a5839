//! `elenchus measure`

use crate::arguments::Global;
use crate::correction::Correction;
use crate::failure::{Code, Failure};
use crate::{files, output};
use clap::Args;
use elenchus_measure::{BINS, Dialogue, Judgement, Judgements, Report, Tone, calibration_sections};
use elenchus_trace::{JudgementRow, SampleRow};
use serde_json::json;
use std::path::PathBuf;

/// Calibration and discrimination of recorded confidences, or what recorded later attempts made of first ones
#[derive(Debug, Args)]
#[command(
    after_help = "FILE is judgements.jsonl: {id, confidence, correct} per line. With --changes it is samples.jsonl, and
the last sample of each question is compared with the first: both must say whether they are `correct`.

Examples:
  elenchus measure judgements.jsonl
  elenchus measure samples.jsonl --changes
  elenchus measure judgements.jsonl --html calibration.html"
)]
pub struct Measure {
    /// Recorded confidences, or recorded samples
    file: PathBuf,
    /// Count what went from right to wrong and from wrong to right between the first and the last sample
    #[arg(long, conflicts_with_all = ["bins", "html"])]
    changes: bool,
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
    if command.changes {
        return changes(command, global);
    }
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

fn changes(command: &Measure, global: &Global) -> Result<(), Failure> {
    let rows: Vec<SampleRow> = files::read(&command.file, command.skip_bad_lines)?;
    let dialogues = rows
        .iter()
        .map(|row| match row.samples.as_slice() {
            [first, .., last] => match (first.correct, last.correct) {
                (Some(first), Some(second)) => Ok(Dialogue { first, second }),
                _ => {
                    Err(refused(row, "does not say of its first and its last sample whether they are right"))
                }
            },
            _ => Err(refused(row, "has fewer than two samples")),
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    let found = Correction::of(&dialogues, global.seed)?;
    if global.json {
        return output::json(&found);
    }
    found.rows().into_iter().try_for_each(|(name, value)| output::line(&format!("{name:<18} {value}")))
}

fn refused(row: &SampleRow, problem: &str) -> Failure {
    let hint = "each row needs two samples or more, the first and the last with `correct`";
    Failure::new(Code::Input, format!("question `{}` {problem}", row.id), hint)
}
