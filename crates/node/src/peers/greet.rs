//! The greeting of a connection, on either side: blocking, within its time.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::time::{Duration, Instant};

use dyad_units::NodeId;
use dyad_wire::{
    ConnectionKind, GREETING_WITHIN, Hello, Incoming, Polled, Receiver, Refusal, RefusalReason, Sender, WelcomeError,
    WireError,
};
use rustls::pki_types::CertificateDer;
use socket2::{SockRef, TcpKeepalive};

use super::tls::{self, Records, TlsError};
use super::{Link, Peers, Transport};
use crate::join::JoinRefused;

/// What was sent and not confirmed for so long ends the connection: longer than any burst of loss at one site, and the
/// leases decide long before who may go on.
const UNCONFIRMED_MAX: Duration = Duration::from_secs(5);
/// A silent connection is asked so often whether it still stands.
const KEEPALIVE: Duration = Duration::from_secs(2);
/// Memory for what is under way in each direction: two of the largest messages.
const SOCKET_BYTES: usize = 4 << 20;

/// First byte of a frame that is not encrypted.
const FRAME: u8 = b'D';
/// First byte of a handshake of TLS.
const TLS_HANDSHAKE: u8 = 22;

/// No connection came of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum GreetError {
    #[error("its record names no address")]
    NoAddress,
    #[error("it does not answer")]
    Socket(#[from] io::Error),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Welcome(#[from] WelcomeError),
    #[error("it says something else than a greeting")]
    NoGreeting,
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("a machine that wants to join was not served")]
    Join(#[from] JoinRefused),
    #[error("it uses TLS and this node does not: set `peer.tls` and certificates alike on all nodes")]
    TheyUseTls,
    #[error(
        "its address {0} is on another machine, and this node has no certificate (`peer.ca`, `peer.certificate`, \
         `peer.key`): nothing goes there unencrypted without `peer.tls = \"off\"`"
    )]
    NotEncrypted(IpAddr),
}

impl GreetError {
    /// Whether it is about who the other side is, and so worth telling.
    pub(super) fn is_of_trust(&self) -> bool {
        match self {
            Self::Tls(error) => !matches!(error, TlsError::Socket(_)),
            Self::Refused(refusal) => refusal.reason == RefusalReason::Certificate,
            Self::TheyUseTls => true,
            _ => false,
        }
    }
}

/// A connection that is being greeted.
struct Talk {
    socket: TcpStream,
    sender: Sender,
    receiver: Receiver,
    records: Option<Box<Records>>,
    deadline: Instant,
}

impl Talk {
    fn begin(peers: &Peers, socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        let options = SockRef::from(&socket);
        options.set_tcp_user_timeout(Some(UNCONFIRMED_MAX))?;
        options.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))?;
        // The kernel gives less where it is told to; speed is all that depends on it.
        let _ = options.set_send_buffer_size(SOCKET_BYTES);
        let _ = options.set_recv_buffer_size(SOCKET_BYTES);
        let deadline = Instant::now() + GREETING_WITHIN.to_duration();
        let (sender, receiver) = (Sender::new(), Receiver::new(peers.slab.clone()));
        Ok(Self { socket, sender, receiver, records: None, deadline })
    }

    /// First byte of what the other side says.
    fn peek(&self) -> io::Result<u8> {
        self.socket.set_read_timeout(Some(self.left()?))?;
        let mut first = [0];
        match self.socket.peek(&mut first)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(first[0]),
        }
    }

    fn left(&self) -> io::Result<Duration> {
        left(self.deadline)
    }

    fn send(&mut self) -> Result<(), GreetError> {
        loop {
            let sent = match &mut self.records {
                None if self.sender.is_empty() => return Ok(()),
                None => {
                    let mut slices = [IoSlice::new(&[]); 4];
                    let count = self.sender.gather(&mut slices);
                    self.socket.set_write_timeout(Some(left(self.deadline)?))?;
                    self.socket.write_vectored(&slices[..count])?
                }
                Some(records) => {
                    if records.output().is_empty() {
                        records.seal(&mut self.sender)?;
                    }
                    if records.output().is_empty() {
                        return Ok(());
                    }
                    self.socket.set_write_timeout(Some(left(self.deadline)?))?;
                    self.socket.write(records.output())?
                }
            };
            match &mut self.records {
                None => self.sender.transmitted(sent),
                Some(records) => records.transmitted(sent),
            }
        }
    }

    fn receive(&mut self) -> Result<Incoming, GreetError> {
        loop {
            match self.receiver.poll()? {
                Polled::Incoming(incoming) => return Ok(incoming),
                // A greeting has no payload.
                Polled::NeedsMemory => return Err(GreetError::NoGreeting),
                Polled::NeedsBytes => {}
            }
            self.socket.set_read_timeout(Some(self.left()?))?;
            let received = match &mut self.records {
                None => {
                    let mut room = [IoSliceMut::new(&mut []), IoSliceMut::new(&mut [])];
                    let count = self.receiver.room(&mut room);
                    let received = self.socket.read_vectored(&mut room[..count])?;
                    self.receiver.received(received);
                    received
                }
                Some(records) => {
                    if records.open(&mut self.receiver)? {
                        continue;
                    }
                    let received = self.socket.read(records.room())?;
                    records.received(received);
                    received
                }
            };
            if received == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    fn refuse(&mut self, refusal: Refusal) -> GreetError {
        self.sender.refuse(&refusal);
        if let Err(error) = self.send() {
            return error;
        }
        let _ = self.socket.shutdown(Shutdown::Write);
        refusal.into()
    }

    fn link(self, node: NodeId, incarnation: dyad_cluster::Incarnation) -> Result<Link, GreetError> {
        let address = self.socket.peer_addr()?;
        self.socket.set_nonblocking(true)?;
        let (sender, receiver, records) = (self.sender, self.receiver, self.records);
        Ok(Link {
            socket: self.socket.into(),
            sender,
            receiver,
            records,
            is_drained: false,
            node,
            incarnation,
            address,
            _guard: None,
        })
    }
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// The dialing side's part.
pub(super) fn dialing(peers: &Peers, socket: TcpStream, to: NodeId, kind: ConnectionKind) -> Result<Link, GreetError> {
    let mut talk = Talk::begin(peers, socket)?;
    if let Transport::Tls(tls) = &peers.transport {
        let name = peers.record_name_of(to).ok_or(GreetError::NoAddress)?;
        let (records, certificate) = tls::connect(tls, &talk.socket, &name, talk.deadline)?;
        tls::check_id(&certificate, to)?;
        talk.records = Some(Box::new(records));
    }
    let hello = peers.local.hello(to, kind);
    talk.sender.hello(&hello);
    talk.send()?;
    match talk.receive()? {
        Incoming::Welcome(welcome) => {
            peers.local.check(&hello, &welcome, peers.life_of(to))?;
            talk.sender.begin(welcome.version);
            talk.receiver.begin(welcome.version, kind);
            talk.link(welcome.node, welcome.incarnation)
        }
        Incoming::Refusal(refusal) => Err(refusal.into()),
        _ => Err(GreetError::NoGreeting),
    }
}

/// The accepting side's part; none: it was a machine that wants to join.
pub(super) fn accepting(peers: &Peers, socket: TcpStream) -> Result<Option<(Link, ConnectionKind)>, GreetError> {
    let mut talk = Talk::begin(peers, socket)?;
    let first = talk.peek()?;
    if first == crate::join::MAGIC[0] {
        peers.reception.receive(talk.socket)?;
        return Ok(None);
    }
    let certificate = match &peers.transport {
        Transport::Tls(_) if first == FRAME => return Err(refuse_plain(peers, &mut talk)?),
        Transport::Tls(tls) => {
            let (records, certificate) = tls::accept(tls, &talk.socket, talk.deadline)?;
            talk.records = Some(Box::new(records));
            Some(certificate)
        }
        Transport::Plain { .. } if first == TLS_HANDSHAKE => return Err(refuse_tls(peers, &mut talk)?),
        Transport::Plain { .. } => None,
    };
    let Incoming::Hello(hello) = talk.receive()? else { return Err(GreetError::NoGreeting) };
    match judge(peers, &hello, certificate.as_ref()) {
        Ok(welcome) => {
            talk.sender.welcome(&welcome);
            talk.send()?;
            talk.receiver.begin(welcome.version, hello.kind);
            let kind = hello.kind;
            Ok(Some((talk.link(hello.node, hello.incarnation)?, kind)))
        }
        Err(refusal) => Err(talk.refuse(refusal)),
    }
}

/// Says in clear that nothing is taken in clear.
fn refuse_plain(peers: &Peers, talk: &mut Talk) -> Result<GreetError, GreetError> {
    let Incoming::Hello(hello) = talk.receive()? else { return Err(GreetError::NoGreeting) };
    let text = format!("node {} takes connections over TLS only, and {} came without", peers.local.name, hello.name);
    Ok(talk.refuse(peers.local.refuse(RefusalReason::Certificate, text)))
}

/// Says in clear that TLS is not spoken here; the other side understands that much.
fn refuse_tls(peers: &Peers, talk: &mut Talk) -> Result<GreetError, GreetError> {
    // Its first record; what is left unread would turn the answer into a reset.
    let mut first = [0; 4096];
    let _ = talk.socket.read(&mut first)?;
    let text = format!("node {} does not use TLS", peers.local.name);
    talk.refuse(peers.local.refuse(RefusalReason::Certificate, text));
    Ok(GreetError::TheyUseTls)
}

fn judge(
    peers: &Peers,
    hello: &Hello,
    certificate: Option<&CertificateDer<'static>>,
) -> Result<dyad_wire::Welcome, Refusal> {
    let known = peers.life_of(hello.node);
    let welcome = peers.local.answer(hello, known)?;
    let Some(name) = peers.record_name_of(hello.node) else {
        let text = format!("node {} ({}) is not one of this cluster, as far as is known here", hello.name, hello.node);
        return Err(peers.local.refuse(RefusalReason::Unknown, text));
    };
    // The certificate is of the node's name in its record: whoever has another node's certificate is not this one.
    let check = |shown| tls::check_name(shown, &name).and_then(|()| tls::check_id(shown, hello.node));
    if let Some(Err(error)) = certificate.map(check) {
        return Err(peers.local.refuse(RefusalReason::Certificate, error.to_string()));
    }
    if peers.is_stopping() {
        return Err(peers.local.refuse(RefusalReason::Stopping, "this node stops".into()));
    }
    Ok(welcome)
}
