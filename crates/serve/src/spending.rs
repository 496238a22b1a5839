//! What a request may spend: its own budget, the gateway's, and what is left of its key's, calls in flight counted.

use crate::ApiError;
use crate::keys::{Caller, allowance, tighter};
use crate::state::{Live, State, Target, now_ms};
use elenchus_trace::{Budget, Usage};
use hyper::StatusCode;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What calls in flight are expected to cost, by the name of their key.
#[derive(Debug, Default)]
pub(crate) struct Holds(Mutex<HashMap<String, Vec<Arc<Usage>>>>);

impl Holds {
    fn accounts(&self) -> std::sync::MutexGuard<'_, HashMap<String, Vec<Arc<Usage>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds what a call is expected to cost; says what was held before it.
    pub fn hold(self: &Arc<Self>, key: &str, expected: Usage) -> (Usage, Hold) {
        let expected = Arc::new(expected);
        let mut accounts = self.accounts();
        let account = accounts.entry(key.to_string()).or_default();
        let before = account.iter().map(|held| **held).sum();
        account.push(Arc::clone(&expected));
        (before, Hold { holds: Arc::clone(self), key: key.into(), expected })
    }
}

/// What one call is expected to cost, until it is dropped: that is when its trace says what it has cost.
#[derive(Debug)]
pub(crate) struct Hold {
    holds: Arc<Holds>,
    key: String,
    expected: Arc<Usage>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut accounts = self.holds.accounts();
        let Some(account) = accounts.get_mut(&self.key) else { return };
        account.retain(|held| !Arc::ptr_eq(held, &self.expected));
        if account.is_empty() {
            accounts.remove(&self.key);
        }
    }
}

/// What a request may spend, and what is held of it until its trace is kept.
#[derive(Debug)]
pub(crate) struct Grant {
    pub budget: Budget,
    pub hold: Option<Hold>,
}

impl State {
    /// What a request of this caller may spend: its own wish, the key's window and the gateway's bound. Calls of one
    /// key that run at once count with what they are expected to cost.
    ///
    /// # Errors
    /// Nothing is left; money is bounded and the model has no price; the store cannot be read.
    pub async fn grant(
        &self,
        live: &Live,
        caller: &Caller,
        target: &Target,
        wish: Option<Budget>,
        mut expected: Usage,
    ) -> Result<Grant, ApiError> {
        let wish = wish.unwrap_or_default();
        let key = caller.key.as_ref().filter(|key| key.tokens.is_some() || key.money.is_some());
        let price = live.prices.get(target.model());
        if price.is_none() && *target != Target::Embedded {
            let unpriced = |status, who: String| {
                let model = target.model();
                let message = format!(
                    "{who} bounds money, and the model `{model}` has no price\nhint: the table `[prices.\"{model}\"]` of \
                     the gateway's configuration gives it one"
                );
                Err(ApiError::new(status, "model_without_price", message))
            };
            if let Some(key) = key.filter(|key| key.money.is_some()) {
                return unpriced(StatusCode::FORBIDDEN, format!("the key `{}`", key.name));
            }
            if live.settings.budget.money.is_some() {
                return unpriced(StatusCode::FORBIDDEN, "the gateway's `budget`".into());
            }
            if wish.money.is_some() {
                return unpriced(StatusCode::BAD_REQUEST, "`elenchus.budget`".into());
            }
        }
        let seconds = Budget { seconds: Some(live.settings.request_seconds), ..Budget::default() };
        let budget = tighter(tighter(live.settings.budget, wish), seconds);
        let Some(key) = key else { return Ok(Grant { budget, hold: None }) };
        expected.money = price.map_or(0.0, |price| price.of(&expected));
        // Held before the store is read: a call that ends meanwhile is in one of the two, or in both for a moment.
        let (held, hold) = self.holds.hold(&key.name, expected);
        let since = now_ms().saturating_sub(key.window_seconds.saturating_mul(1000));
        let name = key.name.clone();
        let spent = self.archive.read(move |store| store.spent(&name, since)).await?;
        let left = allowance(key, &spent, &held)?;
        Ok(Grant { budget: tighter(budget, left), hold: Some(hold) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_counts_for_later_calls_until_it_ends() {
        let holds = Arc::new(Holds::default());
        let expected = |tokens| Usage { completion_tokens: tokens, money: 0.1, ..Usage::default() };
        let (before, first) = holds.hold("a", expected(10));
        assert_eq!(before, Usage::default());
        let (before, second) = holds.hold("a", expected(10));
        assert_eq!(before.tokens(), 10, "the same amount is another hold");
        assert_eq!(holds.hold("b", expected(1)).0, Usage::default(), "of another key");
        drop(first);
        assert_eq!(holds.hold("a", expected(0)).0.tokens(), 10);
        drop(second);
        assert!(holds.accounts().is_empty(), "nothing is left of keys without calls");
    }
}
