//! The fuzz targets. Each accepts any bytes and panics if a property does not hold.
//!
//! The fuzzer and `tests/fuzz_replay.rs` include this folder, so that each body is written once.

mod audio;
#[cfg(feature = "convert")]
mod keras;
pub mod memory;
mod models;
mod networks;
#[cfg(feature = "default-model")]
mod recogniser;
mod seeds;
#[cfg(all(feature = "serve", feature = "default-model"))]
mod server;
mod tables;

/// Parser of untrusted bytes, with the properties to check.
pub struct Target {
    /// Name in commands and folders.
    pub name: &'static str,
    /// Panics if a property does not hold for the bytes.
    run: fn(&[u8]),
    /// Named initial inputs.
    pub seeds: fn() -> Vec<(String, Vec<u8>)>,
    /// Length of the longest generated input, in bytes.
    pub longest: usize,
    /// Limit of allocated memory in bytes: of an empty input, and per byte of the input.
    memory: (usize, usize),
}

impl Target {
    /// Runs the target and checks its memory limit.
    ///
    /// # Panics
    /// If a property does not hold.
    pub fn check(&self, input: &[u8]) {
        let before = memory::restart();
        (self.run)(input);
        let taken = memory::peak().saturating_sub(before);
        let (base, each) = self.memory;
        let allowed = base + each * input.len();
        assert!(
            taken <= allowed,
            "{} bytes take {taken} bytes of memory, more than {allowed}",
            input.len()
        );
    }

    /// Lets it load what it needs once, which counts for no input.
    pub fn prepare(&self) {
        (self.run)(&[]);
    }
}

const MIB: usize = 1 << 20;

/// All of them.
pub const ALL: &[Target] = &[
    Target {
        name: "wav",
        run: audio::wav,
        seeds: seeds::wav,
        longest: 2048,
        memory: (64 * MIB, 256),
    },
    Target {
        name: "audio",
        run: audio::any,
        seeds: seeds::audio,
        longest: 8192,
        memory: (64 * MIB, 256),
    },
    Target {
        name: "bundle",
        run: models::bundle,
        seeds: seeds::bundle,
        longest: 16 << 10,
        memory: (64 * MIB, 4096),
    },
    Target {
        name: "npz",
        run: models::npz,
        seeds: seeds::npz,
        longest: 4096,
        // DEFLATE makes 1,032 bytes of one, and a number of 4 bytes is made of each of them.
        memory: (16 * MIB, 3 * 4 * 1032),
    },
    #[cfg(feature = "convert")]
    Target {
        name: "hdf5",
        run: keras::hdf5,
        seeds: seeds::hdf5,
        longest: 32 << 10,
        memory: (256 * MIB, 4096),
    },
    #[cfg(feature = "convert")]
    Target {
        name: "convert",
        run: keras::convert,
        seeds: seeds::hdf5,
        longest: 32 << 10,
        memory: (256 * MIB, 4096),
    },
    #[cfg(feature = "convert")]
    Target {
        name: "archive",
        run: keras::archive,
        seeds: seeds::archive,
        longest: 24 << 10,
        memory: (256 * MIB, 4096),
    },
    #[cfg(feature = "convert")]
    Target {
        name: "architecture",
        run: keras::architecture,
        seeds: seeds::architecture,
        longest: 32 << 10,
        memory: (256 * MIB, 4096),
    },
    #[cfg(feature = "convert")]
    Target {
        name: "keras_config",
        run: keras::config,
        seeds: seeds::keras_config,
        longest: 16 << 10,
        memory: (64 * MIB, 4096),
    },
    #[cfg(feature = "convert")]
    Target {
        name: "lambda",
        run: keras::lambda,
        seeds: seeds::lambda,
        longest: 1024,
        memory: (64 * MIB, 4096),
    },
    Target {
        name: "manifest",
        run: tables::manifest,
        seeds: seeds::manifest,
        longest: 2048,
        memory: (16 * MIB, 256),
    },
    Target {
        name: "networks",
        run: networks::against_the_oracle,
        seeds: seeds::numbers,
        longest: 2048,
        memory: (256 * MIB, 256),
    },
    #[cfg(feature = "default-model")]
    Target {
        name: "profile",
        run: tables::profile,
        seeds: seeds::profile,
        longest: 16 << 10,
        memory: (128 * MIB, 256),
    },
    #[cfg(feature = "default-model")]
    Target {
        name: "recogniser",
        run: recogniser::any_recording,
        seeds: seeds::recordings,
        longest: 4096,
        memory: (512 * MIB, 4096),
    },
    #[cfg(all(feature = "serve", feature = "default-model"))]
    Target {
        name: "stream",
        run: server::stream,
        seeds: seeds::stream,
        longest: 1024,
        memory: (16 * MIB, 256),
    },
    #[cfg(all(feature = "serve", feature = "default-model"))]
    Target {
        name: "multipart",
        run: server::multipart,
        seeds: seeds::multipart,
        longest: 2048,
        memory: (16 * MIB, 256),
    },
    #[cfg(all(feature = "serve", feature = "default-model"))]
    Target {
        name: "http",
        run: server::http,
        seeds: seeds::http,
        longest: 4096,
        memory: (64 * MIB, 256),
    },
];

/// Returns true for one input in `n`, for which expensive checks are run.
fn is_sampled(input: &[u8], n: u64) -> bool {
    // FNV-1a: the same answer for the same input.
    let hash = input
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
    (hash >> 32).is_multiple_of(n)
}
