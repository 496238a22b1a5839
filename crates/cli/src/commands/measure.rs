//! `elenchus measure`

use crate::arguments::Global;
use crate::correction::Correction;
use crate::failure::{Code, Failure};
use crate::{files, output, paired};
use clap::Args;
use elenchus_measure::{
    BINS, Bootstrap, Comparison, Dialogue, Interval, Judgement, Judgements, PairVerdict, Report, Tone,
    calibration_sections, compare, pair_report,
};
use elenchus_remember::data::VerdictRow;
use elenchus_trace::{JudgementRow, SampleRow};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Calibration and discrimination of recorded confidences, what later attempts made of first ones, and runs against each other
#[derive(Debug, Args)]
#[command(
    after_help = "FILE is judgements.jsonl: {id, confidence, correct} per line. With --changes it is samples.jsonl,
and the last sample of each question is compared with the first: both must say whether they are
`correct`.

With --against it is samples.jsonl too: the last sample of each question is compared with that of
the same question, by `id`, in the other file: the paired difference with its interval, McNemar's
test and a plain sentence.

With --judge it is verdicts.jsonl: {id, first, lengths, reference} per line, a judge's comparisons
of two responses.

Examples:
  elenchus measure judgements.jsonl
  elenchus measure verdicts.jsonl --judge
  elenchus measure samples.jsonl --changes
  elenchus measure with-feedback.jsonl --against without.jsonl
  elenchus measure judgements.jsonl --html calibration.html"
)]
pub struct Measure {
    /// Recorded confidences, or recorded samples
    file: PathBuf,
    /// Count what went from right to wrong and from wrong to right between the first and the last sample
    #[arg(long, conflicts_with_all = ["bins", "html"])]
    changes: bool,
    /// Compare the last sample of each question with that in another file of samples, in pairs; may be repeated
    #[arg(long, value_name = "FILE", conflicts_with_all = ["changes", "judge", "bins", "html"])]
    against: Vec<PathBuf>,
    /// Bias of a judge that compared responses: for a place, for length; agreement (kappa) and calibration
    #[arg(long, conflicts_with_all = ["changes", "bins", "html"])]
    judge: bool,
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
    if !command.against.is_empty() {
        return against(command, global);
    }
    if command.judge {
        return judge(command, global);
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

fn judge(command: &Measure, global: &Global) -> Result<(), Failure> {
    let rows: Vec<VerdictRow> = files::read(&command.file, command.skip_bad_lines)?;
    let abstained = rows.iter().filter(|row| row.first.is_none()).count();
    let verdicts: Vec<PairVerdict> = rows
        .into_iter()
        .filter_map(|row| {
            let VerdictRow { id, swapped, first, lengths, reference, .. } = row;
            Some(PairVerdict { pair: id, swapped, first: first?, lengths, reference })
        })
        .collect();
    let found = pair_report(&verdicts, abstained, &Bootstrap::default().seed(global.seed))?;
    if global.json {
        return output::json(&found);
    }
    let optional = |found: &Option<Interval>| found.as_ref().map_or("not told".into(), output::percent);
    let points = |i: &Interval| {
        format!("{:+.1} points [{:+.1}, {:+.1}]", 100.0 * i.value, 100.0 * i.low, 100.0 * i.high)
    };
    for (name, value) in [
        ("comparisons", found.n.to_string()),
        ("abstained", found.abstained.to_string()),
        ("prefers the first", output::percent(&found.first)),
        ("reference, the first", optional(&found.reference_first)),
        ("both orders asked", found.both_orders.to_string()),
        ("same winner in both", optional(&found.consistent)),
        ("prefers the longer", optional(&found.longer)),
        ("reference, the longer", optional(&found.reference_longer)),
        ("length bias", found.length_bias.as_ref().map_or("not told".into(), points)),
        ("agreement", optional(&found.agreement)),
        ("Cohen's kappa", super::audit::kappa(&found.kappa)),
        (
            "ECE, equal mass",
            found.calibration.as_ref().map_or("not told".into(), |c| format!("{:.4}", c.ece.equal_mass)),
        ),
    ] {
        output::line(&format!("{name:<22} {value}"))?;
    }
    found.remarks.iter().try_for_each(|remark| output::line(&format!("the judge {remark}")))
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

/// Whether the last sample of each question is right, by id.
fn outcomes(path: &Path, skip_bad_lines: bool) -> Result<BTreeMap<String, f64>, Failure> {
    let rows: Vec<SampleRow> = files::read(path, skip_bad_lines)?;
    let mut outcomes = BTreeMap::new();
    for row in &rows {
        let Some(correct) = row.samples.last().and_then(|sample| sample.correct) else {
            let problem =
                format!("question `{}` does not say of its last sample whether it is right", row.id);
            let hint = format!("each row of {} needs `correct` at its last sample", path.display());
            return Err(Failure::new(Code::Input, problem, hint));
        };
        if outcomes.insert(row.id.clone(), f64::from(u8::from(correct))).is_some() {
            let problem = format!("question `{}` stands twice in {}", row.id, path.display());
            return Err(Failure::new(
                Code::Input,
                problem,
                "questions are compared by `id`: give each its own",
            ));
        }
    }
    Ok(outcomes)
}

/// One file less another, on the questions of both.
#[derive(Serialize)]
struct Against {
    /// Questions of only one of the two files.
    left_out: usize,
    #[serde(flatten)]
    comparison: Comparison,
    /// Holm-adjusted p-value of McNemar's test, over all files.
    adjusted_p: Option<f64>,
}

fn against(command: &Measure, global: &Global) -> Result<(), Failure> {
    let bootstrap = Bootstrap::default().seed(global.seed);
    let own = outcomes(&command.file, command.skip_bad_lines)?;
    let name = |path: &Path| path.display().to_string();
    let mut found = Vec::with_capacity(command.against.len());
    for path in &command.against {
        let other = outcomes(path, command.skip_bad_lines)?;
        let both = own.iter().filter_map(|(id, first)| Some((*first, *other.get(id)?)));
        let (first, second): (Vec<f64>, Vec<f64>) = both.unzip();
        if first.is_empty() {
            let problem = format!("{} and {} have no question in common", name(&command.file), name(path));
            return Err(Failure::new(Code::Input, problem, "questions are compared by `id`"));
        }
        let left_out = own.len() + other.len() - 2 * first.len();
        found.push((left_out, compare(&name(&command.file), &first, &name(path), &second, &bootstrap)?));
    }
    let adjusted = paired::adjusted_p(found.iter().map(|(_, comparison)| comparison))?;
    if global.json {
        let rows = found.into_iter().zip(adjusted);
        let rows =
            rows.map(|((left_out, comparison), adjusted_p)| Against { left_out, comparison, adjusted_p });
        return output::json(&rows.collect::<Vec<_>>());
    }
    for ((left_out, comparison), p) in found.iter().zip(adjusted) {
        paired::lines(comparison, p)?;
        if *left_out > 0 {
            output::line(&format!("  {left_out} questions stand in one of the two files only"))?;
        }
    }
    Ok(())
}

fn refused(row: &SampleRow, problem: &str) -> Failure {
    let hint = "each row needs two samples or more, the first and the last with `correct`";
    Failure::new(Code::Input, format!("question `{}` {problem}", row.id), hint)
}
