//! Runs queries that nobody has read: on a database that they cannot change, for a limited time, within limited memory.
//!
//! Three layers. SQLite asks an authorizer about every action while it prepares a statement, and everything but reading is
//! refused, whatever way it is spelled (a pragma function, an attached file, an extension). A handler that SQLite calls every
//! few instructions stops what runs too long or holds too much memory. And rows are counted as they come.

use crate::TaskError;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bounds on one query.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SqlLimits {
    /// Most seconds.
    pub seconds: f64,
    /// Most rows of a result.
    pub rows: usize,
    /// Most bytes of a result.
    pub result_bytes: usize,
    /// Most bytes that SQLite may hold while the query runs, beyond what it held before, in the whole process.
    pub memory_bytes: i64,
}

impl Default for SqlLimits {
    fn default() -> Self {
        SqlLimits { seconds: 2.0, rows: 10_000, result_bytes: 4 << 20, memory_bytes: 256 << 20 }
    }
}

/// Instructions of SQLite's machine between two looks at the clock.
const INSTRUCTIONS: i32 = 200;
/// Longest text, blob or row, in bytes: what one instruction can allocate at most.
const LONGEST_VALUE: i32 = 1 << 20;
/// Longest query, in bytes.
const LONGEST_QUERY: usize = 100_000;
/// Seconds that the script of a database may take.
const SCRIPT_SECONDS: f64 = 60.0;

/// A value of a result.
#[derive(Debug, Clone, PartialEq)]
pub enum SqlValue {
    /// NULL.
    Null,
    /// A whole number.
    Integer(i64),
    /// A number with a fraction.
    Real(f64),
    /// A text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

/// The result of a query.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SqlRows {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// The rows, in order.
    pub rows: Vec<Vec<SqlValue>>,
}

/// Why a query has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryFault {
    /// SQLite does not understand it: syntax, a table or column that is not there, a wrong call.
    #[error("the query is wrong: {0}")]
    Query(String),
    /// It wants more than to read.
    #[error("the query was refused: {0}")]
    Refused(String),
    /// It takes too long.
    #[error("the query takes longer than {0} s")]
    Time(String),
    /// It needs too much memory.
    #[error("the query needs too much memory")]
    Memory,
    /// Its result is too large.
    #[error("the result is larger than {0}")]
    Size(String),
}

/// What the handlers and the runner tell each other.
#[derive(Debug, Default)]
struct Watch {
    deadline: Option<Instant>,
    most_memory: i64,
    refused: Option<String>,
    stopped: Option<QueryFault>,
    seconds: String,
}

/// The watch, also when a thread died while it held it: its fields are set anew before every query.
fn hold<T>(lock: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

fn memory_used() -> i64 {
    // SAFETY: reads a counter of SQLite; it may be called at any time from any thread.
    unsafe { rusqlite::ffi::sqlite3_memory_used() }
}

/// A database that queries can only read.
#[derive(Debug)]
pub struct SqlDatabase {
    connection: Mutex<Connection>,
    watch: Arc<Mutex<Watch>>,
    limits: SqlLimits,
    name: String,
}

/// Says no to everything but reading.
fn may_read(watch: &Mutex<Watch>, context: AuthContext<'_>) -> Authorization {
    let what = match context.action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => return Authorization::Allow,
        AuthAction::Function { function_name } => {
            // Loads code, or hands out addresses.
            match function_name.to_ascii_lowercase().as_str() {
                "load_extension" | "fts3_tokenizer" | "edit" | "readfile" | "writefile" => {
                    format!("the function `{function_name}`")
                }
                _ => return Authorization::Allow,
            }
        }
        AuthAction::Pragma { pragma_name, .. } => format!("PRAGMA {pragma_name}"),
        AuthAction::Attach { .. } => "ATTACH".to_string(),
        AuthAction::Detach { .. } => "DETACH".to_string(),
        AuthAction::Insert { table_name } => format!("writing into `{table_name}`"),
        AuthAction::Update { table_name, .. } => format!("changing `{table_name}`"),
        AuthAction::Delete { table_name } => format!("deleting from `{table_name}`"),
        AuthAction::CreateTable { table_name } | AuthAction::DropTable { table_name } => {
            format!("changing the schema (`{table_name}`)")
        }
        other => {
            let name = format!("{other:?}");
            name.split([' ', '{', '(']).next().unwrap_or("it").to_string()
        }
    };
    let mut watch = hold(watch);
    // The first refusal is the reason; SQLite asks about its consequences too.
    if watch.refused.is_none() {
        watch.refused = Some(format!("{what} does more than read"));
    }
    Authorization::Deny
}

impl SqlDatabase {
    /// A database in memory, made by a script of `CREATE TABLE` and `INSERT` statements.
    ///
    /// # Errors
    /// The script fails, takes more than a minute, or attaches files.
    pub fn from_script(name: &str, script: &str, limits: SqlLimits) -> Result<Self, TaskError> {
        let wrong = |error: rusqlite::Error| broken(name, &error.to_string());
        let mut connection = Connection::open_in_memory().map_err(wrong)?;
        // A script may name a table before it makes it.
        connection.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA temp_store = MEMORY").map_err(wrong)?;
        let attached = connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0);
        attached.map_err(wrong)?;
        let until = Instant::now() + Duration::from_secs_f64(SCRIPT_SECONDS);
        connection.progress_handler(10_000, Some(move || Instant::now() > until)).map_err(wrong)?;
        connection.execute_batch(script).map_err(wrong)?;
        SqlDatabase::guard(name, connection, limits)
    }

    /// A database file, opened for reading alone.
    ///
    /// # Errors
    /// It cannot be opened, or is no database.
    pub fn from_file(name: &str, path: &Path, limits: SqlLimits) -> Result<Self, TaskError> {
        let wrong = |error: rusqlite::Error| broken(&path.display().to_string(), &error.to_string());
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(wrong)?;
        connection.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(())).map_err(wrong)?;
        connection.execute_batch("PRAGMA temp_store = MEMORY").map_err(wrong)?;
        SqlDatabase::guard(name, connection, limits)
    }

    fn guard(name: &str, mut connection: Connection, limits: SqlLimits) -> Result<Self, TaskError> {
        let wrong = |error: rusqlite::Error| broken(name, &error.to_string());
        connection.execute_batch("PRAGMA query_only = ON; PRAGMA trusted_schema = OFF").map_err(wrong)?;
        for (limit, most) in [
            (Limit::SQLITE_LIMIT_ATTACHED, 0),
            (Limit::SQLITE_LIMIT_LENGTH, LONGEST_VALUE),
            (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 100),
            (Limit::SQLITE_LIMIT_EXPR_DEPTH, 200),
            (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1000),
            (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
        ] {
            connection.set_limit(limit, most).map_err(wrong)?;
        }
        let watch = Arc::new(Mutex::new(Watch::default()));
        let clock = Arc::clone(&watch);
        let stop = move || {
            let mut watch = hold(&clock);
            if watch.deadline.is_some_and(|deadline| Instant::now() > deadline) {
                watch.stopped = Some(QueryFault::Time(watch.seconds.clone()));
                return true;
            }
            if memory_used() > watch.most_memory {
                watch.stopped = Some(QueryFault::Memory);
                return true;
            }
            false
        };
        connection.progress_handler(INSTRUCTIONS, Some(stop)).map_err(wrong)?;
        let asked = Arc::clone(&watch);
        let allow = move |context: AuthContext<'_>| may_read(&asked, context);
        connection.authorizer(Some(allow)).map_err(wrong)?;
        Ok(SqlDatabase { connection: Mutex::new(connection), watch, limits, name: name.to_string() })
    }

    /// Runs one query.
    ///
    /// # Errors
    /// See [`QueryFault`].
    pub fn run(&self, query: &str) -> Result<SqlRows, QueryFault> {
        if query.len() > LONGEST_QUERY {
            return Err(QueryFault::Query(format!("it is longer than {LONGEST_QUERY} bytes")));
        }
        let connection = hold(&self.connection);
        *hold(&self.watch) = Watch {
            deadline: Some(
                Instant::now() + Duration::from_secs_f64(self.limits.seconds.clamp(0.001, 3600.0)),
            ),
            most_memory: memory_used().saturating_add(self.limits.memory_bytes),
            seconds: format!("{}", self.limits.seconds),
            ..Watch::default()
        };
        let result = self.read(&connection, query);
        let mut watch = hold(&self.watch);
        match (result, watch.refused.take(), watch.stopped.take()) {
            (_, Some(refused), _) => Err(QueryFault::Refused(refused)),
            (Err(_), None, Some(stopped)) => Err(stopped),
            (result, None, _) => result,
        }
    }

    fn read(&self, connection: &Connection, query: &str) -> Result<SqlRows, QueryFault> {
        let mut statement = connection.prepare(query).map_err(fault)?;
        if statement.column_count() == 0 {
            return Err(QueryFault::Query("it reads nothing".to_string()));
        }
        if !statement.readonly() {
            return Err(QueryFault::Refused("the statement does more than read".to_string()));
        }
        let columns: Vec<String> = statement.column_names().map(str::to_string).collect();
        let width = columns.len();
        let mut found = SqlRows { columns, rows: Vec::new() };
        let mut bytes = 0usize;
        let mut rows = statement.query([]).map_err(fault)?;
        while let Some(row) = rows.next().map_err(fault)? {
            if found.rows.len() >= self.limits.rows {
                return Err(QueryFault::Size(format!("{} rows", self.limits.rows)));
            }
            let mut values = Vec::with_capacity(width);
            for column in 0..width {
                let value = match row.get_ref(column).map_err(fault)? {
                    ValueRef::Null => SqlValue::Null,
                    ValueRef::Integer(value) => SqlValue::Integer(value),
                    ValueRef::Real(value) => SqlValue::Real(value),
                    ValueRef::Text(text) => SqlValue::Text(String::from_utf8_lossy(text).into_owned()),
                    ValueRef::Blob(blob) => SqlValue::Blob(blob.to_vec()),
                };
                bytes += match &value {
                    SqlValue::Text(text) => text.len(),
                    SqlValue::Blob(blob) => blob.len(),
                    _ => 0,
                } + 8;
                values.push(value);
            }
            if bytes > self.limits.result_bytes {
                return Err(QueryFault::Size(format!("{} bytes", self.limits.result_bytes)));
            }
            found.rows.push(values);
        }
        Ok(found)
    }

    /// The statements that make its tables, as they are written in it, each on its own lines.
    ///
    /// # Errors
    /// The schema cannot be read.
    pub fn schema(&self) -> Result<String, TaskError> {
        let query =
            "SELECT sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid";
        let rows = self.run(query).map_err(|fault| broken(&self.name, &fault.to_string()))?.rows;
        let text = |row: Vec<SqlValue>| match row.into_iter().next() {
            Some(SqlValue::Text(text)) => Some(text),
            _ => None,
        };
        Ok(rows.into_iter().filter_map(text).map(|text| text + ";").collect::<Vec<_>>().join("\n"))
    }
}

fn fault(error: rusqlite::Error) -> QueryFault {
    match error {
        rusqlite::Error::MultipleStatement => {
            QueryFault::Query("there is more than one statement".to_string())
        }
        other => QueryFault::Query(other.to_string()),
    }
}

fn broken(name: &str, problem: &str) -> TaskError {
    TaskError::File {
        path: name.to_string(),
        problem: format!("is no usable database: {problem}"),
        hint: "a script of CREATE TABLE and INSERT statements for SQLite, or a database file".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str =
        "CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, 'x'), (2, 'y'), (3, NULL);";

    fn database() -> SqlDatabase {
        SqlDatabase::from_script("test", SCRIPT, SqlLimits { seconds: 0.5, ..SqlLimits::default() }).unwrap()
    }

    #[test]
    fn reading_is_allowed_in_all_its_forms() {
        let database = database();
        for (query, rows) in [
            ("SELECT a, b FROM t", 3),
            ("select count(*) from t where b is not null;", 1),
            ("WITH w AS (SELECT a FROM t) SELECT * FROM w WHERE a > 1", 2),
            ("SELECT a FROM t UNION SELECT 9 ORDER BY 1", 4),
            ("SELECT b, (SELECT max(a) FROM t) FROM t GROUP BY b HAVING count(*) = 1", 3),
            ("SELECT name FROM sqlite_master", 1),
            ("VALUES (1), (2)", 2),
            (
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT i FROM n",
                5,
            ),
            ("SELECT upper(b), length(b), round(a / 2.0, 1) FROM t -- a comment", 3),
        ] {
            assert_eq!(database.run(query).unwrap().rows.len(), rows, "{query}");
        }
        let found = database.run("SELECT a, b FROM t WHERE a = 3").unwrap();
        assert_eq!(found.rows, [[SqlValue::Integer(3), SqlValue::Null]]);
        assert_eq!(found.columns, ["a", "b"]);
    }

    #[test]
    fn whatever_does_more_than_read_is_refused_and_changes_nothing() {
        let database = database();
        let file = std::env::temp_dir().join(format!("elenchus-sql-{}.db", std::process::id()));
        let path = file.display().to_string();
        for query in [
            "INSERT INTO t VALUES (4, 'z')",
            "INSERT INTO t VALUES (4, 'z') RETURNING a",
            "UPDATE t SET a = 9",
            "DELETE FROM t",
            "DELETE FROM t RETURNING *",
            "DROP TABLE t",
            "CREATE TABLE u (a int)",
            "CREATE TEMP TABLE u AS SELECT * FROM t",
            "CREATE VIEW v AS SELECT 1",
            "CREATE VIRTUAL TABLE v USING fts5(x)",
            "ALTER TABLE t ADD COLUMN c",
            "CREATE TRIGGER g AFTER INSERT ON t BEGIN DELETE FROM t; END",
            "PRAGMA query_only = OFF",
            "PRAGMA journal_mode = WAL",
            "PRAGMA writable_schema = ON",
            "PRAGMA table_info(t)",
            "SELECT * FROM pragma_query_only",
            "BEGIN",
            "COMMIT",
            "SAVEPOINT s",
            "REINDEX",
            "ANALYZE",
            "SELECT load_extension('libevil')",
            "SELECT load_extension('libevil', 'init') FROM t",
            "SELECT fts3_tokenizer('simple')",
            "DETACH main",
            &format!("ATTACH '{path}' AS f"),
            "ATTACH ':memory:' AS f",
            &format!("VACUUM INTO '{path}'"),
            "VACUUM",
        ] {
            let error = database.run(query).unwrap_err();
            let ended = matches!(error, QueryFault::Refused(_) | QueryFault::Query(_));
            assert!(ended, "{query}: {error}");
        }
        for refused in [
            "UPDATE t SET a = 9",
            "PRAGMA table_info(t)",
            "ATTACH ':memory:' AS f",
            "SELECT load_extension('x')",
        ] {
            let error = database.run(refused).unwrap_err();
            assert!(matches!(error, QueryFault::Refused(_)), "{refused}: {error}");
        }
        assert!(!file.exists(), "a query wrote a file");
        assert_eq!(database.run("SELECT sum(a), count(*) FROM t").unwrap().rows[0][0], SqlValue::Integer(6));
        assert_eq!(
            database.run("SELECT count(*) FROM sqlite_master").unwrap().rows[0][0],
            SqlValue::Integer(1)
        );
    }

    #[test]
    fn what_runs_without_end_is_stopped() {
        let database = database();
        for query in [
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n WHERE i < 0",
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 200) SELECT count(*) FROM n a, n b, n c, n d, n e",
        ] {
            let started = Instant::now();
            let error = database.run(query).unwrap_err();
            assert!(matches!(error, QueryFault::Time(_)), "{query}: {error}");
            // A machine that is busy elsewhere may be slow; without the handler it would never end.
            assert!(started.elapsed().as_secs() < 20, "{query}");
        }
        assert!(database.run("SELECT a FROM t").is_ok(), "the next query has its own time");
    }

    #[test]
    fn results_and_memory_are_bounded() {
        let limits = SqlLimits { seconds: 30.0, rows: 100, memory_bytes: 32 << 20, ..SqlLimits::default() };
        let database = SqlDatabase::from_script("test", SCRIPT, limits).unwrap();
        let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)";
        let error = database.run(&format!("{endless} SELECT i FROM n")).unwrap_err();
        assert_eq!(error, QueryFault::Size("100 rows".to_string()));
        let error =
            database.run(&format!("{endless} SELECT hex(zeroblob(100000)) FROM n LIMIT 90")).unwrap_err();
        assert_eq!(error, QueryFault::Size(format!("{} bytes", 4 << 20)));
        let error = database.run("SELECT zeroblob(2000000000)").unwrap_err();
        assert!(matches!(error, QueryFault::Query(_)), "{error}");
        let sorted = format!("{endless} SELECT hex(zeroblob(50000)) || i AS x FROM n ORDER BY x");
        assert_eq!(database.run(&sorted).unwrap_err(), QueryFault::Memory);
        // SQLite notices a text that grew too long only when it is finished, which it never is.
        let hasty = SqlDatabase::from_script("test", SCRIPT, SqlLimits { seconds: 0.5, ..limits }).unwrap();
        let joined = format!("{endless} SELECT group_concat(hex(zeroblob(1000))) FROM n");
        assert_eq!(hasty.run(&joined).unwrap_err(), QueryFault::Time("0.5".to_string()));
        assert!(database.run("SELECT a FROM t").is_ok());
    }

    #[test]
    fn mistakes_are_told_from_refusals() {
        let database = database();
        for (query, part) in [
            ("SELEC a FROM t", "syntax error"),
            ("SELECT c FROM t", "no such column"),
            ("SELECT a FROM u", "no such table"),
            ("SELECT a FROM t; SELECT b FROM t", "more than one statement"),
            ("", "reads nothing"),
            ("-- nothing", "reads nothing"),
        ] {
            match database.run(query).unwrap_err() {
                QueryFault::Query(what) => assert!(what.contains(part), "{query}: {what}"),
                other => panic!("{query}: {other}"),
            }
        }
        // SQLite looks at the second statement too, and is refused what it wants.
        assert!(matches!(database.run("SELECT a FROM t; DROP TABLE t").unwrap_err(), QueryFault::Refused(_)));
        assert_eq!(database.run("SELECT a FROM t").unwrap().rows.len(), 3);
        let deep = format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000));
        assert!(database.run(&deep).is_err());
        assert!(database.run(&"SELECT 1 ".repeat(20_000)).unwrap_err().to_string().contains("longer"));
    }

    #[test]
    fn a_broken_script_or_file_is_named() {
        for script in ["CREATE TABLE", "INSERT INTO nowhere VALUES (1)", "ATTACH 'x.db' AS x"] {
            let error = SqlDatabase::from_script("d", script, SqlLimits::default()).unwrap_err().to_string();
            assert!(error.contains("`d`") && error.contains("hint:"), "{error}");
        }
        let nowhere = SqlDatabase::from_file("d", Path::new("/nowhere/x.sqlite"), SqlLimits::default());
        assert!(nowhere.unwrap_err().to_string().contains("/nowhere/x.sqlite"));
    }

    #[test]
    fn a_file_is_read_and_not_written() {
        let file = std::env::temp_dir().join(format!("elenchus-sql-file-{}.db", std::process::id()));
        let connection = Connection::open(&file).unwrap();
        connection.execute_batch(SCRIPT).unwrap();
        drop(connection);
        let before = std::fs::read(&file).unwrap();
        let database = SqlDatabase::from_file("d", &file, SqlLimits::default()).unwrap();
        assert_eq!(database.run("SELECT a FROM t").unwrap().rows.len(), 3);
        assert!(matches!(database.run("DELETE FROM t").unwrap_err(), QueryFault::Refused(_)));
        assert!(database.schema().unwrap().starts_with("CREATE TABLE t"));
        drop(database);
        assert_eq!(std::fs::read(&file).unwrap(), before);
        std::fs::remove_file(&file).unwrap();
    }
}
