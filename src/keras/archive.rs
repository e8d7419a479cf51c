//! Content of a `.keras` archive: a zip file with the architecture, the version and the weights.

use std::io::Read;

use serde_json::Value;

use super::{MAX_FILE, architecture};
use crate::nn::npz::zip::{self, Entry};

/// Files of an archive.
pub struct Archive {
    /// Text of `config.json`.
    pub config: String,
    /// Version in `metadata.json`.
    pub keras_version: Option<String>,
    /// Bytes of `model.weights.h5`, an HDF5 file.
    pub weights: Vec<u8>,
}

const CONFIG: &str = "config.json";
const METADATA: &str = "metadata.json";
const WEIGHTS: &str = "model.weights.h5";

/// Maximum size of an unpacked text, in bytes.
const MAX_METADATA: u64 = 1 << 20;
/// Maximum ratio of an unpacked size to the size of the archive, for archives above
/// [`SMALL`]. Keras stores the files without compression, and trained weights hardly shrink.
const MAX_RATIO: u64 = 8;
/// Unpacked size that any archive may have, in bytes.
const SMALL: u64 = 64 << 20;

/// Reads an archive. `None` if the zip archive holds no `config.json`.
///
/// # Errors
/// If the archive is damaged or has no weights, or a file in it is too large.
pub fn read(bytes: &[u8]) -> Result<Option<Archive>, String> {
    let entries = zip::list(bytes)?;
    let find = |name: &str| entries.iter().find(|e| e.name == name);
    let Some(config) = find(CONFIG) else {
        return Ok(None);
    };
    let config = text(bytes, config, architecture::MAX_TEXT)?;
    let keras_version = match find(METADATA) {
        None => None,
        Some(entry) => {
            let metadata: Value = serde_json::from_str(&text(bytes, entry, MAX_METADATA)?)
                .map_err(|e| format!("its {METADATA} is no valid JSON: {e}"))?;
            let version = metadata.get("keras_version").and_then(Value::as_str);
            version.map(str::to_owned)
        }
    };
    let Some(weights) = find(WEIGHTS) else {
        let other = entries.iter().find(|e| e.name.starts_with("model.weights"));
        return Err(match other {
            Some(other) => format!(
                "it stores its weights as {:?}; only {WEIGHTS:?} is read: load it in Keras and save it again with model.save(\"name.keras\")",
                other.name
            ),
            None => format!(
                "it has no {WEIGHTS:?}, so it holds a network without weights; save it again with model.save(\"name.keras\")"
            ),
        });
    };
    let most = MAX_FILE.min(SMALL.max(MAX_RATIO * bytes.len() as u64));
    Ok(Some(Archive {
        config,
        keras_version,
        weights: unpack(bytes, weights, most)?,
    }))
}

fn text(bytes: &[u8], entry: &Entry, most: u64) -> Result<String, String> {
    String::from_utf8(unpack(bytes, entry, most)?)
        .map_err(|_| format!("its {} is no text in UTF-8", entry.name))
}

/// Unpacks a file of at most `most` bytes and verifies its checksum.
fn unpack(bytes: &[u8], entry: &Entry, most: u64) -> Result<Vec<u8>, String> {
    let name = &entry.name;
    let fail = |problem: String| format!("its {name} cannot be unpacked: {problem}; copy it again");
    let mut reader = entry.open(bytes).map_err(fail)?;
    let mut unpacked = Vec::new();
    reader
        .by_ref()
        .take(most + 1)
        .read_to_end(&mut unpacked)
        .map_err(|e| fail(e.to_string()))?;
    if unpacked.len() as u64 > most {
        return Err(format!(
            "its {name} has more than {most} bytes, which no model of its size needs"
        ));
    }
    match reader.crc().sum() == entry.crc {
        true => Ok(unpacked),
        false => Err(fail("its checksum is wrong".into())),
    }
}
