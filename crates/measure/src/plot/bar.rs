//! Bar charts with error bars: upright where the names of the categories fit below, on their side where they do not.

use super::axis::{Ends, Frame, Ruler};
use super::canvas::{Anchor, Canvas, Ink, LINE, text_width, wrapped};
use super::{Axis, BarSeries, PlotSize};
use crate::Interval;

pub(super) fn draw(size: PlotSize, axis: &Axis, categories: &[String], series: &[BarSeries]) -> Canvas {
    let canvas = Canvas::new(size.width, size.height);
    let values = || {
        series
            .iter()
            .flat_map(|s| s.values.iter().take(categories.len()).flatten())
            .filter(|v| v.value.is_finite())
    };
    let ends = values().flat_map(|v| [v.low, v.value, v.high]);
    let Some(ruler) = Ruler::new(axis, ends, 5, Ends::TicksAndZero) else {
        return canvas.nothing();
    };
    // Room for one category when the axis has taken its share.
    let slot = (canvas.width - ruler.label_width() - 30.0) / categories.len() as f64;
    let names: Vec<Vec<String>> = categories.iter().map(|c| wrapped(c, slot - 8.0)).collect();
    let fits = names.iter().all(|lines| lines.len() <= 3)
        && names
            .iter()
            .zip(categories)
            .all(|(lines, name)| lines.concat().len() >= name.replace(' ', "").len())
        && slot >= 14.0 * series.len() as f64 + 10.0;
    if fits {
        upright(canvas, axis, ruler, &names, categories, series)
    } else {
        on_side(canvas, axis, ruler, categories, series)
    }
}

fn value_of(series: &BarSeries, category: usize) -> Option<Interval> {
    series.values.get(category).copied().flatten().filter(|v| v.value.is_finite())
}

fn tip(series: &BarSeries, category: &str, value: &Interval, ruler: &Ruler) -> String {
    let mut text = format!("{}, {category}: {}", series.name, ruler.written(value.value));
    if value.high > value.low {
        text.push_str(&format!(" ({} to {})", ruler.written(value.low), ruler.written(value.high)));
    }
    text
}

fn legend(canvas: &mut Canvas, series: &[BarSeries]) -> f64 {
    let names: Vec<&str> = series.iter().map(|s| s.name.as_str()).collect();
    canvas.legend(0.0, 6.0, &names, false)
}

fn upright(
    mut canvas: Canvas,
    axis: &Axis,
    ruler: Ruler,
    names: &[Vec<String>],
    categories: &[String],
    series: &[BarSeries],
) -> Canvas {
    let top = legend(&mut canvas, series);
    let below = names.iter().map(Vec::len).max().unwrap_or(0) as f64 * LINE - 8.0;
    let no_ticks = Ruler::new(&Axis::default().range(0.0, categories.len() as f64), [], 1, Ends::Data);
    let Some(mut x) = no_ticks else { return canvas.nothing() };
    x.ticks.clear();
    // Values stand above the whiskers; the highest must not run into the label of the axis.
    let frame = Frame::draw(&mut canvas, top, (14.0, below), (&Axis::default(), x), (axis, ruler));
    let slot = (frame.right - frame.left) / categories.len() as f64;
    let width = ((slot - 10.0) / series.len() as f64).min(56.0);
    let zero = frame.y_at(frame.y.clamped(0.0));
    for (c, lines) in names.iter().enumerate() {
        let middle = frame.left + (c as f64 + 0.5) * slot;
        canvas.lines(middle, frame.bottom + 17.0, Anchor::Middle, Ink::Text, lines);
        let start = middle - width * series.len() as f64 / 2.0;
        for (i, s) in series.iter().enumerate() {
            let Some(value) = value_of(s, c) else { continue };
            let x = start + i as f64 * width;
            let y = frame.y_at(frame.y.clamped(value.value));
            let tip = tip(s, &categories[c], &value, &frame.y);
            canvas.rectangle(
                (x + 1.0, y.min(zero)),
                (width - 2.0, (y - zero).abs()),
                Ink::Series(i),
                0.82,
                &tip,
            );
            let mut edge = y.min(zero);
            if value.high > value.low {
                let (low, high) =
                    (frame.y_at(frame.y.clamped(value.low)), frame.y_at(frame.y.clamped(value.high)));
                canvas.whisker(x + width / 2.0, low, high, Ink::Text);
                edge = edge.min(high);
            }
            let written = frame.y.written(value.value);
            if text_width(&written) <= width - 2.0 {
                canvas.text(x + width / 2.0, edge - 5.0, Anchor::Middle, Ink::Text, &written);
            }
        }
    }
    canvas.line((frame.left, zero), (frame.right, zero), Ink::Muted, 1.0, "");
    canvas
}

fn on_side(
    mut canvas: Canvas,
    axis: &Axis,
    ruler: Ruler,
    categories: &[String],
    series: &[BarSeries],
) -> Canvas {
    const THICK: f64 = 15.0;
    let mut y = legend(&mut canvas, series) + 4.0;
    let label = wrapped(&axis.label, canvas.width - 12.0);
    canvas.lines(6.0, y + LINE - 2.0, Anchor::Start, Ink::Muted, &label);
    y += label.len() as f64 * LINE + 2.0;
    // The values are written behind the bars, so no ticks are needed, only room for the widest value.
    let widest = series
        .iter()
        .flat_map(|s| s.values.iter().flatten())
        .map(|v| text_width(&ruler.written(v.value)))
        .fold(0.0, f64::max);
    let (left, right) = (8.0, canvas.width - widest - 14.0);
    let at = |value: f64| left + ruler.place(ruler.clamped(value)).clamp(0.0, 1.0) * (right - left);
    let zero = at(0.0);
    for (c, category) in categories.iter().enumerate() {
        let lines = wrapped(category, canvas.width - 12.0);
        y += 8.0;
        canvas.lines(left, y + LINE - 3.0, Anchor::Start, Ink::Text, &lines);
        y += lines.len() as f64 * LINE + 2.0;
        let top = y;
        for (i, s) in series.iter().enumerate() {
            if let Some(value) = value_of(s, c) {
                let end = at(value.value);
                let tip = tip(s, category, &value, &ruler);
                canvas.rectangle(
                    (end.min(zero), y + 1.0),
                    ((end - zero).abs(), THICK - 3.0),
                    Ink::Series(i),
                    0.82,
                    &tip,
                );
                let mut edge = end.max(zero);
                if value.high > value.low {
                    let (low, high, middle) = (at(value.low), at(value.high), y + THICK / 2.0 - 0.5);
                    canvas.line((low, middle), (high, middle), Ink::Text, 1.4, "");
                    for x in [low, high] {
                        canvas.line((x, middle - 3.5), (x, middle + 3.5), Ink::Text, 1.4, "");
                    }
                    edge = edge.max(high);
                }
                canvas.text(edge + 6.0, y + 11.0, Anchor::Start, Ink::Text, &ruler.written(value.value));
            }
            y += THICK;
        }
        canvas.line((zero, top - 1.0), (zero, y + 1.0), Ink::Muted, 1.0, "");
    }
    canvas.height = y + 10.0;
    canvas
}
