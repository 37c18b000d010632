//! Listeners and connections, within bounds.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::guard::Guard;
use crate::router::{self, Desk};

/// Connections of one listener at a time; more wait in the kernel's queue. Each costs some KiB.
pub const CONNECTIONS_MAX: usize = 64;
/// How long a client may take to send a request's head, and how long a connection may be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest head of a request.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// How long requests in flight may take to finish when the server ends.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);
/// Pause after a failed accept (out of descriptors), lest the loop spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where requests come in.
#[derive(Debug)]
pub enum Listener {
    /// A Unix socket.
    Unix(UnixListener),
    /// TCP.
    Tcp(TcpListener),
}

/// Serves one listener until it is told to end.
pub struct Server {
    listener: Listener,
    router: Router,
}

impl Server {
    /// A server of `desk` behind `guard`.
    pub fn new(listener: Listener, guard: Guard, desk: Desk) -> Self {
        Self { listener, router: router::router(desk, guard) }
    }

    /// Serves until `end` completes, then lets requests in flight finish, for a bounded time.
    pub async fn run(self, end: impl Future<Output = ()> + Send) {
        let (ending, ended) = watch::channel(());
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        let mut end = std::pin::pin!(end);
        loop {
            let accepted = tokio::select! {
                () = &mut end => break,
                accepted = self.accept(&room) => accepted,
            };
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((stream, place)) => {
                    let (router, mut ended) = (self.router.clone(), ended.clone());
                    connections.spawn(async move {
                        let _place = place;
                        serve(stream, router, async move {
                            let _ = ended.changed().await; // completes when the sender is gone
                        })
                        .await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the administration listener cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(ending);
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
            tracing::warn!("administration requests were cut off");
        }
    }

    async fn accept(&self, room: &Arc<Semaphore>) -> io::Result<(Box<dyn Stream>, tokio::sync::OwnedSemaphorePermit)> {
        // The semaphore is never closed.
        let place = Arc::clone(room).acquire_owned().await.map_err(io::Error::other)?;
        let stream: Box<dyn Stream> = match &self.listener {
            Listener::Unix(listener) => Box::new(listener.accept().await?.0),
            Listener::Tcp(listener) => Box::new(listener.accept().await?.0),
        };
        Ok((stream, place))
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn serve(stream: Box<dyn Stream>, router: Router, end: impl Future<Output = ()>) {
    let service = router.map_request(|request: hyper::Request<Incoming>| request.map(Body::new));
    let service = TowerToHyperService::new(service.map_err(|never: Infallible| never));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = end => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "an administration connection ended early");
    }
}
