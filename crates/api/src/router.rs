//! From a request to the node's answer, within bounds.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use tokio::sync::Semaphore;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::control::{Control, ControlError};
use crate::guard::{self, Guard};
use crate::problem::{Fault, Problem};
use crate::routes;

/// Largest request: one that creates a volume with 64 initiators of 223 bytes has about 16 KiB.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Requests at the node at a time. An administrator and a few monitors need less; more would only wait there.
const REQUESTS_MAX: usize = 16;
/// How long to wait for a question's answer. The node gives up by itself much sooner.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait for a change: a pool's file may have to be written whole where it cannot be preallocated.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(600);

/// Where requests wait for the node: its control and the bound of how many ask at a time.
#[derive(Clone)]
pub struct Desk {
    control: Arc<dyn Control>,
    room: Arc<Semaphore>,
}

impl Desk {
    /// One desk serves all listeners of a node, so that the bound holds for them together.
    pub fn new(control: Arc<dyn Control>) -> Self {
        Self { control, room: Arc::new(Semaphore::new(REQUESTS_MAX)) }
    }

    /// Asks a question, on a thread that may block.
    pub(crate) async fn ask<T, F>(&self, question: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Control) -> Result<T, ControlError> + Send + 'static,
    {
        self.run(QUESTION_TIMEOUT, question).await
    }

    /// Asks for a change. It goes on when the asker has gone: half a change is worse than one that nobody waits for.
    pub(crate) async fn change<T, F>(&self, change: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Control) -> Result<T, ControlError> + Send + 'static,
    {
        self.run(CHANGE_TIMEOUT, change).await
    }

    async fn run<T, F>(&self, timeout: Duration, work: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Control) -> Result<T, ControlError> + Send + 'static,
    {
        let place = Arc::clone(&self.room).try_acquire_owned().map_err(|_| ControlError::Busy)?;
        let control = Arc::clone(&self.control);
        let answer = tokio::task::spawn_blocking(move || {
            let _place = place; // given back when the work ends, not when the asker stops waiting
            work(control.as_ref())
        });
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(answer)) => answer.map_err(Problem::from),
            Ok(Err(_)) => Err(Problem::new(
                Fault::Failed,
                "the request met a fault of the program",
                "report it with the node's log; hosts are not affected",
            )),
            Err(_) => Err(ControlError::Timeout { seconds: timeout.as_secs() }.into()),
        }
    }
}

/// The handlers and their description, from one source.
pub(crate) fn described() -> (Router<Desk>, OpenApi) {
    OpenApiRouter::new().merge(routes::all()).split_for_parts()
}

/// Everything behind one listener.
pub(crate) fn router(desk: Desk, guard: Guard) -> Router {
    let (handlers, _) = described();
    handlers
        .route("/v1/openapi.json", axum::routing::get(crate::openapi::show))
        .fallback(no_such_path)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(guard, guard::check))
        .with_state(desk)
}

async fn no_such_path() -> Problem {
    Problem::new(Fault::NoSuchPath, "there is no such path", "/v1/openapi.json lists all paths")
}

async fn method_not_allowed() -> Problem {
    Problem::new(Fault::MethodNotAllowed, "this path does not know that method", "/v1/openapi.json lists all methods")
}
