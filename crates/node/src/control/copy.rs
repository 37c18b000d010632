//! A detached image, read by itself: a copy of the moment at which it was detached, for a backup.

use std::sync::mpsc::sync_channel;

use dyad_units::{BLOCK_BYTES, EXTENT_BYTES, Extent, ImageId, Piece};

use super::images::{ImageError, refuse};
use super::{ANSWER_TIMEOUT, NodeHandle, QueryError};
use crate::reactor::Message;

/// Most bytes of one read.
pub const COPY_BYTES_MAX: u64 = 4 * EXTENT_BYTES as u64;

impl NodeHandle {
    /// Bytes of a detached image of this node from `offset` on, which is a multiple of 256 KiB: at most
    /// [`COPY_BYTES_MAX`], fewer at the end of the volume, none behind it. Verified by their checksums (P7).
    ///
    /// # Errors
    /// See [`ImageError`].
    pub fn read_detached(&self, image: ImageId, offset: u64) -> Result<Vec<u8>, ImageError> {
        let now = self.own_status()?;
        let unknown = || QueryError::Unknown { kind: "image", name: image.to_string() };
        let volume = now.volumes.iter().find(|volume| volume.images.iter().any(|known| known.id == image));
        let volume = volume.ok_or_else(unknown)?;
        let known = volume.images.iter().find(|known| known.id == image).ok_or_else(unknown)?;
        if known.node != now.node.id {
            let why = format!("the image is on node {}", known.node_name);
            return Err(refuse(why, "ask that node for it"));
        }
        if known.state != "detached" {
            return Err(refuse(
                "only a detached image is read by itself: the others change all the time",
                "detach it first",
            ));
        }
        let pool = known.pool;
        if self.ask(|reply| Message::IsHalfFilled { pool, image, reply })? {
            let why = "the image was catching up when it was given up: what it holds is of no one moment";
            return Err(refuse(why, "remove it, or let it catch up"));
        }
        if !offset.is_multiple_of(u64::from(EXTENT_BYTES)) {
            return Err(refuse("an image is read in extents of 256 KiB", "begin at a multiple of 262144"));
        }
        let end = volume.size.value().min(offset.saturating_add(COPY_BYTES_MAX));
        let mut bytes = Vec::new();
        let mut at = offset;
        while at < end {
            let blocks = (end - at).min(u64::from(EXTENT_BYTES)).div_ceil(u64::from(BLOCK_BYTES));
            let extent = u32::try_from(at / u64::from(EXTENT_BYTES)).ok().map(Extent);
            let piece = extent.and_then(|extent| Piece::new(extent, 0, blocks as u8)).ok_or_else(unknown)?;
            let (reply, answer) = sync_channel(1);
            let asked = self.mailbox.ask(Message::ReadImage { pool: known.pool, image, piece, reply });
            asked.map_err(|waiting| QueryError::Crowded { waiting })?;
            match answer.recv_timeout(ANSWER_TIMEOUT.to_duration()) {
                Ok(Ok(data)) => bytes.extend_from_slice(&data.to_vec()),
                Ok(Err(error)) => {
                    let why = format!("the image cannot be read at {at}: {error}");
                    return Err(refuse(why, "reattach it, or take another image"));
                }
                Err(_) => {
                    return Err(refuse("the image's pool does not answer or is not open", "look at `dyad pool list`"));
                }
            }
            at += u64::from(EXTENT_BYTES);
        }
        bytes.truncate(usize::try_from(end.saturating_sub(offset)).unwrap_or(0));
        Ok(bytes)
    }
}
