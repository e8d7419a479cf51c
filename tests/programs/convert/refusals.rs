//! Errors of the tool `convert`, and their messages.

use std::fs;
use std::path::Path;

use maeum::nn::npz::Array;

use super::support::{FIVE, Place, arrays, bad, convert, golden, good, open, text};

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
fn incomplete_sets_list_present_and_missing_files() {
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
    bad(
        1,
        &["other.h5", "--age FILE"],
        [&*age, &other, "-o", &output],
    );
    bad(1, &["role age", "both"], [&*age, &age, "-o", &output]);
    // On other systems these may be the same file.
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
fn networks_in_other_formats_are_named_with_advice() {
    let place = Place::new();
    let output = place.at("out.safetensors");
    let saved = |name: &str| {
        let folder = place.at(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(Path::new(&folder).join("saved_model.pb"), [8, 1]).unwrap();
        folder
    };
    let model = saved("model");
    let parts = ["model: ", "SavedModel", "model.save(\"name.h5\")"];
    bad(1, &parts, [&*model, "-o", &output]);
    bad(1, &parts, ["--inspect", &model]);
    // Five folders with such models in a folder that should contain five files.
    let age = saved("five/Model_Age_crop");
    let parts = [
        "missing  Model_Age_crop.h5",
        "not read ",
        &age,
        "SavedModel",
    ];
    bad(1, &parts, [&*place.at("five"), "-o", &output]);
    // A folder that also contains files is treated as a folder of files.
    let mixed = saved("mixed");
    let name = "Model_Age_crop.h5";
    fs::copy(golden("five").join(name), Path::new(&mixed).join(name)).unwrap();
    bad(1, &["found ", "missing "], [&*mixed, "-o", &output]);

    let keras = place.at("m.keras");
    fs::write(&keras, b"PK\x03\x04 config.json").unwrap();
    for arguments in [[&*keras, "-o", &output].as_slice(), &["--inspect", &keras]] {
        bad(1, &["m.keras", "zip archive"], arguments);
    }
    assert!(!Path::new(&output).exists());
}

#[test]
fn bidirectional_control_characters_are_escaped() {
    let place = Place::new();
    let file = place.at("a\u{202E}5h.exe");
    fs::write(&file, "no HDF5").unwrap();
    let outcome = convert(["--inspect", &*file]);
    assert!(outcome.err.contains("a\\u{202e}5h.exe"), "{}", outcome.err);
    assert!(!outcome.err.contains('\u{202E}'), "{}", outcome.err);
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
    // The optional sixth network.
    let speech = format!("{folder}/speech.h5");
    fs::copy(golden("subtract.h5"), &speech).unwrap();
    bad(
        1,
        &["speech.h5", "never replaced"],
        [&*folder, "-o", &speech],
    );
    assert_eq!(before, fs::read(&speech).unwrap());
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
    let refused = golden("refused_dot_normalized.h5");
    bad(
        1,
        &["refused_dot_normalized.h5", "(Dot)", "normalize"],
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
    // Changes the second value of the first tensor to another finite value.
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
        &["--states", "s.npz", h5],
        &[
            "--run",
            "a",
            "--out",
            "b",
            "--states",
            "c",
            "--dropout",
            "2",
            h5,
        ],
        &["--state-inputs", h5, "-o", "x"],
        &["--state-inputs", "--to", "bundle", h5, "-o", "x"],
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
