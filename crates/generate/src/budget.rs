//! Bounds on what is spent, shared by all calls that run at once.

use crate::{
    CUT_BY_BUDGET, CancelToken, GenerateError, GenerateRequest, LanguageModel, LatentReading, LatentRequest,
    ScoreRequest, Scored, StreamEvent,
};
use async_trait::async_trait;
use elenchus_trace::{Budget, Completion, FinishReason, Price, Usage};
use futures::StreamExt;
use futures::stream::BoxStream;
use std::borrow::Cow;
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
    /// The most that these may cost, as far as it is known.
    held: Usage,
    /// The most that one call wanted to hold so far.
    largest: Usage,
}

/// A sample that may write less than this, and less than it was asked for, is refused rather than cut.
const LEAST_TOKENS: u64 = 16;

/// What a call would make a model read and write.
#[derive(Debug, Clone, Copy)]
struct Demand {
    prompt: u64,
    samples: u64,
    /// Most tokens of a sample.
    most: u64,
    price: Option<Price>,
}

impl Demand {
    fn of(model: &dyn LanguageModel, request: &GenerateRequest) -> Self {
        let texts = request.messages.iter().map(|message| model.count_tokens(&message.text()));
        Demand {
            prompt: texts.sum(),
            samples: request.samples.max(1) as u64,
            most: u64::from(request.sampling.max_tokens),
            price: model.price(),
        }
    }

    /// What it costs when each sample is `most` tokens long.
    fn cost(&self, most: u64) -> Usage {
        let usage = Usage {
            prompt_tokens: self.prompt,
            completion_tokens: most.saturating_mul(self.samples),
            ..Usage::default()
        };
        Usage { money: self.price.map_or(0.0, |price| price.of(&usage)), ..usage }
    }
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

    /// Whether a call like the largest so far could begin now and write all that it wants. What has no call in flight may
    /// always try.
    pub fn has_room(&self) -> bool {
        let state = self.state();
        let tokens = state.spent.tokens() + state.held.tokens() + state.largest.tokens();
        let money = state.spent.money + state.held.money + state.largest.money;
        state.in_flight == 0
            || self.limit.tokens.is_none_or(|limit| tokens <= limit)
                && self.limit.money.is_none_or(|limit| money <= limit)
    }

    /// Books usage that no [`Permit`] covers (a tool, a person).
    pub fn add(&self, usage: Usage) {
        self.state().spent += usage;
    }

    fn exhausted(what: String, option: &str) -> GenerateError {
        GenerateError::Budget { what, option: option.into() }
    }

    /// Refuses when any bound is reached or does not reach over the prompt; otherwise counts one call as in flight. Says
    /// how long each sample may be, and what is held for them.
    fn begin(&self, demand: Option<&Demand>) -> Result<(u64, Usage), GenerateError> {
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
        let most = demand.map_or(Ok(u64::MAX), |demand| self.room(&state, demand))?;
        let held = demand.map_or(Usage::default(), |demand| demand.cost(most));
        if let Some(wanted) = demand.map(|demand| demand.cost(demand.most)) {
            state.largest.prompt_tokens = state.largest.prompt_tokens.max(wanted.prompt_tokens);
            state.largest.completion_tokens = state.largest.completion_tokens.max(wanted.completion_tokens);
            state.largest.money = state.largest.money.max(wanted.money);
        }
        state.in_flight += 1;
        state.held += held;
        Ok((most, held))
    }

    /// How long each sample may be. Calls that run at once share what is left: one may take what the others do not hold, and
    /// in any case its equal part, since hardly any call writes as much as it may.
    fn room(&self, state: &State, demand: &Demand) -> Result<u64, GenerateError> {
        let mut most = demand.most;
        let enough = demand.most.min(LEAST_TOKENS);
        let calls = state.in_flight + 1;
        let wanted = || {
            let answers = if demand.samples == 1 { "answer is" } else { "answers are" };
            format!("the prompt has about {} tokens, and {} {answers} wanted", demand.prompt, demand.samples)
        };
        if let Some(limit) = self.limit.tokens {
            let left = limit.saturating_sub(state.spent.tokens());
            let part = left.saturating_sub(state.held.tokens()).max(left / calls);
            most = most.min(part.saturating_sub(demand.prompt) / demand.samples);
            if most < enough {
                let what = format!("{part} of {limit} tokens are left for a call; {}", wanted());
                return Err(Self::exhausted(what, "budget.tokens"));
            }
        }
        if let (Some(limit), Some(price)) = (self.limit.money, demand.price) {
            let left = (limit - state.spent.money).max(0.0);
            let part = (left - state.held.money).max(left / calls as f64);
            let write = part - demand.cost(0).money;
            let token = price.completion_per_million / 1e6 * demand.samples as f64;
            // A price of nothing bounds nothing.
            let room = if token > 0.0 { (write.max(0.0) / token) as u64 } else { most };
            most = most.min(room);
            if most < enough || write < 0.0 {
                let what = format!("{part:.6} of {limit:.6} money is left for a call; {}", wanted());
                return Err(Self::exhausted(what, "budget.money"));
            }
        }
        Ok(most)
    }

    fn seconds_over(limit: f64) -> GenerateError {
        Self::exhausted(format!("{limit} seconds have passed"), "budget.seconds")
    }

    fn end(&self, held: Usage, usage: Usage) {
        let mut state = self.state();
        state.in_flight = state.in_flight.saturating_sub(1);
        state.held.prompt_tokens = state.held.prompt_tokens.saturating_sub(held.prompt_tokens);
        state.held.completion_tokens = state.held.completion_tokens.saturating_sub(held.completion_tokens);
        // Without calls there is nothing held: sums of fractions would leave a rest.
        state.held.money = if state.in_flight == 0 { 0.0 } else { (state.held.money - held.money).max(0.0) };
        state.spent += usage;
    }
}

/// The right to make one call under several nested budgets. Dropping it unused (the call failed or was cancelled)
/// books the call itself and nothing else.
#[derive(Debug)]
pub struct Permit {
    /// Each with what it holds for the call.
    ledgers: Vec<(Arc<Ledger>, Usage)>,
    usage: Usage,
    /// How long each sample of the call may be.
    most: u64,
}

impl Permit {
    /// Asks every ledger, outermost last; takes none when one refuses.
    pub fn acquire(ledgers: &[Arc<Ledger>]) -> Result<Self, GenerateError> {
        Self::demand(ledgers, None)
    }

    fn demand(ledgers: &[Arc<Ledger>], demand: Option<Demand>) -> Result<Self, GenerateError> {
        let usage = Usage { calls: 1, ..Usage::default() };
        let mut permit = Permit { ledgers: Vec::with_capacity(ledgers.len()), usage, most: u64::MAX };
        for ledger in ledgers {
            match ledger.begin(demand.as_ref()) {
                Ok((most, held)) => {
                    permit.most = permit.most.min(most);
                    permit.ledgers.push((Arc::clone(ledger), held));
                }
                Err(error) => {
                    permit.usage = Usage::default();
                    return Err(error);
                }
            }
        }
        Ok(permit)
    }

    /// The request with samples no longer than the budget allows.
    fn bounded<'r>(&self, request: &'r GenerateRequest) -> Cow<'r, GenerateRequest> {
        let most = u32::try_from(self.most).unwrap_or(u32::MAX);
        if request.sampling.max_tokens <= most {
            return Cow::Borrowed(request);
        }
        let mut bounded = request.clone();
        bounded.unbounded_tokens.get_or_insert(bounded.sampling.max_tokens);
        bounded.sampling.max_tokens = most;
        Cow::Owned(bounded)
    }

    /// Books what the call has cost.
    pub fn settle(mut self, usage: Usage) {
        self.usage = usage;
    }

    /// When the tightest time bound is reached, and that bound in seconds.
    fn deadline(&self) -> Option<(Instant, f64)> {
        self.ledgers
            .iter()
            .filter_map(|(ledger, _)| {
                let seconds = ledger.limit.seconds?;
                let length = Duration::try_from_secs_f64(seconds.max(0.0)).ok()?;
                Some((ledger.started.checked_add(length)?, seconds))
            })
            .min_by_key(|(at, _)| *at)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        for (ledger, held) in &self.ledgers {
            ledger.end(*held, self.usage);
        }
    }
}

/// A model whose calls are counted in ledgers and refused when one is exhausted.
///
/// Bounds are checked before a call; what it cost is booked behind it. A call may write what is left behind its prompt, and
/// goes with a lower `max_tokens` where it asks for more; calls at once share what is left, so that tokens and money are
/// overrun by no more than these. What a prompt has is a guess where the tokenizer is not at hand. Calls are never
/// overrun, and a call that is running when the seconds end is cut off.
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

    /// The right to make a call. Only where tokens or money are bounded is its prompt counted.
    fn permit(&self, request: Option<&GenerateRequest>) -> Result<Permit, GenerateError> {
        if self.cancel.is_cancelled() {
            return Err(GenerateError::Cancelled);
        }
        let bounded = |ledger: &Arc<Ledger>| ledger.limit.tokens.is_some() || ledger.limit.money.is_some();
        let request = request.filter(|_| self.ledgers.iter().any(bounded));
        Permit::demand(&self.ledgers, request.map(|request| Demand::of(self.inner.as_ref(), request)))
    }

    async fn run<T>(
        &self,
        permit: Permit,
        call: impl Future<Output = Result<T, GenerateError>>,
        cost: impl Fn(&T) -> Usage,
    ) -> Result<T, GenerateError> {
        let result = cut_short(&self.cancel, permit.deadline(), call).await?;
        permit.settle(cost(&result));
        Ok(result)
    }
}

/// Says of a completion that the budget cut it, where the request was longer before.
fn tell_cut(request: &GenerateRequest, completion: &mut Completion) {
    if request.unbounded_tokens.is_some() && completion.finish == FinishReason::Length {
        completion.extra.insert(CUT_BY_BUDGET.into(), true.into());
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
        let permit = self.permit(Some(request))?;
        let request = permit.bounded(request);
        let mut completions = self.run(permit, self.inner.generate(&request), cost).await?;
        completions.iter_mut().for_each(|completion| tell_cut(&request, completion));
        Ok(completions)
    }

    async fn stream(
        &self,
        request: &GenerateRequest,
    ) -> Result<BoxStream<'static, Result<StreamEvent, GenerateError>>, GenerateError> {
        let permit = self.permit(Some(request))?;
        let deadline = permit.deadline();
        let request = permit.bounded(request);
        let inner = cut_short(&self.cancel, deadline, self.inner.stream(&request)).await?;
        let bounded = GenerateRequest { messages: Vec::new(), ..request.into_owned() };
        let metered = Metered { inner, permit: Some(permit), spent: Usage::default(), completed: false };
        let cancel = self.cancel.clone();
        // The permit travels with the stream, so a reader that stops early still books what it has seen.
        let stream = futures::stream::unfold(Some(metered), move |state| {
            let (cancel, bounded) = (cancel.clone(), bounded.clone());
            async move {
                let mut metered = state?;
                let next = cut_short(&cancel, deadline, async { Ok(metered.inner.next().await) }).await;
                match next {
                    Ok(None) => None,
                    Ok(Some(mut event)) => {
                        if let Ok(StreamEvent::Done { completion, .. }) = &mut event {
                            tell_cut(&bounded, completion);
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
        self.run(self.permit(None)?, self.inner.score(request), cost).await
    }

    async fn latent(&self, request: &LatentRequest) -> Result<LatentReading, GenerateError> {
        self.run(self.permit(None)?, self.inner.latent(request), |reading| reading.usage).await
    }

    async fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, GenerateError> {
        self.run(self.permit(None)?, self.inner.embed(texts), |_| Usage { calls: 1, ..Usage::default() })
            .await
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

    /// Says what it was asked for, and writes as much as it may.
    struct Greedy {
        asked: Mutex<Vec<(usize, u32)>>,
        price: Option<Price>,
    }

    #[async_trait]
    impl LanguageModel for Greedy {
        fn name(&self) -> &str {
            "greedy"
        }

        fn capabilities(&self) -> crate::Capabilities {
            Scripted::new("m").capabilities()
        }

        fn count_tokens(&self, text: &str) -> u64 {
            text.split(' ').count() as u64
        }

        fn price(&self) -> Option<Price> {
            self.price
        }

        async fn generate(&self, request: &GenerateRequest) -> Result<Vec<Completion>, GenerateError> {
            let most = request.sampling.max_tokens;
            self.asked.lock().unwrap().push((request.samples, most));
            tokio::time::sleep(Duration::from_millis(5)).await;
            let one = |index: usize| {
                let mut completion = Completion::text("word");
                completion.usage.completion_tokens = u64::from(most);
                if index == 0 {
                    completion.usage.prompt_tokens = 3;
                    completion.usage.calls = 1;
                }
                completion.usage.money = self.price.map_or(0.0, |price| price.of(&completion.usage));
                completion
            };
            Ok((0..request.samples).map(one).collect())
        }

        async fn stream(
            &self,
            _: &GenerateRequest,
        ) -> Result<BoxStream<'static, Result<StreamEvent, GenerateError>>, GenerateError> {
            Err(GenerateError::Cancelled)
        }
    }

    fn greedy(price: Option<Price>, limit: Budget) -> (BudgetLayer, Arc<Greedy>, Arc<Ledger>) {
        let model = Arc::new(Greedy { asked: Mutex::default(), price });
        let ledger = Arc::new(Ledger::new(limit));
        let layer = BudgetLayer::new(model.clone(), vec![Arc::clone(&ledger)], CancelToken::new());
        (layer, model, ledger)
    }

    #[tokio::test]
    async fn a_call_may_write_what_is_left_behind_its_prompt() {
        let (layer, model, ledger) = greedy(None, Budget { tokens: Some(303), ..Budget::default() });
        layer.generate(&request(3)).await.unwrap();
        assert_eq!(
            *model.asked.lock().unwrap(),
            [(3, 100)],
            "(303 - 3) / 3 and not the 1,024 that were asked for"
        );
        assert_eq!(ledger.spent().tokens(), 303);
        assert!(layer.generate(&request(1)).await.is_err());

        let (layer, model, _) = greedy(None, Budget { tokens: Some(100), ..Budget::default() });
        let refused = layer.generate(&request(50)).await.unwrap_err().to_string();
        assert!(refused.contains("100 tokens") && refused.contains("budget.tokens"), "{refused}");
        let mut long = request(1);
        long.messages = vec![Message::user("word ".repeat(200))];
        assert!(layer.generate(&long).await.is_err(), "the prompt alone is too long");
        let mut short = request(6);
        short.sampling.max_tokens = 4;
        layer.generate(&short).await.unwrap();
        assert_eq!(
            *model.asked.lock().unwrap(),
            [(6, 4)],
            "what fits goes as it is; what was refused is never asked"
        );
    }

    #[tokio::test]
    async fn money_bounds_a_call_by_the_price_of_its_model() {
        let price = Price { prompt_per_million: 1.0, completion_per_million: 10.0 };
        let (layer, model, ledger) = greedy(Some(price), Budget { money: Some(0.001), ..Budget::default() });
        layer.generate(&request(2)).await.unwrap();
        assert_eq!(*model.asked.lock().unwrap(), [(2, 49)], "(0.001 - 0.000003) / 0.00001 / 2");
        assert!(ledger.spent().money <= 0.001);
        assert!(layer.generate(&request(1)).await.is_err());
    }

    #[tokio::test]
    async fn calls_at_once_share_what_is_left() {
        let (layer, model, ledger) = greedy(None, Budget { tokens: Some(3000), ..Budget::default() });
        let one = request(1);
        let done = futures::future::join_all((0..5).map(|_| layer.generate(&one))).await;
        assert!(done.iter().all(Result::is_ok), "none is refused: hardly any call writes what it may");
        let asked: Vec<u32> = model.asked.lock().unwrap().iter().map(|&(_, most)| most).collect();
        assert_eq!(asked, [1024, 1024, 997, 747, 597]);
        assert_eq!(ledger.state().held.tokens(), 0, "what was held is given back");
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

    #[test]
    fn there_is_room_as_long_as_a_call_like_the_largest_fits() {
        let ledger = Arc::new(Ledger::new(Budget { tokens: Some(1000), ..Budget::default() }));
        assert!(ledger.has_room(), "nothing runs");
        let demand = Demand { prompt: 10, samples: 2, most: 200, price: None };
        let permit = Permit::demand(std::slice::from_ref(&ledger), Some(demand)).unwrap();
        assert!(ledger.has_room(), "410 are held, 410 more fit");
        let second = Permit::demand(std::slice::from_ref(&ledger), Some(demand)).unwrap();
        assert!(!ledger.has_room(), "820 are held");
        second.settle(Usage { completion_tokens: 50, calls: 1, ..Usage::default() });
        assert!(ledger.has_room(), "50 are spent, 410 held");
        drop(permit);
        ledger.add(Usage { completion_tokens: 900, ..Usage::default() });
        assert!(ledger.has_room(), "one alone may always try");
    }
}
