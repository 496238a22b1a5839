//! Requests are refused before anything is computed.

use super::request::{DecodeError, DecodeRequest, ScoreRequest, TokenTexts};
use crate::ModelConfig;

/// Samples of one request: a place is kept for each from the beginning.
const MAX_SAMPLES: usize = 1 << 20;

/// Checks token ids; `what` says where they stand.
fn tokens(
    config: &ModelConfig,
    request: usize,
    what: &'static str,
    tokens: &[u32],
) -> Result<(), DecodeError> {
    match tokens.iter().find(|&&token| token as usize >= config.vocab_size) {
        Some(&token) => {
            Err(DecodeError::UnknownToken { request, what, token, vocabulary: config.vocab_size })
        }
        None => Ok(()),
    }
}

fn length(
    config: &ModelConfig,
    request: usize,
    what: &'static str,
    length: usize,
) -> Result<(), DecodeError> {
    if length > config.max_positions {
        return Err(DecodeError::TooLong { request, what, length, max_positions: config.max_positions });
    }
    Ok(())
}

/// A prompt or prefix.
pub(super) fn prompt(
    config: &ModelConfig,
    request: usize,
    what: &'static str,
    prompt: &[u32],
) -> Result<(), DecodeError> {
    if prompt.is_empty() {
        return Err(DecodeError::EmptyPrompt { request, what });
    }
    length(config, request, what, prompt.len())?;
    tokens(config, request, what, prompt)
}

pub(super) fn decode(
    config: &ModelConfig,
    texts: Option<&TokenTexts>,
    index: usize,
    request: &DecodeRequest,
) -> Result<(), DecodeError> {
    prompt(config, index, "prompt", &request.prompt)?;
    let setting =
        |field, value: String, hint| Err(DecodeError::Setting { request: index, field, value, hint });
    if request.samples > MAX_SAMPLES {
        return setting(
            "samples",
            request.samples.to_string(),
            "give at most 1048576; ask for more in several requests",
        );
    }
    if !(request.temperature >= 0.0 && request.temperature.is_finite()) {
        return setting(
            "temperature",
            request.temperature.to_string(),
            "give 0 (greedy) or a positive number",
        );
    }
    if !(request.top_p > 0.0 && request.top_p <= 1.0) {
        return setting(
            "top_p",
            request.top_p.to_string(),
            "give a number above 0 and up to 1; 1 keeps all tokens",
        );
    }
    if !(0.0..=1.0).contains(&request.min_p) {
        return setting("min_p", request.min_p.to_string(), "give a number from 0 to 1; 0 keeps all tokens");
    }
    if request.stop_strings.iter().any(String::is_empty) {
        return setting("stop_strings", "an empty string".into(), "every text begins with it; leave it out");
    }
    if !request.stop_strings.is_empty() && texts.is_none() {
        let hint = "give the decoder the texts of the tokens (`DecoderOptions::token_texts`)";
        return setting("stop_strings", "set without token texts".into(), hint);
    }
    Ok(())
}

pub(super) fn score(config: &ModelConfig, index: usize, request: &ScoreRequest) -> Result<(), DecodeError> {
    prompt(config, index, "prefix", &request.prefix)?;
    if request.with_end && config.eos_token_ids.is_empty() {
        return Err(DecodeError::NoEndToken { request: index });
    }
    for continuation in &request.continuations {
        tokens(config, index, "continuation", continuation)?;
        // The last token is scored, not read, unless the end is scored after it.
        let read = continuation.len().saturating_sub(usize::from(!request.with_end));
        length(config, index, "prefix with continuation", request.prefix.len() + read)?;
    }
    if request.with_end {
        tokens(config, index, "eos_token_ids", &config.eos_token_ids[..1])?;
    }
    Ok(())
}

pub(super) fn labels(config: &ModelConfig, prompts: &[Vec<u32>], labels: &[u32]) -> Result<(), DecodeError> {
    for (index, text) in prompts.iter().enumerate() {
        prompt(config, index, "prompt", text)?;
    }
    tokens(config, 0, "labels", labels)
}
