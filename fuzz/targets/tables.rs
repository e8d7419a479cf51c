//! Lists of recordings and profiles of speakers.

use std::path::Path;

use maeum::app::manifest::{Manifest, Row};

/// Lists of recordings in any encoding.
pub fn manifest(input: &[u8]) {
    let path = Path::new("folder/some.csv");
    for needed in [&["path"][..], &Manifest::EVALUATION] {
        match Manifest::from_bytes(input, path, needed) {
            Ok(manifest) => assert_read_again(&manifest, path, needed),
            Err(error) => {
                let message = error.to_string();
                assert!(message.starts_with("folder/some.csv"), "{message}");
            }
        }
    }
}

/// Checks that a table with every field in quotes parses to the same rows.
fn assert_read_again(manifest: &Manifest, path: &Path, needed: &[&str]) {
    const COLUMNS: &str =
        "path,corpus,speaker,split,emotion,gender,age,age_band,language,condition\n";
    assert!(!manifest.rows.is_empty());
    assert_eq!(manifest.inputs().len(), manifest.rows.len());
    let mut table = COLUMNS.to_owned();
    for row in &manifest.rows {
        assert!(row.line >= 2 && !row.path.is_empty(), "{row:?}");
        let age = row.age.map(|age| {
            assert!((0.0..=130.0).contains(&age), "{row:?}");
            age.to_string()
        });
        let fields = [
            Some(&row.path),
            Some(&row.corpus),
            Some(&row.speaker),
            Some(&row.split),
            row.emotion.as_ref(),
            row.gender.as_ref(),
            age.as_ref(),
            row.age_band.as_ref(),
            row.language.as_ref(),
            row.condition.as_ref(),
        ];
        let quoted = fields.map(|field| {
            let field = field.map_or("", |text| text);
            format!("\"{}\"", field.replace('"', "\"\""))
        });
        table += &(quoted.join(",") + "\n");
    }
    let again = Manifest::from_bytes(table.as_bytes(), path, needed);
    let again = again.unwrap_or_else(|e| panic!("{e}: {table}"));
    let without_lines = |rows: &[Row]| -> Vec<Row> {
        let rows = rows.iter().cloned();
        rows.map(|row| Row { line: 0, ..row }).collect()
    };
    assert_eq!(without_lines(&again.rows), without_lines(&manifest.rows));
}

/// Profiles of speakers: what is read is what was written, and answers with it are finite.
#[cfg(feature = "default-model")]
pub fn profile(input: &[u8]) {
    use maeum::recognizer::SpeakerProfile;
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let profile = match SpeakerProfile::from_json(text) {
        Ok(profile) => profile,
        Err(error) => {
            let message = error.to_string();
            assert!(
                message.starts_with("this is no speaker profile"),
                "{message}"
            );
            return;
        }
    };
    let again = SpeakerProfile::from_json(&profile.to_json());
    assert_eq!(again.expect("what is written is read"), profile);
    if super::is_sampled(input, 16) {
        super::recogniser::with_profile(&profile);
    }
}
