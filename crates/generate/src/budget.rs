//! Bounds on what is spent, shared by all calls that run at once.

use crate::{
    CancelToken, Capabilities, GenerateError, GenerateRequest, LanguageModel, ScoreRequest, Scored,
    StreamEvent,
};
use async_trait::async_trait;
use elenchus_trace::{Budget, Completion, Usage};
use futures::StreamExt;
use futures::stream::BoxStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The account of one budget. Shared by every call under it; safe to use from several threads.
#[derive(Debug)]
pub struct Ledger {
    limit: Budget,
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default, Clone, Copy)]
struct State {
    spent: Usage,
    /// Calls that have begun and not ended; they count against `limit.calls` from their start.
    in_flight: u64,
}

impl Ledger {
    /// An empty account; its clock starts now.
    pub fn new(limit: Budget) -> Self {
        Ledger { limit, started: Instant::now(), state: Mutex::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // The state is plain numbers, valid after any panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bounds.
    pub fn limit(&self) -> Budget {
        self.limit
    }

    /// What ended calls have spent.
    pub fn spent(&self) -> Usage {
        self.state().spent
    }

    /// What is left; an unbounded quantity stays `None`. Seconds are wall-clock seconds since the ledger was made.
    pub fn remaining(&self) -> Budget {
        let state = self.state();
        Budget {
            tokens: self.limit.tokens.map(|limit| limit.saturating_sub(state.spent.tokens())),
            calls: self.limit.calls.map(|limit| limit.saturating_sub(state.spent.calls + state.in_flight)),
            seconds: self.limit.seconds.map(|limit| (limit - self.started.elapsed().as_secs_f64()).max(0.0)),
            money: self.limit.money.map(|limit| (limit - state.spent.money).max(0.0)),
        }
    }

    /// Books usage that no [`Permit`] covers (a tool, a person).
    pub fn add(&self, usage: Usage) {
        self.state().spent += usage;
    }

    fn exhausted(what: String, option: &str) -> GenerateError {
        GenerateError::Budget { what, option: option.into() }
    }

    /// Refuses when any bound is reached; otherwise counts one call as in flight.
    fn begin(&self) -> Result<(), GenerateError> {
        let mut state = self.state();
        if let Some(limit) = self.limit.tokens
            && state.spent.tokens() >= limit
        {
            let spent = state.spent.tokens();
            return Err(Self::exhausted(format!("{spent} of {limit} tokens are spent"), "budget.tokens"));
        }
        if let Some(limit) = self.limit.calls
            && state.spent.calls + state.in_flight >= limit
        {
            let (done, running) = (state.spent.calls, state.in_flight);
            return Err(Self::exhausted(
                format!("{done} of {limit} calls are made and {running} are running"),
                "budget.calls",
            ));
        }
        if let Some(limit) = self.limit.seconds
            && self.started.elapsed().as_secs_f64() >= limit
        {
            return Err(Self::seconds_over(limit));
        }
        if let Some(limit) = self.limit.money
            && state.spent.money >= limit
        {
            let spent = state.spent.money;
            return Err(Self::exhausted(format!("{spent:.6} of {limit:.6} money is spent"), "budget.money"));
        }
        state.in_flight += 1;
        Ok(())
    }

    fn seconds_over(limit: f64) -> GenerateError {
        Self::exhausted(format!("{limit} seconds have passed"), "budget.seconds")
    }

    fn end(&self, usage: Usage) {
        let mut state = self.state();
        state.in_flight = state.in_flight.saturating_sub(1);
        state.spent += usage;
    }
}

/// The right to make one call under several nested budgets. Dropping it unused (the call failed or was cancelled)
/// books the call itself and nothing else.
#[derive(Debug)]
pub struct Permit {
    ledgers: Vec<Arc<Ledger>>,
    usage: Usage,
}

impl Permit {
    /// Asks every ledger, outermost last; takes none when one refuses.
    pub fn acquire(ledgers: &[Arc<Ledger>]) -> Result<Self, GenerateError> {
        for (index, ledger) in ledgers.iter().enumerate() {
            if let Err(error) = ledger.begin() {
                for taken in &ledgers[..index] {
                    taken.end(Usage::default());
                }
                return Err(error);
            }
        }
        Ok(Permit { ledgers: ledgers.to_vec(), usage: Usage { calls: 1, ..Usage::default() } })
    }

    /// Books what the call has cost.
    pub fn settle(mut self, usage: Usage) {
        self.usage = usage;
    }

    /// When the tightest time bound is reached, and that bound in seconds.
    fn deadline(&self) -> Option<(Instant, f64)> {
        self.ledgers
            .iter()
            .filter_map(|ledger| {
                let seconds = ledger.limit.seconds?;
                let length = Duration::try_from_secs_f64(seconds.max(0.0)).ok()?;
                Some((ledger.started.checked_add(length)?, seconds))
            })
            .min_by_key(|(at, _)| *at)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        for ledger in &self.ledgers {
            ledger.end(self.usage);
        }
    }
}

/// A model whose calls are counted in ledgers and refused when one is exhausted.
///
/// Bounds are checked before a call; what it cost is booked behind it. So tokens and money are overrun by no more
/// than the calls in flight, calls are never overrun, and a call that is running when the seconds end is cut off.
/// The cost of a request is the sum over its completions. An answer that is paid for is never thrown away.
pub struct BudgetLayer {
    inner: Arc<dyn LanguageModel>,
    ledgers: Vec<Arc<Ledger>>,
    cancel: CancelToken,
}

impl BudgetLayer {
    /// Counts in all of `ledgers`; `cancel` ends every call with [`GenerateError::Cancelled`].
    pub fn new(inner: Arc<dyn LanguageModel>, ledgers: Vec<Arc<Ledger>>, cancel: CancelToken) -> Self {
        BudgetLayer { inner, ledgers, cancel }
    }

    async fn run<T>(
        &self,
        call: impl Future<Output = Result<T, GenerateError>>,
        cost: impl Fn(&T) -> Usage,
    ) -> Result<T, GenerateError> {
        if self.cancel.is_cancelled() {
            return Err(GenerateError::Cancelled);
        }
        let permit = Permit::acquire(&self.ledgers)?;
        let result = cut_short(&self.cancel, permit.deadline(), call).await?;
        permit.settle(cost(&result));
        Ok(result)
    }
}

/// Runs `call` until it ends, the token is cancelled or the deadline passes.
async fn cut_short<T>(
    cancel: &CancelToken,
    deadline: Option<(Instant, f64)>,
    call: impl Future<Output = Result<T, GenerateError>>,
) -> Result<T, GenerateError> {
    let over = async {
        match deadline {
            Some((at, seconds)) => {
                tokio::time::sleep_until(at.into()).await;
                seconds
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        result = call => result,
        () = cancel.cancelled() => Err(GenerateError::Cancelled),
        seconds = over => Err(Ledger::seconds_over(seconds)),
    }
}

#[async_trait]
impl LanguageModel for BudgetLayer {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn fingerprint(&self) -> String {
        self.inner.fingerprint()
    }

    fn host(&self) -> Option<String> {
        self.inner.host()
    }

    async fn generate(&self, request: &GenerateRequest) -> Result<Vec<Completion>, GenerateError> {
        let cost = |completions: &Vec<Completion>| completions.iter().map(|c| c.usage).sum();
        self.run(self.inner.generate(request), cost).await
    }

    async fn stream(
        &self,
        request: &GenerateRequest,
    ) -> Result<BoxStream<'static, Result<StreamEvent, GenerateError>>, GenerateError> {
        if self.cancel.is_cancelled() {
            return Err(GenerateError::Cancelled);
        }
        let permit = Permit::acquire(&self.ledgers)?;
        let deadline = permit.deadline();
        let inner = cut_short(&self.cancel, deadline, self.inner.stream(request)).await?;
        let metered = Metered { inner, permit: Some(permit), spent: Usage::default(), completed: false };
        let cancel = self.cancel.clone();
        // The permit travels with the stream, so a reader that stops early still books what it has seen.
        let stream = futures::stream::unfold(Some(metered), move |state| {
            let cancel = cancel.clone();
            async move {
                let mut metered = state?;
                let next = cut_short(&cancel, deadline, async { Ok(metered.inner.next().await) }).await;
                match next {
                    Ok(None) => None,
                    Ok(Some(event)) => {
                        if let Ok(StreamEvent::Done { completion, .. }) = &event {
                            metered.spent += completion.usage;
                            metered.completed = true;
                        }
                        let rest = event.is_ok().then_some(metered);
                        Some((event, rest))
                    }
                    Err(error) => Some((Err(error), None)),
                }
            }
        });
        Ok(stream.boxed())
    }

    async fn score(&self, request: &ScoreRequest) -> Result<Vec<Scored>, GenerateError> {
        let cost = |scored: &Vec<Scored>| scored.iter().map(|s| s.usage).sum();
        self.run(self.inner.score(request), cost).await
    }

    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, GenerateError> {
        self.run(self.inner.embed(texts), |_| Usage { calls: 1, ..Usage::default() }).await
    }
}

struct Metered {
    inner: BoxStream<'static, Result<StreamEvent, GenerateError>>,
    permit: Option<Permit>,
    spent: Usage,
    completed: bool,
}

impl Drop for Metered {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take()
            && self.completed
        {
            permit.settle(self.spent);
        }
    }
}
