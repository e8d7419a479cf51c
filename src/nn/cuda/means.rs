//! Means over rows on the device, bit-identical to `recognizer::statistics` (`kernels/answers.cu`).

use std::sync::Arc;

use super::driver::{Arg, Buffer, DeviceError, Driver, Launch, Stream};
use super::memory::Memory;
use super::session::Rows;
use super::sources::{KernelName, names};

const THREADS: usize = 256;

/// Computes means on [`Stream::A`]. Results are valid until the next ones of their kind.
pub(crate) struct Means {
    driver: Arc<dyn Driver>,
    memory: Memory,
}

impl std::fmt::Debug for Means {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Means").field(&self.driver.name()).finish()
    }
}

/// Items of rows, `[items][rows][width]`; each item occupies `item` elements, and those past its
/// rows are ignored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowParts<'a> {
    pub numbers: Rows<'a>,
    pub item: usize,
}

impl Means {
    pub fn new(driver: &Arc<dyn Driver>) -> Self {
        Self {
            driver: Arc::clone(driver),
            memory: Memory::default(),
        }
    }

    /// Computes the column means of `[rows][width]` over groups of rows and repeats each `times`
    /// times. `firsts` holds the first row of each group and the end of the last group.
    ///
    /// # Errors
    /// If the rows exceed their buffer, or the device fails.
    pub fn of_groups(
        &mut self,
        rows: Rows,
        firsts: &[u32],
        width: usize,
        times: usize,
    ) -> Result<Rows<'_>, DeviceError> {
        let groups = firsts.len().saturating_sub(1);
        let count = groups * width;
        let end = firsts.iter().copied().max().unwrap_or(0) as usize;
        let from = Arg::Pointer(rows.address(0, end * width)?);
        let driver = &*self.driver;
        let memory = &mut self.memory;
        memory.put(driver, Stream::A, "firsts", firsts)?;
        memory.room::<f32>(driver, "group means", count * times)?;
        let args = vec![
            from,
            Arg::from(memory.get("firsts")),
            Arg::from(memory.get("group means")),
            Arg::from(width as u32),
            Arg::from(times as u32),
        ];
        self.launch(names::GROUP_MEANS, count, args, rows.ready)?;
        Ok(Rows::of(self.memory.get("group means"), Stream::A))
    }

    /// Computes the means of the rows of `items` items, `rows` each, averaged over `parts`, in
    /// `f64`. [`Self::row_means`] holds the result.
    ///
    /// # Errors
    /// See [`Self::of_groups`].
    pub fn of_rows(
        &mut self,
        parts: &[RowParts],
        items: usize,
        rows: usize,
    ) -> Result<(), DeviceError> {
        let count = items * rows;
        self.memory.room::<f64>(&*self.driver, "row means", count)?;
        for (number, part) in parts.iter().enumerate() {
            let from = part.numbers.address(0, items * part.item)?;
            let [item, width] = [part.item, part.item / rows.max(1)];
            let words = [item, rows, width, number, parts.len()].map(|n| Arg::from(n as u32));
            let to = Arg::from(self.memory.get("row means"));
            let args = [Arg::Pointer(from), to].into_iter().chain(words).collect();
            self.launch(names::ROW_MEANS, count, args, part.numbers.ready)?;
        }
        Ok(())
    }

    /// Result of the last [`Self::of_rows`].
    ///
    /// # Panics
    /// If [`Self::of_rows`] was never called.
    pub fn row_means(&self) -> &Buffer {
        self.memory.get("row means")
    }

    fn launch(
        &self,
        kernel: KernelName,
        count: usize,
        mut args: Vec<Arg>,
        ready: Stream,
    ) -> Result<(), DeviceError> {
        if count == 0 {
            return Ok(());
        }
        if ready != Stream::A {
            self.driver.wait(Stream::A, ready)?;
        }
        args.push(Arg::from(count as u32));
        let launch = Launch {
            kernel,
            grid: [count.div_ceil(THREADS) as u32, 1, 1],
            block: [THREADS as u32, 1, 1],
            shared: 0,
            args,
        };
        // SAFETY: the arguments match the kernels. The buffers were checked or sized above, and
        // freeing one waits for its pending work.
        unsafe { self.driver.launch(Stream::A, &launch) }
    }
}
