//! The threads for work that blocks or takes long. A job runs here, beside the loop.
//!
//! Owns: [`Pool`], with its threads and the queue of jobs, and [`OffloadError`]. Must not know: services, messages.
//!
//! Invariants:
//! 1. No thread holds the lock while a job runs. So a push waits for no job.
//! 2. A job that panics ends neither its thread nor the process.
//! 3. Threads start with the jobs that need them, up to the limit. An idle thread waits for a job and costs its stack.
//! 4. Lookups of names use at most half of the threads, rounded up. A name server that does not answer holds up no other
//!    job. (libuv: `UV__WORK_SLOW_IO`.)
//! 5. After [`Pool::close`] no job starts. No call waits for a running job.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use log::{debug, error};

use crate::limits::{JOBS, OFFLOAD_THREADS};

/// The kind of a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::reactor) enum Kind {
    /// Files, computations.
    Work,
    /// The lookup of a name: it may wait many seconds for a name server.
    Lookup,
}

struct Job {
    kind: Kind,
    run: Box<dyn FnOnce() + Send>,
}

struct State {
    jobs: VecDeque<Job>,
    /// The limit of threads.
    most: usize,
    /// Threads that have started and not ended.
    threads: usize,
    /// Threads that wait for a job.
    idle: usize,
    /// Lookups that are running.
    lookups: usize,
    is_closed: bool,
}

impl State {
    /// Takes the first job that may run now.
    fn take(&mut self) -> Option<Job> {
        let allows_lookup = self.lookups < self.most.div_ceil(2);
        let next = self.jobs.iter().position(|job| allows_lookup || job.kind != Kind::Lookup)?;
        let job = self.jobs.remove(next)?;
        self.lookups += usize::from(job.kind == Kind::Lookup);
        Some(job)
    }

    /// Returns true if a thread should end: the pool is closed, or has more threads than its limit.
    fn has_surplus(&self) -> bool {
        self.is_closed || self.threads > self.most
    }
}

/// The threads of one reactor and their queue.
pub(in crate::reactor) struct Pool {
    state: Mutex<State>,
    /// A job was added, the limit has changed, or the pool was closed.
    changed: Condvar,
}

impl Pool {
    /// Returns a pool without threads.
    pub fn new() -> Self {
        let (most, threads, idle, lookups) = (OFFLOAD_THREADS, 0, 0, 0);
        let state = State { jobs: VecDeque::new(), most, threads, idle, lookups, is_closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Sets the limit of threads, at least 1. Surplus threads end after their job.
    pub fn set_threads(&self, most: usize) {
        self.lock().most = most.max(1);
        self.changed.notify_all();
    }

    /// Queues `job`, and starts a thread for it if all are busy and the limit allows one more. `boxed` makes the job into
    /// what a thread runs.
    ///
    /// # Errors
    /// [`OffloadError`], with the job.
    pub fn push<J>(
        self: &Arc<Self>,
        kind: Kind,
        job: J,
        boxed: impl FnOnce(J) -> Box<dyn FnOnce() + Send>,
    ) -> Result<(), OffloadError<J>> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(OffloadError::Gone(job));
        }
        if state.jobs.len() >= JOBS {
            return Err(OffloadError::Full(job));
        }
        // An idle thread may have been woken for an earlier job already: compare with all jobs that wait.
        if state.jobs.len() >= state.idle && state.threads < state.most {
            match self.start_thread() {
                Ok(()) => state.threads += 1,
                Err(error) if state.threads == 0 => return Err(OffloadError::NoThread(job, error)),
                Err(error) => debug!("cannot start one more thread for jobs: {error}; {} go on", state.threads),
            }
        }
        state.jobs.push_back(Job { kind, run: boxed(job) });
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Drops the jobs that wait. The threads end, each after its present job.
    pub fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        let jobs = std::mem::take(&mut state.jobs);
        drop(state);
        self.changed.notify_all();
        // A job may own anything, so the lock is not held while jobs are dropped.
        drop(jobs);
    }

    fn start_thread(self: &Arc<Self>) -> io::Result<()> {
        let pool = Arc::clone(self);
        thread::Builder::new().name("offload".to_owned()).spawn(move || pool.run_jobs()).map(drop)
    }

    /// Runs jobs until the pool has no use for this thread.
    fn run_jobs(&self) {
        let mut state = self.lock();
        while !state.has_surplus() {
            let Some(Job { kind, run }) = state.take() else {
                state.idle += 1;
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                continue;
            };
            drop(state);
            if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
                log_panic(panic.as_ref());
            }
            state = self.lock();
            state.lookups -= usize::from(kind == Kind::Lookup);
        }
        state.threads -= 1;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs the panic of a job. The panic hook has printed the place already.
pub(in crate::reactor) fn log_panic(panic: &(dyn Any + Send)) {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text");
    error!("a job has panicked: {text}");
}

/// The reason for which a job was not accepted, with the job.
#[non_exhaustive]
pub enum OffloadError<J> {
    /// The queue is full ([`JOBS`]): the threads have not run the earlier jobs yet.
    Full(J),
    /// The reactor is gone.
    Gone(J),
    /// The pool has no thread yet, and the system has refused the first (EAGAIN, pthread_create(3)).
    NoThread(J, io::Error),
}

impl<J> OffloadError<J> {
    /// Returns the job.
    pub fn into_job(self) -> J {
        match self {
            OffloadError::Full(job) | OffloadError::Gone(job) | OffloadError::NoThread(job, _) => job,
        }
    }

    /// Returns true if the queue was full: a later attempt can succeed.
    pub fn is_full(&self) -> bool {
        matches!(self, OffloadError::Full(_))
    }
}

impl<J> fmt::Display for OffloadError<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OffloadError::Full(_) => f.write_str("the queue of jobs is full"),
            OffloadError::Gone(_) => f.write_str("the reactor is gone"),
            OffloadError::NoThread(_, error) => write!(f, "cannot start a thread: {error}"),
        }
    }
}

impl<J> fmt::Debug for OffloadError<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<J> std::error::Error for OffloadError<J> {}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
    use std::time::Duration;

    use super::*;

    /// Longer than any step takes on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(30);

    fn push(pool: &Arc<Pool>, kind: Kind, job: impl FnOnce() + Send + 'static) -> bool {
        pool.push(kind, job, |job| Box::new(job)).is_ok()
    }

    /// Pushes a job that reports its start, and ends when the returned sender is dropped.
    fn push_held(pool: &Arc<Pool>, kind: Kind, started: &Sender<Kind>) -> Sender<()> {
        let (hold, held) = channel();
        let started = started.clone();
        assert!(push(pool, kind, move || {
            started.send(kind).unwrap();
            let _ = held.recv();
        }));
        hold
    }

    /// Waits until `count` threads are left, and all of them are idle.
    fn await_idle(pool: &Pool, count: usize) {
        let mut state = pool.lock();
        while state.threads != count || state.idle != count {
            drop(state);
            thread::yield_now();
            state = pool.lock();
        }
    }

    fn assert_silent(started: &Receiver<Kind>) {
        assert!(started.try_recv().is_err(), "a job has started above the limit");
    }

    #[test]
    fn threads_start_with_jobs_up_to_the_limit_and_are_used_again() {
        let pool = Arc::new(Pool::new());
        pool.set_threads(2);
        assert_eq!(pool.lock().threads, 0);
        let (started, starts) = channel();
        let one = push_held(&pool, Kind::Work, &started);
        assert_eq!(starts.recv_timeout(PATIENCE), Ok(Kind::Work));
        assert_eq!(pool.lock().threads, 1);
        drop(one);
        await_idle(&pool, 1);
        let held: Vec<_> = (0..3).map(|_| push_held(&pool, Kind::Work, &started)).collect();
        for _ in 0..2 {
            starts.recv_timeout(PATIENCE).unwrap();
        }
        assert_eq!(pool.lock().threads, 2);
        assert_eq!(pool.lock().jobs.len(), 1);
        assert_silent(&starts);
        drop(held);
        starts.recv_timeout(PATIENCE).unwrap();
        await_idle(&pool, 2);
        pool.set_threads(0);
        await_idle(&pool, 1);
    }

    #[test]
    fn lookups_leave_half_of_the_threads_to_other_jobs() {
        let pool = Arc::new(Pool::new());
        pool.set_threads(3);
        let (started, starts) = channel();
        let lookups: Vec<_> = (0..4).map(|_| push_held(&pool, Kind::Lookup, &started)).collect();
        let work = push_held(&pool, Kind::Work, &started);
        let mut first: Vec<_> = (0..3).map(|_| starts.recv_timeout(PATIENCE).unwrap()).collect();
        first.sort_by_key(|&kind| kind == Kind::Work);
        assert_eq!(first, [Kind::Lookup, Kind::Lookup, Kind::Work]);
        drop(work);
        // A thread is free again, and no lookup may use it.
        while pool.lock().idle == 0 {
            thread::yield_now();
        }
        assert_silent(&starts);
        drop(lookups);
        for _ in 0..2 {
            assert_eq!(starts.recv_timeout(PATIENCE), Ok(Kind::Lookup));
        }
        await_idle(&pool, 3);
        assert_eq!(pool.lock().lookups, 0);
    }

    #[test]
    fn a_full_queue_gives_the_job_back() {
        let pool = Arc::new(Pool::new());
        pool.set_threads(1);
        let (started, starts) = channel();
        let hold = push_held(&pool, Kind::Work, &started);
        starts.recv_timeout(PATIENCE).unwrap();
        for _ in 0..JOBS {
            assert!(push(&pool, Kind::Work, || {}));
        }
        let error = pool.push(Kind::Work, || 77, |_| Box::new(|| {})).unwrap_err();
        assert!(error.is_full());
        assert_eq!(error.to_string(), "the queue of jobs is full");
        assert_eq!(error.into_job()(), 77);
        drop(hold);
        await_idle(&pool, 1);
        assert!(push(&pool, Kind::Work, || {}));
    }

    #[test]
    fn a_job_that_panics_leaves_its_thread_to_the_next() {
        let pool = Arc::new(Pool::new());
        pool.set_threads(1);
        assert!(push(&pool, Kind::Lookup, || panic!("a panic on purpose")));
        let (sender, thread) = channel();
        assert!(push(&pool, Kind::Lookup, move || sender.send(thread::current().id()).unwrap()));
        thread.recv_timeout(PATIENCE).unwrap();
        await_idle(&pool, 1);
        assert_eq!(pool.lock().lookups, 0);
    }

    #[test]
    fn closing_drops_waiting_jobs_and_waits_for_no_running_one() {
        let pool = Arc::new(Pool::new());
        pool.set_threads(1);
        let (started, starts) = channel();
        let hold = push_held(&pool, Kind::Work, &started);
        starts.recv_timeout(PATIENCE).unwrap();
        let (owned, dropped) = channel::<()>();
        let waiting = Arc::clone(&pool);
        assert!(push(&pool, Kind::Work, move || drop((owned, waiting))));
        pool.close();
        assert_eq!(dropped.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
        assert_eq!(pool.lock().threads, 1);
        assert!(matches!(pool.push(Kind::Work, (), |()| Box::new(|| {})), Err(OffloadError::Gone(()))));
        drop(hold);
        await_idle(&pool, 0);
    }
}
