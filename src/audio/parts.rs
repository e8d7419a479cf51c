//! The recordings in a file, of which there may be several, one behind the other.
//!
//! `cat a.ogg b.ogg` makes such files; so do recorders that are stopped and started, radio streams
//! and dictation devices. Decoders stop at the end of the first recording or stumble there, so each
//! is given to a decoder of its own.
//!
//! A decoder gets the description of the sound and the sound. Words, pictures and chapters, which
//! nothing here reads, are left out where a file has a place for them that can be left out: a parser
//! that never sees them cannot fail on them. An AIFF's chapters are the reason: their parser in
//! symphonia 0.6 calls itself for every chapter in a chapter, without a limit. The parsers that do see
//! such data have limits of their own in it: 16 boxes in a box for MP4, as many elements as their kinds
//! allow in Matroska, no nesting in Vorbis comments; and all of them read in small steps, so that no
//! length is believed before its bytes are there.
//!
//! Sources: RFC 3533 (Ogg), RFC 9639 (FLAC), ISO/IEC 14496-12 (MP4), RFC 9559 (Matroska), Apple's
//! "Audio Interchange File Format 1.3" (AIFF) and its draft of 1991 (AIFF-C).

use super::container::Container;
use super::decode::Fault;
use super::frames;
use super::rope::Rope;
use super::{container, tags};

/// Largest number of recordings in a file that are decoded: each takes a decoder of its own, and a
/// place in a list.
pub const MOST: usize = 10_000;

/// One recording of a file.
#[derive(Debug)]
pub struct Part<'a> {
    /// Input of the decoder.
    pub rope: Rope<'a>,
    /// Bytes of the file that hold it.
    pub bytes: &'a [u8],
    /// Set if the recording is shorter than its header states.
    pub cut: bool,
    /// Places where something was left out that is no audio.
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

/// The recordings in `bytes`, which begin with the first, and what lies behind them.
///
/// # Errors
/// When the file ends before its audio begins, or is damaged there.
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

/// Sentinel end of a file that ends too early.
const CUT: usize = usize::MAX;

/// The links of a chained stream. A page that begins a stream, behind one that goes on with one,
/// begins the next.
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
                    if links.len() == MOST {
                        return (links, at);
                    }
                }
                begun = !begins;
                at += length;
            }
            // Damage, or the end: what lies between pages, a reader skips.
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

/// Parses a page header: whether the page begins a stream, and its length.
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

/// Files of boxes: each begins with its type.
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
            if files.len() == MOST {
                return (files, at);
            }
        }
        let printable = header[4..]
            .iter()
            .all(|c| (b' '..=b'~').contains(c) || *c == 0xA9);
        match usize::try_from(size) {
            Ok(size) if size >= 8 && printable && size <= bytes.len() - at => at += size,
            // A box that is cut belongs to the file.
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

/// Files of elements: each begins with a header that names its kind.
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
        if files.len() == MOST {
            return (files, start);
        }
    }
    files.push((start, bytes.len()));
    (files, bytes.len())
}

/// Streams that begin with a mark and the description of the sound.
fn flac(bytes: &[u8]) -> Result<(Vec<Part<'_>>, &[u8]), Fault> {
    const DESCRIPTION: usize = 34;
    // A stream's mark with the header of its description: eight bytes that no sound has by chance.
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
        // Skip metadata up to the first frame.
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
        // The end of the last frame is that of its stream.
        let sound = tags::before(&stream[at..length]);
        let mut header = stream[..8 + DESCRIPTION].to_vec();
        header[4] = 0x80; // the last block
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
        if start == bytes.len() || parts.len() == MOST {
            return Ok((parts, &bytes[start..]));
        }
    }
}

/// Files of chunks, of which the description and the samples are kept.
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
            && !container::is_marked(&bytes[at..])
        {
            let available = bytes.len() - at - 8;
            let body = &bytes[at + 8..at + 8 + length.min(available)];
            match &bytes[at..at + 4] {
                b"COMM" if description.is_none() => description = Some(body),
                b"FVER" => version = body,
                b"SSND" if body.len() >= 8 => {
                    // An offset for files in blocks, which are rare.
                    let offset = word(at + 8).unwrap_or(0);
                    if sound.is_empty() {
                        first = &body[..8];
                    }
                    sound.push(body.get(8 + offset..).unwrap_or_default());
                    cut |= length > available;
                }
                id if !id.iter().all(|c| (b' '..=b'~').contains(c)) => break,
                _ => {}
            }
            at = (at + 8)
                .saturating_add(length.next_multiple_of(2))
                .min(bytes.len());
            // Some programs leave the byte out that makes lengths even.
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
        if !is_form(at) || parts.len() == MOST {
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
    // A file of 4 GiB is never read, so every length fits.
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

/// Finds the first `mark` in `bytes` whose surroundings `is_it` accepts.
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
