//! RIFF/WAVE header parser that tolerates wrong length fields.
//!
//! Sources: Microsoft's "Multimedia Programming Interface and Data Specifications 1.0" (RIFF,
//! WAVE), its `WAVEFORMATEXTENSIBLE` documentation, EBU Tech 3306 / ITU-R BS.2088 (RF64, BW64).

use std::ops::Range;

use super::container;
use super::error::{Fault, check_spec};
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

/// Returns the common name of an unsupported encoding.
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

/// Last 14 bytes of the sub-format GUIDs whose first two bytes are a format tag: the standard GUID,
/// and that of ambisonic B-format, which stores samples identically.
const SUB_FORMATS: [[u8; 14]; 2] = [
    [0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xAA, 0, 0x38, 0x9B, 0x71],
    [
        0, 0, 0x21, 7, 0xD3, 0x11, 0x86, 0x44, 0xC8, 0xC1, 0xCA, 0, 0, 0,
    ],
];

/// Smallest data length that counts as a placeholder if the file is shorter. Programs that cannot
/// seek back leave one: ffmpeg 0xFFFFFFFF, sox and arecord 0x7FFFFFFF minus the header size.
const PLACEHOLDER: u32 = 0x7FFF_0000;

/// Contents of the `fmt ` chunk.
#[derive(Debug, Clone, PartialEq)]
pub struct Format {
    /// Format tag; for an extensible header, the tag in its sub-format GUID.
    pub tag: u16,
    /// Set if the header is `WAVEFORMATEXTENSIBLE`.
    pub extensible: bool,
    /// Number of channels, 1 to 64.
    pub channels: u32,
    /// Sample rate in Hz, in the accepted range.
    pub sample_rate: u32,
    /// Stated bytes per frame, or per block of a block-compressed encoding.
    pub block_align: u16,
    /// Stated bits per sample.
    pub bits: u16,
    /// Number of significant bits per sample; an extensible header may state fewer than `bits`.
    pub valid_bits: u16,
}

impl Format {
    /// Returns the number of bytes per sample.
    ///
    /// The value follows from `bits`. `block_align` is ignored because phones write a constant
    /// there. The one exception is a sample of 17 to 24 bits, for which it distinguishes containers
    /// of three and four bytes.
    pub fn width(&self) -> usize {
        // G.711 codes are one byte, whatever `bits` states.
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

    /// Returns the number of bytes per frame of all channels, from [`Format::width`].
    pub fn frame(&self) -> usize {
        self.width() * self.channels as usize
    }
}

/// Positions of the parts of a WAV file. All ranges lie inside the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// Sample format.
    pub format: Format,
    /// Body of the `fmt ` chunk.
    pub format_bytes: Range<usize>,
    /// Number of frames that the `fact` chunk states, if there is one.
    pub fact_frames: Option<u32>,
    /// Ranges of the samples, one per data chunk.
    pub data: Vec<Range<usize>>,
    /// Set if the header states more samples than the file holds.
    pub truncated: bool,
    /// Set if the data length counts frames instead of bytes.
    pub counts_frames: bool,
    /// End of the last chunk.
    pub end: usize,
}

/// Walks over the chunks of `bytes`, which [`container::is_riff`] has accepted.
///
/// Chunk lengths are clipped to the file. Data lengths of 0, placeholders and lengths past the end
/// are tolerated, as are odd chunks with or without the padding byte of the standard.
///
/// # Errors
/// If the header is incomplete or invalid, the sub-format is unknown, or there is no data chunk.
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
                // Cached, so that a list of many empty chunks is scanned only once.
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
            // An unfilled or excessive length also spans a second file behind this one; end at its
            // header.
            if start + length == bytes.len() && size as usize != length {
                let is_file = |bytes: &[u8]| bytes.get(8..16) == Some(b"WAVEfmt ");
                length = find(&bytes[start..], b"RIFF", is_file).unwrap_or(length);
            }
            data.push(start..start + length);
            truncated |= cut;
            at = next_chunk(bytes, start + length);
            continue;
        }
        if !data.is_empty() && (!is_chunk_id(bytes, at) || container::has_magic(&bytes[at..])) {
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
    // Nothing but an incomplete chunk header follows the format.
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

/// Returns the length of a data chunk whose body starts at `start`, and whether samples are
/// missing. `None` for a chunk that really is empty. `is_list` states that valid chunks are known
/// to follow up to the end of the file.
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
            // Unless other chunks follow, a length of 0 is a field that the program never filled
            // in.
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

/// Returns whether consecutive chunks from `at` end exactly at the end of the file.
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

/// Returns the offset of the chunk after one that ends at `end`. Chunks of odd length have a
/// padding byte, but some programs omit it.
fn next_chunk(bytes: &[u8], end: usize) -> usize {
    if end % 2 == 1 && (is_chunk_id(bytes, end + 1) || !is_chunk_id(bytes, end)) {
        (end + 1).min(bytes.len())
    } else {
        end
    }
}

/// Returns whether four printable ASCII characters stand at `at`.
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
