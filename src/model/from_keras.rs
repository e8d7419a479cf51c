//! Keras files into models: five that belong together become a speech model, any other one
//! becomes a model of one network.

use std::fmt::Write;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::bundle::{self, BundleError};
use super::{Model, ModelError, ModelInfo, Network, Role, failed};
use crate::keras::{ConvertError, folder_kind, load};

/// What the five files of a speech model are called, whatever the case of their letters.
pub const FILE_NAMES: [(Role, &str); 5] = [
    (Role::EmotionWindows, "Model_Emotion_crop.h5"),
    (Role::Age, "Model_Age_crop.h5"),
    (Role::Gender, "Model_Gender_crop.h5"),
    (Role::EmotionFeatures, "Model_Emotion_Features.h5"),
    (Role::Merge, "Model_Emotion_Merge.h5"),
];

/// Why files do not become a model.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// The operating system does not list a folder.
    #[error("cannot list the folder {folder}: {source}")]
    Folder {
        /// Path of the folder, as it was given.
        folder: String,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// Two files are given for one role; a speech model takes one.
    #[error(
        "{first} and {second} are both given for the role {role}; leave one out or give it another role"
    )]
    Twice {
        /// The role that both would have.
        role: Role,
        /// Path of the file that was there already.
        first: String,
        /// Path of the file that was to be added.
        second: String,
    },
    /// The path of a file that is not called as in [`FILE_NAMES`]; give its role or convert it
    /// alone.
    #[error(
        "{0} is none of the five files of a speech model by its name; say which role it has, or convert it alone"
    )]
    NoRole(String),
    /// The file beside the networks that says what they mean cannot be used.
    #[error(
        "{file} does not say what the networks mean: {problem}; see models/default/model.json for one that does"
    )]
    Info {
        /// Its path.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Roles are left without a file.
    #[error("{place}: the five files of a speech model are not complete\n{list}")]
    Incomplete {
        /// Where the files were looked for, in the caller's words.
        place: String,
        /// A line for each role, found or missing, and the way out.
        list: String,
    },
    /// A file cannot be converted.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// The networks do not fit together, or one fails its self-test on the engine.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// What was converted is refused as a bundle, for example because it needs too much arithmetic.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

/// The largest [`INFO_FILE`] that is read, in bytes.
const MAX_INFO: u64 = 1 << 20;

/// The file beside the networks that says what they mean, for models other than that of 2020.
pub const INFO_FILE: &str = "model.json";

/// The role that a file has by its name: one of [`FILE_NAMES`], or the role's own (`age.h5`).
pub fn role_of(path: &Path) -> Option<Role> {
    let name = path.file_name()?.to_str()?;
    FILE_NAMES
        .iter()
        .find(|(role, known)| {
            name.eq_ignore_ascii_case(known)
                || name.eq_ignore_ascii_case(&format!("{}.h5", role.name()))
        })
        .map(|&(role, _)| role)
        .or_else(|| {
            let is_speech = name.eq_ignore_ascii_case(&format!("{}.h5", Role::Speech.name()));
            is_speech.then_some(Role::Speech)
        })
}

/// Files with their roles, at most one for each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpeechFiles {
    files: Vec<(Role, PathBuf)>,
    /// What the networks mean, where a folder says so; else they are those of 2020.
    info: Option<PathBuf>,
    /// `.h5` files that were passed over because their names say no role.
    others: Vec<PathBuf>,
    /// Folders with a network in another format, and what to do about each.
    folders: Vec<(PathBuf, &'static str)>,
}

impl SpeechFiles {
    /// Adds a file for a role.
    ///
    /// # Errors
    /// There is one already.
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

    /// Adds a file for the role that it has by its name.
    ///
    /// # Errors
    /// It has none, or there is a file for this role already.
    pub fn add_by_name(&mut self, path: PathBuf) -> Result<(), AssembleError> {
        let role = role_of(&path).ok_or_else(|| AssembleError::NoRole(shown(&path)))?;
        self.add(role, path)
    }

    /// Adds the files of a folder that have a role by their names, except for roles that are
    /// taken already.
    ///
    /// # Errors
    /// The folder cannot be listed, two of its files have the same role, or it is itself a network in
    /// another format.
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
        let given = self.clone();
        for path in paths {
            let is_h5 = path
                .extension()
                .is_some_and(|e| e.eq_ignore_ascii_case("h5") || e.eq_ignore_ascii_case("hdf5"));
            if path.file_name().is_some_and(|name| name == INFO_FILE) {
                self.info = Some(path);
                continue;
            }
            match role_of(&path) {
                Some(role) if given.of(role).is_some() => {}
                Some(role) => self.add(role, path)?,
                None if is_h5 => self.others.push(path),
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

    /// The file of a role.
    pub fn of(&self, role: Role) -> Option<&Path> {
        let found = self.files.iter().find(|(r, _)| *r == role);
        found.map(|(_, path)| &**path)
    }

    /// Converts the five files into a model; `place` is what messages call where they were looked
    /// for.
    ///
    /// # Errors
    /// Says what is missing, or which file cannot be converted or does not fit the others.
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

    /// What is there and what is missing, for a message.
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
        for path in self.others.iter().take(SHOWN) {
            let _ = writeln!(text, "  no role  {}", shown(path));
        }
        if self.others.len() > SHOWN {
            let _ = writeln!(text, "  and {} more .h5 files", self.others.len() - SHOWN);
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

/// Reads a Keras file as the network of a role.
///
/// # Errors
/// See [`load`].
pub fn network(path: &Path, role: Role) -> Result<Network, ConvertError> {
    let model = load(path)?;
    Ok(Network {
        role,
        graph: model.graph,
        provenance: model.provenance,
        self_test: None,
    })
}

/// Converts a single Keras file into a model of one network of no known role.
///
/// # Errors
/// The file cannot be converted.
pub fn convert_network(path: &Path) -> Result<Model, AssembleError> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let network = network(path, Role::Network)?;
    finish(vec![network], ModelInfo::network(&name))
}

/// A model of networks that fit, with self-tests that the engine passes, as a bundle gives it.
fn finish(networks: Vec<Network>, info: ModelInfo) -> Result<Model, AssembleError> {
    // That they fit is checked first: its messages say more than a self-test could.
    let mut networks = Model::new(networks, info.clone())?.networks().to_vec();
    for network in &mut networks {
        network.make_self_test().map_err(failed(network))?;
    }
    let bytes = bundle::to_bytes(&Model::new(networks, info)?);
    let model = bundle::from_bytes(&bytes, "made from these files")?;
    model.self_test()?;
    Ok(model)
}
