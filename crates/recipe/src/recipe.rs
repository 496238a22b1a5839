//! What a recipe file says. Unknown fields are refused everywhere.

use crate::Acceptance;
use elenchus_control::{Triple as Axes, strategy};
use elenchus_learn::rounds::RoundSettings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where a recipe works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Makes answers better without changing weights.
    TestTime,
    /// Changes weights.
    Training,
    /// Measures.
    Measurement,
}

/// How far a recipe is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Usable; its acceptance has not been run to the end.
    Preview,
    /// Method, baselines, ablations and acceptance are there, and the verdict is known.
    Complete,
}

/// The place in the taxonomy of arXiv 2407.14507 and 2407.11511 (sheets 03 and 41): generate, evaluate, control, and who
/// learns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Triple {
    /// How candidates come about.
    pub generate: String,
    /// How they are judged.
    pub evaluate: String,
    /// What decides the next step.
    pub control: String,
    /// What learns; `none` at test time.
    pub learner: String,
    /// The same in the registered words of the taxonomy. A recipe with a strategy may leave it out: the strategy says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub axes: Option<Axes>,
}

/// A strategy of the registry with its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StrategyPart {
    /// Name in the registry.
    pub name: String,
    /// Its settings; those left out have the defaults of the paper.
    #[serde(default)]
    pub settings: Value,
}

/// A recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name, as on the command line.
    pub name: String,
    /// Title of the paper.
    pub title: String,
    /// arXiv identifier.
    pub paper: String,
    /// Number of the specification sheet.
    pub sheet: u32,
    /// One line: what it does for a user.
    pub summary: String,
    /// Where it works.
    pub kind: Kind,
    /// How far it is.
    pub state: State,
    /// Result of the last full reproduction in `docs/results/`; absent before one has run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// What it does, where no doc comment of a part says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// What it costs, where no strategy says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<String>,
    /// When it helps and when it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helps: Option<String>,
    /// How it differs from the paper.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub differs: Option<String>,
    /// Commands that show it, where the usual ones do not fit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
    /// Place in the taxonomy.
    pub triple: Triple,
    /// The strategy that `ask`, `eval`, `compare` run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<StrategyPart>,
    /// The rounds that `improve` runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounds: Option<RoundSettings>,
    /// Settings of the reproduction's experiment, by size; checked by the experiment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reproduce: Option<Experiment>,
    /// What must hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acceptance: Option<Acceptance>,
}

impl Recipe {
    /// The place on the three axes in registered words: that of its strategy with its settings, else as written.
    pub fn axes(&self) -> Option<Axes> {
        let of_strategy = self
            .strategy
            .as_ref()
            .and_then(|part| Some(strategy(&part.name, part.settings.clone()).ok()?.triple()));
        of_strategy.or(self.triple.axes)
    }
}

/// Settings of an experiment at its two sizes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// At most 5 minutes on 2 cores.
    pub quick: Value,
    /// As long as the statistics need.
    pub full: Value,
}
