//! Bundles: round trips, and damaged or hostile files.

#[path = "bundle/documents.rs"]
mod documents;
#[path = "bundle/fuzz.rs"]
mod fuzz;
#[path = "bundle/models.rs"]
mod models;

use std::path::Path;

use maeum::audio::Resampling;
use maeum::model::Model;
use maeum::model::ModelInfo;
use maeum::model::bundle;
use maeum::model::bundle::BundleError;
use serde_json::{Value, json};

use self::models::{
    SINGLE, SPEECH, assert_sound, edited, join, load, single, speech, split, tampered,
};

#[test]
fn a_stored_model_is_restored() {
    for model in [single(), speech()] {
        let bytes = bundle::to_bytes(&model);
        assert_eq!(bytes, bundle::to_bytes(&model));
        let loaded = load(&bytes).unwrap();
        assert_eq!(loaded.networks(), model.networks());
        assert_eq!(loaded.info(), model.info());
        assert_eq!(loaded.identity().len(), 64);
        assert_eq!(model.identity(), "");
        loaded.self_test().unwrap();
        assert_eq!(bundle::to_bytes(&loaded), bytes);
        assert_sound(&loaded);

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        std::fs::write(&path, "old").unwrap();
        bundle::save(&model, &path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        assert_eq!(bundle::load(&path).unwrap(), loaded);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
    assert_ne!(
        load(&SINGLE).unwrap().identity(),
        load(&SPEECH).unwrap().identity()
    );
}

#[test]
fn a_failed_save_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("folder");
    std::fs::create_dir(&folder).unwrap();
    for path in [folder.clone(), dir.path().join("nowhere/x")] {
        let error = bundle::save(&single(), &path).unwrap_err();
        assert!(matches!(error, BundleError::Write { .. }), "{error}");
        assert!(error.to_string().contains(&path.display().to_string()));
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn other_files_are_no_bundles() {
    let check = |bytes: &[u8], part: &str| {
        let text = load(bytes).unwrap_err().to_string();
        assert!(
            text.contains(part) && text.contains("x.safetensors"),
            "{text}"
        );
    };
    check(b"\x89HDF\r\n\x1a\n and so on", "it is an HDF5 file");
    check(b"", "not a maeum bundle");
    check(b"hello world, this is text", "not a maeum bundle");
    check(&u64::MAX.to_le_bytes(), "not a maeum bundle");
    check(&join(&json!({}), b""), "no entry \"maeum\"");
    let foreign = json!({"__metadata__": {"maeum": "hello"}});
    check(&join(&foreign, b""), "damaged");
    for length in (0..SPEECH.len()).step_by(97) {
        assert!(load(&SPEECH[..length]).is_err(), "cut to {length}");
    }
    let error = bundle::load(Path::new("does/not/exist.safetensors")).unwrap_err();
    assert!(error.to_string().contains("does/not/exist.safetensors"));
    assert!(bundle::load(Path::new(env!("CARGO_MANIFEST_DIR"))).is_err());
}

#[test]
fn another_format_version_is_refused_with_a_remedy() {
    let bytes = edited(&SINGLE, |d| {
        d["format"] = json!(bundle::FORMAT + 1);
        // Other fields of a future document must not matter.
        d["future"] = json!(true);
    });
    let error = load(&bytes).unwrap_err();
    assert!(
        matches!(error, BundleError::Format { found: 2, .. }),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("Convert the original files again")
    );
}

/// Returns the bundle of [`single`] with other elements in its first weight, and these elements. `edit`
/// takes the shape and the elements.
fn with_first_weight(edit: impl Fn(&[usize], &mut [f32])) -> (Vec<u8>, Vec<f32>) {
    let mut network = single().networks()[0].clone();
    let weight = &mut network.graph.weights[0];
    edit(&weight.shape, &mut weight.data);
    let elements = weight.data.clone();
    network.self_test = None;
    let model = Model::new(vec![network], ModelInfo::network("edited")).unwrap();
    (bundle::to_bytes(&model), elements)
}

/// Asserts the type of the first weight, that its elements come back in all bits, and that the bundle
/// is written again in the same bytes.
fn assert_stored_as(dtype: &str, (bytes, elements): (Vec<u8>, Vec<f32>)) {
    let (header, _) = split(&bytes);
    assert_eq!(header["0.weight.0"]["dtype"], dtype);
    assert_eq!(header["0.weight.1"]["dtype"], "F32");
    let model = load(&bytes).unwrap();
    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let weights = &model.networks()[0].graph.weights;
    assert_eq!(bits(&weights[0].data), bits(&elements));
    assert_eq!(bundle::to_bytes(&model), bytes);
}

/// First weight whose elements are a binary16 number each.
fn halves() -> (Vec<u8>, Vec<f32>) {
    with_first_weight(|_, elements| {
        for (i, x) in elements.iter_mut().enumerate() {
            *x = (i as f32 - 20.0) / 64.0;
        }
        // The smallest subnormal, and a zero whose sign must survive.
        elements[0] = 2f32.powi(-24);
        elements[1] = -0.0;
    })
}

/// First weight of whole multiples of one scale per channel.
fn levels() -> (Vec<u8>, Vec<f32>) {
    with_first_weight(|shape, elements| {
        let channels = *shape.last().unwrap();
        let rows = elements.len() / channels;
        for (i, x) in elements.iter_mut().enumerate() {
            let (row, channel) = (i / channels, i % channels);
            let level = if row == 0 {
                -127.0
            } else {
                (120 * row / rows) as f32
            };
            // The scale has 17 significant bits, so `F16` does not hold it.
            *x = level * (65_537 + 2 * channel) as f32 * 2f32.powi(-30);
        }
    })
}

#[test]
fn numbers_that_sixteen_bits_hold_take_sixteen() {
    assert_stored_as("F16", halves());
}

#[test]
fn numbers_that_eight_bits_and_a_scale_hold_take_eight() {
    let (bytes, _) = levels();
    assert_eq!(split(&bytes).0["0.weight.0.scale"]["dtype"], "F32");
    assert_stored_as("I8", levels());
}

#[test]
fn halves_are_checked_like_other_numbers() {
    let (bytes, _) = halves();
    let (header, data) = split(&bytes);
    let at = header["0.weight.0"]["data_offsets"][0].as_u64().unwrap() as usize;
    for half in [0x7c00u16, 0xfc00, 0x7e00] {
        let mut data = data.clone();
        data[at..at + 2].copy_from_slice(&half.to_le_bytes());
        let text = load(&join(&header, &data)).unwrap_err().to_string();
        assert!(text.contains("not finite"), "{text}");
    }
    for other in ["BF16", "I16", "U16"] {
        let mut header = header.clone();
        header["0.weight.0"]["dtype"] = json!(other);
        let text = load(&join(&header, &data)).unwrap_err().to_string();
        let part = format!("0.weight.0 is {other}, neither F32, F16 nor I8");
        assert!(text.contains(&part), "{text}");
    }
}

#[test]
fn scales_are_checked() {
    let (bytes, _) = levels();
    let (header, data) = split(&bytes);
    let refused = |header: &Value, data: &[u8]| load(&join(header, data)).unwrap_err().to_string();

    let at = header["0.weight.0.scale"]["data_offsets"][0]
        .as_u64()
        .unwrap() as usize;
    for scale in [f32::INFINITY, f32::NAN, f32::MAX] {
        let mut data = data.clone();
        data[at..at + 4].copy_from_slice(&scale.to_le_bytes());
        let text = refused(&header, &data);
        assert!(text.contains("not finite"), "{text}");
    }

    let mut other = header.clone();
    other["0.weight.0.scale"]["dtype"] = json!("I32");
    let text = refused(&other, &data);
    assert!(
        text.contains("0.weight.0.scale is I32, neither F32 nor F16"),
        "{text}"
    );

    let mut other = header.clone();
    let channels = other["0.weight.0.scale"]["shape"][0].as_u64().unwrap();
    other["0.weight.0.scale"]["shape"] = json!([channels, 1]);
    let text = refused(&other, &data);
    assert!(text.contains("not one scale for each of the"), "{text}");

    let mut other = header.clone();
    let scale = other
        .as_object_mut()
        .unwrap()
        .remove("0.weight.0.scale")
        .unwrap();
    other["unused"] = scale;
    let text = refused(&other, &data);
    assert!(text.contains("0.weight.0.scale is missing"), "{text}");
}

#[test]
fn a_bundle_stores_its_resampling() {
    let stored = |bytes: &[u8]| load(bytes).unwrap().info().resampling;
    let exact = speech();
    assert_eq!(stored(&SPEECH), Resampling::Exact);
    let fast = exact.clone().with_resampling(Resampling::Fast).unwrap();
    assert_eq!(stored(&bundle::to_bytes(&fast)), Resampling::Fast);
    let back = fast.with_resampling(Resampling::Exact).unwrap();
    assert_eq!(bundle::to_bytes(&back), *SPEECH);

    // A bundle without the field has exact resampling.
    let silent = |bytes: &[u8]| !String::from_utf8_lossy(bytes).contains("resampling");
    assert!(silent(&SPEECH) && silent(&SINGLE));
    let spelt_out = edited(&SPEECH, |d| d["info"]["resampling"] = json!("exact"));
    assert_eq!(stored(&spelt_out), Resampling::Exact);

    for value in [json!("quick"), json!(1), json!(null), json!({"fast": 1})] {
        let error = load(&edited(&SPEECH, |d| d["info"]["resampling"] = value)).unwrap_err();
        assert!(matches!(error, BundleError::Damaged { .. }), "{error}");
    }
    let no_speech = edited(&SINGLE, |d| d["info"]["resampling"] = json!("fast"));
    let text = load(&no_speech).unwrap_err().to_string();
    assert!(
        text.contains("resampling is fast") && text.contains("leave it out"),
        "{text}"
    );
    assert!(single().with_resampling(Resampling::Fast).is_err());
}

#[test]
fn tampered_weights_fail_the_self_test() {
    let fails = |bytes: &[u8]| load(bytes).unwrap().self_test().unwrap_err().to_string();
    let weight = tampered(&SPEECH, "1.weight.0", 0, 3.0);
    // The softmax of one unit is 1 for any weight.
    load(&weight).unwrap().self_test().unwrap();
    for (tensor, index) in [
        ("0.weight.0", 3),
        ("2.weight.1", 1),
        ("3.weight.9", 6),
        ("4.weight.0", 100),
        ("4.self_test.in.5", 2),
        ("3.self_test.out.4", 0),
    ] {
        let text = fails(&tampered(&SPEECH, tensor, index, 3.0));
        assert!(text.contains("fails its self-test"), "{tensor}: {text}");
    }
    for number in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for tensor in ["0.weight.0", "3.self_test.out.4", "4.self_test.in.5"] {
            let error = load(&tampered(&SPEECH, tensor, 0, number)).unwrap_err();
            assert!(
                error.to_string().contains("not finite"),
                "{tensor}: {error}"
            );
        }
    }
    let variance = load(&tampered(&SINGLE, "0.weight.4", 0, -1.0)).unwrap_err();
    assert!(variance.to_string().contains("square root"), "{variance}");
}
