//! `/v1/images`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use dyad_units::ImageId;
use serde::Deserialize;

use super::{Created, created, find};
use crate::control::{Control, ControlError, Kind};
use crate::extract::{Body, Name, Nothing, Options};
use crate::model::{AcceptLoss, AddImage, Image, List, Loss, Place, Volume};
use crate::problem::Problem;
use crate::router::Desk;

/// All images of all volumes
#[utoipa::path(get, path = "/v1/images", operation_id = "list_images", tag = "images", responses(
    (status = 200, body = List<Image>),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(State(desk): State<Desk>) -> Result<Json<List<Image>>, Problem> {
    let items = desk.ask(|node| node.images()).await?;
    Ok(Json(List { items }))
}

/// One image
#[utoipa::path(get, path = "/v1/images/{image}", operation_id = "show_image", tag = "images",
    params(("image" = String, Path, description = "Id")),
    responses(
        (status = 200, body = Image),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn show(State(desk): State<Desk>, Name(wanted): Name) -> Result<Json<Image>, Problem> {
    desk.ask(move |node| look_up(node, &wanted)).await.map(Json)
}

/// Add an image to a volume, in use
#[utoipa::path(post, path = "/v1/images", operation_id = "add_image", tag = "images", request_body = AddImage, responses(
    (status = 201, body = Image, headers(("Location" = String, description = "Path of the image"))),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn add(State(desk): State<Desk>, Body(request): Body<AddImage>) -> Result<Created<Image>, Problem> {
    let image = desk.change(move |node| node.add_image(request)).await?;
    Ok(created("images", &image.id.to_string(), image))
}

/// How to remove an image.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RemoveOptions {
    #[serde(default)]
    force: bool,
    #[serde(default)]
    forget: bool,
}

/// Remove an image from its volume; its node deletes the data
#[utoipa::path(delete, path = "/v1/images/{image}", operation_id = "remove_image", tag = "images",
    params(
        ("image" = String, Path, description = "Id"),
        ("force" = Option<bool>, Query, description = "Although the volume is not redundant any more then"),
        ("forget" = Option<bool>, Query, description = "Without waiting for its node, which never comes back"),
    ),
    responses(
        (status = 204, description = "It is out of the volume; what is left of it is deleted when its node is there"),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn remove(
    State(desk): State<Desk>,
    Name(wanted): Name,
    Options(options): Options<RemoveOptions>,
) -> Result<StatusCode, Problem> {
    desk.change(move |node| node.remove_image(id(node, &wanted)?, options.force, options.forget)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Detach an image: it stays as it is, a copy of this moment
#[utoipa::path(post, path = "/v1/images/{image}/detach", operation_id = "detach_image", tag = "images",
    params(("image" = String, Path, description = "Id")),
    responses(
        (status = 200, body = Image),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn detach(
    State(desk): State<Desk>,
    Name(wanted): Name,
    Nothing: Nothing,
) -> Result<Json<Image>, Problem> {
    desk.change(move |node| node.detach_image(id(node, &wanted)?)).await.map(Json)
}

/// Let an image catch up that is detached or was taken out; only what changed is copied
#[utoipa::path(post, path = "/v1/images/{image}/reattach", operation_id = "reattach_image", tag = "images",
    params(("image" = String, Path, description = "Id")), request_body = AcceptLoss,
    responses(
        (status = 200, body = Image),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn reattach(
    State(desk): State<Desk>,
    Name(wanted): Name,
    Body(word): Body<AcceptLoss>,
) -> Result<Json<Image>, Problem> {
    desk.change(move |node| node.reattach_image(id(node, &wanted)?, word.accept_loss)).await.map(Json)
}

/// Export a detached image as a read-only target of its own, at its node
#[utoipa::path(post, path = "/v1/images/{image}/export", operation_id = "export_image", tag = "images",
    params(("image" = String, Path, description = "Id")),
    responses(
        (status = 200, body = Image),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn export(
    State(desk): State<Desk>,
    Name(wanted): Name,
    Nothing: Nothing,
) -> Result<Json<Image>, Problem> {
    desk.change(move |node| node.export_image(id(node, &wanted)?)).await.map(Json)
}

/// Export an image no more; sessions with its target are closed
#[utoipa::path(delete, path = "/v1/images/{image}/export", operation_id = "unexport_image", tag = "images",
    params(("image" = String, Path, description = "Id")),
    responses(
        (status = 204, description = "It is not exported any more"),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn unexport(State(desk): State<Desk>, Name(wanted): Name) -> Result<StatusCode, Problem> {
    desk.change(move |node| node.unexport_image(id(node, &wanted)?)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Move an image to another node or pool, in use; the answer is the new one
#[utoipa::path(post, path = "/v1/images/{image}/move", operation_id = "move_image", tag = "images",
    params(("image" = String, Path, description = "Id")), request_body = Place,
    responses(
        (status = 200, body = Image),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn relocate(
    State(desk): State<Desk>,
    Name(wanted): Name,
    Body(to): Body<Place>,
) -> Result<Json<Image>, Problem> {
    desk.change(move |node| node.move_image(id(node, &wanted)?, to)).await.map(Json)
}

/// What a forced promotion of an image would lose, or what only a detached image has
#[utoipa::path(get, path = "/v1/images/{image}/loss", operation_id = "show_loss", tag = "images",
    params(("image" = String, Path, description = "Id")),
    responses(
        (status = 200, body = Loss),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn loss(State(desk): State<Desk>, Name(wanted): Name) -> Result<Json<Loss>, Problem> {
    desk.change(move |node| node.loss(id(node, &wanted)?)).await.map(Json)
}

/// Serve a volume from an image that may lack acknowledged writes
#[utoipa::path(post, path = "/v1/images/{image}/promote", operation_id = "promote_image", tag = "images",
    params(("image" = String, Path, description = "Id")), request_body = AcceptLoss,
    responses(
        (status = 200, body = Volume),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn promote(
    State(desk): State<Desk>,
    Name(wanted): Name,
    Body(word): Body<AcceptLoss>,
) -> Result<Json<Volume>, Problem> {
    desk.change(move |node| node.promote(id(node, &wanted)?, word.accept_loss)).await.map(Json)
}

/// Where to read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ContentOptions {
    #[serde(default)]
    offset: u64,
}

/// Up to 1 MiB of a detached image, verified; nothing behind its end
#[utoipa::path(get, path = "/v1/images/{image}/content", operation_id = "read_image", tag = "images",
    params(
        ("image" = String, Path, description = "Id"),
        ("offset" = Option<u64>, Query, description = "First byte, a multiple of 262144"),
    ),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn content(
    State(desk): State<Desk>,
    Name(wanted): Name,
    Options(options): Options<ContentOptions>,
) -> Result<Vec<u8>, Problem> {
    desk.ask(move |node| {
        let image = wanted.parse().map_err(|_| ControlError::NotFound { kind: Kind::Image, name: wanted })?;
        node.read_image(image, options.offset)
    })
    .await
}

fn look_up(node: &dyn Control, wanted: &str) -> Result<Image, ControlError> {
    find(node.images()?, Kind::Image, wanted, |image| image.id.to_string() == wanted)
}

fn id(node: &dyn Control, wanted: &str) -> Result<ImageId, ControlError> {
    look_up(node, wanted).map(|image| image.id)
}
