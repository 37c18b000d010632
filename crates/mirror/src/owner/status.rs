//! What a mirror says about itself: the answer to "is my data redundant?".

use dyad_cluster::{ImageState, OutReason};
use dyad_units::{Bytes, Epoch, ImageId, Period, PoolId};

/// How far a mirror is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MirrorState {
    /// It asks its images what the last run left. Nothing is fenced yet.
    Starting,
    /// It waits for the config store to record the new epoch, and for the images to keep it; then asks them once more.
    Claiming,
    /// It must not serve yet; it asks anew when an image comes back (M11).
    Waiting(Waiting),
    /// It serves.
    Serving,
    /// It drains and closes for another node to own the segment (M12).
    HandingOver,
    /// It drains and closes.
    Stopping,
    /// It has ended in good order.
    Stopped,
    /// It does not serve, for this reason, until something outside changes.
    Refused(Refusal),
    /// Another owner took over, or the segment was deleted (M7).
    SteppedDown,
}

/// What a start waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Waiting {
    /// Every image that can be asked lost its memory, and this one, which cannot be asked, may have kept it (M11).
    #[error("image {image} cannot be reached and may have writes that the images here forgot; bring its node back")]
    ForImage {
        /// Whom it waits for.
        image: ImageId,
    },
    /// No image in sync can be asked.
    #[error("no image in sync can be reached")]
    ForAny,
}

/// How far an image's resync is (M13 to M16).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ResyncStatus {
    /// Which image.
    pub image: ImageId,
    /// What it is doing.
    pub stage: ResyncStage,
    /// Extents copied in this run.
    pub done: u64,
    /// Extents still to be copied.
    pub needed: u64,
    /// Bytes that differed and were sent.
    pub sent: Bytes,
    /// Extents per second in this run; zero at its beginning.
    pub rate: u64,
    /// Until the copying ends at this rate; none: nobody knows yet.
    pub time_left: Option<Period>,
}

/// What a resync is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ResyncStage {
    /// It waits for the record, or for a crash's comparison to end.
    Beginning,
    /// It asks the images what changed.
    Listing,
    /// It copies.
    Copying,
    /// Everything is copied; the image closes and joins the set.
    Joining,
}

/// Why a segment is not served.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The store was restored from an old copy, or the image is from elsewhere (§8).
    #[error(
        "image {image} has seen epoch {seen}, the config store knows {known}: the store is older than the data; restore the newer store"
    )]
    StoreBehind {
        /// The image that knows better.
        image: ImageId,
        /// Its epoch.
        seen: Epoch,
        /// The store's.
        known: Epoch,
    },
    /// Equal epochs with different content (§8).
    #[error(
        "image {image} and the config store have different records of epoch {epoch}: one of them is not of this cluster's history"
    )]
    Contradiction {
        /// The image.
        image: ImageId,
        /// The epoch.
        epoch: Epoch,
    },
    /// The image keeps a record that this software cannot read.
    #[error("image {image} keeps a record that cannot be read: use the newer software, or drop the image")]
    UnreadableRecord {
        /// The image.
        image: ImageId,
    },
    /// The only in-sync image lost recent writes that an image on another node may have (M8, M11).
    #[error(
        "the only image in sync, {image}, lost recent writes before it was flushed alone; another image may have them"
    )]
    NotFlushedAlone {
        /// The image.
        image: ImageId,
    },
    /// The images of this node lost recent writes that another node's image has (M11): that node must own the segment.
    #[error(
        "image {image} of this node lost recent writes that another node still has; that node has to own the segment"
    )]
    Forgot {
        /// The image.
        image: ImageId,
    },
}

/// One image's part.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ImageStatus {
    /// Identity.
    pub id: ImageId,
    /// Its pool.
    pub pool: PoolId,
    /// As recorded.
    pub state: ImageState,
    /// Why it is not in sync; or, in sync, what is wrong with the last one.
    pub reason: Option<OutReason>,
    /// It failed and the record does not say so yet (M7, M8).
    pub is_failing: bool,
}

/// Counts since the mirror was made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// Blocks rewritten from another image because they were damaged (P14).
    pub healed: u64,
    /// Blocks made equal after a crash (P8).
    pub mended: u64,
    /// Blocks believed although nothing verified them (P8).
    pub adopted: u64,
    /// Operations answered "busy".
    pub busy: u64,
    /// Images taken out.
    pub taken_out: u64,
    /// Blocks of which no good copy was left when they were read (P14).
    pub medium_errors: u64,
    /// Atomic writes that may have been half done and were given up: nobody could tell, or the blocks of their range became bad
    /// (M21).
    pub intents_voided: u64,
    /// Intervals closed (M4).
    pub closed: u64,
    /// Answers held because a lease was out (M5).
    pub lease_holds: u64,
    /// Requests sent again after a connection broke (M3).
    pub resent: u64,
    /// Extents copied to images that caught up (M14).
    pub copied: u64,
    /// Images that joined the set again (M16).
    pub joined: u64,
}

/// What a mirror says about itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MirrorStatus {
    /// How far it is.
    pub state: MirrorState,
    /// Newest epoch recorded.
    pub epoch: Epoch,
    /// Its images, in the record's order.
    pub images: Vec<ImageStatus>,
    /// Operations not answered yet.
    pub in_flight: usize,
    /// Extents that have yet to be compared after a crash.
    pub suspect: u64,
    /// Whether an atomic write may have been left half done: its blocks are shown to nobody until it is carried out (M21).
    pub is_replaying: bool,
    /// The image that catches up, if one does.
    pub resync: Option<ResyncStatus>,
    /// Answers held until a lease returns or a record is durable (M5, M9).
    pub held: usize,
    /// Counts.
    pub counters: Counters,
}

impl MirrorStatus {
    /// Images that hold every acknowledged write and answer.
    pub fn good_images(&self) -> usize {
        self.images.iter().filter(|image| image.state == ImageState::InSync && !image.is_failing).count()
    }

    /// How the last image in sync fails, which therefore stays in the set.
    fn last_failure(&self) -> Option<OutReason> {
        let mut in_sync = self.images.iter().filter(|image| image.state == ImageState::InSync && !image.is_failing);
        in_sync.find_map(|image| image.reason)
    }

    /// The one sentence that answers "is my data redundant?".
    pub fn sentence(&self) -> String {
        let good = self.good_images();
        let total = self.images.iter().filter(|image| image.state != ImageState::Detached).count();
        match self.state {
            MirrorState::Starting | MirrorState::Claiming => "starting".to_owned(),
            MirrorState::Waiting(reason) => format!("not served yet: {reason}"),
            MirrorState::HandingOver => "being handed over".to_owned(),
            MirrorState::Stopping | MirrorState::Stopped => "stopped".to_owned(),
            MirrorState::SteppedDown => "served elsewhere".to_owned(),
            MirrorState::Refused(reason) => format!("not served: {reason}"),
            MirrorState::Serving if let Some(reason) = self.last_failure() => {
                format!("FAILING: of the only image in sync {}; hosts get errors", reason.text())
            }
            MirrorState::Serving if self.is_replaying => {
                format!("{good} of {total} images in sync; an atomic write that was left half done is being completed")
            }
            MirrorState::Serving if total == 1 && good == 1 => "not redundant: the volume has one image".to_owned(),
            MirrorState::Serving if good == total && self.suspect > 0 => {
                format!("redundant: {good} images; comparing {} extents after a crash", self.suspect)
            }
            MirrorState::Serving if good == total => format!("redundant: {good} images in sync"),
            MirrorState::Serving => {
                let bad = self.images.iter().find_map(|image| image.reason).map_or("", OutReason::text);
                let verdict = if good > 1 { "less redundant" } else { "NOT redundant" };
                format!("{verdict}: {good} of {total} images in sync; {bad}")
            }
        }
    }
}
