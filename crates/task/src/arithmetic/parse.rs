//! Reads responses: compact chains and chat answers, whatever a model may write.

use super::chain::{MASK, Operator};
use elenchus_trace::Step;

/// A term of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Term {
    /// A number.
    Number(i64),
    /// A variable, as written.
    Name(String),
}

/// One side of an equation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// One term.
    Single(Term),
    /// Two terms and an operator.
    Binary(Term, Operator, Term),
    /// Anything else.
    Other,
}

/// An equation about a variable: `e=50-1=49`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Equation {
    /// Its text and place.
    pub step: Step,
    /// The variable on the left; `None` when the text is no equation about a variable.
    pub name: Option<String>,
    /// The sides behind the first `=`.
    pub parts: Vec<Part>,
}

/// The notation of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// `g=50;e=50-1=49#49`: every piece between `;` must be an equation.
    Compact,
    /// Lines of text with equations among them.
    Chat,
}

impl Voice {
    /// Compact texts have no white space inside.
    pub fn of(response: &str) -> Self {
        let text = response.trim();
        if text.contains(char::is_whitespace) { Voice::Chat } else { Voice::Compact }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number(i64),
    Word,
    Operator(Operator),
    Equals,
    Other,
}

#[derive(Debug, Clone, Copy)]
struct Token {
    kind: Kind,
    start: usize,
    end: usize,
}

/// Splits a text into tokens with byte offsets from `base`. Markup that carries no meaning (`$`, `**`, backticks,
/// braces, LaTeX brackets and font commands) leaves no token.
fn tokens(text: &str, base: usize) -> Vec<Token> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(text.len() / 2);
    let mut at = 0;
    while let Some(character) = text[at..].chars().next() {
        let start = at;
        at += character.len_utf8();
        let kind = match character {
            _ if character.is_whitespace() => continue,
            '$' | '`' | '{' | '}' => continue,
            '*' if bytes.get(at) == Some(&b'*') => {
                at += 1;
                continue;
            }
            '0'..='9' => {
                let (kind, end) = number(bytes, start);
                at = end;
                kind
            }
            '+' => Kind::Operator(Operator::Add),
            '-' | '\u{2212}' | '\u{2013}' => Kind::Operator(Operator::Subtract),
            '*' | '\u{d7}' | '\u{b7}' | '\u{22c5}' => Kind::Operator(Operator::Multiply),
            '/' | '\u{f7}' => Kind::Operator(Operator::Divide),
            '=' => Kind::Equals,
            '_' => Kind::Word,
            '\\' => {
                let length = text[at..].bytes().take_while(u8::is_ascii_alphabetic).count();
                let command = &text[at..at + length];
                at += length;
                match command {
                    "times" | "cdot" => Kind::Operator(Operator::Multiply),
                    "div" => Kind::Operator(Operator::Divide),
                    "" => {
                        // `\(`, `\)`, `\[`, `\]`, `\,`: the bracket goes with the backslash.
                        if let Some(next) = text[at..].chars().next() {
                            at += next.len_utf8();
                        }
                        continue;
                    }
                    "text" | "mathrm" | "mathbf" | "textbf" => continue,
                    _ => Kind::Other,
                }
            }
            _ if character.is_alphabetic() => {
                at += text[at..].chars().take_while(|c| c.is_alphabetic()).map(char::len_utf8).sum::<usize>();
                Kind::Word
            }
            _ => Kind::Other,
        };
        out.push(Token { kind, start: base + start, end: base + at });
    }
    out
}

/// The number that starts at `start`: digits, thousands separators, a fraction of zeros. Anything else with a
/// fraction, and more than 15 digits, is no number here.
fn number(bytes: &[u8], start: usize) -> (Kind, usize) {
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let mut at = start;
    let mut value: i64 = 0;
    let mut length = 0;
    let mut valid = true;
    loop {
        while digit(at) {
            value = value.wrapping_mul(10).wrapping_add(i64::from(bytes[at] - b'0'));
            length += 1;
            at += 1;
        }
        let group = bytes.get(at) == Some(&b',')
            && digit(at + 1)
            && digit(at + 2)
            && digit(at + 3)
            && !digit(at + 4)
            && length <= 12;
        if !group {
            break;
        }
        at += 1;
    }
    if bytes.get(at) == Some(&b'.') && digit(at + 1) {
        at += 1;
        while digit(at) {
            valid &= bytes[at] == b'0';
            at += 1;
        }
    }
    if valid && length <= 15 { (Kind::Number(value), at) } else { (Kind::Other, at) }
}

/// The equations of a response, in order. In the compact voice every piece is one, well-formed or not; in the chat
/// voice prose is passed over, and an equation without any number as its result (a definition restated in letters) is
/// no step.
pub fn equations(response: &str, voice: Voice) -> Vec<Equation> {
    match voice {
        Voice::Compact => compact_equations(response),
        Voice::Chat => chat_equations(response),
    }
}

fn compact_equations(response: &str) -> Vec<Equation> {
    let body = &response[..response.find('#').unwrap_or(response.len())];
    let trimmed = body.trim();
    if !trimmed.contains([';', '=']) {
        return Vec::new();
    }
    let mut out = Vec::new();
    let mut start = 0;
    for piece in body.split(';') {
        let end = start + piece.len();
        let step = Step { text: piece.to_string(), start, end };
        let tokens = tokens(piece, start);
        // A trailing `;` before `#` or at the cut end of a text is no empty step.
        if !(piece.trim().is_empty() && end == body.len()) {
            let whole = match tokens.as_slice() {
                [name, equals, rest @ ..] if name.kind == Kind::Word && equals.kind == Kind::Equals => {
                    let (parts, used) = sides(response, rest, false);
                    (used == rest.len()).then(|| (response[name.start..name.end].to_string(), parts))
                }
                _ => None,
            };
            match whole {
                Some((name, parts)) => out.push(Equation { step, name: Some(name), parts }),
                None => out.push(Equation { step, name: None, parts: Vec::new() }),
            }
        }
        start = end + 1;
    }
    out
}

fn chat_equations(response: &str) -> Vec<Equation> {
    let mut out = Vec::new();
    let mut start = 0;
    for line in response.split(['\n', ';', '#']) {
        let tokens = tokens(line, start);
        start += line.len() + 1;
        let mut at = 0;
        while at + 2 < tokens.len() + 1 {
            let (Some(name), Some(next)) = (tokens.get(at), tokens.get(at + 1)) else { break };
            let verb = next.kind == Kind::Word
                && matches!(
                    &response[next.start..next.end],
                    "has" | "is" | "owns" | "gets" | "have" | "collected"
                );
            let opens = name.kind == Kind::Word && (next.kind == Kind::Equals || verb);
            if !opens {
                at += 1;
                continue;
            }
            let (parts, used) = sides(response, &tokens[at + 2..], true);
            let has_number = parts.iter().any(|part| {
                matches!(
                    part,
                    Part::Single(Term::Number(_)) | Part::Binary(Term::Number(_), _, _) | Part::Other
                )
            });
            // `Bob has 50 - 1 = 49` is a step; `Bob has 1 fewer than Ann` is the problem retold.
            let is_step = used > 0 && has_number && (!verb || parts.len() > 1);
            // `e = g - 1` retells a definition; `e = g - 1 = 49` is a step.
            let retold = matches!(parts.as_slice(), [Part::Binary(left, _, right)]
                if matches!(left, Term::Name(_)) || matches!(right, Term::Name(_)));
            if is_step && !retold {
                let end = tokens.get(at + 1 + used).map_or(next.end, |token| token.end);
                out.push(Equation {
                    step: Step { text: response[name.start..end].to_string(), start: name.start, end },
                    name: Some(response[name.start..name.end].to_string()),
                    parts,
                });
            }
            at += 2 + used.max(usize::from(!verb));
        }
    }
    out
}

/// The sides of an equation from its tokens behind the first `=`, and how many tokens they take. `prose` allows units
/// behind numbers (`50 marbles - 1 marble = 49 marbles`) and words for operators, and stops at what is no equation.
fn sides(response: &str, tokens: &[Token], prose: bool) -> (Vec<Part>, usize) {
    let mut parts = Vec::new();
    let mut at = 0;
    let mut used = 0;
    loop {
        let mut terms: Vec<Term> = Vec::new();
        let mut operators: Vec<Operator> = Vec::new();
        let mut broken = false;
        loop {
            let negative = terms.len() == operators.len()
                && matches!(tokens.get(at).map(|token| token.kind), Some(Kind::Operator(Operator::Subtract)))
                && matches!(tokens.get(at + 1).map(|token| token.kind), Some(Kind::Number(_)));
            if negative {
                at += 1;
            }
            let Some(token) = tokens.get(at) else { break };
            let expects_term = terms.len() == operators.len();
            let word = &response[token.start..token.end];
            match token.kind {
                Kind::Number(value) if expects_term => {
                    terms.push(Term::Number(if negative { -value } else { value }))
                }
                Kind::Operator(operator) if !expects_term => operators.push(operator),
                Kind::Word if prose && !expects_term => match word {
                    "plus" => operators.push(Operator::Add),
                    "minus" => operators.push(Operator::Subtract),
                    "times" => operators.push(Operator::Multiply),
                    // A unit counts as part of the number when the equation goes on behind it.
                    _ if matches!(
                        tokens.get(at + 1).map(|token| token.kind),
                        Some(Kind::Operator(_) | Kind::Equals)
                    ) && matches!(terms.last(), Some(Term::Number(_))) => {}
                    _ => break,
                },
                Kind::Word if expects_term => terms.push(Term::Name(word.to_string())),
                Kind::Equals => break,
                Kind::Other | Kind::Number(_) | Kind::Word | Kind::Operator(_) => {
                    broken = !prose || expects_term;
                    break;
                }
            }
            at += 1;
        }
        let ended = terms.len() != operators.len();
        let part = match (terms.as_slice(), operators.as_slice()) {
            _ if broken || !ended => Part::Other,
            ([term], []) => Part::Single(term.clone()),
            ([left, right], [operator]) => Part::Binary(left.clone(), *operator, right.clone()),
            _ => Part::Other,
        };
        let empty = terms.is_empty() && operators.is_empty();
        if empty && prose {
            break;
        }
        parts.push(part);
        used = at;
        if broken || !matches!(tokens.get(at).map(|token| token.kind), Some(Kind::Equals)) {
            break;
        }
        at += 1;
    }
    (parts, used)
}

/// The name that a written name means: `X` and `_` are the mask.
pub fn canonical_name(name: &str) -> &str {
    if name == "X" { MASK } else { name }
}

/// The number or letter that a response gives as its answer: of `\boxed{…}`, `answer: …` / `answer is …`, and `#…`
/// the one that stands last; or the whole text when it is nothing else.
pub fn answer(response: &str) -> Option<&str> {
    let mut best: Option<(usize, &str)> = None;
    let mut consider = |place: usize, text: Option<&'_ str>| {
        if let Some(text) = text
            && best.is_none_or(|(at, _)| place >= at)
        {
            best =
                Some((place, &response[text.as_ptr() as usize - response.as_ptr() as usize..][..text.len()]));
        }
    };
    if let Some(at) = response.rfind("\\boxed{") {
        let inside = &response[at + 7..];
        consider(at, inside.find('}').and_then(|end| token_at_start(&inside[..end], true)));
    }
    if let Some(at) = response.rfind('#') {
        let rest = response[at + 1..].lines().next().unwrap_or("");
        consider(at, token_at_start(rest, true));
    }
    let mut from = 0;
    while let Some(at) = find_ignoring_case(&response[from..], "answer").map(|at| at + from) {
        let rest = response[at + 6..].lines().next().unwrap_or("");
        let rest = rest.trim_start_matches(|c: char| c.is_whitespace() || "*:_`".contains(c));
        let rest =
            rest.strip_prefix("is").filter(|rest| !rest.starts_with(char::is_alphabetic)).unwrap_or(rest);
        let rest = rest.trim_start_matches(|c: char| c.is_whitespace() || "*:`$(=".contains(c));
        let rest = rest.strip_prefix("\\(").unwrap_or(rest);
        if !rest.starts_with("\\boxed") {
            consider(at, token_at_start(rest, false).or_else(|| last_of_equation(rest)));
        }
        from = at + 6;
    }
    if best.is_none() {
        return token_at_start(response, true);
    }
    best.map(|(_, text)| text)
}

/// `d = 130` behind "answer": the number behind the last `=` of the line.
fn last_of_equation(rest: &str) -> Option<&str> {
    let (_, behind) = rest.rsplit_once('=')?;
    token_at_start(behind, false)
}

fn find_ignoring_case(text: &str, word: &str) -> Option<usize> {
    text.as_bytes().windows(word.len()).position(|window| window.eq_ignore_ascii_case(word.as_bytes()))
}

/// A whole number or a single option letter at the start of a text; `alone` allows only punctuation behind it.
fn token_at_start(text: &str, alone: bool) -> Option<&str> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || "$*`()[]".contains(c));
    let bytes = text.as_bytes();
    let sign = usize::from(bytes.first() == Some(&b'-'));
    let end = if bytes.get(sign).is_some_and(u8::is_ascii_digit) {
        match number(bytes, sign) {
            (Kind::Number(_), end) => end,
            _ => return None,
        }
    } else if bytes.first().is_some_and(|b| (b'A'..=b'D').contains(b)) {
        if bytes.get(1).is_some_and(|b| b.is_ascii_alphanumeric()) {
            return None;
        }
        1
    } else {
        return None;
    };
    let rest = text.get(end..)?;
    let clean = if alone {
        rest.chars().all(|c| c.is_whitespace() || ".,!)*`$]".contains(c))
    } else {
        !rest.starts_with(|c: char| c.is_alphanumeric())
    };
    clean.then(|| &text[..end])
}

/// A number as answers write it: thousands separators and a fraction of zeros are dropped.
pub fn normal_number(text: &str) -> Option<i64> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    match number(digits.as_bytes(), 0) {
        (Kind::Number(value), end) if end == digits.len() => Some(if negative { -value } else { value }),
        _ => None,
    }
}
