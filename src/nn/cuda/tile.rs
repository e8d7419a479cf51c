//! How a convolution is cut into blocks of threads.

/// Bytes of shared memory that every device gives a block.
pub(super) const SHARED: usize = 48 << 10;
/// Threads of a block of the tiled kernels, at most.
const THREADS: usize = 256;
/// Rows, columns and channels that one thread computes (conv.cu).
const THREAD: [usize; 3] = [2, 4, 8];

/// As `Tiling` in conv.cu.
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
    /// The kernel's size, and the channels of the input at a time: they choose among the kernels.
    pub size: usize,
    pub chunk: usize,
    /// The kernel's channels with their padding.
    pub padded_out: usize,
}

impl Tiling {
    /// The cut that keeps most threads busy with numbers that are wanted, or `None` if there is no tiled
    /// kernel of this size.
    pub fn new(size: usize, channels_in: usize, output: [usize; 3]) -> Option<Self> {
        if size != 3 && size != 5 {
            return None;
        }
        let [height, width, out] = output;
        let chunk = if channels_in.is_multiple_of(4) { 4 } else { 1 };
        let columns = width.next_multiple_of(THREAD[1]);
        let mut best: Option<(f64, Self)> = None;
        for groups in [1, 2, 4] {
            if groups > out.div_ceil(THREAD[2]) {
                continue;
            }
            for across in 1..=columns.div_ceil(THREAD[1]).min(16) {
                for down in 1..=height.div_ceil(THREAD[0]).min(64) {
                    let columns = width.div_ceil(across).next_multiple_of(THREAD[1]);
                    let rows = height.div_ceil(down).next_multiple_of(THREAD[0]);
                    let pitch = columns + (size - 1).next_multiple_of(4);
                    let plane = (rows + size - 1) * pitch;
                    let mut tiling = Self {
                        images: 1,
                        rows,
                        columns,
                        groups,
                        down,
                        across,
                        pitch,
                        // 4 more than a multiple of 8: `pitch` is a multiple of 4.
                        plane: if plane % 8 == 4 { plane } else { plane + 4 },
                        size,
                        chunk,
                        padded_out: out.next_multiple_of(THREAD[2] * groups),
                    };
                    if tiling.threads() > THREADS || tiling.shared() > SHARED {
                        continue;
                    }
                    while tiling.images < 32 {
                        let more = Self {
                            images: tiling.images + 1,
                            ..tiling
                        };
                        if more.threads() > THREADS || more.shared() > SHARED {
                            break;
                        }
                        tiling = more;
                    }
                    let score = tiling.score(output);
                    if best.is_none_or(|(most, _)| score > most) {
                        best = Some((score, tiling));
                    }
                }
            }
        }
        best.map(|(_, tiling)| tiling)
    }

    /// Threads that compute; a block has so many, rounded up to whole warps.
    fn working(&self) -> usize {
        let quads = self.rows / THREAD[0] * (self.columns / THREAD[1]);
        self.images * quads * self.groups
    }

    pub fn threads(&self) -> usize {
        self.working().next_multiple_of(32)
    }

    /// Bytes of dynamic shared memory.
    pub fn shared(&self) -> usize {
        let weights = self.chunk * self.size * self.size * self.groups * THREAD[2];
        4 * (self.images * self.chunk * self.plane + weights)
    }

    pub fn blocks(&self, items: usize) -> usize {
        let parts = self.padded_out / (THREAD[2] * self.groups);
        items.div_ceil(self.images) * self.down * self.across * parts
    }

    /// The part of the arithmetic that is wanted, less for blocks of few threads and for what is
    /// brought to shared memory for each product.
    fn score(&self, [height, width, out]: [usize; 3]) -> f64 {
        let wanted = (height * width * out * self.images) as f64;
        let blocks = self.blocks(self.images) as f64;
        let done = blocks * (self.threads() * THREAD.iter().product::<usize>()) as f64;
        let products = self.threads() * THREAD.iter().product::<usize>() * self.size * self.size;
        let brought = self.images * self.plane + self.size * self.size * self.groups * THREAD[2];
        // A number that is brought costs about as much as sixteen products of a thread.
        let bring = products as f64 / (products as f64 + 16.0 * brought as f64);
        let busy = (self.threads() as f64 / 128.0).min(1.0).sqrt();
        wanted / done * bring * busy
    }

    pub fn kernel(&self) -> &'static str {
        match (self.size, self.chunk) {
            (5, 4) => "conv_5_by_4",
            (5, _) => "conv_5_by_1",
            (_, 4) => "conv_3_by_4",
            _ => "conv_3_by_1",
        }
    }

    pub fn words(&self) -> Vec<u32> {
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
        ];
        numbers.map(|n| n as u32).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Input channels and output of the convolutions of the 2020 windows' networks, and of the
    /// features' smallest maps.
    #[test]
    fn tiles_of_the_models_keep_most_threads_busy() {
        for (size, channels, output, least) in [
            (5, 1, [200, 40, 8], 0.9),
            (5, 8, [100, 20, 16], 0.9),
            (5, 16, [50, 10, 32], 0.75),
            (3, 16, [20, 4, 16], 0.9),
        ] {
            let tiling = Tiling::new(size, channels, output).unwrap();
            let [height, width, out] = output;
            let wanted = height * width * out * tiling.images;
            let done = tiling.blocks(tiling.images) * tiling.threads() * 64;
            let busy = wanted as f64 / done as f64;
            assert!(busy >= least, "{output:?}: {busy} by {tiling:?}");
            assert!(tiling.threads() >= 96, "{tiling:?}");
            assert!(tiling.shared() <= SHARED);
        }
    }

    #[test]
    fn other_sizes_have_no_tiles() {
        assert_eq!(Tiling::new(4, 8, [10, 10, 8]), None);
        assert!(Tiling::new(3, 3, [1, 1, 1]).is_some());
        assert!(Tiling::new(5, 4, [1000, 1000, 500]).is_some());
    }
}
