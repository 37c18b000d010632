//! The description of the interface, generated from its handlers and types.

use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{InfoBuilder, LicenseBuilder, OpenApi};

use crate::router;

/// OpenAPI 3.1 of the interface, as indented JSON with a closing newline: the file `docs/openapi.json`.
pub fn openapi_json() -> String {
    let mut text = serde_json::to_string_pretty(&describe()).expect("a description is plain data");
    text.push('\n');
    text
}

fn describe() -> OpenApi {
    let (_, mut api) = router::described();
    api.info = InfoBuilder::new()
        .title("Dyad")
        .version("1")
        .description(Some(
            "What an administrator can see and change on a node. Sizes are in bytes. Answers may gain fields within \
             /v1; ignore what you do not know. Errors are problem details (RFC 9457) with two more sentences: what \
             failed (`detail`) and what to do (`advice`).",
        ))
        .license(Some(LicenseBuilder::new().name("Apache-2.0 OR MIT").build()))
        .build();
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("Wanted on TCP where the configuration sets `api.token_sha256`; never on the Unix socket."))
        .build();
    let components = api.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(token));
    api
}

pub(crate) async fn show() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], openapi_json())
}
