//! Images and owners of volumes, changed while hosts use them: added, moved, detached, let back in, removed; handed over
//! and promoted. Every step is one change of the segment's record by its owner, so that a crash between two leaves
//! something that is said in the status and goes on by itself or is asked for again.

use std::time::{Duration, Instant};

use dyad_cluster::IMAGES_MAX;
use dyad_units::{ImageId, NodeId, PoolId};

use super::{ImageInfo, LossInfo, NodeHandle, NodeStatus, PoolInfo, QueryError, VolumeInfo};
use crate::admin::Request;
use crate::clock;
use crate::talk::{Order, Told};

/// How long a change is waited for that other nodes have their part in: they hear of it within milliseconds.
const SEEN_MAX: Duration = Duration::from_secs(10);
const SEEN_PAUSE: Duration = Duration::from_millis(20);
/// Part of a pool that stays free of new images, as placement keeps it: a twentieth.
const KEEP_FREE_PART: u64 = 20;

/// An image or an owner was not changed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// Nobody knows what was asked for, or the node cannot be asked.
    #[error(transparent)]
    Node(#[from] QueryError),
    /// It would not be safe, or cannot be done; what to do instead.
    #[error("{why}")]
    Refused {
        /// One sentence.
        why: String,
        /// One sentence.
        advice: String,
    },
}

pub(super) fn refuse(why: impl Into<String>, advice: impl Into<String>) -> ImageError {
    ImageError::Refused { why: why.into(), advice: advice.into() }
}

impl NodeHandle {
    /// Adds an image to a volume, in use: on a node, in a pool, or where there is most room on another node than those that
    /// have one. `replaces`: the image that is removed once the new one is in sync.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub fn add_image(
        &self,
        volume: &str,
        node: Option<&str>,
        pool: Option<&str>,
        replaces: Option<&str>,
    ) -> Result<ImageInfo, ImageError> {
        let now = self.status()?;
        let volume = find_volume(&now, volume)?.clone();
        let replaces = replaces.map(|which| find_image(&volume, which).map(|image| image.id)).transpose()?;
        if volume.images.len() >= IMAGES_MAX {
            return Err(refuse(
                format!("volume `{}` has {IMAGES_MAX} images already", volume.name),
                "remove one first",
            ));
        }
        let place = choose(&now, &volume, node, pool)?;
        let id = ImageId::from_bytes(clock::random_id());
        self.to_owner(&volume, Order::Add { image: id, node: place.0, pool: place.1, replaces })?;
        let added = self.wait_for(&volume.name, |volume| volume.images.iter().any(|image| image.id == id))?;
        let added = added.images.into_iter().find(|image| image.id == id);
        added.ok_or_else(|| QueryError::Unknown { kind: "image", name: id.to_string() }.into())
    }

    /// Moves an image to another node or pool, in use: one is added there, and this one is removed when that one is in sync.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub fn move_image(
        &self,
        volume: &str,
        from: &str,
        node: Option<&str>,
        pool: Option<&str>,
    ) -> Result<ImageInfo, ImageError> {
        let now = self.status()?;
        let known = find_volume(&now, volume)?;
        let old = find_image(known, from)?;
        if known.images.iter().any(|image| image.replaces == Some(old.id)) {
            return Err(refuse(
                format!("image {} of volume `{}` is being moved already", old.id, known.name),
                "wait until it has come, or remove the new image",
            ));
        }
        let node = node.or_else(|| pool.is_none_or(|pool| !pool.contains('/')).then_some(&*old.node_name));
        let node = if pool.is_none() && node == Some(&*old.node_name) { None } else { node };
        self.add_image(volume, node, pool, Some(&old.id.to_string()))
    }

    /// Takes an image out of a volume; its node deletes it. `is_single_fine`: although it leaves one image only.
    /// `forget`: without waiting for its node, which will not come back.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub fn remove_image(
        &self,
        volume: &str,
        image: &str,
        is_single_fine: bool,
        forget: bool,
    ) -> Result<VolumeInfo, ImageError> {
        let now = self.status()?;
        let volume = find_volume(&now, volume)?.clone();
        let image = find_image(&volume, image)?.clone();
        let is_away = now.neighbours.iter().any(|node| node.id == image.node && !node.is_connected);
        refuse_too_few(&volume, &image)?;
        // Of one in sync those have to take the place that are; one that is out was missed before.
        let counts = |other: &&ImageInfo| match image.state.as_str() {
            "in-sync" => other.state == "in-sync",
            _ => other.state != "detached",
        };
        let kept = volume.images.iter().filter(|other| other.id != image.id).filter(counts).count();
        if image.state != "detached" && kept < 2 && !is_single_fine {
            let why = format!("volume `{}` would not be redundant any more: {kept} image would be left", volume.name);
            let tip = "add an image first and wait until it is in sync, or say --force if one is enough";
            return Err(refuse(why, tip));
        }
        let volume = self.put_out(volume, &image)?;
        self.to_owner(&volume, Order::Remove { image: image.id })?;
        if forget {
            self.to_owner(&volume, Order::Drop { image: image.id })?;
        }
        if is_away && !forget {
            // It is deleted when its node is back.
            return Ok(find_volume(&self.status()?, &volume.name)?.clone());
        }
        let is_gone = |volume: &VolumeInfo| volume.images.iter().all(|other| other.id != image.id);
        match self.wait_for(&volume.name, is_gone) {
            Ok(volume) => Ok(volume),
            Err(_) => Ok(find_volume(&self.status()?, &volume.name)?.clone()),
        }
    }

    /// Detaches an image: it stays as it is from now on, as a copy of this moment.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub fn detach_image(&self, volume: &str, image: &str) -> Result<ImageInfo, ImageError> {
        let volume = find_volume(&self.status()?, volume)?.clone();
        let image = find_image(&volume, image)?.clone();
        refuse_unfinished(&image)?;
        let volume = self.put_out(volume, &image)?;
        if image.state != "detached" {
            self.to_owner(&volume, Order::Detach { image: image.id })?;
        }
        self.wait_for_image(&volume.name, image.id, |image| image.state == "detached")
    }

    /// Lets a detached image, or one that was taken out, catch up; only what changed meanwhile is copied.
    /// `is_loss_fine`: although what it alone has since a forced promotion is lost by that.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub fn reattach_image(&self, volume: &str, image: &str, is_loss_fine: bool) -> Result<ImageInfo, ImageError> {
        let now = self.status()?;
        let volume = find_volume(&now, volume)?.clone();
        let image = find_image(&volume, image)?.clone();
        let is_left = image.reason.as_deref() == Some(dyad_cluster::OutReason::Lost.text());
        if is_left && !is_loss_fine {
            let why = "another image was promoted by force: what this one alone has is lost when it is let back in";
            return Err(refuse(why, "look at it with `dyad image loss`, save it, then say --yes-lose-data"));
        }
        match image.state.as_str() {
            "in-sync" => return Ok(image),
            "syncing" => {}
            _ => self.to_owner(&volume, Order::Reattach { image: image.id })?,
        }
        self.wait_for_image(&volume.name, image.id, |image| image.state != "detached")
    }

    /// Hands a volume over to another node that has an image in sync (M12).
    ///
    /// # Errors
    /// See [`ImageError`].
    pub fn move_owner(&self, volume: &str, to: Option<&str>) -> Result<VolumeInfo, ImageError> {
        let now = self.status()?;
        let volume = find_volume(&now, volume)?.clone();
        let in_sync = || volume.images.iter().filter(|image| image.state == "in-sync");
        let to = match to {
            Some(which) => find_node(&now, which)?,
            None => match in_sync().find(|image| Some(image.node) != volume.owner) {
                Some(image) => image.node,
                None => {
                    let why = format!("no other node has an image in sync of volume `{}`", volume.name);
                    return Err(refuse(why, "wait until one has caught up, or add an image"));
                }
            },
        };
        if volume.owner == Some(to) {
            return Ok(volume);
        }
        if !in_sync().any(|image| image.node == to) {
            let why = format!("that node has no image in sync of volume `{}`", volume.name);
            return Err(refuse(why, "wait until it has caught up, or add an image there"));
        }
        self.hand_over(&volume, to)
    }

    fn hand_over(&self, volume: &VolumeInfo, to: NodeId) -> Result<VolumeInfo, ImageError> {
        self.to_owner(volume, Order::HandOver { to })?;
        self.wait_for(&volume.name, |volume| volume.owner == Some(to))
    }

    /// What a forced promotion of this image would lose (M10), or, of an image that one left behind, what only it has.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub fn loss(&self, volume: &str, image: &str) -> Result<LossInfo, ImageError> {
        let volume = find_volume(&self.status()?, volume)?.clone();
        let image = find_image(&volume, image)?;
        let order = match image.state.as_str() {
            "detached" => Order::ListLoss { image: image.id },
            _ => Order::ForecastLoss { image: image.id },
        };
        match self.orders().to(image.node, volume.id, order) {
            Told::Loss(loss) => Ok(*loss),
            told => Err(not_done(told)),
        }
    }

    /// Forced promotion of an image whose volume is not served (M10): the loss is accepted, and the old owner known to be
    /// off. The record notes it, and the other images are detached.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub fn promote(&self, volume: &str, image: &str) -> Result<VolumeInfo, ImageError> {
        let volume = find_volume(&self.status()?, volume)?.clone();
        let image = find_image(&volume, image)?;
        match self.orders().to(image.node, volume.id, Order::Promote { image: image.id }) {
            Told::Done => self.wait_for(&volume.name, |volume| volume.owner == Some(image.node)),
            told => Err(not_done(told)),
        }
    }

    /// Takes an image out of the set, with the volume handed over before where its node owns it.
    fn put_out(&self, volume: VolumeInfo, image: &ImageInfo) -> Result<VolumeInfo, ImageError> {
        refuse_too_few(&volume, image)?;
        let others = || volume.images.iter().filter(|other| other.state == "in-sync" && other.id != image.id);
        if matches!(image.state.as_str(), "stale" | "detached") {
            return Ok(volume);
        }
        let mut volume_now = volume.clone();
        if volume.owner == Some(image.node)
            && image.state == "in-sync"
            && !others().any(|other| other.node == image.node)
            && let Some(next) = others().next()
        {
            volume_now = self.hand_over(&volume, next.node)?;
        }
        self.to_owner(&volume_now, Order::TakeOut { image: image.id })?;
        Ok(volume_now)
    }

    fn to_owner(&self, volume: &VolumeInfo, order: Order) -> Result<(), ImageError> {
        match self.orders().to_owner(volume.owner, volume.id, order) {
            Told::Done => {
                // This node's part in it; if there is no room it looks by itself.
                let _ = self.requests.try_send(Request::Rescan);
                Ok(())
            }
            told => Err(not_done(told)),
        }
    }

    fn wait_for_image(
        &self,
        volume: &str,
        id: ImageId,
        is_it: impl Fn(&ImageInfo) -> bool,
    ) -> Result<ImageInfo, ImageError> {
        let found = |volume: &VolumeInfo| volume.images.iter().any(|image| image.id == id && is_it(image));
        let volume = self.wait_for(volume, found)?;
        let image = volume.images.into_iter().find(|image| image.id == id);
        image.ok_or_else(|| QueryError::Unknown { kind: "image", name: id.to_string() }.into())
    }

    /// Waits until the newest record known here says so.
    fn wait_for(&self, volume: &str, is_it: impl Fn(&VolumeInfo) -> bool) -> Result<VolumeInfo, ImageError> {
        let deadline = Instant::now() + SEEN_MAX;
        loop {
            let now = self.own_status()?;
            let found = find_volume(&now, volume)?;
            if is_it(found) {
                return Ok(find_volume(&self.status()?, volume)?.clone());
            }
            if Instant::now() >= deadline {
                let why = format!("it was asked for, and is not seen after {} s", SEEN_MAX.as_secs());
                return Err(refuse(why, "look at `dyad volume show` and the nodes' logs"));
            }
            std::thread::sleep(SEEN_PAUSE);
        }
    }
}

/// An image that is being filled has some of now and some of before, or nothing yet: it is a copy of no moment.
fn refuse_unfinished(image: &ImageInfo) -> Result<(), ImageError> {
    let is_new = image.state == "stale" && image.reason.as_deref() == Some(dyad_cluster::OutReason::New.text());
    if image.state != "syncing" && !is_new {
        return Ok(());
    }
    let why = "the image is still being filled: what it holds is of no one moment";
    Err(refuse(why, "wait until it is in sync, or remove it"))
}

/// Whether the volume goes on without the image: the last one in sync stays, and as many as its writes want (A4).
fn refuse_too_few(volume: &VolumeInfo, image: &ImageInfo) -> Result<(), ImageError> {
    let others = volume.images.iter().filter(|other| other.state == "in-sync" && other.id != image.id).count();
    let wanted = volume.min_in_sync;
    let tip = "add an image and wait until it is in sync";
    if image.state != "in-sync" {
        return Ok(());
    }
    if others == 0 {
        return Err(refuse(format!("it is the last image in sync of volume `{}`", volume.name), tip));
    }
    if others < usize::try_from(wanted).unwrap_or(usize::MAX) {
        let why =
            format!("volume `{}` wants {wanted} images in sync to take writes, and would have {others}", volume.name);
        return Err(refuse(why, tip));
    }
    Ok(())
}

pub(super) fn not_done(told: Told) -> ImageError {
    match told {
        Told::Refused(refused) if refused.is_passing => refuse(refused.why, "try again in a moment"),
        Told::Refused(refused) => {
            let advice = refused.advice.unwrap_or_else(|| "look at `dyad volume show`".into());
            refuse(refused.why, advice)
        }
        _ => refuse("the node that has to do it runs an older program", "update it first"),
    }
}

pub(super) fn find_volume<'a>(now: &'a NodeStatus, which: &str) -> Result<&'a VolumeInfo, ImageError> {
    let found = now.volumes.iter().find(|volume| volume.name == which || volume.id.to_string() == which);
    found.ok_or_else(|| QueryError::Unknown { kind: "volume", name: which.into() }.into())
}

pub(super) fn find_node(now: &NodeStatus, which: &str) -> Result<NodeId, ImageError> {
    let is_it = |id: NodeId, name: &str| name == which || id.to_string() == which;
    if is_it(now.node.id, &now.node.name) {
        return Ok(now.node.id);
    }
    let found = now.neighbours.iter().find(|node| is_it(node.id, &node.name));
    found.map(|node| node.id).ok_or_else(|| QueryError::Unknown { kind: "node", name: which.into() }.into())
}

/// An image by its id, or by its node where that has only one.
pub(super) fn find_image<'a>(volume: &'a VolumeInfo, which: &str) -> Result<&'a ImageInfo, ImageError> {
    if let Some(found) = volume.images.iter().find(|image| image.id.to_string() == which) {
        return Ok(found);
    }
    let is_there = |image: &&ImageInfo| {
        image.node_name == which
            || image.node.to_string() == which
            || pool_of(image) == which
            || image.pool_name == which
    };
    let mut found = volume.images.iter().filter(is_there);
    match (found.next(), found.next()) {
        (Some(image), None) => Ok(image),
        (Some(_), Some(_)) => Err(refuse(
            format!("volume `{}` has several images at `{which}`", volume.name),
            "name one by NODE/POOL or by its id, which `dyad volume show` shows",
        )),
        (None, _) => Err(QueryError::Unknown { kind: "image", name: which.into() }.into()),
    }
}

fn pool_of(image: &ImageInfo) -> String {
    if image.pool_name.contains('/') {
        image.pool_name.clone()
    } else {
        format!("{}/{}", image.node_name, image.pool_name)
    }
}

/// Where a new image goes: the pool that is named, or the one with most room, on a node that has none if there is one.
fn choose(
    now: &NodeStatus,
    volume: &VolumeInfo,
    node: Option<&str>,
    pool: Option<&str>,
) -> Result<(NodeId, PoolId), ImageError> {
    let (pool_node, pool) =
        match pool.map(|pool| pool.split_once('/').map_or((None, pool), |(node, pool)| (Some(node), pool))) {
            Some((node, pool)) => (node, Some(pool)),
            None => (None, None),
        };
    let node = node.or(pool_node).map(|which| find_node(now, which)).transpose()?;
    let has_image = |candidate: &PoolInfo| {
        volume.images.iter().any(|image| image.pool == candidate.id && image.state != "detached")
    };
    let is_named = |candidate: &&PoolInfo| {
        node.is_none_or(|node| node == candidate.node)
            && pool.is_none_or(|pool| candidate.name == pool || candidate.id.to_string() == pool)
    };
    let named: Vec<&PoolInfo> = now.pools.iter().filter(is_named).collect();
    if named.is_empty() {
        return Err(match (pool, node) {
            (Some(pool), _) => QueryError::Unknown { kind: "pool", name: pool.into() }.into(),
            (None, Some(_)) => refuse("that node has no pool, or does not answer", "make a pool there first"),
            (None, None) => refuse("there is no pool", "make one first"),
        });
    }
    let free: Vec<&PoolInfo> = named.into_iter().filter(|candidate| !has_image(candidate)).collect();
    if free.is_empty() {
        let why = format!("each of these pools has an image of volume `{}` already", volume.name);
        return Err(refuse(why, "name another pool, or make one"));
    }
    let needed = volume.images.iter().filter_map(|image| image.allocated).map(|bytes| bytes.value()).max().unwrap_or(0);
    let fits = |candidate: &&PoolInfo| {
        candidate.phase == super::PoolPhase::Open
            && candidate.free.value() >= needed.saturating_add(candidate.total.value() / KEEP_FREE_PART)
    };
    let has_node = |candidate: &PoolInfo| {
        volume.images.iter().any(|image| image.node == candidate.node && image.state != "detached")
    };
    let rank = |candidate: &&PoolInfo| (has_node(candidate), std::cmp::Reverse(candidate.free.value()), candidate.id);
    let best = free.into_iter().filter(fits).min_by_key(rank);
    best.map(|candidate| (candidate.node, candidate.id)).ok_or_else(|| {
        let why = format!("no such pool is open and has {} free beyond its reserve", dyad_units::Bytes::new(needed));
        refuse(why, "make room there, or name another pool")
    })
}
