//! The mirror: what keeps the images of a segment equal, and decides who may answer a host (design section 6).
//!
//! - `owner`: the owner's side of a segment: orders writes, waits for every in-sync image, takes images out.
//!
//! Pure: takes events and the time, returns actions. Performs no I/O, waits for nothing, reads no clock.

mod owner;

pub use owner::{
    Action, Counters, Event, ImageIndex, ImageStatus, Mirror, MirrorState, MirrorStatus, Note, OpId, Refusal, Setup,
    SetupError, Tuning,
};
