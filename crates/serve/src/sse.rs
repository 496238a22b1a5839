//! Server-sent events.

use crate::body::{Body, Reply};
use bytes::Bytes;
use hyper::Response;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use serde_json::Value;

/// A piece that every OpenAI client reads.
pub(crate) fn data(value: &Value) -> Bytes {
    Bytes::from(format!("data: {value}\n\n"))
}

/// A piece that OpenAI clients do not see: a comment, which the rules of server-sent events have them skip. JSON has no
/// line ends outside of its texts, and those are escaped, so a comment is always one line.
pub(crate) fn comment<T: Serialize>(value: &T) -> Bytes {
    let text = serde_json::to_string(value).unwrap_or_default();
    Bytes::from(format!(": elenchus {text}\n\n"))
}

/// The end, as OpenAI says it.
pub(crate) const DONE: &[u8] = b"data: [DONE]\n\n";

/// Says that we are still there.
pub(crate) const PING: &[u8] = b": ping\n\n";

/// The response.
pub(crate) fn reply(
    stream: impl futures::Stream<Item = Result<Bytes, crate::body::BoxError>> + Send + 'static,
) -> Reply {
    let mut reply = Response::new(Body::Stream(Box::pin(stream)));
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    reply
}
