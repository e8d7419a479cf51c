//! Operations of Keras 3 that are no layers: `x + y` on symbolic tensors, `keras.ops.maximum(x, y)`.

use serde_json::{Map, Value};

use super::{Dialect, Leaf, plain};
use crate::keras::options::{Options, Problems};
use crate::nn::layers::MergeOp;

/// Parses an operation.
///
/// # Errors
/// If the operation or an option is unsupported.
pub fn parse(class: &str, config: &Map<String, Value>, dialect: Dialect) -> Result<Leaf, Problems> {
    let mut o = Options::new(config, dialect);
    let leaf = match class {
        "Add" => plain::merge(MergeOp::Add),
        "Subtract" => plain::merge(MergeOp::Subtract),
        "Multiply" => plain::merge(MergeOp::Multiply),
        "Maximum" => plain::merge(MergeOp::Maximum),
        "Minimum" => plain::merge(MergeOp::Minimum),
        "Concatenate" => plain::concatenate(&mut o),
        _ => {
            return Err(
                "this operation of keras.ops is not supported; put a layer in its place".into(),
            );
        }
    };
    // Operations align dimensions from the last, layers after the batch.
    let same_ranks = leaf.with_check(|call| match call.ranks.windows(2).all(|r| r[0] == r[1]) {
        true => Ok(()),
        false => Err(format!(
            "it combines values of {:?} dimensions without the batch; this is supported for layers only",
            call.ranks
        )),
    });
    o.finish(Ok(same_ranks))
}
