//! The front end of the default networks against the numpy program that defines it
//! (`tools/train/features.py`), on signals from `tools/train/utterance_golden.py`.

use std::f64::consts::TAU;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use maeum::front_end::FeatureError;
use maeum::front_end::utterance::{
    FRAME_VALUES, STAT_GROUPS, STATS, Utterance, UtteranceExtractor, UtteranceWindows,
    WINDOW_FRAMES,
};
use ndarray::ArrayD;
use ndarray_npy::{NpzReader, ReadableElement};
use proptest::prelude::*;

/// Tolerance of frame values against numpy. Rounding to single precision alone changes values of up
/// to 4 by 2.4e-7, and the goldens are rounded too.
const FRAMES: f64 = 1e-6;
/// Tolerance of descriptors against numpy, relative to the descriptor or to 1 if that is larger;
/// rounding to single precision is 6e-8 of it.
const DESCRIPTORS: f64 = 1e-7;
/// Tolerance of the pitch against numpy, in Hz: another order of summation moves the vertex of a
/// peak by about 1e-12.
const PITCH: f64 = 1e-9;
/// Tolerance of frame values and descriptors (relative as above) after a gain by a power of two:
/// the energy floors are at most 1e-10 of these signals' energies.
const GAIN: f64 = 1e-5;

static EXTRACTOR: LazyLock<UtteranceExtractor> = LazyLock::new(UtteranceExtractor::new);

struct Golden(NpzReader<std::fs::File>);

impl Golden {
    fn get<T: ReadableElement + Clone>(&mut self, key: &str) -> Vec<T> {
        let array: ArrayD<T> = self.0.by_name(key).unwrap();
        array.iter().cloned().collect()
    }

    fn signal(&mut self) -> Vec<f64> {
        let samples = self.get::<i16>("samples");
        samples.iter().map(|s| f64::from(*s) / 32768.0).collect()
    }
}

fn goldens() -> Vec<(String, Golden)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/utterance");
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "npz"))
        .collect();
    files.sort();
    assert_eq!(files.len(), 8, "goldens are missing");
    let open = |path: PathBuf| {
        let file = std::fs::File::open(&path).unwrap();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        (name, Golden(NpzReader::new(file).unwrap()))
    };
    files.into_iter().map(open).collect()
}

/// Returns the largest difference relative to the wanted value or to 1; infinite if any value is
/// NaN.
fn relative(got: impl IntoIterator<Item = f64>, wanted: impl IntoIterator<Item = f64>) -> f64 {
    let difference = |(g, w): (f64, f64)| (g - w).abs() / w.abs().max(1.0);
    let worst = |worst: f64, d: f64| {
        if d.is_nan() {
            f64::INFINITY
        } else {
            worst.max(d)
        }
    };
    got.into_iter().zip(wanted).map(difference).fold(0.0, worst)
}

fn wide(values: &[f32]) -> impl Iterator<Item = f64> {
    values.iter().map(|v| f64::from(*v))
}

#[test]
fn results_match_the_goldens() {
    for (name, mut golden) in goldens() {
        let utterance = EXTRACTOR.analyse(&golden.signal()).unwrap();
        let active: Vec<bool> = golden.get::<u8>("active").iter().map(|a| *a == 1).collect();
        let kept = golden.get::<u32>("kept");
        let start = kept[0] as usize;
        assert_eq!(utterance.kept, start..start + active.len(), "{name}");
        assert_eq!(utterance.total_frames, kept[1] as usize, "{name}");
        assert_eq!(utterance.active, active, "{name}");

        let f0 = golden.get::<f64>("f0");
        assert_eq!(utterance.f0.len(), f0.len(), "{name}");
        for (t, (got, wanted)) in utterance.f0.iter().zip(&f0).enumerate() {
            assert!(
                (got - wanted).abs() <= PITCH,
                "{name}, frame {t}: {got}, {wanted} Hz"
            );
        }

        let frames = golden.get::<f32>("frames");
        assert_eq!(utterance.frames.len(), frames.len(), "{name}");
        for (i, (got, wanted)) in wide(&utterance.frames).zip(wide(&frames)).enumerate() {
            let (t, value) = (i / FRAME_VALUES, i % FRAME_VALUES);
            assert!(
                (got - wanted).abs() <= FRAMES,
                "{name}, frame {t}, value {value}: {got}, {wanted}"
            );
        }

        let stats = golden.get::<f64>("stats");
        assert_eq!([utterance.stats.len(), stats.len()], [STATS; 2], "{name}");
        let names = STAT_GROUPS
            .iter()
            .flat_map(|(group, size)| (0..*size).map(move |i| format!("{group}[{i}]")));
        for ((got, wanted), statistic) in wide(&utterance.stats).zip(stats).zip(names) {
            assert!(
                relative([got], [wanted]) <= DESCRIPTORS,
                "{name}, {statistic}: {got}, {wanted}"
            );
        }
    }
}

#[test]
fn segments_match_the_definition() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/utterance/segments");
    for name in ["in_noise", "long", "noise"] {
        let file = std::fs::File::open(dir.join(format!("{name}.npz"))).unwrap();
        let mut golden = Golden(NpzReader::new(file).unwrap());
        let signal: Vec<f32> = golden.signal().iter().map(|x| *x as f32).collect();
        let found = EXTRACTOR.analyse_segments(signal.into()).unwrap();
        assert_eq!(
            u8::from(found.is_voiced),
            golden.get::<u8>("voiced")[0],
            "{name}"
        );
        let kept = golden.get::<u32>("kept");
        let ours: Vec<u32> = (found.segments.iter())
            .flat_map(|u| [u.kept.start as u32, u.kept.end as u32])
            .collect();
        assert_eq!(ours, kept, "{name}");
        let stats = golden.get::<f64>("stats");
        for (segment, wanted) in found.segments.iter().zip(stats.chunks(STATS)) {
            let worst = relative(wide(&segment.stats), wanted.iter().copied());
            assert!(worst <= DESCRIPTORS, "{name}: {worst}");
        }
    }
}

#[test]
fn groups_match_the_definition() {
    for (name, mut golden) in goldens() {
        let groups = String::from_utf8(golden.get::<u8>("groups")).unwrap();
        let ours: Vec<String> = STAT_GROUPS
            .iter()
            .map(|(k, n)| format!("{k} {n}"))
            .collect();
        assert_eq!(ours.join("\n"), groups, "{name}");
    }
}

#[test]
fn windows_match_the_definition() {
    for (name, mut golden) in goldens() {
        let utterance = EXTRACTOR.analyse(&golden.signal()).unwrap();
        let windows = utterance.windows();
        let places: Vec<usize> = golden
            .get::<u32>("windows")
            .iter()
            .map(|p| *p as usize)
            .collect();
        let rows: Vec<f32> = places
            .iter()
            .flat_map(|t| &utterance.frames[t * FRAME_VALUES..][..FRAME_VALUES])
            .copied()
            .collect();
        assert_eq!(windows.data(), rows, "{name}");
        let starts: Vec<usize> = places.chunks(WINDOW_FRAMES).map(|w| w[0]).collect();
        assert_eq!(windows.starts(), starts, "{name}");
        assert_eq!(windows.iter().len(), starts.len(), "{name}");
        for (i, places) in places.chunks(WINDOW_FRAMES).enumerate() {
            // Repeated frames are no longer in ascending order.
            let real = 1 + places.windows(2).take_while(|w| w[1] > w[0]).count();
            assert_eq!(windows.real_frames(i), real, "{name}");
        }
    }
}

#[test]
fn unusable_signals_are_errors() {
    let analyse = |signal: &[f64]| EXTRACTOR.analyse(signal).unwrap_err();
    assert_eq!(analyse(&[]), FeatureError::TooShort { samples: 0 });
    assert_eq!(
        analyse(&[0.5; 399]),
        FeatureError::TooShort { samples: 399 }
    );
    for value in [0.0, 0.1, -1e300] {
        let error = analyse(&vec![value; 8000]);
        assert!(
            matches!(error, FeatureError::Constant { .. }),
            "{value}: {error}"
        );
    }
    let faint: Vec<f64> = (0..8000).map(|i| f64::from(i % 7) * 1e-30).collect();
    assert!(matches!(analyse(&faint), FeatureError::Constant { .. }));
    let mut signal = vec![0.1; 8000];
    signal[17] = f64::INFINITY;
    let error = FeatureError::NotFinite {
        index: 17,
        value: f64::INFINITY,
    };
    assert_eq!(analyse(&signal), error);
}

#[test]
fn the_largest_samples_are_analysed_like_small_ones() {
    for (name, mut golden) in goldens() {
        let signal = golden.signal();
        let normal = EXTRACTOR.analyse(&signal).unwrap();
        let huge: Vec<f64> = signal.iter().map(|x| x * f64::MAX).collect();
        assert_same(&name, &EXTRACTOR.analyse(&huge).unwrap(), &normal);
    }
}

#[test]
fn one_extractor_serves_many_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&*EXTRACTOR);
}

fn assert_same(name: &str, got: &Utterance, wanted: &Utterance) {
    assert_eq!(got.kept, wanted.kept, "{name}");
    assert_eq!(got.active, wanted.active, "{name}");
    assert_eq!(got.stats.len(), wanted.stats.len(), "{name}");
    assert_eq!(got.frames.len(), wanted.frames.len(), "{name}");
    let stats = relative(wide(&got.stats), wide(&wanted.stats));
    assert!(stats <= GAIN, "{name}: descriptors differ by {stats:e}");
    let frames = relative(wide(&got.frames), wide(&wanted.frames));
    assert!(frames <= GAIN, "{name}: frames differ by {frames:e}");
}

fn assert_sound(signal: &[f64], u: &Utterance) {
    let kept = u.kept.len();
    assert_eq!(u.total_frames, 1 + signal.len() / 160);
    assert!(kept > 0 && u.kept.end <= u.total_frames);
    assert_eq!([u.active.len(), u.f0.len()], [kept; 2]);
    assert_eq!(
        [u.frames.len(), u.stats.len()],
        [kept * FRAME_VALUES, STATS]
    );
    assert!(u.active.contains(&true));
    assert!(u.frames.iter().chain(&u.stats).all(|v| v.is_finite()));
    // The vertex of a parabola lies at most half a lag (1/16 ms) beyond the shortest or longest
    // lag.
    assert!(u.f0.iter().all(|f| *f == 0.0 || (64.0..=645.0).contains(f)));
    let windows = u.windows();
    assert!(!windows.starts().is_empty());
    assert_eq!(
        windows.data().len(),
        windows.starts().len() * UtteranceWindows::VALUES
    );
}

/// Sounds from a click to speech-like: noise, a tone with harmonics, and silence, in turn.
fn any_signal() -> impl Strategy<Value = Vec<f64>> {
    let piece = (0_usize..3, 1_usize..4000, 60.0_f64..700.0, 0.001_f64..1.0);
    (prop::collection::vec(piece, 1..6), any::<u64>()).prop_map(|(pieces, seed)| {
        let mut state = seed | 1;
        let mut noise = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
        };
        let mut signal = Vec::new();
        for (kind, samples, hz, loudness) in pieces {
            for i in 0..samples {
                let turn: f64 = TAU * hz * i as f64 / 16_000.0;
                signal.push(match kind {
                    0 => loudness * noise(),
                    1 => loudness * (turn.sin() + 0.5 * (2.0 * turn).sin()) + 1e-3 * noise(),
                    _ => 0.0,
                });
            }
        }
        signal
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_signal_has_finite_values_or_an_error(signal in any_signal(), exponent in -300_i32..300) {
        let scaled: Vec<f64> = signal.iter().map(|x| x * 10_f64.powi(exponent)).collect();
        for signal in [signal, scaled] {
            match EXTRACTOR.analyse(&signal) {
                Ok(utterance) => assert_sound(&signal, &utterance),
                Err(FeatureError::TooShort { samples }) => prop_assert!(samples < 400),
                Err(e) => prop_assert!(matches!(e, FeatureError::Constant { .. }), "{}", e),
            }
        }
    }

    #[test]
    fn arbitrary_samples_do_not_panic(
        samples in prop::collection::vec(
            prop_oneof![Just(0.0), -1.0..1.0, prop::num::f64::ANY], 380..1500)
    ) {
        if let Ok(utterance) = EXTRACTOR.analyse(&samples) {
            assert_sound(&samples, &utterance);
        }
    }

    #[test]
    fn finite_samples_of_any_size_do_not_panic(
        samples in prop::collection::vec(
            prop_oneof![Just(0.0), -1.0..1.0, prop::num::f64::NORMAL], 380..1500)
    ) {
        if let Ok(utterance) = EXTRACTOR.analyse(&samples) {
            assert_sound(&samples, &utterance);
        }
    }

    #[test]
    fn a_gain_changes_nothing(case in 0_usize..8, exponent in -3_i32..40) {
        let (name, mut golden) = goldens().swap_remove(case);
        let signal = golden.signal();
        let louder: Vec<f64> = signal.iter().map(|x| x * 2_f64.powi(exponent)).collect();
        let normal = EXTRACTOR.analyse(&signal).unwrap();
        assert_same(&name, &EXTRACTOR.analyse(&louder).unwrap(), &normal);
    }
}
