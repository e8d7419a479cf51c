//! Threads that share a device: what waits goes there together, and everyone gets its own answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use maeum::Recognizer;
use maeum::audio::Recording;
use maeum::model::ModelInfo;
use maeum::model::{Model, Role};
use maeum::nn::cuda::{DeviceError, Driver};
use maeum::nn::dropout::Masks;
use maeum::nn::{DropoutMode, Layer};
use maeum::recognizer::{DeviceLimits, RecognizeError};
use rayon::prelude::*;

use crate::emulator::{Emulator, MEMORY, ORDERS};
use crate::front_end::{recorded, voice};
use crate::model::{speech_like, speech_model};
use crate::watched::{Gate, Seen, Watched, check_transfers, nth};
use crate::whole_way::{Outcome, bits, check};
use crate::{gpu, on_gpu_alone};

fn model_2020() -> Model {
    speech_model(ModelInfo::legacy2020())
}

/// The emulator, or the GPU where that alone is to be tested.
fn driver() -> Arc<dyn Driver> {
    match on_gpu_alone() {
        true => gpu().expect("MAEUM_CUDA=gpu asks for a GPU, and none can be used"),
        false => Arc::new(Emulator::new(ORDERS[2])),
    }
}

fn sharing(model: Model, driver: Arc<dyn Driver>, limits: DeviceLimits) -> Recognizer {
    let mut recognizer = Recognizer::new(model).unwrap();
    recognizer.use_device_within(&driver, limits).unwrap();
    recognizer
}

/// A recording with what is to be done about dropout.
type Asked = (Recording, DropoutMode);

fn ask(recognizer: &Recognizer, number: usize, (recording, dropout): &Asked) -> Outcome {
    let mut worker = recognizer.worker();
    match number % 2 {
        0 => worker.recognize(recording, &format!("no. {number}"), dropout),
        _ => worker.recognize_owned(recording.clone(), &format!("no. {number}"), dropout),
    }
}

fn one_by_one(recognizer: &Recognizer, asked: &[Asked]) -> Vec<Outcome> {
    let asked = asked.iter().enumerate();
    asked.map(|(i, a)| ask(recognizer, i, a)).collect()
}

/// The first one asks and is held at the gate until all others wait, one behind the other.
fn together(recognizer: &Recognizer, gate: &Gate, asked: &[Asked]) -> Vec<Outcome> {
    let answered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let answered = &answered;
        let start = |(number, asked)| {
            scope.spawn(move || {
                let outcome = ask(recognizer, number, asked);
                answered.fetch_add(1, Ordering::SeqCst);
                outcome
            })
        };
        let mut numbered = asked.iter().enumerate();
        let mut threads = vec![start(numbered.next().unwrap())];
        gate.wait();
        for asked in numbered {
            threads.push(start(asked));
            let has_come = || {
                recognizer.waiting_for_device() + answered.load(Ordering::SeqCst) == threads.len()
            };
            while !has_come() {
                std::thread::yield_now();
            }
        }
        gate.open();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    })
}

/// A driver that holds whoever launches a kernel, until its gate is opened, and then asks
/// `before` each thing that it does.
fn gated(
    inner: Arc<dyn Driver>,
    before: impl Fn(&Seen) -> Result<(), DeviceError> + Send + Sync + 'static,
) -> (Arc<Watched>, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let own = Arc::clone(&gate);
    let watched = Watched::new(inner, move |seen| {
        if let Seen::Kernel(_) = seen {
            own.pass();
        }
        before(seen)
    });
    (Arc::new(watched), gate)
}

/// Batches that the networks were asked about: this is computed once for each.
fn batches(seen: &[Seen]) -> usize {
    seen.iter()
        .filter(|seen| is_kernel(seen, "group_means"))
        .count()
}

fn is_kernel(seen: &Seen, name: &str) -> bool {
    *seen == Seen::Kernel(name.into())
}

/// Masks that drop every third unit of the features' network.
fn masks(model: &Model) -> DropoutMode {
    let nodes = &model.network(Role::EmotionFeatures).unwrap().graph.nodes;
    let dropouts = nodes
        .iter()
        .filter(|n| matches!(n.layer, Layer::Dropout(_)));
    let mask = (0..16).map(|unit| u8::from(unit % 3 != 0));
    let masks = dropouts.map(|node| (node.name.clone(), mask.clone().collect()));
    DropoutMode::Masks(Masks(masks.collect()))
}

/// Asks together, alone and the processor; in `wanted` batches.
fn check_together(model: impl Fn() -> Model, asked: &[Asked], wanted: usize) {
    let on_processor = one_by_one(&Recognizer::new(model()).unwrap(), asked);
    for inner in [driver()].into_iter().chain(gpu()) {
        let limits = DeviceLimits::default();
        let alone = one_by_one(&sharing(model(), inner.clone(), limits), asked);
        check("alone", &alone, &on_processor);
        let (watched, gate) = gated(inner, |_| Ok(()));
        let recognizer = sharing(model(), watched.clone(), limits);
        let got = together(&recognizer, &gate, asked);
        assert_eq!(bits(&got), bits(&alone));
        assert_eq!(batches(&watched.take()), wanted);
        assert_eq!(recognizer.waiting_for_device(), 0);
    }
}

#[test]
fn recordings_that_wait_go_to_the_device_together() {
    let draws = DropoutMode::draws(3, 7);
    let masks = masks(&model_2020());
    let asked = [
        (voice(0.3, 16_000, 1), draws.clone()),
        (recorded(vec![0.0; 16_000], 16_000), draws.clone()),
        (voice(0.5, 22_050, 2), draws.clone()),
        (voice(0.2, 16_000, 3), DropoutMode::draws(3, 8)),
        (voice(0.25, 8_000, 4), draws.clone()),
        (voice(0.2, 16_000, 3), DropoutMode::Off),
        (voice(0.3, 16_000, 5), masks.clone()),
        (recorded(vec![0.1; 30], 16_000), draws.clone()),
        (voice(0.2, 16_000, 6), masks),
        (voice(0.3, 16_000, 5), DropoutMode::Masks(Masks::default())),
        (voice(0.3, 44_100, 7), draws),
    ];
    // The first; those with the same draws; one with other draws, one without; two with masks. Masks
    // that do not fit are asked about none.
    check_together(model_2020, &asked, 6);
}

#[cfg(feature = "default-model")]
#[test]
fn with_the_built_in_model_too() {
    let draws = DropoutMode::draws(2, 7);
    let said = |seconds, pitch| recorded(speech_like(seconds, 16_000, pitch), 16_000);
    let asked = [
        (said(1.3, 120.0), draws.clone()),
        (said(1.6, 200.0), draws.clone()),
        (recorded(vec![0.0; 16_000], 16_000), draws.clone()),
        (said(1.4, 150.0), DropoutMode::Off),
        (said(1.5, 170.0), draws),
    ];
    check_together(|| crate::profiles::profile_model("built in"), &asked, 3);
}

#[test]
fn only_samples_go_up() {
    let asked = (voice(1.2, 16_000, 5), DropoutMode::draws(32, 1));
    let watched = Arc::new(Watched::new(driver(), |_| Ok(())));
    let recognizer = sharing(model_2020(), watched.clone(), DeviceLimits::default());
    for number in 0..2 {
        watched.take();
        ask(&recognizer, number, &asked).unwrap();
    }
    check_transfers(&watched.take(), asked.0.samples.len());
}

fn asked_of(seeds: std::ops::Range<u64>) -> Vec<Asked> {
    let asked = |seed| (voice(0.2, 16_000, seed), DropoutMode::draws(2, 1));
    seeds.map(asked).collect()
}

#[test]
fn what_does_not_fit_goes_with_the_next() {
    let mut asked = asked_of(0..5);
    asked.push((voice(0.6, 16_000, 9), DropoutMode::draws(2, 1)));
    let roomy = sharing(model_2020(), driver(), DeviceLimits::default());
    let wanted = one_by_one(&roomy, &asked);
    let default = DeviceLimits::default();
    // The signals of the short ones are 6,400 numbers each, the last one's is more than fits.
    let limits = [
        (
            DeviceLimits {
                recordings: 2,
                ..default
            },
            1 + 3,
        ),
        (
            DeviceLimits {
                recordings: 0,
                ..default
            },
            1 + 5,
        ),
        (
            DeviceLimits {
                numbers: 14_000,
                ..default
            },
            1 + 3,
        ),
        (
            DeviceLimits {
                numbers: 14_000,
                kept_bytes: 0,
                ..default
            },
            1 + 3,
        ),
    ];
    for (limits, count) in limits {
        let (watched, gate) = gated(driver(), |_| Ok(()));
        let recognizer = sharing(model_2020(), watched.clone(), limits);
        let got = together(&recognizer, &gate, &asked);
        assert_eq!(bits(&got), bits(&wanted));
        assert_eq!(batches(&watched.take()), count, "{limits:?}");
    }
}

/// Things that come down, the first one's peak and signal first, before the second is worked on.
fn down_before_the_second(limits: DeviceLimits) -> usize {
    let mut asked = asked_of(0..1);
    asked.push((voice(0.6, 16_000, 9), DropoutMode::draws(2, 1)));
    let (watched, gate) = gated(driver(), |_| Ok(()));
    let recognizer = sharing(model_2020(), watched.clone(), limits);
    let got = together(&recognizer, &gate, &asked);
    assert!(got.iter().all(Result::is_ok), "{got:?}");
    let is_second = nth(2, |seen| is_kernel(seen, "clean_noise"));
    let seen = watched.take();
    let before = seen.iter().take_while(|seen| !is_second(seen));
    let is_down = |seen: &&Seen| matches!(seen, Seen::Down(_));
    before.filter(is_down).count()
}

#[test]
fn a_long_recording_alone_is_not_cleaned_before_the_last_answers() {
    let default = DeviceLimits::default();
    assert_eq!(down_before_the_second(default), 2);
    let limits = DeviceLimits {
        numbers: 14_000,
        ..default
    };
    assert!(down_before_the_second(limits) > 2);
}

#[test]
fn the_memory_of_long_recordings_is_given_back() {
    let dropout = DropoutMode::draws(2, 1);
    let short = (voice(0.2, 16_000, 1), dropout.clone());
    let long = (voice(1.5, 16_000, 2), dropout);
    let limits = DeviceLimits {
        numbers: 14_000,
        ..DeviceLimits::default()
    };
    if on_gpu_alone() {
        return;
    }
    let driver = driver();
    let recognizer = sharing(model_2020(), driver.clone(), limits);
    let free_after = |recognizer: &Recognizer, asked: &Asked| {
        ask(recognizer, 0, asked).unwrap();
        driver.free_memory().unwrap()
    };
    let empty = free_after(&recognizer, &long);
    assert!(free_after(&recognizer, &short) < empty);
    assert_eq!(free_after(&recognizer, &long), empty);
    drop(recognizer);
    assert_eq!(driver.free_memory().unwrap(), MEMORY);
    // As is that of networks that hold much.
    let default = DeviceLimits::default();
    let kept = free_after(&sharing(model_2020(), driver.clone(), default), &short);
    let limits = DeviceLimits {
        kept_bytes: 0,
        ..default
    };
    let given_back = free_after(&sharing(model_2020(), driver.clone(), limits), &short);
    assert!(given_back > kept);
}

/// Of those that ask together, the first one's batch fails if `first` says so, the others' otherwise.
fn check_failure(
    what: &str,
    model: impl Fn() -> Model,
    asked: &[Asked],
    fails: impl Fn(&Seen) -> bool + Send + Sync + 'static,
    problem: &'static str,
    failing: std::ops::Range<usize>,
) {
    let alone = one_by_one(&sharing(model(), driver(), DeviceLimits::default()), asked);
    assert!(alone.iter().all(Result::is_ok), "{what}: {alone:?}");
    let failed = AtomicBool::new(false);
    let (watched, gate) = gated(driver(), move |seen| {
        if fails(seen) && !failed.swap(true, Ordering::SeqCst) {
            assert!(!problem.is_empty(), "the driver panics");
            return Err(DeviceError::Failed {
                what: "the test".into(),
                problem: problem.into(),
            });
        }
        Ok(())
    });
    let recognizer = sharing(model(), watched.clone(), DeviceLimits::default());
    watched.take();
    let got = together(&recognizer, &gate, asked);
    for (number, (got, alone)) in got.iter().zip(&alone).enumerate() {
        if !failing.contains(&number) {
            let [got, alone] = [got, alone].map(|o| bits(std::slice::from_ref(o)));
            assert_eq!(got, alone, "{what}");
            continue;
        }
        let Err(error @ RecognizeError::Device { .. }) = got else {
            panic!("{what}: {got:?}");
        };
        let said = match problem {
            "" => "they were interrupted; try again".into(),
            problem => format!("the test: {problem}"),
        };
        let wanted = format!("no. {number}: the networks gave no answer: {said}");
        assert_eq!(error.to_string(), wanted, "{what}");
    }
    // And then as if nothing had been.
    assert_eq!(
        bits(&one_by_one(&recognizer, asked)),
        bits(&alone),
        "{what}"
    );
    if problem.is_empty() {
        // For both streams, which may still have been at work.
        let waits = watched.take().into_iter().filter(|s| *s == Seen::Wait);
        assert_eq!(waits.count(), 2, "{what}");
    }
}

fn is_signals(seen: &Seen) -> bool {
    // The shortest signal has more, all other things that come down less.
    matches!(seen, Seen::Down(bytes) if *bytes > 20_000)
}

#[test]
fn a_device_that_fails_once_is_asked_again() {
    let asked = asked_of(0..4);
    let cleaned = |seen: &Seen| is_kernel(seen, "clean_noise");
    let means = |seen: &Seen| is_kernel(seen, "group_means");
    let what = "while it listens";
    check_failure(what, model_2020, &asked, nth(1, cleaned), "no", 0..1);
    check_failure(what, model_2020, &asked, nth(2, cleaned), "no", 1..4);
    check_failure(
        "signals",
        model_2020,
        &asked,
        nth(3, is_signals),
        "no",
        1..4,
    );
    let what = "in the networks";
    check_failure(what, model_2020, &asked, nth(1, means), "no", 0..1);
    check_failure(what, model_2020, &asked, nth(2, means), "no", 1..4);
    // The first one's answers: its peak and its signal come down, then those of the others.
    let down = |seen: &Seen| matches!(seen, Seen::Down(_));
    check_failure("answers", model_2020, &asked, nth(7, down), "no", 0..1);
}

#[test]
fn a_panic_ends_nothing_but_what_it_meets() {
    let mut asked = asked_of(0..4);
    // Which waits while the others meet it.
    asked.push((voice(0.2, 16_000, 9), DropoutMode::draws(2, 2)));
    let cleaned = |seen: &Seen| is_kernel(seen, "clean_noise");
    let means = |seen: &Seen| is_kernel(seen, "group_means");
    check_failure("the first", model_2020, &asked, nth(1, means), "", 0..1);
    check_failure("the others", model_2020, &asked, nth(2, means), "", 1..4);
    // Then the first one's answers are not taken yet.
    check_failure("the others", model_2020, &asked, nth(2, cleaned), "", 1..4);
    check_failure("a signal", model_2020, &asked, nth(1, is_signals), "", 0..1);
}

#[cfg(feature = "default-model")]
#[test]
fn questions_fail_alone_too() {
    let model = || crate::profiles::profile_model("built in");
    let asked: Vec<Asked> = [120.0, 180.0, 210.0]
        .map(|pitch| recorded(speech_like(1.3, 16_000, pitch), 16_000))
        .map(|recording| (recording, DropoutMode::Off))
        .into();
    let means = |seen: &Seen| is_kernel(seen, "group_means");
    check_failure("the first", model, &asked, nth(1, means), "no", 0..1);
    check_failure("the others", model, &asked, nth(2, means), "", 1..3);
}

#[test]
fn one_that_the_device_has_no_room_for_harms_no_other() {
    if on_gpu_alone() {
        return;
    }
    let dropout = DropoutMode::draws(2, 1);
    let mut asked = asked_of(0..3);
    let long = recorded(speech_like(12.0, 44_100, 190.0), 44_100);
    asked.insert(2, (long, dropout));
    let small = || Arc::new(Emulator::new(ORDERS[1]).with_memory(4 << 20)) as Arc<dyn Driver>;
    let default = DeviceLimits::default();
    let on_processor = one_by_one(&Recognizer::new(model_2020()).unwrap(), &asked);
    let (watched, gate) = gated(small(), |_| Ok(()));
    let recognizer = sharing(model_2020(), watched.clone(), default);
    let got = together(&recognizer, &gate, &asked);
    check("little memory", &got, &on_processor);
    // All but the long one are analysed there, each alone.
    let seen = watched.take();
    let analysed = seen.iter().filter(|s| is_kernel(s, "feature_windows"));
    assert_eq!((analysed.count(), batches(&seen)), (3, 4));
    // Those that there is room for are answered as where there is much.
    let roomy = one_by_one(&sharing(model_2020(), driver(), default), &asked);
    for number in [0, 1, 3] {
        let [got, roomy] = [&got, &roomy].map(|all| bits(&all[number..=number]));
        assert_eq!(got, roomy);
    }
}

#[test]
fn threads_of_a_rayon_pool_may_ask() {
    let asked = asked_of(0..6);
    let recognizer = sharing(model_2020(), driver(), DeviceLimits::default());
    let wanted = one_by_one(&recognizer, &asked);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2);
    let got: Vec<Outcome> = pool.build().unwrap().install(|| {
        let asked = asked.par_iter().enumerate();
        asked.map(|(i, a)| ask(&recognizer, i, a)).collect()
    });
    assert_eq!(bits(&got), bits(&wanted));
}
