//! Best of n: many samples, the one with the highest score.

use crate::selection::{Selection, selection_strategy};
use crate::{ControlError, Draw, Rule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Settings of `best-of-n`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BestOfNSettings {
    /// Number of responses n.
    pub samples: usize,
    /// Evaluator that scores them; `evaluators()` lists the names.
    pub evaluator: String,
    /// Settings of that evaluator.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub evaluator_settings: Value,
    /// Whether a response without an answer can win: for open-ended tasks.
    pub allow_unanswered: bool,
    /// Abstain when the best response scores less: 0.5 with a judge keeps only what it holds for right. Nothing never
    /// abstains for this reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// How the responses are drawn.
    #[serde(flatten)]
    pub draw: Draw,
}

impl Default for BestOfNSettings {
    fn default() -> Self {
        BestOfNSettings {
            samples: 8,
            evaluator: "certainty".into(),
            evaluator_settings: Value::Null,
            allow_unanswered: false,
            at_least: None,
            draw: Draw::default(),
        }
    }
}

/// Draws n responses in one request, scores each with an evaluator and returns the best; ties go to the first. Responses
/// without an answer are masked, as are those for which the evaluator abstains. When it abstains for all, so does the
/// answer, and also when the best score is below `at_least`. Confidence is the probability that the evaluator claims for
/// the winner, if any.
#[derive(Debug, Clone)]
pub struct BestOfN {
    selection: Selection,
}

impl BestOfN {
    /// Errors: [`ControlError::Setting`]; [`ControlError::Evaluate`] for an unknown evaluator or a wrong setting of it.
    pub fn new(settings: BestOfNSettings) -> Result<Self, ControlError> {
        let rule = Rule::Argmax { allow_unanswered: settings.allow_unanswered };
        let BestOfNSettings { samples, evaluator, evaluator_settings, at_least, draw, .. } = settings;
        let selection = Selection::new("best-of-n", samples, draw, rule)?
            .by(&evaluator, evaluator_settings)?
            .at_least(at_least);
        Ok(BestOfN { selection })
    }
}

selection_strategy!(BestOfN, "best-of-n", "the sampled response with the highest score of any evaluator");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{away, completion, context, run};
    use crate::{EvaluateKind, Strategy};
    use elenchus_generate::{LanguageModel, LogprobDetail, Scripted};
    use elenchus_trace::NodeKind;
    use serde_json::json;

    fn strategy(evaluator: &str, settings: Value) -> BestOfN {
        let settings = BestOfNSettings {
            samples: 3,
            evaluator: evaluator.into(),
            evaluator_settings: settings,
            ..Default::default()
        };
        BestOfN::new(settings).unwrap()
    }

    #[test]
    fn the_surest_response_with_an_answer_wins() {
        let model = Scripted::new("m")
            .on_completions(
                "",
                [("no answer", 9.0), ("x#8", 1.0), ("x#7", 2.0)].map(|(t, c)| Ok(completion(t, c))),
            )
            .shared();
        let answer = run(&strategy("certainty", Value::Null), &context(model.clone())).unwrap();
        assert_eq!(answer.answer.as_deref(), Some("7"), "the surest one is masked because it has no answer");
        assert_eq!(model.requests()[0].logprobs, LogprobDetail::Distribution);
        let judged =
            answer.trace.nodes.iter().filter(|n| matches!(n.kind, NodeKind::Evaluated { .. })).count();
        assert_eq!(judged, 3);
        let open = BestOfNSettings { samples: 3, allow_unanswered: true, ..Default::default() };
        let model = Scripted::new("m").on_completions(
            "",
            [("no answer", 9.0), ("x#8", 1.0), ("x#7", 2.0)].map(|(t, c)| Ok(completion(t, c))),
        );
        let answer = run(&BestOfN::new(open).unwrap(), &context(model.shared())).unwrap();
        assert_eq!((answer.text.as_str(), answer.answer), ("no answer", None));
    }

    #[test]
    fn a_best_response_that_is_not_good_enough_is_not_given() {
        let with = |at_least| {
            let settings = BestOfNSettings {
                samples: 2,
                evaluator: "judge".into(),
                at_least: Some(at_least),
                ..Default::default()
            };
            let model = Scripted::new("m").on("Solve", ["x#8", "x#7"]).scores(|_, index| {
                // 0.6 for right in either order of the labels.
                let logprob = if index == 0 { 0.6f32.ln() } else { 0.4f32.ln() };
                Ok(elenchus_generate::Scored {
                    logprobs: vec![logprob],
                    distributions: Vec::new(),
                    usage: Default::default(),
                })
            });
            run(&BestOfN::new(settings).unwrap(), &context(model.shared())).unwrap()
        };
        let (kept, refused) = (with(0.5), with(0.65));
        assert!(kept.answer.is_some() && kept.abstained.is_none());
        assert_eq!(refused.answer, None);
        let reason = refused.abstained.unwrap();
        assert!(reason.contains("below 0.65"), "{reason}");
        assert!(refused.confidence.is_some_and(|c| (c - 0.6).abs() < 1e-6), "what the judge claimed is told");
    }

    #[test]
    fn a_judge_decides_and_its_probability_is_the_confidence() {
        let model = Scripted::new("m")
            .on("Solve", ["x#8", "x#7", "x#9"])
            .scores(|request, index| {
                let right = request.messages[0].text().contains("x#7") != (index == 1);
                let logprob = if right { -0.1 } else { -2.0 };
                Ok(elenchus_generate::Scored {
                    logprobs: vec![logprob],
                    distributions: Vec::new(),
                    usage: Default::default(),
                })
            })
            .shared();
        let strategy = strategy("judge", Value::Null);
        assert_eq!(strategy.triple().evaluate, EvaluateKind::ExternalModel);
        let answer = run(&strategy, &context(model)).unwrap();
        assert_eq!(answer.answer.as_deref(), Some("7"));
        assert!(answer.confidence.unwrap() > 0.8, "{:?}", answer.confidence);
        assert_eq!(answer.usage, answer.trace.usage(), "the trace accounts for every call");
    }

    #[test]
    fn a_judge_that_fails_makes_the_answer_abstain() {
        let model = Scripted::new("m").on("Solve", ["x#8"]).on_completions("", [Err(away())]);
        let mut has = model.capabilities();
        (has.score, has.top_logprobs) = (false, 0);
        let model = model.with_capabilities(has).shared();
        let answer = run(&strategy("judge", Value::Null), &context(model)).unwrap();
        assert_eq!((answer.answer, answer.confidence), (None, None));
        let reason = answer.abstained.unwrap();
        assert!(reason.contains("`judge` abstained") && reason.contains("away"), "{reason}");
    }

    #[test]
    fn nothing_is_judged_when_no_response_has_an_answer() {
        let model = Scripted::always(["hm"]).shared();
        let answer = run(&strategy("judge", Value::Null), &context(model.clone())).unwrap();
        assert!(answer.abstained.is_some());
        assert_eq!(model.calls(), 1);
    }

    #[test]
    fn a_missing_capability_is_said_before_the_first_call() {
        let model = Scripted::always(["x#7"]);
        let mut has = model.capabilities();
        has.distributions = false;
        let model = model.with_capabilities(has).shared();
        let error = run(&strategy("certainty", Value::Null), &context(model.clone())).unwrap_err();
        assert!(matches!(error, ControlError::Capability { .. }), "{error}");
        assert!(error.to_string().contains("top_k"), "{error}");
        assert_eq!(model.calls(), 0);
        let top = strategy("certainty", json!({"top_k": {"k": 5, "vocabulary": 100}}));
        assert!(run(&top, &context(model.clone())).is_ok());
        assert_eq!(model.requests()[0].logprobs, LogprobDetail::Top(5));
    }

    #[test]
    fn wrong_settings_of_the_evaluator_are_named() {
        let settings = BestOfNSettings { evaluator: "jugde".into(), ..Default::default() };
        let message = BestOfN::new(settings).unwrap_err().to_string();
        assert!(message.contains("did you mean `judge`"), "{message}");
    }
}
