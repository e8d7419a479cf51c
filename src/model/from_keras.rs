//! Conversion of Keras files: five files with the roles of a speech model become a speech model, any
//! other file becomes a model of one network.

use std::fmt::Write;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::bundle::{self, BundleError};
use super::{Model, ModelError, ModelInfo, Network, Role, failed};
use crate::keras::{ConvertError, KerasModel, folder_kind, load, load_with_architecture};

/// File names of the five networks of a speech model; letter case is ignored.
pub const FILE_NAMES: [(Role, &str); 5] = [
    (Role::EmotionWindows, "Model_Emotion_crop.h5"),
    (Role::Age, "Model_Age_crop.h5"),
    (Role::Gender, "Model_Gender_crop.h5"),
    (Role::EmotionFeatures, "Model_Emotion_Features.h5"),
    (Role::Merge, "Model_Emotion_Merge.h5"),
];

/// Error of converting files into a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AssembleError {
    /// A folder cannot be listed.
    #[error(
        "cannot list the folder {folder}: {source}; {}",
        crate::file_advice::to_read(source)
    )]
    Folder {
        /// Path of the folder.
        folder: String,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// Two files have the same role; a speech model has one file per role.
    #[error(
        "{first} and {second} are both given for the role {role}; leave one out or give it another role"
    )]
    Twice {
        /// Role of both files.
        role: Role,
        /// Path of the file that was added first.
        first: String,
        /// Path of the other file.
        second: String,
    },
    /// The file at this path has no name in [`FILE_NAMES`]; give its role or convert it alone.
    #[error(
        "{0} is none of the five files of a speech model by its name; say which role it has, or convert it alone"
    )]
    NoRole(String),
    /// The model description next to the networks cannot be used.
    #[error(
        "{file} does not say what the networks mean: {problem}; see models/default/model.json for one that does"
    )]
    Info {
        /// Path of the description.
        file: String,
        /// Fault of the description.
        problem: String,
    },
    /// No file for at least one role.
    #[error("{place}: the five files of a speech model are not complete\n{list}")]
    Incomplete {
        /// The caller's name of the searched place.
        place: String,
        /// One line per role, found or missing, and the remedy.
        list: String,
    },
    /// A file cannot be converted.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// The networks do not fit together, or one fails its self-test on the engine.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The converted model exceeds the limits of a bundle, for example by the cost of its networks.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

/// Largest size of an [`INFO_FILE`] in bytes.
const MAX_INFO: u64 = 1 << 20;

/// Name of the model description next to the networks; the model of 2020 needs none.
pub const INFO_FILE: &str = "model.json";

/// Returns the role that a file name stands for: a name in [`FILE_NAMES`], or that of the role itself
/// (`age.h5`).
pub fn role_of(path: &Path) -> Option<Role> {
    let name = path.file_name()?.to_str()?;
    FILE_NAMES
        .iter()
        .find(|(role, file_name)| {
            name.eq_ignore_ascii_case(file_name)
                || name.eq_ignore_ascii_case(&format!("{}.h5", role.name()))
        })
        .map(|&(role, _)| role)
        .or_else(|| {
            let is_speech = name.eq_ignore_ascii_case(&format!("{}.h5", Role::Speech.name()));
            is_speech.then_some(Role::Speech)
        })
}

/// Files of a speech model, at most one per role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpeechFiles {
    files: Vec<(Role, PathBuf)>,
    /// Path of the model description; without one, the networks are those of 2020.
    info: Option<PathBuf>,
    /// `.h5` files of a folder whose names stand for no role.
    unassigned: Vec<PathBuf>,
    /// Folders with a network in an unsupported format, and the remedy for each.
    folders: Vec<(PathBuf, &'static str)>,
}

impl SpeechFiles {
    /// Adds a file with a role.
    ///
    /// # Errors
    /// Another file has this role.
    pub fn add(&mut self, role: Role, path: PathBuf) -> Result<(), AssembleError> {
        match self.of(role) {
            Some(first) => Err(AssembleError::Twice {
                role,
                first: first.display().to_string(),
                second: path.display().to_string(),
            }),
            None => {
                self.files.push((role, path));
                Ok(())
            }
        }
    }

    /// Adds a file with the role that its name stands for.
    ///
    /// # Errors
    /// The name stands for no role, or another file has this role.
    pub fn add_by_name(&mut self, path: PathBuf) -> Result<(), AssembleError> {
        let role = role_of(&path).ok_or_else(|| AssembleError::NoRole(shown(&path)))?;
        self.add(role, path)
    }

    /// Adds the files of a folder whose names stand for a role. Files with a role that was added earlier
    /// are skipped.
    ///
    /// # Errors
    /// The folder cannot be listed, two of its files have the same role, or the folder is itself a network
    /// in an unsupported format.
    pub fn add_folder(&mut self, folder: &Path) -> Result<(), AssembleError> {
        let fail = |source| AssembleError::Folder {
            folder: shown(folder),
            source,
        };
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder).map_err(fail)? {
            paths.push(entry.map_err(fail)?.path());
        }
        paths.sort();
        let added_before = self.clone();
        for path in paths {
            let is_h5 = path
                .extension()
                .is_some_and(|e| e.eq_ignore_ascii_case("h5") || e.eq_ignore_ascii_case("hdf5"));
            if path.file_name().is_some_and(|name| name == INFO_FILE) {
                self.info = Some(path);
                continue;
            }
            match role_of(&path) {
                Some(role) if added_before.of(role).is_some() => {}
                Some(role) => self.add(role, path)?,
                None if is_h5 => self.unassigned.push(path),
                None => {
                    let problem = path.is_dir().then(|| folder_kind(&path)).flatten();
                    self.folders.extend(problem.map(|problem| (path, problem)));
                }
            }
        }
        match folder_kind(folder) {
            Some(problem) if self.files.is_empty() => Err(ConvertError::Format {
                file: shown(folder),
                problem: problem.into(),
            }
            .into()),
            _ => Ok(()),
        }
    }

    /// Path of the file with a role.
    pub fn of(&self, role: Role) -> Option<&Path> {
        let found = self.files.iter().find(|(r, _)| *r == role);
        found.map(|(_, path)| &**path)
    }

    /// Paths of all files with a role.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(_, path)| &**path)
    }

    /// Converts the files into a model; `place` stands for the searched place in messages.
    ///
    /// # Errors
    /// Names the missing files, or the file that cannot be converted or does not fit the model.
    pub fn convert(&self, place: &str) -> Result<Model, AssembleError> {
        if Role::SPEECH.iter().any(|&role| self.of(role).is_none()) {
            return Err(AssembleError::Incomplete {
                place: place.into(),
                list: self.list(),
            });
        }
        let mut networks = Vec::new();
        for role in Role::SPEECH.into_iter().chain([Role::Speech]) {
            if let Some(path) = self.of(role) {
                networks.push(network(path, role)?);
            }
        }
        let info = match &self.info {
            Some(path) => read_info(path)?,
            None => ModelInfo::legacy2020(),
        };
        finish(networks, info)
    }

    /// Lists the found and missing files for a message.
    fn list(&self) -> String {
        let mut text = String::new();
        for (role, name) in FILE_NAMES {
            // Writing to a String cannot fail.
            let _ = match self.of(role) {
                Some(path) => writeln!(text, "  found    {} ({role})", shown(path)),
                None => writeln!(text, "  missing  {name} ({role})"),
            };
        }
        const SHOWN: usize = 8;
        for path in self.unassigned.iter().take(SHOWN) {
            let _ = writeln!(text, "  no role  {}", shown(path));
        }
        if self.unassigned.len() > SHOWN {
            let more = self.unassigned.len() - SHOWN;
            let _ = writeln!(text, "  and {more} more .h5 files");
        }
        for (path, problem) in self.folders.iter().take(SHOWN) {
            let _ = writeln!(text, "  not read {}: {problem}", shown(path));
        }
        if self.folders.len() > SHOWN {
            let _ = writeln!(text, "  and {} more folders", self.folders.len() - SHOWN);
        }
        text + "Add what is missing, say which role a file of another name has, or name a single .h5 file to convert it alone"
    }
}

fn read_info(path: &Path) -> Result<ModelInfo, AssembleError> {
    let fail = |problem: String| AssembleError::Info {
        file: shown(path),
        problem,
    };
    let mut text = String::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_INFO + 1).read_to_string(&mut text))
        .map_err(|e| fail(e.to_string()))?;
    if text.len() as u64 > MAX_INFO {
        return Err(fail(format!("it has more than {MAX_INFO} bytes")));
    }
    serde_json::from_str(&text).map_err(|e| fail(e.to_string()))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Converts a Keras file into the network of a role.
///
/// # Errors
/// The errors of [`load`].
pub fn network(path: &Path, role: Role) -> Result<Network, ConvertError> {
    Ok(unverified(role, load(path)?))
}

/// Converts a file of weights, with the architecture in another file, into a network without a role.
///
/// # Errors
/// The errors of [`load_with_architecture`].
pub fn network_with_architecture(
    weights: &Path,
    architecture: &Path,
) -> Result<Network, ConvertError> {
    let model = load_with_architecture(weights, architecture)?;
    Ok(unverified(Role::Network, model))
}

/// Makes a network that has no self-test yet.
fn unverified(role: Role, model: KerasModel) -> Network {
    Network {
        role,
        graph: model.graph,
        provenance: model.provenance,
        self_test: None,
    }
}

/// Converts a single Keras file into a model of one network without a role.
///
/// # Errors
/// The file cannot be converted.
pub fn convert_network(path: &Path) -> Result<Model, AssembleError> {
    single(path, network(path, Role::Network)?)
}

/// Converts a file of weights, with the architecture in another file, into a model of one network
/// without a role.
///
/// # Errors
/// A file cannot be converted, or the two do not match.
pub fn convert_weights(weights: &Path, architecture: &Path) -> Result<Model, AssembleError> {
    single(weights, network_with_architecture(weights, architecture)?)
}

/// Makes a model of the network that file `path` holds.
fn single(path: &Path, network: Network) -> Result<Model, AssembleError> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    finish(vec![network], ModelInfo::network(&name))
}

/// Makes a model with self-tests, writes it into a bundle and reads it back, and runs the self-tests.
fn finish(networks: Vec<Network>, info: ModelInfo) -> Result<Model, AssembleError> {
    // Shapes are checked first: an error of a self-test is less specific.
    let mut networks = Model::new(networks, info.clone())?.networks().to_vec();
    for network in &mut networks {
        network.make_self_test().map_err(failed(network))?;
    }
    let bytes = bundle::to_bytes(&Model::new(networks, info)?);
    let model = bundle::from_bytes(&bytes, "made from these files")?;
    model.self_test()?;
    Ok(model)
}
