//! Events recorded in a stream, on the device's clock.

use std::sync::Arc;

use cudarc::driver::{result, sys};

use super::{Context, failed};
use crate::nn::cuda::driver::DeviceError;

/// A recorded event, destroyed when dropped.
pub(super) struct RecordedEvent {
    event: sys::CUevent,
    context: Arc<Context>,
}

// SAFETY: the driver's handles may be used from every thread whose current context is theirs, and
// every use here sets it first.
unsafe impl Send for RecordedEvent {}
// SAFETY: see above.
unsafe impl Sync for RecordedEvent {}

/// Signature of `cuEventElapsedTime`. cudarc's function of this name calls a later version, which
/// drivers before CUDA 12.8 lack; newer drivers have both.
type Elapsed = unsafe extern "C" fn(*mut f32, sys::CUevent, sys::CUevent) -> sys::CUresult;

impl RecordedEvent {
    /// Records an event after the work queued so far on a stream of this context.
    pub fn record(context: &Arc<Context>, stream: sys::CUstream) -> Result<Self, DeviceError> {
        context.enter()?;
        let flags = sys::CUevent_flags::CU_EVENT_DEFAULT;
        let event = result::event::create(flags).map_err(failed("cuEventCreate"))?;
        let moment = Self {
            event,
            context: Arc::clone(context),
        };
        // SAFETY: the event and the stream belong to this context and are alive.
        unsafe { result::event::record(event, stream) }.map_err(failed("cuEventRecord"))?;
        Ok(moment)
    }

    pub fn is_of(&self, context: &Arc<Context>) -> bool {
        Arc::ptr_eq(&self.context, context)
    }

    /// Returns the milliseconds to a later event of the same context; waits for both.
    pub fn milliseconds_to(&self, later: &Self) -> Result<f64, DeviceError> {
        self.context.enter()?;
        for event in [self.event, later.event] {
            // SAFETY: the event lives as long as its owner.
            unsafe { result::event::synchronize(event) }.map_err(failed("cuEventSynchronize"))?;
        }
        let what = "cuEventElapsedTime";
        let mut milliseconds = 0.0f32;
        // SAFETY: the driver library was loaded before any context existed; the symbol has had this
        // signature since CUDA 2. Both events were recorded with timing.
        unsafe {
            let library = sys::culib();
            let elapsed =
                library
                    .get::<Elapsed>(what.as_bytes())
                    .map_err(|e| DeviceError::Failed {
                        what: what.into(),
                        problem: e.to_string(),
                    })?;
            elapsed(&mut milliseconds, self.event, later.event)
                .result()
                .map_err(failed(what))?;
        }
        Ok(f64::from(milliseconds))
    }
}

impl Drop for RecordedEvent {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: made in `record`, destroyed once; the driver defers the destruction of a
            // pending event.
            let _ = unsafe { result::event::destroy(self.event) };
        }
    }
}
