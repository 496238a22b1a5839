//! RPC: a vote weighted by the probability of each response, improbable ones dropped (arXiv 2502.00511).

use crate::selection::{Selection, selection_strategy};
use crate::{ControlError, Draw, PathRule, PathWeight, Rule};
use elenchus_evaluate::Reduction;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Settings of `rpc`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RpcSettings {
    /// Number of responses n.
    pub samples: usize,
    /// Reasoning Pruning: drop improbable responses before the vote. Off, this is Perplexity Consistency alone.
    pub prune: bool,
    /// What a response that was kept weighs: its `probability`, or `one` (self-consistency after pruning, an ablation).
    pub weight: PathWeight,
    /// How token log-probabilities become the probability of a response: exp of their `mean` (the method) or `sum` (an
    /// ablation that breaks on uneven lengths).
    pub reduction: Reduction,
    /// Count a response each time it was sampled (an ablation). The method counts equal texts once.
    pub duplicates: bool,
    /// Draw in waves and stop when the lead cannot be overtaken, a probability being at most 1. Only without pruning,
    /// which looks at all responses together.
    pub early_stop: bool,
    /// Where the model gives no log-probabilities, count answers instead, and say so in the trace. Off, that is an error
    /// before the first call.
    pub fallback: bool,
    /// How the responses are drawn; the paper samples at temperature 1.
    #[serde(flatten)]
    pub draw: Draw,
}

impl Default for RpcSettings {
    fn default() -> Self {
        RpcSettings {
            samples: 16,
            prune: true,
            weight: PathWeight::Probability,
            reduction: Reduction::Mean,
            duplicates: false,
            early_stop: false,
            fallback: false,
            draw: Draw::default(),
        }
    }
}

/// Draws n responses in one request, gives each the probability pᵢ = exp(mean log-probability of its tokens), drops the
/// improbable ones, and lets each *distinct* remaining response vote for its answer with weight pᵢ. Returns the first
/// response with the heaviest answer; ties go to the answer seen first. Confidence is the winner's share of the weight
/// of all answers.
///
/// Improbable are those that a mixture of two Weibull distributions, fitted to the pᵢ of the question, puts into the
/// component with the smaller mean, if they are also below the mean of the pᵢ; with fewer than four different pᵢ nothing
/// is dropped. See [`crate::path_weights`] and [`crate::WeibullMixture`].
///
/// Helps where probability says something about being right and samples are few; equals a vote where all responses are
/// about as probable. Endpoints that report log-probabilities after the temperature change pᵢ. Temperature and top_p
/// are 1 unless given.
#[derive(Debug, Clone)]
pub struct Rpc {
    selection: Selection,
}

impl Rpc {
    /// Errors: [`ControlError::Setting`].
    pub fn new(settings: RpcSettings) -> Result<Self, ControlError> {
        let RpcSettings { samples, prune, weight, reduction, duplicates, early_stop, fallback, draw } =
            settings;
        if early_stop && prune {
            let hint = "set `prune = false`, or leave `early_stop` out";
            let problem = "pruning looks at all responses together, so the vote is not over before the last";
            return Err(ControlError::setting("rpc", "early_stop", problem, hint));
        }
        let rule = Rule::Path(PathRule { prune, weight, duplicates });
        let selection = Selection::new("rpc", samples, draw.or_sampling(1.0, 1.0), rule)?
            .by("likelihood", json!({ "reduction": reduction }))?
            .stopping_early(early_stop)
            .falling_back(fallback);
        Ok(Rpc { selection })
    }
}

selection_strategy!(
    Rpc,
    "rpc",
    "vote weighted by the probability of each distinct response, improbable ones dropped"
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{context, run};
    use elenchus_generate::{GenerateError, LanguageModel, LogprobDetail, Scripted};
    use elenchus_trace::{Answer, Completion, NodeKind};
    use serde_json::Value;

    fn completion(text: &str, probability: f32) -> Result<Completion, GenerateError> {
        let mut completion = Completion::text(text);
        // Two tokens with this mean.
        completion.logprobs = vec![probability.ln() * 1.5, probability.ln() * 0.5];
        Ok(completion)
    }

    fn sheet() -> Scripted {
        let samples =
            [("a#1", 0.85), ("b#1", 0.80), ("c#2", 0.62), ("d#2", 0.55), ("e#2", 0.50), ("f#3", 0.30)];
        Scripted::new("m").on_completions("", samples.map(|(text, p)| completion(text, p)))
    }

    fn rpc(settings: Value) -> Rpc {
        Rpc::new(serde_json::from_value(settings).unwrap()).unwrap()
    }

    fn decided(answer: &Answer) -> Value {
        let last = answer.trace.nodes.iter().rev().find_map(|node| match &node.kind {
            NodeKind::Decided { data, .. } => Some(data.clone()),
            _ => None,
        });
        last.unwrap()
    }

    #[test]
    fn perplexity_consistency_of_the_sheet() {
        let model = sheet().shared();
        let answer = run(&rpc(json!({"samples": 6, "prune": false})), &context(model.clone())).unwrap();
        assert_eq!(answer.answer.as_deref(), Some("2"));
        assert!((answer.confidence.unwrap() - 0.461326).abs() < 1e-6);
        assert_eq!(model.requests()[0].logprobs, LogprobDetail::Chosen);
        assert_eq!(
            (model.requests()[0].sampling.temperature, model.requests()[0].sampling.top_p),
            (1.0, 1.0)
        );
        assert_eq!(decided(&answer)["paths"]["distinct"], 6);
    }

    #[test]
    fn pruning_drops_the_improbable_majority() {
        let mut samples = Vec::new();
        for index in 0..6 {
            samples.push(completion(&format!("{index}#1"), 0.93 + 0.01 * index as f32));
        }
        for index in 0..12 {
            samples.push(completion(&format!("{index}#2"), 0.50 + 0.01 * index as f32));
        }
        let model = || {
            Scripted::new("m")
                .on_completions("", samples.iter().map(|s| Ok(s.as_ref().unwrap().clone())))
                .shared()
        };
        let pruned = run(&rpc(json!({"samples": 18})), &context(model())).unwrap();
        assert_eq!((pruned.answer.as_deref(), pruned.confidence), (Some("1"), Some(1.0)));
        assert_eq!(decided(&pruned)["paths"]["pruned"], 12);
        let plain = run(&rpc(json!({"samples": 18, "prune": false})), &context(model())).unwrap();
        assert_eq!(plain.answer.as_deref(), Some("2"));
        let ones = run(&rpc(json!({"samples": 18, "weight": "one"})), &context(model())).unwrap();
        assert_eq!((ones.answer.as_deref(), ones.votes[0].weight), (Some("1"), 6.0));
    }

    #[test]
    fn the_early_stop_needs_no_pruning_and_keeps_the_winner() {
        let model = Scripted::new("m")
            .on_completions("", (0..8).map(|i| completion(&format!("{i}#1"), 0.99)))
            .shared();
        let early = rpc(json!({"samples": 8, "prune": false, "early_stop": true}));
        let answer = run(&early, &context(model.clone())).unwrap();
        assert_eq!((answer.answer.as_deref(), answer.confidence), (Some("1"), Some(1.0)));
        assert!(decided(&answer)["drawn"].as_u64().unwrap() < 8, "{}", decided(&answer));
        let both = RpcSettings { early_stop: true, ..Default::default() };
        assert!(Rpc::new(both).unwrap_err().to_string().contains("prune = false"));
    }

    #[test]
    fn without_log_probabilities_it_refuses_or_counts() {
        let silent = || {
            let model = Scripted::always(["x#7", "y#7", "z#8"]);
            let mut has = model.capabilities();
            has.logprobs = false;
            model.with_capabilities(has).shared()
        };
        let model = silent();
        let error = run(&rpc(json!({"samples": 3})), &context(model.clone())).unwrap_err();
        assert!(matches!(error, ControlError::Capability { .. }), "{error}");
        assert!(error.to_string().contains("self-consistency"), "{error}");
        assert_eq!(model.calls(), 0);
        let answer = run(&rpc(json!({"samples": 3, "fallback": true})), &context(silent())).unwrap();
        assert_eq!((answer.answer.as_deref(), answer.votes[0].count), (Some("7"), 2));
        assert!(decided(&answer)["fallback"].is_string(), "the trace says that it was only a vote");
    }

    #[test]
    fn an_endpoint_that_ignores_the_wish_for_log_probabilities_makes_it_abstain() {
        let model = Scripted::new("m").on_completions("", [Ok(Completion::text("x#7"))]).shared();
        let answer = run(&rpc(json!({"samples": 2})), &context(model)).unwrap();
        assert!(answer.abstained.unwrap().contains("no log-probabilities"));
    }

    #[test]
    fn identical_samples_count_once_and_are_said() {
        let model = Scripted::new("m").on_completions("", (0..4).map(|_| completion("x#7", 0.5))).shared();
        let answer = run(&rpc(json!({"samples": 4})), &context(model)).unwrap();
        assert!(
            (answer.votes[0].weight - 0.5).abs() < 1e-6 && answer.votes[0].count == 4,
            "{:?}",
            answer.votes
        );
        let said = answer.trace.nodes.iter().any(
            |node| matches!(&node.kind, NodeKind::Decided { decision, .. } if decision.contains("identical")),
        );
        assert!(said);
    }
}
