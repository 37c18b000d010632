//! `/v1/images`. Images come and go with their volumes in this version.

use axum::Json;
use axum::extract::State;

use super::find;
use crate::control::Kind;
use crate::extract::Name;
use crate::model::{Image, List};
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
    let images = desk.ask(|node| node.images()).await?;
    Ok(Json(find(images, Kind::Image, &wanted, |image| image.id.to_string() == wanted)?))
}
