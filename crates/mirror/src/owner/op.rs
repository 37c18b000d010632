//! Operations under way: plain data in a slab. What each does next is decided by its phase.

use dyad_cluster::IMAGES_MAX;
use dyad_contract::image::{Examined, Token};
use dyad_contract::volume::{VolumeError, VolumeOp};
use dyad_payload::{Buf, Payload, Sums};
use dyad_units::{Epoch, Extent, Moment, Piece, STATE_EXTENT, Span, Stamp, WriteNumber};

use crate::home::Noted;
use crate::owner::atomic::Atomic;
use crate::owner::choose::Choice;
use crate::owner::equalise::is_copy;
use crate::owner::event::{ImageIndex, OpId};
use crate::owner::images::Images;
use crate::owner::lock::Range;

/// Index of an operation in the slab.
pub(crate) type Slot = u16;

/// Most operations of hosts at once: many sessions with deep queues. More are answered busy.
pub(crate) const HOST_OPS_MAX: usize = 1024;
/// Most pieces of one operation under way at once: 16 MiB, more than the largest transfer of a command.
/// Larger fills and unmaps go in batches of these.
pub(crate) const BATCH: usize = 64;

/// What an operation is for.
#[derive(Clone, Debug)]
pub(crate) enum Task {
    /// The slot is free.
    None,
    /// A host's command.
    Volume(VolumeOp),
    /// Compare an extent and make it equal: after a crash (P8), or to heal it (P14).
    Equalise(Box<Equalise>),
    /// Ask all images what the last life left, without effect on anything.
    Show,
    /// The same, once they all adopted the epoch.
    Survey,
    /// Ask the image that is to catch up what it has (M13).
    SurveyOf(ImageIndex),
    /// List what changed, on the source or on the image that catches up (M13).
    List(usize),
    /// Let the image that catches up note how far it is (M15).
    Progress {
        /// The run that knows it: of another one it says nothing.
        life: u64,
        /// As in the request.
        cursor: Option<Extent>,
        /// As in the request.
        complete: Stamp,
    },
    /// Let all images keep the newest record (M3).
    Record,
    /// First phase of closing (M4).
    Close(Stamp),
    /// Second phase of closing (M4).
    Seal(Stamp),
    /// Ask an image for credits (P15).
    Grant(ImageIndex, u32),
    /// Give an image all of its credits of this epoch back (P15).
    GiveBack(ImageIndex, Epoch),
    /// Find out whether an atomic write was left half done, and do it: this one, if that is known already (M21).
    Replay(Option<Noted>),
    /// Flush the only image left, so that the record can say so (M8).
    FlushAlone,
    /// The last flush before the end.
    FlushLast,
}

/// Why an extent is compared.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// A crash left it suspect (P8, M9).
    Crash,
    /// Blocks of it are damaged: only those are mended, and nothing is settled (P14).
    Heal,
    /// An image catches up: it takes what the set has (M14).
    Copy {
        /// Which image.
        image: ImageIndex,
        /// In which run.
        life: u64,
    },
}

/// An extent being compared.
#[derive(Clone, Debug)]
pub(crate) struct Equalise {
    pub(crate) extent: Extent,
    pub(crate) kind: Kind,
    /// Copying: the source alone does not have all blocks, so all images are asked.
    pub(crate) asks_all: bool,
    pub(crate) found: [Option<Box<Examined>>; IMAGES_MAX],
    /// What to do, block after block; runs of equal choices become one step.
    pub(crate) choices: Vec<(Piece, Choice)>,
}

impl Equalise {
    pub(crate) fn new(extent: Extent, kind: Kind) -> Self {
        let (found, choices) = ([const { None }; IMAGES_MAX], Vec::new());
        Self { extent, kind, asks_all: false, found, choices }
    }

    /// Copying: the stamp that the copy takes, the newest of those that it was made of.
    pub(crate) fn source_stamp(&self) -> Stamp {
        let Kind::Copy { image, .. } = self.kind else { return Stamp::NEVER };
        let sources = self.found.iter().enumerate().filter(|&(at, _)| at != usize::from(image.0));
        sources.filter_map(|(_, found)| Some(found.as_deref()?.stamp)).max().unwrap_or(Stamp::NEVER)
    }
}

/// What an operation waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    /// The slot is free.
    Free,
    /// The segment is not served yet, or suspect extents are in the way.
    Gated,
    /// Earlier operations hold its ranges (M2).
    Queued,
    /// Too few images are in sync (A4); holds no lock.
    Parked,
    /// Reads of pieces: each from one image after the other, until one is good.
    Reading,
    /// Reads of pieces from every image.
    Verifying,
    /// Reservations of slots (P15).
    Reserving,
    /// Reservations being undone, because somewhere was no slot.
    Releasing,
    /// Writes and unmaps. From here on the images may differ until all replied (M2).
    Applying,
    /// Everything answered so far becomes durable.
    Flushing,
    /// States of an extent's blocks.
    Examining,
    /// Blocks that nothing verifies become believed.
    Adopting,
    /// Mends of single images.
    Mending,
    /// An extent is equal.
    Settling,
    /// As [`Task::Survey`].
    Surveying,
    /// As [`Task::Record`].
    Recording,
    /// As [`Task::Close`].
    Closing,
    /// As [`Task::Seal`].
    Sealing,
    /// As [`Task::Grant`] and [`Task::GiveBack`].
    Granting,
    /// As [`Task::List`].
    Listing,
    /// As [`Task::Progress`].
    Noting,
}

/// One request of an operation's phase, to one or several images.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) piece: Piece,
    pub(crate) is_unmap: bool,
    /// Who shall do it.
    pub(crate) targets: Images,
    /// Who has not done it yet.
    pub(crate) pending: Images,
    /// Of those, who had no room and is asked again.
    pub(crate) again: Images,
    /// Of those, who had no slot although one was promised.
    pub(crate) refused: Images,
    /// Who reserved a slot for it.
    pub(crate) reserved: Images,
    /// Who is paid with a credit.
    pub(crate) credited: Images,
    /// Who was asked again after its connection broke: whether the first time cost a slot is not known, so its
    /// credit does not come back.
    pub(crate) resent: Images,
    pub(crate) number: WriteNumber,
    /// To be written, or what was read.
    pub(crate) data: Payload,
    pub(crate) sums: Option<Sums>,
    /// Reading: who failed it.
    pub(crate) tried: Images,
    /// Reading: who was asked what is asked now, and did not answer it.
    pub(crate) silent: Images,
    /// Reading: the block looked at alone, after every image failed the whole piece.
    pub(crate) block: Option<u8>,
}

impl Step {
    pub(crate) fn new(piece: Piece, targets: Images) -> Self {
        Self {
            piece,
            is_unmap: false,
            targets,
            pending: Images::NONE,
            again: Images::NONE,
            refused: Images::NONE,
            reserved: Images::NONE,
            credited: Images::NONE,
            resent: Images::NONE,
            number: WriteNumber::default(),
            data: Payload::new(),
            sums: None,
            tried: Images::NONE,
            silent: Images::NONE,
            block: None,
        }
    }

    /// Whether the image was asked and has not answered. A read counts from whoever answers it, though it is asked
    /// elsewhere meanwhile.
    pub(crate) fn waits_for(&self, image: ImageIndex) -> bool {
        self.pending.or(self.silent).contains(image)
    }

    /// What a read asks for now: the piece, or one block of it.
    pub(crate) fn asked(&self) -> Piece {
        match self.block {
            Some(at) => Piece::new(self.piece.extent, self.piece.first() + at, 1).expect("a block of the piece"),
            None => self.piece,
        }
    }
}

/// An operation under way.
#[derive(Clone, Debug)]
pub(crate) struct Op {
    pub(crate) slot: Slot,
    /// The host's name for it; none: our own.
    pub(crate) id: Option<OpId>,
    pub(crate) task: Task,
    pub(crate) arrived: Moment,
    pub(crate) phase: Phase,
    /// Names the phase in tokens, so that a late reply to an earlier phase is known as such.
    pub(crate) tag: u64,
    /// When the phase's requests were sent.
    pub(crate) sent: Moment,
    pub(crate) steps: Vec<Step>,
    /// Steps that are not complete.
    pub(crate) left: usize,
    /// The first failure, by place.
    pub(crate) failure: Option<VolumeError>,
    pub(crate) is_aborted: bool,
    /// Some image may have changed.
    pub(crate) has_effect: bool,
    pub(crate) is_locked: bool,
    /// It did all that it should; only the answer is left.
    pub(crate) is_applied: bool,
    /// Which of the spans is worked on, and its next block.
    pub(crate) span_at: usize,
    pub(crate) next_block: u64,
    /// Partial first and last block of the span, merged.
    pub(crate) head: Option<Buf>,
    pub(crate) tail: Option<Buf>,
    /// How far an atomic write is (M21).
    pub(crate) atomic: Option<Box<Atomic>>,
    /// A fill's pattern, repeated.
    pub(crate) fill: Option<Buf>,
    /// What was read so far.
    pub(crate) gathered: Payload,
    /// Which life of the credits it spent or asks for.
    pub(crate) credit_life: u32,
    /// Who had no slot to reserve.
    pub(crate) full: Images,
    /// Which run of resync it belongs to.
    pub(crate) life: u64,
}

impl Op {
    fn free(slot: Slot) -> Self {
        Self {
            slot,
            id: None,
            task: Task::None,
            arrived: Moment::START,
            phase: Phase::Free,
            tag: 0,
            sent: Moment::START,
            steps: Vec::new(),
            left: 0,
            failure: None,
            is_aborted: false,
            has_effect: false,
            is_locked: false,
            is_applied: false,
            span_at: 0,
            next_block: 0,
            head: None,
            tail: None,
            atomic: None,
            fill: None,
            gathered: Payload::new(),
            credit_life: 0,
            full: Images::NONE,
            life: 0,
        }
    }

    /// Forgets everything but the memory of `steps`.
    fn clear(&mut self) {
        self.steps.clear();
        let steps = std::mem::take(&mut self.steps);
        *self = Self { steps, ..Self::free(self.slot) };
    }

    /// Whom the phase concerns, of a step's targets.
    pub(crate) fn audience(&self, at: usize) -> Images {
        let step = &self.steps[at];
        match self.phase {
            Phase::Reserving if step.is_unmap => Images::NONE,
            // All that a copy writes is in one extent, under its lock: the slot that the first write takes serves the others.
            Phase::Reserving if is_copy(self) && self.steps[..at].iter().any(|earlier| !earlier.is_unmap) => {
                Images::NONE
            }
            Phase::Releasing => step.reserved,
            _ => step.targets,
        }
    }

    pub(crate) fn volume_op(&self) -> Option<&VolumeOp> {
        match &self.task {
            Task::Volume(op) => Some(op),
            _ => None,
        }
    }

    /// The ranges of bytes that a host's operation concerns.
    pub(crate) fn spans(&self) -> &[Span] {
        self.volume_op().map_or(&[], spans)
    }

    /// The ranges of blocks that an operation locks, other than a comparison.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range> {
        let hidden = match &self.task {
            Task::Volume(op) if is_of_state(op) => [Some(Range::whole(STATE_EXTENT)), None],
            Task::Volume(VolumeOp::WriteAtomic { .. }) => [Some(Range::HIDDEN), None],
            Task::Replay(noted) => [Some(Range::HIDDEN), noted.map(Noted::range)],
            _ => [None, None],
        };
        self.spans().iter().map(|&span| Range::from(span)).chain(hidden.into_iter().flatten())
    }

    /// The span worked on.
    ///
    /// # Panics
    /// If there is none: only phases of operations with spans ask.
    pub(crate) fn span(&self) -> Span {
        self.spans()[self.span_at]
    }

    pub(crate) fn is_change(&self) -> bool {
        self.volume_op().is_some_and(is_change)
    }

    /// Notes a failure; of several reads the one at the lowest place counts.
    pub(crate) fn fail(&mut self, error: VolumeError) {
        use VolumeError::Medium;
        match (self.failure, error) {
            (Some(Medium { offset: known }), Medium { offset }) if offset < known => self.failure = Some(error),
            (None, _) => self.failure = Some(error),
            (Some(_), _) => {}
        }
    }

    pub(crate) fn token(&self, step: usize) -> Token {
        Token(self.tag << 20 | u64::from(self.slot) << 8 | step as u64)
    }
}

/// The parts of a token: slot, tag, step.
pub(crate) const fn token_parts(token: Token) -> (Slot, u64, usize) {
    ((token.0 >> 8 & 0xFFF) as Slot, token.0 >> 20, (token.0 & 0xFF) as usize)
}

const _: () = assert!(BATCH <= 256 && OPS_MAX <= 4096, "steps and slots fit a token");

/// Whether it changes bytes of the volume.
pub(crate) const fn is_change(op: &VolumeOp) -> bool {
    match op {
        VolumeOp::Write { .. }
        | VolumeOp::Fill { .. }
        | VolumeOp::Unmap { .. }
        | VolumeOp::CompareAndWrite { .. }
        | VolumeOp::WriteAtomic { .. }
        | VolumeOp::WriteState { .. } => true,
        VolumeOp::Read { .. }
        | VolumeOp::Compare { .. }
        | VolumeOp::Verify { .. }
        | VolumeOp::Flush
        | VolumeOp::ReadState => false,
    }
}

/// The ranges of bytes that it concerns.
pub(crate) fn spans(op: &VolumeOp) -> &[Span] {
    match op {
        VolumeOp::Read { span }
        | VolumeOp::Write { span, .. }
        | VolumeOp::Fill { span, .. }
        | VolumeOp::CompareAndWrite { span, .. }
        | VolumeOp::WriteAtomic { span, .. }
        | VolumeOp::Compare { span, .. }
        | VolumeOp::Verify { span } => std::slice::from_ref(span),
        VolumeOp::Unmap { spans, .. } => spans,
        VolumeOp::Flush | VolumeOp::ReadState | VolumeOp::WriteState { .. } => &[],
    }
}

/// Whether it concerns the SCSI state, not the bytes that hosts see (M20).
pub(crate) const fn is_of_state(op: &VolumeOp) -> bool {
    matches!(op, VolumeOp::ReadState | VolumeOp::WriteState { .. })
}

/// Whether it must be durable before it is answered (A2).
pub(crate) const fn is_durable(op: &VolumeOp) -> bool {
    match op {
        VolumeOp::Write { durable, .. }
        | VolumeOp::Fill { durable, .. }
        | VolumeOp::Unmap { durable, .. }
        | VolumeOp::CompareAndWrite { durable, .. } => *durable,
        VolumeOp::WriteState { .. } | VolumeOp::WriteAtomic { .. } => true,
        VolumeOp::Read { .. }
        | VolumeOp::Compare { .. }
        | VolumeOp::Verify { .. }
        | VolumeOp::Flush
        | VolumeOp::ReadState => false,
    }
}

/// Our own operations at once: heals, comparisons, one of each other kind per image.
pub(crate) const OWN_OPS_MAX: usize = 64;
const OPS_MAX: usize = HOST_OPS_MAX + OWN_OPS_MAX;

/// The slab of operations; slots and their memory are used again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ops {
    ops: Vec<Op>,
    free: Vec<Slot>,
}

impl Ops {
    /// A free slot, or none when all are taken.
    pub(crate) fn take(&mut self) -> Option<&mut Op> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.ops.len() < OPS_MAX => {
                let slot = self.ops.len() as Slot;
                self.ops.push(Op::free(slot));
                slot
            }
            None => return None,
        };
        Some(&mut self.ops[usize::from(slot)])
    }

    /// Gives a slot back.
    pub(crate) fn give_back(&mut self, slot: Slot) {
        self.ops[usize::from(slot)].clear();
        self.free.push(slot);
    }

    pub(crate) fn at(&mut self, slot: Slot) -> Option<&mut Op> {
        self.ops.get_mut(usize::from(slot))
    }

    /// Count of operations under way.
    pub(crate) fn count(&self) -> usize {
        self.ops.len() - self.free.len()
    }

    /// Whether a slot is free.
    pub(crate) fn has_room(&self) -> bool {
        !self.free.is_empty() || self.ops.len() < OPS_MAX
    }

    /// Count of operations under way of which this is true.
    pub(crate) fn count_where(&self, is_it: impl Fn(&Op) -> bool) -> usize {
        self.ops.iter().filter(|op| is_it(op)).count()
    }

    /// Slots that were ever used.
    pub(crate) fn slots(&self) -> std::ops::Range<Slot> {
        0..self.ops.len() as Slot
    }

    pub(crate) fn find(&self, id: OpId) -> Option<Slot> {
        self.ops.iter().find(|op| op.id == Some(id)).map(|op| op.slot)
    }
}
