//! The store of several gateways: one PostgreSQL database.

mod connection;
mod rows;

use super::{
    FeedbackEntry, KeyEntry, LIST_CHARACTERS, Labelled, ListedTrace, Reaction, RecipeTotals, ServiceStore,
    TraceEntry, TraceFilter, TraceStatus, Write, Written, cut, whole,
};
use crate::error::{RememberError, Result, ServerFailure};
use connection::{Connected, Connector, Failure, Line};
use elenchus_trace::Usage;
use futures::future::try_join_all;
use rows::{Json, LISTED, WHOLE, count, entry, feedback, listed, text, to_json, usage};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio_postgres::Config;
use tokio_postgres::config::Host;
use tokio_postgres::types::ToSql;

/// Version of the tables; a newer one is refused.
const STORE_VERSION: i32 = 1;
/// `elsv` in ASCII: the lock under which tables are made.
const TABLES_LOCK: i64 = 0x656c_7376;
/// A person waits for what is written: as long as for a locked file.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest list, total or page of an export.
const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// How much longer than the server's own limit an answer is waited for.
const MARGIN: Duration = Duration::from_millis(500);
/// Connections for lists and totals, so that a long one does not stand before all others.
const LISTING_LINES: usize = 3;
/// How often a change is tried when the server says that nothing came of it.
const MOST_TRIES: usize = 3;

const TABLES: &str = r#"
    CREATE TABLE elenchus_traces (
        id TEXT COLLATE "C" PRIMARY KEY,
        created_ms BIGINT NOT NULL,
        recipe TEXT COLLATE "C" NOT NULL,
        model TEXT NOT NULL,
        key TEXT NOT NULL,
        question TEXT NOT NULL,
        answer TEXT NOT NULL,
        confidence DOUBLE PRECISION,
        status TEXT NOT NULL,
        elapsed_ms DOUBLE PRECISION NOT NULL,
        prompt_tokens BIGINT NOT NULL,
        completion_tokens BIGINT NOT NULL,
        calls BIGINT NOT NULL,
        seconds DOUBLE PRECISION NOT NULL,
        money DOUBLE PRECISION NOT NULL,
        request BYTEA NOT NULL,
        response BYTEA,
        trace TEXT
    );
    CREATE INDEX elenchus_traces_by_time ON elenchus_traces (created_ms DESC, id DESC);
    CREATE TABLE elenchus_feedback (
        id TEXT COLLATE "C" PRIMARY KEY,
        trace_id TEXT COLLATE "C" NOT NULL REFERENCES elenchus_traces (id),
        created_ms BIGINT NOT NULL,
        place BIGINT GENERATED ALWAYS AS IDENTITY,
        key TEXT NOT NULL,
        stage BIGINT,
        reaction TEXT,
        corrects BOOLEAN NOT NULL, -- whether it holds a correction or an edit
        hash TEXT NOT NULL,        -- of what is said
        entry TEXT NOT NULL        -- the whole, JSON
    );
    CREATE INDEX elenchus_feedback_by_trace ON elenchus_feedback (trace_id, created_ms);
    CREATE TABLE elenchus_keys (
        name TEXT COLLATE "C" PRIMARY KEY,
        hash TEXT NOT NULL UNIQUE,
        entry TEXT NOT NULL
    );
    CREATE TABLE elenchus_store (version INTEGER NOT NULL);
"#;

/// A [`ServiceStore`] in a PostgreSQL database that several gateways share: traces, feedback, keys, and with them what
/// a key has spent.
///
/// A write survives the end of this process and, as the server is set up (`synchronous_commit`), of the server. While
/// the server is away calls fail at once; when it is back they work again. Statements do not depend on each other's
/// connection, so a connection pooler may stand between, in session mode. PostgreSQL's text has no character 0: in
/// question and answer U+FFFD stands for it; requests, responses and traces are kept as they are.
pub struct PostgresStore {
    place: String,
    connector: Connector,
    writer: Line,
    /// For what every request asks.
    quick: Line,
    listing: [Line; LISTING_LINES],
    next: AtomicUsize,
    /// Drives the connections; the callers wait on their own threads.
    runtime: Option<Runtime>,
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PostgresStore({})", self.place)
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // The store may be dropped where nothing may block.
            runtime.shutdown_background();
        }
    }
}

/// An address without its password and its options.
pub(super) fn shown(url: &str) -> String {
    let Ok(config) = url.parse::<Config>() else { return "postgres://…".into() };
    let ports = config.get_ports();
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(index, host)| match host {
            Host::Tcp(name) => {
                let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
                format!("{name}:{port}")
            }
            #[cfg(unix)]
            Host::Unix(path) => path.display().to_string(),
        })
        .collect();
    let user = config.get_user().map(|user| format!("{user}@")).unwrap_or_default();
    format!("postgres://{user}{}/{}", hosts.join(","), config.get_dbname().unwrap_or_default())
}

impl PostgresStore {
    /// Opens the store at an address `postgres://user:password@host:port/database`, making its tables (`elenchus_…`)
    /// when they are missing. Without a password the environment variable `PGPASSWORD` is looked at. Encryption follows
    /// `sslmode` (`disable`, `prefer`, `require`) with the certificates of this machine; within one machine, `prefer`
    /// means none.
    ///
    /// # Errors
    /// The address is none, the server cannot be reached or refuses, or the tables are of a newer version.
    pub fn open(url: &str) -> Result<Self> {
        let place = shown(url);
        let connector = Connector::new(url).map_err(|reason| RememberError::Server {
            operation: "open the store",
            place: place.clone(),
            reason,
            kind: ServerFailure::Address,
        })?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("postgres")
            .enable_all()
            .build()
            .map_err(|source| RememberError::io("start the threads of the store", &place, source))?;
        let store = PostgresStore {
            place,
            connector,
            writer: Line::default(),
            quick: Line::default(),
            listing: Default::default(),
            next: AtomicUsize::new(0),
            runtime: Some(runtime),
        };
        let found = store.change("open the store", async |connected| tables(connected).await)?;
        if found > STORE_VERSION {
            return Err(RememberError::Version {
                path: store.place.clone().into(),
                found: found.unsigned_abs(),
                known: STORE_VERSION.unsigned_abs(),
            });
        }
        Ok(store)
    }

    /// Waits on this thread for work that the connections' runtime drives.
    fn wait<T>(
        &self,
        operation: &'static str,
        within: Duration,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T> {
        let _context = self.runtime.as_ref().map(Runtime::enter);
        let within = within + MARGIN;
        let outcome = futures::executor::block_on(async { tokio::time::timeout(within, work).await });
        outcome.unwrap_or_else(|_| Err(Failure::slow(within))).map_err(|failure| RememberError::Server {
            operation,
            place: self.place.clone(),
            reason: failure.reason,
            kind: failure.kind,
        })
    }

    /// Makes a change in one transaction; again when the server says that nothing came of it.
    fn change<T>(
        &self,
        operation: &'static str,
        work: impl AsyncFn(&Connected) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T> {
        self.wait(operation, WRITE_TIMEOUT, async {
            let mut tries = 1;
            loop {
                let attempt = self.writer.alone(&self.connector, WRITE_TIMEOUT, async |connected| {
                    transaction(connected, &work).await
                });
                match attempt.await {
                    Err(failure) if failure.again && tries < MOST_TRIES => tries += 1,
                    outcome => return outcome,
                }
            }
        })
    }

    /// Reads; once more when the connection turned out to be lost.
    fn read<T>(
        &self,
        line: &Line,
        work: impl AsyncFn(&Connected) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T> {
        self.wait("read", READ_TIMEOUT, async {
            let mut tries = 1;
            loop {
                let connected = line.shared(&self.connector, READ_TIMEOUT).await?;
                match work(&connected).await.map_err(Failure::from) {
                    Err(failure) if failure.again && tries < MOST_TRIES => tries += 1,
                    outcome => return outcome,
                }
            }
        })
    }

    fn listing(&self) -> &Line {
        &self.listing[self.next.fetch_add(1, Ordering::Relaxed) % LISTING_LINES]
    }
}

/// Between BEGIN and COMMIT. What fails before the COMMIT changed nothing; of what fails with it nobody knows.
async fn transaction<T>(
    connected: &Connected,
    work: &impl AsyncFn(&Connected) -> Result<T, tokio_postgres::Error>,
) -> Result<T, Failure> {
    connected.client.batch_execute("BEGIN").await?;
    let value = match work(connected).await {
        Ok(value) => value,
        Err(error) => {
            // A connection that is lost rolls back by itself.
            let _ = connected.client.batch_execute("ROLLBACK").await;
            return Err(error.into());
        }
    };
    let committed = connected.client.batch_execute("COMMIT").await;
    committed.map_err(|error| Failure { again: false, ..error.into() })?;
    Ok(value)
}

/// Indexes that older stores lack.
const LATER_INDEXES: &str = r#"
    -- What a key has spent is summed from the index alone, without the rows.
    CREATE INDEX IF NOT EXISTS elenchus_traces_spent ON elenchus_traces (key, created_ms)
        INCLUDE (prompt_tokens, completion_tokens, calls, seconds, money);
    DROP INDEX IF EXISTS elenchus_traces_by_key;
"#;

/// Makes the tables when they are missing; gives their version.
async fn tables(connected: &Connected) -> Result<i32, tokio_postgres::Error> {
    let client = &connected.client;
    // Several gateways may start at once.
    client.query_one("SELECT pg_advisory_xact_lock($1)", &[&TABLES_LOCK]).await?;
    let known = client.query_one("SELECT to_regclass('elenchus_store') IS NOT NULL", &[]).await?;
    if !known.try_get::<_, bool>(0)? {
        client.batch_execute(TABLES).await?;
        client.execute("INSERT INTO elenchus_store VALUES ($1)", &[&STORE_VERSION]).await?;
    }
    client.batch_execute(LATER_INDEXES).await?;
    client.query_one("SELECT max(version) FROM elenchus_store", &[]).await?.try_get(0)
}

impl ServiceStore for PostgresStore {
    fn write(&self, writes: &[Write]) -> Result<Vec<Written>> {
        // All gateways take rows in one order, so that no two transactions wait for each other.
        let mut order: Vec<usize> = (0..writes.len()).collect();
        order.sort_by_key(|&place| row_of(&writes[place]));
        let written = self.change("write", async |connected| {
            for write in writes {
                connected.statement(statement_of(write)).await?;
            }
            // One statement goes out behind another without waiting for answers.
            try_join_all(order.iter().map(|&place| apply(connected, &writes[place]))).await
        })?;
        let mut placed: Vec<(usize, Written)> = order.into_iter().zip(written).collect();
        placed.sort_by_key(|(place, _)| *place);
        Ok(placed.into_iter().map(|(_, written)| written).collect())
    }

    fn trace(&self, id: &str) -> Result<Option<TraceEntry>> {
        let id = text(id);
        self.read(&self.quick, async |connected| {
            let statement =
                connected.statement(&format!("SELECT {WHOLE} FROM elenchus_traces WHERE id = $1")).await?;
            connected.client.query_opt(&statement, &[&id]).await?.as_ref().map(entry).transpose()
        })
    }

    fn traces(&self, filter: &TraceFilter) -> Result<Vec<ListedTrace>> {
        let (conditions, values) = conditions(filter);
        let limit = values.len();
        let sql = format!(
            "SELECT {LISTED} FROM elenchus_traces{conditions} ORDER BY created_ms DESC, id DESC LIMIT ${limit}"
        );
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(Box::as_ref).collect();
        self.read(self.listing(), async |connected| {
            let statement = connected.statement(&sql).await?;
            connected.client.query(&statement, &values).await?.iter().map(listed).collect()
        })
    }

    fn feedback(&self, trace_id: &str) -> Result<Vec<FeedbackEntry>> {
        let ids = [text(trace_id)];
        let mut found = self.read(&self.quick, async |connected| feedback(connected, &ids).await)?;
        Ok(found.pop().map(|(_, said)| said).unwrap_or_default())
    }

    fn labelled(&self, after: &str, limit: usize) -> Result<Vec<Labelled>> {
        let (after, limit) = (text(after), whole(limit as u64));
        self.read(self.listing(), async |connected| {
            let sql = format!(
                "SELECT {WHOLE} FROM elenchus_traces
                 WHERE id > $1 AND id IN (SELECT trace_id FROM elenchus_feedback) ORDER BY id LIMIT $2"
            );
            let statement = connected.statement(&sql).await?;
            let rows = connected.client.query(&statement, &[&after, &limit]).await?;
            let traces: Vec<TraceEntry> = rows.iter().map(entry).collect::<Result<_, _>>()?;
            let ids: Vec<Cow<'_, str>> = traces.iter().map(|trace| text(&trace.summary.id)).collect();
            let mut said: HashMap<String, Vec<FeedbackEntry>> =
                feedback(connected, &ids).await?.into_iter().collect();
            Ok(traces
                .into_iter()
                .filter_map(|trace| Some(Labelled { feedback: said.remove(&trace.summary.id)?, trace }))
                .collect())
        })
    }

    fn totals(&self) -> Result<Vec<RecipeTotals>> {
        self.read(self.listing(), async |connected| {
            let statement = connected.statement(TOTALS).await?;
            let rows = connected.client.query(&statement, &[]).await?;
            rows.iter()
                .map(|row| {
                    Ok(RecipeTotals {
                        recipe: row.try_get(0)?,
                        traces: count(row, 1)?,
                        answered: count(row, 2)?,
                        abstained: count(row, 3)?,
                        failed: count(row, 4)?,
                        cancelled: count(row, 5)?,
                        love: count(row, 6)?,
                        up: count(row, 7)?,
                        down: count(row, 8)?,
                        corrections: count(row, 9)?,
                        usage: usage(row, 10)?,
                    })
                })
                .collect()
        })
    }

    fn keys(&self) -> Result<Vec<KeyEntry>> {
        self.read(&self.quick, async |connected| {
            let statement = connected.statement("SELECT entry FROM elenchus_keys ORDER BY name").await?;
            let rows = connected.client.query(&statement, &[]).await?;
            rows.iter().map(|row| Ok(row.try_get::<_, Json<KeyEntry>>(0)?.0)).collect()
        })
    }

    fn spent(&self, key: &str, since_ms: u64) -> Result<Usage> {
        let (key, since) = (text(key), whole(since_ms));
        self.read(&self.quick, async |connected| {
            let statement = connected.statement(SPENT).await?;
            usage(&connected.client.query_one(&statement, &[&key, &since]).await?, 0)
        })
    }
}

const SPENT: &str = "SELECT least(coalesce(sum(prompt_tokens), 0), 9223372036854775807)::BIGINT,
        least(coalesce(sum(completion_tokens), 0), 9223372036854775807)::BIGINT,
        least(coalesce(sum(calls), 0), 9223372036854775807)::BIGINT, coalesce(sum(seconds), 0), coalesce(sum(money), 0)
    FROM elenchus_traces WHERE key = $1 AND created_ms >= $2";

/// A person's last reaction to a whole trace is the one that counts.
const TOTALS: &str = "
    WITH last AS (
        SELECT trace_id, reaction,
            row_number() OVER (PARTITION BY trace_id, key ORDER BY created_ms DESC, place DESC) AS place
        FROM elenchus_feedback WHERE reaction IS NOT NULL AND stage IS NULL
    ), said AS (
        SELECT trace_id, count(*) FILTER (WHERE reaction = 'love') AS love,
            count(*) FILTER (WHERE reaction = 'up') AS up, count(*) FILTER (WHERE reaction = 'down') AS down
        FROM last WHERE place = 1 GROUP BY trace_id
    ), corrected AS (
        SELECT trace_id, count(*) FILTER (WHERE corrects) AS corrections FROM elenchus_feedback GROUP BY trace_id
    )
    SELECT recipe, count(*), count(*) FILTER (WHERE status = 'answered'),
        count(*) FILTER (WHERE status = 'abstained'), count(*) FILTER (WHERE status = 'failed'),
        count(*) FILTER (WHERE status = 'cancelled'), coalesce(sum(love), 0)::BIGINT, coalesce(sum(up), 0)::BIGINT,
        coalesce(sum(down), 0)::BIGINT, coalesce(sum(corrections), 0)::BIGINT,
        least(sum(prompt_tokens), 9223372036854775807)::BIGINT,
        least(sum(completion_tokens), 9223372036854775807)::BIGINT,
        least(sum(calls), 9223372036854775807)::BIGINT, sum(seconds), sum(money)
    FROM elenchus_traces AS traces LEFT JOIN said ON said.trace_id = traces.id
        LEFT JOIN corrected ON corrected.trace_id = traces.id
    GROUP BY recipe ORDER BY recipe";

// What a change is made by; ready before the first of a batch goes out, so that all go out in order.
const STORE_TRACE: &str = "INSERT INTO elenchus_traces VALUES
    ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
    ON CONFLICT (id) DO UPDATE SET request = excluded.request,
    answer = excluded.answer, confidence = excluded.confidence,
    status = excluded.status, elapsed_ms = excluded.elapsed_ms,
    prompt_tokens = excluded.prompt_tokens, completion_tokens = excluded.completion_tokens,
    calls = excluded.calls, seconds = excluded.seconds, money = excluded.money,
    response = excluded.response, trace = excluded.trace";
const STORE_FEEDBACK: &str = "INSERT INTO elenchus_feedback
    (id, trace_id, created_ms, key, stage, reaction, corrects, hash, entry)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9
    WHERE EXISTS (SELECT 1 FROM elenchus_traces WHERE id = $2) ON CONFLICT (id) DO NOTHING";
const STORE_KEY: &str = "INSERT INTO elenchus_keys VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
const END_KEY: &str = "DELETE FROM elenchus_keys WHERE name = $1";

/// The row that a change is about: what it refers to comes before it.
fn row_of(write: &Write) -> (u8, &str) {
    match write {
        Write::Key(key) => (0, &key.name),
        Write::RevokeKey(name) => (0, name),
        Write::Trace(trace) => (1, &trace.summary.id),
        Write::Feedback(feedback) => (2, &feedback.id),
    }
}

fn statement_of(write: &Write) -> &'static str {
    match write {
        Write::Trace(_) => STORE_TRACE,
        Write::Feedback(_) => STORE_FEEDBACK,
        Write::Key(_) => STORE_KEY,
        Write::RevokeKey(_) => END_KEY,
    }
}

async fn apply(connected: &Connected, write: &Write) -> Result<Written, tokio_postgres::Error> {
    match write {
        Write::Trace(entry) => store_trace(connected, entry).await,
        Write::Feedback(entry) => store_feedback(connected, entry).await,
        Write::Key(entry) => {
            let statement = connected.statement(STORE_KEY).await?;
            let json = to_json(entry);
            let values: [&(dyn ToSql + Sync); 3] = [&text(&entry.name), &text(&entry.hash), &json];
            let changed = connected.client.execute(&statement, &values).await?;
            Ok(if changed == 1 { Written::Stored } else { Written::Conflict })
        }
        Write::RevokeKey(name) => {
            let statement = connected.statement(END_KEY).await?;
            let changed = connected.client.execute(&statement, &[&text(name)]).await?;
            Ok(if changed == 1 { Written::Stored } else { Written::Missing })
        }
    }
}

async fn store_trace(connected: &Connected, entry: &TraceEntry) -> Result<Written, tokio_postgres::Error> {
    let TraceEntry { summary, request, response, trace } = entry;
    let usage = summary.usage;
    let statement = connected.statement(STORE_TRACE).await?;
    let values: [&(dyn ToSql + Sync); 18] = [
        &text(&summary.id),
        &whole(summary.created_ms),
        &text(&summary.recipe),
        &text(&summary.model),
        &text(&summary.key),
        &text(cut(&summary.question, LIST_CHARACTERS)),
        &text(&summary.answer),
        &summary.confidence,
        &summary.status.name(),
        &summary.elapsed_ms,
        &whole(usage.prompt_tokens),
        &whole(usage.completion_tokens),
        &whole(usage.calls),
        &usage.seconds,
        &usage.money,
        request,
        response,
        trace,
    ];
    connected.client.execute(&statement, &values).await?;
    Ok(Written::Stored)
}

async fn store_feedback(
    connected: &Connected,
    entry: &FeedbackEntry,
) -> Result<Written, tokio_postgres::Error> {
    let stored = connected.statement(STORE_FEEDBACK).await?;
    let (id, trace_id, hash) = (text(&entry.id), text(&entry.trace_id), entry.content_hash());
    let values: [&(dyn ToSql + Sync); 9] = [
        &id,
        &trace_id,
        &whole(entry.created_ms),
        &text(&entry.key),
        &entry.stage.map(i64::from),
        &entry.reaction.map(Reaction::name),
        &(entry.correction.is_some() || entry.edit.is_some()),
        &hash,
        &to_json(entry),
    ];
    if connected.client.execute(&stored, &values).await? == 1 {
        return Ok(Written::Stored);
    }
    // A statement of its own, so that it sees what another gateway stored while ours waited for it.
    let why = connected
        .statement(
            "SELECT EXISTS (SELECT 1 FROM elenchus_traces WHERE id = $2),
                 (SELECT hash FROM elenchus_feedback WHERE id = $1)",
        )
        .await?;
    let row = connected.client.query_one(&why, &[&id, &trace_id]).await?;
    let (trace_known, earlier): (bool, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
    Ok(match earlier {
        _ if !trace_known => Written::Missing,
        Some(earlier) if earlier == hash => Written::Known,
        _ => Written::Conflict,
    })
}

/// The WHERE clause of a list, with the values of its places and of the limit.
fn conditions(filter: &TraceFilter) -> (String, Vec<Box<dyn ToSql + Sync>>) {
    const REACTED: &str = "EXISTS (SELECT 1 FROM elenchus_feedback
        WHERE trace_id = elenchus_traces.id AND reaction IS NOT NULL)";
    let mut parts: Vec<String> = Vec::new();
    let mut values: Vec<Box<dyn ToSql + Sync>> = Vec::new();
    let mut place = |value: Box<dyn ToSql + Sync>| {
        values.push(value);
        format!("${}", values.len())
    };
    for (column, value) in [
        ("recipe", filter.recipe.as_deref()),
        ("model", filter.model.as_deref()),
        ("key", filter.key.as_deref()),
        ("status", filter.status.map(TraceStatus::name)),
    ] {
        if let Some(value) = value {
            parts.push(format!("{column} = {}", place(Box::new(text(value).into_owned()))));
        }
    }
    match filter.reaction.as_deref() {
        None => {}
        Some("any") => parts.push(REACTED.into()),
        Some("none") => parts.push(format!("NOT {REACTED}")),
        Some(reaction) => {
            let reaction = place(Box::new(text(reaction).into_owned()));
            parts.push(format!(
                "EXISTS (SELECT 1 FROM elenchus_feedback
                     WHERE trace_id = elenchus_traces.id AND reaction = {reaction})"
            ));
        }
    }
    if let Some(wanted) = &filter.text {
        // `strpos` and not LIKE: what a person types is no pattern.
        let wanted = place(Box::new(text(wanted).into_owned()));
        parts.push(format!(
            "(strpos(lower(question), lower({wanted})) > 0 OR strpos(lower(answer), lower({wanted})) > 0)"
        ));
    }
    if let Some((created, id)) = &filter.before {
        let (created, id) = (place(Box::new(whole(*created))), place(Box::new(text(id).into_owned())));
        parts.push(format!("(created_ms, id) < ({created}, {id})"));
    }
    place(Box::new(whole(filter.limit as u64)));
    let clause = if parts.is_empty() { String::new() } else { format!(" WHERE {}", parts.join(" AND ")) };
    (clause, values)
}
