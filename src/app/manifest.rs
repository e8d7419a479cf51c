//! CSV list of recordings with their true labels.
//!
//! The file has a header and may come from a spreadsheet: in UTF-8, UTF-16 or CP949, with commas,
//! semicolons or tabs.

mod text;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use super::inputs::Input;
use crate::model::ModelInfo;

/// Maximum size of a manifest, in bytes.
const MAX_BYTES: u64 = 256 << 20;
/// Maximum plausible age, in years.
const MAX_AGE: f64 = 130.0;
/// Corpus of a recording directly in the manifest's folder.
const NO_CORPUS: &str = "none";

/// Error of an unusable manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The file cannot be read or is not CSV.
    #[error("{file}: {problem}; give a CSV file whose first line names its columns")]
    Unreadable {
        /// Path of the manifest.
        file: String,
        /// Description of the problem.
        problem: String,
    },
    /// A required column is missing.
    #[error("{file} has no column {column}; its first line must name the columns {needed}")]
    MissingColumn {
        /// Path of the manifest.
        file: String,
        /// The missing column.
        column: String,
        /// All required columns.
        needed: String,
    },
    /// Two columns have the same name.
    #[error("{file} has two columns {column}; remove one")]
    RepeatedColumn {
        /// Path of the manifest.
        file: String,
        /// The repeated column name.
        column: String,
    },
    /// A field has an invalid value.
    #[error("{file}, line {line}, column {column}: {problem}")]
    Value {
        /// Path of the manifest.
        file: String,
        /// Line number, from 1.
        line: u64,
        /// Column name.
        column: &'static str,
        /// Description of the problem and its remedy.
        problem: String,
    },
    /// The manifest, or the selected split, has no rows.
    #[error("{file} has no recordings{of}; {hint}")]
    Empty {
        /// Path of the manifest.
        file: String,
        /// Suffix that names the split, or empty.
        of: String,
        /// Remedy.
        hint: String,
    },
}

/// Parsed manifest, in the order of its lines.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// Path for messages.
    pub file: String,
    folder: PathBuf,
    /// One row per recording.
    pub rows: Vec<Row>,
}

/// One recording of a manifest. Blank fields are `None` or empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row {
    /// Line number of the manifest, from 1.
    pub line: u64,
    /// Path as written, relative to the manifest's folder.
    pub path: String,
    /// Corpus as written, or the first folder of the path.
    pub corpus: String,
    /// Speaker name, unique within the corpus.
    pub speaker: String,
    /// Data split, such as `train` or `test`.
    pub split: String,
    /// True emotion.
    pub emotion: Option<String>,
    /// True gender.
    pub gender: Option<String>,
    /// True age in years.
    pub age: Option<f64>,
    /// Approximate true age as free text.
    pub age_band: Option<String>,
    /// Spoken language.
    pub language: Option<String>,
    /// Recording condition as free text.
    pub condition: Option<String>,
    /// Value of the grouping column.
    pub group: Option<String>,
}

/// Header of a manifest.
struct Columns {
    header: Vec<String>,
}

impl Columns {
    fn new(header: &csv::StringRecord, file: &str, needed: &[&str]) -> Result<Self, ManifestError> {
        let header: Vec<String> = header.iter().map(str::to_owned).collect();
        for column in needed {
            if !header.iter().any(|h| h == column) {
                return Err(ManifestError::MissingColumn {
                    file: file.into(),
                    column: (*column).into(),
                    needed: needed.join(", "),
                });
            }
        }
        for (i, column) in header.iter().enumerate() {
            if !column.is_empty() && header[..i].contains(column) {
                return Err(ManifestError::RepeatedColumn {
                    file: file.into(),
                    column: column.clone(),
                });
            }
        }
        Ok(Self { header })
    }

    /// Returns the field in `column`; `None` if it is blank or there is no such column.
    fn value(&self, record: &csv::StringRecord, column: &str) -> Option<String> {
        let at = self.header.iter().position(|h| h == column)?;
        record.get(at).filter(|v| !v.is_empty()).map(str::to_owned)
    }
}

impl Manifest {
    /// Columns that an evaluation requires.
    pub const EVALUATION: [&str; 5] = ["path", "emotion", "gender", "age", "speaker"];

    /// Reads the manifest at `path`, which must have the columns `needed` (including `path`).
    ///
    /// Columns may be in any order; unknown columns are ignored.
    ///
    /// # Errors
    /// The message names the file, line and column.
    pub fn read(path: &Path, needed: &[&str]) -> Result<Self, ManifestError> {
        Self::read_file(path, needed, None)
    }

    /// Reads the manifest at `path` with the columns `path` and `column`; the latter becomes each
    /// row's [`Row::group`].
    ///
    /// # Errors
    /// Same as [`Manifest::read`].
    pub fn read_groups(path: &Path, column: &str) -> Result<Self, ManifestError> {
        Self::read_file(path, &["path", column], Some(column))
    }

    fn read_file(path: &Path, needed: &[&str], group: Option<&str>) -> Result<Self, ManifestError> {
        let file = path.display().to_string();
        let unreadable = |problem: String| ManifestError::Unreadable {
            file: file.clone(),
            problem,
        };
        let mut text = Vec::new();
        File::open(path)
            .and_then(|handle| handle.take(MAX_BYTES + 1).read_to_end(&mut text))
            .map_err(|e| unreadable(e.to_string()))?;
        if text.len() as u64 > MAX_BYTES {
            return Err(unreadable(format!("it has more than {MAX_BYTES} bytes")));
        }
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        Self::parse_groups(&text, &file, folder, needed, group)
    }

    /// Parses the bytes of a manifest, with paths relative to the folder of `path`.
    ///
    /// # Errors
    /// Same as [`Manifest::read`].
    pub fn from_bytes(bytes: &[u8], path: &Path, needed: &[&str]) -> Result<Self, ManifestError> {
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        Self::parse_groups(bytes, &path.display().to_string(), folder, needed, None)
    }

    #[cfg(test)]
    pub(super) fn parse(
        bytes: &[u8],
        file: &str,
        folder: PathBuf,
        needed: &[&str],
    ) -> Result<Self, ManifestError> {
        Self::parse_groups(bytes, file, folder, needed, None)
    }

    fn parse_groups(
        bytes: &[u8],
        file: &str,
        folder: PathBuf,
        needed: &[&str],
        group: Option<&str>,
    ) -> Result<Self, ManifestError> {
        let unreadable = |problem: String| ManifestError::Unreadable {
            file: file.into(),
            problem,
        };
        let text = text::decode(bytes).map_err(unreadable)?;
        let separator = text::separator(&text, needed);
        let text = text.as_bytes();
        let unreadable = |e: csv::Error| unreadable(describe(&e));
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(separator)
            .trim(csv::Trim::All)
            .from_reader(text);
        let columns = Columns::new(reader.headers().map_err(unreadable)?, file, needed)?;
        let mut rows = Vec::new();
        // The CSV reader's own line count is too low for CR LF line ends.
        let (mut line, mut counted) = (1, 0);
        for record in reader.records() {
            let record = record.map_err(unreadable)?;
            let start = record.position().map_or(0, |p| p.byte() as usize);
            let blank = |b: &&u8| matches!(b, b'\r' | b'\n');
            let start = start + text[start..].iter().take_while(blank).count();
            line += (counted..start).filter(|&at| ends_line(text, at)).count() as u64;
            counted = start;
            rows.push(row(&columns, &record, separator, file, line, group)?);
        }
        let manifest = Self {
            file: file.into(),
            folder,
            rows,
        };
        match manifest.rows.is_empty() {
            true => Err(manifest.empty(String::new(), "write one line for each".into())),
            false => Ok(manifest),
        }
    }

    fn empty(&self, of: String, hint: String) -> ManifestError {
        ManifestError::Empty {
            file: self.file.clone(),
            of,
            hint,
        }
    }

    /// Keeps only the rows of one split.
    ///
    /// # Errors
    /// When the split has no rows; the message lists the existing splits.
    pub fn keep_split(&mut self, split: &str) -> Result<(), ManifestError> {
        let there: BTreeSet<String> = self.rows.iter().map(|r| r.split.clone()).collect();
        self.rows.retain(|r| r.split == split);
        if self.rows.is_empty() {
            let there = Vec::from_iter(there).join(", ");
            return Err(self.empty(
                format!(" of the split {split:?}"),
                format!("its column split holds: {there}"),
            ));
        }
        Ok(())
    }

    /// Checks that the model has every emotion and gender label of the rows.
    ///
    /// # Errors
    /// The message names the line, the column and the model's labels.
    pub fn check_labels(&self, info: &ModelInfo) -> Result<(), ManifestError> {
        for row in &self.rows {
            for (column, label, known) in [
                ("emotion", &row.emotion, &info.emotions),
                ("gender", &row.gender, &info.genders),
            ] {
                let Some(label) = label else { continue };
                if !known.contains(label) {
                    return Err(ManifestError::Value {
                        file: self.file.clone(),
                        line: row.line,
                        column,
                        problem: format!(
                            "the model {:?} knows no {label:?}; use one of {}, or leave it blank",
                            info.name,
                            known.join(", ")
                        ),
                    });
                }
            }
        }
        Ok(())
    }

    /// Returns the recordings, named by their paths in the manifest.
    pub fn inputs(&self) -> Vec<Input> {
        self.rows.iter().map(|row| self.input(row)).collect()
    }

    /// Returns the recording of a row.
    pub(super) fn input(&self, row: &Row) -> Input {
        Input::file(row.path.clone(), self.folder.join(&row.path))
    }
}

/// Returns true if the byte at a position ends a line: LF, CR LF or, as old programs write, CR alone.
fn ends_line(text: &[u8], at: usize) -> bool {
    text[at] == b'\n' || (text[at] == b'\r' && text.get(at + 1) != Some(&b'\n'))
}

/// Returns the description of a CSV error.
fn describe(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths {
            pos,
            expected_len,
            len,
        } => {
            let place = pos.as_ref().map_or_else(
                || "a line".to_owned(),
                |pos| format!("record {} below the header", pos.record()),
            );
            format!("{place} has {len} fields, the header has {expected_len}")
        }
        _ => error.to_string(),
    }
}

/// Parses an age in years. A comma is a decimal point unless it separates fields.
fn age(text: &str, separator: u8) -> Option<f64> {
    let number = match separator {
        b',' => text.parse(),
        _ => text.replacen(',', ".", 1).parse(),
    };
    number.ok().filter(|a| (0.0..=MAX_AGE).contains(a))
}

fn row(
    columns: &Columns,
    record: &csv::StringRecord,
    separator: u8,
    file: &str,
    line: u64,
    group: Option<&str>,
) -> Result<Row, ManifestError> {
    let value = |column: &str| columns.value(record, column);
    let invalid = |column, problem: String| ManifestError::Value {
        file: file.into(),
        line,
        column,
        problem,
    };
    let path = value("path").ok_or_else(|| invalid("path", "it is blank".into()))?;
    let age = match value("age") {
        None => None,
        Some(text) => Some(age(&text, separator).ok_or_else(|| {
            let problem = format!(
                "{text:?} is no age in years from 0 to {MAX_AGE}; leave unknown ages blank"
            );
            invalid("age", problem)
        })?),
    };
    Ok(Row {
        line,
        corpus: value("corpus").unwrap_or_else(|| first_folder(&path)),
        path,
        speaker: value("speaker").unwrap_or_default(),
        split: value("split").unwrap_or_default(),
        emotion: value("emotion"),
        gender: value("gender"),
        age,
        age_band: value("age_band"),
        language: value("language"),
        condition: value("condition"),
        group: group.and_then(value),
    })
}

fn first_folder(path: &str) -> String {
    let mut parts = Path::new(path).components().filter_map(|part| match part {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    // Trimmed like every cell.
    let folder = parts
        .next()
        .zip(parts.next())
        .map(|(first, _)| first.trim());
    folder
        .filter(|folder| !folder.is_empty())
        .unwrap_or(NO_CORPUS)
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Manifest, ManifestError> {
        Manifest::parse(
            text.as_bytes(),
            "m.csv",
            "data".into(),
            &Manifest::EVALUATION,
        )
    }

    fn refusal(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn columns_are_found_by_name() {
        let manifest = parse(
            "\u{FEFF}speaker,licence,path,age,gender,emotion,split,age_band\r\n\
             A,\"CC, BY\",one/a.wav,31.5,female,anger,test,\r\n\
             ,x,b.wav,, , ,train,20s\r\n",
        )
        .unwrap();
        let first = Row {
            line: 2,
            path: "one/a.wav".into(),
            corpus: "one".into(),
            speaker: "A".into(),
            split: "test".into(),
            emotion: Some("anger".into()),
            gender: Some("female".into()),
            age: Some(31.5),
            ..Row::default()
        };
        let second = Row {
            line: 3,
            path: "b.wav".into(),
            corpus: "none".into(),
            split: "train".into(),
            age_band: Some("20s".into()),
            ..Row::default()
        };
        assert_eq!(manifest.rows, [first, second]);
        let inputs = manifest.inputs();
        assert_eq!(inputs[0].name, "one/a.wav");
        assert_eq!(inputs[0].path(), Some(Path::new("data/one/a.wav")));
    }

    #[test]
    fn errors_name_line_and_column() {
        const HEADER: &str = "path,emotion,gender,age,speaker\n";
        let message = refusal("path,emotion,gender,speaker\na.wav,,,\n");
        assert!(message.contains("no column age"), "{message}");
        let message = refusal("path,emotion,gender,age,speaker,age\na.wav,,,,,\n");
        assert!(message.contains("two columns age"), "{message}");
        for age in ["old", "-1", "NaN", "131"] {
            let message = refusal(&format!("{HEADER}a.wav,,,20,\nb.wav,,,{age},\n"));
            assert!(message.contains("line 3, column age"), "{message}");
        }
        let message = refusal(&format!("{HEADER},anger,,,\n"));
        assert!(message.contains("line 2, column path"), "{message}");
        let message = refusal(&format!("{HEADER}a.wav,anger\n"));
        assert!(message.contains("m.csv"), "{message}");
        assert!(refusal(HEADER).contains("no recordings"));
        assert!(refusal("").contains("no column path"));
    }

    #[test]
    fn tables_of_spreadsheets_are_read_alike() {
        let plain = "path,emotion,gender,age,speaker\n소리/a.wav,,,31.5,김\nb.wav,,,,\n";
        let wanted = parse(plain).unwrap();
        assert_eq!(wanted.rows[0].age, Some(31.5));
        let german = plain.replace(',', ";").replace("31.5", "31,5");
        assert_eq!(parse(&german).unwrap(), wanted);
        let tabs = plain.replace(',', "\t");
        assert_eq!(parse(&tabs).unwrap(), wanted);
        let units = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let (korean, ..) = encoding_rs::EUC_KR.encode(plain);
        let bytes: [Vec<u8>; 2] = [korean.into_owned(), units(&format!("\u{FEFF}{tabs}"))];
        for bytes in bytes {
            let read =
                Manifest::parse(&bytes, "m.csv", "data".into(), &Manifest::EVALUATION).unwrap();
            assert_eq!(read, wanted);
        }
        // A comma inside a number is an error if commas separate fields.
        let message = refusal("path,emotion,gender,age,speaker\na.wav,,,\"31,5\",\n");
        assert!(message.contains("line 2, column age"), "{message}");
        let message = refusal("path,emotion,gender,age,speaker\na.wav,anger\n");
        assert!(
            message.contains("has 2 fields, the header has 5"),
            "{message}"
        );
    }

    #[test]
    fn lines_are_counted_however_they_end() {
        for end in ["\n", "\r\n", "\r"] {
            let lines = [
                "path,emotion,gender,age,speaker",
                "a.wav,,,,A",
                "",
                "b.wav,,,,B",
                "",
            ];
            let manifest = parse(&lines.join(end)).unwrap();
            let found: Vec<u64> = manifest.rows.iter().map(|row| row.line).collect();
            assert_eq!(found, [2, 4], "{end:?}");
        }
    }

    #[test]
    fn unknown_labels_are_refused() {
        let info = ModelInfo::legacy2020();
        let with = |emotion: &str, gender: &str| {
            parse(&format!(
                "path,emotion,gender,age,speaker\na.wav,,,,\nb.wav,{emotion},{gender},,\n"
            ))
            .unwrap()
            .check_labels(&info)
            .map_err(|e| e.to_string())
        };
        with("anger", "male").unwrap();
        let message = with("joy", "male").unwrap_err();
        assert!(message.contains("line 3, column emotion"), "{message}");
        assert!(message.contains("happiness"), "{message}");
        let message = with("", "Male").unwrap_err();
        assert!(message.contains("line 3, column gender"), "{message}");
    }

    #[test]
    fn a_split_is_kept_or_reported_as_missing() {
        let mut manifest =
            parse("path,emotion,gender,age,speaker,split\na.wav,,,,,train\nb.wav,,,,,test\n")
                .unwrap();
        manifest.keep_split("test").unwrap();
        assert_eq!(manifest.rows[0].path, "b.wav");
        let message = manifest.keep_split("valid").unwrap_err().to_string();
        assert!(
            message.contains("\"valid\"") && message.contains("holds: test"),
            "{message}"
        );
    }
}
