//! The parts that both front ends share on a device: resampling, filter tables and a workspace.

use crate::front_end::{AudioError, FeatureError};
use crate::nn::cuda::DeviceError;

pub(super) mod resampling;
pub(super) mod tables;
pub(super) mod workspace;

/// Threads of a block where the kernel does not ask for another number.
pub(super) const THREADS: u32 = 256;
/// Blocks of a row of the grid at most; their threads take further elements in turns.
const MOST_BLOCKS: usize = 4096;
/// Recordings of a batch at most: rows that a grid can have.
pub const MOST_RECORDINGS: usize = 65_535;

/// Why a recording has no features.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FrontEndError {
    /// It cannot be analysed.
    #[error(transparent)]
    Audio(#[from] AudioError),
    /// No features can be computed.
    #[error(transparent)]
    Features(#[from] FeatureError),
}

/// Checks the size of a batch.
pub(super) fn bounded(recordings: usize) -> Result<(), DeviceError> {
    if recordings > MOST_RECORDINGS {
        return Err(DeviceError::Failed {
            what: "the front end".into(),
            problem: format!("a batch holds at most {MOST_RECORDINGS} recordings"),
        });
    }
    Ok(())
}

/// Blocks for so many elements; each takes more than one where there are very many.
pub(super) fn blocks(elements: usize) -> usize {
    elements.div_ceil(THREADS as usize).clamp(1, MOST_BLOCKS)
}
