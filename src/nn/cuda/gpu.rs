//! NVIDIA GPUs through the CUDA driver library.

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::{Arc, Mutex, MutexGuard};

use cudarc::driver::{result, sys};

use super::compile::image;
use super::driver::{Arg, Buffer, DeviceError, Driver, Event, Launch, Stream, foreign_event};
use super::sources::{KernelName, SOURCES, kernels, names};

mod event;
mod limits;
mod staging;

use event::RecordedEvent;
pub use limits::Limits;
use staging::{DownloadStaging, UploadStaging};

/// One GPU. Kernels are compiled at first use and cached for the user.
pub struct Gpu {
    name: String,
    limits: Limits,
    streams: [Queue; 2],
    functions: Mutex<HashMap<String, Function>>,
    modules: Mutex<HashMap<&'static str, Module>>,
    // The last field, so that everything above is dropped in a live context.
    context: Arc<Context>,
}

/// The device's primary context.
struct Context {
    device: sys::CUdevice,
    handle: sys::CUcontext,
}

struct Queue {
    stream: sys::CUstream,
    uploads: Mutex<UploadStaging>,
    downloads: Mutex<DownloadStaging>,
    context: Arc<Context>,
}

#[derive(Clone, Copy)]
struct Function(sys::CUfunction);

struct Module {
    handle: sys::CUmodule,
    context: Arc<Context>,
}

// SAFETY: the driver's handles may be used from every thread whose current context is theirs, and
// every use here sets it first.
unsafe impl Send for Context {}
// SAFETY: see above.
unsafe impl Sync for Context {}
// SAFETY: see above.
unsafe impl Send for Queue {}
// SAFETY: see above.
unsafe impl Sync for Queue {}
// SAFETY: see above.
unsafe impl Send for Function {}
// SAFETY: see above.
unsafe impl Send for Module {}

fn failed(what: &str) -> impl Fn(result::DriverError) -> DeviceError + '_ {
    move |e| {
        let text = e.error_string().map(|t| t.to_string_lossy().into_owned());
        DeviceError::Failed {
            what: what.into(),
            problem: text.unwrap_or_else(|_| format!("{e:?}")),
        }
    }
}

impl Context {
    /// Makes the context current for the calling thread.
    fn enter(&self) -> Result<(), DeviceError> {
        // SAFETY: the handle was retained and is released when this is dropped.
        unsafe { result::ctx::set_current(self.handle) }.map_err(failed("cuCtxSetCurrent"))
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once in `Gpu::new`.
        let _ = unsafe { result::primary_ctx::release(self.device) };
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: loaded in `Gpu::load`; its functions are dropped with the `Gpu`.
            let _ = unsafe { result::module::unload(self.handle) };
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: made in `Gpu::new` and no longer used.
            unsafe {
                let _ = result::stream::synchronize(self.stream);
                lock(&self.uploads).free();
                lock(&self.downloads).free();
                let _ = result::stream::destroy(self.stream);
            }
        }
    }
}

/// Ignores poisoning: the guarded state is valid after a panic in another thread.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Gpu {
    /// Returns the number of GPUs of this machine.
    ///
    /// # Errors
    /// If NVIDIA's driver is missing or fails.
    pub fn count() -> Result<usize, DeviceError> {
        // SAFETY: tries to load the library by its names. Checked first because any call without it
        // panics.
        if !unsafe { sys::is_culib_present() } {
            return Err(DeviceError::NoDriver);
        }
        result::init().map_err(failed("cuInit"))?;
        let count = result::device::get_count().map_err(failed("cuDeviceGetCount"))?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// Opens GPU `number`, counted from 0.
    ///
    /// # Errors
    /// If there is no such GPU, no driver, or no compiler for kernels that are not cached.
    pub fn new(number: usize) -> Result<Self, DeviceError> {
        let present = Self::count()?;
        let missing = DeviceError::NoGpu {
            asked: number,
            present,
        };
        if number >= present {
            return Err(missing);
        }
        let ordinal = i32::try_from(number).map_err(|_| missing)?;
        let device = result::device::get(ordinal).map_err(failed("cuDeviceGet"))?;
        let name = result::device::get_name(device).map_err(failed("cuDeviceGetName"))?;
        let limits = Limits::of(device)?;
        // SAFETY: the device comes from the driver; `Context` releases it.
        let handle = unsafe { result::primary_ctx::retain(device) }
            .map_err(failed("cuDevicePrimaryCtxRetain"))?;
        let context = Arc::new(Context { device, handle });
        context.enter()?;
        let queue = || {
            let kind = result::stream::StreamKind::NonBlocking;
            let stream = result::stream::create(kind).map_err(failed("cuStreamCreate"))?;
            Ok::<_, DeviceError>(Queue {
                stream,
                uploads: Mutex::default(),
                downloads: Mutex::default(),
                context: Arc::clone(&context),
            })
        };
        let gpu = Self {
            name,
            limits,
            streams: [queue()?, queue()?],
            functions: Mutex::default(),
            modules: Mutex::default(),
            context,
        };
        // Loads one kernel to check that kernels can be compiled and loaded here.
        gpu.function(names::SCALE_SHIFT)?;
        Ok(gpu)
    }

    /// Hardware properties of the device.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    fn queue(&self, stream: Stream) -> &Queue {
        match stream {
            Stream::A => &self.streams[0],
            Stream::B => &self.streams[1],
        }
    }

    fn function(&self, name: KernelName) -> Result<Function, DeviceError> {
        let name = name.as_str();
        let mut functions = lock(&self.functions);
        if let Some(&function) = functions.get(name) {
            return Ok(function);
        }
        let &(file, source) = SOURCES
            .iter()
            .find(|(_, source)| kernels(source).any(|k| k == name))
            .ok_or_else(|| DeviceError::NoKernel(name.into()))?;
        let mut modules = lock(&self.modules);
        if !modules.contains_key(file) {
            let module = match self.load(file, source, false) {
                // A cached image may come from a compiler that is too new for this driver.
                Err(old @ DeviceError::Failed { .. }) => match self.load(file, source, true) {
                    Err(DeviceError::NoCompiler) => return Err(old),
                    other => other?,
                },
                other => other?,
            };
            modules.insert(file, module);
        }
        let kernel = CString::new(name).map_err(|_| DeviceError::NoKernel(name.into()))?;
        // SAFETY: the module stays loaded as long as `self`.
        let function = unsafe { result::module::get_function(modules[file].handle, kernel) }
            .map_err(failed("cuModuleGetFunction"))?;
        functions.insert(name.into(), Function(function));
        Ok(Function(function))
    }

    fn load(&self, file: &str, source: &str, fresh: bool) -> Result<Module, DeviceError> {
        let image = image(file, source, self.limits.capability, fresh)?;
        // SAFETY: the image is a complete compiler output: machine code or zero-terminated PTX.
        let handle = unsafe { result::module::load_data(image.as_ptr().cast()) }
            .map_err(failed("cuModuleLoadData"))?;
        Ok(Module {
            handle,
            context: Arc::clone(&self.context),
        })
    }
}

/// Device memory; keeps its context alive.
struct Allocation {
    address: u64,
    context: Arc<Context>,
}

impl Drop for Allocation {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // Work on any stream may still use the memory.
            let _ = result::ctx::synchronize();
            // SAFETY: allocated in `allocate`, freed once; no pending work uses it.
            let _ = unsafe { result::free_sync(self.address) };
        }
    }
}

impl Driver for Gpu {
    fn name(&self) -> String {
        format!("{} ({})", self.name, self.limits.architecture())
    }

    fn free_memory(&self) -> Result<usize, DeviceError> {
        self.context.enter()?;
        let (free, _) = result::mem_get_info().map_err(failed("cuMemGetInfo"))?;
        Ok(free)
    }

    fn allocate(&self, bytes: usize) -> Result<Buffer, DeviceError> {
        self.context.enter()?;
        // SAFETY: the memory is documented as uninitialised.
        let address = unsafe { result::malloc_sync(bytes.max(1)) }.map_err(|e| match e.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => DeviceError::Memory { bytes },
            _ => failed("cuMemAlloc")(e),
        })?;
        let owner = Allocation {
            address,
            context: Arc::clone(&self.context),
        };
        // SAFETY: the driver aligns allocations to 256 bytes; this one lives until `owner` is
        // dropped.
        Ok(unsafe { Buffer::new(address, bytes, Box::new(owner)) })
    }

    fn upload(
        &self,
        stream: Stream,
        data: &[u8],
        to: &Buffer,
        offset: usize,
    ) -> Result<(), DeviceError> {
        let address = to.range(offset, data.len())?;
        self.context.enter()?;
        let queue = self.queue(stream);
        lock(&queue.uploads).upload(queue.stream, data, address)
    }

    fn download(
        &self,
        stream: Stream,
        from: &Buffer,
        offset: usize,
        data: &mut [u8],
    ) -> Result<(), DeviceError> {
        let address = from.range(offset, data.len())?;
        self.context.enter()?;
        let queue = self.queue(stream);
        match data.is_empty() {
            true => self.synchronise(stream),
            false => lock(&queue.downloads).download(queue.stream, data, address),
        }
    }

    unsafe fn launch(&self, stream: Stream, launch: &Launch) -> Result<(), DeviceError> {
        self.context.enter()?;
        let function = self.function(launch.kernel)?;
        let mut args: Vec<*mut c_void> = launch
            .args
            .iter()
            .map(|a| Arg::bytes(a).as_ptr().cast_mut().cast())
            .collect();
        let [grid, block] = [launch.grid, launch.block].map(|[x, y, z]| (x, y, z));
        let stream = self.queue(stream).stream;
        // SAFETY: the caller guarantees that the arguments match the kernel; the driver copies them
        // before it returns.
        unsafe { result::launch_kernel(function.0, grid, block, launch.shared, stream, &mut args) }
            .map_err(failed(launch.kernel.as_str()))
    }

    fn synchronise(&self, stream: Stream) -> Result<(), DeviceError> {
        self.context.enter()?;
        // SAFETY: the stream lives as long as `self`.
        unsafe { result::stream::synchronize(self.queue(stream).stream) }
            .map_err(failed("cuStreamSynchronize"))
    }

    fn wait(&self, stream: Stream, for_stream: Stream) -> Result<(), DeviceError> {
        self.context.enter()?;
        let (waits, done) = (self.queue(stream).stream, self.queue(for_stream).stream);
        let untimed = sys::CUevent_flags::CU_EVENT_DISABLE_TIMING;
        let event = result::event::create(untimed).map_err(failed("cuEventCreate"))?;
        let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: the streams live as long as `self`, and the event until it is destroyed, once. A
        // stream that already waits for the event is unaffected by that.
        unsafe {
            let recorded = result::event::record(event, done).map_err(failed("cuEventRecord"));
            let waiting = recorded.and_then(|()| {
                result::stream::wait_event(waits, event, flags).map_err(failed("cuStreamWaitEvent"))
            });
            let destroyed = result::event::destroy(event).map_err(failed("cuEventDestroy"));
            waiting.and(destroyed)
        }
    }

    fn record(&self, stream: Stream) -> Result<Event, DeviceError> {
        let moment = RecordedEvent::record(&self.context, self.queue(stream).stream)?;
        Ok(Event::new(moment))
    }

    fn milliseconds(&self, from: &Event, to: &Event) -> Result<f64, DeviceError> {
        match (from.known::<RecordedEvent>(), to.known::<RecordedEvent>()) {
            (Some(from), Some(to)) if from.is_of(&self.context) && to.is_of(&self.context) => {
                from.milliseconds_to(to)
            }
            _ => Err(foreign_event()),
        }
    }
}
