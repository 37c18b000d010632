//! Model checker: every interleaving of a small case, with the real handlers of `mirror` and `cluster` (design
//! section 10).
//!
//! ```text
//!  state ──actions──▶ each one possible now ──step──▶ calls Leases, takeover::decide, changed, propose, Part …
//!    ▲                                                  │
//!    └── digest: seen before? ◀── invariants hold? ◀────┘
//! ```
//!
//! - `search`: breadth first over all states, so that the trace of a violation is a shortest one.
//! - `digest`: what makes two states the same: everything that they show by `Debug`, times relative to now.
//! - `leases`: who may answer, at the same true time: leases, promises, claims, compare-and-sets, restarts, drift.
//! - `parts`: whole parts of a segment over a small store, network and images: no acknowledged write is lost.
//! - `config`: the configurations with their bounds, named.
//!
//! Nothing here decides what the cluster does: an action hands one event to real code and carries out what it says.
//!
//! Why not the crate `stateright`: it identifies states by `Hash`, for which every private type of the mirror would have
//! to implement a hash that is right for *its* checker (times relative to now, numbers of beats relative to the newest);
//! it wants states to be `Send + Sync`; and it brings a web server. What is needed of it is the hundred lines in `search`.

pub mod config;
mod digest;
mod leases;
mod parts;
mod search;

pub use search::{Bounds, Found, Model, Report, Violation, explore};
