//! One SCSI command on its way.

/// What a command moves. The buffer comes back with the completion, to be used again.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Transfer {
    /// No data.
    #[default]
    None,
    /// From the target; the length of the buffer is the expected data transfer length.
    In(Vec<u8>),
    /// To the target.
    Out(Vec<u8>),
}

impl Transfer {
    /// The buffer, empty if there is none.
    pub fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::None => Vec::new(),
            Self::In(bytes) | Self::Out(bytes) => bytes,
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::In(bytes) | Self::Out(bytes) => bytes.len(),
        }
    }
}

/// A finished command.
#[derive(Clone, Debug)]
pub struct Completion {
    /// The caller's name for the command.
    pub user: u64,
    /// SCSI status: 0 is GOOD, 2 CHECK CONDITION (SAM-5 §5.3).
    pub status: u8,
    /// Sense data, empty with GOOD.
    pub sense: Vec<u8>,
    /// Expected minus transferred bytes: positive for an underflow, negative for an overflow.
    pub residual: i64,
    /// The buffer of the command.
    pub transfer: Transfer,
}

impl Completion {
    /// (sense key, additional sense code, qualifier) of fixed-format sense data (SPC-4 §4.5.3).
    pub fn sense_codes(&self) -> Option<(u8, u8, u8)> {
        match self.sense.first()? & 0x7f {
            0x70 | 0x71 => Some((self.sense.get(2)? & 0xf, *self.sense.get(12)?, *self.sense.get(13)?)),
            0x72 | 0x73 => Some((self.sense.get(1)? & 0xf, *self.sense.get(2)?, *self.sense.get(3)?)),
            _ => None,
        }
    }
}

/// A command that was sent and not yet answered.
#[derive(Debug)]
pub(super) struct Task {
    pub user: u64,
    pub transfer: Transfer,
    pub lun: u64,
}
