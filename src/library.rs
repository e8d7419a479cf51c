//! The interface that a Rust program uses first: a [`Recognizer`] with defaults, recordings from files,
//! bytes or samples, labelled [`Answer`]s and one [`Error`] type.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Serialize, Serializer};

use crate::audio::decode::{self, DecodeError, Fault};
use crate::audio::{Recording, encoding};
use crate::formats::{Context, json};
use crate::model::bundle::{self, BundleError};
use crate::model::{Model, ModelError};
use crate::nn::DropoutMode;
use crate::prediction::{Age, Estimate, Prediction, Segment, Warning};
use crate::recognizer::{Options, ProfileError, RecognizeError, Recognizer, RecognizerError};
#[cfg(feature = "convert")]
use crate::{keras, model::from_keras};

/// Draws of forced dropout where none are chosen; see [`DropoutMode::Draws`].
const DRAWS: u32 = 32;

/// Most threads of a recogniser.
const MAX_THREADS: usize = 1024;

/// Category of an [`Error`], for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The file does not exist or cannot be read.
    Unreadable,
    /// The audio cannot be decoded or analysed.
    UnusableAudio,
    /// The recording holds sound, but no speech.
    NoSpeech,
    /// The model or Keras file cannot be used.
    Model,
    /// The speaker profile cannot be used.
    Profile,
    /// The network cannot run on the given arrays.
    Input,
    /// The device fails or the network refuses to run.
    Run,
}

/// Any failure of this crate's convenient interface. The message names the file or recording, the cause and
/// a remedy.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl Error {
    fn new(kind: ErrorKind, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self {
            kind,
            source: source.into(),
        }
    }

    /// The error of the failed stage, for a downcast. Its message is the one of this error.
    pub fn get_ref(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        &*self.source
    }

    /// Category of the failure.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.source.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.source()
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        let kind = match error.fault {
            Fault::Missing | Fault::Folder | Fault::Unreadable(_) | Fault::NotAFile => {
                ErrorKind::Unreadable
            }
            _ => ErrorKind::UnusableAudio,
        };
        Self::new(kind, error)
    }
}

impl From<RecognizeError> for Error {
    fn from(error: RecognizeError) -> Self {
        let kind = match error {
            RecognizeError::NoSpeech { .. } => ErrorKind::NoSpeech,
            RecognizeError::Audio { .. } | RecognizeError::Features { .. } => {
                ErrorKind::UnusableAudio
            }
            RecognizeError::NotFinite { .. } => ErrorKind::Model,
            RecognizeError::Device { .. } | RecognizeError::Run(_) => ErrorKind::Run,
        };
        Self::new(kind, error)
    }
}

/// Implements the conversion of errors that are all of one kind.
macro_rules! of_kind {
    ($($error:ty => $kind:ident),+ $(,)?) => {
        $(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::new(ErrorKind::$kind, error)
            }
        })+
    };
}

of_kind! {
    BundleError => Model,
    ModelError => Model,
    RecognizerError => Model,
    ProfileError => Profile,
    crate::nn::GraphError => Model,
    crate::nn::RunError => Run,
    crate::nn::run::ArraysError => Input,
}

#[cfg(feature = "convert")]
of_kind! {
    keras::ConvertError => Model,
    from_keras::AssembleError => Model,
}

impl Recording {
    /// Reads and decodes an audio file of any supported format; several channels are averaged.
    ///
    /// # Errors
    /// The file cannot be read or decoded.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Ok(decode::decode_path(path)?)
    }

    /// Decodes an audio file in memory; `name` stands for it in errors.
    ///
    /// # Errors
    /// The bytes cannot be decoded.
    pub fn from_bytes(bytes: &[u8], name: &str) -> Result<Self, Error> {
        Ok(decode::decode(bytes, name)?)
    }

    /// Makes a recording of mono samples, full scale 1. They are rounded to 16 bits, as the samples of a
    /// float WAV file are, so that both give the same answer.
    ///
    /// # Errors
    /// There is no sample, one is not finite, there are too many, or the sample rate is outside
    /// [`MIN_SAMPLE_RATE`](decode::MIN_SAMPLE_RATE) to [`MAX_SAMPLE_RATE`](decode::MAX_SAMPLE_RATE).
    pub fn from_samples(
        samples: impl IntoIterator<Item = f32>,
        sample_rate: u32,
    ) -> Result<Self, Error> {
        Self::from_interleaved(samples, 1, sample_rate)
    }

    /// Makes a recording of interleaved samples, full scale 1; the channels are averaged. An incomplete
    /// last frame is dropped. Otherwise as [`Recording::from_samples`].
    ///
    /// # Errors
    /// As [`Recording::from_samples`], or the number of channels is not supported.
    pub fn from_interleaved(
        samples: impl IntoIterator<Item = f32>,
        channels: u32,
        sample_rate: u32,
    ) -> Result<Self, Error> {
        if !(decode::MIN_SAMPLE_RATE..=decode::MAX_SAMPLE_RATE).contains(&sample_rate) {
            return Err(unsupported_rate(sample_rate));
        }
        if !(1..=decode::MAX_CHANNELS).contains(&channels) {
            return Err(Error::new(
                ErrorKind::UnusableAudio,
                format!(
                    "{channels} channels are not supported; give 1 to {}",
                    decode::MAX_CHANNELS
                ),
            ));
        }
        let make = || {
            decode::check_spec(sample_rate, channels)?;
            let samples = samples.into_iter();
            let frames = samples.size_hint().0 / channels as usize;
            let mut mixer = encoding::Mixer::new(channels, None, frames, decode::MAX_FRAMES)?;
            for sample in samples {
                mixer.push_float(f64::from(sample))?;
            }
            match mixer.frames() {
                0 => Err(Fault::NoSamples),
                _ => Ok(mixer.recording(sample_rate, "samples".into())),
            }
        };
        make().map_err(|fault: Fault| match fault {
            Fault::NonFinite { frame, channel } => Error::new(
                ErrorKind::UnusableAudio,
                format!("sample {frame} of channel {channel} is not a finite number"),
            ),
            Fault::NoSamples => Error::new(ErrorKind::UnusableAudio, "there are no samples"),
            fault => Error::new(ErrorKind::UnusableAudio, fault),
        })
    }
}

impl Recording {
    /// Returns the part between two times in seconds; `end` may lie behind the recording's end.
    ///
    /// # Errors
    /// The part is empty, or a time is negative or NaN.
    pub fn excerpt(&self, start: f64, end: f64) -> Result<Self, Error> {
        let unusable = |problem: String| Error::new(ErrorKind::UnusableAudio, problem);
        if !(start >= 0.0 && end > start) {
            return Err(unusable(format!(
                "an excerpt from {start} to {end} s is no part of a recording"
            )));
        }
        let rate = f64::from(self.sample_rate);
        // Saturates for an infinite end.
        let place = |seconds: f64| ((seconds * rate).round() as usize).min(self.samples.len());
        let samples = &self.samples[place(start)..place(end)];
        if samples.is_empty() {
            return Err(unusable(format!(
                "the recording has {:.3} s, nothing is left of the excerpt from {start} to {end} s",
                self.seconds()
            )));
        }
        Ok(Self {
            samples: samples.to_vec(),
            // The excerpt's own share is not known; the recording's is assumed.
            clipped: (self.clipped_fraction() * samples.len() as f64).round() as u64
                * u64::from(self.channel.map_or(self.channels, |_| 1)),
            ..self.clone()
        })
    }
}

fn unsupported_rate(sample_rate: u32) -> Error {
    let (low, high) = (decode::MIN_SAMPLE_RATE, decode::MAX_SAMPLE_RATE);
    Error::new(
        ErrorKind::UnusableAudio,
        format!(
            "a sample rate of {sample_rate} Hz is not supported; give one from {low} to {high} Hz"
        ),
    )
}

/// Configuration of a [`Recognizer`].
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    model: Option<PathBuf>,
    dropout: DropoutMode,
    threads: Option<usize>,
}

impl Builder {
    /// Uses the bundle at this path instead of the built-in model.
    pub fn model(mut self, path: impl Into<PathBuf>) -> Self {
        self.model = Some(path.into());
        self
    }

    /// Sets the mode of dropout that a model forces on. The default is 32 draws with seed 0.
    pub fn dropout(mut self, dropout: DropoutMode) -> Self {
        self.dropout = dropout;
        self
    }

    /// Sets the number of threads for many recordings: of [`Recognizer::recognize_all`],
    /// [`Recognizer::recognize_files`] and [`Recognizer::map_in_order`]; 0 is one for each processor, and at most
    /// 1024 are started. The default is the global pool of rayon. Answers do not depend on it.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Loads the model and prepares its networks.
    ///
    /// # Errors
    /// The model cannot be read, is no speech model, or threads cannot be started.
    pub fn build(self) -> Result<Recognizer, Error> {
        let model = match &self.model {
            Some(path) => bundle::load(path)?,
            None => builtin()?,
        };
        self.build_with(model)
    }

    /// [`Builder::build`] with a model that is loaded already, in place of [`Builder::model`].
    ///
    /// # Errors
    /// The model is no speech model, or threads cannot be started.
    pub fn build_with(self, model: Model) -> Result<Recognizer, Error> {
        let recognizer = Recognizer::new(model)?.with_dropout(self.dropout);
        match self.threads {
            None => Ok(recognizer),
            Some(threads) => {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads.min(MAX_THREADS))
                    .build();
                let pool = pool.map_err(|e| Error::new(ErrorKind::Run, e))?;
                Ok(recognizer.with_threads(Arc::new(pool)))
            }
        }
    }
}

#[cfg(feature = "default-model")]
fn builtin() -> Result<Model, Error> {
    Ok(crate::default_model::load()?)
}

#[cfg(not(feature = "default-model"))]
fn builtin() -> Result<Model, Error> {
    Err(Error::new(
        ErrorKind::Model,
        "no model is built in; name a bundle, or enable the feature default-model",
    ))
}

impl Recognizer {
    /// Makes a recogniser with the built-in model and default settings.
    ///
    /// # Errors
    /// The crate was built without the feature `default-model`, or from a damaged bundle.
    pub fn builtin() -> Result<Self, Error> {
        Self::builder().build()
    }

    /// Makes a recogniser with the bundle at this path and default settings.
    ///
    /// # Errors
    /// The bundle cannot be read or is no speech model.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        Self::builder().model(path).build()
    }

    /// Starts a configuration with the built-in model and 32 draws of forced dropout.
    pub fn builder() -> Builder {
        Builder {
            model: None,
            dropout: DropoutMode::draws(DRAWS, 0),
            threads: None,
        }
    }

    /// Recognises one recording. Threads may call this at the same time.
    ///
    /// # Errors
    /// The recording cannot be analysed or holds no speech.
    pub fn recognize(&self, recording: &Recording) -> Result<Answer, Error> {
        self.recognize_with(recording, "the recording", self.dropout().into())
    }

    /// Recognises one recording with a dropout mode or speaker profile of its own; `name` stands for it in
    /// errors and in the serialised answer.
    ///
    /// # Errors
    /// As [`Recognizer::recognize`].
    pub fn recognize_with(
        &self,
        recording: &Recording,
        name: &str,
        options: Options,
    ) -> Result<Answer, Error> {
        let prediction = self.predict(recording, name, options)?;
        Ok(Answer {
            prediction,
            context: Arc::new(Context::new(self.info(), self.model().identity())),
            name: name.into(),
        })
    }

    /// Reads and recognises one audio file.
    ///
    /// # Errors
    /// As [`Recording::open`] and [`Recognizer::recognize`]; the message names the file.
    pub fn recognize_file(&self, path: impl AsRef<Path>) -> Result<Answer, Error> {
        let path = path.as_ref();
        let recording = Recording::open(path)?;
        let name = path.display().to_string();
        self.recognize_with(&recording, &name, self.dropout().into())
    }

    /// Recognises recordings in parallel. The iterator yields their answers in order and holds a few
    /// recordings per thread at a time.
    pub fn recognize_all<'r, I>(
        &'r self,
        recordings: I,
    ) -> impl Iterator<Item = Result<Answer, Error>> + 'r
    where
        I: IntoIterator<Item = Recording>,
        I::IntoIter: 'r,
    {
        self.map_in_order(recordings.into_iter(), |recording| {
            self.recognize(&recording)
        })
    }

    /// Reads and recognises audio files in parallel. The iterator yields their answers in order.
    pub fn recognize_files<'r, P: AsRef<Path> + Send + 'r>(
        &'r self,
        paths: impl IntoIterator<Item = P, IntoIter: 'r>,
    ) -> impl Iterator<Item = Result<Answer, Error>> + 'r {
        self.map_in_order(paths.into_iter(), |path| self.recognize_file(path))
    }

    /// Number of threads that work on many recordings.
    pub fn num_threads(&self) -> usize {
        self.threads()
            .map_or_else(rayon::current_num_threads, |pool| {
                pool.current_num_threads()
            })
    }

    /// Calls `work` for each item on the recogniser's threads. The iterator yields the results in order and
    /// holds a few items per thread at a time.
    pub fn map_in_order<'r, T: Send + 'r, R: Send + 'r>(
        &'r self,
        mut items: impl Iterator<Item = T> + 'r,
        work: impl Fn(T) -> R + Sync + Send + 'r,
    ) -> impl Iterator<Item = R> + 'r {
        /// Items per thread at a time: enough that a long recording seldom leaves threads idle.
        const PER_THREAD: usize = 4;
        let mut results = Vec::new().into_iter();
        std::iter::from_fn(move || {
            if results.len() == 0 {
                let count = self.num_threads() * PER_THREAD;
                let part: Vec<T> = items.by_ref().take(count).collect();
                let all = || part.into_par_iter().map(&work).collect::<Vec<R>>();
                results = match self.threads() {
                    Some(pool) => pool.install(all),
                    None => all(),
                }
                .into_iter();
            }
            results.next()
        })
    }

    /// Starts the recognition of samples that arrive piece by piece, such as from a microphone.
    ///
    /// # Errors
    /// The sample rate is not supported.
    pub fn stream(&self, sample_rate: u32) -> Result<Stream<'_>, Error> {
        if !(decode::MIN_SAMPLE_RATE..=decode::MAX_SAMPLE_RATE).contains(&sample_rate) {
            return Err(unsupported_rate(sample_rate));
        }
        Ok(Stream {
            recognizer: self,
            sample_rate,
            samples: Vec::new(),
        })
    }
}

/// Recognition of mono samples that arrive piece by piece.
#[derive(Debug)]
pub struct Stream<'r> {
    recognizer: &'r Recognizer,
    sample_rate: u32,
    samples: Vec<f32>,
}

impl Stream<'_> {
    /// Appends samples, full scale 1. They stay in memory, 4 bytes each.
    ///
    /// # Errors
    /// The stream is longer than a recording may be, or a sample is not finite; no sample is appended then.
    pub fn push(&mut self, samples: &[f32]) -> Result<(), Error> {
        if let Some(place) = samples.iter().position(|x| !x.is_finite()) {
            return Err(Error::new(
                ErrorKind::UnusableAudio,
                format!("sample {place} of the block is not a finite number"),
            ));
        }
        if self.samples.len() + samples.len() > decode::MAX_FRAMES {
            let fault = Fault::TooLong {
                frames: decode::MAX_FRAMES,
            };
            return Err(Error::new(ErrorKind::UnusableAudio, fault));
        }
        self.samples.extend_from_slice(samples);
        Ok(())
    }

    /// Seconds so far.
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.sample_rate)
    }

    /// Recognises everything so far: the answer for a recording of the same samples.
    ///
    /// # Errors
    /// As [`Recording::from_samples`] and [`Recognizer::recognize`].
    pub fn answer(&self) -> Result<Answer, Error> {
        let samples = self.samples.iter().copied();
        let recording = Recording::from_samples(samples, self.sample_rate)?;
        self.recognizer.recognize(&recording)
    }

    /// Recognises the last `seconds` alone, for a display while somebody speaks. Times in the answer count from the
    /// beginning of this part.
    ///
    /// # Errors
    /// As [`Stream::answer`].
    pub fn latest(&self, seconds: f64) -> Result<Answer, Error> {
        if seconds.is_nan() || seconds <= 0.0 {
            return Err(Error::new(
                ErrorKind::UnusableAudio,
                format!("the last {seconds} s are no part of a stream; give a positive number"),
            ));
        }
        let count = (seconds * f64::from(self.sample_rate)) as usize;
        let first = self.samples.len().saturating_sub(count);
        let samples = self.samples[first..].iter().copied();
        let recording = Recording::from_samples(samples, self.sample_rate)?;
        self.recognizer.recognize(&recording)
    }
}

/// Probability of a label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Probability<'a> {
    label: &'a str,
    estimate: Estimate,
}

impl<'a> Probability<'a> {
    /// Label in the model's words, such as `happiness` or `female`.
    pub fn label(&self) -> &'a str {
        self.label
    }

    /// Probability between 0 and 1: the mean over the draws of forced dropout.
    pub fn probability(&self) -> f64 {
        self.estimate.mean
    }

    /// Sample standard deviation over the draws; 0 without draws.
    pub fn deviation(&self) -> f64 {
        self.estimate.std
    }
}

fn labelled<'a>(
    labels: &'a [String],
    estimates: impl Iterator<Item = Estimate>,
) -> impl Iterator<Item = Probability<'a>> {
    let pairs = labels.iter().zip(estimates);
    pairs.map(|(label, estimate)| Probability { label, estimate })
}

fn likeliest<'a>(all: impl Iterator<Item = Probability<'a>>) -> Probability<'a> {
    all.max_by(|a, b| a.probability().total_cmp(&b.probability()))
        .expect("a speech model has labels")
}

fn certain(mean: f64) -> Estimate {
    Estimate { mean, std: 0.0 }
}

/// Answer for one recording, with the model's labels.
///
/// Serialises as the object that `infer --format jsonl` prints (`docs/json.md`).
#[derive(Debug, Clone)]
pub struct Answer {
    prediction: Prediction,
    context: Arc<Context>,
    name: String,
}

impl Answer {
    /// Emotion with the highest probability.
    pub fn emotion(&self) -> Probability<'_> {
        likeliest(self.emotions())
    }

    /// All emotions in the model's order; the probabilities sum to 1.
    pub fn emotions(&self) -> impl Iterator<Item = Probability<'_>> {
        labelled(
            self.context.emotions(),
            self.prediction.emotions.iter().copied(),
        )
    }

    /// Gender with the highest probability, as the voice sounds.
    pub fn gender(&self) -> Probability<'_> {
        likeliest(self.genders())
    }

    /// All genders in the model's order.
    pub fn genders(&self) -> impl Iterator<Item = Probability<'_>> {
        let estimates = self.prediction.gender.iter().copied().map(certain);
        labelled(self.context.genders(), estimates)
    }

    /// Age in years, as the voice sounds.
    pub fn age(&self) -> Age {
        self.prediction.age
    }

    /// Segments of speech with their own estimates, in order.
    pub fn segments(&self) -> impl Iterator<Item = AnswerSegment<'_>> {
        let segments = self.prediction.segments.iter();
        segments.map(|segment| AnswerSegment {
            segment,
            context: &self.context,
        })
    }

    /// Reasons to doubt the answer; usually none.
    pub fn warnings(&self) -> &[Warning] {
        &self.prediction.warnings
    }

    /// Name of the recording.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Complete prediction, without labels.
    pub fn prediction(&self) -> &Prediction {
        &self.prediction
    }

    /// Returns the complete prediction.
    pub fn into_prediction(self) -> Prediction {
        self.prediction
    }

    /// The line that `infer --format jsonl` prints, without its end.
    pub fn to_json(&self) -> String {
        json::line(&self.context, &self.name, Ok(&self.prediction))
    }
}

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        json::record(&self.context, &self.name, &self.prediction).serialize(serializer)
    }
}

/// Segment of speech in an [`Answer`].
#[derive(Debug, Clone, Copy)]
pub struct AnswerSegment<'a> {
    segment: &'a Segment,
    context: &'a Context,
}

impl<'a> AnswerSegment<'a> {
    /// Start and end in seconds of the recording.
    pub fn time(&self) -> std::ops::Range<f64> {
        self.segment.time.clone()
    }

    /// Emotion with the highest probability.
    pub fn emotion(&self) -> Probability<'a> {
        likeliest(self.emotions())
    }

    /// All emotions in the model's order.
    pub fn emotions(&self) -> impl Iterator<Item = Probability<'a>> + use<'a> {
        labelled(
            self.context.emotions(),
            self.segment.emotions.iter().copied(),
        )
    }

    /// Gender with the highest probability.
    pub fn gender(&self) -> Probability<'a> {
        let estimates = self.segment.gender.iter().copied().map(certain);
        likeliest(labelled(self.context.genders(), estimates))
    }

    /// Age in years.
    pub fn age(&self) -> Age {
        self.segment.age
    }
}

/// Every type of the interface can be shared between threads.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Recognizer>();
    shared::<Recording>();
    shared::<Answer>();
    shared::<Stream<'_>>();
    shared::<Error>();
};
