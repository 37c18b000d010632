//! NOP-Out, NOP-In, Logout, Asynchronous Message, Reject and SNACK (RFC 7143 §11.9, §11.14 to §11.19).

use super::{Bhs, FINAL, NO_TAG, Numbers, Opcode, PduError};

/// NOP-Out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NopOut {
    /// For immediate delivery.
    pub immediate: bool,
    /// Logical unit; only with a transfer tag.
    pub lun: u64,
    /// Initiator task tag; none if no answer is wanted.
    pub task_tag: u32,
    /// Target transfer tag of the ping that this answers, or none.
    pub transfer_tag: u32,
    /// CmdSN.
    pub cmd_sn: u32,
    /// ExpStatSN.
    pub exp_stat_sn: u32,
}

impl NopOut {
    /// Reads a header.
    ///
    /// # Errors
    /// Another PDU.
    pub fn parse(bhs: &Bhs) -> Result<Self, PduError> {
        bhs.expect(Opcode::NopOut)?;
        Ok(Self {
            immediate: bhs.is_immediate(),
            lun: bhs.u64(8),
            task_tag: bhs.u32(16),
            transfer_tag: bhs.u32(20),
            cmd_sn: bhs.u32(24),
            exp_stat_sn: bhs.u32(28),
        })
    }

    /// Writes a header.
    pub fn emit(&self) -> Bhs {
        Bhs::new(Opcode::NopOut)
            .immediate(self.immediate)
            .put_u8(1, FINAL)
            .put_u64(8, self.lun)
            .put_u32(16, self.task_tag)
            .put_u32(20, self.transfer_tag)
            .put_u32(24, self.cmd_sn)
            .put_u32(28, self.exp_stat_sn)
    }
}

/// NOP-In.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NopIn {
    /// Logical unit.
    pub lun: u64,
    /// Initiator task tag of the ping that this answers, or none.
    pub task_tag: u32,
    /// Target transfer tag if an answer is wanted, or none.
    pub transfer_tag: u32,
    /// Sequence numbers; StatSN is used up only by an answer.
    pub numbers: Numbers,
}

impl NopIn {
    /// Reads a header.
    ///
    /// # Errors
    /// Another PDU.
    pub fn parse(bhs: &Bhs) -> Result<Self, PduError> {
        bhs.expect(Opcode::NopIn)?;
        Ok(Self { lun: bhs.u64(8), task_tag: bhs.u32(16), transfer_tag: bhs.u32(20), numbers: Numbers::parse(bhs) })
    }

    /// Writes a header.
    pub fn emit(&self) -> Bhs {
        let bhs = Bhs::new(Opcode::NopIn)
            .put_u8(1, FINAL)
            .put_u64(8, self.lun)
            .put_u32(16, self.task_tag)
            .put_u32(20, self.transfer_tag);
        self.numbers.emit(bhs)
    }
}

/// Logout Request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogoutRequest {
    /// For immediate delivery.
    pub immediate: bool,
    /// 0: close the session; 1: close the connection; 2: remove it for recovery.
    pub reason: u8,
    /// Initiator task tag.
    pub task_tag: u32,
    /// The connection meant; not used with reason 0.
    pub cid: u16,
    /// CmdSN.
    pub cmd_sn: u32,
    /// ExpStatSN.
    pub exp_stat_sn: u32,
}

impl LogoutRequest {
    /// Reads a header.
    ///
    /// # Errors
    /// Another PDU.
    pub fn parse(bhs: &Bhs) -> Result<Self, PduError> {
        bhs.expect(Opcode::LogoutRequest)?;
        Ok(Self {
            immediate: bhs.is_immediate(),
            reason: bhs.flags() & 0x7f,
            task_tag: bhs.u32(16),
            cid: bhs.u16(20),
            cmd_sn: bhs.u32(24),
            exp_stat_sn: bhs.u32(28),
        })
    }

    /// Writes a header.
    pub fn emit(&self) -> Bhs {
        Bhs::new(Opcode::LogoutRequest)
            .immediate(self.immediate)
            .put_u8(1, FINAL | self.reason & 0x7f)
            .put_u32(16, self.task_tag)
            .put_u16(20, self.cid)
            .put_u32(24, self.cmd_sn)
            .put_u32(28, self.exp_stat_sn)
    }
}

/// Logout Response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogoutResponse {
    /// 0: done; 1: no such connection; 2: no recovery here; 3: cleanup failed.
    pub response: u8,
    /// As in the request.
    pub task_tag: u32,
    /// Sequence numbers.
    pub numbers: Numbers,
    /// Seconds to wait before coming back.
    pub time2wait: u16,
    /// Seconds that tasks are kept.
    pub time2retain: u16,
}

impl LogoutResponse {
    /// Reads a header.
    ///
    /// # Errors
    /// Another PDU.
    pub fn parse(bhs: &Bhs) -> Result<Self, PduError> {
        bhs.expect(Opcode::LogoutResponse)?;
        Ok(Self {
            response: bhs.u8(2),
            task_tag: bhs.u32(16),
            numbers: Numbers::parse(bhs),
            time2wait: bhs.u16(40),
            time2retain: bhs.u16(42),
        })
    }

    /// Writes a header.
    pub fn emit(&self) -> Bhs {
        let bhs = Bhs::new(Opcode::LogoutResponse)
            .put_u8(1, FINAL)
            .put_u8(2, self.response)
            .put_u32(16, self.task_tag)
            .put_u16(40, self.time2wait)
            .put_u16(42, self.time2retain);
        self.numbers.emit(bhs)
    }
}

/// Asynchronous Message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Async {
    /// Logical unit; only with event 0.
    pub lun: u64,
    /// Sequence numbers.
    pub numbers: Numbers,
    /// RFC 7143 §11.9.1.
    pub event: u8,
    /// Parameters 1 to 3.
    pub parameters: [u16; 3],
}

impl Async {
    /// Reads a header.
    ///
    /// # Errors
    /// Another PDU.
    pub fn parse(bhs: &Bhs) -> Result<Self, PduError> {
        bhs.expect(Opcode::Async)?;
        Ok(Self {
            lun: bhs.u64(8),
            numbers: Numbers::parse(bhs),
            event: bhs.u8(36),
            parameters: [bhs.u16(38), bhs.u16(40), bhs.u16(42)],
        })
    }

    /// Writes a header.
    pub fn emit(&self) -> Bhs {
        let [first, second, third] = self.parameters;
        let bhs = Bhs::new(Opcode::Async)
            .put_u8(1, FINAL)
            .put_u64(8, self.lun)
            .put_u32(16, NO_TAG)
            .put_u8(36, self.event)
            .put_u16(38, first)
            .put_u16(40, second)
            .put_u16(42, third);
        self.numbers.emit(bhs)
    }
}

/// Why a PDU was rejected (RFC 7143 §11.17.1); only what a target at ErrorRecoveryLevel 0 says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum RejectReason {
    /// The data digest does not match.
    DataDigest = 0x02,
    /// There is no SNACK at ErrorRecoveryLevel 0.
    Snack = 0x03,
    /// Not allowed by the protocol, here and now.
    Protocol = 0x04,
    /// The target does not know this.
    NotSupported = 0x05,
    /// Too many immediate commands.
    TooManyImmediate = 0x06,
    /// The task tag is in use.
    TaskInProgress = 0x07,
    /// A field has an invalid value.
    InvalidField = 0x09,
    /// The negotiation takes too much.
    LongOperation = 0x0a,
    /// Only a logout is taken now.
    WaitingForLogout = 0x0c,
}

/// Reject. Its data segment is the header of the rejected PDU.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reject {
    /// A [`RejectReason`], or what another target says.
    pub reason: u8,
    /// Sequence numbers.
    pub numbers: Numbers,
}

impl Reject {
    /// Reads a header.
    ///
    /// # Errors
    /// Another PDU.
    pub fn parse(bhs: &Bhs) -> Result<Self, PduError> {
        bhs.expect(Opcode::Reject)?;
        Ok(Self { reason: bhs.u8(2), numbers: Numbers::parse(bhs) })
    }

    /// Writes a header.
    pub fn emit(&self) -> Bhs {
        let bhs = Bhs::new(Opcode::Reject).put_u8(1, FINAL).put_u8(2, self.reason).put_u32(16, NO_TAG);
        self.numbers.emit(bhs)
    }
}

/// SNACK Request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Snack {
    /// RFC 7143 §11.16.1.
    pub kind: u8,
    /// Initiator task tag.
    pub task_tag: u32,
    /// ExpStatSN.
    pub exp_stat_sn: u32,
    /// First number asked for.
    pub first: u32,
    /// How many.
    pub count: u32,
}

impl Snack {
    /// Reads a header.
    ///
    /// # Errors
    /// Another PDU.
    pub fn parse(bhs: &Bhs) -> Result<Self, PduError> {
        bhs.expect(Opcode::Snack)?;
        Ok(Self {
            kind: bhs.flags() & 0x0f,
            task_tag: bhs.u32(16),
            exp_stat_sn: bhs.u32(28),
            first: bhs.u32(40),
            count: bhs.u32(44),
        })
    }

    /// Writes a header.
    pub fn emit(&self) -> Bhs {
        Bhs::new(Opcode::Snack)
            .put_u8(1, FINAL | self.kind & 0x0f)
            .put_u32(16, self.task_tag)
            .put_u32(28, self.exp_stat_sn)
            .put_u32(40, self.first)
            .put_u32(44, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::{Async, LogoutRequest, LogoutResponse, NopIn, NopOut, Reject, RejectReason, Snack};
    use crate::pdu::{NO_TAG, Numbers};

    const NUMBERS: Numbers = Numbers { stat_sn: 4, exp_cmd_sn: 5, max_cmd_sn: 6 };

    #[test]
    fn pings_survive_the_round_trip() {
        let out = NopOut { immediate: true, lun: 1, task_tag: 2, transfer_tag: NO_TAG, cmd_sn: 3, exp_stat_sn: 4 };
        assert_eq!(NopOut::parse(&out.emit()), Ok(out));
        let back = NopIn { lun: 1, task_tag: NO_TAG, transfer_tag: 2, numbers: NUMBERS };
        assert_eq!(NopIn::parse(&back.emit()), Ok(back));
    }

    #[test]
    fn logout_survives_the_round_trip() {
        let request = LogoutRequest { immediate: true, reason: 1, task_tag: 2, cid: 3, cmd_sn: 4, exp_stat_sn: 5 };
        assert_eq!(LogoutRequest::parse(&request.emit()), Ok(request));
        let response = LogoutResponse { response: 1, task_tag: 2, numbers: NUMBERS, time2wait: 3, time2retain: 4 };
        assert_eq!(LogoutResponse::parse(&response.emit()), Ok(response));
    }

    #[test]
    fn messages_of_the_target_survive_the_round_trip() {
        let message = Async { lun: 0, numbers: NUMBERS, event: 1, parameters: [1, 2, 3] };
        assert_eq!(Async::parse(&message.emit()), Ok(message));
        let reject = Reject { reason: RejectReason::Snack as u8, numbers: NUMBERS };
        assert_eq!(Reject::parse(&reject.emit()), Ok(reject));
        let snack = Snack { kind: 1, task_tag: 2, exp_stat_sn: 3, first: 4, count: 5 };
        assert_eq!(Snack::parse(&snack.emit()), Ok(snack));
    }
}
