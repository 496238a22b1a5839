//! Ticks at round numbers, and the mapping of values to the length of an axis.

use super::canvas::{Anchor, Canvas, Ink, LINE, shortened, text_width, wrapped};
use super::{Axis, Scale};
use crate::format::thousands;

/// An axis fitted to its data.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ruler {
    scale: Scale,
    low: f64,
    high: f64,
    /// Values with their labels, rising.
    pub(super) ticks: Vec<(f64, String)>,
}

/// How the ends of an axis without a given range relate to the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    /// At the ticks around the data.
    Ticks,
    /// At the ticks around the data and zero: for bars, whose length is read.
    TicksAndZero,
    /// A little beyond the data.
    Data,
}

impl Ruler {
    /// Fits an axis to finite values with about `wanted` ticks; `None` without values.
    pub(super) fn new(
        axis: &Axis,
        values: impl IntoIterator<Item = f64>,
        wanted: usize,
        ends: Ends,
    ) -> Option<Ruler> {
        let log = axis.scale == Scale::Log2;
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.into_iter().filter(|v| v.is_finite() && (!log || *v > 0.0)) {
            low = low.min(value);
            high = high.max(value);
        }
        let given = axis.range.filter(|(a, b)| a.is_finite() && b.is_finite() && a < b && (!log || *a > 0.0));
        if let Some((a, b)) = given {
            (low, high) = (a, b);
        }
        if low > high {
            return None;
        }
        if log {
            return Some(Ruler::logarithmic(low, high, wanted));
        }
        // Work in the numbers that are written, so that 2.5 % is as round as 2.5.
        let unit = if axis.scale == Scale::Percent { 100.0 } else { 1.0 };
        let (mut low, mut high) = (low * unit, high * unit);
        if given.is_none() && ends == Ends::TicksAndZero {
            (low, high) = (low.min(0.0), high.max(0.0));
        }
        if low == high {
            let half = if axis.scale == Scale::Percent { 5.0 } else { (low.abs() * 0.1).max(0.5) };
            (low, high) = (low - half, high + half);
        }
        let mut step = nice_step((high - low) / wanted.max(1) as f64);
        if axis.scale == Scale::Whole {
            step = step.max(1.0);
        }
        if given.is_none() {
            match ends {
                Ends::Ticks | Ends::TicksAndZero => {
                    (low, high) = ((low / step + 1e-9).floor() * step, (high / step - 1e-9).ceil() * step);
                }
                Ends::Data => {
                    let margin = (high - low) * 0.03;
                    (low, high) = (low - margin, high + margin);
                }
            }
        }
        let places = (0..=9).find(|p| (step * 10f64.powi(*p)).fract().abs() < 1e-6).unwrap_or(9) as usize;
        let first = (low / step - 1e-9).ceil() as i64;
        let last = (high / step + 1e-9).floor() as i64;
        let ticks = (first..=last)
            .map(|i| {
                let value = i as f64 * step;
                (value / unit, number(value, places, axis.scale))
            })
            .collect();
        Some(Ruler { scale: axis.scale, low: low / unit, high: high / unit, ticks })
    }

    /// Powers of two; every second, third … where all would be more than a linear axis may have.
    fn logarithmic(low: f64, high: f64, wanted: usize) -> Ruler {
        let (mut low, mut high) = (low.log2(), high.log2());
        let margin = ((high - low) * 0.03).max(0.2);
        (low, high) = (low - margin, high + margin);
        let powers = low.ceil() as i32..=high.floor() as i32;
        let stride = powers.clone().count().div_ceil(wanted + 3).max(1);
        let ticks = powers
            .step_by(stride)
            .map(|power| {
                let value = 2f64.powi(power);
                let label =
                    if (0..63).contains(&power) { thousands(1u64 << power) } else { format!("2^{power}") };
                (value, label)
            })
            .collect();
        Ruler { scale: Scale::Log2, low: low.exp2(), high: high.exp2(), ticks }
    }

    /// Where a value lies, 0 at the low and 1 at the high end.
    pub(super) fn place(&self, value: f64) -> f64 {
        if self.scale == Scale::Log2 {
            (value.log2() - self.low.log2()) / (self.high.log2() - self.low.log2())
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    /// Whether a value lies on the axis.
    pub(super) fn holds(&self, value: f64) -> bool {
        value.is_finite() && (-1e-9..=1.0 + 1e-9).contains(&self.place(value))
    }

    /// A value moved to the nearer end where it lies beyond.
    pub(super) fn clamped(&self, value: f64) -> f64 {
        value.clamp(self.low, self.high)
    }

    /// A value as this axis writes it in tooltips and beside bars.
    pub(super) fn written(&self, value: f64) -> String {
        match self.scale {
            Scale::Percent => crate::format::percent(value),
            Scale::Whole => crate::format::decimals(value, 0),
            Scale::Number | Scale::Log2 => {
                let size = (self.high - self.low).abs();
                let places = if size >= 100.0 {
                    1
                } else if size >= 1.0 {
                    2
                } else {
                    4
                };
                let text = crate::format::decimals(value, places);
                if text.contains('.') {
                    text.trim_end_matches('0').trim_end_matches('.').to_string()
                } else {
                    text
                }
            }
        }
    }

    /// Width of the widest label.
    pub(super) fn label_width(&self) -> f64 {
        self.ticks.iter().map(|(_, label)| text_width(label)).fold(0.0, f64::max)
    }
}

/// The smallest of 1, 2, 2.5, 5 times a power of ten that is not below `step`.
fn nice_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let fraction = step / power;
    let nice = [1.0, 2.0, 2.5, 5.0].into_iter().find(|n| fraction <= n * (1.0 + 1e-9)).unwrap_or(10.0);
    nice * power
}

fn number(value: f64, places: usize, scale: Scale) -> String {
    let value = if value.abs() < 1e-12 { 0.0 } else { value };
    match scale {
        Scale::Percent => format!("{value:.places$} %"),
        _ if value.abs() >= 1e15 => format!("{value:.1e}"),
        _ if places == 0 && value.abs() >= 10_000.0 => {
            let sign = if value < 0.0 { "-" } else { "" };
            format!("{sign}{}", thousands(value.abs().round() as u64))
        }
        _ => format!("{value:.places$}"),
    }
}

/// The rectangle in which data are drawn, between axes that have been drawn around it.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
    pub(super) x: Ruler,
    pub(super) y: Ruler,
}

impl Frame {
    /// Draws both axes below `top`, leaving `above` pixels free over the highest value and `below` pixels under the
    /// horizontal axis.
    pub(super) fn draw(
        canvas: &mut Canvas,
        top: f64,
        (above, below): (f64, f64),
        (x_axis, x): (&Axis, Ruler),
        (y_axis, y): (&Axis, Ruler),
    ) -> Frame {
        let left = 6.0 + y.label_width() + 8.0;
        let last = x.ticks.last().map_or(0.0, |(_, label)| text_width(label) / 2.0);
        let right = canvas.width - last.max(10.0) - 2.0;
        let y_label = wrapped(&y_axis.label, canvas.width - 8.0);
        let top = top + y_label.len() as f64 * LINE + 14.0 + above;
        canvas.lines(
            4.0,
            top - above - 14.0 - (y_label.len() as f64 - 1.0) * LINE,
            Anchor::Start,
            Ink::Muted,
            &y_label,
        );
        let x_label = shortened(&x_axis.label, canvas.width - 8.0);
        let label_height = if x_label.is_empty() { 0.0 } else { LINE + 3.0 };
        let bottom = canvas.height - below - label_height - 22.0;
        let frame = Frame { left, top, right, bottom, x, y };
        for (value, label) in &frame.y.ticks {
            let at = frame.y_at(*value);
            canvas.line((left, at), (right, at), Ink::Line, 1.0, "");
            canvas.text(left - 6.0, at + 4.0, Anchor::End, Ink::Muted, label);
        }
        canvas.line((left, bottom), (right, bottom), Ink::Muted, 1.0, "");
        let mut free_from = f64::NEG_INFINITY;
        for (value, label) in &frame.x.ticks {
            let at = frame.x_at(*value);
            canvas.line((at, bottom), (at, bottom + 4.0), Ink::Muted, 1.0, "");
            let half = text_width(label) / 2.0;
            if at - half > free_from && at - half >= 0.0 {
                canvas.text(at, bottom + 17.0, Anchor::Middle, Ink::Muted, label);
                free_from = at + half + 6.0;
            }
        }
        if !x_label.is_empty() {
            // Under the middle of the axis, moved where a long label would leave the drawing.
            let half = text_width(&x_label) / 2.0;
            let middle = ((left + right) / 2.0).clamp(half + 2.0, canvas.width - half - 2.0);
            canvas.text(middle, bottom + 20.0 + LINE, Anchor::Middle, Ink::Muted, &x_label);
        }
        frame
    }

    pub(super) fn x_at(&self, value: f64) -> f64 {
        self.left + self.x.place(value) * (self.right - self.left)
    }

    pub(super) fn y_at(&self, value: f64) -> f64 {
        self.bottom - self.y.place(value) * (self.bottom - self.top)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(axis: &Axis, values: &[f64], ends: Ends) -> Vec<String> {
        Ruler::new(axis, values.iter().copied(), 5, ends).unwrap().ticks.into_iter().map(|t| t.1).collect()
    }

    #[test]
    fn ticks_are_round() {
        let number = Axis::new("", Scale::Number);
        assert_eq!(labels(&number, &[0.0, 9.7], Ends::Ticks), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(
            labels(&number, &[0.013, 0.021], Ends::Ticks),
            ["0.012", "0.014", "0.016", "0.018", "0.020", "0.022"]
        );
        assert_eq!(labels(&Axis::new("", Scale::Whole), &[0.0, 3.0], Ends::Data), ["0", "1", "2", "3"]);
        assert_eq!(
            labels(&Axis::new("", Scale::Percent), &[0.41, 0.58], Ends::Ticks),
            ["40 %", "45 %", "50 %", "55 %", "60 %"]
        );
        assert_eq!(labels(&Axis::new("", Scale::Log2), &[1.0, 8.0], Ends::Data), ["1", "2", "4", "8"]);
        assert_eq!(labels(&number, &[25.0, 40.0], Ends::TicksAndZero), ["0", "10", "20", "30", "40"]);
        assert_eq!(labels(&number, &[0.0, 60_000.0], Ends::Ticks)[1], "20,000");
    }

    #[test]
    fn one_value_has_room_around_it() {
        let r = Ruler::new(&Axis::new("", Scale::Percent), [0.5], 5, Ends::Ticks).unwrap();
        assert!(r.holds(0.46) && r.holds(0.54) && (r.place(0.5) - 0.5).abs() < 1e-9, "{r:?}");
        assert_eq!(Ruler::new(&Axis::default(), [f64::NAN], 5, Ends::Ticks), None);
        assert_eq!(Ruler::new(&Axis::new("", Scale::Log2), [-1.0], 5, Ends::Ticks), None);
    }

    proptest! {
        #[test]
        fn any_data_are_held(values in prop::collection::vec(-1e9f64..1e9, 1..20), wanted in 1usize..9) {
            for ends in [Ends::Ticks, Ends::TicksAndZero, Ends::Data] {
                let r = Ruler::new(&Axis::default(), values.iter().copied(), wanted, ends).unwrap();
                prop_assert!(values.iter().all(|v| r.holds(*v)));
                prop_assert!(r.ticks.len() <= wanted + 3, "{:?}", r);
            }
            let powers = Axis::new("", Scale::Log2);
            if let Some(r) = Ruler::new(&powers, values.iter().copied(), wanted, Ends::Ticks) {
                prop_assert!(r.ticks.len() <= wanted + 3, "{:?}", r);
            }
        }
    }
}
