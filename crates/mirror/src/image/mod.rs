//! An image's side of the stream from the segment's owner (M3). One per image of this node, remote owner or not.
//! Performs no I/O, reads no clock.
//!
//! ```text
//!            open(record)                    all older finished             record durable
//!   closed ───────────────▶ adopting: draining ───────────▶ adopting: recording ───────────▶ open(epoch, link)
//!      ▲                        ▲ a newer open ─────────────────────┘                          │  ▲     │
//!      │                        └──────────────────────────────────────────────────────────────┘  └─────┘
//!      └── the connection or the pool ends                                         Record in the stream: the same two steps
//! ```
//!
//! Invariants:
//!
//! - one stream at a time: what comes with another number is thrown away (M3);
//! - a stream opens only after everything of the one before has been answered by the pool, and after the record that
//!   names its owner is durable (M3, M9);
//! - an epoch lower than one adopted, or the same with another content, is refused with the record kept (M3, §8).

mod action;
mod open;
mod stream;

pub use action::{Asker, ImageAction};
pub use stream::Image;
