//! Login Request and Login Response (RFC 7143 §11.12, §11.13).

use super::{Bhs, CONTINUE, FINAL, Numbers, Opcode, PduError, bit};

/// A stage of the login phase. Stage 2 does not exist.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Stage {
    /// SecurityNegotiation.
    Security = 0,
    /// LoginOperationalNegotiation.
    Operational = 1,
    /// FullFeaturePhase.
    FullFeature = 3,
}

impl Stage {
    fn from_bits(bits: u8) -> Option<Self> {
        match bits & 3 {
            0 => Some(Self::Security),
            1 => Some(Self::Operational),
            3 => Some(Self::FullFeature),
            _ => None,
        }
    }
}

/// Login Request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LoginRequest {
    /// The T bit with its next stage: the initiator is ready to go there.
    pub transit: Option<Stage>,
    /// More text of the same request follows.
    pub is_continued: bool,
    /// Current stage.
    pub stage: Stage,
    /// Highest version.
    pub version_max: u8,
    /// Lowest version.
    pub version_min: u8,
    /// Initiator's part of the session identifier.
    pub isid: [u8; 6],
    /// Target's part; 0 for a new session.
    pub tsih: u16,
    /// Initiator task tag, the same in the whole login.
    pub task_tag: u32,
    /// Connection identifier.
    pub cid: u16,
    /// CmdSN; not used up.
    pub cmd_sn: u32,
    /// ExpStatSN.
    pub exp_stat_sn: u32,
}

impl LoginRequest {
    /// Reads a header.
    ///
    /// # Errors
    /// Another PDU, or a stage that does not exist.
    pub fn parse(bhs: &Bhs) -> Result<Self, PduError> {
        bhs.expect(Opcode::LoginRequest)?;
        let transit = match bhs.is_final() {
            true => Some(Stage::from_bits(bhs.flags()).ok_or(bhs.bad_field(1))?),
            false => None,
        };
        Ok(Self {
            transit,
            is_continued: bhs.flags() & CONTINUE != 0,
            stage: Stage::from_bits(bhs.flags() >> 2).ok_or(bhs.bad_field(1))?,
            version_max: bhs.u8(2),
            version_min: bhs.u8(3),
            isid: bhs.array(8),
            tsih: bhs.u16(14),
            task_tag: bhs.u32(16),
            cid: bhs.u16(20),
            cmd_sn: bhs.u32(24),
            exp_stat_sn: bhs.u32(28),
        })
    }

    /// Writes a header.
    pub fn emit(&self) -> Bhs {
        Bhs::new(Opcode::LoginRequest)
            .immediate(true)
            .put_u8(1, flags(self.transit, self.is_continued, self.stage))
            .put_u8(2, self.version_max)
            .put_u8(3, self.version_min)
            .put(8, self.isid)
            .put_u16(14, self.tsih)
            .put_u32(16, self.task_tag)
            .put_u16(20, self.cid)
            .put_u32(24, self.cmd_sn)
            .put_u32(28, self.exp_stat_sn)
    }
}

/// Login Response. Both version fields are 0, the only version there is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LoginResponse {
    /// The T bit with its next stage: the target agrees to go there.
    pub transit: Option<Stage>,
    /// More text of the same response follows.
    pub is_continued: bool,
    /// Current stage.
    pub stage: Stage,
    /// As in the request.
    pub isid: [u8; 6],
    /// 0 until the last response of a successful login.
    pub tsih: u16,
    /// As in the request.
    pub task_tag: u32,
    /// Sequence numbers.
    pub numbers: Numbers,
    /// Status class and detail.
    pub status: [u8; 2],
}

impl LoginResponse {
    /// Reads a header.
    ///
    /// # Errors
    /// Another PDU, or a stage that does not exist.
    pub fn parse(bhs: &Bhs) -> Result<Self, PduError> {
        bhs.expect(Opcode::LoginResponse)?;
        let transit = match bhs.is_final() {
            true => Some(Stage::from_bits(bhs.flags()).ok_or(bhs.bad_field(1))?),
            false => None,
        };
        Ok(Self {
            transit,
            is_continued: bhs.flags() & CONTINUE != 0,
            stage: Stage::from_bits(bhs.flags() >> 2).ok_or(bhs.bad_field(1))?,
            isid: bhs.array(8),
            tsih: bhs.u16(14),
            task_tag: bhs.u32(16),
            numbers: Numbers::parse(bhs),
            status: bhs.array(36),
        })
    }

    /// Writes a header.
    pub fn emit(&self) -> Bhs {
        let bhs = Bhs::new(Opcode::LoginResponse)
            .put_u8(1, flags(self.transit, self.is_continued, self.stage))
            .put(8, self.isid)
            .put_u16(14, self.tsih)
            .put_u32(16, self.task_tag)
            .put(36, self.status);
        self.numbers.emit(bhs)
    }
}

fn flags(transit: Option<Stage>, is_continued: bool, stage: Stage) -> u8 {
    let next = transit.map_or(0, |next| FINAL | next as u8);
    next | bit(is_continued, CONTINUE) | (stage as u8) << 2
}

#[cfg(test)]
mod tests {
    use super::{LoginRequest, LoginResponse, Stage};
    use crate::pdu::{Bhs, Numbers, PduError};

    #[test]
    fn login_pdus_survive_the_round_trip() {
        for (transit, is_continued) in [(None, false), (None, true), (Some(Stage::FullFeature), false)] {
            let request = LoginRequest {
                transit,
                is_continued,
                stage: Stage::Operational,
                version_max: 0,
                version_min: 0,
                isid: [1, 2, 3, 4, 5, 6],
                tsih: 7,
                task_tag: 8,
                cid: 9,
                cmd_sn: 10,
                exp_stat_sn: 11,
            };
            assert_eq!(LoginRequest::parse(&request.emit()), Ok(request));
            let response = LoginResponse {
                transit,
                is_continued,
                stage: Stage::Security,
                isid: request.isid,
                tsih: 1,
                task_tag: 2,
                numbers: Numbers { stat_sn: 3, exp_cmd_sn: 4, max_cmd_sn: 5 },
                status: [2, 1],
            };
            assert_eq!(LoginResponse::parse(&response.emit()), Ok(response));
        }
    }

    #[test]
    fn stage_two_does_not_exist() {
        for flags in [0x08, 0x82] {
            let mut bytes = [0; 48];
            (bytes[0], bytes[1]) = (0x43, flags);
            let error = LoginRequest::parse(&Bhs::from_bytes(bytes));
            assert_eq!(error, Err(PduError::Field { opcode: 3, byte: 1 }));
        }
    }
}
