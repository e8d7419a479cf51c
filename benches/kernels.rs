//! Throughput of the hot kernels as a share of the CPU's peak.
//!
//! ```sh
//! cargo bench --bench kernels                  # every available instruction set, some minutes
//! cargo bench --bench kernels -- 'avx2: conv'  # benchmarks whose name contains this
//! cargo bench --bench kernels -- --test        # one run of everything, no timing
//! ```
//!
//! Every kernel is a graph of the layers that it fuses in the models, run by a session on one thread.
//! The networks of the models follow, dropout off: those of 2020 if `MAEUM_REFERENCE_DIR` names the
//! folder of the original files. Their operations are those of convolutions, dense and recurrent
//! layers.
//! divan prints the times, and floating-point operations as items per second. Each product of an
//! input and a weight counts two operations. Products with zero padding, biases, activations,
//! normalisation and pooling take time but count nothing.
//!
//! The peak is the rate of the instruction set's fused multiply-adds in a loop that uses registers
//! only. The table at the end measures kernel and peak alternately, so that a temporary slowdown of
//! the machine affects both: `GFLOP/s` and `peak` are medians, `share` is the median of the shares of
//! single rounds. `padded` is the same share with the products with zero padding included, a common
//! way to count operations of networks; kernels that skip them can exceed 100 %. The share of a
//! recurrent layer counts its products, not the functions of its gates. The last line is the median
//! rate of a loop that only the CPU's front end limits: below 100 %, other programs run on the same
//! cores.

#[path = "kernels/cases.rs"]
mod cases;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[path = "kernels/front_end.rs"]
mod front_end;
#[path = "kernels/networks.rs"]
mod networks;
#[path = "kernels/peak.rs"]
mod peak;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cases::Case;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use maeum::nn::{DropoutMode, Plan, Session};
use maeum::simd::Isa;

/// Measurements of each kernel, each paired with one of the peak.
const ROUNDS: usize = 31;
/// Approximate duration of a measurement, which repeats its work until then.
const MEASUREMENT: Duration = Duration::from_millis(1);

fn main() {
    divan::main();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|a| a == "--list") {
        return;
    }
    // Without `--bench` divan runs everything once without timing.
    let measured =
        arguments.iter().any(|a| a == "--bench") && !arguments.iter().any(|a| a == "--test");
    let filters: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    table(&filters, if measured { ROUNDS } else { 1 });
}

/// A kernel on an instruction set.
struct Subject {
    isa: Isa,
    case: Case,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.isa.name(), self.case.name)
    }
}

fn subjects() -> Vec<Subject> {
    let on = |isa| {
        let cases = cases::all().into_iter().chain(networks::all());
        cases.map(move |case| Subject { isa, case })
    };
    Isa::available().into_iter().flat_map(on).collect()
}

impl Subject {
    fn runner(&self) -> Runner {
        let plan = Plan::with_isa(&self.case.graph, &self.case.shapes, self.isa);
        Runner {
            session: Session::new(&Arc::new(plan.unwrap())),
            inputs: self.case.inputs(),
            rows: self.case.rows,
        }
    }
}

struct Runner {
    session: Session,
    inputs: Vec<Vec<f32>>,
    rows: usize,
}

impl Runner {
    fn run(&mut self) {
        let inputs: Vec<&[f32]> = self.inputs.iter().map(|x| &**x).collect();
        self.session
            .run(black_box(&inputs), self.rows, &DropoutMode::Off)
            .unwrap();
        black_box(self.session.output(0));
    }
}

#[divan::bench(args = subjects())]
fn kernel(bencher: Bencher, subject: &Subject) {
    let mut runner = subject.runner();
    bencher
        .counter(ItemsCount::new(subject.case.operations))
        .bench_local(|| runner.run());
}

#[divan::bench(args = Isa::available().into_iter().map(Isa::name))]
fn peak(bencher: Bencher, name: &str) {
    let isa = Isa::named(name).unwrap();
    let steps = peak::steps(isa);
    bencher
        .counter(ItemsCount::new(peak::run(isa, steps)))
        .bench(|| peak::run(isa, black_box(steps)));
}

/// Returns operations per nanosecond over repeated calls that take about [`MEASUREMENT`].
fn rate(mut work: impl FnMut() -> u64) -> f64 {
    let mut operations = 0;
    let start = Instant::now();
    loop {
        operations += work();
        let taken = start.elapsed();
        if taken >= MEASUREMENT {
            return operations as f64 / taken.as_nanos() as f64;
        }
    }
}

fn table(filters: &[&String], rounds: usize) {
    let chosen = |subject: &Subject| {
        let name = subject.to_string();
        filters.is_empty() || filters.iter().any(|f| name.contains(&***f))
    };
    let subjects: Vec<Subject> = subjects().into_iter().filter(chosen).collect();
    let mut runners: Vec<Runner> = subjects.iter().map(Subject::runner).collect();
    let mut rates = vec![Vec::with_capacity(rounds); subjects.len()];
    for runner in &mut runners {
        runner.run();
    }
    for _ in 0..rounds {
        for ((subject, runner), rates) in subjects.iter().zip(&mut runners).zip(&mut rates) {
            let steps = peak::steps(subject.isa);
            let peak = rate(|| peak::run(subject.isa, black_box(steps)));
            let kernel = rate(|| {
                runner.run();
                subject.case.operations
            });
            rates.push([kernel, peak, kernel / peak]);
        }
    }
    let names: Vec<String> = subjects.iter().map(Subject::to_string).collect();
    let width = names.iter().map(String::len).max().unwrap_or(0);
    if rounds < ROUNDS {
        println!("\nToo few rounds for the figures to mean anything:");
    }
    println!(
        "\n{:width$}  {:>7}  {:>7}  {:>6}  {:>6}",
        "", "GFLOP/s", "peak", "share", "padded"
    );
    for ((name, rates), subject) in names.iter().zip(&rates).zip(&subjects) {
        let median = |of: usize| {
            let mut values: Vec<f64> = rates.iter().map(|rate| rate[of]).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let share = median(2) * 100.0;
        let padding = subject.case.with_padding as f64 / subject.case.operations as f64;
        println!(
            "{name:width$}  {:7.1}  {:7.1}  {share:5.1}%  {:5.1}%",
            median(0),
            median(1),
            share * padding
        );
    }
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    println!(
        "\nA loop of no-operations ran at {:.0}% of its best rate.",
        front_end::share() * 100.0
    );
}
