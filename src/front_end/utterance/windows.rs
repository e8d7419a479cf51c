//! The windows that the window network reads.

use super::FRAME_VALUES;

/// Frames in one window (2 s).
pub const WINDOW_FRAMES: usize = 200;
/// Frames from one window to the next (1 s).
pub const WINDOW_HOP: usize = 100;

/// Two-second pieces of an utterance's frames, time by value; at least one.
///
/// One every [`WINDOW_HOP`] frames, and a last one that ends with the recording where half a
/// second or more would be left over. A recording that is shorter than a window is repeated from
/// its start until it fills one.
#[derive(Debug, Clone, PartialEq)]
pub struct UtteranceWindows {
    frames: usize,
    starts: Vec<usize>,
    sheet: Vec<f32>,
}

impl UtteranceWindows {
    /// Values in one window.
    pub const VALUES: usize = WINDOW_FRAMES * FRAME_VALUES;

    /// Cuts `[frames][FRAME_VALUES]`.
    #[must_use]
    pub fn of(frames: &[f32]) -> Self {
        let count = frames.len() / FRAME_VALUES;
        let starts = window_starts(count);
        let rows = starts.last().map_or(0, |last| last + WINDOW_FRAMES);
        let values = frames.iter().cycle().take(rows * FRAME_VALUES);
        Self {
            frames: count,
            starts,
            sheet: values.copied().collect(),
        }
    }

    /// First frame of each window, ascending, counted from the first kept frame.
    #[must_use]
    pub fn starts(&self) -> &[usize] {
        &self.starts
    }

    /// How many frames of window `index` are the recording's own; the others, at its end, repeat
    /// them.
    ///
    /// # Panics
    /// Where there is no such window.
    #[must_use]
    pub fn real_frames(&self, index: usize) -> usize {
        (self.frames - self.starts[index]).min(WINDOW_FRAMES)
    }

    /// The frames that the windows are cut from, `[frames][FRAME_VALUES]`, up to the last window's
    /// end.
    #[must_use]
    pub fn sheet(&self) -> &[f32] {
        &self.sheet
    }

    /// All windows, `[windows][WINDOW_FRAMES][FRAME_VALUES]`: the batch that the network takes.
    #[must_use]
    pub fn data(&self) -> Vec<f32> {
        self.iter().flatten().copied().collect()
    }

    /// The windows one by one, each `[WINDOW_FRAMES][FRAME_VALUES]`.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.starts
            .iter()
            .map(|start| &self.sheet[start * FRAME_VALUES..][..Self::VALUES])
    }
}

/// Where the windows of `frames` frames start; none where there are no frames.
fn window_starts(frames: usize) -> Vec<usize> {
    if frames == 0 {
        return Vec::new();
    }
    let Some(last) = frames.checked_sub(WINDOW_FRAMES) else {
        return vec![0];
    };
    let mut starts: Vec<usize> = (0..=last).step_by(WINDOW_HOP).collect();
    if last % WINDOW_HOP >= WINDOW_HOP / 2 {
        starts.push(last);
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_starts_at_the_corners() {
        for (frames, expected) in [
            (0, vec![]),
            (1, vec![0]),
            (199, vec![0]),
            (200, vec![0]),
            (249, vec![0]),
            (250, vec![0, 50]),
            (300, vec![0, 100]),
            (349, vec![0, 100]),
            (350, vec![0, 100, 150]),
            (399, vec![0, 100, 199]),
            (400, vec![0, 100, 200]),
        ] {
            assert_eq!(window_starts(frames), expected, "{frames} frames");
        }
    }

    #[test]
    fn a_short_recording_is_repeated() {
        let frames: Vec<f32> = (0..30 * FRAME_VALUES).map(|i| i as f32).collect();
        let windows = UtteranceWindows::of(&frames);
        assert_eq!(windows.real_frames(0), 30);
        assert_eq!(windows.data().len(), UtteranceWindows::VALUES);
        for (t, row) in windows.data().chunks_exact(FRAME_VALUES).enumerate() {
            assert_eq!(row, &frames[t % 30 * FRAME_VALUES..][..FRAME_VALUES], "{t}");
        }
    }
}
