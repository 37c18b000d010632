//! The thread that beats: it keeps the node's table of leases (M5), and asks the other nodes for theirs, whatever the
//! reactor does.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dyad_mirror::{Beat, Leases};
use dyad_units::{Moment, NodeId, Period};
use dyad_wire::{Incoming, Polled};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags};

use crate::clock;
use crate::peers::Link;
use crate::peers::tls::TlsError;

/// Of the thread (nice(2)).
const PRIORITY: i32 = -20;
/// Slices handed to the kernel at a time: a beat is one, unless it lists thousands of segments.
const SLICES: usize = 16;

/// The node's one table of leases, asked by every part; and the way to the thread that beats.
pub(crate) struct Beats {
    leases: Mutex<Leases>,
    inbox: Mutex<Inbox>,
    wake: OwnedFd,
}

#[derive(Default)]
struct Inbox {
    links: Vec<Link>,
    /// Nodes whose connections end.
    removed: Vec<NodeId>,
    is_over: bool,
}

impl Beats {
    pub(crate) fn new(leases: Leases) -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { leases: Mutex::new(leases), inbox: Mutex::default(), wake })
    }

    /// Held for one call of a part, one beat or one answer.
    pub(crate) fn leases(&self) -> MutexGuard<'_, Leases> {
        // A part that panicked with it is out of service; what the table says of the others stays true.
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection for beats; it takes the place of an older one to the same node.
    pub(crate) fn add(&self, link: Link) {
        self.inbox().links.push(link);
        self.ring();
    }

    /// The node is of the cluster no more: its connection ends, and what it may still say grants nothing.
    pub(crate) fn forget(&self, node: NodeId) {
        let mut inbox = self.inbox();
        inbox.links.retain(|link| link.node != node);
        inbox.removed.push(node);
        drop(inbox);
        self.ring();
    }

    /// The thread ends.
    pub(crate) fn end(&self) {
        self.inbox().is_over = true;
        self.ring();
    }

    /// A beat is wanted sooner than planned.
    pub(crate) fn ring(&self) {
        // Fails only when 2^64 - 1 wake-ups are pending; then it is readable already.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs until [`Self::end`].
    pub(crate) fn run(&self) {
        // Before everybody else, where that is allowed: a beat that is late by L is as good as none.
        let _ = rustix::process::setpriority_process(None, PRIORITY);
        let mut links: Vec<Link> = Vec::new();
        loop {
            let inbox = std::mem::take(&mut *self.inbox());
            if inbox.is_over {
                self.inbox().is_over = true;
                return;
            }
            links.retain(|link| !inbox.removed.contains(&link.node));
            for link in inbox.links {
                links.retain(|older| older.node != link.node);
                links.push(link);
            }
            // A node without neighbours beats all the same: that is how a pause of the process is noticed (M6).
            let beat = self.leases().beat(clock::now());
            links.retain_mut(|link| self.serve(link, beat.as_ref()));
            let next = self.leases().next_beat();
            self.wait(&links, next);
        }
    }

    /// Takes what came, says what is due; false if the connection is over.
    fn serve(&self, link: &mut Link, beat: Option<&Beat>) -> bool {
        // Whoever did not take the last beat yet gets no other: it would be as late.
        if let Some(beat) = beat.filter(|_| link.is_sent())
            && link.sender.beat(beat).is_err()
        {
            return false;
        }
        self.receive(link) && send(link)
    }

    fn receive(&self, link: &mut Link) -> bool {
        loop {
            match link.receiver.poll() {
                Ok(Polled::Incoming(Incoming::Beat(beat))) => {
                    let answer = self.leases().on_beat(clock::now(), link.node, &beat);
                    if link.sender.beat_answer(&answer).is_err() {
                        return false;
                    }
                }
                Ok(Polled::Incoming(Incoming::BeatAnswer(answer))) => {
                    self.leases().on_answer(clock::now(), link.node, &answer);
                }
                Ok(Polled::Incoming(_) | Polled::NeedsMemory) => return false,
                Ok(Polled::NeedsBytes) => match receive_some(link) {
                    Ok(true) => {}
                    Ok(false) => return true,
                    Err(_) => return false,
                },
                Err(error) => {
                    tracing::warn!(node = %link.node, %error, "a connection for beats is closed");
                    return false;
                }
            }
        }
    }

    fn wait(&self, links: &[Link], next: Moment) {
        let left = next.since(clock::now()).max(Period::from_nanos(1)).as_nanos();
        let timeout = Timespec { tv_sec: (left / 1_000_000_000) as i64, tv_nsec: (left % 1_000_000_000) as i64 };
        let mut fds = vec![PollFd::new(&self.wake, PollFlags::IN)];
        fds.extend(links.iter().map(|link| {
            let output = if link.is_sent() { PollFlags::empty() } else { PollFlags::OUT };
            PollFd::new(&link.socket, PollFlags::IN | output)
        }));
        // Whatever it fails of, the loop looks at everything again.
        let _ = rustix::event::poll(&mut fds, Some(&timeout));
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.wake, &mut count);
    }
}

/// Receives once; false if there is nothing now.
pub(crate) fn receive_some(link: &mut Link) -> Result<bool, Broken> {
    let Link { socket, receiver, records: Some(records), .. } = link else { return receive_plain(link) };
    loop {
        if records.open(receiver)? {
            return Ok(true);
        }
        match rustix::net::recv(socket.as_fd(), records.room(), RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Err(Errno::PIPE.into()),
            Ok((received, _)) => records.received(received),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

fn receive_plain(link: &mut Link) -> Result<bool, Broken> {
    if std::mem::take(&mut link.is_drained) {
        return Ok(false);
    }
    let mut room = [IoSliceMut::new(&mut []), IoSliceMut::new(&mut [])];
    let count = link.receiver.room(&mut room);
    let offered: usize = room[..count].iter().map(|slice| slice.len()).sum();
    let flags = RecvFlags::DONTWAIT;
    loop {
        let mut none = RecvAncillaryBuffer::default();
        match rustix::net::recvmsg(link.socket.as_fd(), &mut room[..count], &mut none, flags) {
            Ok(got) if got.bytes == 0 => return Err(Errno::PIPE.into()),
            Ok(got) => {
                link.is_drained = got.bytes < offered;
                link.receiver.received(got.bytes);
                return Ok(true);
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

/// A connection is over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("the connection broke: {0}")]
    Socket(#[from] Errno),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Sends what is queued, as far as the socket takes it; false if the connection is over.
pub(crate) fn send(link: &mut Link) -> bool {
    while !link.is_sent() {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = match &mut link.records {
            Some(records) => {
                if records.output().is_empty() && records.seal(&mut link.sender).is_err() {
                    return false;
                }
                rustix::net::send(&link.socket, records.output(), flags)
            }
            None => {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let count = link.sender.gather(&mut slices);
                rustix::net::sendmsg(&link.socket, &slices[..count], &mut SendAncillaryBuffer::default(), flags)
            }
        };
        match (sent, &mut link.records) {
            (Ok(sent), Some(records)) => records.transmitted(sent),
            (Ok(sent), None) => link.sender.transmitted(sent),
            (Err(Errno::INTR), _) => {}
            (Err(Errno::AGAIN), _) => return true,
            (Err(_), _) => return false,
        }
    }
    true
}

impl std::fmt::Debug for Beats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Beats")
    }
}
