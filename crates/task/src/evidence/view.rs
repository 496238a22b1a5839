//! A problem as a stream of segments: what a strategy that weighs evidence looks at.

use crate::TaskError;
use elenchus_trace::{Content, ContentPart, Message, Problem, Role};
use serde::{Deserialize, Serialize};

/// One piece of evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// What it is called in prompts: `Segment 3`, `Frame 3, 0:12`.
    pub label: String,
    /// Its text at full resolution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Which image of the problem's history it is, counted from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<usize>,
    /// Its compact text at full resolution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compact: Option<String>,
    /// Where its first view stands in the compact problem, bytes from and up to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_compact: Option<[usize; 2]>,
    /// Where its first view stands in the question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_question: Option<[usize; 2]>,
    /// Seconds from and up to in a video.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<[f64; 2]>,
    /// A line of subtitles and not a picture.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub subtitle: bool,
    /// Whether the question cannot be answered without it; known in generated streams alone, and no model is told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub needed: bool,
}

impl Segment {
    /// A segment of this name with nothing in it.
    pub fn new(label: impl Into<String>) -> Self {
        Segment {
            label: label.into(),
            text: None,
            image: None,
            compact: None,
            in_compact: None,
            in_question: None,
            seconds: None,
            subtitle: false,
            needed: false,
        }
    }
}

/// The segments of a problem, in order.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Stream {
    /// The segments.
    pub segments: Vec<Segment>,
}

impl Stream {
    /// The segments of a problem: those that its task names; else the images of its dialogue; else the paragraphs of its
    /// question in front of the last one.
    ///
    /// # Errors
    /// The problem has fewer than two such parts, or its `data` is broken.
    pub fn of(problem: &Problem) -> Result<Self, TaskError> {
        let wrong = |what: &str| TaskError::Problem {
            id: problem.id.clone(),
            problem: what.into(),
            hint:
                "give evidence in several parts: images, or passages with a blank line between them and the \
                   question last"
                    .into(),
        };
        let segments = match problem.data.get("segments") {
            Some(named) => serde_json::from_value(named.clone())
                .map_err(|error| wrong(&format!("has segments that cannot be read: {error}")))?,
            None => {
                let pictures = images(problem).count();
                if pictures > 0 { of_images(pictures) } else { of_paragraphs(&problem.question) }
            }
        };
        if segments.len() < 2 {
            return Err(wrong("has no segments of evidence to choose among"));
        }
        Ok(Stream { segments })
    }

    /// The key segments as a message: a label, then text or image at full resolution, for each.
    pub fn shown(&self, problem: &Problem, chosen: &[usize]) -> Vec<ContentPart> {
        let mut parts = Vec::new();
        for segment in chosen.iter().filter_map(|&place| self.segments.get(place)) {
            let text = match &segment.text {
                Some(text) => format!("{}: {text}", segment.label),
                None => format!("{}:", segment.label),
            };
            parts.push(ContentPart::text(text));
            if let Some(image) = segment.image.and_then(|place| images(problem).nth(place)) {
                let mut image = image.clone();
                if let ContentPart::Image { image_url, .. } = &mut image {
                    // The first view may have asked for the small one.
                    image_url.extra.insert("detail".into(), "high".into());
                }
                parts.push(image);
            }
        }
        parts
    }

    /// The key segments in the compact notation: `gHm7;cPq4`.
    pub fn compact(&self, chosen: &[usize]) -> String {
        let texts: Vec<&str> =
            chosen.iter().filter_map(|&place| self.segments.get(place)?.compact.as_deref()).collect();
        texts.join(";")
    }

    /// Indices of the segments that the question needs, where that is known.
    pub fn needed(&self) -> Vec<usize> {
        (0..self.segments.len()).filter(|&place| self.segments[place].needed).collect()
    }
}

/// The image parts of a problem's history, in order.
fn images(problem: &Problem) -> impl Iterator<Item = &ContentPart> {
    fn parts(message: &Message) -> &[ContentPart] {
        match &message.content {
            Some(Content::Parts(parts)) => parts,
            _ => &[],
        }
    }
    let from_user = problem.history.iter().filter(|message| message.role == Role::User);
    from_user.flat_map(parts).filter(|part| matches!(part, ContentPart::Image { .. }))
}

fn of_images(count: usize) -> Vec<Segment> {
    (0..count)
        .map(|place| Segment { image: Some(place), ..Segment::new(format!("Image {}", place + 1)) })
        .collect()
}

/// Paragraphs but the last one, which asks.
fn of_paragraphs(question: &str) -> Vec<Segment> {
    let mut segments = Vec::new();
    let (mut start, mut places) = (0, Vec::new());
    for part in question.split("\n\n") {
        places.push((start, part));
        start += part.len() + 2;
    }
    places.retain(|(_, part)| !part.trim().is_empty());
    places.pop();
    for (start, part) in places {
        segments.push(Segment {
            text: Some(part.trim().to_string()),
            in_question: Some([start, start + part.len()]),
            ..Segment::new(format!("Passage {}", segments.len() + 1))
        });
    }
    segments
}

/// The problem without one segment: blanked in the compact text, `[left out]` in the question, or without its image.
///
/// # Errors
/// There is no such segment, or it stands nowhere that it can be taken out of.
pub fn without(problem: &Problem, stream: &Stream, place: usize) -> Result<Problem, TaskError> {
    let wrong = |what: String| TaskError::Problem {
        id: problem.id.clone(),
        problem: what,
        hint: "the segments must be those of `Stream::of` of this problem".into(),
    };
    let segment = stream.segments.get(place).ok_or_else(|| wrong(format!("has no segment {}", place + 1)))?;
    let mut left = problem.clone();
    let mut changed = false;
    if let (Some([from, to]), Some(compact)) = (segment.in_compact, &mut left.compact)
        && let Some(shown) = compact.get(from..to)
    {
        let blank = "_".repeat(shown.chars().count());
        compact.replace_range(from..to, &blank);
        changed = true;
    }
    if let Some([from, to]) = segment.in_question
        && left.question.get(from..to).is_some()
    {
        left.question.replace_range(from..to, "[left out]");
        changed = true;
    }
    if let Some(image) = segment.image {
        let mut seen = 0;
        for message in left.history.iter_mut().filter(|message| message.role == Role::User) {
            let Some(Content::Parts(parts)) = &mut message.content else { continue };
            parts.retain(|part| {
                let is_image = matches!(part, ContentPart::Image { .. });
                let keep = !is_image || seen != image;
                seen += usize::from(is_image);
                changed |= !keep;
                keep
            });
        }
    }
    if changed { Ok(left) } else { Err(wrong(format!("shows segment {} nowhere", place + 1))) }
}
