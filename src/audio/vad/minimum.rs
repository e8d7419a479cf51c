//! Background level of a band, tracked from its recent minima.
//!
//! Method and constants: WebRTC `WebRtcVad_FindMinimum` (`vad_sp.c`).

/// Number of smallest values that are stored.
const KEPT: usize = 16;
/// Maximum age of a stored value, in classified frames.
const MAX_AGE: u8 = 100;
/// Sentinel for an unused entry, above every log energy.
const EMPTY: i16 = 10_000;
/// Initial background level.
const START: i16 = 1600;

/// The smallest recent log energies of one band, and their smoothed level.
#[derive(Debug, Clone)]
pub(super) struct Minimum {
    /// Ascending.
    values: [i16; KEPT],
    ages: [u8; KEPT],
    level: i16,
}

impl Default for Minimum {
    fn default() -> Self {
        Self {
            values: [EMPTY; KEPT],
            ages: [0; KEPT],
            level: START,
        }
    }
}

impl Minimum {
    /// Adds the next log energy and returns the background level. `frame` is the number of frames
    /// classified before this one.
    pub(super) fn update(&mut self, feature: i16, frame: u8) -> i16 {
        self.age();
        self.insert(feature);

        let typical = match frame {
            0 => return self.level,
            1 | 2 => self.values[0],
            _ => self.values[2],
        };
        // Smoothing factor in Q15: the level falls quickly (0.2) and rises slowly (0.99).
        let keep = if typical < self.level { 6553 } else { 32439 };
        let smoothed =
            (keep + 1) * i32::from(self.level) + (32767 - keep) * i32::from(typical) + (1 << 14);
        self.level = (smoothed >> 15) as i16;
        self.level
    }

    fn age(&mut self) {
        for i in 0..KEPT {
            if self.ages[i] == MAX_AGE {
                // The value that moves up to this index is not aged in this pass, as in the C code.
                self.values.copy_within(i + 1.., i);
                self.ages.copy_within(i + 1.., i);
                self.values[KEPT - 1] = EMPTY;
                self.ages[KEPT - 1] = MAX_AGE + 1;
            } else {
                // An unused entry exceeds the maximum age only until the next insertion: every
                // frame fills one, since no log energy reaches `EMPTY`.
                self.ages[i] += 1;
            }
        }
    }

    fn insert(&mut self, feature: i16) {
        let place = self.values.partition_point(|&value| value <= feature);
        if place < KEPT {
            self.values.copy_within(place..KEPT - 1, place + 1);
            self.ages.copy_within(place..KEPT - 1, place + 1);
            self.values[place] = feature;
            self.ages[place] = 1;
        }
    }
}
