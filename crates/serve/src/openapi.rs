//! The description of the API, made from the table of routes and the types.

use crate::pass::TRACE_HEADER;
use crate::{
    EstimateReply, FeedbackReply, FeedbackRequest, ListedRecipe, ROUTES, Report, RerunRequest, Route,
    RunList, RunReply, TotalsRow, TraceList, TraceReply, Wish,
};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// The description, OpenAPI 3.1.
pub fn description() -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        })
        .into_generator();
    let mut paths = Map::new();
    for route in ROUTES {
        let operations = paths.entry(route.path).or_insert_with(|| json!({}));
        operations[route.method.to_lowercase()] = operation(route, &mut generator);
    }
    let mut schemas = generator.take_definitions(true);
    schemas.insert("Error".into(), error_schema());
    schemas.insert("ChatRequest".into(), chat_request_schema());
    schemas.insert("ChatCompletion".into(), chat_completion_schema());
    schemas.insert("ResponseRequest".into(), response_request_schema());
    schemas.insert("Response".into(), response_schema());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "elenchus gateway",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "An OpenAI-compatible API that answers with recipes, shows their stages and keeps feedback.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    })
}

fn reference<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

fn named(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn list_of(item: Value) -> Value {
    json!({"type": "object", "required": ["data"], "properties": {"data": {"type": "array", "items": item}}})
}

/// Server-sent events. A schema here is read by some as that of the body, by others as that of each event.
fn events(what: &str) -> Value {
    json!({"schema": {"description": format!("Server-sent events: {what}.")}})
}

fn operation(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let content = |kind: &str, schema: Value| json!({kind: {"schema": schema}});
    let as_json = |schema| content("application/json", schema);
    let object = || json!({"type": "object"});
    let success = match route.name {
        "page" => content("text/html", json!({"type": "string"})),
        "page_css" => content("text/css", json!({"type": "string"})),
        "page_script" => content("text/javascript", json!({"type": "string"})),
        "metrics" => content("text/plain", json!({"type": "string"})),
        "recipes" => as_json(list_of(reference::<ListedRecipe>(generator))),
        "estimate" => as_json(reference::<EstimateReply>(generator)),
        "feedback" => as_json(reference::<FeedbackReply>(generator)),
        "traces" => as_json(reference::<TraceList>(generator)),
        "trace" => as_json(reference::<TraceReply>(generator)),
        "runs" => as_json(reference::<RunList>(generator)),
        "run" => as_json(reference::<RunReply>(generator)),
        "run_report" => content("text/html", json!({"type": "string"})),
        "totals" => as_json(list_of(reference::<TotalsRow>(generator))),
        "chat" | "chat_recipe" | "rerun" => {
            // Named in the schema of the answer, which is written by hand.
            let _ = (reference::<Report>(generator), reference::<Wish>(generator));
            let mut both = as_json(named("ChatCompletion"));
            both["text/event-stream"] = events("chunks of the answer as `data`, the last one `[DONE]`");
            both
        }
        "responses" | "responses_recipe" => {
            let mut both = as_json(named("Response"));
            both["text/event-stream"] =
                events("each with its `type` as `event`, the last one says how it ended");
            both
        }
        "response" => as_json(named("Response")),
        "export" => {
            let mut both = content("application/x-ndjson", json!({"type": "string"}));
            both["application/vnd.apache.parquet"] =
                json!({"schema": {"type": "string", "format": "binary"}});
            both
        }
        _ => as_json(object()),
    };
    let mut responses = Map::new();
    match route.name {
        "icon" => responses.insert("204".into(), json!({"description": "Nothing."})),
        _ => responses.insert("200".into(), json!({"description": "Done.", "content": success})),
    };
    if route.name == "readyz" {
        responses.insert("503".into(), json!({"description": "Not ready.", "content": as_json(object())}));
    } else {
        responses.insert(
            "default".into(),
            json!({"description": "Refused or failed.", "content": as_json(named("Error"))}),
        );
    }
    let makes_trace = matches!(
        route.name,
        "chat" | "chat_recipe" | "completions" | "embeddings" | "responses" | "responses_recipe" | "rerun"
    );
    if makes_trace {
        let header = json!({TRACE_HEADER: {
            "description": "The trace of this response, where one is stored.", "schema": {"type": "string"},
        }});
        for (_, response) in &mut responses {
            response["headers"] = header.clone();
        }
    }
    let mut operation = json!({"operationId": route.name, "summary": route.summary, "responses": responses});
    let request = match route.name {
        "chat" | "chat_recipe" | "estimate" => Some(named("ChatRequest")),
        "responses" | "responses_recipe" => Some(named("ResponseRequest")),
        "feedback" => Some(reference::<FeedbackRequest>(generator)),
        "rerun" => Some(reference::<RerunRequest>(generator)),
        "completions" | "embeddings" => Some(object()),
        _ => None,
    };
    if let Some(schema) = request {
        operation["requestBody"] = json!({"required": true, "content": as_json(schema)});
    }
    let parameters = parameters(route);
    if !parameters.is_empty() {
        operation["parameters"] = Value::Array(parameters);
    }
    if let Some(scope) = route.scope {
        // Not needed on loopback as long as there is no key.
        operation["security"] = json!([{}, {"key": []}]);
        operation["x-scope"] = json!(scope.name());
    }
    operation
}

fn parameters(route: &Route) -> Vec<Value> {
    let text = json!({"type": "string"});
    let one_of = |words: &[&str]| json!({"type": "string", "enum": words});
    let query = |name: &str, schema: Value| json!({"name": name, "in": "query", "schema": schema});
    let mut parameters: Vec<Value> = match route.name {
        "traces" => vec![
            query("recipe", text.clone()),
            query("model", text.clone()),
            query("key", text.clone()),
            query("text", text.clone()),
            query("before", text),
            query("reaction", one_of(&["love", "up", "down", "any", "none"])),
            query("status", one_of(&["answered", "abstained", "failed", "cancelled"])),
            query("limit", json!({"type": "integer", "minimum": 1, "maximum": 500})),
        ],
        "recipes" => vec![query("model", text)],
        "run_report" => {
            vec![json!({"name": "ticket", "in": "query", "required": true, "schema": text})]
        }
        "export" => vec![
            query("format", one_of(&["sft", "preference", "unpaired_preference", "reward"])),
            query("file", one_of(&["jsonl", "parquet"])),
            query("parts", text.clone()),
            query("recipe", text.clone()),
            query("model", text.clone()),
            query("key", text),
        ],
        _ => Vec::new(),
    };
    if let Some((_, rest)) = route.path.split_once('{')
        && let Some((name, _)) = rest.split_once('}')
    {
        parameters.push(json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}));
    }
    parameters
}

fn error_schema() -> Value {
    json!({
        "type": "object", "required": ["error"],
        "properties": {"error": {
            "type": "object", "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"}, "type": {"type": "string"},
                "param": {"type": ["string", "null"]}, "code": {"type": ["string", "null"]},
            },
        }},
    })
}

fn chat_request_schema() -> Value {
    json!({
        "type": "object", "required": ["messages"],
        "description": "OpenAI's chat completion request. Fields that are not known are passed on.",
        "properties": {
            "model": {"type": "string", "description": "A model, or `elenchus/<recipe>[@n]/<model>`."},
            "messages": {"type": "array", "minItems": 1, "items": {
                "type": "object", "required": ["role"],
                "properties": {"role": {"enum": ["system", "developer", "user", "assistant", "tool"]}},
            }},
            "stream": {"type": ["boolean", "null"]},
            "elenchus": {"anyOf": [{"type": "string"}, named("Wish")]},
            "optillm_approach": {"type": "string"},
        },
    })
}

fn chat_completion_schema() -> Value {
    json!({
        "type": "object", "required": ["id", "object", "created", "model", "choices"],
        "description": "OpenAI's chat completion, with a report where a recipe or the embedded model answered.",
        "properties": {
            "id": {"type": "string"}, "object": {"const": "chat.completion"}, "created": {"type": "integer"},
            "model": {"type": "string"}, "choices": {"type": "array", "items": {"type": "object"}},
            "usage": {"type": "object"}, "elenchus": named("Report"),
        },
    })
}

fn response_request_schema() -> Value {
    json!({
        "type": "object", "required": ["input"],
        "description": "OpenAI's Responses request, as far as a chat can say it. Fields that are not known are passed on.",
        "properties": {
            "model": {"type": ["string", "null"], "description": "As in a chat request."},
            "input": {"description": "A text, or items: messages, function calls and their outputs.", "anyOf": [
                {"type": "string"}, {"type": "array", "minItems": 1, "items": {"type": "object"}},
            ]},
            "instructions": {"type": ["string", "null"]},
            "previous_response_id": {"type": ["string", "null"]},
            "stream": {"type": ["boolean", "null"]},
            "tools": {"type": ["array", "null"], "items": {"type": "object", "required": ["type", "name"],
                "properties": {"type": {"const": "function"}, "name": {"type": "string"}}}},
            "elenchus": {"anyOf": [{"type": "string"}, named("Wish")]},
        },
    })
}

fn response_schema() -> Value {
    json!({
        "type": "object", "required": ["id", "object", "created_at", "status", "model", "output"],
        "description": "OpenAI's response, with a report where a recipe or the embedded model answered.",
        "properties": {
            "id": {"type": "string"}, "object": {"const": "response"}, "created_at": {"type": "integer"},
            "status": {"enum": ["completed", "incomplete"]}, "model": {"type": "string"},
            "output": {"type": "array", "items": {"type": "object"}}, "usage": {"type": ["object", "null"]},
            "elenchus": named("Report"),
        },
    })
}
