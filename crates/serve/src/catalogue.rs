//! Models, recipes and what they will cost.

use crate::ApiError;
use crate::answering::{Asked, context};
use crate::ask::serving;
use crate::body::{Reply, json as reply_json};
use crate::chat::{ChatRequest, Peek};
use crate::choose::{PLAIN, PREFIX, Wish, choose};
use crate::keys::Caller;
use crate::state::{Live, State, Target};
use elenchus_generate::Context;
use elenchus_recipe::{Composition, Offer, RecipeError, Serving, embedded_examples, models, offers};
use elenchus_trace::{Budget, Usage};
use futures::future::join_all;
use hyper::StatusCode;
use hyper::header::AUTHORIZATION;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How long the list of an upstream may take; one that does not answer is left out of the list.
const LIST_WAITS: Duration = Duration::from_secs(5);
/// Up to so many models each is also listed with every recipe.
const MOST_COMBINED: usize = 12;
/// Tokens of an answer that an estimate assumes when the request bounds none.
const TYPICAL_TOKENS: u64 = 300;

/// The models: the embedded one, those of the upstreams, and each of them with every recipe with which it can answer.
async fn all_models(state: &Arc<State>, live: &Live, caller: &Caller) -> Vec<Value> {
    let mut found: Vec<Value> = Vec::new();
    if live.settings.embedded {
        let examples = embedded_examples(6).unwrap_or_default();
        found.push(json!({
            "id": models::EMBEDDED, "object": "model", "created": 0, "owned_by": "elenchus",
            "elenchus": {"reads": "the notation of its own tasks, one message", "examples": examples},
        }));
    }
    let lists = live.pool.upstreams.iter().map(|upstream| async move {
        let mut request = upstream.client.get(format!("{}/models", upstream.base_url)).timeout(LIST_WAITS);
        if let Some(key) = upstream.authorization(caller) {
            request = request.header(AUTHORIZATION, key);
        }
        let body = request.send().await.ok()?.bytes().await.ok()?;
        let list: Value = serde_json::from_slice(&body).ok()?;
        let data = list.get("data").or_else(|| list.get("models"))?.as_array()?.clone();
        Some((upstream, data))
    });
    for (upstream, list) in join_all(lists).await.into_iter().flatten() {
        for model in list {
            let Some(id) = ["id", "name"].iter().find_map(|field| model.get(field)?.as_str()) else {
                continue;
            };
            let named = &upstream.settings.models;
            if !(named.is_empty() || named.iter().any(|name| name == id))
                || found.iter().any(|m| m["id"] == id)
            {
                continue;
            }
            let created = model.get("created").and_then(Value::as_u64).unwrap_or(0);
            let owner = model.get("owned_by").and_then(Value::as_str).unwrap_or(&upstream.name);
            found.push(json!({"id": id, "object": "model", "created": created, "owned_by": owner}));
        }
    }
    // A configured name is listed also when its server does not list it.
    for name in live.settings.upstreams.iter().flat_map(|upstream| &upstream.models) {
        if !found.iter().any(|model| model["id"] == name.as_str()) {
            found.push(json!({"id": name, "object": "model", "created": 0, "owned_by": "upstream"}));
        }
    }
    if found.len() <= MOST_COMBINED {
        let plain: Vec<String> =
            found.iter().filter_map(|model| model["id"].as_str().map(str::to_string)).collect();
        for model in plain {
            // A model that cannot be asked now is listed with all: what it can is not known.
            let offered = able(state, live, caller, &model).await.unwrap_or_default();
            for offer in offers() {
                if offered.iter().any(|(able, why)| able.name == offer.name && why.is_some()) {
                    continue;
                }
                let id = format!("{PREFIX}{}/{model}", offer.name);
                found.push(json!({"id": id, "object": "model", "created": 0, "owned_by": "elenchus"}));
            }
        }
    }
    found
}

/// Every recipe with its own settings, and why this model cannot answer with it, where it cannot.
async fn able(
    state: &Arc<State>,
    live: &Live,
    caller: &Caller,
    model: &str,
) -> Result<Vec<(&'static Offer, Option<String>)>, ApiError> {
    let target = state.target(live, model)?;
    let roles: Vec<String> = offers().iter().flat_map(|offer| offer.roles.iter().cloned()).collect();
    let context = idle(state, live, caller, &target, &ChatRequest::default(), &roles).await?;
    let why = |offer: &Offer| {
        let composition = Composition::parse(&offer.name).map_err(RecipeError::from);
        let made = composition.and_then(|composition| Serving::new(&composition, target.task()));
        made.and_then(|serving| serving.ready(&context)).err().map(|error| error.to_string())
    };
    Ok(offers().iter().map(|offer| (offer, why(offer))).collect())
}

/// A context in which nothing is asked: for what can be said before any call.
async fn idle(
    state: &Arc<State>,
    live: &Live,
    caller: &Caller,
    target: &Target,
    request: &ChatRequest,
    roles: &[String],
) -> Result<Context, ApiError> {
    let budget = Budget::default();
    context(state, Asked { live, target, caller, request, budget, seed: 0, tape: None }, None, roles).await
}

/// `GET /v1/models`
pub(crate) async fn list_models(state: &Arc<State>, caller: &Caller) -> Reply {
    let data = all_models(state, &state.live(), caller).await;
    reply_json(StatusCode::OK, &json!({"object": "list", "data": data}))
}

/// `GET /v1/models/{model}`
pub(crate) async fn one_model(state: &Arc<State>, caller: &Caller, name: &str) -> Result<Reply, ApiError> {
    let found = all_models(state, &state.live(), caller).await.into_iter().find(|model| model["id"] == name);
    match found {
        Some(model) => Ok(reply_json(StatusCode::OK, &model)),
        None => Err(crate::upstream::unknown_model(name)),
    }
}

/// A recipe in the list.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ListedRecipe {
    #[serde(flatten)]
    offer: &'static Offer,
    /// With `?model=`: why this model cannot answer with the recipe's own settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    cannot: Option<String>,
}

/// `GET /v1/recipes`, for a model with `?model=`.
pub(crate) async fn list_recipes(
    state: &Arc<State>,
    caller: &Caller,
    query: &HashMap<String, String>,
) -> Result<Reply, ApiError> {
    let mut found: Vec<(&'static Offer, Option<String>)> =
        offers().iter().map(|offer| (offer, None)).collect();
    for (name, model) in query {
        if name != "model" {
            let message = format!("there is no filter `{name}`\nhint: there is `model`");
            return Err(ApiError::bad(name, message));
        }
        found = able(state, &state.live(), caller, model).await?;
    }
    let data: Vec<ListedRecipe> =
        found.into_iter().map(|(offer, cannot)| ListedRecipe { offer, cannot }).collect();
    Ok(reply_json(StatusCode::OK, &json!({ "data": data })))
}

/// What a request would cost at most.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EstimateReply {
    /// The recipe.
    pub recipe: String,
    /// The model.
    pub model: String,
    /// Calls and tokens, with money where the model has a price.
    pub usage: Usage,
    /// Whether the money is known.
    pub priced: bool,
    /// How calls and tokens come about, with n samples, p prompt and c completion tokens.
    pub formula: String,
    /// Tokens of the prompt, at four bytes each.
    pub prompt_tokens: u64,
    /// Tokens of one response: the request's bound, else a typical length.
    pub completion_tokens: u64,
}

/// What a request costs at most, by estimate.
pub(crate) struct Cost {
    pub usage: Usage,
    formula: String,
    prompt_tokens: u64,
    completion_tokens: u64,
}

impl Cost {
    /// Of a recipe, or of the model alone.
    pub fn of(request: &ChatRequest, serving: Option<&Serving>) -> Self {
        let said: usize = request.messages.iter().map(|message| message.text().len()).sum();
        let prompt_tokens = (said as u64).div_ceil(4);
        let completion_tokens =
            request.sampling.get("max_tokens").and_then(Value::as_u64).unwrap_or(TYPICAL_TOKENS);
        let (usage, formula) = match serving {
            None => {
                let completion_tokens = request.choices.saturating_mul(completion_tokens);
                let usage = Usage { calls: 1, prompt_tokens, completion_tokens, ..Usage::default() };
                (usage, "1 call, p + nc tokens, n choices".to_string())
            }
            Some(serving) => {
                let (usage, formula) = serving.estimate(prompt_tokens, completion_tokens);
                match request.choices {
                    1 => (usage, formula),
                    n => ((0..n).map(|_| usage).sum(), format!("{n} times: {formula}")),
                }
            }
        };
        Cost { usage, formula, prompt_tokens, completion_tokens }
    }
}

/// `POST /v1/estimate`: the body of a chat request. What the request would be refused for, it is refused for here.
pub(crate) async fn estimate(state: &Arc<State>, caller: &Caller, bytes: &[u8]) -> Result<Reply, ApiError> {
    let live = state.live();
    let peek = Peek::read(bytes)?;
    let wish = peek.elenchus.as_ref().map(Wish::read).transpose()?.unwrap_or_default();
    let named = peek.model.as_deref().unwrap_or_default();
    let choice = choose(named, None, peek.optillm_approach.as_deref(), &wish)?;
    let target = state.target(&live, &choice.model)?;
    let mut request = ChatRequest::read(bytes)?;
    let (recipe, cost) = match &choice.recipe {
        None => (PLAIN.to_string(), Cost::of(&request, None)),
        Some(recipe) => {
            let serving = serving(recipe, choice.samples, &wish, &request, &target, &live)?;
            request.for_recipe(&serving)?;
            serving.ready(&idle(state, &live, caller, &target, &request, serving.roles()).await?)?;
            (serving.name().to_string(), Cost::of(&request, Some(&serving)))
        }
    };
    let Cost { mut usage, formula, prompt_tokens, completion_tokens } = cost;
    let price = live.prices.get(target.model());
    usage.money = price.map_or(0.0, |price| price.of(&usage));
    let reply = EstimateReply {
        recipe,
        model: target.model().into(),
        usage,
        priced: price.is_some(),
        formula,
        prompt_tokens,
        completion_tokens,
    };
    Ok(reply_json(StatusCode::OK, &reply))
}
