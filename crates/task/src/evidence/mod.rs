//! A long stream of evidence and a lettered question that needs one to three pieces of it (arXiv 2506.07971, sheet 47).
//!
//! The generated form stands for a video: 32 to 64 segments, each one fact of an entity, an attribute and a time, most of
//! them irrelevant. In the first view a share of the four tokens of each segment is blanked; a segment can be shown again
//! at full resolution. Which segments a question needs is known. From a file come questions about images, frames of a
//! video or passages of text (`docs/formats.md`), for vision endpoints; their segments are those parts.
//!
//! In the compact notation: `gHm+cPq:3A7B1C9D;gHm7;cP_4;_Wn_?`: the question (height of `g` at time `m` plus price of `c`
//! at `q`), the options with each letter behind its value, then the stream with `_` for what is blanked. The answer
//! restates each fact and keeps the running result: `gHm7+cPq4=1#C`.

mod media;
mod rows;
mod stream;
mod view;

pub use stream::{ATTRIBUTES, ENTITIES, Fact, Operation, Query, TIMES};
pub use view::{Segment, Stream, without};

use crate::choice::{FileSplit, extract_label};
use crate::{Split, Task, TaskError, split_of};
use elenchus_trace::{ChoiceOption, Outcome, Problem, Step, StepVerdict, Verdict};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::Path;

/// Name of the task, in every problem.
pub const TASK: &str = "evidence";

/// One line for lists and help.
pub const SUMMARY: &str = "a long stream of evidence, partly unreadable at first, and a lettered question about one to three pieces of it";

/// Settings of the evidence task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EvidenceSettings {
    /// Segments of a generated stream.
    pub segments: usize,
    /// Least and greatest share of tokens that the first view blanks; drawn anew for each problem.
    pub blanked: [f64; 2],
    /// Fewest and most segments that a question needs, up to 3.
    pub needed: [usize; 2],
    /// Share of the other segments that differ from a needed fact in one of entity, attribute and time alone.
    pub near: f64,
    /// JSONL file of questions about images, a video or passages; absent, problems are generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// To which split the rows of the file belong.
    pub split: FileSplit,
    /// Pass over lines of the file that are no rows. A file that a good row names must be there all the same.
    pub skip_bad_lines: bool,
    /// Frames that are cut from a video, evenly.
    pub frames: usize,
    /// Width of a frame in pixels; the height follows.
    pub frame_width: usize,
    /// Resolution of images in the first view; a segment that is shown again is shown at `high`.
    pub detail: Detail,
}

/// The resolution that is asked of an endpoint for an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Detail {
    /// A small version, the same number of tokens for any image.
    #[default]
    Low,
    /// As large as the model reads.
    High,
    /// What the endpoint chooses.
    Auto,
}

impl Detail {
    /// The word in the request.
    pub fn name(self) -> &'static str {
        match self {
            Detail::Low => "low",
            Detail::High => "high",
            Detail::Auto => "auto",
        }
    }
}

impl Default for EvidenceSettings {
    fn default() -> Self {
        EvidenceSettings {
            segments: 32,
            blanked: [0.3, 0.5],
            needed: [1, 3],
            near: 0.3,
            path: None,
            split: FileSplit::Test,
            skip_bad_lines: false,
            frames: 32,
            frame_width: 512,
            detail: Detail::Low,
        }
    }
}

impl EvidenceSettings {
    /// Reads settings; absent fields have their defaults.
    ///
    /// # Errors
    /// The field that is unknown, has the wrong type, or is out of range.
    pub fn from_value(value: &Value) -> Result<Self, TaskError> {
        // An absent path is null in the base, so that the field is known.
        let mut value = value.clone();
        let path = value.as_object_mut().and_then(|fields| fields.remove("path")).unwrap_or_default();
        let mut settings: Self = crate::settings::overlay(&EvidenceSettings::default(), &value)?;
        settings.path = match path {
            Value::Null => None,
            Value::String(path) => Some(path),
            other => {
                return Err(TaskError::Setting {
                    field: "path".into(),
                    problem: format!("cannot be `{other}`"),
                    hint: "name a JSONL file".into(),
                });
            }
        };
        settings.check()?;
        Ok(settings)
    }

    /// Whether all settings are in range.
    ///
    /// # Errors
    /// The first one that is not.
    pub fn check(&self) -> Result<(), TaskError> {
        let wrong = |field: &str, problem: String, hint: &str| {
            Err(TaskError::Setting { field: field.into(), problem, hint: hint.into() })
        };
        let [fewest, most] = self.needed;
        if fewest == 0 || fewest > most || most > 3 {
            return wrong("needed", format!("is {:?}", self.needed), "use a range within 1 to 3");
        }
        if !(4..=128).contains(&self.segments) {
            return wrong("segments", format!("is {}", self.segments), "use 4 to 128; 32 to 64 are usual");
        }
        let [least, greatest] = self.blanked;
        if !(0.0..=1.0).contains(&least) || !(least..=1.0).contains(&greatest) {
            return wrong(
                "blanked",
                format!("is {:?}", self.blanked),
                "use two shares, the smaller one first",
            );
        }
        if !(0.0..=1.0).contains(&self.near) {
            return wrong("near", format!("is {}", self.near), "use a share of 0 to 1");
        }
        if !(1..=512).contains(&self.frames) {
            return wrong("frames", format!("is {}", self.frames), "use 1 to 512; 32 or 64 are usual");
        }
        if !(16..=4096).contains(&self.frame_width) {
            return wrong("frame_width", format!("is {}", self.frame_width), "use 16 to 4096 pixels");
        }
        Ok(())
    }
}

/// The evidence task.
#[derive(Debug, Clone)]
pub struct Evidence {
    settings: EvidenceSettings,
    /// Problems of the file, with the question alone that decides their split.
    rows: Vec<(String, Problem)>,
    /// Numbers of the broken lines of the file that were left out, from 1.
    skipped: Vec<usize>,
}

impl Evidence {
    /// The task with these settings. A file is read whole and frames are cut here, so that a missing file or program
    /// is said before any model is asked.
    ///
    /// # Errors
    /// A setting out of range; a file that cannot be read; a missing `ffmpeg`.
    pub fn open(settings: EvidenceSettings) -> Result<Self, TaskError> {
        settings.check()?;
        let (rows, skipped) = match &settings.path {
            Some(path) => {
                let text = crate::file::read_text(Path::new(path))?;
                let read = rows::read(&text, Path::new(path), &settings)?;
                (read.problems, read.skipped)
            }
            None => (Vec::new(), Vec::new()),
        };
        Ok(Evidence { settings, rows, skipped })
    }

    /// Numbers of the broken lines of the file that were left out, from 1.
    pub fn skipped(&self) -> &[usize] {
        &self.skipped
    }

    /// All problems of the file in its order; none where problems are generated.
    pub fn rows(&self) -> Vec<Problem> {
        self.rows.iter().map(|(_, problem)| problem.clone()).collect()
    }

    fn drawn_from_file(
        &self,
        path: &str,
        split: Split,
        count: usize,
        random: &mut ChaCha8Rng,
    ) -> Result<Vec<Problem>, TaskError> {
        let mut fitting: Vec<&Problem> = self
            .rows
            .iter()
            .filter(|(question, _)| self.settings.split.holds(split, question))
            .map(|(_, problem)| problem)
            .collect();
        if fitting.len() < count {
            return Err(TaskError::File {
                path: path.to_string(),
                problem: format!("has {} rows in this split, {count} are wanted", fitting.len()),
                hint: "ask for fewer problems, or set `split` (`test`, `train`, `hash`)".to_string(),
            });
        }
        fitting.shuffle(random);
        Ok(fitting.into_iter().take(count).cloned().collect())
    }
}

impl Task for Evidence {
    fn name(&self) -> &'static str {
        TASK
    }

    fn summary(&self) -> &'static str {
        SUMMARY
    }

    fn problems(&self, split: Split, count: usize, seed: u64) -> Result<Vec<Problem>, TaskError> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(1 + split as u64);
        if let Some(path) = &self.settings.path {
            return self.drawn_from_file(path, split, count, &mut random);
        }
        let (mut found, mut seen) = (Vec::with_capacity(count), HashSet::new());
        while found.len() < count {
            let query = stream::draw(&self.settings, &mut random);
            // By the content at full resolution: the same stream with other blanks is the same problem.
            let content = query.content();
            if split_of(content.as_bytes()) == split && seen.insert(content) {
                found.push(query.problem()?);
            }
        }
        Ok(found)
    }

    fn extract(&self, problem: &Problem, response: &str) -> Option<String> {
        if problem.options.is_empty() {
            // An open question: what stands behind the last announcement, or the last line.
            let last = response.lines().rev().find(|line| !line.trim().is_empty())?;
            let said = last.rsplit_once(':').map_or(last, |(_, said)| said);
            return Some(said.trim().trim_matches(['*', '`', '.']).trim().to_string())
                .filter(|said| !said.is_empty());
        }
        extract_label(&problem.options, response)
    }

    fn equivalent(&self, _: &Problem, left: &str, right: &str) -> bool {
        left.trim().eq_ignore_ascii_case(right.trim())
    }

    fn verify(&self, problem: &Problem, response: &str) -> Result<Verdict, TaskError> {
        let gold = problem.gold.as_deref().ok_or_else(|| TaskError::Problem {
            id: problem.id.clone(),
            problem: "has no reference answer".into(),
            hint: "give the row an `answer`".into(),
        })?;
        let answer = self.extract(problem, response);
        let (outcome, reason) = match &answer {
            None => (Outcome::NoAnswer, Some("the response names no single option".to_string())),
            Some(answer) if self.equivalent(problem, answer, gold) => (Outcome::Correct, None),
            Some(answer) => (Outcome::Wrong, Some(format!("chose {answer}, the answer is {gold}"))),
        };
        let steps = match Query::of(problem) {
            Ok(query) => self.judge_steps(problem, response, &query),
            Err(_) => Vec::new(),
        };
        Ok(Verdict { outcome, answer, steps, reason })
    }

    fn steps_right(&self, problem: &Problem, verdict: &Verdict) -> bool {
        let needed = Query::of(problem).map_or(0, |query| query.needed.len());
        verdict.first_wrong_step().is_none() && (verdict.steps.is_empty() || verdict.steps.len() == needed)
    }

    fn reference(&self, problem: &Problem) -> Option<String> {
        Query::of(problem).ok()?.reference(problem)
    }

    /// The facts of a compact chain: `gHm7`, `+cPq4=1`. Any other response is one step.
    fn steps(&self, _: &Problem, response: &str) -> Vec<Step> {
        let chain = response.split('#').next().unwrap_or_default();
        let mut starts: Vec<usize> = chain.match_indices(['+', '-', '>']).map(|(at, _)| at).collect();
        if starts.first() != Some(&0) {
            starts.insert(0, 0);
        }
        let ends = starts.iter().skip(1).copied().chain([chain.len()]);
        let cut = starts.iter().zip(ends).map(|(&start, end)| Step {
            text: response[start..end].to_string(),
            start,
            end,
        });
        cut.filter(|step| !step.text.is_empty()).collect()
    }
}

impl Evidence {
    /// Each fact with its value and running result, where the response is a compact chain.
    fn judge_steps(&self, problem: &Problem, response: &str, query: &Query) -> Vec<StepVerdict> {
        let expected = query.chain();
        // A chain begins with a fact of four signs; anything else has no steps that can be checked.
        let is_chain = response.split('#').next().is_some_and(|chain| {
            let mut signs = chain.chars();
            chain.len() >= 4
                && signs.next().is_some_and(|sign| ENTITIES.contains(sign))
                && signs.next().is_some_and(|sign| ATTRIBUTES.iter().any(|(letter, _)| *letter == sign))
        });
        if !is_chain {
            return Vec::new();
        }
        let steps = self.steps(problem, response);
        let judged = steps.into_iter().enumerate().map(|(place, step)| {
            let wanted = expected.get(place).cloned();
            StepVerdict { correct: wanted.as_deref() == Some(step.text.as_str()), expected: wanted, step }
        });
        judged.collect()
    }
}

/// `A`, `B`, … with these texts.
fn lettered(texts: impl IntoIterator<Item = String>) -> Vec<ChoiceOption> {
    texts
        .into_iter()
        .zip('A'..='Z')
        .map(|(text, label)| ChoiceOption { label: label.to_string(), text })
        .collect()
}

/// A problem's `data`.
fn data(view: &Stream, query: Option<&Query>) -> Value {
    let mut data = json!({ "segments": view.segments });
    if let Some(query) = query {
        data["query"] = json!(query);
    }
    data
}

#[cfg(test)]
mod tests;
