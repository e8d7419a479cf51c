//! Convolution as a product over runs of consecutive inputs, from zero-padded copies.

use super::Isa;
use super::gemm::{Packed, Product, Runs, Start};
use crate::nn::layer::{Conv, Padding};
use crate::nn::shape::{conv_kernel, extent, window};

/// A convolution with everything that does not depend on the data.
#[derive(Debug, Clone)]
pub(crate) struct ConvPlan {
    input: [usize; 3],
    /// Rows and columns of the padded copy.
    padded: [usize; 2],
    /// Zeros above and to the left of the input in the padded copy.
    before: [usize; 2],
    output: [usize; 2],
    strides: [usize; 2],
    dilation: [usize; 2],
    kernel: [usize; 2],
}

impl ConvPlan {
    /// For a validated layer, its kernel's shape and its input's (one- or two-dimensional).
    pub fn new(conv: &Conv, kernel: &[usize], input: &[usize]) -> Self {
        let [kh, kw, channels, _] = conv_kernel(kernel).expect("validated kernel");
        let (height, width) = match *input {
            [time, _] => (time, 1),
            [height, width, _] => (height, width),
            _ => unreachable!("validated input"),
        };
        let mut plan = Self {
            input: [height, width, channels],
            padded: [height, width],
            before: [0; 2],
            output: [0; 2],
            strides: conv.strides,
            dilation: conv.dilation,
            kernel: [kh, kw],
        };
        for axis in 0..2 {
            let span = extent(plan.kernel[axis], plan.dilation[axis]);
            // Causal padding is along time alone; the other dimension has length 1 anyway.
            let padding = match conv.padding {
                Padding::Causal if axis == 1 => Padding::Valid,
                other => other,
            };
            let n = plan.input[axis];
            let (length, before) =
                window(n, span, plan.strides[axis], padding).expect("validated shape");
            plan.output[axis] = length;
            plan.before[axis] = before;
            plan.padded[axis] = ((length - 1) * plan.strides[axis] + span).max(before + n);
        }
        plan
    }

    fn needs_padding(&self) -> bool {
        self.padded != [self.input[0], self.input[1]]
    }

    /// Numbers of scratch needed.
    pub fn scratch(&self) -> usize {
        match self.needs_padding() {
            true => self.padded[0] * self.padded[1] * self.input[2],
            false => 0,
        }
    }

    /// Convolves the inputs one after the other.
    pub fn run(
        &self,
        isa: Isa,
        input: &[f32],
        packed: &Packed,
        output: &mut [f32],
        scratch: &mut [f32],
        relu: bool,
    ) {
        let [height, width, channels] = self.input;
        let pixels = self.output[0] * self.output[1];
        let row = self.padded[1] * channels;
        let scratch = &mut scratch[..self.scratch()];
        scratch.fill(0.0);
        let images = input.chunks_exact(height * width * channels);
        let outputs = output.chunks_exact_mut(pixels * packed.channels);
        for (image, out) in images.zip(outputs) {
            let source = if self.needs_padding() {
                for (y, line) in image.chunks_exact(width * channels).enumerate() {
                    let at = (y + self.before[0]) * row + self.before[1] * channels;
                    scratch[at..at + line.len()].copy_from_slice(line);
                }
                &*scratch
            } else {
                image
            };
            self.product(isa, source, row, packed, out, relu);
        }
    }

    fn product(
        &self,
        isa: Isa,
        source: &[f32],
        row: usize,
        packed: &Packed,
        output: &mut [f32],
        relu: bool,
    ) {
        let channels = self.input[2];
        let columns_out = self.output[1];
        let at = |p: usize| {
            (p / columns_out) * self.strides[0] * row
                + (p % columns_out) * self.strides[1] * channels
        };
        let [kh, kw] = self.kernel;
        // Neighbouring columns lie next to each other, so that a kernel row is one run.
        let (columns, run) = match self.dilation[1] {
            1 => (1, kw * channels),
            _ => (kw, channels),
        };
        Product {
            input: source,
            at,
            pixels: self.output[0] * columns_out,
            runs: Runs {
                rows: kh,
                row_step: self.dilation[0] * row,
                columns,
                column_step: self.dilation[1] * channels,
                run,
            },
            packed,
            start: Start::Bias,
            output,
            relu,
        }
        .compute(isa);
    }
}
