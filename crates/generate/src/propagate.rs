//! The caller's trace context (W3C), handed on with every call to a server.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

tokio::task_local! {
    static CURRENT: TraceContext;
}

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The headers `traceparent` and `tracestate` of whoever makes calls now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceContext {
    /// Which trace a call belongs to; without it nothing is handed on.
    pub traceparent: Option<HeaderValue>,
    /// What other systems along the way have noted.
    pub tracestate: Option<HeaderValue>,
}

impl TraceContext {
    /// Runs work whose calls carry this context. It holds for everything that the same task does; a task that is spawned
    /// takes it along with [`TraceContext::kept`].
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        CURRENT.scope(self, work).await
    }

    /// Work that carries the context of the task that calls this, wherever it is spawned.
    pub fn kept<F: Future>(work: F) -> impl Future<Output = F::Output> {
        let current = CURRENT.try_with(Clone::clone).unwrap_or_default();
        CURRENT.scope(current, work)
    }

    /// Adds the context of the current task to the headers of a request.
    pub(crate) fn add_to(headers: &mut HeaderMap) {
        // Outside of any scope there is nothing to hand on.
        let _ = CURRENT.try_with(|current| {
            if let Some(parent) = &current.traceparent {
                headers.insert(TRACEPARENT, parent.clone());
                if let Some(state) = &current.tracestate {
                    headers.insert(TRACESTATE, state.clone());
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_context_holds_for_its_work_and_for_tasks_that_keep_it() {
        let found = || {
            let mut headers = HeaderMap::new();
            TraceContext::add_to(&mut headers);
            headers.get("traceparent").map(|value| value.to_str().unwrap().to_string())
        };
        assert_eq!(found(), None);
        let context =
            TraceContext { traceparent: Some(HeaderValue::from_static("00-1-2-01")), tracestate: None };
        let work = async {
            let spawned = tokio::spawn(async move { found() }).await.unwrap();
            let kept = tokio::spawn(TraceContext::kept(async move { found() })).await.unwrap();
            (found(), spawned, kept)
        };
        let seen = context.scope(work).await;
        assert_eq!(seen, (Some("00-1-2-01".into()), None, Some("00-1-2-01".into())));
        assert_eq!(found(), None);
    }
}
