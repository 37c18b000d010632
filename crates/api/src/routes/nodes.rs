//! `/v1/status` and `/v1/nodes`.

use axum::Json;
use axum::extract::State;

use super::find;
use crate::control::Kind;
use crate::extract::Name;
use crate::model::{List, Node, Status};
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
