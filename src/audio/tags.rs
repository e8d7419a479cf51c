//! Metadata tags before, between and after the audio of a file.
//!
//! Sources: the informal standards "ID3 tag version 2.4.0", "ID3v1", "Lyrics3 v2.00" and "APE Tags
//! Specification".

use super::error::Fault;

/// Size of an ID3v1 tag, in bytes.
const ID3V1: usize = 128;
/// Size of an APE tag's header, and of its footer, in bytes.
const APE: usize = 32;

/// Returns the offset of the first byte after all leading tags.
///
/// # Errors
/// If the file ends inside a tag.
pub fn leading_length(bytes: &[u8]) -> Result<usize, Fault> {
    let mut at = 0;
    while let Some(length) = length(&bytes[at..]) {
        let Some(tag) = checked(&bytes[at..], length) else {
            return Err(Fault::HeaderTruncated(format!(
                "its title and pictures should take {length} bytes, {} are there",
                bytes.len() - at
            )));
        };
        at += tag;
    }
    Ok(at)
}

/// Returns the stated length of the tag at the start of `bytes`; `None` if there is no tag. It may exceed 32 bits.
pub fn length(bytes: &[u8]) -> Option<u64> {
    id3v2(bytes).or_else(|| ape(bytes)).or_else(|| id3v1(bytes))
}

/// Returns `length` as a size, if `bytes` is at least that long.
fn checked(bytes: &[u8], length: u64) -> Option<usize> {
    usize::try_from(length)
        .ok()
        .filter(|length| *length <= bytes.len())
}

/// Returns the bytes after the first `length`, or none if there are no more.
pub fn after(bytes: &[u8], length: u64) -> &[u8] {
    &bytes[checked(bytes, length).unwrap_or(bytes.len())..]
}

fn id3v2(bytes: &[u8]) -> Option<u64> {
    let header: &[u8; 10] = bytes.first_chunk()?;
    // The version bytes of a real tag are never 0xFF; the three letters alone could be audio.
    if !header.starts_with(b"ID3") || header[3] == 0xFF || header[4] == 0xFF {
        return None;
    }
    let size: [u8; 4] = [header[6], header[7], header[8], header[9]];
    // The standard stores seven bits per byte. Some programs write a plain 32-bit integer,
    // recognisable by a byte above 0x7F.
    let body = if size.iter().all(|byte| byte & 0x80 == 0) {
        size.iter().fold(0, |sum, byte| sum << 7 | u64::from(*byte))
    } else {
        u64::from(u32::from_be_bytes(size))
    };
    let footer = if header[5] & 0x10 != 0 { 10 } else { 0 };
    Some(10 + body + footer)
}

fn ape(bytes: &[u8]) -> Option<u64> {
    let header: &[u8; APE] = bytes.first_chunk()?;
    if !header.starts_with(b"APETAGEX") {
        return None;
    }
    let word = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let (size, flags) = (u64::from(word(12)), word(20));
    let is_header = flags & 1 << 29 != 0;
    // The stated size counts items and footer but not the header. A footer without a header has no
    // items behind it.
    let header = APE as u64;
    Some(if is_header { header + size } else { header })
}

fn id3v1(bytes: &[u8]) -> Option<u64> {
    (bytes.starts_with(b"TAG") && bytes.len() >= ID3V1).then_some(ID3V1 as u64)
}

/// Strips leading tags and zeros.
pub fn strip_leading(mut bytes: &[u8]) -> &[u8] {
    loop {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        bytes = &bytes[zeros..];
        match length(bytes).or_else(|| lyrics(bytes)) {
            Some(length) => bytes = after(bytes, length),
            None => return bytes,
        }
    }
}

/// Strips trailing tags and long runs of zeros.
pub fn strip_trailing(mut bytes: &[u8]) -> &[u8] {
    /// Shortest run of zeros that is treated as padding; no audio frame ends with as long a run.
    const PADDING: usize = 512;
    loop {
        let zeros = bytes.iter().rev().take_while(|byte| **byte == 0).count();
        let end = bytes.len();
        let footer = |length: usize| end.checked_sub(length).map(|at| &bytes[at..]);
        let tag = if footer(ID3V1).is_some_and(|tag| tag.starts_with(b"TAG")) {
            ID3V1
        } else if let Some(footer) = footer(APE)
            && footer.starts_with(b"APETAGEX")
        {
            let word =
                |at: usize| u32::from_le_bytes(*footer[at..].first_chunk().expect("32 bytes"));
            let header = if word(20) & 1 << 31 != 0 { APE } else { 0 };
            (word(12) as usize).saturating_add(header).max(APE)
        } else if zeros >= PADDING {
            zeros
        } else {
            return bytes;
        };
        bytes = &bytes[..end.saturating_sub(tag)];
    }
}

/// Returns the length of a Lyrics3 block. Only its end marker delimits it.
fn lyrics(bytes: &[u8]) -> Option<u64> {
    if !bytes.starts_with(b"LYRICSBEGIN") {
        return None;
    }
    let end = |mark: &[u8]| {
        let at = bytes
            .windows(mark.len())
            .position(|window| window == mark)?;
        Some((at + mark.len()) as u64)
    };
    end(b"LYRICS200").or_else(|| end(b"LYRICSEND"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_have_their_stated_length() {
        let id3 = |flags: u8, size: [u8; 4], body: usize| {
            let mut tag = b"ID3\x04\0".to_vec();
            tag.push(flags);
            tag.extend(size);
            tag.resize(10 + body, 7);
            tag
        };
        let plain = id3(0, [0, 0, 1, 2], 130);
        let footed = id3(0x10, [0, 0, 0, 3], 13);
        let wrong = id3(0, [0, 0, 0, 0x90], 0x90);
        let all = [&plain[..], &footed, &wrong, b"sound"].concat();
        assert_eq!(leading_length(&all).unwrap(), all.len() - 5);
        assert_eq!(leading_length(b"sound").unwrap(), 0);
        assert!(leading_length(&plain[..100]).is_err());
        let mut ape = b"APETAGEX".to_vec();
        ape.extend([0xD0, 7, 0, 0, 40, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xA0]);
        ape.resize(32 + 40, 0);
        let mut old = b"TAG".to_vec();
        old.resize(128, b' ');
        let lyrics = b"LYRICSBEGININD00002xx000020LYRICS200";
        let after_tags = [&ape[..], lyrics, &old, b"\0\0rest"].concat();
        assert_eq!(strip_leading(&after_tags), b"rest");
        assert_eq!(strip_leading(b"TAG, you are it"), b"TAG, you are it");
        let mut footer = b"APETAGEX".to_vec();
        footer.extend([0xD0, 7, 0, 0, 52, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        footer.resize(32, 0);
        let tail = [&b"sound"[..], &[9; 20], &footer, &old, &[0; 600]].concat();
        assert_eq!(strip_trailing(&tail), b"sound");
        assert_eq!(strip_trailing(b"sound\0\0"), b"sound\0\0");
    }

    /// Sums with the header that exceed 32 bits, two of them by nothing.
    #[test]
    fn lengths_beyond_32_bits_end_with_the_file() {
        let (mut exact, mut most) = (b"ID3\x04\0\0".to_vec(), b"ID3\x04\0\x10".to_vec());
        exact.extend((u32::MAX - 9).to_be_bytes());
        most.extend(u32::MAX.to_be_bytes());
        let mut ape = b"APETAGEX\xD0\x07\0\0".to_vec();
        ape.extend((u32::MAX - 31).to_le_bytes());
        ape.extend([0, 0, 0, 0, 0, 0, 0, 0xA0]);
        ape.resize(32, 0);
        for (tag, stated) in [
            (exact, 1 << 32),
            (most, 20 + u64::from(u32::MAX)),
            (ape, 1 << 32),
        ] {
            assert_eq!(length(&tag), Some(stated));
            let all = [&tag[..], b"sound"].concat();
            let message = leading_length(&all).unwrap_err().to_string();
            assert!(message.contains(&stated.to_string()), "{message}");
            assert!(strip_leading(&all).is_empty());
        }
    }
}
