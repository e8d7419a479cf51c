//! Front end and networks of a model on a device. The front end of one batch overlaps with the networks of
//! the batch before.

use std::borrow::Cow;
use std::sync::Arc;

use rayon::prelude::*;

use super::inputs::InputBuffers;
use super::networks::{DeviceInputs, Networks, PendingOutputs};
use super::{DeviceRecognizerError, NamedRecording, RecordingOutcome};
use crate::audio::Recording;
use crate::front_end::cuda::FrontEndError;
use crate::front_end::legacy2020::cuda::{CudaFrontEnd as Legacy2020FrontEnd, VoicedBatch};
use crate::front_end::utterance::cuda::CudaFrontEnd as UtteranceFrontEnd;
use crate::model::FrontEndKind;
use crate::model::Model;
use crate::nn::cuda::{CudaRunError, DeviceError, Driver, Source, Stream};
use crate::nn::{DropoutMode, RunError};
use crate::parallelism::Parallelism;
use crate::recognizer::front_end::{self, Analysis, Features, RecordingInfo};
use crate::recognizer::networks::{NetworkInputs, NetworkOutputs};
use crate::recognizer::speech::{SpeechCheck, SpeechSession};
use crate::recognizer::{RecognizeError, legacy2020, utterance};

/// Front end and networks of a model, with the device memory for a batch.
#[derive(Debug)]
pub struct Device {
    cpu_front_end: Arc<front_end::FrontEnd>,
    front_end: DeviceFrontEnd,
    networks: Networks,
    /// Speech network on the CPU: it selects the segments that the device processes.
    speech: SpeechSession,
    inputs: InputBuffers,
    in_flight: Option<InFlight>,
}

/// Outcomes of a batch, or the error that the whole batch met.
pub type BatchOutcome = Result<Vec<RecordingOutcome>, CudaRunError>;

/// Front end on a device. It uses another stream than the networks' first one.
#[derive(Debug)]
enum DeviceFrontEnd {
    Legacy2020(Box<Legacy2020FrontEnd>),
    Utterance(Box<UtteranceFrontEnd>),
}

/// Results of a front end's first stage, which may overlap with the networks of the batch before.
#[derive(Debug)]
enum FrontEndOutput {
    /// Voiced parts of the recordings. The signals are on the device.
    Voiced(VoicedBatch),
    /// Features of the recordings in host memory.
    Features(Vec<Result<Features, FrontEndError>>),
}

/// A batch that the device has started.
#[derive(Debug)]
struct InFlight {
    recordings: Vec<PendingRecording>,
    dropout: DropoutMode,
    state: Result<State, CudaRunError>,
}

/// A recording without its samples.
#[derive(Debug)]
struct PendingRecording {
    info: RecordingInfo,
    name: String,
}

#[derive(Debug)]
enum State {
    /// The networks' inputs are on the device only. There are no outputs if no recording has voice.
    FeaturesOnDevice(VoicedBatch, Option<PendingOutputs>),
    /// The networks' inputs of the usable recordings were uploaded.
    FeaturesOnHost(
        Vec<Result<SpeechFeatures, RecognizeError>>,
        Option<PendingOutputs>,
    ),
    /// The device ran out of memory and has processed the batch in parts.
    Finished(Vec<RecordingOutcome>),
}

/// Features of a recording, and for each segment whether it is speech.
#[derive(Debug)]
struct SpeechFeatures {
    features: Features,
    is_speech: Vec<bool>,
}

impl Device {
    /// Plans the networks and the front end of a model for a device.
    ///
    /// # Errors
    /// The device fails or has too little memory.
    pub fn new(
        driver: &Arc<dyn Driver>,
        model: &Model,
        cpu_front_end: &Arc<front_end::FrontEnd>,
    ) -> Result<Self, DeviceRecognizerError> {
        let (resampling, stream) = (model.info().resampling, Stream::B);
        let front_end = match cpu_front_end.kind() {
            FrontEndKind::Legacy2020 => {
                let front_end = Legacy2020FrontEnd::new(driver.clone(), stream, resampling)?;
                DeviceFrontEnd::Legacy2020(Box::new(front_end))
            }
            FrontEndKind::Utterance => {
                let front_end = UtteranceFrontEnd::new(driver.clone(), stream, resampling)?;
                DeviceFrontEnd::Utterance(Box::new(front_end))
            }
        };
        Ok(Self {
            cpu_front_end: Arc::clone(cpu_front_end),
            front_end,
            networks: Networks::new(driver, model)?,
            speech: SpeechCheck::new(model)?.session(),
            inputs: InputBuffers::default(),
            in_flight: None,
        })
    }

    /// Bytes of device memory of the networks' buffers.
    pub fn held_bytes(&self) -> usize {
        self.networks.held_bytes()
    }

    /// Releases the device memory of all batches. No batch may be in flight.
    pub fn release(&mut self) {
        match &mut self.front_end {
            DeviceFrontEnd::Legacy2020(front_end) => front_end.release(),
            DeviceFrontEnd::Utterance(front_end) => front_end.release(),
        }
        self.networks.release();
        self.inputs = InputBuffers::default();
    }

    /// Waits until the device is idle. After a panic, this keeps unfinished work from writing to buffers
    /// that are used again.
    pub fn synchronise(&self) {
        for stream in [Stream::A, Stream::B] {
            // An error belongs to the interrupted batch, which is reported as interrupted already.
            let _ = self.networks.driver().synchronise(stream);
        }
    }

    /// Starts a batch, and finishes the batch before in between: `previous` receives its outcomes as soon
    /// as the device has them. The CPU part runs on the threads of the current rayon pool. A batch holds
    /// at most [`MOST_RECORDINGS`](crate::front_end::cuda::MOST_RECORDINGS) recordings, and only one with
    /// dropout masks.
    pub fn submit(
        &mut self,
        batch: Vec<NamedRecording>,
        dropout: &DropoutMode,
        previous: impl FnOnce(BatchOutcome),
    ) {
        let output = self.start_front_end(&batch);
        if let Some(outcomes) = self.finish() {
            previous(outcomes);
        }
        let started = output.and_then(|output| self.start_networks(Some(output), &batch, dropout));
        let (state, recordings) = match started {
            Err(error) if is_out_of_memory(&error) => {
                let outcomes = self.process_in_parts(batch, dropout);
                (outcomes.map(State::Finished), Vec::new())
            }
            state => (state, without_samples(batch)),
        };
        self.in_flight = Some(InFlight {
            recordings,
            dropout: dropout.clone(),
            state,
        });
    }

    /// Waits for the batch in flight and returns its outcomes; `None` if there is no batch.
    pub fn finish(&mut self) -> Option<BatchOutcome> {
        let InFlight {
            recordings,
            dropout,
            state,
        } = self.in_flight.take()?;
        Some(state.and_then(|state| self.outcomes(recordings, state, &dropout)))
    }

    /// Runs the networks on inputs from the CPU's front end. No batch may be in flight.
    pub fn run(
        &mut self,
        inputs: &[NetworkInputs],
        dropout: &DropoutMode,
    ) -> Vec<Result<NetworkOutputs, CudaRunError>> {
        let mut outputs = self.run_batch(inputs, dropout);
        if outputs.as_ref().is_err_and(is_out_of_memory) {
            self.release();
            if inputs.len() > 1 {
                let (first, second) = inputs.split_at(inputs.len() / 2);
                let mut outputs = self.run(first, dropout);
                outputs.extend(self.run(second, dropout));
                return outputs;
            }
            outputs = self.run_batch(inputs, dropout);
        }
        match outputs {
            Ok(outputs) => outputs.into_iter().map(Ok).collect(),
            Err(error) => inputs.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    fn run_batch(
        &mut self,
        inputs: &[NetworkInputs],
        dropout: &DropoutMode,
    ) -> Result<Vec<NetworkOutputs>, CudaRunError> {
        let pending = self.inputs.start(&mut self.networks, inputs, dropout)?;
        self.outputs(pending)
    }

    /// Runs the first stage of the front end: up to the voiced parts, or to the features.
    fn start_front_end(
        &mut self,
        batch: &[NamedRecording],
    ) -> Result<FrontEndOutput, CudaRunError> {
        let recordings: Vec<&Recording> = batch.iter().map(|named| &named.recording).collect();
        Ok(match &mut self.front_end {
            DeviceFrontEnd::Legacy2020(front_end) => {
                FrontEndOutput::Voiced(front_end.detect_voice(&recordings)?)
            }
            DeviceFrontEnd::Utterance(front_end) => {
                let pipeline = utterance_pipeline(&self.cpu_front_end);
                let extractor = pipeline.extractor();
                let analysed = front_end
                    .analyse_segments(extractor, &recordings)?
                    .into_par_iter();
                let features = |segments| Features::Utterance(Box::new(pipeline.inputs(segments)));
                FrontEndOutput::Features(analysed.map(|result| result.map(features)).collect())
            }
        })
    }

    /// Runs the second stage of the front end and starts the networks. Without the output of the first
    /// stage, the CPU extracts the features.
    fn start_networks(
        &mut self,
        front_end_output: Option<FrontEndOutput>,
        batch: &[NamedRecording],
        dropout: &DropoutMode,
    ) -> Result<State, CudaRunError> {
        let features: Vec<Result<Features, RecognizeError>> =
            match (front_end_output, &mut self.front_end) {
                (Some(FrontEndOutput::Voiced(voiced)), DeviceFrontEnd::Legacy2020(front_end)) => {
                    let pending = start_on_device(front_end, &voiced, &mut self.networks, dropout)?;
                    return Ok(State::FeaturesOnDevice(voiced, pending));
                }
                (Some(FrontEndOutput::Voiced(_)), _) => {
                    unreachable!("the output of this front end")
                }
                (Some(FrontEndOutput::Features(features)), _) => {
                    let pairs = features.into_iter().zip(batch);
                    pairs
                        .map(|(features, named)| features.map_err(recording_error(&named.name)))
                        .collect()
                }
                (None, _) => {
                    let cpu_front_end = &self.cpu_front_end;
                    let extract = |named: &NamedRecording| {
                        let recording = Cow::Borrowed(&named.recording);
                        cpu_front_end.features(recording, &named.name, Parallelism::No)
                    };
                    batch.par_iter().map(extract).collect()
                }
            };
        let (cpu_front_end, speech) = (&self.cpu_front_end, &mut self.speech);
        let features = features.into_iter().zip(batch).map(|(features, named)| {
            let mut features = features?;
            let is_speech = speech.check(&features, &named.recording.defects, &named.name)?;
            if let (Some(profile), Some(scale)) = (&named.profile, cpu_front_end.speaker()) {
                features.adapt(profile, scale);
            }
            Ok(SpeechFeatures {
                features,
                is_speech,
            })
        });
        let features: Vec<Result<SpeechFeatures, RecognizeError>> = features.collect();
        let usable = features.iter().flatten();
        let inputs = usable.flat_map(|recording| {
            let inputs = recording.features.network_inputs().into_iter();
            let segments = inputs.zip(&recording.is_speech);
            segments.filter_map(|(inputs, is_speech)| is_speech.then_some(inputs))
        });
        let inputs: Vec<NetworkInputs> = inputs.collect();
        let pending = self.inputs.start(&mut self.networks, &inputs, dropout)?;
        Ok(State::FeaturesOnHost(features, pending))
    }

    /// Processes a batch that exceeds the device's memory: in halves, down to single recordings. A
    /// recording's outcome is the same as in a smaller batch.
    fn process_in_parts(
        &mut self,
        mut batch: Vec<NamedRecording>,
        dropout: &DropoutMode,
    ) -> BatchOutcome {
        self.release();
        if batch.len() == 1 {
            return self.process_undivided(batch, dropout);
        }
        let second = batch.split_off(batch.len() / 2);
        let mut outcomes = Vec::new();
        for part in [batch, second] {
            self.submit(part, dropout, |_| unreachable!("no batch is in flight"));
            if let Some(part) = self.finish() {
                outcomes.extend(part?);
            }
        }
        Ok(outcomes)
    }

    /// Processes a single recording with all of the device's memory. The CPU extracts the features if the
    /// front end does not fit.
    fn process_undivided(
        &mut self,
        batch: Vec<NamedRecording>,
        dropout: &DropoutMode,
    ) -> BatchOutcome {
        let output = self.start_front_end(&batch);
        let mut started =
            output.and_then(|output| self.start_networks(Some(output), &batch, dropout));
        if started.as_ref().is_err_and(is_out_of_memory) {
            self.release();
            started = self.start_networks(None, &batch, dropout);
        }
        let recordings = without_samples(batch);
        match started {
            Err(error) if is_out_of_memory(&error) => {
                let failed = |r: PendingRecording| Err(RecognizeError::device(&r.name, &error));
                Ok(recordings.into_iter().map(failed).collect())
            }
            started => self.outcomes(recordings, started?, dropout),
        }
    }

    fn outputs(
        &self,
        pending: Option<PendingOutputs>,
    ) -> Result<Vec<NetworkOutputs>, CudaRunError> {
        match pending {
            None => Ok(Vec::new()),
            Some(pending) => self.networks.finish(pending),
        }
    }

    /// Waits for the networks' outputs and makes the predictions.
    fn outcomes(
        &self,
        recordings: Vec<PendingRecording>,
        state: State,
        dropout: &DropoutMode,
    ) -> BatchOutcome {
        let dropout = match self.networks.is_stochastic() {
            true => dropout,
            false => &DropoutMode::Off,
        };
        let predict = |recording: &PendingRecording, analysis: Analysis<'_>, outputs| {
            let PendingRecording { info, name } = recording;
            self.cpu_front_end
                .prediction(info, name, analysis, outputs, dropout)
        };
        match (state, &self.front_end) {
            (State::Finished(outcomes), _) => Ok(outcomes),
            (State::FeaturesOnDevice(voiced, pending), DeviceFrontEnd::Legacy2020(front_end)) => {
                let outputs = self.outputs(pending)?.into_iter();
                let mut outputs: Vec<Option<NetworkOutputs>> = outputs.map(Some).collect();
                let features = front_end.recording_features(&voiced)?;
                let outcomes = recordings
                    .iter()
                    .zip(features)
                    .map(|(recording, features)| {
                        let features = features.map_err(recording_error(&recording.name))?;
                        let own = outputs[features.location.row].take();
                        let own = own.expect("every recording has its own row");
                        let part = legacy2020::AnalysedPart::of_device(features, &recording.info);
                        predict(recording, Analysis::Legacy2020(&part), vec![Some(own)])
                    });
                Ok(outcomes.collect())
            }
            (State::FeaturesOnDevice(..), _) => unreachable!("the state of this front end"),
            (State::FeaturesOnHost(features, pending), _) => {
                let mut outputs = self.outputs(pending)?.into_iter();
                let outcomes = recordings
                    .iter()
                    .zip(features)
                    .map(|(recording, features)| {
                        let SpeechFeatures {
                            features,
                            is_speech,
                        } = features?;
                        let of_segment = |is_speech: bool| {
                            let own = is_speech.then(|| outputs.next());
                            own.map(|own| own.expect("every segment of speech has outputs"))
                        };
                        let own = is_speech.into_iter().map(of_segment).collect();
                        predict(recording, features.analysis(), own)
                    });
                Ok(outcomes.collect())
            }
        }
    }
}

/// Returns the conversion of a front end's error for the recording `name`.
fn recording_error(name: &str) -> impl FnOnce(FrontEndError) -> RecognizeError {
    move |error| match error {
        FrontEndError::Audio(error) => RecognizeError::audio(name)(error),
        FrontEndError::Features(error) => RecognizeError::features(name)(error),
    }
}

fn without_samples(batch: Vec<NamedRecording>) -> Vec<PendingRecording> {
    let pending = |named: NamedRecording| PendingRecording {
        info: RecordingInfo::of(&named.recording),
        name: named.name,
    };
    batch.into_iter().map(pending).collect()
}

fn utterance_pipeline(cpu_front_end: &front_end::FrontEnd) -> &utterance::Pipeline {
    let pipeline = cpu_front_end.utterance();
    pipeline.expect("both front ends are of the same model")
}

/// Returns true if a smaller batch, or more free memory, may avoid the error.
fn is_out_of_memory(error: &CudaRunError) -> bool {
    matches!(
        error,
        CudaRunError::Device(DeviceError::Memory { .. })
            | CudaRunError::Run(RunError::TooLarge { .. })
    )
}

/// Computes the features on the device and starts the networks on them; `None` if no recording has voice.
fn start_on_device(
    front_end: &mut Legacy2020FrontEnd,
    voiced: &VoicedBatch,
    networks: &mut Networks,
    dropout: &DropoutMode,
) -> Result<Option<PendingOutputs>, CudaRunError> {
    let inputs = front_end.compute_features(voiced)?;
    if inputs.rows == 0 {
        return Ok(None);
    }
    let inputs = DeviceInputs {
        windows: Source::Device(inputs.window_rows()),
        first_windows: inputs.first_windows.clone(),
        whole: inputs.branch_rows().map(Source::Device).into(),
        descriptors: None,
    };
    Ok(Some(networks.start(&inputs, dropout)?))
}
