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
//! Every [`dyad_contract::volume::VolumeOp`] that comes out lies within the volume's size.

mod nexus;
mod response;
mod sense;
mod shape;
mod task;
mod unit;

pub use nexus::{Attention, NEXUSES_MAX, NexusId, TooManyNexuses, Who};
pub use response::{Begun, Response, Status, Step};
pub use sense::{Asc, Condition, Field, Sense, SenseFormat, SenseKey};
pub use shape::{BlockSize, Shape, SizeError};
pub use task::Task;
pub use unit::{Identity, LogicalUnit, Settings};
