//! Bodies in and out, and the responses made of them.

use crate::ApiError;
use bytes::{Bytes, BytesMut};
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

/// The body of a request, with its place among those that are held at once.
pub(crate) struct Received {
    pub bytes: Bytes,
    pub place: Place,
}

/// What a body holds of the bytes that all of them may hold at once: nothing as long as it is small, and no more than has come,
/// so that a client that writes slowly holds little.
#[derive(Debug, Default)]
pub(crate) struct Place(Option<OwnedSemaphorePermit>);

impl Place {
    /// Bodies up to here hold nothing.
    const SMALL_BYTES: usize = 64 << 10;
    /// How long a body waits for more.
    const WAITS: Duration = Duration::from_secs(5);

    /// Holds so many bytes of `places`, which are counted in KiB.
    ///
    /// # Errors
    /// The others give nothing back meanwhile.
    async fn grow(&mut self, places: &Arc<Semaphore>, bytes: usize) -> Result<(), ApiError> {
        let held = self.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let wanted = bytes.div_ceil(1024).saturating_sub(held);
        if bytes <= Self::SMALL_BYTES || wanted == 0 {
            return Ok(());
        }
        let more = Arc::clone(places).acquire_many_owned(u32::try_from(wanted).unwrap_or(u32::MAX));
        let Ok(Ok(more)) = tokio::time::timeout(Self::WAITS, more).await else {
            let message = "as many bytes of requests are held as are allowed\nhint: `most_bytes_in_flight` in `[serve]` \
                           allows more";
            return Err(ApiError { retry_after_seconds: Some(2), ..ApiError::unavailable("busy", message) });
        };
        match &mut self.0 {
            Some(held) => held.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }
}

/// Reads the body of a request, bounded in size and time. It holds its bytes of `places` until it is dropped.
///
/// # Errors
/// It is too large, does not come in time, breaks off, or there is no place for it. What still comes of it is taken, so that
/// its client reads why.
pub(crate) async fn read(
    request: Request<Incoming>,
    places: &Arc<Semaphore>,
    most_bytes: usize,
    within: Duration,
) -> Result<Received, ApiError> {
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    // Who asks beforehand whether to send has not begun.
    let asks_first = request.headers().contains_key(EXPECT);
    let mut body = request.into_body();
    let too_large = announced.is_some_and(|length: u64| length > most_bytes as u64);
    let reading = async {
        match too_large {
            true => Err(larger_than(most_bytes)),
            false => collected(&mut body, places, most_bytes).await,
        }
    };
    let refused = match tokio::time::timeout(within, reading).await {
        Ok(Ok(received)) => return Ok(received),
        Ok(Err(error)) => error,
        Err(_) => {
            let message = format!("the request body did not arrive within {within:?}");
            return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message));
        }
    };
    if !(too_large && asks_first) {
        // One without a length may have no end.
        let most = announced.map_or(most_bytes.max(LEAST_DISCARDED), |_| MOST_DISCARDED);
        discard(&mut body, most, within).await;
    }
    Err(refused)
}

fn larger_than(most_bytes: usize) -> ApiError {
    let message = format!("the request body is larger than {most_bytes} bytes");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message)
}

/// A body as it comes.
async fn collected(
    body: &mut Incoming,
    places: &Arc<Semaphore>,
    most_bytes: usize,
) -> Result<Received, ApiError> {
    let (mut bytes, mut place) = (BytesMut::new(), Place::default());
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| ApiError::bad("", format!("the request body broke off: {error}")))?;
        let Ok(piece) = frame.into_data() else { continue };
        let length = bytes.len() + piece.len();
        if length > most_bytes {
            return Err(larger_than(most_bytes));
        }
        place.grow(places, length).await?;
        bytes.extend_from_slice(&piece);
    }
    Ok(Received { bytes: bytes.freeze(), place })
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
