//! `/v1/sessions`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use crate::control::{ControlError, Kind};
use crate::extract::Name;
use crate::model::{List, Session};
use crate::problem::Problem;
use crate::router::Desk;

/// All iSCSI sessions of the cluster
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
    params(("session" = String, Path, description = "`NODE:NUMBER`, or its number where no other node has one of that number")),
    responses(
        (status = 200, body = Session),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn show(State(desk): State<Desk>, Name(wanted): Name) -> Result<Json<Session>, Problem> {
    let sessions = desk.ask(|node| node.sessions()).await?;
    Ok(Json(pick(sessions, &wanted)?))
}

/// Close a session, at whatever node it is
///
/// The host is disconnected; most hosts log in again by themselves.
#[utoipa::path(delete, path = "/v1/sessions/{session}", operation_id = "delete_session", tag = "sessions",
    params(("session" = String, Path, description = "`NODE:NUMBER`, or its number where no other node has one of that number")),
    responses(
        (status = 204, description = "It is closed"),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ))]
pub(super) async fn delete(State(desk): State<Desk>, Name(wanted): Name) -> Result<StatusCode, Problem> {
    desk.change(move |node| match parse(&wanted)? {
        // What the node itself says counts, also where it is not known here.
        (Some(at), id) => node.delete_session(at, id),
        (None, id) => node.delete_session(&pick(node.sessions()?, &wanted)?.node, id),
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The one that is meant. Each node counts its sessions for itself, so a number alone may mean several.
fn pick(sessions: Vec<Session>, wanted: &str) -> Result<Session, ControlError> {
    let (at, id) = parse(wanted)?;
    let is_it = |session: &Session| session.id == id && at.is_none_or(|at| session.node == at);
    let mut found: Vec<Session> = sessions.into_iter().filter(is_it).collect();
    match found.len() {
        0 => Err(missing(wanted)),
        1 => Ok(found.remove(0)),
        _ => {
            let names: Vec<_> = found.iter().map(|session| format!("`{}:{id}`", session.node)).collect();
            let what = format!("sessions of several nodes have the number {id}");
            Err(ControlError::Refused { what, advice: format!("name the one that is meant: {}", names.join(" or ")) })
        }
    }
}

/// The node, if it is named, and the number; anything else names no session.
fn parse(wanted: &str) -> Result<(Option<&str>, u64), ControlError> {
    let (at, id) = match wanted.rsplit_once(':') {
        Some((at, id)) => (Some(at), id),
        None => (None, wanted),
    };
    Ok((at, id.parse().map_err(|_| missing(wanted))?))
}

fn missing(wanted: &str) -> ControlError {
    ControlError::NotFound { kind: Kind::Session, name: wanted.into() }
}
