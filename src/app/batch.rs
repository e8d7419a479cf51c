//! Parallel recognition of many recordings, with outcomes in input order.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use rayon::prelude::*;

use super::inputs::Input;
use crate::audio::Recording;
use crate::formats::{RecordingError, is_finite, not_finite};
use crate::nn::DropoutMode;
use crate::parallelism::Parallelism;
use crate::prediction::Prediction;
use crate::recognizer::{
    ExtractedFeatures, FrontEnd, Options, ProfileBuilder, ProfileError, RecognizeError, Recognizer,
    SpeakerProfile, Worker,
};

use admission::Admission;
pub(super) use admission::Permit;

mod admission;
#[cfg(feature = "cuda")]
mod device;
#[cfg(feature = "cuda")]
pub use device::OnDeviceError;

/// Recordings in progress or finished but not yet forwarded, per thread.
const WAITING_PER_THREAD: usize = 4;

/// Error when the threads of a batch cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {threads} threads: {source}; ask for fewer")]
pub struct BatchError {
    threads: usize,
    source: rayon::ThreadPoolBuildError,
}

/// Prediction for one recording, or its error.
pub type Outcome = Result<Prediction, RecordingError>;

/// Thread pool for recognition.
#[derive(Debug)]
pub struct Threads(rayon::ThreadPool);

impl Threads {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// When the operating system cannot start that many threads.
    pub fn new(count: usize) -> Result<Self, BatchError> {
        pool(count).map(Self)
    }

    /// Returns the number of threads.
    pub fn count(&self) -> usize {
        self.0.current_num_threads()
    }

    /// Runs both closures, in parallel if there are two threads.
    pub fn join<A: Send, B: Send>(
        &self,
        a: impl FnOnce() -> A + Send,
        b: impl FnOnce() -> B + Send,
    ) -> (A, B) {
        self.0.join(a, b)
    }
}

/// Features of one recording, or its error.
pub type FeatureResult = Result<ExtractedFeatures, RecordingError>;

/// Decodes a recording and computes its features, with the rayon pool's idle threads if `spare`.
pub fn extract_features(front_end: &FrontEnd, input: &Input, spare: bool) -> FeatureResult {
    extract_and_settle(front_end, input, spare, |_| ())
}

/// [`extract_features`] with a callback: `settle` receives the decoded recording's size in bytes.
fn extract_and_settle(
    front_end: &FrontEnd,
    input: &Input,
    spare: bool,
    settle: impl FnOnce(u64),
) -> FeatureResult {
    let recording = input.read()?;
    settle(size_of_val(&*recording.samples) as u64);
    let features = match spare {
        true => front_end.extract_with_spare_threads(recording, input.subject()),
        false => front_end.extract(recording, input.subject()),
    };
    features.map_err(|e| RecordingError::from_recognizer(&e, input.subject()))
}

/// Speaker profiles that the emotions are relative to.
#[derive(Debug)]
enum Speakers {
    /// No profile: emotions relative to the population.
    Population,
    /// One profile for all recordings.
    One(Arc<SpeakerProfile>),
    /// Leave-one-out profiles: each recording is relative to the other recordings of its group.
    Groups {
        /// Group of each input.
        of_input: Vec<Option<usize>>,
        groups: Vec<ProfileBuilder>,
    },
}

/// Recogniser for batches of recordings; each thread has its own buffers.
#[derive(Debug)]
pub struct Batch<'r> {
    recognizer: &'r Recognizer,
    dropout: DropoutMode,
    pool: rayon::ThreadPool,
    /// Features of the first input, if they were computed beforehand.
    first: Mutex<Option<FeatureResult>>,
    speakers: Speakers,
    #[cfg(feature = "cuda")]
    device: Option<crate::recognizer::DeviceRecognizer<'r>>,
}

impl<'r> Batch<'r> {
    /// Starts `threads` threads for a batch.
    ///
    /// # Errors
    /// When the operating system cannot start that many threads.
    pub fn new(
        recognizer: &'r Recognizer,
        dropout: DropoutMode,
        threads: usize,
    ) -> Result<Self, BatchError> {
        Ok(Self::on(Threads::new(threads)?, recognizer, dropout))
    }

    /// Creates a batch on threads that are already running.
    pub fn on(threads: Threads, recognizer: &'r Recognizer, dropout: DropoutMode) -> Self {
        Self {
            recognizer,
            dropout,
            pool: threads.0,
            first: Mutex::default(),
            speakers: Speakers::Population,
            #[cfg(feature = "cuda")]
            device: None,
        }
    }

    /// Sets the features of the next [`Batch::run`]'s first input, from [`extract_features`]. A
    /// batch on a device ignores them.
    #[must_use]
    pub fn with_first_features(self, features: Option<FeatureResult>) -> Self {
        Self {
            first: Mutex::new(features),
            ..self
        }
    }

    /// Makes all emotions relative to one speaker.
    ///
    /// # Errors
    /// When the profile was made with another model, or the model takes no profiles.
    pub fn with_profile(self, profile: SpeakerProfile) -> Result<Self, ProfileError> {
        self.recognizer.check_profile(&profile)?;
        Ok(Self {
            speakers: Speakers::One(Arc::new(profile)),
            ..self
        })
    }

    /// Makes the emotions of each input relative to the other recordings of its group.
    ///
    /// `inputs` are those of the later [`Batch::run`], and `of_input` holds the group of each. An
    /// input without a group, or alone in it, gets no profile. Every recording with a group is read
    /// once more; memory holds one sum per group. Recordings that fail are left out of the sums.
    /// `done` is called after each input.
    ///
    /// # Errors
    /// When the model takes no profiles.
    pub fn with_groups(
        self,
        inputs: &[Input],
        of_input: Vec<Option<usize>>,
        mut done: impl FnMut(),
    ) -> Result<Self, ProfileError> {
        // A model with profiles refuses an empty one too, but with another error.
        if let Err(error @ ProfileError::Unsupported(_)) =
            self.recognizer.profile(&ProfileBuilder::default())
        {
            return Err(error);
        }
        let count = of_input.iter().flatten().max().map_or(0, |last| last + 1);
        let mut groups = vec![ProfileBuilder::default(); count];
        let mut places = of_input.iter();
        let is_selected = |i: usize| of_input[i].is_some();
        let collected: Result<(), std::convert::Infallible> =
            self.collect_some(inputs, is_selected, |_, one| {
                if let (Some(Some(group)), Some(Ok(one))) = (places.next(), one) {
                    groups[*group].merge(&one);
                }
                done();
                Ok(())
            });
        let Ok(()) = collected;
        Ok(Self {
            speakers: Speakers::Groups { of_input, groups },
            ..self
        })
    }

    /// Calls `each` in input order with the profile statistics of each recording. A recording without
    /// speech is an error.
    ///
    /// # Errors
    /// The first error of `each`; the recordings after it are not begun.
    pub fn collect<E: Send>(
        &self,
        inputs: &[Input],
        mut each: impl FnMut(&Input, Result<ProfileBuilder, RecordingError>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.collect_some(
            inputs,
            |_| true,
            |input, one| each(input, one.expect("all inputs are selected")),
        )
    }

    fn collect_some<E: Send>(
        &self,
        inputs: &[Input],
        is_selected: impl Fn(usize) -> bool + Sync,
        each: impl FnMut(&Input, Option<Result<ProfileBuilder, RecordingError>>) -> Result<(), E>,
    ) -> Result<(), E> {
        let spare = inputs.len() < self.pool.current_num_threads();
        let work = |worker: &mut Worker<'_>, i: usize, input: &Input, permit: &mut Permit<'_>| {
            is_selected(i).then(|| {
                let settle = |bytes| permit.settle(bytes);
                let front_end = self.recognizer.front_end();
                let features = extract_and_settle(front_end, input, spare, settle)?;
                statistics(worker, &features, input.subject())
            })
        };
        in_order(&self.pool, inputs, || self.recognizer.worker(), work, each)
    }

    /// Predicts each input once per profile in `profiles(index)`, from a single feature extraction.
    ///
    /// # Errors
    /// The first error of `each`; the recordings after it are not begun.
    pub fn run_with_profiles<E: Send>(
        &self,
        inputs: &[Input],
        profiles: impl Fn(usize) -> Vec<Option<SpeakerProfile>> + Sync,
        each: impl FnMut(&Input, Result<Vec<Prediction>, RecordingError>) -> Result<(), E>,
    ) -> Result<(), E> {
        let work = |worker: &mut Worker<'_>, i: usize, input: &Input, permit: &mut Permit<'_>| {
            let settle = |bytes| permit.settle(bytes);
            let mut features =
                extract_and_settle(self.recognizer.front_end(), input, false, settle)?;
            let answer = |profile: Option<SpeakerProfile>| {
                let options = Options {
                    dropout: &self.dropout,
                    profile: profile.as_ref(),
                };
                let outcome = worker.recognize_features(&mut features, input.subject(), options);
                Self::checked(outcome, input.subject())
            };
            profiles(i).into_iter().map(answer).collect()
        };
        in_order(&self.pool, inputs, || self.recognizer.worker(), work, each)
    }

    /// Returns the profile for the input at `place`: its group without its own recording.
    fn profile(
        &self,
        place: usize,
        own: impl FnOnce() -> Option<ProfileBuilder>,
    ) -> Option<Arc<SpeakerProfile>> {
        match &self.speakers {
            Speakers::Population => None,
            Speakers::One(profile) => Some(Arc::clone(profile)),
            Speakers::Groups { of_input, groups } => {
                let group = of_input.get(place).copied().flatten()?;
                let others = groups[group].without(&own()?);
                self.recognizer.profile(&others).ok().map(Arc::new)
            }
        }
    }

    /// Returns [`Batch::profile`] for a recording whose features the device computes.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code))]
    fn profile_for_device(
        &self,
        place: usize,
        recording: &Recording,
        name: &str,
    ) -> Option<Arc<SpeakerProfile>> {
        self.profile(place, || {
            let front_end = self.recognizer.front_end();
            let recording = Cow::Borrowed(recording);
            // The device reports the recording's error.
            let features = front_end
                .extract_with(recording, name, Parallelism::No)
                .ok()?;
            statistics(&mut self.recognizer.worker(), &features, name).ok()
        })
    }

    /// Recognises `inputs` and calls `each` in input order, as soon as all earlier outcomes are
    /// there. Predictions do not depend on the number of threads.
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
        // Threads without a recording help with another thread's networks. They may do so only if
        // all recordings fit into memory: a thread that waits for memory would block the recording
        // that it helps with.
        let spare = inputs.len() < self.pool.current_num_threads()
            && (inputs.len() == 1 || fits(inputs, admission::budget()));
        let worker = || match spare {
            true => self.recognizer.worker().with_spare_threads(),
            false => self.recognizer.worker(),
        };
        let first = &self.first;
        let features = |input: &Input, settle: &mut dyn FnMut(u64)| {
            let is_first = inputs
                .first()
                .is_some_and(|first| std::ptr::eq(first, input));
            let known = is_first.then(|| first.lock().unwrap_or_else(PoisonError::into_inner));
            let known = known.and_then(|mut known| known.take());
            known.unwrap_or_else(|| {
                extract_and_settle(self.recognizer.front_end(), input, spare, settle)
            })
        };
        let outcome =
            |worker: &mut Worker, place: usize, input: &Input, settle: &mut dyn FnMut(u64)| {
                let features = features(input, settle)?;
                self.outcome(worker, place, input, features)
            };
        if let [input] = inputs {
            let outcome = self
                .pool
                .install(|| outcome(&mut worker(), 0, input, &mut |_| ()));
            return each(input, outcome);
        }
        let work =
            |worker: &mut Worker<'_>, place: usize, input: &Input, permit: &mut Permit<'_>| {
                outcome(worker, place, input, &mut |bytes| permit.settle(bytes))
            };
        in_order(&self.pool, inputs, worker, work, each)
    }

    fn outcome(
        &self,
        worker: &mut Worker<'_>,
        place: usize,
        input: &Input,
        mut features: ExtractedFeatures,
    ) -> Outcome {
        // The recognition below reports the recording's error.
        let own = || statistics(worker, &features, input.subject()).ok();
        let profile = self.profile(place, own);
        let options = Options {
            dropout: &self.dropout,
            profile: profile.as_deref(),
        };
        let outcome = worker.recognize_features(&mut features, input.subject(), options);
        Self::checked(outcome, input.subject())
    }

    /// Converts the outcome of a recording. The recogniser checks the networks' outputs; the check here
    /// refuses an age that overflows the model's scale, and attention weights that are not finite.
    fn checked(outcome: Result<Prediction, RecognizeError>, subject: &str) -> Outcome {
        match outcome {
            Ok(prediction) if is_finite(&prediction) => Ok(prediction),
            Ok(_) => Err(not_finite(subject)),
            Err(error) => Err(RecordingError::from_recognizer(&error, subject)),
        }
    }
}

/// Returns the profile statistics of one recording.
fn statistics(
    worker: &mut Worker<'_>,
    features: &ExtractedFeatures,
    subject: &str,
) -> Result<ProfileBuilder, RecordingError> {
    let mut builder = ProfileBuilder::default();
    match worker.add_to_profile(&mut builder, features, subject) {
        Ok(()) => Ok(builder),
        Err(error) => Err(RecordingError::from_recognizer(&error, subject)),
    }
}

/// Returns true if all inputs together are expected to fit into `budget` bytes.
fn fits(inputs: &[Input], budget: u64) -> bool {
    let sum = inputs.iter().map(Input::expected_memory);
    sum.fold(0, u64::saturating_add) <= budget
}

/// Starts a pool of `threads` threads.
///
/// # Errors
/// When the operating system cannot start that many threads.
pub(super) fn pool(threads: usize) -> Result<rayon::ThreadPool, BatchError> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|source| BatchError { threads, source })
}

/// Maps `work` over `inputs` in parallel and calls `each` with the results in input order.
///
/// `init` makes the state of each thread. `work` receives that state, the input's index, the input
/// and its memory permit, which it has to settle to the decoded size.
///
/// # Errors
/// The first error of `each`; the inputs after it are not begun.
pub(super) fn in_order<W, T: Send, E: Send>(
    pool: &rayon::ThreadPool,
    inputs: &[Input],
    init: impl Fn() -> W + Sync + Send,
    work: impl Fn(&mut W, usize, &Input, &mut Permit<'_>) -> T + Sync + Send,
    mut each: impl FnMut(&Input, T) -> Result<(), E>,
) -> Result<(), E> {
    let waiting = pool.current_num_threads() * WAITING_PER_THREAD;
    let admission = &Admission::new(waiting);
    // The channel has room for every admitted input, so no thread blocks on sending.
    let (sender, receiver) = mpsc::sync_channel(waiting);
    std::thread::scope(|scope| {
        /// Stops the admission when `each` fails or panics, so that no thread waits for ever.
        struct Close<'a>(&'a Admission);
        impl Drop for Close<'_> {
            fn drop(&mut self) {
                self.0.close();
            }
        }
        let _close = Close(admission);
        scope.spawn(move || {
            pool.install(|| {
                // A parallel bridge takes inputs in order, which bounds the results that wait for
                // an earlier one. Threads that block in it cause no deadlock: either every input
                // has its own thread, or no thread needs another's help.
                let admitted = inputs.iter().enumerate().map_while(|(i, input)| {
                    let permit = admission.enter(i, input.expected_memory())?;
                    Some((i, input, permit))
                });
                // A failed send means that `each` returned an error.
                let _ = admitted
                    .par_bridge()
                    .map_init(init, |worker, (i, input, mut permit)| {
                        (i, work(worker, i, input, &mut permit))
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
                admission.forward();
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
            |(), _, input, _| {
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
        let mut forwarded = 0;
        let stopped = in_order(
            &pool,
            &inputs,
            || (),
            |_, _, _, _| (),
            |_, ()| {
                forwarded += 1;
                if forwarded == 3 {
                    Err("enough")
                } else {
                    Ok(())
                }
            },
        );
        assert_eq!((stopped, forwarded), (Err("enough"), 3));
    }
}
