//! The accepting side: listens, and lets each stranger greet on a thread of its own, few at a time.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::SockRef;

use super::{Peers, greet};

/// Greetings at a time: two for each of several nodes that all start at once. More are closed; they come again.
const STRANGERS_MAX: usize = 16;
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
    let strangers = Arc::new(AtomicUsize::new(0));
    while !is_closing.load(Ordering::Acquire) {
        match listener.accept() {
            Ok((socket, from)) => admit(socket, from, peers, &strangers),
            Err(_) if is_closing.load(Ordering::Acquire) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => std::thread::sleep(ACCEPT_PAUSE),
        }
    }
}

fn admit(socket: TcpStream, from: SocketAddr, peers: &Arc<Peers>, strangers: &Arc<AtomicUsize>) {
    if strangers.fetch_add(1, Ordering::AcqRel) >= STRANGERS_MAX {
        strangers.fetch_sub(1, Ordering::AcqRel);
        return; // closed; its node comes again
    }
    let place = Place(strangers.clone());
    let peers = peers.clone();
    let thread = std::thread::Builder::new().name("greeting".into()).stack_size(STACK_BYTES);
    let spawned = thread.spawn(move || {
        let _place = place;
        match greet::accepting(&peers, socket) {
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

/// Given back however the greeting ends.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
