use super::{Cell, Section, Table};
use crate::{Axis, BINS, Binning, Chart, Judgements, MeasureError, Plot, Scale, Series};

/// Calibration of one source of confidence: a table of metrics, the reliability diagram and the risk-coverage curve.
///
/// # Errors
/// None for judgements that were accepted; the type is kept for the bins.
pub fn calibration_sections(name: &str, judgements: &Judgements) -> Result<Vec<Section>, MeasureError> {
    let summary = judgements.summary(BINS)?;
    let rank = |value: Option<f64>| value.map_or(Cell::Missing, |v| Cell::Number(v, 3));
    let table = Table::new(
        format!("Calibration of {name}"),
        ["judgements", "accuracy", "mean confidence", "AUROC", "AUPRC", "ECE, equal width", "ECE, equal mass", "Brier", "NLL"],
    )
    .note(format!(
        "AUROC: 0.5 is guessing, 1 is perfect. ECE ({BINS} bins), Brier score and negative log-likelihood (nats): lower is better."
    ))
    .row([
        Cell::Count(summary.n as u64),
        Cell::PercentInterval(summary.accuracy_interval),
        Cell::Percent(summary.confidence),
        rank(summary.auroc),
        rank(summary.auprc),
        Cell::Number(summary.ece.equal_width, 3),
        Cell::Number(summary.ece.equal_mass, 3),
        Cell::Number(summary.brier, 3),
        Cell::Number(summary.nll, 3),
    ]);
    let reliability = Plot::new(
        "Reliability",
        "Accuracy of the answers of each confidence, with 95 % intervals; on the diagonal confidence means what it says. \
         Below: the share of answers in each bin.",
        Chart::Reliability { bins: judgements.reliability(Binning::EqualWidth, BINS)? },
    );
    let coverage = Plot::new(
        "Selective accuracy",
        "Accuracy when only the surest share of the questions is answered; it should rise to the left.",
        Chart::Line {
            x: Axis::new("questions answered", Scale::Percent).range(0.0, 1.0),
            y: Axis::new("accuracy", Scale::Percent),
            series: vec![Series::exact(name, thinned_coverage(judgements)?)],
        },
    );
    Ok(vec![table.into(), Section::plots("", vec![reliability, coverage])])
}

/// Selective accuracy at 5 %, 10 %, …: a line with a point per judgement would be all noise at its left end.
fn thinned_coverage(judgements: &Judgements) -> Result<Vec<(f64, f64)>, MeasureError> {
    (1..=20).map(|i| f64::from(i) / 20.0).map(|c| judgements.selective_accuracy(c).map(|a| (c, a))).collect()
}
