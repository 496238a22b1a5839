//! The same lettered question with two of its options in each other's place.

use elenchus_trace::{ChoiceOption, Content, ContentPart, Problem, Role};

/// The problem in which the options with these labels have exchanged what they say; the reference label moves with its
/// option. Where the question ends with the options, as rows of a file are read, they are written there anew, also in the
/// last message of a dialogue that asks it. `None` when a label is not there or both are the same.
pub fn exchanged(problem: &Problem, left: &str, right: &str) -> Option<Problem> {
    let place = |label: &str| problem.options.iter().position(|option| option.label == label);
    let (left, right) = (place(left)?, place(right)?);
    if left == right {
        return None;
    }
    let mut other = problem.clone();
    other.options[left].text.clone_from(&problem.options[right].text);
    other.options[right].text.clone_from(&problem.options[left].text);
    let labels = [&problem.options[left].label, &problem.options[right].label];
    other.gold = problem.gold.as_ref().map(|gold| match labels.iter().position(|label| *label == gold) {
        Some(at) => labels[1 - at].clone(),
        None => gold.clone(),
    });
    let (before, after) = (listed(&problem.options), listed(&other.options));
    if let Some(question) = problem.question.strip_suffix(&before) {
        other.question = format!("{question}{after}");
    }
    if let Some(last) = other.history.last_mut().filter(|message| message.role == Role::User) {
        let asks = |text: &mut String| {
            if *text == problem.question {
                text.clone_from(&other.question);
            }
        };
        match &mut last.content {
            Some(Content::Text(text)) => asks(text),
            Some(Content::Parts(parts)) => parts.iter_mut().for_each(|part| {
                if let ContentPart::Text { text, .. } = part {
                    asks(text);
                }
            }),
            None => {}
        }
    }
    Some(other)
}

/// The options as they stand behind a question: `\nA) …\nB) …`.
pub(super) fn listed(options: &[ChoiceOption]) -> String {
    options.iter().map(|option| format!("\n{}) {}", option.label, option.text.trim())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Task;
    use crate::choice::{Choice, FileSplit};
    use elenchus_trace::Message;

    const ROW: &str =
        r#"{"id":1,"question":"Where?","choices":{"A":"bank","B":"mall","C":"zoo"},"answer":"B"}"#;

    fn task() -> Choice {
        Choice::from_text(ROW, "row", FileSplit::Test, false).unwrap()
    }

    #[test]
    fn the_reference_moves_with_its_option_and_the_question_says_so() {
        let task = task();
        let mut problem = task.rows().problems[0].clone();
        problem.history = vec![Message::user(&problem.question)];
        let other = exchanged(&problem, "B", "A").unwrap();
        assert_eq!(other.question, "Where?\nA) mall\nB) bank\nC) zoo");
        assert_eq!((other.gold.as_deref(), other.history[0].text()), (Some("A"), other.question.clone()));
        assert!(task.verify(&other, "The answer is (A).").unwrap().is_correct());
        assert!(!task.verify(&other, "The answer is (B).").unwrap().is_correct());
        assert!(task.verify(&other, "The answer is the mall.").unwrap().is_correct());
        assert_eq!(exchanged(&other, "A", "B").unwrap(), problem, "twice is as it was");
        let wrong = exchanged(&problem, "A", "C").unwrap();
        assert_eq!(wrong.gold.as_deref(), Some("B"), "two wrong options leave the right one where it is");
        assert_eq!(exchanged(&problem, "A", "A"), None);
        assert_eq!(exchanged(&problem, "A", "D"), None);
    }

    #[test]
    fn a_question_that_does_not_end_with_its_options_stays() {
        let mut problem = task().rows().problems[0].clone();
        problem.question = "Where?".into();
        let other = exchanged(&problem, "A", "C").unwrap();
        assert_eq!((other.question.as_str(), other.options[0].text.as_str()), ("Where?", "zoo"));
    }
}
