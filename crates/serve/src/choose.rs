//! Which recipe answers a request: by model name, by path, by the body.

use crate::ApiError;
use elenchus_recipe::{Composition, RecipeError, offer_of};
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
    /// The recipe, or several composed; absent, what model name or path say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipe: Option<RecipeWish>,
    /// Number of samples n, for recipes that have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<u64>,
    /// Settings of the recipe; of several, by their names: `{"self-consistency": {"samples": 3}}`.
    pub settings: Map<String, Value>,
    /// Bounds on what the request may spend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// Task whose rules extract and compare answers; absent, `math` (`arithmetic` for the embedded model).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
}

/// A recipe as a request names it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RecipeWish {
    /// A name, or a composition as text: `a then b`, `best of a, b by judge`, `a else plain`.
    Text(String),
    /// A composition as an object: `{"then": ["a", "b"]}`, `{"best_of": ["a", "b"], "by": "judge"}`,
    /// `{"else": ["a", "plain"]}`, each part a name or `{"recipe": …, "samples": …, "settings": {…}}`.
    Object(Map<String, Value>),
}

impl Wish {
    /// Reads the field: a name, or an object.
    pub fn read(value: &Value) -> Result<Self, ApiError> {
        match value {
            Value::Null => Ok(Wish::default()),
            Value::String(recipe) => {
                Ok(Wish { recipe: Some(RecipeWish::Text(recipe.clone())), ..Wish::default() })
            }
            object => {
                let wrong = |problem: String| {
                    let hint = "`elenchus` is the name of a recipe, or an object of `recipe`, `samples`, `settings`, \
                                `budget`, `task`";
                    ApiError::bad("elenchus", format!("`elenchus`: {problem}\nhint: {hint}"))
                };
                // A list of values would be taken as the fields in their order.
                for (name, value) in [("it", object), ("`budget`", &object["budget"])] {
                    if !matches!(value, Value::Object(_) | Value::Null) {
                        return Err(wrong(format!("{name} is no object")));
                    }
                }
                if !matches!(object["recipe"], Value::Null | Value::String(_) | Value::Object(_)) {
                    return Err(wrong("`recipe` is neither a name nor a composition".into()));
                }
                let wish: Wish =
                    serde_json::from_value(object.clone()).map_err(|error| wrong(error.to_string()))?;
                let budget = wish.budget.unwrap_or_default();
                for (name, value) in [("seconds", budget.seconds), ("money", budget.money)] {
                    if value.is_some_and(|value| !(value.is_finite() && value >= 0.0)) {
                        return Err(wrong(format!("`budget.{name}` is below 0")));
                    }
                }
                Ok(wish)
            }
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The recipe, or several composed; `None` asks the model as it is.
    pub recipe: Option<Composition>,
    /// Number of samples.
    pub samples: Option<u64>,
    /// The model; empty for the default one.
    pub model: String,
}

/// An approach of optillm that is a method of ours.
struct Approach {
    name: &'static str,
    recipe: &'static str,
    /// Who chooses there, where that is not whom our method has by itself.
    evaluator: Option<&'static str>,
}

const fn approach(name: &'static str, recipe: &'static str, evaluator: Option<&'static str>) -> Approach {
    Approach { name, recipe, evaluator }
}

const APPROACHES: &[Approach] = &[
    approach("self_consistency", "self-consistency", None),
    approach("self-consistency", "self-consistency", None),
    approach("majority_voting", "self-consistency", None),
    approach("bon", "best-of-n", Some("judge")),
    approach("best_of_n", "best-of-n", Some("judge")),
    approach("none", "plain", None),
];

impl Approach {
    /// The recipe, as it is done there unless the request says who evaluates.
    fn recipe(&self, field: &str, wish: &Wish) -> Result<Composition, ApiError> {
        let made = composition(self.recipe, field)?;
        let is_said =
            ["evaluator", "evaluator_settings"].iter().any(|name| wish.settings.contains_key(*name));
        Ok(match self.evaluator {
            Some(evaluator) if !is_said => made.with_default("evaluator", &evaluator.into()),
            _ => made,
        })
    }
}

/// The name of the recipe that does nothing.
pub(crate) const PLAIN: &str = "plain";

/// What a model name says.
struct Named {
    approach: Option<&'static Approach>,
    recipe: Option<String>,
    model: String,
}

/// Reads a composition whose parts are all there.
fn composition(text: &str, field: &str) -> Result<Composition, ApiError> {
    if !Composition::is_composed(text) {
        // A name that is none, an empty one too, is not found.
        offer_of(text).map_err(|error| ApiError::from(error).param(field))?;
    }
    let made =
        Composition::parse(text).map_err(|error| ApiError::from(RecipeError::from(error)).param(field))?;
    known(made, field)
}

fn known(made: Composition, field: &str) -> Result<Composition, ApiError> {
    for part in made.parts() {
        // The error lists the nearest names.
        offer_of(&part.name).map_err(|error| ApiError::from(error).param(field))?;
    }
    Ok(made)
}

/// What a model name says: `elenchus/<recipe>[@n]/<model>`, optillm's `<approach>-<model>`, or a plain name.
fn by_model(model: &str) -> Named {
    let Some(rest) = model.strip_prefix(PREFIX) else {
        let found = APPROACHES.iter().find_map(|approach| {
            let model = model.strip_prefix(approach.name)?.strip_prefix('-')?;
            (!model.is_empty()).then_some((approach, model))
        });
        let (approach, model) = found.map_or((None, model), |(approach, model)| (Some(approach), model));
        return Named { approach, recipe: None, model: model.into() };
    };
    let (recipe, model) = rest.split_once('/').unwrap_or((rest, ""));
    Named { approach: None, recipe: Some(recipe.into()), model: model.into() }
}

/// Decides. The body wins over the path, the path over the model name.
pub(crate) fn choose(
    model: &str,
    path: Option<&str>,
    approach: Option<&str>,
    wish: &Wish,
) -> Result<Choice, ApiError> {
    let named = by_model(model);
    let approach = approach
        .map(|approach| {
            APPROACHES.iter().find(|known| known.name == approach).ok_or_else(|| {
                let known: Vec<&str> = APPROACHES.iter().map(|known| known.name).collect();
                let message = format!("no method of ours is optillm's `{approach}`");
                ApiError::bad(
                    "optillm_approach",
                    format!("{message}\nhint: there are {}; `elenchus` names any recipe", known.join(", ")),
                )
            })
        })
        .transpose()?;
    let said = match &wish.recipe {
        Some(RecipeWish::Object(fields)) => {
            let made = Composition::read(&Value::Object(fields.clone()));
            Some(known(
                made.map_err(|error| ApiError::from(RecipeError::from(error)).param("elenchus"))?,
                "elenchus",
            )?)
        }
        Some(RecipeWish::Text(text)) => Some(composition(text, "elenchus")?),
        None => approach.map(|approach| approach.recipe("optillm_approach", wish)).transpose()?,
    };
    let recipe = match (said, path) {
        (Some(said), _) => Some(said),
        (None, Some(path)) => Some(composition(path, "recipe")?),
        (None, None) => match (named.approach, &named.recipe) {
            (Some(approach), _) => Some(approach.recipe("model", wish)?),
            (None, Some(recipe)) => Some(composition(recipe, "model")?),
            (None, None) => None,
        },
    };
    let mut samples = wish.samples;
    let recipe = match recipe {
        Some(Composition::Part(mut part)) => {
            // A number behind the name is the same as the field.
            let counted = part.settings.remove("samples");
            samples = samples.or(counted.as_ref().and_then(Value::as_u64));
            (part.name != PLAIN).then_some(Composition::Part(part))
        }
        Some(_) if samples.is_some() => {
            let hint = "write it behind a name: `self-consistency@5 then critique-and-refine`";
            let message = format!("`samples` belongs to one recipe, and there are several\nhint: {hint}");
            return Err(ApiError::bad("elenchus", message));
        }
        recipe => recipe,
    };
    if samples == Some(0) {
        let param = match (wish.samples.is_some() || wish.recipe.is_some(), path) {
            (true, _) => "elenchus",
            (false, Some(_)) => "recipe",
            (false, None) => "model",
        };
        return Err(ApiError::bad(param, "0 samples are none\nhint: ask for 1 or more"));
    }
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
        (choice.recipe.map(|recipe| recipe.to_string()), choice.samples, choice.model)
    }

    fn name(choice: &Choice) -> Option<String> {
        choice.recipe.as_ref().map(ToString::to_string)
    }

    #[test]
    fn compositions_are_named_everywhere() {
        let text = "self-consistency@3 then critique-and-refine";
        assert_eq!(chosen(&format!("elenchus/{text}/m")), (Some(text.into()), None, "m".into()));
        let choice = choose("m", Some(text), None, &Wish::default()).unwrap();
        assert_eq!(name(&choice).as_deref(), Some(text));
        let parts = json!([{"recipe": "self_consistency", "samples": 3}, "critique-and-refine"]);
        for recipe in [json!(text), json!({ "then": parts })] {
            let wish = Wish::read(&json!({ "recipe": recipe })).unwrap();
            assert_eq!(name(&choose("m", None, None, &wish).unwrap()).as_deref(), Some(text));
        }
        let wish = Wish::read(&json!({"recipe": text, "samples": 3})).unwrap();
        assert!(choose("m", None, None, &wish).unwrap_err().message.contains("@5"));
        for (recipe, param) in [
            (json!("gsa then"), "elenchus"),
            (json!({"than": []}), "elenchus"),
            (json!("gsa else x"), "elenchus"),
        ] {
            let wish = Wish::read(&json!({ "recipe": recipe })).unwrap();
            let error = choose("m", None, None, &wish).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param), "{}", error.message);
        }
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
        assert_eq!(chosen("majority_voting-m"), (some("self-consistency"), None, "m".into()));
        assert_eq!(chosen("none-m"), (None, None, "m".into()));
        assert_eq!(chosen("bonito"), (None, None, "bonito".into()), "only with a `-` behind it");
        assert_eq!(chosen("bon-"), (None, None, "bon-".into()));
    }

    #[test]
    fn the_body_wins_over_the_path_and_the_path_over_the_name() {
        let wish = Wish::read(&json!({"recipe": "gsa", "samples": 3})).unwrap();
        let model = "elenchus/self-consistency@5/m";
        let choice = choose(model, Some("iad"), None, &wish).unwrap();
        assert_eq!((name(&choice).as_deref(), choice.samples), (Some("gsa"), Some(3)));
        let choice = choose(model, Some("iad"), None, &Wish::default()).unwrap();
        assert_eq!(name(&choice).as_deref(), Some("iad"));
        let choice = choose("m", None, Some("bon"), &Wish::default()).unwrap();
        assert_eq!(name(&choice).as_deref(), Some("best-of-n"));
        let text = Some(RecipeWish::Text("gsa".into()));
        assert_eq!(Wish::read(&json!("gsa")).unwrap().recipe, text);
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

    #[test]
    fn best_of_n_is_judged_as_optillm_does_it_unless_the_request_says_by_whom() {
        let evaluator = |choice: Choice| match choice.recipe {
            Some(Composition::Part(part)) => part.settings.get("evaluator").cloned(),
            other => panic!("{other:?}"),
        };
        let none = Wish::default();
        for (model, approach) in [("bon-m", None), ("best_of_n-m", None), ("m", Some("bon"))] {
            assert_eq!(evaluator(choose(model, None, approach, &none).unwrap()), Some(json!("judge")));
        }
        assert_eq!(evaluator(choose("elenchus/best-of-n/m", None, None, &none).unwrap()), None, "ours");
        for settings in [json!({"evaluator": "self-certainty"}), json!({"evaluator_settings": {"top_k": 5}})]
        {
            let wish = Wish::read(&json!({ "settings": settings })).unwrap();
            assert_eq!(evaluator(choose("bon-m", None, None, &wish).unwrap()), None, "it is in the settings");
        }
    }
}
