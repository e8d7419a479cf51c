//! A list of recordings and what is true of them: a CSV file with a header, as spreadsheets save it
//! (in UTF-8, UTF-16 or CP949, with commas, semicolons or tabs).

mod text;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use super::inputs::Input;
use crate::model::ModelInfo;

/// The largest manifest that is read, in bytes.
const MAX_BYTES: u64 = 256 << 20;
/// The highest age that is believed, in years.
const MAX_AGE: f64 = 130.0;
/// The corpus of a recording that lies in no folder below the manifest's.
const NO_CORPUS: &str = "none";

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It cannot be read or is no CSV file.
    #[error("{file}: {problem}; give a CSV file whose first line names its columns")]
    Unreadable {
        /// Its path.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A column that is needed is not there.
    #[error("{file} has no column {column}; its first line must name the columns {needed}")]
    MissingColumn {
        /// Its path.
        file: String,
        /// The one that is missing.
        column: String,
        /// All that are needed.
        needed: String,
    },
    /// Which of two columns counts cannot be known.
    #[error("{file} has two columns {column}; remove one")]
    RepeatedColumn {
        /// Its path.
        file: String,
        /// The name that is there twice.
        column: String,
    },
    /// A value that makes no sense.
    #[error("{file}, line {line}, column {column}: {problem}")]
    Value {
        /// Its path.
        file: String,
        /// From 1.
        line: u64,
        /// The name in the header.
        column: &'static str,
        /// What is wrong and what to do.
        problem: String,
    },
    /// There is nothing to do.
    #[error("{file} has no recordings{of}; {hint}")]
    Empty {
        /// Its path.
        file: String,
        /// Of which split, as the message says it.
        of: String,
        /// What to do.
        hint: String,
    },
}

/// A manifest as read, in the order of its lines.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// Its name in messages.
    pub file: String,
    folder: PathBuf,
    /// The recordings.
    pub rows: Vec<Row>,
}

/// One recording of a manifest. What is blank there is `None` or empty here.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row {
    /// Line of the manifest, from 1.
    pub line: u64,
    /// As written: relative to the manifest's folder.
    pub path: String,
    /// As written, or else the first folder of the path.
    pub corpus: String,
    /// A name, unique in its corpus.
    pub speaker: String,
    /// Such as `train` or `test`.
    pub split: String,
    /// The true emotion.
    pub emotion: Option<String>,
    /// The true gender.
    pub gender: Option<String>,
    /// In years.
    pub age: Option<f64>,
    /// The true age, roughly, in words.
    pub age_band: Option<String>,
    /// In which it is spoken.
    pub language: Option<String>,
    /// How it was recorded or changed, in any words.
    pub condition: Option<String>,
    /// The value of the column that groups were asked for by.
    pub group: Option<String>,
}

/// Where the known columns stand.
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

    /// The row's value, `None` where it is blank or there is no such column.
    fn value(&self, record: &csv::StringRecord, column: &str) -> Option<String> {
        let at = self.header.iter().position(|h| h == column)?;
        record.get(at).filter(|v| !v.is_empty()).map(str::to_owned)
    }
}

impl Manifest {
    /// What an evaluation needs to know.
    pub const EVALUATION: [&str; 5] = ["path", "emotion", "gender", "age", "speaker"];

    /// Reads the manifest at `path`, which must have the columns `needed` (`path` among them).
    /// Columns may come in any order; unknown ones are left out of account.
    ///
    /// # Errors
    /// Names the file, line and column that is wrong.
    pub fn read(path: &Path, needed: &[&str]) -> Result<Self, ManifestError> {
        Self::read_file(path, needed, None)
    }

    /// Reads the manifest at `path`, which must have the columns `path` and `column`, with the latter
    /// as each row's [`Row::group`].
    ///
    /// # Errors
    /// As [`Manifest::read`].
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

    /// Reads the bytes of a manifest that lies, or would lie, at `path`.
    ///
    /// # Errors
    /// As [`Manifest::read`].
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
        let unreadable = |e: csv::Error| unreadable(described(&e));
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(separator)
            .trim(csv::Trim::All)
            .from_reader(text);
        let columns = Columns::new(reader.headers().map_err(unreadable)?, file, needed)?;
        let mut rows = Vec::new();
        // The reader's own count of lines is one short where they end in CR LF.
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

    /// Keeps the rows of one split.
    ///
    /// # Errors
    /// When there are none; the message names the splits that there are.
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

    /// Checks that a model knows every emotion and gender in the rows.
    ///
    /// # Errors
    /// Names the line, the column and the labels that the model has.
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

    /// The recordings, called as the manifest calls them.
    pub fn inputs(&self) -> Vec<Input> {
        self.rows.iter().map(|row| self.input(row)).collect()
    }

    /// The recording of a row.
    pub(super) fn input(&self, row: &Row) -> Input {
        Input::file(row.path.clone(), self.folder.join(&row.path))
    }
}

/// Whether the byte at a place ends a line: LF, CR LF or, as old programs write, CR alone.
fn ends_line(text: &[u8], at: usize) -> bool {
    text[at] == b'\n' || (text[at] == b'\r' && text.get(at + 1) != Some(&b'\n'))
}

/// What is wrong with a table.
fn described(error: &csv::Error) -> String {
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

/// An age in years. Where commas do not separate fields, they may stand for the point in a number.
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
    let wrong = |column, problem: String| ManifestError::Value {
        file: file.into(),
        line,
        column,
        problem,
    };
    let path = value("path").ok_or_else(|| wrong("path", "it is blank".into()))?;
    let age = match value("age") {
        None => None,
        Some(text) => Some(age(&text, separator).ok_or_else(|| {
            let problem = format!(
                "{text:?} is no age in years from 0 to {MAX_AGE}; leave unknown ages blank"
            );
            wrong("age", problem)
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
    match (parts.next(), parts.next()) {
        (Some(folder), Some(_)) => folder.into(),
        _ => NO_CORPUS.into(),
    }
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
    fn what_is_wrong_is_named_with_its_place() {
        const HEADER: &str = "path,emotion,gender,age,speaker\n";
        let said = refusal("path,emotion,gender,speaker\na.wav,,,\n");
        assert!(said.contains("no column age"), "{said}");
        let said = refusal("path,emotion,gender,age,speaker,age\na.wav,,,,,\n");
        assert!(said.contains("two columns age"), "{said}");
        for age in ["old", "-1", "NaN", "131"] {
            let said = refusal(&format!("{HEADER}a.wav,,,20,\nb.wav,,,{age},\n"));
            assert!(said.contains("line 3, column age"), "{said}");
        }
        let said = refusal(&format!("{HEADER},anger,,,\n"));
        assert!(said.contains("line 2, column path"), "{said}");
        let said = refusal(&format!("{HEADER}a.wav,anger\n"));
        assert!(said.contains("m.csv"), "{said}");
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
        // With commas between fields, one inside a number is a mistake.
        let said = refusal("path,emotion,gender,age,speaker\na.wav,,,\"31,5\",\n");
        assert!(said.contains("line 2, column age"), "{said}");
        let said = refusal("path,emotion,gender,age,speaker\na.wav,anger\n");
        assert!(said.contains("has 2 fields, the header has 5"), "{said}");
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
    fn labels_that_the_model_does_not_know_are_refused() {
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
        let said = with("joy", "male").unwrap_err();
        assert!(said.contains("line 3, column emotion"), "{said}");
        assert!(said.contains("happiness"), "{said}");
        let said = with("", "Male").unwrap_err();
        assert!(said.contains("line 3, column gender"), "{said}");
    }

    #[test]
    fn a_split_is_kept_or_said_to_be_missing() {
        let mut manifest =
            parse("path,emotion,gender,age,speaker,split\na.wav,,,,,train\nb.wav,,,,,test\n")
                .unwrap();
        manifest.keep_split("test").unwrap();
        assert_eq!(manifest.rows[0].path, "b.wav");
        let said = manifest.keep_split("valid").unwrap_err().to_string();
        assert!(
            said.contains("\"valid\"") && said.contains("holds: test"),
            "{said}"
        );
    }
}
