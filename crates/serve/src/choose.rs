//! Which recipe answers a request: by model name, by path, by the body.

use crate::ApiError;
use elenchus_recipe::{Serving, offers};
use elenchus_trace::Budget;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Model names that begin with this name a recipe, too.
pub(crate) const PREFIX: &str = "elenchus/";

/// The field `elenchus` of a request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Wish {
    /// Name of the recipe; absent, what model name or path say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipe: Option<String>,
    /// Number of samples n, for recipes that have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<u64>,
    /// Settings of the recipe.
    pub settings: Map<String, Value>,
    /// Bounds on what the request may spend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// Task whose rules extract and compare answers; absent, `math` (`arithmetic` for the embedded model).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
}

impl Wish {
    /// Reads the field: a name, or an object.
    pub fn read(value: &Value) -> Result<Self, ApiError> {
        match value {
            Value::Null => Ok(Wish::default()),
            Value::String(recipe) => Ok(Wish { recipe: Some(recipe.clone()), ..Wish::default() }),
            object => serde_json::from_value(object.clone()).map_err(|error| {
                let hint = "`elenchus` is the name of a recipe, or an object of `recipe`, `samples`, `settings`, \
                            `budget`, `task`";
                ApiError::bad("elenchus", format!("`elenchus`: {error}\nhint: {hint}"))
            }),
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The recipe; `None` asks the model as it is.
    pub recipe: Option<String>,
    /// Number of samples.
    pub samples: Option<u64>,
    /// The model; empty for the default one.
    pub model: String,
}

/// optillm's approaches that are methods of ours.
const APPROACHES: &[(&str, &str)] = &[
    ("self_consistency", "self-consistency"),
    ("self-consistency", "self-consistency"),
    ("bon", "best-of-n"),
    ("best_of_n", "best-of-n"),
    ("none", "plain"),
];

/// The name of the recipe that does nothing.
pub(crate) const PLAIN: &str = "plain";

fn is_known(recipe: &str) -> bool {
    let recipe = recipe.replace('_', "-");
    recipe == PLAIN || offers().iter().any(|offer| offer.name == recipe)
}

/// What a model name says: `elenchus/<recipe>[@n]/<model>`, optillm's `<approach>-<model>`, or a plain name.
fn by_model(model: &str) -> Result<Choice, ApiError> {
    let Some(rest) = model.strip_prefix(PREFIX) else {
        let approach = APPROACHES.iter().find_map(|(approach, recipe)| {
            let model = model.strip_prefix(approach)?.strip_prefix('-')?;
            (!model.is_empty()).then(|| (recipe.to_string(), model.to_string()))
        });
        return Ok(match approach {
            Some((recipe, model)) => Choice { recipe: Some(recipe), samples: None, model },
            None => Choice { recipe: None, samples: None, model: model.into() },
        });
    };
    let (recipe, model) = rest.split_once('/').unwrap_or((rest, ""));
    let (recipe, samples) = match recipe.split_once('@') {
        None => (recipe, None),
        Some((recipe, count)) => {
            let count = count.parse().map_err(|_| {
                let message = format!("`@{count}` in the model name is no number of samples");
                ApiError::bad("model", format!("{message}\nhint: write `{PREFIX}<recipe>@5/<model>`"))
            })?;
            (recipe, Some(count))
        }
    };
    Ok(Choice { recipe: Some(recipe.into()), samples, model: model.into() })
}

/// Decides. The body wins over the path, the path over the model name.
pub(crate) fn choose(
    model: &str,
    path: Option<&str>,
    approach: Option<&str>,
    wish: &Wish,
) -> Result<Choice, ApiError> {
    let named = by_model(model)?;
    let approach = approach
        .map(|approach| {
            let known = APPROACHES.iter().find(|(name, _)| *name == approach);
            known.map(|(_, recipe)| recipe.to_string()).ok_or_else(|| {
                let known: Vec<&str> = APPROACHES.iter().map(|(name, _)| *name).collect();
                let message = format!("no method of ours is optillm's `{approach}`");
                ApiError::bad(
                    "optillm_approach",
                    format!("{message}\nhint: there are {}; `elenchus` names any recipe", known.join(", ")),
                )
            })
        })
        .transpose()?;
    let recipe = wish.recipe.clone().or(approach).or(path.map(str::to_string)).or(named.recipe);
    let recipe = match recipe {
        Some(recipe) if !is_known(&recipe) => {
            // The error lists the nearest names.
            return Err(Serving::new(&recipe, &Map::new(), "math").err().map_or_else(
                || ApiError::not_found(format!("unknown recipe `{recipe}`")),
                |error| ApiError::from(error).param("model"),
            ));
        }
        Some(recipe) if recipe == PLAIN => None,
        recipe => recipe.map(|recipe| recipe.replace('_', "-")),
    };
    let samples = wish.samples.or(named.samples);
    if recipe.is_none() && (samples.is_some() || !wish.settings.is_empty()) {
        let message = "`samples` and `settings` need a recipe";
        return Err(ApiError::bad("elenchus", format!("{message}\nhint: name one with `elenchus.recipe`")));
    }
    Ok(Choice { recipe, samples, model: named.model })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn chosen(model: &str) -> (Option<String>, Option<u64>, String) {
        let choice = choose(model, None, None, &Wish::default()).unwrap();
        (choice.recipe, choice.samples, choice.model)
    }

    #[test]
    fn model_names_choose() {
        let some = |name: &str| Some(name.to_string());
        assert_eq!(chosen("gpt-4o"), (None, None, "gpt-4o".into()));
        assert_eq!(
            chosen("elenchus/self-consistency@5/Qwen/Qwen3-4B"),
            (some("self-consistency"), Some(5), "Qwen/Qwen3-4B".into())
        );
        assert_eq!(chosen("elenchus/gsa"), (some("gsa"), None, String::new()));
        assert_eq!(chosen("elenchus/plain/m"), (None, None, "m".into()));
        assert_eq!(chosen("bon-gpt-4o"), (some("best-of-n"), None, "gpt-4o".into()));
        assert_eq!(chosen("self_consistency-m"), (some("self-consistency"), None, "m".into()));
        assert_eq!(chosen("none-m"), (None, None, "m".into()));
        assert_eq!(chosen("bonito"), (None, None, "bonito".into()), "only with a `-` behind it");
        assert_eq!(chosen("bon-"), (None, None, "bon-".into()));
    }

    #[test]
    fn the_body_wins_over_the_path_and_the_path_over_the_name() {
        let wish = Wish::read(&json!({"recipe": "gsa", "samples": 3})).unwrap();
        let model = "elenchus/self-consistency@5/m";
        let choice = choose(model, Some("iad"), None, &wish).unwrap();
        assert_eq!((choice.recipe.as_deref(), choice.samples), (Some("gsa"), Some(3)));
        let choice = choose(model, Some("iad"), None, &Wish::default()).unwrap();
        assert_eq!(choice.recipe.as_deref(), Some("iad"));
        let choice = choose("m", None, Some("bon"), &Wish::default()).unwrap();
        assert_eq!(choice.recipe.as_deref(), Some("best-of-n"));
        assert_eq!(Wish::read(&json!("gsa")).unwrap().recipe.as_deref(), Some("gsa"));
    }

    #[test]
    fn what_cannot_be_is_said_with_a_hint() {
        let error = choose("elenchus/self-consistancy/m", None, None, &Wish::default()).unwrap_err();
        assert_eq!(error.status, 404);
        assert!(error.message.contains("did you mean `self-consistency`"), "{}", error.message);
        let error = choose("elenchus/gsa@many/m", None, None, &Wish::default()).unwrap_err();
        assert!(error.message.contains("hint:"), "{}", error.message);
        let error = choose("m", None, Some("mcts"), &Wish::default()).unwrap_err();
        assert!(error.message.contains("bon"), "{}", error.message);
        assert!(Wish::read(&json!({"recipes": "gsa"})).unwrap_err().message.contains("recipes"));
        assert!(Wish::read(&json!(3)).is_err());
        let wish = Wish::read(&json!({"samples": 3})).unwrap();
        assert!(choose("m", None, None, &wish).is_err(), "samples of nothing");
    }
}
