//! Models on disk: Hugging Face model folders, scalar heads, adapters, optimiser state.

mod adapter;
mod hugging_face;
mod model;
mod optimiser;
mod tensors;

pub use model::{Checkpoint, Precision};
