//! Recordings with wrong headers, and damaged files: each decodes or fails with a clear error, in
//! bounded memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Once;

use crate::wav::{FORMATS, Wav, as_integers, chunk, fixture, pattern, widened};
use maeum::audio::decode::{decode, decode_path, decode_reader};
use maeum::audio::{Fault, Recording, silence_caught_panics};
use proptest::prelude::*;

/// Allocator that counts the live bytes of each thread, to show that no header field decides the
/// memory usage.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // The thread-local counter no longer exists while a thread ends.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps the contract of `dealloc`, and `alloc` is the system's.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Maximum memory for a damaged file of a few kilobytes. Decoders keep tables and buffers of a few
/// megabytes; trusting a length field would take gigabytes.
const MEMORY: isize = 64 << 20;

/// Returns the result and the peak memory of a decoding.
fn measured(bytes: &[u8]) -> (Result<Recording, Fault>, isize) {
    // A panic report may contain a backtrace, which takes more memory than any decoder.
    static QUIET: Once = Once::new();
    QUIET.call_once(silence_caught_panics);
    let before = HELD.get();
    PEAK.set(before);
    let result = decode(bytes, "x").map_err(|e| e.fault);
    (result, PEAK.get() - before)
}

#[test]
fn wrong_header_fields_are_corrected() {
    let pattern = pattern();
    let good = Wav::pcm16(&pattern);
    let text = chunk(b"LIST", b"INFOISFT\x04\0\0\0abcd");
    let odd = |pad: &[u8]| [&chunk(b"note", b"odd")[..], pad].concat();
    let ds64 = |length: u64| {
        chunk(
            b"ds64",
            &[&[0; 8], &length.to_le_bytes()[..], &[0; 12]].concat(),
        )
    };
    let length = good.data.len() as u64;
    let late_format = [
        &b"RIFF\0\0\0\0WAVE"[..],
        &chunk(b"data", &good.data),
        &chunk(b"fmt ", &good.format()),
    ];
    let cases: Vec<(&str, Vec<u8>, bool)> = vec![
        (
            "length 0",
            good.clone().with(|w| w.length = Some(0)).bytes(),
            false,
        ),
        (
            "length -1",
            good.clone().with(|w| w.length = Some(u32::MAX)).bytes(),
            false,
        ),
        (
            "arecord",
            good.clone().with(|w| w.length = Some(0x7FFF_FFDB)).bytes(),
            false,
        ),
        (
            "past the end",
            good.clone().with(|w| w.length = Some(5_000)).bytes(),
            true,
        ),
        (
            "an odd byte",
            good.clone().with(|w| w.data.push(7)).bytes(),
            false,
        ),
        (
            "odd chunk, padded",
            good.clone().with(|w| w.before = odd(b"\0")).bytes(),
            false,
        ),
        (
            "odd chunk, not padded",
            good.clone().with(|w| w.before = odd(b"")).bytes(),
            false,
        ),
        (
            "text before",
            good.clone().with(|w| w.before = text.clone()).bytes(),
            false,
        ),
        (
            "text after",
            good.clone().with(|w| w.after = text.clone()).bytes(),
            false,
        ),
        (
            "no frame size",
            good.clone().with(|w| w.align = 0).bytes(),
            false,
        ),
        ("format after data", late_format.concat(), false),
        (
            "RF64",
            {
                let long = |w: &mut Wav| {
                    (w.riff, w.length, w.before) = (b"RF64", Some(u32::MAX), ds64(length));
                    w.after = text.clone();
                };
                good.clone().with(long).bytes()
            },
            false,
        ),
        (
            "BW64, cut",
            {
                let long = |w: &mut Wav| {
                    (w.riff, w.length, w.before) = (b"BW64", Some(u32::MAX), ds64(1 << 40));
                };
                good.clone().with(long).bytes()
            },
            true,
        ),
    ];
    for (name, bytes, truncated) in cases {
        let (recording, memory) = measured(&bytes);
        let recording = recording.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(as_integers(&recording), widened(&pattern), "{name}");
        assert_eq!(recording.truncated, truncated, "{name}");
        assert!(memory < MEMORY, "{name}: {memory} bytes");
    }
}

#[test]
fn faults_are_named() {
    let good = Wav::pcm16(&pattern());
    let float = |v: f32| {
        Wav::new(
            3,
            32,
            [0.0, 0.0, 0.0, v]
                .iter()
                .flat_map(|v: &f32| v.to_le_bytes())
                .collect(),
        )
    };
    let absurd = [&b"note"[..], &u32::MAX.to_le_bytes()].concat();
    let flac = std::fs::read(fixture("sweep.flac")).unwrap();
    type Case = (&'static str, Vec<u8>, fn(&Fault) -> bool, &'static str);
    let cases: Vec<Case> = vec![
        ("empty", vec![], |f| matches!(f, Fault::Empty), "0 bytes"),
        (
            "text",
            b"hello, world, this is text".to_vec(),
            |f| matches!(f, Fault::NotAudio),
            "WAV",
        ),
        (
            "png",
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec(),
            |f| matches!(f, Fault::NotAudio),
            "FLAC",
        ),
        (
            "avi",
            b"RIFF\x10\0\0\0AVI LIST".to_vec(),
            |f| matches!(f, Fault::NotAudio),
            "WAV",
        ),
        (
            "two bytes",
            b"RI".to_vec(),
            |f| matches!(f, Fault::HeaderTruncated(_)),
            "again",
        ),
        (
            "header cut",
            good.bytes()[..30].to_vec(),
            |f| matches!(f, Fault::HeaderTruncated(_)),
            "fmt",
        ),
        (
            "no data chunk",
            good.bytes()[..36].to_vec(),
            |f| matches!(f, Fault::NoSamples),
            "no audio",
        ),
        (
            "flac cut",
            flac[..30].to_vec(),
            |f| matches!(f, Fault::HeaderTruncated(_)),
            "cut short",
        ),
        (
            "no samples",
            Wav::pcm16(&[]).bytes(),
            |f| matches!(f, Fault::NoSamples),
            "no audio",
        ),
        (
            "no samples, text",
            Wav::pcm16(&[])
                .with(|w| w.after = chunk(b"LIST", b"INFO"))
                .bytes(),
            |f| matches!(f, Fault::NoSamples),
            "no audio",
        ),
        (
            "half a sample",
            Wav::new(1, 16, vec![1]).bytes(),
            |f| matches!(f, Fault::NoSamples),
            "no audio",
        ),
        (
            "0 Hz",
            good.clone().with(|w| w.rate = 0).bytes(),
            |f| matches!(f, Fault::ZeroSampleRate),
            "0 Hz",
        ),
        (
            "1 Hz",
            good.clone().with(|w| w.rate = 1).bytes(),
            |f| matches!(f, Fault::SampleRate(1)),
            "1000",
        ),
        (
            "4 GHz",
            good.clone().with(|w| w.rate = u32::MAX).bytes(),
            |f| matches!(f, Fault::SampleRate(u32::MAX)),
            "768000",
        ),
        (
            "0 channels",
            good.clone().with(|w| w.channels = 0).bytes(),
            |f| matches!(f, Fault::ZeroChannels),
            "0 channels",
        ),
        (
            "65535 channels",
            good.clone().with(|w| w.channels = 65_535).bytes(),
            |f| matches!(f, Fault::TooManyChannels(65_535)),
            "mono",
        ),
        (
            "0 bits",
            good.clone().with(|w| w.bits = 0).bytes(),
            |f| matches!(f, Fault::BadHeader(_)),
            "bits",
        ),
        (
            "65535 bits",
            good.clone().with(|w| w.bits = 65_535).bytes(),
            |f| matches!(f, Fault::BadHeader(_)),
            "bits",
        ),
        (
            "float 16",
            good.clone().with(|w| w.tag = 3).bytes(),
            |f| matches!(f, Fault::BadHeader(_)),
            "16",
        ),
        (
            "unknown encoding",
            good.clone().with(|w| w.tag = 0x161).bytes(),
            |f| matches!(f, Fault::Unsupported(_)),
            "0x0161",
        ),
        (
            "absurd chunk",
            good.clone().with(|w| w.before = absurd).bytes(),
            |f| matches!(f, Fault::HeaderTruncated(_)),
            "`note`",
        ),
        (
            "NaN",
            float(f32::NAN)
                .with(|w| (w.channels, w.align) = (2, 8))
                .bytes(),
            |f| {
                matches!(
                    f,
                    Fault::NonFinite {
                        frame: 1,
                        channel: 2
                    }
                )
            },
            "sample 1 of channel 2",
        ),
        (
            "infinity",
            float(f32::INFINITY).bytes(),
            |f| {
                matches!(
                    f,
                    Fault::NonFinite {
                        frame: 3,
                        channel: 1
                    }
                )
            },
            "finite",
        ),
    ];
    for (name, bytes, expected, hint) in cases {
        let error = decode(&bytes, "speech.wav").expect_err(name);
        assert!(expected(&error.fault), "{name}: {error:?}");
        let message = error.to_string();
        assert!(
            message.starts_with("speech.wav: ") && message.contains(hint),
            "{name}: {message}"
        );
        assert!(measured(&bytes).1 < MEMORY, "{name}");
    }
}

#[test]
fn paths_and_readers() {
    let folder = tempfile::tempdir().unwrap();
    let fault = |path: &std::path::Path| decode_path(path).unwrap_err();
    let missing = fault(&folder.path().join("none.wav"));
    assert!(matches!(missing.fault, Fault::Missing));
    assert!(missing.to_string().contains("none.wav: no such file"));
    assert!(matches!(fault(folder.path()).fault, Fault::Folder));
    let empty = folder.path().join("empty.wav");
    std::fs::write(&empty, b"").unwrap();
    assert!(matches!(fault(&empty).fault, Fault::Empty));
    assert!(matches!(fault(&empty.join("below")).fault, Fault::Missing));

    struct Broken;
    impl std::io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("unplugged"))
        }
    }
    let error = decode_reader(Broken, "standard input").unwrap_err();
    assert_eq!(
        error.to_string(),
        "standard input: cannot be read: unplugged"
    );
    let wav = Wav::pcm16(&pattern()).bytes();
    assert_eq!(
        decode_reader(&wav[..], "-").unwrap(),
        decode(&wav, "-").unwrap()
    );
}

#[test]
fn a_truncated_compressed_recording_is_reported() {
    for name in [
        "sweep.flac",
        "sweep.aiff",
        "sweep24.aiff",
        "sweep.mp3",
        "sweep_ima.wav",
    ] {
        let bytes = std::fs::read(fixture(name)).unwrap();
        let recording = decode(&bytes[..bytes.len() * 9 / 10], name).unwrap();
        assert!(
            recording.truncated || recording.damaged_packets > 0,
            "{name}: {recording:?}"
        );
        assert!(!recording.samples.is_empty());
    }
}

#[test]
fn damage_in_other_formats_is_reported() {
    let alac = std::fs::read(fixture("sweep_alac.m4a")).unwrap();
    let (result, _) = measured(&alac[..alac.len() * 9 / 10]);
    let fault = result.unwrap_err();
    assert!(
        matches!(&fault, Fault::HeaderTruncated(what) if what.contains("moov")),
        "{fault}"
    );

    let mut aiff = std::fs::read(fixture("sweep.aiff")).unwrap();
    let channels = aiff.windows(4).position(|id| id == b"COMM").unwrap() + 8;
    aiff[channels] = 0x20;
    let (result, memory) = measured(&aiff);
    assert!(
        matches!(result, Err(Fault::TooManyChannels(0x2001))),
        "{result:?}"
    );
    assert!(memory < MEMORY, "{memory} bytes");

    let mut flac = std::fs::read(fixture("sweep.flac")).unwrap();
    flac[8..12].fill(0); // block sizes of 0
    let error = decode(&flac, "a.flac").unwrap_err();
    assert!(matches!(error.fault, Fault::Damaged(_)), "{error}");
    assert!(
        error.to_string().starts_with("a.flac: damaged audio: "),
        "{error}"
    );

    for chunk in [
        &b"NAME\xff\xff\xff\x00"[..],
        b"NAME\xff\xff\xff\xff",
        b"SSND\0\0\0\x10\xff\xff\xff\xff",
    ] {
        let file = [&b"FORM\xff\xff\xff\xf0AIFF"[..], chunk, &[b'x'; 50]].concat();
        let (result, memory) = measured(&file);
        assert!(result.is_err());
        assert!(memory < MEMORY, "{memory} bytes");
    }
}

/// WAV file in Microsoft ADPCM whose step size exceeds 32 bits: four-bit codes of the largest step.
fn runaway_adpcm() -> Vec<u8> {
    let block = [&[0u8, 0xFF, 0x7F, 0, 0, 0, 0][..], &[0x88; 249]].concat();
    let mut format = Wav::new(2, 4, vec![]).with(|w| w.align = 256).format();
    format.extend(32u16.to_le_bytes());
    format.extend(500u16.to_le_bytes());
    let predictors: [i16; 14] = [
        256, 0, 512, -256, 0, 0, 192, 64, 240, 0, 460, -208, 392, -232,
    ];
    format.extend(7u16.to_le_bytes());
    format.extend(predictors.iter().flat_map(|p| p.to_le_bytes()));
    let chunks = [chunk(b"fmt ", &format), chunk(b"data", &block.repeat(8))].concat();
    [&b"RIFF\0\0\0\0WAVE"[..], &chunks].concat()
}

#[test]
fn a_decoder_that_panics_gives_an_error() {
    let (result, _) = measured(&runaway_adpcm());
    // Only a build with overflow checks panics on the integer overflow.
    match result {
        Err(Fault::Damaged(what)) => assert!(what.contains("gave up"), "{what}"),
        Ok(_) if !cfg!(debug_assertions) => {}
        other => panic!("{other:?}"),
    }
    // The next recording is unaffected.
    assert!(decode_path(fixture("sweep_ms.wav")).is_ok());
}

#[test]
fn unsupported_formats_are_named() {
    for (bytes, name) in [
        (&b"#!AMR\n123456789"[..], "AMR"),
        (b"\x30\x26\xB2\x75\x8E\x66\xCF\x11xxxxxxxxxx", "WMA"),
        (b"caff\0\x01\0\0desc", "CAF"),
        (b"wvpk0000000000000", "WavPack"),
    ] {
        let error = decode(bytes, "a.bin").unwrap_err();
        assert!(matches!(error.fault, Fault::Unsupported(_)), "{error}");
        let message = error.to_string();
        assert!(
            message.contains(name) && message.contains("ffmpeg -i"),
            "{message}"
        );
    }
    // An M4A whose sample entry states AMR.
    let mut mp4 = std::fs::read(fixture("sweep.m4a")).unwrap();
    let entry = mp4.windows(4).position(|id| id == b"mp4a").unwrap();
    mp4[entry..entry + 4].copy_from_slice(b"samr");
    let message = decode(&mp4, "call.3gp").unwrap_err().to_string();
    assert!(
        message.contains("AMR") && message.contains("ffmpeg -i"),
        "{message}"
    );
    // Layer II: 32 kbit/s at 16 kHz are 144 bytes per frame.
    let frame = [&[0xFF, 0xF5, 0x48, 0xC0][..], &[0; 140]].concat();
    let message = decode(&frame.repeat(5), "a.mp2").unwrap_err().to_string();
    assert!(message.contains("MP2"), "{message}");
}

/// Fixtures with some bytes replaced, possibly truncated.
fn broken() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    let names = FORMATS
        .map(|(name, ..)| name)
        .into_iter()
        .chain(["sweep.wav", "sweep.opus", "sweep.webm"])
        .collect::<Vec<_>>();
    let edits = prop::collection::vec(
        (
            any::<prop::sample::Index>(),
            any::<u8>(),
            any::<bool>(),
            any::<bool>(),
        ),
        1..12,
    );
    (prop::sample::select(names), edits, 0.1..1.3f64).prop_map(|(name, edits, keep)| {
        let mut bytes = std::fs::read(fixture(name)).unwrap();
        for (at, value, early, wide) in edits {
            // Length fields are in headers, so half of the damage goes there.
            let reach = if early {
                bytes.len().min(128)
            } else {
                bytes.len()
            };
            // The worst length fields have large values in all of their bytes.
            let at = at.index(reach);
            let end = (at + if wide { 4 } else { 1 }).min(bytes.len());
            bytes[at..end].fill(value);
        }
        let length = bytes.len() as f64 * keep;
        bytes.truncate(length as usize);
        (name, bytes)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_are_decoded_in_bounded_memory((name, bytes) in broken()) {
        let (result, memory) = measured(&bytes);
        prop_assert!(memory < MEMORY, "{name}: {memory} bytes");
        if let Ok(recording) = result {
            prop_assert!(!recording.samples.is_empty());
            prop_assert!(recording.samples.iter().all(|x| x.abs() <= 1.0));
            prop_assert!((0.0..=1.0).contains(&recording.clipped_fraction()), "{recording:?}");
        }
    }

    #[test]
    fn any_bytes_after_a_wav_header_give_a_result(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (_, memory) = measured(&[b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0", &bytes[..]].concat());
        prop_assert!(memory < MEMORY, "{memory} bytes");
    }
}
