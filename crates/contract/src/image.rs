//! What one image of a segment is asked to do by the segment's owner, and how it answers.
//!
//! Requests to one image are handed over in the owner's order; replies come in any order, one per request.
//! The owner holds the range lock of whatever it writes (M2), so an image never sees two writes in flight to
//! one block, nor a read of a block that is being written.

use dyad_payload::{BlockSum, Payload, Sums};
use dyad_units::{Epoch, Extent, Interval, Piece, Region, Stamp, WriteNumber};

/// Names a request until its reply comes back. Chosen by the owner; at most one in flight per image has it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Token(pub u64);

/// Where a write's slots come from (P15).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Space {
    /// One credit per piece, granted ahead by [`Request::Grant`]; unused ones are told in [`Written`].
    Credit,
    /// A reservation made by [`Request::Reserve`] for this piece, or for one that the same operation writes to the same extent
    /// before it.
    Reserved,
}

/// A write of whole blocks within one extent.
#[derive(Clone, Debug)]
pub struct Write {
    /// Which blocks.
    pub piece: Piece,
    /// (epoch, open interval). The image keeps the higher of this and what it has (M1).
    pub stamp: Stamp,
    /// The write's number in the owner's order (M3).
    pub number: WriteNumber,
    /// All images have every write up to this number; kept in L with the write (M3).
    pub settled: WriteNumber,
    /// Exactly the piece's bytes.
    pub data: Payload,
    /// One sum per block of `data` (P7).
    pub sums: Sums,
    /// Who pays for a slot, should one be needed.
    pub space: Space,
}

/// Blocks that read as zeros from now on; whole extents give their slots back (P9). Needs no space.
#[derive(Clone, Copy, Debug)]
pub struct Unmap {
    /// Which blocks.
    pub piece: Piece,
    /// As in [`Write`].
    pub stamp: Stamp,
    /// As in [`Write`].
    pub number: WriteNumber,
    /// As in [`Write`].
    pub settled: WriteNumber,
}

/// What an owner asks of an image.
#[derive(Clone, Debug)]
pub enum Request {
    /// Return the blocks of the piece, verified (P7). -> [`Reply::Data`]
    Read {
        /// Which blocks.
        piece: Piece,
    },
    /// Write; mark the region first if it is clean (P5). Answered when a crash of the process would not
    /// lose it (A1, P6). -> [`Reply::Written`]
    Write(Write),
    /// Unmap; marked like a write. -> [`Reply::Written`]
    Unmap(Unmap),
    /// Make everything answered before this request durable (A2). -> [`Reply::Done`]
    Flush,
    /// First phase of a close (M4): everything of intervals up to this is here; flush, commit its stamps and
    /// checksum tables. -> [`Reply::Done`]
    Close {
        /// The interval that closes.
        interval: Interval,
    },
    /// Second phase: all in-sync images did the first. Record closed, clear marks of regions that were not
    /// written in the interval just closed nor since (P5). -> [`Reply::Done`]
    Closed {
        /// The new closed value.
        stamp: Stamp,
    },
    /// Grant credits for slots (P15). -> [`Reply::Granted`], possibly fewer or none.
    Grant {
        /// How many are wanted.
        credits: u32,
    },
    /// The owner of this epoch holds no credits any more: what was granted to it and not used is void (P15). Of an epoch that
    /// the image has not adopted: a stored record has it out of the set, and reservations are void, too. Of one that is over:
    /// nothing is left to void. -> [`Reply::Done`]
    GiveBack {
        /// The epoch.
        epoch: Epoch,
    },
    /// Make sure that this one write finds a slot, should it need one (P15). -> [`Reply::Done`] or
    /// [`ImageError::Full`]. Undone by [`Request::Release`] if the write does not come.
    Reserve {
        /// The write's blocks.
        piece: Piece,
    },
    /// Undo a [`Request::Reserve`]. -> [`Reply::Done`]
    Release {
        /// The blocks of the reservation.
        piece: Piece,
    },
    /// Keep the newest segment record that the owner knows, durably, with its epoch (M3, M9). The image
    /// refuses a lower epoch, and requests stamped with one, from then on. -> [`Reply::Done`]
    Record {
        /// Epoch of the record.
        epoch: Epoch,
        /// The record as the cluster encodes it, at most [`RECORD_BYTES_MAX`] bytes.
        record: Payload,
    },
    /// After opening: what has to be compared between the images before it may be read (P6, P8, M9).
    /// -> [`Reply::Survey`]
    Survey,
    /// As [`Request::Survey`], asked by whoever thinks of taking the segment over: changes nothing, not even what
    /// the owner of now was promised (M11). -> [`Reply::Survey`]
    Show,
    /// The state of every block of an extent, for that comparison. -> [`Reply::Examined`]
    Examine {
        /// Which extent.
        extent: Extent,
    },
    /// Rewrite blocks with what another image has, or zeros, without asking for a newer stamp than `stamp`:
    /// equalising after a crash (P8) and healing (P14). Data is durable before its checksum (P8).
    /// -> [`Reply::Written`]
    Mend(Write),
    /// Equalising: these blocks become unwritten, as on the other image (P8, P9). -> [`Reply::Written`]
    MendUnmap(Unmap),
    /// Believe what the blocks hold although no checksum matches, because a crash may have left them so and no image has
    /// better: only ever asked of the image about to serve (P8). Counted there. -> [`Reply::Done`]
    Adopt {
        /// Which blocks.
        piece: Piece,
    },
    /// Extents from `from` on, in order, that were last written after `after` or are flagged lost; tombstones
    /// included (M13, P9). At most [`CHANGED_MAX`]. -> [`Reply::Changed`]
    Changed {
        /// The image's, or the source's, last stamp that counts as complete.
        after: Stamp,
        /// Where to begin.
        from: Extent,
    },
    /// Resync: the extent has the source's content now, mended before this. It takes exactly this stamp, even
    /// a lower one than it has (M1), and is not lost any more (P12). Durable by the next close. -> [`Reply::Done`]
    Copied {
        /// Which extent.
        extent: Extent,
        /// The source's stamp.
        stamp: Stamp,
    },
    /// Resync: keep durably how far it came (M15). -> [`Reply::Done`]
    Progress {
        /// Extents below are copied; none: no resync is under way, the image is complete (M16).
        cursor: Option<Extent>,
        /// k: below the cursor it is complete up to this stamp.
        complete: Stamp,
    },
    /// The extent's images are equal: it no longer counts as suspect, and takes `stamp`, the first of the new
    /// epoch, where it stood for [`Stamp::NEWEST`] (M1). -> [`Reply::Done`]
    Settled {
        /// Which extent.
        extent: Extent,
        /// First stamp of the new epoch.
        stamp: Stamp,
    },
}

/// Bound of an encoded segment record: four images and a long history of forks fit several times.
pub const RECORD_BYTES_MAX: usize = 3072;

/// What an image answers.
#[derive(Clone, Debug)]
pub enum Reply {
    /// The bytes of a read, verified.
    Data(Payload),
    /// A write, unmap or mend took effect.
    Written(Written),
    /// Done, nothing to hand back.
    Done,
    /// So many credits, at most as wanted.
    Granted(u32),
    /// What has to be compared.
    Survey(Box<Survey>),
    /// The state of each of the extent's 64 blocks.
    Examined(Box<Examined>),
    /// Extents that changed.
    Changed(Box<Changed>),
    /// Refused or failed; see there for what took effect.
    Failed(ImageError),
}

/// The credit of a write, an unmap or a mend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Written {
    /// A slot was allocated: the credit or the reservation is spent. Otherwise it goes back to the owner.
    pub used_slot: bool,
}

/// What an image knows after opening about how it stopped.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Survey {
    /// The image's closed (M4).
    pub closed: Stamp,
    /// Highest epoch that it adopted (M3).
    pub epoch: Epoch,
    /// Its newest record, empty if it never had one.
    pub record: Vec<u8>,
    /// Whether L was there and belongs to this life of the disk, so that nothing acknowledged is missing
    /// (M11: *lived through*).
    pub lived_through: bool,
    /// With L: the ranges of writes that other images might not have (M3: number above the highest settled).
    /// Without: nothing.
    pub unsettled: Vec<Piece>,
    /// Without L: the marked regions; every written extent in them is suspect (P8). With L: nothing.
    pub marked: Vec<Region>,
    /// Extents flagged lost (P12).
    pub lost: Vec<Extent>,
    /// Resync: how far it came and k (M15); none: no resync was under way.
    pub progress: Option<(Extent, Stamp)>,
}

/// Most extents in one answer to [`Request::Changed`]: 6 KiB, and 128 MiB of a volume.
pub const CHANGED_MAX: usize = 512;

/// What [`Request::Changed`] found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Changed {
    /// In order; the stamp is the image's own.
    pub extents: Vec<(Extent, Stamp)>,
    /// Where to ask on; none: that was all.
    pub next: Option<Extent>,
}

/// The state of an extent's blocks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Examined {
    /// The extent's stamp.
    pub stamp: Stamp,
    /// One per block.
    pub blocks: [BlockState; 64],
}

/// What is known about one block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BlockState {
    /// Never written or unmapped: reads as zeros, for certain (P1).
    Unwritten,
    /// Reads as zeros, but a write of it was begun and not known to be done when the process died (P6): whoever has it is
    /// right.
    Missing,
    /// The data matches the checksum that the map vouches for; its sum.
    Verified(BlockSum),
    /// After a crash that forgot (P8): the data matches no checksum that is known for it, and may be newer than all of
    /// them, or torn; the sum of what is there.
    Unverified(BlockSum),
    /// Cannot be read, flagged lost, known to be bad since a resync found no good copy (M15), or damaged: it does not
    /// match its checksum although nothing was forgotten since that was written (P7).
    Unreadable,
}

/// Why an image refused or failed a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ImageError {
    /// The checksum of these blocks of the extent does not match (P7); the others are good. Another image
    /// may heal them (P14).
    #[error("{} blocks of extent {} are damaged", .blocks.count_ones(), .extent.0)]
    Damaged {
        /// The extent.
        extent: Extent,
        /// One bit per block of the extent.
        blocks: u64,
    },
    /// The extent is flagged lost (P12).
    #[error("extent {} was lost by its disk", .extent.0)]
    Lost {
        /// The extent.
        extent: Extent,
    },
    /// No slot; nothing was written (P15).
    #[error("the pool is full")]
    Full,
    /// The disk failed a read; nothing is wrong with other blocks as far as known.
    #[error("the disk could not read")]
    Unreadable,
    /// The disk failed a write or a sync and is believed no longer (P11): the request, and every later one
    /// that changes something, has no promised effect.
    #[error("the disk failed and is out of use until the node is restarted")]
    Poisoned,
    /// The request is of an epoch lower than one adopted before (M3); it had no effect.
    #[error("a newer owner has taken over in epoch {newest}")]
    Superseded {
        /// Highest epoch adopted.
        newest: Epoch,
    },
    /// All buffers or queues of the image are in use; nothing was done. Ask again when something finished.
    #[error("the image has no room for another request")]
    Overloaded,
}
