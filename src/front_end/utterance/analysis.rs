//! Values of single frames: mel power and pitch candidates.

use std::borrow::Cow;

use super::centred::{Centred, Sample};
use super::columns::{BLOCK, Columns};
use super::{Frames, PitchFrame, pitch, power};
use crate::front_end::N_MELS;
use crate::simd::doubles::DOUBLES;
use crate::simd::lanes::Lanes;
use crate::simd::{Isa, Kernel};

/// Tables of the analysis.
#[derive(Clone)]
pub(super) struct Analysis {
    isa: Isa,
    power: power::MelAnalysis,
    pitch: pitch::Tracker,
}

/// Buffers for a block of frames.
struct Buffers {
    columns: Columns,
    power: power::Buffers,
    pitch: pitch::Buffers,
}

impl Analysis {
    pub(super) fn new(isa: Isa) -> Self {
        Self {
            isa,
            power: power::MelAnalysis::new(),
            pitch: pitch::Tracker::new(isa),
        }
    }

    /// Returns the tables of the pitch analysis: the window and its autocorrelation.
    #[cfg(feature = "cuda")]
    pub(super) fn pitch_tables(&self) -> [&[f64]; 2] {
        self.pitch.tables()
    }

    /// Analyses the frames of a signal.
    pub(super) fn run<T: Sample>(&self, x: &Centred<'_, T>) -> Frames<'static> {
        let frames = x.frames();
        let mut buffers = Buffers {
            columns: Columns::new(),
            power: power::Buffers::new(),
            pitch: pitch::Buffers::new(),
        };
        let mut power = vec![0.0; frames * N_MELS];
        let mut pitch = Vec::with_capacity(frames);
        for (block, power) in power.chunks_mut(BLOCK * N_MELS).enumerate() {
            buffers.columns.fill(x, block * BLOCK);
            self.isa.dispatch(AnalyseBlock {
                analysis: self,
                buffers: &mut buffers,
                power,
                pitch: &mut pitch,
            });
        }
        Frames {
            power: Cow::Owned(power),
            pitch,
        }
    }
}

/// Analyses the frames whose power `power` has room for.
struct AnalyseBlock<'a> {
    analysis: &'a Analysis,
    buffers: &'a mut Buffers,
    power: &'a mut [f64],
    pitch: &'a mut Vec<PitchFrame>,
}

impl Kernel for AnalyseBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes, const MR: usize>(self) {
        let (analysis, b) = (self.analysis, self.buffers);
        for (group, power) in self.power.chunks_mut(DOUBLES * N_MELS).enumerate() {
            let count = power.len() / N_MELS;
            (analysis.pitch).run::<V::Doubles>(&b.columns, group, count, &mut b.pitch, self.pitch);
            (analysis.power).run::<V::Doubles>(&b.columns, group, &mut b.power, power);
        }
    }
}
