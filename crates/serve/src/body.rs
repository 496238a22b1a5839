//! Bodies in and out, and the responses made of them.

use crate::ApiError;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderValue, RETRY_AFTER};
use hyper::{Request, Response, StatusCode};
use serde::Serialize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What breaks a response in the middle.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a response.
pub(crate) enum Body {
    /// All of it at once.
    Full(Option<Bytes>),
    /// As it comes.
    Stream(BoxStream<'static, Result<Bytes, BoxError>>),
}

/// A response.
pub(crate) type Reply = Response<Body>;

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Body::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Body::Stream(stream) => {
                stream.as_mut().poll_next(context).map(|item| item.map(|chunk| chunk.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Body::Stream(_) => SizeHint::default(),
        }
    }
}

impl Body {
    /// Keeps something until the response is over.
    pub fn holding<T: Send + 'static>(self, held: T) -> Self {
        match self {
            Body::Full(bytes) => Body::Full(bytes),
            Body::Stream(stream) => Body::Stream(
                stream
                    .map(move |piece| {
                        let _ = &held;
                        piece
                    })
                    .boxed(),
            ),
        }
    }
}

/// Request bodies up to here take no place among those that are held.
const SMALL_BYTES: usize = 64 << 10;
/// How long a body waits for a place.
const PLACE_WAITS: Duration = Duration::from_secs(5);

/// A place for the body of a request among all that are held at once: `None` for a small one. A body of unknown length takes
/// the place of the largest until it is read.
pub(crate) async fn place(
    places: &Arc<Semaphore>,
    request: &mut Request<Incoming>,
    most_bytes: usize,
    within: Duration,
) -> Result<Option<OwnedSemaphorePermit>, ApiError> {
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let bytes = announced.unwrap_or(most_bytes);
    // What is too large is refused before it is read.
    if bytes <= SMALL_BYTES || bytes > most_bytes {
        return Ok(None);
    }
    let wanted = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
    match tokio::time::timeout(PLACE_WAITS, Arc::clone(places).acquire_many_owned(wanted)).await {
        Ok(Ok(place)) => Ok(Some(place)),
        _ => {
            let most = announced.map_or(most_bytes.max(LEAST_DISCARDED), |_| MOST_DISCARDED);
            discard(request.body_mut(), most, within).await;
            let message = "as many bytes of requests are held as are allowed\nhint: `most_bytes_in_flight` in `[serve]` allows more";
            Err(ApiError { retry_after_seconds: Some(2), ..ApiError::unavailable("busy", message) })
        }
    }
}

/// Gives back what was taken for a body of unknown length and not needed.
pub(crate) fn shrink(place: &mut Option<OwnedSemaphorePermit>, bytes: usize) {
    let Some(held) = place else { return };
    let surplus = held.num_permits().saturating_sub(bytes.div_ceil(1024));
    drop(held.split(surplus));
}

/// A whole response.
pub(crate) fn full(status: StatusCode, kind: &'static str, bytes: impl Into<Bytes>) -> Reply {
    let bytes = bytes.into();
    let mut reply = Response::new(Body::Full(Some(bytes).filter(|bytes| !bytes.is_empty())));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}

/// A response of JSON.
pub(crate) fn json<T: Serialize>(status: StatusCode, value: &T) -> Reply {
    match serde_json::to_vec(value) {
        Ok(bytes) => full(status, "application/json", bytes),
        Err(error) => {
            let message = format!("the answer cannot be written as JSON: {error}");
            refuse(&ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message))
        }
    }
}

/// An error as a response.
pub(crate) fn refuse(error: &ApiError) -> Reply {
    let mut reply = full(error.status, "application/json", error.body().to_string());
    if let Some(seconds) = error.retry_after_seconds {
        reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    reply
}

/// Reads the body of a request, bounded in size and time.
pub(crate) async fn read(
    request: Request<Incoming>,
    most_bytes: usize,
    within: Duration,
) -> Result<Bytes, ApiError> {
    let too_large = || {
        let message = format!("the request body is larger than {most_bytes} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message)
    };
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    // Who asks beforehand whether to send has not begun.
    let asks_first = request.headers().contains_key(EXPECT);
    let mut body = request.into_body();
    if announced.is_some_and(|length: u64| length > most_bytes as u64) {
        if !asks_first {
            discard(&mut body, MOST_DISCARDED, within).await;
        }
        return Err(too_large());
    }
    let reading = Limited::new(&mut body, most_bytes).collect();
    match tokio::time::timeout(within, reading).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.downcast_ref::<http_body_util::LengthLimitError>().is_some() => {
            // One without a length may have no end.
            discard(&mut body, most_bytes.max(LEAST_DISCARDED), within).await;
            Err(too_large())
        }
        Ok(Err(error)) => Err(ApiError::bad("", format!("the request body broke off: {error}"))),
        Err(_) => {
            let message = format!("the request body did not arrive within {within:?}");
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message))
        }
    }
}

/// What is taken of a body that is refused: of one that announced its length, and of one that did not.
const MOST_DISCARDED: usize = 256 << 20;
const LEAST_DISCARDED: usize = 1 << 20;

/// Takes what still comes of a body that is refused, within bounds, and keeps nothing of it: a client that is cut off while it
/// writes never reads why.
async fn discard(body: &mut Incoming, most_bytes: usize, within: Duration) {
    let mut rest = Limited::new(body, most_bytes);
    let taken = async { while let Some(Ok(_)) = rest.frame().await {} };
    // The request is refused, however this ends.
    let _ = tokio::time::timeout(within, taken).await;
}

/// Refuses JSON that is nested deeper than `most`, without reading it in any other way.
pub(crate) fn check_depth(bytes: &[u8], most: usize) -> Result<(), ApiError> {
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    for &byte in bytes {
        if in_text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_text = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > most {
                    let message = format!("the request is nested deeper than {most} levels");
                    return Err(ApiError::bad("", message));
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_of_text_only() {
        assert!(check_depth(br#"{"a":[{"b":"[[[[[[["}]}"#, 3).is_ok());
        assert!(check_depth(br#"{"a":"\"[[[["}"#, 1).is_ok());
        assert!(check_depth(br#"{"a":[[1]]}"#, 2).is_err());
        assert!(check_depth(&vec![b'['; 1 << 20], 64).is_err());
        assert!(check_depth(&[], 0).is_ok());
    }
}
