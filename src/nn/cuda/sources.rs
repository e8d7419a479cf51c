//! Kernel sources embedded in the program.

/// Common header, prepended to every source.
pub const COMMON: &str = include_str!("../../../kernels/maeum.cuh");

/// Builds the table of sources, each with an optional header of its own.
macro_rules! sources {
    ($($file:literal $(after $front:literal)?)*) => {
        &[$((
            $file,
            concat!(
                $(include_str!(concat!("../../../kernels/", $front)),)?
                include_str!(concat!("../../../kernels/", $file))
            ),
        )),*]
    };
}

/// File name and text of every source.
pub const SOURCES: &[(&str, &str)] = sources!(
    "answers.cu"
    "clean.cu" after "pairwise.cuh"
    "conv.cu" after "conv.cuh"
    "conv_first.cu" after "conv.cuh"
    "dense.cu"
    "dropout.cu"
    "elementwise.cu"
    "features.cu" after "pairwise.cuh"
    "layout.cu"
    "level.cu" after "pairwise.cuh"
    "mel.cu" after "spectrum.cuh"
    "peaks.cu"
    "pool.cu"
    "recurrent.cu"
    "reduce.cu"
    "resample.cu"
    "utterance.cu" after "spectrum.cuh"
);

/// Returns the names of the kernels that a source defines.
pub fn kernels(source: &str) -> impl Iterator<Item = &str> {
    source
        .split("extern \"C\" __global__ void")
        .skip(1)
        .filter_map(|rest| {
            let rest = rest.trim_start();
            let rest = match rest.strip_prefix("__launch_bounds__") {
                Some(bounds) => bounds.split_once(')')?.1.trim_start(),
                None => rest,
            };
            Some(rest.split_once('(')?.0.trim())
        })
}
