//! One HTML file that tells what was run, what came out and how sure that is.
//!
//! The file needs nothing from outside: style and charts are inside, there is no script. It follows the light or dark
//! scheme of the reader's system and reads well on a phone. Every text given to it is escaped.

mod calibration;
mod html;
mod rounds;

pub use calibration::calibration_sections;
pub use rounds::{RoundRecord, rounds_plots, rounds_table};

use crate::{Interval, Plot};
use elenchus_trace::Verdict;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the headline is coloured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tone {
    /// It got better; the claim holds.
    Good,
    /// It got worse; the claim does not hold.
    Bad,
    /// It cannot be told.
    Unclear,
    /// No judgement.
    #[default]
    Plain,
}

/// A report under construction.
///
/// ```
/// use elenchus_measure::{Report, Section, Tone};
/// let html = Report::new("Rounds of self-improvement")
///     .headline(Tone::Good, "Sampled accuracy rose by 17.3 points (95 % 15.1 to 19.5).")
///     .fact("seed", "7")
///     .section(Section::text("Note", "The control arm had as many gold rows."))
///     .to_html();
/// assert!(html.starts_with("<!doctype html>"));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    title: String,
    tone: Tone,
    headline: String,
    facts: Vec<(String, String)>,
    configuration: Option<String>,
    sections: Vec<Section>,
}

impl Report {
    /// An empty report.
    pub fn new(title: impl Into<String>) -> Self {
        Report { title: title.into(), ..Report::default() }
    }

    /// The verdict in one sentence, at the top.
    pub fn headline(mut self, tone: Tone, sentence: impl Into<String>) -> Self {
        self.tone = tone;
        self.headline = sentence.into();
        self
    }

    /// One thing to know about the run: command, seed, model, date, machine.
    pub fn fact(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.facts.push((name.into(), value.into()));
        self
    }

    /// The resolved configuration, shown folded.
    pub fn configuration(mut self, text: impl Into<String>) -> Self {
        self.configuration = Some(text.into());
        self
    }

    /// Appends a section.
    pub fn section(mut self, section: Section) -> Self {
        self.sections.push(section);
        self
    }

    /// Appends several sections.
    pub fn sections(mut self, sections: impl IntoIterator<Item = Section>) -> Self {
        self.sections.extend(sections);
        self
    }

    /// The whole page.
    pub fn to_html(&self) -> String {
        html::page(self)
    }
}

/// A part of a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Section {
    /// Paragraphs.
    Text(Text),
    /// A table.
    Table(Table),
    /// One or more charts under one heading.
    Plots(Plots),
    /// Attempts at problems, side by side, folded.
    Traces(Traces),
    /// Claims with their verdicts.
    Claims(Claims),
}

impl Section {
    /// A section of one text; blank lines divide paragraphs.
    pub fn text(title: impl Into<String>, body: impl Into<String>) -> Self {
        Section::Text(Text { title: title.into(), body: body.into() })
    }

    /// A section of one chart, with the chart's title as heading.
    pub fn plot(plot: Plot) -> Self {
        Section::Plots(Plots { title: String::new(), plots: vec![plot] })
    }

    /// A section of several charts that stand side by side where there is room.
    pub fn plots(title: impl Into<String>, plots: Vec<Plot>) -> Self {
        Section::Plots(Plots { title: title.into(), plots })
    }

    /// A section of claims.
    pub fn claims(title: impl Into<String>, claims: Vec<Claim>) -> Self {
        Section::Claims(Claims { title: title.into(), claims })
    }

    /// A section of attempts.
    pub fn traces(title: impl Into<String>, note: impl Into<String>, samples: Vec<TraceSample>) -> Self {
        Section::Traces(Traces { title: title.into(), note: note.into(), samples })
    }
}

impl From<Table> for Section {
    fn from(table: Table) -> Self {
        Section::Table(table)
    }
}

/// Paragraphs under a heading.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Text {
    /// Heading.
    pub title: String,
    /// Plain text; blank lines divide paragraphs.
    pub body: String,
}

/// Charts under a heading.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Plots {
    /// Heading; empty for none.
    pub title: String,
    /// The charts.
    pub plots: Vec<Plot>,
}

/// One entry of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// Words, set left.
    Text(String),
    /// A number with so many decimals.
    Number(f64, usize),
    /// A count, with thousands divided.
    Count(u64),
    /// A share, written in per cent with one decimal.
    Percent(f64),
    /// A share with its interval, in per cent.
    PercentInterval(Interval),
    /// A difference of shares with its interval, in points with a sign; coloured when the interval excludes 0.
    Points(Interval),
    /// As [`Cell::Points`] for what should shrink: coloured as good when the interval lies below 0.
    PointsDown(Interval),
    /// Seconds.
    Seconds(f64),
    /// Nothing to show.
    Missing,
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Cell::Text(text.to_string())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Cell::Text(text)
    }
}

/// A table. A row shorter than the header is filled with missing cells.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Heading.
    pub title: String,
    /// What the table shows and how the numbers were made; empty for none.
    pub note: String,
    /// Column heads.
    pub columns: Vec<String>,
    /// Rows.
    pub rows: Vec<Vec<Cell>>,
    /// Index of a row to stand out.
    pub highlight: Option<usize>,
}

impl Table {
    /// An empty table.
    pub fn new<S: Into<String>>(title: impl Into<String>, columns: impl IntoIterator<Item = S>) -> Self {
        Table {
            title: title.into(),
            columns: columns.into_iter().map(Into::into).collect(),
            ..Table::default()
        }
    }

    /// Sets the note.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// Appends a row.
    pub fn row(mut self, cells: impl IntoIterator<Item = Cell>) -> Self {
        self.rows.push(cells.into_iter().collect());
        self
    }
}

/// A claim and whether it holds, with the estimate behind it in the units that the text names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Claim {
    /// Short name, unique in its recipe.
    pub id: String,
    /// The claim in words, with its unit and bound.
    pub text: String,
    /// Whether the data support it.
    pub holds: bool,
    /// The estimate.
    pub estimate: f64,
    /// Lower end of its 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Claims under a heading.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// Heading.
    pub title: String,
    /// The claims.
    pub claims: Vec<Claim>,
}

/// Attempts at problems under a heading.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Traces {
    /// Heading.
    pub title: String,
    /// How the problems were chosen; readers must know.
    pub note: String,
    /// The problems.
    pub samples: Vec<TraceSample>,
}

/// One problem with the attempts at it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TraceSample {
    /// Identifier or a short label.
    pub label: String,
    /// The problem.
    pub problem: String,
    /// Reference answer.
    pub gold: Option<String>,
    /// Side by side, in order: before, after, control arm.
    pub attempts: Vec<Attempt>,
    /// Whether it is unfolded from the start.
    pub open: bool,
}

/// One attempt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Whose it is: `before`, `after 5 rounds`, `control`.
    pub label: String,
    /// The steps; when there are none the text is shown whole.
    pub steps: Vec<TraceStep>,
    /// The whole response.
    pub text: String,
    /// The answer in it.
    pub answer: Option<String>,
    /// Whether it is right; `None` when nobody judged.
    pub correct: Option<bool>,
    /// Stated probability of being right.
    pub confidence: Option<f64>,
    /// Tokens written.
    pub tokens: Option<u64>,
    /// Seconds that it took.
    pub seconds: Option<f64>,
}

impl Attempt {
    /// An attempt as the exact verifier saw it.
    pub fn from_verdict(label: impl Into<String>, response: impl Into<String>, verdict: &Verdict) -> Self {
        Attempt {
            label: label.into(),
            steps: verdict
                .steps
                .iter()
                .map(|s| TraceStep {
                    text: s.step.text.clone(),
                    correct: Some(s.correct),
                    expected: s.expected.clone(),
                })
                .collect(),
            text: response.into(),
            answer: verdict.answer.clone(),
            correct: Some(verdict.is_correct()),
            ..Attempt::default()
        }
    }
}

/// One step of an attempt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TraceStep {
    /// The step.
    pub text: String,
    /// Whether it is right; `None` when nobody judged.
    pub correct: Option<bool>,
    /// What it should have been.
    pub expected: Option<String>,
}
