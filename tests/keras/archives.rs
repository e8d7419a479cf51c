//! Archives of Keras 3 and weights with a separate architecture: pairing, and damaged or hostile
//! files.

use std::io::Write;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use maeum::keras::{self, ConvertError};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::golden;

fn read(name: &str) -> Vec<u8> {
    std::fs::read(golden().join(name)).unwrap()
}

/// Builds a zip archive. The flag of a file marks it to be deflated.
fn zip(files: &[(&str, &[u8], bool)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut directory = Vec::new();
    for (name, data, deflate) in files {
        let mut crc = flate2::Crc::new();
        crc.update(data);
        let packed = match deflate {
            false => data.to_vec(),
            true => {
                let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
                encoder.write_all(data).unwrap();
                encoder.finish().unwrap()
            }
        };
        let mut common = vec![20, 0, 0, 0];
        common.extend(if *deflate { [8, 0] } else { [0, 0] });
        common.extend([0; 4]);
        common.extend(crc.sum().to_le_bytes());
        common.extend(u32::try_from(packed.len()).unwrap().to_le_bytes());
        common.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
        common.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
        common.extend([0; 2]);
        let at = u32::try_from(bytes.len()).unwrap();
        bytes.extend(b"PK\x03\x04");
        bytes.extend(&common);
        bytes.extend(name.as_bytes());
        bytes.extend(packed);
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(at.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let count = u16::try_from(files.len()).unwrap().to_le_bytes();
    let at = u32::try_from(bytes.len()).unwrap();
    let length = u32::try_from(directory.len()).unwrap();
    bytes.extend(directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend(count);
    bytes.extend(count);
    bytes.extend(length.to_le_bytes());
    bytes.extend(at.to_le_bytes());
    bytes.extend([0; 2]);
    bytes
}

/// Returns a file of an archive whose files are stored without compression.
fn stored(archive: &[u8], name: &str) -> Vec<u8> {
    let directory = archive
        .windows(4)
        .rposition(|w| w == b"PK\x05\x06")
        .unwrap();
    let number = |at: usize, n: usize| {
        let bytes = &archive[at..at + n];
        bytes.iter().rev().fold(0, |v, &b| v << 8 | usize::from(b))
    };
    let mut at = number(directory + 16, 4);
    loop {
        let [name_length, extra, comment] = [28, 30, 32].map(|o| number(at + o, 2));
        if &archive[at + 46..at + 46 + name_length] == name.as_bytes() {
            let local = number(at + 42, 4);
            let data = local + 30 + number(local + 26, 2) + number(local + 28, 2);
            return archive[data..data + number(at + 20, 4)].to_vec();
        }
        at += 46 + name_length + extra + comment;
    }
}

fn refused(name: &str, bytes: Vec<u8>) -> String {
    keras::load_bytes(name, bytes).unwrap_err().to_string()
}

#[test]
fn a_compressed_archive_is_equivalent() {
    let bytes = read("keras3/sequential.keras");
    let wanted = keras::load_bytes("m.keras", bytes.clone()).unwrap();
    let [config, metadata, weights] =
        ["config.json", "metadata.json", "model.weights.h5"].map(|n| stored(&bytes, n));
    let packed = zip(&[
        ("config.json", &config, true),
        ("metadata.json", &metadata, true),
        ("model.weights.h5", &weights, true),
        ("assets/words.txt", b"of a preprocessing layer", false),
    ]);
    let found = keras::load_bytes("m.keras", packed).unwrap();
    assert_eq!(found.graph, wanted.graph);
    // Without metadata, the architecture shows that Keras 3 wrote it.
    let packed = zip(&[
        ("config.json", &config, false),
        ("model.weights.h5", &weights, false),
    ]);
    let found = keras::load_bytes("m.keras", packed).unwrap();
    assert_eq!(found.graph, wanted.graph);
    assert_eq!(found.provenance.keras_version, None);
}

#[test]
fn an_archive_cut_anywhere_is_an_error() {
    let bytes = read("keras3/nested.keras");
    for end in (4..bytes.len()).step_by(997) {
        let message = refused("cut.keras", bytes[..end].to_vec());
        assert!(message.contains("cut.keras"), "{message}");
    }
}

#[test]
fn damaged_and_hostile_archives_are_named() {
    let bytes = read("keras3/sequential.keras");
    let [config, weights] = ["config.json", "model.weights.h5"].map(|n| stored(&bytes, n));
    let says = |files: &[(&str, &[u8], bool)], part: &str| {
        let message = refused("m.keras", zip(files));
        assert!(
            message.contains("m.keras: ") && message.contains(part),
            "{message}"
        );
    };
    says(&[("words.txt", b"x", false)], "without config.json");
    says(
        &[("config.json", &config, false)],
        "a network without weights",
    );
    let npz = ("model.weights.npz", &b"x"[..], false);
    says(
        &[("config.json", &config, false), npz],
        "\"model.weights.npz\"",
    );
    let weights = ("model.weights.h5", &*weights, false);
    says(&[("config.json", b"{}", false), weights], "no class_name");
    says(
        &[("config.json", b"\xff", false), weights],
        "no text in UTF-8",
    );
    says(
        &[
            ("config.json", &config, false),
            ("metadata.json", b"[", false),
            weights,
        ],
        "its metadata.json is no valid JSON",
    );
    says(
        &[
            ("config.json", &config, false),
            ("model.weights.h5", b"x", false),
        ],
        "its model.weights.h5: its HDF5 structure",
    );
    says(
        &[("config.json", &config, false), weights, weights],
        "two files named",
    );
    // Little data that unpacks to much.
    let zeros = vec![0; 80 << 20];
    says(
        &[("config.json", &zeros, true), weights],
        "its config.json has more than",
    );
    says(
        &[
            ("config.json", &config, false),
            ("model.weights.h5", &zeros, true),
        ],
        "its model.weights.h5 has more than",
    );
    // A bit of the stored weights changes.
    let mut flipped = bytes;
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let message = refused("m.keras", flipped);
    assert!(message.contains("its checksum is wrong"), "{message}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn damaged_archives_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..24),
    ) {
        let mut bytes = read("keras3/refused_unknown_path.keras");
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(model) = keras::load_bytes("damaged.keras", bytes) {
            model.graph.validate().unwrap();
        }
    }

    #[test]
    fn changed_configurations_of_keras_3_never_panic(
        file in prop::sample::select(vec![
            "keras3/nested.keras", "keras3/recurrent.keras", "keras3/operations.keras",
            "keras3/named_outputs.keras",
        ]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), crate::replacement()), 1..4),
    ) {
        let bytes = read(file);
        let weights = stored(&bytes, "model.weights.h5");
        let mut config: Value = serde_json::from_slice(&stored(&bytes, "config.json")).unwrap();
        let places = config.to_string().matches([',', '[', '{']).count();
        for (at, new) in changes {
            crate::change(&mut config, &mut at.index(places), &new);
        }
        let packed = zip(&[
            ("config.json", config.to_string().as_bytes(), false),
            ("model.weights.h5", &weights, false),
        ]);
        if let Ok(model) = keras::load_bytes("changed.keras", packed) {
            model.graph.validate().unwrap();
        }
    }

    #[test]
    fn any_text_as_architecture_is_a_result_or_an_error(
        text in "[\\[\\]{}:,&*!a-c0-9.\"'\\n -]{0,80}",
    ) {
        let weights = read("weights_named.h5");
        keras::load_bytes_with_architecture("w.h5", weights, text.as_bytes()).unwrap_err();
    }
}

fn with_architecture(weights: &str, text: &[u8]) -> Result<keras::KerasModel, ConvertError> {
    keras::load_bytes_with_architecture("w.h5", read(weights), text)
}

#[test]
fn forms_of_an_architecture_are_equivalent() {
    let text = read("weights_named.json");
    let wanted = with_architecture("weights_named.h5", &text).unwrap().graph;
    let root: Value = serde_json::from_slice(&text).unwrap();
    // json.dump(model.to_json(), file), an editor's byte order mark, YAML in flow style.
    let as_string = Value::String(root.to_string()).to_string();
    let marked = [b"\xef\xbb\xbf", &*text].concat();
    let flow = format!("# made by hand\n{root}");
    for form in [as_string.as_bytes(), &marked, flow.as_bytes()] {
        let found = with_architecture("weights_named.h5", form).unwrap();
        assert_eq!(found.graph, wanted);
    }
    // The weights of a whole model can be used too.
    let whole = with_architecture("conv2d_same.h5", &text).unwrap_err();
    assert!(whole.to_string().contains("only in the file"), "{whole}");
    for (form, part) in [
        (&b"{}"[..], "no class_name and config"),
        (b"{\"class_name\": \"Model\"", "no valid JSON"),
        (b"\xff", "no text in UTF-8"),
        (b"a: [", "neither JSON nor YAML"),
        (b"- !!python/object:keras.Model {}", "stands for an object"),
    ] {
        let error = with_architecture("weights_named.h5", form).unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("architecture: ") && message.contains(part),
            "{message}"
        );
    }
}

#[test]
fn all_layers_that_only_the_weights_have_are_named_in_one_order() {
    let text = String::from_utf8(read("weights_named.json")).unwrap();
    // With an unsupported layer, the others are paired by name alone.
    let text = text.replace("\"Flatten\"", "\"Unknown\"");
    let text = text.replace("\"dense\"", "\"first\"");
    let text = text.replace("\"dense_1\"", "\"second\"");
    let error = with_architecture("weights_named.h5", text.as_bytes()).unwrap_err();
    let message = error.to_string();
    let named = ["dense", "dense_1"].map(|name| {
        let part = format!("weights for a layer \"{name}\", which the model does not have");
        message.find(&part)
    });
    assert!(matches!(named, [Some(a), Some(b)] if a < b), "{message}");
}

#[test]
fn weights_of_equal_names_are_paired_by_name_whatever_their_order() {
    // The architecture lists its two dense layers, which have equal shapes, in reverse.
    let layer = |name: &str, before: &str| {
        json!({
            "class_name": "Dense", "name": name,
            "config": {"name": name, "units": 3, "activation": "linear", "use_bias": false},
            "inbound_nodes": [[[before, 0, 0, {}]]],
        })
    };
    let input = json!({
        "class_name": "InputLayer", "name": "x",
        "config": {"name": "x", "batch_input_shape": [null, 3]}, "inbound_nodes": [],
    });
    let architecture = |order: [Value; 2]| {
        let [a, b] = order;
        json!({"class_name": "Model", "keras_version": "2.2.4", "config": {
            "name": "m", "layers": [input, a, b],
            "input_layers": [["x", 0, 0]], "output_layers": [["second", 0, 0]],
        }})
        .to_string()
    };
    let weights = {
        let mut builder = hdf5_pure::FileBuilder::new();
        let names = ["first", "second"].map(String::from).to_vec();
        builder.set_attr("layer_names", hdf5_pure::AttrValue::StringArray(names));
        for (layer, value) in [("first", 1.0f32), ("second", 2.0)] {
            let mut group = builder.create_group(layer);
            group.set_attr(
                "weight_names",
                hdf5_pure::AttrValue::StringArray(vec!["kernel:0".into()]),
            );
            group
                .create_dataset("kernel:0")
                .with_f32_data(&[value; 9])
                .with_shape(&[3, 3]);
            builder.add_group(group.finish());
        }
        builder.finish().unwrap()
    };
    let load = |text: String| {
        keras::load_bytes_with_architecture("w.h5", weights.clone(), text.as_bytes())
            .unwrap()
            .graph
    };
    let kernels = |graph: &maeum::nn::Graph| {
        let of = |name: &str| {
            let weight = graph
                .weights
                .iter()
                .find(|w| w.name == format!("{name}/kernel"));
            weight.unwrap().data[0]
        };
        (of("first"), of("second"))
    };
    let (first, second) = (layer("first", "x"), layer("second", "first"));
    for order in [
        [first.clone(), second.clone()],
        [second.clone(), first.clone()],
    ] {
        assert_eq!(kernels(&load(architecture(order))), (1.0, 2.0));
    }
    // Other names are paired in order.
    let text = architecture([first, second]).replace("\"first\"", "\"zero\"");
    let graph = load(text);
    assert_eq!(graph.weights[0].name, "zero/kernel");
    assert_eq!(
        (graph.weights[0].data[0], graph.weights[1].data[0]),
        (1.0, 2.0)
    );
}
