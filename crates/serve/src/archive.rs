//! The store behind one thread: what arrives at the same time is written in one transaction, and everybody waits until
//! it is.

use crate::ApiError;
use elenchus_remember::RememberError;
use elenchus_remember::service::{ServiceStore, TraceEntry, Write, Written};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use tokio::sync::oneshot;

/// Changes of one transaction at most: bounds how long the first of them waits.
const MOST_TOGETHER: usize = 256;
/// Changes that may wait; further ones are refused, so that a store that hangs cannot fill the memory.
const MOST_WAITING: usize = 4096;

struct Job {
    /// `None` only asks to be told when everything before it is written.
    write: Option<Write>,
    done: Option<oneshot::Sender<Result<Written, Arc<RememberError>>>>,
}

/// The way to the store.
pub(crate) struct Archive {
    store: Arc<dyn ServiceStore>,
    jobs: mpsc::SyncSender<Job>,
    failed: Arc<AtomicU64>,
}

impl Archive {
    pub fn new(store: Arc<dyn ServiceStore>) -> std::io::Result<Self> {
        let (jobs, waiting) = mpsc::sync_channel::<Job>(MOST_WAITING);
        let failed = Arc::new(AtomicU64::new(0));
        let (writer, failures) = (Arc::clone(&store), Arc::clone(&failed));
        // The thread ends when the last sender is gone, after what waits is written.
        std::thread::Builder::new().name("archive".into()).spawn(move || {
            while let Ok(first) = waiting.recv() {
                let mut jobs = vec![first];
                while jobs.len() < MOST_TOGETHER
                    && let Ok(job) = waiting.try_recv()
                {
                    jobs.push(job);
                }
                let mut writes = Vec::with_capacity(jobs.len());
                let mut waits = Vec::with_capacity(jobs.len());
                let mut marks = Vec::new();
                for job in jobs {
                    match job.write {
                        Some(write) => {
                            writes.push(write);
                            waits.push(job.done);
                        }
                        None => marks.extend(job.done),
                    }
                }
                match writer.write(&writes) {
                    Ok(written) => {
                        for (wait, written) in waits.into_iter().zip(written) {
                            // Who went away does not need to know.
                            let _ = wait.map(|wait| wait.send(Ok(written)));
                        }
                    }
                    Err(error) => {
                        failures.fetch_add(writes.len() as u64, Ordering::Relaxed);
                        let error = Arc::new(error);
                        for wait in waits.into_iter().flatten() {
                            let _ = wait.send(Err(Arc::clone(&error)));
                        }
                    }
                }
                for mark in marks {
                    let _ = mark.send(Ok(Written::Known));
                }
            }
        })?;
        Ok(Archive { store, jobs, failed })
    }

    /// Makes a change and returns when it is durable.
    pub async fn write(&self, write: Write) -> Result<Written, ApiError> {
        let (done, wait) = oneshot::channel();
        self.send(Job { write: Some(write), done: Some(done) })?;
        match wait.await {
            Ok(Ok(written)) => Ok(written),
            Ok(Err(error)) => Err(ApiError::store(&error)),
            Err(_) => Err(ApiError::unavailable("store_unavailable", "the store is closed")),
        }
    }

    /// Makes a change some time; for a request whose client is gone.
    pub fn write_later(&self, write: Write) {
        // A full queue is counted by `send`; nobody is there to be told.
        let _ = self.send(Job { write: Some(write), done: None });
    }

    /// Returns when everything that was asked for before is written or has failed.
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.send(Job { write: None, done: Some(done) }).is_ok() {
            let _ = wait.await;
        }
    }

    fn send(&self, job: Job) -> Result<(), ApiError> {
        self.jobs.try_send(job).map_err(|_| {
            self.failed.fetch_add(1, Ordering::Relaxed);
            ApiError {
                retry_after_seconds: Some(1),
                ..ApiError::unavailable("store_unavailable", "the store does not keep up")
            }
        })
    }

    /// Keeps a trace; says whether it is kept.
    pub async fn keep(&self, entry: TraceEntry) -> Result<(), ApiError> {
        self.write(Write::Trace(Box::new(entry))).await.map(|_| ())
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
