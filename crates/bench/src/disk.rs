//! A logical unit with names for what tests do to it, one command at a time.

use crate::initiator::{Cdb, Completion, Options, Session, SessionError, Transfer, cdb};

/// Unit attentions that a new session may find waiting (SAM-5 §5.14).
const UNIT_ATTENTIONS_MAX: usize = 8;
const CHECK_CONDITION: u8 = 2;
const UNIT_ATTENTION: u8 = 6;
/// ASYMMETRIC ACCESS STATE CHANGED, THIN PROVISIONING SOFT THRESHOLD REACHED: the command had no effect, and its data is as
/// it was.
const NEWS: [(u8, u8, u8); 2] = [(UNIT_ATTENTION, 0x2a, 0x06), (UNIT_ATTENTION, 0x38, 0x07)];

/// Why a command has no result.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The session ended.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The target answered something other than GOOD.
    #[error("{what} ended with status {status:#04x}, sense {sense:02x?}")]
    Status {
        /// The command.
        what: &'static str,
        /// SCSI status.
        status: u8,
        /// (key, code, qualifier), if there is sense data.
        sense: Option<(u8, u8, u8)>,
    },
    /// The answer is shorter than the standard demands.
    #[error("the answer to {0} is too short")]
    Short(&'static str),
}

/// Size of a logical unit (READ CAPACITY (16), SBC-3 §5.16.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Capacity {
    /// Number of logical blocks.
    pub blocks: u64,
    /// Bytes per logical block.
    pub block_len: u32,
    /// Logical blocks per physical block.
    pub physical: u32,
    /// LBPME: thin provisioning is reported.
    pub thin: bool,
}

impl Capacity {
    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.blocks * u64::from(self.block_len)
    }
}

/// A session and the size of its LUN 0.
#[derive(Debug)]
pub struct Disk {
    session: Session,
    capacity: Capacity,
}

impl Disk {
    /// Logs in, clears unit attentions and reads the capacity.
    pub fn open(options: &Options) -> Result<Self, DiskError> {
        let mut session = Session::login(options)?;
        let mut tries = 0;
        loop {
            let ready = session.call(cdb::test_unit_ready(), Transfer::None)?;
            if ready.status == 0 {
                break;
            }
            let attention = ready.sense_codes().is_some_and(|(key, ..)| key == UNIT_ATTENTION);
            tries += 1;
            if !attention || tries > UNIT_ATTENTIONS_MAX {
                good("TEST UNIT READY", ready)?;
            }
        }
        let answer = good("READ CAPACITY", session.call(cdb::read_capacity(32), Transfer::In(vec![0; 32]))?)?;
        let capacity = parse_capacity(&answer.into_bytes())?;
        Ok(Self { session, capacity })
    }

    /// Size of the unit.
    pub fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// The session underneath.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Gives the session back.
    pub fn into_session(self) -> Session {
        self.session
    }

    /// Reads `blocks` logical blocks.
    pub fn read(&mut self, lba: u64, blocks: u32) -> Result<Vec<u8>, DiskError> {
        let buffer = vec![0; self.bytes(blocks)];
        self.run("READ", cdb::read(lba, blocks), Transfer::In(buffer)).map(Transfer::into_bytes)
    }

    /// Reads the whole unit, a MiB at a time.
    pub fn read_all(&mut self) -> Result<Vec<u8>, DiskError> {
        let mut all = Vec::with_capacity(self.capacity.bytes() as usize);
        let step = (1 << 20) / self.capacity.block_len;
        for lba in (0..self.capacity.blocks).step_by(step as usize) {
            let left = self.capacity.blocks - lba;
            all.extend(self.read(lba, left.min(u64::from(step)) as u32)?);
        }
        Ok(all)
    }

    /// Writes whole logical blocks.
    pub fn write(&mut self, lba: u64, data: Vec<u8>) -> Result<(), DiskError> {
        let blocks = (data.len() / self.capacity.block_len as usize) as u32;
        self.run("WRITE", cdb::write(lba, blocks), Transfer::Out(data)).map(drop)
    }

    /// SYNCHRONIZE CACHE.
    pub fn flush(&mut self) -> Result<(), DiskError> {
        self.run("SYNCHRONIZE CACHE", cdb::synchronize_cache(), Transfer::None).map(drop)
    }

    /// UNMAP of one range.
    pub fn unmap(&mut self, lba: u64, blocks: u32) -> Result<(), DiskError> {
        self.run("UNMAP", cdb::unmap(24), Transfer::Out(cdb::unmap_list(lba, blocks))).map(drop)
    }

    /// PERSISTENT RESERVE OUT with APTPL.
    pub fn reserve(&mut self, action: u8, kind: u8, key: u64, new_key: u64) -> Result<(), DiskError> {
        let list = cdb::reserve_list(key, new_key);
        self.run("PERSISTENT RESERVE OUT", cdb::reserve_out(action, kind), Transfer::Out(list)).map(drop)
    }

    /// The keys that are registered, in the order in which they came.
    pub fn keys(&mut self) -> Result<Vec<u64>, DiskError> {
        let what = "PERSISTENT RESERVE IN";
        let answer = self.run(what, cdb::reserve_in(0, 8192), Transfer::In(vec![0; 8192]))?.into_bytes();
        let len = answer.get(4..8).and_then(<[u8]>::first_chunk).ok_or(DiskError::Short(what))?;
        let keys = answer.get(8..8 + u32::from_be_bytes(*len) as usize).ok_or(DiskError::Short(what))?;
        Ok(keys.as_chunks().0.iter().map(|key| u64::from_be_bytes(*key)).collect())
    }

    /// Any command that must end with GOOD; sent again, as hosts do, if it was only told of something beside it.
    pub fn run(&mut self, what: &'static str, cdb: Cdb, mut transfer: Transfer) -> Result<Transfer, DiskError> {
        for _ in 0..UNIT_ATTENTIONS_MAX {
            let completion = self.session.call(cdb, transfer)?;
            if !is_news(&completion) {
                return good(what, completion);
            }
            transfer = completion.transfer;
        }
        good(what, self.session.call(cdb, transfer)?)
    }

    /// The unit's NAA designator, which is the first one of the Device Identification page here (SPC-4 §7.8.6).
    pub fn name(&mut self) -> Result<[u8; 16], DiskError> {
        const WHAT: &str = "INQUIRY, device identification";
        const NAA: [u8; 4] = [0x01, 0x03, 0, 16];
        let answer = self.run(WHAT, cdb::inquiry(Some(0x83), 512), Transfer::In(vec![0; 512]))?.into_bytes();
        let name = answer[8..].first_chunk().filter(|_| answer[4..8] == NAA);
        name.copied().ok_or(DiskError::Short(WHAT))
    }

    /// Logs out.
    pub fn logout(self) -> Result<(), DiskError> {
        Ok(self.session.logout()?)
    }

    fn bytes(&self, blocks: u32) -> usize {
        blocks as usize * self.capacity.block_len as usize
    }
}

/// Whether the command was only told of something beside it: a host sends it again.
pub(crate) fn is_news(completion: &Completion) -> bool {
    completion.sense_codes().is_some_and(|codes| NEWS.contains(&codes))
}

/// The transfer of a completion with GOOD, an error for anything else.
pub fn good(what: &'static str, completion: Completion) -> Result<Transfer, DiskError> {
    if completion.status == 0 {
        return Ok(completion.transfer);
    }
    let sense = if completion.status == CHECK_CONDITION { completion.sense_codes() } else { None };
    Err(DiskError::Status { what, status: completion.status, sense })
}

fn parse_capacity(bytes: &[u8]) -> Result<Capacity, DiskError> {
    let (Some(last), Some(block_len)) = (bytes.first_chunk::<8>(), bytes.get(8..12).and_then(<[u8]>::first_chunk))
    else {
        return Err(DiskError::Short("READ CAPACITY"));
    };
    let exponent = bytes.get(13).map_or(0, |byte| byte & 0xf);
    Ok(Capacity {
        blocks: u64::from_be_bytes(*last).saturating_add(1),
        block_len: u32::from_be_bytes(*block_len),
        physical: 1 << exponent,
        thin: bytes.get(14).is_some_and(|byte| byte & 0x80 != 0),
    })
}
