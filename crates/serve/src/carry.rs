//! What a request says beyond sampling, put into every call of a role.

use async_trait::async_trait;
use elenchus_generate::{
    Capabilities, GenerateError, GenerateRequest, LanguageModel, ScoreRequest, Scored, StreamEvent,
};
use elenchus_trace::Completion;
use futures::stream::BoxStream;
use serde_json::{Map, Value};
use std::sync::Arc;

/// A model whose requests carry further fields; those that a strategy sets itself win.
pub(crate) struct Carrying {
    inner: Arc<dyn LanguageModel>,
    fields: Map<String, Value>,
}

impl Carrying {
    /// `model` itself when there is nothing to carry.
    pub fn around(model: Arc<dyn LanguageModel>, fields: Map<String, Value>) -> Arc<dyn LanguageModel> {
        if fields.is_empty() { model } else { Arc::new(Carrying { inner: model, fields }) }
    }

    fn with(&self, request: &GenerateRequest) -> GenerateRequest {
        let mut request = request.clone();
        for (name, value) in &self.fields {
            request.extra.entry(name.clone()).or_insert_with(|| value.clone());
        }
        request
    }
}

#[async_trait]
impl LanguageModel for Carrying {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn fingerprint(&self) -> String {
        self.inner.fingerprint()
    }

    fn count_tokens(&self, text: &str) -> u64 {
        self.inner.count_tokens(text)
    }

    fn price(&self) -> Option<elenchus_trace::Price> {
        self.inner.price()
    }

    fn host(&self) -> Option<String> {
        self.inner.host()
    }

    async fn generate(&self, request: &GenerateRequest) -> Result<Vec<Completion>, GenerateError> {
        self.inner.generate(&self.with(request)).await
    }

    async fn stream(
        &self,
        request: &GenerateRequest,
    ) -> Result<BoxStream<'static, Result<StreamEvent, GenerateError>>, GenerateError> {
        self.inner.stream(&self.with(request)).await
    }

    async fn score(&self, request: &ScoreRequest) -> Result<Vec<Scored>, GenerateError> {
        self.inner.score(request).await
    }

    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, GenerateError> {
        self.inner.embed(texts).await
    }
}
