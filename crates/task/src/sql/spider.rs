//! Spider's questions and databases, as files.

use super::SqlSettings;
use super::guard::SqlDatabase;
use crate::TaskError;
use crate::file::read_text;
use elenchus_trace::Problem;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a file of questions and its databases hold.
pub(super) struct Loaded {
    pub(super) problems: Vec<Problem>,
    pub(super) databases: HashMap<String, Arc<SqlDatabase>>,
    /// Numbers of the lines that were passed over, from 1.
    pub(super) skipped: Vec<usize>,
}

/// A row with its line (its place in an array) from 1, or why the line is none.
type Row = (usize, Result<Value, serde_json::Error>);

/// The rows of a JSON Lines file or of one JSON array.
fn rows(path: &Path) -> Result<Vec<Row>, TaskError> {
    let text = read_text(path)?;
    let text = text.trim_start_matches('\u{feff}');
    if text.trim_start().starts_with('[') {
        let all: Vec<Value> =
            serde_json::from_str(text).map_err(|error| no_row(path, error.line(), &error))?;
        return Ok(all.into_iter().enumerate().map(|(place, row)| (place + 1, Ok(row))).collect());
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    Ok(lines.map(|(place, line)| (place + 1, serde_json::from_str(line))).collect())
}

fn no_row(path: &Path, line: usize, error: &serde_json::Error) -> TaskError {
    TaskError::File {
        path: path.display().to_string(),
        problem: format!("row {line}: {error}"),
        hint: "JSON Lines, or one array of objects; `skip_bad_lines` passes over broken lines of questions"
            .to_string(),
    }
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
        let row = row.map_err(|error| no_row(&path, line, &error))?;
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

/// A question as its row says it.
struct Asked<'r> {
    question: &'r str,
    /// Name of the database.
    name: &'r str,
    /// The reference query.
    gold: &'r str,
}

/// The question of a row, when its database is there.
fn asked<'r>(path: &Path, line: usize, row: &'r Value, place: &Place) -> Result<Asked<'r>, TaskError> {
    let question = field(row, &["question"]);
    let name = field(row, &["db", "db_id"]);
    let gold = field(row, &["gold_sql", "query", "SQL"]);
    let (Some(question), Some(name), Some(gold)) = (question, name, gold) else {
        return Err(lacks(path, line, "`question`, `db` (or `db_id`) or `gold_sql` (or `query`)"));
    };
    let there = match place {
        Place::Scripts(scripts) => scripts.contains_key(name),
        Place::Folder(folder) => file_of(folder, name).is_file(),
    };
    if there {
        return Ok(Asked { question, name, gold });
    }
    Err(TaskError::File {
        path: path.display().to_string(),
        problem: format!("row {line} asks the database `{name}`, which is not among the databases"),
        hint: "add it, or leave the row out".to_string(),
    })
}

fn file_of(folder: &Path, name: &str) -> PathBuf {
    folder.join(name).join(format!("{name}.sqlite"))
}

/// Reads the questions, and makes the databases that they name.
pub(super) fn load(questions: &Path, settings: &SqlSettings) -> Result<Loaded, TaskError> {
    let place = place(questions, settings.databases.as_deref())?;
    let mut schemas: HashMap<String, String> = HashMap::new();
    let (mut problems, mut databases, mut skipped) = (Vec::new(), HashMap::new(), Vec::new());
    let mut pass_over = |line: usize, error: TaskError| match settings.skip_bad_lines {
        true => {
            skipped.push(line);
            Ok(())
        }
        false => Err(error),
    };
    for (line, row) in rows(questions)? {
        let row = match row {
            Ok(row) => row,
            Err(error) => {
                pass_over(line, no_row(questions, line, &error))?;
                continue;
            }
        };
        let Asked { question, name, gold } = match asked(questions, line, &row, &place) {
            Ok(asked) => asked,
            Err(error) => {
                pass_over(line, error)?;
                continue;
            }
        };
        if !databases.contains_key(name) {
            let database = match &place {
                Place::Scripts(scripts) => {
                    let script = scripts.get(name).map(String::as_str).unwrap_or_default();
                    SqlDatabase::from_script(name, script, settings.limits)?
                }
                Place::Folder(folder) => {
                    SqlDatabase::from_file(name, &file_of(folder, name), settings.limits)?
                }
            };
            schemas.insert(name.to_string(), database.schema()?);
            databases.insert(name.to_string(), Arc::new(database));
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
        let problem = match skipped.len() {
            0 => "has no rows".to_string(),
            skipped => format!("has no good rows, and {skipped} broken ones"),
        };
        return Err(TaskError::File {
            path: questions.display().to_string(),
            problem,
            hint: "one question a line".to_string(),
        });
    }
    Ok(Loaded { problems, databases, skipped })
}
