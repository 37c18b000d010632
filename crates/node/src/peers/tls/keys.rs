//! The keys of a connection, one for each direction, and their renewal.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rustls::ConnectionTrafficSecrets;
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;

use super::TlsError;

/// Bytes behind the content of a record that prove it whole.
pub(super) const TAG_BYTES: usize = 16;

/// One direction's key.
pub(super) struct Key {
    key: LessSafeKey,
    base: [u8; NONCE_LEN],
    /// Number of the next record; a nonce is never used twice.
    sequence: u64,
}

impl Key {
    pub(super) fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Self, TlsError> {
        let (algorithm, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(unknown()),
        };
        let base = iv.as_ref().try_into().map_err(|_| unknown())?;
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| unknown())?;
        Ok(Self { key: LessSafeKey::new(key), base, sequence })
    }

    /// Records so far.
    pub(super) fn used(&self) -> u64 {
        self.sequence
    }

    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.base;
        for (byte, count) in nonce[NONCE_LEN - 8..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= count;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    /// Seals the content in place; what proves it goes behind.
    pub(super) fn seal(&mut self, header: [u8; 5], content: &mut [u8]) -> Result<[u8; TAG_BYTES], TlsError> {
        let nonce = self.nonce();
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(header), content);
        tag.ok().and_then(|tag| tag.as_ref().try_into().ok()).ok_or(TlsError::Damaged)
    }

    /// Opens content and tag in place; how long the content is.
    pub(super) fn open(&mut self, header: [u8; 5], sealed: &mut [u8]) -> Result<usize, TlsError> {
        let nonce = self.nonce();
        let opened = self.key.open_in_place(nonce, Aad::from(header), sealed);
        opened.map(|content| content.len()).map_err(|_| TlsError::Damaged)
    }
}

fn unknown() -> TlsError {
    TlsError::Handshake(rustls::Error::General("keys of an unknown kind".into()))
}

/// Where the next keys come from.
pub(super) enum Renewal {
    Client(Box<KernelConnection<ClientConnectionData>>),
    Server(Box<KernelConnection<ServerConnectionData>>),
}

impl Renewal {
    pub(super) fn next_to_send(&mut self) -> Result<Key, TlsError> {
        let next = match self {
            Self::Client(connection) => connection.update_tx_secret(),
            Self::Server(connection) => connection.update_tx_secret(),
        };
        Key::new(next.map_err(TlsError::Handshake)?)
    }

    pub(super) fn next_to_receive(&mut self) -> Result<Key, TlsError> {
        let next = match self {
            Self::Client(connection) => connection.update_rx_secret(),
            Self::Server(connection) => connection.update_rx_secret(),
        };
        Key::new(next.map_err(TlsError::Handshake)?)
    }
}
