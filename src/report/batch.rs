//! Many recordings at once: recognised in parallel, handed on in order.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError, mpsc};

use rayon::prelude::*;

use super::inputs::Input;
use super::{is_finite, not_finite};
use crate::nn::DropoutMode;
use crate::prediction::Prediction;
use crate::recognizer::{Impression, Listener, RecognizeError, Recognizer, Worker};

use admission::Admission;
pub(super) use admission::Leave;

mod admission;
#[cfg(feature = "cuda")]
mod device;
#[cfg(feature = "cuda")]
pub use device::OnDeviceError;

/// Recordings in progress or finished but not yet forwarded, per thread.
const WAITING_PER_THREAD: usize = 4;

/// Why nothing can be recognised.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {threads} threads: {source}; ask for fewer")]
pub struct BatchError {
    threads: usize,
    source: rayon::ThreadPoolBuildError,
}

/// The answer for one recording, or a message that names it and says why there is none.
pub type Outcome = Result<Prediction, String>;

/// Threads to recognise recordings with.
#[derive(Debug)]
pub struct Threads(rayon::ThreadPool);

impl Threads {
    /// # Errors
    /// When the operating system does not give that many threads.
    pub fn new(count: usize) -> Result<Self, BatchError> {
        pool(count).map(Self)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.current_num_threads()
    }

    /// Does both, side by side if there are two threads.
    pub fn join<A: Send, B: Send>(
        &self,
        a: impl FnOnce() -> A + Send,
        b: impl FnOnce() -> B + Send,
    ) -> (A, B) {
        self.0.join(a, b)
    }
}

/// What a recording is to the networks, or a message that names it and says why it is nothing.
pub type Heard = Result<Impression, String>;

/// Reads a recording and listens to it, with the rayon pool's other threads if they are `spare`.
pub fn hear(listener: &Listener, input: &Input, spare: bool) -> Heard {
    listen(listener, input, spare, |_| ())
}

/// [`hear`]; `settle` receives the memory of the decoded recording.
fn listen(listener: &Listener, input: &Input, spare: bool, settle: impl FnOnce(u64)) -> Heard {
    let recording = input.read().map_err(|e| e.to_string())?;
    settle(size_of_val(&*recording.samples) as u64);
    let heard = match spare {
        true => listener.listen_with_spare_threads(recording, input.subject()),
        false => listener.listen(recording, input.subject()),
    };
    heard.map_err(|e| message(e, input.subject()))
}

/// Names the recording.
fn message(error: RecognizeError, subject: &str) -> String {
    match error {
        RecognizeError::Run(_) => format!("{subject}: {error}"),
        _ => error.to_string(),
    }
}

/// Threads that recognise recordings, each with buffers of its own.
#[derive(Debug)]
pub struct Batch<'r> {
    recognizer: &'r Recognizer,
    dropout: DropoutMode,
    pool: rayon::ThreadPool,
    /// What the first input is, if it is known.
    first: Mutex<Option<Heard>>,
    #[cfg(feature = "cuda")]
    device: Option<device::Shared<'r>>,
}

impl<'r> Batch<'r> {
    /// # Errors
    /// When the operating system does not give that many threads.
    pub fn new(
        recognizer: &'r Recognizer,
        dropout: DropoutMode,
        threads: usize,
    ) -> Result<Self, BatchError> {
        Ok(Self::on(Threads::new(threads)?, recognizer, dropout))
    }

    /// [`Batch::new`] with threads that are there already.
    pub fn on(threads: Threads, recognizer: &'r Recognizer, dropout: DropoutMode) -> Self {
        Self {
            recognizer,
            dropout,
            pool: threads.0,
            first: Mutex::default(),
            #[cfg(feature = "cuda")]
            device: None,
        }
    }

    /// Spares the next [`Batch::run`] without a device listening to its first input: this is what
    /// [`hear`] gave for it.
    #[must_use]
    pub fn with_first(self, heard: Option<Heard>) -> Self {
        Self {
            first: Mutex::new(heard),
            ..self
        }
    }

    /// Recognises `inputs` and hands each outcome to `each`, in the order of the inputs and as soon
    /// as those before it are done. An answer does not depend on the number of threads.
    ///
    /// # Errors
    /// The first error of `each`; the recordings after it are not begun.
    pub fn run<E: Send>(
        &self,
        inputs: &[Input],
        mut each: impl FnMut(&Input, Outcome) -> Result<(), E>,
    ) -> Result<(), E> {
        #[cfg(feature = "cuda")]
        if let Some(device) = &self.device {
            return self.run_on(device, inputs, each);
        }
        // Recordings come first; threads that have none of their own help with the others', if all
        // can be in memory: one that helped must not wait for memory.
        let spare = inputs.len() < self.pool.current_num_threads()
            && (inputs.len() == 1 || fits(inputs, admission::budget()));
        let worker = || match spare {
            true => self.recognizer.worker().with_spare_threads(),
            false => self.recognizer.worker(),
        };
        let first = &self.first;
        let heard = |input: &Input, settle: &mut dyn FnMut(u64)| {
            let is_first = inputs
                .first()
                .is_some_and(|first| std::ptr::eq(first, input));
            let known = is_first.then(|| first.lock().unwrap_or_else(PoisonError::into_inner));
            let known = known.and_then(|mut known| known.take());
            known.unwrap_or_else(|| listen(self.recognizer.listener(), input, spare, settle))
        };
        let outcome = |worker: &mut Worker, input: &Input, settle: &mut dyn FnMut(u64)| {
            let heard = heard(input, settle)?;
            self.outcome(worker, input, heard)
        };
        if let [input] = inputs {
            let outcome = self
                .pool
                .install(|| outcome(&mut worker(), input, &mut |_| ()));
            return each(input, outcome);
        }
        let work = |worker: &mut Worker<'_>, input: &Input, leave: &mut Leave<'_>| {
            outcome(worker, input, &mut |bytes| leave.settle(bytes))
        };
        in_order(&self.pool, inputs, worker, work, each)
    }

    fn outcome(&self, worker: &mut Worker<'_>, input: &Input, heard: Impression) -> Outcome {
        let subject = input.subject();
        match worker.conclude(heard, subject, &self.dropout) {
            Ok(prediction) if is_finite(&prediction) => Ok(prediction),
            Ok(_) => Err(not_finite(subject)),
            Err(error) => Err(message(error, subject)),
        }
    }
}

/// Returns whether all inputs together are expected to fit into `budget` bytes.
fn fits(inputs: &[Input], budget: u64) -> bool {
    let sum = inputs.iter().map(Input::expected_memory);
    sum.fold(0, u64::saturating_add) <= budget
}

/// # Errors
/// When the operating system does not give that many threads.
pub(super) fn pool(threads: usize) -> Result<rayon::ThreadPool, BatchError> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|source| BatchError { threads, source })
}

/// Does `work` on all `inputs` in parallel, with what `init` makes for each thread, and hands the
/// results to `each` in the order of the inputs, as soon as those before are done. `work` settles its
/// leave with the memory of the decoded recording.
///
/// # Errors
/// The first error of `each`; the inputs after it are not begun.
pub(super) fn in_order<W, T: Send, E: Send>(
    pool: &rayon::ThreadPool,
    inputs: &[Input],
    init: impl Fn() -> W + Sync + Send,
    work: impl Fn(&mut W, &Input, &mut Leave<'_>) -> T + Sync + Send,
    mut each: impl FnMut(&Input, T) -> Result<(), E>,
) -> Result<(), E> {
    let waiting = pool.current_num_threads() * WAITING_PER_THREAD;
    let admission = &Admission::new(waiting);
    // There is room for the outcome of everyone who is let in, so nobody waits to hand it on.
    let (sender, receiver) = mpsc::sync_channel(waiting);
    std::thread::scope(|scope| {
        /// Nobody may wait for what is no longer done.
        struct Close<'a>(&'a Admission);
        impl Drop for Close<'_> {
            fn drop(&mut self) {
                self.0.close();
            }
        }
        let _close = Close(admission);
        scope.spawn(move || {
            pool.install(|| {
                // A bridge hands out the recordings one by one in order, so that what comes
                // first is also finished early. Those who wait in it do no harm: either there are
                // threads for all inputs and nobody waits, or no thread needs another's help.
                let admitted = inputs.iter().enumerate().map_while(|(i, input)| {
                    let leave = admission.enter(i, input.expected_memory())?;
                    Some((i, input, leave))
                });
                // A failed send means that `each` gave up and returned its error.
                let _ = admitted
                    .par_bridge()
                    .map_init(init, |worker, (i, input, mut leave)| {
                        (i, work(worker, input, &mut leave))
                    })
                    .try_for_each_with(sender, |sender, done| sender.send(done).map_err(drop));
            })
        });
        let mut early = BTreeMap::new();
        let mut next = 0;
        for (i, outcome) in receiver {
            early.insert(i, outcome);
            while let Some(outcome) = early.remove(&next) {
                each(&inputs[next], outcome)?;
                next += 1;
                admission.hand_on();
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn finished_outcomes_do_not_pile_up_behind_a_slow_one() {
        let pool = pool(2).unwrap();
        let inputs: Vec<Input> = (0..200)
            .map(|i| Input::file(i.to_string(), i.to_string().into()))
            .collect();
        let begun = AtomicUsize::new(0);
        let most = AtomicUsize::new(0);
        let mut order = Vec::new();
        let done: Result<(), ()> = in_order(
            &pool,
            &inputs,
            || (),
            |(), input, _| {
                begun.fetch_add(1, Ordering::SeqCst);
                if input.name == "0" {
                    std::thread::sleep(std::time::Duration::from_millis(300));
                    most.store(begun.load(Ordering::SeqCst), Ordering::SeqCst);
                }
                input.name.clone()
            },
            |_, name| {
                order.push(name);
                Ok(())
            },
        );
        done.unwrap();
        assert!((2..=8).contains(&most.load(Ordering::SeqCst)), "{most:?}");
        assert!(order.iter().eq(inputs.iter().map(|i| &i.name)));
        let mut handed = 0;
        let stopped = in_order(
            &pool,
            &inputs,
            || (),
            |_, _, _| (),
            |_, ()| {
                handed += 1;
                if handed == 3 { Err("enough") } else { Ok(()) }
            },
        );
        assert_eq!((stopped, handed), (Err("enough"), 3));
    }
}
