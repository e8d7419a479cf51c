//! Concatenation of the recordings in one file.

use super::container;
use super::error::Fault;
use super::recording::{Defect, MAX_RECORDINGS, Options, Recording};
use super::tags;

/// Concatenated recordings of a file, decoded so far.
#[derive(Debug)]
pub struct Joiner {
    options: Options,
    joined: Option<Recording>,
    count: usize,
    failed: Option<Fault>,
    left_out: Option<String>,
}

impl Joiner {
    /// Creates an empty joiner.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            joined: None,
            count: 0,
            failed: None,
            left_out: None,
        }
    }

    /// Returns the options for the next recording. The sample limit applies to the sum of all
    /// recordings.
    pub fn options(&self) -> Options {
        let mut options = self.options;
        if let Some(joined) = &self.joined {
            let most = options.limit.frames(joined.sample_rate);
            options.limit.frames = most - joined.samples.len().min(most);
        }
        options
    }

    /// Decodes and appends the next recording; returns whether to continue with another.
    ///
    /// # Errors
    /// If the recordings together are too long.
    pub fn add(
        &mut self,
        decode: impl FnOnce() -> Result<Recording, Fault>,
    ) -> Result<bool, Fault> {
        self.count += 1;
        let Some(joined) = &mut self.joined else {
            match decode() {
                Ok(first) => self.joined = Some(first),
                Err(fault @ Fault::TooLong { .. }) => return Err(fault),
                Err(fault) => self.failed = self.failed.take().or(Some(fault)),
            }
            return Ok(self.count < MAX_RECORDINGS);
        };
        let place = joined.seconds();
        let after = |what: String| Some(format!("after {place:.2} s {what}"));
        if self.count > MAX_RECORDINGS {
            self.left_out = after(format!(
                "the file holds more than {MAX_RECORDINGS} recordings"
            ));
            return Ok(false);
        }
        match decode() {
            Ok(next) if next.sample_rate != joined.sample_rate => {
                self.left_out = after(format!(
                    "a recording of {} Hz follows one of {} Hz",
                    next.sample_rate, joined.sample_rate
                ));
                return Ok(false);
            }
            Ok(next) => append(joined, next),
            Err(Fault::TooLong { .. }) => {
                return Err(Fault::TooLong {
                    frames: self.options.limit.frames(joined.sample_rate),
                });
            }
            // A recording without samples is skipped: no audio is lost.
            Err(Fault::NoSamples) => {}
            Err(fault) => {
                self.left_out = after(format!("a recording follows that cannot be read: {fault}"));
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns the concatenated recording. `rest` are the bytes after the last one.
    ///
    /// # Errors
    /// If no recording could be decoded: the fault of the first.
    pub fn finish(self, rest: &[u8]) -> Result<Recording, Fault> {
        let Some(mut joined) = self.joined else {
            return Err(self.failed.unwrap_or(Fault::NoSamples));
        };
        let place = joined.seconds();
        let mut left_out = self.left_out;
        if let Some(fault) = self.failed {
            left_out = Some(format!(
                "before it lies a recording that cannot be read: {fault}"
            ));
        }
        if left_out.is_none() && container::recognise(tags::strip_leading(rest)).is_ok() {
            let kind = if self.count < MAX_RECORDINGS {
                "another kind"
            } else {
                "the same kind"
            };
            left_out = Some(format!("after {place:.2} s a recording of {kind} follows"));
        }
        joined
            .defects
            .extend(left_out.map(|what| Defect::LeftOut { what }));
        Ok(joined)
    }
}

fn append(joined: &mut Recording, next: Recording) {
    joined.samples.extend_from_slice(&next.samples);
    joined.clipped += next.clipped;
    joined.truncated |= next.truncated;
    joined.damaged_packets += next.damaged_packets;
    for defect in next.defects {
        let kind = std::mem::discriminant(&defect);
        let seen = joined.defects.iter().map(std::mem::discriminant);
        if !{ seen }.any(|seen| seen == kind) {
            joined.defects.push(defect);
        }
    }
}
