//! Turns Keras `.h5` files into bundles, and shows, runs and checks both.

use std::io::{self, Write};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use maeum::audio::Resampling;
use maeum::keras::speech::{self, SpeechFiles};
use maeum::nn::model::Network;
use maeum::nn::npz::{self, NpzError, NpzFile};
use maeum::nn::run::{self, ArraysError};
use maeum::nn::self_test::SELF_TEST_TOLERANCE;
use maeum::nn::{DropoutMode, Model, Role, bundle, inspect};

const EXAMPLES: &str = "\
Examples:
  convert models/ -o speech.safetensors          the five files of a folder, found by their names
  convert --age a.h5 models/ -o s.safetensors    the same, with another age network
  convert model.h5 -o model.safetensors          any other Keras file, alone
  convert --inspect model.h5                     its layers (of a bundle, too)
  convert --run in.npz --out out.npz --role age speech.safetensors
  convert --run in.npz --out out.npz --dropout 10 --seed 7 model.h5
  convert --self-test speech.safetensors         does this machine compute what is stored?

The five files of a speech model are Model_Emotion_crop.h5, Model_Age_crop.h5,
Model_Gender_crop.h5, Model_Emotion_Features.h5 and Model_Emotion_Merge.h5, in any case.";

/// Turns Keras .h5 files into one bundle that `infer` uses; shows, runs and checks both.
#[derive(Parser)]
#[command(name = "convert", version, after_help = EXAMPLES)]
struct Arguments {
    /// Keras .h5 files or a folder of them; with --inspect, --run or --self-test one file
    #[arg(value_name = "FILE|DIR")]
    inputs: Vec<PathBuf>,

    /// Where the bundle goes; an existing file is replaced, but never an input
    #[arg(short, long, value_name = "BUNDLE", conflicts_with_all = ["inspect", "run", "self_test"])]
    output: Option<PathBuf>,

    /// The network from mel windows to emotions, whatever its file is called
    #[arg(long, value_name = "FILE", help_heading = "Roles", requires = "output")]
    emotion_windows: Option<PathBuf>,
    /// The network from mel windows to age
    #[arg(long, value_name = "FILE", help_heading = "Roles", requires = "output")]
    age: Option<PathBuf>,
    /// The network from mel windows to gender
    #[arg(long, value_name = "FILE", help_heading = "Roles", requires = "output")]
    gender: Option<PathBuf>,
    /// The network from DCT, DST, histogram and moments to emotions
    #[arg(long, value_name = "FILE", help_heading = "Roles", requires = "output")]
    emotion_features: Option<PathBuf>,
    /// The network that merges all emotion weights
    #[arg(long, value_name = "FILE", help_heading = "Roles", requires = "output")]
    merge: Option<PathBuf>,

    /// How a speech model brings recordings to 16 kHz: exact repeats the original to the last bit
    /// [default], fast takes one direct step
    #[arg(
        long,
        value_name = "exact|fast",
        requires = "output",
        value_parser = parse_resampling
    )]
    resampling: Option<Resampling>,

    /// List layers, shapes, parameters, FLOPs and origin of an .h5 file or a bundle
    #[arg(long, help_heading = "Instead of converting", conflicts_with_all = ["run", "self_test"])]
    inspect: bool,
    /// Replay the self-test that a bundle holds
    #[arg(long, help_heading = "Instead of converting", conflicts_with = "run")]
    self_test: bool,
    /// Run an .h5 file or a bundle on the arrays of INPUT.npz, named like the inputs, batch first
    #[arg(
        long,
        value_name = "INPUT.npz",
        help_heading = "Instead of converting",
        requires = "out"
    )]
    run: Option<PathBuf>,
    /// Where --run writes the outputs, named like in the model
    #[arg(
        long,
        value_name = "OUTPUT.npz",
        help_heading = "Running",
        requires = "run"
    )]
    out: Option<PathBuf>,
    /// Dropout that stays on at inference: off, or N draws (outputs [batch, N, ...])
    #[arg(long, value_name = "off|N", help_heading = "Running", requires = "run", value_parser = parse_draws)]
    dropout: Option<Draws>,
    /// Seed of the draws
    #[arg(
        long,
        help_heading = "Running",
        requires = "dropout",
        default_value_t = 0
    )]
    seed: u64,
    /// Which network of a speech model: emotion_windows, age, gender, emotion_features or merge
    #[arg(long, help_heading = "Running", requires = "run", value_parser = parse_role)]
    role: Option<Role>,
}

/// `None` is off.
#[derive(Clone, Copy)]
struct Draws(Option<NonZeroU32>);

fn parse_draws(text: &str) -> Result<Draws, String> {
    match text {
        "off" => Ok(Draws(None)),
        _ => text
            .parse()
            .map(|n| Draws(Some(n)))
            .map_err(|_| "give `off` or a number of draws from 1 on".into()),
    }
}

fn parse_role(text: &str) -> Result<Role, String> {
    let wanted = text.replace('-', "_");
    Role::SPEECH
        .into_iter()
        .find(|role| role.name() == wanted)
        .ok_or_else(|| {
            format!(
                "give one of {}",
                Role::SPEECH.map(|role| role.name()).join(", ")
            )
        })
}

fn parse_resampling(text: &str) -> Result<Resampling, String> {
    let mut ways = [Resampling::Exact, Resampling::Fast].into_iter();
    ways.find(|way| way.name() == text)
        .ok_or_else(|| "give `exact` or `fast`".into())
}

/// Anything that ends the program: the message and the exit code.
struct Failure(String, u8);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string(), 1)
    }
}

/// An [`ArraysError`] or an [`NpzError`].
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
enum RunFailure {
    Arrays(#[from] ArraysError),
    Npz(#[from] NpzError),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments {
        a if a.inspect => inspect_file(one_input(a)),
        a if a.self_test => self_test(one_input(a)),
        a => match (&a.run, &a.out) {
            (Some(input), Some(output)) => run_file(a, input, output),
            _ => convert(a),
        },
    };
    match outcome.and_then(|text| print(&text)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(message, code)) => {
            eprintln!("error: {message}");
            ExitCode::from(code)
        }
    }
}

/// Writes to standard output. A reader that has read enough is no failure.
fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure(format!("cannot write the answer: {e}"), 1))
        }
        _ => Ok(()),
    }
}

/// Ends the program as clap does.
fn usage(kind: ErrorKind, message: &str) -> ! {
    Arguments::command().error(kind, message).exit()
}

fn one_input(arguments: &Arguments) -> &Path {
    match &*arguments.inputs {
        [file] => file,
        [] => usage(
            ErrorKind::MissingRequiredArgument,
            "name the .h5 file or bundle",
        ),
        more => usage(
            ErrorKind::TooManyValues,
            &format!("name one file, not {}", more.len()),
        ),
    }
}

/// Fails if writing `output` would destroy `input`.
fn keep_input(input: &Path, output: &Path) -> Result<(), Failure> {
    match (input.canonicalize(), output.canonicalize()) {
        (Ok(input), Ok(existing)) if input == existing => Err(Failure(
            format!(
                "the output {} is an input, which is never replaced; name another file",
                output.display()
            ),
            1,
        )),
        _ => Ok(()),
    }
}

fn convert(a: &Arguments) -> Result<String, Failure> {
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
        usage(
            ErrorKind::MissingRequiredArgument,
            "say with -o where the bundle goes (or ask for --inspect, --run or --self-test)",
        );
    };
    let folders = a.inputs.iter().filter(|p| p.is_dir()).count();
    if folders > 0 && a.inputs.len() > 1 {
        usage(
            ErrorKind::ArgumentConflict,
            "name either one folder or files",
        );
    }
    let flagged = by_flag.iter().map(|(_, path)| *path);
    for input in a.inputs.iter().chain(flagged) {
        keep_input(input, output)?;
    }
    let model = match &*a.inputs {
        [] if by_flag.is_empty() => usage(
            ErrorKind::MissingRequiredArgument,
            "name the .h5 files or their folder",
        ),
        [single] if by_flag.is_empty() && folders == 0 => speech::convert_network(single)?,
        inputs => {
            let mut files = SpeechFiles::default();
            for (role, path) in by_flag {
                files.add(role, path.clone())?;
            }
            for input in inputs {
                match input.is_dir() {
                    true => files.add_folder(input)?,
                    false => files.add_by_name(input.clone())?,
                }
            }
            for role in Role::SPEECH {
                files.of(role).map_or(Ok(()), |p| keep_input(p, output))?;
            }
            let place = match inputs {
                [folder] if folders == 1 => folder.display().to_string(),
                _ => "the files given".into(),
            };
            files.convert(&place)?
        }
    };
    let model = match a.resampling {
        Some(resampling) => model.with_resampling(resampling)?,
        None => model,
    };
    bundle::save(&model, output)?;
    let stored = bundle::load(output)?;
    stored.self_test()?;
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
        ) = (speech::role_of(single), stored.networks())
    {
        text += &format!(
            "note: {} is by its name the {role} network of a speech model; for that, give all five files or their folder\n",
            single.display()
        );
    }
    Ok(text)
}

/// What a file holds: a bundle's model, or the network of a Keras file.
enum Content {
    Bundle(Model),
    Keras(Box<Network>),
}

fn open(path: &Path) -> Result<Content, Failure> {
    let extension = path.extension().map(|e| e.to_ascii_lowercase());
    let named_h5 = extension.is_some_and(|e| e == "h5" || e == "hdf5" || e == "keras");
    let mut start = [0; 4];
    let is_hdf5 = std::fs::File::open(path)
        .and_then(|mut file| io::Read::read_exact(&mut file, &mut start))
        .is_ok()
        && start == *b"\x89HDF";
    match named_h5 || is_hdf5 {
        true => Ok(Content::Keras(Box::new(speech::network(
            path,
            Role::Network,
        )?))),
        false => Ok(Content::Bundle(bundle::load(path)?)),
    }
}

fn inspect_file(path: &Path) -> Result<String, Failure> {
    let name = path.display();
    Ok(match open(path)? {
        Content::Keras(network) => {
            let role = speech::role_of(path).map_or(String::new(), |role| {
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

fn self_test(path: &Path) -> Result<String, Failure> {
    let model = bundle::load(path)?;
    if let Some(network) = model.networks().iter().find(|n| n.self_test.is_none()) {
        return Err(Failure(
            format!(
                "{}: the network {} holds no self-test; convert the original files again",
                path.display(),
                network.role
            ),
            1,
        ));
    }
    model.self_test().map_err(|e| {
        let advice = "the file is damaged, or this program computes wrongly here; convert the original files again";
        Failure(format!("{}: {e}; {advice}", path.display()), 1)
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

fn run_file(a: &Arguments, input: &Path, output: &Path) -> Result<String, Failure> {
    let path = one_input(a);
    keep_input(input, output)?;
    keep_input(path, output)?;
    let content = open(path)?;
    let network = match &content {
        Content::Keras(network) => pick(path, std::slice::from_ref(network), a.role)?,
        Content::Bundle(model) => pick(path, model.networks(), a.role)?,
    };
    let dropout = match a.dropout {
        Some(Draws(Some(n))) => DropoutMode::Draws { n, seed: a.seed },
        Some(Draws(None)) | None => DropoutMode::Off,
    };
    if a.dropout.is_some_and(|d| d.0.is_some()) && !network.graph.is_stochastic() {
        eprintln!(
            "note: {} has no dropout that stays on; all draws are equal",
            path.display()
        );
    }
    let npz = NpzFile::open(input)?;
    let names: Vec<&str> = npz.names().collect();
    let outputs = run::run(
        &network.graph,
        &names,
        |name| npz.read(name).map_err(RunFailure::from),
        &dropout,
    )
    .map_err(|e| match e {
        RunFailure::Arrays(e) => Failure(format!("{}: {e}", input.display()), 1),
        RunFailure::Npz(e) => e.into(),
    })?;
    npz::write(output, &outputs)?;
    let mut text = format!("wrote {}\n", output.display());
    for (name, array) in &outputs {
        text += &format!("  {name} {:?}\n", array.shape);
    }
    Ok(text)
}

/// The network of a role; without one, the only network that there is.
fn pick<'a>(
    path: &Path,
    networks: &'a [impl std::borrow::Borrow<Network>],
    role: Option<Role>,
) -> Result<&'a Network, Failure> {
    let file = path.display();
    let mut networks = networks.iter().map(std::borrow::Borrow::borrow);
    match (role, networks.len()) {
        (None, 1) => networks.next(),
        (None, _) => {
            return Err(Failure(
                format!(
                    "{file} holds several networks; say which with --role {}",
                    Role::SPEECH.map(|role| role.name()).join("|")
                ),
                1,
            ));
        }
        (Some(role), _) => networks.find(|n| n.role == role),
    }
    .ok_or_else(|| {
        Failure(
            format!("{file} has no network of that role; leave out --role"),
            1,
        )
    })
}
