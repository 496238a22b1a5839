//! The servers that are asked: weights, health, and which is tried next.

use crate::{ApiError, ServeError};
use async_trait::async_trait;
use elenchus_generate::{
    Capabilities, GenerateError, GenerateRequest, LanguageModel, LayerSettings, OpenAi, OpenAiConfig,
    StreamEvent, Timeouts, stack,
};
use elenchus_recipe::UpstreamSettings;
use elenchus_trace::Completion;
use futures::stream::BoxStream;
use hyper::header::HeaderValue;
use rand::RngExt;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures in a row after which an upstream rests.
const FAILURES_TO_OPEN: u32 = 5;
/// How long it rests before one request may try again.
const REST: Duration = Duration::from_secs(10);
/// Models with a caller's own key that are kept ready.
const MOST_MODELS: usize = 256;

#[derive(Debug, Default)]
struct Breaker {
    failures: u32,
    /// Until when nothing is sent; then one request at a time may try.
    resting: Option<Instant>,
}

/// One server.
pub(crate) struct Upstream {
    pub name: String,
    pub base_url: String,
    pub key: Option<HeaderValue>,
    key_text: Option<String>,
    pub settings: UpstreamSettings,
    pub client: reqwest::Client,
    breaker: Mutex<Breaker>,
    pub requests: AtomicU64,
    pub failures: AtomicU64,
}

impl Upstream {
    fn new(settings: &UpstreamSettings) -> Result<Self, ServeError> {
        let wrong = |what: String| {
            ServeError::setting(
                format!("upstream `{}`: {what}", settings.base_url),
                "give a base URL such as http://localhost:8000/v1",
            )
        };
        let url = reqwest::Url::parse(&settings.base_url).map_err(|error| wrong(error.to_string()))?;
        let (true, Some(host)) = (matches!(url.scheme(), "http" | "https"), url.host_str()) else {
            return Err(wrong("not the address of a server".into()));
        };
        let place = url.port().map_or(host.to_string(), |port| format!("{host}:{port}"));
        let key_text = match &settings.api_key_variable {
            None => None,
            Some(variable) => std::env::var(variable).ok().map(|key| key.trim().to_string()),
        };
        let key_text = key_text.filter(|key| !key.is_empty());
        let key = match &key_text {
            None => None,
            Some(key) => {
                let mut value = HeaderValue::try_from(format!("Bearer {key}"))
                    .map_err(|_| wrong("its key holds signs that no header can carry".into()))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        // The TLS library has no default of its own here; a provider that the program installed earlier stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(1024)
            .tcp_nodelay(true)
            .connect_timeout(Duration::from_secs(10));
        if url.scheme() == "http" {
            builder = builder.tls_certs_only([]);
        }
        let loopback = host == "localhost"
            || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if loopback {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| wrong(error.to_string()))?;
        Ok(Upstream {
            name: settings.name.clone().unwrap_or(place),
            base_url: settings.base_url.trim_end_matches('/').to_string(),
            key,
            key_text,
            settings: settings.clone(),
            client,
            breaker: Mutex::default(),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        })
    }

    fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it may be asked now. After a rest the first who asks tries, and the others wait for how that ends.
    fn admits(&self) -> bool {
        let mut breaker = self.breaker();
        match breaker.resting {
            None => true,
            Some(until) if Instant::now() >= until => {
                breaker.resting = Some(Instant::now() + REST);
                true
            }
            Some(_) => false,
        }
    }

    /// Whether it works, as far as is known.
    pub fn is_healthy(&self) -> bool {
        self.breaker().resting.is_none()
    }

    /// A request was answered, if only with a refusal.
    pub fn succeeded(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        *self.breaker() = Breaker::default();
    }

    /// A request failed on its side.
    pub fn failed(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.failures.fetch_add(1, Ordering::Relaxed);
        let mut breaker = self.breaker();
        breaker.failures += 1;
        if breaker.failures >= FAILURES_TO_OPEN {
            breaker.resting = Some(Instant::now() + REST);
        }
    }

    fn serves(&self, model: &str) -> bool {
        self.settings.models.is_empty() || self.settings.models.iter().any(|name| name == model)
    }
}

/// All upstreams.
pub(crate) struct Pool {
    pub upstreams: Vec<Arc<Upstream>>,
    layers: LayerSettings,
    /// Models by name and by the caller's key, if that is passed on.
    models: Mutex<HashMap<(String, Option<String>), Arc<dyn LanguageModel>>>,
}

impl Pool {
    pub fn new(settings: &[UpstreamSettings]) -> Result<Self, ServeError> {
        let upstreams =
            settings.iter().map(|one| Upstream::new(one).map(Arc::new)).collect::<Result<_, _>>()?;
        Ok(Pool { upstreams, layers: LayerSettings::default(), models: Mutex::default() })
    }

    /// Those that serve a model and are not resting, in the order in which they are to be tried: drawn by weight.
    ///
    /// # Errors
    /// None serves it; all that do are resting.
    pub fn order(&self, model: &str) -> Result<Vec<Arc<Upstream>>, ApiError> {
        let serving: Vec<&Arc<Upstream>> =
            self.upstreams.iter().filter(|upstream| upstream.serves(model)).collect();
        if serving.is_empty() {
            return Err(unknown_model(model));
        }
        let mut left: Vec<Arc<Upstream>> = serving
            .iter()
            .filter(|upstream| upstream.admits())
            .map(|upstream| Arc::clone(upstream))
            .collect();
        if left.is_empty() {
            let names: Vec<&str> = serving.iter().map(|upstream| upstream.name.as_str()).collect();
            let message = format!("upstream {} does not work at present", names.join(", "));
            return Err(ApiError {
                retry_after_seconds: Some(REST.as_secs()),
                ..ApiError::unavailable("upstream_resting", message)
            });
        }
        let mut order = Vec::with_capacity(left.len());
        while left.len() > 1 {
            let total: u64 = left.iter().map(|upstream| u64::from(upstream.settings.weight)).sum();
            let mut at = if total == 0 { 0 } else { rand::rng().random_range(0..total) };
            let index = left.iter().position(|upstream| {
                let weight = u64::from(upstream.settings.weight);
                let here = at < weight;
                at = at.saturating_sub(weight);
                here
            });
            order.push(left.swap_remove(index.unwrap_or(0)));
        }
        order.extend(left);
        Ok(order)
    }

    /// A model of the upstreams for recipes. `caller_key` is sent to upstreams without a key of their own.
    pub fn model(&self, name: &str, caller_key: Option<&str>) -> Result<Arc<dyn LanguageModel>, ApiError> {
        let entry = (name.to_string(), caller_key.map(str::to_string));
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(model) = models.get(&entry) {
            return Ok(Arc::clone(model));
        }
        let mut members: Vec<(Arc<Upstream>, Arc<dyn LanguageModel>)> = Vec::new();
        for upstream in self.upstreams.iter().filter(|upstream| upstream.serves(name)) {
            let config = OpenAiConfig {
                base_url: upstream.base_url.clone(),
                model: name.into(),
                api_key: upstream.key_text.clone().or_else(|| caller_key.map(str::to_string)),
                api_key_variable: String::new(),
                timeouts: Timeouts {
                    first_byte_seconds: upstream.settings.first_byte_seconds,
                    idle_seconds: upstream.settings.idle_seconds,
                    ..Timeouts::default()
                },
                prefix: upstream.settings.prefix,
                abilities: upstream.settings.abilities,
                embedding_model: upstream.settings.embedding_model.clone(),
                ..OpenAiConfig::default()
            };
            members.push((Arc::clone(upstream), stack(Arc::new(OpenAi::new(config)?), &self.layers)?));
        }
        if members.is_empty() {
            return Err(unknown_model(name));
        }
        if models.len() >= MOST_MODELS {
            models.clear();
        }
        let names: Vec<&str> = members.iter().map(|(upstream, _)| upstream.name.as_str()).collect();
        let fingerprint = format!("gateway {} {name}", names.join(" "));
        let model: Arc<dyn LanguageModel> =
            Arc::new(Pooled { name: name.into(), fingerprint, members, models: self.serving(name) });
        models.insert(entry, Arc::clone(&model));
        Ok(model)
    }

    fn serving(&self, model: &str) -> Pool {
        let upstreams = self.upstreams.iter().filter(|one| one.serves(model)).cloned().collect();
        Pool { upstreams, layers: self.layers.clone(), models: Mutex::default() }
    }
}

pub(crate) fn unknown_model(model: &str) -> ApiError {
    let message = format!(
        "no upstream serves the model `{model}`\nhint: `GET /v1/models` lists the models that there are"
    );
    ApiError::new(hyper::StatusCode::NOT_FOUND, "model_not_found", message).param("model")
}

/// One model at several upstreams: when one fails, the next is asked.
struct Pooled {
    name: String,
    fingerprint: String,
    members: Vec<(Arc<Upstream>, Arc<dyn LanguageModel>)>,
    models: Pool,
}

impl Pooled {
    /// The members in the order in which they are to be tried.
    fn order(&self) -> Result<Vec<&(Arc<Upstream>, Arc<dyn LanguageModel>)>, GenerateError> {
        let order = self.models.order(&self.name).map_err(|error| GenerateError::Unavailable {
            model: self.name.clone(),
            what: error.message,
            hint: "try again later".into(),
            retry_after_seconds: error.retry_after_seconds.map(|seconds| seconds as f64),
            retryable: true,
        })?;
        Ok(order
            .iter()
            .filter_map(|upstream| self.members.iter().find(|(member, _)| Arc::ptr_eq(member, upstream)))
            .collect())
    }
}

fn note<T>(upstream: &Upstream, result: &Result<T, GenerateError>) {
    match result {
        Err(GenerateError::Unavailable { .. }) => upstream.failed(),
        Err(GenerateError::Cancelled | GenerateError::Budget { .. }) => {}
        _ => upstream.succeeded(),
    }
}

macro_rules! first_that_works {
    ($self:ident, $model:ident => $call:expr) => {{
        let mut last = None;
        for (upstream, $model) in $self.order()? {
            let result = $call;
            note(upstream, &result);
            match result {
                Err(error @ GenerateError::Unavailable { .. }) => last = Some(error),
                result => return result,
            }
        }
        Err(last.unwrap_or(GenerateError::Cancelled))
    }};
}

#[async_trait]
impl LanguageModel for Pooled {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        // Whichever is asked must be able to: what one cannot, all cannot.
        let each = self.members.iter().map(|(_, model)| model.capabilities());
        each.reduce(Capabilities::shared_with).unwrap_or_else(|| self.members[0].1.capabilities())
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    async fn generate(&self, request: &GenerateRequest) -> Result<Vec<Completion>, GenerateError> {
        first_that_works!(self, model => model.generate(request).await)
    }

    async fn stream(
        &self,
        request: &GenerateRequest,
    ) -> Result<BoxStream<'static, Result<StreamEvent, GenerateError>>, GenerateError> {
        first_that_works!(self, model => model.stream(request).await)
    }

    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, GenerateError> {
        first_that_works!(self, model => model.embed(texts).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(weights: &[u32]) -> Pool {
        let settings: Vec<UpstreamSettings> = weights
            .iter()
            .enumerate()
            .map(|(index, &weight)| UpstreamSettings {
                weight,
                ..UpstreamSettings::new(format!("http://127.0.0.1:{}/v1", index + 1))
            })
            .collect();
        Pool::new(&settings).unwrap()
    }

    #[test]
    fn weights_divide_the_requests() {
        let pool = pool(&[3, 1, 0]);
        let mut first = [0; 3];
        for _ in 0..4000 {
            let order = pool.order("m").unwrap();
            assert_eq!(order.len(), 3, "every upstream is there to fall back on");
            let index = pool.upstreams.iter().position(|one| Arc::ptr_eq(one, &order[0])).unwrap();
            first[index] += 1;
        }
        // Three quarters of 4,000 with a standard deviation of 27.
        assert!((2850..3150).contains(&first[0]) && first[2] == 0, "{first:?}");
    }

    #[test]
    fn an_upstream_that_fails_again_and_again_rests_and_one_success_wakes_it() {
        let pool = pool(&[1]);
        let upstream = Arc::clone(&pool.upstreams[0]);
        for _ in 0..FAILURES_TO_OPEN - 1 {
            upstream.failed();
        }
        assert!(upstream.is_healthy() && pool.order("m").is_ok());
        upstream.failed();
        let error = pool.order("m").err().unwrap();
        assert_eq!((error.status.as_u16(), error.retry_after_seconds), (503, Some(REST.as_secs())));
        upstream.breaker().resting = Some(Instant::now());
        assert!(pool.order("m").is_ok(), "one may try after the rest");
        assert!(pool.order("m").is_err(), "and only one");
        upstream.succeeded();
        assert!(pool.order("m").is_ok() && upstream.is_healthy());
    }

    #[test]
    fn upstreams_together_can_what_each_can() {
        let mut settings = vec![UpstreamSettings::new("http://a/v1"), UpstreamSettings::new("http://b/v1")];
        settings[0].prefix = elenchus_generate::PrefixStyle::Send;
        settings[1].abilities.top_logprobs = 5;
        let able = |settings: &[UpstreamSettings]| {
            Pool::new(settings).unwrap().model("m", None).unwrap().capabilities()
        };
        assert!(able(&settings[..1]).prefix, "as the table says");
        let both = able(&settings);
        assert!(!both.prefix && both.top_logprobs == 5, "{both:?}");
    }

    #[test]
    fn models_are_asked_where_they_are() {
        let mut settings = vec![UpstreamSettings::new("http://a/v1"), UpstreamSettings::new("http://b/v1")];
        settings[0].models = vec!["x".into()];
        let pool = Pool::new(&settings).unwrap();
        assert_eq!(pool.order("y").unwrap().len(), 1);
        assert_eq!(pool.order("x").unwrap().len(), 2);
        settings.pop();
        let error = Pool::new(&settings).unwrap().order("y").err().unwrap();
        assert_eq!((error.status.as_u16(), error.code), (404, "model_not_found"));
        assert!(Pool::new(&[UpstreamSettings::new("localhost:8000")]).is_err());
    }
}
