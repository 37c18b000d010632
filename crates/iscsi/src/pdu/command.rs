//! SCSI Command and SCSI Response (RFC 7143 §11.3, §11.4).

use super::{Bhs, FINAL, Numbers, Opcode, PduError, bit};
use crate::event::TaskAttribute;

const READ: u8 = 0x40;
const WRITE: u8 = 0x20;
const OVERFLOW: u8 = 0x04;
const UNDERFLOW: u8 = 0x02;

/// SCSI Command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ScsiCommand {
    /// For immediate delivery.
    pub immediate: bool,
    /// No unsolicited Data-Out follows.
    pub is_final: bool,
    /// The initiator expects data-in.
    pub read: bool,
    /// The initiator has data-out.
    pub write: bool,
    /// Ordering attribute.
    pub attribute: TaskAttribute,
    /// Logical unit.
    pub lun: u64,
    /// Initiator task tag.
    pub task_tag: u32,
    /// Expected data transfer length.
    pub expected_len: u32,
    /// CmdSN.
    pub cmd_sn: u32,
    /// ExpStatSN.
    pub exp_stat_sn: u32,
    /// First 16 bytes of the CDB.
    pub cdb: [u8; 16],
}

impl ScsiCommand {
    /// Reads a header.
    ///
    /// # Errors
    /// Another PDU, or a task attribute that is not defined.
    pub fn parse(bhs: &Bhs) -> Result<Self, PduError> {
        bhs.expect(Opcode::ScsiCommand)?;
        let attribute = match bhs.flags() & 7 {
            0 => TaskAttribute::Untagged,
            1 => TaskAttribute::Simple,
            2 => TaskAttribute::Ordered,
            3 => TaskAttribute::HeadOfQueue,
            4 => TaskAttribute::Aca,
            _ => return Err(bhs.bad_field(1)),
        };
        Ok(Self {
            immediate: bhs.is_immediate(),
            is_final: bhs.is_final(),
            read: bhs.flags() & READ != 0,
            write: bhs.flags() & WRITE != 0,
            attribute,
            lun: bhs.u64(8),
            task_tag: bhs.u32(16),
            expected_len: bhs.u32(20),
            cmd_sn: bhs.u32(24),
            exp_stat_sn: bhs.u32(28),
            cdb: bhs.array(32),
        })
    }

    /// Writes a header.
    pub fn emit(&self) -> Bhs {
        let flags = bit(self.is_final, FINAL)
            | bit(self.read, READ)
            | bit(self.write, WRITE)
            | match self.attribute {
                TaskAttribute::Untagged => 0,
                TaskAttribute::Simple => 1,
                TaskAttribute::Ordered => 2,
                TaskAttribute::HeadOfQueue => 3,
                TaskAttribute::Aca => 4,
            };
        Bhs::new(Opcode::ScsiCommand)
            .immediate(self.immediate)
            .put_u8(1, flags)
            .put_u64(8, self.lun)
            .put_u32(16, self.task_tag)
            .put_u32(20, self.expected_len)
            .put_u32(24, self.cmd_sn)
            .put_u32(28, self.exp_stat_sn)
            .put(32, self.cdb)
    }
}

/// How much the data of a command differs from what the initiator expected (RFC 7143 §11.4.5).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Residual {
    /// Not at all.
    #[default]
    None,
    /// So many bytes were not transferred because the initiator expected too few.
    Overflow(u32),
    /// So many bytes were expected and not transferred.
    Underflow(u32),
}

impl Residual {
    pub(super) fn parse(bhs: &Bhs) -> Self {
        match bhs.flags() & (OVERFLOW | UNDERFLOW) {
            OVERFLOW => Self::Overflow(bhs.u32(44)),
            UNDERFLOW => Self::Underflow(bhs.u32(44)),
            _ => Self::None,
        }
    }

    pub(super) fn flags(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Overflow(_) => OVERFLOW,
            Self::Underflow(_) => UNDERFLOW,
        }
    }

    pub(super) fn count(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Overflow(count) | Self::Underflow(count) => count,
        }
    }
}

/// SCSI Response, for a command that completed at the target.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ScsiResponse {
    /// Residual count.
    pub residual: Residual,
    /// iSCSI service response: 0 completed at target, 1 target failure.
    pub response: u8,
    /// SCSI status.
    pub status: u8,
    /// Initiator task tag.
    pub task_tag: u32,
    /// Sequence numbers.
    pub numbers: Numbers,
    /// Count of Data-In PDUs that were sent for the command.
    pub exp_data_sn: u32,
}

impl ScsiResponse {
    /// Reads a header.
    ///
    /// # Errors
    /// Another PDU.
    pub fn parse(bhs: &Bhs) -> Result<Self, PduError> {
        bhs.expect(Opcode::ScsiResponse)?;
        Ok(Self {
            residual: Residual::parse(bhs),
            response: bhs.u8(2),
            status: bhs.u8(3),
            task_tag: bhs.u32(16),
            numbers: Numbers::parse(bhs),
            exp_data_sn: bhs.u32(36),
        })
    }

    /// Writes a header.
    pub fn emit(&self) -> Bhs {
        let bhs = Bhs::new(Opcode::ScsiResponse)
            .put_u8(1, FINAL | self.residual.flags())
            .put_u8(2, self.response)
            .put_u8(3, self.status)
            .put_u32(16, self.task_tag)
            .put_u32(36, self.exp_data_sn)
            .put_u32(44, self.residual.count());
        self.numbers.emit(bhs)
    }
}

#[cfg(test)]
mod tests {
    use super::{Residual, ScsiCommand, ScsiResponse};
    use crate::event::TaskAttribute;
    use crate::pdu::{Bhs, Numbers};

    #[test]
    fn a_command_survives_the_round_trip() {
        let command = ScsiCommand {
            immediate: true,
            is_final: true,
            read: true,
            write: false,
            attribute: TaskAttribute::Ordered,
            lun: 0x0001_0000_0000_0000,
            task_tag: 7,
            expected_len: 4096,
            cmd_sn: 8,
            exp_stat_sn: 9,
            cdb: std::array::from_fn(|i| i as u8),
        };
        assert_eq!(ScsiCommand::parse(&command.emit()), Ok(command));
        assert_eq!(&command.emit().as_bytes()[..4], [0x41, 0xc2, 0, 0]);
    }

    #[test]
    fn an_undefined_attribute_is_named() {
        let mut bytes = [0; 48];
        (bytes[0], bytes[1]) = (1, 0x87);
        let error = ScsiCommand::parse(&Bhs::from_bytes(bytes)).unwrap_err();
        assert_eq!(error.to_string(), "byte 1 of a PDU with opcode 0x01 has a value that is not defined");
    }

    #[test]
    fn a_response_survives_the_round_trip() {
        for residual in [Residual::None, Residual::Overflow(5), Residual::Underflow(6)] {
            let response = ScsiResponse {
                residual,
                response: 0,
                status: 2,
                task_tag: 3,
                numbers: Numbers { stat_sn: 4, exp_cmd_sn: 5, max_cmd_sn: 6 },
                exp_data_sn: 7,
            };
            assert_eq!(ScsiResponse::parse(&response.emit()), Ok(response));
        }
    }
}
