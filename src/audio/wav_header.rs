//! Finds the format and the samples in a RIFF/WAVE file, also when its header lies.
//!
//! Sources: Microsoft's "Multimedia Programming Interface and Data Specifications 1.0" (RIFF,
//! WAVE), its `WAVEFORMATEXTENSIBLE` documentation, EBU Tech 3306 / ITU-R BS.2088 (RF64, BW64).

use std::ops::Range;

use super::decode::{Fault, check_spec};

/// Format tags (Microsoft's `mmreg.h`).
pub const PCM: u16 = 0x0001;
pub const MS_ADPCM: u16 = 0x0002;
pub const IEEE_FLOAT: u16 = 0x0003;
pub const A_LAW: u16 = 0x0006;
pub const MU_LAW: u16 = 0x0007;
pub const IMA_ADPCM: u16 = 0x0011;
pub const MP3: u16 = 0x0055;
const EXTENSIBLE: u16 = 0xFFFE;

/// The last 14 bytes of the sub-format identifiers that carry a format tag in their first two:
/// the ordinary one and that of ambisonic B-format, whose samples are the same.
const SUB_FORMATS: [[u8; 14]; 2] = [
    [0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xAA, 0, 0x38, 0x9B, 0x71],
    [
        0, 0, 0x21, 7, 0xD3, 0x11, 0x86, 0x44, 0xC8, 0xC1, 0xCA, 0, 0, 0,
    ],
];

/// Data lengths from here on, in a file that is shorter, are placeholders of programs that could
/// not go back to write the real one (0xFFFFFFFF ffmpeg, 0x7FFFFFFF minus the header sox and
/// arecord).
const PLACEHOLDER: u32 = 0x7FFF_0000;

/// The `fmt ` chunk.
#[derive(Debug, Clone, PartialEq)]
pub struct Format {
    /// Format tag; an extensible header's own one is resolved.
    pub tag: u16,
    /// Whether the header is an extensible one.
    pub extensible: bool,
    /// 1 to 64.
    pub channels: u32,
    /// Hz, in the accepted range.
    pub sample_rate: u32,
    /// Bytes per frame (or per block, where blocks are compressed), as stated.
    pub block_align: u16,
    /// Bits per sample, as stated.
    pub bits: u16,
    /// How many of them count; an extensible header may say fewer.
    pub valid_bits: u16,
}

/// Where things are in a WAV file; all ranges lie inside it.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// What the samples are.
    pub format: Format,
    /// The body of the `fmt ` chunk.
    pub format_bytes: Range<usize>,
    /// Frames according to the `fact` chunk, if there is one.
    pub fact_frames: Option<u32>,
    /// The samples.
    pub data: Range<usize>,
    /// The header promises more samples than there are.
    pub truncated: bool,
}

/// Walks over the chunks of `bytes`, which [`super::decode_wav::is_riff`] has accepted.
///
/// Nothing is taken from a header's word: chunk lengths are cut to what the file holds. Tolerated
/// are data lengths of 0, placeholders and lengths past the end, and odd chunks with or without
/// the padding byte that the standard asks for.
pub fn parse(bytes: &[u8]) -> Result<Layout, Fault> {
    if bytes.len() < 12 {
        return Err(Fault::HeaderTruncated(format!(
            "{} of the first 12 bytes",
            bytes.len()
        )));
    }
    if &bytes[8..12] != b"WAVE" {
        return Err(Fault::NotAudio);
    }
    let mut format = None;
    let mut fact_frames = None;
    let mut long_data = None;
    let mut data: Option<(Range<usize>, bool)> = None;
    let mut at = 12;
    while let Some(header) = bytes.get(at..at + 8) {
        let size = u32_at(header, 4);
        let start = at + 8;
        let available = bytes.len() - start;
        if &header[..4] == b"data" {
            let found = data_extent(bytes, start, size, long_data);
            if let Some((length, cut)) = found {
                data = Some((start..start + length, cut));
                if format.is_some() || start + length == bytes.len() {
                    break;
                }
            }
            at = next_chunk(bytes, start + found.map_or(0, |f| f.0));
            continue;
        }
        if size as usize > available {
            if data.is_some() {
                break;
            }
            let id = String::from_utf8_lossy(&header[..4])
                .escape_debug()
                .to_string();
            return Err(Fault::HeaderTruncated(format!(
                "chunk `{id}` claims {size} bytes, {available} are left"
            )));
        }
        let body = start..start + size as usize;
        match &header[..4] {
            b"fmt " if format.is_none() => {
                format = Some((parse_format(&bytes[body.clone()])?, body.clone()));
                if data.is_some() {
                    break;
                }
            }
            b"fact" if size >= 4 => fact_frames = Some(u32_at(bytes, start)),
            b"ds64" if size >= 16 => {
                let word = |at| u64::from(u32_at(bytes, at));
                long_data = Some(word(start + 8) | word(start + 12) << 32);
            }
            _ => {}
        }
        at = next_chunk(bytes, body.end);
    }
    let (format, format_bytes) = match format {
        Some(found) => found,
        None if data.is_none() => {
            return Err(Fault::HeaderTruncated(
                "no `fmt ` and no `data` chunk".into(),
            ));
        }
        None => return Err(Fault::BadHeader("there is no `fmt ` chunk".into())),
    };
    let (data, truncated) = match data {
        Some(found) => found,
        // Only a chunk header's rest, or nothing: the audio never came.
        None => return Err(Fault::NoSamples),
    };
    Ok(Layout {
        format,
        format_bytes,
        fact_frames,
        data,
        truncated,
    })
}

/// Length of a data chunk whose body starts at `start`, and whether samples are missing. `None`
/// for a chunk that is really empty.
fn data_extent(bytes: &[u8], start: usize, size: u32, long: Option<u64>) -> Option<(usize, bool)> {
    let available = bytes.len() - start;
    let claimed = match (size, long) {
        (u32::MAX, Some(long)) if long != 0 => long,
        (0, _) => {
            // A program that never came back to fill it in, unless other chunks follow.
            let empty = available == 0 || is_chunk_list(bytes, start);
            return (!empty).then_some((available, false));
        }
        _ => u64::from(size),
    };
    if claimed <= available as u64 {
        return Some((claimed as usize, false));
    }
    let placeholder = long.is_none() && size >= PLACEHOLDER;
    Some((available, !placeholder))
}

/// Whether chunks follow one another from `at` exactly to the end of the file.
fn is_chunk_list(bytes: &[u8], mut at: usize) -> bool {
    while at < bytes.len() {
        if !is_chunk_id(bytes, at) || bytes.len() - at < 8 {
            return false;
        }
        at = match (at + 8).checked_add(u32_at(bytes, at + 4) as usize) {
            Some(end) if end <= bytes.len() => next_chunk(bytes, end),
            _ => return false,
        };
    }
    true
}

/// Where the chunk after one that ends at `end` begins. Odd chunks have a padding byte, but some
/// programs leave it out.
fn next_chunk(bytes: &[u8], end: usize) -> usize {
    if end % 2 == 1 && (is_chunk_id(bytes, end + 1) || !is_chunk_id(bytes, end)) {
        (end + 1).min(bytes.len())
    } else {
        end
    }
}

/// Whether four printable characters stand at `at`.
fn is_chunk_id(bytes: &[u8], at: usize) -> bool {
    bytes
        .get(at..at + 4)
        .is_some_and(|id| id.iter().all(|c| (b' '..=b'~').contains(c)))
}

fn parse_format(body: &[u8]) -> Result<Format, Fault> {
    if body.len() < 16 {
        return Err(Fault::BadHeader(format!(
            "the `fmt ` chunk has {} bytes, not 16",
            body.len()
        )));
    }
    let mut tag = u16_at(body, 0);
    let extensible = tag == EXTENSIBLE;
    if extensible {
        if body.len() < 40 {
            return Err(Fault::BadHeader(format!(
                "the extensible `fmt ` chunk has {} bytes, not 40",
                body.len()
            )));
        }
        if !SUB_FORMATS.iter().any(|suffix| *suffix == body[26..40]) {
            return Err(Fault::Unsupported("a WAV sub-format unknown here".into()));
        }
        tag = u16_at(body, 24);
    }
    let channels = u32::from(u16_at(body, 2));
    let sample_rate = u32_at(body, 4);
    check_spec(sample_rate, channels)?;
    let (block_align, bits) = (u16_at(body, 12), u16_at(body, 14));
    let valid_bits = match if extensible { u16_at(body, 18) } else { 0 } {
        valid if (1..bits).contains(&valid) => valid,
        _ => bits,
    };
    Ok(Format {
        tag,
        extensible,
        channels,
        sample_rate,
        block_align,
        bits,
        valid_bits,
    })
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
