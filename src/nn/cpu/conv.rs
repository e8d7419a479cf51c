//! Convolution of bands of rows, with the epilogue and pooling fused while the data is in cache.
//!
//! Geometry along one axis, here the rows:
//!
//! ```text
//! input with padding     0 0 0 r r r r r r r r r r r r 0 0 0
//!                        |top| |<----- height ------>| |bot|
//! reads of output row 0  ^   ^   ^              kernel = 3, dilation = 2
//!                        |<- e ->|              extent e = (kernel - 1) * dilation + 1 = 5
//! reads of output row 1    ^   ^   ^            stride = 1
//!
//! output row y, kernel row k reads input row  y * stride + k * dilation - top
//! output rows = (top + height + bottom - extent) / stride + 1
//! ```
//!
//! Images are NHWC: a row has `pitch = width * channels` elements. Without dilation one kernel row
//! of an output pixel reads `kw * channels` contiguous elements, so the convolution is an implicit
//! GEMM without im2col: M counts output pixels, N output channels, and K the terms
//! `kh * kw * channels`, one kernel row after the other.

use std::ops::Range;

use super::gemm::{Epilogue, Gemm, Init, KernelRow, Packed};
use super::pool::max_pool_rows;
use super::single_channel::SingleChannelConv;
use crate::nn::layers::conv_kernel;
use crate::nn::layers::windows::{extent, window};
use crate::nn::layers::{Conv, Padding};
use crate::simd::Isa;

/// Output rows per tile before pooling: large enough to amortise set-up, small enough to stay in or
/// near the L1 cache.
const ROW_TILE: usize = 24;
/// Output rows per tile for one-column images; a multiple of GEMM tile heights of six and seven.
const ROW_TILE_1D: usize = 210;

/// A convolution with everything that does not depend on the data.
#[derive(Debug, Clone)]
pub(crate) struct ConvPlan {
    /// Rows, columns and channels of a whole image.
    input: [usize; 3],
    /// Rows of zero padding above and below a whole image.
    pad_rows: [usize; 2],
    /// Columns of zero padding to the left.
    left: usize,
    /// Columns of the output.
    width: usize,
    strides: [usize; 2],
    dilation: [usize; 2],
    kernel: [usize; 2],
    columns: Vec<ColumnGroup>,
    /// Zeros, as many as the longest kernel row spans.
    zeros: Vec<f32>,
}

/// Neighbouring output columns that read the same part of each kernel row. The other terms would
/// multiply zero padding; leaving them out changes no bit.
#[derive(Debug, Clone)]
struct ColumnGroup {
    x: Range<usize>,
    /// Offset of the first column's inputs within their row.
    first: usize,
    kernel_row: KernelRow,
}

/// Consecutive rows of an image with their zero padding.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Band<'a> {
    /// `[rows, width, channels]`.
    pub rows: &'a [f32],
    /// Rows of zero padding above, if the band begins at the image's edge.
    pub top: usize,
    /// Rows of zero padding below.
    pub bottom: usize,
}

/// Operations fused into a convolution before its results are stored.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConvEpilogue {
    pub pointwise: Epilogue,
    /// Size of non-overlapping max-pooling windows, applied last. Incomplete windows are dropped.
    pub pool: Option<[usize; 2]>,
}

impl ConvPlan {
    /// Plans a validated layer; `kernel` and `input` are its shapes (one- or two-dimensional).
    pub fn new(conv: &Conv, kernel: &[usize], input: &[usize]) -> Self {
        let [kh, kw, channels, _] = conv_kernel(kernel).expect("validated kernel");
        let (height, width) = match *input {
            [time, _] => (time, 1),
            [height, width, _] => (height, width),
            _ => unreachable!("validated input"),
        };
        let span = [extent(kh, conv.dilation[0]), extent(kw, conv.dilation[1])];
        // Causal padding applies to time; the other dimension has length 1.
        let across = match conv.padding {
            Padding::Causal => Padding::Valid,
            other => other,
        };
        let (rows_out, top) =
            window(height, span[0], conv.strides[0], conv.padding).expect("validated shape");
        let (width_out, left) =
            window(width, span[1], conv.strides[1], across).expect("validated shape");
        let reached = (rows_out - 1) * conv.strides[0] + span[0];
        let mut plan = Self {
            input: [height, width, channels],
            pad_rows: [top, reached.saturating_sub(top + height)],
            left,
            width: width_out,
            strides: conv.strides,
            dilation: conv.dilation,
            kernel: [kh, kw],
            columns: Vec::new(),
            zeros: Vec::new(),
        };
        plan.columns = plan.column_groups();
        let spans = plan.columns.iter().map(|columns| columns.kernel_row.span());
        plan.zeros = vec![0.0; spans.max().unwrap_or(0)];
        plan
    }

    fn column_groups(&self) -> Vec<ColumnGroup> {
        let [_, width, channels] = self.input;
        let (kw, stride, dilation) = (self.kernel[1], self.strides[1], self.dilation[1]);
        // Range of kernel columns that lie within the image for output column x.
        let inside = |x: usize| {
            let first_at = |column: usize| {
                let missing = column.saturating_sub(x * stride);
                missing.div_ceil(dilation).min(kw)
            };
            first_at(self.left)..first_at(self.left + width)
        };
        let mut groups: Vec<ColumnGroup> = Vec::new();
        let mut last = None;
        for x in 0..self.width {
            let taps = inside(x);
            match groups.last_mut() {
                Some(group) if last.as_ref() == Some(&taps) => group.x.end = x + 1,
                _ => groups.push(ColumnGroup {
                    x: x..x + 1,
                    first: match taps.is_empty() {
                        true => 0,
                        false => (x * stride + taps.start * dilation - self.left) * channels,
                    },
                    kernel_row: self.kernel_row(taps.clone()),
                }),
            }
            last = Some(taps);
        }
        groups
    }

    fn kernel_row(&self, inside: Range<usize>) -> KernelRow {
        let channels = self.input[2];
        match self.dilation[1] {
            // Neighbouring columns are contiguous, so the kernel row is one run.
            1 => KernelRow {
                terms: inside.start * channels..inside.end * channels,
                ..KernelRow::all(self.kernel[1] * channels)
            },
            dilation => KernelRow {
                columns: inside,
                column_step: dilation * channels,
                ..KernelRow::all(channels)
            },
        }
    }

    /// Returns the output rows for a band of `rows` rows including padding, before pooling.
    pub fn rows_out(&self, rows: usize) -> usize {
        match rows.checked_sub(extent(self.kernel[0], self.dilation[0])) {
            Some(room) => room / self.strides[0] + 1,
            None => 0,
        }
    }

    /// Returns rows and columns of a whole image's output, before pooling.
    pub fn size_out(&self) -> [usize; 2] {
        let [top, bottom] = self.pad_rows;
        [self.rows_out(top + self.input[0] + bottom), self.width]
    }

    /// Returns rows, columns and channels of a whole image.
    pub fn input(&self) -> [usize; 3] {
        self.input
    }

    /// Returns the input rows that an output row reads, and the rows of padding above and below a
    /// whole image; `None` unless the stride is 1.
    pub fn local_rows(&self) -> Option<(usize, [usize; 2])> {
        let span = extent(self.kernel[0], self.dilation[0]);
        (self.strides[0] == 1).then_some((span, self.pad_rows))
    }

    fn is_single_channel(&self) -> bool {
        self.input[2] == 1
            && self.strides == [1, 1]
            && self.dilation == [1, 1]
            && SingleChannelConv::supports(self.kernel, self.width)
    }

    /// Returns the rows computed per tile before pooling with windows of `height` rows.
    fn chunk(&self, height: usize) -> usize {
        let rows = if self.width == 1 {
            ROW_TILE_1D
        } else {
            ROW_TILE
        };
        (rows / height).max(1) * height
    }

    /// Returns true if pooling is fused into the kernel and needs no buffer.
    fn pools_directly(&self, pool: Option<[usize; 2]>) -> bool {
        self.is_single_channel() && pool == Some([2, 2])
    }

    /// Returns the scratch elements needed for any band.
    pub fn scratch(&self, channels: usize, epilogue: &ConvEpilogue) -> usize {
        let buffer = match epilogue.pool {
            Some([height, _]) if !self.pools_directly(epilogue.pool) => {
                self.chunk(height) * self.width * channels
            }
            _ => 0,
        };
        buffer + self.lines()
    }

    /// Returns the scratch elements for zero-padded input rows.
    fn lines(&self) -> usize {
        match self.is_single_channel() {
            true => SingleChannelConv::lines(self.kernel, self.width),
            false => 0,
        }
    }

    /// Convolves the images one after the other.
    pub fn run(
        &self,
        isa: Isa,
        images: &[f32],
        packed: &Packed,
        epilogue: &ConvEpilogue,
        output: &mut [f32],
        scratch: &mut [f32],
    ) {
        let [top, bottom] = self.pad_rows;
        let [height, width, channels] = self.input;
        let [ph, pw] = epilogue.pool.unwrap_or([1, 1]);
        let rows = self.rows_out(top + height + bottom) / ph;
        let outputs = output.chunks_exact_mut(rows * (self.width / pw) * packed.n);
        for (rows, out) in images.chunks_exact(height * width * channels).zip(outputs) {
            self.run_rows(
                isa,
                Band { rows, top, bottom },
                packed,
                epilogue,
                out,
                scratch,
            );
        }
    }

    /// Convolves a band into [`ConvPlan::rows_out`] rows (fewer with pooling). Each output row is
    /// bit-identical to the same row of the whole image's output.
    pub fn run_rows(
        &self,
        isa: Isa,
        band: Band,
        packed: &Packed,
        epilogue: &ConvEpilogue,
        output: &mut [f32],
        scratch: &mut [f32],
    ) {
        let pitch = self.input[1] * self.input[2];
        let rows = self.rows_out(band.top + band.rows.len() / pitch + band.bottom);
        let (ph, pw) = match epilogue.pool {
            None => (1, 1),
            Some([ph, pw]) => (ph, pw),
        };
        let out_pitch = self.width / pw * packed.n;
        // Columns of an incomplete pooling window are not computed.
        let width = self.width / pw * pw;
        let (windows, per) = (rows / ph, self.chunk(ph) / ph);
        let pools_directly = self.pools_directly(epilogue.pool);
        let (lines, buffer) = scratch.split_at_mut(self.lines());
        let buffered = epilogue.pool.is_some() && !pools_directly;
        let chunks = match buffered {
            true => windows.div_ceil(per),
            false => 1,
        };
        for chunk in 0..chunks {
            let (from, to) = (windows * chunk / chunks, windows * (chunk + 1) / chunks);
            let target = &mut output[from * out_pitch..to * out_pitch];
            let result = match buffered {
                false => &mut *target,
                true => &mut buffer[..(to - from) * ph * width * packed.n],
            };
            if self.is_single_channel() {
                SingleChannelConv {
                    input: band.rows,
                    pitch,
                    top: band.top,
                    left: self.left,
                    kernel: self.kernel,
                    rows: from * ph..to * ph,
                    width,
                    lines: &mut *lines,
                    packed,
                    epilogue: &epilogue.pointwise,
                    pooled: pools_directly,
                    output: result,
                }
                .compute(isa);
            } else {
                self.gemm(
                    isa,
                    band,
                    from * ph..to * ph,
                    width,
                    packed,
                    epilogue,
                    result,
                );
            }
            if buffered {
                let result = &buffer[..(to - from) * ph * width * packed.n];
                max_pool_rows(isa, [ph, pw], width, packed.n, result, target);
            }
        }
    }

    /// Computes rows `rows` of the output and its first `width` columns, before pooling.
    #[allow(clippy::too_many_arguments)]
    fn gemm(
        &self,
        isa: Isa,
        band: Band,
        rows: Range<usize>,
        width: usize,
        packed: &Packed,
        epilogue: &ConvEpilogue,
        output: &mut [f32],
    ) {
        let [_, columns_in, channels] = self.input;
        let pitch = columns_in * channels;
        let above = rows.start * self.strides[0];
        let skipped = above.saturating_sub(band.top) * pitch;
        for columns in &self.columns {
            let x = columns.x.start..columns.x.end.min(width);
            if x.is_empty() {
                break;
            }
            Gemm {
                input: &band.rows[skipped.min(band.rows.len())..],
                pitch,
                rows: rows.len(),
                columns: x.len(),
                first: columns.first,
                step: self.strides[1] * channels,
                top: band.top.saturating_sub(above),
                row_stride: self.strides[0],
                kernel_rows: self.kernel[0],
                row_dilation: self.dilation[0],
                kernel_row: &columns.kernel_row,
                zeros: &self.zeros,
                packed,
                init: Init::Bias,
                output: &mut output[x.start * packed.n..],
                output_pitch: width * packed.n,
                epilogue: &epilogue.pointwise,
            }
            .compute(isa);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::nn::WeightId;
    use crate::nn::layers::Activation;

    /// Compares bands of several heights, from every even row on, with the rows of the whole image
    /// on every instruction set.
    #[test]
    fn bands_give_the_rows_of_the_whole_image() {
        for (height, width, channels, out, kernel) in [
            (24, 10, 16, 32, 5),
            (20, 7, 1, 8, 5),
            (13, 6, 3, 17, 3),
            (16, 9, 1, 20, 3),
            (15, 9, 8, 12, 5),
        ] {
            let conv = Conv {
                kernel: WeightId(0),
                bias: None,
                strides: [1, 1],
                dilation: [1, 1],
                padding: Padding::Same,
                activation: Activation::Relu,
            };
            let number = |i: usize| ((i as u64 * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0;
            let image: Vec<f32> = (0..height * width * channels).map(number).collect();
            let terms = kernel * kernel * channels;
            let weights: Vec<f32> = (0..terms * out).map(|i| number(i + 7)).collect();
            let packed = Packed::new(&weights, out, Some(&weights[..out]));
            let shape = [kernel, kernel, channels, out];
            let plan = ConvPlan::new(&conv, &shape, &[height, width, channels]);
            let epilogue = Epilogue {
                relu: true,
                ..Epilogue::default()
            };
            let mut wholes: HashMap<_, Vec<f32>> = HashMap::new();
            let pools = [None, Some([2, 2]), Some([3, 2])];
            for (isa, pool) in Isa::available()
                .into_iter()
                .flat_map(|isa| pools.map(|pool| (isa, pool)))
            {
                let epilogue = ConvEpilogue {
                    pointwise: epilogue.clone(),
                    pool,
                };
                let [ph, pw] = pool.unwrap_or([1, 1]);
                let row = width / pw * out;
                let mut scratch = vec![f32::NAN; plan.scratch(out, &epilogue)];
                let mut whole = vec![f32::NAN; height / ph * row];
                plan.run(isa, &image, &packed, &epilogue, &mut whole, &mut scratch);
                let portable = wholes.entry(pool).or_insert_with(|| whole.clone());
                assert_eq!(whole, *portable, "{}", isa.name());
                if ph == 3 {
                    continue;
                }
                let reach = kernel / 2;
                for from in (0..height / 2 * 2).step_by(2) {
                    for rows in [2, 4, 6, 14, height] {
                        let to = (from + rows).min(height / 2 * 2);
                        let first = from.saturating_sub(reach);
                        let last = (to + reach).min(height);
                        let band = Band {
                            rows: &image[first * width * channels..last * width * channels],
                            top: reach - (from - first),
                            bottom: reach - (last - to),
                        };
                        let mut part = vec![f32::NAN; (to - from) / ph * row];
                        scratch.fill(f32::NAN);
                        plan.run_rows(isa, band, &packed, &epilogue, &mut part, &mut scratch);
                        let wanted = &whole[from / ph * row..to / ph * row];
                        assert_eq!(part, wanted, "{} {from} to {to}", isa.name());
                    }
                }
            }
        }
    }
}
