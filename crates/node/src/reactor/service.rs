//! Whether a volume is in service at this node: what its part says, in one word and a reason.

use dyad_cluster::ImageState;
use dyad_mirror::{MirrorState, PartRole, PartStatus};

use super::volumes::Place;

/// How a volume is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Service {
    /// This node is the owner and serves; so many extents have yet to be compared after a crash.
    Here { comparing: u64 },
    /// Another node is the owner; this one forwards to it.
    Elsewhere,
    /// It is about to be served, or to be known why not; hosts' commands wait.
    Starting,
    /// It is not served, for this reason.
    Not(String),
}

impl Service {
    /// Of a part whose images on this node are at these places.
    pub(super) fn of(part: &PartStatus, places: &[Place]) -> Self {
        match part.role {
            PartRole::Owner => {
                let comparing = part.mirror.as_ref().map_or(0, |mirror| mirror.suspect);
                Self::Here { comparing }
            }
            PartRole::Stopped => Self::Not("it is being taken out of service".into()),
            PartRole::Deleted => Self::Not("it was deleted".into()),
            PartRole::Claiming => match part.mirror.as_ref().map(|mirror| mirror.state) {
                Some(MirrorState::Refused(why)) => Self::Not(why.to_string()),
                Some(MirrorState::Waiting(why)) => Self::Not(why.to_string()),
                _ => Self::Starting,
            },
            PartRole::Follower if part.is_owner_near => Self::Elsewhere,
            PartRole::Follower => {
                let is_opening = |image: &&dyad_mirror::PartImage| {
                    image.state == ImageState::InSync && places.iter().any(|place| place.image == image.id)
                };
                match &part.why_not {
                    Some(why) => Self::Not(why.clone()),
                    // Its pool is open: the part asks it what it knows, then waits for its promises (M6).
                    None if part.images.iter().any(|image| is_opening(&image)) => Self::Starting,
                    None => Self::Not(part.sentence.clone()),
                }
            }
        }
    }
}
