//! WAV samples of every common encoding.

use super::decode::{Fault, Limit, Recording};
use super::decode_media;
use super::encoding::{Mixer, from_a_law, from_mu_law};
use super::wav_header::{self, Format, Layout};

/// How the samples of a frame are stored.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Storage {
    /// Integers in containers of this many bytes, at the top; one byte means unsigned.
    Integer(usize),
    /// 24-bit integers at the bottom of 4-byte containers.
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

/// Whether the bytes begin like a RIFF file, or like the start of one that was cut short.
pub fn is_riff(bytes: &[u8]) -> bool {
    let magic = &bytes[..bytes.len().min(4)];
    [b"RIFF", b"RF64", b"BW64"]
        .iter()
        .any(|m| m.starts_with(magic))
        && bytes.get(8..12).is_none_or(|form| form == b"WAVE")
}

/// Decodes a file that [`is_riff`] accepts.
pub fn decode(bytes: &[u8], limit: Limit) -> Result<Recording, Fault> {
    let layout = wav_header::parse(bytes)?;
    let data = &bytes[layout.data.clone()];
    match layout.format.tag {
        wav_header::IMA_ADPCM | wav_header::MS_ADPCM => {
            let mut recording = decode_media::decode(&rebuilt(bytes, &layout), limit)?;
            // The last block is filled up; the header may say where the recording ends in it.
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
            let mut recording = decode_media::decode(data, limit)?;
            recording.truncated |= layout.truncated;
            recording.format = "wav mp3".into();
            Ok(recording)
        }
        _ => decode_samples(data, &layout, limit),
    }
}

fn decode_samples(data: &[u8], layout: &Layout, limit: Limit) -> Result<Recording, Fault> {
    let format = &layout.format;
    let storage = storage(format, data)?;
    let channels = format.channels as usize;
    let width = storage.bytes();
    let frames = data.len() / (width * channels);
    if frames == 0 {
        return Err(Fault::NoSamples);
    }
    let limit = limit.frames(format.sample_rate);
    if frames > limit {
        return Err(Fault::TooLong { frames: limit });
    }
    let data = &data[..frames * width * channels];
    let mut mixer = Mixer::new(channels, frames, limit);
    read(data, storage, &mut mixer)?;
    let encoding = match format.tag {
        wav_header::PCM => format!("pcm {} bit", format.valid_bits),
        wav_header::IEEE_FLOAT => format!("float {} bit", format.bits),
        wav_header::A_LAW => "a-law".into(),
        _ => "mu-law".into(),
    };
    let (samples, clipped) = mixer.finish();
    Ok(Recording {
        samples,
        sample_rate: format.sample_rate,
        channels: format.channels,
        format: format!("wav {encoding}"),
        clipped,
        truncated: layout.truncated,
        damaged_packets: 0,
    })
}

/// All samples, of whole containers.
fn read(data: &[u8], storage: Storage, mixer: &mut Mixer) -> Result<(), Fault> {
    match storage {
        Storage::Integer(1) => each(data, |[x]| mixer.push(i16::from_le_bytes([0, x ^ 0x80]))),
        Storage::Integer(2) => each(data, |s| mixer.push(i16::from_le_bytes(s))),
        Storage::Integer(3) => each(data, |[_, a, b]| mixer.push(i16::from_le_bytes([a, b]))),
        Storage::Integer(4) => each(data, |[_, _, a, b]| mixer.push(i16::from_le_bytes([a, b]))),
        Storage::Integer(n) => data
            .chunks_exact(n)
            .try_for_each(|s| mixer.push(i16::from_le_bytes([s[n - 2], s[n - 1]]))),
        Storage::LowInteger24 => each(data, |[_, a, b, _]| mixer.push(i16::from_le_bytes([a, b]))),
        Storage::Float32 => each(data, |s| mixer.push_float(f32::from_le_bytes(s).into())),
        Storage::Float64 => each(data, |s| mixer.push_float(f64::from_le_bytes(s))),
        Storage::ALaw => each(data, |[code]| mixer.push(from_a_law(code))),
        Storage::MuLaw => each(data, |[code]| mixer.push(from_mu_law(code))),
    }
}

/// Every sample of `N` bytes, until one is refused.
fn each<const N: usize>(
    data: &[u8],
    take: impl FnMut([u8; N]) -> Result<(), Fault>,
) -> Result<(), Fault> {
    data.as_chunks().0.iter().copied().try_for_each(take)
}

fn storage(format: &Format, data: &[u8]) -> Result<Storage, Fault> {
    let Format { bits, channels, .. } = *format;
    let width = container(format)?;
    match (format.tag, bits, width) {
        (wav_header::PCM, 24 | 32, 4)
            if format.valid_bits == 24 && is_low_24(data, format.extensible) =>
        {
            Ok(Storage::LowInteger24)
        }
        (wav_header::PCM, 1..=64, 1..=8) => Ok(Storage::Integer(width)),
        (wav_header::IEEE_FLOAT, 32, 4) => Ok(Storage::Float32),
        (wav_header::IEEE_FLOAT, 64, 8) => Ok(Storage::Float64),
        (wav_header::A_LAW, 8, 1) => Ok(Storage::ALaw),
        (wav_header::MU_LAW, 8, 1) => Ok(Storage::MuLaw),
        (wav_header::PCM | wav_header::IEEE_FLOAT | wav_header::A_LAW | wav_header::MU_LAW, ..) => {
            Err(Fault::BadHeader(format!(
                "{bits} bits per sample, {channels} channels and {} bytes per frame do not fit",
                format.block_align
            )))
        }
        (tag, ..) => Err(Fault::Unsupported(format!("WAV encoding 0x{tag:04X}"))),
    }
}

/// Bytes per sample. The frame size decides; where it says nothing (0), the bits do.
fn container(format: &Format) -> Result<usize, Fault> {
    let needed = usize::from(format.bits).div_ceil(8);
    let (align, channels) = (usize::from(format.block_align), format.channels as usize);
    if align == 0 {
        return Ok(needed);
    }
    if align % channels == 0 && align / channels >= needed {
        return Ok(align / channels);
    }
    Err(Fault::BadHeader(format!(
        "{align} bytes per frame cannot hold {channels} channels of {} bits",
        format.bits
    )))
}

/// Whether 24-bit samples lie at the bottom of their 4-byte containers.
///
/// The standard puts them at the top with zeros below; ALSA's `S24_LE`, hound and others put them
/// at the bottom, the top byte being the sign or always zero. If it is always zero, samples at
/// the top would never go below zero, which no recording does. If it is always the sign, samples
/// at the top would all be quieter than -48 dB: an extensible header is then believed unless a
/// bottom byte is not zero, which cannot be for samples at the top.
fn is_low_24(data: &[u8], extensible: bool) -> bool {
    let samples = || data.chunks_exact(4);
    let never_negative = samples().all(|s| s[3] == 0);
    let sign_above = samples().all(|s| s[3] == if s[2] & 0x80 != 0 { 0xFF } else { 0 });
    let low_bits = samples().any(|s| s[0] != 0);
    never_negative || sign_above && (low_bits || !extensible)
}

/// The same recording behind a header without surprises.
fn rebuilt(bytes: &[u8], layout: &Layout) -> Vec<u8> {
    let format = &bytes[layout.format_bytes.clone()];
    let data = &bytes[layout.data.clone()];
    match layout.fact_frames {
        Some(frames) => riff(&[
            (b"fmt ", format),
            (b"fact", &frames.to_le_bytes()),
            (b"data", data),
        ]),
        None => riff(&[(b"fmt ", format), (b"data", data)]),
    }
}

/// A WAVE file of the given chunks.
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
