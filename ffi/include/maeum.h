/* C interface of maeum: emotion, age and gender of a voice recording.
 *
 * Ownership: a maeum_recognizer, maeum_profile_builder and maeum_text belongs to the caller, who gives it back to
 * its _free function once. Data that a function gets stay the caller's; nothing is kept of them after it returns.
 *
 * Texts: every function with an argument `text` sets *text, on success to the answer and on failure to a message
 * that names the recording or argument and says what to do. Free it in both cases. Texts are UTF-8.
 *
 * Threads: a recognizer may be used by several threads at the same time, but freed only when none uses it. A builder
 * and a text are used by one thread at a time. A call computes on its own thread.
 *
 * Pointers are valid or NULL, arrays as long as stated, C strings end with NUL. An argument that is NULL against the
 * rules gives MAEUM_BAD_REQUEST. No function throws or changes a signal handler. A recording for which there is no
 * memory is refused; without memory for anything the program ends.
 *
 * Written by the header's test from ffi/src/lib.rs: MAEUM_BLESS=1 cargo test -p maeum-ffi-header */


#ifndef MAEUM_H
#define MAEUM_H

#include <stddef.h>
#include <stdint.h>

/*
 Statistics of one speaker's recordings. One thread at a time may use it.
 */
typedef struct maeum_profile_builder maeum_profile_builder;

/*
 Model prepared for recognition. Threads may use one at the same time.
 */
typedef struct maeum_recognizer maeum_recognizer;

/*
 Text in UTF-8 that the caller owns and frees with `maeum_text_free`.
 */
typedef struct maeum_text maeum_text;

/*
 Outcome of a function. `maeum_status_name` gives its name.
 */
typedef int maeum_status;

/*
 Success; the text is the answer.
 */
#define MAEUM_OK 0

/*
 An argument or option is missing or invalid.
 */
#define MAEUM_BAD_REQUEST 1

/*
 The recording cannot be decoded or analysed.
 */
#define MAEUM_UNUSABLE_AUDIO 2

/*
 The recording is longer than the option `max_seconds`, or than any recording may be.
 */
#define MAEUM_TOO_LONG 3

/*
 The recording holds no speech.
 */
#define MAEUM_NO_SPEECH 4

/*
 The bytes are no bundle of a speech model.
 */
#define MAEUM_BAD_MODEL 5

/*
 The speaker profile cannot be used with this model.
 */
#define MAEUM_BAD_PROFILE 6

/*
 The library failed on this call. The handles stay valid.
 */
#define MAEUM_INTERNAL 7

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Returns the version of the library, such as "0.1.0"; never freed.
 */
const char *maeum_version(void);

/*
 Returns the name of a status, such as "no_speech", or "unknown"; never freed.
 */
const char *maeum_status_name(maeum_status status);

/*
 Prepares a model for recognition.

 `bundle` is the content of a `.safetensors` bundle of `size` bytes, which the caller may free
 afterwards; NULL is the built-in model. `*recognizer` is set on success and `*text` on failure, the
 other one to NULL. Both pointers must be valid.
 */
maeum_status maeum_recognizer_new(const uint8_t *bundle,
                                  uintptr_t size,
                                  maeum_recognizer **recognizer,
                                  maeum_text **text);

/*
 Frees a recognizer; NULL is ignored. No other thread may use it any more.
 */
void maeum_recognizer_free(maeum_recognizer *recognizer);

/*
 Describes the model: a JSON object with `name`, `sha256`, `emotions`, `genders`, `licences`,
 `speaker_profiles`, `formats` and `notice`.
 */
maeum_status maeum_recognizer_describe(const maeum_recognizer *recognizer, maeum_text **text);

/*
 Recognises the bytes of an audio file of any supported format.

 `options` is a JSON object, or NULL for none:
 - `name`: name of the recording in the answer and in messages; "recording" if missing
 - `format`: format of the answer, one of `formats` of `maeum_recognizer_describe`; "json" if missing
 - `dropout`: "off", or draws of forced dropout from 1 to 1024; 32 if missing
 - `seed`: seed of the draws, a whole number below 2^64; 0 if missing
 - `profile`: speaker profile, an object from `maeum_profile_builder_finish`
 - `channel`: channel of a file to analyse, from 1; the mean of all channels if missing
 - `max_seconds`: longest recording that is accepted
 - `start`: seconds that are added to all times of the answer, for a part of a longer recording
 */
maeum_status maeum_recognize(const maeum_recognizer *recognizer,
                             const uint8_t *recording,
                             uintptr_t size,
                             const char *options,
                             maeum_text **text);

/*
 Recognises `frames * channels` interleaved samples, full scale 1. They are rounded to 16 bits, as
 those of a float WAV file are. `options` as for `maeum_recognize`.
 */
maeum_status maeum_recognize_float(const maeum_recognizer *recognizer,
                                   const float *samples,
                                   uintptr_t frames,
                                   uint32_t channels,
                                   uint32_t sample_rate,
                                   const char *options,
                                   maeum_text **text);

/*
 Recognises 16-bit mono samples, such as from a microphone: the answer for a WAV file of them. `options`
 as for `maeum_recognize`.
 */
maeum_status maeum_recognize_pcm16(const maeum_recognizer *recognizer,
                                   const int16_t *samples,
                                   uintptr_t frames,
                                   uint32_t sample_rate,
                                   const char *options,
                                   maeum_text **text);

/*
 Starts the statistics of one speaker's recordings, from which `maeum_profile_builder_finish` makes a
 profile.
 */
maeum_profile_builder *maeum_profile_builder_new(void);

/*
 Adds the speech of a recording; after a failure the statistics are unchanged. Of the options of
 `maeum_recognize`, `name`, `channel` and `max_seconds` are permitted. The text of a success is empty.
 */
maeum_status maeum_profile_builder_add(maeum_profile_builder *builder,
                                       const maeum_recognizer *recognizer,
                                       const uint8_t *recording,
                                       uintptr_t size,
                                       const char *options,
                                       maeum_text **text);

/*
 Makes the profile: a JSON object for the option `profile`. The builder can take further recordings.
 */
maeum_status maeum_profile_builder_finish(const maeum_profile_builder *builder,
                                          const maeum_recognizer *recognizer,
                                          maeum_text **text);

/*
 Frees a builder; NULL is ignored.
 */
void maeum_profile_builder_free(maeum_profile_builder *builder);

/*
 Returns the bytes of a text, which end with NUL and contain no other; valid until the text is freed. NULL
 for NULL.
 */
const char *maeum_text_data(const maeum_text *text);

/*
 Returns the number of bytes of a text without the NUL; 0 for NULL.
 */
uintptr_t maeum_text_size(const maeum_text *text);

/*
 Frees a text; NULL is ignored.
 */
void maeum_text_free(maeum_text *text);

/*
 Returns a block of `size` bytes; NULL if there is no memory or `size` is 0.
 */
uint8_t *maeum_allocate(uintptr_t size);

/*
 Frees a block of `maeum_allocate`; NULL is ignored.
 */
void maeum_release(uint8_t *block, uintptr_t size);

/*
 `powf` of the decoders; see [`super::powf`].
 */
float powf(float x, float y);

/*
 Returns the message of the panic that ended the last call in a trap, or NULL.
 */
maeum_text *maeum_panic_message(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* MAEUM_H */
