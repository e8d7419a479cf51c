//! Everything but plain WAV, through symphonia.

use std::cell::Cell;
use std::io::{Cursor, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};

use symphonia::core::audio::GenericAudioBufferRef;
use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, Track, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;

use super::decode::{Fault, Limit, Recording, check_spec};
use super::encoding::Mixer;
use super::{aiff_header, mp4_edit};

/// Decodes a file in any format that symphonia was built for.
pub fn decode(bytes: &[u8], limit: Limit) -> Result<Recording, Fault> {
    if !is_media(bytes) {
        return Err(Fault::NotAudio);
    }
    if is_mp4(bytes) && !mp4_edit::has_index(bytes) {
        return Err(Fault::HeaderTruncated(
            "its index, the `moov` box, is missing".into(),
        ));
    }
    // A decoder that trips over a damaged file must not take a whole batch down with it.
    DECODING.set(true);
    let result = catch_unwind(AssertUnwindSafe(|| {
        let (bytes, cut) = aiff_header::mended(bytes);
        let recording = decode_tracks(&bytes, limit)?;
        Ok(Recording {
            truncated: recording.truncated || cut,
            ..recording
        })
    }));
    DECODING.set(false);
    result.unwrap_or_else(|_| Err(Fault::Damaged("the decoder gave up on it".into())))
}

thread_local! {
    /// Whether a panic of this thread will be caught and become an error.
    static DECODING: Cell<bool> = const { Cell::new(false) };
}

/// Keeps quiet about panics of decoders that become errors; all others are reported as before.
/// Changes the process' panic hook, so it is for programs to call, once, at their start.
pub fn silence_caught_panics() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !DECODING.get() {
            report(info);
        }
    }));
}

/// Whether the file begins like one of the formats in question. Without this, anything that holds
/// two bytes like an MPEG frame's would be searched and possibly played.
fn is_media(bytes: &[u8]) -> bool {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    // An MPEG frame (or an ADTS one): 11 bits set, a version and a layer that exist.
    let sound = &bytes[bytes.iter().take(4096).take_while(|b| **b == 0).count()..];
    let mpeg =
        sound.len() > 2 && sound[0] == 0xFF && sound[1] & 0xE0 == 0xE0 && sound[1] & 0x18 != 8;
    starts(b"fLaC")
        || starts(b"OggS")
        || starts(b"ID3")
        || starts(b"RIFF")
        || starts(b"FORM")
        || is_mp4(bytes)
        || mpeg
}

fn is_mp4(bytes: &[u8]) -> bool {
    bytes.get(4..8) == Some(b"ftyp")
}

fn decode_tracks(bytes: &[u8], limit: Limit) -> Result<Recording, Fault> {
    let stream = MediaSourceStream::new(Box::new(Cursor::new(bytes)), Default::default());
    let mut reader = symphonia::default::get_probe()
        .probe(
            &Hint::new(),
            stream,
            FormatOptions::default(),
            MetadataOptions::default(),
        )
        .map_err(|e| match e {
            Error::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => {
                Fault::HeaderTruncated("the file ends before its audio begins".into())
            }
            Error::Unsupported("core (probe): no suitable format reader found") => Fault::NotAudio,
            Error::Unsupported(what) => Fault::Unsupported(format!("this file ({what})")),
            e => Fault::Damaged(e.to_string()),
        })?;
    let track = reader
        .default_track(TrackType::Audio)
        .ok_or_else(|| Fault::Unsupported("a file without an audio track".into()))?
        .clone();
    let mut decoder = make_decoder(&track)?;
    let format = reader.format_info().short_name.to_lowercase();
    let promised = track.num_frames;
    let mut output = Output {
        limit,
        ..Output::default()
    };
    let cut = read_packets(reader.as_mut(), &track, decoder.as_mut(), &mut output)?;
    let Some((sample_rate, channels, mixer)) = output.mixer.filter(|(.., m)| m.frames() > 0) else {
        return Err(match output.last_error {
            Some(why) => Fault::Damaged(why),
            None if cut => Fault::HeaderTruncated("the file ends before its audio begins".into()),
            None => Fault::NoSamples,
        });
    };
    let missing = promised.is_some_and(|n| (mixer.frames() as u64) < n) && output.damaged == 0;
    let (mut samples, clipped) = mixer.finish();
    if format == "isomp4" {
        let heard = mp4_edit::heard(bytes, track.id, samples.len(), sample_rate);
        samples.truncate(heard.end);
        samples.drain(..heard.start);
    }
    Ok(Recording {
        samples,
        sample_rate,
        channels,
        format,
        clipped,
        truncated: cut || missing,
        damaged_packets: output.damaged,
    })
}

fn make_decoder(track: &Track) -> Result<Box<dyn AudioDecoder>, Fault> {
    let Some(CodecParameters::Audio(params)) = &track.codec_params else {
        return Err(Fault::Unsupported(
            "an audio track without a known encoding".into(),
        ));
    };
    // Before the decoder is made: it allocates buffers for all channels.
    if let (Some(rate), Some(channels)) = (params.sample_rate, &params.channels) {
        check_spec(rate, channels.count() as u32)?;
    }
    symphonia::default::get_codecs()
        .make_audio_decoder(params, &AudioDecoderOptions::default())
        .map_err(|e| match e {
            Error::Unsupported("core (probe): no suitable format reader found") => Fault::NotAudio,
            Error::Unsupported(what) => Fault::Unsupported(format!("its encoding ({what})")),
            e => Fault::Damaged(e.to_string()),
        })
}

/// What the packets have given so far.
#[derive(Default)]
struct Output {
    limit: Limit,
    /// Sample rate, channels and the samples.
    mixer: Option<(u32, u32, Mixer)>,
    damaged: usize,
    last_error: Option<String>,
    integers: Vec<i32>,
    floats: Vec<f64>,
}

/// Decodes all packets of a track; tells whether the file ended early.
fn read_packets(
    reader: &mut dyn FormatReader,
    track: &Track,
    decoder: &mut dyn AudioDecoder,
    output: &mut Output,
) -> Result<bool, Fault> {
    loop {
        let packet = match reader.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => return Ok(false),
            Err(Error::IoError(e)) if e.kind() == ErrorKind::UnexpectedEof => return Ok(true),
            // A chained stream: another recording follows in the same file.
            Err(Error::ResetRequired) => {
                return Err(Fault::Unsupported(
                    "a file with several recordings in a row".into(),
                ));
            }
            Err(e) => {
                output.damaged += 1;
                output.last_error = Some(e.to_string());
                return Ok(true);
            }
        };
        if packet.track_id != track.id {
            continue;
        }
        match decoder.decode(&packet) {
            Ok(decoded) => output.take(&decoded)?,
            Err(e @ (Error::DecodeError(_) | Error::IoError(_))) => {
                output.damaged += 1;
                output.last_error = Some(e.to_string());
            }
            Err(e) => return Err(Fault::Damaged(e.to_string())),
        }
    }
}

impl Output {
    fn take(&mut self, decoded: &GenericAudioBufferRef<'_>) -> Result<(), Fault> {
        let rate = decoded.spec().rate();
        let channels = decoded.spec().channels().count() as u32;
        if decoded.frames() == 0 {
            return Ok(());
        }
        if self.mixer.is_none() {
            check_spec(rate, channels)?;
            self.mixer = Some((
                rate,
                channels,
                Mixer::new(channels as usize, 0, self.limit.frames(rate)),
            ));
        }
        let Some((first_rate, first_channels, mixer)) = &mut self.mixer else {
            return Ok(());
        };
        if (rate, channels) != (*first_rate, *first_channels) {
            return Err(Fault::Damaged(format!(
                "it changes from {first_rate} Hz, {first_channels} channels to {rate} Hz, \
                 {channels} channels on the way"
            )));
        }
        match decoded {
            GenericAudioBufferRef::F32(_) | GenericAudioBufferRef::F64(_) => {
                decoded.copy_to_vec_interleaved(&mut self.floats);
                self.floats.iter().try_for_each(|&x| mixer.push_float(x))
            }
            // Integers of every width arrive at the top of 32 bits.
            _ => {
                decoded.copy_to_vec_interleaved(&mut self.integers);
                self.integers
                    .iter()
                    .try_for_each(|&x| mixer.push((x >> 16) as i16))
            }
        }
    }
}
