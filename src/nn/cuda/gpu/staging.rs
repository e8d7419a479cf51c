//! Page-locked memory through which data goes to the device: copies from it run beside
//! everything else, and the caller's data is free at once.

use std::ffi::c_void;

use cudarc::driver::{result, sys};

use super::failed;
use crate::nn::cuda::driver::DeviceError;

/// Bytes of a chunk, and chunks of a stream: while one is copied the next is filled.
const CHUNK: usize = 8 << 20;
const CHUNKS: usize = 4;

#[derive(Default)]
pub(super) struct Staging {
    chunks: Vec<Chunk>,
    next: usize,
}

struct Chunk {
    memory: *mut c_void,
    /// Behind the last copy from it.
    copied: sys::CUevent,
}

impl Staging {
    /// Gives copies of `data` to the stream. The context is the calling thread's, `address` has
    /// room for the data.
    pub fn upload(
        &mut self,
        stream: sys::CUstream,
        data: &[u8],
        address: u64,
    ) -> Result<(), DeviceError> {
        for (i, part) in data.chunks(CHUNK).enumerate() {
            let chunk = self.chunk()?;
            // SAFETY: the event is the chunk's; once it is over, nothing reads the chunk's memory, which
            // holds `CHUNK` bytes; the copy reads it until the event that is recorded behind it.
            unsafe {
                result::event::synchronize(chunk.copied).map_err(failed("cuEventSynchronize"))?;
                let memory = std::slice::from_raw_parts_mut(chunk.memory.cast::<u8>(), part.len());
                memory.copy_from_slice(part);
                result::memcpy_htod_async(address + (i * CHUNK) as u64, memory, stream)
                    .map_err(failed("cuMemcpyHtoDAsync"))?;
                result::event::record(chunk.copied, stream).map_err(failed("cuEventRecord"))?;
            }
        }
        Ok(())
    }

    /// The chunk whose turn it is.
    fn chunk(&mut self) -> Result<&Chunk, DeviceError> {
        let number = self.next;
        self.next = (number + 1) % CHUNKS;
        if self.chunks.len() <= number {
            let flags = sys::CUevent_flags::CU_EVENT_DISABLE_TIMING;
            let copied = result::event::create(flags).map_err(failed("cuEventCreate"))?;
            // SAFETY: the bytes are written before they are read.
            let memory =
                unsafe { result::malloc_host(CHUNK, 0) }.map_err(failed("cuMemHostAlloc"))?;
            self.chunks.push(Chunk { memory, copied });
        }
        Ok(&self.chunks[number])
    }

    /// Gives the memory back; the context is the calling thread's.
    ///
    /// # Safety
    /// No copy is under way.
    pub unsafe fn free(&mut self) {
        for chunk in self.chunks.drain(..) {
            // SAFETY: made in `chunk`, and by the caller's word nothing uses them.
            unsafe {
                let _ = result::free_host(chunk.memory);
                let _ = result::event::destroy(chunk.copied);
            }
        }
    }
}
