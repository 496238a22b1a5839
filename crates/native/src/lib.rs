//! The embedded transformer: a small, fixed, readable engine for Llama-style decoders.
//!
//! Knows: weights, forward, backward, optimisers, batched decoding, checkpoints in the Hugging Face directory
//! format. Does not know: prompts, tasks, HTTP, what a loss is for. Nothing outside this crate knows how it computes.

mod adamw;
mod adapter;
mod checkpoint;
mod config;
mod decode;
mod engine;
mod error;
mod files;
mod gradient;
mod kernels;
mod layout;
mod matrix;
mod model;
mod muon;
mod random;
mod scalar_head;
mod sequence;
mod taps;
mod tokenizer;
mod train;

pub use adamw::{AdamW, AdamWConfig, MatrixUpdate, StepReport};
pub use adapter::{Linear, LoraAdapter, LoraConfig};
pub use checkpoint::{Checkpoint, Precision};
pub use config::{ConfigError, ModelConfig};
pub use decode::{
    DecodeCounters, DecodeError, DecodeEvent, DecodeFinish, DecodeHandle, DecodeRequest, DecodeService,
    Decoded, Decoder, DecoderOptions, Detail, ScoreRequest, Scored, TokenEvent, TokenTexts,
};
pub use engine::{Engine, Objective};
pub use error::NativeError;
pub use gradient::{Gradient, Trainable};
pub use layout::{Layout, Parameter};
pub use model::Model;
pub use scalar_head::ScalarHead;
pub use sequence::{ForwardOptions, Sequence, SequenceGradient, SequenceOutput};
pub use taps::{HeadMask, Taps};
pub use tokenizer::{EOS_TOKEN, PAD_TOKEN, Tokenizer, UNKNOWN_TOKEN};
