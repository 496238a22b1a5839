//! Answering one question with a recipe, for a service: by name, with settings from a request.

use crate::{RecipeError, StrategyPart, built_in_recipes};
use elenchus_control::{
    Composition, ControlError, EstimateInput, Keeps, Part, RECIPE_FILE, Repeated, Strategy, StrategyEntry,
    repeat, strategies, strategy,
};
use elenchus_evaluate::EvaluateError;
use elenchus_generate::{Context, GenerateError};
use elenchus_task::{Split, Structured, Task};
use elenchus_trace::{Problem, Step, Usage, nearest};
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
    /// What of the request's wishes for the response itself it keeps.
    pub keeps: Keeps,
    /// Whether it can stand behind `then`: begin with another's answer.
    pub takes_draft: bool,
    #[serde(skip)]
    strategy: String,
    #[serde(skip)]
    defaults: Value,
}

/// The offers, recipes first. What needs the reference answer is left out, since nobody who asks knows it, and what acts in an
/// environment, since a question has none.
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
    (!needs.oracle && !needs.environment).then(|| Offer {
        name,
        summary,
        paper,
        cost,
        settings: entry.settings.clone(),
        keeps: made.keeps(),
        takes_draft: made.takes_draft(),
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

/// The offer of this name (`_` and `-` are the same); `plain`, which only stands in compositions, is that of `single`.
///
/// # Errors
/// There is none, with the nearest names.
pub fn offer_of(name: &str) -> Result<&'static Offer, RecipeError> {
    let wanted = name.replace('_', "-");
    let wanted = if wanted == "plain" { "single" } else { wanted.as_str() };
    OFFERS.iter().find(|offer| offer.name == wanted).ok_or_else(|| RecipeError::Unknown {
        what: "recipe",
        name: name.into(),
        hint: nearest(wanted, OFFERS.iter().map(|offer| offer.name.as_str())),
    })
}

/// The strategy of a recipe, of a recipe file, of a strategy, or of a composition of them. `settings` win over the recipe's
/// own; those of a composition are by the names of its parts. Not for names that come from outside this machine: it reads
/// files.
///
/// # Errors
/// No recipe or strategy has a name; a file cannot be read or names no strategy; a setting is unknown or wrong; parts do
/// not go together.
pub fn strategy_of(name: &str, settings: &Map<String, Value>) -> Result<Arc<dyn Strategy>, RecipeError> {
    let composition = Composition::parse(name)?.with_settings(settings)?;
    composition.build(&|part: &Part| match strategy_part(&part.name)? {
        Some(found) => Ok(strategy(&found.name, merged(found.settings, &part.settings))?),
        None => Ok(strategy(&part.name, Value::Object(part.settings.clone()))?),
    })
}

/// The strategy that a recipe or a recipe file names; `None` when it is no recipe's name.
///
/// # Errors
/// A file that cannot be read or names no strategy.
pub fn strategy_part(name: &str) -> Result<Option<StrategyPart>, RecipeError> {
    if !name.ends_with(RECIPE_FILE) {
        return Ok(crate::built_in(name).ok().and_then(|recipe| recipe.strategy));
    }
    match crate::built_in_or_file(name)?.strategy {
        Some(part) => Ok(Some(part)),
        None => Err(RecipeError::Check {
            recipe: name.into(),
            problem: "it has no [strategy] that could answer".into(),
            hint: "`elenchus improve --recipe` runs recipes with [rounds]".into(),
        }),
    }
}

fn merged(defaults: Value, settings: &Map<String, Value>) -> Value {
    let mut values = defaults.as_object().cloned().unwrap_or_default();
    values.extend(settings.clone());
    Value::Object(values)
}

/// A recipe, or several composed, with settings, ready to answer.
#[derive(Clone)]
pub struct Serving {
    name: String,
    roles: Vec<String>,
    strategy: Arc<dyn Strategy>,
    task: Arc<dyn Task>,
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, task) = (&self.name, self.task.name());
        formatter.debug_struct("Serving").field("name", name).field("task", &task).finish_non_exhaustive()
    }
}

impl Serving {
    /// What a composition says; its parts' settings win over the recipes' own. `task` says how answers are extracted and
    /// compared.
    ///
    /// # Errors
    /// No recipe or task has a name (with the nearest ones); a setting is unknown or wrong; parts do not go together.
    pub fn new(composition: &Composition, task: &str) -> Result<Self, RecipeError> {
        let strategy = composition.build(&|part: &Part| -> Result<_, RecipeError> {
            let offer = offer_of(&part.name)?;
            Ok(strategy(&offer.strategy, merged(offer.defaults.clone(), &part.settings))?)
        })?;
        let name = match composition {
            Composition::Part(part) => offer_of(&part.name)?.name.clone(),
            composed => composed.to_string(),
        };
        let roles = strategy.needs().roles.into_iter().map(|needs| needs.role).collect();
        let task = Arc::from(elenchus_task::task(task, &Value::Null)?);
        Ok(Serving { name, roles, strategy, task })
    }

    /// The recipe, or the composition as text.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Roles of the models that it asks.
    pub fn roles(&self) -> &[String] {
        &self.roles
    }

    /// What of the request's wishes for the response itself it keeps, with its settings.
    pub fn keeps(&self) -> Keeps {
        self.strategy.keeps()
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

    /// Whether the models of a context and its budget can do at all, without any call.
    ///
    /// # Errors
    /// What they cannot.
    pub fn ready(&self, context: &Context) -> Result<(), RecipeError> {
        Ok(self.strategy.ready(context)?)
    }

    /// Answers `count` times, independently, under one budget.
    ///
    /// # Errors
    /// What the strategy says: a need that is not met, a budget that cannot suffice, failures of models.
    pub async fn answers(
        &self,
        context: &Context,
        problem: &Problem,
        count: usize,
    ) -> Result<Repeated, RecipeError> {
        let task: Arc<dyn Task> = match problem.wants_form() {
            true => Arc::new(Structured::new(Arc::clone(&self.task))),
            false => Arc::clone(&self.task),
        };
        if count > 1 {
            return Ok(repeat(self.strategy.as_ref(), context, task.as_ref(), problem, count).await?);
        }
        let answer = self.strategy.run(context, task.as_ref(), problem).await?;
        let trace = answer.trace.clone();
        Ok(Repeated { answers: vec![answer], trace })
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
                ControlError::Setting { .. }
                | ControlError::Capability { .. }
                | ControlError::Task(_)
                | ControlError::Evaluate(
                    EvaluateError::Setting { .. }
                    | EvaluateError::Unknown { .. }
                    | EvaluateError::Capability { .. },
                ) => Cause::Request,
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

/// The steps of a response by the rules of the problem's task; none where there is no such task.
pub fn steps_of(problem: &Problem, response: &str) -> Vec<Step> {
    let task = elenchus_task::task(&problem.task, &Value::Null);
    task.map(|task| task.steps(problem, response)).unwrap_or_default()
}

/// The answer in a response by the rules of the problem's task; none where there is no such task.
pub fn answer_in(problem: &Problem, response: &str) -> Option<String> {
    let task = elenchus_task::task(&problem.task, &Value::Null).ok()?;
    task.extract(problem, response)
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
    use serde_json::json;

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
            serving(&offer.name, json!({}), "math").unwrap();
        }
    }

    fn serving(name: &str, settings: Value, task: &str) -> Result<Serving, RecipeError> {
        let composition = Composition::parse(name)?.with_settings(settings.as_object().unwrap())?;
        Serving::new(&composition, task)
    }

    #[test]
    fn settings_of_a_request_win_and_wrong_ones_are_named() {
        let made = serving("self_consistency", json!({"samples": 3}), "math").unwrap();
        assert_eq!(made.name(), "self-consistency", "`_` and `-` are the same");
        assert!(made.estimate(10, 10).1.contains("n = 3"));
        let error = serving("self-consistency", json!({"sample": 3}), "math").unwrap_err().to_string();
        assert!(error.contains("`samples`"), "{error}");
        let error = serving("self-consistancy", json!({}), "math").unwrap_err().to_string();
        assert!(error.contains("did you mean `self-consistency`"), "{error}");
        assert!(serving("single", json!({}), "maths").is_err());
    }

    #[test]
    fn recipes_compose_with_their_own_settings() {
        let made = serving(
            "self-certainty else self-consistency@3",
            json!({"self-certainty": {"samples": 4}}),
            "math",
        );
        let made = made.unwrap();
        assert_eq!(made.name(), "self-certainty@4 else self-consistency@3", "it says what runs");
        let formula = made.estimate(10, 10).1;
        assert!(formula.contains("n = 4") && formula.contains("n = 3"), "{formula}");
        let roles = serving("self-consistency then critique-and-refine", json!({}), "math").unwrap();
        assert!(roles.roles().iter().any(|role| role == "critic"), "{:?}", roles.roles());
        for (text, said) in [
            ("gsa then self-consistency", "cannot begin"),
            ("gsa then feedback-friction", "feedback-friction"),
            ("gsa then nothing-like-it", "nothing-like-it"),
        ] {
            let error = serving(text, json!({}), "math").unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        assert!(
            strategy_of("self-certainty else plain", &Map::new()).is_ok(),
            "the same on the command line"
        );
    }
}
