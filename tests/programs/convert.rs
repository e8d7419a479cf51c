//! The tool `convert`, run from its command line on real Keras files.
#![cfg(feature = "convert")]

#[path = "convert/refusals.rs"]
mod refusals;
#[path = "convert/support.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};

use crate::common;
use maeum::audio::Resampling;
use maeum::model::{Role, bundle};
use maeum::nn::npz::Array;

use self::support::{
    FIVE, Place, arrays, assert_close, assert_outputs, bad, convert, golden, good, open, text,
};

#[test]
fn five_files_become_one_bundle_with_the_outputs_of_keras() {
    let place = Place::new();
    let bundle = place.at("five.safetensors");
    let said = good([text(&golden("five")), "-o", &bundle]);
    assert!(
        said.contains("self-test passed") && said.contains(&bundle),
        "{said}"
    );
    let model = bundle::load(Path::new(&bundle)).unwrap();
    assert!(said.contains(model.identity()));
    let roles: Vec<Role> = model.networks().iter().map(|n| n.role).collect();
    assert_eq!(roles, Role::SPEECH);

    let numbers = open(golden("five/golden.npz"));
    for (_, file, role) in FIVE {
        let input = place.npz("in.npz", &arrays(&numbers, &format!("{file}.in.")));
        let wanted = arrays(&numbers, &format!("{file}.out."));
        let out = place.at("out.npz");
        let from_bundle = ["--run", &input, "--role", role, &bundle];
        assert_outputs(&from_bundle, &out, &wanted, role);
        let first = fs::read(&out).unwrap();
        let h5 = golden(&format!("five/{file}.h5"));
        assert_outputs(&["--run", &input, text(&h5)], &out, &wanted, file);
        assert_eq!(first, fs::read(&out).unwrap(), "bundle and file differ");
    }
    assert!(good(["--self-test", &bundle]).contains("self-test passed"));
}

#[test]
fn converting_twice_gives_identical_bytes() {
    let place = Place::new();
    for input in [golden("five"), golden("lstm_any_length.h5")] {
        let (a, b) = (place.at("a"), place.at("b"));
        fs::write(&b, "what was there before is replaced").unwrap();
        for output in [&a, &b] {
            good([text(&input), "-o", output]);
        }
        assert_eq!(fs::read(&a).unwrap(), fs::read(&b).unwrap());
    }
    let left: Vec<_> = fs::read_dir(place.0.path()).unwrap().collect();
    assert_eq!(left.len(), 2, "nothing else is left behind: {left:?}");
}

#[test]
fn roles_come_from_names_in_any_case_or_from_flags() {
    let place = Place::new();
    let wanted = fs::read(place.five()).unwrap();
    let files: Vec<PathBuf> = FIVE.map(|(_, f, _)| golden(&format!("five/{f}.h5"))).into();
    let output = place.at("out.safetensors");
    let mut listed: Vec<&str> = files.iter().rev().map(|f| text(f)).collect();
    listed.extend(["-o", &output]);
    good(&listed);
    assert_eq!(fs::read(&output).unwrap(), wanted);

    let folder = place.at("shouting");
    fs::create_dir(&folder).unwrap();
    let mut flags: Vec<String> = vec!["-o".into(), output.clone()];
    for ((flag, name, _), file) in FIVE.iter().zip(&files) {
        fs::copy(file, Path::new(&folder).join(name.to_uppercase() + ".H5")).unwrap();
        let renamed = place.at(&format!("{}.h5", flag.len()));
        fs::copy(file, &renamed).unwrap();
        flags.extend([format!("--{flag}"), renamed]);
    }
    let shown = |bundle: &str| good(["--inspect", bundle]);
    good([&*folder, "-o", &output]);
    assert!(shown(&output).contains("from MODEL_AGE_CROP.H5"));
    good(&flags);
    assert!(shown(&output).contains("from 3.h5"), "{}", shown(&output));

    // A file given by flag takes precedence over one found in the folder.
    good([&*folder, "--age", text(&files[1]), "-o", &output]);
    let text = shown(&output);
    assert!(text.contains("from Model_Age_crop.h5") && text.contains("from MODEL_GENDER_CROP.H5"));
}

#[test]
fn the_way_to_16_khz_can_be_chosen() {
    let place = Place::new();
    let [unsaid, exact, fast] =
        ["a", "b", "c"].map(|name| place.at(&format!("{name}.safetensors")));
    let five = golden("five");
    good([text(&five), "-o", &unsaid]);
    good([text(&five), "-o", &exact, "--resampling", "exact"]);
    good([text(&five), "-o", &fast, "--resampling", "fast"]);
    assert_eq!(fs::read(&unsaid).unwrap(), fs::read(&exact).unwrap());
    for (bundle, way) in [(&exact, Resampling::Exact), (&fast, Resampling::Fast)] {
        assert_eq!(
            bundle::load(Path::new(bundle)).unwrap().info().resampling,
            way
        );
        let shown = good(["--inspect", bundle]);
        let said = format!("pre-processing reference_2020, {} resampling", way.name());
        assert!(shown.contains(&said), "{shown}");
    }
    let single = golden("five/Model_Emotion_Merge.h5");
    let out = place.at("single.safetensors");
    let asked = [text(&single), "-o", &out, "--resampling", "fast"];
    bad(1, &["resampling is fast", "speech model"], asked);
    assert!(!Path::new(&out).exists());
    bad(
        2,
        &["exact", "fast"],
        [text(&five), "-o", &out, "--resampling", "quick"],
    );
}

#[test]
fn inspecting_shows_layers_totals_roles_and_origin() {
    let place = Place::new();
    let bundle = place.five();
    let shown = good(["--inspect", &bundle]);
    let model = bundle::load(Path::new(&bundle)).unwrap();
    for part in [
        model.identity(),
        "reference_2020",
        "anger, disgust, fear, happiness, neutral, sadness, surprise",
        "male, female",
        "7.69647",
        "role emotion_features",
        "from Model_Emotion_Merge.h5, Keras 2.2.4, backend tensorflow",
        "stays on at inference",
        "weights of model_5/dense_5",
        "153 layers",
    ] {
        assert!(shown.contains(part), "no {part:?} in: {shown}");
    }
    for network in model.networks() {
        assert!(shown.contains(&network.provenance.sha256));
    }
    assert_eq!(shown.matches("stays on at inference").count(), 16);

    // Each shared weight counts once.
    let shown = good(["--inspect", text(&golden("five/Model_Emotion_Features.h5"))]);
    assert!(shown.contains("role emotion_features, by the file's name"));
    let total = shown
        .lines()
        .find(|l| l.trim().starts_with("total"))
        .unwrap();
    assert!(total.contains("14,808"), "{total}");

    let shown = good(["--inspect", text(&golden("lstm_any_length.h5"))]);
    assert!(shown.contains("[?, "), "{shown}");
    let total = shown
        .lines()
        .find(|l| l.trim().starts_with("total"))
        .unwrap();
    assert!(total.ends_with('?'), "{total}");
}

#[test]
fn any_single_file_converts_and_runs() {
    let place = Place::new();
    let bundle = place.at("one.safetensors");
    for name in [
        "multi_input_output",
        "lstm_any_length",
        "nested_model_shared",
        "subtract",
    ] {
        let h5 = golden(&format!("{name}.h5"));
        good([text(&h5), "-o", &bundle]);
        let model = bundle::load(Path::new(&bundle)).unwrap();
        assert_eq!(model.networks().len(), 1);
        assert_eq!(model.networks()[0].role, Role::Network);
        let numbers = open(h5.with_extension("npz"));
        let input = place.npz("in.npz", &arrays(&numbers, "in."));
        let wanted = arrays(&numbers, "out.");
        assert!(!wanted.is_empty());
        assert_outputs(
            &["--run", &input, &bundle],
            &place.at("out.npz"),
            &wanted,
            name,
        );
        good(["--self-test", &bundle]);
    }
    let said = good([text(&golden("five/Model_Age_crop.h5")), "-o", &bundle]);
    assert!(
        said.contains("note: ") && said.contains("all five"),
        "{said}"
    );
}

#[test]
fn weights_and_archives_convert_and_run() {
    let place = Place::new();
    let bundle = place.at("one.safetensors");
    for (file, architecture, npz) in [
        (
            "weights_in_order.h5",
            Some("weights_in_order.yaml"),
            "weights_in_order.npz",
        ),
        (
            "keras3/nested_weights.weights.h5",
            Some("keras3/nested_weights.json"),
            "keras3/nested.npz",
        ),
        ("keras3/recurrent.keras", None, "keras3/recurrent.npz"),
    ] {
        let (file, numbers) = (golden(file), open(golden(npz)));
        let architecture = architecture.map(golden);
        let with: Vec<&str> = architecture
            .iter()
            .flat_map(|a| ["--architecture", text(a)])
            .collect();
        good([&with[..], &[text(&file), "-o", &bundle]].concat());
        good(["--self-test", &bundle]);
        let input = place.npz("in.npz", &arrays(&numbers, "in."));
        let wanted = arrays(&numbers, "out.");
        let out = place.at("out.npz");
        assert_outputs(&["--run", &input, &bundle], &out, &wanted, text(&file));
        // Without a bundle, too.
        let run = [&["--run", &*input, text(&file)][..], &with].concat();
        assert_outputs(&run, &out, &wanted, text(&file));
        let said = good([&["--inspect", text(&file)][..], &with].concat());
        assert!(said.contains("Dense"), "{said}");
    }
    let weights = golden("weights_in_order.h5");
    let parts = [
        "weights_in_order.h5: it holds only weights",
        "conv2d: kernel [3, 3, 1, 3], bias [3]",
        "model.to_json()",
        "--architecture",
    ];
    for arguments in [["-o", &*bundle].as_slice(), &["--inspect"]] {
        bad(1, &parts, [&[text(&weights)][..], arguments].concat());
    }
    let (architecture, folder) = (golden("weights_in_order.yaml"), golden("five"));
    let both = [
        "--architecture",
        text(&architecture),
        text(&folder),
        "-o",
        &bundle,
    ];
    bad(2, &["not a folder"], both);
    let missing = [
        "--architecture",
        "missing.json",
        text(&weights),
        "-o",
        &bundle,
    ];
    bad(1, &["missing.json"], missing);
}

#[test]
fn onnx_models_are_written_from_keras_files_and_bundles() {
    let place = Place::new();
    let (first, second) = (place.at("first.onnx"), place.at("second.onnx"));
    let features = golden("arch_emotion_features.h5");
    let outcome = convert([text(&features), "--to", "onnx", "-o", &first]);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    assert!(outcome.out.contains("opset 17"), "{}", outcome.out);
    // The dropouts that stay on are named, here and in the model.
    let graph = maeum::keras::load(&features).unwrap().graph;
    let forced = graph
        .nodes
        .iter()
        .filter(|n| matches!(&n.layer, maeum::nn::Layer::Dropout(dropout) if dropout.is_active()));
    let names: Vec<&str> = forced.map(|n| &*n.name).collect();
    assert!(!names.is_empty());
    let note = format!("is off in the ONNX model: {}", names.join(", "));
    assert!(outcome.err.contains(&note), "{}", outcome.err);
    let bytes = fs::read(&first).unwrap();
    let holds = |part: &str| bytes.windows(part.len()).any(|w| w == part.as_bytes());
    for part in [
        "maeum",
        "arch_emotion_features.h5",
        "dropout_exported_as_off",
        &names.join(", "),
    ] {
        assert!(holds(part), "{part}");
    }
    // All weights are there, and little else.
    let numbers = 4 * graph.parameters();
    assert!((numbers..numbers + 65_536).contains(&bytes.len()));

    // A network of a bundle is that of its file.
    let bundle = place.five();
    let age = golden("five/Model_Age_crop.h5");
    good([text(&age), "--to", "onnx", "-o", &first]);
    good([&*bundle, "--to", "onnx", "--role", "age", "-o", &second]);
    assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());
    good([text(&age), "--to", "bundle", "-o", &second]);
    good(["--self-test", &second]);

    let weights = golden("weights_in_order.h5");
    let architecture = golden("weights_in_order.yaml");
    good([
        text(&weights),
        "--architecture",
        text(&architecture),
        "--to",
        "onnx",
        "-o",
        &second,
    ]);
}

#[test]
fn onnx_models_of_what_has_no_equivalent_are_refused() {
    let place = Place::new();
    let output = place.at("out.onnx");
    let copy = place.at("model.h5");
    fs::copy(golden("subtract.h5"), &copy).unwrap();
    let before = fs::read(&copy).unwrap();
    bad(
        1,
        &["model.h5", "never replaced"],
        [&*copy, "--to", "onnx", "-o", &copy],
    );
    assert_eq!(before, fs::read(&copy).unwrap());
    let bundle = place.five();
    bad(
        1,
        &["several networks", "--role"],
        [&*bundle, "--to", "onnx", "-o", &output],
    );
    bad(
        2,
        &["one network", "--age"],
        [&*copy, "--to", "onnx", "--age", &copy, "-o", &output],
    );
    bad(
        2,
        &["one network", "--role"],
        [text(&golden("five")), "--to", "onnx", "-o", &output],
    );
    bad(2, &["--output"], [&*copy, "--to", "onnx"]);
    bad(
        2,
        &["bundle", "onnx"],
        [&*copy, "--to", "tflite", "-o", &output],
    );
    bad(2, &["--role"], [&*copy, "--role", "age", "-o", &output]);
    let nowhere = place.at("nowhere/out.onnx");
    bad(
        1,
        &["nowhere/out.onnx", "folder"],
        [&*copy, "--to", "onnx", "-o", &nowhere],
    );
    assert!(!Path::new(&output).exists());
}

#[test]
fn draws_have_their_own_dimension_and_repeat_with_the_seed() {
    let place = Place::new();
    let bundle = place.five();
    let numbers = open(golden("five/golden.npz"));
    let input = place.npz("in.npz", &arrays(&numbers, "Model_Emotion_Features.in."));
    let run = |out: &str, more: &[&str]| -> Array {
        let out = place.at(out);
        let role = "emotion-features";
        let fixed = ["--run", &input, "--out", &out, "--role", role, &bundle];
        good(fixed.iter().chain(more));
        open(&out).read("output_total").unwrap()
    };
    let off = run("off.npz", &["--dropout", "off"]);
    assert_eq!(off.shape, [3, 7]);
    assert_eq!(off, run("default.npz", &[]));
    let draws = run("draws.npz", &["--dropout", "5", "--seed", "7"]);
    assert_eq!(draws.shape, [3, 5, 7]);
    assert_eq!(draws, run("again.npz", &["--dropout", "5", "--seed", "7"]));
    assert_ne!(draws, run("other.npz", &["--dropout", "5", "--seed", "8"]));
    let rows: Vec<&[f32]> = draws.data.chunks_exact(7).collect();
    assert!(rows.windows(2).all(|w| w[0] != w[1]), "draws must differ");
    let fewer = run("fewer.npz", &["--dropout", "2", "--seed", "7"]);
    assert_eq!(fewer.data[7..21], [rows[1], rows[5]].concat());

    // A network without forced dropout yields the same output for every draw, and reports that.
    let input = place.npz("in.npz", &arrays(&numbers, "Model_Emotion_Merge.in."));
    let out = place.at("merge.npz");
    let outcome = convert([
        "--run",
        &input,
        "--out",
        &out,
        "--role",
        "merge",
        &bundle,
        "--dropout",
        "2",
    ]);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    assert!(outcome.err.contains("all draws are equal"));
    let merged = open(&out).read("output_layer").unwrap();
    assert_eq!(merged.shape, [3, 2, 7]);
    for pair in merged.data.chunks_exact(14) {
        assert_eq!(pair[..7], pair[7..]);
    }
    let wanted = arrays(&numbers, "Model_Emotion_Merge.out.").remove(0).1;
    let first: Vec<f32> = merged
        .data
        .chunks_exact(14)
        .flat_map(|p| &p[..7])
        .copied()
        .collect();
    let first = Array {
        shape: vec![3, 7],
        data: first,
    };
    assert_close(&first, &wanted, "merge");
}

#[test]
fn arrays_of_any_type_and_layout_are_accepted() {
    use ndarray::{ArrayD, IxDyn, ShapeBuilder};
    let place = Place::new();
    let h5 = golden("five/Model_Age_crop.h5");
    let npz = |name: &str, write: &dyn Fn(&mut ndarray_npy::NpzWriter<fs::File>)| {
        let input = place.at(name);
        let mut writer = ndarray_npy::NpzWriter::new_compressed(fs::File::create(&input).unwrap());
        write(&mut writer);
        writer.finish().unwrap();
        let out = place.at("out.npz");
        good(["--run", &input, "--out", &out, text(&h5)]);
        open(&out).read("output_layer").unwrap()
    };
    let shape = [2, 200, 40, 1];
    let value = |i: &IxDyn| ((i[0] * 7 + i[1] * 3 + i[2]) % 5) as u8;
    let c = ArrayD::from_shape_fn(IxDyn(&shape), |i| value(&i));
    let mut fortran = ArrayD::zeros(IxDyn(&shape).f());
    fortran.assign(&c.mapv(f64::from));
    let wanted = npz("a.npz", &|w| {
        w.add_array("input_1", &c.mapv(f32::from)).unwrap()
    });
    assert_ne!(wanted.data[0], 0.0);
    assert_eq!(
        wanted,
        npz("b.npz", &|w| w.add_array("input_1", &c).unwrap())
    );
    assert_eq!(
        wanted,
        npz("c.npz", &|w| w.add_array("input_1", &fortran).unwrap())
    );
    assert_eq!(
        wanted,
        npz("d.npz", &|w| w
            .add_array("input_1", &c.mapv(i64::from))
            .unwrap())
    );
}

#[test]
fn the_models_of_2020_convert_and_compute_the_captured_outputs() {
    let Some(dir) = common::legacy2020_dir() else {
        return;
    };
    let place = Place::new();
    let bundle = place.at("reference.safetensors");
    good([text(&dir.join("models")), "-o", &bundle]);
    good(["--self-test", &bundle]);
    let shown = good(["--inspect", &bundle]);
    for role in Role::SPEECH {
        assert!(shown.contains(&format!("role {role}\n")), "{shown}");
    }
    let out = place.at("out.npz");
    let run = |role: &str, arrays: &[(String, Array)]| -> Array {
        let input = place.npz("in.npz", arrays);
        good(["--run", &input, "--out", &out, "--role", role, &bundle]);
        open(&out).read("output_layer").unwrap()
    };
    for name in common::all_recordings() {
        let golden = open(dir.join("golden").join(format!("{name}.npz")));
        let read = |key: &str| golden.read(key).unwrap();
        let mut crops = read("crops");
        crops.shape.push(1);
        let crops = [("input_1".to_owned(), crops)];
        for (role, key) in [
            ("emotion-windows", "emotion_crop"),
            ("age", "age_crop"),
            ("gender", "gender_crop"),
        ] {
            let wanted = read(&format!("{key}.output_layer"));
            assert_close(&run(role, &crops), &wanted, &format!("{name} {role}"));
        }
        // Inputs of the merge network: the mean over the windows, and the five outputs of the
        // feature network.
        let merged = read("merge_det.concatenate_1");
        let inputs: Vec<(String, Array)> = (0..6)
            .map(|i| {
                let data = merged.data[i * 7..][..7].to_vec();
                (
                    format!("input_{}", i + 1),
                    Array {
                        shape: vec![1, 7],
                        data,
                    },
                )
            })
            .collect();
        for (i, branch) in ["dct", "dst", "hist", "moments", "total"]
            .iter()
            .enumerate()
        {
            let wanted = read(&format!("features_det.output_{branch}"));
            assert_close(&inputs[i + 1].1, &wanted, branch);
        }
        let wanted = read("merge_det.output_layer");
        assert_close(&run("merge", &inputs), &wanted, name);
    }
}

#[test]
fn states_continue_a_run() {
    states_continue("stateful_second_call.h5", "stateful_second_call.npz");
}

#[test]
fn states_continue_a_run_of_a_keras_3_model() {
    states_continue("keras3/stateful.keras", "keras3/stateful.npz");
    states_continue("keras3/stateful_h5.h5", "keras3/stateful.npz");
}

fn states_continue(model: &str, numbers: &str) {
    let place = Place::new();
    let h5 = golden(model);
    let numbers = open(golden(numbers));
    let first = place.npz("first.npz", &arrays(&numbers, "in."));
    let second = place.npz("second.npz", &arrays(&numbers, "second.in."));
    let bundle = place.at("model.safetensors");
    good([text(&h5), "-o", &bundle]);
    let out = place.at("out.npz");
    for model in [text(&h5), &bundle] {
        let states = place.at("states.npz");
        let run = |input: &str, prefix: &str| {
            let options = ["--run", input, "--states", &states, model];
            assert_outputs(&options, &out, &arrays(&numbers, prefix), prefix);
        };
        run(&first, "out.");
        let kept = open(&states);
        let names: Vec<&str> = kept.names().collect();
        assert_eq!(
            names,
            [
                "bidirectional/forward.state0",
                "bidirectional/forward.state1",
                "bidirectional/backward.state0",
                "bidirectional/backward.state1",
                "lstm_1.state0",
                "lstm_1.state1",
                "gru.state0",
                "inner/simple_rnn.state0",
                "inner/gru_1.state0",
            ]
        );
        run(&second, "second.out.");
        // Without the file, a run starts from zeros again.
        fs::remove_file(&states).unwrap();
        run(&first, "out.");
        let again = open(&states);
        for name in names {
            assert_eq!(
                again.read(name).unwrap(),
                kept.read(name).unwrap(),
                "{name}"
            );
        }
        fs::remove_file(&states).unwrap();
    }
    // The option changes no output of the first run.
    let plain = place.at("plain.npz");
    let states = place.at("states.npz");
    good(["--run", &first, "--out", &plain, text(&h5)]);
    let continued = || {
        let options = ["--run", &first, "--out", &out, "--states", &states];
        good(options.into_iter().chain([text(&h5)]))
    };
    let message = continued();
    assert!(
        message.contains("states.npz, after a start from zeros\n"),
        "{message}"
    );
    assert_eq!(fs::read(&plain).unwrap(), fs::read(&out).unwrap());
    let message = continued();
    assert!(!message.contains("zeros"), "{message}");
    assert_ne!(fs::read(&plain).unwrap(), fs::read(&out).unwrap());
}

#[test]
fn states_that_do_not_fit_leave_all_files_as_they_are() {
    let place = Place::new();
    let copy = place.at("model.h5");
    fs::copy(golden("stateful_second_call.h5"), &copy).unwrap();
    let numbers = open(golden("stateful_second_call.npz"));
    let input = place.npz("in.npz", &arrays(&numbers, "in."));
    let states = place.at("states.npz");
    let out = place.at("out.npz");
    good(["--run", &input, "--out", &out, "--states", &states, &copy]);
    fs::remove_file(&out).unwrap();
    let kept = arrays(&open(&states), "");
    let check = |parts: &[&str], changed: &[(String, Array)]| {
        let states = place.npz("changed.npz", changed);
        let before = fs::read(&states).unwrap();
        bad(
            1,
            parts,
            ["--run", &input, "--out", &out, "--states", &states, &copy],
        );
        assert_eq!(before, fs::read(&states).unwrap());
        assert!(!Path::new(&out).exists());
    };
    check(&["changed.npz: ", "\"gru.state0\" is missing"], &{
        let mut fewer = kept.clone();
        fewer.retain(|(name, _)| name != "gru.state0");
        fewer
    });
    let mut wrong = kept.clone();
    wrong.push(("hello".into(), kept[0].1.clone()));
    check(&["changed.npz: ", "\"hello\" is no input"], &wrong);
    let mut wrong = kept.clone();
    wrong[6].1.shape = vec![4, 3];
    check(
        &[
            "changed.npz: ",
            "\"gru.state0\" has shape [4, 3]",
            "[batch, 4]",
        ],
        &wrong,
    );
    let mut wrong = kept.clone();
    wrong[6].1 = Array {
        shape: vec![2, 4],
        data: vec![0.0; 8],
    };
    check(
        &[
            "changed.npz: ",
            "\"gru.state0\" has 2 rows, \"input_1\" has 3",
        ],
        &wrong,
    );
    let no_npz = place.at("no.npz");
    fs::write(&no_npz, "hello").unwrap();
    let roundabout = place.at("./out.npz");
    for (parts, states, model) in [
        (&["no.npz", "no .npz file"][..], &no_npz, &copy),
        (&["in.npz", "never replaced"], &input, &copy),
        (&["model.h5", "never replaced"], &copy, &copy),
        (&["out.npz", "name two files"], &out, &copy),
        (&["out.npz", "name two files"], &roundabout, &copy),
        (
            &["subtract.h5", "no stateful layers"],
            &states,
            &text(&golden("subtract.h5")).to_owned(),
        ),
    ] {
        let fixed = ["--run", &input, "--out", &out, "--states", states, model];
        bad(1, parts, fixed);
        assert!(!Path::new(&out).exists());
    }
    assert_eq!(fs::read(&no_npz).unwrap(), b"hello");
}

#[test]
fn onnx_models_get_states_on_request() {
    let place = Place::new();
    let h5 = golden("stateful_second_call.h5");
    let [plain, with_states] = ["plain.onnx", "states.onnx"].map(|name| place.at(name));
    good([text(&h5), "--to", "onnx", "-o", &plain]);
    good([
        text(&h5),
        "--to",
        "onnx",
        "--state-inputs",
        "-o",
        &with_states,
    ]);
    let holds = |file: &str, word: &str| {
        let bytes = fs::read(file).unwrap();
        bytes.windows(word.len()).any(|w| w == word.as_bytes())
    };
    for word in ["inner/gru_1.state0", "inner/gru_1.state0_output"] {
        assert!(holds(&with_states, word) && !holds(&plain, word), "{word}");
    }
    let other = golden("subtract.h5");
    bad(
        1,
        &["subtract.h5", "no stateful layers", "--state-inputs"],
        [
            text(&other),
            "--to",
            "onnx",
            "--state-inputs",
            "-o",
            &place.at("x.onnx"),
        ],
    );
}
