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

/// Name of a kernel. Those of [`SOURCES`] are the constants of [`names`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KernelName(&'static str);

impl KernelName {
    /// Returns the name of a kernel outside [`SOURCES`], for a driver that compiles other sources.
    pub const fn foreign(name: &'static str) -> Self {
        Self(name)
    }

    /// Returns the name in the source.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

/// Names of all kernels of [`SOURCES`]. A test checks that they are the kernels that the sources
/// define.
pub mod names {
    use super::KernelName;

    macro_rules! names {
        ($($constant:ident = $name:literal)*) => {
            $(
                #[doc = concat!("`", $name, "`")]
                pub const $constant: KernelName = KernelName($name);
            )*
            #[cfg(test)]
            pub(super) const ALL: &[KernelName] = &[$($constant),*];
        };
    }

    names!(
        // Networks.
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
        MEAN_AXIS = "mean_axis"
        MAP = "map"
        SLICE = "slice"
        EMBEDDING = "embedding"
        MAT_MUL = "mat_mul"
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
        // Front ends.
        RESAMPLE_COPY = "resample_copy"
        RESAMPLE_EXACT = "resample_exact"
        RESAMPLE_FAST = "resample_fast"
        SIGNAL_LEVEL = "signal_level"
        CLEAN_NOISE = "clean_noise"
        CLEAN_FILTER = "clean_filter"
        CLEAN_PEAK = "clean_peak"
        CLEAN_NORMALIZE = "clean_normalize"
        MEL_SPECTROGRAM = "mel_spectrogram"
        FEATURE_SPREAD = "feature_spread"
        FEATURE_WINDOWS = "feature_windows"
        FEATURE_LOG = "feature_log"
        FEATURE_TRANSFORMS = "feature_transforms"
        FEATURE_HISTOGRAM = "feature_histogram"
        FEATURE_MOMENTS = "feature_moments"
        UTTERANCE_POWER = "utterance_power"
        UTTERANCE_PITCH = "utterance_pitch"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_the_kernels_of_the_sources() {
        let mut named: Vec<&str> = names::ALL.iter().map(|name| name.as_str()).collect();
        let sources = SOURCES.iter();
        let mut defined: Vec<&str> = sources.flat_map(|(_, text)| kernels(text)).collect();
        named.sort_unstable();
        defined.sort_unstable();
        assert_eq!(named, defined);
    }
}
