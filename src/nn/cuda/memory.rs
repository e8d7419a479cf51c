//! Named device buffers that are reused between batches.

use std::collections::BTreeMap;

use super::driver::{Buffer, DeviceError, Driver, Number, Stream, bytes};

/// Device buffers by name. They grow to the largest batch and keep that size.
#[derive(Debug, Default)]
pub(crate) struct Memory(BTreeMap<&'static str, Buffer>);

impl Memory {
    /// Ensures room for `count` elements; growing discards the contents.
    pub fn room<T: Number>(
        &mut self,
        driver: &dyn Driver,
        name: &'static str,
        count: usize,
    ) -> Result<(), DeviceError> {
        let bytes = count.saturating_mul(size_of::<T>()).max(1);
        if self.0.get(name).is_none_or(|b| b.bytes() < bytes) {
            self.0.remove(name);
            self.0.insert(name, driver.allocate(bytes)?);
        }
        Ok(())
    }

    /// Uploads elements into the named buffer.
    pub fn put<T: Number>(
        &mut self,
        driver: &dyn Driver,
        stream: Stream,
        name: &'static str,
        numbers: &[T],
    ) -> Result<(), DeviceError> {
        self.room::<T>(driver, name, numbers.len())?;
        driver.upload(stream, bytes(numbers), self.get(name), 0)
    }

    /// Frees all buffers, after pending work on them is done.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns the named buffer.
    ///
    /// # Panics
    /// If no buffer has this name.
    pub fn get(&self, name: &'static str) -> &Buffer {
        &self.0[name]
    }
}
