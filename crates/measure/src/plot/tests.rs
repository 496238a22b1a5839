use super::*;
use proptest::prelude::*;

fn canvas(chart: &Chart, size: PlotSize) -> canvas::Canvas {
    match chart {
        Chart::Line { x, y, series } => xy::draw(size, x, y, series, true),
        Chart::Scatter { x, y, series } => xy::draw(size, x, y, series, false),
        Chart::Bar { y, categories, series } => bar::draw(size, y, categories, series),
        Chart::Reliability { bins } => distribution::reliability(size, bins),
        Chart::Histogram { x, series, bins } => distribution::histogram(size, x, series, *bins),
    }
}

/// No text may lie on another or leave the drawing, at either size.
fn texts_are_apart(chart: &Chart) -> Result<(), String> {
    for size in [PlotSize::WIDE, PlotSize::NARROW] {
        let collisions = canvas(chart, size).collisions();
        if !collisions.is_empty() {
            return Err(format!("{size:?}: {collisions:?}"));
        }
    }
    Ok(())
}

/// Every opened element is closed, in order; attributes are quoted.
pub(crate) fn well_formed(markup: &str) -> Result<(), String> {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = markup;
    while let Some(start) = rest.find('<') {
        let end = rest[start..].find('>').ok_or("a tag is not closed")? + start;
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or("");
        if tag.starts_with('!') || tag.ends_with('/') || matches!(name, "meta" | "br") {
            continue;
        }
        if !tag.matches('"').count().is_multiple_of(2) {
            return Err(format!("odd quotes in <{tag}>"));
        }
        if tag.starts_with('/') {
            if open.pop() != Some(name) {
                return Err(format!("</{name}> closes nothing"));
            }
        } else {
            open.push(name);
        }
    }
    if open.is_empty() { Ok(()) } else { Err(format!("left open: {open:?}")) }
}

fn interval(value: f64) -> Interval {
    Interval { value, low: value - 0.03, high: value + 0.03 }
}

fn bars(categories: &[&str], series: &[&str]) -> Chart {
    Chart::Bar {
        y: Axis::new("accuracy", Scale::Percent),
        categories: categories.iter().map(ToString::to_string).collect(),
        series: series
            .iter()
            .map(|name| BarSeries {
                name: name.to_string(),
                values: (0..categories.len()).map(|i| Some(interval(0.3 + 0.05 * i as f64))).collect(),
            })
            .collect(),
    }
}

#[test]
fn charts_are_accessible_and_well_formed() {
    let chart = bars(&["one", "two"], &["a", "b"]);
    let plot = Plot::new("A & B", "Which is <better>?", chart);
    for svg in [plot.svg(PlotSize::WIDE), plot.svg_file(PlotSize::NARROW)] {
        assert!(svg.contains("role=\"img\"") && svg.contains("aria-label=\"A &amp; B\""), "{svg}");
        assert!(svg.contains("<title>A &amp; B</title><desc>Which is &lt;better&gt;?</desc>"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        well_formed(&svg).unwrap();
    }
    assert!(plot.svg_file(PlotSize::WIDE).contains("prefers-color-scheme:dark"));
}

#[test]
fn labels_that_do_not_fit_turn_the_chart() {
    let short = canvas(&bars(&["one", "two", "three"], &["a"]), PlotSize::NARROW);
    assert_eq!(short.height, 300.0);
    let long = bars(
        &[
            "a category with many words in its name",
            "averyveryverylongwordwithoutanyspace",
            "c",
            "d",
            "e",
            "f",
            "g",
            "h",
        ],
        &["first", "second", "third"],
    );
    assert!(canvas(&long, PlotSize::NARROW).height > 400.0);
    texts_are_apart(&long).unwrap();
}

#[test]
fn nothing_to_draw_says_so() {
    let nowhere = Series::exact("s", [(f64::NAN, 1.0), (1.0, f64::INFINITY)]);
    for chart in [
        Chart::Line { x: Axis::default(), y: Axis::default(), series: vec![] },
        Chart::Scatter { x: Axis::default(), y: Axis::default(), series: vec![nowhere] },
        Chart::Bar { y: Axis::default(), categories: vec![], series: vec![] },
        Chart::Bar { y: Axis::default(), categories: vec!["a".to_string()], series: vec![] },
        Chart::Reliability { bins: vec![] },
        Chart::Histogram { x: Axis::default(), series: vec![], bins: 10 },
    ] {
        let svg = Plot::new("t", "c", chart).svg(PlotSize::WIDE);
        assert!(svg.contains("no data"), "{svg}");
        well_formed(&svg).unwrap();
    }
}

#[test]
fn values_outside_a_given_range_are_left_out() {
    let chart = |range| Chart::Line {
        x: Axis::new("x", Scale::Number),
        y: Axis { range, ..Axis::new("y", Scale::Number) },
        series: vec![Series::exact("s", [(0.0, 1.0), (1.0, 2.0), (2.0, 50.0)])],
    };
    let markers = |c: &Chart| Plot::new("", "", c.clone()).svg(PlotSize::WIDE).matches("<circle").count();
    assert_eq!(markers(&chart(None)), 3);
    assert_eq!(markers(&chart(Some((0.0, 10.0)))), 2);
}

#[test]
fn many_points_stay_small() {
    let points = (0..20_000).map(|i| (f64::from(i % 317), f64::from(i % 211)));
    let chart =
        Chart::Scatter { x: Axis::default(), y: Axis::default(), series: vec![Series::exact("s", points)] };
    let svg = Plot::new("", "", chart).svg(PlotSize::WIDE);
    assert!(svg.len() < 400_000 && svg.matches("<path").count() == 1, "{}", svg.len());
}

#[test]
fn percent_axes_end_at_the_meaningful_ends() {
    let series = vec![Series::new(
        "s",
        [(0.0, Interval { value: 0.99, low: 0.9, high: 1.08 }), (1.0, interval(0.95))],
    )];
    let chart = Chart::Line { x: Axis::default(), y: Axis::new("accuracy", Scale::Percent), series };
    let svg = Plot::new("", "", chart).svg(PlotSize::WIDE);
    assert!(svg.contains("100 %") && !svg.contains("105 %") && !svg.contains("110 %"), "{svg}");
}

fn scale() -> impl Strategy<Value = Scale> {
    prop_oneof![Just(Scale::Number), Just(Scale::Whole), Just(Scale::Percent), Just(Scale::Log2)]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-zA-Z0-9 ]{0,60}", "[<>&\"' a-z中あ%W-]{0,40}"]
}

fn series() -> impl Strategy<Value = Series> {
    let point = (-1e4f64..1e4, -1e4f64..1e4, 0.0f64..1e3);
    (name(), prop::collection::vec(point, 0..12)).prop_map(|(name, points)| {
        let points = points.into_iter().map(|(x, y, e)| (x, Interval { value: y, low: y - e, high: y + e }));
        Series::new(name, points)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn xy_texts_never_overlap(
        labels in (name(), name()), scales in (scale(), scale()), series in prop::collection::vec(series(), 0..7), lines in any::<bool>(),
    ) {
        let (x, y) = (Axis::new(labels.0, scales.0), Axis::new(labels.1, scales.1));
        let chart = if lines { Chart::Line { x, y, series } } else { Chart::Scatter { x, y, series } };
        prop_assert_eq!(texts_are_apart(&chart), Ok(()));
        // A name may say NaN; no coordinate may.
        let named = format!("{chart:?}").contains("NaN");
        let svg = Plot::new("t", "c", chart).svg(PlotSize::NARROW);
        prop_assert_eq!(well_formed(&svg), Ok(()));
        prop_assert!(named || !svg.contains("NaN"));
    }

    #[test]
    fn bar_texts_never_overlap(
        label in name(), scale in scale(), categories in prop::collection::vec(name(), 0..9),
        series in prop::collection::vec((name(), prop::collection::vec((-2.0f64..2.0, 0.0f64..0.5), 0..9)), 0..5),
    ) {
        let series = series.into_iter().map(|(name, values)| BarSeries {
            name,
            values: values.into_iter().map(|(v, e)| Some(Interval { value: v, low: v - e, high: v + e })).collect(),
        }).collect();
        let chart = Chart::Bar { y: Axis::new(label, scale), categories, series };
        prop_assert_eq!(texts_are_apart(&chart), Ok(()));
        prop_assert_eq!(well_formed(&Plot::new("t", "c", chart).svg(PlotSize::WIDE)), Ok(()));
    }

    #[test]
    fn distribution_texts_never_overlap(
        label in name(), values in prop::collection::vec((name(), prop::collection::vec(-50.0f64..50.0, 0..30)), 0..5), bins in 0usize..40,
        judged in prop::collection::vec((0.0f64..=1.0, any::<bool>()), 1..60),
    ) {
        let series = values.into_iter().map(|(name, values)| HistogramSeries { name, values }).collect();
        let chart = Chart::Histogram { x: Axis::new(label, Scale::Number), series, bins };
        prop_assert_eq!(texts_are_apart(&chart), Ok(()));
        let judged = crate::Judgements::new(judged.into_iter().map(|(confidence, correct)| crate::Judgement { confidence, correct })).unwrap();
        let chart = Chart::Reliability { bins: judged.reliability(crate::Binning::EqualMass, 10).unwrap() };
        prop_assert_eq!(texts_are_apart(&chart), Ok(()));
    }
}
