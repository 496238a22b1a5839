//! Streams that tell what they cost although their client did not ask: the upstream is asked to count
//! (`stream_options.include_usage`), and the piece with the count is taken out on its way to the client.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// An event that grows beyond this is none of a count, and is passed on as it comes.
const MOST_HELD_BYTES: usize = 64 << 10;

/// The request with the wish for a count; `None` where the client has that wish itself, or where nothing can be added.
pub(crate) fn asking(body: &Bytes, options: Option<&RawValue>) -> Option<Bytes> {
    let Some(options) = options else {
        // Everything else stays as it is, byte for byte.
        let at = body.iter().position(|&byte| byte == b'{')? + 1;
        let mut asking = body[..at].to_vec();
        asking.extend_from_slice(br#""stream_options":{"include_usage":true},"#);
        asking.extend_from_slice(&body[at..]);
        return Some(asking.into());
    };
    let mut options: Map<String, Value> = serde_json::from_str(options.get()).ok()?;
    if options.get("include_usage") == Some(&json!(true)) {
        return None;
    }
    options.insert("include_usage".into(), true.into());
    let mut fields: Map<String, Value> = serde_json::from_slice(body).ok()?;
    fields.insert("stream_options".into(), options.into());
    Some(Value::Object(fields).to_string().into())
}

/// Whether an event holds a count and nothing else.
fn is_count(event: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Chunk {
        choices: Vec<IgnoredAny>,
        usage: Option<IgnoredAny>,
    }
    let mut data = event.split(|&byte| byte == b'\n').filter_map(|line| line.strip_prefix(b"data:"));
    let (Some(data), None) = (data.next(), data.next()) else { return false };
    // Most events have choices, and none of those is read as a whole.
    let data = data.trim_ascii();
    data.windows(7).any(|word| word == b"\"usage\"")
        && serde_json::from_slice::<Chunk>(data)
            .is_ok_and(|chunk| chunk.choices.is_empty() && chunk.usage.is_some())
}

/// The length of the first event with the empty line behind it.
fn event_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(line) = bytes[at..].iter().position(|&byte| byte == b'\n') {
        let is_empty = matches!(&bytes[at..at + line], [] | [b'\r']);
        at += line + 1;
        if is_empty {
            return Some(at);
        }
    }
    None
}

/// Takes the count out of a stream. Only an event that is not complete waits; whole ones go on at once.
#[derive(Debug, Default)]
pub(crate) struct WithoutCount {
    held: Vec<u8>,
}

impl WithoutCount {
    /// What of a piece goes on now.
    pub fn pass(&mut self, piece: &[u8]) -> Bytes {
        self.held.extend_from_slice(piece);
        let mut on = Vec::with_capacity(self.held.len());
        let mut rest: &[u8] = &self.held;
        while let Some(end) = event_end(rest) {
            let (event, behind) = rest.split_at(end);
            if !is_count(event) {
                on.extend_from_slice(event);
            }
            rest = behind;
        }
        if rest.len() > MOST_HELD_BYTES {
            on.extend_from_slice(rest);
            rest = &[];
        }
        self.held = rest.to_vec();
        on.into()
    }

    /// What is held at the end.
    pub fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.held).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.into()).unwrap()
    }

    #[test]
    fn the_wish_is_added_and_the_rest_stays() {
        let body = Bytes::from_static(b" { \"a\":1.50, \"stream\":true}");
        let asking = |options: Option<&RawValue>| super::asking(&body, options);
        assert_eq!(
            asking(None).unwrap(),
            " {\"stream_options\":{\"include_usage\":true}, \"a\":1.50, \"stream\":true}"
        );
        assert_eq!(asking(Some(&options(r#"{"include_usage": true}"#))), None, "it asked");
        assert_eq!(asking(Some(&options("3"))), None, "the upstream shall refuse it");
        let with: Value =
            serde_json::from_slice(&asking(Some(&options(r#"{"include_usage": false, "x": 1}"#))).unwrap())
                .unwrap();
        assert_eq!(with["stream_options"], json!({"include_usage": true, "x": 1}));
    }

    #[test]
    fn only_the_count_is_taken_out_wherever_the_stream_is_cut() {
        let word = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}],\"usage\":null}\n\n";
        let count = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\r\n\r\n";
        let filter = "data: {\"choices\":[],\"prompt_filter_results\":[{\"usage\":1}]}\n\n";
        let stream = [": hello\n\n", word, filter, count, "data: [DONE]\n\n", "data: {\"cut"].concat();
        let wanted = stream.replace(count, "");
        for size in [1, 2, 7, 50, 1000] {
            let mut filter = WithoutCount::default();
            let mut on: Vec<u8> =
                stream.as_bytes().chunks(size).flat_map(|piece| filter.pass(piece)).collect();
            on.extend_from_slice(&filter.rest());
            assert_eq!(String::from_utf8(on).unwrap(), wanted, "pieces of {size}");
        }
        let mut filter = WithoutCount::default();
        assert_eq!(filter.pass(word.as_bytes()), word, "a whole event does not wait");
        let long = vec![b'x'; MOST_HELD_BYTES + 1];
        assert_eq!(filter.pass(&long), long, "and what is none is not gathered");
    }
}
