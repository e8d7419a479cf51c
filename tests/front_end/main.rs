//! From the file to the features: decoding, the voice detector, and both front ends.

#[path = "../common/mod.rs"]
mod common;

mod audio;
mod decode;
mod decode_broken;
mod decode_parts;
mod features;
mod utterance;
mod vad;
mod wav;
