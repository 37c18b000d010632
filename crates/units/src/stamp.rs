//! Order of writes: epochs, intervals, stamps (M1) and write numbers (M3).

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name($inner);

        impl $name {
            /// The counter with this value.
            pub const fn new(value: $inner) -> Self {
                Self(value)
            }

            /// The value, for the wire, the disk and the screen.
            pub const fn value(self) -> $inner {
                self.0
            }

            /// The one after this. Counters are sized never to run out; running out is a fault of ours.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.checked_add(1).expect("counter ran out"))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter!(
    /// Version of a segment's record: rises with every change of owner or in-sync set.
    Epoch,
    u32
);
counter!(
    /// Numbered period of writes (about 10 s) within an epoch's count, opened and closed by the owner.
    Interval,
    u32
);
counter!(
    /// Number of one write of a segment in the owner's order; rises within an epoch (M3).
    WriteNumber,
    u64
);

/// (epoch, interval) in which an extent was last written; compared in that order (M1).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Stamp {
    /// Epoch of the write.
    pub epoch: Epoch,
    /// Interval of the write.
    pub interval: Interval,
}

impl Stamp {
    /// Below every stamp that a write can carry: "never written".
    pub const NEVER: Self = Self { epoch: Epoch(0), interval: Interval(0) };

    /// Above every stamp that a write can carry: what a marked region's extents count as after a crash,
    /// until the segment is served again (M1).
    pub const NEWEST: Self = Self { epoch: Epoch(u32::MAX), interval: Interval(u32::MAX) };

    /// A stamp from its parts.
    pub const fn new(epoch: Epoch, interval: Interval) -> Self {
        Self { epoch, interval }
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_decides_before_the_interval() {
        let old = Stamp::new(Epoch::new(1), Interval::new(900));
        let new = Stamp::new(Epoch::new(2), Interval::new(1));
        assert!(Stamp::NEVER < old && old < new && new < Stamp::NEWEST);
    }
}
