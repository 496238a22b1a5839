//! The option that a free text chooses.

use elenchus_trace::ChoiceOption;

/// The label of the option that a response chooses; `None` when it names none, or when it stays open which.
///
/// In this order, the last occurrence first:
/// 1. `\boxed{B}`, or a box that holds an option's text,
/// 2. a label or an option's text behind "answer is", "answer:", "option is", "choice is", `#`,
/// 3. a response or last line that is a label: `B`, `(B)`, `B.`, `**B) text**`; a first line that starts so,
/// 4. a label in parentheses, if the text holds one such label only, or the last line does,
/// 5. an option's text, if the last line, or the whole text, holds exactly one.
pub fn extract_label(options: &[ChoiceOption], response: &str) -> Option<String> {
    let reader = Reader { options };
    reader
        .boxed(response)
        .or_else(|| reader.announced(response))
        .or_else(|| reader.alone(response))
        .or_else(|| reader.bracketed(response))
        .or_else(|| reader.mentioned(response))
        .map(|index| options[index].label.clone())
}

struct Reader<'a> {
    options: &'a [ChoiceOption],
}

/// Phrases that announce an answer, in lower case.
const CUES: [&str; 8] = [
    "answer",
    "correct option",
    "correct choice",
    "option is",
    "choice is",
    "i choose",
    "i pick",
    "i would choose",
];

impl Reader<'_> {
    fn boxed(&self, text: &str) -> Option<usize> {
        let start = text.rfind("\\boxed{")? + 7;
        let mut depth = 1usize;
        let mut end = None;
        for (at, character) in text[start..].char_indices() {
            match character {
                '{' => depth += 1,
                '}' => {
                    depth -= 1;
                    if depth == 0 {
                        end = Some(start + at);
                        break;
                    }
                }
                _ => {}
            }
        }
        let inside = text[start..end?].trim();
        let inside = ["\\text{", "\\textbf{", "\\mathrm{", "\\mathbf{"]
            .iter()
            .find_map(|command| inside.strip_prefix(command)?.strip_suffix('}'))
            .unwrap_or(inside);
        self.label_at_start(inside, true).or_else(|| self.text_equal(inside))
    }

    /// What stands behind the last cue that announces an option.
    fn announced(&self, text: &str) -> Option<usize> {
        let lower = text.to_ascii_lowercase();
        let mut places: Vec<usize> = Vec::new();
        for cue in CUES {
            places.extend(lower.match_indices(cue).map(|(place, _)| place + cue.len()));
        }
        places.extend(text.match_indices('#').map(|(place, _)| place + 1));
        places.sort_unstable();
        places.into_iter().rev().find_map(|place| {
            let line = text[place..].lines().next().unwrap_or("");
            let (rest, marked) = skip_filler(line);
            if rest.to_ascii_lowercase().starts_with("not ") {
                return None;
            }
            // `answer: b` and `answer is B, because` count; `answer B` only where the line ends with it.
            self.label_at_start(rest, true)
                .or_else(|| self.label_at_start(rest, false).filter(|_| marked))
                .or_else(|| self.text_at_start(rest).filter(|_| marked))
        })
    }

    /// A response, last line or first line that is a label.
    fn alone(&self, text: &str) -> Option<usize> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let first = lines.next()?;
        let last = lines.next_back().unwrap_or(first);
        self.label_at_start(last, true).or_else(|| {
            let punctuated = |line: &str| {
                let index = self.label_at_start(line, false)?;
                let rest = line.trim_start_matches(['(', '*', '[', ' ']);
                let behind = rest.get(self.options[index].label.len()..)?;
                // "A dog" begins with an article; "A) dog" and "A. dog" with a label.
                behind.starts_with([')', '.', ':', ']', '*']).then_some(index)
            };
            punctuated(last).or_else(|| punctuated(first))
        })
    }

    fn bracketed(&self, text: &str) -> Option<usize> {
        let found = |text: &str| -> Vec<usize> {
            let mut labels: Vec<usize> = text
                .match_indices('(')
                .filter_map(|(place, _)| {
                    let inside = text[place + 1..].split(')').next()?;
                    text[place + 1..].contains(')').then_some(())?;
                    self.options.iter().position(|option| option.label == inside.trim())
                })
                .collect();
            labels.sort_unstable();
            labels.dedup();
            labels
        };
        let last = text.lines().rev().find(|line| !line.trim().is_empty())?;
        [text, last].iter().find_map(|part| match found(part).as_slice() {
            [only] => Some(*only),
            _ => None,
        })
    }

    fn mentioned(&self, text: &str) -> Option<usize> {
        let last = text.lines().rev().find(|line| !line.trim().is_empty())?;
        [last, text].iter().find_map(|part| {
            let words = plain(part);
            let mut found: Vec<(usize, String)> = self
                .options
                .iter()
                .enumerate()
                .map(|(index, option)| (index, plain(&option.text)))
                .filter(|(_, option)| !option.trim().is_empty() && words.contains(option.as_str()))
                .collect();
            // "bank" does not count where "river bank" is an option that is there too.
            let all = found.clone();
            found.retain(|(index, text)| {
                !all.iter().any(|(other, longer)| other != index && longer.contains(text) && longer != text)
            });
            match found.as_slice() {
                [(only, _)] => Some(*only),
                _ => None,
            }
        })
    }

    /// A label at the start of a text, with or without parentheses; `whole` allows only punctuation behind it.
    fn label_at_start(&self, text: &str, whole: bool) -> Option<usize> {
        let text = text.trim().trim_start_matches(['(', '*', '[', '$', '"', '\'', '`', ' ']);
        self.options.iter().position(|option| {
            let Some(start) = text.get(..option.label.len()) else { return false };
            if option.label.is_empty() || !start.eq_ignore_ascii_case(&option.label) {
                return false;
            }
            let behind = &text[option.label.len()..];
            if whole {
                return behind.chars().all(|c| c.is_whitespace() || ").*]$\"'`!,:".contains(c));
            }
            // In running text only the exact case is a label, so that "a dog" is not option A; neither are words
            // ("A-frame", "B2"), decimals, and alternatives that are left open ("A or B").
            let after = |prefix: &str| behind.strip_prefix(prefix).unwrap_or("");
            let joined = behind.starts_with(|c: char| c.is_alphanumeric() || c == '\'')
                || (behind.starts_with('-') && !behind.starts_with("--"))
                || after(".").starts_with(|c: char| c.is_ascii_digit());
            let rest = behind.trim_start_matches([')', '*', ' ']);
            let open = ["or ", "and ", "nor "].iter().any(|word| rest.starts_with(word));
            let article = option.label == "A" && after(" ").starts_with(char::is_lowercase);
            start == option.label && !joined && !open && !article
        })
    }

    fn text_equal(&self, text: &str) -> Option<usize> {
        let words = plain(text);
        self.options.iter().position(|option| plain(&option.text) == words && !words.trim().is_empty())
    }

    /// The longest option text that a text starts with.
    fn text_at_start(&self, text: &str) -> Option<usize> {
        let words = plain(text);
        (0..self.options.len())
            .filter(|&index| {
                let option = plain(&self.options[index].text);
                !option.trim().is_empty() && words.starts_with(&option)
            })
            .max_by_key(|&index| self.options[index].text.len())
    }
}

/// Drops "is", "would be", colons, markup and articles before an announced answer; says whether anything marked that
/// an answer follows.
fn skip_filler(line: &str) -> (&str, bool) {
    let mut rest = line;
    let mut marked = false;
    loop {
        let trimmed = rest.trim_start_matches(|c: char| c.is_whitespace() || "*_`\"'$".contains(c));
        if let Some(behind) = trimmed.strip_prefix([':', '=', '#']) {
            rest = behind;
            marked = true;
            continue;
        }
        let word_length = trimmed.bytes().take_while(u8::is_ascii_alphabetic).count();
        let word = trimmed[..word_length].to_ascii_lowercase();
        match word.as_str() {
            "is" | "be" | "was" => marked = true,
            "would" | "should" | "must" | "choice" | "option" | "most" | "likely" | "therefore" | "thus"
            | "to" | "the" | "this" | "question" | "here" | "letter" | "probably" => {}
            _ => return (trimmed, marked),
        }
        rest = &trimmed[word_length..];
    }
}

/// Lower case, with everything that is no letter, digit or sign of a number replaced by one blank, and a blank at
/// both ends, so that containment compares whole words.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push(' ');
    for (at, character) in text.char_indices() {
        let inner_point = ".,".contains(character)
            && text[..at].ends_with(|c: char| c.is_ascii_digit())
            && text[at + 1..].starts_with(|c: char| c.is_ascii_digit());
        if character.is_alphanumeric() || inner_point || "-+/%$^\\=<>\u{221a}\u{b0}".contains(character) {
            out.extend(character.to_lowercase());
        } else if !out.ends_with(' ') {
            out.push(' ');
        }
    }
    if !out.ends_with(' ') {
        out.push(' ');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn options(texts: &[&str]) -> Vec<ChoiceOption> {
        texts
            .iter()
            .zip("ABCDE".chars())
            .map(|(text, label)| ChoiceOption { label: label.to_string(), text: text.to_string() })
            .collect()
    }

    #[test]
    fn labels_are_found_in_messy_texts() {
        let options = options(&["bank", "library", "department store", "mall"]);
        for (text, label) in [
            ("B", Some("B")),
            ("b", Some("B")),
            ("(B)", Some("B")),
            ("B.", Some("B")),
            ("**B**", Some("B")),
            ("B) library", Some("B")),
            ("B. library, because people go there.", Some("B")),
            ("The answer is (B).", Some("B")),
            ("The answer is B, library.", Some("B")),
            ("answer is B", Some("B")),
            ("Answer: **B**", Some("B")),
            ("answer: b", Some("B")),
            ("The correct answer is: (C) department store", Some("C")),
            ("So we get \\boxed{B}.", Some("B")),
            ("So we get \\boxed{\\text{(B)}}", Some("B")),
            ("\\boxed{library}", Some("B")),
            ("The answer is library.", Some("B")),
            ("The answer is the library.", Some("B")),
            ("I think the answer is a library", Some("B")),
            ("The answer is B--library.", Some("B")),
            ("The answer is B or C.", None),
            ("A revolving door is used at a bank.", Some("A")),
            ("First I thought the answer is A. But no: the answer is D.", Some("D")),
            ("The answer is not A.\nThe answer is C.", Some("C")),
            ("Therefore, among A through E, the answer is D.", Some("D")),
            ("g=50;e=50-1=49#C", Some("C")),
            ("#### C", Some("C")),
            ("Both (A) and (B) are possible.", None),
            ("Option (A) is wrong and so is (B).\nIt must be (C).", Some("C")),
            ("A dog is an animal.", None),
            ("It could be a bank or a library.", None),
            ("", None),
            ("I do not know.", None),
        ] {
            assert_eq!(extract_label(&options, text).as_deref(), label, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,40}", tail in "[ABCDabcd(){}*.:# \\\\boxedansweri]{0,40}") {
            let options = options(&["bank", "(x)", "", "a b"]);
            for text in [text.clone(), tail.clone(), format!("{text}{tail}"), format!("answer is {text}"), format!("\\boxed{{{tail}")] {
                if let Some(label) = extract_label(&options, &text) {
                    prop_assert!(options.iter().any(|option| option.label == label));
                }
            }
        }

        #[test]
        fn common_announcements_are_always_read(index in 0usize..4, form in 0usize..8) {
            let options = options(&["bank", "library", "department store", "mall"]);
            let label = &options[index].label;
            let text = &options[index].text;
            let response = match form {
                0 => format!("The answer is ({label})."),
                1 => format!("Some thoughts (A), (B).\nAnswer: {label}"),
                2 => format!("\\boxed{{{label}}}"),
                3 => format!("{label}."),
                4 => format!("{label}) {text}"),
                5 => format!("The answer is {text}."),
                6 => format!("So the correct option is {label}, {text}."),
                _ => format!("Hence **{label}**\n\nThe answer is **{label}**."),
            };
            let found = extract_label(&options, &response);
            prop_assert_eq!(found.as_ref(), Some(label), "{}", response);
        }
    }
}
