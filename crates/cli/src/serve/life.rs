//! The life of a node's process: begin, be asked, be told to end, end in good order.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::thread;

use dyad_api::{Control, Desk, Server};
use dyad_node::control::{QueryError, StopError};
use dyad_node::{Node, NodeHandle};
use dyad_units::Period;
use rustix::fs::Mode;
use sd_notify::NotifyState;
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::listen::{self, OwnSocket};
use super::signals::Signals;
use super::watchdog;
use crate::bind::{self, BoundNode};
use crate::config::Config;
use crate::failure::Failure;

/// Threads of the control plane. It waits most of the time; the data plane has threads of its own.
const CONTROL_THREADS: usize = 2;

/// How often systemd is asked for patience while pools are opened, and for how much.
const START_LOOK: Period = Period::from_secs(5);
const START_PATIENCE_MICROS: u32 = 60_000_000;

/// What runs beside the node and may end it by ending: the quickstart's screen.
pub type Beside = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// A node that runs.
pub struct Life {
    runtime: Runtime,
    handle: NodeHandle,
    control: Arc<dyn Control>,
    /// Told when the node has ended, for whatever reason.
    ended: oneshot::Receiver<Result<(), StopError>>,
    servers: JoinSet<()>,
    end_servers: watch::Sender<bool>,
    signals: Signals,
    /// Last, so that the socket goes when nothing serves it any more.
    _socket: OwnSocket,
}

impl Life {
    /// Starts the node, then opens the administration sockets.
    pub fn begin(config: &Config) -> Result<Self, Failure> {
        // Whatever is made from here on is its owner's alone.
        rustix::process::umask(Mode::from_raw_mode(0o077));
        let socket = OwnSocket::take(&config.api.socket)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(CONTROL_THREADS)
            .thread_name("control")
            .enable_all()
            .build()
            .map_err(|error| Failure::failed(format!("cannot start threads: {error}"), "check `ulimit -u`"))?;
        // Before the node: a signal during a long start must end it in good order, too.
        let signals = runtime.block_on(async { Signals::new() })?;
        watchdog::tell(&[NotifyState::Status("opening pools and volumes")]);
        let node = start(config)?;
        let handle = node.handle().clone();
        let ended = wait_on_a_thread(node)?;
        let control: Arc<dyn Control> = Arc::new(BoundNode(handle.clone()));
        let (end_servers, _) = watch::channel(false);
        let (servers, _socket) = (JoinSet::new(), socket);
        let mut life = Self { runtime, handle, control, ended, servers, end_servers, signals, _socket };
        match life.open_sockets(config) {
            Ok(()) => Ok(life),
            Err(failure) => life.give_up(failure),
        }
    }

    /// What the node can be asked.
    pub fn control(&self) -> Arc<dyn Control> {
        Arc::clone(&self.control)
    }

    /// Runs until a signal, the end of what runs beside, or the end of the node; then ends in good order.
    /// `beside` begins when all pools and volumes are in service, or known not to be.
    pub fn run(self, beside: Option<Beside>) -> Result<(), Failure> {
        let Self { runtime, handle, control, mut ended, mut servers, end_servers, mut signals, _socket } = self;
        let outcome = runtime.block_on(async {
            let watchdog = tokio::spawn(watchdog::run(control));
            let is_own_screen = beside.is_some();
            let told = tokio::select! {
                early = &mut ended => return Err(ended_by_itself(early)),
                name = signals.end(is_own_screen) => {
                    tracing::info!(signal = name, "stopping");
                    Ok(())
                }
                screen = serve(handle.clone(), beside) => screen,
            };
            watchdog::tell(&[NotifyState::Stopping, NotifyState::Status("finishing what is in flight")]);
            handle.stop();
            let stopped = tokio::select! {
                stopped = &mut ended => stopped.map_err(|_| Failure::failed(LOST_THREAD, ADVICE_RECOVERS))?,
                name = signals.end(true) => {
                    return Err(Failure::failed(format!("cut off by a second {name}"), ADVICE_RECOVERS));
                }
            };
            // Administrators can watch the end; then their sockets close.
            let _ = end_servers.send(true);
            while servers.join_next().await.is_some() {}
            watchdog.abort();
            told.and(stopped.map_err(|error| Failure::failed(error, "the log says more")))
        });
        // A blocking question of an administrator must not keep the process.
        runtime.shutdown_background();
        if outcome.is_ok() {
            tracing::info!("ended in good order");
        }
        outcome
    }

    fn open_sockets(&mut self, config: &Config) -> Result<(), Failure> {
        let listeners = self.runtime.block_on(listen::listeners(&config.api, &self._socket))?;
        let desk = Desk::new(self.control());
        for (listener, guard) in listeners {
            let mut end = self.end_servers.subscribe();
            let server = Server::new(listener, guard, desk.clone());
            let serving = server.run(async move {
                let _ = end.wait_for(|&end| end).await;
            });
            self.servers.spawn_on(serving, self.runtime.handle());
        }
        Ok(())
    }

    /// Ends the node that was started, before the failure is told.
    fn give_up(self, failure: Failure) -> Result<Self, Failure> {
        self.handle.stop();
        let _ = self.runtime.block_on(self.ended);
        Err(failure)
    }
}

/// Waits until the node is in service, says so, and goes on for ever or until what runs beside ends.
async fn serve(handle: NodeHandle, beside: Option<Beside>) -> Result<(), Failure> {
    loop {
        let asked = handle.clone();
        match tokio::task::spawn_blocking(move || asked.wait_until_running(START_LOOK)).await {
            Ok(Ok(())) => break,
            // A big pool after a power failure takes its time: systemd is asked for patience, and hosts wait, too.
            Ok(Err(QueryError::Silent { .. })) => {
                watchdog::tell(&[NotifyState::ExtendTimeoutUsec(START_PATIENCE_MICROS)])
            }
            // It is ending: whoever waits for that is told so.
            Ok(Err(_)) => std::future::pending().await,
            Err(error) => return Err(Failure::failed(format!("waiting for the node broke: {error}"), ADVICE_RECOVERS)),
        }
    }
    watchdog::tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
    tracing::info!("serving");
    match beside {
        // On a thread of its own: a screen that is stopped (Ctrl-S) must not keep signals from being heard.
        Some(beside) => match tokio::spawn(beside).await {
            Ok(outcome) => outcome,
            Err(error) => Err(Failure::failed(format!("the screen broke: {error}"), "report it; nothing is lost")),
        },
        None => std::future::pending().await,
    }
}

const LOST_THREAD: &str = "the node's thread is gone without a word";
const ADVICE_RECOVERS: &str = "nothing acknowledged is lost; the next start recovers";

fn start(config: &Config) -> Result<Node, Failure> {
    Node::start(config.settings.clone()).map_err(|error| {
        let what = format!("the node cannot start: {}", bind::chain(&error));
        Failure::failed(what, "nothing was changed on its pools; mend that and start it again")
    })
}

fn ended_by_itself(outcome: Result<Result<(), StopError>, oneshot::error::RecvError>) -> Failure {
    let why = match outcome {
        Ok(Ok(())) => "it ended by itself".into(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => LOST_THREAD.into(),
    };
    Failure::failed(format!("the node does not run any more: {why}"), ADVICE_RECOVERS)
}

/// Waiting blocks; a thread of its own does it.
fn wait_on_a_thread(node: Node) -> Result<oneshot::Receiver<Result<(), StopError>>, Failure> {
    let (tell, ended) = oneshot::channel();
    let waiting = thread::Builder::new().name("node-end".into()).spawn(move || {
        let _ = tell.send(node.wait());
    });
    waiting.map_err(|error| Failure::failed(format!("cannot start threads: {error}"), "check `ulimit -u`"))?;
    Ok(ended)
}
