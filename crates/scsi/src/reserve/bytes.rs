//! The state as bytes (docs/scsi-state.md). Whatever is read is judged.
//!
//! ```text
//!  magic 8 │ format 2 │ flags 2 │ serial 8 │ author 8 │ generation 4 │ kind 1 │ 0 1 │ registrations 2 │ notices 2 │ …
//!  … registrations │ holder │ reserved │ notices │ sum 8
//!  path = target port 2 │ ISID 6 │ length of the name 1 │ name     registration = key 8 │ path
//!  notice = serial 8 │ whom 8 │ what 1                             holder, reserved = there? 1 │ path
//! ```

use crc_fast::{CrcAlgorithm, checksum};
use dyad_contract::volume::STATE_BYTES_MAX;

use crate::reserve::port::{InitiatorPort, Path};
use crate::reserve::state::{
    Kind, MODE_FLAGS, NOTICES_MAX, Notice, REGISTRATIONS_MAX, Registration, Reservation, State, What,
};

/// "DyadPrSt".
const MAGIC: [u8; 8] = *b"DyadPrSt";
/// The format that is written, and the only one that is read.
const FORMAT: u16 = 1;
const SUM_BYTES: usize = 8;

/// APTPL, of the flags. Bits 8 and 9 are software write protection and a write cache that is off.
const APTPL: u16 = 0x0001;

/// The SCSI state of a volume is not one.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// It was written by a later version.
    #[error("the volume's SCSI state has format {0}, this version knows {FORMAT}: upgrade this node")]
    Format(u16),
    /// A sum does not match, or a field makes no sense.
    #[error("the volume's SCSI state is damaged")]
    Damaged,
}

/// There is no room for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TooLarge;

impl State {
    /// The bytes that [`Self::decode`] reads.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, TooLarge> {
        let mut bytes = Vec::with_capacity(4096);
        bytes.extend(MAGIC);
        bytes.extend(FORMAT.to_be_bytes());
        let aptpl = if self.aptpl { APTPL } else { 0 };
        bytes.extend((u16::from(self.flags) << 8 | aptpl).to_be_bytes());
        bytes.extend(self.serial.to_be_bytes());
        bytes.extend(self.author.to_be_bytes());
        bytes.extend(self.generation.to_be_bytes());
        bytes.extend([self.reservation.as_ref().map_or(0, |reservation| reservation.kind as u8), 0]);
        bytes.extend((self.registrations.len() as u16).to_be_bytes());
        bytes.extend((self.notices.len() as u16).to_be_bytes());
        for registration in &self.registrations {
            bytes.extend(registration.key.to_be_bytes());
            put_path(&mut bytes, &registration.path);
        }
        let holder = self.reservation.as_ref().and_then(|reservation| reservation.holder.as_ref());
        for path in [holder, self.reserved.as_ref()] {
            bytes.push(u8::from(path.is_some()));
            path.into_iter().for_each(|path| put_path(&mut bytes, path));
        }
        for notice in &self.notices {
            bytes.extend(notice.serial.to_be_bytes());
            bytes.extend(notice.whom.to_be_bytes());
            bytes.push(notice.what as u8);
        }
        let sum = sum_of(&bytes);
        bytes.extend(sum.to_be_bytes());
        if bytes.len() > STATE_BYTES_MAX { Err(TooLarge) } else { Ok(bytes) }
    }

    /// The state that these bytes say; of none at all, that there was none yet.
    ///
    /// # Errors
    /// [`StateError`].
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let (body, sum) = bytes.split_last_chunk::<SUM_BYTES>().ok_or(StateError::Damaged)?;
        if bytes.len() > STATE_BYTES_MAX || sum_of(body).to_be_bytes() != *sum {
            return Err(StateError::Damaged);
        }
        let mut take = Take(body);
        if take.array()? != MAGIC {
            return Err(StateError::Damaged);
        }
        let format = take.u16()?;
        if format != FORMAT {
            return Err(StateError::Format(format));
        }
        let flags = take.u16()?;
        let mut state = Self { aptpl: flags & APTPL != 0, flags: (flags >> 8) as u8, ..Self::default() };
        (state.serial, state.author, state.generation) = (take.u64()?, take.u64()?, take.u32()?);
        let [kind, _] = take.array()?;
        let (registrations, notices) = (usize::from(take.u16()?), usize::from(take.u16()?));
        if registrations > REGISTRATIONS_MAX || notices > NOTICES_MAX {
            return Err(StateError::Damaged);
        }
        for _ in 0..registrations {
            let (key, path) = (take.u64()?, take.path()?);
            state.registrations.push(Registration { path, key });
        }
        let (holder, reserved) = (take.perhaps()?, take.perhaps()?);
        (state.reservation, state.reserved) = (reservation_of(kind, holder)?, reserved);
        for _ in 0..notices {
            let (serial, whom, [what]) = (take.u64()?, take.u64()?, take.array()?);
            let what = What::from_code(what).ok_or(StateError::Damaged)?;
            state.notices.push(Notice { serial, whom, what });
        }
        if take.0.is_empty() { state.judged() } else { Err(StateError::Damaged) }
    }

    /// What no state of ours is.
    fn judged(self) -> Result<Self, StateError> {
        let is_registered = |path: &Path| self.registration(path).is_some();
        let is_held_well = match &self.reservation {
            None => true,
            Some(Reservation { holder: Some(holder), .. }) => is_registered(holder),
            Some(Reservation { holder: None, .. }) => !self.registrations.is_empty(),
        };
        let has_keys = self.registrations.iter().all(|registration| registration.key != 0);
        let is_single = |(at, registration): (usize, &Registration)| {
            self.registrations[..at].iter().all(|earlier| earlier.path != registration.path)
        };
        let is_sound = is_held_well
            && has_keys
            && self.flags & !MODE_FLAGS == 0
            && self.registrations.iter().enumerate().all(is_single);
        if is_sound { Ok(self) } else { Err(StateError::Damaged) }
    }
}

fn sum_of(bytes: &[u8]) -> u64 {
    checksum(CrcAlgorithm::Crc64Nvme, bytes)
}

fn reservation_of(kind: u8, holder: Option<Path>) -> Result<Option<Reservation>, StateError> {
    if kind == 0 {
        return if holder.is_none() { Ok(None) } else { Err(StateError::Damaged) };
    }
    let kind = Kind::from_code(kind).ok_or(StateError::Damaged)?;
    if kind.is_of_all() != holder.is_none() {
        return Err(StateError::Damaged);
    }
    Ok(Some(Reservation { kind, holder }))
}

fn put_path(bytes: &mut Vec<u8>, path: &Path) {
    bytes.extend(path.target.to_be_bytes());
    bytes.extend(path.initiator.isid());
    let name = path.initiator.name().as_bytes();
    bytes.push(name.len() as u8);
    bytes.extend(name);
}

struct Take<'a>(&'a [u8]);

impl Take<'_> {
    fn array<const LEN: usize>(&mut self) -> Result<[u8; LEN], StateError> {
        let (taken, rest) = self.0.split_first_chunk::<LEN>().ok_or(StateError::Damaged)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u16(&mut self) -> Result<u16, StateError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, StateError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, StateError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn path(&mut self) -> Result<Path, StateError> {
        let (target, isid, [len]) = (self.u16()?, self.array()?, self.array()?);
        let name = self.0.get(..usize::from(len)).ok_or(StateError::Damaged)?;
        self.0 = &self.0[name.len()..];
        let name = std::str::from_utf8(name).map_err(|_| StateError::Damaged)?;
        let initiator = InitiatorPort::new(name, isid).ok_or(StateError::Damaged)?;
        Ok(Path { initiator, target })
    }

    fn perhaps(&mut self) -> Result<Option<Path>, StateError> {
        match self.array()? {
            [0] => Ok(None),
            [1] => Ok(Some(self.path()?)),
            [_] => Err(StateError::Damaged),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(host: u8) -> Path {
        let initiator = InitiatorPort::new(&format!("iqn.2026-11.example:h{host}"), [host; 6]).unwrap();
        Path { initiator, target: u16::from(host % 3) + 1 }
    }

    fn full() -> State {
        let registrations =
            (0..5).map(|host| Registration { path: path(host), key: 7 + u64::from(host % 2) }).collect();
        let mut state = State {
            serial: 77,
            author: 5,
            generation: 9,
            aptpl: true,
            flags: 3,
            registrations,
            reservation: Some(Reservation { kind: Kind::ExclusiveAccessRegistrants, holder: Some(path(2)) }),
            reserved: Some(path(9)),
            notices: Vec::new(),
        };
        state.note(&path(1), What::Aborted);
        state.note_all(What::Reset);
        state
    }

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let all = State { reservation: Some(Reservation { kind: Kind::WriteExclusiveAll, holder: None }), ..full() };
        for state in [State::default(), full(), all] {
            assert_eq!(State::decode(&state.encode().unwrap()), Ok(state));
        }
        assert_eq!(State::decode(&[]), Ok(State::default()));
    }

    #[test]
    fn a_changed_byte_is_noticed_and_nothing_panics() {
        let bytes = full().encode().unwrap();
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x10;
            assert_eq!(State::decode(&bytes), Err(StateError::Damaged), "byte {at}");
            assert_eq!(State::decode(&bytes[..at]).is_ok(), at == 0);
        }
    }

    fn summed(mut body: Vec<u8>) -> Vec<u8> {
        let sum = sum_of(&body);
        body.extend(sum.to_be_bytes());
        body
    }

    /// The sum is right; what it sums makes no sense.
    #[test]
    fn a_state_that_makes_no_sense_is_refused_whatever_its_sum() {
        let bytes = full().encode().unwrap();
        let body = &bytes[..bytes.len() - SUM_BYTES];
        for at in 0..body.len() {
            for byte in [0, 1, 0xff, body[at] ^ 1] {
                let mut body = body.to_vec();
                body[at] = byte;
                let _ = State::decode(&summed(body)); // never panics
            }
        }
        let mut newer = body.to_vec();
        newer[9] = 2;
        assert_eq!(State::decode(&summed(newer)), Err(StateError::Format(2)));
        let unheld =
            State { reservation: Some(Reservation { kind: Kind::WriteExclusive, holder: Some(path(8)) }), ..full() };
        assert_eq!(State::decode(&unheld.encode().unwrap()), Err(StateError::Damaged));
        let mut twice = full();
        twice.registrations.push(Registration { path: path(0), key: 3 });
        assert_eq!(State::decode(&twice.encode().unwrap()), Err(StateError::Damaged));
        assert_eq!(State::decode(&summed([body, &[0]].concat())), Err(StateError::Damaged));
    }

    #[test]
    fn what_is_longer_than_the_state_may_be_is_not_written() {
        let long = |at: u16| {
            let initiator = InitiatorPort::new(&format!("{at:0200}"), [0; 6]).unwrap();
            Registration { path: Path { initiator, target: 1 }, key: 1 }
        };
        let state = State { registrations: (0..REGISTRATIONS_MAX as u16).map(long).collect(), ..State::default() };
        assert_eq!(state.encode(), Err(TooLarge));
        let state = State { registrations: (0..250).map(long).collect(), ..State::default() };
        assert_eq!(State::decode(&state.encode().unwrap()), Ok(state));
    }
}
