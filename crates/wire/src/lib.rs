//! The peer protocol: what nodes tell each other over TCP, as bytes. Byte for byte in `docs/peer-protocol.md`.
//!
//! ```text
//!  PeerMessage, Beat ─▶ Sender ── header │ control │ payload ─▶ socket ─▶ Receiver ─▶ Incoming
//!                         │ heads kept here, payload as                     │ payload straight into
//!                         └ slices of its owner's buffers                   └ page-aligned buffers
//! ```
//!
//! Performs no I/O. A driver fills what [`Receiver::room`] offers and sends what [`Sender::gather`] shows; between, it
//! takes messages out with [`Receiver::poll`]. Invariants:
//!
//! - a flipped bit anywhere in the stream is an error that ends the connection, never a wrong message: header, control
//!   and payload each have a sum, and frames are counted;
//! - the data of a write is verified against the block sums that travel with it, made where it entered the cluster (P7);
//! - no byte from outside leads to a panic, or to memory beyond the named bounds;
//! - frames of reads and writes are made and taken without allocating.

mod codec;
mod error;
mod frame;
mod greeting;
mod incoming;
mod mends;
mod receiver;
mod sender;

pub use error::{Malformed, SendError, WireError};
pub use frame::{CONTROL_BYTES_MAX, HEADER_BYTES, Kind, MAGIC, PAYLOAD_BYTES_MAX};
pub use greeting::{
    Bye, ByeReason, ConnectionKind, GREETING_WITHIN, Hello, Local, Refusal, RefusalReason, TEXT_BYTES_MAX, VERSIONS,
    Versions, Welcome, WelcomeError,
};
pub use incoming::{Incoming, SegmentNumber};
pub use receiver::{ANNOUNCED_MAX, BEAT_BYTES_MAX, MESSAGE_BYTES_MAX, Polled, Receiver, TALK_BYTES_MAX};
pub use sender::{OWNED_BYTES_MAX, Sender};
