//! Text and field separator of a CSV table that was saved by a spreadsheet.

use std::borrow::Cow;

use encoding_rs::{EUC_KR, Encoding, UTF_16BE, UTF_16LE};

/// Field separators, the most common first.
const SEPARATORS: [u8; 3] = [b',', b';', b'\t'];

/// Decodes a table in UTF-8, in UTF-16 with a byte order mark, or in CP949, the encoding of Korean
/// versions of Windows.
///
/// # Errors
/// The message describes the actual content, as far as it is recognisable, and how to save it as
/// UTF-8.
pub fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, String> {
    if let Some((encoding, mark)) = Encoding::for_bom(bytes) {
        let text = encoding.decode_without_bom_handling_and_without_replacement(&bytes[mark..]);
        return text.filter(|text| !text.contains('\0')).ok_or_else(|| {
            let name = encoding.name();
            format!("it begins like {name} text but is damaged; save it as UTF-8")
        });
    }
    let problem = match std::str::from_utf8(bytes) {
        Ok(text) => match text.contains('\0') {
            false => return Ok(text.into()),
            true => describe_binary(bytes),
        },
        Err(_) if bytes.contains(&0) => describe_binary(bytes),
        Err(_) => match decode_cp949(bytes) {
            Some(text) => return Ok(text),
            None => "it is text in neither UTF-8 nor CP949 (EUC-KR); save it as UTF-8",
        },
    };
    Err(problem.into())
}

/// Decodes CP949 text; `None` for other encodings.
///
/// Bytes of other encodings may be valid CP949 but give no Korean text. Most non-ASCII characters
/// have to be among the 2,350 syllables of KS X 1001, which cover nearly all Korean text.
fn decode_cp949(bytes: &[u8]) -> Option<Cow<'_, str>> {
    const FIRST: std::ops::RangeInclusive<u8> = 0xB0..=0xC8;
    const SECOND: std::ops::RangeInclusive<u8> = 0xA1..=0xFE;
    let text = EUC_KR.decode_without_bom_handling_and_without_replacement(bytes)?;
    let (mut pairs, mut syllables) = (0, 0);
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        rest = tail;
        if let (0x80.., [second, tail @ ..]) = (first, tail) {
            rest = tail;
            pairs += 1;
            syllables += usize::from(FIRST.contains(first) && SECOND.contains(second));
        }
    }
    (2 * syllables > pairs).then_some(text)
}

/// Returns the description of non-text content: UTF-16 without its mark, or a spreadsheet's native
/// format.
fn describe_binary(bytes: &[u8]) -> &'static str {
    let utf_16 = [UTF_16LE, UTF_16BE].into_iter().any(|encoding| {
        let text = encoding.decode_without_bom_handling_and_without_replacement(bytes);
        text.is_some_and(|text| {
            let ascii = text
                .chars()
                .filter(|c| matches!(c, ' '..='~' | '\r' | '\n' | '\t'));
            ascii.count() * 2 > text.chars().count()
        })
    });
    match bytes {
        _ if utf_16 => {
            "it is text in UTF-16 without the mark that says so; save it as UTF-8, or as UTF-16 with a byte order mark"
        }
        [b'P', b'K', 3, 4, ..] | [0xD0, 0xCF, 0x11, 0xE0, ..] => {
            "it is a workbook, no CSV file; save its sheet as CSV (in Excel as \"CSV UTF-8\")"
        }
        _ => "it is no text",
    }
}

/// Returns the separator by which the first line names most of `columns`, or a comma if it names
/// none.
pub fn separator(text: &str, columns: &[&str]) -> u8 {
    let mut lines = text.split(['\r', '\n']);
    let line = lines.find(|line| !line.trim().is_empty());
    let line = line.unwrap_or_default();
    let named = |separator: u8| {
        let fields: Vec<&str> = line
            .split(char::from(separator))
            .map(|field| field.trim().trim_matches('"').trim())
            .collect();
        columns.iter().filter(|c| fields.contains(c)).count()
    };
    let mut best = SEPARATORS[0];
    for separator in SEPARATORS {
        if named(separator) > named(best) {
            best = separator;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "path,speaker\r\n목소리/하나.wav,김민지\r\n";

    fn utf_16(text: &str, big: bool) -> Vec<u8> {
        let bytes = |unit: u16| {
            if big {
                unit.to_be_bytes()
            } else {
                unit.to_le_bytes()
            }
        };
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn encodings_of_spreadsheets_are_read() {
        let (cp949, _, failed) = EUC_KR.encode(TEXT);
        assert!(!failed);
        let marked = format!("\u{FEFF}{TEXT}");
        for bytes in [
            TEXT.as_bytes().to_vec(),
            marked.clone().into_bytes(),
            utf_16(&marked, false),
            utf_16(&marked, true),
            cp949.into_owned(),
        ] {
            assert_eq!(decode(&bytes).unwrap(), TEXT);
        }
        // The first syllable is in CP949 but not in EUC-KR.
        let word = b"\x8c\x63\xb9\xe6\xb0\xa2\xc7\xcf";
        assert_eq!(decode(word).unwrap(), "똠방각하");
    }

    #[test]
    fn unreadable_files_are_identified() {
        let says = |bytes: &[u8], part: &str| {
            let message = decode(bytes).unwrap_err();
            assert!(message.contains(part), "{message}");
        };
        says(&utf_16(TEXT, false), "UTF-16 without the mark");
        says(&utf_16(TEXT, true), "UTF-16 without the mark");
        says(b"path,speaker\na.wav,Jos\xe9\n", "neither UTF-8 nor CP949");
        says(b"path\nb\xfccher/\xfcbung.wav\n", "neither UTF-8 nor CP949");
        // Japanese text in Shift JIS.
        says(b"path\n\x89\xb9\x90\xba.wav\n", "neither UTF-8 nor CP949");
        says(b"PK\x03\x04\x14\0\0\0\x08\0\xff", "workbook");
        says(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0", "workbook");
        says(b"RIFF\0\0\0\0WAVE", "no text");
        says(b"\xff\xfea\0b", "damaged");
        // No path holds this character, with a mark before the text or without.
        says(&utf_16("\u{FEFF}path\na\0.wav\n", false), "damaged");
        says("\u{FEFF}path\na\0.wav\n".as_bytes(), "damaged");
    }

    #[test]
    fn the_separator_is_that_of_the_first_line() {
        let of = |text| char::from(separator(text, &["path", "age", "speaker"]));
        assert_eq!(of("path,age,speaker\n"), ',');
        assert_eq!(of("\n\"path\"; age ;speaker\n"), ';');
        assert_eq!(of("age\tpath\tx,y\n"), '\t');
        assert_eq!(of("path\n"), ',');
        assert_eq!(of("a;b\n"), ',');
        assert_eq!(of("x;path\ra;b\r"), ';');
        assert_eq!(of(""), ',');
    }
}
