//! What all requests share.

use crate::archive::Archive;
use crate::keys::{KeyRing, TraceNote};
use crate::metrics::Metrics;
use crate::roles::{self, RoleModel};
use crate::runs::Tickets;
use crate::spending::{Hold, Holds};
use crate::telemetry::Telemetry;
use crate::upstream::{Pool, unknown_model};
use crate::{ApiError, ServeError};
use elenchus_generate::{CancelToken, LanguageModel, NativeModel, NativeOptions};
use elenchus_recipe::{Calibrations, LogLevel, ServiceSettings, models};
use elenchus_remember::service::TraceEntry;
use elenchus_trace::Price;
use hyper::header::HeaderMap;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{OnceCell, Semaphore, watch};

/// What a reload replaces.
pub(crate) struct Live {
    pub settings: ServiceSettings,
    pub prices: HashMap<String, Price>,
    pub pool: Pool,
    /// Models of roles beside the actor's.
    pub roles: BTreeMap<String, RoleModel>,
    pub calibrations: Calibrations,
}

impl Live {
    /// `before` is what it replaces.
    pub fn new(
        settings: ServiceSettings,
        prices: HashMap<String, Price>,
        before: Option<&Live>,
    ) -> Result<Self, ServeError> {
        let known = before.map_or(&[][..], |before| &before.pool.upstreams);
        let pool = Pool::new(&settings.upstreams, settings.retry, known)?;
        let roles = roles::open(&settings.roles)?;
        let calibrations = Calibrations::read(&settings.calibrations_file())?;
        Ok(Live { settings, prices, pool, roles, calibrations })
    }
}

/// Which model is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// The embedded one.
    Embedded,
    /// One of the upstreams', by name.
    Upstream(String),
}

impl Target {
    pub fn model(&self) -> &str {
        match self {
            Target::Embedded => models::EMBEDDED,
            Target::Upstream(name) => name,
        }
    }

    /// The task whose rules hold when the request names none.
    pub fn task(&self) -> &'static str {
        match self {
            Target::Embedded => "arithmetic",
            Target::Upstream(_) => "math",
        }
    }
}

pub(crate) struct State {
    /// The settings at the start.
    pub started: ServiceSettings,
    live: RwLock<Arc<Live>>,
    pub archive: Archive,
    pub keys: KeyRing,
    pub holds: Arc<Holds>,
    /// When the store was last tried for `/readyz`, and whether it worked.
    pub readiness: tokio::sync::Mutex<Option<(Instant, bool)>>,
    pub metrics: Metrics,
    pub telemetry: Telemetry,
    pub tickets: Tickets,
    pub recipes: Arc<Semaphore>,
    /// What large request bodies may still take, KiB.
    pub bodies: Arc<Semaphore>,
    /// Cancels everything when the time to finish is over.
    pub cancel: CancelToken,
    /// Everything that is still to be written down listens to it, and so can be waited for.
    unwritten: watch::Sender<()>,
    stopping: AtomicBool,
    embedded: OnceCell<Arc<dyn LanguageModel>>,
}

impl State {
    pub fn new(live: Live, archive: Archive, keys: KeyRing, telemetry: Telemetry) -> Self {
        let recipes = Arc::new(Semaphore::new(live.settings.most_recipes));
        let held = live.settings.most_bytes_in_flight.max(live.settings.most_body_bytes);
        let bodies = Arc::new(Semaphore::new(held.div_ceil(1024).min(Semaphore::MAX_PERMITS)));
        State {
            started: live.settings.clone(),
            live: RwLock::new(Arc::new(live)),
            archive,
            keys,
            holds: Arc::default(),
            readiness: tokio::sync::Mutex::default(),
            metrics: Metrics::default(),
            telemetry,
            tickets: Tickets::default(),
            recipes,
            bodies,
            cancel: CancelToken::new(),
            unwritten: watch::Sender::new(()),
            stopping: AtomicBool::new(false),
            embedded: OnceCell::new(),
        }
    }

    pub fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes new settings; requests in flight keep the old ones.
    pub fn replace(&self, live: Live) {
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(live);
    }

    /// Held by a record until it is handed to the archive, also when it is dropped.
    pub fn unwritten(&self) -> watch::Receiver<()> {
        self.unwritten.subscribe()
    }

    /// Returns when every record was handed to the archive.
    pub async fn all_written(&self) {
        self.unwritten.closed().await;
    }

    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// The embedded model, read when it is first needed.
    pub async fn embedded(&self) -> Result<Arc<dyn LanguageModel>, ApiError> {
        let load = || async {
            let loaded = tokio::task::spawn_blocking(|| -> Result<NativeModel, ServeError> {
                let folder = models::folder(models::EMBEDDED)?;
                Ok(NativeModel::load(folder, NativeOptions::default())?)
            });
            match loaded.await {
                Ok(Ok(model)) => Ok(Arc::new(model) as Arc<dyn LanguageModel>),
                Ok(Err(error)) => Err(ApiError::unavailable("model_unavailable", error.to_string())),
                Err(error) => Err(ApiError::unavailable("model_unavailable", error.to_string())),
            }
        };
        self.embedded.get_or_try_init(load).await.cloned()
    }

    pub fn embedded_is_loaded(&self) -> bool {
        self.embedded.initialized()
    }

    /// Which model a name means.
    pub fn target(&self, live: &Live, name: &str) -> Result<Target, ApiError> {
        let settings = &live.settings;
        let name = match (name, &settings.model) {
            ("", Some(model)) => model.as_str(),
            ("", None) if settings.embedded && settings.upstreams.is_empty() => models::EMBEDDED,
            ("", None) => {
                let message = "no model is named\nhint: `GET /v1/models` lists the models that there are";
                return Err(ApiError::bad("model", message));
            }
            (name, _) => name,
        };
        if name == models::EMBEDDED && settings.embedded {
            return Ok(Target::Embedded);
        }
        if settings.upstreams.is_empty() {
            return Err(unknown_model(name));
        }
        Ok(Target::Upstream(name.into()))
    }

    /// Reads the keys again where they are old: a key that is not known may have been made a moment ago, and one that is
    /// may have been ended.
    ///
    /// # Errors
    /// The store cannot be read, and the request needs a key.
    pub async fn freshen_keys(self: &Arc<Self>, headers: &HeaderMap) -> Result<(), ApiError> {
        if self.keys.is_fresh() {
            return Ok(());
        }
        let _reading = self.keys.reading.lock().await;
        if self.keys.is_fresh() {
            return Ok(());
        }
        let outcome = self.refresh_keys().await;
        if outcome.is_err() && !self.needs_key(headers) {
            // Who needs no key does not hang on the store.
            self.keys.rest();
            return Ok(());
        }
        outcome
    }

    /// Whether a request needs a key.
    pub fn needs_key(&self, headers: &HeaderMap) -> bool {
        self.keys.is_required(self.live().settings.require_keys, headers)
    }

    pub async fn refresh_keys(self: &Arc<Self>) -> Result<(), ApiError> {
        let state = Arc::clone(self);
        self.archive.read(move |store| state.keys.refresh(store)).await
    }

    /// Keeps the trace of a request; says whether it is kept. Where it is not, the log says so, and no response names it.
    pub async fn keep(&self, entry: TraceEntry, hold: Option<Hold>, note: &TraceNote) -> bool {
        let id = entry.summary.id.clone();
        let Err(error) = self.archive.keep(entry, hold).await else { return true };
        note.lost();
        self.log(LogLevel::Problems, "trace_not_stored", json!({"trace_id": id, "error": error.message}));
        false
    }

    /// A line of the log: time, level, event and fields, as JSON on standard error.
    pub fn log(&self, level: LogLevel, event: &str, fields: Value) {
        let wanted = self.live.read().unwrap_or_else(PoisonError::into_inner).settings.log;
        let shown = match wanted {
            LogLevel::Off => level == LogLevel::Off,
            LogLevel::Problems => level != LogLevel::Requests,
            LogLevel::Requests => true,
        };
        if shown {
            let mut line = json!({"time_ms": now_ms(), "event": event});
            if let (Some(line), Value::Object(fields)) = (line.as_object_mut(), fields) {
                line.extend(fields);
            }
            eprintln!("{line}");
        }
    }
}

/// Milliseconds after 1970-01-01 UTC.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// An identifier that nobody guesses: 128 random bits behind a prefix.
pub(crate) fn new_id(prefix: &str) -> String {
    use rand::RngExt;
    let bits: u128 = rand::rng().random();
    format!("{prefix}{bits:032x}")
}
