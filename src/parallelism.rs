//! Work on one recording by several threads.

/// Whether parts of the work on one recording are done side by side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Parallelism {
    /// One after the other, on the thread that asks.
    #[default]
    No,
    /// On the threads of its rayon pool.
    Yes,
}

impl Parallelism {
    /// Does both.
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
