//! Between the words of a request and the tokens of the engine.

use super::native_error;
use crate::chat_template::ChatTemplate;
use crate::{GenerateError, GenerateRequest, LogprobDetail};
use elenchus_native::{DecodeFinish, DecodeRequest, Decoded, Detail, Tokenizer};
use elenchus_trace::{Completion, FinishReason, Message, TopToken, Usage};
use std::time::Instant;

/// Writes requests as tokens and tokens as completions.
pub(super) struct Translator {
    pub name: String,
    pub tokenizer: Tokenizer,
    pub template: Option<ChatTemplate>,
    /// Text of each token.
    pub texts: Vec<String>,
    /// Tokens that end a text beside those the engine knows.
    pub stop_tokens: Vec<u32>,
}

fn detail(logprobs: LogprobDetail) -> Detail {
    match logprobs {
        LogprobDetail::None => Detail::None,
        LogprobDetail::Offered | LogprobDetail::Chosen => Detail::Chosen,
        LogprobDetail::Top(count) => Detail::Top(usize::from(count)),
        LogprobDetail::Distribution => Detail::Distribution,
    }
}

impl Translator {
    fn cannot<T>(&self, what: &str, hint: &str) -> Result<T, GenerateError> {
        Err(GenerateError::Capability { model: self.name.clone(), what: what.into(), hint: hint.into() })
    }

    pub fn encode(&self, text: &str) -> Result<Vec<u32>, GenerateError> {
        let tokens = self.tokenizer.encode(text).map_err(|error| native_error(&self.name, &error))?;
        let unknown = self.tokenizer.unknown();
        if unknown.is_some_and(|unknown| tokens.contains(&unknown)) {
            return Err(GenerateError::Request {
                model: self.name.clone(),
                what: format!(
                    "`{}` holds signs or words that the model does not know",
                    crate::scripted::shorten(text)
                ),
                hint: "the embedded model reads the compact voice of its own tasks; use an endpoint for other questions"
                    .into(),
            });
        }
        Ok(tokens)
    }

    pub fn prompt(&self, messages: &[Message]) -> Result<Vec<u32>, GenerateError> {
        self.encode(&self.rendered(messages)?)
    }

    /// The text that the model reads.
    pub fn rendered(&self, messages: &[Message]) -> Result<String, GenerateError> {
        if messages.iter().any(|message| message.content.as_ref().is_some_and(|c| c.has_other_than_text())) {
            return self.cannot("an answer about images", "use an endpoint whose model sees");
        }
        if messages.iter().any(|message| !message.tool_calls.is_empty()) {
            return self.cannot("a continuation of tool calls", "use an endpoint whose model knows tools");
        }
        match &self.template {
            Some(template) => template.render(messages, &self.name),
            None => Ok(messages.iter().map(Message::text).collect()),
        }
    }

    pub fn decode_request(&self, request: &GenerateRequest) -> Result<DecodeRequest, GenerateError> {
        if !request.tools.is_empty() {
            return self.cannot("tool calls", "use an endpoint whose model knows tools");
        }
        let sampling = &request.sampling;
        Ok(DecodeRequest {
            prompt: self.prompt(&request.messages)?,
            samples: request.samples,
            first_sample: 0,
            seed: sampling.seed,
            max_new_tokens: sampling.max_tokens as usize,
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            top_k: sampling.top_k as usize,
            min_p: sampling.min_p,
            stop_tokens: self.stop_tokens.clone(),
            stop_strings: sampling.stop.clone(),
            detail: detail(request.logprobs),
        })
    }

    pub fn text(&self, tokens: &[u32]) -> String {
        self.tokenizer.decode(tokens).unwrap_or_default()
    }

    pub fn completion(&self, decoded: Decoded, call: &Call, sample: usize) -> Completion {
        let mut text = self.text(&decoded.tokens[..decoded.text_tokens.min(decoded.tokens.len())]);
        text.push_str(&String::from_utf8_lossy(&decoded.text_tail));
        let mut completion = Completion::text(text);
        completion.finish = match decoded.finish {
            DecodeFinish::EndOfText | DecodeFinish::StopString => FinishReason::Stop,
            DecodeFinish::Length => FinishReason::Length,
            DecodeFinish::Cancelled => FinishReason::Cancelled,
        };
        completion.usage = Usage { completion_tokens: decoded.tokens.len() as u64, ..Usage::default() };
        // The first sample carries what the request cost once.
        if sample == 0 {
            completion.usage.calls = 1;
            completion.usage.prompt_tokens = call.prompt_tokens;
            completion.usage.seconds = call.started.elapsed().as_secs_f64();
        }
        completion.vocabulary = Some(self.texts.len() as u32);
        completion.top = decoded
            .top
            .into_iter()
            .map(|place| place.into_iter().map(|(token, logprob)| self.top_token(token, logprob)).collect())
            .collect();
        completion.token_ids = decoded.tokens;
        completion.logprobs = decoded.logprobs;
        completion.distributions = decoded.distributions;
        completion.seed = Some(call.seed);
        completion
    }

    /// The text of one token.
    pub fn token_text(&self, token: u32) -> String {
        match self.texts.get(token as usize) {
            // A special token has no text; its written form tells it from others.
            Some(text) if text.is_empty() => self.tokenizer.token_text(token).unwrap_or_default(),
            Some(text) => text.clone(),
            None => String::new(),
        }
    }

    fn top_token(&self, token: u32, logprob: f32) -> TopToken {
        TopToken { token: self.token_text(token), logprob }
    }
}

/// What is the same for all samples of a request.
pub(super) struct Call {
    prompt_tokens: u64,
    seed: u64,
    started: Instant,
}

impl Call {
    pub fn new(request: &DecodeRequest) -> Self {
        Call { prompt_tokens: request.prompt.len() as u64, seed: request.seed, started: Instant::now() }
    }
}
