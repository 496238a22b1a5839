//! Text to tokens and back, over Hugging Face `tokenizer.json`.

use crate::{NativeError, files};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::Path;

/// Padding token of [`Tokenizer::word_level`], id 0.
pub const PAD_TOKEN: &str = "<pad>";
/// End-of-sequence token of [`Tokenizer::word_level`], id 1.
pub const EOS_TOKEN: &str = "<eos>";
/// Unknown-piece token of [`Tokenizer::word_level`], id 2.
pub const UNKNOWN_TOKEN: &str = "<unk>";

/// A tokenizer with its special tokens.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    eos: Option<u32>,
    pad: Option<u32>,
    unknown: Option<u32>,
}

impl Tokenizer {
    /// A word-level tokenizer for a closed vocabulary, the same in Hugging Face `tokenizers`.
    ///
    /// Ids 0, 1, 2 are `<pad>`, `<eos>`, `<unk>`, then `vocabulary` in its order. Text is cut into the longest
    /// vocabulary entry of two characters or more that starts here (one ending in a letter must not be followed
    /// by a letter), else into one character; white space is dropped. Decoding concatenates the pieces without spaces.
    pub fn word_level(vocabulary: &[String]) -> Result<Self, NativeError> {
        let mut ids = serde_json::Map::new();
        for (id, special) in [PAD_TOKEN, EOS_TOKEN, UNKNOWN_TOKEN].into_iter().enumerate() {
            ids.insert(special.into(), json!(id));
        }
        let mut words = Vec::new();
        let mut seen = HashSet::new();
        for entry in vocabulary {
            let blank = entry.is_empty() || entry.chars().any(char::is_whitespace);
            if blank || ids.contains_key(entry) || !seen.insert(entry) {
                let problem =
                    format!("vocabulary entry `{entry}` is empty, holds white space or is repeated");
                return Err(NativeError::Tokenizer {
                    problem,
                    hint: "give each piece once, without the special tokens",
                });
            }
            ids.insert(entry.clone(), json!(ids.len()));
            if entry.chars().count() > 1 {
                words.push(entry.as_str());
            }
        }
        let special = |id: usize, content: &str| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true})
        };
        let description = json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": [special(0, PAD_TOKEN), special(1, EOS_TOKEN), special(2, UNKNOWN_TOKEN)],
            "normalizer": null,
            // Inverted: what the pattern matches is kept, what lies between (white space) is removed.
            "pre_tokenizer": {"type": "Split", "pattern": {"Regex": pieces_pattern(&words)},
                "behavior": "Removed", "invert": true},
            "post_processor": null,
            "decoder": {"type": "Fuse"},
            "model": {"type": "WordLevel", "vocab": Value::Object(ids), "unk_token": UNKNOWN_TOKEN},
        });
        let mut tokenizer = Self::from_json(description.to_string().as_bytes())?;
        tokenizer.eos = Some(1);
        tokenizer.pad = Some(0);
        tokenizer.unknown = Some(2);
        Ok(tokenizer)
    }

    /// Parses the bytes of a `tokenizer.json`. Special tokens are recognised by their usual names.
    pub fn from_json(bytes: &[u8]) -> Result<Self, NativeError> {
        let inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(|e| NativeError::Tokenizer {
            problem: format!("the description cannot be read: {e}"),
            hint: "give the bytes of a Hugging Face `tokenizer.json`",
        })?;
        let find = |names: &[&str]| names.iter().find_map(|name| inner.token_to_id(name));
        let eos = find(&[EOS_TOKEN, "<|im_end|>", "<|eot_id|>", "</s>", "<|endoftext|>", "<|end_of_text|>"]);
        let pad = find(&[PAD_TOKEN, "<|endoftext|>", "<|finetune_right_pad_id|>"]).or(eos);
        let unknown = find(&[UNKNOWN_TOKEN]);
        Ok(Tokenizer { inner, eos, pad, unknown })
    }

    /// Reads `tokenizer.json` of a model folder, and the special tokens named by `tokenizer_config.json` if present.
    pub fn load(folder: impl AsRef<Path>) -> Result<Self, NativeError> {
        let path = folder.as_ref().join("tokenizer.json");
        let mut tokenizer = Self::from_json(&files::read(&path)?).map_err(|e| match e {
            NativeError::Tokenizer { problem, hint } => NativeError::checkpoint(&path, problem, hint),
            other => other,
        })?;
        let settings = folder.as_ref().join("tokenizer_config.json");
        if settings.is_file() {
            let settings_value: Value = files::read_json(&settings)?;
            let named = |key: &str| -> Result<Option<u32>, NativeError> {
                let entry = &settings_value[key];
                let Some(content) = entry.as_str().or_else(|| entry["content"].as_str()) else {
                    return Ok(None);
                };
                let id = tokenizer.inner.token_to_id(content).ok_or_else(|| {
                    let problem = format!("`{key}` names `{content}`, which `tokenizer.json` does not have");
                    NativeError::checkpoint(
                        &settings,
                        problem,
                        "the two files belong to different tokenizers",
                    )
                })?;
                Ok(Some(id))
            };
            let (eos, pad, unknown) = (named("eos_token")?, named("pad_token")?, named("unk_token")?);
            tokenizer.eos = eos.or(tokenizer.eos);
            tokenizer.pad = pad.or(tokenizer.pad);
            tokenizer.unknown = unknown.or(tokenizer.unknown);
        }
        Ok(tokenizer)
    }

    /// Writes `tokenizer.json` and `tokenizer_config.json` so that `AutoTokenizer.from_pretrained` reads them.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<(), NativeError> {
        let folder = folder.as_ref();
        files::create_folder(folder)?;
        let text = self.to_json()?;
        files::write_atomically(&folder.join("tokenizer.json"), |w| w.write_all(text.as_bytes()))?;
        let mut settings = serde_json::Map::new();
        settings.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
        // Otherwise `transformers` would rewrite spaces round punctuation when decoding.
        settings.insert("clean_up_tokenization_spaces".into(), json!(false));
        for (key, id) in [("eos_token", self.eos), ("pad_token", self.pad), ("unk_token", self.unknown)] {
            if let Some(text) = id.and_then(|id| self.inner.id_to_token(id)) {
                settings.insert(key.into(), json!(text));
            }
        }
        files::write_json(&folder.join("tokenizer_config.json"), &Value::Object(settings))
    }

    /// The `tokenizer.json` text.
    pub fn to_json(&self) -> Result<String, NativeError> {
        self.inner.to_string(true).map_err(|e| NativeError::Tokenizer {
            problem: format!("cannot be written as JSON: {e}"),
            hint: "the tokenizer holds a part that has no description",
        })
    }

    /// The tokens of a text. Special tokens written out in the text are recognised; none are added.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, NativeError> {
        let encoding = self.inner.encode_fast(text, false).map_err(|e| NativeError::Tokenizer {
            problem: format!("cannot encode a text of {} bytes: {e}", text.len()),
            hint: "look for characters the vocabulary does not know",
        })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The tokens of a text, each with the bytes `start..end` of the text that it stands for.
    pub fn encode_with_places(&self, text: &str) -> Result<Vec<(u32, (usize, usize))>, NativeError> {
        let encoding = self.inner.encode(text, false).map_err(|e| NativeError::Tokenizer {
            problem: format!("cannot encode a text of {} bytes: {e}", text.len()),
            hint: "look for characters the vocabulary does not know",
        })?;
        Ok(encoding.get_ids().iter().copied().zip(encoding.get_offsets().iter().copied()).collect())
    }

    /// The text of tokens, special tokens left out.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, NativeError> {
        self.decode_with(tokens, true)
    }

    /// The text of tokens, special tokens written out.
    pub fn decode_all(&self, tokens: &[u32]) -> Result<String, NativeError> {
        self.decode_with(tokens, false)
    }

    fn decode_with(&self, tokens: &[u32], skip_special: bool) -> Result<String, NativeError> {
        self.inner.decode(tokens, skip_special).map_err(|e| NativeError::Tokenizer {
            problem: format!("cannot decode {} tokens: {e}", tokens.len()),
            hint: "the tokens may come from another vocabulary",
        })
    }

    /// The written form of one token in the vocabulary.
    pub fn token_text(&self, token: u32) -> Option<String> {
        self.inner.id_to_token(token)
    }

    /// A word of a closed vocabulary, character by character: how a text spells it where another letter follows. `None` for
    /// single characters, for words that do not end in a letter, and for other kinds of tokenizers.
    pub fn spelled(&self, token: u32) -> Option<Vec<u32>> {
        let closed = matches!(self.inner.get_model(), tokenizers::ModelWrapper::WordLevel(_));
        let word = self.token_text(token).filter(|_| closed)?;
        let runs_on = word.chars().count() > 1 && word.ends_with(char::is_alphabetic);
        word.chars()
            .filter(|_| runs_on)
            .map(|sign| self.token_id(sign.encode_utf8(&mut [0; 4])))
            .collect::<Option<Vec<u32>>>()
            .filter(|letters| !letters.is_empty())
    }

    /// The token with exactly this written form.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        self.inner.token_to_id(text)
    }

    /// End of sequence.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Padding.
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }

    /// The token for pieces outside the vocabulary.
    pub fn unknown(&self) -> Option<u32> {
        self.unknown
    }

    /// One more than the largest token id: the least vocabulary a model for this tokenizer can have.
    pub fn vocabulary_size(&self) -> usize {
        self.inner.get_vocab(true).values().max().map_or(0, |largest| *largest as usize + 1)
    }
}

/// Words longest first, each not followed by a letter if it ends in one, else any single non-space character.
fn pieces_pattern(words: &[&str]) -> String {
    let mut words = words.to_vec();
    words.sort_by(|a, b| b.chars().count().cmp(&a.chars().count()).then(a.cmp(b)));
    let mut pattern = String::new();
    for word in words {
        for c in word.chars() {
            // Only true metacharacters: `\<` would mean the start of a word.
            if r"\.+*?()|[]{}^$".contains(c) {
                pattern.push('\\');
            }
            pattern.push(c);
        }
        if word.ends_with(char::is_alphabetic) {
            pattern.push_str("(?![A-Za-z])");
        }
        pattern.push('|');
    }
    pattern.push_str("[^\\s]");
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Tokenizer {
        let words = [
            "S", "g", "A", "n", "=", "5", "0", ".", "?", "1", "Ann", "Anna", "has", "how", "many", "<=",
            "less",
        ];
        Tokenizer::word_level(&words.map(String::from)).unwrap()
    }

    fn pieces(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
        tokenizer.encode(text).unwrap().into_iter().map(|t| tokenizer.token_text(t).unwrap()).collect()
    }

    #[test]
    fn words_are_one_token_and_all_else_one_character() {
        let t = small();
        assert_eq!(pieces(&t, "Sg=50"), ["S", "g", "=", "5", "0"], "a tag before a letter stays apart");
        assert_eq!(pieces(&t, "SAnn has 50."), ["S", "Ann", "has", "5", "0", "."], "spaces are dropped");
        assert_eq!(
            pieces(&t, "how many has Anna?"),
            ["how", "many", "has", "Anna", "?"],
            "longest word wins"
        );
        assert_eq!(pieces(&t, "Annn"), ["A", "n", "n", "n"], "a word must not run on into letters");
        assert_eq!(pieces(&t, "g<=1"), ["g", "<=", "1"], "punctuation is escaped in the pattern");
        assert_eq!(pieces(&t, "z"), [UNKNOWN_TOKEN], "an unknown character is one unknown token");
        assert_eq!(pieces(&t, "Ann\n has"), ["Ann", "has"], "all white space is dropped");
    }

    #[test]
    fn the_place_of_a_token_is_in_bytes_of_the_text() {
        let t = small();
        let text = "é Ann has 50.";
        let places = t.encode_with_places(text).unwrap();
        let ids: Vec<u32> = places.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, t.encode(text).unwrap(), "the same tokens as without places");
        let pieces: Vec<&str> = places.iter().map(|(_, (start, end))| &text[*start..*end]).collect();
        assert_eq!(pieces[1..3], ["Ann", "has"], "a letter of two bytes shifts the places by two");
        assert_eq!(pieces.concat(), "éAnnhas50.", "white space belongs to no token");
    }

    #[test]
    fn decoding_concatenates_and_hides_special_tokens() {
        let t = small();
        let mut tokens = t.encode("Ann has 50.").unwrap();
        tokens.push(t.eos().unwrap());
        assert_eq!(t.decode(&tokens).unwrap(), "Annhas50.");
        assert_eq!(t.decode_all(&tokens).unwrap(), "Annhas50.<eos>");
        assert_eq!(t.encode("0<eos>").unwrap().last(), Some(&1), "a special token in the text is one token");
        assert_eq!(t.vocabulary_size(), 20);
    }

    #[test]
    fn saving_keeps_everything() {
        let (t, folder) = (small(), tempfile::tempdir().unwrap());
        t.save(folder.path()).unwrap();
        let back = Tokenizer::load(folder.path()).unwrap();
        assert_eq!((back.eos(), back.pad(), back.unknown()), (Some(1), Some(0), Some(2)));
        assert_eq!(back.encode("SAnn has 50.").unwrap(), t.encode("SAnn has 50.").unwrap());
    }

    #[test]
    fn bad_descriptions_are_refused_with_a_hint() {
        for words in [vec!["a", "a"], vec![""], vec!["a b"], vec![EOS_TOKEN]] {
            let words: Vec<String> = words.into_iter().map(String::from).collect();
            let message = Tokenizer::word_level(&words).unwrap_err().to_string();
            assert!(message.contains("hint:"), "{message}");
        }
        assert!(Tokenizer::from_json(b"{\"version\":").unwrap_err().to_string().contains("hint:"));
        let folder = tempfile::tempdir().unwrap();
        assert!(Tokenizer::load(folder.path()).unwrap_err().to_string().contains("tokenizer.json"));
    }
}
