//! Inputs of a run on a device.

use crate::nn::cuda::driver::{Buffer, DeviceError, Stream};

/// Contiguous rows of `f32` on the device.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// The buffer that holds the rows.
    pub buffer: &'a Buffer,
    /// Byte offset of the first row.
    pub offset: usize,
    /// Stream that computes the rows. Work on other streams waits for it; sessions do so
    /// themselves.
    pub ready: Stream,
}

impl<'a> Rows<'a> {
    /// Rows from the first byte of a buffer.
    pub fn of(buffer: &'a Buffer, ready: Stream) -> Self {
        Self {
            buffer,
            offset: 0,
            ready,
        }
    }

    /// Elements from the offset to the end of the buffer.
    pub(super) fn elements(&self) -> usize {
        self.buffer.bytes().saturating_sub(self.offset) / size_of::<f32>()
    }

    /// Returns the address of `count` elements from element `first` on.
    ///
    /// # Errors
    /// If they exceed the buffer.
    pub(in crate::nn::cuda) fn address(
        &self,
        first: usize,
        count: usize,
    ) -> Result<u64, DeviceError> {
        let bytes = |numbers: usize| numbers.saturating_mul(size_of::<f32>());
        let offset = self.offset.saturating_add(bytes(first));
        self.buffer.range(offset, bytes(count))
    }
}

/// An input of a run.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// Contiguous rows on the host.
    Host(&'a [f32]),
    /// Contiguous rows on the device, read in place.
    Device(Rows<'a>),
    /// Rows at arbitrary, possibly overlapping positions on the device: windows of a longer
    /// sequence. They are gathered part by part.
    Gathered {
        /// Buffer that contains the rows.
        numbers: Rows<'a>,
        /// Elements in the buffer.
        count: usize,
        /// Index of each row's first element.
        starts: &'a [u64],
    },
}

impl Source<'_> {
    /// The stream that computes the input.
    pub(super) fn ready(&self) -> Option<Stream> {
        match self {
            Self::Host(_) => None,
            Self::Device(rows) | Self::Gathered { numbers: rows, .. } => Some(rows.ready),
        }
    }

    /// Returns the number of elements that the input holds for `batch` rows of `elements`. A larger
    /// device buffer counts as exactly sufficient.
    pub(super) fn holds(&self, batch: usize, elements: usize) -> usize {
        let wanted = batch.saturating_mul(elements);
        match self {
            Self::Host(data) => data.len(),
            Self::Device(rows) => rows.elements().min(wanted),
            Self::Gathered {
                numbers,
                count,
                starts,
            } => {
                let inside = |&start: &u64| {
                    let end = usize::try_from(start)
                        .ok()
                        .and_then(|s| s.checked_add(elements));
                    end.is_some_and(|end| end <= *count)
                };
                match *count <= numbers.elements() && starts.iter().all(inside) {
                    true => starts.len().saturating_mul(elements),
                    false => 0,
                }
            }
        }
    }
}
