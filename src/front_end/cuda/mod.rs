//! Device code shared by both front ends: resampling, filter tables and a workspace.

use std::fmt;

use resampling::Resampler;
use workspace::Workspace;

use crate::front_end::{AudioError, FeatureError};
use crate::nn::cuda::DeviceError;

pub(super) mod resampling;
pub(super) mod tables;
pub(super) mod workspace;

/// Threads per block, unless a kernel requires another number.
pub(super) const THREADS: u32 = 256;
/// Maximum number of blocks in a grid row; beyond it, a thread processes several elements.
const MAX_BLOCKS: usize = 4096;
/// Maximum number of recordings per batch: the number of rows of a CUDA grid.
pub const MOST_RECORDINGS: usize = 65_535;

/// Reason that a recording has no features.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FrontEndError {
    /// The recording cannot be analysed.
    #[error(transparent)]
    Audio(#[from] AudioError),
    /// The features cannot be computed.
    #[error(transparent)]
    Features(#[from] FeatureError),
}

/// Checks the number of recordings of a batch.
pub(super) fn bounded(recordings: usize) -> Result<(), DeviceError> {
    if recordings > MOST_RECORDINGS {
        return Err(DeviceError::Failed {
            what: "the front end".into(),
            problem: format!("a batch holds at most {MOST_RECORDINGS} recordings"),
        });
    }
    Ok(())
}

/// Formats a front end for debugging: its device and resampling.
pub(super) fn debug(
    work: &Workspace,
    resampler: &Resampler,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    f.debug_struct("CudaFrontEnd")
        .field("driver", &work.driver.name())
        .field("resampling", &resampler.resampling())
        .finish_non_exhaustive()
}

/// Returns the number of blocks for `elements`, limited to [`MAX_BLOCKS`].
pub(super) fn blocks(elements: usize) -> usize {
    elements.div_ceil(THREADS as usize).clamp(1, MAX_BLOCKS)
}
