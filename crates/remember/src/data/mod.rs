//! Data sets in and out. One file per format.

pub mod jsonl;
pub use jsonl::{BadLine, JsonlOptions, JsonlRows, read_jsonl, write_jsonl};
