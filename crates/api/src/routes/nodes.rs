//! `/v1/status` and `/v1/nodes`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::find;
use crate::control::Kind;
use crate::extract::{Body, Name};
use crate::model::{ChangeNode, Drain, JoinToken, List, Node, Status};
use crate::problem::Problem;
use crate::router::Desk;

/// One glance at everything
#[utoipa::path(get, path = "/v1/status", operation_id = "show_status", tag = "status", responses(
    (status = 200, body = Status),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn status(State(desk): State<Desk>) -> Result<Json<Status>, Problem> {
    desk.ask(|node| node.status()).await.map(Json)
}

/// All nodes known here, this one first
#[utoipa::path(get, path = "/v1/nodes", operation_id = "list_nodes", tag = "nodes", responses(
    (status = 200, body = List<Node>),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(State(desk): State<Desk>) -> Result<Json<List<Node>>, Problem> {
    let items = desk.ask(|node| node.nodes()).await?;
    Ok(Json(List { items }))
}

/// One node
#[utoipa::path(get, path = "/v1/nodes/{node}", operation_id = "show_node", tag = "nodes",
    params(("node" = String, Path, description = "Name or id")),
    responses(
        (status = 200, body = Node),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn show(State(desk): State<Desk>, Name(wanted): Name) -> Result<Json<Node>, Problem> {
    let is = |name: &str, id: String| name == wanted || id == wanted;
    let nodes = desk.ask(|node| node.nodes()).await?;
    Ok(Json(find(nodes, Kind::Node, &wanted, |node| is(&node.name, node.id.to_string()))?))
}

/// Make a token with which another machine joins the cluster
#[utoipa::path(post, path = "/v1/join-tokens", operation_id = "make_join_token", tag = "nodes", responses(
    (status = 201, body = JoinToken),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn make_token(State(desk): State<Desk>) -> Result<(StatusCode, Json<JoinToken>), Problem> {
    let token = desk.ask(|node| node.make_token()).await?;
    Ok((StatusCode::CREATED, Json(token)))
}

/// Drain a node, or let it serve again
#[utoipa::path(patch, path = "/v1/nodes/{node}", operation_id = "change_node", tag = "nodes",
    params(("node" = String, Path, description = "Name or id")),
    request_body = ChangeNode,
    responses(
        (status = 200, description = "Done as far as possible within seconds; the node goes on", body = Drain),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn change(
    State(desk): State<Desk>,
    Name(wanted): Name,
    Body(change): Body<ChangeNode>,
) -> Result<Json<Drain>, Problem> {
    desk.change(move |node| node.drain_node(&wanted, change.draining)).await.map(Json)
}

/// Take a node without images out of the cluster
#[utoipa::path(delete, path = "/v1/nodes/{node}", operation_id = "remove_node", tag = "nodes",
    params(("node" = String, Path, description = "Name or id")),
    responses(
        (status = 204, description = "It is of the cluster no more"),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn remove(State(desk): State<Desk>, Name(wanted): Name) -> Result<StatusCode, Problem> {
    desk.change(move |node| node.remove_node(&wanted)).await?;
    Ok(StatusCode::NO_CONTENT)
}
