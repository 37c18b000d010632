//! `dyad quickstart`: nodes to try, with everything in one directory and nothing to set up.

mod pair;
mod place;
mod port;
mod process;
mod records;
mod screen;
mod setup;

use std::net::SocketAddr;
use std::sync::Arc;

use dyad_api::Control;
use dyad_units::Bytes;

use crate::args;
use crate::config::Config;
use crate::failure::Failure;
use crate::serve::life::Life;
use crate::serve::log;
use crate::table;

use place::Place;
use port::Port;

/// Runs two nodes to try, or one, until told to stop.
pub fn run(args: &args::Quickstart) -> Result<(), Failure> {
    setup::check_size(args.size)?;
    let place = Place::open(&args.dir)?;
    if place.is_new() {
        setup::check_space(&place, args.size, usize::from(args.nodes).max(2))?;
    }
    // A directory goes on as what it was begun.
    let is_single = place.store().exists() || (args.single || args.nodes == 1) && !place.has_arbiter();
    let ended = if is_single { run_single(args, place) } else { pair::run(args, &place) };
    if ended.is_ok() {
        let again = if args.dir.as_os_str() == "dyad-data" {
            "dyad quickstart".into()
        } else {
            format!("dyad quickstart --dir {}", args.dir.display())
        };
        table::print(&format!("\nEverything is on disk; `{again}` goes on from here.\n"));
    }
    ended
}

fn run_single(args: &args::Quickstart, place: Place) -> Result<(), Failure> {
    let port = Port::find(args.port)?;
    port.say_if_not(args.port);
    let config = config(args, &place, port.address());
    log::to_file(&config.log, &place.log())?;
    let life = Life::begin(&config)?;
    let node = life.control();
    life.run(Some(Box::pin(screen(node, place, args.size, port.address()))))
}

/// Completes the set-up, says how to use it, then shows what happens.
async fn screen(node: Arc<dyn Control>, place: Place, size: Bytes, portal: SocketAddr) -> Result<(), Failure> {
    let asked = Arc::clone(&node);
    let set_up = tokio::task::spawn_blocking(move || {
        setup::complete(asked.as_ref(), &place, size)?;
        screen::welcome(asked.as_ref(), &place, portal)
    });
    let welcome = set_up.await.map_err(|error| Failure::failed(format!("the set-up broke: {error}"), "report it"))?;
    table::print(&welcome?);
    screen::live(node).await
}

fn config(args: &args::Quickstart, place: &Place, portal: SocketAddr) -> Config {
    let mut config = Config::default();
    config.settings.node_name = "quickstart".into();
    config.settings.data_dir = place.store();
    config.settings.shm_dir.clone_from(&args.shm_dir);
    config.settings.iscsi.portals = vec![portal];
    // Modest: it runs beside other work on somebody's desk.
    config.settings.buffers = Bytes::mib(128);
    config.api.socket = place.socket();
    config.api.socket_mode = 0o600;
    config
}
