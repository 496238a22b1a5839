//! A running stream: tokens of all samples as pieces of text.

use super::translate::{Call, Translator};
use super::{Inner, stopped};
use crate::{GenerateError, StreamEvent};
use elenchus_native::DecodeEvent;
use futures::StreamExt;
use futures::channel::mpsc::UnboundedReceiver;
use std::collections::VecDeque;
use std::sync::Arc;

/// A running stream.
pub(super) struct Speaking {
    inner: Arc<Inner>,
    call: Call,
    receiver: UnboundedReceiver<DecodeEvent>,
    samples: Vec<Spoken>,
    ready: VecDeque<Result<StreamEvent, GenerateError>>,
    over: bool,
}

/// What of a sample was reported.
#[derive(Default)]
struct Spoken {
    tokens: Vec<u32>,
    /// Tokens before this one are reported and their text no longer depends on what follows.
    from: usize,
    /// Tokens before this one are reported.
    to: usize,
    text: String,
    finished: bool,
}

impl Spoken {
    /// The new text of the first `settled` tokens. A token may be a part of a character and white space may depend on
    /// its neighbour, so the text is the difference of two decodings that begin at the same token.
    fn news(&mut self, translator: &Translator, settled: usize) -> Option<String> {
        let settled = settled.min(self.tokens.len());
        if settled <= self.to {
            return None;
        }
        let before = translator.text(&self.tokens[self.from..self.to]);
        let now = translator.text(&self.tokens[self.from..settled]);
        if now.ends_with('\u{fffd}') {
            return None;
        }
        let news = now.strip_prefix(before.as_str())?.to_string();
        self.from = self.to;
        self.to = settled;
        self.text.push_str(&news);
        (!news.is_empty()).then_some(news)
    }
}

impl Speaking {
    /// A stream of this many samples, none of which has said anything.
    pub fn new(
        inner: Arc<Inner>,
        call: Call,
        receiver: UnboundedReceiver<DecodeEvent>,
        samples: usize,
    ) -> Self {
        let samples = (0..samples).map(|_| Spoken::default()).collect();
        Speaking { inner, call, receiver, samples, ready: VecDeque::new(), over: false }
    }

    /// The next event; `None` behind the last one.
    pub async fn next(&mut self) -> Option<Result<StreamEvent, GenerateError>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.over {
                return None;
            }
            match self.receiver.next().await {
                None => {
                    self.over = true;
                    if self.samples.iter().any(|sample| !sample.finished) {
                        return Some(Err(stopped(&self.inner)));
                    }
                }
                Some(DecodeEvent::Token(token)) => {
                    let Some(spoken) = self.samples.get_mut(token.sample) else { continue };
                    spoken.tokens.push(token.token);
                    if let Some(text) = spoken.news(&self.inner.translator, token.settled_tokens) {
                        return Some(Ok(StreamEvent::Text { index: token.sample, text }));
                    }
                }
                Some(DecodeEvent::Finished { sample, decoded }) => {
                    let Some(spoken) = self.samples.get_mut(sample) else { continue };
                    spoken.finished = true;
                    let completion = self.inner.translator.completion(decoded, &self.call, sample);
                    if let Some(rest) = completion.text.strip_prefix(spoken.text.as_str())
                        && !rest.is_empty()
                    {
                        self.ready.push_back(Ok(StreamEvent::Text { index: sample, text: rest.into() }));
                    }
                    let completion = Box::new(completion);
                    self.ready.push_back(Ok(StreamEvent::Done { index: sample, completion }));
                }
            }
        }
    }
}
