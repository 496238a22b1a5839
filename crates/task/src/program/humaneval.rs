//! HumanEval (Chen et al. 2021, arXiv 2107.03374): `{"task_id", "prompt", "entry_point", "canonical_solution", "test"}`.
//!
//! `prompt` is a program that ends with the signature and docstring of the function, `canonical_solution` continues it,
//! `test` defines `check(candidate)`. Sets in the same form (MBPP as function prompts, for example) are read as well.

use super::rows::{self, ProgramData};
use super::suite;
use elenchus_trace::Problem;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Row {
    task_id: Option<String>,
    prompt: String,
    entry_point: String,
    #[serde(default)]
    canonical_solution: Option<String>,
    test: String,
}

/// A row as a problem.
pub(super) fn read(row: Value, index: usize) -> Result<Problem, String> {
    let row: Row = serde_json::from_value(row).map_err(|error| format!("is no row of HumanEval: {error}"))?;
    let entry = row.entry_point.trim().to_string();
    if entry.is_empty() {
        return Err("has an empty `entry_point`".to_string());
    }
    let question = format!(
        "Complete this Python program. Reply with the whole function `{entry}`, with the imports that it needs, in one \
         fenced code block.\n\n```python\n{}\n```",
        row.prompt.trim()
    );
    let gold = row.canonical_solution.map(|solution| suite::joined(&row.prompt, &solution));
    let data = ProgramData {
        entry,
        prompt: row.prompt,
        visible: String::new(),
        hidden: row.test,
        setup: String::new(),
        reference: String::new(),
    };
    let id = row.task_id.unwrap_or_else(|| format!("line-{}", index + 1));
    Ok(rows::problem(id, question, gold, &data))
}
