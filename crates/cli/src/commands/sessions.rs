//! Sessions and nodes.

use dyad_api::model::{DiskAccess, Node, NodeState, Session as Host};

use super::{Session, pairs_told};
use crate::args::SessionCommand;
use crate::client::escape;
use crate::failure::Failure;
use crate::table::{mean_micros, size, time};

pub fn run(at: &Session, command: SessionCommand) -> Result<(), Failure> {
    match command {
        SessionCommand::List => {
            let heads = [">ID", "NODE", "VOLUME", "HOST", "SINCE", ">READ", ">WRITTEN", "INITIATOR"];
            at.list("/v1/sessions", heads, |host: &Host| {
                let did = &host.activity;
                let (read, written) = (size(did.read_bytes), size(did.written_bytes));
                let since = time(host.age_seconds);
                let initiator = host.initiator.clone();
                [
                    host.id.to_string(),
                    host.node.clone(),
                    volume(host),
                    host.host.clone(),
                    since,
                    read,
                    written,
                    initiator,
                ]
            })
        }
        SessionCommand::Show { session } => at.show(&path(&session), host_told),
        SessionCommand::Delete(args) => {
            at.client.delete(&path(&args.session))?;
            at.done(&format!("session {} is closed", args.session));
            Ok(())
        }
    }
}

fn path(session: &str) -> String {
    format!("/v1/sessions/{}", escape(session))
}

fn volume(host: &Host) -> String {
    host.volume.clone().unwrap_or_else(|| "(discovery)".into())
}

fn host_told(host: &Host) -> String {
    let did = &host.activity;
    pairs_told(&[
        ("id", host.id.to_string()),
        ("node", host.node.clone()),
        ("volume", volume(host)),
        ("target", host.target.clone().unwrap_or_default()),
        ("initiator", host.initiator.clone()),
        ("host", host.host.clone()),
        ("portal", host.portal.clone()),
        ("since", time(host.age_seconds)),
        ("in flight", host.in_flight.to_string()),
        ("reads", format!("{}, {}, mean {}", did.reads, size(did.read_bytes), mean_micros(did.read_micros, did.reads))),
        (
            "writes",
            format!("{}, {}, mean {}", did.writes, size(did.written_bytes), mean_micros(did.write_micros, did.writes)),
        ),
        ("errors", did.errors.to_string()),
    ])
}

pub fn list_nodes(at: &Session) -> Result<(), Failure> {
    at.list("/v1/nodes", ["NAME", "SITE", "STATE", "SINCE", "VERSION", "PORTALS"], |node: &Node| {
        let (since, portals) = (time(node.uptime_seconds), node.portals.join(", "));
        let (name, site, version) = (node.name.clone(), node.site.clone(), node.version.clone());
        [name, site, state_told(node), since, version, portals]
    })
}

fn state(state: NodeState) -> &'static str {
    match state {
        NodeState::Starting => "starting",
        NodeState::Serving => "serving",
        NodeState::Stopping => "stopping",
        NodeState::Connected => "connected",
        NodeState::Unreachable => "UNREACHABLE",
    }
}

fn state_told(node: &Node) -> String {
    let draining = if node.draining { ", draining" } else { "" };
    let trouble = if node.trouble.is_empty() { String::new() } else { format!(": {}", node.trouble) };
    format!("{}{draining}{trouble}", state(node.state))
}

/// What protects the connections to other nodes.
fn encryption(node: &Node) -> &'static str {
    match node.peer_encryption {
        Some(true) => "encrypted (TLS 1.3)",
        Some(false) => "NOT ENCRYPTED",
        None => "none, it is alone",
    }
}

pub fn node_told(node: &Node) -> String {
    let disks = match node.disk_access {
        DiskAccess::IoUring => "io_uring".into(),
        DiskAccess::Threads if node.disk_access_reason.is_empty() => "threads".into(),
        DiskAccess::Threads => format!("threads: {}", node.disk_access_reason),
    };
    let (refused, half_open) = (node.refused_connections, node.half_open);
    pairs_told(&[
        ("name", node.name.clone()),
        ("id", node.id.to_string()),
        ("site", node.site.clone()),
        ("state", format!("{} for {}", state_told(node), time(node.uptime_seconds))),
        ("version", node.version.clone()),
        ("starts", node.start_counter.to_string()),
        ("portals", node.portals.join(", ")),
        ("other nodes", encryption(node).into()),
        ("data directory", node.data_dir.clone()),
        ("disks by", disks),
        ("connections", format!("{}, {half_open} not logged in, {refused} refused", node.connections)),
        ("buffers", format!("{} of {}", size(node.buffer_bytes), size(node.buffer_bytes_max))),
        ("faults", node.faults.to_string()),
    ])
}
