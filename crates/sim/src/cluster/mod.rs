//! A whole cluster in one thread: the real `mirror`, `cluster` and `pool` of every node, over simulated disks, clocks, net
//! and config store, with hosts that ask and remember; all chance comes from one seed.
//!
//! ```text
//!  Host ── commands ──▶ sessions ─▶ ┌──────────── machine ────────────┐     beats, letters     ┌── machine ──┐
//!   ◀── answers ──                  │ Leases · Part per segment · Pool │ ◀──── net, faults ───▶ │     ...     │
//!        │                          │ clock · SimDisk · SimLog         │                        └─────────────┘
//!        ▼                          └────────────────┬─────────────────┘
//!  Book: every block's history                       ▼ proposals, reads, watch
//!  (linearizable over crashes)                  ConfigStore
//! ```
//!
//! One queue of events, ordered by true time and by their making, moves everything. A run has three acts: trouble, as
//! its plan says; then every fault is mended and nothing new is asked; then everything must be answered, in sync and
//! equal.

mod block;
mod book;
mod calm;
pub mod campaign;
mod clock;
mod config;
mod coverage;
mod cut_off;
mod faults;
mod few;
mod finish;
mod ghosts;
mod happening;
mod host;
mod kinds;
mod life;
mod links;
mod machine;
mod marks;
mod net;
mod plan;
mod plays;
mod promotion;
mod queue;
mod reactor;
mod recalled;
mod reigns;
mod resync_trouble;
mod rots;
mod seldom;
mod sessions;
mod setup;
mod story;
mod survived;
mod wholes;
mod world;

pub use campaign::{Campaign, Outcome};
pub use coverage::Coverage;
pub use cut_off::Twist;
pub use plan::{Aim, Beats, DiskFault, Fault, FaultKind, Plan, Trigger};
pub use world::World;
