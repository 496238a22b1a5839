//! Spider's questions and databases, as files.

use super::guard::{SqlDatabase, SqlLimits};
use crate::TaskError;
use crate::file::read_text;
use elenchus_trace::Problem;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

type Loaded = (Vec<Problem>, HashMap<String, Arc<SqlDatabase>>);

/// The rows of a JSON Lines file or of one JSON array, each with its line or place.
fn rows(path: &Path) -> Result<Vec<(usize, Value)>, TaskError> {
    let text = read_text(path)?;
    let wrong = |line: usize, error: serde_json::Error| TaskError::File {
        path: path.display().to_string(),
        problem: format!("row {line}: {error}"),
        hint: "JSON Lines, or one array of objects".to_string(),
    };
    if text.trim_start().starts_with('[') {
        let all: Vec<Value> = serde_json::from_str(&text).map_err(|error| wrong(error.line(), error))?;
        return Ok(all.into_iter().enumerate().map(|(place, row)| (place + 1, row)).collect());
    }
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(place, line)| Ok((place + 1, serde_json::from_str(line).map_err(|e| wrong(place + 1, e))?)))
        .collect()
}

fn field<'v>(row: &'v Value, names: &[&str]) -> Option<&'v str> {
    names.iter().find_map(|name| row.get(*name).and_then(Value::as_str))
}

/// Where the databases are.
enum Place {
    Scripts(HashMap<String, String>),
    Folder(PathBuf),
}

fn place(questions: &Path, given: Option<&Path>) -> Result<Place, TaskError> {
    let beside = questions.parent().unwrap_or_else(|| Path::new("."));
    let path = match given {
        Some(path) => path.to_path_buf(),
        None => ["databases.jsonl", "databases.jsonl.gz", "database"]
            .iter()
            .map(|name| beside.join(name))
            .find(|path| path.exists())
            .ok_or_else(|| TaskError::File {
                path: questions.display().to_string(),
                problem: "has neither `databases.jsonl` nor a folder `database` beside it".to_string(),
                hint: "set `databases` to the file or the folder".to_string(),
            })?,
    };
    if path.is_dir() {
        return Ok(Place::Folder(path));
    }
    let mut scripts = HashMap::new();
    for (line, row) in rows(&path)? {
        let (Some(name), Some(script)) = (field(&row, &["db", "db_id"]), field(&row, &["sqlite_sql", "sql"]))
        else {
            return Err(lacks(&path, line, "`db` and `sqlite_sql`"));
        };
        scripts.insert(name.to_string(), script.to_string());
    }
    Ok(Place::Scripts(scripts))
}

fn lacks(path: &Path, line: usize, what: &str) -> TaskError {
    TaskError::File {
        path: path.display().to_string(),
        problem: format!("row {line} lacks {what}"),
        hint: "see docs/formats.md".to_string(),
    }
}

/// Reads the questions, and makes the databases that they name.
pub(super) fn load(
    questions: &Path,
    databases: Option<&Path>,
    limits: SqlLimits,
) -> Result<Loaded, TaskError> {
    let place = place(questions, databases)?;
    let mut made: HashMap<String, Arc<SqlDatabase>> = HashMap::new();
    let mut schemas: HashMap<String, String> = HashMap::new();
    let mut problems = Vec::new();
    for (line, row) in rows(questions)? {
        let question = field(&row, &["question"]);
        let name = field(&row, &["db", "db_id"]);
        let gold = field(&row, &["gold_sql", "query", "SQL"]);
        let (Some(question), Some(name), Some(gold)) = (question, name, gold) else {
            return Err(lacks(questions, line, "`question`, `db` (or `db_id`) or `gold_sql` (or `query`)"));
        };
        if !made.contains_key(name) {
            let database = match &place {
                Place::Scripts(scripts) => {
                    let script = scripts.get(name).ok_or_else(|| TaskError::File {
                        path: questions.display().to_string(),
                        problem: format!(
                            "row {line} asks the database `{name}`, which is not among the databases"
                        ),
                        hint: "add it, or leave the row out".to_string(),
                    })?;
                    SqlDatabase::from_script(name, script, limits)?
                }
                Place::Folder(folder) => {
                    SqlDatabase::from_file(name, &folder.join(name).join(format!("{name}.sqlite")), limits)?
                }
            };
            schemas.insert(name.to_string(), database.schema()?);
            made.insert(name.to_string(), Arc::new(database));
        }
        let id = match row.get("id") {
            Some(Value::String(id)) => id.clone(),
            Some(Value::Number(id)) => id.to_string(),
            _ => blake3::hash(format!("{name}\0{question}\0{gold}").as_bytes()).to_hex()[..16].to_string(),
        };
        let schema = schemas.get(name).map(String::as_str).unwrap_or_default();
        let mut problem = Problem::new(id, super::TASK, super::asked(schema, question)).with_gold(gold);
        problem.data = json!({"db": name, "question": question});
        if let Some(hardness) = row.get("hardness") {
            problem.data["hardness"] = hardness.clone();
        }
        problems.push(problem);
    }
    if problems.is_empty() {
        return Err(TaskError::File {
            path: questions.display().to_string(),
            problem: "has no rows".to_string(),
            hint: "one question a line".to_string(),
        });
    }
    Ok((problems, made))
}
