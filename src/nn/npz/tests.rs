use std::io::Cursor;

use ndarray::{Array as NdArray, ArrayD, IxDyn, ShapeBuilder};
use ndarray_npy::{NpzWriter, WritableElement};
use proptest::prelude::*;

use super::*;

fn npz<T: WritableElement>(name: &str, array: &ArrayD<T>, compressed: bool) -> Vec<u8> {
    let cursor = Cursor::new(Vec::new());
    let mut writer = match compressed {
        true => NpzWriter::new_compressed(cursor),
        false => NpzWriter::new(cursor),
    };
    writer.add_array(name, array).unwrap();
    writer.finish().unwrap().into_inner()
}

fn read(bytes: Vec<u8>, name: &str) -> Result<Array, NpzError> {
    NpzFile::from_bytes(bytes, "x.npz")?.read(name)
}

/// Builds a stored archive of one array with the given header and body.
fn handmade(header: &str, body: &[u8]) -> Vec<u8> {
    let mut npy = b"\x93NUMPY\x01\x00".to_vec();
    npy.extend((header.len() as u16).to_le_bytes());
    npy.extend(header.as_bytes());
    npy.extend(body);
    let mut crc = flate2::Crc::new();
    crc.update(&npy);
    let sizes = [crc.sum(), npy.len() as u32, npy.len() as u32];
    let sizes: Vec<u8> = sizes.iter().flat_map(|n| n.to_le_bytes()).collect();
    let name = b"a.npy";
    let mut zip = b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0".to_vec();
    zip.extend(&sizes);
    zip.extend([name.len() as u8, 0, 0, 0]);
    zip.extend(name);
    zip.extend(&npy);
    let start = zip.len() as u32;
    zip.extend(b"PK\x01\x02\x14\0\x14\0\0\0\0\0\0\0\0\0");
    zip.extend(&sizes);
    zip.extend([name.len() as u8, 0]);
    zip.extend([0; 16]);
    zip.extend(name);
    let size = zip.len() as u32 - start;
    zip.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    zip.extend(size.to_le_bytes());
    zip.extend(start.to_le_bytes());
    zip.extend([0, 0]);
    zip
}

#[test]
fn every_type_and_layout_is_read() {
    fn check<T: WritableElement + Copy>(from: impl Fn(u8) -> T) {
        let c = NdArray::from_shape_fn(IxDyn(&[2, 3, 4]), |i| {
            from((i[0] * 12 + i[1] * 4 + i[2]) as u8)
        });
        let mut f = ArrayD::from_elem(IxDyn(&[2, 3, 4]).f(), from(0));
        f.assign(&c);
        let wanted: Vec<f32> = (0..24).map(|i| i as f32).collect();
        for (array, compressed) in [(&c, false), (&c, true), (&f, false), (&f, true)] {
            let got = read(npz("a", array, compressed), "a").unwrap();
            assert_eq!(got.shape, [2, 3, 4]);
            assert_eq!(got.data, wanted);
        }
    }
    check(f32::from);
    check(f64::from);
    check(|i| i as i8);
    check(i16::from);
    check(i32::from);
    check(i64::from);
    check(|i| i);
    check(u16::from);
    check(u32::from);
    check(u64::from);
}

#[test]
fn booleans_scalars_and_either_byte_order_are_read() {
    let bools = NdArray::from_vec(vec![true, false]).into_dyn();
    assert_eq!(read(npz("a", &bools, false), "a").unwrap().data, [1.0, 0.0]);
    let big = handmade(
        "{'descr': '>f4', 'fortran_order': False, 'shape': (), }\n",
        &1.5f32.to_be_bytes(),
    );
    let array = read(big, "a").unwrap();
    assert_eq!((array.shape, array.data), (vec![], vec![1.5]));
    let negative = handmade(
        r#"{"shape": (1L,), "fortran_order": True, "descr": "<i2"}"#,
        &(-300i16).to_le_bytes(),
    );
    assert_eq!(read(negative, "a").unwrap().data, [-300.0]);
}

#[test]
fn what_is_written_is_read_back_and_twice_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npz");
    let arrays = vec![
        (
            "out/a".to_owned(),
            Array {
                shape: vec![2, 1, 2],
                data: vec![1.0, -2.5, f32::NAN, 3e38],
            },
        ),
        ("b".to_owned(), Array::default()),
    ];
    // A shape without dimensions has one element.
    assert!(write(&path, &arrays).is_err());
    assert!(!path.exists());
    write(&path, &arrays[..1]).unwrap();
    let first = std::fs::read(&path).unwrap();
    write(&path, &arrays[..1]).unwrap();
    assert_eq!(first, std::fs::read(&path).unwrap());
    let file = NpzFile::open(&path).unwrap();
    assert_eq!(file.names().collect::<Vec<_>>(), ["out/a"]);
    let array = file.read("out/a").unwrap();
    assert_eq!(array.shape, [2, 1, 2]);
    let bits = |data: &[f32]| data.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&array.data), bits(&arrays[0].1.data));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn hostile_headers_are_refused_before_anything_is_allocated() {
    let shape = |s: &str| format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {s}, }}");
    for (header, expected) in [
        (shape("(99999999999,)"), "more than"),
        (shape("(4294967296, 4294967296)"), "more than"),
        (shape("(18446744073709551616,)"), "not understood"),
        (shape("(100000000,)"), "ends too early"),
        (shape("(0,)"), "more numbers than"),
        (shape("(-1,)"), "not understood"),
        (shape("[1]"), "not understood"),
        (shape("(1,"), "not understood"),
        (shape(&"(".repeat(10_000)), "not understood"),
        (shape(&format!("({})", "1,".repeat(40))), "40 dimensions"),
        (shape("(1,)").replace("<f4", "<f2"), "floats of 32 or 64"),
        (shape("(1,)").replace("<f4", "|O"), "floats of 32 or 64"),
        (shape("(1,)").replace("<f4", "<U8"), "floats of 32 or 64"),
        ("{'descr': [('a', '<f4')], ".into(), "not understood"),
        (String::new(), "not understood"),
    ] {
        let error = read(handmade(&header, &[0; 8]), "a").unwrap_err();
        let text = error.to_string();
        assert!(text.contains(expected), "{header}: {text}");
        assert!(text.contains("x.npz") && text.contains("array a"), "{text}");
    }
}

#[test]
fn files_that_are_no_archives_are_named() {
    for bytes in [&b""[..], b"PK\x05\x06", &[0x89; 100], &[b'P'; 70_000]] {
        let error = NpzFile::from_bytes(bytes.to_vec(), "x.npz").unwrap_err();
        assert!(matches!(error, NpzError::NotNpz { .. }), "{error}");
    }
    let mut wrong = handmade(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}",
        &[0; 4],
    );
    let data = wrong.windows(5).position(|w| w == b"}\0\0\0\0").unwrap();
    wrong[data + 1] = 1;
    let error = read(wrong, "a").unwrap_err();
    assert!(error.to_string().contains("checksum"), "{error}");
}

proptest! {
    #[test]
    fn damaged_files_never_panic(
        compressed: bool,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        keep: bool,
    ) {
        let array = NdArray::from_elem(IxDyn(&[3, 5]), 0.25f32);
        let mut bytes = npz("a", &array, compressed);
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if !keep {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(file) = NpzFile::from_bytes(bytes, "x.npz") {
            let names: Vec<String> = file.names().map(str::to_owned).collect();
            for name in names {
                if let Ok(array) = file.read(&name) {
                    prop_assert_eq!(array.data.len(), array.shape.iter().product::<usize>());
                }
            }
        }
    }
}
