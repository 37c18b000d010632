//! Limits of volumes: commands over the limit wait at the door, with nothing but their CDB and what their host sent
//! unasked. Each volume has a line of its own; how it moves is the share's to say.
//!
//! What waits here was not begun: it holds no lock, and whoever gives it up waits for nothing (M19). It is checked against
//! reservations and rights when it goes on.

use dyad_iscsi::share::{Cost, Rates, Share, Verdict};
use dyad_iscsi::{Command, TaskTag};
use dyad_scsi::{Response, Status, TRANSFER_BYTES_MAX};
use dyad_units::{Moment, Period};

use super::conns::{ConnRef, Held};
use super::run::Reactor;
use super::timers::Timer;

/// Part of the buffers that data sent unasked may pin while their commands wait at one volume's door: with the default
/// 512 MiB each may have 32 MiB, so many limited volumes leave room for the others.
const PINNED_PART: u64 = 16;
/// The line is looked at no more often: what could have gone on earlier goes on then, as a share saves up more than that.
const PAUSE_MIN: Period = Period::from_millis(1);

/// The door of a limited volume.
pub(super) struct Door {
    share: Share<ConnRef, TaskTag>,
    /// Bytes that waiting commands pin.
    pinned: u64,
    timer: Option<Moment>,
}

/// A record's limits, as the share takes them.
fn rates_of(limits: dyad_cluster::Limits) -> Rates {
    Rates { commands: limits.iops, bytes: limits.bandwidth, burst: Period::from_secs(u64::from(limits.burst_secs)) }
}

impl Door {
    /// `None` without limits: then nobody waits, and nothing is counted.
    pub(super) fn of(limits: dyad_cluster::Limits) -> Option<Box<Self>> {
        (!limits.is_none()).then(|| Box::new(Self { share: Share::new(rates_of(limits)), pinned: 0, timer: None }))
    }
}

/// What a command takes of its volume's share: those that read or write blocks, by what their host moves (SBC-3 table 33).
fn cost_of(command: &Command) -> Cost {
    match command.cdb[0] {
        // READ, WRITE, WRITE AND VERIFY, VERIFY of all lengths.
        0x08 | 0x0a | 0x28 | 0x2a | 0x2e | 0x2f | 0x88 | 0x8a | 0x8e | 0x8f | 0xa8 | 0xaa | 0xae | 0xaf
        // WRITE SAME, UNMAP, EXTENDED COPY, COMPARE AND WRITE, ORWRITE, WRITE ATOMIC.
        | 0x41 | 0x93 | 0x42 | 0x83 | 0x89 | 0x8b | 0x9c => {
            // A host may say any length; what is longer than a command may be is refused, and costs as little as that.
            Cost::Bytes(command.expected_len.min(TRANSFER_BYTES_MAX))
        }
        _ => Cost::Free,
    }
}

impl Reactor {
    /// Whether the command waits at its volume's door, or was sent away there.
    pub(super) fn holds_back(&mut self, at: ConnRef, index: u32, command: &Command) -> bool {
        let (now, pinned_max) = (self.now, self.settings.buffers.value() / PINNED_PART);
        let Some(conn) = self.conns.get_mut(at) else { return false };
        let first = conn.iscsi.parameters().map_or(0, |parameters| parameters.first_burst_bytes_max);
        let Some(session) = conn.session.as_mut() else { return false };
        let Some(volume) = self.volumes.get_mut(index as usize).and_then(Option::as_deref_mut) else { return false };
        let Some(door) = &mut volume.door else { return false };
        let pinned = if command.write { command.expected_len.min(first) } else { 0 };
        let is_much = door.pinned + u64::from(pinned) > pinned_max && session.in_flight > 0;
        match door.share.admit(now, at, command.task, cost_of(command), command.attribute) {
            Verdict::Go => return false,
            Verdict::Wait if is_much => drop(door.share.forget(at, command.task)),
            Verdict::Wait => {
                door.pinned += u64::from(pinned);
                session.hold(command.task, Held::AtDoor { tag: command.task, command: *command, pinned });
                self.time_door(index);
                return true;
            }
            Verdict::Full => {}
        }
        self.respond(at, command.task, Response::status(Status::TaskSetFull));
        true
    }

    /// Lets go on what may go on now.
    pub(super) fn open_door(&mut self, index: u32) {
        loop {
            let now = self.now;
            let Some(door) = self.volume_mut(index).and_then(|volume| volume.door.as_mut()) else { return };
            let Some((at, tag)) = door.share.next(now) else { break };
            let session = self.conns.get_mut(at).and_then(|conn| conn.session.as_mut());
            let held = session.map_or(Held::Nothing, |session| session.take(tag));
            let Held::AtDoor { command, pinned, .. } = held else { continue };
            if let Some(door) = self.volume_mut(index).and_then(|volume| volume.door.as_mut()) {
                door.pinned = door.pinned.saturating_sub(u64::from(pinned));
            }
            if let Some((_, nexus)) = self.use_of(at) {
                self.begin(at, (index, nexus), &command);
                self.list(at);
            }
        }
        self.time_door(index);
    }

    /// A command that waited is given up.
    pub(super) fn leave_door(&mut self, at: ConnRef, tag: TaskTag, pinned: u32) {
        let Some((index, _)) = self.use_of(at) else { return };
        let Some(door) = self.volume_mut(index).and_then(|volume| volume.door.as_mut()) else { return };
        door.share.forget(at, tag);
        door.pinned = door.pinned.saturating_sub(u64::from(pinned));
    }

    /// A session is over; its commands were given up before.
    pub(super) fn forget_at_door(&mut self, index: u32, at: ConnRef) {
        if let Some(door) = self.volume_mut(index).and_then(|volume| volume.door.as_mut()) {
            door.share.forget_session(at);
        }
    }

    /// The limits are others now.
    pub(super) fn change_limits(&mut self, index: u32, limits: dyad_cluster::Limits) {
        let Some(volume) = self.volume_mut(index) else { return };
        match &mut volume.door {
            // Without limits too: whoever waits goes on before the door is taken away.
            Some(door) => door.share.set_rates(rates_of(limits)),
            None => volume.door = Door::of(limits),
        }
        self.open_door(index);
        if limits.is_none()
            && let Some(volume) = self.volume_mut(index)
        {
            volume.door = None;
        }
    }

    pub(super) fn on_door_timer(&mut self, index: u32, deadline: Moment) {
        let Some(door) = self.volume_mut(index).and_then(|volume| volume.door.as_mut()) else { return };
        if door.timer == Some(deadline) {
            door.timer = None;
            self.open_door(index);
        }
    }

    fn time_door(&mut self, index: u32) {
        let earliest = self.now + PAUSE_MIN;
        let Some(volume) = self.volumes.get_mut(index as usize).and_then(Option::as_deref_mut) else { return };
        let Some(door) = &mut volume.door else { return };
        let deadline = door.share.next_deadline().map(|deadline| deadline.max(earliest));
        self.timers.want(Timer::Door(index), &mut door.timer, deadline);
    }
}
