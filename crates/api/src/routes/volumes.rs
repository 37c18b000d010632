//! `/v1/volumes`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;

use super::{Created, created, find};
use crate::check;
use crate::control::{Control, ControlError, Kind};
use crate::extract::{Body, Name, Options};
use crate::model::{ChangeAccess, CreateVolume, ForgetReservations, Limits, List, NewOwner, PreferredOwner, Volume};
use crate::problem::Problem;
use crate::router::Desk;

/// All volumes with their images
#[utoipa::path(get, path = "/v1/volumes", operation_id = "list_volumes", tag = "volumes", responses(
    (status = 200, body = List<Volume>),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(State(desk): State<Desk>) -> Result<Json<List<Volume>>, Problem> {
    let items = desk.ask(|node| node.volumes()).await?;
    Ok(Json(List { items }))
}

/// One volume with its images
#[utoipa::path(get, path = "/v1/volumes/{volume}", operation_id = "show_volume", tag = "volumes",
    params(("volume" = String, Path, description = "Name or id")),
    responses(
        (status = 200, body = Volume),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn show(State(desk): State<Desk>, Name(wanted): Name) -> Result<Json<Volume>, Problem> {
    desk.ask(move |node| look_up(node, &wanted)).await.map(Json)
}

/// Create a volume with one image in each of some pools, and serve it
#[utoipa::path(post, path = "/v1/volumes", operation_id = "create_volume", tag = "volumes", request_body = CreateVolume, responses(
    (status = 201, body = Volume, headers(("Location" = String, description = "Path of the volume"))),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn create(
    State(desk): State<Desk>,
    Body(request): Body<CreateVolume>,
) -> Result<Created<Volume>, Problem> {
    check::create_volume(&request)?;
    let volume = desk.change(move |node| node.create_volume(request)).await?;
    Ok(created("volumes", &volume.name.clone(), volume))
}

/// How to delete a volume.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeleteOptions {
    #[serde(default)]
    force: bool,
}

/// Delete a volume, all of its images and the data in them
#[utoipa::path(delete, path = "/v1/volumes/{volume}", operation_id = "delete_volume", tag = "volumes",
    params(
        ("volume" = String, Path, description = "Name or id"),
        ("force" = Option<bool>, Query, description = "Delete it although hosts are logged in; they are disconnected"),
    ),
    responses(
        (status = 204, description = "It is gone"),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn delete(
    State(desk): State<Desk>,
    Name(wanted): Name,
    Options(options): Options<DeleteOptions>,
) -> Result<StatusCode, Problem> {
    desk.change(move |node| {
        let volume = look_up(node, &wanted)?;
        node.delete_volume(volume.id, options.force)
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Hand a volume over to another node (rule M12)
#[utoipa::path(post, path = "/v1/volumes/{volume}/owner", operation_id = "move_owner", tag = "volumes",
    params(("volume" = String, Path, description = "Name or id")), request_body = NewOwner,
    responses(
        (status = 200, body = Volume),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn move_owner(
    State(desk): State<Desk>,
    Name(wanted): Name,
    Body(to): Body<NewOwner>,
) -> Result<Json<Volume>, Problem> {
    desk.change(move |node| node.move_owner(look_up(node, &wanted)?.id, to)).await.map(Json)
}

/// Say which node should own a volume, and whether it gets it back by itself
#[utoipa::path(put, path = "/v1/volumes/{volume}/preferred-owner", operation_id = "prefer_owner", tag = "volumes",
    params(("volume" = String, Path, description = "Name or id")), request_body = PreferredOwner,
    responses(
        (status = 200, body = Volume),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn prefer_owner(
    State(desk): State<Desk>,
    Name(wanted): Name,
    Body(wish): Body<PreferredOwner>,
) -> Result<Json<Volume>, Problem> {
    desk.change(move |node| node.prefer_owner(look_up(node, &wanted)?.id, wish)).await.map(Json)
}

/// Say which hosts may use a volume, and whether they may write
#[utoipa::path(patch, path = "/v1/volumes/{volume}/access", operation_id = "change_access", tag = "volumes",
    params(("volume" = String, Path, description = "Name or id")), request_body = ChangeAccess,
    responses(
        (status = 200, body = Volume),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn change_access(
    State(desk): State<Desk>,
    Name(wanted): Name,
    Body(change): Body<ChangeAccess>,
) -> Result<Json<Volume>, Problem> {
    check::initiator(change.initiator.as_deref())?;
    desk.change(move |node| node.change_access(look_up(node, &wanted)?.id, change)).await.map(Json)
}

/// Limit what the hosts of a volume may ask of it
#[utoipa::path(put, path = "/v1/volumes/{volume}/limits", operation_id = "limit_volume", tag = "volumes",
    params(("volume" = String, Path, description = "Name or id")), request_body = Limits,
    responses(
        (status = 200, body = Volume),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn limit(
    State(desk): State<Desk>,
    Name(wanted): Name,
    Body(limits): Body<Limits>,
) -> Result<Json<Volume>, Problem> {
    check::limits(&limits)?;
    desk.change(move |node| node.limit_volume(look_up(node, &wanted)?.id, limits)).await.map(Json)
}

/// Forget all reservations of a volume's hosts, where nobody can read them
#[utoipa::path(post, path = "/v1/volumes/{volume}/forget-reservations", operation_id = "forget_reservations",
    tag = "volumes",
    params(("volume" = String, Path, description = "Name or id")), request_body = ForgetReservations,
    responses(
        (status = 200, body = Volume),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn forget_reservations(
    State(desk): State<Desk>,
    Name(wanted): Name,
    Body(word): Body<ForgetReservations>,
) -> Result<Json<Volume>, Problem> {
    desk.change(move |node| node.forget_reservations(look_up(node, &wanted)?.id, word)).await.map(Json)
}

fn look_up(node: &dyn Control, wanted: &str) -> Result<Volume, ControlError> {
    find(node.volumes()?, Kind::Volume, wanted, |volume| volume.name == wanted || volume.id.to_string() == wanted)
}
