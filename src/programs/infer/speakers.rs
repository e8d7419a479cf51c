//! Speaker profiles: `--enroll`, `--profile` and `--speaker-from`.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::Recognizer;
use crate::app::batch::{Batch, Threads};
use crate::app::inputs::Input;
use crate::app::manifest::{Manifest, Row};
use crate::app::sink::{Sink, SinkError};
use crate::nn::DropoutMode;
use crate::recognizer::{ProfileBuilder, ProfileError, SpeakerProfile};
use clap::error::ErrorKind;

use super::arguments::SpeakerFrom;
use super::{Arguments, Stop, model_error, output_error, print_error, progress, usage_error};

/// Maximum size of a profile, in bytes; real profiles are far smaller.
const MAX_BYTES: u64 = 1 << 20;

/// Recordings of the command line.
pub struct Selection {
    /// Recordings in order.
    pub inputs: Vec<Input>,
    /// Group of each recording, for profiles within groups.
    pub groups: Option<Vec<Option<usize>>>,
}

impl Selection {
    /// Collects the recordings.
    ///
    /// # Errors
    /// When a manifest is unusable, or the recordings do not fit the rule.
    pub fn new(arguments: &Arguments) -> Result<Self, Stop> {
        let Some(speaker) = &arguments.speaker_from else {
            return Ok(Self {
                inputs: super::collect_inputs(arguments),
                groups: None,
            });
        };
        if let SpeakerFrom::Column(column) = speaker {
            let [path] = &*arguments.recordings else {
                return usage_error(
                    ErrorKind::ArgumentConflict,
                    "--speaker-from column:NAME reads a manifest; give one .csv file and no recordings",
                );
            };
            let manifest = Manifest::read_groups(path, column).map_err(|e| e.to_string())?;
            // A speaker name is unique only within its corpus.
            let key = |row: &Row| Some((row.corpus.clone(), row.group.clone()?));
            return Ok(Self {
                groups: Some(numbered(manifest.rows.iter().map(key))),
                inputs: (manifest.inputs().into_iter())
                    .map(|input| input.with_channel(arguments.channel()))
                    .collect(),
            });
        }
        let inputs = super::collect_inputs(arguments);
        if inputs.iter().any(Input::is_standard_input) {
            return usage_error(
                ErrorKind::ArgumentConflict,
                "--speaker-from reads each recording twice and standard input can be read only \
                 once; give files",
            );
        }
        let folder = |input: &Input| input.path().and_then(Path::parent).map(Path::to_owned);
        let groups = match speaker {
            SpeakerFrom::Folder => numbered(inputs.iter().map(folder)),
            SpeakerFrom::All => vec![Some(0); inputs.len()],
            SpeakerFrom::File | SpeakerFrom::Column(_) => vec![None; inputs.len()],
        };
        Ok(Self {
            inputs,
            groups: Some(groups),
        })
    }
}

/// Numbers the distinct keys in the order of their first occurrence.
fn numbered<K: std::hash::Hash + Eq>(keys: impl Iterator<Item = Option<K>>) -> Vec<Option<usize>> {
    let mut numbers = HashMap::new();
    let number = |key: Option<K>| {
        let next = numbers.len();
        key.map(|key| *numbers.entry(key).or_insert(next))
    };
    keys.map(number).collect()
}

/// Adds the speaker profiles of the command line to `batch`.
///
/// # Errors
/// When a profile is unusable or the model has no profiles.
pub fn with_speakers<'r>(
    batch: Batch<'r>,
    arguments: &Arguments,
    selection: &mut Selection,
) -> Result<Batch<'r>, String> {
    if let Some(path) = &arguments.profile {
        let profile = read_profile(path)?;
        return batch
            .with_profile(profile)
            .map_err(|e| format!("{}: {e}", path.display()));
    }
    let Some(groups) = selection.groups.take() else {
        return Ok(batch);
    };
    let progress = progress(selection.inputs.len());
    let batch = batch
        .with_groups(&selection.inputs, groups, || progress.inc(1))
        .map_err(|e| model_error(arguments, &e));
    progress.finish_and_clear();
    batch
}

/// Reads a profile from a file.
fn read_profile(path: &Path) -> Result<SpeakerProfile, String> {
    let name = path.display();
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_string(&mut text))
        .map_err(|e| {
            let remedy = match e.kind() {
                io::ErrorKind::InvalidData => "name the JSON file that --enroll has written",
                _ => crate::file_advice::to_read(&e),
            };
            format!("{name}: the speaker profile cannot be read: {e}; {remedy}")
        })?;
    if text.len() as u64 > MAX_BYTES {
        let problem = ProfileError::Format(format!("it has more than {MAX_BYTES} bytes"));
        return Err(format!("{name}: {problem}"));
    }
    SpeakerProfile::from_json(&text).map_err(|e| format!("{name}: {e}"))
}

/// Writes the profile of the speaker of all recordings to `path`. Returns the number of recordings
/// that are not in it.
///
/// # Errors
/// When no recording has speech, or the profile cannot be written.
pub fn enroll(
    arguments: &Arguments,
    path: &Path,
    recognizer: &Recognizer,
    threads: Threads,
    inputs: &[Input],
) -> Result<usize, String> {
    // A model without profiles is reported before the long computation.
    if let Err(error @ ProfileError::Unsupported(_)) =
        recognizer.profile(&ProfileBuilder::default())
    {
        return Err(model_error(arguments, &error));
    }
    let files = inputs.iter().filter_map(Input::path);
    let read = files.chain(arguments.model().path());
    let mut sink = Sink::private_file(path, read).map_err(|e| output_error(&e))?;
    let progress = progress(inputs.len());
    let mut failed = 0;
    let mut all = ProfileBuilder::default();
    let batch = Batch::on(threads, recognizer, DropoutMode::Off);
    let collected = batch.collect(inputs, |_, one| {
        let problem = match one {
            Ok(one) => {
                all.merge(&one);
                None
            }
            Err(error) => Some(format!("{error}; it is not in the profile")),
        };
        if let Some(problem) = problem {
            failed += 1;
            progress.suspend(|| print_error(&problem));
        }
        progress.inc(1);
        Ok::<(), SinkError>(())
    });
    collected.map_err(|e| e.to_string())?;
    progress.finish_and_clear();
    let profile = recognizer.profile(&all).map_err(|e| e.to_string())?;
    sink.write(&profile.to_json()).map_err(|e| e.to_string())?;
    sink.finish().map_err(|e| e.to_string())?;
    Ok(failed)
}
