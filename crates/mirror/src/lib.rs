//! The mirror: what keeps the images of a segment equal, and decides who may answer a host (design section 6).
//!
//! - `home`: what the homes of the SCSI state hold (M20, M21).
//! - `lease`: the node's table of leases and promises: who may answer as owner, until when (M5, M6).
//! - `owner`: the owner's side of a segment: orders writes, waits for every in-sync image, takes images out.
//! - `image`: an image's side of the stream from the owner: obeys the newest, finishes the older first (M3).
//! - `part`: one node's part in a segment: front, owner or not, images; takes over when the owner is silent.
//!
//! Pure: takes events and the time, returns actions. Performs no I/O, waits for nothing, reads no clock.

mod home;
mod image;
mod lease;
mod owner;
mod part;
mod records;
mod tally;

pub use home::Noted;
pub use image::{Asker, Image, ImageAction};
pub use lease::{Beat, BeatAnswer, LeaseTuning, Leases, OWNED_MAX};
pub use owner::{
    Action, ChangeRefused, Counters, Event, ImageIndex, ImageStatus, Lease, Mirror, MirrorState, MirrorStatus, Note,
    OpId, Refusal, ResyncStage, ResyncStatus, Setup, SetupError, Tuning, Waiting,
};
pub use part::{
    Command, CommandError, LOSS_RANGES_MAX, LossForecast, LossList, LossRanges, LossReport, OtherImage, Part,
    PartAction, PartCounters, PartEvent, PartImage, PartNote, PartRole, PartSetup, PartStatus, PartTuning, PeerMessage,
};

/// The model checker clones machines and takes what they show for their state (design section 10).
const fn is_a_state<T: Clone + std::fmt::Debug>() {}
const _: () = {
    is_a_state::<Part>();
    is_a_state::<Mirror>();
    is_a_state::<Image>();
    is_a_state::<Leases>();
};
