//! Convolution over three dimensions.

use super::conv::{ConvEpilogue, ConvPlan};
use super::math;
use super::op::{OpCall, PlainOp};
use super::packed::Packed;
use crate::nn::layers::windows::{extent, window};
use crate::nn::layers::{Activation, Conv, Conv3d};

/// A convolution of `[depth, height, width, channels]` for one input shape.
///
/// The images that one image of the output reads become the channels of a single image, which is convolved over
/// height and width.
#[derive(Debug)]
pub(crate) struct Conv3dPlan {
    /// `[depth, height, width, channels]`.
    input: [usize; 4],
    /// Depth of the kernel and of the output.
    depth: [usize; 2],
    stride: usize,
    dilation: usize,
    /// Images of zero padding before the first.
    before: usize,
    image: ConvPlan,
    packed: Packed,
    activation: Activation,
}

impl Conv3dPlan {
    /// Plans a validated layer with a kernel of shape `size`, for input shape `x`.
    pub fn new(
        conv: &Conv3d,
        size: &[usize],
        kernel: &[f32],
        bias: Option<&[f32]>,
        x: &[usize],
    ) -> Self {
        let [depth, height, width, channels, filters] =
            <[usize; 5]>::try_from(size).expect("validated kernel");
        let input = <[usize; 4]>::try_from(x).expect("validated shape");
        let span = extent(depth, conv.dilation[0]);
        let (length, before) =
            window(input[0], span, conv.strides[0], conv.padding).expect("validated shape");
        let image = Conv {
            kernel: conv.kernel,
            bias: conv.bias,
            strides: [conv.strides[1], conv.strides[2]],
            dilation: [conv.dilation[1], conv.dilation[2]],
            padding: conv.padding,
            activation: Activation::Linear,
        };
        let merged = [height, width, depth * channels, filters];
        // From [depth, taps, channels, filters] to [taps, depth, channels, filters].
        let tap = channels * filters;
        let taps = height * width;
        let ordered: Vec<f32> = (0..taps)
            .flat_map(|t| (0..depth).map(move |d| d * taps + t))
            .flat_map(|at| &kernel[at * tap..][..tap])
            .copied()
            .collect();
        Self {
            input,
            depth: [depth, length],
            stride: conv.strides[0],
            dilation: conv.dilation[0],
            before,
            image: ConvPlan::new(&image, &merged, &[input[1], input[2], depth * channels]),
            packed: Packed::new(&ordered, filters, bias),
            activation: conv.activation,
        }
    }

    /// Fills `merged` with the channels that image `index` of the output reads from `images`.
    fn merge(&self, index: usize, images: &[f32], merged: &mut [f32]) {
        let [samples, height, width, channels] = self.input;
        let pixels = height * width;
        let row = self.depth[0] * channels;
        for d in 0..self.depth[0] {
            let image = (index * self.stride + d * self.dilation)
                .checked_sub(self.before)
                .filter(|&image| image < samples);
            let pixel_channels = merged
                .chunks_exact_mut(row)
                .map(|pixel| &mut pixel[d * channels..][..channels]);
            match image {
                Some(image) => {
                    let image = &images[image * pixels * channels..][..pixels * channels];
                    for (to, from) in pixel_channels.zip(image.chunks_exact(channels)) {
                        to.copy_from_slice(from);
                    }
                }
                None => pixel_channels.for_each(|to| to.fill(0.0)),
            }
        }
    }
}

impl PlainOp for Conv3dPlan {
    fn scratch(&self, _: usize) -> usize {
        let image = self.image.input().iter().product::<usize>();
        image + self.image.scratch(self.packed.n, &ConvEpilogue::default())
    }

    fn run(&self, call: OpCall) {
        let OpCall {
            isa,
            input,
            output,
            scratch,
            ..
        } = call;
        let (merged, scratch) = scratch.split_at_mut(self.image.input().iter().product());
        let image = self.image.size_out().iter().product::<usize>() * self.packed.n;
        let items = input(0).chunks_exact(self.input.iter().product());
        for (x, y) in items.zip(output.chunks_exact_mut(self.depth[1] * image)) {
            for (index, y) in y.chunks_exact_mut(image).enumerate() {
                self.merge(index, x, merged);
                let epilogue = ConvEpilogue::default();
                self.image
                    .run(isa, merged, &self.packed, &epilogue, y, scratch);
            }
        }
        math::activate(isa, self.activation, self.packed.n, output);
    }
}
