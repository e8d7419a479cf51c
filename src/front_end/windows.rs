//! Windows of a recording's frames, the input of the window networks.

/// Frames per window (2 s).
pub const WINDOW_FRAMES: usize = 200;

/// Two-second windows of frames with `VALUES` values each. Windows overlap, so the frames are stored
/// once.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameWindows<const VALUES: usize> {
    frame_count: usize,
    starts: Vec<usize>,
    frames: Vec<f32>,
}

impl<const VALUES: usize> FrameWindows<VALUES> {
    /// Number of values in one window.
    pub const VALUES: usize = WINDOW_FRAMES * VALUES;

    /// Windows of a recording of `frame_count` frames; `frames` extends to the last window's end.
    pub(super) fn new(frame_count: usize, starts: Vec<usize>, frames: Vec<f32>) -> Self {
        Self {
            frame_count,
            starts,
            frames,
        }
    }

    /// Returns the first frame of each window, ascending, relative to the first analysed frame.
    #[must_use]
    pub fn starts(&self) -> &[usize] {
        &self.starts
    }

    /// Returns the number of frames of window `index` that come from the recording; padding follows
    /// them.
    ///
    /// # Panics
    /// If there is no such window.
    #[must_use]
    pub fn real_frames(&self, index: usize) -> usize {
        real_frames(self.frame_count, self.starts[index])
    }

    /// Returns the frames that the windows are cut from, `[frames][VALUES]`, up to the last window's
    /// end.
    #[must_use]
    pub fn frames(&self) -> &[f32] {
        &self.frames
    }

    /// Returns all windows as the networks' input batch, `[windows][WINDOW_FRAMES][VALUES]`.
    #[must_use]
    pub fn data(&self) -> Vec<f32> {
        self.iter().flatten().copied().collect()
    }

    /// Iterates over the windows, each `[WINDOW_FRAMES][VALUES]`.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.starts
            .iter()
            .map(|start| &self.frames[start * VALUES..][..Self::VALUES])
    }
}

/// Returns the number of frames in the window from frame `start` on that a recording of `frames`
/// frames fills.
pub(crate) fn real_frames(frames: usize, start: usize) -> usize {
    frames.saturating_sub(start).min(WINDOW_FRAMES)
}
