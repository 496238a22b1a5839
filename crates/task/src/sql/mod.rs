//! Text to SQL on SQLite: a question and a schema, a query as the answer, judged by what it returns.
//!
//! Without `path` the problems are generated: databases of two small tables, questions of nine forms. In the compact
//! notation a question is `n,p:amorethan30?` and the query `#Sn;Fp;Wa>30` (see [`compact`]). With `path` they are Spider's
//! (arXiv 1809.08887): rows with `question`, `db` or `db_id`, and `gold_sql`, `query` or `SQL`, as JSON Lines or one array.
//!
//! Queries run read-only, for a limited time and within limited memory ([`guard`]); when two results are the same says
//! [`equivalence`].

pub mod compact;
pub mod equivalence;
pub mod generate;
pub mod guard;
mod spider;

pub use equivalence::{is_ordered, same_result};
pub use guard::{QueryFault, SqlDatabase, SqlLimits, SqlRows, SqlValue};

use crate::{Recheck, Split, Task, TaskError};
use elenchus_trace::{Outcome, Problem, Verdict};
use generate::Theme;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

/// Name of the task, in every problem.
pub const TASK: &str = "sql";

/// One line for lists and help.
pub const SUMMARY: &str =
    "questions to a small SQLite database, answered by a query; Spider's rows with `path`";

/// Settings of the sql task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SqlSettings {
    /// File of questions; absent, they are generated.
    pub path: Option<PathBuf>,
    /// Where the databases of those questions are: a file of rows with `db` and `sqlite_sql`, or a folder with
    /// `NAME/NAME.sqlite` as Spider has it. Absent, `databases.jsonl` or `database` beside the questions.
    pub databases: Option<PathBuf>,
    /// Pass over lines of the file of questions that are no questions to one of the databases.
    pub skip_bad_lines: bool,
    /// Bounds on each query.
    pub limits: SqlLimits,
}

impl SqlSettings {
    /// Reads settings; absent fields have their defaults.
    ///
    /// # Errors
    /// The field that is unknown, has the wrong type, or is out of range.
    pub fn from_value(value: &Value) -> Result<Self, TaskError> {
        let settings: Self = crate::settings::overlay(&SqlSettings::default(), value)?;
        let SqlLimits { seconds, rows, result_bytes, memory_bytes } = settings.limits;
        let wrong = |problem: String, hint: &str| {
            Err(TaskError::Setting { field: "limits".to_string(), problem, hint: hint.to_string() })
        };
        if !(0.001..=3600.0).contains(&seconds) {
            return wrong(format!("has {seconds} seconds"), "from 0.001 to 3600");
        }
        if rows == 0 || result_bytes == 0 || memory_bytes <= 0 {
            return wrong("has a bound of 0".to_string(), "bounds on rows and bytes are at least 1");
        }
        if settings.databases.is_some() && settings.path.is_none() {
            return wrong(
                "come with `databases` and no `path`".to_string(),
                "give the file of questions too",
            );
        }
        Ok(settings)
    }
}

/// What became of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SqlOutcome {
    /// It returns what the reference query returns.
    Correct,
    /// It returns something else: columns and rows, wanted and found.
    WrongResult {
        /// Columns and rows of the reference query.
        wanted: (usize, usize),
        /// Columns and rows of the response's.
        found: (usize, usize),
    },
    /// It returns nothing, for this reason.
    Fault(QueryFault),
    /// The response has no query.
    NoQuery,
}

impl std::fmt::Display for SqlOutcome {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SqlOutcome::Correct => formatter.write_str("the result is right"),
            SqlOutcome::WrongResult { wanted, found } if wanted == found => {
                write!(
                    formatter,
                    "the result has the right shape ({} columns, {} rows) and other values",
                    found.0, found.1
                )
            }
            SqlOutcome::WrongResult { wanted, found } => write!(
                formatter,
                "the result has {} columns and {} rows, not {} and {}",
                found.0, found.1, wanted.0, wanted.1
            ),
            SqlOutcome::Fault(fault) => write!(formatter, "{fault}"),
            SqlOutcome::NoQuery => {
                formatter.write_str("no query after `#`, in a code block, or from SELECT or WITH on")
            }
        }
    }
}

/// The text-to-SQL task.
#[derive(Debug)]
pub struct Sql {
    limits: SqlLimits,
    /// Spider's problems, where a file was given.
    rows: Option<Vec<Problem>>,
    databases: HashMap<String, Arc<SqlDatabase>>,
    path: String,
    /// Numbers of the lines of the file that were left out, from 1.
    skipped: Vec<usize>,
}

/// What a model is asked.
pub(crate) fn asked(schema: &str, question: &str) -> String {
    format!(
        "A SQLite database has these tables:\n\n{schema}\n\nWrite one SQLite query that answers: {question}"
    )
}

impl Sql {
    /// The task with these settings; a file of questions is read, and its databases are made.
    ///
    /// # Errors
    /// A file that cannot be read; a row without its fields or for a database that is not there, unless such lines are
    /// passed over; a broken database; no question at all.
    pub fn open(settings: SqlSettings) -> Result<Self, TaskError> {
        let Some(path) = &settings.path else {
            return Ok(Sql {
                limits: settings.limits,
                rows: None,
                databases: HashMap::new(),
                path: String::new(),
                skipped: Vec::new(),
            });
        };
        let loaded = spider::load(path, &settings)?;
        Ok(Sql {
            limits: settings.limits,
            rows: Some(loaded.problems),
            databases: loaded.databases,
            path: path.display().to_string(),
            skipped: loaded.skipped,
        })
    }

    /// Numbers of the lines of the file (places in an array) that were left out, from 1.
    pub fn skipped(&self) -> &[usize] {
        &self.skipped
    }

    /// The problems of the file, in its order; nothing when problems are generated.
    pub fn all(&self) -> &[Problem] {
        self.rows.as_deref().unwrap_or_default()
    }

    /// The database of a problem. Those of generated problems are made anew: that takes microseconds.
    fn database(&self, problem: &Problem) -> Result<Arc<SqlDatabase>, TaskError> {
        let text = |field: &str| problem.data.get(field).and_then(Value::as_str);
        let wrong = |what: &str| TaskError::Problem {
            id: problem.id.clone(),
            problem: what.to_string(),
            hint: "its `task` is `sql` and its `data` has a `script`, or a `db` of the task's databases"
                .to_string(),
        };
        if problem.task != TASK {
            return Err(wrong("is not a sql problem"));
        }
        if let Some(script) = text("script") {
            return Ok(Arc::new(SqlDatabase::from_script(&problem.id, script, self.limits)?));
        }
        let name = text("db").ok_or_else(|| wrong("names no database"))?;
        self.databases
            .get(name)
            .cloned()
            .ok_or_else(|| wrong(&format!("names the database `{name}`, which this task does not have")))
    }

    /// Runs a response's query and the reference query, and compares what they return.
    ///
    /// # Errors
    /// The problem is not of this task, or its reference query fails: that is never the fault of a response.
    pub fn outcome(&self, problem: &Problem, response: &str) -> Result<SqlOutcome, TaskError> {
        let database = self.database(problem)?;
        let Some(query) = self.extract(problem, response) else { return Ok(SqlOutcome::NoQuery) };
        let gold = problem.gold.as_deref().unwrap_or_default();
        let wanted = database.run(gold).map_err(|fault| TaskError::Problem {
            id: problem.id.clone(),
            problem: format!("has a reference query that fails: {fault}"),
            hint: "mend or leave out the row".to_string(),
        })?;
        let found = match database.run(&query) {
            Ok(found) => found,
            Err(fault) => return Ok(SqlOutcome::Fault(fault)),
        };
        if same_result(&wanted, &found, is_ordered(gold)) {
            return Ok(SqlOutcome::Correct);
        }
        let shape = |rows: &SqlRows| (rows.columns.len(), rows.rows.len());
        Ok(SqlOutcome::WrongResult { wanted: shape(&wanted), found: shape(&found) })
    }
}

/// The query of a response: of a compact one what stands behind the last `#`, spelled out; of others the last code
/// block that holds a query, or the text from a line that begins with `SELECT` or `WITH` (also behind `Answer:`) to a
/// semicolon or an empty line.
fn query_of(problem: &Problem, response: &str) -> Option<String> {
    let text = response.trim();
    let theme = problem.data.get("theme").and_then(Value::as_str).and_then(Theme::of);
    if let Some(theme) = theme
        && !text.contains(char::is_whitespace)
    {
        let (_, behind) = text.rsplit_once('#')?;
        // What is no query of the notation is an answer all the same, and a wrong one.
        return (!behind.is_empty())
            .then(|| compact::expand(behind, theme).unwrap_or_else(|| behind.to_string()));
    }
    let text = text.rsplit("</think>").next().unwrap_or(text);
    let starts = |line: &str| {
        let start = line.trim_start();
        ["select", "with", "values"].iter().any(|word| {
            start.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word))
                && start[word.len()..].starts_with(|c: char| c.is_whitespace() || c == '(' || c == '*')
        })
    };
    let tidy = |query: &str| {
        let query = query.trim().trim_end_matches([';', '`']).trim();
        (!query.is_empty()).then(|| query.to_string())
    };
    let blocks: Vec<&str> = text.split("```").skip(1).step_by(2).collect();
    for block in blocks.iter().rev() {
        // The first line of a block may name its language.
        let body = match block.split_once('\n') {
            Some((first, rest)) if !starts(first) => rest,
            _ => block,
        };
        if body.lines().any(starts) {
            return tidy(body);
        }
    }
    let mut found = None;
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let lead = line.trim_start_matches(|c: char| c.is_whitespace() || "*`>-".contains(c));
        let lead = match lead.get(..7) {
            Some(word) if word.eq_ignore_ascii_case("answer:") => {
                lead[7..].trim_start_matches(|c: char| c.is_whitespace() || "*`".contains(c))
            }
            _ => lead,
        };
        if starts(lead) {
            let begin = offset + line.len() - lead.len();
            let query = &text[begin..];
            let end = [query.find(';'), query.find("\n\n"), query.find('`')].into_iter().flatten().min();
            found = tidy(&query[..end.unwrap_or(query.len())]);
        }
        offset += line.len();
    }
    found
}

impl Task for Sql {
    fn name(&self) -> &'static str {
        TASK
    }

    fn summary(&self) -> &'static str {
        SUMMARY
    }

    fn problems(&self, wanted: Split, count: usize, seed: u64) -> Result<Vec<Problem>, TaskError> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(1 + wanted as u64);
        if let Some(rows) = &self.rows {
            let mut left: Vec<&Problem> =
                rows.iter().filter(|row| crate::split_of(row.id.as_bytes()) == wanted).collect();
            if left.len() < count {
                return Err(TaskError::File {
                    path: self.path.clone(),
                    problem: format!("has {} questions in this split, not {count}", left.len()),
                    hint: "ask for fewer, or read the whole file with `--file`".to_string(),
                });
            }
            left.shuffle(&mut random);
            return Ok(left.into_iter().take(count).cloned().collect());
        }
        let mut problems = Vec::with_capacity(count);
        let mut seen = HashSet::with_capacity(count);
        while problems.len() < count {
            let Some(problem) = generate::problem(random.random())? else { continue };
            // Scripts are drawn from far more than 2^64 ones, so that repetitions are no end in sight.
            if crate::split_of(problem.id.as_bytes()) == wanted && seen.insert(problem.id.clone()) {
                problems.push(problem);
            }
        }
        Ok(problems)
    }

    fn extract(&self, problem: &Problem, response: &str) -> Option<String> {
        query_of(problem, response)
    }

    /// Two queries mean the same when they return the same from the problem's database, in the same order where one of
    /// them orders its result; queries that fail, when they are written alike.
    fn equivalent(&self, problem: &Problem, left: &str, right: &str) -> bool {
        if left.trim() == right.trim() {
            return true;
        }
        let Ok(database) = self.database(problem) else { return false };
        match (database.run(left), database.run(right)) {
            (Ok(one), Ok(other)) => same_result(&one, &other, is_ordered(left) || is_ordered(right)),
            _ => false,
        }
    }

    fn verify(&self, problem: &Problem, response: &str) -> Result<Verdict, TaskError> {
        let found = self.outcome(problem, response)?;
        let outcome = match found {
            SqlOutcome::Correct => Outcome::Correct,
            SqlOutcome::NoQuery => Outcome::NoAnswer,
            SqlOutcome::WrongResult { .. } | SqlOutcome::Fault(_) => Outcome::Wrong,
        };
        let reason = (outcome != Outcome::Correct).then(|| found.to_string());
        Ok(Verdict { outcome, answer: self.extract(problem, response), steps: Vec::new(), reason })
    }

    /// The database says whether a query runs; what it should return is not looked at.
    fn recheck(&self, problem: &Problem, response: &str) -> Result<Recheck, TaskError> {
        let Some(query) = self.extract(problem, response) else { return Ok(Recheck::default()) };
        let run = self.database(problem)?.run(&query);
        Ok(Recheck {
            steps: Vec::new(),
            answer: Some(run.is_ok()),
            reason: run.err().map(|fault| fault.to_string()),
        })
    }

    fn reference(&self, problem: &Problem) -> Option<String> {
        match problem.data.get("query").and_then(Value::as_str) {
            Some(query) => Some(format!("#{query}")),
            None => problem.gold.clone(),
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
