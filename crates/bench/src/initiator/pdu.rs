//! The 48 bytes that begin every PDU (RFC 7143 §11.2), as a view that judges nothing.

/// Length of a basic header segment.
pub const HEADER: usize = 48;

/// Opcodes as they stand in byte 0 (RFC 7143 §11.2.1.2).
#[allow(missing_docs, reason = "the names are the standard's")]
pub mod opcode {
    pub const NOP_OUT: u8 = 0x00;
    pub const COMMAND: u8 = 0x01;
    pub const TASK_MANAGEMENT: u8 = 0x02;
    pub const LOGIN: u8 = 0x03;
    pub const TEXT: u8 = 0x04;
    pub const DATA_OUT: u8 = 0x05;
    pub const LOGOUT: u8 = 0x06;
    pub const NOP_IN: u8 = 0x20;
    pub const RESPONSE: u8 = 0x21;
    pub const TASK_MANAGEMENT_RESPONSE: u8 = 0x22;
    pub const LOGIN_RESPONSE: u8 = 0x23;
    pub const TEXT_RESPONSE: u8 = 0x24;
    pub const DATA_IN: u8 = 0x25;
    pub const LOGOUT_RESPONSE: u8 = 0x26;
    pub const R2T: u8 = 0x31;
    pub const ASYNC: u8 = 0x32;
    pub const REJECT: u8 = 0x3f;
    /// Set beside the opcode: immediate delivery.
    pub const IMMEDIATE: u8 = 0x40;
}

/// Byte 1, bit 7 of most PDUs: the last of its sequence.
pub const FINAL: u8 = 0x80;
/// The tag that means "none" (RFC 7143 §11.2.1.8).
pub const NO_TAG: u32 = 0xffff_ffff;

/// One basic header segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header(pub [u8; HEADER]);

impl Header {
    /// A header of zeros with an opcode (and perhaps `opcode::IMMEDIATE`) and the flags of byte 1.
    pub fn new(opcode: u8, flags: u8) -> Self {
        let mut bytes = [0; HEADER];
        bytes[0] = opcode;
        bytes[1] = flags;
        Self(bytes)
    }

    /// The opcode without the immediate bit.
    pub fn opcode(&self) -> u8 {
        self.0[0] & 0x3f
    }

    /// Byte 1.
    pub fn flags(&self) -> u8 {
        self.0[1]
    }

    /// Length of the additional header segments in bytes.
    pub fn ahs_len(&self) -> usize {
        usize::from(self.0[4]) * 4
    }

    /// Length of the data segment in bytes, without padding.
    pub fn data_len(&self) -> usize {
        (usize::from(self.0[5]) << 16) | (usize::from(self.0[6]) << 8) | usize::from(self.0[7])
    }

    /// Sets the length of the data segment.
    ///
    /// # Panics
    /// If it does not fit 24 bits.
    pub fn set_data_len(&mut self, len: usize) -> &mut Self {
        let len = u32::try_from(len).expect("a data segment has at most 2^24 - 1 bytes");
        assert!(len < 1 << 24, "a data segment has at most 2^24 - 1 bytes");
        self.0[5..8].copy_from_slice(&len.to_be_bytes()[1..]);
        self
    }

    /// The big-endian 32-bit field at `at`.
    pub fn u32_at(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    /// Sets the big-endian 32-bit field at `at`.
    pub fn set_u32(&mut self, at: usize, value: u32) -> &mut Self {
        self.0[at..at + 4].copy_from_slice(&value.to_be_bytes());
        self
    }

    /// Sets the bytes from `at` on.
    pub fn set(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// Initiator task tag.
    pub fn itt(&self) -> u32 {
        self.u32_at(16)
    }

    /// Target transfer tag, where the PDU has one.
    pub fn ttt(&self) -> u32 {
        self.u32_at(20)
    }

    /// Status sequence number of what the target sends.
    pub fn stat_sn(&self) -> u32 {
        self.u32_at(24)
    }

    /// (ExpCmdSN, MaxCmdSN) of what the target sends.
    pub fn window(&self) -> (u32, u32) {
        (self.u32_at(28), self.u32_at(32))
    }
}

/// Padding that follows `len` bytes (RFC 7143 §11.1: segments are multiples of four bytes).
pub fn padding(len: usize) -> usize {
    len.wrapping_neg() & 3
}

/// Serial number comparison (RFC 1982, as RFC 7143 §4.2.2.1 wants): is `a` before or at `b`?
pub fn serial_at_most(a: u32, b: u32) -> bool {
    b.wrapping_sub(a) < 1 << 31
}

#[cfg(test)]
mod tests {
    use super::{Header, opcode, padding, serial_at_most};

    #[test]
    fn lengths_and_fields_are_read_back_as_they_were_set() {
        let mut header = Header::new(opcode::COMMAND | opcode::IMMEDIATE, 0xa1);
        header.set_data_len(0x01_02_03).set_u32(16, 0xdead_beef);
        assert_eq!((header.opcode(), header.flags()), (opcode::COMMAND, 0xa1));
        assert_eq!((header.data_len(), header.itt()), (0x01_02_03, 0xdead_beef));
        assert_eq!([0, 1, 2, 3, 4].map(padding), [0, 3, 2, 1, 0]);
    }

    #[test]
    fn serial_numbers_compare_across_the_wrap() {
        assert!(serial_at_most(0xffff_fffe, 1));
        assert!(!serial_at_most(2, 1));
        assert!(serial_at_most(5, 5));
    }
}
