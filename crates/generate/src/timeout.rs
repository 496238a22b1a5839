//! Bounds on how long a call may take.

use crate::{
    GenerateError, GenerateRequest, LanguageModel, LatentReading, LatentRequest, ScoreRequest, Scored,
    StreamEvent,
};
use async_trait::async_trait;
use elenchus_trace::Completion;
use futures::StreamExt;
use futures::stream::BoxStream;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// How long is waited for what, in seconds. Use a large number for no bound.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// Until a connection stands.
    pub connect_seconds: f64,
    /// From the request to the head of the answer. A server that does not stream writes it when it has generated all.
    pub first_byte_seconds: f64,
    /// Between two pieces of an answer.
    pub idle_seconds: f64,
    /// From the request to the end of the answer.
    pub total_seconds: f64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect_seconds: 10.0,
            first_byte_seconds: 600.0,
            idle_seconds: 120.0,
            total_seconds: 1200.0,
        }
    }
}

/// Longer waits are no waits: a year.
const LONGEST_SECONDS: f64 = 365.0 * 86_400.0;

fn duration(seconds: f64) -> Duration {
    // Not a number becomes the longest wait, a negative number none.
    if seconds.is_nan() {
        return Duration::from_secs_f64(LONGEST_SECONDS);
    }
    Duration::from_secs_f64(seconds.clamp(0.0, LONGEST_SECONDS))
}

impl Timeouts {
    /// Until a connection stands.
    pub fn connect(&self) -> Duration {
        duration(self.connect_seconds)
    }

    /// From the request to the head of the answer.
    pub fn first_byte(&self) -> Duration {
        duration(self.first_byte_seconds)
    }

    /// Between two pieces of an answer.
    pub fn idle(&self) -> Duration {
        duration(self.idle_seconds)
    }

    /// From the request to the end of the answer.
    pub fn total(&self) -> Duration {
        duration(self.total_seconds)
    }
}

/// A model whose calls end after a time: the whole call after `total`, a stream also when its first piece takes longer
/// than `first_byte` or a later one longer than `idle`.
pub struct TimeoutLayer {
    inner: Arc<dyn LanguageModel>,
    timeouts: Timeouts,
}

impl TimeoutLayer {
    /// Bounds the calls of `inner`.
    pub fn new(inner: Arc<dyn LanguageModel>, timeouts: Timeouts) -> Self {
        TimeoutLayer { inner, timeouts }
    }

    async fn total<T>(
        &self,
        call: impl Future<Output = Result<T, GenerateError>>,
    ) -> Result<T, GenerateError> {
        match tokio::time::timeout(self.timeouts.total(), call).await {
            Ok(result) => result,
            Err(_) => Err(late(self.inner.name(), self.timeouts.total(), "total")),
        }
    }
}

fn late(model: &str, limit: Duration, which: &str) -> GenerateError {
    GenerateError::Unavailable {
        model: model.into(),
        what: format!("no end of the answer within {limit:?}"),
        hint: format!("raise `timeouts.{which}_seconds`, or ask for fewer tokens"),
        retry_after_seconds: None,
        retryable: true,
    }
}

#[async_trait]
impl LanguageModel for TimeoutLayer {
    crate::model::same_model!();

    async fn generate(&self, request: &GenerateRequest) -> Result<Vec<Completion>, GenerateError> {
        self.total(self.inner.generate(request)).await
    }

    async fn stream(
        &self,
        request: &GenerateRequest,
    ) -> Result<BoxStream<'static, Result<StreamEvent, GenerateError>>, GenerateError> {
        let deadline = tokio::time::Instant::now() + self.timeouts.total();
        let inner = self.total(self.inner.stream(request)).await?;
        let (timeouts, name) = (self.timeouts, self.inner.name().to_string());
        let stream = futures::stream::unfold(Some((inner, true)), move |state| {
            let name = name.clone();
            async move {
                let (mut inner, first) = state?;
                let (pause, which) =
                    if first { (timeouts.first_byte(), "first_byte") } else { (timeouts.idle(), "idle") };
                let left = deadline.saturating_duration_since(tokio::time::Instant::now());
                let (wait, limit, which) =
                    if left < pause { (left, timeouts.total(), "total") } else { (pause, pause, which) };
                match tokio::time::timeout(wait, inner.next()).await {
                    Err(_) => Some((Err(late(&name, limit, which)), None)),
                    Ok(None) => None,
                    Ok(Some(event)) => {
                        let rest = event.is_ok().then_some((inner, false));
                        Some((event, rest))
                    }
                }
            }
        });
        Ok(stream.boxed())
    }

    async fn score(&self, request: &ScoreRequest) -> Result<Vec<Scored>, GenerateError> {
        self.total(self.inner.score(request)).await
    }

    async fn latent(&self, request: &LatentRequest) -> Result<LatentReading, GenerateError> {
        self.total(self.inner.latent(request)).await
    }

    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, GenerateError> {
        self.total(self.inner.embed(texts)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scripted;
    use elenchus_trace::Message;

    fn request() -> GenerateRequest {
        GenerateRequest::new(vec![Message::user("hello")])
    }

    #[tokio::test]
    async fn a_late_answer_is_an_error_that_may_be_retried() {
        let slow = Scripted::new("slow").delay(Duration::from_secs(5)).on("", ["late"]);
        let layer = TimeoutLayer::new(slow.shared(), Timeouts { total_seconds: 0.02, ..Timeouts::default() });
        let started = std::time::Instant::now();
        let error = layer.generate(&request()).await.unwrap_err();
        assert!(matches!(error, GenerateError::Unavailable { retryable: true, .. }), "{error}");
        assert!(error.to_string().contains("timeouts.total_seconds"));
        assert!(layer.stream(&request()).await.is_err());
        assert!(started.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn strange_numbers_are_no_panic() {
        assert_eq!(duration(-3.0), Duration::ZERO);
        assert_eq!(duration(f64::NAN), duration(f64::INFINITY));
    }
}
