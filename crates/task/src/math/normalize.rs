//! Text clean-up before parsing: boxes, words, units, percent words, thousands separators.

/// Words of units that may follow a value; an `s` or `es` may follow them. Sorted when first used: longest first.
const UNIT_WORDS: &[&str] = &[
    "acre",
    "am",
    "apple",
    "cent",
    "centimeter",
    "centimetre",
    "cm",
    "coin",
    "cubic",
    "cup",
    "day",
    "degree",
    "deg",
    "digit",
    "dm",
    "dollar",
    "edge",
    "feet",
    "foot",
    "ft",
    "gallon",
    "gal",
    "gm",
    "gram",
    "hectare",
    "hour",
    "hr",
    "inch",
    "inches",
    "integer point",
    "kg",
    "kilogram",
    "kilometer",
    "kilometre",
    "km",
    "kmh",
    "kmph",
    "lb",
    "liter",
    "litre",
    "loss",
    "mark",
    "meal",
    "men",
    "man",
    "women",
    "woman",
    "meter",
    "metre",
    "mile",
    "min",
    "minute",
    "ml",
    "mm",
    "month",
    "mph",
    "mtr",
    "number",
    "ohm",
    "ounce",
    "oz",
    "people",
    "person",
    "pie",
    "pm",
    "point",
    "pound",
    "profit",
    "rupee",
    "rs",
    "second",
    "sec",
    "soldier",
    "square",
    "sq",
    "student",
    "tile",
    "toy",
    "unit",
    "week",
    "yard",
    "year",
    "yr",
    "way",
    "hectares",
    "monkey",
    "multiple",
    "prime",
    "round",
    "ratio",
    "increase",
    "decrease",
    "gain",
    "more",
    "less",
    "m",
    "g",
    "s",
    "h",
    "l",
    "d",
    "c",
    "t",
];

/// Units of one letter, which are also names of variables.
const LETTER_UNIT_LENGTH: usize = 1;

/// Which of several boxes count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Boxes {
    /// All of them, joined by commas.
    All,
    /// The last, with those close before it.
    Last,
}

/// The content between a `{` at `open` and its `}`, with the position behind it.
fn group(text: &str, open: usize) -> Option<(&str, usize)> {
    let mut depth = 0usize;
    for (offset, byte) in text.as_bytes()[open..].iter().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Some((&text[open + 1..open + offset], open + offset + 1));
                }
            }
            _ => {}
        }
    }
    None
}

/// The content of `\boxed{…}` and `\fbox{…}`; the text itself when there is none.
pub(super) fn unbox(text: &str, which: Boxes) -> String {
    if !text.contains("\\boxed") && !text.contains("\\fbox") {
        return text.to_string();
    }
    // Start of the command, content, position behind.
    let mut boxes: Vec<(usize, String, usize)> = Vec::new();
    let mut torn = None;
    let mut at = 0;
    while let Some(offset) = text[at..].find('\\') {
        let start = at + offset;
        let Some(length) =
            ["\\boxed", "\\fbox"].iter().find(|n| text[start..].starts_with(**n)).map(|n| n.len())
        else {
            at = start + 1;
            continue;
        };
        let behind = start + length;
        let open = behind + (text[behind..].len() - text[behind..].trim_start().len());
        match text[open..].starts_with('{').then(|| group(text, open)) {
            Some(Some((content, end))) => {
                boxes.push((start, content.trim().to_string(), end));
                at = end;
            }
            Some(None) => {
                torn = Some(text[open + 1..].to_string());
                at = open + 1;
            }
            None => {
                torn = Some(text[open..].to_string());
                at = behind;
            }
        }
        if at >= text.len() {
            break;
        }
    }
    let first = match which {
        Boxes::All => 0,
        Boxes::Last => {
            let mut first = boxes.len().saturating_sub(1);
            while first > 0 {
                let (start, content, _) = &boxes[first];
                let (_, earlier, end) = &boxes[first - 1];
                let between = &text[*end..*start];
                let near = between.len() < 10;
                let joined = content != earlier
                    && between.len() < 70
                    && (between.contains([',', ';']) || has_word(between, "and") || has_word(between, "or"));
                if !(near || joined) {
                    break;
                }
                first -= 1;
            }
            first
        }
    };
    let mut parts: Vec<String> =
        boxes.drain(first.min(boxes.len())..).map(|(_, content, _)| content).collect();
    parts.dedup();
    if parts.is_empty() {
        // A box that is never closed ends with the text.
        return torn.unwrap_or_else(|| text.to_string());
    }
    // A box in a box.
    parts.iter().map(|p| unbox(p, Boxes::All)).collect::<Vec<_>>().join(",")
}

/// Whether a word stands alone in a text.
fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(i, _)| {
        let before = text[..i].chars().next_back();
        let after = text[i + word.len()..].chars().next();
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
    })
}

/// The text that the parser reads.
pub(super) fn normalize(raw: &str, which: Boxes) -> String {
    let text = unbox(raw, which);
    let text = rewrite(&text);
    let text = strip_units(text.trim());
    let text = strip_thousands(text.trim());
    let text =
        text.trim().trim_end_matches(|c: char| matches!(c, '.' | ',' | ';' | ':') || c.is_whitespace());
    // One half is so common that it is taken as exact.
    if text == "0.5" { "\\frac{1}{2}".into() } else { text.to_string() }
}

/// Replacements that need no context beyond their neighbours.
fn rewrite(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let rows = text.contains("matrix") || text.contains("begin{");
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let letter_before = out.chars().next_back().is_some_and(|b| b.is_ascii_alphabetic());
        if c == '\\' {
            // `\\le` where `\le` was meant.
            if !rows
                && rest[1..].starts_with('\\')
                && rest[2..].starts_with(|l: char| l.is_ascii_alphabetic())
            {
                rest = &rest[1..];
                continue;
            }
            if let Some(tail) = rest.strip_prefix("\\!") {
                rest = tail.trim_start();
                continue;
            }
            if let Some(tail) = rest.strip_prefix("\\$") {
                rest = tail;
                continue;
            }
            if let Some((word, tail)) = joining_text(rest) {
                out.push_str(word);
                rest = tail;
                continue;
            }
            let mut replaced = false;
            for (from, to) in [
                ("\\dfrac", "\\frac"),
                ("\\tfrac", "\\frac"),
                ("\\cfrac", "\\frac"),
                ("\\ldots", " "),
                ("\\mathrm{d}", "d"),
                ("\\mathrm{T}", "T"),
                ("\\mathrm{th}", ""),
            ] {
                if let Some(tail) = rest.strip_prefix(from) {
                    if from == "\\ldots" && out.ends_with(',') {
                        out.pop();
                    }
                    out.push_str(to);
                    rest = tail;
                    replaced = true;
                    break;
                }
            }
            if replaced {
                continue;
            }
            // The next character belongs to the command.
            let mut chars = rest.chars();
            chars.next();
            if chars.next().is_some_and(|n| !n.is_ascii_alphabetic()) {
                let length = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
                out.push_str(&rest[..length]);
                rest = &rest[length..];
            } else {
                let length = 1 + rest[1..].bytes().take_while(u8::is_ascii_alphabetic).count();
                out.push_str(&rest[..length]);
                rest = &rest[length..];
            }
            continue;
        }
        match c {
            '$' | '"' => {
                rest = &rest[1..];
                continue;
            }
            '\n' | '\t' | '\r' => {
                out.push(' ');
                rest = &rest[1..];
                continue;
            }
            '{' => {
                if let Some(inner) = rest[1..].trim_start().strip_prefix(',')
                    && let Some(tail) = inner.trim_start().strip_prefix('}')
                {
                    out.truncate(out.trim_end().len());
                    out.push(',');
                    rest = tail;
                    continue;
                }
            }
            _ => {}
        }
        if c.is_ascii_alphabetic() && !letter_before {
            let word_length = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
            let word = &rest[..word_length];
            let replacement = match word {
                "and" | "or" => Some(","),
                "percent" | "percentage" | "pct" | "Percent" | "Percentage" => Some("\\%"),
                "infinity" | "inf" => Some("\\infty "),
                "sqrt" => Some("\\sqrt "),
                _ => None,
            };
            if let Some(replacement) = replacement {
                let trimmed = out.trim_end().len();
                out.truncate(trimmed);
                if replacement == "," && out.ends_with(',') {
                    out.pop();
                }
                out.push_str(replacement);
                rest = &rest[word_length..];
                continue;
            }
            out.push_str(word);
            rest = &rest[word_length..];
            continue;
        }
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    out
}

/// `\text{ and }`, `\text{or}`, `\text{percent}` and empty texts.
fn joining_text(rest: &str) -> Option<(&'static str, &str)> {
    let name = ["\\text", "\\mathrm", "\\mbox", "\\textrm", "\\textbf"]
        .iter()
        .find(|n| rest.strip_prefix(**n).is_some_and(|tail| tail.trim_start().starts_with('{')))?;
    let open = name.len() + (rest[name.len()..].len() - rest[name.len()..].trim_start().len());
    let (content, end) = group(rest, open)?;
    let replacement = match content.trim().trim_start_matches(',').trim() {
        "and" | "or" => ",",
        // An empty `\mathrm{}` is what is left of a unit, which goes from its start to the end of the text.
        "" if *name != "\\mathrm" => " ",
        "percent" | "percentage" | "pct" => "\\%",
        _ => return None,
    };
    Some((replacement, &rest[end..]))
}

/// Takes a unit off the end: a text in `\text{…}`, then words of units.
fn strip_units(text: &str) -> String {
    let mut text = text.to_string();
    // From the first text command to the end, when the end closes a brace (or a power behind one).
    let tail = text.trim_end_matches(['.', ' ']);
    let end = tail
        .strip_suffix('}')
        .filter(|t| {
            t.len() >= 2 && t.ends_with(|c: char| c.is_ascii_digit()) && t[..t.len() - 1].ends_with("{^")
        })
        .map(|t| &t[..t.len() - 3])
        .or_else(|| {
            (tail.len() >= 2
                && tail.ends_with(|c: char| c.is_ascii_digit())
                && tail[..tail.len() - 1].ends_with('^'))
            .then(|| &tail[..tail.len() - 2])
        })
        .filter(|t| t.ends_with('}'))
        .unwrap_or(tail);
    if end.ends_with('}') {
        let start = [
            "\\text{",
            "\\text {",
            "\\mbox{",
            "\\textbf{",
            "\\textit{",
            "\\textrm{",
            "\\textnormal{",
            "\\mathrm{",
            "\\mathit{",
            "\\mathbf{",
        ]
        .iter()
        .filter_map(|n| text.find(n))
        .min();
        if let Some(start) = start {
            let left = text[..start].trim();
            if !left.is_empty() {
                text = left.to_string();
            }
        }
    }
    for _ in 0..2 {
        let Some(shorter) = without_unit(&text) else { break };
        text = shorter;
    }
    text
}

fn without_unit(text: &str) -> Option<String> {
    let trimmed = text.trim_end();
    let letters = trimmed.bytes().rev().take_while(u8::is_ascii_alphabetic).count();
    if letters == 0 {
        return None;
    }
    let (before, word) = trimmed.split_at(trimmed.len() - letters);
    let last = before.chars().next_back()?;
    if !(last.is_ascii_digit() || last == '}' || last.is_whitespace()) || before.trim().is_empty() {
        return None;
    }
    let stem = |w: &str| UNIT_WORDS.contains(&w);
    let known = stem(word)
        || word.strip_suffix('s').is_some_and(|w| w.len() > LETTER_UNIT_LENGTH && stem(w))
        || word.strip_suffix("es").is_some_and(|w| w.len() > LETTER_UNIT_LENGTH && stem(w));
    if !known {
        return None;
    }
    // A single letter is a unit only behind a plain number: `2x + 3t` keeps its `t`.
    if word.len() == LETTER_UNIT_LENGTH {
        let plain = before.replace("\\frac", "");
        if plain.chars().any(|c| !(c.is_ascii_digit() || " .,{}-/\\:".contains(c))) {
            return None;
        }
    }
    Some(before.trim_end().to_string())
}

/// Removes the commas of numbers such as `1,234,567`, when the text holds no other commas.
fn strip_thousands(text: &str) -> String {
    if !text.contains(',') {
        return text.to_string();
    }
    let bytes = text.as_bytes();
    let mut drop = Vec::new();
    let mut i = 0;
    while i < bytes.len() {
        if !bytes[i].is_ascii_digit() {
            if bytes[i] == b',' {
                return text.to_string();
            }
            i += 1;
            continue;
        }
        let start = i;
        while i < bytes.len() && (bytes[i].is_ascii_digit() || bytes[i] == b',') {
            i += 1;
        }
        let run = &text[start..i];
        let mut parts = run.split(',');
        let head = parts.next().unwrap_or("");
        if !run.contains(',') {
            continue;
        }
        let grouped = (1..=3).contains(&head.len()) && parts.all(|p| p.len() == 3);
        // What may stand before a whole number: nothing, an operator, the end of a command.
        let before = text[..start].trim_end();
        let command = before.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let fits = before.is_empty()
            || before.ends_with(['=', '+', '-', '*', '/', '<', '>', '≈', '€', '£', '¥'])
            || command.len() < before.len() && command.ends_with('\\')
            || before.ends_with("frac{")
            || before.ends_with("}{");
        if !grouped || !fits {
            return text.to_string();
        }
        drop.extend(run.char_indices().filter(|(_, c)| *c == ',').map(|(k, _)| start + k));
    }
    let mut drop = drop.into_iter().peekable();
    text.char_indices()
        .filter(|(i, _)| {
            let here = drop.peek() == Some(i);
            if here {
                drop.next();
            }
            !here
        })
        .map(|(_, c)| c)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_join_or_the_last_counts() {
        assert_eq!(unbox(r"\boxed{1}, \boxed{\frac{2}{3}}", Boxes::All), r"1,\frac{2}{3}");
        let far = format!(r"\boxed{{1}} {} \boxed{{2}}", "x".repeat(80));
        assert_eq!(unbox(&far, Boxes::Last), "2", "a box far before the last does not count");
        assert_eq!(unbox(r"\boxed{1} bins and \boxed{2}", Boxes::Last), "1,2");
        assert_eq!(unbox(r"\boxed{12", Boxes::Last), "12", "a torn box ends with the text");
    }

    #[test]
    fn units_words_and_separators_go() {
        for (raw, clean) in [
            ("35 cm", "35"),
            (r"\frac{1}{3} \textbf{meters}", r"\frac{1}{3}"),
            (r"12\text{ square units}", "12"),
            (r"5\text{ cm}^2", "5"),
            ("2x + 3t", "2x + 3t"),
            ("28 percent", r"28\%"),
            (r"14{,}916", "14916"),
            (r"11,\! 111,\! 111,\! 100", "11111111100"),
            ("32, 349", "32, 349"),
            ("-125,343", "-125343"),
            ("1,22", "1,22"),
            (r"6 \text{ and } 8", "6 , 8"),
            ("0.5", r"\frac{1}{2}"),
        ] {
            assert_eq!(normalize(raw, Boxes::All).replace("  ", " "), clean, "{raw}");
        }
    }
}
