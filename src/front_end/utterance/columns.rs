//! Signal of a block of frames in columns, one per hop, so that the same sample of consecutive frames
//! lies side by side.

use super::PRE_EMPHASIS;
use super::centred::{Centred, Sample};
use crate::front_end::HOP;
use crate::simd::doubles::DOUBLES;

/// Frames per block; their columns fit the first-level cache.
pub(super) const BLOCK: usize = 2 * DOUBLES;
/// Hops between the first sample of a column table and the centre of the first frame.
const HOPS_BEFORE: usize = 2;
/// Hops that a frame's samples belong to.
const HOPS: usize = 2 * HOPS_BEFORE;
/// Columns of a block, a multiple of the cache line's eight values.
const COLUMNS: usize = (BLOCK + HOPS - 1).next_multiple_of(DOUBLES);
/// Samples of a frame: two hops on either side of its centre.
pub(super) const FRAME: usize = HOPS * HOP;

/// Samples in columns, `[HOP][COLUMNS]`.
type Table = [[f64; COLUMNS]; HOP];

/// A block of frames.
pub(super) struct Columns {
    /// Signal without its mean, 0 outside.
    signal: Box<Table>,
    /// Signal with pre-emphasis, 0 outside and for the recording's first sample, which has no
    /// predecessor.
    emphasised: Box<Table>,
}

impl Columns {
    pub(super) fn new() -> Self {
        let table = || Box::new([[0.0; COLUMNS]; HOP]);
        Self {
            signal: table(),
            emphasised: table(),
        }
    }

    /// Reads the block that begins with frame `first`.
    pub(super) fn fill<T: Sample>(&mut self, x: &Centred<'_, T>, first: usize) {
        // A hop after the last sample of the hop before.
        let mut samples = [0.0; HOP + 1];
        for column in 0..BLOCK + HOPS - 1 {
            let start = ((first + column) * HOP) as isize - (HOPS_BEFORE * HOP) as isize;
            x.copy(start - 1, &mut samples);
            for (row, x) in self.signal.iter_mut().zip(&samples[1..]) {
                row[column] = *x;
            }
            let pairs = samples.iter().zip(&samples[1..]);
            for (row, (before, x)) in self.emphasised.iter_mut().zip(pairs) {
                row[column] = x - PRE_EMPHASIS * before;
            }
            let inside = 1 - start..x.len() as isize - start;
            if inside.start > 0 || inside.end < HOP as isize {
                for (row, i) in self.emphasised.iter_mut().zip(0..) {
                    if !inside.contains(&i) {
                        row[column] = 0.0;
                    }
                }
            }
        }
    }

    /// Returns sample `place` of the frames `group * DOUBLES` to `group * DOUBLES + DOUBLES` of the
    /// block; a frame has [`FRAME`] samples.
    #[inline(always)]
    pub(super) fn signal(&self, group: usize, place: usize) -> &[f64; DOUBLES] {
        part(&self.signal, group, place)
    }

    /// Returns [`Self::signal`] after pre-emphasis.
    #[inline(always)]
    pub(super) fn emphasised(&self, group: usize, place: usize) -> &[f64; DOUBLES] {
        part(&self.emphasised, group, place)
    }
}

#[inline(always)]
fn part(table: &Table, group: usize, place: usize) -> &[f64; DOUBLES] {
    let row = &table[place % HOP][group * DOUBLES + place / HOP..];
    row.first_chunk()
        .expect("a block has all hops of its frames")
}
