//! Requests without a recipe on their way to an upstream: what they may spend, and the body that they leave with.

use crate::ApiError;
use crate::body::Reply;
use crate::chat::Peek;
use crate::counted;
use crate::exchange::prompt_guess;
use crate::keys::Caller;
use crate::pass::{Limit, PassRecord, Passed, pass};
use crate::state::{Live, State, Target};
use bytes::Bytes;
use elenchus_remember::service::{TraceStatus, TraceSummary};
use elenchus_trace::{Budget, Price, Usage};
use hyper::header::HeaderMap;
use hyper::{Method, StatusCode};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Tokens of one answer that are held of a key's budget where the request bounds none.
const HELD_TOKENS: u64 = 4096;
/// Where a request bounds its answer by nothing, what is left of its budget goes along as `max_tokens` up to here: many
/// servers refuse a bound that is higher than what their model can write.
const MOST_ADDED_TOKENS: u64 = 16_384;

/// A request to an upstream.
pub(crate) struct Forward<'a> {
    pub id: String,
    pub caller: Caller,
    pub headers: HeaderMap,
    pub live: Arc<Live>,
    /// The upstream's name of the model.
    pub model: String,
    /// Behind the base URL, for example `chat/completions`.
    pub path: &'static str,
    /// What stands in lists in the place of a recipe.
    pub recipe: &'static str,
    pub bytes: Bytes,
    /// What is kept of the request.
    pub kept: Bytes,
    pub peek: &'a Peek<'a>,
    /// What the request itself allows.
    pub wish: Option<Budget>,
    pub created_ms: u64,
    pub started: Instant,
}

/// Passes a request on within its budget.
///
/// # Errors
/// The budget is spent, or too small for the prompt; nobody answers.
pub(crate) async fn forward(state: &Arc<State>, forward: Forward<'_>) -> Result<Reply, ApiError> {
    let Forward {
        id,
        caller,
        headers,
        live,
        model,
        path,
        recipe,
        bytes,
        kept,
        peek,
        wish,
        created_ms,
        started,
    } = forward;
    let size = Size::of(peek, &bytes, path != "embeddings");
    let grant = state.grant(&live, &caller, &Target::Upstream(model.clone()), wish, size.expected()).await?;
    let bound = size.bound(&grant.budget, live.prices.get(&model))?;
    let as_it_is = bound.is_none()
        && peek.model.as_deref() == Some(model.as_str())
        && peek.elenchus.is_none()
        && peek.optillm_approach.is_none();
    let body = if as_it_is { bytes } else { rewritten(&bytes, &model, bound)? };
    let asking = match peek.stream == Some(true) && path != "embeddings" {
        true => counted::asking(&body, peek.stream_options),
        false => None,
    };
    let summary = TraceSummary {
        id,
        created_ms,
        recipe: recipe.into(),
        model: model.clone(),
        key: String::new(),
        question: peek.question(),
        answer: String::new(),
        confidence: None,
        status: TraceStatus::Cancelled,
        elapsed_ms: 0.0,
        usage: Usage::default(),
    };
    let limit = Limit::new(started, grant.budget.seconds);
    let record = PassRecord::new(state, &live, &caller, summary, kept, started, grant.hold);
    pass(Passed { method: Method::POST, path, headers, body, asking, limit, model, caller, live, record })
        .await
}

/// The request as the upstream shall see it: with its own name of the model, without what only we understand, and with
/// its bound on an answer.
fn rewritten(bytes: &Bytes, model: &str, bound: Option<(&'static str, u64)>) -> Result<Bytes, ApiError> {
    let mut fields: Map<String, Value> =
        serde_json::from_slice(bytes).map_err(|error| ApiError::bad("", error.to_string()))?;
    fields.remove("elenchus");
    fields.remove("optillm_approach");
    fields.insert("model".into(), model.into());
    if let Some((field, tokens)) = bound {
        fields.insert(field.into(), tokens.into());
    }
    Ok(Bytes::from(Value::Object(fields).to_string()))
}

/// How much a request makes a model read and lets it write.
struct Size {
    prompt: u64,
    /// Whether it is answered by text.
    writes: bool,
    /// The request's own bound on an answer, tokens, and the field that it stands in.
    named: Option<(&'static str, u64)>,
    choices: u64,
}

fn number(raw: Option<&RawValue>) -> Option<u64> {
    serde_json::from_str(raw?.get()).ok()
}

impl Size {
    fn of(peek: &Peek<'_>, bytes: &[u8], writes: bool) -> Self {
        let newer = number(peek.max_completion_tokens).map(|tokens| ("max_completion_tokens", tokens));
        Size {
            prompt: prompt_guess(bytes),
            writes,
            named: newer.or_else(|| number(peek.max_tokens).map(|tokens| ("max_tokens", tokens))),
            choices: number(peek.n).unwrap_or(1).max(number(peek.best_of).unwrap_or(1)).max(1),
        }
    }

    fn expected(&self) -> Usage {
        let answer = self.named.map_or(HELD_TOKENS, |(_, tokens)| tokens);
        let completion_tokens =
            if self.writes { answer.saturating_mul(self.choices).min(1 << 40) } else { 0 };
        Usage { prompt_tokens: self.prompt, completion_tokens, calls: 1, ..Usage::default() }
    }

    /// The bound on an answer that has to go along with the request, where the budget is tighter than it.
    ///
    /// # Errors
    /// The budget allows no call, or does not reach beyond the prompt.
    fn bound(&self, budget: &Budget, price: Option<&Price>) -> Result<Option<(&'static str, u64)>, ApiError> {
        let refuse = |what: String| {
            let hint =
                "ask for less, or raise `elenchus.budget`, `budget` in `[serve]`, or the limit of the key";
            let message = format!("{what}\nhint: {hint}");
            Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "budget_exhausted", message))
        };
        if budget.calls == Some(0) {
            return refuse("the budget allows no call".into());
        }
        if budget.seconds.is_some_and(|seconds| seconds <= 0.0) {
            return refuse("the budget allows no time".into());
        }
        let prompt = self.prompt;
        let mut most = u64::MAX;
        if let Some(tokens) = budget.tokens {
            most = tokens.saturating_sub(prompt);
            if tokens < prompt || (self.writes && most < self.choices) {
                return refuse(format!(
                    "{tokens} tokens are left of the budget, and the prompt has about {prompt}"
                ));
            }
        }
        if let (Some(money), Some(price)) = (budget.money, price) {
            let read = price.of(&Usage { prompt_tokens: prompt, ..Usage::default() });
            let one = price.completion_per_million * self.choices as f64 / 1e6;
            if money < read || (self.writes && money - read < one) {
                return refuse(format!(
                    "{money} of money are left of the budget, and the prompt costs about {read}"
                ));
            }
            if price.completion_per_million > 0.0 {
                most = most.min(((money - read) * 1e6 / price.completion_per_million) as u64);
            }
        }
        let most = most / self.choices;
        Ok(match self.named {
            _ if !self.writes => None,
            Some((field, tokens)) => (tokens > most).then_some((field, most)),
            None => (most <= MOST_ADDED_TOKENS).then_some(("max_tokens", most)),
        })
    }
}

impl Limit {
    /// Ends so many seconds after `started`; without seconds, never.
    fn new(started: Instant, seconds: Option<f64>) -> Self {
        let length = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok());
        Limit { at: length.and_then(|length| started.checked_add(length)), seconds: seconds.unwrap_or(0.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(named: Option<(&'static str, u64)>, choices: u64) -> Size {
        Size { prompt: 100, writes: true, named, choices }
    }

    fn tokens(tokens: u64) -> Budget {
        Budget { tokens: Some(tokens), ..Budget::default() }
    }

    #[test]
    fn a_budget_bounds_the_answer_only_where_it_is_tighter() {
        let named = Some(("max_completion_tokens", 50));
        let bound = |size: Size, budget: &Budget| size.bound(budget, None).ok().flatten();
        assert_eq!(bound(size(named, 1), &tokens(150)), None);
        assert_eq!(bound(size(named, 1), &tokens(149)), Some(("max_completion_tokens", 49)));
        assert_eq!(bound(size(named, 2), &tokens(160)), Some(("max_completion_tokens", 30)), "each choice");
        assert_eq!(bound(size(None, 1), &tokens(300)), Some(("max_tokens", 200)));
        assert_eq!(bound(size(None, 1), &tokens(1_000_000)), None, "higher than what models write");
        assert_eq!(bound(size(None, 1), &Budget::default()), None);
        let embedding = Size { writes: false, ..size(None, 1) };
        assert_eq!(bound(embedding, &tokens(100)), None);
    }

    #[test]
    fn a_budget_that_does_not_reach_is_refused() {
        let none = |field: &str| {
            let mut budget = Budget::default();
            match field {
                "calls" => budget.calls = Some(0),
                "seconds" => budget.seconds = Some(0.0),
                "money" => budget.money = Some(0.0),
                _ => budget.tokens = Some(100),
            }
            budget
        };
        let price = Price { prompt_per_million: 1.0, completion_per_million: 2.0 };
        for field in ["calls", "seconds", "money", "tokens"] {
            let error = size(None, 1).bound(&none(field), Some(&price)).unwrap_err();
            assert_eq!((error.status.as_u16(), error.code), (429, "budget_exhausted"), "{field}");
            assert!(error.message.contains("hint:"), "{field}");
        }
    }

    #[test]
    fn money_is_turned_into_tokens() {
        let price = Price { prompt_per_million: 1.0, completion_per_million: 2.0 };
        let money = Budget { money: Some(0.0003), ..Budget::default() };
        // The prompt costs 0.0001, a hundred tokens the rest.
        let (field, most) = size(None, 1).bound(&money, Some(&price)).unwrap().unwrap();
        assert!(field == "max_tokens" && (99..=100).contains(&most), "{most}");
    }
}
