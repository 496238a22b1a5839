//! The embedded transformer: a small, fixed, readable engine for Llama-style decoders.
//!
//! Knows: weights, forward, backward, optimisers, batched decoding, checkpoints in the Hugging Face directory
//! format. Does not know: prompts, tasks, HTTP, what a loss is for. Nothing outside this crate knows how it computes.

mod config;
mod decode;
mod layout;
mod model;

pub use config::{ConfigError, ModelConfig};
pub use decode::{
    DecodeCounters, DecodeError, DecodeEvent, DecodeFinish, DecodeHandle, DecodeRequest, DecodeService, Decoded, Decoder,
    DecoderOptions, Detail, ScoreRequest, Scored, TokenEvent, TokenTexts,
};
pub use layout::{Layout, Parameter};
pub use model::Model;
