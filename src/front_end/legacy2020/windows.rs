//! Normalised spectrogram, and its windows for the emotion, age and gender networks.

use super::{MAX_FRAMES, WINDOW_STEP};
use crate::front_end::windows::{FrameWindows, WINDOW_FRAMES};
use crate::front_end::{FeatureError, Mel, N_MELS, pairwise};

/// Number of windows of a recording longer than [`MAX_FRAMES`].
const MAX_WINDOWS: usize = MAX_FRAMES / WINDOW_STEP - 1;

/// First 15 s of a spectrogram, with mean 0 and deviation 1 over the whole recording.
#[derive(Debug, Clone, PartialEq)]
pub struct NormalizedMel {
    /// Number of frames of the recording, including those beyond [`MAX_FRAMES`].
    frames: usize,
    data: Vec<f32>,
}

/// Normalises by the mean and population deviation over all bands and frames of `mel`, then cuts or
/// zero-pads to [`MAX_FRAMES`] frames. Computed in double precision in numpy's order of operations,
/// and rounded to single precision at the end.
///
/// # Errors
/// [`FeatureError::Constant`] if all values are equal (digital silence).
pub fn normalize(mel: &Mel) -> Result<NormalizedMel, FeatureError> {
    if let Some(value) = pairwise::constant(mel.data()) {
        return Err(FeatureError::Constant { value });
    }
    let (mean, deviation) = pairwise::mean_and_deviation(mel.data());
    if deviation == 0.0 {
        return Err(FeatureError::Constant { value: mean });
    }
    let mut data = vec![0.0; N_MELS * MAX_FRAMES];
    let bands = mel.data().chunks_exact(mel.frames());
    for (out, band) in data.chunks_exact_mut(MAX_FRAMES).zip(bands) {
        for (out, s) in out.iter_mut().zip(band) {
            *out = ((s - mean) / deviation) as f32;
        }
    }
    Ok(NormalizedMel {
        frames: mel.frames(),
        data,
    })
}

impl NormalizedMel {
    /// Returns all values, `[N_MELS][MAX_FRAMES]`.
    #[must_use]
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// Cuts the spectrogram into windows.
    #[must_use]
    pub fn windows(&self) -> Windows {
        let starts = window_starts(self.frames);
        let rows = starts.last().map_or(0, |last| last + WINDOW_FRAMES);
        let mut frames = vec![0.0; rows * N_MELS];
        for (band, values) in self.data.chunks_exact(MAX_FRAMES).enumerate() {
            for (row, &value) in frames.chunks_exact_mut(N_MELS).zip(values) {
                row[band] = value;
            }
        }
        Windows::new(self.frames, starts, frames)
    }
}

/// Two-second windows of a [`NormalizedMel`], time by mel band; 1 to 14 of them.
pub type Windows = FrameWindows<N_MELS>;

/// Returns the first frame of each window of a recording of `frames` frames.
///
/// There is one window per full second after the first, and at least one. If the last window can
/// end with the recording by moving back at most half a second, it does; a longer remainder is
/// ignored.
#[must_use]
pub fn window_starts(frames: usize) -> Vec<usize> {
    if frames < WINDOW_FRAMES {
        return vec![0];
    }
    if frames > MAX_FRAMES {
        return (0..MAX_WINDOWS).map(|i| i * WINDOW_STEP).collect();
    }
    let seconds = frames as f64 / WINDOW_STEP as f64;
    let rounded = seconds.round_ties_even();
    let mut starts: Vec<usize> = (0..rounded as usize - 1).map(|i| i * WINDOW_STEP).collect();
    if rounded >= seconds {
        // Floating point is intended: 5.86 - 6 is slightly above -0.14, so the system of 2020 moves
        // that window by 13 frames, not 14.
        let back = ((rounded - seconds) * WINDOW_STEP as f64).trunc() as usize;
        if let Some(last) = starts.last_mut() {
            *last -= back;
        }
    }
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_starts_at_the_corners() {
        let hundreds = |k: usize| (0..k).map(|i| i * 100).collect::<Vec<_>>();
        for (frames, expected) in [
            (1, vec![0]),
            (199, vec![0]),
            (200, vec![0]),
            (250, vec![0]),
            (251, vec![0, 51]),
            (300, vec![0, 100]),
            (350, vec![0, 100, 150]),
            (351, vec![0, 100, 151]),
            (586, vec![0, 100, 200, 300, 387]),
            (1450, hundreds(13)),
            (1500, hundreds(14)),
            (1501, hundreds(14)),
            (360_000, hundreds(14)),
        ] {
            assert_eq!(window_starts(frames), expected, "{frames} frames");
        }
    }

    #[test]
    fn a_constant_spectrogram_is_an_error() {
        for value in [0.0, 0.1] {
            let mel = Mel::from_bands(7, vec![value; N_MELS * 7]).unwrap();
            assert_eq!(normalize(&mel), Err(FeatureError::Constant { value }));
        }
    }
}
