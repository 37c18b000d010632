//! What the rooms ask of each other, as plain data.
//!
//! ```text
//!  scsi --volume::VolumeOp--> mirror --image::Request--> pool (or, later, the peer link)
//!  scsi <-volume::VolumeResult-- mirror <--image::Reply-- pool
//! ```
//!
//! Nothing here decides. The types live in a crate of their own so that neither side depends on the other,
//! and so that a simulator, a peer link and a real disk can stand on either end.

pub mod image;
pub mod volume;
