//! Logins and discovery: who may come in, where, and in whose place.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::num::NonZeroU16;

use dyad_cluster::{Access, Chap as RecordedChap};
use dyad_iscsi::{
    Admission, Auth, ChapAuth, ChapSecret, CloseReason, DiscoveredTarget, DiscoveryScope, Event, LoginRefusal,
    LoginRequest, PortalAddress, SessionKey, SessionKind,
};
use dyad_scsi::{Attention, InitiatorPort, NexusId, Who};

use super::adjust::right_of_unit;
use super::conns::{ConnRef, Session};
use super::manage::Then;
use super::paths::port_number;
use super::run::{Reactor, guarded};
use crate::clock;
use crate::control::IoCounters;

impl Reactor {
    /// Takes what a connection has to tell, until there is nothing more.
    pub(super) fn drain_events(&mut self, at: ConnRef) {
        loop {
            let Some(conn) = self.conns.get_mut(at) else { return };
            let iscsi = &mut conn.iscsi;
            match guarded(|| iscsi.poll_event()) {
                Ok(Some(event)) => self.on_event(at, event),
                Ok(None) => return,
                Err(fault) => return self.fail_conn(at, &fault.0),
            }
        }
    }

    fn on_event(&mut self, at: ConnRef, event: Event) {
        match event {
            Event::Command(command) => self.on_command(at, &command),
            Event::DataOut { task, data } => self.on_data_out(at, task, data),
            Event::DataOutFailed { task } => self.on_data_out_failed(at, task),
            Event::Login(request) => self.on_login(at, *request),
            Event::SessionReady(key) => self.on_session_ready(at, *key),
            Event::Discover(scope) => self.on_discover(at, &scope),
            Event::Management(management) => self.on_management(at, management),
            Event::Logout => self.on_logout(at),
            Event::Closed(reason) => self.on_closed(at, &reason),
        }
    }

    fn on_login(&mut self, at: ConnRef, request: LoginRequest) {
        let Some(portal) = self.conns.get(at).map(|conn| conn.portal) else { return };
        let decision = self.decide(&request, portal);
        if let (Err(LoginRefusal::MovedTemporarily(_) | LoginRefusal::MovedPermanently(_)), Some(index)) =
            (&decision, self.volume_of(&request))
        {
            self.note_sent(index, &request.initiator, request.isid);
        }
        let Some(conn) = self.conns.get_mut(at) else { return };
        conn.claim = Some(request.initiator);
        match decision {
            Ok(admission) => conn.iscsi.admit(admission),
            Err(refusal) => conn.iscsi.refuse(refusal),
        }
    }

    fn volume_of(&self, request: &LoginRequest) -> Option<u32> {
        match &request.kind {
            SessionKind::Normal { target } => self.volume_of_target(target),
            SessionKind::Discovery => None,
        }
    }

    /// Whether the initiator may go on, and how it has to prove who it is.
    fn decide(&self, request: &LoginRequest, portal: SocketAddr) -> Result<Admission, LoginRefusal> {
        if self.stopping.is_some() {
            return Err(LoginRefusal::ServiceUnavailable);
        }
        // All portals of a node are one group, and no other node's are of it (RFC 7143 §4.2.7.1).
        let portal_group = port_number(self.node);
        let admission = |auth| Admission { portal_group, alias: self.settings.iscsi.alias.clone(), auth };
        let target = match &request.kind {
            SessionKind::Discovery => {
                let secret = |chap: &crate::settings::Chap| ChapSecret {
                    name: chap.user.clone(),
                    secret: chap.secret.clone().into_bytes(),
                };
                let auth = self.settings.iscsi.discovery_chap.as_ref().map(|chap| chap_of(secret(chap), None));
                return Ok(admission(auth.unwrap_or(Auth::None)));
            }
            SessionKind::Normal { target } => target,
        };
        // Volumes may be missing only because they are not open yet: then the host should come back.
        let missing = if self.is_open { LoginRefusal::TargetNotFound } else { LoginRefusal::ServiceUnavailable };
        if let Some(export) = self.export_of_target(target).and_then(|index| self.exports.get(index)) {
            let access = self.access_of_export(export).ok_or(missing)?;
            access.right_of(&request.initiator).ok_or(LoginRefusal::NotAllowed)?;
            return Ok(admission(auth_of(access)));
        }
        let index = self.volume_of_target(target);
        let (index, volume) = index.and_then(|index| Some((index, self.volume(index)?))).ok_or(missing)?;
        if volume.stop.is_some() {
            return Err(LoginRefusal::ServiceUnavailable);
        }
        let access = &volume.record.access;
        if access.right_of(&request.initiator).is_none() {
            return Err(LoginRefusal::NotAllowed);
        }
        if let Some(elsewhere) = self.redirection(index, portal)
            && !self.came_back(index, &request.initiator, request.isid)
        {
            return Err(elsewhere);
        }
        Ok(admission(auth_of(access)))
    }

    /// The login is through: take the place of an older session of the same name, then begin.
    fn on_session_ready(&mut self, at: ConnRef, key: SessionKey) {
        let Some(target) = &key.target else {
            return self.start_session(at, key, None);
        };
        let export = self.export_of_target(target);
        let volume = self.volume_of_target(target);
        if export.or(volume).is_none() {
            return self.refuse(at, LoginRefusal::TargetNotFound);
        }
        let older = self.conns.iter().find(|(other, conn)| {
            *other != at && conn.session.as_ref().is_some_and(|session| is_same(&session.key, &key))
        });
        if let Some((older, _)) = older {
            // RFC 7143 §6.3.5: the older session ends, its tasks included, before this one begins.
            self.close(older, CloseReason::Node("the host logged in again"), false);
        }
        if let Some(index) = export {
            return self.start_export_session(at, key, index);
        }
        let Some(index) = volume else { return };
        let orphans = self.orphans_of(index, &key.initiator);
        self.wait_for(index, orphans, Then::Start { conn: at, key: Box::new(key) });
    }

    /// Full feature phase begins.
    pub(super) fn start_session(&mut self, at: ConnRef, key: SessionKey, volume: Option<u32>) {
        let nexus = NexusId(self.fresh_id());
        if let Some(index) = volume {
            let Some(volume) = self.volume_mut(index).filter(|volume| volume.stop.is_none()) else {
                return self.refuse(at, LoginRefusal::ServiceUnavailable);
            };
            // The access may have changed while the login was under way.
            let Some(right) = volume.record.access.right_of(&key.initiator) else {
                return self.refuse(at, LoginRefusal::NotAllowed);
            };
            if volume.unit.add_nexus(nexus, None).is_err() {
                return self.refuse(at, LoginRefusal::OutOfResources);
            }
            volume.unit.set_right(nexus, right_of_unit(Some(right)));
            // The nexus is new to the unit: it learns of the start or of its loss (SAM-5 §6.3.1).
            volume.unit.attend(Who::Only(nexus), Attention::PowerOn);
            if let Some(port) = InitiatorPort::new(&key.initiator, key.isid) {
                volume.unit.set_initiator(nexus, port);
            }
            volume.sessions.push(at);
        }
        if self.conns.get(at).is_none() {
            return self.forget_nexus(volume, nexus, at);
        }
        self.enter_session(at, key, volume.map(|index| (index, nexus)), None);
    }

    /// The session of a connection, with what it uses.
    pub(super) fn enter_session(
        &mut self,
        at: ConnRef,
        key: SessionKey,
        use_of: Option<(u32, NexusId)>,
        export: Option<(u32, NexusId)>,
    ) {
        let (id, tsih) = (self.fresh_id(), self.fresh_tsih());
        let is_settled = use_of.is_some_and(|(index, _)| self.came_back(index, &key.initiator, key.isid));
        let (now, settings) = (self.now, self.settings.clone());
        let Some(conn) = self.conns.get_mut(at) else { return };
        let is_of_use = use_of.is_some() || export.is_some();
        let tasks = if is_of_use { settings.iscsi.queue_depth as usize + SPARE_TASKS } else { 0 };
        let session = Session {
            id,
            tsih: tsih.get(),
            initiator: key.initiator.as_str().into(),
            key,
            use_of,
            export,
            since: now,
            is_settled,
            tasks: Vec::with_capacity(tasks),
            in_flight: 0,
            wished: 0,
            line: VecDeque::new(),
            io: IoCounters::default(),
        };
        if is_of_use && std::mem::take(&mut conn.is_half_open) {
            self.half_open -= 1;
        }
        conn.session = Some(Box::new(session));
        conn.iscsi.start(tsih);
        self.list(at);
        // The drain may have begun while it logged in.
        self.ask_to_leave();
    }

    pub(super) fn refuse(&mut self, at: ConnRef, refusal: LoginRefusal) {
        if let Some(conn) = self.conns.get_mut(at) {
            conn.iscsi.refuse(refusal);
            self.list(at);
        }
    }

    /// A session handle that no session has; there are fewer connections than handles.
    fn fresh_tsih(&mut self) -> NonZeroU16 {
        loop {
            let tsih = self.next_tsih;
            self.next_tsih = self.next_tsih.wrapping_add(1);
            let is_taken =
                self.conns.iter().any(|(_, conn)| conn.session.as_ref().is_some_and(|session| session.tsih == tsih));
            if let Some(tsih) = NonZeroU16::new(tsih).filter(|_| !is_taken) {
                return tsih;
            }
        }
    }

    /// SendTargets: the targets that the host may use, at the addresses by which it can come.
    fn on_discover(&mut self, at: ConnRef, scope: &DiscoveryScope) {
        let Some(conn) = self.conns.get(at) else { return };
        let initiator = conn.claim.as_deref().unwrap_or_default();
        let portals = self.portals_for(conn.portal);
        let volumes = (self.volumes.iter().flatten()).filter(|volume| volume.stop.is_none());
        let volumes = volumes.map(|volume| (&volume.target, Some(&volume.record.access)));
        let exports = self.exports.iter().map(|export| (&export.target, self.access_of_export(export)));
        let targets: Vec<_> = volumes
            .chain(exports)
            .filter(|(_, access)| access.is_some_and(|access| access.right_of(initiator).is_some()))
            .filter(|(target, _)| match scope {
                DiscoveryScope::All => true,
                DiscoveryScope::Target(name) => target.eq_ignore_ascii_case(name),
            })
            .map(|(target, _)| DiscoveredTarget { name: target.clone(), portals: portals.clone() })
            .collect();
        if let Some(conn) = self.conns.get_mut(at) {
            conn.iscsi.discovered(&targets);
        }
    }

    /// The address that the host came to, and the others that listen on one address of their own and are of
    /// its kind: a host elsewhere cannot reach a loopback address.
    fn portals_for(&self, here: SocketAddr) -> Vec<(PortalAddress, u16)> {
        let others = self.listeners.iter().map(|listener| listener.address);
        let reachable = others.filter(|other| {
            let ip = other.ip();
            *other != here && !ip.is_unspecified() && ip.is_loopback() == here.ip().is_loopback()
        });
        let group = port_number(self.node);
        std::iter::once(here).chain(reachable).map(|socket| (PortalAddress { socket }, group)).collect()
    }
}

/// Tasks beside the queue depth: those sent for immediate delivery.
const SPARE_TASKS: usize = 16;

fn auth_of(access: &Access) -> Auth {
    let secret = |chap: &RecordedChap| ChapSecret { name: chap.name.clone(), secret: chap.secret.reveal().to_vec() };
    let auth = access.chap.as_ref().map(|pair| chap_of(secret(&pair.host), pair.mutual.as_ref().map(secret)));
    auth.unwrap_or(Auth::None)
}

fn chap_of(initiator: ChapSecret, target: Option<ChapSecret>) -> Auth {
    Auth::Chap(Box::new(ChapAuth { initiator, target, random: clock::random_bytes() }))
}

/// iSCSI names compare without regard to case (RFC 7143 §4.2.7.1).
fn is_same(one: &SessionKey, other: &SessionKey) -> bool {
    let target = |key: &SessionKey| key.target.as_deref().map(str::to_ascii_lowercase);
    one.isid == other.isid
        && one.portal_group == other.portal_group
        && one.initiator.eq_ignore_ascii_case(&other.initiator)
        && target(one) == target(other)
}
