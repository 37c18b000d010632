//! Runs an arbiter: `dyad arbiter`.

mod place;
mod seed;

pub use seed::{lost, read};

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dyad_cluster::{Key, Store};
use dyad_node::clock;
use dyad_store::arbiter::ServeConfig;
use dyad_store::{ArbiterServer, ConfigError, LocalStore, OpenError, Tls};
use dyad_units::{NodeId, StoreId};
use rustix::fs::Mode;
use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

use crate::args::{Arbiter, ArbiterCommand, ServeArbiter};
use crate::bind;
use crate::config::{LogConfig, LogFormat, read_text};
use crate::failure::Failure;
use crate::serve::{log, signals::Signals, watchdog};
use crate::table;

use place::Place;

/// How often the store is asked whether it can still be read. Also the longest before systemd, which is told each
/// time, hears of a hang; its bound in the unit is far longer.
const LOOK: Duration = Duration::from_secs(1);
/// Largest file with certificates or a key.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// Carries out the command.
pub fn run(args: &Arbiter, json: bool) -> Result<(), Failure> {
    // Whatever is made from here on is its owner's alone: records hold secrets.
    rustix::process::umask(Mode::from_raw_mode(0o077));
    match &args.command {
        None => serve(&args.serve, json),
        Some(ArbiterCommand::Seed { data, from, store }) => seed::seed(data, from, store.as_deref(), json),
        Some(ArbiterCommand::Export { from, to }) => seed::export(from, to),
    }
}

fn serve(args: &ServeArbiter, json: bool) -> Result<(), Failure> {
    log::to_stderr(&LogConfig { level: tracing::Level::INFO, format: LogFormat::Text });
    let config = ServeConfig { listen: args.listen.clone(), tls: tls(args)? };
    if args.leash {
        crate::serve::end_with_input()?;
    }
    let place = Place::take(&args.data)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start threads: {error}"), "check `ulimit -u`"))?;
    let mut signals = runtime.block_on(async { Signals::new() })?;
    let store = open(&place.store())?;
    let server = ArbiterServer::start(Arc::clone(&store), &config).map_err(|error| cannot_serve(&error))?;
    let addresses: Vec<_> = server.addresses().iter().map(ToString::to_string).collect();
    let identity = store.identity();
    table::print(&match json {
        true => format!("{}\n", serde_json::json!({ "store": identity.to_string(), "addresses": addresses })),
        false => format!("serving the config store {identity} at {}\n", addresses.join(", ")),
    });
    tracing::info!(store = %identity, addresses = addresses.join(", "), tls = config.tls.is_some(), "serving");
    watchdog::tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
    let outcome = runtime.block_on(async {
        tokio::select! {
            name = signals.end(false) => {
                tracing::info!(signal = name, "stopping");
                Ok(())
            }
            failure = look_after(&store) => Err(failure),
        }
    });
    watchdog::tell(&[NotifyState::Stopping]);
    // What is being stored is finished and answered, or its client does not know.
    drop(server);
    if outcome.is_ok() {
        tracing::info!("ended in good order");
    }
    outcome
}

fn open(path: &Path) -> Result<Arc<LocalStore>, Failure> {
    let opened = LocalStore::open(path, || StoreId::from_bytes(clock::random_id()));
    let advice = match &opened {
        Err(OpenError::Damaged { .. }) => {
            "move it away and make a new one from what the nodes know: `dyad arbiter seed`"
        }
        _ => "check the directory and its owner",
    };
    opened.map(Arc::new).map_err(|error| Failure::failed(bind::chain(&error), advice))
}

/// Asks the store, and tells systemd that it answered. Returns when it does not: nobody should ask it any more.
async fn look_after(store: &Arc<LocalStore>) -> Failure {
    let any = Key::Node(NodeId::from_bytes([0; 16]));
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let asked = Arc::clone(store);
        // Not on this thread: signals must be heard even if the disk hangs.
        match tokio::task::spawn_blocking(move || asked.get(any)).await {
            Ok(Ok(_)) => watchdog::tell(&[NotifyState::Watchdog]),
            Ok(Err(error)) => {
                let advice = "nothing that it answered is lost; it is checked when it is started again";
                return Failure::failed(bind::chain(&error), advice);
            }
            Err(error) => return Failure::failed(format!("reading the store broke: {error}"), "report it"),
        }
    }
}

fn tls(args: &ServeArbiter) -> Result<Option<Tls>, Failure> {
    let (Some(ca), Some(certificate), Some(key)) = (&args.ca, &args.certificate, &args.key) else { return Ok(None) };
    let read = |path: &Path, is_secret| {
        read_text(path, PEM_BYTES_MAX, is_secret).map(String::into_bytes).map_err(Failure::Usage)
    };
    Ok(Some(Tls { authority: read(ca, false)?, certificate: read(certificate, false)?, key: read(key, true)? }))
}

fn cannot_serve(error: &ConfigError) -> Failure {
    let advice = match error {
        ConfigError::Plain { .. } => "give it --ca, --certificate and --key, or let it listen on 127.0.0.1",
        ConfigError::Listen { .. } => "is another arbiter running? `ss -ltnp` shows who listens",
        ConfigError::Tls { .. } => "check the files of --ca, --certificate and --key",
        _ => "",
    };
    Failure::failed(bind::chain(error), advice)
}
