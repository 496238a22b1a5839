//! The page: sections as HTML, every text escaped.

use super::{Attempt, Cell, Claim, Plots, Report, Section, Table, Text, Tone, TraceSample, Traces};
use crate::escape::escape;
use crate::format;
use crate::plot::COLOURS;
use crate::{Interval, Plot, PlotSize};
use std::fmt::Write;

const STYLE: &str = include_str!("style.css");
/// Colours of verdicts, beside those of charts.
const VERDICTS: &str = ":root{--right:#00704f;--wrong:#b3361b;--doubt:#96700a}\
@media (prefers-color-scheme:dark){:root{--right:#3ecba0;--wrong:#ff8f73;--doubt:#e3b74b}}";

pub(super) fn page(report: &Report) -> String {
    let mut out = String::with_capacity(64 * 1024);
    // The policy is a second wall behind the escaping: even markup that slipped through could load and run nothing.
    let _ = writeln!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n\
         <style>\n{COLOURS}\n{VERDICTS}\n{STYLE}</style>\n</head>\n<body>\n<main>",
        escape(&report.title)
    );
    header(&mut out, report);
    for (i, section) in report.sections.iter().enumerate() {
        let _ = writeln!(out, "<section id=\"s{i}\">");
        match section {
            Section::Text(text) => paragraphs(&mut out, text),
            Section::Table(t) => table(&mut out, t),
            Section::Plots(p) => plots(&mut out, p),
            Section::Traces(t) => traces(&mut out, t),
            Section::Claims(c) => {
                heading(&mut out, &c.title);
                claims(&mut out, &c.claims);
            }
        }
        out.push_str("</section>\n");
    }
    out.push_str(
        "<footer>Made by elenchus. This file needs nothing from outside and runs no script.</footer>\n",
    );
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

fn heading(out: &mut String, title: &str) {
    if !title.is_empty() {
        let _ = writeln!(out, "<h2>{}</h2>", escape(title));
    }
}

fn header(out: &mut String, report: &Report) {
    let _ = writeln!(out, "<header>\n<p class=\"brand\">elenchus</p>\n<h1>{}</h1>", escape(&report.title));
    if !report.headline.is_empty() {
        let (class, sign) = match report.tone {
            Tone::Good => ("good", "✓"),
            Tone::Bad => ("bad", "✗"),
            Tone::Unclear => ("unclear", "?"),
            Tone::Plain => ("plain", "•"),
        };
        let _ = writeln!(
            out,
            "<p class=\"verdict {class}\"><span class=\"sign\" aria-hidden=\"true\">{sign}</span><span>{}</span></p>",
            escape(&report.headline)
        );
    }
    if !report.facts.is_empty() {
        out.push_str("<dl class=\"facts\">\n");
        for (name, value) in &report.facts {
            // A command or a path gets a row of its own and letters that can be copied.
            let long = value.chars().count() > 36;
            let (class, value) = if long {
                (" class=\"long\"", format!("<code>{}</code>", escape(value)))
            } else {
                ("", escape(value))
            };
            let _ = writeln!(out, "<div{class}><dt>{}</dt><dd>{value}</dd></div>", escape(name));
        }
        out.push_str("</dl>\n");
    }
    if let Some(configuration) = &report.configuration {
        let _ = writeln!(
            out,
            "<details><summary>Configuration</summary><pre>{}</pre></details>",
            escape(configuration)
        );
    }
    let titles: Vec<(usize, &str)> = report
        .sections
        .iter()
        .enumerate()
        .map(|(i, s)| (i, section_title(s)))
        .filter(|(_, title)| !title.is_empty())
        .collect();
    if titles.len() > 2 {
        out.push_str("<nav aria-label=\"Sections\"><ul>\n");
        for (i, title) in titles {
            let _ = writeln!(out, "<li><a href=\"#s{i}\">{}</a></li>", escape(title));
        }
        out.push_str("</ul></nav>\n");
    }
    out.push_str("</header>\n");
}

fn section_title(section: &Section) -> &str {
    match section {
        Section::Text(t) => &t.title,
        Section::Table(t) => &t.title,
        Section::Plots(p) => &p.title,
        Section::Traces(t) => &t.title,
        Section::Claims(c) => &c.title,
    }
}

fn paragraphs(out: &mut String, text: &Text) {
    heading(out, &text.title);
    for paragraph in text.body.replace('\r', "").split("\n\n").filter(|p| !p.trim().is_empty()) {
        let _ = writeln!(out, "<p>{}</p>", escape(paragraph.trim()).replace('\n', "<br>"));
    }
}

fn note(out: &mut String, text: &str) {
    if !text.is_empty() {
        let _ = writeln!(out, "<p class=\"note\">{}</p>", escape(text));
    }
}

fn table(out: &mut String, table: &Table) {
    heading(out, &table.title);
    note(out, &table.note);
    let width = table.rows.iter().map(Vec::len).max().unwrap_or(0).max(table.columns.len());
    // A column is set right when it holds numbers and no words.
    let numeric: Vec<bool> = (0..width)
        .map(|c| {
            let cells = || table.rows.iter().filter_map(|r| r.get(c)).filter(|cell| **cell != Cell::Missing);
            cells().next().is_some() && cells().all(|cell| !matches!(cell, Cell::Text(_)))
        })
        .collect();
    let class = |c: usize| if numeric.get(c).copied().unwrap_or(false) { " class=\"num\"" } else { "" };
    let label = if table.title.is_empty() { "Table" } else { &table.title };
    let _ = write!(
        out,
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{}\">\n<table>\n<thead><tr>",
        escape(label)
    );
    for c in 0..width {
        let name = table.columns.get(c).map_or("", String::as_str);
        let _ = write!(out, "<th scope=\"col\"{}>{}</th>", class(c), escape(name));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for (r, row) in table.rows.iter().enumerate() {
        out.push_str(if table.highlight == Some(r) { "<tr class=\"highlight\">" } else { "<tr>" });
        for c in 0..width {
            let _ = write!(out, "<td{}>{}</td>", class(c), cell(row.get(c).unwrap_or(&Cell::Missing)));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table>\n</div>\n");
}

fn cell(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) => escape(text),
        Cell::Number(value, places) => format::decimals(*value, (*places).min(12)),
        Cell::Count(count) => format::thousands(*count),
        Cell::Percent(share) => format::percent(*share),
        Cell::PercentInterval(i) => {
            let i = i.of_share();
            let end = |v: f64| format::decimals(v * 100.0, 1);
            format!("{}<small>{} to {}</small>", format::percent(i.value), end(i.low), end(i.high))
        }
        Cell::Points(i) => points(i, i.low > 0.0, i.high < 0.0),
        Cell::PointsDown(i) => points(i, i.high < 0.0, i.low > 0.0),
        Cell::Seconds(s) => format::seconds(*s),
        Cell::Missing => "<span class=\"missing\">–</span>".to_string(),
    }
}

fn points(i: &Interval, good: bool, bad: bool) -> String {
    let end = |v: f64| format::decimals(v * 100.0, 1);
    let class = if good {
        "up"
    } else if bad {
        "down"
    } else {
        "same"
    };
    let value = format::points(i.value);
    format!("<span class=\"{class}\">{value}</span><small>{} to {}</small>", end(i.low), end(i.high))
}

fn plots(out: &mut String, section: &Plots) {
    heading(out, &section.title);
    let one = if section.plots.len() == 1 { " one" } else { "" };
    let _ = writeln!(out, "<div class=\"plots{one}\">");
    for plot in &section.plots {
        figure(out, plot);
    }
    out.push_str("</div>\n");
}

/// Two drawings of one chart, of which the width of the screen shows one: shrinking the wide one would make its text
/// unreadable on a phone.
fn figure(out: &mut String, plot: &Plot) {
    let _ = writeln!(
        out,
        "<figure>\n<h3>{}</h3>\n<div class=\"wide\">{}</div>\n<div class=\"narrow\">{}</div>",
        escape(&plot.title),
        plot.svg(PlotSize::WIDE),
        plot.svg(PlotSize::NARROW)
    );
    if !plot.caption.is_empty() {
        let _ = writeln!(out, "<figcaption class=\"caption\">{}</figcaption>", escape(&plot.caption));
    }
    out.push_str("</figure>\n");
}

fn claims(out: &mut String, claims: &[Claim]) {
    out.push_str("<ul class=\"claims\">\n");
    for claim in claims {
        let verdict = if claim.holds {
            "<b class=\"right\">✓ holds</b>"
        } else {
            "<b class=\"wrong\">✗ does not hold</b>"
        };
        let size = [claim.estimate, claim.low, claim.high].iter().fold(0.0f64, |a, v| a.max(v.abs()));
        let places = if size >= 1000.0 {
            0
        } else if size >= 10.0 {
            1
        } else if size >= 1.0 {
            2
        } else {
            3
        };
        let written = |v: f64| format::decimals(v, places);
        let _ = writeln!(
            out,
            "<li><span>{verdict}<span class=\"id\">{}</span></span><span class=\"what\">{}</span>\
             <span class=\"estimate\">{} <small>({} to {})</small></span></li>",
            escape(&claim.id),
            escape(&claim.text),
            written(claim.estimate),
            written(claim.low),
            written(claim.high)
        );
    }
    out.push_str("</ul>\n");
}

fn traces(out: &mut String, traces: &Traces) {
    heading(out, &traces.title);
    note(out, &traces.note);
    for sample in &traces.samples {
        trace(out, sample);
    }
}

/// Class, sign and word of an outcome.
fn outcome(correct: Option<bool>) -> (&'static str, &'static str, &'static str) {
    match correct {
        Some(true) => ("right", "✓", "right"),
        Some(false) => ("wrong", "✗", "wrong"),
        None => ("unknown", "·", "not judged"),
    }
}

fn trace(out: &mut String, sample: &TraceSample) {
    let lead: String =
        sample.problem.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(160).collect();
    let _ = write!(
        out,
        "<details class=\"trace\"{}><summary><span class=\"lead\"><b>{}</b><span class=\"said\">{}</span></span><span class=\"badges\">",
        if sample.open { " open" } else { "" },
        escape(&sample.label),
        escape(&lead)
    );
    for attempt in &sample.attempts {
        let (class, sign, word) = outcome(attempt.correct);
        let _ = write!(
            out,
            "<span>{} <b class=\"{class}\" aria-hidden=\"true\">{sign}</b><span class=\"hidden\"> {word}</span></span>",
            escape(&attempt.label)
        );
    }
    let _ = writeln!(
        out,
        "</span></summary>\n<div class=\"inside\"><p class=\"problem said mono\">{}</p>",
        escape(&sample.problem)
    );
    if let Some(gold) = &sample.gold {
        let _ = writeln!(
            out,
            "<p class=\"note\">Reference answer: <code class=\"said\">{}</code></p>",
            escape(gold)
        );
    }
    out.push_str("<div class=\"attempts\">\n");
    let broken = sample.attempts.first().and_then(first_wrong);
    for (i, attempt) in sample.attempts.iter().enumerate() {
        // The step that the first attempt got wrong is marked where a later one has it right.
        let repaired = broken.filter(|_| i > 0);
        attempt_column(out, attempt, repaired);
    }
    out.push_str("</div></div></details>\n");
}

fn first_wrong(attempt: &Attempt) -> Option<usize> {
    attempt.steps.iter().position(|s| s.correct == Some(false))
}

fn attempt_column(out: &mut String, attempt: &Attempt, repaired: Option<usize>) {
    let (class, sign, word) = outcome(attempt.correct);
    let _ = writeln!(
        out,
        "<div class=\"attempt is-{class}\"><h4>{}<span class=\"{class}\">{sign} {word}</span></h4>",
        escape(&attempt.label)
    );
    if attempt.steps.is_empty() {
        let text = if attempt.text.is_empty() { "(no text)" } else { &attempt.text };
        let _ = writeln!(out, "<pre class=\"said\">{}</pre>", escape(text));
    } else {
        out.push_str("<ol class=\"steps\">\n");
        let broken = first_wrong(attempt);
        for (i, step) in attempt.steps.iter().enumerate() {
            let (class, sign, word) = outcome(step.correct);
            let (mark, aside) = if broken == Some(i) {
                let expected = step.expected.as_ref().map(|e| {
                    format!("<div class=\"aside\">should be <code class=\"said\">{}</code></div>", escape(e))
                });
                (" class=\"was-wrong\"", expected.unwrap_or_default())
            } else if repaired == Some(i) && step.correct == Some(true) && broken.is_none_or(|b| b > i) {
                (
                    " class=\"repaired\"",
                    "<div class=\"aside\">was wrong in the first attempt</div>".to_string(),
                )
            } else {
                ("", String::new())
            };
            let _ = writeln!(
                out,
                "<li{mark}><span class=\"{class}\" aria-hidden=\"true\">{sign}</span><div><span class=\"hidden\">{word}: </span>\
                 <code class=\"said\">{}</code>{aside}</div></li>",
                escape(&step.text)
            );
        }
        out.push_str("</ol>\n");
    }
    match &attempt.answer {
        Some(answer) => {
            let _ = writeln!(
                out,
                "<p class=\"answer\">Answer: <code class=\"said\">{}</code></p>",
                escape(answer)
            );
        }
        None => out.push_str("<p class=\"answer unknown\">No answer found.</p>\n"),
    }
    let mut cost = Vec::new();
    cost.extend(attempt.confidence.map(|c| format!("confidence {}", format::percent(c))));
    cost.extend(attempt.tokens.map(|t| format!("{} tokens", format::thousands(t))));
    cost.extend(attempt.seconds.map(format::seconds));
    if !cost.is_empty() {
        let _ = writeln!(out, "<p class=\"cost\">{}</p>", escape(&cost.join(" · ")));
    }
    out.push_str("</div>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::tests::well_formed;
    use crate::{
        Axis, Chart, Claims, Judgement, Judgements, RoundRecord, Scale, Series, calibration_sections,
    };
    use crate::{TraceStep, rounds_plots, rounds_table};
    use elenchus_trace::{Outcome, Step, StepVerdict, Verdict};
    use proptest::prelude::*;

    /// A report with `text` in every place that takes text.
    fn everywhere(text: &str) -> Report {
        let t = || text.to_string();
        let i = Interval { value: 0.5, low: 0.4, high: 0.6 };
        let attempt = |steps: Vec<TraceStep>| Attempt {
            label: t(),
            steps,
            text: t(),
            answer: Some(t()),
            correct: Some(false),
            confidence: Some(0.5),
            tokens: Some(3),
            seconds: Some(0.1),
        };
        let step = TraceStep { text: t(), correct: Some(false), expected: Some(t()) };
        let chart = Chart::Line {
            x: Axis::new(text, Scale::Number),
            y: Axis::new(text, Scale::Percent),
            series: vec![Series::exact(text, [(0.0, 0.5)]), Series::exact(text, [(1.0, 0.5)])],
        };
        Report::new(text)
            .headline(Tone::Unclear, text)
            .fact(text, text)
            .configuration(text)
            .section(Section::text(text, text))
            .section(
                Table::new(text, [text]).note(text).row([Cell::from(text), Cell::PercentInterval(i)]).into(),
            )
            .section(Section::plots(text, vec![Plot::new(text, text, chart)]))
            .section(Section::Claims(Claims {
                title: t(),
                claims: vec![Claim { id: t(), text: t(), holds: false, estimate: 0.1, low: 0.0, high: 0.2 }],
            }))
            .section(Section::traces(
                text,
                text,
                vec![TraceSample {
                    label: t(),
                    problem: t(),
                    gold: Some(t()),
                    attempts: vec![attempt(vec![step.clone(), step]), attempt(vec![])],
                    open: true,
                }],
            ))
    }

    #[test]
    fn hostile_text_is_only_shown() {
        for attack in [
            "<script>alert(1)</script>",
            "\"><img src=x onerror=alert(1)>",
            "' onmouseover='alert(1)",
            "</style></title></pre></svg><svg onload=alert(1)>",
            "]]><!--",
            "javascript:alert(1)",
        ] {
            let html = everywhere(attack).to_html();
            for active in ["<script", "<img", "<svg onload", "<!--", "<iframe"] {
                assert!(!html.contains(active), "{attack}: {active}");
            }
            // No attribute but our own: every tag that has one of these would have to come from the text.
            for tag in html.split('<').map(|t| t.split('>').next().unwrap_or("")) {
                let outside = tag.split('"').step_by(2).collect::<String>();
                assert!(
                    !outside.contains("onerror") && !outside.contains("onmouseover"),
                    "{attack}: <{tag}>"
                );
                assert!(!tag.contains("href=\"javascript"), "{attack}: <{tag}>");
            }
            well_formed(&html).unwrap();
        }
    }

    #[test]
    fn the_page_needs_nothing_from_outside() {
        let html = everywhere("plain").to_html();
        let without_namespace = html.replace("http://www.w3.org/2000/svg", "");
        for outside in ["http:", "https:", "src=", "@import", "url(", "<link", "<script"] {
            assert!(!without_namespace.contains(outside), "{outside}");
        }
        for needed in
            ["name=\"viewport\"", "prefers-color-scheme:dark", "<html lang=\"en\">", "max-width:560px"]
        {
            assert!(html.contains(needed), "{needed}");
        }
    }

    #[test]
    fn what_was_wrong_and_is_right_is_marked() {
        let verdict = |last: bool| Verdict {
            outcome: if last { Outcome::Correct } else { Outcome::Wrong },
            answer: Some(if last { "130" } else { "120" }.to_string()),
            steps: [("e=50-1=49", true), (if last { "d=49+81=130" } else { "d=49+81=120" }, last)]
                .map(|(text, correct)| StepVerdict {
                    step: Step { text: text.to_string(), start: 0, end: text.len() },
                    correct,
                    expected: (!correct).then(|| "d=49+81=130".to_string()),
                })
                .to_vec(),
            reason: None,
        };
        let sample = TraceSample {
            problem: "g=50;e=g-1;d=e+81;d?".to_string(),
            attempts: vec![
                Attempt::from_verdict("before", "…", &verdict(false)),
                Attempt::from_verdict("after", "…", &verdict(true)),
            ],
            ..TraceSample::default()
        };
        let html = Report::new("r").section(Section::traces("t", "", vec![sample])).to_html();
        assert_eq!(html.matches("<li class=\"was-wrong\">").count(), 1);
        assert_eq!(html.matches("<li class=\"repaired\">").count(), 1);
        assert!(html.contains("should be <code class=\"said\">d=49+81=130</code>"), "{html}");
        assert_eq!(html.matches("<svg").count(), 0);
    }

    #[test]
    fn cells_are_written() {
        let i = Interval { value: -0.013, low: -0.025, high: -0.002 };
        assert!(cell(&Cell::Points(i)).contains("class=\"down\">-1.3<"));
        let wide = Interval { value: 0.3, low: -0.33, high: 1.1 };
        assert!(cell(&Cell::PercentInterval(wide)).contains("<small>0.0 to 100.0</small>"));
        assert!(cell(&Cell::PointsDown(i)).contains("class=\"up\">-1.3<"));
        assert_eq!(cell(&Cell::Count(12_345)), "12,345");
        assert_eq!(cell(&Cell::Number(0.12345, 3)), "0.123");
        assert_eq!(cell(&Cell::Seconds(61.0)), "1 min 1 s");
        let short_row = Table::new("t", ["a", "b"]).row([Cell::Count(1)]);
        let html = Report::new("r").section(short_row.into()).to_html();
        assert_eq!(html.matches("<td").count(), 2);
    }

    #[test]
    fn rounds_and_calibration_make_sections() {
        let i = Interval { value: 0.5, low: 0.4, high: 0.6 };
        let round = |round, balance| RoundRecord {
            round,
            greedy: i,
            sampled: i,
            vote: i,
            pass: i,
            wrong_steps: 0.02,
            temperature: balance,
            threshold: None,
            balance,
            rows: 10,
            tokens: 1000,
            seconds: 1.0,
        };
        let rounds = [round(0, None), round(1, Some(0.5)), round(2, Some(0.6))];
        let table = rounds_table(&rounds, 8);
        assert_eq!((table.rows.len(), table.columns.len(), table.highlight), (3, 12, Some(2)));
        assert_eq!(rounds_plots(&rounds, 8, Some(("control", &[(0.0, i), (2.0, i)]))).len(), 3);
        assert_eq!(rounds_plots(&rounds[..1], 8, None).len(), 2);
        let j = Judgements::new(
            [(0.2, false), (0.7, true)].map(|(confidence, correct)| Judgement { confidence, correct }),
        );
        let sections = calibration_sections("the judge", &j.unwrap()).unwrap();
        let html = Report::new("r").sections(sections).section(table.into()).to_html();
        assert!(html.contains("Calibration of the judge") && html.contains("pass@8"));
        well_formed(&html).unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn any_text_keeps_the_page_whole(text in "\\PC{0,30}|[<>&\"'/a-z \n]{0,30}") {
            prop_assert_eq!(well_formed(&everywhere(&text).to_html()), Ok(()));
        }
    }
}
