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
            "it is an unpacked .keras file; pack it again, load it in Keras 2 and save it with model.save(\"name.h5\")",
        )
    } else if has("checkpoint") {
        Some(
            "it is a folder of TensorFlow checkpoints, which hold weights without the network; build the network in Keras 2, load the checkpoint with load_weights and save the whole with model.save(\"name.h5\")",
        )
    } else {
        None
    }
}

/// Checks that the file is HDF5. Otherwise returns advice; `name` is the file's name.
pub fn check(name: &str, bytes: &[u8]) -> Result<(), String> {
    if hdf5_pure::is_hdf5_bytes(bytes) {
        return Ok(());
    }
    let start = &bytes[..bytes.len().min(SEARCHED)];
    let text = start.trim_ascii_start();
    let ends = |ending: &str| name.to_ascii_lowercase().ends_with(ending);
    Err(match bytes {
        [] => "it is empty; copy it again",
        [b'P', b'K', 3, 4, ..] => zip(bytes),
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
            "it is the description of a network without weights (from model.to_json); build it in Keras 2 with model_from_json, load the weights and save the whole with model.save(\"name.h5\")"
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

/// Returns advice for a zip archive.
fn zip(bytes: &[u8]) -> &'static str {
    let start = &bytes[..bytes.len().min(SEARCHED)];
    let end = &bytes[bytes.len().saturating_sub(SEARCHED)..];
    let holds = |word: &str| has(end, word) || has(start, word);
    if holds("data.pkl") {
        "it is a PyTorch model; only Keras models are read, saved with model.save(\"name.h5\")"
    } else if holds("saved_model.pb") {
        "it is a zip archive of a model in TensorFlow's SavedModel format; unpack it, load the folder in Keras 2 and save it with model.save(\"name.h5\")"
    } else if holds("\"keras_version\": \"3") {
        "it is a file of Keras 3 in its .keras format, which Keras 2 does not load; store the arrays there with numpy.savez(\"weights.npz\", *model.get_weights()), build the same network in Keras 2 (package tf_keras), give it the arrays with set_weights and save it with model.save(\"name.h5\")"
    } else {
        "it is a zip archive, probably in Keras' newer .keras format; load it in Keras 2 (2.12 or later) and save it with model.save(\"name.h5\")"
    }
}

fn has(bytes: &[u8], word: &str) -> bool {
    bytes
        .windows(word.len())
        .any(|part| part == word.as_bytes())
}
