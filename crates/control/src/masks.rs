//! Backward questions: one number of a problem hidden, an answer given (arXiv 2308.07758).

use elenchus_task::{Task, task};
use elenchus_trace::Problem;
use std::ops::Range;

/// Signs for a hidden number in a text, the first that the text does not use itself.
const SIGNS: [&str; 12] = ["x", "y", "z", "n", "k", "w", "v", "u", "t", "q", "p", "m"];

/// A sign that stands nowhere in a text as a name of its own: `x` is taken in `2x + 3` and free in `six boxes`.
fn free_sign(text: &str) -> &'static str {
    let is_letter = |c: Option<char>| c.is_some_and(char::is_alphabetic);
    let lower = text.to_lowercase();
    let is_free = |sign: &str| {
        !lower.match_indices(sign).any(|(at, _)| {
            let (before, after) = (&lower[..at], &lower[at + sign.len()..]);
            !is_letter(before.chars().next_back()) && !is_letter(after.chars().next())
        })
    };
    SIGNS.into_iter().find(|sign| is_free(sign)).unwrap_or(SIGNS[0])
}

/// Number words that are read as numbers. `one` is left out: it is a pronoun too often.
const WORDS: [(&str, u32); 27] = [
    ("two", 2),
    ("three", 3),
    ("four", 4),
    ("five", 5),
    ("six", 6),
    ("seven", 7),
    ("eight", 8),
    ("nine", 9),
    ("ten", 10),
    ("eleven", 11),
    ("twelve", 12),
    ("thirteen", 13),
    ("fourteen", 14),
    ("fifteen", 15),
    ("sixteen", 16),
    ("seventeen", 17),
    ("eighteen", 18),
    ("nineteen", 19),
    ("twenty", 20),
    ("thirty", 30),
    ("forty", 40),
    ("fifty", 50),
    ("sixty", 60),
    ("seventy", 70),
    ("eighty", 80),
    ("ninety", 90),
    ("dozen", 12),
];

/// A problem in which a number is hidden.
#[derive(Debug, Clone)]
pub struct Backward {
    /// The problem; its gold answer is the hidden number.
    pub problem: Problem,
    /// The sign of the hidden number and the given answer, where the text of the problem does not hold the answer.
    pub shown: Option<(&'static str, String)>,
}

impl Backward {
    fn hidden(&self) -> &str {
        self.problem.gold.as_deref().unwrap_or_default()
    }

    /// Whether a response finds the hidden number exactly. Texts are read by the rules of the task `math`: the hidden
    /// number is one, whatever the answers of the task are.
    pub fn is_recovered(&self, own: &dyn Task, response: &str) -> bool {
        let found = |task: &dyn Task| {
            task.extract(&self.problem, response)
                .is_some_and(|answer| task.equivalent(&self.problem, &answer, self.hidden()))
        };
        match self.shown {
            None => found(own),
            Some(_) => task("math", &serde_json::Value::Null).is_ok_and(|math| found(math.as_ref())),
        }
    }
}

/// Where the maskable numbers of a text stand, with their values in digits. Not numbers: digits that touch a letter or
/// another number (`B12`, `3D`, `2nd`, dates such as `3/4`), and parts of longer words.
pub(crate) fn number_spans(text: &str) -> Vec<(Range<usize>, String)> {
    let bytes = text.as_bytes();
    let word = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_' || *b >= 0x80);
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        if bytes[at].is_ascii_digit() {
            while at < bytes.len() {
                let inner =
                    matches!(bytes[at], b',' | b'.') && bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
                if !(bytes[at].is_ascii_digit() || inner) {
                    break;
                }
                at += 1;
            }
            let before = start.checked_sub(1).map(|i| bytes[i]);
            let joined = |byte: Option<&u8>| matches!(byte, Some(b'/' | b':' | b'^'));
            let minus =
                before == Some(b'-') && start.checked_sub(2).is_some_and(|i| !bytes[i].is_ascii_whitespace());
            if !word(before.as_ref())
                && !joined(before.as_ref())
                && !minus
                && !word(bytes.get(at))
                && !joined(bytes.get(at))
            {
                found.push((start..at, text[start..at].replace(',', "")));
            }
        } else if word(bytes.get(at)) {
            while at < bytes.len() && (word(bytes.get(at)) || bytes[at].is_ascii_digit()) {
                at += 1;
            }
            let lower = text[start..at].to_ascii_lowercase();
            let hyphen = |index: Option<usize>| index.and_then(|i| bytes.get(i)) == Some(&b'-');
            if let Some((_, value)) = WORDS.iter().find(|(name, _)| *name == lower)
                && !hyphen(start.checked_sub(1))
                && !hyphen(Some(at))
            {
                found.push((start..at, value.to_string()));
            }
        } else {
            at += 1;
        }
    }
    found
}

/// One backward question per number of the problem that can be hidden, with `candidate` as the given answer; empty where
/// none can. The same numbers in the same order for every candidate that can be given at all.
pub fn backward_questions(task: &dyn Task, problem: &Problem, candidate: &str) -> Vec<Backward> {
    if let Some(hidden) = task.backward(problem, candidate) {
        return hidden.into_iter().map(|problem| Backward { problem, shown: None }).collect();
    }
    // A letter says nothing; the text of its option does.
    let option = problem.options.iter().find(|option| option.label == candidate.trim());
    let given = option.map_or(candidate, |option| option.text.as_str());
    let mut said: Vec<String> = problem.history.iter().map(|message| message.text()).collect();
    said.extend([problem.question.clone(), given.to_string()]);
    let sign = free_sign(&said.join(" "));
    number_spans(&problem.question)
        .into_iter()
        .enumerate()
        .map(|(index, (span, value))| {
            let question =
                format!("{}{sign}{}", &problem.question[..span.start], &problem.question[span.end..]);
            let mut hidden = Problem::new(format!("{}-hidden-{index}", problem.id), &problem.task, question)
                .with_gold(value);
            hidden.history.clone_from(&problem.history);
            Backward { problem: hidden, shown: Some((sign, given.to_string())) }
        })
        .collect()
}

/// The numbers that are hidden: those that every candidate can be asked about, whose value is no candidate (copying the
/// given answer would count as finding it), at most `most`.
pub fn usable_masks(questions: &[Vec<Backward>], candidates: &[&str], most: usize) -> Vec<usize> {
    let common = questions.iter().map(Vec::len).min().unwrap_or(0);
    let Some(first) = questions.first() else { return Vec::new() };
    let given = |backward: &Backward| {
        let shown =
            questions.iter().flatten().filter_map(|q| q.shown.as_ref().map(|(_, given)| given.as_str()));
        candidates.iter().copied().chain(shown).any(|candidate| same_number(candidate, backward.hidden()))
    };
    (0..common).filter(|&mask| !given(&first[mask])).take(most).collect()
}

fn same_number(left: &str, right: &str) -> bool {
    let number = |text: &str| text.trim().trim_start_matches('$').replace(',', "").parse::<f64>().ok();
    left.trim() == right.trim() || number(left).zip(number(right)).is_some_and(|(l, r)| l == r)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn math() -> Box<dyn Task> {
        task("math", &serde_json::Value::Null).unwrap()
    }

    fn values(text: &str) -> Vec<String> {
        number_spans(text).into_iter().map(|(_, value)| value).collect()
    }

    #[test]
    fn numbers_and_what_only_looks_like_one() {
        assert_eq!(values("Ann has $1,250.50 and three cats, 20% of 7."), ["1250.50", "3", "20", "7"]);
        assert!(values("Room B12 on the 2nd floor, a 3D film, at 4:30, someone often").is_empty());
        assert_eq!(values("Twelve eggs; someone weighs twenty-one"), ["12"], "compounds are left alone");
    }

    #[test]
    fn one_occurrence_is_hidden_at_a_time() {
        let problem = Problem::new("p", "math", "3 boxes of 5 eggs and 3 more.").with_gold("18");
        let hidden = backward_questions(math().as_ref(), &problem, "18");
        let texts: Vec<&str> = hidden.iter().map(|b| b.problem.question.as_str()).collect();
        assert_eq!(
            texts,
            [
                "x boxes of 5 eggs and 3 more.",
                "3 boxes of x eggs and 3 more.",
                "3 boxes of 5 eggs and x more."
            ]
        );
        assert_eq!(hidden[1].problem.gold.as_deref(), Some("5"));
        assert_eq!(hidden[1].shown, Some(("x", "18".to_string())));
    }

    #[test]
    fn the_sign_of_a_hidden_number_is_none_that_the_text_uses() {
        let problem = Problem::new("p", "math", "Solve 2x + 3 = 11 for X and six y.").with_gold("4");
        let hidden = backward_questions(math().as_ref(), &problem, "4");
        assert_eq!(hidden[0].problem.question, "Solve 2x + z = 11 for X and six y.");
        assert_eq!(hidden[0].shown, Some(("z", "4".to_string())));
    }

    #[test]
    fn a_number_that_is_a_candidate_is_not_hidden() {
        let problem = Problem::new("p", "math", "2 boxes of 5 eggs.").with_gold("10");
        let questions: Vec<Vec<Backward>> =
            ["10", "5"].map(|c| backward_questions(math().as_ref(), &problem, c)).into();
        assert_eq!(usable_masks(&questions, &["10", "5"], 9), [0]);
        assert!(usable_masks(&[], &[], 9).is_empty());
    }

    proptest! {
        #[test]
        fn spans_are_inside_the_text_and_apart(text in "\\PC{0,40}") {
            let mut end = 0;
            for (span, value) in number_spans(&text) {
                prop_assert!(span.start >= end && text.get(span.clone()).is_some() && !value.is_empty());
                end = span.end;
            }
        }
    }
}
