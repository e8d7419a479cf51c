//! Many recordings at once: recognised in parallel, handed on in order.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use rayon::prelude::*;

use super::inputs::Input;
use crate::audio::Recording;
use crate::formats::{NoAnswer, is_finite, not_finite};
use crate::nn::DropoutMode;
use crate::parallelism::Parallelism;
use crate::prediction::Prediction;
use crate::recognizer::{
    ExtractedFeatures, FrontEnd, Options, ProfileBuilder, ProfileError, RecognizeError, Recognizer,
    SpeakerProfile, Worker,
};

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

/// The answer for one recording, or why there is none.
pub type Outcome = Result<Prediction, NoAnswer>;

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

/// Features of a recording, or the reason that there are none.
pub type Extracted = Result<ExtractedFeatures, NoAnswer>;

/// Reads a recording and extracts its features, with the rayon pool's other threads if they are `spare`.
pub fn extract(front_end: &FrontEnd, input: &Input, spare: bool) -> Extracted {
    extract_settling(front_end, input, spare, |_| ())
}

/// [`extract`]; `settle` receives the memory of the decoded recording.
fn extract_settling(
    front_end: &FrontEnd,
    input: &Input,
    spare: bool,
    settle: impl FnOnce(u64),
) -> Extracted {
    let recording = input.read()?;
    settle(size_of_val(&*recording.samples) as u64);
    let extracted = match spare {
        true => front_end.extract_with_spare_threads(recording, input.subject()),
        false => front_end.extract(recording, input.subject()),
    };
    extracted.map_err(|e| NoAnswer::of(&e, input.subject()))
}

/// Whom the emotions in the recordings are relative to.
#[derive(Debug)]
enum Speakers {
    /// The population.
    Anybody,
    /// The same speaker in all of them.
    One(Arc<SpeakerProfile>),
    /// In each the speaker of the other recordings of its group.
    Groups {
        /// By the place of the input.
        of_input: Vec<Option<usize>>,
        groups: Vec<ProfileBuilder>,
    },
}

/// Threads that recognise recordings, each with buffers of its own.
#[derive(Debug)]
pub struct Batch<'r> {
    recognizer: &'r Recognizer,
    dropout: DropoutMode,
    pool: rayon::ThreadPool,
    /// What the first input is, if it is known.
    first: Mutex<Option<Extracted>>,
    speakers: Speakers,
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
            speakers: Speakers::Anybody,
            #[cfg(feature = "cuda")]
            device: None,
        }
    }

    /// Spares the next [`Batch::run`] without a device listening to its first input: this is what
    /// [`extract`] gave for it.
    #[must_use]
    pub fn with_first(self, extracted: Option<Extracted>) -> Self {
        Self {
            first: Mutex::new(extracted),
            ..self
        }
    }

    /// Answers relative to a speaker.
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

    /// Answers each of `inputs`, which [`Batch::run`] is given later, relative to the other
    /// recordings of its group. `of_input` names the group of each; one without a group, or alone in
    /// it, is answered as it is. This reads all recordings with a group once; a group keeps sums, not
    /// recordings. Those that cannot be used are left out.
    ///
    /// # Errors
    /// When the model takes no profiles.
    pub fn with_groups(
        self,
        inputs: &[Input],
        of_input: Vec<Option<usize>>,
        mut done: impl FnMut(),
    ) -> Result<Self, ProfileError> {
        // Empty profiles are refused too, but only by a model that takes any.
        if let Err(error @ ProfileError::Unsupported(_)) =
            self.recognizer.profile(&ProfileBuilder::default())
        {
            return Err(error);
        }
        let count = of_input.iter().flatten().max().map_or(0, |last| last + 1);
        let mut groups = vec![ProfileBuilder::default(); count];
        let mut places = of_input.iter();
        let wanted = |i: usize| of_input[i].is_some();
        let collected: Result<(), std::convert::Infallible> =
            self.collect_some(inputs, wanted, |_, one| {
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

    /// Hands what each recording adds to its speaker's profile to `each`, in the order of the
    /// inputs; one without a voice adds nothing.
    ///
    /// # Errors
    /// The first error of `each`; the recordings after it are not begun.
    pub fn collect<E: Send>(
        &self,
        inputs: &[Input],
        mut each: impl FnMut(&Input, Result<ProfileBuilder, NoAnswer>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.collect_some(
            inputs,
            |_| true,
            |input, one| each(input, one.expect("all are wanted")),
        )
    }

    fn collect_some<E: Send>(
        &self,
        inputs: &[Input],
        wanted: impl Fn(usize) -> bool + Sync,
        each: impl FnMut(&Input, Option<Result<ProfileBuilder, NoAnswer>>) -> Result<(), E>,
    ) -> Result<(), E> {
        let spare = inputs.len() < self.pool.current_num_threads();
        let work = |(): &mut (), i: usize, input: &Input, leave: &mut Leave<'_>| {
            wanted(i).then(|| {
                let mut builder = ProfileBuilder::default();
                let settle = |bytes| leave.settle(bytes);
                builder.add(&extract_settling(
                    self.recognizer.front_end(),
                    input,
                    spare,
                    settle,
                )?);
                Ok(builder)
            })
        };
        in_order(&self.pool, inputs, || (), work, each)
    }

    /// Recognises each of `inputs` once for each of the profiles that `profiles` makes for its
    /// place, from a single analysis.
    ///
    /// # Errors
    /// The first error of `each`; the recordings after it are not begun.
    pub fn run_with_profiles<E: Send>(
        &self,
        inputs: &[Input],
        profiles: impl Fn(usize) -> Vec<Option<SpeakerProfile>> + Sync,
        each: impl FnMut(&Input, Result<Vec<Prediction>, NoAnswer>) -> Result<(), E>,
    ) -> Result<(), E> {
        let work = |worker: &mut Worker<'_>, i: usize, input: &Input, leave: &mut Leave<'_>| {
            let settle = |bytes| leave.settle(bytes);
            let mut features = extract_settling(self.recognizer.front_end(), input, false, settle)?;
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

    /// The profile for the input at this place: of its group without itself.
    fn profile(
        &self,
        place: usize,
        own: impl FnOnce() -> Option<ProfileBuilder>,
    ) -> Option<Arc<SpeakerProfile>> {
        match &self.speakers {
            Speakers::Anybody => None,
            Speakers::One(profile) => Some(Arc::clone(profile)),
            Speakers::Groups { of_input, groups } => {
                let group = of_input.get(place).copied().flatten()?;
                let others = groups[group].without(&own()?);
                self.recognizer.profile(&others).ok().map(Arc::new)
            }
        }
    }

    /// As [`Batch::profile`], for a recording that the device analyses.
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
            // The device says what is wrong with it.
            let features = front_end
                .extract_with(recording, name, Parallelism::No)
                .ok()?;
            let mut builder = ProfileBuilder::default();
            builder.add(&features);
            Some(builder)
        })
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
        let extracted = |input: &Input, settle: &mut dyn FnMut(u64)| {
            let is_first = inputs
                .first()
                .is_some_and(|first| std::ptr::eq(first, input));
            let known = is_first.then(|| first.lock().unwrap_or_else(PoisonError::into_inner));
            let known = known.and_then(|mut known| known.take());
            known.unwrap_or_else(|| {
                extract_settling(self.recognizer.front_end(), input, spare, settle)
            })
        };
        let outcome =
            |worker: &mut Worker, place: usize, input: &Input, settle: &mut dyn FnMut(u64)| {
                let extracted = extracted(input, settle)?;
                self.outcome(worker, place, input, extracted)
            };
        if let [input] = inputs {
            let outcome = self
                .pool
                .install(|| outcome(&mut worker(), 0, input, &mut |_| ()));
            return each(input, outcome);
        }
        let work = |worker: &mut Worker<'_>, place: usize, input: &Input, leave: &mut Leave<'_>| {
            outcome(worker, place, input, &mut |bytes| leave.settle(bytes))
        };
        in_order(&self.pool, inputs, worker, work, each)
    }

    fn outcome(
        &self,
        worker: &mut Worker<'_>,
        place: usize,
        input: &Input,
        mut extracted: ExtractedFeatures,
    ) -> Outcome {
        let profile = self.profile(place, || {
            let mut builder = ProfileBuilder::default();
            builder.add(&extracted);
            Some(builder)
        });
        let options = Options {
            dropout: &self.dropout,
            profile: profile.as_deref(),
        };
        let outcome = worker.recognize_features(&mut extracted, input.subject(), options);
        Self::checked(outcome, input.subject())
    }

    fn checked(outcome: Result<Prediction, RecognizeError>, subject: &str) -> Outcome {
        match outcome {
            Ok(prediction) if is_finite(&prediction) => Ok(prediction),
            Ok(_) => Err(not_finite(subject)),
            Err(error) => Err(NoAnswer::of(&error, subject)),
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

/// Does `work` on all `inputs`, each with its place, in parallel, with what `init` makes for each thread, and
/// hands the results to `each` in the order of the inputs, as soon as those before are done. `work`
/// settles its leave with the memory of the decoded recording.
///
/// # Errors
/// The first error of `each`; the inputs after it are not begun.
pub(super) fn in_order<W, T: Send, E: Send>(
    pool: &rayon::ThreadPool,
    inputs: &[Input],
    init: impl Fn() -> W + Sync + Send,
    work: impl Fn(&mut W, usize, &Input, &mut Leave<'_>) -> T + Sync + Send,
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
                        (i, work(worker, i, input, &mut leave))
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
        let mut handed = 0;
        let stopped = in_order(
            &pool,
            &inputs,
            || (),
            |_, _, _, _| (),
            |_, ()| {
                handed += 1;
                if handed == 3 { Err("enough") } else { Ok(()) }
            },
        );
        assert_eq!((stopped, handed), (Err("enough"), 3));
    }
}
