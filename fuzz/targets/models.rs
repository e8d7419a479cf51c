//! Files of models and arrays.

use maeum::model::Model;
use maeum::model::bundle::{self, BundleError};
use maeum::nn::npz::NpzFile;

#[allow(dead_code, unused_imports)] // made for another test
#[path = "../../tests/engine/bundle/models.rs"]
pub mod small;

const NAME: &str = "some name.safetensors";
/// First byte of an input that is only the document of a bundle whose tensors are sound.
pub const DOCUMENT: u8 = b'{';

/// Bundles: whole files, or documents in a sound file.
pub fn bundle(input: &[u8]) {
    let within;
    let bytes = match input.first() {
        Some(&DOCUMENT) => match std::str::from_utf8(input) {
            Ok(text) => {
                within = with_document(text);
                &within
            }
            Err(_) => return,
        },
        _ => input,
    };
    match bundle::from_bytes(bytes, NAME) {
        Ok(model) => assert_sound(&model),
        Err(error) => assert_named(&error),
    }
    if let Ok(opened) = bundle::open_bytes(bytes, NAME) {
        let info = opened.info().clone();
        if let Ok(model) = opened.model() {
            assert_eq!(&info, model.info());
        }
    }
}

fn with_document(text: &str) -> Vec<u8> {
    let (mut header, data) = small::split(&small::SINGLE);
    header["__metadata__"][bundle::METADATA_KEY] = text.into();
    small::join(&header, &data)
}

fn assert_named(error: &BundleError) {
    let message = error.to_string();
    assert!(message.contains(NAME), "{message}");
}

/// Checks that a model runs, and that writing and reading returns it.
fn assert_sound(model: &Model) {
    small::assert_sound(model);
    let written = bundle::to_bytes(model);
    let again = bundle::from_bytes(&written, NAME).expect("what was written is read");
    assert_eq!(again.info(), model.info());
    assert_eq!(again.networks(), model.networks());
    assert_eq!(bundle::to_bytes(&again), written);
}

/// Arrays of NumPy.
pub fn npz(input: &[u8]) {
    let file = match NpzFile::from_bytes(input.to_vec(), "some.npz") {
        Ok(file) => file,
        Err(error) => {
            assert!(error.to_string().starts_with("some.npz"), "{error}");
            return;
        }
    };
    let names: Vec<&str> = file.names().collect();
    for name in names {
        match file.read(name) {
            Ok(array) => {
                let count: usize = array.shape.iter().product();
                assert_eq!(array.data.len(), count, "{:?}", array.shape);
            }
            Err(error) => assert!(error.to_string().contains(name), "{error}"),
        }
    }
}
