//! Rows of lettered questions: `{"id", "question", "choices", "answer"}` per line.

use super::exchange::listed;
use crate::TaskError;
use elenchus_trace::{ChoiceOption, Problem};
use serde_json::Value;

/// The rows of a text, and which broken lines were passed over.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// One problem per row, in order.
    pub problems: Vec<Problem>,
    /// Numbers of the broken lines that were skipped on request, from 1.
    pub skipped: Vec<usize>,
}

/// Reads JSON lines. `source` names the text in errors. `choices` (or `options`) is an object of labels and texts, a
/// list of texts (labelled A, B, …; a prefix such as `A)` on every text is dropped), or a list of `{label, text}`;
/// `answer` (or `correct`) is a label or an option's text. `task` is the name that the problems carry.
///
/// # Errors
/// A broken line, by number, unless `skip_bad_lines`; a text without any row.
pub fn read_rows(text: &str, source: &str, task: &str, skip_bad_lines: bool) -> Result<Rows, TaskError> {
    let wrong = |problem: String, hint: &str| TaskError::File {
        path: source.to_string(),
        problem,
        hint: hint.to_string(),
    };
    let mut rows = Rows { problems: Vec::new(), skipped: Vec::new() };
    for (index, line) in text.lines().enumerate() {
        let line = if index == 0 { line.trim_start_matches('\u{feff}') } else { line };
        if line.trim().is_empty() {
            continue;
        }
        match read_row(line, index, task) {
            Ok(problem) => rows.problems.push(problem),
            Err(_) if skip_bad_lines => rows.skipped.push(index + 1),
            Err(problem) => {
                return Err(wrong(
                    format!("line {}: {problem}", index + 1),
                    "a row is {\"id\", \"question\", \"choices\": {\"A\": …}, \"answer\": \"A\"}; `skip_bad_lines` \
                     passes over broken ones",
                ));
            }
        }
    }
    if rows.problems.is_empty() {
        let problem = match rows.skipped.len() {
            0 => "has no rows".to_string(),
            skipped => format!("has no good rows, and {skipped} broken ones"),
        };
        return Err(wrong(problem, "is it the right file?"));
    }
    Ok(rows)
}

fn read_row(line: &str, index: usize, task: &str) -> Result<Problem, String> {
    let row: Value = serde_json::from_str(line).map_err(|error| format!("is not JSON: {error}"))?;
    let field =
        |names: [&str; 2]| names.iter().find_map(|name| row.get(*name)).filter(|value| !value.is_null());
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let question =
        field(["question", "problem"]).and_then(text).ok_or_else(|| "has no text `question`".to_string())?;
    let choices = field(["choices", "options"]).ok_or_else(|| "has no `choices`".to_string())?;
    let options = read_options(choices)?;
    let answer = field(["answer", "correct"]).and_then(text).ok_or_else(|| "has no `answer`".to_string())?;
    let gold = options
        .iter()
        .find(|option| option.label == answer.trim())
        .or_else(|| options.iter().find(|option| option.text.trim() == answer.trim()))
        .ok_or_else(|| format!("the answer `{answer}` is none of the options"))?
        .label
        .clone();
    let id = field(["id", "i"]).and_then(text).unwrap_or_else(|| format!("line-{}", index + 1));
    let full = format!("{}{}", question.trim(), listed(&options));
    let mut problem = Problem::new(id, task, full).with_gold(gold);
    problem.options = options;
    Ok(problem)
}

fn read_options(choices: &Value) -> Result<Vec<ChoiceOption>, String> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    };
    let options: Option<Vec<ChoiceOption>> = match choices {
        Value::Object(choices) => choices
            .iter()
            .map(|(label, value)| Some(ChoiceOption { label: label.trim().to_string(), text: text(value)? }))
            .collect(),
        Value::Array(choices) => {
            if choices.len() > 26 {
                return Err(format!("has {} choices, more than letters", choices.len()));
            }
            let labelled = choices.iter().zip('A'..='Z').map(|(value, letter)| match value {
                Value::Object(choice) => Some(ChoiceOption {
                    label: choice.get("label").and_then(text)?.trim().to_string(),
                    text: choice.get("text").and_then(text)?,
                }),
                other => Some(ChoiceOption { label: letter.to_string(), text: text(other)? }),
            });
            labelled.collect()
        }
        _ => None,
    };
    let mut options = options.ok_or_else(|| "`choices` is no list or table of texts".to_string())?;
    if options.len() < 2 {
        return Err(format!("has {} choices", options.len()));
    }
    // `["A)5", "B)6"]`: the labels are in the texts.
    let prefix = |option: &ChoiceOption| {
        let rest = option.text.trim_start().trim_start_matches('(').strip_prefix(&option.label)?;
        rest.strip_prefix([')', '.', ':']).map(|rest| rest.trim().to_string())
    };
    if let Some(stripped) = options.iter().map(prefix).collect::<Option<Vec<String>>>() {
        for (option, text) in options.iter_mut().zip(stripped) {
            option.text = text;
        }
    }
    for (index, option) in options.iter().enumerate() {
        if option.label.is_empty() || options[..index].iter().any(|earlier| earlier.label == option.label) {
            return Err(format!("the label `{}` is empty or occurs twice", option.label));
        }
    }
    Ok(options)
}
