//! Reading an image by itself, past its volume: of a detached one, which nobody writes.

use dyad_contract::image::{ImageError, Reply as Told, Request, Token};
use dyad_payload::Payload;
use dyad_units::{ImageId, Piece, PoolId};

use super::message::Reply;
use super::run::{Reactor, guarded};

/// What came of reading a piece of an image.
pub(crate) type Copied = Result<Payload, ImageError>;

impl Reactor {
    /// Reads a piece. Without the image, or when its pool goes, the reply is dropped.
    pub(super) fn read_image(&mut self, pool: PoolId, image: ImageId, piece: Piece, reply: Reply<Copied>) {
        // From the other end of the numbers than those that parts count up.
        let token = Token(u64::MAX - self.fresh_id());
        let Some(index) = self.pool_with_id(pool) else { return };
        let Some(room) = self.room_mut(index) else { return };
        let Some(handle) = room.pool.find(image) else { return };
        room.reads.push((token, reply));
        let pool = &mut room.pool;
        match guarded(|| pool.submit(handle, token, Request::Read { piece })) {
            Ok(()) => self.soil_pool(index),
            Err(fault) => self.fail_pool(index, &fault.0),
        }
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
        let _ = room.reads.swap_remove(at).1.try_send(copied);
        true
    }
}
