//! Line charts with error bands, and scatter charts.

use super::axis::{Ends, Frame, Ruler};
use super::canvas::{Canvas, Ink};
use super::{Axis, PlotSize, Point, Scale, Series};

/// Points of one series above which they are drawn as dots without tooltips.
const MANY: usize = 200;

pub(super) fn draw(size: PlotSize, x_axis: &Axis, y_axis: &Axis, series: &[Series], lines: bool) -> Canvas {
    let mut canvas = Canvas::new(size.width, size.height);
    let all =
        || series.iter().flat_map(|s| s.points.iter()).filter(|p| p.x.is_finite() && p.y.value.is_finite());
    let x_ticks = if canvas.width < 450.0 { 5 } else { 8 };
    let (Some(x), Some(mut y)) = (
        Ruler::new(x_axis, all().map(|p| p.x), x_ticks, Ends::Data),
        Ruler::new(y_axis, all().flat_map(|p| [p.y.low, p.y.value, p.y.high]), 5, Ends::Ticks),
    ) else {
        return canvas.nothing();
    };
    // Shares below 0 or above 1 mean nothing; an axis that shows them misleads.
    if y_axis.scale == Scale::Percent
        && y_axis.range.is_none()
        && all().all(|p| (0.0..=1.0).contains(&p.y.value))
        && (y.holds(-0.001) || y.holds(1.001))
    {
        let low = if y.holds(-0.001) { 0.0 } else { y.ticks.first().map_or(0.0, |t| t.0) };
        let high = if y.holds(1.001) { 1.0 } else { y.ticks.last().map_or(1.0, |t| t.0) };
        if let Some(inside) = Ruler::new(&y_axis.clone().range(low, high), [], 5, Ends::Ticks) {
            y = inside;
        }
    }
    let names: Vec<&str> = series.iter().map(|s| s.name.as_str()).collect();
    let top = canvas.legend(0.0, 6.0, &names, lines);
    let frame = Frame::draw(&mut canvas, top, (0.0, 0.0), (x_axis, x), (y_axis, y));
    let visible = |s: &Series| -> Vec<Point> {
        s.points.iter().copied().filter(|p| frame.x.holds(p.x) && frame.y.holds(p.y.value)).collect()
    };
    let ends = |p: &Point| {
        let end = |v: f64| if v.is_finite() { v } else { p.y.value };
        (frame.y_at(frame.y.clamped(end(p.y.low))), frame.y_at(frame.y.clamped(end(p.y.high))))
    };
    // All bands first, so that no band covers a line.
    for (i, s) in series.iter().enumerate() {
        let points: Vec<Point> = visible(s).into_iter().filter(|p| p.y.high > p.y.low).collect();
        if lines && points.len() > 1 {
            let upper = points.iter().map(|p| (frame.x_at(p.x), ends(p).1));
            let lower = points.iter().rev().map(|p| (frame.x_at(p.x), ends(p).0));
            canvas.area(&upper.chain(lower).collect::<Vec<_>>(), Ink::Series(i), 0.14);
        } else if points.len() <= MANY {
            for p in &points {
                let (low, high) = ends(p);
                canvas.whisker(frame.x_at(p.x), low, high, Ink::Series(i));
            }
        }
    }
    for (i, s) in series.iter().enumerate() {
        let points = visible(s);
        let places: Vec<(f64, f64)> =
            points.iter().map(|p| (frame.x_at(p.x), frame.y_at(p.y.value))).collect();
        if lines {
            canvas.polyline(&places, i);
        }
        if points.len() > MANY {
            if !lines {
                canvas.dots(&places, i);
            }
            continue;
        }
        for (p, place) in points.iter().zip(&places) {
            canvas.marker(*place, i, &tip(&s.name, p, &frame));
        }
    }
    canvas
}

fn tip(name: &str, p: &Point, frame: &Frame) -> String {
    let mut text = format!("{name}: {} at {}", frame.y.written(p.y.value), frame.x.written(p.x));
    if p.y.high > p.y.low {
        text.push_str(&format!(" ({} to {})", frame.y.written(p.y.low), frame.y.written(p.y.high)));
    }
    text
}
