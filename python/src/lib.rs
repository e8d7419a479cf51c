//! Native part of the Python package: thin functions over the Rust library. Answers cross the border as the
//! JSON lines that `infer --format jsonl` prints; `maeum/*.py` gives them their Python form.

mod answers;

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::{
    Array as _, ArrayRef, Float64Array, LargeStringArray, RecordBatch, RecordBatchIterator,
};
use arrow_schema::{Field, Schema};
use maeum::app::batch::{Batch, Threads};
use maeum::app::eval::Evaluator;
use maeum::app::manifest::Manifest;
use maeum::atomic_file::replaces;
use maeum::audio::decode;
use maeum::model::{bundle, from_keras};
use maeum::nn::npz::Array;
use maeum::nn::run::{ArraysError, NamedArrays};
use maeum::nn::{DropoutMode, Graph, run};
use maeum::programs;
use maeum::recognizer::{Options, ProfileBuilder, SpeakerProfile};
use maeum::{Answer, ErrorKind, Recognizer, Recording};
use numpy::{PyArray1, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn};
use pyo3::create_exception;
use pyo3::exceptions::{PyFileNotFoundError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyCapsule, PyDict};

use answers::AnswerColumn;

create_exception!(
    maeum,
    RecognitionError,
    PyValueError,
    "A recording, model or profile cannot be used. The message names it and a remedy; `code` is the category."
);

/// Name of an error's category, as in the JSON records where both exist.
fn code(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Unreadable => "unreadable",
        ErrorKind::UnusableAudio => "unusable_audio",
        ErrorKind::NoSpeech => "no_speech",
        ErrorKind::Model => "model",
        ErrorKind::Profile => "profile",
        ErrorKind::Input => "input",
        _ => "internal",
    }
}

fn recognition_error(py: Python<'_>, code: &str, message: String) -> PyErr {
    let error = RecognitionError::new_err(message);
    match error.value(py).setattr("code", code) {
        Ok(()) => error,
        Err(failure) => failure,
    }
}

/// The Python exception of a Rust error: FileNotFoundError for a missing file, RecognitionError otherwise.
fn exception(error: maeum::Error) -> PyErr {
    let message = error.to_string();
    exception_with(error, message)
}

/// [`exception`] whose message names the recording.
fn exception_of(error: maeum::Error, name: &str) -> PyErr {
    let message = named(&error, name);
    exception_with(error, message)
}

fn exception_with(error: maeum::Error, message: String) -> PyErr {
    let missing = |error: &(dyn std::error::Error + 'static)| {
        let decode = error.downcast_ref::<decode::DecodeError>();
        decode.is_some_and(|e| matches!(e.fault, maeum::audio::Fault::Missing))
    };
    match missing(error.get_ref()) {
        true => PyFileNotFoundError::new_err(message),
        false => Python::attach(|py| recognition_error(py, code(error.kind()), message)),
    }
}

fn input_error(error: &dyn std::fmt::Display) -> PyErr {
    Python::attach(|py| recognition_error(py, "input", error.to_string()))
}

fn missing_file(path: &std::path::Path) -> PyErr {
    PyFileNotFoundError::new_err(format!("{}: no such file", path.display()))
}

fn value_error(error: impl std::fmt::Display) -> PyErr {
    Python::attach(|py| recognition_error(py, "model", error.to_string()))
}

/// Outcome for one recording of many: the JSON line, or code and message of the failure.
type Outcome = (Option<String>, Option<(String, String)>);

fn outcome(result: Result<String, maeum::Error>, name: &str) -> Outcome {
    match result {
        Ok(line) => (Some(line), None),
        Err(error) => (None, Some(failure(&error, name))),
    }
}

/// Code and message of a failure.
fn failure(error: &maeum::Error, name: &str) -> (String, String) {
    (code(error.kind()).into(), named(error, name))
}

/// Message of an error, which begins with the name of the recording.
fn named(error: &maeum::Error, name: &str) -> String {
    let message = error.to_string();
    match message.contains(name) {
        true => message,
        false => format!("{name}: {message}"),
    }
}

/// Audio file in memory, or code and message of the failure to get it.
#[derive(FromPyObject)]
enum Source {
    Bytes(PyBackedBytes),
    Failure((String, String)),
}

/// One recording of a batch: file, and start and end in seconds.
type Part = (PathBuf, Option<f64>, Option<f64>);

/// Speaker profile: statistics of one speaker's recordings.
#[pyclass(frozen, name = "SpeakerProfile", module = "maeum")]
struct PyProfile(SpeakerProfile);

#[pymethods]
impl PyProfile {
    /// Reads the JSON text of a profile.
    #[staticmethod]
    fn from_json(text: &str) -> PyResult<Self> {
        SpeakerProfile::from_json(text)
            .map(Self)
            .map_err(|e| exception(e.into()))
    }

    /// Returns the profile as JSON text.
    fn to_json(&self) -> String {
        self.0.to_json()
    }

    /// Number of recordings in the profile.
    #[getter]
    fn recordings(&self) -> u32 {
        self.0.speaker().recordings
    }

    /// Seconds of speech in the profile.
    #[getter]
    fn seconds(&self) -> f64 {
        self.0.speaker().seconds
    }

    fn __reduce__(slf: &Bound<'_, Self>) -> PyResult<(Py<PyAny>, (String,))> {
        let make = slf.get_type().getattr("from_json")?.unbind();
        Ok((make, (slf.get().to_json(),)))
    }

    fn __eq__(&self, other: PyRef<'_, Self>) -> bool {
        self.0 == other.0
    }

    fn __repr__(&self) -> String {
        let speaker = self.0.speaker();
        format!(
            "SpeakerProfile(recordings={}, seconds={:.1})",
            speaker.recordings, speaker.seconds
        )
    }
}

/// Recogniser that Python objects share between threads.
#[pyclass(frozen)]
struct Engine(Arc<Recognizer>);

impl Engine {
    fn answer(
        &self,
        recording: &Recording,
        name: &str,
        profile: Option<&SpeakerProfile>,
    ) -> Result<Answer, maeum::Error> {
        let options = Options {
            dropout: self.0.dropout(),
            profile,
        };
        self.0.recognize_with(recording, name, options)
    }

    /// Computes the column of many answers on the calling thread, without the interpreter lock.
    fn column<T: Sync>(
        &self,
        py: Python<'_>,
        items: &[T],
        answer: impl Fn(&T) -> answers::Row + Sync,
    ) -> PyResult<AnswerColumn> {
        let column = py.detach(|| {
            let rows: Vec<answers::Row> = items.iter().map(&answer).collect();
            answers::column(&rows, self.0.info(), self.0.model().identity())
        });
        column.map(AnswerColumn).map_err(|e| input_error(&e))
    }

    fn line(
        &self,
        recording: &Recording,
        name: &str,
        profile: Option<&SpeakerProfile>,
    ) -> Result<String, maeum::Error> {
        Ok(self.answer(recording, name, profile)?.to_json())
    }

    fn file(
        &self,
        (path, start, end): &Part,
        profile: Option<&SpeakerProfile>,
    ) -> Result<String, maeum::Error> {
        let recording = Recording::open(path)?;
        let recording = cut(recording, *start, *end)?;
        self.line(&recording, &path.display().to_string(), profile)
    }
}

/// The part of a recording from `start` to `end` in seconds.
fn cut(
    recording: Recording,
    start: Option<f64>,
    end: Option<f64>,
) -> Result<Recording, maeum::Error> {
    if start.is_none() && end.is_none() {
        return Ok(recording);
    }
    recording.excerpt(start.unwrap_or(0.0), end.unwrap_or(f64::INFINITY))
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (model, draws, seed, threads))]
    fn new(
        py: Python<'_>,
        model: Option<PathBuf>,
        draws: u32,
        seed: u64,
        threads: Option<usize>,
    ) -> PyResult<Self> {
        let dropout = match draws {
            0 => DropoutMode::Off,
            draws => DropoutMode::draws(draws, seed),
        };
        let mut builder = Recognizer::builder().dropout(dropout);
        if let Some(model) = model {
            if !model.exists() {
                let message = format!("{}: no such model", model.display());
                return Err(PyFileNotFoundError::new_err(message));
            }
            builder = builder.model(model);
        }
        if let Some(threads) = threads {
            builder = builder.threads(threads);
        }
        let recognizer = py.detach(|| builder.build()).map_err(exception)?;
        Ok(Self(Arc::new(recognizer)))
    }

    /// Recognises a file, or the part of it between `start` and `end` seconds; returns a JSON line.
    #[pyo3(signature = (file, start=None, end=None, profile=None))]
    fn process_file(
        &self,
        py: Python<'_>,
        file: PathBuf,
        start: Option<f64>,
        end: Option<f64>,
        profile: Option<PyRef<'_, PyProfile>>,
    ) -> PyResult<String> {
        let profile = profile.as_ref().map(|p| p.0.clone());
        let name = file.display().to_string();
        py.detach(|| self.file(&(file, start, end), profile.as_ref()))
            .map_err(|e| exception_of(e, &name))
    }

    /// Recognises an audio file in memory; returns a JSON line.
    #[pyo3(signature = (data, name, profile=None))]
    fn process_bytes(
        &self,
        py: Python<'_>,
        data: &[u8],
        name: &str,
        profile: Option<PyRef<'_, PyProfile>>,
    ) -> PyResult<String> {
        let profile = profile.as_ref().map(|p| p.0.clone());
        let data = data.to_vec();
        py.detach(|| {
            let recording = Recording::from_bytes(&data, name)?;
            self.line(&recording, name, profile.as_ref())
        })
        .map_err(|e| exception_of(e, name))
    }

    /// Recognises interleaved samples; returns a JSON line.
    #[pyo3(signature = (samples, channels, sampling_rate, name, profile=None))]
    fn process_samples(
        &self,
        py: Python<'_>,
        samples: &Bound<'_, PyArray1<f32>>,
        channels: u32,
        sampling_rate: u32,
        name: &str,
        profile: Option<PyRef<'_, PyProfile>>,
    ) -> PyResult<String> {
        let profile = profile.as_ref().map(|p| p.0.clone());
        let samples = samples.readonly().as_slice()?.to_vec();
        py.detach(|| {
            let recording = Recording::from_interleaved(samples, channels, sampling_rate)?;
            self.line(&recording, name, profile.as_ref())
        })
        .map_err(|e| exception_of(e, name))
    }

    /// Recognises parts of files in parallel and in order. `progress` is called with the number of finished
    /// recordings; an exception in it, or Ctrl-C, stops the batch.
    #[pyo3(signature = (parts, progress=None, profile=None))]
    fn process_many(
        &self,
        py: Python<'_>,
        parts: Vec<Part>,
        progress: Option<Py<PyAny>>,
        profile: Option<PyRef<'_, PyProfile>>,
    ) -> PyResult<Vec<Outcome>> {
        let profile = profile.as_ref().map(|p| p.0.clone());
        let total = parts.len();
        py.detach(|| {
            let mut outcomes = Vec::with_capacity(total);
            let all = self.0.map_in_order(parts.into_iter(), |part| {
                let result = self.file(&part, profile.as_ref());
                outcome(result, &part.0.display().to_string())
            });
            for one in all {
                outcomes.push(one);
                Python::attach(|py| {
                    py.check_signals()?;
                    match &progress {
                        Some(progress) => progress.call1(py, (outcomes.len(),)).map(|_| ()),
                        None => Ok(()),
                    }
                })?;
            }
            Ok(outcomes)
        })
    }

    /// Recognises audio files in memory on the calling thread; returns a struct column. A failure is a row.
    fn answers_of_bytes(
        &self,
        py: Python<'_>,
        data: Vec<Source>,
        names: Vec<String>,
    ) -> PyResult<AnswerColumn> {
        if data.len() != names.len() {
            let message = format!("{} recordings have {} names", data.len(), names.len());
            return Err(PyValueError::new_err(message));
        }
        let items: Vec<_> = data.iter().zip(&names).collect();
        self.column(py, &items, |&(data, name)| match data {
            Source::Failure(failure) => Err(failure.clone()),
            Source::Bytes(data) => Recording::from_bytes(data, name)
                .and_then(|recording| self.answer(&recording, name, None))
                .map_err(|error| failure(&error, name)),
        })
    }

    /// Reads and recognises files on the calling thread; returns a struct column. A failure is a row.
    fn answers_of_files(
        &self,
        py: Python<'_>,
        files: Vec<Option<PathBuf>>,
    ) -> PyResult<AnswerColumn> {
        self.column(py, &files, |file| {
            let Some(file) = file else {
                return Err(("unreadable".into(), "recording: there is no path".into()));
            };
            let name = file.display().to_string();
            Recording::open(file)
                .and_then(|recording| self.answer(&recording, &name, None))
                .map_err(|error| failure(&error, &name))
        })
    }

    /// Makes a profile of one speaker from files.
    fn enroll(&self, py: Python<'_>, files: Vec<PathBuf>) -> PyResult<PyProfile> {
        py.detach(|| {
            let mut builder = ProfileBuilder::default();
            let mut worker = self.0.worker();
            for file in &files {
                let recording = Recording::open(file)?;
                let name = file.display().to_string();
                let features = self.0.front_end().extract(recording, &name)?;
                worker.add_to_profile(&mut builder, &features, &name)?;
            }
            Ok(PyProfile(self.0.profile(&builder)?))
        })
        .map_err(exception)
    }

    /// Measures the model on the recordings of a manifest; returns the JSON document and the tables.
    #[pyo3(signature = (manifest, split=None))]
    fn evaluate(
        &self,
        py: Python<'_>,
        manifest: PathBuf,
        split: Option<&str>,
    ) -> PyResult<(String, String)> {
        if !manifest.exists() {
            return Err(missing_file(&manifest));
        }
        py.detach(|| {
            let (recognizer, input) = (&*self.0, |e: &dyn std::fmt::Display| input_error(e));
            let info = recognizer.info();
            let mut manifest =
                Manifest::read(&manifest, &Manifest::EVALUATION).map_err(|e| input(&e))?;
            if let Some(split) = split {
                manifest.keep_split(split).map_err(|e| input(&e))?;
            }
            manifest.check_labels(info).map_err(|e| input(&e))?;
            let threads = Threads::new(recognizer.num_threads()).map_err(|e| input(&e))?;
            let batch = Batch::on(threads, recognizer, recognizer.dropout().clone());
            let mut evaluator = Evaluator::new(&manifest, info);
            batch.run(&manifest.inputs(), |_, outcome| {
                evaluator.add(&outcome);
                Python::attach(|py| py.check_signals())
            })?;
            let evaluation = evaluator.finish(split, info, recognizer.model().identity());
            Ok((evaluation.json(), evaluation.text()))
        })
    }

    /// Checks that a profile was made with this model.
    fn check_profile(&self, profile: &PyProfile) -> PyResult<()> {
        let checked = self.0.check_profile(&profile.0);
        checked.map_err(|e| exception(e.into()))
    }

    /// Emotion labels in the model's order.
    #[getter]
    fn emotions(&self) -> Vec<String> {
        self.0.info().emotions.clone()
    }

    /// Gender labels in the model's order.
    #[getter]
    fn genders(&self) -> Vec<String> {
        self.0.info().genders.clone()
    }

    /// Name of the model.
    #[getter]
    fn model_name(&self) -> String {
        self.0.info().name.clone()
    }

    /// SHA-256 of the model's bundle.
    #[getter]
    fn model_identity(&self) -> String {
        self.0.model().identity().into()
    }

    /// Licences of the model's results: estimates, SPDX identifier, terms.
    #[getter]
    fn licences(&self) -> Vec<(Vec<String>, String, String)> {
        let licences = self.0.info().licences.iter();
        licences
            .map(|l| (l.estimates.clone(), l.licence.clone(), l.terms.clone()))
            .collect()
    }

    /// Number of threads of a batch.
    #[getter]
    fn num_workers(&self) -> usize {
        self.0.num_threads()
    }
}

/// Network that runs on named arrays.
#[pyclass(frozen)]
struct Network(Graph);

/// Name and shape of an input; `None` is an open dimension.
type Port = (String, Vec<Option<usize>>);

#[pymethods]
impl Network {
    /// Loads a Keras `.h5` file, or a network of a bundle by its role.
    #[new]
    #[pyo3(signature = (file, role=None))]
    fn new(py: Python<'_>, file: PathBuf, role: Option<&str>) -> PyResult<Self> {
        if !file.exists() {
            return Err(PyFileNotFoundError::new_err(format!(
                "{}: no such file",
                file.display()
            )));
        }
        let is_h5 = file
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("h5") || e.eq_ignore_ascii_case("hdf5"));
        if is_h5 {
            if let Some(role) = role {
                return Err(value_error(format!(
                    "{}: a Keras file holds one network and no roles; leave out the role {role:?}",
                    file.display()
                )));
            }
            let loaded = py.detach(|| maeum::keras::load(&file));
            return loaded.map(|model| Self(model.graph)).map_err(value_error);
        }
        let model = py.detach(|| bundle::load(&file)).map_err(value_error)?;
        let names = || {
            model
                .networks()
                .iter()
                .map(|n| n.role.name())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let found = match role {
            None if model.networks().len() == 1 => model.networks().first(),
            None => None,
            Some(role) => model.networks().iter().find(|n| n.role.name() == role),
        };
        let network = found.ok_or_else(|| {
            value_error(format!(
                "{}: give one of the roles {}",
                file.display(),
                names()
            ))
        })?;
        Ok(Self(network.graph.clone()))
    }

    /// Names and shapes of the inputs without the batch; `None` is an open dimension.
    #[getter]
    fn inputs(&self) -> Vec<Port> {
        let inputs = self.0.inputs.iter();
        inputs.map(|i| (i.name.clone(), i.shape.clone())).collect()
    }

    /// Names of the outputs.
    #[getter]
    fn outputs(&self) -> Vec<String> {
        self.0.outputs.iter().map(|o| o.name.clone()).collect()
    }

    /// Runs the network; the first dimension of every array is the batch. `draws` of 0 turns forced dropout
    /// off.
    fn run<'py>(
        &self,
        py: Python<'py>,
        arrays: GivenArrays<'py>,
        draws: u32,
        seed: u64,
    ) -> PyResult<Bound<'py, PyDict>> {
        let arrays = owned(arrays);
        let dropout = match draws {
            0 => DropoutMode::Off,
            draws => DropoutMode::draws(draws, seed),
        };
        let outputs = py.detach(|| {
            let named: Vec<(&str, Array)> = arrays.iter().map(|(n, a)| (&**n, a.clone())).collect();
            run::run_arrays(&self.0, &named, &dropout)
        });
        dictionary(py, outputs.map_err(|e| exception(e.into()))?)
    }

    /// Runs the network from the states of an earlier run, or from zeros; returns the outputs and the new states.
    fn run_with_states<'py>(
        &self,
        py: Python<'py>,
        arrays: GivenArrays<'py>,
        states: Option<GivenArrays<'py>>,
    ) -> PyResult<(Bound<'py, PyDict>, Bound<'py, PyDict>)> {
        let arrays: HashMap<String, Array> = owned(arrays).into_iter().collect();
        let states = states.map(owned);
        let result = py.detach(|| {
            let names: Vec<&str> = arrays.keys().map(|name| &**name).collect();
            // Only the listed names are read.
            let read = |name: &str| Ok::<_, ArraysError>(arrays[name].clone());
            run::run_with_states(&self.0, &names, read, states)
        });
        let (outputs, states) = result.map_err(|e| exception(e.into()))?;
        Ok((dictionary(py, outputs)?, dictionary(py, states)?))
    }
}

/// Named arrays as Python gives them.
type GivenArrays<'py> = Vec<(String, PyReadonlyArrayDyn<'py, f32>)>;

fn owned(arrays: GivenArrays) -> NamedArrays {
    let own = |(name, array): (String, PyReadonlyArrayDyn<f32>)| {
        let shape = array.as_array().shape().to_vec();
        let data = array.as_array().iter().copied().collect();
        (name, Array { shape, data })
    };
    arrays.into_iter().map(own).collect()
}

fn dictionary(py: Python<'_>, arrays: NamedArrays) -> PyResult<Bound<'_, PyDict>> {
    let result = PyDict::new(py);
    for (name, array) in arrays {
        let flat = PyArray1::from_vec(py, array.data);
        let shaped: Bound<'_, PyArrayDyn<f32>> = flat.reshape(array.shape)?;
        result.set_item(name, shaped)?;
    }
    Ok(result)
}

/// Converts Keras files: the folder of a speech model's five files, or one `.h5` file.
#[pyfunction]
fn convert(py: Python<'_>, source: PathBuf, output: PathBuf) -> PyResult<String> {
    if !source.exists() {
        return Err(missing_file(&source));
    }
    py.detach(|| {
        let mut files = from_keras::SpeechFiles::default();
        if source.is_dir() {
            files.add_folder(&source).map_err(|e| exception(e.into()))?;
        }
        let mut inputs = files.paths().chain([&*source]);
        if let Some(input) = inputs.find(|path| replaces(&output)(path)) {
            let input = input.display();
            let problem = format!("{input}: the output would replace this input; name another");
            return Err(input_error(&problem));
        }
        let convert = || {
            let model = match source.is_dir() {
                true => files.convert(&source.display().to_string())?,
                false => from_keras::convert_network(&source)?,
            };
            bundle::save(&model, &output)?;
            let stored = bundle::load(&output)?;
            stored.self_test()?;
            Ok::<_, maeum::Error>(stored.identity().to_owned())
        };
        convert().map_err(exception)
    })
}

/// Runs one of the programs of the Rust library; `arguments` begin with its name in the description of its
/// usage. Returns its exit code, or `None` if there is no such program.
///
/// To be called once, as all that a process does: the program installs its own handlers of signals.
#[pyfunction]
fn run_program(py: Python<'_>, program: &str, arguments: Vec<OsString>) -> Option<u8> {
    py.detach(|| match program {
        "infer" => Some(programs::infer::main(arguments)),
        "convert" => Some(programs::convert::main(arguments)),
        "serve" => Some(programs::serve::main(arguments)),
        _ => None,
    })
}

/// Column of a table: name, whether it holds text, and values, `None` where there is none.
type Column<'py> = (String, bool, Bound<'py, PyAny>);

/// Makes a stream of the Arrow C interface with one batch, as a capsule; numbers have type `f64`.
#[pyfunction]
fn arrow_stream<'py>(
    py: Python<'py>,
    columns: Vec<Column<'py>>,
) -> PyResult<Bound<'py, PyCapsule>> {
    let (mut fields, mut arrays) = (Vec::new(), Vec::<ArrayRef>::new());
    for (name, is_text, values) in columns {
        let array: ArrayRef = match is_text {
            true => Arc::new(LargeStringArray::from(
                values.extract::<Vec<Option<String>>>()?,
            )),
            false => Arc::new(Float64Array::from(values.extract::<Vec<Option<f64>>>()?)),
        };
        fields.push(Field::new(name, array.data_type().clone(), true));
        arrays.push(array);
    }
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).map_err(|e| input_error(&e))?;
    let reader = RecordBatchIterator::new([Ok(batch)], schema);
    let stream = FFI_ArrowArrayStream::new(Box::new(reader));
    // The name is that of the interface; its consumers check it.
    PyCapsule::new_with_value(py, stream, c"arrow_array_stream")
}

/// Card of the built-in model, as Markdown.
#[pyfunction]
fn model_card() -> &'static str {
    maeum::default_model::CARD
}

/// Endings of the names of supported audio files.
#[pyfunction]
fn audio_endings() -> Vec<&'static str> {
    maeum::audio::file_formats::endings().collect()
}

#[pymodule]
fn _maeum(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add(
        "RecognitionError",
        module.py().get_type::<RecognitionError>(),
    )?;
    module.add("ANSWER_SCHEMA", answers::SCHEMA)?;
    module.add_class::<Engine>()?;
    module.add_class::<AnswerColumn>()?;
    module.add_class::<PyProfile>()?;
    module.add_class::<Network>()?;
    module.add_function(wrap_pyfunction!(convert, module)?)?;
    module.add_function(wrap_pyfunction!(run_program, module)?)?;
    module.add_function(wrap_pyfunction!(arrow_stream, module)?)?;
    module.add_function(wrap_pyfunction!(model_card, module)?)?;
    module.add_function(wrap_pyfunction!(audio_endings, module)?)?;
    Ok(())
}
