//! Corrects the lengths in AIFF files before symphonia 0.6 reads them: it refuses files that were
//! cut short as a whole, and allocates what a length says.
//!
//! Source: Apple's "Audio Interchange File Format 1.3".

use std::borrow::Cow;

/// The same file with no length past its end, and whether audio is missing. Anything that is not
/// AIFF comes back as it is.
pub fn mended(bytes: &[u8]) -> (Cow<'_, [u8]>, bool) {
    let (mut out, mut cut) = (Cow::Borrowed(bytes), false);
    if !bytes.starts_with(b"FORM") || bytes.len() < 12 {
        return (out, cut);
    }
    let length_at = |at: usize| {
        let word = bytes.get(at..at + 4)?.first_chunk()?;
        Some(u32::from_be_bytes(*word) as usize)
    };
    let mut correct = |at: usize, length: usize| {
        // A file is never larger than the format can say: lengths are only made smaller.
        out.to_mut()[at..at + 4].copy_from_slice(&(length as u32).to_be_bytes());
    };
    if length_at(4).is_some_and(|length| length > bytes.len() - 8) {
        correct(4, bytes.len() - 8);
    }
    let mut at = 12;
    while let Some(length) = length_at(at + 4) {
        let available = bytes.len() - at - 8;
        if length > available {
            cut = bytes[at..].starts_with(b"SSND");
            correct(at + 4, available);
            break;
        }
        at += 8 + length.next_multiple_of(2);
    }
    (out, cut)
}
