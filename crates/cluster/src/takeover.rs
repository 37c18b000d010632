//! Who may claim a segment, when, and what the claim takes out (M6, M8, M9, M11, §8): one pure decision.
//!
//! ```text
//!  record ─┐
//!  shown ──┼─▶ decide ─▶ Claim { changes }   propose them; no grants from here to the first answer (M6)
//!  promise ┘         └─▶ Wait { why, until } look again then, or when news come
//! ```
//!
//! The questions, in order; the first that is not answered well decides:
//!
//! 1. Is an image of mine in sync, and did its pool show it? What forgot or lost something may not serve while one that
//!    did not may be there (M11, P12).
//! 2. Is the record to be believed? No image has seen a newer one, or another one of the same epoch; and if the store is
//!    not the one in which the segment was last claimed, its owner or everyone in sync has shown that (§8).
//! 3. Has my promise run out, or is it void (M5, M6, M9)?
//! 4. Is it my turn? The k-th candidate waits k steps more, so that two do not propose at the same time.
//!
//! A claim is only proposed: the compare-and-set decides (M7). The record is read before, unless it was just seen.

use std::fmt;

use dyad_units::{Epoch, ImageId, Moment, NodeId, Period, StoreId};

use crate::change::Change;
use crate::node::Incarnation;
use crate::segment::{IMAGES_MAX, ImageRecord, SegmentRecord};
use crate::state::{ImageState, OutReason};

#[cfg(test)]
mod tests;

/// How much later each further candidate claims: several round trips to a store, small against what a host waits.
pub const RANK_STEP: Period = Period::from_millis(100);

/// What is known of one image of the record, asked without effects lately: since the last sign of its node's owner, since
/// its node connected, and since its pool opened.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Shown {
    /// It cannot be asked, has not answered so far, or its pool is still being opened.
    #[default]
    Unknown,
    /// Its node answered, and does not have it: the pool is missing, or has failed.
    Absent,
    /// Its pool answered.
    Here(Witness),
}

/// What an image showed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Witness {
    /// The present life of its node.
    pub incarnation: Incarnation,
    /// Nothing acknowledged is missing (M11): it lived through, or no region was marked.
    pub has_everything: bool,
    /// Its disk lost extents (P12).
    pub has_lost: bool,
    /// Highest epoch that it adopted (M3).
    pub epoch: Epoch,
    /// The record that it keeps, held against the one that the decision is about.
    pub kept: Kept,
}

/// An image's own record against the one in the store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kept {
    /// None, an older one or the same.
    Agrees,
    /// A newer one.
    Newer(Epoch),
    /// Another one of the same epoch, or of another segment.
    Contradicts,
    /// Newer software wrote it, or it is damaged.
    Unreadable,
}

impl Kept {
    /// Compares what an image keeps (empty: nothing) with `record`.
    pub fn of(bytes: &[u8], record: &SegmentRecord) -> Self {
        if bytes.is_empty() {
            return Self::Agrees;
        }
        match SegmentRecord::decode(bytes) {
            Err(_) => Self::Unreadable,
            Ok(kept) if kept.id != record.id => Self::Contradicts,
            Ok(kept) if kept.epoch > record.epoch => Self::Newer(kept.epoch),
            Ok(kept) if kept.epoch == record.epoch && kept != *record => Self::Contradicts,
            Ok(_) => Self::Agrees,
        }
    }
}

/// What is known of the recorded owner beyond the promise given to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OwnerSign {
    /// Nothing: the promise decides.
    Nothing,
    /// The life to which every promise of mine was given is over: its node said hello with a later start (M9).
    Dead {
        /// When that was learned.
        since: Moment,
    },
    /// It said that it will never answer in the record's epoch or one before (M12).
    Released {
        /// When that was learned.
        since: Moment,
    },
}

/// Everything that the decision is made of.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// The newest record that was seen.
    pub record: &'a SegmentRecord,
    /// The store that holds it.
    pub store: StoreId,
    /// Who asks.
    pub me: NodeId,
    /// This node's clock.
    pub now: Moment,
    /// Until when this node promised not to answer as owner (M6); of a node that started lately, at least until its
    /// start's grace is over.
    pub promised_until: Moment,
    /// What is known of the owner.
    pub owner: OwnerSign,
    /// What the images showed, by their place in the record; only those in sync matter.
    pub shown: [Shown; IMAGES_MAX],
}

/// What to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Propose the record with these changes, if it still is the newest. Grant nothing from now to the first answer as
    /// owner, and look at the promise again before that (M6).
    Claim {
        /// For [`SegmentRecord::changed`].
        changes: Vec<Change>,
    },
    /// Not now.
    Wait {
        /// Why.
        why: WaitReason,
        /// When to look again at the latest; none: when there are news.
        until: Option<Moment>,
    },
}

/// Why a segment is not claimed by this node now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WaitReason {
    /// No image of this node is in sync (M9).
    NotInSync,
    /// This node's image has not been opened, or cannot be.
    OwnImageAbsent {
        /// Which image.
        image: ImageId,
    },
    /// Another image lived through what this node's forgot (M11), or has what this node's disk lost (P12): its node
    /// claims.
    BetterElsewhere {
        /// Which image.
        image: ImageId,
    },
    /// This node's image forgot or lost something that this one may have, and it cannot be asked (M11, P12).
    MayKnowMore {
        /// Which image.
        image: ImageId,
    },
    /// The only image in sync forgot recent writes before it was flushed alone (M8); others that were taken out may have
    /// them.
    NotFlushedAlone {
        /// Which image.
        image: ImageId,
    },
    /// An image has seen a newer record than the store gives (§8).
    StoreBehind {
        /// Which image.
        image: ImageId,
        /// What it has seen.
        seen: Epoch,
    },
    /// An image keeps another record of the same epoch (§8).
    Contradiction {
        /// Which image.
        image: ImageId,
    },
    /// An image's record cannot be read.
    UnreadableRecord {
        /// Which image.
        image: ImageId,
    },
    /// The store is another one than the segment was last claimed in, and this image has not shown that nothing is newer
    /// than what the store says (§8).
    NewStore {
        /// Which image.
        image: ImageId,
    },
    /// This node promised not to (M5, M6).
    Promised,
    /// Another candidate's turn comes first.
    Rank {
        /// How many do.
        before: u32,
    },
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInSync => write!(f, "no image on this node is in sync"),
            Self::OwnImageAbsent { image } => write!(f, "the pool of image {image} is not open on this node"),
            Self::BetterElsewhere { image } => write!(f, "image {image} has what the image on this node lacks"),
            Self::MayKnowMore { image } => write!(
                f,
                "the image on this node lacks recent writes that image {image} may have, and that one cannot be asked: \
                 bring its node back, or promote an image by force"
            ),
            Self::NotFlushedAlone { image } => write!(
                f,
                "image {image}, the only one in sync, lost recent writes that images taken out may have: promote one by \
                 force"
            ),
            Self::StoreBehind { image, seen } => write!(
                f,
                "image {image} has seen epoch {seen}, which the config store does not know: was an old one restored?"
            ),
            Self::Contradiction { image } => write!(f, "image {image} keeps another record of the same epoch"),
            Self::UnreadableRecord { image } => {
                write!(f, "the record kept by image {image} cannot be read: is it of newer software?")
            }
            Self::NewStore { image } => write!(
                f,
                "the config store is a new one, and image {image} has not shown yet that it knows nothing newer"
            ),
            Self::Promised => write!(f, "this node promised to wait for the present owner"),
            Self::Rank { before } => write!(f, "{before} other nodes may claim first"),
        }
    }
}

/// Whether this node claims the segment now; see the module's head.
pub fn decide(view: &View<'_>) -> Verdict {
    match claim(view) {
        Ok(changes) => Verdict::Claim { changes },
        Err((why, until)) => Verdict::Wait { why, until },
    }
}

type Refused = (WaitReason, Option<Moment>);

fn claim(view: &View<'_>) -> Result<Vec<Change>, Refused> {
    let news = |why| (why, None);
    let fitness = own_fitness(view).map_err(news)?;
    check_record(view).map_err(news)?;
    let free_at = free_at(view);
    if view.now < free_at {
        return Err((WaitReason::Promised, Some(free_at)));
    }
    let before = candidates_before(view, fitness);
    let my_turn = (0..before).fold(free_at, |at, _| at + RANK_STEP);
    if view.now < my_turn {
        return Err((WaitReason::Rank { before }, Some(my_turn)));
    }
    Ok(changes(view, fitness))
}

/// How good an image is, in this order: whether it has everything (M11); if none has, whether its machine has not restarted
/// since it was proved, so that it has all that was acknowledged in this epoch; whether its disk lost nothing (P12).
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Fitness {
    has_everything: bool,
    has_this_epoch: bool,
    has_no_loss: bool,
}

impl Fitness {
    const WHOLE: Self = Self { has_everything: true, has_this_epoch: true, has_no_loss: true };
}

impl Witness {
    /// As an image of the record.
    fn fitness(&self, image: &ImageRecord) -> Fitness {
        let Self { has_everything, has_lost, incarnation, .. } = *self;
        let is_up_since = image.incarnation.is_some_and(|proved| proved.boot == incarnation.boot);
        Fitness { has_everything, has_this_epoch: has_everything || is_up_since, has_no_loss: !has_lost }
    }
}

impl View<'_> {
    fn in_sync(&self) -> impl Iterator<Item = (&ImageRecord, Shown)> {
        let shown = self.record.images.iter().zip(self.shown);
        shown.filter(|(image, _)| image.state == ImageState::InSync)
    }

    fn others(&self) -> impl Iterator<Item = (&ImageRecord, Shown)> {
        self.in_sync().filter(|(image, _)| image.node != self.me)
    }
}

/// How good the best image of this node is, if nobody better may be there.
fn own_fitness(view: &View<'_>) -> Result<Fitness, WaitReason> {
    let mine = || view.in_sync().filter(|(image, _)| image.node == view.me);
    let (first, _) = mine().next().ok_or(WaitReason::NotInSync)?;
    let shown = mine().filter_map(|(image, shown)| match shown {
        Shown::Here(witness) => Some(witness.fitness(image)),
        Shown::Absent | Shown::Unknown => None,
    });
    let fitness = shown.max().ok_or(WaitReason::OwnImageAbsent { image: first.id })?;
    if fitness == Fitness::WHOLE {
        return Ok(fitness);
    }
    for (image, shown) in view.others() {
        match shown {
            Shown::Here(witness) if witness.fitness(image) > fitness => {
                return Err(WaitReason::BetterElsewhere { image: image.id });
            }
            Shown::Here(_) => {}
            // Not even that its pool is missing says what the disk will show when it comes back.
            Shown::Absent | Shown::Unknown => return Err(WaitReason::MayKnowMore { image: image.id }),
        }
    }
    let may_know_more = |image: &ImageRecord| image.node != view.me && image.state != ImageState::Detached;
    let is_alone = view.record.in_sync().count() == 1 && !view.record.flushed_alone;
    if !fitness.has_everything && is_alone && view.record.images.iter().any(may_know_more) {
        return Err(WaitReason::NotFlushedAlone { image: first.id });
    }
    Ok(fitness)
}

/// Nobody has seen anything newer than the record, as far as that has to be known (§8).
fn check_record(view: &View<'_>) -> Result<(), WaitReason> {
    let all = view.record.images.iter().zip(view.shown);
    for (image, witness) in all.filter_map(|(image, shown)| Some((image.id, shown.witness()?))) {
        match witness.kept {
            Kept::Newer(seen) => return Err(WaitReason::StoreBehind { image, seen: seen.max(witness.epoch) }),
            _ if witness.epoch > view.record.epoch => {
                return Err(WaitReason::StoreBehind { image, seen: witness.epoch });
            }
            Kept::Contradicts => return Err(WaitReason::Contradiction { image }),
            Kept::Unreadable => return Err(WaitReason::UnreadableRecord { image }),
            Kept::Agrees => {}
        }
    }
    // Whoever answered by now has shown nothing newer.
    let is_same_store = view.record.store.is_none_or(|store| store == view.store);
    let owner_showed = view.in_sync().any(|(image, shown)| Some(image.node) == view.record.owner && shown.is_here());
    match view.in_sync().find(|(_, shown)| !shown.is_here()) {
        Some((image, _)) if !is_same_store && !owner_showed => Err(WaitReason::NewStore { image: image.id }),
        _ => Ok(()),
    }
}

impl Shown {
    fn witness(self) -> Option<Witness> {
        match self {
            Self::Here(witness) => Some(witness),
            Self::Absent | Self::Unknown => None,
        }
    }

    fn is_here(self) -> bool {
        self.witness().is_some()
    }
}

/// From when on no promise of this node stands in the way.
fn free_at(view: &View<'_>) -> Moment {
    match view.owner {
        OwnerSign::Nothing => view.promised_until,
        OwnerSign::Dead { since } | OwnerSign::Released { since } => view.promised_until.min(since),
    }
}

/// Nodes with an image as good as this node's that stand before it in the record. The recorded owner waits for nobody, and
/// nobody for it: if it comes back it has its start's grace behind it, longer than the others' turns.
fn candidates_before(view: &View<'_>, fitness: Fitness) -> u32 {
    if view.record.owner == Some(view.me) {
        return 0;
    }
    let mut nodes: Vec<NodeId> = Vec::with_capacity(IMAGES_MAX);
    for (image, shown) in view.in_sync() {
        if image.node == view.me {
            break;
        }
        let may_claim = match shown {
            Shown::Here(witness) => witness.fitness(image) >= fitness,
            Shown::Unknown => true,
            Shown::Absent => false,
        };
        let is_owner = Some(image.node) == view.record.owner;
        if may_claim && !is_owner && !nodes.contains(&image.node) {
            nodes.push(image.node);
        }
    }
    nodes.len() as u32
}

/// What the claim changes: those that forgot or lost something leave while one that did not is there, and the old owner
/// leaves if it cannot be asked (M9). Others that cannot be asked stay for now: if they do not adopt the new epoch either,
/// the owner takes them out (M8).
fn changes(view: &View<'_>, fitness: Fitness) -> Vec<Change> {
    let mut changes = vec![Change::Own { node: view.me }];
    for (image, shown) in view.in_sync() {
        let id = image.id;
        match shown {
            Shown::Here(witness) if witness.fitness(image) < fitness => {
                let known = |fitness: Fitness| (fitness.has_everything, fitness.has_this_epoch);
                let forgot = known(witness.fitness(image)) < known(fitness);
                let reason = if forgot { OutReason::Forgot } else { OutReason::LostExtents };
                changes.push(Change::TakeOut { image: id, reason });
            }
            Shown::Here(Witness { incarnation, .. }) => changes.push(Change::Prove { image: id, incarnation }),
            Shown::Absent => changes.push(Change::TakeOut { image: id, reason: OutReason::Absent }),
            Shown::Unknown if Some(image.node) == view.record.owner => {
                changes.push(Change::TakeOut { image: id, reason: OutReason::Silent });
            }
            Shown::Unknown => {}
        }
    }
    if view.record.store != Some(view.store) {
        changes.push(Change::Confirm { store: view.store });
    }
    changes
}
