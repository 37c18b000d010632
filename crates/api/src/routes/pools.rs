//! `/v1/pools` and `/v1/disks`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;

use super::{Created, created, find};
use crate::check;
use crate::control::{Control, ControlError, Kind};
use crate::extract::{Body, Name, Nothing, Options};
use crate::model::{CreatePool, Disk, List, Orphan, Pool};
use crate::problem::Problem;
use crate::router::Desk;

/// All pools of this node
#[utoipa::path(get, path = "/v1/pools", operation_id = "list_pools", tag = "pools", responses(
    (status = 200, body = List<Pool>),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(State(desk): State<Desk>) -> Result<Json<List<Pool>>, Problem> {
    let items = desk.ask(|node| node.pools()).await?;
    Ok(Json(List { items }))
}

/// One pool
#[utoipa::path(get, path = "/v1/pools/{pool}", operation_id = "show_pool", tag = "pools",
    params(("pool" = String, Path, description = "Name or id")),
    responses(
        (status = 200, body = Pool),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn show(State(desk): State<Desk>, Name(wanted): Name) -> Result<Json<Pool>, Problem> {
    desk.ask(move |node| look_up(node, &wanted)).await.map(Json)
}

/// Create a pool on a disk that is not in use
#[utoipa::path(post, path = "/v1/pools", operation_id = "create_pool", tag = "pools", request_body = CreatePool, responses(
    (status = 201, body = Pool, headers(("Location" = String, description = "Path of the pool"))),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn create(
    State(desk): State<Desk>,
    Body(request): Body<CreatePool>,
) -> Result<Created<Pool>, Problem> {
    check::create_pool(&request)?;
    let pool = desk.change(move |node| node.create_pool(request)).await?;
    Ok(created("pools", &pool.name.clone(), pool))
}

/// Open a pool that could not be opened before, without waiting for the next try
#[utoipa::path(post, path = "/v1/pools/{pool}/open", operation_id = "open_pool", tag = "pools",
    params(("pool" = String, Path, description = "Name or id")),
    responses(
        (status = 200, body = Pool, description = "It is open, now or before"),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn open(
    State(desk): State<Desk>,
    Name(wanted): Name,
    Nothing: Nothing,
) -> Result<Json<Pool>, Problem> {
    desk.change(move |node| {
        let pool = look_up(node, &wanted)?;
        node.open_pool(pool.id)
    })
    .await
    .map(Json)
}

/// How to delete a pool.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeleteOptions {
    #[serde(default)]
    force: bool,
}

/// Delete a pool that holds no image
#[utoipa::path(delete, path = "/v1/pools/{pool}", operation_id = "delete_pool", tag = "pools",
    params(
        ("pool" = String, Path, description = "Name or id"),
        ("force" = Option<bool>, Query, description = "Although it holds images that belong to no known volume"),
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
        let pool = look_up(node, &wanted)?;
        node.delete_pool(pool.id, options.force)
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Delete an image in a pool of this node that no record names, as the pool shows it
#[utoipa::path(delete, path = "/v1/orphans/{image}", operation_id = "delete_orphan", tag = "pools",
    params(("image" = String, Path, description = "Id")),
    responses(
        (status = 204, description = "It is gone"),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn delete_orphan(State(desk): State<Desk>, Name(wanted): Name) -> Result<StatusCode, Problem> {
    desk.change(move |node| {
        let is_it = |orphan: &Orphan| orphan.id.to_string() == wanted;
        let found = node.pools()?.into_iter().find_map(|pool| {
            let orphan = pool.orphans.iter().find(|orphan| is_it(orphan))?.id;
            Some((pool, orphan))
        });
        let missing = || ControlError::NotFound { kind: Kind::Orphan, name: wanted.clone() };
        let (pool, orphan) = found.ok_or_else(missing)?;
        match node.delete_orphan(pool.id, orphan) {
            Err(ControlError::NotFound { kind: Kind::Pool, .. }) => Err(ControlError::Refused {
                what: format!("image `{orphan}` is in a pool of node {}", pool.node),
                advice: "ask that node to delete it".into(),
            }),
            answer => answer,
        }
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// All disks of all pools
#[utoipa::path(get, path = "/v1/disks", tag = "disks", responses(
    (status = 200, body = List<Disk>),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list_disks(State(desk): State<Desk>) -> Result<Json<List<Disk>>, Problem> {
    let items = desk.ask(|node| node.disks()).await?;
    Ok(Json(List { items }))
}

/// One disk
#[utoipa::path(get, path = "/v1/disks/{disk}", tag = "disks",
    params(("disk" = String, Path, description = "Id, or path with `/` as `%2F`")),
    responses(
        (status = 200, body = Disk),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn show_disk(State(desk): State<Desk>, Name(wanted): Name) -> Result<Json<Disk>, Problem> {
    let disks = desk.ask(|node| node.disks()).await?;
    let is = |disk: &Disk| disk.path == wanted || disk.id.is_some_and(|id| id.to_string() == wanted);
    Ok(Json(find(disks, Kind::Disk, &wanted, is)?))
}

fn look_up(node: &dyn Control, wanted: &str) -> Result<Pool, ControlError> {
    find(node.pools()?, Kind::Pool, wanted, |pool| pool.name == wanted || pool.id.to_string() == wanted)
}
