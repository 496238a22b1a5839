//! The layers that a model behind a network needs, in their order.

use crate::limit::{HostLimits, LimitLayer, LimitSettings};
use crate::retry::{RetryLayer, RetrySettings};
use crate::timeout::{TimeoutLayer, Timeouts};
use crate::{GenerateError, LanguageModel};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Settings of the layers. Clones share the limits per host.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LayerSettings {
    /// Trying again.
    pub retry: RetrySettings,
    /// Calls at once per host.
    pub limit: LimitSettings,
    /// How long each attempt may take.
    pub timeouts: Timeouts,
    /// The limits that are shared.
    #[serde(skip)]
    pub hosts: HostLimits,
}

/// Wraps a model, from outside: retry, limit per host, timeout. A wait before a retry holds no place at the host, and
/// a wait for a place does not count as time of the attempt. Models without a host get no limit: the embedded engine
/// batches what runs at once.
///
/// Budget, cache, journal and prices are the [`crate::Context`]'s, outside of these.
pub fn stack(
    model: Arc<dyn LanguageModel>,
    settings: &LayerSettings,
) -> Result<Arc<dyn LanguageModel>, GenerateError> {
    let wrap = |model: Arc<dyn LanguageModel>| -> Result<Arc<dyn LanguageModel>, GenerateError> {
        let host = model.host();
        let mut model: Arc<dyn LanguageModel> = Arc::new(TimeoutLayer::new(model, settings.timeouts));
        if let Some(host) = host {
            let limit = settings.hosts.of(&host, settings.limit)?;
            model = Arc::new(LimitLayer::new(model, limit));
        }
        Ok(Arc::new(RetryLayer::new(model, settings.retry)))
    };
    model.with_layers(&wrap).unwrap_or_else(|| wrap(model))
}
