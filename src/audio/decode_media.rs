//! Decoding of every format except plain WAV: symphonia demultiplexes and decodes, ropus decodes
//! Opus.

use std::cell::Cell;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};

use symphonia::core::audio::GenericAudioBufferRef;
use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::well_known::CODEC_ID_OPUS;
use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::ProbeableFormat;
use symphonia::core::formats::{FormatOptions, FormatReader, Track, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::packet::Packet;
use symphonia::default::formats::{
    AdtsReader, AiffReader, FlacReader, IsoMp4Reader, MkvReader, MpaReader, OggReader, WavReader,
};

use super::container::{self, Container};
use super::encoding::Mixer;
use super::error::{Fault, check_spec};
use super::frames::Codec;
use super::join::Joiner;
use super::mp4_edit;
use super::opus::Opus;
use super::parts::{self, Part};
use super::recording::{Defect, Options, Recording};

/// Decodes bytes that begin with a recording in `container`, as found by [`container::recognise`].
pub fn decode(container: Container, bytes: &[u8], options: Options) -> Result<Recording, Fault> {
    let (parts, rest) = parts::split(container, bytes)?;
    let mut join = Joiner::new(options);
    for part in parts {
        let within = join.options();
        if !join.add(|| decode_part(container, part, within))? {
            break;
        }
    }
    join.finish(rest)
}

/// Decodes one recording of a file.
fn decode_part(container: Container, part: Part<'_>, options: Options) -> Result<Recording, Fault> {
    if container == Container::Mp4 && !mp4_edit::has_index(part.bytes) {
        return Err(Fault::HeaderTruncated(
            "its index, the `moov` box, is missing".into(),
        ));
    }
    // Third-party decoders panic on some damaged files (integer overflow, index out of bounds).
    // Such a file must not end a batch or a server. The unwound state is dropped, so no
    // half-updated value stays reachable.
    DECODING.set(true);
    let result = catch_unwind(AssertUnwindSafe(|| decode_track(container, part, options)));
    DECODING.set(false);
    result.unwrap_or_else(|_| Err(Fault::Damaged("its decoder gave up on it".into())))
}

thread_local! {
    /// Set while a panic of this thread will be caught and returned as an error.
    static DECODING: Cell<bool> = const { Cell::new(false) };
}

/// Suppresses the report of decoder panics that become errors; other panics are reported unchanged.
/// The function replaces the panic hook of the process, so a program calls it once at its start.
pub fn silence_caught_panics() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !DECODING.get() {
            report(info);
        }
    }));
}

/// Opens a file with the reader of its container. A probe would search the bytes for anything that
/// resembles a recording.
fn open<'s>(
    container: Container,
    stream: MediaSourceStream<'s>,
) -> symphonia::core::errors::Result<Box<dyn FormatReader + 's>> {
    let options = FormatOptions::default();
    match container {
        Container::Wav => WavReader::try_probe_new(stream, options),
        Container::Aiff => AiffReader::try_probe_new(stream, options),
        Container::Flac => FlacReader::try_probe_new(stream, options),
        Container::Ogg => OggReader::try_probe_new(stream, options),
        Container::Mp4 => IsoMp4Reader::try_probe_new(stream, options),
        Container::Matroska => MkvReader::try_probe_new(stream, options),
        Container::Frames(Codec::Mp3) => MpaReader::try_probe_new(stream, options),
        Container::Frames(Codec::Aac) => AdtsReader::try_probe_new(stream, options),
    }
}

fn ends_early() -> Fault {
    Fault::HeaderTruncated("the file ends before its audio begins".into())
}

fn decode_track(
    container: Container,
    part: Part<'_>,
    options: Options,
) -> Result<Recording, Fault> {
    if part.rope.len() == 0 {
        return Err(ends_early());
    }
    let Part {
        rope,
        bytes,
        cut: part_is_cut,
        gaps,
    } = part;
    let stream = MediaSourceStream::new(Box::new(rope), Default::default());
    let mut reader = open(container, stream).map_err(|e| match e {
        Error::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => ends_early(),
        Error::Unsupported(_) => Fault::Unsupported(container::describe_unsupported(bytes)),
        _ => Fault::Damaged("its header makes no sense".into()),
    })?;
    let track = audio_track(reader.as_ref())
        .ok_or_else(|| {
            Fault::Unsupported(match mp4_edit::audio_sample_entry(bytes) {
                Some(_) => container::describe_unsupported(bytes),
                None => "a file without an audio track".into(),
            })
        })?
        .clone();
    let mut decoder = Decoder::new(&track, bytes)?;
    let name = match decoder {
        Decoder::Opus(_) => format!("{} opus", container.name()),
        Decoder::Symphonia(_) => container.name().into(),
    };
    // For AAC frames, the reader only estimates the length.
    let promised = (container != Container::Frames(Codec::Aac))
        .then_some(track.num_frames)
        .flatten();
    let mut output = Output {
        options,
        damaged: gaps,
        ..Output::default()
    };
    let cut = read_packets(reader.as_mut(), &track, &mut decoder, &mut output)?;
    let Some((sample_rate, mixer)) = output.mixer.filter(|(_, m)| m.frames() > 0) else {
        return Err(if output.damaged > gaps {
            Fault::Damaged("none of it can be decoded".into())
        } else if cut || part_is_cut {
            ends_early()
        } else {
            Fault::NoSamples
        });
    };
    // A container that states twice the decoded rate signals HE-AAC. The decoder renders only the
    // lower half of the band.
    let stated_rate = match &track.codec_params {
        Some(CodecParameters::Audio(params)) => params.sample_rate,
        _ => None,
    };
    let is_half = container == Container::Mp4 && stated_rate == sample_rate.checked_mul(2);
    let missing = !is_half
        && promised.is_some_and(|n| (mixer.frames() as u64) < n)
        && output.damaged == 0
        && !matches!(decoder, Decoder::Opus(_));
    // A reader may also reach the end of the file while it searches for a frame after the last.
    let is_complete = promised.is_some_and(|n| mixer.frames() as u64 >= n);
    let mut recording = mixer.recording(sample_rate, name);
    if container == Container::Mp4 {
        let samples = &mut recording.samples;
        let playable = mp4_edit::playable_range(bytes, track.id, samples.len(), sample_rate);
        samples.truncate(playable.end);
        samples.drain(..playable.start);
    }
    if is_half {
        let what = "its upper frequencies, which are stored in another way (HE-AAC)".into();
        recording.defects.push(Defect::LeftOut { what });
    }
    recording.truncated = cut && !is_complete || part_is_cut || missing;
    recording.damaged_packets = output.damaged;
    Ok(recording)
}

/// Returns the default audio track, or else the first one.
fn audio_track(reader: &dyn FormatReader) -> Option<&Track> {
    let first = || {
        let is_audio =
            |track: &&Track| matches!(track.codec_params, Some(CodecParameters::Audio(_)));
        reader.tracks().iter().find(is_audio)
    };
    reader.default_track(TrackType::Audio).or_else(first)
}

/// Packet decoder.
enum Decoder {
    Symphonia(Box<dyn AudioDecoder>),
    Opus(Box<Opus>),
}

impl Decoder {
    /// Creates the decoder of a track in the file `bytes`.
    fn new(track: &Track, bytes: &[u8]) -> Result<Self, Fault> {
        let Some(CodecParameters::Audio(params)) = &track.codec_params else {
            return Err(Fault::Unsupported(container::describe_unsupported(bytes)));
        };
        // Checked before the decoder is created, because it allocates buffers for all channels.
        if let (Some(rate), Some(channels)) = (params.sample_rate, &params.channels) {
            check_spec(rate, channels.count() as u32)?;
        }
        if params.codec == CODEC_ID_OPUS {
            let opus = Opus::new(params.extra_data.as_deref().unwrap_or_default())?;
            return Ok(Self::Opus(Box::new(opus)));
        }
        symphonia::default::get_codecs()
            .make_audio_decoder(params, &AudioDecoderOptions::default())
            .map(Self::Symphonia)
            .map_err(|e| match e {
                Error::Unsupported(_) => Fault::Unsupported(container::describe_unsupported(bytes)),
                _ => Fault::Damaged("its description of the sound makes no sense".into()),
            })
    }
}

/// Samples decoded so far.
#[derive(Default)]
struct Output {
    options: Options,
    /// Sample rate, and the samples.
    mixer: Option<(u32, Mixer)>,
    damaged: usize,
    integers: Vec<i32>,
    floats: Vec<f64>,
}

/// Decodes all packets of a track; returns whether the file ended early.
fn read_packets(
    reader: &mut dyn FormatReader,
    track: &Track,
    decoder: &mut Decoder,
    output: &mut Output,
) -> Result<bool, Fault> {
    loop {
        let packet = match reader.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => return Ok(false),
            Err(Error::IoError(e)) if e.kind() == ErrorKind::UnexpectedEof => return Ok(true),
            Err(_) => {
                output.damaged += 1;
                return Ok(true);
            }
        };
        if packet.track_id != track.id {
            continue;
        }
        match decoder {
            Decoder::Opus(opus) => output.take_opus(opus, &packet)?,
            Decoder::Symphonia(decoder) => match decoder.decode(&packet) {
                Ok(decoded) => output.take(&decoded)?,
                Err(Error::DecodeError(_) | Error::IoError(_)) => output.damaged += 1,
                Err(_) => return Err(Fault::Damaged("its sound makes no sense".into())),
            },
        }
    }
}

impl Output {
    /// Returns the mixer, created on first use. Rate and channel count must not change within a
    /// track.
    fn mixer(&mut self, rate: u32, channels: u32) -> Result<&mut Mixer, Fault> {
        if self.mixer.is_none() {
            check_spec(rate, channels)?;
            let limit = self.options.limit.frames(rate);
            let mixer = Mixer::new(channels, self.options.channel, 0, limit)?;
            self.mixer = Some((rate, mixer));
        }
        let (first_rate, mixer) = self.mixer.as_mut().expect("made above");
        if (rate, channels) != (*first_rate, mixer.channels()) {
            return Err(Fault::Damaged(format!(
                "it changes from {first_rate} Hz, {} channels to {rate} Hz, {channels} channels \
                 on the way",
                mixer.channels()
            )));
        }
        Ok(mixer)
    }

    fn take(&mut self, decoded: &GenericAudioBufferRef<'_>) -> Result<(), Fault> {
        let rate = decoded.spec().rate();
        let channels = decoded.spec().channels().count() as u32;
        if decoded.frames() == 0 {
            return Ok(());
        }
        let (mut floats, mut integers) = (
            std::mem::take(&mut self.floats),
            std::mem::take(&mut self.integers),
        );
        let mixer = self.mixer(rate, channels)?;
        match decoded {
            GenericAudioBufferRef::F32(_) | GenericAudioBufferRef::F64(_) => {
                decoded.copy_to_vec_interleaved(&mut floats);
                mixer.push_all_floats(&floats, |x| x)?;
            }
            // Symphonia scales integers of every width to 32 bits.
            _ => {
                decoded.copy_to_vec_interleaved(&mut integers);
                mixer.push_all(&integers, |x| (x >> 16) as i16)?;
            }
        }
        (self.floats, self.integers) = (floats, integers);
        Ok(())
    }

    fn take_opus(&mut self, opus: &mut Opus, packet: &Packet) -> Result<(), Fault> {
        let channels = opus.channels();
        match opus.decode(&packet.data, packet.trim_end.get()) {
            Some(samples) => {
                let mixer = self.mixer(Opus::RATE, channels)?;
                mixer.push_all(samples, |x| x)
            }
            None => {
                self.damaged += 1;
                Ok(())
            }
        }
    }
}
