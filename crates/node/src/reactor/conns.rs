//! Connections: what the node keeps about each, and the table that they are in.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use dyad_iscsi::{Command, Connection, SessionKey, TaskTag};
use dyad_payload::BufMut;
use dyad_scsi::{NexusId, Task};
use dyad_units::Moment;

use crate::control::IoCounters;

/// Generations stay below 2^31: the other numbers name what is not a connection, for epoll.
const GENERATION_MASK: u32 = u32::MAX >> 1;

/// Names a connection; one that came later in the same place has another generation.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct ConnRef {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl ConnRef {
    /// As a number, for epoll.
    pub(crate) fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    pub(crate) fn from_u64(value: u64) -> Self {
        Self { index: value as u32, generation: (value >> 32) as u32 }
    }
}

/// A TCP connection of a host.
pub(crate) struct Conn {
    pub(crate) socket: OwnedFd,
    pub(crate) iscsi: Connection,
    pub(crate) peer: SocketAddr,
    /// Our address, as the host sees it.
    pub(crate) portal: SocketAddr,
    /// The name that the host claims; known from its first login request on.
    pub(crate) claim: Option<String>,
    /// Not logged in, or only to ask for targets: to be dropped first when room is needed.
    pub(crate) is_half_open: bool,
    /// `None` until the login is over, and after the end.
    pub(crate) session: Option<Box<Session>>,
    /// The receive buffer that the rest of a command's data goes into, and how much of it is filled.
    pub(crate) rest: Option<(BufMut, usize)>,
    /// Since when nothing moved although it is the host's turn: it takes no answers, or owes data.
    pub(crate) still_since: Option<Moment>,
    /// What epoll watches for.
    pub(crate) interest: Interest,
    /// No buffer was left to receive into; tried again soon.
    pub(crate) is_starved: bool,
    /// The connection said that it is over: the socket closes when its last bytes are sent, or then.
    pub(crate) closes_at: Option<Moment>,
    /// In the list of those to be looked at before the turn ends.
    pub(crate) is_listed: bool,
    pub(crate) timer: Option<Moment>,
}

/// What epoll watches a socket for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Interest {
    pub(crate) input: bool,
    pub(crate) output: bool,
}

/// A session in full feature phase.
pub(crate) struct Session {
    /// Names it for people.
    pub(crate) id: u64,
    pub(crate) tsih: u16,
    pub(crate) key: SessionKey,
    pub(crate) initiator: Arc<str>,
    /// The volume and the nexus there; `None` for discovery, and of an exported image.
    pub(crate) use_of: Option<(u32, NexusId)>,
    /// The exported image that it reads, and the nexus there, in the place of a volume.
    pub(crate) export: Option<(u32, NexusId)>,
    pub(crate) since: Moment,
    /// Its host was asked to log out in this drain, or cannot get anywhere else.
    pub(crate) is_settled: bool,
    /// By the task's slot.
    pub(crate) tasks: Vec<Held>,
    pub(crate) in_flight: u32,
    /// Bytes of write data that were wished for or asked for and are not here.
    pub(crate) wished: u64,
    /// Commands that wait until the session may wish for more, oldest first; each is in `tasks`.
    pub(crate) line: VecDeque<TaskTag>,
    pub(crate) io: IoCounters,
}

/// How far a command is with its data-out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Asking {
    /// Its session has wishes enough.
    InLine,
    /// It waits for room in the budget shared by all.
    Wished,
    /// The host was asked, and the budget is used.
    Asked,
}

/// What a task waits for. Kept in place: a command allocates nothing.
#[allow(clippy::large_enum_variant, reason = "a box per command is what this avoids")]
pub(crate) enum Held {
    /// There is no such task.
    Nothing,
    /// Its data-out, `len` bytes.
    DataOut { tag: TaskTag, task: Task, len: u32, asking: Asking },
    /// Its volume's limit: it was not begun. Its host's data that came with it pin so many bytes.
    AtDoor { tag: TaskTag, command: Command, pinned: u32 },
    /// The volume; the index of the operation there.
    Volume { tag: TaskTag, op: u32 },
}

impl Held {
    /// Bytes of the budget that it uses.
    pub(crate) fn asked_bytes(&self) -> u32 {
        match self {
            Self::DataOut { len, asking: Asking::Asked, .. } => *len,
            _ => 0,
        }
    }
}

/// All connections.
#[derive(Default)]
pub(crate) struct Conns {
    slots: Vec<Slot>,
    free: Vec<u32>,
    count: usize,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    conn: Option<Box<Conn>>,
}

impl Conns {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn add(&mut self, conn: Conn) -> ConnRef {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.conn = Some(Box::new(conn));
        self.count += 1;
        ConnRef { index, generation: slot.generation }
    }

    pub(crate) fn remove(&mut self, at: ConnRef) -> Option<Box<Conn>> {
        let slot = self.slots.get_mut(at.index as usize).filter(|slot| slot.generation == at.generation)?;
        let conn = slot.conn.take()?;
        slot.generation = slot.generation.wrapping_add(1) & GENERATION_MASK;
        self.free.push(at.index);
        self.count -= 1;
        Some(conn)
    }

    pub(crate) fn get(&self, at: ConnRef) -> Option<&Conn> {
        let slot = self.slots.get(at.index as usize).filter(|slot| slot.generation == at.generation)?;
        slot.conn.as_deref()
    }

    pub(crate) fn get_mut(&mut self, at: ConnRef) -> Option<&mut Conn> {
        let slot = self.slots.get_mut(at.index as usize).filter(|slot| slot.generation == at.generation)?;
        slot.conn.as_deref_mut()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ConnRef, &Conn)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let at = ConnRef { index: index as u32, generation: slot.generation };
            slot.conn.as_deref().map(|conn| (at, conn))
        })
    }

    pub(crate) fn sessions_mut(&mut self) -> impl Iterator<Item = &mut Session> {
        self.slots.iter_mut().filter_map(|slot| slot.conn.as_deref_mut()?.session.as_deref_mut())
    }
}

impl Session {
    /// Takes what the task with this tag waits for out of the table.
    pub(crate) fn take(&mut self, wanted: TaskTag) -> Held {
        let Some(held) = self.tasks.get_mut(wanted.slot()) else { return Held::Nothing };
        match held {
            Held::DataOut { tag, .. } | Held::AtDoor { tag, .. } | Held::Volume { tag, .. } if *tag == wanted => {
                self.in_flight -= 1;
                match held {
                    Held::DataOut { asking: Asking::InLine, .. } => self.line.retain(|tag| *tag != wanted),
                    Held::DataOut { len, .. } => self.wished -= u64::from(*len),
                    _ => {}
                }
                std::mem::replace(held, Held::Nothing)
            }
            _ => Held::Nothing,
        }
    }

    /// The next command in line, and its bytes, if the session may wish for as much more; one alone may have any size.
    pub(crate) fn wish_next(&mut self, max: u64) -> Option<(TaskTag, u32)> {
        let &wanted = self.line.front()?;
        let Some(Held::DataOut { len, asking, .. }) = self.tasks.get_mut(wanted.slot()) else { return None };
        if self.wished > 0 && self.wished + u64::from(*len) > max {
            return None;
        }
        *asking = Asking::Wished;
        self.wished += u64::from(*len);
        self.line.pop_front();
        Some((wanted, *len))
    }

    /// The task's data-out was asked for now; `false` if it does not wait for that.
    pub(crate) fn ask(&mut self, wanted: TaskTag) -> bool {
        match self.tasks.get_mut(wanted.slot()) {
            Some(Held::DataOut { tag, asking, .. }) if *tag == wanted && *asking == Asking::Wished => {
                *asking = Asking::Asked;
                true
            }
            _ => false,
        }
    }

    /// Notes what a task waits for that waits for nothing yet.
    pub(crate) fn hold(&mut self, tag: TaskTag, held: Held) {
        if self.tasks.len() <= tag.slot() {
            self.tasks.resize_with(tag.slot() + 1, || Held::Nothing);
        }
        let place = &mut self.tasks[tag.slot()];
        // Whatever was overwritten here would go on unknown to its session, and be answered for when it is aborted (M19).
        assert!(matches!(place, Held::Nothing), "a command's place is taken");
        *place = held;
        self.in_flight += 1;
    }
}
