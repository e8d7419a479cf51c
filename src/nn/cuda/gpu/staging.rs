//! Page-locked memory through which data goes to the device and comes back: copies from and to it run
//! beside everything else, at the speed of the way between the two memories.

use std::ffi::c_void;

use cudarc::driver::{result, sys};

use super::failed;
use crate::nn::cuda::driver::DeviceError;

/// Bytes of a chunk, and chunks of a stream: while one is copied the next is filled, or the last one
/// emptied.
const CHUNK: usize = 8 << 20;
const CHUNKS: usize = 4;
const CHUNKS_BACK: usize = 2;
/// Copies begin at multiples of so many bytes of a chunk: a line of the host's cache.
const ALIGNMENT: usize = 64;

/// For what goes to the device; the caller's data is free at once.
#[derive(Default)]
pub(super) struct Staging {
    chunks: Vec<Chunk>,
    /// The one that is being filled, and how far.
    current: usize,
    filled: usize,
}

struct Chunk {
    memory: *mut c_void,
    /// Behind the last copy from it.
    copied: sys::CUevent,
}

impl Staging {
    /// Gives copies of `data` to the stream, which is always the same. The context is the calling
    /// thread's, `address` has room for the data.
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
            // SAFETY: `CHUNK` bytes are there, of which nothing reads those from `from` on; the copy reads
            // them until the event that is recorded behind it.
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

    /// A chunk's number and the first byte of it that nothing reads, nor any behind it. Several small
    /// uploads share a chunk, so that they do not wait for each other.
    fn room(&mut self) -> Result<(usize, usize), DeviceError> {
        if self.chunks.is_empty() {
            self.chunks.push(Chunk::new()?);
        } else if self.filled >= CHUNK {
            let next = (self.current + 1) % CHUNKS;
            if self.chunks.len() <= next {
                self.chunks.push(Chunk::new()?);
            }
            // SAFETY: the event is the chunk's; over at once if it was never recorded.
            unsafe { result::event::synchronize(self.chunks[next].copied) }
                .map_err(failed("cuEventSynchronize"))?;
            (self.current, self.filled) = (next, 0);
        }
        Ok((self.current, self.filled))
    }

    /// Gives the memory back; the context is the calling thread's.
    ///
    /// # Safety
    /// No copy is under way.
    pub unsafe fn free(&mut self) {
        self.chunks.clear();
    }
}

/// For what comes from the device.
#[derive(Default)]
pub(super) struct Landing(Vec<Chunk>);

impl Landing {
    /// Takes `data` from `address`, where so much is, behind everything that the stream, which is always
    /// the same, was given, and waits for it. The context is the calling thread's.
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
            // SAFETY: `CHUNK` bytes are there; what was copied to them before has been taken, as they were
            // waited for in the round before the last.
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

    /// Gives the memory back; the context is the calling thread's.
    ///
    /// # Safety
    /// No copy is under way.
    pub unsafe fn free(&mut self) {
        self.0.clear();
    }
}

impl Chunk {
    /// Waits for the last copy to it and takes its beginning.
    fn take(&self, data: &mut [u8]) -> Result<(), DeviceError> {
        // SAFETY: the event is the chunk's; at most `CHUNK` bytes were copied to it before that, and
        // nothing writes them until the next copy is asked for.
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
                // SAFETY: made above, and used for nothing.
                let _ = unsafe { result::event::destroy(copied) };
                Err(failed("cuMemHostAlloc")(e))
            }
        }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: made in `new`; chunks are dropped by the two `free` alone, and by their caller's word
        // nothing uses them.
        unsafe {
            let _ = result::free_host(self.memory);
            let _ = result::event::destroy(self.copied);
        }
    }
}
