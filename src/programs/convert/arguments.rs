//! The command line of `convert`.

use std::num::NonZeroU32;
use std::path::PathBuf;

use crate::audio::Resampling;
use crate::model::Role;
use clap::Parser;

const EXAMPLES: &str = "\
Examples:
  convert models/ -o speech.safetensors          the five files of a folder, found by their names
  convert --age a.h5 models/ -o s.safetensors    the same, with another age network
  convert model.h5 -o model.safetensors          any other Keras file, alone (.keras, too)
  convert weights.h5 --architecture model.json -o model.safetensors
  convert model.h5 --to onnx -o model.onnx       for other runtimes (of a bundle, too)
  convert --inspect model.h5                     its layers (of a bundle, too)
  convert --run in.npz --out out.npz --role age speech.safetensors
  convert --run in.npz --out out.npz --dropout 10 --seed 7 model.h5
  convert --run in.npz --out out.npz --states states.npz model.h5
  convert --self-test speech.safetensors         does this machine compute what is stored?

The five files of a speech model are Model_Emotion_crop.h5, Model_Age_crop.h5,
Model_Gender_crop.h5, Model_Emotion_Features.h5 and Model_Emotion_Merge.h5, in any case.";

/// Turns Keras files into one bundle that `infer` uses; shows, runs and checks both.
#[derive(Parser)]
#[command(name = "convert", version, after_help = EXAMPLES)]
pub struct Arguments {
    /// Keras files (.h5, .keras) or a folder of .h5 files; with --inspect, --run or --self-test one file
    #[arg(value_name = "FILE|DIR")]
    pub inputs: Vec<PathBuf>,

    /// Where the bundle or ONNX model goes; an existing file is replaced, but never an input
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["inspect", "run", "self_test"])]
    pub output: Option<PathBuf>,

    /// The network from mel windows to emotions, whatever its file is called
    #[arg(long, value_name = "FILE", help_heading = "Roles", requires = "output")]
    pub emotion_windows: Option<PathBuf>,
    /// The network from mel windows to age
    #[arg(long, value_name = "FILE", help_heading = "Roles", requires = "output")]
    pub age: Option<PathBuf>,
    /// The network from mel windows to gender
    #[arg(long, value_name = "FILE", help_heading = "Roles", requires = "output")]
    pub gender: Option<PathBuf>,
    /// The network from DCT, DST, histogram and moments to emotions
    #[arg(long, value_name = "FILE", help_heading = "Roles", requires = "output")]
    pub emotion_features: Option<PathBuf>,
    /// The network that merges all emotion weights
    #[arg(long, value_name = "FILE", help_heading = "Roles", requires = "output")]
    pub merge: Option<PathBuf>,

    /// The architecture of a file of weights alone: the text of Keras' to_json or to_yaml
    #[arg(
        long,
        value_name = "JSON|YAML",
        conflicts_with_all = ["emotion_windows", "age", "gender", "emotion_features", "merge", "self_test"]
    )]
    pub architecture: Option<PathBuf>,

    /// Format of the output: bundle (default), or onnx for other runtimes, from a Keras file or a bundle
    #[arg(
        long,
        value_name = "bundle|onnx",
        requires = "output",
        value_parser = parse_format
    )]
    pub to: Option<Format>,

    /// Give an ONNX model the states of stateful layers as further inputs and outputs
    #[arg(long, requires = "to")]
    pub state_inputs: bool,

    /// How a speech model brings recordings to 16 kHz: exact repeats the original to the last bit
    /// (default), fast takes one direct step
    #[arg(
        long,
        value_name = "exact|fast",
        requires = "output",
        value_parser = parse_resampling
    )]
    pub resampling: Option<Resampling>,

    /// List layers, shapes, parameters, FLOPs and origin of an .h5 file or a bundle
    #[arg(long, help_heading = "Instead of converting", conflicts_with_all = ["run", "self_test"])]
    pub inspect: bool,
    /// Replay the self-test that a bundle holds
    #[arg(long, help_heading = "Instead of converting", conflicts_with = "run")]
    pub self_test: bool,
    /// Run an .h5 file or a bundle on the arrays of INPUT.npz, named like the inputs, batch first
    #[arg(
        long,
        value_name = "INPUT.npz",
        help_heading = "Instead of converting",
        requires = "out"
    )]
    pub run: Option<PathBuf>,
    /// Where --run writes the outputs, named like in the model
    #[arg(
        long,
        value_name = "OUTPUT.npz",
        help_heading = "Running",
        requires = "run"
    )]
    pub out: Option<PathBuf>,
    /// Dropout that stays on at inference: off, or N draws (outputs [batch, N, ...])
    #[arg(long, value_name = "off|N", help_heading = "Running", requires = "run", value_parser = parse_draws)]
    pub dropout: Option<Draws>,
    /// Seed of the draws
    #[arg(
        long,
        help_heading = "Running",
        requires = "dropout",
        default_value_t = 0
    )]
    pub seed: u64,
    /// States of stateful layers: zeros if there is no such file yet, and written to it after the run,
    /// so that the next run continues
    #[arg(
        long,
        value_name = "STATES.npz",
        help_heading = "Running",
        requires = "run",
        conflicts_with = "dropout"
    )]
    pub states: Option<PathBuf>,
    /// Which network of a speech model to run or to write as ONNX: emotion_windows, age, gender,
    /// emotion_features or merge
    #[arg(long, help_heading = "Running", value_parser = parse_role)]
    pub role: Option<Role>,
}

/// Format of a converted network.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Bundle,
    Onnx,
}

/// `None` is off.
#[derive(Clone, Copy)]
pub struct Draws(pub Option<NonZeroU32>);

fn parse_draws(text: &str) -> Result<Draws, String> {
    match text {
        "off" => Ok(Draws(None)),
        _ => text
            .parse()
            .map(|n| Draws(Some(n)))
            .map_err(|_| "give `off` or a number of draws from 1 on".into()),
    }
}

fn parse_format(text: &str) -> Result<Format, String> {
    match text {
        "bundle" => Ok(Format::Bundle),
        "onnx" => Ok(Format::Onnx),
        _ => Err("give `bundle` or `onnx`".into()),
    }
}

fn parse_role(text: &str) -> Result<Role, String> {
    let wanted = text.replace('-', "_");
    Role::SPEECH
        .into_iter()
        .chain([Role::Speech])
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
