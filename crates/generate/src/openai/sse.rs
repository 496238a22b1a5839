//! Server-sent events, byte by byte (WHATWG HTML, section 9.2).

use std::fmt;

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseEvent {
    /// The `event` field; empty when absent.
    pub event: String,
    /// The `data` lines, joined by newlines.
    pub data: String,
}

/// What a parser refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SseError {
    /// A field is not UTF-8.
    Utf8,
    /// One event is larger than the bound.
    TooLong {
        /// The bound in bytes.
        most_bytes: usize,
    },
}

impl fmt::Display for SseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SseError::Utf8 => write!(f, "the stream holds bytes that are not UTF-8"),
            SseError::TooLong { most_bytes } => write!(f, "one event is longer than {most_bytes} bytes"),
        }
    }
}

/// Divides bytes into events, however they are cut into chunks.
///
/// Lines end in LF, CR LF or CR. Comments, `id`, `retry` and unknown fields are skipped; a byte order mark at the
/// beginning too. An event that the stream ends in the middle of is not reported, as the standard wants it.
#[derive(Debug)]
pub struct SseParser {
    most_bytes: usize,
    line: Vec<u8>,
    event: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// The last byte was CR: an LF that follows belongs to it.
    after_cr: bool,
    first_line: bool,
}

impl SseParser {
    /// A parser that refuses events of more than `most_bytes` bytes.
    pub fn new(most_bytes: usize) -> Self {
        SseParser {
            most_bytes,
            line: Vec::new(),
            event: Vec::new(),
            data: Vec::new(),
            has_data: false,
            after_cr: false,
            first_line: true,
        }
    }

    /// Takes the next bytes and adds the events that they complete to `events`.
    pub fn feed(&mut self, bytes: &[u8], events: &mut Vec<SseEvent>) -> Result<(), SseError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_cr) && rest[0] == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let Some(end) = rest.iter().position(|&byte| byte == b'\n' || byte == b'\r') else {
                self.line.extend_from_slice(rest);
                return self.check_length();
            };
            self.line.extend_from_slice(&rest[..end]);
            self.check_length()?;
            self.after_cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            self.end_line(events)?;
        }
        Ok(())
    }

    fn check_length(&self) -> Result<(), SseError> {
        if self.line.len() + self.data.len() > self.most_bytes {
            return Err(SseError::TooLong { most_bytes: self.most_bytes });
        }
        Ok(())
    }

    fn end_line(&mut self, events: &mut Vec<SseEvent>) -> Result<(), SseError> {
        let mut line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.first_line) && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            let data = std::mem::take(&mut self.data);
            if std::mem::take(&mut self.has_data) {
                let text = |bytes| String::from_utf8(bytes).map_err(|_| SseError::Utf8);
                events.push(SseEvent { event: text(event)?, data: text(data)? });
            }
        } else {
            let colon = line.iter().position(|&byte| byte == b':');
            let (field, value) = match colon {
                Some(at) => (&line[..at], &line[at + 1..]),
                None => (&line[..], &[][..]),
            };
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match field {
                b"data" => {
                    if self.has_data {
                        self.data.push(b'\n');
                    }
                    self.has_data = true;
                    self.data.extend_from_slice(value);
                }
                b"event" => self.event = value.to_vec(),
                _ => {}
            }
        }
        line.clear();
        self.line = line;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(chunks: &[&[u8]]) -> Vec<SseEvent> {
        let mut parser = SseParser::new(1 << 20);
        let mut events = Vec::new();
        for chunk in chunks {
            parser.feed(chunk, &mut events).unwrap();
        }
        events
    }

    fn data(events: &[SseEvent]) -> Vec<&str> {
        events.iter().map(|event| event.data.as_str()).collect()
    }

    #[test]
    fn comments_fields_and_line_ends_follow_the_standard() {
        let text = b"\xef\xbb\xbfdata: one\r\n\r\n: ping\n\ndata:two\ndata: three\rid: 7\r\rdata\n\nevent: error\ndata: {}\n\ndata: cut";
        let events = parse(&[text]);
        assert_eq!(data(&events), ["one", "two\nthree", "", "{}"]);
        assert_eq!(events[3].event, "error", "the name of an event is kept");
    }

    #[test]
    fn a_line_end_cut_in_two_is_one_line_end() {
        assert_eq!(data(&parse(&[b"data: a\r", b"\n\r", b"\ndata: b\r\n\r\n"])), ["a", "b"]);
    }

    #[test]
    fn bounds_and_encoding_are_checked() {
        let mut parser = SseParser::new(10);
        let long = parser.feed(b"data: 0123456789", &mut Vec::new());
        assert_eq!(long, Err(SseError::TooLong { most_bytes: 10 }));
        let mut parser = SseParser::new(100);
        assert_eq!(parser.feed(b"data: \xff\n\n", &mut Vec::new()), Err(SseError::Utf8));
    }

    proptest! {
        /// However the bytes arrive, the events are the same.
        #[test]
        fn chunking_changes_nothing(
            lines in proptest::collection::vec("(data|event|id|:|)[: ]{0,2}[a-zé😀]{0,6}", 0..20),
            ends in proptest::collection::vec(prop_oneof![Just("\n"), Just("\r\n"), Just("\r")], 20),
            cuts in proptest::collection::vec(0usize..200, 0..12),
        ) {
            let text: String = lines.iter().zip(&ends).map(|(line, end)| format!("{line}{end}")).collect();
            let text = format!("{text}\n\ndata: last\n\n");
            let bytes = text.as_bytes();
            let whole = parse(&[bytes]);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(&parse(&chunks), &whole);
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(&parse(&single), &whole);
            prop_assert_eq!(whole.last().map(|event| event.data.as_str()), Some("last"));
        }
    }
}
