//! What a gateway keeps: the traces of its answers, what people say of them, and the keys it gave out.
//!
//! [`ServiceStore`] is the border; [`SqliteStore`] is the store of one machine, [`PostgresStore`] that of several. Both
//! pass the same tests.

mod export;
mod place;
mod postgres;
mod sqlite;

pub use export::{Exchange, ExportFormat, Judged, WRITTEN_PARTS, export_rows};
pub use place::StorePlace;
pub use postgres::PostgresStore;
pub use sqlite::SqliteStore;

use crate::error::Result;
use elenchus_trace::Usage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TraceStatus {
    /// Answered.
    Answered,
    /// The recipe says why it gives no answer.
    Abstained,
    /// It failed; the answer column holds the error.
    Failed,
    /// The client went away, or the gateway was stopped.
    Cancelled,
}

impl TraceStatus {
    /// The word in the database and in queries.
    pub fn name(self) -> &'static str {
        match self {
            TraceStatus::Answered => "answered",
            TraceStatus::Abstained => "abstained",
            TraceStatus::Failed => "failed",
            TraceStatus::Cancelled => "cancelled",
        }
    }

    /// The status with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Answered, Self::Abstained, Self::Failed, Self::Cancelled]
            .into_iter()
            .find(|s| s.name() == name)
    }
}

/// What lists show of a trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TraceSummary {
    /// Identifier.
    pub id: String,
    /// When it began, milliseconds after 1970-01-01 UTC.
    pub created_ms: u64,
    /// The recipe; `plain` for a request that was passed on.
    pub recipe: String,
    /// The model that was asked.
    pub model: String,
    /// Name of the caller's key; empty without one.
    pub key: String,
    /// The question: text of the last user message, cut.
    pub question: String,
    /// The answer, cut; the error of a failed request.
    pub answer: String,
    /// Confidence, where the recipe has a ground for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// How it ended.
    pub status: TraceStatus,
    /// Milliseconds from the request to its end.
    pub elapsed_ms: f64,
    /// What it cost.
    pub usage: Usage,
}

/// A trace as lists show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ListedTrace {
    /// The trace.
    #[serde(flatten)]
    pub summary: TraceSummary,
    /// The last reaction to the whole of it, whoever it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reaction: Option<Reaction>,
}

/// A trace with all that was said.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceEntry {
    /// What lists show. `answer` is whole here when it is written; the store cuts it for lists.
    pub summary: TraceSummary,
    /// The request as it came, JSON.
    pub request: Vec<u8>,
    /// The response as it went out (JSON or server-sent events) of a request that was passed on.
    pub response: Option<Vec<u8>>,
    /// The trace of a recipe, JSON of [`elenchus_trace::Trace`].
    pub trace: Option<String>,
}

/// A quick judgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reaction {
    /// Better than good.
    Love,
    /// Good.
    Up,
    /// Bad.
    Down,
}

impl Reaction {
    /// The word in the database.
    pub fn name(self) -> &'static str {
        match self {
            Reaction::Love => "love",
            Reaction::Up => "up",
            Reaction::Down => "down",
        }
    }

    /// The reaction with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Love, Self::Up, Self::Down].into_iter().find(|reaction| reaction.name() == name)
    }

    /// Whether it speaks for the answer.
    pub fn is_good(self) -> bool {
        self != Reaction::Down
    }
}

/// What part of a stage an edit concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StagePart {
    /// A question that the strategy asked on the way.
    SubQuestion,
    /// A fact that it relied on.
    Evidence,
    /// A step of a solution.
    Step,
    /// What a critic said.
    Critique,
    /// A whole response.
    Answer,
}

/// A stage rewritten or rejected by a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StageEdit {
    /// What is edited.
    pub part: StagePart,
    /// What it should be; absent when the stage is only rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Number of the step, from 0, for `part = "step"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u32>,
}

/// One thing that a person said of a trace or of one of its stages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FeedbackEntry {
    /// Identifier; the same identifier with the same content is stored once.
    pub id: String,
    /// The trace.
    pub trace_id: String,
    /// The node of the trace; absent for the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<u32>,
    /// Love, up or down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reaction: Option<Reaction>,
    /// What the score measures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// A number; the scale belongs to the metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The answer as it should have been.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correction: Option<String>,
    /// A stage rewritten or rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edit: Option<StageEdit>,
    /// Name of the key of who said it; empty without one.
    #[serde(default)]
    pub key: String,
    /// When, milliseconds after 1970-01-01 UTC.
    #[serde(default)]
    pub created_ms: u64,
}

impl FeedbackEntry {
    /// Hash of everything but identifier and time: what is said.
    pub fn content_hash(&self) -> String {
        let said = FeedbackEntry { id: String::new(), created_ms: 0, ..self.clone() };
        // A struct of strings and numbers always serializes.
        let bytes = serde_json::to_vec(&said).unwrap_or_default();
        blake3::hash(&bytes).to_hex()[..32].to_string()
    }
}

/// A key of an application or a person. The secret itself is never stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KeyEntry {
    /// Its name, unique.
    pub name: String,
    /// BLAKE3 of the secret, hexadecimal.
    pub hash: String,
    /// What it may do: `ask`, `feedback`, `read`, `export`.
    pub scopes: Vec<String>,
    /// Tokens that it may spend in a window; absent, no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Money that it may spend in a window; absent, no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub money: Option<f64>,
    /// Length of the window in seconds.
    pub window_seconds: u64,
    /// When it was made, milliseconds after 1970-01-01 UTC.
    pub created_ms: u64,
}

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// A trace; the same identifier replaces it.
    Trace(Box<TraceEntry>),
    /// Feedback.
    Feedback(Box<FeedbackEntry>),
    /// A new key.
    Key(KeyEntry),
    /// The end of a key, by name.
    RevokeKey(String),
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Stored.
    Stored,
    /// It was there already, with the same content.
    Known,
    /// Something else bears that identifier.
    Conflict,
    /// It refers to something that is not there.
    Missing,
}

/// Which traces a list shows. All conditions hold together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TraceFilter {
    /// Only those of a recipe.
    pub recipe: Option<String>,
    /// Only those of a model.
    pub model: Option<String>,
    /// Only those that ended so.
    pub status: Option<TraceStatus>,
    /// Only those with (or, `none`, without) a reaction of this name: `love`, `up`, `down`, `any`, `none`.
    pub reaction: Option<String>,
    /// Only those whose question or answer contains this.
    pub text: Option<String>,
    /// Only those of a key.
    pub key: Option<String>,
    /// Only those before this one, in the order of the list: for the next page.
    pub before: Option<(u64, String)>,
    /// At most so many.
    pub limit: usize,
}

/// What people said of the answers of a recipe; of several reactions of one person to one trace the last counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecipeTotals {
    /// The recipe.
    pub recipe: String,
    /// Its traces, however they ended.
    pub traces: u64,
    /// Those with an answer.
    pub answered: u64,
    /// Those whose recipe said why there is no answer.
    pub abstained: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those whose client went away.
    pub cancelled: u64,
    /// Reactions `love` to whole traces.
    pub love: u64,
    /// Reactions `up` to whole traces.
    pub up: u64,
    /// Reactions `down` to whole traces.
    pub down: u64,
    /// Corrected answers and edited stages.
    pub corrections: u64,
    /// What its traces cost.
    pub usage: Usage,
}

/// A trace with what was said of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Labelled {
    /// The trace.
    pub trace: TraceEntry,
    /// What was said, oldest first; never empty.
    pub feedback: Vec<FeedbackEntry>,
}

/// The store of a gateway. Calls block; several threads may call at once.
pub trait ServiceStore: Send + Sync {
    /// Makes all changes, or none when it fails. What it returned for survives the end of the process.
    ///
    /// # Errors
    /// The store cannot be written.
    fn write(&self, writes: &[Write]) -> Result<Vec<Written>>;

    /// A trace.
    ///
    /// # Errors
    /// The store cannot be read.
    fn trace(&self, id: &str) -> Result<Option<TraceEntry>>;

    /// Traces, newest first.
    ///
    /// # Errors
    /// The store cannot be read.
    fn traces(&self, filter: &TraceFilter) -> Result<Vec<ListedTrace>>;

    /// What was said of a trace, oldest first.
    ///
    /// # Errors
    /// The store cannot be read.
    fn feedback(&self, trace_id: &str) -> Result<Vec<FeedbackEntry>>;

    /// Traces with feedback, in the order of their identifiers, those behind `after`.
    ///
    /// # Errors
    /// The store cannot be read.
    fn labelled(&self, after: &str, limit: usize) -> Result<Vec<Labelled>>;

    /// Totals by recipe, in the order of their names.
    ///
    /// # Errors
    /// The store cannot be read.
    fn totals(&self) -> Result<Vec<RecipeTotals>>;

    /// The keys, in the order of their names.
    ///
    /// # Errors
    /// The store cannot be read.
    fn keys(&self) -> Result<Vec<KeyEntry>>;

    /// What a key has spent since a time (milliseconds after 1970-01-01 UTC).
    ///
    /// # Errors
    /// The store cannot be read.
    fn spent(&self, key: &str, since_ms: u64) -> Result<Usage>;
}

/// Characters of a question that are kept beside the whole request, and of an answer that lists show.
const LIST_CHARACTERS: usize = 400;

/// A count as a database's integer; one beyond those is the largest that there is.
pub(crate) fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Cuts text for a list, at a character.
pub(crate) fn cut(text: &str, characters: usize) -> &str {
    match text.char_indices().nth(characters) {
        Some((at, _)) => &text[..at],
        None => text,
    }
}
