//! MP4 boxes: the edit list and the sample entry of an audio track.
//!
//! AAC encoders prepend one to two thousand silent frames and pad the last packet. The track's edit
//! list (ISO/IEC 14496-12, 8.6.6) states the range to play, and symphonia 0.6 does not read it.

use std::ops::Range;

/// Returns whether the file has a `moov` box, its index. Many programs write it last; without it no
/// sample can be located.
pub fn has_index(bytes: &[u8]) -> bool {
    find(bytes, &[b"moov"]).is_some()
}

/// Returns the frames to keep of the `frames` decoded frames (at `rate` Hz) of a track. Without an
/// edit list, or with one that does more than trim both ends, that is the whole track.
pub fn playable_range(bytes: &[u8], track_id: u32, frames: usize, rate: u32) -> Range<usize> {
    let edit = || -> Option<Range<usize>> {
        let movie = find(bytes, &[b"moov"])?;
        let movie_scale = time_scale(find(movie, &[b"mvhd"])?)?;
        let mut tracks = boxes(movie).filter(|(id, _)| id == b"trak");
        let track = tracks.find_map(|(_, track)| {
            let header = find(track, &[b"tkhd"])?;
            let at = if header.first()? == &1 { 20 } else { 12 };
            (word(header, at)? == u64::from(track_id)).then_some(track)
        })?;
        let media_scale = time_scale(find(track, &[b"mdia", b"mdhd"])?)?;
        let (duration, start) = single_edit(find(track, &[b"edts", b"elst"])?)?;
        let to_frames = |time: u64, scale: u64| {
            usize::try_from((u128::from(time) * u128::from(rate)).div_ceil(u128::from(scale))).ok()
        };
        let start = to_frames(start, media_scale)?;
        let end = match to_frames(duration, movie_scale)? {
            0 => frames,
            length => frames.min(start.checked_add(length)?),
        };
        (start < end).then_some(start..end)
    };
    edit().unwrap_or(0..frames)
}

/// Returns the four-character sample entry code of the first audio track.
pub fn audio_sample_entry(bytes: &[u8]) -> Option<[u8; 4]> {
    let movie = find(bytes, &[b"moov"])?;
    let mut tracks = boxes(movie).filter(|(id, _)| id == b"trak");
    tracks.find_map(|(_, track)| {
        let handler = find(track, &[b"mdia", b"hdlr"])?;
        if handler.get(8..12)? != b"soun" {
            return None;
        }
        let entries = find(track, &[b"mdia", b"minf", b"stbl", b"stsd"])?;
        entries.get(12..16)?.try_into().ok()
    })
}

/// Returns the duration (movie time scale) and start (track time scale) of the only playing edit;
/// `None` if there are several.
fn single_edit(list: &[u8]) -> Option<(u64, u64)> {
    let wide = *list.first()? == 1;
    let size = if wide { 20 } else { 12 };
    let entries = list
        .get(8..)?
        .chunks_exact(size)
        .take(usize::try_from(word(list, 4)?).ok()?);
    let mut playing = entries.filter_map(|entry| {
        let (duration, start) = if wide {
            (
                word(entry, 0)? << 32 | word(entry, 4)?,
                word(entry, 8)? << 32 | word(entry, 12)?,
            )
        } else {
            (word(entry, 0)?, word(entry, 4)?)
        };
        // A start of -1 is an empty edit, a pause.
        let pause = if wide { u64::MAX } else { u64::from(u32::MAX) };
        (start != pause).then_some((duration, start))
    });
    let edit = playing.next()?;
    playing.next().is_none().then_some(edit)
}

/// Returns the positive time scale, in units per second, of an `mvhd` or `mdhd` box.
fn time_scale(header: &[u8]) -> Option<u64> {
    let at = if *header.first()? == 1 { 20 } else { 12 };
    word(header, at).filter(|scale| *scale > 0)
}

/// Returns the body of the first box at a path.
fn find<'a>(bytes: &'a [u8], path: &[&[u8; 4]]) -> Option<&'a [u8]> {
    path.iter().try_fold(bytes, |inner, id| {
        boxes(inner)
            .find(|(found, _)| found == *id)
            .map(|(_, body)| body)
    })
}

/// Iterates over the boxes in `bytes` as identifier and body, up to the first that does not fit.
fn boxes(mut bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let id = bytes.get(4..8)?.try_into().ok()?;
        let (header, size) = match word(bytes, 0)? {
            0 => (8, bytes.len() as u64),
            1 => (16, word(bytes, 8)? << 32 | word(bytes, 12)?),
            size => (8, size),
        };
        let size = usize::try_from(size).ok().filter(|size| *size >= header)?;
        let body = bytes.get(header..size)?;
        bytes = &bytes[size..];
        Some((id, body))
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u64::from(u32::from_be_bytes(*bytes)))
}
