//! The arbiter's door: listens, bounds how many may enter, and ends them all when it stops.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use dyad_cluster::StoreError;
use rustls::ServerConfig;
use socket2::SockRef;

use super::link::Link;
use super::{outcast, session};
use crate::error::ConfigError;
use crate::local::LocalStore;
use crate::shown::Shown;
use crate::tls::Tls;

/// Clients at once. A node has up to five connections, so a dozen nodes; a connection costs about 100 KiB.
const SESSIONS_MAX: usize = 64;
/// Connections that have not proved yet who they are: strangers take no place of a node. Over it one of them is
/// closed for the one that comes: a node proves itself within milliseconds, who only sits there never does.
const STRANGERS_MAX: usize = 16;
/// Connections in all; those that were closed have to leave first.
const CONNECTIONS_MAX: usize = SESSIONS_MAX + 2 * STRANGERS_MAX;
/// TLS and hello take some round trips.
pub(super) const HELLO_TIME: Duration = Duration::from_secs(5);
/// A session calls rustls and redb, no deeper.
const STACK_BYTES: usize = 512 * 1024;
/// After an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How the arbiter is served.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// Where it listens; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Certificates. None: loopback only, for tests and a first try.
    pub tls: Option<Tls>,
}

/// A running arbiter; it stops when it is dropped.
pub struct ArbiterServer {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
    listeners: Vec<(TcpListener, JoinHandle<()>)>,
}

/// What the arbiter's threads share.
pub(super) struct Shared {
    pub(super) store: Arc<LocalStore>,
    tls: Option<Arc<ServerConfig>>,
    stopping: AtomicBool,
    guests: Mutex<Guests>,
}

#[derive(Default)]
struct Guests {
    last: u64,
    present: BTreeMap<u64, Guest>,
    /// Threads that are at their end, to be joined by whoever comes next.
    left: Vec<JoinHandle<()>>,
}

struct Guest {
    socket: TcpStream,
    thread: Option<JoinHandle<()>>,
    from: IpAddr,
    /// Whose certificate it showed; none: none yet, or it needs none.
    shown: Option<Shown>,
    rank: Rank,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Rank {
    /// It has not said hello yet.
    Stranger,
    /// A node of the cluster.
    Node,
    /// It was closed and is about to leave.
    Closed,
}

impl ArbiterServer {
    /// Serves `store` until the value is dropped.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn start(store: Arc<LocalStore>, config: &ServeConfig) -> Result<Self, ConfigError> {
        if let (None, Some(open)) = (&config.tls, config.listen.iter().find(|address| !address.ip().is_loopback())) {
            return Err(ConfigError::Plain { address: open.to_string() });
        }
        let tls = config.tls.as_ref().map(Tls::server).transpose()?;
        let (stopping, guests) = (AtomicBool::new(false), Mutex::default());
        let shared = Arc::new(Shared { store, tls, stopping, guests });
        let mut server = Self { shared, addresses: Vec::new(), listeners: Vec::new() };
        for &address in &config.listen {
            let listen = |source| ConfigError::Listen { address, source };
            let listener = TcpListener::bind(address).map_err(listen)?;
            server.addresses.push(listener.local_addr().map_err(listen)?);
            let (shared, accepting) = (Arc::clone(&server.shared), listener.try_clone().map_err(listen)?);
            let thread = thread::Builder::new().name("arbiter".to_owned()).stack_size(STACK_BYTES);
            let thread = thread.spawn(move || shared.accept(&accepting));
            server.listeners.push((listener, thread.map_err(|source| ConfigError::Thread { source })?));
        }
        Ok(server)
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Connections now.
    pub fn connections(&self) -> usize {
        self.shared.guests().present.len()
    }
}

impl Drop for ArbiterServer {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        for (listener, _) in &self.listeners {
            // Wakes the thread that accepts.
            let _ = SockRef::from(listener).shutdown(Shutdown::Both);
        }
        for (listener, thread) in self.listeners.drain(..) {
            drop(listener);
            let _ = thread.join();
        }
        let threads: Vec<_> = {
            let guests = &mut *self.shared.guests();
            for guest in guests.present.values() {
                let _ = guest.socket.shutdown(Shutdown::Both);
            }
            guests.left.drain(..).chain(guests.present.values_mut().filter_map(|guest| guest.thread.take())).collect()
        };
        self.shared.store.latest().ring();
        for thread in threads {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn guests(&self) -> MutexGuard<'_, Guests> {
        // Every change is one insertion or removal.
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        while !self.is_stopping() {
            match listener.accept() {
                // A connection that cannot have a place or a thread is closed: its node tries again.
                Ok((socket, from)) => drop(self.admit(socket, from.ip())),
                Err(_) if self.is_stopping() => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(_) => thread::sleep(ACCEPT_PAUSE),
            }
        }
    }

    fn admit(self: &Arc<Self>, socket: TcpStream, from: IpAddr) -> io::Result<()> {
        let mut guests = self.guests();
        for thread in guests.left.drain(..) {
            let _ = thread.join();
        }
        if guests.count(Rank::Stranger) >= STRANGERS_MAX {
            guests.close_a_stranger();
        }
        if guests.present.len() >= CONNECTIONS_MAX {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        guests.last += 1;
        let number = guests.last;
        let guest = Guest { socket: socket.try_clone()?, thread: None, from, shown: None, rank: Rank::Stranger };
        guests.present.insert(number, guest);
        let shared = Arc::clone(self);
        let thread = thread::Builder::new().name("arbiter-node".to_owned()).stack_size(STACK_BYTES);
        let thread = thread.spawn(move || {
            let leaving = Leaving { shared: &shared, number };
            // Why a connection ended is the client's to say: it sees the same.
            let _ = shared.serve(socket, number);
            drop(leaving);
        });
        match thread {
            Ok(thread) => {
                // It cannot have left yet: leaving takes the lock.
                guests.present.entry(number).and_modify(|guest| guest.thread = Some(thread));
                Ok(())
            }
            Err(error) => {
                guests.present.remove(&number);
                Err(error)
            }
        }
    }

    fn serve(&self, socket: TcpStream, number: u64) -> io::Result<()> {
        let link = Link::accept(socket, self.tls.as_ref(), HELLO_TIME)?;
        session::run(self, link, number)
    }

    /// The connection belongs to a node of the cluster, as its certificate shows; false if there are too many of them.
    pub(super) fn enter(&self, number: u64, shown: Option<Shown>) -> bool {
        let mut guests = self.guests();
        if guests.count(Rank::Node) >= SESSIONS_MAX {
            return false;
        }
        match guests.present.get_mut(&number) {
            Some(guest) if guest.rank == Rank::Stranger => {
                guest.rank = Rank::Node;
                guest.shown = shown;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Whether the connection is still a node's: one that was removed since gets no answer, whatever it sent before.
    pub(super) fn is_welcome(&self, number: u64) -> bool {
        self.guests().present.get(&number).is_some_and(|guest| guest.rank == Rank::Node)
    }

    /// Whether what was shown is of a node that was removed.
    pub(super) fn is_outcast(&self, shown: Option<&Shown>) -> Result<bool, StoreError> {
        let Some(shown) = shown else { return Ok(false) };
        Ok(outcast::is_outcast(shown, &outcast::nodes(self.store.database()?)?))
    }

    /// Nodes changed: closes the connections of those that were removed.
    pub(super) fn expel(&self) {
        let nodes = self.store.database().and_then(outcast::nodes);
        // What cannot be read cannot be changed: the arbiter ends.
        let Ok(nodes) = nodes else { return };
        for guest in self.guests().present.values_mut().filter(|guest| guest.rank == Rank::Node) {
            if guest.shown.as_ref().is_some_and(|shown| outcast::is_outcast(shown, &nodes)) {
                guest.rank = Rank::Closed;
                let _ = guest.socket.shutdown(Shutdown::Both);
            }
        }
    }
}

impl Guests {
    fn count(&self, rank: Rank) -> usize {
        self.present.values().filter(|guest| guest.rank == rank).count()
    }

    /// The one that sits there longest, of those who have the most connections: one machine that opens many must
    /// not keep the others out.
    fn close_a_stranger(&mut self) {
        let mut crowds: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for guest in self.present.values().filter(|guest| guest.rank == Rank::Stranger) {
            *crowds.entry(guest.from).or_default() += 1;
        }
        let Some((crowd, _)) = crowds.into_iter().max_by_key(|&(_, count)| count) else { return };
        let mut guests = self.present.values_mut();
        if let Some(guest) = guests.find(|guest| guest.rank == Rank::Stranger && guest.from == crowd) {
            guest.rank = Rank::Closed;
            let _ = guest.socket.shutdown(Shutdown::Both);
        }
    }
}

/// Gives the place back however the session ends.
struct Leaving<'a> {
    shared: &'a Shared,
    number: u64,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let mut guests = self.shared.guests();
        let thread = guests.present.remove(&self.number).and_then(|guest| guest.thread);
        guests.left.extend(thread);
    }
}
