//! The fields that control parts are made of.

use dyad_cluster::{FORKS_MAX, IMAGES_MAX, Incarnation, OutReason, SegmentRecord};
use dyad_contract::image::{RECORD_BYTES_MAX, Token};
use dyad_units::{BootId, Epoch, Extent, ImageId, Interval, Piece, Span, Stamp, WriteNumber};

use crate::error::{Malformed, SendError};

/// Writes fields at the end of a buffer.
pub(crate) struct Put<'a>(pub &'a mut Vec<u8>);

impl Put<'_> {
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub fn flag(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    pub fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    pub fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    pub fn image(&mut self, image: ImageId) {
        self.bytes(&image.to_bytes());
    }

    pub fn epoch(&mut self, epoch: Epoch) {
        self.u32(epoch.value());
    }

    pub fn extent(&mut self, extent: Extent) {
        self.u32(extent.0);
    }

    pub fn stamp(&mut self, stamp: Stamp) {
        self.epoch(stamp.epoch);
        self.u32(stamp.interval.value());
    }

    pub fn piece(&mut self, piece: Piece) {
        self.extent(piece.extent);
        self.bytes(&[piece.first(), piece.count()]);
    }

    pub fn span(&mut self, span: Span) {
        self.u64(span.offset());
        self.u64(span.len());
    }

    pub fn incarnation(&mut self, life: Incarnation) {
        self.bytes(&life.boot.to_bytes());
        self.u64(life.start);
    }

    pub fn reason(&mut self, reason: OutReason) {
        self.u8(match reason {
            OutReason::WriteFailed => 1,
            OutReason::Silent => 2,
            OutReason::Absent => 3,
            OutReason::Forgot => 4,
            OutReason::LostExtents => 5,
            OutReason::NoSpace => 6,
            OutReason::Asked => 7,
            OutReason::Slow => 8,
            OutReason::New => 9,
            OutReason::Lost => 10,
            OutReason::Returned => 11,
            OutReason::Removed => 12,
        });
    }

    /// The record as images keep it, its length before it.
    pub fn record(&mut self, record: &SegmentRecord) -> Result<(), SendError> {
        self.record_bytes(&record.encode())
    }

    pub fn record_bytes(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(SendError::TooLong { len: bytes.len() as u64, max: RECORD_BYTES_MAX as u64 });
        }
        self.u16(bytes.len() as u16);
        self.bytes(bytes);
        Ok(())
    }
}

/// Reads fields from the front of a buffer.
pub(crate) struct Take<'a>(pub &'a [u8]);

impl<'a> Take<'a> {
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(*bytes)
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(|[byte]| byte)
    }

    pub fn flag(&mut self, name: &'static str) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed::Field(name)),
        }
    }

    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn image(&mut self) -> Result<ImageId, Malformed> {
        self.array().map(ImageId::from_bytes)
    }

    pub fn token(&mut self) -> Result<Token, Malformed> {
        self.u64().map(Token)
    }

    pub fn number(&mut self) -> Result<WriteNumber, Malformed> {
        self.u64().map(WriteNumber::new)
    }

    pub fn epoch(&mut self) -> Result<Epoch, Malformed> {
        self.u32().map(Epoch::new)
    }

    pub fn extent(&mut self) -> Result<Extent, Malformed> {
        self.u32().map(Extent)
    }

    pub fn stamp(&mut self) -> Result<Stamp, Malformed> {
        Ok(Stamp::new(self.epoch()?, Interval::new(self.u32()?)))
    }

    pub fn piece(&mut self) -> Result<Piece, Malformed> {
        let (extent, [first, count]) = (self.extent()?, self.array()?);
        Piece::new(extent, first, count).ok_or(Malformed::Field("piece"))
    }

    pub fn span(&mut self) -> Result<Span, Malformed> {
        Span::new(self.u64()?, self.u64()?).map_err(|_| Malformed::Field("span"))
    }

    pub fn incarnation(&mut self) -> Result<Incarnation, Malformed> {
        Ok(Incarnation { boot: BootId::from_bytes(self.array()?), start: self.u64()? })
    }

    pub fn reason(&mut self) -> Result<OutReason, Malformed> {
        Ok(match self.u8()? {
            1 => OutReason::WriteFailed,
            2 => OutReason::Silent,
            3 => OutReason::Absent,
            4 => OutReason::Forgot,
            5 => OutReason::LostExtents,
            6 => OutReason::NoSpace,
            7 => OutReason::Asked,
            8 => OutReason::Slow,
            9 => OutReason::New,
            10 => OutReason::Lost,
            11 => OutReason::Returned,
            12 => OutReason::Removed,
            _ => return Err(Malformed::Field("reason")),
        })
    }

    pub fn record_bytes(&mut self) -> Result<&'a [u8], Malformed> {
        match usize::from(self.u16()?) {
            len if len <= RECORD_BYTES_MAX => self.bytes(len),
            _ => Err(Malformed::Field("record")),
        }
    }

    /// A record whose lists are as long as lists in records may be: the mirror counts on that.
    pub fn record(&mut self) -> Result<Box<SegmentRecord>, Malformed> {
        let record = SegmentRecord::decode(self.record_bytes()?).map_err(Malformed::Record)?;
        let images = (1..=IMAGES_MAX).contains(&record.images.len());
        if !images || record.forks.len() > FORKS_MAX {
            return Err(Malformed::Field("record"));
        }
        Ok(Box::new(record))
    }

    /// A list, its count before it; `entry_len` is what each entry takes, so that a count that cannot be is found out
    /// before memory is taken.
    pub fn list<T>(
        &mut self,
        entry_len: usize,
        mut entry: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = self.u32()? as usize;
        if count > self.0.len() / entry_len {
            return Err(Malformed::Short);
        }
        (0..count).map(|_| entry(self)).collect()
    }

    /// Nothing may be left.
    pub fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed::Long) }
    }
}
