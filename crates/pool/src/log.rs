//! L: memory that outlives the process, not the machine (P6).

/// A few MiB of shared memory. A store is visible to the next process at once; nothing survives the machine.
/// The simulator stands here and sees every store.
pub trait RecentLog: Send {
    /// Count of bytes; zero where there is no L: then every restart counts as one of the machine.
    fn capacity(&self) -> usize;

    /// Copies out `to.len()` bytes at `at`.
    fn load(&self, at: usize, to: &mut [u8]);

    /// Stores `from` at `at`, in ascending order of address.
    fn store(&mut self, at: usize, from: &[u8]);
}

/// No L: where no shared memory can be had.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLog;

impl RecentLog for NoLog {
    fn capacity(&self) -> usize {
        0
    }

    fn load(&self, _at: usize, _to: &mut [u8]) {}

    fn store(&mut self, _at: usize, _from: &[u8]) {}
}
