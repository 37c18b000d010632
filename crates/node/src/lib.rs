//! The edge: sockets, disks, memory that outlives the process, clocks and threads, and the wiring of the rooms.
//!
//! ```text
//!  control threads                      data reactor (one thread)
//!  api --NodeHandle--> admin thread --> +--------------------------------------------------+
//!                      store thread <-- | sockets -> iscsi -> scsi -> mirror -> pool -> disks |
//!                                       +--------------------------------------------------+
//! ```
//!
//! All decisions are made in the pure rooms; here things are opened, read, written, timed and carried from
//! one room to the next. The reactor never waits for a disk, for the config store or for a person.

// The tests' cast names this crate as everybody else does.
#[cfg(test)]
extern crate self as dyad_node;

mod admin;
pub mod adopt;
mod beats;
mod catalog;
pub mod clock;
mod config_store;
pub mod control;
pub mod disk;
mod exported;
mod identity;
pub mod join;
mod keeper;
mod moves;
mod orders;
mod peers;
mod reactor;
pub mod settings;
pub mod shm;
mod start;
mod talk;

pub use config_store::StoreStartError;
pub use control::NodeHandle;
pub use reactor::{ListenError, ReactorError};
pub use settings::Settings;
pub use start::{Node, StartError};
