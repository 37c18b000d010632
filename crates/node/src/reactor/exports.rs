//! Detached images as targets of their own: read only, a copy of the moment at which they were detached, for backups.
//!
//! ```text
//!  host ──▶ unit (write protected, a name of its own) ──▶ this node's pool, past the volume's part
//!  part ──▶ something that changes the image ──▶ the export ends first, with all its sessions
//! ```
//!
//! Nothing ever changes what an export shows: whatever a part asks of the image that would change it, a resync or a write that
//! came late, ends the export before it is carried out. That holds however this node heard of a change, and needs no record.
//! An export is this node's affair: it is kept in a file of its own ([`crate::admin`]), and no other node knows of it but by the
//! status.

use dyad_cluster::{Access, ImageState};
use dyad_contract::image::Request;
use dyad_contract::volume::Edition;
use dyad_iscsi::{CloseReason, LoginRefusal, SessionKey};
use dyad_scsi::{AccessState, Attention, BlockSize, Identity, LogicalUnit, NexusId, PortGroup, Settings, Shape, Who};
use dyad_units::{Bytes, Epoch, ImageId, PoolId, VolumeId};

use super::conns::{ConnRef, Held};
use super::export_ops::ExportOp;
use super::manage::tags_of;
use super::overlay::Detached;
use super::paths::port_number;
use super::run::Reactor;

/// Exports of a node: each has its own unit and may have as many sessions as a volume.
const EXPORTS_MAX: usize = 64;
/// Images whose exports ended by themselves that are remembered, so that nobody but an administrator begins them again.
const ENDED_MAX: usize = 1024;

/// An image that is exported.
pub(super) struct Export {
    volume: VolumeId,
    pub(super) image: ImageId,
    pub(super) pool: PoolId,
    size: Bytes,
    pub(super) target: String,
    pub(super) unit: LogicalUnit,
    sessions: Vec<ConnRef>,
    /// Commands that wait for the pool.
    pub(super) ops: Vec<ExportOp>,
}

impl Export {
    pub(super) const fn detached(&self) -> Detached {
        Detached { pool: self.pool, image: self.image, size: self.size }
    }
}

/// All exports.
#[derive(Default)]
pub(super) struct Exports {
    slots: Vec<Option<Box<Export>>>,
    ended: Vec<ImageId>,
}

/// An export, for the status.
#[derive(Clone, Debug)]
pub(crate) struct ExportLook {
    pub(crate) image: ImageId,
    pub(crate) target: String,
}

/// An image is not exported.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum ExportFault {
    /// It may be in a moment.
    #[error("its volume, or the image's pool, is not in service at its node")]
    Absent,
    #[error("only a detached image can be exported: the others change all the time")]
    Changing,
    /// As after a forced promotion, or where its node was away when it was given up (M10).
    #[error(
        "it was catching up when it was given up: what it holds is of no one moment; remove it, or let it catch up"
    )]
    HalfFilled,
    /// It was exported before, and changed since.
    #[error("it was changed since it was exported")]
    Ended,
    #[error("its node exports {EXPORTS_MAX} images already")]
    TooMany,
    #[error("it has blocks of an odd size")]
    Odd,
}

impl Exports {
    pub(super) fn get(&self, index: u32) -> Option<&Export> {
        self.slots.get(index as usize)?.as_deref()
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Export> {
        self.slots.get_mut(index as usize)?.as_deref_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Export> {
        self.slots.iter().filter_map(Option::as_deref)
    }

    /// The first for which this holds.
    pub(super) fn find(&self, is_it: impl Fn(&Export) -> bool) -> Option<u32> {
        let at = self.slots.iter().position(|slot| slot.as_deref().is_some_and(&is_it))?;
        Some(at as u32)
    }

    fn add(&mut self, export: Export) {
        let free = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        if free == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[free] = Some(Box::new(export));
    }
}

/// Name of an exported image's target: its volume's, and its id. A volume's name has no `:`, so no volume has this one.
pub(crate) fn target_of(volume_target: &str, image: ImageId) -> String {
    format!("{volume_target}:{image}")
}

/// Whether it changes what the image holds.
const fn changes_image(request: &Request) -> bool {
    matches!(
        request,
        Request::Write(_) | Request::Unmap(_) | Request::Mend(_) | Request::MendUnmap(_) | Request::Adopt { .. }
    )
}

impl Reactor {
    /// Exports an image of a volume; its target's name. `is_new`: an administrator asked for it; else it was exported before
    /// this process began.
    pub(super) fn export_image(
        &mut self,
        volume: VolumeId,
        image: ImageId,
        is_new: bool,
    ) -> Result<String, ExportFault> {
        if let Some(export) = self.exports.iter().find(|export| export.image == image) {
            return Ok(export.target.clone());
        }
        if !is_new && self.exports.ended.contains(&image) {
            return Err(ExportFault::Ended);
        }
        let known = self.volume_with_id(volume).and_then(|index| self.volume(index)).ok_or(ExportFault::Absent)?;
        let recorded = known.part.record().images.iter().find(|known| known.id == image && known.node == self.node);
        let recorded = recorded.ok_or(ExportFault::Absent)?;
        if recorded.state != ImageState::Detached {
            return Err(ExportFault::Changing);
        }
        if self.place_of(recorded).is_none() || known.stop.is_some() {
            return Err(ExportFault::Absent);
        }
        if self.is_half_filled(recorded.pool, image) {
            return Err(ExportFault::HalfFilled);
        }
        if self.exports.iter().count() >= EXPORTS_MAX {
            return Err(ExportFault::TooMany);
        }
        let (target, pool, size) = (target_of(&known.target, image), recorded.pool, known.record.size);
        let block = BlockSize::from_bytes(known.record.block.bytes()).ok_or(ExportFault::Odd)?;
        let shape = Shape::new(block, size).map_err(|_| ExportFault::Odd)?;
        let unit = self.unit_of(image, target.clone(), shape)?;
        tracing::info!(volume = %known.record.name, %image, target, "detached image exported read-only");
        self.exports.ended.retain(|ended| *ended != image);
        let (sessions, ops) = (Vec::new(), Vec::new());
        self.exports.add(Export { volume, image, pool, size, target: target.clone(), unit, sessions, ops });
        Ok(target)
    }

    /// A write-protected unit whose names come from the image's id: no multipath driver takes it for the volume.
    fn unit_of(&self, image: ImageId, target_name: String, shape: Shape) -> Result<LogicalUnit, ExportFault> {
        let number = port_number(self.node);
        let volume = VolumeId::from_bytes(image.to_bytes());
        let identity = Identity { volume, target_name, target_port: number, target_port_group: number };
        let settings = Settings { identity, shape, write_cache: false, read_only: true };
        let mut unit = LogicalUnit::new(settings, self.slab.clone());
        let state = AccessState::Optimized;
        unit.set_port_groups(&[PortGroup { group: number, port: number, state, is_preferred: false }]);
        // It has no shared state (M20), and takes none: nothing of the image changes.
        let none = Edition { epoch: Epoch::new(0), changes: 0 };
        unit.adopt(none, &[]).map_err(|_| ExportFault::Odd)?;
        Ok(unit)
    }

    pub(super) fn unexport_image(&mut self, image: ImageId) -> bool {
        let found = self.exports.find(|export| export.image == image);
        if let Some(index) = found {
            self.end_export(index, "an administrator ended the export");
        }
        found.is_some()
    }

    /// Before a part asks an image something: an export of it ends if that changes it, and what is known of it is known no more.
    pub(super) fn before_asking(&mut self, image: ImageId, request: &Request) {
        if self.exports.slots.is_empty() && self.overlays.is_empty() || !changes_image(request) {
            return;
        }
        self.overlays.forget(image);
        self.end_exports("the image is changed", |export| export.image == image);
    }

    /// A volume's record may be a newer one: exports of images that are detached no more end. Looked at whenever its part did
    /// something, so it costs nothing where nothing of the volume is exported.
    pub(super) fn look_at_exports(&mut self, index: u32) {
        if self.exports.slots.is_empty() {
            return;
        }
        let (Some(volume), me) = (self.volume(index), self.node) else { return };
        let id = volume.record.id;
        let images = &volume.part.record().images;
        let is_detached = |image: ImageId| {
            images.iter().any(|known| known.id == image && known.node == me && known.state == ImageState::Detached)
        };
        let over: Vec<ImageId> = (self.exports.iter())
            .filter(|export| export.volume == id && !is_detached(export.image))
            .map(|export| export.image)
            .collect();
        if !over.is_empty() {
            self.end_exports("the image is detached no more", |export| over.contains(&export.image));
        }
    }

    /// A volume's access list is another one: hosts that lost their right to read go.
    pub(super) fn look_at_readers(&mut self, index: u32) {
        let Some(volume) = self.volume(index) else { return };
        let id = volume.record.id;
        let (exports, access) = (self.exports.iter().filter(|export| export.volume == id), &volume.record.access);
        let may_read = |at: &ConnRef| {
            let session = self.conns.get(*at).and_then(|conn| conn.session.as_ref());
            session.is_none_or(|session| access.right_of(&session.initiator).is_some())
        };
        let out: Vec<ConnRef> =
            exports.flat_map(|export| &export.sessions).copied().filter(|at| !may_read(at)).collect();
        for at in out {
            self.close(at, CloseReason::Node("the host may not use the volume any more"), false);
        }
    }

    /// A volume, or a pool, is here no more.
    pub(super) fn end_exports_of(&mut self, volume: Option<VolumeId>, pool: Option<PoolId>) {
        if let Some(pool) = pool {
            self.overlays.forget_pool(pool);
        }
        let is_it = |export: &Export| volume == Some(export.volume) || pool == Some(export.pool);
        while let Some(index) = self.exports.find(is_it) {
            self.end_export(index, "the image is not in service any more");
        }
    }

    /// Ends exports for good: only an administrator begins them again.
    fn end_exports(&mut self, reason: &'static str, is_it: impl Fn(&Export) -> bool) {
        while let Some(index) = self.exports.find(&is_it) {
            let Some(export) = self.exports.get(index) else { return };
            let image = export.image;
            tracing::warn!(%image, target = export.target, reason, "the export of an image ends");
            if self.exports.ended.len() >= ENDED_MAX {
                self.exports.ended.remove(0);
            }
            self.exports.ended.push(image);
            self.end_export(index, reason);
        }
    }

    fn end_export(&mut self, index: u32, reason: &'static str) {
        let Some(export) = self.exports.slots.get_mut(index as usize).and_then(Option::take) else { return };
        // What their commands waited for comes to nobody.
        for at in export.sessions {
            self.close(at, CloseReason::Node(reason), false);
        }
    }

    // --- hosts ------------------------------------------------------------------------------------------------------

    /// An export by its target's name.
    pub(super) fn export_of_target(&self, target: &str) -> Option<u32> {
        self.exports.find(|export| export.target.eq_ignore_ascii_case(target))
    }

    /// Who may read an export: whoever may read or write its volume, with the volume's secrets.
    pub(super) fn access_of_export(&self, export: &Export) -> Option<&Access> {
        let volume = self.volume(self.volume_with_id(export.volume)?)?;
        Some(&volume.record.access)
    }

    /// The export that a session uses, and its nexus there.
    pub(super) fn export_used(&self, at: ConnRef) -> Option<(u32, NexusId)> {
        self.conns.get(at)?.session.as_ref()?.export
    }

    /// The name of the volume that a session's export is of.
    pub(super) fn volume_exported(&self, index: u32) -> Option<String> {
        let volume = self.volume(self.volume_with_id(self.exports.get(index)?.volume)?)?;
        Some(volume.record.name.to_string())
    }

    /// A login to an export is through.
    pub(super) fn start_export_session(&mut self, at: ConnRef, key: SessionKey, index: u32) {
        let nexus = NexusId(self.fresh_id());
        let Some(export) = self.exports.get(index) else { return self.refuse(at, LoginRefusal::TargetNotFound) };
        let is_allowed = self.access_of_export(export).is_some_and(|access| access.right_of(&key.initiator).is_some());
        if !is_allowed {
            return self.refuse(at, LoginRefusal::NotAllowed);
        }
        let Some(export) = self.exports.get_mut(index) else { return };
        if export.unit.add_nexus(nexus, Some(Attention::PowerOn)).is_err() {
            return self.refuse(at, LoginRefusal::OutOfResources);
        }
        export.sessions.push(at);
        self.enter_session(at, key, None, Some((index, nexus)));
    }

    /// A session with an export is over.
    pub(super) fn leave_export(&mut self, at: ConnRef) {
        let Some((index, nexus)) = self.export_used(at) else { return };
        // What its data was to have of the budget is for others.
        for tag in self.conns.get(at).map(tags_of).unwrap_or_default() {
            let held = self.conns.get_mut(at).and_then(|conn| conn.session.as_mut());
            let held = held.map_or(Held::Nothing, |session| session.take(tag));
            self.release(at, tag, &held);
        }
        if let Some(session) = self.conns.get_mut(at).and_then(|conn| conn.session.as_mut()) {
            session.export = None;
        }
        let Some(export) = self.exports.get_mut(index) else { return };
        // A task of the unit's own would change the shared state, of which there is none.
        drop(export.unit.remove_nexus(nexus));
        export.sessions.retain(|session| *session != at);
        export.ops.retain(|op| op.host.0 != at);
    }

    /// Every session of an export but one, or all.
    pub(super) fn export_sessions(&self, index: u32, but: Option<ConnRef>) -> Vec<ConnRef> {
        let sessions = self.exports.get(index).map(|export| &export.sessions[..]).unwrap_or_default();
        sessions.iter().copied().filter(|at| Some(*at) != but).collect()
    }

    /// A reset of an export's unit took effect, or its task set was cleared by a host.
    pub(super) fn attend_export(&mut self, index: u32, who: Who, what: Attention) {
        if let Some(export) = self.exports.get_mut(index) {
            export.unit.attend(who, what);
        }
    }

    pub(super) fn look_at_all_exports(&self) -> Vec<ExportLook> {
        self.exports.iter().map(|export| ExportLook { image: export.image, target: export.target.clone() }).collect()
    }
}
