//! Records of TLS 1.3 (RFC 8446 section 5): frames of the protocol in, sealed bytes out, and back. Opens no socket.
//!
//! Both buffers are made once; a record is sealed and opened where it lies.

use std::io::{IoSlice, IoSliceMut};

use dyad_wire::{Receiver, Sender};
use rustls::AlertDescription;

use super::TlsError;
use super::keys::{Key, Renewal, TAG_BYTES};

const HEADER_BYTES: usize = 5;
/// Most plaintext in a record (RFC 8446 section 5.1).
const PLAIN_MAX: usize = 1 << 14;
/// Most bytes behind the header of a record (section 5.2).
const SEALED_MAX: usize = PLAIN_MAX + 256;
/// Records in each buffer: as much as a write of 64 KiB, so that a large one costs few calls of the kernel.
const RECORDS: usize = 4;
/// A key is renewed after so many records: well below the 2^24.5 that are safe with AES-GCM (section 5.5), and days of a
/// connection that does little.
const RENEW_AFTER: u64 = 1 << 23;
/// Slices of the sender looked at per record.
const SLICES: usize = 32;

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// A connection's record layer, after the handshake.
pub(crate) struct Records {
    to_send: Key,
    to_receive: Key,
    renewal: Renewal,
    /// Sealed records: `sent .. sealed` are to be sent.
    out: Box<[u8]>,
    sent: usize,
    sealed: usize,
    /// What was received: `opened` is plaintext not yet taken, `at .. filled` is still sealed.
    input: Box<[u8]>,
    opened: std::ops::Range<usize>,
    at: usize,
    filled: usize,
    renew_after: u64,
}

impl Records {
    pub(super) fn new(to_send: Key, to_receive: Key, renewal: Renewal) -> Self {
        let buffer = || vec![0; RECORDS * (HEADER_BYTES + SEALED_MAX)].into_boxed_slice();
        Self {
            to_send,
            to_receive,
            renewal,
            out: buffer(),
            sent: 0,
            sealed: 0,
            input: buffer(),
            opened: 0..0,
            at: 0,
            filled: 0,
            renew_after: RENEW_AFTER,
        }
    }

    #[cfg(test)]
    pub(super) fn renew_after(&mut self, records: u64) {
        self.renew_after = records;
    }

    #[cfg(test)]
    pub(super) fn records_of_this_key(&self) -> u64 {
        self.to_send.used()
    }

    /// Sealed bytes that are to be sent.
    pub(crate) fn output(&self) -> &[u8] {
        &self.out[self.sent..self.sealed]
    }

    /// So many of them were.
    pub(crate) fn transmitted(&mut self, bytes: usize) {
        self.sent += bytes;
        if self.sent == self.sealed {
            (self.sent, self.sealed) = (0, 0);
        }
    }

    /// Seals what the sender has queued, as far as there is room. Only when all sealed bytes were sent.
    pub(crate) fn seal(&mut self, sender: &mut Sender) -> Result<(), TlsError> {
        while !sender.is_empty() && self.out.len() - self.sealed >= HEADER_BYTES + SEALED_MAX {
            if self.to_send.used() >= self.renew_after {
                self.out[self.sealed + HEADER_BYTES..][..KEY_UPDATE.len()].copy_from_slice(&KEY_UPDATE);
                self.seal_record(KEY_UPDATE.len(), HANDSHAKE)?;
                self.to_send = self.renewal.next_to_send()?;
                continue;
            }
            let room = &mut self.out[self.sealed + HEADER_BYTES..][..PLAIN_MAX];
            let mut len = 0;
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = sender.gather(&mut slices);
            for slice in &slices[..count] {
                let part = slice.len().min(PLAIN_MAX - len);
                room[len..len + part].copy_from_slice(&slice[..part]);
                len += part;
            }
            sender.transmitted(len);
            self.seal_record(len, DATA)?;
        }
        Ok(())
    }

    /// Seals the content of this length that lies behind the place of a header.
    fn seal_record(&mut self, len: usize, kind: u8) -> Result<(), TlsError> {
        let sealed = len + 1 + TAG_BYTES;
        let header = [DATA, 3, 3, (sealed >> 8) as u8, sealed as u8];
        let start = self.sealed + HEADER_BYTES;
        self.out[start + len] = kind;
        let tag = self.to_send.seal(header, &mut self.out[start..=start + len])?;
        self.out[self.sealed..start].copy_from_slice(&header);
        self.out[start + len + 1..start + sealed].copy_from_slice(&tag);
        self.sealed = start + sealed;
        Ok(())
    }

    /// Where bytes from the socket go. Only after [`Self::open`] said that there are none to open.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        if self.at > 0 {
            self.input.copy_within(self.at..self.filled, 0);
            (self.at, self.filled) = (0, self.filled - self.at);
            self.opened = 0..0;
        }
        &mut self.input[self.filled..]
    }

    /// So many bytes were put there.
    pub(crate) fn received(&mut self, bytes: usize) {
        self.filled += bytes;
    }

    /// Gives the receiver plaintext; false if there is none before more bytes come. The receiver needs bytes.
    pub(crate) fn open(&mut self, receiver: &mut Receiver) -> Result<bool, TlsError> {
        while self.opened.is_empty() {
            if !self.open_record()? {
                return Ok(false);
            }
        }
        let mut room = [IoSliceMut::new(&mut []), IoSliceMut::new(&mut [])];
        let count = receiver.room(&mut room);
        let mut taken = 0;
        for slice in &mut room[..count] {
            let part = slice.len().min(self.opened.len());
            slice[..part].copy_from_slice(&self.input[self.opened.start..][..part]);
            self.opened.start += part;
            taken += part;
        }
        receiver.received(taken);
        Ok(true)
    }

    /// Opens the next record; false if it is not all there.
    fn open_record(&mut self) -> Result<bool, TlsError> {
        let Some(&header) = self.input[self.at..self.filled].first_chunk::<HEADER_BYTES>() else { return Ok(false) };
        let len = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if header[0] != DATA || len > SEALED_MAX || len <= TAG_BYTES {
            return Err(TlsError::Damaged);
        }
        let start = self.at + HEADER_BYTES;
        if self.filled - start.min(self.filled) < len {
            return Ok(false);
        }
        let content = self.to_receive.open(header, &mut self.input[start..start + len])?;
        self.at = start + len;
        let content = &self.input[start..start + content];
        // Behind the content its kind, then any number of zeros.
        let Some(end) = content.iter().rposition(|&byte| byte != 0) else { return Err(TlsError::Damaged) };
        match content[end] {
            DATA => self.opened = start..start + end,
            HANDSHAKE if content[..end] == KEY_UPDATE => self.to_receive = self.renewal.next_to_receive()?,
            ALERT if end == 2 => return Err(TlsError::Alert(AlertDescription::from(content[1]))),
            _ => return Err(TlsError::Damaged),
        }
        Ok(true)
    }
}
