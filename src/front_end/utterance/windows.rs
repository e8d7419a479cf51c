//! Windows for the window network.

use super::FRAME_VALUES;
use crate::front_end::windows::{FrameWindows, WINDOW_FRAMES};

/// Frames between the starts of consecutive windows (1 s).
pub const WINDOW_HOP: usize = 100;

/// Two-second windows of an utterance's frames, time by value; at least one.
///
/// Windows start every [`WINDOW_HOP`] frames. An additional last window ends with the recording if
/// half a second or more would otherwise remain. A recording shorter than a window is repeated
/// until it fills one.
pub type UtteranceWindows = FrameWindows<FRAME_VALUES>;

impl UtteranceWindows {
    /// Cuts `[frames][FRAME_VALUES]` into windows.
    #[must_use]
    pub fn of(frames: &[f32]) -> Self {
        let count = frames.len() / FRAME_VALUES;
        let starts = window_starts(count);
        let rows = starts.last().map_or(0, |last| last + WINDOW_FRAMES);
        let values = frames.iter().cycle().take(rows * FRAME_VALUES);
        Self::new(count, starts, values.copied().collect())
    }
}

/// Returns the first frame of each window of `frames` frames; empty if there are no frames.
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
