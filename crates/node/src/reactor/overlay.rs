//! What an atomic write left half done in a detached image (M21): whoever reads the image by itself sees it whole.
//!
//! Nobody carries it out there, as the image is not to change. What was to be written is read from the hidden extents instead, where
//! it lies, in the place of its range: no copy of it is kept.
//!
//! ```text
//!  first read ─▶ both homes ─▶ one cannot be read ───────────────▶ the image as it is, and the next read looks again
//!                  ├▶ no intent ─────────────────────────────────▶ the image as it is
//!                  └▶ hidden extents ─▶ not what was noted ───────▶ the image as it is
//!                                     ├▶ what was noted ──────────▶ its range from there
//!                                     └▶ cannot be read ──────────▶ its range is bad, as it may be half new, and whoever reads it looks again
//! ```
//!
//! A home that cannot be read may be the newer one, and say that the range was written since: an intent of the other is not
//! to come back then. So does an owner.

use dyad_contract::image::ImageError;
use dyad_contract::volume::ATOMIC_BLOCKS_MAX;
use dyad_mirror::Noted;
use dyad_payload::{Payload, Slab};
use dyad_units::{BLOCK_BYTES, Bytes, Extent, ImageId, Piece, PoolId};

use super::copy::{Copied, Reader};
use super::run::Reactor;

/// Images of which it is known; of more it is looked for anew.
const KNOWN_MAX: usize = 128;
/// Images of which it is looked for at once: whoever comes then is told to come again.
const LEARNING_MAX: usize = 8;
/// Buffers that looking for it holds of one image: those of the homes are free before the data come.
const LEARNING_BYTES_MAX: u64 = ATOMIC_BLOCKS_MAX * BLOCK_BYTES as u64;
const _: () = assert!(LEARNING_MAX as u64 * LEARNING_BYTES_MAX <= 8 << 20, "little of the buffers");

/// An image that is read by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Detached {
    pub(crate) pool: PoolId,
    pub(crate) image: ImageId,
    /// Of its volume.
    pub(crate) size: Bytes,
}

/// What is seen of an image in the place of what its blocks hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Overlay {
    /// Nothing.
    Nothing,
    /// Nothing, as long as nobody can tell.
    Unknown,
    /// The range of this from the hidden extents.
    Whole(Noted),
    /// The range of this cannot be read, as long as nobody can tell.
    Bad(Noted),
}

impl Overlay {
    const fn noted(&self) -> Option<&Noted> {
        match self {
            Self::Nothing | Self::Unknown => None,
            Self::Whole(noted) | Self::Bad(noted) => Some(noted),
        }
    }

    /// The first blocks of a piece, as many as lie together, and where; nowhere: they are bad.
    pub(super) fn place(&self, piece: Piece) -> (Piece, Option<Piece>) {
        let Some(noted) = self.noted() else { return (piece, Some(piece)) };
        let (first, end) = (piece.block().0, piece.block().0 + u64::from(piece.count()));
        let (start, stop) = (noted.first, noted.first + noted.blocks);
        if first >= stop || end <= start {
            return (piece, Some(piece));
        }
        if first < start {
            let before = first_of(piece, start - first);
            return (before, Some(before));
        }
        let inside = first_of(piece, stop - first);
        if matches!(self, Self::Bad(_)) {
            return (inside, None);
        }
        let mut skip = first - start;
        for hidden in noted.hidden() {
            let Some(left) = u64::from(hidden.count()).checked_sub(skip).filter(|left| *left > 0) else {
                skip -= u64::from(hidden.count());
                continue;
            };
            let asked = first_of(inside, left);
            return (asked, Piece::new(hidden.extent, hidden.first() + skip as u8, asked.count()));
        }
        (inside, None) // it has a place for each of its blocks
    }

    /// For the log.
    fn tell(&self, image: ImageId) {
        match *self {
            Self::Nothing => {}
            Self::Unknown => {
                tracing::warn!(%image, "a detached image may have been left amid an atomic write: nobody can tell, as its SCSI state cannot be read");
            }
            Self::Whole(Noted { first, blocks, .. }) => {
                tracing::info!(%image, first, blocks, "a detached image was left amid an atomic write: it is read whole");
            }
            Self::Bad(Noted { first, blocks, .. }) => {
                tracing::warn!(%image, first, blocks, "a detached image was left amid an atomic write that cannot be read: its blocks are bad");
            }
        }
    }

    /// The blocks of an extent in its range: they are not as the image's map says.
    pub(super) fn mask(&self, extent: Extent) -> u64 {
        let Some(noted) = self.noted() else { return 0 };
        let base = Piece::whole(extent).block().0;
        let from = noted.first.saturating_sub(base).min(64);
        let to = (noted.first + noted.blocks).saturating_sub(base).min(64);
        let below = |bit: u64| if bit < 64 { (1 << bit) - 1 } else { u64::MAX };
        below(to) & !below(from)
    }
}

/// At most so many blocks of a piece, its first ones; at least one.
fn first_of(piece: Piece, blocks: u64) -> Piece {
    let count = blocks.clamp(1, u64::from(piece.count())) as u8;
    Piece::new(piece.extent, piece.first(), count).unwrap_or(piece)
}

/// Looking for it in an image.
struct Learning {
    /// What was asked for an earlier one is not for this one.
    id: u64,
    homes: Vec<Payload>,
    noted: Option<Noted>,
    /// What of the hidden extents came, and how many pieces of them.
    data: Payload,
    pieces: usize,
    /// Its range is known to be bad, and stays so until somebody can read what was to be written.
    bad: Option<Noted>,
    /// Who waits, at most what the queues of sessions and administrators hold.
    waiting: Vec<Waiter>,
}

/// Whoever waits, and for which piece; none: only to hear that it is known.
type Waiter = (Option<Piece>, Reader);

impl Learning {
    fn new(id: u64, bad: Option<Noted>) -> Self {
        Self { id, homes: Vec::new(), noted: None, data: Payload::new(), pieces: 0, bad, waiting: Vec::new() }
    }

    /// What is read next.
    fn next(&self) -> Option<Piece> {
        match &self.noted {
            None => Noted::homes().get(self.homes.len()).copied(),
            Some(noted) => noted.hidden().nth(self.pieces),
        }
    }

    /// What is seen where a piece cannot be read.
    fn unreadable(&self) -> Overlay {
        match self.noted {
            None => self.bad.map_or(Overlay::Unknown, Overlay::Bad),
            Some(noted) if noted.is_foreign(&self.data) => Overlay::Nothing,
            Some(noted) => Overlay::Bad(noted),
        }
    }

    /// Takes what was read; what is seen, if that is known then. Fails where there is no room just now.
    fn take(&mut self, copied: Copied, size: Bytes, slab: &Slab) -> Result<Option<Overlay>, ImageError> {
        let len = self.next().map_or(0, Piece::len);
        let data = match copied {
            Ok(data) if data.len() == len => data,
            Err(ImageError::Overloaded) => return Err(ImageError::Overloaded),
            _ => return Ok(Some(self.unreadable())),
        };
        let Some(noted) = self.noted else {
            self.homes.push(data);
            let [one, other] = &self.homes[..] else { return Ok(None) };
            self.noted = Noted::of([one, other], size);
            self.homes.clear();
            return Ok(self.noted.is_none().then_some(Overlay::Nothing));
        };
        self.data.append(data);
        self.pieces += 1;
        if self.next().is_some() {
            return Ok(None);
        }
        let is_whole = noted.is_of(&self.data, slab).map_err(|_| ImageError::Overloaded)?;
        Ok(Some(if is_whole { Overlay::Whole(noted) } else { Overlay::Nothing }))
    }
}

enum State {
    Learning(Box<Learning>),
    Known(Overlay),
}

/// What is known of the images that were read by themselves, until something changes them.
#[derive(Default)]
pub(super) struct Overlays(Vec<(Detached, State)>);

/// What comes after a piece was read.
enum Next {
    Read(Detached, Piece),
    Known(Detached, Overlay, Vec<Waiter>),
    Failed(ImageError, Vec<Waiter>),
}

impl Overlays {
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn known(&self, image: ImageId) -> Option<Overlay> {
        self.0.iter().find_map(|(of, state)| match state {
            State::Known(overlay) if of.image == image => Some(*overlay),
            _ => None,
        })
    }

    fn learning(&mut self, image: ImageId) -> Option<&mut Learning> {
        self.0.iter_mut().find_map(|(of, state)| match state {
            State::Learning(learning) if of.image == image => Some(&mut **learning),
            _ => None,
        })
    }

    /// Begins to look for it; who waits is handed back where that is done at too many images already.
    fn begin(&mut self, of: Detached, learning: Learning) -> Result<(), Vec<Waiter>> {
        let is_learning = |state: &State| matches!(state, State::Learning(_));
        if self.0.iter().filter(|(_, state)| is_learning(state)).count() >= LEARNING_MAX {
            return Err(learning.waiting);
        }
        if self.0.len() >= KNOWN_MAX
            && let Some(oldest) = self.0.iter().position(|(_, state)| !is_learning(state))
        {
            self.0.remove(oldest);
        }
        self.0.push((of, State::Learning(Box::new(learning))));
        Ok(())
    }

    /// Takes a piece that was read to look for it.
    fn take(&mut self, image: ImageId, id: u64, copied: Copied, slab: &Slab) -> Option<Next> {
        let is_it = |state: &State| matches!(state, State::Learning(learning) if learning.id == id);
        let at = self.0.iter().position(|(of, state)| of.image == image && is_it(state))?;
        let (of, State::Learning(learning)) = &mut self.0[at] else { return None };
        let of = *of;
        let taken = learning.take(copied, of.size, slab);
        if let (Ok(None), Some(piece)) = (&taken, learning.next()) {
            return Some(Next::Read(of, piece));
        }
        let (waiting, bad) = (std::mem::take(&mut learning.waiting), learning.bad.map(Overlay::Bad));
        let Ok(Some(overlay)) = taken else {
            match bad {
                Some(bad) => self.0[at].1 = State::Known(bad),
                None => drop(self.0.remove(at)),
            }
            return Some(Next::Failed(taken.err().unwrap_or(ImageError::Unreadable), waiting));
        };
        match overlay {
            Overlay::Unknown => drop(self.0.remove(at)),
            _ => self.0[at].1 = State::Known(overlay),
        }
        if bad != Some(overlay) {
            overlay.tell(image);
        }
        Some(Next::Known(of, overlay, waiting))
    }

    /// An image is changed, or goes: who waits for a piece of it waits for nothing.
    pub(super) fn forget(&mut self, image: ImageId) {
        self.0.retain(|(of, _)| of.image != image);
    }

    pub(super) fn forget_pool(&mut self, pool: PoolId) {
        self.0.retain(|(of, _)| of.pool != pool);
    }
}

impl Reactor {
    /// Reads the first blocks of a piece, as many as lie together, with an atomic write in it whole. `false`: the image is not
    /// there, and nobody is told anything.
    pub(super) fn read_detached(&mut self, of: Detached, piece: Piece, reader: Reader) -> bool {
        match self.overlays.known(of.image) {
            // It may be readable by now.
            Some(Overlay::Bad(noted)) if Overlay::Bad(noted).mask(piece.extent) & piece.mask() != 0 => {
                self.overlays.forget(of.image);
                self.await_overlay(of, Some(noted), (Some(piece), reader))
            }
            Some(overlay) => self.read_over(of, overlay, piece, reader),
            None => self.await_overlay(of, None, (Some(piece), reader)),
        }
    }

    /// Lets a reader hear, with no bytes, that it is known. `false` as above.
    pub(super) fn learn_overlay(&mut self, of: Detached, reader: Reader) -> bool {
        if self.overlays.known(of.image).is_none() {
            return self.await_overlay(of, None, (None, reader));
        }
        self.hand_out(reader, Ok(Payload::new()));
        true
    }

    fn read_over(&mut self, of: Detached, overlay: Overlay, piece: Piece, reader: Reader) -> bool {
        let (asked, from) = overlay.place(piece);
        let Some(from) = from else {
            self.hand_out(reader, Err(ImageError::Damaged { extent: asked.extent, blocks: asked.mask() }));
            return true;
        };
        self.read_piece(of.pool, of.image, (asked, from), reader)
    }

    fn await_overlay(&mut self, of: Detached, bad: Option<Noted>, waiter: Waiter) -> bool {
        if let Some(learning) = self.overlays.learning(of.image) {
            learning.waiting.push(waiter);
            return true;
        }
        let id = self.fresh_id();
        let mut learning = Learning::new(id, bad);
        let Some(home) = learning.next() else { return false };
        learning.waiting.push(waiter);
        if let Err(refused) = self.overlays.begin(of, learning) {
            self.fail_waiters(refused, ImageError::Overloaded);
            return true;
        }
        let image = of.image;
        let is_there = self.read_piece(of.pool, image, (home, home), Reader::Overlay { image, id });
        if !is_there {
            self.overlays.forget(image);
        }
        is_there
    }

    /// A piece came that was read to look for it.
    pub(super) fn on_overlay_piece(&mut self, image: ImageId, id: u64, copied: Copied) {
        match self.overlays.take(image, id, copied, &self.slab) {
            // The image was changed meanwhile.
            None => {}
            Some(Next::Read(of, piece)) => {
                let is_there = self.read_piece(of.pool, image, (piece, piece), Reader::Overlay { image, id });
                if !is_there {
                    self.on_overlay_piece(image, id, Err(ImageError::Overloaded));
                }
            }
            Some(Next::Known(of, overlay, waiting)) => {
                for (piece, reader) in waiting {
                    match piece {
                        Some(piece) => drop(self.read_over(of, overlay, piece, reader)),
                        None => self.hand_out(reader, Ok(Payload::new())),
                    }
                }
            }
            Some(Next::Failed(error, waiting)) => self.fail_waiters(waiting, error),
        }
    }

    fn fail_waiters(&mut self, waiting: Vec<Waiter>, error: ImageError) {
        for (_, reader) in waiting {
            self.hand_out(reader, Err(error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(image: u8) -> Detached {
        let (pool, image) = (PoolId::from_bytes([9; 16]), ImageId::from_bytes([image; 16]));
        Detached { pool, image, size: Bytes::mib(64) }
    }

    fn waiting() -> Learning {
        let mut learning = Learning::new(1, None);
        learning.waiting.push((None, Reader::Overlay { image: of(1).image, id: 7 }));
        learning
    }

    /// One that was never written.
    fn home() -> Payload {
        let [piece, _] = Noted::homes();
        let mut bytes = Slab::new(piece.len()).take(piece.len()).unwrap();
        bytes.fill(0);
        bytes.freeze().into()
    }

    #[test]
    fn what_nobody_can_tell_is_looked_for_again() {
        let (mut overlays, slab, image) = (Overlays::default(), Slab::new(1 << 20), of(1).image);
        assert!(overlays.begin(of(1), waiting()).is_ok());
        let next = overlays.take(image, 1, Err(ImageError::Unreadable), &slab);
        assert!(matches!(next, Some(Next::Known(_, Overlay::Unknown, waiting)) if waiting.len() == 1));
        assert!(overlays.known(image).is_none() && overlays.is_empty());
    }

    #[test]
    fn no_room_is_never_taken_for_nothing() {
        let (mut overlays, slab, image) = (Overlays::default(), Slab::new(1 << 20), of(1).image);
        assert!(overlays.begin(of(1), waiting()).is_ok());
        assert!(overlays.take(image, 2, Ok(Payload::new()), &slab).is_none(), "asked for an earlier one");
        let next = overlays.take(image, 1, Err(ImageError::Overloaded), &slab);
        assert!(matches!(next, Some(Next::Failed(ImageError::Overloaded, waiting)) if waiting.len() == 1));
        assert!(overlays.known(image).is_none() && overlays.is_empty());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (mut overlays, slab) = (Overlays::default(), Slab::new(1 << 20));
        for image in 0..=KNOWN_MAX as u8 {
            assert!(overlays.begin(of(image), waiting()).is_ok());
            let next = overlays.take(of(image).image, 1, Ok(home()), &slab);
            assert!(matches!(next, Some(Next::Read(..))));
            let next = overlays.take(of(image).image, 1, Ok(home()), &slab);
            assert!(matches!(next, Some(Next::Known(_, Overlay::Nothing, waiting)) if waiting.len() == 1));
        }
        assert_eq!(overlays.0.len(), KNOWN_MAX);
        assert!(overlays.known(of(0).image).is_none() && overlays.known(of(1).image).is_some());
        let begun = (200..).take_while(|&image| overlays.begin(of(image), waiting()).is_ok()).count();
        assert_eq!((begun, overlays.0.len()), (LEARNING_MAX, KNOWN_MAX));
    }
}
