//! The data that flows through elenchus.
//!
//! Knows: what a problem, a message, a completion, feedback, a budget and a trace are, and how they are
//! written as JSON. Does not know: models, files, networks, or how anything is computed.

mod answer;
mod budget;
mod canonical;
mod completion;
mod feedback;
mod message;
mod nearest;
mod problem;
mod records;
mod tree;

pub use answer::{Answer, Votes};
pub use budget::{Budget, Price, Usage};
pub use canonical::{calls_text, canonical_json, is_calls_text};
pub use completion::{Completion, FinishReason, TokenDistribution, TopToken};
pub use feedback::{Feedback, Outcome, Step, StepVerdict, Verdict};
pub use message::{Content, ContentPart, FunctionCall, ImageUrl, Message, Role, ToolCall};
pub use nearest::nearest;
pub use problem::{ChoiceOption, Problem};
pub use records::{JudgementRow, PairRow, Sample, SampleRow};
pub use tree::{Node, NodeId, NodeKind, TRACE_VERSION, Trace, TraceError};
