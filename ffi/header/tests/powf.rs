//! The `powf` of the WebAssembly module gives the bits of the C library's.

#[path = "../../src/powf.rs"]
mod powf;

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn it_is_that_of_glibc() {
    let check = |x: f32, y: f32| {
        let (got, wanted) = (powf::powf(x, y), std::hint::black_box(x).powf(y));
        assert!(
            got.to_bits() == wanted.to_bits() || got.is_nan() && wanted.is_nan(),
            "{x:e} to the power of {y:e}: {got:e}, not {wanted:e}"
        );
    };
    // The tables of the decoders.
    for i in 0..8207u16 {
        check(i.into(), 4.0 / 3.0);
        check(0.5, 0.25 * (f32::from(i) - 4000.0));
        check(2.0, 0.25 * (f32::from(i) - 4000.0));
    }
    let special = [
        0.0,
        1.0,
        0.5,
        2.0,
        3.0,
        1e-40,
        1e30,
        f32::INFINITY,
        f32::NAN,
    ];
    for x in special.into_iter().flat_map(|x| [x, -x]) {
        for y in special.into_iter().flat_map(|y| [y, -y]) {
            check(x, y);
        }
    }
    let mut state = 1u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005);
        state = state.wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u32
    };
    for _ in 0..1_000_000 {
        check(f32::from_bits(random()), f32::from_bits(random()));
        let x = f32::from_bits(0x3800_0000 + random() % 0x0f00_0000);
        check(x, (random() % 1000) as f32 / 64.0 - 8.0);
    }
}
