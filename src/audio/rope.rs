//! Seekable reader over pieces of byte slices, without copying them.

use std::borrow::Cow;
use std::io::{self, Read, Seek, SeekFrom};

use symphonia::core::io::MediaSource;

/// Byte slices that read as one file.
#[derive(Debug, Clone, Default)]
pub struct Rope<'a> {
    pieces: Vec<Cow<'a, [u8]>>,
    /// End offset of each piece.
    ends: Vec<u64>,
    at: u64,
    seekable: bool,
}

impl<'a> Rope<'a> {
    /// Creates a seekable rope of one piece.
    pub fn of(piece: &'a [u8]) -> Self {
        let mut rope = Self {
            seekable: true,
            ..Self::default()
        };
        rope.push(piece);
        rope
    }

    /// Appends a piece; an empty one is ignored.
    pub fn push(&mut self, piece: impl Into<Cow<'a, [u8]>>) {
        let piece = piece.into();
        if !piece.is_empty() {
            self.ends.push(self.len() + piece.len() as u64);
            self.pieces.push(piece);
        }
    }

    /// Marks the rope as not seekable, so that no reader estimates a duration from its size.
    pub fn forward_only(self) -> Self {
        Self {
            seekable: false,
            ..self
        }
    }

    /// Returns the total number of bytes.
    pub fn len(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }
}

impl Read for Rope<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let piece = self.ends.partition_point(|end| *end <= self.at);
        let Some(bytes) = self.pieces.get(piece) else {
            return Ok(0);
        };
        let left = (self.ends[piece] - self.at) as usize;
        let length = left.min(out.len());
        let start = bytes.len() - left;
        out[..length].copy_from_slice(&bytes[start..start + length]);
        self.at += length as u64;
        Ok(length)
    }
}

impl Seek for Rope<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

impl MediaSource for Rope<'_> {
    fn is_seekable(&self) -> bool {
        self.seekable
    }

    fn byte_len(&self) -> Option<u64> {
        self.seekable.then(|| self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_read_like_one_file() {
        let mut rope = Rope::of(b"abc");
        rope.push(&b""[..]);
        rope.push(b"de".to_vec());
        rope.push(&b"fghi"[..]);
        let mut all = String::new();
        rope.read_to_string(&mut all).unwrap();
        assert_eq!((&*all, rope.len()), ("abcdefghi", 9));
        for (to, rest) in [
            (SeekFrom::Start(4), "efghi"),
            (SeekFrom::End(-2), "hi"),
            (SeekFrom::Start(20), ""),
        ] {
            rope.seek(to).unwrap();
            let mut all = String::new();
            rope.read_to_string(&mut all).unwrap();
            assert_eq!(all, rest, "{to:?}");
        }
        assert!(rope.seek(SeekFrom::Start(2)).is_ok());
        assert!(rope.seek(SeekFrom::Current(-3)).is_err());
    }
}
