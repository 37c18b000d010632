//! Volumes: starting, making, deleting.

use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use dyad_cluster::{
    Access, AccessError, AckPolicy, Chap, ChapPair, IMAGES_MAX, ImageRecord, InitiatorName, Key, Kind, Limits,
    LogicalBlock, Name, NewSegment, OnFew, PoolRecord, Presence, Record, SegmentRecord, SetError, Step, StepOrder,
    VolumeRecord, VolumeState, next_step,
};
use dyad_pool::{AdminError, ImageMeta, ImagePhase};
use dyad_units::{BLOCK_BYTES, Bytes, Epoch, ImageId, LayerId, NodeId, PoolId, SegmentId, Span, Stamp, VolumeId};

use super::{Admin, chain};
use crate::catalog::{Known, KnownVolume};
use crate::clock;
use crate::control::{AccessRules, CreateVolume, CreateVolumeError, DeleteVolumeError, QueryError, WhenFew};
use crate::reactor::{ImageFault, Message};

/// Steps of creating or deleting a volume: a few per segment and image; more is a fault of ours.
const STEPS_MAX: usize = 64;
/// How long an image that is deleted may have requests of a stopped mirror in flight: a few reads of a busy disk.
const IN_FLIGHT_MAX: Duration = Duration::from_secs(10);
const IN_FLIGHT_PAUSE: Duration = Duration::from_millis(5);

/// How long whoever makes or deletes a volume waits for the other nodes' part in it: they hear of it within
/// milliseconds, and a disk may be slow.
pub(super) const OTHERS_MAX: Duration = Duration::from_secs(15);
const OTHERS_PAUSE: Duration = Duration::from_millis(10);

/// How long whoever starts a volume waits for its service: promises of an earlier life (M6) and a claim take a second, a
/// store that is away may take any time.
const START_MAX: Duration = Duration::from_secs(5);

/// Times that a name is claimed while other nodes claim it too.
const NAME_ATTEMPTS: usize = 5;

/// The reactor's word on a volume's start.
type Answer = Receiver<Result<(), String>>;

/// A volume that is about to be served.
pub(super) struct Start {
    known: KnownVolume,
    fault: Option<String>,
    /// The fault that was told last.
    told: Option<String>,
    answer: Option<Answer>,
}

/// Creating or deleting did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Halt {
    #[error("node {node} has to do its part and cannot be asked now")]
    Node { id: NodeId, node: String },
    #[error("the pool {pool} cannot do it now: {reason}")]
    Pool { pool: PoolId, reason: String },
    #[error(transparent)]
    Set(#[from] SetError),
    #[error(transparent)]
    Query(#[from] QueryError),
}

impl Admin {
    /// Starts all volumes; those that were being made or deleted are finished first.
    pub(super) fn open_volumes(&self) {
        let mut starting = Vec::new();
        for record in self.list(Kind::Volume) {
            let Record::Volume(volume) = record else { continue };
            self.catalog.lock().put_volume(KnownVolume {
                segment: self.segments_of(&volume).into_iter().next(),
                record: volume.clone(),
                fault: None,
            });
            let outcome = self.carry(volume.id);
            starting.extend(self.enter(volume.id, outcome.err().map(|halt| chain(&halt))));
        }
        let deadline = Instant::now() + START_MAX;
        for start in starting {
            self.await_start(start, deadline);
        }
    }

    /// Serves a volume that is ready, and notes in the catalog how it is: why it is not in service, if so.
    pub(super) fn settle(&self, id: VolumeId, halted: Option<String>) -> Option<String> {
        let start = self.enter(id, halted);
        start.and_then(|start| self.await_start(start, Instant::now() + START_MAX))
    }

    /// As [`Self::settle`], without waiting for the volume to be served.
    pub(super) fn enter(&self, id: VolumeId, halted: Option<String>) -> Option<Start> {
        let record = match self.find(Key::Volume(id)) {
            Ok(Some((_, Record::Volume(record)))) => record,
            Ok(_) => {
                self.catalog.lock().forget_volume(id);
                return None;
            }
            // It is there, and stays as it was.
            Err(_) => return None,
        };
        let (segments, unread) = match self.all_segments_of(&record) {
            Ok(segments) => (segments, None),
            Err(error) => (Vec::new(), Some(chain(&error))),
        };
        let segment = segments.into_iter().next();
        let (fault, answer) = match (&segment, record.state) {
            (Some(_), VolumeState::Ready) if record.segments.len() != 1 => {
                let count = record.segments.len();
                (Some(format!("it has {count} segments; this version knows volumes of one")), None)
            }
            (Some(segment), VolumeState::Ready) => (None, Some(self.serve(&record, segment))),
            (None, VolumeState::Ready) => {
                (unread.or_else(|| Some("the config store has no record of its segment".to_owned())), None)
            }
            (_, VolumeState::Creating | VolumeState::Deleting) => (halted, None),
        };
        let known = KnownVolume { record, segment, fault: None };
        let mut catalog = self.catalog.lock();
        let told = catalog.volumes.iter().find(|known| known.record.id == id).and_then(|known| known.fault.clone());
        catalog.put_volume(known.clone());
        Some(Start { known, fault, told, answer })
    }

    fn serve(&self, record: &VolumeRecord, segment: &SegmentRecord) -> Answer {
        let (volume, segment) = (Box::new(record.clone()), Box::new(segment.clone()));
        let (reply, answer) = sync_channel(1);
        self.mailbox.post(Message::AddVolume { volume, segment, reply });
        answer
    }

    /// Waits until the volume is served or known not to be; why it is not in service at all, if so.
    pub(super) fn await_start(&self, start: Start, deadline: Instant) -> Option<String> {
        let Start { known, fault, told: before, answer } = start;
        let left = deadline.saturating_duration_since(Instant::now());
        let told = answer.map(|answer| answer.recv_timeout(left));
        let fault = fault.or(match told {
            Some(Ok(Err(reason))) => Some(reason),
            Some(Err(RecvTimeoutError::Disconnected)) => Some(QueryError::Stopping.to_string()),
            // It goes on starting; its status says what it waits for.
            Some(Ok(Ok(())) | Err(RecvTimeoutError::Timeout)) | None => None,
        });
        if let Some(reason) = &fault {
            if known.record.state == VolumeState::Ready && before != fault {
                tracing::error!(volume = %known.record.name, reason, "volume not in service");
            }
            self.catalog.lock().put_volume(KnownVolume { fault: Some(reason.clone()), ..known });
        }
        fault
    }

    pub(super) fn segments_of(&self, volume: &VolumeRecord) -> Vec<SegmentRecord> {
        let find = |id: &SegmentId| match self.find(Key::Segment(*id)) {
            Ok(Some((_, Record::Segment(segment)))) => Some(segment),
            _ => None,
        };
        volume.segments.iter().filter_map(find).collect()
    }

    /// As [`Self::carry`]; waits for what other nodes have to do, and does meanwhile what they may wait for.
    fn carry_to_end(&self, id: VolumeId) -> Result<(), Halt> {
        let begun = Instant::now();
        loop {
            match self.carry(id) {
                Err(Halt::Node { id: node, .. }) if self.is_worth_waiting(node, begun.elapsed()) => {
                    std::thread::sleep(OTHERS_PAUSE);
                    self.rescan();
                }
                outcome => return outcome,
            }
        }
    }

    fn node_name(&self, id: NodeId) -> String {
        let known = self.catalog.lock();
        let found = known.nodes.iter().find(|node| node.id == id);
        found.map_or_else(|| id.to_string(), |node| node.name.to_string())
    }

    /// Takes a volume that is being made or deleted as far as it goes, one durable step after the other.
    pub(super) fn carry(&self, id: VolumeId) -> Result<(), Halt> {
        for _ in 0..STEPS_MAX {
            let found = self.find(Key::Volume(id)).map_err(SetError::Store)?;
            let Some((_, Record::Volume(volume))) = found else { return Ok(()) };
            let segments = self.all_segments_of(&volume).map_err(SetError::Store)?;
            if self.report_images(&volume, &segments)? {
                continue;
            }
            let step = next_step(&volume, &segments, |order| self.presence(&volume, &segments, order));
            match step {
                Step::Finished => return Ok(()),
                Step::Wait(order) if order.node != self.node => {
                    return Err(Halt::Node { id: order.node, node: self.node_name(order.node) });
                }
                Step::Wait(order) => {
                    return Err(Halt::Pool { pool: order.pool, reason: "it is not open".into() });
                }
                Step::CreateImage(order) => self.create_image(&volume, &segments, &order)?,
                Step::DeleteImage(order) => self.delete_image(order.pool, order.image)?,
                // Another node may have gone on meanwhile: what is being deleted never comes back.
                Step::SetState(state) => self.change(Key::Volume(id), |record| match record {
                    Record::Volume(volume) if volume.state == VolumeState::Creating => {
                        Some(Record::Volume(VolumeRecord { state, ..volume }))
                    }
                    other => Some(other),
                })?,
                Step::DeleteSegment(segment) => self.change(Key::Segment(segment), |_| None)?,
                Step::DeleteVolume => self.change(Key::Volume(id), |_| None)?,
            }
        }
        Err(Halt::Pool { pool: PoolId::from_bytes([0; 16]), reason: "it takes too many steps".into() })
    }

    fn presence(&self, volume: &VolumeRecord, segments: &[SegmentRecord], order: &StepOrder) -> Presence {
        let segment = segments.iter().find(|segment| segment.id == order.segment);
        let found = segment.and_then(|segment| segment.image(order.image));
        found.map_or(Presence::Unknown, |image| self.presence_of(volume, image))
    }

    /// Whether the image is in its pool. Of another node's, what that one said in the record. What is being deleted is gone
    /// with a pool or a node that does not belong to the cluster any more: nobody else could ever say so.
    pub(super) fn presence_of(&self, volume: &VolumeRecord, record: &ImageRecord) -> Presence {
        let is_going = volume.state == VolumeState::Deleting;
        if record.node != self.node {
            let is_made = volume.state == VolumeState::Creating && record.incarnation.is_some();
            return match is_made {
                true => Presence::There,
                false if is_going && self.is_no_more(Key::Node(record.node)) => Presence::NotThere,
                false => Presence::Unknown,
            };
        }
        let (pool, image) = (record.pool, record.id);
        match self.ask(|reply| Message::HasImage { pool, image, reply }) {
            Ok(Some(true)) => Presence::There,
            Ok(Some(false)) => Presence::NotThere,
            Ok(None) if is_going && self.is_no_more(Key::Pool(pool)) => Presence::NotThere,
            Ok(None) | Err(_) => Presence::Unknown,
        }
    }

    /// Whether the store itself says that there is no such node or pool any more.
    fn is_no_more(&self, key: Key) -> bool {
        match self.store.get(key) {
            Ok(found) => found.is_none_or(
                |found| matches!(found.record, Record::Node(node) if node.state == dyad_cluster::NodeState::Removed),
            ),
            Err(_) => false,
        }
    }

    /// Goes on with what is being deleted, after a pool or a node went that had images of it.
    pub(super) fn finish_deletions(&self) {
        let deleting = |known: &&KnownVolume| known.record.state == VolumeState::Deleting;
        let ids: Vec<_> = self.catalog.lock().volumes.iter().filter(deleting).map(|known| known.record.id).collect();
        for id in ids {
            let outcome = self.carry(id);
            self.settle(id, outcome.err().map(|halt| chain(&halt)));
        }
    }

    pub(super) fn create_image(
        &self,
        volume: &VolumeRecord,
        segments: &[SegmentRecord],
        order: &StepOrder,
    ) -> Result<(), Halt> {
        let Some(segment) = segments.iter().find(|segment| segment.id == order.segment) else { return Ok(()) };
        let meta = Box::new(ImageMeta {
            id: order.image,
            segment: segment.id,
            volume: volume.id,
            layer: segment.layer,
            parent: None,
            size: segment.size,
            phase: ImagePhase::Ready,
            closed: Stamp::NEVER,
            epoch: Epoch::default(),
            record: Vec::new(),
            cursor: None,
            complete: Stamp::NEVER,
        });
        let pool = order.pool;
        let created = self.ask(|reply| Message::CreateImage { pool, meta, reply })?;
        created.map_err(|fault| Halt::Pool { pool, reason: fault.to_string() })
    }

    /// A mirror that is stopped before it serves waits for nothing, so what it asked its images may be in flight still.
    pub(super) fn delete_image(&self, pool: PoolId, image: ImageId) -> Result<(), Halt> {
        let deadline = Instant::now() + IN_FLIGHT_MAX;
        loop {
            match self.ask(|reply| Message::DeleteImage { pool, image, reply })? {
                Ok(()) => return Ok(()),
                Err(ImageFault::Refused(AdminError::Busy(_))) if Instant::now() < deadline => {
                    std::thread::sleep(IN_FLIGHT_PAUSE);
                }
                Err(fault) => return Err(Halt::Pool { pool, reason: fault.to_string() }),
            }
        }
    }

    pub(super) fn create_volume(&self, request: &CreateVolume) -> Result<(), CreateVolumeError> {
        let (volume, segment) = self.plan_volume(request)?;
        let id = volume.id;
        self.claim_name(&volume)?;
        self.catalog.lock().put_volume(KnownVolume { record: volume, segment: Some(segment.clone()), fault: None });
        let made = self.insert(&Record::Segment(segment)).map_err(Halt::Set).and_then(|()| self.carry_to_end(id));
        if let Err(halt) = made {
            // Nobody has seen it: undo it now, or at the next start what cannot be undone now.
            let begun = self.begin_deletion(id).map_err(Halt::Set);
            let undone = begun.and_then(|()| self.carry_to_end(id));
            self.settle(id, undone.err().map(|halt| chain(&halt)));
            return Err(self.creation_error(halt));
        }
        match self.settle(id, None) {
            None => Ok(()),
            Some(problem) => Err(CreateVolumeError::BadRequest { problem }),
        }
    }

    /// Records a volume whose name no other one has. Two nodes may make one of the same name at once: each records its own
    /// first and looks for others then, so that at least the later one sees the other; whoever sees one withdraws.
    fn claim_name(&self, volume: &VolumeRecord) -> Result<(), CreateVolumeError> {
        let taken = || CreateVolumeError::NameTaken { name: volume.name.to_string() };
        let set = |error: SetError| CreateVolumeError::Store(Box::new(error));
        for _ in 0..NAME_ATTEMPTS {
            self.insert(&Record::Volume(volume.clone())).map_err(set)?;
            let found = self.store.list(Kind::Volume);
            let mut others = Vec::new();
            for record in found.iter().flatten().map(|found| &found.record) {
                match record {
                    Record::Volume(other) if other.name == volume.name && other.id != volume.id => {
                        others.push(other.state)
                    }
                    _ => {}
                }
            }
            if found.is_ok() && others.is_empty() {
                return Ok(());
            }
            self.change(Key::Volume(volume.id), |_| None).map_err(set)?;
            found.map_err(|error| set(SetError::Store(error)))?;
            if others.iter().any(|state| *state != VolumeState::Creating) {
                return Err(taken());
            }
            // Both withdrew: whoever waits less gets the name.
            let [wait, _] = clock::random_bytes::<2>();
            std::thread::sleep(Duration::from_millis(u64::from(wait)));
        }
        Err(taken())
    }

    fn creation_error(&self, halt: Halt) -> CreateVolumeError {
        match halt {
            Halt::Pool { pool, reason } => CreateVolumeError::Pool { pool: self.pool_name(pool), reason },
            Halt::Set(error) => CreateVolumeError::Store(Box::new(error)),
            Halt::Node { .. } => CreateVolumeError::BadRequest { problem: chain(&halt) },
            Halt::Query(error) => CreateVolumeError::Node(error),
        }
    }

    fn pool_name(&self, id: PoolId) -> String {
        let known = self.catalog.lock();
        let found = known.pools.iter().find(|pool| pool.record.id == id);
        found.map_or_else(|| id.to_string(), |pool| pool.record.name.to_string())
    }

    /// The records of a new volume, if the request makes sense.
    fn plan_volume(&self, request: &CreateVolume) -> Result<(VolumeRecord, SegmentRecord), CreateVolumeError> {
        let name: Name = request.name.parse().map_err(|_| CreateVolumeError::BadName { name: request.name.clone() })?;
        let bad = |problem: String| CreateVolumeError::BadRequest { problem };
        let size = rounded(request.size)?;
        let block = match request.block_bytes {
            512 => LogicalBlock::Sector,
            4096 => LogicalBlock::Native,
            other => return Err(bad(format!("blocks of {other} bytes are not possible; use 512 or 4096"))),
        };
        let images = self.choose_pools(&name, request)?;
        if request.access.mutual_chap.is_some() && request.access.chap.is_none() {
            return Err(bad("mutual CHAP needs CHAP: give the host's name and secret as well".into()));
        }
        let access = access_of(&request.access).map_err(|error| bad(error.to_string()))?;
        let on_few = match request.when_few {
            WhenFew::Error => OnFew::Error,
            WhenFew::Wait => OnFew::Wait,
        };
        let min_in_sync = u8::try_from(request.min_in_sync).unwrap_or(u8::MAX);
        let (id, segment) = (VolumeId::from_bytes(clock::random_id()), SegmentId::from_bytes(clock::random_id()));
        let volume = VolumeRecord {
            id,
            name,
            size,
            block,
            segments: vec![segment],
            policy: AckPolicy { min_in_sync, on_few },
            cache: request.cache,
            access,
            state: VolumeState::Creating,
            preferred: None,
            limits: Limits::default(),
        };
        volume.check(images.len()).map_err(|error| bad(error.to_string()))?;
        let layer = LayerId::from_bytes(clock::random_id());
        Ok((volume, SegmentRecord::new(NewSegment { id: segment, volume: id, layer, size, images })))
    }

    /// One new image in each of the pools.
    fn choose_pools(
        &self,
        name: &Name,
        request: &CreateVolume,
    ) -> Result<Vec<(ImageId, NodeId, PoolId)>, CreateVolumeError> {
        let known = self.catalog.lock();
        if known.volumes.iter().any(|volume| volume.record.name == *name) {
            return Err(CreateVolumeError::NameTaken { name: name.to_string() });
        }
        let mut images: Vec<(ImageId, NodeId, PoolId)> = Vec::new();
        for which in &request.pools {
            let (node, pool) = place_for_image(&known, which)?;
            if images.iter().any(|(_, _, other)| *other == pool) {
                let problem = "a pool is named twice; each image needs a pool of its own".to_owned();
                return Err(CreateVolumeError::BadRequest { problem });
            }
            images.push((ImageId::from_bytes(clock::random_id()), node, pool));
        }
        if !(1..=IMAGES_MAX).contains(&images.len()) {
            let problem = format!("{} pools are named; a volume has 1 to {IMAGES_MAX} images", images.len());
            return Err(CreateVolumeError::BadRequest { problem });
        }
        Ok(images)
    }

    /// Whoever asks made sure that nobody uses it.
    pub(super) fn delete_volume(&self, which: &str) -> Result<(), DeleteVolumeError> {
        let known = self.catalog.lock().volume(which).cloned();
        let known = known.ok_or_else(|| QueryError::Unknown { kind: "volume", name: which.into() })?;
        let (id, name) = (known.record.id, known.record.name);
        // First, so that it goes on being served where that cannot be recorded.
        self.begin_deletion(id).map_err(|error| DeleteVolumeError::Store(Box::new(error)))?;
        self.ask(|reply| Message::RemoveVolume { volume: id, reply })?;
        let outcome = self.carry_to_end(id);
        self.settle(id, outcome.as_ref().err().map(|halt| chain(halt)));
        outcome.map_err(|halt| match halt {
            Halt::Pool { pool, reason } => DeleteVolumeError::Pool { pool: self.pool_name(pool), reason },
            Halt::Set(error) => DeleteVolumeError::Store(Box::new(error)),
            Halt::Node { node, .. } => DeleteVolumeError::Waits { node },
            Halt::Query(error) => DeleteVolumeError::Node(error),
        })?;
        tracing::info!(volume = %name, "volume deleted");
        Ok(())
    }

    fn begin_deletion(&self, id: VolumeId) -> Result<(), SetError> {
        self.change(Key::Volume(id), |record| match record {
            Record::Volume(volume) => Some(Record::Volume(VolumeRecord { state: VolumeState::Deleting, ..volume })),
            other => Some(other),
        })
    }
}

/// A pool by its name or id: this node's, or another node's as `node/pool`.
fn place_for_image(known: &Known, which: &str) -> Result<(NodeId, PoolId), CreateVolumeError> {
    let unknown = || QueryError::Unknown { kind: "pool", name: which.into() };
    let elsewhere = match which.split_once('/') {
        Some((node, _)) if node == known.node.name.as_str() => None,
        Some((node, pool)) => {
            let node = known.nodes.iter().find(|known| known.name.as_str() == node).ok_or_else(unknown)?;
            let is_it = |known: &&PoolRecord| known.node == node.id && known.name.as_str() == pool;
            Some(known.pools_elsewhere.iter().find(is_it).ok_or_else(unknown)?)
        }
        None => known.pools_elsewhere.iter().find(|pool| pool.id.to_string() == which),
    };
    if let Some(pool) = elsewhere {
        return Ok((pool.node, pool.id));
    }
    let pool = known.pool(which.rsplit('/').next().unwrap_or(which)).ok_or_else(unknown)?;
    match &pool.fault {
        Some(reason) => Err(CreateVolumeError::Pool { pool: which.into(), reason: reason.clone() }),
        None => Ok((known.node.id, pool.record.id)),
    }
}

/// The size that a volume gets: whole blocks of 4 KiB.
fn rounded(size: Bytes) -> Result<Bytes, CreateVolumeError> {
    let (min, max) = (Bytes::new(u64::from(BLOCK_BYTES)), Bytes::new(Span::END_MAX));
    if size < min || size > max {
        return Err(CreateVolumeError::BadSize { size, min, max });
    }
    Ok(Bytes::new(size.value().next_multiple_of(min.value())))
}

fn access_of(rules: &AccessRules) -> Result<Access, AccessError> {
    let initiators = rules.initiators.iter().map(|name| InitiatorName::new(name)).collect::<Result<_, _>>()?;
    let chap = |chap: &crate::settings::Chap| Chap::new(&chap.user, &chap.secret);
    let host = rules.chap.as_ref().map(chap).transpose()?;
    let mutual = rules.mutual_chap.as_ref().map(chap).transpose()?;
    let access = Access::of(initiators, host.map(|host| ChapPair { host, mutual }));
    access.check()?;
    Ok(access)
}
