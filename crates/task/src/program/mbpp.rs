//! MBPP (Austin et al. 2021, arXiv 2108.07732): `{"task_id", "text" or "prompt", "code", "test_list", …}`.
//!
//! The tests are assertions that call the function by its name; the first of them is shown in the question, because
//! nothing else says what the function is called. `test_setup_code`, `test_imports` and `challenge_test_list` are used
//! where they are there.

use super::rows::{self, ProgramData};
use elenchus_trace::Problem;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Row {
    task_id: Option<Value>,
    #[serde(alias = "prompt")]
    text: String,
    #[serde(default)]
    code: Option<String>,
    test_list: Vec<String>,
    #[serde(default)]
    test_setup_code: String,
    #[serde(default)]
    test_imports: Vec<String>,
    #[serde(default)]
    challenge_test_list: Vec<String>,
}

/// A row as a problem.
pub(super) fn read(row: Value, index: usize) -> Result<Problem, String> {
    let row: Row = serde_json::from_value(row).map_err(|error| format!("is no row of MBPP: {error}"))?;
    let (first, rest) = row.test_list.split_first().ok_or("has an empty `test_list`")?;
    let entry = called(first).ok_or_else(|| format!("calls no function in its first test `{first}`"))?;
    let question = format!(
        "{}\n\nWrite the Python function `{entry}`; reply with the whole function, with the imports that it needs, in \
         one fenced code block. It has to pass this test:\n\n```python\n{}\n```",
        row.text.trim(),
        first.trim()
    );
    let hidden: Vec<&str> = rest.iter().chain(&row.challenge_test_list).map(String::as_str).collect();
    let data = ProgramData {
        entry,
        prompt: String::new(),
        visible: first.clone(),
        hidden: hidden.join("\n"),
        setup: format!("{}\n{}", row.test_imports.join("\n"), row.test_setup_code).trim().to_string(),
        reference: String::new(),
    };
    let id = match row.task_id {
        Some(Value::String(id)) => id,
        Some(Value::Number(id)) => format!("MBPP/{id}"),
        _ => format!("line-{}", index + 1),
    };
    Ok(rows::problem(id, question, row.code, &data))
}

/// The first name in a test that is called and is none of the wrappers that tests put around it.
fn called(test: &str) -> Option<String> {
    const AROUND: &[&str] = &[
        "assert",
        "set",
        "sorted",
        "list",
        "tuple",
        "dict",
        "abs",
        "round",
        "len",
        "str",
        "not",
        "math.isclose",
        "isclose",
        "sum",
        "and",
        "or",
        "in",
        "all",
        "any",
        "max",
        "min",
    ];
    let name = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    test.match_indices('(')
        .map(|(place, _)| {
            let before = test[..place].trim_end();
            &before[before.rfind(|c| !name(c)).map_or(0, |at| at + 1)..]
        })
        .find(|word| {
            !AROUND.contains(word)
                && !word.contains('.')
                && word.starts_with(|c: char| c.is_alphabetic() || c == '_')
        })
        .map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_function_is_the_one_that_is_tested() {
        for (test, name) in [
            ("assert similar((3, 4),(5, 7)) == (4, 5)", Some("similar")),
            ("assert set(similar((3, 4))) == set((4, 5))", Some("similar")),
            ("assert math.isclose(area_of(5), 2.5)", Some("area_of")),
            ("assert (x) == 1", None),
            ("assert not is_odd(2)", Some("is_odd")),
        ] {
            assert_eq!(called(test).as_deref(), name, "{test}");
        }
    }
}
