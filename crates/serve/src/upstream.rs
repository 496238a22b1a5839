//! The servers that are asked: weights, health, and which is tried next.

use crate::keys::Caller;
use crate::{ApiError, ServeError};
use async_trait::async_trait;
use elenchus_generate::{
    Capabilities, GenerateError, GenerateRequest, HostLimit, HostLimits, LanguageModel, LayerSettings,
    OpenAi, OpenAiConfig, Place, RetryLayer, RetrySettings, StreamEvent, Timeouts, certificates, stack,
};
use elenchus_recipe::UpstreamSettings;
use elenchus_trace::{Completion, FinishReason};
use futures::StreamExt;
use futures::stream::BoxStream;
use hyper::header::HeaderValue;
use rand::RngExt;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures in a row after which an upstream rests.
const FAILURES_TO_OPEN: u32 = 5;
/// How long it rests before one request may try again.
const REST: Duration = Duration::from_secs(10);
/// Requests at once that an upstream without a `limit` is passed as long as it refuses none.
const MOST_PASSED: usize = 100_000;
/// Models with a caller's own key that are kept ready.
const MOST_MODELS: usize = 256;

#[derive(Debug, Default)]
struct Breaker {
    failures: u32,
    /// Until when nothing is sent; then one request at a time may try.
    resting: Option<Instant>,
    /// The last failure, in words.
    why: String,
}

impl Breaker {
    fn is_resting(&self) -> bool {
        self.resting.is_some_and(|until| Instant::now() < until)
    }
}

/// One server.
pub(crate) struct Upstream {
    pub name: String,
    /// The whole address; what may be shown of it is in the settings.
    pub base_url: String,
    key: Option<HeaderValue>,
    key_text: Option<String>,
    /// Whether it is sent callers' own keys: it has neither a key nor a user.
    takes_keys: bool,
    pub settings: UpstreamSettings,
    pub client: reqwest::Client,
    /// Whether its streams may be asked for what they cost; not where it refused that.
    pub counts: AtomicBool,
    /// The limit on calls of recipes; on all requests where the settings have one.
    hosts: HostLimits,
    /// The limit on requests that are passed on.
    passing: Arc<HostLimit>,
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
        let url =
            reqwest::Url::parse(settings.base_url.reveal()).map_err(|error| wrong(error.to_string()))?;
        let (true, Some(host)) = (matches!(url.scheme(), "http" | "https"), url.host_str()) else {
            return Err(wrong("not the address of a server".into()));
        };
        let place = url.port().map_or(host.to_string(), |port| format!("{host}:{port}"));
        let key_text = match &settings.api_key_variable {
            None => None,
            Some(variable) => std::env::var(variable).ok().map(|key| key.trim().to_string()),
        };
        // One header holds either.
        let has_user = settings.base_url.has_user();
        let key_text = key_text.filter(|key| !key.is_empty() && !has_user);
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
            .connect_timeout(timeouts(settings).connect());
        if let Some(file) = &settings.ca_file {
            let authorities = certificates(file, url.scheme()).map_err(|what| {
                let hint = "name a PEM file with the certificate of the authority of an https server";
                ServeError::setting(format!("upstream `{}`: {what}", settings.base_url), hint)
            })?;
            builder = builder.tls_certs_merge(authorities);
        } else if url.scheme() == "http" {
            builder = builder.tls_certs_only([]);
        }
        let loopback = host == "localhost"
            || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if loopback {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| wrong(error.to_string()))?;
        let hosts = HostLimits::default();
        let passing = match settings.limit {
            // The name under which the layers around a recipe's calls look for it.
            Some(limit) => hosts.of(&place, limit)?,
            None => Arc::new(HostLimit::open(MOST_PASSED)?),
        };
        Ok(Upstream {
            name: settings.name.clone().unwrap_or(place),
            base_url: settings.base_url.reveal().trim_end_matches('/').to_string(),
            takes_keys: key.is_none() && !has_user,
            key,
            key_text,
            settings: settings.clone(),
            client,
            counts: AtomicBool::new(true),
            hosts,
            passing,
            breaker: Mutex::default(),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        })
    }

    fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key that a request of this caller goes with.
    pub fn authorization(&self, caller: &Caller) -> Option<HeaderValue> {
        let foreign = || {
            let token = caller.foreign.as_ref().filter(|_| self.takes_keys)?;
            let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
            value.set_sensitive(true);
            Some(value)
        };
        self.key.clone().or_else(foreign)
    }

    /// A place for a request that is passed on, if one is free now. What another server's account allows says nothing of
    /// this one: who asks with a key of their own needs no place.
    pub fn try_place(&self, caller: &Caller) -> Option<Option<Place>> {
        match self.takes_keys && caller.foreign.is_some() {
            true => Some(None),
            false => self.passing.try_place().map(Some),
        }
    }

    /// The same, once one is free.
    pub async fn place(&self) -> Result<Place, GenerateError> {
        self.passing.place().await
    }

    /// Whether it may be asked, said directly before it is. After a rest the first who asks tries, and the others wait
    /// for how that ends.
    pub fn admit(&self) -> bool {
        let mut breaker = self.breaker();
        if breaker.is_resting() {
            return false;
        }
        if breaker.resting.is_some() {
            breaker.resting = Some(Instant::now() + REST);
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Whether it would be asked.
    pub fn is_healthy(&self) -> bool {
        !self.breaker().is_resting()
    }

    /// A request was answered to its end, if only with a refusal.
    pub fn succeeded(&self) {
        *self.breaker() = Breaker::default();
    }

    /// A request failed on its side.
    pub fn failed(&self, why: &str) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let mut breaker = self.breaker();
        breaker.failures += 1;
        breaker.why = why.into();
        if breaker.failures >= FAILURES_TO_OPEN {
            breaker.resting = Some(Instant::now() + REST);
        }
    }

    fn serves(&self, model: &str) -> bool {
        self.settings.models.is_empty() || self.settings.models.iter().any(|name| name == model)
    }
}

/// How long is waited for what.
fn timeouts(settings: &UpstreamSettings) -> Timeouts {
    Timeouts {
        connect_seconds: settings.connect_seconds,
        first_byte_seconds: settings.first_byte_seconds,
        idle_seconds: settings.idle_seconds,
        total_seconds: settings.total_seconds,
    }
}

/// All upstreams.
pub(crate) struct Pool {
    pub upstreams: Vec<Arc<Upstream>>,
    retry: RetrySettings,
    /// Models by name and by the caller's key, if that is passed on.
    models: Mutex<HashMap<(String, Option<String>), Arc<dyn LanguageModel>>>,
}

impl Pool {
    /// Those of `before` whose settings are the same stay, with their connections and what is known of their health.
    ///
    /// # Errors
    /// An address, a key or a certificate that cannot be.
    pub fn new(
        settings: &[UpstreamSettings],
        retry: RetrySettings,
        before: &[Arc<Upstream>],
    ) -> Result<Self, ServeError> {
        // A file of certificates may hold others by now.
        let mut before: Vec<&Arc<Upstream>> =
            before.iter().filter(|known| known.settings.ca_file.is_none()).collect();
        let mut one = |settings: &UpstreamSettings| match before.iter().position(|k| k.settings == *settings)
        {
            Some(known) => Ok(Arc::clone(before.swap_remove(known))),
            None => Upstream::new(settings).map(Arc::new),
        };
        let upstreams = settings.iter().map(&mut one).collect::<Result<_, _>>()?;
        Ok(Pool { upstreams, retry, models: Mutex::default() })
    }

    /// Those that serve a model and are not resting, in the order in which they are to be tried: drawn by weight. Each has
    /// to be admitted before it is asked.
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
            .filter(|upstream| upstream.is_healthy())
            .map(|upstream| Arc::clone(upstream))
            .collect();
        if left.is_empty() {
            return Err(self.resting(model));
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

    /// None of those that serve a model may be asked now.
    pub fn resting(&self, model: &str) -> ApiError {
        let serving = self.upstreams.iter().filter(|upstream| upstream.serves(model));
        let said: Vec<String> = serving
            .map(|upstream| match upstream.breaker().why.as_str() {
                "" => upstream.name.clone(),
                why => format!("{} ({why})", upstream.name),
            })
            .collect();
        let message = format!("the upstream {} {RESTS}", said.join(", "));
        let hint = "try again later; `/readyz` says how many upstreams work";
        ApiError {
            retry_after_seconds: Some(REST.as_secs()),
            ..ApiError::unavailable("upstream_resting", format!("{message}\nhint: {hint}"))
        }
    }

    /// A model of the upstreams for recipes. Each HTTP request goes to one upstream after the other until one answers; only
    /// when none does it waits and is tried again. `caller_key` is sent to upstreams without a key of their own.
    pub fn model(&self, name: &str, caller_key: Option<&str>) -> Result<Arc<dyn LanguageModel>, ApiError> {
        let entry = (name.to_string(), caller_key.map(str::to_string));
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(model) = models.get(&entry) {
            return Ok(Arc::clone(model));
        }
        let mut members: Vec<(Arc<Upstream>, Arc<dyn LanguageModel>)> = Vec::new();
        // It divides calls for several samples, whoever answers the requests.
        let mut dividing = None;
        for upstream in self.upstreams.iter().filter(|upstream| upstream.serves(name)) {
            let foreign = caller_key.filter(|_| upstream.takes_keys).map(str::to_string);
            let config = OpenAiConfig {
                base_url: upstream.settings.base_url.clone(),
                model: name.into(),
                api_key: upstream.key_text.clone().or(foreign),
                api_key_variable: String::new(),
                timeouts: timeouts(&upstream.settings),
                most_body_bytes: upstream.settings.most_body_bytes,
                ca_file: upstream.settings.ca_file.clone(),
                prefix: upstream.settings.prefix,
                abilities: upstream.settings.abilities,
                embedding_model: upstream.settings.embedding_model.clone(),
                ..OpenAiConfig::default()
            };
            let once = LayerSettings {
                retry: RetrySettings { attempts: 1, ..self.retry },
                limit: upstream.settings.limit.unwrap_or_default(),
                timeouts: config.timeouts,
                hosts: upstream.hosts.clone(),
            };
            let endpoint = OpenAi::new(config)?;
            members.push((Arc::clone(upstream), stack(endpoint.requests(), &once)?));
            dividing.get_or_insert(endpoint);
        }
        let Some(dividing) = dividing else { return Err(unknown_model(name)) };
        if models.len() >= MOST_MODELS {
            models.clear();
        }
        let pooled: Arc<dyn LanguageModel> =
            Arc::new(Pooled { name: name.into(), members, models: self.serving(name) });
        let model: Arc<dyn LanguageModel> =
            Arc::new(dividing.over(Arc::new(RetryLayer::new(pooled, self.retry))));
        models.insert(entry, Arc::clone(&model));
        Ok(model)
    }

    fn serving(&self, model: &str) -> Pool {
        let upstreams = self.upstreams.iter().filter(|one| one.serves(model)).cloned().collect();
        Pool { upstreams, retry: self.retry, models: Mutex::default() }
    }
}

pub(crate) fn unknown_model(model: &str) -> ApiError {
    let message = format!(
        "no upstream serves the model `{model}`\nhint: `GET /v1/models` lists the models that there are"
    );
    ApiError::new(hyper::StatusCode::NOT_FOUND, "model_not_found", message).param("model")
}

/// One HTTP request at several upstreams: when one fails, the next is asked.
struct Pooled {
    name: String,
    members: Vec<(Arc<Upstream>, Arc<dyn LanguageModel>)>,
    models: Pool,
}

impl Pooled {
    /// The members in the order in which they are to be tried.
    fn order(&self) -> Result<Vec<&(Arc<Upstream>, Arc<dyn LanguageModel>)>, GenerateError> {
        let order = self.models.order(&self.name).map_err(|error| self.resting(error))?;
        Ok(order
            .iter()
            .filter_map(|upstream| self.members.iter().find(|(member, _)| Arc::ptr_eq(member, upstream)))
            .collect())
    }

    /// Who rests is not asked again and again meanwhile.
    fn resting(&self, error: ApiError) -> GenerateError {
        let (what, hint) = error.message.split_once("\nhint: ").unwrap_or((error.message.as_str(), ""));
        GenerateError::Unavailable {
            model: self.name.clone(),
            what: what.into(),
            hint: hint.into(),
            retry_after_seconds: error.retry_after_seconds.map(|seconds| seconds as f64),
            retryable: false,
        }
    }
}

/// What failed on the side of the upstream, whichever model is asked: no connection, an answer that broke off, 5xx. That it
/// has too much to do (429) is no fault of its, and one answer that cannot be read says nothing of the next.
fn fault(error: &GenerateError) -> Option<&str> {
    match error {
        GenerateError::Unavailable { what, .. } if !error.is_of_one_answer() => Some(what),
        _ => None,
    }
}

/// Words of [`Pool::resting`].
const RESTS: &str = "does not work at present";

/// Whether nobody was asked, because all that could be are resting.
pub(crate) fn is_resting(error: &GenerateError) -> bool {
    matches!(error, GenerateError::Unavailable { what, retryable: false, .. } if what.contains(RESTS))
}

fn note<T>(upstream: &Upstream, result: &Result<T, GenerateError>) {
    match result {
        Err(GenerateError::Cancelled | GenerateError::Budget { .. }) => {}
        Err(error) if fault(error).is_some() => upstream.failed(fault(error).unwrap_or_default()),
        _ => upstream.succeeded(),
    }
}

macro_rules! first_that_works {
    ($self:ident, $upstream:ident, $model:ident => $call:expr) => {{
        let mut last = None;
        for ($upstream, $model) in $self.order()? {
            if !$upstream.admit() {
                continue;
            }
            match $call {
                Err(error @ GenerateError::Unavailable { .. }) => last = Some(error),
                result => return result,
            }
        }
        Err(last.unwrap_or_else(|| $self.resting($self.models.resting(&$self.name))))
    }};
}

type Events = BoxStream<'static, Result<StreamEvent, GenerateError>>;

/// A stream whose first event is there, and which tells the upstream how it ended.
async fn begun(
    upstream: &Arc<Upstream>,
    model: &dyn LanguageModel,
    request: &GenerateRequest,
) -> Result<Events, GenerateError> {
    let mut events = match model.stream(request).await {
        Ok(events) => events,
        Err(error) => {
            note::<()>(upstream, &Err(error.clone()));
            return Err(error);
        }
    };
    let broken = |completion: &Completion| completion.finish == FinishReason::Interrupted;
    let first = match events.next().await {
        // It broke off before it said anything: another one may be asked.
        Some(Ok(StreamEvent::Done { completion, .. })) if request.samples == 1 && broken(&completion) => {
            let note = completion.extra.get("note").and_then(|note| note.as_str());
            Err(GenerateError::Unavailable {
                model: model.name().into(),
                what: note.unwrap_or("the answer ended before it began").into(),
                hint: "the server or a proxy before it is broken".into(),
                retry_after_seconds: None,
                retryable: true,
            })
        }
        first => first.transpose(),
    };
    let first = match first {
        Ok(first) => first,
        Err(error) => {
            note::<()>(upstream, &Err(error.clone()));
            return Err(error);
        }
    };
    let begin = futures::stream::iter(first.map(Ok));
    // Who listens may go once it has all it asked for, and does not read on to the end.
    let state = (begin.chain(events).boxed(), Arc::clone(upstream), request.samples);
    let stream = futures::stream::unfold(state, |(mut events, upstream, mut left)| async move {
        let Some(event) = events.next().await else {
            if left > 0 {
                upstream.succeeded();
            }
            return None;
        };
        let why = match &event {
            Err(error) => fault(error).map(str::to_string),
            Ok(StreamEvent::Done { completion, .. }) if completion.finish == FinishReason::Interrupted => {
                Some("its answer broke off".into())
            }
            Ok(StreamEvent::Done { .. }) if left > 0 => {
                left -= 1;
                if left == 0 {
                    upstream.succeeded();
                }
                None
            }
            Ok(_) => None,
        };
        if let Some(why) = why.filter(|_| left > 0) {
            upstream.failed(&why);
            left = 0;
        }
        Some((event, (events, upstream, left)))
    });
    Ok(stream.boxed())
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
        self.members[0].1.fingerprint()
    }

    async fn generate(&self, request: &GenerateRequest) -> Result<Vec<Completion>, GenerateError> {
        first_that_works!(self, upstream, model => {
            let result = model.generate(request).await;
            note(upstream, &result);
            result
        })
    }

    async fn stream(&self, request: &GenerateRequest) -> Result<Events, GenerateError> {
        first_that_works!(self, upstream, model => begun(upstream, model.as_ref(), request).await)
    }

    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, GenerateError> {
        first_that_works!(self, upstream, model => {
            let result = model.embed(texts).await;
            note(upstream, &result);
            result
        })
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
        Pool::new(&settings, RetrySettings::default(), &[]).unwrap()
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
            upstream.failed("out of memory");
        }
        assert!(upstream.is_healthy() && pool.order("m").is_ok());
        upstream.failed("out of memory");
        let error = pool.order("m").err().unwrap();
        assert_eq!((error.status.as_u16(), error.retry_after_seconds), (503, Some(REST.as_secs())));
        assert!(error.message.contains("out of memory"), "{}", error.message);
        upstream.breaker().resting = Some(Instant::now());
        assert!(pool.order("m").is_ok() && upstream.admit(), "one may try after the rest");
        assert!(pool.order("m").is_err() && !upstream.admit(), "and only one");
        upstream.succeeded();
        assert!(pool.order("m").is_ok() && upstream.is_healthy());
    }

    #[test]
    fn what_is_known_of_an_upstream_outlives_a_reload_that_does_not_change_it() {
        let before = pool(&[1, 1]);
        (0..FAILURES_TO_OPEN).for_each(|_| before.upstreams[0].failed("away"));
        let mut settings: Vec<UpstreamSettings> =
            before.upstreams.iter().map(|upstream| upstream.settings.clone()).collect();
        settings[1].weight = 2;
        let after = Pool::new(&settings, RetrySettings::default(), &before.upstreams).unwrap();
        assert!(!after.upstreams[0].is_healthy(), "it rests on");
        assert!(!Arc::ptr_eq(&after.upstreams[1], &before.upstreams[1]), "the other one has another weight");
    }

    #[test]
    fn a_spare_that_nobody_needed_keeps_its_right_to_be_tried() {
        let pool = pool(&[1, 0]);
        let spare = Arc::clone(&pool.upstreams[1]);
        (0..FAILURES_TO_OPEN).for_each(|_| spare.failed("away"));
        assert_eq!(pool.order("m").unwrap().len(), 1);
        spare.breaker().resting = Some(Instant::now());
        for _ in 0..3 {
            let order = pool.order("m").unwrap();
            assert!(order[0].admit(), "the first of them answers, and the spare is not asked");
            assert!(spare.is_healthy(), "after its rest it stands ready");
        }
        assert!(spare.admit() && !spare.is_healthy(), "until somebody tries it");
        spare.succeeded();
        assert!(spare.is_healthy());
    }

    #[test]
    fn upstreams_together_can_what_each_can() {
        let mut settings = vec![UpstreamSettings::new("http://a/v1"), UpstreamSettings::new("http://b/v1")];
        settings[0].prefix = elenchus_generate::PrefixStyle::Send;
        settings[1].abilities.top_logprobs = 5;
        let able = |settings: &[UpstreamSettings]| {
            Pool::new(settings, RetrySettings::default(), &[])
                .unwrap()
                .model("m", None)
                .unwrap()
                .capabilities()
        };
        assert!(able(&settings[..1]).prefix, "as the table says");
        let both = able(&settings);
        assert!(!both.prefix && both.top_logprobs == 5, "{both:?}");
    }

    #[test]
    fn models_are_asked_where_they_are() {
        let mut settings = vec![UpstreamSettings::new("http://a/v1"), UpstreamSettings::new("http://b/v1")];
        settings[0].models = vec!["x".into()];
        let pool = Pool::new(&settings, RetrySettings::default(), &[]).unwrap();
        assert_eq!(pool.order("y").unwrap().len(), 1);
        assert_eq!(pool.order("x").unwrap().len(), 2);
        settings.pop();
        let error = Pool::new(&settings, RetrySettings::default(), &[]).unwrap().order("y").err().unwrap();
        assert_eq!((error.status.as_u16(), error.code), (404, "model_not_found"));
        let wrong = [UpstreamSettings::new("localhost:8000")];
        assert!(Pool::new(&wrong, RetrySettings::default(), &[]).is_err());
    }
}
