//! PDUs: a view of the 48 bytes of a basic header segment (RFC 7143 §11.2.1), and one representation per PDU.
//!
//! The view knows offsets and judges nothing. A representation can hold only sense; it has `parse` and `emit`, and
//! the two are inverse. Reserved fields are sent as zero and ignored when received (§11.1). Both directions are
//! here, so that an initiator in a test or a load generator speaks through the same code.

mod command;
mod data;
mod login;
mod other;
mod task;
mod text;

pub use command::{Residual, ScsiCommand, ScsiResponse};
pub use data::{DataIn, DataOut, R2t};
pub use login::{LoginRequest, LoginResponse, Stage};
pub use other::{Async, LogoutRequest, LogoutResponse, NopIn, NopOut, Reject, RejectReason, Snack};
pub use task::{TaskRequest, TaskResponse};
pub use text::{TextRequest, TextResponse};

/// Bytes of a basic header segment.
pub const BHS_BYTES: usize = 48;
/// Bytes of a header or data digest.
pub const DIGEST_BYTES: usize = 4;
/// The tag that means "none" in both tag fields.
pub const NO_TAG: u32 = 0xffff_ffff;
/// A data segment's length has three bytes.
pub const SEGMENT_BYTES_MAX: u32 = (1 << 24) - 1;

/// The F bit of most PDUs, the T bit of login.
const FINAL: u8 = 0x80;
/// The C bit of text and login.
const CONTINUE: u8 = 0x40;

/// The representation of a PDU cannot hold these bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PduError {
    /// An initiator or target sent an opcode that it may not send, or that does not exist.
    #[error("opcode {0:#04x} is not one of these PDUs")]
    Opcode(u8),
    /// A field has a value that the standard does not define.
    #[error("byte {byte} of a PDU with opcode {opcode:#04x} has a value that is not defined")]
    Field {
        /// Of the PDU.
        opcode: u8,
        /// Offset in the header.
        byte: u8,
    },
}

/// What a PDU is (RFC 7143 §11.2.1.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Opcode {
    /// Initiator: ping, or answer to one.
    NopOut = 0x00,
    /// Initiator: SCSI command.
    ScsiCommand = 0x01,
    /// Initiator: task management request.
    TaskRequest = 0x02,
    /// Initiator: login request.
    LoginRequest = 0x03,
    /// Initiator: text request.
    TextRequest = 0x04,
    /// Initiator: write data.
    DataOut = 0x05,
    /// Initiator: logout request.
    LogoutRequest = 0x06,
    /// Initiator: selective acknowledgement.
    Snack = 0x10,
    /// Target: ping, or answer to one.
    NopIn = 0x20,
    /// Target: SCSI response.
    ScsiResponse = 0x21,
    /// Target: task management response.
    TaskResponse = 0x22,
    /// Target: login response.
    LoginResponse = 0x23,
    /// Target: text response.
    TextResponse = 0x24,
    /// Target: read data.
    DataIn = 0x25,
    /// Target: logout response.
    LogoutResponse = 0x26,
    /// Target: ready to transfer.
    R2t = 0x31,
    /// Target: asynchronous message.
    Async = 0x32,
    /// Target: reject.
    Reject = 0x3f,
}

impl Opcode {
    fn from_byte(byte: u8) -> Option<Self> {
        const ALL: [Opcode; 18] = [
            Opcode::NopOut,
            Opcode::ScsiCommand,
            Opcode::TaskRequest,
            Opcode::LoginRequest,
            Opcode::TextRequest,
            Opcode::DataOut,
            Opcode::LogoutRequest,
            Opcode::Snack,
            Opcode::NopIn,
            Opcode::ScsiResponse,
            Opcode::TaskResponse,
            Opcode::LoginResponse,
            Opcode::TextResponse,
            Opcode::DataIn,
            Opcode::LogoutResponse,
            Opcode::R2t,
            Opcode::Async,
            Opcode::Reject,
        ];
        ALL.into_iter().find(|&opcode| opcode as u8 == byte & 0x3f)
    }
}

/// A basic header segment: the view.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bhs([u8; BHS_BYTES]);

impl Bhs {
    /// A header of zeros but for the opcode.
    pub fn new(opcode: Opcode) -> Self {
        let mut bhs = Self([0; BHS_BYTES]);
        bhs.0[0] = opcode as u8;
        bhs
    }

    /// These bytes.
    pub fn from_bytes(bytes: [u8; BHS_BYTES]) -> Self {
        Self(bytes)
    }

    /// All bytes.
    pub fn as_bytes(&self) -> &[u8; BHS_BYTES] {
        &self.0
    }

    /// What the PDU is; `None` if that is not defined.
    pub fn opcode(&self) -> Option<Opcode> {
        Opcode::from_byte(self.0[0])
    }

    /// The six bits of the opcode.
    pub fn opcode_byte(&self) -> u8 {
        self.0[0] & 0x3f
    }

    /// The I bit: for immediate delivery.
    pub fn is_immediate(&self) -> bool {
        self.0[0] & 0x40 != 0
    }

    /// The F bit.
    pub fn is_final(&self) -> bool {
        self.flags() & FINAL != 0
    }

    /// Length of the additional header segments, in bytes.
    pub fn ahs_len(&self) -> usize {
        usize::from(self.0[4]) * 4
    }

    /// Length of the data segment without its padding, in bytes.
    pub fn data_len(&self) -> u32 {
        u32::from_be_bytes([0, self.0[5], self.0[6], self.0[7]])
    }

    /// Initiator task tag.
    pub fn task_tag(&self) -> u32 {
        self.u32(16)
    }

    /// CmdSN of a request.
    pub fn cmd_sn(&self) -> u32 {
        self.u32(24)
    }

    /// Announces a data segment.
    ///
    /// # Panics
    /// If it does not fit in three bytes: a fault of the caller.
    pub fn set_data_len(&mut self, len: usize) {
        assert!(len <= SEGMENT_BYTES_MAX as usize, "a data segment of more than 2^24 - 1 bytes");
        self.0[5..8].copy_from_slice(&(len as u32).to_be_bytes()[1..]);
    }

    /// Announces additional header segments.
    ///
    /// # Panics
    /// If it is not a multiple of four up to 1020: a fault of the caller.
    pub fn set_ahs_len(&mut self, len: usize) {
        assert!(len.is_multiple_of(4) && len <= 1020, "additional header segments of an odd length");
        self.0[4] = (len / 4) as u8;
    }

    /// Sets or clears the I bit.
    #[must_use]
    pub fn immediate(mut self, immediate: bool) -> Self {
        self.0[0] = self.0[0] & !0x40 | u8::from(immediate) << 6;
        self
    }

    fn flags(&self) -> u8 {
        self.0[1]
    }

    fn u8(&self, at: usize) -> u8 {
        self.0[at]
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_be_bytes(self.array(at))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.array(at))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_be_bytes(self.array(at))
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        *self.0[at..].first_chunk().expect("offsets are constants within the header")
    }

    fn put<const N: usize>(mut self, at: usize, bytes: [u8; N]) -> Self {
        self.0[at..at + N].copy_from_slice(&bytes);
        self
    }

    fn put_u8(self, at: usize, value: u8) -> Self {
        self.put(at, [value])
    }

    fn put_u16(self, at: usize, value: u16) -> Self {
        self.put(at, value.to_be_bytes())
    }

    fn put_u32(self, at: usize, value: u32) -> Self {
        self.put(at, value.to_be_bytes())
    }

    fn put_u64(self, at: usize, value: u64) -> Self {
        self.put(at, value.to_be_bytes())
    }

    fn expect(&self, opcode: Opcode) -> Result<(), PduError> {
        if self.opcode_byte() == opcode as u8 { Ok(()) } else { Err(PduError::Opcode(self.opcode_byte())) }
    }

    fn bad_field(&self, byte: u8) -> PduError {
        PduError::Field { opcode: self.opcode_byte(), byte }
    }
}

/// The three numbers in the same place of every target PDU.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Numbers {
    /// StatSN; zero where the PDU carries no status.
    pub stat_sn: u32,
    /// ExpCmdSN: next command expected.
    pub exp_cmd_sn: u32,
    /// MaxCmdSN: last command that fits the window.
    pub max_cmd_sn: u32,
}

impl Numbers {
    fn parse(bhs: &Bhs) -> Self {
        Self { stat_sn: bhs.u32(24), exp_cmd_sn: bhs.u32(28), max_cmd_sn: bhs.u32(32) }
    }

    fn emit(self, bhs: Bhs) -> Bhs {
        bhs.put_u32(24, self.stat_sn).put_u32(28, self.exp_cmd_sn).put_u32(32, self.max_cmd_sn)
    }
}

/// `bit` if `is_set`.
fn bit(is_set: bool, bit: u8) -> u8 {
    if is_set { bit } else { 0 }
}

/// Whether `a` comes before `b` in the serial arithmetic of RFC 1982 (RFC 7143 §4.2.2.1).
pub(crate) fn sn_before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// Padding after a data segment of this length, to a multiple of four (RFC 7143 §11.1).
pub(crate) fn pad_len(len: usize) -> usize {
    len.wrapping_neg() & 3
}

#[cfg(test)]
mod tests {
    use super::{Bhs, Opcode, pad_len, sn_before};

    #[test]
    fn serial_numbers_wrap() {
        assert!(sn_before(0xffff_ffff, 0));
        assert!(!sn_before(0, 0xffff_ffff));
        assert!(!sn_before(7, 7));
    }

    #[test]
    fn a_segment_is_padded_to_four_bytes() {
        assert_eq!([0, 1, 2, 3, 4, 5].map(pad_len), [0, 3, 2, 1, 0, 3]);
    }

    #[test]
    fn the_view_finds_lengths_and_bits() {
        let mut bhs = Bhs::new(Opcode::ScsiCommand).immediate(true);
        bhs.set_data_len(0x01_02_03);
        bhs.set_ahs_len(8);
        assert_eq!((bhs.data_len(), bhs.ahs_len()), (0x01_02_03, 8));
        assert_eq!(bhs.opcode(), Some(Opcode::ScsiCommand));
        assert!(bhs.is_immediate());
        assert_eq!(&bhs.as_bytes()[..8], [0x41, 0, 0, 0, 2, 1, 2, 3]);
        assert!(Bhs::from_bytes([0x3e; 48]).opcode().is_none());
    }
}
