//! `--set PATH=VALUE`: a setting changed on the command line, checked like one in a file.

use crate::failure::{Code, Failure};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Sets `a.b.c=value` in an object. The value is JSON; what is not JSON is taken as text.
pub fn set(whole: &mut Value, assignment: &str) -> Result<(), Failure> {
    let Some((path, text)) = assignment.split_once('=') else {
        return Err(Failure::new(
            Code::Usage,
            format!("`{assignment}` is no setting"),
            "write PATH=VALUE, for example rounds.train.steps=200",
        ));
    };
    let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.into()));
    let mut place = whole;
    for part in path.split('.') {
        // What a part leaves to its default is null; a field of it makes it an object, which the part checks.
        if place.is_null() {
            *place = Value::Object(Default::default());
        }
        if !place.is_object() {
            return Err(Failure::new(
                Code::Usage,
                format!("`{path}` leads into a value that has no fields"),
                "`elenchus recipes NAME` prints every field",
            ));
        }
        place = &mut place[part];
    }
    *place = value;
    Ok(())
}

/// Reads settings; an unknown field or a wrong type names itself.
pub fn read<T: DeserializeOwned>(what: &str, value: Value) -> Result<T, Failure> {
    serde_json::from_value(value).map_err(|error| {
        Failure::new(Code::Usage, format!("{what}: {error}"), "`elenchus recipes NAME` prints every field")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_set_by_path_and_wrong_ones_are_refused() {
        let mut whole = serde_json::json!({"train": {"steps": 1}});
        set(&mut whole, "train.steps=20").unwrap();
        set(&mut whole, "name=plain text").unwrap();
        assert_eq!(whole, serde_json::json!({"train": {"steps": 20}, "name": "plain text"}));
        set(&mut whole, "evaluator_settings.top_k.k=20").unwrap();
        assert_eq!(whole["evaluator_settings"], serde_json::json!({"top_k": {"k": 20}}), "nothing was there");
        assert!(set(&mut whole, "train.steps").is_err(), "no value");
        assert!(set(&mut whole, "train.steps.more=1").is_err(), "a number has no fields");
    }
}
