//! A node that answers everything somehow, driven by the bytes that a fuzzer or a property test makes up. It keeps
//! the rules of the interface and checks what the connection owes it: bounds, and no event after the last.

#![allow(dead_code, reason = "each user of the cast uses its part")]

use std::io::IoSlice;
use std::num::NonZeroU16;
use std::sync::Arc;

use dyad_iscsi::{
    Admission, AsyncEvent, Auth, ChapAuth, ChapSecret, CloseReason, Connection, DiscoveredTarget, Event, LoginRefusal,
    ManagementOutcome, ManagementTag, PortalAddress, Settings, TaskTag,
};
use dyad_payload::{Payload, Slab};
use dyad_units::{Moment, Period};

/// Choices, one byte each; zeros once they are used up.
pub struct Choices<'a>(pub &'a [u8]);

impl Choices<'_> {
    pub fn next(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&first, rest)) => {
                self.0 = rest;
                first
            }
            None => 0,
        }
    }
}

/// Few of everything, so that bounds are met often.
pub fn tight() -> Settings {
    Settings {
        queue_depth: 4,
        output_bytes_max: 1 << 18,
        solicited_bytes_max: 1 << 14,
        outstanding_r2ts_max: 2,
        ..Settings::default()
    }
}

pub struct Actor {
    pub connection: Connection,
    pub slab: Slab,
    now: Moment,
    tasks: Vec<(TaskTag, u32)>,
    managements: Vec<ManagementTag>,
    is_closed: bool,
    settings: Settings,
}

impl Actor {
    pub fn new(settings: Settings) -> Self {
        let now = Moment::from_nanos(1 << 40);
        Self {
            connection: Connection::new(Arc::new(settings.clone()), now),
            slab: Slab::new(64 << 20),
            now,
            tasks: Vec::new(),
            managements: Vec::new(),
            is_closed: false,
            settings,
        }
    }

    /// A plain login; the bits say what it offers.
    pub fn log_in(&mut self, offers: u8) {
        let mut text = b"InitiatorName=iqn.x:host\0TargetName=iqn.x:disk\0".to_vec();
        let keys: [&[u8]; 5] = [
            b"InitialR2T=No\0",
            b"ImmediateData=No\0",
            b"MaxOutstandingR2T=2\0",
            b"MaxBurstLength=512\0FirstBurstLength=512\0",
            b"MaxRecvDataSegmentLength=512\0",
        ];
        keys.iter().enumerate().filter(|(bit, _)| offers >> bit & 1 == 1).for_each(|(_, key)| text.extend(*key));
        let mut header = [0; 48];
        (header[0], header[1]) = (0x43, 0x87);
        header[5..8].copy_from_slice(&(text.len() as u32).to_be_bytes()[1..]);
        text.resize(text.len().next_multiple_of(4), 0);
        let bytes = [&header[..], &text].concat();
        self.connection.receive(self.now, self.slab.copy_of(&bytes).unwrap());
        self.turn(&mut Choices(&[]));
        assert!(self.connection.parameters().is_some(), "a plain login is taken");
    }

    /// Feeds the host's bytes in pieces, answering as the choices say.
    pub fn run(&mut self, mut bytes: &[u8], choices: &mut Choices<'_>) {
        while !bytes.is_empty() && !self.is_closed {
            if self.connection.wants_input() {
                let most = 1 + usize::from(choices.next()) * 37;
                let (piece, rest) = bytes.split_at(bytes.len().min(most));
                self.connection.receive(self.now, self.slab.copy_of(piece).unwrap());
                bytes = rest;
            } else {
                self.now = self.now + Period::from_secs(1);
                self.connection.tick(self.now);
            }
            self.turn(choices);
        }
        self.settle(choices);
    }

    fn turn(&mut self, choices: &mut Choices<'_>) {
        while let Some(event) = self.connection.poll_event() {
            assert!(!self.is_closed, "an event after the last: {event:?}");
            self.on_event(event, choices);
        }
        if let Some(&(task, len)) = self.tasks.first()
            && choices.next() & 1 == 0
        {
            self.tasks.remove(0);
            self.answer(task, len, choices);
        }
        if choices.next() & 3 != 0 {
            self.take_output();
        }
        let depth = usize::from(self.settings.queue_depth) + 16;
        assert!(self.connection.tasks().count() <= depth);
    }

    /// Answers what is open, then lets time end it.
    fn settle(&mut self, choices: &mut Choices<'_>) {
        for _ in 0..1000 {
            for (task, len) in std::mem::take(&mut self.tasks) {
                self.answer(task, len, choices);
            }
            for tag in std::mem::take(&mut self.managements) {
                self.connection.management_done(tag, ManagementOutcome::Complete);
            }
            self.take_output();
            self.turn(choices);
            let Some(deadline) = self.connection.next_deadline() else { break };
            self.now = self.now.max(deadline);
            self.connection.tick(self.now);
        }
        // A host that says nothing more is dropped in bounded time, whatever it said before.
        assert!(self.connection.is_finished(), "a silent host is never dropped: {:?}", self.connection);
        self.turn(choices);
        assert!(self.is_closed);
    }

    fn on_event(&mut self, event: Event, choices: &mut Choices<'_>) {
        match event {
            Event::Login(_) if choices.next() == 1 => self.connection.refuse(LoginRefusal::TargetNotFound),
            Event::Login(_) => {
                let auth = if choices.next() == 1 { chap() } else { Auth::None };
                self.connection.admit(Admission { portal_group: 1, alias: Some("a".repeat(300)), auth });
            }
            Event::SessionReady(_) => self.connection.start(NonZeroU16::new(1).unwrap()),
            Event::Discover(_) => {
                let portal = PortalAddress { socket: "[::1]:3260".parse().unwrap() };
                let target = DiscoveredTarget { name: "iqn.x".repeat(20), portals: vec![(portal, 1); 3] };
                self.connection.discovered(&vec![target; usize::from(choices.next())]);
            }
            Event::Command(command) if choices.next() & 1 == 1 || command.write => {
                let len = u32::from(choices.next()) * 64;
                self.connection.solicit(command.task, len);
                self.tasks.push((command.task, command.expected_len.min(1 << 16)));
            }
            Event::Command(command) => self.tasks.push((command.task, command.expected_len.min(1 << 16))),
            Event::DataOut { .. } => {}
            Event::DataOutFailed { task } => self.tasks.retain(|&(open, _)| open != task),
            Event::Management(request) => {
                if choices.next() & 1 == 0 {
                    for (task, _) in std::mem::take(&mut self.tasks) {
                        self.connection.abort_task(task);
                    }
                }
                self.managements.push(request.tag);
            }
            Event::Logout => self.connection.logout_done(),
            Event::Closed(_) => self.is_closed = true,
        }
    }

    fn answer(&mut self, task: TaskTag, len: u32, choices: &mut Choices<'_>) {
        match choices.next() % 8 {
            0 => self.connection.abort_task(task),
            1 => self.connection.respond(task, 2, &[0x70, 0, 5, 0, 0, 0, 0, 10], Payload::new()),
            2 => self.connection.announce(self.now, AsyncEvent::LogoutRequested(Period::from_secs(1))),
            3 if choices.next() == 255 => self.connection.close(CloseReason::Node("test")),
            _ => {
                let bytes = vec![1; len as usize];
                let data = self.slab.copy_of(&bytes).map(Payload::from).unwrap_or_default();
                self.connection.respond(task, 0, &[], data);
            }
        }
    }

    fn take_output(&mut self) {
        while self.connection.wants_output() {
            let mut slices = [IoSlice::new(&[]); 8];
            let count = self.connection.gather(&mut slices);
            let bytes: usize = slices[..count].iter().map(|slice| slice.len()).sum();
            self.connection.transmitted(self.now, bytes);
        }
    }
}

fn chap() -> Auth {
    let secret = |name: &str| ChapSecret { name: name.to_owned(), secret: name.as_bytes().to_vec() };
    Auth::Chap(Box::new(ChapAuth { initiator: secret("host"), target: Some(secret("disk")), random: [5; 17] }))
}
