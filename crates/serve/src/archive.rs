//! The store behind one thread: what arrives at the same time is written in one transaction, and everybody waits until
//! it is.

use crate::ApiError;
use crate::spending::Hold;
use elenchus_remember::RememberError;
use elenchus_remember::service::{ServiceStore, TraceEntry, Write, Written};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Changes of one transaction at most: bounds how long the first of them waits.
const MOST_TOGETHER: usize = 256;
/// Changes that may wait; further ones are refused, so that a store that hangs cannot fill the memory.
const MOST_WAITING: usize = 4096;
/// The same in bytes: one change may be as large as a request and its answer.
const MOST_WAITING_BYTES: usize = 256 << 20;
/// How long a change waits for a store that takes none: as long as the store itself waits for a lock.
const MOST_WAIT: Duration = Duration::from_secs(5);

type Outcome = Result<Written, Arc<RememberError>>;

struct Job {
    /// What the trace is expected to cost; held until the store says what it has cost.
    hold: Option<Hold>,
    /// `None` only asks to be told when everything before it is written.
    write: Option<Write>,
    done: Option<oneshot::Sender<Outcome>>,
    asked: Instant,
    bytes: usize,
}

impl Job {
    fn end(self, outcome: Outcome) {
        // Who is told may ask again at once.
        drop(self.hold);
        // Who went away does not need to know.
        let _ = self.done.map(|done| done.send(outcome));
    }
}

/// Bytes of a change, roughly.
fn size(write: &Write) -> usize {
    let said = match write {
        Write::Trace(entry) => {
            let texts =
                [&entry.summary.question, &entry.summary.answer].map(String::len).iter().sum::<usize>();
            let kept =
                entry.response.as_ref().map_or(0, Vec::len) + entry.trace.as_ref().map_or(0, String::len);
            texts + entry.request.len() + kept
        }
        Write::Feedback(entry) => {
            let edit = entry.edit.as_ref().and_then(|edit| edit.text.as_ref());
            [entry.comment.as_ref(), entry.correction.as_ref(), edit]
                .into_iter()
                .flatten()
                .map(String::len)
                .sum()
        }
        Write::Key(_) | Write::RevokeKey(_) => 0,
    };
    said + 512
}

/// The thread's side of the store.
struct Writer {
    store: Arc<dyn ServiceStore>,
    failed: Arc<AtomicU64>,
    waiting_bytes: Arc<AtomicUsize>,
    /// Why the last changes were not made, while the store takes none.
    away: Option<Arc<RememberError>>,
}

impl Writer {
    /// Makes what came together, in one transaction.
    fn make(&mut self, jobs: Vec<Job>) {
        let bytes = jobs.iter().map(|job| job.bytes).sum();
        let mut writes = Vec::with_capacity(jobs.len());
        let mut waits = Vec::with_capacity(jobs.len());
        for mut job in jobs {
            match (job.write.take(), &self.away) {
                (None, _) => waits.push((None, job)),
                // The store waits anew for each transaction; who waits for the store does so once.
                (Some(_), Some(error)) if job.asked.elapsed() >= MOST_WAIT => {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    let error = Arc::clone(error);
                    job.end(Err(error));
                }
                (Some(write), _) => {
                    waits.push((Some(writes.len()), job));
                    writes.push(write);
                }
            }
        }
        let outcomes = if writes.is_empty() { Vec::new() } else { self.write(&writes) };
        drop(writes);
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        let mut outcomes: Vec<Option<Outcome>> = outcomes.into_iter().map(Some).collect();
        for (place, job) in waits {
            let outcome = place.and_then(|place| outcomes.get_mut(place)?.take());
            job.end(outcome.unwrap_or(Ok(Written::Known)));
        }
    }

    fn write(&mut self, writes: &[Write]) -> Vec<Outcome> {
        match self.store.write(writes) {
            Ok(written) => {
                self.away = None;
                return written.into_iter().map(Ok).collect();
            }
            // One change that cannot be made takes no other with it.
            Err(error) if error.is_of_the_value() && writes.len() > 1 => {}
            Err(error) => {
                let error = Arc::new(error);
                self.failed.fetch_add(writes.len() as u64, Ordering::Relaxed);
                self.away = (!error.is_of_the_value()).then(|| Arc::clone(&error));
                return writes.iter().map(|_| Err(Arc::clone(&error))).collect();
            }
        }
        let (left, right) = writes.split_at(writes.len() / 2);
        let mut outcomes = self.write(left);
        match &self.away {
            None => outcomes.extend(self.write(right)),
            Some(error) => {
                self.failed.fetch_add(right.len() as u64, Ordering::Relaxed);
                outcomes.extend(right.iter().map(|_| Err(Arc::clone(error))));
            }
        }
        outcomes
    }
}

/// The way to the store.
pub(crate) struct Archive {
    store: Arc<dyn ServiceStore>,
    jobs: mpsc::SyncSender<Job>,
    failed: Arc<AtomicU64>,
    waiting_bytes: Arc<AtomicUsize>,
}

impl Archive {
    pub fn new(store: Arc<dyn ServiceStore>) -> std::io::Result<Self> {
        let (jobs, waiting) = mpsc::sync_channel::<Job>(MOST_WAITING);
        let (failed, waiting_bytes) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut writer = Writer {
            store: Arc::clone(&store),
            failed: Arc::clone(&failed),
            waiting_bytes: Arc::clone(&waiting_bytes),
            away: None,
        };
        // The thread ends when the last sender is gone, after what waits is written.
        std::thread::Builder::new().name("archive".into()).spawn(move || {
            while let Ok(first) = waiting.recv() {
                let mut jobs = vec![first];
                while jobs.len() < MOST_TOGETHER
                    && let Ok(job) = waiting.try_recv()
                {
                    jobs.push(job);
                }
                writer.make(jobs);
            }
        })?;
        Ok(Archive { store, jobs, failed, waiting_bytes })
    }

    /// Makes a change and returns when it is durable.
    pub async fn write(&self, write: Write) -> Result<Written, ApiError> {
        self.write_holding(write, None).await
    }

    async fn write_holding(&self, write: Write, hold: Option<Hold>) -> Result<Written, ApiError> {
        let (done, wait) = oneshot::channel();
        self.send(Some(write), Some(done), hold)?;
        match wait.await {
            Ok(Ok(written)) => Ok(written),
            Ok(Err(error)) => Err(ApiError::store(&error)),
            Err(_) => Err(ApiError::unavailable("store_unavailable", "the store is closed")),
        }
    }

    /// Keeps a trace some time; for a request whose client is gone. `hold` ends when it is kept.
    pub fn keep_later(&self, entry: TraceEntry, hold: Option<Hold>) {
        // A full queue is counted by `send`; nobody is there to be told.
        let _ = self.send(Some(Write::Trace(Box::new(entry))), None, hold);
    }

    /// Returns when everything that was asked for before is written or has failed.
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.send(None, Some(done), None).is_ok() {
            let _ = wait.await;
        }
    }

    fn send(
        &self,
        write: Option<Write>,
        done: Option<oneshot::Sender<Outcome>>,
        hold: Option<Hold>,
    ) -> Result<(), ApiError> {
        let bytes = write.as_ref().map_or(0, size);
        // One change may always wait, however large.
        let before = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = before == 0 || before + bytes <= MOST_WAITING_BYTES;
        let job = Job { hold, write, done, asked: Instant::now(), bytes };
        if fits && self.jobs.try_send(job).is_ok() {
            return Ok(());
        }
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.failed.fetch_add(1, Ordering::Relaxed);
        let error = ApiError::unavailable("store_unavailable", "the store does not keep up");
        Err(ApiError { retry_after_seconds: Some(1), ..error })
    }

    /// Keeps a trace; says whether it is kept. `hold` ends when it is, or cannot be.
    pub async fn keep(&self, entry: TraceEntry, hold: Option<Hold>) -> Result<(), ApiError> {
        self.write_holding(Write::Trace(Box::new(entry)), hold).await.map(|_| ())
    }

    /// Changes that failed since the start.
    pub fn failures(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Reads, on a thread that may block.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn ServiceStore) -> Result<T, RememberError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let store = Arc::clone(&self.store);
        match tokio::task::spawn_blocking(move || work(store.as_ref())).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(ApiError::store(&error)),
            Err(error) => Err(ApiError::unavailable("store_unavailable", error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spending::Holds;
    use elenchus_remember::service::{
        FeedbackEntry, KeyEntry, Labelled, ListedTrace, RecipeTotals, TraceFilter, TraceSummary,
    };
    use elenchus_trace::Usage;
    use std::sync::Mutex;

    /// Refuses changes that name `bad`, all of them while it is locked, and waits for each attempt until it may go on.
    struct Fake {
        written: Mutex<Vec<String>>,
        attempts: AtomicUsize,
        locked: bool,
        gate: Mutex<mpsc::Receiver<()>>,
    }

    type Result<T> = std::result::Result<T, RememberError>;

    fn refusal(code: i32) -> RememberError {
        let source = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        RememberError::Database { operation: "write", path: "x".into(), source: Box::new(source) }
    }

    impl ServiceStore for Fake {
        fn write(&self, writes: &[Write]) -> Result<Vec<Written>> {
            self.attempts.fetch_add(1, Ordering::SeqCst);
            // A gate that is gone holds nothing up.
            let _ = self.gate.lock().unwrap().recv();
            if self.locked {
                return Err(refusal(rusqlite::ffi::SQLITE_BUSY));
            }
            let names = writes.iter().map(|write| match write {
                Write::RevokeKey(name) => name.clone(),
                _ => String::new(),
            });
            let names: Vec<String> = names.collect();
            if names.iter().any(|name| name == "bad") {
                return Err(refusal(rusqlite::ffi::SQLITE_CONSTRAINT));
            }
            self.written.lock().unwrap().extend(names.clone());
            Ok(names.iter().map(|_| Written::Stored).collect())
        }

        fn trace(&self, _: &str) -> Result<Option<TraceEntry>> {
            Ok(None)
        }
        fn traces(&self, _: &TraceFilter) -> Result<Vec<ListedTrace>> {
            Ok(Vec::new())
        }
        fn feedback(&self, _: &str) -> Result<Vec<FeedbackEntry>> {
            Ok(Vec::new())
        }
        fn labelled(&self, _: &str, _: usize) -> Result<Vec<Labelled>> {
            Ok(Vec::new())
        }
        fn totals(&self) -> Result<Vec<RecipeTotals>> {
            Ok(Vec::new())
        }
        fn keys(&self) -> Result<Vec<KeyEntry>> {
            Ok(Vec::new())
        }
        fn spent(&self, _: &str, _: u64) -> Result<Usage> {
            Ok(Usage::default())
        }
    }

    fn archive(locked: bool) -> (Arc<Fake>, Archive, mpsc::Sender<()>) {
        let (open, gate) = mpsc::channel();
        let fake =
            Fake { written: Mutex::default(), attempts: AtomicUsize::new(0), locked, gate: Mutex::new(gate) };
        let fake = Arc::new(fake);
        let archive = Archive::new(Arc::clone(&fake) as Arc<dyn ServiceStore>).unwrap();
        (fake, archive, open)
    }

    fn ask(archive: &Archive, name: &str) -> oneshot::Receiver<Outcome> {
        let (done, wait) = oneshot::channel();
        archive.send(Some(Write::RevokeKey(name.into())), Some(done), None).unwrap();
        wait
    }

    fn wait_for(fake: &Fake, attempts: usize) {
        while fake.attempts.load(Ordering::SeqCst) < attempts {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_change_that_cannot_be_made_fails_alone() {
        let (fake, archive, open) = archive(false);
        let first = ask(&archive, "first");
        wait_for(&fake, 1);
        // These wait together for the next transaction.
        let names = ["a", "b", "bad", "c", "d"];
        let waits: Vec<_> = names.iter().map(|name| ask(&archive, name)).collect();
        drop(open);
        assert!(first.blocking_recv().unwrap().is_ok());
        for (name, wait) in names.iter().zip(waits) {
            assert_eq!(wait.blocking_recv().unwrap().is_err(), *name == "bad", "{name}");
        }
        assert_eq!(*fake.written.lock().unwrap(), ["first", "a", "b", "c", "d"], "each once, in order");
        assert_eq!(archive.failures(), 1);
    }

    #[test]
    fn what_a_trace_is_expected_to_cost_is_held_until_it_is_kept() {
        let (fake, archive, open) = archive(false);
        let holds = Arc::new(Holds::default());
        let expected = Usage { prompt_tokens: 9, ..Usage::default() };
        let held = || holds.hold("key", Usage::default()).0.tokens();
        let summary = TraceSummary {
            id: "t".into(),
            created_ms: 0,
            recipe: String::new(),
            model: String::new(),
            key: "key".into(),
            question: String::new(),
            answer: String::new(),
            confidence: None,
            status: elenchus_remember::service::TraceStatus::Cancelled,
            elapsed_ms: 0.0,
            usage: expected,
        };
        let entry = TraceEntry { summary, request: Vec::new(), response: None, trace: None };
        // Its client is gone, and whoever comes next must not spend the same again.
        archive.keep_later(entry, Some(holds.hold("key", expected).1));
        wait_for(&fake, 1);
        assert_eq!(held(), 9, "the store does not know yet");
        drop(open);
        let after = ask(&archive, "after");
        assert!(after.blocking_recv().unwrap().is_ok());
        assert_eq!(held(), 0);
    }

    #[test]
    fn who_waited_once_for_a_locked_store_does_not_wait_again() {
        let (fake, archive, open) = archive(true);
        let first = ask(&archive, "first");
        wait_for(&fake, 1);
        let old = MOST_WAIT + Duration::from_secs(1);
        // As many as two transactions, asked for before the first one failed.
        let waits = (0..2 * MOST_TOGETHER).map(|_| {
            let (done, wait) = oneshot::channel();
            let write = Some(Write::RevokeKey("x".into()));
            let asked = Instant::now().checked_sub(old).unwrap();
            archive.jobs.try_send(Job { hold: None, write, done: Some(done), asked, bytes: 0 }).ok().unwrap();
            wait
        });
        let waits: Vec<_> = waits.collect();
        open.send(()).unwrap();
        assert!(first.blocking_recv().unwrap().is_err());
        for wait in waits {
            assert!(wait.blocking_recv().unwrap().is_err());
        }
        assert_eq!(fake.attempts.load(Ordering::SeqCst), 1, "no transaction is tried for them");
        let fresh = ask(&archive, "fresh");
        wait_for(&fake, 2);
        drop(open);
        assert!(fresh.blocking_recv().unwrap().is_err(), "who comes now has its own try");
    }

    #[test]
    fn what_waits_is_bounded_in_bytes() {
        let (fake, archive, open) = archive(false);
        let first = ask(&archive, "first");
        wait_for(&fake, 1);
        let third = "x".repeat(MOST_WAITING_BYTES / 3);
        let mut waits = Vec::new();
        let refused = loop {
            let (done, wait) = oneshot::channel();
            let entry = FeedbackEntry {
                id: String::new(),
                trace_id: String::new(),
                stage: None,
                reaction: None,
                metric: None,
                score: None,
                comment: Some(third.clone()),
                correction: None,
                edit: None,
                key: String::new(),
                created_ms: 0,
            };
            match archive.send(Some(Write::Feedback(Box::new(entry))), Some(done), None) {
                Ok(()) => waits.push(wait),
                Err(error) => break error,
            }
            assert!(waits.len() < 4);
        };
        assert_eq!(
            (refused.code, refused.retry_after_seconds, waits.len()),
            ("store_unavailable", Some(1), 2)
        );
        drop((first, waits, open));
    }
}
