//! The owner of one segment: orders its writes, keeps its images equal, decides when a host may be answered.
//! Performs no I/O, waits for nothing, reads no clock.
//!
//! ```text
//!                 Event::Op ──▶ ┌────────┐ ──▶ Action::Image ──▶ every in-sync image (a pool, later a peer)
//!  host command                 │ Mirror │ ◀── Event::Image  ◀──
//!              Action::Answer ◀─│        │ ──▶ Action::Propose ─▶ config store
//!                               └────────┘ ◀── Event::Outcome ◀─
//! ```
//!
//! How a write goes: lock the block range (M2) → merge partial blocks from verified reads (P7) → find space on
//! every target (P15) → number, stamp, checksum once → apply on all in-sync images → all replied → unlock →
//! flush if it must be durable (A2) → answer (A1).
//!
//! Invariants:
//!
//! - an answered write is on every image that the record names in sync (A1, A3);
//! - one range is never written twice at once, nor read while it is written, at any image (M2);
//! - every operation is answered exactly once, and after that answer it has no further effect (M19);
//! - nothing that a crash left unequal is read before it was made equal (P8, M9);
//! - what reveals the segment's state goes out only under leases of all who could serve it (M5);
//! - an image that catches up has every write to an extent from the copy of that extent on (M14).

mod abort;
mod ack;
mod advance;
mod atomic;
mod choose;
mod compare;
mod core;
mod credit;
mod equalise;
mod event;
mod flush;
mod gate;
mod hand_over;
mod heal;
mod images;
mod interval;
mod lease_gate;
mod link;
mod lock;
mod members;
mod mirror;
mod number;
mod op;
mod propose;
mod read;
mod replay;
mod resync;
mod setup;
mod start;
mod state;
mod status;
mod step_down;
mod suspect;
mod take_out;
mod tick;
mod write;

pub use event::{Action, ChangeRefused, Event, ImageIndex, Note, OpId};
pub use lease_gate::Lease;
pub use mirror::Mirror;
pub(crate) use read::first_piece;
pub use setup::{Setup, SetupError, Tuning};
pub use status::{Counters, ImageStatus, MirrorState, MirrorStatus, Refusal, ResyncStage, ResyncStatus, Waiting};
