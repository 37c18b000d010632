//! The dialing side: keeps one connection of a kind to one node, whatever ends it.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dyad_units::NodeId;
use dyad_wire::ConnectionKind;

use super::greet::{self, GreetError};
use super::{Link, Peers, Transport};

/// An address that does not answer is given up after this, and the next one tried: many round trips at one site.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// First pause after a failure: a process that restarts listens again within milliseconds. It doubles.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// Longest such pause: a node that was away for long is missed no longer than this when it is back.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// How often a thread whose connection is up looks whether the node stops.
const LOOK: Duration = Duration::from_millis(200);

pub(super) fn spawn(peers: Arc<Peers>, to: NodeId, kind: ConnectionKind) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("dial".into()).spawn(move || run(&peers, to, kind))
}

fn run(peers: &Peers, to: NodeId, kind: ConnectionKind) {
    let mut pause = PAUSE_MIN;
    let mut told = String::new();
    // A node that was removed is looked for no more.
    while !peers.is_stopping() && peers.addresses_of(to).is_some() {
        let (guard, ended) = sync_channel(1);
        match dial(peers, to, kind) {
            Ok(mut link) => {
                link._guard = Some(guard);
                let begun = Instant::now();
                peers.deliver(link, kind);
                told.clear();
                while !peers.is_stopping()
                    && peers.addresses_of(to).is_some()
                    && ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout)
                {}
                // One that ends at once was a node that stops: it is not asked all the time.
                pause = if begun.elapsed() >= PAUSE_MAX { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
                peers.rest(pause);
            }
            Err(error) => {
                let what = crate::admin::chain(&error);
                peers.note_trouble(to, &what);
                if what != told {
                    tracing::warn!(node = peers.name_of(to), reason = what, "node cannot be connected to");
                    told = what;
                }
                peers.rest(pause);
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}

/// Tries the node's addresses in their order.
fn dial(peers: &Peers, to: NodeId, kind: ConnectionKind) -> Result<Link, GreetError> {
    let mut last = GreetError::NoAddress;
    for address in peers.addresses_of(to).unwrap_or_default() {
        match connect(peers, &address).and_then(|socket| greet::dialing(peers, socket, to, kind)) {
            Ok(link) => return Ok(link),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn connect(peers: &Peers, address: &str) -> Result<TcpStream, GreetError> {
    let mut last = GreetError::from(io::Error::from(io::ErrorKind::AddrNotAvailable));
    for address in address.to_socket_addrs()? {
        if matches!(peers.transport, Transport::Plain { is_allowed: false }) && !address.ip().is_loopback() {
            last = GreetError::NotEncrypted(address.ip());
            continue;
        }
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}
