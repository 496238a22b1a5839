//! Grouping of answers that mean the same.

use std::collections::HashMap;

/// Which answers mean the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    /// For each answer its group; `None` for a sample without an answer.
    pub of: Vec<Option<usize>>,
    /// For each group the index of its first answer; groups stand in the order in which they were first seen.
    pub first: Vec<usize>,
}

impl Groups {
    /// Number of groups.
    pub fn len(&self) -> usize {
        self.first.len()
    }

    /// Whether no sample had an answer.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }
}

/// Groups answers in the order given: an answer joins the first group whose first answer it is equivalent to.
///
/// Strings that were seen before are looked up and not compared again, so the cost is `n` look-ups and at most
/// (distinct strings) × (groups) calls of `equivalent`.
pub fn group_answers(
    answers: &[Option<impl AsRef<str>>],
    mut equivalent: impl FnMut(&str, &str) -> bool,
) -> Groups {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let mut first: Vec<usize> = Vec::new();
    let mut texts: Vec<&str> = Vec::new();
    let mut of = Vec::with_capacity(answers.len());
    for (index, answer) in answers.iter().enumerate() {
        let Some(answer) = answer else {
            of.push(None);
            continue;
        };
        let answer = answer.as_ref();
        if let Some(&group) = seen.get(answer) {
            of.push(Some(group));
            continue;
        }
        let group = texts.iter().position(|text| equivalent(text, answer)).unwrap_or_else(|| {
            texts.push(answer);
            first.push(index);
            texts.len() - 1
        });
        seen.insert(answer, group);
        of.push(Some(group));
    }
    Groups { of, first }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equivalent_spellings_share_a_group_and_missing_answers_have_none() {
        let answers = [Some("1/2"), None, Some("7"), Some("0.5"), Some("1/2"), Some("7")];
        let half = |text: &str| text == "1/2" || text == "0.5";
        let groups = group_answers(&answers, |left, right| left == right || (half(left) && half(right)));
        assert_eq!(groups.of, [Some(0), None, Some(1), Some(0), Some(0), Some(1)]);
        assert_eq!(groups.first, [0, 2]);
        assert_eq!((groups.len(), groups.is_empty()), (2, false));
    }

    #[test]
    fn a_repeated_string_is_compared_once() {
        let answers = vec![Some("4"); 1000];
        let mut comparisons = 0;
        let groups = group_answers(&answers, |_, _| {
            comparisons += 1;
            true
        });
        assert_eq!(
            (groups.len(), comparisons),
            (1, 0),
            "the exact-string path must not call the equivalence"
        );
    }
}
