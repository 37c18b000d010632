//! Clients that put a target to the proof.
//!
//! ```text
//!  verify::Writer ─┐
//!  load::run ──────┼─▶ initiator::Session ──TCP──▶ any iSCSI target
//!  hold::hold ─────┘        ▲
//!  flood::flood ── half-open logins
//! ```
//!
//! Nothing here shares code with the target: PDUs, negotiation, CHAP and digests are written a second time from
//! RFC 7143, with other checksum and hash crates, so that a misreading has to be made twice to stay unseen.
//! Everything is blocking and bounded: each wait has a time limit, each loop a count or a deadline.

pub mod disk;
pub mod flood;
pub mod histogram;
pub mod hold;
pub mod initiator;
pub mod load;
pub mod paths;
pub mod random;
pub mod verify;
