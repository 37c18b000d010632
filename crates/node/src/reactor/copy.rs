//! Reading an image by itself, past its volume: of a detached one, which nobody writes.

use dyad_contract::image::{ImageError, Reply as Told, Request, Token};
use dyad_payload::Payload;
use dyad_units::{ImageId, Piece, PoolId};

use super::message::Reply;
use super::overlay::Detached;
use super::run::{Reactor, guarded};

/// What came of reading a piece of an image.
pub(crate) type Copied = Result<Payload, ImageError>;

/// Who waits for a piece.
pub(crate) enum Reader {
    /// An administrator's copy.
    Copy(Reply<Copied>),
    /// A command to an export of the image.
    Export { image: ImageId, id: u64 },
    /// Whoever looks for what an atomic write left half done in the image.
    Overlay { image: ImageId, id: u64 },
}

/// A piece that is read.
pub(super) struct PieceRead {
    token: Token,
    asked: Piece,
    /// Where it lies.
    from: Piece,
    reader: Reader,
}

impl PieceRead {
    /// One that lies where it belongs.
    #[cfg(test)]
    pub(super) const fn new(token: Token, piece: Piece, reader: Reader) -> Self {
        Self { token, asked: piece, from: piece, reader }
    }

    /// What is wrong with the blocks that were asked for, if something is where they lie.
    fn moved(&self, error: ImageError) -> ImageError {
        let (asked, from) = (self.asked, self.from);
        match error {
            _ if asked == from => error,
            ImageError::Damaged { blocks, .. } => {
                let blocks = (blocks & from.mask()) >> from.first() << asked.first();
                ImageError::Damaged { extent: asked.extent, blocks }
            }
            ImageError::Lost { .. } => ImageError::Damaged { extent: asked.extent, blocks: asked.mask() },
            error => error,
        }
    }
}

impl Reactor {
    /// Reads the first blocks of a piece, see [`Reactor::read_detached`]. Without the image, or when its pool goes, the reply is
    /// dropped.
    pub(super) fn read_image(&mut self, of: Detached, piece: Piece, reply: Reply<Copied>) {
        self.read_detached(of, piece, Reader::Copy(reply));
    }

    /// Reads a piece, as it is, and where it lies; `false`: the image is not there, and nobody is told anything.
    pub(super) fn read_piece(
        &mut self,
        pool: PoolId,
        image: ImageId,
        (asked, from): (Piece, Piece),
        reader: Reader,
    ) -> bool {
        // From the other end of the numbers than those that parts count up.
        let token = Token(u64::MAX - self.fresh_id());
        let Some(index) = self.pool_with_id(pool) else { return false };
        let Some(room) = self.room_mut(index) else { return false };
        let Some(handle) = room.pool.find(image) else { return false };
        room.reads.push(PieceRead { token, asked, from, reader });
        let pool = &mut room.pool;
        match guarded(|| pool.submit(handle, token, Request::Read { piece: from })) {
            Ok(()) => self.soil_pool(index),
            Err(fault) => self.fail_pool(index, &fault.0),
        }
        true
    }

    /// Whether somebody waits for this reply here, and not a part.
    pub(super) fn was_copy(&mut self, index: u32, token: Token, reply: &Told) -> bool {
        let Some(room) = self.room_mut(index) else { return false };
        let Some(at) = room.reads.iter().position(|read| read.token == token) else { return false };
        let read = room.reads.swap_remove(at);
        let copied = match reply {
            Told::Data(data) => Ok(data.clone()),
            Told::Failed(error) => Err(read.moved(*error)),
            #[cfg(test)]
            Told::Written(_) => Ok(Payload::new()),
            _ => Err(ImageError::Unreadable),
        };
        self.hand_out(read.reader, copied);
        true
    }

    /// Tells whoever waits what came.
    pub(super) fn hand_out(&mut self, reader: Reader, copied: Copied) {
        match reader {
            Reader::Copy(reply) => drop(reply.try_send(copied)),
            Reader::Export { image, id } => {
                if let Some(export) = self.exports.find(|export| export.image == image) {
                    self.on_export_piece(export, id, copied);
                }
            }
            Reader::Overlay { image, id } => self.on_overlay_piece(image, id, copied),
        }
    }
}
