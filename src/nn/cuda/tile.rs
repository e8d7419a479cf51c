//! Tiling of convolutions into thread blocks.

use super::sources::{KernelName, names};

/// Shared memory that every device offers a block, in bytes.
pub(super) const SHARED: usize = 48 << 10;
/// Maximum threads per block of the tiled kernels.
const THREADS: usize = 256;

/// Convolution parameters that determine the tiling.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub channels: usize,
    /// Rows, columns and channels of the output.
    pub output: [usize; 3],
    /// Rows and columns of the kernel.
    pub size: [usize; 2],
    pub strides: [usize; 2],
    pub dilation: [usize; 2],
}

/// Tiled kernels (conv.cu, conv_single_channel.cu).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `conv_5_of_1` and `conv_3_of_1`, for one input channel.
    SingleChannel,
    /// `conv_tiled` for images of one row.
    Flat,
    /// `conv_tiled` for other images.
    Deep,
}

impl Kind {
    fn of(shape: &Shape) -> Option<Self> {
        let plain = shape.strides == [1, 1] && shape.dilation == [1, 1];
        match (shape.channels, shape.size) {
            (1, [3, 3] | [5, 5]) if plain => Some(Self::SingleChannel),
            (n, _) if n > 0 && n.is_multiple_of(4) => Some(match shape.output[0] {
                1 => Self::Flat,
                _ => Self::Deep,
            }),
            _ => None,
        }
    }

    /// Rows, columns and channels computed per thread.
    fn thread(self) -> [usize; 3] {
        match self {
            Self::SingleChannel => [2, 4, 4],
            Self::Flat => [1, 4, 8],
            Self::Deep => [4, 1, 8],
        }
    }

    /// Returns the number that a tile's columns are a multiple of.
    fn columns(self, width: usize) -> usize {
        match self {
            // Fused pooling exchanges columns between neighbouring threads.
            Self::Deep if width > 1 => 2,
            _ => self.thread()[1],
        }
    }

    /// Elements stored together in shared memory.
    fn elements_per_vector(self) -> usize {
        match self {
            Self::SingleChannel => 1,
            Self::Flat | Self::Deep => 4,
        }
    }
}

/// Tile sizes and shared-memory layout: the struct `Tiling` in conv.cuh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tiling {
    pub images: usize,
    pub rows: usize,
    pub columns: usize,
    pub groups: usize,
    pub down: usize,
    pub across: usize,
    pub pitch: usize,
    pub plane: usize,
    /// Output channels including padding.
    pub padded_out: usize,
    /// Terms of the kernel per piece in shared memory, in groups of four.
    piece: usize,
    kind: Kind,
    /// Columns of the kernel.
    size: usize,
    channels: usize,
}

/// Bytes of kernel weights per piece in shared memory; larger pieces gain nothing.
const PIECE: usize = 12 << 10;
/// Length of a K block, in groups of four terms.
const TERMS: usize = 32 / 4;

impl Tiling {
    /// Returns the tiling with the best score, or `None` if no tiled kernel supports the shape.
    pub fn new(shape: &Shape) -> Option<Self> {
        let kind = Kind::of(shape)?;
        let [height, width, out] = shape.output;
        let thread = kind.thread();
        let mut best: Option<(f64, Self)> = None;
        for groups in [1, 2, 4, 8] {
            if groups > out.div_ceil(thread[2]) {
                continue;
            }
            for across in 1..=width.div_ceil(thread[1]).min(16) {
                for down in 1..=height.div_ceil(thread[0]).min(64) {
                    let columns = width.div_ceil(across);
                    let mut tiling = Self {
                        images: 1,
                        rows: height.div_ceil(down).next_multiple_of(thread[0]),
                        columns: columns.next_multiple_of(kind.columns(width)),
                        groups,
                        down,
                        across,
                        pitch: 0,
                        plane: 0,
                        padded_out: out.next_multiple_of(thread[2] * groups),
                        piece: piece(shape, thread[2] * groups),
                        kind,
                        size: shape.size[1],
                        channels: shape.channels,
                    };
                    tiling.set_layout(shape);
                    if !tiling.fits() {
                        continue;
                    }
                    while tiling.images < 32 {
                        let mut more = Self {
                            images: tiling.images + 1,
                            ..tiling
                        };
                        more.set_layout(shape);
                        if !more.fits() {
                            break;
                        }
                        tiling = more;
                    }
                    let score = tiling.score(shape);
                    if best.is_none_or(|(most, _)| score > most) {
                        best = Some((score, tiling));
                    }
                }
            }
        }
        best.map(|(_, tiling)| tiling)
    }

    /// Input rows and columns that a tile reads.
    fn input_size(&self, shape: &Shape) -> [usize; 2] {
        let extent = |tile: usize, axis: usize| {
            let kernel = (shape.size[axis] - 1).saturating_mul(shape.dilation[axis]);
            ((tile - 1).saturating_mul(shape.strides[axis]))
                .saturating_add(kernel)
                .saturating_add(1)
        };
        [extent(self.rows, 0), extent(self.columns, 1)]
    }

    fn set_layout(&mut self, shape: &Shape) {
        let [rows, columns] = self.input_size(shape);
        match self.kind {
            Kind::SingleChannel => {
                // Rows in groups of four, of which a thread reads two.
                self.pitch = self.columns + (self.size - 1).next_multiple_of(4);
                self.plane = rows.saturating_mul(self.pitch);
            }
            Kind::Flat | Kind::Deep => {
                // An odd pitch: threads whose pixels are four rows apart read from different banks.
                self.pitch = columns | 1;
                let all = rows.saturating_mul(self.pitch).saturating_mul(self.images);
                // Offsets the planes so that channels stored together fall into different banks.
                let apart = (8 / (self.channels / 4)).max(1);
                self.plane = all.saturating_add((8 + apart - all % 8) % 8);
            }
        }
    }

    fn fits(&self) -> bool {
        self.threads() <= THREADS && self.shared() <= SHARED
    }

    /// Threads that compute; a block rounds them up to whole warps.
    fn computing_threads(&self) -> usize {
        let [rows, columns, _] = self.kind.thread();
        let in_place = self.rows / rows * (self.columns / columns);
        self.images * in_place * self.groups
    }

    pub fn threads(&self) -> usize {
        self.computing_threads().next_multiple_of(32)
    }

    /// Elements of kernel weights in shared memory.
    fn weights(&self) -> usize {
        let out = self.groups * self.kind.thread()[2];
        match self.kind {
            Kind::SingleChannel => self.size * self.size * out,
            // Includes the offset table of a kernel row's terms.
            Kind::Flat | Kind::Deep => {
                let in_place = self.size.saturating_mul(self.channels) / 4;
                self.piece.saturating_mul(4 * out).saturating_add(in_place)
            }
        }
    }

    /// Bytes of dynamic shared memory.
    pub fn shared(&self) -> usize {
        let image = match self.kind {
            Kind::SingleChannel => self.images.saturating_mul(self.plane),
            Kind::Flat | Kind::Deep => self.channels.saturating_mul(self.plane),
        };
        image.saturating_add(self.weights()).saturating_mul(4)
    }

    pub fn blocks(&self, items: usize) -> usize {
        let parts = self.padded_out / (self.kind.thread()[2] * self.groups);
        items.div_ceil(self.images) * self.down * self.across * parts
    }

    /// Returns true if 2 x 2 max pooling can be fused.
    pub fn pools(&self) -> bool {
        self.kind != Kind::Flat && self.columns.is_multiple_of(2)
    }

    /// Estimates the efficiency: the useful fraction of the arithmetic, reduced for small blocks,
    /// for loads into shared memory per product, and for bank conflicts.
    fn score(&self, shape: &Shape) -> f64 {
        /// Cost of a load into shared memory, in products of one thread: `BRING` per instruction
        /// sequence, and `NUMBER` per element for the transfer, at 128 products and 32 bytes per
        /// period.
        const BRING: f64 = 40.0;
        const NUMBER: f64 = 16.0;
        let [height, width, out] = shape.output;
        let wanted = (height * width * out * self.images) as f64;
        let blocks = self.blocks(self.images) as f64;
        let of_block = self.threads() * self.kind.thread().iter().product::<usize>();
        let done = blocks * of_block as f64;
        let terms = (self.size * shape.size[0] * self.channels) as f64;
        let products = of_block as f64 * terms;
        let [rows, columns] = self.input_size(shape);
        let image = (self.images * rows * columns * self.channels) as f64;
        let kernel = terms * (self.groups * self.kind.thread()[2]) as f64;
        let each = BRING / self.kind.elements_per_vector() as f64 + NUMBER;
        let bring = products / (products + each * (image + kernel));
        let busy = (self.threads() as f64 / 128.0).min(1.0).sqrt();
        wanted / done * bring * busy * self.shared_read_rate(shape)
    }

    /// Estimates the fraction of peak arithmetic that shared-memory reads permit.
    fn shared_read_rate(&self, shape: &Shape) -> f64 {
        if self.kind == Kind::SingleChannel {
            return 1.0;
        }
        // Eight threads at a time read 16 bytes each from 32 banks of 4 bytes.
        const AT_ONCE: usize = 8;
        let [_, between, _] = self.kind.thread();
        let beside = self.columns / between;
        let bank = |place: usize| {
            let (row, column) = (place / beside, place % beside);
            (row * self.kind.thread()[0] * shape.strides[0] * self.pitch
                + column * shape.strides[1])
                % AT_ONCE
        };
        let turns = |first: usize| {
            let mut reads = [0; AT_ONCE];
            (first..first + AT_ONCE).for_each(|place| reads[bank(place)] += 1);
            reads.into_iter().max().unwrap_or(1)
        };
        let turns: usize = (0..4).map(|i| turns(i * AT_ONCE)).sum();
        // Four channels of four pixels take the conflict turns of a warp's four quarters, plus one
        // read per four weights, against 128 multiply-adds, of which four start per period.
        let (reads, products) = (4 * turns + 8, 128 / 4);
        (products as f64 / reads as f64).min(1.0)
    }

    pub fn kernel(&self) -> KernelName {
        match (self.kind, self.size) {
            (Kind::SingleChannel, 5) => names::CONV_5_OF_1,
            (Kind::SingleChannel, _) => names::CONV_3_OF_1,
            (Kind::Flat | Kind::Deep, _) => names::CONV_TILED,
        }
    }

    pub fn to_kernel_args(self) -> Vec<u32> {
        let numbers = [
            self.images,
            self.rows,
            self.columns,
            self.groups,
            self.down,
            self.across,
            self.pitch,
            self.plane,
            self.padded_out,
            self.piece,
        ];
        numbers.map(|n| n as u32).to_vec()
    }
}

/// Returns the terms of a kernel row per piece in shared memory, in groups of four, for tiles of
/// `out` output channels.
fn piece(shape: &Shape, out: usize) -> usize {
    let all = (shape.channels / 4).saturating_mul(shape.size[1]);
    let enough = PIECE / (4 * out * size_of::<f32>()) / TERMS * TERMS;
    match shape.dilation[1] {
        1 => enough.max(TERMS).min(all),
        // With dilation each column's terms are separate runs, which a piece must not split.
        _ => all,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(size: [usize; 2], channels: usize, output: [usize; 3]) -> Shape {
        Shape {
            channels,
            output,
            size,
            strides: [1, 1],
            dilation: [1, 1],
        }
    }

    /// Convolutions of the 2020 models, the feature models and the built-in model: kernel, input
    /// channels and output.
    #[test]
    fn tiles_of_the_models_keep_most_threads_busy() {
        for (size, channels, output, least) in [
            ([5, 5], 1, [200, 40, 8], 0.9),
            ([5, 5], 8, [100, 20, 16], 0.9),
            ([5, 5], 16, [50, 10, 32], 0.8),
            ([3, 3], 1, [40, 40, 16], 0.9),
            ([3, 3], 16, [20, 20, 32], 0.85),
            ([3, 3], 32, [10, 10, 64], 0.75),
            ([3, 3], 16, [20, 4, 16], 0.9),
            ([1, 5], 44, [1, 200, 64], 0.85),
            ([1, 5], 64, [1, 100, 96], 0.75),
        ] {
            let tiling = Tiling::new(&shape(size, channels, output)).unwrap();
            let [height, width, out] = output;
            let wanted = height * width * out * tiling.images;
            let done = tiling.blocks(tiling.images) * tiling.threads() * 32;
            let busy = wanted as f64 / done as f64;
            assert!(busy >= least, "{output:?}: {busy} by {tiling:?}");
            assert!(tiling.threads() >= 96, "{tiling:?}");
            assert!(tiling.shared() <= SHARED);
        }
    }

    #[test]
    fn others_have_no_tiles() {
        assert_eq!(Tiling::new(&shape([4, 4], 3, [10, 10, 8])), None);
        assert!(Tiling::new(&shape([3, 3], 1, [1, 1, 1])).is_some());
        assert!(Tiling::new(&shape([5, 5], 4, [1000, 1000, 500])).is_some());
        // One pixel exceeds the shared memory.
        assert_eq!(Tiling::new(&shape([5, 5], 4096, [9, 9, 8])), None);
        let strided = Shape {
            strides: [usize::MAX, 1],
            ..shape([3, 3], 8, [20, 20, 8])
        };
        assert_eq!(Tiling::new(&strided), None);
    }
}
