//! C interface of maeum: a few functions over [`maeum::Recognizer`] on bytes and JSON text. Compiled for
//! WebAssembly, the same functions serve JavaScript.
//!
//! Every function that can fail returns a [`maeum_status`] and sets `*text` to an owned text: the answer,
//! or a message that names the recording, the problem and the remedy. No function unwinds: a panic becomes
//! `MAEUM_INTERNAL`, or on WebAssembly a trap. The comments of the items are those of the header
//! (`include/maeum.h`).

#![allow(non_camel_case_types)]
// the types have their C names
// The rules are the same for all functions; `include/maeum.h` begins with them.
#![allow(clippy::missing_safety_doc)]

mod boundary;
mod options;
#[cfg(target_family = "wasm")]
mod powf;
mod work;

use std::ffi::{c_char, c_int};

use boundary::{call, slice};
use maeum::Recognizer;
use maeum::recognizer::ProfileBuilder;
use options::Options;

/// Outcome of a function. `maeum_status_name` gives its name.
pub type maeum_status = c_int;

/// Success; the text is the answer.
pub const MAEUM_OK: maeum_status = 0;
/// An argument or option is missing or invalid.
pub const MAEUM_BAD_REQUEST: maeum_status = 1;
/// The recording cannot be decoded or analysed.
pub const MAEUM_UNUSABLE_AUDIO: maeum_status = 2;
/// The recording is longer than the option `max_seconds`, or than any recording may be.
pub const MAEUM_TOO_LONG: maeum_status = 3;
/// The recording holds no speech.
pub const MAEUM_NO_SPEECH: maeum_status = 4;
/// The bytes are no bundle of a speech model.
pub const MAEUM_BAD_MODEL: maeum_status = 5;
/// The speaker profile cannot be used with this model.
pub const MAEUM_BAD_PROFILE: maeum_status = 6;
/// The library failed on this call. The handles stay valid.
pub const MAEUM_INTERNAL: maeum_status = 7;

/// Model prepared for recognition. Threads may use one at the same time.
pub struct maeum_recognizer(Recognizer);

/// Statistics of one speaker's recordings. One thread at a time may use it.
pub struct maeum_profile_builder(ProfileBuilder);

/// Text in UTF-8 that the caller owns and frees with `maeum_text_free`.
pub struct maeum_text(std::ffi::CString);

/// Returns the version of the library, such as "0.1.0"; never freed.
#[unsafe(no_mangle)]
pub extern "C" fn maeum_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// Returns the name of a status, such as "no_speech", or "unknown"; never freed.
#[unsafe(no_mangle)]
pub extern "C" fn maeum_status_name(status: maeum_status) -> *const c_char {
    let name = match status {
        MAEUM_OK => c"ok",
        MAEUM_BAD_REQUEST => c"bad_request",
        MAEUM_UNUSABLE_AUDIO => c"unusable_audio",
        MAEUM_TOO_LONG => c"too_long",
        MAEUM_NO_SPEECH => c"no_speech",
        MAEUM_BAD_MODEL => c"bad_model",
        MAEUM_BAD_PROFILE => c"bad_profile",
        MAEUM_INTERNAL => c"internal",
        _ => c"unknown",
    };
    name.as_ptr()
}

/// Prepares a model for recognition.
///
/// `bundle` is the content of a `.safetensors` bundle of `size` bytes, which the caller may free
/// afterwards; NULL is the built-in model. `*recognizer` is set on success and `*text` on failure, the
/// other one to NULL. Both pointers must be valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maeum_recognizer_new(
    bundle: *const u8,
    size: usize,
    recognizer: *mut *mut maeum_recognizer,
    text: *mut *mut maeum_text,
) -> maeum_status {
    #[cfg(target_family = "wasm")]
    boundary::keep_panic_message();
    let work = || {
        let bundle = match bundle.is_null() {
            true => None,
            // SAFETY: the caller's promise.
            false => Some(unsafe { slice(bundle, size, "bundle") }?),
        };
        work::open(bundle).map(maeum_recognizer)
    };
    // SAFETY: the caller's promise.
    unsafe { boundary::create(recognizer, "recognizer", text, work) }
}

/// Frees a recognizer; NULL is ignored. No other thread may use it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maeum_recognizer_free(recognizer: *mut maeum_recognizer) {
    // SAFETY: the caller's promise.
    unsafe { boundary::free(recognizer) }
}

/// Describes the model: a JSON object with `name`, `sha256`, `emotions`, `genders`, `licences`,
/// `speaker_profiles`, `formats` and `notice`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maeum_recognizer_describe(
    recognizer: *const maeum_recognizer,
    text: *mut *mut maeum_text,
) -> maeum_status {
    // SAFETY: the caller's promise.
    unsafe {
        call(text, || {
            let recognizer = boundary::handle(recognizer, "recognizer")?;
            Ok(work::describe(&recognizer.0))
        })
    }
}

/// Recognises the bytes of an audio file of any supported format.
///
/// `options` is a JSON object, or NULL for none:
/// - `name`: name of the recording in the answer and in messages; "recording" if missing
/// - `format`: format of the answer, one of `formats` of `maeum_recognizer_describe`; "json" if missing
/// - `dropout`: "off", or draws of forced dropout from 1 to 1024; 32 if missing
/// - `seed`: seed of the draws, a whole number below 2^64; 0 if missing
/// - `profile`: speaker profile, an object from `maeum_profile_builder_finish`
/// - `channel`: channel of a file to analyse, from 1; the mean of all channels if missing
/// - `max_seconds`: longest recording that is accepted
/// - `start`: seconds that are added to all times of the answer, for a part of a longer recording
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maeum_recognize(
    recognizer: *const maeum_recognizer,
    recording: *const u8,
    size: usize,
    options: *const c_char,
    text: *mut *mut maeum_text,
) -> maeum_status {
    // SAFETY: the caller's promise.
    unsafe {
        call(text, || {
            let recognizer = boundary::handle(recognizer, "recognizer")?;
            let recording = slice(recording, size, "recording")?;
            let options = read_options(options)?;
            work::recognize(&recognizer.0, work::Audio::File(recording), &options)
        })
    }
}

/// Recognises `frames * channels` interleaved samples, full scale 1. They are rounded to 16 bits, as
/// those of a float WAV file are. `options` as for `maeum_recognize`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maeum_recognize_float(
    recognizer: *const maeum_recognizer,
    samples: *const f32,
    frames: usize,
    channels: u32,
    sample_rate: u32,
    options: *const c_char,
    text: *mut *mut maeum_text,
) -> maeum_status {
    // SAFETY: the caller's promise.
    unsafe {
        call(text, || {
            let recognizer = boundary::handle(recognizer, "recognizer")?;
            let count = boundary::product(frames, channels)?;
            let samples = slice(samples, count, "samples")?;
            let options = read_options(options)?;
            let audio = work::Audio::Float {
                samples,
                channels,
                sample_rate,
            };
            work::recognize(&recognizer.0, audio, &options)
        })
    }
}

/// Recognises 16-bit mono samples, such as from a microphone: the answer for a WAV file of them. `options`
/// as for `maeum_recognize`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maeum_recognize_pcm16(
    recognizer: *const maeum_recognizer,
    samples: *const i16,
    frames: usize,
    sample_rate: u32,
    options: *const c_char,
    text: *mut *mut maeum_text,
) -> maeum_status {
    // SAFETY: the caller's promise.
    unsafe {
        call(text, || {
            let recognizer = boundary::handle(recognizer, "recognizer")?;
            let samples = slice(samples, frames, "samples")?;
            let options = read_options(options)?;
            let audio = work::Audio::Pcm16 {
                samples,
                sample_rate,
            };
            work::recognize(&recognizer.0, audio, &options)
        })
    }
}

/// Reads the argument `options`.
///
/// # Safety
/// `options` is NULL or ends with NUL.
unsafe fn read_options(options: *const c_char) -> Result<Options, boundary::Failure> {
    // SAFETY: the caller's promise.
    Options::read(unsafe { boundary::string(options, "options") }?)
}

/// Starts the statistics of one speaker's recordings, from which `maeum_profile_builder_finish` makes a
/// profile.
#[unsafe(no_mangle)]
pub extern "C" fn maeum_profile_builder_new() -> *mut maeum_profile_builder {
    Box::into_raw(Box::new(maeum_profile_builder(ProfileBuilder::default())))
}

/// Adds the speech of a recording; after a failure the statistics are unchanged. Of the options of
/// `maeum_recognize`, `name`, `channel` and `max_seconds` are permitted. The text of a success is empty.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maeum_profile_builder_add(
    builder: *mut maeum_profile_builder,
    recognizer: *const maeum_recognizer,
    recording: *const u8,
    size: usize,
    options: *const c_char,
    text: *mut *mut maeum_text,
) -> maeum_status {
    // SAFETY: the caller's promise.
    unsafe {
        call(text, || {
            let builder = boundary::handle_mut(builder, "builder")?;
            let recognizer = boundary::handle(recognizer, "recognizer")?;
            let recording = slice(recording, size, "recording")?;
            let options = read_options(options)?;
            work::add_to_profile(&mut builder.0, &recognizer.0, recording, &options)
        })
    }
}

/// Makes the profile: a JSON object for the option `profile`. The builder can take further recordings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maeum_profile_builder_finish(
    builder: *const maeum_profile_builder,
    recognizer: *const maeum_recognizer,
    text: *mut *mut maeum_text,
) -> maeum_status {
    // SAFETY: the caller's promise.
    unsafe {
        call(text, || {
            let builder = boundary::handle(builder, "builder")?;
            let recognizer = boundary::handle(recognizer, "recognizer")?;
            work::profile(&builder.0, &recognizer.0)
        })
    }
}

/// Frees a builder; NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maeum_profile_builder_free(builder: *mut maeum_profile_builder) {
    // SAFETY: the caller's promise.
    unsafe { boundary::free(builder) }
}

/// Returns the bytes of a text, which end with NUL and contain no other; valid until the text is freed. NULL
/// for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maeum_text_data(text: *const maeum_text) -> *const c_char {
    // SAFETY: the caller's promise.
    unsafe { text.as_ref() }.map_or(std::ptr::null(), |text| text.0.as_ptr())
}

/// Returns the number of bytes of a text without the NUL; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maeum_text_size(text: *const maeum_text) -> usize {
    // SAFETY: the caller's promise.
    unsafe { text.as_ref() }.map_or(0, |text| text.0.as_bytes().len())
}

/// Frees a text; NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn maeum_text_free(text: *mut maeum_text) {
    // SAFETY: the caller's promise.
    unsafe { boundary::free(text) }
}

/// Functions that only the JavaScript side needs: its memory is not that of the module.
#[cfg(target_family = "wasm")]
mod wasm {
    use std::alloc::{Layout, alloc, dealloc};

    use super::{boundary, maeum_text};

    /// Alignment of every block, sufficient for all arguments.
    const ALIGNMENT: usize = 8;

    /// Returns a block of `size` bytes; NULL if there is no memory or `size` is 0.
    #[unsafe(no_mangle)]
    extern "C" fn maeum_allocate(size: usize) -> *mut u8 {
        match Layout::from_size_align(size, ALIGNMENT) {
            // SAFETY: the size is not 0.
            Ok(layout) if size > 0 => unsafe { alloc(layout) },
            _ => std::ptr::null_mut(),
        }
    }

    /// Frees a block of `maeum_allocate`; NULL is ignored.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn maeum_release(block: *mut u8, size: usize) {
        if let Ok(layout) = Layout::from_size_align(size, ALIGNMENT)
            && !block.is_null()
        {
            // SAFETY: the caller's promise: `maeum_allocate` made the block with this size.
            unsafe { dealloc(block, layout) }
        }
    }

    /// `powf` of the decoders; see [`super::powf`].
    #[unsafe(no_mangle)]
    extern "C" fn powf(x: f32, y: f32) -> f32 {
        super::powf::powf(x, y)
    }

    /// Returns the message of the panic that ended the last call in a trap, or NULL.
    #[unsafe(no_mangle)]
    extern "C" fn maeum_panic_message() -> *mut maeum_text {
        boundary::panic_message().map_or(std::ptr::null_mut(), |text| Box::into_raw(Box::new(text)))
    }
}
