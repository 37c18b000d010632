//! Reservations: PERSISTENT RESERVE IN and OUT (SPC-4 §5.13, §6.15, §6.16), RESERVE and RELEASE (SPC-2 §5.5).
//!
//! ```text
//!  PR OUT, RESERVE ─▶ request ─▶ State ── what it makes of it ─▶ State' ── WriteState ─▶ the volume (M20)
//!                                  ▲                                                        │
//!  every other command ─▶ conflict?┘ ◀── Edition, bytes ── ReadState ◀──────────────────────┘
//! ```
//!
//! - `state`: what there is to know; `change`: what a service action makes of it; `bytes`: how it is kept.
//! - `shared`: this unit's copy of it, and what it means for the nexuses here.
//! - `request`: a command that changes the state, until the change is durable.
//! - `unit`: the logical unit's doors to all that.
//! - `forget`: an administrator has it written anew.
//! - `out`, `read`: PERSISTENT RESERVE OUT and IN; `old`: RESERVE and RELEASE; `port`: TransportIDs.
//!
//! Invariant (M20): a change is computed from one edition of the state, and written only if that is still the newest.

mod bytes;
mod change;
mod forget;
pub(crate) mod old;
pub(crate) mod out;
mod port;
pub(crate) mod read;
pub(crate) mod request;
pub(crate) mod shared;
pub(crate) mod state;
mod unit;

pub use bytes::StateError;
pub use port::InitiatorPort;
pub use unit::Drain;
