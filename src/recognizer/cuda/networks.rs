//! The five networks that every speech model has, on a device.

use std::ops::Range;
use std::sync::Arc;

use super::DeviceRecognizerError;
use crate::model::FrontEndKind;
use crate::model::{Model, Role};
use crate::nn::DropoutMode;
use crate::nn::cuda::{
    CudaPlan, CudaRunError, CudaSession, DeviceError, Driver, Means, RowParts, Rows, Source,
    Stream, bytes_mut,
};
use crate::recognizer::attention;
use crate::recognizer::networks::{NetworkOutputs, graph_of};
use crate::recognizer::per_role::PerRole;

/// Largest number of draws of a recording in one run; bounds the device memory.
const DRAWS_PER_RUN: u32 = 1024;

/// Networks of a model. Intermediate results stay on the device.
#[derive(Debug)]
pub struct Networks {
    /// The age and gender networks read windows; otherwise they read the descriptors.
    by_window: bool,
    emotions: usize,
    means: Means,
    plans: PerRole<Arc<CudaPlan>>,
    sessions: PerRole<CudaSession>,
    /// Session of the merge network for single windows.
    merged_windows: CudaSession,
}

/// The networks' inputs for a batch of recordings or segments.
#[derive(Debug)]
pub struct DeviceInputs<'a> {
    /// Windows of all recordings.
    pub windows: Source<'a>,
    /// Index of each recording's first window, followed by the number of windows.
    pub first_windows: Vec<u32>,
    /// Inputs of [`Role::EmotionFeatures`], one row per recording.
    pub whole: Vec<Source<'a>>,
    /// Descriptors for age and gender networks that read no windows, one row per recording.
    pub descriptors: Option<Source<'a>>,
}

/// Outputs for a [`DeviceInputs`] that the device computes.
#[derive(Debug)]
pub struct PendingOutputs {
    first_windows: Vec<u32>,
    /// Time steps of a window's attention; `None` without an attention pool.
    time_steps: Option<usize>,
    /// Merged emotion weights of each recording, of all draws before the last run.
    merged: Vec<Vec<f32>>,
}

impl Networks {
    /// Plans the networks for a device.
    ///
    /// # Errors
    /// A network is missing, or the device fails or has too little memory.
    pub fn new(driver: &Arc<dyn Driver>, model: &Model) -> Result<Self, DeviceRecognizerError> {
        let plans = PerRole::try_new(|role| -> Result<Arc<CudaPlan>, DeviceRecognizerError> {
            let (graph, shapes) = graph_of(model, role)?;
            Ok(Arc::new(CudaPlan::new(driver, &graph, &shapes)?))
        })?;
        let info = model.info();
        Ok(Self {
            by_window: info.front_end == Some(FrontEndKind::Legacy2020),
            emotions: info.emotions.len(),
            means: Means::new(driver),
            sessions: plans.map(CudaSession::new),
            merged_windows: CudaSession::new(&plans[Role::Merge]),
            plans,
        })
    }

    /// Returns true if the outputs differ between draws.
    pub fn is_stochastic(&self) -> bool {
        self.plans[Role::EmotionFeatures].is_stochastic()
    }

    /// Bytes of device memory of all buffers.
    pub fn held_bytes(&self) -> usize {
        let sessions = self.sessions.iter().chain([&self.merged_windows]);
        sessions.map(CudaSession::held_bytes).sum()
    }

    /// Releases all buffers.
    pub fn release(&mut self) {
        self.means = Means::new(self.driver());
        self.sessions = self.plans.map(CudaSession::new);
        self.merged_windows = CudaSession::new(&self.plans[Role::Merge]);
    }

    /// Driver of the device.
    pub fn driver(&self) -> &Arc<dyn Driver> {
        self.plans[Role::Merge].driver()
    }

    /// Shape of a window.
    pub fn window(&self) -> &[usize] {
        let mut inputs = self.plans[Role::EmotionWindows].inputs();
        inputs.next().map_or(&[], |(_, shape)| shape)
    }

    /// Starts all networks on a batch. This returns before the device has computed anything, unless the
    /// draws need several runs.
    ///
    /// # Errors
    /// The device fails, or the dropout masks do not fit.
    pub fn start(
        &mut self,
        inputs: &DeviceInputs,
        dropout: &DropoutMode,
    ) -> Result<PendingOutputs, CudaRunError> {
        let recordings = inputs.first_windows.len().saturating_sub(1);
        let windows = inputs.first_windows.last().map_or(0, |&n| n as usize);
        let off = DropoutMode::Off;
        let window_input = std::slice::from_ref(&inputs.windows);
        let [emotion_windows, age, gender, ..] = self.sessions.each_mut();
        emotion_windows.run_on_device(0, window_input, windows, &off)?;
        for session in [age, gender] {
            match &inputs.descriptors {
                Some(descriptors) if !self.by_window => {
                    let inputs = std::slice::from_ref(descriptors);
                    session.run_on_device(0, inputs, recordings, &off)?;
                }
                _ => session.run_on_device(0, window_input, windows, &off)?,
            }
        }
        let mut pending = PendingOutputs {
            first_windows: inputs.first_windows.clone(),
            time_steps: self.start_attention(windows)?,
            merged: vec![Vec::new(); recordings],
        };
        let is_stochastic = self.is_stochastic();
        match *dropout {
            DropoutMode::Draws { n, seed } if is_stochastic => {
                for first in (0..n.get()).step_by(DRAWS_PER_RUN as usize) {
                    if first > 0 {
                        self.download_merged(&mut pending.merged)?;
                    }
                    let count = DRAWS_PER_RUN.min(n.get() - first);
                    self.start_draws(first, inputs, &DropoutMode::draws(count, seed))?;
                }
            }
            _ => self.start_draws(0, inputs, dropout)?,
        }
        if !self.by_window {
            self.start_window_merge(&inputs.first_windows, windows)?;
        }
        Ok(pending)
    }

    /// Starts the merge of each window's weights with its segment's features of the last draw.
    fn start_window_merge(
        &mut self,
        first_windows: &[u32],
        windows: usize,
    ) -> Result<(), CudaRunError> {
        let features = &self.sessions[Role::EmotionFeatures];
        let draws = features.rows() / first_windows.len().saturating_sub(1).max(1);
        let last_rows = first_windows
            .windows(2)
            .enumerate()
            .flat_map(|(segment, own)| {
                let row = (segment + 1) * draws - 1;
                std::iter::repeat_n(row, (own[1] - own[0]) as usize)
            });
        let last_rows: Vec<usize> = last_rows.collect();
        let widths = features
            .plan()
            .outputs()
            .map(|(_, shape)| shape.iter().product());
        let widths: Vec<usize> = widths.collect();
        let starts: Vec<Vec<u64>> = widths
            .iter()
            .map(|width| last_rows.iter().map(|row| (row * width) as u64).collect())
            .collect();
        let window_weights = self.sessions[Role::EmotionWindows].on_device(0);
        let mut inputs = vec![Source::Device(window_weights)];
        inputs.extend(
            starts
                .iter()
                .enumerate()
                .map(|(k, starts)| Source::Gathered {
                    numbers: features.on_device(k),
                    count: features.rows() * widths[k],
                    starts,
                }),
        );
        self.merged_windows
            .run_on_device(0, &inputs, windows, &DropoutMode::Off)
    }

    /// Waits for the outputs of the batch that was started last, and returns those of each recording.
    ///
    /// # Errors
    /// The device fails.
    pub fn finish(&self, mut pending: PendingOutputs) -> Result<Vec<NetworkOutputs>, CudaRunError> {
        let recordings = pending.merged.len();
        let windows = pending.first_windows.last().map_or(0, |&n| n as usize);
        let window_weights = match self.by_window {
            true => self.download(&self.sessions[Role::EmotionWindows])?,
            false => self.download(&self.merged_windows)?,
        };
        let age = self.download(&self.sessions[Role::Age])?;
        let gender = self.download(&self.sessions[Role::Gender])?;
        let attention = match pending.time_steps {
            None => Vec::new(),
            Some(time_steps) => {
                let mut weights = vec![0f64; windows * time_steps];
                let from = self.means.row_means();
                self.driver()
                    .download(Stream::A, from, 0, bytes_mut(&mut weights))?;
                weights
            }
        };
        self.download_merged(&mut pending.merged)?;
        let recordings_merged = pending.merged.into_iter();
        let outputs = recordings_merged.zip(pending.first_windows.windows(2));
        Ok(outputs
            .enumerate()
            .map(|(recording, (merged, first_windows))| {
                let own = first_windows[0] as usize..first_windows[1] as usize;
                let rows = |values: &[f32], rows: Range<usize>, all: usize| {
                    let width = values.len() / all.max(1);
                    values[rows.start * width..rows.end * width].to_vec()
                };
                let estimate = |values: &[f32]| match self.by_window {
                    true => rows(values, own.clone(), windows),
                    false => rows(values, recording..recording + 1, recordings),
                };
                let window_attention = |window: usize| {
                    let time_steps = pending.time_steps?;
                    let weights = attention[window * time_steps..][..time_steps].to_vec();
                    Some(attention::of_weights(weights))
                };
                NetworkOutputs {
                    windows: rows(&window_weights, own.clone(), windows),
                    attention: own.clone().map(window_attention).collect(),
                    age: estimate(&age),
                    gender: estimate(&gender),
                    merged,
                }
            })
            .collect())
    }

    /// Starts the mean of each window's attention over all units and pools, and returns the number of
    /// time steps; `None` without an attention pool.
    fn start_attention(&mut self, windows: usize) -> Result<Option<usize>, DeviceError> {
        let session = &self.sessions[Role::EmotionWindows];
        let outputs = session.plan().outputs().enumerate();
        let pools: Vec<(usize, usize, usize)> = outputs
            .filter_map(|(k, (name, shape))| {
                attention::pool(name, shape).map(|[time, units]| (k, time, time * units))
            })
            .collect();
        let Some(&(_, time_steps, _)) = pools.last() else {
            return Ok(None);
        };
        let parts: Vec<RowParts> = pools
            .into_iter()
            .map(|(k, _, item)| RowParts {
                numbers: session.on_device(k),
                item,
            })
            .collect();
        self.means.of_rows(&parts, windows, time_steps)?;
        Ok(Some(time_steps))
    }

    /// Starts a run of several draws for all recordings.
    fn start_draws(
        &mut self,
        first: u32,
        inputs: &DeviceInputs,
        mode: &DropoutMode,
    ) -> Result<(), CudaRunError> {
        let recordings = inputs.first_windows.len().saturating_sub(1);
        let [emotion_windows, _, _, features, merge] = self.sessions.each_mut();
        features.run_on_device(first, &inputs.whole, recordings, mode)?;
        let draws = features.rows() / recordings.max(1);
        let window_weights = emotion_windows.on_device(0);
        let means =
            self.means
                .of_groups(window_weights, &inputs.first_windows, self.emotions, draws)?;
        let mut inputs = vec![Source::Device(means)];
        let outputs = 0..features.plan().outputs().len();
        inputs.extend(outputs.map(|k| Source::Device(features.on_device(k))));
        merge.run_on_device(0, &inputs, features.rows(), &DropoutMode::Off)
    }

    /// Downloads the merged weights of the last run and appends them to each recording's earlier draws.
    fn download_merged(&self, merged: &mut [Vec<f32>]) -> Result<(), DeviceError> {
        let rows = self.download(&self.sessions[Role::Merge])?;
        let own = (rows.len() / merged.len().max(1)).max(1);
        for (merged, rows) in merged.iter_mut().zip(rows.chunks_exact(own)) {
            merged.extend_from_slice(rows);
        }
        Ok(())
    }

    /// Downloads the first output of a network.
    fn download(&self, session: &CudaSession) -> Result<Vec<f32>, DeviceError> {
        let mut outputs = session.plan().outputs();
        let width: usize = outputs
            .next()
            .map_or(0, |(_, shape)| shape.iter().product());
        let mut values = vec![0f32; session.rows() * width];
        let Rows {
            buffer,
            offset,
            ready,
        } = session.on_device(0);
        self.driver()
            .download(ready, buffer, offset, bytes_mut(&mut values))?;
        Ok(values)
    }
}
