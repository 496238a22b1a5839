//! Printing: results to standard output, everything else to standard error.

use crate::failure::Failure;
use elenchus_measure::{Cell, Interval, Table};
use serde::Serialize;
use std::io::Write;

/// Prints a result as JSON on standard output.
pub fn json<T: Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(std::io::Error::other)?;
    line(&text)
}

/// Prints a line on standard output. A reader that went away (`| head`) is no error.
pub fn line(text: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// A sum of money with as many places as show it, in the unit of the prices; nothing where nothing was paid.
pub fn money(sum: f64) -> Option<String> {
    (sum > 0.0).then(|| {
        let places = (1 - sum.log10().floor() as i32).clamp(2, 9) as usize;
        format!("{sum:.places$}")
    })
}

/// `61.4 % [58.3, 64.4]`
pub fn percent(interval: &Interval) -> String {
    format!("{:.1} % [{:.1}, {:.1}]", 100.0 * interval.value, 100.0 * interval.low, 100.0 * interval.high)
}

/// `+3.1 points [-0.4, +6.5]`, of a difference of shares.
pub fn points(interval: &Interval) -> String {
    let [value, low, high] = [interval.value, interval.low, interval.high].map(|v| 100.0 * v);
    format!("{value:+.1} points [{low:+.1}, {high:+.1}]")
}

/// A table with aligned columns; the first row is the heading, numbers go to the right.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|t| t.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let numeric =
        |t: &str| t.chars().next().is_some_and(|c| c.is_ascii_digit() || c == '-' || c == '+' || c == '−');
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row
            .iter()
            .enumerate()
            .map(|(c, cell)| {
                let right = c > 0 && rows.get(1).and_then(|r| r.get(c)).is_some_and(|t| numeric(t));
                let pad = " ".repeat(widths[c] - cell.chars().count());
                if right { format!("{pad}{cell}") } else { format!("{cell}{pad}") }
            })
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
        if index == 0 {
            let rule: Vec<String> = widths.iter().map(|w| "─".repeat(*w)).collect();
            text.push_str(&rule.join("  "));
            text.push('\n');
        }
    }
    text
}

/// A report's table as text, under its title.
pub fn report_table(table: &Table) -> String {
    let mut rows = vec![table.columns.clone()];
    rows.extend(table.rows.iter().map(|row| row.iter().map(cell).collect()));
    format!("{}\n{}", table.title, self::table(&rows))
}

fn cell(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) => text.clone(),
        Cell::Number(value, places) => format!("{value:.places$}"),
        Cell::Count(count) => count.to_string(),
        Cell::Percent(share) => format!("{:.1} %", 100.0 * share),
        Cell::PercentInterval(interval) => percent(&interval.of_share()),
        Cell::Points(i) | Cell::PointsDown(i) => {
            format!("{:+.1} [{:+.1}, {:+.1}]", 100.0 * i.value, 100.0 * i.low, 100.0 * i.high)
        }
        Cell::Seconds(seconds) => format!("{seconds:.0} s"),
        Cell::Missing => "–".into(),
    }
}
