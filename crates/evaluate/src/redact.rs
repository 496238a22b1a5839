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
    if gold.parse::<f64>().is_ok() || value_of(gold).is_some() {
        return redact_number(text, gold, mask);
    }
    let more = problem.data.get("aliases").and_then(|aliases| aliases.as_array());
    let aliases: Vec<&str> =
        std::iter::once(gold).chain(more.into_iter().flatten().filter_map(|alias| alias.as_str())).collect();
    redact_aliases(text, &aliases, mask)
}

/// Hides a number: `\boxed{42}` first, then 42 where it stands alone. Part of a longer number (142, 4.2, 42.5) it does
/// not stand alone. Other spellings of the same number are hidden as well: 42.0, 1,000 for 1000, and for one that is not
/// whole 1/2, .5 and `\frac{1}{2}` for 0.5. A quotient is no spelling of a whole number: 12/4 is a step towards 3.
pub fn redact_number(text: &str, gold: &str, mask: &str) -> Redacted {
    let wanted = value_of(gold);
    let same = |spelled: &str| wanted.is_some() && value_of(spelled) == wanted;
    let whole = wanted.is_none_or(|(_, under)| under == 1);
    let boxed = replace(text, mask, |rest, _| {
        let inside = rest.strip_prefix("\\boxed{")?;
        boxed(rest, gold)
            .or_else(|| spellings(inside.trim_start(), whole).find_map(|n| boxed_if(rest, n, &same)))
    });
    let alone = replace(&boxed.text, mask, |rest, before| {
        if continues_number(before) || ends_thousands(before, rest) {
            return None;
        }
        let literal = rest.starts_with(gold).then_some(gold);
        let mut all = literal.into_iter().chain(spellings(rest, whole).filter(|spelled| same(spelled)));
        all.find(|spelled| !begins_more(&rest[spelled.len()..])).map(str::len)
    });
    Redacted { hidden: boxed.hidden + alone.hidden, ..alone }
}

/// Length of `\boxed{…}` at the start of a text when the content is a spelling of the wanted number.
fn boxed_if(rest: &str, content: &str, same: &impl Fn(&str) -> bool) -> Option<usize> {
    if same(content) { boxed(rest, content) } else { None }
}

/// The numbers that may begin a text, the longest first: with its sign or without, with thousands apart, with decimals;
/// fractions only where `whole` does not hold.
fn spellings(text: &str, whole: bool) -> impl Iterator<Item = &str> {
    let digits = |at: usize| text[at..].bytes().take_while(u8::is_ascii_digit).count();
    let mut ends = Vec::new();
    let sign = usize::from(text.starts_with('-'));
    let plain = sign + digits(sign);
    if text[sign..].starts_with('.') && digits(sign + 1) > 0 {
        ends.push(sign + 1 + digits(sign + 1));
    }
    if plain > sign {
        let mut end = plain;
        while text[end..].starts_with(',') && digits(end + 1) == 3 {
            end += 4;
        }
        for end in [end, plain] {
            if text[end..].starts_with('.') && digits(end + 1) > 0 {
                ends.push(end + 1 + digits(end + 1));
            }
            if !whole && text[end..].starts_with('/') && digits(end + 1) > 0 {
                ends.push(end + 1 + digits(end + 1));
            }
            ends.push(end);
        }
    }
    if !whole {
        ends.extend(latex_fraction(&text[sign..]).map(|(end, ..)| sign + end));
    }
    ends.sort_unstable_by(|a, b| b.cmp(a));
    ends.dedup();
    ends.into_iter().map(move |end| &text[..end])
}

/// `\frac{1}{2}` (or `\dfrac`) at the start of a text: its length, and what stands over and under the line.
fn latex_fraction(text: &str) -> Option<(usize, &str, &str)> {
    let inside = ["\\frac{", "\\dfrac{", "\\tfrac{"].iter().find_map(|begin| text.strip_prefix(begin))?;
    let (over, rest) = inside.split_once('}')?;
    let (under, behind) = rest.strip_prefix('{')?.split_once('}')?;
    Some((text.len() - behind.len(), over, under))
}

/// The value of a number in any of these spellings as a reduced fraction with a positive denominator.
fn value_of(spelled: &str) -> Option<(i128, i128)> {
    if let Some((over, under)) = spelled.strip_prefix("-\\").and_then(|_| value_of(&spelled[1..])) {
        return Some((-over, under));
    }
    if let Some((end, over, under)) = latex_fraction(spelled) {
        return (end == spelled.len()).then(|| divided(value_of(over)?, value_of(under)?))?;
    }
    if let Some((over, under)) = spelled.split_once('/') {
        return divided(value_of(over)?, value_of(under)?);
    }
    let (head, tail) = spelled.split_once('.').unwrap_or((spelled, ""));
    let bare = head.strip_prefix('-').unwrap_or(head);
    let groups: Vec<&str> = bare.split(',').collect();
    let apart = groups.len() == 1 || groups.iter().skip(1).all(|group| group.len() == 3);
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    // Beyond 18 digits it stays a text.
    if (bare.is_empty() && tail.is_empty())
        || !apart
        || !groups.iter().all(|g| is_digits(g))
        || !is_digits(tail)
    {
        return None;
    }
    let all = format!("{}{tail}", groups.concat());
    if all.is_empty() || all.len() > 18 {
        return None;
    }
    let number: i128 = all.parse().ok()?;
    let signed = if spelled.starts_with('-') { -number } else { number };
    divided((signed, 1), (10i128.pow(tail.len() as u32), 1))
}

/// left / right, reduced; `None` for a division by 0.
fn divided(left: (i128, i128), right: (i128, i128)) -> Option<(i128, i128)> {
    let over = left.0.checked_mul(right.1)?;
    let under = left.1.checked_mul(right.0)?;
    if under == 0 {
        return None;
    }
    let (mut a, mut b) = (over.abs(), under.abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    let common = a.max(1) * under.signum();
    Some((over / common, under / common))
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

/// Whether these are the last digits of a number with thousands apart: 005 in 1,005. What could stand alone (200 in
/// 100,200) is not counted as such.
fn ends_thousands(before: &str, rest: &str) -> bool {
    let mut back = before.chars().rev();
    let apart = back.next() == Some(',') && back.next().is_some_and(|c| c.is_ascii_digit());
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    apart && digits == 3 && rest.starts_with('0')
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
    fn other_spellings_of_the_number_are_hidden_too() {
        for (gold, text, wanted, hidden) in [
            ("42", "42.0, 42.00 and 42.01", "#, # and 42.01", 2),
            ("1000", "1,000 or 1000; not 11,000 nor 1,0000", "# or #; not 11,000 nor 1,0000", 2),
            ("1,000", "1000 and \\boxed{1,000} and \\boxed{1000.0}", "# and # and #", 3),
            ("1/2", "0.5, .5, 1/2, 2/4, \\frac{1}{2} and 1/20", "#, #, #, #, # and 1/20", 5),
            ("0.5", "1/2 of it, \\dfrac{2}{4}", "# of it, #", 2),
            ("3", "12/4 = 3 and 3/4", "12/4 = # and #/4", 2),
            ("-1/2", "-\\frac{1}{2}, -.5 and \\frac{1}{2}", "#, # and \\frac{1}{2}", 2),
            ("5", "1,005 and 5", "1,005 and #", 1),
            ("0", "1,000 and 0 and 100,000", "1,000 and # and 100,000", 1),
            ("200", "(100,200)", "(100,#)", 1),
            ("-2", "-2, 2 and -2.0", "#, 2 and #", 2),
        ] {
            assert_eq!(redacted(redact_number(text, gold, "#")), (wanted.into(), hidden), "{gold}: {text}");
        }
        let half = Problem::new("p", "math", "?").with_gold("1/2");
        assert_eq!(redact(&half, "It is 0.5.", "[masked]").text, "It is [masked].", "a fraction is a number");
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
