//! The reactor itself: its state, and one turn of it.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use dyad_cluster::Incarnation;
use dyad_contract::image::{Reply, Token};
use dyad_mirror::{LeaseTuning, PartAction};
use dyad_payload::Slab;
use dyad_pool::{DiskOp, ImageHandle};
use dyad_scsi::NexusId;
use dyad_units::{Moment, NodeId, Period, PoolId, SegmentId, StoreId, VolumeId};
use rustix::event::{Timespec, epoll};

use super::conns::{ConnRef, Conns};
use super::exports::Exports;
use super::listen::Listener;
use super::mailbox::Mailbox;
use super::memory::{ANSWERS_OF_SESSION, Budget};
use super::message::Question;
use super::overlay::Overlays;
use super::peers::{PEERS, Peer};
use super::pools::PoolRoom;
use super::redirect::{Sent, Way};
use super::stop::Stopping;
use super::timers::{Timer, Timers};
use super::volumes::Volume;
use crate::beats::Beats;
use crate::clock;
use crate::disk::{DiskIndex, Disks, End, EngineError};
use crate::settings::Settings;
use crate::talk::Caller;

/// Descriptors looked at per turn; the others come with the next.
const EVENTS_PER_TURN: usize = 256;
/// Names in epoll for what is not a connection; connections are below 2^63.
const MAILBOX: u64 = u64::MAX;
const DISKS: u64 = u64::MAX - 1;
const LISTENERS: u64 = u64::MAX - 1024;

/// What a reactor is made from.
pub(crate) struct ReactorSetup {
    pub(crate) settings: Arc<Settings>,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) questions: SyncSender<Question>,
    pub(crate) callers: SyncSender<Caller>,
    pub(crate) slab: Slab,
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    /// Which config store the records are from (section 8).
    pub(crate) store: StoreId,
    pub(crate) beats: Arc<Beats>,
}

/// A reactor could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReactorError {
    /// No way to disks.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The kernel has no descriptor left.
    #[error("the event loop cannot be made")]
    Epoll(#[source] std::io::Error),
}

/// A panic that was caught, as text.
#[derive(Debug)]
pub(crate) struct Fault(pub(crate) String);

/// Everything that the data thread owns.
pub(crate) struct Reactor {
    pub(super) settings: Arc<Settings>,
    pub(super) iscsi: Arc<dyad_iscsi::Settings>,
    pub(super) slab: Slab,
    pub(super) node: NodeId,
    pub(super) incarnation: Incarnation,
    pub(super) store: StoreId,
    pub(super) beats: Arc<Beats>,
    /// Connections to other nodes.
    pub(super) peers: Vec<Option<Box<Peer>>>,
    pub(super) dirty_peers: Vec<usize>,
    /// Whose part in which segment is here: its volume.
    pub(super) segments: BTreeMap<SegmentId, u32>,
    pub(super) epoll: OwnedFd,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) questions: SyncSender<Question>,
    /// Takes questions of other nodes.
    pub(super) callers: SyncSender<Caller>,
    pub(super) listeners: Vec<Listener>,
    /// Listeners rest until then, because there was no room for another connection.
    pub(super) listen_again: Option<Moment>,
    /// When the turn began.
    pub(super) now: Moment,
    pub(super) conns: Conns,
    /// Connections in the order in which they came; those that logged in since are skipped.
    pub(super) arrivals: VecDeque<ConnRef>,
    pub(super) half_open: usize,
    /// Connections to be looked at before the turn ends.
    pub(super) listed: Vec<ConnRef>,
    pub(super) starved: Vec<ConnRef>,
    pub(super) volumes: Vec<Option<Box<Volume>>>,
    pub(super) dirty_volumes: Vec<u32>,
    pub(super) exports: Exports,
    pub(super) overlays: Overlays,
    pub(super) pools: Vec<Option<Box<PoolRoom>>>,
    pub(super) dirty_pools: Vec<u32>,
    pub(super) disks: Disks,
    /// Disks of pools that are gone, which have operations in flight.
    pub(super) leaving: Vec<DiskIndex>,
    pub(super) failed_volumes: Vec<(VolumeId, String)>,
    pub(super) failed_pools: Vec<(PoolId, String)>,
    pub(super) timers: Timers,
    pub(super) timer: Option<Moment>,
    pub(super) next_id: u64,
    pub(super) next_tsih: u16,
    /// The cluster has other nodes.
    pub(super) has_neighbours: bool,
    /// All that the config store names, in ascending order.
    pub(super) nodes: Vec<NodeId>,
    /// How hosts come to them.
    pub(super) ways: Vec<Way>,
    /// Hosts that were sent to other nodes lately.
    pub(super) sent: Vec<Sent>,
    /// When sessions were closed last because this process had not been running (M19).
    pub(super) paused_at: Option<Moment>,
    /// When the config store last answered a part.
    pub(super) store_heard: Moment,
    /// Volumes are there as far as they can be.
    pub(super) is_open: bool,
    pub(super) stopping: Option<Stopping>,
    pub(super) is_done: bool,
    pub(super) refused: u64,
    pub(super) faults: u64,
    /// Operations that did not end in time when the reactor was stopped.
    pub(super) left: usize,
    pub(super) budget: Budget,
    pub(super) scratch: Scratch,
}

/// Queues that keep their memory from turn to turn.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) actions: Vec<PartAction>,
    pub(super) disk_ops: Vec<DiskOp>,
    pub(super) replies: Vec<(ImageHandle, Token, Reply)>,
    pub(super) ends: Vec<End>,
    pub(super) conns: Vec<ConnRef>,
}

impl Reactor {
    /// Makes a reactor; to be called on the thread that will run it.
    pub(crate) fn new(setup: ReactorSetup) -> Result<Self, ReactorError> {
        let disks = Disks::new(&setup.settings.disk)?;
        let fault = |errno: rustix::io::Errno| ReactorError::Epoll(errno.into());
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(fault)?;
        let watch = |fd: std::os::fd::BorrowedFd<'_>, name| {
            epoll::add(&epoll, fd, epoll::EventData::new_u64(name), epoll::EventFlags::IN).map_err(fault)
        };
        watch(setup.mailbox.descriptor(), MAILBOX)?;
        watch(disks.descriptor(), DISKS)?;
        for (number, listener) in setup.listeners.iter().enumerate() {
            watch(listener.socket.as_fd(), listener_name(number))?;
        }
        let buffers = setup.settings.buffers.value();
        Ok(Self {
            iscsi: Arc::new(setup.settings.iscsi.for_connections(buffers / ANSWERS_OF_SESSION)),
            settings: setup.settings,
            slab: setup.slab,
            node: setup.node,
            incarnation: setup.incarnation,
            store: setup.store,
            beats: setup.beats,
            peers: Vec::new(),
            dirty_peers: Vec::new(),
            segments: BTreeMap::new(),
            epoll,
            mailbox: setup.mailbox,
            questions: setup.questions,
            callers: setup.callers,
            listeners: setup.listeners,
            listen_again: None,
            now: clock::now(),
            conns: Conns::default(),
            arrivals: VecDeque::new(),
            half_open: 0,
            listed: Vec::new(),
            starved: Vec::new(),
            volumes: Vec::new(),
            dirty_volumes: Vec::new(),
            exports: Exports::default(),
            overlays: Overlays::default(),
            pools: Vec::new(),
            dirty_pools: Vec::new(),
            disks,
            leaving: Vec::new(),
            failed_volumes: Vec::new(),
            failed_pools: Vec::new(),
            timers: Timers::default(),
            timer: None,
            next_id: 1,
            next_tsih: 1,
            has_neighbours: false,
            nodes: Vec::new(),
            ways: Vec::new(),
            sent: Vec::new(),
            paused_at: None,
            store_heard: clock::now(),
            is_open: false,
            stopping: None,
            is_done: false,
            refused: 0,
            faults: 0,
            left: 0,
            budget: Budget::new(buffers),
            scratch: Scratch::default(),
        })
    }

    /// Runs until it was told to stop and everything is closed.
    pub(crate) fn run(&mut self) {
        let mut events = Vec::with_capacity(EVENTS_PER_TURN);
        while !self.is_done {
            self.look_at_turn();
            self.wait(&mut events);
            self.turn(&events);
        }
    }

    /// Nothing is read from sockets of hosts that waited for a turn longer than a lease, as a system call can hold one up
    /// where a disk hangs (M19): their hosts may have gone on at another node with what lies there. The thread that
    /// beats goes on meanwhile, so nobody else notices.
    pub(super) fn look_at_turn(&mut self) {
        let now = clock::now();
        let took = now.since(self.now);
        if !self.has_neighbours || took <= LeaseTuning::default().length {
            return;
        }
        self.now = now;
        tracing::warn!(%took, "sessions of hosts are closed: this node was held up for longer than a lease");
        for index in 0..self.volumes.len() as u32 {
            self.close_sessions(index, "this node was held up for a while");
        }
        self.settle();
        self.disks.flush();
    }

    /// Waits for something to do, at most until the next deadline.
    fn wait(&mut self, events: &mut Vec<epoll::Event>) {
        let timeout = self.timers.next().map(|deadline| {
            let left = deadline.since(clock::now()).as_nanos();
            Timespec { tv_sec: (left / 1_000_000_000) as i64, tv_nsec: (left % 1_000_000_000) as i64 }
        });
        events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // Nothing that a program can do brings this about; to spin would be worse than to end.
            Err(errno) => panic!("the event loop failed: {errno}"),
        }
        self.now = clock::now();
    }

    fn turn(&mut self, events: &[epoll::Event]) {
        let mut has_mail = false;
        for event in events {
            match event.data.u64() {
                DISKS => {}
                MAILBOX => has_mail = true,
                name if name >= LISTENERS => self.accept((name - LISTENERS) as usize),
                name if name >= PEERS => self.on_peer((name - PEERS) as usize, event.flags),
                name => {
                    let at = ConnRef::from_u64(name);
                    self.guard_conn(at, |reactor| reactor.on_socket(at, event.flags));
                }
            }
        }
        self.collect_disks();
        // Looking costs a system call, so only when the bell rang; it rings until the box was found empty.
        while has_mail && let Some(message) = self.mailbox.take() {
            self.on_message(message);
        }
        while let Some((deadline, timer)) = self.timers.take_due(self.now) {
            self.on_timer(deadline, timer);
        }
        self.settle();
        self.relieve();
        self.disks.flush();
        self.advance_stop();
    }

    /// Lets everything act until nothing moves any more, and sends what is to be sent.
    pub(super) fn settle(&mut self) {
        loop {
            self.pump();
            self.grant_wishes();
            if self.listed.is_empty() {
                break;
            }
            let mut listed = std::mem::replace(&mut self.listed, std::mem::take(&mut self.scratch.conns));
            for &at in &listed {
                self.guard_conn(at, |reactor| reactor.drain_events(at));
            }
            // Answers of volumes that can answer at once go out in the same segment.
            self.pump();
            for &at in &listed {
                if let Some(conn) = self.conns.get_mut(at) {
                    conn.is_listed = false;
                }
                self.guard_conn(at, |reactor| reactor.send(at));
            }
            listed.clear();
            self.scratch.conns = listed;
        }
    }

    /// Serves a connection; a panic closes it. Panics of volumes and pools are caught closer to them.
    fn guard_conn(&mut self, at: ConnRef, serve: impl FnOnce(&mut Self)) {
        if let Err(fault) = guarded(|| serve(self)) {
            self.fail_conn(at, &fault.0);
        }
    }

    /// The volume that a connection uses, and its nexus there.
    pub(super) fn use_of(&self, at: ConnRef) -> Option<(u32, NexusId)> {
        self.conns.get(at)?.session.as_ref()?.use_of
    }

    /// Has a connection looked at before the turn ends.
    pub(super) fn list(&mut self, at: ConnRef) {
        if let Some(conn) = self.conns.get_mut(at)
            && !conn.is_listed
        {
            conn.is_listed = true;
            self.listed.push(at);
        }
    }

    fn on_timer(&mut self, deadline: Moment, timer: Timer) {
        match timer {
            Timer::Conn(at) => self.guard_conn(at, |reactor| reactor.on_conn_timer(at, deadline)),
            Timer::Volume(volume) => self.on_volume_timer(volume, deadline),
            Timer::Door(volume) => self.on_door_timer(volume, deadline),
            Timer::Pool(pool) => self.on_pool_timer(pool, deadline),
            Timer::Reactor => {
                if self.timer == Some(deadline) {
                    self.timer = None;
                }
                self.wake_starved();
                self.wake_starved_peers();
                self.end_silent_peers();
                self.wake_listeners();
                self.wake_waiters();
                self.wake_paused();
            }
        }
    }

    /// Looks at what is the reactor's own after `period`.
    pub(super) fn wake_in(&mut self, period: Period) {
        let deadline = self.now + period;
        self.timers.want(Timer::Reactor, &mut self.timer, Some(deadline));
    }

    /// A number that was not used before.
    pub(super) fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    /// Waits for the disks, at most `timeout`; for the end of the reactor.
    pub(super) fn drain_disks(&mut self, timeout: Duration) -> bool {
        let mut ends = std::mem::take(&mut self.scratch.ends);
        let is_done = self.disks.drain(timeout, &mut ends);
        self.complete_disks(&mut ends);
        self.scratch.ends = ends;
        is_done
    }
}

/// A listener's name in epoll.
pub(super) fn listener_name(number: usize) -> u64 {
    LISTENERS + number as u64
}

/// Runs a part that must not take the others with it.
pub(crate) fn guarded<R>(part: impl FnOnce() -> R) -> Result<R, Fault> {
    catch_unwind(AssertUnwindSafe(part)).map_err(|panic| Fault(text_of(&*panic)))
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without words").to_owned()
}
