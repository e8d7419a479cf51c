//! Recurrent layers.

use super::{KernelLaunch, PlainOp, StepValues, THREADS, activation_args};
use crate::nn::cuda::driver::{Arg, DeviceError};
use crate::nn::cuda::plan::Constant;
use crate::nn::cuda::sources::{KernelName, names};
use crate::nn::cuda::tile::SHARED;
use crate::nn::layers::Activation;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::nn::cuda) enum Cell {
    Lstm,
    GruResetAfter,
    GruResetBefore,
}

impl Cell {
    pub fn gates(self) -> usize {
        match self {
            Self::Lstm => 4,
            Self::GruResetAfter | Self::GruResetBefore => 3,
        }
    }
}

/// The recurrent part of a layer, without the products with its inputs.
#[derive(Debug)]
pub(in crate::nn::cuda) struct Recurrent {
    pub cell: Cell,
    pub time: usize,
    pub units: usize,
    pub activation: Activation,
    pub recurrent_activation: Activation,
    pub return_sequences: bool,
    pub go_backwards: bool,
    pub kernel: Constant,
    pub bias: Option<Constant>,
    /// Sequences per block of the general kernel.
    pub group: usize,
}

impl Recurrent {
    /// Elements of state per sequence in the general kernel.
    pub fn state(&self) -> usize {
        (self.cell.gates() + 3) * self.units
    }

    /// Arguments as the struct `Recurrence` in recurrent.cu.
    pub fn to_kernel_args(&self, items: u32) -> Vec<u32> {
        let mut words = vec![
            match self.cell {
                Cell::Lstm => 0,
                Cell::GruResetAfter => 1,
                Cell::GruResetBefore => 2,
            },
            items,
            self.time as u32,
            self.units as u32,
            u32::from(self.return_sequences),
            u32::from(self.go_backwards),
            self.group as u32,
        ];
        words.extend(activation_args(self.activation));
        words.extend(activation_args(self.recurrent_activation));
        words
    }

    /// Returns the specialised kernel that keeps the weights in registers, if there is one.
    fn kernel_in_registers(&self) -> Option<KernelName> {
        let usual = self.activation == Activation::Tanh
            && matches!(
                self.recurrent_activation,
                Activation::Sigmoid | Activation::HardSigmoid
            );
        match (self.cell, self.units) {
            (Cell::Lstm, 64) if usual => Some(names::LSTM_64),
            (Cell::Lstm, 32) if usual => Some(names::LSTM_32),
            (Cell::GruResetAfter, 48) if usual => Some(names::GRU_48),
            _ => None,
        }
    }
}

impl PlainOp for Recurrent {
    fn name(&self) -> &'static str {
        "recurrent"
    }

    fn launch(&self, step: &dyn StepValues) -> Result<KernelLaunch, DeviceError> {
        // Sequences per block (recurrent.cu).
        const GROUP: usize = 8;
        let items = step.items();
        let (memory, shared) = match step.second()? {
            Some(memory) => (memory, 0),
            None => {
                let state = self.group * self.state() * size_of::<f32>();
                (Arg::Pointer(0), state)
            }
        };
        let bias = self.bias.map(|bias| step.constant(bias)).transpose()?;
        // Struct `Arguments` in recurrent.cu.
        let given = Arg::structure(&[
            step.input(0)?,
            step.constant(self.kernel)?,
            bias.unwrap_or(Arg::Pointer(0)),
            step.output()?,
            memory,
            Arg::Words(self.to_kernel_args(items as u32)),
        ]);
        if let Some(kernel) = self.kernel_in_registers() {
            return Ok(KernelLaunch {
                kernel,
                blocks: items.div_ceil(GROUP),
                threads: self.cell.gates() * self.units,
                shared: 0,
                args: vec![given],
            });
        }
        debug_assert!(shared <= SHARED);
        let threads = (self.group * self.cell.gates() * self.units).next_multiple_of(32);
        Ok(KernelLaunch {
            kernel: names::RECURRENT,
            blocks: items.div_ceil(self.group),
            threads: threads.min(THREADS),
            shared,
            args: vec![given],
        })
    }
}
