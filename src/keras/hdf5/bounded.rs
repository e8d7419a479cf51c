//! In-memory file with a bounded read budget.
//!
//! The HDF5 reader follows addresses in the file. A damaged or hostile file can refer to one place
//! many times, so that a few bytes describe an endless walk. Every step of such a walk reads, so
//! the reads are counted here.

use std::sync::atomic::{AtomicU64, Ordering};

use hdf5_pure::{FormatError, Source};

/// Bytes that may be read in addition to [`READS_PER_BYTE`] times the file size. They suffice to
/// look up thousands of layers by name in a file of any size.
const READS: u64 = 1 << 30;
/// Bytes that may be read per byte of the file. Each layer is found by a search through the names
/// of all layers, so a file with many layers is read many times.
const READS_PER_BYTE: u64 = 1024;
/// Fixed cost of a read, in bytes, in addition to the bytes that it returns.
const COST_PER_READ: u64 = 256;
/// Maximum depth of a version 2 B-tree. The number of records multiplies from level to level, so
/// even the largest files need fewer levels.
const MAX_TREE_DEPTH: u16 = 16;

/// Bytes of a file, and the remaining read budget.
pub struct BudgetedFile {
    bytes: Vec<u8>,
    remaining: AtomicU64,
}

impl BudgetedFile {
    pub fn new(bytes: Vec<u8>) -> Self {
        let remaining = READS.saturating_add(READS_PER_BYTE.saturating_mul(bytes.len() as u64));
        Self {
            bytes,
            remaining: AtomicU64::new(remaining),
        }
    }

    fn charge(&self, length: usize) -> Result<(), FormatError> {
        let cost = COST_PER_READ.saturating_add(length as u64);
        let take = |remaining: u64| remaining.checked_sub(cost);
        self.remaining
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .map(drop)
            .map_err(|_| FormatError::Source("its parts refer to each other without end".into()))
    }

    fn part(&self, offset: u64, length: usize) -> Result<&[u8], FormatError> {
        self.charge(length)?;
        let available = self.bytes.len();
        let start = usize::try_from(offset).ok();
        let end = start.and_then(|start| start.checked_add(length));
        start
            .zip(end)
            .and_then(|(start, end)| self.bytes.get(start..end))
            .ok_or(FormatError::UnexpectedEof {
                expected: end.unwrap_or(usize::MAX),
                available,
            })
    }
}

impl Source for BudgetedFile {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), FormatError> {
        buffer.copy_from_slice(self.part(offset, buffer.len())?);
        Ok(())
    }

    fn read_exact_at(&self, offset: u64, length: usize) -> Result<Vec<u8>, FormatError> {
        self.part(offset, length).map(<[u8]>::to_vec)
    }

    fn read_metadata_at(&self, offset: u64, length: usize) -> Result<Vec<u8>, FormatError> {
        let part = self.part(offset, length)?;
        match tree_depth(part) {
            Some(depth) if depth > MAX_TREE_DEPTH => Err(FormatError::Source(format!(
                "an index has {depth} levels, more than {MAX_TREE_DEPTH}"
            ))),
            _ => Ok(part.to_vec()),
        }
    }
}

/// Returns the depth that the header of a version 2 B-tree states; `None` if `part` is no such
/// header (HDF5 file format specification, III.A.2).
fn tree_depth(part: &[u8]) -> Option<u16> {
    const DEPTH_AT: usize = 12;
    let depth = part.strip_prefix(b"BTHD").and(part.get(DEPTH_AT..))?;
    depth.first_chunk().map(|depth| u16::from_le_bytes(*depth))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_bounded_by_the_file_and_the_budget() {
        let file = BudgetedFile::new(b"0123456789".to_vec());
        assert_eq!(file.read_exact_at(2, 3).unwrap(), b"234");
        for (offset, length) in [(8, 3), (11, 0), (u64::MAX, 1), (0, usize::MAX)] {
            file.read_exact_at(offset, length).unwrap_err();
        }
        file.remaining
            .store(2 * (COST_PER_READ + 1), Ordering::Relaxed);
        let mut byte = [0];
        file.read_at(9, &mut byte).unwrap();
        assert_eq!(byte, *b"9");
        file.read_metadata_at(0, 1).unwrap();
        let spent = file.read_at(0, &mut byte).unwrap_err().to_string();
        assert!(spent.contains("without end"), "{spent}");
    }

    #[test]
    fn deep_trees_are_refused_at_their_header() {
        let mut header = b"BTHD\0\x05\0\x02\0\0\x0b\0\x10\0\x64\x28".to_vec();
        let file = |header: &[u8]| BudgetedFile::new(header.to_vec());
        file(&header).read_metadata_at(0, 16).unwrap();
        header[12] = 17;
        let deep = file(&header);
        let error = deep.read_metadata_at(0, 16).unwrap_err().to_string();
        assert!(error.contains("17 levels"), "{error}");
        // The data of a weight may contain any bytes.
        deep.read_exact_at(0, 16).unwrap();
    }
}
