//! Images and owners, in the API's words.

use dyad_api::ControlError;
use dyad_api::model::{
    AddImage, ChangeAccess, ForgetReservations, Image, Limits, Loss, NewOwner, Place, PreferredOwner, Right, Volume,
};
use dyad_cluster::{AccessError, InitiatorName, Whom};
use dyad_node::NodeHandle;
use dyad_node::control::{ImageError, VolumeInfo};
use dyad_units::{ImageId, VolumeId};

use super::{errors, told};

fn failed(error: ImageError) -> ControlError {
    match error {
        ImageError::Node(error) => errors::query(error),
        ImageError::Refused { why, advice } => {
            ControlError::Refused { what: told::sentence(&why), advice: told::sentence(&advice) }
        }
        other => ControlError::Failed { what: errors::chain(&other) },
    }
}

/// The volume and the image, as the node names them. What the node itself knows is nearly always enough, and does not wait for
/// nodes that are away; the command asks the others what it needs of them.
fn names(node: &NodeHandle, image: ImageId) -> Result<(String, String), ControlError> {
    let of =
        |volumes: Vec<VolumeInfo>| volumes.into_iter().flat_map(|volume| volume.images).find(|known| known.id == image);
    let own = node.own_status().map_err(errors::query)?;
    let found = match of(own.volumes) {
        Some(found) => Some(found),
        None => of(node.volumes().map_err(errors::query)?),
    };
    let missing = || ControlError::NotFound { kind: dyad_api::Kind::Image, name: image.to_string() };
    let found = found.ok_or_else(missing)?;
    Ok((found.volume.to_string(), image.to_string()))
}

pub(super) fn add(node: &NodeHandle, request: &AddImage) -> Result<Image, ControlError> {
    let added = node.add_image(&request.volume, request.node.as_deref(), request.pool.as_deref(), None);
    added.map(|image| told::image(&image)).map_err(failed)
}

pub(super) fn relocate(node: &NodeHandle, image: ImageId, to: &Place) -> Result<Image, ControlError> {
    let (volume, image) = names(node, image)?;
    let moved = node.move_image(&volume, &image, to.node.as_deref(), to.pool.as_deref());
    moved.map(|image| told::image(&image)).map_err(failed)
}

pub(super) fn remove(node: &NodeHandle, image: ImageId, force: bool, forget: bool) -> Result<(), ControlError> {
    let (volume, image) = names(node, image)?;
    node.remove_image(&volume, &image, force, forget).map(drop).map_err(failed)
}

pub(super) fn detach(node: &NodeHandle, image: ImageId) -> Result<Image, ControlError> {
    let (volume, image) = names(node, image)?;
    node.detach_image(&volume, &image).map(|image| told::image(&image)).map_err(failed)
}

pub(super) fn reattach(node: &NodeHandle, image: ImageId, accept_loss: bool) -> Result<Image, ControlError> {
    let (volume, image) = names(node, image)?;
    node.reattach_image(&volume, &image, accept_loss).map(|image| told::image(&image)).map_err(failed)
}

pub(super) fn export(node: &NodeHandle, image: ImageId) -> Result<Image, ControlError> {
    let (volume, image) = names(node, image)?;
    node.export_image(&volume, &image).map(|image| told::image(&image)).map_err(failed)
}

pub(super) fn unexport(node: &NodeHandle, image: ImageId) -> Result<(), ControlError> {
    let (volume, image) = names(node, image)?;
    node.unexport_image(&volume, &image).map(drop).map_err(failed)
}

pub(super) fn read(node: &NodeHandle, image: ImageId, offset: u64) -> Result<Vec<u8>, ControlError> {
    node.read_detached(image, offset).map_err(failed)
}

pub(super) fn loss(node: &NodeHandle, image: ImageId) -> Result<Loss, ControlError> {
    let (volume, image) = names(node, image)?;
    node.loss(&volume, &image).map(|loss| told::loss(&loss)).map_err(failed)
}

pub(super) fn promote(node: &NodeHandle, image: ImageId, accept_loss: bool) -> Result<Volume, ControlError> {
    if !accept_loss {
        let Loss { sentence, .. } = loss(node, image)?;
        let advice = "look at `dyad image loss`, make sure that the old owner is off, then say --yes-lose-data";
        return Err(ControlError::Refused { what: sentence, advice: advice.into() });
    }
    let (volume, image) = names(node, image)?;
    node.promote(&volume, &image).map(|volume| told::volume(&volume)).map_err(failed)
}

pub(super) fn move_owner(node: &NodeHandle, volume: VolumeId, to: &NewOwner) -> Result<Volume, ControlError> {
    let moved = node.move_owner(&volume.to_string(), to.node.as_deref());
    moved.map(|volume| told::volume(&volume)).map_err(failed)
}

pub(super) fn prefer_owner(node: &NodeHandle, volume: VolumeId, wish: &PreferredOwner) -> Result<Volume, ControlError> {
    let wished = node.prefer_owner(&volume.to_string(), wish.node.as_deref(), wish.automatic_after_seconds);
    wished.map(|volume| told::volume(&volume)).map_err(failed)
}

pub(super) fn forget_reservations(
    node: &NodeHandle,
    volume: VolumeId,
    word: ForgetReservations,
) -> Result<Volume, ControlError> {
    let volume = volume.to_string();
    if !word.accept_loss {
        let known = node.volume(&volume).map_err(errors::query)?;
        let lost = "all registrations and reservations of its hosts, and what they set by MODE SELECT, would be lost";
        let advice = "stop what relies on them, such as all nodes of a cluster but one, then say --yes-lose-reservations \
                      (`accept_loss`)";
        let what = format!("of volume `{}` {lost}", known.name);
        return Err(ControlError::Refused { what, advice: advice.into() });
    }
    node.forget_reservations(&volume, word.force).map(|volume| told::volume(&volume)).map_err(failed)
}

pub(super) fn change_access(node: &NodeHandle, volume: VolumeId, change: ChangeAccess) -> Result<Volume, ControlError> {
    let invalid = |error: AccessError| ControlError::Invalid { field: "initiator", reason: error.to_string() };
    let whom = match change.initiator {
        Some(name) => Whom::Host(InitiatorName::new(&name).map_err(invalid)?),
        None => Whom::Everybody,
    };
    let right = change.right.map(|right| match right {
        Right::ReadWrite => dyad_cluster::Right::ReadWrite,
        Right::ReadOnly => dyad_cluster::Right::ReadOnly,
    });
    node.change_access(&volume.to_string(), whom, right).map(|volume| told::volume(&volume)).map_err(failed)
}

pub(super) fn limit(node: &NodeHandle, volume: VolumeId, limits: Limits) -> Result<Volume, ControlError> {
    let Limits { iops, bytes_per_second, burst_seconds } = limits;
    let limits = dyad_cluster::Limits::new(iops, bytes_per_second, burst_seconds)
        .map_err(|error| ControlError::Invalid { field: "limits", reason: error.to_string() })?;
    node.limit_volume(&volume.to_string(), limits).map(|volume| told::volume(&volume)).map_err(failed)
}
