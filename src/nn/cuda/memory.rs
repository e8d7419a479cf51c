//! Device memory that is used again.

use std::collections::BTreeMap;

use super::driver::{Buffer, DeviceError, Driver, Number, Stream, bytes};

/// Device memory by what it holds. It grows with the largest batch and stays.
#[derive(Debug, Default)]
pub(crate) struct Memory(BTreeMap<&'static str, Buffer>);

impl Memory {
    /// Makes room for `count` numbers; what was there is lost if it was less.
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

    /// Puts numbers there.
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

    /// Gives all of it back, once what uses it is done.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// What there is room for.
    ///
    /// # Panics
    /// If there is none.
    pub fn get(&self, name: &'static str) -> &Buffer {
        &self.0[name]
    }
}
