//! Times of leases.

use dyad_units::Period;

/// Times of leases. The same on every node of a cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LeaseTuning {
    /// L: how long a lease lasts, from the sending of the beat that asked for it (M5).
    pub length: Period,
    /// Bound of how far a node's clock may run off true time, in millionths. Crystal clocks stay within 200; beyond
    /// the bound reads may be stale, but nothing acknowledged is lost (design section 10).
    pub drift_ppm: u32,
    /// Time between two beats.
    pub beat: Period,
}

/// What a margin has at least: a moment is read before it is used, and a millisecond covers any such gap between two
/// instructions that is not a pause of the whole process.
const MARGIN_MIN: Period = Period::from_millis(1);

impl LeaseTuning {
    /// What a promise lasts longer than the lease: 2 × drift × L, because one clock may run fast and the other slow,
    /// and a millisecond (M5).
    pub const fn margin(&self) -> Period {
        let drift = self.length.as_nanos() / 1_000_000 * 2 * self.drift_ppm as u64;
        Period::from_nanos(drift + MARGIN_MIN.as_nanos())
    }

    /// How long a promise lasts, from receiving the beat.
    pub const fn promise(&self) -> Period {
        Period::from_nanos(self.length.as_nanos() + self.margin().as_nanos())
    }

    /// A span of another node's clock, as this node's clock may measure it at most.
    pub const fn stretched(&self, period: Period) -> Period {
        let drift = period.as_nanos() / 1_000_000 * 2 * self.drift_ppm as u64;
        Period::from_nanos(period.as_nanos() + drift + MARGIN_MIN.as_nanos())
    }
}

impl Default for LeaseTuning {
    fn default() -> Self {
        Self { length: Period::from_millis(600), drift_ppm: 1000, beat: Period::from_millis(100) }
    }
}
