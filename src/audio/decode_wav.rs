//! WAV decoder for every common sample encoding.

use std::borrow::Cow;

use super::container::{self, Container};
use super::encoding::{Mixer, from_a_law, from_mu_law};
use super::error::Fault;
use super::join::Joiner;
use super::recording::{Defect, Options, Recording};
use super::wav_header::{self, Format, Layout};
use super::{decode_media, frames, tags};

/// Storage format of a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Storage {
    /// Integer aligned to the top of a container with this number of bytes; one byte is unsigned.
    Integer(usize),
    /// 24-bit integer aligned to the bottom of a 4-byte container.
    LowInteger24,
    Float32,
    Float64,
    ALaw,
    MuLaw,
}

impl Storage {
    fn bytes(self) -> usize {
        match self {
            Storage::Integer(bytes) => bytes,
            Storage::LowInteger24 | Storage::Float32 => 4,
            Storage::Float64 => 8,
            Storage::ALaw | Storage::MuLaw => 1,
        }
    }
}

/// Decodes a file that [`container::is_riff`] accepts, and the WAV files concatenated to it.
pub fn decode(bytes: &[u8], options: Options) -> Result<Recording, Fault> {
    let mut join = Joiner::new(options);
    let mut rest = bytes;
    loop {
        let layout = match wav_header::parse(rest) {
            Ok(layout) => layout,
            // A file with an unreadable header has no known end, so nothing after it is searched.
            Err(fault) => {
                join.add(|| Err(fault))?;
                return join.finish(&[]);
            }
        };
        let within = join.options();
        let more = join.add(|| decode_one(rest, &layout, within))?;
        let end = layout.end;
        if !more || !container::is_whole_riff(&rest[end..]) {
            let mut recording = join.finish(&rest[end..])?;
            let trailing = tags::strip_leading(&rest[end..]);
            if more && recording.defects.iter().all(|defect| !is_left_out(defect)) {
                recording
                    .defects
                    .extend(report_trailing_bytes(trailing, &layout));
            }
            return Ok(recording);
        }
        rest = &rest[end..];
    }
}

fn is_left_out(defect: &Defect) -> bool {
    matches!(defect, Defect::LeftOut { .. })
}

/// Reports bytes after the stated data length that are neither chunks nor tags; they may be audio.
fn report_trailing_bytes(trailing: &[u8], layout: &Layout) -> Option<Defect> {
    /// Size in bytes of the smallest remainder that is reported; a shorter remainder is padding.
    const NOTABLE: usize = 256;
    let frame = layout.format.frame().max(1) as f64;
    let seconds = trailing.len() as f64 / frame / f64::from(layout.format.sample_rate);
    (trailing.len() >= NOTABLE).then(|| Defect::LeftOut {
        what: format!(
            "behind the length that its header gives lie {} bytes of another kind (as sound, \
             {seconds:.2} s)",
            trailing.len()
        ),
    })
}

/// Decodes the samples of one WAV file.
fn decode_one(bytes: &[u8], layout: &Layout, options: Options) -> Result<Recording, Fault> {
    match layout.format.tag {
        wav_header::IMA_ADPCM | wav_header::MS_ADPCM => {
            let wav = with_minimal_header(bytes, layout);
            let mut recording = decode_media::decode(Container::Wav, &wav, options)?;
            // Encoders pad the last block; the `fact` chunk may state the true length.
            let block = usize::from(layout.format.block_align) * 2;
            let stated = layout.fact_frames.map_or(0, |n| n as usize);
            if (1..recording.samples.len()).contains(&stated)
                && recording.samples.len() - stated < block
            {
                recording.samples.truncate(stated);
            }
            recording.truncated |= layout.truncated;
            recording.format = "wav adpcm".into();
            Ok(recording)
        }
        wav_header::MP3 => {
            let mp3 = data(bytes, layout);
            let Some((codec, start)) = frames::find(&mp3) else {
                return Err(Fault::Damaged("there are no MP3 frames in it".into()));
            };
            let frames = Container::Frames(codec);
            let mut recording = decode_media::decode(frames, &mp3[start..], options)?;
            // Some programs pad the chunk with part of a frame, so an incomplete last frame is no
            // truncation.
            recording.truncated = layout.truncated;
            recording.format = "wav mp3".into();
            Ok(recording)
        }
        _ => decode_samples(bytes, layout, options),
    }
}

/// Returns the body of the data chunk; several chunks are concatenated.
fn data<'a>(bytes: &'a [u8], layout: &Layout) -> Cow<'a, [u8]> {
    match &layout.data[..] {
        [one] => Cow::Borrowed(&bytes[one.clone()]),
        several => {
            let pieces: Vec<&[u8]> = several.iter().map(|part| &bytes[part.clone()]).collect();
            Cow::Owned(pieces.concat())
        }
    }
}

fn decode_samples(bytes: &[u8], layout: &Layout, options: Options) -> Result<Recording, Fault> {
    let format = &layout.format;
    let parts = || layout.data.iter().map(|part| &bytes[part.clone()]);
    let storage = storage(format, parts())?;
    let size = storage.bytes() * format.channels as usize;
    let frames: usize = parts().map(|part| part.len() / size).sum();
    if frames == 0 {
        return Err(Fault::NoSamples);
    }
    let limit = options.limit.frames(format.sample_rate);
    if frames > limit {
        return Err(Fault::TooLong { frames: limit });
    }
    let mut mixer = Mixer::new(format.channels, options.channel, frames, limit)?;
    for part in parts() {
        read(&part[..part.len() / size * size], storage, &mut mixer)?;
    }
    let encoding = match format.tag {
        wav_header::PCM => format!("pcm {} bit", format.valid_bits),
        wav_header::IEEE_FLOAT => format!("float {} bit", format.bits),
        wav_header::A_LAW => "a-law".into(),
        _ => "mu-law".into(),
    };
    let mut recording = mixer.recording(format.sample_rate, format!("wav {encoding}"));
    recording.truncated = layout.truncated;
    let what = if layout.counts_frames {
        Some(
            "the length of its sound counts frames where it should count bytes; all was read"
                .into(),
        )
    } else {
        contradiction(format)
    };
    let defect = what.map(|what| Defect::Header { what });
    recording.defects.splice(0..0, defect);
    Ok(recording)
}

/// Describes a stated frame size that [`Format::width`] overrides.
fn contradiction(format: &Format) -> Option<String> {
    let (stated, frame) = (usize::from(format.block_align), format.frame());
    (stated != 0 && stated != frame).then(|| {
        let (channels, bits) = (format.channels, format.width() * 8);
        let plural = if channels == 1 { "" } else { "s" };
        format!(
            "{channels} channel{plural} of {bits} bits are {frame} bytes, and it gives {stated}; \
             {frame} was believed"
        )
    })
}

/// Passes all samples of `data`, a whole number of them, to `mixer`.
fn read(data: &[u8], storage: Storage, mixer: &mut Mixer) -> Result<(), Fault> {
    match storage {
        Storage::Integer(1) => mixer.push_all(data, |x| i16::from_le_bytes([0, x ^ 0x80])),
        Storage::Integer(2) => mixer.push_all(data.as_chunks().0, i16::from_le_bytes),
        Storage::Integer(3) => {
            mixer.push_all(data.as_chunks().0, |[_, a, b]| i16::from_le_bytes([a, b]))
        }
        Storage::Integer(4) => mixer.push_all(data.as_chunks().0, |[_, _, a, b]| {
            i16::from_le_bytes([a, b])
        }),
        Storage::Integer(n) => data
            .chunks_exact(n)
            .try_for_each(|s| mixer.push(i16::from_le_bytes([s[n - 2], s[n - 1]]))),
        Storage::LowInteger24 => mixer.push_all(data.as_chunks().0, |[_, a, b, _]| {
            i16::from_le_bytes([a, b])
        }),
        Storage::Float32 => {
            mixer.push_all_floats(data.as_chunks().0, |s| f32::from_le_bytes(s).into())
        }
        Storage::Float64 => mixer.push_all_floats(data.as_chunks().0, f64::from_le_bytes),
        Storage::ALaw => mixer.push_all(data, from_a_law),
        Storage::MuLaw => mixer.push_all(data, from_mu_law),
    }
}

fn storage<'a>(
    format: &Format,
    data: impl Iterator<Item = &'a [u8]> + Clone,
) -> Result<Storage, Fault> {
    let Format { bits, channels, .. } = *format;
    let width = format.width();
    match (format.tag, bits, width) {
        (wav_header::PCM, 24 | 32, 4)
            if format.valid_bits == 24 && is_low_24(data.clone(), format.extensible) =>
        {
            Ok(Storage::LowInteger24)
        }
        (wav_header::PCM, 1..=64, 1..=8) => Ok(Storage::Integer(width)),
        (wav_header::IEEE_FLOAT, 32, 4) => Ok(Storage::Float32),
        (wav_header::IEEE_FLOAT, 64, 8) => Ok(Storage::Float64),
        (wav_header::A_LAW, ..) => Ok(Storage::ALaw),
        (wav_header::MU_LAW, ..) => Ok(Storage::MuLaw),
        (wav_header::PCM | wav_header::IEEE_FLOAT, ..) => Err(Fault::BadHeader(format!(
            "{bits} bits per sample, {channels} channels and {} bytes per frame do not fit",
            format.block_align
        ))),
        (tag, ..) => Err(Fault::Unsupported(match wav_header::encoding_name(tag) {
            Some(name) => format!("{name} in a WAV file (encoding 0x{tag:04X})"),
            None => format!("WAV encoding 0x{tag:04X}"),
        })),
    }
}

/// Returns whether 24-bit samples are aligned to the bottom of their 4-byte containers.
///
/// The standard aligns them to the top, with zeros below. ALSA's `S24_LE`, hound and others align
/// them to the bottom; their top byte is the sign extension or always zero.
///
/// If the top byte is always zero, top-aligned samples would never be negative, which no recording
/// is. If it is always the sign, top-aligned samples would all be below -48 dB. In that case an
/// extensible header is trusted unless a bottom byte is non-zero, which is impossible for
/// top-aligned samples.
fn is_low_24<'a>(data: impl Iterator<Item = &'a [u8]> + Clone, extensible: bool) -> bool {
    let samples = || data.clone().flat_map(|part| part.chunks_exact(4));
    let never_negative = samples().all(|s| s[3] == 0);
    let sign_above = samples().all(|s| s[3] == if s[2] & 0x80 != 0 { 0xFF } else { 0 });
    let low_bits = samples().any(|s| s[0] != 0);
    never_negative || sign_above && (low_bits || !extensible)
}

/// Returns the recording as a WAV file with a minimal, consistent header.
fn with_minimal_header(bytes: &[u8], layout: &Layout) -> Vec<u8> {
    let format = &bytes[layout.format_bytes.clone()];
    let data = data(bytes, layout);
    match layout.fact_frames {
        Some(frames) => riff(&[
            (b"fmt ", format),
            (b"fact", &frames.to_le_bytes()),
            (b"data", &data),
        ]),
        None => riff(&[(b"fmt ", format), (b"data", &data)]),
    }
}

/// Builds a WAVE file from chunks.
fn riff(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let size = chunks
        .iter()
        .map(|(_, chunk)| 9 + chunk.len())
        .sum::<usize>();
    let mut out = Vec::with_capacity(12 + size);
    out.extend(b"RIFF\0\0\0\0WAVE");
    for (id, chunk) in chunks {
        out.extend(*id);
        out.extend((chunk.len() as u32).to_le_bytes());
        out.extend(*chunk);
        out.resize(out.len().next_multiple_of(2), 0);
    }
    let body = (out.len() - 8) as u32;
    out[4..8].copy_from_slice(&body.to_le_bytes());
    out
}
