//! The voice detector against WebRTC's C code (crate `webrtc-vad`), frame by frame, and against
//! captured decisions on recordings.

#[path = "vad/legacy2020.rs"]
mod legacy2020;

use std::f64::consts::TAU;

use crate::common;
use maeum::audio::vad::{Mode, SampleRate, Vad, VadError};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

fn upstream(rate: SampleRate, mode: Mode) -> webrtc_vad::Vad {
    let rate = webrtc_vad::SampleRate::try_from(rate.hz() as i32).unwrap();
    let mode = match mode {
        Mode::Quality => webrtc_vad::VadMode::Quality,
        Mode::LowBitrate => webrtc_vad::VadMode::LowBitrate,
        Mode::Aggressive => webrtc_vad::VadMode::Aggressive,
        Mode::VeryAggressive => webrtc_vad::VadMode::VeryAggressive,
    };
    webrtc_vad::Vad::new_with_rate_and_mode(rate, mode)
}

/// Counts of both decisions, to ensure that a signal exercises both.
#[derive(Default)]
struct Seen {
    voiced: usize,
    frames: usize,
}

/// Runs both detectors on frames of the given lengths in turn, and requires equal decisions.
fn compare(name: &str, rate: SampleRate, mode: Mode, lengths: &[usize], signal: &[i16]) -> Seen {
    let mut ours = Vad::new(rate, mode);
    let mut theirs = upstream(rate, mode);
    let mut seen = Seen::default();
    let mut rest = signal;
    for &length in lengths.iter().cycle() {
        let Some((frame, after)) = rest.split_at_checked(length) else {
            break;
        };
        rest = after;
        let decision = ours.is_speech(frame).unwrap();
        assert_eq!(
            Ok(decision),
            theirs.is_voice_segment(frame),
            "{name}: frame {} of {length} samples at {} Hz, {mode:?}",
            seen.frames,
            rate.hz()
        );
        seen.frames += 1;
        seen.voiced += usize::from(decision);
    }
    assert!(seen.frames > 0, "{name}: no frame");
    seen
}

/// Runs [`compare`] in all modes, with frames of 10, 20 and 30 ms, and with the three in turn.
fn compare_all(name: &str, rate: SampleRate, signal: &[i16]) -> Seen {
    let lengths = rate.frame_lengths();
    let mut total = Seen::default();
    for mode in Mode::ALL {
        for lengths in lengths
            .iter()
            .map(std::slice::from_ref)
            .chain([&lengths[..]])
        {
            let seen = compare(name, rate, mode, lengths, signal);
            total.voiced += seen.voiced;
            total.frames += seen.frames;
        }
    }
    total
}

/// Reproducible noise (SplitMix64).
struct Noise(u64);

impl Noise {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a uniform value in [-1, 1).
    fn sample(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

/// Scales to 16 bits, with clipping.
fn quantize(x: f64) -> i16 {
    (x * 32768.0) as i16
}

/// Samples `f(time in seconds)` for `seconds`, quantised.
fn synthesize(rate: SampleRate, seconds: f64, mut f: impl FnMut(f64) -> f64) -> Vec<i16> {
    let hz = f64::from(rate.hz());
    (0..(seconds * hz) as usize)
        .map(|i| quantize(f(i as f64 / hz)))
        .collect()
}

fn at_all_rates(name: &str, signal: impl Fn(SampleRate) -> Vec<i16>) -> Seen {
    let mut total = Seen::default();
    for rate in SampleRate::ALL {
        let seen = compare_all(name, rate, &signal(rate));
        total.voiced += seen.voiced;
        total.frames += seen.frames;
    }
    total
}

#[test]
fn silence_is_not_speech() {
    let seen = at_all_rates("silence", |rate| vec![0; rate.hz() as usize * 3]);
    assert_eq!(seen.voiced, 0);
}

#[test]
fn constant_levels_agree() {
    for level in [1, -1, 100, -20_000, i16::MAX, i16::MIN] {
        at_all_rates("constant", |rate| vec![level; rate.hz() as usize * 2]);
    }
}

#[test]
fn white_noise_agrees() {
    for (seed, gain) in [1e-4, 1e-3, 0.01, 0.1, 0.5, 1.0, 4.0]
        .into_iter()
        .enumerate()
    {
        at_all_rates("noise", |rate| {
            let mut noise = Noise(seed as u64);
            synthesize(rate, 5.0, |_| gain * noise.sample())
        });
    }
}

#[test]
fn tones_agree() {
    for hz in [30.0, 120.0, 330.0, 800.0, 1500.0, 2500.0, 3500.0, 3990.0] {
        for gain in [1e-3, 0.1, 1.0, 3.0] {
            at_all_rates("tone", |rate| {
                synthesize(rate, 2.0, |t| gain * (TAU * hz * t).sin())
            });
        }
    }
}

#[test]
fn full_scale_square_waves_agree() {
    for hz in [3.0, 50.0, 250.0, 333.0, 1000.0, 2000.0, 4000.0] {
        at_all_rates("square", |rate| {
            let half = f64::from(rate.hz()) / hz / 2.0;
            (0..rate.hz() as usize * 2)
                .map(|i| match (i as f64 / half) as usize % 2 {
                    0 => i16::MAX,
                    _ => i16::MIN,
                })
                .collect()
        });
    }
}

#[test]
fn chirps_agree() {
    for gain in [0.01, 0.3, 1.0] {
        at_all_rates("chirp", |rate| {
            synthesize(rate, 6.0, |t| gain * (TAU * 350.0 * t * t).sin())
        });
    }
}

/// Syllable-like bursts over changing background noise, which make both models adapt.
#[test]
fn bursts_over_changing_noise_agree() {
    let seen = at_all_rates("bursts", |rate| {
        let mut noise = Noise(7);
        synthesize(rate, 20.0, |t| {
            let background = if t < 10.0 { 0.002 } else { 0.03 };
            let burst = (TAU * 1.5 * t).sin().max(0.0) * if t as u64 % 4 == 3 { 0.0 } else { 0.3 };
            let voice: f64 = (1..12)
                .map(|k| (TAU * 140.0 * f64::from(k) * t).sin() / f64::from(k))
                .sum();
            background * noise.sample() + burst * voice
        })
    });
    assert!(seen.voiced * 5 > seen.frames && seen.voiced * 5 < seen.frames * 4);
}

/// The detectors stay equal over minutes.
#[test]
fn minutes_of_quiet_and_noise_agree() {
    let rate = SampleRate::Khz8;
    let mut noise = Noise(11);
    let signal: Vec<i16> = (0..40_000 * 80)
        .map(|i| quantize(noise.sample() * if i % 400_000 < 9_000 { 0.2 } else { 2e-3 }))
        .collect();
    let seen = compare("long", rate, Mode::Aggressive, &[80], &signal);
    assert!(seen.voiced > 0 && seen.voiced < seen.frames);
}

#[derive(Debug, Clone, Copy)]
enum Sound {
    Noise,
    Bits,
    Tone(f64),
    Beats(f64),
    Extremes,
    Spikes,
    Level(i16),
}

fn sound() -> impl Strategy<Value = Sound> {
    prop_oneof![
        Just(Sound::Noise),
        Just(Sound::Bits),
        (20.0..4000.0).prop_map(Sound::Tone),
        (20.0..4000.0).prop_map(Sound::Beats),
        Just(Sound::Extremes),
        Just(Sound::Spikes),
        any::<i16>().prop_map(Sound::Level),
    ]
}

/// Sections of up to a second, each a sound at a gain from -100 to +12 dB.
fn stretches() -> impl Strategy<Value = Vec<(Sound, f64, f64)>> {
    let gain = (-5.0..0.6_f64).prop_map(|exponent| 10_f64.powf(exponent));
    prop::collection::vec((sound(), gain, 0.05..1.0), 5..16)
}

fn render(stretches: &[(Sound, f64, f64)], rate: SampleRate, seed: u64) -> Vec<i16> {
    let mut noise = Noise(seed);
    let mut signal = Vec::new();
    for &(sound, gain, seconds) in stretches {
        let samples = (seconds * f64::from(rate.hz())) as usize;
        signal.extend((0..samples).map(|i| {
            let t = i as f64 / f64::from(rate.hz());
            match sound {
                Sound::Noise => quantize(gain * noise.sample() * (TAU * 3.0 * t).cos()),
                Sound::Bits => noise.bits() as i16,
                Sound::Tone(hz) => quantize(gain * (TAU * hz * t).sin()),
                Sound::Beats(hz) => quantize(
                    gain * (TAU * hz * t).sin() * (TAU * 4.0 * t).sin() + 1e-3 * noise.sample(),
                ),
                Sound::Extremes => [i16::MIN, i16::MAX][(noise.bits() >> 63) as usize],
                Sound::Spikes if noise.bits().is_multiple_of(700) => i16::MIN,
                Sound::Spikes => quantize(1e-3 * noise.sample()),
                Sound::Level(level) => level,
            }
        }));
    }
    // Padding ensures at least one frame of each length.
    signal.resize(signal.len() + rate.hz() as usize / 10, 0);
    signal
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_signal_agrees(
        stretches in stretches(),
        rate in prop::sample::select(&SampleRate::ALL[..]),
        seed in any::<u64>(),
    ) {
        compare_all("proptest", rate, &render(&stretches, rate, seed));
    }

    #[test]
    fn any_samples_agree(
        samples in prop::collection::vec(any::<i16>(), 1440..10_000),
        rate in prop::sample::select(&SampleRate::ALL[..]),
    ) {
        compare_all("samples", rate, &samples);
    }
}

#[test]
fn other_frame_lengths_are_errors_and_leave_the_state() {
    for rate in SampleRate::ALL {
        let mut noise = Noise(3);
        let signal = synthesize(rate, 3.0, |t| (TAU * t).sin() * 0.3 * noise.sample());
        let frame = rate.frame_lengths()[2];
        let mut plain = Vad::new(rate, Mode::Aggressive);
        let mut disturbed = plain.clone();
        for good in signal.chunks_exact(frame) {
            for length in [0, 1, frame - 1, frame + 1, 4 * frame / 3, 2 * frame] {
                let error = disturbed.is_speech(&vec![i16::MAX; length]).unwrap_err();
                assert_eq!(
                    error,
                    VadError::FrameLength {
                        length,
                        rate: rate.hz(),
                        allowed: rate.frame_lengths(),
                    }
                );
            }
            assert_eq!(plain.is_speech(good), disturbed.is_speech(good));
        }
    }
    let message = Vad::new(SampleRate::Khz16, Mode::Quality)
        .is_speech(&[0; 100])
        .unwrap_err()
        .to_string();
    assert_eq!(
        message,
        "a frame of 100 samples is not 10, 20 or 30 ms at 16000 Hz: give frames of 160, 320 or 480 samples"
    );
}

#[test]
fn reset_restores_the_initial_state() {
    for rate in SampleRate::ALL {
        let length = rate.frame_lengths()[0];
        let mut noise = Noise(5);
        let steady = synthesize(rate, 6.0, |_| 0.05 * noise.sample());
        let decide = |vad: &mut Vad| -> Vec<bool> {
            steady
                .chunks_exact(length)
                .map(|frame| vad.is_speech(frame).unwrap())
                .collect()
        };
        let mut vad = Vad::new(rate, Mode::LowBitrate);
        let first = decide(&mut vad);
        let second = decide(&mut vad);
        assert_ne!(first, second, "the stream is remembered");
        vad.reset();
        assert_eq!((vad.sample_rate(), vad.mode()), (rate, Mode::LowBitrate));
        assert_eq!(decide(&mut vad), first);
    }
}

#[test]
fn rates_and_modes_by_number() {
    for rate in SampleRate::ALL {
        assert_eq!(SampleRate::try_from(rate.hz()), Ok(rate));
    }
    for (number, mode) in (0u8..).zip(Mode::ALL) {
        assert_eq!(Mode::try_from(number), Ok(mode));
    }
    for hz in [0, 16, 22_050, 44_100, u32::MAX] {
        assert_eq!(SampleRate::try_from(hz), Err(VadError::SampleRate(hz)));
    }
    assert_eq!(Mode::try_from(4), Err(VadError::Mode(4)));
}

/// Speech (the first channel), interpreted at each of the four rates.
#[test]
fn recordings_agree() {
    let Some(dir) = common::legacy2020_dir() else {
        return;
    };
    for name in common::all_recordings() {
        let (interleaved, channels, _) = legacy2020::read_wav(&common::recording(&dir, name));
        let signal: Vec<i16> = interleaved.into_iter().step_by(channels).collect();
        let seen = at_all_rates(name, |_| signal.clone());
        assert!(seen.voiced > 0, "{name}");
    }
}

/// Tolerance of the noise filter's output (at most 1) against the capture: another order of `f64`
/// summation.
const FILTERED_TOLERANCE: f64 = 1e-12;

#[test]
fn captured_decisions_are_reproduced() {
    let Some(dir) = common::legacy2020_dir() else {
        return;
    };
    const FRAME: usize = 480;
    let (mut voiced, mut frames) = (0, 0);
    for name in common::all_recordings() {
        let mut golden = common::Golden::open(&dir, name);
        let (_, expected) = golden.get::<u8>("vad");
        let mut filtered = legacy2020::filtered(&common::recording(&dir, name));
        if golden.has("wiener") {
            let (_, captured) = golden.get::<f64>("wiener");
            assert_eq!(filtered.len(), captured.len(), "{name}");
            for (i, (here, there)) in filtered.iter().zip(&captured).enumerate() {
                assert!(
                    (here - there).abs() < FILTERED_TOLERANCE,
                    "{name}: filtered sample {i} is {here}, not {there}"
                );
            }
            filtered = captured;
        }
        assert_eq!(filtered.len(), expected.len(), "{name}");

        let mut input = legacy2020::detector_input(&filtered);
        input.resize((filtered.len() / FRAME + 1) * FRAME, 0);
        let mut vad = Vad::new(SampleRate::Khz16, Mode::Aggressive);
        let mut theirs = upstream(SampleRate::Khz16, Mode::Aggressive);
        for (i, frame) in input.chunks_exact(FRAME).enumerate() {
            let decision = vad.is_speech(frame).unwrap();
            assert_eq!(
                Ok(decision),
                theirs.is_voice_segment(frame),
                "{name}: frame {i}"
            );
            let captured = expected.get(i * FRAME..).unwrap_or_default();
            assert!(
                captured
                    .iter()
                    .take(FRAME)
                    .all(|&x| x == u8::from(decision)),
                "{name}: frame {i} is {decision} here"
            );
            frames += 1;
            voiced += usize::from(decision);
        }
    }
    println!("{frames} frames of captured recordings, {voiced} voiced: all as captured");
    assert!(voiced > 0 && voiced < frames);
}
