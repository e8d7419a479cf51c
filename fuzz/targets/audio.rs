//! Recordings of any container.

use std::io::Cursor;

use maeum::audio::Recording;
use maeum::audio::decode::{
    DecodeError, Limit, MAX_CHANNELS, MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, Options, decode_with,
};

use super::is_sampled;

/// Short enough for many tries: a few bytes of FLAC may stand for hours of silence.
const LIMIT: Limit = Limit {
    seconds: 60,
    frames: 1 << 19,
};

fn decode(bytes: &[u8], channel: Option<u32>) -> Result<Recording, DecodeError> {
    let options = Options {
        limit: LIMIT,
        channel,
    };
    let result = decode_with(bytes, "some name", options);
    match &result {
        Ok(recording) => assert_sound(recording),
        Err(error) => {
            let message = error.to_string();
            assert!(message.starts_with("some name: "), "{message}");
            assert!(message.len() < 4096, "{message}");
        }
    }
    result
}

/// All that the documentation of [`Recording`] promises.
fn assert_sound(r: &Recording) {
    assert!(!r.samples.is_empty(), "{r:?}");
    assert!(r.samples.len() <= LIMIT.frames(r.sample_rate), "{r:?}");
    let is_sound = |x: &f32| (-1.0..=1.0).contains(x);
    let wrong = r.samples.iter().find(|x| !is_sound(x));
    assert_eq!(wrong, None, "{r:?}");
    assert!(
        (MIN_SAMPLE_RATE..=MAX_SAMPLE_RATE).contains(&r.sample_rate),
        "{r:?}"
    );
    assert!((1..=MAX_CHANNELS).contains(&r.channels), "{r:?}");
    assert!((0.0..=1.0).contains(&r.clipped_fraction()), "{r:?}");
    assert!(!r.format.is_empty() && r.seconds().is_finite(), "{r:?}");
    for defect in &r.defects {
        assert!(!defect.to_string().is_empty(), "{r:?}");
    }
}

/// Whole files: the container is recognised, taken apart, decoded and joined.
pub fn any(input: &[u8]) {
    let mixed = decode(input, None);
    if !is_sampled(input, 8) {
        return;
    }
    let first = decode(input, Some(1));
    match (mixed, first) {
        (Ok(mixed), Ok(first)) => {
            assert_eq!(mixed.sample_rate, first.sample_rate);
            assert_eq!(mixed.samples.len(), first.samples.len());
            if mixed.channels == 1 {
                assert!(mixed.samples == first.samples, "{mixed:?} {first:?}");
            }
        }
        // Sound of one channel may be finite where that of another is not.
        (Err(_), _) => {}
        (Ok(mixed), Err(error)) => panic!("{mixed:?} has no first channel: {error}"),
    }
}

/// Plain WAV files against another reader of them.
pub fn wav(input: &[u8]) {
    let ours = decode(input, None);
    let Some(theirs) = by_hound(input) else {
        return;
    };
    let Ok(ours) = ours else { return };
    // Others believe a header that this crate corrects.
    if ours.truncated || !ours.defects.is_empty() || ours.channels != 1 {
        return;
    }
    // More than one recording may lie in a file, of which the other reader sees the first.
    let same = ours.samples.iter().zip(&theirs).all(|(a, b)| a == b);
    assert!(
        same && ours.samples.len() >= theirs.len(),
        "{ours:?}: {:?}, not {:?}",
        &ours.samples[..ours.samples.len().min(8)],
        &theirs[..theirs.len().min(8)],
    );
}

/// The samples of a file with one channel whose every sample hound reads.
fn by_hound(input: &[u8]) -> Option<Vec<f32>> {
    let mut reader = hound::WavReader::new(Cursor::new(input)).ok()?;
    let spec = reader.spec();
    // In 4-byte containers, 24 bits may lie at either end; hound always takes the lower one.
    let packed = input.get(12..16) == Some(b"fmt ") && input.get(32..34) == Some(&[3, 0]);
    if spec.bits_per_sample == 24 && !packed {
        return None;
    }
    if spec.channels != 1 || reader.len() as usize > LIMIT.frames(spec.sample_rate) {
        return None;
    }
    let to_16_bits = |x: i32| match spec.bits_per_sample {
        8 => x << 8,
        24 => x >> 8,
        32 => x >> 16,
        _ => x,
    };
    match (spec.sample_format, spec.bits_per_sample) {
        (hound::SampleFormat::Int, 8 | 16 | 24 | 32) => {
            let samples = reader.samples::<i32>();
            samples
                .map(|x| x.ok().map(|x| to_16_bits(x) as f32 / 32768.0))
                .collect()
        }
        (hound::SampleFormat::Float, 32) => {
            let samples = reader.samples::<f32>();
            samples
                .map(|x| {
                    let x = (x.ok()? * 32768.0).round_ties_even();
                    Some(x.clamp(-32768.0, 32767.0) / 32768.0)
                })
                .collect()
        }
        _ => None,
    }
}
