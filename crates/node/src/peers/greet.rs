//! The greeting of a connection, on either side: blocking, within its time.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use dyad_units::NodeId;
use dyad_wire::{
    ConnectionKind, GREETING_WITHIN, Hello, Incoming, Polled, Receiver, Refusal, RefusalReason, Sender, WelcomeError,
    WireError,
};
use socket2::{SockRef, TcpKeepalive};

use super::{Link, Peers};

/// What was sent and not confirmed for so long ends the connection: longer than any burst of loss at one site, and the
/// leases decide long before who may go on.
const UNCONFIRMED_MAX: Duration = Duration::from_secs(5);
/// A silent connection is asked so often whether it still stands.
const KEEPALIVE: Duration = Duration::from_secs(2);
/// Memory for what is under way in each direction: two of the largest messages.
const SOCKET_BYTES: usize = 4 << 20;

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
}

/// A connection that is being greeted.
struct Talk {
    socket: TcpStream,
    sender: Sender,
    receiver: Receiver,
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
        Ok(Self { socket, sender: Sender::new(), receiver: Receiver::new(peers.slab.clone()), deadline })
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }

    fn send(&mut self) -> Result<(), GreetError> {
        while !self.sender.is_empty() {
            self.socket.set_write_timeout(Some(self.left()?))?;
            let mut slices = [IoSlice::new(&[]); 4];
            let count = self.sender.gather(&mut slices);
            let sent = self.socket.write_vectored(&slices[..count])?;
            self.sender.transmitted(sent);
        }
        Ok(())
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
            let mut room = [IoSliceMut::new(&mut []), IoSliceMut::new(&mut [])];
            let count = self.receiver.room(&mut room);
            let received = self.socket.read_vectored(&mut room[..count])?;
            if received == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            self.receiver.received(received);
        }
    }

    fn link(self, node: NodeId, incarnation: dyad_cluster::Incarnation) -> Result<Link, GreetError> {
        let address = self.socket.peer_addr()?;
        self.socket.set_nonblocking(true)?;
        let (sender, receiver) = (self.sender, self.receiver);
        Ok(Link { socket: self.socket.into(), sender, receiver, node, incarnation, address, _guard: None })
    }
}

/// The dialing side's part.
pub(super) fn dialing(peers: &Peers, socket: TcpStream, to: NodeId, kind: ConnectionKind) -> Result<Link, GreetError> {
    let mut talk = Talk::begin(peers, socket)?;
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

/// The accepting side's part.
pub(super) fn accepting(peers: &Peers, socket: TcpStream) -> Result<(Link, ConnectionKind), GreetError> {
    let mut talk = Talk::begin(peers, socket)?;
    let Incoming::Hello(hello) = talk.receive()? else { return Err(GreetError::NoGreeting) };
    match judge(peers, &hello) {
        Ok(welcome) => {
            talk.sender.welcome(&welcome);
            talk.send()?;
            talk.receiver.begin(welcome.version, hello.kind);
            let kind = hello.kind;
            Ok((talk.link(hello.node, hello.incarnation)?, kind))
        }
        Err(refusal) => {
            talk.sender.refuse(&refusal);
            talk.send()?;
            let _ = talk.socket.shutdown(Shutdown::Write);
            Err(refusal.into())
        }
    }
}

fn judge(peers: &Peers, hello: &Hello) -> Result<dyad_wire::Welcome, Refusal> {
    let known = peers.life_of(hello.node);
    let welcome = peers.local.answer(hello, known)?;
    if known.is_none() {
        let text = format!("node {} ({}) is not one of this cluster, as far as is known here", hello.name, hello.node);
        return Err(peers.local.refuse(RefusalReason::Unknown, text));
    }
    if peers.is_stopping() {
        return Err(peers.local.refuse(RefusalReason::Stopping, "this node stops".into()));
    }
    Ok(welcome)
}
