//! Reading an image by itself, past its volume: of a detached one, which nobody writes.

use dyad_contract::image::{ImageError, Reply as Told, Request, Token};
use dyad_payload::Payload;
use dyad_units::{ImageId, Piece, PoolId};

use super::message::Reply;
use super::run::{Reactor, guarded};

/// What came of reading a piece of an image.
pub(crate) type Copied = Result<Payload, ImageError>;

/// Who waits for a piece.
pub(crate) enum Reader {
    /// An administrator's copy.
    Copy(Reply<Copied>),
    /// A command to an export of the image.
    Export { image: ImageId, id: u64 },
}

impl Reactor {
    /// Reads a piece. Without the image, or when its pool goes, the reply is dropped.
    pub(super) fn read_image(&mut self, pool: PoolId, image: ImageId, piece: Piece, reply: Reply<Copied>) {
        self.read_piece(pool, image, piece, Reader::Copy(reply));
    }

    /// Reads a piece; `false`: the image is not there, and nobody is told anything.
    pub(super) fn read_piece(&mut self, pool: PoolId, image: ImageId, piece: Piece, reader: Reader) -> bool {
        // From the other end of the numbers than those that parts count up.
        let token = Token(u64::MAX - self.fresh_id());
        let Some(index) = self.pool_with_id(pool) else { return false };
        let Some(room) = self.room_mut(index) else { return false };
        let Some(handle) = room.pool.find(image) else { return false };
        room.reads.push((token, reader));
        let pool = &mut room.pool;
        match guarded(|| pool.submit(handle, token, Request::Read { piece })) {
            Ok(()) => self.soil_pool(index),
            Err(fault) => self.fail_pool(index, &fault.0),
        }
        true
    }

    /// Whether somebody waits for this reply here, and not a part.
    pub(super) fn was_copy(&mut self, index: u32, token: Token, reply: &Told) -> bool {
        let Some(room) = self.room_mut(index) else { return false };
        let Some(at) = room.reads.iter().position(|(asked, _)| *asked == token) else { return false };
        let copied = match reply {
            Told::Data(data) => Ok(data.clone()),
            Told::Failed(error) => Err(*error),
            _ => Err(ImageError::Unreadable),
        };
        match room.reads.swap_remove(at).1 {
            Reader::Copy(reply) => drop(reply.try_send(copied)),
            Reader::Export { image, id } => {
                if let Some(export) = self.exports.find(|export| export.image == image) {
                    self.on_export_piece(export, id, copied);
                }
            }
        }
        true
    }
}
