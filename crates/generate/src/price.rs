//! What calls cost.

use crate::{
    GenerateError, GenerateRequest, LanguageModel, LatentReading, LatentRequest, ScoreRequest, Scored,
    StreamEvent,
};
use async_trait::async_trait;
use elenchus_trace::{Completion, Price};
use futures::StreamExt;
use futures::stream::BoxStream;
use std::sync::Arc;

/// A model whose usage carries the money it cost by a price table.
pub struct PriceLayer {
    inner: Arc<dyn LanguageModel>,
    price: Price,
}

impl PriceLayer {
    /// Prices the usage of `inner`.
    pub fn new(inner: Arc<dyn LanguageModel>, price: Price) -> Self {
        PriceLayer { inner, price }
    }
}

#[async_trait]
impl LanguageModel for PriceLayer {
    crate::model::same_model!(but its price);

    fn price(&self) -> Option<Price> {
        Some(self.price)
    }

    async fn generate(&self, request: &GenerateRequest) -> Result<Vec<Completion>, GenerateError> {
        let mut completions = self.inner.generate(request).await?;
        completions
            .iter_mut()
            .for_each(|completion| completion.usage.money = self.price.of(&completion.usage));
        Ok(completions)
    }

    async fn stream(
        &self,
        request: &GenerateRequest,
    ) -> Result<BoxStream<'static, Result<StreamEvent, GenerateError>>, GenerateError> {
        let price = self.price;
        let inner = self.inner.stream(request).await?;
        let priced = inner.map(move |event| {
            event.map(|event| match event {
                StreamEvent::Done { index, mut completion } => {
                    completion.usage.money = price.of(&completion.usage);
                    StreamEvent::Done { index, completion }
                }
                text => text,
            })
        });
        Ok(priced.boxed())
    }

    async fn score(&self, request: &ScoreRequest) -> Result<Vec<Scored>, GenerateError> {
        let mut scored = self.inner.score(request).await?;
        scored.iter_mut().for_each(|scored| scored.usage.money = self.price.of(&scored.usage));
        Ok(scored)
    }

    async fn latent(&self, request: &LatentRequest) -> Result<LatentReading, GenerateError> {
        let mut reading = self.inner.latent(request).await?;
        reading.usage.money = self.price.of(&reading.usage);
        Ok(reading)
    }

    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, GenerateError> {
        self.inner.embed(texts).await
    }
}
