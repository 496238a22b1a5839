//! Runs of `improve` and other commands, to look at: a list, one run with what it measured, and its report.

use crate::ApiError;
use crate::body::{Reply, full, json as reply_json};
use crate::state::State;
use elenchus_remember::{RememberError, RunDetails, RunSummary, Runs};
use hyper::StatusCode;
use hyper::header::HeaderValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a report may do in a browser: nothing but show itself, framed by our page alone.
const POLICY: &str = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'self'";

/// The runs of the folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunList {
    /// Whether a folder of runs was named (`--runs DIR`, or `runs` in `[serve]`).
    pub configured: bool,
    /// Last written first.
    pub data: Vec<RunSummary>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunReply {
    /// The run.
    #[serde(flatten)]
    pub details: RunDetails,
    /// Address of its report, where there is one. A browser cannot send a key along with a frame, so the address holds
    /// a ticket, which nobody guesses and which ends with the gateway's process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<String>,
}

/// Gives out tickets for reports and knows its own again.
pub(crate) struct Tickets([u8; 32]);

impl Default for Tickets {
    fn default() -> Self {
        Tickets(rand::RngExt::random(&mut rand::rng()))
    }
}

impl Tickets {
    fn of(&self, name: &str) -> blake3::Hash {
        blake3::keyed_hash(&self.0, name.as_bytes())
    }

    fn fits(&self, name: &str, ticket: &str) -> bool {
        // The comparison takes the same time wherever they differ.
        blake3::Hash::from_hex(ticket).is_ok_and(|ticket| ticket == self.of(name))
    }
}

async fn look<T: Send + 'static>(
    state: &State,
    work: impl FnOnce(&Runs) -> Result<T, RememberError> + Send + 'static,
) -> Result<Option<T>, ApiError> {
    let Some(folder) = state.live().settings.runs.clone() else { return Ok(None) };
    let looked = tokio::task::spawn_blocking(move || work(&Runs::new(folder))).await;
    let failed = |error: String| ApiError::unavailable("runs_unavailable", error);
    match looked {
        Ok(Ok(value)) => Ok(Some(value)),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(error) => Err(failed(error.to_string())),
    }
}

fn unknown(name: &str) -> ApiError {
    let shown: String = name.chars().take(80).collect();
    ApiError::not_found(format!("there is no run `{shown}`")).param("name")
}

/// `GET /v1/runs`
pub(crate) async fn list(state: &Arc<State>) -> Result<Reply, ApiError> {
    let found = look(state, Runs::list).await?;
    let list = RunList { configured: found.is_some(), data: found.unwrap_or_default() };
    Ok(reply_json(StatusCode::OK, &list))
}

/// `GET /v1/runs/{name}`
pub(crate) async fn one(state: &Arc<State>, name: &str) -> Result<Reply, ApiError> {
    let wanted = name.to_string();
    let details = look(state, move |runs| runs.details(&wanted)).await?.flatten();
    let details = details.ok_or_else(|| unknown(name))?;
    let ticket = || format!("/v1/runs/{name}/report?ticket={}", state.tickets.of(name).to_hex());
    let report = details.summary.has_report.then(ticket);
    Ok(reply_json(StatusCode::OK, &RunReply { details, report }))
}

/// `GET /v1/runs/{name}/report`
pub(crate) async fn report(state: &Arc<State>, name: &str, ticket: Option<&str>) -> Result<Reply, ApiError> {
    if !ticket.is_some_and(|ticket| state.tickets.fits(name, ticket)) {
        let message =
            "the ticket is missing or of another process\nhint: `GET /v1/runs/{name}` gives the address";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "wrong_ticket", message).param("ticket"));
    }
    let wanted = name.to_string();
    let found = look(state, move |runs| runs.report(&wanted)).await?.flatten();
    let mut reply = full(StatusCode::OK, "text/html; charset=utf-8", found.ok_or_else(|| unknown(name))?);
    let headers = reply.headers_mut();
    headers.insert("content-security-policy", HeaderValue::from_static(POLICY));
    headers.insert("referrer-policy", HeaderValue::from_static("no-referrer"));
    headers.insert("cache-control", HeaderValue::from_static("no-store"));
    Ok(reply)
}
