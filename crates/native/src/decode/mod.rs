//! Batched decoding: sampling, scoring and label probabilities with a paged key/value cache.
//!
//! Knows: weights packed for its own products, which sequences run, how tokens are drawn. Does not know: gradients,
//! text beyond the bytes of a token, what the tokens mean.
//!
//! Every number is a function of the tokens before it and the weights alone: each element of a product is one chain of
//! fused multiply-adds over k in order, attention sums run over absolute positions, and random numbers depend on
//! (seed, sample, position). So results have the same bits in every batch, on every number of threads.

mod request;

use crate::Model;
pub use request::{
    DecodeCounters, DecodeError, DecodeFinish, DecodeRequest, Decoded, DecoderOptions, Detail, ScoreRequest, Scored,
    TokenEvent, TokenTexts,
};
use std::ops::ControlFlow;

/// Decodes batches on this thread and its workers.
pub struct Decoder {}

impl Decoder {
    /// Packs the weights and starts the worker threads.
    pub fn new(model: &Model, options: DecoderOptions) -> Result<Self, DecodeError> {
        let _ = (model, options);
        Err(DecodeError::Stopped)
    }

    /// Replaces the weights by those of a model of the same shape.
    pub fn swap(&mut self, model: &Model) -> Result<(), DecodeError> {
        let _ = model;
        Err(DecodeError::Stopped)
    }

    /// All samples of all requests: one vector per request, in order of the samples.
    pub fn decode(&mut self, requests: &[DecodeRequest]) -> Result<Vec<Vec<Decoded>>, DecodeError> {
        self.decode_with(requests, &mut |_| ControlFlow::Continue(()))
    }

    /// As [`Decoder::decode`], calling back with every token; `Break` ends that sample as `Cancelled`.
    pub fn decode_with(
        &mut self,
        requests: &[DecodeRequest],
        on_token: &mut dyn FnMut(TokenEvent) -> ControlFlow<()>,
    ) -> Result<Vec<Vec<Decoded>>, DecodeError> {
        let _ = (requests, on_token);
        Err(DecodeError::Stopped)
    }

    /// The log-probabilities of given continuations: one vector per request, in order of the continuations.
    pub fn score(&mut self, requests: &[ScoreRequest]) -> Result<Vec<Vec<Scored>>, DecodeError> {
        let _ = requests;
        Err(DecodeError::Stopped)
    }

    /// log p of each label as the next token of each prompt: `[prompts][labels]`, nats.
    pub fn label_logprobs(&mut self, prompts: &[Vec<u32>], labels: &[u32]) -> Result<Vec<Vec<f32>>, DecodeError> {
        let _ = (prompts, labels);
        Err(DecodeError::Stopped)
    }

    /// What was computed so far.
    pub fn counters(&self) -> DecodeCounters {
        DecodeCounters::default()
    }
}

/// What a running request of a [`DecodeService`] reports.
#[derive(Debug, Clone, PartialEq)]
pub enum DecodeEvent {
    /// A sample has one token more.
    Token(TokenEvent),
    /// A sample has ended.
    Finished {
        /// Index of the sample within the request.
        sample: usize,
        /// The whole of it.
        decoded: Decoded,
    },
}

/// A thread that serves concurrent callers with one model by continuous batching: new requests enter while others run.
///
/// Cheap to clone; the thread ends with the last clone.
#[derive(Clone)]
pub struct DecodeService {}

impl DecodeService {
    /// Packs the weights and starts the thread.
    pub fn new(model: &Model, options: DecoderOptions) -> Result<Self, DecodeError> {
        let _ = (model, options);
        Err(DecodeError::Stopped)
    }

    /// Starts a request; its events come through the handle, and dropping the handle cancels it.
    pub fn submit(&self, request: DecodeRequest) -> Result<DecodeHandle, DecodeError> {
        let _ = request;
        Err(DecodeError::Stopped)
    }

    /// Starts a request whose events go to `sink` on the service's thread, so it must be quick (send into a channel);
    /// `Break` cancels the request. The sink is dropped when nothing more will come.
    pub fn submit_with(
        &self,
        request: DecodeRequest,
        sink: impl FnMut(DecodeEvent) -> ControlFlow<()> + Send + 'static,
    ) -> Result<(), DecodeError> {
        let _ = (request, sink);
        Err(DecodeError::Stopped)
    }

    /// As [`Decoder::score`]; blocks until done.
    pub fn score(&self, requests: Vec<ScoreRequest>) -> Result<Vec<Vec<Scored>>, DecodeError> {
        let _ = requests;
        Err(DecodeError::Stopped)
    }

    /// As [`Decoder::label_logprobs`]; blocks until done.
    pub fn label_logprobs(&self, prompts: Vec<Vec<u32>>, labels: Vec<u32>) -> Result<Vec<Vec<f32>>, DecodeError> {
        let _ = (prompts, labels);
        Err(DecodeError::Stopped)
    }

    /// Replaces the weights by those of a model of the same shape: requests submitted before run to their end with the
    /// old weights, those after begin with the new ones. Packs here and does not wait for the running requests.
    pub fn swap(&self, model: &Model) -> Result<(), DecodeError> {
        let _ = model;
        Err(DecodeError::Stopped)
    }
}

/// A running request. Dropping it cancels what is not finished.
pub struct DecodeHandle {}

impl DecodeHandle {
    /// The next event; blocks. `None` when the request is done or the service has stopped.
    pub fn next_event(&mut self) -> Option<DecodeEvent> {
        None
    }

    /// Waits for all samples.
    pub fn wait(self) -> Result<Vec<Decoded>, DecodeError> {
        Err(DecodeError::Stopped)
    }

    /// Asks the samples to end; each still reports what it has, as `Cancelled`.
    pub fn cancel(&self) {}
}
