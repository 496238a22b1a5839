//! How many calls to one host run at once; found out by watching it.

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
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bounds and speed of the adaptation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// Calls at once in the beginning.
    pub start: usize,
    /// Never fewer.
    pub least: usize,
    /// Never more.
    pub most: usize,
    /// What is left of the limit after the server said that it is too much (429, 503), in (0, 1).
    pub shrink: f64,
    /// Calls may become this many times slower than usual before the limit shrinks; above 1.
    pub tolerated_slowdown: f64,
}

impl Default for LimitSettings {
    fn default() -> Self {
        LimitSettings { start: 16, least: 1, most: 256, shrink: 0.5, tolerated_slowdown: 2.0 }
    }
}

impl LimitSettings {
    /// Which rule the settings break, in words.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.least == 0 || self.least > self.start || self.start > self.most {
            return Err("it must hold that 1 ≤ least ≤ start ≤ most");
        }
        if self.most > Semaphore::MAX_PERMITS {
            return Err("`most` is beyond what can be counted");
        }
        if !(self.shrink > 0.0 && self.shrink < 1.0) {
            return Err("`shrink` must lie between 0 and 1");
        }
        if !(self.tolerated_slowdown > 1.0 && self.tolerated_slowdown.is_finite()) {
            return Err("`tolerated_slowdown` must be above 1");
        }
        Ok(())
    }
}

/// How long nothing has to be refused until an open limit holds nobody up again.
pub const CALM: Duration = Duration::from_secs(60);

/// How a call ended, as far as the limit is concerned.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Ending {
    /// It succeeded; seconds per unit of work.
    Done { pace: f64 },
    /// The server said that it is too much; how long it wants to be left alone.
    Overload { retry_after_seconds: Option<f64> },
    /// It failed for another reason or was dropped.
    Other,
}

/// The limit of one host. Waiting calls go first come, first served.
///
/// Additive increase: a full round of successes at a full limit raises it by 1. Multiplicative decrease: a 429 or 503
/// takes `shrink` of it, once per generation of calls, since those that were in flight together fail together. Latency:
/// when the short-term pace (seconds per generated token) is more than `tolerated_slowdown` times the long-term one,
/// the limit shrinks by their ratio, at most to 0.8 at a time, before the server has to refuse.
///
/// An open limit ([`HostLimit::open`]) is for calls of others that are passed on: it holds nobody up until the server refuses.
#[derive(Debug)]
pub struct HostLimit {
    settings: LimitSettings,
    /// Whether it shrinks at refusals only, to a part of what runs then.
    open: bool,
    semaphore: Arc<Semaphore>,
    state: Mutex<LimitState>,
}

#[derive(Debug)]
struct LimitState {
    limit: f64,
    /// Permits that exist, taken or free.
    issued: usize,
    running: usize,
    /// The limit does not shrink again for calls that began before this.
    shrunk_at: Option<Instant>,
    /// The host asked to be left alone until then.
    paused_until: Option<Instant>,
    short_pace: Option<f64>,
    long_pace: Option<f64>,
}

impl HostLimit {
    /// A limit at its start.
    ///
    /// # Errors
    /// The settings break a rule of [`LimitSettings::check`].
    pub fn new(settings: LimitSettings) -> Result<Self, GenerateError> {
        settings.check().map_err(|what| GenerateError::Request {
            model: "limit".into(),
            what: what.into(),
            hint: "the defaults are start = 16, least = 1, most = 256, shrink = 0.5, tolerated_slowdown = 2"
                .into(),
        })?;
        Ok(HostLimit {
            settings,
            open: false,
            semaphore: Arc::new(Semaphore::new(settings.start)),
            state: Mutex::new(LimitState {
                limit: settings.start as f64,
                issued: settings.start,
                running: 0,
                shrunk_at: None,
                paused_until: None,
                short_pace: None,
                long_pace: None,
            }),
        })
    }

    /// A limit that begins at `most` and holds nobody up there. A refusal leaves `shrink` of the calls that run, at least
    /// as many as the usual limit begins with; full rounds of successes raise it by 1, and [`CALM`] without a refusal lifts
    /// it. How fast the answers come changes nothing: who asks, and for what, is not ours to choose.
    ///
    /// # Errors
    /// `most` is below that least number, or beyond what can be counted.
    pub fn open(most: usize) -> Result<Self, GenerateError> {
        let usual = LimitSettings::default();
        let settings = LimitSettings { start: most, least: usual.start, most, ..usual };
        Ok(HostLimit { open: true, ..HostLimit::new(settings)? })
    }

    fn state(&self) -> MutexGuard<'_, LimitState> {
        // Plain numbers, valid after any panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls that may run at once now.
    pub fn current(&self) -> usize {
        self.state().limit as usize
    }

    /// A place for a call if one is free now.
    pub fn try_place(self: &Arc<Self>) -> Option<Place> {
        self.lift();
        Arc::clone(&self.semaphore).try_acquire_owned().ok().map(|permit| self.taken(permit))
    }

    /// A place for a call, once one is free. It does not wait for the end of a pause that the host asked for.
    ///
    /// # Errors
    /// [`GenerateError::Cancelled`] when the limit has ended.
    pub async fn place(self: &Arc<Self>) -> Result<Place, GenerateError> {
        self.lift();
        match Arc::clone(&self.semaphore).acquire_owned().await {
            Ok(permit) => Ok(self.taken(permit)),
            Err(_) => Err(GenerateError::Cancelled),
        }
    }

    fn taken(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Place {
        self.state().running += 1;
        Place {
            limit: Arc::clone(self),
            permit: Some(permit),
            started: Instant::now(),
            ending: Ending::Other,
        }
    }

    /// Opens an open limit again when nothing was refused for long enough.
    fn lift(&self) {
        if !self.open {
            return;
        }
        let mut state = self.state();
        if state.shrunk_at.is_some_and(|at| at.elapsed() >= CALM) {
            state.shrunk_at = None;
            state.limit = self.settings.most as f64;
            self.semaphore.add_permits(self.settings.most.saturating_sub(state.issued));
            state.issued = state.issued.max(self.settings.most);
        }
    }

    /// A place, and the end of a pause that the host asked for.
    async fn acquire(self: &Arc<Self>) -> Result<Place, GenerateError> {
        let mut place = self.place().await?;
        loop {
            let pause =
                self.state().paused_until.map(|until| until.saturating_duration_since(Instant::now()));
            match pause.filter(|pause| !pause.is_zero()) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => break,
            }
        }
        place.started = Instant::now();
        Ok(place)
    }

    fn release(&self, permit: OwnedSemaphorePermit, started: Instant, ending: Ending) {
        let mut guard = self.state();
        let state = &mut *guard;
        let running = state.running;
        let was_full = running >= state.limit as usize;
        state.running = state.running.saturating_sub(1);
        let fresh = state.shrunk_at.is_none_or(|at| started > at);
        match ending {
            Ending::Other => {}
            Ending::Overload { retry_after_seconds } => {
                let pause = retry_after_seconds
                    .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
                    .and_then(|pause| Instant::now().checked_add(pause));
                state.paused_until = state.paused_until.max(pause);
                if fresh {
                    if self.open {
                        state.limit = state.limit.min(running as f64);
                    }
                    state.limit *= self.settings.shrink;
                    state.shrunk_at = Some(Instant::now());
                }
            }
            Ending::Done { .. } if self.open => {
                if was_full {
                    state.limit += 1.0 / state.limit;
                }
            }
            Ending::Done { pace } => {
                let short = blend(&mut state.short_pace, pace, 0.2);
                let long = blend(&mut state.long_pace, pace, 0.01);
                let slowdown = short / long.max(f64::MIN_POSITIVE);
                if slowdown > self.settings.tolerated_slowdown {
                    if fresh {
                        state.limit *= (self.settings.tolerated_slowdown / slowdown).max(0.8);
                        state.shrunk_at = Some(Instant::now());
                    }
                } else if was_full {
                    state.limit += 1.0 / state.limit;
                }
            }
        }
        state.limit = state.limit.clamp(self.settings.least as f64, self.settings.most as f64);
        let target = state.limit as usize;
        if state.issued > target {
            // One permit too many: this one is not given back. Further ones go as further calls end.
            permit.forget();
            state.issued -= 1;
        } else {
            drop(permit);
            self.semaphore.add_permits(target - state.issued);
            state.issued = target;
        }
        let surplus = state.issued.saturating_sub(target);
        state.issued -= self.semaphore.forget_permits(surplus);
    }
}

fn blend(average: &mut Option<f64>, value: f64, weight: f64) -> f64 {
    let next = average.map_or(value, |average| average + weight * (value - average));
    *average = Some(next);
    next
}

/// The place of one running call; it is given back when this is dropped. A call of which nothing is said counts neither as
/// a success nor as a refusal.
#[derive(Debug)]
pub struct Place {
    limit: Arc<HostLimit>,
    permit: Option<OwnedSemaphorePermit>,
    started: Instant,
    ending: Ending,
}

impl Place {
    /// The call succeeded, and its longest sample has so many tokens; one without tokens counts as one.
    pub fn done(&mut self, longest: u64) {
        self.ending = Ending::Done { pace: self.started.elapsed().as_secs_f64() / longest.max(1) as f64 };
    }

    /// The server said that it is too much, and how long it wants to be left alone.
    pub fn refused(&mut self, retry_after_seconds: Option<f64>) {
        self.ending = Ending::Overload { retry_after_seconds };
    }

    fn failed(&mut self, error: &GenerateError) {
        if let GenerateError::Unavailable { retry_after_seconds, what, .. } = error
            && (retry_after_seconds.is_some()
                || [" 429 ", " 503 ", " 529 "].iter().any(|code| what.contains(code)))
        {
            self.refused(*retry_after_seconds);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.limit.release(permit, self.started, self.ending);
        }
    }
}

/// The limits of all hosts. Clones share them, so that two models of one host do.
#[derive(Debug, Clone, Default)]
pub struct HostLimits {
    hosts: Arc<Mutex<HashMap<String, Arc<HostLimit>>>>,
}

impl HostLimits {
    /// The limit of a host, made with `settings` when it is the first time.
    pub fn of(&self, host: &str, settings: LimitSettings) -> Result<Arc<HostLimit>, GenerateError> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(limit) = hosts.get(host) {
            return Ok(Arc::clone(limit));
        }
        let limit = Arc::new(HostLimit::new(settings)?);
        hosts.insert(host.into(), Arc::clone(&limit));
        Ok(limit)
    }
}

/// A model whose calls wait for a place at their host.
pub struct LimitLayer {
    inner: Arc<dyn LanguageModel>,
    limit: Arc<HostLimit>,
}

impl LimitLayer {
    /// Calls of `inner` take places of `limit`.
    pub fn new(inner: Arc<dyn LanguageModel>, limit: Arc<HostLimit>) -> Self {
        LimitLayer { inner, limit }
    }

    async fn run<T>(
        &self,
        call: impl Future<Output = Result<T, GenerateError>>,
        longest: impl Fn(&T) -> u64,
    ) -> Result<T, GenerateError> {
        let mut slot = self.limit.acquire().await?;
        let result = call.await;
        match &result {
            Ok(value) => slot.done(longest(value)),
            Err(error) => slot.failed(error),
        }
        result
    }
}

#[async_trait]
impl LanguageModel for LimitLayer {
    crate::model::same_model!();

    async fn generate(&self, request: &GenerateRequest) -> Result<Vec<Completion>, GenerateError> {
        let longest = |completions: &Vec<Completion>| {
            completions.iter().map(|completion| completion.usage.completion_tokens).max().unwrap_or(0)
        };
        self.run(self.inner.generate(request), longest).await
    }

    async fn stream(
        &self,
        request: &GenerateRequest,
    ) -> Result<BoxStream<'static, Result<StreamEvent, GenerateError>>, GenerateError> {
        let mut slot = self.limit.acquire().await?;
        let inner = match self.inner.stream(request).await {
            Ok(inner) => inner,
            Err(error) => {
                slot.failed(&error);
                return Err(error);
            }
        };
        // The place is held until the stream ends or is dropped.
        let state = Some((inner, slot, 0u64));
        let stream = futures::stream::unfold(state, |state| async move {
            let (mut inner, mut slot, mut longest) = state?;
            match inner.next().await {
                None => {
                    slot.done(longest);
                    None
                }
                Some(Ok(event)) => {
                    if let StreamEvent::Done { completion, .. } = &event {
                        longest = longest.max(completion.usage.completion_tokens);
                    }
                    Some((Ok(event), Some((inner, slot, longest))))
                }
                Some(Err(error)) => {
                    slot.failed(&error);
                    Some((Err(error), None))
                }
            }
        });
        Ok(stream.boxed())
    }

    async fn score(&self, request: &ScoreRequest) -> Result<Vec<Scored>, GenerateError> {
        self.run(self.inner.score(request), |_| 1).await
    }

    async fn latent(&self, request: &LatentRequest) -> Result<LatentReading, GenerateError> {
        self.run(self.inner.latent(request), |_| 1).await
    }

    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, GenerateError> {
        self.run(self.inner.embed(texts), |_| 1).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scripted;
    use elenchus_trace::Message;
    use std::collections::VecDeque;

    fn limit(start: usize) -> Arc<HostLimit> {
        Arc::new(HostLimit::new(LimitSettings { start, most: 32, ..LimitSettings::default() }).unwrap())
    }

    async fn ends(limit: &Arc<HostLimit>, ending: Ending) {
        limit.acquire().await.unwrap().ending = ending;
    }

    #[tokio::test]
    async fn a_refusal_halves_the_limit_once_for_all_calls_in_flight() {
        let limit = limit(16);
        let mut slots = Vec::new();
        for _ in 0..16 {
            slots.push(limit.acquire().await.unwrap());
        }
        for slot in &mut slots {
            slot.ending = Ending::Overload { retry_after_seconds: None };
        }
        drop(slots);
        assert_eq!(limit.current(), 8);
        assert_eq!(limit.semaphore.available_permits(), 8, "as many places as the limit says");
        ends(&limit, Ending::Overload { retry_after_seconds: None }).await;
        assert_eq!(
            (limit.current(), limit.semaphore.available_permits()),
            (4, 4),
            "a later call counts anew"
        );
        for _ in 0..9 {
            ends(&limit, Ending::Overload { retry_after_seconds: None }).await;
        }
        assert_eq!((limit.current(), limit.semaphore.available_permits()), (1, 1), "never below the least");
    }

    #[tokio::test]
    async fn the_limit_grows_by_one_for_a_round_of_successes_when_it_is_full() {
        let limit = limit(4);
        for _ in 0..3 {
            ends(&limit, Ending::Done { pace: 1.0 }).await;
        }
        assert_eq!(limit.current(), 4, "calls one after another say nothing about more at once");
        let mut slots = VecDeque::new();
        for _ in 0..4 {
            slots.push_back(limit.acquire().await.unwrap());
        }
        for _ in 0..5 {
            let mut slot = slots.pop_front().unwrap();
            slot.ending = Ending::Done { pace: 1.0 };
            drop(slot);
            slots.push_back(limit.acquire().await.unwrap());
        }
        assert_eq!(limit.current(), 5);
        assert_eq!(limit.semaphore.available_permits(), 1, "the new place can be taken");
    }

    #[tokio::test]
    async fn slower_answers_shrink_the_limit_before_the_server_refuses() {
        let limit = limit(16);
        for _ in 0..50 {
            ends(&limit, Ending::Done { pace: 0.01 }).await;
        }
        let before = limit.current();
        for _ in 0..10 {
            ends(&limit, Ending::Done { pace: 0.2 }).await;
        }
        assert!(limit.current() < before / 2, "{} of {before}", limit.current());
    }

    #[tokio::test]
    async fn a_host_that_asks_to_wait_is_left_alone() {
        let limit = limit(2);
        ends(&limit, Ending::Overload { retry_after_seconds: Some(0.1) }).await;
        let started = Instant::now();
        ends(&limit, Ending::Other).await;
        assert!(started.elapsed() >= Duration::from_millis(95));
    }

    #[tokio::test]
    async fn an_open_limit_holds_nobody_up_until_the_server_refuses() {
        let limit = Arc::new(HostLimit::open(1000).unwrap());
        let mut places: Vec<Place> = (0..100).map(|_| limit.try_place().unwrap()).collect();
        places.iter_mut().for_each(|place| place.refused(None));
        drop(places);
        assert_eq!((limit.current(), limit.semaphore.available_permits()), (50, 50), "half of what ran");
        let running: Vec<Place> = (0..50).map(|_| limit.try_place().unwrap()).collect();
        assert!(limit.try_place().is_none(), "the next one waits");
        for (index, mut place) in running.into_iter().enumerate() {
            // A hundred times slower: no matter.
            place.started -= Duration::from_millis(index as u64 * 20);
            place.done(1);
        }
        assert!(limit.current() >= 50);
        limit.try_place().unwrap().refused(None);
        assert_eq!(
            limit.current(),
            LimitSettings::default().start,
            "never below what any server is trusted with"
        );
        limit.state().shrunk_at = Instant::now().checked_sub(CALM);
        let places: Vec<Place> = (0..1000).filter_map(|_| limit.try_place()).collect();
        assert_eq!((places.len(), limit.current()), (1000, 1000), "a minute without a refusal lifts it");
        drop(places);
        assert_eq!(limit.semaphore.available_permits(), 1000);
        assert!(HostLimit::open(1).is_err());
    }

    #[tokio::test]
    async fn no_more_calls_run_than_the_limit_and_all_get_their_turn() {
        let model = Scripted::new("m").delay(Duration::from_millis(5)).on("", ["a"]).shared();
        let layer = LimitLayer::new(model.clone(), limit(3));
        let wanted = GenerateRequest::new(vec![Message::user("x")]);
        let results = futures::future::join_all((0..12).map(|_| layer.generate(&wanted))).await;
        assert!(results.iter().all(Result::is_ok));
        assert!((3..=5).contains(&model.most_concurrent()), "{}", model.most_concurrent());
        drop(tokio::time::timeout(Duration::from_millis(1), layer.generate(&wanted)).await);
        assert_eq!(layer.limit.state().running, 0, "a dropped call frees its place");
    }

    #[test]
    fn settings_that_cannot_be_are_refused_and_hosts_are_shared() {
        for settings in [
            LimitSettings { least: 0, ..LimitSettings::default() },
            LimitSettings { start: 300, ..LimitSettings::default() },
            LimitSettings { shrink: 1.0, ..LimitSettings::default() },
            LimitSettings { tolerated_slowdown: f64::NAN, ..LimitSettings::default() },
        ] {
            assert!(HostLimit::new(settings).is_err(), "{settings:?}");
        }
        let hosts = HostLimits::default();
        let first = hosts.of("a:1", LimitSettings::default()).unwrap();
        assert!(Arc::ptr_eq(&first, &hosts.clone().of("a:1", LimitSettings::default()).unwrap()));
        assert!(!Arc::ptr_eq(&first, &hosts.of("b:1", LimitSettings::default()).unwrap()));
    }
}
