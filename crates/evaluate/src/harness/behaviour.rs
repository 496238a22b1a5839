//! Intent × knowledge.

use elenchus_task::arithmetic::dispute::Ground;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a judge is after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Intent {
    /// Objects to wrong answers only, and argues for the right one.
    Constructive,
    /// Objects to every answer, right or wrong.
    Hypercritical,
    /// Objects to right answers only, to mislead.
    Malicious,
}

/// What its objections rest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Knowledge {
    /// Nothing: a template.
    None,
    /// Claims out of one's own head.
    Parametric,
    /// Quotes: evidence with its source, or a line of the problem.
    Grounded,
}

/// A cell of the grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Behaviour {
    /// What the judge is after.
    pub intent: Intent,
    /// What its objections rest on.
    pub knowledge: Knowledge,
}

impl Intent {
    /// All intents.
    pub const ALL: [Intent; 3] = [Intent::Constructive, Intent::Hypercritical, Intent::Malicious];

    /// As in settings.
    pub fn name(self) -> &'static str {
        match self {
            Intent::Constructive => "constructive",
            Intent::Hypercritical => "hypercritical",
            Intent::Malicious => "malicious",
        }
    }

    /// The intent of a name.
    pub fn from_name(name: &str) -> Option<Intent> {
        Intent::ALL.into_iter().find(|intent| intent.name() == name)
    }

    /// Whether such a judge objects to an answer that is right, or wrong.
    pub fn objects(self, right: bool) -> bool {
        match self {
            Intent::Constructive => !right,
            Intent::Hypercritical => true,
            Intent::Malicious => right,
        }
    }
}

impl Knowledge {
    /// All kinds.
    pub const ALL: [Knowledge; 3] = [Knowledge::None, Knowledge::Parametric, Knowledge::Grounded];

    /// As in settings.
    pub fn name(self) -> &'static str {
        match self {
            Knowledge::None => "none",
            Knowledge::Parametric => "parametric",
            Knowledge::Grounded => "grounded",
        }
    }

    /// The kind of a name.
    pub fn from_name(name: &str) -> Option<Knowledge> {
        Knowledge::ALL.into_iter().find(|knowledge| knowledge.name() == name)
    }

    /// The same in the compact notation of arithmetic.
    pub fn ground(self) -> Ground {
        match self {
            Knowledge::None => Ground::Bare,
            Knowledge::Parametric => Ground::Step,
            Knowledge::Grounded => Ground::Quoted,
        }
    }
}

impl Behaviour {
    /// The nine cells, intent by intent.
    pub fn grid() -> Vec<Behaviour> {
        let of = |intent| Knowledge::ALL.map(|knowledge| Behaviour { intent, knowledge });
        Intent::ALL.into_iter().flat_map(of).collect()
    }
}

impl fmt::Display for Behaviour {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}, {}", self.intent.name(), self.knowledge.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malicious_judge_leaves_wrong_answers_alone() {
        assert!(Intent::Malicious.objects(true) && !Intent::Malicious.objects(false));
        assert!(!Intent::Constructive.objects(true) && Intent::Constructive.objects(false));
        assert!(Intent::Hypercritical.objects(true) && Intent::Hypercritical.objects(false));
    }

    #[test]
    fn names_read_back_and_the_grid_has_nine_cells() {
        let grid = Behaviour::grid();
        assert_eq!((grid.len(), grid[8].to_string()), (9, "malicious, grounded".to_string()));
        for cell in grid {
            assert_eq!(Intent::from_name(cell.intent.name()), Some(cell.intent));
            assert_eq!(Knowledge::from_name(cell.knowledge.name()), Some(cell.knowledge));
        }
    }
}
