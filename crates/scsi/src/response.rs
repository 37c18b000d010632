//! What a command ends with, and what it needs on the way there.

use dyad_contract::volume::VolumeOp;
use dyad_payload::Payload;
use dyad_units::{Period, Span};

use crate::copy::Errand;
use crate::sense::Sense;
use crate::task::Task;

/// SAM-5 §5.3.1, the status codes that this device server reports.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Status {
    /// Done.
    Good = 0x00,
    /// Not done, or done with a remark: see the sense data.
    CheckCondition = 0x02,
    /// Send it again later.
    Busy = 0x08,
    /// Another nexus holds a reservation.
    ReservationConflict = 0x18,
    /// No room for another command.
    TaskSetFull = 0x28,
    /// Aborted by another nexus, where that is reported (TAS of the Control mode page).
    TaskAborted = 0x40,
}

/// The end of a command.
#[derive(Clone, Debug)]
pub struct Response {
    /// SCSI status.
    pub status: Status,
    /// Sense data, with CHECK CONDITION.
    pub sense: Option<Sense>,
    /// Data-in, already cut to the allocation length of the CDB. The transport cuts it further to what its
    /// host expects, and reports the residual.
    pub data_in: Payload,
}

impl Response {
    /// GOOD with nothing to hand back.
    pub fn good() -> Self {
        Self::status(Status::Good)
    }

    /// GOOD with data.
    pub fn data(data_in: Payload) -> Self {
        Self { status: Status::Good, sense: None, data_in }
    }

    /// A bare status.
    pub fn status(status: Status) -> Self {
        Self { status, sense: None, data_in: Payload::new() }
    }

    /// CHECK CONDITION.
    pub fn check(sense: Sense) -> Self {
        Self { status: Status::CheckCondition, sense: Some(sense), data_in: Payload::new() }
    }

    /// The sense data, empty if there are none.
    pub fn sense_bytes(&self) -> &[u8] {
        self.sense.as_deref().unwrap_or(&[])
    }
}

/// What the transport's command announces about its data (in iSCSI: the R and W bits and the expected data
/// transfer length).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transfer {
    /// No data.
    None,
    /// The host takes up to so many bytes.
    In(u32),
    /// The host sends so many bytes.
    Out(u32),
}

impl Transfer {
    /// Bytes of data-out announced.
    pub(crate) const fn out_len(self) -> u32 {
        match self {
            Self::Out(len) => len,
            Self::None | Self::In(_) => 0,
        }
    }
}

/// What a command needs first. Whoever runs commands drops the task to abort it.
#[derive(Clone, Debug)]
pub enum Begun {
    /// It has ended.
    Answer(Response),
    /// Bring `len` bytes of data-out, then call [`crate::LogicalUnit::data_out`]. `len` is what the CDB asks
    /// for; it may be more than the transport announced: then bring what was announced, be it nothing, and
    /// report the residual overflow (RFC 7143 §11.4.5).
    DataOut {
        /// Hand it back.
        task: Task,
        /// Count of bytes, not zero.
        len: u32,
    },
    /// Ask the volume, then call [`crate::LogicalUnit::finish`].
    Volume {
        /// Hand it back.
        task: Task,
        /// What the volume is asked.
        op: VolumeOp,
    },
    /// The shared state has to be known ([`crate::LogicalUnit::adopt`]), then call [`crate::LogicalUnit::again`].
    State {
        /// Hand it back.
        task: Task,
    },
    /// Ask the node, then call the door that the operation names.
    Node {
        /// Hand it back.
        task: Task,
        /// What the node is asked.
        op: NodeOp,
    },
}

/// What is asked of the node, past the volume.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NodeOp {
    /// Which blocks of the span were ever written, as the owner's image has it. -> [`crate::LogicalUnit::looked`], or
    /// [`crate::LogicalUnit::finish`] with an error.
    Look {
        /// Where.
        span: Span,
    },
    /// The node with this target port group becomes owner (M12). -> [`crate::LogicalUnit::finish`] when it is, or with an
    /// error: [`VolumeError::Busy`](dyad_contract::volume::VolumeError::Busy) if it may work in a moment, else
    /// [`VolumeError::WriteFault`](dyad_contract::volume::VolumeError::WriteFault).
    Move {
        /// TARGET PORT GROUP; one that the node told the unit.
        group: u16,
    },
    /// Wait for so long; nothing is under way meanwhile. -> [`crate::LogicalUnit::paused`].
    Pause {
        /// A few seconds at most.
        period: Period,
    },
    /// Run a command at another volume, for a copy. -> [`crate::LogicalUnit::ran`].
    Errand(Errand),
}

impl From<Step> for Begun {
    fn from(step: Step) -> Self {
        match step {
            Step::Answer(response) => Self::Answer(response),
            Step::Volume { task, op } => Self::Volume { task, op },
            Step::State { task } => Self::State { task },
            Step::Node { task, op } => Self::Node { task, op },
        }
    }
}

/// What a command needs next.
#[derive(Clone, Debug)]
pub enum Step {
    /// It has ended.
    Answer(Response),
    /// Ask the volume, then call [`crate::LogicalUnit::finish`]. A long command asks several times.
    Volume {
        /// Hand it back.
        task: Task,
        /// What the volume is asked.
        op: VolumeOp,
    },
    /// As [`Begun::State`].
    State {
        /// Hand it back.
        task: Task,
    },
    /// As [`Begun::Node`].
    Node {
        /// Hand it back.
        task: Task,
        /// What the node is asked.
        op: NodeOp,
    },
}
