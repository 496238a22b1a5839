//! The SVG under construction, and how wide text is.

use crate::escape::escape;
use std::fmt::Write;

/// Definitions of the colours, light and dark, for a page or a file that shows charts.
pub(crate) const COLOURS: &str = "\
:root{--paper:#ffffff;--ink:#1c1e21;--muted:#5c6370;--line:#d9dce1;--faint:#eef0f3;\
--c0:#0072b2;--c1:#c4510a;--c2:#00805d;--c3:#b0558a;--c4:#96700a;--c5:#3a8fc4;--c6:#5c6370}\
@media (prefers-color-scheme:dark){:root{--paper:#15171b;--ink:#e8eaed;--muted:#a3aab5;--line:#363b44;--faint:#22262d;\
--c0:#5ab4f0;--c1:#f5925a;--c2:#3ecba0;--c3:#e79ac6;--c4:#e3b74b;--c5:#a6d5f5;--c6:#a3aab5}}";

/// Colours of the light scheme, used where the variables are not defined.
const SERIES: [&str; 7] = ["#0072b2", "#c4510a", "#00805d", "#b0558a", "#96700a", "#3a8fc4", "#5c6370"];
/// Dashes of lines; with the seven colours and five markers no two of thirty-five series look alike.
const DASHES: [&str; 5] = ["", "7 3", "2 3", "9 3 2 3", "4 2"];

/// Size of all text in charts, CSS pixels.
pub(super) const TEXT: f64 = 12.0;
/// Distance of lines of text.
pub(super) const LINE: f64 = 15.0;

/// A colour of the scheme by role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ink {
    Text,
    Muted,
    Line,
    Paper,
    Series(usize),
}

impl Ink {
    fn css(self) -> String {
        match self {
            Ink::Text => "var(--ink,#1c1e21)".to_string(),
            Ink::Muted => "var(--muted,#5c6370)".to_string(),
            Ink::Line => "var(--line,#d9dce1)".to_string(),
            Ink::Paper => "var(--paper,#ffffff)".to_string(),
            Ink::Series(i) => {
                let i = i % SERIES.len();
                format!("var(--c{i},{})", SERIES[i])
            }
        }
    }
}

/// Where a text starts from its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// An SVG of a width; the height is set when the layout is known.
pub(super) struct Canvas {
    pub(super) width: f64,
    pub(super) height: f64,
    body: String,
    #[cfg(test)]
    texts: Vec<(f64, f64, f64, f64, String)>,
}

impl Canvas {
    pub(super) fn new(width: u32, height: u32) -> Self {
        // Below this no layout is possible; a size comes from a caller's constant, not from data.
        let (width, height) = (f64::from(width.max(160)), f64::from(height.max(120)));
        Canvas {
            width,
            height,
            body: String::new(),
            #[cfg(test)]
            texts: Vec::new(),
        }
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), ink: Ink, width: f64, dash: &str) {
        let dash = if dash.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dash}\"") };
        let _ = write!(
            self.body,
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke-width=\"{width}\"{dash} style=\"stroke:{}\"/>",
            from.0,
            from.1,
            to.0,
            to.1,
            ink.css()
        );
    }

    /// A line through points.
    pub(super) fn polyline(&mut self, points: &[(f64, f64)], series: usize) {
        let dash = DASHES[series % DASHES.len()];
        let dash = if dash.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dash}\"") };
        let _ = write!(
            self.body,
            "<polyline points=\"{}\" fill=\"none\" stroke-width=\"2\" stroke-linejoin=\"round\"{dash} style=\"stroke:{}\"/>",
            coordinates(points),
            Ink::Series(series).css()
        );
    }

    /// A filled area, see-through.
    pub(super) fn area(&mut self, points: &[(f64, f64)], ink: Ink, opacity: f64) {
        let _ = write!(
            self.body,
            "<polygon points=\"{}\" fill-opacity=\"{opacity}\" style=\"fill:{}\"/>",
            coordinates(points),
            ink.css()
        );
    }

    /// A rectangle with an optional tooltip.
    pub(super) fn rectangle(
        &mut self,
        (x, y): (f64, f64),
        size: (f64, f64),
        ink: Ink,
        opacity: f64,
        tip: &str,
    ) {
        let opacity = if opacity < 1.0 { format!(" fill-opacity=\"{opacity}\"") } else { String::new() };
        let _ = write!(
            self.body,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\"{opacity} style=\"fill:{}\">{}</rect>",
            size.0.max(0.0),
            size.1.max(0.0),
            ink.css(),
            tooltip(tip)
        );
    }

    /// The marker of a series, with a rim in the colour of the paper so that it stands out from lines.
    pub(super) fn marker(&mut self, (x, y): (f64, f64), series: usize, tip: &str) {
        let style = format!("fill:{};stroke:{}", Ink::Series(series).css(), Ink::Paper.css());
        let tip = tooltip(tip);
        let polygon = |points: &[(f64, f64)]| {
            let placed: Vec<(f64, f64)> = points.iter().map(|(dx, dy)| (x + dx, y + dy)).collect();
            format!("<polygon points=\"{}\" style=\"{style}\">{tip}</polygon>", coordinates(&placed))
        };
        let shape = match series % 5 {
            0 => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" style=\"{style}\">{tip}</circle>"),
            1 => polygon(&[(-3.6, -3.6), (3.6, -3.6), (3.6, 3.6), (-3.6, 3.6)]),
            2 => polygon(&[(0.0, -4.8), (4.6, 3.6), (-4.6, 3.6)]),
            3 => polygon(&[(0.0, -5.0), (5.0, 0.0), (0.0, 5.0), (-5.0, 0.0)]),
            _ => polygon(&[(-4.6, -3.6), (4.6, -3.6), (0.0, 4.8)]),
        };
        self.body.push_str(&shape);
    }

    /// Many small dots in one element.
    pub(super) fn dots(&mut self, points: &[(f64, f64)], series: usize) {
        let mut path = String::with_capacity(points.len() * 14);
        for (x, y) in points {
            let _ = write!(path, "M{x:.1} {y:.1}h0");
        }
        let _ = write!(
            self.body,
            "<path d=\"{path}\" fill=\"none\" stroke-width=\"4\" stroke-linecap=\"round\" stroke-opacity=\"0.6\" style=\"stroke:{}\"/>",
            Ink::Series(series).css()
        );
    }

    /// A vertical interval with end strokes.
    pub(super) fn whisker(&mut self, x: f64, low: f64, high: f64, ink: Ink) {
        self.line((x, low), (x, high), ink, 1.4, "");
        self.line((x - 3.5, low), (x + 3.5, low), ink, 1.4, "");
        self.line((x - 3.5, high), (x + 3.5, high), ink, 1.4, "");
    }

    /// One line of text with its baseline at `y`.
    pub(super) fn text(&mut self, x: f64, y: f64, anchor: Anchor, ink: Ink, text: &str) {
        let width = text_width(text);
        let start = match anchor {
            Anchor::Start => x,
            Anchor::Middle => x - width / 2.0,
            Anchor::End => x - width,
        };
        #[cfg(test)]
        self.texts.push((start, y - 9.0, start + width, y + 3.0, text.to_string()));
        let _ = start;
        let place = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let _ = write!(
            self.body,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{place}\" style=\"fill:{}\">{}</text>",
            ink.css(),
            escape(text)
        );
    }

    /// Lines of text below each other, the first baseline at `y`.
    pub(super) fn lines(&mut self, x: f64, y: f64, anchor: Anchor, ink: Ink, lines: &[String]) {
        for (i, line) in lines.iter().enumerate() {
            self.text(x, y + i as f64 * LINE, anchor, ink, line);
        }
    }

    /// The legend from `top` downwards, wrapped to the width; returns where it ends. Nothing for fewer than two names.
    pub(super) fn legend(&mut self, top: f64, left: f64, names: &[&str], lines: bool) -> f64 {
        if names.len() < 2 {
            return top;
        }
        let (mut x, mut y) = (left, top + LINE);
        for (i, name) in names.iter().enumerate() {
            let room = self.width - left - 36.0;
            let name = shortened(name, room);
            let width = 30.0 + text_width(&name) + 14.0;
            if x > left && x + width - 14.0 > self.width - 4.0 {
                x = left;
                y += LINE + 3.0;
            }
            if lines {
                self.polyline(&[(x, y - 4.0), (x + 22.0, y - 4.0)], i);
                self.marker((x + 11.0, y - 4.0), i, "");
            } else {
                self.rectangle((x + 8.0, y - 10.0), (12.0, 12.0), Ink::Series(i), 1.0, "");
            }
            self.text(x + 28.0, y, Anchor::Start, Ink::Text, &name);
            x += width;
        }
        y + 8.0
    }

    /// The sentence for charts without data.
    pub(super) fn nothing(mut self) -> Self {
        let (x, y) = (self.width / 2.0, self.height / 2.0);
        self.text(x, y, Anchor::Middle, Ink::Muted, "no data");
        self
    }

    /// The `<svg>` element.
    pub(super) fn finish(self, title: &str, caption: &str) -> String {
        let (w, h) = (self.width, self.height.ceil());
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" role=\"img\" \
             aria-label=\"{}\" font-family=\"system-ui,-apple-system,'Segoe UI',Roboto,Arial,sans-serif\" \
             font-size=\"{TEXT}\"><title>{}</title><desc>{}</desc>{}</svg>",
            escape(title),
            escape(title),
            escape(caption),
            self.body
        )
    }

    /// Pairs of texts whose boxes overlap, and texts that leave the canvas.
    #[cfg(test)]
    pub(super) fn collisions(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (i, a) in self.texts.iter().enumerate() {
            if a.0 < -0.5 || a.2 > self.width + 0.5 || a.1 < -0.5 || a.3 > self.height + 0.5 {
                found.push(format!("`{}` leaves the canvas", a.4));
            }
            for b in &self.texts[i + 1..] {
                if a.0 < b.2 && b.0 < a.2 && a.1 < b.3 && b.1 < a.3 {
                    found.push(format!("`{}` overlaps `{}`", a.4, b.4));
                }
            }
        }
        found
    }
}

fn tooltip(tip: &str) -> String {
    if tip.is_empty() { String::new() } else { format!("<title>{}</title>", escape(tip)) }
}

fn coordinates(points: &[(f64, f64)]) -> String {
    let mut text = String::with_capacity(points.len() * 12);
    for (x, y) in points {
        let _ = write!(text, "{x:.1},{y:.1} ");
    }
    text.truncate(text.trim_end().len());
    text
}

/// An upper estimate of the width of a text in the fonts that browsers use for `sans-serif`, CSS pixels at [`TEXT`].
pub(super) fn text_width(text: &str) -> f64 {
    let units: f64 = text
        .chars()
        .map(|c| match c {
            'i' | 'l' | 'j' | '|' | '!' | '.' | ',' | ':' | ';' | '\'' => 0.31,
            'f' | 't' | 'r' | 'I' | ' ' | '(' | ')' | '[' | ']' | '-' | '/' => 0.40,
            'm' | 'w' | 'M' | 'W' | '@' | '%' => 0.96,
            'A'..='Z' | '&' => 0.73,
            '\u{20}'..='\u{7e}' => 0.62,
            '\u{300}'..='\u{36f}' => 0.0,
            '\u{a0}'..='\u{10ff}' | '\u{2010}'..='\u{2044}' => 0.68,
            _ => 1.1,
        })
        .sum();
    units * TEXT
}

/// The text cut to a width, with an ellipsis where something was cut.
pub(super) fn shortened(text: &str, width: f64) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text_width(&text) <= width {
        return text;
    }
    let mut kept = String::new();
    for c in text.chars() {
        kept.push(c);
        if text_width(&kept) + text_width("…") > width {
            kept.pop();
            break;
        }
    }
    format!("{}…", kept.trim_end())
}

/// The text in lines of at most a width: broken at spaces, a word that is wider than a line is cut.
pub(super) fn wrapped(text: &str, width: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let longer = if line.is_empty() { word.to_string() } else { format!("{line} {word}") };
        if text_width(&longer) <= width {
            line = longer;
        } else {
            if !line.is_empty() {
                lines.push(std::mem::take(&mut line));
            }
            line = shortened(word, width);
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_fitted() {
        assert_eq!(shortened("short", 100.0), "short");
        let cut = shortened("a rather long name of a series", 80.0);
        assert!(cut.ends_with('…') && text_width(&cut) <= 80.0, "{cut}");
        for line in wrapped("some words and oneverylongwordthatcannotfit here", 90.0) {
            assert!(text_width(&line) <= 90.0, "{line}");
        }
        assert!(wrapped("  ", 50.0).is_empty());
    }

    #[test]
    fn long_legends_wrap() {
        let mut canvas = Canvas::new(350, 300);
        let names = [
            "pass@8",
            "vote of 8",
            "greedy",
            "one sample",
            "control arm with as many gold rows and more words than fit",
        ];
        let end = canvas.legend(0.0, 8.0, &names, true);
        assert!(end > 2.0 * LINE && canvas.collisions().is_empty(), "{end} {:?}", canvas.collisions());
    }
}
