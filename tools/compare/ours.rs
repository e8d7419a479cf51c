//! maeum as a contender of `tools/compare.py`, which describes the protocol.
//!
//! Usage: `compare REFERENCE_BUNDLE GOLDEN_DIR THREADS`

use std::collections::HashMap;
use std::error::Error;
use std::hint::black_box;
use std::io::{self, BufRead, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use maeum::app::batch::Batch;
use maeum::app::inputs::Input;
use maeum::audio::decode::decode_path;
use maeum::formats::ErrorCode;
use maeum::front_end::legacy2020::WINDOW_FRAMES;
use maeum::front_end::legacy2020::windows::window_starts;
use maeum::model::{Model, Role, bundle};
use maeum::nn::npz::NpzFile;
use maeum::nn::{DropoutMode, Plan, RunError, Session};
use maeum::recognizer::{Recognizer, Worker};
use maeum::simd::Isa;
use rayon::prelude::*;

type Failure = Box<dyn Error + Send + Sync>;

const BRANCHES: [&str; 4] = ["dct", "dst", "hist", "moments"];
const WINDOW_ROLES: [Role; 3] = [Role::EmotionWindows, Role::Age, Role::Gender];
const EMOTIONS: usize = 7;
const BANDS: usize = 40;

/// Captured network inputs of one recording.
struct Captured {
    /// Frames of all windows, and the first frame of each window.
    frames: Vec<f32>,
    starts: Vec<usize>,
    branches: Vec<Vec<f32>>,
}

impl Captured {
    fn read(golden: &Path, recording: &str) -> Result<Self, Failure> {
        let npz = NpzFile::open(&golden.join(format!("{recording}.npz")))?;
        let windows = npz.read("crops")?.data;
        let frames = npz.read("frames")?.data[0] as usize;
        let starts = window_starts(frames);
        const VALUES: usize = WINDOW_FRAMES * BANDS;
        if windows.len() != starts.len() * VALUES {
            return Err(format!("{recording}: {} windows were expected", starts.len()).into());
        }
        let rows = starts.last().map_or(0, |last| last + WINDOW_FRAMES);
        let mut frames = vec![0.0; rows * BANDS];
        let places = || starts.iter().map(|start| start * BANDS);
        for (at, window) in places().zip(windows.chunks_exact(VALUES)) {
            frames[at..][..VALUES].copy_from_slice(window);
        }
        let mut cut = places().zip(windows.chunks_exact(VALUES));
        if !cut.all(|(at, window)| frames[at..][..VALUES] == *window) {
            return Err(format!("{recording}: the windows differ where they overlap").into());
        }
        let branches = BRANCHES
            .iter()
            .map(|name| Ok(npz.read(name)?.data))
            .collect::<Result<_, Failure>>()?;
        Ok(Self {
            frames,
            starts,
            branches,
        })
    }
}

/// Work of one thread.
enum Part {
    /// One network on consecutive windows.
    Windows(Session, Range<usize>),
    Features(Session),
}

impl Part {
    fn run(&mut self, input: &Captured, dropout: &DropoutMode) -> Result<(), RunError> {
        match self {
            Self::Windows(session, range) => windows(session, input, range.clone()),
            Self::Features(session) => {
                let branches: Vec<&[f32]> = input.branches.iter().map(|b| &**b).collect();
                session.run(&branches, 1, dropout)
            }
        }
    }
}

/// Runs a window network like the recogniser: computations shared by overlapping windows run once.
fn windows(session: &mut Session, input: &Captured, range: Range<usize>) -> Result<(), RunError> {
    session.run_windows(&input.frames, &input.starts[range], &DropoutMode::Off)
}

/// The five networks on one recording's captured inputs.
struct Networks {
    input: Captured,
    /// Parts in order: the emotion windows first, the features last.
    parts: Vec<Part>,
    merge: Session,
    threads: Option<rayon::ThreadPool>,
}

impl Networks {
    fn new(model: &Model, input: Captured, threads: usize) -> Result<Self, Failure> {
        let session = |role| -> Result<Session, Failure> {
            let graph = &model.network(role).ok_or("a network is missing")?.graph;
            let shapes = graph.fixed_input_shapes().ok_or("open input shapes")?;
            let plan = Plan::new(graph, &shapes)?;
            Ok(Session::new(&Arc::new(plan)))
        };
        let mut parts = Vec::new();
        for role in WINDOW_ROLES {
            for range in shares(input.starts.len(), threads) {
                parts.push(Part::Windows(session(role)?, range));
            }
        }
        parts.push(Part::Features(session(Role::EmotionFeatures)?));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        Ok(Self {
            input,
            parts,
            merge: session(Role::Merge)?,
            threads: (threads > 1).then(|| pool.build()).transpose()?,
        })
    }

    /// Computes all networks; returns the merged emotion weights, one row per draw.
    fn run(&mut self, dropout: &DropoutMode) -> Result<&[f32], Failure> {
        let Self {
            input,
            parts,
            merge,
            threads,
        } = self;
        match threads {
            None => parts.iter_mut().try_for_each(|p| p.run(input, dropout))?,
            Some(pool) => pool.install(|| {
                let parts = parts.par_iter_mut().with_max_len(1);
                parts.try_for_each(|p| p.run(input, dropout))
            })?,
        }
        let mut mean = [0.0; EMOTIONS];
        let of_emotions = (parts.len() - 1) / WINDOW_ROLES.len();
        for part in &parts[..of_emotions] {
            let Part::Windows(session, _) = part else {
                return Err("the emotion windows come first".into());
            };
            for row in session.output(0).chunks_exact(EMOTIONS) {
                mean.iter_mut().zip(row).for_each(|(m, x)| *m += x);
            }
        }
        let Some(Part::Features(features)) = parts.last() else {
            return Err("the features come last".into());
        };
        let rows = features.rows();
        let windows = input.starts.len() as f32;
        let means = mean.map(|sum| sum / windows).repeat(rows);
        let mut inputs = vec![&*means];
        inputs.extend((0..=BRANCHES.len()).map(|k| features.output(k)));
        merge.run(&inputs, rows, &DropoutMode::Off)?;
        Ok(merge.output(0))
    }
}

/// Splits `0..n` into at most `parts` ranges of nearly equal length.
fn shares(n: usize, parts: usize) -> Vec<Range<usize>> {
    let bound = |i: usize| n * i / parts;
    (0..parts)
        .map(|i| bound(i)..bound(i + 1))
        .filter(|range| !range.is_empty())
        .collect()
}

/// State that persists between requests.
struct Contender {
    reference: Model,
    golden: PathBuf,
    threads: usize,
    networks: HashMap<String, Networks>,
    recognizers: HashMap<String, (&'static Recognizer, Worker<'static>)>,
}

impl Contender {
    fn networks(&mut self, recording: &str) -> Result<&mut Networks, Failure> {
        if !self.networks.contains_key(recording) {
            let input = Captured::read(&self.golden, recording)?;
            let networks = Networks::new(&self.reference, input, self.threads)?;
            self.networks.insert(recording.into(), networks);
        }
        Ok(self.networks.get_mut(recording).expect("just inserted"))
    }

    /// Returns the recogniser of a bundle, by its path or `default`.
    fn recognizer(
        &mut self,
        bundle: &str,
    ) -> Result<&mut (&'static Recognizer, Worker<'static>), Failure> {
        if !self.recognizers.contains_key(bundle) {
            let model = match bundle {
                "default" => maeum::default_model::load()?,
                path => bundle::load(Path::new(path))?,
            };
            // The worker, which borrows the recogniser, lives as long as the process.
            let recognizer: &'static Recognizer = Box::leak(Box::new(Recognizer::new(model)?));
            let worker = recognizer.worker();
            self.recognizers.insert(bundle.into(), (recognizer, worker));
        }
        Ok(self.recognizers.get_mut(bundle).expect("just inserted"))
    }

    fn reply(&mut self, request: &[&str]) -> Result<String, Failure> {
        match *request {
            ["isa"] => Ok(Isa::chosen()?.name().into()),
            ["answer", recording] => {
                let answer = self.networks(recording)?.run(&DropoutMode::Off)?;
                let answer: Vec<String> = answer.iter().map(f32::to_string).collect();
                Ok(answer.join(" "))
            }
            ["networks", recording, n] => self.time_networks(recording, "off", n),
            ["draws", recording, draws, n] => self.time_networks(recording, draws, n),
            ["recording", bundle, draws, path, n] => {
                let dropout = dropout(draws)?;
                let (_, worker) = self.recognizer(bundle)?;
                time(n, || {
                    let recording = decode_path(path)?;
                    black_box(worker.recognize_owned(recording, path, &dropout)?);
                    Ok(())
                })
            }
            ["batch", bundle, draws, threads, n, ref paths @ ..] => {
                let recognizer = self.recognizer(bundle)?.0;
                let batch = Batch::new(recognizer, dropout(draws)?, threads.parse()?)?;
                let inputs: Vec<Input> = paths
                    .iter()
                    .map(|path| Input::file((*path).into(), path.into()))
                    .collect();
                time(n, || {
                    batch.run(&inputs, |_, outcome| match outcome {
                        // One of the recordings is noise, which the built-in model refuses.
                        Err(error) if error.code != ErrorCode::NoSpeech => Err(error),
                        outcome => {
                            let _ = black_box(outcome);
                            Ok(())
                        }
                    })?;
                    Ok(())
                })
            }
            ["core", bundle, draws, folder] => {
                let dropout = dropout(draws)?;
                let (_, worker) = self.recognizer(bundle)?;
                let mut recordings = Vec::new();
                for entry in std::fs::read_dir(folder)? {
                    recordings.push(decode_path(entry?.path())?);
                }
                time("1", || {
                    for recording in &recordings {
                        // Recordings without speech are refused.
                        let _ = black_box(worker.recognize(recording, "recording", &dropout));
                    }
                    Ok(())
                })
            }
            _ => Err("unknown request".into()),
        }
    }

    fn time_networks(&mut self, recording: &str, draws: &str, n: &str) -> Result<String, Failure> {
        let dropout = dropout(draws)?;
        let networks = self.networks(recording)?;
        time(n, || {
            black_box(networks.run(&dropout)?);
            Ok(())
        })
    }
}

fn dropout(draws: &str) -> Result<DropoutMode, Failure> {
    Ok(match draws {
        "off" => DropoutMode::Off,
        n => DropoutMode::draws(n.parse()?, 0),
    })
}

/// Returns the mean nanoseconds of `work` over `n` calls.
fn time(n: &str, mut work: impl FnMut() -> Result<(), Failure>) -> Result<String, Failure> {
    let n: u32 = n.parse()?;
    let start = Instant::now();
    for _ in 0..n {
        work()?;
    }
    Ok((start.elapsed().as_nanos() / u128::from(n.max(1))).to_string())
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments == ["--bench"] {
        println!("compare measures only for tools/compare.py");
        return Ok(());
    }
    let [reference, golden, threads] = &arguments[..] else {
        return Err("usage: compare REFERENCE_BUNDLE GOLDEN_DIR THREADS".into());
    };
    let mut contender = Contender {
        reference: bundle::load(Path::new(reference))?,
        golden: golden.into(),
        threads: threads.parse()?,
        networks: HashMap::new(),
        recognizers: HashMap::new(),
    };
    println!("ready");
    for line in io::stdin().lock().lines() {
        let line = line?;
        let request: Vec<&str> = line.split('\t').collect();
        let reply = contender.reply(&request);
        println!("{}", reply.map_err(|e| format!("{line:?}: {e}"))?);
        io::stdout().flush()?;
    }
    Ok(())
}
