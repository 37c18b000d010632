//! Little-endian fields within a fixed space, and the checksum of metadata.

use crc_fast::{CrcAlgorithm, Digest};

/// CRC-64/NVME over `parts` in order. The first is always the id of the disk or pool, so that what another
/// disk left behind is never taken for ours.
pub(crate) fn crc(id: [u8; 16], parts: &[&[u8]]) -> u64 {
    let mut digest = Digest::new(CrcAlgorithm::Crc64Nvme);
    digest.update(&id);
    for part in parts {
        digest.update(part);
    }
    digest.finalize()
}

/// Puts fields one after the other. Running out of space is a fault of the caller, who knows every size.
pub(crate) struct Writer<'a> {
    to: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(to: &'a mut [u8]) -> Self {
        Self { to, at: 0 }
    }

    /// Bytes put so far.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.to[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes(&[value]);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    /// Zeros up to the end of the space.
    pub(crate) fn zero_rest(self) {
        self.to[self.at..].fill(0);
    }
}

/// Takes fields one after the other; `None` where the bytes end.
pub(crate) struct Reader<'a> {
    from: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(from: &'a [u8]) -> Self {
        Self { from }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.from.is_empty()
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.from.split_at_checked(len)?;
        self.from = rest;
        Some(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A byte that is 0 or 1.
    pub(crate) fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_read_back_and_end_where_the_bytes_end() {
        let mut space = [0xff; 20];
        let mut to = Writer::new(&mut space);
        to.u8(1);
        to.u16(2);
        to.u32(3);
        to.u64(4);
        to.bytes(b"ab");
        assert_eq!(to.at(), 17);
        to.zero_rest();
        let mut from = Reader::new(&space);
        assert_eq!((from.flag(), from.u16(), from.u32(), from.u64()), (Some(true), Some(2), Some(3), Some(4)));
        assert_eq!((from.array(), from.u8(), from.u64(), from.u16()), (Some(*b"ab"), Some(0), None, Some(0)));
        assert!(from.is_empty() && from.u8().is_none());
    }

    #[test]
    fn another_disk_has_another_checksum() {
        assert_ne!(crc([1; 16], &[b"page"]), crc([2; 16], &[b"page"]));
        assert_eq!(crc([1; 16], &[b"pa", b"ge"]), crc([1; 16], &[b"page"]));
    }
}
