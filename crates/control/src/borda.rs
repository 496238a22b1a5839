//! Borda vote by certainty (arXiv 2502.18581), and the sums and means that the paper compares it with.

use crate::selection::{Selection, selection_strategy};
use crate::{ControlError, Draw, Power, Rule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How scores become weights of answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BordaRule {
    /// Σ (N − r + 1)^p over the responses with the answer, r the rank by score among all N.
    #[default]
    Rank,
    /// Σ of the scores.
    Sum,
    /// Mean of the scores; the paper finds it the worst, and worse with larger N.
    Mean,
}

/// Settings of `borda`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BordaSettings {
    /// Number of responses N.
    pub samples: usize,
    /// Evaluator whose scores rank them; `evaluators()` lists the names.
    pub evaluator: String,
    /// Settings of that evaluator.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub evaluator_settings: Value,
    /// How scores become weights.
    pub rule: BordaRule,
    /// The exponent p of the rank weights: a number, or `auto` for 0.3 up to 16 responses and 1.2 from 32 on. Tune it on
    /// validation questions, never on those that are reported.
    pub power: Power,
    /// Leave responses without an answer out before ranking. Off, they take up a rank and their weight is thrown away.
    pub drop_unanswered: bool,
    /// How the responses are drawn.
    #[serde(flatten)]
    pub draw: Draw,
}

impl Default for BordaSettings {
    fn default() -> Self {
        BordaSettings {
            samples: 8,
            evaluator: "certainty".into(),
            evaluator_settings: Value::Null,
            rule: BordaRule::Rank,
            power: Power::ByCount,
            drop_unanswered: false,
            draw: Draw::default(),
        }
    }
}

/// Draws N responses in one request, ranks them by an evaluator's score (certainty by default), and lets each vote for
/// its answer with weight (N − r + 1)^p. Returns the first response with the heaviest answer; ties go to the answer seen
/// first. p = 0 is the majority vote, p → ∞ the response with the highest score. Confidence is the winner's share of
/// the whole weight, that of responses without an answer included.
#[derive(Debug, Clone)]
pub struct Borda {
    selection: Selection,
}

impl Borda {
    /// Errors: [`ControlError::Setting`]; [`ControlError::Evaluate`] for an unknown evaluator or a wrong setting of it.
    pub fn new(settings: BordaSettings) -> Result<Self, ControlError> {
        let BordaSettings { samples, evaluator, evaluator_settings, rule, power, drop_unanswered, draw } =
            settings;
        power.check("borda")?;
        if rule != BordaRule::Rank && (drop_unanswered || power != Power::ByCount) {
            let hint = "leave `power` and `drop_unanswered` out, or set `rule = \"rank\"`";
            return Err(ControlError::setting(
                "borda",
                "rule",
                "sums and means have no ranks to weigh",
                hint,
            ));
        }
        let rule = match rule {
            BordaRule::Rank => Rule::Borda { power, drop_unanswered },
            BordaRule::Sum => Rule::Sum,
            BordaRule::Mean => Rule::Mean,
        };
        let selection = Selection::new("borda", samples, draw, rule)?.by(&evaluator, evaluator_settings)?;
        Ok(Borda { selection })
    }
}

selection_strategy!(Borda, "borda", "vote in which surer responses weigh more, by rank");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{completion, context, run};
    use elenchus_generate::Scripted;
    use elenchus_trace::Answer;

    fn answer(settings: BordaSettings) -> Answer {
        let rows = [("x#1", 9.0), ("y#1", 8.0), ("x#2", 3.0), ("y#2", 2.0), ("z#2", 1.0)];
        let model = Scripted::new("m").on_completions("", rows.map(|(text, c)| Ok(completion(text, c))));
        let settings = BordaSettings { samples: 5, ..settings };
        run(&Borda::new(settings).unwrap(), &context(model.shared())).unwrap()
    }

    #[test]
    fn the_example_of_the_sheet_through_a_model() {
        for (power, winner, weight) in
            [(0.0, "2", 3.0), (0.5, "1", 4.2360679775), (1.0, "1", 9.0), (2.0, "1", 41.0)]
        {
            let found = answer(BordaSettings { power: Power::Given(power), ..Default::default() });
            assert_eq!(found.answer.as_deref(), Some(winner), "p = {power}");
            assert!((found.votes[0].weight - weight).abs() < 1e-9, "p = {power}");
        }
        let one = answer(BordaSettings { power: Power::Given(1.0), ..Default::default() });
        assert_eq!((one.text.as_str(), one.confidence), ("x#1", Some(0.6)));
    }

    #[test]
    fn sum_and_mean_variants() {
        let sum = answer(BordaSettings { rule: BordaRule::Sum, ..Default::default() });
        assert_eq!((sum.answer.as_deref(), sum.votes[0].weight), (Some("1"), 17.0));
        let mean = answer(BordaSettings { rule: BordaRule::Mean, ..Default::default() });
        assert_eq!(mean.votes[1].weight, 2.0);
    }

    #[test]
    fn settings_that_contradict_each_other_or_leave_the_range_are_refused() {
        for settings in [
            BordaSettings { power: Power::Given(-1.0), ..Default::default() },
            BordaSettings { power: Power::Given(f64::NAN), ..Default::default() },
            BordaSettings { rule: BordaRule::Sum, drop_unanswered: true, ..Default::default() },
            BordaSettings { rule: BordaRule::Mean, power: Power::Given(1.0), ..Default::default() },
        ] {
            assert!(Borda::new(settings).unwrap_err().to_string().contains("hint:"));
        }
    }
}
