//! A node that exists only as lists, for the tests of the API and of the command line.

use std::sync::Mutex;

use dyad_api::model::{
    Access, Activity, AddImage, ChangeAccess, CreatePool, CreateVolume, Disk, DiskAccess, DiskKind, Drain,
    ForgetReservations, Grant, Health, Image, ImageState, JoinToken, Limits, Loss, NewOwner, Node, NodeState, Orphan,
    Place, Pool, PoolCounters, PreferredOwner, Redundancy, Right, Session, Severity, Status, Trouble, Volume,
    VolumeState,
};
use dyad_api::{Control, ControlError, Kind};
use dyad_units::{Bytes, DiskId, ImageId, NodeId, PoolId, VolumeId};

/// What the fake node has. Ids count up, so that pictures of tables stay the same.
pub struct FakeNode {
    state: Mutex<State>,
}

/// Whoever holds it keeps the creation of a pool on the disk `/gate` from going on.
pub static GATE: Mutex<()> = Mutex::new(());

struct State {
    pools: Vec<Pool>,
    disks: Vec<Disk>,
    volumes: Vec<Volume>,
    sessions: Vec<Session>,
    next_id: u8,
}

fn id_bytes(number: u8) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[15] = number;
    bytes
}

impl FakeNode {
    /// Nothing but the node.
    pub fn empty() -> Self {
        let (pools, disks, volumes, sessions) = (vec![], vec![], vec![], vec![]);
        Self { state: Mutex::new(State { pools, disks, volumes, sessions, next_id: 1 }) }
    }

    /// As [`Self::busy`], with a session at another node that has the number of the first.
    #[allow(dead_code, reason = "not every user of the fake node has sessions")]
    pub fn with_twins() -> Self {
        let fake = Self::busy();
        let twin = Session { node: "node-2".into(), ..session(Activity::default()) };
        fake.state.lock().expect("not poisoned").sessions.push(twin);
        fake
    }

    /// Two pools; a redundant volume with a session, one that lost an image, one with a single image.
    pub fn busy() -> Self {
        let fake = Self::empty();
        for name in ["a", "b"] {
            fake.create_pool(pool_request(name)).expect("a new pool");
        }
        for (name, pools) in [("vm1", &["a", "b"][..]), ("vm2", &["a", "b"]), ("scratch", &["a"])] {
            fake.create_volume(volume_request(name, pools)).expect("a new volume");
        }
        let mut state = fake.state.lock().expect("not poisoned");
        let vm2 = &mut state.volumes[1];
        vm2.images[1].state = ImageState::Stale;
        vm2.images[1].reason = "its pool's disk failed a sync".into();
        vm2.redundancy = Redundancy::judge(vm2.state, "", &vm2.images, 0);
        for (pool, id) in state.pools.iter_mut().zip(200..) {
            pool.orphans = vec![Orphan { id: ImageId::from_bytes(id_bytes(id)), allocated_bytes: 1 << 20 }];
        }
        state.pools[1].health = Health::Failed;
        state.pools[1].reason = "its disk failed a sync".into();
        state.volumes[0].sessions = 1;
        let activity =
            Activity { reads: 1000, read_bytes: 4_096_000, writes: 10, written_bytes: 40_960, ..Default::default() };
        state.volumes[0].activity = activity;
        state.sessions.push(session(activity));
        drop(state);
        fake
    }

    fn known(&self, wanted: &str) -> Result<(), ControlError> {
        let missing = || ControlError::NotFound { kind: Kind::Node, name: wanted.into() };
        if node().name == wanted { Ok(()) } else { Err(missing()) }
    }

    fn image(&self, id: ImageId) -> Result<Image, ControlError> {
        let found = self.images()?.into_iter().find(|image| image.id == id);
        found.ok_or(ControlError::NotFound { kind: Kind::Image, name: id.to_string() })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn pool_request(name: &str) -> CreatePool {
    let disk = dyad_api::model::CreateDisk {
        path: format!("/srv/{name}.pool"),
        size_bytes: Some(Bytes::gib(10).value()),
        atomic_4k: false,
    };
    CreatePool { name: name.into(), disks: vec![disk] }
}

fn volume_request(name: &str, pools: &[&str]) -> CreateVolume {
    CreateVolume {
        name: name.into(),
        size_bytes: Bytes::gib(1).value(),
        pools: pools.iter().map(|&pool| pool.into()).collect(),
        block_bytes: 512,
        write_cache: true,
        min_in_sync: 1,
        when_few: dyad_api::model::WhenFew::Error,
        access: dyad_api::model::CreateAccess::default(),
    }
}

fn writer(initiator: String) -> Grant {
    Grant { initiator, right: Right::ReadWrite }
}

fn session(activity: Activity) -> Session {
    Session {
        id: 7,
        node: "node-1".into(),
        volume: Some("vm1".into()),
        target: Some("iqn.2026-11.san.dyad:vm1".into()),
        initiator: "iqn.1993-08.org.debian:01:host".into(),
        host: "192.0.2.7:40000".into(),
        portal: "192.0.2.1:3260".into(),
        age_seconds: 3725,
        in_flight: 2,
        activity,
    }
}

fn node() -> Node {
    Node {
        id: NodeId::from_bytes(id_bytes(0xaa)),
        name: "node-1".into(),
        version: "0.1.0".into(),
        site: "site-1".into(),
        state: NodeState::Serving,
        draining: false,
        trouble: String::new(),
        peer_encryption: None,
        admin: Vec::new(),
        uptime_seconds: 93_784,
        start_counter: 3,
        portals: vec!["192.0.2.1:3260".into()],
        disk_access: DiskAccess::IoUring,
        disk_access_reason: String::new(),
        data_dir: "/var/lib/dyad".into(),
        connections: 1,
        half_open: 0,
        refused_connections: 0,
        buffer_bytes: 0,
        buffer_bytes_max: Bytes::mib(512).value(),
        faults: 0,
    }
}

impl Control for FakeNode {
    fn status(&self) -> Result<Status, ControlError> {
        let state = self.lock();
        let broken = state.pools.iter().filter(|pool| pool.health == Health::Failed);
        let troubles = broken.map(|pool| Trouble {
            severity: Severity::Warning,
            object: format!("pool {}", pool.name),
            what: pool.reason.clone(),
            advice: "replace the disk, then restart the node".into(),
        });
        Ok(Status {
            node: node(),
            volumes: state.volumes.clone(),
            pools: state.pools.clone(),
            disks: state.disks.clone(),
            sessions: state.sessions.clone(),
            troubles: troubles.collect(),
        })
    }

    fn nodes(&self) -> Result<Vec<Node>, ControlError> {
        Ok(vec![node()])
    }

    fn make_token(&self) -> Result<JoinToken, ControlError> {
        Ok(JoinToken { token: "dyad1:one@127.0.0.1:3261:aa:bb".into(), seconds: 900 })
    }

    fn drain_node(&self, node: &str, is_wanted: bool) -> Result<Drain, ControlError> {
        self.known(node)?;
        let images = if is_wanted { vec!["vm1".into()] } else { vec![] };
        Ok(Drain { owned: vec![], images })
    }

    fn remove_node(&self, node: &str) -> Result<(), ControlError> {
        self.known(node)?;
        let by = "it has images of vm1".into();
        Err(ControlError::InUse { kind: Kind::Node, name: node.into(), by })
    }

    fn pools(&self) -> Result<Vec<Pool>, ControlError> {
        Ok(self.lock().pools.clone())
    }

    fn create_pool(&self, request: CreatePool) -> Result<Pool, ControlError> {
        let mut state = self.lock();
        if state.pools.iter().any(|pool| pool.name == request.name) {
            return Err(ControlError::Exists { kind: Kind::Pool, name: request.name });
        }
        let disk = &request.disks[0];
        assert!(disk.path != "/panic", "asked to");
        if disk.path == "/gate" {
            drop(state);
            drop(GATE.lock());
            return Err(ControlError::Stopping);
        }
        let size = disk.size_bytes.unwrap_or(1 << 30);
        state.next_id += 2;
        let pool = Pool {
            id: PoolId::from_bytes(id_bytes(state.next_id)),
            name: request.name,
            node: "node-1".into(),
            health: Health::Online,
            reason: String::new(),
            capacity_bytes: size,
            free_bytes: size,
            images: 0,
            marked_regions: 0,
            recent_log: "/dev/shm/dyad-0/log".into(),
            counters: PoolCounters::default(),
            orphans: Vec::new(),
        };
        let disk = Disk {
            id: Some(DiskId::from_bytes(id_bytes(state.next_id + 1))),
            pool: pool.name.clone(),
            pool_id: pool.id,
            path: disk.path.clone(),
            kind: DiskKind::File,
            health: Health::Online,
            size_bytes: size,
            physical_block_bytes: 4096,
            direct_io: true,
            errors: 0,
            syncs: 12,
            activity: Activity::default(),
        };
        state.disks.push(disk);
        state.pools.push(pool.clone());
        Ok(pool)
    }

    fn open_pool(&self, pool: PoolId) -> Result<Pool, ControlError> {
        let state = self.lock();
        let found = state.pools.iter().find(|known| known.id == pool);
        found.cloned().ok_or(ControlError::NotFound { kind: Kind::Pool, name: pool.to_string() })
    }

    fn delete_orphan(&self, pool: PoolId, image: ImageId) -> Result<(), ControlError> {
        let mut state = self.lock();
        let missing = ControlError::NotFound { kind: Kind::Pool, name: pool.to_string() };
        // The pool `b` is another node's.
        let is_it = |known: &&mut Pool| known.id == pool && known.name != "b";
        let found = state.pools.iter_mut().find(is_it).ok_or(missing)?;
        found.orphans.retain(|orphan| orphan.id != image);
        Ok(())
    }

    fn delete_pool(&self, pool: PoolId, _force: bool) -> Result<(), ControlError> {
        let mut state = self.lock();
        let found = state.pools.iter().find(|known| known.id == pool);
        let found = found.ok_or(ControlError::NotFound { kind: Kind::Pool, name: pool.to_string() })?;
        if found.images > 0 {
            let by = format!("it holds {} images", found.images);
            return Err(ControlError::InUse { kind: Kind::Pool, name: found.name.clone(), by });
        }
        state.pools.retain(|known| known.id != pool);
        state.disks.retain(|disk| disk.pool_id != pool);
        Ok(())
    }

    fn disks(&self) -> Result<Vec<Disk>, ControlError> {
        Ok(self.lock().disks.clone())
    }

    fn volumes(&self) -> Result<Vec<Volume>, ControlError> {
        Ok(self.lock().volumes.clone())
    }

    fn create_volume(&self, request: CreateVolume) -> Result<Volume, ControlError> {
        let mut state = self.lock();
        state.next_id += 10;
        let number = state.next_id;
        let id = VolumeId::from_bytes(id_bytes(number));
        let mut images = Vec::new();
        for (at, name) in request.pools.iter().enumerate() {
            let pool = state.pools.iter_mut().find(|pool| pool.name == *name);
            let pool = pool.ok_or(ControlError::NotFound { kind: Kind::Pool, name: name.clone() })?;
            pool.images += 1;
            pool.free_bytes -= 1 << 20;
            images.push(Image {
                id: ImageId::from_bytes(id_bytes(number + 1 + at as u8)),
                volume: request.name.clone(),
                volume_id: id,
                node: NodeId::from_bytes(id_bytes(0xaa)),
                node_name: "node-1".into(),
                pool: name.clone(),
                pool_id: pool.id,
                state: ImageState::InSync,
                reason: String::new(),
                allocated_bytes: Some(1 << 20),
                out_seconds: None,
                progress: None,
                replaces: None,
                export: None,
            });
        }
        let volume = Volume {
            id,
            target: format!("iqn.2026-11.san.dyad:{}", request.name),
            name: request.name,
            state: VolumeState::Serving,
            reason: String::new(),
            size_bytes: request.size_bytes,
            block_bytes: request.block_bytes,
            write_cache: request.write_cache,
            min_in_sync: request.min_in_sync,
            access: Access {
                everybody: request.access.initiators.is_empty().then_some(Right::ReadWrite),
                initiators: request.access.initiators.into_iter().map(writer).collect(),
                chap_user: request.access.chap.map(|chap| chap.user),
                mutual_chap_user: request.access.mutual_chap.map(|chap| chap.user),
            },
            limits: Limits::default(),
            owner: Some("node-1".into()),
            preferred_owner: None,
            redundancy: Redundancy::judge(VolumeState::Serving, "", &images, 0),
            images,
            comparing_extents: 0,
            sessions: 0,
            in_flight: 0,
            activity: Activity::default(),
        };
        state.volumes.push(volume.clone());
        Ok(volume)
    }

    fn delete_volume(&self, volume: VolumeId, force: bool) -> Result<(), ControlError> {
        let mut state = self.lock();
        let found = state.volumes.iter().find(|known| known.id == volume);
        let found = found.ok_or(ControlError::NotFound { kind: Kind::Volume, name: volume.to_string() })?;
        if found.sessions > 0 && !force {
            let by = format!("{} host is logged in", found.sessions);
            return Err(ControlError::InUse { kind: Kind::Volume, name: found.name.clone(), by });
        }
        state.volumes.retain(|known| known.id != volume);
        Ok(())
    }

    fn images(&self) -> Result<Vec<Image>, ControlError> {
        Ok(self.lock().volumes.iter().flat_map(|volume| volume.images.clone()).collect())
    }

    fn add_image(&self, request: AddImage) -> Result<Image, ControlError> {
        let mut state = self.lock();
        state.next_id += 10;
        let number = state.next_id;
        let volume = state.volumes.iter_mut().find(|volume| volume.name == request.volume);
        let volume = volume.ok_or(ControlError::NotFound { kind: Kind::Volume, name: request.volume })?;
        let first = volume.images.first().cloned().expect("a volume has an image");
        let added = Image {
            id: ImageId::from_bytes(id_bytes(number)),
            pool: request.pool.unwrap_or_default(),
            state: ImageState::Stale,
            ..first
        };
        volume.images.push(added.clone());
        Ok(added)
    }

    fn move_image(&self, image: ImageId, to: Place) -> Result<Image, ControlError> {
        let mut moved = self.image(image)?;
        moved.pool = to.pool.unwrap_or_default();
        Ok(moved)
    }

    fn remove_image(&self, image: ImageId, force: bool, _: bool) -> Result<(), ControlError> {
        let mut state = self.lock();
        let volume = state.volumes.iter_mut().find(|volume| volume.images.iter().any(|known| known.id == image));
        let volume = volume.ok_or(ControlError::NotFound { kind: Kind::Image, name: image.to_string() })?;
        if volume.images.len() < 3 && !force {
            let what = format!("volume `{}` would not be redundant any more", volume.name);
            return Err(ControlError::Refused { what, advice: "add an image first".into() });
        }
        volume.images.retain(|known| known.id != image);
        Ok(())
    }

    fn detach_image(&self, image: ImageId) -> Result<Image, ControlError> {
        self.image(image).map(|image| Image { state: ImageState::Detached, ..image })
    }

    fn reattach_image(&self, image: ImageId, _: bool) -> Result<Image, ControlError> {
        self.image(image).map(|image| Image { state: ImageState::Stale, ..image })
    }

    fn export_image(&self, image: ImageId) -> Result<Image, ControlError> {
        let image = self.image(image)?;
        let target = format!("iqn.2026-11.san.dyad:{}:{}", image.volume, image.id);
        Ok(Image { state: ImageState::Detached, export: Some(target), ..image })
    }

    fn unexport_image(&self, image: ImageId) -> Result<(), ControlError> {
        self.image(image).map(drop)
    }

    fn read_image(&self, image: ImageId, offset: u64) -> Result<Vec<u8>, ControlError> {
        self.image(image)?;
        Ok(if offset == 0 { b"content".to_vec() } else { Vec::new() })
    }

    fn loss(&self, image: ImageId) -> Result<Loss, ControlError> {
        self.image(image)?;
        let sentence = "nothing is lost".to_owned();
        Ok(Loss { sentence, bytes_max: 0, is_exact: true, ranges: Vec::new(), is_cut: false })
    }

    fn promote(&self, image: ImageId, accept_loss: bool) -> Result<Volume, ControlError> {
        let volume = self.image(image)?.volume;
        if !accept_loss {
            let what = "at most 1 MiB of acknowledged writes would be lost".to_owned();
            return Err(ControlError::Refused { what, advice: "accept it".into() });
        }
        self.volumes()?.into_iter().find(|known| known.name == volume).ok_or(ControlError::Busy)
    }

    fn move_owner(&self, volume: VolumeId, to: NewOwner) -> Result<Volume, ControlError> {
        let mut state = self.lock();
        let found = state.volumes.iter_mut().find(|known| known.id == volume);
        let found = found.ok_or(ControlError::NotFound { kind: Kind::Volume, name: volume.to_string() })?;
        found.owner = to.node;
        Ok(found.clone())
    }

    fn prefer_owner(&self, volume: VolumeId, wish: PreferredOwner) -> Result<Volume, ControlError> {
        let mut state = self.lock();
        let found = state.volumes.iter_mut().find(|known| known.id == volume);
        let found = found.ok_or(ControlError::NotFound { kind: Kind::Volume, name: volume.to_string() })?;
        found.preferred_owner = Some(wish);
        Ok(found.clone())
    }

    fn forget_reservations(&self, volume: VolumeId, word: ForgetReservations) -> Result<Volume, ControlError> {
        if !word.accept_loss {
            let what = "all reservations would be lost".to_owned();
            return Err(ControlError::Refused { what, advice: "accept it".into() });
        }
        self.volumes()?.into_iter().find(|known| known.id == volume).ok_or(ControlError::Busy)
    }

    fn change_access(&self, volume: VolumeId, change: ChangeAccess) -> Result<Volume, ControlError> {
        let mut state = self.lock();
        let found = state.volumes.iter_mut().find(|known| known.id == volume);
        let found = found.ok_or(ControlError::NotFound { kind: Kind::Volume, name: volume.to_string() })?;
        match (change.initiator, change.right) {
            (None, right) => found.access.everybody = right,
            (Some(initiator), Some(right)) => {
                found.access.everybody = None;
                found.access.initiators.push(Grant { initiator, right });
            }
            (Some(initiator), None) => found.access.initiators.retain(|grant| grant.initiator != initiator),
        }
        Ok(found.clone())
    }

    fn limit_volume(&self, volume: VolumeId, limits: Limits) -> Result<Volume, ControlError> {
        let mut state = self.lock();
        let found = state.volumes.iter_mut().find(|known| known.id == volume);
        let found = found.ok_or(ControlError::NotFound { kind: Kind::Volume, name: volume.to_string() })?;
        found.limits = limits;
        Ok(found.clone())
    }

    fn sessions(&self) -> Result<Vec<Session>, ControlError> {
        Ok(self.lock().sessions.clone())
    }

    fn delete_session(&self, node: &str, session: u64) -> Result<(), ControlError> {
        let mut state = self.lock();
        let before = state.sessions.len();
        state.sessions.retain(|known| known.id != session || known.node != node);
        if state.sessions.len() == before {
            return Err(ControlError::NotFound { kind: Kind::Session, name: session.to_string() });
        }
        Ok(())
    }
}
