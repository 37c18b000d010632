//! Task Management Function Request and Response (RFC 7143 §11.5, §11.6).

use super::{Bhs, FINAL, Numbers, Opcode, PduError};

/// Task Management Function Request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TaskRequest {
    /// For immediate delivery.
    pub immediate: bool,
    /// Function code, 1 to 8 and whatever came later.
    pub function: u8,
    /// Logical unit.
    pub lun: u64,
    /// Initiator task tag of the request itself.
    pub task_tag: u32,
    /// Initiator task tag of the task to abort, or none.
    pub referenced_tag: u32,
    /// CmdSN.
    pub cmd_sn: u32,
    /// ExpStatSN.
    pub exp_stat_sn: u32,
    /// CmdSN of the task to abort.
    pub referenced_cmd_sn: u32,
}

impl TaskRequest {
    /// Reads a header.
    ///
    /// # Errors
    /// Another PDU.
    pub fn parse(bhs: &Bhs) -> Result<Self, PduError> {
        bhs.expect(Opcode::TaskRequest)?;
        Ok(Self {
            immediate: bhs.is_immediate(),
            function: bhs.flags() & 0x7f,
            lun: bhs.u64(8),
            task_tag: bhs.u32(16),
            referenced_tag: bhs.u32(20),
            cmd_sn: bhs.u32(24),
            exp_stat_sn: bhs.u32(28),
            referenced_cmd_sn: bhs.u32(32),
        })
    }

    /// Writes a header.
    pub fn emit(&self) -> Bhs {
        Bhs::new(Opcode::TaskRequest)
            .immediate(self.immediate)
            .put_u8(1, FINAL | self.function & 0x7f)
            .put_u64(8, self.lun)
            .put_u32(16, self.task_tag)
            .put_u32(20, self.referenced_tag)
            .put_u32(24, self.cmd_sn)
            .put_u32(28, self.exp_stat_sn)
            .put_u32(32, self.referenced_cmd_sn)
    }
}

/// Task Management Function Response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TaskResponse {
    /// RFC 7143 §11.6.1.
    pub response: u8,
    /// As in the request.
    pub task_tag: u32,
    /// Sequence numbers.
    pub numbers: Numbers,
}

impl TaskResponse {
    /// Reads a header.
    ///
    /// # Errors
    /// Another PDU.
    pub fn parse(bhs: &Bhs) -> Result<Self, PduError> {
        bhs.expect(Opcode::TaskResponse)?;
        Ok(Self { response: bhs.u8(2), task_tag: bhs.u32(16), numbers: Numbers::parse(bhs) })
    }

    /// Writes a header.
    pub fn emit(&self) -> Bhs {
        let bhs = Bhs::new(Opcode::TaskResponse).put_u8(1, FINAL).put_u8(2, self.response).put_u32(16, self.task_tag);
        self.numbers.emit(bhs)
    }
}

#[cfg(test)]
mod tests {
    use super::{TaskRequest, TaskResponse};
    use crate::pdu::Numbers;

    #[test]
    fn task_pdus_survive_the_round_trip() {
        let request = TaskRequest {
            immediate: true,
            function: 5,
            lun: 1,
            task_tag: 2,
            referenced_tag: 3,
            cmd_sn: 4,
            exp_stat_sn: 5,
            referenced_cmd_sn: 6,
        };
        assert_eq!(TaskRequest::parse(&request.emit()), Ok(request));
        let numbers = Numbers { stat_sn: 3, exp_cmd_sn: 4, max_cmd_sn: 5 };
        let response = TaskResponse { response: 255, task_tag: 2, numbers };
        assert_eq!(TaskResponse::parse(&response.emit()), Ok(response));
    }
}
