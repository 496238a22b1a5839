//! Whether a reply says that the evidence conflicts or the question is ambiguous: a rule over phrases (arXiv 2506.03332
//! measures this; its detector is not known).

/// Phrases that state ambiguity, in lower case.
const STATED: [&str; 22] = [
    "ambiguous",
    "ambiguity",
    "conflicting",
    "conflicts with",
    "evidence conflicts",
    "sources conflict",
    "sources disagree",
    "sources differ",
    "evidence is mixed",
    "contradictory evidence",
    "contradictory sources",
    "contradict each other",
    "contradicts the",
    "disputed",
    "debated",
    "cannot be determined",
    "can't be determined",
    "cannot be settled",
    "more than one answer",
    "both answers",
    "depends on the interpretation",
    "open to interpretation",
];

/// Words before such a phrase that take it back.
const DENIED: [&str; 8] = ["no ", "not ", "n't ", "without ", "never ", "nothing ", "hardly ", "isn't "];

/// How many characters before a phrase a denial may stand.
const REACH: usize = 16;

/// Whether a reply states ambiguity: one of the phrases, not denied just before it. `unambiguous` is no such phrase.
pub fn states_ambiguity(reply: &str) -> bool {
    let reply = reply.rsplit_once("</think>").map_or(reply, |(_, said)| said).to_lowercase();
    STATED.iter().any(|phrase| {
        reply.match_indices(phrase).any(|(at, _)| {
            let before: Vec<char> = reply[..at].chars().rev().take(REACH).collect();
            let before: String = before.into_iter().rev().collect();
            let inside_word = before.chars().next_back().is_some_and(char::is_alphabetic);
            !inside_word && !DENIED.iter().any(|denied| before.contains(denied))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_count_and_denials_do_not() {
        for stated in [
            "The evidence conflicts, so I keep my answer.",
            "This question is AMBIGUOUS.",
            "There is conflicting evidence here.\nAnswer: Paris",
            "It cannot be determined from this.",
            "<think>clear</think>The sources disagree.",
        ] {
            assert!(states_ambiguity(stated), "{stated}");
        }
        for silent in [
            "Answer: Paris",
            "The question is not ambiguous.",
            "That is unambiguous.",
            "I see no conflicting evidence.",
            "<think>Is it ambiguous? The sources disagree.</think>Answer: 7",
            "",
        ] {
            assert!(!states_ambiguity(silent), "{silent}");
        }
    }
}
