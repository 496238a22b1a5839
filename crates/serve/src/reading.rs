//! The JSON of a request, and which field of it is wrong.

use crate::ApiError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads a request, which is an object.
///
/// # Errors
/// The field that is wrong, and what it wants.
pub(crate) fn object<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, ApiError> {
    // A list would be read as the fields in their order.
    if !matches!(bytes.trim_ascii_start().first(), None | Some(b'{')) {
        let hint = "the body is an object such as `{\"model\": …, \"messages\": […]}`";
        return Err(ApiError::bad("", format!("the request is JSON, but no object\nhint: {hint}")));
    }
    serde_json::from_slice(bytes).map_err(|error: serde_json::Error| {
        // Which field it is costs time that only a request that is wrong takes.
        if error.is_syntax() || error.is_eof() {
            return broken(bytes, &error);
        }
        let mut again = serde_json::Deserializer::from_slice(bytes);
        match serde_path_to_error::deserialize::<_, T>(&mut again) {
            Err(found) => unfit("", &found),
            Ok(_) => ApiError::bad("", format!("the request is not JSON: {error}")),
        }
    })
}

/// What is wrong with a text that is no JSON: what and where, and the field that was being read.
fn broken(bytes: &[u8], error: &serde_json::Error) -> ApiError {
    let mut again = serde_json::Deserializer::from_slice(bytes);
    let field = match serde_path_to_error::deserialize::<_, Value>(&mut again) {
        Err(found) => {
            let whole = found.path().to_string();
            let known = whole.trim_end_matches(['?', '.']);
            known.to_string()
        }
        // What stands behind its end is wrong.
        Ok(_) => String::new(),
    };
    let near = if field.is_empty() { String::new() } else { format!(", near `{field}`") };
    let hint = match bytes.is_empty() {
        true => "the request has no body; send an object such as `{\"model\": …, \"messages\": […]}`",
        false => {
            "texts stand in double quotes, and line ends in them as `\\n`; no comma follows the last field"
        }
    };
    let message = format!("the request is not JSON: {error}{near}\nhint: {hint}");
    ApiError { code: "invalid_json", ..ApiError::bad(&field, message) }
}

/// Reads what stands at a place of a request.
///
/// # Errors
/// The field that is wrong, and what it wants.
pub(crate) fn field<T: DeserializeOwned>(place: &str, value: Value) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(value).map_err(|error| unfit(place, &error))
}

/// What is wrong with a field, in the words of JSON: those of serde are our types.
fn unfit(place: &str, error: &serde_path_to_error::Error<serde_json::Error>) -> ApiError {
    let within = error.path().to_string();
    let path = match (place, within.as_str()) {
        (place, ".") => place.to_string(),
        ("", within) => within.to_string(),
        (place, within) => format!("{place}.{within}"),
    };
    let problem = error.inner().to_string();
    let said = match problem.strip_prefix("invalid ").and_then(|problem| problem.split_once(", expected ")) {
        _ if problem.contains("untagged enum") => "has a form that is not known here".to_string(),
        None => format!("cannot be read: {problem}"),
        Some((found, wanted)) => {
            let found = found.split_once(": ").map_or(found, |(_, found)| found);
            let wanted = match wanted.split(" at line ").next().unwrap_or_default() {
                "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0",
                "i32" | "i64" => "a whole number",
                "f32" | "f64" => "a number",
                "a boolean" => "`true` or `false`",
                "a sequence" => "a list",
                "a string" | "string or map" => "a text",
                wanted if wanted == "a map" || wanted.starts_with("struct ") => "an object",
                wanted => wanted,
            };
            let found = match found {
                "map" => "an object",
                "sequence" => "a list",
                found => found,
            };
            format!("wants {wanted}, and has {found}")
        }
    };
    match path.as_str() {
        "" => ApiError::bad("", format!("the request {said}")),
        path => ApiError::bad(path, format!("`{path}` {said}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Inner {
        #[serde(default, rename = "tokens")]
        _tokens: Option<u64>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[serde(rename = "name")]
        _name: String,
        #[serde(default, rename = "budget")]
        _budget: Option<Inner>,
    }

    #[test]
    fn what_is_wrong_is_a_field_and_what_it_wants() {
        let wrong = |text: &str| object::<Outer>(text.as_bytes()).unwrap_err();
        for (text, param, said) in [
            (r#"{"name": 3}"#, "name", "`name` wants a text, and has integer `3`"),
            (
                r#"{"name": "a", "budget": {"tokens": -1}}"#,
                "budget.tokens",
                "`budget.tokens` wants a whole number from 0, and has integer `-1`",
            ),
            (r#"{"name": "a", "budget": 3}"#, "budget", "`budget` wants an object, and has integer `3`"),
        ] {
            let error = wrong(text);
            assert_eq!((error.param.as_deref(), error.message.as_str()), (Some(param), said));
        }
        for (text, said) in [
            ("[]", "no object"),
            ("", "EOF"),
            ("{", "EOF"),
            ("{}", "missing field `name`"),
            (r#"{"name": "a"} x"#, "trailing"),
            (r#"{"nam": 1}"#, "unknown field `nam`"),
        ] {
            assert!(wrong(text).message.contains(said), "{text}: {:?}", wrong(text));
        }
        for (text, param, said) in [
            (
                "{\"name\": \"a\",\n \"budget\": {\"tokens\": 1,}}",
                "budget",
                "trailing comma at line 2 column 25, near `budget`",
            ),
            ("{\"name\": \"a\"\n \"budget\": 1}", "", "expected `,` or `}` at line 2 column 2"),
            ("{\"name\": \"a\nb\"}", "name", "line 2 column 0, near `name`"),
        ] {
            let error = wrong(text);
            assert!(error.message.contains(said) && !error.message.contains('?'), "{text}: {error:?}");
            assert_eq!(
                (error.param.as_deref().unwrap_or_default(), error.code),
                (param, "invalid_json"),
                "{text}"
            );
        }
        let error = field::<Inner>("elenchus", serde_json::json!({"tokens": "x"})).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("elenchus.tokens"));
    }
}
