//! Recognition of files and folders that hold a network in another format, with advice for each.

use std::path::Path;

/// Number of bytes that are searched at the beginning and at the end of a large file.
const SEARCHED: usize = 1 << 20;

/// Describes the problem with a folder in which TensorFlow or Keras store a single network.
pub fn folder(path: &Path) -> Option<&'static str> {
    let has = |name: &str| path.join(name).exists();
    if has("saved_model.pb") || has("saved_model.pbtxt") {
        Some(
            "it is a folder in TensorFlow's SavedModel format; load it in Keras 2 and save it with model.save(\"name.h5\")",
        )
    } else if has("config.json") && has("model.weights.h5") {
        Some(
            "it is an unpacked .keras file; pack the files of the folder into a zip archive named name.keras",
        )
    } else if has("checkpoint") {
        Some(
            "it is a folder of TensorFlow checkpoints, which hold weights without the network; build the network in Keras 2, load the checkpoint with load_weights and save the whole with model.save(\"name.h5\")",
        )
    } else {
        None
    }
}

/// Format of a file of Keras.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// HDF5.
    Hdf5,
    /// A zip archive.
    Zip,
}

/// Recognises the format of a file. Otherwise returns advice; `name` is the file's name.
pub fn container(name: &str, bytes: &[u8]) -> Result<Container, String> {
    if hdf5_pure::is_hdf5_bytes(bytes) {
        return Ok(Container::Hdf5);
    }
    let start = &bytes[..bytes.len().min(SEARCHED)];
    let text = start.trim_ascii_start();
    let ends = |ending: &str| name.to_ascii_lowercase().ends_with(ending);
    Err(match bytes {
        [] => "it is empty; copy it again",
        [b'P', b'K', 3, 4, ..] => match zip(bytes) {
            None => return Ok(Container::Zip),
            Some(problem) => problem,
        },
        [_, _, _, _, b'T', b'F', b'L', b'3', ..] => {
            "it is a TensorFlow Lite model, which cannot be turned back; save the Keras model that it was made from with model.save(\"name.h5\")"
        }
        [0x80, 2..=5, ..] => {
            "it is a Python pickle, as PyTorch and scikit-learn write; only Keras models are read, saved with model.save(\"name.h5\")"
        }
        _ if start.starts_with(b"version https://git-lfs") => {
            "it is a pointer to a file in Git LFS, not the file; fetch that with `git lfs pull`"
        }
        _ if text.starts_with(b"<") => {
            "it is a web page or XML, not a model; download the file itself"
        }
        _ if text.starts_with(b"{") && has(start, "\"class_name\"") => {
            "it is the architecture of a network without weights (from model.to_json); name the file of its weights and give this file as their architecture"
        }
        _ if start.get(8) == Some(&b'{') && has(start, "\"__metadata__\"") => {
            "it is a .safetensors file; if it is a bundle made by this program it is converted already"
        }
        _ if ends(".pb") => {
            "it is a part of a model in TensorFlow's own format; load the folder around it in Keras 2 and save it with model.save(\"name.h5\")"
        }
        _ if ends(".index") || name.contains(".data-0") => {
            "it is a part of a TensorFlow checkpoint, which holds weights without the network; build the network in Keras 2, load the checkpoint with load_weights and save the whole with model.save(\"name.h5\")"
        }
        _ => "it is not an HDF5 file; a Keras model saved with model.save(\"name.h5\") is needed",
    }
    .into())
}

/// Returns advice for a zip archive of another program; `None` if it may be a `.keras` file.
fn zip(bytes: &[u8]) -> Option<&'static str> {
    let start = &bytes[..bytes.len().min(SEARCHED)];
    let end = &bytes[bytes.len().saturating_sub(SEARCHED)..];
    let holds = |word: &str| has(end, word) || has(start, word);
    if holds("data.pkl") {
        Some(
            "it is a PyTorch model; only Keras models are read, saved with model.save(\"name.h5\")",
        )
    } else if holds("saved_model.pb") {
        Some(
            "it is a zip archive of a model in TensorFlow's SavedModel format; unpack it, load the folder in Keras 2 and save it with model.save(\"name.h5\")",
        )
    } else {
        None
    }
}

fn has(bytes: &[u8], word: &str) -> bool {
    bytes
        .windows(word.len())
        .any(|part| part == word.as_bytes())
}
