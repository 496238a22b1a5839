//! Settings as they are written, read with errors that name the field.

use crate::TaskError;
use elenchus_trace::nearest;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// `base` with the fields of the object `value` put over it. Fields are put one at a time, so an error is known to be
/// about the last one. Null is the empty object.
pub(crate) fn overlay<T: Serialize + DeserializeOwned>(base: &T, value: &Value) -> Result<T, TaskError> {
    let setting = |field: &str, problem: String, hint: String| TaskError::Setting {
        field: field.to_string(),
        problem,
        hint,
    };
    let read = |all: &Value| serde_json::from_value::<T>(all.clone());
    let mut all = serde_json::to_value(base).map_err(|error| {
        setting("settings", format!("cannot be written: {error}"), "report this".to_string())
    })?;
    let fields = match value {
        Value::Null => None,
        Value::Object(fields) => Some(fields),
        other => {
            return Err(setting(
                "settings",
                format!("is `{other}`"),
                "settings are a table of names and values".to_string(),
            ));
        }
    };
    for (field, value) in fields.into_iter().flatten() {
        let known = all.as_object().is_some_and(|all| all.contains_key(field));
        if !known {
            let names: Vec<String> =
                all.as_object().map(|all| all.keys().cloned().collect()).unwrap_or_default();
            let hint = nearest(field, names.iter().map(String::as_str));
            return Err(setting(field, "is not a setting of this task".to_string(), hint));
        }
        all[field.as_str()] = value.clone();
        if let Err(error) = read(&all) {
            return Err(setting(
                field,
                format!("cannot be `{value}`: {error}"),
                "see the schema of the task's settings".to_string(),
            ));
        }
    }
    read(&all)
        .map_err(|error| setting("settings", format!("cannot be read: {error}"), "report this".to_string()))
}
