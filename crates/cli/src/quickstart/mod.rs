//! `dyad quickstart`: a node to try, with everything in one directory and nothing to set up.

mod place;
mod screen;
mod setup;

use std::net::SocketAddr;

use dyad_units::Bytes;

use crate::args;
use crate::config::Config;
use crate::failure::Failure;
use crate::serve::life::Life;
use crate::serve::log;
use crate::table;

use place::Place;

/// Runs a node to try until it is told to stop.
pub fn run(args: &args::Quickstart) -> Result<(), Failure> {
    let place = Place::open(&args.dir)?;
    let port = place::free_port(args.port)?;
    if port != args.port {
        table::print(&format!("Port {} is taken by another program, so this node listens on {port}.\n", args.port));
    }
    if place.is_new() {
        setup::check_space(&place, args.size)?;
    }
    let config = config(&place, port);
    log::to_file(&config.log, &place.log())?;
    let life = Life::begin(&config)?;
    let control = life.control();
    if let Err(failure) = setup::complete(control.as_ref(), &place, args.size) {
        // The node ends in good order before the failure is told.
        let screen: crate::serve::life::Beside = Box::pin(std::future::ready(Err(failure)));
        return life.run(Some(screen));
    }
    let portal = SocketAddr::from(([127, 0, 0, 1], port));
    table::print(&screen::welcome(control.as_ref(), &place, portal)?);
    let ended = life.run(Some(Box::pin(screen::live(control))));
    if ended.is_ok() {
        let again = if args.dir.as_os_str() == "dyad-data" {
            "dyad quickstart".into()
        } else {
            format!("dyad quickstart --dir {}", place.shown())
        };
        table::print(&format!("\nEverything is on disk; `{again}` goes on from here.\n"));
    }
    ended
}

fn config(place: &Place, port: u16) -> Config {
    let mut config = Config::default();
    config.settings.node_name = "quickstart".into();
    config.settings.data_dir = place.store();
    config.settings.iscsi.portals = vec![SocketAddr::from(([127, 0, 0, 1], port))];
    // Modest: it runs beside other work on somebody's desk.
    config.settings.buffers = Bytes::mib(128);
    config.api.socket = place.socket();
    config.api.socket_mode = 0o600;
    config
}
