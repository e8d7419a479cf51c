//! Decoding of every format, compared with the original samples.

use std::io::Cursor;

use crate::wav::{FORMATS, Wav, as_integers, fixture, pattern, widened};
use maeum::audio::decode::{decode, decode_path};

#[test]
fn every_pcm_and_float_encoding_keeps_its_top_16_bits() {
    let pattern = pattern();
    let each =
        |f: &dyn Fn(i16) -> Vec<u8>| -> Vec<u8> { pattern.iter().flat_map(|s| f(*s)).collect() };
    let low = |s: i16| (s as u16).wrapping_mul(40_503).to_le_bytes();
    let pcm24 = each(&|s| [&low(s)[..1], &s.to_le_bytes()].concat());
    let pcm32 = each(&|s| [low(s), s.to_le_bytes()].concat());
    let top24 = each(&|s| [&[0], &low(s)[..1], &s.to_le_bytes()].concat());
    let sign = |s: i16| if s < 0 { 0xFF } else { 0 };
    let bottom24 = each(&|s| [&low(s)[..1], &s.to_le_bytes()[..], &[sign(s)]].concat());
    let bottom24_zero = each(&|s| [&low(s)[..1], &s.to_le_bytes()[..], &[0]].concat());
    let float32 = each(&|s| (f32::from(s) / 32768.0).to_le_bytes().to_vec());
    let float64 = each(&|s| (f64::from(s) / 32768.0).to_le_bytes().to_vec());
    let cases = [
        ("16", Wav::pcm16(&pattern)),
        ("24", Wav::new(1, 24, pcm24.clone())),
        ("20 in 24", Wav::new(1, 20, pcm24)),
        ("32", Wav::new(1, 32, pcm32)),
        ("24 in 32, extensible", {
            Wav::new(1, 32, top24.clone()).with(|w| w.extensible = Some(24))
        }),
        ("24 in 32, extensible, bits 24", {
            Wav::new(1, 24, top24.clone()).with(|w| (w.align, w.extensible) = (4, Some(24)))
        }),
        (
            "24 in 32, top",
            Wav::new(1, 24, top24).with(|w| w.align = 4),
        ),
        (
            "24 in 32, bottom",
            Wav::new(1, 24, bottom24.clone()).with(|w| w.align = 4),
        ),
        (
            "24 in 32, bottom, no sign",
            Wav::new(1, 24, bottom24_zero).with(|w| w.align = 4),
        ),
        ("24 in 32, bottom, extensible", {
            Wav::new(1, 24, bottom24).with(|w| (w.align, w.extensible) = (4, Some(24)))
        }),
        ("float 32", Wav::new(3, 32, float32.clone())),
        (
            "float 32, extensible",
            Wav::new(3, 32, float32).with(|w| w.extensible = Some(32)),
        ),
        ("float 64", Wav::new(3, 64, float64)),
    ];
    for (name, wav) in cases {
        let recording = decode(&wav.bytes(), name).unwrap();
        assert_eq!(as_integers(&recording), widened(&pattern), "{name}");
        assert_eq!(
            (recording.channels, recording.sample_rate),
            (1, 16_000),
            "{name}"
        );
        assert!(!recording.truncated, "{name}");
        let full = pattern
            .iter()
            .filter(|s| **s == i16::MAX || **s == i16::MIN)
            .count();
        assert_eq!(recording.clipped, full as u64, "{name}");
    }
}

#[test]
fn eight_bits_are_unsigned() {
    let recording = decode(&Wav::new(1, 8, vec![0, 1, 127, 128, 255]).bytes(), "u8").unwrap();
    assert_eq!(as_integers(&recording), [-32768, -32512, -256, 0, 32512]);
}

#[test]
fn g711_matches_symphonia_on_every_code() {
    use symphonia::core::codecs::audio::{
        AudioCodecParameters, AudioDecoderOptions, well_known::*,
    };
    use symphonia::core::packet::Packet;
    use symphonia::core::{audio::Channels, audio::Position};
    let codes: Vec<u8> = (0..=255).collect();
    for (tag, codec) in [(6, CODEC_ID_PCM_ALAW), (7, CODEC_ID_PCM_MULAW)] {
        let mut params = AudioCodecParameters::new();
        let mono = Channels::Positioned(Position::FRONT_LEFT);
        params
            .for_codec(codec)
            .with_sample_rate(8000)
            .with_channels(mono);
        params.with_max_frames_per_packet(256);
        let codecs = symphonia::default::get_codecs();
        let mut decoder = codecs
            .make_audio_decoder(&params, &AudioDecoderOptions::default())
            .unwrap();
        let packet = Packet::new(0, 0.into(), 256u64.into(), codes.clone());
        let mut expected: Vec<i32> = vec![];
        decoder
            .decode(&packet)
            .unwrap()
            .copy_to_vec_interleaved(&mut expected);
        let expected: Vec<i32> = expected.iter().map(|x| x >> 16).collect();
        let ours = decode(&Wav::new(tag, 8, codes.clone()).bytes(), "g711").unwrap();
        assert_eq!(as_integers(&ours), expected, "tag {tag}");
    }
}

#[test]
fn floats_round_to_even_and_clip() {
    let values = [
        0.5, 1.5, -0.5, -1.5, 2.5, 0.49, 0.51, 32767.4, 32767.6, 1e30, -1e30, -32768.0,
    ];
    let expected = [0, 2, 0, -2, 2, 0, 1, 32767, 32767, 32767, -32768, -32768];
    let data = values
        .iter()
        .flat_map(|v| (*v as f32 / 32768.0).to_le_bytes())
        .collect();
    let recording = decode(&Wav::new(3, 32, data).bytes(), "float").unwrap();
    assert_eq!(as_integers(&recording), expected);
    assert_eq!(recording.clipped, 5);
    assert!((recording.clipped_fraction() - 5.0 / 12.0).abs() < 1e-12);
}

#[test]
fn channels_are_averaged() {
    let wav =
        Wav::pcm16(&[3, 4, -5, -6, i16::MIN, i16::MAX]).with(|w| (w.channels, w.align) = (2, 4));
    let recording = decode(&wav.bytes(), "stereo").unwrap();
    assert_eq!(
        recording.samples,
        [3.5 / 32768.0, -5.5 / 32768.0, -0.5 / 32768.0]
    );
    assert_eq!((recording.channels, recording.clipped), (2, 2));
    let wav = Wav::pcm16(&[1, 2, 2]).with(|w| (w.channels, w.align) = (3, 6));
    let third = (5.0f32 / 32768.0) / 3.0;
    assert_eq!(decode(&wav.bytes(), "three").unwrap().samples, [third]);
}

#[test]
fn hound_reads_the_same() {
    for (bits, bytes) in [(8, 1), (16, 2), (24, 3), (24, 4), (32, 4)] {
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 16_000,
            bits_per_sample: bits,
            sample_format: hound::SampleFormat::Int,
        };
        let spec = hound::WavSpecEx {
            spec,
            bytes_per_sample: bytes,
        };
        let mut file = Cursor::new(vec![]);
        let mut writer = hound::WavWriter::new_with_spec_ex(&mut file, spec).unwrap();
        let samples: Vec<i32> = pattern()
            .iter()
            .map(|s| i32::from(*s) << 16 >> (32 - bits))
            .collect();
        samples
            .iter()
            .for_each(|s| writer.write_sample(*s).unwrap());
        writer.finalize().unwrap();
        let recording = decode(file.get_ref(), "hound").unwrap();
        let expected: Vec<i32> = samples.iter().map(|s| s << (32 - bits) >> 16).collect();
        assert_eq!(
            as_integers(&recording),
            expected,
            "{bits} bits in {bytes} bytes"
        );
    }
}

#[test]
fn every_format_decodes_to_the_same_signal() {
    let original = decode_path(fixture("sweep.wav")).unwrap();
    for (name, format, tolerance) in FORMATS {
        let recording = decode_path(fixture(name)).unwrap();
        assert_eq!(recording.format, format, "{name}");
        assert_eq!(
            (recording.sample_rate, recording.channels),
            (16_000, 1),
            "{name}"
        );
        assert_eq!(
            (recording.truncated, recording.damaged_packets),
            (false, 0),
            "{name}"
        );
        let delay = match name {
            "sweep.aac" => 1024,
            "sweep_mp3.wav" => 1105,
            _ => 0,
        };
        let padded = [
            "sweep.aac",
            "sweep_mp3.wav",
            "sweep_ima.wav",
            "sweep_ms.wav",
        ]
        .contains(&name);
        assert!(
            padded || recording.samples.len() == original.samples.len(),
            "{name}"
        );
        let pairs = original.samples.iter().zip(&recording.samples[delay..]);
        let error = pairs.map(|(a, b)| (a - b).abs()).sum::<f32>() / original.samples.len() as f32;
        assert!(error <= tolerance, "{name}: {error}");
    }
}
