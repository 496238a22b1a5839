//! Answers in texts of any form: for responses whose task has no parser, and replies that do not keep to their form.

use elenchus_evaluate::group_answers;

/// Longest last line that is taken as an answer whole.
const SHORT: usize = 60;

/// The answer in the last line of a text: behind the last `answer is`, `answer:` or `#`; else the line itself when it is
/// short; else its last number. `None` for an empty text, or a long last line without a number.
pub(crate) fn last_line_answer(text: &str) -> Option<&str> {
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    // Only ASCII letters change, so that places stay the same.
    let lower = line.to_ascii_lowercase();
    let behind = ["answer is", "answer:", "#"]
        .iter()
        .filter_map(|mark| lower.rfind(mark).map(|at| at + mark.len()))
        .max()
        .map(|at| bare(&line[at..]))
        .filter(|answer| !answer.is_empty());
    match behind {
        Some(answer) => Some(answer),
        None if line.chars().count() <= SHORT => Some(bare(line)).filter(|answer| !answer.is_empty()),
        None => numbers(line).last().copied(),
    }
}

/// Without decoration at its ends; a point in front may belong to a number.
pub(crate) fn bare(text: &str) -> &str {
    let decoration = |c: char| c.is_whitespace() || "*`\"':<>!".contains(c);
    text.trim_start_matches(decoration).trim_end_matches(|c| decoration(c) || c == '.')
}

/// The numbers of a text, as they stand there.
fn numbers(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        if bytes[at].is_ascii_digit() {
            while at < bytes.len() {
                let inner =
                    matches!(bytes[at], b'.' | b',') && bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
                if !(bytes[at].is_ascii_digit() || inner) {
                    break;
                }
                at += 1;
            }
            // A sign or a point belongs to the number where no word or number ends before it.
            let free = |at: usize| at == 0 || !bytes[at - 1].is_ascii_alphanumeric();
            let mut begin = start;
            for sign in [b'.', b'-'] {
                if begin > 0 && bytes[begin - 1] == sign && free(begin - 1) {
                    begin -= 1;
                }
            }
            found.push(&text[begin..at]);
        } else {
            at += 1;
        }
    }
    found
}

/// A form that is the same for answers that differ in units and decoration only: the number, where there is exactly one
/// (`6`, `6 hours`, `a total of 6 hours`), else the words in lower case without signs at their ends.
pub(crate) fn loose_form(answer: &str) -> String {
    let found = numbers(answer);
    if let [number] = found.as_slice() {
        let plain = number.replace(',', "");
        return plain.parse::<f64>().map_or(plain, |value| value.to_string());
    }
    let words: Vec<String> = answer.split_whitespace().map(|word| bare(word).to_lowercase()).collect();
    words.join(" ").trim().to_string()
}

/// Whether two answers are the same but for units and decoration.
pub(crate) fn loosely_equal(left: &str, right: &str) -> bool {
    let (left, right) = (loose_form(left), loose_form(right));
    !left.is_empty() && left == right
}

/// The most frequent answer of texts, read where `read` has one for a text and else from its last line: the first text with
/// it, how many have it, and the answer as that text has it. Answers that were read are the same where `same` says so. A
/// last line stands for the answer that was read and is the same as the line without units and decoration, else for the
/// first that differs in those only; beside answers that were read, a last line without a number is taken for talk. Ties
/// go to the answer seen first.
pub(crate) fn loose_majority(
    texts: &[&str],
    read: &[Option<&str>],
    same: impl Fn(&str, &str) -> bool,
) -> Option<(usize, usize, String)> {
    let any_read = read.iter().any(Option::is_some);
    let meant = |line: &str| {
        let bare = loose_form(line);
        let mut known = read.iter().copied().flatten();
        known
            .clone()
            .find(|answer| same(&bare, answer))
            .or_else(|| known.find(|answer| loosely_equal(line, answer)))
    };
    let last_line = |index: usize| {
        let line = last_line_answer(texts[index]).filter(|line| !any_read || !numbers(line).is_empty())?;
        Some(meant(line).unwrap_or(line))
    };
    let of = |index: usize| read.get(index).copied().flatten().or_else(|| last_line(index));
    let answers: Vec<Option<&str>> = (0..texts.len()).map(of).collect();
    let was_read = |answer: &str| read.iter().flatten().any(|known| *known == answer);
    let alike = |left: &str, right: &str| {
        same(left, right) || !was_read(left) && !was_read(right) && loosely_equal(left, right)
    };
    let vote = crate::tally(group_answers(&answers, alike), |_| 1.0);
    let sample = vote.sample()?;
    Some((sample, vote.counts[vote.winner?], answers[sample]?.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_answers_of_the_sheet() {
        let answers = ["6 hours", "6", "8", "6 hours per week", "8"];
        let exact = crate::majority(&answers.map(Some), |left, right| left == right);
        assert_eq!(exact.sample().map(|s| answers[s]), Some("8"), "exact strings: 8 has two votes");
        let (sample, count, answer) = loose_majority(&answers, &[], |_, _| false).unwrap();
        assert_eq!((sample, count, answer.as_str()), (0, 3, "6 hours"), "without units 6 has three");
    }

    #[test]
    fn answers_that_were_read_are_compared_by_the_task_alone() {
        let texts = ["#2x", "#2", "#2x", "so it is 2", "#2"];
        let read = [Some("2x"), Some("2"), Some("2x"), None, Some("2")];
        let (sample, count, answer) = loose_majority(&texts, &read, |l, r| l == r).unwrap();
        assert_eq!((sample, count, answer.as_str()), (1, 3, "2"), "2x is another answer than 2");
        let texts = ["#7", "I cannot tell.", "I cannot tell.", "I cannot tell.", "#7"];
        let read = [Some("7"), None, None, None, Some("7")];
        assert_eq!(loose_majority(&texts, &read, |l, r| l == r).unwrap().2, "7", "talk is no answer");
        assert_eq!(
            loose_majority(&texts[1..4], &[], |l, r| l == r).unwrap().1,
            3,
            "where nothing was read it may be"
        );
    }

    #[test]
    fn last_lines_of_many_forms() {
        for (text, wanted) in [
            ("Let us see.\nSo the answer is **42**.", Some("42")),
            ("a=1;b=2#2", Some("2")),
            ("Answer: 6 hours\n\n", Some("6 hours")),
            ("a total of 6 hours", Some("a total of 6 hours")),
            (
                "we add them all up and after a long and winding calculation we arrive at 1,250 apples",
                Some("1,250"),
            ),
            ("and so on and so forth, without ever coming to any conclusion that could be used", None),
            ("", None),
            ("  \n \n", None),
            ("so 42 apples", Some("so 42 apples")),
        ] {
            assert_eq!(last_line_answer(text), wanted, "{text}");
        }
    }

    #[test]
    fn units_do_not_count_but_other_numbers_do() {
        for (left, right, same) in [
            ("6 hours", "a total of 6 hours.", true),
            ("1,250", "$1250", true),
            ("6.0", "6", true),
            ("6 of 8", "6", false),
            ("Yes", "**yes**", true),
            ("", "", false),
            ("-6", "6", false),
            (".5 litres", "0.5", true),
            ("10-6", "6", false),
        ] {
            assert_eq!(loosely_equal(left, right), same, "{left} | {right}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "\\PC{0,80}", other in "[0-9 .,a-zA-Z#:\\n-]{0,60}") {
            for text in [&text, &other] {
                let _ = loose_form(text);
                if let Some(answer) = last_line_answer(text) {
                    prop_assert!(text.contains(answer) && !answer.is_empty());
                }
            }
            prop_assert_eq!(loosely_equal(&text, &other), loosely_equal(&other, &text));
        }
    }
}
