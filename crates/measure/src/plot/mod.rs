//! Charts as SVG, written here: small, crisp, readable in light and dark, without any script or outside resource.
//!
//! A [`Plot`] is data; [`Plot::svg`] draws it at a [`PlotSize`]. Text is laid out by measured widths so that it never
//! overlaps: labels that do not fit are thinned, wrapped, or turn a bar chart on its side. Series differ in colour
//! (Okabe and Ito's palette, safe for colour-blind readers), in marker and in dash. Points and bars carry a `<title>`
//! with their numbers, and the whole chart has one text alternative.

mod axis;
mod bar;
mod canvas;
mod distribution;
#[cfg(test)]
pub(crate) mod tests;
mod xy;

pub(crate) use canvas::COLOURS;

use crate::{Interval, ReliabilityBin};
use serde::{Deserialize, Serialize};

/// How the numbers of an axis are written and spaced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Numbers as they are.
    #[default]
    Number,
    /// Whole numbers only: rounds, counts.
    Whole,
    /// Shares written as per cent: 0.25 is `25 %`.
    Percent,
    /// Logarithm to base 2, for numbers of samples: 1, 2, 4, 8 …; values must be positive.
    Log2,
}

/// One axis.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Axis {
    /// What it shows, with the unit.
    pub label: String,
    /// How it is scaled and written.
    pub scale: Scale,
    /// Ends of the axis; by default what the data need.
    pub range: Option<(f64, f64)>,
}

impl Axis {
    /// An axis that fits its data.
    pub fn new(label: impl Into<String>, scale: Scale) -> Self {
        Axis { label: label.into(), scale, range: None }
    }

    /// The same axis from `low` to `high`.
    pub fn range(mut self, low: f64, high: f64) -> Self {
        self.range = Some((low, high));
        self
    }
}

/// One point of a series.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Place on the horizontal axis.
    pub x: f64,
    /// Value, with equal ends where there is no interval.
    pub y: Interval,
}

/// A named line or cloud of points. Points that are not finite are left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// Points in drawing order.
    pub points: Vec<Point>,
}

impl Series {
    /// A series with intervals, from (x, y) pairs.
    pub fn new(name: impl Into<String>, points: impl IntoIterator<Item = (f64, Interval)>) -> Self {
        Series { name: name.into(), points: points.into_iter().map(|(x, y)| Point { x, y }).collect() }
    }

    /// A series without intervals.
    pub fn exact(name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Series::new(name, points.into_iter().map(|(x, y)| (x, Interval::exact(y))))
    }
}

/// One bar per category; `None` leaves the place empty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BarSeries {
    /// Name in the legend.
    pub name: String,
    /// One value per category, with equal ends where there is no interval.
    pub values: Vec<Option<Interval>>,
}

/// Values of which the distribution is drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistogramSeries {
    /// Name in the legend.
    pub name: String,
    /// The values; those that are not finite are left out.
    pub values: Vec<f64>,
}

/// What kind of chart, with its data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Chart {
    /// Lines with markers and error bands.
    Line {
        /// Horizontal axis.
        x: Axis,
        /// Vertical axis.
        y: Axis,
        /// The lines.
        series: Vec<Series>,
    },
    /// Bars with error bars, side by side within a category.
    Bar {
        /// Value axis.
        y: Axis,
        /// Names of the categories.
        categories: Vec<String>,
        /// The bars.
        series: Vec<BarSeries>,
    },
    /// Accuracy against confidence per bin, with the share of judgements in each bin below.
    Reliability {
        /// The bins, from `Judgements::reliability`.
        bins: Vec<ReliabilityBin>,
    },
    /// How values are distributed, as shares of their series.
    Histogram {
        /// Value axis.
        x: Axis,
        /// The values.
        series: Vec<HistogramSeries>,
        /// Number of bins.
        bins: usize,
    },
    /// Points, without lines.
    Scatter {
        /// Horizontal axis.
        x: Axis,
        /// Vertical axis.
        y: Axis,
        /// The clouds.
        series: Vec<Series>,
    },
}

/// A chart with its title and the sentence that says what is to be seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plot {
    /// Title, above the chart.
    pub title: String,
    /// What the reader should see in it; shown below the chart and given to screen readers.
    pub caption: String,
    /// Data.
    pub chart: Chart,
}

/// Width and height in CSS pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlotSize {
    /// Pixels across.
    pub width: u32,
    /// Pixels down; charts with a long legend or many bars on their side grow beyond it.
    pub height: u32,
}

impl PlotSize {
    /// For pages and larger screens.
    pub const WIDE: PlotSize = PlotSize { width: 560, height: 340 };
    /// For phones.
    pub const NARROW: PlotSize = PlotSize { width: 350, height: 300 };
}

impl Plot {
    /// A chart.
    pub fn new(title: impl Into<String>, caption: impl Into<String>, chart: Chart) -> Self {
        Plot { title: title.into(), caption: caption.into(), chart }
    }

    /// The chart as an `<svg>` element for a page that defines the colours (the report does); without those CSS
    /// variables the colours of the light scheme are used. The title is not drawn, only spoken.
    pub fn svg(&self, size: PlotSize) -> String {
        let canvas = match &self.chart {
            Chart::Line { x, y, series } => xy::draw(size, x, y, series, true),
            Chart::Scatter { x, y, series } => xy::draw(size, x, y, series, false),
            Chart::Bar { y, categories, series } => bar::draw(size, y, categories, series),
            Chart::Reliability { bins } => distribution::reliability(size, bins),
            Chart::Histogram { x, series, bins } => distribution::histogram(size, x, series, *bins),
        };
        canvas.finish(&self.title, &self.caption)
    }

    /// The chart as a file of its own: with a namespace, and with colours for light and dark inside.
    pub fn svg_file(&self, size: PlotSize) -> String {
        let svg = self.svg(size);
        let style = format!("<style>{}</style>", COLOURS);
        match svg.find('>') {
            Some(end) => format!("{}{style}{}", &svg[..=end], &svg[end + 1..]),
            None => svg,
        }
    }
}
