//! The owner of one image, as the mirror would play it: keeps ranges locked while they are written (M2),
//! numbers and stamps its writes (M1, M3), pays for slots with credits (P15), closes intervals in two phases
//! (M4), and judges every reply by the model.

use dyad_contract::image::{ImageError, Reply, Request, Space, Token, Unmap, Write};
use dyad_payload::{Payload, Slab, Sums};
use dyad_units::{Epoch, Extent, Interval, Piece, Region, Stamp, WriteNumber};
use std::collections::BTreeMap;

use crate::model::{Crash, Instant, Model, Violation};
use crate::pattern::{Value, fill};

/// A request on its way, and what its reply will mean.
#[derive(Clone, Debug)]
pub(crate) enum Sent {
    Write { piece: Piece, number: WriteNumber, stamp: Stamp, space: Space },
    Unmap { piece: Piece, number: WriteNumber, stamp: Stamp },
    Read { piece: Piece },
    Flush { begun: Instant },
    Close { stamp: Stamp, begun: Instant },
    Closed { stamp: Stamp },
    Grant { wanted: u32 },
    Reserve { piece: Piece },
    Release,
    Record { epoch: Epoch },
}

/// How far the closing of an interval is (M4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Closing {
    No,
    /// No write is stamped with it any more; some may be in flight.
    Draining(Stamp),
    /// First phase sent.
    First(Stamp),
    /// First phase answered: the second may go out.
    FirstDone(Stamp),
    /// Second phase sent.
    Second(Stamp),
}

/// What one owner knows of its image.
#[derive(Clone, Debug)]
pub struct Actor {
    /// What may be read.
    pub model: Model,
    pub(crate) sent: BTreeMap<Token, Sent>,
    pub(crate) stamp: Stamp,
    next_number: WriteNumber,
    pub(crate) credits: u32,
    pub(crate) reserved: Vec<Piece>,
    pub(crate) closing: Closing,
    /// Highest closed that was answered, and the one that may have been taken over meanwhile.
    pub(crate) closed: Stamp,
    pub(crate) closed_maybe: Stamp,
    /// Epoch of the newest record that was answered, and of the one that may be there.
    pub(crate) epoch: Epoch,
    pub(crate) epoch_maybe: Epoch,
    /// Epoch of the record that was on its way when the disk failed: refused, and there or not (P11).
    pub(crate) epoch_in_doubt: Option<Epoch>,
    /// Last answered stamp per region (P5).
    pub(crate) written: BTreeMap<Region, Stamp>,
    /// Answered writes that not all images may have (M3): above what was said to be settled.
    pub(crate) unsettled: Vec<(WriteNumber, Stamp, Piece)>,
    pub(crate) settled_said: WriteNumber,
    /// The disk failed a change: nothing may be flushed any more (P11).
    pub(crate) is_poisoned: bool,
    /// Errors of reads are expected: bits were flipped on purpose.
    pub(crate) is_rotten: bool,
    pub(crate) refusals: u64,
    /// What the image must say about having lived through (M11); `None` where either is right.
    pub(crate) life: Option<bool>,
    /// Replies judged.
    pub(crate) answered: u64,
}

impl Actor {
    /// The owner of a fresh image whose patterns carry `image`, on a disk with this physical block.
    pub fn new(image: u64, unit: usize) -> Self {
        Self {
            model: Model::new(image, unit),
            sent: BTreeMap::new(),
            stamp: Stamp::new(Epoch::new(1), Interval::new(1)),
            next_number: WriteNumber::new(1),
            credits: 0,
            reserved: Vec::new(),
            closing: Closing::No,
            closed: Stamp::NEVER,
            closed_maybe: Stamp::NEVER,
            epoch: Epoch::new(0),
            epoch_maybe: Epoch::new(0),
            epoch_in_doubt: None,
            written: BTreeMap::new(),
            unsettled: Vec::new(),
            settled_said: WriteNumber::new(0),
            is_poisoned: false,
            is_rotten: false,
            refusals: 0,
            life: Some(true),
            answered: 0,
        }
    }

    /// Whether no request touches these blocks in a way that this one must wait for (M2).
    pub(crate) fn is_free(&self, piece: Piece, writes: bool) -> bool {
        let clashes = |sent: &Sent| match sent {
            Sent::Write { piece: other, .. } | Sent::Unmap { piece: other, .. } | Sent::Reserve { piece: other } => {
                overlaps(piece, *other)
            }
            Sent::Read { piece: other } => writes && overlaps(piece, *other),
            _ => false,
        };
        !self.sent.values().any(clashes) && !self.reserved.iter().any(|&held| overlaps(piece, held))
    }

    /// Everything up to this number is on all images: here, simply answered.
    fn settled(&self) -> WriteNumber {
        let flying = self.sent.values().filter_map(|sent| match sent {
            Sent::Write { number, .. } | Sent::Unmap { number, .. } => Some(number.value()),
            _ => None,
        });
        WriteNumber::new(flying.min().unwrap_or(self.next_number.value()) - 1)
    }

    /// A write of `version` to `piece`.
    pub(crate) fn write(&mut self, token: Token, piece: Piece, version: u32, space: Space, slab: &Slab) -> Request {
        let mut buf = slab.take(piece.len()).expect("the run's slab is large");
        fill(&mut buf, self.model.image(), piece.block().0, Value::of(version));
        let data = Payload::from(buf.freeze());
        let sums = Sums::of(&data, slab).expect("the run's slab is large");
        let (number, settled) = self.number();
        let stamp = self.stamp;
        self.model.begin(piece, Value::of(version), stamp);
        self.sent.insert(token, Sent::Write { piece, number, stamp, space });
        Request::Write(Write { piece, stamp, number, settled, data, sums, space })
    }

    /// An unmap of `piece`.
    pub(crate) fn unmap(&mut self, token: Token, piece: Piece) -> Request {
        let (number, settled) = self.number();
        let stamp = self.stamp;
        self.model.begin(piece, Value::ZERO, stamp);
        self.sent.insert(token, Sent::Unmap { piece, number, stamp });
        Request::Unmap(Unmap { piece, stamp, number, settled })
    }

    fn number(&mut self) -> (WriteNumber, WriteNumber) {
        let settled = self.settled();
        self.settled_said = settled.max(self.settled_said);
        self.unsettled.retain(|&(number, _, _)| number > settled);
        let number = self.next_number;
        self.next_number = number.next();
        (number, settled)
    }

    pub(crate) fn flush(&mut self, token: Token) -> Request {
        let begun = self.model.flush();
        self.sent.insert(token, Sent::Flush { begun });
        Request::Flush
    }

    /// Starts or advances the closing of the open interval; `None` while nothing is to be sent (M4).
    pub(crate) fn close(&mut self, token: Token) -> Option<Request> {
        if self.closing == Closing::No {
            self.closing = Closing::Draining(self.stamp);
            self.stamp = Stamp::new(self.stamp.epoch, self.stamp.interval.next());
        }
        let Closing::Draining(stamp) = self.closing else { return None };
        let is_drained = self.sent.values().all(|sent| match sent {
            Sent::Write { stamp: other, .. } | Sent::Unmap { stamp: other, .. } => *other > stamp,
            _ => true,
        });
        if !is_drained {
            return None;
        }
        self.closing = Closing::First(stamp);
        let begun = self.model.flush();
        self.sent.insert(token, Sent::Close { stamp, begun });
        Some(Request::Close { interval: stamp.interval })
    }

    /// The second phase, once the first is answered.
    pub(crate) fn closed(&mut self, token: Token, stamp: Stamp) -> Request {
        self.closing = Closing::Second(stamp);
        self.closed_maybe = stamp;
        self.sent.insert(token, Sent::Closed { stamp });
        Request::Closed { stamp }
    }

    /// A new epoch with its record: credits granted before are void, reservations stay (P15).
    pub(crate) fn record(&mut self, token: Token, epoch: Epoch, slab: &Slab) -> Request {
        self.epoch_maybe = epoch;
        self.credits = 0;
        self.stamp = Stamp::new(epoch, Interval::new(1));
        self.sent.insert(token, Sent::Record { epoch });
        let record = Payload::from(slab.copy_of(record_of(epoch).as_bytes()).expect("the run's slab is large"));
        Request::Record { epoch, record }
    }

    /// Judges a reply.
    pub(crate) fn judge(&mut self, token: Token, reply: Reply) -> Result<(), Violation> {
        let sent =
            self.sent.remove(&token).ok_or_else(|| Violation(format!("a second reply to {token:?}: {reply:?}")))?;
        self.answered += 1;
        if let (Sent::Write { stamp, .. } | Sent::Unmap { stamp, .. }, Reply::Written(_)) = (&sent, &reply)
            && stamp.epoch < self.epoch
        {
            let text = format!("{sent:?} took effect after the record of epoch {} was answered (M3)", self.epoch);
            return Err(Violation(text));
        }
        match (&sent, reply) {
            (Sent::Write { piece, number, stamp, space }, Reply::Written(written)) => {
                let is_unused = *space == Space::Credit && !written.used_slot;
                self.credits += u32::from(is_unused && stamp.epoch == self.stamp.epoch);
                self.took_effect(*piece, *number, *stamp);
            }
            (Sent::Unmap { piece, number, stamp }, Reply::Written(_)) => self.took_effect(*piece, *number, *stamp),
            (Sent::Read { piece }, Reply::Data(data)) => {
                if data.len() != piece.len() {
                    return Err(Violation(format!("a read of {piece:?} returned {} bytes", data.len())));
                }
                self.model.observe(*piece, &data.to_vec())?;
            }
            (Sent::Flush { begun }, Reply::Done) => self.was_flushed(*begun, "flush")?,
            (Sent::Close { stamp, begun }, Reply::Done) => {
                self.was_flushed(*begun, "close")?;
                self.closing = Closing::FirstDone(*stamp);
            }
            (Sent::Closed { stamp }, Reply::Done) => {
                self.closed = *stamp;
                self.closing = Closing::No;
            }
            (Sent::Grant { wanted }, Reply::Granted(granted)) if granted <= *wanted => self.credits += granted,
            (Sent::Reserve { piece }, Reply::Done) => self.reserved.push(*piece),
            (Sent::Reserve { .. }, Reply::Failed(ImageError::Full)) => {}
            (Sent::Release, Reply::Done) => {}
            (Sent::Record { epoch }, Reply::Done) => self.epoch = *epoch,
            (_, Reply::Failed(error)) => self.refused(&sent, error)?,
            (_, reply) => return Err(Violation(format!("{sent:?} was answered by {reply:?}"))),
        }
        Ok(())
    }

    fn took_effect(&mut self, piece: Piece, number: WriteNumber, stamp: Stamp) {
        // An unmap of what nobody ever wrote is nothing to remember.
        let is_nothing = !self.model.ever_written(piece.extent);
        self.model.answer(piece);
        if is_nothing {
            return;
        }
        self.unsettled.push((number, stamp, piece));
        let last = self.written.entry(piece.extent.region()).or_insert(stamp);
        *last = stamp.max(*last);
    }

    fn was_flushed(&mut self, begun: Instant, what: &str) -> Result<(), Violation> {
        if self.is_poisoned {
            return Err(Violation(format!("a {what} was answered as done after the disk failed (P11)")));
        }
        self.model.flushed(begun);
        Ok(())
    }

    fn refused(&mut self, sent: &Sent, error: ImageError) -> Result<(), Violation> {
        self.refusals += 1;
        let wrong = || Violation(format!("{sent:?} was refused: {error}"));
        if let Sent::Close { stamp, .. } | Sent::Closed { stamp } = sent {
            // To be tried again.
            self.closing = Closing::Draining(*stamp);
        }
        match (sent, error) {
            (Sent::Write { piece, space, .. }, ImageError::Overloaded) => {
                self.model.refuse(*piece);
                match space {
                    Space::Credit => self.credits += 1,
                    Space::Reserved => self.reserved.push(*piece),
                }
                Ok(())
            }
            // Paid for with a credit that a new epoch made void meanwhile.
            (Sent::Write { piece, space: Space::Credit, stamp, .. }, ImageError::Full)
                if stamp.epoch < self.epoch_maybe =>
            {
                self.model.refuse(*piece);
                Ok(())
            }
            (Sent::Unmap { piece, .. }, ImageError::Overloaded) => {
                self.model.refuse(*piece);
                Ok(())
            }
            (
                Sent::Write { piece, stamp, .. } | Sent::Unmap { piece, stamp, .. },
                ImageError::Superseded { newest },
            ) if stamp.epoch < newest && newest <= self.epoch_maybe => {
                self.model.refuse(*piece);
                Ok(())
            }
            (Sent::Close { stamp, .. } | Sent::Closed { stamp }, ImageError::Superseded { newest })
                if stamp.epoch < newest && newest <= self.epoch_maybe =>
            {
                self.closing = Closing::No;
                Ok(())
            }
            (Sent::Read { piece }, ImageError::Lost { extent } | ImageError::Damaged { extent, .. })
                if extent == piece.extent && (self.is_rotten || self.model.may_be_lost(extent)) =>
            {
                Ok(())
            }
            (Sent::Read { .. }, ImageError::Unreadable) if self.is_rotten || self.is_poisoned => Ok(()),
            (_, ImageError::Overloaded) => Ok(()),
            (_, ImageError::Poisoned) if self.is_poisoned => Ok(()),
            _ => Err(wrong()),
        }
    }

    /// Everything stopped: nothing that was asked will be answered.
    pub(crate) fn crash(&mut self, crash: Crash) {
        self.model.crash(crash);
        self.sent.clear();
        self.reserved.clear();
        self.credits = 0;
        self.closing = Closing::No;
        self.is_poisoned = false;
        if crash == Crash::Power {
            self.unsettled.clear();
            self.life = Some(false);
        }
    }

    /// Everything stopped while the pool was being opened. The process alone takes nothing away; but whether L
    /// still counts then depends on how far the opening had come, and either is right once all is flushed.
    pub(crate) fn crash_while_opening(&mut self, crash: Crash) {
        self.crash(crash);
        if self.life == Some(true) {
            self.life = None;
        }
    }

    /// The disk answered a change with an error: nothing unflushed is believed from now on (P11, P12).
    pub(crate) fn poison(&mut self) {
        self.is_poisoned = true;
        self.epoch_in_doubt = self.sent.values().find_map(|sent| match sent {
            Sent::Record { epoch } => Some(*epoch),
            _ => None,
        });
        self.model.poison();
    }
}

pub(crate) fn overlaps(a: Piece, b: Piece) -> bool {
    a.extent == b.extent && a.mask() & b.mask() != 0
}

/// The text that stands for a segment record of this epoch.
pub(crate) fn record_of(epoch: Epoch) -> String {
    if epoch.value() == 0 { String::new() } else { format!("record of epoch {epoch}") }
}

/// All extents of a piece list, each once.
pub(crate) fn extents_of(pieces: &[Piece]) -> Vec<Extent> {
    let mut extents: Vec<_> = pieces.iter().map(|piece| piece.extent).collect();
    extents.sort_unstable();
    extents.dedup();
    extents
}
