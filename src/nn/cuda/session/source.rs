//! Where a run's inputs come from.

use crate::nn::cuda::driver::{Buffer, DeviceError, Stream};

/// Rows of `f32` on the device, one behind the other.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// Where they lie.
    pub buffer: &'a Buffer,
    /// The byte that the first one begins at.
    pub offset: usize,
    /// What computes them: other streams have to wait for it, as a session does.
    pub ready: Stream,
}

impl<'a> Rows<'a> {
    /// From a buffer's first byte on.
    pub fn of(buffer: &'a Buffer, ready: Stream) -> Self {
        Self {
            buffer,
            offset: 0,
            ready,
        }
    }

    /// Numbers that there is room for.
    pub(super) fn numbers(&self) -> usize {
        self.buffer.bytes().saturating_sub(self.offset) / size_of::<f32>()
    }

    /// Where `count` numbers lie that begin behind `first` others.
    ///
    /// # Errors
    /// If there are no such.
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
    /// Rows on the host, one behind the other.
    Host(&'a [f32]),
    /// Rows on the device. They are read where they are.
    Device(Rows<'a>),
    /// Rows that lie anywhere on the device, and may overlap: windows of a longer sequence. They are
    /// gathered there part by part.
    Gathered {
        /// All numbers that they are made of.
        numbers: Rows<'a>,
        /// How many that are.
        count: usize,
        /// The number that each row begins with.
        starts: &'a [u64],
    },
}

impl Source<'_> {
    /// The stream that has to be waited for.
    pub(super) fn ready(&self) -> Option<Stream> {
        match self {
            Self::Host(_) => None,
            Self::Device(rows) | Self::Gathered { numbers: rows, .. } => Some(rows.ready),
        }
    }

    /// How many numbers the input holds for `batch` rows of `elements`: as many as are asked for if
    /// there are at least so many on the device.
    pub(super) fn holds(&self, batch: usize, elements: usize) -> usize {
        let wanted = batch.saturating_mul(elements);
        match self {
            Self::Host(data) => data.len(),
            Self::Device(rows) => rows.numbers().min(wanted),
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
                match *count <= numbers.numbers() && starts.iter().all(inside) {
                    true => starts.len().saturating_mul(elements),
                    false => 0,
                }
            }
        }
    }
}
