//! A control: an evaluator that knows nothing.

use crate::{Basis, EvaluateError, EvaluateInput, Evaluator, Needs};
use async_trait::async_trait;
use elenchus_trace::Feedback;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the `coin-flip` evaluator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CoinFlipSettings {
    /// Another seed flips other coins under the same seed of the run.
    pub seed: u64,
}

/// Scores every candidate with a fair coin, 1 or 0, which depends on the seed, the problem and the candidate's text and
/// place alone. A control and nothing else: a method that gains by it leaks the right answer somewhere. Costs no model call.
#[derive(Debug, Clone, Copy)]
pub struct CoinFlip {
    settings: CoinFlipSettings,
}

impl CoinFlip {
    /// The evaluator with its settings.
    pub fn new(settings: CoinFlipSettings) -> Self {
        CoinFlip { settings }
    }
}

#[async_trait]
impl Evaluator for CoinFlip {
    fn name(&self) -> &'static str {
        "coin-flip"
    }

    fn summary(&self) -> &'static str {
        "a fair coin: the control that no method may gain by"
    }

    fn needs(&self) -> Needs {
        Needs::default()
    }

    fn basis(&self) -> Basis {
        Basis::Nothing
    }

    async fn evaluate(&self, input: EvaluateInput<'_>) -> Result<Vec<Feedback>, EvaluateError> {
        let flip = |(place, text): (usize, &str)| {
            let problem = input.problem;
            let label = format!("coin\0{}\0{}\0{text}\0{}", problem.task, problem.id, self.settings.seed);
            // The top bit: `seed_for` mixes its label well into all bits.
            let heads = input.context.seed_for(&label, place as u64) >> 63 == 1;
            Feedback::score(self.name(), f64::from(u8::from(heads)))
        };
        Ok(input.candidates.iter().map(|c| c.completion.text.as_str()).enumerate().map(flip).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, candidates};

    #[test]
    fn the_coin_is_fair_and_comes_down_the_same_way_again() {
        let texts: Vec<String> = (0..4000).map(|i| format!("a={i}#{}", i % 9)).collect();
        let samples = candidates(&texts.iter().map(|text| (text.as_str(), None)).collect::<Vec<_>>());
        let coin = CoinFlip::new(CoinFlipSettings::default());
        let scores = |coin: &CoinFlip| -> Vec<f64> {
            testing::evaluate(coin, &samples).unwrap().into_iter().filter_map(|f| f.score).collect()
        };
        let found = scores(&coin);
        let heads = found.iter().sum::<f64>();
        // Four standard deviations of 31.6.
        assert!((1873.0..=2127.0).contains(&heads), "{heads}");
        assert_eq!(found, scores(&coin));
        assert_ne!(found, scores(&CoinFlip::new(CoinFlipSettings { seed: 1 })));
    }

    #[test]
    fn it_does_not_know_right_from_wrong() {
        // The right answer is 7. Over many candidates, heads fall as often on right ones as on wrong ones.
        let texts: Vec<String> = (0..4000).map(|i| format!("a={i}#{}", 7 + i % 2)).collect();
        let samples = candidates(&texts.iter().map(|text| (text.as_str(), None)).collect::<Vec<_>>());
        let found = testing::evaluate(&CoinFlip::new(CoinFlipSettings::default()), &samples).unwrap();
        let share = |right: usize| {
            let scores =
                found.iter().enumerate().filter(|(i, _)| i % 2 == right).filter_map(|(_, f)| f.score);
            scores.sum::<f64>() / 2000.0
        };
        assert!((share(0) - share(1)).abs() < 0.064, "{} and {}", share(0), share(1));
    }
}
