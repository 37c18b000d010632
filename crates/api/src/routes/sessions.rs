//! `/v1/sessions`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::find;
use crate::control::{ControlError, Kind};
use crate::extract::Name;
use crate::model::{List, Session};
use crate::problem::Problem;
use crate::router::Desk;

/// All iSCSI sessions of this node
#[utoipa::path(get, path = "/v1/sessions", operation_id = "list_sessions", tag = "sessions", responses(
    (status = 200, body = List<Session>),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(State(desk): State<Desk>) -> Result<Json<List<Session>>, Problem> {
    let items = desk.ask(|node| node.sessions()).await?;
    Ok(Json(List { items }))
}

/// One session
#[utoipa::path(get, path = "/v1/sessions/{session}", operation_id = "show_session", tag = "sessions",
    params(("session" = u64, Path, description = "Number of the session")),
    responses(
        (status = 200, body = Session),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn show(State(desk): State<Desk>, Name(wanted): Name) -> Result<Json<Session>, Problem> {
    let id = number(&wanted)?;
    let sessions = desk.ask(|node| node.sessions()).await?;
    Ok(Json(find(sessions, Kind::Session, &wanted, |session| session.id == id)?))
}

/// Close a session
///
/// The host is disconnected; most hosts log in again by themselves.
#[utoipa::path(delete, path = "/v1/sessions/{session}", operation_id = "delete_session", tag = "sessions",
    params(("session" = u64, Path, description = "Number of the session")),
    responses(
        (status = 204, description = "It is closed"),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn delete(State(desk): State<Desk>, Name(wanted): Name) -> Result<StatusCode, Problem> {
    let id = number(&wanted)?;
    desk.change(move |node| node.delete_session(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sessions have numbers; anything else names none.
fn number(wanted: &str) -> Result<u64, ControlError> {
    wanted.parse().map_err(|_| ControlError::NotFound { kind: Kind::Session, name: wanted.into() })
}
