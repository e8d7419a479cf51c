//! Models of the utterance front end: every segment of speech has its own estimates, from windows of mel
//! frames with pitch and from the segment's descriptors.

use std::borrow::Cow;
use std::ops::Range;

use super::front_end::{RecordingInfo, general_warnings};
use super::networks::{NetworkInputs, NetworkOutputs};
use super::profile::SpeakerProfile;
use super::statistics::estimates;
use super::{RecognizeError, row};
use crate::audio::{Recording, Resampling};
use crate::front_end::utterance::{
    MEL_GROUPS, Segments, Utterance, UtteranceExtractor, UtteranceWindows, WINDOW_FRAMES,
};
use crate::front_end::{HOP, N_MELS, SAMPLE_RATE};
use crate::front_end::{check, samples};
use crate::model::{AgeScale, ModelInfo, SpeakerScale};
use crate::nn::DropoutMode;
use crate::parallelism::Parallelism;
use crate::prediction::{Age, AgeInterval, Prediction, Segment, Speaker, Voice, Warning, Window};

/// Seconds between frames.
const FRAME_SECONDS: f64 = HOP as f64 / SAMPLE_RATE as f64;

/// Steps from a recording to the networks' inputs, and from their outputs to the prediction.
#[derive(Debug)]
pub struct Pipeline {
    emotions: usize,
    age: AgeScale,
    speaker: Option<SpeakerScale>,
    unsure_below: Option<f64>,
    resampling: Resampling,
    extractor: UtteranceExtractor,
}

/// The networks' inputs for a recording.
#[derive(Debug)]
pub struct Features {
    segments: Vec<SegmentInputs>,
    is_voiced: bool,
    speaker: Option<Speaker>,
}

/// The networks' inputs for a segment.
#[derive(Debug)]
pub struct SegmentInputs {
    /// Analysed segment.
    pub utterance: Utterance,
    windows: UtteranceWindows,
    /// The descriptors with the population's means for missing bands; `None` if no band is missing.
    limited: Option<Vec<f32>>,
    /// Windows and descriptors relative to a speaker; `None` without a profile.
    adapted: Option<(UtteranceWindows, Vec<f32>)>,
    /// The emotion feature network has two inputs: the descriptors, and the descriptors relative to a
    /// speaker.
    reads_both: bool,
}

/// Resamples a recording to 16 kHz in one step, whatever the method; a recording of that rate is
/// unchanged.
pub fn signal(
    recording: Cow<'_, Recording>,
    resampling: Resampling,
    parallelism: Parallelism,
) -> Cow<'_, [f32]> {
    let rate = recording.sample_rate;
    resampling.convert_in_one_step(samples(recording), rate, parallelism)
}

impl Pipeline {
    /// Creates the pipeline of the model that `info` describes.
    pub fn new(info: &ModelInfo, age: AgeScale) -> Self {
        Self {
            emotions: info.emotions.len(),
            age,
            speaker: info.speaker.clone(),
            unsure_below: info.unsure_below,
            resampling: info.resampling,
            extractor: UtteranceExtractor::new(),
        }
    }

    /// Extracts the networks' inputs from a recording; `name` stands for it in errors.
    ///
    /// # Errors
    /// The recording cannot be analysed.
    pub fn extract(
        &self,
        recording: Cow<'_, Recording>,
        name: &str,
        parallelism: Parallelism,
    ) -> Result<Features, RecognizeError> {
        check(&recording).map_err(RecognizeError::audio(name))?;
        let signal = signal(recording, self.resampling, parallelism);
        let segments = self.extractor().analyse_segments(signal);
        let segments = segments.map_err(RecognizeError::features(name))?;
        Ok(self.inputs(segments))
    }

    /// Makes the networks' inputs from the segments of a recording.
    pub fn inputs(&self, segments: Segments) -> Features {
        let scale = self.speaker.as_ref();
        let inputs = segments
            .segments
            .into_iter()
            .map(|utterance| SegmentInputs {
                windows: utterance.windows(),
                limited: scale.and_then(|scale| {
                    let missing = missing_bands(scale, &utterance.stats);
                    (!missing.is_empty()).then(|| {
                        let mut descriptors = utterance.stats.clone();
                        replace_bands(scale, missing, &mut descriptors);
                        descriptors
                    })
                }),
                utterance,
                adapted: None,
                reads_both: scale.is_some(),
            });
        Features {
            segments: inputs.collect(),
            is_voiced: segments.is_voiced,
            speaker: None,
        }
    }

    /// Extractor of pitch, frames and descriptors.
    pub fn extractor(&self) -> &UtteranceExtractor {
        &self.extractor
    }

    /// Population statistics for speaker profiles, if the model accepts profiles.
    pub fn speaker(&self) -> Option<&SpeakerScale> {
        self.speaker.as_ref()
    }

    /// Makes the prediction from the networks' outputs for each segment; `None` stands for a segment
    /// without speech.
    ///
    /// # Panics
    /// No segment is speech.
    pub fn prediction(
        &self,
        recording: &RecordingInfo,
        features: &Features,
        outputs: Vec<Option<NetworkOutputs>>,
        dropout: &DropoutMode,
    ) -> Prediction {
        let mut windows = Vec::new();
        let mut segments = Vec::new();
        let mut utterances: Vec<&Utterance> = Vec::new();
        let (mut genders, mut draws) = (Vec::new(), Vec::new());
        for (inputs, outputs) in features.segments.iter().zip(outputs) {
            let Some(outputs) = outputs else { continue };
            let first = windows.len();
            windows.extend(self.timeline(recording, inputs, &outputs));
            segments.push(self.segment(recording, inputs, &outputs, first..windows.len()));
            genders.push(segments[segments.len() - 1].gender.clone());
            draws.push(outputs.merged);
            utterances.push(&inputs.utterance);
        }
        let age = whole_age(&segments, &self.age);
        let emotions = estimates(&weighted(&segments, &draws), self.emotions);
        let voice = voice(recording, &utterances, features.is_voiced);
        let mut warnings = general_warnings(recording, voice.voiced, &age, &self.age);
        let largest = emotions.iter().map(|e| e.mean).fold(0.0, f64::max);
        if self
            .unsure_below
            .is_some_and(|threshold| largest < threshold)
        {
            warnings.push(Warning::Unsure {
                probability: largest,
            });
        }
        Prediction {
            emotions,
            age,
            gender: weighted(&segments, &genders),
            segments,
            windows,
            voice,
            speaker: features.speaker,
            warnings,
            dropout: dropout.clone(),
        }
    }

    fn segment(
        &self,
        recording: &RecordingInfo,
        inputs: &SegmentInputs,
        outputs: &NetworkOutputs,
        windows: Range<usize>,
    ) -> Segment {
        let utterance = &inputs.utterance;
        let seconds = |frame| time_of(frame, recording);
        let years = |output: f32| f64::from(output) * self.age.deviation + self.age.mean;
        let age = match (&*outputs.age, self.age.coverage) {
            (&[low, middle, high], Some(coverage)) => {
                let [low, middle, high] = [low, middle, high].map(years);
                Age {
                    years: middle,
                    spread: None,
                    error: self.age.error,
                    // The quantiles are trained independently and may cross.
                    interval: Some(AgeInterval {
                        low: low.min(middle),
                        high: high.max(middle),
                        coverage,
                    }),
                }
            }
            (age, _) => Age {
                years: years(age[0]),
                spread: None,
                error: self.age.error,
                interval: None,
            },
        };
        Segment {
            time: seconds(utterance.kept.start)..seconds(utterance.kept.end),
            voiced: utterance.active.iter().filter(|active| **active).count() as f64
                * FRAME_SECONDS,
            emotions: estimates(&outputs.merged, self.emotions),
            age,
            gender: outputs.gender.iter().map(|&x| f64::from(x)).collect(),
            windows,
        }
    }

    fn timeline<'a>(
        &'a self,
        recording: &'a RecordingInfo,
        inputs: &'a SegmentInputs,
        outputs: &'a NetworkOutputs,
    ) -> impl Iterator<Item = Window> + 'a {
        let SegmentInputs {
            utterance, windows, ..
        } = inputs;
        let time = |frame: usize| time_of(utterance.kept.start + frame, recording);
        let starts = windows.starts().iter().zip(&outputs.attention).enumerate();
        starts.map(move |(i, (&start, attention))| Window {
            time: time(start)..time(start + windows.real_frames(i)),
            emotions: row(&outputs.windows, i, self.emotions),
            age: None,
            gender: Vec::new(),
            attention: attention.clone(),
        })
    }
}

impl Features {
    /// The inputs for each segment.
    pub fn segments(&self) -> &[SegmentInputs] {
        &self.segments
    }

    /// Returns true if the recording contains voice.
    pub fn is_voiced(&self) -> bool {
        self.is_voiced
    }

    /// Makes the inputs of the emotion networks relative to a speaker.
    pub fn adapt(&mut self, profile: &SpeakerProfile, scale: &SpeakerScale) {
        for segment in &mut self.segments {
            let utterance = &segment.utterance;
            let frames = profile.adapt_frames(scale, &utterance.frames);
            let mut descriptors = profile.adapt_descriptors(scale, &utterance.stats);
            let missing = missing_bands(scale, &utterance.stats);
            replace_bands(scale, missing, &mut descriptors);
            segment.adapted = Some((UtteranceWindows::of(&frames), descriptors));
        }
        self.speaker = Some(profile.speaker());
    }

    /// Makes the inputs of the emotion networks relative to the population again.
    pub fn remove_profile(&mut self) {
        for segment in &mut self.segments {
            segment.adapted = None;
        }
        self.speaker = None;
    }

    /// Returns the networks' inputs of each segment.
    pub fn network_inputs(&self) -> impl Iterator<Item = NetworkInputs<'_>> {
        self.segments.iter().map(SegmentInputs::network_inputs)
    }
}

impl SegmentInputs {
    fn network_inputs(&self) -> NetworkInputs<'_> {
        let absolute = self.limited.as_ref().unwrap_or(&self.utterance.stats);
        let (windows, stats) = match &self.adapted {
            Some((windows, stats)) => (windows, stats),
            None => (&self.windows, absolute),
        };
        NetworkInputs {
            frames: windows.frames(),
            starts: windows.starts(),
            whole: match self.reads_both {
                true => vec![absolute, stats],
                false => vec![stats],
            },
            descriptors: &self.utterance.stats,
        }
    }
}

/// Mel bands above the recording's band limit: those from the highest one down with a mean level that
/// says that nothing is in them.
fn missing_bands(scale: &SpeakerScale, descriptors: &[f32]) -> Range<usize> {
    let Some(level) = scale.missing_below else {
        return N_MELS..N_MELS;
    };
    let mean_levels = &descriptors[..N_MELS];
    let highest = mean_levels
        .iter()
        .rposition(|&mean| f64::from(mean) >= level);
    highest.map_or(0, |band| band + 1)..N_MELS
}

/// Replaces the descriptors of these mel bands by the population's means.
fn replace_bands(scale: &SpeakerScale, bands: Range<usize>, descriptors: &mut [f32]) {
    let means = scale.mean.chunks(N_MELS);
    let groups = descriptors.chunks_mut(N_MELS).zip(means).take(MEL_GROUPS);
    for (values, means) in groups {
        for (value, mean) in values[bands.clone()].iter_mut().zip(&means[bands.clone()]) {
            *value = *mean as f32;
        }
    }
}

/// Start of a frame in seconds, at most the recording's duration.
fn time_of(frame: usize, recording: &RecordingInfo) -> f64 {
    (frame as f64 * FRAME_SECONDS).min(recording.seconds)
}

/// Mean of the segments' values, weighted by their seconds of voice.
fn weighted<T: Copy + Into<f64>>(segments: &[Segment], values: &[Vec<T>]) -> Vec<f64> {
    let total: f64 = segments.iter().map(|segment| segment.voiced).sum();
    let mut mean = vec![0.0; values.first().map_or(0, Vec::len)];
    for (segment, values) in segments.iter().zip(values) {
        for (mean, &value) in mean.iter_mut().zip(values) {
            *mean += value.into() * segment.voiced / total;
        }
    }
    mean
}

fn whole_age(segments: &[Segment], scale: &AgeScale) -> Age {
    let of = |value: &dyn Fn(&Age) -> f64| {
        let total: f64 = segments.iter().map(|segment| segment.voiced).sum();
        let parts = segments.iter().map(|s| value(&s.age) * s.voiced / total);
        parts.sum::<f64>()
    };
    let end = |end: fn(&AgeInterval) -> f64| {
        of(&|age: &Age| age.interval.as_ref().map_or(age.years, end))
    };
    Age {
        years: of(&|age| age.years),
        spread: None,
        error: scale.error,
        interval: scale.coverage.map(|coverage| AgeInterval {
            low: end(|interval| interval.low),
            high: end(|interval| interval.high),
            coverage,
        }),
    }
}

/// Makes the report on the recording and its voice. The active frames of the segments are speech.
fn voice(recording: &RecordingInfo, segments: &[&Utterance], is_voiced: bool) -> Voice {
    let seconds = |frame| time_of(frame, recording);
    let speech_of = |utterance: &&Utterance| {
        let start = utterance.kept.start;
        let spans = runs(&utterance.active).map(move |run| start + run.start..start + run.end);
        spans.collect::<Vec<_>>()
    };
    let speech: Vec<Range<f64>> = match is_voiced {
        true => segments
            .iter()
            .flat_map(speech_of)
            .map(|run| seconds(run.start)..seconds(run.end))
            .filter(|span| span.start < span.end)
            .collect(),
        false => Vec::new(),
    };
    let start = segments.first().map_or(0, |u| u.kept.start);
    let end = segments.last().map_or(0, |u| u.kept.end);
    let total = segments.first().map_or(0, |u| u.total_frames);
    Voice {
        duration: recording.seconds,
        sample_rate: recording.sample_rate,
        channels: recording.channels,
        channel: recording.channel,
        format: recording.format.clone(),
        analysed: seconds(start)..seconds(end),
        trimmed: end - start < total,
        voiced: speech
            .iter()
            .fold(0.0, |sum, s: &Range<f64>| sum + s.end - s.start),
        speech,
    }
}

/// Returns the ranges of consecutive `true` flags.
fn runs(flags: &[bool]) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    flags.chunk_by(|a, b| a == b).filter_map(move |part| {
        let run = start..start + part.len();
        start = run.end;
        part[0].then_some(run)
    })
}

const _: () = assert!(crate::front_end::utterance::LONGEST_SEGMENT >= WINDOW_FRAMES);
