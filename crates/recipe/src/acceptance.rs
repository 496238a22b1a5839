//! What a paper claims, and what was found.

use elenchus_measure::Interval;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The `[acceptance]` table of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Acceptance {
    /// Task.
    pub task: String,
    /// What it is compared with, at equal generation budget.
    pub baseline: String,
    /// How the budgets are made equal.
    pub budget: String,
    /// Seeds that the full size needs: models, trainings of one or, where nothing is trained, samplings. With fewer it tells
    /// nothing.
    pub seeds: usize,
    /// The claims, each judged on its own; the recipe holds when all required ones do.
    pub claims: Vec<Claim>,
}

/// One claim: an estimate must reach `at_least`, and when `above` is given the interval's low end must exceed it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Short identifier that the experiment reports under.
    pub id: String,
    /// The claim in words.
    pub text: String,
    /// Smallest estimate that counts, in the unit of the estimate (shares, not points).
    pub at_least: f64,
    /// The interval's low end must lie above this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    /// Whether the recipe's verdict depends on it; ablations and observations do not.
    #[serde(default = "yes")]
    pub required: bool,
}

fn yes() -> bool {
    true
}

/// How much is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Size {
    /// Minutes.
    Quick,
    /// As long as the statistics need.
    Full,
}

/// What was found about a claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClaimResult {
    /// The claim.
    pub id: String,
    /// In words.
    pub text: String,
    /// Whether it holds; `None` when it cannot be told (arms left out, or fewer seeds than the full size needs).
    pub holds: Option<bool>,
    /// The estimate.
    pub estimate: Option<f64>,
    /// Low end of its 95 % interval.
    pub low: Option<f64>,
    /// High end.
    pub high: Option<f64>,
    /// Whether the verdict depends on it.
    pub required: bool,
}

impl Claim {
    /// Judges an estimate with its interval; `None` cannot tell.
    pub fn judge(&self, found: Option<Interval>) -> ClaimResult {
        let holds = found.as_ref().map(|interval| {
            interval.value >= self.at_least && self.above.is_none_or(|bound| interval.low > bound)
        });
        ClaimResult {
            id: self.id.clone(),
            text: self.text.clone(),
            holds,
            estimate: found.as_ref().map(|i| i.value),
            low: found.as_ref().map(|i| i.low),
            high: found.as_ref().map(|i| i.high),
            required: self.required,
        }
    }
}

/// The outcome of `reproduce`; its JSON is the contract of `reproduce --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reproduction {
    /// The recipe.
    pub recipe: String,
    /// The size.
    pub size: Size,
    /// Whether every required claim holds; a claim that could not be told counts against it.
    pub holds: bool,
    /// Claim by claim.
    pub claims: Vec<ClaimResult>,
    /// Seconds.
    pub seconds: f64,
}

impl Acceptance {
    /// Whether a run of this size over so many seeds may judge the claims: the quick size says what it has.
    pub fn enough_seeds(&self, size: Size, seeds: usize) -> bool {
        size == Size::Quick || seeds >= self.seeds
    }
}

impl Reproduction {
    /// Judges all claims of a run over so many seeds; `find` gives the estimate of a claim. At the full size with fewer
    /// seeds than the acceptance asks for estimates stand and nothing is told.
    pub fn judge(
        recipe: &str,
        size: Size,
        acceptance: &Acceptance,
        seeds: usize,
        find: impl Fn(&str) -> Option<Interval>,
        seconds: f64,
    ) -> Self {
        let enough = acceptance.enough_seeds(size, seeds);
        let judge = |claim: &Claim| {
            let found = claim.judge(find(&claim.id));
            ClaimResult { holds: found.holds.filter(|_| enough), ..found }
        };
        let claims: Vec<ClaimResult> = acceptance.claims.iter().map(judge).collect();
        let holds = claims.iter().filter(|c| c.required).all(|c| c.holds == Some(true));
        Reproduction { recipe: recipe.into(), size, holds, claims, seconds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(above: Option<f64>, required: bool) -> Claim {
        Claim { id: "a".into(), text: "t".into(), at_least: 0.02, above, required }
    }

    #[test]
    fn an_estimate_must_reach_the_size_and_the_interval_the_side() {
        let found = |value, low| Some(Interval { value, low, high: value + 0.05 });
        assert_eq!(
            claim(None, true).judge(found(0.02, -0.01)).holds,
            Some(true),
            "size reached, no side asked"
        );
        assert_eq!(
            claim(Some(0.0), true).judge(found(0.02, -0.01)).holds,
            Some(false),
            "interval contains 0"
        );
        assert_eq!(claim(Some(0.0), true).judge(found(0.019, 0.01)).holds, Some(false), "too small");
        assert_eq!(claim(None, true).judge(None).holds, None, "not measured is not a yes and not a no");
    }

    #[test]
    fn the_verdict_needs_every_required_claim() {
        let acceptance = |required| Acceptance {
            task: "arithmetic".into(),
            baseline: "b".into(),
            budget: "equal".into(),
            seeds: 1,
            claims: vec![claim(None, required)],
        };
        let verdict =
            |required| Reproduction::judge("r", Size::Quick, &acceptance(required), 1, |_| None, 0.0).holds;
        assert!(!verdict(true), "an untold required claim counts against it");
        assert!(verdict(false), "an untold observation does not");
    }

    #[test]
    fn the_full_size_tells_nothing_with_too_few_seeds() {
        let acceptance = Acceptance {
            task: "arithmetic".into(),
            baseline: "b".into(),
            budget: "equal".into(),
            seeds: 3,
            claims: vec![claim(None, true)],
        };
        let found = |_: &str| Some(Interval { value: 0.5, low: 0.4, high: 0.6 });
        let judged = |size, seeds| Reproduction::judge("r", size, &acceptance, seeds, found, 0.0);
        let few = judged(Size::Full, 2);
        assert!(!few.holds && few.claims[0].holds.is_none(), "two seeds of three");
        assert_eq!(few.claims[0].estimate, Some(0.5), "what was measured is still shown");
        assert!(judged(Size::Full, 3).holds && judged(Size::Quick, 1).holds);
    }
}
