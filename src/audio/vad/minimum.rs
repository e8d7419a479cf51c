//! Follows the quietest a band has recently been: the level of the background.
//!
//! Method and constants: WebRTC `WebRtcVad_FindMinimum` (`vad_sp.c`).

/// How many of the smallest values are remembered.
const KEPT: usize = 16;
/// For how many judged frames a value is remembered.
const MAX_AGE: u8 = 100;
/// Stands for "no value"; above every log energy.
const EMPTY: i16 = 10_000;
/// The level before anything was heard.
const START: i16 = 1600;

/// The smallest of the latest log energies of one band, and their smoothed typical value.
#[derive(Debug, Clone)]
pub(super) struct Minimum {
    /// Rising.
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
    /// Takes the next log energy and gives the level of the background. `heard` counts the frames
    /// judged before this one.
    pub(super) fn update(&mut self, feature: i16, heard: u8) -> i16 {
        self.age();
        self.insert(feature);

        let typical = match heard {
            0 => return self.level,
            1 | 2 => self.values[0],
            _ => self.values[2],
        };
        // How much of the old level stays, Q15: down quickly (0.2), up slowly (0.99).
        let keep = if typical < self.level { 6553 } else { 32439 };
        let smoothed =
            (keep + 1) * i32::from(self.level) + (32767 - keep) * i32::from(typical) + (1 << 14);
        self.level = (smoothed >> 15) as i16;
        self.level
    }

    fn age(&mut self) {
        for i in 0..KEPT {
            if self.ages[i] == MAX_AGE {
                // The value that moves up here is not aged in this round, as in the C code.
                self.values.copy_within(i + 1.., i);
                self.ages.copy_within(i + 1.., i);
                self.values[KEPT - 1] = EMPTY;
                self.ages[KEPT - 1] = MAX_AGE + 1;
            } else {
                // An empty place gets older than the limit, but only until it is filled again:
                // every frame fills one, as no log energy reaches `EMPTY`.
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
