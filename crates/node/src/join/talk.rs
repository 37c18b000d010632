//! What is said, and how: one question, one answer, in postcard, behind their length.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Version of this talk: 2 tells the password of etcd's user.
pub(super) const VERSION: u16 = 2;
/// Longest message: certificates of a few KiB.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// What the new machine says.
#[derive(Serialize, Deserialize)]
pub(super) struct Ask {
    pub(super) version: u16,
    pub(super) secret: [u8; 16],
    pub(super) name: String,
    pub(super) public: Vec<u8>,
}

/// What the node answers.
#[derive(Serialize, Deserialize)]
pub(super) enum Answer {
    Admitted(Box<Welcome>),
    /// Why not, one sentence.
    Refused(String),
}

#[derive(Serialize, Deserialize)]
pub(super) struct Welcome {
    pub(super) certificate: String,
    pub(super) authority: String,
    pub(super) target_prefix: String,
    pub(super) store: StoreWay,
}

/// How the cluster's config store is reached, for a configuration file.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct StoreWay {
    /// `arbiter` or `etcd`.
    pub kind: String,
    /// Where.
    pub addresses: Vec<String>,
    /// Whether certificates are used.
    pub is_encrypted: bool,
    /// The authority of the store, PEM, where it is not the cluster's own.
    pub authority: Option<String>,
    /// Name that its certificate has.
    pub name: Option<String>,
    /// What all keys start with.
    pub prefix: Option<String>,
    /// Its user.
    pub user: Option<String>,
    /// That user's password: whoever is let in needs it, and comes with a token over TLS.
    pub password: Option<Password>,
}

/// A password, which no formatter shows.
#[derive(Clone, Eq, PartialEq, Serialize, Deserialize)]
pub struct Password(String);

impl Password {
    pub(super) fn new(password: &str) -> Self {
        Self(password.to_owned())
    }

    /// For a file that nobody else can read.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(..)")
    }
}

/// A socket on which the whole talk ends at a time.
pub(super) struct Timed {
    socket: TcpStream,
    end: Instant,
}

impl Timed {
    pub(super) fn new(socket: TcpStream, end: Instant) -> Self {
        Self { socket, end }
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for Timed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(self.left()?))?;
        self.socket.read(into)
    }
}

impl Write for Timed {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(self.left()?))?;
        self.socket.write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

pub(super) fn send<T: Serialize>(stream: &mut impl Write, message: &T) -> io::Result<()> {
    // Plain data always encodes.
    let body = postcard::to_stdvec(message).map_err(io::Error::other)?;
    let len = u32::try_from(body.len()).map_err(io::Error::other)?;
    stream.write_all(&[&len.to_le_bytes()[..], &body].concat())?;
    stream.flush()
}

pub(super) fn receive<T: DeserializeOwned>(stream: &mut impl Read) -> io::Result<T> {
    let mut len = [0; 4];
    stream.read_exact(&mut len)?;
    let len = u32::from_le_bytes(len) as usize;
    if len > MESSAGE_BYTES_MAX {
        return Err(senseless());
    }
    let mut body = vec![0; len];
    stream.read_exact(&mut body)?;
    postcard::from_bytes(&body).map_err(|_| senseless())
}

fn senseless() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "what came makes no sense here")
}
