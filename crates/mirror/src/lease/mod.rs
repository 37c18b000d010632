//! Leases and promises of one node: who may answer as owner of what, until when (M5, M6). One table per node, for all
//! its segments; performs no I/O, reads no clock.
//!
//! ```text
//!  owner                                   node of an in-sync image
//!   own(segment, epoch) ── ticks             grant_for(segment, epoch) ── its image adopted exactly that epoch
//!   beat(t0) ─────── Beat { owned } ───────▶ on_beat(t1): promises not to be owner before t1 + L + margin
//!   on_answer ◀───── BeatAnswer { granted } ─┘
//!   held_until = t0 + L                      promised_until
//! ```
//!
//! Invariant: what the owner holds ends before what the other promised does, as long as the two clocks run apart by no
//! more than the bound: the owner counts from *sending*, the other from *receiving*, and adds a margin.

mod held;
mod leases;
mod promise;
mod tuning;

pub use leases::{Beat, BeatAnswer, Leases, OWNED_MAX};
pub use tuning::LeaseTuning;
