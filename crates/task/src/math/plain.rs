//! Plain numbers and arithmetic expressions in running text.

use super::extract::{Body, percent_sign, skip_spaces};

/// Longest plain arithmetic expression, in bytes.
const MAX_ARITHMETIC_BYTES: usize = 200;

/// Signs that may stand before an amount.
const CURRENCIES: &str = "$€£¥₹₽₪₩₫฿₡₢₣₤₥₦₧₨₭₮₯₰₱₲₳₴₵₶₷₸₺₻₼₾₿";

/// Skips what must stand before a plain value: the start of the text, a space or `=`; then bold marks.
pub(super) fn prefix(text: &str, at: usize) -> Vec<usize> {
    let mut out = Vec::new();
    if let Some(c) = text[at..].chars().next()
        && (c.is_whitespace() || c == '=')
    {
        out.push(at + c.len_utf8());
    }
    if at == 0 {
        out.push(0);
    }
    for i in 0..out.len() {
        if text[out[i]..].starts_with("**") {
            out[i] += 2;
        }
    }
    out
}

/// A number behind its prefix, at `at`: with a currency sign, separators, a decimal point or comma, a percent sign.
pub(super) fn number(text: &str, at: usize) -> Option<(Body, usize)> {
    prefix(text, at).into_iter().find_map(|start| {
        let mut i = start;
        if let Some(c) = text[i..].chars().next()
            && CURRENCIES.contains(c)
        {
            i += c.len_utf8();
        }
        let bytes = text.as_bytes();
        let digits =
            |from: usize| bytes[from.min(bytes.len())..].iter().take_while(|b| b.is_ascii_digit()).count();
        let sign = usize::from(bytes.get(i) == Some(&b'-'));
        let first = i + sign;
        let count = digits(first);
        if count == 0 {
            // `.5`
            let fraction = if bytes.get(i) == Some(&b'.') { digits(i + 1) } else { 0 };
            if fraction == 0 {
                return None;
            }
            let end = i + 1 + fraction;
            let (percent, end) = number_percent(text, end);
            return Some((Body::Number(format!("0{}", &text[i..i + 1 + fraction]), percent), end));
        }
        let mut end = first + count;
        let mut value = text[i..end].to_string();
        let grouped = count <= 3
            && bytes[first] != b'0'
            && matches!(bytes.get(end), Some(b' ' | b','))
            && digits(end + 1) >= 3;
        let separated = |e: usize| matches!(bytes.get(e), Some(b' ' | b',')) && digits(e + 1) >= 3;
        if grouped {
            while separated(end) {
                value.push_str(&text[end + 1..end + 4]);
                end += 4;
                if digits(end) > 0 {
                    break;
                }
            }
            if bytes.get(end) == Some(&b'.') && digits(end + 1) > 0 {
                let fraction = digits(end + 1);
                value.push_str(&text[end..end + 1 + fraction]);
                end += 1 + fraction;
            }
        } else if matches!(bytes.get(end), Some(b'.' | b',')) && digits(end + 1) > 0 {
            let fraction = digits(end + 1);
            value.push('.');
            value.push_str(&text[end + 1..end + 1 + fraction]);
            end += 1 + fraction;
        }
        let (percent, end) = number_percent(text, end);
        Some((Body::Number(value, percent), end))
    })
}

fn number_percent(text: &str, at: usize) -> (bool, usize) {
    if text[skip_spaces(text, at)..].starts_with('\\') { (false, at) } else { percent_sign(text, at) }
}

/// An arithmetic expression behind its prefix: starts with a digit, holds an operator, ends before a space or a mark.
pub(super) fn arithmetic(text: &str, at: usize) -> Option<(Body, usize)> {
    let is_operator = |c: char| matches!(c, '+' | '-' | '*' | '×' | '/' | '^' | '(' | ')' | '÷');
    prefix(text, at).into_iter().find_map(|start| {
        let mut i = start;
        for lead in ['-', '(', '-'] {
            if text[i..].starts_with(lead) {
                i += 1;
            }
        }
        if !text[i..].starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let first = i + 1;
        let mut limit = text.len().min(first + MAX_ARITHMETIC_BYTES);
        while !text.is_char_boundary(limit) {
            limit -= 1;
        }
        let run = text[first..limit]
            .find(|c: char| !(c.is_ascii_digit() || c == '.' || c.is_whitespace() || is_operator(c)))
            .map_or(limit, |n| first + n);
        let operator = text[first..run].find(is_operator).map(|n| first + n)?;
        let shortest = operator + text[operator..].chars().next().map_or(1, char::len_utf8);
        // The longest end behind which a mark stands.
        let ends = |e: usize| {
            let tail = text[e..].strip_prefix("**").unwrap_or(&text[e..]);
            tail.is_empty()
                || tail.starts_with(|c: char| c.is_whitespace() || matches!(c, '.' | ',' | ':' | ')' | '$'))
        };
        let mut end = run;
        while end > shortest {
            if ends(end) {
                return Some((Body::Arithmetic(start..end), end));
            }
            end -= 1;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
        }
        None
    })
}
