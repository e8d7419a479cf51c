//! Page-locked staging memory for copies between host and device. Such copies run asynchronously
//! and at full bus bandwidth.

use std::ffi::c_void;

use cudarc::driver::{result, sys};

use super::failed;
use crate::nn::cuda::driver::DeviceError;

/// Size of a chunk in bytes and number of chunks per stream: while one is copied, the next is
/// filled or the previous one is read.
const CHUNK: usize = 8 << 20;
const CHUNKS: usize = 4;
const CHUNKS_BACK: usize = 2;
/// Alignment of copies within a chunk: a cache line of the host.
const ALIGNMENT: usize = 64;

/// Staging memory for uploads; the caller's data is free after the call.
#[derive(Default)]
pub(super) struct UploadStaging {
    chunks: Vec<Chunk>,
    /// Index of the chunk being filled, and its filled bytes.
    current: usize,
    filled: usize,
}

struct Chunk {
    memory: *mut c_void,
    /// Recorded after the last copy from the chunk.
    copied: sys::CUevent,
}

impl UploadStaging {
    /// Queues copies of `data` on the stream, which is the same in every call. The context is
    /// current, and `address` has room for the data.
    pub fn upload(
        &mut self,
        stream: sys::CUstream,
        mut data: &[u8],
        mut address: u64,
    ) -> Result<(), DeviceError> {
        while !data.is_empty() {
            let (number, from) = self.room()?;
            let (part, rest) = data.split_at(data.len().min(CHUNK - from));
            self.filled = (from + part.len()).next_multiple_of(ALIGNMENT);
            let chunk = &self.chunks[number];
            // SAFETY: the chunk has `CHUNK` bytes, and no pending copy reads those from `from` on.
            // The new copy reads them until the event recorded after it.
            unsafe {
                let memory = chunk.memory.cast::<u8>().add(from);
                std::ptr::copy_nonoverlapping(part.as_ptr(), memory, part.len());
                let memory = std::slice::from_raw_parts(memory, part.len());
                result::memcpy_htod_async(address, memory, stream)
                    .map_err(failed("cuMemcpyHtoDAsync"))?;
                result::event::record(chunk.copied, stream).map_err(failed("cuEventRecord"))?;
            }
            address += part.len() as u64;
            data = rest;
        }
        Ok(())
    }

    /// Returns a chunk's index and the offset from which it is free. Small uploads share a chunk so
    /// that they do not wait for each other.
    fn room(&mut self) -> Result<(usize, usize), DeviceError> {
        if self.chunks.is_empty() {
            self.chunks.push(Chunk::new()?);
        } else if self.filled >= CHUNK {
            let next = (self.current + 1) % CHUNKS;
            if self.chunks.len() <= next {
                self.chunks.push(Chunk::new()?);
            }
            // SAFETY: the event belongs to the chunk; it is complete if it was never recorded.
            unsafe { result::event::synchronize(self.chunks[next].copied) }
                .map_err(failed("cuEventSynchronize"))?;
            (self.current, self.filled) = (next, 0);
        }
        Ok((self.current, self.filled))
    }

    /// Frees the memory; the context is current.
    ///
    /// # Safety
    /// No copy is in progress.
    pub unsafe fn free(&mut self) {
        self.chunks.clear();
    }
}

/// Staging memory for downloads.
#[derive(Default)]
pub(super) struct DownloadStaging(Vec<Chunk>);

impl DownloadStaging {
    /// Copies `address` to `data` after the work queued on the stream, which is the same in every
    /// call, and waits. The context is current, and `address` has that much data.
    pub fn download(
        &mut self,
        stream: sys::CUstream,
        data: &mut [u8],
        mut address: u64,
    ) -> Result<(), DeviceError> {
        let mut landed: Option<(usize, &mut [u8])> = None;
        for (number, part) in data.chunks_mut(CHUNK).enumerate() {
            let number = number % CHUNKS_BACK;
            if self.0.len() <= number {
                self.0.push(Chunk::new()?);
            }
            let chunk = &self.0[number];
            // SAFETY: the chunk has `CHUNK` bytes, whose previous contents were read out two rounds
            // ago.
            unsafe {
                let memory = std::slice::from_raw_parts_mut(chunk.memory.cast::<u8>(), part.len());
                result::memcpy_dtoh_async(memory, address, stream)
                    .map_err(failed("cuMemcpyDtoHAsync"))?;
                result::event::record(chunk.copied, stream).map_err(failed("cuEventRecord"))?;
            }
            address += part.len() as u64;
            if let Some((number, part)) = landed.replace((number, part)) {
                self.0[number].take(part)?;
            }
        }
        match landed {
            Some((number, part)) => self.0[number].take(part),
            None => Ok(()),
        }
    }

    /// Frees the memory; the context is current.
    ///
    /// # Safety
    /// No copy is in progress.
    pub unsafe fn free(&mut self) {
        self.0.clear();
    }
}

impl Chunk {
    /// Waits for the last copy to the chunk and reads its beginning.
    fn take(&self, data: &mut [u8]) -> Result<(), DeviceError> {
        // SAFETY: the event belongs to the chunk. At most `CHUNK` bytes were copied before it, and
        // nothing writes them until the next copy is queued.
        unsafe {
            result::event::synchronize(self.copied).map_err(failed("cuEventSynchronize"))?;
            std::ptr::copy_nonoverlapping(self.memory.cast(), data.as_mut_ptr(), data.len());
        }
        Ok(())
    }

    fn new() -> Result<Self, DeviceError> {
        let flags = sys::CUevent_flags::CU_EVENT_DISABLE_TIMING;
        let copied = result::event::create(flags).map_err(failed("cuEventCreate"))?;
        // SAFETY: the bytes are written before they are read.
        match unsafe { result::malloc_host(CHUNK, 0) } {
            Ok(memory) => Ok(Self { memory, copied }),
            Err(e) => {
                // SAFETY: made above and never used.
                let _ = unsafe { result::event::destroy(copied) };
                Err(failed("cuMemHostAlloc")(e))
            }
        }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: made in `new`. Only the two `free` drop chunks, and their callers guarantee that
        // no copy is in progress.
        unsafe {
            let _ = result::free_host(self.memory);
            let _ = result::event::destroy(self.copied);
        }
    }
}
