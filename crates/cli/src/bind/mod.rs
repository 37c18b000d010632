//! Binds what the API asks ([`Control`]) to the running node ([`NodeHandle`]). No decisions here: only words of the one
//! are put into words of the other.

mod errors;
mod images;
mod told;
mod troubles;

pub use errors::chain;

use dyad_api::model::{
    AddImage, ChangeAccess, CreatePool, CreateVolume, Disk, Drain, ForgetReservations, Image, JoinToken, Limits, Loss,
    NewOwner, Node, Place, Pool, PreferredOwner, Session, Status, Volume,
};
use dyad_api::{Control, ControlError, Kind};
use dyad_node::{NodeHandle, control};
use dyad_units::{Bytes, ImageId, PoolId, VolumeId};

use dyad_api::model::{Chap, WhenFew};

/// The running node, for the API.
pub struct BoundNode(pub NodeHandle);

impl Control for BoundNode {
    fn status(&self) -> Result<Status, ControlError> {
        let now = self.0.status().map_err(errors::query)?;
        let troubles = troubles::of(&now);
        Ok(Status {
            volumes: now.volumes.iter().map(told::volume).collect(),
            disks: now.pools.iter().flat_map(|pool| &pool.disks).map(told::disk).collect(),
            pools: now.pools.iter().map(told::pool).collect(),
            sessions: now.sessions.iter().map(told::session).collect(),
            node: told::node(&now.node),
            troubles,
        })
    }

    fn nodes(&self) -> Result<Vec<Node>, ControlError> {
        let now = self.0.status().map_err(errors::query)?;
        let others = now.neighbours.iter().map(told::neighbour);
        Ok(std::iter::once(told::node(&now.node)).chain(others).collect())
    }

    fn make_token(&self) -> Result<JoinToken, ControlError> {
        let (token, time) = self.0.token().map_err(errors::token)?;
        Ok(JoinToken { token: token.to_string(), seconds: time.as_secs() })
    }

    fn drain_node(&self, node: &str, is_wanted: bool) -> Result<Drain, ControlError> {
        let left = self.0.drain_node(node, is_wanted).map_err(errors::change_node)?;
        Ok(Drain { owned: left.owned, images: left.images })
    }

    fn remove_node(&self, node: &str) -> Result<(), ControlError> {
        self.0.remove_node(node).map_err(errors::change_node)
    }

    fn pools(&self) -> Result<Vec<Pool>, ControlError> {
        let pools = self.0.pools().map_err(errors::query)?;
        Ok(pools.iter().map(told::pool).collect())
    }

    fn create_pool(&self, request: CreatePool) -> Result<Pool, ControlError> {
        let Ok([disk]) = <[_; 1]>::try_from(request.disks) else {
            return Err(ControlError::Unsupported { what: "a pool of more than one disk".into() });
        };
        let request = control::CreatePool {
            name: request.name,
            path: disk.path.into(),
            size: disk.size_bytes.map(Bytes::new),
            assume_atomic_4k: disk.atomic_4k,
        };
        self.0.create_pool(request).map(|pool| told::pool(&pool)).map_err(errors::create_pool)
    }

    fn delete_orphan(&self, pool: PoolId, image: ImageId) -> Result<(), ControlError> {
        self.0.delete_orphan(&pool.to_string(), image).map_err(errors::delete_orphan)
    }

    fn open_pool(&self, pool: PoolId) -> Result<Pool, ControlError> {
        self.0.open_pool(&pool.to_string()).map(|pool| told::pool(&pool)).map_err(errors::open_pool)
    }

    fn delete_pool(&self, pool: PoolId, force: bool) -> Result<(), ControlError> {
        self.0.delete_pool(&pool.to_string(), force).map_err(errors::delete_pool)
    }

    fn disks(&self) -> Result<Vec<Disk>, ControlError> {
        let disks = self.0.disks().map_err(errors::query)?;
        Ok(disks.iter().map(told::disk).collect())
    }

    fn volumes(&self) -> Result<Vec<Volume>, ControlError> {
        let volumes = self.0.volumes().map_err(errors::query)?;
        Ok(volumes.iter().map(told::volume).collect())
    }

    fn create_volume(&self, request: CreateVolume) -> Result<Volume, ControlError> {
        let chap = |chap: Chap| dyad_node::settings::Chap { user: chap.user, secret: chap.secret };
        let request = control::CreateVolume {
            name: request.name,
            size: Bytes::new(request.size_bytes),
            pools: request.pools,
            block_bytes: request.block_bytes,
            cache: request.write_cache,
            min_in_sync: request.min_in_sync,
            when_few: match request.when_few {
                WhenFew::Error => control::WhenFew::Error,
                WhenFew::Wait => control::WhenFew::Wait,
            },
            access: control::AccessRules {
                initiators: request.access.initiators,
                chap: request.access.chap.map(chap),
                mutual_chap: request.access.mutual_chap.map(chap),
            },
        };
        self.0.create_volume(request).map(|volume| told::volume(&volume)).map_err(errors::create_volume)
    }

    fn delete_volume(&self, volume: VolumeId, force: bool) -> Result<(), ControlError> {
        self.0.delete_volume(&volume.to_string(), force).map_err(errors::delete_volume)
    }

    fn images(&self) -> Result<Vec<Image>, ControlError> {
        let images = self.0.images().map_err(errors::query)?;
        Ok(images.iter().map(told::image).collect())
    }

    fn add_image(&self, request: AddImage) -> Result<Image, ControlError> {
        images::add(&self.0, &request)
    }

    fn move_image(&self, image: ImageId, to: Place) -> Result<Image, ControlError> {
        images::relocate(&self.0, image, &to)
    }

    fn remove_image(&self, image: ImageId, force: bool, forget: bool) -> Result<(), ControlError> {
        images::remove(&self.0, image, force, forget)
    }

    fn detach_image(&self, image: ImageId) -> Result<Image, ControlError> {
        images::detach(&self.0, image)
    }

    fn reattach_image(&self, image: ImageId, accept_loss: bool) -> Result<Image, ControlError> {
        images::reattach(&self.0, image, accept_loss)
    }

    fn export_image(&self, image: ImageId) -> Result<Image, ControlError> {
        images::export(&self.0, image)
    }

    fn unexport_image(&self, image: ImageId) -> Result<(), ControlError> {
        images::unexport(&self.0, image)
    }

    fn read_image(&self, image: ImageId, offset: u64) -> Result<Vec<u8>, ControlError> {
        images::read(&self.0, image, offset)
    }

    fn loss(&self, image: ImageId) -> Result<Loss, ControlError> {
        images::loss(&self.0, image)
    }

    fn promote(&self, image: ImageId, accept_loss: bool) -> Result<Volume, ControlError> {
        images::promote(&self.0, image, accept_loss)
    }

    fn move_owner(&self, volume: VolumeId, to: NewOwner) -> Result<Volume, ControlError> {
        images::move_owner(&self.0, volume, &to)
    }

    fn prefer_owner(&self, volume: VolumeId, wish: PreferredOwner) -> Result<Volume, ControlError> {
        images::prefer_owner(&self.0, volume, &wish)
    }

    fn forget_reservations(&self, volume: VolumeId, word: ForgetReservations) -> Result<Volume, ControlError> {
        images::forget_reservations(&self.0, volume, word)
    }

    fn change_access(&self, volume: VolumeId, change: ChangeAccess) -> Result<Volume, ControlError> {
        images::change_access(&self.0, volume, change)
    }

    fn limit_volume(&self, volume: VolumeId, limits: Limits) -> Result<Volume, ControlError> {
        images::limit(&self.0, volume, limits)
    }

    fn sessions(&self) -> Result<Vec<Session>, ControlError> {
        let sessions = self.0.sessions().map_err(errors::query)?;
        Ok(sessions.iter().map(told::session).collect())
    }

    fn delete_session(&self, node: &str, session: u64) -> Result<(), ControlError> {
        self.0.close_session(node, session).map_err(errors::close_session)
    }
}

/// The kind that the node names by its word.
fn kind(word: &str) -> Kind {
    match word {
        "pool" => Kind::Pool,
        "disk" => Kind::Disk,
        "volume" => Kind::Volume,
        "image" => Kind::Image,
        "session" => Kind::Session,
        _ => Kind::Node,
    }
}
