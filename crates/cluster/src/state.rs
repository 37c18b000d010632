//! The states of an image in its segment's record, and the table of what may follow what.

use serde::{Deserialize, Serialize};

/// Whether an image holds every acknowledged write. Why it does not is an [`OutReason`].
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageState {
    /// It holds every acknowledged write; every write needs its acknowledgement (A3).
    InSync,
    /// It is being caught up and holds only part.
    Syncing,
    /// It was taken out and is behind.
    Stale,
    /// It is not part of the volume any more; kept until somebody drops it.
    Detached,
}

/// What happens to an image.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum ImageAct {
    /// It cannot follow (M8), or its catching up ended early (M14).
    TakeOut,
    /// It begins to catch up (M13).
    Resync,
    /// It has caught up (M16).
    Join,
    /// An administrator makes it the segment's only image in sync (M10).
    Promote,
    /// An administrator made another one that: what this one alone had is kept (M10).
    Lose,
    /// An administrator lets it go.
    Detach,
    /// An administrator lets it catch up after all; what it alone had is given up.
    Reattach,
    /// An administrator gives it up.
    Remove,
}

impl ImageState {
    /// The table: what an image in this state is after `act`; `None` where that may not happen. In sync is reached by
    /// catching up only (M16), or by an administrator's forced promotion (M10).
    pub const fn after(self, act: ImageAct) -> Option<Self> {
        use ImageState::{Detached, InSync, Stale, Syncing};
        match (self, act) {
            (InSync | Syncing, ImageAct::TakeOut) => Some(Stale),
            (Stale, ImageAct::Resync) => Some(Syncing),
            (Syncing, ImageAct::Join) => Some(InSync),
            // In sync too: while others cannot be asked what it forgot, it may not serve by itself (M11).
            (InSync | Syncing | Stale, ImageAct::Promote) => Some(InSync),
            // A stale one too: it may have had more than the one that was promoted.
            (InSync | Syncing | Stale | Detached, ImageAct::Lose) => Some(Detached),
            (Syncing | Stale, ImageAct::Detach) => Some(Detached),
            // A stale one that an administrator took out stays out until then.
            (Stale | Detached, ImageAct::Reattach) => Some(Stale),
            (Syncing | Stale | Detached, ImageAct::Remove) => Some(Detached),
            (Syncing | Stale | Detached, _) | (InSync, _) => None,
        }
    }
}

/// Why an image is not in sync.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutReason {
    /// Its disk failed a write, a sync or a close (P11).
    WriteFailed,
    /// It did not answer for too long (M8).
    Silent,
    /// Its pool or node is not there.
    Absent,
    /// Its machine lost recent writes that another image still has (M11).
    Forgot,
    /// Its disk lost extents (P12).
    LostExtents,
    /// Its pool had no space although space was promised (P15).
    NoSpace,
    /// An administrator's word.
    Asked,
    /// It answers, but much later than the others (M8).
    Slow,
    /// It was added and has nothing yet.
    New,
    /// Another image was promoted by force while this one was ahead of it or could not be asked (M10).
    Lost,
    /// An administrator let it back in.
    Returned,
    /// An administrator gave it up: its node deletes it.
    Removed,
}

impl OutReason {
    /// Half a sentence for people: "image X is stale: …".
    pub const fn text(self) -> &'static str {
        match self {
            Self::WriteFailed => "its disk failed a write or a sync",
            Self::Silent => "it did not answer",
            Self::Absent => "its node or its pool is not there",
            Self::Forgot => "it lost recent writes that another image has",
            Self::LostExtents => "its disk lost extents",
            Self::NoSpace => "its pool is full",
            Self::Asked => "an administrator took it out",
            Self::Slow => "it answers too slowly",
            Self::New => "it is new and has to be filled",
            Self::Lost => "another image was promoted by force",
            Self::Returned => "it was let back in and has to catch up",
            Self::Removed => "it is being removed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ImageAct::{Detach, Join, Lose, Promote, Reattach, Remove, Resync, TakeOut};
    use super::ImageState::{Detached, InSync, Stale, Syncing};

    /// Every state against every act: what is not listed here is refused.
    #[test]
    fn the_table_of_transitions() {
        let table = [
            (InSync, TakeOut, Stale),
            (InSync, Promote, InSync),
            (InSync, Lose, Detached),
            (Syncing, TakeOut, Stale),
            (Syncing, Join, InSync),
            (Syncing, Promote, InSync),
            (Syncing, Lose, Detached),
            (Syncing, Detach, Detached),
            (Syncing, Remove, Detached),
            (Stale, Resync, Syncing),
            (Stale, Promote, InSync),
            (Stale, Lose, Detached),
            (Stale, Detach, Detached),
            (Stale, Reattach, Stale),
            (Stale, Remove, Detached),
            (Detached, Lose, Detached),
            (Detached, Reattach, Stale),
            (Detached, Remove, Detached),
        ];
        let acts = [TakeOut, Resync, Join, Promote, Lose, Detach, Reattach, Remove];
        let legal: Vec<_> = [InSync, Syncing, Stale, Detached]
            .into_iter()
            .flat_map(|from| acts.into_iter().filter_map(move |act| Some((from, act, from.after(act)?))))
            .collect();
        assert_eq!(legal, table);
    }
}
