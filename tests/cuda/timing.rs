//! Events, the work counted for launches, and measured peak performance.

use std::sync::Arc;
use std::time::Duration;

use maeum::nn::cost;
use maeum::nn::cuda::sources::names;
use maeum::nn::cuda::{
    Arg, CudaPlan, CudaSession, DeviceError, Driver, Effort, Event, Launch, Peaks, Stream, Timed,
    Work,
};
use maeum::nn::{DropoutMode, Graph};

use crate::emulator::{Emulator, ORDERS};
use crate::{download, drivers, upload};

#[test]
fn events_follow_what_their_stream_was_given() {
    for driver in drivers() {
        let driver = &*driver;
        let x = upload(driver, &[1.0f32; 64]).unwrap();
        let mut events = vec![driver.record(Stream::A).unwrap()];
        for _ in 0..3 {
            let launch = Launch {
                kernel: names::PRELU,
                grid: [1, 1, 1],
                block: [64, 1, 1],
                shared: 0,
                args: vec![
                    Arg::from(&x),
                    Arg::from(&x),
                    Arg::from(&x),
                    Arg::from(64u32),
                    Arg::from(64u32),
                ],
            };
            // SAFETY: the arguments match the kernel; each thread reads and writes the same
            // element.
            unsafe { driver.launch(Stream::A, &launch) }.unwrap();
            events.push(driver.record(Stream::A).unwrap());
        }
        for pair in events.windows(2) {
            assert!(driver.milliseconds(&pair[0], &pair[1]).unwrap() > 0.0);
        }
        let whole = driver.milliseconds(&events[0], &events[3]).unwrap();
        let middle = driver.milliseconds(&events[1], &events[2]).unwrap();
        assert!(whole > middle, "{whole} {middle}");
    }
}

#[test]
fn events_of_other_drivers_are_refused() {
    for driver in drivers() {
        let event = driver.record(Stream::A).unwrap();
        let other = Emulator::new(ORDERS[0]).record(Stream::A).unwrap();
        for foreign in [other, Event::new("no event")] {
            let error = driver.milliseconds(&event, &foreign).unwrap_err();
            assert!(matches!(error, DeviceError::Failed { .. }), "{error}");
            driver.milliseconds(&foreign, &event).unwrap_err();
        }
    }
}

#[test]
fn a_struct_is_laid_out_as_in_c() {
    let given = Arg::structure(&[
        Arg::Pointer(0x1_0000_0002),
        Arg::U32(3),
        Arg::Words(vec![4, 5]),
    ]);
    let mut wanted = 0x1_0000_0002u64.to_ne_bytes().to_vec();
    wanted.extend([3u32, 4, 5, 0].iter().flat_map(|n| n.to_ne_bytes()));
    assert_eq!(given.bytes(), wanted);
}

/// Returns the work counted for the kernels of one run of one row, and the names of kernels without
/// counted work.
fn counted(graph: &Graph, rows: usize) -> (Vec<Work>, Vec<String>) {
    let timed = Arc::new(Timed::new(drivers().remove(0)));
    let driver: Arc<dyn Driver> = timed.clone();
    let shapes = graph.fixed_input_shapes().unwrap();
    let plan = Arc::new(CudaPlan::new(&driver, graph, &shapes).unwrap());
    let inputs: Vec<Vec<f32>> = shapes
        .iter()
        .map(|shape| vec![0.5; rows * shape.iter().product::<usize>()])
        .collect();
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let mut session = CudaSession::new(&plan);
    session.run(&inputs, rows, &DropoutMode::Off).unwrap();
    let timings = timed.take().unwrap();
    let mut before = Duration::ZERO;
    for timing in &timings {
        assert!(timing.until >= before.max(timing.time), "{timing:?}");
        before = timing.until;
    }
    let unknown = timings.iter().filter(|t| !t.work.exact);
    let unknown = unknown.map(|t| t.kernel.clone()).collect();
    (timings.into_iter().map(|t| t.work).collect(), unknown)
}

#[cfg(feature = "convert")]
fn network(name: &str) -> Graph {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/");
    maeum::keras::load(format!("{folder}{name}.h5"))
        .unwrap()
        .graph
}

/// A fused layer is counted slightly differently.
#[cfg(feature = "convert")]
const COUNTS_APART: f64 = 0.01;

#[cfg(feature = "convert")]
#[test]
fn launches_do_what_the_graph_costs() {
    for name in ["arch_emotion_windows", "arch_age", "arch_emotion_features"] {
        let graph = network(name);
        let shapes = graph.fixed_input_shapes().unwrap();
        let (works, unknown) = counted(&graph, 2);
        let flops: u64 = works.iter().filter_map(|w| w.flops).sum();
        let wanted = 2 * cost::flops(&graph, &shapes).unwrap().iter().sum::<u64>();
        let apart = flops as f64 / wanted as f64 - 1.0;
        assert_eq!(unknown, [""; 0], "{name}");
        assert!(apart.abs() < COUNTS_APART, "{name}: {flops} of {wanted}");
    }
}

/// The work of a convolution, by hand.
#[cfg(feature = "convert")]
#[test]
fn bytes_are_those_of_inputs_weights_and_outputs() {
    let graph = network("arch_emotion_windows");
    let (works, _) = counted(&graph, 3);
    // The first layer: 200 x 40 pixels, a 5 x 5 kernel, 8 channels, halved by pooling.
    let (input, weights, output) = (200 * 40, 25 * 8, 100 * 20 * 8);
    let around = works[0].bytes / 4 - 3 * (input + output) - weights;
    assert!(works[0].exact && (8..=24).contains(&around), "{around}");
}

#[test]
fn the_peaks_kernels_do_all_that_is_counted() {
    for driver in drivers() {
        let driver = &*driver;
        let y = driver.allocate(4 * 512).unwrap();
        let args = vec![
            Arg::from(&y),
            Arg::from(0.5f32),
            Arg::from(0.25f32),
            Arg::from(3u32),
        ];
        let arithmetic = Launch {
            kernel: names::PEAK_ARITHMETIC,
            grid: [2, 1, 1],
            block: [256, 1, 1],
            shared: 0,
            args,
        };
        // SAFETY: the arguments match the kernel; there is room for one element per thread.
        unsafe { driver.launch(Stream::A, &arithmetic) }.unwrap();
        let chain = |mut x: f32| {
            for _ in 0..3 * 8 {
                x = x.mul_add(0.5, 0.25);
            }
            x
        };
        let wanted: Vec<f32> = (0..512)
            .map(|i| (0..8).map(|k| chain((i % 256 + k) as f32)).sum())
            .collect();
        assert_eq!(download::<f32>(driver, &y, 512).unwrap(), wanted);

        let numbers: Vec<f32> = (0..4 * 2500).map(|i| i as f32).collect();
        let x = upload(driver, &numbers).unwrap();
        let y = driver.allocate(x.bytes()).unwrap();
        let copy = Launch {
            kernel: names::PEAK_COPY,
            grid: [3, 1, 1],
            block: [256, 1, 1],
            shared: 0,
            args: vec![Arg::from(&x), Arg::from(&y), Arg::from(2500u64)],
        };
        // SAFETY: the arguments match the kernel; both buffers hold that many vectors of four.
        unsafe { driver.launch(Stream::A, &copy) }.unwrap();
        assert_eq!(download::<f32>(driver, &y, numbers.len()).unwrap(), numbers);
    }
}

#[test]
fn peaks_are_measured() {
    for driver in drivers() {
        let effort = Effort {
            blocks: 2,
            rounds: 2,
            bytes: 1 << 16,
        };
        let peaks = Peaks::measure(&*driver, effort).unwrap();
        assert!(peaks.flops.is_finite() && peaks.flops > 0.0);
        assert!(peaks.bandwidth.is_finite() && peaks.bandwidth > 0.0);
    }
}
