//! The SCSI device server of one volume: SPC-4, SBC-3, SAM-5. Performs no I/O.
//!
//! ```text
//!            begin(CDB)                data_out(bytes)              finish(result)
//!  transport ----------> LogicalUnit  -------------->  LogicalUnit ---------------> LogicalUnit
//!            Answer | DataOut | Volume   Answer | Volume              Answer | Volume
//!                                                  VolumeOp --> the volume --> VolumeResult
//! ```
//!
//! A command is a [`Task`], plain data that the caller keeps while data-out or the volume is on its way, and
//! hands back. The logical unit knows of no task that it was not just given, so an abort is the caller's
//! dropping it (M19 is decided where the volume is asked).
//!
//! What all nodes have to agree on, reservations, is state of the volume (M20), of which the unit has a copy: it begins
//! without one, and says so by [`Begun::State`] and [`Step::State`].
//!
//! Every [`dyad_contract::volume::VolumeOp`] that comes out lies within the volume's size.

mod absent;
mod block;
mod capacity;
mod cdb;
mod commands;
mod compare_write;
mod copy;
mod defects;
mod diagnostic;
mod echo;
mod groups;
mod inquiry;
mod lba_status;
mod log;
mod mode;
mod naming;
mod nexus;
mod opcodes;
mod or_write;
mod reserve;
mod response;
mod right;
mod same;
mod sense;
mod shape;
mod status;
mod steps;
mod table;
mod task;
mod unit;
mod unmap;
mod verify;
mod vpd;
mod write_atomic;

pub use commands::COMMANDS;
pub use copy::{Errand, UnitName, Unreached};
pub use groups::{AccessState, PORT_GROUPS_MAX, PortGroup};
pub use lba_status::{RUNS_MAX, Run};
pub use log::Provisioning;
pub use nexus::{Attention, NEXUSES_MAX, NexusId, TooManyNexuses, Who};
pub use reserve::{Drain, InitiatorPort, StateError};
pub use response::{Begun, NodeOp, Response, Status, Step, Transfer};
pub use right::Right;
pub use sense::{Asc, Condition, Field, Sense, SenseFormat, SenseKey};
pub use shape::{BlockSize, Shape, SizeError, TRANSFER_BYTES_MAX};
pub use table::{Command, Conflict, Direction, LengthRule};
pub use task::Task;
pub use unit::{Identity, LogicalUnit, Settings};
