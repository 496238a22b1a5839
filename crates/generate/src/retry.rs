//! Trying again.

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
use std::time::{Duration, Instant};

/// When and how often a failed call is made again.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetrySettings {
    /// Attempts in all; 1 never tries again.
    pub attempts: u32,
    /// Longest wait before the second attempt, seconds; doubles with each further one.
    pub base_seconds: f64,
    /// Longest wait before any attempt, seconds. A server that asks for more ends the call.
    pub longest_wait_seconds: f64,
    /// No attempt begins later than this after the first, seconds.
    pub total_seconds: f64,
}

impl Default for RetrySettings {
    fn default() -> Self {
        RetrySettings { attempts: 6, base_seconds: 0.5, longest_wait_seconds: 60.0, total_seconds: 300.0 }
    }
}

impl RetrySettings {
    /// The wait before attempt `next` (the second is 2) in seconds, or `None` to give up.
    ///
    /// Full jitter: uniform in `[0, min(longest, base · 2^(next − 2)))`, so that many clients that failed together do
    /// not come back together. What the server asks for is waited in full, the jitter on top of it.
    fn wait(&self, next: u32, asked: Option<f64>, spent: f64, uniform: f64) -> Option<f64> {
        if next > self.attempts {
            return None;
        }
        let exponent = i32::try_from(next.saturating_sub(2)).unwrap_or(i32::MAX).min(62);
        let ceiling = (self.base_seconds.max(0.0) * 2f64.powi(exponent)).min(self.longest_wait_seconds);
        let wait = match asked {
            Some(asked) if asked > self.longest_wait_seconds => return None,
            Some(asked) => asked + uniform * self.base_seconds.clamp(0.0, ceiling.max(0.0)),
            None => uniform * ceiling.max(0.0),
        };
        (spent + wait <= self.total_seconds).then_some(wait)
    }
}

/// A model whose retryable failures are tried again with exponential back-off and full jitter.
pub struct RetryLayer {
    inner: Arc<dyn LanguageModel>,
    settings: RetrySettings,
}

impl RetryLayer {
    /// Tries calls of `inner` again.
    pub fn new(inner: Arc<dyn LanguageModel>, settings: RetrySettings) -> Self {
        RetryLayer { inner, settings }
    }

    async fn run<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, GenerateError>
    where
        F: Future<Output = Result<T, GenerateError>>,
    {
        let started = Instant::now();
        let mut attempt = 1;
        loop {
            let error = match call().await {
                Ok(result) => return Ok(result),
                Err(error) => error,
            };
            let GenerateError::Unavailable { retryable: true, retry_after_seconds, .. } = &error else {
                return Err(error);
            };
            let spent = started.elapsed().as_secs_f64();
            let Some(wait) = self.settings.wait(attempt + 1, *retry_after_seconds, spent, rand::random())
            else {
                return Err(given_up(error, attempt, spent));
            };
            tokio::time::sleep(Duration::from_secs_f64(wait)).await;
            attempt += 1;
        }
    }
}

fn given_up(mut error: GenerateError, attempts: u32, spent: f64) -> GenerateError {
    if let GenerateError::Unavailable { what, retry_after_seconds, .. } = &mut error {
        if let Some(asked) = retry_after_seconds {
            what.push_str(&format!(" (it asks to wait {asked:.0} s)"));
        }
        if attempts > 1 {
            what.push_str(&format!(" (after {attempts} attempts in {spent:.1} s)"));
        }
    }
    error
}

#[async_trait]
impl LanguageModel for RetryLayer {
    crate::model::same_model!();

    async fn generate(&self, request: &GenerateRequest) -> Result<Vec<Completion>, GenerateError> {
        self.run(|| self.inner.generate(request)).await
    }

    /// A stream is tried again until its first piece is there; later failures reach the reader, who has seen text.
    async fn stream(
        &self,
        request: &GenerateRequest,
    ) -> Result<BoxStream<'static, Result<StreamEvent, GenerateError>>, GenerateError> {
        self.run(|| async {
            let mut stream = self.inner.stream(request).await?;
            match stream.next().await {
                Some(Ok(first)) => {
                    Ok(futures::stream::once(std::future::ready(Ok(first))).chain(stream).boxed())
                }
                Some(Err(error)) => Err(error),
                None => Ok(futures::stream::empty().boxed()),
            }
        })
        .await
    }

    async fn score(&self, request: &ScoreRequest) -> Result<Vec<Scored>, GenerateError> {
        self.run(|| self.inner.score(request)).await
    }

    async fn latent(&self, request: &LatentRequest) -> Result<LatentReading, GenerateError> {
        self.run(|| self.inner.latent(request)).await
    }

    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, GenerateError> {
        self.run(|| self.inner.embed(texts)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scripted;
    use elenchus_trace::Message;

    fn failure(retryable: bool, retry_after_seconds: Option<f64>) -> GenerateError {
        GenerateError::Unavailable {
            model: "m".into(),
            what: "500".into(),
            hint: "wait".into(),
            retry_after_seconds,
            retryable,
        }
    }

    fn quick() -> RetrySettings {
        RetrySettings { base_seconds: 0.001, ..RetrySettings::default() }
    }

    fn request() -> GenerateRequest {
        GenerateRequest::new(vec![Message::user("hello")])
    }

    #[test]
    fn waits_double_up_to_the_longest_and_end_with_the_time() {
        let settings =
            RetrySettings { attempts: 10, base_seconds: 1.0, longest_wait_seconds: 5.0, total_seconds: 60.0 };
        let waits: Vec<_> = (2..=6).map(|next| settings.wait(next, None, 0.0, 1.0)).collect();
        assert_eq!(waits, [Some(1.0), Some(2.0), Some(4.0), Some(5.0), Some(5.0)]);
        assert_eq!(settings.wait(3, None, 0.0, 0.25), Some(0.5), "full jitter begins at 0");
        assert_eq!(
            settings.wait(2, Some(3.0), 0.0, 0.0),
            Some(3.0),
            "what the server asks is waited in full"
        );
        assert_eq!(settings.wait(2, Some(30.0), 0.0, 0.0), None, "longer than allowed");
        assert_eq!(settings.wait(11, None, 0.0, 0.0), None);
        assert_eq!(settings.wait(5, None, 59.0, 1.0), None, "the time is up");
    }

    #[tokio::test]
    async fn retryable_failures_are_tried_again_and_others_are_not() {
        let model = Scripted::new("m")
            .on_completions(
                "",
                [Err(failure(true, None)), Err(failure(true, None)), Ok(Completion::text("done"))],
            )
            .shared();
        let layer = RetryLayer::new(model.clone(), quick());
        assert_eq!(layer.generate(&request()).await.unwrap()[0].text, "done");
        assert_eq!(model.calls(), 3);

        let model = Scripted::new("m").on_completions("", [Err(failure(false, None))]).shared();
        assert!(RetryLayer::new(model.clone(), quick()).generate(&request()).await.is_err());
        assert_eq!(model.calls(), 1);
    }

    #[tokio::test]
    async fn the_last_error_says_how_often_it_was_tried() {
        let model = Scripted::new("m").on_completions("", [Err(failure(true, None))]).shared();
        let layer = RetryLayer::new(model.clone(), RetrySettings { attempts: 3, ..quick() });
        let error = layer.generate(&request()).await.unwrap_err().to_string();
        assert!(error.contains("after 3 attempts"), "{error}");
        assert_eq!(model.calls(), 3);
    }

    #[tokio::test]
    async fn the_wait_that_the_server_asks_for_is_kept() {
        let model = Scripted::new("m")
            .on_completions("", [Err(failure(true, Some(0.15))), Ok(Completion::text("done"))])
            .shared();
        let layer = RetryLayer::new(model, quick());
        let started = Instant::now();
        layer.generate(&request()).await.unwrap();
        assert!(started.elapsed() >= Duration::from_millis(150));
    }
}
