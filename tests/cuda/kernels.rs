//! Single kernels, and the emulator's fault detection.

use std::sync::Arc;

use maeum::nn::cuda::sources::{KernelName, names};
use maeum::nn::cuda::{Arg, DeviceError, Driver, Launch, Stream};

use crate::emulator::{Emulator, ORDERS};
use crate::{download, drivers, upload};

/// Launches a kernel with one-dimensional blocks and threads.
fn launch(
    driver: &dyn Driver,
    kernel: KernelName,
    blocks: u32,
    threads: u32,
    args: Vec<Arg>,
) -> Result<(), DeviceError> {
    let launch = Launch {
        kernel,
        grid: [blocks, 1, 1],
        block: [threads, 1, 1],
        shared: 0,
        args,
    };
    // SAFETY: the callers' arguments match the kernels.
    unsafe { driver.launch(Stream::A, &launch) }
}

/// Copies pass through page-locked chunks of 8 MiB on a GPU: four for uploads, two for downloads.
#[test]
fn copies_of_any_size_arrive_whole() {
    let turn = 8 << 20;
    for driver in drivers() {
        for stream in [Stream::A, Stream::B] {
            for bytes in [1, turn, turn + 3, 2 * turn + 1, 5 * turn + 77] {
                let numbers = |seed: u32| -> Vec<u8> {
                    let mixed = |i: u32| (i.wrapping_add(seed)).wrapping_mul(0x9e37_79b1) >> 24;
                    (0..bytes as u32).map(|i| mixed(i) as u8).collect()
                };
                // An offset destination, and two consecutive copies.
                let (first, second) = (numbers(1), numbers(2));
                let buffer = driver.allocate(2 * bytes + 5).unwrap();
                driver.upload(stream, &first, &buffer, 5).unwrap();
                driver.upload(stream, &second, &buffer, 5 + bytes).unwrap();
                let mut got = vec![0; 2 * bytes];
                driver.download(stream, &buffer, 5, &mut got).unwrap();
                let what = format!("{bytes} bytes on {}", driver.name());
                assert!(got[..bytes] == first && got[bytes..] == second, "{what}");
            }
        }
    }
}

#[test]
fn scale_shift() {
    for driver in drivers() {
        let driver = &*driver;
        let x: Vec<f32> = (0..35).map(|i| i as f32 - 10.0).collect();
        let scale = [2.0f32, -1.0, 0.5, 0.0, 3.0];
        let shift = [1.0f32, 2.0, 3.0, 4.0, 5.0];
        let given = [&x[..], &scale, &shift].map(|numbers| upload(driver, numbers).unwrap());
        let y = driver.allocate(35 * 4).unwrap();
        let args = vec![
            Arg::from(&given[0]),
            Arg::from(&given[1]),
            Arg::from(&given[2]),
            Arg::from(&y),
            Arg::from(5u32),
            Arg::from(35u32),
        ];
        launch(driver, names::SCALE_SHIFT, 1, 32, args).unwrap();
        let wanted: Vec<f32> = (0..35)
            .map(|i| x[i] * scale[i % 5] + shift[i % 5])
            .collect();
        assert_eq!(download::<f32>(driver, &y, 35).unwrap(), wanted);
    }
}

#[test]
fn softmax_rows() {
    for driver in drivers() {
        let driver = &*driver;
        let x: Vec<f32> = (0..3 * 77).map(|i| (i % 13) as f32).collect();
        let buffer = upload(driver, &x).unwrap();
        let y = driver.allocate(buffer.bytes()).unwrap();
        let args = vec![
            Arg::from(&buffer),
            Arg::from(&y),
            Arg::from(77u32),
            Arg::from(3u32),
        ];
        launch(driver, names::SOFTMAX_ROWS, 1, 64, args).unwrap();
        let got = download::<f32>(driver, &y, x.len()).unwrap();
        for (got, x) in got.chunks(77).zip(x.chunks(77)) {
            let sum: f64 = x.iter().map(|&v| f64::from(v).exp()).sum();
            for (&g, &v) in got.iter().zip(x) {
                // A few roundings of a value below 1.
                assert!((f64::from(g) - f64::from(v).exp() / sum).abs() < 1e-7);
            }
        }
    }
}

/// Reverses the elements of each block through shared memory.
const REVERSE: &str = r#"
extern "C" __global__ void reverse_block(const float *x, float *y) {
    DYNAMIC_SHARED(float, kept);
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    kept[threadIdx.x] = x[i];
    __syncthreads();
    y[i] = kept[blockDim.x - 1 - threadIdx.x];
}
"#;

fn reverse_on(emulator: Emulator, threads: u32, shared: u32) -> Result<Vec<f32>, DeviceError> {
    let driver: Arc<dyn Driver> = Arc::new(emulator);
    let x: Vec<f32> = (0..2 * threads).map(|i| i as f32).collect();
    let from = upload(&*driver, &x)?;
    let to = driver.allocate(from.bytes())?;
    let launch = Launch {
        kernel: KernelName::foreign("reverse_block"),
        grid: [2, 1, 1],
        block: [threads, 1, 1],
        shared,
        args: vec![Arg::from(&from), Arg::from(&to)],
    };
    // SAFETY: the emulator detects mismatched arguments and out-of-bounds writes, which is tested
    // here.
    unsafe { driver.launch(Stream::A, &launch) }?;
    download(&*driver, &to, x.len())
}

fn reversed(threads: u32) -> Vec<f32> {
    (0..2)
        .flat_map(|block| {
            (0..threads)
                .rev()
                .map(move |i| (block * threads + i) as f32)
        })
        .collect()
}

/// Compares bits, because results of a broken kernel may be NaN.
fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn the_emulator_finds_a_missing_barrier() {
    let broken = REVERSE.replace("__syncthreads();", "");
    assert_ne!(REVERSE, broken);
    for order in ORDERS {
        let whole = Emulator::new(order).with_source("whole.cu", REVERSE);
        let y = reverse_on(whole, 48, 4 * 48).unwrap();
        assert_eq!(y, reversed(48), "{order:?}");
        let broken = Emulator::new(order).with_source("broken.cu", &broken);
        let y = reverse_on(broken, 48, 4 * 48).unwrap();
        assert_ne!(bits(&y), bits(&reversed(48)), "{order:?}");
    }
}

#[test]
fn the_emulator_finds_faults() {
    let fault = |text: &str, threads, shared| {
        let emulator = Emulator::new(ORDERS[0]).with_source("fault.cu", text);
        match reverse_on(emulator, threads, shared) {
            Err(DeviceError::Failed { what, problem }) if what == "reverse_block" => problem,
            other => panic!("{other:?} instead of a fault of the kernel"),
        }
    };
    let left = REVERSE.replace(
        "__syncthreads();",
        "if (threadIdx.x == 7) return; __syncthreads();",
    );
    let problem = fault(&left, 48, 4 * 48);
    assert!(problem.contains("47 of 48 wait"), "{problem}");
    let apart = REVERSE.replace(
        "__syncthreads();",
        "if (threadIdx.x % 2) {\n __syncthreads();\n } else {\n __syncthreads();\n }",
    );
    let problem = fault(&apart, 48, 4 * 48);
    assert!(problem.contains("48 of 48 wait"), "{problem}");
    let problem = fault(REVERSE, 48, 4 * 47);
    assert!(problem.contains("dynamic shared memory"), "{problem}");
    let problem = fault(&REVERSE.replace("y[i] =", "y[i + 1] ="), 48, 4 * 48);
    assert!(problem.contains("end of a buffer"), "{problem}");
    let problem = fault(&REVERSE.replace("float *y", "float *y, int n"), 48, 4 * 48);
    assert!(problem.contains("takes 3 arguments"), "{problem}");
    let warps = REVERSE.replace("__syncthreads();", "__syncthreads(); __syncwarp();");
    let whole = Emulator::new(ORDERS[0]).with_source("warp.cu", &warps);
    assert_eq!(reverse_on(whole, 48, 4 * 48).unwrap(), reversed(48));
}

#[test]
fn an_unknown_kernel_is_named() {
    for driver in drivers() {
        let error = launch(
            &*driver,
            KernelName::foreign("no_such_kernel"),
            1,
            1,
            vec![],
        )
        .unwrap_err();
        assert_eq!(error, DeviceError::NoKernel("no_such_kernel".into()));
    }
}

#[test]
fn the_emulator_finds_streams_that_do_not_wait() {
    let driver: Arc<dyn Driver> = Arc::new(Emulator::new(ORDERS[0]));
    let from = upload(&*driver, &[1.0f32, -2.0]).unwrap();
    let to = driver.allocate(8).unwrap();
    let doubled = |waits: bool| {
        let args = vec![
            Arg::from(&from),
            Arg::from(&from),
            Arg::from(&to),
            Arg::from(2u32),
            Arg::from(2u32),
        ];
        launch(&*driver, names::PRELU, 1, 32, args).unwrap();
        if waits {
            driver.synchronise(Stream::A).unwrap();
        }
        let mut numbers = [0.0f32; 2];
        let result = maeum::nn::cuda::bytes_mut(&mut numbers);
        driver.download(Stream::B, &to, 0, result).unwrap();
        numbers
    };
    assert!(doubled(false).iter().all(|v| v.is_nan()));
    assert_eq!(doubled(true), [1.0, 4.0]);
}
