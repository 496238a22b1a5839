//! Language models behind one trait, and the layers that every call goes through.
//!
//! Knows: how to ask a model (embedded, endpoint, recorded, scripted), budgets, retries, caches, prompts by skill and
//! voice. Does not know: what to do with the answers.

mod budget;
mod cache;
mod cancel;
mod context;
mod journal;
mod model;
mod price;
mod prompt;
mod scripted;

pub use budget::{BudgetLayer, Ledger, Permit};
pub use cache::{CacheKey, CacheLayer, CacheStore, FileCache, MemoryCache};
pub use cancel::CancelToken;
pub use context::{ACTOR, Context, ContextBuilder};
pub use journal::{CallRecord, JournalLayer, JournalSink, MemoryJournal, Operation};
pub use model::{
    Capabilities, GenerateError, GenerateRequest, LanguageModel, LogprobDetail, Sampling, ScoreRequest,
    Scored, StreamEvent,
};
pub use price::PriceLayer;
pub use prompt::{JudgeLabels, PromptSlots, Prompts, SkillName, Voice, render};
pub use scripted::Scripted;
