//! Network inputs as NumPy arrays, the training data of the networks.
//!
//! A row is a recording, or a segment if the front end divides recordings. A file holds
//! `paths_utf8` (the recording of each row, UTF-8 lines), each array of fixed size with one entry
//! per row, and the front end's sequence: the steps of all rows concatenated, with the number of
//! steps per row in `lengths`.

use std::borrow::Cow;
use std::path::Path;

use super::batch::{self, BatchError};
use super::inputs::Input;
use crate::audio::{Recording, Resampling};
use crate::formats::printable;
use crate::front_end::N_MELS;
use crate::front_end::legacy2020::{
    COEFFICIENTS, FeatureExtractor, HISTOGRAM_BINS, MOMENTS, WINDOW_FRAMES,
};
use crate::front_end::utterance::{FRAME_VALUES, STATS, UtteranceExtractor};
use crate::nn::npz::{NpzError, Writer};
use crate::parallelism::Parallelism;
use crate::recognizer::{legacy2020, utterance};

/// Error when no file is written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DumpError {
    /// The output cannot be written.
    #[error(transparent)]
    Write(#[from] NpzError),
    /// The threads cannot be started.
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error("none of the recordings gives features; {0} is not written")]
    /// None of the recordings has features; the path of the output.
    Nothing(String),
}

/// Name and shape of an array per row, or of one step of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Array {
    /// Name in the file.
    pub name: &'static str,
    /// Shape without the leading number of rows or steps.
    pub shape: &'static [usize],
}

/// Network inputs of one recording or segment.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RowFeatures {
    /// Arrays in the order of [`FeatureSource::fixed`].
    pub fixed: Vec<Vec<f32>>,
    /// Steps of [`FeatureSource::sequence`], concatenated.
    pub sequence: Vec<f32>,
}

/// Front end whose network inputs can be dumped.
pub trait FeatureSource: Sync {
    /// Returns the arrays of fixed size.
    fn fixed(&self) -> &'static [Array];

    /// Returns the array whose number of steps depends on the recording.
    fn sequence(&self) -> Array;

    /// Computes the rows of one recording.
    ///
    /// # Errors
    /// The reason why the recording has no features.
    fn compute(&self, recording: &Recording) -> Result<Vec<RowFeatures>, String>;
}

/// Front end of the 2020 system: resampling, Wiener filter and voice activity detection.
///
/// Arrays are the mel windows (`windows`) and the feature network's inputs (`dct`, `dst`,
/// `histogram`, `moments`).
#[derive(Debug, Default)]
pub struct Legacy2020 {
    extractor: FeatureExtractor,
    resampling: Resampling,
}

impl Legacy2020 {
    /// Creates a front end with the model's resampling to 16 kHz.
    pub fn new(resampling: Resampling) -> Self {
        Self {
            resampling,
            ..Self::default()
        }
    }
}

impl FeatureSource for Legacy2020 {
    fn fixed(&self) -> &'static [Array] {
        const SHAPES: [Array; 4] = [
            Array {
                name: "dct",
                shape: &[N_MELS, COEFFICIENTS],
            },
            Array {
                name: "dst",
                shape: &[N_MELS, COEFFICIENTS],
            },
            Array {
                name: "histogram",
                shape: &[N_MELS, HISTOGRAM_BINS],
            },
            Array {
                name: "moments",
                shape: &[N_MELS, MOMENTS],
            },
        ];
        &SHAPES
    }

    fn sequence(&self) -> Array {
        Array {
            name: "windows",
            shape: &[WINDOW_FRAMES, N_MELS],
        }
    }

    fn compute(&self, recording: &Recording) -> Result<Vec<RowFeatures>, String> {
        let prepared =
            legacy2020::prepare(Cow::Borrowed(recording), self.resampling, Parallelism::No);
        let prepared = prepared.map_err(|e| e.to_string())?;
        let features = self.extractor.extract(&prepared.signal);
        let features = features.map_err(|e| e.to_string())?;
        Ok(vec![RowFeatures {
            fixed: features.branch_inputs().map(|b| b.data).into(),
            sequence: features.windows.data(),
        }])
    }
}

/// Front end of the default networks: one resampling step, then descriptors (`stats`) and per-frame
/// values (`frames`) of each stretch of speech.
#[derive(Debug, Default)]
pub struct Utterance {
    extractor: UtteranceExtractor,
    resampling: Resampling,
}

impl Utterance {
    /// Creates a front end with the model's resampling to 16 kHz.
    pub fn new(resampling: Resampling) -> Self {
        Self {
            resampling,
            ..Self::default()
        }
    }
}

impl FeatureSource for Utterance {
    fn fixed(&self) -> &'static [Array] {
        const SHAPES: [Array; 1] = [Array {
            name: "stats",
            shape: &[STATS],
        }];
        &SHAPES
    }

    fn sequence(&self) -> Array {
        Array {
            name: "frames",
            shape: &[FRAME_VALUES],
        }
    }

    fn compute(&self, recording: &Recording) -> Result<Vec<RowFeatures>, String> {
        let signal = utterance::signal(Cow::Borrowed(recording), self.resampling, Parallelism::No);
        let segments = self.extractor.analyse_segments(signal);
        let segments = segments.map_err(|e| e.to_string())?.segments;
        let computed = segments.into_iter().map(|utterance| RowFeatures {
            fixed: vec![utterance.stats],
            sequence: utterance.frames,
        });
        Ok(computed.collect())
    }
}

/// Computes the features of `inputs` in parallel and writes them to `path` in input order.
///
/// `each` is called for every recording. An error means that the recording is left out. Memory
/// grows with the size of the file, which is about the size of the recordings.
///
/// # Errors
/// When the file cannot be written or no recording has features.
pub fn dump(
    front_end: &dyn FeatureSource,
    inputs: &[Input],
    threads: usize,
    path: &Path,
    mut each: impl FnMut(Result<(), &str>),
) -> Result<(), DumpError> {
    let mut writer = Writer::create(path)?;
    let pool = batch::pool(threads)?;
    let fixed = front_end.fixed();
    let sequence = front_end.sequence();
    let row: usize = sequence.shape.iter().product();
    let mut names = Vec::new();
    let mut lengths: Vec<i64> = Vec::new();
    let mut columns: Vec<Vec<f32>> = vec![Vec::new(); fixed.len()];
    let mut rows: Vec<f32> = Vec::new();
    let compute = |_: &mut (), _: usize, input: &Input, _: &mut batch::Permit<'_>| {
        let recording = input.read().map_err(|e| e.to_string())?;
        let computed = front_end.compute(&recording);
        computed.map_err(|e| format!("{}: {e}", input.subject()))
    };
    batch::in_order(
        &pool,
        inputs,
        || (),
        compute,
        |input, computed| {
            match computed {
                Err(message) => each(Err(&message)),
                Ok(computed) => {
                    for computed in computed {
                        names.push(printable(&input.name));
                        lengths.push((computed.sequence.len() / row) as i64);
                        rows.extend_from_slice(&computed.sequence);
                        for (column, values) in columns.iter_mut().zip(&computed.fixed) {
                            column.extend_from_slice(values);
                        }
                    }
                    each(Ok(()));
                }
            }
            Ok::<(), DumpError>(())
        },
    )?;
    if names.is_empty() {
        return Err(DumpError::Nothing(path.display().to_string()));
    }
    let with_rows = |n: usize, shape: &[usize]| [&[n], shape].concat();
    let text = names.join("\n").into_bytes();
    writer.add("paths_utf8", &[text.len()], &text)?;
    writer.add("lengths", &[names.len()], &lengths)?;
    for (array, column) in fixed.iter().zip(&columns) {
        writer.add(array.name, &with_rows(names.len(), array.shape), column)?;
    }
    let shape = with_rows(rows.len() / row, sequence.shape);
    writer.add(sequence.name, &shape, &rows)?;
    Ok(writer.finish()?)
}
