//! Text Request and Text Response (RFC 7143 §11.10, §11.11).

use super::{Bhs, CONTINUE, FINAL, Numbers, Opcode, PduError, bit};

/// Text Request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TextRequest {
    /// For immediate delivery.
    pub immediate: bool,
    /// The initiator has nothing more to say in this negotiation.
    pub is_final: bool,
    /// More text of the same request follows.
    pub is_continued: bool,
    /// Logical unit; echoed.
    pub lun: u64,
    /// Initiator task tag.
    pub task_tag: u32,
    /// Target transfer tag of the response that this goes on with, or none.
    pub transfer_tag: u32,
    /// CmdSN.
    pub cmd_sn: u32,
    /// ExpStatSN.
    pub exp_stat_sn: u32,
}

impl TextRequest {
    /// Reads a header.
    ///
    /// # Errors
    /// Another PDU.
    pub fn parse(bhs: &Bhs) -> Result<Self, PduError> {
        bhs.expect(Opcode::TextRequest)?;
        Ok(Self {
            immediate: bhs.is_immediate(),
            is_final: bhs.is_final(),
            is_continued: bhs.flags() & CONTINUE != 0,
            lun: bhs.u64(8),
            task_tag: bhs.u32(16),
            transfer_tag: bhs.u32(20),
            cmd_sn: bhs.u32(24),
            exp_stat_sn: bhs.u32(28),
        })
    }

    /// Writes a header.
    pub fn emit(&self) -> Bhs {
        Bhs::new(Opcode::TextRequest)
            .immediate(self.immediate)
            .put_u8(1, flags(self.is_final, self.is_continued))
            .put_u64(8, self.lun)
            .put_u32(16, self.task_tag)
            .put_u32(20, self.transfer_tag)
            .put_u32(24, self.cmd_sn)
            .put_u32(28, self.exp_stat_sn)
    }
}

/// Text Response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TextResponse {
    /// The target has nothing more to say in this negotiation.
    pub is_final: bool,
    /// More text of the same response follows.
    pub is_continued: bool,
    /// As in the request.
    pub lun: u64,
    /// As in the request.
    pub task_tag: u32,
    /// To be sent with the next request of this negotiation; none when final.
    pub transfer_tag: u32,
    /// Sequence numbers.
    pub numbers: Numbers,
}

impl TextResponse {
    /// Reads a header.
    ///
    /// # Errors
    /// Another PDU.
    pub fn parse(bhs: &Bhs) -> Result<Self, PduError> {
        bhs.expect(Opcode::TextResponse)?;
        Ok(Self {
            is_final: bhs.is_final(),
            is_continued: bhs.flags() & CONTINUE != 0,
            lun: bhs.u64(8),
            task_tag: bhs.u32(16),
            transfer_tag: bhs.u32(20),
            numbers: Numbers::parse(bhs),
        })
    }

    /// Writes a header.
    pub fn emit(&self) -> Bhs {
        let bhs = Bhs::new(Opcode::TextResponse)
            .put_u8(1, flags(self.is_final, self.is_continued))
            .put_u64(8, self.lun)
            .put_u32(16, self.task_tag)
            .put_u32(20, self.transfer_tag);
        self.numbers.emit(bhs)
    }
}

fn flags(is_final: bool, is_continued: bool) -> u8 {
    bit(is_final, FINAL) | bit(is_continued, CONTINUE)
}

#[cfg(test)]
mod tests {
    use super::{TextRequest, TextResponse};
    use crate::pdu::{NO_TAG, Numbers};

    #[test]
    fn text_pdus_survive_the_round_trip() {
        for (is_final, is_continued) in [(true, false), (false, true), (false, false)] {
            let request = TextRequest {
                immediate: false,
                is_final,
                is_continued,
                lun: 1,
                task_tag: 2,
                transfer_tag: NO_TAG,
                cmd_sn: 3,
                exp_stat_sn: 4,
            };
            assert_eq!(TextRequest::parse(&request.emit()), Ok(request));
            let numbers = Numbers { stat_sn: 3, exp_cmd_sn: 4, max_cmd_sn: 5 };
            let response = TextResponse { is_final, is_continued, lun: 1, task_tag: 2, transfer_tag: 9, numbers };
            assert_eq!(TextResponse::parse(&response.emit()), Ok(response));
        }
    }
}
