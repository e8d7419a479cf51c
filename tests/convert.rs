//! The tool `convert`, through its command line, on genuine Keras files.
#![cfg(feature = "convert")]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use maeum::nn::npz::{self, Array, NpzFile};
use maeum::nn::{Role, bundle};
use tempfile::TempDir;

/// Outputs may differ from Keras' by this, relative to their largest magnitude (or to 1): what
/// 32-bit sums in another order leave.
const TOLERANCE: f32 = 1e-5;

const FIVE: [(&str, &str, &str); 5] = [
    ("emotion-windows", "Model_Emotion_crop", "emotion_windows"),
    ("age", "Model_Age_crop", "age"),
    ("gender", "Model_Gender_crop", "gender"),
    (
        "emotion-features",
        "Model_Emotion_Features",
        "emotion_features",
    ),
    ("merge", "Model_Emotion_Merge", "merge"),
];

struct Outcome {
    code: i32,
    out: String,
    err: String,
}

fn convert<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Outcome {
    let output = Command::new(env!("CARGO_BIN_EXE_convert"))
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Outcome {
        code: output.status.code().expect("it ends by itself"),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// Runs and expects success.
fn good<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> String {
    let outcome = convert(arguments);
    assert_eq!(outcome.code, 0, "{}", outcome.err);
    outcome.out
}

/// Runs and expects an error with this code that says all of `parts`.
fn bad<S: AsRef<OsStr>>(code: i32, parts: &[&str], arguments: impl IntoIterator<Item = S>) {
    let Outcome { code: got, err, .. } = convert(arguments);
    assert_eq!(got, code, "{err}");
    assert!(err.starts_with("error: "), "{err}");
    for part in parts {
        assert!(err.contains(part), "no {part:?} in: {err}");
    }
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A temporary folder and paths in it.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> String {
        text(&self.0.path().join(name)).to_owned()
    }

    /// The golden five as a bundle.
    fn five(&self) -> String {
        let bundle = self.at("five.safetensors");
        good([text(&golden("five")), "-o", &bundle]);
        bundle
    }

    fn npz(&self, name: &str, arrays: &[(String, Array)]) -> String {
        let path = self.at(name);
        npz::write(Path::new(&path), arrays).unwrap();
        path
    }
}

fn open(path: impl AsRef<Path>) -> NpzFile {
    NpzFile::open(path.as_ref()).unwrap()
}

/// The arrays whose name starts with `prefix`, without it.
fn arrays(file: &NpzFile, prefix: &str) -> Vec<(String, Array)> {
    file.names()
        .filter_map(|n| Some((n.strip_prefix(prefix)?.to_owned(), file.read(n).unwrap())))
        .collect()
}

fn assert_close(got: &Array, wanted: &Array, what: &str) {
    assert_eq!(got.shape, wanted.shape, "{what}");
    let scale = wanted.data.iter().fold(1f32, |m, x| m.max(x.abs()));
    for (g, w) in got.data.iter().zip(&wanted.data) {
        assert!((g - w).abs() <= TOLERANCE * scale, "{what}: {g} is not {w}");
    }
}

/// Runs `arguments` and compares the outputs, in the order of the model's, with Keras'.
fn assert_outputs(arguments: &[&str], out: &str, wanted: &[(String, Array)], what: &str) {
    good(arguments.iter().chain(&["--out", out]));
    let npz = open(out);
    let names: Vec<&str> = npz.names().collect();
    assert_eq!(names.len(), wanted.len(), "{what}");
    for (k, name) in names.into_iter().enumerate() {
        let (_, wanted) = wanted.iter().find(|(n, _)| *n == k.to_string()).unwrap();
        assert_close(&npz.read(name).unwrap(), wanted, what);
    }
}

#[test]
fn five_files_become_one_bundle_that_computes_what_keras_does() {
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

    // A flag goes before what a folder holds.
    good([&*folder, "--age", text(&files[1]), "-o", &output]);
    let text = shown(&output);
    assert!(text.contains("from Model_Age_crop.h5") && text.contains("from MODEL_GENDER_CROP.H5"));
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
fn draws_get_a_dimension_of_their_own_and_repeat_with_their_seed() {
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

    // A network without forced dropout gives the same for every draw, and says so.
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
fn arrays_that_do_not_fit_are_named() {
    let place = Place::new();
    let h5 = golden("five/Model_Emotion_Merge.h5");
    let numbers = open(golden("five/golden.npz"));
    let given = arrays(&numbers, "Model_Emotion_Merge.in.");
    let out = place.at("out.npz");
    let check = |parts: &[&str], given: &[(String, Array)]| {
        let input = place.npz("in.npz", given);
        bad(1, parts, ["--run", &input, "--out", &out, text(&h5)]);
        assert!(!Path::new(&out).exists());
    };
    check(&["\"input_6\" is missing", "in.npz"], &given[..5]);
    let mut more = given.clone();
    more.push(("input_7".into(), given[0].1.clone()));
    check(&["\"input_7\" is no input", "\"input_1\""], &more);
    let mut wrong = given.clone();
    wrong[2].1.shape = vec![7, 3];
    check(&["\"input_3\"", "[7, 3]", "[batch, 7]"], &wrong);
    wrong[2].1.shape = vec![21];
    check(&["\"input_3\"", "[21]", "[batch, 7]"], &wrong);
    wrong[2].1 = Array {
        shape: vec![2, 7],
        data: vec![0.0; 14],
    };
    check(&["\"input_3\" has 2 rows", "\"input_1\" has 3"], &wrong);
    wrong[2].1 = Array {
        shape: vec![0, 7],
        data: vec![],
    };
    check(&["\"input_3\"", "[0, 7]"], &wrong);

    let no_npz = place.at("no.npz");
    fs::write(&no_npz, "hello").unwrap();
    bad(
        1,
        &["no.npz", "no .npz file"],
        ["--run", &no_npz, "--out", &out, text(&h5)],
    );
    let missing = place.at("missing.npz");
    bad(
        1,
        &["missing.npz"],
        ["--run", &missing, "--out", &out, text(&h5)],
    );
    let input = place.npz("in.npz", &given);
    let nowhere = place.at("nowhere/out.npz");
    bad(
        1,
        &["nowhere/out.npz", "folder"],
        ["--run", &input, "--out", &nowhere, text(&h5)],
    );
    bad(
        1,
        &["in.npz", "never replaced"],
        ["--run", &input, "--out", &input, text(&h5)],
    );
    let bundle = place.five();
    bad(
        1,
        &["--role", "merge"],
        ["--run", &input, "--out", &out, &bundle],
    );
    bad(
        1,
        &["role"],
        ["--run", &input, "--out", &out, "--role", "age", text(&h5)],
    );
}

#[test]
fn numbers_of_any_type_and_layout_are_taken() {
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
fn incomplete_sets_list_what_is_there_and_what_is_missing() {
    let place = Place::new();
    let output = place.at("out.safetensors");
    let folder = place.at("models");
    fs::create_dir(&folder).unwrap();
    bad(
        1,
        &["models", "missing  Model_Age_crop.h5 (age)"],
        [&*folder, "-o", &output],
    );
    for (_, name, _) in &FIVE[..4] {
        let name = format!("{name}.h5");
        fs::copy(golden("five").join(&name), Path::new(&folder).join(&name)).unwrap();
    }
    let other = format!("{folder}/other.h5");
    fs::write(&other, "").unwrap();
    let parts = [
        "found    ",
        "Model_Age_crop.h5 (age)",
        "missing  Model_Emotion_Merge.h5 (merge)",
        "no role  ",
        "other.h5",
        "--age FILE",
    ];
    bad(1, &parts, [&*folder, "-o", &output]);
    let age = format!("{folder}/Model_Age_crop.h5");
    let gender = format!("{folder}/Model_Gender_crop.h5");
    bad(1, &["missing", "(merge)"], [&*age, &gender, "-o", &output]);
    bad(1, &["missing", "(gender)"], ["--age", &*age, "-o", &output]);
    bad(1, &["other.h5", "by flag"], [&*age, &other, "-o", &output]);
    bad(1, &["role age", "both"], [&*age, &age, "-o", &output]);
    // Elsewhere these may be the same file.
    if cfg!(target_os = "linux") {
        fs::copy(&age, format!("{folder}/MODEL_AGE_CROP.h5")).unwrap();
        bad(
            1,
            &["role age", "MODEL_AGE_CROP.h5"],
            [&*folder, "-o", &output],
        );
    }
    assert!(!Path::new(&output).exists());
}

#[test]
fn files_that_do_not_fit_their_role_are_named_with_the_shapes() {
    let place = Place::new();
    let output = place.at("out.safetensors");
    let five = golden("five");
    let gender = five.join("Model_Gender_crop.h5");
    let parts = ["network age", "Model_Gender_crop.h5", "[[1]]", "[[2]]"];
    bad(
        1,
        &parts,
        [text(&five), "--age", text(&gender), "-o", &output],
    );
    let parts = ["network merge", "Model_Gender_crop.h5", "inputs"];
    bad(
        1,
        &parts,
        [text(&five), "--merge", text(&gender), "-o", &output],
    );
    assert!(!Path::new(&output).exists());
}

#[test]
fn inputs_are_never_overwritten_and_bad_files_are_refused() {
    let place = Place::new();
    let copy = place.at("model.h5");
    fs::copy(golden("subtract.h5"), &copy).unwrap();
    let before = fs::read(&copy).unwrap();
    bad(1, &["model.h5", "never replaced"], [&*copy, "-o", &copy]);
    let roundabout = place.at("./model.h5");
    bad(1, &["never replaced"], [&*copy, "-o", &roundabout]);
    let folder = place.at("five");
    fs::create_dir(&folder).unwrap();
    for (_, name, _) in FIVE {
        let name = format!("{name}.h5");
        fs::copy(golden("five").join(&name), Path::new(&folder).join(&name)).unwrap();
    }
    let age = format!("{folder}/Model_Age_crop.h5");
    bad(
        1,
        &["Model_Age_crop.h5", "never replaced"],
        [&*folder, "-o", &age],
    );
    bad(
        1,
        &["never replaced"],
        [&*folder, "--age", &copy, "-o", &copy],
    );
    assert_eq!(before, fs::read(&copy).unwrap());

    let output = place.at("out.safetensors");
    let wrong = place.at("text.h5");
    fs::write(&wrong, "no HDF5").unwrap();
    bad(
        1,
        &["text.h5", "not an HDF5 file"],
        [&*wrong, "-o", &output],
    );
    bad(1, &["text.h5", "not an HDF5 file"], ["--inspect", &wrong]);
    bad(1, &["absent.h5"], [&*place.at("absent.h5"), "-o", &output]);
    let refused = golden("refused_dot.h5");
    bad(
        1,
        &["refused_dot.h5", "Dot"],
        [text(&refused), "-o", &output],
    );
    assert!(!Path::new(&output).exists());
    let nowhere = place.at("nowhere/out.safetensors");
    bad(
        1,
        &["nowhere/out.safetensors", "folder"],
        [&*copy, "-o", &nowhere],
    );

    let no_bundle = place.at("x.safetensors");
    fs::write(&no_bundle, "hello").unwrap();
    for action in ["--inspect", "--self-test"] {
        bad(
            1,
            &["x.safetensors", "not a maeum bundle"],
            [action, &no_bundle],
        );
    }
    bad(1, &["model.h5", "HDF5"], ["--self-test", &copy]);
}

#[test]
fn a_changed_number_fails_the_self_test() {
    let place = Place::new();
    let bundle = place.five();
    let mut bytes = fs::read(&bundle).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    // The second number of the first tensor: another finite one.
    let at = 8 + header + 4;
    bytes[at..at + 4].copy_from_slice(&12.5f32.to_le_bytes());
    fs::write(&bundle, bytes).unwrap();
    bad(
        1,
        &["five.safetensors", "self-test", "convert the original"],
        ["--self-test", &bundle],
    );
}

#[test]
fn usage_errors_end_with_code_2() {
    let h5 = golden("subtract.h5");
    let h5 = text(&h5);
    let five = golden("five");
    for arguments in [
        &[][..],
        &["-o", "x"],
        &[h5],
        &[h5, text(&five), "-o", "x"],
        &["--inspect"],
        &["--inspect", h5, h5],
        &["--inspect", "--self-test", h5],
        &["--inspect", h5, "-o", "x"],
        &["--run", "in.npz", h5],
        &["--out", "out.npz", h5],
        &["--run", "a", "--out", "b", "--dropout", "0", h5],
        &["--run", "a", "--out", "b", "--dropout", "many", h5],
        &["--run", "a", "--out", "b", "--seed", "1", h5],
        &["--run", "a", "--out", "b", "--role", "boss", h5],
        &["--dropout", "off", h5, "-o", "x"],
        &["--unknown"],
    ] {
        let outcome = convert(arguments);
        assert_eq!(outcome.code, 2, "{arguments:?}: {}", outcome.err);
        assert!(outcome.err.contains("--help"), "{}", outcome.err);
    }
    let help = good(["--help"]);
    for part in [
        "Examples:",
        "--inspect",
        "--run",
        "--self-test",
        "Model_Emotion_Merge.h5",
    ] {
        assert!(help.contains(part), "{help}");
    }
}

#[test]
fn the_original_files_convert_and_compute_what_they_did() {
    let Some(dir) = common::reference_dir() else {
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
        // What was merged: the windows' mean and the five outputs of the features.
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
