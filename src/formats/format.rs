//! The names of the output formats, and what the outside world calls them.

use std::fmt;
use std::str::FromStr;

/// How answers are written. `docs/formats.md` describes each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// For people.
    Table,
    /// One document with everything; `docs/json.md` describes it.
    Json,
    /// The same records, one per line.
    Jsonl,
    /// A header and one row per recording.
    Csv,
    /// The same, as Excel takes it for UTF-8.
    ExcelCsv,
    /// The object of the system of 2020, one per line.
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

/// No format has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no format named {0:?}; give one of {names}", names = Format::ALL.map(Format::name).join(", "))]
pub struct UnknownFormat(String);

impl Format {
    /// Every format, in the order in which they are offered.
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

    /// The name that [`Format::from_str`] reads.
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

    /// What it is, in a few words.
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

    /// Its media type, as the HTTP header `Content-Type` has it. JSON and the formats that its
    /// registration covers are UTF-8 by definition.
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

    /// The usual ending of a file's name, without the dot.
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

    /// Whether a document holds one recording, so that several recordings need several files.
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
