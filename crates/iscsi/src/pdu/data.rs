//! SCSI Data-Out, SCSI Data-In and Ready To Transfer (RFC 7143 §11.7, §11.8).

use super::{Bhs, FINAL, Numbers, Opcode, PduError, Residual, bit};

const STATUS: u8 = 0x01;
const ACKNOWLEDGE: u8 = 0x40;

/// SCSI Data-Out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DataOut {
    /// Last of its sequence.
    pub is_final: bool,
    /// Copied from the R2T if solicited.
    pub lun: u64,
    /// Initiator task tag.
    pub task_tag: u32,
    /// Target transfer tag of the R2T, or [`super::NO_TAG`] if unsolicited.
    pub transfer_tag: u32,
    /// ExpStatSN.
    pub exp_stat_sn: u32,
    /// Number within its sequence.
    pub data_sn: u32,
    /// Where in the command's data the segment goes.
    pub offset: u32,
}

impl DataOut {
    /// Reads a header.
    ///
    /// # Errors
    /// Another PDU.
    pub fn parse(bhs: &Bhs) -> Result<Self, PduError> {
        bhs.expect(Opcode::DataOut)?;
        Ok(Self {
            is_final: bhs.is_final(),
            lun: bhs.u64(8),
            task_tag: bhs.u32(16),
            transfer_tag: bhs.u32(20),
            exp_stat_sn: bhs.u32(28),
            data_sn: bhs.u32(36),
            offset: bhs.u32(40),
        })
    }

    /// Writes a header.
    pub fn emit(&self) -> Bhs {
        Bhs::new(Opcode::DataOut)
            .put_u8(1, bit(self.is_final, FINAL))
            .put_u64(8, self.lun)
            .put_u32(16, self.task_tag)
            .put_u32(20, self.transfer_tag)
            .put_u32(28, self.exp_stat_sn)
            .put_u32(36, self.data_sn)
            .put_u32(40, self.offset)
    }
}

/// SCSI Data-In.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DataIn {
    /// Last of its sequence.
    pub is_final: bool,
    /// Asks for an acknowledgement (ErrorRecoveryLevel 1 and up).
    pub acknowledge: bool,
    /// SCSI status with the residual, when the command ends with this PDU.
    pub status: Option<(u8, Residual)>,
    /// Only with `acknowledge`.
    pub lun: u64,
    /// Initiator task tag.
    pub task_tag: u32,
    /// [`super::NO_TAG`] unless `acknowledge`.
    pub transfer_tag: u32,
    /// Sequence numbers; StatSN is zero without a status.
    pub numbers: Numbers,
    /// Number within the command.
    pub data_sn: u32,
    /// Where in the command's data the segment belongs.
    pub offset: u32,
}

impl DataIn {
    /// Reads a header.
    ///
    /// # Errors
    /// Another PDU.
    pub fn parse(bhs: &Bhs) -> Result<Self, PduError> {
        bhs.expect(Opcode::DataIn)?;
        let status = bhs.flags() & STATUS != 0;
        Ok(Self {
            is_final: bhs.is_final(),
            acknowledge: bhs.flags() & ACKNOWLEDGE != 0,
            status: status.then(|| (bhs.u8(3), Residual::parse(bhs))),
            lun: bhs.u64(8),
            task_tag: bhs.u32(16),
            transfer_tag: bhs.u32(20),
            numbers: Numbers::parse(bhs),
            data_sn: bhs.u32(36),
            offset: bhs.u32(40),
        })
    }

    /// Writes a header.
    pub fn emit(&self) -> Bhs {
        let mut flags = bit(self.is_final, FINAL) | bit(self.acknowledge, ACKNOWLEDGE);
        let (status, residual) = self.status.unwrap_or_default();
        if self.status.is_some() {
            flags |= STATUS | residual.flags();
        }
        let bhs = Bhs::new(Opcode::DataIn)
            .put_u8(1, flags)
            .put_u8(3, status)
            .put_u64(8, self.lun)
            .put_u32(16, self.task_tag)
            .put_u32(20, self.transfer_tag)
            .put_u32(36, self.data_sn)
            .put_u32(40, self.offset)
            .put_u32(44, residual.count());
        self.numbers.emit(bhs)
    }
}

/// Ready To Transfer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct R2t {
    /// Logical unit.
    pub lun: u64,
    /// Initiator task tag.
    pub task_tag: u32,
    /// To be copied into the Data-Out PDUs.
    pub transfer_tag: u32,
    /// Sequence numbers; StatSN is the next one, not used up.
    pub numbers: Numbers,
    /// Number within the command.
    pub r2t_sn: u32,
    /// First byte wanted.
    pub offset: u32,
    /// Count of bytes wanted.
    pub len: u32,
}

impl R2t {
    /// Reads a header.
    ///
    /// # Errors
    /// Another PDU.
    pub fn parse(bhs: &Bhs) -> Result<Self, PduError> {
        bhs.expect(Opcode::R2t)?;
        Ok(Self {
            lun: bhs.u64(8),
            task_tag: bhs.u32(16),
            transfer_tag: bhs.u32(20),
            numbers: Numbers::parse(bhs),
            r2t_sn: bhs.u32(36),
            offset: bhs.u32(40),
            len: bhs.u32(44),
        })
    }

    /// Writes a header.
    pub fn emit(&self) -> Bhs {
        let bhs = Bhs::new(Opcode::R2t)
            .put_u8(1, FINAL)
            .put_u64(8, self.lun)
            .put_u32(16, self.task_tag)
            .put_u32(20, self.transfer_tag)
            .put_u32(36, self.r2t_sn)
            .put_u32(40, self.offset)
            .put_u32(44, self.len);
        self.numbers.emit(bhs)
    }
}

#[cfg(test)]
mod tests {
    use super::{DataIn, DataOut, R2t};
    use crate::pdu::{NO_TAG, Numbers, Residual};

    const NUMBERS: Numbers = Numbers { stat_sn: 4, exp_cmd_sn: 5, max_cmd_sn: 6 };

    #[test]
    fn data_out_survives_the_round_trip() {
        let data = DataOut {
            is_final: true,
            lun: 1 << 48,
            task_tag: 2,
            transfer_tag: NO_TAG,
            exp_stat_sn: 3,
            data_sn: 4,
            offset: 5,
        };
        assert_eq!(DataOut::parse(&data.emit()), Ok(data));
    }

    #[test]
    fn data_in_survives_the_round_trip_with_and_without_status() {
        for status in [None, Some((0, Residual::None)), Some((0, Residual::Underflow(9)))] {
            let data = DataIn {
                is_final: true,
                acknowledge: false,
                status,
                lun: 0,
                task_tag: 2,
                transfer_tag: NO_TAG,
                numbers: NUMBERS,
                data_sn: 7,
                offset: 8,
            };
            assert_eq!(DataIn::parse(&data.emit()), Ok(data));
        }
    }

    #[test]
    fn r2t_survives_the_round_trip() {
        let r2t = R2t { lun: 1, task_tag: 2, transfer_tag: 3, numbers: NUMBERS, r2t_sn: 7, offset: 8, len: 9 };
        assert_eq!(R2t::parse(&r2t.emit()), Ok(r2t));
    }
}
