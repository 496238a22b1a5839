//! Answering one question with a recipe, for a service: by name, with settings from a request.

use crate::{RecipeError, built_in_recipes};
use elenchus_control::{ControlError, EstimateInput, Strategy, StrategyEntry, strategies, strategy};
use elenchus_evaluate::EvaluateError;
use elenchus_generate::{Context, GenerateError};
use elenchus_task::{Split, Task};
use elenchus_trace::{Answer, Problem, Usage, nearest};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::{Arc, LazyLock};

/// What a service can offer.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Offer {
    /// Name of the recipe or of the strategy.
    pub name: String,
    /// One line.
    pub summary: String,
    /// arXiv identifier, where it is a paper's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paper: Option<String>,
    /// What it costs, with n samples, p prompt and c completion tokens.
    pub cost: String,
    /// JSON schema of its settings.
    pub settings: Value,
    /// Roles of the models that it asks.
    pub roles: Vec<String>,
    #[serde(skip)]
    strategy: String,
    #[serde(skip)]
    defaults: Value,
}

/// The offers, recipes first. What needs the reference answer is left out: nobody who asks knows it.
static OFFERS: LazyLock<Vec<Offer>> = LazyLock::new(|| {
    let entries = strategies();
    let entry = |name: &str| entries.iter().find(|entry| entry.name == name);
    let mut offers: Vec<Offer> = Vec::new();
    // A recipe that cannot be read fails the tests of the catalogue; a service goes on without it.
    for recipe in built_in_recipes().unwrap_or_default() {
        let Some(part) = recipe.strategy else { continue };
        let Some(entry) = entry(&part.name) else { continue };
        let Ok(made) = strategy(&part.name, part.settings.clone()) else { continue };
        let paper = Some(recipe.paper);
        offers.extend(offer(recipe.name, recipe.summary, paper, entry, made.as_ref(), part.settings));
    }
    for entry in &entries {
        let Ok(made) = strategy(entry.name, Value::Null) else { continue };
        if !offers.iter().any(|offer| offer.name == entry.name) {
            let summary = entry.summary.to_string();
            offers.extend(offer(entry.name.into(), summary, None, entry, made.as_ref(), Value::Null));
        }
    }
    offers
});

fn offer(
    name: String,
    summary: String,
    paper: Option<String>,
    entry: &StrategyEntry,
    made: &dyn Strategy,
    defaults: Value,
) -> Option<Offer> {
    let needs = made.needs();
    let cost = made.estimate(&EstimateInput { prompt_tokens: 100, completion_tokens: 100 }).formula;
    (!needs.oracle).then(|| Offer {
        name,
        summary,
        paper,
        cost,
        settings: entry.settings.clone(),
        roles: needs.roles.into_iter().map(|needs| needs.role).collect(),
        strategy: entry.name.into(),
        defaults,
    })
}

/// Everything that can be served, recipes first.
pub fn offers() -> &'static [Offer] {
    &OFFERS
}

impl Offer {
    /// Whether it has this setting.
    pub fn has_setting(&self, name: &str) -> bool {
        self.settings.pointer("/properties").and_then(|all| all.get(name)).is_some()
    }
}

/// A recipe with its settings, ready to answer.
#[derive(Clone)]
pub struct Serving {
    offer: &'static Offer,
    strategy: Arc<dyn Strategy>,
    task: Arc<dyn Task>,
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, task) = (&self.offer.name, self.task.name());
        formatter.debug_struct("Serving").field("name", name).field("task", &task).finish_non_exhaustive()
    }
}

impl Serving {
    /// The recipe or strategy of this name; `settings` win over the recipe's own. `task` says how answers are extracted
    /// and compared.
    ///
    /// # Errors
    /// No recipe or task has the name (with the nearest ones); a setting is unknown or wrong.
    pub fn new(name: &str, settings: &Map<String, Value>, task: &str) -> Result<Self, RecipeError> {
        let wanted = name.replace('_', "-");
        let Some(offer) = OFFERS.iter().find(|offer| offer.name == wanted) else {
            return Err(RecipeError::Unknown {
                what: "recipe",
                name: name.into(),
                hint: nearest(&wanted, OFFERS.iter().map(|offer| offer.name.as_str())),
            });
        };
        let mut values = offer.defaults.as_object().cloned().unwrap_or_default();
        for (name, value) in settings {
            values.insert(name.clone(), value.clone());
        }
        let strategy = strategy(&offer.strategy, Value::Object(values))?;
        let task = Arc::from(elenchus_task::task(task, &Value::Null)?);
        Ok(Serving { offer, strategy, task })
    }

    /// Name, settings and cost.
    pub fn offer(&self) -> &'static Offer {
        self.offer
    }

    /// Name of the task.
    pub fn task(&self) -> &'static str {
        self.task.name()
    }

    /// What an answer costs at most, and how that comes about.
    pub fn estimate(&self, prompt_tokens: u64, completion_tokens: u64) -> (Usage, String) {
        let estimate = self.strategy.estimate(&EstimateInput { prompt_tokens, completion_tokens });
        (estimate.usage, estimate.formula)
    }

    /// Answers.
    ///
    /// # Errors
    /// What the strategy says: a need that is not met, a budget that cannot suffice, failures of models.
    pub async fn answer(&self, context: &Context, problem: &Problem) -> Result<Answer, RecipeError> {
        Ok(self.strategy.run(context, self.task.as_ref(), problem).await?)
    }
}

/// Whose fault an error is, for who turns it into a response.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cause<'a> {
    /// The request names something that there is not.
    NotFound,
    /// The request asks for what cannot be.
    Request,
    /// The budget.
    Budget,
    /// A model.
    Model(&'a GenerateError),
    /// We.
    Ours,
}

impl RecipeError {
    /// Whose fault it is.
    pub fn cause(&self) -> Cause<'_> {
        match self {
            RecipeError::Unknown { .. } => Cause::NotFound,
            RecipeError::Parse { .. } | RecipeError::Check { .. } | RecipeError::Task(_) => Cause::Request,
            RecipeError::Generate(error) => Cause::Model(error),
            RecipeError::Control(error) => match error {
                ControlError::Unknown { .. } => Cause::NotFound,
                ControlError::Setting { .. } | ControlError::Capability { .. } => Cause::Request,
                ControlError::Budget { .. } => Cause::Budget,
                ControlError::Generate(error) | ControlError::Evaluate(EvaluateError::Generate(error)) => {
                    Cause::Model(error)
                }
                _ => Cause::Ours,
            },
            _ => Cause::Ours,
        }
    }
}

/// Questions that the embedded model can read.
///
/// # Errors
/// The task has none.
pub fn embedded_examples(count: usize) -> Result<Vec<String>, RecipeError> {
    let task = elenchus_task::task("arithmetic", &Value::Null)?;
    let problems = task.problems(Split::Test, count, 1)?;
    Ok(problems.into_iter().map(|problem| problem.compact.unwrap_or(problem.question)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_and_strategies_are_offered_and_oracles_are_not() {
        let names: Vec<&str> = offers().iter().map(|offer| offer.name.as_str()).collect();
        assert!(names.contains(&"self-certainty"), "a recipe: {names:?}");
        assert!(names.contains(&"self-consistency"), "a strategy without a recipe: {names:?}");
        assert!(!names.contains(&"feedback-friction"), "it needs the reference answer: {names:?}");
        let mut unique = names.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), names.len(), "no name stands for two things");
        for offer in offers() {
            Serving::new(&offer.name, &Map::new(), "math").unwrap();
        }
    }

    #[test]
    fn settings_of_a_request_win_and_wrong_ones_are_named() {
        let mut settings = Map::new();
        settings.insert("samples".into(), 3.into());
        let serving = Serving::new("self_consistency", &settings, "math").unwrap();
        assert_eq!(serving.offer().name, "self-consistency", "`_` and `-` are the same");
        assert!(serving.estimate(10, 10).1.contains("n = 3"));
        settings.insert("sample".into(), 3.into());
        let error = Serving::new("self-consistency", &settings, "math").unwrap_err().to_string();
        assert!(error.contains("`samples`"), "{error}");
        let error = Serving::new("self-consistancy", &Map::new(), "math").unwrap_err().to_string();
        assert!(error.contains("did you mean `self-consistency`"), "{error}");
        assert!(Serving::new("single", &Map::new(), "maths").is_err());
    }
}
