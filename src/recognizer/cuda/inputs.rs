//! Recordings that the processor has analysed, brought to the device.

use super::networks::{DeviceInputs, Networks, PendingOutputs};
use crate::nn::DropoutMode;
use crate::nn::cuda::{CudaRunError, DeviceError, Driver, Memory, Rows, Source, Stream, bytes};
use crate::recognizer::networks::NetworkInputs;

/// Inputs of the feature network begin at multiples of so many numbers.
const ALIGNMENT: usize = 64;

/// The device memory of questions. Each recording's frames of frames goes there once; the windows,
/// which overlap, are gathered there.
#[derive(Debug, Default)]
pub struct InputBuffers {
    memory: Memory,
    starts: Vec<u64>,
}

impl InputBuffers {
    /// What the networks, whose windows have this shape, are inputs.
    ///
    /// # Errors
    /// When the device fails or has no memory left.
    fn put(
        &mut self,
        driver: &dyn Driver,
        window: &[usize],
        questions: &[NetworkInputs],
    ) -> Result<DeviceInputs<'_>, DeviceError> {
        let row: usize = window.iter().skip(1).product();
        let count: usize = questions.iter().map(|q| q.frames.len()).sum();
        self.memory.room::<f32>(driver, "sheets", count)?;
        self.starts.clear();
        let mut firsts = vec![0];
        let mut base = 0;
        for question in questions {
            let sheets = self.memory.get("sheets");
            let at = base * size_of::<f32>();
            driver.upload(Stream::A, bytes(question.frames), sheets, at)?;
            let starts = question.starts.iter();
            self.starts
                .extend(starts.map(|start| (base + start * row) as u64));
            firsts.push(self.starts.len() as u32);
            base += question.frames.len();
        }
        let inputs = questions.first().map_or(0, |q| q.whole.len());
        let mut offsets = Vec::new();
        let mut end = 0usize;
        let mut whole = Vec::new();
        for k in 0..inputs {
            whole.resize(end, 0.0f32);
            offsets.push(end * size_of::<f32>());
            whole.extend(questions.iter().flat_map(|q| q.whole[k]));
            end = whole.len().next_multiple_of(ALIGNMENT);
        }
        let descriptors_at = end * size_of::<f32>();
        whole.resize(end, 0.0f32);
        whole.extend(questions.iter().flat_map(|q| q.descriptors));
        self.memory.put(driver, Stream::A, "whole", &whole)?;
        let rows = |name, offset| Rows {
            buffer: self.memory.get(name),
            offset,
            ready: Stream::A,
        };
        Ok(DeviceInputs {
            windows: Source::Gathered {
                numbers: rows("sheets", 0),
                count,
                starts: &self.starts,
            },
            firsts,
            whole: offsets
                .into_iter()
                .map(|offset| Source::Device(rows("whole", offset)))
                .collect(),
            descriptors: Some(Source::Device(rows("whole", descriptors_at))),
        })
    }

    /// Gives the networks some questions, if there are any.
    ///
    /// # Errors
    /// When the device fails, or given dropout masks do not fit.
    pub fn give(
        &mut self,
        networks: &mut Networks,
        questions: &[NetworkInputs],
        dropout: &DropoutMode,
    ) -> Result<Option<PendingOutputs>, CudaRunError> {
        if questions.is_empty() {
            return Ok(None);
        }
        let driver = networks.driver().clone();
        let window = networks.window().to_vec();
        let inputs = self.put(&*driver, &window, questions)?;
        Ok(Some(networks.give(&inputs, dropout)?))
    }
}
