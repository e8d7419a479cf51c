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
    "conv_single_channel.cu" after "conv.cuh"
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

/// Names of the kernels that the back end launches. A test checks that a source defines each.
pub(super) mod names {
    macro_rules! names {
        ($($constant:ident = $name:literal)*) => {
            $(pub const $constant: &str = $name;)*
            #[cfg(test)]
            pub const ALL: &[&str] = &[$($name),*];
        };
    }

    names!(
        CONV = "conv"
        CONV_TILED = "conv_tiled"
        CONV_5_OF_1 = "conv_5_of_1"
        CONV_3_OF_1 = "conv_3_of_1"
        DENSE_WIDE = "dense_wide"
        DENSE_NARROW = "dense_narrow"
        RECURRENT = "recurrent"
        LSTM_64 = "lstm_64"
        LSTM_32 = "lstm_32"
        GRU_48 = "gru_48"
        ACTIVATE = "activate"
        SCALE_SHIFT = "scale_shift"
        PRELU = "prelu"
        SPATIAL_MULTIPLY = "spatial_multiply"
        CHANNEL_MULTIPLY = "channel_multiply"
        REVERSE = "reverse"
        PERMUTE = "permute"
        PLACE = "place"
        REPEAT = "repeat"
        SOFTMAX_ROWS = "softmax_rows"
        SOFTMAX_AXIS = "softmax_axis"
        SUM_AXIS = "sum_axis"
        GLOBAL_POOL = "global_pool"
        MERGE = "merge"
        POOL = "pool"
        UPSAMPLE = "upsample"
        ZERO_PAD = "zero_pad"
        UPSAMPLE_MULTIPLY = "upsample_multiply"
        ATTENTION_POOL = "attention_pool"
        DROPOUT = "dropout"
        MASK = "mask"
        GATHER = "gather"
        GROUP_MEANS = "group_means"
        ROW_MEANS = "row_means"
        PEAK_ARITHMETIC = "peak_arithmetic"
        PEAK_COPY = "peak_copy"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_launched_kernel_has_a_source() {
        for name in names::ALL {
            let sources = SOURCES.iter();
            let count = sources.filter(|(_, text)| kernels(text).any(|k| k == *name));
            assert_eq!(count.count(), 1, "{name}");
        }
    }
}
