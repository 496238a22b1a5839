//! Batched decoding: sampling, scoring and label probabilities with a paged key/value cache.
//!
//! Knows: weights packed for its own products, which sequences run, how tokens are drawn. Does not know: gradients,
//! text beyond the bytes of a token, what the tokens mean.
//!
//! Every number is a function of the tokens before it and the weights alone: each element of a product is one chain of
//! fused multiply-adds over k in order, attention sums run over absolute positions, and random numbers depend on
//! (seed, sample, position). So results have the same bits in every batch, on every number of threads.

mod attention;
mod cache;
mod check;
mod forward;
mod kernel;
mod memory;
mod pace;
mod packed;
mod product;
mod request;
mod rows;
mod sampler;
mod scheduler;
mod score;
mod service;
mod simd;
mod stop;
#[cfg(test)]
mod tests;
mod tile;
mod vocabulary;
mod workers;

use crate::Model;
use kernel::Kernels;
use packed::PackedModel;
pub use request::{
    DecodeCounters, DecodeError, DecodeFinish, DecodeRequest, Decoded, DecoderOptions, Detail, ScoreRequest,
    Scored, TokenEvent, TokenTexts,
};
use scheduler::{Report, Scheduler};
pub use service::{DecodeEvent, DecodeHandle, DecodeService};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Decodes batches on the calling thread and its workers.
///
/// Its packed copy of the weights takes as much memory as the model. Pages of keys and values are kept for the next
/// call.
pub struct Decoder {
    scheduler: Scheduler,
}

/// An engine for a model.
fn start(model: &Model, options: &DecoderOptions) -> Result<Scheduler, DecodeError> {
    let threads = match options.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let packed = Arc::new(PackedModel::new(model, Kernels::best()));
    Scheduler::new(packed, threads, options.max_batch_rows, options.token_texts.clone())
}

impl Decoder {
    /// Packs the weights and starts the worker threads.
    ///
    /// # Errors
    /// [`DecodeError::Thread`] when a thread cannot be started.
    pub fn new(model: &Model, options: DecoderOptions) -> Result<Self, DecodeError> {
        Ok(Decoder { scheduler: start(model, &options)? })
    }

    /// Replaces the weights by those of a model of the same shape.
    ///
    /// # Errors
    /// [`DecodeError::OtherShape`].
    pub fn swap(&mut self, model: &Model) -> Result<(), DecodeError> {
        if *model.config() != self.scheduler.model.config {
            return Err(DecodeError::OtherShape);
        }
        self.scheduler.swap(Arc::new(PackedModel::new(model, self.scheduler.model.kernels)));
        Ok(())
    }

    /// All samples of all requests: one vector per request, in order of the samples.
    ///
    /// # Errors
    /// The first request that cannot be served; nothing is computed then.
    pub fn decode(&mut self, requests: &[DecodeRequest]) -> Result<Vec<Vec<Decoded>>, DecodeError> {
        self.decode_with(requests, &mut |_| ControlFlow::Continue(()))
    }

    /// As [`Decoder::decode`], calling back with every token; `Break` ends that sample as `Cancelled`.
    ///
    /// # Errors
    /// As [`Decoder::decode`].
    pub fn decode_with(
        &mut self,
        requests: &[DecodeRequest],
        on_token: &mut dyn FnMut(TokenEvent) -> ControlFlow<()>,
    ) -> Result<Vec<Vec<Decoded>>, DecodeError> {
        for (index, request) in requests.iter().enumerate() {
            check::decode(&self.scheduler.model.config, self.scheduler.texts(), index, request)?;
        }
        self.scheduler.reset();
        let mut results: Vec<Vec<Option<Decoded>>> =
            requests.iter().map(|request| vec![None; request.samples]).collect();
        // Those that may become longest first: at the end, when nothing waits any more, few places stay empty for long.
        let mut order: Vec<usize> = (0..requests.len()).collect();
        order.sort_by_key(|&index| std::cmp::Reverse(requests[index].max_new_tokens));
        for index in order {
            self.scheduler.submit(index, requests[index].clone());
        }
        while !self.scheduler.idle() {
            self.scheduler.step(&mut |report| match report {
                Report::Token(event) => on_token(event),
                Report::Finished { request, sample, decoded } => {
                    results[request][sample] = Some(decoded);
                    ControlFlow::Continue(())
                }
                Report::Done { .. } => ControlFlow::Continue(()),
            });
        }
        // Every sample has ended, so every place is filled.
        Ok(results.into_iter().map(|samples| samples.into_iter().flatten().collect()).collect())
    }

    /// The log-probabilities of given continuations: one vector per request, in order of the continuations. Each prefix
    /// is computed once. [`Detail::None`] is read as [`Detail::Chosen`].
    ///
    /// # Errors
    /// The first request that cannot be served; nothing is computed then.
    pub fn score(&mut self, requests: &[ScoreRequest]) -> Result<Vec<Vec<Scored>>, DecodeError> {
        for (index, request) in requests.iter().enumerate() {
            check::score(&self.scheduler.model.config, index, request)?;
        }
        Ok(self.scheduler.score(requests))
    }

    /// log p of each label as the next token of each prompt: `[prompts][labels]`, nats.
    ///
    /// # Errors
    /// The first prompt that cannot be served (`request` is its index), or a label outside the vocabulary.
    pub fn label_logprobs(
        &mut self,
        prompts: &[Vec<u32>],
        labels: &[u32],
    ) -> Result<Vec<Vec<f32>>, DecodeError> {
        check::labels(&self.scheduler.model.config, prompts, labels)?;
        Ok(self.scheduler.label_logprobs(prompts, labels))
    }

    /// The instructions in use: `avx512`, `avx2+fma` or `portable`.
    pub fn instructions(&self) -> &'static str {
        self.scheduler.model.kernels.name
    }

    /// What was computed so far.
    pub fn counters(&self) -> DecodeCounters {
        self.scheduler.counters
    }
}
