//! Recognition threads behind a bounded queue.
//!
//! Each thread has one worker. All processor-intensive work runs here.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use crate::recognizer::{Recognizer, Worker};

/// Reason why a job has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The queue is full.
    Full {
        /// Estimated seconds until the waiting jobs are done.
        retry_after: u64,
    },
    /// The job panicked, and its worker was replaced.
    Panicked,
    /// The pool is closed.
    Closed,
}

/// Current load of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Number of waiting jobs.
    pub queued: usize,
    /// Number of running jobs.
    pub running: usize,
    /// Number of jobs that panicked since the start.
    pub panics: u64,
}

/// Pool of recognition threads.
pub struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    wake: Condvar,
    limit: usize,
    threads: usize,
    /// Maximum size of the buffers that a thread keeps between jobs, in bytes; larger ones are
    /// released.
    max_kept: usize,
}

struct State {
    jobs: VecDeque<Box<dyn Job>>,
    load: Load,
    closed: bool,
    /// Moving average of a job's duration, in seconds.
    seconds: f64,
}

trait Job: Send {
    /// Returns true if the receiver of the result is gone.
    fn is_abandoned(&self) -> bool;
    /// Runs the job. Returns true if it panicked.
    fn run(self: Box<Self>, worker: &mut Worker<'_>) -> bool;
}

struct Task<W, T> {
    work: W,
    reply: oneshot::Sender<Result<T, Refusal>>,
}

impl<W, T> Job for Task<W, T>
where
    W: FnOnce(&mut Worker<'_>) -> T + Send,
    T: Send,
{
    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn run(self: Box<Self>, worker: &mut Worker<'_>) -> bool {
        let Self { work, reply } = *self;
        // A worker is not reused after a panic, so its state cannot be observed broken.
        let outcome = catch_unwind(AssertUnwindSafe(|| work(worker)));
        let panicked = outcome.is_err();
        // The receiver may be gone by now.
        let _ = reply.send(outcome.map_err(|_| Refusal::Panicked));
        panicked
    }
}

/// Weight of the newest job in the moving average.
const AVERAGE_WEIGHT: f64 = 0.1;
/// Initial estimate of a job's duration, in seconds.
const INITIAL_SECONDS: f64 = 0.02;
/// Value of [`Inner::max_kept`] outside tests.
const KEPT_BYTES: usize = 32 << 20;
/// Maximum value of `Retry-After`, in seconds.
const MAX_RETRY_AFTER: f64 = 60.0;

impl Pool {
    /// Starts `threads` threads with a queue of at most `limit` waiting jobs.
    ///
    /// # Errors
    /// When the operating system cannot start that many threads.
    pub fn new(
        recognizer: &Arc<Recognizer>,
        threads: usize,
        limit: usize,
    ) -> Result<Self, std::io::Error> {
        Self::with_kept_bytes(KEPT_BYTES, recognizer, threads, limit)
    }

    /// Starts a pool that keeps at most `max_kept` bytes of buffers per thread between jobs.
    fn with_kept_bytes(
        max_kept: usize,
        recognizer: &Arc<Recognizer>,
        threads: usize,
        limit: usize,
    ) -> Result<Self, std::io::Error> {
        let inner = Arc::new(Inner {
            state: Mutex::new(State {
                jobs: VecDeque::with_capacity(limit),
                load: Load::default(),
                closed: false,
                seconds: INITIAL_SECONDS,
            }),
            wake: Condvar::new(),
            limit,
            threads,
            max_kept,
        });
        let pool = Self { inner };
        for i in 0..threads {
            let (inner, recognizer) = (Arc::clone(&pool.inner), Arc::clone(recognizer));
            std::thread::Builder::new()
                .name(format!("recognise {i}"))
                .spawn(move || inner.work(&recognizer))?;
        }
        Ok(pool)
    }

    /// Runs `work` on a thread of the pool. A waiting job whose future is dropped does not start.
    ///
    /// # Errors
    /// When the queue is full, the job panics or the pool is closed.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Worker<'_>) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let answer = self.submit(work, self.inner.limit)?;
        answer.await.unwrap_or(Err(Refusal::Closed))
    }

    /// Runs `work` if a thread is idle; otherwise returns [`Refusal::Full`].
    ///
    /// # Errors
    /// Same as [`Pool::run`].
    pub async fn run_if_idle<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Worker<'_>) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let answer = self.submit(work, 0)?;
        answer.await.unwrap_or(Err(Refusal::Closed))
    }

    /// Queues a job if a thread is idle or fewer than `limit` jobs wait.
    fn submit<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Worker<'_>) -> T + Send + 'static,
        limit: usize,
    ) -> Result<oneshot::Receiver<Result<T, Refusal>>, Refusal> {
        let (reply, answer) = oneshot::channel();
        let mut state = self.inner.lock();
        if state.closed {
            return Err(Refusal::Closed);
        }
        let room = |state: &State| {
            let free = self.inner.threads.saturating_sub(state.load.running);
            state.jobs.len() < limit + free
        };
        if !room(&state) {
            state.jobs.retain(|job| !job.is_abandoned());
        }
        if !room(&state) {
            let ahead = (state.jobs.len() + state.load.running) as f64;
            let wait = (ahead * state.seconds / self.inner.threads as f64).ceil();
            let retry_after = wait.clamp(1.0, MAX_RETRY_AFTER) as u64;
            return Err(Refusal::Full { retry_after });
        }
        state.jobs.push_back(Box::new(Task { work, reply }));
        drop(state);
        self.inner.wake.notify_one();
        Ok(answer)
    }

    /// Returns the current load.
    pub fn load(&self) -> Load {
        let state = self.inner.lock();
        Load {
            queued: state.jobs.len(),
            ..state.load
        }
    }

    /// Closes the pool: waiting jobs are refused, running jobs end.
    pub fn close(&self) {
        let mut state = self.inner.lock();
        state.closed = true;
        state.jobs.clear();
        drop(state);
        self.inner.wake.notify_all();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inner {
    /// Poisoning is ignored, because no code that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, recognizer: &Recognizer) {
        let mut worker = recognizer.worker();
        while let Some(job) = self.next() {
            let start = Instant::now();
            let panicked = job.run(&mut worker);
            if panicked || worker.held_bytes() > self.max_kept {
                worker = recognizer.worker();
            }
            let mut state = self.lock();
            state.load.running -= 1;
            state.load.panics += u64::from(panicked);
            state.seconds += AVERAGE_WEIGHT * (start.elapsed().as_secs_f64() - state.seconds);
        }
    }

    /// Returns the next job that has a receiver, counted as running; `None` when the pool is
    /// closed.
    fn next(&self) -> Option<Box<dyn Job>> {
        let mut state = self.lock();
        loop {
            while let Some(job) = state.jobs.pop_front() {
                if !job.is_abandoned() {
                    state.load.running += 1;
                    return Some(job);
                }
            }
            if state.closed {
                return None;
            }
            state = self
                .wake
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(all(test, feature = "default-model"))]
mod tests {
    use super::*;
    use crate::audio::Recording;
    use std::sync::mpsc;

    fn recognizer() -> Arc<Recognizer> {
        let model = crate::default_model::load().unwrap();
        Arc::new(Recognizer::new(model).unwrap())
    }

    fn pool(threads: usize, limit: usize) -> Pool {
        Pool::new(&recognizer(), threads, limit).unwrap()
    }

    /// Returns a job that signals its start and ends on release.
    fn blocker() -> (
        impl FnOnce(&mut Worker<'_>) + Send + 'static,
        mpsc::Receiver<()>,
        mpsc::Sender<()>,
    ) {
        let (started, has_started) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let work = move |_: &mut Worker<'_>| {
            started.send(()).unwrap();
            let _ = released.recv();
        };
        (work, has_started, release)
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_an_abandoned_job_makes_room() {
        let pool = Arc::new(pool(1, 1));
        let (work, started, release) = blocker();
        let running = pool.submit(work, 1).unwrap();
        started.recv().unwrap();
        assert_eq!(
            pool.run_if_idle(|_| ()).await,
            Err(Refusal::Full { retry_after: 1 })
        );
        let waiting = pool.submit(|_| 1, 1).unwrap();
        assert_eq!(pool.load().queued, 1);
        assert_eq!(
            pool.submit(|_| 2, 1).err(),
            Some(Refusal::Full { retry_after: 1 })
        );
        drop(waiting);
        let waiting = pool.submit(|_| 3, 1).unwrap();
        release.send(()).unwrap();
        running.await.unwrap().unwrap();
        assert_eq!(waiting.await.unwrap(), Ok(3));
    }

    #[tokio::test]
    async fn an_abandoned_job_is_not_begun() {
        let pool = pool(1, 4);
        let (work, started, release) = blocker();
        let running = pool.submit(work, 4).unwrap();
        started.recv().unwrap();
        let (begun, has_begun) = mpsc::channel();
        drop(pool.submit(move |_| begun.send(()).unwrap(), 4).unwrap());
        let after = pool.submit(|_| 7, 4).unwrap();
        release.send(()).unwrap();
        running.await.unwrap().unwrap();
        assert_eq!(after.await.unwrap(), Ok(7));
        assert!(has_begun.recv().is_err(), "the job was dropped unbegun");
    }

    #[tokio::test]
    async fn a_panic_is_refused_and_counted_and_the_thread_works_on() {
        let pool = pool(1, 4);
        let broken: Result<(), Refusal> = pool.run(|_| panic!("on purpose")).await;
        assert_eq!(broken, Err(Refusal::Panicked));
        assert_eq!(pool.run(|_| 5).await, Ok(5));
        assert_eq!(pool.load().panics, 1);
    }

    /// Returns speech of `seconds` seconds, with pauses.
    fn recording(seconds: usize) -> Recording {
        let voice = std::fs::read("tests/data/voice.wav").unwrap();
        let pcm = voice[44..].chunks_exact(2).cycle();
        let bytes: Vec<u8> = pcm.take(seconds * 16_000).flatten().copied().collect();
        Recording::from_pcm16(&bytes, 16_000).unwrap()
    }

    /// Returns the bytes of buffers after a recording of `seconds` seconds, and at the start of the
    /// next job.
    async fn held_after(pool: &Pool, seconds: usize) -> (usize, usize) {
        let answer = pool.run(move |worker| {
            let off = crate::nn::DropoutMode::Off;
            worker.recognize(&recording(seconds), "hum", &off).unwrap();
            worker.held_bytes()
        });
        let (used, kept) = (answer.await, pool.run(|worker| worker.held_bytes()).await);
        (used.unwrap(), kept.unwrap())
    }

    #[tokio::test]
    async fn buffers_are_kept_unless_they_are_large() {
        let (usual, kept) = held_after(&pool(1, 1), 6).await;
        assert!(kept == usual && kept > 0, "{usual} {kept}");
        let pool = Pool::with_kept_bytes(usual, &recognizer(), 1, 1).unwrap();
        assert_eq!(held_after(&pool, 6).await, (usual, usual));
        let (used, kept) = held_after(&pool, 60).await;
        assert!(used > usual && kept == 0, "{used} {kept}");
    }

    #[tokio::test]
    async fn buffers_do_not_grow_with_the_length() {
        let pool = pool(1, 1);
        let (minute, _) = held_after(&pool, 60).await;
        let (minutes, _) = held_after(&pool, 200).await;
        assert!(
            minutes == minute && minute < KEPT_BYTES,
            "{minute} {minutes}"
        );
    }

    #[tokio::test]
    async fn a_closed_pool_refuses_waiting_and_new_jobs() {
        let pool = pool(1, 4);
        let (work, started, release) = blocker();
        let running = pool.submit(work, 4).unwrap();
        started.recv().unwrap();
        let waiting = pool.submit(|_| 1, 4).unwrap();
        pool.close();
        assert!(waiting.await.is_err(), "its sender is gone");
        assert_eq!(pool.run(|_| 2).await, Err(Refusal::Closed));
        release.send(()).unwrap();
        running.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn the_retry_time_follows_from_the_queue() {
        let pool = pool(1, 1);
        let (work, started, release) = blocker();
        let running = pool.submit(work, 1).unwrap();
        started.recv().unwrap();
        let waiting = pool.submit(|_| (), 1).unwrap();
        for (seconds, retry_after) in [(0.001, 1), (4.0, 8), (1e6, 60)] {
            pool.inner.lock().seconds = seconds;
            assert_eq!(pool.run(|_| ()).await, Err(Refusal::Full { retry_after }));
        }
        release.send(()).unwrap();
        running.await.unwrap().unwrap();
        waiting.await.unwrap().unwrap();
    }
}
