//! The zip container: its directory and its stored or deflated entries (PKWARE's APPNOTE 4.3).

use std::collections::HashSet;
use std::io::Read;

use flate2::CrcReader;
use flate2::read::DeflateDecoder;

/// One file of an archive.
#[derive(Debug)]
pub struct Entry {
    /// Name, without the ending `.npy`.
    pub name: String,
    /// CRC-32 of the uncompressed data.
    pub crc: u32,
    method: u16,
    flags: u16,
    compressed: u32,
    /// Offset of the local header.
    header: u32,
}

const END: &[u8; 4] = b"PK\x05\x06";
const END_LENGTH: usize = 22;
const CENTRAL: &[u8; 4] = b"PK\x01\x02";
const CENTRAL_LENGTH: usize = 46;
const LOCAL: &[u8; 4] = b"PK\x03\x04";
const LOCAL_LENGTH: usize = 30;

const STORED: u16 = 0;
const DEFLATED: u16 = 8;
const ENCRYPTED: u16 = 1;
/// Marks a size that is stored elsewhere because it does not fit.
const ELSEWHERE: u32 = u32::MAX;

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

/// Parses the archive's directory.
pub fn list(bytes: &[u8]) -> Result<Vec<Entry>, String> {
    // The end record comes last, followed by a comment of at most 65,535 bytes.
    let last = bytes
        .len()
        .checked_sub(END_LENGTH)
        .ok_or("it is too short")?;
    let first = last.saturating_sub(usize::from(u16::MAX));
    let end = (first..=last)
        .rev()
        .map(|at| &bytes[at..])
        .find(|r| r.starts_with(END) && usize::from(u16_at(r, 20)) == r.len() - END_LENGTH)
        .ok_or("it is no zip archive, or one that is cut off")?;
    let count = u16_at(end, 10);
    let start = u32_at(end, 16);
    if count == u16::MAX || start == ELSEWHERE {
        return Err("it is an archive in the ZIP64 format".into());
    }
    let damaged = || "its directory is damaged".to_owned();
    let mut rest = bytes.get(start as usize..).ok_or_else(damaged)?;
    let mut entries = Vec::new();
    let mut names = HashSet::new();
    for _ in 0..count {
        let header = rest
            .get(..CENTRAL_LENGTH)
            .filter(|h| h.starts_with(CENTRAL))
            .ok_or_else(damaged)?;
        let [name, extra, comment] = [28, 30, 32].map(|at| usize::from(u16_at(header, at)));
        let raw = rest
            .get(CENTRAL_LENGTH..CENTRAL_LENGTH + name)
            .ok_or_else(damaged)?;
        rest = rest
            .get(CENTRAL_LENGTH + name + extra + comment..)
            .ok_or_else(damaged)?;
        let name = String::from_utf8_lossy(raw);
        let name = name.strip_suffix(".npy").unwrap_or(&name).to_owned();
        if !names.insert(name.clone()) {
            return Err(format!("it holds two files named {name:?}"));
        }
        entries.push(Entry {
            name,
            crc: u32_at(header, 16),
            method: u16_at(header, 10),
            flags: u16_at(header, 8),
            compressed: u32_at(header, 20),
            header: u32_at(header, 42),
        });
    }
    Ok(entries)
}

impl Entry {
    /// Returns a reader of the entry's data, which computes the checksum.
    pub fn open<'a>(&self, bytes: &'a [u8]) -> Result<CrcReader<Box<dyn Read + 'a>>, String> {
        if self.flags & ENCRYPTED != 0 {
            return Err("it is encrypted".into());
        }
        let data = (self.compressed != ELSEWHERE)
            .then(|| self.data(bytes))
            .flatten()
            .ok_or("it does not lie where the archive says")?;
        Ok(CrcReader::new(match self.method {
            STORED => Box::new(data),
            DEFLATED => Box::new(DeflateDecoder::new(data)),
            other => {
                return Err(format!(
                    "it is compressed by method {other}; only stored and deflated files are read"
                ));
            }
        }))
    }

    fn data<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let local = bytes.get(self.header as usize..)?;
        let header = local.get(..LOCAL_LENGTH).filter(|h| h.starts_with(LOCAL))?;
        let skipped = usize::from(u16_at(header, 26)) + usize::from(u16_at(header, 28));
        local
            .get(LOCAL_LENGTH + skipped..)?
            .get(..self.compressed as usize)
    }
}
