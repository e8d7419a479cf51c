//! Choice between one and several threads for the work on one recording.

/// Scheduling of independent parts of the work on one recording.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Parallelism {
    /// Sequential, on the calling thread.
    #[default]
    No,
    /// Concurrent, on the threads of the current rayon pool.
    Yes,
}

impl Parallelism {
    /// Runs both closures and returns their results.
    pub fn join<A: Send, B: Send>(
        self,
        a: impl FnOnce() -> A + Send,
        b: impl FnOnce() -> B + Send,
    ) -> (A, B) {
        match self {
            Self::No => (a(), b()),
            Self::Yes => rayon::join(a, b),
        }
    }
}
