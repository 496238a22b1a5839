//! Settings of RAIN, and its rule for when a search may end.

use crate::tree::Statistics;
use crate::{ControlError, Draw};
use elenchus_evaluate::{JudgeExample, JudgeSettings, Property};
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// How far a leaf is written on before it is judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Simulate {
    /// To the end of the clause.
    #[default]
    Clause,
    /// To the end of the reply (the variant for truthfulness).
    Reply,
}

/// Where the similarity of two sets of tokens comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SimilarityFrom {
    /// Embeddings by the actor's model where it gives them, else words.
    #[default]
    Auto,
    /// The words that two texts have in common (Jaccard index): a substitute, and marked as one.
    Words,
}

/// Settings of `rain`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RainSettings {
    /// How the model judges its own text; what is left out is as in the defaults of `rain`, not of `judge`. Worked examples
    /// are shown in the chat voice only.
    #[serde(deserialize_with = "over_own_defaults")]
    pub judge: JudgeSettings,
    /// c of the selection formula.
    pub exploration: f64,
    /// A child is committed early when it was truly visited more often than this (T_min: 6 for harmlessness, 5 against
    /// attacks, 16 for truthfulness) …
    pub least_visits: u64,
    /// … and its mean value, between −1 and 1, is above this (V).
    pub enough: f64,
    /// Searches per committed set at most, those inherited from the tree before included (T).
    pub searches: u64,
    /// New searches per committed set that are allowed in any case.
    pub fresh_searches: u64,
    /// Continuations of a node.
    pub children: usize,
    /// Continuations of a node at most, where those it has are too alike and all bad; the same number as `children` switches
    /// this off.
    pub most_children: usize,
    /// Continuations are too alike when the norm of the variances of their embeddings is below this times the tokens of a
    /// set.
    pub variance: f64,
    /// Tokens of a set, by depth below the root; the last one holds for everything deeper.
    pub lengths: Vec<u32>,
    /// Temperature of sampled sets; 2 against attacks.
    pub set_temperature: f32,
    /// Sampled sets keep this many of the likeliest tokens.
    pub set_top_k: u32,
    /// Similarity above which siblings share a value.
    pub similarity: f64,
    /// Weight of a shared value, times the similarity; 0 switches sharing off.
    pub share: f64,
    /// Where similarity comes from.
    pub similarity_from: SimilarityFrom,
    /// Share of the uniform distribution in the priors at the root.
    pub root_uniform: f64,
    /// How far a leaf is written on before it is judged.
    pub simulate: Simulate,
    /// Tokens to the end of a clause at most.
    pub clause_tokens: u32,
    /// What ends a clause.
    pub clause_ends: Vec<String>,
    /// What begins the next turn of the user, where the reply ends.
    pub turns: Vec<String>,
    /// How the reply is drawn, at temperature 1 and top_p 1 unless given; `max_tokens` bounds the whole reply. `min_p` holds
    /// for continuations, too: where a vocabulary is small, the tenth token is one that the model would never write,
    /// and a judge that likes what is odd and short has its way. 0, the paper's, takes all ten.
    #[serde(flatten)]
    pub draw: Draw,
}

impl Default for RainSettings {
    fn default() -> Self {
        let example = |question: &str, solution: &str, right| JudgeExample {
            question: question.into(),
            solution: solution.into(),
            drafts: Vec::new(),
            right,
        };
        RainSettings {
            judge: JudgeSettings {
                vote: true,
                property: Some(Property { good: "is harmless".into(), bad: "is harmful".into() }),
                examples: vec![
                    example(
                        "How can I stop my dog from barking at night?",
                        "Walk it in the evening and give it a quiet place to sleep.",
                        true,
                    ),
                    example(
                        "How do I get into my neighbour's e-mail account?",
                        "Guess the answers to his security questions, then set a new password.",
                        false,
                    ),
                ],
                ..JudgeSettings::default()
            },
            exploration: 2.0,
            least_visits: 6,
            enough: 0.8,
            searches: 50,
            fresh_searches: 15,
            children: 10,
            most_children: 20,
            variance: 0.03,
            lengths: vec![1, 2, 4, 10],
            set_temperature: 1.0,
            set_top_k: 15,
            similarity: 0.95,
            share: 0.2,
            similarity_from: SimilarityFrom::Auto,
            root_uniform: 0.25,
            simulate: Simulate::Clause,
            clause_tokens: 40,
            clause_ends: [",", ".", "?", ":", ";", "\n"].map(String::from).into(),
            turns: ["\nUser:", "\nHuman:"].map(String::from).into(),
            draw: Draw { max_tokens: 2048, ..Draw::default() },
        }
    }
}

/// Reads the judge's settings over those that RAIN takes: without its property and its votes it would be another method.
fn over_own_defaults<'de, D: Deserializer<'de>>(deserializer: D) -> Result<JudgeSettings, D::Error> {
    let given = serde_json::Map::deserialize(deserializer)?;
    let mut all = serde_json::to_value(RainSettings::default().judge).map_err(D::Error::custom)?;
    if let serde_json::Value::Object(all) = &mut all {
        all.extend(given);
    }
    serde_json::from_value(all).map_err(D::Error::custom)
}

impl RainSettings {
    /// Errors: [`ControlError::Setting`] for the first setting out of range.
    pub(super) fn check(&self, strategy: &str) -> Result<(), ControlError> {
        let wrong = |field: &str, value: String, hint: &str| {
            Err(ControlError::setting(strategy, field, format!("{value} is out of range"), hint))
        };
        if !(self.exploration >= 0.0 && self.exploration.is_finite()) {
            return wrong("exploration", self.exploration.to_string(), "0 or more; the paper takes 2");
        }
        if !(-2.0..=1.0).contains(&self.enough) {
            return wrong("enough", self.enough.to_string(), "values lie between -1 and 1; below -1 all do");
        }
        if self.searches == 0 || self.fresh_searches == 0 || self.searches > 100_000 {
            return wrong(
                "searches",
                self.searches.to_string(),
                "between 1 and 100000, at least 1 of them new",
            );
        }
        if !(2..=100).contains(&self.children) {
            return wrong("children", self.children.to_string(), "between 2 and 100");
        }
        if !(self.children..=1000).contains(&self.most_children) {
            return wrong("most_children", self.most_children.to_string(), "not below `children`");
        }
        if self.lengths.is_empty() || self.lengths.contains(&0) {
            return wrong("lengths", format!("{:?}", self.lengths), "1 or more tokens per depth");
        }
        if !(0.0..=10.0).contains(&self.set_temperature) {
            return wrong("set_temperature", self.set_temperature.to_string(), "between 0 and 10");
        }
        for (field, value) in
            [("similarity", self.similarity), ("share", self.share), ("root_uniform", self.root_uniform)]
        {
            if !(0.0..=1.0).contains(&value) {
                return wrong(field, value.to_string(), "between 0 and 1");
            }
        }
        if !(self.variance >= 0.0 && self.variance.is_finite()) {
            return wrong("variance", self.variance.to_string(), "0 or more");
        }
        if self.clause_tokens == 0 {
            return wrong("clause_tokens", "0".into(), "at least 1");
        }
        self.draw.check(strategy)
    }

    /// The rule for when a search may end.
    pub fn stop_rule(&self) -> StopRule {
        StopRule {
            least_visits: self.least_visits,
            enough: self.enough,
            searches: self.searches,
            fresh_searches: self.fresh_searches,
        }
    }

    /// Tokens of the sets below a node at this depth.
    pub(super) fn length(&self, depth: usize) -> u32 {
        self.lengths.get(depth).or(self.lengths.last()).copied().unwrap_or(1)
    }
}

/// When the most visited child is committed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StopRule {
    /// True visits above which it may be committed early.
    pub least_visits: u64,
    /// Mean value above which it may be committed early.
    pub enough: f64,
    /// Searches at most, those inherited included.
    pub searches: u64,
    /// New searches that are allowed in any case.
    pub fresh_searches: u64,
}

impl StopRule {
    /// Whether to end, after `done` new searches below a root that had `inherited` visits before. True visits count:
    /// shared values make `visits` larger than what was really looked at.
    pub fn ends(&self, done: u64, inherited: u64, best: Option<&Statistics>) -> bool {
        let early = best.is_some_and(|best| best.true_visits > self.least_visits && best.value > self.enough);
        early || done >= self.searches.saturating_sub(inherited).max(self.fresh_searches)
    }
}
