//! Adding words to the vocabulary of a model.

use crate::RecipeError;
use crate::models::Loaded;
use elenchus_learn::LearnError;
use elenchus_native::{Model, ModelConfig, NativeError, Tokenizer};
use std::sync::Arc;

/// Special tokens of a word-level tokenizer; the words begin behind them.
const SPECIAL_TOKENS: usize = 3;

/// The model with these words as tokens behind those it knows. Known words keep their ids and weights; the rows of
/// new ones come from a fresh initialisation with this seed. Words it has already are left out.
///
/// # Errors
/// The tokenizer is not one of closed words (its cut of a text could change), or a word cannot be one.
pub(super) fn extend(loaded: Loaded, words: &[String], seed: u64) -> Result<Loaded, RecipeError> {
    let known = loaded.tokenizer.vocabulary_size();
    let mut all: Vec<String> = (SPECIAL_TOKENS..known)
        .filter_map(|id| loaded.tokenizer.token_text(u32::try_from(id).unwrap_or(u32::MAX)))
        .collect();
    let closed = Tokenizer::word_level(&all).and_then(|same| same.to_json());
    if closed? != loaded.tokenizer.to_json()? {
        return Err(LearnError::Data {
            what: "words cannot be added to a tokenizer that is not one of closed words".into(),
            hint: "build this checkpoint on the embedded model or one that `elenchus pretrain` made".into(),
        }
        .into());
    }
    let new: Vec<&String> = words.iter().filter(|word| loaded.tokenizer.token_id(word).is_none()).collect();
    if new.is_empty() {
        return Ok(loaded);
    }
    all.extend(new.into_iter().cloned());
    let tokenizer = Tokenizer::word_level(&all)?;
    let old = &loaded.model;
    let config = ModelConfig { vocab_size: tokenizer.vocabulary_size(), ..old.config().clone() };
    let mut model = Model::initialise(config, seed).map_err(NativeError::from)?;
    let mut parameters = std::mem::take(&mut model.parameters);
    for (new, old_place) in model.layout().parameters().iter().zip(old.layout().parameters()) {
        // Only the embedding and an untied output grow, by rows at their end.
        let length = old_place.range.len();
        parameters[new.range.start..new.range.start + length]
            .copy_from_slice(&old.parameters[old_place.range.clone()]);
    }
    model.parameters = parameters;
    model.heads = old.heads.clone();
    Ok(Loaded { model, tokenizer: Arc::new(tokenizer) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use elenchus_learn::pretrain::ModelShape;

    fn small() -> Loaded {
        let shape = ModelShape {
            hidden_size: 16,
            intermediate_size: 16,
            layers: 1,
            heads: 2,
            kv_heads: 2,
            max_positions: 64,
        };
        crate::models::fresh(&shape, 1).unwrap()
    }

    fn logits(loaded: &Loaded, text: &str) -> Vec<f32> {
        let tokens = loaded.tokenizer.encode(text).unwrap();
        let sequences = [elenchus_native::Sequence { tokens, first_target: 1 }];
        loaded.model.logprobs(&sequences, &Default::default()).unwrap().remove(0).logprobs
    }

    #[test]
    fn known_tokens_keep_their_ids_and_new_words_are_one_token() {
        let before = small();
        let known = before.tokenizer.encode("Sg=50;e=g-1;e?").unwrap();
        let embedding = before.model.parameters[..16].to_vec();
        let size = before.tokenizer.vocabulary_size();
        let after = extend(small(), &["lamp".into(), "has".into(), "door".into()], 3).unwrap();
        assert_eq!(after.tokenizer.encode("Sg=50;e=g-1;e?").unwrap(), known);
        assert_eq!(after.tokenizer.vocabulary_size(), size + 2, "`has` is known already");
        assert_eq!(after.tokenizer.encode("lamp").unwrap(), [size as u32]);
        assert_eq!(after.model.parameters[..16], embedding, "trained rows stay");
        let (old, new) = (logits(&before, "Sg=50;e?"), logits(&after, "Sg=50;e?"));
        // Two more classes take a little of the probability, the same for every position up to the logits.
        assert!(old.iter().zip(&new).all(|(o, n)| n < o && o - n < 0.1), "{old:?} {new:?}");
        let none = extend(small(), &["has".into()], 3).unwrap();
        assert_eq!(none.tokenizer.vocabulary_size(), size);
    }
}
