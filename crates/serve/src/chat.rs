//! What a chat request says, and answers in the form of OpenAI's chat completions.

use crate::ApiError;
use crate::reading::{field, object};
use crate::stage::StageView;
use elenchus_recipe::{Keeps, Serving, offers};
use elenchus_trace::{Budget, Completion, FinishReason, Message, Role, ToolCall, Usage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// The fields of a request that decide what is done with it; the rest is only looked at where it matters.
#[derive(Debug, Deserialize)]
pub(crate) struct Peek<'a> {
    #[serde(borrow, default)]
    pub model: Option<Cow<'a, str>>,
    #[serde(default)]
    pub stream: Option<bool>,
    #[serde(default)]
    pub elenchus: Option<Value>,
    #[serde(default)]
    pub optillm_approach: Option<String>,
    #[serde(borrow, default)]
    pub messages: Option<&'a RawValue>,
    /// Of `/v1/completions`.
    #[serde(borrow, default)]
    pub prompt: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub max_tokens: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub max_completion_tokens: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub n: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub best_of: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub stream_options: Option<&'a RawValue>,
}

impl<'a> Peek<'a> {
    /// Errors with what is wrong and where.
    pub fn read(bytes: &'a [u8]) -> Result<Self, ApiError> {
        object(bytes)
    }

    /// Text of the last user message, else the prompt, for lists.
    pub fn question(&self) -> String {
        #[derive(Deserialize)]
        struct Said<'a> {
            #[serde(borrow, default)]
            role: Cow<'a, str>,
            #[serde(default)]
            content: Option<elenchus_trace::Content>,
        }
        let messages: Vec<Said<'_>> =
            self.messages.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
        let last = messages.iter().rev().find(|message| message.role == "user");
        let prompt = || self.prompt.and_then(|raw| serde_json::from_str(raw.get()).ok());
        let text = last.and_then(|message| message.content.as_ref()).map(|content| content.text());
        text.or_else(prompt).unwrap_or_default()
    }
}

/// A chat request, taken apart.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChatRequest {
    pub messages: Vec<Message>,
    /// Settings of the actor's sampling, in the words of our strategies.
    pub sampling: Map<String, Value>,
    pub seed: Option<u64>,
    pub choices: u64,
    pub logprobs: bool,
    pub top_logprobs: u8,
    pub include_usage: bool,
    /// Whatever else was said, in the request's words.
    pub rest: Map<String, Value>,
    /// What a recipe must keep of it because the answer itself depends on it.
    pub wants: Map<String, Value>,
}

fn wrong(name: &str, what: &str) -> ApiError {
    ApiError::bad(name, format!("`{name}` {what}"))
}

/// Messages, or which of them is wrong.
fn messages(value: Value) -> Result<Vec<Message>, ApiError> {
    let Value::Array(list) = value else { return Err(wrong("messages", "is no list of messages")) };
    let one = |(index, value): (usize, Value)| {
        let place = format!("messages[{index}]");
        if !value.is_object() {
            return Err(wrong(&place, "is no object of `role` and `content`"));
        }
        if !matches!(value["content"], Value::Null | Value::String(_) | Value::Array(_)) {
            return Err(wrong(&format!("{place}.content"), "is neither text nor a list of parts"));
        }
        field(&place, value)
    };
    list.into_iter().enumerate().map(one).collect()
}

impl ChatRequest {
    /// Errors with the field that is wrong.
    pub fn read(bytes: &[u8]) -> Result<Self, ApiError> {
        let fields: Map<String, Value> = object(bytes)?;
        let mut request = ChatRequest { choices: 1, ..ChatRequest::default() };
        for (name, value) in fields {
            if value.is_null() && name != "messages" {
                continue;
            }
            match name.as_str() {
                "model" | "stream" | "elenchus" | "optillm_approach" => {}
                "messages" => {
                    request.messages = messages(value)?;
                }
                "temperature" => request.number(&name, &value, 0.0, 10.0)?,
                "top_p" | "min_p" => request.number(&name, &value, 0.0, 1.0)?,
                "top_k" | "max_tokens" => request.whole(&name, &name, &value)?,
                "max_completion_tokens" => request.whole(&name, "max_tokens", &value)?,
                "stop" => {
                    let list = match value {
                        Value::String(text) => json!([text]),
                        Value::Array(list) if list.iter().all(Value::is_string) => json!(list),
                        _ => return Err(wrong("stop", "is no text and no list of texts")),
                    };
                    request.sampling.insert("stop".into(), list);
                }
                "seed" => {
                    let seed = value.as_i64().ok_or_else(|| wrong("seed", "is no whole number"))?;
                    request.seed = Some(seed as u64);
                }
                "n" => {
                    request.choices = value
                        .as_u64()
                        .filter(|n| (1..=128).contains(n))
                        .ok_or_else(|| wrong("n", "is no whole number between 1 and 128"))?;
                }
                "logprobs" => {
                    request.logprobs =
                        value.as_bool().ok_or_else(|| wrong("logprobs", "is neither true nor false"))?;
                }
                "top_logprobs" => {
                    request.top_logprobs = value
                        .as_u64()
                        .filter(|n| *n <= 20)
                        .ok_or_else(|| wrong("top_logprobs", "is no whole number up to 20"))?
                        as u8;
                }
                "stream_options" => {
                    request.include_usage = value.get("include_usage") == Some(&Value::Bool(true));
                }
                _ => {
                    request.rest.insert(name, value);
                }
            }
        }
        if request.messages.is_empty() {
            return Err(wrong("messages", "is missing or empty"));
        }
        Ok(request)
    }

    fn number(&mut self, name: &str, value: &Value, least: f64, most: f64) -> Result<(), ApiError> {
        let number = value.as_f64().filter(|number| (least..=most).contains(number));
        let number =
            number.ok_or_else(|| wrong(name, &format!("is no number between {least} and {most}")))?;
        self.sampling.insert(name.into(), json!(number));
        Ok(())
    }

    fn whole(&mut self, name: &str, setting: &str, value: &Value) -> Result<(), ApiError> {
        let number = value.as_u64().filter(|&n| n <= u64::from(u32::MAX) && (n > 0 || setting == "top_k"));
        let number = number.ok_or_else(|| wrong(name, "is no whole number above 0"))?;
        self.sampling.insert(setting.into(), json!(number));
        Ok(())
    }

    /// Refuses what a recipe would lose. What the answer itself shall be goes into `wants`; what is left in `rest` is
    /// carried to the model.
    ///
    /// # Errors
    /// The field, and who can keep it.
    pub fn for_recipe(&mut self, serving: &Serving) -> Result<(), ApiError> {
        let (recipe, keeps) = (serving.name(), serving.keeps());
        let refuse = |field: &str, able: &dyn Fn(Keeps) -> bool| {
            let able: Vec<&str> =
                offers().iter().filter(|offer| able(offer.keeps)).map(|offer| offer.name.as_str()).collect();
            let hint = match able.is_empty() {
                true => "leave it out, or ask the model without a recipe".to_string(),
                false => format!("it is kept by {}, and without a recipe", able.join(", ")),
            };
            let message = format!("the recipe `{recipe}` cannot keep `{field}`");
            Err(ApiError::bad(field, format!("{message}\nhint: {hint}")))
        };
        if self.logprobs || self.top_logprobs > 0 {
            if !keeps.logprobs {
                return refuse("logprobs", &|keeps| keeps.logprobs);
            }
            self.wants.insert("logprobs".into(), true.into());
            if self.top_logprobs > 0 {
                self.wants.insert("top_logprobs".into(), self.top_logprobs.into());
            }
        }
        let is_neutral = |name: &str, value: &Value| match name {
            "tools" | "functions" => value.as_array().is_some_and(Vec::is_empty),
            "tool_choice" | "function_call" => value == "none",
            "parallel_tool_calls" => true,
            "response_format" => value.get("type").is_some_and(|kind| kind == "text"),
            "modalities" => *value == json!(["text"]),
            "audio" | "prediction" | "web_search_options" => false,
            _ => true,
        };
        let has_tools = self.rest.get("tools").is_some_and(|tools| !is_neutral("tools", tools));
        for (name, _) in self.rest.iter().filter(|(name, value)| !is_neutral(name, value)) {
            match name.as_str() {
                "tools" | "tool_choice" if has_tools && keeps.tools => {}
                "tools" | "tool_choice" => return refuse(name, &|keeps| keeps.tools),
                "response_format" if keeps.response_format => {}
                "response_format" => return refuse(name, &|keeps| keeps.response_format),
                _ => return refuse(name, &|_| false),
            }
        }
        for name in ["tools", "tool_choice", "parallel_tool_calls", "response_format"] {
            if let Some(value) = self.rest.remove(name)
                && (has_tools || name == "response_format")
                && !(name == "response_format" && is_neutral(name, &value))
            {
                self.wants.insert(name.into(), value);
            }
        }
        for neutral in ["functions", "function_call", "modalities"] {
            self.rest.remove(neutral);
        }
        let answered = |role: Role| role == Role::User || (role == Role::Tool && has_tools);
        match self.messages.last() {
            Some(last) if answered(last.role) => Ok(()),
            _ => {
                let message = format!(
                    "the recipe `{recipe}` answers a user: the last message must be the user's, or the result of a tool \
                     where there are `tools`"
                );
                Err(ApiError::bad("messages", message))
            }
        }
    }

    /// Refuses what the embedded model would lose.
    ///
    /// # Errors
    /// The field, and what to do instead.
    pub fn for_embedded(&self) -> Result<(), ApiError> {
        let refuse = |field: &str, what: &str| {
            let message = format!("the embedded model cannot keep `{field}`: {what}");
            Err(ApiError::bad(
                field,
                format!("{message}\nhint: give the gateway an upstream (`--upstream URL`)"),
            ))
        };
        if self.messages.len() != 1 || self.messages[0].role != Role::User {
            return refuse("messages", "it reads one message of the user, in the notation of its own tasks");
        }
        let neutral = |name: &str, value: &Value| match name {
            "presence_penalty" | "frequency_penalty" => value.as_f64() == Some(0.0),
            "logit_bias" => value.as_object().is_some_and(Map::is_empty),
            "tools" | "functions" => value.as_array().is_some_and(Vec::is_empty),
            "response_format" => value.get("type").is_some_and(|kind| kind == "text"),
            "modalities" => *value == json!(["text"]),
            "audio" | "prediction" => false,
            _ => true,
        };
        if self.logprobs || self.top_logprobs > 0 {
            return refuse("logprobs", "it tells none here; its traces hold scores");
        }
        match self.rest.iter().find(|(name, value)| !neutral(name, value)) {
            Some((name, _)) => refuse(name, "it has no such thing"),
            None => Ok(()),
        }
    }

    /// The question: text of the last user message.
    pub fn question(&self) -> String {
        self.messages.iter().rev().find(|m| m.role == Role::User).map(Message::text).unwrap_or_default()
    }
}

/// A confidence, and whether it can be read as a probability.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Confidence {
    /// In [0, 1].
    pub value: f64,
    /// `raw`: as the recipe says; `calibrated`: fitted on answers with a known verdict.
    pub kind: ConfidenceKind,
    /// As the recipe says, where `value` is calibrated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<f64>,
}

/// Where a confidence comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConfidenceKind {
    /// As the recipe says; no probability.
    Raw,
    /// Fitted for this recipe, model and task.
    Calibrated,
}

/// What a request may spend and has spent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetReport {
    /// The bounds in force.
    pub limit: Budget,
    /// All that was spent.
    pub spent: Usage,
    /// Of that, what went into the response that is returned.
    pub answer: Usage,
    /// Of that, what the recipe took beyond it.
    pub recipe: Usage,
}

/// The trace that another one was run again from, with one stage edited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Parent {
    /// The trace.
    pub trace_id: String,
    /// The stage that was edited.
    pub stage: u32,
    /// The edit, as it is stored; absent where nothing was said: what failed was asked once more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feedback_id: Option<String>,
}

/// The field `elenchus` of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Where the trace is kept; absent when the store failed.
    pub trace_id: Option<String>,
    /// The recipe.
    pub recipe: String,
    /// Its name for the extracted answer, where there is one.
    pub answer: Option<String>,
    /// How sure it is, where it has a ground for that.
    pub confidence: Option<Confidence>,
    /// Share of the samples that agree with the answer, for recipes that vote.
    pub agreement: Option<f64>,
    /// Why there is no answer.
    pub abstained: Option<String>,
    /// What it was run again from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// Bounds and costs.
    pub budget: BudgetReport,
    /// What happened, in order; texts are cut, the trace has them whole.
    pub stages: Vec<StageView>,
}

/// Our word for why a text ended, in OpenAI's words.
pub(crate) fn finish_word(finish: &FinishReason) -> &'static str {
    match finish {
        FinishReason::Length | FinishReason::Cancelled | FinishReason::Interrupted => "length",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::ContentFilter => "content_filter",
        FinishReason::Stop | FinishReason::Other(_) => "stop",
    }
}

/// Usage in OpenAI's form.
pub(crate) fn usage_body(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.tokens(),
    })
}

/// The field `elenchus` of one of several choices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChoiceReport {
    /// The extracted answer, where there is one.
    pub answer: Option<String>,
    /// How sure the recipe is of it.
    pub confidence: Option<Confidence>,
    /// Share of the samples that agree with it.
    pub agreement: Option<f64>,
    /// Why there is no answer.
    pub abstained: Option<String>,
}

/// One choice of an answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChoiceBody {
    pub text: String,
    pub tool_calls: Vec<ToolCall>,
    pub finish: &'static str,
    pub logprobs: Value,
    /// Where there are several.
    pub report: Option<ChoiceReport>,
}

/// Log-probabilities of a completion's tokens in the form of a chat answer; null where they are not known.
pub(crate) fn logprobs_body(completion: &Completion) -> Value {
    if completion.logprobs.is_empty() || completion.token_texts.len() != completion.logprobs.len() {
        return Value::Null;
    }
    let one =
        |token: &str, logprob: f32| json!({"token": token, "logprob": logprob, "bytes": token.as_bytes()});
    let tokens = completion.token_texts.iter().zip(&completion.logprobs).enumerate();
    let content: Vec<Value> = tokens
        .map(|(place, (token, logprob))| {
            let mut entry = one(token, *logprob);
            let top = completion.top.get(place).into_iter().flatten();
            entry["top_logprobs"] = top.map(|top| one(&top.token, top.logprob)).collect();
            entry
        })
        .collect();
    json!({"content": content, "refusal": null})
}

/// A whole answer.
pub(crate) fn completion_body(
    id: &str,
    created_seconds: u64,
    model: &str,
    choices: &[ChoiceBody],
    usage: &Usage,
    report: Option<&Report>,
) -> Value {
    let choices: Vec<Value> = choices
        .iter()
        .enumerate()
        .map(|(index, choice)| {
            let mut message = json!({"role": "assistant", "content": choice.text, "refusal": null});
            if !choice.tool_calls.is_empty() {
                message["tool_calls"] = json!(choice.tool_calls);
                if choice.text.is_empty() {
                    message["content"] = Value::Null;
                }
            }
            let mut choice_body = json!({
                "index": index, "message": message, "logprobs": choice.logprobs, "finish_reason": choice.finish,
            });
            if let Some(report) = &choice.report {
                choice_body["elenchus"] = json!(report);
            }
            choice_body
        })
        .collect();
    let mut body = json!({
        "id": id, "object": "chat.completion", "created": created_seconds, "model": model, "choices": choices,
        "usage": usage_body(usage),
    });
    if let Some(report) = report {
        body["elenchus"] = json!(report);
    }
    body
}

/// One piece of a streamed answer.
pub(crate) fn chunk_body(
    id: &str,
    created_seconds: u64,
    model: &str,
    index: usize,
    delta: Value,
    finish: Option<&str>,
) -> Value {
    json!({
        "id": id, "object": "chat.completion.chunk", "created": created_seconds, "model": model,
        "choices": [{"index": index, "delta": delta, "finish_reason": finish, "logprobs": null}],
    })
}

/// The last piece of a stream whose client asked for usage.
pub(crate) fn usage_chunk(id: &str, created_seconds: u64, model: &str, usage: &Usage) -> Value {
    json!({
        "id": id, "object": "chat.completion.chunk", "created": created_seconds, "model": model, "choices": [],
        "usage": usage_body(usage),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: Value) -> Result<ChatRequest, ApiError> {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "Q"}]});
        for (name, value) in fields.as_object().unwrap() {
            body[name] = value.clone();
        }
        ChatRequest::read(body.to_string().as_bytes())
    }

    #[test]
    fn sampling_becomes_settings_and_the_rest_is_carried() {
        let request = read(json!({
            "temperature": 0.3, "max_completion_tokens": 7, "stop": "x", "seed": -1, "user": "u", "top_p": null,
            "my_own_field": {"a": 1},
        }))
        .unwrap();
        assert_eq!(
            Value::Object(request.sampling),
            json!({"temperature": 0.3, "max_tokens": 7, "stop": ["x"]})
        );
        assert_eq!(request.seed, Some(u64::MAX));
        assert_eq!(Value::Object(request.rest), json!({"user": "u", "my_own_field": {"a": 1}}));
    }

    #[test]
    fn wrong_fields_are_named() {
        for (fields, name) in [
            (json!({"temperature": "hot"}), "temperature"),
            (json!({"temperature": -1}), "temperature"),
            (json!({"max_tokens": 0}), "max_tokens"),
            (json!({"stop": [1]}), "stop"),
            (json!({"n": 0}), "n"),
            (json!({"messages": "hello"}), "messages"),
            (json!({"messages": []}), "messages"),
            (json!({"messages": [{"role": "wizard", "content": "x"}]}), "messages[0].role"),
            (json!({"messages": [{"role": "user", "content": 5}]}), "messages[0].content"),
            (json!({"seed": 0.5}), "seed"),
        ] {
            let error = read(fields.clone()).unwrap_err();
            assert_eq!((error.status.as_u16(), error.param.as_deref()), (400, Some(name)), "{fields}");
        }
    }

    fn serving(recipe: &str) -> Serving {
        Serving::new(&elenchus_recipe::Composition::parse(recipe).unwrap(), "math").unwrap()
    }

    #[test]
    fn a_recipe_refuses_what_it_would_lose() {
        let tools = json!([{"type": "function", "function": {"name": "f"}}]);
        for (recipe, fields, name) in [
            ("gsa", json!({"tools": tools}), "tools"),
            ("universal-self-consistency", json!({"tools": tools}), "tools"),
            ("gsa", json!({"logprobs": true}), "logprobs"),
            ("iad", json!({"response_format": {"type": "json_object"}}), "response_format"),
            (
                "self-consistency then closed-loop-critique",
                json!({"response_format": {"type": "json_object"}}),
                "response_format",
            ),
            ("self-consistency", json!({"audio": {}}), "audio"),
            ("self-consistency", json!({"functions": [{"name": "f"}]}), "functions"),
            ("self-consistency", json!({"tool_choice": "required"}), "tool_choice"),
            ("self-consistency", json!({"messages": [{"role": "assistant", "content": "x"}]}), "messages"),
        ] {
            let error = read(fields.clone()).unwrap().for_recipe(&serving(recipe)).unwrap_err();
            assert_eq!(
                (error.status.as_u16(), error.param.as_deref()),
                (400, Some(name)),
                "{recipe} {fields}"
            );
            if matches!(name, "tools" | "logprobs" | "response_format") {
                assert!(error.message.contains("self-consistency"), "who can is named: {}", error.message);
            }
        }
        let mut request =
            read(json!({"tools": [], "response_format": {"type": "text"}, "user": "u"})).unwrap();
        request.for_recipe(&serving("gsa")).unwrap();
        assert!(!request.rest.contains_key("tools") && request.rest.contains_key("user"));
        assert!(request.wants.is_empty());
    }

    #[test]
    fn what_a_recipe_keeps_is_wanted_of_the_answer_and_not_of_every_call() {
        let tools = json!([{"type": "function", "function": {"name": "f"}}]);
        let format = json!({"type": "json_object"});
        let mut request = read(json!({
            "tools": tools, "tool_choice": "auto", "parallel_tool_calls": false, "response_format": format,
            "top_logprobs": 2, "logprobs": true, "n": 3, "user": "u",
            "messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": null, "tool_calls": []},
                {"role": "tool", "content": "r", "tool_call_id": "c"}],
        }))
        .unwrap();
        request.for_recipe(&serving("self-consistency")).unwrap();
        let wants = json!({"logprobs": true, "top_logprobs": 2, "tools": tools, "tool_choice": "auto",
            "parallel_tool_calls": false, "response_format": format});
        assert_eq!(Value::Object(request.wants), wants);
        assert_eq!(Value::Object(request.rest), json!({"user": "u"}));
    }

    #[test]
    fn the_question_is_the_last_of_the_user() {
        let body = br#"{"messages": [{"role": "user", "content": "one"}, {"role": "assistant", "content": "a"},
            {"role": "user", "content": [{"type": "text", "text": "two"}, {"type": "image_url", "image_url": {"url": "x"}}]}]}"#;
        assert_eq!(Peek::read(body).unwrap().question(), "two");
        assert_eq!(ChatRequest::read(body).unwrap().question(), "two");
        assert_eq!(Peek::read(b"{}").unwrap().question(), "");
        assert_eq!(Peek::read(br#"{"prompt": "once"}"#).unwrap().question(), "once");
        assert_eq!(Peek::read(br#"{"prompt": ["once", "twice"]}"#).unwrap().question(), "");
    }
}
