//! One connection: frames over TLS or, on loopback, over bare TCP, every wait with an end.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};
use serde::Serialize;
use serde::de::DeserializeOwned;
use socket2::{SockRef, TcpKeepalive};

use super::protocol::{FRAME_MAX, decode, encode};
use crate::shown::Shown;

/// From the first byte of a frame to its last: far more than a frame takes on any link that could serve.
const FRAME_TIME: Duration = Duration::from_secs(5);
/// Finds a peer whose machine went away without a word.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVE_TRIES: u32 = 3;

/// A socket whose reads and writes end at a time.
#[derive(Debug)]
struct Timed {
    socket: TcpStream,
    end: Instant,
}

impl Timed {
    fn left(&self) -> io::Result<Duration> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(late()) } else { Ok(left) }
    }
}

impl Read for Timed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.left()?;
        self.socket.set_read_timeout(Some(left))?;
        self.socket.read(into).map_err(named)
    }
}

impl Write for Timed {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let left = self.left()?;
        self.socket.set_write_timeout(Some(left))?;
        self.socket.write(from).map_err(named)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "there was no answer in time")
}

/// A socket's timeout calls itself "would block".
fn named(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { late() } else { error }
}

/// A connection, after TLS.
pub(super) struct Link {
    stream: Stream,
}

enum Stream {
    Plain(Timed),
    Client(Box<StreamOwned<ClientConnection, Timed>>),
    Server(Box<StreamOwned<ServerConnection, Timed>>),
}

impl Link {
    /// The client's side, within `time`.
    pub(super) fn connect(
        address: SocketAddr,
        tls: Option<&(Arc<ClientConfig>, ServerName<'static>)>,
        time: Duration,
    ) -> io::Result<Self> {
        let mut timed = prepare(TcpStream::connect_timeout(&address, time)?, time)?;
        let Some((config, name)) = tls else { return Ok(Self { stream: Stream::Plain(timed) }) };
        let mut session = ClientConnection::new(Arc::clone(config), name.clone()).map_err(io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut timed)?;
        }
        Ok(Self { stream: Stream::Client(Box::new(StreamOwned::new(session, timed))) })
    }

    /// The server's side, within `time`.
    pub(super) fn accept(socket: TcpStream, tls: Option<&Arc<ServerConfig>>, time: Duration) -> io::Result<Self> {
        let mut timed = prepare(socket, time)?;
        let Some(config) = tls else { return Ok(Self { stream: Stream::Plain(timed) }) };
        let mut session = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut timed)?;
        }
        Ok(Self { stream: Stream::Server(Box::new(StreamOwned::new(session, timed))) })
    }

    /// Whose certificate the client showed; none: there is no TLS.
    pub(super) fn shown(&self) -> io::Result<Option<Shown>> {
        let Stream::Server(tls) = &self.stream else { return Ok(None) };
        let certificate = tls.conn.peer_certificates().and_then(<[_]>::first).ok_or_else(malformed)?;
        Shown::of(certificate).map(Some).map_err(io::Error::other)
    }

    /// A handle with which another thread can end the connection.
    pub(super) fn handle(&mut self) -> io::Result<TcpStream> {
        self.timed().socket.try_clone()
    }

    /// Whether the peer has closed the connection, or sent what nobody asked for; no proof that it has not.
    pub(super) fn is_stale(&mut self) -> bool {
        let socket = &self.timed().socket;
        let _ = socket.set_nonblocking(true);
        let nothing = matches!(socket.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        !nothing || socket.set_nonblocking(false).is_err()
    }

    pub(super) fn send<T: Serialize>(&mut self, message: &T) -> io::Result<()> {
        let body = encode(message);
        assert!(body.len() <= FRAME_MAX, "a frame of {} bytes", body.len());
        let mut frame = Vec::with_capacity(4 + body.len());
        frame.extend_from_slice(&(body.len() as u32).to_le_bytes());
        frame.extend_from_slice(&body);
        self.ends_in(FRAME_TIME);
        let stream = self.stream();
        stream.write_all(&frame)?;
        stream.flush()
    }

    /// The next message, which has to start within `time`.
    pub(super) fn receive<T: DeserializeOwned>(&mut self, time: Duration) -> io::Result<T> {
        let mut len = [0; 4];
        self.ends_in(time);
        self.stream().read_exact(&mut len)?;
        let len = u32::from_le_bytes(len) as usize;
        if len > FRAME_MAX {
            return Err(malformed());
        }
        let mut body = vec![0; len];
        self.ends_in(FRAME_TIME);
        self.stream().read_exact(&mut body)?;
        decode(&body).map_err(|_| malformed())
    }

    fn ends_in(&mut self, time: Duration) {
        self.timed().end = Instant::now() + time;
    }

    fn timed(&mut self) -> &mut Timed {
        match &mut self.stream {
            Stream::Plain(timed) => timed,
            Stream::Client(tls) => &mut tls.sock,
            Stream::Server(tls) => &mut tls.sock,
        }
    }

    fn stream(&mut self) -> &mut dyn Both {
        match &mut self.stream {
            Stream::Plain(timed) => timed,
            Stream::Client(tls) => tls,
            Stream::Server(tls) => tls,
        }
    }
}

trait Both: Read + Write {}

impl<T: Read + Write> Both for T {}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "what came is no message of the arbiter's protocol")
}

fn prepare(socket: TcpStream, time: Duration) -> io::Result<Timed> {
    socket.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
    SockRef::from(&socket).set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_TRIES))?;
    Ok(Timed { socket, end: Instant::now() + time })
}
