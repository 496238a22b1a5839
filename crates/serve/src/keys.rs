//! Who may ask: keys, their scopes and their limits.

use crate::ApiError;
use crate::telemetry::Link;
use elenchus_remember::service::{KeyEntry, ServiceStore};
use elenchus_trace::{Budget, Usage};
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, HeaderMap};
use rand::RngExt;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

/// How every secret begins, so that it is recognised where it was left lying.
pub const SECRET_PREFIX: &str = "elk-";
/// The scopes that there are.
pub const SCOPES: [&str; 5] = ["ask", "feedback", "read", "export", "metrics"];
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
    /// Read the counters of the process.
    Metrics,
}

impl Scope {
    /// The word in a key's list.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Ask => SCOPES[0],
            Scope::Feedback => SCOPES[1],
            Scope::Read => SCOPES[2],
            Scope::Export => SCOPES[3],
            Scope::Metrics => SCOPES[4],
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

/// Names the trace that a request makes, for whoever logs the request and for who made it.
#[derive(Debug, Clone, Default)]
pub(crate) struct TraceNote(Arc<Noted>);

#[derive(Debug, Default)]
struct Noted {
    id: OnceLock<String>,
    is_lost: AtomicBool,
}

impl TraceNote {
    pub fn note(&self, id: &str) {
        // A request makes one trace; a second note would be of the same.
        let _ = self.0.id.set(id.to_string());
    }

    pub fn id(&self) -> Option<&str> {
        self.0.id.get().map(String::as_str)
    }

    /// The store failed: there is no such trace.
    pub fn lost(&self) {
        self.0.is_lost.store(true, Ordering::Relaxed);
    }

    /// The trace that can be asked for.
    pub fn promised(&self) -> Option<&str> {
        self.id().filter(|_| !self.0.is_lost.load(Ordering::Relaxed))
    }
}

/// Who asks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller {
    pub key: Option<KeyEntry>,
    /// A bearer token that is none of ours, for upstreams without a key.
    pub foreign: Option<String>,
    /// The span of the request, where one is recorded.
    pub span: Option<Link>,
    pub trace: TraceNote,
}

impl Caller {
    pub fn name(&self) -> &str {
        self.key.as_ref().map_or("", |key| key.name.as_str())
    }
}

#[derive(Debug, Default)]
struct Known {
    read: Option<Instant>,
    /// By the hash of the secret.
    keys: HashMap<String, KeyEntry>,
}

/// The keys as they were read last, and when one is needed.
pub(crate) struct KeyRing {
    /// Whether the listener can be reached by others.
    open: bool,
    known: RwLock<Known>,
    /// Held by who reads the keys; the others wait for what that gives.
    pub reading: tokio::sync::Mutex<()>,
}

/// Whether a proxy handed the request on: whoever asks, it is not a program of this machine that asks by itself.
fn is_handed_on(headers: &HeaderMap) -> bool {
    ["forwarded", "x-forwarded-for", "x-real-ip"].iter().any(|name| headers.contains_key(*name))
}

impl KeyRing {
    /// `open` where the listener can be reached by others.
    pub fn new(open: bool) -> Self {
        KeyRing { open, known: RwLock::default(), reading: tokio::sync::Mutex::default() }
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request needs a key, with `require_keys` as the settings say.
    pub fn is_required(&self, setting: Option<bool>, headers: &HeaderMap) -> bool {
        self.open || setting.unwrap_or_else(|| !self.is_empty() || is_handed_on(headers))
    }

    /// Whether no key is known.
    pub fn is_empty(&self) -> bool {
        self.known().keys.is_empty()
    }

    pub fn is_fresh(&self) -> bool {
        self.known().read.is_some_and(|at| at.elapsed() < FRESH)
    }

    /// Reads the keys again.
    ///
    /// # Errors
    /// The store cannot be read; the keys known before stay.
    pub fn refresh(&self, store: &dyn ServiceStore) -> Result<(), elenchus_remember::RememberError> {
        let keys = store.keys()?.into_iter().map(|key| (key.hash.clone(), key)).collect();
        *self.known.write().unwrap_or_else(PoisonError::into_inner) =
            Known { read: Some(Instant::now()), keys };
        Ok(())
    }

    /// Leaves the keys as they are for as long as if they had been read.
    pub fn rest(&self) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).read = Some(Instant::now());
    }

    /// Who asks, and whether they may.
    pub fn caller(
        &self,
        headers: &HeaderMap,
        scope: Scope,
        setting: Option<bool>,
    ) -> Result<Caller, ApiError> {
        let token = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer ").or(value.strip_prefix("bearer ")))
            .map(str::trim)
            .filter(|token| !token.is_empty());
        let ours = token.filter(|token| token.starts_with(SECRET_PREFIX));
        let entry = ours.and_then(|token| self.known().keys.get(&hash_secret(token)).cloned());
        match entry {
            Some(key) if key.scopes.iter().any(|known| known == scope.name()) => {
                Ok(Caller { key: Some(key), ..Caller::default() })
            }
            Some(key) => {
                let message = format!(
                    "the key `{}` has no right to `{}`\nhint: `elenchus keys add NAME --scope {}` makes one that has",
                    key.name,
                    scope.name(),
                    scope.name()
                );
                Err(ApiError::new(StatusCode::FORBIDDEN, "missing_scope", message))
            }
            None if ours.is_some() || self.is_required(setting, headers) => {
                let message = if self.is_empty() && !self.open && is_handed_on(headers) {
                    "a proxy handed the request on, so it needs a key, and none was made\nhint: `elenchus keys add NAME` \
                     makes one; where the proxy decides who may ask, `require_keys = false` in `[serve]`"
                } else {
                    "no valid key of this gateway was sent\nhint: `Authorization: Bearer elk-…`; \
                     `elenchus keys add NAME` makes one"
                };
                Err(ApiError::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message))
            }
            None => Ok(Caller { foreign: token.map(str::to_string), ..Caller::default() }),
        }
    }
}

/// What a key may still spend, beside what its calls in flight hold.
///
/// # Errors
/// Nothing is left, or nothing while those calls run.
pub(crate) fn allowance(key: &KeyEntry, spent: &Usage, held: &Usage) -> Result<Budget, ApiError> {
    let refuse = |is_spent: bool, limit: String| {
        let KeyEntry { name, window_seconds, .. } = key;
        let (code, message) = if is_spent {
            let message =
                format!("has spent its {limit} of the last {window_seconds} seconds\nhint: wait, or");
            ("key_budget_exhausted", message)
        } else {
            let message = format!(
                "has its last {limit} of {window_seconds} seconds held by its calls that are running\nhint: ask again when \
                 they end, name a lower `max_tokens`, or"
            );
            ("key_budget_held", message)
        };
        let message =
            format!("the key `{name}` {message} make a key with a higher limit (`elenchus keys add`)");
        let retry_after_seconds = Some(1).filter(|_| !is_spent);
        Err(ApiError { retry_after_seconds, ..ApiError::new(StatusCode::TOO_MANY_REQUESTS, code, message) })
    };
    let tokens = key.tokens.map(|limit| limit.saturating_sub(spent.tokens()));
    let free = tokens.map(|left| left.saturating_sub(held.tokens()));
    if free == Some(0) {
        return refuse(tokens == Some(0), format!("{} tokens", key.tokens.unwrap_or(0)));
    }
    let money = key.money.map(|limit| limit - spent.money);
    let free_money = money.map(|left| left - held.money);
    if free_money.is_some_and(|free| free <= 0.0) {
        let is_spent = money.is_some_and(|left| left <= 0.0);
        return refuse(is_spent, format!("{} of money", key.money.unwrap_or(0.0)));
    }
    Ok(Budget { tokens: free, money: free_money, ..Budget::default() })
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
        let caller = |headers: &HeaderMap, scope| ring.caller(headers, scope, None);
        assert_eq!(caller(&headers(&secret), Scope::Ask).unwrap_err().status, 401, "before it is read");
        ring.refresh(&store).unwrap();
        assert_eq!(caller(&headers(&secret), Scope::Ask).unwrap().name(), "app");
        assert_eq!(caller(&headers(&secret), Scope::Export).unwrap_err().status, 403);
        assert_eq!(caller(&HeaderMap::new(), Scope::Ask).unwrap_err().status, 401);
        assert_eq!(caller(&headers("sk-other"), Scope::Ask).unwrap_err().status, 401);
        store.write(&[Write::RevokeKey("app".into())]).unwrap();
        ring.refresh(&store).unwrap();
        assert_eq!(caller(&headers(&secret), Scope::Ask).unwrap_err().status, 401);
    }

    #[test]
    fn on_loopback_keys_are_optional_and_foreign_ones_are_passed_on() {
        let ring = KeyRing::new(false);
        let foreign = ring.caller(&headers("sk-x"), Scope::Ask, None).unwrap().foreign;
        assert_eq!(foreign.as_deref(), Some("sk-x"));
        assert!(ring.caller(&HeaderMap::new(), Scope::Export, None).unwrap().key.is_none());
        let wrong = headers(&format!("{SECRET_PREFIX}00"));
        assert_eq!(ring.caller(&wrong, Scope::Ask, None).unwrap_err().status, 401, "never sent upstream");
    }

    #[test]
    fn keys_are_needed_beyond_loopback_behind_a_proxy_and_once_there_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path().join("s.sqlite")).unwrap();
        let (direct, mut proxied) = (HeaderMap::new(), HeaderMap::new());
        proxied.insert("x-forwarded-for", "192.0.2.1".parse().unwrap());
        let (open, closed) = (KeyRing::new(true), KeyRing::new(false));
        for (setting, wanted) in [(None, true), (Some(true), true), (Some(false), true)] {
            assert_eq!(open.is_required(setting, &direct), wanted, "others reach it: {setting:?}");
        }
        for (setting, alone, behind) in
            [(None, false, true), (Some(true), true, true), (Some(false), false, false)]
        {
            assert_eq!(closed.is_required(setting, &direct), alone, "{setting:?}");
            assert_eq!(closed.is_required(setting, &proxied), behind, "{setting:?}");
        }
        let refused = closed.caller(&proxied, Scope::Ask, None).unwrap_err();
        assert!(
            refused.status == 401 && refused.message.contains("require_keys = false"),
            "{}",
            refused.message
        );
        store.write(&[Write::Key(entry(&new_secret()))]).unwrap();
        closed.refresh(&store).unwrap();
        assert!(closed.is_required(None, &direct), "there is a key");
        assert!(!closed.is_required(Some(false), &direct), "who says so has decided");
    }

    #[test]
    fn an_allowance_is_what_is_left_of_the_window_beside_calls_in_flight() {
        let tokens = |prompt_tokens| Usage { prompt_tokens, ..Usage::default() };
        let none = Usage::default();
        let code = |spent: &Usage, held: &Usage, key: &KeyEntry| {
            allowance(key, spent, held).err().map(|error| (error.status.as_u16(), error.code))
        };
        let key = entry("x");
        assert_eq!(allowance(&key, &tokens(50), &none).unwrap().tokens, Some(50));
        assert_eq!(allowance(&key, &tokens(50), &tokens(20)).unwrap().tokens, Some(30));
        assert_eq!(code(&tokens(100), &none, &key), Some((429, "key_budget_exhausted")));
        assert_eq!(code(&tokens(50), &tokens(50), &key), Some((429, "key_budget_held")));
        let key = KeyEntry { tokens: None, money: Some(1.0), ..key };
        let money = |money| Usage { money, ..Usage::default() };
        assert_eq!(allowance(&key, &money(0.25), &money(0.25)).unwrap().money, Some(0.5));
        assert_eq!(code(&money(1.0), &none, &key), Some((429, "key_budget_exhausted")));
        assert_eq!(code(&money(0.5), &money(0.5), &key), Some((429, "key_budget_held")));
        let left = Budget { tokens: Some(5), calls: Some(9), ..Budget::default() };
        let right = Budget { tokens: Some(7), seconds: Some(1.0), ..Budget::default() };
        let both = tighter(left, right);
        assert_eq!((both.tokens, both.calls, both.seconds), (Some(5), Some(9), Some(1.0)));
    }
}
