//! Questions about images, frames of a video or passages, from JSON lines.

use super::media::{Programs, address};
use super::{EvidenceSettings, Segment, Stream, TASK, data};
use crate::TaskError;
use crate::choice::read_rows;
use elenchus_trace::{Content, ContentPart, Message, Problem};
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// The fields of a row that are evidence; the others are those of a lettered question.
#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct Row {
    id: Option<Value>,
    question: Option<String>,
    choices: Option<Value>,
    answer: Option<Value>,
    images: Vec<Picture>,
    video: Option<String>,
    subtitles: Vec<Subtitle>,
    passages: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Picture {
    Plain(String),
    Labelled { image: String, label: String },
}

#[derive(Debug, Deserialize)]
struct Subtitle {
    start: f64,
    end: f64,
    text: String,
}

/// What a text of rows holds.
#[derive(Debug)]
pub(super) struct Read {
    /// The problems in order, each with what decides its split.
    pub(super) problems: Vec<(String, Problem)>,
    /// Numbers of the broken lines that were passed over, from 1.
    pub(super) skipped: Vec<usize>,
}

/// The problems of a text of JSON lines. `path` names the text in errors and is where relative paths begin.
///
/// # Errors
/// A broken line by number, unless `skip_bad_lines`; a file that a row names and that cannot be read; no row at all.
pub(super) fn read(text: &str, path: &Path, settings: &EvidenceSettings) -> Result<Read, TaskError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let wrong = |problem: String| {
        TaskError::File {
        path: path.display().to_string(),
        problem,
        hint: "a row is {\"question\", \"choices\", \"answer\"} with `images`, `video` or `passages`; `skip_bad_lines` \
               passes over broken ones"
            .into(),
    }
    };
    let (mut problems, mut skipped) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start_matches('\u{feff}');
        if line.trim().is_empty() {
            continue;
        }
        let read = serde_json::from_str::<Row>(line).map_err(|error| format!("is no row: {error}"));
        match read.and_then(|row| base(line, index, &row).map(|base| (row, base))) {
            Ok((row, base)) => problems.push(problem(&row, base, folder, settings)?),
            Err(_) if settings.skip_bad_lines => skipped.push(index + 1),
            Err(what) => return Err(wrong(format!("line {}: {what}", index + 1))),
        }
    }
    if problems.is_empty() {
        return Err(wrong(match skipped.len() {
            0 => "has no rows".into(),
            skipped => format!("has no good rows, and {skipped} broken ones"),
        }));
    }
    Ok(Read { problems, skipped })
}

/// Identifier, question, options and answer: a lettered row as the task `choice` reads it, or an open question.
fn base(line: &str, index: usize, row: &Row) -> Result<Problem, String> {
    let parts = row.images.len() + row.passages.len() + usize::from(row.video.is_some());
    if parts == 0 {
        return Err("has no `images`, no `video` and no `passages`".into());
    }
    let question = row.question.as_deref().map(str::trim).filter(|question| !question.is_empty());
    let question = question.ok_or("has no `question`")?;
    let mut base = if row.choices.is_some() {
        let rows = read_rows(line, "row", TASK, false).map_err(|error| error.to_string())?;
        rows.problems.into_iter().next().ok_or("has no question")?
    } else {
        let mut open = Problem::new("", TASK, question);
        open.gold = row.answer.as_ref().and_then(plain);
        open
    };
    base.question = question.to_string();
    base.id = row.id.as_ref().and_then(plain).unwrap_or_else(|| format!("line-{}", index + 1));
    Ok(base)
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn clock(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    format!("{}:{:02}", whole / 60, whole % 60)
}

fn problem(
    row: &Row,
    base: Problem,
    folder: &Path,
    settings: &EvidenceSettings,
) -> Result<(String, Problem), TaskError> {
    let asked = base.question.clone();
    let mut problem = base;
    let (mut segments, mut parts) = (Vec::new(), Vec::new());
    let picture =
        |segment: Segment, url: String, parts: &mut Vec<ContentPart>, segments: &mut Vec<Segment>| {
            let image = segments.iter().filter(|segment: &&Segment| segment.image.is_some()).count();
            parts.push(ContentPart::text(format!("{}:", segment.label)));
            parts.push(ContentPart::image(url, settings.detail.name()));
            segments.push(Segment { image: Some(image), ..segment });
        };
    for (place, named) in row.images.iter().enumerate() {
        let (written, label) = match named {
            Picture::Plain(written) => (written, format!("Image {}", place + 1)),
            Picture::Labelled { image, label } => (image, label.clone()),
        };
        picture(Segment::new(label), address(written, folder)?, &mut parts, &mut segments);
    }
    if let Some(video) = &row.video {
        let programs = Programs::on(std::env::var_os("PATH").as_deref())?;
        let frames = programs.frames(&folder.join(video), settings.frames, settings.frame_width)?;
        for (place, frame) in frames.into_iter().enumerate() {
            let label = format!("Frame {}, {}", place + 1, clock(frame.seconds[0]));
            let segment = Segment { seconds: Some(frame.seconds), ..Segment::new(label) };
            picture(segment, frame.address, &mut parts, &mut segments);
        }
    }
    let mut written = String::new();
    for (place, line) in row.subtitles.iter().enumerate() {
        let label = format!("Subtitle {}, {} to {}", place + 1, clock(line.start), clock(line.end));
        segments.push(Segment {
            seconds: Some([line.start, line.end]),
            subtitle: true,
            ..passage(&mut written, label, &line.text)
        });
    }
    for (place, said) in row.passages.iter().enumerate() {
        segments.push(passage(&mut written, format!("Passage {}", place + 1), said));
    }
    // Texts stand in the question, where their places are known; images in the dialogue in front of it.
    problem.question = format!("{written}{asked}");
    if !parts.is_empty() {
        parts.push(ContentPart::text(problem.question.clone()));
        problem.history = vec![Message { content: Some(Content::Parts(parts)), ..Message::user("") }];
    }
    problem.data = data(&Stream { segments }, None);
    Ok((asked, problem))
}

/// A passage at the end of the text.
fn passage(written: &mut String, label: String, said: &str) -> Segment {
    let line = format!("{label}: {}", said.trim());
    let start = written.len();
    written.push_str(&line);
    written.push_str("\n\n");
    Segment {
        text: Some(said.trim().to_string()),
        in_question: Some([start, start + line.len()]),
        ..Segment::new(label)
    }
}
