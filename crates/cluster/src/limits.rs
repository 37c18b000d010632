//! How much of a node's power the hosts of one volume may use.

use std::num::{NonZeroU32, NonZeroU64};

use serde::{Deserialize, Serialize};

/// Fewest commands per second that a volume may be limited to: with fewer a host with a queue of ordinary depth (32)
/// waits longer for its last command than it is ready to (30 s is a usual timeout, and it has several in line).
pub const IOPS_MIN: u32 = 10;
/// Least bandwidth, in bytes per second: one command of ordinary size (up to 1 MiB) still ends within a second.
pub const BANDWIDTH_MIN: u64 = 1 << 20;
/// Longest time whose unused share may be saved up, in seconds.
pub const BURST_SECS_MAX: u16 = 3600;

/// Limits of one volume, for the commands of all of its hosts together that read or write.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Commands per second; none: any number.
    pub iops: Option<NonZeroU32>,
    /// Bytes per second, read and written; none: any number.
    pub bandwidth: Option<NonZeroU64>,
    /// For so many seconds unused share is saved up, and may be used at once later; 0: none.
    pub burst_secs: u16,
}

/// The limits cannot be kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LimitError {
    /// Too few commands.
    #[error("{0} commands per second are too few for a host to work (use {IOPS_MIN} or more, or 0 for no limit)")]
    Iops(u32),
    /// Too few bytes.
    #[error("{0} bytes per second are too few for a host to work (use {BANDWIDTH_MIN} or more, or 0 for no limit)")]
    Bandwidth(u64),
    /// Too long a burst.
    #[error("a burst of {0} s is too long (use 0 to {BURST_SECS_MAX})")]
    Burst(u16),
    /// A burst of nothing.
    #[error("a burst needs a limit: give commands or bytes per second as well")]
    BurstAlone,
}

impl Limits {
    /// Limits from numbers of which 0 means "no limit".
    ///
    /// # Errors
    /// [`LimitError`].
    pub fn new(iops: u32, bandwidth: u64, burst_secs: u16) -> Result<Self, LimitError> {
        if (1..IOPS_MIN).contains(&iops) {
            return Err(LimitError::Iops(iops));
        }
        if (1..BANDWIDTH_MIN).contains(&bandwidth) {
            return Err(LimitError::Bandwidth(bandwidth));
        }
        if burst_secs > BURST_SECS_MAX {
            return Err(LimitError::Burst(burst_secs));
        }
        if burst_secs > 0 && iops == 0 && bandwidth == 0 {
            return Err(LimitError::BurstAlone);
        }
        Ok(Self { iops: NonZeroU32::new(iops), bandwidth: NonZeroU64::new(bandwidth), burst_secs })
    }

    /// Whether there is none.
    pub const fn is_none(&self) -> bool {
        self.iops.is_none() && self.bandwidth.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::{LimitError, Limits};

    #[test]
    fn what_would_stop_a_host_is_refused() {
        assert_eq!(Limits::new(0, 0, 0), Ok(Limits::default()));
        assert!(!Limits::new(10, 0, 3600).unwrap().is_none());
        assert_eq!(Limits::new(9, 0, 0), Err(LimitError::Iops(9)));
        assert_eq!(Limits::new(0, 1023, 0), Err(LimitError::Bandwidth(1023)));
        assert_eq!(Limits::new(10, 0, 3601), Err(LimitError::Burst(3601)));
        assert_eq!(Limits::new(0, 0, 1), Err(LimitError::BurstAlone));
    }
}
