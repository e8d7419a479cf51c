//! Bundles with an invalid document.

use maeum::nn::layers::{Activation, Dense, Layer};
use serde_json::{Value, json};

use super::models::{Builder, SINGLE, SPEECH, edited, load, single};

/// Each edit of [`single`]'s document must be refused with a message that contains this text.
#[test]
fn inconsistent_documents_are_refused() {
    const MAX: u64 = usize::MAX as u64;
    type Case = (&'static str, &'static str, Value, &'static str);
    let cases: Vec<Case> = vec![
        (
            "0/nodes/0/inputs/0",
            "cycle: itself",
            json!(2),
            "reads value 2",
        ),
        (
            "0/nodes/0/inputs/0",
            "a later value",
            json!(9),
            "reads value 9",
        ),
        ("0/nodes/0/inputs/0", "no value", json!(MAX), "reads value"),
        ("0/nodes/0/inputs", "none", json!([]), "no input"),
        ("0/nodes/0/inputs", "too many", json!([0, 0]), "one input"),
        (
            "0/nodes/0/outer",
            "outer",
            json!(MAX),
            "belong to the batch",
        ),
        ("0/nodes/0/name", "taken", json!("node_3"), "used twice"),
        (
            "0/nodes/0/other",
            "unknown field",
            json!(1),
            "unknown field",
        ),
        (
            "0/nodes/0/layer",
            "unknown layer",
            json!("Teleport"),
            "unknown variant",
        ),
        (
            "0/nodes/0/layer/Conv/kernel",
            "no weight",
            json!(99),
            "weight 99",
        ),
        (
            "0/nodes/0/layer/Conv/kernel",
            "no weight",
            json!(MAX),
            "weight",
        ),
        ("0/nodes/0/layer/Conv/kernel", "another", json!(1), "shape"),
        (
            "0/nodes/0/layer/Conv/strides",
            "zero",
            json!([0, 1]),
            "strides",
        ),
        (
            "0/nodes/0/layer/Conv/strides",
            "huge",
            json!([MAX, 1]),
            "strides",
        ),
        (
            "0/nodes/0/layer/Conv/dilation",
            "huge",
            json!([MAX, 1]),
            "dilation",
        ),
        (
            "0/nodes/0/layer/Conv/dilation",
            "large",
            json!([1 << 26, 64]),
            "more than",
        ),
        (
            "0/nodes/0/layer/Conv/padding",
            "causal",
            json!("Causal"),
            "causal",
        ),
        (
            "0/nodes/0/layer/Conv/activation",
            "infinite",
            json!({"LeakyRelu": {"alpha": 1e300}}),
            "out of range",
        ),
        (
            "0/nodes/1/layer/BatchNorm/epsilon",
            "negative",
            json!(-1.0),
            "epsilon",
        ),
        ("0/nodes/2/layer/Pool/size", "zero", json!([0, 2]), "size"),
        (
            "0/nodes/2/layer/Pool/size",
            "huge",
            json!([MAX, MAX]),
            "size",
        ),
        (
            "0/nodes/3/layer/Upsample/factor",
            "zero",
            json!([0, 2]),
            "factor",
        ),
        (
            "0/nodes/3/layer/Upsample/factor",
            "huge",
            json!([MAX, 2]),
            "factor",
        ),
        (
            "0/nodes/3/layer/Upsample/factor",
            "large",
            json!([1 << 20, 1 << 20]),
            "more than",
        ),
        ("0/nodes/4/layer/ZeroPad/top", "huge", json!(MAX), "padding"),
        (
            "0/nodes/4/layer/ZeroPad/top",
            "large",
            json!(1u64 << 40),
            "more than",
        ),
        (
            "0/nodes/5/layer/Reshape/shape",
            "huge",
            json!([MAX, MAX]),
            "cannot become",
        ),
        (
            "0/nodes/5/layer/Reshape/shape",
            "zero",
            json!([0, null]),
            "cannot become",
        ),
        (
            "0/nodes/6/layer/Lstm/recurrent_kernel",
            "another",
            json!(0),
            "recurrent kernel",
        ),
        ("0/nodes/7/layer/Dropout/rate", "one", json!(1.0), "rate"),
        (
            "0/nodes/7/layer/Dropout/rate",
            "negative",
            json!(-0.5),
            "rate",
        ),
        ("0/nodes/8/layer/SumAxis/axis", "huge", json!(MAX), "axis"),
        ("0/nodes/9/layer/Concat/axis", "huge", json!(MAX), "axis"),
        (
            "0/nodes/10/layer/RepeatVector/count",
            "zero",
            json!(0),
            "empty",
        ),
        (
            "0/nodes/10/layer/RepeatVector/count",
            "huge",
            json!(MAX),
            "more than",
        ),
        (
            "0/nodes/11/layer/Permute/order",
            "no permutation",
            json!([0, 0]),
            "permutation",
        ),
        ("0/inputs/0/shape", "zero", json!([0, 6, 1]), "empty"),
        ("0/inputs/0/shape", "huge", json!([MAX, 6, 1]), "more than"),
        (
            "0/inputs/0/shape",
            "ranks",
            json!([1, 1, 1, 1, 1, 1, 1, 1, 1]),
            "dimensions",
        ),
        ("0/inputs", "none", json!([]), "at least one input"),
        ("0/outputs", "none", json!([]), "at least one input"),
        ("0/outputs/0/value", "no value", json!(MAX), "output"),
        (
            "0/outputs/0/name",
            "taken",
            json!("output_14"),
            "used twice",
        ),
        (
            "0/weights",
            "a missing tensor",
            json!(vec!["w"; 12]),
            "is missing",
        ),
        ("0/weights", "fewer", json!(["w"]), "weight"),
        ("0/self_test", "unused tensors", json!(null), "tensors"),
        (
            "0/self_test/input_shapes",
            "other",
            json!([[8, 6, 1], [13, 2]]),
            "other sizes",
        ),
        (
            "0/self_test/input_shapes",
            "huge",
            json!([[8, 6, 1], [MAX, 2]]),
            "more than",
        ),
        ("0/self_test/input_shapes", "none", json!([]), "inputs"),
        ("0/role", "unknown", json!("boss"), "unknown variant"),
        ("0/role", "speech", json!("age"), "missing"),
        ("0/provenance", "missing", json!(null), "metadata"),
    ];
    for (path, what, value, part) in cases {
        let bytes = edited(&SINGLE, |document| {
            let mut at = &mut document["networks"];
            for key in path.split('/') {
                at = match key.parse::<usize>() {
                    Ok(index) => &mut at[index],
                    Err(_) => &mut at[key],
                };
            }
            *at = value;
        });
        let error = load(&bytes).expect_err(&format!("{path}: {what}"));
        let text = error.to_string();
        assert!(text.contains(part), "{path}, {what}: {text}");
        assert!(text.contains("x.safetensors"), "{text}");
    }
}

#[test]
fn networks_that_do_not_belong_together_are_refused() {
    type Edit = fn(&mut Value);
    let cases: [(Edit, &str); 9] = [
        (
            |d| d["networks"][1]["role"] = json!("gender"),
            "two networks",
        ),
        (|d| d["networks"][1]["role"] = json!("network"), "only one"),
        (|d| d["networks"] = json!([]), "tensors"),
        (
            |d| {
                let one = d["networks"][0].clone();
                let networks = d["networks"].as_array_mut().unwrap();
                networks.extend([one.clone(), one]);
            },
            "7 networks",
        ),
        (
            |d| {
                let (a, b) = (
                    d["networks"][1]["role"].clone(),
                    d["networks"][2]["role"].clone(),
                );
                d["networks"][1]["role"] = b;
                d["networks"][2]["role"] = a;
            },
            "outputs of shapes",
        ),
        (
            |d| drop(d["info"]["emotions"].as_array_mut().unwrap().pop()),
            "outputs of shapes",
        ),
        (
            |d| d["info"]["genders"] = json!(["same", "same"]),
            "genders",
        ),
        (
            |d| d["info"]["age"]["valid"] = json!([80.0, 8.0]),
            "80 to 8",
        ),
        (|d| d["info"]["age"]["mean"] = json!("old"), "metadata"),
    ];
    for (edit, part) in cases {
        let text = load(&edited(&SPEECH, edit)).unwrap_err().to_string();
        assert!(
            text.contains(part) && text.contains("x.safetensors"),
            "{part}: {text}"
        );
    }
}

#[test]
fn graphs_that_would_take_all_memory_are_refused() {
    // Every value is allowed separately; their combination is not.
    let many = edited(&SINGLE, |d| {
        let nodes = d["networks"][0]["nodes"].as_array_mut().unwrap();
        for i in 0..16 {
            let pad = json!({"top": 1 << 20, "bottom": 0, "left": 10, "right": 9});
            let layer = json!({"ZeroPad": pad});
            let (name, input) = (format!("pad_{i}"), json!([0]));
            nodes.push(json!({"name": name, "layer": layer, "inputs": input, "outer": 0}));
        }
    });
    let text = load(&many).unwrap_err().to_string();
    assert!(text.contains("hold more than"), "{text}");
    // The inputs have 2^32 elements together, a count of 33 bits.
    let input: &[Option<usize>] = &[Some(1 << 14), Some(1 << 14)];
    let mut b = Builder::new("inputs", &[input; 16]);
    let output = b.node(Layer::Activation(Activation::Relu), &[0]);
    let error = b.build(&[output]).validate().unwrap_err();
    assert!(error.to_string().contains("hold more than"), "{error}");
    // A large weight that many nodes share is packed once per node.
    let mut b = Builder::new("wide", &[&[Some(1024)]]);
    let kernel = b.weight(&[1024, 1024]);
    let mut x = 0;
    for _ in 0..257 {
        let layer = Layer::Dense(Dense {
            kernel,
            bias: None,
            activation: Activation::Linear,
        });
        x = b.node(layer, &[x]);
    }
    let error = b.build(&[x]).validate().unwrap_err();
    assert!(error.to_string().contains("weights together"), "{error}");
}

#[test]
fn activations_with_infinite_parameters_are_refused() {
    let mut graph = single().networks()[0].graph.clone();
    let Layer::Conv(conv) = &mut graph.nodes[0].layer else {
        panic!("the first node is a convolution");
    };
    conv.activation = Activation::LeakyRelu {
        alpha: f32::INFINITY,
    };
    let error = graph.validate().unwrap_err();
    assert!(error.to_string().contains("not finite"), "{error}");
}
