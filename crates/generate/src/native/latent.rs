//! Looking inside the embedded model.

use super::translate::Translator;
use super::{decode_error, native_error};
use crate::latent::{InnerToken, LatentRead, LatentReading, LatentRequest, LatentValues, Segment, Stretch};
use crate::{GenerateError, scripted::shorten};
use elenchus_native::{Checkpoint, DecodeError, HeadMask, Model, Sequence};
use elenchus_trace::{Message, Usage};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Where the weights are that are looked into. The service's packed copy cannot be: its heads are not apart.
pub(super) enum Source {
    /// Read from the folder when somebody first looks: most models are never looked into.
    Folder(PathBuf),
    /// In memory.
    Held(Arc<Model>),
}

/// The weights in use.
pub(super) struct Weights {
    /// Hash of shape and numbers.
    pub hash: String,
    pub source: Source,
}

impl Weights {
    /// The weights, read now if need be.
    pub fn model(&mut self, name: &str) -> Result<Arc<Model>, GenerateError> {
        let folder = match &self.source {
            Source::Held(model) => return Ok(Arc::clone(model)),
            Source::Folder(folder) => folder,
        };
        let model = Checkpoint::load(folder).map_err(|error| native_error(name, &error))?.model;
        if super::weights_hash(&model) != self.hash {
            return Err(GenerateError::Request {
                model: name.into(),
                what: format!("the weights in `{}` were changed since they were loaded", folder.display()),
                hint: "load the model again".into(),
            });
        }
        let model = Arc::new(model);
        self.source = Source::Held(Arc::clone(&model));
        Ok(model)
    }
}

/// Tokens of prompt and continuation.
pub(super) struct Reading {
    prompt: Vec<(u32, (usize, usize))>,
    continuation: Vec<(u32, (usize, usize))>,
    /// Where each message stands in the prompt.
    messages: Vec<Option<Place>>,
}

fn refuse<T>(model: &str, what: String, hint: &str) -> Result<T, GenerateError> {
    Err(GenerateError::Request { model: model.into(), what, hint: hint.into() })
}

/// Where a message stands in the text made of all.
#[derive(Clone, Copy)]
struct Place {
    /// Where its first byte is, or would be had the template not dropped the white space in front.
    start: usize,
    /// Behind the last byte that is there.
    end: usize,
    /// Bytes of the message.
    length: usize,
}

/// The place of each message; `None` where a template changed its words.
fn places_of(messages: &[Message], rendered: &str) -> Vec<Option<Place>> {
    let mut cursor = 0;
    let places = messages.iter().map(|message| {
        let text = message.text();
        let rest = &rendered[cursor..];
        let (start, end) = match rest.find(&text) {
            Some(at) => (cursor + at, cursor + at + text.len()),
            None => {
                let dropped = text.len() - text.trim_start().len();
                let body = text.trim();
                let at = cursor + rest.find(body)?;
                (at.checked_sub(dropped)?, at + body.len())
            }
        };
        cursor = end;
        Some(Place { start, end, length: text.len() })
    });
    places.collect()
}

impl Reading {
    pub fn new(translator: &Translator, request: &LatentRequest) -> Result<Self, GenerateError> {
        let rendered = translator.rendered(&request.messages)?;
        let encode = |text: &str| {
            let tokens = translator
                .tokenizer
                .encode_with_places(text)
                .map_err(|e| native_error(&translator.name, &e))?;
            let unknown = translator.tokenizer.unknown();
            if unknown.is_some_and(|unknown| tokens.iter().any(|(token, _)| *token == unknown)) {
                let what = format!("`{}` holds signs or words that the model does not know", shorten(text));
                return refuse(&translator.name, what, "the embedded model reads the voice of its own tasks");
            }
            Ok(tokens)
        };
        Ok(Reading {
            prompt: encode(&rendered)?,
            continuation: encode(&request.continuation)?,
            messages: places_of(&request.messages, &rendered),
        })
    }

    fn sequence(&self) -> Sequence {
        let tokens = self.prompt.iter().chain(&self.continuation).map(|(token, _)| *token).collect();
        Sequence { tokens, first_target: 1 }
    }

    fn tokens(&self) -> usize {
        self.prompt.len() + self.continuation.len()
    }

    /// Positions of the tokens of a segment.
    fn segment(&self, model: &str, index: usize, segment: Segment) -> Result<Vec<usize>, GenerateError> {
        match segment {
            Segment::Tokens { from, to } if from <= to && to <= self.prompt.len() => Ok((from..to).collect()),
            Segment::Tokens { from, to } => refuse(
                model,
                format!("segment {index} is tokens {from}..{to}, the prompt has {}", self.prompt.len()),
                "tokens count from 0, the end is not part of it",
            ),
            Segment::Bytes { message, from, to } => {
                let Some(place) = self.messages.get(message) else {
                    let what =
                        format!("segment {index} lies in message {message} of {}", self.messages.len());
                    return refuse(model, what, "messages count from 0");
                };
                let Some(Place { start, end, length }) = *place else {
                    let what = format!("the chat template changes the words of message {message}");
                    return refuse(model, what, "give the segments as tokens of the prompt");
                };
                if from > to || to > length {
                    let what = format!(
                        "segment {index} is bytes {from}..{to} of message {message}, which has {length}"
                    );
                    return refuse(model, what, "bytes count from 0, the end is not part of it");
                }
                let bytes = start + from..(start + to).min(end);
                Ok(within(&self.prompt, &bytes))
            }
        }
    }

    /// Positions of the rows that wrote a stretch of the continuation.
    fn rows(&self, model: &str, stretch: Stretch) -> Result<Vec<usize>, GenerateError> {
        let tokens = match stretch {
            Stretch::Tokens { from, to } => (from..to.min(self.continuation.len())).collect(),
            Stretch::Bytes { from, to } => within(&self.continuation, &(from..to)),
        };
        if tokens.is_empty() {
            let what =
                format!("{stretch:?} holds none of the {} tokens of the answer", self.continuation.len());
            return refuse(model, what, "give the place of the answer within the assistant's text");
        }
        // The row that wrote token i is the one before it.
        let rows: Option<Vec<usize>> =
            tokens.iter().map(|token| (self.prompt.len() + token).checked_sub(1)).collect();
        rows.map_or_else(|| refuse(model, "nothing precedes the answer".into(), "give a prompt"), Ok)
    }
}

/// Numbers of the tokens that begin within these bytes.
fn within(tokens: &[(u32, (usize, usize))], bytes: &std::ops::Range<usize>) -> Vec<usize> {
    let begins = tokens.iter().enumerate().filter(|(_, (_, (start, _)))| bytes.contains(start));
    begins.map(|(index, _)| index).collect()
}

/// Likeliest token, its log-probability and the entropy of softmax(logits), computed in double precision.
fn likeliest(logits: &[f32]) -> (usize, f32, f32) {
    let best =
        logits.iter().enumerate().fold(0, |best, (i, logit)| if *logit > logits[best] { i } else { best });
    let top = f64::from(logits[best]);
    let total: f64 = logits.iter().map(|logit| (f64::from(*logit) - top).exp()).sum();
    let entropy: f64 = logits
        .iter()
        .map(|logit| {
            let logprob = f64::from(*logit) - top - total.ln();
            -logprob.exp() * logprob
        })
        .filter(|part| part.is_finite())
        .sum();
    (best, -total.ln() as f32, entropy as f32)
}

/// Reads what was asked for. Takes as long as its forward passes.
pub(super) fn read(
    translator: &Translator,
    model: &Model,
    request: &LatentRequest,
) -> Result<LatentReading, GenerateError> {
    let started = Instant::now();
    let name = &translator.name;
    let failed = |error| native_error(name, &error);
    let reading = Reading::new(translator, request)?;
    let sequence = reading.sequence();
    let token = |layer: usize, head: Option<usize>, logits: &[f32]| {
        let (token, logprob, entropy) = likeliest(logits);
        let text = translator.token_text(token as u32);
        InnerToken { layer, head, token: token as u32, text, logprob, entropy }
    };
    let mut passes = 1;
    let values = match &request.read {
        LatentRead::Attention { rows, segments, layer } => {
            let layer = layer.unwrap_or(model.config().layers - 1);
            let owner = owners(name, &reading, segments)?;
            let rows = reading.rows(name, *rows)?;
            let attention = model.tap_attention(&sequence, layer).map_err(failed)?;
            LatentValues::Attention(masses(&attention, reading.tokens(), &rows, &owner, segments.len()))
        }
        LatentRead::Layers => {
            let states = model.tap_states(&sequence).map_err(failed)?;
            let logits = model.read_out(&states.concat()).map_err(failed)?;
            let rows = logits.chunks_exact(model.config().vocab_size).enumerate();
            LatentValues::Tokens(rows.map(|(layer, logits)| token(layer, None, logits)).collect())
        }
        LatentRead::Heads { layers, factor } => {
            let (heads, all) = (model.config().heads, (0..model.config().layers).collect());
            let layers = if layers.is_empty() { &all } else { layers };
            let mut tokens = Vec::with_capacity(layers.len() * heads);
            for &layer in layers {
                for keep in 0..heads {
                    let mask = HeadMask { layer, keep, factor: *factor };
                    let logits = model.tap_next(&sequence, Some(mask)).map_err(failed)?;
                    tokens.push(token(layer, Some(keep), &logits));
                }
            }
            passes = tokens.len();
            LatentValues::Tokens(tokens)
        }
        LatentRead::States { layers } => {
            let states = model.tap_states(&sequence).map_err(failed)?;
            let wanted: Option<Vec<Vec<f32>>> =
                layers.iter().map(|&layer| states.get(layer).cloned()).collect();
            let Some(wanted) = wanted else {
                let what = format!("layers {layers:?} of a model with {}", states.len() - 1);
                return refuse(name, what, "0 is the embedding, l the state behind block l");
            };
            LatentValues::States(wanted)
        }
    };
    let usage = Usage {
        calls: 1,
        prompt_tokens: (reading.tokens() * passes) as u64,
        seconds: started.elapsed().as_secs_f64(),
        ..Usage::default()
    };
    Ok(LatentReading { values, usage })
}

/// The segment of each position of the prompt.
fn owners(model: &str, reading: &Reading, segments: &[Segment]) -> Result<Vec<Option<usize>>, GenerateError> {
    let mut owner = vec![None; reading.prompt.len()];
    for (index, &segment) in segments.iter().enumerate() {
        for position in reading.segment(model, index, segment)? {
            if let Some(other) = owner[position].replace(index) {
                let what = format!("token {position} lies in segments {other} and {index}");
                return refuse(model, what, "segments must not overlap: each mass is counted once");
            }
        }
    }
    Ok(owner)
}

/// `[heads][segments + 1]`, the mean over rows of the attention on each owner's positions; the rest last.
fn masses(
    attention: &[f32],
    tokens: usize,
    rows: &[usize],
    owner: &[Option<usize>],
    segments: usize,
) -> Vec<Vec<f32>> {
    let heads = attention.chunks_exact(tokens * tokens);
    let divided = heads.map(|head| {
        let mut mass = vec![0.0f64; segments + 1];
        for &row in rows {
            for (position, weight) in head[row * tokens..(row + 1) * tokens].iter().enumerate() {
                let segment = owner.get(position).copied().flatten().unwrap_or(segments);
                mass[segment] += f64::from(*weight);
            }
        }
        mass.iter().map(|mass| (mass / rows.len() as f64) as f32).collect()
    });
    divided.collect()
}

/// Runs `work` on a thread of its own, so that the runtime's threads stay free.
pub(super) async fn aside<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, GenerateError> {
    let (sender, receiver) = futures::channel::oneshot::channel();
    let spawned = std::thread::Builder::new().name("latent".into()).spawn(move || drop(sender.send(work())));
    spawned.map_err(|error| decode_error(name, &DecodeError::Thread(error.to_string())))?;
    receiver.await.map_err(|_| decode_error(name, &DecodeError::Stopped))
}
