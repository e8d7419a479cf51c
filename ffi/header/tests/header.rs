//! Comparison of the header with the exported functions.

use std::path::Path;

/// Compares `include/maeum.h` with what cbindgen derives from the source. `MAEUM_BLESS=1` writes it.
#[test]
fn the_header_is_that_of_the_source() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(own.join("cbindgen.toml")).unwrap();
    let root = own.parent().unwrap();
    let builder = cbindgen::Builder::new().with_config(config);
    let mut text = Vec::new();
    let bindings = builder.with_src(root.join("src/lib.rs")).generate();
    bindings.unwrap().write(&mut text);
    let text = String::from_utf8(text).unwrap();
    let header = root.join("include/maeum.h");
    if std::env::var_os("MAEUM_BLESS").is_some() {
        std::fs::write(&header, &text).unwrap();
    }
    let written = std::fs::read_to_string(&header).unwrap_or_default();
    assert_eq!(
        written, text,
        "ffi/include/maeum.h differs from ffi/src/lib.rs; write it with MAEUM_BLESS=1 cargo test -p maeum-ffi-header"
    );
}
