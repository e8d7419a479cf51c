//! Recordings whose networks run on a device.

use std::sync::{Arc, Mutex};

use super::{Batch, Outcome, in_order};
use crate::nn::cuda::Driver;
use crate::recognizer::{Analysed, DeviceRecognizerError, OnDevice};
use crate::report::inputs::Input;
use crate::report::{is_finite, not_finite};

/// The networks on a device, for one run at a time.
pub type Shared<'r> = Mutex<OnDevice<'r>>;

/// Recordings, and numbers that they hold together (256 MiB), that the networks are asked about
/// together at most.
const RECORDINGS: usize = 256;
const SAMPLES: usize = 1 << 26;

impl<'r> Batch<'r> {
    /// Lets the networks run on a device; the threads analyse the recordings for it. Answers are
    /// the same up to the rounding of sums.
    ///
    /// # Errors
    /// When the device fails or has no memory left for the networks.
    pub fn on_device(mut self, driver: &Arc<dyn Driver>) -> Result<Self, DeviceRecognizerError> {
        self.device = Some(Mutex::new(self.recognizer.on_device(driver)?));
        Ok(self)
    }

    /// As [`Batch::run`]; while the device works the threads analyse what comes next.
    pub(super) fn run_on<E: Send>(
        &self,
        device: &Shared<'r>,
        inputs: &[Input],
        mut each: impl FnMut(&Input, Outcome) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut device = device.lock().unwrap_or_else(|e| e.into_inner());
        let analyse = |input: &Input| {
            let recording = input.read().map_err(|e| e.to_string())?;
            let analysed = self.recognizer.analyse(recording, input.subject());
            analysed.map_err(|e| e.to_string())
        };
        let mut waiting: Vec<Result<Analysed, String>> = Vec::new();
        let mut samples = 0;
        let mut done = 0;
        let mut conclude = |waiting: &mut Vec<Result<Analysed, String>>| {
            let inputs = &inputs[done..][..waiting.len()];
            done += waiting.len();
            let outcomes = self.outcomes(&mut device, inputs, std::mem::take(waiting));
            let mut pairs = inputs.iter().zip(outcomes);
            pairs.try_for_each(|(input, outcome)| each(input, outcome))
        };
        in_order(
            &self.pool,
            inputs,
            || (),
            |(), input| analyse(input),
            |_, analysed| {
                samples += analysed.as_ref().map_or(0, Analysed::samples);
                waiting.push(analysed);
                if waiting.len() < RECORDINGS && samples < SAMPLES {
                    return Ok(());
                }
                samples = 0;
                conclude(&mut waiting)
            },
        )?;
        conclude(&mut waiting)
    }

    fn outcomes(
        &self,
        device: &mut OnDevice<'r>,
        inputs: &[Input],
        analysed: Vec<Result<Analysed, String>>,
    ) -> Vec<Outcome> {
        let good: Vec<(&Analysed, &str)> = analysed
            .iter()
            .zip(inputs)
            .filter_map(|(analysed, input)| Some((analysed.as_ref().ok()?, input.subject())))
            .collect();
        let mut concluded = device.conclude(&good, &self.dropout).map(Vec::into_iter);
        analysed
            .into_iter()
            .zip(inputs)
            .map(|(analysed, input)| {
                analysed?;
                let subject = input.subject();
                let answer = match &mut concluded {
                    Ok(answers) => answers.next().expect("an answer for each that is good"),
                    Err(e) => return Err(format!("{subject}: {e}")),
                };
                match answer {
                    Ok(prediction) if is_finite(&prediction) => Ok(prediction),
                    Ok(_) => Err(not_finite(subject)),
                    Err(error) => Err(error.to_string()),
                }
            })
            .collect()
    }
}
