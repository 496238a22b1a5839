//! A calculator for responses: every equation between numbers that a text writes down is computed again.
//!
//! It knows the text alone, no problem and no reference answer: `12 * 4 = 50` is wrong whatever was asked. What it cannot
//! read with certainty (letters in an expression, powers, percentages) it leaves unjudged.

use crate::countdown::Rational;
use elenchus_trace::{Step, StepVerdict};
use num_traits::{CheckedAdd, CheckedDiv, CheckedMul, CheckedSub, Zero};

/// Longest expression that is read, in bytes.
const LONGEST: usize = 200;
/// Most digits of a number behind its point, and in front of it.
const DIGITS: usize = 15;

/// What can be said of a response without the reference answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recheck {
    /// The steps that could be checked, in order.
    pub steps: Vec<StepVerdict>,
    /// Whether the final answer stands up: it follows from the steps, or does what the problem asks; `None` when there is
    /// none, or when that cannot be told.
    pub answer: Option<bool>,
    /// What is wrong, in words.
    pub reason: Option<String>,
}

impl Recheck {
    /// Checks that were made.
    pub fn checks(&self) -> usize {
        self.steps.len() + usize::from(self.answer.is_some())
    }

    /// Checks that failed.
    pub fn failures(&self) -> usize {
        self.steps.iter().filter(|step| !step.correct).count() + usize::from(self.answer == Some(false))
    }

    /// 1 when nothing that could be checked is wrong, else half of the share that is right; `None` when nothing could be
    /// checked. So every response without a fault stands above every one with a fault.
    pub fn score(&self) -> Option<f64> {
        let (checks, failures) = (self.checks(), self.failures());
        match (checks, failures) {
            (0, _) => None,
            (_, 0) => Some(1.0),
            _ => Some(0.5 * (checks - failures) as f64 / checks as f64),
        }
    }
}

/// Computes all equations of a response again, and asks whether its answer is the result of one of them. An answer that
/// is no number, or a response without any equation, leaves `answer` open.
pub fn recompute(response: &str, answer: Option<&str>) -> Recheck {
    let equations = equations(response);
    let mut results: Vec<Rational> = equations.iter().map(|equation| equation.claimed).collect();
    results.dedup();
    let number = answer.and_then(|answer| whole_number(answer.trim()));
    let follows = match number {
        Some(number) if !results.is_empty() => Some(results.contains(&number)),
        _ => None,
    };
    let steps: Vec<StepVerdict> = equations.into_iter().map(Equation::judged).collect();
    let wrong = steps.iter().find(|step| !step.correct);
    let reason = match (wrong, follows) {
        (Some(step), _) => Some(format!(
            "`{}` is wrong{}",
            step.step.text,
            step.expected.as_deref().map(|value| format!(": it is {value}")).unwrap_or_default()
        )),
        (None, Some(false)) => {
            Some(format!("the answer {} is the result of no step", answer.unwrap_or_default()))
        }
        _ => None,
    };
    Recheck { steps, answer: follows, reason }
}

/// An equation between two sides without letters.
#[derive(Debug, Clone, PartialEq)]
struct Equation {
    step: Step,
    /// What the left side is; `None` when it has no value.
    value: Option<Rational>,
    /// What is claimed.
    claimed: Rational,
    /// Digits behind the point of the claim: a result may be rounded to them.
    decimals: usize,
}

impl Equation {
    fn judged(self) -> StepVerdict {
        let correct = self.value.is_some_and(|value| {
            if self.decimals == 0 {
                return value == self.claimed;
            }
            let half = Rational::new(1, 2 * 10i128.pow(self.decimals as u32));
            let apart = value.checked_sub(&self.claimed);
            apart.is_some_and(|apart| apart <= half && -apart <= half)
        });
        let expected = if correct { None } else { self.value.map(|value| value.to_string()) };
        StepVerdict { step: self.step, correct, expected }
    }
}

fn whole_number(text: &str) -> Option<Rational> {
    let text = text.trim_start_matches('$').trim_end_matches('.');
    let mut reader = Reader { text, at: 0, operators: 0, decimals: 0 };
    let value = reader.sum(0)??;
    (reader.rest().trim().is_empty()).then_some(value)
}

/// The equations of a text: for every `=`, the expression that ends in front of it and the one that begins behind it,
/// where at least one of them computes something.
fn equations(text: &str) -> Vec<Equation> {
    let mut found = Vec::new();
    for (place, _) in text.match_indices('=') {
        let bytes = text.as_bytes();
        // `==`, `<=`, `>=`, `!=` and `≠` claim something else.
        let neighbour =
            |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(|b| b"=<>!".contains(b));
        if neighbour(place.checked_sub(1)) || neighbour(Some(place + 1)) {
            continue;
        }
        let Some(left_start) = expression_start(&text[..place]) else { continue };
        let left_text = &text[left_start..place];
        let mut left = Reader { text: left_text, at: 0, operators: 0, decimals: 0 };
        let Some(value) = left.sum(0) else { continue };
        if !left.rest().trim().is_empty() {
            continue;
        }
        let behind = &text[place + 1..];
        let behind = &behind[..behind.find(['\n', ';', '#', '=']).unwrap_or(behind.len())];
        let mut right = Reader { text: behind, at: 0, operators: 0, decimals: 0 };
        let Some(Some(claimed)) = right.sum(0) else { continue };
        if left.operators + right.operators == 0 || right.unfinished() {
            continue;
        }
        let end = place + 1 + right.at;
        let lead = left_text.len() - left_text.trim_start().len();
        let start = left_start + lead;
        found.push(Equation {
            step: Step { text: text[start..end].trim_end().to_string(), start, end },
            value,
            claimed,
            decimals: right.decimals,
        });
    }
    found
}

/// Where the expression begins that ends at the end of `text`; `None` when what stands in front of it belongs to it and
/// cannot be read (a letter, a power, a percentage).
fn expression_start(text: &str) -> Option<usize> {
    let floor = text.len().saturating_sub(LONGEST);
    let mut start = text.len();
    for (at, character) in text.char_indices().rev() {
        let part = character.is_ascii_digit()
            || ".,+-*/()[] $\u{d7}\u{f7}\u{2212}\u{b7}\u{22c5}\u{2013}".contains(character);
        if !part {
            break;
        }
        if at < floor {
            return None;
        }
        start = at;
    }
    // Punctuation of a sentence in front of the expression.
    let trimmed = text[start..].trim_start_matches([' ', ',', '.']);
    let begin = text.len() - trimmed.len();
    let first = trimmed.chars().next()?;
    // `x - 3`, `3^2 * 4`, `2x`: the piece that was read is the end of something longer.
    let before = text[..start].chars().next_back();
    let attached = begin == start && before.is_some_and(|c| !c.is_whitespace() && !"#;=:|".contains(c));
    let operator = "+-*/\u{d7}\u{f7}\u{2212}\u{b7}\u{22c5}\u{2013})]".contains(first);
    let opens = before.is_none_or(|c| "\n;#=:|".contains(c));
    if attached || (operator && !(opens && (first == '-' || first == '\u{2212}'))) {
        None
    } else {
        Some(begin)
    }
}

/// Reads sums of products of numbers and parentheses from the left, as far as they go.
struct Reader<'t> {
    text: &'t str,
    at: usize,
    operators: usize,
    /// Digits behind the point of the number that was read last.
    decimals: usize,
}

/// A value, or `Some(None)` for a division by zero or an overflow; `None` where there is no expression.
type Read = Option<Option<Rational>>;

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '$']).len();
    }

    /// Whether what follows shows that the expression goes on in a way that was not read.
    fn unfinished(&self) -> bool {
        let attached = self.rest().chars().next();
        let next = self.rest().trim_start().chars().next();
        attached.is_some_and(|c| c.is_alphanumeric() || c == '^' || c == '%' || c == '_' || c == '\\')
            || next.is_some_and(|c| "^%+*/(\u{d7}\u{f7}\u{b7}\u{22c5}".contains(c))
    }

    fn operator(&mut self, of: &[char]) -> Option<char> {
        let before = self.at;
        self.skip();
        let next = self.rest().chars().next().filter(|c| of.contains(c));
        match next {
            Some(operator) => {
                self.at += operator.len_utf8();
                Some(operator)
            }
            None => {
                self.at = before;
                None
            }
        }
    }

    fn sum(&mut self, depth: usize) -> Read {
        let mut value = self.product(depth)?;
        loop {
            let before = self.at;
            let Some(operator) = self.operator(&['+', '-', '\u{2212}', '\u{2013}']) else {
                return Some(value);
            };
            let Some(right) = self.product(depth) else {
                self.at = before;
                return Some(value);
            };
            self.operators += 1;
            value = value.zip(right).and_then(|(left, right)| match operator {
                '+' => left.checked_add(&right),
                _ => left.checked_sub(&right),
            });
        }
    }

    fn product(&mut self, depth: usize) -> Read {
        let mut value = self.factor(depth)?;
        loop {
            let before = self.at;
            let operators = ['*', '/', '\u{d7}', '\u{f7}', '\u{b7}', '\u{22c5}'];
            let Some(operator) = self.operator(&operators) else { return Some(value) };
            let Some(right) = self.factor(depth) else {
                self.at = before;
                return Some(value);
            };
            self.operators += 1;
            value = value.zip(right).and_then(|(left, right)| match operator {
                '/' | '\u{f7}' if right.is_zero() => None,
                '/' | '\u{f7}' => left.checked_div(&right),
                _ => left.checked_mul(&right),
            });
        }
    }

    fn factor(&mut self, depth: usize) -> Read {
        if depth > 20 {
            return None;
        }
        if self.operator(&['-', '\u{2212}']).is_some() {
            return Some(self.factor(depth + 1)?.map(|value| -value));
        }
        for (open, close) in [('(', ')'), ('[', ']')] {
            let before = self.at;
            if self.operator(&[open]).is_some() {
                let value = self.sum(depth + 1);
                if value.is_some() && self.operator(&[close]).is_some() {
                    return value;
                }
                self.at = before;
                return None;
            }
        }
        self.number().map(Some)
    }

    fn number(&mut self) -> Option<Rational> {
        self.skip();
        let bytes = self.rest().as_bytes();
        let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
        let mut at = 0;
        let mut value: i128 = 0;
        let mut digits = 0;
        loop {
            while digit(at) {
                value = value.checked_mul(10)?.checked_add(i128::from(bytes[at] - b'0'))?;
                digits += 1;
                at += 1;
            }
            // A comma that stands in front of exactly three digits divides thousands.
            let thousands = digits > 0
                && bytes.get(at) == Some(&b',')
                && (1..=3).all(|place| digit(at + place))
                && !digit(at + 4);
            if !thousands {
                break;
            }
            at += 1;
        }
        if digits == 0 || digits > DIGITS {
            return None;
        }
        let mut decimals = 0;
        if bytes.get(at) == Some(&b'.') && digit(at + 1) {
            at += 1;
            while digit(at) {
                value = value.checked_mul(10)?.checked_add(i128::from(bytes[at] - b'0'))?;
                decimals += 1;
                at += 1;
            }
            if decimals > DIGITS {
                return None;
            }
        }
        self.at += at;
        self.decimals = decimals;
        Some(Rational::new(value, 10i128.pow(decimals as u32)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The equations that were judged, with their verdicts.
    fn judged(text: &str) -> Vec<(String, bool)> {
        recompute(text, None).steps.into_iter().map(|step| (step.step.text, step.correct)).collect()
    }

    #[test]
    fn equations_are_found_in_compact_and_free_text() {
        for (text, wanted) in [
            ("g=50;e=50-1=49#49", vec![("50-1=49", true)]),
            ("e=50-1=48;f=48+2=50#50", vec![("50-1=48", false), ("48+2=50", true)]),
            ("3*5=15;15+7=22#3*5+7", vec![("3*5=15", true), ("15+7=22", true)]),
            (
                "Tom has 3 + 4 = 7 apples, so he pays 7 * $2 = $14.",
                vec![("3 + 4 = 7", true), ("7 * $2 = $14", true)],
            ),
            ("total = 1,200 / 4 = 300", vec![("1,200 / 4 = 300", true)]),
            ("10 / 3 = 3.33", vec![("10 / 3 = 3.33", true)]),
            ("10 / 3 = 3", vec![("10 / 3 = 3", false)]),
            ("(2 + 3) \u{d7} 4 = 20", vec![("(2 + 3) \u{d7} 4 = 20", true)]),
            ("5 = 2 + 4", vec![("5 = 2 + 4", false)]),
            ("-3 + 5 = 2", vec![("-3 + 5 = 2", true)]),
            ("1/0 = 5", vec![("1/0 = 5", false)]),
            ("2 + 2 = 2 * 2 = 5", vec![("2 + 2 = 2 * 2", true), ("2 * 2 = 5", false)]),
        ] {
            let wanted: Vec<(String, bool)> = wanted.into_iter().map(|(t, c)| (t.to_string(), c)).collect();
            assert_eq!(judged(text), wanted, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_for_certain_is_not_judged() {
        for text in [
            "x - 1 = 4",
            "2x + 3 = 7",
            "5 apples - 1 = 4",
            "3^2 = 9",
            "2 * 3^2 = 18",
            "20% * 50 = 10",
            "12 = 3 * x",
            "3 * 4 = 12x",
            "a = 7",
            "x == 3 + 4",
            "3 + 4 >= 8",
            "(2 + 3 = 5",
            "10 = 5 (2)",
            "50% = 1 / 2",
            "1 + 1 = ",
        ] {
            assert!(judged(text).is_empty(), "{text}: {:?}", judged(text));
        }
    }

    #[test]
    fn the_answer_must_be_the_result_of_a_step() {
        let score = |text: &str, answer: &str| recompute(text, Some(answer)).score();
        assert_eq!(score("g=50;e=50-1=49#49", "49"), Some(1.0));
        assert_eq!(score("g=50;e=50-1=49#48", "48"), Some(0.25), "one of two checks");
        assert_eq!(score("e=50-1=48#48", "48"), Some(0.25));
        assert_eq!(score("#49", "49"), None, "nothing was written that could be computed");
        assert_eq!(score("3 + 4 = 7. Answer: B", "B"), Some(1.0), "a letter follows from no equation");
        let wrong = recompute("e=50-1=48", None);
        assert_eq!((wrong.answer, wrong.reason.as_deref()), (None, Some("`50-1=48` is wrong: it is 49")));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "([0-9xX=+*/(). ,;#$-]|\\PC){0,60}") {
            let found = recompute(&text, Some("7"));
            for step in &found.steps {
                prop_assert!(text.get(step.step.start..step.step.end).is_some());
                prop_assert!(step.step.text.contains('='));
            }
            prop_assert!(found.score().is_none_or(|score| (0.0..=1.0).contains(&score)));
        }

        #[test]
        fn true_equations_are_right_and_false_ones_wrong(a in 0i64..500, b in 1i64..500, off in 1i64..9) {
            for (operator, value) in [('+', a + b), ('-', a - b), ('*', a * b)] {
                let text = format!("n = {a} {operator} {b} = {value}");
                prop_assert_eq!(judged(&text).first().map(|j| j.1), Some(true), "{}", text);
                let text = format!("n = {a} {operator} {b} = {}", value + off);
                prop_assert_eq!(judged(&text).first().map(|j| j.1), Some(false), "{}", text);
            }
        }
    }
}
