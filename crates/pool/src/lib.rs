//! A pool: extents of images on a disk, with map, checksums and region log (design section 5, P1 to P15).
//!
//! ```text
//!            submit(image, token, Request)                    take_replies
//!  owner ──────────────────────────────▶ +--------+ ─────────────────────────────▶ owner
//!                                        |  Pool  |
//!  disk  ◀────────────────────────────── +--------+ ◀───────────────────────────── disk
//!            take_disk_ops (plain data)      │           complete(token, result)
//!                                            ▼ store
//!                                       RecentLog (L)
//! ```
//!
//! Opening, formatting and recovery are straight-line code over [`BlockingDisk`]; everything afterwards is a
//! state machine that waits for nothing. Rooms:
//!
//! - `format`: every byte on disk and in L, and how they are read back;
//! - `map`, `entry`: which slot an extent lies in (P1);
//! - `engine`: what a request does, step by step, and what is written when.

mod config;
mod counters;
mod disk;
mod engine;
mod entry;
mod error;
mod format;
mod log;
mod map;
mod open;
#[cfg(feature = "synthetic")]
pub mod synthetic;

pub use config::{FormatConfig, OpenConfig};
pub use counters::{Counters, PoolUse};
pub use disk::{BlockingDisk, DiskDone, DiskError, DiskOp, DiskToken};
pub use engine::{AdminReply, AdminToken, IMAGE_SIZE_MAX, ImageHandle, Peek, Pool};
pub use error::{AdminError, FormatError, OpenError};
pub use format::state::{ImageMeta, ImagePhase};
pub use log::{NoLog, RecentLog};
pub use open::OpenReport;
