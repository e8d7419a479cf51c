//! The self-test of a network: a stored input and output pair that every machine must reproduce.

use std::sync::Arc;

use super::dropout::{DropoutMode, philox4x32};
use super::graph::GraphError;
use super::network::Network;
use super::oracle;
use super::plan::Plan;
use super::session::{RunError, Session};

/// An input and the output that the network must compute from it with dropout off.
#[derive(Debug, Clone, PartialEq)]
pub struct SelfTest {
    /// One per graph input, without the batch.
    pub input_shapes: Vec<Vec<usize>>,
    /// One row of each input, row-major and finite.
    pub inputs: Vec<Vec<f32>>,
    /// The row of each graph output that the `f64` oracle computes from the inputs.
    pub outputs: Vec<Vec<f32>>,
}

/// Largest difference between computed and stored outputs, relative to the largest stored magnitude
/// (at least 1): the rounding error of `f32` after some ten thousand additions.
pub const SELF_TEST_TOLERANCE: f32 = 1e-5;

/// Why a self-test cannot be made, is unusable or fails.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SelfTestError {
    /// The graph does not accept the shapes.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The stored pair has other sizes than the graph, or the graph computes an element that is not finite.
    #[error("{0}")]
    Unusable(String),
    /// The engine refuses to run the graph.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The engine computes another output than the stored one.
    #[error("output {output} differs by {difference:e}, at most {limit:e} is allowed")]
    Differs {
        /// Name of the graph's output.
        output: String,
        /// The largest absolute difference; NaN if the engine computes an element that is not finite.
        difference: f32,
        /// [`SELF_TEST_TOLERANCE`], scaled to the output.
        limit: f32,
    },
}

impl<R> Network<R> {
    /// Stores a self-test: seeded inputs in [-1, 1), or [0, 6) if those give no finite outputs, and the outputs of the `f64` oracle. Open input
    /// dimensions are tried with a few lengths.
    ///
    /// # Errors
    /// The network accepts none of the lengths or computes an element that is not finite.
    pub fn make_self_test(&mut self) -> Result<(), SelfTestError> {
        const LENGTHS: [usize; 5] = [12, 16, 40, 200, 1];
        // Factor and summand of the inputs. As indices, those in [-1, 1) are all 0, which a mask may
        // exclude, and a mean of no elements is not finite.
        const RANGES: [(f32, f32); 2] = [(1.0, 0.0), (3.0, 3.0)];
        let mut failure = None;
        for length in LENGTHS {
            let shapes: Vec<Vec<usize>> = self
                .graph
                .inputs
                .iter()
                .map(|i| i.shape.iter().map(|d| d.unwrap_or(length)).collect())
                .collect();
            if let Err(e) = self.graph.infer_shapes(&shapes) {
                failure.get_or_insert(e);
                continue;
            }
            for (scale, shift) in RANGES {
                let mut counter = 0;
                let inputs: Vec<Vec<f32>> = shapes
                    .iter()
                    .map(|s| {
                        (0..s.iter().product())
                            .map(|_| uniform(&mut counter) * scale + shift)
                            .collect()
                    })
                    .collect();
                let as_f64: Vec<Vec<f64>> = inputs
                    .iter()
                    .map(|i| i.iter().map(|&x| f64::from(x)).collect())
                    .collect();
                let values = oracle::run(&self.graph, &shapes, &as_f64, 1, &DropoutMode::Off)
                    .map_err(|e| SelfTestError::Unusable(e.to_string()))?;
                let outputs: Vec<Vec<f32>> = (0..self.graph.outputs.len())
                    .filter_map(|k| values.output(k))
                    .map(|value| value.data.iter().map(|&x| x as f32).collect())
                    .collect();
                if outputs.iter().flatten().all(|x| x.is_finite()) {
                    self.self_test = Some(SelfTest {
                        input_shapes: shapes,
                        inputs,
                        outputs,
                    });
                    return Ok(());
                }
            }
            return Err(SelfTestError::Unusable(
                "it gives numbers that are not finite".into(),
            ));
        }
        Err(failure.expect("at least one length was tried").into())
    }

    /// Runs the stored input on the engine and compares the outputs.
    ///
    /// # Errors
    /// The stored pair is unusable, or an output differs by more than [`SELF_TEST_TOLERANCE`].
    pub fn replay_self_test(&self) -> Result<(), SelfTestError> {
        let Some(test) = &self.self_test else {
            return Ok(());
        };
        self.check_self_test()?;
        let plan = Arc::new(Plan::new(&self.graph, &test.input_shapes)?);
        let mut session = Session::new(&plan);
        let inputs: Vec<&[f32]> = test.inputs.iter().map(|i| &**i).collect();
        session.run(&inputs, 1, &DropoutMode::Off)?;
        for (k, wanted) in test.outputs.iter().enumerate() {
            let got = session.output(k);
            let scale = wanted.iter().fold(1.0f32, |m, x| m.max(x.abs()));
            let limit = SELF_TEST_TOLERANCE * scale;
            let difference = got
                .iter()
                .zip(wanted)
                .fold(0.0f32, |m, (g, w)| m.max((g - w).abs()));
            let finite = got.iter().all(|x| x.is_finite());
            if got.len() != wanted.len() || !finite || difference > limit {
                return Err(SelfTestError::Differs {
                    output: self.graph.outputs[k].name.clone(),
                    difference: if finite { difference } else { f32::NAN },
                    limit,
                });
            }
        }
        Ok(())
    }

    /// Checks that the stored pair has the graph's sizes and only finite elements. A comparison with an
    /// infinite element would accept any output.
    ///
    /// # Errors
    /// Sizes differ, or an element is not finite.
    pub fn check_self_test(&self) -> Result<(), SelfTestError> {
        let Some(test) = &self.self_test else {
            return Ok(());
        };
        let shapes = self.graph.infer_shapes(&test.input_shapes)?;
        let wanted_in = test
            .input_shapes
            .iter()
            .map(|s| s.iter().product::<usize>());
        let wanted_out = self
            .graph
            .outputs
            .iter()
            .map(|o| shapes[o.value.0].iter().product::<usize>());
        let lengths = |arrays: &[Vec<f32>]| arrays.iter().map(Vec::len).collect::<Vec<usize>>();
        if !wanted_in.eq(lengths(&test.inputs)) || !wanted_out.eq(lengths(&test.outputs)) {
            return Err(SelfTestError::Unusable(
                "its self-test has other sizes than the network".into(),
            ));
        }
        let mut numbers = test.inputs.iter().chain(&test.outputs).flatten();
        match numbers.all(|x| x.is_finite()) {
            true => Ok(()),
            false => Err(SelfTestError::Unusable(
                "its self-test holds a number that is not finite".into(),
            )),
        }
    }
}

/// Returns the next element of a fixed pseudo-random sequence in [-1, 1).
fn uniform(counter: &mut u32) -> f32 {
    let word = philox4x32([*counter, 0, 0, 0], [0; 2])[0];
    *counter += 1;
    (word >> 8) as f32 / 8_388_608.0 - 1.0
}
