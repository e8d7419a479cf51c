//! The five networks on a device, from inputs that are there to answers.

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

/// Draws of a recording that are computed together, so that any number of them fits the device.
const DRAWS_AT_ONCE: u32 = 1024;

/// The networks. What they compute stays on the device until the answers are taken.
#[derive(Debug)]
pub struct Networks {
    by_window: bool,
    emotions: usize,
    means: Means,
    emotion_windows: CudaSession,
    age: CudaSession,
    gender: CudaSession,
    emotion_features: CudaSession,
    merge: CudaSession,
    /// The merge network, for single windows.
    merged_windows: CudaSession,
    /// What the first five sessions run, in their order.
    plans: [Arc<CudaPlan>; 5],
}

/// What they are inputs about some recordings.
#[derive(Debug)]
pub struct DeviceInputs<'a> {
    /// The windows of all.
    pub windows: Source<'a>,
    /// The first window of each, and behind them how many there are.
    pub firsts: Vec<u32>,
    /// The feature network's inputs, a row for each.
    pub whole: Vec<Source<'a>>,
    /// The inputs of the age and gender networks where they do not read windows, a row for each.
    pub descriptors: Option<Source<'a>>,
}

/// What was inputs, while the device computes the answers.
#[derive(Debug)]
pub struct PendingOutputs {
    firsts: Vec<u32>,
    /// Cells of a window's attention, if there is any.
    cells: Option<usize>,
    /// Of each recording, the draws that were computed before the last ones.
    merged: Vec<Vec<f32>>,
}

impl Networks {
    /// Brought to a device.
    ///
    /// # Errors
    /// When the device fails or has no memory left.
    pub fn new(driver: &Arc<dyn Driver>, model: &Model) -> Result<Self, DeviceRecognizerError> {
        let plan = |role| -> Result<Arc<CudaPlan>, DeviceRecognizerError> {
            let (graph, shapes) = graph_of(model, role)?;
            Ok(Arc::new(CudaPlan::new(driver, &graph, &shapes)?))
        };
        let plans = [
            plan(Role::EmotionWindows)?,
            plan(Role::Age)?,
            plan(Role::Gender)?,
            plan(Role::EmotionFeatures)?,
            plan(Role::Merge)?,
        ];
        let [emotion_windows, age, gender, emotion_features, merge] =
            [0, 1, 2, 3, 4].map(|i| CudaSession::new(&plans[i]));
        let info = model.info();
        Ok(Self {
            by_window: info.front_end == Some(FrontEndKind::Legacy2020),
            emotions: info.emotions.len(),
            means: Means::new(driver),
            emotion_windows,
            age,
            gender,
            emotion_features,
            merge,
            merged_windows: CudaSession::new(&plans[4]),
            plans,
        })
    }

    /// Whether the answers differ from draw to draw.
    pub fn is_stochastic(&self) -> bool {
        self.emotion_features.plan().is_stochastic()
    }

    /// Bytes of device memory that the sessions' buffers take.
    pub fn held_bytes(&self) -> usize {
        [
            &self.emotion_windows,
            &self.age,
            &self.gender,
            &self.emotion_features,
            &self.merge,
            &self.merged_windows,
        ]
        .into_iter()
        .map(CudaSession::held_bytes)
        .sum()
    }

    /// Gives the memory of what was inputs so far back.
    pub fn give_back(&mut self) {
        self.means = Means::new(&self.driver().clone());
        let sessions = [
            &mut self.emotion_windows,
            &mut self.age,
            &mut self.gender,
            &mut self.emotion_features,
            &mut self.merge,
        ];
        for (session, plan) in sessions.into_iter().zip(&self.plans) {
            *session = CudaSession::new(plan);
        }
        self.merged_windows = CudaSession::new(&self.plans[4]);
    }

    /// What they run on.
    pub fn driver(&self) -> &Arc<dyn Driver> {
        self.merge.plan().driver()
    }

    /// Shape of a window.
    pub fn window(&self) -> &[usize] {
        let mut inputs = self.emotion_windows.plan().inputs();
        inputs.next().map_or(&[], |(_, shape)| shape)
    }

    /// Gives the device everything that there is to do about some recordings. Where all draws are
    /// computed at once, this returns before any of it is done.
    ///
    /// # Errors
    /// When the device fails, or given dropout masks do not fit.
    pub fn give(
        &mut self,
        inputs: &DeviceInputs,
        dropout: &DropoutMode,
    ) -> Result<PendingOutputs, CudaRunError> {
        let recordings = inputs.firsts.len().saturating_sub(1);
        let windows = inputs.firsts.last().map_or(0, |&n| n as usize);
        let off = DropoutMode::Off;
        let seen = std::slice::from_ref(&inputs.windows);
        self.emotion_windows.run_on_device(0, seen, windows, &off)?;
        for session in [&mut self.age, &mut self.gender] {
            match &inputs.descriptors {
                Some(descriptors) if !self.by_window => {
                    let inputs = std::slice::from_ref(descriptors);
                    session.run_on_device(0, inputs, recordings, &off)?;
                }
                _ => session.run_on_device(0, seen, windows, &off)?,
            }
        }
        let mut given = PendingOutputs {
            firsts: inputs.firsts.clone(),
            cells: self.attend(windows)?,
            merged: vec![Vec::new(); recordings],
        };
        let is_stochastic = self.is_stochastic();
        match *dropout {
            DropoutMode::Draws { n, seed } if is_stochastic => {
                for first in (0..n.get()).step_by(DRAWS_AT_ONCE as usize) {
                    if first > 0 {
                        self.take_merged(&mut given.merged)?;
                    }
                    let count = DRAWS_AT_ONCE.min(n.get() - first);
                    self.run_draws(first, inputs, &DropoutMode::draws(count, seed))?;
                }
            }
            _ => self.run_draws(0, inputs, dropout)?,
        }
        if !self.by_window {
            self.merge_windows(&inputs.firsts, windows)?;
        }
        Ok(given)
    }

    /// Merges each window's weights with its segment's, from the features' last draw, as a segment's
    /// windows are merged.
    fn merge_windows(&mut self, firsts: &[u32], windows: usize) -> Result<(), CudaRunError> {
        let features = &self.emotion_features;
        let draws = features.rows() / firsts.len().saturating_sub(1).max(1);
        let last_rows = firsts.windows(2).enumerate().flat_map(|(segment, own)| {
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
        let mut inputs = vec![Source::Device(self.emotion_windows.on_device(0))];
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

    /// The answers to what was given last, which this waits for: one for each recording.
    ///
    /// # Errors
    /// When the device fails.
    pub fn take(&self, mut given: PendingOutputs) -> Result<Vec<NetworkOutputs>, CudaRunError> {
        let recordings = given.merged.len();
        let windows = given.firsts.last().map_or(0, |&n| n as usize);
        let looked = match self.by_window {
            true => self.output(&self.emotion_windows)?,
            false => self.output(&self.merged_windows)?,
        };
        let (age, gender) = (self.output(&self.age)?, self.output(&self.gender)?);
        let attention = match given.cells {
            None => Vec::new(),
            Some(cells) => {
                let mut weights = vec![0f64; windows * cells];
                let from = self.means.row_means();
                self.driver()
                    .download(Stream::A, from, 0, bytes_mut(&mut weights))?;
                weights
            }
        };
        self.take_merged(&mut given.merged)?;
        let answers = given.merged.into_iter().zip(given.firsts.windows(2));
        Ok(answers
            .enumerate()
            .map(|(recording, (merged, firsts))| {
                let own = firsts[0] as usize..firsts[1] as usize;
                let rows = |numbers: &[f32], rows: std::ops::Range<usize>, all: usize| {
                    let width = numbers.len() / all.max(1);
                    numbers[rows.start * width..rows.end * width].to_vec()
                };
                let estimate = |numbers: &[f32]| match self.by_window {
                    true => rows(numbers, own.clone(), windows),
                    false => rows(numbers, recording..recording + 1, recordings),
                };
                let attend = |window: usize| {
                    let cells = given.cells?;
                    let weights = attention[window * cells..][..cells].to_vec();
                    Some(attention::of_weights(weights))
                };
                NetworkOutputs {
                    windows: rows(&looked, own.clone(), windows),
                    attention: own.clone().map(attend).collect(),
                    age: estimate(&age),
                    gender: estimate(&gender),
                    merged,
                }
            })
            .collect())
    }

    /// Has the attention to each window computed, and tells its cells.
    fn attend(&mut self, windows: usize) -> Result<Option<usize>, DeviceError> {
        let session = &self.emotion_windows;
        let outputs = session.plan().outputs().enumerate();
        let pools: Vec<(usize, usize, usize)> = outputs
            .filter_map(|(k, (name, shape))| {
                attention::pool(name, shape).map(|[time, units]| (k, time, time * units))
            })
            .collect();
        let Some(&(_, cells, _)) = pools.last() else {
            return Ok(None);
        };
        let parts: Vec<RowParts> = pools
            .into_iter()
            .map(|(k, _, item)| RowParts {
                numbers: session.on_device(k),
                item,
            })
            .collect();
        self.means.of_rows(&parts, windows, cells)?;
        Ok(Some(cells))
    }

    /// Some draws of all recordings.
    fn run_draws(
        &mut self,
        first: u32,
        inputs: &DeviceInputs,
        mode: &DropoutMode,
    ) -> Result<(), CudaRunError> {
        let recordings = inputs.firsts.len().saturating_sub(1);
        let features = &mut self.emotion_features;
        features.run_on_device(first, &inputs.whole, recordings, mode)?;
        let draws = features.rows() / recordings.max(1);
        let looked = self.emotion_windows.on_device(0);
        let means = self
            .means
            .of_groups(looked, &inputs.firsts, self.emotions, draws)?;
        let mut inputs = vec![Source::Device(means)];
        let outputs = 0..features.plan().outputs().len();
        inputs.extend(outputs.map(|k| Source::Device(features.on_device(k))));
        self.merge
            .run_on_device(0, &inputs, features.rows(), &DropoutMode::Off)
    }

    /// Brings the draws that were computed last, behind each recording's earlier ones.
    fn take_merged(&self, merged: &mut [Vec<f32>]) -> Result<(), DeviceError> {
        let rows = self.output(&self.merge)?;
        let own = (rows.len() / merged.len().max(1)).max(1);
        for (merged, rows) in merged.iter_mut().zip(rows.chunks_exact(own)) {
            merged.extend_from_slice(rows);
        }
        Ok(())
    }

    /// A network's first output.
    fn output(&self, session: &CudaSession) -> Result<Vec<f32>, DeviceError> {
        let mut outputs = session.plan().outputs();
        let width: usize = outputs
            .next()
            .map_or(0, |(_, shape)| shape.iter().product());
        let mut numbers = vec![0f32; session.rows() * width];
        let Rows {
            buffer,
            offset,
            ready,
        } = session.on_device(0);
        self.driver()
            .download(ready, buffer, offset, bytes_mut(&mut numbers))?;
        Ok(numbers)
    }
}
