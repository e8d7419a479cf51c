//! What the networks are fed, written as NumPy arrays, so that networks are trained on exactly what
//! they are given later.
//!
//! A row is a recording, or a stretch of speech where the front end divides recordings into segments.
//! Each file holds `paths_utf8` (the name of each row's recording as UTF-8, one per line), the rows of
//! each array of fixed size, and the front end's sequence: the values of all rows one after the
//! other, with the length of each row in `lengths`.

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

/// Why nothing is written.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The output cannot be written.
    #[error(transparent)]
    Write(#[from] NpzError),
    /// No threads.
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error("none of the recordings gives features; {0} is not written")]
    /// The path of an output in which nothing would be.
    Nothing(String),
}

/// One array: its name and its shape for one recording or segment, or for one step of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Array {
    /// In the file.
    pub name: &'static str,
    /// Of one recording or row, without their number.
    pub shape: &'static [usize],
}

/// The networks' inputs for one recording, or for one of its segments.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Computed {
    /// In the order of [`FrontEnd::fixed`].
    pub fixed: Vec<Vec<f32>>,
    /// Steps of [`FrontEnd::sequence`].
    pub sequence: Vec<f32>,
}

/// Computes the networks' inputs.
pub trait FrontEnd: Sync {
    /// The arrays that have the same size for every recording.
    fn fixed(&self) -> &'static [Array];

    /// The array whose number of rows depends on the recording.
    fn sequence(&self) -> Array;

    /// # Errors
    /// Why the recording gives none.
    fn compute(&self, recording: &Recording) -> Result<Vec<Computed>, String>;
}

/// The front end of the system of 2020: resampling, Wiener filter, voice activity; mel
/// windows (`windows`) and the inputs of the feature network (`dct`, `dst`, `histogram`,
/// `moments`).
#[derive(Debug, Default)]
pub struct Reference {
    extractor: FeatureExtractor,
    resampling: Resampling,
}

impl Reference {
    /// With a model's way to 16 kHz.
    pub fn new(resampling: Resampling) -> Self {
        Self {
            resampling,
            ..Self::default()
        }
    }
}

impl FrontEnd for Reference {
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

    fn compute(&self, recording: &Recording) -> Result<Vec<Computed>, String> {
        let prepared =
            legacy2020::prepare(Cow::Borrowed(recording), self.resampling, Parallelism::No);
        let prepared = prepared.map_err(|e| e.to_string())?;
        let features = self.extractor.extract(&prepared.signal);
        let features = features.map_err(|e| e.to_string())?;
        Ok(vec![Computed {
            fixed: features.branch_inputs().map(|b| b.data).into(),
            sequence: features.windows.data(),
        }])
    }
}

/// The front end of the default networks: one resampling step; descriptors of each stretch of speech
/// (`stats`) and values of each of its frames (`frames`).
#[derive(Debug, Default)]
pub struct Utterance {
    extractor: UtteranceExtractor,
    resampling: Resampling,
}

impl Utterance {
    /// With a model's way to 16 kHz.
    pub fn new(resampling: Resampling) -> Self {
        Self {
            resampling,
            ..Self::default()
        }
    }
}

impl FrontEnd for Utterance {
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

    fn compute(&self, recording: &Recording) -> Result<Vec<Computed>, String> {
        let signal = utterance::signal(Cow::Borrowed(recording), self.resampling, Parallelism::No);
        let segments = self.extractor.analyse_segments(signal);
        let segments = segments.map_err(|e| e.to_string())?.segments;
        let computed = segments.into_iter().map(|utterance| Computed {
            fixed: vec![utterance.stats],
            sequence: utterance.frames,
        });
        Ok(computed.collect())
    }
}

/// Computes the features of `inputs` in parallel and writes them to `path`, in the order of the
/// inputs; `each` hears of every recording, with the reason where it gives none and is left out.
///
/// Memory grows with the size of the file, which is about that of the recordings.
///
/// # Errors
/// When the file cannot be written or nothing would be in it.
pub fn dump(
    front_end: &dyn FrontEnd,
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
    let compute = |_: &mut (), _: usize, input: &Input, _: &mut batch::Leave<'_>| {
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
