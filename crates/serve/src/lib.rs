//! The gateway: a server that any OpenAI client can ask, that answers with a recipe, shows how the answer came about,
//! and keeps what people say of it.
//!
//! Knows: HTTP, server-sent events, keys, upstreams, the store of traces and feedback, the web page. Does not know: how
//! any recipe works; it reaches strategies only through the crate `recipe`.

mod answering;
mod archive;
mod ask;
mod body;
mod carry;
mod catalogue;
mod chat;
mod choose;
mod counted;
mod error;
mod exchange;
mod forward;
mod judged;
mod keys;
mod metrics;
pub mod openapi;
mod page;
mod pass;
mod patience;
mod plain;
mod reading;
mod records;
mod rerun;
mod responses;
mod roles;
mod routes;
mod runs;
mod server;
mod spending;
mod sse;
mod stage;
mod state;
mod tape;
mod telemetry;
mod upstream;

pub use catalogue::{EstimateReply, ListedRecipe};
pub use chat::{BudgetReport, ChoiceReport, Confidence, ConfidenceKind, Parent, Report};
pub use choose::{RecipeWish, Wish};
pub use error::{ApiError, ServeError};
pub use keys::{SCOPES, SECRET_PREFIX, Scope, hash_secret, new_secret};
pub use records::{FeedbackReply, FeedbackRequest, TotalsRow, TraceList, TraceReply};
pub use rerun::RerunRequest;
pub use routes::{ROUTES, Route};
pub use runs::{RunList, RunReply};
pub use server::{Gateway, Handle, Options, Reloaded};
pub use stage::StageView;
