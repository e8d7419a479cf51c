//! Program `convert`: turns Keras files into bundles, both into ONNX models, and shows, runs and checks
//! them.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::app::sink::SinkError;
use crate::atomic_file::{self, replaces};
use crate::formats::printable;
use crate::keras::ConvertError;
use crate::model::Network;
use crate::model::from_keras;
use crate::model::from_keras::{AssembleError, SpeechFiles};
use crate::model::{Model, Role, bundle, inspect};
use crate::nn::DropoutMode;
use crate::nn::bundle::write;
use crate::nn::npz::{self, Array, NpzError, NpzFile};
use crate::nn::run::{self, ArraysError};
use crate::nn::self_test::SELF_TEST_TOLERANCE;
use crate::onnx;
use clap::error::ErrorKind;
use clap::{Command, CommandFactory};

use arguments::{Arguments, Draws, Format};

use super::{FAILURE, SUCCESS, signals, stdout};

mod arguments;

/// Reason for which the program ends without success.
enum Stop {
    /// The command line is wrong.
    Usage(ErrorKind, String),
    /// A file cannot be used.
    Failure(String),
}

impl<E: std::error::Error> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failure(error.to_string())
    }
}

/// An [`ArraysError`] or an [`NpzError`].
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
enum RunFailure {
    Arrays(#[from] ArraysError),
    Npz(#[from] NpzError),
}

/// Returns the description of the command line.
pub fn command() -> Command {
    Arguments::command()
}

/// Runs the program; returns its exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    crate::keras::silence_caught_panics();
    let words: Vec<OsString> = arguments.into_iter().collect();
    let arguments: Arguments = match super::parse(&words) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    if arguments.output.is_some() || arguments.out.is_some() {
        signals::remove_unfinished_files();
    }
    let outcome = match &arguments {
        a if a.inspect => {
            one_input(a).and_then(|path| inspect_file(path, a.architecture.as_deref()))
        }
        a if a.self_test => one_input(a).and_then(self_test),
        a => match (&a.run, &a.out) {
            (Some(input), Some(output)) => run_file(a, input, output),
            _ if a.to == Some(Format::Onnx) => write_onnx(a),
            _ if a.state_inputs => usage(
                ErrorKind::MissingRequiredArgument,
                "--state-inputs needs --to onnx",
            ),
            _ if a.role.is_some() => usage(
                ErrorKind::MissingRequiredArgument,
                "--role needs --run INPUT.npz or --to onnx",
            ),
            _ => convert(a),
        },
    };
    let is_written = arguments.output.is_some() || arguments.out.is_some();
    match outcome.and_then(|text| print(&text, is_written)) {
        Ok(()) => SUCCESS,
        Err(Stop::Usage(kind, message)) => super::usage_error(command(), &words, kind, &message),
        Err(Stop::Failure(message)) => {
            // Each line is escaped separately, so that none can control the terminal.
            let lines: Vec<String> = message.lines().map(printable).collect();
            complain(&format!("error: {}", lines.join("\n")));
            FAILURE
        }
    }
}

/// Writes to standard output. It may be closed if the result `is_written` to a file.
fn print(text: &str, is_written: bool) -> Result<(), Stop> {
    let mut sink = match stdout::open() {
        Err(SinkError::Closed) if is_written => return Ok(()),
        opened => opened?,
    };
    sink.write(text).and_then(|()| sink.finish())?;
    Ok(())
}

/// Writes to standard error; a closed pipe is ignored.
fn complain(message: &str) {
    let _ = writeln!(io::stderr(), "{message}");
}

fn usage<T>(kind: ErrorKind, message: &str) -> Result<T, Stop> {
    Err(Stop::Usage(kind, message.into()))
}

fn one_input(arguments: &Arguments) -> Result<&Path, Stop> {
    match &*arguments.inputs {
        [file] => Ok(file),
        [] => usage(
            ErrorKind::MissingRequiredArgument,
            "name the Keras file or bundle",
        ),
        more => usage(
            ErrorKind::TooManyValues,
            &format!("name one file, not {}", more.len()),
        ),
    }
}

/// Checks that writing `output` does not destroy `input`.
fn keep_input(input: &Path, output: &Path) -> Result<(), Stop> {
    match replaces(output)(input) {
        true => Err(Stop::Failure(format!(
            "the output {} is an input, which is never replaced; name another file",
            output.display()
        ))),
        false => Ok(()),
    }
}

/// Adds advice about a flag to an error that it can resolve.
fn with_flags(error: AssembleError) -> Stop {
    let hint = match error {
        AssembleError::Convert(ConvertError::WeightsOnly { .. }) => {
            " and name that file with --architecture"
        }
        AssembleError::NoRole(_) | AssembleError::Incomplete { .. } => {
            " (a flag such as --age FILE says the role of a file)"
        }
        _ => "",
    };
    Stop::Failure(format!("{error}{hint}"))
}

fn convert(a: &Arguments) -> Result<String, Stop> {
    let by_flag: Vec<(Role, &PathBuf)> = [
        (Role::EmotionWindows, &a.emotion_windows),
        (Role::Age, &a.age),
        (Role::Gender, &a.gender),
        (Role::EmotionFeatures, &a.emotion_features),
        (Role::Merge, &a.merge),
    ]
    .into_iter()
    .filter_map(|(role, path)| Some((role, path.as_ref()?)))
    .collect();
    let Some(output) = &a.output else {
        return usage(
            ErrorKind::MissingRequiredArgument,
            "say with -o where the bundle goes (or ask for --inspect, --run or --self-test)",
        );
    };
    let folders = a.inputs.iter().filter(|p| p.is_dir()).count();
    if folders > 0 && a.inputs.len() > 1 {
        return usage(
            ErrorKind::ArgumentConflict,
            "name either one folder or files",
        );
    }
    let flagged = by_flag.iter().map(|(_, path)| *path);
    for input in a.inputs.iter().chain(flagged).chain(&a.architecture) {
        keep_input(input, output)?;
    }
    if a.architecture.is_some() && folders > 0 {
        return usage(
            ErrorKind::ArgumentConflict,
            "name the file of the weights beside --architecture, not a folder",
        );
    }
    let model = match (&*a.inputs, &a.architecture) {
        (_, Some(architecture)) => from_keras::convert_weights(one_input(a)?, architecture)?,
        ([], None) if by_flag.is_empty() => {
            return usage(
                ErrorKind::MissingRequiredArgument,
                "name the .h5 files or their folder",
            );
        }
        ([single], None) if by_flag.is_empty() && folders == 0 => {
            from_keras::convert_network(single).map_err(with_flags)?
        }
        (inputs, None) => {
            let mut files = SpeechFiles::default();
            for (role, path) in by_flag {
                files.add(role, path.clone())?;
            }
            for input in inputs {
                match input.is_dir() {
                    true => files.add_folder(input)?,
                    false => files.add_by_name(input.clone()).map_err(with_flags)?,
                }
            }
            files
                .paths()
                .try_for_each(|path| keep_input(path, output))?;
            let place = match inputs {
                [folder] if folders == 1 => folder.display().to_string(),
                _ => "the files given".into(),
            };
            files.convert(&place).map_err(with_flags)?
        }
    };
    let model = match a.resampling {
        Some(resampling) => model.with_resampling(resampling)?,
        None => model,
    };
    // The test precedes the output, which may be a pipe that nobody can read twice.
    let bytes = bundle::to_bytes(&model);
    let stored = bundle::from_bytes(&bytes, &output.display().to_string())?;
    stored.self_test()?;
    write(&bytes, output)?;
    let mut text = format!("wrote {}\n", output.display());
    for network in stored.networks() {
        text += &format!(
            "  {:16}  {}: {} layers, {} parameters\n",
            network.role.name(),
            network.provenance.file,
            network.graph.nodes.len(),
            network.graph.parameters()
        );
    }
    text += &format!("identity {}\nself-test passed\n", stored.identity());
    if let [single] = &*a.inputs
        && let (
            Some(role),
            [
                Network {
                    role: Role::Network,
                    ..
                },
            ],
        ) = (from_keras::role_of(single), stored.networks())
    {
        text += &format!(
            "note: {} is by its name the {role} network of a speech model; for that, give all five files or their folder\n",
            single.display()
        );
    }
    Ok(unless_on_device(output, text))
}

/// Returns the message about a written file. If the file is a device, the message goes to standard
/// error, because the device may be standard output, which then has nothing but the content.
fn unless_on_device(output: &Path, text: String) -> String {
    match output.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        true => {
            complain(text.trim_end());
            String::new()
        }
        false => text,
    }
}

/// Writes one network as an ONNX model.
fn write_onnx(a: &Arguments) -> Result<String, Stop> {
    let flags = [
        ("--emotion-windows", a.emotion_windows.is_some()),
        ("--age", a.age.is_some()),
        ("--gender", a.gender.is_some()),
        ("--emotion-features", a.emotion_features.is_some()),
        ("--merge", a.merge.is_some()),
        ("--resampling", a.resampling.is_some()),
    ];
    if let Some((flag, _)) = flags.iter().find(|(_, given)| *given) {
        return usage(
            ErrorKind::ArgumentConflict,
            &format!("an ONNX model holds one network; leave out {flag}"),
        );
    }
    let path = one_input(a)?;
    if path.is_dir() {
        return usage(
            ErrorKind::ArgumentConflict,
            "an ONNX model holds one network; name one file, or convert the folder to a bundle and name that with --role",
        );
    }
    let Some(output) = &a.output else {
        return usage(
            ErrorKind::MissingRequiredArgument,
            "say with -o where the ONNX model goes",
        );
    };
    for input in std::iter::once(path).chain(a.architecture.as_deref()) {
        keep_input(input, output)?;
    }
    let content = open(path, a.architecture.as_deref())?;
    let network = content.network(path, a.role)?;
    let file = path.display();
    let graph = match a.state_inputs {
        false => Cow::Borrowed(&network.graph),
        true if network.graph.is_stateful() => Cow::Owned(
            network
                .graph
                .with_states()
                .map_err(|e| Stop::Failure(format!("{file}: {e}")))?,
        ),
        true => {
            return Err(Stop::Failure(format!(
                "{file} has no stateful layers; leave out --state-inputs"
            )));
        }
    };
    let exported = onnx::export(&graph, &network.provenance)
        .map_err(|e| Stop::Failure(format!("{file}: {e}")))?;
    atomic_file::write(output, &exported.bytes).map_err(|source| {
        Stop::Failure(format!(
            "cannot write the ONNX model {}: {source}; {}",
            output.display(),
            crate::file_advice::to_write(&source)
        ))
    })?;
    let names = exported.forced_dropouts.join(", ");
    if !names.is_empty() {
        complain(&format!(
            "note: dropout that stays on at inference is off in the ONNX model: {}",
            printable(&names)
        ));
    }
    for (old, new) in &exported.renamed_outputs {
        complain(&printable(&format!(
            "note: the output {old} has the name of another value and is called {new} in the ONNX model"
        )));
    }
    let text = format!(
        "wrote {}\n  opset {}, {} layers, {} parameters\n",
        output.display(),
        onnx::OPSET,
        graph.nodes.len(),
        graph.parameters()
    );
    Ok(unless_on_device(output, text))
}

/// Content of a file: the model of a bundle, or the network of a Keras file.
enum Content {
    Bundle(Box<Model>),
    Keras(Box<Network>),
}

impl Content {
    /// Returns the network of a role; without a role, the only network.
    fn network(&self, path: &Path, role: Option<Role>) -> Result<&Network, Stop> {
        match self {
            Self::Keras(network) => pick(path, std::slice::from_ref(network), role),
            Self::Bundle(model) => pick(path, model.networks(), role),
        }
    }
}

fn open(path: &Path, architecture: Option<&Path>) -> Result<Content, Stop> {
    if let Some(architecture) = architecture {
        let network = from_keras::network_with_architecture(path, architecture)?;
        return Ok(Content::Keras(Box::new(network)));
    }
    let extension = path.extension().map(|e| e.to_ascii_lowercase());
    // A folder is passed to the Keras reader too, which describes the networks in it.
    let named_h5 =
        path.is_dir() || extension.is_some_and(|e| e == "h5" || e == "hdf5" || e == "keras");
    let mut start = [0; 4];
    let is_hdf5 = std::fs::File::open(path)
        .and_then(|mut file| io::Read::read_exact(&mut file, &mut start))
        .is_ok()
        && start == *b"\x89HDF";
    match named_h5 || is_hdf5 {
        true => Ok(Content::Keras(Box::new(
            from_keras::network(path, Role::Network)
                .map_err(|e| with_flags(AssembleError::Convert(e)))?,
        ))),
        false => Ok(Content::Bundle(Box::new(bundle::load(path)?))),
    }
}

fn inspect_file(path: &Path, architecture: Option<&Path>) -> Result<String, Stop> {
    let name = path.display();
    Ok(match open(path, architecture)? {
        Content::Keras(network) => {
            let role = from_keras::role_of(path).map_or(String::new(), |role| {
                format!("role {role}, by the file's name\n")
            });
            format!("{name}: Keras file\n{role}{}", inspect::network(&network))
        }
        Content::Bundle(model) => format!(
            "{name}: bundle, format {}\n{}",
            bundle::FORMAT,
            inspect::model(&model)
        ),
    })
}

fn self_test(path: &Path) -> Result<String, Stop> {
    let model = bundle::load(path)?;
    if let Some(network) = model.networks().iter().find(|n| n.self_test.is_none()) {
        return Err(Stop::Failure(format!(
            "{}: the network {} holds no self-test; convert the original files again",
            path.display(),
            network.role
        )));
    }
    model.self_test().map_err(|e| {
        let advice = "the file is damaged, or this program computes wrongly here; convert the original files again";
        Stop::Failure(format!("{}: {e}; {advice}", path.display()))
    })?;
    let mut text = format!("{}: self-test passed\n", path.display());
    for network in model.networks() {
        text += &format!(
            "  {} gives its stored outputs, to within {SELF_TEST_TOLERANCE:e} of their largest magnitude\n",
            network.role
        );
    }
    Ok(text)
}

fn run_file(a: &Arguments, input: &Path, output: &Path) -> Result<String, Stop> {
    let path = one_input(a)?;
    keep_input(input, output)?;
    keep_input(path, output)?;
    let content = open(path, a.architecture.as_deref())?;
    let network = content.network(path, a.role)?;
    let dropout = match a.dropout {
        Some(Draws(Some(n))) => DropoutMode::Draws { n, seed: a.seed },
        Some(Draws(None)) | None => DropoutMode::Off,
    };
    if a.dropout.is_some_and(|d| d.0.is_some()) && !network.graph.is_stochastic() {
        complain(&format!(
            "note: {} has no dropout that stays on; all draws are equal",
            path.display()
        ));
    }
    let npz = NpzFile::open(input)?;
    let names: Vec<&str> = npz.names().collect();
    let read = |name: &str| npz.read(name).map_err(RunFailure::from);
    let failed = |e: RunFailure| match (e, &a.states) {
        (RunFailure::Arrays(ArraysError::States(e)), Some(states)) => Stop::Failure(format!(
            "{}: {e}. Without this file the states are zeros",
            states.display()
        )),
        (
            RunFailure::Arrays(e @ (ArraysError::Graph(_) | ArraysError::NoStates { .. })),
            Some(_),
        ) => Stop::Failure(format!("{}: {e}", path.display())),
        (RunFailure::Arrays(e), _) => Stop::Failure(format!("{}: {e}", input.display())),
        (RunFailure::Npz(e), _) => e.into(),
    };
    let Some(states) = &a.states else {
        let outputs = run::run(&network.graph, &names, read, &dropout).map_err(failed)?;
        npz::write(output, &outputs)?;
        return Ok(wrote(output, &outputs));
    };
    for file in [input, path].into_iter().chain(a.architecture.as_deref()) {
        keep_input(file, states)?;
    }
    if is_same(output, states) {
        return Err(Stop::Failure(format!(
            "{} is named for the outputs and for the states; name two files",
            output.display()
        )));
    }
    let given = match states.try_exists() {
        Ok(false) => None,
        // Opening a file that cannot be looked at reports the reason.
        Ok(true) | Err(_) => {
            let npz = NpzFile::open(states)?;
            let read = |name: &str| Ok((name.to_owned(), npz.read(name)?));
            Some(
                npz.names()
                    .map(read)
                    .collect::<Result<Vec<_>, NpzError>>()?,
            )
        }
    };
    let start = match given {
        Some(_) => "",
        None => ", after a start from zeros",
    };
    let (outputs, last) =
        run::run_with_states(&network.graph, &names, read, given).map_err(failed)?;
    // If the second file cannot be written, the same command can be given again.
    npz::write(output, &outputs)?;
    npz::write(states, &last)?;
    let states = wrote(states, &last).replacen('\n', &format!("{start}\n"), 1);
    Ok(wrote(output, &outputs) + &states)
}

/// Returns whether two paths are those of one file, which need not exist.
fn is_same(a: &Path, b: &Path) -> bool {
    let place = |path: &Path| {
        let folder = path.parent().filter(|folder| *folder != Path::new(""));
        let folder = folder.unwrap_or(Path::new(".")).canonicalize().ok()?;
        Some((folder, path.file_name()?.to_owned()))
    };
    replaces(a)(b) || place(a).is_some_and(|a| place(b) == Some(a))
}

/// Returns the message about a written file of arrays.
fn wrote(file: &Path, arrays: &[(String, Array)]) -> String {
    let mut text = format!("wrote {}\n", file.display());
    for (name, array) in arrays {
        text += &format!("  {name} {:?}\n", array.shape);
    }
    text
}

/// Returns the network of a role; without a role, the only network.
fn pick<'a>(
    path: &Path,
    networks: &'a [impl std::borrow::Borrow<Network>],
    role: Option<Role>,
) -> Result<&'a Network, Stop> {
    let file = path.display();
    let mut networks = networks.iter().map(std::borrow::Borrow::borrow);
    match (role, networks.len()) {
        (None, 1) => networks.next(),
        (None, _) => {
            return Err(Stop::Failure(format!(
                "{file} holds several networks; say which with --role {}",
                Role::SPEECH.map(|role| role.name()).join("|")
            )));
        }
        (Some(role), _) => networks.find(|n| n.role == role),
    }
    .ok_or_else(|| {
        Stop::Failure(format!(
            "{file} has no network of that role; leave out --role"
        ))
    })
}
