//! Splitting of a file into its concatenated recordings.
//!
//! `cat a.ogg b.ogg` makes such files, and so do recorders that are stopped and restarted, radio
//! streams and dictation devices. Many decoders stop or fail at the end of the first recording, so
//! each recording gets a decoder of its own.
//!
//! The decoder receives only the stream description and the audio. Text, pictures and chapters are
//! removed wherever the format allows it, because a parser cannot fail on data that it never
//! receives. AIFF chapters require this: symphonia 0.6 recurses into nested chapters without a
//! limit. The parsers that do receive such data are bounded: 16 nested boxes in MP4, a depth fixed
//! by the element kinds in Matroska, no nesting in Vorbis comments. All of them read in small
//! steps, so no stated length is allocated before its bytes are present.
//!
//! Sources: RFC 3533 (Ogg), RFC 9639 (FLAC), ISO/IEC 14496-12 (MP4), RFC 9559 (Matroska), Apple's
//! "Audio Interchange File Format 1.3" (AIFF) and its draft of 1991 (AIFF-C).

use super::container::Container;
use super::error::Fault;
use super::frames;
use super::recording::MAX_RECORDINGS;
use super::rope::Rope;
use super::{container, tags};

/// One recording of a file.
#[derive(Debug)]
pub struct Part<'a> {
    /// Decoder input.
    pub rope: Rope<'a>,
    /// Bytes of the file that hold the recording.
    pub bytes: &'a [u8],
    /// Set if the recording is shorter than its header states.
    pub cut: bool,
    /// Number of places where non-audio bytes were skipped.
    pub gaps: usize,
}

impl<'a> Part<'a> {
    fn whole(bytes: &'a [u8], cut: bool) -> Self {
        Self {
            rope: Rope::of(bytes),
            bytes,
            cut,
            gaps: 0,
        }
    }
}

/// Splits `bytes`, which begin with a recording; returns the recordings and the bytes after them.
///
/// # Errors
/// If the file ends before its audio begins, or is damaged there.
pub fn split<'a>(
    container: Container,
    bytes: &'a [u8],
) -> Result<(Vec<Part<'a>>, &'a [u8]), Fault> {
    let whole = |(parts, end): (Vec<(usize, usize)>, usize)| {
        let mut parts: Vec<_> = parts
            .into_iter()
            .map(|(start, end)| Part::whole(&bytes[start..end], false))
            .collect();
        if end == CUT
            && let Some(last) = parts.last_mut()
        {
            last.cut = true;
        }
        (parts, bytes.get(end..).unwrap_or_default())
    };
    Ok(match container {
        Container::Frames(codec) => {
            let (runs, end) = frames::runs(codec, bytes);
            let part = |run: frames::Run<'a>| Part {
                rope: run.rope,
                bytes,
                cut: run.cut,
                gaps: run.gaps,
            };
            (runs.into_iter().map(part).collect(), &bytes[end..])
        }
        Container::Aiff => aiff(bytes)?,
        Container::Flac => flac(bytes)?,
        Container::Ogg => whole(ogg(bytes)),
        Container::Mp4 => whole(mp4(bytes)),
        Container::Matroska => whole(matroska(bytes)),
        Container::Wav => (vec![Part::whole(bytes, false)], &[]),
    })
}

/// Sentinel end offset of a file that ends too early.
const CUT: usize = usize::MAX;

/// Returns the links of a chained Ogg stream. A link starts at a beginning-of-stream page that
/// follows a page without that flag.
fn ogg(bytes: &[u8]) -> (Vec<(usize, usize)>, usize) {
    let mut links = Vec::new();
    let (mut start, mut at) = (0, 0);
    let mut begun = false;
    loop {
        match ogg_page(&bytes[at..]) {
            Some((_, length)) if length > bytes.len() - at => {
                links.push((start, bytes.len()));
                return (links, CUT);
            }
            Some((begins, length)) => {
                if begins && begun {
                    links.push((start, at));
                    start = at;
                    if links.len() == MAX_RECORDINGS {
                        return (links, at);
                    }
                }
                begun = !begins;
                at += length;
            }
            // A reader skips damaged bytes between pages; none are left at the end.
            None => match find(&bytes[at..], b"OggS", |page| ogg_page(page).is_some()) {
                Some(by) if by > 0 => at += by,
                _ => {
                    links.push((start, at));
                    return (links, at);
                }
            },
        }
    }
}

/// Parses a page header: the beginning-of-stream flag, and the page length.
fn ogg_page(bytes: &[u8]) -> Option<(bool, usize)> {
    let header: &[u8; 27] = bytes.first_chunk()?;
    if !header.starts_with(b"OggS\0") {
        return None;
    }
    let segments = usize::from(header[26]);
    let Some(lengths) = bytes.get(27..27 + segments) else {
        return Some((header[5] & 2 != 0, usize::MAX));
    };
    let body: usize = lengths.iter().map(|length| usize::from(*length)).sum();
    Some((header[5] & 2 != 0, 27 + segments + body))
}

/// Splits concatenated MP4 files at their `ftyp` boxes.
fn mp4(bytes: &[u8]) -> (Vec<(usize, usize)>, usize) {
    let mut files = Vec::new();
    let (mut start, mut at) = (0, 0);
    while let Some(header) = bytes.get(at..at + 8) {
        if tags::length(&bytes[at..]).is_some() {
            break;
        }
        let word = |at: usize| u32::from_be_bytes(*bytes[at..].first_chunk().expect("four bytes"));
        let size = match word(at) {
            0 => (bytes.len() - at) as u64,
            1 => match bytes.get(at + 8..at + 16) {
                Some(_) => u64::from(word(at + 8)) << 32 | u64::from(word(at + 12)),
                None => break,
            },
            size => u64::from(size),
        };
        if &header[4..] == b"ftyp" && at > 0 {
            files.push((start, at));
            start = at;
            if files.len() == MAX_RECORDINGS {
                return (files, at);
            }
        }
        let printable = header[4..]
            .iter()
            .all(|c| (b' '..=b'~').contains(c) || *c == 0xA9);
        match usize::try_from(size) {
            Ok(size) if size >= 8 && printable && size <= bytes.len() - at => at += size,
            // An incomplete box still belongs to the file.
            Ok(size) if size >= 8 && printable => {
                files.push((start, bytes.len()));
                return (files, CUT);
            }
            _ => break,
        }
    }
    files.push((start, at.max(start)));
    if at < bytes.len() && at == start {
        files.pop();
    }
    (files, at)
}

/// Splits concatenated Matroska files at their EBML headers.
fn matroska(bytes: &[u8]) -> (Vec<(usize, usize)>, usize) {
    const MARK: &[u8] = &[0x1A, 0x45, 0xDF, 0xA3];
    let is_header = |bytes: &[u8]| {
        let start = &bytes[..bytes.len().min(64)];
        let has = |word: &[u8]| start.windows(word.len()).any(|window| window == word);
        has(b"webm") || has(b"matroska")
    };
    let mut files = Vec::new();
    let mut start = 0;
    while let Some(by) = find(&bytes[start + MARK.len()..], MARK, is_header) {
        let next = start + MARK.len() + by;
        files.push((start, next));
        start = next;
        if files.len() == MAX_RECORDINGS {
            return (files, start);
        }
    }
    files.push((start, bytes.len()));
    (files, bytes.len())
}

/// Splits concatenated FLAC streams at their `fLaC` markers.
fn flac(bytes: &[u8]) -> Result<(Vec<Part<'_>>, &[u8]), Fault> {
    const DESCRIPTION: usize = 34;
    // The marker with the STREAMINFO block header: eight bytes that do not occur in audio by
    // chance.
    let is_start = |bytes: &[u8]| {
        bytes.get(4).is_some_and(|kind| kind & 0x7F == 0)
            && bytes.get(5..8) == Some(&[0, 0, DESCRIPTION as u8])
            && bytes.len() >= 8 + DESCRIPTION
    };
    let mut parts = Vec::new();
    let mut start = 0;
    loop {
        let stream = &bytes[start..];
        let cut = || Fault::HeaderTruncated("the file ends before its audio begins".into());
        if stream.len() < 8 + DESCRIPTION {
            return if parts.is_empty() {
                Err(cut())
            } else {
                Ok((parts, &[]))
            };
        }
        if !is_start(stream) {
            return Err(Fault::Damaged(
                "its description of the sound makes no sense".into(),
            ));
        }
        // Skips metadata blocks up to the first frame.
        let mut at = 4;
        let mut is_last = false;
        while !is_last {
            let Some(&[kind, a, b, c]) = stream.get(at..at + 4) else {
                return Err(cut());
            };
            is_last = kind & 0x80 != 0;
            at += 4 + u32::from_be_bytes([0, a, b, c]) as usize;
        }
        if at > stream.len() {
            return Err(cut());
        }
        let length = find(&stream[at..], b"fLaC", is_start).map_or(stream.len(), |by| at + by);
        // The last frame ends where its stream ends.
        let sound = tags::strip_trailing(&stream[at..length]);
        let mut header = stream[..8 + DESCRIPTION].to_vec();
        header[4] = 0x80; // the last-block flag
        let mut rope = Rope::of(&[]);
        rope.push(header);
        rope.push(sound);
        parts.push(Part {
            rope,
            bytes: &stream[..length],
            cut: false,
            gaps: 0,
        });
        start += length;
        if start == bytes.len() || parts.len() == MAX_RECORDINGS {
            return Ok((parts, &bytes[start..]));
        }
    }
}

/// Splits concatenated AIFF files; each part keeps only the description and the sample chunks.
fn aiff(bytes: &[u8]) -> Result<(Vec<Part<'_>>, &[u8]), Fault> {
    let word = |at: usize| {
        let word = bytes.get(at..at + 4)?.first_chunk()?;
        Some(u32::from_be_bytes(*word) as usize)
    };
    let mut parts = Vec::new();
    let mut start = 0;
    loop {
        let mut description = None;
        let mut version: &[u8] = &[];
        let mut sound: Vec<&[u8]> = Vec::new();
        let mut first: &[u8] = &[];
        let mut cut = false;
        let mut at = start + 12;
        let is_form = |at: usize| {
            bytes.get(at..at + 4) == Some(b"FORM")
                && matches!(bytes.get(at + 8..at + 12), Some(b"AIFF" | b"AIFC"))
        };
        while let Some(length) = word(at + 4)
            && !container::has_magic(&bytes[at..])
        {
            let available = bytes.len() - at - 8;
            let body = &bytes[at + 8..at + 8 + length.min(available)];
            match &bytes[at..at + 4] {
                b"COMM" if description.is_none() => description = Some(body),
                b"FVER" => version = body,
                b"SSND" if body.len() >= 8 => {
                    // The offset is for block-aligned files, which are rare.
                    let offset = word(at + 8).unwrap_or(0);
                    if sound.is_empty() {
                        first = &body[..8];
                    }
                    sound.push(body[8..].get(offset..).unwrap_or_default());
                    cut |= length > available;
                }
                id if !id.iter().all(|c| (b' '..=b'~').contains(c)) => break,
                _ => {}
            }
            // Bounded first: the next multiple of the longest length has 33 bits.
            at = (at + 8 + length.min(available).next_multiple_of(2)).min(bytes.len());
            // Some programs omit the padding byte after a chunk of odd length.
            if length % 2 == 1 && !is_form(at) && is_form(at.saturating_sub(1)) {
                at -= 1;
            }
        }
        let file = &bytes[start..at.min(bytes.len())];
        let rope = description.map(|description| {
            let samples: usize = sound.iter().map(|sound| sound.len()).sum();
            aiff_rope(
                &bytes[start + 8..start + 12],
                description,
                version,
                first,
                samples,
                &sound,
            )
        });
        match rope {
            Some(rope) => parts.push(Part {
                rope,
                bytes: file,
                cut,
                gaps: 0,
            }),
            None if parts.is_empty() => {
                return Err(Fault::HeaderTruncated(
                    "its description of the sound is missing".into(),
                ));
            }
            None => {}
        }
        if !is_form(at) || parts.len() == MAX_RECORDINGS {
            return Ok((parts, bytes.get(at..).unwrap_or_default()));
        }
        start = at;
    }
}

fn aiff_rope<'a>(
    form: &[u8],
    description: &'a [u8],
    version: &'a [u8],
    first: &[u8],
    samples: usize,
    sound: &[&'a [u8]],
) -> Rope<'a> {
    // Files are limited to 2 GiB, so every length fits 32 bits.
    let length = |n: usize| (n as u32).to_be_bytes();
    let mut header = b"FORM\0\0\0\0".to_vec();
    header.extend(form);
    for (id, chunk) in [(b"FVER", version), (b"COMM", description)] {
        if !chunk.is_empty() {
            header.extend(id);
            header.extend(length(chunk.len()));
            header.extend(chunk);
            header.resize(header.len().next_multiple_of(2), 0);
        }
    }
    if !first.is_empty() {
        header.extend(b"SSND");
        header.extend(length(8 + samples));
        header.extend([0; 4]);
        header.extend(&first[4..]);
    }
    let padding = samples % 2;
    let all = header.len() - 8 + samples + padding;
    header[4..8].copy_from_slice(&length(all));
    let mut rope = Rope::of(&[]);
    rope.push(header);
    for piece in sound {
        rope.push(*piece);
    }
    rope.push(&b"\0"[..padding]);
    rope
}

/// Finds the first `mark` in `bytes` at which `is_it` accepts the remaining bytes.
pub fn find(bytes: &[u8], mark: &[u8], is_it: impl Fn(&[u8]) -> bool) -> Option<usize> {
    let mut from = 0;
    loop {
        from += bytes[from..].iter().position(|byte| *byte == mark[0])?;
        let rest = &bytes[from..];
        if rest.starts_with(mark) && is_it(rest) {
            return Some(from);
        }
        from += 1;
    }
}
