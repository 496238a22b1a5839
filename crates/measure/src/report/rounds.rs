use super::{Cell, Table};
use crate::{Axis, Chart, Interval, Plot, Scale, Series};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What one round of self-improvement measured; the JSON of `improve` has a list of these. Round 0 is the start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RoundRecord {
    /// Number of the round.
    pub round: usize,
    /// Accuracy of the greedy answer.
    pub greedy: Interval,
    /// Mean accuracy of one sample.
    pub sampled: Interval,
    /// Accuracy of the majority of k samples.
    pub vote: Interval,
    /// pass@k.
    pub pass: Interval,
    /// Share of right answers that were reached by a wrong step.
    pub wrong_steps: f64,
    /// Sampling temperature chosen for the round; `None` in round 0.
    pub temperature: Option<f64>,
    /// Reward threshold chosen for the round.
    pub threshold: Option<f64>,
    /// Balance score of the chosen setting.
    pub balance: Option<f64>,
    /// Rows trained on.
    pub rows: usize,
    /// Tokens sampled and trained on.
    pub tokens: u64,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// Rounds as a table; `k` is the number of samples behind vote and pass@k.
pub fn rounds_table(rounds: &[RoundRecord], k: usize) -> Table {
    let mut table = Table::new(
        "Round by round",
        [
            "round".to_string(),
            "greedy".to_string(),
            "one sample".to_string(),
            format!("vote of {k}"),
            format!("pass@{k}"),
            "right by wrong steps".to_string(),
            "temperature".to_string(),
            "threshold".to_string(),
            "balance".to_string(),
            "rows".to_string(),
            "tokens".to_string(),
            "time".to_string(),
        ],
    )
    .note("Held-out problems; 95 % intervals below the values. Round 0 is the model before any training.");
    let optional = |value: Option<f64>, places| value.map_or(Cell::Missing, |v| Cell::Number(v, places));
    for r in rounds {
        table = table.row([
            Cell::Count(r.round as u64),
            Cell::PercentInterval(r.greedy),
            Cell::PercentInterval(r.sampled),
            Cell::PercentInterval(r.vote),
            Cell::PercentInterval(r.pass),
            Cell::Percent(r.wrong_steps),
            optional(r.temperature, 2),
            optional(r.threshold, 2),
            optional(r.balance, 3),
            Cell::Count(r.rows as u64),
            Cell::Count(r.tokens),
            Cell::Seconds(r.seconds),
        ]);
    }
    table.highlight = rounds.len().checked_sub(1);
    table
}

/// Charts over the rounds: accuracies, with the control arm where there is one (its name and its (round, accuracy)
/// points); right answers reached by wrong steps; and the balance score, when a round has one.
pub fn rounds_plots(
    rounds: &[RoundRecord],
    k: usize,
    control: Option<(&str, &[(f64, Interval)])>,
) -> Vec<Plot> {
    let of = |name: String, value: fn(&RoundRecord) -> Interval| {
        Series::new(name, rounds.iter().map(|r| (r.round as f64, value(r))))
    };
    let mut series = vec![
        of(format!("pass@{k}"), |r| r.pass),
        of(format!("vote of {k}"), |r| r.vote),
        of("greedy".to_string(), |r| r.greedy),
        of("one sample".to_string(), |r| r.sampled),
    ];
    if let Some((name, points)) = control {
        series.push(Series::new(name, points.iter().copied()));
    }
    let round_axis = Axis::new("round", Scale::Whole);
    let accuracy = Plot::new(
        "Accuracy on held-out problems",
        "Shaded: 95 % intervals. One sample and greedy should rise; pass@k falling would mean that variety is lost.",
        Chart::Line { x: round_axis.clone(), y: Axis::new("accuracy", Scale::Percent), series },
    );
    // From 0, so that a small share does not look like a large change.
    let most = rounds.iter().map(|r| r.wrong_steps).fold(0.04, f64::max) * 1.25;
    let wrong_steps = Plot::new(
        "Right answers reached by wrong steps",
        "Should not grow: right answers must not be bought with wrong reasoning.",
        Chart::Line {
            x: round_axis.clone(),
            y: Axis::new("share of right answers", Scale::Percent).range(0.0, most.min(1.0)),
            series: vec![Series::exact(
                "right by wrong steps",
                rounds.iter().map(|r| (r.round as f64, r.wrong_steps)),
            )],
        },
    );
    let balance: Vec<(f64, f64)> =
        rounds.iter().filter_map(|r| r.balance.map(|b| (r.round as f64, b))).collect();
    let mut plots = vec![accuracy, wrong_steps];
    if !balance.is_empty() {
        plots.push(Plot::new(
            "Balance score",
            "Enough different right answers, and few wrong ones, among the rows selected for training; should not fall.",
            Chart::Line {
                x: round_axis,
                y: Axis::new("balance score", Scale::Number),
                series: vec![Series::exact("balance score", balance)],
            },
        ));
    }
    plots
}
