//! Disks: files and block devices that hold a pool.
//!
//! ```text
//!             +-- buffered descriptor: data, checksum tables, syncs (page cache outlives the process, P6)
//!  DiskFile --+
//!             +-- direct descriptor, O_DIRECT + O_DSYNC: journal, reads past the page cache (P11)
//!
//!  DiskOp --> LiveDisk --cheap and sure not to wait--> system call, done at once
//!                    \---may wait---> Engine (io_uring, or threads) --> done later
//! ```
//!
//! Both descriptors are locked, so that another process gets the disk only when every operation of this one
//! has ended, even of one that was killed (P11).

mod blocking;
mod engine;
mod file;
mod live;

mod ring;
mod set;
mod threads;
mod work;

pub use engine::EngineError;
pub use file::{CreateDiskError, DiskFile, OpenDiskError};
pub(crate) use file::{is_taken, lock_byte};
pub use live::LiveCounters;
pub use set::{DiskIndex, Disks, End};

#[cfg(test)]
mod tests;
