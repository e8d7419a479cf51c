//! Runs whose inputs and outputs stay on the device.

use std::sync::Arc;

use maeum::audio::Resampling;
use maeum::front_end::legacy2020::cuda::CudaFrontEnd;
use maeum::nn::cuda::sources::names;
use maeum::nn::cuda::{
    Arg, Buffer, CudaPlan, CudaRunError, CudaSession, Driver, Launch, Rows, Source, Stream, bytes,
    bytes_mut,
};
use maeum::nn::layers::{Layer, Softmax};
use maeum::nn::{DropoutMode, Graph, Input, Node, Output, RunError, ValueId};

use crate::emulator::{Emulator, ORDERS};
use crate::front_end::voice;
use crate::graphs::numbers;
use crate::sessions::{ITEM, graph, shapes};
use crate::{download, drivers, upload};

const BATCH: usize = 11;

/// Returns a session that splits the batch into several parts on both lanes, the last one smaller.
fn session(driver: &Arc<dyn Driver>) -> CudaSession {
    let plan = CudaPlan::new(driver, &graph(), &shapes()).unwrap();
    CudaSession::new(&Arc::new(plan)).with_part(6 * ITEM * size_of::<f32>())
}

/// Allocates a buffer and queues the upload of `data` behind `skipped` bytes.
fn put<T: maeum::nn::cuda::Number>(
    driver: &Arc<dyn Driver>,
    stream: Stream,
    data: &[T],
    skipped: usize,
) -> Buffer {
    let buffer = driver.allocate(skipped + size_of_val(data)).unwrap();
    driver
        .upload(stream, bytes(data), &buffer, skipped)
        .unwrap();
    buffer
}

fn take(driver: &Arc<dyn Driver>, rows: Rows, count: usize) -> Vec<f32> {
    let mut got = vec![0f32; count];
    driver
        .download(rows.ready, rows.buffer, rows.offset, bytes_mut(&mut got))
        .unwrap();
    got
}

#[test]
fn rows_on_the_device_give_the_numbers_of_the_hosts() {
    let x = numbers(9, BATCH * ITEM, false);
    let draws = DropoutMode::draws(3, 5);
    for driver in drivers() {
        let mut session = session(&driver);
        session.run_from_draw(2, &[&x], BATCH, &draws).unwrap();
        let wanted = session.output(0).to_vec();
        // An offset of 4 bytes breaks the alignment of vector loads, so those rows are copied.
        for (stream, offset) in [
            (Stream::A, 0),
            (Stream::B, 0),
            (Stream::B, 64),
            (Stream::B, 4),
        ] {
            let buffer = put(&driver, stream, &x, offset);
            let rows = Rows {
                buffer: &buffer,
                offset,
                ready: stream,
            };
            session
                .run_on_device(2, &[Source::Device(rows)], BATCH, &draws)
                .unwrap();
            assert!(session.output(0).is_empty());
            assert_eq!(session.rows(), BATCH * 3);
            let got = take(&driver, session.on_device(0), wanted.len());
            assert_eq!(got, wanted, "{}, {stream:?}, {offset}", driver.name());
        }
        // Inputs from the host, then a run with outputs on the host again.
        session
            .run_on_device(2, &[Source::Host(&x)], BATCH, &draws)
            .unwrap();
        let got = take(&driver, session.on_device(0), wanted.len());
        assert_eq!(got, wanted);
        session.run_from_draw(2, &[&x], BATCH, &draws).unwrap();
        assert_eq!(session.output(0), wanted);
    }
}

#[test]
fn one_network_reads_what_another_has_left() {
    // Reads the first network's output of seven elements in place, where rows are not aligned.
    let second = Graph {
        name: "second".into(),
        inputs: vec![Input {
            name: "in".into(),
            shape: vec![Some(7)],
        }],
        nodes: vec![Node {
            name: "softmax".into(),
            layer: Layer::Softmax(Softmax { axis: 0 }),
            inputs: vec![ValueId(0)],
            outer: 0,
        }],
        outputs: vec![Output {
            name: "out".into(),
            value: ValueId(1),
        }],
        weights: vec![],
    };
    for driver in drivers() {
        let plan = CudaPlan::new(&driver, &second, &[vec![7]]).unwrap();
        let mut after = CudaSession::new(&Arc::new(plan)).with_part(5 * 7 * size_of::<f32>());
        let mut first = session(&driver);
        let mut again = Vec::new();
        // The third run overwrites buffers of the first.
        for seed in [1, 2, 1] {
            let x = numbers(seed, BATCH * ITEM, false);
            first.run(&[&x], BATCH, &DropoutMode::Off).unwrap();
            let between = first.output(0).to_vec();
            after.run(&[&between], BATCH, &DropoutMode::Off).unwrap();
            let wanted = after.output(0).to_vec();
            first
                .run_on_device(0, &[Source::Host(&x)], BATCH, &DropoutMode::Off)
                .unwrap();
            let input = Source::Device(first.on_device(0));
            after
                .run_on_device(0, &[input], BATCH, &DropoutMode::Off)
                .unwrap();
            again.push((take(&driver, after.on_device(0), wanted.len()), wanted));
        }
        for (got, wanted) in again {
            assert_eq!(got, wanted, "{}", driver.name());
        }
    }
}

#[test]
fn a_stream_that_is_not_waited_for_is_found() {
    let driver: Arc<dyn Driver> = Arc::new(Emulator::new(ORDERS[0]));
    let x = numbers(9, BATCH * ITEM, false);
    let mut session = session(&driver);
    let buffer = put(&driver, Stream::B, &x, 0);
    let run = |session: &mut CudaSession, ready| {
        let input = Source::Device(Rows::of(&buffer, ready));
        session
            .run_on_device(0, &[input], 1, &DropoutMode::Off)
            .unwrap();
        take(&driver, session.on_device(0), 7)
    };
    let without = run(&mut session, Stream::A);
    let with = run(&mut session, Stream::B);
    session.run(&[&x[..ITEM]], 1, &DropoutMode::Off).unwrap();
    assert_eq!(with, session.output(0));
    assert_ne!(without, with);
}

/// Queues a copy of `count` elements from one buffer to another.
pub fn copy(driver: &Arc<dyn Driver>, stream: Stream, from: &Buffer, to: &Buffer, count: usize) {
    let words = [1, count, count].map(|n| Arg::U32(n as u32));
    let launch = Launch {
        kernel: names::REPEAT,
        grid: [count.div_ceil(256) as u32, 1, 1],
        block: [256, 1, 1],
        shared: 0,
        args: [from.into(), to.into()].into_iter().chain(words).collect(),
    };
    // SAFETY: the arguments match the kernel. The buffers have `count` elements, and freeing one
    // waits for the stream.
    unsafe { driver.launch(stream, &launch) }.unwrap();
}

#[test]
fn outputs_hold_until_the_first_stream_has_read_them() {
    let x = [1, 2].map(|seed| numbers(seed, BATCH * ITEM, false));
    for driver in drivers() {
        let mut session = session(&driver);
        session.run(&[&x[0]], BATCH, &DropoutMode::Off).unwrap();
        let wanted = session.output(0).to_vec();
        let run = |session: &mut CudaSession, x: &[f32]| {
            let input = [Source::Host(x)];
            session
                .run_on_device(0, &input, BATCH, &DropoutMode::Off)
                .unwrap();
        };
        run(&mut session, &x[0]);
        let aside = driver.allocate(size_of_val(&*wanted)).unwrap();
        let rows = session.on_device(0);
        copy(&driver, rows.ready, rows.buffer, &aside, wanted.len());
        run(&mut session, &x[1]);
        driver.synchronise(Stream::B).unwrap();
        let got = take(&driver, Rows::of(&aside, Stream::A), wanted.len());
        assert_eq!(got, wanted, "{}", driver.name());
    }
}

#[test]
fn inputs_hold_until_the_other_stream_has_read_them() {
    let [first, second] = [voice(0.4, 16_000, 1), voice(0.4, 16_000, 2)];
    for driver in drivers() {
        let mut front_end = CudaFrontEnd::new(driver.clone(), Stream::B, Resampling::Fast).unwrap();
        let count = 200 * 40;
        let aside = driver.allocate(count * size_of::<f32>()).unwrap();
        let listened = front_end.detect_voice(&[&first]).unwrap();
        let inputs = front_end.compute_features(&listened).unwrap();
        driver.wait(Stream::A, inputs.ready).unwrap();
        copy(&driver, Stream::A, inputs.windows, &aside, count);
        front_end.run(&[&second]).unwrap();
        let got = download::<f32>(&*driver, &aside, count).unwrap();
        let (_, inputs) = front_end.run(&[&first]).unwrap();
        driver.synchronise(inputs.ready).unwrap();
        let wanted = download::<f32>(&*driver, inputs.windows, count).unwrap();
        assert_eq!(got, wanted, "{}", driver.name());
    }
}

#[test]
fn streams_wait_for_each_other_in_the_order_given() {
    for driver in drivers() {
        let buffer = driver.allocate(4).unwrap();
        let hops: Vec<Buffer> = (0..4).map(|_| driver.allocate(4).unwrap()).collect();
        driver
            .upload(Stream::A, bytes(&[7f32]), &buffer, 0)
            .unwrap();
        let mut from = &buffer;
        for (to, stream) in hops.iter().zip([Stream::B, Stream::A].into_iter().cycle()) {
            let other = match stream {
                Stream::A => Stream::B,
                Stream::B => Stream::A,
            };
            driver.wait(stream, other).unwrap();
            copy(&driver, stream, from, to, 1);
            from = to;
        }
        // Overwritten after the last reader.
        driver.wait(Stream::B, Stream::A).unwrap();
        driver
            .upload(Stream::B, bytes(&[8f32]), &buffer, 0)
            .unwrap();
        driver.synchronise(Stream::B).unwrap();
        assert_eq!(download::<f32>(&*driver, from, 1).unwrap(), [7.0]);
        assert_eq!(download::<f32>(&*driver, &buffer, 1).unwrap(), [8.0]);
    }
}

#[test]
fn windows_are_gathered_from_a_sheet() {
    let sheet = numbers(4, 40 * ITEM, false);
    let starts: Vec<u64> = (0..BATCH as u64).map(|i| (i * 1_277) % 19_001).collect();
    let windows: Vec<f32> = starts
        .iter()
        .flat_map(|&s| sheet[s as usize..][..ITEM].to_vec())
        .collect();
    let beyond = [(sheet.len() - ITEM + 1) as u64, u64::MAX].map(|start| [0, start]);
    for driver in drivers() {
        let mut session = session(&driver);
        session.run(&[&windows], BATCH, &DropoutMode::Off).unwrap();
        let wanted = session.output(0).to_vec();
        let buffer = put(&driver, Stream::B, &sheet, 8);
        let source = |starts| Source::Gathered {
            numbers: Rows {
                buffer: &buffer,
                offset: 8,
                ready: Stream::B,
            },
            count: sheet.len(),
            starts,
        };
        session
            .run_on_device(0, &[source(&starts)], BATCH, &DropoutMode::Off)
            .unwrap();
        let got = take(&driver, session.on_device(0), wanted.len());
        assert_eq!(got, wanted, "{}", driver.name());
        for beyond in &beyond {
            let error = session
                .run_on_device(0, &[source(beyond)], 2, &DropoutMode::Off)
                .unwrap_err();
            let refused = matches!(error, CudaRunError::Run(RunError::InputLength { .. }));
            assert!(refused, "{error}");
        }
    }
}

#[test]
fn rows_that_are_not_there_are_refused() {
    let driver: Arc<dyn Driver> = Arc::new(Emulator::new(ORDERS[0]));
    let buffer = upload(&*driver, &vec![0f32; 2 * ITEM - 1]).unwrap();
    let rows = Source::Device(Rows::of(&buffer, Stream::A));
    let mut session = session(&driver);
    let error = session
        .run_on_device(0, &[rows], 2, &DropoutMode::Off)
        .unwrap_err();
    let wanted = "input in holds 1007 numbers; 2 rows of 504 are needed";
    assert_eq!(error.to_string(), wanted);
}

/// A network without steps whose input is output twice.
#[test]
fn an_input_that_is_an_output_is_copied() {
    let output = |name: &str, value| Output {
        name: name.into(),
        value: ValueId(value),
    };
    let graph = Graph {
        name: "same".into(),
        inputs: vec![Input {
            name: "in".into(),
            shape: vec![Some(3), Some(2)],
        }],
        nodes: vec![Node {
            name: "flatten".into(),
            layer: Layer::Flatten,
            inputs: vec![ValueId(0)],
            outer: 0,
        }],
        outputs: vec![output("as it is", 0), output("flat", 1)],
        weights: vec![],
    };
    let x = numbers(3, 5 * 6, false);
    for driver in drivers() {
        let plan = CudaPlan::new(&driver, &graph, &[vec![3, 2]]).unwrap();
        let mut session = CudaSession::new(&Arc::new(plan)).with_part(48);
        let buffer = put(&driver, Stream::B, &x, 0);
        let input = Source::Device(Rows::of(&buffer, Stream::B));
        session
            .run_on_device(0, &[input], 5, &DropoutMode::Off)
            .unwrap();
        for output in 0..2 {
            assert_eq!(take(&driver, session.on_device(output), x.len()), x);
        }
    }
}

#[test]
fn means_are_added_in_the_order_of_the_rows() {
    let (width, firsts) = (7usize, [0u32, 1, 4, 18]);
    let x = numbers(8, 18 * width, false);
    let mean = |rows: &[f32], column: usize| {
        let sum = rows
            .chunks_exact(width)
            .fold(0.0, |sum, row| sum + f64::from(row[column]));
        sum / (rows.len() / width) as f64
    };
    let groups = firsts.windows(2).map(|f| [f[0] as usize, f[1] as usize]);
    let wanted: Vec<f32> = groups
        .flat_map(|[first, end]| [&x[first * width..end * width]; 2])
        .flat_map(|rows| (0..width).map(move |column| mean(rows, column) as f32))
        .collect();
    // Means of rows over two parts; the second part is the first one reversed.
    let row_mean = |row: &[f32]| row.iter().map(|&v| f64::from(v)).sum::<f64>() / 7.0;
    let back: Vec<f32> = x.iter().rev().copied().collect();
    let rows = x.chunks_exact(width).zip(back.chunks_exact(width));
    let of_rows: Vec<f64> = rows
        .map(|(a, b)| (row_mean(a) + row_mean(b)) / 2.0)
        .collect();
    for driver in drivers() {
        let launch = |kernel, count: usize, mut args: Vec<Arg>| {
            args.push(Arg::U32(count as u32));
            let launch = Launch {
                kernel,
                grid: [count.div_ceil(256) as u32, 1, 1],
                block: [256, 1, 1],
                shared: 0,
                args,
            };
            // SAFETY: the arguments match the kernels; all buffers outlive the download.
            unsafe { driver.launch(Stream::A, &launch) }.unwrap();
        };
        let [from, turned] = [&x, &back].map(|x| upload(&*driver, x).unwrap());
        let firsts = upload(&*driver, &firsts).unwrap();
        let means = driver.allocate(size_of_val(&*wanted)).unwrap();
        let args = vec![
            Arg::from(&from),
            Arg::from(&firsts),
            Arg::from(&means),
            Arg::U32(width as u32),
            Arg::U32(2),
        ];
        launch(names::GROUP_MEANS, 3 * width, args);
        let got = download::<f32>(&*driver, &means, wanted.len()).unwrap();
        assert_eq!(got, wanted, "{}", driver.name());
        let means = driver.allocate(18 * size_of::<f64>()).unwrap();
        for (part, x) in [&from, &turned].into_iter().enumerate() {
            let args = vec![
                Arg::from(x),
                Arg::from(&means),
                Arg::U32(width as u32),
                Arg::U32(1),
                Arg::U32(width as u32),
                Arg::U32(part as u32),
                Arg::U32(2),
            ];
            launch(names::ROW_MEANS, 18, args);
        }
        let got = download::<f64>(&*driver, &means, 18).unwrap();
        assert_eq!(got, of_rows, "{}", driver.name());
    }
}
