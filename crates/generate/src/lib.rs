//! Language models behind one trait, and the layers that every call goes through.
//!
//! Knows: how to ask a model (embedded, endpoint, recorded, scripted), budgets, retries, caches, prompts by skill and
//! voice. Does not know: what to do with the answers.

mod model;

pub use model::{
    Capabilities, GenerateError, GenerateRequest, LanguageModel, LogprobDetail, Sampling, ScoreRequest, Scored,
    StreamEvent,
};
