//! Header `Content-Disposition` of a multipart field.
//!
//! Clients write non-ASCII names in three ways: as UTF-8 bytes (browsers), as `filename*` of RFC
//! 5987 (`filename*=utf-8''%EC%9D%8C.wav`), or percent-encoded in `filename`.

/// Names of a multipart field.
#[derive(Debug, Default, PartialEq)]
pub struct Disposition {
    /// Name of the field.
    pub name: String,
    /// Name of the file, if the field is a file.
    pub file_name: Option<String>,
}

impl Disposition {
    /// Parses the header's value and ignores invalid parameters.
    pub fn read(value: &[u8]) -> Self {
        let mut name = None;
        let (mut plain, mut extended) = (None, None);
        let mut rest = skip_past(value, b';');
        while !rest.is_empty() {
            let end = rest.iter().position(|b| b"=;".contains(b));
            let end = end.unwrap_or(rest.len());
            let key = rest[..end].trim_ascii().to_ascii_lowercase();
            if rest.get(end) != Some(&b'=') {
                rest = skip_past(rest, b';');
                continue;
            }
            let (text, next) = split_value(&rest[end + 1..]);
            rest = next;
            match &key[..] {
                b"name" => name = name.or_else(|| Some(lossy(&text))),
                b"filename" => plain = plain.or_else(|| Some(decode_escapes(&text))),
                b"filename*" => extended = extended.or_else(|| decode_rfc5987(&text)),
                _ => {}
            }
        }
        Self {
            name: name.unwrap_or_default(),
            file_name: extended.or(plain),
        }
    }
}

/// Returns the bytes behind the first `byte`.
fn skip_past(bytes: &[u8], byte: u8) -> &[u8] {
    match bytes.iter().position(|&b| b == byte) {
        Some(at) => &bytes[at + 1..],
        None => &[],
    }
}

/// Splits off the value at the start of `bytes`, without quotes. Also returns the bytes after its
/// semicolon.
fn split_value(bytes: &[u8]) -> (Vec<u8>, &[u8]) {
    let bytes = bytes.trim_ascii_start();
    let Some(quoted) = bytes.strip_prefix(b"\"") else {
        let end = bytes.iter().position(|&b| b == b';');
        let end = end.unwrap_or(bytes.len());
        return (bytes[..end].trim_ascii().to_vec(), skip_past(bytes, b';'));
    };
    let mut text = Vec::new();
    let mut at = 0;
    while let Some(&byte) = quoted.get(at) {
        match (byte, quoted.get(at + 1)) {
            // Other backslashes are path separators, which some clients do not escape.
            (b'\\', Some(&next @ (b'"' | b'\\'))) => {
                text.push(next);
                at += 2;
            }
            (b'"', _) => break,
            _ => {
                text.push(byte);
                at += 1;
            }
        }
    }
    (text, skip_past(&quoted[at..], b';'))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Decodes a percent-encoded name if it stands for non-ASCII characters. Other names are unchanged:
/// a file may be named `100%25.wav`.
fn decode_escapes(text: &[u8]) -> String {
    let decoded = percent_decoded(text).and_then(|bytes| String::from_utf8(bytes).ok());
    match decoded {
        Some(decoded) if text.is_ascii() && !decoded.is_ascii() => decoded,
        _ => lossy(text),
    }
}

/// Decodes a value of RFC 5987: charset, language and percent-encoded text.
fn decode_rfc5987(text: &[u8]) -> Option<String> {
    let mut parts = text.splitn(3, |&b| b == b'\'');
    let charset = parts.next()?.to_ascii_lowercase();
    let bytes = percent_decoded(parts.nth(1)?)?;
    match &charset[..] {
        b"utf-8" | b"us-ascii" => String::from_utf8(bytes).ok(),
        b"iso-8859-1" => Some(bytes.into_iter().map(char::from).collect()),
        _ => None,
    }
}

/// Decodes percent-encoded bytes; `None` if a percent sign lacks its two digits.
fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(&byte) = rest.next() {
        bytes.push(match byte {
            b'%' => (16 * digit(*rest.next()?)? + digit(*rest.next()?)?) as u8,
            _ => byte,
        });
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(parameters: &str) -> Option<String> {
        let value = format!("form-data; name=\"file\"; {parameters}");
        let read = Disposition::read(value.as_bytes());
        assert_eq!(read.name, "file", "{parameters}");
        read.file_name
    }

    #[test]
    fn names_come_back_however_they_were_written() {
        for (parameters, wanted) in [
            (r#"filename="a.wav""#, "a.wav"),
            ("filename=a.wav", "a.wav"),
            ("FileName = a.wav ;x=y", "a.wav"),
            (r#"filename="음성.wav""#, "음성.wav"),
            ("filename=음성.wav", "음성.wav"),
            (r#"filename="%EC%9D%8C%EC%84%B1.wav""#, "음성.wav"),
            ("filename*=utf-8''%EC%9D%8C%EC%84%B1.wav", "음성.wav"),
            ("filename*=UTF-8'ko'%ec%9d%8c%ec%84%b1.wav", "음성.wav"),
            (
                r#"filename="x.wav"; filename*=utf-8''%EC%9D%8C.wav"#,
                "음.wav",
            ),
            (
                r#"filename*=utf-8''%EC%9D%8C.wav; filename="x.wav""#,
                "음.wav",
            ),
            ("filename*=iso-8859-1''na%EFve.wav", "naïve.wav"),
            (r#"filename="x.wav"; filename*=euc-kr''%C0%BD.wav"#, "x.wav"),
            (r#"filename="x.wav"; filename*=utf-8''%EC%9"#, "x.wav"),
            (r#"filename="a;b\"c.wav""#, "a;b\"c.wav"),
            (r#"filename="C:\sounds\a.wav""#, r"C:\sounds\a.wav"),
            (r#"filename="100%25.wav""#, "100%25.wav"),
            (r#"filename="50%.wav""#, "50%.wav"),
            (r#"filename="a%22b.wav""#, "a%22b.wav"),
            (r#"filename="음%20.wav""#, "음%20.wav"),
            (r#"filename="""#, ""),
            (r#"filename="open"#, "open"),
        ] {
            assert_eq!(file(parameters).as_deref(), Some(wanted), "{parameters}");
        }
        for parameters in ["", ";;;", "filename", "x=filename", "filename*=a.wav"] {
            assert_eq!(file(parameters), None, "{parameters}");
        }
        assert_eq!(Disposition::read(b""), Disposition::default());
        let latin = Disposition::read(b"form-data; filename=\"na\xefve.wav\"");
        assert_eq!(latin.file_name.as_deref(), Some("na\u{fffd}ve.wav"));
    }

    proptest::proptest! {
        #[test]
        fn no_header_makes_parsing_panic(value: Vec<u8>, text in "[;=\"\\\\%a-f' *0-9가]{0,40}") {
            Disposition::read(&value);
            let text = format!("form-data; filename={text}");
            Disposition::read(text.as_bytes());
        }
    }
}
