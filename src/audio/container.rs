//! Container recognition from the first bytes.

use super::error::Fault;
use super::frames::{self, Codec};
use super::{mp4_edit, tags};

/// Container or stream format of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    Wav,
    Aiff,
    Flac,
    Ogg,
    Mp4,
    Matroska,
    Frames(Codec),
}

impl Container {
    /// Name that [`Recording::format`](super::Recording::format) begins with.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wav => "wav",
            Self::Aiff => "aiff",
            Self::Flac => "flac",
            Self::Ogg => "ogg",
            Self::Mp4 => "isomp4",
            Self::Matroska => "matroska",
            Self::Frames(Codec::Mp3) => "mp3",
            Self::Frames(Codec::Aac) => "aac",
        }
    }
}

/// Longest run of zeros accepted in front of a frame stream.
const MAX_LEADING_ZEROS: usize = 4096;

/// Returns the container of a recording and its offset after any leading tags.
///
/// # Errors
/// If the format cannot be read; a recognised but unsupported format is named.
pub(super) fn recognise(bytes: &[u8]) -> Result<(Container, usize), Fault> {
    let start = tags::leading_length(bytes)?;
    let sound = &bytes[start..];
    if is_riff(sound) && !sound.is_empty() {
        return Ok((Container::Wav, start));
    }
    if let Some(container) = by_magic(sound) {
        return Ok((container, start));
    }
    if let Some(name) = unsupported_format_name(sound) {
        return Err(Fault::Unsupported(name.into()));
    }
    let zeros = sound
        .iter()
        .take(MAX_LEADING_ZEROS)
        .take_while(|b| **b == 0)
        .count();
    // Two sync bytes occur by chance in any data, so a stream must begin with a frame. Only a
    // leading tag, which marks the file as a recording, allows other bytes before the first frame.
    let is_frame = |pair: &[u8]| pair[0] == 0xFF && pair[1] & 0xE0 == 0xE0 && pair[1] & 0x18 != 8;
    let may_begin = start > 0 || sound.get(zeros..zeros + 2).is_some_and(is_frame);
    if may_begin {
        if let Some((codec, at)) = frames::find(sound) {
            return Ok((Container::Frames(codec), start + at));
        }
        if frames::is_other_layer(&sound[zeros..]) {
            return Err(Fault::Unsupported("an MP1 or MP2 file".into()));
        }
    }
    if start > 0 && sound.is_empty() {
        return Err(Fault::NoSamples);
    }
    Err(Fault::NotAudio)
}

/// Returns whether `bytes` begin with the magic number of a container.
pub(super) fn has_magic(bytes: &[u8]) -> bool {
    is_whole_riff(bytes) || by_magic(bytes).is_some()
}

/// Returns whether `bytes` begin like a RIFF file, or are the truncated start of one.
pub fn is_riff(bytes: &[u8]) -> bool {
    let magic = &bytes[..bytes.len().min(4)];
    [b"RIFF", b"RF64", b"BW64"]
        .iter()
        .any(|m| m.starts_with(magic))
        && bytes.get(8..12).is_none_or(|form| form == b"WAVE")
}

/// Returns whether `bytes` begin with the complete 12-byte header of a RIFF file.
pub fn is_whole_riff(bytes: &[u8]) -> bool {
    bytes.len() >= 12 && is_riff(bytes)
}

/// Recognises a container by its magic number.
fn by_magic(bytes: &[u8]) -> Option<Container> {
    let kind = |at: usize| bytes.get(at..at + 4);
    Some(match kind(0)? {
        b"FORM" if matches!(kind(8)?, b"AIFF" | b"AIFC") => Container::Aiff,
        b"fLaC" => Container::Flac,
        b"OggS" => Container::Ogg,
        [0x1A, 0x45, 0xDF, 0xA3] => Container::Matroska,
        _ if kind(4)? == b"ftyp" => Container::Mp4,
        _ => return None,
    })
}

/// Returns the common name of a known format that cannot be read.
fn unsupported_format_name(bytes: &[u8]) -> Option<&'static str> {
    const MAGICS: [(&[u8], &str); 17] = [
        (b"#!AMR", "an AMR file"),
        (b"\x30\x26\xB2\x75\x8E\x66\xCF\x11", "a WMA file"),
        (b"caff", "a CAF file"),
        (b".snd", "an AU file"),
        (b"MThd", "a MIDI file, which holds notes and no sound,"),
        (b"wvpk", "a WavPack file"),
        (b"MAC ", "a Monkey's Audio file"),
        (b"DSD ", "a DSD file"),
        (b"FRM8", "a DSD file"),
        (b"MPCK", "a Musepack file"),
        (b"MP+", "a Musepack file"),
        (b"TTA1", "a TTA file"),
        (b".RMF", "a RealMedia file"),
        (b"riff\x2E\x91\xCF\x11", "a Wave64 file"),
        (b"Creative Voice File", "a VOC file"),
        (b"FLV\x01", "an FLV file"),
        (b"\x0B\x77", "a Dolby Digital (AC-3) file"),
    ];
    let mark = MAGICS.iter().find(|(mark, _)| bytes.starts_with(mark));
    mark.map(|(_, name)| *name)
}

/// Describes an unsupported encoding in a known container.
pub(super) fn describe_unsupported(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(1 << 16)];
    let has = |mark: &[u8]| start.windows(mark.len()).any(|window| window == mark);
    let entry = mp4_edit::audio_sample_entry(bytes);
    let name = match entry.as_ref() {
        Some(b"samr" | b"sawb" | b"sawp") => "AMR in an MP4 or 3GP file",
        Some(b"ac-3" | b"ec-3") => "Dolby Digital (AC-3) in an MP4 file",
        Some(b"enca" | b"drms") => "a protected MP4 file",
        Some(b"mp4a") => "HE-AAC, or AAC with more than two channels, in an MP4 file",
        Some(_) => "the encoding in this MP4 file",
        None if bytes.starts_with(b"OggS") && has(b"Speex   ") => "Speex in an Ogg file",
        None if bytes.starts_with(b"OggS") => "the encoding in this Ogg file",
        None if has(b"A_AC3") || has(b"A_EAC3") => "Dolby Digital (AC-3) in a Matroska file",
        None if has(b"A_DTS") => "DTS in a Matroska file",
        None if bytes.starts_with(&[0x1A, 0x45]) => "the encoding in this Matroska file",
        None if bytes.starts_with(b"FORM") => "the encoding in this AIFF file",
        None if bytes.starts_with(b"\xFF") => "AAC of this kind (HE-AAC or more than two channels)",
        None => "the encoding in this file",
    };
    name.into()
}
