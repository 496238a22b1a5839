//! Finding the answer in a text.
//!
//! Patterns stand in order of priority; of one priority the match that ends last is tried first, and the first match
//! that parses is the answer. A pattern is an anchor ("final answer is", "answer:", "answer", nothing) before a LaTeX
//! environment, a plain number or arithmetic expression, or one of a few strings.

use super::expression::{Comparison, Expression};
use super::normalize::{Boxes, normalize};
use super::options::{Extractor, Options};
use super::parser::{number_value, parse, parse_arithmetic};
use super::plain::{arithmetic, number, prefix};

/// Most LaTeX environments that "and", "or" and commas join into one answer.
const MAX_JOINED: usize = 6;
/// Most bytes of a text that are searched, from its end.
const MAX_TEXT_BYTES: usize = 200_000;
/// Most candidates of one priority that are parsed.
const MAX_CANDIDATES: usize = 64;
/// Longest body of an environment, in bytes.
const MAX_BODY_BYTES: usize = 4_000;
/// Most anchors ("answer", …) behind which an answer is looked for, from the end of the text.
const MAX_ANCHORS: usize = 256;

/// An answer that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extraction {
    /// The answer as written, cleaned of boxes, units and marks.
    pub text: String,
    /// What it says, when it parses.
    pub(super) value: Option<Expression>,
}

/// Finds the answer in a response or a bare answer; `None` when there is none.
///
/// When several places qualify, the order is: "final answer is … I hope", boxes (at their priority), "final answer is",
/// "answer:", "answer", then anywhere; and the last place wins.
pub fn extract(text: &str, options: &Options) -> Option<Extraction> {
    let text = tail(text);
    if options.bare {
        if let Some(answer) = marked(text) {
            return extract(answer, options);
        }
        if !is_response(text) {
            return whole(text, options);
        }
    }
    let found = search(text, options);
    if found.is_none() && options.bare && !text.trim().is_empty() && text.len() < 200 {
        return whole(text, options);
    }
    found
}

/// The strings that the string extractor finds: as written, and in the case asked for.
pub fn extract_string(text: &str, options: &Options) -> Option<(String, String)> {
    let mut only = options.clone();
    only.extract = vec![Extractor::String];
    only.bare = false;
    let found = search(tail(text), &only)?;
    let normal = if options.lowercase { found.text.to_lowercase() } else { found.text.clone() };
    Some((normal, found.text))
}

fn tail(text: &str) -> &str {
    let mut start = text.len().saturating_sub(MAX_TEXT_BYTES);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

/// GSM8K's mark: what follows the last `####`.
fn marked(text: &str) -> Option<&str> {
    let (_, behind) = text.rsplit_once("####")?;
    let line = behind.trim().lines().next()?.trim();
    (!line.is_empty()).then_some(line)
}

/// Whether a text is a response that holds an answer rather than the answer itself.
fn is_response(text: &str) -> bool {
    if text.contains("\\boxed") || text.contains("\\fbox") || find_ignoring_case(text, 0, "answer").is_some()
    {
        return true;
    }
    let bytes = text.as_bytes();
    if (0..bytes.len()).any(|i| matches!(bytes[i], b'$' | b'\\') && delimited(text, i).is_some()) {
        return true;
    }
    // Prose: several words of three letters or more with spaces between them, outside of commands.
    let words = text
        .split_whitespace()
        .filter(|w| w.len() >= 3 && w.chars().all(|c| c.is_alphabetic() || matches!(c, ',' | '.' | '\'')))
        .count();
    words >= 4 || text.trim().lines().count() > 3 && !text.contains("\\begin")
}

/// A text as one LaTeX expression.
fn whole(text: &str, options: &Options) -> Option<Extraction> {
    let clean = normalize(text, Boxes::All);
    if text.trim().is_empty() {
        return None;
    }
    let value = parse_lenient(&clean, options).or_else(|| {
        // A plain number with what we do not understand around it.
        let dollar = format!("${}$", text.trim());
        let mut candidates = Vec::new();
        expressions(&dollar, Anchor::None, &mut candidates);
        candidates.sort_by_key(|c| (std::cmp::Reverse(c.end), c.start));
        candidates.into_iter().take(MAX_CANDIDATES).find_map(|c| c.read(&dollar, options).value)
    });
    let text = if clean.is_empty() { text.trim().to_string() } else { clean };
    Some(Extraction { text, value })
}

/// Parses; a chain of equations that does not parse is tried at its last side.
fn parse_lenient(clean: &str, options: &Options) -> Option<Expression> {
    // `= a = b` continues something: its value is `b`.
    let continued = clean.trim_start().starts_with('=');
    let clean = clean.trim_start_matches(|c: char| c == '=' || c.is_whitespace());
    if let Ok(value) = parse(clean, options.scientific) {
        return Some(match value {
            Expression::Relation(mut terms, signs)
                if continued && signs.iter().all(|s| *s == Comparison::Equal) && !terms.is_empty() =>
            {
                terms.remove(terms.len() - 1)
            }
            other => other,
        });
    }
    if clean.contains([',', ';']) {
        return None;
    }
    let bytes = clean.as_bytes();
    let signs: Vec<usize> = (0..bytes.len())
        .filter(|&i| bytes[i] == b'=' && !(i > 0 && matches!(bytes[i - 1], b'\\' | b'<' | b'!' | b'>')))
        .collect();
    if signs.len() < 2 {
        return None;
    }
    let last = *signs.last()?;
    parse(&clean[last + 1..], options.scientific).ok()
}

#[derive(Clone, Copy, PartialEq)]
enum Anchor {
    /// "final answer is … I hope".
    FinalHope,
    /// "final answer … is".
    Final,
    /// "answer:".
    AnswerColon,
    /// "answer".
    Answer,
    /// Nothing.
    None,
    /// The start of the text (strings only).
    Start,
}

/// What a pattern found.
pub(super) enum Body {
    /// LaTeX bodies with whether a percent sign follows.
    Latex(Vec<(std::ops::Range<usize>, bool)>),
    /// From the first plain box to the last brace.
    PlainBox,
    /// A plain number: text, percent.
    Number(String, bool),
    /// A plain arithmetic expression.
    Arithmetic(std::ops::Range<usize>),
    /// A string.
    Word(String),
}

struct Candidate {
    start: usize,
    end: usize,
    body: Body,
}

impl Candidate {
    fn read(&self, text: &str, options: &Options) -> Extraction {
        match &self.body {
            Body::Word(word) => {
                let normal = if options.lowercase { word.to_lowercase() } else { word.clone() };
                Extraction { text: word.clone(), value: Some(Expression::Symbol(format!("string {normal}"))) }
            }
            Body::Number(number, percent) => {
                let value = number_value(number).map(|value| {
                    let e = if number.contains('.') {
                        Expression::Decimal(value)
                    } else {
                        Expression::Number(value)
                    };
                    if *percent { Expression::Percent(Box::new(e)) } else { e }
                });
                Extraction { text: number.clone(), value }
            }
            Body::Arithmetic(range) => {
                let source = text[range.clone()].replace('\n', " ");
                Extraction { value: parse_arithmetic(&source).ok(), text: source.trim().to_string() }
            }
            Body::PlainBox => latex(&[(&text[self.start..self.end], false)], Boxes::Last, options),
            Body::Latex(parts) => {
                let parts: Vec<(&str, bool)> = parts.iter().map(|(r, p)| (&text[r.clone()], *p)).collect();
                latex(&parts, Boxes::All, options)
            }
        }
    }
}

fn latex(parts: &[(&str, bool)], boxes: Boxes, options: &Options) -> Extraction {
    let cleaned: Vec<String> = parts.iter().map(|(part, _)| normalize(part, boxes)).collect();
    let mut values = Vec::new();
    for (clean, (_, percent)) in cleaned.iter().zip(parts) {
        let value = parse_lenient(clean, options);
        values.push(value.map(|v| if *percent { Expression::Percent(Box::new(v)) } else { v }));
    }
    if values.len() > 1 && values.iter().all(Option::is_some) {
        let mut all = Vec::new();
        for value in values.into_iter().flatten() {
            match value {
                Expression::Set(elements) => all.extend(elements),
                other => all.push(other),
            }
        }
        return Extraction { text: cleaned.join(" and "), value: Some(Expression::Set(all)) };
    }
    let first = cleaned.into_iter().next().unwrap_or_default();
    Extraction { text: first, value: values.into_iter().next().flatten() }
}

fn search(text: &str, options: &Options) -> Option<Extraction> {
    let has = |e: Extractor| options.extract.contains(&e);
    let boxed = options.boxed_match_priority;
    let mut priorities = vec![0, 50, 100, 200, 250, 300];
    if boxed >= 0 && !priorities.contains(&boxed) {
        priorities.push(boxed);
        priorities.sort_unstable();
    }
    let mut fallback: Option<Extraction> = None;
    for priority in priorities {
        let mut found = Vec::new();
        let anchor = match priority {
            0 => Some(Anchor::FinalHope),
            50 => Some(Anchor::Final),
            100 => Some(Anchor::AnswerColon),
            200 => Some(Anchor::Answer),
            250 => Some(Anchor::Start),
            300 => Some(Anchor::None),
            _ => None,
        };
        // In the order of the extractors, which decides between matches of the same extent.
        for extractor in &options.extract {
            match (extractor, anchor) {
                (Extractor::Latex, anchor) => {
                    if let Some(anchor) = anchor.filter(|a| *a != Anchor::Start) {
                        anchored(text, anchor, &mut found, |t, at| environments(t, at, false));
                    }
                    if priority == boxed && has(Extractor::Latex) {
                        boxes(text, &mut found);
                    }
                }
                (Extractor::Expr, Some(anchor)) if anchor != Anchor::Start => {
                    expressions(text, anchor, &mut found);
                }
                (Extractor::String, Some(anchor)) => strings(text, anchor, &options.strings, &mut found),
                _ => {}
            }
        }
        // The match that ends last first; of those the longest.
        found.sort_by_key(|c| (std::cmp::Reverse(c.end), c.start));
        for candidate in found.into_iter().take(MAX_CANDIDATES) {
            let extraction = candidate.read(text, options);
            if extraction.value.is_some() {
                // What was tried first stays the text to compare when the values cannot be.
                let text = fallback.map_or(extraction.text, |f| f.text);
                return Some(Extraction { text, value: extraction.value });
            }
            if fallback.is_none() && !extraction.text.is_empty() {
                fallback = Some(extraction);
            }
        }
    }
    fallback
}

/// First place at or behind `from` where a word stands, in any case.
fn find_ignoring_case(text: &str, from: usize, word: &str) -> Option<usize> {
    let (hay, needle) = (text.as_bytes(), word.as_bytes());
    (from..(hay.len() + 1).saturating_sub(needle.len()))
        .find(|&i| hay[i..i + needle.len()].eq_ignore_ascii_case(needle))
}

/// Where the last `MAX_ANCHORS` anchors begin.
fn first_anchor(text: &str, anchor: Anchor) -> usize {
    if matches!(anchor, Anchor::None | Anchor::Start) {
        return 0;
    }
    let word = anchor_word(anchor).as_bytes();
    let bytes = text.as_bytes();
    let mut left = MAX_ANCHORS;
    for at in (0..(bytes.len() + 1).saturating_sub(word.len())).rev() {
        if bytes[at..at + word.len()].eq_ignore_ascii_case(word) {
            left -= 1;
            if left == 0 {
                return at;
            }
        }
    }
    0
}

/// The first position from `at` on that holds no space.
pub(super) fn skip_spaces(text: &str, at: usize) -> usize {
    at + (text[at..].len() - text[at..].trim_start().len())
}

/// Positions from `at` on, at most `limit` characters away, in order.
fn within(text: &str, at: usize, limit: usize, lines: bool) -> impl Iterator<Item = usize> + '_ {
    let mut stopped = false;
    text[at..]
        .char_indices()
        .map(move |(i, c)| (at + i, c))
        .chain(std::iter::once((text.len(), ' ')))
        .take(limit + 1)
        .take_while(move |(_, c)| {
            let go = !stopped;
            stopped |= lines && *c == '\n';
            go
        })
        .map(|(i, _)| i)
}

/// Where the answer may begin behind an anchor at `at`: positions in the order in which they are tried.
fn starts(text: &str, anchor: Anchor, at: usize, lines: bool) -> Vec<usize> {
    match anchor {
        Anchor::FinalHope => {
            let behind = at + "final answer is".len();
            let colon = behind + usize::from(text[behind..].starts_with(':'));
            vec![skip_spaces(text, colon)]
        }
        Anchor::Final => {
            let behind = at + "final answer".len();
            within(text, behind, 100, lines)
                .filter_map(|i| {
                    let spaced = skip_spaces(text, i);
                    let tail = text[spaced..].strip_prefix("is")?;
                    if spaced == i {
                        return None;
                    }
                    let behind = spaced + 2 + usize::from(tail.starts_with(':'));
                    Some(skip_spaces(text, behind))
                })
                .collect()
        }
        Anchor::AnswerColon => {
            let behind = at + "answer".len();
            if !text[behind..].starts_with(':') {
                return Vec::new();
            }
            within(text, behind + 1, 50, lines).collect()
        }
        Anchor::Answer => within(text, at + "answer".len(), 50, lines).collect(),
        Anchor::None | Anchor::Start => vec![at],
    }
}

fn anchor_word(anchor: Anchor) -> &'static str {
    match anchor {
        Anchor::FinalHope => "final answer is",
        Anchor::Final => "final answer",
        _ => "answer",
    }
}

/// Whether "I hope" follows, as the first pattern wants it.
fn hopes(text: &str, end: usize) -> Option<usize> {
    let tail = &text[end..];
    let tail = tail.strip_prefix('.').unwrap_or(tail);
    let tail = tail.strip_prefix(char::is_whitespace).unwrap_or(tail);
    tail.starts_with("I hope").then(|| text.len() - tail.len() + "I hope".len())
}

/// All matches of an anchor with a body behind it, left to right, without overlap.
fn anchored(
    text: &str,
    anchor: Anchor,
    found: &mut Vec<Candidate>,
    body: impl Fn(&str, usize) -> Option<(Body, usize)>,
) {
    let mut at = first_anchor(text, anchor);
    while at <= text.len() {
        let place =
            if anchor == Anchor::None { Some(at) } else { find_ignoring_case(text, at, anchor_word(anchor)) };
        let Some(place) = place else { return };
        let mut matched = None;
        for start in starts(text, anchor, place, false) {
            if !text.is_char_boundary(start) {
                continue;
            }
            if let Some((content, end)) = body(text, start) {
                let end = if anchor == Anchor::FinalHope { hopes(text, end) } else { Some(end) };
                if let Some(end) = end {
                    matched = Some((content, end));
                    break;
                }
            }
        }
        match matched {
            Some((body, end)) => {
                found.push(Candidate { start: place, end, body });
                at = end.max(place + 1);
            }
            None => at = place + 1,
        }
        while at < text.len() && !text.is_char_boundary(at) {
            at += 1;
        }
    }
}

/// A LaTeX environment between delimiters that starts at `at`: its body and the position behind.
fn delimited(text: &str, at: usize) -> Option<(std::ops::Range<usize>, usize)> {
    let bytes = text.as_bytes();
    let before = at.checked_sub(1).map(|i| bytes[i]);
    let rest = &text[at..];
    let escaped = |i: usize| i > 0 && bytes[i - 1] == b'\\';
    let limit = text.len().min(at + MAX_BODY_BYTES);
    let close = |from: usize, mark: &[u8], lines: bool| -> Option<usize> {
        let mut i = from;
        while i + mark.len() <= limit {
            if lines && bytes[i] == b'\n' {
                return None;
            }
            if &bytes[i..i + mark.len()] == mark && i > from && !escaped(i) {
                return Some(i);
            }
            i += 1;
        }
        None
    };
    if before == Some(b'\\') {
        return None;
    }
    if rest.starts_with("$$")
        && let Some(end) = close(at + 2, b"$$", false)
    {
        return Some((at + 2..end, end + 2));
    }
    if rest.starts_with("\\[")
        && let Some(end) = close(at + 2, b"\\]", false)
    {
        return Some((at + 2..end, end + 2));
    }
    if rest.starts_with('$')
        && !before.is_some_and(|b| b.is_ascii_digit())
        && let Some(end) = close(at + 1, b"$", true)
    {
        return Some((at + 1..end, end + 1));
    }
    if rest.starts_with("\\(")
        && let Some(end) = close(at + 2, b"\\)", true)
    {
        return Some((at + 2..end, end + 2));
    }
    None
}

/// Any environment at `at`, also ` [ … ] ` and a bare fraction of numbers.
fn environment(text: &str, at: usize, boxed: bool) -> Option<(std::ops::Range<usize>, usize, bool)> {
    let bytes = text.as_bytes();
    let first = *bytes.get(at)?;
    let (body, end) = match first {
        b'$' | b'\\' => match delimited(text, at) {
            Some(found) => found,
            None if !boxed => bare_fraction(text, at)?,
            None => return None,
        },
        b'-' if !boxed => bare_fraction(text, at)?,
        b' ' | b'\n' | b'\t' if bytes.get(at + 1) == Some(&b'[') => {
            let close = at + 2 + text[at + 2..].find(['[', ']', '\n'])?;
            let spaced = bytes.get(close + 1).is_some_and(u8::is_ascii_whitespace);
            if bytes[close] != b']' || !spaced || close == at + 2 {
                return None;
            }
            (at + 2..close, close + 2)
        }
        _ => return None,
    };
    if boxed && !text[body.clone()].contains("\\boxed{") {
        return None;
    }
    let (percent, end) = percent_sign(text, end);
    Some((body, end, percent))
}

/// Whether a percent sign or word follows, and the position behind it.
pub(super) fn percent_sign(text: &str, at: usize) -> (bool, usize) {
    let spaced = skip_spaces(text, at);
    for word in ["\\%", "%", "percentage", "Percentage", "percent", "Percent", "pct", "Pct"] {
        if text[spaced..].starts_with(word) {
            return (true, spaced + word.len());
        }
    }
    (false, at)
}

/// `-?\frac{number}{number}`.
fn bare_fraction(text: &str, at: usize) -> Option<(std::ops::Range<usize>, usize)> {
    let mut i = at + usize::from(text[at..].starts_with('-'));
    if !text[i..].starts_with("\\frac") {
        return None;
    }
    i += "\\frac".len();
    for _ in 0..2 {
        let tail = text[i..].strip_prefix('{')?;
        let close = tail.find('}')?;
        let number = tail[..close].strip_prefix('-').unwrap_or(&tail[..close]);
        let (whole, fraction) = number.split_once(['.', ',']).unwrap_or((number, "0"));
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return None;
        }
        i += close + 2;
    }
    Some((at..i, i))
}

/// One environment at `at`, with those that "and", "or" or a comma joins to it.
fn environments(text: &str, at: usize, boxed: bool) -> Option<(Body, usize)> {
    let (body, mut end, percent) = environment(text, at, boxed)?;
    let mut parts = vec![(body, percent)];
    while parts.len() < MAX_JOINED {
        let joint = skip_spaces(text, end);
        let tail = &text[joint..];
        let word = [",and", ",or", "and", "or", ","].iter().find(|w| tail.starts_with(**w));
        let Some(word) = word else { break };
        let next = skip_spaces(text, joint + word.len());
        let Some((body, behind, percent)) = environment(text, next, boxed) else { break };
        parts.push((body, percent));
        end = behind;
    }
    Some((Body::Latex(parts), end))
}

fn boxes(text: &str, found: &mut Vec<Candidate>) {
    if !text.contains("\\boxed{") {
        return;
    }
    anchored(text, Anchor::None, found, |t, at| environments(t, at, true));
    if let (Some(start), Some(end)) = (text.find("\\boxed{"), text.rfind('}'))
        && end > start + "\\boxed{".len()
    {
        found.push(Candidate { start, end: end + 1, body: Body::PlainBox });
    }
}

fn expressions(text: &str, anchor: Anchor, found: &mut Vec<Candidate>) {
    if anchor == Anchor::None {
        scan(text, found, arithmetic);
        scan(text, found, number);
        return;
    }
    let word = anchor_word(anchor);
    let mut at = first_anchor(text, anchor);
    while let Some(place) = find_ignoring_case(text, at, word) {
        let mut matched = None;
        let mut order = Vec::new();
        if matches!(anchor, Anchor::Answer | Anchor::AnswerColon) {
            // Behind the last equals sign of the line, within 100 characters.
            let behind = place + word.len() + usize::from(anchor == Anchor::AnswerColon);
            if anchor == Anchor::Answer || text[place + word.len()..].starts_with(':') {
                let mut equals: Vec<usize> = within(text, behind, 100, true)
                    .filter(|&i| text[i..].starts_with('='))
                    .map(|i| skip_spaces(text, i + 1))
                    .collect();
                equals.reverse();
                order.extend(equals);
            }
        }
        order.extend(starts(text, anchor, place, true));
        for start in order {
            // The prefix of a number is a space, an equals sign or the start of the text.
            for near in [start, start.saturating_sub(1)] {
                if near < place || !text.is_char_boundary(near) {
                    continue;
                }
                if let Some((body, end)) = arithmetic(text, near).or_else(|| number(text, near)) {
                    let follows = text[end..].trim_start().starts_with('=');
                    let end = match anchor {
                        Anchor::FinalHope => hopes(text, end),
                        Anchor::Answer | Anchor::AnswerColon if follows => None,
                        _ => Some(end),
                    };
                    if let Some(end) = end {
                        matched = Some((body, end));
                        break;
                    }
                }
            }
            if matched.is_some() {
                break;
            }
        }
        at = match matched {
            Some((body, end)) => {
                found.push(Candidate { start: place, end, body });
                end.max(place + 1)
            }
            None => place + 1,
        };
    }
}

fn scan(text: &str, found: &mut Vec<Candidate>, body: impl Fn(&str, usize) -> Option<(Body, usize)>) {
    let mut at = 0;
    while at < text.len() {
        if let Some((body, end)) = body(text, at) {
            found.push(Candidate { start: at, end, body });
            at = end.max(at + 1);
        } else {
            at += 1;
        }
        while at < text.len() && !text.is_char_boundary(at) {
            at += 1;
        }
    }
}

fn strings(text: &str, anchor: Anchor, words: &[String], found: &mut Vec<Candidate>) {
    let key = |at: usize| words.iter().find(|w| !w.is_empty() && text[at..].starts_with(w.as_str()));
    let closes = |at: usize| {
        let tail = text[at..].strip_prefix("**").unwrap_or(&text[at..]);
        let ends =
            tail.is_empty() || tail.starts_with(|c: char| c.is_whitespace() || matches!(c, '.' | ',' | ':'));
        ends.then(|| at + (text[at..].len() - tail.len()) + tail.chars().next().map_or(0, char::len_utf8))
    };
    let word_at = |at: usize| -> Option<(Body, usize)> {
        prefix(text, at).into_iter().filter(|s| *s == 0 || !text[at..].starts_with('=')).find_map(|start| {
            let word = key(start)?;
            Some((Body::Word(word.clone()), closes(start + word.len())?))
        })
    };
    match anchor {
        Anchor::None => scan(text, found, |_, at| word_at(at)),
        Anchor::Start => {
            let start = if text.starts_with("**") { 2 } else { 0 };
            if let Some(word) = key(start)
                && let Some(end) = closes(start + word.len())
            {
                found.push(Candidate { start: 0, end, body: Body::Word(word.clone()) });
            }
        }
        Anchor::FinalHope | Anchor::Final => anchored(text, anchor, found, |_, at| {
            let word = key(at)?;
            Some((Body::Word(word.clone()), at + word.len()))
        }),
        Anchor::AnswerColon | Anchor::Answer => anchored(text, anchor, found, |_, at| word_at(at)),
    }
}
