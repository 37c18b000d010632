//! Sessions that only exist: they answer pings and ask for nothing.

use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::initiator::{Options, Session, SessionError};

/// Longer than any test: a held session waits for pings that may never come.
const FOREVER: Duration = Duration::from_secs(24 * 3600);

/// Idle sessions; dropping it closes them.
#[derive(Debug)]
pub struct Held {
    sockets: Vec<TcpStream>,
    threads: Vec<JoinHandle<()>>,
    alive: Arc<AtomicUsize>,
}

impl Held {
    /// Opens `count` sessions, one thread each.
    pub fn open(options: &Options, count: u32) -> Result<Self, SessionError> {
        let mut held = Self { sockets: Vec::new(), threads: Vec::new(), alive: Arc::new(AtomicUsize::new(0)) };
        for index in 0..count {
            let options = Options { session: options.session.wrapping_add(index), ..options.clone() };
            let mut session = Session::login(&options)?;
            session.stream().set_patience(FOREVER)?;
            let socket = session.stream().socket().try_clone().map_err(crate::initiator::StreamError::Socket)?;
            held.sockets.push(socket);
            let alive = Arc::clone(&held.alive);
            alive.fetch_add(1, Ordering::Relaxed);
            held.threads.push(std::thread::spawn(move || {
                while session.receive().is_ok() {}
                alive.fetch_sub(1, Ordering::Relaxed);
            }));
        }
        Ok(held)
    }

    /// Sessions that the target has not closed.
    pub fn alive(&self) -> usize {
        self.alive.load(Ordering::Relaxed)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for socket in &self.sockets {
            // A socket that the target closed already cannot be shut down; that is no matter.
            let _ = socket.shutdown(Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
