//! Detached images as targets of their own, read only.

use dyad_units::{ImageId, NodeId, VolumeId};

use super::images::{find_image, find_volume, not_done, refuse};
use super::{ImageError, ImageInfo, NodeHandle};
use crate::admin::{ExportError, Request};
use crate::talk::{Refused, Told};

impl NodeHandle {
    /// Exports a detached image as a read-only target of its own, at the node that holds it. It ends by itself when the image
    /// is reattached or removed.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub fn export_image(&self, volume: &str, image: &str) -> Result<ImageInfo, ImageError> {
        let now = self.status()?;
        let volume = find_volume(&now, volume)?;
        let found = find_image(volume, image)?;
        if found.state != "detached" {
            let why = format!("the image is {}: only a detached one can be exported", found.state);
            return Err(refuse(why, "detach it first: `dyad image detach`"));
        }
        self.change_export(found.node, volume.id, found.id, true)
    }

    /// Ends that, with the sessions of hosts.
    ///
    /// # Errors
    /// See [`ImageError`].
    pub fn unexport_image(&self, volume: &str, image: &str) -> Result<ImageInfo, ImageError> {
        let now = self.status()?;
        let volume = find_volume(&now, volume)?;
        let found = find_image(volume, image)?;
        self.change_export(found.node, volume.id, found.id, false)
    }

    fn change_export(
        &self,
        node: NodeId,
        volume: VolumeId,
        image: ImageId,
        is_wanted: bool,
    ) -> Result<ImageInfo, ImageError> {
        let me = self.catalog.lock().node.id;
        let told = match node == me {
            true => self.export_here(volume, image, is_wanted),
            false => self.orders().export(node, volume, image, is_wanted),
        };
        match told {
            Told::Done => {
                Ok(find_image(find_volume(&self.status()?, &volume.to_string())?, &image.to_string())?.clone())
            }
            told => Err(not_done(told)),
        }
    }

    /// The part of the node that holds the image.
    pub(crate) fn export_here(&self, volume: VolumeId, image: ImageId, is_wanted: bool) -> Told {
        let outcome = self.request(|reply| Request::Export(volume, image, is_wanted, reply));
        match outcome.map_err(ExportError::from).and_then(|outcome| outcome) {
            Ok(()) => Told::Done,
            Err(error) => {
                let is_passing = matches!(error, ExportError::Node(_));
                Told::Refused(Refused { why: error.to_string(), owner: None, is_passing, advice: None })
            }
        }
    }
}
