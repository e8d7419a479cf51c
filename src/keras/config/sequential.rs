//! Sequential models: each layer reads the previous one.

use serde_json::Value;

use super::{InputSpec, MAX_DEPTH, Model, Parser, Source, Step};
use super::{batch_shape, input, input_shape, record};
use crate::keras::error::Fault;

impl Parser {
    pub(super) fn sequential(&mut self, config: &Value, path: &str, depth: usize) -> Option<Model> {
        let found = self.chained(config, path, depth);
        self.or_record_fault(found).flatten()
    }

    /// Parses a sequential model. `None` if the input is unsupported; the fault is then recorded.
    fn chained(
        &mut self,
        config: &Value,
        path: &str,
        depth: usize,
    ) -> Result<Option<Model>, Fault> {
        let fail = |problem: String| Fault::model(path, problem);
        // Keras before 2.2.3 saved only the list of layers.
        let list = match config {
            Value::Array(list) => Some(list),
            other => other.get("layers").and_then(Value::as_array),
        };
        let list = list.ok_or_else(|| fail("its configuration has no list of layers".into()))?;
        let build_shape = config.get("build_input_shape").filter(|v| !v.is_null());
        let mut found: Option<InputSpec> = None;
        let mut is_known = true;
        let mut built_with_inputs = true;
        let mut layers = Vec::new();
        for (i, value) in list.iter().enumerate() {
            let (class, layer) = record(value).map_err(&fail)?;
            let name = layer
                .get("name")
                .and_then(Value::as_str)
                .map_or_else(|| format!("layer_{}", i + 1), str::to_owned);
            if class == "InputLayer" {
                if i > 0 {
                    return Err(fail(format!(
                        "the input layer {name} is not its first layer"
                    )));
                }
                found = self.or_record_fault(input(&name, layer, path, self.dialect));
                is_known = found.is_some();
                continue;
            }
            layers.push(self.spec(&name, class, layer, path, depth));
            if found.is_some() || !is_known {
                continue;
            }
            let stated = first_shape(layer);
            built_with_inputs = stated.is_some();
            let shape = stated.or(build_shape).ok_or_else(|| {
                fail("it was saved before it knew the shape of its input; call it on data (or model.build(shape)) and save it again".into())
            });
            let shape = shape.and_then(|shape| input_shape(shape).map_err(&fail));
            let input = shape.map(|shape| InputSpec {
                name: format!("{name}_input"),
                shape,
            });
            found = self.or_record_fault(input);
            is_known = found.is_some();
        }
        if !is_known {
            return Ok(None);
        }
        let input = found.ok_or_else(|| fail("it has no layers".into()))?;
        let before = |n: usize| match n.checked_sub(1) {
            None => Source::Input(0),
            Some(step) => Source::Step { step, tensor: 0 },
        };
        let steps = (0..layers.len())
            .map(|layer| Step {
                layer,
                repetition: 0,
                inputs: vec![before(layer)],
                masks: Vec::new(),
                training: None,
            })
            .collect();
        let output = layers.last().map_or(&input.name, |l| &l.name).clone();
        Ok(Some(Model {
            name: config.get("name").and_then(Value::as_str).map(Into::into),
            outputs: vec![(output, before(layers.len()))],
            inputs: vec![input],
            layers,
            steps,
            built_with_inputs,
        }))
    }
}

/// Returns the input shape that the first layer of a Sequential states. The first layer may be a
/// model or a wrapper.
fn first_shape(mut layer: &Value) -> Option<&Value> {
    for _ in 0..MAX_DEPTH {
        if let Some(shape) = batch_shape(layer) {
            return Some(shape);
        }
        let list = match layer {
            Value::Array(list) => list,
            other => other.get("layers")?.as_array()?,
        };
        layer = list.first()?.get("config")?;
    }
    None
}
