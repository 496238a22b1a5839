//! A Responses request as a chat request. What a chat request cannot say is refused by name, never dropped.

use crate::ApiError;
use crate::reading::object;
use elenchus_trace::Message;
use serde_json::{Map, Value, json};

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub fields: Map<String, Value>,
}

fn refuse(field: &str, what: &str, hint: &str) -> ApiError {
    ApiError::bad(field, format!("`{field}` {what}\nhint: {hint}"))
}

const ONLY_TEXT_AND_TOOLS: &str = "this gateway answers with text and calls of functions; \
                                   `/v1/chat/completions` passes anything on to an upstream";

impl Asked {
    /// Errors with what is no request.
    pub fn read(bytes: &[u8]) -> Result<Self, ApiError> {
        let mut fields: Map<String, Value> = object(bytes)?;
        // Clients send what was not set as null.
        fields.retain(|_, value| !value.is_null());
        for name in ["model", "previous_response_id", "instructions"] {
            if fields.get(name).is_some_and(|value| !value.is_string()) {
                return Err(refuse(name, "is no text", "only texts are understood here"));
            }
        }
        Ok(Asked { fields })
    }

    pub fn previous(&self) -> Option<&str> {
        self.fields.get("previous_response_id")?.as_str()
    }

    pub fn model(&self) -> Option<&str> {
        self.fields.get("model")?.as_str()
    }

    /// The chat request; `earlier` is the conversation that the input goes on with.
    ///
    /// # Errors
    /// The field that a chat request has no place for.
    pub fn chat(&self, earlier: &[Message]) -> Result<Map<String, Value>, ApiError> {
        let mut chat = Map::new();
        let mut messages: Vec<Value> = Vec::new();
        if let Some(instructions) = self.fields.get("instructions") {
            messages.push(json!({"role": "system", "content": instructions}));
        }
        messages.extend(earlier.iter().map(|message| json!(message)));
        let has_tools =
            self.fields.get("tools").and_then(Value::as_array).is_some_and(|tools| !tools.is_empty());
        for (name, value) in &self.fields {
            match name.as_str() {
                "input" => input(value, &mut messages)?,
                // Said above, or no business of a model.
                "instructions" | "previous_response_id" | "metadata" => {}
                "store" if value.is_boolean() => {}
                "n" => {
                    let hint = "ask several times, or `/v1/chat/completions` for several choices";
                    return Err(refuse("n", "has no place in a response, which is one", hint));
                }
                "max_output_tokens" => {
                    if value.as_u64().is_none_or(|tokens| tokens == 0) {
                        return Err(refuse(name, "is no whole number above 0", "leave it out for no bound"));
                    }
                    chat.insert("max_completion_tokens".into(), value.clone());
                }
                "tools" => {
                    chat.insert("tools".into(), tools(value)?);
                }
                "tool_choice" => {
                    chat.insert("tool_choice".into(), tool_choice(value)?);
                }
                // Servers refuse it where there are no tools.
                "parallel_tool_calls" if !has_tools => {}
                // Bounds the calls of tools that run on the server, and there are none.
                "max_tool_calls" => {}
                "text" => text(value, &mut chat)?,
                "reasoning" => reasoning(value, &mut chat)?,
                "include" => include(value, &mut chat)?,
                "top_logprobs" => {
                    if value.as_u64() != Some(0) {
                        chat.insert("logprobs".into(), true.into());
                        chat.insert("top_logprobs".into(), value.clone());
                    }
                }
                "stream_options" => {
                    if value.get("include_obfuscation") == Some(&Value::Bool(true)) {
                        let hint = "set `include_obfuscation` to false, or leave it out";
                        return Err(refuse(
                            "stream_options",
                            "asks for padding, which is not made here",
                            hint,
                        ));
                    }
                }
                "truncation" if value == "disabled" => {}
                "truncation" => {
                    let hint = "send what fits the model's context";
                    return Err(refuse("truncation", "is not `disabled`: nothing is left out here", hint));
                }
                "background" if value == false => {}
                "background" => {
                    let hint = "ask with `stream`, and keep the connection";
                    return Err(refuse(
                        "background",
                        "cannot be kept: answers are made while one waits",
                        hint,
                    ));
                }
                "conversation" | "prompt" | "context_management" | "moderation" => {
                    return Err(refuse(name, "is not kept on this server", ONLY_TEXT_AND_TOOLS));
                }
                _ => {
                    chat.insert(name.clone(), value.clone());
                }
            }
        }
        if messages.is_empty() || !self.fields.contains_key("input") {
            return Err(refuse("input", "is missing or empty", "a text, or a list of items"));
        }
        chat.insert("messages".into(), Value::Array(messages));
        if chat.get("stream") == Some(&Value::Bool(true)) {
            chat.insert("stream_options".into(), json!({"include_usage": true}));
        }
        Ok(chat)
    }
}

fn input(value: &Value, messages: &mut Vec<Value>) -> Result<(), ApiError> {
    match value {
        Value::String(text) => messages.push(json!({"role": "user", "content": text})),
        Value::Array(items) => {
            for (index, entry) in items.iter().enumerate() {
                item(entry, &format!("input[{index}]"), messages)?;
            }
        }
        _ => return Err(refuse("input", "is neither a text nor a list of items", "a text, or a list")),
    }
    Ok(())
}

/// One item of the input, which becomes a message or a part of the one before.
fn item(item: &Value, place: &str, messages: &mut Vec<Value>) -> Result<(), ApiError> {
    let text = |name: &str| {
        let found = item.get(name).and_then(Value::as_str);
        found
            .ok_or_else(|| refuse(&format!("{place}.{name}"), "is missing or no text", "it has to be a text"))
    };
    match item.get("type").and_then(Value::as_str).unwrap_or("message") {
        "message" => {
            let role = text("role")?;
            if !matches!(role, "user" | "system" | "developer" | "assistant") {
                let hint = "`user`, `system`, `developer` or `assistant`";
                return Err(refuse(&format!("{place}.role"), "is no role", hint));
            }
            let content = item.get("content").unwrap_or(&Value::Null);
            let content = parts(content, &format!("{place}.content"), role == "assistant")?;
            messages.push(json!({"role": role, "content": content}));
        }
        "function_call" => {
            let call = json!({"id": text("call_id")?, "type": "function",
                "function": {"name": text("name")?, "arguments": text("arguments")?}});
            // Calls made together, and what was said with them, are one message.
            match messages.last_mut().filter(|last| last["role"] == "assistant") {
                Some(last) => match last.get_mut("tool_calls").and_then(Value::as_array_mut) {
                    Some(calls) => calls.push(call),
                    None => last["tool_calls"] = json!([call]),
                },
                None => messages.push(json!({"role": "assistant", "content": null, "tool_calls": [call]})),
            }
        }
        "function_call_output" => {
            let place = format!("{place}.output");
            let content = parts(item.get("output").unwrap_or(&Value::Null), &place, true)?;
            messages.push(json!({"role": "tool", "tool_call_id": text("call_id")?, "content": content}));
        }
        kind => {
            let what = format!("is an item `{kind}`, which a chat has no place for");
            return Err(refuse(&format!("{place}.type"), &what, ONLY_TEXT_AND_TOOLS));
        }
    }
    Ok(())
}

/// The content of a message: a text stays one, and a single part of text becomes one, because every server reads that.
fn parts(content: &Value, place: &str, only_text: bool) -> Result<Value, ApiError> {
    let list = match content {
        Value::String(_) => return Ok(content.clone()),
        Value::Array(list) => list,
        _ => {
            return Err(refuse(place, "is neither a text nor a list of parts", "a text, or a list of parts"));
        }
    };
    let mut made = Vec::with_capacity(list.len());
    for (index, part) in list.iter().enumerate() {
        let kind = part.get("type").and_then(Value::as_str).unwrap_or_default();
        let given = |name: &str| part.get(name).filter(|value| !value.is_null());
        let wrong = |what: &str| Err(refuse(&format!("{place}[{index}]"), what, ONLY_TEXT_AND_TOOLS));
        made.push(match kind {
            "input_text" | "output_text" | "text" => match given("text") {
                Some(Value::String(text)) => json!({"type": "text", "text": text}),
                _ => return wrong("has no `text`"),
            },
            "refusal" => json!({"type": "refusal", "refusal": part["refusal"]}),
            "input_image" if !only_text => match given("image_url") {
                Some(url) => {
                    let mut image = json!({"url": url});
                    if let Some(detail) = given("detail") {
                        image["detail"] = detail.clone();
                    }
                    json!({"type": "image_url", "image_url": image})
                }
                None => return wrong("has no `image_url`: files are not kept here"),
            },
            "input_file" if !only_text && given("file_url").is_none() => {
                let mut file = Map::new();
                for name in ["file_id", "file_data", "filename"] {
                    if let Some(value) = given(name) {
                        file.insert(name.into(), value.clone());
                    }
                }
                json!({"type": "file", "file": file})
            }
            kind => return wrong(&format!("is a part `{kind}`, which this message cannot hold in a chat")),
        });
    }
    Ok(match made.as_slice() {
        [one] if one["type"] == "text" => one["text"].clone(),
        _ => Value::Array(made),
    })
}

fn tools(value: &Value) -> Result<Value, ApiError> {
    let list = value.as_array().ok_or_else(|| refuse("tools", "is no list", "a list of functions"))?;
    let one = |(index, tool): (usize, &Value)| {
        let place = format!("tools[{index}]");
        if tool["type"] != "function" {
            let what =
                format!("is a tool `{}`, which runs on the server", tool["type"].as_str().unwrap_or("?"));
            return Err(refuse(&place, &what, "only functions of your own are possible here"));
        }
        if !tool["name"].is_string() {
            return Err(refuse(&format!("{place}.name"), "is missing or no text", "name the function"));
        }
        let mut function = Map::new();
        for name in ["name", "description", "parameters", "strict"] {
            if let Some(value) = tool.get(name).filter(|value| !value.is_null()) {
                function.insert(name.into(), value.clone());
            }
        }
        Ok(json!({"type": "function", "function": function}))
    };
    list.iter().enumerate().map(one).collect::<Result<Vec<_>, _>>().map(Value::Array)
}

fn tool_choice(value: &Value) -> Result<Value, ApiError> {
    match value {
        Value::String(word) if matches!(word.as_str(), "none" | "auto" | "required") => Ok(value.clone()),
        Value::Object(choice) if value["type"] == "function" && choice["name"].is_string() => {
            Ok(json!({"type": "function", "function": {"name": value["name"]}}))
        }
        _ => {
            let hint = "`none`, `auto`, `required`, or {\"type\": \"function\", \"name\": …}";
            Err(refuse("tool_choice", "is no choice among functions", hint))
        }
    }
}

fn text(value: &Value, chat: &mut Map<String, Value>) -> Result<(), ApiError> {
    if let Some(verbosity) = value.get("verbosity").filter(|value| !value.is_null()) {
        chat.insert("verbosity".into(), verbosity.clone());
    }
    let Some(format) = value.get("format").filter(|value| !value.is_null()) else { return Ok(()) };
    match format["type"].as_str() {
        Some("text") => {}
        Some("json_object") => {
            chat.insert("response_format".into(), json!({"type": "json_object"}));
        }
        Some("json_schema") => {
            let mut schema = format.as_object().cloned().unwrap_or_default();
            schema.remove("type");
            chat.insert("response_format".into(), json!({"type": "json_schema", "json_schema": schema}));
        }
        _ => {
            let hint = "`text`, `json_object` or `json_schema`";
            return Err(refuse("text.format.type", "is no format", hint));
        }
    }
    Ok(())
}

fn reasoning(value: &Value, chat: &mut Map<String, Value>) -> Result<(), ApiError> {
    let fields = value.as_object().ok_or_else(|| refuse("reasoning", "is no object", "set `effort`"))?;
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        match name.as_str() {
            "effort" => {
                chat.insert("reasoning_effort".into(), value.clone());
            }
            // As far as the model can; a chat model has none.
            "summary" | "generate_summary" if value == "auto" => {}
            "context" if value == "auto" => {}
            _ => {
                let field = format!("reasoning.{name}");
                return Err(refuse(
                    &field,
                    "cannot be kept: a chat says nothing of reasoning",
                    "leave it out",
                ));
            }
        }
    }
    Ok(())
}

fn include(value: &Value, chat: &mut Map<String, Value>) -> Result<(), ApiError> {
    let list = value.as_array().ok_or_else(|| refuse("include", "is no list", "a list of names"))?;
    for name in list {
        match name.as_str() {
            Some("message.output_text.logprobs") => {
                chat.insert("logprobs".into(), true.into());
            }
            // Of items that an answer here never has.
            Some("reasoning.encrypted_content" | "message.input_image.image_url") => {}
            _ => {
                let what = format!("asks for {name}, which an answer here never holds");
                return Err(refuse("include", &what, ONLY_TEXT_AND_TOOLS));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(body: Value) -> Result<Value, ApiError> {
        Asked::read(body.to_string().as_bytes())?.chat(&[]).map(Value::Object)
    }

    #[test]
    fn items_become_messages() {
        let made = chat(json!({
            "model": "m", "instructions": "Be brief.", "max_output_tokens": 9, "temperature": null,
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "Weather in Rome and Oslo?"}]},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look.", "annotations": []}]},
                {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{\"city\":\"Rome\"}"},
                {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": "{\"city\":\"Oslo\"}"},
                {"type": "function_call_output", "call_id": "c1", "output": "sun"},
                {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "snow"}]},
                {"role": "user", "content": [{"type": "input_text", "text": "And this?"},
                    {"type": "input_image", "image_url": "data:,x", "detail": "low"}]},
            ],
            "tools": [{"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": null}],
            "tool_choice": {"type": "function", "name": "weather"},
            "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}, "verbosity": "low"},
            "reasoning": {"effort": "low", "summary": "auto"}, "store": true, "metadata": {"a": "b"}, "my_field": 1,
        }))
        .unwrap();
        let call = |id: &str, city: &str| {
            json!({"id": id, "type": "function",
                "function": {"name": "weather", "arguments": format!("{{\"city\":\"{city}\"}}")}})
        };
        let messages = json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Weather in Rome and Oslo?"},
            {"role": "assistant", "content": "I look.", "tool_calls": [call("c1", "Rome"), call("c2", "Oslo")]},
            {"role": "tool", "tool_call_id": "c1", "content": "sun"},
            {"role": "tool", "tool_call_id": "c2", "content": "snow"},
            {"role": "user", "content": [{"type": "text", "text": "And this?"},
                {"type": "image_url", "image_url": {"url": "data:,x", "detail": "low"}}]},
        ]);
        assert_eq!(made["messages"], messages);
        let function =
            json!({"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}});
        for (name, value) in [
            ("max_completion_tokens", json!(9)),
            ("tools", json!([function])),
            ("tool_choice", json!({"type": "function", "function": {"name": "weather"}})),
            ("response_format", json!({"type": "json_schema", "json_schema": {"name": "n", "schema": {}}})),
            ("verbosity", json!("low")),
            ("reasoning_effort", json!("low")),
            ("my_field", json!(1)),
        ] {
            assert_eq!(made[name], value, "{name}");
        }
        for absent in ["input", "metadata", "store", "temperature", "instructions", "text", "reasoning"] {
            assert!(made.get(absent).is_none(), "{absent}");
        }
    }

    #[test]
    fn what_a_chat_cannot_say_is_refused_by_name() {
        for (fields, name) in [
            (json!({"input": null}), "input"),
            (json!({"input": []}), "input"),
            (json!({"input": 3}), "input"),
            (json!({"input": [{"type": "reasoning", "summary": []}]}), "input[0].type"),
            (json!({"input": [{"type": "item_reference", "id": "x"}]}), "input[0].type"),
            (json!({"input": [{"role": "wizard", "content": "x"}]}), "input[0].role"),
            (json!({"input": [{"role": "user"}]}), "input[0].content"),
            (
                json!({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}),
                "input[0].content[0]",
            ),
            (
                json!({"input": [{"type": "function_call_output", "call_id": "c",
                "output": [{"type": "input_image", "image_url": "x"}]}]}),
                "input[0].output[0]",
            ),
            (
                json!({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}),
                "input[0].call_id",
            ),
            (json!({"tools": [{"type": "web_search"}]}), "tools[0]"),
            (json!({"tool_choice": {"type": "file_search"}}), "tool_choice"),
            (json!({"background": true}), "background"),
            (json!({"conversation": "c"}), "conversation"),
            (json!({"truncation": "auto"}), "truncation"),
            (json!({"prompt": {"id": "p"}}), "prompt"),
            (json!({"reasoning": {"summary": "detailed"}}), "reasoning.summary"),
            (json!({"include": ["file_search_call.results"]}), "include"),
            (json!({"instructions": ["x"]}), "instructions"),
            (json!({"stream_options": {"include_obfuscation": true}}), "stream_options"),
        ] {
            let mut body = json!({"model": "m", "input": "x"});
            for (field, value) in fields.as_object().unwrap() {
                body[field] = value.clone();
            }
            let error = chat(body).unwrap_err();
            assert_eq!((error.status.as_u16(), error.param.as_deref()), (400, Some(name)), "{fields}");
            assert!(error.message.contains("hint:"), "{}", error.message);
        }
    }
}
