//! Conversion of arguments and outcomes at the C boundary.

use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{MAEUM_BAD_REQUEST, MAEUM_INTERNAL, MAEUM_OK, maeum_status, maeum_text};

/// Failed call: its status and message.
#[derive(Debug)]
pub struct Failure {
    pub status: maeum_status,
    pub message: String,
}

impl Failure {
    pub fn new(status: maeum_status, message: impl ToString) -> Self {
        Self {
            status,
            message: message.to_string(),
        }
    }

    pub fn bad_request(message: impl ToString) -> Self {
        Self::new(MAEUM_BAD_REQUEST, message)
    }
}

impl From<String> for maeum_text {
    fn from(text: String) -> Self {
        // The formats write no NUL; a message might quote one.
        Self(CString::new(text.replace('\0', "\u{FFFD}")).unwrap_or_default())
    }
}

/// Runs `work`; a panic becomes a failure.
fn guarded<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    // Nothing of an interrupted call is seen afterwards: a recogniser drops the buffers that the call took,
    // and a profile builder is changed by its last step alone.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(Failure::new(
            MAEUM_INTERNAL,
            "the library failed on this call; please report it with the recording if it happens again",
        ))
    })
}

/// Runs `work` and sets `*text` to its answer or its message.
///
/// # Safety
/// `text` is NULL or valid.
pub unsafe fn call(
    text: *mut *mut maeum_text,
    work: impl FnOnce() -> Result<String, Failure>,
) -> maeum_status {
    // SAFETY: the caller's promise.
    let Some(text) = (unsafe { text.as_mut() }) else {
        return MAEUM_BAD_REQUEST;
    };
    let (status, content) = match guarded(work) {
        Ok(answer) => (MAEUM_OK, answer),
        Err(failure) => (failure.status, failure.message),
    };
    *text = Box::into_raw(Box::new(content.into()));
    status
}

/// Runs `work` and sets `*handle` to its result, or `*text` to its message, and the other one to NULL.
///
/// # Safety
/// `handle` and `text` are NULL or valid.
pub unsafe fn create<T>(
    handle: *mut *mut T,
    name: &str,
    text: *mut *mut maeum_text,
    work: impl FnOnce() -> Result<T, Failure>,
) -> maeum_status {
    // SAFETY: the caller's promise.
    let Some(text) = (unsafe { text.as_mut() }) else {
        return MAEUM_BAD_REQUEST;
    };
    *text = std::ptr::null_mut();
    // SAFETY: the caller's promise.
    let handle = unsafe { handle.as_mut() };
    let made = match handle {
        None => Err(null(name)),
        Some(handle) => {
            *handle = std::ptr::null_mut();
            guarded(work).map(|made| *handle = Box::into_raw(Box::new(made)))
        }
    };
    match made {
        Ok(()) => MAEUM_OK,
        Err(failure) => {
            *text = Box::into_raw(Box::new(failure.message.into()));
            failure.status
        }
    }
}

fn null(name: &str) -> Failure {
    Failure::bad_request(format!("the argument {name} is NULL"))
}

/// Frees a handle of [`create`] or [`call`].
///
/// # Safety
/// The handle is NULL, or valid and not used afterwards.
pub unsafe fn free<T>(handle: *mut T) {
    if !handle.is_null() {
        // SAFETY: the caller's promise; `Box::into_raw` made every handle.
        drop(unsafe { Box::from_raw(handle) });
    }
}

/// Returns the value of a handle.
///
/// # Safety
/// The handle is NULL, or valid as long as the result is used.
pub unsafe fn handle<'a, T>(handle: *const T, name: &str) -> Result<&'a T, Failure> {
    // SAFETY: the caller's promise.
    unsafe { handle.as_ref() }.ok_or_else(|| null(name))
}

/// Returns the value of a handle that no one else uses.
///
/// # Safety
/// As [`handle`], and no one else uses the value.
pub unsafe fn handle_mut<'a, T>(handle: *mut T, name: &str) -> Result<&'a mut T, Failure> {
    // SAFETY: the caller's promise.
    unsafe { handle.as_mut() }.ok_or_else(|| null(name))
}

/// Returns an array argument. NULL is permitted for an empty one.
///
/// # Safety
/// `data` is NULL, or valid for `count` elements as long as the result is used.
pub unsafe fn slice<'a, T>(data: *const T, count: usize, name: &str) -> Result<&'a [T], Failure> {
    if count == 0 {
        return Ok(&[]);
    }
    if data.is_null() {
        return Err(null(name));
    }
    if !data.is_aligned() {
        return Err(Failure::bad_request(format!(
            "the argument {name} is not aligned for its elements"
        )));
    }
    if count > isize::MAX as usize / size_of::<T>().max(1) {
        return Err(Failure::bad_request(format!(
            "the argument {name} cannot have {count} elements"
        )));
    }
    // SAFETY: the caller's promise, and the checks above.
    Ok(unsafe { std::slice::from_raw_parts(data, count) })
}

/// Returns a text argument; empty for NULL.
///
/// # Safety
/// `text` is NULL, or a text that ends with NUL, valid as long as the result is used.
pub unsafe fn string<'a>(text: *const c_char, name: &str) -> Result<&'a str, Failure> {
    if text.is_null() {
        return Ok("");
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str()
        .map_err(|e| Failure::bad_request(format!("the argument {name} is not UTF-8: {e}")))
}

/// Returns the number of samples of `frames` frames.
pub fn product(frames: usize, channels: u32) -> Result<usize, Failure> {
    let channels = usize::try_from(channels).ok();
    channels
        .and_then(|channels| frames.checked_mul(channels))
        .ok_or_else(|| Failure::bad_request("there cannot be so many samples; give fewer frames"))
}

/// On WebAssembly a panic traps and the module cannot continue: its message is kept, so that the caller can
/// show it.
#[cfg(target_family = "wasm")]
mod panic {
    use std::sync::{Mutex, Once, PoisonError};

    use super::maeum_text;

    static MESSAGE: Mutex<Option<String>> = Mutex::new(None);

    /// Makes panics keep their message.
    pub fn keep_panic_message() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            std::panic::set_hook(Box::new(|info| {
                *MESSAGE.lock().unwrap_or_else(PoisonError::into_inner) = Some(info.to_string());
            }));
        });
    }

    /// Takes the message of the last panic.
    pub fn panic_message() -> Option<maeum_text> {
        let mut message = MESSAGE.lock().unwrap_or_else(PoisonError::into_inner);
        message.take().map(maeum_text::from)
    }
}

#[cfg(target_family = "wasm")]
pub use panic::{keep_panic_message, panic_message};
