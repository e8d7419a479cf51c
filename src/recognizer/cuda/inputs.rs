//! Device buffers of network inputs that the CPU has computed.

use super::networks::{DeviceInputs, Networks, PendingOutputs};
use crate::nn::DropoutMode;
use crate::nn::cuda::{CudaRunError, DeviceError, Driver, Memory, Rows, Source, Stream, bytes};
use crate::recognizer::networks::NetworkInputs;

/// Alignment of the inputs of the emotion feature network, in floats.
const ALIGNMENT: usize = 64;

/// Device memory of the networks' inputs. The frames of each recording are uploaded once; the device
/// gathers the overlapping windows from them.
#[derive(Debug, Default)]
pub struct InputBuffers {
    memory: Memory,
    starts: Vec<u64>,
}

impl InputBuffers {
    /// Uploads the inputs of networks with windows of the shape `window`.
    ///
    /// # Errors
    /// The device fails or has too little memory.
    fn upload(
        &mut self,
        driver: &dyn Driver,
        window: &[usize],
        inputs: &[NetworkInputs],
    ) -> Result<DeviceInputs<'_>, DeviceError> {
        let row: usize = window.iter().skip(1).product();
        let count: usize = inputs.iter().map(|i| i.frames.len()).sum();
        self.memory.room::<f32>(driver, "frames", count)?;
        self.starts.clear();
        let mut first_windows = vec![0];
        let mut base = 0;
        for input in inputs {
            let frames = self.memory.get("frames");
            let at = base * size_of::<f32>();
            driver.upload(Stream::A, bytes(input.frames), frames, at)?;
            let starts = input.starts.iter();
            self.starts
                .extend(starts.map(|start| (base + start * row) as u64));
            first_windows.push(self.starts.len() as u32);
            base += input.frames.len();
        }
        let whole_inputs = inputs.first().map_or(0, |i| i.whole.len());
        let mut offsets = Vec::new();
        let mut end = 0usize;
        let mut whole = Vec::new();
        for k in 0..whole_inputs {
            whole.resize(end, 0.0f32);
            offsets.push(end * size_of::<f32>());
            whole.extend(inputs.iter().flat_map(|i| i.whole[k]));
            end = whole.len().next_multiple_of(ALIGNMENT);
        }
        let descriptors_at = end * size_of::<f32>();
        whole.resize(end, 0.0f32);
        whole.extend(inputs.iter().flat_map(|i| i.descriptors));
        self.memory.put(driver, Stream::A, "whole", &whole)?;
        let rows = |name, offset| Rows {
            buffer: self.memory.get(name),
            offset,
            ready: Stream::A,
        };
        Ok(DeviceInputs {
            windows: Source::Gathered {
                numbers: rows("frames", 0),
                count,
                starts: &self.starts,
            },
            first_windows,
            whole: offsets
                .into_iter()
                .map(|offset| Source::Device(rows("whole", offset)))
                .collect(),
            descriptors: Some(Source::Device(rows("whole", descriptors_at))),
        })
    }

    /// Uploads `inputs` and starts the networks on them; `None` for no inputs.
    ///
    /// # Errors
    /// The device fails, or the dropout masks do not fit.
    pub fn start(
        &mut self,
        networks: &mut Networks,
        inputs: &[NetworkInputs],
        dropout: &DropoutMode,
    ) -> Result<Option<PendingOutputs>, CudaRunError> {
        if inputs.is_empty() {
            return Ok(None);
        }
        let driver = networks.driver().clone();
        let window = networks.window().to_vec();
        let inputs = self.upload(&*driver, &window, inputs)?;
        Ok(Some(networks.start(&inputs, dropout)?))
    }
}
