//! Proof of the pool and of whole clusters ([`cluster`]): disks that fail, a model of what may be read afterwards, and runs that one seed
//! reproduces (design section 10).
//!
//! ```text
//!   Player ── requests ──▶ Pool ── ops ──▶ SimDisk      one small happening at a time, chosen by the seed
//!     │  ◀─── replies ───   │  ◀─ answers ──  │
//!     │                     └─ stores ▶ SimLog│
//!   Model: what each block may hold           └─ crash here: Survivor ── recover ──▶ Player, compared
//! ```

mod actor;
pub mod campaign;
pub mod cluster;
pub mod command;
pub mod disk;
pub mod habits;
pub mod log;
pub mod mirrored;
pub mod model;
pub mod pattern;
pub mod player;
pub mod record;
pub mod restart;
pub mod rig;
pub mod rng;
mod verbs;

pub use actor::Actor;
