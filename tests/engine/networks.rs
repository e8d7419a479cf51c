//! The engine against Keras, on the small models in `tests/golden` and on the original networks if
//! they are available. Repeated runs must not allocate.
#![cfg(feature = "convert")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use crate::captures::{check_keras_models, check_originals, every_value};
use crate::common::all_recordings;
use maeum::keras;
use maeum::nn::{DropoutMode, Graph, Plan, Session};

/// Returns every value of the graph as computed by the engine.
fn run(
    graph: &Graph,
    shapes: &[Vec<usize>],
    inputs: &[Vec<f32>],
    batch: usize,
    mode: &DropoutMode,
) -> Result<Vec<Vec<f64>>, String> {
    let plan = Arc::new(Plan::keeping_all(graph, shapes).map_err(|e| e.to_string())?);
    let mut session = Session::new(&plan);
    let inputs: Vec<&[f32]> = inputs.iter().map(|x| &**x).collect();
    session
        .run(&inputs, batch, mode)
        .map_err(|e| e.to_string())?;
    Ok(every_value(graph, |value| session.value(value)))
}

#[test]
fn every_keras_model_is_reproduced() {
    println!("{:?}", check_keras_models(&run, |_| true));
}

#[test]
fn the_original_networks_are_reproduced() {
    check_originals("engine", &run, all_recordings());
}

/// Allocator that counts the allocations of the current thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is forwarded unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        // SAFETY: the caller's promises hold for the system's allocator too.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's guarantees hold for the system's allocator too.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        // SAFETY: the caller's guarantees hold for the system's allocator too.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn running_again_allocates_nothing() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut models = 0;
    let mut files: Vec<_> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "h5"))
        .collect();
    files.sort();
    for file in files {
        let Ok(model) = keras::load(&file) else {
            continue;
        };
        let Some(shapes) = model.graph.fixed_input_shapes() else {
            continue;
        };
        let Ok(plan) = Plan::new(&model.graph, &shapes) else {
            continue;
        };
        let mut session = Session::new(&Arc::new(plan));
        let rows = 3;
        let inputs: Vec<Vec<f32>> = shapes
            .iter()
            .map(|s| vec![0.25; rows * s.iter().product::<usize>()])
            .collect();
        let large: Vec<&[f32]> = inputs.iter().map(|x| &**x).collect();
        let small: Vec<&[f32]> = inputs.iter().map(|x| &x[..x.len() / rows]).collect();
        let draws = DropoutMode::draws(4, 1);
        session.run(&large, rows, &draws).unwrap();
        let before = ALLOCATIONS.with(Cell::get);
        session.run(&small, 1, &draws).unwrap();
        session.run(&large, rows, &draws).unwrap();
        session.run(&large, rows, &DropoutMode::Off).unwrap();
        let allocated = ALLOCATIONS.with(Cell::get) - before;
        assert_eq!(allocated, 0, "{}", file.display());
        models += 1;
        if let [shape] = &*shapes {
            let sheet = vec![0.25; 3 * shape.iter().product::<usize>()];
            let step = shape[0].div_ceil(2);
            let starts = [0, step, 2 * step];
            session.run_windows(&sheet, &starts, &draws).unwrap();
            let before = ALLOCATIONS.with(Cell::get);
            session.run_windows(&sheet, &starts[1..], &draws).unwrap();
            session.run_windows(&sheet, &starts, &draws).unwrap();
            let allocated = ALLOCATIONS.with(Cell::get) - before;
            assert_eq!(allocated, 0, "windows of {}", file.display());
        }
    }
    assert!(models > 200, "only {models} models could be run");
}

#[test]
fn draws_can_be_computed_in_parts() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/arch_emotion_features.h5");
    let graph = keras::load(file).unwrap().graph;
    let shapes = graph.fixed_input_shapes().unwrap();
    let inputs: Vec<Vec<f32>> = shapes
        .iter()
        .map(|s| {
            (0..s.iter().product())
                .map(|i: usize| (i % 17) as f32 * 0.1)
                .collect()
        })
        .collect();
    let inputs: Vec<&[f32]> = inputs.iter().map(|x| &**x).collect();
    let mut session = Session::new(&Arc::new(Plan::new(&graph, &shapes).unwrap()));
    session.run(&inputs, 1, &DropoutMode::draws(10, 3)).unwrap();
    let whole = session.output(4).to_vec();
    let mut parts = Vec::new();
    for (first, n) in [(0, 4), (4, 5), (9, 1)] {
        session
            .run_from_draw(first, &inputs, 1, &DropoutMode::draws(n, 3))
            .unwrap();
        parts.extend_from_slice(session.output(4));
    }
    assert_eq!(whole, parts);
    assert_ne!(whole[..7], whole[7..14], "draws differ");
}
