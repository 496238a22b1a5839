//! Stop strings, kept here as well: a server may ignore the field `stop`, and what it writes behind is not asked for.

use crate::GenerateRequest;
use elenchus_trace::{Completion, Content, FinishReason};
use serde_json::{Value, json};

/// The stop strings that hold for a request: a field `stop` of the request's own wins, as it does on the wire.
pub(super) fn stops_of(request: &GenerateRequest) -> Vec<String> {
    let own = match request.extra.get("stop") {
        None => return nonempty(request.sampling.stop.iter().cloned()),
        Some(own) => own,
    };
    match own {
        Value::String(text) => nonempty([text.clone()]),
        Value::Array(list) => nonempty(list.iter().filter_map(|one| one.as_str().map(str::to_string))),
        _ => Vec::new(),
    }
}

fn nonempty(stops: impl IntoIterator<Item = String>) -> Vec<String> {
    stops.into_iter().filter(|stop| !stop.is_empty()).collect()
}

/// Where the stop string that is complete first begins and ends, in bytes. A text that comes piece by piece is cut at the
/// same place.
fn first_stop(text: &str, stops: &[String]) -> Option<(usize, usize)> {
    let found = stops.iter().filter_map(|stop| text.find(stop.as_str()).map(|at| (at, at + stop.len())));
    found.min_by_key(|&(start, end)| (end, start))
}

/// Cuts a completion at the stop string that is complete first: text, tokens and what is known of them. The usage stays
/// that of the server, which wrote and counted the rest. A note says that there was one.
pub(super) fn cut(completion: &mut Completion, stops: &[String]) {
    let Some((start, end)) = first_stop(&completion.text, stops) else { return };
    let ignored = end < completion.text.len();
    let stop = completion.text[start..end].to_string();
    completion.text.truncate(start);
    cut_tokens(completion, stops);
    if let Some(message) = &mut completion.message {
        message.content = Some(Content::Text(completion.text.clone()));
    }
    if matches!(completion.finish, FinishReason::Length | FinishReason::Interrupted | FinishReason::Other(_))
    {
        completion.finish = FinishReason::Stop;
    }
    if ignored {
        note(completion, format!("the server ignores `stop`: what it wrote behind {stop:?} is left out"));
    }
}

/// The tokens before the stop string; the one in which it begins is cut. Tokens that do not spell the stop string cannot
/// be told apart, and none are kept.
fn cut_tokens(completion: &mut Completion, stops: &[String]) {
    let spelled = completion.token_texts.concat();
    let kept_bytes = first_stop(&spelled, stops).map_or(0, |(start, _)| start);
    let (mut kept, mut bytes) = (0, 0);
    while bytes < kept_bytes && kept < completion.token_texts.len() {
        let token = &mut completion.token_texts[kept];
        let room = kept_bytes - bytes;
        if token.len() > room {
            token.truncate(room);
        }
        bytes += token.len();
        kept += 1;
    }
    completion.token_texts.truncate(kept);
    completion.logprobs.truncate(kept);
    completion.top.truncate(kept);
}

/// Adds a note behind those that are there.
pub(super) fn note(completion: &mut Completion, what: String) {
    let before = completion.extra.get("note").and_then(Value::as_str).map(|note| format!("{note}; "));
    completion.extra.insert("note".into(), json!(before.unwrap_or_default() + &what));
}

/// Passes on the text of a stream up to a stop string. What may be the beginning of one is held back until it is known.
#[derive(Debug, Default)]
pub(super) struct Gate {
    held: String,
    over: bool,
}

impl Gate {
    /// Takes new text; gives what may be passed on.
    pub fn take(&mut self, text: &str, stops: &[String]) -> Option<String> {
        if self.over {
            return None;
        }
        self.held.push_str(text);
        if let Some((start, _)) = first_stop(&self.held, stops) {
            self.over = true;
            self.held.truncate(start);
            return self.rest();
        }
        let open = stops.iter().map(|stop| beginning(&self.held, stop)).max().unwrap_or(0);
        let held = self.held.split_off(self.held.len() - open);
        let passed = std::mem::replace(&mut self.held, held);
        (!passed.is_empty()).then_some(passed)
    }

    /// What is still held when the stream is over.
    pub fn rest(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.held);
        (!rest.is_empty()).then_some(rest)
    }
}

/// Bytes at the end of a text that may be the beginning of a stop string.
fn beginning(text: &str, stop: &str) -> usize {
    let most = text.len().min(stop.len() - 1);
    (1..=most).rev().find(|&length| text.as_bytes().ends_with(&stop.as_bytes()[..length])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sampling;
    use elenchus_trace::Message;
    use proptest::prelude::*;

    fn owned(stops: &[&str]) -> Vec<String> {
        stops.iter().map(|stop| stop.to_string()).collect()
    }

    fn tokens(texts: &[&str]) -> Completion {
        let mut completion = Completion::text(texts.concat());
        completion.token_texts = texts.iter().map(|text| text.to_string()).collect();
        completion.logprobs = (0..texts.len()).map(|i| -(i as f32)).collect();
        completion.finish = FinishReason::Length;
        completion
    }

    #[test]
    fn text_and_tokens_end_before_the_stop_string() {
        let mut completion = tokens(&["so", " it", " is 4.\n", "\nAnd", " more"]);
        cut(&mut completion, &owned(&["\n\n", "more"]));
        assert_eq!((completion.text.as_str(), &completion.finish), ("so it is 4.", &FinishReason::Stop));
        assert_eq!(completion.token_texts, ["so", " it", " is 4."]);
        assert_eq!(completion.logprobs, [-0.0, -1.0, -2.0]);
        assert!(completion.extra["note"].as_str().unwrap().contains("ignores `stop`"));

        let mut last = tokens(&["so", "\n\n"]);
        cut(&mut last, &owned(&["\n\n"]));
        assert_eq!(
            (last.text.as_str(), last.extra.get("note")),
            ("so", None),
            "it stopped, and showed where"
        );

        let mut strange = tokens(&["<0x0A>", "<0x0A>"]);
        strange.text = "a\n\nb".into();
        cut(&mut strange, &owned(&["\n\n"]));
        assert!(
            strange.text == "a" && strange.logprobs.is_empty(),
            "tokens that spell something else: {strange:?}"
        );
    }

    #[test]
    fn a_field_of_the_request_wins() {
        let sampling = Sampling { stop: owned(&["a"]), ..Sampling::default() };
        let mut request = GenerateRequest { sampling, ..GenerateRequest::new(vec![Message::user("x")]) };
        assert_eq!(stops_of(&request), ["a"]);
        request.extra.insert("stop".into(), json!(["b", ""]));
        assert_eq!(stops_of(&request), ["b"]);
        request.extra.insert("stop".into(), json!("c"));
        assert_eq!(stops_of(&request), ["c"]);
    }

    proptest! {
        /// However a text is divided, what passes is what the whole is cut to.
        #[test]
        fn pieces_are_cut_like_the_whole(
            pieces in proptest::collection::vec("[ab\u{e4}]{0,4}", 0..8),
            stops in proptest::collection::vec("[ab\u{e4}]{1,3}", 0..3),
        ) {
            let mut gate = Gate::default();
            let mut passed: String = pieces.iter().filter_map(|piece| gate.take(piece, &stops)).collect();
            passed.extend(gate.rest());
            let mut whole = Completion::text(pieces.concat());
            cut(&mut whole, &stops);
            prop_assert_eq!(passed, whole.text);
        }
    }
}
