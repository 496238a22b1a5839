//! Printing: results to standard output, everything else to standard error.

use crate::failure::Failure;
use elenchus_measure::Interval;
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

/// `61.4 % [58.3, 64.4]`
pub fn percent(interval: &Interval) -> String {
    format!("{:.1} % [{:.1}, {:.1}]", 100.0 * interval.value, 100.0 * interval.low, 100.0 * interval.high)
}

/// A table with aligned columns; the first row is the heading, numbers go to the right.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|t| t.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let numeric = |t: &str| t.chars().next().is_some_and(|c| c.is_ascii_digit() || c == '-' || c == '+' || c == '−');
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
