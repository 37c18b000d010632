//! A writer that remembers what was acknowledged, and a reader that holds the target to it.
//!
//! ```text
//!            submit            GOOD                        connection lost
//!  sector: acked=a ──▶ in flight: v ──▶ acked=v    in flight: v ──▶ acked=a, maybe={v}
//!                                                  seen once: acked=what was seen (A5: it sticks)
//! ```
//!
//! The rule checked per sector (A1, A5): it holds the last acknowledged value, or one of a write that was sent later
//! and never answered; per 4 KiB block, such a write is there as a whole or not at all.

mod book;
mod check;
mod pattern;
mod writer;

pub use book::{Book, Span};
pub use check::{CheckError, Report, check};
pub use pattern::{SECTOR, Value, fill, value_of};
pub use writer::{Mix, RunError, Tally, Writer};
