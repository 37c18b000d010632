//! A TCP connection that speaks PDUs: batches what it sends, checks digests of what it receives.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::options::Digests;
use super::pdu::{HEADER, Header, padding};

/// Receive buffer: several bursts of small PDUs, so that deep queues cost few system calls.
const INPUT: usize = 256 * 1024;
/// Queued output is sent once it reaches this, even when nobody waits for an answer yet.
const OUTPUT: usize = 256 * 1024;

/// Why a connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// No connection came about.
    #[error("cannot connect to {portal}")]
    Connect {
        /// Where to.
        portal: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The target closed it.
    #[error("the target closed the connection")]
    Closed,
    /// Nothing came for the time that the options allow.
    #[error("the target sent nothing for {0:?}")]
    Silent(Duration),
    /// The socket failed.
    #[error("the connection failed")]
    Socket(#[source] io::Error),
    /// A digest of the target is wrong.
    #[error("{what} digest of a received PDU is {theirs:#010x}, its bytes give {ours:#010x}")]
    Digest {
        /// Header or data.
        what: &'static str,
        /// What was sent.
        theirs: u32,
        /// What is right.
        ours: u32,
    },
}

/// The connection.
#[derive(Debug)]
pub struct Stream {
    socket: TcpStream,
    patience: Duration,
    digests: Digests,
    input: Vec<u8>,
    start: usize,
    end: usize,
    output: Vec<u8>,
}

impl Stream {
    /// Connects; digests stay off until [`Stream::use_digests`].
    pub fn connect(portal: SocketAddr, patience: Duration) -> Result<Self, StreamError> {
        let socket =
            TcpStream::connect_timeout(&portal, patience).map_err(|source| StreamError::Connect { portal, source })?;
        let set = || {
            socket.set_nodelay(true)?;
            socket.set_read_timeout(Some(patience))?;
            socket.set_write_timeout(Some(patience))
        };
        set().map_err(StreamError::Socket)?;
        Ok(Self {
            socket,
            patience,
            digests: Digests::default(),
            input: vec![0; INPUT],
            start: 0,
            end: 0,
            output: Vec::with_capacity(OUTPUT),
        })
    }

    /// The socket itself, for tests that misuse it.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// From now on PDUs carry digests (after login, RFC 7143 §6.3).
    pub fn use_digests(&mut self, digests: Digests) {
        self.digests = digests;
    }

    /// Sets the time after which silence is an error.
    pub fn set_patience(&mut self, patience: Duration) -> Result<(), StreamError> {
        self.patience = patience;
        self.socket.set_read_timeout(Some(patience)).map_err(StreamError::Socket)
    }

    /// Queues one PDU; the header's data length is set here.
    pub fn push(&mut self, mut header: Header, data: &[u8]) -> Result<(), StreamError> {
        header.set_data_len(data.len());
        self.output.extend_from_slice(&header.0);
        if self.digests.header {
            self.output.extend_from_slice(&crc32c::crc32c(&header.0).to_le_bytes());
        }
        if !data.is_empty() {
            let begin = self.output.len();
            self.output.extend_from_slice(data);
            self.output.resize(self.output.len() + padding(data.len()), 0);
            if self.digests.data {
                let sum = crc32c::crc32c(&self.output[begin..]);
                self.output.extend_from_slice(&sum.to_le_bytes());
            }
        }
        if self.output.len() >= OUTPUT { self.flush() } else { Ok(()) }
    }

    /// Sends what is queued.
    pub fn flush(&mut self) -> Result<(), StreamError> {
        if self.output.is_empty() {
            return Ok(());
        }
        let sent = self.socket.write_all(&self.output);
        self.output.clear();
        sent.map_err(|error| self.judge(error))
    }

    /// Receives a header (and skips additional headers).
    pub fn header(&mut self) -> Result<Header, StreamError> {
        let mut header = Header([0; HEADER]);
        self.exactly(&mut header.0)?;
        let mut sum = crc32c::crc32c(&header.0);
        let mut ahs = [0; 1020];
        let ahs = &mut ahs[..header.ahs_len()];
        self.exactly(ahs)?;
        if self.digests.header {
            sum = crc32c::crc32c_append(sum, ahs);
            self.check_digest("header", sum)?;
        }
        Ok(header)
    }

    /// Receives the data segment of `header` into `place`, which must have its length.
    pub fn data(&mut self, place: &mut [u8]) -> Result<(), StreamError> {
        if place.is_empty() {
            return Ok(());
        }
        self.exactly(place)?;
        let mut pad = [0; 3];
        let pad = &mut pad[..padding(place.len())];
        self.exactly(pad)?;
        if self.digests.data {
            let sum = crc32c::crc32c_append(crc32c::crc32c(place), pad);
            self.check_digest("data", sum)?;
        }
        Ok(())
    }

    /// True when bytes that have arrived wait to be read.
    pub fn has_input(&self) -> bool {
        self.start < self.end
    }

    fn check_digest(&mut self, what: &'static str, ours: u32) -> Result<(), StreamError> {
        let mut theirs = [0; 4];
        self.exactly(&mut theirs)?;
        let theirs = u32::from_le_bytes(theirs);
        if theirs == ours { Ok(()) } else { Err(StreamError::Digest { what, theirs, ours }) }
    }

    fn exactly(&mut self, place: &mut [u8]) -> Result<(), StreamError> {
        let held = (self.end - self.start).min(place.len());
        place[..held].copy_from_slice(&self.input[self.start..self.start + held]);
        self.start += held;
        let mut filled = held;
        while filled < place.len() {
            let rest = &mut place[filled..];
            if rest.len() >= INPUT / 4 {
                // Large data goes straight to its place.
                filled += receive(&mut self.socket, rest, self.patience)?;
                continue;
            }
            self.end = receive(&mut self.socket, &mut self.input, self.patience)?;
            let take = self.end.min(rest.len());
            rest[..take].copy_from_slice(&self.input[..take]);
            self.start = take;
            filled += take;
        }
        Ok(())
    }

    fn judge(&self, error: io::Error) -> StreamError {
        judge(error, self.patience)
    }
}

fn receive(socket: &mut TcpStream, place: &mut [u8], patience: Duration) -> Result<usize, StreamError> {
    loop {
        match socket.read(place) {
            Ok(0) => return Err(StreamError::Closed),
            Ok(count) => return Ok(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(judge(error, patience)),
        }
    }
}

fn judge(error: io::Error, patience: Duration) -> StreamError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => StreamError::Silent(patience),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
            StreamError::Closed
        }
        _ => StreamError::Socket(error),
    }
}
