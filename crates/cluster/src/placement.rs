//! Which image goes where, and who should own: pure decisions, one table each.
//!
//! - [`place`]: the pool for a new image, by site and node first, then by space and load;
//! - [`failback`]: when the preferred node gets a segment back (design section 7).

use dyad_units::{Bytes, Moment, NodeId, Period, PoolId};

use crate::name::Name;
use crate::segment::SegmentRecord;
use crate::state::ImageState;

#[cfg(test)]
mod tests;

/// Space that a pool keeps free of new images, in parts of its size: running full costs more than moving on early.
const KEEP_FREE_PART: u64 = 20;

/// A pool that could take an image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PoolView {
    /// Which pool.
    pub pool: PoolId,
    /// Its node.
    pub node: NodeId,
    /// The node's site.
    pub site: Name,
    /// Space for extents.
    pub total: Bytes,
    /// Of it, free.
    pub free: Bytes,
    /// Sizes of all its images together, whether written or not.
    pub provisioned: Bytes,
    /// Segments that its node owns.
    pub owned: u32,
    /// It is open, its disk is believed, and its node is in contact.
    pub is_usable: bool,
}

/// What is to be placed.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// The segment, with the images that it has; detached ones do not count.
    pub segment: &'a SegmentRecord,
    /// Space that its data takes now: at least so much has to be free.
    pub used: Bytes,
}

/// No pool can take the image.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PlaceError {
    /// Every pool has an image of the segment, or none is in use.
    #[error("there is no other usable pool: each one has an image of the segment already")]
    NoOtherPool,
    /// The others have too little space.
    #[error("no usable pool has {needed} free beyond what it keeps in reserve")]
    NoSpace {
        /// What is needed.
        needed: Bytes,
    },
}

/// The best pool for one more image: another node before the same one, another site before the same one, then one that
/// could take the whole segment, the least provisioned, the least owning; at last the lowest id, so that everybody chooses
/// the same.
///
/// # Errors
/// [`PlaceError`].
pub fn place(wanted: &Wanted<'_>, pools: &[PoolView]) -> Result<(NodeId, PoolId), PlaceError> {
    let present = || wanted.segment.images.iter().filter(|image| image.state != ImageState::Detached);
    let has_pool = |pool: &PoolView| present().any(|image| image.pool == pool.pool);
    let has_node = |pool: &PoolView| present().any(|image| image.node == pool.node);
    // A node's site is known from its pools.
    let has_site = |pool: &PoolView| {
        let mut on_site = pools.iter().filter(|other| other.site == pool.site);
        on_site.any(|other| present().any(|image| image.node == other.node))
    };
    let mut others = pools.iter().filter(|pool| pool.is_usable && !has_pool(pool)).peekable();
    if others.peek().is_none() {
        return Err(PlaceError::NoOtherPool);
    }
    let fits = |pool: &&PoolView| {
        let reserve = pool.total.value() / KEEP_FREE_PART;
        pool.free.value() >= wanted.used.value().saturating_add(reserve)
    };
    let rank = |pool: &&PoolView| {
        let after = pool.provisioned.value().saturating_add(wanted.segment.size.value());
        let is_overbooked = after > pool.total.value();
        let booked = u128::from(after) * 1000 / u128::from(pool.total.value().max(1));
        (has_node(pool), has_site(pool), is_overbooked, booked, pool.owned, pool.pool)
    };
    let best = others.filter(fits).min_by_key(rank);
    best.map(|pool| (pool.node, pool.pool)).ok_or(PlaceError::NoSpace { needed: wanted.used })
}

/// What is known about a segment whose owner is not the preferred one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Away {
    /// By policy the segment goes back by itself.
    pub is_automatic: bool,
    /// How long the preferred node has to have been well.
    pub delay: Period,
    /// Since when the preferred node has had an image in sync and been in contact without a break; none: it has not.
    pub well_since: Option<Moment>,
    /// Changes of owner within the last hour that nobody asked for: each doubles the delay.
    pub moves: u32,
    /// An image of the segment catches up now.
    pub is_resyncing: bool,
}

/// Whether the segment goes back to its preferred node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failback {
    /// It stays until somebody asks or something changes.
    Stay,
    /// Look again then.
    Wait(Moment),
    /// Hand it over (M12).
    HandOver,
}

/// Doublings of the delay at most: a flapping node gets its segments back at least once in a few hours.
const DOUBLINGS_MAX: u32 = 6;

/// When the preferred node gets the segment back.
pub fn failback(away: &Away, now: Moment) -> Failback {
    let Some(well_since) = away.well_since.filter(|_| away.is_automatic && !away.is_resyncing) else {
        return Failback::Stay;
    };
    let delay = away.delay.as_nanos().saturating_mul(1 << away.moves.min(DOUBLINGS_MAX));
    let due = well_since + Period::from_nanos(delay);
    if now < due { Failback::Wait(due) } else { Failback::HandOver }
}
