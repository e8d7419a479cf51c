//! Lambda layers.

use serde_json::Value;

use super::Leaf;
use crate::keras::lambda::{Function, is_empty, of_option};
use crate::keras::options::{Options, brief, dimension, missing, unsupported};
use crate::nn::layers::{Layer, SumAxis};

/// Parses a layer of class `Lambda`.
///
/// # Errors
/// If the function is not recognised, or has arguments, defaults or a closure.
pub fn lambda(o: &mut Options) -> Result<Leaf, String> {
    // Keras needs the stored output shape only to rebuild the function.
    o.ignore(&["output_shape", "output_shape_type", "output_shape_module"]);
    match o.text("function_type") {
        None | Some("lambda") => {}
        Some(kind) => {
            let found = o.value("function").unwrap_or(&Value::Null);
            return Err(format!(
                "its function is the {kind} {}, which the file names but does not hold",
                brief(found)
            ));
        }
    }
    if let Some(arguments) = o.value("arguments")
        && !is_empty(arguments)
    {
        o.problem(unsupported("arguments", arguments, "this is not supported"));
    }
    o.off("mask");
    let found = o.value("function").ok_or_else(|| missing("function"))?;
    let function = of_option(found)?;
    let leaf = Leaf::plain(move |call| {
        let inputs = call.ranks.len();
        let wanted = if let Function::SumAxis(_) = function {
            1
        } else {
            2
        };
        if inputs != wanted {
            return Err(format!(
                "its function takes {wanted} input(s), but it has {inputs}"
            ));
        }
        Ok(Some(match function {
            Function::SumAxis(axis) => Layer::SumAxis(SumAxis {
                axis: dimension(axis, call.ranks[0])?,
            }),
            Function::SpatialMultiply => Layer::SpatialMultiply,
            Function::ChannelMultiply => Layer::ChannelMultiply,
        }))
    });
    Ok(leaf.with_input_list())
}
