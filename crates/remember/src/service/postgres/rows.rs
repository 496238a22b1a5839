//! What stands in a row, and what PostgreSQL's types make of ours.

use super::connection::Connected;
use crate::service::{FeedbackEntry, ListedTrace, Reaction, TraceEntry, TraceStatus, TraceSummary};
use elenchus_trace::Usage;
use std::borrow::Cow;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

/// Columns of a trace in a list.
pub(super) const LISTED: &str =
    "id, created_ms, recipe, model, key, left(question, 400), left(answer, 400), confidence,
    status, elapsed_ms, prompt_tokens, completion_tokens, calls, seconds, money,
    (SELECT reaction FROM elenchus_feedback
        WHERE trace_id = elenchus_traces.id AND reaction IS NOT NULL AND stage IS NULL
        ORDER BY created_ms DESC, place DESC LIMIT 1)";
/// Columns of a whole trace.
pub(super) const WHOLE: &str =
    "id, created_ms, recipe, model, key, question, answer, confidence, status, elapsed_ms,
    prompt_tokens, completion_tokens, calls, seconds, money, request, response, trace";

/// A struct of strings and numbers always serializes.
pub(super) fn to_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// What PostgreSQL's text can hold.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

pub(super) fn count(row: &Row, column: usize) -> Result<u64, tokio_postgres::Error> {
    Ok(row.try_get::<_, i64>(column)?.unsigned_abs())
}

pub(super) fn usage(row: &Row, first: usize) -> Result<Usage, tokio_postgres::Error> {
    Ok(Usage {
        prompt_tokens: count(row, first)?,
        completion_tokens: count(row, first + 1)?,
        calls: count(row, first + 2)?,
        seconds: row.try_get(first + 3)?,
        money: row.try_get(first + 4)?,
    })
}

/// Text that says how a request ended.
pub(super) struct Status(TraceStatus);

impl<'a> FromSql<'a> for Status {
    fn from_sql(
        kind: &tokio_postgres::types::Type,
        raw: &'a [u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        let name = <&str>::from_sql(kind, raw)?;
        TraceStatus::from_name(name).map(Status).ok_or_else(|| format!("there is no status `{name}`").into())
    }

    fn accepts(kind: &tokio_postgres::types::Type) -> bool {
        <&str as FromSql<'_>>::accepts(kind)
    }
}

/// Text that is JSON.
pub(super) struct Json<T>(pub T);

impl<'a, T: serde::de::DeserializeOwned> FromSql<'a> for Json<T> {
    fn from_sql(
        kind: &tokio_postgres::types::Type,
        raw: &'a [u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Json(serde_json::from_str(<&str>::from_sql(kind, raw)?)?))
    }

    fn accepts(kind: &tokio_postgres::types::Type) -> bool {
        <&str as FromSql<'_>>::accepts(kind)
    }
}

fn summary(row: &Row) -> Result<TraceSummary, tokio_postgres::Error> {
    Ok(TraceSummary {
        id: row.try_get(0)?,
        created_ms: count(row, 1)?,
        recipe: row.try_get(2)?,
        model: row.try_get(3)?,
        key: row.try_get(4)?,
        question: row.try_get(5)?,
        answer: row.try_get(6)?,
        confidence: row.try_get(7)?,
        status: row.try_get::<_, Status>(8)?.0,
        elapsed_ms: row.try_get(9)?,
        usage: usage(row, 10)?,
    })
}

pub(super) fn listed(row: &Row) -> Result<ListedTrace, tokio_postgres::Error> {
    let reaction: Option<&str> = row.try_get(15)?;
    Ok(ListedTrace { summary: summary(row)?, reaction: reaction.and_then(Reaction::from_name) })
}

pub(super) fn entry(row: &Row) -> Result<TraceEntry, tokio_postgres::Error> {
    Ok(TraceEntry {
        summary: summary(row)?,
        request: row.try_get(15)?,
        response: row.try_get(16)?,
        trace: row.try_get(17)?,
    })
}

/// What was said of these traces, trace by trace, oldest first; traces without feedback are left out.
pub(super) async fn feedback(
    connected: &Connected,
    traces: &[Cow<'_, str>],
) -> Result<Vec<(String, Vec<FeedbackEntry>)>, tokio_postgres::Error> {
    let statement = connected
        .statement(
            "SELECT trace_id, entry FROM elenchus_feedback WHERE trace_id = ANY ($1)
             ORDER BY trace_id, created_ms, place",
        )
        .await?;
    let mut found: Vec<(String, Vec<FeedbackEntry>)> = Vec::new();
    for row in connected.client.query(&statement, &[&traces]).await? {
        let (id, Json(said)): (String, Json<FeedbackEntry>) = (row.try_get(0)?, row.try_get(1)?);
        match found.last_mut() {
            Some((last, list)) if *last == id => list.push(said),
            _ => found.push((id, vec![said])),
        }
    }
    Ok(found)
}
