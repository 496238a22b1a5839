//! Hiding the reference answer in feedback that was written by somebody who knows it (arXiv 2506.11930).
//!
//! Feedback that leaks the answer makes every solver look willing. What is hidden is counted: a common number hidden
//! everywhere also takes right intermediate values away.

use elenchus_trace::Problem;

/// A text with the answer hidden.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redacted {
    /// The text.
    pub text: String,
    /// How many places were hidden.
    pub hidden: usize,
}

/// Hides the reference answer of a problem behind `mask`.
///
/// - A problem with options: the letter of the right one (see [`redact_option`]) and its text.
/// - A number: see [`redact_number`].
/// - Anything else: the answer and its `aliases` in the problem's data, see [`redact_aliases`].
///
/// A problem without a reference answer has nothing to hide.
pub fn redact(problem: &Problem, text: &str, mask: &str) -> Redacted {
    let Some(gold) = problem.gold.as_deref().map(str::trim).filter(|gold| !gold.is_empty()) else {
        return Redacted { text: text.to_string(), hidden: 0 };
    };
    let option = problem.options.iter().find(|option| option.label == gold || option.text == gold);
    if let Some(option) = option {
        let content = redact_aliases(text, &[&option.text], mask);
        let letter = redact_option(&content.text, &option.label, mask);
        return Redacted { hidden: content.hidden + letter.hidden, ..letter };
    }
    if gold.parse::<f64>().is_ok() {
        return redact_number(text, gold, mask);
    }
    let more = problem.data.get("aliases").and_then(|aliases| aliases.as_array());
    let aliases: Vec<&str> =
        std::iter::once(gold).chain(more.into_iter().flatten().filter_map(|alias| alias.as_str())).collect();
    redact_aliases(text, &aliases, mask)
}

/// Hides a number: `\boxed{42}` first, then 42 where it stands alone. Part of a longer number (142, 4.2, 42.5) it does
/// not stand alone.
pub fn redact_number(text: &str, gold: &str, mask: &str) -> Redacted {
    let boxed = replace(text, mask, |rest, _| boxed(rest, gold));
    let alone = replace(&boxed.text, mask, |rest, before| {
        let after = rest.strip_prefix(gold)?;
        (!continues_number(before) && !begins_more(after)).then_some(gold.len())
    });
    Redacted { hidden: boxed.hidden + alone.hidden, ..alone }
}

/// Hides an option's letter, upper case as written: (C), "C", **C**, \boxed{C}, and C as a word of its own.
pub fn redact_option(text: &str, letter: &str, mask: &str) -> Redacted {
    let around = [("(", ")"), ("\"", "\""), ("**", "**"), ("'", "'")]
        .map(|(open, close)| format!("{open}{letter}{close}"));
    let marked = replace(text, mask, |rest, _| {
        boxed(rest, letter)
            .or_else(|| around.iter().find(|form| rest.starts_with(form.as_str())).map(String::len))
    });
    let alone = replace(&marked.text, mask, |rest, before| {
        let after = rest.strip_prefix(letter)?;
        let inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        (!inside(before.chars().next_back()) && !inside(after.chars().next())).then_some(letter.len())
    });
    Redacted { hidden: marked.hidden + alone.hidden, ..alone }
}

/// Hides every alias, the longest first, whatever its case, where it is no part of a longer word.
pub fn redact_aliases(text: &str, aliases: &[&str], mask: &str) -> Redacted {
    let mut sorted: Vec<&str> = aliases.iter().map(|alias| alias.trim()).filter(|a| !a.is_empty()).collect();
    sorted.sort_by_key(|alias| std::cmp::Reverse(alias.chars().count()));
    let inside = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    replace(text, mask, |rest, before| {
        if inside(before.chars().next_back()) {
            return None;
        }
        sorted.iter().find_map(|alias| {
            let length = prefix_ignoring_case(rest, alias)?;
            (!inside(rest[length..].chars().next())).then_some(length)
        })
    })
}

/// Hides a product and each intermediate product behind tags of their own, `[Mask1]` for the product: for feedback on long
/// multiplication, where an intermediate value that is the only one of its kind gives the answer away.
pub fn redact_products(text: &str, gold: &str, products: &[&str]) -> Redacted {
    let mut found = Redacted { text: text.to_string(), hidden: 0 };
    // A number that is a part of another one's text does not stand alone there, so the order does not matter.
    for (index, number) in std::iter::once(gold).chain(products.iter().copied()).enumerate() {
        let next = redact_number(&found.text, number, &format!("[Mask{}]", index + 1));
        found = Redacted { hidden: found.hidden + next.hidden, ..next };
    }
    found
}

/// Puts the mask where `matches` finds something: it gets the rest of the text and what stands before it, and returns the
/// length in bytes to hide.
fn replace(text: &str, mask: &str, matches: impl Fn(&str, &str) -> Option<usize>) -> Redacted {
    let mut found = Redacted { text: String::with_capacity(text.len()), hidden: 0 };
    let mut at = 0;
    while let Some(next) = text[at..].chars().next() {
        match matches(&text[at..], &text[..at]).filter(|&length| length > 0) {
            Some(length) => {
                found.text.push_str(mask);
                found.hidden += 1;
                at += length;
            }
            None => {
                found.text.push(next);
                at += next.len_utf8();
            }
        }
    }
    found
}

/// Length of `\boxed{ content }` at the start of a text.
fn boxed(rest: &str, content: &str) -> Option<usize> {
    let inside = rest.strip_prefix("\\boxed{")?;
    let behind = inside.trim_start().strip_prefix(content)?.trim_start().strip_prefix('}')?;
    Some(rest.len() - behind.len())
}

/// Whether a number before this place goes on into it.
fn continues_number(before: &str) -> bool {
    let mut back = before.chars().rev();
    match back.next() {
        Some('.') => back.next().is_some_and(|c| c.is_ascii_digit()),
        Some(c) => c.is_alphanumeric() || c == '_',
        None => false,
    }
}

/// Whether a number goes on behind this place.
fn begins_more(after: &str) -> bool {
    let mut ahead = after.chars();
    match ahead.next() {
        Some('.') => ahead.next().is_some_and(|c| c.is_ascii_digit()),
        Some(c) => c.is_alphanumeric() || c == '_',
        None => false,
    }
}

/// Length in bytes of the start of `text` that equals `alias` whatever the case.
fn prefix_ignoring_case(text: &str, alias: &str) -> Option<usize> {
    let mut length = 0;
    let mut here = text.chars();
    for wanted in alias.chars() {
        let found = here.next()?;
        if found != wanted && !found.to_lowercase().eq(wanted.to_lowercase()) {
            return None;
        }
        length += found.len_utf8();
    }
    Some(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use elenchus_trace::ChoiceOption;
    use proptest::prelude::*;

    fn redacted(found: Redacted) -> (String, usize) {
        (found.text, found.hidden)
    }

    #[test]
    fn the_numeric_example() {
        let found = redact_number(r"So \boxed{42}: 42 not 142, 4.2", "42", "[masked]");
        assert_eq!(redacted(found), ("So [masked]: [masked] not 142, 4.2".into(), 2));
    }

    #[test]
    fn numbers_stand_alone_or_not() {
        for (text, wanted, hidden) in [
            ("42.", "#.", 1),
            ("42.5 and 0.42 and x42 and 42x", "42.5 and 0.42 and x42 and 42x", 0),
            ("d=49+81=42;", "d=49+81=#;", 1),
            ("-42", "-#", 1),
            (r"\boxed{ 42 } \boxed{421}", r"# \boxed{421}", 1),
            ("", "", 0),
        ] {
            assert_eq!(redacted(redact_number(text, "42", "#")), (wanted.into(), hidden), "{text}");
        }
    }

    #[test]
    fn letters_of_options_in_every_dress() {
        let text = "(C) \"C\" **C** \\boxed{C} C, but CO2, (B) and c";
        assert_eq!(redacted(redact_option(text, "C", "#")), ("# # # # #, but CO2, (B) and c".into(), 5));
        let mut problem = Problem::new("p", "choice", "Which?").with_gold("C");
        problem.options = ["oak", "elm", "Ash tree"]
            .iter()
            .zip(["A", "B", "C"])
            .map(|(text, label)| ChoiceOption { label: label.into(), text: (*text).into() })
            .collect();
        let found = redact(&problem, "It is (C), the ash tree, not the oak.", "[masked]");
        assert_eq!(redacted(found), ("It is [masked], the [masked], not the oak.".into(), 2));
    }

    #[test]
    fn aliases_longest_first_whatever_the_case() {
        let aliases = ["Paris", "City of Paris"];
        let found = redact_aliases("the CITY OF PARIS, paris, Parisian, comparison", &aliases, "#");
        assert_eq!(redacted(found), ("the #, #, Parisian, comparison".into(), 2));
        let mut problem = Problem::new("p", "facts", "Which?").with_gold("Łódź");
        problem.data = serde_json::json!({"aliases": ["Lodz"]});
        assert_eq!(redacted(redact(&problem, "łódź or LODZ", "#")), ("# or #".into(), 2));
        assert_eq!(
            redact(&Problem::new("p", "facts", "Which?"), "x", "#").hidden,
            0,
            "nothing known, nothing hidden"
        );
    }

    #[test]
    fn products_have_tags_of_their_own() {
        let found = redact_products("12 x 34: 48 + 360 = 408, and 48 again", "408", &["48", "360"]);
        assert_eq!(redacted(found), ("12 x 34: [Mask2] + [Mask3] = [Mask1], and [Mask2] again".into(), 4));
    }

    proptest! {
        #[test]
        fn nothing_is_left_and_nothing_else_is_lost(before in "[a-z ,(]{0,9}", after in "[ ,);a-z]{0,9}", gold in 0u32..10_000) {
            let gold = gold.to_string();
            let text = format!("{before} {gold} {after}");
            let found = redact_number(&text, &gold, "#");
            prop_assert_eq!(found.hidden, 1);
            prop_assert_eq!(found.text, format!("{before} # {after}"));
        }

        #[test]
        fn any_text_survives(text in "\\PC{0,40}", gold in "\\PC{1,4}") {
            for found in [
                redact_number(&text, &gold, "#"),
                redact_option(&text, &gold, "#"),
                redact_aliases(&text, &[&gold], "#"),
            ] {
                if found.hidden == 0 {
                    prop_assert_eq!(&found.text, &text);
                }
            }
        }
    }
}
