//! Language models behind one trait, and the layers that every call goes through.
//!
//! Knows: how to ask a model (embedded, endpoint, recorded, scripted), budgets, retries, caches, prompts by skill and
//! voice. Does not know: what to do with the answers.

mod address;
mod budget;
mod cache;
mod cancel;
mod chat_template;
mod context;
mod fence;
mod journal;
mod latent;
mod limit;
mod live;
mod lost;
mod model;
mod native;
mod openai;
mod price;
mod prompt;
mod propagate;
mod replay;
mod retry;
mod run_journal;
mod scripted;
mod stack;
mod timeout;

pub use address::{Address, hide_users};
pub use budget::{BudgetLayer, Ledger, Permit};
pub use cache::{CacheKey, CacheLayer, CacheStore, MemoryCache, replay_stream};
pub use cancel::CancelToken;
pub use chat_template::ChatTemplate;
pub use context::{ACTOR, Context, ContextBuilder, TraceObserver};
pub use journal::{CallAnswer, CallRecord, JournalLayer, JournalSink, MemoryJournal, Operation};
pub use latent::{InnerToken, LatentRead, LatentReading, LatentRequest, LatentValues, Segment, Stretch};
pub use limit::{CALM, HostLimit, HostLimits, LimitLayer, LimitSettings, Place};
pub use live::LiveAnswer;
pub use lost::Lost;
pub use model::{
    CUT_BY_BUDGET, Capabilities, GenerateError, GenerateRequest, LanguageModel, LogprobDetail, Sampling,
    ScoreRequest, Scored, StreamEvent,
};
pub use native::{NativeModel, NativeOptions};
pub use openai::{
    MaxTokensField, OpenAi, OpenAiConfig, PrefixStyle, REPEATS_ITSELF, SampleStyle, ServerAbilities,
    SseError, SseEvent, SseParser, certificate_problem, certificates, error_status,
};
pub use price::PriceLayer;
pub use prompt::{JudgeLabels, PromptSlots, Prompts, SkillName, Voice, render};
pub use propagate::TraceContext;
pub use replay::Replay;
pub use retry::{RetryLayer, RetrySettings};
pub use run_journal::RunJournal;
pub use scripted::Scripted;
pub use stack::{LayerSettings, stack};
pub use timeout::{TimeoutLayer, Timeouts};
