//! Which recipe answers a request: by model name, by path, by the body.

use crate::ApiError;
use crate::reading::field;
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
                let hint = "`elenchus` is the name of a recipe, or an object of `recipe`, `samples`, `settings`, \
                            `budget`, `task`";
                let wrong = |place: &str, what: &str| {
                    Err(ApiError::bad(place, format!("`{place}` {what}\nhint: {hint}")))
                };
                // A list of values would be taken as the fields in their order.
                if !object.is_object() {
                    return wrong("elenchus", "is neither a name nor an object");
                }
                if !matches!(object["budget"], Value::Object(_) | Value::Null) {
                    return wrong("elenchus.budget", "is no object");
                }
                if !matches!(object["recipe"], Value::Null | Value::String(_) | Value::Object(_)) {
                    return wrong("elenchus.recipe", "is neither a name nor a composition");
                }
                let wish: Wish = field("elenchus", object.clone()).map_err(|error| {
                    let message = format!("{}\nhint: {hint}", error.message);
                    ApiError { message, ..error }
                })?;
                let budget = wish.budget.unwrap_or_default();
                for (name, value) in [("seconds", budget.seconds), ("money", budget.money)] {
                    if value.is_some_and(|value| !(value.is_finite() && value >= 0.0)) {
                        return wrong(&format!("elenchus.budget.{name}"), "is below 0");
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

/// Approaches of optillm that no method of ours is, and what comes nearest.
const OTHERS: &[(&str, Option<&str>)] = &[
    ("moa", Some("gsa")),
    ("mcts", None),
    ("rto", None),
    ("z3", None),
    ("pvg", None),
    ("rstar", None),
    ("cot_reflection", None),
    ("plansearch", None),
    ("leap", None),
    ("re2", None),
    ("cepo", None),
    ("mars", None),
];

/// Why a name, which may join several with `&` or `|`, is no approach of ours; `None` where it is none of optillm's either.
fn foreign_approach(name: &str) -> Option<String> {
    let known = |part: &str| APPROACHES.iter().any(|known| known.name == part);
    let other = |part: &str| OTHERS.iter().find(|(name, _)| *name == part);
    let parts: Vec<&str> = name.split(['&', '|']).collect();
    if let Some((part, nearest)) = parts.iter().find_map(|part| other(part)) {
        let nearest = nearest.map_or(String::new(), |nearest| format!("; `{nearest}` is nearest to it"));
        return Some(format!("no method of ours is optillm's `{part}`{nearest}"));
    }
    let joined = parts.len() > 1 && parts.iter().all(|part| known(part));
    joined.then(|| match name.contains('&') {
        true => format!(
            "`{name}` asks the second approach what the first has answered, which no method of ours does"
        ),
        false => format!(
            "`{name}` wants the answers of all approaches side by side, which no method of ours gives"
        ),
    })
}

/// What there is instead.
fn approaches() -> String {
    let known: Vec<String> = APPROACHES.iter().map(|known| format!("`{}`", known.name)).collect();
    let known = known.join(", ");
    format!(
        "there are {known}; `elenchus.recipe` names any recipe, also `a then b` and `best of a, b by judge`"
    )
}

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
///
/// # Errors
/// It joins approaches of optillm with `&` or `|`. A single one that we lack is passed on: a model may be called `moa-small`.
fn by_model(model: &str) -> Result<Named, ApiError> {
    if let Some(rest) = model.strip_prefix(PREFIX) {
        let (recipe, model) = rest.split_once('/').unwrap_or((rest, ""));
        return Ok(Named { approach: None, recipe: Some(recipe.into()), model: model.into() });
    }
    let found = APPROACHES.iter().find_map(|approach| {
        let model = model.strip_prefix(approach.name)?.strip_prefix('-')?;
        (!model.is_empty()).then_some((approach, model))
    });
    if let Some((approach, model)) = found {
        return Ok(Named { approach: Some(approach), recipe: None, model: model.into() });
    }
    let joined = model.split_once('-').filter(|(word, rest)| word.contains(['&', '|']) && !rest.is_empty());
    if let Some(what) = joined.and_then(|(word, _)| foreign_approach(word)) {
        let hint = format!("{}; a model of that name is `{PREFIX}{PLAIN}/{model}`", approaches());
        return Err(ApiError::bad("model", format!("{what}\nhint: {hint}")));
    }
    Ok(Named { approach: None, recipe: None, model: model.into() })
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
            APPROACHES.iter().find(|known| known.name == approach).ok_or_else(|| {
                let what = foreign_approach(approach);
                let what = what.unwrap_or_else(|| format!("no approach of optillm's is `{approach}`"));
                ApiError::bad("optillm_approach", format!("{what}\nhint: {}", approaches()))
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
    fn approaches_of_optillm_that_we_lack_are_said() {
        let none = Wish::default();
        for (name, said) in [
            ("moa", "`gsa` is nearest"),
            ("mcts", "no method of ours is optillm's `mcts`"),
            ("bon&moa", "optillm's `moa`"),
            ("bon|self_consistency", "side by side"),
            ("self_consistency&bon", "what the first has answered"),
        ] {
            let by_name = (format!("{name}-little"), None, "model");
            let by_field = ("little".into(), Some(name), "optillm_approach");
            // A model may be called like a single one.
            let both = [Some(by_name).filter(|_| name.contains(['&', '|'])), Some(by_field)];
            for (model, approach, param) in both.into_iter().flatten() {
                let error = choose(&model, None, approach, &none).unwrap_err();
                assert_eq!((error.status.as_u16(), error.param.as_deref()), (400, Some(param)));
                for part in [said, "hint: ", "`bon`", "`a then b`"] {
                    assert!(error.message.contains(part), "{model}: {}", error.message);
                }
            }
        }
        for name in ["moa", "moa-", "moa-little", "a&b-little", "leaping-m"] {
            assert_eq!(chosen(name), (None, None, name.into()), "the name of a model");
        }
        assert_eq!(chosen("elenchus/plain/moa-little"), (None, None, "moa-little".into()), "so is this");
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
