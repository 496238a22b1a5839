//! The part of JSON Schema that OpenAI's description and ours are written in. A keyword that is not known here fails the
//! test, so nothing is passed over.

use serde_json::Value;

/// Words that say nothing about what is valid.
const SILENT: &[&str] = &[
    "description",
    "title",
    "default",
    "example",
    "examples",
    "deprecated",
    "format",
    "$schema",
    "discriminator",
    "readOnly",
    "writeOnly",
    "contentEncoding",
    "nullable",
];

/// What is wrong with a value, each with its place; empty when it is valid.
pub fn problems(root: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(root, schema, value, "", &mut found);
    found
}

fn check(root: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    let Value::Object(words) = schema else {
        if schema == &Value::Bool(false) {
            found.push(format!("{at}: nothing is allowed here"));
        }
        return;
    };
    // Of OpenAPI 3.0, still found in the description of streams.
    if words.get("nullable") == Some(&Value::Bool(true)) && value.is_null() {
        return;
    }
    for (word, rule) in words {
        let valid = |branch: &Value| problems(root, branch, value).is_empty();
        let list = || rule.as_array().expect("a list");
        match word.as_str() {
            "$ref" => {
                let pointer = rule.as_str().expect("a text").trim_start_matches('#');
                let target = root.pointer(pointer).unwrap_or_else(|| panic!("no schema at {pointer}"));
                check(root, target, value, at, found);
            }
            "type" => {
                let fits = match rule {
                    Value::Array(kinds) => kinds.iter().any(|kind| is(kind, value)),
                    kind => is(kind, value),
                };
                if !fits {
                    found.push(format!("{at}: {value} is no {rule}"));
                }
            }
            "enum" if !list().contains(value) => found.push(format!("{at}: {value} is none of {rule}")),
            "const" if rule != value => found.push(format!("{at}: {value} is not {rule}")),
            "anyOf" if !list().iter().any(valid) => {
                found.push(format!("{at}: {value} fits no branch of {rule}"))
            }
            "oneOf" if list().iter().filter(|branch| valid(branch)).count() != 1 => {
                found.push(format!("{at}: {value} does not fit one branch of {rule}"));
            }
            "allOf" => list().iter().for_each(|branch| check(root, branch, value, at, found)),
            "required" => {
                if let Value::Object(fields) = value {
                    let missing =
                        list().iter().filter(|name| !fields.contains_key(name.as_str().expect("a name")));
                    found.extend(missing.map(|name| format!("{at}: {name} is missing")));
                }
            }
            "properties" => {
                for (name, schema) in rule.as_object().expect("an object") {
                    if let Some(field) = value.get(name) {
                        check(root, schema, field, &format!("{at}/{name}"), found);
                    }
                }
            }
            "additionalProperties" => {
                let known = words.get("properties").and_then(Value::as_object);
                for (name, field) in value.as_object().into_iter().flatten() {
                    if !known.is_some_and(|known| known.contains_key(name)) {
                        check(root, rule, field, &format!("{at}/{name}"), found);
                    }
                }
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, rule, item, &format!("{at}/{index}"), found);
                }
            }
            "minItems" | "maxItems" => {
                let (count, bound) =
                    (value.as_array().map(|list| list.len() as u64), rule.as_u64().expect("a count"));
                if count.is_some_and(|count| if word == "minItems" { count < bound } else { count > bound }) {
                    found.push(format!("{at}: {word} {bound}"));
                }
            }
            "minLength" | "maxLength" => {
                let (count, bound) = (value.as_str().map(|text| text.chars().count() as u64), rule.as_u64());
                let (Some(count), Some(bound)) = (count, bound) else { continue };
                if if word == "minLength" { count < bound } else { count > bound } {
                    found.push(format!("{at}: {word} {bound}"));
                }
            }
            "minimum" | "maximum" => {
                let (Some(number), Some(bound)) = (value.as_f64(), rule.as_f64()) else { continue };
                if if word == "minimum" { number < bound } else { number > bound } {
                    found.push(format!("{at}: {word} {bound}"));
                }
            }
            "enum" | "const" | "anyOf" | "oneOf" => {}
            word if SILENT.contains(&word) || word.starts_with("x-") => {}
            word => panic!("{at}: the keyword `{word}` is not checked"),
        }
    }
}

fn is(kind: &Value, value: &Value) -> bool {
    match kind.as_str().expect("a kind") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        kind => panic!("no kind `{kind}`"),
    }
}

#[test]
fn wrong_values_are_found() {
    use serde_json::json;
    let root = json!({"defs": {"n": {"type": ["integer", "null"], "minimum": 0}}});
    let schema = json!({"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#/defs/n"},
        "b": {"anyOf": [{"const": 1}, {"enum": ["x"]}]}, "c": {"type": "array", "items": {"type": "string"}}}});
    for (value, valid) in [
        (json!({"a": 1, "b": "x", "c": ["y"], "d": 0}), true),
        (json!({"a": null}), true),
        (json!({}), false),
        (json!({"a": -1}), false),
        (json!({"a": 1.5}), false),
        (json!({"a": 1, "b": 2}), false),
        (json!({"a": 1, "c": ["y", 1]}), false),
        (json!([]), false),
    ] {
        assert_eq!(problems(&root, &schema, &value).is_empty(), valid, "{value}");
    }
}
