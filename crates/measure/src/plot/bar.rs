use super::canvas::Canvas;
use super::{Axis, BarSeries, PlotSize};
pub(super) fn draw(_size: PlotSize, _y: &Axis, _categories: &[String], _series: &[BarSeries]) -> Canvas {
    Canvas
}
