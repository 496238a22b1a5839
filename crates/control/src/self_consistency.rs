//! Self-consistency: many samples, one vote (arXiv 2203.11171).

use crate::selection::{Selection, selection_strategy};
use crate::{ControlError, Draw, Rule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of `self-consistency`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SelfConsistencySettings {
    /// Number of responses n.
    pub samples: usize,
    /// Stop when the leading answer cannot be overtaken. The responses are then drawn in waves, each half of what is
    /// left: the vote cannot be over before half of them agree. Cheaper, in up to log₂ n + 1 turns instead of one.
    pub early_stop: bool,
    /// How the responses are drawn.
    #[serde(flatten)]
    pub draw: Draw,
}

impl Default for SelfConsistencySettings {
    fn default() -> Self {
        SelfConsistencySettings { samples: 8, early_stop: true, draw: Draw::default() }
    }
}

/// Draws n responses, groups their answers by the task's own equivalence, and returns the first response with the most
/// frequent answer; ties go to the answer seen first. Confidence is the share of the winner among all responses drawn,
/// those without an answer included. When no response has an answer, it abstains.
///
/// Helps when the right answer is more frequent than any single wrong one; hurts when one wrong answer is.
#[derive(Debug, Clone)]
pub struct SelfConsistency {
    selection: Selection,
}

impl SelfConsistency {
    /// Errors: [`ControlError::Setting`].
    pub fn new(settings: SelfConsistencySettings) -> Result<Self, ControlError> {
        let SelfConsistencySettings { samples, early_stop, draw } = settings;
        let selection = Selection::new("self-consistency", samples, draw, Rule::Majority)?;
        Ok(SelfConsistency { selection: selection.stopping_early(early_stop) })
    }
}

selection_strategy!(
    SelfConsistency,
    "self-consistency",
    "majority vote over sampled answers, stopping when the lead cannot be overtaken"
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{away, context, context_with, run};
    use elenchus_generate::Scripted;
    use elenchus_trace::{Budget, Completion, NodeKind};
    use proptest::prelude::{ProptestConfig, prop, prop_assert_eq, proptest};
    use std::time::{Duration, Instant};

    fn strategy(samples: usize, early_stop: bool) -> SelfConsistency {
        let settings = SelfConsistencySettings { samples, early_stop, ..Default::default() };
        SelfConsistency::new(settings).unwrap()
    }

    #[test]
    fn equivalent_answers_vote_together() {
        let model = Scripted::always(["x#8", "x#7", "x#07", "mumbling", "x#7"]).shared();
        let answer = run(&strategy(5, false), &context(model.clone())).unwrap();
        assert_eq!((answer.answer.as_deref(), answer.confidence), (Some("7"), Some(0.6)));
        assert_eq!(answer.text, "x#7", "the first response with the winning answer");
        assert_eq!((answer.votes[0].count, answer.votes[1].count), (3, 1));
        assert_eq!(model.calls(), 1, "all responses in one request");
        assert_eq!(answer.trace.completions().count(), 5);
        let last = &answer.trace.nodes.last().unwrap().kind;
        assert!(matches!(last, NodeKind::Decided { chosen: Some(node), .. } if node.0 == 1));
        assert!(elenchus_trace::Trace::from_json(&serde_json::to_string(&answer.trace).unwrap()).is_ok());
    }

    #[test]
    fn unanimous_responses_stop_at_half() {
        let model = Scripted::always(["x#7"]).shared();
        let answer = run(&strategy(8, true), &context(model.clone())).unwrap();
        assert_eq!((model.calls(), answer.votes[0].count, answer.confidence), (1, 4, Some(1.0)));
    }

    #[test]
    fn five_concurrent_samples_take_one_delay() {
        let model = Scripted::new("slow").delay(Duration::from_millis(50)).on("", ["x#7"]).shared();
        let start = Instant::now();
        let answer = run(&strategy(5, false), &context(model)).unwrap();
        let elapsed = start.elapsed();
        assert_eq!(answer.votes[0].count, 5);
        assert!(elapsed >= Duration::from_millis(50) && elapsed < Duration::from_millis(200), "{elapsed:?}");
    }

    #[test]
    fn without_answers_it_abstains() {
        let answer = run(&strategy(4, true), &context(Scripted::always(["hm"]).shared())).unwrap();
        assert_eq!((answer.answer, answer.confidence), (None, None));
        assert!(answer.abstained.unwrap().contains("none of the 4 responses"));
        assert_eq!(answer.usage.completion_tokens, 4);
    }

    #[test]
    fn a_budget_that_cannot_suffice_is_said_before_the_first_call() {
        let model = Scripted::always(["x#7"]).shared();
        for budget in [
            Budget { tokens: Some(8), ..Budget::default() },
            Budget { calls: Some(0), ..Budget::default() },
            Budget { seconds: Some(0.0), ..Budget::default() },
            Budget { money: Some(0.0), ..Budget::default() },
        ] {
            let error = run(&strategy(8, false), &context_with(model.clone(), budget)).unwrap_err();
            assert!(matches!(error, ControlError::Budget { .. }), "{error}");
            assert!(error.to_string().contains("hint: raise `budget."), "{error}");
        }
        assert_eq!(model.calls(), 0);
    }

    #[test]
    fn a_budget_that_ends_in_between_votes_on_what_is_there() {
        let model = Scripted::always(["x#1", "x#2", "x#2", "x#3"]).shared();
        let budget = Budget { calls: Some(1), ..Budget::default() };
        let answer = run(&strategy(8, true), &context_with(model, budget)).unwrap();
        assert_eq!((answer.answer.as_deref(), answer.confidence), (Some("2"), Some(0.5)));
        assert!(
            answer.trace.nodes.iter().any(|n| matches!(n.kind, NodeKind::Failed { .. })),
            "the trace says so"
        );
    }

    #[test]
    fn responses_that_do_not_come_abstain() {
        let said = |text: &str| Ok(Completion::text(text));
        let drawn = [said("x#1"), said("x#2"), said("x#1"), said("x#2"), Err(away())];
        let model = Scripted::new("m").on_completions("", drawn).shared();
        let answer = run(&strategy(8, true), &context(model.clone())).unwrap();
        assert_eq!((answer.answer.as_deref(), model.calls()), (Some("1"), 2), "the second wave of two fails");
        assert_eq!(answer.confidence, Some(2.0 / 6.0));
        let decided = answer.trace.nodes.last().unwrap();
        assert!(matches!(&decided.kind, NodeKind::Decided { data, .. } if data["lost"] == 2), "{decided:?}");
        assert!(answer.trace.nodes.iter().any(|node| matches!(node.kind, NodeKind::Failed { .. })));

        let mut first = Completion::text("x#7");
        first.extra.insert("lost".into(), serde_json::json!({"samples": 3, "why": "out of memory"}));
        let model = Scripted::new("m").on_completions("", [Ok(first)]).shared();
        let answer = run(&strategy(4, false), &context(model.clone())).unwrap();
        assert_eq!(
            (answer.confidence, model.calls()),
            (Some(0.25), 1),
            "what was lost is not asked for again"
        );
        let failed = answer.trace.nodes.iter().find_map(|node| match &node.kind {
            NodeKind::Failed { error } => Some(error.as_str()),
            _ => None,
        });
        assert_eq!(failed, Some("3 of 4 responses did not come: out of memory"));

        let model = Scripted::new("m").on_completions("", [Err(away())]).shared();
        assert!(run(&strategy(8, true), &context(model)).is_err(), "none at all is an error");
    }

    #[test]
    fn a_single_sample_is_a_vote_of_one() {
        let answer = run(&strategy(1, true), &context(Scripted::always(["x#7"]).shared())).unwrap();
        assert_eq!(answer.confidence, Some(1.0));
        assert!(SelfConsistency::new(SelfConsistencySettings { samples: 0, ..Default::default() }).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_early_stop_finds_the_winner_of_the_whole_vote(ballots in prop::collection::vec(0u8..4, 1..16)) {
            let texts: Vec<String> =
                ballots.iter().map(|&b| if b == 0 { "hm".into() } else { format!("x#{b}") }).collect();
            let all = run(&strategy(texts.len(), false), &context(Scripted::always(texts.clone()).shared())).unwrap();
            let model = Scripted::always(texts.clone()).shared();
            let early = run(&strategy(texts.len(), true), &context(model.clone())).unwrap();
            prop_assert_eq!(early.answer, all.answer);
            prop_assert_eq!(early.text, all.text);
            let waves = model.calls();
            assert!(waves <= texts.len().ilog2() as usize + 1, "{waves} waves for {} samples", texts.len());
        }
    }

    /// The last number of a text that was cut is where it was cut.
    #[test]
    fn what_was_cut_does_not_vote() {
        let cut = |text: &str| {
            Ok(Completion { finish: elenchus_trace::FinishReason::Length, ..Completion::text(text) })
        };
        let replies = [cut("x#31"), cut("x#31"), Ok(Completion::text("y#7"))];
        let model = Scripted::new("m").on_completions("", replies).shared();
        let settings = SelfConsistencySettings { samples: 3, early_stop: false, ..Default::default() };
        let answer = run(&SelfConsistency::new(settings).unwrap(), &context(model)).unwrap();
        assert_eq!(answer.answer.as_deref(), Some("7"));
        let all = Scripted::new("m").on_completions("", [cut("x#31"), cut("x#31"), cut("x#31")]).shared();
        let settings = SelfConsistencySettings { samples: 3, early_stop: false, ..Default::default() };
        let answer = run(&SelfConsistency::new(settings).unwrap(), &context(all)).unwrap();
        assert!(answer.answer.is_none() && answer.abstained.is_some(), "{answer:?}");
    }
}
