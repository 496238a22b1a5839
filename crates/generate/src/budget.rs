//! Bounds on what is spent, shared by all calls that run at once.

use crate::{
    CancelToken, GenerateError, GenerateRequest, LanguageModel, LatentReading, LatentRequest, ScoreRequest,
    Scored, StreamEvent,
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
    crate::model::same_model!();

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

    async fn latent(&self, request: &LatentRequest) -> Result<LatentReading, GenerateError> {
        self.run(self.inner.latent(request), |reading| reading.usage).await
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scripted;
    use elenchus_trace::Message;

    fn request(samples: usize) -> GenerateRequest {
        GenerateRequest { samples, ..GenerateRequest::new(vec![Message::user("one two three")]) }
    }

    fn layer(model: Arc<Scripted>, limit: Budget) -> (BudgetLayer, Arc<Ledger>) {
        let ledger = Arc::new(Ledger::new(limit));
        (BudgetLayer::new(model, vec![Arc::clone(&ledger)], CancelToken::new()), ledger)
    }

    fn slow(milliseconds: u64) -> Arc<Scripted> {
        Scripted::new("m").delay(Duration::from_millis(milliseconds)).on("", ["four five"]).shared()
    }

    #[tokio::test]
    async fn calls_are_never_overrun_by_concurrent_ones() {
        let model = slow(10);
        let (layer, ledger) = layer(model.clone(), Budget { calls: Some(7), ..Budget::default() });
        let wanted = request(1);
        let results = futures::future::join_all((0..50).map(|_| layer.generate(&wanted))).await;
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 7);
        assert_eq!(model.calls(), 7, "what is refused is never asked");
        assert_eq!(ledger.remaining().calls, Some(0));
        let refused = results.into_iter().find_map(Result::err).unwrap().to_string();
        assert!(refused.contains("budget.calls") && refused.contains("hint: "), "{refused}");
    }

    #[tokio::test]
    async fn tokens_are_overrun_by_no_more_than_the_calls_in_flight() {
        // A call costs 3 + 2 tokens.
        let (layer, ledger) = layer(slow(0), Budget { tokens: Some(12), ..Budget::default() });
        let mut done = 0;
        while layer.generate(&request(1)).await.is_ok() {
            done += 1;
        }
        assert_eq!(
            (done, ledger.spent().tokens()),
            (3, 15),
            "the third call begins below the bound and is paid for"
        );
        assert_eq!(ledger.remaining().tokens, Some(0));
    }

    #[tokio::test]
    async fn seconds_cut_off_a_running_call() {
        let (layer, ledger) = layer(slow(5000), Budget { seconds: Some(0.03), ..Budget::default() });
        let started = Instant::now();
        let error = layer.generate(&request(1)).await.unwrap_err();
        assert!(
            matches!(&error, GenerateError::Budget { option, .. } if option == "budget.seconds"),
            "{error}"
        );
        assert!(started.elapsed() < Duration::from_secs(1));
        assert_eq!(ledger.spent().calls, 1, "a call that was cut off was made");
        assert!(layer.generate(&request(1)).await.is_err());
        assert_eq!(ledger.spent().calls, 1, "a call that was refused was not");
    }

    #[tokio::test]
    async fn cancelling_ends_calls_and_streams() {
        let token = CancelToken::new();
        let layer =
            BudgetLayer::new(slow(5000), vec![Arc::new(Ledger::new(Budget::default()))], token.clone());
        let wanted = request(1);
        let call = layer.generate(&wanted);
        let cancel = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            token.cancel();
        };
        let (result, ()) = tokio::join!(call, cancel);
        assert_eq!(result, Err(GenerateError::Cancelled));
        assert!(matches!(layer.stream(&wanted).await, Err(GenerateError::Cancelled)));
    }

    #[tokio::test]
    async fn a_stream_books_what_its_reader_has_seen() {
        let (layer, ledger) = layer(slow(0), Budget::default());
        let events: Vec<_> = layer.stream(&request(2)).await.unwrap().collect().await;
        assert_eq!(events.len(), 4);
        assert_eq!((ledger.spent().tokens(), ledger.spent().calls), (7, 1));
        let mut half = layer.stream(&request(2)).await.unwrap();
        half.next().await.unwrap().unwrap();
        drop(half);
        assert_eq!(ledger.spent().calls, 2, "a stream that was left is still a call");
    }

    #[tokio::test]
    async fn all_ledgers_or_none_are_charged() {
        let wide = Arc::new(Ledger::new(Budget::default()));
        let narrow = Arc::new(Ledger::new(Budget { calls: Some(1), ..Budget::default() }));
        let layer =
            BudgetLayer::new(slow(0), vec![Arc::clone(&wide), Arc::clone(&narrow)], CancelToken::new());
        layer.generate(&request(1)).await.unwrap();
        layer.generate(&request(1)).await.unwrap_err();
        assert_eq!((wide.spent().calls, narrow.spent().calls), (1, 1));
        assert_eq!(wide.state().in_flight, 0, "the refusal of the second gave the place in the first back");
    }
}
