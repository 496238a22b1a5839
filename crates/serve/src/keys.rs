//! Who may ask: keys, their scopes and their limits.

use crate::ApiError;
use crate::telemetry::Link;
use elenchus_remember::service::{KeyEntry, ServiceStore};
use elenchus_trace::{Budget, Usage};
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, HeaderMap};
use rand::RngExt;
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

/// How every secret begins, so that it is recognised where it was left lying.
pub const SECRET_PREFIX: &str = "elk-";
/// The scopes that there are.
pub const SCOPES: [&str; 4] = ["ask", "feedback", "read", "export"];
/// How old the list of keys may be; keys made or ended by another process count from then on.
const FRESH: Duration = Duration::from_secs(2);

/// What a request wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Ask models.
    Ask,
    /// Say what one thinks of an answer.
    Feedback,
    /// Read traces.
    Read,
    /// Read all training rows.
    Export,
}

impl Scope {
    /// The word in a key's list.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Ask => SCOPES[0],
            Scope::Feedback => SCOPES[1],
            Scope::Read => SCOPES[2],
            Scope::Export => SCOPES[3],
        }
    }
}

/// A new secret: 256 random bits. It is shown once and never stored.
pub fn new_secret() -> String {
    let bytes: [u8; 32] = rand::rng().random();
    let mut secret = String::from(SECRET_PREFIX);
    for byte in bytes {
        secret.push_str(&format!("{byte:02x}"));
    }
    secret
}

/// What is stored of a secret. A fast hash is enough: the secret has 256 bits, so nobody tries them all.
pub fn hash_secret(secret: &str) -> String {
    blake3::hash(secret.as_bytes()).to_hex().to_string()
}

/// Who asks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller {
    pub key: Option<KeyEntry>,
    /// A bearer token that is none of ours, for upstreams without a key.
    pub foreign: Option<String>,
    /// The span of the request, where one is recorded.
    pub span: Option<Link>,
}

impl Caller {
    pub fn name(&self) -> &str {
        self.key.as_ref().map_or("", |key| key.name.as_str())
    }
}

/// The keys as they were read last.
pub(crate) struct KeyRing {
    required: bool,
    known: RwLock<(Option<Instant>, HashMap<String, KeyEntry>)>,
}

impl KeyRing {
    /// `required` where the listener can be reached by others.
    pub fn new(required: bool) -> Self {
        KeyRing { required, known: RwLock::new((None, HashMap::new())) }
    }

    /// Whether a key is needed.
    pub fn is_required(&self) -> bool {
        self.required
    }

    pub fn is_fresh(&self) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.0.is_some_and(|at| at.elapsed() < FRESH)
    }

    /// Reads the keys again.
    ///
    /// # Errors
    /// The store cannot be read; the keys known before stay.
    pub fn refresh(&self, store: &dyn ServiceStore) -> Result<(), elenchus_remember::RememberError> {
        let keys = store.keys()?.into_iter().map(|key| (key.hash.clone(), key)).collect();
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = (Some(Instant::now()), keys);
        Ok(())
    }

    /// Who asks, and whether they may.
    pub fn caller(&self, headers: &HeaderMap, scope: Scope) -> Result<Caller, ApiError> {
        let token = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer ").or(value.strip_prefix("bearer ")))
            .map(str::trim)
            .filter(|token| !token.is_empty());
        let ours = token.filter(|token| token.starts_with(SECRET_PREFIX));
        let entry = ours.and_then(|token| {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            known.1.get(&hash_secret(token)).cloned()
        });
        match entry {
            Some(key) if key.scopes.iter().any(|known| known == scope.name()) => {
                Ok(Caller { key: Some(key), ..Caller::default() })
            }
            Some(key) => {
                let message = format!("the key `{}` has no right to `{}`", key.name, scope.name());
                Err(ApiError::new(StatusCode::FORBIDDEN, "missing_scope", message))
            }
            None if ours.is_some() || self.required => {
                let message = "no valid key of this gateway was sent\nhint: `Authorization: Bearer elk-…`; \
                               `elenchus keys add NAME` makes one";
                Err(ApiError::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message))
            }
            None => Ok(Caller { foreign: token.map(str::to_string), ..Caller::default() }),
        }
    }
}

/// What a key may still spend.
///
/// # Errors
/// Nothing is left.
pub(crate) fn allowance(key: &KeyEntry, spent: &Usage) -> Result<Budget, ApiError> {
    let exhausted = |what: String| {
        let message = format!(
            "the key `{}` has spent {what} of the last {} seconds\nhint: wait, or have its limit raised",
            key.name, key.window_seconds
        );
        Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "key_budget_exhausted", message))
    };
    let tokens = key.tokens.map(|limit| limit.saturating_sub(spent.tokens()));
    if tokens == Some(0) {
        return exhausted(format!("its {} tokens", key.tokens.unwrap_or(0)));
    }
    let money = key.money.map(|limit| (limit - spent.money).max(0.0));
    if money == Some(0.0) {
        return exhausted(format!("its {} of money", key.money.unwrap_or(0.0)));
    }
    Ok(Budget { tokens, money, ..Budget::default() })
}

/// The tighter of two budgets, bound by bound.
pub(crate) fn tighter(left: Budget, right: Budget) -> Budget {
    fn least<T: PartialOrd>(left: Option<T>, right: Option<T>) -> Option<T> {
        match (left, right) {
            (Some(left), Some(right)) => Some(if right < left { right } else { left }),
            (left, right) => left.or(right),
        }
    }
    Budget {
        tokens: least(left.tokens, right.tokens),
        calls: least(left.calls, right.calls),
        seconds: least(left.seconds, right.seconds),
        money: least(left.money, right.money),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use elenchus_remember::service::{SqliteStore, Write};

    fn entry(secret: &str) -> KeyEntry {
        KeyEntry {
            name: "app".into(),
            hash: hash_secret(secret),
            scopes: vec!["ask".into()],
            tokens: Some(100),
            money: None,
            window_seconds: 60,
            created_ms: 0,
        }
    }

    fn headers(token: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        headers
    }

    #[test]
    fn keys_are_known_by_their_hash_and_have_scopes() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path().join("s.sqlite")).unwrap();
        let secret = new_secret();
        assert_eq!(secret.len(), SECRET_PREFIX.len() + 64);
        store.write(&[Write::Key(entry(&secret))]).unwrap();
        let bytes = std::fs::read(folder.path().join("s.sqlite-wal")).unwrap();
        assert!(
            !bytes.windows(64).any(|part| part == &secret.as_bytes()[4..]),
            "the secret is not in the file"
        );
        let ring = KeyRing::new(true);
        assert_eq!(ring.caller(&headers(&secret), Scope::Ask).unwrap_err().status, 401, "before it is read");
        ring.refresh(&store).unwrap();
        assert_eq!(ring.caller(&headers(&secret), Scope::Ask).unwrap().name(), "app");
        assert_eq!(ring.caller(&headers(&secret), Scope::Export).unwrap_err().status, 403);
        assert_eq!(ring.caller(&HeaderMap::new(), Scope::Ask).unwrap_err().status, 401);
        assert_eq!(ring.caller(&headers("sk-other"), Scope::Ask).unwrap_err().status, 401);
        store.write(&[Write::RevokeKey("app".into())]).unwrap();
        ring.refresh(&store).unwrap();
        assert_eq!(ring.caller(&headers(&secret), Scope::Ask).unwrap_err().status, 401);
    }

    #[test]
    fn on_loopback_keys_are_optional_and_foreign_ones_are_passed_on() {
        let ring = KeyRing::new(false);
        assert_eq!(ring.caller(&headers("sk-x"), Scope::Ask).unwrap().foreign.as_deref(), Some("sk-x"));
        assert!(ring.caller(&HeaderMap::new(), Scope::Export).unwrap().key.is_none());
        let wrong = format!("{SECRET_PREFIX}00");
        assert_eq!(ring.caller(&headers(&wrong), Scope::Ask).unwrap_err().status, 401, "never sent upstream");
    }

    #[test]
    fn an_allowance_is_what_is_left_of_the_window() {
        let spent = Usage { prompt_tokens: 30, completion_tokens: 20, ..Usage::default() };
        assert_eq!(allowance(&entry("x"), &spent).unwrap().tokens, Some(50));
        let all = Usage { prompt_tokens: 100, ..Usage::default() };
        let error = allowance(&entry("x"), &all).unwrap_err();
        assert_eq!((error.status.as_u16(), error.code), (429, "key_budget_exhausted"));
        let left = Budget { tokens: Some(5), calls: Some(9), ..Budget::default() };
        let right = Budget { tokens: Some(7), seconds: Some(1.0), ..Budget::default() };
        let both = tighter(left, right);
        assert_eq!((both.tokens, both.calls, both.seconds), (Some(5), Some(9), Some(1.0)));
    }
}
