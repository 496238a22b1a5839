//! Embeddings of texts: the mean of their last hidden states.

use super::native_error;
use super::translate::Translator;
use crate::GenerateError;
use elenchus_native::{Model, Sequence};

/// One vector of the model's width per text. A text is short (a few clauses), so each is one small pass on the calling
/// thread: some milliseconds for the embedded model, less than handing it over and waiting for a batch would take.
pub(super) fn mean_states(
    translator: &Translator,
    model: &Model,
    texts: &[String],
) -> Result<Vec<Vec<f32>>, GenerateError> {
    texts
        .iter()
        .map(|text| {
            let tokens = translator.encode(text)?;
            let width = model.config().hidden_size;
            let mut mean = vec![0.0; width];
            if tokens.is_empty() {
                return Ok(mean);
            }
            let sequence = Sequence { tokens, first_target: 1 };
            let taps = model.tap(&sequence).map_err(|error| native_error(&translator.name, &error))?;
            for state in taps.last.chunks(width) {
                for (sum, value) in mean.iter_mut().zip(state) {
                    *sum += value / taps.tokens as f32;
                }
            }
            Ok(mean)
        })
        .collect()
}
