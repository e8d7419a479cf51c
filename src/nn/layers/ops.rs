//! Ops that layers are lowered to.

use super::{Activation, BackendLayer, PoolKind};

/// Shapes around a node that is lowered.
pub(in crate::nn) struct NodeShapes<'a> {
    /// Name of the node.
    pub name: &'a str,
    /// Input shapes, without the dimensions that count as batch.
    pub items: &'a [Vec<usize>],
    /// Output shape, likewise.
    pub output: &'a [usize],
    /// Product of the dimensions that count as batch.
    pub outer: usize,
    /// Number of dropouts that act at inference before this node.
    pub dropouts: usize,
}

impl NodeShapes<'_> {
    /// Returns the shape of the first input.
    pub fn x(&self) -> &[usize] {
        &self.items[0]
    }

    /// Returns the number of elements of the first input.
    pub fn elements(&self) -> usize {
        self.x().iter().product()
    }

    /// Returns the length of the first input's last dimension.
    pub fn last(&self) -> usize {
        self.x().last().copied().unwrap_or(1)
    }

    /// Returns the number of elements of the first input behind dimension `axis`.
    pub fn after(&self, axis: usize) -> usize {
        self.x()[axis + 1..].iter().product()
    }
}

/// Execution of a layer.
pub(in crate::nn) enum Lowering<'n, W> {
    /// The output has the input's elements, at most in another shape; there is no step.
    Identity,
    /// An op that all back ends share.
    Common(Op<W>),
    /// A layer whose op the back end prepares.
    Backend(BackendLayer<'n>),
}

/// An op with its attributes: everything that does not depend on the data.
#[derive(Debug)]
pub(in crate::nn) enum Op<W> {
    /// An op of the back end.
    Backend(W),
    GlobalPool {
        kind: PoolKind,
        pixels: usize,
        channels: usize,
    },
    ZeroPad {
        image: [usize; 3],
        output: [usize; 2],
        top: usize,
        left: usize,
    },
    Reverse {
        rows: usize,
        width: usize,
    },
    /// Output dimension `i` is input dimension `order[i]`.
    Permute {
        shape: Vec<usize>,
        order: Vec<usize>,
    },
    Repeat {
        count: usize,
        width: usize,
    },
    /// Concatenation, with the width (elements from the axis on) of each input and of the output.
    Concat {
        widths: Vec<usize>,
        total: usize,
    },
    Dropout(Dropout),
    Activation {
        function: Activation,
        last: usize,
    },
    /// Softmax over the middle dimension of `[.., n, after]`.
    Softmax {
        n: usize,
        after: usize,
    },
    SumAxis {
        n: usize,
        after: usize,
    },
    SpatialMultiply {
        channels: usize,
    },
    ChannelMultiply {
        item: usize,
        channels: usize,
    },
    /// Repeats a draw-invariant value for every draw.
    BroadcastDraws,
}

#[derive(Debug)]
pub(in crate::nn) struct Dropout {
    pub name: String,
    pub number: u32,
    pub rate: f32,
    /// Decisions per row.
    pub units: usize,
    /// Pixels that share the decisions of their channels. Element `e` of a row has the decision of
    /// unit `e / (pixels * channels) * channels + e % channels`.
    pub pixels: usize,
    pub channels: usize,
}
