//! What has to hold in every state, and what a search should have seen.

use dyad_cluster::ImageState;
use dyad_mirror::{MirrorState, MirrorStatus};

use crate::parts::case::Case;
use crate::parts::image::BLOCKS;
use crate::parts::node::place_of;
use crate::parts::world::World;
use crate::search::Violation;

/// What a course may come to, by bit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reached {
    Done,
    ServedAgain,
    ServedAgainWithOpsUnderWay,
    Equalised,
    TakenOut,
    Joined,
    ResyncEnded,
    Refused,
    Paused,
    Late,
    Rest,
}

/// The names, by bit.
pub(crate) const MILESTONES: [&str; 11] = [
    "an operation was done",
    "somebody served anew",
    "served anew with operations under way",
    "unsettled writes were made equal",
    "an image was taken out",
    "an image joined",
    "a resync ended early",
    "an older owner was refused",
    "a pause was noticed",
    "a late compare-and-set was stored",
    "all was answered and at rest",
];

/// Checks every rule.
pub(crate) fn check(state: &World) -> Result<(), Violation> {
    for node in &state.nodes {
        let of_node = state.store.0.images.get(node.at).map(|image| image.state);
        if of_node == Some(ImageState::InSync) && node.image.lived_through {
            for (block, value) in node.image.blocks.iter().enumerate() {
                state.history.may_hold(block as u8, *value)?;
            }
        }
        let known = node.life.as_ref().map(|life| life.part.record());
        let kept = node.image.kept.as_ref().map(|kept| &*kept.0);
        for record in [known, kept].into_iter().flatten() {
            if record.epoch > state.store.epoch() {
                let (at, epoch) = (node.at, record.epoch);
                return Err(Violation::new("M7", format!("node {at} knows epoch {epoch}, which is not stored")));
            }
            if record.epoch == state.store.epoch() && *record != *state.store.0 {
                return Err(Violation::new(
                    "§8",
                    format!("node {} knows another record of the store's epoch", node.at),
                ));
            }
        }
    }
    if is_at_rest(state) { equal(state) } else { Ok(()) }
}

/// Nothing is under way, everything is answered, everybody is there, and the recorded owner serves and has nothing to do.
fn is_at_rest(state: &World) -> bool {
    let is_idle = |mirror: MirrorStatus| {
        mirror.state == MirrorState::Serving
            && (mirror.in_flight, mirror.suspect, mirror.held) == (0, 0, 0)
            && mirror.resync.is_none()
    };
    let rests = |at: usize| state.nodes[at].life.as_ref()?.part.status().mirror.map(is_idle);
    state.late.is_none()
        && state.cut.is_empty()
        && state.nodes.iter().all(|node| node.life.is_some())
        && state.is_quiet()
        && state.history.is_at_rest()
        && state.store.0.owner.and_then(|owner| rests(place_of(owner))) == Some(true)
}

/// All images in sync have the same content.
fn equal(state: &World) -> Result<(), Violation> {
    let images = state.nodes.iter().zip(&state.store.0.images);
    let in_sync = images.filter(|(node, image)| image.state == ImageState::InSync && node.life.is_some());
    let mut contents = in_sync.map(|(node, _)| node.image.blocks);
    let first: Option<[u8; BLOCKS]> = contents.next();
    match contents.find(|content| Some(*content) != first) {
        Some(other) => Err(Violation::new("M9", format!("images in sync differ at rest: {first:?}, {other:?}"))),
        None => Ok(()),
    }
}

/// What this state has reached; what the case cannot reach counts as reached.
pub(crate) fn milestones(case: &Case, state: &World) -> u32 {
    let reached = state.reached | u32::from(is_at_rest(state)) << Reached::Rest as u32;
    let expected = case.expects.iter().fold(0_u32, |all, one| all | 1 << *one as u32);
    reached | !expected
}
