//! Output format names, media types and file extensions.

use std::fmt;
use std::str::FromStr;

/// Output format of predictions. `docs/formats.md` describes each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Text table for people.
    Table,
    /// One JSON document with all recordings; `docs/json.md` describes it.
    Json,
    /// JSON Lines: the records of [`Format::Json`], one per line.
    Jsonl,
    /// A header and one row per recording.
    Csv,
    /// [`Format::Csv`] with a byte order mark, by which Excel recognises UTF-8.
    ExcelCsv,
    /// The JSON object of the 2020 system, one per line.
    Codes,
    /// Interval tiers for Praat and ELAN; one document per recording.
    TextGrid,
    /// A label track for Audacity; one document per recording.
    Audacity,
    /// NIST Rich Transcription Time Marked: one line per stretch of speech.
    Rttm,
    /// A picture of the answer over time; one document per recording.
    Svg,
}

/// Error for a text that names no format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no format named {0:?}; give one of {names}", names = Format::ALL.map(Format::name).join(", "))]
pub struct UnknownFormat(String);

impl Format {
    /// Every format, in the order of help texts and documents.
    pub const ALL: [Self; 10] = [
        Self::Table,
        Self::Json,
        Self::Jsonl,
        Self::Csv,
        Self::ExcelCsv,
        Self::Codes,
        Self::TextGrid,
        Self::Audacity,
        Self::Rttm,
        Self::Svg,
    ];

    /// Returns the name that [`Format::from_str`] parses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Json => "json",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::ExcelCsv => "excel-csv",
            Self::Codes => "codes",
            Self::TextGrid => "textgrid",
            Self::Audacity => "audacity",
            Self::Rttm => "rttm",
            Self::Svg => "svg",
        }
    }

    /// Returns a short description for help texts and documents.
    pub fn description(self) -> &'static str {
        match self {
            Self::Table => "For people",
            Self::Json => "One document with everything",
            Self::Jsonl => "The same records, one per line",
            Self::Csv => "A header and one row per recording",
            Self::ExcelCsv => "The same, with a mark by which Excel knows its encoding",
            Self::Codes => "The object of the original system, one per line",
            Self::TextGrid => "Interval tiers for Praat, one file per recording",
            Self::Audacity => "A label track for Audacity, one file per recording",
            Self::Rttm => "Stretches of speech with the voice's gender, one per line",
            Self::Svg => "A picture of the answer over time, one file per recording",
        }
    }

    /// Returns the media type for the HTTP header `Content-Type`.
    ///
    /// JSON types have no charset parameter: JSON is UTF-8 by definition (RFC 8259).
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Jsonl | Self::Codes => "application/x-ndjson",
            Self::Csv | Self::ExcelCsv => "text/csv; charset=utf-8",
            Self::Svg => "image/svg+xml; charset=utf-8",
            Self::Table | Self::TextGrid | Self::Audacity | Self::Rttm => {
                "text/plain; charset=utf-8"
            }
        }
    }

    /// Returns the usual file name extension, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Jsonl | Self::Codes => "jsonl",
            Self::Csv | Self::ExcelCsv => "csv",
            Self::TextGrid => "TextGrid",
            Self::Rttm => "rttm",
            Self::Svg => "svg",
            Self::Table | Self::Audacity => "txt",
        }
    }

    /// Returns true if one document holds one recording, so that several recordings need several
    /// files.
    pub fn is_per_recording(self) -> bool {
        match self {
            Self::TextGrid | Self::Audacity | Self::Svg => true,
            Self::Table
            | Self::Json
            | Self::Jsonl
            | Self::Csv
            | Self::ExcelCsv
            | Self::Codes
            | Self::Rttm => false,
        }
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        let found = Self::ALL.into_iter().find(|f| f.name() == name);
        found.ok_or_else(|| UnknownFormat(name.to_owned()))
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_others_are_refused_with_the_list() {
        for format in Format::ALL {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        let error = "TextGrid".parse::<Format>().unwrap_err().to_string();
        assert!(
            error.contains("\"TextGrid\"") && error.ends_with("rttm, svg"),
            "{error}"
        );
    }
}
