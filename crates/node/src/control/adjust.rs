//! What an administrator changes of a volume in use.

use dyad_cluster::{Limits, PreferredOwner, Right, Whom};

use super::images::{find_node, find_volume, not_done, refuse};
use super::{ImageError, NodeHandle, VolumeInfo};
use crate::admin::{AdjustError, Adjustment, Request};
use crate::talk::{Order, Told};

impl NodeHandle {
    /// Says which node should own a volume, and after how many seconds of being well it gets it back by itself.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub fn prefer_owner(
        &self,
        volume: &str,
        node: Option<&str>,
        automatic_after: Option<u32>,
    ) -> Result<VolumeInfo, ImageError> {
        let wish = match node {
            Some(which) => {
                let node = find_node(&self.own_status()?, which)?;
                Some(PreferredOwner { node, automatic_after_secs: automatic_after })
            }
            None => None,
        };
        self.adjust(volume, Adjustment::Prefer(wish))
    }

    /// Limits what the hosts of a volume may ask of it.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub fn limit_volume(&self, volume: &str, limits: Limits) -> Result<VolumeInfo, ImageError> {
        self.adjust(volume, Adjustment::Limit(limits))
    }

    /// Lets hosts use a volume with this right, or not at all.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub fn change_access(&self, volume: &str, whom: Whom, right: Option<Right>) -> Result<VolumeInfo, ImageError> {
        let adjustment = match right {
            Some(right) => Adjustment::Allow(whom, right),
            None => Adjustment::Deny(whom),
        };
        self.adjust(volume, adjustment)
    }

    /// Lets a volume's owner forget all reservations, registrations and mode parameters of its hosts, where nobody can read
    /// them. `is_forced`: although they can be read.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub fn forget_reservations(&self, volume: &str, is_forced: bool) -> Result<VolumeInfo, ImageError> {
        let known = find_volume(&self.own_status()?, volume)?.clone();
        match self.orders().to_owner(known.owner, known.id, Order::ForgetReservations { is_forced }) {
            Told::Done => Ok(find_volume(&self.status()?, volume)?.clone()),
            told => Err(not_done(told)),
        }
    }

    fn adjust(&self, volume: &str, adjustment: Adjustment) -> Result<VolumeInfo, ImageError> {
        let id = find_volume(&self.own_status()?, volume)?.id.to_string();
        let adjusted = self.request(|reply| Request::Adjust(id, adjustment, reply))?;
        adjusted.map_err(|error| match error {
            AdjustError::Query(error) => ImageError::Node(error),
            AdjustError::Set(error) => refuse(error.to_string(), "try again in a moment"),
            AdjustError::Access(error) => refuse(error.to_string(), "look at `dyad volume access VOLUME list`"),
            AdjustError::NotListed { .. } => refuse(error.to_string(), "look at `dyad volume access VOLUME list`"),
        })?;
        Ok(find_volume(&self.status()?, volume)?.clone())
    }
}
