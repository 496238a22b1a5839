//! One text for everything that means the same: JSON values, and calls of tools.

use crate::ToolCall;
use serde_json::Value;

/// What begins a line of [`calls_text`]; no JSON does.
const CALL: &str = "call ";

/// A JSON value as text that is equal where the values are: keys in order, no spaces, 1.0 as 1.
pub fn canonical_json(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_by_key(|(name, _)| name.as_str());
            let fields = sorted
                .into_iter()
                .map(|(name, value)| format!("{}:{}", Value::String(name.clone()), canonical_json(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(canonical_json).collect::<Vec<_>>().join(","))
        }
        Value::Number(number) => match number.as_f64() {
            // Every whole number up to 2⁵³ is exact.
            Some(float)
                if number.is_f64() && float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0 =>
            {
                // Minus zero is zero.
                format!("{:.0}", float + 0.0)
            }
            _ => number.to_string(),
        },
        value => value.to_string(),
    }
}

/// Calls of tools as text that is equal where the same functions are called with the same arguments, in whatever order:
/// `call name({"a":1})`, one a line, sorted. Arguments that are no JSON stand as they are.
pub fn calls_text(calls: &[ToolCall]) -> String {
    let mut lines: Vec<String> = calls
        .iter()
        .map(|call| {
            let arguments = call.function.arguments.trim();
            let arguments = match serde_json::from_str::<Value>(arguments) {
                Ok(value) => canonical_json(&value),
                // Of a function without parameters.
                Err(_) if arguments.is_empty() => "{}".into(),
                Err(_) => arguments.to_string(),
            };
            format!("{CALL}{}({arguments})", call.function.name)
        })
        .collect();
    lines.sort();
    lines.join("\n")
}

/// Whether a text is one of [`calls_text`].
pub fn is_calls_text(text: &str) -> bool {
    text.starts_with(CALL) && text.ends_with(')')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FunctionCall;
    use serde_json::{Map, json};

    #[test]
    fn equal_values_are_one_text() {
        let left: Value =
            serde_json::from_str(r#"{"b": [1.0, 2.5, -0.0], "a": {"y": null, "x": "\u00e9"}}"#).unwrap();
        let right: Value = serde_json::from_str(r#"{"a":{"x":"é","y":null},"b":[1,2.50,0]}"#).unwrap();
        assert_eq!(canonical_json(&left), r#"{"a":{"x":"é","y":null},"b":[1,2.5,0]}"#);
        assert_eq!(canonical_json(&left), canonical_json(&right));
        assert_eq!(canonical_json(&json!([10.0, -20.0, 100])), "[10,-20,100]");
        assert_ne!(canonical_json(&json!([1, 2])), canonical_json(&json!([2, 1])), "order of a list counts");
        assert_ne!(canonical_json(&json!("1")), canonical_json(&json!(1)));
        assert_eq!(canonical_json(&json!(1e300)), json!(1e300).to_string());
    }

    fn call(name: &str, arguments: &str) -> ToolCall {
        let function = FunctionCall { name: name.into(), arguments: arguments.into() };
        ToolCall { id: "any".into(), kind: "function".into(), function, extra: Map::new() }
    }

    #[test]
    fn equal_calls_are_one_text() {
        let left = [call("f", r#"{"b": 1, "a": 2}"#), call("g", "")];
        let right = [call("g", "{}"), call("f", r#"{"a":2.0,"b":1}"#)];
        assert_eq!(calls_text(&left), "call f({\"a\":2,\"b\":1})\ncall g({})");
        assert_eq!(calls_text(&left), calls_text(&right));
        assert_eq!(calls_text(&[call("f", "{broken ")]), "call f({broken)");
        assert!(is_calls_text(&calls_text(&left)) && !is_calls_text("call me maybe"));
    }
}
