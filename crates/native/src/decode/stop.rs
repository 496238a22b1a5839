//! Stop strings: found in the bytes of the tokens, also across them.

use super::request::TokenTexts;
use std::sync::Arc;

/// The stop strings of a request, as bytes, none empty.
pub(super) type StopStrings = Arc<[Vec<u8>]>;

/// The text of one sample so far.
#[derive(Debug)]
pub(super) struct StopText {
    strings: StopStrings,
    texts: TokenTexts,
    bytes: Vec<u8>,
    /// Where each token ends.
    ends: Vec<usize>,
    /// Tokens known to be text.
    settled: usize,
}

/// Where a stop string begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StopFound {
    /// Tokens wholly before it.
    pub text_tokens: usize,
    /// What the next token says before it.
    pub text_tail: Vec<u8>,
}

impl StopText {
    pub(super) fn new(strings: StopStrings, texts: TokenTexts) -> Self {
        StopText { strings, texts, bytes: Vec::new(), ends: Vec::new(), settled: 0 }
    }

    /// Adds a token; the stop string that begins first, if one is there now.
    pub(super) fn push(&mut self, token: u32) -> Option<StopFound> {
        let before = self.bytes.len();
        self.bytes.extend_from_slice(self.texts.get(token));
        self.ends.push(self.bytes.len());
        let start = self.strings.iter().filter_map(|string| {
            let from = (before + 1).saturating_sub(string.len());
            self.bytes[from..].windows(string.len()).position(|window| window == string).map(|at| from + at)
        });
        let start = start.min()?;
        let text_tokens = self.ends.iter().take_while(|&&end| end <= start).count();
        let begin = if text_tokens == 0 { 0 } else { self.ends[text_tokens - 1] };
        Some(StopFound { text_tokens, text_tail: self.bytes[begin..start].to_vec() })
    }

    /// How many tokens are text whatever comes: the end of the text that may become a stop string is left out.
    pub(super) fn settled_tokens(&mut self) -> usize {
        let held = self
            .strings
            .iter()
            .filter_map(|string| {
                let longest = (string.len() - 1).min(self.bytes.len());
                (1..=longest).rev().find(|&length| self.bytes.ends_with(&string[..length]))
            })
            .max()
            .unwrap_or(0);
        let safe = self.bytes.len() - held;
        while self.ends.get(self.settled).is_some_and(|&end| end <= safe) {
            self.settled += 1;
        }
        self.settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(strings: &[&str], tokens: &[&str]) -> StopText {
        StopText::new(
            strings.iter().map(|string| string.as_bytes().to_vec()).collect(),
            TokenTexts::new(tokens.iter().copied()),
        )
    }

    #[test]
    fn found_across_tokens_and_trimmed_within_one() {
        let mut stop = text(&["</end>"], &["abc<", "/e", "nd>xyz"]);
        assert_eq!(stop.push(0), None);
        assert_eq!(stop.settled_tokens(), 0, "`<` may begin the stop string");
        assert_eq!(stop.push(1), None);
        assert_eq!(stop.push(2), Some(StopFound { text_tokens: 0, text_tail: b"abc".to_vec() }));
    }

    #[test]
    fn held_text_is_released_when_it_was_no_stop() {
        let mut stop = text(&["ab#"], &["a", "b", "c"]);
        for (token, settled) in [(0, 0), (1, 0), (2, 3), (0, 3)] {
            assert_eq!(stop.push(token), None);
            assert_eq!(stop.settled_tokens(), settled);
        }
    }

    #[test]
    fn the_stop_that_begins_first_wins() {
        let mut stop = text(&["cd", "bcd"], &["a", "bcd"]);
        assert_eq!(stop.push(0), None);
        assert_eq!(stop.push(1), Some(StopFound { text_tokens: 1, text_tail: Vec::new() }));
    }

    proptest! {
        #[test]
        fn agrees_with_a_search_in_the_whole_text(
            tokens in proptest::collection::vec("[ab]{0,3}", 1..5),
            strings in proptest::collection::vec("[ab]{1,4}", 1..3),
            ids in proptest::collection::vec(0u32..5, 1..12),
        ) {
            let texts: Vec<&str> = tokens.iter().map(String::as_str).collect();
            let stops: Vec<&str> = strings.iter().map(String::as_str).collect();
            let mut stop = text(&stops, &texts);
            let mut whole = String::new();
            let mut settled = 0;
            for &id in &ids {
                whole.push_str(texts.get(id as usize).unwrap_or(&""));
                let expected = stops.iter().filter_map(|string| whole.find(string)).min();
                let found = stop.push(id);
                prop_assert_eq!(found.is_some(), expected.is_some());
                if let Some(found) = found {
                    let mut kept: String =
                        ids[..found.text_tokens].iter().map(|&id| *texts.get(id as usize).unwrap_or(&"")).collect();
                    kept.push_str(std::str::from_utf8(&found.text_tail).unwrap());
                    prop_assert_eq!(kept.as_str(), &whole[..expected.unwrap()]);
                    prop_assert!(settled <= found.text_tokens, "nothing of the stop string was released");
                    break;
                }
                settled = stop.settled_tokens();
            }
        }
    }
}
