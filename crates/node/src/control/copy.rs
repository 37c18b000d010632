//! A detached image, read by itself: a copy of the moment at which it was detached, for a backup.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use dyad_contract::image::ImageError as ReadError;
use dyad_units::{BLOCK_BYTES, EXTENT_BYTES, Extent, ImageId, Piece};

use super::images::{ImageError, refuse};
use super::{ANSWER_TIMEOUT, NodeHandle, QueryError};
use crate::clock;
use crate::reactor::{Detached, Message};

/// Most bytes of one read.
pub const COPY_BYTES_MAX: u64 = 4 * EXTENT_BYTES as u64;

/// Before an image is asked again that had no room for a request.
const AGAIN: Duration = Duration::from_millis(20);

impl NodeHandle {
    /// Bytes of a detached image of this node from `offset` on, which is a multiple of 256 KiB: at most
    /// [`COPY_BYTES_MAX`], fewer at the end of the volume, none behind it. Verified by their checksums (P7); an atomic write
    /// that was under way is there whole (M21).
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
        let of = Detached { pool, image, size: volume.size };
        let mut bytes = Vec::new();
        let mut at = offset;
        while at < end {
            let within = at % u64::from(EXTENT_BYTES);
            let blocks = (end - at).min(u64::from(EXTENT_BYTES) - within).div_ceil(u64::from(BLOCK_BYTES));
            let extent = u32::try_from(at / u64::from(EXTENT_BYTES)).ok().map(Extent);
            let first = (within / u64::from(BLOCK_BYTES)) as u8;
            let piece = extent.and_then(|extent| Piece::new(extent, first, blocks as u8)).ok_or_else(unknown)?;
            let read = self.read_piece(of, piece)?;
            at += read.len() as u64;
            bytes.extend(read);
        }
        bytes.truncate(usize::try_from(end.saturating_sub(offset)).unwrap_or(0));
        Ok(bytes)
    }

    /// The first blocks of a piece, at least one.
    fn read_piece(&self, of: Detached, piece: Piece) -> Result<Vec<u8>, ImageError> {
        let deadline = clock::now() + ANSWER_TIMEOUT;
        loop {
            let (reply, answer) = sync_channel(1);
            let asked = self.mailbox.ask(Message::ReadImage { of, piece, reply });
            asked.map_err(|waiting| QueryError::Crowded { waiting })?;
            match answer.recv_timeout(ANSWER_TIMEOUT.to_duration()) {
                Ok(Ok(data)) if !data.is_empty() => return Ok(data.to_vec()),
                Ok(Err(ReadError::Overloaded)) if clock::now() < deadline => std::thread::sleep(AGAIN),
                Ok(Err(ReadError::Overloaded)) => {
                    return Err(refuse("the image's pool has too much to do", "try again in a moment"));
                }
                Ok(Err(error)) => {
                    let why = format!("the image cannot be read at {}: {error}", piece.offset());
                    return Err(refuse(why, "reattach it, or take another image"));
                }
                Ok(Ok(_)) | Err(_) => {
                    return Err(refuse("the image's pool does not answer or is not open", "look at `dyad pool list`"));
                }
            }
        }
    }
}
