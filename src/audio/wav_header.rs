//! Finds the format and the samples in a RIFF/WAVE file, also when its header lies.
//!
//! Sources: Microsoft's "Multimedia Programming Interface and Data Specifications 1.0" (RIFF,
//! WAVE), its `WAVEFORMATEXTENSIBLE` documentation, EBU Tech 3306 / ITU-R BS.2088 (RF64, BW64).

use std::ops::Range;

use super::container;
use super::decode::{Fault, check_spec};
use super::parts::find;

/// Format tags (Microsoft's `mmreg.h`).
pub const PCM: u16 = 0x0001;
pub const MS_ADPCM: u16 = 0x0002;
pub const IEEE_FLOAT: u16 = 0x0003;
pub const A_LAW: u16 = 0x0006;
pub const MU_LAW: u16 = 0x0007;
pub const IMA_ADPCM: u16 = 0x0011;
pub const MP3: u16 = 0x0055;
const EXTENSIBLE: u16 = 0xFFFE;

/// Everyday name of an unsupported encoding.
pub fn encoding_name(tag: u16) -> Option<&'static str> {
    Some(match tag {
        0x0031 => "GSM 6.10",
        0x0022 => "TrueSpeech",
        0x0038 | 0x0039 | 0x0057 | 0x0136 => "AMR",
        0x0040 | 0x0045 | 0x0064 | 0x0065 => "G.721 or G.726",
        0x0042 => "G.723",
        0x0050 => "MP2",
        0x0083 | 0x0133 => "G.729",
        0x0160..=0x0163 => "WMA",
        0x00FF | 0x1600 | 0x1610 | 0x4143 | 0xA106 => "AAC",
        0x2000 => "Dolby Digital (AC-3)",
        0x2001 => "DTS",
        0xA109 => "Speex",
        0xF1AC => "FLAC",
        0x674F..=0x6771 => "Vorbis",
        _ => return None,
    })
}

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

impl Format {
    /// Bytes per sample: `channels` times `bits` decide. The stated size of a frame contradicts them
    /// in files of phones, which write a constant there, and is only believed where it tells how
    /// samples of 17 to 24 bits are stored: in three bytes or in four.
    pub fn width(&self) -> usize {
        // G.711 has codes of one byte, whatever the header calls their size.
        if matches!(self.tag, A_LAW | MU_LAW) {
            return 1;
        }
        let needed = usize::from(self.bits).div_ceil(8);
        let stated = usize::from(self.block_align);
        match needed {
            3 if stated == 4 * self.channels as usize => 4,
            needed => needed,
        }
    }

    /// Bytes per frame of all channels, by [`Format::width`].
    pub fn frame(&self) -> usize {
        self.width() * self.channels as usize
    }
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
    /// The samples, in one piece or several.
    pub data: Vec<Range<usize>>,
    /// The header promises more samples than there are.
    pub truncated: bool,
    /// The length that the header gives is that of a part: it counts frames and not bytes.
    pub counts_frames: bool,
    /// End of the last chunk.
    pub end: usize,
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
    let mut format: Option<(Format, Range<usize>)> = None;
    let mut fact_frames = None;
    let mut long_data = None;
    let mut data: Vec<Range<usize>> = Vec::new();
    let (mut truncated, mut counts_frames, mut is_list) = (false, false, false);
    let mut at = 12;
    while let Some(header) = bytes.get(at..at + 8) {
        let size = u32_at(header, 4);
        let start = at + 8;
        let available = bytes.len() - start;
        if &header[..4] == b"data" {
            let Some((mut length, cut)) = data_extent(bytes, start, size, long_data, is_list)
            else {
                // Known once, so that many empty chunks take no walk each.
                is_list = true;
                at = next_chunk(bytes, start);
                continue;
            };
            let frame = format.as_ref().map_or(0, |(format, _)| format.frame());
            if frame > 1
                && length.checked_mul(frame) == Some(available)
                && !is_chunk_id(bytes, start + length)
            {
                (length, counts_frames) = (available, true);
            }
            // A length that was never filled in, or is too large, also covers a file behind this one.
            if start + length == bytes.len() && size as usize != length {
                let is_file = |bytes: &[u8]| bytes.get(8..16) == Some(b"WAVEfmt ");
                length = find(&bytes[start..], b"RIFF", is_file).unwrap_or(length);
            }
            data.push(start..start + length);
            truncated |= cut;
            at = next_chunk(bytes, start + length);
            continue;
        }
        if !data.is_empty() && (!is_chunk_id(bytes, at) || container::is_marked(&bytes[at..])) {
            break;
        }
        if size as usize > available {
            if !data.is_empty() {
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
        None if data.is_empty() => {
            return Err(Fault::HeaderTruncated(
                "no `fmt ` and no `data` chunk".into(),
            ));
        }
        None => return Err(Fault::BadHeader("there is no `fmt ` chunk".into())),
    };
    // Only a chunk header's rest, or nothing: the audio never came.
    if data.is_empty() {
        return Err(Fault::NoSamples);
    }
    Ok(Layout {
        format,
        format_bytes,
        fact_frames,
        data,
        truncated,
        counts_frames,
        end: at.min(bytes.len()),
    })
}

/// Length of a data chunk whose body starts at `start`, and whether samples are missing. `None`
/// for a chunk that is really empty; `is_list` is set if chunks are known to follow to the end of the
/// file.
fn data_extent(
    bytes: &[u8],
    start: usize,
    size: u32,
    long: Option<u64>,
    is_list: bool,
) -> Option<(usize, bool)> {
    let available = bytes.len() - start;
    let claimed = match (size, long) {
        (u32::MAX, Some(long)) if long != 0 => long,
        (0, _) => {
            // A program that never came back to fill it in, unless other chunks follow.
            let empty = available == 0 || is_list || is_chunk_list(bytes, start);
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
