//! The login phase (RFC 7143 §6): security, then operational parameters, then full feature.

use super::chap;
use super::options::{Credentials, Digests, Options};
use super::pdu::{Header, opcode};
use super::stream::{Stream, StreamError};
use super::text::Keys;
use crate::random::mix;

const SECURITY: u8 = 0;
const OPERATIONAL: u8 = 1;
const FULL_FEATURE: u8 = 3;
const TRANSIT: u8 = 0x80;
const CONTINUE: u8 = 0x40;
/// A login takes four requests at most here; a target that wants more never ends it.
const ROUNDS_MAX: usize = 16;

/// Why a login did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The connection failed on the way.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The target said no (RFC 7143 §11.13.5).
    #[error("the target refused the login with status {class:#04x}/{detail:#04x}")]
    Refused {
        /// Status-Class.
        class: u8,
        /// Status-Detail.
        detail: u8,
    },
    /// The target says where to go instead (status class 1).
    #[error("the target moved to {address}")]
    Moved {
        /// For ever, not only for now.
        permanently: bool,
        /// TargetAddress.
        address: String,
    },
    /// The target did not prove that it knows the mutual secret.
    #[error("the target failed to authenticate itself")]
    TargetNotAuthentic,
    /// The target broke the protocol.
    #[error("the target broke the login protocol: {0}")]
    Protocol(&'static str),
}

/// What both sides agreed on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Negotiated {
    /// The target's MaxRecvDataSegmentLength.
    pub max_send: usize,
    /// ImmediateData.
    pub immediate_data: bool,
    /// InitialR2T.
    pub initial_r2t: bool,
    /// FirstBurstLength.
    pub first_burst: usize,
    /// MaxBurstLength.
    pub max_burst: usize,
    /// Digests.
    pub digests: Digests,
    /// The target's name for the session.
    pub tsih: u16,
    /// Everything that the target sent.
    pub keys: Keys,
}

/// Sequence numbers after login.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    pub cmd_sn: u32,
    pub exp_stat_sn: u32,
    pub max_cmd_sn: u32,
}

/// Logs in on a fresh connection.
pub(super) fn login(stream: &mut Stream, options: &Options) -> Result<(Negotiated, Numbers), LoginError> {
    let mut dialog = Dialog { stream, options, cmd_sn: 1, exp_stat_sn: 0, max_cmd_sn: 1, tsih: 0 };
    let mut keys = Keys::new();
    let mut named = false;
    if let Some(credentials) = &options.chap {
        keys.extend(dialog.authenticate(credentials)?);
        named = true;
    }
    let mut offer = if named { Keys::new() } else { names(options) };
    offer.extend(operational(options));
    let mut answer = dialog.exchange(OPERATIONAL, FULL_FEATURE, offer)?;
    let mut rounds = 0;
    while !answer.transited {
        rounds += 1;
        if rounds > ROUNDS_MAX {
            return Err(LoginError::Protocol("it never ends the operational stage"));
        }
        keys.extend(answer.keys);
        answer = dialog.exchange(OPERATIONAL, FULL_FEATURE, Keys::new())?;
    }
    keys.extend(answer.keys);
    let numbers = Numbers { cmd_sn: dialog.cmd_sn, exp_stat_sn: dialog.exp_stat_sn, max_cmd_sn: dialog.max_cmd_sn };
    let negotiated = negotiated(options, dialog.tsih, keys)?;
    stream.use_digests(negotiated.digests);
    Ok((negotiated, numbers))
}

fn names(options: &Options) -> Keys {
    let mut keys = Keys::new();
    keys.push("InitiatorName", &options.initiator);
    match &options.target {
        Some(target) => keys.push("TargetName", target).push("SessionType", "Normal"),
        None => keys.push("SessionType", "Discovery"),
    };
    keys
}

fn operational(options: &Options) -> Keys {
    let yes_no = |value: bool| if value { "Yes" } else { "No" };
    let digest = |wanted: bool| if wanted { "CRC32C" } else { "None" };
    let mut keys = Keys::new();
    keys.push("HeaderDigest", digest(options.digests.header))
        .push("DataDigest", digest(options.digests.data))
        .push("ErrorRecoveryLevel", "0")
        .push("DefaultTime2Wait", "2")
        .push("DefaultTime2Retain", "0")
        .push("MaxRecvDataSegmentLength", options.max_recv.to_string());
    if options.target.is_some() {
        keys.push("ImmediateData", yes_no(options.immediate_data))
            .push("InitialR2T", yes_no(options.initial_r2t))
            .push("FirstBurstLength", options.first_burst.min(options.max_burst).to_string())
            .push("MaxBurstLength", options.max_burst.to_string())
            .push("MaxOutstandingR2T", options.max_outstanding_r2t.to_string())
            .push("MaxConnections", "1")
            .push("DataPDUInOrder", "Yes")
            .push("DataSequenceInOrder", "Yes");
    }
    keys
}

/// Results by the functions of RFC 7143 §13: the target's answer, bounded by our own offer.
fn negotiated(options: &Options, tsih: u16, keys: Keys) -> Result<Negotiated, LoginError> {
    let number = |key: &str, default: u32| keys.find(key).and_then(|value| value.parse().ok()).unwrap_or(default);
    let is = |key: &str, value: &str| keys.find(key) == Some(value);
    let digests = Digests { header: is("HeaderDigest", "CRC32C"), data: is("DataDigest", "CRC32C") };
    if digests != options.digests {
        return Err(LoginError::Protocol("it answered a digest that was not offered"));
    }
    Ok(Negotiated {
        max_send: number("MaxRecvDataSegmentLength", 8192) as usize,
        immediate_data: options.immediate_data && !is("ImmediateData", "No"),
        initial_r2t: options.initial_r2t || !is("InitialR2T", "No"),
        first_burst: number("FirstBurstLength", options.first_burst).min(options.first_burst) as usize,
        max_burst: number("MaxBurstLength", options.max_burst).min(options.max_burst) as usize,
        digests,
        tsih,
        keys,
    })
}

struct Answer {
    keys: Keys,
    transited: bool,
}

struct Dialog<'a> {
    stream: &'a mut Stream,
    options: &'a Options,
    cmd_sn: u32,
    exp_stat_sn: u32,
    max_cmd_sn: u32,
    tsih: u16,
}

impl Dialog<'_> {
    /// CHAP, mutual if the options say whom to expect (RFC 7143 §12.1.3).
    fn authenticate(&mut self, credentials: &Credentials) -> Result<Keys, LoginError> {
        let mut offer = names(self.options);
        offer.push("AuthMethod", "CHAP");
        let mut seen = self.stay(SECURITY, offer)?;
        if seen.find("AuthMethod") != Some("CHAP") {
            return Err(LoginError::Protocol("it did not take CHAP"));
        }
        let mut algorithm = Keys::new();
        algorithm.push("CHAP_A", &self.options.chap_algorithms);
        let challenge = self.stay(SECURITY, algorithm)?;
        let chosen = challenge.find("CHAP_A").unwrap_or_default().to_owned();
        if !self.options.chap_algorithms.split(',').any(|offered| offered == chosen) {
            return Err(LoginError::Protocol("it chose a hash that was not offered"));
        }
        let hash = |id, secret: &str, challenge: &[u8]| {
            chap::response(&chosen, id, secret, challenge).ok_or(LoginError::Protocol("it chose an unknown hash"))
        };
        let id = challenge.find("CHAP_I").and_then(|id| id.parse::<u8>().ok());
        let bytes = challenge.find("CHAP_C").and_then(chap::parse_binary);
        let (Some(id), Some(bytes)) = (id, bytes) else {
            return Err(LoginError::Protocol("its challenge makes no sense"));
        };
        let mut proof = Keys::new();
        proof.push("CHAP_N", &credentials.user);
        proof.push("CHAP_R", chap::emit_binary(&hash(id, &credentials.secret, &bytes)?));
        // Only has to differ from the target's challenge and from run to run; nothing is protected by it here.
        let (our_id, our_challenge) = (id.wrapping_add(1), our_challenge(self.options));
        if self.options.mutual.is_some() {
            proof.push("CHAP_I", our_id.to_string());
            proof.push("CHAP_C", chap::emit_binary(&our_challenge));
        }
        let answer = self.exchange(SECURITY, OPERATIONAL, proof)?;
        if let Some(mutual) = &self.options.mutual {
            let right = hash(our_id, &mutual.secret, &our_challenge)?;
            let theirs = answer.keys.find("CHAP_R").and_then(chap::parse_binary);
            if theirs.as_deref() != Some(&right) || answer.keys.find("CHAP_N") != Some(mutual.user.as_str()) {
                return Err(LoginError::TargetNotAuthentic);
            }
        }
        if !answer.transited {
            return Err(LoginError::Protocol("it stays in the security stage"));
        }
        seen.extend(answer.keys);
        Ok(seen)
    }

    fn stay(&mut self, stage: u8, keys: Keys) -> Result<Keys, LoginError> {
        self.send(stage << 2, &keys)?;
        Ok(self.receive(stage, stage)?.keys)
    }

    fn exchange(&mut self, stage: u8, next: u8, keys: Keys) -> Result<Answer, LoginError> {
        self.send(TRANSIT | (stage << 2) | next, &keys)?;
        self.receive(stage, next)
    }

    fn send(&mut self, flags: u8, keys: &Keys) -> Result<(), LoginError> {
        let mut header = Header::new(opcode::LOGIN | opcode::IMMEDIATE, flags);
        header.set(8, &isid(self.options.session));
        header.set(14, &self.tsih.to_be_bytes());
        header.set_u32(16, 1).set_u32(24, self.cmd_sn).set_u32(28, self.exp_stat_sn);
        self.stream.push(header, &keys.emit())?;
        Ok(self.stream.flush()?)
    }

    fn receive(&mut self, stage: u8, next: u8) -> Result<Answer, LoginError> {
        let mut text = Vec::new();
        for _ in 0..ROUNDS_MAX {
            let header = self.stream.header()?;
            let begin = text.len();
            text.resize(begin + header.data_len(), 0);
            self.stream.data(&mut text[begin..])?;
            if header.opcode() != opcode::LOGIN_RESPONSE {
                return Err(LoginError::Protocol("it answered a login with something else"));
            }
            let (class, detail) = (header.0[36], header.0[37]);
            if class == 1 {
                let address = Keys::parse(&text).find("TargetAddress").unwrap_or_default().to_owned();
                return Err(LoginError::Moved { permanently: detail == 2, address });
            }
            if class != 0 {
                return Err(LoginError::Refused { class, detail });
            }
            self.exp_stat_sn = header.stat_sn().wrapping_add(1);
            self.max_cmd_sn = header.window().1;
            self.tsih = u16::from_be_bytes([header.0[14], header.0[15]]);
            if header.flags() & CONTINUE == 0 {
                let transited = header.flags() & TRANSIT != 0;
                if transited && header.flags() & 3 != next {
                    return Err(LoginError::Protocol("it moves to a stage that was not proposed"));
                }
                return Ok(Answer { keys: Keys::parse(&text), transited });
            }
            self.send(stage << 2, &Keys::new())?;
        }
        Err(LoginError::Protocol("its text never ends"))
    }
}

/// ISID of the "random" form (RFC 7143 §11.12.5) with the session number at its end.
fn isid(session: u32) -> [u8; 6] {
    let [a, b, c, d] = session.to_be_bytes();
    [0x80, 0x44, a, b, c, d]
}

fn our_challenge(options: &Options) -> [u8; 16] {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.as_nanos());
    let seed = mix(now as u64 ^ u64::from(options.session));
    let mut challenge = [0; 16];
    challenge[..8].copy_from_slice(&seed.to_be_bytes());
    challenge[8..].copy_from_slice(&mix(seed.wrapping_add(1)).to_be_bytes());
    challenge
}
