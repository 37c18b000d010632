//! Makes a cluster, and nodes of it: files, no running process.

mod files;
mod store;

use std::path::Path;

use dyad_cluster::Name;
use dyad_node::clock;
use dyad_node::join::{self, StoreWay, Token};
use dyad_store::Authority;
use dyad_units::NodeId;

use crate::args::{InitCluster, JoinNode, NewNode};
use crate::failure::Failure;
use crate::table;
use files::{Files, Kept};
pub use store::{accept, seed};

/// Name in the arbiter's certificate.
const ARBITER: &str = "arbiter";
/// File with the password of etcd's user.
const PASSWORD: &str = "etcd-password";
/// As the program has it without a configuration.
const PREFIX: &str = "iqn.2026-11.san.dyad";

fn failed(error: impl std::error::Error + 'static) -> Failure {
    Failure::failed(crate::bind::chain(&error), "")
}

/// Makes the authority and the first node.
pub fn init(args: &InitCluster) -> Result<(), Failure> {
    let name = name_of(&args.node)?;
    let mut files = Files::begin(&args.node.dir)?;
    let (authority, key) = Authority::create().map_err(failed)?;
    let node = authority.issue_node(name.as_str(), NodeId::from_bytes(clock::random_id())).map_err(failed)?;
    let authority_key = files.add("ca.key", &key, Kept::Secret);
    files.add("ca.pem", authority.certificate(), Kept::Open);
    files.add("node.pem", &node.certificate, Kept::Open);
    files.add("node.key", &node.key, Kept::Secret);
    let store = match args.arbiter {
        Some(address) => {
            let made = authority.issue(ARBITER, &[address.ip()]).map_err(failed)?;
            files.add("arbiter/ca.pem", authority.certificate(), Kept::Open);
            files.add("arbiter/arbiter.pem", &made.certificate, Kept::Open);
            files.add("arbiter/arbiter.key", &made.key, Kept::Secret);
            way("arbiter", vec![address.to_string()], Some(ARBITER.to_owned()))
        }
        None => {
            let is_encrypted = args.etcd.iter().any(|url| url.starts_with("https:"));
            StoreWay { is_encrypted, ..way("etcd", args.etcd.clone(), None) }
        }
    };
    let config = configuration(&args.node, &name, PREFIX, &store, Some(&authority_key), &files);
    files.add("dyad.toml", &config, Kept::Open);
    let written = files.write()?;
    table::print(&format!("{written}{}", after_init(args, &name)));
    Ok(())
}

fn way(kind: &str, addresses: Vec<String>, name: Option<String>) -> StoreWay {
    let (kind, is_encrypted) = (kind.to_owned(), true);
    StoreWay { kind, addresses, is_encrypted, authority: None, name, prefix: None, user: None, password: None }
}

fn after_init(args: &InitCluster, name: &Name) -> String {
    let dir = args.node.dir.display();
    let arbiter = args.arbiter.map(|address| {
        format!(
            "\nFirst the arbiter: copy {dir}/arbiter to /etc/dyad on its machine and start it there, so that it listens \
             on {address}:\n  dyad arbiter --listen {address} --ca /etc/dyad/ca.pem --certificate /etc/dyad/arbiter.pem --key \
             /etc/dyad/arbiter.key\nor with packaging/dyad-arbiter.service. Then remove {dir}/arbiter here.\n"
        )
    });
    let arbiter = arbiter.unwrap_or_default();
    format!(
        "{arbiter}\nThen this node, {name}:\n  dyad serve --config {dir}/dyad.toml      (or systemctl enable --now dyad)\n\
         \nKeep a copy of {dir}/ca.key elsewhere: without it no other node can join. Other machines join with what\n  \
         dyad node token\nprints here.\n"
    )
}

/// Makes this machine a node of the token's cluster.
pub fn join(args: &JoinNode) -> Result<(), Failure> {
    let token: Token = args.token.parse().map_err(|error| Failure::Usage(format!("{error}")))?;
    let name = name_of(&args.node)?;
    // Before the token is spent.
    let mut files = Files::begin(&args.node.dir)?;
    let admitted = join::join(&token, &name).map_err(failed)?;
    files.add("ca.pem", &admitted.authority, Kept::Open);
    files.add("node.pem", &admitted.certificate, Kept::Open);
    files.add("node.key", &admitted.key, Kept::Secret);
    if let Some(authority) = &admitted.store.authority {
        files.add("store-ca.pem", authority, Kept::Open);
    }
    if let Some(password) = &admitted.store.password {
        files.add(PASSWORD, &format!("{}\n", password.reveal()), Kept::Secret);
    }
    let config = configuration(&args.node, &name, &admitted.target_prefix, &admitted.store, None, &files);
    files.add("dyad.toml", &config, Kept::Open);
    let written = files.write()?;
    let dir = args.node.dir.display();
    table::print(&format!(
        "{written}\nThis machine is let in as node {name}. Start it:\n  dyad serve --config {dir}/dyad.toml      (or \
         systemctl enable --now dyad)\nthen `dyad node list` shows it on every node.\n"
    ));
    Ok(())
}

fn name_of(node: &NewNode) -> Result<Name, Failure> {
    if let Some(name) = &node.name {
        return Ok(name.clone());
    }
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let short = host.split('.').next().unwrap_or_default();
    short.parse().map_err(|_| Failure::Usage(format!("this machine's name `{host}` is no name of a node: give --name")))
}

/// The file, key by key; everything else keeps its default.
fn configuration(
    node: &NewNode,
    name: &Name,
    prefix: &str,
    store: &StoreWay,
    authority_key: Option<&Path>,
    files: &Files,
) -> String {
    let text = |value: &str| toml::Value::String(value.to_owned()).to_string();
    let texts = |values: &[String]| format!("[{}]", values.iter().map(|one| text(one)).collect::<Vec<_>>().join(", "));
    let file = |name: &str| text(&files.path(name).display().to_string());
    let mut out = String::from("# A node of a cluster. All keys: docs/configuration.md, `dyad config example`.\n");
    let mut line = |key: &str, value: String| out.push_str(&format!("{key} = {value}\n"));
    line("node_name", text(name.as_str()));
    line("site", text(node.site.as_str()));
    line("data_dir", text(&node.data_dir.display().to_string()));
    line("iscsi.target_prefix", text(prefix));
    line("peer.listen", text(&node.peer_listen.to_string()));
    if !node.peer_address.is_empty() {
        line("peer.addresses", texts(&node.peer_address));
    }
    line("peer.ca", file("ca.pem"));
    line("peer.certificate", file("node.pem"));
    line("peer.key", file("node.key"));
    if let Some(path) = authority_key {
        line("peer.ca_key", text(&path.display().to_string()));
    }
    line("store.kind", text(&store.kind));
    line("store.addresses", texts(&store.addresses));
    if store.is_encrypted {
        line("store.ca", file(if store.authority.is_some() { "store-ca.pem" } else { "ca.pem" }));
        line("store.certificate", file("node.pem"));
        line("store.key", file("node.key"));
    }
    for (key, value) in [("store.name", &store.name), ("store.prefix", &store.prefix), ("store.user", &store.user)] {
        if let Some(value) = value {
            line(key, text(value));
        }
    }
    if store.user.is_some() {
        line("store.password_file", file(PASSWORD));
    }
    out
}
