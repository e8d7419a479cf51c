//! Small files that demand unbounded depth or work.

use std::time::{Duration, Instant};

use maeum::keras;

/// Stack size of a typical thread.
const STACK: usize = 2 << 20;

/// Returns the error message for a file, on a thread with a small stack.
fn refusal(bytes: Vec<u8>) -> String {
    let thread = std::thread::Builder::new().stack_size(STACK);
    let load = || {
        keras::load_bytes("hostile.h5", bytes)
            .unwrap_err()
            .to_string()
    };
    thread.spawn(load).unwrap().join().unwrap()
}

/// Builds an HDF5 file of superblock version 0 whose root group has the given header messages (type
/// and body); the output of `behind` follows at the address that it receives.
fn file(messages: &[(u16, Vec<u8>)], behind: impl FnOnce(u64) -> Vec<u8>) -> Vec<u8> {
    const ROOT: u64 = 96;
    const UNDEFINED: [u8; 8] = [0xff; 8];
    let mut header = Vec::new();
    for (kind, body) in messages {
        assert_eq!(body.len() % 8, 0);
        header.extend(kind.to_le_bytes());
        header.extend(u16::try_from(body.len()).unwrap().to_le_bytes());
        header.extend([0; 4]);
        header.extend(body);
    }
    let mut bytes = b"\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08\0\x04\0\x10\0\0\0\0\0".to_vec();
    bytes.extend(0u64.to_le_bytes());
    bytes.extend(UNDEFINED);
    let end = ROOT + 16 + header.len() as u64;
    let behind = behind(end);
    bytes.extend((end + behind.len() as u64).to_le_bytes());
    bytes.extend(UNDEFINED);
    bytes.extend(0u64.to_le_bytes());
    bytes.extend(ROOT.to_le_bytes());
    bytes.extend([0; 24]);
    assert_eq!(bytes.len() as u64, ROOT);
    bytes.extend([1, 0]);
    bytes.extend(u16::try_from(messages.len()).unwrap().to_le_bytes());
    bytes.extend(1u32.to_le_bytes());
    bytes.extend(u32::try_from(header.len()).unwrap().to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(header);
    bytes.extend(behind);
    bytes
}

/// Builds an attribute `model_config` of this datatype with a value of zeros.
fn attribute(datatype: &[u8]) -> (u16, Vec<u8>) {
    let padded = |mut part: Vec<u8>| {
        part.resize(part.len().next_multiple_of(8), 0);
        part
    };
    let name = b"model_config\0";
    let scalar = [1, 0, 0, 0, 0, 0, 0, 0];
    let mut body = vec![1, 0];
    for length in [name.len(), datatype.len(), scalar.len()] {
        body.extend(u16::try_from(length).unwrap().to_le_bytes());
    }
    body.extend(padded(name.to_vec()));
    body.extend(padded(datatype.to_vec()));
    body.extend(scalar);
    body.extend([0; 16]);
    (0x0c, body)
}

/// Builds a 32-bit integer nested in `depth` datatypes.
fn nested(outer: &[u8], depth: usize) -> Vec<u8> {
    let integer = *b"\x10\0\0\0\x04\0\0\0\0\0\x20\0";
    let mut datatype = outer.repeat(depth);
    datatype.extend(integer);
    datatype
}

#[test]
fn nested_datatypes_do_not_overflow_the_stack() {
    // A variable-length list, an array without dimensions, an enumeration without names, and a
    // compound with one field `\0` at offset 0.
    let outers: [&[u8]; 4] = [
        b"\x19\0\0\0\x10\0\0\0",
        b"\x3a\0\0\0\x04\0\0\0\0",
        b"\x38\0\0\0\x04\0\0\0",
        b"\x36\x01\0\0\x04\0\0\0\0\0",
    ];
    for outer in outers {
        // The number of levels that fill a header message, and one.
        for depth in [65_440 / outer.len(), 1] {
            let message = refusal(file(&[attribute(&nested(outer, depth))], |_| vec![]));
            let parts = ["hostile.h5", "\"model_config\"", "not text"];
            for part in parts {
                assert!(message.contains(part), "{outer:?} {depth}: {message}");
            }
            assert!(message.len() < 300, "{message}");
        }
    }
}

/// Builds B-tree nodes (version 1, of a group); each except the last has the next as both children.
fn chain_of_nodes(first: u64, nodes: u64) -> Vec<u8> {
    const NODE: u64 = 24 + 5 * 8;
    let mut bytes = Vec::new();
    for n in 0..nodes {
        let level = u8::from(n + 1 < nodes);
        let child = first + (n + 1).min(nodes - 1) * NODE;
        bytes.extend(b"TREE\0");
        bytes.push(level);
        bytes.extend(2u16.to_le_bytes());
        bytes.extend([0xff; 16]);
        for part in [0, child, 0, child, 0] {
            bytes.extend(part.to_le_bytes());
        }
    }
    bytes
}

#[test]
fn endless_trees_are_errors() {
    const NODES: u64 = 60;
    // The address of the tree depends on the size of the header before it, which is fixed.
    let table = |tree: u64| {
        let heap = tree + NODES * 64;
        (0x11, [tree.to_le_bytes(), heap.to_le_bytes()].concat())
    };
    let at = 96 + 16 + 8 + 16;
    let bytes = file(&[table(at)], |end| {
        assert_eq!(end, at);
        let mut behind = chain_of_nodes(end, NODES);
        let data = end + behind.len() as u64 + 32;
        behind.extend(b"HEAP\0\0\0\0");
        for part in [16, u64::MAX, data] {
            behind.extend(part.to_le_bytes());
        }
        behind.extend([0; 16]);
        behind
    });
    let start = Instant::now();
    let message = refusal(bytes);
    let took = start.elapsed();
    assert!(message.contains("hostile.h5"), "{message}");
    assert!(took < Duration::from_secs(120), "{took:?}: {message}");
}

#[test]
fn deeply_nested_configurations_are_refused() {
    let content = |config: String| keras::hdf5::H5Model {
        config,
        keras_version: Some("2.2.4".into()),
        backend: Some("tensorflow".into()),
        layers: vec![],
    };
    let refused = |config: String| {
        let error = keras::from_content("deep.h5", content(config)).unwrap_err();
        error.to_string()
    };
    let lists = "[".repeat(100_000);
    assert!(refused(lists).contains("recursion limit"));
    let mut model = r#"{"class_name":"Sequential","config":[]}"#.to_owned();
    for _ in 0..24 {
        model = format!(r#"{{"class_name":"Sequential","config":[{model}]}}"#);
    }
    let message = refused(model);
    assert!(
        message.contains("deep.h5") && message.contains("more than 16 models inside each other"),
        "{message}"
    );
}
