//! Threads that wait for work: one call runs on all of them and on the caller.

use super::DecodeError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Turns of waiting in place before giving the core away: about 50 µs.
const SPINS: usize = 2_000;

/// The work: called with the index of the thread.
type Job = *const (dyn Fn(usize) + Sync);

struct Shared {
    /// The current job; written by the caller while all workers wait.
    job: Mutex<Option<SendJob>>,
    /// Counts jobs; a worker that sees a new number starts.
    epoch: AtomicUsize,
    /// Workers that have not finished.
    running: AtomicUsize,
    stop: AtomicBool,
    wake: Condvar,
}

#[derive(Clone, Copy)]
struct SendJob(Job);
// SAFETY: the job is `Sync`, and `run` keeps it alive until every worker is done.
unsafe impl Send for SendJob {}

/// A team of threads, the caller being number 0.
pub(super) struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// Ends the process when a job panics: the other threads wait for this one, for ever. Jobs do not panic.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

impl Workers {
    /// A team of `threads`, at least 1.
    pub(super) fn new(threads: usize) -> Result<Self, DecodeError> {
        let shared = Arc::new(Shared {
            job: Mutex::new(None),
            epoch: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            wake: Condvar::new(),
        });
        let mut workers = Workers { shared, threads: Vec::new() };
        for index in 1..threads {
            let shared = Arc::clone(&workers.shared);
            let thread = std::thread::Builder::new()
                .name(format!("decode-{index}"))
                .spawn(move || work(&shared, index))
                .map_err(|error| DecodeError::Thread(error.to_string()))?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// Number of threads, the caller included.
    pub(super) fn count(&self) -> usize {
        self.threads.len() + 1
    }

    /// Runs `job(index)` on every thread; returns when all are done.
    pub(super) fn run(&mut self, job: &(dyn Fn(usize) + Sync)) {
        let guard = AbortOnPanic;
        if !self.threads.is_empty() {
            // SAFETY: only the lifetime changes, and this function returns when nobody uses the job any more.
            let job = SendJob(unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), Job>(job) });
            let mut place = self.shared.job.lock().unwrap_or_else(PoisonError::into_inner);
            *place = Some(job);
            self.shared.running.store(self.threads.len(), Ordering::Relaxed);
            self.shared.epoch.fetch_add(1, Ordering::Release);
            self.shared.wake.notify_all();
        }
        job(0);
        wait_until(|| self.shared.running.load(Ordering::Acquire) == 0);
        drop(guard);
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        {
            let _place = self.shared.job.lock().unwrap_or_else(PoisonError::into_inner);
            self.shared.stop.store(true, Ordering::Release);
            self.shared.wake.notify_all();
        }
        for thread in self.threads.drain(..) {
            // A worker that panicked has ended the process.
            let _ = thread.join();
        }
    }
}

fn work(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        let mut spins = 0;
        while shared.epoch.load(Ordering::Acquire) == seen
            && !shared.stop.load(Ordering::Acquire)
            && spins < SPINS
        {
            std::hint::spin_loop();
            spins += 1;
        }
        let job = {
            let mut place = shared.job.lock().unwrap_or_else(PoisonError::into_inner);
            while shared.epoch.load(Ordering::Acquire) == seen {
                if shared.stop.load(Ordering::Acquire) {
                    return;
                }
                place = shared.wake.wait(place).unwrap_or_else(PoisonError::into_inner);
            }
            seen += 1;
            *place
        };
        if let Some(SendJob(job)) = job {
            let guard = AbortOnPanic;
            // SAFETY: `run` keeps the job alive until `running` is 0.
            unsafe { (*job)(index) };
            drop(guard);
        }
        shared.running.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Waits in place for a short time, then lets others run.
fn wait_until(mut done: impl FnMut() -> bool) {
    let mut spins = 0;
    while !done() {
        if spins < SPINS {
            std::hint::spin_loop();
            spins += 1;
        } else {
            std::thread::yield_now();
        }
    }
}

/// A meeting point of the threads within a job.
pub(super) struct Barrier {
    threads: usize,
    arrived: AtomicUsize,
    round: AtomicUsize,
}

impl Barrier {
    pub(super) fn new(threads: usize) -> Self {
        Barrier { threads, arrived: AtomicUsize::new(0), round: AtomicUsize::new(0) }
    }

    /// Returns when all threads have called it.
    pub(super) fn wait(&self) {
        if self.threads == 1 {
            return;
        }
        let round = self.round.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.threads {
            self.arrived.store(0, Ordering::Relaxed);
            self.round.store(round.wrapping_add(1), Ordering::Release);
        } else {
            wait_until(|| self.round.load(Ordering::Acquire) != round);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_runs_every_job_once_and_barriers_hold() {
        let mut workers = Workers::new(3).unwrap();
        let barrier = Barrier::new(3);
        for _ in 0..200 {
            let counts: Vec<AtomicUsize> = (0..3).map(|_| AtomicUsize::new(0)).collect();
            workers.run(&|index| {
                counts[index].fetch_add(1, Ordering::SeqCst);
                barrier.wait();
                let all: usize = counts.iter().map(|count| count.load(Ordering::SeqCst)).sum();
                assert_eq!(all, 3, "behind the barrier all threads have passed the first half");
                barrier.wait();
            });
        }
    }
}
