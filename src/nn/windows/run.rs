//! Execution of chains over overlapping windows.

use std::ops::Range;

use super::{Chain, LocalOp, Pooling, Stage};
use crate::nn::cpu::conv::Band;
use crate::nn::cpu::{elementwise, math, pool};
use crate::nn::layers::Activation;
use crate::nn::lowering::LoweredGraph;
use crate::nn::plan::CpuOp;
use crate::simd::Isa;

/// Buffers for shared rows and for each window's own rows.
#[derive(Debug, Default)]
pub(in super::super) struct Buffers {
    /// Rows shared by the windows: input and output of a stage.
    frames: [Vec<f32>; 2],
    /// First and last rows of each window: input and output of a stage.
    tops: [Vec<f32>; 2],
    bottoms: [Vec<f32>; 2],
    /// Consecutive rows of one window.
    band: Vec<f32>,
    /// A whole window: input and output of a stage.
    window: [Vec<f32>; 2],
    scratch: Vec<f32>,
}

impl Buffers {
    /// Elements that the buffers have room for.
    pub fn capacity(&self) -> usize {
        let pairs = [&self.frames, &self.tops, &self.bottoms, &self.window];
        let pairs = pairs.into_iter().flatten();
        let buffers = pairs.chain([&self.band, &self.scratch]);
        buffers.map(Vec::capacity).sum()
    }

    /// Gives swapped buffers equal capacity, so that the next run allocates nothing.
    fn equalise_capacities(&mut self) {
        let [a, b] = &mut self.window;
        equalise_capacity([a, b, &mut self.band]);
        for pair in [&mut self.frames, &mut self.tops, &mut self.bottoms] {
            equalise_capacity(pair.each_mut());
        }
    }
}

fn equalise_capacity<const N: usize>(buffers: [&mut Vec<f32>; N]) {
    let most = buffers.iter().map(|b| b.capacity()).max().unwrap_or(0);
    for buffer in buffers {
        buffer.reserve_exact(most - buffer.len());
    }
}

/// The shared rows after some stage. The rows of single windows are in the buffers.
struct SharedRows<'a> {
    /// Range of shared rows, counted from the first row of the first window.
    rows: Range<usize>,
    /// Range of each window's rows that are shared.
    inside: Range<usize>,
    /// Rows of a window and elements per row.
    shape: [usize; 2],
    /// Frames per row.
    step: usize,
    starts: &'a [usize],
    /// The input frames before the first stage; later rows are in the buffers.
    frames: Option<&'a [f32]>,
}

/// A chain with the data that it runs on.
pub(in super::super) struct ChainRun<'a> {
    pub isa: Isa,
    pub plan: &'a LoweredGraph<CpuOp>,
    pub chain: &'a Chain,
    pub frames: &'a [f32],
    pub buffers: &'a mut Buffers,
}

impl ChainRun<'_> {
    /// Computes the chain's result for the windows that begin at these frames.
    pub fn compute(&mut self, starts: &[usize], output: &mut [f32]) {
        let [rows, row] = self.chain.shape();
        let mut output = output.chunks_exact_mut(rows * row);
        let mut first = 0;
        while first < starts.len() {
            let count = overlapping_windows(self.chain, &starts[first..]);
            let starts = &starts[first..first + count];
            match starts {
                &[start] => {
                    let from = start * self.chain.row;
                    let window = &self.frames[from..][..self.chain.rows * self.chain.row];
                    let out = output.next().expect("one per window");
                    self.whole(0, Some(window), out);
                }
                _ => self.shared(starts, &mut output),
            }
            first += count;
        }
        self.buffers.equalise_capacities();
    }

    /// Runs the stages from `from` on for a whole window; without `window` the input is in the
    /// buffer.
    fn whole(&mut self, from: usize, mut window: Option<&[f32]>, output: &mut [f32]) {
        let stages = &self.chain.stages[from..];
        for (i, stage) in stages.iter().enumerate() {
            let [mut input, mut result] = std::mem::take(&mut self.buffers.window);
            let numbers = stage.outer[0] * stage.outer[1];
            let [top, bottom] = stage.pad_rows;
            let band = Band {
                rows: window.take().unwrap_or(&input),
                top,
                bottom,
            };
            if i + 1 == stages.len() {
                self.rows(stage, band, true, output);
            } else {
                result.resize(numbers, 0.0);
                self.rows(stage, band, true, &mut result);
                std::mem::swap(&mut input, &mut result);
            }
            self.buffers.window = [input, result];
        }
        if stages.is_empty() {
            output.copy_from_slice(window.unwrap_or(&self.buffers.window[0]));
        }
    }

    fn shared<'o>(&mut self, starts: &[usize], output: &mut impl Iterator<Item = &'o mut [f32]>) {
        let chain = self.chain;
        let distance = starts[starts.len() - 1] - starts[0];
        let from = starts[0] * chain.row;
        let mut state = SharedRows {
            rows: 0..distance + chain.rows,
            inside: 0..chain.rows,
            shape: [chain.rows, chain.row],
            step: 1,
            starts,
            frames: Some(&self.frames[from..][..(distance + chain.rows) * chain.row]),
        };
        let mut done = 0;
        let mut pooled = true;
        for stage in &chain.stages {
            let fits = |step: usize| starts.iter().all(|s| (s - starts[0]).is_multiple_of(step));
            if let Some(next) = state.after(stage, true).filter(|s| fits(s.step)) {
                self.advance(stage, &state, &next, true);
                state = next;
                done += 1;
                continue;
            }
            if stage.unpooled.is_some()
                && let Some(next) = state.after(stage, false)
            {
                self.advance(stage, &state, &next, false);
                state = next;
                done += 1;
                pooled = false;
            }
            break;
        }
        for i in 0..starts.len() {
            let out = output.next().expect("one per window");
            let mut window = std::mem::take(&mut self.buffers.band);
            state.copy(self.buffers, i, 0..state.shape[0], &mut window);
            if pooled {
                std::mem::swap(&mut window, &mut self.buffers.window[0]);
            } else {
                let stage = &chain.stages[done - 1];
                let mut result = std::mem::take(&mut self.buffers.window[0]);
                result.resize(stage.outer[0] * stage.outer[1], 0.0);
                self.pool(stage, &window, &mut result);
                self.buffers.window[0] = result;
            }
            self.buffers.band = window;
            self.whole(done, None, out);
        }
    }

    /// Runs one more stage on the shared rows and on each window's own rows.
    fn advance(&mut self, stage: &Stage, now: &SharedRows, next: &SharedRows, pooled: bool) {
        let per = if pooled { stage.pool } else { 1 };
        let width = next.shape[1];
        let rows_in = |rows: usize| rows * per + stage.span - 1;

        // The input starts at the first row that the first output row reads.
        let [frames, mut result] = std::mem::take(&mut self.buffers.frames);
        result.resize(next.rows.len() * width, 0.0);
        let skipped = next.rows.start * per - stage.pad_rows[0] - now.rows.start;
        let shared = now.frames.unwrap_or(&frames);
        let rows = &shared[skipped * now.shape[1]..][..rows_in(next.rows.len()) * now.shape[1]];
        self.rows(
            stage,
            Band {
                rows,
                top: 0,
                bottom: 0,
            },
            pooled,
            &mut result,
        );
        self.buffers.frames = [frames, result];

        let own = [next.inside.start, next.shape[0] - next.inside.end];
        let mut tops = std::mem::take(&mut self.buffers.tops[1]);
        let mut bottoms = std::mem::take(&mut self.buffers.bottoms[1]);
        tops.resize(now.starts.len() * own[0] * width, 0.0);
        bottoms.resize(now.starts.len() * own[1] * width, 0.0);
        let [top, bottom] = stage.pad_rows;
        for i in 0..now.starts.len() {
            let mut band = std::mem::take(&mut self.buffers.band);
            if own[0] > 0 {
                now.copy(self.buffers, i, 0..rows_in(own[0]) - top, &mut band);
                let rows = Band {
                    rows: &band,
                    top,
                    bottom: 0,
                };
                let size = own[0] * width;
                self.rows(stage, rows, pooled, &mut tops[i * size..][..size]);
            }
            if own[1] > 0 {
                let from = next.inside.end * per - top;
                now.copy(self.buffers, i, from..now.shape[0], &mut band);
                let rows = Band {
                    rows: &band,
                    top: 0,
                    bottom,
                };
                let size = own[1] * width;
                self.rows(stage, rows, pooled, &mut bottoms[i * size..][..size]);
            }
            self.buffers.band = band;
        }
        self.buffers.tops[1] = tops;
        self.buffers.bottoms[1] = bottoms;
        self.buffers.frames.swap(0, 1);
        self.buffers.tops.swap(0, 1);
        self.buffers.bottoms.swap(0, 1);
    }

    /// Computes the output rows of a stage for a band.
    fn rows(&mut self, stage: &Stage, band: Band, pooled: bool, output: &mut [f32]) {
        let isa = self.isa;
        let op = &self.plan.steps[stage.step].op;
        match LocalOp::of(op).expect("a stage is local in time") {
            LocalOp::Conv {
                plan,
                packed,
                epilogue,
                activation,
                channels,
            } => {
                let epilogue = match &stage.unpooled {
                    Some(unpooled) if !pooled => unpooled,
                    _ => epilogue,
                };
                let scratch = &mut self.buffers.scratch;
                let needed = plan.scratch(channels, epilogue);
                if scratch.len() < needed {
                    scratch.resize(needed, 0.0);
                }
                plan.run_rows(isa, band, packed, epilogue, output, &mut scratch[..needed]);
                if activation != Activation::Linear {
                    math::activate(isa, activation, channels, output);
                }
            }
            LocalOp::Slice(slice) => slice.run(band.rows, output),
            LocalOp::ScaleShift { scale, shift } => {
                elementwise::scale_shift(isa, scale, shift, band.rows, output);
            }
            LocalOp::Activation { function, last } => {
                output.copy_from_slice(band.rows);
                math::activate(isa, function, last, output);
            }
            LocalOp::MaxPool { .. } => self.pool(stage, band.rows, output),
        }
    }

    /// Runs only the pooling of a stage.
    fn pool(&self, stage: &Stage, input: &[f32], output: &mut [f32]) {
        let Pooling {
            size,
            width,
            channels,
        } = stage.pooling;
        pool::max_pool_rows(self.isa, size, width, channels, input, output);
    }
}

/// Returns the number of windows from the first on that overlap enough and lie on the same pooling
/// grid.
pub(super) fn overlapping_windows(chain: &Chain, starts: &[usize]) -> usize {
    let pools = chain.stages.iter().map(|s| s.pool);
    let grid: usize = match chain.stages.iter().rposition(|s| s.pool > 1) {
        Some(last) => pools.take(last).product(),
        None => 1,
    };
    let most = chain.rows * 3 / 4;
    let follows = |pair: &&[usize]| {
        pair[1] >= pair[0]
            && pair[1] - pair[0] <= most
            && (pair[1] - starts[0]).is_multiple_of(grid)
    };
    1 + starts.windows(2).take_while(follows).count()
}

impl<'a> SharedRows<'a> {
    /// Returns the rows shared after one more stage, or `None` if there are none.
    fn after(&self, stage: &Stage, pooled: bool) -> Option<Self> {
        let per = if pooled { stage.pool } else { 1 };
        let shape = if pooled { stage.outer } else { stage.inner };
        let above = stage.pad_rows[0];
        let below = stage.span - 1 - above.min(stage.span - 1);
        let within = |rows: &Range<usize>| -> Range<usize> {
            let end = rows.end.saturating_sub(below) / per;
            (rows.start + above).div_ceil(per)..end
        };
        let (rows, mut inside) = (within(&self.rows), within(&self.inside));
        inside.end = inside.end.min(shape[0]);
        (inside.start < inside.end).then_some(Self {
            rows,
            inside,
            shape,
            step: self.step * per,
            starts: self.starts,
            frames: None,
        })
    }

    /// Copies rows of window `i`, from its own and the shared ones.
    fn copy(&self, buffers: &Buffers, i: usize, rows: Range<usize>, to: &mut Vec<f32>) {
        let width = self.shape[1];
        let own = [self.inside.start, self.shape[0] - self.inside.end];
        let place = (self.starts[i] - self.starts[0]) / self.step;
        to.clear();
        let mut part = |from: &[f32], rows: Range<usize>| {
            if rows.start < rows.end {
                to.extend_from_slice(&from[rows.start * width..rows.end * width]);
            }
        };
        let inside = &self.inside;
        let top = i * own[0];
        part(
            &buffers.tops[0],
            top + rows.start..top + rows.end.min(inside.start),
        );
        let at = |row: usize| place + row - self.rows.start;
        let (from, end) = (rows.start.max(inside.start), rows.end.min(inside.end));
        if from < end {
            let shared = self.frames.unwrap_or(&buffers.frames[0]);
            part(shared, at(from)..at(end));
        }
        let (from, bottom) = (rows.start.max(inside.end), i * own[1]);
        if from < rows.end {
            part(
                &buffers.bottoms[0],
                bottom + from - inside.end..bottom + rows.end - inside.end,
            );
        }
    }
}
