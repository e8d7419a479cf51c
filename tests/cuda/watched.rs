//! A driver that records operations and can block them.

use std::sync::{Arc, Condvar, Mutex};

use maeum::nn::cuda::{Buffer, DeviceError, Driver, Event, Launch, Stream};

/// A driver that records operations and calls `before` ahead of each.
pub struct Watched {
    inner: Arc<dyn Driver>,
    seen: Mutex<Vec<Seen>>,
    before: Box<Before>,
}

type Before = dyn Fn(&Seen) -> Result<(), DeviceError> + Send + Sync;

#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    Kernel(String),
    Up(usize),
    Down(usize),
    Wait,
}

impl Watched {
    pub fn new(
        inner: Arc<dyn Driver>,
        before: impl Fn(&Seen) -> Result<(), DeviceError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            inner,
            seen: Mutex::default(),
            before: Box::new(before),
        }
    }

    /// Returns the operations since the last call.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    fn saw(&self, seen: Seen) -> Result<(), DeviceError> {
        (self.before)(&seen)?;
        self.seen.lock().unwrap().push(seen);
        Ok(())
    }
}

impl Driver for Watched {
    fn name(&self) -> String {
        self.inner.name()
    }

    fn free_memory(&self) -> Result<usize, DeviceError> {
        self.inner.free_memory()
    }

    fn allocate(&self, bytes: usize) -> Result<Buffer, DeviceError> {
        self.inner.allocate(bytes)
    }

    fn upload(&self, on: Stream, data: &[u8], to: &Buffer, at: usize) -> Result<(), DeviceError> {
        self.saw(Seen::Up(data.len()))?;
        self.inner.upload(on, data, to, at)
    }

    fn download(
        &self,
        on: Stream,
        from: &Buffer,
        at: usize,
        data: &mut [u8],
    ) -> Result<(), DeviceError> {
        self.saw(Seen::Down(data.len()))?;
        self.inner.download(on, from, at, data)
    }

    unsafe fn launch(&self, stream: Stream, launch: &Launch) -> Result<(), DeviceError> {
        self.saw(Seen::Kernel(launch.kernel.as_str().into()))?;
        // SAFETY: guaranteed by the caller.
        unsafe { self.inner.launch(stream, launch) }
    }

    fn synchronise(&self, stream: Stream) -> Result<(), DeviceError> {
        self.saw(Seen::Wait)?;
        self.inner.synchronise(stream)
    }

    fn wait(&self, stream: Stream, for_stream: Stream) -> Result<(), DeviceError> {
        self.inner.wait(stream, for_stream)
    }

    fn record(&self, stream: Stream) -> Result<Event, DeviceError> {
        self.inner.record(stream)
    }

    fn milliseconds(&self, from: &Event, to: &Event) -> Result<f64, DeviceError> {
        self.inner.milliseconds(from, to)
    }
}

/// Returns a predicate that is true for the `n`th operation that `is` accepts.
pub fn nth(
    n: usize,
    is: impl Fn(&Seen) -> bool + Send + Sync,
) -> impl Fn(&Seen) -> bool + Send + Sync {
    let count = Mutex::new(0);
    move |seen| {
        let mut count = count.lock().unwrap();
        *count += usize::from(is(seen));
        is(seen) && *count == n
    }
}

/// Checks the transfers of a 2020 batch that follows one with the same rates: samples are uploaded
/// once, signals downloaded once for the voice detector, and predictions downloaded last.
pub fn check_transfers(seen: &[Seen], samples: usize) {
    let up = |seen: &Seen| matches!(seen, Seen::Up(_));
    let computed = |seen: &Seen| matches!(seen, Seen::Kernel(_));
    let steps: Vec<&Seen> = seen.iter().filter(|seen| !up(seen)).collect();
    let runs: Vec<&[&Seen]> = steps.chunk_by(|a, b| computed(a) == computed(b)).collect();
    let computes: Vec<bool> = runs.iter().map(|run| computed(run[0])).collect();
    assert_eq!(computes, [true, false, true, false], "{steps:?}");
    let kernel = |name: &str| Seen::Kernel(name.into());
    let last = [runs[0], runs[2]].map(|run| run[run.len() - 1].clone());
    assert_eq!(last[0], kernel("clean_normalize"));
    assert!(runs[2].contains(&&kernel("feature_windows")), "{steps:?}");
    assert!(runs[2].contains(&&kernel("group_means")), "{steps:?}");
    assert!(!runs[2].contains(&&kernel("gather")), "{steps:?}");
    assert!(!seen.contains(&Seen::Wait), "{seen:?}");
    let bytes = |seen: &Seen| match seen {
        Seen::Up(bytes) | Seen::Down(bytes) => *bytes,
        _ => 0,
    };
    // Uploads besides the samples: tables, offsets and voicing. A window has 32,000 bytes.
    let others: usize = seen.iter().filter(|s| up(s)).map(bytes).sum();
    let others = others - samples * size_of::<f32>();
    let window_bytes = 200 * 40 * size_of::<f32>();
    assert!(others < window_bytes, "{others}: {seen:?}");
    let answers: usize = runs[3].iter().map(|s| bytes(s)).sum();
    assert!(answers < 10_000, "{answers}");
}

/// A gate that blocks callers until it is opened.
#[derive(Default)]
pub struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    reached: bool,
    open: bool,
}

impl Gate {
    /// Returns at once if the gate is open, else blocks.
    pub fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.reached = true;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |state| !state.open).unwrap());
    }

    /// Waits until a caller is blocked.
    pub fn wait(&self) {
        let state = self.state.lock().unwrap();
        drop(
            self.changed
                .wait_while(state, |state| !state.reached)
                .unwrap(),
        );
    }

    pub fn open(&self) {
        self.state.lock().unwrap().open = true;
        self.changed.notify_all();
    }
}
