//! Boundaries of the recordings in a stream of MP3 or AAC frames.
//!
//! Such a file is a sequence of frames, each of which states its own length. Walking over the frame
//! headers reveals four conditions that a decoder does not report: tags between frames, a second
//! recording after the first, more audio than the info frame states, and an incomplete last frame.
//!
//! Sources: ISO/IEC 11172-3 and 13818-3 (MPEG audio), ISO/IEC 14496-3, 1.A.3 (ADTS), and Gabriel
//! Bouvigne's "MP3 Info Tag", revision 1 (Xing, Info and LAME fields).

use super::recording::MAX_RECORDINGS;
use super::rope::Rope;
use super::tags;

/// One recording in a stream.
#[derive(Debug)]
pub struct Run<'a> {
    /// Frame bytes, without the data between frames.
    pub rope: Rope<'a>,
    /// Set if the last frame is incomplete.
    pub cut: bool,
    /// Number of places where bytes other than a tag lie between two frames.
    pub gaps: usize,
}

/// Fields of a frame header.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Frame {
    /// Length in bytes, including the header.
    length: usize,
    /// Header fields that are constant within a recording: version, layer, rate, channels.
    kind: [u32; 4],
    /// Offset and length of an MP3 frame's side information; `None` for AAC.
    side: Option<(usize, usize)>,
}

/// Encoding of a frame stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// MPEG audio, layer III.
    Mp3,
    /// AAC in ADTS frames.
    Aac,
}

/// Search range for the first frame, in bytes.
const SEARCH_RANGE: usize = 1 << 20;
/// Number of consecutive frames that confirm a stream.
const CONFIRMING_FRAMES: usize = 3;

impl Codec {
    /// Parses the header of the frame at the start of `bytes`.
    fn frame(self, bytes: &[u8]) -> Option<Frame> {
        match self {
            Self::Mp3 => mp3_frame(bytes),
            Self::Aac => aac_frame(bytes),
        }
    }

    /// Returns whether `bytes` begin with `count` consecutive frames, or with fewer that reach the
    /// end.
    fn starts_run(self, bytes: &[u8], count: usize) -> bool {
        let Some(first) = self.frame(bytes) else {
            return false;
        };
        let mut at = first.length;
        (1..count).all(|_| match bytes.get(at..).unwrap_or_default() {
            rest if rest.len() < 10 || tags::length(rest).is_some() => true,
            rest => self.frame(rest).is_some_and(|next| {
                at += next.length;
                next.kind == first.kind
            }),
        })
    }
}

/// Finds the first frame of a stream in `bytes`.
pub fn find(bytes: &[u8]) -> Option<(Codec, usize)> {
    let sync = |(at, pair): (usize, &[u8])| (pair[0] == 0xFF && pair[1] >= 0xE0).then_some(at);
    let window = &bytes[..bytes.len().min(SEARCH_RANGE)];
    window
        .windows(2)
        .enumerate()
        .filter_map(sync)
        .find_map(|at| {
            let codecs = [Codec::Aac, Codec::Mp3].into_iter();
            let mut found =
                codecs.filter(|codec| codec.starts_run(&bytes[at..], CONFIRMING_FRAMES));
            found.next().map(|codec| (codec, at))
        })
}

/// Splits a stream that begins with a frame into its recordings. Returns them and the offset of
/// their end.
pub fn runs(codec: Codec, bytes: &[u8]) -> (Vec<Run<'_>>, usize) {
    let mut finder = RunFinder {
        codec,
        bytes,
        runs: Vec::new(),
        run: OpenRun::default(),
    };
    let end = finder.find_all();
    (finder.runs, end)
}

/// A recording whose end has not been found yet.
#[derive(Debug, Default)]
struct OpenRun {
    /// Byte ranges of complete frames.
    pieces: Vec<(usize, usize)>,
    /// Number of frames, excluding the info frame.
    frames: usize,
    /// Length of the info frame, and the number of frames that it states.
    info: Option<(usize, usize)>,
    /// Offset of the first frame beyond the stated number, and whether it is independent of earlier
    /// frames.
    surplus: Option<(usize, bool)>,
    gaps: usize,
}

struct RunFinder<'a> {
    codec: Codec,
    bytes: &'a [u8],
    runs: Vec<Run<'a>>,
    run: OpenRun,
}

impl RunFinder<'_> {
    /// Walks to the last frame and returns its end.
    fn find_all(&mut self) -> usize {
        let Self { codec, bytes, .. } = *self;
        let (mut at, mut end) = (0, 0);
        let mut kind = None;
        loop {
            let rest = &bytes[at..];
            if let Some(length) = tags::length(rest)
                && at > 0
            {
                at = bytes.len() - tags::after(rest, length).len();
                continue;
            }
            let frame = codec.frame(rest);
            let fits = |frame: Frame| kind.is_none_or(|kind| kind == frame.kind);
            match frame {
                Some(frame) if frame.length > rest.len() && fits(frame) => {
                    self.close(true);
                    return bytes.len();
                }
                // Two different frame kinds in a row separate recordings, unless the second is an
                // isolated false sync.
                Some(frame)
                    if frame.length <= rest.len()
                        && (fits(frame) || codec.starts_run(rest, CONFIRMING_FRAMES)) =>
                {
                    let info = info_frame(&rest[..frame.length], frame);
                    if !fits(frame) || info.is_some() && self.run.frames > 0 {
                        self.close(false);
                        if self.runs.len() >= MAX_RECORDINGS {
                            return end;
                        }
                    }
                    kind = Some(frame.kind);
                    self.add(at, frame, info);
                    at += frame.length;
                    end = at;
                }
                _ => {
                    let after = |at: usize| {
                        let again = |rest: &[u8]| {
                            codec.frame(rest).is_some_and(fits)
                                && codec.starts_run(rest, CONFIRMING_FRAMES)
                        };
                        let sync = |pair: &[u8]| pair[0] == 0xFF && pair[1] >= 0xE0;
                        let later = bytes.get(at + 1..)?.windows(2).enumerate();
                        let mut later = later.filter(|(_, pair)| sync(pair));
                        later
                            .find_map(|(by, _)| again(&bytes[at + 1 + by..]).then_some(at + 1 + by))
                    };
                    match after(at) {
                        Some(next) => {
                            self.run.gaps += 1;
                            at = next;
                        }
                        None => {
                            self.close(false);
                            return end;
                        }
                    }
                }
            }
        }
    }

    fn add(&mut self, at: usize, frame: Frame, info: Option<Option<usize>>) {
        let run = &mut self.run;
        let end = at + frame.length;
        match run.pieces.last_mut() {
            Some((_, last)) if *last == at => *last = end,
            _ => run.pieces.push((at, end)),
        }
        match info {
            Some(frames) => run.info = Some((frame.length, frames.unwrap_or(usize::MAX))),
            None => {
                if run.info.is_some_and(|(_, frames)| frames == run.frames) {
                    run.surplus = Some((at, is_independent(&self.bytes[at..end], frame)));
                }
                run.frames += 1;
            }
        }
    }

    /// Closes the current recording.
    fn close(&mut self, cut: bool) {
        let run = std::mem::take(&mut self.run);
        let Some(first) = run.pieces.first().copied() else {
            return;
        };
        let mut surplus = Vec::new();
        let mut pieces = run.pieces;
        if let (Some((length, stated)), Some((place, independent))) = (run.info, run.surplus)
            // Encoders disagree on whether the info frame itself counts, so one more frame is
            // normal.
            && run.frames > stated.saturating_add(1)
        {
            if independent && stated > 0 {
                // The surplus frames belong to another recording.
                surplus = split_off(&mut pieces, place);
            } else {
                // The stated number is wrong; dropping the info frame keeps it from limiting the
                // decoder.
                pieces = split_off(&mut pieces, first.0 + length);
            }
        }
        let cut_first = cut && surplus.is_empty();
        let mut gaps = run.gaps;
        let mut push = |pieces: Vec<(usize, usize)>, cut: bool| {
            let mut rope = Rope::default();
            for (start, end) in pieces {
                rope.push(&self.bytes[start..end]);
            }
            // Symphonia estimates the duration of a stream of known size and drops the frames
            // beyond that estimate.
            let rope = rope.forward_only();
            if rope.len() > 0 {
                let gaps = std::mem::take(&mut gaps);
                self.runs.push(Run { rope, cut, gaps });
            }
        };
        push(pieces, cut_first);
        push(surplus, cut);
    }
}

/// Removes the ranges from offset `place` on out of `pieces` and returns them.
fn split_off(pieces: &mut Vec<(usize, usize)>, place: usize) -> Vec<(usize, usize)> {
    let at = pieces.partition_point(|(_, end)| *end <= place);
    let mut rest = pieces.split_off(at);
    if let Some(first) = rest.first_mut()
        && first.0 < place
    {
        pieces.push((first.0, place));
        first.0 = place;
    }
    rest
}

/// Returns whether an MP3 frame uses no bit-reservoir data of earlier frames.
fn is_independent(bytes: &[u8], frame: Frame) -> bool {
    let Some((at, _)) = frame.side else {
        return true;
    };
    let is_mpeg1 = frame.kind[0] == 3;
    match bytes.get(at..at + 2) {
        Some(&[first, second]) => first == 0 && (!is_mpeg1 || second & 0x80 == 0),
        _ => true,
    }
}

/// Returns `Some` for an info frame (Xing, Info or VBRI), with the frame count if it states one.
fn info_frame(bytes: &[u8], frame: Frame) -> Option<Option<usize>> {
    let (side, length) = frame.side?;
    let word = |at: usize| Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?) as usize);
    let is_silent = |to: usize| {
        bytes
            .get(side..to)
            .is_some_and(|all| all.iter().all(|b| *b == 0))
    };
    // The Xing header follows the side information at an offset that ignores the checksum.
    let xing = 4 + length;
    let mark = bytes.get(xing..xing + 4);
    if (mark == Some(b"Xing") || mark == Some(b"Info")) && is_silent(xing) {
        let has_frames = word(xing + 4)? & 1 != 0;
        return Some(has_frames.then(|| word(xing + 8)).flatten());
    }
    let vbri = 4 + 32;
    if bytes.get(vbri..vbri + 4) == Some(b"VBRI") && is_silent(vbri) {
        return Some(word(vbri + 14));
    }
    None
}

/// Bit rates of layer III in kbit/s, by header index: MPEG 1, then MPEG 2 and 2.5.
const BIT_RATES: [[usize; 14]; 2] = [
    [
        32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320,
    ],
    [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
];

fn mp3_frame(bytes: &[u8]) -> Option<Frame> {
    let header = u32::from_be_bytes(*bytes.first_chunk()?);
    let bits = |at: u32, count: u32| header >> at & ((1 << count) - 1);
    let (version, layer) = (bits(19, 2), bits(17, 2));
    if bits(21, 11) != 0x7FF || version == 1 || layer != 1 {
        return None;
    }
    let is_mpeg1 = version == 3;
    // Index 0 is a free bit rate, which the decoder does not support.
    let index = (bits(12, 4) as usize).checked_sub(1)?;
    let kilobits = *BIT_RATES[usize::from(!is_mpeg1)].get(index)?;
    let rate = *[44_100, 48_000, 32_000].get(bits(10, 2) as usize)?;
    let rate = rate >> [2, 0, 1, 0][version as usize];
    let slots = if is_mpeg1 { 144_000 } else { 72_000 };
    let is_mono = bits(6, 2) == 3;
    let side = match (is_mpeg1, is_mono) {
        (true, false) => 32,
        (true, true) | (false, false) => 17,
        (false, true) => 9,
    };
    let checksum = if bits(16, 1) == 0 { 2 } else { 0 };
    Some(Frame {
        length: slots * kilobits / rate as usize + bits(9, 1) as usize,
        kind: [version, layer, rate, u32::from(is_mono)],
        side: Some((4 + checksum, side)),
    })
}

fn aac_frame(bytes: &[u8]) -> Option<Frame> {
    let header: &[u8; 7] = bytes.first_chunk()?;
    if header[0] != 0xFF || header[1] & 0xF6 != 0xF0 {
        return None;
    }
    let rate = u32::from(header[2] >> 2 & 15);
    let channels = u32::from(header[2] & 1) << 2 | u32::from(header[3] >> 6);
    let profile = u32::from(header[2] >> 6);
    let [a, b, c] = [header[3] & 3, header[4], header[5]].map(usize::from);
    let length = a << 11 | b << 3 | c >> 5;
    let own = if header[1] & 1 == 0 { 9 } else { 7 };
    (rate < 13 && length > own).then_some(Frame {
        length,
        kind: [u32::from(header[1] & 8), profile, rate, channels],
        side: None,
    })
}

/// Returns whether `bytes` begin with consecutive frames of MPEG layer I or II.
pub fn is_other_layer(bytes: &[u8]) -> bool {
    const LAYER_2: [usize; 14] = [
        32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384,
    ];
    let length = |bytes: &[u8]| {
        let header = u32::from_be_bytes(*bytes.first_chunk()?);
        let bits = |at: u32, count: u32| header >> at & ((1 << count) - 1);
        let (version, layer) = (bits(19, 2), bits(17, 2));
        if bits(21, 11) != 0x7FF || version == 1 || layer < 2 {
            return None;
        }
        let index = (bits(12, 4) as usize).checked_sub(1)?;
        let rate = *[44_100usize, 48_000, 32_000].get(bits(10, 2) as usize)?;
        let rate = rate >> [2, 0, 1, 0][version as usize];
        let padding = bits(9, 1) as usize;
        Some(match (layer, version) {
            (3, 3) => (12_000 * (32 * (index + 1)) / rate + padding) * 4,
            (2, 3) => 144_000 * LAYER_2.get(index)? / rate + padding,
            (2, _) => 144_000 * BIT_RATES[1].get(index)? / rate + padding,
            _ => return None,
        })
    };
    let mut at = 0;
    (0..CONFIRMING_FRAMES).all(|_| match length(bytes.get(at..).unwrap_or_default()) {
        Some(length) => {
            at += length;
            true
        }
        None => at > 0 && at == bytes.len(),
    })
}
