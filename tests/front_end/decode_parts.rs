//! Files with more than one recording's frames: leading, interleaved and trailing tags,
//! concatenated recordings, and headers that state less audio than the file holds.

use crate::wav::{Wav, as_integers, chunk, fixture, pattern, widened};
use maeum::audio::decode::{Options, decode, decode_path, decode_with};
use maeum::audio::{Defect, Fault, Recording};

fn read(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap()
}

fn good(bytes: &[u8], what: &str) -> Recording {
    decode(bytes, what).unwrap_or_else(|e| panic!("{e}"))
}

/// Returns the message of the only defect of a recording.
fn defect(recording: &Recording) -> String {
    match &recording.defects[..] {
        [one] => one.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Builds an ID3v2.3 tag of these frames, followed by padding.
fn id3(frames: &[u8], padding: usize) -> Vec<u8> {
    let size = frames.len() + padding;
    let mut tag = b"ID3\x03\0\0".to_vec();
    tag.extend([21, 14, 7, 0].map(|shift| (size >> shift & 127) as u8));
    tag.extend(frames);
    tag.resize(10 + size, 0);
    tag
}

fn frame(id: &[u8; 4], body: &[u8]) -> Vec<u8> {
    [&id[..], &(body.len() as u32).to_be_bytes(), &[0, 0], body].concat()
}

/// Builds an ID3v1 tag, 128 bytes at the end of a file.
fn id3v1() -> Vec<u8> {
    let mut tag = b"TAGinterview".to_vec();
    tag.resize(128, 0);
    tag
}

/// Reads a fixture without its leading ID3v2 tag.
fn bare(name: &str) -> Vec<u8> {
    let bytes = read(name);
    match bytes.strip_prefix(b"ID3\x04\0\0") {
        Some(rest) => rest[4 + usize::from(rest[3])..].to_vec(),
        None => bytes,
    }
}

#[test]
fn tag_contents_are_not_decoded() {
    let attached = Wav::pcm16(&pattern()).bytes();
    let tags: Vec<(&str, Vec<u8>)> = vec![
        ("title", id3(&frame(b"TIT2", b"\0interview"), 0)),
        (
            "title with a mark",
            id3(&frame(b"TIT2", b"\0OggS to mp3 from fLaC"), 20),
        ),
        (
            "cover",
            id3(
                &frame(
                    b"APIC",
                    b"\0image/heic\0\x03\0\0\0\0\x18ftypheic\0\0\0\0mif1heic",
                ),
                0,
            ),
        ),
        ("attached file", id3(&frame(b"GEOB", &attached), 0)),
        ("large cover", id3(&frame(b"APIC", &[0x55; 3 << 20]), 0)),
        (
            "false frames",
            id3(&[0xFF, 0xFB, 0x90, 0x64].repeat(900), 0),
        ),
        (
            "two",
            [id3(&frame(b"TIT2", b"\0a"), 9), id3(b"", 50)].concat(),
        ),
        ("footer", {
            let mut tag = id3(&frame(b"TIT2", b"\0a"), 0);
            tag[3] = 4;
            tag[5] = 0x10;
            tag.extend(b"3DI\x04\0\x10\0\0\0\x0C");
            tag
        }),
    ];
    for name in [
        "sweep.mp3",
        "sweep.aac",
        "sweep.flac",
        "sweep.aiff",
        "sweep.ogg",
        "sweep.wav",
    ] {
        let plain = bare(name);
        let wanted = good(&plain, name);
        for (what, tag) in &tags {
            let got = good(&[&tag[..], &plain].concat(), &format!("{what} in {name}"));
            assert_eq!(got, wanted, "{what} in {name}");
        }
    }
    let cut = &id3(&frame(b"APIC", &[0; 500]), 0)[..100];
    let error = decode(cut, "a.mp3").unwrap_err();
    assert!(matches!(error.fault, Fault::HeaderTruncated(_)), "{error}");
    let only = id3(&frame(b"TIT2", b"\0a"), 0);
    let error = decode(&only, "a.mp3").unwrap_err();
    assert!(matches!(error.fault, Fault::NoSamples), "{error}");
}

#[test]
fn trailing_tags_cause_no_warning() {
    // Header and footer around 40 bytes.
    let bound = |flags: u8| {
        let mut bound = b"APETAGEX".to_vec();
        bound.extend([0xD0, 7, 0, 0, 72, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, flags]);
        bound.resize(32, 0);
        bound
    };
    let ape = [bound(0xA0), vec![b'x'; 40], bound(0x80)].concat();
    let list = chunk(b"LIST", b"INFOISFT\x04\0\0\0abcd");
    for name in [
        "sweep.mp3",
        "sweep.aac",
        "sweep.flac",
        "sweep.wav",
        "sweep.aiff",
        "sweep.m4a",
    ] {
        let plain = bare(name);
        let wanted = good(&plain, name);
        for tail in [
            id3v1(),
            [&ape[..], &id3v1()].concat(),
            vec![0; 2000],
            list.clone(),
        ] {
            // A FLAC file's last frame ends only at the end of the file.
            if name == "sweep.flac" && tail == list {
                continue;
            }
            let got = good(&[&plain[..], &tail].concat(), name);
            assert_eq!(got.defects, [], "{name}");
            assert_eq!((got.damaged_packets, got.truncated), (0, false), "{name}");
            assert!(
                got.samples
                    .starts_with(&wanted.samples[..wanted.samples.len() - 1152])
            );
        }
    }
}

#[test]
fn concatenated_recordings_are_all_decoded() {
    for name in [
        "sweep.wav",
        "sweep.mp3",
        "sweep.flac",
        "sweep.ogg",
        "sweep.opus",
        "sweep.webm",
        "sweep.aiff",
        "sweep_sowt.aifc",
        "sweep.m4a",
        "sweep_alac.m4a",
        "sweep_ms.wav",
    ] {
        let one = read(name);
        let wanted = good(&one, name);
        let two = good(&one.repeat(2), name);
        assert_eq!(two.samples, wanted.samples.repeat(2), "{name}");
        assert_eq!(
            (&two.defects[..], two.truncated),
            (&[][..], false),
            "{name}"
        );
        assert_eq!(two.format, wanted.format);
        let three = good(&[&one[..], &one, &one[..one.len() - 40]].concat(), name);
        assert!(
            three.samples.len() > wanted.samples.len() * 2 - 1200,
            "{name}"
        );
    }
    // AAC frames do not mark the end of a recording.
    let one = read("sweep.aac");
    let two = good(&one.repeat(2), "sweep.aac");
    assert_eq!(two.samples.len(), good(&one, "sweep.aac").samples.len() * 2);
    // Without an info frame, an MP3 continues with the frames of the next.
    let mp3 = bare("sweep.mp3");
    let announcing = 72_000 * 64 / 16_000;
    let joined = good(&[&mp3[..], &mp3[announcing..]].concat(), "joined");
    assert!(
        joined.samples.len() > good(&mp3, "mp3").samples.len() * 2,
        "{joined:?}"
    );
}

#[test]
fn recordings_that_cannot_be_joined_are_reported() {
    let slow = Wav::pcm16(&pattern()).with(|w| w.rate = 8_000).bytes();
    let fast = Wav::pcm16(&pattern()).bytes();
    let stereo = Wav::pcm16(&pattern()).with(|w| (w.channels, w.align) = (2, 4));
    let first = good(&fast, "first");
    let two = good(&[&fast[..], &slow].concat(), "rates");
    assert_eq!(two.samples, first.samples);
    let said = defect(&two);
    assert!(
        said.contains("8000 Hz") && said.contains("after 0.06 s"),
        "{said}"
    );
    // The number of channels may differ, because mixing makes every recording mono.
    let two = good(&[&fast[..], &stereo.bytes()].concat(), "channels");
    assert_eq!(two.samples.len(), pattern().len() + pattern().len() / 2);
    for (a, b) in [
        ("sweep.mp3", "sweep.wav"),
        ("sweep.aiff", "sweep.flac"),
        ("sweep.ogg", "sweep.wav"),
    ] {
        let both = good(&[read(a), read(b)].concat(), a);
        assert_eq!(both.samples.len(), good(&read(a), a).samples.len(), "{a}");
        let said = defect(&both);
        assert!(
            said.contains("left out") && said.contains("another kind"),
            "{said}"
        );
    }
    let damaged = [&fast[..], &fast[..20]].concat();
    assert!(defect(&good(&damaged, "cut")).contains("cannot be read"));
}

#[test]
fn an_mp3_has_the_length_of_its_frames() {
    let wanted = good(&bare("sweep.mp3"), "mp3");
    let at = bare("sweep.mp3")
        .windows(4)
        .position(|w| w == b"Info")
        .unwrap()
        + 8;
    for frames in [0u32, 1, 3] {
        let mut mp3 = bare("sweep.mp3");
        mp3[at..at + 4].copy_from_slice(&frames.to_be_bytes());
        let all = good(&mp3, "mp3");
        assert!(
            all.samples.len() >= wanted.samples.len(),
            "{frames}: {all:?}"
        );
    }
    let mut mp3 = bare("sweep.mp3");
    mp3[at..at + 4].copy_from_slice(&40u32.to_be_bytes());
    assert!(good(&mp3, "mp3").truncated);
}

#[test]
fn several_data_chunks_are_one_recording() {
    let samples = pattern();
    let bytes =
        |samples: &[i16]| -> Vec<u8> { samples.iter().flat_map(|s| s.to_le_bytes()).collect() };
    let (a, b) = samples.split_at(400);
    let list = chunk(b"LIST", b"INFOISFT\x04\0\0\0abcd");
    let two =
        Wav::pcm16(a).with(|w| w.after = [list.clone(), chunk(b"data", &bytes(b)), list].concat());
    let got = good(&two.bytes(), "two chunks");
    assert_eq!(as_integers(&got), widened(&samples));
    assert_eq!(got.defects, []);
    // A placeholder length extends to the end of the file, or to the next file.
    let open = Wav::pcm16(a).with(|w| w.length = Some(u32::MAX)).bytes();
    let got = good(&[open, Wav::pcm16(b).bytes()].concat(), "streamed");
    assert_eq!(as_integers(&got), widened(&samples));

    let mut aiff = read("sweep.aiff");
    let wanted = good(&aiff, "aiff");
    let at = aiff.windows(4).position(|id| id == b"SSND").unwrap();
    let sound = aiff.split_off(at);
    let half = (sound.len() - 16) / 4 * 2;
    for piece in [&sound[16..16 + half], &sound[16 + half..]] {
        aiff.extend(b"SSND");
        aiff.extend((piece.len() as u32 + 8).to_be_bytes());
        aiff.extend([0; 8]);
        aiff.extend(piece);
    }
    assert_eq!(good(&aiff, "two sounds").samples, wanted.samples);
}

#[test]
fn a_data_length_that_is_too_small_is_reported() {
    let good_wav = Wav::pcm16(&pattern());
    let frames = good_wav
        .clone()
        .with(|w| w.length = Some(pattern().len() as u32));
    let got = good(&frames.bytes(), "frames");
    assert_eq!(as_integers(&got), widened(&pattern()));
    assert!(defect(&got).contains("counts frames"), "{got:?}");
    let short = good_wav.with(|w| w.length = Some(400));
    let got = good(&short.bytes(), "short");
    assert_eq!(got.samples.len(), 200);
    assert!(defect(&got).contains("left out"), "{got:?}");
}

#[test]
fn channels_and_bits_override_the_frame_size() {
    let samples = pattern();
    let mono = Wav::pcm16(&samples);
    for align in [1, 3, 4, 16] {
        let got = good(&mono.clone().with(|w| w.align = align).bytes(), "mono");
        assert_eq!(as_integers(&got), widened(&samples), "{align}");
        let said = defect(&got);
        assert!(
            said.contains(&format!("it gives {align}")) && said.contains("contradicts"),
            "{said}"
        );
    }
    let stereo = |align| {
        mono.clone()
            .with(|w| (w.channels, w.align) = (2, align))
            .bytes()
    };
    let wanted = good(&stereo(4), "stereo");
    for align in [2, 32] {
        let got = good(&stereo(align), "stereo");
        assert_eq!(got.samples, wanted.samples);
        assert!(matches!(got.defects[..], [Defect::Header { .. }]));
    }
    let bytes = Wav::new(1, 8, vec![0, 127, 255, 3]);
    let got = good(&bytes.clone().with(|w| w.align = 2).bytes(), "bytes");
    assert_eq!(got.samples, good(&bytes.bytes(), "bytes").samples);
    // G.711 has 8-bit codes, whatever the header states.
    let law = Wav::new(6, 8, vec![1, 2, 3, 4]);
    let got = good(&law.clone().with(|w| w.bits = 16).bytes(), "a-law");
    assert_eq!(got.samples, good(&law.bytes(), "a-law").samples);
}

#[test]
fn nested_chapters_take_no_stack() {
    let nested = |levels: usize| {
        let mut frames = vec![];
        for _ in 0..levels {
            let content = [&[0; 17][..], &frames].concat();
            frames = frame(b"CHAP", &content);
        }
        id3(&frames, 0)
    };
    let plain = read("sweep.aiff");
    let wanted = good(&plain, "aiff");
    for levels in [1, 1000, 3000] {
        let tag = nested(levels);
        let mut aiff = plain[..12].to_vec();
        aiff.extend(b"ID3 ");
        aiff.extend((tag.len() as u32).to_be_bytes());
        aiff.extend(&tag);
        aiff.resize(aiff.len().next_multiple_of(2), 0);
        aiff.extend(&plain[12..]);
        let small = std::thread::Builder::new().stack_size(512 << 10);
        let got = small
            .spawn(move || good(&aiff, "nested"))
            .unwrap()
            .join()
            .unwrap();
        assert_eq!(got, wanted, "{levels}");
    }
}

#[test]
fn cancelling_channels_are_reported_and_selectable() {
    let voice = pattern();
    let both = |other: &dyn Fn(i16, usize) -> i16| {
        let frames = voice.iter().enumerate();
        let samples: Vec<i16> = frames.flat_map(|(i, s)| [*s, other(*s, i)]).collect();
        Wav::pcm16(&samples)
            .with(|w| (w.channels, w.align) = (2, 4))
            .bytes()
    };
    let opposite = both(&|s, i| s.saturating_neg().saturating_add((i % 7) as i16 - 3));
    let got = good(&opposite, "opposite");
    assert!(matches!(got.defects[..], [Defect::ChannelsCancel { decibels }] if decibels > 60.0));
    for wav in [
        both(&|s, _| s),
        both(&|_, _| 0),
        both(&|_, i| voice[(i * 7 + 3) % voice.len()]),
    ] {
        assert_eq!(good(&wav, "in phase").defects, []);
    }
    let choose = |channel| {
        let options = Options {
            channel: Some(channel),
            ..Options::default()
        };
        decode_with(&opposite, "opposite", options)
    };
    let left = choose(1).unwrap();
    assert_eq!(as_integers(&left), widened(&voice));
    assert_eq!(
        (left.channels, left.channel, &left.defects[..]),
        (2, Some(1), &[][..])
    );
    let full = voice
        .iter()
        .filter(|s| **s == i16::MAX || **s == i16::MIN)
        .count();
    assert!((left.clipped_fraction() - full as f64 / voice.len() as f64).abs() < 1e-12);
    assert_eq!(
        choose(2).unwrap().samples[0],
        -left.samples[0] - 3.0 / 32768.0
    );
    let error = choose(3).unwrap_err();
    assert!(
        matches!(
            error.fault,
            Fault::NoSuchChannel {
                channel: 3,
                channels: 2
            }
        ),
        "{error}"
    );
}

#[test]
fn thousands_of_recordings_take_little_time_and_memory() {
    let wav = Wav::pcm16(&[100]).bytes();
    let got = good(&wav.repeat(12_000), "many");
    assert_eq!(got.samples.len(), 10_000);
    assert!(defect(&got).contains("more than 10000"), "{got:?}");
    // Each empty chunk could be one whose length was never filled in.
    let empty = Wav::pcm16(&[]).with(|w| w.after = chunk(b"data", b"").repeat(400_000));
    let started = std::time::Instant::now();
    assert!(decode(&empty.bytes(), "empty").is_err());
    let boxes = b"\0\0\0\x08ftyp".repeat(400_000);
    assert!(decode(&boxes, "boxes").is_err());
    assert!(started.elapsed().as_secs() < 60);
}

#[test]
fn he_aac_signalled_by_the_container_is_reported() {
    let mut mp4 = read("sweep.m4a");
    let wanted = good(&mp4, "m4a");
    let rate = mp4.windows(4).position(|id| id == b"mp4a").unwrap() + 28;
    assert_eq!(mp4[rate..rate + 4], (16_000u32 << 16).to_be_bytes());
    mp4[rate..rate + 4].copy_from_slice(&(32_000u32 << 16).to_be_bytes());
    let got = good(&mp4, "he-aac");
    assert_eq!(
        (got.samples.len(), got.truncated),
        (wanted.samples.len(), false)
    );
    assert!(defect(&got).contains("HE-AAC"), "{got:?}");
}

#[test]
fn opus_opens_in_ogg_and_webm() {
    let original = decode_path(fixture("sweep.wav")).unwrap();
    for (name, format) in [("sweep.opus", "ogg opus"), ("sweep.webm", "matroska opus")] {
        let recording = decode_path(fixture(name)).unwrap();
        assert_eq!(recording.format, format);
        assert_eq!((recording.sample_rate, recording.channels), (48_000, 1));
        assert_eq!((recording.truncated, recording.damaged_packets), (false, 0));
        // The sweep is below 8 kHz, so every third sample is the signal at 16 kHz, shifted by a
        // sample or two if a codec delayed it.
        let error = |shift: usize| {
            let third = recording.samples[shift..].iter().step_by(3);
            let pairs = original.samples[1..].iter().zip(third);
            pairs.map(|(a, b)| (a - b).abs()).sum::<f32>() / original.samples.len() as f32
        };
        let error = (0..7).map(error).fold(f32::INFINITY, f32::min);
        assert!(error < 0.02, "{name}: {error}");
        let length = recording.samples.len() as f64 / 3.0 / original.samples.len() as f64;
        assert!((1.0..1.1).contains(&length), "{name}: {length}");
    }
    let ogg = read("sweep.opus");
    assert_eq!(
        decode_path(fixture("sweep.opus")).unwrap().samples.len(),
        12_000
    );
    // Changes the gain (in 1/256 dB) and the number of channels in the header; the page's checksum
    // does not match them.
    let at = ogg.windows(8).position(|w| w == b"OpusHead").unwrap();
    let with = |index: usize, value: u8| {
        let mut ogg = ogg.clone();
        ogg[at + index] = value;
        let body = &mut ogg[..at + 19];
        body[22..26].fill(0);
        let sum = checksum(body);
        ogg[22..26].copy_from_slice(&sum.to_le_bytes());
        ogg
    };
    let level = |recording: &Recording| recording.samples.iter().map(|x| x * x).sum::<f32>();
    let louder = good(&with(17, 3), "louder");
    let ratio = level(&louder) / level(&good(&ogg, "plain"));
    assert!((ratio - 10f32.powf(0.3)).abs() < 0.01, "{ratio}");
}

/// Computes the checksum of an Ogg page (RFC 3533): polynomial 0x04C11DB7, most significant bit
/// first.
fn checksum(page: &[u8]) -> u32 {
    page.iter().fold(0, |sum: u32, byte| {
        (0..8).fold(sum ^ u32::from(*byte) << 24, |sum, _| {
            let carry = sum & 1 << 31 != 0;
            sum << 1 ^ if carry { 0x04C1_1DB7 } else { 0 }
        })
    })
}
