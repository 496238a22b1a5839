//! Reliability diagrams and histograms.

use super::axis::{Ends, Frame, Ruler};
use super::canvas::{Anchor, Canvas, Ink};
use super::{Axis, HistogramSeries, PlotSize, Scale};
use crate::format::{percent, thousands};
use crate::{Histogram, ReliabilityBin};

/// Height of the strip of shares below a reliability diagram.
const STRIP: f64 = 44.0;

pub(super) fn reliability(size: PlotSize, bins: &[ReliabilityBin]) -> Canvas {
    let mut canvas = Canvas::new(size.width, size.height);
    canvas.height += STRIP + 16.0;
    let total: usize = bins.iter().map(|b| b.count).sum();
    let x_axis = Axis::new("confidence", Scale::Percent).range(0.0, 1.0);
    let y_axis = Axis::new("accuracy", Scale::Percent).range(0.0, 1.0);
    let (Some(x), Some(y), true) =
        (Ruler::new(&x_axis, [], 5, Ends::Ticks), Ruler::new(&y_axis, [], 5, Ends::Ticks), total > 0)
    else {
        return canvas.nothing();
    };
    let frame = Frame::draw(&mut canvas, 0.0, (0.0, STRIP + 16.0), (&x_axis, x), (&y_axis, y));
    for b in bins {
        let (left, right) = (frame.x_at(b.low), frame.x_at(b.high));
        let y = frame.y_at(b.accuracy.value);
        canvas.rectangle(
            (left + 0.5, y),
            ((right - left - 1.0).max(1.0), frame.bottom - y),
            Ink::Series(0),
            0.22,
            "",
        );
    }
    canvas.line(
        (frame.x_at(0.0), frame.y_at(0.0)),
        (frame.x_at(1.0), frame.y_at(1.0)),
        Ink::Muted,
        1.2,
        "5 4",
    );
    let base = canvas.height - 4.0;
    let largest = bins.iter().map(|b| b.count).max().unwrap_or(1) as f64;
    for b in bins {
        let x = frame.x_at(b.confidence);
        canvas.whisker(x, frame.y_at(b.accuracy.low), frame.y_at(b.accuracy.high), Ink::Series(0));
        let tip = format!(
            "accuracy {} ({} to {}) at confidence {}, {} answers",
            percent(b.accuracy.value),
            percent(b.accuracy.low),
            percent(b.accuracy.high),
            percent(b.confidence),
            thousands(b.count as u64)
        );
        canvas.marker((x, frame.y_at(b.accuracy.value)), 0, &tip);
        let (left, right) = (frame.x_at(b.low), frame.x_at(b.high));
        let height = (STRIP - 14.0) * b.count as f64 / largest;
        let share = format!("{} of the answers", percent(b.count as f64 / total as f64));
        canvas.rectangle(
            (left + 0.5, base - height),
            ((right - left - 1.0).max(1.0), height),
            Ink::Series(6),
            0.6,
            &share,
        );
    }
    canvas.line((frame.left, base), (frame.right, base), Ink::Muted, 1.0, "");
    canvas.text(
        frame.left,
        base - STRIP + 6.0,
        Anchor::Start,
        Ink::Muted,
        &format!("answers per bin, at most {}", thousands(largest as u64)),
    );
    canvas
}

pub(super) fn histogram(size: PlotSize, x_axis: &Axis, series: &[HistogramSeries], bins: usize) -> Canvas {
    let mut canvas = Canvas::new(size.width, size.height);
    let finite: Vec<Vec<f64>> =
        series.iter().map(|s| s.values.iter().copied().filter(|v| v.is_finite()).collect()).collect();
    let low = finite.iter().flatten().copied().fold(f64::INFINITY, f64::min);
    let high = finite.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
    let range = x_axis.range.unwrap_or(if low < high { (low, high) } else { (low - 0.5, high + 0.5) });
    let counted: Vec<Option<Histogram>> =
        finite.iter().map(|v| crate::histogram(v, bins.max(1), Some(range)).ok()).collect();
    let shares: Vec<Vec<f64>> = counted
        .iter()
        .zip(&finite)
        .map(|(h, v)| h.iter().flat_map(|h| &h.counts).map(|c| *c as f64 / v.len() as f64).collect())
        .collect();
    // Bins are what is drawn, on a plain axis even where the values are shares.
    let axis = Axis { range: Some(range), ..x_axis.clone() };
    let axis = if axis.scale == Scale::Log2 { Axis { scale: Scale::Number, ..axis } } else { axis };
    let y_axis = Axis::new("share", Scale::Percent);
    let x_ticks = if canvas.width < 450.0 { 5 } else { 8 };
    let (Some(x), Some(y)) = (
        Ruler::new(&axis, finite.iter().flatten().copied(), x_ticks, Ends::Data),
        Ruler::new(&y_axis, shares.iter().flatten().copied(), 4, Ends::TicksAndZero),
    ) else {
        return canvas.nothing();
    };
    let names: Vec<&str> = series.iter().map(|s| s.name.as_str()).collect();
    let top = canvas.legend(0.0, 6.0, &names, false);
    let frame = Frame::draw(&mut canvas, top, (0.0, 0.0), (&axis, x), (&y_axis, y));
    let edge = |i: usize, n: usize| range.0 + (range.1 - range.0) * i as f64 / n as f64;
    for (i, shares) in shares.iter().enumerate() {
        let mut outline = vec![(frame.x_at(range.0), frame.bottom)];
        for (bin, share) in shares.iter().enumerate() {
            let y = frame.y_at(*share);
            outline.push((frame.x_at(edge(bin, shares.len())), y));
            outline.push((frame.x_at(edge(bin + 1, shares.len())), y));
        }
        outline.push((frame.x_at(range.1), frame.bottom));
        if shares.is_empty() {
            continue;
        }
        canvas.area(&outline, Ink::Series(i), 0.25);
        canvas.polyline(&outline, i);
        for (bin, share) in shares.iter().enumerate().filter(|(_, s)| **s > 0.0) {
            let (left, right) = (edge(bin, shares.len()), edge(bin + 1, shares.len()));
            let tip = format!(
                "{}: {} from {} to {}",
                series[i].name,
                percent(*share),
                frame.x.written(left),
                frame.x.written(right)
            );
            let y = frame.y_at(*share);
            // See-through: it only carries the tooltip.
            canvas.rectangle(
                (frame.x_at(left), y),
                (frame.x_at(right) - frame.x_at(left), frame.bottom - y),
                Ink::Series(i),
                0.0,
                &tip,
            );
        }
    }
    canvas
}
