//! One file per resource. Handlers only check, ask and wrap.

mod images;
mod nodes;
mod pools;
mod sessions;
mod volumes;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::control::{ControlError, Kind};
use crate::router::Desk;

/// All of `/v1`.
pub(crate) fn all() -> OpenApiRouter<Desk> {
    OpenApiRouter::new()
        .routes(routes!(nodes::status))
        .routes(routes!(nodes::list))
        .routes(routes!(nodes::show, nodes::change, nodes::remove))
        .routes(routes!(nodes::make_token))
        .routes(routes!(pools::list, pools::create))
        .routes(routes!(pools::show, pools::delete))
        .routes(routes!(pools::open))
        .routes(routes!(pools::delete_orphan))
        .routes(routes!(pools::list_disks))
        .routes(routes!(pools::show_disk))
        .routes(routes!(volumes::list, volumes::create))
        .routes(routes!(volumes::show, volumes::delete))
        .routes(routes!(volumes::move_owner))
        .routes(routes!(volumes::prefer_owner))
        .routes(routes!(volumes::forget_reservations))
        .routes(routes!(volumes::change_access))
        .routes(routes!(volumes::limit))
        .routes(routes!(images::list, images::add))
        .routes(routes!(images::show, images::remove))
        .routes(routes!(images::detach))
        .routes(routes!(images::reattach))
        .routes(routes!(images::export, images::unexport))
        .routes(routes!(images::relocate))
        .routes(routes!(images::content))
        .routes(routes!(images::loss))
        .routes(routes!(images::promote))
        .routes(routes!(sessions::list))
        .routes(routes!(sessions::show, sessions::delete))
}

/// Finds the one with that name or id.
fn find<T>(items: Vec<T>, kind: Kind, wanted: &str, is: impl Fn(&T) -> bool) -> Result<T, ControlError> {
    let missing = || ControlError::NotFound { kind, name: wanted.into() };
    items.into_iter().find(|item| is(item)).ok_or_else(missing)
}

/// 201 with the new object and its place.
type Created<T> = (StatusCode, [(HeaderName, HeaderValue); 1], axum::Json<T>);

fn created<T: Serialize>(collection: &str, name: &str, item: T) -> Created<T> {
    // Names were checked: they have only characters that a header can hold.
    let place = HeaderValue::from_str(&format!("/v1/{collection}/{name}"));
    let place = place.unwrap_or_else(|_| HeaderValue::from_static("/v1"));
    (StatusCode::CREATED, [(header::LOCATION, place)], axum::Json(item))
}
