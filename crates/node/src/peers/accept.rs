//! The accepting side: listens, and lets each stranger greet on a thread of its own, few at a time.
//!
//! Anybody who reaches the address may come and say nothing, so no stranger keeps a place that a newer one needs: a node greets
//! within milliseconds, and of a flood each connection only pushes out an older one of it.

use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::SockRef;

use super::{Peers, greet};

/// Greetings at a time: two for each of several nodes that all start at once. For one more the oldest is ended; if that was
/// a node, it comes again.
const STRANGERS_MAX: usize = 16;
/// Of them from one address: two for each of several nodes on one machine, and never all, so that who floods from one
/// address pushes out nobody else.
const STRANGERS_OF_ADDRESS_MAX: usize = 8;
/// How long the thread of a greeting that was ended may take to go, before another one is ended for the newest: it only has
/// to notice.
const LEAVE_TIME: Duration = Duration::from_millis(100);
/// After an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A greeting calls the pure protocol and rustls, no deeper.
const STACK_BYTES: usize = 512 * 1024;

/// Where the other nodes come in. Closed when it is dropped.
#[derive(Debug)]
pub(crate) struct Door {
    address: SocketAddr,
    listener: TcpListener,
    is_closing: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Door {
    /// Listens on an address. Nobody is let in before [`Self::open`].
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        Ok(Self { address, listener, is_closing: Arc::default(), thread: None })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets nodes in.
    pub(crate) fn open(&mut self, peers: &Arc<Peers>) -> io::Result<()> {
        let (listener, is_closing, peers) = (self.listener.try_clone()?, self.is_closing.clone(), peers.clone());
        let thread = std::thread::Builder::new().name("peers".into());
        self.thread = Some(thread.spawn(move || run(&listener, &is_closing, &peers))?);
        Ok(())
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.is_closing.store(true, Ordering::Release);
        // Wakes the thread that accepts.
        let _ = SockRef::from(&self.listener).shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(listener: &TcpListener, is_closing: &AtomicBool, peers: &Arc<Peers>) {
    let strangers = Arc::new(Strangers::default());
    while !is_closing.load(Ordering::Acquire) {
        match listener.accept() {
            Ok((socket, from)) => admit(socket, from, peers, &strangers),
            Err(_) if is_closing.load(Ordering::Acquire) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => std::thread::sleep(ACCEPT_PAUSE),
        }
    }
}

fn admit(socket: TcpStream, from: SocketAddr, peers: &Arc<Peers>, strangers: &Arc<Strangers>) {
    let Some(place) = strangers.place_for(&socket, from.ip()) else {
        return; // closed; its node comes again
    };
    let peers = peers.clone();
    let thread = std::thread::Builder::new().name("greeting".into()).stack_size(STACK_BYTES);
    let spawned = thread.spawn(move || {
        let greeted = greet::accepting(&peers, socket);
        // It is no stranger any more, and nobody may end it.
        drop(place);
        match greeted {
            Ok(Some((link, kind))) => peers.deliver(link, kind),
            Ok(None) => {}
            Err(error) if error.is_of_trust() => peers.turn_away(from, crate::admin::chain(&error)),
            // The other side says it in its log as well; a stranger may come often.
            Err(error) => tracing::debug!(%from, %error, "a connection was not accepted"),
        }
    });
    if let Err(error) = spawned {
        tracing::warn!(%from, %error, "a connection was not accepted");
    }
}

/// Connections that are greeting.
#[derive(Default)]
struct Strangers {
    list: Mutex<Vec<Stranger>>,
    left: Condvar,
}

struct Stranger {
    number: u64,
    from: IpAddr,
    /// To end it; none: it was ended, and its thread is about to go.
    socket: Option<TcpStream>,
}

impl Strangers {
    /// A place for one more, which is given back when it is dropped.
    fn place_for(self: &Arc<Self>, socket: &TcpStream, from: IpAddr) -> Option<Place> {
        let socket = socket.try_clone().ok()?;
        let mut list = self.list();
        let number = list.last().map_or(0, |newest| newest.number + 1);
        while !has_room(&list, from) {
            if !end_oldest(&mut list, from) {
                return None;
            }
            let before = list.len();
            let (guard, waited) = (self.left)
                .wait_timeout_while(list, LEAVE_TIME, |list| list.len() >= before)
                .unwrap_or_else(PoisonError::into_inner);
            list = guard;
            if waited.timed_out() {
                tracing::debug!(%from, "a connection that was ended for a newer one is not gone yet");
            }
        }
        list.push(Stranger { number, from, socket: Some(socket) });
        Some(Place { strangers: self.clone(), number })
    }

    fn list(&self) -> MutexGuard<'_, Vec<Stranger>> {
        // Every change is one insertion or removal.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn has_room(list: &[Stranger], from: IpAddr) -> bool {
    list.len() < STRANGERS_MAX && list.iter().filter(|known| known.from == from).count() < STRANGERS_OF_ADDRESS_MAX
}

/// Ends the oldest whose going makes room for one from this address; `false`: all of them are ended already.
fn end_oldest(list: &mut [Stranger], from: IpAddr) -> bool {
    let is_crowd = list.iter().filter(|known| known.from == from).count() >= STRANGERS_OF_ADDRESS_MAX;
    let mut oldest = list.iter_mut().filter(|known| !is_crowd || known.from == from);
    let Some(socket) = oldest.find_map(|known| known.socket.take()) else { return false };
    // Its thread reads the end of the connection.
    let _ = socket.shutdown(Shutdown::Both);
    true
}

/// Given back however the greeting ends.
struct Place {
    strangers: Arc<Strangers>,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.strangers.list().retain(|known| known.number != self.number);
        self.strangers.left.notify_all();
    }
}
