//! The store of one machine: one SQLite file.

use super::{
    FeedbackEntry, KeyEntry, LIST_CHARACTERS, Labelled, ListedTrace, Reaction, RecipeTotals, ServiceStore,
    TraceEntry, TraceFilter, TraceStatus, TraceSummary, Write, Written, cut, whole,
};
use crate::database::write_ahead;
use crate::error::{RememberError, Result};
use elenchus_trace::Usage;
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

/// Version of the tables; a newer one is refused.
const STORE_VERSION: i64 = 1;
/// `elsv` in ASCII: marks the SQLite file as ours.
const APPLICATION_ID: i64 = 0x656c_7376;
/// A person waits for the answer: shorter than for run folders.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const TABLES: &str = "
    CREATE TABLE traces (
        id TEXT PRIMARY KEY,
        created_ms INTEGER NOT NULL,
        recipe TEXT NOT NULL,
        model TEXT NOT NULL,
        key TEXT NOT NULL,
        question TEXT NOT NULL,
        answer TEXT NOT NULL,
        confidence REAL,
        status TEXT NOT NULL,
        elapsed_ms REAL NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        calls INTEGER NOT NULL,
        seconds REAL NOT NULL,
        money REAL NOT NULL,
        request BLOB NOT NULL,
        response BLOB,
        trace TEXT
    ) STRICT;
    CREATE INDEX traces_by_time ON traces (created_ms DESC, id DESC);
    CREATE TABLE feedback (
        id TEXT PRIMARY KEY,
        trace_id TEXT NOT NULL REFERENCES traces (id),
        created_ms INTEGER NOT NULL,
        key TEXT NOT NULL,
        stage INTEGER,
        reaction TEXT,
        corrects INTEGER NOT NULL, -- whether it holds a correction or an edit
        hash TEXT NOT NULL,        -- of what is said
        entry TEXT NOT NULL        -- the whole, JSON
    ) STRICT;
    CREATE INDEX feedback_by_trace ON feedback (trace_id, created_ms);
    CREATE TABLE keys (
        name TEXT PRIMARY KEY,
        hash TEXT NOT NULL UNIQUE,
        entry TEXT NOT NULL
    ) STRICT;
";

/// Made when it is missing, also in files from before it: what a key has spent is summed from it alone, without the rows.
const INDEXES: &str = "
    CREATE INDEX IF NOT EXISTS traces_spent
        ON traces (key, created_ms, prompt_tokens, completion_tokens, calls, seconds, money);
    DROP INDEX IF EXISTS traces_by_key;
";
/// Connections for lists, totals and exports, so that a long one does not stand before all others.
const LISTING_READERS: usize = 3;

/// A [`ServiceStore`] in one SQLite file; several threads and processes may use it.
///
/// A write survives the end of the process. With `synchronous=NORMAL` the last writes may be lost when the machine
/// loses power; the file stays whole.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    /// Which file was opened; `None` where files have no identity.
    identity: Option<(u64, u64)>,
    writer: Mutex<Connection>,
    /// For what every request asks: a connection of its own, so that it waits neither for writers nor for lists.
    quick: Mutex<Connection>,
    listing: [Mutex<Connection>; LISTING_READERS],
    next: AtomicUsize,
}

impl SqliteStore {
    /// Opens the store, creating it when missing.
    ///
    /// # Errors
    /// The file cannot be opened, is of another program or of a newer version.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let fail = || RememberError::database("open the store", &path);
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            crate::fs::create_dir_all(folder)?;
        }
        let mut writer = Connection::open(&path).map_err(fail())?;
        writer.busy_timeout(BUSY_TIMEOUT).map_err(fail())?;
        writer.pragma_update(None, "synchronous", "NORMAL").map_err(fail())?;
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail())?;
        let read = |name: &str| transaction.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let version = read("user_version").map_err(fail())?;
        let application = read("application_id").map_err(fail())?;
        let tables: i64 = transaction
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .map_err(fail())?;
        if tables > 0 && application != APPLICATION_ID {
            return Err(RememberError::Format {
                path: path.clone(),
                reason: "it is an SQLite file of another program".into(),
                hint: "give the store a path of its own",
            });
        }
        if version > STORE_VERSION {
            return Err(RememberError::Version {
                path: path.clone(),
                found: u32::try_from(version).unwrap_or(u32::MAX),
                known: STORE_VERSION as u32,
            });
        }
        if version == 0 {
            transaction
                .execute_batch(TABLES)
                .and_then(|()| transaction.pragma_update(None, "application_id", APPLICATION_ID))
                .and_then(|()| transaction.pragma_update(None, "user_version", STORE_VERSION))
                .map_err(fail())?;
        }
        transaction.execute_batch(INDEXES).map_err(fail())?;
        transaction.commit().map_err(fail())?;
        write_ahead(&writer).map_err(fail())?;
        let reader = || -> rusqlite::Result<Mutex<Connection>> {
            let reader = Connection::open(&path)?;
            reader.busy_timeout(BUSY_TIMEOUT)?;
            reader.pragma_update(None, "query_only", true)?;
            Ok(Mutex::new(reader))
        };
        let quick = reader().map_err(fail())?;
        let listing = [reader().map_err(fail())?, reader().map_err(fail())?, reader().map_err(fail())?];
        let identity = identity(&path);
        Ok(SqliteStore {
            path,
            identity,
            writer: Mutex::new(writer),
            quick,
            listing,
            next: AtomicUsize::new(0),
        })
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// SQLite goes on writing to a file that was removed or replaced, and all of that would be lost.
    fn check_place(&self) -> Result<()> {
        if identity(&self.path) == self.identity {
            return Ok(());
        }
        Err(RememberError::Damaged {
            what: "the store".into(),
            path: self.path.clone(),
            reason: "the file was removed or replaced while it was in use".into(),
            hint: "put the file back, or start the gateway again: it makes a new one",
        })
    }

    /// A connection for something long: one that is free, else one in turn.
    fn listing(&self) -> MutexGuard<'_, Connection> {
        let free = self.listing.iter().find_map(|reader| match reader.try_lock() {
            Ok(reader) => Some(reader),
            Err(TryLockError::Poisoned(reader)) => Some(reader.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        });
        free.unwrap_or_else(|| {
            let turn = self.next.fetch_add(1, Ordering::Relaxed) % LISTING_READERS;
            self.listing[turn].lock().unwrap_or_else(PoisonError::into_inner)
        })
    }

    /// The connection for something short.
    fn quick(&self) -> MutexGuard<'_, Connection> {
        self.quick.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, operation: &'static str) -> impl FnOnce(rusqlite::Error) -> RememberError {
        RememberError::database(operation, &self.path)
    }

    fn read<T>(
        &self,
        reader: MutexGuard<'_, Connection>,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        work(&reader).map_err(self.failed("read"))
    }
}

impl ServiceStore for SqliteStore {
    fn write(&self, writes: &[Write]) -> Result<Vec<Written>> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut work = || -> rusqlite::Result<Vec<Written>> {
            let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let written = writes.iter().map(|write| apply(&transaction, write)).collect::<Result2<_>>()?;
            transaction.commit()?;
            Ok(written)
        };
        let written = work().map_err(self.failed("write"))?;
        self.check_place()?;
        Ok(written)
    }

    fn trace(&self, id: &str) -> Result<Option<TraceEntry>> {
        self.read(self.quick(), |connection| {
            connection
                .prepare_cached(&format!("SELECT {WHOLE} FROM traces WHERE id = ?1"))?
                .query_row(params![id], entry)
                .optional()
        })
    }

    fn traces(&self, filter: &TraceFilter) -> Result<Vec<ListedTrace>> {
        let (conditions, values) = conditions(filter);
        let sql =
            format!("SELECT {LISTED} FROM traces{conditions} ORDER BY created_ms DESC, id DESC LIMIT ?");
        self.read(self.listing(), |connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(rusqlite::params_from_iter(values), listed)?;
            rows.collect()
        })
    }

    fn feedback(&self, trace_id: &str) -> Result<Vec<FeedbackEntry>> {
        self.read(self.quick(), |connection| feedback(connection, trace_id))
    }

    fn labelled(&self, after: &str, limit: usize) -> Result<Vec<Labelled>> {
        self.read(self.listing(), |connection| {
            let sql = format!(
                "SELECT {WHOLE} FROM traces WHERE id > ?1 AND id IN (SELECT trace_id FROM feedback)
                 ORDER BY id LIMIT ?2"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let rows = statement.query_map(params![after, whole(limit as u64)], entry)?;
            let traces: Vec<TraceEntry> = rows.collect::<rusqlite::Result<_>>()?;
            traces
                .into_iter()
                .map(|trace| Ok(Labelled { feedback: feedback(connection, &trace.summary.id)?, trace }))
                .collect()
        })
    }

    fn totals(&self) -> Result<Vec<RecipeTotals>> {
        self.read(self.listing(), |connection| {
            // A person's last reaction to a whole trace is the one that counts.
            let mut statement = connection.prepare_cached(
                "WITH last AS (
                     SELECT trace_id, reaction,
                         row_number() OVER (PARTITION BY trace_id, key ORDER BY created_ms DESC, rowid DESC) AS place
                     FROM feedback WHERE reaction IS NOT NULL AND stage IS NULL
                 ), said AS (
                     SELECT trace_id, sum(reaction = 'love') AS love, sum(reaction = 'up') AS up,
                         sum(reaction = 'down') AS down
                     FROM last WHERE place = 1 GROUP BY trace_id
                 ), corrected AS (
                     SELECT trace_id, sum(corrects) AS corrections FROM feedback GROUP BY trace_id
                 )
                 SELECT recipe, count(*), sum(status = 'answered'), sum(status = 'abstained'),
                     sum(status = 'failed'), sum(status = 'cancelled'), ifnull(sum(love), 0), ifnull(sum(up), 0),
                     ifnull(sum(down), 0), ifnull(sum(corrections), 0), CAST(total(prompt_tokens) AS INTEGER),
                     CAST(total(completion_tokens) AS INTEGER), CAST(total(calls) AS INTEGER), total(seconds),
                     total(money)
                 FROM traces LEFT JOIN said ON said.trace_id = traces.id
                     LEFT JOIN corrected ON corrected.trace_id = traces.id
                 GROUP BY recipe ORDER BY recipe",
            )?;
            let rows = statement.query_map([], |row| {
                Ok(RecipeTotals {
                    recipe: row.get(0)?,
                    traces: row.get(1)?,
                    answered: row.get(2)?,
                    abstained: row.get(3)?,
                    failed: row.get(4)?,
                    cancelled: row.get(5)?,
                    love: row.get(6)?,
                    up: row.get(7)?,
                    down: row.get(8)?,
                    corrections: row.get(9)?,
                    usage: usage(row, 10)?,
                })
            })?;
            rows.collect()
        })
    }

    fn keys(&self) -> Result<Vec<KeyEntry>> {
        self.read(self.quick(), |connection| {
            let mut statement = connection.prepare_cached("SELECT entry FROM keys ORDER BY name")?;
            let rows = statement.query_map([], |row| json(row, 0))?;
            rows.collect()
        })
    }

    fn spent(&self, key: &str, since_ms: u64) -> Result<Usage> {
        self.read(self.quick(), |connection| {
            connection.prepare_cached(SPENT)?.query_row(params![key, whole(since_ms)], |row| usage(row, 0))
        })
    }
}

/// What tells one file from another.
fn identity(path: &Path) -> Option<(u64, u64)> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let found = crate::fs::metadata(path).ok()?;
        Some((found.dev(), found.ino()))
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

type Result2<T> = rusqlite::Result<T>;

/// `sum` fails beyond the integers; `total` is exact up to 2^53, and the cast ends at the largest integer.
const SPENT: &str = "SELECT CAST(total(prompt_tokens) AS INTEGER), CAST(total(completion_tokens) AS INTEGER),
        CAST(total(calls) AS INTEGER), total(seconds), total(money)
    FROM traces WHERE key = ?1 AND created_ms >= ?2";
const LISTED: &str = "id, created_ms, recipe, model, key, substr(question, 1, 400), substr(answer, 1, 400),
    confidence, status, elapsed_ms, prompt_tokens, completion_tokens, calls, seconds, money,
    (SELECT reaction FROM feedback WHERE trace_id = traces.id AND reaction IS NOT NULL AND stage IS NULL
        ORDER BY created_ms DESC, rowid DESC LIMIT 1)";
const WHOLE: &str = "id, created_ms, recipe, model, key, question, answer, confidence, status, elapsed_ms,
    prompt_tokens, completion_tokens, calls, seconds, money, request, response, trace";

fn usage(row: &Row<'_>, first: usize) -> Result2<Usage> {
    Ok(Usage {
        prompt_tokens: row.get(first)?,
        completion_tokens: row.get(first + 1)?,
        calls: row.get(first + 2)?,
        seconds: row.get(first + 3)?,
        money: row.get(first + 4)?,
    })
}

fn summary(row: &Row<'_>) -> Result2<TraceSummary> {
    let status: String = row.get(8)?;
    Ok(TraceSummary {
        id: row.get(0)?,
        created_ms: row.get(1)?,
        recipe: row.get(2)?,
        model: row.get(3)?,
        key: row.get(4)?,
        question: row.get(5)?,
        answer: row.get(6)?,
        confidence: row.get(7)?,
        status: TraceStatus::from_name(&status)
            .ok_or_else(|| rusqlite::Error::InvalidColumnName(format!("status `{status}`")))?,
        elapsed_ms: row.get(9)?,
        usage: usage(row, 10)?,
    })
}

fn listed(row: &Row<'_>) -> Result2<ListedTrace> {
    let reaction: Option<String> = row.get(15)?;
    Ok(ListedTrace { summary: summary(row)?, reaction: reaction.as_deref().and_then(Reaction::from_name) })
}

fn entry(row: &Row<'_>) -> Result2<TraceEntry> {
    Ok(TraceEntry {
        summary: summary(row)?,
        request: row.get(15)?,
        response: row.get(16)?,
        trace: row.get(17)?,
    })
}

fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> Result2<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
    })
}

fn to_json<T: serde::Serialize>(value: &T) -> Result2<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

fn feedback(connection: &Connection, trace_id: &str) -> Result2<Vec<FeedbackEntry>> {
    let mut statement = connection
        .prepare_cached("SELECT entry FROM feedback WHERE trace_id = ?1 ORDER BY created_ms, rowid")?;
    let rows = statement.query_map(params![trace_id], |row| json(row, 0))?;
    rows.collect()
}

fn apply(transaction: &Transaction<'_>, write: &Write) -> Result2<Written> {
    match write {
        Write::Trace(entry) => {
            let TraceEntry { summary, request, response, trace } = entry.as_ref();
            let usage = summary.usage;
            transaction
                .prepare_cached(
                    "INSERT INTO traces VALUES
                         (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)
                     ON CONFLICT (id) DO UPDATE SET request = excluded.request,
                         answer = excluded.answer, confidence = excluded.confidence,
                         status = excluded.status, elapsed_ms = excluded.elapsed_ms,
                         prompt_tokens = excluded.prompt_tokens, completion_tokens = excluded.completion_tokens,
                         calls = excluded.calls, seconds = excluded.seconds, money = excluded.money,
                         response = excluded.response, trace = excluded.trace",
                )?
                .execute(params![
                    summary.id,
                    whole(summary.created_ms),
                    summary.recipe,
                    summary.model,
                    summary.key,
                    cut(&summary.question, LIST_CHARACTERS),
                    summary.answer,
                    summary.confidence,
                    summary.status.name(),
                    summary.elapsed_ms,
                    whole(usage.prompt_tokens),
                    whole(usage.completion_tokens),
                    whole(usage.calls),
                    usage.seconds,
                    usage.money,
                    request,
                    response,
                    trace,
                ])?;
            Ok(Written::Stored)
        }
        Write::Feedback(entry) => {
            let known: bool = transaction
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM traces WHERE id = ?1)")?
                .query_row(params![entry.trace_id], |row| row.get(0))?;
            if !known {
                return Ok(Written::Missing);
            }
            let hash = entry.content_hash();
            let earlier: Option<String> = transaction
                .prepare_cached("SELECT hash FROM feedback WHERE id = ?1")?
                .query_row(params![entry.id], |row| row.get(0))
                .optional()?;
            if let Some(earlier) = earlier {
                return Ok(if earlier == hash { Written::Known } else { Written::Conflict });
            }
            let corrects = entry.correction.is_some() || entry.edit.is_some();
            transaction
                .prepare_cached("INSERT INTO feedback VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?
                .execute(params![
                entry.id,
                entry.trace_id,
                whole(entry.created_ms),
                entry.key,
                entry.stage,
                entry.reaction.map(Reaction::name),
                corrects,
                hash,
                to_json(entry)?,
            ])?;
            Ok(Written::Stored)
        }
        Write::Key(entry) => {
            let changed = transaction
                .prepare_cached("INSERT INTO keys VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?
                .execute(params![entry.name, entry.hash, to_json(entry)?])?;
            Ok(if changed == 1 { Written::Stored } else { Written::Conflict })
        }
        Write::RevokeKey(name) => {
            let changed =
                transaction.prepare_cached("DELETE FROM keys WHERE name = ?1")?.execute(params![name])?;
            Ok(if changed == 1 { Written::Stored } else { Written::Missing })
        }
    }
}

/// The WHERE clause of a list, with the values of its places and of the limit.
fn conditions(filter: &TraceFilter) -> (String, Vec<Sql>) {
    let mut parts: Vec<&str> = Vec::new();
    let mut values: Vec<Sql> = Vec::new();
    let mut equal = |part, value: Option<&str>| {
        if let Some(value) = value {
            parts.push(part);
            values.push(Sql::Text(value.to_string()));
        }
    };
    equal("recipe = ?", filter.recipe.as_deref());
    equal("model = ?", filter.model.as_deref());
    equal("key = ?", filter.key.as_deref());
    equal("status = ?", filter.status.map(TraceStatus::name));
    match filter.reaction.as_deref() {
        None => {}
        Some("any") => {
            parts.push("EXISTS (SELECT 1 FROM feedback WHERE trace_id = traces.id AND reaction IS NOT NULL)");
        }
        Some("none") => {
            parts.push(
                "NOT EXISTS (SELECT 1 FROM feedback WHERE trace_id = traces.id AND reaction IS NOT NULL)",
            );
        }
        Some(reaction) => {
            parts.push("EXISTS (SELECT 1 FROM feedback WHERE trace_id = traces.id AND reaction = ?)");
            values.push(Sql::Text(reaction.to_string()));
        }
    }
    if let Some(text) = &filter.text {
        // `instr` and not LIKE: what a person types is no pattern.
        parts.push("(instr(lower(question), lower(?)) > 0 OR instr(lower(answer), lower(?)) > 0)");
        values.extend([Sql::Text(text.clone()), Sql::Text(text.clone())]);
    }
    if let Some((created, id)) = &filter.before {
        parts.push("(created_ms, id) < (?, ?)");
        values.extend([Sql::Integer(whole(*created)), Sql::Text(id.clone())]);
    }
    values.push(Sql::Integer(whole(filter.limit as u64)));
    let clause = if parts.is_empty() { String::new() } else { format!(" WHERE {}", parts.join(" AND ")) };
    (clause, values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_exports_do_not_stand_before_what_every_request_asks() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path().join("s.sqlite")).unwrap();
        let held: Vec<_> = store.listing[..2].iter().map(|reader| reader.lock().unwrap()).collect();
        assert!(store.traces(&TraceFilter::default()).unwrap().is_empty(), "one is free");
        let all: Vec<_> = store.listing[2..].iter().map(|reader| reader.lock().unwrap()).collect();
        assert!(store.keys().unwrap().is_empty());
        assert_eq!(store.spent("app", 0).unwrap(), Usage::default());
        assert!(store.trace("t").unwrap().is_none());
        drop((held, all));
    }

    #[test]
    fn what_a_key_has_spent_is_read_from_an_index_alone_also_in_older_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sqlite");
        drop(SqliteStore::open(&path).unwrap());
        let older = "DROP INDEX traces_spent; CREATE INDEX traces_by_key ON traces (key, created_ms);";
        Connection::open(&path).unwrap().execute_batch(older).unwrap();
        let store = SqliteStore::open(&path).unwrap();
        let reader = store.quick.lock().unwrap();
        let plan: String = reader
            .query_row(&format!("EXPLAIN QUERY PLAN {SPENT}"), params!["app", 0], |row| row.get(3))
            .unwrap();
        assert!(plan.contains("COVERING INDEX traces_spent"), "{plan}");
    }
}
